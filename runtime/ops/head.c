/* head.c - wanted rows to log-sum-exp, target logits and candidates. */
#include "op.h"

enum { SEGMENT = 4096, PART_WORDS = 2 + 2 * 256 };      /* as in head.cl */

uint32_t ey_head_tile(const ey_matrix *w, uint32_t wanted)
{
    return (uint32_t)ey_min(wanted, ey_max(EY_HEAD_ROWS, EY_HEAD_BYTES / (w->rows * sizeof(float))));
}

ey_act ey_head_reduce(ey_plan *p, ey_act x, const ey_head *h)
{
    uint32_t tile = ey_head_tile(h->w, h->wanted), segments = (h->vocab + SEGMENT - 1) / SEGMENT;
    uint64_t n = (uint64_t)tile * h->w->rows;
    ey_act logits = ey_plan_act(p, tile, h->w->rows);
    ey_act parts = ey_plan_act(p, ((uint64_t)tile * segments * PART_WORDS + EY_LANES - 1) / EY_LANES, EY_LANES);

    for (uint32_t skip = 0; skip < h->wanted; skip += tile) {
        ey_matmul_wanted(p, x, h->w, skip, tile, logits);
        EY_LAUNCH(p, "head_segments", segments, tile, 1, ((ey_cost){ 8 * n, 40 * n }), ey_val(logits),
                  ey_int(logits.stride), ey_int(h->vocab), ey_int(skip), ey_int(tile), ey_float(h->cap), ey_val(parts),
                  ey_int(segments), ey_buf(h->results));
        EY_LAUNCH(p, "head_rows", tile, 1, 1, ((ey_cost){ (uint64_t)tile * segments * PART_WORDS * 4, 0 }),
                  ey_int(h->vocab), ey_int(skip), ey_int(tile), ey_val(parts), ey_int(segments), ey_buf(h->results));
    }
    ey_plan_keep(p, logits);
    return logits;
}
