/* attention.c - the attention block: projections, rotary embedding, local or global multi-query attention. */
#include "layer.h"

#include <math.h>

void ey_attention_declare(ey_attention_layer *l, ey_weights *w, const ey_layer_context *c)
{
    const ey_config *f = c->config;
    ey_dim q = { f->heads, f->head_dim }, kv = { f->kv_heads, f->head_dim };
    bool bias = f->attention_bias;

    l->norm = ey_weights_vector(w, "temporal_pre_norm.weight", ey_dim_flat(f->width), 1, EY_ONE_PLUS);
    l->in = ey_weights_matrix(w, (ey_part[]){
        { "temporal_block.q_proj.weight", bias ? "temporal_block.q_proj.bias" : NULL, q },
        { "temporal_block.k_proj.weight", bias ? "temporal_block.k_proj.bias" : NULL, kv },
        { "temporal_block.v_proj.weight", bias ? "temporal_block.v_proj.bias" : NULL, kv } }, 3, ey_dim_flat(f->width));
    l->out = ey_weights_matrix(w, (ey_part[]){
        { "temporal_block.o_proj.weight", "temporal_block.o_proj.bias", ey_dim_flat(f->width) } }, 1, q);
    ey_weights_ignore(w, "temporal_block.rotary_emb.inv_freq");     /* old exports; follows from config.json */
}

uint64_t ey_attention_layer_state_bytes(const ey_layer_context *c)
{
    return ey_attention_state_bytes(c->ring_blocks, c->config->kv_heads, ey_pad(c->config->head_dim), c->kv);
}

void ey_attention_emit(ey_plan *p, const ey_attention_layer *l, const ey_layer_context *c, const ey_layer_state *state,
                       ey_act x)
{
    const ey_config *f = c->config;
    uint32_t d = ey_pad(f->head_dim);

    ey_act z   = ey_norm(x, l->norm, f->width, f->eps);
    ey_act qkv = ey_matmul(p, z, l->in);
    ey_act o   = ey_attend(p, &(ey_attention){ .q = ey_part_of(qkv, l->in, 0), .k = ey_part_of(qkv, l->in, 1),
                                               .v = ey_part_of(qkv, l->in, 2), .heads = f->heads, .kv_heads = f->kv_heads,
                                               .d = d, .rotary = f->rotary, .scale = (float)(1.0 / sqrt(f->head_dim)),
                                               .window = c->window, .ring_blocks = c->ring_blocks, .kv = c->kv,
                                               .reader = l->out, .state = state });
    ey_matmul_add(p, o, l->out, x);
}
