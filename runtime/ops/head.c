/* head.c - wanted rows to log-sum-exp, target logits and candidates. */
#include "op.h"

enum { SEGMENT = 4096, PART_WORDS = 2 + 2 * 256 };      /* as in head.cl */

uint32_t ey_head_tile(const ey_matrix *w, uint32_t wanted)
{
    return (uint32_t)ey_min(wanted, ey_max(EY_HEAD_ROWS, EY_HEAD_BYTES / (w->rows * sizeof(float))));
}

void ey_head_reduce_logits(ey_plan *p, ey_act logits, const ey_head *h, uint32_t skip, uint32_t most)
{
    uint64_t n = (uint64_t)most * logits.width, segments = (h->vocab + SEGMENT - 1) / SEGMENT;
    ey_act parts = ey_plan_act(p, (most * segments * PART_WORDS + EY_LANES - 1) / EY_LANES, EY_LANES);
    bool cpu = p->dev->cpu;
    uint32_t items = cpu ? 1 : 256;

    EY_LAUNCH_GROUPS(p, cpu ? "head_segments" : "gpu_head_segments", items, segments, most, 1, ((ey_cost){ 8 * n, 40 * n }),
                     ey_val(logits), ey_int(logits.stride), ey_int(h->vocab), ey_int(skip), ey_int(most), ey_float(h->cap),
                     ey_val(parts), ey_int(segments), ey_buf(h->results));
    EY_LAUNCH_GROUPS(p, cpu ? "head_rows" : "gpu_head_rows", items, most, 1, 1,
                     ((ey_cost){ most * segments * PART_WORDS * 4, 0 }), ey_int(h->vocab), ey_int(skip), ey_int(most),
                     ey_val(parts), ey_int(segments), ey_buf(h->results));
}

/* Wanted rows [skip, skip + most): product, segments, rows. */
static void reduce_tile(ey_plan *p, ey_act x, const ey_head *h, uint32_t skip, uint32_t most, ey_act logits)
{
    ey_matmul_wanted(p, x, h->w, skip, most, logits);
    ey_head_reduce_logits(p, logits, h, skip, most);
}

ey_act ey_head_reduce(ey_plan *p, ey_act x, const ey_head *h)
{
    static const uint32_t few[] = { 1, 8 };
    uint32_t tile = h->tile;
    ey_act logits = ey_plan_act(p, tile, h->w->rows);

    /* Mostly one row is wanted of a prompt: products of few rows for few, instead of a tall tile with one row in it. */
    uint32_t done = 0;
    for (size_t i = 0; i < sizeof few / sizeof *few && few[i] < tile; done = few[i++]) {
        ey_plan_when_wanted(p, done + 1, few[i] + 1);
        reduce_tile(p, x, h, 0, few[i], logits);
    }
    for (uint32_t skip = 0; skip < h->wanted; skip += tile) {
        ey_plan_when_wanted(p, (uint32_t)ey_max(done, skip) + 1, EY_ANY);
        reduce_tile(p, x, h, skip, tile, logits);
    }
    ey_plan_when_wanted(p, 0, EY_ANY);
    ey_plan_keep(p, logits);
    return logits;
}
