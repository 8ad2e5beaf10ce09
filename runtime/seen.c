/* seen.c - see seen.h. Open addressing with linear probing; at most half full, so searches are short. */
#include "seen.h"

#include <string.h>

enum { FIRST_CAPACITY = 64 };

/* The place of `id`, or the empty one where it would go. Multiplying by 2^32 over the golden ratio spreads ids
 * that follow a pattern, and mixes well in the high bits only: hence the fold. */
static ey_seen_token *place_of(ey_seen_token *places, size_t capacity, int32_t id)
{
    uint32_t h = (uint32_t)id * 0x9E3779B1u;
    size_t i = (h ^ h >> 15) & (capacity - 1);
    while (places[i].id != id && places[i].id >= 0) i = (i + 1) & (capacity - 1);
    return &places[i];
}

static bool make_room(ey_seen *s)
{
    size_t capacity = s->capacity ? 2 * s->capacity : FIRST_CAPACITY;
    ey_seen_token *places;

    if (2 * (s->n + 1) <= s->capacity) return true;
    if (!(places = ey_calloc(capacity, sizeof *places))) return false;
    for (size_t i = 0; i < capacity; i++) places[i].id = -1;
    for (size_t i = 0; i < s->capacity; i++)
        if (s->places[i].id >= 0) *place_of(places, capacity, s->places[i].id) = s->places[i];
    ey_free(s->places);
    s->places = places;
    s->capacity = capacity;
    return true;
}

/* The token's place, new if need be; NULL = no memory. */
static ey_seen_token *take_place(ey_seen *s, int32_t id)
{
    ey_seen_token *t;

    if (!make_room(s)) return NULL;
    t = place_of(s->places, s->capacity, id);
    if (t->id < 0) {
        *t = (ey_seen_token){ id, 0 };
        s->n++;
    }
    return t;
}

bool ey_seen_add(ey_seen *s, int32_t id, bool generated)
{
    ey_seen_token *t = take_place(s, id);

    if (t && generated && t->generated < UINT32_MAX) t->generated++;
    return t != NULL;
}

bool ey_seen_put(ey_seen *s, int32_t id, uint32_t generated)
{
    ey_seen_token *t = take_place(s, id);

    if (t) t->generated = generated;
    return t != NULL;
}

const ey_seen_token *ey_seen_find(const ey_seen *s, int32_t id)
{
    const ey_seen_token *t = s->n ? place_of(s->places, s->capacity, id) : NULL;
    return t && t->id >= 0 ? t : NULL;
}

bool ey_seen_copy(ey_seen *to, const ey_seen *from)
{
    if (from->n == 0) return true;
    if (!(to->places = ey_calloc(from->capacity, sizeof *to->places))) return false;
    memcpy(to->places, from->places, from->capacity * sizeof *to->places);
    to->capacity = from->capacity;
    to->n = from->n;
    return true;
}

void ey_seen_free(ey_seen *s)
{
    ey_free(s->places);
    *s = (ey_seen){ 0 };
}
