/* quant.c - the table of weight formats. */
#include "quant.h"

#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint16_t ey_f32_to_bf16(float x)
{
    uint32_t u = bits_of(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);   /* a NaN stays one */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* All cases are worked out and one is chosen, without branches, which numbers of both signs and all sizes would mislead. */
uint16_t ey_f32_to_f16(float x)
{
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);      /* the sum rounds to units of 2^-24 */
    uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;   /* rebias, drop 13 bits */
    uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;                  /* a NaN stays one */
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;

    return (uint16_t)(sign | (magnitude < 0x477ff000u ? half : large));            /* 65520 and above round to infinity */
}

float ey_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;

    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
    return float_of(sign | bits_of((float)fraction * 0x1p-24f));
}

static void pack_f32(const float *rows, uint32_t K, void *panel)
{
    float *out = panel;
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t r = 0; r < EY_LANES; r++) *out++ = rows[r * K + k];
}

static void unpack_f32(const void *panel, uint32_t K, float *rows)
{
    const float *in = panel;
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t r = 0; r < EY_LANES; r++) rows[r * K + k] = *in++;
}

/* [K/2][16][2] of 16-bit elements. */
#define PACK_16BIT(name, encode, decode)                                              \
    static void pack_##name(const float *rows, uint32_t K, void *panel)               \
    {                                                                                 \
        uint16_t *out = panel;                                                        \
        for (uint32_t k = 0; k < K; k += 2)                                           \
            for (uint32_t r = 0; r < EY_LANES; r++) {                                 \
                *out++ = encode(rows[r * K + k]);                                     \
                *out++ = encode(rows[r * K + k + 1]);                                 \
            }                                                                         \
    }                                                                                 \
    static void unpack_##name(const void *panel, uint32_t K, float *rows)             \
    {                                                                                 \
        const uint16_t *in = panel;                                                   \
        for (uint32_t k = 0; k < K; k += 2)                                           \
            for (uint32_t r = 0; r < EY_LANES; r++) {                                 \
                rows[r * K + k] = decode(*in++);                                      \
                rows[r * K + k + 1] = decode(*in++);                                  \
            }                                                                         \
    }

static float bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

PACK_16BIT(f16, ey_f32_to_f16, ey_f16_to_f32)
PACK_16BIT(bf16, ey_f32_to_bf16, bf16_to_f32)

/* ------------------------------------------------------------------------------------------- numbers with a scale
 * kernels_cl/prelude.cl (store_scaled) does the same on the device, bit for bit, so all here is sums and products that round the same
 * everywhere: no division, and no fma (the build sees to that). */

/* Weights of a group are whole numbers times a scale. The scale is the weight of largest magnitude times one of
 * `per`: that with the least sum of squared errors. */
typedef struct levels {
    float    least, most;
    uint32_t n;
    float    per[8];
} levels;

static const levels q8_levels = { -127.0f, 127.0f, 1, { 0.00787401575f } };
/* About -1/8: the largest weight becomes -8, there is no +8. What other numbers do for the loss: bench/RESULTS.md. */
static const levels q4_levels = { -8.0f, 7.0f, 8, { -0.1400f, -0.1290f, -0.1250f, -0.1230f, -0.1210f, -0.1190f, -0.1163f,
                                                    -0.1124f } };

/* A group of columns, all rows. */
typedef float group[EY_GROUP][EY_LANES];

/* To the nearest whole number, for |x| < 2^22. */
static float whole(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* 1/s within 2^-22, 0 of 0: Newton's iteration from a guess that is 12 % off. */
static float reciprocal(float s)
{
    uint32_t sign = bits_of(s) & 0x80000000u, magnitude = bits_of(s) & 0x7fffffffu;
    float a = float_of(magnitude), r = float_of(0x7ef311c7u - magnitude);

    for (int i = 0; i < 3; i++) r = r * (2.0f - a * r);
    return magnitude ? float_of(bits_of(r) | sign) : 0.0f;
}

static float level(const levels *l, float x, float inverse)
{
    float q = whole(x * inverse);
    q = q > l->least ? q : l->least;
    return q < l->most ? q : l->most;
}

/* Columns [k, k + n) of rows [16][K], zeros after them. */
static void gather(const float *rows, uint32_t K, uint32_t k, uint32_t n, group x)
{
    memset(x, 0, sizeof(group));
    for (uint32_t r = 0; r < EY_LANES; r++)
        for (uint32_t i = 0; i < n; i++) x[i][r] = rows[r * K + k + i];
}

/* The weights of largest magnitude, the first of equals; one that is not finite is larger than all that are. */
static void find_largest(group x, float largest[EY_LANES])
{
    memcpy(largest, x[0], EY_LANES * sizeof *largest);
    for (uint32_t i = 1; i < EY_GROUP; i++)
        for (uint32_t r = 0; r < EY_LANES; r++)
            largest[r] = (bits_of(x[i][r]) & 0x7fffffffu) > (bits_of(largest[r]) & 0x7fffffffu) ? x[i][r] : largest[r];
}

static void find_scales(const levels *l, group x, uint16_t scales[EY_LANES], float inverse[EY_LANES])
{
    float largest[EY_LANES], best[EY_LANES];

    find_largest(x, largest);
    for (uint32_t c = 0; c < l->n; c++) {
        uint16_t half[EY_LANES];
        float scale[EY_LANES], inv[EY_LANES], error[EY_LANES] = { 0 };
        for (uint32_t r = 0; r < EY_LANES; r++) {
            float s = largest[r] * l->per[c];
            s = s > 65504.0f ? 65504.0f : s < -65504.0f ? -65504.0f : s;
            half[r] = ey_f32_to_f16(s);
            scale[r] = ey_f16_to_f32(half[r]);
            inv[r] = reciprocal(scale[r]);
        }
        for (uint32_t i = 0; i < EY_GROUP && l->n > 1; i++)
            for (uint32_t r = 0; r < EY_LANES; r++) {
                float off = x[i][r] - level(l, x[i][r], inv[r]) * scale[r];
                error[r] = error[r] + off * off;
            }
        for (uint32_t r = 0; r < EY_LANES; r++)
            if (c == 0 || error[r] < best[r]) {
                best[r] = error[r];
                scales[r] = half[r];
                inverse[r] = inv[r];
            }
    }
    for (uint32_t r = 0; r < EY_LANES; r++)     /* weights that are not finite must not pass for others */
        if ((bits_of(largest[r]) & 0x7fffffffu) >= 0x7f800000u) {
            scales[r] = 0x7e00u;
            inverse[r] = 0.0f;
        }
}

/* Words of a panel of `bits` bits a weight up to column k, a multiple of EY_GROUP, where the weights of k begin. */
static size_t word_of(uint32_t bits, uint32_t k)
{
    uint32_t lines = k / EY_SCALED_BLOCK * (1 + EY_SCALED_BLOCK * bits / 32) + 1 + k % EY_SCALED_BLOCK * bits / 32;
    return (size_t)lines * EY_LANES;
}

/* Scales of the group of column k. */
static size_t half_of(uint32_t bits, uint32_t k)
{
    uint32_t first = k / EY_SCALED_BLOCK * EY_SCALED_BLOCK;
    return 2 * (word_of(bits, first) - EY_LANES) + k % EY_SCALED_BLOCK / EY_GROUP * EY_LANES;
}

static void pack_scaled(const levels *l, uint32_t bits, const float *rows, uint32_t K, void *panel)
{
    uint32_t *words = panel, per_word = 32 / bits;
    uint16_t *halves = panel;
    group x;

    for (uint32_t k = 0; k < K; k += EY_GROUP) {
        uint32_t n = (uint32_t)ey_min(K - k, EY_GROUP), *out = words + word_of(bits, k);
        uint16_t *scales = halves + half_of(bits, k);
        float inverse[EY_LANES];
        gather(rows, K, k, n, x);
        if (k % EY_SCALED_BLOCK == 0) memset(scales, 0, 2 * EY_LANES * sizeof *scales);
        find_scales(l, x, scales, inverse);
        for (uint32_t i = 0; i < n / per_word * EY_LANES; i++) {
            uint32_t r = i % EY_LANES, first = i / EY_LANES * per_word;
            out[i] = 0;
            for (uint32_t j = 0; j < per_word; j++) {
                float q = inverse[r] == 0.0f ? 0.0f : level(l, x[first + j][r], inverse[r]);
                out[i] |= (uint32_t)(int32_t)(q + (float)(1u << (bits - 1))) << bits * j;
            }
        }
    }
}

static void unpack_scaled(uint32_t bits, const void *panel, uint32_t K, float *rows)
{
    const uint32_t *words = panel;
    const uint16_t *halves = panel;

    for (uint32_t r = 0; r < EY_LANES; r++)
        for (uint32_t k = 0; k < K; k++) {
            uint32_t start = k / EY_GROUP * EY_GROUP, bit = (k - start) * bits;
            uint32_t word = words[word_of(bits, start) + bit / 32 * EY_LANES + r];
            int32_t q = (int32_t)(word >> bit % 32 & ((1u << bits) - 1)) - (1 << (bits - 1));
            rows[r * K + k] = (float)q * ey_f16_to_f32(halves[half_of(bits, start) + r]) + 0.0f;     /* no -0 */
        }
}

#define SCALED(bits)                                                                                                  \
    static void pack_q##bits(const float *rows, uint32_t K, void *panel) { pack_scaled(&q##bits##_levels, bits, rows, K, panel); } \
    static void unpack_q##bits(const void *panel, uint32_t K, float *rows) { unpack_scaled(bits, panel, K, rows); }
SCALED(8)
SCALED(4)

static const ey_quant formats[] = {
    { EYRIE_FORMAT_F32,  "f32",  32, false, pack_f32,  unpack_f32 },
    { EYRIE_FORMAT_F16,  "f16",  16, false, pack_f16,  unpack_f16 },
    { EYRIE_FORMAT_BF16, "bf16", 16, false, pack_bf16, unpack_bf16 },
    { EYRIE_FORMAT_Q8,   "q8",    8, true,  pack_q8,   unpack_q8 },
    { EYRIE_FORMAT_Q4,   "q4",    4, true,  pack_q4,   unpack_q4 },
};

const ey_quant *ey_quant_of(eyrie_format format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].format == format) return &formats[i];
    return NULL;
}

uint64_t ey_quant_panel_bytes(const ey_quant *q, uint32_t K)
{
    uint64_t scales = q->scaled ? (K + EY_SCALED_BLOCK - 1) / EY_SCALED_BLOCK * 4 * EY_LANES : 0;
    return (uint64_t)EY_LANES * K * q->bits / 8 + scales;
}
