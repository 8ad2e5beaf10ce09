/* checkpoint.c - a model as its files, or its synthetic name, say it is: options resolved, every tensor and state declared and
 * checked, told from others by an identity; and the end of it. Reads headers only; loading is model.c's business. */
#include "model_parts.h"
#include "ops/clblast.h"
#include "os.h"
#include "synthetic.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { DEFAULT_CHUNK = 256, DEFAULT_GLOBAL_CONTEXT = 8192 };

/* ------------------------------------------------------------------------------------------------------- declaring */

void ey_model_free(eyrie_model *m)
{
    if (!m) return;
    if (m->phases[EY_PREFILL].reading || m->phases[EY_DECODE].reading) (void)ey_model_wait(m, NULL);    /* images are going up */
    for (uint32_t ph = 0; ph < EY_PHASES; ph++) {
        for (uint32_t i = 0; i < m->phases[ph].n; i++) ey_plan_free(&m->phases[ph].buckets[i].plan);
        ey_arena_free(&m->phases[ph].scratch.arena);
        EY_CL_FREE(clReleaseEvent, m->phases[ph].ended);
        ey_free(m->phases[ph].image);
    }
    ey_program_free(m->program);
    if (m->opts.products == EYRIE_PRODUCTS_CLBLAST) ey_clblast_forget();
    ey_state_free(&m->state);
    ey_weights_free(m->weights);
    ey_file_close(m->file);
    ey_tokenizer_close(m->tokenizer);
    ey_free(m->blocks);
    ey_free(m->ranges);
    ey_free(m->raw);
    ey_free(m->results);
    ey_free(m);
}

static eyrie_status resolve_options(eyrie_model *m, const eyrie_model_opts *opts, eyrie_error *err)
{
    eyrie_model_opts *o = &m->opts;
    const ey_config *c = &m->config;
    bool global = ey_config_count(c, EY_ATTENTION) > 0 && c->window == 0;

    if (opts) memcpy(o, opts, ey_min(opts->struct_size, sizeof *o));
    o->struct_size = sizeof *o;
    if (o->weights != EYRIE_FORMAT_DEFAULT && !ey_quant_of(o->weights))
        return ey_fail(err, EYRIE_EINVAL, "weight format %d is not known; f32, f16, bf16, q8 and q4 are", (int)o->weights);
    if ((uint32_t)o->compute > EYRIE_COMPUTE_INT8)
        return ey_fail(err, EYRIE_EINVAL, "mode of arithmetic %d is not known; auto, f32 and int8 are", (int)o->compute);
    if (o->kv == EYRIE_FORMAT_DEFAULT) o->kv = o->compute == EYRIE_COMPUTE_F32 ? EYRIE_FORMAT_F32 : EYRIE_FORMAT_F16;
    if (o->kv != EYRIE_FORMAT_F32 && o->kv != EYRIE_FORMAT_F16)
        return ey_fail(err, EYRIE_EINVAL, "keys and values can be kept as f16 or f32, not as format %d", (int)o->kv);
    if ((unsigned)o->products > EYRIE_PRODUCTS_CLBLAST)
        return ey_fail(err, EYRIE_EINVAL, "products by %d: there are 0, our own, and 1, CLBlast's", (int)o->products);
    if (o->products == EYRIE_PRODUCTS_CLBLAST && !ey_clblast_exists())
        return ey_fail(err, EYRIE_EINVAL, "products by CLBlast: this library was built without it; --products own, or build it where "
                       "CLBlast is installed");
    if (o->products == EYRIE_PRODUCTS_CLBLAST && !o->varying)
        return ey_fail(err, EYRIE_EINVAL, "products by CLBlast have other last digits beside other sequences; --invariant off accepts that");
    if (o->products == EYRIE_PRODUCTS_CLBLAST && o->compute == EYRIE_COMPUTE_INT8)
        return ey_fail(err, EYRIE_EINVAL, "products by CLBlast are in f32; leave out --compute int8, or --products clblast");
    if (o->slots == 0) o->slots = 1;
    if (o->chunk == 0) o->chunk = DEFAULT_CHUNK;
    if (o->chunk > 1u << 20)
        return ey_fail(err, EYRIE_EINVAL, "chunk of %" PRIu32 " tokens; at most %u", o->chunk, 1u << 20);
    if (o->context == 0 && global) o->context = DEFAULT_GLOBAL_CONTEXT;
    if (o->context > 1u << 30)
        return ey_fail(err, EYRIE_EINVAL, "context of %" PRIu64 " tokens; at most %u", o->context, 1u << 30);

    m->context = (ey_layer_context){ .config = c, .window = c->window, .kv = o->kv };
    if (o->context && (global || o->context - 1 < c->window)) m->context.window = o->context - 1;
    if (ey_config_count(c, EY_ATTENTION) > 0)
        m->context.ring_blocks = (uint32_t)((m->context.window + 1 + EY_BLOCK - 1) / EY_BLOCK);
    return EYRIE_OK;
}

static uint64_t state_bytes(const eyrie_model *m, const ey_model_block *b)
{
    return b->kind == EY_RECURRENT ? ey_recurrent_state_bytes(&b->mix.recurrent, &m->context)
                                   : ey_attention_layer_state_bytes(&m->context);
}

static eyrie_status declare_state(eyrie_model *m, eyrie_error *err)
{
    uint64_t *bytes = ey_calloc(m->config.layers, sizeof *bytes);
    eyrie_status st;

    if (!bytes) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " layers", m->config.layers);
    for (uint32_t i = 0; i < m->config.layers; i++) bytes[i] = state_bytes(m, &m->blocks[i]);
    st = ey_state_init(&m->state, m->dev, m->opts.slots, bytes, m->config.layers, err);
    ey_free(bytes);
    return st;
}

/* All tensors and state sizes; nothing is allocated on the device. */
static eyrie_status declare(eyrie_model *m, eyrie_error *err)
{
    const ey_config *c = &m->config;
    const ey_family *f = m->family;
    ey_dim D = ey_dim_flat(c->width), V = ey_dim_flat(c->vocab);
    eyrie_status st;

    if (c->heads / c->kv_heads > EY_MAX_GROUP)
        return ey_fail(err, EYRIE_ELIMIT, "%" PRIu32 " query heads share a key/value head; at most %d can", c->heads / c->kv_heads, EY_MAX_GROUP);
    if (!(m->blocks = ey_calloc(c->layers, sizeof *m->blocks))) return ey_fail(err, EYRIE_ENOMEM, "%" PRIu32 " layers", c->layers);
    ey_weights *w = m->weights;

    ey_weights_prefix(w, "%s", "");
    m->embedding = ey_weights_table(w, f->embedding, V, D);
    m->final_norm = ey_weights_vector(w, f->final_norm, D, 1, EY_ONE_PLUS);
    m->head = m->embedding;
    if (c->tied) ey_weights_ignore(w, f->head);
    else m->head = ey_weights_table(w, f->head, V, D);
    for (size_t i = 0; i < sizeof f->ignored / sizeof *f->ignored && f->ignored[i]; i++) ey_weights_ignore(w, f->ignored[i]);

    for (uint32_t i = 0; i < c->layers; i++) {
        ey_model_block *b = &m->blocks[i];
        b->kind = c->kinds[i];
        ey_weights_prefix(w, f->block, (unsigned)i);
        if (b->kind == EY_RECURRENT) ey_recurrent_declare(&b->mix.recurrent, w, &m->context);
        else ey_attention_declare(&b->mix.attention, w, &m->context);
        ey_mlp_declare(&b->mlp, w, &m->context);
    }
    EY_TRY(ey_weights_check(w, err));
    const ey_quant *layers = ey_quant_of(m->blocks[0].mlp.in->format);
    if (m->opts.compute == EYRIE_COMPUTE_INT8 && !layers->scaled)
        EY_TRY(ey_fail(err, EYRIE_EINVAL, "--compute int8 multiplies weights in q8 or q4, and the layers' are in %s; --weights q8 or "
                       "--weights q4 makes them so", layers->name));

    st = declare_state(m, err);
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------------- reading */

static eyrie_status open_tokenizer(eyrie_model *m, const char *path, eyrie_error *err)
{
    char name[4096];
    eyrie_status st;

    snprintf(name, sizeof name, "%s/tokenizer.model", path);
    if (!ey_file_exists(name)) return EYRIE_OK;
    if ((st = ey_tokenizer_open(&m->tokenizer, name, err)) != EYRIE_OK) return st;
    uint32_t pieces = ey_tokenizer_size(m->tokenizer);
    if (pieces > m->config.vocab)
        return ey_fail(err, EYRIE_EFORMAT, "%s: has %" PRIu32 " pieces, config.json a vocabulary of %" PRIu32 "; it is "
                       "another model's", name, pieces, m->config.vocab);
    if (pieces < m->config.vocab)
        ey_note(&m->dev->log, "%s has %" PRIu32 " pieces, the vocabulary %" PRIu32 ": the tokens above have no text", name,
                pieces, m->config.vocab);
    return EYRIE_OK;
}

/* What the files say, checked against each other. */
static eyrie_status read_checkpoint(eyrie_model *m, const char *path, const eyrie_model_opts *opts, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(ey_config_read(&m->config, path, err));
    m->family = ey_family_of(&m->config);
    EY_TRY(resolve_options(m, opts, err));
    EY_TRY(open_tokenizer(m, path, err));
    EY_TRY(ey_file_open(&m->file, path, err));
    m->file_bytes = ey_file_bytes(m->file);
    EY_TRY(ey_weights_new(&m->weights, m->dev, m->file, ey_formats_of(m->opts.weights), err));
    EY_TRY(declare(m, err));
done:
    return st;
}

/* The same where there are no files. */
static eyrie_status make_checkpoint(eyrie_model *m, const char *path, const eyrie_model_opts *opts, eyrie_error *err)
{
    const ey_config *c = &m->config;
    ey_synthetic s;
    eyrie_status st;

    EY_TRY(ey_synthetic_open(&s, path, err));
    m->synthetic = true;
    m->seed = s.seed;
    EY_TRY(ey_config_parse(&m->config, s.config, s.length, s.name, err));
    m->family = ey_family_of(c);
    EY_TRY(resolve_options(m, opts, err));
    if (ey_config_count(c, EY_RECURRENT) > 0 && c->lru_width % c->gate_blocks != 0) {
        st = ey_fail(err, EYRIE_EFORMAT, "%s: \"lru_width\" is %" PRIu32 " and cannot be cut into %" PRIu32 " gate blocks; "
                     "\"rg_lru_blocks\" says how many there are, one for each head if it is left out", s.name, c->lru_width,
                     c->gate_blocks);
        goto done;
    }
    EY_TRY(ey_weights_new_synthetic(&m->weights, m->dev, s.seed, c->gate_blocks, ey_formats_of(m->opts.weights), err));
    EY_TRY(declare(m, err));
done:
    ey_synthetic_close(&s);
    return st;
}

eyrie_status ey_model_declare(eyrie_model **out, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                              eyrie_error *err)
{
    eyrie_model *m = ey_calloc(1, sizeof *m);
    eyrie_status st;

    *out = NULL;
    if (!m) return ey_fail(err, EYRIE_ENOMEM, "model handle");
    m->dev = dev;
    EY_TRY(ey_is_synthetic(path) ? make_checkpoint(m, path, opts, err) : read_checkpoint(m, path, opts, err));
    *out = m;
    m = NULL;
done:
    ey_model_free(m);
    return st;
}

/* -------------------------------------------------------------------------------------------------------- identity */

static void hash_number(XXH3_state_t *sum, uint64_t value)
{
    unsigned char bytes[8];
    ey_put(bytes, 8, value);
    XXH3_128bits_update(sum, bytes, sizeof bytes);
}

static void hash_float(XXH3_state_t *sum, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    hash_number(sum, bits);
}

/* What of the config changes what the model computes and its tensors do not show. */
static void hash_config(XXH3_state_t *sum, const ey_config *c)
{
    const uint64_t numbers[] = { c->vocab, c->width, c->layers, c->heads, c->kv_heads, c->head_dim, c->rotary, c->lru_width,
                                 c->mlp_width, c->conv_taps, c->window, c->attention_bias, c->tied };
    const float floats[] = { c->cap, c->eps, (float)c->rope_theta, c->embed_scale };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) hash_number(sum, numbers[i]);
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) hash_float(sum, floats[i]);
    for (uint32_t i = 0; i < c->layers; i++) hash_number(sum, c->kinds[i]);
}

/* Tells the model from others by its config and by name, dtype, shape and first elements of every tensor, in whatever shards
 * they come; a packed checkpoint says whose it is. Cheap, since it does not read all weights: models that differ only further
 * inside of their tensors pass for one. Training changes all of a tensor. Of a synthetic model, whose tensors follow from it,
 * the seed. */
eyrie_status ey_model_identify(eyrie_model *m, eyrie_error *err)
{
    const char *packed_from = m->file ? ey_file_note(m->file, EY_IDENTITY_NOTE) : NULL;
    XXH3_state_t *sum;

    if (packed_from) {
        if (strlen(packed_from) != 32 || strspn(packed_from, "0123456789abcdef") != 32)
            return ey_fail(err, EYRIE_EFORMAT, "the packed checkpoint's \"%s\" is no identity; it is damaged", EY_IDENTITY_NOTE);
        snprintf(m->identity, sizeof m->identity, "%s", packed_from);
        return EYRIE_OK;
    }
    if (!(sum = XXH3_createState())) return ey_fail(err, EYRIE_ENOMEM, "the model's identity");
    XXH3_128bits_reset(sum);
    hash_config(sum, &m->config);
    if (m->synthetic) {
        hash_number(sum, m->config.gate_blocks);
        hash_number(sum, m->seed);
    }
    for (size_t i = 0; !m->synthetic && i < ey_file_count(m->file); i++) {
        const ey_tensor_data *t = ey_file_at(m->file, i);
        float first[64];
        uint64_t n = ey_min(t->count, sizeof first / sizeof *first);

        XXH3_128bits_update(sum, t->name, strlen(t->name) + 1);
        hash_number(sum, t->dtype);
        hash_number(sum, t->rank);
        for (uint32_t k = 0; k < t->rank; k++) hash_number(sum, t->shape[k]);
        if (t->dtype == EY_U8) {
            XXH3_128bits_update(sum, t->data, n);
            continue;
        }
        ey_tensor_read(t, 0, n, first);
        for (uint64_t k = 0; k < n; k++) hash_float(sum, first[k]);
    }
    XXH128_hash_t h = XXH3_128bits_digest(sum);
    XXH3_freeState(sum);
    snprintf(m->identity, sizeof m->identity, "%016" PRIx64 "%016" PRIx64, h.high64, h.low64);
    return EYRIE_OK;
}
