/* embed.c - tokens to activations. */
#include "op.h"

#include <stdio.h>

ey_act ey_embed(ey_plan *p, const ey_matrix *table, float scale)
{
    const ey_quant *q = ey_quant_of(table->format);
    ey_act x = ey_plan_act(p, p->tokens, table->cols);
    bool cpu = p->dev->cpu;
    char kernel[32];

    snprintf(kernel, sizeof kernel, "%sembed_%s", cpu ? "" : "gpu_", q->name);
    for (uint32_t i = 0; i < table->n_shards; i++) {
        const struct ey_shard *s = &table->shards[i];
        ey_cost cost = { (uint64_t)p->tokens * (table->cols * 4 + ey_quant_panel_bytes(q, table->cols) / EY_LANES) / table->n_shards, 0 };
        uint32_t groups = (table->cols / 2 + 63) / 64;      /* on GPUs, each token's */
        EY_LAUNCH_GROUPS(p, kernel, cpu ? 1 : 64, cpu ? p->tokens : groups, cpu ? 1 : p->tokens, 1, cost, ey_buf(s->buffer),
                         ey_int(s->row0), ey_int(s->rows), ey_int(table->cols), ey_float(scale), ey_val(x), ey_int(x.stride));
    }
    return x;
}
