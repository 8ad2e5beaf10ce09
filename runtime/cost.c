/* cost.c - demands by counting, seconds by the formula, and the factors between the formula and what was measured. */
#include "cost.h"

#include <math.h>
#include <string.h>

/* Sizes of steps fall into classes: 1 to 8 each, then four in an octave, up to 2^20 tokens, the largest chunk. Finer than
 * the buckets that plans are recorded for, since a step of 9 rows in tiles of 8 is not one of 16. */
enum { SINGLE = 8, IN_OCTAVE = 4, CLASSES = SINGLE + 17 * IN_OCTAVE, RECENT = 9, KEPT = 3,
       SAMPLES = 256 };

/* Farther from the formula is no step of this device but an accident: asleep, stopped in a debugger, a clock that was set. */
#define MOST_FACTOR 1000.0
#define MOST_HOST   1.0      /* s */

/* measured / formula of the last steps of a class, or the host's seconds for each. Their median counts: up to four of nine steps
 * may be disturbed, by whatever much, and it does not move; a device that has changed its pace is followed after five steps; nothing is
 * accumulated, so nothing can diverge. Least squares on bandwidth, peak and launch would be spoilt by one step that slept,
 * and could not say that one tile does worse than its neighbours, which is what is to be learnt here. */
typedef struct recent {
    float    values[RECENT];    /* a ring */
    uint32_t n, next;
    float    samples[SAMPLES];  /* of all that ran in this process but the first, in which a driver may have compiled */
    uint64_t seen;              /* all, that one too */
} recent;

struct ey_costs {
    ey_shape shape;
    ey_pace  pace[EY_PHASES];
    recent   recents[EY_PHASES][CLASSES], hosts[EY_PHASES][CLASSES];    /* factors; seconds */
};

/* --------------------------------------------------------------------------------------------------------- demands */

static double looks_of_one(const ey_shape *s, uint64_t position)
{
    return (double)(s->window ? ey_min(position, s->window) : position) + 1;
}

/* Positions that the n tokens from `position` on look at, each its own among them: a sum of an arithmetic series until the
 * window is full. */
static double looks(const ey_shape *s, uint64_t position, uint32_t n)
{
    uint64_t growing = !s->window ? n : position < s->window ? ey_min(n, s->window - position) : 0;
    double first = (double)position + 1, rising = (double)growing;

    return rising * first + rising * (rising - 1) / 2 + ((double)n - rising) * ((double)s->window + 1);
}

/* Keys and values: those that the first token sees are read, those of the row's own tokens are written. */
void ey_loads_add(ey_loads *w, const ey_shape *s, const ey_load *row)
{
    w->tokens += row->n;
    w->wanted += row->wanted;
    w->rows += 1;
    w->keys += looks_of_one(s, row->position) - 1 + row->n;
    w->looks += looks(s, row->position, row->n);
}

static ey_loads sum(const ey_shape *s, const ey_load *rows, uint32_t n)
{
    ey_loads w = { .rows = 0 };
    for (uint32_t i = 0; i < n; i++) ey_loads_add(&w, s, &rows[i]);
    return w;
}

static ey_demand of_layers(const ey_shape *s, const ey_loads *w)
{
    return (ey_demand){ .bytes = s->layer_bytes + 2 * s->state_bytes * w->rows + s->key_bytes * w->keys,
                        .flops = s->token_flops * w->tokens + s->key_flops * w->looks };
}

static ey_demand of_head(const ey_shape *s, const ey_loads *w)
{
    return (ey_demand){ .bytes = w->wanted > 0 ? s->head_bytes : 0, .flops = w->wanted * s->head_flops };
}

ey_demand ey_loads_demand(const ey_shape *s, ey_phase phase, const ey_loads *w)
{
    ey_demand d = of_layers(s, w), head = of_head(s, w);

    return (ey_demand){ d.bytes + head.bytes, d.flops + head.flops, s->launches[phase] };
}

ey_demand ey_cost_demand(const ey_shape *s, ey_phase phase, const ey_load *rows, uint32_t n)
{
    ey_loads w = sum(s, rows, n);
    return ey_loads_demand(s, phase, &w);
}

uint64_t ey_cost_most_sequences(const ey_shape *s, uint64_t positions, uint64_t memory)
{
    uint64_t kept = s->window ? ey_min(positions, s->window + 1) : positions;
    double blocks = ceil((double)kept / EY_BLOCK);
    double each = s->state_bytes + s->key_bytes * blocks * EY_BLOCK;
    double room = (double)memory - s->layer_bytes - s->head_bytes - s->other_bytes, most;

    if (room < 0) return 0;
    if (each <= 0) return UINT64_MAX;
    most = floor(room / each);
    return most < (double)UINT64_MAX ? (uint64_t)most : UINT64_MAX;
}

/* --------------------------------------------------------------------------------------------------------- formula */

static double time_of(const ey_pace *p, ey_demand d) { return fmax(d.bytes / p->bandwidth, d.flops / p->peak); }

/* Layers [from, to) and, at the end, the head, as a share of the step. Launches are spread evenly over the layers. */
static double formula(const ey_shape *s, const ey_pace *p, ey_phase phase, const ey_loads *w, uint32_t from, uint32_t to)
{
    double share = ((double)ey_min(to, s->layers) - (double)ey_min(from, s->layers)) / s->layers;
    double seconds = share * (time_of(p, of_layers(s, w)) + s->launches[phase] * p->launch);

    return to == UINT32_MAX ? seconds + time_of(p, of_head(s, w)) : seconds;
}

double ey_cost_formula(const ey_shape *s, const ey_pace *pace, ey_phase phase, const ey_load *rows, uint32_t n)
{
    ey_loads w = sum(s, rows, n);
    return n == 0 ? 0 : formula(s, pace, phase, &w, 0, UINT32_MAX);
}

/* --------------------------------------------------------------------------------------------------------- learning */

static uint32_t class_of(double size)
{
    uint32_t n = size < 1u << 20 ? (uint32_t)size : 1u << 20, octave = 3;

    if (n <= SINGLE) return n - 1;
    while (n > 2u << octave) octave++;              /* (2^octave, 2^(octave + 1)] */
    return SINGLE + (octave - 3) * IN_OCTAVE + (uint32_t)((uint64_t)(n - (1u << octave) - 1) * IN_OCTAVE >> octave);
}

/* The lower one of an even number: whatever disturbs a step makes it longer, so the shorter of two is nearer the truth. */
static double median(const float *values, uint32_t n)
{
    float sorted[RECENT + 1];

    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > values[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return (double)sorted[(n - 1) / 2];
}

/* Of a class by its neighbours that have run, nearer ones more; `otherwise` where no class has. */
static double guess(const recent *r, uint32_t k, double otherwise)
{
    uint32_t below = k, above = k + 1;

    while (below > 0 && r[below - 1].n == 0) below--;
    while (above < CLASSES && r[above].n == 0) above++;
    bool has_below = below > 0, has_above = above < CLASSES;
    if (!has_below && !has_above) return otherwise;
    double low = has_below ? median(r[below - 1].values, r[below - 1].n) : 0;
    double high = has_above ? median(r[above].values, r[above].n) : 0;
    if (!has_below) return high;
    if (!has_above) return low;
    return low + (high - low) * (k - (below - 1)) / (above - (below - 1));
}

/* Until its ring is full, the guess has a vote: the first step of a size may be the one in which a driver compiled. */
static double learnt(const recent *r, uint32_t k, double otherwise)
{
    float votes[RECENT + 1];

    if (r[k].n == 0) return guess(r, k, otherwise);
    memcpy(votes, r[k].values, r[k].n * sizeof *votes);
    if (r[k].n == RECENT) return median(votes, RECENT);
    votes[r[k].n] = (float)guess(r, k, otherwise);
    return median(votes, r[k].n + 1);
}

static double factor(const recent *r, uint32_t k) { return learnt(r, k, 1); }

static void put(recent *r, double value)
{
    r->values[r->next] = (float)value;
    r->next = (r->next + 1) % RECENT;
    if (r->n < RECENT) r->n++;
}

/* Of n values each is among the samples with the same probability (reservoir sampling, with a hash for the dice). */
static void put_sample(recent *r, double value)
{
    uint64_t n = r->seen++, at = n <= SAMPLES ? n - 1 : (n * 0x9E3779B97F4A7C15ull >> 20) % n;

    put(r, value);
    if (n > 0 && at < SAMPLES) r->samples[at] = (float)value;
}

static double sample(const recent *r, uint32_t k, double otherwise, double chance)
{
    uint64_t n = ey_min(r[k].seen, SAMPLES + 1);
    return n > 1 ? (double)r[k].samples[(uint32_t)(chance * (double)(n - 1))] : learnt(r, k, otherwise);
}

ey_costs *ey_costs_new(const ey_shape *shape, const ey_pace pace[EY_PHASES])
{
    ey_costs *c = ey_calloc(1, sizeof *c);

    if (!c) return NULL;
    c->shape = *shape;
    memcpy(c->pace, pace, sizeof c->pace);
    return c;
}

const ey_shape *ey_costs_shape(const ey_costs *c) { return &c->shape; }
const ey_pace  *ey_costs_pace(const ey_costs *c, ey_phase phase) { return &c->pace[phase]; }

double ey_loads_seconds(const ey_costs *c, ey_phase phase, const ey_loads *w, uint32_t from, uint32_t to)
{
    if (w->tokens <= 0) return 0;
    return factor(c->recents[phase], class_of(w->tokens)) * formula(&c->shape, &c->pace[phase], phase, w, from, to);
}

double ey_loads_host(const ey_costs *c, ey_phase phase, const ey_loads *w)
{
    return w->tokens <= 0 ? 0 : learnt(c->hosts[phase], class_of(w->tokens), 0);
}

double ey_cost_part(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, uint32_t from, uint32_t to)
{
    ey_loads w = sum(&c->shape, rows, n);
    return ey_loads_seconds(c, phase, &w, from, to);
}

double ey_cost_seconds(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n)
{
    return ey_cost_part(c, phase, rows, n, 0, UINT32_MAX);
}

void ey_cost_learn(ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, double seconds)
{
    ey_loads w = sum(&c->shape, rows, n);
    double ratio = n == 0 ? 0 : seconds / formula(&c->shape, &c->pace[phase], phase, &w, 0, UINT32_MAX);

    if (ratio >= 1 / MOST_FACTOR && ratio <= MOST_FACTOR) put_sample(&c->recents[phase][class_of(w.tokens)], ratio);
}

void ey_cost_learn_host(ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, double seconds)
{
    ey_loads w = sum(&c->shape, rows, n);

    if (n > 0 && seconds > 0 && seconds < MOST_HOST) put_sample(&c->hosts[phase][class_of(w.tokens)], seconds);
}

double ey_cost_sample(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, uint32_t from, uint32_t to, double chance)
{
    ey_loads w = sum(&c->shape, rows, n);
    uint32_t k = class_of(w.tokens);

    return sample(c->recents[phase], k, 1, chance) * formula(&c->shape, &c->pace[phase], phase, &w, from, to)
           + sample(c->hosts[phase], k, 0, chance);
}

/* n rows of a decode step, or n tokens of a prefill step, at the beginning of their sequences. */
static ey_loads plain(ey_phase phase, double n)
{
    bool decode = phase == EY_DECODE;
    return (ey_loads){ .tokens = n, .wanted = decode ? n : 0, .rows = decode ? n : 1, .keys = n, .looks = n };
}

/* By the formula it is where the two terms of the maximum meet. Where they do on the device is seen from steps that are far
 * on either side: the smallest one only reads, and in large ones every token costs what computing it takes. */
double ey_cost_ridge(const ey_costs *c, ey_phase phase)
{
    const ey_shape *s = &c->shape;
    const ey_pace *p = &c->pace[phase];
    const recent *r = c->recents[phase];
    bool decode = phase == EY_DECODE;
    double weights = (s->layer_bytes + (decode ? s->head_bytes : 2 * s->state_bytes)) / p->bandwidth;
    double moved = ((decode ? 2 * s->state_bytes : 0) + s->key_bytes) / p->bandwidth;
    double computed = (s->token_flops + s->key_flops + (decode ? s->head_flops : 0)) / p->peak;
    uint32_t last = CLASSES;

    if (computed <= moved) return INFINITY;
    double believed = weights / (computed - moved), large = fmin(ceil(4 * believed) + 2, 1u << 19);
    while (last > 0 && r[last - 1].n == 0) last--;
    while (last > class_of(large) + 1) large *= 2;
    ey_loads one = plain(phase, 1), half = plain(phase, large), whole = plain(phase, 2 * large);
    double token = (ey_loads_seconds(c, phase, &whole, 0, UINT32_MAX) - ey_loads_seconds(c, phase, &half, 0, UINT32_MAX)) / large;
    double reading = ey_loads_seconds(c, phase, &one, 0, UINT32_MAX) - s->launches[phase] * p->launch;
    return token > 0 ? fmax(reading / token, 0) : INFINITY;
}

/* ---------------------------------------------------------------------------------------------------------- keeping */

#define FASTEST 1e24             /* bytes or FLOPs a second */
#define VERSION 0x45594332u     /* counts up with every change of the record or of what its numbers mean */

typedef struct record {
    uint32_t version, bytes;
    ey_shape shape;
    ey_pace  pace[EY_PHASES];
    float    factors[EY_PHASES][CLASSES], hosts[EY_PHASES][CLASSES];    /* 0: no step was of the class */
} record;

size_t ey_costs_size(void) { return sizeof(record); }

void ey_costs_save(const ey_costs *c, void *blob)
{
    record r;

    memset(&r, 0, sizeof r);
    r.version = VERSION;
    r.bytes = sizeof r;
    r.shape = c->shape;
    memcpy(r.pace, c->pace, sizeof r.pace);
    for (uint32_t phase = 0; phase < EY_PHASES; phase++)
        for (uint32_t k = 0; k < CLASSES; k++) {
            if (c->recents[phase][k].n) r.factors[phase][k] = (float)factor(c->recents[phase], k);
            if (c->hosts[phase][k].n) r.hosts[phase][k] = (float)learnt(c->hosts[phase], k, 0);
        }
    memcpy(blob, &r, sizeof r);
}

static bool same_shape(const ey_shape *a, const ey_shape *b)
{
    return a->layers == b->layers && a->layer_bytes == b->layer_bytes && a->head_bytes == b->head_bytes
           && a->token_flops == b->token_flops && a->head_flops == b->head_flops && a->state_bytes == b->state_bytes
           && a->key_bytes == b->key_bytes && a->key_flops == b->key_flops && a->window == b->window;
}

static bool within(double value, double low, double high) { return value >= low && value <= high; }

bool ey_costs_load(ey_costs *c, const void *blob, size_t size)
{
    record r;

    if (size != sizeof r) return false;
    memcpy(&r, blob, sizeof r);
    if (r.version != VERSION || r.bytes != sizeof r || !same_shape(&r.shape, &c->shape)) return false;
    for (uint32_t phase = 0; phase < EY_PHASES; phase++) {
        const ey_pace *p = &r.pace[phase];
        if (c->shape.launches[phase] && c->shape.launches[phase] != r.shape.launches[phase]) return false;
        if (!within(p->bandwidth, 1, FASTEST) || !within(p->peak, 1, FASTEST) || !within(p->launch, 0, 1)) return false;
        for (uint32_t k = 0; k < CLASSES; k++) {
            double f = (double)r.factors[phase][k];
            if (f != 0 && !within(f, 1 / MOST_FACTOR, MOST_FACTOR)) return false;
            if (!within((double)r.hosts[phase][k], 0, MOST_HOST)) return false;
        }
    }
    memcpy(c->pace, r.pace, sizeof c->pace);
    memcpy(c->shape.launches, r.shape.launches, sizeof c->shape.launches);
    memset(c->recents, 0, sizeof c->recents);
    memset(c->hosts, 0, sizeof c->hosts);
    for (uint32_t phase = 0; phase < EY_PHASES; phase++)
        for (uint32_t k = 0; k < CLASSES; k++)          /* a few votes: more than one new step, fewer than it takes to change */
            for (uint32_t i = 0; i < KEPT; i++) {
                if (r.factors[phase][k] != 0) put(&c->recents[phase][k], (double)r.factors[phase][k]);
                if (r.hosts[phase][k] != 0) put(&c->hosts[phase][k], (double)r.hosts[phase][k]);
            }
    return true;
}
