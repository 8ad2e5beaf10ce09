/* requests.c - see requests.h. */
#include "requests.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool cli_parse_amount(const char *text, size_t length, double *out)
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

/* -------------------------------------------------------------------------------------------------------- scenarios */

static const char *const scenarios[] = { [CLI_SERVER] = "server", [CLI_OFFLINE] = "offline", [CLI_SINGLE] = "single" };

const char *cli_scenario_name(cli_scenario scenario) { return scenarios[scenario]; }

cli_scenario cli_scenario_of(const cli_options *o)
{
    for (cli_scenario s = CLI_SERVER; o->scenario && s <= CLI_SINGLE; s++)
        if (strcmp(o->scenario, scenarios[s]) == 0) return s;
    return o->file || o->rate > 0 || o->search ? CLI_SERVER : CLI_OFFLINE;
}

int cli_check_scenario(const cli_options *o)
{
    bool server = cli_scenario_of(o) == CLI_SERVER;

    if (o->file && (o->rate > 0 || o->requests || o->search))
        return cli_wrong_usage(o->command, "%s says which requests come; it leaves nothing to --rate, --requests and --search",
                               o->file);
    if (!server && (o->rate > 0 || o->search))
        return cli_wrong_usage(o->command, "--rate and --search are of the scenario server, not %s", o->scenario);
    if (server && !o->file && !(o->rate > 0) && !o->search)
        return cli_wrong_usage(o->command, "when do requests come? --rate R, --search or --arrivals FILE says it");
    if (o->search && !(o->first_limit > 0) && !(o->between_limit > 0))
        return cli_wrong_usage(o->command, "--search needs a limit: --first-token S, --between-tokens S, or both");
    if (!o->search && (o->first_limit > 0 || o->between_limit > 0))
        return cli_wrong_usage(o->command, "--first-token and --between-tokens are limits of --search");
    return CLI_DONE;
}

/* ----------------------------------------------------------------------------------------------------------- drawing */

static int parse_lengths(const cli_options *o, const char *option, const char *text, cli_lengths *l)
{
    size_t first = strcspn(text, "-~");
    const char *second = text + first + (text[first] != '\0');
    bool right = cli_parse_amount(text, first, &l->low);

    l->high = l->low;
    l->sigma = 0;
    if (right && text[first] == '-') right = cli_parse_amount(second, strlen(second), &l->high);
    if (right && text[first] == '~') right = cli_parse_amount(second, strlen(second), &l->sigma) && l->sigma <= 5;
    if (right && l->low >= 1 && l->high >= l->low && l->high <= 1e9) return CLI_DONE;
    return cli_wrong_usage(o->command, "%s: '%s' is no number of tokens; 512, 100-2000 and 512~0.8 are", option, text);
}

/* Evenly from (0, 1): splitmix64. */
static double chance(cli_requests *r)
{
    uint64_t z = r->dice += 0x9E3779B97F4A7C15ull;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static uint64_t draw(cli_requests *r, const cli_lengths *l)
{
    double n = floor(l->low + chance(r) * (l->high - l->low + 1));

    if (l->sigma > 0) n = round(l->low * exp(l->sigma * sqrt(-2 * log(chance(r))) * cos(6.283185307179586 * chance(r))));
    return (uint64_t)fmin(fmax(n, 1), l->sigma > 0 ? 1e9 : l->high);
}

/* ------------------------------------------------------------------------------------------------------------- files */

/* A line: seconds, tokens to read, tokens to generate, and perhaps a priority, with commas between. */
static bool parse_request(const char *at, eyrie_arrival *next)
{
    double numbers[4] = { 0 };
    size_t n = 0;

    for (; n < 4; at++) {
        size_t length = strcspn(at, ",");
        while (length && *at == ' ') at++, length--;
        if (!cli_parse_amount(at, length, &numbers[n])) break;
        at += length;
        n++;
        if (*at == '\0') break;
    }
    *next = (eyrie_arrival){ .seconds = numbers[0], .prompt = (uint64_t)fmin(numbers[1], 2e9),
                             .output = (uint64_t)fmin(numbers[2], 2e9), .priority = (int32_t)fmin(numbers[3], 2e6) };
    return n >= 3 && *at == '\0' && numbers[1] == floor(numbers[1]) && numbers[2] == floor(numbers[2]) && numbers[1] >= 1
           && numbers[2] >= 1 && numbers[1] <= 1e9 && numbers[2] <= 1e9 && numbers[3] <= 1e6;
}

static bool read_request(cli_requests *r, eyrie_arrival *next)
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

    if (!parse_request(at, next)) {
        r->status = cli_fail("%s, line %" PRIu64 ": no request; one looks like 0.25,512,100: seconds, tokens to read and to "
                             "generate, and perhaps a priority", r->o->file, r->line);
        return false;
    }
    if (next->seconds < r->now) {
        r->status = cli_fail("%s, line %" PRIu64 ": a request at %g s, which is before the one before it, at %g s", r->o->file,
                             r->line, next->seconds, r->now);
        return false;
    }
    r->now = next->seconds;
    return true;
}

int cli_requests_write(cli_file *f, const eyrie_arrival *list, size_t n)
{
    static const char head[] = "# seconds,tokens to read,tokens to generate,priority\n";
    char line[128];
    bool right = cli_file_write(f, head, sizeof head - 1);

    for (size_t i = 0; i < n && right; i++) {
        const eyrie_arrival *a = &list[i];
        int length = snprintf(line, sizeof line, "%.9f,%" PRIu64 ",%" PRIu64 ",%" PRId32 "\n", a->seconds, a->prompt, a->output,
                              a->priority);
        right = cli_file_write(f, line, (size_t)length);
    }
    return cli_file_close(f, true);
}

/* ------------------------------------------------------------------------------------------------------------ coming */

bool cli_requests_next(void *user, eyrie_arrival *next)
{
    cli_requests *r = user;

    if (r->file && !read_request(r, next)) return false;
    if (!r->file) {
        if (r->left == 0) return false;
        r->left--;
        if (r->rate > 0) r->now -= log(chance(r)) / r->rate;
        *next = (eyrie_arrival){ .seconds = r->now, .prompt = draw(r, &r->prompt), .output = draw(r, &r->output) };
    }
    if (r->scenario != CLI_SERVER) next->seconds = 0;
    return true;
}

int cli_requests_open(cli_requests *r, const cli_options *o, double rate, uint64_t many)
{
    const char *prompt = o->prompt_tokens ? o->prompt_tokens : "512", *output = o->output_tokens ? o->output_tokens : "128";
    int status;

    *r = (cli_requests){ .o = o, .scenario = cli_scenario_of(o), .rate = rate, .left = o->requests ? o->requests : many,
                         .dice = o->seed };
    if (o->file) {
        r->file = fopen(o->file, "r");
        return r->file ? CLI_DONE : cli_fail("%s: %s", o->file, strerror(errno));
    }
    if ((status = parse_lengths(o, "--prompt-tokens", prompt, &r->prompt)) != CLI_DONE) return status;
    return parse_lengths(o, "--output-tokens", output, &r->output);
}

void cli_requests_close(cli_requests *r)
{
    if (r->file) fclose(r->file);
    r->file = NULL;
}

int cli_requests_all(const cli_options *o, double rate, uint64_t many, eyrie_arrival **list, size_t *n)
{
    cli_requests r;
    eyrie_arrival next;
    size_t capacity = 0;
    int status = cli_requests_open(&r, o, rate, many);

    *list = NULL;
    *n = 0;
    while (status == CLI_DONE && cli_requests_next(&r, &next)) {
        cli_grow(list, &capacity, *n + 1, sizeof **list);
        (*list)[(*n)++] = next;
    }
    if (status == CLI_DONE) status = r.status;
    if (status == CLI_DONE && *n == 0) status = cli_fail("%s: there are no requests in it", o->file);
    cli_requests_close(&r);
    return status;
}
