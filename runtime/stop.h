/* stop.h - stop texts in a text that streams: finds the first one, and holds back what may yet become one. Knows bytes
 * that come in any pieces; not tokens, and not characters beyond this: stop texts are UTF-8, so where the text is made
 * of whole characters, so is all that comes out.
 *
 * The text ends where a stop text first becomes complete; of several that end there the longest counts. It is cut where
 * that one begins. So the cut does not depend on the pieces, and no byte has to be waited for after a complete one. */
#ifndef EY_STOP_H
#define EY_STOP_H

#include "base.h"

/* One stop text, and how much of it the text so far ends with. */
typedef struct ey_stop_text {
    char   *text;       /* [length] */
    size_t  length;
    size_t *border;     /* [length] of each of its beginnings: the longest shorter one that it ends with */
    size_t  matched;    /* bytes, < length */
} ey_stop_text;

/* Zero: no stop texts, everything passes. */
typedef struct ey_stop {
    ey_stop_text *texts;    /* [n] */
    size_t        n;
    size_t        longest;  /* bytes of the longest */
} ey_stop;

/* Copies n texts into *s, which needs no freeing before or after a failure. EINVAL: one is empty, or not UTF-8. */
eyrie_status ey_stop_init(ey_stop *s, const char *const *texts, size_t n, eyrie_error *err);
void         ey_stop_free(ey_stop *s);

/* Appends to `out` (room for length + s->longest bytes) what can be delivered now that `bytes` have come; returns its
 * length. *found: a stop text is complete, and the rest, from its beginning on, is dropped. */
size_t ey_stop_push(ey_stop *s, const char *bytes, size_t length, char *out, bool *found);

/* Ends the text: writes what was held back (less than s->longest bytes), and is as if new. */
size_t ey_stop_end(ey_stop *s, char *out);

#endif
