/* test_geglu.c - gelu(gate) * up at the end of the product that makes both: against the reference of what the plain
 * product makes, with every tile and weight format, in shards too. */
#include "harness.h"

/* One paired matrix, its plain product and the gated one. */
typedef struct gated {
    rig        r;
    ey_matrix *m;
    ey_act     x, both, y;
    uint32_t   M, K;
} gated;

static void gated_open(gated *g, lab *l, const char *directory, ey_phase phase, eyrie_format format, uint32_t bucket,
                       uint32_t M, uint32_t K, float size)
{
    const tensor file[] = { { "g", { M, K }, noise((size_t)M * K, 1, size) }, { "bg", { M }, noise(M, 2, size) },
                            { "u", { M, K }, noise((size_t)M * K, 3, 1.0f) }, { "bu", { M }, noise(M, 4, 1.0f) } };

    *g = (gated){ .M = M, .K = K };
    rig_open(&g->r, l, EYRIE_FORMAT_F32, phase, bucket, phase == EY_PREFILL ? 1 : bucket);
    g->m = ey_weights_pair(rig_weights(&g->r, directory, format, file, COUNT(file)),
                           (ey_part[]){ { "g", "bg", ey_dim_flat(M) }, { "u", "bu", ey_dim_flat(M) } }, ey_dim_flat(K));
    g->x = hold(&g->r, ey_plan_act(&g->r.plan, bucket, ey_pad(K)));
    g->both = hold(&g->r, ey_matmul(&g->r.plan, g->x, g->m));
    g->y = hold(&g->r, ey_matmul_geglu(&g->r.plan, g->x, g->m, NULL));
    rig_seal(&g->r);
}

/* [T, M]; as near to the reference as it has to be. */
static float *gated_run(gated *g, const float *x, uint32_t T)
{
    ey_dim dim = ey_dim_flat(g->M);
    size_t n = (size_t)T * g->M;
    float *want = zeros(n), *magnitude = zeros(n);

    rig_clear(&g->r);
    put(&g->r, g->x, ey_dim_flat(g->K), x, T);
    rig_run_tokens(&g->r, T);
    float *gate = get_part(&g->r, g->both, dim, 0, T), *up = get_part(&g->r, g->both, dim, 1, T);
    float *y = get(&g->r, g->y, dim, T);

    for (size_t i = 0; i < n; i++) magnitude[i] = gate[i] * up[i];
    ref_geglu(T, g->M, gate, up, want);
    /* gelu is off by 6.2 roundings of its argument (test_math.c); the product adds one, and the reference. */
    check_near("geglu", y, want, n, 6.2 + 1 + 1, magnitude);
    return y;
}

static void every_tile_and_format(void **state)
{
    static const struct { uint32_t M, K; } sizes[] = { { 1, 1 }, { 16, 5 }, { 20, 37 }, { 37, 20 }, { 132, 66 } };
    static const uint32_t buckets[] = { 64, 12, 8, 4, 2, 1 }, live[] = { 53, 9, 7, 3, 2, 1 };
    static const struct { uint32_t vector; ey_phase phase; } variants[] = { { 1, EY_PREFILL }, { 16, EY_DECODE } };

    for (size_t v = 0; v < COUNT(variants); v++) {
        lab l;

        lab_open(&l, 0, variants[v].vector);
        for (size_t k = 0; k < COUNT(sizes) * COUNT(weight_formats); k++) {
            uint32_t M = sizes[k / COUNT(weight_formats)].M, K = sizes[k / COUNT(weight_formats)].K;
            float   *x = noise((size_t)live[0] * K, 5, 1.0f), *all = NULL;

            for (size_t i = 0; i < COUNT(buckets); i++) {
                gated g;

                gated_open(&g, &l, *state, variants[v].phase, weight_formats[k % COUNT(weight_formats)], buckets[i], M, K, 1.0f);
                float *y = gated_run(&g, x, live[i]);
                if (i == 0) all = y;
                check_same(g.r.plan.records[1].label, y, all, (size_t)live[i] * M);
                rig_close(&g.r);
            }
        }
        lab_close(&l);
    }
}

/* Where tanh is flat, and where its argument overflows: g or 0, never a NaN. */
static void large_gates(void **state)
{
    static const float sizes[] = { 10.0f, 1e14f };

    for (size_t i = 0; i < COUNT(sizes); i++) {
        gated g;

        gated_open(&g, &shared, *state, EY_PREFILL, EYRIE_FORMAT_F32, 3, 132, 20, sizes[i]);
        gated_run(&g, noise(3 * 20, 5, 1.0f), 3);
        rig_close(&g.r);
    }
}

/* Pairs are never torn apart. */
static void shards_change_nothing(void **state)
{
    const uint32_t M = 132, K = 37, T = 3;
    lab            small;

    lab_open(&small, 0, 0);
    for (uint32_t pairs = 1; pairs <= 3; pairs++) {
        uint64_t panels = 2 * pairs * ey_quant_panel_bytes(ey_quant_of(EYRIE_FORMAT_BF16), ey_pad(K));
        float   *x = noise((size_t)T * K, 5, 1.0f);
        gated    whole, parts;

        if (small.device) small.device->max_alloc = ey_max(panels + 1, 2 * T * ey_pad(M) * sizeof(float));
        gated_open(&whole, &shared, *state, EY_PREFILL, EYRIE_FORMAT_BF16, T, M, K, 1.0f);
        gated_open(&parts, &small, *state, EY_PREFILL, EYRIE_FORMAT_BF16, T, M, K, 1.0f);
        assert_in_range(parts.m->n_shards, 2, UINT32_MAX);
        check_same("sharded", gated_run(&parts, x, T), gated_run(&whole, x, T), (size_t)T * M);
        rig_close(&parts.r);
        rig_close(&whole.r);
    }
    lab_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_tile_and_format),
        op_test(large_gates),
        op_test(shards_change_nothing),
    };
    return run_op_tests(tests);
}
