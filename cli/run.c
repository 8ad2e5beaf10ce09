/* run.c - `eyrie run`: a model continues a text. */
#include "commands.h"
#include "forks.h"
#include "sample.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct output {
    cli_session *session;
    bool         keep;          /* do not stream */
    cli_sample   sample;        /* its text where it is kept */
} output;

/* Text is the model's own and nothing else, but ids are a line, and on a terminal the shell goes on below. */
static void end_line(const output *out)
{
    if (!out->keep && (!out->session->info.has_tokenizer || isatty(STDOUT_FILENO) == 1)) cli_print("\n");
}

/* Whole characters as they come; without a tokenizer, ids with spaces between them. */
static void stream(const output *out, const eyrie_event *event)
{
    if (out->session->info.has_tokenizer) cli_write(event->text, event->text_length);
    else if (event->kind == EYRIE_EVENT_TOKEN) cli_print("%s%ld", out->sample.n > 1 ? " " : "", (long)event->token);
    if (event->kind == EYRIE_EVENT_END) end_line(out);
    if (!cli_flush()) out->session->stop = true;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    output *out = user;

    (void)seq;
    if (event->kind == EYRIE_EVENT_TOKEN) cli_sample_add_token(&out->sample, event);
    else if (event->kind == EYRIE_EVENT_END) out->sample.end = event->end;
    if (out->keep) cli_sample_add_text(&out->sample, event);
    else stream(out, event);
}

/* One text, or the list of all samples. */
static void print_json(const output *list, size_t n, const cli_options *o)
{
    const cli_session *s = list->session;
    json_t *object = json_object(), *samples = n > 1 ? json_array() : NULL;
    const char *device = eyrie_device_name(s->device);

    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "matrix_unit", json_boolean(s->info.matrix_unit));
    cli_set(object, "prompt_tokens", json_integer((json_int_t)s->n_tokens));
    if (!samples) cli_sample_set(&list[0].sample, s->info.has_tokenizer, false, object);
    for (size_t i = 0; i < n && samples; i++) {
        json_t *sample = json_object();
        cli_sample_set(&list[i].sample, s->info.has_tokenizer, false, sample);
        cli_append(samples, sample);
    }
    if (samples) cli_set(object, "samples", samples);
    cli_session_set_speed(s, object, true);
    cli_print_json(object);
}

/* A heading for each, since texts have lines of their own. */
static void print_samples(const output *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const cli_sample *sample = &list[i].sample;
        cli_print("%s--- %zu of %zu\n", i ? "\n" : "", i + 1, n);
        if (list[i].session->info.has_tokenizer) cli_write(sample->text, sample->length);
        for (size_t k = 0; k < sample->n && !list[i].session->info.has_tokenizer; k++)
            cli_print("%s%ld", k ? " " : "", (long)sample->ids[k]);
    }
    cli_print("\n");
}

/* All samples, as they were asked for. */
typedef struct all {
    output       *list;
    eyrie_request request;
} all;

static void describe(void *user, size_t i, eyrie_request *r)
{
    all *a = user;

    *r = a->request;
    r->sample = (uint32_t)i;
    r->on_event = on_event;
    r->user = &a->list[i];
}

int cli_run(const cli_options *o)
{
    cli_session session;
    size_t n = o->samples ? o->samples : 1;
    output *list = cli_resize(NULL, n, sizeof *list);
    all a = { list, cli_request(o) };
    int status = cli_session_open(&session, o);

    for (size_t i = 0; i < n; i++) list[i] = (output){ .session = &session, .keep = o->json || n > 1 };
    if (status == CLI_DONE && n > 1) {
        status = cli_session_run_forks(&session, n, describe, &a);
    } else if (status == CLI_DONE) {
        describe(&a, 0, &a.request);
        a.request.flags |= o->save_state ? EYRIE_HOLD_TEXT : 0;
        status = cli_session_run(&session, &a.request);
        if (status != CLI_FAILED && o->save_state && cli_flush() && cli_session_save(&session, o->save_state) != CLI_DONE)
            status = CLI_FAILED;
    }
    if (status != CLI_FAILED && session.engine) {
        if (o->json) print_json(list, n, o);
        else if (n > 1) print_samples(list, n);
        if (!o->json && cli_flush()) cli_session_print_speed(&session, true);
    }
    cli_session_close(&session);
    for (size_t i = 0; i < n; i++) cli_sample_free(&list[i].sample);
    free(list);
    return status;
}
