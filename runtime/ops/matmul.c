/* matmul.c - products with weight matrices: which tile, which rows, how the work is split. */
#include "op.h"

#include <limits.h>
#include <stdio.h>

/* Which rows of x go to which rows of y. */
typedef struct span {
    uint32_t count;             /* word of the batch that says how many there are */
    uint32_t skip, most;
} span;

static void product(ey_plan *p, ey_act x, const ey_matrix *w, span rows, bool add, ey_act y)
{
    const ey_quant *q = ey_quant_of(w->format);
    uint32_t block = w->blocks > 1 ? w->part_rows[0] / w->blocks : INT_MAX;
    uint32_t part = w->blocks > 1 ? w->part_rows[0] : INT_MAX;
    size_t n_tiles;
    const ey_tile *tile = ey_device_tiles(p->dev, &n_tiles);
    char kernel[40];

    /* The first that is tall enough, else the tallest: weights are read once from memory whatever the rows, and all tiles
     * give the same bits. All panels of a tile must lie in one block of the diagonal, wherever a shard begins. */
    for (; n_tiles > 1 && tile->rows < rows.most; n_tiles--) tile++;
    bool may_straddle = w->blocks > 1 && (block / EY_LANES % tile->panels || w->n_shards > 1);
    uint32_t panels = may_straddle ? 1 : tile->panels;
    snprintf(kernel, sizeof kernel, "matmul_%s_%ux%u", q->name, (unsigned)tile->rows, (unsigned)panels);

    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t n = s->rows / EY_LANES, groups = (n + panels - 1) / panels;
        uint32_t heights = (rows.most + tile->rows - 1) / tile->rows;
        /* Splitting the rows costs reading the panels again, so only where panels do not keep the cores busy. A device
         * without vectors has many work-items instead, and llvmpipe ends the loops of each after 65535 turns in all. */
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
        if (p->dev->vector == 1) split = heights;
        ey_cost cost = { (uint64_t)s->rows * w->cols * q->bits / 8 + (uint64_t)rows.most * (w->cols + s->rows) * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        EY_LAUNCH(p, kernel, groups, split, 1, cost, ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_buf(s->buffer),
                  ey_buf(w->bias), ey_int(w->cols), ey_int(n), ey_int(s->row0), ey_int(part), ey_int(block),
                  ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_int(add), ey_val(y), ey_int(y.stride),
                  ey_int(y.offset));
    }
}

ey_act ey_matmul(ey_plan *p, ey_act x, const ey_matrix *w)
{
    ey_act y = ey_plan_act(p, p->tokens, w->rows);
    product(p, x, w, (span){ EY_IMAGE_N_TOKENS, 0, p->tokens }, false, y);
    return y;
}

ey_act ey_part_of(ey_act y, const ey_matrix *w, uint32_t part)
{
    uint32_t offset = 0;
    for (uint32_t i = 0; i < part; i++) offset += w->part_rows[i];
    return ey_act_slice(y, offset, w->part_rows[part]);
}

void ey_matmul_add(ey_plan *p, ey_act x, const ey_matrix *w, ey_act y)
{
    product(p, x, w, (span){ EY_IMAGE_N_TOKENS, 0, p->tokens }, true, y);
}

void ey_matmul_wanted(ey_plan *p, ey_act x, const ey_matrix *w, uint32_t skip, uint32_t most, ey_act y)
{
    product(p, x, w, (span){ EY_IMAGE_N_WANTED, skip, most }, false, y);
}
