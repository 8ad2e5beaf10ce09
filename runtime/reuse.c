/* reuse.c - the prefix cache in an engine: new sequences begin after what is kept of earlier prompts, and prompts
 * that are read leave snapshots. Only of states that come from reading alone, cut where cuts leave no trace: so it
 * does not show in a text whether its prompt was read or kept. */
#include "engine.h"

#include <inttypes.h>

enum { TYPICAL = 4096 };        /* tokens of a prompt whose snapshots shall take no more than half of the device's budget */

#define DISK ((uint64_t)1 << 30)   /* bytes, where nothing is said */

/* The first of chunk, 2 chunks, ... that leaves a typical prompt its room. */
static uint64_t default_spacing(const eyrie_engine *e, uint32_t unit, uint64_t budget)
{
    const eyrie_model *m = e->lanes[EY_PREFILL].model;
    uint64_t spacing = ey_round_up(e->limits.chunk, unit), sum;

    for (;; spacing *= 2) {
        sum = 0;
        for (uint64_t at = spacing; at <= TYPICAL; at += spacing) sum += ey_model_state_bytes(m, at);
        if (2 * sum <= budget) return spacing;
    }
}

static eyrie_status check_options(const eyrie_engine *e, const eyrie_engine_opts *o, eyrie_error *err)
{
    eyrie_device *dev = ey_model_device(e->lanes[EY_PREFILL].model);
    const char *source;
    char budget[24], there[24];
    uint64_t free_memory;

    if (o->prefix_spacing % EY_BLOCK != 0)
        return ey_fail(err, EYRIE_EINVAL, "prefix_spacing %" PRIu32 "; it must be a multiple of %u tokens",
                       o->prefix_spacing, EY_BLOCK);
    if (!o->prefix_memory && (o->prefix_host || o->prefix_dir || o->prefix_spacing))
        return ey_fail(err, EYRIE_EINVAL, "a prefix cache without prefix_memory; all that is kept of prompts passes through it");
    if (o->prefix_memory > (free_memory = ey_device_free_memory(dev, &source)))
        return ey_fail(err, EYRIE_EMEMORY, "a prefix cache of %s, and %s are %s; a smaller --prefix-cache fits",
                       ey_bytes_text(o->prefix_memory, budget), ey_bytes_text(free_memory, there), source);
    return EYRIE_OK;
}

eyrie_status ey_reuse_open(eyrie_engine *e, const eyrie_engine_opts *o, eyrie_error *err)
{
    uint32_t chunk = e->limits.chunk, unit = chunk % EY_BLOCK == 0 ? EY_BLOCK : chunk;      /* as sched.h cuts */
    ey_shelf_opts opts = { .unit = unit, .directory = o->prefix_dir, .limits = { o->prefix_memory, o->prefix_host, 0 } };
    eyrie_status st = check_options(e, o, err);

    if (st != EYRIE_OK || !o->prefix_memory) return st;
    if (o->prefix_dir) opts.limits[EY_ON_DISK] = o->prefix_disk ? o->prefix_disk : DISK;
    e->unit = unit;
    e->spacing = o->prefix_spacing ? ey_round_up(o->prefix_spacing, unit) : default_spacing(e, unit, o->prefix_memory);
    return ey_shelf_open(&e->shelf, e->lanes[EY_PREFILL].model, &opts, err);
}

/* It has its state from reading its request's tokens from the first on, and from nothing else. */
static bool reads_beginning(const eyrie_seq *s)
{
    return s->engine->shelf && s->position == s->next && !(s->request.flags & EYRIE_SCORE);
}

uint32_t ey_reuse_most(const eyrie_seq *s)
{
    uint64_t spacing = s->engine->spacing, end;

    if (!reads_beginning(s)) return 0;
    end = (s->position / spacing + 1) * spacing;
    if (s->branch > s->position && s->branch < end) end = s->branch;
    return (uint32_t)ey_min(end - s->position, UINT32_MAX);
}

static bool wants_logits(const eyrie_seq *s)
{
    return s->request.max_tokens > 0 || (s->request.flags & EYRIE_KEEP_LOGITS);
}

/* It has begun to read that, and has not ended. */
static bool is_reading(const eyrie_seq *s)
{
    return s->state == EY_SEQ_RUNNING && !s->cancelled && s->slot != EY_NO_SLOT && reads_beginning(s) && s->next < s->n_tokens;
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

/* The length of the beginning of s's prompt that r reads for it, too. */
static uint64_t shared(const eyrie_seq *s, const eyrie_seq *r)
{
    uint64_t n = 0, unit = s->engine->unit;

    while (n < s->n_tokens && n < r->n_tokens && s->tokens[n] == r->tokens[n]) n++;
    if (n == s->n_tokens && n == r->n_tokens && (wants_logits(r) || !wants_logits(s))) return n;
    return ey_min(n, s->n_tokens - 1) / unit * unit;
}

bool ey_reuse_waits(eyrie_seq *s)
{
    eyrie_engine *e = s->engine;
    bool waits = false;
    uint64_t branch;

    if (s->state != EY_SEQ_RUNNING || !reads_beginning(s) || s->slot != EY_NO_SLOT) return false;
    for (size_t i = 0; i < e->n_seqs; i++) {
        eyrie_seq *r = e->seqs[i];
        uint64_t n = is_reading(r) ? shared(s, r) : 0;
        if (n <= r->position) continue;
        const ey_prefix *p = ey_shelf_find(e->shelf, s->tokens, s->n_tokens, wants_logits(s), &branch);
        if (p && p->length >= n) continue;
        waits = true;
        if (n < r->n_tokens && (r->branch <= r->position || n < r->branch)) r->branch = n;
    }
    return waits;
}

/* -------------------------------------------------------------------------------------------------- taking, keeping */

/* Takes a snapshot as the sequence's state. *taken: it was there. */
static eyrie_status take(eyrie_seq *s, ey_prefix *p, bool *taken, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    uint64_t n = p->length;
    bool logits = n == s->n_tokens && wants_logits(s);
    ey_ending *ending;

    if (logits && !s->ending_room && !(s->ending_room = ey_ending_new(e)))
        return ey_fail(err, EYRIE_ENOMEM, "a row of logits");
    ending = logits ? s->ending_room : NULL;
    *taken = ey_shelf_restore(e->shelf, p, s->slot, ending ? &ending->result : NULL, ending ? ending->logits : NULL);
    if (!*taken) return EYRIE_OK;
    for (uint64_t i = 0; i < n; i++)
        if (!ey_seen_add(&s->seen, s->tokens[i], false)) return ey_fail(err, EYRIE_ENOMEM, "the tokens that were seen");
    s->position = s->next = s->reused = n;
    e->stats.reused_tokens += n;
    e->stats.prefix_tokens += n;
    e->stats.prefix_hits++;
    s->ending = ending;
    if (ending) s->ending_room = NULL;
    return EYRIE_OK;
}

eyrie_status ey_reuse_begin(eyrie_seq *s, eyrie_error *err)
{
    bool taken = false;
    ey_prefix *p;
    eyrie_status st;

    if (!reads_beginning(s) || s->position > 0) return EYRIE_OK;
    while (!taken && (p = ey_shelf_find(s->engine->shelf, s->tokens, s->n_tokens, wants_logits(s), &s->branch)))
        if ((st = take(s, p, &taken, err)) != EYRIE_OK) return st;
    return s->next < s->n_tokens ? EYRIE_OK : ey_seq_bring(s, EY_DECODE, err);
}

uint32_t ey_reuse_part(const eyrie_seq *s, uint32_t n)
{
    return reads_beginning(s) ? (uint32_t)ey_min(ey_min(n, ey_reuse_most(s)), s->n_tokens - s->next) : n;
}

void ey_reuse_keep(eyrie_seq *s, const ey_result *last, uint32_t wanted)
{
    eyrie_engine *e = s->engine;

    if (!reads_beginning(s) || (!last && s->position % e->spacing != 0 && s->position != s->branch)) return;
    ey_shelf_keep(e->shelf, s->tokens, s->position, s->slot, last, wanted);
}

void ey_reuse_count(const eyrie_engine *e, eyrie_stats *stats)
{
    if (!e->shelf) return;
    ey_shelf_use use = ey_shelf_get_use(e->shelf);
    stats->prefix_bytes = use.held;
    stats->prefix_copied = use.copied;
    stats->prefix_seconds = use.seconds;
}
