/* sample.c - see sample.h. */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

void cli_sample_free(cli_sample *s)
{
    free(s->ids);
    free(s->logprobs);
    free(s->text);
    *s = (cli_sample){ 0 };
}

void cli_sample_add_token(cli_sample *s, const eyrie_event *event)
{
    cli_grow(&s->ids, &s->ids_capacity, s->n + 1, sizeof *s->ids);
    cli_grow(&s->logprobs, &s->logprobs_capacity, s->n + 1, sizeof *s->logprobs);
    s->ids[s->n] = event->token;
    s->logprobs[s->n++] = event->logprob;
}

void cli_sample_add_text(cli_sample *s, const eyrie_event *event)
{
    if (event->text_length == 0) return;
    cli_grow(&s->text, &s->text_capacity, s->length + event->text_length, 1);
    memcpy(s->text + s->length, event->text, event->text_length);
    s->length += event->text_length;
}

double cli_sample_logprob(const cli_sample *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += (double)s->logprobs[i];
    return sum;
}

static void set_tokens(const cli_sample *s, json_t *object)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < s->n; i++) cli_append(ids, json_integer(s->ids[i]));
    cli_set(object, "tokens", ids);
}

static void set_logprobs(const cli_sample *s, json_t *object)
{
    json_t *logprobs = json_array();

    for (size_t i = 0; i < s->n; i++) cli_append(logprobs, cli_number((double)s->logprobs[i]));
    cli_set(object, "logprobs", logprobs);
}

void cli_sample_set(const cli_sample *s, bool has_tokenizer, bool logprobs, json_t *object)
{
    static const char *const ends[] = { [EYRIE_END_LENGTH] = "length", [EYRIE_END_EOS] = "eos", [EYRIE_END_STOP] = "stop",
                                        [EYRIE_END_CONTEXT] = "context", [EYRIE_END_CANCELLED] = "interrupted" };

    set_tokens(s, object);
    cli_set(object, "text", has_tokenizer ? cli_text(s->text ? s->text : "", s->length) : json_null());
    cli_set(object, "finish", s->end ? json_string(ends[s->end]) : json_null());
    if (logprobs) set_logprobs(s, object);
}

void cli_sample_set_scored(const cli_sample *s, bool logprobs, json_t *object)
{
    cli_set(object, "logprob", cli_number(cli_sample_logprob(s)));
    set_tokens(s, object);
    if (logprobs) set_logprobs(s, object);
}
