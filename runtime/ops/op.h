/* op.h - the concepts a layer is written in. Each chooses among its kernels and records launches into the plan; each has
 * a file here, kernels in kernels_cl, a reference in runtime/ref and a test of the same name.
 *
 * Letters, here and everywhere: T tokens of the batch, D model width, N recurrent width, M width of the MLP, H query
 * heads, K key/value heads (or columns of a matrix, where there are no heads), d head dimension, V vocabulary. All
 * feature dimensions are padded (weights.h). */
#ifndef EY_OP_H
#define EY_OP_H

#include "plan.h"
#include "state.h"
#include "weights.h"

/* x [T, D] = scale * table[token] */
ey_act ey_embed(ey_plan *p, const ey_matrix *table, float scale);

/* x with an RMS norm over `width` true columns to be taken, by the product that reads it. */
ey_act ey_norm(ey_act x, const ey_buffer *scale, uint32_t width, float eps);
/* Takes it at once. wanted: only of the tokens whose logits are wanted, compacted to the first rows. */
ey_act ey_normalise(ey_plan *p, ey_act x, bool wanted);

/* A new activation of all tokens in the layout that the product with `reader` takes it in; NULL: f32. */
ey_act ey_act_for(ey_plan *p, uint32_t width, const ey_matrix *reader);
/* The kernels' argument about that: tiles of 32 columns in a row, or 0 where it is plain f32. */
ey_arg ey_tiles_of(ey_act a);

/* x W^T + bias, W's parts side by side in the result: ey_part_of takes one of them. Of a paired matrix, 16 columns of the
 * first part, the same of the second, and so on. */
ey_act ey_matmul(ey_plan *p, ey_act x, const ey_matrix *w);
ey_act ey_part_of(ey_act y, const ey_matrix *w, uint32_t part);
/* y += x W^T + bias */
void   ey_matmul_add(ey_plan *p, ey_act x, const ey_matrix *w, ey_act y);
/* Rows [skip, skip + most) of the wanted ones, to rows 0, 1, ... of y. */
void   ey_matmul_wanted(ey_plan *p, ey_act x, const ey_matrix *w, uint32_t skip, uint32_t most, ey_act y);

/* gelu(gate) * up, [T, M]: gate and up are the parts of a paired matrix. */
ey_act ey_matmul_geglu(ey_plan *p, ey_act x, const ey_matrix *w, const ey_matrix *reader);

/* Causal convolution over time with the inputs carried in the layer's state (its first taps - 1 rows of u's width). */
typedef struct ey_conv {
    const ey_buffer      *w, *bias;             /* [taps, N], [N] */
    uint32_t              taps;
    const ey_layer_state *state;
} ey_conv;

ey_act ey_conv1d(ey_plan *p, ey_act u, const ey_conv *c);
/* The product, whose first part is convolved: *v; its second: *y. */
void   ey_matmul_conv1d(ey_plan *p, ey_act x, const ey_matrix *w, const ey_conv *c, ey_act *v, ey_act *y);

/* What the recurrence is made of: input, gate branch, decay = 8 softplus(p); h lies in the layer's state from float
 * `h_offset` of a slot on. */
typedef struct ey_recurrence {
    ey_act                v, y;
    const ey_buffer      *decay;
    const ey_layer_state *state;
    uint32_t              h_offset;
    const ey_matrix      *reader;               /* of the result; NULL: f32 */
} ey_recurrence;

/* RG-LRU times gelu(y): h [T, N]. gates: the product of v with the paired matrix of recurrence and input gate. One pass
 * over time, or in prefill the blocked scan where the device has more cores than the layer has groups of 64 channels. */
ey_act ey_rglru(ey_plan *p, ey_act gates, const ey_recurrence *r);
ey_act ey_rglru_pass(ey_plan *p, ey_act gates, const ey_recurrence *r);
ey_act ey_rglru_blocked(ey_plan *p, ey_act gates, const ey_recurrence *r);
/* With the product of the gates before it. */
ey_act ey_matmul_rglru(ey_plan *p, const ey_matrix *gates, const ey_recurrence *r);
/* With all products before it: of x with w the input of the convolution and the gate branch, which r does not have yet, of v
 * with the gates. */
ey_act ey_matmul_recurrent(ey_plan *p, ey_act x, const ey_matrix *w, const ey_conv *c, const ey_matrix *gates, ey_recurrence r);
uint32_t ey_rglru_blocked_below(const eyrie_device *dev);   /* layers of fewer channels get the scan in prefill */

/* h[t] = a[t] h[t-1] + x[t] in blocks, times gelu(y) if there is one; a and x are used up. Prefill only. */
ey_act ey_scan(ey_plan *p, ey_act a, ey_act x, const ey_act *y, const ey_layer_state *state, uint32_t h_offset);

/* Rotates the first `rotary` of each head's d columns, in place. */
void   ey_rope(ey_plan *p, ey_act x, uint32_t heads, uint32_t d, uint32_t rotary);

typedef struct ey_attention {
    ey_act                q, k, v;              /* columns of one activation, side by side */
    uint32_t              heads, kv_heads;
    uint32_t              d;                    /* head dimension, padded */
    uint32_t              rotary;               /* dimensions of it that turn with the position: queries and keys */
    float                 scale;                /* d^-1/2 of the true one */
    uint64_t              window;               /* tokens before itself that a token sees */
    uint32_t              ring_blocks;
    eyrie_format          kv;
    const ey_matrix      *reader;               /* of the result; NULL: f32 */
    const ey_layer_state *state;                /* the ring: [ring_blocks][kv_heads] units of 2 * 64 * d elements */
} ey_attention;

enum { EY_MAX_GROUP = 128 };                    /* most query heads that share a key/value head */

/* Softmax attention over ring and batch; the ring then holds the batch. [T, H*d]. May rotate q and k in place. */
ey_act   ey_attend(ey_plan *p, const ey_attention *a);
/* Most turns that loops of one work-item take over `blocks` blocks of 64 keys, with the least accumulators. */
uint64_t ey_attention_turns(uint64_t blocks, uint32_t group, uint32_t d);
uint64_t ey_attention_state_bytes(uint32_t ring_blocks, uint32_t kv_heads, uint32_t d, eyrie_format kv);

/* Logits of the wanted rows (x: normalised and compacted), reduced to `results`, in tiles so that the [T, V] matrix of
 * prefill is never stored. */
typedef struct ey_head {
    const ey_matrix *w;
    uint32_t         vocab;
    float            cap;
    uint32_t         wanted;                    /* most rows of a batch that want logits */
    uint32_t         tile;                      /* rows whose logits are kept at the same time, see ey_head_tile */
    ey_buffer       *results;                   /* [wanted][EY_RESULT_WORDS] */
} ey_head;

enum {
    EY_HEAD_ROWS = 64,                          /* rows of logits there is always room for in prefill */
    EY_HEAD_BYTES = 64 << 20,                   /* more, where the vocabulary is small, as long as they take no more than this */
    EY_RESULT_WORDS = 4 + 2 * 256               /* log-sum-exp, target's logit, number of candidates, unused, ids, logits */
};

/* Rows of a tile that takes little memory, where at most `wanted` are wanted. */
uint32_t ey_head_tile(const ey_matrix *w, uint32_t wanted);

/* Returns the logits [tile, V] of the last tile, capped, kept for reading: all rows, if at most a tile is wanted. */
ey_act ey_head_reduce(ey_plan *p, ey_act x, const ey_head *h);
/* What it does after the product: caps the logits [most, V] of wanted rows [skip, skip + most), in place, and reduces them.
 * Without h->w. */
void   ey_head_reduce_logits(ey_plan *p, ey_act logits, const ey_head *h, uint32_t skip, uint32_t most);

#endif
