/* bench_recurrence.c - what the recurrent block does between its products, the way the layer does it: convolution, gates
 * (block-diagonal products), RG-LRU with the gate branch. In prefill with both forms of the scan: one pass over time, and
 * in blocks.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_recurrence                 everything: a minute or two
 *     POCL_AFFINITY=1 build-bench/bench_recurrence -f bf16 -n 25   gates in one format, more samples
 *
 * Bytes are those of weights, state, u and y coming in and the result going out; v, za and zi need not leave the caches.
 * FLOPs are those of convolution and gates. How to read the table: bench/RESULTS.md. */
#include "bench.h"

#include <stdio.h>

enum { TAPS = 4 };

typedef struct shape {
    const char *model;
    uint32_t    blocks, size, layers;       /* gate blocks of size x size; recurrent layers */
} shape;

static const shape shapes[] = {
    { "recurrentgemma-2b", 10, 256, 18 },
    { "shakespeare",        3,  64,  4 },
};

/* The vectors of a layer, and their values, which all layers share. */
typedef struct vectors {
    ey_buffer *conv, *conv_bias, *decay;
} vectors;

typedef struct layers {
    const shape  *shape;
    uint32_t      N;                        /* recurrent width */
    bench_weights gates;
    ey_arena      arena;
    vectors      *vectors;                  /* [gates.n] */
    float        *taps, *bias, *p, *decay;  /* [TAPS, N], [N], [N], [N] = 8 softplus(p) */
} layers;

static eyrie_status upload_vectors(bench *b, layers *l, eyrie_error *err)
{
    uint64_t bytes = l->N * sizeof(float);
    eyrie_status st;

    for (uint32_t i = 0; i < l->gates.n; i++) {
        vectors *v = &l->vectors[i];
        if (!(v->conv = ey_arena_add(&l->arena, TAPS * bytes, "convolution"))
            || !(v->conv_bias = ey_arena_add(&l->arena, bytes, "convolution's bias"))
            || !(v->decay = ey_arena_add(&l->arena, bytes, "decay")))
            return ey_fail(err, EYRIE_ENOMEM, "vectors of %u layers", (unsigned)l->gates.n);
    }
    EY_TRY(ey_arena_commit(&l->arena, err));
    for (uint32_t i = 0; i < l->gates.n; i++) {
        EY_TRY(ey_buffer_write(b->dev, l->vectors[i].conv, 0, TAPS * bytes, l->taps, err));
        EY_TRY(ey_buffer_write(b->dev, l->vectors[i].conv_bias, 0, bytes, l->bias, err));
        EY_TRY(ey_buffer_write(b->dev, l->vectors[i].decay, 0, bytes, l->decay, err));
    }
done:
    return st;
}

/* Freed by layers_free, also after a failure. */
static eyrie_status layers_make(bench *b, layers *l, const shape *s, eyrie_format format, eyrie_error *err)
{
    uint32_t N = s->blocks * s->size;
    ey_matrix like = { .name = "gates", .format = format, .rows = 2 * N, .cols = s->size, .n_parts = 2,
                       .part_rows = { N, N }, .paired = true, .blocks = s->blocks };
    eyrie_status st;

    *l = (layers){ .shape = s, .N = N };
    ey_arena_init(&l->arena, b->dev, "weights");
    EY_TRY(bench_weights_make(b, &l->gates, &like, s->layers, err));
    l->vectors = ey_calloc(l->gates.n, sizeof *l->vectors);
    l->taps = ey_calloc((size_t)TAPS * N, sizeof *l->taps);
    l->bias = ey_calloc(N, sizeof *l->bias);
    l->p = ey_calloc(N, sizeof *l->p);
    l->decay = ey_calloc(N, sizeof *l->decay);
    if (!l->vectors || !l->taps || !l->bias || !l->p || !l->decay) {
        st = ey_fail(err, EYRIE_ENOMEM, "vectors of width %u", (unsigned)N);
        goto done;
    }
    bench_random(l->taps, (size_t)TAPS * N, 0.5f, 4);
    bench_random(l->bias, N, 0.5f, 5);
    bench_random(l->p, N, 2.0f, 6);
    for (uint32_t i = 0; i < N; i++) {
        l->p[i] -= 6.0f;                    /* a between 0.86 and 1, as in trained models */
        l->decay[i] = 8.0f * ref_softplus(l->p[i]);
    }
    st = upload_vectors(b, l, err);
done:
    return st;
}

static void layers_free(layers *l)
{
    bench_weights_free(&l->gates);
    ey_arena_free(&l->arena);
    ey_free(l->vectors);
    ey_free(l->taps);
    ey_free(l->bias);
    ey_free(l->p);
    ey_free(l->decay);
}

/* What goes through one layer: T tokens of a row, and its state before them. */
typedef struct flow {
    uint32_t     T;
    const float *uy;                        /* [T, 2N] */
    const float *state;                     /* [TAPS, N]: carried inputs, then h */
    const float *out;                       /* [T, N], as the device left it */
} flow;

/* Columns [from, from + n) of x [rows, stride], dense. */
static void cut(float *to, const float *x, uint32_t rows, uint32_t stride, uint32_t from, uint32_t n)
{
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < n; i++) to[(size_t)r * n + i] = x[(size_t)r * stride + from + i];
}

/* Row of the gates that is number i of the part. */
static uint32_t paired(uint32_t part, uint32_t i) { return (i / EY_LANES * 2 + part) * EY_LANES + i % EY_LANES; }

/* One gate block of one row against the reference. */
static eyrie_status check_block(const layers *l, const flow *f, uint32_t block, bench_check *found, eyrie_error *err)
{
    uint32_t T = f->T, N = l->N, P = l->shape->size, from = block * P;
    enum { U, Y, V, ZA, ZI, OUT, GOT, TOKENS };                             /* [T, P] each */
    enum { CARRY, CONV = CARRY + TAPS - 1, H = CONV + TAPS, BIAS, ROWS };   /* [1 or TAPS or so, P] */
    float *tokens = ey_calloc((size_t)TOKENS * T, P * sizeof *tokens), *rows = ey_calloc(ROWS, P * sizeof *rows);
    float *weights = ey_calloc((size_t)P * P, sizeof *weights);
    eyrie_status st = EYRIE_OK;

    if (!tokens || !rows || !weights) {
        st = ey_fail(err, EYRIE_ENOMEM, "the reference of a gate block of %u", (unsigned)P);
        goto done;
    }
#define AT(x) (tokens + (size_t)(x) * T * P)
    cut(AT(U), f->uy, T, 2 * N, from, P);
    cut(AT(Y), f->uy, T, 2 * N, N + from, P);
    cut(AT(GOT), f->out, T, N, from, P);
    cut(rows + CARRY * P, f->state, TAPS - 1, N, from, P);
    cut(rows + H * P, f->state + (size_t)(TAPS - 1) * N, 1, N, from, P);
    for (uint32_t i = 0; i < P; i++)
        for (uint32_t j = 0; j < TAPS; j++) rows[CONV * P + i * TAPS + j] = l->taps[j * N + from + i];

    ref_conv1d(T, P, TAPS, AT(U), rows + CONV * P, l->bias + from, rows + CARRY * P, AT(V));
    for (uint32_t part = 0; part < 2; part++) {
        for (uint32_t i = 0; i < P * P; i++) weights[i] = bench_weights_row(&l->gates, paired(part, from + i % P))[i / P];
        for (uint32_t i = 0; i < P; i++) rows[BIAS * P + i] = l->gates.bias[paired(part, from + i)];
        ref_gates(T, 1, P, AT(V), weights, rows + BIAS * P, AT(part ? ZI : ZA));
    }
    ref_rglru(T, P, false, AT(ZA), AT(ZI), AT(V), AT(Y), l->p + from, rows + H * P, AT(OUT));
    bench_compare(found, AT(GOT), AT(OUT), (size_t)T * P);
#undef AT
done:
    ey_free(tokens);
    ey_free(rows);
    ey_free(weights);
    return st;
}

/* The first and the last gate block of the first and the last row. */
static eyrie_status check(const bench_case *c, const layers *l, const float *uy, const float *state, const float *out,
                          eyrie_error *err)
{
    uint32_t rows = c->plan.rows, T = c->plan.tokens / rows;
    bench_check found = { 0 };
    eyrie_status st;

    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row = i & 1 ? rows - 1 : 0;
        flow f = { T, uy + (size_t)row * T * 2 * l->N, state + (size_t)row * TAPS * l->N, out + (size_t)row * T * l->N };
        EY_TRY(check_block(l, &f, i & 2 ? l->shape->blocks - 1 : 0, &found, err));
    }
    st = bench_verdict(c, &found, err);
done:
    return st;
}

/* One layer, as layers/recurrent.c has it. */
static ey_act emit(ey_plan *p, const layers *l, uint32_t i, const ey_layer_state *state, bool blocked, ey_act uy)
{
    const ey_matrix *gates = &l->gates.copies[i];
    const vectors *w = &l->vectors[i];

    p->layer = i;
    ey_act v = ey_conv1d(p, ey_act_slice(uy, 0, l->N), &(ey_conv){ w->conv, w->conv_bias, TAPS, state });
    ey_act g = ey_matmul(p, v, gates);
    ey_recurrence r = { .v = v, .y = ey_act_slice(uy, l->N, l->N), .decay = w->decay, .state = state,
                        .h_offset = (TAPS - 1) * l->N };
    return blocked ? ey_rglru_blocked(p, g, &r) : ey_rglru_pass(p, g, &r);
}

static ey_cost work_of(const layers *l, uint64_t tokens, uint64_t rows)
{
    const ey_matrix *g = &l->gates.copies[0];
    uint64_t N = l->N, weights = (uint64_t)g->rows * g->cols;
    uint64_t floats = 3 * tokens * N + 2 * rows * TAPS * N + (TAPS + 4) * N;    /* activations, state, vectors */
    return (ey_cost){ ey_matrix_bytes(g) + 4 * floats, 2 * tokens * (TAPS * N + weights) };
}

static eyrie_status bucket(bench *b, const layers *l, bench_bucket size, bool blocked, eyrie_error *err)
{
    uint32_t rows = size.phase == EY_DECODE ? size.tokens : 1, T = size.tokens, N = l->N;
    char what[64];
    bench_case c = { .model = l->shape->model, .what = what, .copies = l->gates.n, .work = work_of(l, T, rows),
                     .format = ey_quant_of(l->gates.copies[0].format)->name };
    float *in = ey_calloc((size_t)T * 2 * N, sizeof *in), *out = ey_calloc((size_t)T * N, sizeof *out);
    float *before = ey_calloc((size_t)rows * TAPS * N, sizeof *before);
    ey_state state = { 0 };
    ey_act uy, y = { 0 };
    eyrie_status st;

    snprintf(what, sizeof what, "%s, %u gates of %u", blocked ? "in blocks" : "one pass", (unsigned)l->shape->blocks,
             (unsigned)l->shape->size);
    if (!in || !out || !before) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", what);
        goto done;
    }
    bench_random(in, (size_t)T * 2 * N, 1.0f, 7);
    bench_random(before, (size_t)rows * TAPS * N, 1.0f, 8);
    EY_TRY(bench_state(b, &state, rows, TAPS * N * sizeof *before, l->gates.n, before, err));

    c.unit = size.phase == EY_PREFILL && ey_program_has_unit(b->program, l->gates.copies[0].format);
    if (c.unit) c.tolerance = 2e-3;     /* what the gates read, and q8 and q4 weights, are rounded to bf16, by 2^-9 */
    EY_TRY(bench_begin(b, &c, size, err));
    uy = ey_plan_act(&c.plan, T, 2 * N);
    ey_plan_keep(&c.plan, uy);
    for (uint32_t i = 0; i < l->gates.n; i++) y = emit(&c.plan, l, i, &state.layers[i], blocked, uy);
    ey_plan_keep(&c.plan, y);
    EY_TRY(bench_ready(b, &c, &(ey_geometry){ 0 }, EY_BLOCK, err));
    EY_TRY(bench_put(b, &c, uy, in, err));
    EY_TRY(bench_run(b, &c, err));
    EY_TRY(bench_get(b, &c, y, out, err));
    EY_TRY(check(&c, l, in, before, out, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    ey_state_free(&state);
    ey_free(in);
    ey_free(out);
    ey_free(before);
    return st;
}

static eyrie_status recurrence(bench *b, const shape *s, eyrie_format format, eyrie_error *err)
{
    layers l;
    eyrie_status st;

    EY_TRY(layers_make(b, &l, s, format, err));
    for (uint32_t i = 0; i < BENCH_BUCKETS; i++) {
        EY_TRY(bucket(b, &l, bench_buckets[i], false, err));
        if (bench_buckets[i].phase == EY_PREFILL) EY_TRY(bucket(b, &l, bench_buckets[i], true, err));
    }
done:
    layers_free(&l);
    return st;
}

static eyrie_status recurrences(bench *b, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(bench_build(b, EYRIE_FORMAT_F16, false, err));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t f = 0; f < BENCH_FORMATS; f++)
            if (bench_wants(b, shapes[i].model, "recurrence", bench_formats[f]))
                EY_TRY(recurrence(b, &shapes[i], bench_formats[f], err));
done:
    return st;
}

int main(int argc, char **argv) { return bench_main(argc, argv, "recurrence", recurrences); }
