/* config.h - config.json of a checkpoint, in all the spellings there are, to a struct in which every size is checked.
 * Letters in brackets are those the formulas use. */
#ifndef EY_CONFIG_H
#define EY_CONFIG_H

#include "base.h"

typedef enum ey_kind { EY_RECURRENT, EY_ATTENTION } ey_kind;

#define EY_MAX_LAYERS 1024
#define EY_MAX_EOS 8

typedef struct ey_config {
    uint32_t vocab;             /* [V] */
    uint32_t width;             /* [D] model width */
    uint32_t layers;            /* [L] */
    uint32_t heads;             /* [H] query heads */
    uint32_t kv_heads;          /* [K] key/value heads, divides H */
    uint32_t head_dim;          /* [d] = D / H */
    uint32_t rotary;            /* [R] dimensions of a head that rotate, even, at most d */
    uint32_t lru_width;         /* [N] */
    uint32_t gate_blocks;       /* [G] of a synthetic model; a checkpoint's are those of its gate tensors */
    uint32_t mlp_width;         /* [M] = intermediate_size / 2 */
    uint32_t conv_taps;         /* [C] */
    uint64_t window;            /* [W] a token attends to itself and W before it; 0 = all before it */
    float    cap;               /* soft cap of the logits; 0 = none */
    float    eps;               /* of the RMS norm */
    double   rope_theta;        /* base of the rotary frequencies */
    float    embed_scale;       /* sqrt(D) rounded to bfloat16, or 1 */
    bool     attention_bias;    /* q, k and v have biases */
    bool     tied;              /* the head is the embedding */
    int32_t  bos;               /* -1 = none */
    int32_t  eos[EY_MAX_EOS];
    uint32_t n_eos;
    ey_kind  kinds[EY_MAX_LAYERS];   /* [L] */
} ey_config;

/* Reads directory/config.json, and the end-of-text ids of directory/generation_config.json if there is one.
 * EIO, EFORMAT: the message names the file, the key, what it holds and what it should. */
eyrie_status ey_config_read(ey_config *c, const char *directory, eyrie_error *err);

/* The same from text in memory; `name` stands for the file in messages. */
eyrie_status ey_config_parse(ey_config *c, const char *text, size_t length, const char *name, eyrie_error *err);

uint32_t ey_config_count(const ey_config *c, ey_kind kind);   /* layers of that kind */

#endif
