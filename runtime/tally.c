/* tally.c - eyrie_tally of eyrie_tools.h: durations, counted by their logarithm. What they are durations of is the caller's. */
#include "base.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>

/* FINE classes to a factor of e: a quantile is known to half a class, 0.25 %. */
enum { FINE = 200, LOWEST = -20, HIGHEST = 20, CLASSES = (HIGHEST - LOWEST) * FINE };

struct eyrie_tally {
    uint64_t n, classes[CLASSES];
    double   sum, most;
};

eyrie_tally *eyrie_tally_new(void) { return ey_calloc(1, sizeof(eyrie_tally)); }
void         eyrie_tally_free(eyrie_tally *t) { ey_free(t); }

void eyrie_tally_add(eyrie_tally *t, double seconds)
{
    double at = seconds > 0 ? (log(seconds) - LOWEST) * FINE : 0;

    t->classes[at <= 0 ? 0 : at >= CLASSES ? CLASSES - 1 : (uint32_t)at]++;
    t->n++;
    t->sum += seconds;
    t->most = fmax(t->most, seconds);
}

/* The smallest duration that `share` of all do not pass. */
static double quantile(const eyrie_tally *t, double share)
{
    uint64_t rank = (uint64_t)ceil(share * (double)t->n), seen = 0;
    uint32_t k = 0;

    if (t->n == 0) return 0;
    for (; k < CLASSES && seen + t->classes[k] < rank; k++) seen += t->classes[k];
    return fmin(exp((k + 0.5) / FINE + LOWEST), t->most);
}

eyrie_spread eyrie_tally_spread(const eyrie_tally *t)
{
    return (eyrie_spread){ .n = t->n, .mean = t->n ? t->sum / (double)t->n : 0, .p50 = quantile(t, 0.5), .p95 = quantile(t, 0.95),
                           .p99 = quantile(t, 0.99), .most = t->most };
}
