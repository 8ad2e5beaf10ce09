/* rglru.c - the gated recurrence: in one pass, or its coefficients and a blocked scan. */
#include "op.h"

ey_act ey_rglru_pass(ey_plan *p, ey_act gates, const ey_recurrence *r)
{
    uint32_t N = r->v.width;
    ey_act out = ey_act_for(p, N, r->reader);
    uint64_t n = (uint64_t)p->tokens * N;

    if (!p->dev->cpu) {
        EY_LAUNCH_GROUPS(p, "gpu_rglru", 64, (N + 63) / 64, p->rows, 1, ((ey_cost){ 20 * n, 33 * n }), ey_val(gates),
                         ey_int(gates.stride), ey_val(r->v), ey_int(r->v.stride), ey_val(r->y), ey_int(r->y.stride),
                         ey_int(r->y.offset), ey_buf(r->decay), ey_int(N), ey_buf(r->state->buffer),
                         ey_int(r->state->stride / sizeof(float)), ey_int(r->h_offset), ey_val(out), ey_int(out.stride));
        return out;
    }
    EY_LAUNCH(p, "rglru", (N + 63) / 64, p->rows, 1, ((ey_cost){ 20 * n, 33 * n }), ey_val(gates), ey_int(gates.stride),
              ey_val(r->v), ey_int(r->v.stride), ey_val(r->y),
              ey_int(r->y.stride), ey_int(r->y.offset), ey_buf(r->decay), ey_int(N), ey_buf(r->state->buffer),
              ey_int(r->state->stride / sizeof(float)), ey_int(r->h_offset), ey_val(out), ey_tiles_of(out), ey_int(out.stride));
    return out;
}

ey_act ey_rglru_blocked(ey_plan *p, ey_act gates, const ey_recurrence *r)
{
    uint32_t N = r->v.width;
    ey_act a = ey_plan_act(p, p->tokens, N), x = ey_plan_act(p, p->tokens, N);
    uint64_t n = (uint64_t)p->tokens * N;

    bool cpu = p->dev->cpu;
    EY_LAUNCH_GROUPS(p, cpu ? "rglru_coeffs" : "gpu_rglru_coeffs", cpu ? 1 : 64, cpu ? p->tokens : (N + 63) / 64,
                     cpu ? 1 : p->tokens, 1, ((ey_cost){ 20 * n, 20 * n }), ey_val(gates), ey_int(gates.stride), ey_val(r->v),
                     ey_int(r->v.stride), ey_buf(r->decay), ey_int(N), ey_val(a), ey_val(x), ey_int(N));
    return ey_scan(p, a, x, &r->y, r->state, r->h_offset);
}

/* The scan's second pass pays if it keeps cores busy that have no group of 64 channels. A GPU's take several groups to hide
 * the time that memory takes. */
uint32_t ey_rglru_blocked_below(const eyrie_device *dev) { return dev->cpu ? dev->units / 2 * 64 : dev->units * 256; }

ey_act ey_rglru(ey_plan *p, ey_act gates, const ey_recurrence *r)
{
    bool few_channels = r->v.width < ey_rglru_blocked_below(p->dev);
    return p->phase == EY_PREFILL && few_channels ? ey_rglru_blocked(p, gates, r) : ey_rglru_pass(p, gates, r);
}
