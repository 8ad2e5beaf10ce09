/* engine.c - engines: asks the policy what the next step is, runs it, and hands out what came of it. */
#include "engine.h"
#include "learnt.h"
#include "os.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------------- opening */

/* Sequences move from one model to the other and go on bit for bit: both have to be the same in all that decides bits, and a
 * slot has the same number in both. */
static eyrie_status check_pair(const eyrie_model *decode, const eyrie_model *prefill, eyrie_error *err)
{
    ey_model_limits d = ey_model_get_limits(decode), p = ey_model_get_limits(prefill);
    ey_traits there, here;

    if (decode == prefill)
        return ey_fail(err, EYRIE_EINVAL, "the model that reads prompts is the one that decodes; open it a second time");
    ey_model_traits(decode, &there);
    ey_model_traits(prefill, &here);
    for (uint32_t i = 0; i < there.n && i < here.n; i++)
        if (strcmp(there.list[i].value, here.list[i].value))
            return ey_fail(err, EYRIE_EINVAL, "the model that reads prompts has other %s than the one that decodes: %s, not %s; "
                           "open both from the same files with the same options", there.list[i].name, here.list[i].value,
                           there.list[i].value);
    if (d.context != p.context)
        return ey_fail(err, EYRIE_EINVAL, "the model that reads prompts has a context of %" PRIu64 ", the one that decodes of %"
                       PRIu64 "; open both with the same", p.context, d.context);
    if (p.slots < d.slots)
        return ey_fail(err, EYRIE_EINVAL, "the model that reads prompts has %" PRIu32 " slots, the one that decodes %" PRIu32
                       "; it needs as many", p.slots, d.slots);
    return EYRIE_OK;
}

static eyrie_status open_lanes(eyrie_engine *e, eyrie_model *prefill, eyrie_error *err)
{
    uint32_t rows = (uint32_t)ey_max(e->limits.prefill_rows, e->limits.decode_rows);
    eyrie_status st;

    EY_TRY(ey_lane_init(&e->lanes[EY_PREFILL], prefill, EY_PREFILL, e->limits.prefill_rows, err));
    EY_TRY(ey_lane_init(&e->lanes[EY_DECODE], e->model, EY_DECODE, e->limits.decode_rows, err));
    e->slot_taken = ey_calloc(e->limits.slots, sizeof *e->slot_taken);
    e->picks = ey_calloc(rows, sizeof *e->picks);
    e->targets = ey_calloc(e->limits.chunk, sizeof *e->targets);
    e->logits = ey_calloc(e->limits.vocab, sizeof *e->logits);
    if (!e->slot_taken || !e->picks || !e->targets || !e->logits)
        st = ey_fail(err, EYRIE_ENOMEM, "engine for %" PRIu32 " slots", e->limits.slots);
done:
    return st;
}

static bool take_models(eyrie_model *decode, eyrie_model *prefill)
{
    if (!ey_model_take(decode)) return false;
    if (prefill == decode || ey_model_take(prefill)) return true;
    ey_model_give(decode);
    return false;
}

eyrie_status eyrie_engine_open(eyrie_engine **out, eyrie_model *model, const eyrie_engine_opts *opts, eyrie_error *err)
{
    eyrie_engine_opts o = { 0 };
    const ey_policy *policy;
    eyrie_model *prefill;
    eyrie_engine *e;
    eyrie_status st;

    *out = NULL;
    if (opts) memcpy(&o, opts, ey_min(opts->struct_size, sizeof o));
    prefill = o.prefill ? o.prefill : model;
    if ((st = ey_policy_named(&policy, o.policy, err)) != EYRIE_OK) return st;
    if (!(o.token_interval >= 0 && isfinite(o.token_interval)))
        return ey_fail(err, EYRIE_EINVAL, "token_interval %g; it must be a number of seconds, 0 for the default",
                       o.token_interval);
    if (o.prefill && (st = check_pair(model, prefill, err)) != EYRIE_OK) return st;
    if (!take_models(model, prefill)) return ey_fail(err, EYRIE_EBUSY, "the model has an engine already; close it first");
    if (!(e = ey_calloc(1, sizeof *e))) {
        ey_model_give(model);
        ey_model_give(prefill);
        return ey_fail(err, EYRIE_ENOMEM, "engine handle");
    }
    e->model = model;
    e->apart = prefill != model;
    e->policy = policy;
    e->interval = o.token_interval;
    e->limits = ey_model_get_limits(model);
    if (e->apart) {
        ey_model_limits p = ey_model_get_limits(prefill);
        e->limits.chunk = p.chunk;
        e->limits.prefill_rows = p.prefill_rows;
        e->limits.logits = p.logits;
    }
    EY_TRY(open_lanes(e, prefill, err));
    if (!(e->costs = ey_learnt_open(prefill, model))) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "costs of steps"));
    EY_TRY(ey_reuse_open(e, &o, err));
    if (o.trace) EY_TRY(ey_journal_open(e, o.trace, err));
    *out = e;
    e = NULL;
done:
    (void)eyrie_engine_close(e);
    return st;
}

eyrie_status eyrie_engine_close(eyrie_engine *e)
{
    if (!e) return EYRIE_OK;
    if (e->n_seqs) return EYRIE_EBUSY;
    if (e->stats.prefill_steps + e->stats.decode_steps > 0) ey_learnt_keep(e->costs, e->lanes[EY_PREFILL].model, e->model);
    for (uint32_t i = 0; i < EY_PHASES; i++)
        if (e->lanes[i].in_flight) (void)ey_model_wait(e->lanes[i].model, NULL);   /* nobody is left to be told */
    ey_shelf_close(e->shelf);
    ey_journal_close(e);
    for (uint32_t i = 0; i < EY_PHASES; i++) {
        ey_lane *l = &e->lanes[i];
        if (l->model) ey_model_give(l->model);
        ey_lane_free(l);
    }
    ey_model_give(e->model);
    ey_free(e->costs);
    ey_free(e->seqs);
    ey_free(e->slot_taken);
    ey_free(e->views);
    ey_free(e->view_seq);
    ey_free(e->picks);
    ey_free(e->targets);
    ey_free(e->logits);
    ey_free(e->all);
    ey_free(e);
    return EYRIE_OK;
}

eyrie_status eyrie_engine_get_stats(const eyrie_engine *e, eyrie_stats *stats, eyrie_error *err)
{
    size_t size = stats->struct_size;
    eyrie_stats now = e->stats;

    (void)err;
    ey_reuse_count(e, &now);
    memcpy(stats, &now, ey_min(size, sizeof *stats));
    stats->struct_size = size;
    return EYRIE_OK;
}

/* ------------------------------------------------------------------------------------------------ what there is to do */

/* Its next token follows from logits that were kept. */
static bool starts_kept(const eyrie_seq *s) { return s->ending && s->next == s->n_tokens; }

/* The sequences with work, as the policy sees them. */
static eyrie_status look(eyrie_engine *e, ey_sched_view *view, eyrie_error *err)
{
    const ey_lane *prefill = &e->lanes[EY_PREFILL];
    double now = ey_seconds();
    uint32_t n = 0, free_slots = ey_free_slots(e);

    if (!ey_grow(&e->views, &e->views_capacity, e->n_seqs + 1, sizeof *e->views)
        || !ey_grow(&e->view_seq, &e->view_seq_capacity, e->n_seqs + 1, sizeof *e->view_seq))
        return ey_fail(err, EYRIE_ENOMEM, "%zu sequences", e->n_seqs);
    for (size_t i = 0; i < e->n_seqs; i++) {
        eyrie_seq *s = e->seqs[i];
        if (s->state != EY_SEQ_RUNNING || starts_kept(s) || (free_slots > 0 && ey_reuse_waits(s))) continue;
        e->view_seq[n] = (uint32_t)i;
        e->views[n++] = (ey_sched_seq){
            .position = s->position, .unread = s->n_tokens - s->next, .has_slot = s->slot != EY_NO_SLOT,
            .under_way = s->under_way, .alone = (s->request.flags & EYRIE_SCORE) != 0,
            .most = s->request.flags & EYRIE_LOGITS ? e->limits.logits : ey_reuse_most(s), .priority = s->request.priority,
            .waited = now - s->since };
    }
    *view = (ey_sched_view){
        .seqs = e->views, .n = n, .costs = e->costs, .interval = e->interval,
        .limits = { .chunk = e->limits.chunk, .prefill_rows = e->limits.prefill_rows, .decode_rows = e->limits.decode_rows,
                    .free_slots = free_slots, .layers = prefill->layers },
        .part = { .under_way = prefill->under_way, .done = prefill->done,
                  .left = ey_lane_left(prefill, e->costs, prefill->done), .head = ey_lane_left(prefill, e->costs, prefill->layers) },
        .decoded = e->decoded };
    if (e->interval <= 0) view->interval = ey_sched_default_interval(view);
    return EYRIE_OK;
}

/* Row for one pick. targets: where a scored prompt's next tokens go; it has the step to itself. */
static ey_row row_of(eyrie_seq *s, ey_phase phase, uint32_t n, int32_t *targets)
{
    ey_row row = { .slot = s->slot, .n = n, .position = s->position };

    if (phase == EY_DECODE) {
        row.tokens = &s->last;
        row.want = EY_WANT_LAST;
        return row;
    }
    row.tokens = s->tokens + s->next;
    if (s->request.flags & EYRIE_SCORE) {
        for (uint32_t t = 0; t < n; t++) targets[t] = s->next + t + 1 < s->n_tokens ? s->tokens[s->next + t + 1] : -1;
        row.targets = targets;
        row.want = EY_WANT_ALL;
    } else if (s->next + n == s->n_tokens && (s->request.max_tokens > 0 || (s->request.flags & EYRIE_KEEP_LOGITS))) {
        row.want = EY_WANT_LAST;
    }
    return row;
}

/* ----------------------------------------------------------------------------------------------------------- a step */

/* What went wrong first in a call. */
typedef struct failure {
    eyrie_status status;
    eyrie_error *err;           /* the caller's, or NULL */
} failure;

static void note_failure(failure *f, const eyrie_error *error)
{
    if (f->status != EYRIE_OK) return;
    f->status = error->status;
    if (f->err) *f->err = *error;
}

/* Whoever sits there gets up; the slot of one who was closed is free again. */
static eyrie_seq *empty_seat(eyrie_engine *e, const ey_seat *seat)
{
    if (seat->seq) seat->seq->under_way = false;
    else e->slot_taken[seat->slot] = false;
    return seat->seq;
}

/* Ends the requests of all that take part, and the step. Their slots are free then, and its batch makes room for another: what is
 * under way has to end before. */
static void fail_step(eyrie_engine *e, ey_lane *l, const eyrie_error *error, failure *f)
{
    (void)ey_model_wait(l->model, NULL);
    l->under_way = l->in_flight = false;
    note_failure(f, error);
    for (uint32_t i = 0; i < l->n; i++) {
        eyrie_seq *s = empty_seat(e, &l->seats[i]);
        if (s) ey_finish(s, EYRIE_END_FAILED, error);
    }
}

static void digest_step(eyrie_engine *e, ey_lane *l, const ey_result *results, failure *f)
{
    uint32_t result = 0;
    eyrie_error local;

    l->under_way = false;
    for (uint32_t i = 0; i < l->n; i++) {
        const ey_row *row = &l->rows[i];
        eyrie_seq *s = empty_seat(e, &l->seats[i]);
        uint32_t wanted = l->loads[i].wanted, first = result;

        result += wanted;
        if (!s || ey_digest(s, row, l->phase, results, first, wanted, &local) == EYRIE_OK) continue;
        ey_finish(s, EYRIE_END_FAILED, &local);
        note_failure(f, &local);
    }
}

/* Says once, when the costs are known from real steps, that the bound cannot be kept where both phases take turns. */
static void check_interval(eyrie_engine *e)
{
    enum { KNOWN = 8 };         /* decode steps */
    ey_sched_limits limits = { .chunk = e->limits.chunk, .prefill_rows = e->limits.prefill_rows,
                               .layers = e->lanes[EY_PREFILL].layers, .decode_rows = e->limits.decode_rows };
    bool known = e->stats.decode_steps >= KNOWN && e->stats.prefill_steps > 0;
    double least;

    if (!known || e->interval_checked || e->apart || e->interval == 0) return;
    e->interval_checked = true;
    least = ey_sched_least_interval(&limits, e->costs);
    if (least > e->interval)
        ey_note(&ey_model_device(e->model)->log, "%.3g ms between tokens cannot be kept while prompts are read: a decode step of %"
                PRIu32 " sequences and the smallest part of a prompt take %.3g ms", 1e3 * e->interval, e->limits.decode_rows,
                1e3 * least);
}

static void count_step(eyrie_engine *e, const ey_lane *l)
{
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < l->n; i++) tokens += l->rows[i].n;
    if (l->phase == EY_PREFILL) {
        e->stats.prefill_seconds += l->seconds;
        e->stats.prefill_predicted += l->predicted;
        e->stats.prefill_tokens += tokens;
        e->stats.prefill_steps++;
    } else {
        e->stats.decode_seconds += l->seconds;
        e->stats.decode_predicted += l->predicted;
        e->stats.decode_tokens += tokens;
        e->stats.decode_steps++;
    }
    ey_cost_learn(e->costs, l->phase, l->loads, l->n, l->seconds);
}

/* Waits for what is in flight. */
static void end_part(eyrie_engine *e, ey_lane *l, failure *f)
{
    const ey_result *results = NULL;
    bool last = ey_lane_is_last(l);
    eyrie_error local;

    if (ey_lane_wait(l, &results, &local) != EYRIE_OK) {
        fail_step(e, l, &local, f);
        return;
    }
    ey_journal_part(e, l);
    if (!last) return;
    count_step(e, l);
    digest_step(e, l, results, f);
    check_interval(e);
}

/* Seats the sequences that the policy has picked, with slots, and states where they are computed; not those of which the prefix
 * cache has all that they would read, or will have when others in the step have read it. A state that cannot be brought there
 * fails its sequence alone, and its event may change the list of sequences. */
static uint32_t seat(eyrie_engine *e, ey_lane *l, uint32_t n, failure *f)
{
    eyrie_error local;
    uint32_t seated = 0;

    for (uint32_t i = 0; i < n; i++) l->seats[i].seq = e->seqs[e->view_seq[e->picks[i].seq]];
    for (uint32_t i = 0; i < n; i++) {
        eyrie_seq *s = l->seats[i].seq;
        if (ey_reuse_waits(s)) continue;
        if (s->slot == EY_NO_SLOT) s->slot = ey_take_slot(e);
        if (ey_seq_bring(s, l->phase, &local) != EYRIE_OK || ey_reuse_begin(s, &local) != EYRIE_OK) {
            ey_finish(s, EYRIE_END_FAILED, &local);
            note_failure(f, &local);
            continue;
        }
        if (l->phase == EY_PREFILL && s->next == s->n_tokens) {
            if (s->request.max_tokens == 0) ey_finish(s, EYRIE_END_LENGTH, NULL);
            continue;
        }
        e->picks[seated].n = e->picks[i].n;
        l->seats[seated++] = (ey_seat){ .seq = s, .slot = s->slot };
        s->under_way = l->phase == EY_PREFILL;
    }
    for (size_t i = 0; i < e->n_seqs && l->phase == EY_PREFILL; i++) (void)ey_reuse_waits(e->seqs[i]);
    for (uint32_t i = 0; i < seated; i++) {
        eyrie_seq *s = l->seats[i].seq;
        uint32_t tokens = l->phase == EY_PREFILL ? ey_reuse_part(s, e->picks[i].n) : 1;
        l->rows[i] = row_of(s, l->phase, tokens, e->targets);
    }
    return seated;
}

/* Starts what the policy wants of the phases that can run. *started: the lane it is on, NULL: there is nothing to do. */
static eyrie_status start(eyrie_engine *e, bool prefill, bool decode, ey_lane **started, failure *f, eyrie_error *err)
{
    ey_sched_view view;
    ey_sched_step step;
    eyrie_error local;
    eyrie_status st;

    *started = NULL;
    if ((st = look(e, &view, err)) != EYRIE_OK) return st;
    if (view.n == 0) return EYRIE_OK;
    view.can[EY_PREFILL] = prefill;
    view.can[EY_DECODE] = decode;
    step = e->policy->next(&view, e->picks);

    ey_lane *l = &e->lanes[step.phase];
    if (step.n == 0 && !(step.phase == EY_PREFILL && l->under_way && prefill)) return EYRIE_OK;
    *started = l;
    e->decoded = l->phase == EY_DECODE;
    if (step.n > 0) {
        if ((step.n = seat(e, l, step.n, f)) == 0) return EYRIE_OK;
        st = ey_lane_begin(l, step.n, e->costs, &local);
    }
    if (st == EYRIE_OK) st = ey_lane_enqueue(l, step.phase == EY_DECODE ? UINT32_MAX : step.to, e->costs, &local);
    if (st != EYRIE_OK) fail_step(e, l, &local, f);
    return EYRIE_OK;
}

/* What the call that has begun then took beside the parts that it waited for: deciding, sampling, text. Where both phases had one
 * in turn, each has a half of that; with two lanes who decodes is waited for. */
static void learn_host(eyrie_engine *e, double begun)
{
    double host = ey_seconds() - begun;
    bool ended[EY_PHASES];

    for (uint32_t i = 0; i < EY_PHASES; i++) ended[i] = e->lanes[i].end > begun;
    if (e->apart && ended[EY_DECODE]) ended[EY_PREFILL] = false;
    for (uint32_t i = 0; i < EY_PHASES; i++)
        if (ended[i]) host -= e->lanes[i].end - fmax(e->lanes[i].start, begun);
    if (ended[EY_PREFILL] && ended[EY_DECODE]) host /= 2;
    for (uint32_t i = 0; i < EY_PHASES; i++) {
        const ey_lane *l = &e->lanes[i];
        if (ended[i]) ey_cost_learn_host(e->costs, l->phase, l->loads, l->n, host);
    }
}

/* Sequences that go on from logits that were kept need no step for their first token. */
static bool generate_kept(eyrie_engine *e, failure *f)
{
    bool any = false;
    eyrie_error local;

    for (size_t i = 0; i < e->n_seqs; i++) {
        eyrie_seq *s = e->seqs[i];
        if (s->state != EY_SEQ_RUNNING || !starts_kept(s)) continue;
        any = true;
        if (ey_generate_kept(s, &local) == EYRIE_OK) continue;
        ey_finish(s, EYRIE_END_FAILED, &local);
        note_failure(f, &local);
    }
    return any;
}

/* One lane: a step, or a part of one, from beginning to end. After a part that is not the last there is only a decode step to come,
 * which is enqueued at once: the device goes on without waiting for us. */
static eyrie_status take_turns(eyrie_engine *e, bool *started, failure *f, eyrie_error *err)
{
    ey_lane *l, *decode = NULL;
    eyrie_status st = start(e, true, true, &l, f, err);

    *started = l != NULL;
    if (st != EYRIE_OK || !l || !l->in_flight) return st;
    if (l->phase == EY_PREFILL && !ey_lane_is_last(l) && !e->trace) {       /* a trace tells of one at a time */
        (void)ey_lane_ready(l);                                             /* which marks its end */
        st = start(e, false, true, &decode, f, err);
    }
    end_part(e, l, f);
    if (!decode || !decode->in_flight) return st;
    decode->start = fmax(decode->start, l->end);
    end_part(e, decode, f);
    return st;
}

/* Two lanes: both are kept busy. Who decodes is waited for, since that is short; the other, unless it is ready, only where
 * nobody decodes. */
static eyrie_status run_both(eyrie_engine *e, bool *started, failure *f, eyrie_error *err)
{
    ey_lane *prefill = &e->lanes[EY_PREFILL], *decode = &e->lanes[EY_DECODE], *l = NULL;
    eyrie_status st;

    *started = prefill->in_flight;
    if (prefill->in_flight && ey_lane_ready(prefill)) end_part(e, prefill, f);
    if ((st = start(e, false, true, &l, f, err)) != EYRIE_OK) return st;
    *started |= l != NULL;
    if (!prefill->in_flight) {
        st = start(e, true, false, &l, f, err);
        *started |= l != NULL;
        if (prefill->in_flight) (void)ey_lane_ready(prefill);       /* which makes the device begin */
    }
    if (decode->in_flight) end_part(e, decode, f);
    else if (prefill->in_flight) end_part(e, prefill, f);
    return st;
}

/* Requests that were cancelled from events or in a step that has ended end now, and those that their END events cancel. */
static void end_cancelled(eyrie_engine *e)
{
    for (size_t i = 0; i < e->n_seqs; i++) {
        eyrie_seq *s = e->seqs[i];
        if (!s->cancelled || s->under_way) continue;
        s->cancelled = false;
        if (s->state == EY_SEQ_RUNNING) ey_finish(s, EYRIE_END_CANCELLED, NULL);
        i = (size_t)-1;                     /* the event may have changed the list */
    }
}

static uint32_t running(const eyrie_engine *e)
{
    uint32_t n = 0;
    for (size_t i = 0; i < e->n_seqs; i++) n += e->seqs[i]->state == EY_SEQ_RUNNING;
    return n;
}

/* All who read in the step under way were closed: it goes on to its end, for their slots. */
static void end_abandoned(eyrie_engine *e, failure *f)
{
    ey_lane *l = &e->lanes[EY_PREFILL];
    eyrie_error local;

    if (!l->under_way) return;
    if (ey_lane_is_last(l) || ey_lane_enqueue(l, UINT32_MAX, e->costs, &local) == EYRIE_OK) end_part(e, l, f);
    else fail_step(e, l, &local, f);
}

eyrie_status eyrie_engine_step(eyrie_engine *e, bool *busy, eyrie_error *err)
{
    failure f = { EYRIE_OK, err };
    uint32_t waiting;
    bool kept, started = false;
    double begun = ey_seconds();
    eyrie_status st = EYRIE_OK;

    e->stepping = true;
    kept = generate_kept(e, &f);
    waiting = running(e);
    if (waiting == 0) end_abandoned(e, &f);
    else st = e->apart ? run_both(e, &started, &f, err) : take_turns(e, &started, &f, err);
    end_cancelled(e);
    learn_host(e, begun);
    e->stepping = false;
    *busy = running(e) > 0;
    if (st != EYRIE_OK || f.status != EYRIE_OK || waiting == 0 || started || kept) return st != EYRIE_OK ? st : f.status;
    *busy = false;
    return ey_fail(err, EYRIE_EBUSY, "%" PRIu32 " sequence(s) wait for a state slot, and all %" PRIu32 " are held by "
                       "sequences without a request; close one, or open the model with more --slots", waiting, e->limits.slots);
}
