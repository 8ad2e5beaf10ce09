/* model.c - opening a model that checkpoint.c has declared: plans are recorded, memory is counted, then allocated and
 * filled. */
#include "copy.h"
#include "model_parts.h"
#include "os.h"
#include "probe.h"
#include "tiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_BUCKET = 8 /* tokens of the smallest prefill plan: a short prompt reads the weights once and computes little */ };

/* ------------------------------------------------------------------------------------------------------- recording */

/* The forward pass. */
static void emit(eyrie_model *m, ey_bucket *b, ey_buffer *results)
{
    const ey_config *c = &m->config;
    ey_plan *p = &b->plan;

    p->layer = 0;
    ey_act x = ey_embed(p, m->embedding, c->embed_scale);
    for (uint32_t i = 0; i < c->layers; i++) {
        const ey_model_block *l = &m->blocks[i];
        p->layer = i;
        if (l->kind == EY_RECURRENT) ey_recurrent_emit(p, &l->mix.recurrent, &m->context, &m->state.layers[i], x);
        else ey_attention_emit(p, &l->mix.attention, &m->context, &m->state.layers[i], x);
        ey_mlp_emit(p, &l->mlp, &m->context, x);
    }
    p->layer = c->layers;
    ey_act z = ey_normalise(p, ey_norm(x, m->final_norm, c->width, c->eps), true);
    b->tile = p->phase == EY_DECODE ? p->tokens : ey_head_tile(m->head, p->tokens);
    b->logits = ey_head_reduce(p, z, &(ey_head){ .w = m->head, .vocab = c->vocab, .cap = c->cap, .wanted = p->tokens,
                                                 .tile = b->tile, .results = results });
}

static uint32_t most_rows(const eyrie_model *m, uint32_t tokens) { return (uint32_t)ey_min(ey_min(m->opts.slots, tokens), EYRIE_STEP_SEQUENCES); }

/* Most words of a batch's image. */
static uint64_t image_words(const eyrie_model *m, uint32_t most) { return ey_image_capacity(most, most_rows(m, most), m->config.rotary); }

/* Buckets of `first`, twice that, ... up to `most` itself. */
static eyrie_status record_phase(eyrie_model *m, ey_phase which, uint32_t first, uint32_t most, eyrie_error *err)
{
    ey_phase_plans *ph = &m->phases[which];
    eyrie_status st = EYRIE_OK;

    ph->most = most;
    ey_scratch_init(&ph->scratch, m->dev, which == EY_PREFILL ? "prefill scratch" : "decode scratch");
    if (!(ph->results = ey_arena_add(&ph->scratch.arena, (uint64_t)most * EY_RESULT_WORDS * 4, "results")))
        return ey_fail(err, EYRIE_ENOMEM, "results");
    for (uint32_t tokens = (uint32_t)ey_min(first, most);; tokens = (uint32_t)ey_min(2 * (uint64_t)tokens, most)) {
        ey_bucket *b = &ph->buckets[ph->n++];
        EY_TRY(ey_plan_begin(&b->plan, which, tokens, which == EY_DECODE ? tokens : most_rows(m, tokens), m->dev,
                             m->program, &ph->scratch, err));
        emit(m, b, ph->results);
        EY_TRY(ey_plan_end(&b->plan, err));
        if (tokens == most) break;
    }
    ey_arena_grow(&ph->scratch.arena, ph->scratch.batch, image_words(m, most) * sizeof(int32_t));
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
    uint64_t weights = m->lender ? 0 : ey_weights_bytes(m->weights), state = m->state.arena.bytes;
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
    ey_buffer *some = m->state.layers[0].buffer;
    EY_TRY(ey_copy_warm_up(m->program, m->dev, some, err));
    ey_tell(progress, "warming up", 1);
    st = ey_device_finish(m->dev, err);
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------------- opening */

static eyrie_status host_buffers(eyrie_model *m, eyrie_error *err)
{
    uint32_t most = (uint32_t)ey_max(m->phases[EY_PREFILL].most, m->phases[EY_DECODE].most);
    bool images = true;

    for (uint32_t i = 0; i < EY_PHASES; i++) {
        ey_phase_plans *ph = &m->phases[i];
        ph->image = ey_calloc(image_words(m, ph->most), sizeof *ph->image);
        images = images && ph->image;
    }
    m->raw = ey_calloc(most, EY_RESULT_WORDS * sizeof *m->raw);
    m->results = ey_calloc(most, sizeof *m->results);
    m->ranges = ey_calloc(m->config.layers, sizeof *m->ranges);
    return images && m->raw && m->results && m->ranges ? EYRIE_OK : ey_fail(err, EYRIE_ENOMEM, "batch of %" PRIu32 " tokens", most);
}

bool ey_model_has_unit(const eyrie_model *m, char reason[320])
{
    bool some = (ey_weights_formats(m->weights) & EY_UNIT_FORMATS) != 0;

    reason[0] = '\0';
    if (m->opts.products == EYRIE_PRODUCTS_CLBLAST || m->opts.compute == EYRIE_COMPUTE_F32) return false;
    if (some) return ey_probe_unit(m->dev, reason);
    if (m->dev->cpu && ey_tiles_exist())
        snprintf(reason, 320, "it multiplies weights in bf16, q8 or q4, and these are not (--weights bf16)");
    return false;
}

/* What the program is for. Instructions that are there and stay idle are worth a note, unless that was asked for. */
static uint32_t choose_kernels(eyrie_model *m)
{
    uint32_t formats = ey_weights_formats(m->weights);
    char reason[320];

    if (m->opts.products == EYRIE_PRODUCTS_CLBLAST) return formats | EY_CLBLAST;
    if (m->opts.compute == EYRIE_COMPUTE_INT8) {
        reason[0] = '\0';
        formats |= EY_INT8;
        if (ey_probe_vnni(m->dev, reason)) formats |= EY_VNNI;
        if (reason[0]) ey_note(&m->dev->log, "products in 8 bits go without the CPU's VNNI instructions: %s", reason);
    }
    m->unit = ey_model_has_unit(m, reason);
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

/* The program and all plans; nothing is allocated on the device. */
static eyrie_status record(eyrie_model *m, eyrie_error *err)
{
    eyrie_status st;

    if (m->opts.compute == EYRIE_COMPUTE_INT8 && !m->dev->cpu) {
        st = ey_fail(err, EYRIE_EINVAL, "products in 8 bits are there for CPUs; leave out --compute int8, or ask for --kernels cpu");
        goto done;
    }
    EY_TRY(ey_program_build(&m->program, m->dev, choose_kernels(m), m->opts.kv, err));
    EY_TRY(record_phase(m, EY_PREFILL, FIRST_BUCKET, m->opts.chunk, err));
    st = record_phase(m, EY_DECODE, 1, most_rows(m, UINT32_MAX), err);
done:
    return st;
}

eyrie_status ey_model_rehearse(ey_program **program, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                               eyrie_error *err)
{
    eyrie_model *m;
    eyrie_status st;

    *program = NULL;
    EY_TRY(ey_model_declare(&m, dev, path, opts, err));
    EY_TRY(record(m, err));
    *program = m->program;
    m->program = NULL;
done:
    ey_model_free(m);
    return st;
}

/* Where the memory is shared: m->lender. */
static eyrie_status find_lender(eyrie_model *m, eyrie_error *err)
{
    eyrie_model *share = m->opts.share;

    if (!share) return EYRIE_OK;
    if (share->dev->context != m->dev->context) {
        ey_note(&m->dev->log, "weights are loaded once more: the model that has them is on a device with other memory");
        return EYRIE_OK;
    }
    if (strcmp(m->identity, share->identity) != 0)
        return ey_fail(err, EYRIE_EINVAL, "the model to share weights with is another one, a %s of %" PRIu64 " parameters, this is a %s "
                       "of %" PRIu64 "; open both from the same checkpoint", share->family->name, ey_weights_params(share->weights),
                       m->family->name, ey_weights_params(m->weights));
    if (!ey_weights_borrow(m->weights, share->weights))
        return ey_fail(err, EYRIE_EINVAL, "the model to share weights with has them in %s, this one in %s, or arranged in another way; "
                       "open both with the same --weights", ey_quant_of(share->blocks[0].mlp.in->format)->name,
                       ey_quant_of(m->blocks[0].mlp.in->format)->name);
    m->lender = share;
    return EYRIE_OK;
}

static eyrie_status load_weights(eyrie_model *m, eyrie_error *err)
{
    if (m->lender) return EYRIE_OK;
    return m->synthetic ? ey_weights_fill(m->weights, m->program, err) : ey_weights_load(m->weights, err);
}

eyrie_status eyrie_model_open(eyrie_model **out, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                              eyrie_error *err)
{
    eyrie_model *m;
    ey_progress progress;
    eyrie_status st;

    *out = NULL;
    EY_TRY(ey_model_declare(&m, dev, path, opts, err));
    progress = (ey_progress){ m->opts.progress, m->opts.progress_user };
    ey_weights_listener(m->weights, &progress);
    EY_TRY(check_loops(m, err));
    ey_tell(&progress, "building kernels", 0);
    ey_tuning_load(dev);
    EY_TRY(record(m, err));
    EY_TRY(ey_model_identify(m, err));
    EY_TRY(find_lender(m, err));
    EY_TRY(check_memory(m, err));
    EY_TRY(host_buffers(m, err));
    EY_TRY(load_weights(m, err));
    EY_TRY(ey_arena_commit(&m->state.arena, err));
    for (uint32_t ph = 0; ph < EY_PHASES; ph++) EY_TRY(ey_arena_commit(&m->phases[ph].scratch.arena, err));
    EY_TRY(warm_up(m, &progress, err));
    ey_program_store(m->program);
    dev->children++;
    if (m->lender) m->lender->borrowers++;
    if (m->lender || !ey_weights_in_file(m->weights)) {
        ey_file_close(m->file);
        m->file = NULL;
    }
    *out = m;
    m = NULL;
done:
    ey_model_free(m);
    return st;
}

eyrie_status eyrie_model_close(eyrie_model *m)
{
    if (!m) return EYRIE_OK;
    if (m->taken || m->borrowers) return EYRIE_EBUSY;
    m->dev->children--;
    if (m->lender) m->lender->borrowers--;
    ey_model_free(m);
    return EYRIE_OK;
}

const ey_config *ey_model_config(const eyrie_model *m) { return &m->config; }
const ey_tokenizer *ey_model_tokenizer(const eyrie_model *m) { return m->tokenizer; }

ey_model_limits ey_model_get_limits(const eyrie_model *m)
{
    return (ey_model_limits){ .slots = m->opts.slots, .chunk = m->opts.chunk, .prefill_rows = most_rows(m, m->opts.chunk),
                              .decode_rows = most_rows(m, UINT32_MAX), .logits = ey_head_tile(m->head, m->opts.chunk), .vocab = m->config.vocab,
                              .context = m->opts.context };
}

bool ey_model_take(eyrie_model *m) { return m->taken ? false : (m->taken = true); }
void ey_model_give(eyrie_model *m) { m->taken = false; }

eyrie_device *ey_model_device(const eyrie_model *m) { return m->dev; }
