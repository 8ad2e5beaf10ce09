/* rope.c - rotary embedding. */
#include "op.h"

void ey_rope(ey_plan *p, ey_act x, uint32_t heads, uint32_t d, uint32_t rotary)
{
    uint64_t n = (uint64_t)p->tokens * heads * rotary;

    if (rotary == 0) return;
    bool cpu = p->dev->cpu;
    uint32_t groups = (heads * rotary / 2 + 63) / 64;       /* on GPUs, each token's */
    EY_LAUNCH_GROUPS(p, cpu ? "rope" : "gpu_rope", cpu ? 1 : 64, cpu ? p->tokens : groups, cpu ? 1 : p->tokens, 1,
                     ((ey_cost){ 8 * n, 3 * n }), ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_int(heads), ey_int(d),
                     ey_int(rotary));
}
