/* rows.h - batches for tests of ops that go through time: rows of awkward lengths at awkward positions, in slots
 * that are not in order. */
#ifndef EY_ROWS_H
#define EY_ROWS_H

#include "batch.h"

enum { SLOTS = 5, MOST_ROWS = 5 };

typedef struct row_set {
    uint32_t n;
    ey_row   rows[MOST_ROWS];
} row_set;

#define ROW(at_slot, tokens_in_it, first) { .slot = at_slot, .n = tokens_in_it, .position = first }

static const row_set prefill_sets[] = {
    { 1, { ROW(0, 1, 0) } },
    { 1, { ROW(2, 2, 1) } },
    { 2, { ROW(4, 15, 0), ROW(0, 16, 7) } },
    { 3, { ROW(3, 17, 63), ROW(1, 63, 0), ROW(2, 64, 64) } },
    { 2, { ROW(1, 65, 0), ROW(4, 65, 1000003) } },
    { 1, { ROW(1, 257, 0) } },
    { 1, { ROW(3, 257, 190) } },
    { 5, { ROW(4, 127, 129), ROW(1, 1, 0), ROW(0, 129, 0), ROW(3, 2, 64), ROW(2, 3, (1ull << 40) + 62) } },
};

static const row_set decode_sets[] = {
    { 1, { ROW(0, 1, 0) } },
    { 2, { ROW(4, 1, 63), ROW(1, 1, 1) } },
    { 3, { ROW(3, 1, 64), ROW(2, 1, 0), ROW(0, 1, 100) } },
    { 5, { ROW(1, 1, 127), ROW(4, 1, 128), ROW(0, 1, 65), ROW(2, 1, (1ull << 40) + 191), ROW(3, 1, 5) } },
};

static const row_set *const busiest_prefill = &prefill_sets[sizeof prefill_sets / sizeof *prefill_sets - 1];
static const row_set *const busiest_decode = &decode_sets[sizeof decode_sets / sizeof *decode_sets - 1];

static inline uint32_t tokens_of(const row_set *s)
{
    return ey_batch_tokens(&(ey_batch){ .n_rows = s->n, .rows = s->rows });
}

#endif
