/* survey.c - the rows of `eyrie bench device`: everything a meter measures, each a few times. */
#include "bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define LEAST_SET ((uint64_t)16 << 10)

typedef struct trial {
    eyrie_metric metric;
    uint64_t     set;               /* 0: has none */
    json_t      *row;
    cli_rates    rates;
} trial;

typedef struct survey {
    trial *trials;                  /* [n] */
    size_t n, capacity;
} survey;

static const struct { eyrie_metric metric; const char *test, *unit; } metrics[] = {
    { EYRIE_METRIC_READ, "read", "B/s" },             { EYRIE_METRIC_WRITE, "write", "B/s" },
    { EYRIE_METRIC_COPY, "copy", "B/s" },             { EYRIE_METRIC_F32, "f32", "FLOP/s" },
    { EYRIE_METRIC_F16, "f16", "FLOP/s" },            { EYRIE_METRIC_INT8, "int8", "OP/s" },
    { EYRIE_METRIC_UNIT, "matrix unit", "FLOP/s" },   { EYRIE_METRIC_LAUNCH, "launch", "launches/s" },
    { EYRIE_METRIC_ROUND_TRIP, "round trip", "launches/s" }, { EYRIE_METRIC_UPLOAD, "upload", "B/s" },
    { EYRIE_METRIC_DOWNLOAD, "download", "B/s" },
};

/* A row that stays empty says why. */
static void add_trial(cli_benchmark *b, survey *s, eyrie_meter *meter, eyrie_metric metric, uint64_t set)
{
    trial t = { metric, set, cli_record_add_row(b->rows, metrics[metric].test), { NULL, 0, 0 } };
    bool can;
    const char *how = eyrie_meter_explain(meter, metric, &can);

    if (set) cli_set(t.row, "set_bytes", json_integer((json_int_t)set));
    cli_set(t.row, "how", json_string(how));
    cli_record_set_rates(t.row, metrics[metric].unit, NULL, 0);
    if (!can) return;
    cli_grow(&s->trials, &s->capacity, s->n + 1, sizeof *s->trials);
    s->trials[s->n++] = t;
}

/* Working sets of 16 KiB, twice that (eight times, if it is to be quick) and so on, and the largest. */
static void plan(cli_benchmark *b, survey *s, eyrie_meter *meter)
{
    uint64_t most = eyrie_meter_room(meter), factor = b->o->quick ? 8 : 2;

    for (uint64_t set = LEAST_SET; set < most; set *= factor)
        for (int i = EYRIE_METRIC_READ; i <= EYRIE_METRIC_COPY; i++) add_trial(b, s, meter, (eyrie_metric)i, set);
    for (int i = EYRIE_METRIC_READ; i <= EYRIE_METRIC_COPY; i++) add_trial(b, s, meter, (eyrie_metric)i, most);
    for (int i = EYRIE_METRIC_F32; i <= EYRIE_METRIC_DOWNLOAD; i++) add_trial(b, s, meter, (eyrie_metric)i, 0);
}

static int measure(cli_benchmark *b, survey *s, eyrie_meter *meter)
{
    uint64_t repetitions = b->o->repetitions ? b->o->repetitions : b->o->quick ? 3 : 5;
    double start = cli_seconds(), done = 0, all = (double)(repetitions * s->n);
    eyrie_sample sample;
    eyrie_error err;

    for (uint64_t r = 0; r < repetitions; r++)
        for (size_t i = 0; i < s->n; i++, done++) {
            trial *t = &s->trials[i];
            double now = cli_seconds();
            if (now > b->deadline || cli_bench_interrupted(b)) return CLI_DONE;
            cli_bench_show(b, done > 0 ? (now - start) / done * (all - done) : NAN, "%s, repetition %" PRIu64 " of %" PRIu64,
                           metrics[t->metric].test, r + 1, repetitions);
            if (eyrie_meter_run(meter, t->metric, t->set, &sample, &err) != EYRIE_OK) {
                cli_bench_wipe(b);
                return cli_fail("%s", err.text);
            }
            cli_rates_add(&t->rates, sample.work / sample.seconds);
            if (t->metric == EYRIE_METRIC_F32) cli_rates_add(&b->f32, sample.work / sample.seconds);
            if (t->metric == EYRIE_METRIC_UNIT) cli_rates_add(&b->unit, sample.work / sample.seconds);
            if (t->metric == EYRIE_METRIC_READ && t->set == eyrie_meter_room(meter)) cli_rates_add(&b->read, sample.work / sample.seconds);
        }
    return CLI_DONE;
}

int cli_bench_survey(cli_benchmark *b)
{
    survey s = { NULL, 0, 0 };
    eyrie_meter *meter;
    eyrie_error err;
    int status;

    cli_bench_show(b, NAN, "finding out how to measure");
    if (eyrie_meter_open(&meter, b->device, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    plan(b, &s, meter);
    status = measure(b, &s, meter);
    for (size_t i = 0; i < s.n; i++) {
        cli_record_set_rates(s.trials[i].row, metrics[s.trials[i].metric].unit, s.trials[i].rates.values, s.trials[i].rates.n);
        free(s.trials[i].rates.values);
    }
    free(s.trials);
    eyrie_meter_close(meter);
    cli_bench_wipe(b);
    return status;
}
