/* sim.c - see sim.h. Events in the order of their time; between them nothing happens. */
#include "sim.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    SEEN = 1024             /* requests without a slot that a policy sees of a device's; those behind them wait unseen */
};

/* ------------------------------------------------------------------------------------------------------ simulation */

typedef struct job {
    struct job *next;       /* in the queue it stands in */
    double      came, last; /* when it came, and when its last token did: before the first, the former */
    uint64_t    position, unread, left;     /* left: to generate */
    int32_t     priority;
    uint32_t    take;       /* tokens it reads in the step under way */
    bool        has_slot, under_way;
} job;

typedef struct queue {
    job     *first, **end;
    uint64_t n;
} queue;

typedef struct machine {
    const ey_sim_device *spec;
    job           **jobs;   /* [n] that the policy sees, in order of coming */
    uint32_t        n, unslotted;
    uint32_t        own_slots, *slots_used;     /* taken here; a count of its own, or one that all share */
    size_t          capacity;
    queue           behind; /* those that it does not see yet */
    double          unread; /* tokens, of all */
    ey_sched_seq   *views;
    size_t          views_capacity;
    ey_sched_pick  *picks;
    job           **row_jobs;           /* [rows] of the decode step, */
    job           **reading;            /* [n_reading] and of the prefill step under way */
    uint32_t        n_rows, n_reading, done;
    ey_load        *loads;
    ey_sched_step   step;
    bool            running, decoded;
    double          link_free;
} machine;

typedef enum event_kind { ARRIVAL, STEP, TRANSFER } event_kind;

typedef struct event {
    double     at;
    uint64_t   order;       /* of two at the same time, the one planned first comes first */
    event_kind kind;
    uint32_t   machine, from;
    job       *job;
} event;

typedef struct simulation {
    const ey_sim_setup *setup;
    machine       *machines;
    event         *heap;
    size_t         n_events, capacity;
    uint64_t       planned;
    double         now, busy, computing, moving, handing;
    queue          leaving; /* read, for a device that decodes and has no slot yet; their device is `from` in order */
    uint32_t      *leaving_from;
    size_t         leaving_capacity;
    eyrie_arrival  next;    /* is planned, if one is coming */
    bool           coming, no_more;
    uint64_t       came, dice;
    eyrie_tally   *first, *between, *whole;
    eyrie_sim_report *report;
} simulation;

/* ----------------------------------------------------------------------------------------------------------- events */

static bool before(const event *a, const event *b) { return a->at < b->at || (a->at == b->at && a->order < b->order); }

static eyrie_status plan(simulation *s, event e, eyrie_error *err)
{
    size_t i = s->n_events;

    if (!ey_grow(&s->heap, &s->capacity, i + 1, sizeof *s->heap)) return ey_fail(err, EYRIE_ENOMEM, "events of the simulation");
    e.order = s->planned++;
    for (s->n_events++; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
    return EYRIE_OK;
}

static event next_event(simulation *s)
{
    event first = s->heap[0], last = s->heap[--s->n_events];
    size_t i = 0, child;

    for (; (child = 2 * i + 1) < s->n_events; i = child) {
        if (child + 1 < s->n_events && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = last;
    return first;
}

static void push(queue *q, job *j)
{
    if (!q->first) q->end = &q->first;
    j->next = NULL;
    *q->end = j;
    q->end = &j->next;
    q->n++;
}

static job *pop(queue *q)
{
    job *j = q->first;

    q->first = j->next;
    q->n--;
    return j;
}

/* ------------------------------------------------------------------------------------------------------------ steps */

static const ey_shape *shape_of(const machine *m) { return ey_costs_shape(m->spec->costs); }

/* Into the sight of the policy. Whatever fails, j is taken care of; so it is by whoever else takes one. */
static eyrie_status admit(machine *m, job *j, eyrie_error *err)
{
    if (!ey_grow(&m->jobs, &m->capacity, m->n + 1, sizeof *m->jobs) || !ey_grow(&m->views, &m->views_capacity, m->n + 1, sizeof *m->views)) {
        ey_free(j);
        return ey_fail(err, EYRIE_ENOMEM, "%" PRIu32 " requests on a simulated device", m->n + 1);
    }
    m->jobs[m->n++] = j;
    m->unslotted += !j->has_slot;
    return EYRIE_OK;
}

static void dismiss(machine *m, const job *j)
{
    uint32_t i = 0;

    while (m->jobs[i] != j) i++;
    memmove(&m->jobs[i], &m->jobs[i + 1], (m->n - i - 1) * sizeof *m->jobs);
    m->n--;
}

static ey_sched_view look(const simulation *s, machine *m)
{
    const ey_shape *shape = shape_of(m);
    uint32_t rows = (uint32_t)ey_min(m->spec->rows, m->spec->slots);
    ey_sched_view v = {
        .seqs = m->views, .n = m->n, .decoded = m->decoded, .interval = s->setup->interval, .costs = m->spec->costs,
        .can = { m->spec->phases[EY_PREFILL], m->spec->phases[EY_DECODE] },
        .limits = { .chunk = s->setup->chunk, .prefill_rows = (uint32_t)ey_min(rows, s->setup->chunk), .decode_rows = rows,
                    .free_slots = m->spec->slots - *m->slots_used, .layers = shape->layers } };

    for (uint32_t i = 0; i < m->n; i++) {
        const job *j = m->jobs[i];
        m->views[i] = (ey_sched_seq){ .position = j->position, .unread = j->unread, .has_slot = j->has_slot,
                                      .under_way = j->under_way, .priority = j->priority, .waited = s->now - j->last };
    }
    if (m->n_reading) {
        for (uint32_t i = 0; i < m->n_reading; i++)
            m->loads[i] = (ey_load){ m->reading[i]->position, m->reading[i]->take, m->reading[i]->take == m->reading[i]->unread };
        v.part = (ey_sched_part){ true, m->done, ey_cost_part(m->spec->costs, EY_PREFILL, m->loads, m->n_reading, m->done, UINT32_MAX),
                                  ey_cost_part(m->spec->costs, EY_PREFILL, m->loads, m->n_reading, shape->layers, UINT32_MAX) };
    }
    return v;
}

/* The picked of a prefill step that begins get their slots. */
static void begin_reading(machine *m, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        job *j = m->jobs[m->picks[i].seq];
        j->take = m->picks[i].n;
        j->under_way = true;
        if (!j->has_slot) ++*m->slots_used, m->unslotted--;
        j->has_slot = true;
        m->reading[i] = j;
        m->loads[i] = (ey_load){ j->position, j->take, j->take == j->unread };
    }
    m->n_reading = n;
    m->done = 0;
}

static void add_demand(simulation *s, machine *m, ey_phase phase, uint32_t n)
{
    const ey_pace *pace = ey_costs_pace(m->spec->costs, phase);
    ey_demand d = ey_cost_demand(shape_of(m), phase, m->loads, n);

    s->moving += d.bytes / pace->bandwidth;
    s->computing += d.flops / pace->peak;
}

/* Evenly from [0, 1); Knuth's generator, of MMIX. The same in every simulation. */
static double chance(simulation *s)
{
    s->dice = s->dice * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(s->dice >> 11) / 9007199254740992.0;
}

/* Asks the policy, and plans the end of the step that it names, if there is one. */
static eyrie_status start(simulation *s, uint32_t number, eyrie_error *err)
{
    machine *m = &s->machines[number];
    ey_sched_view v;
    double seconds;
    eyrie_status st = EYRIE_OK;

    while (st == EYRIE_OK && m->behind.n && m->unslotted < SEEN) st = admit(m, pop(&m->behind), err);
    if (st != EYRIE_OK || m->running || m->n == 0) return st;
    v = look(s, m);
    if (v.interval <= 0) v.interval = ey_sched_default_interval(&v);
    m->step = s->setup->policy->next(&v, m->picks);
    if (m->step.phase == EY_DECODE) {
        if (m->step.n == 0) return EYRIE_OK;
        m->n_rows = m->step.n;
        for (uint32_t i = 0; i < m->step.n; i++) {
            m->row_jobs[i] = m->jobs[m->picks[i].seq];
            m->loads[i] = (ey_load){ m->row_jobs[i]->position, 1, 1 };
        }
        seconds = ey_cost_sample(m->spec->costs, EY_DECODE, m->loads, m->n_rows, 0, UINT32_MAX, chance(s));
        add_demand(s, m, EY_DECODE, m->n_rows);
        s->report->decode_steps++;
    } else {
        if (m->step.n) {
            begin_reading(m, m->step.n);
            add_demand(s, m, EY_PREFILL, m->n_reading);
            s->report->prefill_steps++;
        }
        seconds = ey_cost_sample(m->spec->costs, EY_PREFILL, m->loads, m->n_reading, m->step.from, m->step.to, chance(s));
    }
    s->busy += seconds;
    m->decoded = m->step.phase == EY_DECODE;
    m->running = true;
    return plan(s, (event){ .at = s->now + seconds, .kind = STEP, .machine = number }, err);
}

/* -------------------------------------------------------------------------------------------------------- handing over */

static double state_bytes(const ey_shape *shape, const job *j)
{
    double positions = shape->window ? (double)ey_min(j->position, shape->window + 1) : (double)j->position;
    return shape->state_bytes + shape->key_bytes * positions;
}

/* The device that decodes and has the most slots free; n_devices: none has. */
static uint32_t roomiest(const simulation *s)
{
    uint32_t best = s->setup->n_devices, most = 0;

    for (uint32_t i = 0; i < s->setup->n_devices; i++) {
        const machine *m = &s->machines[i];
        uint32_t room = m->spec->slots - *m->slots_used + s->setup->one_pool;      /* it has a slot there already */
        if (m->spec->phases[EY_DECODE] && room > most) most = room, best = i;
    }
    return best;
}

/* The slot at the other end is taken when the transfer is planned, the one here is free when it has ended; where all have the same
 * slots, it is one and stays taken. */
static eyrie_status hand_over(simulation *s, uint32_t from, uint32_t to, job *j, eyrie_error *err)
{
    machine *source = &s->machines[from], *target = &s->machines[to];
    double seconds = state_bytes(shape_of(source), j) / fmin(source->spec->link, target->spec->link);
    double begin = fmax(s->now, source->link_free);

    if (!s->setup->one_pool) ++*target->slots_used;
    source->link_free = begin + seconds;
    eyrie_status st = plan(s, (event){ .at = begin + seconds, .kind = TRANSFER, .machine = to, .from = from, .job = j }, err);
    if (st != EYRIE_OK) ey_free(j);
    return st;
}

static eyrie_status leave(simulation *s, uint32_t from, job *j, eyrie_error *err)
{
    uint32_t to = roomiest(s);

    dismiss(&s->machines[from], j);
    if (to < s->setup->n_devices) return hand_over(s, from, to, j, err);
    if (!ey_grow(&s->leaving_from, &s->leaving_capacity, s->leaving.n + 1, sizeof *s->leaving_from)) {
        ey_free(j);
        return ey_fail(err, EYRIE_ENOMEM, "states on their way");
    }
    s->leaving_from[s->leaving.n] = from;
    push(&s->leaving, j);
    return EYRIE_OK;
}

/* A slot became free: whoever waits for one goes there. */
static eyrie_status let_in(simulation *s, eyrie_error *err)
{
    uint32_t to = s->leaving.n ? roomiest(s) : s->setup->n_devices, from;

    if (to == s->setup->n_devices) return EYRIE_OK;
    from = s->leaving_from[0];
    memmove(s->leaving_from, s->leaving_from + 1, (s->leaving.n - 1) * sizeof *s->leaving_from);
    return hand_over(s, from, to, pop(&s->leaving), err);
}

/* ---------------------------------------------------------------------------------------------------------- progress */

/* With as many clients as there may be, the next request waits until one has its answer, and comes then. */
static bool is_full(const simulation *s) { return s->setup->clients && s->came - s->report->requests >= s->setup->clients; }

/* The next one, unless it is planned already. */
static eyrie_status plan_arrival(simulation *s, eyrie_error *err)
{
    double last = s->next.seconds;

    if (s->coming || s->no_more || is_full(s)) return EYRIE_OK;
    s->next = (eyrie_arrival){ .seconds = last };
    s->no_more = !s->setup->arrivals(s->setup->user, &s->next);
    if (s->no_more) return EYRIE_OK;
    s->coming = true;
    if (!(s->next.seconds >= last) || s->next.prompt == 0 || s->next.output == 0)
        return ey_fail(err, EYRIE_EINVAL, "request %" PRIu64 " comes at %g s with %" PRIu64 " tokens to read and %" PRIu64 " to generate; it has to "
                       "come after the one before it, at %g s, and to have both", s->came + 1, s->next.seconds, s->next.prompt, s->next.output, last);
    if (s->setup->context && (s->next.prompt > s->setup->context || s->next.output > s->setup->context - s->next.prompt))
        return ey_fail(err, EYRIE_EINVAL, "request %" PRIu64 " has %" PRIu64 " tokens to read and %" PRIu64 " to generate, and the context is %" PRIu64
                       " long; a longer --context makes room", s->came + 1, s->next.prompt, s->next.output, s->setup->context);
    return plan(s, (event){ .at = fmax(s->next.seconds, s->now), .kind = ARRIVAL }, err);
}

static eyrie_status finish(simulation *s, machine *m, job *j, eyrie_error *err)
{
    eyrie_status st;

    eyrie_tally_add(s->whole, s->now - j->came);
    s->report->requests++;
    dismiss(m, j);
    --*m->slots_used;
    ey_free(j);
    if ((st = let_in(s, err)) != EYRIE_OK) return st;
    return plan_arrival(s, err);
}

/* A token for j, its first or another. */
static eyrie_status generate(simulation *s, uint32_t number, job *j, bool first, eyrie_error *err)
{
    machine *m = &s->machines[number];

    eyrie_tally_add(first ? s->first : s->between, s->now - j->last);
    s->report->tokens++;
    j->last = s->now;
    if (--j->left == 0) return finish(s, m, j, err);
    return m->spec->phases[EY_DECODE] ? EYRIE_OK : leave(s, number, j, err);
}

static eyrie_status end_step(simulation *s, uint32_t number, eyrie_error *err)
{
    machine *m = &s->machines[number];
    uint32_t n = m->n_reading;
    eyrie_status st = EYRIE_OK;

    m->running = false;
    if (m->step.phase == EY_DECODE) {
        for (uint32_t i = 0; i < m->n_rows && st == EYRIE_OK; i++) {
            m->row_jobs[i]->position++;
            st = generate(s, number, m->row_jobs[i], false, err);
        }
        return st;
    }
    m->done = m->step.to;
    if (m->step.to != UINT32_MAX) return EYRIE_OK;
    m->n_reading = 0;
    for (uint32_t i = 0; i < n && st == EYRIE_OK; i++) {
        job *j = m->reading[i];
        j->under_way = false;
        j->position += j->take;
        j->unread -= j->take;
        m->unread -= j->take;
        s->report->prompt_tokens += j->take;
        if (j->unread == 0) st = generate(s, number, j, true, err);
    }
    return st;
}

/* ---------------------------------------------------------------------------------------------------------- arrivals */

/* The device that will have read what it has soonest; among equals the one with the fewest requests. */
static uint32_t soonest(const simulation *s)
{
    uint32_t best = s->setup->n_devices;
    double least = INFINITY;

    for (uint32_t i = 0; i < s->setup->n_devices; i++) {
        const machine *m = &s->machines[i];
        const ey_load chunk = { 0, s->setup->chunk, 0 };
        if (!m->spec->phases[EY_PREFILL]) continue;
        double seconds = m->unread / s->setup->chunk * ey_cost_seconds(m->spec->costs, EY_PREFILL, &chunk, 1);
        if (seconds > least || (seconds == least && m->n >= s->machines[best].n)) continue;
        least = seconds;
        best = i;
    }
    return best;
}

static eyrie_status arrive(simulation *s, uint32_t *number, eyrie_error *err)
{
    job *j = ey_calloc(1, sizeof *j);
    machine *m = &s->machines[*number = soonest(s)];
    uint64_t waiting = 0;

    if (!j) return ey_fail(err, EYRIE_ENOMEM, "a simulated request");
    *j = (job){ .came = s->now, .last = s->now, .unread = s->next.prompt, .left = s->next.output, .priority = s->next.priority };
    s->came++;
    s->coming = false;
    m->unread += (double)j->unread;
    push(&m->behind, j);
    for (uint32_t i = 0; i < s->setup->n_devices; i++) {
        const machine *at = &s->machines[i];
        uint64_t without = at->behind.n + at->unslotted, room = at->spec->slots - *at->slots_used;
        waiting += without - ey_min(without, room);
    }
    s->report->most_waiting = ey_max(s->report->most_waiting, waiting);
    return plan_arrival(s, err);
}

/* ------------------------------------------------------------------------------------------------------- from outside */

static void release(simulation *s)
{
    for (size_t i = 0; i < s->n_events; i++) ey_free(s->heap[i].job);
    while (s->leaving.n) ey_free(pop(&s->leaving));
    for (uint32_t i = 0; s->machines && i < s->setup->n_devices; i++) {
        machine *m = &s->machines[i];
        for (uint32_t k = 0; k < m->n; k++) ey_free(m->jobs[k]);
        while (m->behind.n) ey_free(pop(&m->behind));
        ey_free(m->jobs);
        ey_free(m->views);
        ey_free(m->picks);
        ey_free(m->row_jobs);
        ey_free(m->reading);
        ey_free(m->loads);
    }
    eyrie_tally_free(s->first);
    eyrie_tally_free(s->between);
    eyrie_tally_free(s->whole);
    ey_free(s->machines);
    ey_free(s->heap);
    ey_free(s->leaving_from);
    ey_free(s);
}

static eyrie_status set_up(simulation *s, eyrie_error *err)
{
    const ey_sim_setup *setup = s->setup;
    bool served[EY_PHASES] = { false };

    s->machines = ey_calloc(setup->n_devices, sizeof *s->machines);
    s->first = eyrie_tally_new();
    s->between = eyrie_tally_new();
    s->whole = eyrie_tally_new();
    if (!s->machines || !s->first || !s->between || !s->whole) return ey_fail(err, EYRIE_ENOMEM, "simulated devices");
    s->report->slots = UINT32_MAX;
    for (uint32_t i = 0; i < setup->n_devices; i++) {
        machine *m = &s->machines[i];
        m->spec = &setup->devices[i];
        m->slots_used = setup->one_pool ? &s->machines[0].own_slots : &m->own_slots;
        uint32_t rows = (uint32_t)ey_min(m->spec->rows, m->spec->slots);
        for (uint32_t ph = 0; ph < EY_PHASES; ph++) served[ph] |= m->spec->phases[ph];
        s->report->slots = (uint32_t)ey_min(s->report->slots, m->spec->slots);
        m->picks = ey_calloc(rows, sizeof *m->picks);
        m->row_jobs = ey_calloc(rows, sizeof *m->row_jobs);
        m->reading = ey_calloc(rows, sizeof *m->reading);
        m->loads = ey_calloc(rows, sizeof *m->loads);
        if (!m->picks || !m->row_jobs || !m->reading || !m->loads) return ey_fail(err, EYRIE_ENOMEM, "a simulated device");
    }
    for (uint32_t ph = 0; ph < EY_PHASES; ph++)
        if (!served[ph]) return ey_fail(err, EYRIE_EINVAL, "no device %s; give one that does", ph == EY_PREFILL ? "reads prompts" : "decodes");
    return EYRIE_OK;
}

static void tell(const simulation *s, eyrie_sim_report *r)
{
    double time = s->now * s->setup->n_devices;

    r->seconds = s->now;
    r->first_token = eyrie_tally_spread(s->first);
    r->between_tokens = eyrie_tally_spread(s->between);
    r->whole = eyrie_tally_spread(s->whole);
    if (r->handovers) r->handover_seconds = s->handing / (double)r->handovers;
    if (time <= 0) return;
    r->busy = s->busy / time;
    r->arithmetic = s->computing / time;
    r->memory = s->moving / time;
}

eyrie_status ey_sim_run(const ey_sim_setup *setup, eyrie_sim_report *report, eyrie_error *err)
{
    simulation *s = ey_calloc(1, sizeof *s);
    eyrie_status st;

    *report = (eyrie_sim_report){ 0 };
    if (!s) return ey_fail(err, EYRIE_ENOMEM, "the simulation");
    s->setup = setup;
    s->report = report;
    EY_TRY(set_up(s, err));
    EY_TRY(plan_arrival(s, err));
    while (s->n_events) {
        event e = next_event(s);
        machine *m = &s->machines[e.machine];
        s->now = e.at;
        if (e.kind == ARRIVAL) {
            EY_TRY(arrive(s, &e.machine, err));
        } else if (e.kind == STEP) {
            EY_TRY(end_step(s, e.machine, err));
        } else {
            s->handing += s->now - e.job->last;
            report->handovers++;
            if (!setup->one_pool) --*s->machines[e.from].slots_used;
            EY_TRY(admit(m, e.job, err));
            EY_TRY(start(s, e.from, err));
        }
        EY_TRY(start(s, e.machine, err));
        for (uint32_t i = 0; setup->one_pool && i < setup->n_devices; i++) EY_TRY(start(s, i, err));   /* a slot may be free there, too */
        if (setup->expected) ey_tell(&setup->progress, "simulating", fmin(1, (double)report->requests / (double)setup->expected));
    }
    tell(s, report);
done:
    release(s);
    return st;
}
