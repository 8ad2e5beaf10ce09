/* bench_attention.c - local attention on its ring, with the window full: decode (write, attend in splits, combine) and
 * prefill (stage, attend, store), with keys and values as f32 and as f16.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_attention             everything: a minute or two
 *     POCL_AFFINITY=1 build-bench/bench_attention -f f16      one type of keys and values
 *
 * Bytes are those of queries, new keys and values, the ones seen (each once a sequence), and the result; FLOPs those of
 * the two products. How to read the table: bench/RESULTS.md. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct shape {
    const char *model;
    uint32_t    heads, kv_heads, d, window, layers;
} shape;

static const shape shapes[] = {
    { "recurrentgemma-2b", 10, 1, 256, 2048, 8 },
    { "mqa-100m",           6, 1, 128, 4095, 12 },
    { "shakespeare",        3, 1,  64,  128, 2 },
};

static const eyrie_format kv_formats[] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16 };

/* One size of step on one shape. Letters as in op.h: H query heads, K key/value heads. */
typedef struct setting {
    const shape *shape;
    eyrie_format kv;
    uint32_t     T, rows, ring_blocks, stride;      /* stride: columns of q, k and v together */
    uint64_t     position, slot_elements;
    float       *qkv, *ring, *out;                  /* [T, stride], [rows][slot_elements], [T, H d] */
    void        *bits;                              /* the ring in the type of keys and values */
    float       *keys, *values, *expected;          /* of one query: [W + 1, K d] twice, [H d] */
} setting;

static float rounded(const setting *s, float x)
{
    return s->kv == EYRIE_FORMAT_F32 ? x : ey_f16_to_f32(ey_f32_to_f16(x));
}

static uint64_t ring_bytes(const setting *s) { return s->rows * s->slot_elements * (s->kv == EYRIE_FORMAT_F32 ? 4 : 2); }

/* All sizes, and random inputs. Freed by setting_free, also after a failure. */
static eyrie_status setting_make(setting *s, const shape *of, eyrie_format kv, bench_bucket size, eyrie_error *err)
{
    uint32_t W = of->window, columns = of->kv_heads * of->d;

    *s = (setting){ .shape = of, .kv = kv, .T = size.tokens, .rows = size.phase == EY_DECODE ? size.tokens : 1,
                    .ring_blocks = (W + 1 + EY_BLOCK - 1) / EY_BLOCK, .stride = of->heads * of->d + 2 * columns };
    /* Far enough into the text that the window is full. A decode step is anywhere in its block. */
    s->position = ey_round_up(3 * (uint64_t)W, EY_BLOCK) + (size.phase == EY_DECODE ? 37 : 0);
    s->slot_elements = (uint64_t)s->ring_blocks * 2 * EY_BLOCK * columns;
    size_t ring = s->rows * s->slot_elements;
    s->qkv = ey_calloc((size_t)s->T * s->stride, sizeof *s->qkv);
    s->out = ey_calloc((size_t)s->T * of->heads * of->d, sizeof *s->out);
    s->ring = ey_calloc(ring, sizeof *s->ring);
    s->bits = ey_calloc(1, ring_bytes(s));
    s->keys = ey_calloc((size_t)(W + 1) * columns, sizeof *s->keys);
    s->values = ey_calloc((size_t)(W + 1) * columns, sizeof *s->values);
    s->expected = ey_calloc((size_t)of->heads * of->d, sizeof *s->expected);
    if (!s->qkv || !s->out || !s->ring || !s->bits || !s->keys || !s->values || !s->expected)
        return ey_fail(err, EYRIE_ENOMEM, "attention of %u tokens", (unsigned)s->T);

    bench_random(s->qkv, (size_t)s->T * s->stride, 2.0f, 9);    /* scores of several units, so that some keys matter */
    bench_random(s->ring, ring, 2.0f, 10);
    for (size_t i = 0; i < ring; i++) s->ring[i] = rounded(s, s->ring[i]);
    if (kv == EYRIE_FORMAT_F32) memcpy(s->bits, s->ring, ring_bytes(s));
    else for (size_t i = 0; i < ring; i++) ((uint16_t *)s->bits)[i] = ey_f32_to_f16(s->ring[i]);
    return EYRIE_OK;
}

static void setting_free(setting *s)
{
    ey_free(s->qkv);
    ey_free(s->out);
    ey_free(s->ring);
    ey_free(s->bits);
    ey_free(s->keys);
    ey_free(s->values);
    ey_free(s->expected);
}

/* The key and value at a position, all key/value heads: from the batch, or from what was in the row's ring before. */
static void find_pair(const setting *s, uint32_t row, uint64_t position, float *key, float *value)
{
    uint32_t d = s->shape->d, K = s->shape->kv_heads;

    for (uint32_t i = 0; i < K * d; i++) {
        if (position >= s->position) {
            const float *token = s->qkv + (row * (s->T / s->rows) + position - s->position) * s->stride;
            key[i] = rounded(s, token[s->shape->heads * d + i]);
            value[i] = rounded(s, token[(s->shape->heads + K) * d + i]);
            continue;
        }
        uint64_t block = position / EY_BLOCK % s->ring_blocks, lane = position % EY_BLOCK, column = i % d;
        const float *unit = s->ring + row * s->slot_elements + (block * K + i / d) * 2 * EY_BLOCK * d;
        key[i] = unit[column * EY_BLOCK + lane];
        value[i] = unit[(EY_BLOCK + lane) * d + column];
    }
}

/* The first and the last token of the batch. */
static eyrie_status check(const bench_case *c, const setting *s, eyrie_error *err)
{
    uint32_t H = s->shape->heads, K = s->shape->kv_heads, d = s->shape->d, W = s->shape->window, T = s->T / s->rows;
    bench_check found = { 0 };

    for (uint32_t i = 0; i < 2; i++) {
        uint32_t t = i ? s->T - 1 : 0, row = t / T;
        uint64_t oldest = s->position + t % T - W;
        for (uint32_t k = 0; k <= W; k++)
            find_pair(s, row, oldest + k, s->keys + (size_t)k * K * d, s->values + (size_t)k * K * d);
        ref_attention(1, W, H, K, d, W, s->qkv + (size_t)t * s->stride, s->keys, s->values, s->expected);
        bench_compare(&found, s->out + (size_t)t * H * d, s->expected, (size_t)H * d);
    }
    return bench_verdict(c, &found, err);
}

static ey_cost work_of(const setting *s)
{
    const shape *of = s->shape;
    uint64_t H = of->heads, K = of->kv_heads, d = of->d, T = s->T, size = s->kv == EYRIE_FORMAT_F32 ? 4 : 2;
    uint64_t seen = s->rows * (of->window + T / s->rows);                        /* keys and values, the new ones too */
    return (ey_cost){ 2 * K * d * size * (seen + T) + 4 * T * (s->stride + H * d), 4 * T * H * (of->window + 1) * d };
}

static eyrie_status bucket(bench *b, const shape *of, eyrie_format kv, bench_bucket size, eyrie_error *err)
{
    uint32_t H = of->heads, K = of->kv_heads, d = of->d;
    char what[64];
    bench_case c = { .model = of->model, .what = what, .format = ey_quant_of(kv)->name, .copies = of->layers };
    setting s;
    ey_state state = { 0 };
    ey_act qkv, out = { 0 };
    eyrie_status st;

    snprintf(what, sizeof what, "%u heads, %u of keys, x %u, window %u", (unsigned)H, (unsigned)K, (unsigned)d,
             (unsigned)of->window);
    EY_TRY(setting_make(&s, of, kv, size, err));
    EY_TRY(bench_state(b, &state, s.rows, ring_bytes(&s) / s.rows, of->layers, s.bits, err));
    c.work = work_of(&s);

    c.unit = size.phase == EY_PREFILL && ey_program_has_unit(b->program, EYRIE_FORMAT_BF16);
    if (c.unit) c.tolerance = 2e-2;     /* queries, keys, values and weights are rounded to bf16, and scores are several units */
    EY_TRY(bench_begin(b, &c, size, err));
    qkv = ey_plan_act(&c.plan, s.T, s.stride);
    ey_plan_keep(&c.plan, qkv);
    for (uint32_t i = 0; i < of->layers; i++) {
        c.plan.layer = i;
        out = ey_attend(&c.plan, &(ey_attention){
            .q = ey_act_slice(qkv, 0, H * d), .k = ey_act_slice(qkv, H * d, K * d),
            .v = ey_act_slice(qkv, (H + K) * d, K * d), .heads = H, .kv_heads = K, .d = d,
            .scale = (float)(1.0 / sqrt(d)), .window = of->window, .ring_blocks = s.ring_blocks, .kv = kv,
            .state = &state.layers[i] });
    }
    ey_plan_keep(&c.plan, out);
    EY_TRY(bench_ready(b, &c, &(ey_geometry){ .window = of->window, .ring_blocks = s.ring_blocks }, s.position, err));
    EY_TRY(bench_put(b, &c, qkv, s.qkv, err));
    EY_TRY(bench_run(b, &c, err));
    EY_TRY(bench_get(b, &c, out, s.out, err));
    EY_TRY(check(&c, &s, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    ey_state_free(&state);
    setting_free(&s);
    return st;
}

static eyrie_status attentions(bench *b, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (size_t f = 0; f < sizeof kv_formats / sizeof *kv_formats; f++) {
        EY_TRY(bench_build(b, kv_formats[f], false, err));
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (uint32_t k = 0; k < BENCH_BUCKETS; k++)
                if (bench_wants(b, shapes[i].model, "attention", kv_formats[f]))
                    EY_TRY(bucket(b, &shapes[i], kv_formats[f], bench_buckets[k], err));
    }
done:
    return st;
}

int main(int argc, char **argv) { return bench_main(argc, argv, "attention", attentions); }
