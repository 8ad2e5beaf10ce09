/* session.c - see session.h. */
#include "session.h"
#include "device.h"
#include "probing.h"
#include "terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --------------------------------------------------------------------------------------------------------- opening */

/* Where a state is to be saved in the end, a file can be made in the beginning. */
static int check_place(const char *path)
{
    cli_file f;
    struct stat there;
    int status;

    if (!path) return CLI_DONE;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return S_ISDIR(there.st_mode) ? cli_fail("%s: %s", path, strerror(EISDIR)) : CLI_DONE;
    status = cli_file_open(&f, path);
    (void)cli_file_close(&f, false);
    return status;
}

void cli_session_add_token(cli_session *s, int32_t token)
{
    cli_grow(&s->tokens, &s->capacity, s->n_tokens + 1, sizeof *s->tokens);
    s->tokens[s->n_tokens++] = token;
}

static int parse_tokens(cli_session *s, const cli_options *o)
{
    const char *p = o->tokens;
    char *end;

    for (;; p = end + 1) {
        int length = (int)strcspn(p, ",");
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || end != p + length || strchr(" \t\n\v\f\r+", *p))      /* which strtoll would take */
            return cli_wrong_usage(o->command, "--tokens: '%.*s' is not a token id; ids look like 2,5,9", length, p);
        if (errno || id < INT32_MIN || id > INT32_MAX)
            return cli_fail("--tokens: %.*s is outside of any vocabulary", length, p);
        cli_session_add_token(s, (int32_t)id);
        if (*end == '\0') return CLI_DONE;
    }
}

/* The prompt as it was given, before anything that takes time. */
static int read_prompt(cli_session *s, const cli_options *o)
{
    if (o->tokens) return parse_tokens(s, o);
    if (o->file || o->from_stdin) return cli_read(&s->text, &s->text_length, o->file);
    if (!o->text) return CLI_DONE;
    s->text_length = strlen(o->text);
    s->text = cli_resize(NULL, s->text_length + 1, 1);
    memcpy(s->text, o->text, s->text_length + 1);
    return CLI_DONE;
}

/* Most texts have fewer tokens than bytes; if this one has more, the second attempt has room. The library puts <bos> before
 * every text. */
eyrie_status cli_session_encode(cli_session *s, const char *text, size_t length, eyrie_error *err)
{
    size_t n = length + 1, room, bos = s->info.bos >= 0;
    int32_t *to;
    eyrie_status st;

    do {
        cli_grow(&s->tokens, &s->capacity, s->n_tokens + n, sizeof *s->tokens);
        to = s->tokens + s->n_tokens;
        room = s->capacity - s->n_tokens;
        if ((st = eyrie_encode(s->model, text, length, to, room, &n, err)) != EYRIE_OK) return st;
    } while (n > room);
    memmove(to, to + bos, (n - bos) * sizeof *to);
    s->n_tokens += n - bos;
    return EYRIE_OK;
}

int cli_session_add_text(cli_session *s, const char *text, size_t length)
{
    eyrie_error err;
    return cli_session_encode(s, text, length, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

static int open_sequence(cli_session *s, const cli_options *o)
{
    eyrie_error err;
    eyrie_status st = o->load_state ? eyrie_seq_load(&s->seq, s->engine, o->load_state, &err)
                                    : eyrie_seq_open(&s->seq, s->engine, &err);

    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    if (!s->text) return CLI_DONE;
    if (!o->load_state && s->info.bos >= 0) cli_session_add_token(s, s->info.bos);
    return cli_session_add_text(s, s->text, s->text_length);
}

/* Two lanes are two parts of the device: halves, or where it cannot be divided, two queues of all of it. The half that reads
 * is the larger one. */
static eyrie_status split_device(cli_session *s, eyrie_error *err)
{
    uint32_t units = cli_device_units(s->device), counts[2] = { units / 2, units - units / 2 };
    eyrie_status st = units > 1 ? eyrie_device_split(s->parts, 2, s->device, counts, err) : EYRIE_ELIMIT;

    if (st != EYRIE_ELIMIT) return st;
    fprintf(stderr, "eyrie: note: the device cannot be divided; its two lanes are two queues of all of it\n");
    return eyrie_device_split(s->parts, 2, s->device, NULL, err);
}

static eyrie_status open_models(cli_session *s, const cli_options *o, eyrie_error *err)
{
    eyrie_model_opts opts = cli_model_opts(o);
    cli_progress p = cli_progress_new();
    bool two = o->lanes == 2;
    eyrie_status st = two ? split_device(s, err) : EYRIE_OK;

    opts.progress = cli_progress_show;
    opts.progress_user = &p;
    if (st == EYRIE_OK) st = eyrie_model_open(&s->model, two ? s->parts[0] : s->device, o->model, &opts, err);
    opts.share = s->model;
    if (st == EYRIE_OK && two) st = eyrie_model_open(&s->reader, s->parts[1], o->model, &opts, err);
    cli_progress_wipe(&p);
    return st;
}

int cli_session_open_engine(cli_session *s, const cli_options *o, eyrie_device *device)
{
    eyrie_engine_opts how = cli_engine_opts(o);
    eyrie_error err;

    s->device = device;
    s->info.struct_size = sizeof s->info;
    if (open_models(s, o, &err) != EYRIE_OK || eyrie_model_get_info(s->model, &s->info, &err) != EYRIE_OK)
        return cli_fail("%s", err.text);
    how.prefill = s->reader;
    return eyrie_engine_open(&s->engine, s->model, &how, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

int cli_session_open(cli_session *s, const cli_options *o)
{
    eyrie_device *device;
    eyrie_error err;
    int status;

    *s = (cli_session){ .stop = false };
    if ((status = read_prompt(s, o)) != CLI_DONE || (status = cli_prepare(o)) != CLI_DONE
        || (status = check_place(o->save_state)) != CLI_DONE)
        return status;
    if (cli_device_open_probed(&device, o, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if ((status = cli_session_open_engine(s, o, device)) != CLI_DONE) return status;
    return open_sequence(s, o);
}

void cli_session_close(cli_session *s)
{
    (void)eyrie_seq_close(s->seq);
    (void)eyrie_engine_close(s->engine);
    (void)eyrie_model_close(s->reader);
    (void)eyrie_model_close(s->model);
    for (int i = 0; i < 2; i++) (void)eyrie_device_close(s->parts[i]);
    (void)eyrie_device_close(s->device);
    free(s->text);
    free(s->tokens);
}

/* --------------------------------------------------------------------------------------------------------- running */

/* How much of what there is to read, from position `first` to `end`, has been read. */
static void show_reading(cli_progress *p, const cli_session *s, uint64_t first, uint64_t end)
{
    uint64_t position = eyrie_seq_position(s->seq);

    if (position < end && cli_progress_due(p))
        fprintf(stderr, "\rreading: %" PRIu64 " of %" PRIu64 " tokens", position - first, end - first);
}

int cli_session_run(cli_session *s, eyrie_request *request)
{
    uint64_t first = eyrie_seq_position(s->seq), end = first + eyrie_seq_pending(s->seq, NULL) + s->n_tokens;
    cli_progress p = cli_progress_new();
    eyrie_status st;
    eyrie_error err;
    bool busy = true;

    request->tokens = s->tokens;
    request->n_tokens = s->n_tokens;
    cli_catch_signals(false);
    st = eyrie_seq_submit(s->seq, request, &err);
    while (st == EYRIE_OK && busy && !s->stop && !cli_caught()) {
        st = eyrie_engine_step(s->engine, &busy, &err);
        show_reading(&p, s, first, end);
    }
    cli_progress_wipe(&p);
    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    if (!busy) return CLI_DONE;
    (void)eyrie_seq_cancel(s->seq, NULL);
    while (busy && eyrie_engine_step(s->engine, &busy, NULL) == EYRIE_OK) continue;     /* a step may read for it */
    return cli_caught() ? 128 + cli_take_signal() : CLI_DONE;
}

int cli_session_save(const cli_session *s, const char *path)
{
    eyrie_error err;

    return eyrie_seq_save(s->seq, path, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

/* ----------------------------------------------------------------------------------------------------------- speed */

typedef struct speed {
    const char *name;
    uint64_t    tokens;
    double      seconds, rate;          /* tokens a second, 0 where there were none */
} speed;

/* Of prefill (0) and decode (1). The token that follows the prompt is the prefill's: decode makes those after it. */
static speed speed_of(const cli_session *s, int phase)
{
    eyrie_stats stats = { .struct_size = sizeof stats };
    speed v = { phase ? "decode" : "prefill", 0, 0, 0 };

    if (eyrie_engine_get_stats(s->engine, &stats, NULL) != EYRIE_OK) return v;
    v.tokens = phase ? stats.decode_tokens : stats.prefill_tokens;
    v.seconds = phase ? stats.decode_seconds : stats.prefill_seconds;
    if (v.seconds > 0) v.rate = (double)v.tokens / v.seconds;
    return v;
}

void cli_session_print_speed(const cli_session *s, bool decode)
{
    for (int phase = 0; phase <= decode; phase++) {
        speed v = speed_of(s, phase);
        fprintf(stderr, "%s%s: %" PRIu64 " token%s in %.3f s (%.*f tokens/s)", phase ? "   " : "", v.name, v.tokens,
                v.tokens == 1 ? "" : "s", v.seconds, v.rate < 100 ? 1 : 0, v.rate);
    }
    eyrie_stats stats = { .struct_size = sizeof stats };
    if (eyrie_engine_get_stats(s->engine, &stats, NULL) == EYRIE_OK && stats.prefix_tokens > 0)
        fprintf(stderr, "   from the prefix cache: %" PRIu64 " token%s", stats.prefix_tokens, stats.prefix_tokens == 1 ? "" : "s");
    fputc('\n', stderr);
}

void cli_session_set_speed(const cli_session *s, json_t *object, bool decode)
{
    for (int phase = 0; phase <= decode; phase++) {
        speed v = speed_of(s, phase);
        json_t *value = json_object();
        cli_set(value, "tokens", json_integer((json_int_t)v.tokens));
        cli_set(value, "seconds", cli_number(v.seconds));
        cli_set(value, "tokens_per_second", cli_number(v.rate));
        cli_set(object, v.name, value);
    }
    eyrie_stats stats = { .struct_size = sizeof stats };
    if (eyrie_engine_get_stats(s->engine, &stats, NULL) == EYRIE_OK)
        cli_set(object, "reused_tokens", json_integer((json_int_t)stats.reused_tokens));
}
