/* info.c - what a model is, and what it takes. */
#include "model_parts.h"

#include <stdio.h>
#include <string.h>

/* Of a batch that wants one token. */
static uint32_t launches_of(const ey_plan *p)
{
    uint32_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += p->records[i].wanted_from <= 1 && p->records[i].wanted_to > 1;
    return n;
}

void ey_model_shape(const eyrie_model *m, ey_shape *s)
{
    const ey_config *c = &m->config;
    bool tied = m->head == m->embedding;
    uint64_t head = ey_matrix_bytes(m->head), table = tied ? 0 : ey_matrix_bytes(m->embedding);
    uint64_t outside = m->head->params + (tied ? 0 : m->embedding->params), positions = (uint64_t)m->context.ring_blocks * EY_BLOCK;

    *s = (ey_shape){ .layers = c->layers, .head_bytes = (double)head };
    s->layer_bytes = (double)(ey_weights_bytes(m->weights) - head - table);
    s->other_bytes = (double)(table + m->phases[EY_PREFILL].scratch.arena.bytes + m->phases[EY_DECODE].scratch.arena.bytes);
    s->token_flops = 2.0 * (double)(ey_weights_params(m->weights) - outside);
    s->head_flops = 2.0 * (double)m->head->params;
    for (uint32_t i = 0; i < c->layers; i++) {
        double bytes = (double)m->state.layers[i].bytes;
        if (c->kinds[i] == EY_RECURRENT) s->state_bytes += bytes;
        else s->key_bytes += bytes / (double)positions;
    }
    s->key_flops = 4.0 * ey_config_count(c, EY_ATTENTION) * c->heads * c->head_dim;
    if (positions) s->window = m->context.window;
    for (uint32_t i = 0; i < EY_PHASES; i++)
        if (m->phases[i].n) s->launches[i] = launches_of(&m->phases[i].buckets[0].plan);
}

/* A token at batch 1 with the window full. */
static void decode_cost(const eyrie_model *m, eyrie_model_info *info)
{
    ey_shape s;
    ey_demand d;

    ey_model_shape(m, &s);
    d = ey_cost_demand(&s, EY_DECODE, &(ey_load){ s.window, 1, 1 }, 1);
    info->decode_bytes = (uint64_t)d.bytes;
    info->decode_flops = (uint64_t)d.flops;
}

static void fill_info(const eyrie_model *m, eyrie_model_info *info)
{
    const ey_config *c = &m->config;
    const ey_matrix *layer = m->blocks[0].mlp.in;

    snprintf(info->family, sizeof info->family, "%s", m->family->name);
    info->parameters = ey_weights_params(m->weights);
    info->embedding_parameters = m->embedding->params;
    info->vocab = c->vocab;
    info->width = c->width;
    info->layers = c->layers;
    info->recurrent_layers = ey_config_count(c, EY_RECURRENT);
    info->attention_layers = ey_config_count(c, EY_ATTENTION);
    info->heads = c->heads;
    info->kv_heads = c->kv_heads;
    info->head_dim = c->head_dim;
    info->lru_width = c->lru_width;
    info->mlp_width = c->mlp_width;
    for (uint32_t i = 0; i < c->layers; i++)
        if (c->kinds[i] == EY_RECURRENT) info->gate_blocks = m->blocks[i].mix.recurrent.width.groups;
    info->window = c->window;
    info->context = m->opts.context;
    info->weights = layer->format;
    info->kv = m->opts.kv;
    info->file_bytes = m->file_bytes;
    info->weight_bytes = ey_weights_bytes(m->weights);
    info->state_bytes = ey_state_slot_bytes(&m->state);
    info->scratch_bytes = m->phases[EY_PREFILL].scratch.arena.bytes + m->phases[EY_DECODE].scratch.arena.bytes;
    info->slots = m->opts.slots;
    info->chunk = m->opts.chunk;
    info->bos = c->bos;
    info->has_tokenizer = m->tokenizer != NULL;
    info->matrix_unit = m->unit;
    decode_cost(m, info);
}

/* A caller built against an older header has a shorter struct. */
static void copy_info(eyrie_model_info *to, const eyrie_model *m)
{
    eyrie_model_info info = { .struct_size = to->struct_size };
    fill_info(m, &info);
    memcpy(to, &info, ey_min(to->struct_size, sizeof info));
}

eyrie_status eyrie_model_get_info(const eyrie_model *m, eyrie_model_info *info, eyrie_error *err)
{
    (void)err;
    copy_info(info, m);
    return EYRIE_OK;
}

eyrie_status eyrie_model_inspect(const char *path, const eyrie_model_opts *opts, eyrie_model_info *info,
                                 eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m;
    eyrie_status st = ey_model_declare(&m, &nowhere, path, opts, err);

    if (st == EYRIE_OK) copy_info(info, m);
    ey_model_free(m);
    return st;
}
