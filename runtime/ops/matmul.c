/* matmul.c - products with weight matrices: which tile, which rows, how the work is split, what the product does besides. */
#include "op.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Which rows of x go to which rows of y. */
typedef struct span {
    uint32_t count;             /* word of the batch that says how many there are */
    uint32_t skip, most;
} span;

/* What becomes of the sums (matmul.cl), and what that needs. */
typedef struct finish {
    const char *kernel;
    bool        add;
    uint32_t    panels;         /* that its tiles have; 0 = any number */
    uint32_t    n_args;
    ey_arg      args[7];
} finish;

static bool few_rows(const ey_plan *p) { return p->dev->cpu && p->phase == EY_DECODE && p->rows <= EY_FEW_ROWS; }

/* The first tile that is tall enough, else the tallest: weights are read once from memory whatever the rows, and all tiles
 * give the same bits. The panels of a tile must lie in one block of the diagonal, which may have no more than two. */
static ey_tile choose_tile(const eyrie_device *dev, const ey_matrix *w, const finish *f, uint32_t rows)
{
    size_t n;
    const ey_tile *tile = ey_device_tiles(dev, &n);

    for (; n > 1 && (tile->rows < rows || (w->blocks > 1 && !f->panels && tile->panels > 2)); n--) tile++;
    return (ey_tile){ tile->rows, f->panels ? f->panels : tile->panels };
}

/* On GPUs: by the first tile of the phase that is tall enough, else the tallest; all of a phase give the same bits. */
static void gpu_product(ey_plan *p, ey_act x, const ey_matrix *w, span rows, const finish *f, ey_act y)
{
    const ey_quant *q = ey_quant_of(w->format);
    size_t n_tiles;
    const ey_tile *tile = ey_gpu_tiles(p->phase == EY_DECODE, &n_tiles);
    bool geglu = strcmp(f->kernel, "matmul_geglu") == 0;
    uint32_t panels;
    char kernel[40];

    for (; n_tiles > 1 && tile->rows < rows.most; n_tiles--) tile++;
    panels = geglu || w->blocks == 1 ? tile->panels : 2;    /* all in one block of the diagonal */
    if (p->phase == EY_DECODE) panels = geglu ? 2 : 1;
    snprintf(kernel, sizeof kernel, "gpu_%s%s_%s_%ux%u", p->phase == EY_DECODE ? "gemv" : "matmul", geglu ? "_geglu" : "",
             q->name, (unsigned)tile->rows, (unsigned)panels);
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t n = s->rows / EY_LANES;
        ey_cost cost = { (uint64_t)s->rows * w->cols * q->bits / 8 + (uint64_t)rows.most * (w->cols + s->rows) * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        EY_LAUNCH_GROUPS(p, kernel, 256, (n + panels - 1) / panels, (rows.most + tile->rows - 1) / tile->rows, 1, cost,
                         ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_buf(s->buffer), ey_buf(w->bias), ey_int(w->cols),
                         ey_int(n), ey_int(s->row0), ey_int(w->blocks > 1 ? w->rows / w->blocks : INT_MAX),
                         ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_int(f->add), ey_val(y),
                         ey_int(y.stride), ey_int(y.offset));
    }
}

static void product(ey_plan *p, ey_act x, const ey_matrix *w, span rows, const finish *f, ey_act y)
{
    if (!p->dev->cpu) {
        gpu_product(p, x, w, rows, f, y);
        return;
    }
    const ey_quant *q = ey_quant_of(w->format);
    const ey_tile tile = choose_tile(p->dev, w, f, rows.most);
    char kernel[40];

    assert(!x.norm.scale || tile.rows <= EY_FEW_ROWS);
    snprintf(kernel, sizeof kernel, "%s_%s_%ux%u", f->kernel, q->name, (unsigned)tile.rows, (unsigned)tile.panels);
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t n = s->rows / EY_LANES, groups = (n + tile.panels - 1) / tile.panels;
        uint32_t heights = (rows.most + tile.rows - 1) / tile.rows;
        /* Splitting the rows costs reading the panels again, so only where panels do not keep the cores busy. */
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
        ey_cost cost = { (uint64_t)s->rows * w->cols * q->bits / 8 + (uint64_t)rows.most * (w->cols + s->rows) * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        const ey_arg common[] = {
            ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_buf(x.norm.scale ? x.norm.scale : w->bias),
            ey_int(x.norm.width), ey_float(x.norm.eps), ey_buf(s->buffer), ey_buf(w->bias), ey_int(w->cols), ey_int(n),
            ey_int(s->row0), ey_int(w->blocks > 1 ? w->rows / w->blocks : INT_MAX), ey_int(rows.count), ey_int(rows.skip),
            ey_int(rows.most), ey_int(f->add), ey_val(y), ey_int(y.stride), ey_int(y.offset) };
        ey_arg args[sizeof common / sizeof *common + sizeof f->args / sizeof *f->args];
        uint32_t n_common = sizeof common / sizeof *common;

        memcpy(args, common, sizeof common);
        memcpy(args + n_common, f->args, f->n_args * sizeof *f->args);
        ey_plan_launch(p, kernel, groups, split, 1, cost, args, n_common + f->n_args);
    }
}

static const finish plain = { .kernel = "matmul" };

static span all_tokens(const ey_plan *p) { return (span){ EY_IMAGE_N_TOKENS, 0, p->tokens }; }

ey_act ey_matmul(ey_plan *p, ey_act x, const ey_matrix *w)
{
    ey_act y = ey_plan_act(p, p->tokens, w->rows);
    product(p, x, w, all_tokens(p), &plain, y);
    return y;
}

ey_act ey_part_of(ey_act y, const ey_matrix *w, uint32_t part)
{
    uint32_t offset = 0;
    assert(!w->paired);
    for (uint32_t i = 0; i < part; i++) offset += w->part_rows[i];
    return ey_act_slice(y, offset, w->part_rows[part]);
}

void ey_matmul_add(ey_plan *p, ey_act x, const ey_matrix *w, ey_act y)
{
    product(p, x, w, all_tokens(p), &(finish){ .kernel = "matmul", .add = true }, y);
}

void ey_matmul_wanted(ey_plan *p, ey_act x, const ey_matrix *w, uint32_t skip, uint32_t most, ey_act y)
{
    product(p, x, w, (span){ EY_IMAGE_N_WANTED, skip, most }, &plain, y);
}

ey_act ey_matmul_geglu(ey_plan *p, ey_act x, const ey_matrix *w)
{
    ey_act y = ey_plan_act(p, p->tokens, w->rows / 2);
    assert(w->paired);
    product(p, x, w, all_tokens(p), &(finish){ .kernel = "matmul_geglu" }, y);
    return y;
}

void ey_matmul_conv1d(ey_plan *p, ey_act x, const ey_matrix *w, const ey_conv *c, ey_act *v, ey_act *y)
{
    const finish convolve = { "matmul_conv1d", false, 0, 6, {
        ey_buf(c->w), ey_buf(c->bias), ey_int(c->taps), ey_int(w->part_rows[0]), ey_buf(c->state->buffer),
        ey_int(c->state->bytes / sizeof(float)) } };
    ey_act both = ey_plan_act(p, p->tokens, w->rows);

    product(p, x, w, all_tokens(p), few_rows(p) ? &convolve : &plain, both);
    *v = ey_part_of(both, w, 0);
    *y = ey_part_of(both, w, 1);
    if (!few_rows(p)) *v = ey_conv1d(p, *v, c);
}

ey_act ey_matmul_rglru(ey_plan *p, const ey_matrix *gates, const ey_recurrence *r)
{
    const finish recur = { "matmul_rglru", false, 2, 7, {
        ey_val(r->y), ey_int(r->y.stride), ey_int(r->y.offset), ey_buf(r->decay), ey_buf(r->state->buffer),
        ey_int(r->state->bytes / sizeof(float)), ey_int(r->h_offset) } };

    if (!few_rows(p)) return ey_rglru(p, ey_matmul(p, r->v, gates), r);
    ey_act h = ey_plan_act(p, p->tokens, r->v.width);
    product(p, r->v, gates, all_tokens(p), &recur, h);
    return h;
}
