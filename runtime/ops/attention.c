/* attention.c - attention on the ring: prefill rotates, stages, attends, stores; decode does most of it at
 * once, in splits, and combines them. */
#include "op.h"

#include <assert.h>

enum { SPLIT = 4,                               /* as in attention.cl and gpu_attention.cl */
       QUERIES = 16,                            /* of a tile; as in gpu_attention.cl */
       UNIT_QUERIES = 128, UNIT_MOST_D = 256 }; /* as in amx.cl */

static uint64_t unit_bytes(uint32_t d, eyrie_format kv) { return 2ull * EY_BLOCK * d * (kv == EYRIE_FORMAT_F32 ? 4 : 2); }

uint64_t ey_attention_state_bytes(uint32_t ring_blocks, uint32_t kv_heads, uint32_t d, eyrie_format kv)
{
    return ring_blocks * kv_heads * unit_bytes(d, kv);
}

uint64_t ey_attention_turns(uint64_t blocks, uint32_t group, uint32_t d)
{
    uint64_t scores = 4ull * d, values = (uint64_t)EY_BLOCK * (d / EY_LANES), softmax = 32;
    return blocks * group * (scores + values + softmax);
}

/* Bytes and FLOPs of n queries that see a full window. */
static ey_cost window_cost(const ey_attention *a, uint64_t n, uint64_t reads)
{
    uint64_t seen = a->window + 1;
    return (ey_cost){ reads * seen * a->kv_heads * unit_bytes(a->d, a->kv) / EY_BLOCK, 4 * n * a->heads * seen * a->d };
}

/* Queries and keys, which are neighbours. */
static ey_act turning(const ey_attention *a)
{
    ey_act both = a->q;
    assert(a->k.offset == a->q.offset + a->q.width);
    both.width += a->k.width;
    return both;
}

/* From one slot's ring to the next. */
static uint32_t slot_units(const ey_attention *a) { return (uint32_t)(a->state->stride / unit_bytes(a->d, a->kv)); }

static ey_act prefill(ey_plan *p, const ey_attention *a)
{
    uint32_t units = slot_units(a);
    uint64_t staged_bytes = (uint64_t)p->blocks * a->kv_heads * unit_bytes(a->d, a->kv);
    ey_act staged = ey_plan_act(p, staged_bytes / sizeof(float) / EY_LANES, EY_LANES);   /* raw memory of the ring's type */
    bool unit = ey_program_has_unit(p->program, EYRIE_FORMAT_BF16) && a->d <= UNIT_MOST_D;
    ey_act out = unit ? ey_act_for(p, a->heads * a->d, a->reader) : ey_plan_act(p, p->tokens, a->heads * a->d);

    ey_rope(p, turning(a), a->heads + a->kv_heads, a->d, a->rotary);
    EY_LAUNCH(p, "attention_stage", p->blocks, a->kv_heads, 1, ((ey_cost){ 2 * staged_bytes, 0 }), ey_val(a->k),
              ey_int(a->k.stride), ey_int(a->k.offset), ey_int(a->v.offset), ey_int(a->d), ey_int(a->kv_heads),
              ey_buf(a->state->buffer), ey_int(units), ey_val(staged));
    if (unit) {
        uint32_t each = UNIT_QUERIES / (a->heads / a->kv_heads), groups = (p->tokens + each - 1) / each;
        ey_act accs = ey_plan_act(p, (uint64_t)groups * a->kv_heads * UNIT_QUERIES, a->d);
        EY_LAUNCH(p, "attention_prefill_amx", groups, a->kv_heads, 1, window_cost(a, p->tokens, groups), ey_val(a->q),
                  ey_int(a->q.stride), ey_int(a->q.offset), ey_int(a->d), ey_int(a->heads / a->kv_heads),
                  ey_int(a->kv_heads), ey_int(a->window), ey_float(a->scale), ey_buf(a->state->buffer),
                  ey_int(a->ring_blocks), ey_int(units), ey_val(staged), ey_val(accs), ey_val(out), ey_tiles_of(out),
                  ey_int(out.stride));
    } else {
        EY_LAUNCH(p, "attention_prefill", p->tokens, a->kv_heads, 1, window_cost(a, p->tokens, p->blocks), ey_val(a->q),
                  ey_int(a->q.stride), ey_int(a->q.offset), ey_int(a->d), ey_int(a->heads / a->kv_heads),
                  ey_int(a->kv_heads), ey_int(a->window), ey_float(a->scale), ey_buf(a->state->buffer),
                  ey_int(a->ring_blocks), ey_int(units), ey_val(staged), ey_val(out), ey_int(out.stride));
    }
    EY_LAUNCH(p, "attention_store", p->blocks, a->kv_heads, 1, ((ey_cost){ 2 * staged_bytes, 0 }), ey_int(a->d),
              ey_int(a->kv_heads), ey_val(staged), ey_buf(a->state->buffer), ey_int(a->ring_blocks), ey_int(units));
    return out;
}

static ey_act decode(ey_plan *p, const ey_attention *a)
{
    uint32_t units = slot_units(a);
    uint32_t splits = (a->ring_blocks + 1 + SPLIT - 1) / SPLIT;     /* a window touches a block more than the ring has */
    ey_act parts = ey_plan_act(p, (uint64_t)p->rows * a->heads * splits, EY_LANES + 2 * a->d);
    ey_act out = ey_plan_act(p, p->tokens, a->heads * a->d);
    uint64_t parts_bytes = (uint64_t)p->rows * a->heads * splits * parts.stride * sizeof(float);

    EY_LAUNCH(p, "attention_decode", splits, a->kv_heads, p->rows, window_cost(a, p->rows, p->rows), ey_val(a->q),
              ey_int(a->q.stride), ey_int(a->q.offset), ey_int(a->k.offset), ey_int(a->v.offset), ey_int(a->rotary),
              ey_int(a->d), ey_int(a->heads / a->kv_heads), ey_int(a->kv_heads), ey_int(a->window), ey_float(a->scale),
              ey_buf(a->state->buffer), ey_int(a->ring_blocks), ey_int(units), ey_val(parts), ey_int(splits));
    EY_LAUNCH(p, "attention_combine", a->heads, p->rows, 1, ((ey_cost){ 2 * parts_bytes, parts_bytes / 2 }), ey_val(parts),
              ey_int(splits), ey_int(a->d), ey_int(a->heads), ey_int(a->window), ey_val(out), ey_int(out.stride));
    return out;
}

static ey_act gpu_prefill(ey_plan *p, const ey_attention *a)
{
    uint32_t units = slot_units(a), group = a->heads / a->kv_heads;
    uint64_t staged_bytes = (uint64_t)p->blocks * a->kv_heads * unit_bytes(a->d, a->kv);
    ey_act staged = ey_plan_act(p, staged_bytes / sizeof(float) / EY_LANES, EY_LANES);   /* raw memory of the ring's type */
    ey_act out = ey_plan_act(p, p->tokens, a->heads * a->d);

    ey_rope(p, turning(a), a->heads + a->kv_heads, a->d, a->rotary);
    EY_LAUNCH_GROUPS(p, "gpu_attention_stage", 256, p->blocks, a->kv_heads, a->d / EY_LANES, ((ey_cost){ 2 * staged_bytes, 0 }),
                     ey_val(a->k), ey_int(a->k.stride), ey_int(a->k.offset), ey_int(a->v.offset), ey_int(a->d),
                     ey_int(a->kv_heads), ey_buf(a->state->buffer), ey_int(units), ey_val(staged));
    EY_LAUNCH_GROUPS(p, "gpu_attention_prefill", 256, p->blocks, a->kv_heads, EY_BLOCK * group / QUERIES,
                     window_cost(a, p->tokens, p->blocks), ey_val(a->q), ey_int(a->q.stride), ey_int(a->q.offset), ey_int(a->d),
                     ey_int(group), ey_int(a->kv_heads), ey_int(a->window), ey_float(a->scale), ey_buf(a->state->buffer),
                     ey_int(a->ring_blocks), ey_int(units), ey_val(staged), ey_val(out), ey_int(out.stride));
    EY_LAUNCH_GROUPS(p, "gpu_attention_store", 256, p->blocks, a->kv_heads, a->d / EY_LANES, ((ey_cost){ 2 * staged_bytes, 0 }),
                     ey_int(a->d), ey_int(a->kv_heads), ey_val(staged), ey_buf(a->state->buffer), ey_int(a->ring_blocks),
                     ey_int(units));
    return out;
}

static ey_act gpu_decode(ey_plan *p, const ey_attention *a)
{
    uint32_t units = slot_units(a), group = a->heads / a->kv_heads;
    uint32_t splits = (a->ring_blocks + 1 + SPLIT - 1) / SPLIT;     /* a window touches a block more than the ring has */
    ey_act parts = ey_plan_act(p, (uint64_t)p->rows * a->heads * splits, EY_LANES + a->d);
    ey_act out = ey_plan_act(p, p->tokens, a->heads * a->d);
    uint64_t parts_bytes = (uint64_t)p->rows * a->heads * splits * parts.stride * sizeof(float);

    ey_rope(p, turning(a), a->heads + a->kv_heads, a->d, a->rotary);
    EY_LAUNCH_GROUPS(p, "gpu_attention_put", 64, (a->d + 63) / 64, a->kv_heads, p->rows,
                     ((ey_cost){ 12ull * p->rows * a->kv_heads * a->d, 0 }), ey_val(a->k), ey_int(a->k.stride), ey_int(a->k.offset),
                     ey_int(a->v.offset), ey_int(a->d), ey_int(a->kv_heads), ey_buf(a->state->buffer), ey_int(units));
    EY_LAUNCH_GROUPS(p, "gpu_attention_decode", 256, splits, a->kv_heads * ((group + QUERIES - 1) / QUERIES), p->rows,
                     window_cost(a, p->rows, p->rows), ey_val(a->q), ey_int(a->q.stride), ey_int(a->q.offset), ey_int(a->d),
                     ey_int(group), ey_int(a->kv_heads), ey_int(a->window), ey_float(a->scale), ey_buf(a->state->buffer),
                     ey_int(a->ring_blocks), ey_int(units), ey_val(parts), ey_int(splits));
    EY_LAUNCH_GROUPS(p, "gpu_attention_combine", 64, a->heads, p->rows, 1, ((ey_cost){ 2 * parts_bytes, parts_bytes / 2 }),
                     ey_val(parts), ey_int(splits), ey_int(a->d), ey_int(a->heads), ey_int(a->window), ey_val(out),
                     ey_int(out.stride));
    return out;
}

ey_act ey_attend(ey_plan *p, const ey_attention *a)
{
    assert(a->heads / a->kv_heads <= EY_MAX_GROUP && a->window < (uint64_t)a->ring_blocks * EY_BLOCK);
    if (!p->dev->cpu) return p->phase == EY_PREFILL ? gpu_prefill(p, a) : gpu_decode(p, a);
    return p->phase == EY_PREFILL ? prefill(p, a) : decode(p, a);
}
