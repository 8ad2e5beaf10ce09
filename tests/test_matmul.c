/* test_matmul.c - dense products: every tile and weight format against the reference, and bit for bit against the
 * chain of fma that the design promises, which is why tile, neighbours and shards cannot matter. Block-diagonal
 * products are test_gates.c's, what only the matrix unit does is test_matmul_amx.c's. */
#include "harness.h"

/* Buckets from 1 to taller than every tile, with live rows that fill them, and that do not. */
static const struct { uint32_t bucket, live[3]; } batches[] = {
    { 1, { 1 } }, { 2, { 1, 2 } }, { 3, { 3, 1 } }, { 4, { 4, 2 } }, { 5, { 5, 1 } }, { 8, { 8, 3, 7 } },
    { 12, { 12, 9, 1 } }, { 16, { 16, 13 } }, { 64, { 15, 16, 17 } }, { 260, { 63, 129, 257 } },
};

static const uint32_t vectors[] = { 1, 16 };    /* floats in a register: the two tables of tiles */

/* One matrix of N rows and K columns, and its product with up to `bucket` tokens. */
typedef struct dense {
    rig        r;
    ey_matrix *m;
    ey_act     x, y;
    uint32_t   N, K;
    float     *W, *bias;            /* W as the format keeps it */
} dense;

static void dense_open(dense *d, lab *l, const char *directory, ey_phase phase, eyrie_format format, uint32_t bucket, uint32_t N,
                       uint32_t K, const float *W, float *bias)
{
    const tensor file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };

    *d = (dense){ .N = N, .K = K, .W = rounded(format, W, N, 1, K), .bias = bias };
    rig_open(&d->r, l, EYRIE_FORMAT_F32, phase, bucket, phase == EY_PREFILL ? 1 : bucket);
    ey_weights *w = rig_weights(&d->r, directory, format, file, COUNT(file));
    d->m = ey_weights_matrix(w, &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
    d->x = hold(&d->r, ey_plan_act(&d->r.plan, bucket, ey_pad(K)));
    d->y = hold(&d->r, ey_matmul(&d->r.plan, d->x, d->m));
    rig_seal(&d->r);
}

static float *dense_run(dense *d, const float *x, uint32_t T)
{
    rig_clear(&d->r);
    put(&d->r, d->x, ey_dim_flat(d->K), x, T);
    rig_run_tokens(&d->r, T);
    return get(&d->r, d->y, ey_dim_flat(d->N), T);
}

/* One chain of fma over ascending k, then the bias. Devices without fma multiply and add. */
static float *chain(size_t T, size_t N, size_t K, const float *x, const float *W, const float *bias)
{
    float *y = zeros(T * N);

    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n++) {
            for (size_t k = 0; k < K; k++) {
                float w = W[n * K + k], in = x[t * K + k], sum = y[t * N + n];
                y[t * N + n] = shared.device->fma ? fmaf(w, in, sum) : w * in + sum;
            }
            y[t * N + n] += bias[n];
        }
    return y;
}

/* The kernel is the first tile that is tall enough, else the tallest, on a CPU unless two of the next are enough; returns its number among the class's. */
static size_t check_tile(const dense *d, eyrie_format format, uint32_t bucket)
{
    bool           decode = d->r.plan.phase == EY_DECODE;
    size_t         n, i = 0;
    const ey_tile *tiles = on_gpu() ? ey_gpu_tiles(decode, &n) : ey_device_tiles(d->r.lab->device, &n);
    char           kernel[40];

    while (i + 1 < n && tiles[i].rows < bucket) i++;
    if (!on_gpu() && i > 0 && tiles[i].rows < bucket && 2 * tiles[i - 1].rows >= bucket) i--;
    snprintf(kernel, sizeof kernel, "%s_%s_%ux%u", !on_gpu() ? "matmul" : decode ? "gpu_gemv" : "gpu_matmul",
             ey_quant_of(format)->name, (unsigned)tiles[i].rows, (unsigned)tiles[i].panels);
    assert_string_equal(d->r.plan.records[0].label, kernel);
    return i;
}

/* Returns the product of x. */
static float *check_product(dense *d, const float *x, uint32_t T)
{
    size_t N = d->N, K = d->K, n = T * N;
    float *y = dense_run(d, x, T), *want = zeros(n), *magnitude = zeros(n);

    if (!on_gpu() || d->r.plan.phase == EY_PREFILL) check_same("chain of fma", y, chain(T, N, K, x, d->W, d->bias), n);
    /* K fma and the bias each round a sum that is at most the sum of magnitudes; the reference rounds once. */
    ref_matmul(T, N, K, x, d->W, d->bias, want);
    ref_matmul(T, N, K, absolute(x, T * K), absolute(d->W, N * K), absolute(d->bias, N), magnitude);
    check_near("product", y, want, n, (double)K + 2, magnitude);
    return y;
}

static const struct { uint32_t N, K; } sizes[] = { { 1, 1 }, { 5, 16 }, { 16, 5 }, { 20, 37 }, { 60, 66 },
                                                   { 132, 96 }, { 66, 176 } };

static void every_tile_and_format(void **state)
{
    for (size_t v = 0; v < (on_gpu() ? 1 : COUNT(vectors)); v++) {
        lab    l;
        size_t used = 0, all;

        lab_open(&l, 0, vectors[v]);
        for (size_t i = 0; i < COUNT(batches); i++)
            for (size_t k = 0; k < COUNT(sizes) * COUNT(weight_formats); k++) {
                eyrie_format format = weight_formats[k % COUNT(weight_formats)];
                uint32_t     N = sizes[k / COUNT(weight_formats)].N, K = sizes[k / COUNT(weight_formats)].K;
                float       *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f);
                dense        d;

                dense_open(&d, &l, *state, EY_PREFILL, format, batches[i].bucket, N, K, W, bias);
                used |= (size_t)1 << check_tile(&d, format, batches[i].bucket);
                for (size_t j = 0; j < 3 && batches[i].live[j]; j++) {
                    uint32_t T = batches[i].live[j];
                    check_product(&d, noise(T * K, T, 1.0f), T);
                }
                rig_close(&d.r);
            }
        if (on_gpu()) ey_gpu_tiles(false, &all);
        else ey_device_tiles(l.device, &all);
        assert_int_equal(used, ((size_t)1 << all) - 1);
        lab_close(&l);
    }
}

/* A decoded row has the same bits alone and among 63 others. */
static void every_batch_of_decode(void **state)
{
    static const struct { uint32_t bucket, live; } cases[] = { { 64, 64 }, { 1, 1 }, { 2, 2 }, { 4, 3 }, { 8, 5 }, { 16, 9 } };

    for (size_t k = 0; k < COUNT(sizes) * COUNT(weight_formats); k++) {
        eyrie_format format = weight_formats[k % COUNT(weight_formats)];
        uint32_t     N = sizes[k / COUNT(weight_formats)].N, K = sizes[k / COUNT(weight_formats)].K;
        float       *W = noise((size_t)N * K, 1, 1.0f), *x = noise((size_t)64 * K, 2, 1.0f), *all = NULL;

        for (size_t i = 0; i < COUNT(cases); i++) {
            dense d;

            dense_open(&d, &shared, *state, EY_DECODE, format, cases[i].bucket, N, K, W, noise(N, 3, 1.0f));
            check_tile(&d, format, cases[i].bucket);
            float *y = check_product(&d, x, cases[i].live);
            if (i == 0) all = y;
            check_same("rows", y, all, (size_t)cases[i].live * N);
            rig_close(&d.r);
        }
    }
}

static float *exact(size_t T, size_t N, size_t K, const float *x, const float *W, const float *bias)
{
    float *y = zeros(T * N);
    ref_matmul(T, N, K, x, W, bias, y);
    return y;
}

/* Those that share a scale begin with the largest there is, which makes it 1. */
static float *whole_weights(eyrie_format format, uint32_t N, uint32_t K)
{
    float *W = integers((size_t)N * K, 1, format == EYRIE_FORMAT_Q4 ? 7 : 127);

    for (uint32_t i = 0; ey_quant_of(format)->scaled && i < N; i++)
        for (uint32_t k = 0; k < K; k += EY_GROUP) W[i * K + k] = format == EYRIE_FORMAT_Q4 ? -8 : 127;
    return W;
}

/* Sums of small whole numbers are exact in any order, and so are the numbers in every format: what is left is
 * whether each weight meets the input that it should. */
static void whole_numbers_are_exact(void **state)
{
    const uint32_t N = 132, K = 66;

    for (size_t i = 0; i < COUNT(batches); i++)
        for (size_t f = 0; f < COUNT(weight_formats); f++) {
            uint32_t T = batches[i].live[0];
            float   *W = whole_weights(weight_formats[f], N, K), *x = integers((size_t)T * K, 2, 100);
            dense    d;

            dense_open(&d, &shared, *state, EY_PREFILL, weight_formats[f], batches[i].bucket, N, K, W, integers(N, 3, 1000));
            check_same("exact product", dense_run(&d, x, T), exact(T, N, K, x, W, d.bias), (size_t)T * N);
            rig_close(&d.r);
        }
}

/* The largest weights of each format, the smallest, and -0: what loading them could cut off. */
static void extreme_weights(void **state)
{
    static const struct { eyrie_format format; float w[4]; } extremes[] = {
        { EYRIE_FORMAT_F32, { 0x1.fffffep+100f, -0x1p-120f, 0x1.8p+3f, -0.0f } },
        { EYRIE_FORMAT_F16, { 65504.0f, -0x1p-24f, 0x1.ff8p-15f, -0x1p-14f } },
        { EYRIE_FORMAT_BF16, { 0x1.fep+100f, -0x1p-120f, -0x1.02p-3f, 0x1.fcp+3f } },
        { EYRIE_FORMAT_Q8, { 127 * 0x1p+15f, -127 * 0x1p-24f, -127.0f, -0.0f } },
        { EYRIE_FORMAT_Q4, { 8 * 0x1p+15f, -8 * 0x1p-24f, -8.0f, -0.0f } },
    };

    for (size_t f = 0; f < COUNT(extremes); f++)
        for (uint32_t k = 0; k < 4; k++) {      /* even and odd columns are taken apart in different ways */
            float W[4] = { 0 }, x[4] = { 1, 1, 1, 1 };
            dense d;

            W[k] = extremes[f].w[k];
            dense_open(&d, &shared, *state, EY_PREFILL, extremes[f].format, 1, 1, 4, W, zeros(1));
            assert_true(dense_run(&d, x, 1)[0] == W[k]);
            rig_close(&d.r);
        }
}

/* For what follows, with whole numbers again, so that sums are exact on the matrix unit, too. */
static eyrie_format format_tested(void) { return shared.more ? EYRIE_FORMAT_BF16 : EYRIE_FORMAT_F32; }

/* Three matrices stacked, the second without a bias, times columns of a wider activation in heads with padding. */
static void parts_and_slices(void **state)
{
    const ey_dim   cols = { 3, 20 }, rows[] = { { 1, 37 }, { 2, 5 }, { 3, 20 } };
    const uint32_t K = 60, most = 40, live[] = { 5, 35 }, left = 48, right = 16;
    float         *x = integers((size_t)most * K, 1, 100), *W[3], *bias[3];
    rig            r;

    for (uint32_t i = 0; i < 3; i++) {
        W[i] = integers((size_t)ey_dim_count(rows[i]) * K, 10 + i, 127);
        bias[i] = i == 1 ? zeros(10) : integers(ey_dim_count(rows[i]), 20 + i, 1000);
    }
    const tensor  file[] = { { "w0", { 37, K }, W[0] }, { "w1", { 10, K }, W[1] }, { "w2", { 60, K }, W[2] },
                             { "b0", { 37 }, bias[0] }, { "b2", { 60 }, bias[2] } };
    const ey_part parts[] = { { "w0", "b0", rows[0] }, { "w1", NULL, rows[1] }, { "w2", "b2", rows[2] } };

    rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
    ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, format_tested(), file, COUNT(file)), parts, 3, cols);
    ey_act wide = hold(&r, ey_plan_act(&r.plan, most, left + ey_dim_padded(cols) + right));
    ey_act in = ey_act_slice(wide, left, ey_dim_padded(cols));
    ey_act y = hold(&r, ey_matmul(&r.plan, in, m));
    rig_seal(&r);
    for (size_t k = 0; k < COUNT(live); k++) {
        rig_clear(&r);
        put(&r, in, cols, x, live[k]);
        rig_run_tokens(&r, live[k]);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t N = ey_dim_count(rows[i]), T = live[k];
            check_same("part", get(&r, ey_part_of(y, m, i), rows[i], T), exact(T, N, K, x, W[i], bias[i]), (size_t)T * N);
        }
    }
    rig_close(&r);
}

/* y += product, the residual connection, to columns in the middle of an activation. */
static void sums(void **state)
{
    static const struct { uint32_t N, K, most, T; } cases[] = { { 37, 20, 1, 1 }, { 37, 20, 2, 2 }, { 37, 20, 4, 3 },
        { 37, 20, 8, 6 }, { 37, 20, 40, 33 }, { 70, 66, 64, 64 }, { 40, 2000, 257, 250 } };

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t      N = cases[i].N, K = cases[i].K, T = cases[i].T, most = cases[i].most;
        float        *W = integers((size_t)N * K, 1, 60), *bias = integers(N, 2, 1000), *x = integers((size_t)T * K, 3, 60);
        float        *y0 = integers((size_t)T * N, 4, 5000), *beside = integers((size_t)T * 16, 5, 9);
        float        *want = exact(T, N, K, x, W, bias);
        const tensor  file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };
        rig           r;

        for (size_t k = 0; k < (size_t)T * N; k++) want[k] += y0[k];
        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, format_tested(), file, 2),
                                         &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, most, ey_pad(K)));
        ey_act wide = hold(&r, ey_plan_act(&r.plan, most, 16 + ey_pad(N) + 16));
        ey_act y = ey_act_slice(wide, 16, ey_pad(N));
        ey_act before = ey_act_slice(wide, 0, 16), after = ey_act_slice(wide, 16 + ey_pad(N), 16);
        ey_matmul_add(&r.plan, in, m, y);
        rig_seal(&r);
        put(&r, in, ey_dim_flat(K), x, T);
        put(&r, y, ey_dim_flat(N), y0, T);
        put(&r, before, ey_dim_flat(16), beside, T);
        put(&r, after, ey_dim_flat(16), beside, T);
        rig_run_tokens(&r, T);
        check_same("sum", get(&r, y, ey_dim_flat(N), T), want, (size_t)T * N);
        check_same("before", get(&r, before, ey_dim_flat(16), T), beside, (size_t)T * 16);
        check_same("after", get(&r, after, ey_dim_flat(16), T), beside, (size_t)T * 16);
        rig_close(&r);
    }
}

/* Rows [skip, skip + most) of those wanted, which lie compacted at the top of x: they may be all there, in part, or
 * not. */
static void wanted_rows(void **state)
{
    static const struct { uint32_t wanted, skip, most; } cases[] = { { 1, 0, 1 }, { 40, 0, 64 }, { 40, 7, 13 },
        { 40, 32, 16 }, { 40, 39, 4 }, { 40, 40, 4 }, { 40, 64, 64 } };
    const uint32_t N = 20, K = 16, bucket = 64;
    float         *W = integers((size_t)N * K, 1, 127), *bias = integers(N, 2, 1000), *x = integers((size_t)bucket * K, 3, 100);
    const tensor   file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t     skip = cases[i].skip, most = cases[i].most, wanted = cases[i].wanted;
        uint32_t     n = skip < wanted ? (uint32_t)ey_min(wanted - skip, most) : 0;
        const ey_row rows[] = { { .slot = 1, .n = 20 }, { .n = wanted, .want = EY_WANT_ALL } };
        rig          r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, bucket, 2);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, format_tested(), file, 2),
                                         &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
        ey_act in = hold(&r, ey_plan_act(&r.plan, bucket, ey_pad(K)));
        ey_act y = hold(&r, ey_plan_act(&r.plan, most, ey_pad(N)));
        ey_matmul_wanted(&r.plan, in, m, skip, most, y);
        rig_seal(&r);
        put(&r, in, ey_dim_flat(K), x, bucket);
        rig_run(&r, rows, 2, NULL);
        check_same("wanted", get(&r, y, ey_dim_flat(N), n), exact(n, N, K, x + skip * K, W, bias), (size_t)n * N);
        rig_close(&r);
    }
}

/* Where one allocation holds three panels of nine, or two, a matrix comes in shards, with the same bits. */
static void shards_change_nothing(void **state)
{
    const uint32_t N = 132, K = 176, T = 9, panels[] = { 3, 2 };

    for (size_t f = 0; f < COUNT(weight_formats); f++)
        for (size_t i = 0; i < COUNT(panels); i++) {
            float *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f), *x = noise((size_t)T * K, 3, 1.0f);
            dense  d;
            lab    small;

            uint64_t panel = ey_quant_panel_bytes(ey_quant_of(weight_formats[f]), ey_pad(K));
            uint64_t most = ey_max(panels[i] * panel + 100, T * K * sizeof(float));     /* or the activations */
            lab_open(&small, most, 0);
            dense_open(&d, &small, *state, EY_PREFILL, weight_formats[f], T, N, K, W, bias);
            assert_int_equal(d.m->n_shards, (9 + most / panel - 1) / (most / panel));
            check_same("sharded", dense_run(&d, x, T), chain(T, N, K, x, d.W, d.bias), (size_t)T * N);
            rig_close(&d.r);
            lab_close(&small);
        }
}

/* More rows and columns than one work-item may go through on llvmpipe, which ends its loops, without a word, after 65535
 * turns in all. */
static void many_turns(void **state)
{
    const uint32_t N = 80, K = 1040, T = 512;
    float         *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f), *x = noise((size_t)T * K, 3, 1.0f);
    dense          d;
    lab            l;

    lab_open(&l, 0, 0);
    if (l.device) l.device->units = 1;          /* that are busy without splitting the rows */
    dense_open(&d, &l, *state, EY_PREFILL, EYRIE_FORMAT_F32, T, N, K, W, bias);
    check_same("many turns", dense_run(&d, x, T), chain(T, N, K, x, W, bias), (size_t)T * N);
    rig_close(&d.r);
    lab_close(&l);
}

/* test_matmul [PATTERN]: those tests alone, * and ? being any characters. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        op_test(every_tile_and_format),
        op_test(every_batch_of_decode),
        op_test(extreme_weights),
        op_test(shards_change_nothing),
        op_test(many_turns),
    }, of_all_kernels[] = {
        op_test(whole_numbers_are_exact),
        op_test(parts_and_slices),
        op_test(sums),
        op_test(wanted_rows),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return run_op_tests(tests) + run_op_tests(of_all_kernels) + run_unit_tests(of_all_kernels);
}
