/* bench_cost.c - how well steps of whole models are predicted (cost.h): decode steps of 1 to 64 sequences and prefill steps of
 * 64 to 1024 tokens, measured and predicted in the same run.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_cost                          griffin-100m and recurrentgemma-2b in bf16
 *     POCL_AFFINITY=1 build-bench/bench_cost -m recurrentgemma-2b -f q8 -n 6 -t 256    no prefill step of more tokens
 *
 * Sizes take turns, n times; from every other round is learnt, the median of the rest is what is compared.
 * Three predictions: `limits`, the formula with what the device reads and computes at best, before a step has run; `unseen`,
 * with all that was learnt but from steps of this size; `learnt`, with that, too. */
#include "bench.h"
#include "model.h"
#include "os.h"
#include "quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 64, CHUNK = 1024, POSITION = 500, MOST_ROUNDS = 99 };

typedef struct size {
    ey_phase  phase;
    uint32_t  rows, n;              /* rows of n tokens */
    double    seconds[MOST_ROUNDS];
    ey_costs *unseen;
} size;

static const uint32_t decode_rows[] = { 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 };
static const uint32_t prefill_tokens[] = { 64, 128, 192, 256, 384, 512, 768, 1024 };
enum { DECODES = sizeof decode_rows / sizeof *decode_rows, PREFILLS = sizeof prefill_tokens / sizeof *prefill_tokens,
       SIZES = DECODES + PREFILLS };

/* Sequences in decode are 500 tokens long, prompts begin. */
static uint32_t loads_of(const size *s, ey_load *loads)
{
    for (uint32_t i = 0; i < s->rows; i++) loads[i] = (ey_load){ s->phase == EY_DECODE ? POSITION : 0, s->n, 1 };
    return s->rows;
}

static eyrie_status run_step(eyrie_model *m, const size *s, double *seconds, eyrie_error *err)
{
    static const int32_t tokens[CHUNK];
    ey_row rows[SLOTS];
    const ey_result *results;
    uint32_t n;
    double start = ey_seconds();
    eyrie_status st;

    for (uint32_t i = 0; i < s->rows; i++)
        rows[i] = (ey_row){ .slot = i, .n = s->n, .position = s->phase == EY_DECODE ? POSITION : 0, .tokens = tokens, .want = EY_WANT_LAST };
    EY_TRY(ey_model_upload(m, &(ey_batch){ s->phase, s->rows, rows }, err));
    EY_TRY(ey_model_enqueue(m, s->phase, 0, UINT32_MAX, err));
    EY_TRY(ey_model_results(m, s->phase, &results, &n, err));
    *seconds = ey_seconds() - start;
done:
    return st;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_size(size *s, const ey_costs *believed, const ey_costs *learnt, double measured)
{
    const ey_costs *all[3] = { believed, s->unseen, learnt };
    ey_load loads[SLOTS];
    uint32_t n = loads_of(s, loads);

    printf("| %s | %u | %.2f |", s->phase == EY_DECODE ? "decode" : "prefill", (unsigned)(s->rows * s->n), 1e3 * measured);
    for (int k = 0; k < 3; k++) {
        double predicted = ey_cost_seconds(all[k], s->phase, loads, n);
        printf(" %.2f | %+.0f %% |", 1e3 * predicted, 100 * (predicted / measured - 1));
    }
    printf("\n");
}

/* Learns from rounds 0, 2, ... and prints what became of the others. */
static void compare(size *sizes, uint32_t n_sizes, ey_costs *believed, ey_costs *learnt, uint32_t rounds)
{
    ey_load loads[SLOTS];

    for (uint32_t r = 0; r < rounds; r += 2)
        for (uint32_t i = 0; i < n_sizes; i++) {
            uint32_t n = loads_of(&sizes[i], loads);
            ey_cost_learn(learnt, sizes[i].phase, loads, n, sizes[i].seconds[r]);
            for (uint32_t k = 0; k < n_sizes; k++)
                if (k != i) ey_cost_learn(sizes[k].unseen, sizes[i].phase, loads, n, sizes[i].seconds[r]);
        }
    for (uint32_t i = 0; i < n_sizes; i++) {
        double rest[MOST_ROUNDS];
        uint32_t n = 0;
        for (uint32_t r = 1; r < rounds; r += 2) rest[n++] = sizes[i].seconds[r];
        qsort(rest, n, sizeof *rest, ascending);
        print_size(&sizes[i], believed, learnt, rest[n / 2]);
    }
    printf("\nridge: decode %.1f rows, prefill %.1f tokens; by the limits %.1f and %.1f\n\n", ey_cost_ridge(learnt, EY_DECODE),
           ey_cost_ridge(learnt, EY_PREFILL), ey_cost_ridge(believed, EY_DECODE), ey_cost_ridge(believed, EY_PREFILL));
}

static eyrie_status measure(eyrie_device *dev, const char *name, eyrie_format format, const ey_pace *pace, uint32_t rounds,
                            uint32_t most, eyrie_error *err)
{
    static size sizes[SIZES];
    eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = format, .slots = SLOTS, .chunk = CHUNK, .context = CHUNK };
    char path[128];
    eyrie_model *m = NULL;
    ey_costs *believed = NULL, *learnt = NULL;
    ey_shape shape;
    uint32_t n = DECODES;
    double seconds;
    eyrie_status st;

    snprintf(path, sizeof path, "synthetic:%s", name);
    EY_TRY(eyrie_model_open(&m, dev, path, &opts, err));
    ey_model_shape(m, &shape);
    believed = ey_costs_new(&shape, pace);
    learnt = ey_costs_new(&shape, pace);
    bool there = believed && learnt;
    for (uint32_t i = 0; i < SIZES; i++) {
        sizes[i] = i < DECODES ? (size){ .phase = EY_DECODE, .rows = decode_rows[i], .n = 1 }
                               : (size){ .phase = EY_PREFILL, .rows = 1, .n = prefill_tokens[i - DECODES] };
        there &= (sizes[i].unseen = ey_costs_new(&shape, pace)) != NULL;
    }
    if (!there) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "costs"));
    while (n < SIZES && sizes[n].n <= most) n++;
    for (uint32_t r = 0; r < rounds; r++)
        for (uint32_t i = 0; i < n; i++) {
            if (r == 0) EY_TRY(run_step(m, &sizes[i], &seconds, err));
            EY_TRY(run_step(m, &sizes[i], &sizes[i].seconds[r], err));
        }
    printf("%s, %s, %u and %u launches\n\n| phase | tokens | measured ms | limits ms | error | unseen ms | error | learnt ms | error |\n"
           "|---|---|---|---|---|---|---|---|---|\n", name, ey_quant_of(format)->name, shape.launches[EY_PREFILL], shape.launches[EY_DECODE]);
    compare(sizes, n, believed, learnt, rounds);
done:
    for (uint32_t i = 0; i < SIZES; i++) ey_free(sizes[i].unseen);
    memset(sizes, 0, sizeof sizes);
    ey_free(believed);
    ey_free(learnt);
    (void)eyrie_model_close(m);
    return st;
}

static eyrie_status limits_of(eyrie_device *dev, ey_pace *pace, eyrie_error *err)
{
    ey_limits limits;
    ey_rates rates;
    eyrie_status st;

    if ((st = ey_limits_open(&limits, dev, err)) != EYRIE_OK) return st;
    st = ey_limits_measure(&limits, &rates, err);
    ey_limits_close(&limits);
    for (uint32_t i = 0; i < EY_PHASES; i++) pace[i] = (ey_pace){ rates.bytes, rates.flops, rates.launch };
    if (st == EYRIE_OK)
        printf("%s: %.1f GB/s, %.0f GFLOP/s f32, %.1f us a launch\n\n", eyrie_device_name(dev), 1e-9 * rates.bytes, 1e-9 * rates.flops,
               1e6 * rates.launch);
    return st;
}

static eyrie_format format_named(const char *name)
{
    for (size_t i = 0; i < BENCH_FORMATS; i++)
        if (strcmp(ey_quant_of(bench_formats[i])->name, name) == 0) return bench_formats[i];
    return EYRIE_FORMAT_DEFAULT;
}

int main(int argc, char **argv)
{
    const char *models[] = { "griffin-100m", "recurrentgemma-2b" }, *only = NULL, *cache = NULL;
    eyrie_format format = EYRIE_FORMAT_BF16;
    eyrie_device_opts opts = { .struct_size = sizeof opts };
    eyrie_device *dev = NULL;
    ey_pace pace[EY_PHASES];
    uint32_t rounds = 10, most = CHUNK;
    eyrie_error err;
    eyrie_status st;
    int c;

    while ((c = getopt(argc, argv, "m:f:n:t:c:")) != -1) {
        if (c == 'm') only = optarg;
        else if (c == 'n' && atoi(optarg) >= 2 && atoi(optarg) <= MOST_ROUNDS) rounds = (uint32_t)atoi(optarg);
        else if (c == 't' && atoi(optarg) > 0) most = (uint32_t)atoi(optarg);
        else if (c == 'c') cache = optarg;
        else if (c == 'f' && (format = format_named(optarg)) != EYRIE_FORMAT_DEFAULT) continue;
        else return fprintf(stderr, "usage: bench_cost [-m MODEL] [-f f32|f16|bf16|q8|q4] [-n ROUNDS, 2 to %d] [-t TOKENS] [-c CACHE]\n", MOST_ROUNDS), 2;
    }
    opts.cache_dir = cache;
    EY_TRY(eyrie_device_open(&dev, &opts, &err));
    EY_TRY(limits_of(dev, pace, &err));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (!only || strcmp(only, models[i]) == 0) EY_TRY(measure(dev, models[i], format, pace, rounds, most, &err));
done:
    if (st != EYRIE_OK) fprintf(stderr, "bench_cost: %s\n", err.text);
    (void)eyrie_device_close(dev);
    return st != EYRIE_OK;
}
