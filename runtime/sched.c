/* sched.c - scheduling policies. */
#include "sched.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LEVEL    10.0   /* seconds of waiting that a level of priority is worth: nobody waits for ever behind those above */
#define MARGIN   1.4    /* a step may take so much longer than predicted: of parts of a few layers, one in a hundred does */
#define DEARER   1.07   /* a token may cost so much more in a smaller step */
#define INTERVAL 4.0    /* decode steps between two tokens of a sequence while prompts are read, where no bound is asked for */
#define PATIENCE 10.0   /* the interval that roofline keeps where none is asked for, seconds */

static ey_sched_step whole(ey_phase phase, uint32_t n) { return (ey_sched_step){ phase, n, 0, UINT32_MAX }; }

/* --------------------------------------------------------------------------------------------------------- decoding */

/* Those that have waited longest, the longest first. */
static uint32_t pick_decoders(const ey_sched_view *v, ey_sched_pick *picks)
{
    uint32_t picked = 0, rows = v->limits.decode_rows;

    for (uint32_t i = 0; i < v->n; i++) {
        uint32_t at = picked;
        if (v->seqs[i].unread > 0) continue;
        for (; at > 0 && v->seqs[picks[at - 1].seq].waited < v->seqs[i].waited; at--)
            if (at < rows) picks[at] = picks[at - 1];
        if (at == rows) continue;
        picks[at] = (ey_sched_pick){ i, 1 };
        if (picked < rows) picked++;
    }
    return picked;
}

static ey_sched_step decode(const ey_sched_view *v, ey_sched_pick *picks)
{
    return whole(EY_DECODE, v->can[EY_DECODE] ? pick_decoders(v, picks) : 0);
}

/* How long a decode step holds up everybody, the host's work for it included. */
static double decode_seconds(const ey_costs *c, const ey_loads *w)
{
    return ey_loads_seconds(c, EY_DECODE, w, 0, UINT32_MAX) + ey_loads_host(c, EY_DECODE, w);
}

/* Reading a chunk at the beginning of a sequence. */
static ey_loads chunk_of(const ey_costs *c, uint32_t chunk)
{
    ey_loads w = { .rows = 0 };

    ey_loads_add(&w, ey_costs_shape(c), &(ey_load){ 0, chunk, 0 });
    return w;
}

/* Who decodes on this lane, and what time that leaves for reading. */
typedef struct pressure {
    uint32_t n;             /* sequences that decode; 0 where another lane has them */
    double   step;          /* s of a decode step */
    double   now;           /* s that a prefill step may take on the device now, */
    double   fresh;         /* and could, were it the first after everybody has had a token */
} pressure;

/* Decode steps take turns where there are more sequences than rows; those left out of the next one wait for all of them. The
 * margin is for the steps to come: how long everybody has waited is known. `picks` is scratch. */
static pressure press(const ey_sched_view *v, double interval, ey_sched_pick *picks)
{
    const ey_shape *shape = ey_costs_shape(v->costs);
    pressure p = { .n = 0 };
    ey_loads w = { .rows = 0 };
    double longest = 0, longest_left = 0, host;

    if (!v->can[EY_DECODE]) return p;
    uint32_t picked = pick_decoders(v, picks);
    if (picked == 0) return p;
    for (uint32_t i = 0; i < v->n; i++) p.n += v->seqs[i].unread == 0;
    for (uint32_t i = 0; i < picked; i++) ey_loads_add(&w, shape, &(ey_load){ v->seqs[picks[i].seq].position, 1, 1 });
    longest = v->seqs[picks[0].seq].waited;
    longest_left = v->seqs[picks[picked - 1].seq].waited;       /* none left has waited longer */
    p.step = decode_seconds(v->costs, &w);
    ey_loads chunk = chunk_of(v->costs, v->limits.chunk);
    host = ey_loads_host(v->costs, EY_PREFILL, &chunk);
    uint32_t turns = (p.n + v->limits.decode_rows - 1) / v->limits.decode_rows;
    p.now = (interval - longest) / MARGIN - p.step - host;
    if (turns > 1) p.now = fmin(p.now, (interval - longest_left) / MARGIN - turns * p.step - host);
    p.fresh = interval / MARGIN - turns * p.step - host;
    return p;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

/* How many tokens of the prompt fit into `room`, ending at its end or at a position where it may be cut. */
static uint32_t cut(const ey_sched_seq *s, uint32_t chunk, uint32_t room)
{
    uint32_t most = s->most ? (uint32_t)ey_min(s->most, chunk) : chunk;
    uint32_t unit = most % EY_BLOCK == 0 ? EY_BLOCK : most;

    room = (uint32_t)ey_min(room, most);
    if (s->unread <= room && (unit == EY_BLOCK || s->position % unit + s->unread <= unit)) return (uint32_t)s->unread;
    uint64_t end = (s->position + room) / unit * unit;
    return end > s->position ? (uint32_t)(end - s->position) : 0;
}

/* In which order prompts are read. */
typedef struct order {
    double token;           /* s of reading one, 0 = their length does not count */
    bool   overtake;        /* who does not fit into the rest of a step is overtaken by who does */
} order;

/* The smallest goes first. A prompt goes before one that takes longer to read, unless that has waited as much longer: short
 * ones are soon done, and a long one that takes R seconds is never behind those that come R seconds after it. */
static double urgency(const order *o, const ey_sched_seq *s)
{
    return o->token * (double)s->unread - s->waited - LEVEL * s->priority;
}

/* Prompts for a step of `room` tokens at most; the first in order is always among them if it can be cut to fit. */
static uint32_t pick_readers(const ey_sched_view *v, const order *o, uint32_t room, ey_sched_pick *picks)
{
    uint32_t slots = v->limits.free_slots, picked = 0, last = 0;
    double last_urgency = -INFINITY;

    while (picked < v->limits.prefill_rows && room > 0) {
        uint32_t best = v->n, take = 0;
        double least = INFINITY;
        for (uint32_t i = 0; i < v->n; i++) {
            const ey_sched_seq *s = &v->seqs[i];
            if (s->unread == 0 || s->under_way || (!s->has_slot && slots == 0)) continue;
            double u = urgency(o, s);
            if (u >= least || u < last_urgency || (u == last_urgency && picked > 0 && i <= last)) continue;
            uint32_t n = s->alone && picked > 0 ? 0 : cut(s, v->limits.chunk, room);
            if (n == 0 && o->overtake) continue;
            least = u;
            best = i;
            take = n;
        }
        if (take == 0) break;
        slots -= !v->seqs[best].has_slot;
        room -= take;
        last = best;
        last_urgency = least;
        picks[picked++] = (ey_sched_pick){ best, take };
        if (v->seqs[best].alone) break;
    }
    return picked;
}

static ey_loads work_of(const ey_sched_view *v, const ey_sched_pick *picks, uint32_t n)
{
    ey_loads w = { .rows = 0 };

    for (uint32_t i = 0; i < n; i++) {
        const ey_sched_seq *s = &v->seqs[picks[i].seq];
        ey_loads_add(&w, ey_costs_shape(v->costs), &(ey_load){ s->position, picks[i].n, s->alone ? picks[i].n : picks[i].n == s->unread });
    }
    return w;
}

/* A step of full size, or the rest of the one under way, with nobody in between; else everybody decodes. */
static ey_sched_step read_whole(const ey_sched_view *v, const order *o, ey_sched_pick *picks)
{
    if (v->part.under_way) return (ey_sched_step){ EY_PREFILL, 0, v->part.done, UINT32_MAX };
    uint32_t n = pick_readers(v, o, v->limits.chunk, picks);
    return n ? whole(EY_PREFILL, n) : decode(v, picks);
}

/* ------------------------------------------------------------------------------------------------------------- fifo */

static ey_sched_step fifo(const ey_sched_view *v, ey_sched_pick *picks)
{
    return v->can[EY_PREFILL] ? read_whole(v, &(order){ .overtake = false }, picks) : decode(v, picks);
}

/* ---------------------------------------------------------------------------------------------------------- chunked */

/* Prompts for the largest step that takes `seconds` at most, counted in blocks; for the smallest if all take longer. */
static uint32_t fit(const ey_sched_view *v, const order *o, double seconds, ey_sched_pick *picks)
{
    uint32_t chunk = v->limits.chunk, low = 1, high = chunk / EY_BLOCK, n;

    if (chunk % EY_BLOCK != 0) return pick_readers(v, o, chunk, picks);
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        n = pick_readers(v, o, middle * EY_BLOCK, picks);
        ey_loads w = work_of(v, picks, n);
        if (ey_loads_seconds(v->costs, EY_PREFILL, &w, 0, UINT32_MAX) <= seconds) low = middle;
        else high = middle - 1;
    }
    n = pick_readers(v, o, low * EY_BLOCK, picks);
    return n ? n : pick_readers(v, o, chunk, picks);        /* a prompt with cuts of its own, which are farther apart */
}

static ey_sched_step chunked(const ey_sched_view *v, ey_sched_pick *picks)
{
    const order oldest = { .overtake = false };

    if (!v->can[EY_PREFILL]) return decode(v, picks);
    pressure p = press(v, v->interval > 0 ? v->interval : INFINITY, picks);
    if (p.n == 0 || v->part.under_way) return read_whole(v, &oldest, picks);
    uint32_t n = v->decoded ? fit(v, &oldest, p.now, picks) : 0;
    return n ? whole(EY_PREFILL, n) : decode(v, picks);
}

/* --------------------------------------------------------------------------------------------------------- roofline */

static double token_seconds(const ey_costs *c, uint32_t tokens)
{
    ey_loads w = chunk_of(c, tokens);
    return ey_loads_seconds(c, EY_PREFILL, &w, 0, 1) / tokens;
}

/* Prompts for a step of which at least a layer, and the head, is done within `seconds`, if there are such; else the fewest. As
 * many as there can be, unless so few of their layers fit that a fifth of the time is left over, where a step of half the size
 * costs a token about as much. */
static uint32_t begin(const ey_sched_view *v, const order *o, double seconds, ey_sched_pick *picks, double *layer, double *head)
{
    uint32_t room = v->limits.chunk, n = pick_readers(v, o, room, picks), layers = v->limits.layers;

    for (;;) {
        ey_loads w = work_of(v, picks, n);
        *layer = ey_loads_seconds(v->costs, EY_PREFILL, &w, 0, 1);
        *head = ey_loads_seconds(v->costs, EY_PREFILL, &w, layers, UINT32_MAX);
        uint32_t less = (uint32_t)ey_round_up(room / 2, EY_BLOCK);
        double fit = fmin(floor(seconds / *layer), layers) * *layer;
        bool fits = fmax(*layer, *head) <= seconds;
        bool good = fit >= 0.8 * fmin(seconds, layers * *layer) || less == 0
                    || token_seconds(v->costs, less) > DEARER * token_seconds(v->costs, room);
        if ((fits && good) || v->limits.chunk % EY_BLOCK != 0 || less >= room) return n;
        uint32_t first = n ? picks[0].seq : 0, fewer = pick_readers(v, o, less, picks);
        if (fewer == 0 || picks[0].seq != first)        /* its cuts are farther apart, and it is not to be passed over for that */
            return pick_readers(v, o, room, picks);
        n = fewer;
        room = less;
    }
}

/* Where a part that begins at layer `from` ends if it may take `seconds`. */
static uint32_t reach(uint32_t from, uint32_t layers, double layer, double head, double seconds)
{
    double fits = floor(seconds / layer);

    if ((layers - from) * layer + head <= seconds) return UINT32_MAX;
    return fits >= layers - from ? layers : fits > 0 ? from + (uint32_t)fits : from;
}

static ey_sched_step roofline(const ey_sched_view *v, ey_sched_pick *picks)
{
    const ey_sched_part *part = &v->part;
    uint32_t layers = v->limits.layers, from = part->under_way ? part->done : 0, n = 0;
    double layer, head;

    if (!v->can[EY_PREFILL]) return decode(v, picks);
    ey_loads w = chunk_of(v->costs, v->limits.chunk);
    const order soonest = { ey_loads_seconds(v->costs, EY_PREFILL, &w, 0, UINT32_MAX) / v->limits.chunk, true };
    pressure p = press(v, v->interval > 0 ? v->interval : PATIENCE, picks);
    if (p.n == 0) return read_whole(v, &soonest, picks);
    if (part->under_way) {
        head = part->head;
        layer = from < layers ? (part->left - head) / (layers - from) : 0;
    } else if ((n = begin(v, &soonest, p.fresh, picks, &layer, &head)) == 0) {
        return decode(v, picks);
    }
    uint32_t to = reach(from, layers, layer, head, p.now);
    if (to == from && !v->decoded) return decode(v, picks);
    if (to == from) to = from < layers ? from + 1 : UINT32_MAX;
    return (ey_sched_step){ EY_PREFILL, n, from, to };
}

double ey_sched_default_interval(const ey_sched_view *v)
{
    ey_loads w = { .rows = 0 };

    for (uint32_t i = 0; i < v->n; i++)
        if (v->seqs[i].unread == 0) ey_loads_add(&w, ey_costs_shape(v->costs), &(ey_load){ v->seqs[i].position, 1, 1 });
    return INTERVAL * decode_seconds(v->costs, &w);
}

double ey_sched_least_interval(const ey_sched_limits *limits, const ey_costs *costs)
{
    const ey_shape *s = ey_costs_shape(costs);
    uint32_t least = limits->chunk % EY_BLOCK == 0 ? EY_BLOCK : limits->chunk;
    ey_loads decoding = { .rows = 0 }, reading = { .rows = 0 };

    for (uint32_t i = 0; i < limits->decode_rows; i++) ey_loads_add(&decoding, s, &(ey_load){ s->window, 1, 1 });
    ey_loads_add(&reading, s, &(ey_load){ s->window, least, 1 });
    double part = fmax(ey_loads_seconds(costs, EY_PREFILL, &reading, 0, 1),
                       ey_loads_seconds(costs, EY_PREFILL, &reading, limits->layers, UINT32_MAX));
    return MARGIN * (decode_seconds(costs, &decoding) + part + ey_loads_host(costs, EY_PREFILL, &reading));
}

/* ------------------------------------------------------------------------------------------------------------ table */

static const ey_policy policies[] = {       /* the default comes first */
    { "roofline", "reads prompts in parts between decode steps, as fast as the interval allows; the soonest read first", roofline },
    { "chunked", "decode steps and chunks of prompts take turns, the oldest prompt first", chunked },
    { "fifo", "reads prompts whole, the oldest first, then everybody decodes", fifo },
};

const ey_policy *ey_policy_at(size_t i) { return i < sizeof policies / sizeof *policies ? &policies[i] : NULL; }

const ey_policy *ey_policy_find(const char *name)
{
    const ey_policy *p = &policies[0];

    if (!name) return p;
    for (size_t i = 0; (p = ey_policy_at(i)) && strcmp(p->name, name) != 0; i++) continue;
    return p;
}

eyrie_status ey_policy_named(const ey_policy **out, const char *name, eyrie_error *err)
{
    char names[160] = "";
    size_t at = 0;

    if ((*out = ey_policy_find(name))) return EYRIE_OK;
    for (size_t i = 0; ey_policy_at(i) && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", ey_policy_at(i)->name);
    return ey_fail(err, EYRIE_EINVAL, "there is no scheduling policy \"%.40s\"; there are %s", name, names);
}
