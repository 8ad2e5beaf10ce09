/* test_geglu.c - gelu(gate) * up, gate and up side by side in one activation. */
#include "harness.h"

/* Gates of that size. In gelu = 0.5 g (1 + tanh(z)) tanh makes 10, of a number up to 1, which 0.5 halves; z has
 * about 5 of its own, of which tanh passes 2 on (z (1 - tanh^2(z)) < 0.45); the sum and two products add 3, the
 * reference 1. */
static void check_geglu(float size, uint32_t M, uint32_t T)
{
    size_t n = (size_t)T * M;
    float *gate = noise(n, M, size), *up = noise(n, M + 1, 2.0f), *want = zeros(n), *magnitude = zeros(n);
    rig    r;

    for (size_t i = 0; i < n; i++) magnitude[i] = gate[i] * up[i];
    ref_geglu(T, M, gate, up, want);
    rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, T + 2, 1);
    ey_act both = hold(&r, ey_plan_act(&r.plan, T + 2, 16 + 2 * ey_pad(M)));
    ey_act left = ey_act_slice(both, 16, ey_pad(M)), right = ey_act_slice(both, 16 + ey_pad(M), ey_pad(M));
    ey_act out = hold(&r, ey_geglu(&r.plan, left, right));
    rig_seal(&r);
    put(&r, left, ey_dim_flat(M), gate, T);
    put(&r, right, ey_dim_flat(M), up, T);
    rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
    check_near("geglu", get(&r, out, ey_dim_flat(M), T), want, n, 5 + 2 + 3 + 1, magnitude);
    rig_close(&r);
}

static void every_size(void **state)
{
    static const uint32_t widths[] = { 1, 5, 16, 20, 37, 132, 1023, 1024, 1025, 2100 }, tokens[] = { 1, 2, 17, 65 };

    (void)state;
    for (size_t m = 0; m < COUNT(widths); m++)
        for (size_t t = 0; t < COUNT(tokens); t++) check_geglu(4.0f, widths[m], tokens[t]);
}

/* Where tanh is flat, and where its argument overflows: g or 0, never a NaN. */
static void large_gates(void **state)
{
    (void)state;
    check_geglu(30.0f, 132, 3);
    check_geglu(1e15f, 132, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_size),
        op_test(large_gates),
    };
    return run_op_tests(tests);
}
