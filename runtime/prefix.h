/* prefix.h - what of which texts is kept: from token ids to snapshots of the states after them, on tiers of different
 * speed and size. Says which snapshot serves a prompt best, and which one goes when a tier is full. What snapshots
 * are made of and how they are copied is the store's business: here are no devices and no files.
 *
 * Texts are cut into blocks of `unit` tokens, which are nodes of a tree; snapshots hang at nodes, or, where a text
 * ends inside of a block, at the node before with the tokens of the rest. A text that goes on from a snapshot at a
 * node is computed as if it had been read from its beginning, bit for bit; one inside of a block serves only the text
 * that ends there.
 *
 * A snapshot is worth the tokens that it saves over the next shorter one, divided by its bytes, and more the later it
 * was used (GreedyDual-Size: Cao and Irani, "Cost-aware WWW proxy caching algorithms", USITS 1997); of equals, that
 * used last. So snapshots on the way of a long text thin out evenly where room is scarce. */
#ifndef EY_PREFIX_H
#define EY_PREFIX_H

#include "base.h"

typedef enum ey_tier { EY_ON_DEVICE, EY_IN_HOST, EY_ON_DISK, EY_TIERS } ey_tier;    /* the fastest first */

/* A text of which there is a snapshot. To be read only. */
typedef struct ey_prefix {
    void    *snapshot;          /* the store's */
    uint64_t length;            /* tokens, at least 1 */
    uint64_t bytes;             /* counted on every tier that it is on: the snapshot's, and those of its place here */
    uint32_t tiers;             /* a bit for each */
    bool     ends;              /* the snapshot has the logits after the last token */

    /* prefix.c's own */
    struct ey_prefix_node *at;
    struct ey_prefix *sibling;  /* another that ends in the same block */
    struct ey_prefix *above;    /* the longest that is a beginning of it and serves longer texts; NULL: none */
    size_t   index;
    double   credit;            /* what the worth of others had come to when it was used, */
    uint64_t used;              /* and which use that was */
    int32_t  rest[];            /* [length % unit] tokens after the last whole block */
} ey_prefix;

typedef struct ey_prefix_store {
    void  *user;
    bool (*copy)(void *user, const ey_prefix *p, ey_tier to);   /* from where it is, also to there; false: it cannot be */
    void (*drop)(void *user, const ey_prefix *p, ey_tier from); /* the copy there */
    void (*forget)(void *user, void *snapshot);         /* the last call for it; what is on disk stays for a later time */
} ey_prefix_store;

typedef struct ey_prefixes ey_prefixes;

/* limits: bytes that each tier holds at most; 0: it is not used. NULL: no memory. */
ey_prefixes *ey_prefixes_new(uint32_t unit, const uint64_t limits[EY_TIERS], const ey_prefix_store *store);
/* Forgets all; NULL is fine. */
void         ey_prefixes_free(ey_prefixes *ps);

/* The snapshot that leaves least of a text to be read: NULL if there is none. One of the whole text serves if it has
 * logits or none are wanted. *branch: where a snapshot would have served better, since the text parts there, or less
 * than a block after that, from another one that is known; 0: nowhere. */
ey_prefix *ey_prefixes_find(const ey_prefixes *ps, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch);

/* It serves a text now: it is brought to the device's tier. False: it cannot be, and is gone. */
bool ey_prefixes_use(ey_prefixes *ps, ey_prefix *p);

/* Room for a snapshot of so many bytes on a tier, for a text of n tokens; others move down for it, or go. */
bool ey_prefixes_make_room(ey_prefixes *ps, ey_tier tier, uint64_t bytes, uint64_t n);

/* Takes over a snapshot that is on that tier, where there has to be room for it, in place of one of the same text.
 * False: no memory; it is still the caller's. */
bool ey_prefixes_add(ey_prefixes *ps, const int32_t *tokens, uint64_t n, void *snapshot, uint64_t bytes, bool ends,
                     ey_tier tier);

/* It is of no use: it leaves all tiers. */
void ey_prefixes_discard(ey_prefixes *ps, ey_prefix *p);

/* From now on what is used is worth more than all there is: that was used in an earlier time. */
void ey_prefixes_age(ey_prefixes *ps);

/* Leaves the most valuable that the disk's tier can hold there. */
void ey_prefixes_settle(ey_prefixes *ps);

void     ey_prefix_tokens(const ey_prefixes *ps, const ey_prefix *p, int32_t *tokens);      /* [p->length] */
uint64_t ey_prefixes_bytes(const ey_prefixes *ps, ey_tier tier);        /* on it */
size_t   ey_prefixes_count(const ey_prefixes *ps);

#endif
