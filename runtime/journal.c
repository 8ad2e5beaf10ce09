/* journal.c - what an engine tells its trace: requests come and go, steps run on lanes, and kernels in steps. */
#include "engine.h"
#include "marks.h"
#include "os.h"
#include "probe.h"
#include "trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { REQUESTS = 1, LANE = 2 };    /* tracks; a lane's is LANE + its phase, that of one lane LANE */

static uint32_t track_of(const eyrie_engine *e, const ey_lane *l) { return e->apart ? LANE + l->phase : LANE; }

eyrie_status ey_journal_open(eyrie_engine *e, const char *path, eyrie_error *err)
{
    eyrie_device *decode = ey_model_device(e->model), *prefill = ey_model_device(e->lanes[EY_PREFILL].model);
    eyrie_status st;

    EY_TRY(ey_trace_open(&e->trace, path, decode->name, &decode->log, err));
    EY_TRY(ey_marks_open(decode, ey_probe_event_times(decode), err));
    if (prefill != decode) EY_TRY(ey_marks_open(prefill, ey_probe_event_times(prefill), err));
    ey_trace_track(e->trace, REQUESTS, "requests");
    ey_trace_track(e->trace, LANE + EY_PREFILL, e->apart ? "prefill" : "steps");
    if (e->apart) ey_trace_track(e->trace, LANE + EY_DECODE, "decode");
done:
    return st;
}

void ey_journal_close(eyrie_engine *e)
{
    if (!e->trace) return;
    for (uint32_t i = 0; i < EY_PHASES; i++)
        if (e->lanes[i].model) ey_marks_close(ey_model_device(e->lanes[i].model));
    ey_trace_close(e->trace);
    e->trace = NULL;
}

void ey_journal_begin(const eyrie_seq *s)
{
    char args[120];

    if (!s->engine->trace) return;
    snprintf(args, sizeof args, "\"request\":%" PRIu64 ",\"unread\":%zu,\"priority\":%" PRId32, s->number, s->n_tokens - s->next,
             s->request.priority);
    ey_trace_begin(s->engine->trace, s->number, REQUESTS, s->since, args);
}

void ey_journal_end(const eyrie_seq *s, eyrie_end how)
{
    static const char *const ends[] = {
        [EYRIE_END_LENGTH] = "length", [EYRIE_END_EOS] = "end of text", [EYRIE_END_CONTEXT] = "context",
        [EYRIE_END_FAILED] = "failed", [EYRIE_END_STOP] = "stop text", [EYRIE_END_CANCELLED] = "cancelled",
    };
    char args[120];

    if (!s->engine->trace) return;
    snprintf(args, sizeof args, "\"request\":%" PRIu64 ",\"generated\":%" PRIu64 ",\"end\":\"%s\"", s->number, s->generated,
             ends[how]);
    ey_trace_end(s->engine->trace, s->number, REQUESTS, ey_seconds(), args);
}

void ey_journal_move(const eyrie_seq *s, ey_phase to, double start)
{
    char args[120];

    if (!s->engine->trace) return;
    snprintf(args, sizeof args, "\"request\":%" PRIu64 ",\"to\":\"%s\",\"position\":%" PRIu64, s->number,
             to == EY_PREFILL ? "prefill" : "decode", s->position);
    ey_trace_slice(s->engine->trace, REQUESTS, "hand-over", start, ey_seconds() - start, args);
}

/* Kernels of a part of a step: when they ran. */
typedef struct kernels {
    ey_trace *trace;
    uint32_t  track;
    double    start, end;       /* of the part: they lie inside */
} kernels;

static void tell_kernel(void *user, const ey_mark *mark)
{
    kernels *k = user;
    double start = fmin(fmax(mark->start, k->start), k->end);       /* clocks agree to some microseconds */
    double end = fmin(fmax(mark->end, start), k->end);

    ey_trace_slice(k->trace, k->track, mark->label, start, end - start, NULL);
}

/* That a step has ended is known late of a lane that nobody waits for: its kernels know better. Requests take part in steps of
 * prefill, each of which is told; of decode steps there would be too many. */
void ey_journal_part(eyrie_engine *e, const ey_lane *l)
{
    const char *name = l->phase == EY_PREFILL ? "prefill" : "decode";
    kernels k = { e->trace, track_of(e, l), l->start, l->end };
    eyrie_device *dev = ey_model_device(l->model);
    uint64_t tokens = 0;
    char args[240];

    if (!e->trace) return;
    if (e->apart && l->phase == EY_PREFILL) k.end = fmax(k.start, fmin(k.end, ey_marks_last(dev, k.end)));
    for (uint32_t i = 0; i < l->n; i++) tokens += l->rows[i].n;
    snprintf(args, sizeof args, "\"rows\":%" PRIu32 ",\"tokens\":%" PRIu64 ",\"first layer\":%" PRIu32 ",\"layers\":%" PRIu32
             ",\"head\":%s,\"predicted us\":%" PRId64 ",\"real us\":%" PRId64, l->n, tokens, l->from,
             (uint32_t)ey_min(l->done, l->layers) - l->from, ey_lane_is_last(l) ? "true" : "false", (int64_t)(1e6 * l->part_predicted),
             (int64_t)(1e6 * (k.end - k.start)));
    ey_trace_slice(e->trace, k.track, name, k.start, k.end - k.start, args);
    for (uint32_t i = 0; i < l->n && l->phase == EY_PREFILL; i++)
        if (l->seats[i].seq) ey_trace_step(e->trace, l->seats[i].seq->number, k.track, k.start + (k.end - k.start) / 2);
    ey_marks_take(dev, tell_kernel, &k);
}
