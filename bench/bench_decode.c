/* bench_decode.c - decode steps of a whole model by the number of sequences in them: weights are read once for all of them, so
 * tokens a second should grow with the rows until arithmetic binds.
 *
 *     POCL_AFFINITY=1 build-bench/bench_decode                                    110 M parameters, bf16, 1 to 32 rows
 *     POCL_AFFINITY=1 build-bench/bench_decode -w q8 -m synthetic:recurrentgemma-2b -r 1,8 -p 2048
 *
 * A sample of a number of rows is STEPS steps, each waited for, with candidates read back; in each round all numbers of rows
 * have their turn, each right after the limits were measured. Sequences begin at the position -p gives, with a state of zeros. */
#include "limits.h"
#include "model.h"
#include "os.h"
#include "quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROWS = 64, MOST_COUNTS = 16, STEPS = 4 };

typedef struct options {
    const char   *model;
    const char   *device, *cache;
    eyrie_format  weights;
    bool          varying;
    uint64_t      position;
    uint32_t      rounds;
    uint32_t      rows[MOST_COUNTS], n;
} options;

/* What was found for one number of rows. */
typedef struct row_samples {
    double ms[100], times_first[100], shares[100];
    bool   reads_bind;
} row_samples;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return values[n / 2];
}

static eyrie_status step(eyrie_model *m, uint32_t n, uint64_t position, eyrie_error *err)
{
    int32_t tokens[MOST_ROWS];
    ey_row rows[MOST_ROWS];
    const ey_result *results;
    uint32_t wanted;
    eyrie_status st;

    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)(3 + 977 * (position + 31 * i) % 31000);
        rows[i] = (ey_row){ .slot = i, .n = 1, .position = position, .tokens = &tokens[i], .want = EY_WANT_LAST };
    }
    EY_TRY(ey_model_upload(m, &(ey_batch){ EY_DECODE, n, rows }, err));
    EY_TRY(ey_model_enqueue(m, EY_DECODE, 0, UINT32_MAX, err));
    st = ey_model_results(m, EY_DECODE, &results, &wanted, err);
done:
    return st;
}

static eyrie_status sample(eyrie_model *m, uint32_t n, uint64_t position, double *seconds, eyrie_error *err)
{
    double start = ey_seconds();
    eyrie_status st = EYRIE_OK;

    for (uint32_t i = 0; i < STEPS && st == EYRIE_OK; i++) st = step(m, n, position + i, err);
    *seconds = (ey_seconds() - start) / STEPS;
    return st;
}

/* State that rows see is that of their window so far, or all of it. */
static void print_table(const options *o, row_samples *found, const eyrie_model_info *info)
{
    printf("| model | weights | rows | ms a step | tokens/s | x of %u row%s | share of the limit |\n|---|---|---|---|---|---|---|\n",
           (unsigned)o->rows[0], o->rows[0] == 1 ? "" : "s");
    for (uint32_t k = 0; k < o->n; k++) {
        double ms = median(found[k].ms, o->rounds), n = o->rows[k];
        printf("| %s | %s | %u | %.3f | %.1f | %.2f | %.0f %% of %s |\n", o->model, ey_quant_of(info->weights)->name,
               (unsigned)o->rows[k], ms, 1e3 * n / ms, median(found[k].times_first, o->rounds),
               median(found[k].shares, o->rounds), found[k].reads_bind ? "read" : "fma");
    }
}

static eyrie_status run(const options *o, eyrie_device *dev, const ey_limits *l, eyrie_error *err)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = o->weights, .slots = o->rows[o->n - 1], .chunk = 8,
                              .varying = o->varying };
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_model *m = NULL;
    row_samples *found = ey_calloc(o->n, sizeof *found);
    uint64_t position = o->position;
    eyrie_status st;

    if (!found) return ey_fail(err, EYRIE_ENOMEM, "samples");
    EY_TRY(eyrie_model_open(&m, dev, o->model, &opts, err));
    EY_TRY(eyrie_model_get_info(m, &info, err));
    for (uint32_t i = 0; i < 8; i++) EY_TRY(step(m, o->rows[o->n - 1], position++, err));
    for (uint32_t i = 0; i < o->rounds; i++, position += STEPS) {
        double first = 0;
        for (uint32_t k = 0; k < o->n; k++) {
            double n = o->rows[k], seconds;
            ey_rates limit;

            EY_TRY(ey_limits_measure(l, &limit, err));
            EY_TRY(sample(m, o->rows[k], position, &seconds, err));
            double read = ((double)info.weight_bytes + n * (double)info.state_bytes) / limit.bytes;
            double compute = n * (double)info.decode_flops / limit.flops;
            if (k == 0) first = n / seconds;
            found[k].ms[i] = 1e3 * seconds;
            found[k].times_first[i] = n / seconds / first;
            found[k].shares[i] = 100 * (read > compute ? read : compute) / seconds;
            found[k].reads_bind = read > compute;
        }
    }
    print_table(o, found, &info);
done:
    (void)eyrie_model_close(m);
    ey_free(found);
    return st;
}

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s [-d DEVICE] [-c CACHE] [-m MODEL] [-w FORMAT] [-p POSITION] [-r ROWS,...] [-n ROUNDS] [-v]\n"
                    "  -c  a cache directory, as --cache-dir\n"
                    "  -m  a model, as of eyrie run (default: synthetic:bench/g110.json)\n"
                    "  -w  how weights are stored (default bf16)\n"
                    "  -p  where sequences begin (default 0)\n"
                    "  -r  numbers of rows, up to %d, ascending (default 1,2,4,8,16,32)\n"
                    "  -n  rounds, up to 100 (default 9)\n"
                    "  -v  --invariant off\n", program, MOST_ROWS);
    return 2;
}

static bool read_rows(options *o, char *list)
{
    o->n = 0;
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
        unsigned long n = strtoul(word, NULL, 10);
        if (n < 1 || n > MOST_ROWS || o->n == MOST_COUNTS || (o->n > 0 && n <= o->rows[o->n - 1])) return false;
        o->rows[o->n++] = (uint32_t)n;
    }
    return o->n > 0;
}

static bool read_options(options *o, int argc, char **argv)
{
    int option;

    *o = (options){ .model = "synthetic:bench/g110.json", .weights = EYRIE_FORMAT_BF16, .rounds = 9,
                    .rows = { 1, 2, 4, 8, 16, 32 }, .n = 6 };
    while ((option = getopt(argc, argv, "d:c:m:w:p:r:n:v")) != -1) {
        switch (option) {
        case 'd': o->device = optarg; break;
        case 'c': o->cache = optarg; break;
        case 'm': o->model = optarg; break;
        case 'p': o->position = strtoull(optarg, NULL, 10); break;
        case 'n': o->rounds = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'v': o->varying = true; break;
        case 'r':
            if (!read_rows(o, optarg)) return false;
            break;
        case 'w':
            for (o->weights = EYRIE_FORMAT_F32; ey_quant_of(o->weights); o->weights++)
                if (strcmp(ey_quant_of(o->weights)->name, optarg) == 0) break;
            if (!ey_quant_of(o->weights)) return false;
            break;
        default: return false;
        }
    }
    return optind == argc && o->rounds >= 1 && o->rounds <= 100;
}

int main(int argc, char **argv)
{
    options o;
    eyrie_device *dev = NULL;
    ey_limits limits = { 0 };
    eyrie_error err;
    eyrie_status st;

    if (!read_options(&o, argc, argv)) return usage(argv[0]);
    eyrie_device_opts device = { .struct_size = sizeof device, .select = o.device, .cache_dir = o.cache };
    EY_TRY(eyrie_device_open(&dev, &device, &err));
    EY_TRY(ey_limits_open(&limits, dev, &err));
    st = run(&o, dev, &limits, &err);
done:
    if (st != EYRIE_OK) fprintf(stderr, "%s: %s\n", argv[0], err.text);
    ey_limits_close(&limits);
    (void)eyrie_device_close(dev);
    return st == EYRIE_OK ? 0 : 1;
}
