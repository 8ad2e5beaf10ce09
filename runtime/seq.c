/* seq.c - sequences: the requests that they take, forks. */
#include "engine.h"
#include "os.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------- the step under way */

/* A sequence that is closed leaves its slot to the step, which goes on writing to it. If nobody is left there, the step is
 * over: what is enqueued of it comes before all that will use the slots, but where another queue may write to them. */
static void leave_step(eyrie_seq *s)
{
    ey_lane *l = &s->engine->lanes[EY_PREFILL];
    bool empty = true;

    for (uint32_t i = 0; i < l->n; i++) {
        if (l->seats[i].seq == s) l->seats[i].seq = NULL;
        empty &= !l->seats[i].seq;
    }
    s->slot = EY_NO_SLOT;
    if (!empty || (s->engine->apart && l->in_flight)) return;
    for (uint32_t i = 0; i < l->n; i++) s->engine->slot_taken[l->seats[i].slot] = false;
    l->under_way = false;
}

/* ------------------------------------------------------------------------------------------------------- sequences */

eyrie_status eyrie_seq_open(eyrie_seq **out, eyrie_engine *e, eyrie_error *err)
{
    eyrie_seq *s;

    *out = NULL;
    if (!ey_grow(&e->seqs, &e->capacity, e->n_seqs + 1, sizeof *e->seqs) || !(s = ey_calloc(1, sizeof *s)))
        return ey_fail(err, EYRIE_ENOMEM, "sequence handle");
    s->engine = e;
    s->slot = EY_NO_SLOT;
    s->place = EY_DECODE;
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
    if (s->state == EY_SEQ_RUNNING) ey_journal_end(s, EYRIE_END_CANCELLED);
    if (s->under_way) leave_step(s);
    ey_release_slot(s);
    unlist(s);
    ey_free(s->tokens);
    ey_free(s->ends);
    ey_stop_free(&s->stop);
    ey_free(s->ending);
    ey_free(s->ending_room);
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
eyrie_status ey_seq_check_idle(const eyrie_seq *s, const char *what, eyrie_error *err)
{
    if (s->state == EY_SEQ_RUNNING)
        return ey_fail(err, EYRIE_EBUSY, "the sequence has a request; it can be %s when that is over", what);
    if (s->state == EY_SEQ_FAILED) return ey_fail(err, EYRIE_EINVAL, "the sequence has failed; close it");
    return EYRIE_OK;
}

eyrie_status ey_check_tokens(const int32_t *tokens, size_t n, uint32_t vocab, eyrie_error *err)
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

    if (s->state == EY_SEQ_RUNNING) return ey_fail(err, EYRIE_EBUSY, "the sequence has a request already");
    if (s->state == EY_SEQ_FAILED) return ey_fail(err, EYRIE_EINVAL, "the sequence has failed; close it");
    if (reads == 0 && !(s->ending && r->max_tokens > 0))
        return ey_fail(err, EYRIE_EINVAL, "no tokens to read; a sequence begins with at least one (<bos>)");
    if ((st = check_sampling(r, err)) != EYRIE_OK) return st;
    if (r->n_stops && !ey_model_tokenizer(s->engine->model))
        return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer, so that there is no text for stop texts to appear in");
    if ((r->flags & EYRIE_LOGITS) && !(r->flags & EYRIE_SCORE))
        return ey_fail(err, EYRIE_EINVAL, "logits are delivered with scores: EYRIE_LOGITS needs EYRIE_SCORE");
    if ((r->flags & EYRIE_KEEP_LOGITS) && r->max_tokens > 0)
        return ey_fail(err, EYRIE_EINVAL, "logits are kept after a prompt that is only read: EYRIE_KEEP_LOGITS needs max_tokens 0, "
                       "not %" PRIu64, r->max_tokens);
    if ((st = ey_check_tokens(r->tokens, r->n_tokens, limits->vocab, err)) != EYRIE_OK
        || (st = ey_check_tokens(r->end_tokens, r->n_end_tokens, limits->vocab, err)) != EYRIE_OK)
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
    if (s->ending) {
        s->logprob = s->ending->logits[r->tokens[0]] - s->ending->result.lse;
        ey_free(s->ending);
        s->ending = NULL;
    }
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
    ey_ending *ending = NULL;
    eyrie_engine *e = s->engine;
    bool keeps;
    eyrie_status st;

    memcpy(&r, request, ey_min(request->struct_size, sizeof r));
    if ((st = check_request(s, &r, err)) != EYRIE_OK || (st = ey_stop_init(&stop, r.stops, r.n_stops, err)) != EYRIE_OK)
        return st;
    keeps = (r.flags & EYRIE_KEEP_LOGITS) != 0;
    last_text = ey_calloc(s->n_held + EY_LAST_CHARACTER + stop.longest, 1);
    if (keeps) ending = ey_ending_new(e);
    if (!last_text || (keeps && !ending)
        || !ey_grow(&s->tokens, &s->capacity, eyrie_seq_pending(s, NULL) + r.n_tokens, sizeof *s->tokens)
        || !ey_grow(&s->ends, &s->ends_capacity, r.n_end_tokens, sizeof *s->ends)) {
        ey_stop_free(&stop);
        ey_free(last_text);
        ey_free(ending);
        return ey_fail(err, EYRIE_ENOMEM, "%zu tokens", r.n_tokens);
    }
    ey_stop_free(&s->stop);
    s->stop = stop;
    s->last_text = last_text;
    ey_free(s->ending_room);
    s->ending_room = ending;
    if (r.n_end_tokens) memcpy(s->ends, r.end_tokens, r.n_end_tokens * sizeof *s->ends);
    s->n_ends = r.n_end_tokens;
    queue_tokens(s, &r);
    s->generated = 0;
    s->request = r;
    s->request.tokens = s->request.end_tokens = NULL;
    s->request.stops = NULL;
    s->state = EY_SEQ_RUNNING;
    s->cancelled = false;
    s->reused = s->branch = 0;
    s->number = ++e->requests;
    s->since = ey_seconds();

    unlist(s);                              /* to the end of the queue */
    e->seqs[e->n_seqs++] = s;
    ey_journal_begin(s);
    return EYRIE_OK;
}

/* ------------------------------------------------------------------------------------------------ cancelling, forking */

eyrie_status eyrie_seq_cancel(eyrie_seq *s, eyrie_error *err)
{
    (void)err;
    if (s->state != EY_SEQ_RUNNING) return EYRIE_OK;
    if (s->under_way || s->engine->stepping) s->cancelled = true;
    else ey_finish(s, EYRIE_END_CANCELLED, NULL);
    return EYRIE_OK;
}

/* What of a sequence lies elsewhere. */
static eyrie_status copy_rest(eyrie_seq *to, const eyrie_seq *from, eyrie_error *err)
{
    size_t unread = from->n_tokens - from->next;

    if (!ey_grow(&to->tokens, &to->capacity, unread, sizeof *to->tokens) || !ey_seen_copy(&to->seen, &from->seen)
        || (from->n_held && !(to->held = ey_calloc(from->n_held, 1)))
        || (from->ending && !(to->ending = ey_ending_new(from->engine))))
        return ey_fail(err, EYRIE_ENOMEM, "sequence handle");
    if (from->ending) memcpy(to->ending, from->ending, ey_ending_bytes(from->engine));
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
    if ((st = ey_seq_check_idle(s, "forked", err)) != EYRIE_OK || (st = eyrie_seq_open(&copy, e, err)) != EYRIE_OK) return st;
    EY_TRY(ey_seq_bring(s, EY_DECODE, err));
    copy->position = s->position;
    copy->has_last = s->has_last;
    copy->last = s->last;
    copy->logprob = s->logprob;
    copy->utf8 = s->utf8;
    EY_TRY(copy_rest(copy, s, err));
    if (s->slot != EY_NO_SLOT) {
        EY_TRY(ey_need_slot(copy, err));
        EY_TRY(ey_model_copy_slot(e->model, s->slot, e->model, copy->slot, s->position, err));
        e->stats.reused_tokens += s->position;
    }
    *out = copy;
    copy = NULL;
done:
    (void)eyrie_seq_close(copy);
    return st;
}
