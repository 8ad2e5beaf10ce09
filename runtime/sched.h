/* sched.h - what the next step computes. Policies are pure functions from what there is (sequences, limits, a prefill step
 * that is under way, costs) to a step: no OpenCL, no clock, so they are tested, compared and simulated without a device. */
#ifndef EY_SCHED_H
#define EY_SCHED_H

#include "cost.h"

/* A sequence that has something to do. Listed in the order in which their requests came. */
typedef struct ey_sched_seq {
    uint64_t position;      /* of its next token */
    uint64_t unread;        /* prompt tokens left, those under way among them; 0 = it decodes */
    bool     has_slot;
    bool     under_way;     /* in the prefill step that is under way */
    bool     alone;         /* it is scored: its prompt shares no step with others, and logits of all of it are wanted */
    uint32_t most;          /* prompt tokens it can take in one step; 0 = no bound of its own */
    int32_t  priority;      /* higher is read first; 0 = as everybody. A level is worth ten seconds of waiting */
    double   waited;        /* seconds since its last token, or, while it has none, since its request came */
} ey_sched_seq;

typedef struct ey_sched_limits {
    uint32_t chunk;                         /* tokens of a prefill step */
    uint32_t prefill_rows, decode_rows;
    uint32_t free_slots;
    uint32_t layers;                        /* a prefill step can be cut between any two of them, and before the head */
} ey_sched_limits;

/* A prefill step that has begun: its batch is fixed, layers [0, done) are computed. done = layers: the head is left. */
typedef struct ey_sched_part {
    bool     under_way;
    uint32_t done;
    double   left;          /* seconds the rest is predicted to take: ey_cost_part(..., done, UINT32_MAX) */
    double   head;          /* of these, the head: ey_cost_part(..., layers, UINT32_MAX) */
} ey_sched_part;

typedef struct ey_sched_view {
    const ey_sched_seq    *seqs;
    uint32_t               n;
    ey_sched_limits        limits;
    ey_sched_part          part;
    bool                   can[EY_PHASES];  /* phases a step may be of: both in turn on one lane; with two, that of the idle lane(s) */
    bool                   decoded;         /* the last step was a decode step: if the interval is too short for both, it is
                                             * the prompts' turn */
    double                 interval;        /* seconds between two tokens of a sequence that must not be passed while others' prompts
                                             * are read, as far as it lies with the policy; 0 = none */
    const ey_costs        *costs;           /* fifo takes NULL */
} ey_sched_view;

typedef struct ey_sched_pick {
    uint32_t seq;           /* index */
    uint32_t n;             /* tokens it reads */
} ey_sched_pick;

typedef struct ey_sched_step {
    ey_phase phase;
    uint32_t n;             /* picks; 0 in prefill: the step under way goes on; 0 in decode: nobody can run */
    uint32_t from, to;      /* layers of it: [from, to); UINT32_MAX = to the end, head and all. A decode step is always whole */
} ey_sched_step;

/* Prompts are cut only at positions that do not depend on who else is there: at multiples of 64 if the chunk is one (cuts
 * there leave no trace in the results), else at multiples of the chunk. So every policy gives the same texts, bit for bit. A
 * step under way is gone on with before another prompt is begun, and never given up. */
typedef struct ey_policy {
    const char *name, *what;
    /* picks: room for the larger of the row limits */
    ey_sched_step (*next)(const ey_sched_view *v, ey_sched_pick *picks);
} ey_policy;

/* fifo: prompts are read whole, oldest first; then all decode.
 * chunked: decode first, then one prefill chunk, as large as the interval allows.
 * roofline (the default): full chunks, read in parts between decode steps, sizes from the costs and the interval; prompts
 * that are read soon go before long ones that have not waited as much longer.
 * Where more decode than a step has rows, those that have waited longest do. */
const ey_policy *ey_policy_find(const char *name);     /* NULL name: the default; NULL: there is none of that name */
const ey_policy *ey_policy_at(size_t i);               /* NULL: no more */

/* The same, or the message lists those that there are (EINVAL). */
eyrie_status ey_policy_named(const ey_policy **out, const char *name, eyrie_error *err);

/* The interval for a view in which nobody asked for one, s: four steps of all that decode; 0 = nobody does. */
double ey_sched_default_interval(const ey_sched_view *v);

/* The least interval that roofline can keep with these limits and costs, s, for saying so: a full decode step, and the
 * smallest part of a prefill, with windows full. */
double ey_sched_least_interval(const ey_sched_limits *limits, const ey_costs *costs);

#endif
