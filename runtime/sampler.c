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

/* Weight of a logit against the row's highest: exp((logit - top) / temperature), in [0, 1]. */
static double weight(float logit, float top, double temperature)
{
    if (!(logit > -INFINITY)) return 0;
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

/* From sorted candidates that are the whole row. */
static int32_t pick_whole(const ey_candidate *c, size_t n, double temperature, double u)
{
    size_t i = pick(c, n, temperature, u * sum_weights(c, n, temperature));
    if (i < n) return c[i].id;
    /* u * sum was rounded up to sum: the last one that can be drawn at all. */
    while (i > 1 && weight(c[i - 1].logit, c[0].logit, temperature) == 0) i--;
    return c[i - 1].id;
}

static bool greedy(const ey_sampling *s) { return !(s->temperature > 0); }

int32_t ey_sample_all(const ey_sampling *s, uint64_t position, ey_candidate *all, uint32_t vocab)
{
    ey_candidates_sort(all, vocab);
    if (greedy(s)) return all[0].id;
    return pick_whole(all, vocab, (double)s->temperature, ey_uniform(s->seed, s->sample, position));
}

typedef struct interval {
    double low, high;
} interval;

/* What the m logits that are not among the candidates can weigh in all at this temperature, given that none is above
 * the lowest candidate, whose weight at temperature 1 is w (d = log w), and that their own weights x at temperature 1
 * sum up to t, which the log-sum-exp tells. With p = 1 / temperature:
 *     every x^p <= w^p                       so  sum x^p <= m w^p
 *     p >= 1:  x^p = x^(p-1) x               so  sum x^p <= w^(p-1) t          (equal at p = 1)
 *     p <= 1:  the same with the other sign  so  sum x^p >= w^(p-1) t
 *     p <= 1:  power means                   so  sum x^p <= m^(1-p) t^p
 * Products are taken as sums of logarithms, which cannot overflow half-way. fmin and fmax pass over the NaN of a t
 * that is negative or not a number: then the first bound alone holds. */
static interval tail(float lowest, float top, interval t, double m, double temperature)
{
    double p = 1 / temperature;
    double d = (double)lowest - (double)top;
    double most = m * weight(lowest, top, temperature);
    interval sum = { 0, most };
    if (most > 0) {
        double log_high = p >= 1 ? (p - 1) * d + log(t.high) : (1 - p) * log(m) + p * log(t.high);
        sum.high = fmin(most, exp(log_high));
        if (p <= 1) sum.low = fmin(sum.high, fmax(0, exp((p - 1) * d + log(t.low))));
    }
    return sum;
}

bool ey_sample(const ey_sampling *s, uint64_t position, ey_row_logits *row, int32_t *token)
{
    const ey_candidate *c = row->best;
    size_t n = row->n;
    if (n == 0) return false;
    ey_candidates_sort(row->best, n);
    if (greedy(s)) {
        *token = c[0].id;
        return true;
    }
    double temperature = (double)s->temperature;
    double u = ey_uniform(s->seed, s->sample, position);
    if (n >= row->vocab) {
        *token = pick_whole(c, n, temperature, u);
        return true;
    }
    float top = c[0].logit, lowest = c[n - 1].logit;
    double known = sum_weights(c, n, 1);
    double log_all = (double)row->lse - (double)top;
    double error = EY_LSE_ERROR + (double)fabsf(row->lse) * FLT_EPSILON;
    interval t = { fmax(0, exp(log_all - error) - known), exp(log_all + error) - known };
    interval rest = tail(lowest, top, t, (double)row->vocab - (double)n, temperature);

    /* The sum over the whole row, as ey_sample_all rounds it: adding weights never makes it smaller than the known
     * part, and each addition rounds by half of DBL_EPSILON at most. The 4096 are for the bounds' own exp and log. */
    double rounding = ((double)row->vocab + 4096) * DBL_EPSILON;
    double part = sum_weights(c, n, temperature);
    interval all = { fmax(part, (part + rest.low) * (1 - rounding)), (part + rest.high) * (1 + rounding) };
    size_t first = pick(c, n, temperature, u * all.low);
    size_t last = pick(c, n, temperature, u * all.high);
    if (first != last || first == n) return false;
    *token = c[first].id;
    return true;
}
