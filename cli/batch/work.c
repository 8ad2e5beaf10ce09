/* work.c - see work.h. */
#include "lines.h"
#include "sample.h"
#include "task.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>

/* What goes on from the prompt: a text that is generated, or, with tokens of its own, one that is scored. */
typedef struct part {
    eyrie_seq  *seq;            /* NULL: not begun, or closed */
    bool        over;
    int32_t    *tokens;         /* [n_tokens] */
    size_t      n_tokens;
    cli_sample  sample;
    eyrie_error *error;         /* the job's */
} part;

struct cli_job {
    cli_job   *next;
    cli_record record;
    cli_task   task;
    int32_t   *tokens;          /* [n_tokens] of the prompt */
    size_t     n_tokens;
    eyrie_seq *prompt;          /* NULL: it has still to be read, or the last part has taken it */
    bool       reading;
    part      *parts;           /* [n_parts], of which the first `begun` are running or over */
    size_t     n_parts, begun;
    size_t     closed;          /* the first of those are */
    eyrie_error error;          /* the first */
};

/* ---------------------------------------------------------------------------------------------------------- slots */

static size_t slots_of(const cli_work *w) { return w->session->info.slots; }

static bool is_begun(const cli_job *j) { return j->prompt || j->begun > 0; }

static size_t open_parts(const cli_job *j)
{
    size_t n = 0;
    for (size_t i = j->closed; i < j->begun; i++) n += j->parts[i].seq != NULL;
    return n;
}

static size_t open_sequences(const cli_work *w)
{
    size_t n = 0;
    for (const cli_job *j = w->jobs; j; j = j->next) n += (j->prompt != NULL) + open_parts(j);
    return n;
}

/* Slots that the job has, or must be able to get so as to end: a prompt that waits to be forked holds one, and without
 * another one for the fork it would wait for ever. Where there is but one slot the prompt is read for each part anew. */
static size_t claim(const cli_work *w, const cli_job *j)
{
    size_t open = (j->prompt != NULL) + open_parts(j), left = j->n_parts - j->begun;
    size_t least = left > 1 && slots_of(w) > 1 ? 2 : 1;

    return left > 0 && open < least ? least : open;
}

static size_t claims(const cli_work *w)
{
    size_t n = 0;
    for (const cli_job *j = w->jobs; j; j = j->next) n += is_begun(j) ? claim(w, j) : 0;
    return n;
}

/* ---------------------------------------------------------------------------------------------------------- adding */

static eyrie_status read_ids(cli_session *to, const json_t *ids, eyrie_error *err)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t n = json_integer_value(id);
        if (!json_is_integer(id) || n < INT32_MIN || n > INT32_MAX)
            return cli_task_wrong(err, "number %zu of a list of tokens is no token id", i);
        cli_session_add_token(to, (int32_t)n);
    }
    return EYRIE_OK;
}

/* The tokens of a text or a list of ids; a text that begins a sequence begins with <bos>. */
static eyrie_status read_tokens(const cli_work *w, const json_t *value, bool first, int32_t **tokens, size_t *n,
                                eyrie_error *err)
{
    cli_session only = { .model = w->session->model, .info = w->session->info };
    const char *text = json_string_value(value);
    eyrie_status st;

    if (first && text && only.info.bos >= 0) cli_session_add_token(&only, only.info.bos);
    if (json_is_array(value)) st = read_ids(&only, value, err);
    else if (text) st = cli_session_encode(&only, text, json_string_length(value), err);
    else st = cli_task_wrong(err, "continuations: what is neither a text nor a list of tokens");
    *tokens = only.tokens;
    *n = only.n_tokens;
    return st;
}

static eyrie_status prepare(const cli_work *w, cli_job *j, const cli_order *order, eyrie_error *err)
{
    const cli_task *t = &j->task;
    eyrie_status st;

    if (order->cut) return cli_task_wrong(err, "longer than %d bytes", CLI_MOST_LINE);
    if ((st = cli_task_read(&j->task, w->options, order->text, order->length, err)) != EYRIE_OK
        || (st = read_tokens(w, t->prompt ? t->prompt : t->tokens, true, &j->tokens, &j->n_tokens, err)) != EYRIE_OK)
        return st;
    j->n_parts = t->samples + json_array_size(t->continuations);
    j->parts = cli_resize(NULL, j->n_parts, sizeof *j->parts);
    memset(j->parts, 0, j->n_parts * sizeof *j->parts);
    for (size_t i = 0; i < j->n_parts && st == EYRIE_OK; i++) {
        part *p = &j->parts[i];
        p->error = err;
        if (i < t->samples) continue;
        st = read_tokens(w, json_array_get(t->continuations, i - t->samples), false, &p->tokens, &p->n_tokens, err);
        if (st == EYRIE_OK && p->n_tokens == 0)
            st = cli_task_wrong(err, "continuations: an empty text has no probability");
    }
    return st;
}

void cli_work_add(cli_work *w, const cli_order *order)
{
    cli_job *j = cli_resize(NULL, 1, sizeof *j), **at = &w->jobs;

    *j = (cli_job){ .record = { .place = order->place, .line = order->line, .hash = order->hash } };
    (void)prepare(w, j, order, &j->error);
    while (*at) at = &(*at)->next;
    *at = j;
}

size_t cli_work_count(const cli_work *w)
{
    size_t n = 0;
    for (const cli_job *j = w->jobs; j; j = j->next) n++;
    return n;
}

bool cli_work_has_room(const cli_work *w)
{
    for (const cli_job *j = w->jobs; j; j = j->next)
        if (!is_begun(j)) return false;
    return claims(w) < slots_of(w);
}

/* -------------------------------------------------------------------------------------------------------- carrying out */

static void on_read(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    cli_job *j = user;

    (void)seq;
    if (event->kind != EYRIE_EVENT_END) return;
    j->reading = false;
    if (event->error && j->error.status == EYRIE_OK) j->error = *event->error;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    part *p = user;

    (void)seq;
    if (event->kind != EYRIE_EVENT_END) cli_sample_add_token(&p->sample, event);
    cli_sample_add_text(&p->sample, event);
    if (event->kind != EYRIE_EVENT_END) return;
    p->over = true;
    p->sample.end = event->end;
    if (event->error && p->error->status == EYRIE_OK) *p->error = *event->error;
}

static eyrie_status begin_prompt(const cli_work *w, cli_job *j)
{
    eyrie_request r = { .struct_size = sizeof r, .tokens = j->tokens, .n_tokens = j->n_tokens,
                        .flags = EYRIE_KEEP_LOGITS, .on_event = on_read, .user = j };
    eyrie_status st = eyrie_seq_open(&j->prompt, w->session->engine, &j->error);

    if (st == EYRIE_OK) st = eyrie_seq_submit(j->prompt, &r, &j->error);
    j->reading = st == EYRIE_OK;
    return st;
}

static eyrie_request request_of(const cli_job *j, size_t i)
{
    part *p = &j->parts[i];
    eyrie_request r = cli_request(&j->task.options);

    if (i >= j->task.samples)
        r = (eyrie_request){ .struct_size = sizeof r, .tokens = p->tokens, .n_tokens = p->n_tokens,
                             .flags = EYRIE_SCORE };
    r.sample = (uint32_t)i;
    r.on_event = on_event;
    r.user = p;
    return r;
}

/* The last part takes the prompt's own sequence. */
static eyrie_status begin_part(cli_job *j, bool last)
{
    part *p = &j->parts[j->begun];
    eyrie_request r = request_of(j, j->begun);
    eyrie_status st = EYRIE_OK;

    j->begun++;
    if (last) {
        p->seq = j->prompt;
        j->prompt = NULL;
    } else {
        st = eyrie_seq_fork(&p->seq, j->prompt, &j->error);
    }
    return st == EYRIE_OK ? eyrie_seq_submit(p->seq, &r, &j->error) : st;
}

/* One text from a prompt is a request like any other, prompt and all. */
static eyrie_status begin_whole(const cli_work *w, cli_job *j)
{
    eyrie_request r = request_of(j, 0);
    part *p = &j->parts[j->begun++];
    eyrie_status st = eyrie_seq_open(&p->seq, w->session->engine, &j->error);

    r.tokens = j->tokens;
    r.n_tokens = j->n_tokens;
    return st == EYRIE_OK ? eyrie_seq_submit(p->seq, &r, &j->error) : st;
}

/* Begins what of the job can begin. What is wrong with it is in j->error then. */
static void advance(const cli_work *w, cli_job *j)
{
    size_t slots = slots_of(w);
    eyrie_status st = j->error.status;

    if (st == EYRIE_OK && !is_begun(j)) {
        if (claims(w) + claim(w, j) > slots) return;
        st = j->n_parts == 1 && j->task.samples ? begin_whole(w, j) : begin_prompt(w, j);
    } else if (st == EYRIE_OK && !j->prompt && j->begun < j->n_parts && open_parts(j) == 0) {
        st = begin_prompt(w, j);        /* there is one slot, and the part before had it */
    }
    while (st == EYRIE_OK && j->prompt && !j->reading && j->begun < j->n_parts) {
        bool last = slots == 1 || j->begun + 1 == j->n_parts;
        if (!last && open_sequences(w) >= slots) return;
        st = begin_part(j, last);
    }
}

static void close_sequence(eyrie_seq **seq)
{
    (void)eyrie_seq_close(*seq);
    *seq = NULL;
}

/* Those that are over, and all of a job with which something is wrong. */
static void close_sequences(cli_job *j)
{
    bool all = j->error.status != EYRIE_OK;

    if (all) close_sequence(&j->prompt);
    for (size_t i = j->closed; i < j->begun; i++)
        if (all || j->parts[i].over) close_sequence(&j->parts[i].seq);
    while (j->closed < j->begun && !j->parts[j->closed].seq) j->closed++;
}

/* Is it the line's own fault? Else it is no answer to the line, and another start may do better. */
static bool is_of_line(eyrie_status st) { return st == EYRIE_EINVAL || st == EYRIE_ELIMIT || st == EYRIE_ENUMERIC; }

int cli_work_step(cli_work *w)
{
    eyrie_error err = { .status = EYRIE_OK };
    bool busy;

    for (cli_job *j = w->jobs; j; j = j->next) {
        advance(w, j);
        close_sequences(j);
    }
    if (open_sequences(w) > 0) (void)eyrie_engine_step(w->session->engine, &busy, &err);
    for (cli_job *j = w->jobs; j; j = j->next) {
        close_sequences(j);
        if (j->error.status != EYRIE_OK && !is_of_line(j->error.status)) err = j->error;
    }
    return err.status == EYRIE_OK || is_of_line(err.status) ? CLI_DONE : cli_fail("%s", err.text);
}

/* --------------------------------------------------------------------------------------------------------- records */

static bool is_over(const cli_job *j)
{
    return j->error.status != EYRIE_OK || (j->begun == j->n_parts && open_parts(j) == 0);
}

static json_t *answers(const cli_work *w, const cli_job *j, bool scored)
{
    size_t samples = j->task.samples, first = scored ? samples : 0, end = scored ? j->n_parts : samples;
    json_t *array = json_array();

    for (size_t i = first; i < end; i++) {
        json_t *object = json_object();
        if (scored) cli_sample_set_scored(&j->parts[i].sample, j->task.logprobs, object);
        else cli_sample_set(&j->parts[i].sample, w->session->info.has_tokenizer, j->task.logprobs, object);
        cli_append(array, object);
    }
    return array;
}

/* Tokens of the prompt, and those that were generated. */
static json_t *usage(const cli_job *j)
{
    json_t *object = json_object();
    size_t generated = 0;

    for (size_t i = 0; i < j->task.samples; i++) generated += j->parts[i].sample.n;
    cli_set(object, "prompt_tokens", json_integer((json_int_t)j->n_tokens));
    cli_set(object, "completion_tokens", json_integer((json_int_t)generated));
    return object;
}

/* `error` comes first, where the journal looks for it. */
static json_t *describe(const cli_work *w, const cli_job *j)
{
    json_t *object = json_object();

    if (j->error.status != EYRIE_OK) cli_set(object, "error", cli_text(j->error.text, strlen(j->error.text)));
    if (j->task.id) cli_set(object, "id", json_deep_copy(j->task.id));
    if (j->error.status != EYRIE_OK) return object;
    if (j->task.samples) cli_set(object, "samples", answers(w, j, false));
    if (j->task.continuations) cli_set(object, "continuations", answers(w, j, true));
    cli_set(object, "usage", usage(j));
    return object;
}

static void free_job(cli_job *j)
{
    close_sequence(&j->prompt);
    for (size_t i = 0; i < j->n_parts && j->parts; i++) {
        close_sequence(&j->parts[i].seq);
        free(j->parts[i].tokens);
        cli_sample_free(&j->parts[i].sample);
    }
    free(j->parts);
    free(j->tokens);
    cli_task_free(&j->task);
    free(j);
}

bool cli_work_take(cli_work *w, cli_record *record)
{
    cli_job **at = &w->jobs, *j;

    while (*at && !is_over(*at)) at = &(*at)->next;
    if (!(j = *at)) return false;
    *at = j->next;
    *record = j->record;
    record->failed = j->error.status != EYRIE_OK;
    record->text = cli_json_text(describe(w, j), &record->length);
    free_job(j);
    return true;
}

void cli_work_close(cli_work *w)
{
    for (cli_job *j; (j = w->jobs); free_job(j)) w->jobs = j->next;
}
