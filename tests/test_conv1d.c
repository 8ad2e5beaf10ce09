/* test_conv1d.c - the causal convolution and the inputs it carries in the state, beside which h lies. */
#include "harness.h"

typedef struct conv {
    rig      r;
    ey_dim   width;
    uint32_t taps;
    ey_act   u, v;
    float   *w, *bias;
    size_t   slot_floats;
} conv;

/* u is columns in the middle of an activation. */
static void conv_open(conv *c, const char *directory, ey_phase phase, uint32_t tokens, uint32_t rows, ey_dim width,
                      uint32_t taps)
{
    uint32_t N = ey_dim_count(width), padded = ey_dim_padded(width);

    *c = (conv){ .width = width, .taps = taps, .w = noise((size_t)N * taps, 1, 1.0f), .bias = noise(N, 2, 1.0f),
                 .slot_floats = (size_t)taps * padded };
    const tensor file[] = { { "w", { N, 1, taps }, c->w }, { "b", { N }, c->bias } };
    rig_open(&c->r, &shared, EYRIE_FORMAT_F32, phase, tokens, rows);
    ey_weights *weights = rig_weights(&c->r, directory, EYRIE_FORMAT_F32, file, 2);
    ey_buffer  *w = ey_weights_vector(weights, "w", width, taps, EY_TRANSPOSE);
    ey_buffer  *bias = ey_weights_vector(weights, "b", width, 1, EY_PLAIN);
    c->u = ey_act_slice(hold(&c->r, ey_plan_act(&c->r.plan, tokens, 32 + padded + 16)), 32, padded);
    c->v = hold(&c->r, ey_conv1d(&c->r.plan, c->u, &(ey_conv){ w, bias, taps, rig_state(&c->r, c->slot_floats) }));
    rig_seal(&c->r);
}

/* v of the rows' tokens, whose inputs are u; the state of all slots goes in and comes out. */
static float *conv_run(conv *c, const row_set *set, const float *u, float *state)
{
    rig_clear(&c->r);
    put(&c->r, c->u, c->width, u, tokens_of(set));
    rig_run(&c->r, set->rows, set->n, state);
    return get(&c->r, c->v, c->width, tokens_of(set));
}

/* carry [taps - 1, N] to its padded place in a slot. */
static void put_carry(const conv *c, float *state, uint32_t slot, const float *carry)
{
    float *to = state + slot * c->slot_floats;

    for (uint32_t i = 0; i < (c->taps - 1) * ey_dim_padded(c->width); i++)
        to[i] = i % ey_pad(c->width.size) < c->width.size ? *carry++ : 0.0f;
}

static void check_conv(const char *directory, ey_phase phase, const row_set *set, ey_dim width, uint32_t taps)
{
    uint32_t N = ey_dim_count(width), T = tokens_of(set);
    size_t   n = (size_t)T * N, carried = (size_t)(taps - 1) * N;
    float   *u = noise(n, 3, 1.0f), *want = zeros(n), *magnitude = zeros(n);
    conv     c;

    conv_open(&c, directory, phase, T + 3, set->n + 1, width, taps);
    float *state = untouched(SLOTS * c.slot_floats), *after = untouched(SLOTS * c.slot_floats);
    float *w = absolute(c.w, (size_t)N * taps), *bias = absolute(c.bias, N), *inputs = absolute(u, n);
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        float        *carry = row->position ? noise(carried, 4 + i, 1.0f) : zeros(carried);
        float        *size = absolute(carry, carried);
        size_t        at = (size_t)first * N;

        if (row->position) put_carry(&c, state, row->slot, carry);      /* else what the slot holds is a NaN */
        ref_conv1d(row->n, N, taps, u + at, c.w, c.bias, carry, want + at);
        ref_conv1d(row->n, N, taps, inputs + at, w, bias, size, magnitude + at);
        put_carry(&c, after, row->slot, carry);
    }
    /* Each tap's fma rounds a sum that is at most the sum of magnitudes; the reference rounds once. */
    check_near("convolution", conv_run(&c, set, u, state), want, n, taps + 1, magnitude);
    check_same("state", state, after, SLOTS * c.slot_floats);
    rig_close(&c.r);
}

static void every_shape(void **state)
{
    static const struct { ey_dim width; uint32_t taps; } shapes[] = {
        { { 1, 1 }, 4 }, { { 1, 5 }, 4 }, { { 1, 16 }, 2 }, { { 3, 20 }, 4 }, { { 1, 66 }, 4 }, { { 2, 66 }, 7 },
        { { 1, 132 }, 1 },
    };

    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (size_t s = 0; s < COUNT(prefill_sets); s++)
            check_conv(*state, EY_PREFILL, &prefill_sets[s], shapes[i].width, shapes[i].taps);
        for (size_t s = 0; s < COUNT(decode_sets); s++)
            check_conv(*state, EY_DECODE, &decode_sets[s], shapes[i].width, shapes[i].taps);
    }
}

/* Any chunks give the bits of one. */
static void chunks_change_nothing(void **state)
{
    static const uint32_t chunks[] = { 1, 2, 64, 3, 60, 1, 1, 125 };
    const ey_dim   width = { 3, 20 };
    const uint32_t N = 60, T = 257;
    float         *u = noise((size_t)T * N, 3, 1.0f);
    conv           c;

    conv_open(&c, *state, EY_PREFILL, T, 1, width, 4);
    float *once = untouched(SLOTS * c.slot_floats), *parts = untouched(SLOTS * c.slot_floats);
    float *want = conv_run(&c, &(row_set){ 1, { ROW(2, T, 0) } }, u, once);
    for (uint32_t i = 0, at = 0; at < T; at += chunks[i++]) {
        const row_set chunk = { 1, { ROW(2, chunks[i], at) } };
        check_same("chunk", conv_run(&c, &chunk, u + at * N, parts), want + at * N, (size_t)chunks[i] * N);
    }
    check_same("state", parts, once, SLOTS * c.slot_floats);
    rig_close(&c.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_shape),
        op_test(chunks_change_nothing),
    };
    return run_op_tests(tests);
}
