/* prefix.c - see prefix.h. Walks over all snapshots where one comes or goes: they are hundreds, and each stands for
 * the milliseconds or more that its tokens take to read. */
#include "prefix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct ey_prefix_node node;

struct ey_prefix_node {
    node      *parent;          /* NULL: the root, which has no tokens */
    node      *next;            /* in its bucket */
    uint64_t   hash;
    uint64_t   length;          /* tokens from the beginning of the text to the end of the block */
    uint32_t   children;
    ey_prefix *whole;           /* the snapshot at its end */
    ey_prefix *inside;          /* those that end inside of blocks after it */
    int32_t    tokens[];        /* [unit] */
};

struct ey_prefixes {
    ey_prefix_store store;
    uint64_t        unit;
    uint64_t        limits[EY_TIERS], bytes[EY_TIERS];
    node           *root;
    node          **buckets;    /* [n_buckets], a power of two */
    size_t          n_buckets, n_nodes;
    ey_prefix     **all;        /* [n] */
    size_t          n, capacity;
    double          credit;     /* the worth of the most valuable that went */
    uint64_t        uses;
};

enum { FIRST_BUCKETS = 64 };

/* ------------------------------------------------------------------------------------------------------------ nodes */

static size_t node_bytes(const ey_prefixes *ps) { return sizeof(node) + ps->unit * sizeof(int32_t); }

/* The same tokens are other blocks after another beginning. A hash only says where to look. */
static uint64_t hash_of(const ey_prefixes *ps, const node *parent, const int32_t *tokens)
{
    return XXH3_64bits_withSeed(tokens, ps->unit * sizeof *tokens, parent->hash);
}

static node *find_child(const ey_prefixes *ps, const node *parent, const int32_t *tokens)
{
    uint64_t hash = hash_of(ps, parent, tokens);
    node *at = ps->buckets[hash & (ps->n_buckets - 1)];

    while (at && (at->parent != parent || memcmp(at->tokens, tokens, ps->unit * sizeof *tokens) != 0)) at = at->next;
    return at;
}

/* Twice the buckets. Without memory for them it just gets slower. */
static void spread(ey_prefixes *ps)
{
    size_t n = 2 * ps->n_buckets;
    node **buckets = ey_calloc(n, sizeof *buckets), *next;

    if (!buckets) return;
    for (size_t i = 0; i < ps->n_buckets; i++)
        for (node *at = ps->buckets[i]; at; at = next) {
            next = at->next;
            at->next = buckets[at->hash & (n - 1)];
            buckets[at->hash & (n - 1)] = at;
        }
    ey_free(ps->buckets);
    ps->buckets = buckets;
    ps->n_buckets = n;
}

static node *add_child(ey_prefixes *ps, node *parent, const int32_t *tokens)
{
    node *at = ey_calloc(1, node_bytes(ps)), **bucket;

    if (!at) return NULL;
    if (ps->n_nodes >= ps->n_buckets) spread(ps);
    at->parent = parent;
    at->length = parent->length + ps->unit;
    at->hash = hash_of(ps, parent, tokens);
    memcpy(at->tokens, tokens, ps->unit * sizeof *tokens);
    bucket = &ps->buckets[at->hash & (ps->n_buckets - 1)];
    at->next = *bucket;
    *bucket = at;
    parent->children++;
    ps->n_nodes++;
    return at;
}

/* Frees a node, and those before it, as far as nothing hangs there. */
static void prune(ey_prefixes *ps, node *at)
{
    while (at->parent && !at->children && !at->whole && !at->inside) {
        node **place = &ps->buckets[at->hash & (ps->n_buckets - 1)], *parent = at->parent;
        while (*place != at) place = &(*place)->next;
        *place = at->next;
        parent->children--;
        ps->n_nodes--;
        ey_free(at);
        at = parent;
    }
}

/* -------------------------------------------------------------------------------------------------- opening, closing */

ey_prefixes *ey_prefixes_new(uint32_t unit, const uint64_t limits[EY_TIERS], const ey_prefix_store *store)
{
    ey_prefixes *ps = ey_calloc(1, sizeof *ps);

    if (!ps) return NULL;
    ps->store = *store;
    ps->unit = unit;
    memcpy(ps->limits, limits, sizeof ps->limits);
    ps->n_buckets = FIRST_BUCKETS;
    ps->root = ey_calloc(1, node_bytes(ps));
    ps->buckets = ey_calloc(FIRST_BUCKETS, sizeof *ps->buckets);
    if (ps->root && ps->buckets) return ps;
    ey_prefixes_free(ps);
    return NULL;
}

/* Takes it out of the index; its snapshot is left to the caller. */
static void unlink_prefix(ey_prefixes *ps, ey_prefix *p)
{
    node *at = p->at;
    ey_prefix **place = &at->inside;

    for (size_t i = 0; i < ps->n; i++)
        if (ps->all[i]->above == p) ps->all[i]->above = p->above;
    ps->all[p->index] = ps->all[--ps->n];
    ps->all[p->index]->index = p->index;
    if (at->whole == p) {
        at->whole = NULL;
    } else {
        while (*place != p) place = &(*place)->sibling;
        *place = p->sibling;
    }
    prune(ps, at);
    ey_free(p);
}

void ey_prefixes_free(ey_prefixes *ps)
{
    if (!ps) return;
    while (ps->n > 0) {
        ps->store.forget(ps->store.user, ps->all[0]->snapshot);
        unlink_prefix(ps, ps->all[0]);
    }
    ey_free(ps->all);
    ey_free(ps->buckets);
    ey_free(ps->root);
    ey_free(ps);
}

/* ----------------------------------------------------------------------------------------------------------- worth */

static double worth(const ey_prefix *p)
{
    uint64_t saved = p->length - (p->above ? p->above->length : 0);
    return p->credit + (double)saved / (double)p->bytes;
}

static bool is_on(const ey_prefix *p, ey_tier tier) { return p->tiers >> tier & 1; }

static void mark_used(ey_prefixes *ps, ey_prefix *p)
{
    p->credit = ps->credit;
    p->used = ++ps->uses;
}

/* The least valuable on a tier, if it is worth less than `most`; NULL: there is none. */
static ey_prefix *least(const ey_prefixes *ps, ey_tier tier, double most)
{
    ey_prefix *found = NULL;

    for (size_t i = 0; i < ps->n; i++) {
        ey_prefix *p = ps->all[i];
        double w = worth(p);
        if (!is_on(p, tier) || w > most || (w == most && (!found || p->used > found->used))) continue;
        most = w;
        found = p;
    }
    return found;
}

static bool enter(ey_prefixes *ps, ey_prefix *p, ey_tier tier)
{
    if (!ps->store.copy(ps->store.user, p, tier)) return false;
    p->tiers |= 1u << tier;
    ps->bytes[tier] += p->bytes;
    return true;
}

/* Its copy goes from a tier; *p, too, if it was the last. */
static void leave(ey_prefixes *ps, ey_prefix *p, ey_tier tier)
{
    ps->store.drop(ps->store.user, p, tier);
    p->tiers &= ~(1u << tier);
    ps->bytes[tier] -= p->bytes;
    if (p->tiers) return;
    ps->store.forget(ps->store.user, p->snapshot);
    unlink_prefix(ps, p);
}

void ey_prefixes_discard(ey_prefixes *ps, ey_prefix *p)
{
    uint32_t tiers = p->tiers;

    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++)
        if (tiers >> tier & 1) leave(ps, p, tier);
}

static bool fit(ey_prefixes *ps, ey_tier tier, uint64_t bytes, double value);

/* To the next tier that is there and where it is not among the least; else it is gone. */
static void move_down(ey_prefixes *ps, ey_prefix *p, ey_tier from)
{
    bool there = false;

    ps->credit = fmax(ps->credit, worth(p));
    for (ey_tier to = from + 1; to < EY_TIERS && !there; to++)
        there = is_on(p, to) || (fit(ps, to, p->bytes, worth(p)) && enter(ps, p, to));
    leave(ps, p, from);
}

/* Makes room for something of that value: only what is worth less gives way. */
static bool fit(ey_prefixes *ps, ey_tier tier, uint64_t bytes, double value)
{
    ey_prefix *p;

    if (bytes > ps->limits[tier]) return false;
    while (ps->bytes[tier] > ps->limits[tier] - bytes) {
        if (!(p = least(ps, tier, value))) return false;
        move_down(ps, p, tier);
    }
    return true;
}

/* What a snapshot counts: its place in the index as if it were alone there, so that the sum is never too small. */
static uint64_t full_bytes(const ey_prefixes *ps, uint64_t bytes, uint64_t n)
{
    return bytes + sizeof(ey_prefix) + n / ps->unit * node_bytes(ps) + n % ps->unit * sizeof(int32_t);
}

bool ey_prefixes_make_room(ey_prefixes *ps, ey_tier tier, uint64_t bytes, uint64_t n)
{
    return fit(ps, tier, full_bytes(ps, bytes, n), INFINITY);
}

/* --------------------------------------------------------------------------------------------------- finding, using */

/* Does a text that ends inside of a block part from these tokens there? */
static bool parts(const ey_prefixes *ps, const ey_prefix *p, const int32_t *rest, uint64_t n)
{
    uint64_t length = p->length % ps->unit;
    return memcmp(p->rest, rest, ey_min(length, n) * sizeof *rest) != 0;
}

ey_prefix *ey_prefixes_find(const ey_prefixes *ps, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch)
{
    const node *at = ps->root, *next;
    ey_prefix *found = NULL;
    bool other;

    while (n - at->length >= ps->unit && (next = find_child(ps, at, tokens + at->length))) {
        at = next;
        if (at->whole && (at->length < n || at->whole->ends || !logits)) found = at->whole;
    }
    other = at->children > 0;
    for (ey_prefix *p = at->inside; p; p = p->sibling) {
        bool differs = parts(ps, p, tokens + at->length, n - at->length);
        other |= differs;
        if (!differs && p->length == n && (p->ends || !logits)) found = p;
    }
    *branch = other && at->length > 0 && at->length < n && (!found || found->length < at->length) ? at->length : 0;
    return found;
}

bool ey_prefixes_use(ey_prefixes *ps, ey_prefix *p)
{
    bool there = is_on(p, EY_ON_DEVICE);

    p->credit = INFINITY;       /* so that nothing that gives way to it moves down in place of it */
    there = there || (fit(ps, EY_ON_DEVICE, p->bytes, INFINITY) && enter(ps, p, EY_ON_DEVICE));
    mark_used(ps, p);
    if (!there) ey_prefixes_discard(ps, p);
    else if (is_on(p, EY_IN_HOST)) leave(ps, p, EY_IN_HOST);
    return there;
}

/* ----------------------------------------------------------------------------------------------------------- adding */

/* The node where a text's whole blocks end, made if need be; NULL: no memory. */
static node *make_path(ey_prefixes *ps, const int32_t *tokens, uint64_t n)
{
    node *at = ps->root, *next;

    while (n - at->length >= ps->unit) {
        if (!(next = find_child(ps, at, tokens + at->length)) && !(next = add_child(ps, at, tokens + at->length))) {
            prune(ps, at);
            return NULL;
        }
        at = next;
    }
    return at;
}

static bool is_below(const ey_prefix *p, const node *top)
{
    const node *at = p->at;

    while (at->length > top->length) at = at->parent;
    return at == top;
}

/* Its place between those that are beginnings of it, and those that it is one of. */
static void find_above(ey_prefixes *ps, ey_prefix *p)
{
    bool is_whole = p->at->whole == p;
    const node *at = is_whole ? p->at->parent : p->at;

    while (at && !at->whole) at = at->parent;
    p->above = at ? at->whole : NULL;
    for (size_t i = 0; i < ps->n && is_whole; i++) {
        ey_prefix *other = ps->all[i];
        if (other != p && other->above == p->above && is_below(other, p->at)) other->above = p;
    }
}

static ey_prefix *same_text(const ey_prefixes *ps, const node *at, const int32_t *rest, uint64_t n)
{
    ey_prefix *p = n ? at->inside : at->whole;

    while (n && p && (p->length != at->length + n || parts(ps, p, rest, n))) p = p->sibling;
    return p;
}

bool ey_prefixes_add(ey_prefixes *ps, const int32_t *tokens, uint64_t n, void *snapshot, uint64_t bytes, bool ends,
                     ey_tier tier)
{
    uint64_t rest = n % ps->unit;
    ey_prefix *p = ey_calloc(1, sizeof *p + rest * sizeof *tokens), *old;

    if (!p || !ey_grow(&ps->all, &ps->capacity, ps->n + 1, sizeof *ps->all) || !(p->at = make_path(ps, tokens, n))) {
        ey_free(p);
        return false;
    }
    p->snapshot = snapshot;
    p->length = n;
    p->bytes = full_bytes(ps, bytes, n);
    p->tiers = 1u << tier;
    p->ends = ends;
    mark_used(ps, p);
    memcpy(p->rest, tokens + n - rest, rest * sizeof *tokens);
    old = same_text(ps, p->at, p->rest, rest);
    p->index = ps->n++;
    ps->all[p->index] = p;
    ps->bytes[tier] += p->bytes;
    p->sibling = p->at->inside;
    p->at->inside = p;              /* so that the node stays when the old one goes */
    if (old) ey_prefixes_discard(ps, old);
    if (rest == 0) {
        p->at->inside = p->sibling;
        p->sibling = NULL;
        p->at->whole = p;
    }
    find_above(ps, p);
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- the rest */

void ey_prefixes_age(ey_prefixes *ps)
{
    for (size_t i = 0; i < ps->n; i++) ps->credit = fmax(ps->credit, worth(ps->all[i]));
}

/* The most valuable first. */
static int compare(const void *a, const void *b)
{
    double x = worth(*(ey_prefix *const *)a), y = worth(*(ey_prefix *const *)b);
    return x > y ? -1 : x < y;
}

void ey_prefixes_settle(ey_prefixes *ps)
{
    size_t n = ps->n, keep = 0;
    uint64_t left = ps->limits[EY_ON_DISK];
    ey_prefix **order = n > 0 && left > 0 ? ey_calloc(n, sizeof *order) : NULL;

    if (!order) return;
    for (size_t i = 0; i < n; i++) order[i] = ps->all[i];
    qsort(order, n, sizeof *order, compare);
    for (size_t i = 0; i < n; i++) {
        if (order[i]->bytes > left) continue;
        left -= order[i]->bytes;
        ey_prefix *p = order[i];
        order[i] = order[keep];
        order[keep++] = p;
    }
    for (size_t i = keep; i < n; i++) ey_prefixes_discard(ps, order[i]);
    for (size_t i = 0; i < keep; i++)
        if (!is_on(order[i], EY_ON_DISK)) (void)enter(ps, order[i], EY_ON_DISK);
    ey_free(order);
}

void ey_prefix_tokens(const ey_prefixes *ps, const ey_prefix *p, int32_t *tokens)
{
    memcpy(tokens + p->at->length, p->rest, (p->length - p->at->length) * sizeof *tokens);
    for (const node *at = p->at; at->parent; at = at->parent)
        memcpy(tokens + at->parent->length, at->tokens, ps->unit * sizeof *tokens);
}

uint64_t ey_prefixes_bytes(const ey_prefixes *ps, ey_tier tier) { return ps->bytes[tier]; }
size_t   ey_prefixes_count(const ey_prefixes *ps) { return ps->n; }
