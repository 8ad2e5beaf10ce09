/* seat.c - where a sequence's state is: which slot it has, and on which lane. */
#include "engine.h"
#include "os.h"

#include <inttypes.h>

uint32_t ey_free_slots(const eyrie_engine *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->limits.slots; i++) n += !e->slot_taken[i];
    return n;
}

uint32_t ey_take_slot(eyrie_engine *e)
{
    for (uint32_t i = 0; i < e->limits.slots; i++)
        if (!e->slot_taken[i]) {
            e->slot_taken[i] = true;
            return i;
        }
    return EY_NO_SLOT;
}

void ey_release_slot(eyrie_seq *s)
{
    if (s->slot != EY_NO_SLOT) s->engine->slot_taken[s->slot] = false;
    s->slot = EY_NO_SLOT;
    s->place = EY_DECODE;
}

eyrie_status ey_need_slot(eyrie_seq *s, eyrie_error *err)
{
    eyrie_engine *e = s->engine;

    if ((s->slot = ey_take_slot(e)) != EY_NO_SLOT) return EYRIE_OK;
    return ey_fail(err, EYRIE_EBUSY, "all %" PRIu32 " state slots are taken; more --slots, or close a sequence", e->limits.slots);
}

eyrie_status ey_seq_bring(eyrie_seq *s, ey_phase to, eyrie_error *err)
{
    eyrie_engine *e = s->engine;
    double start = ey_seconds();
    eyrie_status st;

    if (!e->apart || s->place == to || s->slot == EY_NO_SLOT) return EYRIE_OK;
    if (s->position > 0) {
        st = ey_model_copy_slot(e->lanes[s->place].model, s->slot, e->lanes[to].model, s->slot, s->position, err);
        if (st != EYRIE_OK) return st;
        e->stats.handed_over++;
        e->stats.hand_over_seconds += ey_seconds() - start;
        ey_journal_move(s, to, start);
    }
    s->place = to;
    return EYRIE_OK;
}

size_t ey_ending_bytes(const eyrie_engine *e) { return sizeof(ey_ending) + e->limits.vocab * sizeof(float); }

ey_ending *ey_ending_new(const eyrie_engine *e) { return ey_calloc(1, ey_ending_bytes(e)); }
