/* scan.c - the blocked linear recurrence. */
#include "op.h"

ey_act ey_scan(ey_plan *p, ey_act a, ey_act x, const ey_act *y, const ey_layer_state *state, uint32_t h_offset)
{
    bool cpu = p->dev->cpu;
    uint32_t N = a.width, items = cpu ? 1 : 64, groups = cpu ? N / EY_LANES : (N + 63) / 64;
    ey_act ends = ey_plan_act(p, 2 * (uint64_t)p->blocks, N), out = ey_plan_act(p, p->tokens, N);
    ey_act gate = y ? *y : a;
    uint64_t n = (uint64_t)p->tokens * N, e = (uint64_t)p->blocks * N;

    EY_LAUNCH_GROUPS(p, cpu ? "scan_block" : "gpu_scan_block", items, groups, p->blocks, 1,
                     ((ey_cost){ 8 * n + 8 * e, 3 * n }), ey_val(a), ey_val(x), ey_int(N), ey_int(N), ey_val(ends));
    EY_LAUNCH_GROUPS(p, cpu ? "scan_carry" : "gpu_scan_carry", items, groups, p->rows, 1, ((ey_cost){ 12 * e, 2 * e }),
                     ey_val(ends), ey_int(N), ey_buf(state->buffer), ey_int(state->stride / sizeof(float)),
                     ey_int(h_offset));
    EY_LAUNCH_GROUPS(p, cpu ? "scan_fix" : "gpu_scan_fix", items, groups, p->blocks, 1,
                     ((ey_cost){ (y ? 16 : 12) * n, (y ? 13 : 2) * n }), ey_val(a), ey_val(x), ey_int(N), ey_int(N),
                     ey_val(ends), ey_int(y != NULL), ey_val(gate), ey_int(gate.stride), ey_int(gate.offset), ey_val(out),
                     ey_int(out.stride));
    return out;
}
