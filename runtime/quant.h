/* quant.h - the weight formats: how 16 rows of a matrix become a panel, and back. The unpacking here is the truth that
 * the kernels' load macro (prelude.cl) is tested against. */
#ifndef EY_QUANT_H
#define EY_QUANT_H

#include "base.h"

/* A panel is EY_LANES rows by K columns, K even: f32 [K][16], 16-bit formats [K/2][16][2]. */
typedef struct ey_quant {
    eyrie_format format;
    const char  *name;                                                    /* "bf16"; also the suffix of kernel names */
    uint32_t     bits;                                                    /* of one element */
    void (*pack)(const float *rows, uint32_t K, void *panel);             /* rows [16][K]; rounds to nearest even */
    void (*unpack)(const void *panel, uint32_t K, float *rows);
} ey_quant;

/* The format's entry; NULL: there is none. */
const ey_quant *ey_quant_of(eyrie_format format);

uint64_t ey_quant_panel_bytes(const ey_quant *q, uint32_t K);

uint16_t ey_f32_to_f16(float x);    /* nearest even, overflow to infinity */
float    ey_f16_to_f32(uint16_t h);
uint16_t ey_f32_to_bf16(float x);

#endif
