/* compare.c - `eyrie bench compare`: whether one record's figures differ from another's by more than chance and the machine's
 * moods. The decision is explained in docs/bench.md.
 *
 * A row differs if three things are so. Its rates differ (Welch's test on their logarithms, with Holm's correction for as many
 * rows as there are). So do its rates measured by the limits that were taken right before each repetition, in the same
 * direction: what a busier machine does to a row it does to the limits, too. And both differences are larger than a threshold. */
#include "bench.h"
#include "statistics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIGNIFICANT 0.05

typedef struct pair {
    const json_t *a, *b;
    double ratio, relative;         /* of b over a; relative to limits, NaN: rows without */
    double p;
    const char *verdict;
} pair;

/* What rows may differ in. Where all rows of either record have one value each, and another one, it is what is compared. */
static const char *const settings[] = { "model", "weights", "kv", "compute", "chunk", "invariant", "products", "policy", "lanes" };
static const char *const places[] = { "test", "tokens", "depth", "batch", "set_bytes", "scenario", "rate" };
enum { SETTINGS = sizeof settings / sizeof *settings, PLACES = sizeof places / sizeof *places };

/* The value that all rows that have one agree on; NULL: they do not, or none has. */
static const json_t *common(const json_t *rows, const char *key)
{
    const json_t *row, *value, *found = NULL;
    size_t i;

    json_array_foreach(rows, i, row) {
        if (!(value = json_object_get(row, key))) continue;
        if (found && !json_equal(found, value)) return NULL;
        found = value;
    }
    return found;
}

static bool same(const json_t *a, const json_t *b, const char *key)
{
    const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    return (!x && !y) || (x && y && json_equal(x, y));
}

static bool is_partner(const json_t *a, const json_t *b, const bool *free_to_differ)
{
    for (size_t i = 0; i < PLACES; i++)
        if (!same(a, b, places[i])) return false;
    for (size_t i = 0; i < SETTINGS; i++)
        if (!free_to_differ[i] && !same(a, b, settings[i])) return false;
    return true;
}

/* Rates over the limits that were measured right before them; how many. 0: there are no limits to go by. */
static size_t relative_rates(const json_t *row, const char *limits, double **values)
{
    double *by;
    size_t n = cli_get_rates(row, "rates", values), n_by = cli_get_rates(row, limits, &by);

    for (size_t i = 0; i < n && n_by == n; i++) (*values)[i] /= by[i];
    free(by);
    return n_by == n ? n : 0;
}

/* Both by the same limit: that of arithmetic where both rows are bound by the same kind of it, else that of reading. */
static void judge(pair *p)
{
    const char *limit = cli_get_text(p->a, "limit");
    bool reading = strcmp(limit, "read") == 0 || strcmp(limit, cli_get_text(p->b, "limit")) != 0;
    double *a, *b, q;
    size_t n_a = cli_get_rates(p->a, "rates", &a), n_b = cli_get_rates(p->b, "rates", &b);

    p->p = cli_welch(a, n_a, b, n_b, &p->ratio);
    free(a);
    free(b);
    n_a = relative_rates(p->a, reading ? "read_limits" : "flop_limits", &a);
    n_b = relative_rates(p->b, reading ? "read_limits" : "flop_limits", &b);
    p->relative = NAN;
    if (n_a && n_b) {
        q = cli_welch(a, n_a, b, n_b, &p->relative);
        if (!(q <= p->p)) p->p = q;
    }
    free(a);
    free(b);
}

static void decide(pair *p, double threshold)
{
    double least = log1p(threshold / 100), first = log(p->ratio), second = isnan(p->relative) ? first : log(p->relative);

    if (isnan(p->p)) p->verdict = "too few repetitions";
    else if (p->p >= SIGNIFICANT || fabs(first) <= least || fabs(second) <= least || (first < 0) != (second < 0)) p->verdict = "no difference";
    else p->verdict = first < 0 ? "slower" : "faster";
}

/* ---------------------------------------------------------------------------------------------------------- output */

static const char *describe(const json_t *row, char text[160])
{
    char size[24];
    double set = cli_get_number(row, "set_bytes");

    if (json_object_get(row, "depth"))
        snprintf(text, 160, "%s %.0f at depth %.0f, batch %.0f", cli_get_text(row, "test"), cli_get_number(row, "tokens"), cli_get_number(row, "depth"),
                 cli_get_number(row, "batch"));
    else if (!isnan(set)) snprintf(text, 160, "%s %s", cli_get_text(row, "test"), cli_size(set, size));
    else snprintf(text, 160, "%s%s%s", cli_get_text(row, "test"), json_object_get(row, "scenario") ? ", " : "", cli_get_text(row, "scenario"));
    return text;
}

/* What is not the same in all of both, in words. */
static void print_differences(const json_t *a, const json_t *b, const json_t *rows_a, const json_t *rows_b, const bool *differs)
{
    static const char *const keys[] = { "version", "commit" };
    const json_t *device_a = json_object_get(a, "device"), *device_b = json_object_get(b, "device");

    for (size_t i = 0; i < 2; i++)
        if (!same(a, b, keys[i])) cli_print("- %s: %s and %s\n", keys[i], cli_get_text(a, keys[i]), cli_get_text(b, keys[i]));
    if (!same(device_a, device_b, "name")) cli_print("- device: %s and %s\n", cli_get_text(device_a, "name"), cli_get_text(device_b, "name"));
    if (!same(device_a, device_b, "driver")) cli_print("- driver: %s and %s\n", cli_get_text(device_a, "driver"), cli_get_text(device_b, "driver"));
    for (size_t i = 0; i < SETTINGS; i++) {
        const json_t *x = common(rows_a, settings[i]), *y = common(rows_b, settings[i]);
        if (!differs[i]) continue;
        if (json_is_string(x) && json_is_string(y)) cli_print("- %s: %s and %s\n", settings[i], json_string_value(x), json_string_value(y));
        else cli_print("- %s: %.0f and %.0f\n", settings[i], json_number_value(x), json_number_value(y));
    }
}

static void print_table(const pair *pairs, size_t n)
{
    char text[512], setting[512], before[512] = "", t[5][24];

    for (size_t i = 0; i < n; i++) {
        const pair *p = &pairs[i];
        double scale = cli_get_number(p->a, "median") >= 1e9 ? 1e-9 : 1;
        if (json_object_get(p->a, "model")) cli_setting(p->a, setting);
        else snprintf(setting, sizeof setting, "The device");
        if (strcmp(setting, before) != 0)
            cli_print("\n## %s\n\n| row | | A | +- | B | +- | B / A | by limits | p | |\n|---|---|---|---|---|---|---|---|---|---|\n", setting);
        memcpy(before, setting, sizeof before);
        cli_print("| %s | %s%s | %s | %s | ", describe(p->a, text), scale < 1 ? "G" : "", cli_get_text(p->a, "unit"),
                  cli_digits(scale * cli_get_number(p->a, "median"), t[0]), cli_digits(scale * cli_get_number(p->a, "deviation"), t[1]));
        cli_print("%s | %s | ", cli_digits(scale * cli_get_number(p->b, "median"), t[0]), cli_digits(scale * cli_get_number(p->b, "deviation"), t[1]));
        cli_print("%s | %s | %s | %s |\n", isnan(p->ratio) ? "-" : (snprintf(t[2], 24, "%.3f", p->ratio), t[2]),
                  isnan(p->relative) ? "-" : (snprintf(t[3], 24, "%.3f", p->relative), t[3]),
                  isnan(p->p) ? "-" : (snprintf(t[4], 24, "%.2g", p->p), t[4]), p->verdict);
    }
}

static void print_json(const pair *pairs, size_t n, size_t slower, size_t faster, size_t alone, double threshold)
{
    static const char *const keys[] = { "test", "model", "weights", "kv", "compute", "chunk", "invariant", "products", "tokens", "depth",
                                        "batch", "set_bytes", "unit" };
    json_t *object = json_object(), *rows = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *row = json_object();
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            json_t *value = json_object_get(pairs[i].a, keys[k]);
            if (value) cli_set(row, keys[k], json_incref(value));
        }
        cli_set(row, "a", cli_number(cli_get_number(pairs[i].a, "median")));
        cli_set(row, "b", cli_number(cli_get_number(pairs[i].b, "median")));
        cli_set(row, "ratio", cli_number(pairs[i].ratio));
        cli_set(row, "ratio_by_limits", cli_number(pairs[i].relative));
        cli_set(row, "p", cli_number(pairs[i].p));
        cli_set(row, "verdict", json_string(pairs[i].verdict));
        cli_append(rows, row);
    }
    cli_set(object, "threshold_percent", cli_number(threshold));
    cli_set(object, "slower", json_integer((json_int_t)slower));
    cli_set(object, "faster", json_integer((json_int_t)faster));
    cli_set(object, "in_one_only", json_integer((json_int_t)alone));
    cli_set(object, "rows", rows);
    cli_print_json(object);
}

/* --------------------------------------------------------------------------------------------------------- command */

/* Pairs of rows; each row has at most one partner. Rows of either side that have none are counted. */
static pair *match(const json_t *rows_a, const json_t *rows_b, const bool *differs, size_t *n, size_t *alone)
{
    size_t n_b = json_array_size(rows_b), i, k;
    pair *pairs = cli_resize(NULL, json_array_size(rows_a) + 1, sizeof *pairs);
    bool *taken = cli_resize(NULL, n_b + 1, sizeof *taken);
    const json_t *row;

    memset(taken, 0, n_b + 1);
    *n = *alone = 0;
    json_array_foreach(rows_a, i, row) {
        for (k = 0; k < n_b && (taken[k] || !is_partner(row, json_array_get(rows_b, k), differs)); k++) continue;
        if (k == n_b) {
            ++*alone;
            continue;
        }
        taken[k] = true;
        pairs[*n] = (pair){ .a = row, .b = json_array_get(rows_b, k) };
        ++*n;
    }
    for (k = 0; k < n_b; k++) *alone += !taken[k];
    free(taken);
    return pairs;
}

static int compare(const json_t *a, const json_t *b, double threshold, bool json)
{
    const json_t *rows_a = json_object_get(a, "rows"), *rows_b = json_object_get(b, "rows");
    bool differs[SETTINGS] = { false };
    size_t n, alone, slower = 0, faster = 0;
    double *probabilities;
    pair *pairs;

    for (size_t i = 0; i < SETTINGS; i++) {
        const json_t *x = common(rows_a, settings[i]), *y = common(rows_b, settings[i]);
        differs[i] = x && y && !json_equal(x, y);
    }
    pairs = match(rows_a, rows_b, differs, &n, &alone);
    if (n == 0) {
        free(pairs);
        return cli_fail("the two have no row in common");
    }
    probabilities = cli_resize(NULL, n, sizeof *probabilities);
    for (size_t i = 0; i < n; i++) {
        judge(&pairs[i]);
        probabilities[i] = pairs[i].p;
    }
    cli_holm(probabilities, n);
    for (size_t i = 0; i < n; i++) {
        pairs[i].p = probabilities[i];
        decide(&pairs[i], threshold);
        slower += strcmp(pairs[i].verdict, "slower") == 0;
        faster += strcmp(pairs[i].verdict, "faster") == 0;
    }
    if (json) {
        print_json(pairs, n, slower, faster, alone, threshold);
    } else {
        print_differences(a, b, rows_a, rows_b, differs);
        print_table(pairs, n);
        cli_print("\n%zu row%s in both: %zu slower, %zu faster, by more than %g %%", n, n == 1 ? "" : "s", slower, faster, threshold);
        if (alone) cli_print("; %zu in one only", alone);
        cli_print("\n");
    }
    free(probabilities);
    free(pairs);
    return slower ? CLI_SLOWER : CLI_DONE;
}

int cli_bench_compare(const char *path_a, const char *path_b, double threshold, bool json)
{
    json_t *a = NULL, *b = NULL;
    int status = cli_record_read(&a, path_a);

    if (status == CLI_DONE) status = cli_record_read(&b, path_b);
    if (status == CLI_DONE) status = compare(a, b, threshold, json);
    json_decref(a);
    json_decref(b);
    return status;
}
