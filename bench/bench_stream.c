/* bench_stream.c - does a device that is the host's CPU read memory through kernels as fast as plain C with threads does? Both
 * read the same number of bytes in turn, from large pages, in several streams a thread; what `eyrie bench device` says of reading should be
 * within 10 % of plain C. Not for other devices: there is nothing to compare them with. */
#include "os.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES ((uint64_t)1 << 29)

enum { STREAMS = 4, ROUNDS = 15, PARTS = 32 /* a thread: one that is held up leaves its to others, as work-items do */ };

/* What threads read, part by part, and what is in each. */
typedef struct reading {
    const uint64_t *data;
    uint64_t        words;              /* of a part, a multiple of streams */
    uint32_t        streams;
    uint64_t        sums[PARTS * EY_MAX_WORKERS];
} reading;

static void read_part(void *user, uint32_t worker, uint32_t i)
{
    reading *r = user;
    const uint64_t *from = r->data + i * r->words;
    uint64_t sums[STREAMS] = { 0 }, n = r->words / r->streams;

    (void)worker;
    if (r->streams == 1)
        for (uint64_t k = 0; k < n; k++) sums[0] += from[k];
    else
        for (uint64_t k = 0; k < n; k++) {
            sums[0] += from[k];
            sums[1] += from[k + n];
            sums[2] += from[k + 2 * n];
            sums[3] += from[k + 3 * n];
        }
    r->sums[i] = sums[0] + sums[1] + sums[2] + sums[3];
}

/* Bytes a second; every word is 1. */
static double read_all(reading *r, uint32_t threads, uint32_t streams)
{
    double start = ey_seconds();
    uint64_t sum = 0;

    r->streams = streams;
    ey_parallel(threads, PARTS * threads, read_part, r);
    start = ey_seconds() - start;
    for (uint32_t i = 0; i < PARTS * threads; i++) sum += r->sums[i];
    if (sum != r->words * PARTS * threads) exit(fprintf(stderr, "read %llu words\n", (unsigned long long)sum) < 0);
    return (double)(r->words * PARTS * threads * sizeof *r->data) / start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double rates[3][ROUNDS], ratios[ROUNDS];     /* one stream, four, kernels */
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = argc > 1 ? argv[1] : NULL };
    uint32_t threads = ey_cores();
    reading r = { .words = BYTES / sizeof(uint64_t) / threads / PARTS / STREAMS * STREAMS };
    uint64_t *data = ey_pages_new(BYTES);
    eyrie_device *dev;
    eyrie_meter *meter;
    eyrie_sample sample;
    eyrie_error err;

    if (!data || eyrie_device_open(&dev, &opts, &err) != EYRIE_OK || eyrie_meter_open(&meter, dev, &err) != EYRIE_OK)
        return fprintf(stderr, "%s\n", data ? err.text : "no memory") < 0 ? 2 : 1;
    for (uint64_t i = 0; i < BYTES / sizeof *data; i++) data[i] = 1;
    r.data = data;
    for (int i = -1; i < ROUNDS; i++) {                 /* -1: first touches, compiling */
        int at = i < 0 ? 0 : i;
        rates[0][at] = read_all(&r, threads, 1);
        rates[1][at] = read_all(&r, threads, STREAMS);
        if (eyrie_meter_run(meter, EYRIE_METRIC_READ, 0, &sample, &err) != EYRIE_OK) return fprintf(stderr, "%s\n", err.text) < 0 ? 2 : 1;
        rates[2][at] = sample.work / sample.seconds;
        ratios[at] = rates[2][at] / fmax(rates[0][at], rates[1][at]);
    }
    for (int i = 0; i < 3; i++) qsort(rates[i], ROUNDS, sizeof **rates, by_value);
    qsort(ratios, ROUNDS, sizeof *ratios, by_value);
    printf("%s, %u threads, %llu MiB, medians of %d\n\n| read by | GB/s | best |\n|---|---|---|\n", eyrie_device_name(dev), (unsigned)threads,
           (unsigned long long)(BYTES >> 20), ROUNDS);
    for (int i = 0; i < 3; i++)
        printf("| %s | %.1f | %.1f |\n", i == 0 ? "plain C, one stream a thread" : i == 1 ? "plain C, four" : "kernels", 1e-9 * rates[i][ROUNDS / 2],
               1e-9 * rates[i][ROUNDS - 1]);
    printf("\nkernels over the better of plain C in the same round: %.3f (quartiles %.3f, %.3f); of the bests: %.3f\n", ratios[ROUNDS / 2], ratios[ROUNDS / 4],
           ratios[ROUNDS * 3 / 4], rates[2][ROUNDS - 1] / fmax(rates[0][ROUNDS - 1], rates[1][ROUNDS - 1]));
    eyrie_meter_close(meter);
    (void)eyrie_device_close(dev);
    ey_pages_free(data);
    return 0;
}
