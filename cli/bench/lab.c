/* lab.c - see lab.h: what is timed, in which order, with which limits beside it. */
#include "lab_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { WARM_TOKENS = 4, LIMIT_SAMPLES = 3, MOST_KERNELS = 64 };

static void close_sequences(cli_lab *l, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        (void)eyrie_seq_close(l->seqs[i]);
        l->seqs[i] = NULL;
    }
}

static eyrie_status prepare(cli_lab *l, const cli_trial *t, eyrie_error *err)
{
    const cli_cell *c = &t->cell;
    eyrie_status st = EYRIE_OK;

    for (uint64_t i = 0; i < c->batch && st == EYRIE_OK; i++)
        st = c->decode || c->depth > 0 ? eyrie_seq_fork(&l->seqs[i], t->base->seq, err)
                                       : eyrie_seq_open(&l->seqs[i], l->engine, err);
    return st;
}

/* Seconds that the cost model gave for all steps so far. */
static double predicted_so_far(const cli_lab *l)
{
    eyrie_stats stats = { .struct_size = sizeof stats };

    return eyrie_engine_get_stats(l->engine, &stats, NULL) == EYRIE_OK
               ? stats.prefill_predicted + stats.decode_predicted
               : 0;
}

/* The work of a cell with `tokens` tokens, timed. A prompt's first answer belongs to it; what a filled sequence has
 * pending is the prompt's first token. */
static eyrie_status run(cli_lab *l, const cli_cell *c, uint64_t tokens, double *seconds, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    *seconds = cli_seconds();
    for (uint64_t i = 0; i < c->batch && st == EYRIE_OK; i++) {
        eyrie_request r = c->decode ? cli_lab_request(l, 0, tokens)
                                    : cli_lab_request(l, tokens - eyrie_seq_pending(l->seqs[i], NULL), 1);
        st = eyrie_seq_submit(l->seqs[i], &r, err);
    }
    if (st == EYRIE_OK) st = cli_lab_finish(l, err);
    *seconds = cli_seconds() - *seconds;
    return st;
}

/* What the device allows is the best of a few: a sample takes hundredths of a second, and anything may hold it up. */
static eyrie_status measure_limit(cli_lab *l, eyrie_metric metric, cli_rates *all, double *rate, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    eyrie_sample s;

    *rate = 0;
    for (int i = 0; i < LIMIT_SAMPLES && st == EYRIE_OK; i++)
        if ((st = eyrie_meter_run(l->meter, metric, 0, &s, err)) == EYRIE_OK) *rate = fmax(*rate, s.work / s.seconds);
    if (st == EYRIE_OK) cli_rates_add(all, *rate);
    return st;
}

/* What the device allowed right before something; unit 0: not measured. */
typedef struct limits {
    double read, f32, unit;         /* bytes and FLOPs a second */
} limits;

/* What was measured last leaves its data in the caches: memory comes last. */
static eyrie_status measure_limits(cli_lab *l, const cli_trial *t, limits *now, eyrie_error *err)
{
    eyrie_status st = measure_limit(l, EYRIE_METRIC_F32, &l->b->f32, &now->f32, err);

    now->unit = 0;
    if (st == EYRIE_OK && t->may_use_unit)
        st = measure_limit(l, EYRIE_METRIC_UNIT, &l->b->unit, &now->unit, err);
    return st == EYRIE_OK ? measure_limit(l, EYRIE_METRIC_READ, &l->b->read, &now->read, err) : st;
}

static eyrie_status repeat(cli_lab *l, cli_trial *t, bool counts, eyrie_error *err)
{
    const cli_cell *c = &t->cell;
    uint64_t tokens = counts || !c->decode || c->tokens < WARM_TOKENS ? c->tokens : WARM_TOKENS;
    double seconds = 0, predicted, joules, flops;
    limits now = { 0, 0, 0 };
    eyrie_status st = prepare(l, t, err);

    if (st == EYRIE_OK && counts) st = measure_limits(l, t, &now, err);
    predicted = predicted_so_far(l);
    (void)cli_energy_spent(&l->b->energy);
    if (st == EYRIE_OK) st = run(l, c, tokens, &seconds, err);
    joules = cli_energy_spent(&l->b->energy);
    predicted = predicted_so_far(l) - predicted;
    close_sequences(l, c->batch);
    if (st != EYRIE_OK || cli_bench_interrupted(l->b)) return st;
    t->expected = seconds * (double)c->tokens / (double)tokens;
    if (!counts) return st;
    flops = now.unit > 0 ? now.unit : now.f32;
    t->memory_bound = t->bytes / now.read > t->flops / flops;
    t->joules += joules;
    cli_rates_add(&t->seconds, seconds);
    cli_rates_add(&t->rates, (double)(c->tokens * c->batch) / seconds);
    cli_rates_add(&t->shares, fmax(t->bytes / now.read, t->flops / flops) / seconds);
    if (predicted > 0) cli_rates_add(&t->predicted, (double)(c->tokens * c->batch) / predicted);
    cli_rates_add(&t->read, now.read);
    cli_rates_add(&t->flop_limit, flops);
    return st;
}

/* A cell once more, launch by launch. */
static eyrie_status profile(cli_lab *l, cli_trial *t, eyrie_error *err)
{
    static eyrie_kernel_time kernels[MOST_KERNELS];
    uint64_t tokens = t->cell.decode && t->cell.tokens > WARM_TOKENS ? WARM_TOKENS : t->cell.tokens;
    eyrie_profile *p = NULL;
    double seconds;
    size_t n = 0;
    eyrie_status st = prepare(l, t, err);

    if (st == EYRIE_OK) st = eyrie_profile_open(&p, l->b->device, err);
    if (st == EYRIE_OK) st = run(l, &t->cell, tokens, &seconds, err);
    if (st == EYRIE_OK) st = eyrie_profile_take(p, kernels, MOST_KERNELS, &n, err);
    eyrie_profile_close(p);
    close_sequences(l, t->cell.batch);
    if (st == EYRIE_OK && !cli_bench_interrupted(l->b))
        cli_lab_add_kernels(l, t, kernels, n < MOST_KERNELS ? n : MOST_KERNELS);
    return st;
}

/* Is there another like it that is deeper, or as deep and longer? */
static bool is_passed(const cli_lab *l, const cli_cell *c)
{
    for (size_t i = 0; i < l->e->n; i++) {
        const cli_cell *o = &l->e->cells[i];
        if (o->decode == c->decode && o->batch == c->batch
            && (o->depth > c->depth || (o->depth == c->depth && o->tokens > c->tokens))) return true;
    }
    return false;
}

/* Of each kind and batch the deepest and longest: full windows are where plans' counts are right. */
static eyrie_status profile_all(cli_lab *l, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < l->e->n && st == EYRIE_OK && !cli_bench_interrupted(l->b); i++) {
        cli_trial *t = &l->trials[i];
        if (is_passed(l, &t->cell)) continue;
        cli_bench_show(l->b, NAN, "%s: timing kernels", l->e->model);
        st = profile(l, t, err);
    }
    return st;
}

/* Labs whose cells are measured in turn. */
typedef struct turns {
    cli_benchmark *b;
    eyrie_meter   *meter;
    cli_lab           *list;            /* [n] */
    size_t         n;
    uint64_t       repetitions;
    double         after;
} turns;

/* Seconds of a round, up to trial i of lab k. */
static double round_until(const turns *all, size_t k, size_t i)
{
    double sum = 0;

    for (size_t m = 0; m < all->n && m <= k; m++)
        for (size_t j = 0; j < all->list[m].e->n && (m < k || j < i); j++)
            sum += all->list[m].trials[j].expected + 0.25; /* limits are measured, too */
    return sum;
}

static double time_left(const turns *all, uint64_t round, size_t k, size_t i)
{
    double whole = round_until(all, all->n, 0);

    if (round == 0) return NAN;
    return whole * (double)(all->repetitions - round + 1) - round_until(all, k, i)
           + all->after * whole * (double)(all->repetitions + 1);
}

static void show_trial(const turns *all, uint64_t round, size_t k, size_t i)
{
    const cli_cell *c = &all->list[k].trials[i].cell;
    char what[64];

    if (round == 0) snprintf(what, sizeof what, "a first time that does not count");
    else snprintf(what, sizeof what, "repetition %" PRIu64 " of %" PRIu64, round, all->repetitions);
    cli_bench_show(all->b, time_left(all, round, k, i),
                   "%s: %s %" PRIu64 " tokens at depth %" PRIu64 ", batch %" PRIu64 ": %s", all->list[k].e->model,
                   c->decode ? "decode" : "prefill", c->tokens, c->depth, c->batch, what);
}

/* Round 0 does not count. After the deadline there is a first repetition still: without, nothing would be known. */
static eyrie_status measure(turns *all, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint64_t round = 0; round <= all->repetitions; round++)
        for (size_t k = 0; k < all->n; k++)
            for (size_t i = 0; i < all->list[k].e->n; i++) {
                if (st != EYRIE_OK || cli_bench_interrupted(all->b)
                    || (round > 1 && cli_seconds() > all->b->deadline))
                    return st;
                show_trial(all, round, k, i);
                st = repeat(&all->list[k], &all->list[k].trials[i], round > 0, err);
            }
    return st;
}

int cli_lab_run(cli_benchmark *b, const cli_experiment *experiments, size_t n, uint64_t repetitions, double after)
{
    turns all = {
        .b = b, .list = cli_resize(NULL, n, sizeof *all.list), .n = n, .repetitions = repetitions, .after = after
    };
    eyrie_error err;
    int status = CLI_DONE;

    for (size_t k = 0; k < n; k++) all.list[k] = (cli_lab){ .b = b, .e = &experiments[k] };
    for (size_t k = 0; k < n && status == CLI_DONE && !cli_bench_interrupted(b); k++)
        status = cli_lab_open(&all.list[k]);
    if (status == CLI_DONE && eyrie_meter_open(&all.meter, b->device, &err) != EYRIE_OK)
        status = cli_lab_failed(b, &err);
    for (size_t k = 0; k < n; k++) all.list[k].meter = all.meter;
    if (status == CLI_DONE && measure(&all, &err) != EYRIE_OK) status = cli_lab_failed(b, &err);
    for (size_t k = 0; k < n && b->o->profile && status == CLI_DONE; k++)
        if (profile_all(&all.list[k], &err) != EYRIE_OK) status = cli_lab_failed(b, &err);
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < experiments[k].n && all.list[k].trials; i++)
            if (all.list[k].trials[i].rates.n) cli_lab_add_row(&all.list[k], &all.list[k].trials[i]);
        cli_lab_close(&all.list[k]);
    }
    eyrie_meter_close(all.meter);
    free(all.list);
    return status;
}

