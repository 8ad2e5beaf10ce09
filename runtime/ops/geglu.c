/* geglu.c - the gated activation of the MLP. */
#include "op.h"

ey_act ey_geglu(ey_plan *p, ey_act gate, ey_act up)
{
    ey_act out = ey_plan_act(p, p->tokens, gate.width);
    uint64_t n = (uint64_t)p->tokens * gate.width;

    EY_LAUNCH(p, "geglu", (gate.width + 1023) / 1024, p->tokens, 1, ((ey_cost){ 12 * n, 11 * n }), ey_val(gate),
              ey_int(gate.stride), ey_int(gate.offset), ey_int(up.offset), ey_int(gate.width), ey_val(out),
              ey_int(out.stride));
    return out;
}
