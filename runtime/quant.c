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

static const ey_quant formats[] = {
    { EYRIE_FORMAT_F32,  "f32",  32, pack_f32,  unpack_f32 },
    { EYRIE_FORMAT_F16,  "f16",  16, pack_f16,  unpack_f16 },
    { EYRIE_FORMAT_BF16, "bf16", 16, pack_bf16, unpack_bf16 },
};

const ey_quant *ey_quant_of(eyrie_format format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].format == format) return &formats[i];
    return NULL;
}

uint64_t ey_quant_panel_bytes(const ey_quant *q, uint32_t K) { return (uint64_t)EY_LANES * K * q->bits / 8; }
