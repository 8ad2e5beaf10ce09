/* head.c - the check of what becomes of logits: the cap, the log-sum-exp, the best of them. */
#include "checks.h"
#include "ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_id(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* One result, against the logits [V] it was made of. */
static void judge_result(ey_rig *r, const int32_t *result, float *logits, size_t V, int32_t target)
{
    int32_t best[256];
    float lse, got;

    ref_head(1, V, 0.0f, logits, &lse);
    memcpy(&got, &result[0], sizeof got);
    /* A lane of a segment's sum has up to 256 additions, then there are four; exp makes 6 and its argument's rounding
     * less than one. Segments are scaled by another exp, and summed. That is an absolute error of the logarithm,
     * which makes 6 of itself, a number below 13. The sum and the reference round the result. */
    ey_judge(r, got, lse, 1, 256 + 4 + 7 + 7 + 2 + 6 * 13 + 2 * fabsf(lse));
    if (target >= 0) {
        ey_expect_same(r, &result[1], &logits[target], sizeof *logits);
        return;
    }
    ref_best(V, logits, 256, best);
    qsort(best, 256, sizeof *best, by_id);
    ey_expect_same(r, &result[4], best, sizeof best);
    for (size_t i = 0; i < 256; i++) ey_expect_same(r, &result[4 + 256 + i], &logits[best[i]], sizeof *logits);
}

/* The matrix has one column that is not zero, so the logits are known: row r's are x[r] w. choice: the cap. */
void ey_check_head(ey_rig *r, const ey_job *j)
{
    enum { V = 5000, PADDED = 5008, K = 16, T = 4 };
    static const int32_t targets[T] = { -1, 4095, 4999, -1 };
    const float cap = (float)j->choice;
    const float x[T] = { 1.0f, 1.5f, -0.7f, 0.1f };
    float *W = ey_numbers(r, PADDED * K), *zero = ey_numbers(r, PADDED), *w = ey_noise(r, V, 1, 20.0f);
    float *got = ey_numbers(r, T * V), *want = ey_numbers(r, T * V), lse[T];
    int32_t *results = (int32_t *)ey_numbers(r, T * EY_RESULT_WORDS);
    struct ey_shard shard;
    ey_matrix m;

    for (size_t i = 0; i < V; i++) W[i * K] = w[i] = w[i / 3 * 3];    /* equals, of which the lowest ids come first */
    ey_rig_matrix(r, &m, &shard, EYRIE_FORMAT_F32, W, zero, PADDED, K);
    ey_buffer *b = ey_rig_upload(r, NULL, T * EY_RESULT_WORDS * sizeof *results);
    ey_rig_begin(r, EYRIE_FORMAT_F32, EY_PREFILL, T, 1);
    ey_act in = ey_rig_input(r, K);
    ey_act logits = ey_rig_hold(r, ey_head_reduce(&r->plan, in, &(ey_head){ &m, V, cap, T, ey_head_tile(&m, T), b }));
    ey_rig_seal(r);
    ey_rig_put(r, in, x, T, 1);
    ey_rig_run(r, &(ey_row){ .n = T, .targets = targets, .want = EY_WANT_ALL }, 1);
    ey_rig_get(r, logits, got, T, V);
    for (size_t i = 0; i < T * V; i++) want[i] = x[i / V] * w[i % V];
    ref_head(T, V, cap, want, lse);
    ey_expect(r, got, want, want, T * V, cap > 0.0f ? 15 : 1);  /* quotient 5, tanh 8, a product, the reference's */
    ey_rig_read(r, b, results);
    for (size_t i = 0; i < T && r->status == EYRIE_OK; i++)
        judge_result(r, results + i * EY_RESULT_WORDS, got + i * V, V, targets[i]);
}
