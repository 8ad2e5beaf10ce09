/* families.c - the table of model families. */
#include "families.h"

static bool is_hawk(const ey_config *c) { return ey_config_count(c, EY_ATTENTION) == 0; }
static bool is_transformer(const ey_config *c) { return ey_config_count(c, EY_RECURRENT) == 0; }
static bool is_recurrentgemma(const ey_config *c) { return c->cap > 0.0f && c->embed_scale != 1.0f; }
static bool is_griffin(const ey_config *c) { return c->layers > 0; }

#define HUGGING_FACE_LAYOUT "model.embed_tokens.weight", "model.layers.%u.", "model.final_norm.weight", "lm_head.weight", \
                            { "model.normalizer" }

/* The first that it is. */
static const ey_family families[] = {
    { "Hawk",            is_hawk,           HUGGING_FACE_LAYOUT },
    { "MQA Transformer", is_transformer,    HUGGING_FACE_LAYOUT },
    { "RecurrentGemma",  is_recurrentgemma, HUGGING_FACE_LAYOUT },
    { "Griffin",         is_griffin,        HUGGING_FACE_LAYOUT },
};

const ey_family *ey_family_of(const ey_config *c)
{
    const ey_family *f = families;
    while (!f->is(c)) f++;
    return f;
}
