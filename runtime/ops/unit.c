/* unit.c - products on the CPU's matrix unit, and the layout of what they read. */
#include "unit.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>

/* Rows that the matrix unit takes at a time; panels that a work-group can have, as amx.cl has it. Where x takes more than
 * UNIT_CACHE of the second level cache (2 MiB on all CPUs with AMX), it goes UNIT_CUT tiles of columns at a time: then those
 * of two panels, 40 KiB, stay in the first level cache while the rows pass by; q8 and q4 are widened as many at a time. */
enum { UNIT_ROWS = 32, UNIT_PANELS = 8, UNIT_CACHE = 640 << 10, UNIT_CUT = 20 };

/* Rows of decode from which the unit is faster than the base where it may be used: with bf16 it reads weights at the memory's
 * pace whatever the rows, but q8 and q4 take their time to be widened. */
static uint32_t many_rows(const ey_matrix *w) { return ey_quant_of(w->format)->scaled ? 16 : EY_FEW_ROWS + 1; }

/* New memory for so many rows of `width` columns in each of `blocks`, packed: 32 columns are 16 floats. */
static ey_act packed_act(ey_plan *p, uint32_t rows, uint32_t blocks, uint32_t width)
{
    uint64_t all = ((uint64_t)rows + UNIT_ROWS - 1) / UNIT_ROWS * UNIT_ROWS;
    ey_act a = ey_plan_act(p, all, blocks * ((width + 31) / 32) * 16);

    a.width = width;
    a.packed = true;
    return a;
}

bool ey_unit_takes(const ey_plan *p, const ey_matrix *w)
{
    bool decode = ey_program_has_unit_decode(p->program) && p->rows >= many_rows(w);
    return (p->phase == EY_PREFILL || decode) && ey_program_has_unit(p->program, w->format);
}

ey_act ey_act_for(ey_plan *p, uint32_t width, const ey_matrix *reader)
{
    return reader && ey_unit_takes(p, reader) ? packed_act(p, p->tokens, 1, width) : ey_plan_act(p, p->tokens, width);
}

ey_arg ey_tiles_of(ey_act a) { return ey_int(a.packed ? (a.width + 31) / 32 : 0); }

/* Rounds x for the matrix unit and lays it out, normalised if need be. */
static ey_act pack(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows)
{
    ey_act packed = packed_act(p, rows.most, w->blocks, w->cols);
    uint64_t n = (uint64_t)rows.most * w->blocks * w->cols;

    EY_LAUNCH(p, "pack_amx", rows.most, 1, 1, ((ey_cost){ 6 * n, n }), ey_val(x), ey_int(x.stride), ey_int(x.offset),
              ey_buf(x.norm.scale ? x.norm.scale : w->bias), ey_int(x.norm.width), ey_float(x.norm.eps), ey_int(w->cols),
              ey_int(w->blocks), ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_val(packed));
    return packed;
}

/* On the matrix unit (amx.cl): x is rounded and packed first, if it is not yet. */
void ey_unit_product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, bool add, bool gated, ey_act y)
{
    uint32_t tiles = (w->cols + 31) / 32, heights = (rows.most + UNIT_ROWS - 1) / UNIT_ROWS;
    uint64_t n = (uint64_t)rows.most * w->blocks * w->cols;
    ey_act packed = x.packed ? x : pack(p, x, w, rows);
    const ey_quant *q = ey_quant_of(w->format);
    bool cut = q->scaled || (uint64_t)heights * tiles * 2048 > UNIT_CACHE;
    uint32_t cuts = cut ? (tiles + UNIT_CUT - 1) / UNIT_CUT : 1;
    char kernel[40];

    snprintf(kernel, sizeof kernel, "matmul_%s_amx", q->name);
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        uint32_t panels = s->rows / EY_LANES, share = (panels + 4 * p->dev->units - 1) / (4 * p->dev->units);
        uint32_t per_group = (uint32_t)ey_min((share + 1) / 2 * 2, UNIT_PANELS);
        uint32_t groups = (panels + per_group - 1) / per_group;
        uint64_t split = ey_min(heights, (2 * (uint64_t)p->dev->units + groups - 1) / groups);
        ey_cost cost = { panels * ey_quant_panel_bytes(q, w->cols) + n * 2 + (uint64_t)rows.most * s->rows * 4,
                         2 * (uint64_t)rows.most * s->rows * w->cols };
        EY_LAUNCH(p, kernel, groups, split, 1, cost, ey_val(packed), ey_buf(s->buffer), ey_buf(w->bias),
                  ey_int(w->cols), ey_int(panels), ey_int(s->row0), ey_int(w->blocks > 1 ? w->rows / w->blocks : INT_MAX),
                  ey_int(w->blocks), ey_int(rows.count), ey_int(rows.skip), ey_int(rows.most), ey_int(add),
                  ey_int(gated), ey_int(w->rows / 2), ey_int(per_group), ey_int((tiles + cuts - 1) / cuts), ey_val(y),
                  ey_tiles_of(y), ey_int(y.stride), ey_int(y.offset));
    }
}

enum { UNIT_BLOCK = 256 };          /* most columns of a block of the gates, as in recurrence_amx.cl */

/* A block is one group's. If a quarter of the cores' time were spent waiting for the last of them, launches of smaller groups
 * are better. */
bool ey_unit_recurs(const ey_plan *p, const ey_matrix *gates)
{
    uint32_t units = p->dev->units, turns = (gates->blocks + units - 1) / units;

    return p->phase == EY_PREFILL && ey_unit_takes(p, gates) && gates->n_shards == 1 && gates->cols % 32 == 0
           && gates->cols <= UNIT_BLOCK && 4 * gates->blocks >= 3 * turns * units;
}

ey_act ey_unit_recurrence(ey_plan *p, ey_act u, const ey_conv *c, const ey_matrix *gates, const ey_recurrence *r)
{
    ey_act out = ey_act_for(p, u.width, r->reader);
    uint64_t n = (uint64_t)p->tokens * u.width, weights = (uint64_t)gates->rows * gates->cols;
    ey_cost cost = { 10 * n + weights * ey_quant_of(gates->format)->bits / 8, n * (4ull * gates->cols + 2 * c->taps + 33) };
    char kernel[40];

    assert(u.value == r->y.value && c->state == r->state);
    snprintf(kernel, sizeof kernel, "recurrence_%s_amx", ey_quant_of(gates->format)->name);
    EY_LAUNCH(p, kernel, gates->blocks, p->rows, 1, cost, ey_val(u), ey_int(u.stride), ey_int(u.offset), ey_int(r->y.offset),
              ey_buf(c->w), ey_buf(c->bias), ey_int(c->taps), ey_int(u.width), ey_buf(gates->shards[0].buffer),
              ey_buf(gates->bias), ey_int(gates->cols), ey_buf(r->decay), ey_buf(r->state->buffer),
              ey_int(r->state->stride / sizeof(float)), ey_int(r->h_offset), ey_val(out), ey_tiles_of(out), ey_int(out.stride));
    return out;
}
