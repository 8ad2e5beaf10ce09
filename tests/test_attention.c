/* test_attention.c - attention on the ring, in both phases, with both types of keys and values: the results against
 * the reference, and the ring afterwards bit by bit. The ring is written and read here as attention.cl describes
 * it, so that what one kernel does wrong is not made good by another. */
#include "harness.h"

#include <eyrie/eyrie_tools.h>

typedef struct shape {
    uint32_t heads, kv_heads, d, window, ring_blocks;
} shape;

static const shape shapes[] = {
    { 1, 1, 4, 1, 1 }, { 2, 1, 20, 5, 1 }, { 3, 1, 64, 63, 1 }, { 4, 2, 20, 64, 2 }, { 3, 3, 16, 100, 2 },
    { 5, 1, 80, 127, 2 }, { 10, 1, 64, 128, 3 }, { 8, 2, 4, 100, 5 }, { 128, 1, 4, 5, 1 }, { 10, 2, 80, 63, 2 }, { 14, 1, 20, 100, 2 },
};

#define KEYS 1.5f       /* the largest number in a key */

static lab with_unit;        /* with a matrix unit; no program: there is none */

static const eyrie_format kv_formats[] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16 };

typedef struct attention {
    rig          r;
    shape        s;
    eyrie_format kv;
    ey_act       q, k, v, out;
    size_t       ring_floats;       /* words of a slot's ring */
} attention;

/* What a batch of T tokens reads: q [T, heads, d], k and v [T, kv_heads, d]. */
typedef struct inputs {
    float *q, *k, *v;
} inputs;

static void attention_open(attention *a, lab *l, shape s, eyrie_format kv, ey_phase phase, uint32_t tokens, uint32_t rows)
{
    uint32_t d = ey_pad(s.d), H = s.heads * d, K = s.kv_heads * d;

    *a = (attention){ .s = s, .kv = kv };
    rig_open(&a->r, l, kv, phase, tokens, rows);
    a->r.geometry = (ey_geometry){ .window = s.window, .ring_blocks = s.ring_blocks };
    ey_act all = hold(&a->r, ey_plan_act(&a->r.plan, tokens, H + 2 * K));
    a->q = ey_act_slice(all, 0, H);
    a->k = ey_act_slice(all, H, K);
    a->v = ey_act_slice(all, H + K, K);
    a->ring_floats = ey_attention_state_bytes(s.ring_blocks, s.kv_heads, d, kv) / sizeof(float);
    a->out = hold(&a->r, ey_attend(&a->r.plan, &(ey_attention){
        .q = a->q, .k = a->k, .v = a->v, .heads = s.heads, .kv_heads = s.kv_heads, .d = d,
        .scale = (float)(1 / sqrt(s.d)), .window = s.window, .ring_blocks = s.ring_blocks, .kv = kv,
        .state = rig_state(&a->r, a->ring_floats) }));
    rig_seal(&a->r);
}

/* The rows' results; the rings of all slots go in and come out. */
static float *attention_run(attention *a, const row_set *set, inputs in, void *rings)
{
    ey_dim   heads = { a->s.heads, a->s.d }, kv_heads = { a->s.kv_heads, a->s.d };
    uint32_t T = tokens_of(set);

    rig_clear(&a->r);
    put(&a->r, a->q, heads, in.q, T);
    put(&a->r, a->k, kv_heads, in.k, T);
    put(&a->r, a->v, kv_heads, in.v, T);
    rig_run(&a->r, set->rows, set->n, rings);
    return get(&a->r, a->out, heads, T);
}

/* Numbers that bf16 holds, so that the matrix unit rounds no more than the weights of the softmax. */
static float *plain_noise(size_t n, uint32_t seed, float most)
{
    float *x = noise(n, seed, most);
    ref_round_bf16(n, x);
    return x;
}

static inputs make_inputs(shape s, size_t T)
{
    size_t queries = T * s.heads * s.d, keys = T * s.kv_heads * s.d;
    return (inputs){ plain_noise(queries, 1, 2.0f), plain_noise(keys, 2, KEYS), plain_noise(keys, 3, 1.0f) };
}

static inputs from_token(shape s, inputs in, size_t t)
{
    size_t queries = t * s.heads * s.d, keys = t * s.kv_heads * s.d;
    return (inputs){ in.q + queries, in.k + keys, in.v + keys };
}

/* Element i of a ring. */
static void put_number(const attention *a, void *rings, size_t i, float x)
{
    uint16_t half = ey_f32_to_f16(x);

    if (a->kv == EYRIE_FORMAT_F32) memcpy((float *)rings + i, &x, sizeof x);
    else memcpy((uint16_t *)rings + i, &half, sizeof half);
}

/* The key and value [kv_heads, d] of a position to its place in the rings, [slot][ring block][head] units of keys
 * [d][64] and values [64][d]. */
static void put_position(const attention *a, void *rings, uint32_t slot, uint64_t position, const float *k,
                         const float *v)
{
    uint32_t K = a->s.kv_heads, d = ey_pad(a->s.d), lane = (uint32_t)(position % 64);
    size_t   block = slot * a->s.ring_blocks + (size_t)(position / 64 % a->s.ring_blocks);

    for (uint32_t h = 0; h < K; h++)
        for (uint32_t i = 0; i < d; i++) {
            size_t unit = (block * K + h) * 2 * 64 * d;
            size_t from = h * a->s.d + i;
            put_number(a, rings, unit + i * 64 + lane, i < a->s.d ? k[from] : 0.0f);
            put_number(a, rings, unit + (64 + lane) * d + i, i < a->s.d ? v[from] : 0.0f);
        }
}

/* What has to come of a row whose past the ring holds: results, how many roundings they may be off, and the rings
 * before and after. Keys and values go through the ring's type. */
static void want_row(const attention *a, const ey_row *row, inputs in, void *before, void *after, float *want,
                     float *allowed)
{
    shape    s = a->s;
    uint64_t past = ey_min(row->position, s.ring_blocks * 64u), first = row->position - past;
    size_t   width = (size_t)s.kv_heads * s.d, n = (size_t)(past + row->n) * width;
    float   *k = plain_noise(n, 4 + row->slot, KEYS), *v = plain_noise(n, 14 + row->slot, 1.0f);

    memcpy(k + past * width, in.k, row->n * width * sizeof *k);
    memcpy(v + past * width, in.v, row->n * width * sizeof *v);
    for (uint64_t i = 0; i < past + row->n; i++) {
        if (i < past) put_position(a, before, row->slot, first + i, k + i * width, v + i * width);
        put_position(a, after, row->slot, first + i, k + i * width, v + i * width);
    }
    for (size_t i = 0; i < n && a->kv == EYRIE_FORMAT_F16; i++) {
        k[i] = ey_f16_to_f32(ey_f32_to_f16(k[i]));
        v[i] = ey_f16_to_f32(ey_f32_to_f16(v[i]));
    }
    ref_attention(row->n, past, s.heads, s.kv_heads, s.d, s.window, in.q, k, v, want);
    /* A score is d fma, a product with the scale, which is rounded itself, and less the highest: of magnitude up to
     * |q| KEYS. exp makes 6 at most. Each of up to 5 blocks and the last sum shrink by another exp and product. Then there
     * are as many fma as keys. All of that twice, above and below the division, which makes 5; the reference 1.
     * Values are at most 1. The matrix unit rounds each weight to bf16, by up to 2^-9 of it; they are divided by their
     * sum as rounded, so that makes up to twice as much. */
    for (size_t i = 0; i < (size_t)row->n * s.heads * s.d; i += s.d) {
        double score = 0.0, keys = (double)ey_min(s.window, past + i / s.d / s.heads) + 1;
        for (size_t j = 0; j < s.d; j++) score += fabs(in.q[i + j]) * KEYS / sqrt(s.d);
        for (size_t j = 0; j < s.d; j++)
            allowed[i + j] = (float)(2 * ((s.d + 4) * score + 6 + 6 * (7 + 2 * score) + keys) + 6
                                     + (a->r.lab->more ? 0x1p-8 / ROUNDING : 0));
    }
}

static void check_attention(lab *l, shape s, eyrie_format kv, ey_phase phase, const row_set *set)
{
    uint32_t  T = tokens_of(set);
    size_t    width = (size_t)s.heads * s.d;
    float    *want = zeros(T * width), *allowed = zeros(T * width);
    inputs    in = make_inputs(s, T);
    attention a;

    attention_open(&a, l, s, kv, phase, T + 3, set->n + 1);
    float *rings = untouched(SLOTS * a.ring_floats), *after = untouched(SLOTS * a.ring_floats);
    for (uint32_t i = 0, at = 0; i < set->n; at += set->rows[i++].n)
        want_row(&a, &set->rows[i], from_token(s, in, at), rings, after, want + at * width, allowed + at * width);
    check_near("attention", attention_run(&a, set, in, rings), want, T * width, 1, allowed);
    check_same("ring", rings, after, SLOTS * a.ring_floats);
    rig_close(&a.r);
}

static void every_shape(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (size_t f = 0; f < COUNT(kv_formats); f++) {
            if (on_gpu() && f != i % 2) continue;       /* barriers take PoCL long */
            for (size_t k = 0; k < COUNT(prefill_sets); k++)
                if (!on_gpu() || shapes[i].heads < 100 || k < 3) check_attention(&shared, shapes[i], kv_formats[f], EY_PREFILL, &prefill_sets[k]);
            for (size_t k = 0; k < COUNT(decode_sets); k++)
                check_attention(&shared, shapes[i], kv_formats[f], EY_DECODE, &decode_sets[k]);
        }
}

/* A window of many more blocks than one work-item of decode goes through, and pasts of all lengths. */
static void many_splits(void **state)
{
    static const uint64_t positions[] = { 63, 64, 255, 256, 257, 320, 511, 512, 575, 1000, 1023, 1024, 1087 };
    const shape s = { 2, 1, 16, 1000, 16 };

    (void)state;
    for (size_t i = 0; i < COUNT(positions); i++)
        check_attention(&shared, s, EYRIE_FORMAT_F32, EY_DECODE, &(row_set){ 1, { ROW(1, 1, positions[i]) } });
}

/* Scores so far apart that only one key counts, whose block or split comes first, last, or between others. */
static void sharp_scores(void **state)
{
    static const uint64_t peaks[] = { 90, 300, 700, 1080, 1086 };
    const shape    s = { 1, 1, 16, 1000, 16 };
    const uint64_t position = 1086;

    (void)state;
    for (size_t i = 0; i < COUNT(peaks); i++)
        for (ey_phase phase = EY_PREFILL; phase < EY_PHASES; phase++) {
            float     k[2][16], q[16];      /* the keys that do not count, and the one that does */
            float    *v = integers((position + 1) * 16, 1, 100);
            attention a;

            for (uint32_t j = 0; j < 16; j++) k[0][j] = -20.0f, k[1][j] = 30.0f, q[j] = 10.0f;
            attention_open(&a, &shared, s, EYRIE_FORMAT_F16, phase, 1, 1);
            float *rings = untouched(SLOTS * a.ring_floats);
            for (uint64_t p = position - 1023; p < position; p++)
                put_position(&a, rings, 3, p, k[p == peaks[i]], v + p * 16);
            const inputs in = { q, k[position == peaks[i]], v + position * 16 };
            float *out = attention_run(&a, &(row_set){ 1, { ROW(3, 1, position) } }, in, rings);
            check_same("value", out, v + peaks[i] * 16, 16);    /* the others' weights are below exp(-1000) */
            rig_close(&a.r);
        }
}

/* Chunks that end at multiples of 64 give the bits of one, and the same ring. */
static void check_chunks(lab *l)
{
    static const uint32_t chunks[] = { 28, 64, 128, 37 };
    const uint32_t T = 257, start = 100;
    const row_set  first = { 1, { ROW(2, start, 0) } }, whole = { 1, { ROW(2, T, start) } };

    for (size_t k = 0; k < COUNT(shapes); k++) {
        if (on_gpu() && k % 3 != 1) continue;           /* with padding, with three key/value heads, with groups of 4 */
        shape     s = shapes[k];
        size_t    width = (size_t)s.heads * s.d;
        inputs    in = make_inputs(s, T), past = make_inputs(s, start);
        attention a;

        attention_open(&a, l, s, kv_formats[k % 2], EY_PREFILL, T, 1);
        float *once = untouched(SLOTS * a.ring_floats), *parts = zeros(SLOTS * a.ring_floats);
        attention_run(&a, &first, past, once);
        memcpy(parts, once, SLOTS * a.ring_floats * sizeof *once);
        float *want = attention_run(&a, &whole, in, once);
        for (uint32_t i = 0, at = 0; at < T; at += chunks[i++]) {
            const row_set chunk = { 1, { ROW(2, chunks[i], start + at) } };
            float        *got = attention_run(&a, &chunk, from_token(s, in, at), parts);
            check_same("chunk", got, want + at * width, chunks[i] * width);
        }
        check_same("ring", parts, once, SLOTS * a.ring_floats);
        rig_close(&a.r);
    }
}

/* Each row alone, in a plan of its own size, gives the bits that it gives among others. */
static void check_neighbours(lab *l)
{
    const row_set *const sets[EY_PHASES] = { [EY_PREFILL] = busiest_prefill, [EY_DECODE] = busiest_decode };
    const shape    s = { 4, 2, 32, 100, 2 };        /* without padding, which noise would fill */
    const size_t   width = 4 * 32;

    for (ey_phase phase = EY_PREFILL; phase < EY_PHASES; phase++) {
        const row_set *set = sets[phase];
        uint32_t       T = tokens_of(set);
        inputs         in = make_inputs(s, T);
        attention      all, one;

        attention_open(&all, l, s, EYRIE_FORMAT_F32, phase, T, set->n);
        float *together = noise(SLOTS * all.ring_floats, 5, 1.0f), *alone = noise(SLOTS * all.ring_floats, 5, 1.0f);
        float *want = attention_run(&all, set, in, together);
        for (uint32_t i = 0, at = 0; i < set->n; at += set->rows[i++].n) {
            const row_set row = { 1, { set->rows[i] } };
            attention_open(&one, l, s, EYRIE_FORMAT_F32, phase, row.rows[0].n, 1);
            float *got = attention_run(&one, &row, from_token(s, in, at), alone);
            check_same("row", got, want + at * width, row.rows[0].n * width);
            rig_close(&one.r);
        }
        check_same("ring", alone, together, SLOTS * all.ring_floats);
        rig_close(&all.r);
    }
}

static void chunks_change_nothing(void **state)
{
    (void)state;
    check_chunks(&shared);
}

static void neighbours_change_nothing(void **state)
{
    (void)state;
    check_neighbours(&shared);
}

static void on_the_matrix_unit(void **state)
{
    (void)state;
    if (!with_unit.more) skip();
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (size_t k = 0; k < COUNT(prefill_sets); k++)
            check_attention(&with_unit, shapes[i], kv_formats[(i + k) % 2], EY_PREFILL, &prefill_sets[k]);
    check_chunks(&with_unit);
    check_neighbours(&with_unit);
}

static int open_labs(void **state)
{
    open_shared(state);
    lab_open(&with_unit, 0, 0);
    lab_add_unit(&with_unit);
    return 0;
}

static int close_labs(void **state)
{
    lab_close(&with_unit);
    return close_shared(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_shape),
        op_test(many_splits),
        op_test(sharp_scores),
        op_test(chunks_change_nothing),
        op_test(neighbours_change_nothing),
        op_test(on_the_matrix_unit),
    };
    return cmocka_run_group_tests(tests, open_labs, close_labs);
}
