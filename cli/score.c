/* score.c - `eyrie score`: how probable a model finds a text. */
#include "commands.h"
#include "forks.h"
#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scores {
    cli_session *session;
    float       *logprobs;      /* [n] of the tokens read so far */
    size_t       n;
    cli_file     logits;        /* [n, vocab], if wanted */
} scores;

/* --------------------------------------------------------------------------------------------------------- scoring */

static bool write_f32(cli_file *f, const float *values, size_t n)
{
    unsigned char bytes[4 * 1024];
    size_t filled = 0;
    bool written = true;

    for (size_t i = 0; i < n && written; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        for (unsigned b = 0; b < 4; b++) bytes[filled++] = (unsigned char)(bits >> 8 * b);
        if (filled < sizeof bytes && i + 1 < n) continue;
        written = cli_file_write(f, bytes, filled);
        filled = 0;
    }
    return written;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    scores *sc = user;

    (void)seq;
    if (event->kind != EYRIE_EVENT_SCORE) return;
    sc->logprobs[sc->n++] = event->logprob;
    if (event->logits && !write_f32(&sc->logits, event->logits, sc->session->info.vocab)) sc->session->stop = true;
}

/* NaN where there is nothing to divide by. */
typedef struct summary {
    double nats_per_token, perplexity, bits_per_byte;
} summary;

/* The first token is given, the others are predicted. */
static summary summarize(const scores *sc)
{
    const cli_session *s = sc->session;
    double nats = 0;

    for (size_t i = 1; i < sc->n; i++) nats -= (double)sc->logprobs[i];
    double mean = sc->n > 1 ? nats / (double)(sc->n - 1) : NAN;
    return (summary){ mean, exp(mean), s->text_length > 0 ? nats / log(2) / (double)s->text_length : NAN };
}

static void print_json(const scores *sc, const cli_options *o)
{
    const cli_session *s = sc->session;
    const char *device = eyrie_device_name(s->device);
    summary sum = summarize(sc);
    json_t *object = json_object(), *tokens = json_array(), *logprobs = json_array();

    for (size_t i = 0; i < sc->n; i++) {
        cli_append(tokens, json_integer(s->tokens[i]));
        cli_append(logprobs, cli_number((double)sc->logprobs[i]));
    }
    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "nats_per_token", cli_number(sum.nats_per_token));
    cli_set(object, "perplexity", cli_number(sum.perplexity));
    cli_set(object, "bits_per_byte", cli_number(sum.bits_per_byte));
    cli_session_set_speed(s, object, false);
    cli_set(object, "tokens", tokens);
    cli_set(object, "logprobs", logprobs);
    cli_print_json(object);
}

static void print_value(const char *name, double value)
{
    if (isfinite(value)) cli_print("  %s %.6g", name, value);
    else cli_print("  %s -", name);
}

static void print_line(const scores *sc)
{
    summary sum = summarize(sc);

    cli_print("tokens %zu", sc->n - 1);
    print_value("nats/token", sum.nats_per_token);
    print_value("perplexity", sum.perplexity);
    print_value("bits/byte", sum.bits_per_byte);
    cli_print("\n");
}

/* --------------------------------------------------------------------------------------------------- continuations */

/* What may follow the text, and how probable each token of it is after all before. */
typedef struct continuation {
    const char *text;
    int32_t    *tokens;         /* [n_tokens] */
    size_t      n_tokens;
    cli_sample  sample;         /* as it was scored */
} continuation;

static void on_scored(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    continuation *c = user;

    (void)seq;
    if (event->kind == EYRIE_EVENT_SCORE) cli_sample_add_token(&c->sample, event);
}

static void describe(void *user, size_t i, eyrie_request *r)
{
    continuation *c = (continuation *)user + i;

    r->tokens = c->tokens;
    r->n_tokens = c->n_tokens;
    r->flags = EYRIE_SCORE;
    r->on_event = on_scored;
    r->user = c;
}

/* The tokens of a text are those that it has on its own, without <bos>. */
static int encode(const cli_session *s, continuation *c)
{
    cli_session only = { .model = s->model, .info = s->info };
    int status = cli_session_add_text(&only, c->text, strlen(c->text));

    c->tokens = only.tokens;
    c->n_tokens = only.n_tokens;
    return status;
}

static void print_continuations_json(const cli_session *s, const continuation *list, size_t n, const cli_options *o)
{
    const char *device = eyrie_device_name(s->device);
    json_t *object = json_object(), *array = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *item = json_object();
        cli_set(item, "text", cli_text(list[i].text, strlen(list[i].text)));
        cli_sample_set_scored(&list[i].sample, true, item);
        cli_append(array, item);
    }
    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "prompt_tokens", json_integer((json_int_t)s->n_tokens));
    cli_set(object, "continuations", array);
    cli_session_set_speed(s, object, false);
    cli_print_json(object);
}

static int score_continuations(cli_session *s, const cli_options *o)
{
    size_t n = o->continuations.n;
    continuation *list = cli_resize(NULL, n, sizeof *list);
    int status = CLI_DONE;

    for (size_t i = 0; i < n; i++) list[i] = (continuation){ .text = o->continuations.items[i] };
    for (size_t i = 0; i < n && status == CLI_DONE; i++) status = encode(s, &list[i]);
    if (status == CLI_DONE) status = cli_session_run_forks(s, n, describe, list);
    if (status == CLI_DONE && o->json) print_continuations_json(s, list, n, o);
    for (size_t i = 0; i < n && status == CLI_DONE && !o->json; i++)
        cli_print("logprob %.6g  tokens %zu  %s\n", cli_sample_logprob(&list[i].sample), list[i].sample.n, list[i].text);
    if (status == CLI_DONE && !o->json && cli_flush()) cli_session_print_speed(s, false);
    for (size_t i = 0; i < n; i++) {
        free(list[i].tokens);
        cli_sample_free(&list[i].sample);
    }
    free(list);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- the command */

int cli_score(const cli_options *o)
{
    cli_session session;
    scores sc = { .session = &session };
    eyrie_request request = { .struct_size = sizeof request, .flags = EYRIE_SCORE | (o->logits ? EYRIE_LOGITS : 0),
                              .on_event = on_event, .user = &sc };
    int status = cli_session_open(&session, o);

    if (status == CLI_DONE && o->continuations.n) {
        status = score_continuations(&session, o);
        cli_session_close(&session);
        return status;
    }
    if (status == CLI_DONE) {
        sc.logprobs = cli_resize(NULL, session.n_tokens + 1, sizeof *sc.logprobs);
        if (o->logits) status = cli_file_open(&sc.logits, o->logits);
        if (status == CLI_DONE) status = cli_session_run(&session, &request);
        if (o->logits) {
            int closed = cli_file_close(&sc.logits, status == CLI_DONE);
            if (status == CLI_DONE) status = closed;
        }
    }
    if (status == CLI_DONE) {
        if (o->json) print_json(&sc, o);
        else print_line(&sc);
        if (!o->json && cli_flush()) cli_session_print_speed(&session, false);
    }
    free(sc.logprobs);
    cli_session_close(&session);
    return status;
}
