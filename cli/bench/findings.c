/* findings.c - from rows of decode and prefill to the figures of the paper: times over depth, latencies and
 * throughputs that add up from them, growth and crossing points. Measures nothing, and asks no model: rows say what
 * the cost model makes of them ("formula", seconds of a repetition, and of these "formula_attention").
 *
 * The cost model counts bytes and operations; how well a kernel does at some number of sequences it cannot know. So
 * its seconds are scaled to what was measured, for each model and number of sequences: those of attention by one
 * number and all others by another, so that the first point, and one at half of the last, are what they were. These
 * agree by construction; the rest is predicted. */
#include "figure.h"
#include "paper.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_POINTS = 64, TEXT = 96 };
#define LEAST_GROWTH 0.01           /* of a step, below which it is none */

/* Seconds of a step over depth, or of a token over a prompt's length: of one model with one number of sequences. */
typedef struct steps {
    size_t n;
    double depth[MOST_POINTS], measured[MOST_POINTS], predicted[MOST_POINTS];
    double attention[MOST_POINTS];      /* of what is predicted, before it is scaled */
} steps;

typedef enum source { MEASURED, PREDICTED } source;

/* A step's seconds by each. */
static const double *values_of(const steps *s, source from) { return from == MEASURED ? s->measured : s->predicted; }

static void add_point(steps *s, double depth, double measured, double formula, double attention)
{
    size_t i = s->n;

    if (s->n == MOST_POINTS || !isfinite(measured)) return;
    for (; i > 0 && s->depth[i - 1] > depth; i--) {
        s->depth[i] = s->depth[i - 1];
        s->measured[i] = s->measured[i - 1];
        s->predicted[i] = s->predicted[i - 1];
        s->attention[i] = s->attention[i - 1];
    }
    s->depth[i] = depth;
    s->measured[i] = measured;
    s->predicted[i] = formula;
    s->attention[i] = attention;
    s->n++;
}

/* Two points give two numbers: how many times as long attention takes, which is no faster than the device, and how many
 * times all else does. Where attention has hardly grown from one to the other, there is one number for both. */
static void scale(steps *s)
{
    size_t k = 0;
    double rest[2], times, more;

    if (s->n == 0) return;
    for (size_t i = 1; i < s->n; i++)
        if (s->depth[i] <= s->depth[s->n - 1] / 2) k = i;
    rest[0] = s->predicted[0] - s->attention[0];
    rest[1] = s->predicted[k] - s->attention[k];
    times = more = s->measured[0] / s->predicted[0];
    if (s->attention[k] / s->predicted[k] - s->attention[0] / s->predicted[0] > LEAST_GROWTH) {
        more = fmax(1, (rest[0] * s->measured[k] - rest[1] * s->measured[0]) / (rest[0] * s->attention[k] - rest[1] * s->attention[0]));
        times = (s->measured[0] - more * s->attention[0]) / rest[0];
    }
    for (size_t i = 0; i < s->n; i++) s->predicted[i] = times * (s->predicted[i] - s->attention[i]) + more * s->attention[i];
}

/* Of decode steps over depth, or of tokens of whole prompts, from the beginning, over length. */
static steps steps_of(const json_t *rows, const char *test, const char *model, uint64_t batch)
{
    bool decode = strcmp(test, "decode") == 0;
    steps s = { .n = 0 };
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row) {
        double tokens = cli_get_number(row, "tokens"), n = (double)batch;
        if (!cli_is_test(row, test) || strcmp(cli_get_text(row, "model"), model) != 0
            || cli_get_number(row, "batch") != n)
            continue;
        add_point(&s, decode ? cli_get_number(row, "depth") : tokens, n / cli_get_number(row, "median"),
                  cli_get_number(row, "formula") / tokens, cli_get_number(row, "formula_attention") / tokens);
    }
    scale(&s);
    return s;
}

static steps decode_of(const json_t *rows, const char *model, uint64_t batch)
{
    return steps_of(rows, "decode", model, batch);
}

/* ------------------------------------------------------------------------------------------------------- adding up */

/* A step's seconds at a depth; between two points on the line through them, beyond the last NaN. */
static double step_at(const steps *s, source from, double depth)
{
    const double *y = values_of(s, from);

    for (size_t i = 0; i < s->n; i++) {
        if (s->depth[i] == depth) return y[i];
        if (i > 0 && s->depth[i] > depth)
            return y[i - 1] + (y[i] - y[i - 1]) * (depth - s->depth[i - 1]) / (s->depth[i] - s->depth[i - 1]);
        if (s->depth[i] > depth) return NAN;
    }
    return NAN;
}

/* Seconds to generate from depth `start` to `end`: the area below the line. */
static double time_between(const steps *s, source from, double start, double end)
{
    double sum = 0, at = start, value = step_at(s, from, start);

    for (size_t i = 0; i < s->n && at < end; i++) {
        double next = fmin(s->depth[i], end), step = step_at(s, from, next);
        if (next <= at) continue;
        sum += (value + step) / 2 * (next - at);
        at = next;
        value = step;
    }
    return at < end ? NAN : sum;
}

/* The depth from which one takes longer than `times` the other; NaN: at none that was measured. */
static double crossing(const steps *one, const steps *other, source from, double times)
{
    double before = NAN, at_before = NAN;

    for (size_t i = 0; i < one->n; i++) {
        double at = one->depth[i], over = values_of(one, from)[i] - times * step_at(other, from, at);
        if (isnan(over)) continue;
        if (over >= 0) return isnan(before) ? at : at_before + (at - at_before) * before / (before - over);
        before = over;
        at_before = at;
    }
    return NAN;
}

/* The most tokens a second of sequences of that length, over all numbers of sequences that were measured and fit. */
static double throughput(const json_t *rows, const cli_paper *p, size_t model, size_t length, source from,
                         uint64_t *batch)
{
    double tokens = (double)p->lengths.items[length], best = NAN;
    const json_t *row;
    size_t i;

    *batch = 0;
    json_array_foreach(rows, i, row) {
        uint64_t n = (uint64_t)json_integer_value(json_object_get(row, "batch"));
        if (!cli_is_test(row, "decode") || n == *batch || n > p->room[model][length]) continue;
        steps s = decode_of(rows, p->models[model], n);
        double found = (double)n * tokens / time_between(&s, from, 0, tokens);
        if (isnan(found) || found <= best) continue;
        best = found;
        *batch = n;
    }
    return best;
}

/* -------------------------------------------------------------------------------------------------------- figures */

static const char about_decode[] =
    "Milliseconds for a token of each sequence, after as many tokens as the depth says. Dots: measured; dashed: "
    "predicted from the bytes and operations that a step has, those of attention scaled to half of the last depth, the "
    "others to the first.";
static const char about_growth[] = "The deepest step over the first one; and the depth from which a step of %s takes "
                                   "half as long again as the model's "
                                   "(\"-\": no depth that was measured).";
static const char about_latency[] = "Seconds until each sequence has generated so many tokens, reading the prompt "
                                    "not included: the steps above, added up "
                                    "(the paper's figure 4).";
static const char about_throughput[] =
    "Tokens a second of all sequences together, each generating as many tokens as the length says without a prompt, "
    "with "
    "the number of sequences that gives the most among those measured that fit into %s with the weights (the paper's "
    "figure 1b).";
static const char about_ratios[] = "In parentheses, how many sequences it took. The paper prints three ratios for "
                                   "models of 1.3 billion parameters on a "
                                   "TPU; to which lengths they belong its text does not say for sure.";
static const char about_prefill[] =
    "Tokens a second of one sequence that is empty before; predicted as above, from the first length and half of the last.";
static const char about_states[] =
    "Bytes on the device that a sequence of so many tokens takes, as eyrie info says them.";

/* "hawk-100m" of "synthetic:hawk-100m", "hawk.json" of a path. */
static const char *short_name(const char *model)
{
    const char *colon = strrchr(model, ':'), *slash = strrchr(model, '/');
    const char *last = colon > slash ? colon : slash;

    return last && last[1] ? last + 1 : model;
}

static void decode_over_depth(json_t *record, const cli_paper *p, uint64_t batch)
{
    char key[TEXT], title[TEXT];
    json_t *figure;

    snprintf(key, TEXT, "decode-%" PRIu64, batch);
    snprintf(title, TEXT, "A decode step over depth, batch %" PRIu64, batch);
    figure = cli_figure_add(record, key, title, about_decode);
    cli_figure_set_axes(figure, (cli_axis){ "depth", false, false }, (cli_axis){ "ms a step", false, false });
    for (size_t m = 0; m < p->n_models; m++) {
        steps s = decode_of(json_object_get(record, "rows"), p->models[m], batch);
        json_t *curve = cli_figure_add_curve(figure, short_name(p->models[m]), true);
        for (size_t i = 0; i < s.n; i++) cli_curve_add(curve, s.depth[i], 1e3 * s.measured[i], 1e3 * s.predicted[i]);
    }
}

/* Lengths, with shorter ones before them; after a prompt. */
static void latency(json_t *record, const cli_paper *p, uint64_t batch, uint64_t prompt)
{
    char key[TEXT], title[TEXT];
    json_t *figure;

    snprintf(key, TEXT, "latency-%" PRIu64 "-%" PRIu64, batch, prompt);
    if (prompt)
        snprintf(title, TEXT, "Latency over generated tokens, after a prompt of %" PRIu64 ", batch %" PRIu64, prompt,
                 batch);
    else snprintf(title, TEXT, "Latency over generated tokens, no prompt, batch %" PRIu64, batch);
    figure = cli_figure_add(record, key, title, about_latency);
    cli_figure_set_axes(figure, (cli_axis){ "tokens", false, false }, (cli_axis){ "seconds", false, false });
    for (size_t m = 0; m < p->n_models; m++) {
        steps s = decode_of(json_object_get(record, "rows"), p->models[m], batch);
        json_t *curve = cli_figure_add_curve(figure, short_name(p->models[m]), true);
        for (size_t i = 0; i < p->lengths.n; i++) {
            double n = (double)p->lengths.items[i], start = (double)prompt;
            cli_curve_add(curve, n, time_between(&s, MEASURED, start, start + n),
                          time_between(&s, PREDICTED, start, start + n));
        }
    }
}

static void throughputs(json_t *record, const cli_paper *p)
{
    char about[512], memory[24];
    json_t *figure;
    uint64_t batch;

    snprintf(about, sizeof about, about_throughput, cli_size((double)p->memory, memory));
    figure = cli_figure_add(record, "throughput", "Highest throughput over length", about);
    cli_figure_set_axes(figure, (cli_axis){ "tokens", true, false }, (cli_axis){ "tokens/s", false, false });
    for (size_t m = 0; m < p->n_models; m++) {
        json_t *curve = cli_figure_add_curve(figure, short_name(p->models[m]), true);
        for (size_t i = 0; i < p->lengths.n; i++)
            cli_curve_add(curve, (double)p->lengths.items[i],
                          throughput(json_object_get(record, "rows"), p, m, i, MEASURED, &batch),
                          throughput(json_object_get(record, "rows"), p, m, i, PREDICTED, &batch));
    }
}

static void format_ratio(char text[TEXT], double a, double b)
{
    if (isfinite(a / b)) snprintf(text, TEXT, "%.2f", a / b);
    else snprintf(text, TEXT, "-");
}

/* Of the highest throughputs, over the last model's. */
static void ratios(json_t *record, const cli_paper *p)
{
    static const struct {
        uint64_t length;
        const char *ratio;
    } printed[] = { { 1024, "1.8" }, { 2048, "3.3" }, { 4096, "6.6" } };
    const json_t *rows = json_object_get(record, "rows");
    const char *last = short_name(p->models[p->n_models - 1]);
    char texts[2 + 3 * CLI_PAPER_MODELS][TEXT], title[2 * TEXT];
    const char *cells[2 + 3 * CLI_PAPER_MODELS];
    json_t *figure;

    snprintf(title, sizeof title, "Highest throughput over that of %s", last);
    figure = cli_figure_add(record, "ratios", title, about_ratios);
    for (size_t k = 0; k < sizeof cells / sizeof *cells; k++) cells[k] = texts[k];
    for (size_t i = 0; i <= p->lengths.n; i++) {
        uint64_t batch, batch_last = 0;
        double base[2] = { NAN, NAN };
        size_t n = 0;

        if (i == 0) snprintf(texts[n++], TEXT, "tokens");
        else {
            base[PREDICTED] = throughput(rows, p, p->n_models - 1, i - 1, PREDICTED, &batch);
            base[MEASURED] = throughput(rows, p, p->n_models - 1, i - 1, MEASURED, &batch_last);
            snprintf(texts[n++], TEXT, "%" PRIu64 " (%" PRIu64 ")", p->lengths.items[i - 1], batch_last);
        }
        for (size_t m = 0; m + 1 < p->n_models; m++) {
            if (i == 0) {
                snprintf(texts[n++], TEXT, "%s", short_name(p->models[m]));
                snprintf(texts[n++], TEXT, "predicted");
                continue;
            }
            double predicted = throughput(rows, p, m, i - 1, PREDICTED, &batch),
                   measured = throughput(rows, p, m, i - 1, MEASURED, &batch);
            char ratio[TEXT];
            format_ratio(ratio, measured, base[MEASURED]);
            snprintf(texts[n++], TEXT, "%.40s (%" PRIu64 ")", ratio, batch);
            format_ratio(texts[n++], predicted, base[PREDICTED]);
        }
        snprintf(texts[n], TEXT, "%s", i == 0 ? "paper, of a Hawk" : "");
        for (size_t k = 0; k < sizeof printed / sizeof *printed && i > 0; k++)
            if (printed[k].length == p->lengths.items[i - 1]) snprintf(texts[n], TEXT, "%s", printed[k].ratio);
        cli_figure_add_row(figure, cells, n + 1);
    }
}

static void prompts(json_t *record, const cli_paper *p)
{
    json_t *figure = cli_figure_add(record, "prefill", "Reading prompts over length", about_prefill);

    cli_figure_set_axes(figure, (cli_axis){ "prompt", true, false }, (cli_axis){ "tokens/s", false, false });
    for (size_t m = 0; m < p->n_models; m++) {
        steps s = steps_of(json_object_get(record, "rows"), "prefill", p->models[m], p->batches.items[0]);
        json_t *curve = cli_figure_add_curve(figure, short_name(p->models[m]), true);
        for (size_t i = 0; i < s.n; i++)
            cli_curve_add(curve, s.depth[i], 1 / s.measured[i], 1 / s.predicted[i]);
    }
}

static void states(json_t *record, const cli_paper *p)
{
    json_t *figure = cli_figure_add(record, "cache", "A sequence's state over its context", about_states);

    cli_figure_set_axes(figure, (cli_axis){ "context", true, false }, (cli_axis){ "bytes", true, true });
    for (size_t m = 0; m < p->n_models; m++) {
        json_t *curve = cli_figure_add_curve(figure, short_name(p->models[m]), false);
        for (size_t i = 0; i < p->lengths.n; i++)
            cli_curve_add(curve, (double)p->lengths.items[i], (double)p->state[m][i], NAN);
    }
}

static void format_depth(char text[TEXT], double depth)
{
    if (isfinite(depth)) snprintf(text, TEXT, "%.0f", depth);
    else snprintf(text, TEXT, "-");
}

/* How much longer the deepest step takes than the first, and from which depth the last model's takes half as long
 * again. */
static void growth(json_t *record, const cli_paper *p)
{
    const json_t *rows = json_object_get(record, "rows");
    const char *last = short_name(p->models[p->n_models - 1]);
    char texts[8][TEXT], about[3 * TEXT + 300];
    const char *cells[8];
    json_t *figure;

    snprintf(about, sizeof about, about_growth, last);
    figure = cli_figure_add(record, "growth", "Growth with depth, and crossing points", about);
    for (size_t k = 0; k < 8; k++) cells[k] = texts[k];
    snprintf(texts[0], TEXT, "model");
    snprintf(texts[1], TEXT, "batch");
    snprintf(texts[2], TEXT, "to depth");
    snprintf(texts[3], TEXT, "growth");
    snprintf(texts[4], TEXT, "predicted");
    snprintf(texts[5], TEXT, "%.60s x 1.5 from", last);
    snprintf(texts[6], TEXT, "predicted");
    cli_figure_add_row(figure, cells, 7);
    for (size_t b = 0; b < p->batches.n; b++) {
        steps base = decode_of(rows, p->models[p->n_models - 1], p->batches.items[b]);
        for (size_t m = 0; m < p->n_models; m++) {
            steps s = decode_of(rows, p->models[m], p->batches.items[b]);
            if (s.n < 2) continue;
            snprintf(texts[0], TEXT, "%.80s", short_name(p->models[m]));
            snprintf(texts[1], TEXT, "%" PRIu64, p->batches.items[b]);
            format_depth(texts[2], s.depth[s.n - 1]);
            format_ratio(texts[3], s.measured[s.n - 1], s.measured[0]);
            format_ratio(texts[4], s.predicted[s.n - 1], s.predicted[0]);
            format_depth(texts[5], crossing(&base, &s, MEASURED, 1.5));
            format_depth(texts[6], crossing(&base, &s, PREDICTED, 1.5));
            cli_figure_add_row(figure, cells, 7);
        }
    }
}

void cli_paper_find(json_t *record, const cli_paper *p)
{
    uint64_t deepest = p->depths.items[p->depths.n - 1];

    for (size_t b = 0; b < p->batches.n; b++) decode_over_depth(record, p, p->batches.items[b]);
    growth(record, p);
    for (size_t b = 0; b < p->batches.n; b++) {
        latency(record, p, p->batches.items[b], 0);
        if (deepest > 1) latency(record, p, p->batches.items[b], deepest / 2);
    }
    throughputs(record, p);
    if (p->n_models > 1) ratios(record, p);
    prompts(record, p);
    states(record, p);
}
