/* attention.c - checks of the rotary embedding, and of attention with its rings of keys and values. */
#include "checks.h"
#include "ref/ref.h"

#include <math.h>
#include <string.h>

void ey_check_rope(ey_rig *r, const ey_job *j)
{
    enum { H = 3, D = 32, ROTARY = 16 };
    const ey_row_set *set = &ey_row_sets[j->phase];
    const size_t T = set->tokens, n = T * H * D;
    float *x = ey_noise(r, n, 1, 2.0f), *want = ey_numbers(r, n), *at = want;
    float *magnitude = ey_numbers(r, n), *got = ey_numbers(r, n);

    memcpy(want, x, n * sizeof *x);
    for (uint32_t i = 0; i < set->n; at += set->rows[i++].n * H * D)
        ref_rope(set->rows[i].n, H, D, ROTARY, 10000.0, set->rows[i].position, at);
    for (size_t i = 0; i < n; i++) {            /* of both of a pair; what is not rotated stays as it is */
        if (i % D >= ROTARY) continue;
        magnitude[i] = fabsf(x[i]) + fabsf(i % D < ROTARY / 2 ? x[i + ROTARY / 2] : x[i - ROTARY / 2]);
    }
    r->geometry = (ey_geometry){ .rotary = ROTARY, .rope_theta = 10000.0 };
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act heads = ey_rig_input(r, H * D);
    ey_rope(&r->plan, heads, H, D, ROTARY);
    ey_rig_seal(r);
    ey_rig_put(r, heads, x, (uint32_t)T, H * D);
    ey_rig_run(r, set->rows, set->n);
    ey_rig_get(r, heads, got, (uint32_t)T, H * D);
    ey_expect(r, got, want, magnitude, n, 4);   /* the cosine's rounding, the product's, the sum's, the reference's */
}

/* A window of more blocks than one work-item of decode goes through; heads and columns that fill no tile. */
enum { HEADS = 5, HEAD = 48, WINDOW = 300, RING = 5, KEYS = RING * 64, UNIT = 2 * 64 * HEAD };

static void put_number(eyrie_format kv, void *ring, size_t i, float x)
{
    uint16_t half = ey_f32_to_f16(x);

    if (kv == EYRIE_FORMAT_F32) memcpy((float *)ring + i, &x, sizeof x);
    else memcpy((uint16_t *)ring + i, &half, sizeof half);
}

/* Key and value of a position to its place in the slot's ring: blocks of keys [HEAD][64] and values [64][HEAD]. */
static void put_position(eyrie_format kv, void *rings, uint32_t slot, uint64_t position, const float *k,
                         const float *v)
{
    size_t unit = (slot * RING + (size_t)(position / 64 % RING)) * UNIT, lane = (size_t)(position % 64);

    for (size_t i = 0; i < HEAD; i++) {
        put_number(kv, rings, unit + i * 64 + lane, k[i]);
        put_number(kv, rings, unit + (64 + lane) * HEAD + i, v[i]);
    }
}

/* Numbers that f16 and bf16 hold: both types of ring hold the same, and the matrix unit takes them as they are. */
static float *halves(ey_rig *r, size_t n, uint32_t seed, float most)
{
    float *x = ey_noise(r, n, seed, most);
    ref_round_bf16(n, x);
    for (size_t i = 0; i < n; i++) x[i] = ey_f16_to_f32(ey_f32_to_f16(x[i]));
    return x;
}

void ey_check_attention(ey_rig *r, const ey_job *j)
{
    const ey_row_set *set = &ey_row_sets[j->phase];
    const size_t T = set->tokens, width = HEADS * HEAD, slot = ey_attention_state_bytes(RING, 1, HEAD, j->format);
    const size_t all_slots = EY_RIG_SLOTS * slot;
    float *q = halves(r, T * width, 1, 2.0f), *k = halves(r, T * HEAD, 2, 1.5f), *v = halves(r, T * HEAD, 3, 1.0f);
    float *want = ey_numbers(r, T * width), *got = ey_numbers(r, T * width), *roundings = ey_numbers(r, T * HEADS);
    void *before = ey_numbers(r, all_slots / 4), *after = ey_numbers(r, all_slots / 4);
    void *rings = ey_numbers(r, all_slots / 4);

    memset(before, 0xff, all_slots);            /* NaNs of either type */
    memset(after, 0xff, all_slots);
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        size_t past = (size_t)ey_min(row->position, KEYS), all = past + row->n, start = (size_t)row->position - past;
        float *keys = halves(r, all * HEAD, 4 + i, 1.5f), *values = halves(r, all * HEAD, 8 + i, 1.0f);

        memcpy(keys + past * HEAD, k + (size_t)first * HEAD, row->n * HEAD * sizeof *k);
        memcpy(values + past * HEAD, v + (size_t)first * HEAD, row->n * HEAD * sizeof *v);
        for (size_t s = 0; s < all; s++) {
            if (s < past) put_position(j->format, before, row->slot, start + s, keys + s * HEAD, values + s * HEAD);
            put_position(j->format, after, row->slot, start + s, keys + s * HEAD, values + s * HEAD);
        }
        ref_attention(row->n, past, HEADS, 1, HEAD, WINDOW, q + first * width, keys, values, want + first * width);
        /* A score is HEAD fma, a product with the scale, which is rounded itself, and less the highest: of magnitude
         * up to |q| 1.5. exp makes 6 at most. Each block and the last sum shrink by another exp and product. Then
         * there are as many fma as keys. All of that twice, above and below the division, which makes 5; the
         * reference 1. Values are at most 1. The matrix unit rounds weights to bf16, and divides by their sum as
         * rounded: 2^-9 twice. */
        for (size_t t = 0; t < (size_t)row->n * HEADS; t++) {
            double score = 0.0, seen = (double)ey_min(WINDOW, past + t / HEADS) + 1;
            for (size_t c = 0; c < HEAD; c++) score += fabs(q[(first * HEADS + t) * HEAD + c]) * 1.5 / sqrt(HEAD);
            roundings[first * HEADS + t] = (float)(2 * ((HEAD + 4) * score + 6 + 7 * (7 + 2 * score) + seen) + 6
                                                    + (r->unit ? 0x1p-8 / EY_ROUNDING : 0));
        }
    }
    ey_rig_state(r, before, slot);
    r->geometry = (ey_geometry){ .window = WINDOW, .ring_blocks = RING };
    ey_rig_begin(r, j->format, j->phase, (uint32_t)T, set->n);
    ey_act in = ey_rig_input(r, (uint32_t)width + 2 * HEAD);
    ey_attention a = { .q = ey_act_slice(in, 0, (uint32_t)width), .k = ey_act_slice(in, (uint32_t)width, HEAD),
                       .v = ey_act_slice(in, (uint32_t)width + HEAD, HEAD), .heads = HEADS, .kv_heads = 1, .d = HEAD,
                       .scale = (float)(1 / sqrt(HEAD)), .window = WINDOW, .ring_blocks = RING, .kv = j->format,
                       .state = &r->state };
    ey_act out = ey_rig_hold(r, ey_attend(&r->plan, &a));
    ey_rig_seal(r);
    ey_rig_put(r, a.q, q, (uint32_t)T, (uint32_t)width);
    ey_rig_put(r, a.k, k, (uint32_t)T, HEAD);
    ey_rig_put(r, a.v, v, (uint32_t)T, HEAD);
    ey_rig_run(r, set->rows, set->n);
    ey_rig_get(r, out, got, (uint32_t)T, (uint32_t)width);
    for (size_t i = 0; i < T * width; i++) ey_judge(r, got[i], want[i], 1, roundings[i / HEAD]);
    ey_rig_read(r, r->state.buffer, rings);
    if (r->status == EYRIE_OK) ey_expect_same(r, rings, after, all_slots);
}
