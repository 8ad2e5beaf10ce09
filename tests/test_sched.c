/* test_sched.c - sched.c: the policy as a function. Thousands of random situations are played to their end with a clock
 * that counts steps, and every batch on the way has to keep the promises of sched.h. No device. */
#include "testing.h"

#include "dice.h"
#include "sched.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_batches),
        cmocka_unit_test(situations_are_played_to_their_end),
    };

    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
