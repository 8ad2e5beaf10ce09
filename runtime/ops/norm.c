/* norm.c - RMS norm. */
#include "op.h"

ey_act ey_norm(ey_plan *p, ey_act x, const ey_buffer *scale, uint32_t width, float eps, bool wanted)
{
    uint64_t n = (uint64_t)p->tokens * x.width;

    if (p->dev->cpu && p->phase == EY_DECODE && p->rows <= EY_FEW_ROWS && !wanted) {
        x.norm = (ey_rms){ scale, width, eps };
        return x;
    }
    ey_act y = ey_plan_act(p, p->tokens, x.width);
    EY_LAUNCH_GROUPS(p, p->dev->cpu ? "norm" : "gpu_norm", p->dev->cpu ? 1 : 256, p->tokens, 1, 1, ((ey_cost){ 8 * n, 4 * n }),
                     ey_val(x), ey_int(x.stride), ey_buf(scale), ey_int(width), ey_int(x.width), ey_float(eps),
                     ey_int(wanted), ey_val(y), ey_int(y.stride));
    return y;
}
