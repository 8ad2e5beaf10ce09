/* task.c - see task.h. */
#include "task.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { ID, TEXT, LIST, TEXT_OR_LIST, COUNT, NUMBER, FLAG } kind;

/* A key and where its value goes: const json_t * for the first four kinds, then uint64_t, float and bool. */
typedef struct key {
    const char *name;
    kind        kind;
    size_t      field;
    json_int_t  min, max;       /* of COUNT; the ranges of numbers are the library's to check */
} key;

#define TASK(name) offsetof(cli_task, name)
#define OPTION(name) offsetof(cli_task, options.name)

static const key keys[] = {
    { "id", ID, TASK(id), 0, 0 },
    { "prompt", TEXT, TASK(prompt), 0, 0 },
    { "tokens", LIST, TASK(tokens), 0, 0 },
    { "continuations", LIST, TASK(continuations), 0, 0 },
    { "logprobs", FLAG, TASK(logprobs), 0, 0 },
    { "n", COUNT, TASK(samples), 1, 65536 },
    { "max_tokens", COUNT, OPTION(n), 1, INT64_MAX },
    { "stop", TEXT_OR_LIST, TASK(stop), 0, 0 },
    { "ignore_eos", FLAG, OPTION(ignore_eos), 0, 0 },
    { "temperature", NUMBER, OPTION(temperature), 0, 0 },
    { "top_k", COUNT, OPTION(top_k), 0, UINT32_MAX },
    { "top_p", NUMBER, OPTION(top_p), 0, 0 },
    { "min_p", NUMBER, OPTION(min_p), 0, 0 },
    { "seed", COUNT, OPTION(seed), 0, INT64_MAX },
    { "repetition_penalty", NUMBER, OPTION(repeat_penalty), 0, 0 },
    { "presence_penalty", NUMBER, OPTION(presence_penalty), 0, 0 },
    { "frequency_penalty", NUMBER, OPTION(frequency_penalty), 0, 0 },
};

enum { KEYS = sizeof keys / sizeof *keys };

eyrie_status cli_task_wrong(eyrie_error *err, const char *format, ...)
{
    va_list args;

    *err = (eyrie_error){ .status = EYRIE_EINVAL };
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return err->status;
}

/* ------------------------------------------------------------------------------------------------------------ keys */

static bool is_of(kind wanted, const json_t *value)
{
    switch (wanted) {
    case ID: return json_is_string(value) || json_is_integer(value);
    case TEXT: return json_is_string(value);
    case LIST: return json_is_array(value) && json_array_size(value) > 0;
    case TEXT_OR_LIST: return json_is_string(value) || json_is_array(value);
    case COUNT: return json_is_integer(value);
    case NUMBER: return json_is_number(value);
    case FLAG: return json_is_boolean(value);
    }
    return false;
}

static const char *const what[] = {
    [ID] = "a text or a whole number", [TEXT] = "a text", [LIST] = "an array with something in it",
    [TEXT_OR_LIST] = "a text or an array of texts", [COUNT] = "a whole number", [NUMBER] = "a number",
    [FLAG] = "true or false",
};

static eyrie_status set(cli_task *t, const key *k, const json_t *value, eyrie_error *err)
{
    void *field = (char *)t + k->field;
    json_int_t n = json_integer_value(value);

    if (!is_of(k->kind, value)) return cli_task_wrong(err, "%s: not %s", k->name, what[k->kind]);
    switch (k->kind) {
    case COUNT:
        if (n < k->min || n > k->max)
            return cli_task_wrong(err, "%s %lld: not from %lld to %lld", k->name, (long long)n, (long long)k->min,
                                  (long long)k->max);
        *(uint64_t *)field = (uint64_t)n;
        break;
    case NUMBER:
        *(float *)field = (float)json_number_value(value);
        break;
    case FLAG:
        *(bool *)field = json_is_true(value);
        break;
    default:
        *(const json_t **)field = value;
    }
    return EYRIE_OK;
}

/* null is as good as not given. */
static eyrie_status set_all(cli_task *t, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    const char *name;
    json_t *value;

    json_object_foreach(t->object, name, value) {
        size_t i = 0;
        while (i < KEYS && strcmp(keys[i].name, name) != 0) i++;
        if (i == KEYS) return cli_task_wrong(err, "unknown key \"%.64s\"", name);
        if (!json_is_null(value) && (st = set(t, &keys[i], value, err)) != EYRIE_OK) return st;
    }
    return st;
}

/* ------------------------------------------------------------------------------------------------- what they mean */

static eyrie_status add_stop(cli_task *t, const json_t *stop, eyrie_error *err)
{
    cli_texts *stops = &t->options.stops;
    const char *text = json_string_value(stop);

    if (!text || !*text || strlen(text) != json_string_length(stop))
        return cli_task_wrong(err, "stop: not a text, an empty one, or one with a zero byte");
    cli_grow(&stops->items, &stops->capacity, stops->n + 1, sizeof *stops->items);
    stops->items[stops->n++] = text;
    return EYRIE_OK;
}

/* Instead of those of the command, which are borrowed. */
static eyrie_status set_stops(cli_task *t, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    t->options.stops = (cli_texts){ 0 };
    if (json_is_string(t->stop)) return add_stop(t, t->stop, err);
    for (size_t i = 0; i < json_array_size(t->stop) && st == EYRIE_OK; i++)
        st = add_stop(t, json_array_get(t->stop, i), err);
    return st;
}

static bool says(const cli_task *t, const char *name)
{
    const json_t *value = json_object_get(t->object, name);
    return value && !json_is_null(value);
}

static eyrie_status check(cli_task *t, const cli_options *defaults, eyrie_error *err)
{
    if (!t->prompt == !t->tokens) return cli_task_wrong(err, "one of \"prompt\" and \"tokens\" is needed");
    if (t->samples == 0 && !t->continuations) t->samples = defaults->samples ? defaults->samples : 1;
    t->options.samples = t->samples;
    if (says(t, "temperature") && t->options.temperature < 0)     /* which is "not given" to cli_request */
        return cli_task_wrong(err, "temperature %g: not from 0 up", (double)t->options.temperature);
    if (says(t, "temperature") || says(t, "top_k") || says(t, "top_p") || says(t, "min_p")) t->options.greedy = false;
    return t->stop ? set_stops(t, err) : EYRIE_OK;
}

eyrie_status cli_task_read(cli_task *t, const cli_options *defaults, const char *text, size_t length, eyrie_error *err)
{
    json_error_t where;
    eyrie_status st;

    *t = (cli_task){ .options = *defaults };
    t->object = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!t->object) return cli_task_wrong(err, "not JSON: %s at byte %d", where.text, where.position);
    if (!json_is_object(t->object)) return cli_task_wrong(err, "not a JSON object");
    st = set_all(t, err);
    return st == EYRIE_OK ? check(t, defaults, err) : st;
}

void cli_task_free(cli_task *t)
{
    if (t->stop) free(t->options.stops.items);
    json_decref(t->object);
    *t = (cli_task){ 0 };
}
