/* sched.c - scheduling policies. */
#include "sched.h"

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

uint32_t ey_sched_fifo(const ey_sched_seq *seqs, uint32_t n, const ey_sched_limits *limits, ey_phase *phase,
                       ey_sched_pick *picks)
{
    uint32_t room = limits->chunk, slots = limits->free_slots, picked = 0;

    *phase = EY_PREFILL;
    for (uint32_t i = 0; i < n && picked < limits->prefill_rows && room > 0; i++) {
        const ey_sched_seq *s = &seqs[i];
        if (s->unread == 0) continue;
        if (!s->has_slot && slots == 0) continue;
        if (s->alone && picked > 0) break;
        uint32_t take = cut(s, limits->chunk, room);
        if (take == 0) break;               /* it waits, and nobody overtakes it */
        slots -= !s->has_slot;
        room -= take;
        picks[picked++] = (ey_sched_pick){ i, take };
        if (s->alone) break;
    }
    if (picked > 0) return picked;

    *phase = EY_DECODE;
    for (uint32_t i = 0; i < n && picked < limits->decode_rows; i++)
        if (seqs[i].unread == 0) picks[picked++] = (ey_sched_pick){ i, 1 };
    return picked;
}
