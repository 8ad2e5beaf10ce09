/* sched.h - what the next step computes. Policies are pure functions from the sequences and the limits to a batch: no
 * OpenCL, no clock, so they are tested and compared without a device. */
#ifndef EY_SCHED_H
#define EY_SCHED_H

#include "batch.h"

/* A sequence that has something to do. Listed in the order in which their requests came. */
typedef struct ey_sched_seq {
    uint64_t position;      /* of its next token */
    uint64_t unread;        /* prompt tokens left; 0 = it decodes */
    bool     has_slot;
    bool     alone;         /* its prompt shares no step with others */
    uint32_t most;          /* prompt tokens it can take in one step; 0 = no bound of its own */
} ey_sched_seq;

typedef struct ey_sched_limits {
    uint32_t chunk;                         /* tokens of a prefill step */
    uint32_t prefill_rows, decode_rows;
    uint32_t free_slots;
} ey_sched_limits;

typedef struct ey_sched_pick {
    uint32_t seq;           /* index */
    uint32_t n;             /* tokens it reads */
} ey_sched_pick;

/* First come, first served: prompts are read whole, oldest first, as many together as a step holds; when none is left to
 * read (or no slot is free for it), everybody decodes. Returns the number of picks (room for the larger of the row limits);
 * 0: nobody can run.
 *
 * Prompts are cut only at positions that do not depend on who else is there: at multiples of 64 if the chunk is one (cuts
 * there leave no trace in the results), else at multiples of the chunk. A sequence that would have to be cut elsewhere waits
 * for the next step. */
uint32_t ey_sched_fifo(const ey_sched_seq *seqs, uint32_t n, const ey_sched_limits *limits, ey_phase *phase,
                       ey_sched_pick *picks);

#endif
