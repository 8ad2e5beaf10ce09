/* recurrent.c - the recurrent block: two branches from one input, one through convolution and RG-LRU, one through gelu. */
#include "layer.h"

void ey_recurrent_declare(ey_recurrent *l, ey_weights *w, const ey_layer_context *c)
{
    uint32_t D = c->config->width, N = c->config->lru_width, taps = c->config->conv_taps;
    uint32_t G = ey_weights_first_dim(w, "temporal_block.rg_lru.input_gate_bias");

    if (G == 0 || N % G != 0) G = 1;        /* the gates' own declaration says what is wrong */
    l->width = (ey_dim){ G, N / G };
    l->norm = ey_weights_vector(w, "temporal_pre_norm.weight", ey_dim_flat(D), 1, EY_ONE_PLUS);
    l->in = ey_weights_matrix(w, (ey_part[]){
        { "temporal_block.linear_x.weight", "temporal_block.linear_x.bias", l->width },
        { "temporal_block.linear_y.weight", "temporal_block.linear_y.bias", l->width } }, 2, ey_dim_flat(D));
    l->conv = ey_weights_vector(w, "temporal_block.conv_1d.weight", l->width, taps, EY_TRANSPOSE);
    l->conv_bias = ey_weights_vector(w, "temporal_block.conv_1d.bias", l->width, 1, EY_PLAIN);
    l->gates = ey_weights_gates(w, (ey_part[]){
        { "temporal_block.rg_lru.recurrent_gate_weight", "temporal_block.rg_lru.recurrent_gate_bias", l->width },
        { "temporal_block.rg_lru.input_gate_weight", "temporal_block.rg_lru.input_gate_bias", l->width } });
    l->decay = ey_weights_vector(w, "temporal_block.rg_lru.recurrent_param", l->width, 1, EY_DECAY);
    l->out = ey_weights_matrix(w, (ey_part[]){
        { "temporal_block.linear_out.weight", "temporal_block.linear_out.bias", ey_dim_flat(D) } }, 1, l->width);
}

/* The carried inputs of the convolution, then h. */
uint64_t ey_recurrent_state_bytes(const ey_recurrent *l, const ey_layer_context *c)
{
    return (uint64_t)c->config->conv_taps * ey_dim_padded(l->width) * sizeof(float);
}

void ey_recurrent_emit(ey_plan *p, const ey_recurrent *l, const ey_layer_context *c, const ey_layer_state *state, ey_act x)
{
    uint32_t N = ey_dim_padded(l->width), taps = c->config->conv_taps;

    ey_act z  = ey_norm(x, l->norm, c->config->width, c->config->eps);
    ey_act h  = ey_matmul_recurrent(p, z, l->in, &(ey_conv){ l->conv, l->conv_bias, taps, state }, l->gates,
                                    (ey_recurrence){ .decay = l->decay, .state = state, .h_offset = (taps - 1) * N, .reader = l->out });
    ey_matmul_add(p, h, l->out, x);
}
