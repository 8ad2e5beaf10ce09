/* quant.h - the weight formats: how 16 rows of a matrix become a panel, and back. The unpacking here is the truth that
 * the kernels' load macro (prelude.cl) is tested against. */
#ifndef EY_QUANT_H
#define EY_QUANT_H

#include "base.h"

/* A panel is EY_LANES rows by K columns, K a multiple of 16: f32 [K][16], 16-bit formats [K/2][16][2].
 *
 * q8 and q4 hold whole numbers, and for each EY_GROUP columns of a row an f16 scale; a weight is their product, exact in
 * f32. A panel is a run of blocks of 64 columns, the last one of 16, 32, 48 or 64, so that all lines of 64 bytes stay
 * aligned:
 *     scales  f16 [2][16]         of the block's two groups
 *     q8      u32 [columns/4][16] byte j of a word is column 4 i + j, plus 128
 *     q4      u32 [columns/8][16] bits 4 j ... 4 j + 3 are column 8 i + j, plus 8 */
enum { EY_GROUP = 32, EY_SCALED_BLOCK = 64 };

typedef struct ey_quant {
    eyrie_format format;
    const char  *name;                                                    /* "bf16"; also the suffix of kernel names */
    uint32_t     bits;                                                    /* of one element, less its share of a scale */
    bool         scaled;
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
