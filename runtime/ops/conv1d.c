/* conv1d.c - the causal convolution and the inputs it carries. */
#include "op.h"

enum { GPU_CARRIES = 16 };      /* inputs at most, in gpu_recurrence.cl */

ey_act ey_conv1d(ey_plan *p, ey_act u, const ey_conv *c)
{
    ey_act v = ey_plan_act(p, p->tokens, u.width);
    uint64_t n = (uint64_t)p->tokens * u.width;

    bool cpu = p->dev->cpu || c->taps - 1 > GPU_CARRIES;
    EY_LAUNCH_GROUPS(p, cpu ? "conv1d" : "gpu_conv1d", cpu ? 1 : 256, cpu ? (u.width + 63) / 64 : u.width / EY_LANES, p->rows, 1,
                     ((ey_cost){ 8 * n, 2 * n * c->taps }), ey_val(u), ey_int(u.stride), ey_int(u.offset), ey_buf(c->w),
                     ey_buf(c->bias), ey_int(c->taps), ey_int(u.width), ey_buf(c->state->buffer),
                     ey_int(c->state->stride / sizeof(float)), ey_val(v), ey_int(v.stride));
    return v;
}
