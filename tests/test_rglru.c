/* test_rglru.c - the gated recurrence, in one pass and as a blocked scan: against the reference, with the state in
 * every slot, in chunks, beside neighbours. */
#include "harness.h"

typedef ey_act variant(ey_plan *p, ey_act gates, const ey_recurrence *r);

static variant *const variants[] = { ey_rglru_pass, ey_rglru_blocked, ey_rglru };

typedef struct recurrence {
    rig    r;
    ey_dim width;
    ey_act gates, v, y, out;
    size_t h, slot_floats;          /* h lies at float h of a slot */
} recurrence;

/* What a batch of T tokens reads, [T, N] each. */
typedef struct inputs {
    float *za, *zi, *v, *y;
} inputs;

static void recurrence_open(recurrence *c, const char *directory, variant *emit, ey_phase phase, uint32_t tokens,
                            uint32_t rows, ey_dim width, const float *p)
{
    uint32_t     N = ey_dim_count(width), padded = ey_dim_padded(width);
    const tensor file[] = { { "p", { N }, p } };

    *c = (recurrence){ .width = width, .h = 3 * padded, .slot_floats = 4 * padded + 16 };
    rig_open(&c->r, &shared, EYRIE_FORMAT_F32, phase, tokens, rows);
    ey_weights *weights = rig_weights(&c->r, directory, EYRIE_FORMAT_F32, file, 1);
    ey_buffer  *decay = ey_weights_vector(weights, "p", width, 1, EY_DECAY);
    c->gates = hold(&c->r, ey_plan_act(&c->r.plan, tokens, 2 * padded));
    ey_act uy = hold(&c->r, ey_plan_act(&c->r.plan, tokens, 2 * padded));
    c->y = ey_act_slice(uy, padded, padded);
    c->v = hold(&c->r, ey_plan_act(&c->r.plan, tokens, padded));
    c->out = hold(&c->r, emit(&c->r.plan, c->gates, &(ey_recurrence){
        .v = c->v, .y = c->y, .decay = decay, .state = rig_state(&c->r, c->slot_floats),
        .h_offset = (uint32_t)c->h }));
    rig_seal(&c->r);
}

/* The rows' results; the state of all slots goes in and comes out. */
static float *recurrence_run(recurrence *c, const row_set *set, inputs in, float *state)
{
    uint32_t T = tokens_of(set);

    rig_clear(&c->r);
    put_pair(&c->r, c->gates, c->width, in.za, in.zi, T);
    put(&c->r, c->v, c->width, in.v, T);
    put(&c->r, c->y, c->width, in.y, T);
    rig_run(&c->r, set->rows, set->n, state);
    return get(&c->r, c->out, c->width, T);
}

/* Gate pre-activations of that size. */
static inputs make_inputs(size_t n, float gates)
{
    return (inputs){ noise(n, 1, gates), noise(n, 2, gates), noise(n, 3, 2.0f), noise(n, 4, 3.0f) };
}

static inputs from_number(inputs in, size_t i) { return (inputs){ in.za + i, in.zi + i, in.v + i, in.y + i }; }

/* Channels that forget within a token, and channels that remember thousands. */
static float *make_parameters(uint32_t N)
{
    float *p = noise(N, 6, 4.0f);
    for (uint32_t i = 0; i < N; i++) p[i] -= 3.0f;
    return p;
}

/* x [N] to h of a slot, with zeros for padding. */
static void put_h(const recurrence *c, float *state, uint32_t slot, const float *x)
{
    float *to = state + slot * c->slot_floats + c->h;
    for (uint32_t i = 0; i < ey_dim_padded(c->width); i++)
        to[i] = i % ey_pad(c->width.size) < c->width.size ? *x++ : 0.0f;
}

/* How far one channel may be from the reference, in roundings: of h after the last token in *end, of h gelu(y) in
 * out. Sigmoid makes 8 and exp and expm1 2 (test_math.c). Then log_a has 10, with its product and decay's own rounding.
 * In a: 10 |a log_a| + 2 a < 12 in all. q = expm1(log_a) has 10 + 2, so -q (2 + q) at most 26, its root 13 + 6 of
 * itself, or the root of a denormal. With 9 in i v, and its product, x has 30. The fma adds one of h. All of it decays
 * as h does. The blocked scan rounds products of a, once for each token. For gelu and its product see test_geglu.c. */
static void allow(size_t T, size_t N, bool first, inputs in, float p, float h0, bool blocked, float *end, float *out)
{
    double h = fabsf(h0), off = 0.0, products = blocked ? (double)(T + EY_BLOCK) : 0.0;

    for (size_t t = 0; t < T; t++) {
        double log_a = -8.0 * ref_sigmoid(in.za[t * N]) * ref_softplus(p);
        double a = first && t == 0 ? 0.0 : exp(log_a), m = first && t == 0 ? 1.0 : sqrt(-expm1(2 * log_a));
        double x = m * ref_sigmoid(in.zi[t * N]) * fabs(in.v[t * N]), before = a > 0.0 ? h : 0.0;

        h = a * before + x;
        off = a * off + 12 * before + 30 * x + h + 0x1p-62 / ROUNDING;
        out[t * N] = (float)((off + (products + 12) * h) * fabs(in.y[t * N]));
    }
    *end = (float)(off + (products + 1) * h);
}

static void check_recurrence(const char *directory, variant *emit, ey_phase phase, const row_set *set, ey_dim width,
                             float gates)
{
    uint32_t   N = ey_dim_count(width), T = tokens_of(set), padded = ey_dim_padded(width);
    size_t     n = (size_t)T * N;
    float     *p = make_parameters(N), *want = zeros(n), *allowed = zeros(n);
    inputs     in = make_inputs(n, gates);
    recurrence c;

    recurrence_open(&c, directory, emit, phase, T + 3, set->n + 1, width, p);
    size_t floats = SLOTS * c.slot_floats;
    float *state = untouched(floats), *after = untouched(floats), *allowed_after = untouched(floats);
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        bool          reset = row->position == 0;
        size_t        at = (size_t)first * N;
        inputs        mine = from_number(in, at);
        float        *h = reset ? zeros(N) : noise(N, 7 + i, 2.0f), *ends = zeros(N);

        if (!reset) put_h(&c, state, row->slot, h);     /* else what the slot holds is a NaN */
        for (uint32_t k = 0; k < N; k++)
            allow(row->n, N, reset, from_number(mine, k), p[k], h[k], emit != ey_rglru_pass, &ends[k],
                  allowed + at + k);
        ref_rglru(row->n, N, reset, mine.za, mine.zi, mine.v, mine.y, p, h, want + at);
        put_h(&c, after, row->slot, h);
        put_h(&c, allowed_after, row->slot, ends);
    }
    check_near("rg-lru", recurrence_run(&c, set, in, state), want, n, 1, allowed);
    for (uint32_t i = 0; i < set->n; i++) {
        size_t h = set->rows[i].slot * c.slot_floats + c.h;
        check_near("state", state + h, after + h, padded, 1, allowed_after + h);
        memcpy(after + h, state + h, padded * sizeof *after);
    }
    check_same("the rest of the state", state, after, floats);
    rig_close(&c.r);
}

static void every_variant(void **state)
{
    static const ey_dim widths[] = { { 1, 5 }, { 1, 16 }, { 3, 20 }, { 1, 66 }, { 2, 66 } };

    for (size_t w = 0; w < COUNT(widths); w++) {
        for (size_t k = 0; k < COUNT(prefill_sets) * COUNT(variants); k++)
            check_recurrence(*state, variants[k % COUNT(variants)], EY_PREFILL, &prefill_sets[k / COUNT(variants)],
                             widths[w], 3.0f);
        for (size_t k = 0; k < COUNT(decode_sets); k++) {
            check_recurrence(*state, ey_rglru_pass, EY_DECODE, &decode_sets[k], widths[w], 3.0f);
            check_recurrence(*state, ey_rglru, EY_DECODE, &decode_sets[k], widths[w], 3.0f);
        }
    }
}

/* Gates that are open or shut: a is 1, or as small as p allows, exp overflows on the way, and nothing becomes a
 * NaN. */
static void extreme_gates(void **state)
{
    for (size_t i = 0; i < COUNT(variants); i++)
        check_recurrence(*state, variants[i], EY_PREFILL, &prefill_sets[3], (ey_dim){ 3, 20 }, 150.0f);
}

/* Chunks that end at multiples of 64 give the bits of one; in one pass, all chunks do. */
static void chunks_change_nothing(void **state)
{
    static const struct { variant *emit; uint32_t chunks[8]; } cases[] = {
        { ey_rglru_pass, { 28, 64, 128, 37 } }, { ey_rglru_pass, { 1, 1, 2, 63, 65, 3, 121, 1 } },
        { ey_rglru_blocked, { 28, 64, 128, 37 } },
    };
    const uint32_t N = 48, T = 257, start = 100;
    inputs         in = make_inputs((size_t)T * N, 3.0f);

    for (size_t k = 0; k < COUNT(cases); k++) {
        recurrence c;

        recurrence_open(&c, *state, cases[k].emit, EY_PREFILL, T, 1, ey_dim_flat(N), make_parameters(N));
        float *once = noise(SLOTS * c.slot_floats, 5, 1.0f), *parts = noise(SLOTS * c.slot_floats, 5, 1.0f);
        float *want = recurrence_run(&c, &(row_set){ 1, { ROW(2, T, start) } }, in, once);
        for (uint32_t i = 0, at = 0; at < T; at += cases[k].chunks[i++]) {
            const row_set chunk = { 1, { ROW(2, cases[k].chunks[i], start + at) } };
            float        *got = recurrence_run(&c, &chunk, from_number(in, at * N), parts);
            check_same("chunk", got, want + at * N, (size_t)cases[k].chunks[i] * N);
        }
        check_same("state", parts, once, SLOTS * c.slot_floats);
        rig_close(&c.r);
    }
}

/* Each row alone, in a plan of its own size, gives the bits that it gives among others. */
static void neighbours_change_nothing(void **state)
{
    const row_set *set = busiest_prefill;
    const uint32_t N = 48, T = tokens_of(set);
    inputs         in = make_inputs((size_t)T * N, 3.0f);
    float         *p = make_parameters(N);

    for (size_t k = 0; k < COUNT(variants); k++) {
        recurrence all, one;

        recurrence_open(&all, *state, variants[k], EY_PREFILL, T, set->n, ey_dim_flat(N), p);
        float *together = noise(SLOTS * all.slot_floats, 5, 1.0f), *alone = noise(SLOTS * all.slot_floats, 5, 1.0f);
        float *want = recurrence_run(&all, set, in, together);
        for (uint32_t i = 0, at = 0; i < set->n; at += set->rows[i++].n * N) {
            const row_set row = { 1, { set->rows[i] } };
            recurrence_open(&one, *state, variants[k], EY_PREFILL, row.rows[0].n, 1, ey_dim_flat(N), p);
            float *got = recurrence_run(&one, &row, from_number(in, at), alone);
            check_same("row", got, want + at, (size_t)row.rows[0].n * N);
            rig_close(&one.r);
        }
        check_same("state", alone, together, SLOTS * all.slot_floats);
        rig_close(&all.r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_variant),
        op_test(extreme_gates),
        op_test(chunks_change_nothing),
        op_test(neighbours_change_nothing),
    };
    return run_op_tests(tests);
}
