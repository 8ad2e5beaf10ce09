/* state.c - slots. */
#include "state.h"

#include <inttypes.h>
#include <stdio.h>

/* Largest first, so that if there are too many slots the message has the number that fits. */
static void put_in_order(ey_state *s)
{
    for (uint32_t i = 0; i < s->n_layers; i++) {
        uint32_t k = i;
        for (; k > 0 && s->layers[s->order[k - 1]].bytes < s->layers[i].bytes; k--) s->order[k] = s->order[k - 1];
        s->order[k] = i;
    }
}

static eyrie_status check_size(const ey_state *s, uint32_t layer, eyrie_error *err)
{
    uint64_t bytes = s->layers[layer].bytes, limit = s->arena.dev->max_alloc, total;
    char size[24], most[24];

    if (bytes > limit)
        return ey_fail(err, EYRIE_ELIMIT, "layer %" PRIu32 ": the state of one sequence takes %s, and one allocation holds %s; "
                       "a smaller --context shrinks it", layer, ey_bytes_text(bytes, size), ey_bytes_text(limit, most));
    if (!ey_mul(bytes, s->slots, &total) || total > limit)
        return ey_fail(err, EYRIE_ELIMIT, "layer %" PRIu32 ": the state of %" PRIu32 " sequences takes %s each, and one "
                       "allocation holds %s: at most --slots %" PRIu64 " (or a smaller --context) fits", layer, s->slots,
                       ey_bytes_text(bytes, size), ey_bytes_text(limit, most), limit / bytes);
    return EYRIE_OK;
}

/* How many of the layers from order[k] on share an allocation: they have one size, with which each begins where a buffer may
 * begin, and kernels have strides of 31 bits. */
static uint32_t neighbours(const ey_state *s, uint32_t k)
{
    uint64_t bytes = s->layers[s->order[k]].bytes, align = s->arena.dev->alignment;
    uint64_t most = ey_min(s->arena.dev->max_alloc / s->slots, INT32_MAX);
    uint32_t n = 1;

    if (!align || !bytes || bytes % align) return 1;
    while (k + n < s->n_layers && s->layers[s->order[k + n]].bytes == bytes && (n + 1) * bytes <= most) n++;
    return n;
}

static eyrie_status lay_together(ey_state *s, const uint32_t *layers, uint32_t n, eyrie_error *err)
{
    uint64_t bytes = s->layers[layers[0]].bytes;
    char label[48];
    ey_buffer *whole;

    if (n == 1) snprintf(label, sizeof label, "state of layer %" PRIu32, layers[0]);
    else snprintf(label, sizeof label, "state of layer %" PRIu32 " and %" PRIu32 " others", layers[0], n - 1);
    if (!(whole = ey_arena_add(&s->arena, s->slots * n * bytes, label))) return ey_fail(err, EYRIE_ENOMEM, "%s", label);
    for (uint32_t i = 0; i < n; i++) {
        ey_buffer *part = n == 1 ? whole : ey_arena_part(&s->arena, whole, i * bytes, (s->slots * n - n + 1) * bytes);
        if (!part) return ey_fail(err, EYRIE_ENOMEM, "%s", label);
        s->layers[layers[i]] = (ey_layer_state){ part, bytes, n * bytes, whole, i * bytes };
    }
    return EYRIE_OK;
}

eyrie_status ey_state_init(ey_state *s, eyrie_device *dev, uint32_t slots, const uint64_t *bytes, uint32_t layers, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    *s = (ey_state){ .slots = slots, .n_layers = layers };
    ey_arena_init(&s->arena, dev, "state");
    s->layers = ey_calloc(layers, sizeof *s->layers);
    s->order = ey_calloc(layers, sizeof *s->order);
    if (!s->layers || !s->order) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " layers", layers);
    for (uint32_t i = 0; i < layers; i++) s->layers[i].bytes = bytes[i];
    put_in_order(s);
    for (uint32_t k = 0, n; k < layers && st == EYRIE_OK; k += n) {
        if ((st = check_size(s, s->order[k], err)) != EYRIE_OK) break;
        n = neighbours(s, k);
        st = lay_together(s, &s->order[k], n, err);
    }
    return st;
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
    return (ey_range){ a->whole, a->at + slot * a->stride, b->whole, b->at + to_slot * b->stride, bytes };
}

eyrie_status ey_state_read(const ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, void *to,
                           eyrie_error *err)
{
    const ey_layer_state *l = &s->layers[layer];
    return ey_buffer_read(s->arena.dev, l->buffer, slot * l->stride + offset, bytes, to, err);
}

eyrie_status ey_state_write(ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, const void *from,
                            eyrie_error *err)
{
    const ey_layer_state *l = &s->layers[layer];
    return ey_buffer_write(s->arena.dev, l->buffer, slot * l->stride + offset, bytes, from, err);
}

void ey_state_free(ey_state *s)
{
    ey_arena_free(&s->arena);
    ey_free(s->layers);
    ey_free(s->order);
    *s = (ey_state){ 0 };
}
