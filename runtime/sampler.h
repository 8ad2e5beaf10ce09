/* sampler.h - candidates to a token. The device reduces a row of logits to its best candidates and its log-sum-exp; the
 * choice is made here, by a counter-based generator keyed by (seed, sample, position), so that a text depends on
 * nothing but its own row and its own tokens.
 *
 * What happens to a row, in this order:
 *   1. Penalties, on logits. Repetition r, once for each token that occurs in the sequence, in prompts or generated: a
 *      logit above 0 is divided by r, any other multiplied. Then presence + count * frequency is taken off the logit of
 *      each token that the sequence has generated, count times.
 *   2. Greedy: the highest logit, the lowest id among equals, and that is all. Else all are divided by the temperature.
 *   3. top-k keeps the k highest (the lowest ids among equals).
 *   4. top-p keeps the fewest highest whose probabilities, among what top-k kept, sum up to p or more.
 *   5. min-p keeps those at least min_p times as probable as the most probable.
 *   6. One of what is left is drawn, as probable as it is among them.
 * The order is that of Hugging Face's generate(); the tokens penalised are those of vLLM, that is, of Hugging Face for
 * repetition and of OpenAI's API for the others. llama.cpp differs: unless told otherwise it divides by the temperature
 * last, after the filters, and takes all three penalties over the last 64 tokens, read and generated alike. */
#ifndef EY_SAMPLER_H
#define EY_SAMPLER_H

#include "seen.h"

#define EY_CANDIDATES 256u

/* How far a row's log-sum-exp may be from the true one, beside half a unit in its own last place (f32). */
#define EY_LSE_ERROR 1e-5

typedef struct ey_candidate {
    int32_t id;
    float   logit;
} ey_candidate;

/* Zero in every field: greedy, nothing filtered, nothing penalised. */
typedef struct ey_sampling {
    float    temperature;           /* 0 = greedy */
    uint32_t sample;
    uint64_t seed;
    uint32_t top_k;                 /* 0 = all */
    float    top_p;                 /* 0 or 1 = all */
    float    min_p;                 /* 0 = all; up to 1 */
    float    repetition;            /* 0 or 1 = none; above 1 makes tokens that occurred less probable */
    float    presence, frequency;   /* 0 = none */
    const ey_seen *seen;            /* the sequence's tokens before this one; borrowed, NULL = nothing was seen */
} ey_sampling;

/* A row as the device left it: its n best candidates in any order, the log-sum-exp of the whole row, the vocabulary. */
typedef struct ey_row_logits {
    ey_candidate *best;     /* [n]; penalised and sorted in place: highest logit first, lowest id among equals */
    uint32_t      n;
    float         lse;
    uint32_t      vocab;
} ey_row_logits;

/* Puts candidates into their order. */
void ey_candidates_sort(ey_candidate *c, size_t n);

/* Picks the token for `position` of a sequence. Returns false when the candidates do not settle it: then read the row
 * back and call ey_sample_all, which gives what a sampler that saw the whole row would have given. They always settle
 * top-k up to n without penalties, and a greedy choice, which is k = 1; with penalties that lower logits, as long as
 * these leave k candidates where they were. What else is left open depends on the draw and on how much the tokens that
 * are no candidates can weigh. */
bool ey_sample(const ey_sampling *s, uint64_t position, ey_row_logits *row, int32_t *token);

/* The same from the whole row: `all` [vocab] in any order, penalised and sorted in place. */
int32_t ey_sample_all(const ey_sampling *s, uint64_t position, ey_candidate *all, uint32_t vocab);

/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
void ey_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1) with 53 bits: that of (seed, sample, position). */
double ey_uniform(uint64_t seed, uint32_t sample, uint64_t position);

#endif
