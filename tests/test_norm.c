/* test_norm.c - RMS norm, of all tokens and of those whose logits are wanted. */
#include "harness.h"

/* The sum of squares is D/16 fma, then four additions; the division by D makes 5, adding eps 1. The root halves
 * what came before and makes 6, its inverse 5; then there are two products, 1 + w, and the reference's own
 * rounding. */
static double roundings(uint32_t D) { return (ey_pad(D) / 16.0 + 4 + 5 + 1) / 2 + 6 + 5 + 2 + 1 + 1; }

/* Norms numbers of that size; the result must be the norms of the n tokens `which`. */
static void check_norm(const char *directory, uint32_t D, float eps, float size, const ey_row *rows, uint32_t n_rows,
                       bool wanted, const uint32_t *which, uint32_t n)
{
    uint32_t     T = ey_batch_tokens(&(ey_batch){ .n_rows = n_rows, .rows = rows }), bucket = T + 3;
    float       *w = noise(D, 1, 1.0f), *x = noise((size_t)T * D, 2, size);
    float       *picked = zeros((size_t)n * D), *want = zeros((size_t)n * D);
    const tensor file[] = { { "w", { D }, w } };
    rig          r;

    rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, bucket, n_rows);
    ey_weights *weights = rig_weights(&r, directory, EYRIE_FORMAT_F32, file, 1);
    ey_buffer  *scale = ey_weights_vector(weights, "w", ey_dim_flat(D), 1, EY_ONE_PLUS);
    ey_act in = hold(&r, ey_plan_act(&r.plan, bucket, ey_pad(D)));
    ey_act y = hold(&r, ey_normalise(&r.plan, ey_norm(in, scale, D, eps), wanted));
    rig_seal(&r);
    put(&r, in, ey_dim_flat(D), x, T);
    rig_run(&r, rows, n_rows, NULL);
    for (uint32_t i = 0; i < n; i++) memcpy(picked + (size_t)i * D, x + (size_t)which[i] * D, D * sizeof *x);
    ref_norm(n, D, picked, w, eps, want);
    check_near("norm", get(&r, y, ey_dim_flat(D), n), want, (size_t)n * D, roundings(D), want);
    rig_close(&r);
}

static void every_width(void **state)
{
    static const uint32_t widths[] = { 1, 5, 16, 20, 37, 60, 66, 96, 132, 2560 }, tokens[] = { 1, 2, 17, 65 };
    uint32_t all[65];

    for (uint32_t i = 0; i < COUNT(all); i++) all[i] = i;
    for (size_t d = 0; d < COUNT(widths); d++)
        for (size_t i = 0; i < COUNT(tokens); i++)
            check_norm(*state, widths[d], 1e-6f, 3.0f, &(ey_row){ .n = tokens[i] }, 1, false, all, tokens[i]);
}

/* Where the mean square is far below eps, about it, and far above. */
static void eps_counts(void **state)
{
    static const float sizes[] = { 1e-9f, 1e-3f, 1e6f };

    for (size_t i = 0; i < COUNT(sizes); i++)
        check_norm(*state, 37, 1e-6f, sizes[i], &(ey_row){ .n = 1 }, 1, false, (uint32_t[]){ 0 }, 1);
}

static void wanted_tokens_are_compacted(void **state)
{
    const ey_row rows[] = { { .n = 3, .want = EY_WANT_LAST }, { .slot = 2, .n = 5 },
                            { .slot = 1, .n = 4, .want = EY_WANT_ALL }, { .slot = 3, .n = 1, .want = EY_WANT_LAST } };

    check_norm(*state, 20, 1e-6f, 1.0f, rows, 4, true, (uint32_t[]){ 2, 8, 9, 10, 11, 12 }, 6);
    check_norm(*state, 20, 1e-6f, 1.0f, rows + 1, 1, true, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_width),
        op_test(eps_counts),
        op_test(wanted_tokens_are_compacted),
    };
    return run_op_tests(tests);
}
