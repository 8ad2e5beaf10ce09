/* matmul.c - products with weight matrices: which tile, which rows, how the work is split, what the product does besides. */
#include "clblast.h"
#include "tiles.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* What becomes of the sums (matmul.cl), and what that needs. */
typedef struct finish {
    const char *kernel;
    bool        add, gated;     /* to what is there; by pairs, through gelu */
    uint32_t    panels;         /* that its tiles have; 0 = any number */
    uint32_t    n_args;
    ey_arg      args[7];
} finish;

static bool few_rows(const ey_plan *p) { return p->dev->cpu && p->phase == EY_DECODE && p->rows <= EY_FEW_ROWS; }

/* Words of a group of whole numbers, as prelude.cl has it. */
enum { GROUP_WORDS = 12 };

static uint32_t group_words(const ey_matrix *w) { return (w->cols + EY_GROUP - 1) / EY_GROUP * GROUP_WORDS; }

/* Bytes of local memory for what a tile makes of x before it multiplies: whole numbers, or x normalised. */
static uint64_t made_bytes(ey_tile tile, const ey_matrix *w, bool int8, bool normed)
{
    uint64_t words = int8 ? group_words(w) : normed ? w->cols : 0;
    return tile.rows <= EY_FEW_ROWS ? tile.rows * words * sizeof(float) : 0;
}

/* The panels of a tile must lie in one block of the diagonal, which may have no more than two. Products that go on with
 * their results are there for few rows only. */
static bool can_have(const eyrie_device *dev, ey_tile tile, const ey_matrix *w, const finish *f, bool int8)
{
    return !(w->blocks > 1 && !f->panels && tile.panels > 2) && !(f->n_args && tile.rows > EY_FEW_ROWS)
        && made_bytes(tile, w, int8, false) <= dev->local_bytes;
}

/* Without measurements: the first tile that is tall enough, since weights are read once from memory whatever the rows; else
 * the tallest, unless two of the one below it are enough, which compute fewer rows for nothing. */
static const ey_tile *built_in_tile(const eyrie_device *dev, const ey_matrix *w, const finish *f, bool int8, uint32_t rows)
{
    size_t n, i = 0;
    const ey_tile *tiles = ey_device_tiles(dev, &n);

    while (i + 1 < n && (tiles[i].rows < rows || !can_have(dev, tiles[i], w, f, int8))) i++;
    if (i > 0 && tiles[i].rows < rows && 2 * tiles[i - 1].rows >= rows && can_have(dev, tiles[i - 1], w, f, int8)) i--;
    while (i > 0 && !can_have(dev, tiles[i], w, f, int8)) i--;
    return &tiles[i];
}

/* What was measured on this device, if it was (tiles.h). All tiles give the same bits. */
static ey_tile choose_tile(const eyrie_device *dev, const ey_matrix *w, const finish *f, bool int8, uint32_t rows, bool normed)
{
    ey_product what = { .format = w->format, .rows = w->rows, .cols = w->cols, .blocks = w->blocks, .normed = normed, .tokens = 1 };
    const ey_tile *tile = built_in_tile(dev, w, f, int8, rows);
    const ey_tuned *tuned;

    snprintf(what.kernel, sizeof what.kernel, "%s%s", f->kernel, int8 ? "_int8" : "");
    while (what.tokens < rows) what.tokens *= 2;
    if (dev->tuning && dev->tuning->asked) dev->tuning->asked(dev->tuning->user, &what);
    if ((tuned = ey_tuning_find(dev->tuning, &what)) != NULL && can_have(dev, tuned->tile, w, f, int8)) tile = &tuned->tile;
    return (ey_tile){ tile->rows, f->panels ? f->panels : tile->panels };
}

/* On GPUs: by the first tile of the phase that is tall enough, else the tallest; all of a phase give the same bits. */
static void gpu_product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, const finish *f, ey_act y)
{
    const ey_quant *q = ey_quant_of(w->format);
    size_t n_tiles;
    const ey_tile *tile = ey_gpu_tiles(p->phase == EY_DECODE, &n_tiles);
    uint32_t panels;
    char kernel[40];

    if (x.norm.scale) x = ey_normalise(p, x, false);
    for (; n_tiles > 1 && tile->rows < rows.most; n_tiles--) tile++;
    panels = f->gated || w->blocks == 1 ? tile->panels : 2;    /* all in one block of the diagonal */
    if (p->phase == EY_DECODE) panels = f->gated ? 2 : 1;
    snprintf(kernel, sizeof kernel, "gpu_%s%s_%s_%ux%u", p->phase == EY_DECODE ? "gemv" : "matmul", f->gated ? "_geglu" : "",
             q->name, (unsigned)tile->rows, (unsigned)panels);
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t n = s->rows / EY_LANES;
        ey_cost cost = { n * ey_quant_panel_bytes(q, w->cols) + (uint64_t)rows.most * (w->cols + s->rows) * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        EY_LAUNCH_GROUPS(p, kernel, 256, (n + panels - 1) / panels, (rows.most + tile->rows - 1) / tile->rows, 1, cost,
                         ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_buf(s->buffer), ey_buf(w->bias), ey_int(w->cols),
                         ey_int(n), ey_int(s->row0), ey_int(w->blocks > 1 ? w->rows / w->blocks : INT_MAX),
                         ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_int(f->add), ey_val(y),
                         ey_int(y.stride), ey_int(y.offset));
    }
}

/* x in whole numbers of 8 bits (int8.cl), normalised if need be, for products of many rows. */
static ey_act quantise(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows)
{
    ey_act packed = ey_plan_act(p, rows.most, ey_pad(w->blocks * group_words(w)));
    uint64_t n = (uint64_t)rows.most * w->blocks * w->cols;
    char kernel[40];

    snprintf(kernel, sizeof kernel, "quantise_%s", ey_quant_of(w->format)->name);
    EY_LAUNCH(p, kernel, rows.most, 1, 1, ((ey_cost){ 5 * n, 2 * n }), ey_val(x), ey_int(x.stride), ey_int(x.offset),
              ey_buf(x.norm.scale ? x.norm.scale : w->bias), ey_int(x.norm.width), ey_float(x.norm.eps), ey_int(w->cols),
              ey_int(w->blocks), ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_val(packed), ey_int(packed.stride));
    return packed;
}

/* Tiles that a work-item goes through: many, so that what it makes of x first hardly counts, yet as many work-items for each unit
 * as let all end together. */
static uint32_t turns_of(const eyrie_device *dev, uint32_t tiles)
{
    enum { MOST = 16, A_UNIT = 4 };
    uint32_t step = A_UNIT * dev->units, items = ((tiles + MOST - 1) / MOST + step - 1) / step * step;
    return (tiles + items - 1) / items;
}

static void product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, const finish *f, ey_act y)
{
    if (ey_clblast_takes(p, w, rows)) {
        ey_clblast_product(p, x, w, rows, f->add, f->gated, y);
        return;
    }
    if (!p->dev->cpu) {
        gpu_product(p, x, w, rows, f, y);
        return;
    }
    const ey_quant *q = ey_quant_of(w->format);
    bool int8 = ey_program_has_int8(p->program, w->format);
    char kernel[40];
    ey_tile tile;

    if (ey_unit_takes(p, w)) {
        ey_unit_product(p, x, w, rows, f->add, f->gated, y);
        return;
    }
    assert(!x.packed);
    tile = choose_tile(p->dev, w, f, int8, rows.most, x.norm.scale != NULL);
    if (int8 && tile.rows > EY_FEW_ROWS) x = quantise(p, x, w, rows);
    else if (x.norm.scale && (tile.rows > EY_FEW_ROWS || made_bytes(tile, w, int8, true) > p->dev->local_bytes))
        x = ey_normalise(p, x, false);
    snprintf(kernel, sizeof kernel, "%s%s_%s_%ux%u", f->kernel, int8 ? "_int8" : "", q->name, (unsigned)tile.rows,
             (unsigned)tile.panels);
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t n = s->rows / EY_LANES, groups = (n + tile.panels - 1) / tile.panels;
        uint64_t made = made_bytes(tile, w, int8, x.norm.scale != NULL);
        uint32_t turns = made && w->blocks == 1 && rows.most <= tile.rows && p->dev->vector > 1 ? turns_of(p->dev, groups) : 1;
        uint32_t heights = (rows.most + tile.rows - 1) / tile.rows;
        /* Splitting the rows costs reading the panels again, so only where panels do not keep the cores busy. A device
         * without vectors has many work-items instead, and llvmpipe ends the loops of each after 65535 turns in all. */
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
        if (p->dev->vector == 1) split = heights;
        ey_cost cost = { n * ey_quant_panel_bytes(q, w->cols) + (uint64_t)rows.most * (w->cols + s->rows) * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        const ey_arg common[] = {
            ey_val(x), ey_int(x.stride), ey_int(x.offset), ey_buf(x.norm.scale ? x.norm.scale : w->bias),
            ey_int(x.norm.width), ey_float(x.norm.eps), ey_buf(s->buffer), ey_buf(w->bias), ey_int(w->cols), ey_int(n),
            ey_int(s->row0), ey_int(w->blocks > 1 ? w->rows / w->blocks : INT_MAX), ey_int(rows.count), ey_int(rows.skip),
            ey_int(rows.most), ey_int(f->add), ey_val(y), ey_int(y.stride), ey_int(y.offset), ey_int(turns),
            ey_local(ey_max(made, sizeof(float))) };
        ey_arg args[sizeof common / sizeof *common + sizeof f->args / sizeof *f->args];
        uint32_t n_common = sizeof common / sizeof *common;

        memcpy(args, common, sizeof common);
        memcpy(args + n_common, f->args, f->n_args * sizeof *f->args);
        ey_plan_launch(p, kernel, (groups + turns - 1) / turns, split, 1, cost, args, n_common + f->n_args);
    }
}

static const finish plain = { .kernel = "matmul" };

static ey_span all_tokens(const ey_plan *p) { return (ey_span){ EY_IMAGE_N_TOKENS, 0, p->tokens }; }

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
    product(p, x, w, (ey_span){ EY_IMAGE_N_WANTED, skip, most }, &plain, y);
}

ey_act ey_matmul_geglu(ey_plan *p, ey_act x, const ey_matrix *w, const ey_matrix *reader)
{
    ey_act y = ey_act_for(p, w->rows / 2, reader);
    assert(w->paired);
    product(p, x, w, all_tokens(p), &(finish){ .kernel = "matmul_geglu", .gated = true }, y);
    return y;
}

void ey_matmul_conv1d(ey_plan *p, ey_act x, const ey_matrix *w, const ey_conv *c, ey_act *v, ey_act *y)
{
    const finish convolve = { .kernel = "matmul_conv1d", .n_args = 6, .args = {
        ey_buf(c->w), ey_buf(c->bias), ey_int(c->taps), ey_int(w->part_rows[0]), ey_buf(c->state->buffer),
        ey_int(c->state->stride / sizeof(float)) } };
    ey_act both = ey_plan_act(p, p->tokens, w->rows);

    product(p, x, w, all_tokens(p), few_rows(p) ? &convolve : &plain, both);
    *v = ey_part_of(both, w, 0);
    *y = ey_part_of(both, w, 1);
    if (!few_rows(p)) *v = ey_conv1d(p, *v, c);
}

ey_act ey_matmul_recurrent(ey_plan *p, ey_act x, const ey_matrix *w, const ey_conv *c, const ey_matrix *gates, ey_recurrence r)
{
    if (ey_unit_recurs(p, gates)) {
        ey_act both = ey_matmul(p, x, w);
        r.y = ey_part_of(both, w, 1);
        return ey_unit_recurrence(p, ey_part_of(both, w, 0), c, gates, &r);
    }
    ey_matmul_conv1d(p, x, w, c, &r.v, &r.y);
    return ey_matmul_rglru(p, gates, &r);
}

ey_act ey_matmul_rglru(ey_plan *p, const ey_matrix *gates, const ey_recurrence *r)
{
    const finish recur = { .kernel = "matmul_rglru", .panels = 2, .n_args = 7, .args = {
        ey_val(r->y), ey_int(r->y.stride), ey_int(r->y.offset), ey_buf(r->decay), ey_buf(r->state->buffer),
        ey_int(r->state->stride / sizeof(float)), ey_int(r->h_offset) } };

    if (!few_rows(p)) return ey_rglru(p, ey_matmul(p, r->v, gates), r);
    ey_act h = ey_plan_act(p, p->tokens, r->v.width);
    product(p, r->v, gates, all_tokens(p), &recur, h);
    return h;
}
