/* ref_head.c - what becomes of logits: the soft cap, the log-sum-exp, the best of them. */
#include "ref.h"

#include <math.h>

void ref_head(size_t T, size_t V, float cap, float *x, float *lse)
{
    for (size_t t = 0; t < T; t++) {
        float *row = x + t * V;
        double top = -INFINITY, sum = 0.0;
        for (size_t i = 0; i < V; i++) {
            if (cap != 0.0f) row[i] = (float)(cap * tanh((double)row[i] / cap));
            top = fmax(top, row[i]);
        }
        for (size_t i = 0; i < V; i++) sum += exp(row[i] - top);
        lse[t] = (float)(top + log(sum));
    }
}

/* Whether i comes before j. */
static bool better(const float *x, size_t i, size_t j) { return x[i] > x[j] || (x[i] == x[j] && i < j); }

void ref_best(size_t V, const float *x, size_t n, int32_t *ids)
{
    for (size_t r = 0; r < n; r++) {
        const int32_t last = r ? ids[r - 1] : -1;
        int32_t best = -1;
        for (size_t i = 0; i < V && (r == 0 || last >= 0); i++) {
            const bool left = !isnan(x[i]) && (r == 0 || better(x, (size_t)last, i));
            if (left && (best < 0 || better(x, i, (size_t)best))) best = (int32_t)i;
        }
        ids[r] = best;
    }
}
