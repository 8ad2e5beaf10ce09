/* conv1d.c - the causal convolution and the inputs it carries. */
#include "op.h"

ey_act ey_conv1d(ey_plan *p, ey_act u, const ey_buffer *w, const ey_buffer *bias, uint32_t taps, const ey_layer_state *state)
{
    ey_act v = ey_plan_act(p, p->tokens, u.width);
    uint64_t n = (uint64_t)p->tokens * u.width;

    EY_LAUNCH(p, "conv1d", (u.width + 63) / 64, p->rows, 1, ((ey_cost){ 8 * n, 2 * n * taps }), ey_val(u),
              ey_int(u.stride), ey_int(u.offset), ey_buf(w), ey_buf(bias), ey_int(taps), ey_int(u.width),
              ey_buf(state->buffer), ey_int(state->bytes / sizeof(float)), ey_val(v), ey_int(v.stride));
    return v;
}
