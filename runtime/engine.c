/* engine.c - engines and sequences: a step is schedule, upload, run, sample, deliver. */
#include "model.h"
#include "os.h"
#include "sched.h"
#include "stop.h"
#include "utf8.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef enum seq_state {
    IDLE,                   /* no request */
    RUNNING,                /* reads its prompt while tokens are unread, then generates */
    FAILED                  /* its state is lost */
} seq_state;

struct eyrie_seq {
    eyrie_engine  *engine;
    seq_state      state;
    uint32_t       slot;        /* NO_SLOT until its first step */
    uint64_t       position;    /* tokens read */
    int32_t       *tokens;      /* what it reads next: [n_tokens], of which `next` are read */
    size_t         n_tokens, next, capacity;
    bool           has_last;    /* the token generated last is not read yet; then no other is */
    int32_t        last;
    float          logprob;     /* of tokens[next], if known, else NaN */
    uint64_t       generated;
    ey_utf8        utf8;
    ey_stop        stop;        /* the request's stop texts */
    char          *last_text;   /* room for the text of END: making it must not fail */
    char          *held;        /* [n_held] text that the last request held back (EYRIE_HOLD_TEXT) */
    size_t         n_held;
    ey_seen        seen;        /* tokens read and generated */
    eyrie_request  request;     /* without its tokens, end tokens and stop texts */
    int32_t       *ends;        /* [n_ends] its end tokens */
    size_t         n_ends, ends_capacity;
};

#define NO_SLOT UINT32_MAX

enum { LAST_CHARACTER = 3 };    /* bytes of the U+FFFD that the beginning of a character at the end of the text becomes */

struct eyrie_engine {
    eyrie_model    *model;
    ey_model_limits limits;
    eyrie_seq     **seqs;       /* all open ones; those with a request in the order it came */
    size_t          n_seqs, capacity;
    bool           *slot_taken; /* [slots] */
    ey_sched_seq   *views;      /* [n_seqs], and which sequence each is */
    uint32_t       *view_seq;
    size_t          views_capacity, view_seq_capacity;
    ey_sched_pick  *picks;
    ey_row         *rows;
    eyrie_seq     **row_seq;
    int32_t        *targets;    /* [chunk] */
    float          *logits;     /* [vocab] */
    ey_candidate   *all;        /* [vocab], made when a sampler first wants a whole row */
    bool            stepping;   /* inside of eyrie_engine_step */
    eyrie_stats     stats;
};

/* ---------------------------------------------------------------------------------------------------------- slots */

static uint32_t free_slots(const eyrie_engine *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->limits.slots; i++) n += !e->slot_taken[i];
    return n;
}

static uint32_t take_slot(eyrie_engine *e)
{
    for (uint32_t i = 0; i < e->limits.slots; i++)
        if (!e->slot_taken[i]) {
            e->slot_taken[i] = true;
            return i;
        }
    return NO_SLOT;
}

static void release_slot(eyrie_seq *s)
{
    if (s->slot != NO_SLOT) s->engine->slot_taken[s->slot] = false;
    s->slot = NO_SLOT;
}

/* --------------------------------------------------------------------------------------------------------- engine */

eyrie_status eyrie_engine_open(eyrie_engine **out, eyrie_model *model, eyrie_error *err)
{
    ey_model_limits limits = ey_model_get_limits(model);
    uint32_t rows = (uint32_t)ey_max(limits.prefill_rows, limits.decode_rows);
    eyrie_engine *e;

    *out = NULL;
    if (!ey_model_take(model)) return ey_fail(err, EYRIE_EBUSY, "the model has an engine already; close it first");
    if (!(e = ey_calloc(1, sizeof *e))) {
        ey_model_give(model);
        return ey_fail(err, EYRIE_ENOMEM, "engine handle");
    }
    e->model = model;
    e->limits = limits;
    e->slot_taken = ey_calloc(limits.slots, sizeof *e->slot_taken);
    e->picks = ey_calloc(rows, sizeof *e->picks);
    e->rows = ey_calloc(rows, sizeof *e->rows);
    e->row_seq = ey_calloc(rows, sizeof *e->row_seq);
    e->targets = ey_calloc(limits.chunk, sizeof *e->targets);
    e->logits = ey_calloc(limits.vocab, sizeof *e->logits);
    if (!e->slot_taken || !e->picks || !e->rows || !e->row_seq || !e->targets || !e->logits) {
        (void)eyrie_engine_close(e);
        return ey_fail(err, EYRIE_ENOMEM, "engine for %" PRIu32 " slots", limits.slots);
    }
    *out = e;
    return EYRIE_OK;
}

eyrie_status eyrie_engine_close(eyrie_engine *e)
{
    if (!e) return EYRIE_OK;
    if (e->n_seqs) return EYRIE_EBUSY;
    ey_model_give(e->model);
    ey_free(e->seqs);
    ey_free(e->slot_taken);
    ey_free(e->views);
    ey_free(e->view_seq);
    ey_free(e->picks);
    ey_free(e->rows);
    ey_free(e->row_seq);
    ey_free(e->targets);
    ey_free(e->logits);
    ey_free(e->all);
    ey_free(e);
    return EYRIE_OK;
}

eyrie_status eyrie_engine_get_stats(const eyrie_engine *e, eyrie_stats *stats, eyrie_error *err)
{
    size_t size = stats->struct_size;
    (void)err;
    memcpy(stats, &e->stats, ey_min(size, sizeof *stats));
    stats->struct_size = size;
    return EYRIE_OK;
}

/* ------------------------------------------------------------------------------------------------------ sequences */

eyrie_status eyrie_seq_open(eyrie_seq **out, eyrie_engine *e, eyrie_error *err)
{
    eyrie_seq *s;

    *out = NULL;
    if (!ey_grow(&e->seqs, &e->capacity, e->n_seqs + 1, sizeof *e->seqs) || !(s = ey_calloc(1, sizeof *s)))
        return ey_fail(err, EYRIE_ENOMEM, "sequence handle");
    s->engine = e;
    s->slot = NO_SLOT;
    s->logprob = NAN;
    e->seqs[e->n_seqs++] = s;
    *out = s;
    return EYRIE_OK;
}

static size_t index_of(const eyrie_seq *s)
{
    size_t i = 0;
    while (s->engine->seqs[i] != s) i++;
    return i;
}

/* Takes s out of the list; the others keep their order. */
static void unlist(eyrie_seq *s)
{
    eyrie_engine *e = s->engine;
    size_t i = index_of(s);
    memmove(&e->seqs[i], &e->seqs[i + 1], (e->n_seqs - i - 1) * sizeof *e->seqs);
    e->n_seqs--;
}

eyrie_status eyrie_seq_close(eyrie_seq *s)
{
    if (!s) return EYRIE_OK;
    release_slot(s);
    unlist(s);
    ey_free(s->tokens);
    ey_free(s->ends);
    ey_stop_free(&s->stop);
    ey_free(s->last_text);
    ey_seen_free(&s->seen);
    ey_free(s->held);
    ey_free(s);
    return EYRIE_OK;
}

uint64_t eyrie_seq_position(const eyrie_seq *s) { return s->position; }

size_t eyrie_seq_pending(const eyrie_seq *s, int32_t *last)
{
    size_t unread = s->n_tokens - s->next;

    if (last) *last = s->has_last ? s->last : unread ? s->tokens[s->n_tokens - 1] : -1;
    return unread + s->has_last;
}

/* What is saved and forked is a sequence between requests. */
static eyrie_status check_idle(const eyrie_seq *s, const char *what, eyrie_error *err)
{
    if (s->state == RUNNING) return ey_fail(err, EYRIE_EBUSY, "the sequence has a request; it can be %s when that is over", what);
    if (s->state == FAILED) return ey_fail(err, EYRIE_EINVAL, "the sequence has failed; close it");
    return EYRIE_OK;
}

static eyrie_status check_tokens(const int32_t *tokens, size_t n, uint32_t vocab, eyrie_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab)
            return ey_fail(err, EYRIE_EINVAL, "token %" PRId32 " (number %zu) is outside the vocabulary of %" PRIu32, tokens[i],
                           i, vocab);
    return EYRIE_OK;
}

static eyrie_status check_sampling(const eyrie_request *r, eyrie_error *err)
{
    const struct { const char *name; float value, low, high; } ranges[] = {
        { "temperature", r->temperature, 0, FLT_MAX },
        { "top_p", r->top_p, 0, 1 },
        { "min_p", r->min_p, 0, 1 },
        { "repetition_penalty", r->repetition_penalty, 0, FLT_MAX },
        { "presence_penalty", r->presence_penalty, -FLT_MAX, FLT_MAX },
        { "frequency_penalty", r->frequency_penalty, -FLT_MAX, FLT_MAX },
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].low && ranges[i].value <= ranges[i].high))
            return ey_fail(err, EYRIE_EINVAL, "%s %g; it must be a number from %g to %g", ranges[i].name,
                           (double)ranges[i].value, (double)ranges[i].low, (double)ranges[i].high);
    return EYRIE_OK;
}

static eyrie_status check_request(const eyrie_seq *s, const eyrie_request *r, eyrie_error *err)
{
    const ey_model_limits *limits = &s->engine->limits;
    uint64_t pending = eyrie_seq_pending(s, NULL), reads = r->n_tokens + pending;
    eyrie_status st;

    if (s->state == RUNNING) return ey_fail(err, EYRIE_EBUSY, "the sequence has a request already");
    if (s->state == FAILED) return ey_fail(err, EYRIE_EINVAL, "the sequence has failed; close it");
    if (reads == 0)
        return ey_fail(err, EYRIE_EINVAL, "no tokens to read; a sequence begins with at least one (<bos>)");
    if ((st = check_sampling(r, err)) != EYRIE_OK) return st;
    if (r->n_stops && !ey_model_tokenizer(s->engine->model))
        return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer, so that there is no text for stop texts to appear in");
    if ((r->flags & EYRIE_LOGITS) && !(r->flags & EYRIE_SCORE))
        return ey_fail(err, EYRIE_EINVAL, "logits are delivered with scores: EYRIE_LOGITS needs EYRIE_SCORE");
    if ((st = check_tokens(r->tokens, r->n_tokens, limits->vocab, err)) != EYRIE_OK
        || (st = check_tokens(r->end_tokens, r->n_end_tokens, limits->vocab, err)) != EYRIE_OK)
        return st;
    if (limits->context && reads > limits->context - s->position)
        return ey_fail(err, EYRIE_ELIMIT, "%" PRIu64 " tokens after position %" PRIu64 " are more than the context of %"
                       PRIu64 "; a larger --context holds them", reads, s->position, limits->context);
    return EYRIE_OK;
}

/* What is pending, then the request's own tokens. Where there is but the token generated last, it stays what the next decode
 * step reads: a prefill step, which sums in another order, would leave a trace of the end that was between. */
static void queue_tokens(eyrie_seq *s, const eyrie_request *r)
{
    size_t unread = s->n_tokens - s->next;

    if (unread && s->next) memmove(s->tokens, s->tokens + s->next, unread * sizeof *s->tokens);
    s->n_tokens = unread;
    s->next = 0;
    if (s->has_last && r->n_tokens == 0 && r->max_tokens > 0 && !(r->flags & EYRIE_SCORE)) return;
    if (s->has_last) s->tokens[s->n_tokens++] = s->last;
    s->has_last = false;
    if (r->n_tokens == 0) return;
    memcpy(s->tokens + s->n_tokens, r->tokens, r->n_tokens * sizeof *s->tokens);
    s->n_tokens += r->n_tokens;
    s->utf8.n = 0;
    s->n_held = 0;
}

eyrie_status eyrie_seq_submit(eyrie_seq *s, const eyrie_request *request, eyrie_error *err)
{
    eyrie_request r = { 0 };
    ey_stop stop;
    char *last_text;
    eyrie_status st;

    memcpy(&r, request, ey_min(request->struct_size, sizeof r));
    if ((st = check_request(s, &r, err)) != EYRIE_OK || (st = ey_stop_init(&stop, r.stops, r.n_stops, err)) != EYRIE_OK)
        return st;
    last_text = ey_calloc(s->n_held + LAST_CHARACTER + stop.longest, 1);
    if (!last_text || !ey_grow(&s->tokens, &s->capacity, eyrie_seq_pending(s, NULL) + r.n_tokens, sizeof *s->tokens)
        || !ey_grow(&s->ends, &s->ends_capacity, r.n_end_tokens, sizeof *s->ends)) {
        ey_stop_free(&stop);
        ey_free(last_text);
        return ey_fail(err, EYRIE_ENOMEM, "%zu tokens", r.n_tokens);
    }
    ey_stop_free(&s->stop);
    s->stop = stop;
    s->last_text = last_text;
    if (r.n_end_tokens) memcpy(s->ends, r.end_tokens, r.n_end_tokens * sizeof *s->ends);
    s->n_ends = r.n_end_tokens;
    queue_tokens(s, &r);
    s->generated = 0;
    s->request = r;
    s->request.tokens = s->request.end_tokens = NULL;
    s->request.stops = NULL;
    s->state = RUNNING;

    eyrie_engine *e = s->engine;            /* to the end of the queue */
    unlist(s);
    e->seqs[e->n_seqs++] = s;
    return EYRIE_OK;
}

static eyrie_status need_slot(eyrie_seq *s, eyrie_error *err)
{
    if ((s->slot = take_slot(s->engine)) != NO_SLOT) return EYRIE_OK;
    return ey_fail(err, EYRIE_EBUSY, "all %" PRIu32 " state slots are taken; more --slots, or close a sequence",
                   s->engine->limits.slots);
}

/* What of a sequence lies elsewhere. */
static eyrie_status copy_rest(eyrie_seq *to, const eyrie_seq *from, eyrie_error *err)
{
    size_t unread = from->n_tokens - from->next;

    if (!ey_grow(&to->tokens, &to->capacity, unread, sizeof *to->tokens) || !ey_seen_copy(&to->seen, &from->seen)
        || (from->n_held && !(to->held = ey_calloc(from->n_held, 1))))
        return ey_fail(err, EYRIE_ENOMEM, "sequence handle");
    if (unread) memcpy(to->tokens, from->tokens + from->next, unread * sizeof *to->tokens);
    if (from->n_held) memcpy(to->held, from->held, from->n_held);
    to->n_tokens = unread;
    to->n_held = from->n_held;
    return EYRIE_OK;
}

eyrie_status eyrie_seq_fork(eyrie_seq **out, eyrie_seq *s, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    eyrie_seq *copy;
    eyrie_status st;

    *out = NULL;
    if ((st = check_idle(s, "forked", err)) != EYRIE_OK || (st = eyrie_seq_open(&copy, e, err)) != EYRIE_OK) return st;
    copy->position = s->position;
    copy->has_last = s->has_last;
    copy->last = s->last;
    copy->logprob = s->logprob;
    copy->utf8 = s->utf8;
    EY_TRY(copy_rest(copy, s, err));
    if (s->slot != NO_SLOT) {
        EY_TRY(need_slot(copy, err));
        EY_TRY(ey_model_copy_slot(e->model, s->slot, copy->slot, err));
    }
    *out = copy;
    copy = NULL;
done:
    (void)eyrie_seq_close(copy);
    return st;
}

/* ---------------------------------------------------------------------------------------------------- state files */

/* Part 0 of a state file: the sequence without its slot. The parts after it are the slot's layers. All little endian:
 *
 *      0  u64 position    8  u32 HAS_LAST or 0    12  i32 last, if there is one    16  f32 logprob
 *     20  u32 bytes of a character that is not whole, u8[4] these    28  u32 bytes of text held back
 *     32  u64 unread tokens    40  u64 seen tokens    48  i32 each, unread; i32 and u32 each, seen; the text held back */
enum { RECORD = 48, HAS_LAST = 1 };

static uint64_t record_bytes(const eyrie_seq *s)
{
    return RECORD + 4 * (uint64_t)(s->n_tokens - s->next) + 8 * (uint64_t)s->seen.n + s->n_held;
}

static void put_record(unsigned char *at, const eyrie_seq *s)
{
    uint32_t logprob;

    memcpy(&logprob, &s->logprob, sizeof logprob);
    ey_put(at, 8, s->position);
    ey_put(at + 8, 4, s->has_last ? HAS_LAST : 0);
    ey_put(at + 12, 4, (uint32_t)s->last);
    ey_put(at + 16, 4, logprob);
    ey_put(at + 20, 4, s->utf8.n);
    memcpy(at + 24, s->utf8.held, sizeof s->utf8.held);
    ey_put(at + 28, 4, s->n_held);
    ey_put(at + 32, 8, s->n_tokens - s->next);
    ey_put(at + 40, 8, s->seen.n);
    at += RECORD;
    for (size_t i = s->next; i < s->n_tokens; i++, at += 4) ey_put(at, 4, (uint32_t)s->tokens[i]);
    for (size_t i = 0; i < s->seen.capacity; i++) {
        const ey_seen_token *t = &s->seen.places[i];
        if (t->id < 0) continue;
        ey_put(at, 4, (uint32_t)t->id);
        ey_put(at + 4, 4, t->generated);
        at += 8;
    }
    if (s->n_held) memcpy(at, s->held, s->n_held);
}

/* Whether the fixed part can be. */
static bool record_makes_sense(const eyrie_seq *s, uint64_t unread)
{
    ey_utf8 text = { .n = 0 };
    char out[3 * sizeof s->utf8.held];

    if (s->has_last && (s->position == 0 || unread || check_tokens(&s->last, 1, s->engine->limits.vocab, NULL) != EYRIE_OK))
        return false;
    return s->position <= INT64_MAX && s->utf8.n < sizeof s->utf8.held
           && ey_utf8_push(&text, (const char *)s->utf8.held, s->utf8.n, out) == 0;      /* a beginning and no more */
}

/* The lists after it. */
static eyrie_status get_lists(eyrie_seq *s, const unsigned char *at, uint64_t unread, uint64_t seen, uint64_t held, bool *right,
                              eyrie_error *err)
{
    uint32_t vocab = s->engine->limits.vocab;

    if (!ey_grow(&s->tokens, &s->capacity, unread, sizeof *s->tokens) || (held && !(s->held = ey_calloc(held, 1))))
        return ey_fail(err, EYRIE_ENOMEM, "%" PRIu64 " tokens and %" PRIu64 " bytes", unread, held);
    for (uint64_t i = 0; i < unread; i++, at += 4) s->tokens[i] = (int32_t)ey_get(at, 4);
    s->n_tokens = unread;
    *right = check_tokens(s->tokens, unread, vocab, NULL) == EYRIE_OK;
    for (uint64_t i = 0; i < seen && *right; i++, at += 8) {
        int32_t id = (int32_t)ey_get(at, 4);
        *right = check_tokens(&id, 1, vocab, NULL) == EYRIE_OK;
        if (*right && !ey_seen_put(&s->seen, id, (uint32_t)ey_get(at + 4, 4)))
            return ey_fail(err, EYRIE_ENOMEM, "%" PRIu64 " tokens that were seen", seen);
    }
    if (!*right || !held) return EYRIE_OK;
    memcpy(s->held, at, held);
    s->n_held = held;
    *right = ey_utf8_check(s->held, held) == held;
    return EYRIE_OK;
}

static eyrie_status get_record(eyrie_seq *s, const unsigned char *at, uint64_t size, const char *path, eyrie_error *err)
{
    uint64_t unread = size < RECORD ? 0 : ey_get(at + 32, 8), seen = size < RECORD ? 0 : ey_get(at + 40, 8);
    uint64_t held = size < RECORD ? 0 : ey_get(at + 28, 4), context = s->engine->limits.context;
    bool right = size >= RECORD && ey_get(at + 8, 4) <= HAS_LAST && unread <= size / 4 && seen <= size / 8
                 && RECORD + 4 * unread + 8 * seen + held == size;
    uint32_t logprob;
    eyrie_status st;

    if (right) {
        s->position = ey_get(at, 8);
        s->has_last = ey_get(at + 8, 4) == HAS_LAST;
        s->last = (int32_t)ey_get(at + 12, 4);
        logprob = (uint32_t)ey_get(at + 16, 4);
        memcpy(&s->logprob, &logprob, sizeof logprob);
        s->utf8.n = (uint32_t)ey_get(at + 20, 4);
        memcpy(s->utf8.held, at + 24, sizeof s->utf8.held);
        right = record_makes_sense(s, unread);
    }
    if (right && (st = get_lists(s, at + RECORD, unread, seen, held, &right, err)) != EYRIE_OK) return st;
    if (!right) return ey_fail(err, EYRIE_EFORMAT, "%s: what it says of its sequence cannot be: damaged; save it again", path);
    if (context && (s->position > context || unread > context - s->position))
        return ey_fail(err, EYRIE_ELIMIT, "%s: %" PRIu64 " tokens at position %" PRIu64 " are more than the context of %" PRIu64
                       "; a larger --context holds them", path, unread, s->position, context);
    return EYRIE_OK;
}

eyrie_status eyrie_seq_save(eyrie_seq *s, const char *path, eyrie_error *err)
{
    eyrie_model *m = s->engine->model;
    uint32_t n_parts = 1 + ey_model_config(m)->layers;
    uint64_t size = record_bytes(s);
    uint64_t *sizes = ey_calloc(n_parts, sizeof *sizes);
    unsigned char *record = ey_calloc(size, 1);
    ey_snapshot_writer *w = NULL;
    ey_traits traits;
    eyrie_status st, finished;

    EY_TRY(check_idle(s, "saved", err));
    if (!sizes || !record) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "saving %s", path));
    put_record(record, s);
    sizes[0] = size;
    ey_model_state_sizes(m, s->position, sizes + 1);
    ey_model_traits(m, &traits);
    EY_TRY(ey_snapshot_create(&w, path, &traits, sizes, n_parts, err));
    EY_TRY(ey_snapshot_write(w, record, size, err));
    EY_TRY(ey_model_save_slot(m, s->slot, s->position, w, err));
done:
    finished = ey_snapshot_finish(w, st == EYRIE_OK, err);
    ey_free(record);
    ey_free(sizes);
    return st == EYRIE_OK ? finished : st;
}

eyrie_status eyrie_seq_load(eyrie_seq **out, eyrie_engine *e, const char *path, eyrie_error *err)
{
    ey_snapshot file = { .n_parts = 0 };
    const unsigned char *record;
    ey_traits traits;
    eyrie_seq *s;
    uint64_t size;
    eyrie_status st;

    *out = NULL;
    EY_TRY(eyrie_seq_open(&s, e, err));
    ey_model_traits(e->model, &traits);
    EY_TRY(ey_snapshot_open(&file, path, &traits, err));
    record = ey_snapshot_part(&file, 0, &size);
    EY_TRY(get_record(s, record, size, path, err));
    if (s->position > 0) EY_TRY(need_slot(s, err));
    EY_TRY(ey_model_load_slot(e->model, s->slot, s->position, &file, 1, err));
    *out = s;
    s = NULL;
done:
    ey_snapshot_close(&file);
    (void)eyrie_seq_close(s);
    return st;
}

/* ----------------------------------------------------------------------------------------------------- delivering */

static void deliver(eyrie_seq *s, const eyrie_event *event)
{
    if (s->request.on_event) s->request.on_event(s->request.user, s, event);
}

/* A text that has not ended may go on in the middle of a character, or of a stop text. */
static bool holds_text(const eyrie_seq *s, eyrie_end end)
{
    return (s->request.flags & EYRIE_HOLD_TEXT) && end != EYRIE_END_EOS && end != EYRIE_END_FAILED;
}

/* Keeps what there is of a stop text, in *text. If there was no text since the last time, that is still kept. */
static void hold(eyrie_seq *s, char **text)
{
    if (s->n_held) return;
    ey_free(s->held);
    s->n_held = ey_stop_end(&s->stop, *text);
    s->held = *text;
    *text = NULL;
}

/* Puts the text that was held back before what comes now. */
static size_t push_held(eyrie_seq *s, char *out, bool *stopped)
{
    size_t n = s->n_held;

    s->n_held = 0;
    return ey_stop_push(&s->stop, s->held, n, out, stopped);
}

/* Ends the request with what text is left. Its memory was made when the request came, and is given up before the event,
 * which may bring the next one. */
static void finish(eyrie_seq *s, eyrie_end end, const eyrie_error *error)
{
    eyrie_event event = { .kind = EYRIE_EVENT_END, .position = s->position, .token = -1, .logprob = NAN, .end = end,
                          .error = error };
    char wrong[LAST_CHARACTER], *text = s->last_text;
    bool found = false;

    s->last_text = NULL;
    event.text = text;
    if (holds_text(s, end)) {
        hold(s, &text);
        event.text = "";
    } else {
        event.text_length = push_held(s, text, &found);
        if (!found) event.text_length += ey_stop_push(&s->stop, wrong, ey_utf8_end(&s->utf8, wrong), text + event.text_length, &found);
        if (found && end != EYRIE_END_FAILED) event.end = EYRIE_END_STOP;
        else event.text_length += ey_stop_end(&s->stop, text + event.text_length);
    }
    s->state = end == EYRIE_END_FAILED ? FAILED : IDLE;
    if (end == EYRIE_END_FAILED) release_slot(s);
    deliver(s, &event);
    ey_free(text);
}

eyrie_status eyrie_seq_cancel(eyrie_seq *s, eyrie_error *err)
{
    if (s->engine->stepping) return ey_fail(err, EYRIE_EBUSY, "a step is going on; a request can be cancelled after it");
    if (s->state == RUNNING) finish(s, EYRIE_END_CANCELLED, NULL);
    return EYRIE_OK;
}

/* Text that can be delivered now that `token` has come, in memory that the caller frees; NULL where the token has no text.
 * *stopped: it completes a stop text, with which the text ends. */
static eyrie_status text_of(eyrie_seq *s, int32_t token, char **text, size_t *length, bool *stopped, eyrie_error *err)
{
    const ey_tokenizer *t = ey_model_tokenizer(s->engine->model);
    size_t n = 0, most;
    const char *bytes = t ? ey_tokenizer_bytes(t, token, &n) : NULL;
    char *characters;

    *text = NULL;
    *length = 0;
    *stopped = false;
    if (n == 0) return EYRIE_OK;
    most = 3 * (n + 3);
    *text = ey_calloc(s->n_held + most + s->stop.longest, 1);
    characters = ey_calloc(most, 1);
    if (*text && characters) {
        *length = push_held(s, *text, stopped);
        n = ey_utf8_push(&s->utf8, bytes, n, characters);
        if (!*stopped) *length += ey_stop_push(&s->stop, characters, n, *text + *length, stopped);
    }
    if (*stopped) s->utf8 = (ey_utf8){ 0 };
    ey_free(characters);
    if (*text && characters) return EYRIE_OK;
    ey_free(*text);
    *text = NULL;
    return ey_fail(err, EYRIE_ENOMEM, "text of a token");
}

static bool is_in(int32_t token, const int32_t *list, size_t n)
{
    size_t i = 0;
    while (i < n && list[i] != token) i++;
    return i < n;
}

/* Does the text end with this token? */
static bool is_end(const eyrie_seq *s, int32_t token)
{
    const ey_config *c = ey_model_config(s->engine->model);
    return is_in(token, s->ends, s->n_ends) || (!(s->request.flags & EYRIE_IGNORE_EOS) && is_in(token, c->eos, c->n_eos));
}

/* The token that follows, from the step's result i of this sequence. */
static eyrie_status sample(eyrie_seq *s, ey_phase phase, const ey_result *result, uint32_t i, int32_t *token,
                           float *logprob, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    const eyrie_request *r = &s->request;
    ey_sampling how = { .temperature = r->temperature, .sample = r->sample, .seed = r->seed, .top_k = r->top_k,
                        .top_p = r->top_p, .min_p = r->min_p, .repetition = r->repetition_penalty,
                        .presence = r->presence_penalty, .frequency = r->frequency_penalty, .seen = &s->seen };
    ey_candidate best[EY_CANDIDATES];
    ey_row_logits row = { .best = best, .n = result->n, .lse = result->lse, .vocab = e->limits.vocab };
    eyrie_status st;

    memcpy(best, result->best, result->n * sizeof *best);
    if (ey_sample(&how, s->position, &row, token)) {
        for (uint32_t k = 0; k < result->n; k++)
            if (result->best[k].id == *token) *logprob = result->best[k].logit - result->lse;
        return EYRIE_OK;
    }
    if (!e->all && !(e->all = ey_calloc(e->limits.vocab, sizeof *e->all))) return ey_fail(err, EYRIE_ENOMEM, "a row of logits");
    if ((st = ey_model_logits(e->model, phase, i, e->logits, err)) != EYRIE_OK) return st;
    for (uint32_t k = 0; k < e->limits.vocab; k++) e->all[k] = (ey_candidate){ (int32_t)k, e->logits[k] };
    *token = ey_sample_all(&how, s->position, e->all, e->limits.vocab);
    *logprob = e->logits[*token] - result->lse;
    e->stats.rows_read_back++;
    return EYRIE_OK;
}

/* Samples, delivers the token, and ends the request if it is the last. */
static eyrie_status generate(eyrie_seq *s, ey_phase phase, const ey_result *result, uint32_t i, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    eyrie_event event = { .kind = EYRIE_EVENT_TOKEN, .position = s->position };
    char *text = NULL;
    bool ends, stopped = false;
    eyrie_status st;

    EY_TRY(sample(s, phase, result, i, &event.token, &event.logprob, err));
    ends = is_end(s, event.token);
    if (!ends) EY_TRY(text_of(s, event.token, &text, &event.text_length, &stopped, err));
    if (!ey_seen_add(&s->seen, event.token, true)) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "the tokens that were seen"));
    s->last = event.token;
    s->has_last = true;
    s->generated++;
    event.text = text ? text : "";
    deliver(s, &event);

    if (stopped) finish(s, EYRIE_END_STOP, NULL);
    else if (ends) finish(s, EYRIE_END_EOS, NULL);
    else if (s->generated == s->request.max_tokens) finish(s, EYRIE_END_LENGTH, NULL);
    else if (e->limits.context && s->position >= e->limits.context) finish(s, EYRIE_END_CONTEXT, NULL);
done:
    ey_free(text);
    return st;
}

/* Log-probabilities (and logits) of the n prompt tokens just read, whose results begin at number `first`. */
static eyrie_status score(eyrie_seq *s, uint32_t n, const ey_result *results, uint32_t first, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    bool want_logits = (s->request.flags & EYRIE_LOGITS) != 0;
    eyrie_status st;

    for (uint32_t t = 0; t < n; t++) {
        eyrie_event event = { .kind = EYRIE_EVENT_SCORE, .position = s->position + t, .token = s->tokens[s->next + t],
                              .logprob = s->logprob, .logits = want_logits ? e->logits : NULL, .text = "" };
        if (want_logits && (st = ey_model_logits(e->model, EY_PREFILL, first + t, e->logits, err)) != EYRIE_OK) return st;
        s->logprob = s->next + t + 1 < s->n_tokens ? results[first + t].target - results[first + t].lse : NAN;
        deliver(s, &event);
    }
    return EYRIE_OK;
}

/* What the step means for one of its rows. `first` is the number of its first result. */
static eyrie_status digest(eyrie_seq *s, const ey_row *row, ey_phase phase, const ey_result *results, uint32_t first,
                           uint32_t n_results, eyrie_error *err)
{
    eyrie_status st;

    for (uint32_t i = first; i < first + n_results; i++)
        if (!isfinite(results[i].lse))
            return ey_fail(err, EYRIE_ENUMERIC, "logits near position %" PRIu64 " are not finite; the weights may be damaged, or "
                           "out of the range of their format (--weights f32)", s->position);
    if (phase == EY_DECODE) {
        s->has_last = false;
        s->position++;
        return generate(s, phase, &results[first], first, err);
    }
    if ((s->request.flags & EYRIE_SCORE) && (st = score(s, row->n, results, first, err)) != EYRIE_OK) return st;
    for (uint32_t t = 0; t < row->n; t++)
        if (!ey_seen_add(&s->seen, row->tokens[t], false)) return ey_fail(err, EYRIE_ENOMEM, "the tokens that were seen");
    s->next += row->n;
    s->position += row->n;
    if (s->next < s->n_tokens) return EYRIE_OK;
    if (s->request.max_tokens == 0) {
        finish(s, EYRIE_END_LENGTH, NULL);
        return EYRIE_OK;
    }
    return generate(s, phase, &results[first + n_results - 1], first + n_results - 1, err);
}

/* ---------------------------------------------------------------------------------------------------------- a step */

/* The sequences with work, as the policy sees them. */
static eyrie_status look(eyrie_engine *e, uint32_t *n, eyrie_error *err)
{
    *n = 0;
    if (!ey_grow(&e->views, &e->views_capacity, e->n_seqs + 1, sizeof *e->views)
        || !ey_grow(&e->view_seq, &e->view_seq_capacity, e->n_seqs + 1, sizeof *e->view_seq))
        return ey_fail(err, EYRIE_ENOMEM, "%zu sequences", e->n_seqs);
    for (size_t i = 0; i < e->n_seqs; i++) {
        const eyrie_seq *s = e->seqs[i];
        if (s->state != RUNNING) continue;
        e->view_seq[*n] = (uint32_t)i;
        e->views[(*n)++] = (ey_sched_seq){
            .position = s->position, .unread = s->n_tokens - s->next, .has_slot = s->slot != NO_SLOT,
            .alone = (s->request.flags & EYRIE_SCORE) != 0,
            .most = s->request.flags & EYRIE_LOGITS ? e->limits.logits : 0 };
    }
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
    } else if (s->next + n == s->n_tokens && s->request.max_tokens > 0) {
        row.want = EY_WANT_LAST;
    }
    return row;
}

static eyrie_status run_batch(eyrie_engine *e, const ey_batch *b, const ey_result **results, eyrie_error *err)
{
    double start = ey_seconds();
    uint32_t n;
    eyrie_status st;

    EY_TRY(ey_model_upload(e->model, b, err));
    EY_TRY(ey_model_enqueue(e->model, b->phase, 0, UINT32_MAX, err));
    EY_TRY(ey_model_results(e->model, b->phase, results, &n, err));
    if (b->phase == EY_PREFILL) {
        e->stats.prefill_seconds += ey_seconds() - start;
        e->stats.prefill_tokens += ey_batch_tokens(b);
        e->stats.prefill_steps++;
    } else {
        e->stats.decode_seconds += ey_seconds() - start;
        e->stats.decode_tokens += b->n_rows;
        e->stats.decode_steps++;
    }
done:
    return st;
}

eyrie_status eyrie_engine_step(eyrie_engine *e, bool *busy, eyrie_error *err)
{
    ey_batch batch = { .rows = e->rows };
    const ey_result *results = NULL;
    eyrie_error local;
    uint32_t n, result = 0;
    eyrie_status st, first_failure = EYRIE_OK;

    *busy = true;                           /* nothing has happened yet: a step that cannot begin can be tried again */
    if ((st = look(e, &n, err)) != EYRIE_OK) return st;
    *busy = false;
    if (n == 0) return EYRIE_OK;

    ey_sched_view view = { .seqs = e->views, .n = n, .can = { true, true },
                           .limits = { .chunk = e->limits.chunk, .prefill_rows = e->limits.prefill_rows,
                                       .decode_rows = e->limits.decode_rows, .free_slots = free_slots(e),
                                       .layers = ey_model_config(e->model)->layers } };
    ey_sched_step next = ey_policy_find("fifo")->next(&view, e->picks);
    batch.phase = next.phase;
    batch.n_rows = next.n;
    if (batch.n_rows == 0)
        return ey_fail(err, EYRIE_EBUSY, "%" PRIu32 " sequence(s) wait for a state slot, and all %" PRIu32 " are held by "
                       "sequences without a request; close one, or open the model with more --slots", n, e->limits.slots);
    for (uint32_t i = 0; i < batch.n_rows; i++) {
        eyrie_seq *s = e->seqs[e->view_seq[e->picks[i].seq]];
        if (s->slot == NO_SLOT) s->slot = take_slot(e);
        e->row_seq[i] = s;
        e->rows[i] = row_of(s, batch.phase, e->picks[i].n, e->targets);
    }

    e->stepping = true;
    st = run_batch(e, &batch, &results, &local);
    if (st != EYRIE_OK) {
        for (uint32_t i = 0; i < batch.n_rows; i++) finish(e->row_seq[i], EYRIE_END_FAILED, &local);
        first_failure = st;
        if (err) *err = local;
    }
    for (uint32_t i = 0; i < batch.n_rows && st == EYRIE_OK; i++) {
        uint32_t wanted = e->rows[i].want == EY_WANT_ALL ? e->rows[i].n : e->rows[i].want == EY_WANT_LAST;
        eyrie_status row_st = digest(e->row_seq[i], &e->rows[i], batch.phase, results, result, wanted, &local);
        result += wanted;
        if (row_st == EYRIE_OK) continue;
        finish(e->row_seq[i], EYRIE_END_FAILED, &local);
        if (first_failure == EYRIE_OK && err) *err = local;
        if (first_failure == EYRIE_OK) first_failure = row_st;
    }
    e->stepping = false;
    for (size_t i = 0; i < e->n_seqs; i++) *busy |= e->seqs[i]->state == RUNNING;
    return first_failure;
}
