/* test_clblast.c - products by CLBlast, which are asked for by option alone: against the reference over awkward shapes, in
 * both classes of kernels. CLBlast is code by others and owes ours nothing, so that it
 * agrees says as much of ours. Skipped where the library was built without it. */
#include "harness.h"
#include "ops/clblast.h"

static const struct { uint32_t N, K, bucket, live[2]; } shapes[] = {
    { 1, 1, 64, { 64, 1 } }, { 20, 37, 64, { 33, 63 } }, { 132, 96, 130, { 130, 65 } }, { 66, 176, 256, { 200, 17 } },
};

static void skip_without(void)
{
    if (!ey_clblast_exists()) skip();
    shared.more = EY_CLBLAST;
}

/* Any order of sums: each of K products is rounded, and each sum, which is at most that of the magnitudes; so is the bias,
 * what was there before, and the reference. */
static void check(const char *what, const float *y, uint32_t T, uint32_t N, uint32_t K, const float *x, const float *W,
                  const float *bias, const float *y0)
{
    size_t n = (size_t)T * N;
    float *want = zeros(n), *magnitude = zeros(n);

    ref_matmul(T, N, K, x, W, bias, want);
    ref_matmul(T, N, K, absolute(x, (size_t)T * K), absolute(W, (size_t)N * K), absolute(bias, N), magnitude);
    for (size_t i = 0; i < n; i++) {
        want[i] += y0[i];
        magnitude[i] += fabsf(y0[i]);
    }
    check_near(what, y, want, n, 2.0 * K + 3, magnitude);
}

/* The product, and the sum with what is there, between columns that stay as they are. */
static void products_and_sums(void **state)
{
    skip_without();
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (size_t f = 0; f < COUNT(weight_formats); f++) {
            uint32_t     N = shapes[i].N, K = shapes[i].K, most = shapes[i].bucket, wide = ey_pad(N) + 32;
            float       *W = noise((size_t)N * K, 1, 1.0f), *bias = noise(N, 2, 1.0f), *x = noise((size_t)most * K, 3, 1.0f);
            float       *y0 = noise((size_t)most * N, 4, 1.0f), *beside = noise((size_t)most * 16, 5, 1.0f);
            const tensor file[] = { { "w", { N, K }, W }, { "b", { N }, bias } };
            rig          r;

            rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
            ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, weight_formats[f], file, 2),
                                             &(ey_part){ "w", "b", ey_dim_flat(N) }, 1, ey_dim_flat(K));
            ey_act all = hold(&r, ey_plan_act(&r.plan, most, wide)), in = hold(&r, ey_plan_act(&r.plan, most, 16 + ey_pad(K)));
            ey_act to = ey_act_slice(all, 16, ey_pad(N)), after = ey_act_slice(all, wide - 16, 16);
            in = ey_act_slice(in, 16, ey_pad(K));
            ey_act y = hold(&r, ey_matmul(&r.plan, in, m));
            ey_matmul_add(&r.plan, in, m, to);
            rig_seal(&r);
            W = rounded(weight_formats[f], W, N, 1, K);
            for (size_t k = 0; k < 2; k++) {
                uint32_t T = shapes[i].live[k];
                rig_clear(&r);
                put(&r, in, ey_dim_flat(K), x, T);
                put(&r, to, ey_dim_flat(N), y0, T);
                put(&r, after, ey_dim_flat(16), beside, T);
                rig_run_tokens(&r, T);
                check("product", get(&r, y, ey_dim_flat(N), T), T, N, K, x, W, bias, zeros((size_t)T * N));
                check("sum", get(&r, to, ey_dim_flat(N), T), T, N, K, x, W, bias, y0);
                check_same("beside", get(&r, after, ey_dim_flat(16), T), beside, (size_t)T * 16);
            }
            rig_close(&r);
        }
}

/* A norm before and the gate behind, of a matrix in several allocations, of which none holds all of it unpacked. */
static void norm_and_gate(void **state)
{
    const uint32_t D = 96, M = 132, T = 70, most = 80;
    const size_t   n = (size_t)T * M;
    float         *x = noise((size_t)T * D, 1, 2.0f), *want = zeros(n), *magnitude = zeros(n);
    const tensor   file[] = { { "n", { D }, noise(D, 2, 0.5f) }, { "g", { M, D }, noise((size_t)M * D, 3, 0.3f) },
                              { "u", { M, D }, noise((size_t)M * D, 4, 0.3f) } };
    lab            small;
    rig            r;

    skip_without();
    lab_open(&small, 100 << 10, 0);
    small.more = EY_CLBLAST;
    rig_open(&r, &small, EYRIE_FORMAT_F32, EY_PREFILL, most, 1);
    ey_weights *w = rig_weights(&r, *state, EYRIE_FORMAT_F32, file, COUNT(file));
    ey_buffer  *scale = ey_weights_vector(w, "n", ey_dim_flat(D), 1, EY_ONE_PLUS);
    ey_matrix  *m = ey_weights_pair(w, (ey_part[]){ { "g", NULL, ey_dim_flat(M) }, { "u", NULL, ey_dim_flat(M) } }, ey_dim_flat(D));
    ey_act in = hold(&r, ey_plan_act(&r.plan, most, D)), normed = ey_norm(in, scale, D, 1e-6f);
    ey_act y = hold(&r, ey_matmul_geglu(&r.plan, normed, m, NULL));
    ey_act both = hold(&r, ey_matmul(&r.plan, normed, m));
    assert_true(m->n_shards > 1);
    rig_seal(&r);
    put(&r, in, ey_dim_flat(D), x, T);
    rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
    float *gate = get_part(&r, both, ey_dim_flat(M), 0, T), *up = get_part(&r, both, ey_dim_flat(M), 1, T);
    ref_geglu(T, M, gate, up, want);
    for (size_t k = 0; k < n; k++) magnitude[k] = gate[k] * up[k];
    check_near("gated", get(&r, y, ey_dim_flat(M), T), want, n, 6.2 + 1 + 1, magnitude);    /* as in test_geglu.c */

    float *normal = zeros((size_t)T * D), *sums = zeros(n), *bias = zeros(M);
    ref_norm(T, D, x, file[0].x, 1e-6f, normal);
    ref_matmul(T, M, D, normal, file[1].x, bias, sums);
    ref_matmul(T, M, D, absolute(normal, (size_t)T * D), absolute(file[1].x, (size_t)M * D), bias, magnitude);
    check_near("normed", gate, sums, n, 3.0 * D + 11, magnitude);    /* D + 8: the norm's own */
    rig_close(&r);
    lab_close(&small);
}

/* Gates in blocks, few rows and decode stay with our own kernels. */
static void what_it_does_not_take(void **state)
{
    static const struct { ey_phase phase; uint32_t tokens; size_t records; } cases[] = {
        { EY_PREFILL, 64, 3 }, { EY_PREFILL, 63, 1 }, { EY_DECODE, 64, 1 } };
    float        *W = noise(20 * 16, 1, 1.0f);
    const tensor  file[] = { { "w", { 20, 16 }, W } };

    skip_without();
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig r;

        rig_open(&r, &shared, EYRIE_FORMAT_F32, cases[i].phase, cases[i].tokens, 1);
        ey_matrix *m = ey_weights_matrix(rig_weights(&r, *state, EYRIE_FORMAT_F32, file, 1),
                                         &(ey_part){ "w", NULL, ey_dim_flat(20) }, 1, ey_dim_flat(16));
        (void)hold(&r, ey_matmul(&r.plan, hold(&r, ey_plan_act(&r.plan, cases[i].tokens, 16)), m));
        assert_int_equal(r.plan.n, cases[i].records);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(products_and_sums),
        op_test(norm_and_gate),
        op_test(what_it_does_not_take),
    };
    return run_op_tests(tests);
}
