/* bench_elementwise.c - what is left of a step: embedding, norms where no product takes them, and rotary embedding in prefill.
 * Bytes are those that come in and go out.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_elementwise           everything: a minute
 *
 * How to read the table: bench/RESULTS.md. */
#include "bench.h"

#include <stdio.h>
#include <string.h>

typedef struct shape {
    const char *model;
    uint32_t    width, vocab, heads, d, rotary;
} shape;

static const shape shapes[] = {
    { "recurrentgemma-2b", 2560, 256000, 11, 256, 128 },
    { "shakespeare",        192,   1024,  4,  64,  32 },
};

static const bench_bucket prefill = { EY_PREFILL, 256 };

/* Runs what is recorded, reads `out` [rows, width] and times it. `seen` gets the first values to check. */
static eyrie_status finish(bench *b, bench_case *c, ey_act in, const float *x, ey_act out, float *seen,
                           const ey_geometry *g, eyrie_error *err)
{
    eyrie_status st;

    ey_plan_keep(&c->plan, in);
    ey_plan_keep(&c->plan, out);
    EY_TRY(bench_ready(b, c, g, 0, err));
    EY_TRY(bench_put(b, c, in, x, err));
    EY_TRY(bench_run(b, c, err));
    st = bench_get(b, c, out, seen, err);
done:
    return st;
}

static eyrie_status norm(bench *b, const shape *s, eyrie_error *err)
{
    const uint32_t T = prefill.tokens, D = s->width;
    uint64_t n = (uint64_t)T * D;
    bench_case c = { .model = s->model, .what = "norm", .format = "", .copies = 1, .work = { 8 * n, 4 * n } };
    float *x = ey_calloc(n, sizeof *x), *y = ey_calloc(n, sizeof *y), *w = ey_calloc(D, sizeof *w), *want = ey_calloc(n, sizeof *want);
    float *scale = ey_calloc(D, sizeof *scale);
    ey_arena arena;
    bench_check found = { 0 };
    eyrie_status st;

    ey_arena_init(&arena, b->dev, "scale");
    ey_buffer *buffer = ey_arena_add(&arena, D * sizeof(float), "scale");
    if (!x || !y || !w || !want || !scale || !buffer) {
        st = ey_fail(err, EYRIE_ENOMEM, "norm");
        goto done;
    }
    bench_random(x, n, 2.0f, 1);
    bench_random(w, D, 0.5f, 2);
    for (uint32_t i = 0; i < D; i++) scale[i] = 1.0f + w[i];
    EY_TRY(ey_arena_commit(&arena, err));
    EY_TRY(ey_buffer_write(b->dev, buffer, 0, D * sizeof *scale, scale, err));
    EY_TRY(bench_begin(b, &c, prefill, err));
    ey_act in = ey_plan_act(&c.plan, T, D), out = ey_normalise(&c.plan, ey_norm(in, buffer, D, 1e-6f), false);
    EY_TRY(finish(b, &c, in, x, out, y, &(ey_geometry){ 0 }, err));
    ref_norm(T, D, x, w, 1e-6f, want);
    bench_compare(&found, y, want, n);
    EY_TRY(bench_verdict(&c, &found, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    ey_arena_free(&arena);
    ey_free(x);
    ey_free(y);
    ey_free(w);
    ey_free(want);
    ey_free(scale);
    return st;
}

static eyrie_status rope(bench *b, const shape *s, eyrie_error *err)
{
    const uint32_t T = prefill.tokens, width = s->heads * s->d;
    uint64_t n = (uint64_t)T * width, turned = (uint64_t)T * s->heads * s->rotary;
    bench_case c = { .model = s->model, .what = "rope", .format = "", .copies = 1, .work = { 8 * turned, 3 * turned } };
    const ey_geometry g = { .rotary = s->rotary, .rope_theta = 10000.0 };
    float *x = ey_calloc(n, sizeof *x), *y = ey_calloc(n, sizeof *y), *want = ey_calloc(n, sizeof *want);
    bench_check found = { 0 };
    eyrie_status st;

    if (!x || !y || !want) {
        st = ey_fail(err, EYRIE_ENOMEM, "rope");
        goto done;
    }
    bench_random(x, n, 2.0f, 3);
    memcpy(want, x, n * sizeof *x);
    EY_TRY(bench_begin(b, &c, prefill, err));
    ey_act in = ey_plan_act(&c.plan, T, width);
    ey_rope(&c.plan, in, s->heads, s->d, s->rotary);
    EY_TRY(finish(b, &c, in, x, in, y, &g, err));
    ref_rope(T, s->heads, s->d, s->rotary, g.rope_theta, 0, want);
    bench_compare(&found, y, want, n);
    EY_TRY(bench_verdict(&c, &found, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    ey_free(x);
    ey_free(y);
    ey_free(want);
    return st;
}

static eyrie_status embed(bench *b, const shape *s, eyrie_format format, eyrie_error *err)
{
    const uint32_t T = prefill.tokens, D = s->width;
    const ey_quant *q = ey_quant_of(format);
    uint64_t n = (uint64_t)T * D;
    bench_case c = { .model = s->model, .what = "embed", .format = q->name, .copies = 1, .work = { n * q->bits / 8 + 4 * n, n } };
    const ey_matrix like = { .name = "embedding", .format = format, .rows = s->vocab, .cols = D, .n_parts = 1,
                             .part_rows = { s->vocab }, .blocks = 1 };
    float *y = ey_calloc(n, sizeof *y);
    bench_weights w;
    bench_check found = { 0 };
    eyrie_status st = bench_weights_make(b, &w, &like, 1, err);

    if (st == EYRIE_EMEMORY) {
        fprintf(stderr, "skipped: %s\n", err->text);
        st = EYRIE_OK;
        goto done;
    }
    if (st != EYRIE_OK) goto done;
    if (!y) {
        st = ey_fail(err, EYRIE_ENOMEM, "embedding");
        goto done;
    }
    EY_TRY(bench_begin(b, &c, prefill, err));
    ey_act out = ey_embed(&c.plan, &w.copies[0], 2.0f);
    ey_plan_keep(&c.plan, out);
    EY_TRY(bench_ready(b, &c, &(ey_geometry){ 0 }, 0, err));
    EY_TRY(bench_run(b, &c, err));
    EY_TRY(bench_get(b, &c, out, y, err));
    for (uint32_t i = 0; i < D; i++) {      /* the batch's tokens are 0 */
        float want = 2.0f * bench_weights_row(&w, 0)[i];
        bench_compare(&found, &y[i], &want, 1);
    }
    EY_TRY(bench_verdict(&c, &found, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    bench_weights_free(&w);
    ey_free(y);
    return st;
}

static eyrie_status all(bench *b, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(bench_build(b, EYRIE_FORMAT_F16, false, err));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        if (bench_wants(b, s->model, "norm", EYRIE_FORMAT_F32)) EY_TRY(norm(b, s, err));
        if (bench_wants(b, s->model, "rope", EYRIE_FORMAT_F32)) EY_TRY(rope(b, s, err));
        for (size_t f = 0; f < BENCH_FORMATS; f++)
            if (bench_wants(b, s->model, "embed", bench_formats[f])) EY_TRY(embed(b, s, bench_formats[f], err));
    }
done:
    return st;
}

int main(int argc, char **argv) { return bench_main(argc, argv, "elementwise", all); }
