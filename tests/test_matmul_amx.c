/* test_matmul_amx.c - products on the CPU's matrix unit: against the reference of inputs that are rounded to bf16, and
 * against themselves, bit for bit, since bucket, neighbours, cuts and shards must not matter. What it shares
 * with the other kernels is in test_matmul.c. Skipped, with the reason, on devices without a unit. */
#include "harness.h"

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

/* Two gates, in blocks of odd and even numbers of panels and columns, whole and in shards of 2, 4 and 6 panels. */
static void gates(void **state)
{
    static const ey_dim dims[] = { { 1, 5 }, { 10, 16 }, { 2, 20 }, { 3, 48 }, { 5, 17 }, { 3, 64 }, { 2, 96 }, { 1, 132 } };
    const uint32_t      T = 37, most = 40;

    if (!shared.device) skip();
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

enum { IN = 48, OUT = 20 };

/* A recurrent layer between its input and what the last product makes of it. */
typedef struct recurrent {
    rig    r;
    ey_act x, y;
} recurrent;

static void recurrent_open(recurrent *l, const char *directory, eyrie_format format, ey_dim width, uint32_t taps, bool packed,
                           bool apart, const row_set *set)
{
    uint32_t N = ey_dim_count(width), G = width.groups, P = width.size;
    const tensor file[] = {
        { "x", { N, IN }, noise((size_t)N * IN, 2, 0.3f) }, { "y", { N, IN }, noise((size_t)N * IN, 3, 0.3f) },
        { "a", { G, P, P }, noise((size_t)N * P, 4, 0.5f) }, { "ba", { G, P }, noise(N, 5, 1.0f) },
        { "i", { G, P, P }, noise((size_t)N * P, 6, 0.5f) }, { "bi", { G, P }, noise(N, 7, 1.0f) },
        { "conv", { N, 1, taps }, noise((size_t)N * taps, 8, 1.0f) }, { "cb", { N }, noise(N, 9, 1.0f) },
        { "p", { N }, noise(N, 10, 2.0f) }, { "out", { OUT, N }, noise((size_t)N * OUT, 11, 1.0f) } };

    *l = (recurrent){ .y = { 0 } };
    rig_open(&l->r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, tokens_of(set), set->n);
    ey_weights *w = rig_weights(&l->r, directory, format, file, COUNT(file));
    ey_matrix *in = ey_weights_matrix(w, (ey_part[]){ { "x", NULL, width }, { "y", NULL, width } }, 2, ey_dim_flat(IN));
    ey_matrix *gates = ey_weights_gates(w, (ey_part[]){ { "a", "ba", width }, { "i", "bi", width } });
    ey_matrix *out = ey_weights_matrix(w, &(ey_part){ "out", NULL, ey_dim_flat(OUT) }, 1, width);
    ey_conv    c = { ey_weights_vector(w, "conv", width, taps, EY_TRANSPOSE), ey_weights_vector(w, "cb", width, 1, EY_PLAIN), taps,
                     rig_state(&l->r, (size_t)taps * N) };
    ey_recurrence r = { .decay = ey_weights_vector(w, "p", width, 1, EY_DECAY), .state = c.state, .h_offset = (taps - 1) * N,
                        .reader = packed ? out : NULL };
    ey_plan *p = &l->r.plan;

    l->x = hold(&l->r, ey_plan_act(p, tokens_of(set), IN));
    if (apart) ey_matmul_conv1d(p, l->x, in, &c, &r.v, &r.y);
    ey_act h = apart ? ey_matmul_rglru(p, gates, &r) : ey_matmul_recurrent(p, l->x, in, &c, gates, r);
    l->y = hold(&l->r, ey_matmul(p, h, out));
    rig_seal(&l->r);
}

static float *recurrent_run(recurrent *l, const row_set *set, const float *x, float *state)
{
    rig_clear(&l->r);
    put(&l->r, l->x, ey_dim_flat(IN), x, tokens_of(set));
    rig_run(&l->r, set->rows, set->n, state);
    return get(&l->r, l->y, ey_dim_flat(OUT), tokens_of(set));
}

/* What a recurrent layer does between its products, with the bits of the launches that do it apart. */
static void a_recurrent_layer_in_one_launch(void **state)
{
    static const struct { ey_dim width; uint32_t taps; eyrie_format format; } cases[] = {
        { { 2, 64 }, 4, EYRIE_FORMAT_BF16 }, { { 3, 96 }, 1, EYRIE_FORMAT_Q8 }, { { 1, 256 }, 2, EYRIE_FORMAT_Q4 },
        { { 5, 32 }, 17, EYRIE_FORMAT_BF16 } };

    if (!shared.device) skip();
    uint32_t units = shared.device->units;
    shared.device->units = 1;               /* which any number of blocks keeps busy */
    for (size_t i = 0; i < COUNT(cases) * COUNT(prefill_sets); i++) {
        const row_set *set = &prefill_sets[i / COUNT(cases)];
        ey_dim   width = cases[i % COUNT(cases)].width;
        uint32_t taps = cases[i % COUNT(cases)].taps, T = tokens_of(set);
        size_t   floats = (size_t)SLOTS * taps * ey_dim_count(width);
        bool     packed = i % 2 == 0;
        float   *x = noise((size_t)T * IN, 20, 3.0f), *want_state = noise(floats, 21, 1.0f), *got_state = noise(floats, 21, 1.0f);
        recurrent one, apart;

        recurrent_open(&one, *state, cases[i % COUNT(cases)].format, width, taps, packed, false, set);
        recurrent_open(&apart, *state, cases[i % COUNT(cases)].format, width, taps, packed, true, set);
        assert_true(one.r.plan.n + 2 <= apart.r.plan.n);
        float *want = recurrent_run(&apart, set, x, want_state);
        check_same("output", recurrent_run(&one, set, x, got_state), want, (size_t)T * OUT);
        check_same("state", got_state, want_state, floats);
        rig_close(&apart.r);
        rig_close(&one.r);
    }
    shared.device->units = units;
}

/* Decode does without, and so do other formats. */
static void only_prefill_and_few_bits(void **state)
{
    static const struct { ey_phase phase; eyrie_format format; } cases[] = {
        { EY_DECODE, EYRIE_FORMAT_BF16 }, { EY_PREFILL, EYRIE_FORMAT_F16 }, { EY_PREFILL, EYRIE_FORMAT_F32 } };
    float        *W = noise(20 * 16, 1, 1.0f);
    const tensor  file[] = { { "w", { 20, 16 }, W } };

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

/* Where decode may vary, steps of many rows are the unit's, with the bits of prefill: few rows, and those of widened weights
 * until there are more, are not. */
static void large_steps_of_decode(void **state)
{
    static const struct { eyrie_format format; uint32_t rows; bool unit; } cases[] = {
        { EYRIE_FORMAT_BF16, 4, false }, { EYRIE_FORMAT_BF16, 8, true }, { EYRIE_FORMAT_BF16, 40, true },
        { EYRIE_FORMAT_Q8, 8, false }, { EYRIE_FORMAT_Q8, 16, true }, { EYRIE_FORMAT_Q4, 33, true } };
    const uint32_t N = 70, K = 66;
    float         *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f), *x = noise((size_t)40 * K, 3, 1.0f);
    lab            l;

    if (!shared.device) skip();
    lab_open(&l, 0, 0);
    l.more = EY_MATRIX_UNIT | EY_UNIT_DECODE;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const tensor file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };
        uint32_t     n = cases[i].rows;
        product      d;
        rig          r;

        rig_open(&r, &l, EYRIE_FORMAT_F32, EY_DECODE, n, n);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, cases[i].format, file, 2),
                                         &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, n, ey_pad(K))), y = hold(&r, ey_matmul(&r.plan, in, m));
        rig_seal(&r);
        assert_true((strstr(r.plan.records[r.plan.n - 1].label, "_amx") != NULL) == cases[i].unit);
        put(&r, in, ey_dim_flat(K), x, n - 1);
        rig_run_tokens(&r, n - 1);
        if (cases[i].unit) {
            product_open_as(&d, &l, *state, cases[i].format, n, ey_dim_flat(N), ey_dim_flat(K), W, bias);
            check_same("decode", get(&r, y, ey_dim_flat(N), n - 1), product_run(&d, x, n - 1), (size_t)(n - 1) * N);
            rig_close(&d.r);
        }
        rig_close(&r);
    }
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_number_of_rows),
        op_test(cuts_change_nothing),
        op_test(widened_weights),
        op_test(inputs_are_rounded),
        op_test(gates),
        op_test(gated_products),
        op_test(made_for_their_reader),
        op_test(a_recurrent_layer_in_one_launch),
        op_test(only_prefill_and_few_bits),
        op_test(large_steps_of_decode),
    };
    return run_unit_tests(tests);
}
