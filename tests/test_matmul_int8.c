/* test_matmul_int8.c - products that round their inputs to whole numbers of 8 bits: bit for bit against the reference, with
 * and without VNNI instructions, in every tile, of every number of rows, in both phases. What few rows go on with is
 * test_fused.c's, too. */
#include "harness.h"

#include <eyrie/eyrie_tools.h>

static const eyrie_format formats[] = { EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };

/* The ways of a group's sum: floats, in both tables of tiles; VNNI instructions, where they are. */
static const struct { uint32_t vector, more; } ways[] = { { 1, EY_INT8 }, { 16, EY_INT8 }, { 16, EY_INT8 | EY_VNNI } };

static bool has_vnni;

/* false: the device lacks what this way takes. */
static bool open_way(lab *l, size_t way)
{
    if (!has_vnni && ways[way].more & EY_VNNI) return false;
    lab_open(l, 0, ways[way].vector);
    l->more = ways[way].more;
    return true;
}

/* Scales [N, groups of 32 columns] of a matrix as a format keeps it, from its panels (quant.h). */
static float *scales_of(eyrie_format format, const float *W, size_t N, uint32_t K)
{
    const ey_quant *q = ey_quant_of(format);
    uint32_t        columns = ey_pad(K), groups = (K + EY_GROUP - 1) / EY_GROUP;
    float          *scales = zeros(N * groups);
    uint16_t       *panel = (uint16_t *)zeros((size_t)EY_LANES * columns);

    for (size_t n = 0; n < N; n++) {
        float *rows = zeros((size_t)EY_LANES * columns);
        memcpy(rows, W + n * K, K * sizeof *rows);
        q->pack(rows, columns, panel);
        for (uint32_t g = 0; g < groups; g++)
            scales[n * groups + g] = ey_f16_to_f32(panel[g / 2 * (1 + 2 * q->bits) * 2 * EY_LANES + g % 2 * EY_LANES]);
    }
    return scales;
}

typedef struct product {
    rig        r;
    ey_act     x, y;
    uint32_t   N, K;
    float     *W, *scales, *bias;   /* W as the format keeps it */
} product;

static void product_open(product *p, lab *l, const char *directory, ey_phase phase, eyrie_format format, uint32_t bucket, uint32_t N,
                         uint32_t K)
{
    const float *W = noise((size_t)N * K, 1, 1.0f);
    float       *bias = noise(N, 2, 1.0f);
    const tensor file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };

    *p = (product){ .N = N, .K = K, .W = rounded(format, W, N, 1, K), .scales = scales_of(format, W, N, K), .bias = bias };
    rig_open(&p->r, l, EYRIE_FORMAT_F32, phase, bucket, phase == EY_PREFILL ? 1 : bucket);
    ey_matrix *m = ey_weights_matrix(rig_weights(&p->r, directory, format, file, COUNT(file)),
                                     &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
    p->x = hold(&p->r, ey_plan_act(&p->r.plan, bucket, ey_pad(K)));
    p->y = hold(&p->r, ey_matmul(&p->r.plan, p->x, m));
    rig_seal(&p->r);
    assert_non_null(strstr(p->r.plan.records[p->r.plan.n - 1].label, "matmul_int8_"));
}

static float *product_run(product *p, const float *x, uint32_t T)
{
    rig_clear(&p->r);
    put(&p->r, p->x, ey_dim_flat(p->K), x, T);
    rig_run_tokens(&p->r, T);
    return get(&p->r, p->y, ey_dim_flat(p->N), T);
}

static void check_product(const product *p, const float *y, const float *x, uint32_t T)
{
    size_t n = (size_t)T * p->N;
    float *want = zeros(n), *magnitude = zeros(n);

    ref_matmul_int8(T, p->N, p->K, x, p->W, p->scales, p->bias, want);
    if (shared.device->fma) {
        check_same(p->r.plan.records[p->r.plan.n - 1].label, y, want, n);
        return;
    }
    /* Each group then rounds its product and the sum, which are at most the sum of magnitudes; that is larger than of rounded
     * numbers by 1 in 127 at most. */
    ref_matmul(T, p->N, p->K, absolute(x, (size_t)T * p->K), absolute(p->W, (size_t)p->N * p->K), absolute(p->bias, p->N), magnitude);
    check_near("product", y, want, n, 1.01 * (2.0 * ((p->K + 31) / 32) + 2), magnitude);
}

static const struct { uint32_t N, K; } sizes[] = { { 1, 1 }, { 5, 16 }, { 20, 37 }, { 60, 66 }, { 132, 96 }, { 66, 176 } };

/* Buckets for every tile, with live rows that fill them, and that do not. */
static const struct { uint32_t bucket, live[2]; } batches[] = { { 1, { 1 } }, { 2, { 2, 1 } }, { 4, { 4, 3 } }, { 8, { 8, 5 } },
                                                                { 12, { 12, 7 } }, { 64, { 53, 13 } } };

static void every_way_and_tile(void **state)
{
    for (size_t way = 0; way < COUNT(ways); way++) {
        lab l;

        if (!shared.device || !open_way(&l, way)) continue;
        for (size_t k = 0; k < COUNT(sizes) * COUNT(batches) * COUNT(formats) * EY_PHASES; k++) {
            const size_t s = k / COUNT(batches) % COUNT(sizes), b = k % COUNT(batches), rest = k / COUNT(batches) / COUNT(sizes);
            product p;

            product_open(&p, &l, *state, rest % 2 ? EY_DECODE : EY_PREFILL, formats[rest / 2], batches[b].bucket, sizes[s].N, sizes[s].K);
            for (size_t i = 0; i < 2 && batches[b].live[i]; i++) {
                uint32_t     T = batches[b].live[i];
                const float *x = noise((size_t)T * p.K, T, 3.0f);
                check_product(&p, product_run(&p, x, T), x, T);
            }
            rig_close(&p.r);
        }
        lab_close(&l);
    }
}

/* Groups of zeros, of numbers that nearly vanish, and beside large ones; ties; and what is not finite shows in its row. */
static void awkward_inputs(void **state)
{
    enum { N = 32, K = 100, T = 6 };

    for (size_t k = 0; k < COUNT(ways) * COUNT(formats) * COUNT(batches); k++) {
        const uint32_t bucket = batches[k % COUNT(batches)].bucket;
        float         *x = noise(T * K, 1, 1.0f);
        product        p;
        lab            l;

        if (bucket < T || !shared.device || !open_way(&l, k / COUNT(batches) / COUNT(formats))) continue;
        for (size_t i = 0; i < 32; i++) {
            x[i] = 0.0f;                                        /* a whole group */
            x[K + i] *= 0x1p-120f;
            x[K + 32 + i] *= 0x1p-90f;
            x[2 * K + i] = (float)i / 2 - 8;                    /* ties, the largest being 127 */
        }
        x[2 * K + 5] = -127.0f;
        x[3 * K + 40] = 1e30f;
        x[4 * K + 7] = INFINITY;
        x[5 * K + 99] = NAN;
        product_open(&p, &l, *state, EY_PREFILL, formats[k / COUNT(batches) % COUNT(formats)], bucket, N, K);
        float *y = product_run(&p, x, T);
        check_product(&p, y, x, 4);
        for (size_t i = 4 * N; i < T * N; i++) assert_true(isnan(y[i]));
        rig_close(&p.r);
        lab_close(&l);
    }
}

static int open_ways(void **state)
{
    eyrie_verdict v;

    open_shared(state);
    if (!shared.device) return 0;
    assert_ok(eyrie_probe_run(shared.device, "vnni", &v, &err));
    has_vnni = v.answer == EYRIE_YES;
    if (!has_vnni) fprintf(stderr, "without VNNI: %s\n", v.reason);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_way_and_tile),
        op_test(awkward_inputs),
    };
    return cmocka_run_group_tests(tests, open_ways, close_shared);
}
