/* model.c - from a checkpoint to plans, and a batch through them. */
#include "families.h"
#include "model.h"
#include "ops/clblast.h"
#include "os.h"
#include "probe.h"
#include "synthetic.h"
#include "tiles.h"
#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { DEFAULT_CHUNK = 256, DEFAULT_GLOBAL_CONTEXT = 8192, MAX_ROWS = EY_HEAD_ROWS, MAX_BUCKETS = 32,
       PIECE = 1 << 20,     /* bytes of a state on their way to a file */
       FIRST_BUCKET = 8 /* tokens of the smallest prefill plan: a short prompt reads the weights once and computes little */ };

/* A residual block. */
typedef struct block {
    ey_kind kind;
    union {
        ey_recurrent       recurrent;
        ey_attention_layer attention;
    } mix;
    ey_mlp mlp;
} block;

typedef struct bucket {
    ey_plan plan;
    ey_act  logits;             /* of the last tile of wanted rows */
} bucket;

/* One phase: its plans, smallest bucket first, with scratch of their own, so that steps of the other phase can run
 * between the parts of one of these. */
typedef struct phase {
    ey_scratch scratch;
    ey_buffer *results;         /* [most tokens][EY_RESULT_WORDS] */
    uint32_t   most;            /* tokens of the largest bucket */
    bucket     buckets[MAX_BUCKETS];
    uint32_t   n;
    bucket    *current;         /* that of the batch uploaded last */
    uint32_t   wanted;          /* of that batch */
} phase;

struct eyrie_model {
    eyrie_device     *dev;
    ey_config         config;
    const ey_family  *family;
    eyrie_model_opts  opts;     /* resolved: no zeros left but context */
    ey_tokenizer     *tokenizer;
    uint64_t          file_bytes;
    bool              synthetic;
    uint64_t          seed;     /* of a synthetic model */
    ey_weights       *weights;
    ey_file          *file;     /* open while weights are used where they lie in it */
    ey_layer_context  context;
    ey_matrix        *embedding, *head;
    ey_buffer        *final_norm;
    block            *blocks;   /* [layers] */
    ey_state          state;
    ey_program       *program;
    bool              unit;     /* prefill is the matrix unit's, with weights in formats that it takes */
    phase             phases[EY_PHASES];
    int32_t          *image;    /* of the batch that is going up */
    int32_t          *raw;      /* results as the device left them */
    ey_result        *results;
    bool              taken;    /* an engine is open on it */
    char              identity[33];     /* in hexadecimal */
};

/* ------------------------------------------------------------------------------------------------------- declaring */

static eyrie_status resolve_options(eyrie_model *m, const eyrie_model_opts *opts, eyrie_error *err)
{
    eyrie_model_opts *o = &m->opts;
    const ey_config *c = &m->config;
    bool global = ey_config_count(c, EY_ATTENTION) > 0 && c->window == 0;

    if (opts) memcpy(o, opts, ey_min(opts->struct_size, sizeof *o));
    o->struct_size = sizeof *o;
    if (o->weights != EYRIE_FORMAT_DEFAULT && !ey_quant_of(o->weights))
        return ey_fail(err, EYRIE_EINVAL, "weight format %d is not known; f32, f16, bf16, q8 and q4 are", (int)o->weights);
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

static uint64_t state_bytes(const eyrie_model *m, const block *b)
{
    return b->kind == EY_RECURRENT ? ey_recurrent_state_bytes(&b->mix.recurrent, &m->context)
                                   : ey_attention_layer_state_bytes(&m->context);
}

/* The largest layers first: if there are too many slots, they say how many fit. */
static eyrie_status declare_state(eyrie_model *m, eyrie_error *err)
{
    uint64_t largest = 0;
    eyrie_status st = EYRIE_OK;

    for (uint32_t i = 0; i < m->config.layers; i++) largest = ey_max(largest, state_bytes(m, &m->blocks[i]));
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < m->config.layers && st == EYRIE_OK; i++) {
            uint64_t bytes = state_bytes(m, &m->blocks[i]);
            if ((bytes == largest) == (pass == 0)) st = ey_state_declare(&m->state, i, bytes, err);
        }
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
        block *b = &m->blocks[i];
        b->kind = c->kinds[i];
        ey_weights_prefix(w, f->block, (unsigned)i);
        if (b->kind == EY_RECURRENT) ey_recurrent_declare(&b->mix.recurrent, w, &m->context);
        else ey_attention_declare(&b->mix.attention, w, &m->context);
        ey_mlp_declare(&b->mlp, w, &m->context);
    }
    EY_TRY(ey_weights_check(w, err));

    EY_TRY(ey_state_init(&m->state, m->dev, m->opts.slots, c->layers, err));
    st = declare_state(m, err);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------- recording */

/* The forward pass. */
static void emit(eyrie_model *m, bucket *b, ey_buffer *results)
{
    const ey_config *c = &m->config;
    ey_plan *p = &b->plan;

    p->layer = 0;
    ey_act x = ey_embed(p, m->embedding, c->embed_scale);
    for (uint32_t i = 0; i < c->layers; i++) {
        const block *l = &m->blocks[i];
        p->layer = i;
        if (l->kind == EY_RECURRENT) ey_recurrent_emit(p, &l->mix.recurrent, &m->context, &m->state.layers[i], x);
        else ey_attention_emit(p, &l->mix.attention, &m->context, &m->state.layers[i], x);
        ey_mlp_emit(p, &l->mlp, &m->context, x);
    }
    p->layer = c->layers;
    ey_act z = ey_normalise(p, ey_norm(x, m->final_norm, c->width, c->eps), true);
    b->logits = ey_head_reduce(p, z, &(ey_head){ .w = m->head, .vocab = c->vocab, .cap = c->cap, .wanted = p->tokens,
                                                 .results = results });
}

static uint32_t most_rows(const eyrie_model *m, uint32_t tokens) { return (uint32_t)ey_min(ey_min(m->opts.slots, tokens), MAX_ROWS); }

/* Buckets of `first`, twice that, ... up to `most` itself. */
static eyrie_status record_phase(eyrie_model *m, ey_phase which, uint32_t first, uint32_t most, eyrie_error *err)
{
    phase *ph = &m->phases[which];
    eyrie_status st = EYRIE_OK;

    ph->most = most;
    ey_scratch_init(&ph->scratch, m->dev, which == EY_PREFILL ? "prefill scratch" : "decode scratch");
    if (!(ph->results = ey_arena_add(&ph->scratch.arena, (uint64_t)most * EY_RESULT_WORDS * 4, "results")))
        return ey_fail(err, EYRIE_ENOMEM, "results");
    for (uint32_t tokens = (uint32_t)ey_min(first, most);; tokens = (uint32_t)ey_min(2 * (uint64_t)tokens, most)) {
        bucket *b = &ph->buckets[ph->n++];
        EY_TRY(ey_plan_begin(&b->plan, which, tokens, which == EY_DECODE ? tokens : most_rows(m, tokens), m->dev,
                             m->program, &ph->scratch, err));
        emit(m, b, ph->results);
        EY_TRY(ey_plan_end(&b->plan, err));
        if (tokens == most) break;
    }
    ey_arena_grow(&ph->scratch.arena, ph->scratch.batch, 4 * ey_image_capacity(most, most_rows(m, most), m->config.rotary));
done:
    return st;
}

/* What would make a model fit of which `weights` and `rest` bytes are too many for `have`. */
static void advise(const eyrie_model *m, uint64_t weights, uint64_t rest, uint64_t have, char *text, size_t size)
{
    static const eyrie_format narrower[] = { EYRIE_FORMAT_BF16, EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };
    const char *name = NULL;
    uint64_t least = weights;
    char bytes[24];

    for (size_t i = 0; i < sizeof narrower / sizeof *narrower && (!name || least + rest > have); i++) {
        uint64_t b = ey_weights_bytes_as(m->weights, narrower[i]);
        if (b >= least) continue;
        name = ey_quant_of(narrower[i])->name;
        least = b;
    }
    ey_bytes_text(least, bytes);
    if (least > have)
        snprintf(text, size, "the weights alone take %s in the narrowest format: only more memory helps", bytes);
    else if (least + rest > have)
        snprintf(text, size, "%s%s%sfewer --slots, a smaller --chunk or a shorter --context makes it smaller",
                 name ? "--weights " : "", name ? name : "", name ? ", " : "");
    else
        snprintf(text, size, "--weights %s takes %s for the weights", name, bytes);
}

static eyrie_status check_memory(const eyrie_model *m, eyrie_error *err)
{
    uint64_t weights = ey_weights_bytes(m->weights), state = m->state.arena.bytes;
    uint64_t scratch = m->phases[EY_PREFILL].scratch.arena.bytes + m->phases[EY_DECODE].scratch.arena.bytes;
    uint64_t need = weights + state + scratch;
    const char *source;
    uint64_t have = ey_device_free_memory(m->dev, &source);
    char t[5][24], advice[200];

    if (need <= have) return EYRIE_OK;
    advise(m, weights, state + scratch, have, advice, sizeof advice);
    return ey_fail(err, EYRIE_EMEMORY, "the model needs %s (weights %s, state of %" PRIu32 " sequence(s) %s, scratch %s), "
                   "there is %s (%s); %s", ey_bytes_text(need, t[0]), ey_bytes_text(weights, t[1]), m->opts.slots,
                   ey_bytes_text(state, t[2]), ey_bytes_text(scratch, t[3]), ey_bytes_text(have, t[4]), source, advice);
}

/* Every plan once with nothing live in it: drivers compile kernels at their first launch. */
static eyrie_status warm_up(eyrie_model *m, const ey_progress *progress, eyrie_error *err)
{
    const int32_t nothing[EY_IMAGE_HEADER] = { 0 };
    uint32_t plans = m->phases[EY_PREFILL].n + m->phases[EY_DECODE].n, done = 0;
    eyrie_status st;

    for (uint32_t ph = 0; ph < EY_PHASES; ph++) {
        EY_TRY(ey_buffer_write(m->dev, m->phases[ph].scratch.batch, 0, sizeof nothing, nothing, err));
        for (uint32_t i = 0; i < m->phases[ph].n; i++) {
            ey_tell(progress, "warming up", (double)done++ / plans);
            EY_TRY(ey_plan_run(&m->phases[ph].buckets[i].plan, 0, UINT32_MAX, err));
        }
    }
    ey_tell(progress, "warming up", 1);
    st = ey_device_finish(m->dev, err);
done:
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
static eyrie_status identify(eyrie_model *m, const ey_file *file, eyrie_error *err)
{
    const char *packed_from = file ? ey_file_note(file, EY_IDENTITY_NOTE) : NULL;
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
    for (size_t i = 0; !m->synthetic && i < ey_file_count(file); i++) {
        const ey_tensor_data *t = ey_file_at(file, i);
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

/* --------------------------------------------------------------------------------------------------------- opening */

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
static eyrie_status read_checkpoint(eyrie_model *m, ey_file **file, const char *path, const eyrie_model_opts *opts,
                                    eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(ey_config_read(&m->config, path, err));
    m->family = ey_family_of(&m->config);
    EY_TRY(resolve_options(m, opts, err));
    EY_TRY(open_tokenizer(m, path, err));
    EY_TRY(ey_file_open(file, path, err));
    m->file_bytes = ey_file_bytes(*file);
    EY_TRY(ey_weights_new(&m->weights, m->dev, *file, ey_formats_of(m->opts.weights), err));
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

static eyrie_status open_source(eyrie_model *m, ey_file **file, const char *path, const eyrie_model_opts *opts,
                                eyrie_error *err)
{
    return ey_is_synthetic(path) ? make_checkpoint(m, path, opts, err) : read_checkpoint(m, file, path, opts, err);
}

static eyrie_status host_buffers(eyrie_model *m, eyrie_error *err)
{
    uint32_t most = (uint32_t)ey_max(m->phases[EY_PREFILL].most, m->phases[EY_DECODE].most);

    m->image = ey_calloc(ey_image_capacity(most, most_rows(m, most), m->config.rotary), sizeof *m->image);
    m->raw = ey_calloc(most, EY_RESULT_WORDS * sizeof *m->raw);
    m->results = ey_calloc(most, sizeof *m->results);
    return m->image && m->raw && m->results ? EYRIE_OK : ey_fail(err, EYRIE_ENOMEM, "batch of %" PRIu32 " tokens", most);
}

/* What the program is for. A matrix unit that is there and stays idle is worth a note, unless that was asked for. */
static uint32_t choose_kernels(eyrie_model *m)
{
    uint32_t formats = ey_weights_formats(m->weights);
    bool clblast = m->opts.products == EYRIE_PRODUCTS_CLBLAST;
    bool some = (formats & EY_UNIT_FORMATS) != 0;
    char reason[320] = "";

    if (clblast) return formats | EY_CLBLAST;
    if (m->opts.compute != EYRIE_COMPUTE_AUTO) return formats;
    m->unit = some && ey_probe_unit(m->dev, reason);
    if (!some && m->dev->cpu && ey_tiles_exist())
        snprintf(reason, sizeof reason, "it multiplies weights in bf16, q8 or q4, and these are not (--weights bf16)");
    if (reason[0]) ey_note(&m->dev->log, "the CPU's matrix unit is not used: %s", reason);
    if (m->unit) formats |= EY_MATRIX_UNIT | (m->opts.varying ? EY_UNIT_DECODE : 0);
    return formats;
}

/* Rather no answer than a wrong one, on devices that cut loops short. */
static eyrie_status check_loops(const eyrie_model *m, eyrie_error *err)
{
    const ey_config *c = &m->config;
    uint64_t blocks = m->context.ring_blocks + 1;       /* a window touches one more than the ring has */
    uint64_t turns, most;
    char advice[64] = "use another device";

    if (!m->context.ring_blocks || ey_probe_loops(m->dev)) return EYRIE_OK;
    turns = ey_attention_turns(blocks, c->heads / c->kv_heads, ey_pad(c->head_dim));
    if (turns <= EY_SURE_TURNS) return EYRIE_OK;
    most = EY_SURE_TURNS / (turns / blocks);            /* blocks */
    if (most > 1) snprintf(advice, sizeof advice, "use another device, or --context %" PRIu64, (most - 1) * EY_BLOCK);
    return ey_fail(err, EYRIE_ELIMIT, "attention over %" PRIu64 " tokens takes %" PRIu64 " turns of loops, which %s ends after %d "
                   "without an error (probe long-loops); %s", m->context.window + 1, turns, m->dev->name, EY_SURE_TURNS, advice);
}

static void model_free(eyrie_model *m)
{
    if (!m) return;
    for (uint32_t ph = 0; ph < EY_PHASES; ph++) {
        for (uint32_t i = 0; i < m->phases[ph].n; i++) ey_plan_free(&m->phases[ph].buckets[i].plan);
        ey_arena_free(&m->phases[ph].scratch.arena);
    }
    ey_program_free(m->program);
    if (m->opts.products == EYRIE_PRODUCTS_CLBLAST) ey_clblast_forget();
    ey_state_free(&m->state);
    ey_weights_free(m->weights);
    ey_file_close(m->file);
    ey_tokenizer_close(m->tokenizer);
    ey_free(m->blocks);
    ey_free(m->image);
    ey_free(m->raw);
    ey_free(m->results);
    ey_free(m);
}

/* The program and all plans; nothing is allocated on the device. */
static eyrie_status record(eyrie_model *m, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(ey_program_build(&m->program, m->dev, choose_kernels(m), m->opts.kv, err));
    EY_TRY(record_phase(m, EY_PREFILL, FIRST_BUCKET, m->opts.chunk, err));
    st = record_phase(m, EY_DECODE, 1, most_rows(m, MAX_ROWS), err);
done:
    return st;
}

eyrie_status ey_model_rehearse(ey_program **program, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                               eyrie_error *err)
{
    eyrie_model *m;
    ey_file *file = NULL;
    eyrie_status st;

    *program = NULL;
    if (!(m = ey_calloc(1, sizeof *m))) return ey_fail(err, EYRIE_ENOMEM, "model handle");
    m->dev = dev;
    EY_TRY(open_source(m, &file, path, opts, err));
    EY_TRY(record(m, err));
    *program = m->program;
    m->program = NULL;
done:
    model_free(m);
    ey_file_close(file);
    return st;
}

eyrie_status eyrie_model_open(eyrie_model **out, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                              eyrie_error *err)
{
    eyrie_model *m;
    ey_file *file = NULL;
    ey_progress progress;
    eyrie_status st;

    *out = NULL;
    if (!(m = ey_calloc(1, sizeof *m))) return ey_fail(err, EYRIE_ENOMEM, "model handle");
    m->dev = dev;
    EY_TRY(open_source(m, &file, path, opts, err));
    progress = (ey_progress){ m->opts.progress, m->opts.progress_user };
    ey_weights_listener(m->weights, &progress);
    EY_TRY(check_loops(m, err));
    ey_tell(&progress, "building kernels", 0);
    ey_tuning_load(dev);
    EY_TRY(record(m, err));
    EY_TRY(check_memory(m, err));
    EY_TRY(host_buffers(m, err));
    EY_TRY(identify(m, file, err));
    EY_TRY(m->synthetic ? ey_weights_fill(m->weights, m->program, err) : ey_weights_load(m->weights, err));
    EY_TRY(ey_arena_commit(&m->state.arena, err));
    for (uint32_t ph = 0; ph < EY_PHASES; ph++) EY_TRY(ey_arena_commit(&m->phases[ph].scratch.arena, err));
    EY_TRY(warm_up(m, &progress, err));
    ey_program_store(m->program);
    dev->children++;
    if (ey_weights_in_file(m->weights)) {
        m->file = file;
        file = NULL;
    }
    *out = m;
    m = NULL;
done:
    model_free(m);
    ey_file_close(file);
    return st;
}

eyrie_status eyrie_model_close(eyrie_model *m)
{
    if (!m) return EYRIE_OK;
    if (m->taken) return EYRIE_EBUSY;
    m->dev->children--;
    model_free(m);
    return EYRIE_OK;
}

/* -------------------------------------------------------------------------------------------------------- steps */

const ey_config *ey_model_config(const eyrie_model *m) { return &m->config; }
const ey_tokenizer *ey_model_tokenizer(const eyrie_model *m) { return m->tokenizer; }

ey_model_limits ey_model_get_limits(const eyrie_model *m)
{
    return (ey_model_limits){ .slots = m->opts.slots, .chunk = m->opts.chunk, .prefill_rows = most_rows(m, m->opts.chunk),
                              .decode_rows = most_rows(m, MAX_ROWS), .logits = ey_head_tile(m->head, m->opts.chunk), .vocab = m->config.vocab,
                              .context = m->opts.context };
}

bool ey_model_take(eyrie_model *m) { return m->taken ? false : (m->taken = true); }
void ey_model_give(eyrie_model *m) { m->taken = false; }

eyrie_status ey_model_upload(eyrie_model *m, const ey_batch *b, eyrie_error *err)
{
    phase *ph = &m->phases[b->phase];
    uint32_t tokens = ey_batch_tokens(b), i = 0;
    ey_geometry g = { m->context.window, m->context.ring_blocks, m->context.ring_blocks ? m->config.rotary : 0,
                      m->config.rope_theta };

    while (i < ph->n && (ph->buckets[i].plan.tokens < tokens || ph->buckets[i].plan.rows < b->n_rows)) i++;
    if (i == ph->n)
        return ey_fail(err, EYRIE_ELIMIT, "a batch of %" PRIu32 " tokens in %" PRIu32 " rows; at most %" PRIu32 " in %"
                       PRIu32, tokens, b->n_rows, ph->most, ph->buckets[ph->n - 1].plan.rows);
    ph->current = &ph->buckets[i];
    ph->scratch.tokens = tokens;
    ph->scratch.wanted = ph->wanted = ey_batch_wanted(b);
    uint64_t words = ey_image_write(b, &g, m->image);
    return ey_buffer_write(m->dev, ph->scratch.batch, 0, words * sizeof *m->image, m->image, err);
}

eyrie_status ey_model_enqueue(eyrie_model *m, ey_phase which, uint32_t from, uint32_t to, eyrie_error *err)
{
    return ey_plan_run(&m->phases[which].current->plan, from, to, err);
}

eyrie_status ey_model_results(eyrie_model *m, ey_phase which, const ey_result **results, uint32_t *n, eyrie_error *err)
{
    const phase *ph = &m->phases[which];
    eyrie_status st;

    *results = m->results;
    *n = ph->wanted;
    if (ph->wanted == 0) return ey_device_finish(m->dev, err);
    st = ey_buffer_read(m->dev, ph->results, 0, (uint64_t)ph->wanted * EY_RESULT_WORDS * sizeof *m->raw, m->raw, err);
    for (uint32_t i = 0; i < ph->wanted && st == EYRIE_OK; i++) {
        const int32_t *raw = m->raw + (size_t)i * EY_RESULT_WORDS;
        ey_result *r = &m->results[i];
        memcpy(&r->lse, &raw[0], sizeof r->lse);
        memcpy(&r->target, &raw[1], sizeof r->target);
        r->n = (uint32_t)raw[2];
        for (uint32_t k = 0; k < r->n; k++) {
            r->best[k].id = raw[4 + k];
            memcpy(&r->best[k].logit, &raw[4 + EY_CANDIDATES + k], sizeof r->best[k].logit);
        }
    }
    return st;
}

eyrie_status ey_model_logits(eyrie_model *m, ey_phase which, uint32_t i, float *out, eyrie_error *err)
{
    const phase *ph = &m->phases[which];
    ey_act logits = ph->current->logits;
    uint32_t tile = ey_head_tile(m->head, ph->current->plan.tokens);

    if (i >= ph->wanted || i / tile != (ph->wanted - 1) / tile)
        return ey_fail(err, EYRIE_EINVAL, "logits of wanted token %" PRIu32 " of %" PRIu32 " are gone", i, ph->wanted);
    return ey_buffer_read(m->dev, ey_plan_buffer(&ph->current->plan, logits), (uint64_t)(i % tile) * logits.stride * sizeof *out,
                          m->config.vocab * sizeof *out, out, err);
}

eyrie_status ey_model_copy_slot(eyrie_model *m, uint32_t from, uint32_t to, eyrie_error *err)
{
    return ey_state_copy(&m->state, from, to, err);
}

/* ----------------------------------------------------------------------------------------------------- state files */

static void add_option(ey_traits *t, const char *name, const char *option, const char *value)
{
    ey_trait_remedy(ey_traits_add(t, name, value), "%s %s", option, value);
}

/* The mode of arithmetic comes before the format of the ring, whose default follows from it. Of kernels, those matter whose
 * choice shows in the results' bits: the matrix unit's. */
void ey_model_traits(const eyrie_model *m, ey_traits *t)
{
    const char *weights = ey_quant_of(m->blocks[0].mlp.in->format)->name;
    char window[48] = "none", context[48] = "--context left out";

    *t = (ey_traits){ .n = 0 };
    ey_trait_remedy(ey_traits_add(t, "model", m->identity), "its own model, a %s of %" PRIu64 " parameters", m->family->name,
                    ey_weights_params(m->weights));
    add_option(t, "weights", "--weights", weights);
    add_option(t, "compute", "--compute", m->opts.compute == EYRIE_COMPUTE_F32 ? "f32" : "auto");
    add_option(t, "keys and values", "--kv", ey_quant_of(m->opts.kv)->name);
    if (m->context.ring_blocks)
        snprintf(window, sizeof window, "%" PRIu64 " in a ring of %" PRIu32, m->context.window, m->context.ring_blocks * EY_BLOCK);
    if (m->opts.context) snprintf(context, sizeof context, "--context %" PRIu64, m->opts.context);
    ey_trait_remedy(ey_traits_add(t, "attention window", window), "%s", context);
    add_option(t, "device class", "--kernels", m->dev->cpu ? "cpu" : "gpu");
    if (m->opts.products == EYRIE_PRODUCTS_CLBLAST) {
        add_option(t, "kernels", "--invariant off --products", "clblast");
        return;
    }
    ey_trait_remedy(ey_traits_add(t, "kernels", !m->dev->cpu ? "gpu" : !m->unit ? "base" : m->opts.varying
                                  ? "base, prefill and large steps on AMX" : "base, prefill on AMX"), "%s%s",
                    m->unit && m->opts.varying ? "--invariant off, " : "", m->unit
                    ? "a CPU with AMX that eyrie devices --probe has tried" : "--cache-dir '', which leaves the matrix unit alone");
}

/* A ring fills from its first block on. */
void ey_model_state_sizes(const eyrie_model *m, uint64_t position, uint64_t *sizes)
{
    for (uint32_t i = 0; i < m->config.layers; i++) {
        uint32_t ring = m->blocks[i].kind == EY_ATTENTION ? m->context.ring_blocks : 1;
        uint64_t used = ey_min(position / EY_BLOCK + (position % EY_BLOCK > 0), ring);
        sizes[i] = m->state.layers[i].bytes / ring * used;
    }
}

static eyrie_status save_layer(eyrie_model *m, uint32_t layer, uint32_t slot, uint64_t size, unsigned char *piece,
                               ey_snapshot_writer *w, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint64_t at = 0; at < size && st == EYRIE_OK; at += PIECE) {
        uint64_t n = ey_min(size - at, PIECE);
        if ((st = ey_state_read(&m->state, layer, slot, at, n, piece, err)) == EYRIE_OK) st = ey_snapshot_write(w, piece, n, err);
    }
    return st;
}

eyrie_status ey_model_save_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_snapshot_writer *w, eyrie_error *err)
{
    uint64_t *sizes = ey_calloc(m->config.layers, sizeof *sizes);
    unsigned char *piece = ey_calloc(PIECE, 1);
    eyrie_status st = EYRIE_OK;

    if (!sizes || !piece) st = ey_fail(err, EYRIE_ENOMEM, "a piece of a state");
    else ey_model_state_sizes(m, position, sizes);
    for (uint32_t i = 0; i < m->config.layers && st == EYRIE_OK; i++) st = save_layer(m, i, slot, sizes[i], piece, w, err);
    ey_free(piece);
    ey_free(sizes);
    return st;
}

eyrie_status ey_model_load_slot(eyrie_model *m, uint32_t slot, uint64_t position, const ey_snapshot *s, uint32_t first_part,
                                eyrie_error *err)
{
    uint64_t *sizes = ey_calloc(m->config.layers, sizeof *sizes), size;
    eyrie_status st = EYRIE_OK;

    if (!sizes) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " layers", m->config.layers);
    ey_model_state_sizes(m, position, sizes);
    if (s->n_parts != first_part + m->config.layers)
        st = ey_fail(err, EYRIE_EFORMAT, "the state file has %" PRIu32 " parts, the model's states have %" PRIu32 "; save it again",
                     s->n_parts, first_part + m->config.layers);
    for (uint32_t i = 0; i < m->config.layers && st == EYRIE_OK; i++) {
        (void)ey_snapshot_part(s, first_part + i, &size);
        if (size != sizes[i])
            st = ey_fail(err, EYRIE_EFORMAT, "layer %" PRIu32 " has %" PRIu64 " bytes in the state file, in the model %" PRIu64
                         "; save it again", i, size, sizes[i]);
    }
    for (uint32_t i = 0; i < m->config.layers && st == EYRIE_OK; i++) {
        const unsigned char *bytes = ey_snapshot_part(s, first_part + i, &size);
        if (size) st = ey_state_write(&m->state, i, slot, 0, size, bytes, err);
    }
    ey_free(sizes);
    return st;
}

/* --------------------------------------------------------------------------------------------------- what it is */

/* Weights read once, every layer's state, and the arithmetic of one token at batch 1 with the window full. */
static void decode_cost(const eyrie_model *m, eyrie_model_info *info)
{
    const ey_config *c = &m->config;
    uint64_t table = m->embedding->params;

    info->decode_bytes = info->weight_bytes + info->state_bytes - (m->head == m->embedding ? 0 : ey_matrix_bytes(m->embedding));
    info->decode_flops = 2 * ey_weights_params(m->weights) - (m->head == m->embedding ? 0 : 2 * table);
    info->decode_flops += 4ull * ey_config_count(c, EY_ATTENTION) * c->heads * c->head_dim * (m->context.window + 1);
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

eyrie_status eyrie_model_inspect(const char *path, const eyrie_model_opts *opts, eyrie_model_info *info, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };     /* declaring asks a device only for its largest allocation */
    eyrie_model *m;
    ey_file *file = NULL;
    eyrie_status st;

    if (!(m = ey_calloc(1, sizeof *m))) return ey_fail(err, EYRIE_ENOMEM, "model handle");
    m->dev = &nowhere;
    EY_TRY(open_source(m, &file, path, opts, err));
    copy_info(info, m);
done:
    ey_file_close(file);
    model_free(m);
    return st;
}

/* --------------------------------------------------------------------------------------------------------- packing */

static eyrie_status copy_file(const char *from, const char *to, const char *name, eyrie_error *err)
{
    char *source = ey_path(from, name), *target = ey_path(to, name);
    ey_output *o = NULL;
    ey_map map = { 0 };
    eyrie_status st;

    if (!source || !target) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", name);
        goto done;
    }
    if (!ey_file_exists(source)) goto none;
    EY_TRY(ey_map_open(&map, source, err));
    EY_TRY(ey_output_open(&o, target, err));
    if ((st = ey_output_write(o, map.data, map.size, err)) != EYRIE_OK) (void)ey_output_close(o, false, NULL);
    else st = ey_output_close(o, true, err);
    goto done;
none:
    st = EYRIE_OK;
done:
    ey_map_close(&map);
    ey_free(source);
    ey_free(target);
    return st;
}

static const char *const packed_files[] = { "config.json", "tokenizer.model", "model.safetensors" };
enum { PACKED_FILES = sizeof packed_files / sizeof *packed_files };

/* The files of the new checkpoint, in a directory that is there. */
static eyrie_status write_checkpoint(eyrie_model *m, const char *path, const char *directory, eyrie_error *err)
{
    char *name = ey_path(directory, packed_files[PACKED_FILES - 1]);
    ey_output *o = NULL;
    eyrie_status st;

    if (!name) return ey_fail(err, EYRIE_ENOMEM, "%s", directory);
    for (size_t i = 0; i + 1 < PACKED_FILES; i++) EY_TRY(copy_file(path, directory, packed_files[i], err));
    EY_TRY(ey_output_open(&o, name, err));
    if ((st = ey_weights_write(m->weights, o, m->identity, err)) != EYRIE_OK) (void)ey_output_close(o, false, NULL);
    else st = ey_output_close(o, true, err);
done:
    ey_free(name);
    return st;
}

static void remove_checkpoint(const char *directory)
{
    for (size_t i = 0; i < PACKED_FILES; i++) {
        char *name = ey_path(directory, packed_files[i]);
        if (name) (void)remove(name);
        ey_free(name);
    }
    (void)remove(directory);
}

/* Written beside its place, and moved there whole. */
static eyrie_status write_directory(eyrie_model *m, const char *path, const char *directory, eyrie_error *err)
{
    char beside[4096], reason[128];
    int n = snprintf(beside, sizeof beside, "%s.new-%" PRIu64, directory, ey_process_id());
    eyrie_status st;

    if (n < 0 || (size_t)n >= sizeof beside) return ey_fail(err, EYRIE_EINVAL, "%.100s...: too long for a path", directory);
    if (ey_file_exists(directory))
        return ey_fail(err, EYRIE_EINVAL, "%s: is there already; name a directory that is not, or remove it first", directory);
    EY_TRY(ey_dir_make(beside, err));
    st = write_checkpoint(m, path, beside, err);
    if (st == EYRIE_OK && rename(beside, directory) != 0)
        st = ey_fail(err, EYRIE_EIO, "cannot move %s to %s: %s", beside, directory, ey_reason(errno, reason));
    if (st != EYRIE_OK) remove_checkpoint(beside);
done:
    return st;
}

eyrie_status eyrie_pack(const char *path, const char *directory, const eyrie_model_opts *opts, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m;
    ey_file *file = NULL;
    ey_progress progress;
    char *place = ey_strdup(directory);
    eyrie_status st;

    if (!(m = ey_calloc(1, sizeof *m)) || !place) {
        st = ey_fail(err, EYRIE_ENOMEM, "model handle");
        goto done;
    }
    for (size_t n = strlen(place); n > 1 && place[n - 1] == '/'; ) place[--n] = '\0';
    m->dev = &nowhere;
    if (!*place || ey_is_synthetic(path)) {
        st = ey_fail(err, EYRIE_EINVAL, *place ? "%s: has no files to pack" : "%s: to be packed into a directory without a name", path);
        goto done;
    }
    EY_TRY(open_source(m, &file, path, opts, err));
    progress = (ey_progress){ m->opts.progress, m->opts.progress_user };
    ey_weights_listener(m->weights, &progress);
    EY_TRY(identify(m, file, err));
    st = write_directory(m, path, place, err);
done:
    model_free(m);
    ey_file_close(file);
    ey_free(place);
    return st;
}

/* ------------------------------------------------------------------------------------------------------------ text */

eyrie_status eyrie_encode(const eyrie_model *m, const char *text, size_t length, int32_t *ids, size_t capacity, size_t *n,
                          eyrie_error *err)
{
    int32_t *found = NULL;
    size_t n_found = 0, at = 0;
    eyrie_status st;

    *n = 0;
    if (!m->tokenizer)
        return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer.model: give token ids instead (--tokens)");
    if ((st = ey_tokenizer_encode(m->tokenizer, text, length, &found, &n_found, err)) != EYRIE_OK) return st;
    if (m->config.bos >= 0 && at++ < capacity) ids[0] = m->config.bos;
    for (size_t i = 0; i < n_found; i++, at++)
        if (at < capacity) ids[at] = found[i];
    *n = at;
    ey_free(found);
    return EYRIE_OK;
}

int32_t eyrie_find_token(const eyrie_model *m, const char *piece)
{
    return m->tokenizer ? ey_tokenizer_find(m->tokenizer, piece) : -1;
}

eyrie_status eyrie_decode(const eyrie_model *m, const int32_t *ids, size_t n, char *text, size_t capacity, size_t *length,
                          eyrie_error *err)
{
    bool drop_space = m->tokenizer && ey_tokenizer_adds_space(m->tokenizer);
    ey_utf8 utf8 = { .n = 0 };
    size_t total = 0;

    *length = 0;
    if (!m->tokenizer) return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer.model, so its tokens have no text");
    for (size_t i = 0; i <= n; i++) {
        size_t bytes = 0;
        const char *piece = i < n ? ey_tokenizer_bytes(m->tokenizer, ids[i], &bytes) : NULL;
        if (bytes && drop_space && piece[0] == ' ') piece++, bytes--;
        if (bytes) drop_space = false;
        char *out = ey_calloc(3 * (bytes + 4), 1);
        if (!out) return ey_fail(err, EYRIE_ENOMEM, "text");
        size_t made = i < n ? ey_utf8_push(&utf8, piece, bytes, out) : ey_utf8_end(&utf8, out);
        if (total < capacity) memcpy(text + total, out, ey_min(made, capacity - total));
        total += made;
        ey_free(out);
    }
    *length = total;
    return EYRIE_OK;
}
