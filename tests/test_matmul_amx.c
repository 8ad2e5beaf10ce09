/* test_matmul_amx.c - products on the CPU's matrix unit: against the reference of inputs that are rounded to bf16, and
 * against themselves, bit for bit, since bucket, neighbours, cuts and shards must not matter. Skipped, with the reason, on
 * devices without one. */
#include "harness.h"

#include <eyrie/eyrie_tools.h>

/* A product of rows x [most, K], dense or of gates (blocks > 1), with up to `most` tokens. */
typedef struct product {
    rig        r;
    ey_matrix *m;
    ey_act     x, y;
    ey_dim     in, out;
    float     *W, *bias;            /* W [out][in of a block], as bf16 keeps it */
} product;

static void product_open_as(product *d, lab *l, const char *directory, eyrie_format format, uint32_t most, ey_dim out, ey_dim in,
                            float *W, float *bias)
{
    uint32_t     N = ey_dim_count(out), K = ey_dim_count(in);
    const tensor file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };

    if (!l->more) skip();
    *d = (product){ .in = in, .out = out, .W = rounded(EYRIE_FORMAT_BF16, rounded(format, W, N, 1, K), N, 1, K),
                    .bias = bias };
    rig_open(&d->r, l, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
    d->m = ey_weights_matrix(rig_weights(&d->r, directory, format, file, 2), &(ey_part){ "w", "b", out }, 1, in);
    d->x = hold(&d->r, ey_plan_act(&d->r.plan, most, ey_dim_padded(in)));
    d->y = hold(&d->r, ey_matmul(&d->r.plan, d->x, d->m));
    rig_seal(&d->r);
    assert_non_null(strstr(d->r.plan.records[d->r.plan.n - 1].label, "_amx"));
}

static void product_open(product *d, lab *l, const char *directory, uint32_t most, ey_dim out, ey_dim in, float *W,
                         float *bias)
{
    product_open_as(d, l, directory, EYRIE_FORMAT_BF16, most, out, in, W, bias);
}

static float *product_run(product *d, const float *x, uint32_t T)
{
    rig_clear(&d->r);
    put(&d->r, d->x, d->in, x, T);
    rig_run(&d->r, &(ey_row){ .n = T }, 1, NULL);
    return get(&d->r, d->y, d->out, T);
}

static float *rounded_inputs(const float *x, size_t n)
{
    float *copy = zeros(n);
    memcpy(copy, x, n * sizeof *x);
    ref_round_bf16(n, copy);
    return copy;
}

/* The first T rows of x. */
static void check_product(const product *d, const float *y, const float *x, uint32_t T)
{
    size_t N = ey_dim_count(d->out), K = ey_dim_count(d->in), n = T * N;
    float *want = zeros(n), *magnitude = zeros(n), *in = rounded_inputs(x, T * K);

    /* Products of two bf16 are exact; K sums, the bias and the reference round at most the sum of magnitudes. */
    ref_matmul(T, N, K, in, d->W, d->bias, want);
    ref_matmul(T, N, K, absolute(in, T * K), absolute(d->W, N * K), absolute(d->bias, N), magnitude);
    check_near("product", y, want, n, (double)K + 2, magnitude);
}

/* Whatever the bucket and the rows beside it, a row has the bits it has among many. */
static void every_number_of_rows(void **state)
{
    static const struct { uint32_t most, live[3]; } batches[] = { { 1, { 1 } }, { 5, { 5, 1 } }, { 16, { 16, 15 } },
        { 17, { 17 } }, { 32, { 32, 31, 9 } }, { 64, { 63, 33, 64 } }, { 260, { 257, 40, 129 } } };
    static const struct { uint32_t N, K; } sizes[] = { { 1, 1 }, { 5, 16 }, { 16, 5 }, { 20, 37 }, { 60, 66 }, { 132, 96 },
        { 66, 176 }, { 700, 48 } };

    for (size_t k = 0; k < COUNT(sizes); k++) {
        uint32_t N = sizes[k].N, K = sizes[k].K;
        float   *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f), *x = noise((size_t)260 * K, 3, 1.0f), *all;
        product  d;

        product_open(&d, &shared, *state, 260, ey_dim_flat(N), ey_dim_flat(K), W, bias);
        all = product_run(&d, x, 260);
        check_product(&d, all, x, 260);
        rig_close(&d.r);
        for (size_t i = 0; i < COUNT(batches); i++) {
            product_open(&d, &shared, *state, batches[i].most, ey_dim_flat(N), ey_dim_flat(K), W, bias);
            for (size_t j = 0; j < 3 && batches[i].live[j]; j++) {
                uint32_t T = batches[i].live[j], first = 260 - T;
                check_same("the first rows", product_run(&d, x, T), all, (size_t)T * N);
                check_same("the last rows", product_run(&d, x + (size_t)first * K, T), all + (size_t)first * N, (size_t)T * N);
            }
            rig_close(&d.r);
        }
    }
}

/* Many rows of long columns are cut for the caches; few are not. */
static void cuts_change_nothing(void **state)
{
    const uint32_t N = 80, K = 2000, T = 257;
    float         *W = noise((size_t)N * K, 1, 1.0f), *x = noise((size_t)T * K, 2, 1.0f), *all;
    product        d;

    product_open(&d, &shared, *state, T, ey_dim_flat(N), ey_dim_flat(K), W, noise(N, 3, 1.0f));
    all = product_run(&d, x, T);
    check_product(&d, all, x, T);
    rig_close(&d.r);
    product_open(&d, &shared, *state, 30, ey_dim_flat(N), ey_dim_flat(K), W, d.bias);
    check_same("uncut", product_run(&d, x, 30), all, (size_t)30 * N);
    rig_close(&d.r);
}

/* Weights of fewer bits are rounded to bf16 as well: more columns than are widened at a time, and groups that end early. */
static void widened_weights(void **state)
{
    static const eyrie_format formats[] = { EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };
    static const struct { uint32_t N, K; } sizes[] = { { 5, 5 }, { 60, 80 }, { 40, 700 }, { 132, 96 } };
    const uint32_t T = 70;

    for (size_t k = 0; k < COUNT(sizes) * COUNT(formats); k++) {
        uint32_t N = sizes[k / 2].N, K = sizes[k / 2].K;
        float   *W = noise((size_t)N * K, 1, 1.0f), *x = noise((size_t)T * K, 2, 1.0f), *all;
        product  d;

        product_open_as(&d, &shared, *state, formats[k % 2], T, ey_dim_flat(N), ey_dim_flat(K), W, noise(N, 3, 1.0f));
        all = product_run(&d, x, T);
        check_product(&d, all, x, T);
        check_same("fewer rows", product_run(&d, x, 33), all, (size_t)33 * N);
        rig_close(&d.r);
    }
}

/* Sums of small whole numbers are exact: what is left is whether each weight meets the input that it should. */
static void whole_numbers_are_exact(void **state)
{
    const uint32_t N = 132, K = 82, T = 45;
    float         *W = integers((size_t)N * K, 1, 127), *x = integers((size_t)T * K, 2, 100), *want = zeros((size_t)T * N);
    product        d;

    product_open(&d, &shared, *state, T, ey_dim_flat(N), ey_dim_flat(K), W, integers(N, 3, 1000));
    ref_matmul(T, N, K, x, W, d.bias, want);
    check_same("exact product", product_run(&d, x, T), want, (size_t)T * N);
    rig_close(&d.r);
}

/* Inputs are rounded to nearest, even among equals; what is not finite stays what it is. */
static void inputs_are_rounded(void **state)
{
    const float x[] = { 1.0f, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, 0x1.00fffep0f, -0x1.01p-100f, -0x1.03p100f, 0x1.fffffep127f,
                        0x1.fefffep127f, INFINITY, -INFINITY, -0.0f },
                want[] = { 1.0f, 1.0f, 0x1.04p0f, 0x1.02p0f, 1.0f, -0x1p-100f, -0x1.04p100f, INFINITY, 0x1.fep127f, INFINITY,
                           -INFINITY, 0.0f }, nan = NAN;
    float      *W = zeros(16), *y;
    product     d;

    for (uint32_t i = 0; i < 16; i++) W[i] = 1.0f;      /* a whole panel: infinity times padding would be no padding */
    product_open(&d, &shared, *state, COUNT(x), ey_dim_flat(16), ey_dim_flat(1), W, zeros(16));
    y = product_run(&d, x, COUNT(x));
    for (uint32_t i = 0; i < COUNT(x); i++) check_same("rounded", &y[16 * i + i], &want[i], 1);
    assert_true(isnan(product_run(&d, &nan, 1)[0]));
    rig_close(&d.r);
}

/* Heads with padding in, parts out: three matrices stacked, times columns in the middle of an activation. */
static void parts_and_slices(void **state)
{
    const ey_dim   cols = { 3, 20 }, rows[] = { { 1, 37 }, { 2, 5 }, { 3, 20 } };
    const uint32_t K = 60, T = 35;
    float         *x = integers((size_t)T * K, 1, 100), *W[3], *bias[3];
    rig            r;

    if (!shared.more) skip();
    for (uint32_t i = 0; i < 3; i++) {
        W[i] = integers((size_t)ey_dim_count(rows[i]) * K, 10 + i, 127);
        bias[i] = i == 1 ? zeros(10) : integers(ey_dim_count(rows[i]), 20 + i, 1000);
    }
    const tensor  file[] = { { "w0", { 37, K }, W[0] }, { "w1", { 10, K }, W[1] }, { "w2", { 60, K }, W[2] },
                             { "b0", { 37 }, bias[0] }, { "b2", { 60 }, bias[2] } };
    const ey_part parts[] = { { "w0", "b0", rows[0] }, { "w1", NULL, rows[1] }, { "w2", "b2", rows[2] } };

    rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, 40, 1);
    ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, COUNT(file)), parts, 3, cols);
    ey_act wide = hold(&r, ey_plan_act(&r.plan, 40, 48 + ey_dim_padded(cols) + 16));
    ey_act in = ey_act_slice(wide, 48, ey_dim_padded(cols)), y = hold(&r, ey_matmul(&r.plan, in, m));
    rig_seal(&r);
    put(&r, in, cols, x, T);
    rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t N = ey_dim_count(rows[i]);
        float   *want = zeros((size_t)T * N);
        ref_matmul(T, N, K, x, W[i], bias[i], want);
        check_same("part", get(&r, ey_part_of(y, m, i), rows[i], T), want, (size_t)T * N);
    }
    rig_close(&r);
}

/* y += product, to columns in the middle of an activation; whole numbers, so the sum is exact. */
static void sums(void **state)
{
    static const struct { uint32_t N, K, most, T; } cases[] = { { 37, 20, 1, 1 }, { 37, 20, 40, 33 }, { 70, 66, 64, 64 },
                                                                { 40, 2000, 257, 250 } };

    if (!shared.more) skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t      N = cases[i].N, K = cases[i].K, T = cases[i].T, most = cases[i].most;
        float        *W = integers((size_t)N * K, 1, 60), *bias = integers(N, 2, 1000), *x = integers((size_t)T * K, 3, 60);
        float        *y0 = integers((size_t)T * N, 4, 5000), *want = zeros((size_t)T * N), *left = integers((size_t)T * 16, 5, 9);
        const tensor  file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };
        rig           r;

        ref_matmul(T, N, K, x, W, bias, want);
        for (size_t k = 0; k < (size_t)T * N; k++) want[k] += y0[k];
        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, 2),
                                         &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, most, ey_pad(K)));
        ey_act wide = hold(&r, ey_plan_act(&r.plan, most, 16 + ey_pad(N) + 16));
        ey_act y = ey_act_slice(wide, 16, ey_pad(N));
        ey_act before = ey_act_slice(wide, 0, 16), after = ey_act_slice(wide, 16 + ey_pad(N), 16);
        ey_matmul_add(&r.plan, in, m, y);
        rig_seal(&r);
        put(&r, in, ey_dim_flat(K), x, T);
        put(&r, y, ey_dim_flat(N), y0, T);
        put(&r, before, ey_dim_flat(16), left, T);
        put(&r, after, ey_dim_flat(16), left, T);
        rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
        check_same("sum", get(&r, y, ey_dim_flat(N), T), want, (size_t)T * N);
        check_same("before", get(&r, before, ey_dim_flat(16), T), left, (size_t)T * 16);
        check_same("after", get(&r, after, ey_dim_flat(16), T), left, (size_t)T * 16);
        rig_close(&r);
    }
}

/* Rows [skip, skip + most) of those wanted. */
static void wanted_rows(void **state)
{
    static const struct { uint32_t wanted, skip, most; } cases[] = { { 1, 0, 1 }, { 40, 0, 64 }, { 40, 7, 13 },
        { 40, 32, 16 }, { 40, 39, 4 }, { 40, 40, 4 }, { 40, 64, 64 } };
    const uint32_t N = 20, K = 16, bucket = 64;
    float         *W = integers((size_t)N * K, 1, 127), *bias = integers(N, 2, 1000), *x = integers((size_t)bucket * K, 3, 100);
    const tensor   file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };

    if (!shared.more) skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t     skip = cases[i].skip, most = cases[i].most, wanted = cases[i].wanted;
        uint32_t     n = skip < wanted ? (uint32_t)ey_min(wanted - skip, most) : 0;
        const ey_row rows[] = { { .slot = 1, .n = 20 }, { .n = wanted, .want = EY_WANT_ALL } };
        float       *want = zeros((size_t)n * N);
        rig          r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, bucket, 2);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, 2),
                                         &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, bucket, ey_pad(K)));
        ey_act y = hold(&r, ey_plan_act(&r.plan, most, ey_pad(N)));
        ey_matmul_wanted(&r.plan, in, m, skip, most, y);
        rig_seal(&r);
        put(&r, in, ey_dim_flat(K), x, bucket);
        rig_run(&r, rows, 2, NULL);
        ref_matmul(n, N, K, x + skip * K, W, bias, want);
        check_same("wanted", get(&r, y, ey_dim_flat(N), n), want, (size_t)n * N);
        rig_close(&r);
    }
}

/* Two gates, in blocks of odd and even numbers of panels and columns, whole and in shards of 2, 4 and 6 panels. */
static void gates(void **state)
{
    static const ey_dim dims[] = { { 1, 5 }, { 10, 16 }, { 2, 20 }, { 3, 48 }, { 5, 17 }, { 3, 64 }, { 2, 96 }, { 1, 132 } };
    const uint32_t      T = 37, most = 40;

    if (!shared.more) skip();
    for (size_t k = 0; k < COUNT(dims) * 4; k++) {
        const uint32_t G = dims[k / 4].groups, P = dims[k / 4].size, panels = k % 4;
        const size_t   n = (size_t)T * G * P, weights = (size_t)G * P * P;
        float         *W[2], *bias[2], *x = integers(n, 1, 100);
        uint64_t       whole = shared.device->max_alloc;
        uint64_t       panel = ey_quant_panel_bytes(ey_quant_of(EYRIE_FORMAT_BF16), ey_pad(P));
        rig            r;

        for (uint32_t i = 0; i < 2; i++) {
            W[i] = integers(weights, 10 + i, 127);
            bias[i] = integers((size_t)G * P, 20 + i, 1000);
        }
        const tensor file[] = { { "wa", { G, P, P }, W[0] }, { "ba", { G, P }, bias[0] }, { "wi", { G, P, P }, W[1] },
                                { "bi", { G, P }, bias[1] } };
        if (panels) shared.device->max_alloc = panels * 2 * panel;              /* as if opened so, for the weights alone */
        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
        ey_matrix *m = ey_weights_gates(rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, 4),
                                        (ey_part[]){ { "wa", "ba", dims[k / 4] }, { "wi", "bi", dims[k / 4] } });
        shared.device->max_alloc = whole;
        ey_act in = hold(&r, ey_plan_act(&r.plan, most, ey_dim_padded(dims[k / 4])));
        ey_act y = hold(&r, ey_matmul(&r.plan, in, m));
        rig_seal(&r);
        put(&r, in, dims[k / 4], x, T);
        rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
        for (uint32_t i = 0; i < 2; i++) {
            float *want = zeros(n);
            ref_gates(T, G, P, x, W[i], bias[i], want);
            check_same("gate", get_part(&r, y, dims[k / 4], i, T), want, n);
        }
        rig_close(&r);
    }
}

/* gelu(gate) * up of what the plain product makes, in one piece and with rows cut for the caches. */
static void gated_products(void **state)
{
    static const struct { uint32_t M, K, most, T; } cases[] = { { 20, 37, 1, 1 }, { 37, 20, 40, 33 }, { 132, 66, 64, 64 },
                                                                { 40, 2000, 420, 400 } };

    if (!shared.more) skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t     M = cases[i].M, K = cases[i].K, T = cases[i].T, most = cases[i].most;
        size_t       n = (size_t)T * M;
        float       *x = noise((size_t)T * K, 1, 1.0f), *want = zeros(n), *magnitude = zeros(n);
        const tensor file[] = { { "g", { M, K }, noise((size_t)M * K, 2, 0.3f) }, { "bg", { M }, noise(M, 3, 1.0f) },
                                { "u", { M, K }, noise((size_t)M * K, 4, 0.3f) }, { "bu", { M }, noise(M, 5, 1.0f) } };
        rig          r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
        ey_matrix *m = ey_weights_pair(rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, COUNT(file)),
                                       (ey_part[]){ { "g", "bg", ey_dim_flat(M) }, { "u", "bu", ey_dim_flat(M) } },
                                       ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, most, ey_pad(K))), both = hold(&r, ey_matmul(&r.plan, in, m));
        ey_act y = hold(&r, ey_matmul_geglu(&r.plan, in, m, NULL));
        rig_seal(&r);
        put(&r, in, ey_dim_flat(K), x, T);
        rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
        float *gate = get_part(&r, both, ey_dim_flat(M), 0, T), *up = get_part(&r, both, ey_dim_flat(M), 1, T);
        ref_geglu(T, M, gate, up, want);
        for (size_t k = 0; k < n; k++) magnitude[k] = gate[k] * up[k];
        /* The sums are the same bits; the rest as in test_geglu.c. */
        check_near("gated", get(&r, y, ey_dim_flat(M), T), want, n, 6.2 + 1 + 1, magnitude);
        rig_close(&r);
    }
}

/* An MLP whose norm, and whose gated product, are packed by whoever makes them gives the bits of one that packs in launches
 * of its own. Widths that end in half a tile, too. */
static void made_for_their_reader(void **state)
{
    static const struct { uint32_t D, M; } sizes[] = { { 48, 64 }, { 37, 40 }, { 64, 16 } };
    const uint32_t T = 45, most = 64;

    if (!shared.more) skip();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        uint32_t     D = sizes[i].D, M = sizes[i].M;
        ey_dim       d = ey_dim_flat(D), wide = ey_dim_flat(M);
        float       *x = noise((size_t)T * D, 1, 2.0f);
        const tensor file[] = { { "n", { D }, noise(D, 2, 0.5f) }, { "g", { M, D }, noise((size_t)M * D, 3, 0.3f) },
                                { "u", { M, D }, noise((size_t)M * D, 4, 0.3f) }, { "d", { D, M }, noise((size_t)M * D, 5, 0.3f) } };
        rig          r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
        ey_weights *w = rig_weights(&r, *state, EYRIE_FORMAT_BF16, file, COUNT(file));
        ey_buffer  *scale = ey_weights_vector(w, "n", d, 1, EY_ONE_PLUS);
        ey_matrix  *in = ey_weights_pair(w, (ey_part[]){ { "g", NULL, wide }, { "u", NULL, wide } }, d);
        ey_matrix  *down = ey_weights_matrix(w, &(ey_part){ "d", NULL, d }, 1, wide);
        ey_act a = hold(&r, ey_plan_act(&r.plan, most, ey_pad(D))), normed = ey_norm(a, scale, D, 1e-6f);
        ey_act packed = hold(&r, ey_matmul(&r.plan, ey_matmul_geglu(&r.plan, normed, in, down), down));
        size_t few = r.plan.n;
        ey_act plain = hold(&r, ey_matmul(&r.plan, ey_matmul_geglu(&r.plan, ey_normalise(&r.plan, normed, false), in, NULL), down));
        assert_int_equal(few, 3);
        assert_int_equal(r.plan.n - few, 5);
        rig_seal(&r);
        put(&r, a, d, x, T);
        rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
        check_same("packed", get(&r, packed, d, T), get(&r, plain, d, T), (size_t)T * D);
        rig_close(&r);
    }
}

/* Decode does without, and so do other formats. */
static void only_prefill_and_few_bits(void **state)
{
    static const struct { ey_phase phase; eyrie_format format; } cases[] = {
        { EY_DECODE, EYRIE_FORMAT_BF16 }, { EY_PREFILL, EYRIE_FORMAT_F16 }, { EY_PREFILL, EYRIE_FORMAT_F32 } };
    float        *W = noise(20 * 16, 1, 1.0f);
    const tensor  file[] = { { "w", { 20, 16 }, W } };

    if (!shared.more) skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, cases[i].phase, 4, 1);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, cases[i].format, file, 1),
                                         &(ey_part){ "w", NULL, ey_dim_flat(20) }, 1, ey_dim_flat(16));
        (void)hold(&r, ey_matmul(&r.plan, hold(&r, ey_plan_act(&r.plan, 4, 16)), m));
        assert_int_equal(r.plan.n, 1);
        assert_null(strstr(r.plan.records[0].label, "amx"));
        rig_close(&r);
    }
}

static int open_unit(void **state)
{
    eyrie_verdict v;

    open_shared(state);
    if (!shared.device) return 0;
    assert_ok(eyrie_probe_run(shared.device, "amx", &v, &err));
    if (v.answer == EYRIE_YES) shared.more = EY_MATRIX_UNIT;
    else fprintf(stderr, "skipping: no matrix unit: %s\n", v.reason);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_number_of_rows),
        op_test(cuts_change_nothing),
        op_test(widened_weights),
        op_test(whole_numbers_are_exact),
        op_test(inputs_are_rounded),
        op_test(parts_and_slices),
        op_test(sums),
        op_test(wanted_rows),
        op_test(gates),
        op_test(gated_products),
        op_test(made_for_their_reader),
        op_test(only_prefill_and_few_bits),
    };
    return cmocka_run_group_tests(tests, open_unit, close_shared);
}
