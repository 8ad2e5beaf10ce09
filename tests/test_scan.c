/* test_scan.c - the blocked linear recurrence h[t] = a[t] h[t-1] + x[t], with and without the gate, from the state
 * and to the state. */
#include "harness.h"

enum { BEFORE = 32, AFTER = 16 };       /* floats of a slot beside h that are not the scan's */

typedef struct scan {
    rig      r;
    uint32_t N;
    ey_act   a, x, y, out;
    size_t   slot_floats;
} scan;

/* What a batch of T tokens reads: [T, N] each; y NULL: there is no gate. */
typedef struct inputs {
    float *a, *x, *y;
} inputs;

static void scan_open(scan *s, uint32_t tokens, uint32_t rows, uint32_t N, bool gate)
{
    *s = (scan){ .N = N, .slot_floats = BEFORE + N + AFTER };
    rig_open(&s->r, &shared, EYRIE_FORMAT_F32, EY_PREFILL, tokens, rows);
    s->a = hold(&s->r, ey_plan_act(&s->r.plan, tokens, N));
    s->x = hold(&s->r, ey_plan_act(&s->r.plan, tokens, N));
    s->y = ey_act_slice(hold(&s->r, ey_plan_act(&s->r.plan, tokens, 16 + N + 32)), 16, N);
    const ey_layer_state *state = rig_state(&s->r, s->slot_floats);
    s->out = hold(&s->r, ey_scan(&s->r.plan, s->a, s->x, gate ? &s->y : NULL, state, BEFORE));
    rig_seal(&s->r);
}

/* The rows' results; the state of all slots goes in and comes out. */
static float *scan_run(scan *s, const row_set *set, inputs in, float *state)
{
    ey_dim   width = ey_dim_flat(s->N);
    uint32_t T = tokens_of(set);

    rig_clear(&s->r);
    put(&s->r, s->a, width, in.a, T);
    put(&s->r, s->x, width, in.x, T);
    if (in.y) put(&s->r, s->y, width, in.y, T);
    rig_run(&s->r, set->rows, set->n, state);
    return get(&s->r, s->out, width, T);
}

/* a from 0 to 1, most of them near 1, so that what a block hands on is seen for long. */
static inputs make_inputs(size_t n, bool gate)
{
    inputs in = { noise(n, 1, 1.0f), noise(n, 2, 1.0f), gate ? noise(n, 3, 3.0f) : NULL };
    for (size_t i = 0; i < n; i++) in.a[i] = 1.0f - fabsf(in.a[i] * in.a[i] * in.a[i]);
    return in;
}

static inputs from_number(inputs in, size_t i) { return (inputs){ in.a + i, in.x + i, in.y ? in.y + i : NULL }; }

static void check_scan(const row_set *set, uint32_t N, bool gate)
{
    uint32_t T = tokens_of(set);
    size_t   n = (size_t)T * N;
    float   *want = zeros(n), *magnitude = zeros(n);
    inputs   in = make_inputs(n, gate);
    scan     s;

    scan_open(&s, T + 3, set->n + 1, N, gate);
    size_t floats = SLOTS * s.slot_floats;
    float *state = untouched(floats), *after = untouched(floats), *size = untouched(floats);
    float *steps = absolute(in.x, n);
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        size_t        at = (size_t)first * N, h = row->slot * s.slot_floats + BEFORE;
        float        *before = row->position ? noise(N, 9 + i, 3.0f) : zeros(N);

        if (row->position) memcpy(state + h, before, N * sizeof *state);    /* else what the slot holds is a NaN */
        memcpy(after + h, before, N * sizeof *after);
        memcpy(size + h, absolute(before, N), N * sizeof *size);
        ref_scan(row->n, N, in.a + at, in.x + at, after + h, want + at);
        ref_scan(row->n, N, in.a + at, steps + at, size + h, magnitude + at);
    }
    /* With H the recurrence over magnitudes, each token's fma rounds by at most its H, which is at most H later.
     * Products of a over blocks round once a token as well, the first block's from the start. For gelu and its
     * product see test_geglu.c. */
    double roundings = 2.0 * T + EY_BLOCK;
    for (size_t i = 0; i < n && gate; i++) {
        want[i] *= ref_gelu(in.y[i]);
        magnitude[i] *= in.y[i];
    }
    check_near("scan", scan_run(&s, set, in, state), want, n, roundings + 12, magnitude);
    for (uint32_t i = 0; i < set->n; i++) {
        size_t h = set->rows[i].slot * s.slot_floats + BEFORE;
        check_near("state", state + h, after + h, N, roundings, size + h);
        memcpy(after + h, state + h, N * sizeof *after);
    }
    check_same("the rest of the state", state, after, floats);
    rig_close(&s.r);
}

static void every_width(void **state)
{
    static const uint32_t widths[] = { 16, 48, 64, 144 };

    (void)state;
    for (size_t i = 0; i < COUNT(widths); i++)
        for (size_t k = 0; k < COUNT(prefill_sets); k++) {
            check_scan(&prefill_sets[k], widths[i], false);
            check_scan(&prefill_sets[k], widths[i], true);
        }
}

/* Chunks that end at multiples of 64 give the bits of one. */
static void chunks_change_nothing(void **state)
{
    static const uint32_t chunks[] = { 28, 64, 128, 37 };
    const uint32_t N = 48, T = 257, start = 100;
    inputs         in = make_inputs((size_t)T * N, true);
    scan           s;

    (void)state;
    scan_open(&s, T, 1, N, true);
    float *once = noise(SLOTS * s.slot_floats, 5, 1.0f), *parts = noise(SLOTS * s.slot_floats, 5, 1.0f);
    float *want = scan_run(&s, &(row_set){ 1, { ROW(2, T, start) } }, in, once);
    for (uint32_t i = 0, at = 0; at < T; at += chunks[i++]) {
        const row_set chunk = { 1, { ROW(2, chunks[i], start + at) } };
        float        *got = scan_run(&s, &chunk, from_number(in, at * N), parts);
        check_same("chunk", got, want + at * N, (size_t)chunks[i] * N);
    }
    check_same("state", parts, once, SLOTS * s.slot_floats);
    rig_close(&s.r);
}

/* Each row alone, in a plan of its own size, gives the bits that it gives among others. */
static void neighbours_change_nothing(void **state)
{
    const row_set *set = busiest_prefill;
    const uint32_t N = 48, T = tokens_of(set);
    inputs         in = make_inputs((size_t)T * N, true);
    scan           all, one;

    (void)state;
    scan_open(&all, T, set->n, N, true);
    float *together = noise(SLOTS * all.slot_floats, 5, 1.0f), *alone = noise(SLOTS * all.slot_floats, 5, 1.0f);
    float *want = scan_run(&all, set, in, together);
    for (uint32_t i = 0, at = 0; i < set->n; at += set->rows[i++].n * N) {
        const row_set row = { 1, { set->rows[i] } };
        scan_open(&one, row.rows[0].n, 1, N, true);
        check_same("row", scan_run(&one, &row, from_number(in, at), alone), want + at, (size_t)row.rows[0].n * N);
        rig_close(&one.r);
    }
    check_same("state", alone, together, SLOTS * all.slot_floats);
    rig_close(&all.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_width),
        op_test(chunks_change_nothing),
        op_test(neighbours_change_nothing),
    };
    return run_op_tests(tests);
}
