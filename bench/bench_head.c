/* bench_head.c - logits to what the host wants of them, without the product that makes them, which bench_matmul times: the cap,
 * the log-sum-exp, and either the 256 candidates that a sampler chooses from, as every sequence of a decode step wants them,
 * or the logit of a target, as every token of a text that is scored does.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_head                  everything: half a minute
 *     POCL_AFFINITY=1 build-bench/bench_head -m candidates    no targets
 *
 * Bytes are those of logits coming in, capped ones going out, and results; FLOPs three a logit for the log-sum-exp and three
 * for the cap, counting exp and tanh as one. The choice of candidates only compares, up to 33 times a logit: it has none.
 * Logits are read from memory, as all weights of the head have been through the caches since most of them were written.
 * How to read the table: bench/RESULTS.md. */
#include "bench.h"
#include "sampler.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    COLD_BYTES = 16 << 20,          /* copies move so much, or there are MOST_COPIES, each with logits of its own */
    MOST_COPIES = 60                /* so that a plan has buffers for them */
};

typedef struct shape {
    const char *model;
    uint32_t    vocab;              /* a multiple of 16: there is no padding */
    float       cap;
} shape;

static const shape shapes[] = {
    { "recurrentgemma-2b", 256000, 30.0f },
    { "griffin-100m",      256000,  0.0f },
    { "g110",               32000, 30.0f },
    { "shakespeare",         1024, 30.0f },
};

static const uint32_t wanted[] = { 1, 8, 32 };

/* One size of step on one shape: n wanted rows of V logits. */
typedef struct setting {
    const shape *shape;
    uint32_t     n, V;
    int32_t     *targets;                       /* [n]; NULL: candidates */
    float       *expected, *lse, *logits;       /* [n, V]: given, then capped by the reference; [n]; [n, V]: by the device */
    int32_t     *results;                       /* [n][EY_RESULT_WORDS] */
} setting;

/* Freed by setting_free, also after a failure. */
static eyrie_status setting_make(setting *s, const shape *of, uint32_t n, bool scored, eyrie_error *err)
{
    const size_t logits = (size_t)n * of->vocab;

    *s = (setting){ .shape = of, .n = n, .V = of->vocab };
    if (scored) s->targets = ey_calloc(n, sizeof *s->targets);
    s->expected = ey_calloc(logits, sizeof *s->expected);
    s->lse = ey_calloc(n, sizeof *s->lse);
    s->logits = ey_calloc(logits, sizeof *s->logits);
    s->results = ey_calloc((size_t)n * EY_RESULT_WORDS, sizeof *s->results);
    if ((scored && !s->targets) || !s->expected || !s->lse || !s->logits || !s->results)
        return ey_fail(err, EYRIE_ENOMEM, "%u rows of logits", (unsigned)n);
    bench_random(s->expected, logits, 20.0f, 3);
    for (uint32_t r = 0; scored && r < n; r++) s->targets[r] = (int32_t)((r + 1) * 3989 % s->V);
    return EYRIE_OK;
}

static void setting_free(setting *s)
{
    ey_free(s->targets);
    ey_free(s->expected);
    ey_free(s->lse);
    ey_free(s->logits);
    ey_free(s->results);
}

/* Candidates are compared in the order that the sampler puts them in, which is the reference's. They are the best of the
 * logits as the device has capped them: those of the reference may have the last two of them the other way round. */
static eyrie_status check_candidates(const setting *s, uint32_t r, eyrie_error *err)
{
    const int32_t *result = s->results + (size_t)r * EY_RESULT_WORDS;
    const float *logits = s->logits + (size_t)r * s->V;
    ey_candidate got[EY_CANDIDATES];
    int32_t best[EY_CANDIDATES];

    for (uint32_t i = 0; i < EY_CANDIDATES; i++) {
        got[i].id = result[4 + i];
        memcpy(&got[i].logit, &result[4 + EY_CANDIDATES + i], sizeof got[i].logit);
    }
    ey_candidates_sort(got, EY_CANDIDATES);
    ref_best(s->V, logits, EY_CANDIDATES, best);
    for (uint32_t i = 0; i < EY_CANDIDATES; i++)
        if (got[i].id != best[i] || memcmp(&got[i].logit, &logits[best[i]], sizeof got[i].logit) != 0)
            return ey_fail(err, EYRIE_ENUMERIC, "%s, row %u of %u: candidate %u is %" PRId32 " with %g, should be %" PRId32
                           " with %g", s->shape->model, (unsigned)r, (unsigned)s->n, (unsigned)i, got[i].id,
                           (double)got[i].logit, best[i], (double)logits[best[i]]);
    return EYRIE_OK;
}

/* All of it but candidates, which are those of the first and the last row. */
static eyrie_status check(const bench_case *c, const setting *s, eyrie_error *err)
{
    const int32_t count = s->targets ? 0 : (int32_t)EY_CANDIDATES;
    bench_check found = { 0 };
    eyrie_status st;

    ref_head(s->n, s->V, s->shape->cap, s->expected, s->lse);
    bench_compare(&found, s->logits, s->expected, (size_t)s->n * s->V);
    for (uint32_t r = 0; r < s->n; r++) {
        const int32_t *result = s->results + (size_t)r * EY_RESULT_WORDS;
        float got[2];
        memcpy(got, result, sizeof got);
        bench_compare(&found, &got[0], &s->lse[r], 1);
        if (s->targets) bench_compare(&found, &got[1], &s->expected[(size_t)r * s->V + (size_t)s->targets[r]], 1);
        if (result[2] != count)
            return ey_fail(err, EYRIE_ENUMERIC, "%s, row %u of %u: %" PRId32 " candidates, should be %" PRId32,
                           s->shape->model, (unsigned)r, (unsigned)s->n, result[2], count);
        if (!s->targets && (r == 0 || r + 1 == s->n)) EY_TRY(check_candidates(s, r, err));
    }
    st = bench_verdict(c, &found, err);
done:
    return st;
}

static ey_cost work_of(const setting *s)
{
    uint64_t logits = (uint64_t)s->n * s->V, words = s->targets ? 3 : EY_RESULT_WORDS;
    bool capped = s->shape->cap > 0.0f;
    return (ey_cost){ (capped ? 8 : 4) * logits + 4 * s->n * words, (capped ? 6 : 3) * logits };
}

/* A copy replayed caps what it has capped before: other values, in the same order. */
static eyrie_status bucket(bench *b, const shape *of, uint32_t n, bool scored, const char *what, eyrie_error *err)
{
    bench_case c = { .model = of->model, .what = what, .format = "", .want = EY_WANT_ALL };
    ey_act logits[MOST_COPIES];
    setting s;
    eyrie_status st;

    EY_TRY(setting_make(&s, of, n, scored, err));
    c.targets = s.targets;
    c.work = work_of(&s);
    c.copies = (uint32_t)ey_min((COLD_BYTES + c.work.bytes - 1) / c.work.bytes, MOST_COPIES);
    EY_TRY(bench_begin(b, &c, (bench_bucket){ scored ? EY_PREFILL : EY_DECODE, n }, err));
    ey_buffer *results = ey_arena_add(&c.scratch.arena, (uint64_t)n * EY_RESULT_WORDS * sizeof *s.results, "results");
    if (!results) {
        st = ey_fail(err, EYRIE_ENOMEM, "results");
        goto done;
    }
    const ey_head head = { .vocab = of->vocab, .cap = of->cap, .wanted = n, .results = results };
    for (uint32_t i = 0; i < c.copies; i++) {
        c.plan.layer = i;
        logits[i] = ey_plan_act(&c.plan, n, of->vocab);
        ey_plan_keep(&c.plan, logits[i]);
        if (c.plan.status == EYRIE_OK) c.plan.values[logits[i].value].first = 0;    /* uploaded before the plan runs */
        ey_head_reduce_logits(&c.plan, logits[i], &head, 0, n);
    }
    EY_TRY(bench_ready(b, &c, &(ey_geometry){ 0 }, 0, err));
    for (uint32_t i = 0; i < c.copies; i++) EY_TRY(bench_put(b, &c, logits[i], s.expected, err));
    EY_TRY(bench_run(b, &c, err));
    EY_TRY(bench_get(b, &c, logits[c.copies - 1], s.logits, err));
    EY_TRY(ey_buffer_read(b->dev, results, 0, results->bytes, s.results, err));
    EY_TRY(check(&c, &s, err));
    st = bench_time(b, &c, err);
done:
    bench_end(&c);
    setting_free(&s);
    return st;
}

static eyrie_status heads(bench *b, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(bench_build(b, EYRIE_FORMAT_F16, false, err));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int scored = 0; scored < 2; scored++) {
            char what[64];
            snprintf(what, sizeof what, "%u logits, %s", (unsigned)shapes[i].vocab, scored ? "a target" : "candidates");
            if (!bench_wants(b, shapes[i].model, what, EYRIE_FORMAT_F32)) continue;
            for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
                EY_TRY(bucket(b, &shapes[i], wanted[k], scored, what, err));
        }
done:
    return st;
}

int main(int argc, char **argv) { return bench_main(argc, argv, "reduction of logits", heads); }
