/* test_rope.c - rotary embedding of some heads of an activation, in part or whole, at any position. */
#include "harness.h"

static void check_rope(ey_phase phase, const row_set *set, ey_dim dim, uint32_t rotary)
{
    const double theta = 10000.0;
    uint32_t     T = tokens_of(set), width = ey_dim_count(dim);
    size_t       n = (size_t)T * width;
    float       *x = noise(n, width, 2.0f), *want = zeros(n), *magnitude = zeros(n), *beside = noise(16 * T, 1, 1.0f);
    rig          r;

    memcpy(want, x, n * sizeof *x);
    for (uint32_t i = 0, at = 0; i < set->n; at += set->rows[i++].n * width)
        ref_rope(set->rows[i].n, dim.groups, dim.size, rotary, theta, set->rows[i].position, want + at);
    for (size_t i = 0; i < n; i++)          /* of both of a pair; what is not rotated has to stay as it is */
        if (i % dim.size < rotary)
            magnitude[i] = fabsf(x[i]) + fabsf(i % dim.size < rotary / 2 ? x[i + rotary / 2] : x[i - rotary / 2]);

    rig_open(&r, &shared, EYRIE_FORMAT_F32, phase, T + 1, set->n);
    r.geometry = (ey_geometry){ .rotary = rotary, .rope_theta = theta };
    ey_act all = hold(&r, ey_plan_act(&r.plan, T + 1, 16 + ey_dim_padded(dim) + 16));
    ey_act heads = ey_act_slice(all, 16, ey_dim_padded(dim));
    ey_act before = ey_act_slice(all, 0, 16), after = ey_act_slice(all, 16 + ey_dim_padded(dim), 16);
    ey_rope(&r.plan, heads, dim.groups, ey_pad(dim.size), rotary);
    rig_seal(&r);
    put(&r, heads, dim, x, T);
    put(&r, before, ey_dim_flat(16), beside, T);
    put(&r, after, ey_dim_flat(16), beside, T);
    rig_run(&r, set->rows, set->n, NULL);
    /* The cosine's rounding, the product's, the sum's, and the reference's. */
    check_near("rope", get(&r, heads, dim, T), want, n, 4, magnitude);
    check_same("before", get(&r, before, ey_dim_flat(16), T), beside, 16 * T);
    check_same("after", get(&r, after, ey_dim_flat(16), T), beside, 16 * T);
    rig_close(&r);
}

static void every_shape_and_position(void **state)
{
    static const struct { ey_dim dim; uint32_t rotary; } shapes[] = {
        { { 1, 4 }, 4 }, { { 3, 20 }, 10 }, { { 2, 20 }, 20 }, { { 11, 64 }, 32 }, { { 2, 80 }, 40 },
        { { 1, 80 }, 80 }, { { 5, 64 }, 2 }, { { 1, 256 }, 128 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (size_t s = 0; s < COUNT(prefill_sets); s++)
            check_rope(EY_PREFILL, &prefill_sets[s], shapes[i].dim, shapes[i].rotary);
        for (size_t s = 0; s < COUNT(decode_sets); s++)
            check_rope(EY_DECODE, &decode_sets[s], shapes[i].dim, shapes[i].rotary);
    }
}

static void nothing_to_rotate(void **state)
{
    rig r;

    (void)state;
    rig_open(&r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, 1, 1);
    ey_rope(&r.plan, ey_plan_act(&r.plan, 1, 16), 1, 16, 0);
    assert_int_equal(r.plan.n, 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_shape_and_position),
        op_test(nothing_to_rotate),
    };
    return run_op_tests(tests);
}
