/* slots.c - sequences' states in and out of a model's slots: from one slot to another, to state files and back. How many bytes
 * they have used is known here, what they mean is not. */
#include "copy.h"
#include "model_parts.h"

#include <inttypes.h>
#include <stdio.h>

enum { PIECE = 1 << 20 };   /* bytes of a state on their way through the host */

/* What a layer has used of a slot after `position` tokens. A ring fills from its first block on. */
static uint64_t used_bytes(const eyrie_model *m, uint32_t layer, uint64_t position)
{
    uint32_t ring = m->blocks[layer].kind == EY_ATTENTION ? m->context.ring_blocks : 1;
    uint64_t used = ey_min(position / EY_BLOCK + (position % EY_BLOCK > 0), ring);

    return m->state.layers[layer].bytes / ring * used;
}

void ey_model_state_sizes(const eyrie_model *m, uint64_t position, uint64_t *sizes)
{
    for (uint32_t i = 0; i < m->config.layers; i++) sizes[i] = used_bytes(m, i, position);
}

uint64_t ey_model_state_bytes(const eyrie_model *m, uint64_t position)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->config.layers; i++) sum += used_bytes(m, i, position);
    return sum;
}

/* ----------------------------------------------------------------------------------------------- slot to buffer */

/* Between a slot and a buffer that has its layers one after the other, in the order in which they lie in the slot. */
static eyrie_status copy_layers(eyrie_model *m, uint32_t slot, uint64_t position, ey_buffer *b, bool back, eyrie_error *err)
{
    uint64_t at = 0, bytes;

    for (uint32_t i = 0; i < m->config.layers; i++, at += bytes) {
        const ey_layer_state *l = &m->state.layers[m->state.order[i]];
        uint64_t place = l->at + slot * l->stride;
        bytes = used_bytes(m, m->state.order[i], position);
        m->ranges[i] = back ? (ey_range){ b, at, l->whole, place, bytes } : (ey_range){ l->whole, place, b, at, bytes };
    }
    return ey_copy_ranges(m->program, m->dev, m->ranges, m->config.layers, err);
}

eyrie_status ey_model_store_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_buffer *to, eyrie_error *err)
{
    return copy_layers(m, slot, position, to, false, err);
}

eyrie_status ey_model_restore_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_buffer *from, eyrie_error *err)
{
    return copy_layers(m, slot, position, from, true, err);
}

/* ------------------------------------------------------------------------------------------------- slot to slot */

/* `to` waits on its device, not here. After a failure nothing may be under way to a slot that others will get. */
static eyrie_status copy_slot(eyrie_model *from, uint32_t slot, eyrie_model *to, uint32_t to_slot, uint64_t position,
                              eyrie_error *err)
{
    cl_event copied = NULL;
    eyrie_status st;

    for (uint32_t i = 0; i < from->config.layers; i++) {
        uint32_t layer = from->state.order[i];
        from->ranges[i] = ey_state_range(&from->state, layer, slot, &to->state, to_slot, used_bytes(from, layer, position));
    }
    EY_TRY(ey_copy_ranges(from->program, from->dev, from->ranges, from->config.layers, err));
    if (from->dev == to->dev) return EYRIE_OK;
    EY_TRY(ey_device_mark(from->dev, &copied, err));
    st = ey_device_wait_for(to->dev, copied, err);
done:
    if (st != EYRIE_OK) (void)ey_device_finish(from->dev, NULL);
    EY_CL_FREE(clReleaseEvent, copied);
    return st;
}

static eyrie_status carry_slot(eyrie_model *from, uint32_t slot, eyrie_model *to, uint32_t to_slot, uint64_t position,
                               eyrie_error *err)
{
    unsigned char *piece = ey_calloc(PIECE, 1);
    eyrie_status st = piece ? EYRIE_OK : ey_fail(err, EYRIE_ENOMEM, "a piece of a state");

    for (uint32_t i = 0; i < from->config.layers; i++) {
        uint64_t bytes = used_bytes(from, i, position);
        for (uint64_t at = 0; at < bytes && st == EYRIE_OK; at += PIECE) {
            uint64_t n = ey_min(bytes - at, PIECE);
            if ((st = ey_state_read(&from->state, i, slot, at, n, piece, err)) == EYRIE_OK)
                st = ey_state_write(&to->state, i, to_slot, at, n, piece, err);
        }
    }
    ey_free(piece);
    return st;
}

eyrie_status ey_model_copy_slot(eyrie_model *from, uint32_t slot, eyrie_model *to, uint32_t to_slot, uint64_t position,
                                eyrie_error *err)
{
    if (from == to && slot == to_slot) return EYRIE_OK;
    return (from->dev->context == to->dev->context ? copy_slot : carry_slot)(from, slot, to, to_slot, position, err);
}

/* ----------------------------------------------------------------------------------------------------- state files */

static const char *const compute_names[] = { [EYRIE_COMPUTE_AUTO] = "auto", [EYRIE_COMPUTE_F32] = "f32", [EYRIE_COMPUTE_INT8] = "int8" };

static void add_option(ey_traits *t, const char *name, const char *option, const char *value)
{
    ey_trait_remedy(ey_traits_add(t, name, value), "%s %s", option, value);
}

/* The mode of arithmetic comes before the format of the ring, whose default follows from it. Of kernels, those matter whose
 * choice shows in the results' bits: the matrix unit's, not VNNI. */
void ey_model_traits(const eyrie_model *m, ey_traits *t)
{
    const char *weights = ey_quant_of(m->blocks[0].mlp.in->format)->name;
    char window[48] = "none", context[48] = "--context left out";

    *t = (ey_traits){ .n = 0 };
    ey_trait_remedy(ey_traits_add(t, "model", m->identity), "its own model, a %s of %" PRIu64 " parameters", m->family->name,
                    ey_weights_params(m->weights));
    add_option(t, "weights", "--weights", weights);
    add_option(t, "compute", "--compute", compute_names[m->opts.compute]);
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
