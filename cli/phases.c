/* phases.c - the rows of `eyrie bench -m MODEL`: reading prompts and generating, for every setting, length, depth and batch
 * that the options ask for.
 *
 * Sequences are filled to each depth once, and a measurement forks them. All rows of a setting are measured in turn, and that
 * as often as there are repetitions: what changes on a machine over minutes shows in every row's spread instead of in the
 * difference between rows. Right before each sample its limits are measured. A round of all rows that is not counted comes
 * first, so that nothing is built, and no memory touched for the first time, while the clock runs. Timed is what a caller waits
 * for: submitting, every step, sampling and delivering; not opening, forking and closing. */
#include "bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_TOKENS = 4, TOKENS = 1 << 16, LIMIT_SAMPLES = 3 };

/* One row: how many tokens are read or generated, after how many, in how many sequences. */
typedef struct cell {
    bool      decode;
    uint64_t  tokens, batch;
    size_t    depth;                /* number of it */
    double    expected;             /* seconds of a repetition; from the round that does not count */
    double    bytes, flops;         /* of a repetition */
    cli_rates rates, seconds, shares, predicted;     /* predicted: rates, where the cost model knew */
    cli_rates read, flop_limit;     /* limits before each */
    double    joules;               /* of all repetitions */
    bool      memory_bound;         /* what the last one's limit was */
} cell;

/* A model in one setting. */
typedef struct lab {
    cli_benchmark   *b;
    eyrie_model     *model;
    eyrie_engine    *engine;
    eyrie_meter     *meter;
    eyrie_model_info info;
    const char      *compute;
    eyrie_seq      **bases;         /* [depths] filled to each */
    eyrie_seq      **seqs;          /* [most batch], NULL: closed */
    int32_t         *ids;           /* [TOKENS] to be read over and over */
    cell            *cells;         /* [n] */
    size_t           n, capacity;
    uint64_t         repetitions;
    double           settings_left; /* after this one */
} lab;

/* What to measure where the options do not say; quick: if it is to be. */
static cli_counts or_default(const cli_counts *given, bool quick, uint64_t *usual, size_t n_usual, uint64_t *little, size_t n_little)
{
    if (given->n) return *given;
    return quick ? (cli_counts){ little, n_little, 0 } : (cli_counts){ usual, n_usual, 0 };
}

typedef struct axes {
    cli_counts prompts, generated, depths, batches, chunks;
} axes;

static axes axes_of(const cli_options *o)
{
    static uint64_t p512 = 512, p128 = 128, n128 = 128, n16 = 16, zero = 0, one = 1, few[] = { 1, 4 };

    return (axes){ or_default(&o->prompts, o->quick, &p512, 1, &p128, 1), or_default(&o->generated, o->quick, &n128, 1, &n16, 1),
                   or_default(&o->depths, o->quick, &zero, 1, &zero, 1), or_default(&o->batches, o->quick, &one, 1, few, 2),
                   or_default(&o->chunks, o->quick, &zero, 1, &zero, 1) };     /* chunk 0: the library's choice */
}

static uint64_t largest(const cli_counts *c) { return c->items[c->n - 1]; }

/* ------------------------------------------------------------------------------------------------------------ work */

/* What a row moves and computes at least: the weights once a step, the state that a token reads, two operations for each weight
 * and token, and attention. The window fills up with the position. */
static void work_of(const lab *l, cell *c, uint64_t depth)
{
    const eyrie_model_info *i = &l->info;
    double number = i->kv == EYRIE_FORMAT_F32 ? 4 : 2, keys = 0;
    double a_key = 2.0 * i->attention_layers * i->kv_heads * i->head_dim * number;          /* bytes of a position */
    double a_key_flops = 4.0 * i->attention_layers * i->heads * i->head_dim;
    uint64_t window = i->window && (!i->context || i->window < i->context) ? i->window : i->context ? i->context - 1 : 0;
    double ring = i->attention_layers ? 64 * ceil((double)(window + 1) / 64) * a_key : 0;
    double weights = (double)i->decode_bytes - (double)i->state_bytes, rest = fmax(0, (double)i->state_bytes - ring);
    double token = (double)i->decode_flops - (i->attention_layers ? a_key_flops * (double)(window + 1) : 0);
    double head = 2.0 * i->vocab * i->width, n = (double)c->tokens, batch = (double)c->batch;
    uint64_t first = depth > 0 || !c->decode ? depth : 1;

    for (uint64_t t = first; t < first + c->tokens && i->attention_layers; t++) keys += (double)(t < window ? t : window) + 1;
    if (c->decode) {
        c->bytes = n * weights + batch * (n * rest + keys * a_key);
        c->flops = batch * (n * token + keys * a_key_flops);
    } else {
        c->bytes = ceil(batch * n / i->chunk) * weights + batch * n / i->chunk * rest;
        c->flops = batch * (n * (token - head) + head + keys * a_key_flops);
    }
}

/* --------------------------------------------------------------------------------------------------------- running */

static eyrie_request request_of(const lab *l, uint64_t n_tokens, uint64_t max_tokens)
{
    return (eyrie_request){ .struct_size = sizeof(eyrie_request), .tokens = l->ids, .n_tokens = (size_t)n_tokens,
                            .max_tokens = max_tokens, .flags = EYRIE_IGNORE_EOS };
}

/* Steps until nothing is left to do, or a signal comes. */
static eyrie_status finish(lab *l, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (bool busy = true; busy && st == EYRIE_OK && !cli_bench_interrupted(l->b);) st = eyrie_engine_step(l->engine, &busy, err);
    return st;
}

static void close_sequences(lab *l, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        (void)eyrie_seq_close(l->seqs[i]);
        l->seqs[i] = NULL;
    }
}

/* Each depth goes on from the one before. A sequence of depth 0 has read one token if it is to generate: something has to be
 * there to go on from. */
static eyrie_status fill(lab *l, const cli_counts *depths, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < depths->n && st == EYRIE_OK && !cli_bench_interrupted(l->b); i++) {
        uint64_t depth = depths->items[i] ? depths->items[i] : 1, pending;
        st = i == 0 ? eyrie_seq_open(&l->bases[i], l->engine, err) : eyrie_seq_fork(&l->bases[i], l->bases[i - 1], err);
        while (st == EYRIE_OK && eyrie_seq_position(l->bases[i]) < depth && !cli_bench_interrupted(l->b)) {
            uint64_t left = depth - eyrie_seq_position(l->bases[i]);
            cli_bench_show(l->b, NAN, "filling a sequence: %" PRIu64 " of %" PRIu64 " tokens", depth - left, depth);
            pending = eyrie_seq_pending(l->bases[i], NULL);
            if (left > TOKENS / 32) left = TOKENS / 32;
            eyrie_request r = request_of(l, left - pending, 1);
            if ((st = eyrie_seq_submit(l->bases[i], &r, err)) == EYRIE_OK) st = finish(l, err);
        }
    }
    return st;
}

static eyrie_status prepare(lab *l, const cell *c, uint64_t depth, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint64_t i = 0; i < c->batch && st == EYRIE_OK; i++)
        st = c->decode || depth > 0 ? eyrie_seq_fork(&l->seqs[i], l->bases[c->depth], err) : eyrie_seq_open(&l->seqs[i], l->engine, err);
    return st;
}

/* Seconds that the cost model gave for all steps so far. */
static double predicted_so_far(const lab *l)
{
    eyrie_stats stats = { .struct_size = sizeof stats };

    return eyrie_engine_get_stats(l->engine, &stats, NULL) == EYRIE_OK ? stats.prefill_predicted + stats.decode_predicted : 0;
}

/* The work of a cell with `tokens` tokens, timed. A prompt's first answer belongs to it; what a filled sequence has pending is
 * the prompt's first token. */
static eyrie_status run(lab *l, const cell *c, uint64_t tokens, double *seconds, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    *seconds = cli_seconds();
    for (uint64_t i = 0; i < c->batch && st == EYRIE_OK; i++) {
        eyrie_request r = c->decode ? request_of(l, 0, tokens) : request_of(l, tokens - eyrie_seq_pending(l->seqs[i], NULL), 1);
        st = eyrie_seq_submit(l->seqs[i], &r, err);
    }
    if (st == EYRIE_OK) st = finish(l, err);
    *seconds = cli_seconds() - *seconds;
    return st;
}

/* What the device allows is the best of a few: a sample takes hundredths of a second, and anything may hold it up. */
static eyrie_status measure_limit(lab *l, eyrie_metric metric, cli_rates *all, double *rate, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    eyrie_sample s;

    *rate = 0;
    for (int i = 0; i < LIMIT_SAMPLES && st == EYRIE_OK; i++)
        if ((st = eyrie_meter_run(l->meter, metric, 0, &s, err)) == EYRIE_OK) *rate = fmax(*rate, s.work / s.seconds);
    if (st == EYRIE_OK) cli_rates_add(all, *rate);
    return st;
}

/* The unit is used in prefill alone. What was measured last leaves its data in the caches: memory comes last. */
static eyrie_status measure_limits(lab *l, const cell *c, double *read, double *flops, eyrie_error *err)
{
    double unit = 0;
    eyrie_status st = measure_limit(l, EYRIE_METRIC_F32, &l->b->f32, flops, err);

    if (st == EYRIE_OK && l->info.matrix_unit && !c->decode) st = measure_limit(l, EYRIE_METRIC_UNIT, &l->b->unit, &unit, err);
    if (unit > 0) *flops = unit;
    return st == EYRIE_OK ? measure_limit(l, EYRIE_METRIC_READ, &l->b->read, read, err) : st;
}

static eyrie_status repeat(lab *l, cell *c, uint64_t depth, bool counts, eyrie_error *err)
{
    uint64_t tokens = counts || !c->decode || c->tokens < WARM_TOKENS ? c->tokens : WARM_TOKENS;
    double read = 0, flops = 0, seconds = 0, predicted, joules;
    eyrie_status st = prepare(l, c, depth, err);

    if (st == EYRIE_OK && counts) st = measure_limits(l, c, &read, &flops, err);
    predicted = predicted_so_far(l);
    (void)cli_energy_spent(&l->b->energy);
    if (st == EYRIE_OK) st = run(l, c, tokens, &seconds, err);
    joules = cli_energy_spent(&l->b->energy);
    predicted = predicted_so_far(l) - predicted;
    close_sequences(l, c->batch);
    if (st != EYRIE_OK || cli_bench_interrupted(l->b)) return st;
    c->expected = seconds * (double)c->tokens / (double)tokens;
    if (!counts) return st;
    c->memory_bound = c->bytes / read > c->flops / flops;
    c->joules += joules;
    cli_rates_add(&c->seconds, seconds);
    cli_rates_add(&c->rates, (double)(c->tokens * c->batch) / seconds);
    cli_rates_add(&c->shares, fmax(c->bytes / read, c->flops / flops) / seconds);
    if (predicted > 0) cli_rates_add(&c->predicted, (double)(c->tokens * c->batch) / predicted);
    cli_rates_add(&c->read, read);
    cli_rates_add(&c->flop_limit, flops);
    return st;
}

/* Seconds from repetition `round` of cell i on. */
static double time_left(const lab *l, uint64_t round, size_t i)
{
    double all = 0, done = 0;

    if (round == 0) return NAN;
    for (size_t k = 0; k < l->n; k++) {
        all += l->cells[k].expected + 0.25;     /* limits are measured, too */
        if (k < i) done += l->cells[k].expected + 0.25;
    }
    return all * (double)(l->repetitions - round + 1) - done + l->settings_left * all * (double)(l->repetitions + 1);
}

/* Round 0 does not count. */
static eyrie_status measure(lab *l, const cli_counts *depths, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint64_t round = 0; round <= l->repetitions && st == EYRIE_OK; round++)
        for (size_t i = 0; i < l->n && st == EYRIE_OK; i++) {
            cell *c = &l->cells[i];
            uint64_t depth = depths->items[c->depth];
            char what[64];

            if (cli_bench_interrupted(l->b) || cli_seconds() > l->b->deadline) return st;
            if (round == 0) snprintf(what, sizeof what, "a first time that does not count");
            else snprintf(what, sizeof what, "repetition %" PRIu64 " of %" PRIu64, round, l->repetitions);
            cli_bench_show(l->b, time_left(l, round, i), "%s %" PRIu64 " tokens at depth %" PRIu64 ", batch %" PRIu64 ": %s",
                           c->decode ? "decode" : "prefill", c->tokens, depth, c->batch, what);
            st = repeat(l, c, depth, round > 0, err);
        }
    return st;
}

/* ----------------------------------------------------------------------------------------------------------- rows */

static json_t *list_of(const cli_rates *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n; i++) cli_append(list, cli_number(r->values[i]));
    return list;
}

static double median_of(const cli_rates *r)
{
    json_t *row = json_object();
    double median;

    cli_record_set_rates(row, "", r->values, r->n);
    median = cli_get_number(row, "median");
    json_decref(row);
    return median;
}

static void add_row(const lab *l, const cell *c, uint64_t depth, const char *model)
{
    json_t *row = cli_record_add_row(l->b->rows, c->decode ? "decode" : "prefill");
    double seconds = median_of(&c->seconds);

    cli_set(row, "model", cli_text(model, strlen(model)));
    cli_set(row, "weights", json_string(cli_format_name(l->info.weights)));
    cli_set(row, "kv", json_string(cli_format_name(l->info.kv)));
    cli_set(row, "compute", json_string(l->compute));
    cli_set(row, "chunk", json_integer(l->info.chunk));
    cli_set(row, "tokens", json_integer((json_int_t)c->tokens));
    cli_set(row, "depth", json_integer((json_int_t)depth));
    cli_set(row, "batch", json_integer((json_int_t)c->batch));
    cli_record_set_rates(row, "tokens/s", c->rates.values, c->rates.n);
    cli_set(row, "seconds", list_of(&c->seconds));
    cli_set(row, "bytes", cli_number(c->bytes));
    cli_set(row, "flops", cli_number(c->flops));
    cli_set(row, "bytes_per_second", cli_number(c->bytes / seconds));
    cli_set(row, "flops_per_second", cli_number(c->flops / seconds));
    cli_set(row, "limit", json_string(c->memory_bound ? "read" : l->info.matrix_unit && !c->decode ? "matrix unit" : "f32"));
    cli_set(row, "share", cli_number(median_of(&c->shares)));
    cli_set(row, "shares", list_of(&c->shares));
    cli_set(row, "read_limits", list_of(&c->read));
    cli_set(row, "flop_limits", list_of(&c->flop_limit));
    cli_set(row, "predicted", cli_number(median_of(&c->predicted)));
    cli_set(row, "joules_per_token", cli_number(c->joules / (double)(c->rates.n * c->tokens * c->batch)));
}

static void describe_model(const lab *l, const char *model)
{
    const eyrie_model_info *i = &l->info;
    json_t *models = json_object_get(l->b->record, "models"), *object = json_object();
    const struct { const char *key; uint64_t value; } counts[] = {
        { "parameters", i->parameters }, { "chunk", i->chunk }, { "slots", i->slots }, { "context", i->context }, { "window", i->window },
        { "weight_bytes", i->weight_bytes }, { "state_bytes", i->state_bytes }, { "scratch_bytes", i->scratch_bytes },
        { "decode_bytes", i->decode_bytes }, { "decode_flops", i->decode_flops },
    };

    cli_set(object, "model", cli_text(model, strlen(model)));
    cli_set(object, "family", json_string(i->family));
    cli_set(object, "weights", json_string(cli_format_name(i->weights)));
    cli_set(object, "kv", json_string(cli_format_name(i->kv)));
    cli_set(object, "compute", json_string(l->compute));
    cli_set(object, "matrix_unit", json_boolean(i->matrix_unit));
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) cli_set(object, counts[k].key, json_integer((json_int_t)counts[k].value));
    if (!models) {
        models = json_array();
        cli_set(l->b->record, "models", models);
    }
    cli_append(models, object);
}

/* --------------------------------------------------------------------------------------------------------- settings */

static void add_cells(lab *l, const axes *a)
{
    for (int decode = 0; decode < 2; decode++) {
        const cli_counts *tokens = decode ? &a->generated : &a->prompts;
        for (size_t t = 0; t < tokens->n; t++)
            for (size_t d = 0; d < a->depths.n; d++)
                for (size_t b = 0; b < a->batches.n && tokens->items[t] > 0; b++) {
                    cli_grow(&l->cells, &l->capacity, l->n + 1, sizeof *l->cells);
                    l->cells[l->n++] = (cell){ .decode = decode != 0, .tokens = tokens->items[t], .batch = a->batches.items[b], .depth = d };
                }
    }
}

static void show_opening(void *user, const char *what, double done)
{
    cli_bench_show(user, NAN, "%s: %.0f %%", what, 100 * done);
}

/* Sequences get as long as this. Where the model has a bound, it is just that, unless the options say: its memory grows with it. */
static int choose_context(const cli_options *o, const char *model, const axes *a, eyrie_model_opts *opts)
{
    uint64_t prompt = largest(&a->prompts), generated = largest(&a->generated) + 1;
    uint64_t longest = largest(&a->depths) + (prompt > generated ? prompt : generated) + 1;
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_error err;

    if (eyrie_model_inspect(model, opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (o->context && o->context < longest)
        return cli_fail("depth and tokens come to %" PRIu64 " in a sequence; --context %" PRIu64 " holds less", longest, o->context);
    if (!o->context && info.context) opts->context = longest;
    return CLI_DONE;
}

static int failed(lab *l, const eyrie_error *err)
{
    cli_bench_wipe(l->b);
    return cli_fail("%s", err->text);
}

static int open_lab(lab *l, const char *model, const axes *a, eyrie_model_opts *opts)
{
    uint64_t slots = largest(&a->batches) + a->depths.n;
    eyrie_error err;
    int status = choose_context(l->b->o, model, a, opts);

    if (status != CLI_DONE) return status;
    opts->slots = (uint32_t)slots;
    opts->progress = show_opening;
    opts->progress_user = l->b;
    l->info.struct_size = sizeof l->info;
    if (eyrie_model_open(&l->model, l->b->device, model, opts, &err) != EYRIE_OK
        || eyrie_model_get_info(l->model, &l->info, &err) != EYRIE_OK
        || eyrie_engine_open(&l->engine, l->model, NULL, &err) != EYRIE_OK
        || eyrie_meter_open(&l->meter, l->b->device, &err) != EYRIE_OK) {
        cli_bench_wipe(l->b);
        return cli_fail("%s%s", err.text, err.status == EYRIE_EMEMORY ? "; slots are here the most sequences of -b and one for each -d" : "");
    }
    l->bases = cli_resize(NULL, a->depths.n, sizeof *l->bases);
    l->seqs = cli_resize(NULL, (size_t)largest(&a->batches), sizeof *l->seqs);
    memset(l->bases, 0, a->depths.n * sizeof *l->bases);
    memset(l->seqs, 0, (size_t)largest(&a->batches) * sizeof *l->seqs);
    return CLI_DONE;
}

static void close_lab(lab *l, const axes *a)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->cells[i].rates.values);
        free(l->cells[i].seconds.values);
        free(l->cells[i].shares.values);
        free(l->cells[i].predicted.values);
        free(l->cells[i].read.values);
        free(l->cells[i].flop_limit.values);
    }
    for (size_t i = 0; i < a->depths.n && l->bases; i++) (void)eyrie_seq_close(l->bases[i]);
    free(l->cells);
    free(l->bases);
    free(l->seqs);
    free(l->ids);
    eyrie_meter_close(l->meter);
    (void)eyrie_engine_close(l->engine);
    (void)eyrie_model_close(l->model);
}

/* Rows of what was measured are kept, also when something failed. */
static int run_setting(lab *l, const char *model, const axes *a, eyrie_model_opts *opts)
{
    uint64_t most = largest(&a->prompts) > TOKENS ? largest(&a->prompts) : TOKENS;
    uint32_t random = 1;
    eyrie_error err;
    int status = open_lab(l, model, a, opts);

    if (status != CLI_DONE) return status;
    l->ids = cli_resize(NULL, (size_t)most, sizeof *l->ids);
    for (uint64_t i = 0; i < most; i++) {
        random = random * 1664525u + 1013904223u;       /* of Numerical Recipes; which tokens hardly matters */
        l->ids[i] = (int32_t)((random >> 8) % l->info.vocab);
    }
    add_cells(l, a);
    for (size_t i = 0; i < l->n; i++) work_of(l, &l->cells[i], a->depths.items[l->cells[i].depth]);
    describe_model(l, model);
    if (fill(l, &a->depths, &err) != EYRIE_OK || measure(l, &a->depths, &err) != EYRIE_OK) status = failed(l, &err);
    for (size_t i = 0; i < l->n; i++)
        if (l->cells[i].rates.n) add_row(l, &l->cells[i], a->depths.items[l->cells[i].depth], model);
    return status;
}

/* Item `i` of "a,b,c" into text; false: there is none. NULL has one, "". */
static bool item_of(const char *list, size_t i, char text[24])
{
    for (; list && i > 0; i--) {
        list = strchr(list, ',');
        if (list) list++;
    }
    text[0] = '\0';
    if (!list) return false;
    snprintf(text, 24, "%.*s", (int)strcspn(list, ","), list);
    return true;
}

static size_t count_of(const char *list)
{
    size_t n = 1;

    for (; list && *list; list++) n += *list == ',';
    return n;
}

int cli_bench_phases(cli_benchmark *b, const char *model)
{
    const cli_options *o = b->o;
    axes a = axes_of(o);
    size_t n_weights = count_of(o->weights), n_compute = count_of(o->compute), all = n_weights * n_compute * a.chunks.n;
    char weights[24], compute[24];
    int status = CLI_DONE;

    for (size_t i = 0; i < all && status == CLI_DONE && !cli_bench_interrupted(b); i++) {
        cli_options one = *o;
        lab l = { .b = b, .compute = compute, .repetitions = o->repetitions ? o->repetitions : o->quick ? 3 : 5,
                  .settings_left = (double)(all - 1 - i) };
        eyrie_model_opts opts;

        one.weights = item_of(o->weights, i / a.chunks.n / n_compute, weights) ? weights : NULL;
        if (!item_of(o->compute, i / a.chunks.n % n_compute, compute)) snprintf(compute, sizeof compute, "auto");
        one.compute = compute;
        one.chunk = a.chunks.items[i % a.chunks.n];
        opts = cli_model_opts(&one);
        status = run_setting(&l, model, &a, &opts);
        close_lab(&l, &a);
    }
    cli_bench_wipe(b);
    return status;
}
