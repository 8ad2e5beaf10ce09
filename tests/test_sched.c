/* test_sched.c - sched.c: policies as functions. Thousands of random situations are played to their end, those of fifo with a
 * clock that counts steps, then all policies with simulated seconds on devices that are not what the policy believes, and
 * every step on the way has to keep the promises of sched.h. No device. */
#include "testing.h"

#include "dice.h"
#include "sched.h"

#include <math.h>

enum { SITUATIONS = 20000, MOST_SEQS = 12, MOST_ROWS = 8, MOST_CUTS = 512 };

/* A sequence and what is yet to come of its one request. */
typedef struct player {
    uint64_t start, prompt;      /* position at the beginning; tokens to read */
    uint64_t position, unread;
    uint64_t to_generate;        /* after the token that reading the prompt gives */
    uint32_t arrives;            /* at this step */
    uint32_t most;
    bool     alone, has_slot, done;
    uint64_t cuts[MOST_CUTS];    /* positions inside the prompt at which a step ended */
    uint32_t n_cuts;
} player;

typedef struct situation {
    player          players[MOST_SEQS];  /* in the order of their requests */
    uint32_t        n, idle_slots;       /* slots held by sequences without a request */
    ey_sched_limits limits;              /* free_slots: all that are not idle, at the beginning */
} situation;

static void imagine(situation *s)
{
    static const uint32_t chunks[] = { 1, 5, 63, 64, 65, 100, 128, 192, 256 };
    uint32_t slots = between(1, MOST_ROWS);

    *s = (situation){ .n = between(1, MOST_SEQS) };
    s->limits.chunk = chunks[below(COUNT(chunks))];
    s->limits.prefill_rows = (uint32_t)ey_min(one_in(4) ? between(1, slots) : slots, s->limits.chunk);
    s->limits.decode_rows = one_in(4) ? between(1, slots) : slots;
    s->limits.free_slots = slots;
    for (uint32_t i = 0, clock = 0; i < s->n; i++) {
        player *p = &s->players[i];
        clock += one_in(2) ? below(6) : 0;
        p->arrives = clock;
        p->prompt = one_in(3) ? 64 * between(1, 4) : one_in(3) ? between(1, 5) : between(1, 400);
        p->to_generate = one_in(4) ? 0 : below(8);
        p->alone = one_in(5);
        p->most = one_in(5) ? (one_in(2) ? 64 : between(1, 300)) : 0;
        if (s->limits.free_slots > 1 && one_in(4)) {    /* it has read something already and holds a slot */
            p->start = one_in(2) ? between(1, 300) : (1ull << 40) + below(300);
            p->has_slot = true;
            s->limits.free_slots--;
        }
        p->position = p->start;
        p->unread = p->prompt;
    }
    if (s->limits.free_slots > 1 && one_in(4)) {
        s->idle_slots = below(s->limits.free_slots);
        s->limits.free_slots -= s->idle_slots;
    }
}

static uint32_t fifo(const ey_sched_seq *seqs, uint32_t n, const ey_sched_limits *limits, ey_phase *phase, ey_sched_pick *picks)
{
    ey_sched_view v = { .seqs = seqs, .n = n, .limits = *limits, .can = { true, true } };
    ey_sched_step step = ey_policy_find("fifo")->next(&v, picks);

    *phase = step.phase;
    return step.n;
}

/* Where a prompt may be cut, said once more: at multiples of this. */
static uint32_t unit_of(const player *p, const ey_sched_limits *limits)
{
    uint32_t most = p->most && p->most < limits->chunk ? p->most : limits->chunk;
    return most % 64 == 0 ? 64 : most;
}

/* A sequence that could have had the rest of the step but was left out: there must be a reason. */
static void check_left_out(const player *p, const ey_sched_limits *limits, uint32_t room, uint32_t picked, bool company_bars)
{
    uint32_t unit = unit_of(p, limits), fits = p->most && p->most < room ? p->most : room;
    uint64_t next_cut = (p->position / unit + 1) * unit;

    if (picked == limits->prefill_rows || company_bars) return;
    assert_true(p->position + p->unread > p->position + fits);      /* its prompt does not end within the room, */
    assert_true(next_cut > p->position + fits);                     /* nor can it be cut there */
}

static void check_prefill(const situation *s, player *const *who, uint32_t n, const ey_sched_pick *picks, uint32_t picked)
{
    uint32_t room = s->limits.chunk, slots = s->limits.free_slots, k = 0;
    bool somebody_alone = false, left_out = false;

    assert_in_range(picked, 1, s->limits.prefill_rows);
    for (uint32_t i = 0; i < n; i++) {
        const player *p = who[i];
        bool in = k < picked && picks[k].seq == i;
        if (!in) {
            if (p->unread == 0 || (!p->has_slot && slots == 0)) continue;
            if (!left_out) check_left_out(p, &s->limits, room, picked, somebody_alone || (p->alone && k > 0));
            left_out = true;
            continue;
        }
        assert_false(left_out);                                     /* nobody overtakes who could have been read */
        assert_in_range(picks[k].n, 1, p->unread);
        assert_in_range(picks[k].n, 1, room);
        if (p->most) assert_in_range(picks[k].n, 1, p->most);
        if (!p->has_slot) assert_in_range(slots--, 1, UINT32_MAX);
        room -= picks[k].n;
        somebody_alone |= p->alone;
        k++;
    }
    assert_int_equal(k, picked);                                    /* each once, in order */
    if (somebody_alone) assert_int_equal(picked, 1);
}

static void check_decode(const situation *s, player *const *who, uint32_t n, const ey_sched_pick *picks, uint32_t picked)
{
    uint32_t k = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (who[i]->unread > 0) {                                   /* only for want of a slot does a prompt wait */
            assert_false(who[i]->has_slot);
            assert_int_equal(s->limits.free_slots, 0);
        } else if (k < s->limits.decode_rows) {
            assert_in_range(k, 0, picked - 1);
            assert_int_equal(picks[k].seq, i);
            assert_int_equal(picks[k++].n, 1);
        }
    }
    assert_int_equal(k, picked);
}

static void take_part(situation *s, player *p, ey_phase phase, uint32_t n)
{
    if (!p->has_slot) {
        p->has_slot = true;
        s->limits.free_slots--;
    }
    p->position += n;
    if (phase == EY_PREFILL) {
        p->unread -= n;
        if (p->unread > 0) {
            assert_in_range(p->n_cuts, 0, MOST_CUTS - 1);
            p->cuts[p->n_cuts++] = p->position;
        }
        if (p->unread > 0 || p->to_generate > 0) return;
    } else if (--p->to_generate > 0) {
        return;
    }
    p->done = true;
    s->limits.free_slots++;                                         /* closed as soon as it is done */
}

/* One step of the game; false: nobody can run. */
static bool step(situation *s, uint32_t clock)
{
    const ey_sched_pick untouched = { 77, 77 };
    ey_sched_seq views[MOST_SEQS], seen[MOST_SEQS];
    ey_sched_pick picks[MOST_ROWS + 1], again[MOST_ROWS + 1];
    player *who[MOST_SEQS];
    uint32_t n = 0, rows = (uint32_t)ey_max(s->limits.prefill_rows, s->limits.decode_rows);
    ey_phase phase, same;

    for (uint32_t i = 0; i < s->n; i++) {
        player *p = &s->players[i];
        if (p->done || p->arrives > clock) continue;
        who[n] = p;
        views[n++] = (ey_sched_seq){ .position = p->position, .unread = p->unread, .has_slot = p->has_slot, .alone = p->alone, .most = p->most };
    }
    memcpy(seen, views, sizeof seen);
    picks[rows] = again[rows] = untouched;
    uint32_t picked = fifo(views, n, &s->limits, &phase, picks);
    assert_in_range(picked, 0, rows);
    assert_memory_equal(&picks[rows], &untouched, sizeof untouched);
    assert_memory_equal(views, seen, n * sizeof *views);
    assert_int_equal(fifo(views, n, &s->limits, &same, again), picked);
    if (picked > 0) assert_int_equal(same, phase);
    assert_memory_equal(picks, again, picked * sizeof *picks);

    if (picked == 0) {                                              /* nobody is there, or all wait for a slot */
        for (uint32_t i = 0; i < n; i++) assert_true(who[i]->unread > 0 && !who[i]->has_slot && s->limits.free_slots == 0);
        return n > 0;
    }
    if (phase == EY_PREFILL) check_prefill(s, who, n, picks, picked);
    else check_decode(s, who, n, picks, picked);
    for (uint32_t i = 0; i < picked; i++) take_part(s, who[picks[i].seq], phase, picks[i].n);
    return false;
}

/* A prompt is cut at multiples of 64 if the chunk is one, where cuts leave no trace; else at all multiples of the chunk
 * inside it and nowhere else. Either way company has no say. */
static void check_cuts(const player *p, const ey_sched_limits *limits)
{
    uint32_t unit = unit_of(p, limits);
    uint64_t end = p->start + p->prompt, inside = (end - 1) / unit - p->start / unit;

    for (uint32_t i = 0; i < p->n_cuts; i++) assert_int_equal(p->cuts[i] % unit, 0);
    if (unit != 64) assert_int_equal(p->n_cuts, inside);
}

static void situations_are_played_to_their_end(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < SITUATIONS; k++) {
        situation s;
        uint32_t clock = 0, left;

        dice = k;
        imagine(&s);
        uint32_t slots = s.limits.free_slots;
        do {
            assert_in_range(clock, 0, 20000);                       /* 12 prompts of 400 tokens, one a step, and 8 each */
            assert_false(step(&s, clock++));
            left = 0;
            for (uint32_t i = 0; i < s.n; i++) left += !s.players[i].done;
        } while (left > 0);
        for (uint32_t i = 0; i < s.n; i++) {
            const player *p = &s.players[i];
            assert_int_equal(p->unread, 0);
            assert_true(p->position >= p->start + p->prompt);
            check_cuts(p, &s.limits);
            slots += p->start > 0;                                  /* those held at the beginning came back, too */
        }
        assert_int_equal(s.limits.free_slots, slots);
    }
}

/* Small enough to be worked out by hand: what one step of waiting sequences is. */
static void known_batches(void **state)
{
    static const struct {
        const char     *why;
        ey_sched_limits limits;
        ey_sched_seq    seqs[4];
        ey_phase        phase;
        uint32_t        picked;
        ey_sched_pick   picks[4];
    } cases[] = {
        { "two whole prompts and what fits of a third", { 256, 4, 4, 4, 8 },
          { { 0, 50, false, false, false, 0, 0, 0 }, { 0, 60, false, false, false, 0, 0, 0 }, { 0, 200, false, false, false, 0, 0, 0 }, { 0, 9, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 4, { { 0, 50 }, { 1, 60 }, { 2, 128 }, { 3, 9 } } },
        { "the third would be cut elsewhere and waits, and the fourth behind it", { 256, 4, 4, 4, 8 },
          { { 0, 150, false, false, false, 0, 0, 0 }, { 0, 60, false, false, false, 0, 0, 0 }, { 0, 200, false, false, false, 0, 0, 0 }, { 0, 9, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 2, { { 0, 150 }, { 1, 60 } } },
        { "no slot for the first; who has one is read", { 64, 4, 4, 0, 8 },
          { { 0, 9, false, false, false, 0, 0, 0 }, { 70, 80, true, false, false, 0, 0, 0 }, { 5, 0, true, false, false, 0, 0, 0 }, { 0, 9, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 1, { { 1, 58 } } },
        { "no slot for who reads; the others decode", { 64, 4, 4, 0, 8 },
          { { 0, 9, false, false, false, 0, 0, 0 }, { 70, 0, true, false, false, 0, 0, 0 }, { 5, 0, true, false, false, 0, 0, 0 }, { 0, 9, false, false, false, 0, 0, 0 } },
          EY_DECODE, 2, { { 1, 1 }, { 2, 1 } } },
        { "prompts before decoding", { 64, 4, 4, 1, 8 },
          { { 70, 0, true, false, false, 0, 0, 0 }, { 5, 0, true, false, false, 0, 0, 0 }, { 9, 0, true, false, false, 0, 0, 0 }, { 0, 9, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 1, { { 3, 9 } } },
        { "one that is alone waits for a step of its own", { 256, 4, 4, 4, 8 },
          { { 0, 5, false, false, false, 0, 0, 0 }, { 0, 6, false, false, true, 0, 0, 0 }, { 0, 7, false, false, false, 0, 0, 0 }, { 0, 8, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 1, { { 0, 5 } } },
        { "and has it, in steps as large as it can take", { 256, 4, 4, 4, 8 },
          { { 0, 200, false, false, true, 64, 0, 0 }, { 0, 7, false, false, false, 0, 0, 0 }, { 0, 8, false, false, false, 0, 0, 0 }, { 0, 8, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 1, { { 0, 64 } } },
        { "cuts at multiples of an odd chunk", { 100, 4, 4, 4, 8 },
          { { 130, 90, true, false, false, 0, 0, 0 }, { 0, 30, false, false, false, 0, 0, 0 }, { 0, 1, false, false, false, 0, 0, 0 }, { 0, 8, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 2, { { 0, 70 }, { 1, 30 } } },
        { "as many rows as there may be", { 100, 2, 1, 4, 8 },
          { { 0, 3, false, false, false, 0, 0, 0 }, { 0, 3, false, false, false, 0, 0, 0 }, { 0, 3, false, false, false, 0, 0, 0 }, { 0, 3, false, false, false, 0, 0, 0 } },
          EY_PREFILL, 2, { { 0, 3 }, { 1, 3 } } },
        { "in decode, too", { 100, 2, 1, 4, 8 },
          { { 9, 0, true, false, false, 0, 0, 0 }, { 9, 0, true, false, false, 0, 0, 0 }, { 9, 0, true, false, false, 0, 0, 0 }, { 9, 0, true, false, false, 0, 0, 0 } },
          EY_DECODE, 1, { { 0, 1 } } },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_sched_pick picks[4];
        ey_phase phase;
        uint32_t picked = fifo(cases[i].seqs, 4, &cases[i].limits, &phase, picks);
        if (picked != cases[i].picked || phase != cases[i].phase || memcmp(picks, cases[i].picks, picked * sizeof *picks))
            fail_msg("%s: %u picks in phase %d", cases[i].why, (unsigned)picked, (int)phase);
    }
}

/* ------------------------------------------------------------------------------------------------- simulated seconds */

enum { MOST_REQUESTS = 512, MOST_SLOTS = 32 };

typedef struct request {
    double   arrives, cancelled;        /* s; INFINITY: never */
    uint64_t prompt, position, unread;
    uint32_t to_generate, generated, most;
    int32_t  priority;
    bool     alone, has_slot, under_way, gone, failed;
    double   since;                     /* when its last token came, or it */
    double   first, last;               /* when its first and its last token came */
    double   longest;                   /* s between two of its tokens */
} request;

typedef struct simulation {
    const ey_policy *policy;
    ey_sched_limits  limits;            /* free_slots: now */
    uint32_t         slots;
    double           interval, failing; /* s; part of the steps that fail */
    double           jitter;            /* steps take as long as they do, but for so large a part */
    ey_shape         shape;
    ey_costs        *truth, *costs;     /* what the device does, and what the policy believes and learns */
    request         *requests;          /* [n], in the order in which they arrive */
    uint32_t         n, arrived;
    double           clock;
    bool             decoded;
    bool             under_way;         /* a prefill step of these rows */
    uint32_t         rows, done, row[MOST_SLOTS];
    ey_load          loads[MOST_SLOTS];
    double           took;
    uint32_t         steps;
} simulation;

static const ey_shape gemma = { .layers = 26, .layer_bytes = 4.055e9, .head_bytes = 1.31e9, .token_flops = 4.055e9,
                                .head_flops = 1.31e9, .state_bytes = 0.74e6, .key_bytes = 8192, .key_flops = 81920,
                                .window = 2048, .launches = { 200, 130 } };
static const ey_pace paces[][EY_PHASES] = {
    { { 12e9, 400e9, 20e-6 }, { 12e9, 90e9, 20e-6 } },      /* a few cores with a matrix unit */
    { { 20e9, 120e9, 20e-6 }, { 20e9, 120e9, 20e-6 } },     /* without */
    { { 4e12, 60e12, 5e-6 }, { 4e12, 60e12, 5e-6 } },       /* a large GPU */
};

static double chance(double low, double high) { return low + (high - low) * below(1000001) / 1e6; }

static void simulate(simulation *s, const char *policy, uint32_t device, uint32_t slots, uint32_t chunk)
{
    ey_pace believed[EY_PHASES];

    *s = (simulation){ .policy = ey_policy_find(policy), .slots = slots, .shape = gemma, .jitter = 0.06 };
    s->limits = (ey_sched_limits){ .chunk = chunk, .prefill_rows = (uint32_t)ey_min(slots, chunk), .decode_rows = slots,
                                   .free_slots = slots, .layers = gemma.layers };
    for (uint32_t i = 0; i < EY_PHASES; i++)
        believed[i] = (ey_pace){ paces[device][i].bandwidth * chance(0.5, 2), paces[device][i].peak * chance(0.5, 2), 0 };
    assert_non_null(s->policy);
    assert_non_null(s->truth = ey_costs_new(&gemma, paces[device]));
    assert_non_null(s->costs = ey_costs_new(&gemma, believed));
    assert_non_null(s->requests = calloc(MOST_REQUESTS, sizeof *s->requests));
}

static void end_simulation(simulation *s)
{
    ey_free(s->truth);
    ey_free(s->costs);
    free(s->requests);
}

static request *ask(simulation *s, double arrives, uint32_t prompt, uint32_t generate)
{
    assert_in_range(s->n, 0, MOST_REQUESTS - 1);
    assert_true(s->n == 0 || s->requests[s->n - 1].arrives <= arrives);
    s->requests[s->n] = (request){ .arrives = arrives, .cancelled = INFINITY, .prompt = prompt, .unread = prompt,
                                   .to_generate = generate, .since = arrives };
    return &s->requests[s->n++];
}

/* Steps of the sizes that are to come, so that coefficients are known as well as they can be. */
static void warm(simulation *s)
{
    ey_load rows[MOST_SLOTS];

    for (int i = 0; i < 9; i++) {
        for (uint32_t n = 1; n <= s->limits.decode_rows; n++) {
            rows[n - 1] = (ey_load){ 500, 1, 1 };
            ey_cost_learn(s->costs, EY_DECODE, rows, n, ey_cost_seconds(s->truth, EY_DECODE, rows, n));
        }
        for (uint32_t n = 8; n <= s->limits.chunk; n += 8) {
            rows[0] = (ey_load){ 500, n, 1 };
            ey_cost_learn(s->costs, EY_PREFILL, rows, 1, ey_cost_seconds(s->truth, EY_PREFILL, rows, 1));
        }
    }
}

static void leave(simulation *s, request *r)
{
    assert_false(r->gone);
    r->gone = true;
    r->last = s->clock;
    if (r->has_slot) s->limits.free_slots++;
    r->has_slot = false;
    assert_in_range(s->limits.free_slots, 0, s->slots);
}

static void give_token(simulation *s, request *r)
{
    double gap = s->clock - r->since;

    if (r->generated == 0) r->first = s->clock;
    else r->longest = fmax(r->longest, gap);
    r->since = s->clock;
    r->generated++;
    assert_in_range(r->generated, 1, r->to_generate);
    if (r->generated == r->to_generate) leave(s, r);
}

/* Can it be read now? */
static bool readable(const simulation *s, const request *r)
{
    return !r->gone && r->unread > 0 && !r->under_way && (r->has_slot || s->limits.free_slots > 0);
}

/* What every policy keeps to in a prefill step that begins. `who`: the requests of the view. */
static void check_begins(const simulation *s, const ey_sched_step *step, const ey_sched_pick *picks, const uint32_t *who)
{
    uint32_t tokens = 0, slots = 0;

    assert_in_range(step->n, 1, s->limits.prefill_rows);
    for (uint32_t i = 0; i < step->n; i++) {
        const request *r = &s->requests[who[picks[i].seq]];
        uint32_t most = r->most ? (uint32_t)ey_min(r->most, s->limits.chunk) : s->limits.chunk, unit = most % 64 ? most : 64;

        assert_true(readable(s, r));
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(picks[k].seq, picks[i].seq);
        assert_in_range(picks[i].n, 1, ey_min(r->unread, most));
        if (picks[i].n < r->unread) assert_int_equal((r->position + picks[i].n) % unit, 0);
        if (unit != 64) assert_int_equal(r->position / unit, (r->position + picks[i].n - 1) / unit);
        if (r->alone) assert_int_equal(step->n, 1);
        tokens += picks[i].n;
        slots += !r->has_slot;
    }
    assert_in_range(tokens, 1, s->limits.chunk);
    assert_in_range(slots, 0, s->limits.free_slots);
}

/* Nobody goes before a prompt that has waited longer by more than that takes to be read, a level of priority counting as
 * ten seconds; with fifo and chunked not before one that has waited longer at all. */
static void check_order(const simulation *s, const ey_sched_pick *first, const uint32_t *who)
{
    const request *taken = &s->requests[who[first->seq]];
    bool soonest = strcmp(s->policy->name, "roofline") == 0;
    double token = ey_cost_seconds(s->costs, EY_PREFILL, &(ey_load){ 0, s->limits.chunk, 0 }, 1) / s->limits.chunk;

    for (uint32_t i = 0; i < s->arrived; i++) {
        const request *r = &s->requests[i];
        if (r == taken || !readable(s, r)) continue;
        double waits = r->arrives - 10.0 * r->priority, taken_waits = taken->arrives - 10.0 * taken->priority;
        assert_true(taken_waits <= waits + (soonest ? token * (double)r->unread : 0) + 1e-6);
    }
}

static void check_decodes(const simulation *s, const ey_sched_step *step, const ey_sched_pick *picks, const uint32_t *who, uint32_t n)
{
    uint32_t decoding = 0;
    double least = INFINITY, left = 0;
    bool in[MOST_REQUESTS] = { false };

    assert_int_equal(step->from, 0);
    assert_true(step->to == UINT32_MAX);
    for (uint32_t i = 0; i < step->n; i++) {
        const request *r = &s->requests[who[picks[i].seq]];
        assert_false(in[picks[i].seq]);
        in[picks[i].seq] = true;
        assert_int_equal(picks[i].n, 1);
        assert_true(r->unread == 0 && r->has_slot);
        least = fmin(least, s->clock - r->since);
    }
    for (uint32_t i = 0; i < n; i++) {
        const request *r = &s->requests[who[i]];
        if (r->unread > 0) continue;
        decoding++;
        if (!in[i]) left = fmax(left, s->clock - r->since);
    }
    assert_int_equal(step->n, ey_min(decoding, s->limits.decode_rows));
    if (step->n) assert_true(left <= least);                            /* those that have waited longest */
}

static double jitter(simulation *s) { return 1 + chance(-s->jitter, s->jitter); }

/* Ends the prefill step that is under way: its rows have been read, or have failed. */
static void end_reading(simulation *s, bool failed)
{
    s->under_way = false;
    if (!failed) ey_cost_learn(s->costs, EY_PREFILL, s->loads, s->rows, s->took);
    for (uint32_t i = 0; i < s->rows; i++) {
        request *r = &s->requests[s->row[i]];
        if (r->gone) continue;                      /* cancelled meanwhile */
        r->under_way = false;
        r->failed = failed;
        if (failed) {
            leave(s, r);
            continue;
        }
        r->position += s->loads[i].n;
        r->unread -= s->loads[i].n;
        if (r->unread > 0) continue;
        if (r->to_generate == 0) leave(s, r);
        else give_token(s, r);
    }
}

static void read_part(simulation *s, const ey_sched_step *step, const ey_sched_pick *picks, const uint32_t *who)
{
    if (step->n == 0) {
        assert_true(s->under_way);
        assert_int_equal(step->from, s->done);
    } else {
        assert_false(s->under_way);
        assert_int_equal(step->from, 0);
        check_begins(s, step, picks, who);
        check_order(s, &picks[0], who);
        s->under_way = true;
        s->rows = step->n;
        s->took = 0;
        for (uint32_t i = 0; i < step->n; i++) {
            request *r = &s->requests[who[picks[i].seq]];
            s->row[i] = who[picks[i].seq];
            s->loads[i] = (ey_load){ r->position, picks[i].n, r->alone ? picks[i].n : picks[i].n == r->unread };
            s->limits.free_slots -= !r->has_slot;
            r->has_slot = r->under_way = true;
        }
    }
    assert_true(step->to == UINT32_MAX || (step->to > step->from && step->to <= s->limits.layers));
    double seconds = ey_cost_part(s->truth, EY_PREFILL, s->loads, s->rows, step->from, step->to) * jitter(s);
    s->clock += seconds;
    s->took += seconds;
    s->done = step->to;
    bool failed = chance(0, 1) < s->failing;
    if (failed || step->to == UINT32_MAX) end_reading(s, failed);
}

static void decode_once(simulation *s, const ey_sched_step *step, const ey_sched_pick *picks, const uint32_t *who)
{
    ey_load loads[MOST_SLOTS];

    for (uint32_t i = 0; i < step->n; i++) loads[i] = (ey_load){ s->requests[who[picks[i].seq]].position, 1, 1 };
    double seconds = ey_cost_seconds(s->truth, EY_DECODE, loads, step->n) * jitter(s);
    s->clock += seconds;
    bool failed = chance(0, 1) < s->failing;
    if (!failed) ey_cost_learn(s->costs, EY_DECODE, loads, step->n, seconds);
    for (uint32_t i = 0; i < step->n; i++) {
        request *r = &s->requests[who[picks[i].seq]];
        r->position++;
        r->failed = failed;
        if (failed) leave(s, r);
        else give_token(s, r);
    }
}

/* Arrivals and cancellations until now; how many requests are there. */
static uint32_t look(simulation *s, ey_sched_seq *views, uint32_t *who)
{
    uint32_t n = 0;

    while (s->arrived < s->n && s->requests[s->arrived].arrives <= s->clock) s->arrived++;
    for (uint32_t i = 0; i < s->arrived; i++) {
        request *r = &s->requests[i];
        if (r->gone) continue;
        if (r->cancelled <= s->clock) {             /* its row in a step under way is computed for nothing */
            leave(s, r);
            continue;
        }
        who[n] = i;
        views[n++] = (ey_sched_seq){ .position = r->position, .unread = r->unread, .has_slot = r->has_slot,
                                     .under_way = r->under_way, .alone = r->alone, .most = r->most, .priority = r->priority,
                                     .waited = s->clock - r->since };
    }
    return n;
}

/* One step, or to the next arrival where nobody is there. False: all is done. */
static bool step_once(simulation *s)
{
    static ey_sched_seq views[MOST_REQUESTS];
    const ey_sched_pick untouched = { 77, 77 };
    uint32_t who[MOST_REQUESTS], n = look(s, views, who);
    uint32_t rows = (uint32_t)ey_max(s->limits.prefill_rows, s->limits.decode_rows);
    ey_sched_pick picks[MOST_SLOTS + 1];
    bool could_read = s->under_way;

    if (n == 0 && !s->under_way) {
        if (s->arrived == s->n) return false;
        s->clock = s->requests[s->arrived].arrives;
        return true;
    }
    for (uint32_t i = 0; i < n; i++) could_read |= readable(s, &s->requests[who[i]]);
    ey_sched_view v = { .seqs = views, .n = n, .limits = s->limits, .can = { true, true }, .decoded = s->decoded,
                        .interval = s->interval, .costs = s->costs };
    if (s->under_way)
        v.part = (ey_sched_part){ true, s->done, ey_cost_part(s->costs, EY_PREFILL, s->loads, s->rows, s->done, UINT32_MAX),
                                  ey_cost_part(s->costs, EY_PREFILL, s->loads, s->rows, s->limits.layers, UINT32_MAX) };
    picks[rows] = untouched;
    ey_sched_step step = s->policy->next(&v, picks);
    assert_memory_equal(&picks[rows], &untouched, sizeof untouched);
    if (step.phase == EY_PREFILL) {
        read_part(s, &step, picks, who);
        s->decoded = false;
    } else {
        check_decodes(s, &step, picks, who, n);
        assert_in_range(step.n, 1, rows);           /* here, whoever holds a slot has a request */
        if (could_read) assert_false(s->decoded);   /* who can read does, at least a layer, after each decode step */
        if (could_read) assert_string_not_equal(s->policy->name, "fifo");
        decode_once(s, &step, picks, who);
        s->decoded = true;
    }
    s->steps++;
    return true;
}

static void run(simulation *s)
{
    while (step_once(s)) assert_in_range(s->steps, 0, 2000000);
    assert_int_equal(s->limits.free_slots, s->slots);
    for (uint32_t i = 0; i < s->n; i++) {
        const request *r = &s->requests[i];
        assert_true(r->gone && !r->has_slot);
        if (r->failed || r->cancelled <= r->last) continue;
        assert_int_equal(r->unread, 0);
        assert_int_equal(r->position, r->prompt + (r->to_generate ? r->to_generate - 1 : 0));   /* the last is never read */
        assert_int_equal(r->generated, r->to_generate);
    }
}

static double longest_gap(const simulation *s)
{
    double longest = 0;
    for (uint32_t i = 0; i < s->n; i++) longest = fmax(longest, s->requests[i].longest);
    return longest;
}

static simulation sim;

/* Eight sequences generate while a prompt of 4000 tokens is read. chunked needs time for 64 tokens at once. */
static void a_long_prompt_beside_eight(void **state)
{
    enum { ROOFLINE, CHUNKED, FIFO, POLICIES };
    static const uint32_t chunks[] = { 256, 512, 1024 };

    (void)state;
    for (uint32_t i = 0; i < COUNT(paces) * COUNT(chunks); i++) {
        uint32_t device = i / COUNT(chunks), chunk = chunks[i % COUNT(chunks)];
        double longest[POLICIES], seconds[POLICIES], first[POLICIES], interval = 0;
        bool chunks_fit = false;

        for (size_t k = 0; k < POLICIES; k++) {
            ey_load rows[8];

            dice = i;
            simulate(&sim, ey_policy_at(k)->name, device, 16, chunk);
            for (uint32_t r = 0; r < 8; r++) {
                ask(&sim, 0, 64, 400);
                rows[r] = (ey_load){ 300, 1, 1 };
            }
            warm(&sim);
            double step = ey_cost_seconds(sim.truth, EY_DECODE, rows, 8);
            interval = sim.interval = fmax(4 * step, 1.05 * ey_sched_least_interval(&sim.limits, sim.costs));
            chunks_fit = 1.3 * (step + ey_cost_seconds(sim.truth, EY_PREFILL, &(ey_load){ 4000, 64, 1 }, 1)) <= interval;
            ask(&sim, 20 * interval, 4000, 20);
            run(&sim);
            longest[k] = longest_gap(&sim);
            seconds[k] = sim.clock;
            first[k] = sim.requests[8].first - sim.requests[8].arrives;
            end_simulation(&sim);
        }
        assert_true(longest[ROOFLINE] <= interval);             /* every gap, and so p99 */
        if (chunks_fit) assert_true(longest[CHUNKED] <= interval);
        assert_true(longest[FIFO] >= 10 * interval);
        assert_true(seconds[ROOFLINE] <= 1.02 * seconds[FIFO]); /* noise, and the end of the eight, who are done sooner */
        if (chunks_fit) assert_true(first[ROOFLINE] < first[CHUNKED]);
    }
}

/* A device on which a decode step takes 1 s, and a prefill step 1 s a layer for each 64 tokens. */
static const ey_shape four_layers = { .layers = 4, .layer_bytes = 1, .token_flops = 4, .window = 1 };
static const ey_pace one_a_second[EY_PHASES] = { { 1e9, 64, 0 }, { 1, 1e9, 0 } };

enum { REST = -1 };         /* as the end of a part: to the end */

static void known_steps(void **state)
{
    static const struct {
        const char   *why, *policy;
        double        interval;
        bool          can[EY_PHASES], decoded;
        ey_sched_part part;
        uint32_t      free_slots, decode_rows;
        ey_sched_seq  seqs[3];      /* position, unread, has_slot, under_way, alone, most, priority, waited */
        ey_phase      phase;
        uint32_t      n;
        int           from, to;
        ey_sched_pick picks[2];
    } cases[] = {
        { "three layers of a second each fit into (5.7 s - 0) / 1.4 - 1 s", "roofline", 5.7, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 64, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, 3, { { 1, 64 } } },
        { "and two if they have waited for 1.4 s", "roofline", 5.7, { true, true }, false, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 1.4 }, { 0, 64, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, 2, { { 1, 64 } } },
        { "two where those left out of the next decode step wait for two", "roofline", 6.7, { true, true }, true, { 0 }, 4, 1,
          { { 9, 0, true, 0, 0, 0, 0, 1 }, { 0, 64, false, 0, 0, 0, 0, 0 }, { 9, 0, true, 0, 0, 0, 0, 1 } }, EY_PREFILL, 1, 0, 2,
          { { 1, 64 } } },
        { "nobody is read twice at a time", "roofline", 5, { true, false }, true, { 0 }, 4, 4,
          { { 0, 64, true, true, 0, 0, 0, 9 }, { 0, 64, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 64 } } },
        { "the rest does not fit any more", "roofline", 5, { true, true }, false, { true, 3, 1, 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 3 }, { 0, 64, true, true, 0, 0, 0, 0 } }, EY_DECODE, 1, 0, REST, { { 0, 1 } } },
        { "the rest, head and all", "roofline", 5, { true, true }, true, { true, 2, 2.5, 0.5 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 64, true, true, 0, 0, 0, 0 } }, EY_PREFILL, 0, 2, REST, { { 0, 0 } } },
        { "the layers, but not the head", "roofline", 5, { true, true }, true, { true, 2, 3.5, 1.5 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 64, true, true, 0, 0, 0, 0 } }, EY_PREFILL, 0, 2, 4, { { 0, 0 } } },
        { "the head, which is all that is left", "roofline", 5, { true, true }, true, { true, 4, 1.5, 1.5 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 64, true, true, 0, 0, 0, 0 } }, EY_PREFILL, 0, 4, REST, { { 0, 0 } } },
        { "half the tokens where a layer takes too long", "roofline", 3, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, 1, { { 1, 64 } } },
        { "a layer even so, if nothing fits and it is the prompt's turn", "roofline", 1, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, 1, { { 1, 64 } } },
        { "else everybody decodes", "roofline", 1, { true, true }, false, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_DECODE, 1, 0, REST, { { 0, 1 } } },
        { "a whole step where nobody decodes", "roofline", 1, { true, true }, false, { 0 }, 4, 4,
          { { 0, 100, false, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 0, 100 } } },
        { "and on a lane of its own", "roofline", 1, { true, false }, false, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 9 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 128 } } },
        { "the decode lane reads nothing", "roofline", 5, { false, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_DECODE, 1, 0, REST, { { 0, 1 } } },
        { "nor does it run without sequences", "roofline", 5, { false, true }, true, { 0 }, 4, 4,
          { { 0, 128, false, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_DECODE, 0, 0, REST, { { 0, 0 } } },
        { "no slot, and nobody decodes", "roofline", 5, { true, true }, true, { 0 }, 0, 4,
          { { 0, 128, false, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_DECODE, 0, 0, REST, { { 0, 0 } } },
        { "what is read sooner goes first", "roofline", 0, { true, true }, true, { 0 }, 4, 4,
          { { 0, 128, false, 0, 0, 0, 0, 1 }, { 0, 64, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 2, 0, REST, { { 1, 64 }, { 0, 64 } } },
        { "unless the other has waited four seconds longer, in which 64 more are read", "roofline", 0, { true, true }, true, { 0 }, 4, 4,
          { { 0, 128, false, 0, 0, 0, 0, 5 }, { 0, 64, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 0, 128 } } },
        { "and the more important", "fifo", 0, { true, true }, true, { 0 }, 4, 4,
          { { 0, 128, false, 0, 0, 0, 0, 5 }, { 0, 128, false, 0, 0, 0, 1, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 128 } } },
        { "unless the other has waited ten seconds longer", "fifo", 0, { true, true }, true, { 0 }, 4, 4,
          { { 0, 128, false, 0, 0, 0, 0, 11 }, { 0, 128, false, 0, 0, 0, 1, 0 } }, EY_PREFILL, 1, 0, REST, { { 0, 128 } } },
        { "fifo reads before it decodes, whatever the interval", "fifo", 1, { true, true }, false, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 9 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 128 } } },
        { "who has waited longest decodes", "fifo", 0, { true, true }, false, { 0 }, 4, 2,
          { { 9, 0, true, 0, 0, 0, 0, 1 }, { 9, 0, true, 0, 0, 0, 0, 3 }, { 9, 0, true, 0, 0, 0, 0, 2 } }, EY_DECODE, 2, 0, REST,
          { { 1, 1 }, { 2, 1 } } },
        { "chunked decodes first", "chunked", 9, { true, true }, false, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_DECODE, 1, 0, REST, { { 0, 1 } } },
        { "then reads what fits into 9 / 1.4 - 1 s", "chunked", 9, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 64 } } },
        { "all of it in 13 / 1.4 - 1 s", "chunked", 13, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 128 } } },
        { "the least that can be where nothing fits", "chunked", 1, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 64 } } },
        { "a full chunk where there is no interval", "chunked", 0, { true, true }, true, { 0 }, 4, 4,
          { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } }, EY_PREFILL, 1, 0, REST, { { 1, 128 } } },
    };
    ey_costs *costs = ey_costs_new(&four_layers, one_a_second);

    (void)state;
    assert_non_null(costs);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_sched_view v = { .seqs = cases[i].seqs, .n = cases[i].seqs[2].position ? 3 : 2, .part = cases[i].part,
                            .limits = { 128, 4, cases[i].decode_rows, cases[i].free_slots, 4 },
                            .can = { cases[i].can[0], cases[i].can[1] }, .decoded = cases[i].decoded,
                            .interval = cases[i].interval, .costs = costs };
        ey_sched_pick picks[4];
        ey_sched_step s = ey_policy_find(cases[i].policy)->next(&v, picks);
        if (s.phase != cases[i].phase || s.n != cases[i].n || s.from != (uint32_t)cases[i].from || s.to != (uint32_t)cases[i].to
            || memcmp(picks, cases[i].picks, s.n * sizeof *picks))
            fail_msg("%s: phase %d, %u picks, layers [%u, %d), first %u of %u", cases[i].why, (int)s.phase, s.n, s.from, (int)s.to,
                     picks[0].n, picks[0].seq);
    }
    /* Two rows decode in 1 s, a layer of 64 tokens takes 1 s, and four tenths more. */
    assert_true(fabs(ey_sched_least_interval(&(ey_sched_limits){ 128, 4, 2, 4, 4 }, costs) - 2.8) < 1e-6);
    ey_free(costs);
}

/* What was learnt since changes how much of a prompt is read: layers of 1 s for each 64 tokens, and decode steps of 1 s. */
static void steps_learnt(void **state)
{
    static const ey_load one = { 9, 1, 1 }, chunk = { 0, 128, 1 }, half = { 0, 64, 1 };
    ey_sched_seq seqs[] = { { 9, 0, true, 0, 0, 0, 0, 0 }, { 0, 128, false, 0, 0, 0, 0, 0 } };
    ey_costs *costs = ey_costs_new(&four_layers, one_a_second);
    ey_sched_view v = { .seqs = seqs, .n = 2, .limits = { 128, 4, 4, 4, 4 }, .can = { true, true }, .decoded = true,
                        .interval = 5.7, .costs = costs };
    ey_sched_pick picks[4];
    ey_sched_step s;

    (void)state;
    assert_non_null(costs);
    s = ey_policy_find("roofline")->next(&v, picks);            /* a layer of 128 tokens would leave a third of 3 s over */
    assert_true(s.n == 1 && picks[0].n == 64 && s.to == 3);

    for (int i = 0; i < 9; i++) ey_cost_learn_host(costs, EY_DECODE, &one, 1, 0.4);
    for (int i = 0; i < 9; i++) ey_cost_learn_host(costs, EY_PREFILL, &chunk, 1, 0.4);
    s = ey_policy_find("roofline")->next(&v, picks);            /* the host's 0.8 s are left for it */
    assert_true(s.n == 1 && picks[0].n == 128 && s.to == 1);
    assert_true(fabs(ey_sched_default_interval(&v) - 4 * 1.4) < 1e-6);
    v.interval = 5.7 + 1.4 * 0.8;
    s = ey_policy_find("roofline")->next(&v, picks);
    assert_true(s.n == 1 && picks[0].n == 64 && s.to == 3);

    for (int i = 0; i < 9; i++) ey_cost_learn(costs, EY_PREFILL, &chunk, 1, 8);
    for (int i = 0; i < 9; i++) ey_cost_learn(costs, EY_PREFILL, &half, 1, 4 * 1.1);
    s = ey_policy_find("roofline")->next(&v, picks);            /* a token of a smaller step costs a tenth more */
    assert_true(s.n == 1 && picks[0].n == 128 && s.to == 1);
    ey_free(costs);
}

static void policies_have_names(void **state)
{
    (void)state;
    assert_ptr_equal(ey_policy_find(NULL), ey_policy_find("roofline"));
    assert_null(ey_policy_find("lifo"));
    assert_null(ey_policy_find(""));
    for (size_t i = 0; ey_policy_at(i); i++) assert_ptr_equal(ey_policy_find(ey_policy_at(i)->name), ey_policy_at(i));
    assert_null(ey_policy_at(3));
}

/* A prompt: most are short, some are long. */
static uint32_t some_prompt(void) { return one_in(8) ? between(500, 3000) : one_in(2) ? between(1, 64) : between(1, 400); }

/* Requests of which, beside each other, the device can do `load` a second of what there is to do in a second. */
static void imagine_requests(simulation *s, uint32_t n, double load, bool simple)
{
    double token = ey_cost_seconds(s->truth, EY_PREFILL, &(ey_load){ 0, s->limits.chunk, 0 }, 1) / s->limits.chunk;
    double row = ey_cost_seconds(s->truth, EY_DECODE, &(ey_load){ 500, 1, 1 }, 1) / s->limits.decode_rows;
    double clock = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t prompt = some_prompt(), generate = one_in(10) ? 0 : between(1, 60);
        double takes = token * prompt + row * generate;
        request *r = ask(s, clock, prompt, generate);
        clock += load > 0 && !one_in(4) ? takes / load * chance(0, 2) : 0;
        if (one_in(20)) r->cancelled = r->arrives + takes * chance(0, 20);
        r->priority = one_in(10) ? (int32_t)below(4) - 1 : 0;
        if (simple) continue;
        r->alone = one_in(20);
        r->most = one_in(20) ? between(1, 300) : 0;
    }
}

enum { SITUATIONS_IN_SECONDS = 40, REQUESTS = 256 };        /* 10,240 requests */

static void every_policy_keeps_its_promises(void **state)
{
    static const uint32_t chunks[] = { 64, 100, 128, 256, 320, 512 };

    (void)state;
    for (size_t k = 0; ey_policy_at(k); k++) {
        const char *name = ey_policy_at(k)->name;
        bool roofline = strcmp(name, "roofline") == 0, chunked = strcmp(name, "chunked") == 0;
        for (uint32_t i = 0; i < SITUATIONS_IN_SECONDS; i++) {
            dice = i;
            uint32_t slots = one_in(4) ? between(1, 4) : between(4, MOST_SLOTS), chunk = chunks[below(COUNT(chunks))];
            bool simple = one_in(2), long_enough = !one_in(3);
            simulate(&sim, name, below(COUNT(paces)), slots, chunk);
            if (!simple && one_in(2)) sim.limits.decode_rows = between(1, slots);
            if (one_in(3)) sim.failing = 0.01;
            imagine_requests(&sim, REQUESTS, chance(0.3, 3), simple);
            warm(&sim);
            double least = ey_sched_least_interval(&sim.limits, sim.costs);
            ey_load smallest = { 3000, chunk % 64 ? chunk : 64, 1 };
            double for_chunked = least + 1.3 * ey_cost_seconds(sim.truth, EY_PREFILL, &smallest, 1);
            sim.interval = long_enough ? least * chance(1.05, 5) : one_in(2) ? 0 : least * chance(0.1, 0.9);
            run(&sim);
            if (simple && long_enough && (roofline || (chunked && sim.interval >= for_chunked)))
                assert_true(longest_gap(&sim) <= sim.interval);
            end_simulation(&sim);
        }
    }
}

/* Who stalls everybody else has the largest decode steps. Keeping an interval costs some of that; how much of it depends on
 * how many decode steps fit into one. What is asked for first is then answered sooner. */
static void an_interval_costs_little_throughput(void **state)
{
    static const struct {
        double intervals;       /* of the least that can be kept; 0: none to keep */
        double most;            /* seconds for all, fifo's being 1 */
    } cases[] = { { 0, 1.005 }, { 20, 1.01 }, { 4, 1.05 } };

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        double seconds[2] = { 0, 0 }, first[2] = { 0, 0 };
        for (uint32_t i = 0; i < 24; i++)
            for (uint32_t k = 0; k < 2; k++) {
                dice = i;
                simulate(&sim, k ? "fifo" : "roofline", i % COUNT(paces), between(4, MOST_SLOTS), 256);
                imagine_requests(&sim, REQUESTS, i % 2 ? 0 : 1.5, true);
                warm(&sim);
                sim.interval = cases[c].intervals * ey_sched_least_interval(&sim.limits, sim.costs);
                double one = ey_cost_seconds(sim.truth, EY_DECODE, &(ey_load){ 500, 1, 1 }, 1);
                for (uint32_t r = 0; r < sim.n; r++) sim.requests[r].cancelled = INFINITY;
                run(&sim);
                for (uint32_t r = 0; r < sim.n; r++) first[k] += (sim.requests[r].first - sim.requests[r].arrives) / one;
                seconds[k] += sim.clock / one;
                end_simulation(&sim);
            }
        assert_true(seconds[0] <= cases[c].most * seconds[1]);
        assert_true(first[0] < 0.8 * first[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_batches),
        cmocka_unit_test(situations_are_played_to_their_end),
        cmocka_unit_test(policies_have_names),
        cmocka_unit_test(known_steps), cmocka_unit_test(steps_learnt),
        cmocka_unit_test(a_long_prompt_beside_eight),
        cmocka_unit_test(every_policy_keeps_its_promises),
        cmocka_unit_test(an_interval_costs_little_throughput),
    };

    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
