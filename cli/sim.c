/* sim.c - `eyrie sim`: the scheduler on devices that are numbers, with requests that are recorded or drawn. */
#include "commands.h"
#include "terminal.h"

#include <eyrie/eyrie_tools.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers with a decimal suffix: "4.8T", "20u". */
static bool parse_amount(const char *text, size_t length, double *out)
{
    static const struct { char suffix; double factor; } suffixes[] = {
        { 'u', 1e-6 }, { 'm', 1e-3 }, { 'k', 1e3 }, { 'K', 1e3 }, { 'M', 1e6 }, { 'G', 1e9 }, { 'T', 1e12 }, { 'P', 1e15 },
    };
    char number[40], *end;
    double factor = 1;

    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, text, length);
    number[length] = '\0';
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (number[length - 1] == suffixes[i].suffix) {
            factor = suffixes[i].factor;
            number[length - 1] = '\0';
        }
    if (!*number || number[strspn(number, "0123456789.eE+-")]) return false;
    *out = strtod(number, &end) * factor;
    return *end == '\0' && isfinite(*out) && *out >= 0;
}

/* ---------------------------------------------------------------------------------------------------------- devices */

/* "bandwidth=60G,flops=2T,memory=24G,link=10G,count=4,phase=prefill" */
static int parse_device(const cli_options *o, const char *text, eyrie_sim_device *d)
{
    static const char *const keys = "bandwidth, flops, prefill-flops, decode-flops, launch, memory, link, count and phase";
    bool decode_said = false;

    *d = (eyrie_sim_device){ .count = 1, .prefill = true, .decode = true };
    for (const char *at = text; ; at++) {
        size_t key = strcspn(at, "=,"), value;
        const struct { const char *name; double *to; } amounts[] = {
            { "bandwidth", &d->bandwidth }, { "prefill-flops", &d->prefill_flops }, { "decode-flops", &d->decode_flops },
            { "flops", &d->prefill_flops }, { "launch", &d->launch },               { "memory", &d->memory }, { "link", &d->link },
        };
        const char *said = at + key + 1;
        double number = 0;
        bool known = false;

        if (at[key] != '=') return cli_wrong_usage(o->command, "--on: '%.*s' has no value; a device has %s", (int)key, at, keys);
        value = strcspn(said, ",");
        for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
            if (strlen(amounts[i].name) != key || strncmp(at, amounts[i].name, key) != 0) continue;
            known = true;
            if (!parse_amount(said, value, &number))
                return cli_wrong_usage(o->command, "--on: %.*s=%.*s is no number such as 60G", (int)key, at, (int)value, said);
            *amounts[i].to = number;
            if (strcmp(amounts[i].name, "flops") == 0 && !decode_said) d->decode_flops = number;
            if (strcmp(amounts[i].name, "decode-flops") == 0) decode_said = true;
        }
        if (!known && key == 5 && strncmp(at, "count", key) == 0) {
            known = true;
            if (!parse_amount(said, value, &number) || number != floor(number) || number < 1 || number > 65536)
                return cli_wrong_usage(o->command, "--on: count=%.*s; it has to be a whole number from 1 to 65536", (int)value, said);
            d->count = (uint32_t)number;
        } else if (!known && key == 5 && strncmp(at, "phase", key) == 0) {
            known = true;
            d->prefill = value == 7 && strncmp(said, "prefill", value) == 0;
            d->decode = value == 6 && strncmp(said, "decode", value) == 0;
            if (value == 4 && strncmp(said, "both", value) == 0) d->prefill = d->decode = true;
            if (!d->prefill && !d->decode)
                return cli_wrong_usage(o->command, "--on: phase=%.*s; it has to be prefill, decode or both", (int)value, said);
        }
        if (!known) return cli_wrong_usage(o->command, "--on: there is no '%.*s'; a device has %s", (int)key, at, keys);
        at = said + value;
        if (*at == '\0') return CLI_DONE;
    }
}

/* --------------------------------------------------------------------------------------------------------- requests */

/* Numbers of tokens: N, A-B (each as probable), or N~S (lognormal: half are below N, S is the deviation of the logarithm). */
typedef struct lengths {
    double low, high, sigma;
} lengths;

typedef struct requests {
    const cli_options *o;
    FILE    *file;          /* recorded ones; NULL: drawn */
    uint64_t line, left, dice;
    double   now;
    lengths  prompt, output;
    int      status;        /* CLI_DONE, or what reading them came to */
} requests;

static int parse_lengths(const cli_options *o, const char *option, const char *text, lengths *l)
{
    size_t first = strcspn(text, "-~");
    bool right = parse_amount(text, first, &l->low);

    l->high = l->low;
    l->sigma = 0;
    if (right && text[first] == '-') right = parse_amount(text + first + 1, strlen(text + first + 1), &l->high);
    if (right && text[first] == '~') right = parse_amount(text + first + 1, strlen(text + first + 1), &l->sigma) && l->sigma <= 5;
    if (right && l->low >= 1 && l->high >= l->low && l->high <= 1e9) return CLI_DONE;
    return cli_wrong_usage(o->command, "%s: '%s' is no number of tokens; 512, 100-2000 and 512~0.8 are", option, text);
}

/* Evenly from (0, 1): splitmix64. */
static double chance(requests *r)
{
    uint64_t z = r->dice += 0x9E3779B97F4A7C15ull;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static uint64_t draw(requests *r, const lengths *l)
{
    double n = floor(l->low + chance(r) * (l->high - l->low + 1));

    if (l->sigma > 0) n = round(l->low * exp(l->sigma * sqrt(-2 * log(chance(r))) * cos(6.283185307179586 * chance(r))));
    return (uint64_t)fmin(fmax(n, 1), l->sigma > 0 ? 1e9 : l->high);
}

/* A line of the file: seconds, tokens to read, tokens to generate, and perhaps a priority, with commas between. */
static bool read_request(requests *r, eyrie_arrival *next)
{
    char line[256], *at;

    do {
        if (!fgets(line, sizeof line, r->file)) {
            if (ferror(r->file)) r->status = cli_fail("%s: %s", r->o->file, strerror(errno));
            return false;
        }
        r->line++;
        line[strcspn(line, "\r\n")] = '\0';
        at = line + strspn(line, " \t");
    } while (*at == '\0' || *at == '#');

    double numbers[4] = { 0 };
    size_t n = 0;
    for (; n < 4; at++) {
        size_t length = strcspn(at, ",");
        while (length && *at == ' ') at++, length--;
        if (!parse_amount(at, length, &numbers[n])) break;
        at += length;
        n++;
        if (*at == '\0') break;
    }
    if (n >= 3 && *at == '\0' && numbers[1] == floor(numbers[1]) && numbers[2] == floor(numbers[2]) && numbers[1] >= 1 && numbers[2] >= 1
        && numbers[1] <= 1e9 && numbers[2] <= 1e9 && numbers[3] <= 1e6) {
        *next = (eyrie_arrival){ .seconds = numbers[0], .prompt = (uint64_t)numbers[1], .output = (uint64_t)numbers[2],
                                 .priority = (int32_t)numbers[3] };
        return true;
    }
    r->status = cli_fail("%s, line %" PRIu64 ": no request; one looks like 0.25,512,100: seconds, tokens to read and to generate, "
                         "and perhaps a priority", r->o->file, r->line);
    return false;
}

static bool next_request(void *user, eyrie_arrival *next)
{
    requests *r = user;

    if (r->file) return read_request(r, next);
    if (r->left == 0) return false;
    r->left--;
    if (r->o->rate > 0) r->now -= log(chance(r)) / (double)r->o->rate;     /* else they are all there from the beginning */
    *next = (eyrie_arrival){ .seconds = r->now, .prompt = draw(r, &r->prompt), .output = draw(r, &r->output) };
    return true;
}

static int open_requests(requests *r, const cli_options *o)
{
    int status;

    *r = (requests){ .o = o, .left = o->requests ? o->requests : 10000, .dice = o->seed };
    if (o->file) {
        if (o->rate > 0 || o->requests) return cli_wrong_usage(o->command, "-f FILE says which requests come; it leaves nothing to --rate and --requests");
        r->file = fopen(o->file, "r");
        return r->file ? CLI_DONE : cli_fail("%s: %s", o->file, strerror(errno));
    }
    if ((status = parse_lengths(o, "--prompt-tokens", o->prompt_tokens ? o->prompt_tokens : "512", &r->prompt)) != CLI_DONE) return status;
    return parse_lengths(o, "--output-tokens", o->output_tokens ? o->output_tokens : "128", &r->output);
}

/* ----------------------------------------------------------------------------------------------------------- report */

static void print_spread(const char *what, const eyrie_spread *s)
{
    cli_print("%-21s %10.4g  %10.4g  %10.4g  %10.4g  %10.4g\n", what, 1e3 * s->mean, 1e3 * s->p50, 1e3 * s->p95, 1e3 * s->p99, 1e3 * s->most);
}

static void print_report(const eyrie_sim_report *r)
{
    cli_print("%" PRIu64 " requests in %.4g s: %.4g a second, %.4g tokens/s generated, %.4g tokens/s read\n", r->requests, r->seconds,
              (double)r->requests / r->seconds, (double)r->tokens / r->seconds, (double)r->prompt_tokens / r->seconds);
    cli_print("\nms                          mean         p50         p95         p99        most\n");
    print_spread("to the first token", &r->first_token);
    print_spread("between tokens", &r->between_tokens);
    print_spread("to the last token", &r->whole);
    cli_print("\ndevices        busy %.1f %% of the time; at their peaks they would compute %.1f %%, move bytes %.1f %%\n", 100 * r->busy,
              100 * r->arithmetic, 100 * r->memory);
    cli_print("slots          %" PRIu32 " a device; %" PRIu64 " requests without one at the worst moment\n", r->slots, r->most_waiting);
    cli_print("steps          %" PRIu64 " of prefill, %" PRIu64 " of decode\n", r->prefill_steps, r->decode_steps);
    if (r->handovers) cli_print("handed over    %" PRIu64 " states, %.4g ms each on average\n", r->handovers, 1e3 * r->handover_seconds);
}

static json_t *spread_object(const eyrie_spread *s)
{
    json_t *object = json_object();

    cli_set(object, "n", json_integer((json_int_t)s->n));
    cli_set(object, "mean", cli_number(s->mean));
    cli_set(object, "p50", cli_number(s->p50));
    cli_set(object, "p95", cli_number(s->p95));
    cli_set(object, "p99", cli_number(s->p99));
    cli_set(object, "most", cli_number(s->most));
    return object;
}

static void print_json(const cli_options *o, const eyrie_sim_report *r)
{
    json_t *object = json_object(), *devices = json_array();

    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "policy", json_string(o->policy ? o->policy : "roofline"));
    for (size_t i = 0; i < o->on.n; i++) cli_append(devices, cli_text(o->on.items[i], strlen(o->on.items[i])));
    cli_set(object, "devices", devices);
    cli_set(object, "requests", json_integer((json_int_t)r->requests));
    cli_set(object, "prompt_tokens", json_integer((json_int_t)r->prompt_tokens));
    cli_set(object, "tokens", json_integer((json_int_t)r->tokens));
    cli_set(object, "seconds", cli_number(r->seconds));
    cli_set(object, "first_token", spread_object(&r->first_token));
    cli_set(object, "between_tokens", spread_object(&r->between_tokens));
    cli_set(object, "whole", spread_object(&r->whole));
    cli_set(object, "busy", cli_number(r->busy));
    cli_set(object, "arithmetic", cli_number(r->arithmetic));
    cli_set(object, "memory", cli_number(r->memory));
    cli_set(object, "prefill_steps", json_integer((json_int_t)r->prefill_steps));
    cli_set(object, "decode_steps", json_integer((json_int_t)r->decode_steps));
    cli_set(object, "handovers", json_integer((json_int_t)r->handovers));
    cli_set(object, "handover_seconds", cli_number(r->handover_seconds));
    cli_set(object, "most_waiting", json_integer((json_int_t)r->most_waiting));
    cli_set(object, "slots", json_integer(r->slots));
    cli_print_json(object);
}

/* ---------------------------------------------------------------------------------------------------------- command */

int cli_sim(const cli_options *o)
{
    eyrie_model_opts model_opts = cli_model_opts(o);
    eyrie_sim_device *devices = cli_resize(NULL, o->on.n + 1, sizeof *devices);
    cli_progress progress = cli_progress_new();
    requests from = { .file = NULL };
    eyrie_sim_opts sim = { .model = o->model, .model_opts = &model_opts, .devices = devices, .n_devices = o->on.n, .policy = o->policy,
                           .token_interval = (double)o->token_interval, .rows = (uint32_t)o->rows, .arrivals = next_request, .user = &from,
                           .progress = cli_progress_show, .progress_user = &progress };
    eyrie_sim_report report;
    eyrie_error err;
    int status = CLI_DONE;

    if (o->on.n == 0) status = cli_wrong_usage(o->command, "a device is missing: --on bandwidth=60G,flops=2T,memory=24G");
    for (size_t i = 0; i < o->on.n && status == CLI_DONE; i++) status = parse_device(o, o->on.items[i], &devices[i]);
    if (status == CLI_DONE) status = open_requests(&from, o);
    if (status == CLI_DONE) {
        sim.expected = from.file ? 0 : from.left;
        eyrie_status st = eyrie_simulate(&sim, &report, &err);
        cli_progress_wipe(&progress);
        if (from.status != CLI_DONE) status = from.status;
        else if (st != EYRIE_OK) status = cli_fail("%s", err.text);
        else if (report.requests == 0) status = cli_fail("%s: there are no requests in it", o->file);
        else if (o->json) print_json(o, &report);
        else print_report(&report);
    }
    if (from.file) fclose(from.file);
    free(devices);
    return status;
}
