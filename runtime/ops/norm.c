/* norm.c - RMS norm, mostly left to the product that reads it. */
#include "op.h"

ey_act ey_norm(ey_act x, const ey_buffer *scale, uint32_t width, float eps)
{
    x.norm = (ey_rms){ scale, width, eps };
    return x;
}

ey_act ey_normalise(ey_plan *p, ey_act x, bool wanted)
{
    ey_act y = ey_plan_act(p, p->tokens, x.width);
    uint64_t n = (uint64_t)p->tokens * x.width;
    bool cpu = p->dev->cpu;

    EY_LAUNCH_GROUPS(p, cpu ? "norm" : "gpu_norm", cpu ? 1 : 256, p->tokens, 1, 1, ((ey_cost){ 8 * n, 4 * n }), ey_val(x),
                     ey_int(x.stride), ey_buf(x.norm.scale), ey_int(x.norm.width), ey_int(x.width), ey_float(x.norm.eps),
                     ey_int(wanted), ey_val(y), ey_int(y.stride));
    return y;
}
