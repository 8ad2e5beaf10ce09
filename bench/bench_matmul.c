/* bench_matmul.c - the product with a weight matrix, which is nearly all of a model's time: decode reads every weight
 * once for a few rows and is bound by memory, prefill uses each for many rows and is bound by arithmetic.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_matmul                  everything: minutes, and 4 GiB of memory
 *     POCL_AFFINITY=1 build-bench/bench_matmul -f bf16 -m down  one format, shapes with "down" in their name
 *
 * Where OpenBLAS is installed (libopenblas-dev), its sgemm of the same sizes, in f32, is timed beside every row of prefill.
 * With -c, our products of prefill are CLBlast's instead, where it is built in: a baseline on GPUs.
 * With an x86 CPU's matrix unit (AMX), products with bf16 weights in prefill are that unit's, and so is their limit.
 *
 * How to read the table: bench/RESULTS.md. */
#include "bench.h"

#include <stdio.h>
#include <string.h>

/* The products of a model: `copies` is how many layers have one, `most` the most tokens worth timing (prefill wants few
 * logits; scoring, which wants all, takes the head in tiles of 64 rows). */
typedef struct shape {
    const char *model, *name;
    uint32_t    rows, cols, copies, most;
} shape;

static const shape shapes[] = {
    { "recurrentgemma-2b", "out",           2560,  2560, 26, 256 },     /* of attention and of the recurrence */
    { "recurrentgemma-2b", "gate and up",  15360,  2560, 26, 256 },
    { "recurrentgemma-2b", "down",          2560,  7680, 26, 256 },
    { "recurrentgemma-2b", "head",        256000,  2560,  1,  64 },
    { "g110",              "out",            768,   768, 12, 256 },     /* bench/g110.json */
    { "g110",              "gate and up",   4608,   768, 12, 256 },
    { "g110",              "down",           768,  2304, 12, 256 },
    { "g110",              "head",         32000,   768,  1,  64 },
    { "shakespeare",       "out",            192,   192,  6, 256 },
    { "shakespeare",       "gate and up",   1152,   192,  6, 256 },
    { "shakespeare",       "down",           192,   576,  6, 256 },
    { "shakespeare",       "head",          1024,   192,  1,  64 },
};

/* Every 37th column and the last one, of the first and the last token, against sums in double. */
static eyrie_status check(const bench_case *c, const bench_weights *w, const float *x, const float *y, eyrie_error *err)
{
    uint32_t rows = w->copies[0].rows, cols = w->copies[0].cols, tokens = c->plan.tokens;
    bench_check found = { 0 };

    for (uint32_t t = 0; t < tokens; t += tokens > 1 ? tokens - 1 : 1)
        for (uint32_t r = 0; r < rows; r = r + 37 < rows || r == rows - 1 ? r + 37 : rows - 1) {
            float expected;
            ref_matmul(1, 1, cols, x + (size_t)t * cols, bench_weights_row(w, r), &w->bias[r], &expected);
            bench_compare(&found, &y[(size_t)t * rows + r], &expected, 1);
        }
    return bench_verdict(c, &found, err);
}

/* As the kernel does with what it was given, in groups of 32 columns. */
static void round_to_int8(float *x, size_t n)
{
    int8_t q[32];

    for (size_t i = 0; i < n; i += 32) {
        float by = ref_whole(32, x + i, q);
        for (size_t k = 0; k < 32; k++) x[i + k] = q[k] * by;
    }
}

static eyrie_status bucket(bench *b, const shape *s, const bench_weights *w, bench_bucket size, const char *what,
                           eyrie_error *err)
{
    bool int8 = ey_program_has_int8(b->program, w->copies[0].format);
    char format[16];
    bench_case c = { .model = s->model, .what = what, .format = format, .copies = w->n };
    float *in = ey_calloc((size_t)size.tokens * s->cols, sizeof *in);
    float *out = ey_calloc((size_t)size.tokens * s->rows, sizeof *out);
    ey_act x, y = { 0 };
    eyrie_status st;

    snprintf(format, sizeof format, "%s%s", ey_quant_of(w->copies[0].format)->name, int8 ? ", int8" : "");
    if (!in || !out) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", what);
        goto done;
    }
    EY_TRY(bench_begin(b, &c, size, err));
    x = ey_plan_act(&c.plan, size.tokens, s->cols);
    ey_plan_keep(&c.plan, x);
    for (uint32_t i = 0; i < w->n; i++) {
        c.plan.layer = i;
        y = ey_matmul(&c.plan, x, &w->copies[i]);
    }
    ey_plan_keep(&c.plan, y);
    EY_TRY(bench_ready(b, &c, &(ey_geometry){ 0 }, 0, err));
    ey_cost all = ey_plan_cost(&c.plan);
    c.work = (ey_cost){ all.bytes / w->n, all.flops / w->n };

    bench_random(in, (size_t)size.tokens * s->cols, 1.0f, 3);
    EY_TRY(bench_put(b, &c, x, in, err));
    if (size.phase == EY_PREFILL) memcpy(c.product, (uint32_t[]){ size.tokens, s->rows, s->cols }, sizeof c.product);
    c.unit = size.phase == EY_PREFILL && ey_program_has_unit(b->program, w->copies[0].format);
    if (c.unit && ey_quant_of(w->copies[0].format)->scaled) c.tolerance = 2e-3;     /* weights are rounded to bf16, by 2^-9 */
    if (c.unit) ref_round_bf16((size_t)size.tokens * s->cols, in);      /* as the kernel does with what it was given */
    if (int8) round_to_int8(in, (size_t)size.tokens * s->cols);
    EY_TRY(bench_run(b, &c, err));
    EY_TRY(bench_get(b, &c, y, out, err));
    EY_TRY(check(&c, w, in, out, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    ey_free(in);
    ey_free(out);
    return st;
}

static eyrie_status product(bench *b, const shape *s, eyrie_format format, eyrie_error *err)
{
    ey_matrix like = { .format = format, .rows = s->rows, .cols = s->cols, .n_parts = 1, .part_rows = { s->rows },
                       .blocks = 1 };
    bench_weights w;
    char what[64];
    eyrie_status st;

    snprintf(what, sizeof what, "%s, %u x %u", s->name, (unsigned)s->rows, (unsigned)s->cols);
    snprintf(like.name, sizeof like.name, "%s, %s", s->model, what);
    if ((st = bench_weights_make(b, &w, &like, s->copies, err)) == EYRIE_EMEMORY) {
        fprintf(stderr, "skipped: %s\n", err->text);
        st = EYRIE_OK;
        goto done;
    }
    if (st != EYRIE_OK) goto done;
    for (uint32_t i = 0; i < BENCH_BUCKETS; i++)
        if (bench_buckets[i].tokens <= s->most) EY_TRY(bucket(b, s, &w, bench_buckets[i], what, err));
done:
    bench_weights_free(&w);
    return st;
}

static eyrie_status products(bench *b, eyrie_error *err)
{
    eyrie_status st;

    for (int int8 = 0; int8 < 2; int8++) {
        EY_TRY(bench_build(b, EYRIE_FORMAT_F16, int8, err));
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t f = 0; f < BENCH_FORMATS; f++)
                if (bench_wants(b, shapes[i].model, shapes[i].name, bench_formats[f])
                    && (!int8 || ey_program_has_int8(b->program, bench_formats[f])))
                    EY_TRY(product(b, &shapes[i], bench_formats[f], err));
    }
done:
    return st;
}

int main(int argc, char **argv) { return bench_main(argc, argv, "product", products); }
