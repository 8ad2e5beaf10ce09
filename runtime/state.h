/* state.h - what sequences carry from step to step: slots with so many bytes for each layer. Layers of one size lie together,
 * [slots][layers][bytes], as many as an allocation holds, so that few copies move a slot. Knows bytes, not meanings. */
#ifndef EY_STATE_H
#define EY_STATE_H

#include "device.h"

typedef struct ey_layer_state {
    ey_buffer *buffer;      /* begins with the layer's bytes of the first slot */
    uint64_t   bytes;       /* of one slot */
    uint64_t   stride;      /* bytes from one slot to the next; a multiple of `bytes` */
    ey_buffer *whole;       /* what `buffer` is a part of, or itself */
    uint64_t   at;          /* where it begins there */
} ey_layer_state;

typedef struct ey_state {
    ey_arena        arena;
    uint32_t        slots;
    uint32_t        n_layers;
    ey_layer_state *layers;
    uint32_t       *order;  /* the layers as they lie in memory: copies that follow it meet neighbours */
} ey_state;

/* bytes [layers]: what each has in a slot. Its arena is to be committed then. ELIMIT: so many slots of a layer are more than one
 * allocation holds; the message says how many fit. After an error as well: ey_state_free. */
eyrie_status ey_state_init(ey_state *s, eyrie_device *dev, uint32_t slots, const uint64_t *bytes, uint32_t layers, eyrie_error *err);
uint64_t     ey_state_slot_bytes(const ey_state *s);    /* sum over the layers */
/* From the first bytes of a layer's slot to those of another, of this state or of one in the same context. */
ey_range     ey_state_range(const ey_state *from, uint32_t layer, uint32_t slot, ey_state *to, uint32_t to_slot, uint64_t bytes);
/* Bytes [offset, offset + bytes) of a layer's slot, from and to the host, after what is enqueued. */
eyrie_status ey_state_read(const ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, void *to,
                           eyrie_error *err);
eyrie_status ey_state_write(ey_state *s, uint32_t layer, uint32_t slot, uint64_t offset, uint64_t bytes, const void *from,
                            eyrie_error *err);
void         ey_state_free(ey_state *s);

#endif
