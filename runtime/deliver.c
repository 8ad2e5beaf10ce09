/* deliver.c - what a step left becomes tokens, text and events. */
#include "engine.h"
#include "os.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

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
void ey_finish(eyrie_seq *s, eyrie_end end, const eyrie_error *error)
{
    eyrie_event event = { .kind = EYRIE_EVENT_END, .position = s->position, .token = -1, .logprob = NAN, .end = end,
                          .error = error, .reused = s->reused };
    char wrong[EY_LAST_CHARACTER], *text = s->last_text;
    bool found = false;

    s->last_text = NULL;
    event.text = text;
    if (holds_text(s, end)) {
        hold(s, &text);
        event.text = "";
    } else {
        event.text_length = push_held(s, text, &found);
        char *rest = text + event.text_length;
        if (!found) event.text_length += ey_stop_push(&s->stop, wrong, ey_utf8_end(&s->utf8, wrong), rest, &found);
        if (found && end != EYRIE_END_FAILED) event.end = EYRIE_END_STOP;
        else event.text_length += ey_stop_end(&s->stop, text + event.text_length);
    }
    s->state = end == EYRIE_END_FAILED ? EY_SEQ_FAILED : EY_SEQ_IDLE;
    if (end == EYRIE_END_FAILED) ey_release_slot(s);
    ey_journal_end(s, event.end);
    deliver(s, &event);
    ey_free(text);
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

/* Where the logits of a result are: `kept`, or if that is NULL with the model, as those of wanted token i of the phase. */
typedef struct source {
    const ey_result *result;
    const float     *kept;
    ey_phase         phase;
    uint32_t         i;
} source;

/* The token that follows. */
static eyrie_status sample(eyrie_seq *s, const source *from, int32_t *token, float *logprob, eyrie_error *err)
{
    const ey_result *result = from->result;
    const float *logits = from->kept;
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
    if (!logits) {
        if ((st = ey_model_logits(e->lanes[from->phase].model, from->phase, from->i, e->logits, err)) != EYRIE_OK) return st;
        logits = e->logits;
        e->stats.rows_read_back++;
    }
    for (uint32_t k = 0; k < e->limits.vocab; k++) e->all[k] = (ey_candidate){ (int32_t)k, logits[k] };
    *token = ey_sample_all(&how, s->position, e->all, e->limits.vocab);
    *logprob = logits[*token] - result->lse;
    return EYRIE_OK;
}

/* Samples, delivers the token, and ends the request if it is the last. */
static eyrie_status generate(eyrie_seq *s, const source *from, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    eyrie_event event = { .kind = EYRIE_EVENT_TOKEN, .position = s->position };
    char *text = NULL;
    bool ends, stopped = false;
    eyrie_status st;

    EY_TRY(sample(s, from, &event.token, &event.logprob, err));
    ends = is_end(s, event.token);
    if (!ends) EY_TRY(text_of(s, event.token, &text, &event.text_length, &stopped, err));
    if (!ey_seen_add(&s->seen, event.token, true)) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "the tokens that were seen"));
    s->last = event.token;
    s->has_last = true;
    s->generated++;
    s->since = ey_seconds();
    e->stats.sampled_tokens++;
    event.text = text ? text : "";
    deliver(s, &event);

    if (stopped) ey_finish(s, EYRIE_END_STOP, NULL);
    else if (ends) ey_finish(s, EYRIE_END_EOS, NULL);
    else if (s->generated == s->request.max_tokens) ey_finish(s, EYRIE_END_LENGTH, NULL);
    else if (e->limits.context && s->position >= e->limits.context) ey_finish(s, EYRIE_END_CONTEXT, NULL);
done:
    ey_free(text);
    return st;
}

/* Log-probabilities (and logits) of the n prompt tokens just read, whose results begin at number `first`. */
static eyrie_status score(eyrie_seq *s, uint32_t n, const ey_result *results, uint32_t first, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    bool want_logits = (s->request.flags & EYRIE_LOGITS) != 0;
    eyrie_status st = EYRIE_OK;

    for (uint32_t t = 0; t < n; t++) {
        eyrie_event event = { .kind = EYRIE_EVENT_SCORE, .position = s->position + t, .token = s->tokens[s->next + t],
                              .logprob = s->logprob, .logits = want_logits ? e->logits : NULL, .text = "" };
        if (want_logits) st = ey_model_logits(e->lanes[EY_PREFILL].model, EY_PREFILL, first + t, e->logits, err);
        if (st != EYRIE_OK) return st;
        s->logprob = s->next + t + 1 < s->n_tokens ? results[first + t].target - results[first + t].lse : NAN;
        deliver(s, &event);
    }
    return EYRIE_OK;
}

static eyrie_status keep_ending(eyrie_seq *s, const source *last, eyrie_error *err)
{
    ey_ending *ending = s->ending_room;
    eyrie_status st = ey_model_logits(s->engine->lanes[last->phase].model, last->phase, last->i, ending->logits, err);

    if (st != EYRIE_OK) return st;
    ending->result = *last->result;
    s->ending_room = NULL;
    s->ending = ending;
    return EYRIE_OK;
}

eyrie_status ey_digest(eyrie_seq *s, const ey_row *row, ey_phase phase, const ey_result *results, uint32_t first,
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
        return generate(s, &(source){ .result = &results[first], .phase = phase, .i = first }, err);
    }
    if ((s->request.flags & EYRIE_SCORE) && (st = score(s, row->n, results, first, err)) != EYRIE_OK) return st;
    for (uint32_t t = 0; t < row->n; t++)
        if (!ey_seen_add(&s->seen, row->tokens[t], false)) return ey_fail(err, EYRIE_ENOMEM, "the tokens that were seen");
    s->next += row->n;
    s->position += row->n;
    ey_reuse_keep(s, n_results ? &results[first + n_results - 1] : NULL, first + n_results - 1);
    if (s->next < s->n_tokens) return EYRIE_OK;

    const source last = { .result = &results[first + n_results - 1], .phase = phase, .i = first + n_results - 1 };
    if ((st = ey_seq_bring(s, EY_DECODE, err)) != EYRIE_OK) return st;
    if (s->request.max_tokens > 0) return generate(s, &last, err);
    if ((s->request.flags & EYRIE_KEEP_LOGITS) && (st = keep_ending(s, &last, err)) != EYRIE_OK) return st;
    ey_finish(s, EYRIE_END_LENGTH, NULL);
    return EYRIE_OK;
}

eyrie_status ey_generate_kept(eyrie_seq *s, eyrie_error *err)
{
    ey_ending *ending = s->ending;
    eyrie_status st;

    s->ending = NULL;
    st = generate(s, &(source){ .result = &ending->result, .kept = ending->logits }, err);
    ey_free(ending);
    return st;
}
