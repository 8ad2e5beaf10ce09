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
    eyrie_end    end;
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
    const char *const ends[] = { [EYRIE_END_LENGTH] = "length", [EYRIE_END_EOS] = "eos", [EYRIE_END_CONTEXT] = "context",
                                 [EYRIE_END_STOP] = "stop", [EYRIE_END_CANCELLED] = "interrupted" };

    for (size_t i = 0; i < out->n_ids; i++) cli_append(ids, json_integer(out->ids[i]));
    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "matrix_unit", json_boolean(s->info.matrix_unit));
    cli_set(object, "prompt_tokens", json_integer((json_int_t)s->n_tokens));
    cli_set(object, "tokens", ids);
    cli_set(object, "text", s->info.has_tokenizer ? cli_text(out->text ? out->text : "", out->length) : json_null());
    cli_set(object, "finish", json_string(ends[out->end]));
    cli_session_set_speed(s, object, true);
    cli_print_json(object);
}

int cli_run(const cli_options *o)
{
    cli_session session;
    output out = { .session = &session, .json = o->json };
    eyrie_request request = cli_request(o);
    int status = cli_session_open(&session, o);

    request.flags |= o->save_state ? EYRIE_HOLD_TEXT : 0;
    request.on_event = on_event;
    request.user = &out;

    if (status == CLI_DONE) {
        status = cli_session_run(&session, &request);
        if (status != CLI_FAILED) {
            if (o->save_state && cli_flush() && cli_session_save(&session, o->save_state) != CLI_DONE) status = CLI_FAILED;
            if (o->json) print_json(&out, o);
            else if (cli_flush()) cli_session_print_speed(&session, true);
        }
    }
    cli_session_close(&session);
    free(out.ids);
    free(out.text);
    return status;
}
