/* sampler.c - see sampler.h. All arithmetic is in double and in the candidates' order, so that a choice from the best
 * candidates and one from the whole row add up the same numbers in the same order. Not for what the device does: it
 * reduces rows, this file only chooses. */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

void ey_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double ey_uniform(uint64_t seed, uint32_t sample, uint64_t position)
{
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), sample, 0 };
    uint32_t word[4];
    ey_philox(counter, key, word);
    return (double)(((uint64_t)word[0] << 32 | word[1]) >> 11) * 0x1p-53;
}

/* A NaN counts as -infinity, so that the order is total whatever the device sent. */
static float rank(const ey_candidate *c) { return isnan(c->logit) ? -INFINITY : c->logit; }

static int compare(const void *x, const void *y)
{
    const ey_candidate *a = x, *b = y;
    float la = rank(a), lb = rank(b);
    if (la != lb) return la > lb ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

void ey_candidates_sort(ey_candidate *c, size_t n)
{
    if (n > 1) qsort(c, n, sizeof *c, compare);
}

/* ------------------------------------------------------------------------------------------------------ penalties */

static bool greedy(const ey_sampling *s) { return !(s->temperature > 0); }

static float repetition(const ey_sampling *s) { return s->repetition > 0 ? s->repetition : 1; }

static bool penalizes(const ey_sampling *s)
{
    return s->seen && s->seen->n > 0 && (repetition(s) != 1 || s->presence != 0 || s->frequency != 0);
}

/* Can a token come out more probable for having been seen? */
static bool may_raise(const ey_sampling *s) { return repetition(s) < 1 || s->presence < 0 || s->frequency < 0; }

/* Rounding cannot turn a penalty into a gain: it is monotonic. */
static float penalized(const ey_sampling *s, float logit, uint32_t generated)
{
    float r = repetition(s);
    logit = logit > 0 ? logit / r : logit * r;
    return generated ? logit - (s->presence + s->frequency * (float)generated) : logit;
}

/* Returns how many of them were seen. */
static size_t penalize(const ey_sampling *s, ey_candidate *c, size_t n)
{
    size_t seen = 0;
    for (size_t i = 0; i < n; i++) {
        const ey_seen_token *t = ey_seen_find(s->seen, c[i].id);
        if (!t) continue;
        c[i].logit = penalized(s, c[i].logit, t->generated);
        seen++;
    }
    return seen;
}

/* --------------------------------------------------------------------------------------- weights of a sorted row */

/* Weight of a logit against the row's highest: exp((logit - top) / temperature), in [0, 1]. */
static double weight(float logit, float top, double temperature)
{
    if (!(logit > -INFINITY)) return 0;
    if (logit == top) return 1;     /* also where both are infinite */
    return exp(((double)logit - (double)top) / temperature);
}

static double sum_weights(const ey_candidate *c, size_t n, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += weight(c[i].logit, c[0].logit, temperature);
    return sum;
}

/* The first candidate at which the running sum of weights exceeds `target`; n = none. */
static size_t pick(const ey_candidate *c, size_t n, double temperature, double target)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weight(c[i].logit, c[0].logit, temperature);
        if (sum > target) return i;
    }
    return n;
}

/* The first running sum that is `least` or more; `otherwise` if there is none. */
static double sum_reaching(const ey_candidate *c, size_t n, double temperature, double least, double otherwise)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weight(c[i].logit, c[0].logit, temperature);
        if (sum >= least) return sum;
    }
    return otherwise;
}

/* How many of them weigh `least` or more. */
static size_t count_weighing(const ey_candidate *c, size_t n, double temperature, double least)
{
    size_t i = 0;
    while (i < n && weight(c[i].logit, c[0].logit, temperature) >= least) i++;
    return i;
}

/* ---------------------------------------------------------------------------------------------------------- draws */

typedef struct interval {
    double low, high;
} interval;

/* Draws by u from a row of which the first n are known, in their order, and of which top-k keeps these n or more, whose
 * weights sum up to something in `all`. Returns the index, or n if that does not settle it.
 *
 * top-p and min-p keep a beginning of the row, too; how long a one need not be known, only bounds of its sum, as both
 * the running sums and what is drawn are monotonic in it. Where `all` is one number and these n are all that top-k
 * keeps, everything here is exact and the draw is settled. */
static size_t draw(const ey_sampling *s, const ey_candidate *c, size_t n, interval all, double u)
{
    double temperature = (double)s->temperature, top_p = (double)s->top_p, min_p = (double)s->min_p;
    interval kept = all;

    if (top_p > 0 && top_p < 1) {
        kept.low = sum_reaching(c, n, temperature, top_p * all.low, top_p * all.low);
        kept.high = sum_reaching(c, n, temperature, top_p * all.high, all.high);
    }
    if (min_p > 0) {
        size_t k = count_weighing(c, n, temperature, min_p);
        double sum = sum_weights(c, k, temperature);
        kept.low = fmin(kept.low, sum);
        if (k < n) kept.high = fmin(kept.high, sum);    /* else those after these may weigh as much */
    }
    size_t first = pick(c, n, temperature, u * kept.low);
    size_t last = pick(c, n, temperature, u * kept.high);
    return first == last ? first : n;
}

/* From a sorted row of which only the first k are kept: they are all known. */
static int32_t draw_from(const ey_sampling *s, const ey_candidate *c, size_t k, double u)
{
    double sum = sum_weights(c, k, (double)s->temperature);
    size_t i = draw(s, c, k, (interval){ sum, sum }, u);
    /* As u <= 1 - 2^-53, u * sum is less than sum, and the last running sum beyond it, unless these are no numbers. */
    return c[i < k ? i : 0].id;
}

/* How many top-k keeps. */
static size_t most_kept(const ey_sampling *s, uint32_t vocab)
{
    return s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab;
}

int32_t ey_sample_all(const ey_sampling *s, uint64_t position, ey_candidate *all, uint32_t vocab)
{
    if (penalizes(s)) penalize(s, all, vocab);
    ey_candidates_sort(all, vocab);
    if (greedy(s)) return all[0].id;
    return draw_from(s, all, most_kept(s, vocab), ey_uniform(s->seed, s->sample, position));
}

/* -------------------------------------------------------------------------------------------- draws from candidates */

/* What the m logits that are not among the candidates can weigh in all at this temperature, given that none is above
 * the lowest candidate, whose weight at temperature 1 is w (d = log w), and that their own weights x at temperature 1
 * sum up to t, of which the logarithm is given. With p = 1 / temperature:
 *     every x^p <= w^p                       so  sum x^p <= m w^p
 *     p >= 1:  x^p = x^(p-1) x               so  sum x^p <= w^(p-1) t          (equal at p = 1)
 *     p <= 1:  the same with the other sign  so  sum x^p >= w^(p-1) t
 *     p <= 1:  power means                   so  sum x^p <= m^(1-p) t^p
 * Penalties that lower x leave the upper bounds true; for the lower one, t is without those that may be penalised.
 * Products are taken as sums of logarithms, which cannot overflow half-way. fmin and fmax pass over the NaN of a t
 * that is negative or not a number: then the first bound alone holds. */
static interval tail(float lowest, float top, interval log_t, double m, double temperature)
{
    double p = 1 / temperature;
    double d = (double)lowest - (double)top;
    double most = m * weight(lowest, top, temperature);
    interval sum = { 0, most };
    if (most > 0) {
        double log_high = p >= 1 ? (p - 1) * d + log_t.high : (1 - p) * log(m) + p * log_t.high;
        sum.high = fmin(most, exp(log_high));
        if (p <= 1) sum.low = fmin(sum.high, fmax(0, exp((p - 1) * d + log_t.low)));
    }
    return sum;
}

/* What all that are no candidates weigh together at temperature 1, against the highest, as the log-sum-exp tells. The
 * candidates must be sorted, and not penalised. */
static interval outside(const ey_row_logits *row)
{
    double known = sum_weights(row->best, row->n, 1);
    double log_all = (double)row->lse - (double)row->best[0].logit;
    double error = EY_LSE_ERROR + (double)fabsf(row->lse) * FLT_EPSILON;
    return (interval){ exp(log_all - error) - known, exp(log_all + error) - known };
}

/* Bounds of the sum of weights of all that top-k keeps, which are the first `sure` candidates and more. Before penalties
 * the candidates went from `highest` to `lowest`, and t is what outside() said; `unknown` of those outside may have been
 * penalised. */
static interval sum_of_kept(const ey_sampling *s, const ey_row_logits *row, size_t sure, float highest, float lowest,
                            interval t, size_t unknown)
{
    const ey_candidate *c = row->best;
    double temperature = (double)s->temperature;
    double m = (double)row->vocab - (double)row->n, shift = (double)highest - (double)c[0].logit;
    double aside = unknown > 0 ? (double)unknown * weight(lowest, highest, 1) : 0;
    interval log_t = { log(fmax(0, t.low - aside)) + shift, log(t.high) + shift };
    interval rest = tail(lowest, c[0].logit, log_t, m, temperature);

    /* The sum over the whole row, as ey_sample_all rounds it: adding weights never makes it smaller than the part that
     * comes first, and each addition rounds by half of DBL_EPSILON at most. The 4096 are for the bounds' own exp and
     * log. */
    double rounding = ((double)row->vocab + 4096) * DBL_EPSILON;
    double known = sum_weights(c, row->n, temperature);
    interval all = { sum_weights(c, sure, temperature), (known + rest.high) * (1 + rounding) };
    if (most_kept(s, row->vocab) == row->vocab) all.low = fmax(all.low, (known + rest.low) * (1 - rounding));
    return all;
}

bool ey_sample(const ey_sampling *s, uint64_t position, ey_row_logits *row, int32_t *token)
{
    ey_candidate *c = row->best;
    size_t n = row->n, unknown = 0;     /* unknown: tokens to be penalised that are no candidates */
    bool whole = n >= row->vocab;
    interval t = { 0, 0 };

    if (n == 0) return false;
    ey_candidates_sort(c, n);
    /* All tokens that are no candidates come after this one: before penalties, and, if these only lower, after them. */
    const ey_candidate lowest = c[n - 1];
    float highest = c[0].logit;
    if (!whole && !greedy(s)) t = outside(row);
    if (penalizes(s)) {
        unknown = s->seen->n - penalize(s, c, n);
        if (unknown > 0 && may_raise(s)) return false;
        ey_candidates_sort(c, n);
    }
    size_t sure = n;                    /* as many are the first of the whole row */
    while (!whole && sure > 0 && compare(&c[sure - 1], &lowest) > 0) sure--;
    if (sure == 0) return false;
    if (greedy(s)) {
        *token = c[0].id;
        return true;
    }
    double u = ey_uniform(s->seed, s->sample, position);
    size_t k = most_kept(s, row->vocab);
    if (k <= sure) {
        *token = draw_from(s, c, k, u);
        return true;
    }
    size_t i = draw(s, c, sure, sum_of_kept(s, row, sure, highest, lowest.logit, t, unknown), u);
    if (i == sure) return false;
    *token = c[i].id;
    return true;
}
