/* bench.h - what the benchmarks share: options, weights without a checkpoint, plans of a single op, checking, timing,
 * and the rows of the table. A benchmark is a list of shapes and a function that records the op on one of them, through
 * the same calls that the layers use. Nothing here knows an op.
 *
 * How an op is timed. Its plan holds as many copies of it as the model has layers, each with weights and state of its
 * own, so a sample is a piece of a step: a replay of the plan, waited for. Before each sample both limits are measured
 * (limits.h), which also empties the caches of what the last sample left there; a model so small that it stays in the
 * caches between its steps is replayed several times a sample instead. */
#ifndef BENCH_H
#define BENCH_H

#include "limits.h"
#include "ops/op.h"
#include "ref.h"

/* Measurements of one thing. */
typedef struct bench_samples {
    double *values;
    size_t  n, capacity;
} bench_samples;

typedef struct bench {
    eyrie_device *dev;
    ey_program   *program;
    ey_limits     limits;
    bench_samples reads, fmas;      /* rates that the limits had, over the whole run */
    bench_samples units;            /* the same of the matrix unit, beside rows that use it */
    bool          vnni;             /* the probe says that there are these instructions */
    cl_program    unit_program;
    cl_kernel     unit;             /* measures it; NULL: there is none */
    cl_mem        unit_sums;
    uint32_t      repetitions;
    const char   *format, *match;   /* options -f and -m, or NULL */
    bool          clblast;          /* option -c */
} bench;

/* The main function of a benchmark: reads the options, opens the device, prints the table's head, calls run for the
 * rows, and prints what the limits were. Returns the exit status. */
int bench_main(int argc, char **argv, const char *title, eyrie_status (*run)(bench *b, eyrie_error *err));

/* Sizes of a step that are timed: decode rows of one token, and prefill tokens of one sequence. */
typedef struct bench_bucket {
    ey_phase phase;
    uint32_t tokens;
} bench_bucket;
enum { BENCH_BUCKETS = 6 };
extern const bench_bucket bench_buckets[BENCH_BUCKETS];

enum { BENCH_FORMATS = 5 };
extern const eyrie_format bench_formats[BENCH_FORMATS];     /* of weights */

/* Whether the options want this shape of this model in this format. */
bool bench_wants(const bench *b, const char *model, const char *what, eyrie_format format);

/* Builds b->program, for all formats of weights and keys and values as `kv`; int8: whose products with q8 and q4 weights
 * round what they read to 8 bits, by VNNI instructions if there are any. */
eyrie_status bench_build(bench *b, eyrie_format kv, bool int8, eyrie_error *err);

/* -------------------------------------------------------------------------------------------------------- numbers */

/* Evenly spread in [-scale, scale), the same on every run. */
void bench_random(float *x, size_t n, float scale, uint64_t seed);

/* The median of values (which are sorted by this), and half the distance of the quartiles in percent of it. */
double bench_median(double *values, size_t n, double *spread);

/* -------------------------------------------------------------------------------------------------------- weights */

/* Copies of a matrix of random values, each in memory of its own. */
typedef struct bench_weights {
    ey_arena   arena;
    ey_matrix *copies;              /* [n] */
    uint32_t   n;
    float     *panels;              /* [distinct panels][16][cols]: the values as the format rounds them */
    uint32_t   distinct;            /* panels, after which they repeat */
    float     *bias;                /* [rows] */
} bench_weights;

/* `like` has name, format, rows, cols, parts and blocks. As many copies as asked for, or fewer if they would take much
 * more memory than a cache. EMEMORY: there is no room for one. Freed by bench_weights_free, also after a failure. */
eyrie_status bench_weights_make(bench *b, bench_weights *w, const ey_matrix *like, uint32_t copies, eyrie_error *err);
void         bench_weights_free(bench_weights *w);
const float *bench_weights_row(const bench_weights *w, uint32_t row);    /* [cols] */

/* State of so many slots and layers, the same in every layer: values [slots][bytes]. For ey_state_free, also after a failure. */
eyrie_status bench_state(bench *b, ey_state *s, uint32_t slots, uint64_t bytes, uint32_t layers, const void *values, eyrie_error *err);

/* ---------------------------------------------------------------------------------------------------------- cases */

/* One row of the table. */
typedef struct bench_case {
    const char *model, *what, *format;
    uint32_t    copies;             /* layers of the plan */
    ey_cost     work;               /* of one copy: bytes that have to move, however it is done, and FLOPs */
    bool        unit;               /* its FLOPs are the matrix unit's */
    double      tolerance;          /* of the largest value, where more than summing is rounded; 0: what that makes */
    ey_want     want;               /* tokens of the batch's rows whose logits are wanted */
    const int32_t *targets;         /* [tokens], of which one logit is wanted; NULL: candidates */
    uint32_t    product[3];         /* tokens, rows, columns: timed beside OpenBLAS's sgemm where there is one; zeros: not */
    ey_scratch  scratch;
    ey_plan     plan;
} bench_case;

/* Starts the plan; the benchmark records copy i with c->plan.layer = i. */
eyrie_status bench_begin(bench *b, bench_case *c, bench_bucket bucket, eyrie_error *err);
/* Ends it, allocates, and uploads a batch whose rows, in slots 0, 1, ..., all stand at `position`. */
eyrie_status bench_ready(bench *b, bench_case *c, const ey_geometry *g, uint64_t position, eyrie_error *err);
/* All of an activation that was kept. */
eyrie_status bench_put(bench *b, const bench_case *c, ey_act a, const float *from, eyrie_error *err);
eyrie_status bench_get(bench *b, const bench_case *c, ey_act a, float *to, eyrie_error *err);
/* The whole plan, once: before what it computes is checked. */
eyrie_status bench_run(bench *b, const bench_case *c, eyrie_error *err);
/* Compares what a kernel computed with the truth. */
typedef struct bench_check {
    double error, largest;          /* largest difference; largest true value */
} bench_check;
void         bench_compare(bench_check *found, const float *got, const float *expected, size_t n);
eyrie_status bench_verdict(const bench_case *c, const bench_check *found, eyrie_error *err);

/* Times it and prints the row. */
eyrie_status bench_time(bench *b, const bench_case *c, eyrie_error *err);
void         bench_end(bench_case *c);

#endif
