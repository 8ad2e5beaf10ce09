/* matmul.c - products with weight matrices: which tile, which rows, how the work is split. */
#include "op.h"

#include <limits.h>
#include <stdio.h>

/* Which rows of x go to which rows of y. */
typedef struct span {
    uint32_t count;             /* word of the batch that says how many there are */
    uint32_t skip, most;
} span;

/* Rows that the matrix unit takes at a time; panels that a work-group can have, as amx.cl has it. Where x takes more than
 * UNIT_CACHE of the second level cache (2 MiB on all CPUs with AMX), it goes UNIT_CUT tiles of columns at a time: then those
 * of two panels, 40 KiB, stay in the first level cache while the rows pass by. */
enum { UNIT_ROWS = 32, UNIT_PANELS = 8, UNIT_CACHE = 640 << 10, UNIT_CUT = 20 };

/* On the matrix unit (amx.cl): x is rounded and packed first. */
static void unit_product(ey_plan *p, ey_act x, const ey_matrix *w, span rows, bool add, ey_act y)
{
    uint32_t block = w->blocks > 1 ? w->part_rows[0] / w->blocks : INT_MAX;
    uint32_t part = w->blocks > 1 ? w->part_rows[0] : INT_MAX;
    uint32_t tiles = (w->cols + 31) / 32, heights = (rows.most + UNIT_ROWS - 1) / UNIT_ROWS;
    ey_act packed = ey_plan_act(p, (uint64_t)heights * UNIT_ROWS, w->blocks * tiles * 16);      /* 32 columns are 16 floats */
    uint64_t n = (uint64_t)rows.most * w->blocks * w->cols;

    EY_LAUNCH(p, "pack_amx", rows.most, 1, 1, ((ey_cost){ 6 * n, n }), ey_val(x), ey_int(x.stride), ey_int(x.offset),
              ey_int(w->cols), ey_int(w->blocks), ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_val(packed));

    bool may_straddle = w->blocks > 1 && (block / EY_LANES % 2 || w->n_shards > 1);
    uint32_t at_once = may_straddle ? 1 : 2;
    uint32_t cuts = (uint64_t)heights * tiles * 2048 > UNIT_CACHE ? (tiles + UNIT_CUT - 1) / UNIT_CUT : 1;
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t panels = s->rows / EY_LANES, share = (panels + 4 * p->dev->units - 1) / (4 * p->dev->units);
        uint32_t per_group = (uint32_t)ey_min((share + at_once - 1) / at_once * at_once, UNIT_PANELS / 2 * at_once);
        uint32_t groups = (panels + per_group - 1) / per_group;
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
        ey_cost cost = { (uint64_t)s->rows * w->cols * 2 + n * 2 + (uint64_t)rows.most * s->rows * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        EY_LAUNCH(p, "matmul_bf16_amx", groups, split, 1, cost, ey_val(packed), ey_buf(s->buffer), ey_buf(w->bias),
                  ey_int(w->cols), ey_int(panels), ey_int(s->row0), ey_int(part), ey_int(block), ey_int(w->blocks),
                  ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_int(add), ey_int(at_once),
                  ey_int(per_group), ey_int((tiles + cuts - 1) / cuts), ey_val(y), ey_int(y.stride), ey_int(y.offset));
    }
}

static void product(ey_plan *p, ey_act x, const ey_matrix *w, span rows, bool add, ey_act y)
{
    const ey_quant *q = ey_quant_of(w->format);
    uint32_t block = w->blocks > 1 ? w->part_rows[0] / w->blocks : INT_MAX;
    uint32_t part = w->blocks > 1 ? w->part_rows[0] : INT_MAX;
    size_t n_tiles;
    const ey_tile *tile = ey_device_tiles(p->dev, &n_tiles);
    char kernel[40];

    if (p->phase == EY_PREFILL && ey_program_has_unit(p->program, w->format)) {
        unit_product(p, x, w, rows, add, y);
        return;
    }
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
        /* Splitting the rows costs reading the panels again, so only where panels do not keep the cores busy. */
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
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
