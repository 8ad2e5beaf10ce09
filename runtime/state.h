/* state.h - what sequences carry from step to step: slots of the size that the layers declared. Layer-major: one buffer
 * a layer, [slots][bytes], so that a slot is copied with one copy a layer. Knows bytes, not meanings. */
#ifndef EY_STATE_H
#define EY_STATE_H

#include "device.h"

typedef struct ey_layer_state {
    ey_buffer *buffer;
    uint64_t   bytes;       /* of one slot */
} ey_layer_state;

typedef struct ey_state {
    ey_arena        arena;
    uint32_t        slots;
    uint32_t        n_layers;
    ey_layer_state *layers;
} ey_state;

eyrie_status ey_state_init(ey_state *s, eyrie_device *dev, uint32_t slots, uint32_t layers, eyrie_error *err);
/* Declares layer's bytes a slot. ELIMIT: so many slots are more than one allocation holds; the message says how many fit. */
eyrie_status ey_state_declare(ey_state *s, uint32_t layer, uint64_t bytes, eyrie_error *err);
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
