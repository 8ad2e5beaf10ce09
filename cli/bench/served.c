/* served.c - see served.h. */
#include "served.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------------- JSON */

static const struct { const char *key, *words; } spreads[] = {
    { "first_token", "to the first token" }, { "between_tokens", "between tokens" }, { "whole", "to the last token" } };
enum { SPREADS = sizeof spreads / sizeof *spreads };

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

void cli_served_set(json_t *object, const eyrie_sim_report *r)
{
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
}

static double rate_of(const json_t *served) { return cli_get_number(served, "tokens") / cli_get_number(served, "seconds"); }

/* What is compared: the rate, and quantiles of the spreads. */
static const char *const quantiles[] = { "p50", "p95", "p99" };
enum { QUANTILES = sizeof quantiles / sizeof *quantiles };

static double quantile_of(const json_t *served, size_t spread, size_t quantile)
{
    return cli_get_number(json_object_get(served, spreads[spread].key), quantiles[quantile]);
}

void cli_served_set_simulated(json_t *object, const eyrie_sim_report *simulated)
{
    json_t *other = json_object(), *ratios = json_object();

    cli_served_set(other, simulated);
    cli_set(ratios, "tokens_per_second", cli_number(rate_of(object) / rate_of(other)));
    for (size_t i = 0; i < SPREADS; i++) {
        json_t *of = json_object();
        for (size_t q = 0; q < QUANTILES; q++)
            cli_set(of, quantiles[q], cli_number(quantile_of(object, i, q) / quantile_of(other, i, q)));
        cli_set(ratios, spreads[i].key, of);
    }
    cli_set(object, "simulated", other);
    cli_set(object, "ratios", ratios);
}

/* ------------------------------------------------------------------------------------------------------------- words */

static void print_spreads(const json_t *served, const cli_out *out)
{
    static const char *const columns[] = { "mean", "p50", "p95", "p99", "most" };

    cli_out_print(out, "\n| %-18s ", "ms");
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) cli_out_print(out, "| %9s ", columns[c]);
    cli_out_print(out, "|\n|--------------------|----------:|----------:|----------:|----------:|----------:|\n");
    for (size_t i = 0; i < SPREADS; i++) {
        const json_t *spread = json_object_get(served, spreads[i].key);
        cli_out_print(out, "| %-18s ", spreads[i].words);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
            cli_out_print(out, "| %9.4g ", 1e3 * cli_get_number(spread, columns[c]));
        cli_out_print(out, "|\n");
    }
}

static void print_compared(const char *what, const char *quantile, double measured, double simulated, const cli_out *out)
{
    char name[48];

    snprintf(name, sizeof name, "%s%s%s", what, *quantile ? ", " : "", quantile);
    cli_out_print(out, "| %-23s | %9.4g | %9.4g | %9.2f |\n", name, measured, simulated, measured / simulated);
}

static void print_simulated(const json_t *served, const json_t *simulated, const cli_out *out)
{
    cli_out_print(out, "\n| ms, beside a simulation | measured  | simulated | ratio     |\n"
                  "|-------------------------|----------:|----------:|----------:|\n");
    for (size_t i = 0; i < SPREADS; i++)
        for (size_t q = 0; q < QUANTILES; q++)
            print_compared(spreads[i].words, quantiles[q], 1e3 * quantile_of(served, i, q), 1e3 * quantile_of(simulated, i, q), out);
    print_compared("tokens/s generated", "", rate_of(served), rate_of(simulated), out);
}

static void print_search(const json_t *search, const cli_out *out)
{
    const json_t *try;
    size_t i;

    cli_out_print(out, "| rate      | first token p99, ms | between p99, ms | met   |\n"
                  "|----------:|--------------------:|----------------:|-------|\n");
    json_array_foreach(json_object_get(search, "tries"), i, try)
        cli_out_print(out, "| %9.4g | %19.4g | %15.4g | %-5s |\n", cli_get_number(try, "rate"), 1e3 * cli_get_number(try, "first_token"),
                      1e3 * cli_get_number(try, "between_tokens"), json_is_true(json_object_get(try, "met")) ? "yes" : "no");
    if (!isnan(cli_get_number(search, "rate")))
        cli_out_print(out, "\nThe highest rate that meets the limits: %.4g requests/s. At that:\n\n", cli_get_number(search, "rate"));
}

void cli_served_print(const json_t *served, const cli_out *out)
{
    double seconds = cli_get_number(served, "seconds"), requests = cli_get_number(served, "requests");
    double arithmetic = cli_get_number(served, "arithmetic"), memory = cli_get_number(served, "memory");
    const json_t *search = json_object_get(served, "search"), *simulated = json_object_get(served, "simulated");

    if (search) print_search(search, out);
    if (isnan(seconds)) return;
    cli_out_print(out, "%.0f requests in %.4g s: %.4g a second, %.4g tokens/s generated, %.4g tokens/s read\n", requests, seconds,
                  requests / seconds, rate_of(served), cli_get_number(served, "prompt_tokens") / seconds);
    print_spreads(served, out);
    cli_out_print(out, "\n- devices: busy %.1f %% of the time", 100 * cli_get_number(served, "busy"));
    if (!isnan(arithmetic))
        cli_out_print(out, "; at their peaks they would compute %.1f %%, move bytes %.1f %%", 100 * arithmetic, 100 * memory);
    cli_out_print(out, "\n- slots: %.0f a device; %.0f requests without one at the worst moment\n", cli_get_number(served, "slots"),
                  cli_get_number(served, "most_waiting"));
    cli_out_print(out, "- steps: %.0f of prefill, %.0f of decode\n", cli_get_number(served, "prefill_steps"),
                  cli_get_number(served, "decode_steps"));
    if (cli_get_number(served, "handovers") > 0)
        cli_out_print(out, "- handed over: %.0f states, %.4g ms each on average\n", cli_get_number(served, "handovers"),
                      1e3 * cli_get_number(served, "handover_seconds"));
    if (simulated) print_simulated(served, simulated, out);
}

void cli_served_print_row(const json_t *row, const cli_out *out)
{
    char setting[512];

    cli_out_print(out, "\n## Serving %s\n\nScenario %s", cli_setting(row, setting), cli_get_text(row, "scenario"));
    if (!isnan(cli_get_number(row, "rate"))) cli_out_print(out, ", %.4g requests/s", cli_get_number(row, "rate"));
    cli_out_print(out, "; policy %s, %.0f lane%s\n\n", cli_get_text(row, "policy"), cli_get_number(row, "lanes"),
                  cli_get_number(row, "lanes") > 1 ? "s" : "");
    cli_served_print(row, out);
}
