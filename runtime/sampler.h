/* sampler.h - candidates to a token. The device reduces a row of logits to its best candidates and its log-sum-exp; the
 * choice is made here, by a counter-based generator keyed by (seed, sample, position), so that a text depends on
 * nothing but its own row. */
#ifndef EY_SAMPLER_H
#define EY_SAMPLER_H

#include "base.h"

#define EY_CANDIDATES 256u

/* How far a row's log-sum-exp may be from the true one, beside half a unit in its own last place (f32). */
#define EY_LSE_ERROR 1e-5

typedef struct ey_candidate {
    int32_t id;
    float   logit;
} ey_candidate;

typedef struct ey_sampling {
    float    temperature;   /* 0 = greedy */
    uint32_t sample;
    uint64_t seed;
} ey_sampling;

/* A row as the device left it: its n best candidates in any order, the log-sum-exp of the whole row, the vocabulary. */
typedef struct ey_row_logits {
    ey_candidate *best;     /* [n]; sorted in place: highest logit first, lowest id among equals */
    uint32_t      n;
    float         lse;
    uint32_t      vocab;
} ey_row_logits;

/* Puts candidates into their order. */
void ey_candidates_sort(ey_candidate *c, size_t n);

/* Picks the token for `position` of a sequence. Returns false when the candidates do not settle it: then read the row
 * back and call ey_sample_all, which gives what a sampler that saw the whole row would have given. */
bool ey_sample(const ey_sampling *s, uint64_t position, ey_row_logits *row, int32_t *token);

/* The same from the whole row: `all` [vocab] in any order, sorted in place. */
int32_t ey_sample_all(const ey_sampling *s, uint64_t position, ey_candidate *all, uint32_t vocab);

/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
void ey_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1) with 53 bits: that of (seed, sample, position). */
double ey_uniform(uint64_t seed, uint32_t sample, uint64_t position);

#endif
