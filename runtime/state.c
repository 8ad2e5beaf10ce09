/* state.c - slots. */
#include "state.h"

#include <inttypes.h>
#include <stdio.h>

eyrie_status ey_state_init(ey_state *s, eyrie_device *dev, uint32_t slots, uint32_t layers, eyrie_error *err)
{
    *s = (ey_state){ .slots = slots, .n_layers = layers };
    ey_arena_init(&s->arena, dev, "state");
    if (!(s->layers = ey_calloc(layers, sizeof *s->layers))) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " layers", layers);
    return EYRIE_OK;
}

eyrie_status ey_state_declare(ey_state *s, uint32_t layer, uint64_t bytes, eyrie_error *err)
{
    uint64_t total, limit = s->arena.dev->max_alloc;
    char label[32], size[24], most[24];

    if (bytes > limit)
        return ey_fail(err, EYRIE_ELIMIT, "layer %" PRIu32 ": the state of one sequence takes %s, and one allocation holds %s; "
                       "a smaller --context shrinks it", layer, ey_bytes_text(bytes, size), ey_bytes_text(limit, most));
    if (!ey_mul(bytes, s->slots, &total) || total > limit)
        return ey_fail(err, EYRIE_ELIMIT, "layer %" PRIu32 ": the state of %" PRIu32 " sequences takes %s each, and one "
                       "allocation holds %s: at most --slots %" PRIu64 " (or a smaller --context) fits", layer, s->slots,
                       ey_bytes_text(bytes, size), ey_bytes_text(limit, most), limit / bytes);
    snprintf(label, sizeof label, "state of layer %" PRIu32, layer);
    s->layers[layer].bytes = bytes;
    if (!(s->layers[layer].buffer = ey_arena_add(&s->arena, total, label))) return ey_fail(err, EYRIE_ENOMEM, "%s", label);
    return EYRIE_OK;
}

uint64_t ey_state_slot_bytes(const ey_state *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n_layers; i++) sum += s->layers[i].bytes;
    return sum;
}

ey_range ey_state_range(const ey_state *from, uint32_t layer, uint32_t slot, ey_state *to, uint32_t to_slot, uint64_t bytes)
{
    const ey_layer_state *a = &from->layers[layer], *b = &to->layers[layer];
    return (ey_range){ a->buffer, slot * a->bytes, b->buffer, to_slot * b->bytes, bytes };
}

eyrie_status ey_state_read(const ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, void *to,
                           eyrie_error *err)
{
    const ey_layer_state *l = &s->layers[layer];
    return ey_buffer_read(s->arena.dev, l->buffer, slot * l->bytes + offset, bytes, to, err);
}

eyrie_status ey_state_write(ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, const void *from,
                            eyrie_error *err)
{
    const ey_layer_state *l = &s->layers[layer];
    return ey_buffer_write(s->arena.dev, l->buffer, slot * l->bytes + offset, bytes, from, err);
}

void ey_state_free(ey_state *s)
{
    ey_arena_free(&s->arena);
    ey_free(s->layers);
    *s = (ey_state){ 0 };
}
