/* run.c - `eyrie run`: a model continues a text. */
#include "commands.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct output {
    cli_session *session;
    bool         json;          /* keep, do not stream */
    int32_t     *ids;           /* [n_ids] the generated tokens */
    size_t       n_ids, ids_capacity;
    char        *text;          /* [length] what they say, where it is kept */
    size_t       length, text_capacity;
    eyrie_end    end;           /* 0: not at an end, that is, interrupted */
} output;

/* Text is the model's own and nothing else, but ids are a line, and on a terminal the shell goes on below. */
static void end_line(const output *out)
{
    if (!out->json && (!out->session->info.has_tokenizer || isatty(STDOUT_FILENO) == 1)) cli_print("\n");
}

/* Whole characters as they come; without a tokenizer, ids with spaces between them. */
static void stream(const output *out, const eyrie_event *event)
{
    if (out->session->info.has_tokenizer) cli_write(event->text, event->text_length);
    else if (event->kind == EYRIE_EVENT_TOKEN) cli_print("%s%ld", out->n_ids > 1 ? " " : "", (long)event->token);
    if (event->kind == EYRIE_EVENT_END) end_line(out);
    if (!cli_flush()) out->session->stop = true;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    output *out = user;

    (void)seq;
    if (event->kind == EYRIE_EVENT_TOKEN) {
        cli_grow(&out->ids, &out->ids_capacity, out->n_ids + 1, sizeof *out->ids);
        out->ids[out->n_ids++] = event->token;
    } else if (event->kind == EYRIE_EVENT_END) {
        out->end = event->end;
    }
    if (!out->json) {
        stream(out, event);
    } else if (event->text_length) {
        cli_grow(&out->text, &out->text_capacity, out->length + event->text_length, 1);
        memcpy(out->text + out->length, event->text, event->text_length);
        out->length += event->text_length;
    }
}

static void print_json(const output *out, const cli_options *o)
{
    const cli_session *s = out->session;
    json_t *object = json_object(), *ids = json_array();
    const char *device = eyrie_device_name(s->device);
    const char *const ends[] = { "interrupted", [EYRIE_END_LENGTH] = "length", [EYRIE_END_EOS] = "eos",
                                 [EYRIE_END_CONTEXT] = "context", [EYRIE_END_STOP] = "stop" };

    for (size_t i = 0; i < out->n_ids; i++) cli_append(ids, json_integer(out->ids[i]));
    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "prompt_tokens", json_integer((json_int_t)s->n_tokens));
    cli_set(object, "tokens", ids);
    cli_set(object, "text", s->info.has_tokenizer ? cli_text(out->text ? out->text : "", out->length) : json_null());
    cli_set(object, "finish", json_string(ends[out->end]));
    cli_session_set_speed(s, object, true);
    cli_print_json(object);
}

/* Filters without a temperature mean temperature 1: what is most probable does not depend on them. */
static float temperature(const cli_options *o)
{
    bool filters = o->top_k || o->top_p > 0 || o->min_p > 0;
    return o->temperature >= 0 ? o->temperature : filters ? 1.0f : 0.0f;
}

int cli_run(const cli_options *o)
{
    cli_session session;
    output out = { .session = &session, .json = o->json };
    eyrie_request request = {
        .struct_size = sizeof request, .max_tokens = o->n, .seed = o->seed,
        .temperature = temperature(o), .top_k = (uint32_t)o->top_k, .top_p = o->top_p, .min_p = o->min_p,
        .repetition_penalty = o->repeat_penalty, .presence_penalty = o->presence_penalty,
        .frequency_penalty = o->frequency_penalty, .stops = o->stops.items, .n_stops = o->stops.n,
        .flags = o->ignore_eos ? EYRIE_IGNORE_EOS : 0, .on_event = on_event, .user = &out };
    int status = cli_session_open(&session, o);

    if (status == CLI_DONE) {
        status = cli_session_run(&session, &request);
        if (status != CLI_FAILED) {
            if (!out.end) end_line(&out);
            if (o->json) print_json(&out, o);
            else if (cli_flush()) cli_session_print_speed(&session, true);
        }
    }
    cli_session_close(&session);
    free(out.ids);
    free(out.text);
    return status;
}
