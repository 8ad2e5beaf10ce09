/* layer.h - the three kinds of layer. Each says which tensors and how many bytes of state it needs, and reads like a
 * forward pass when it is recorded. A residual block is one temporal layer (recurrent or attention) and one MLP. */
#ifndef EY_LAYER_H
#define EY_LAYER_H

#include "config.h"
#include "ops/op.h"

/* What all layers of a model share. */
typedef struct ey_layer_context {
    const ey_config *config;
    uint64_t         window;        /* tokens before itself that a token sees: config's, or the context less one */
    uint32_t         ring_blocks;
    eyrie_format     kv;
} ey_layer_context;

typedef struct ey_recurrent {
    ey_buffer *norm, *conv, *conv_bias, *decay;
    ey_matrix *in;                  /* linear_x over linear_y */
    ey_matrix *gates;               /* recurrence gate over input gate */
    ey_matrix *out;
    ey_dim     width;               /* gate blocks x their size */
} ey_recurrent;

typedef struct ey_attention_layer {
    ey_buffer *norm;
    ey_matrix *in;                  /* queries over keys over values */
    ey_matrix *out;
} ey_attention_layer;

typedef struct ey_mlp {
    ey_buffer *norm;
    ey_matrix *in;                  /* gate over up */
    ey_matrix *out;
} ey_mlp;

/* Declare tensors under the weights' prefix (that of the residual block); errors stick to `w`. */
void ey_recurrent_declare(ey_recurrent *l, ey_weights *w, const ey_layer_context *c);
void ey_attention_declare(ey_attention_layer *l, ey_weights *w, const ey_layer_context *c);
void ey_mlp_declare(ey_mlp *l, ey_weights *w, const ey_layer_context *c);

/* Bytes of state of one sequence; of a recurrent layer once it is declared. */
uint64_t ey_recurrent_state_bytes(const ey_recurrent *l, const ey_layer_context *c);
uint64_t ey_attention_layer_state_bytes(const ey_layer_context *c);

/* x += layer(norm(x)) */
void ey_recurrent_emit(ey_plan *p, const ey_recurrent *l, const ey_layer_context *c, const ey_layer_state *state, ey_act x);
void ey_attention_emit(ey_plan *p, const ey_attention_layer *l, const ey_layer_context *c, const ey_layer_state *state,
                       ey_act x);
void ey_mlp_emit(ey_plan *p, const ey_mlp *l, const ey_layer_context *c, ey_act x);

#endif
