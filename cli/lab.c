/* lab.c - see lab.h. */
#include "lab.h"
#include "statistics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_TOKENS = 4, TOKENS = 1 << 16, LIMIT_SAMPLES = 3 };

/* Sequences that have read so many tokens are forks of one. */
typedef struct base {
    uint64_t   depth;
    eyrie_seq *seq;
} base;

/* A cell, and what came of it. */
typedef struct trial {
    cli_cell    cell;
    const base *base;
    double      expected;           /* seconds of a repetition; from the round that does not count */
    double      bytes, flops;       /* of a repetition */
    cli_rates   rates, seconds, shares, predicted;   /* predicted: rates, where the cost model knew */
    cli_rates   read, flop_limit;   /* limits before each */
    double      joules;             /* of all repetitions */
    bool        memory_bound;       /* what the last one's limit was */
} trial;

/* A model in one setting. */
typedef struct lab {
    cli_benchmark        *b;
    const cli_experiment *e;
    eyrie_model          *model;
    eyrie_engine         *engine;
    eyrie_meter          *meter;    /* borrowed */
    eyrie_model_info      info;
    base                 *bases;    /* [n_bases], ascending depths */
    size_t                n_bases;
    eyrie_seq           **seqs;     /* [batch], NULL: closed */
    uint64_t              batch;    /* the largest */
    int32_t              *ids;      /* [TOKENS, or the longest prompt] to be read over and over */
    trial                *trials;   /* [e->n] */
} lab;

/* ------------------------------------------------------------------------------------------------------------ work */

/* What a cell moves and computes at least: the weights once a step, the state that a token reads, two operations for each weight
 * and token, and attention. The window fills up with the position. */
static void work_of(const eyrie_model_info *i, trial *t)
{
    const cli_cell *c = &t->cell;
    double number = i->kv == EYRIE_FORMAT_F32 ? 4 : 2, keys = 0;
    double a_key = 2.0 * i->attention_layers * i->kv_heads * i->head_dim * number;          /* bytes of a position */
    double a_key_flops = 4.0 * i->attention_layers * i->heads * i->head_dim;
    uint64_t window = i->window && (!i->context || i->window < i->context) ? i->window : i->context ? i->context - 1 : 0;
    double ring = i->attention_layers ? 64 * ceil((double)(window + 1) / 64) * a_key : 0;
    double weights = (double)i->decode_bytes - (double)i->state_bytes, rest = fmax(0, (double)i->state_bytes - ring);
    double token = (double)i->decode_flops - (i->attention_layers ? a_key_flops * (double)(window + 1) : 0);
    double head = 2.0 * i->vocab * i->width, n = (double)c->tokens, batch = (double)c->batch;
    uint64_t first = c->depth > 0 || !c->decode ? c->depth : 1;

    for (uint64_t p = first; p < first + c->tokens && i->attention_layers; p++) keys += (double)(p < window ? p : window) + 1;
    if (c->decode) {
        t->bytes = n * weights + batch * (n * rest + keys * a_key);
        t->flops = batch * (n * token + keys * a_key_flops);
    } else {
        t->bytes = ceil(batch * n / i->chunk) * weights + batch * n / i->chunk * rest;
        t->flops = batch * (n * (token - head) + head + keys * a_key_flops);
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
static eyrie_status fill(lab *l, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < l->n_bases && st == EYRIE_OK && !cli_bench_interrupted(l->b); i++) {
        base *this = &l->bases[i];
        uint64_t depth = this->depth ? this->depth : 1, pending;
        st = i == 0 ? eyrie_seq_open(&this->seq, l->engine, err) : eyrie_seq_fork(&this->seq, l->bases[i - 1].seq, err);
        while (st == EYRIE_OK && eyrie_seq_position(this->seq) < depth && !cli_bench_interrupted(l->b)) {
            uint64_t left = depth - eyrie_seq_position(this->seq);
            cli_bench_show(l->b, NAN, "%s: filling a sequence: %" PRIu64 " of %" PRIu64 " tokens", l->e->model, depth - left, depth);
            pending = eyrie_seq_pending(this->seq, NULL);
            if (left > TOKENS / 32) left = TOKENS / 32;
            eyrie_request r = request_of(l, left - pending, 1);
            if ((st = eyrie_seq_submit(this->seq, &r, err)) == EYRIE_OK) st = finish(l, err);
        }
    }
    return st;
}

static eyrie_status prepare(lab *l, const trial *t, eyrie_error *err)
{
    const cli_cell *c = &t->cell;
    eyrie_status st = EYRIE_OK;

    for (uint64_t i = 0; i < c->batch && st == EYRIE_OK; i++)
        st = c->decode || c->depth > 0 ? eyrie_seq_fork(&l->seqs[i], t->base->seq, err) : eyrie_seq_open(&l->seqs[i], l->engine, err);
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
static eyrie_status run(lab *l, const cli_cell *c, uint64_t tokens, double *seconds, eyrie_error *err)
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
static eyrie_status measure_limits(lab *l, const cli_cell *c, double *read, double *flops, eyrie_error *err)
{
    double unit = 0;
    eyrie_status st = measure_limit(l, EYRIE_METRIC_F32, &l->b->f32, flops, err);

    if (st == EYRIE_OK && l->info.matrix_unit && !c->decode) st = measure_limit(l, EYRIE_METRIC_UNIT, &l->b->unit, &unit, err);
    if (unit > 0) *flops = unit;
    return st == EYRIE_OK ? measure_limit(l, EYRIE_METRIC_READ, &l->b->read, read, err) : st;
}

static eyrie_status repeat(lab *l, trial *t, bool counts, eyrie_error *err)
{
    const cli_cell *c = &t->cell;
    uint64_t tokens = counts || !c->decode || c->tokens < WARM_TOKENS ? c->tokens : WARM_TOKENS;
    double read = 0, flops = 0, seconds = 0, predicted, joules;
    eyrie_status st = prepare(l, t, err);

    if (st == EYRIE_OK && counts) st = measure_limits(l, c, &read, &flops, err);
    predicted = predicted_so_far(l);
    (void)cli_energy_spent(&l->b->energy);
    if (st == EYRIE_OK) st = run(l, c, tokens, &seconds, err);
    joules = cli_energy_spent(&l->b->energy);
    predicted = predicted_so_far(l) - predicted;
    close_sequences(l, c->batch);
    if (st != EYRIE_OK || cli_bench_interrupted(l->b)) return st;
    t->expected = seconds * (double)c->tokens / (double)tokens;
    if (!counts) return st;
    t->memory_bound = t->bytes / read > t->flops / flops;
    t->joules += joules;
    cli_rates_add(&t->seconds, seconds);
    cli_rates_add(&t->rates, (double)(c->tokens * c->batch) / seconds);
    cli_rates_add(&t->shares, fmax(t->bytes / read, t->flops / flops) / seconds);
    if (predicted > 0) cli_rates_add(&t->predicted, (double)(c->tokens * c->batch) / predicted);
    cli_rates_add(&t->read, read);
    cli_rates_add(&t->flop_limit, flops);
    return st;
}

/* Labs whose cells are measured in turn. */
typedef struct turns {
    cli_benchmark *b;
    eyrie_meter   *meter;
    lab           *list;            /* [n] */
    size_t         n;
    uint64_t       repetitions;
    double         after;
} turns;

/* Seconds of a round, up to trial i of lab k. */
static double round_until(const turns *all, size_t k, size_t i)
{
    double sum = 0;

    for (size_t m = 0; m < all->n && m <= k; m++)
        for (size_t j = 0; j < all->list[m].e->n && (m < k || j < i); j++) sum += all->list[m].trials[j].expected + 0.25;  /* limits are measured, too */
    return sum;
}

static double time_left(const turns *all, uint64_t round, size_t k, size_t i)
{
    double whole = round_until(all, all->n, 0);

    if (round == 0) return NAN;
    return whole * (double)(all->repetitions - round + 1) - round_until(all, k, i) + all->after * whole * (double)(all->repetitions + 1);
}

static void show_trial(const turns *all, uint64_t round, size_t k, size_t i)
{
    const cli_cell *c = &all->list[k].trials[i].cell;
    char what[64];

    if (round == 0) snprintf(what, sizeof what, "a first time that does not count");
    else snprintf(what, sizeof what, "repetition %" PRIu64 " of %" PRIu64, round, all->repetitions);
    cli_bench_show(all->b, time_left(all, round, k, i), "%s: %s %" PRIu64 " tokens at depth %" PRIu64 ", batch %" PRIu64 ": %s",
                   all->list[k].e->model, c->decode ? "decode" : "prefill", c->tokens, c->depth, c->batch, what);
}

/* Round 0 does not count. After the deadline there is a first repetition still: without, nothing would be known. */
static eyrie_status measure(turns *all, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint64_t round = 0; round <= all->repetitions; round++)
        for (size_t k = 0; k < all->n; k++)
            for (size_t i = 0; i < all->list[k].e->n; i++) {
                if (st != EYRIE_OK || cli_bench_interrupted(all->b) || (round > 1 && cli_seconds() > all->b->deadline)) return st;
                show_trial(all, round, k, i);
                st = repeat(&all->list[k], &all->list[k].trials[i], round > 0, err);
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

static double median_of(const cli_rates *r) { return cli_summarise(r->values, r->n).median; }

static void add_row(const lab *l, const trial *t)
{
    const cli_cell *c = &t->cell;
    json_t *row = cli_record_add_row(l->b->rows, c->decode ? "decode" : "prefill");
    double seconds = median_of(&t->seconds);

    cli_set(row, "model", cli_text(l->e->model, strlen(l->e->model)));
    cli_set(row, "weights", json_string(cli_format_name(l->info.weights)));
    cli_set(row, "kv", json_string(cli_format_name(l->info.kv)));
    cli_set(row, "compute", json_string(l->e->compute));
    cli_set(row, "chunk", json_integer(l->info.chunk));
    cli_set(row, "tokens", json_integer((json_int_t)c->tokens));
    cli_set(row, "depth", json_integer((json_int_t)c->depth));
    cli_set(row, "batch", json_integer((json_int_t)c->batch));
    cli_record_set_rates(row, "tokens/s", t->rates.values, t->rates.n);
    cli_set(row, "seconds", list_of(&t->seconds));
    cli_set(row, "bytes", cli_number(t->bytes));
    cli_set(row, "flops", cli_number(t->flops));
    cli_set(row, "bytes_per_second", cli_number(t->bytes / seconds));
    cli_set(row, "flops_per_second", cli_number(t->flops / seconds));
    cli_set(row, "limit", json_string(t->memory_bound ? "read" : l->info.matrix_unit && !c->decode ? "matrix unit" : "f32"));
    cli_set(row, "share", cli_number(median_of(&t->shares)));
    cli_set(row, "shares", list_of(&t->shares));
    cli_set(row, "read_limits", list_of(&t->read));
    cli_set(row, "flop_limits", list_of(&t->flop_limit));
    cli_set(row, "predicted", cli_number(median_of(&t->predicted)));
    cli_set(row, "joules_per_token", cli_number(t->joules / (double)(t->rates.n * c->tokens * c->batch)));
}

static void describe_model(const lab *l)
{
    const eyrie_model_info *i = &l->info;
    json_t *models = json_object_get(l->b->record, "models"), *object = json_object();
    const struct { const char *key; uint64_t value; } counts[] = {
        { "parameters", i->parameters }, { "chunk", i->chunk }, { "slots", i->slots }, { "context", i->context }, { "window", i->window },
        { "weight_bytes", i->weight_bytes }, { "state_bytes", i->state_bytes }, { "scratch_bytes", i->scratch_bytes },
        { "decode_bytes", i->decode_bytes }, { "decode_flops", i->decode_flops },
    };

    cli_set(object, "model", cli_text(l->e->model, strlen(l->e->model)));
    cli_set(object, "family", json_string(i->family));
    cli_set(object, "weights", json_string(cli_format_name(i->weights)));
    cli_set(object, "kv", json_string(cli_format_name(i->kv)));
    cli_set(object, "compute", json_string(l->e->compute));
    cli_set(object, "matrix_unit", json_boolean(i->matrix_unit));
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) cli_set(object, counts[k].key, json_integer((json_int_t)counts[k].value));
    if (!models) {
        models = json_array();
        cli_set(l->b->record, "models", models);
    }
    cli_append(models, object);
}

/* -------------------------------------------------------------------------------------------------- setting it up */

static int compare_depths(const void *a, const void *b)
{
    uint64_t x = ((const base *)a)->depth, y = ((const base *)b)->depth;
    return (x > y) - (x < y);
}

/* A base for each depth, and trials that know theirs. */
static void lay_out(lab *l)
{
    size_t n = l->e->n, used = 0;

    l->bases = cli_resize(NULL, n, sizeof *l->bases);
    l->trials = cli_resize(NULL, n, sizeof *l->trials);
    for (size_t i = 0; i < n; i++) {
        l->bases[i] = (base){ .depth = l->e->cells[i].depth };
        if (l->e->cells[i].batch > l->batch) l->batch = l->e->cells[i].batch;
    }
    qsort(l->bases, n, sizeof *l->bases, compare_depths);
    for (size_t i = 0; i < n; i++)
        if (used == 0 || l->bases[i].depth != l->bases[used - 1].depth) l->bases[used++] = l->bases[i];
    l->n_bases = used;
    for (size_t i = 0; i < n; i++) {
        const base *found = l->bases;
        while (found->depth != l->e->cells[i].depth) found++;
        l->trials[i] = (trial){ .cell = l->e->cells[i], .base = found };
    }
    l->seqs = cli_resize(NULL, (size_t)l->batch, sizeof *l->seqs);
    memset(l->seqs, 0, (size_t)l->batch * sizeof *l->seqs);
}

static void make_ids(lab *l)
{
    uint64_t most = TOKENS;
    uint32_t random = 1;

    for (size_t i = 0; i < l->e->n; i++)
        if (l->e->cells[i].tokens > most) most = l->e->cells[i].tokens;
    l->ids = cli_resize(NULL, (size_t)most, sizeof *l->ids);
    for (uint64_t i = 0; i < most; i++) {
        random = random * 1664525u + 1013904223u;       /* of Numerical Recipes; which tokens hardly matters */
        l->ids[i] = (int32_t)((random >> 8) % l->info.vocab);
    }
}

static void show_opening(void *user, const char *what, double done)
{
    cli_bench_show(user, NAN, "%s: %.0f %%", what, 100 * done);
}

/* Tokens of the longest sequence. */
static uint64_t longest(const cli_experiment *e)
{
    uint64_t most = 0;

    for (size_t i = 0; i < e->n; i++) {
        const cli_cell *c = &e->cells[i];
        uint64_t length = c->depth + c->tokens + (c->decode ? 2 : 1);
        if (length > most) most = length;
    }
    return most;
}

/* Where the model has a bound, it is just that, unless the options say: its memory grows with it. */
static int choose_context(const cli_experiment *e, eyrie_model_opts *opts)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    uint64_t most = longest(e), given = opts->context;
    eyrie_error err;

    if (eyrie_model_inspect(e->model, opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (given && given < most)
        return cli_fail("depth and tokens come to %" PRIu64 " in a sequence; --context %" PRIu64 " holds less", most, given);
    if (!given && info.context) opts->context = most;
    return CLI_DONE;
}

static int failed(cli_benchmark *b, const eyrie_error *err)
{
    cli_bench_wipe(b);
    return cli_fail("%s%s", err->text, err->status == EYRIE_EMEMORY ? "; slots are here the most sequences of -b and one for each -d" : "");
}

static int open_lab(lab *l)
{
    eyrie_model_opts opts = l->e->opts;
    eyrie_error err;
    int status = choose_context(l->e, &opts);

    if (status != CLI_DONE) return status;
    lay_out(l);
    opts.slots = (uint32_t)(l->batch + l->n_bases);
    opts.progress = show_opening;
    opts.progress_user = l->b;
    l->info.struct_size = sizeof l->info;
    if (eyrie_model_open(&l->model, l->b->device, l->e->model, &opts, &err) != EYRIE_OK
        || eyrie_model_get_info(l->model, &l->info, &err) != EYRIE_OK
        || eyrie_engine_open(&l->engine, l->model, NULL, &err) != EYRIE_OK) return failed(l->b, &err);
    make_ids(l);
    for (size_t i = 0; i < l->e->n; i++) work_of(&l->info, &l->trials[i]);
    describe_model(l);
    return fill(l, &err) == EYRIE_OK ? CLI_DONE : failed(l->b, &err);
}

static void close_lab(lab *l)
{
    for (size_t i = 0; i < l->e->n && l->trials; i++) {
        const trial *t = &l->trials[i];
        const cli_rates *const all[] = { &t->rates, &t->seconds, &t->shares, &t->predicted, &t->read, &t->flop_limit };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]->values);
    }
    for (size_t i = 0; i < l->n_bases; i++) (void)eyrie_seq_close(l->bases[i].seq);
    free(l->trials);
    free(l->bases);
    free(l->seqs);
    free(l->ids);
    (void)eyrie_engine_close(l->engine);
    (void)eyrie_model_close(l->model);
}

int cli_lab_run(cli_benchmark *b, const cli_experiment *experiments, size_t n, uint64_t repetitions, double after)
{
    turns all = { .b = b, .list = cli_resize(NULL, n, sizeof *all.list), .n = n, .repetitions = repetitions, .after = after };
    eyrie_error err;
    int status = CLI_DONE;

    for (size_t k = 0; k < n; k++) all.list[k] = (lab){ .b = b, .e = &experiments[k] };
    for (size_t k = 0; k < n && status == CLI_DONE && !cli_bench_interrupted(b); k++) status = open_lab(&all.list[k]);
    if (status == CLI_DONE && eyrie_meter_open(&all.meter, b->device, &err) != EYRIE_OK) status = failed(b, &err);
    for (size_t k = 0; k < n; k++) all.list[k].meter = all.meter;
    if (status == CLI_DONE && measure(&all, &err) != EYRIE_OK) status = failed(b, &err);
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < experiments[k].n && all.list[k].trials; i++)
            if (all.list[k].trials[i].rates.n) add_row(&all.list[k], &all.list[k].trials[i]);
        close_lab(&all.list[k]);
    }
    eyrie_meter_close(all.meter);
    free(all.list);
    return status;
}

uint64_t cli_lab_bytes(const cli_experiment *e)
{
    eyrie_model_opts opts = e->opts;
    eyrie_model_info info = { .struct_size = sizeof info };
    lab l = { .e = e };
    eyrie_error err;

    if (choose_context(e, &opts) != CLI_DONE) return 0;
    if (eyrie_model_inspect(e->model, &opts, &info, &err) != EYRIE_OK) return (void)cli_fail("%s", err.text), 0;
    lay_out(&l);
    free(l.trials);
    free(l.bases);
    free(l.seqs);
    return info.weight_bytes + info.state_bytes * (l.batch + l.n_bases);
}
