/* seen.h - which tokens a sequence holds, and how often it generated each: what the sampler's penalties ask. A hash
 * table, so that reading a prompt and sampling take the same time however much was seen. Not for the tokens' order,
 * which nobody asks. */
#ifndef EY_SEEN_H
#define EY_SEEN_H

#include "base.h"

typedef struct ey_seen_token {
    int32_t  id;          /* -1 = an empty place */
    uint32_t generated;   /* how often it was generated, up to UINT32_MAX; 0 = it was in prompts only */
} ey_seen_token;

/* Zero is an empty set. */
typedef struct ey_seen {
    ey_seen_token *places;      /* [capacity], a power of two, at least twice n */
    size_t         capacity;
    size_t         n;           /* different tokens */
} ey_seen;

/* Takes note of a token, id >= 0. False: no memory, nothing was changed. */
bool ey_seen_add(ey_seen *s, int32_t id, bool generated);

/* The same for all times at once: it was generated so often, and read perhaps. */
bool ey_seen_put(ey_seen *s, int32_t id, uint32_t generated);

/* NULL = never seen. */
const ey_seen_token *ey_seen_find(const ey_seen *s, int32_t id);

/* `to` must be empty. False: no memory, and it still is. */
bool ey_seen_copy(ey_seen *to, const ey_seen *from);

void ey_seen_free(ey_seen *s);

#endif
