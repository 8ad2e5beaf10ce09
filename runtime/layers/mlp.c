/* mlp.c - the gated MLP block. */
#include "layer.h"

void ey_mlp_declare(ey_mlp *l, ey_weights *w, const ey_layer_context *c)
{
    ey_dim D = ey_dim_flat(c->config->width), M = ey_dim_flat(c->config->mlp_width);

    l->norm = ey_weights_vector(w, "channel_pre_norm.weight", D, 1, EY_ONE_PLUS);
    l->in = ey_weights_pair(w, (ey_part[]){ { "mlp_block.gate_proj.weight", "mlp_block.gate_proj.bias", M },
                                            { "mlp_block.up_proj.weight", "mlp_block.up_proj.bias", M } }, D);
    l->out = ey_weights_matrix(w, (ey_part[]){ { "mlp_block.down_proj.weight", "mlp_block.down_proj.bias", D } }, 1, M);
}

void ey_mlp_emit(ey_plan *p, const ey_mlp *l, const ey_layer_context *c, ey_act x)
{
    ey_act z = ey_norm(x, l->norm, c->config->width, c->config->eps);
    ey_act g = ey_matmul_geglu(p, z, l->in, l->out);
    ey_matmul_add(p, g, l->out, x);
}
