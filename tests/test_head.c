/* test_head.c - logits of wanted rows, their soft cap, and what is kept of them: log-sum-exp, the logit of a
 * target, or the 256 best. The matrix has one column, so a test says what the logits are: row r's are x[r] * w. */
#include "harness.h"

enum { BEST = 256, ID = 4, LOGIT = ID + BEST };     /* words of a result, see op.h */

typedef struct head {
    rig        r;
    ey_matrix *m;
    ey_buffer *results;
    ey_act     x, logits;
    uint32_t   V, wanted, tile;
    float     *w;                   /* as the format keeps it */
    float      cap;
} head;

/* Room for `wanted` results. */
static void head_open(head *h, lab *l, const char *directory, eyrie_format format, const float *w, uint32_t V,
                      float cap, uint32_t wanted)
{
    const tensor file[] = { { "w", { V, 1 }, w } };

    *h = (head){ .V = V, .wanted = wanted, .cap = cap, .w = rounded(format, w, V, 1, 1) };
    rig_open(&h->r, l, EYRIE_FORMAT_F32, EY_PREFILL, wanted + 2, 2);
    h->m = ey_weights_matrix(rig_weights(&h->r, directory, format, file, 1),
                             &(ey_part){ "w", NULL, ey_dim_flat(V) }, 1, ey_dim_flat(1));
    h->results = ey_arena_add(&h->r.scratch.arena, (uint64_t)wanted * EY_RESULT_WORDS * 4, "results");
    assert_non_null(h->results);
    h->x = hold(&h->r, ey_plan_act(&h->r.plan, wanted + 2, EY_LANES));
    h->tile = ey_head_tile(h->m, wanted);
    h->logits = hold(&h->r, ey_head_reduce(&h->r.plan, h->x, &(ey_head){ h->m, V, cap, wanted, h->tile, h->results }));
    rig_seal(&h->r);
}

/* Runs n wanted rows: all n - 1 tokens of a sequence with targets (-1: candidates), the last of three of one
 * without. */
static int32_t *head_run(head *h, const float *x, const int32_t *targets, uint32_t n)
{
    const ey_row last = { .slot = 1, .n = 3, .want = EY_WANT_LAST };
    const ey_row rows[] = { { .n = n - 1, .targets = targets, .want = EY_WANT_ALL }, last };

    rig_clear(&h->r);
    put(&h->r, h->x, ey_dim_flat(1), x, n);
    rig_run(&h->r, n > 1 ? rows : &last, n > 1 ? 2 : 1, NULL);
    return (int32_t *)read_floats(&h->r, h->results, h->results->bytes / 4);
}

/* The logits of wanted row i of n, which must be in the last tile. */
static float *head_logits(head *h, const float *x, uint32_t i)
{
    float *got = zeros(h->V), *want = zeros(h->V), lse;

    const ey_buffer *b = ey_plan_buffer(&h->r.plan, h->logits);
    uint64_t         from = (uint64_t)(i % h->tile) * h->logits.stride * sizeof *got;
    assert_ok(ey_buffer_read(h->r.lab->device, b, from, h->V * sizeof *got, got, &err));
    for (uint32_t v = 0; v < h->V; v++) want[v] = x[i] * h->w[v] + 0.0f;    /* a chain of fma ends without -0 */
    if (h->cap == 0.0f) {
        check_same("logits", got, want, h->V);
    } else {        /* the quotient's 5, which tanh does not enlarge, its own 8, a product, and the reference's */
        ref_head(1, h->V, h->cap, want, &lse);
        check_near("capped logits", got, want, h->V, 15, want);
    }
    return got;
}

static int by_id(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* One result against the logits that it is made of. */
static void check_result(const head *h, const int32_t *result, float *logits, int32_t target)
{
    uint32_t n = (uint32_t)ey_min(h->V, BEST);
    int32_t  best[BEST];
    float    lse, magnitude;

    ref_head(1, h->V, 0.0f, logits, &lse);
    /* A lane of a segment's sum has up to 256 additions, then there are four; exp makes 6 and its argument's
     * rounding less than one. Segments are scaled by another exp, and summed. That is an absolute error of the
     * logarithm, which makes 6 of itself, a number below 13. The sum and the reference round the result. */
    magnitude = 256 + 4 + 7 + 7 + (float)h->V / 4096 + 6 * 13 + 2 * fabsf(lse);
    check_near("log-sum-exp", (const float *)result, &lse, 1, 1, &magnitude);
    if (target >= 0) {
        check_same("target", &result[1], &logits[target], 1);
        assert_int_equal(result[2], 0);
        return;
    }
    assert_int_equal(result[2], n);
    ref_best(h->V, logits, n, best);
    qsort(best, n, sizeof *best, by_id);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(result[ID + i], best[i]);
        check_same("its logit", &result[LOGIT + i], &logits[best[i]], 1);
    }
}

/* Results of 1, 2, ... rows, for which different tiles are launched: targets at the ends of segments, and
 * candidates. */
static void check_head(lab *l, const char *directory, eyrie_format format, const float *w, uint32_t V, float cap)
{
    static const uint32_t ends[] = { 100, 4095, 4096, 8191, 8192 };
    int32_t               targets[COUNT(ends) + 6] = { -1, 0, (int32_t)V - 1, -1 };
    uint32_t              most = 4;
    head                  h;

    for (size_t i = 0; i < COUNT(ends); i++)
        if (ends[i] < V) targets[most++] = (int32_t)ends[i];
    float *x = noise(most + 1, 1, 0.5f);
    for (uint32_t i = 0; i <= most; i++) x[i] += 1.0f;
    head_open(&h, l, directory, format, w, V, cap, most + 3);
    for (uint32_t n = 1; n <= most + 1; n += most / 2) {
        const int32_t *results = head_run(&h, x, targets, n);
        for (uint32_t i = 0; i < n; i++)
            check_result(&h, results + i * EY_RESULT_WORDS, head_logits(&h, x, i), i + 1 < n ? targets[i] : -1);
        size_t rest = (h.wanted - n) * EY_RESULT_WORDS, below = (h.tile - n) * h.logits.stride;
        const float *logits = read_floats(&h.r, ey_plan_buffer(&h.r.plan, h.logits), h.tile * h.logits.stride);
        check_same("no results", results + n * EY_RESULT_WORDS, untouched(rest), rest);
        check_same("no logits", logits + n * h.logits.stride, untouched(below), below);
    }
    rig_close(&h.r);
}

/* Kinds of weights. */
static float *scattered(uint32_t V) { return noise(V, V, 20.0f); }
static float *ties(uint32_t V)      { return integers(V, V, 3); }
static float *equal(uint32_t V)     { return integers(V, V, 0); }

static float *falling(uint32_t V)
{
    float *w = zeros(V);
    for (uint32_t v = 0; v < V; v++) w[v] = 4.0f - (float)v / 1024.0f;
    return w;
}

/* Few that are not -infinity: fewer than 256, so that the rest of the candidates is chosen among those. */
static float *mostly_impossible(uint32_t V)
{
    float *w = noise(V, V, 5.0f);
    for (uint32_t v = 0; v < V; v++)
        if (v % 67 != 3 && v + 1 < V) w[v] = -INFINITY;
    return w;
}

static void every_vocabulary(void **state)
{
    static const uint32_t vocabularies[] = { 1, 5, 101, 255, 256, 257, 4096, 4097, 4351, 9000 };
    static float *(*const kinds[])(uint32_t V) = { scattered, ties, equal, falling, mostly_impossible };
    static const float caps[] = { 0.0f, 30.0f };

    for (size_t v = 0; v < COUNT(vocabularies); v++)
        for (size_t k = 0; k < COUNT(kinds); k++)
            for (size_t c = 0; c < COUNT(caps); c++) {
                uint32_t V = vocabularies[v];
                check_head(&shared, *state, EYRIE_FORMAT_F32, kinds[k](V), V, caps[c]);
            }
    check_head(&shared, *state, EYRIE_FORMAT_F16, scattered(4097), 4097, 30.0f);
    check_head(&shared, *state, EYRIE_FORMAT_BF16, scattered(4097), 4097, 0.0f);
    check_head(&shared, *state, EYRIE_FORMAT_Q8, scattered(4097), 4097, 0.0f);
}

/* One allocation holds 17 panels of 32, so the matrix has to be in two. */
static void shards_change_nothing(void **state)
{
    lab small;

    lab_open(&small, 17 * 1024, 0);
    check_head(&small, *state, EYRIE_FORMAT_F32, scattered(500), 500, 0.0f);
    lab_close(&small);
}

/* A vocabulary so large that there is room for 64 rows of logits only: more are done in several tiles. */
static void many_tiles(void **state)
{
    enum { V = 262145, WANTED = 67 };
    int32_t targets[WANTED];
    float   x[WANTED];
    head    h;

    for (uint32_t i = 0; i < WANTED; i++) {
        targets[i] = i == 63 || i == 64 ? -1 : (int32_t)(i * 3989 % V);
        x[i] = 1.0f + 0.01f * (float)i;
    }
    head_open(&h, &shared, *state, EYRIE_FORMAT_F32, scattered(V), V, 0.0f, WANTED);
    assert_int_equal(h.tile, 64);

    const int32_t *first = head_run(&h, x, targets, 64);
    check_result(&h, first, head_logits(&h, x, 0), targets[0]);
    check_result(&h, first + 63 * EY_RESULT_WORDS, head_logits(&h, x, 63), -1);
    check_same("no results", first + 64 * EY_RESULT_WORDS, untouched(3 * EY_RESULT_WORDS), 3 * EY_RESULT_WORDS);

    const int32_t *all = head_run(&h, x, targets, WANTED);
    check_same("the first tile", all, first, 64 * EY_RESULT_WORDS);
    check_result(&h, all + 64 * EY_RESULT_WORDS, head_logits(&h, x, 64), -1);
    check_result(&h, all + 65 * EY_RESULT_WORDS, head_logits(&h, x, 65), targets[65]);
    check_result(&h, all + 66 * EY_RESULT_WORDS, head_logits(&h, x, 66), -1);
    rig_close(&h.r);
}

/* A logit that is not a number, or all of them, show in the log-sum-exp of their row, and in no other. The cap makes
 * infinite ones finite. */
static void not_a_number(void **state)
{
    static const float   caps[] = { 0.0f, 30.0f }, x[] = { 1, NAN, 2, INFINITY, 3 };
    static const int32_t targets[] = { 5, 5, -1, 5 };

    for (size_t i = 0; i < COUNT(caps); i++) {
        float *w = scattered(300), lse;
        head   h;

        head_open(&h, &shared, *state, EYRIE_FORMAT_F32, w, 300, caps[i], 5);
        const int32_t *results = head_run(&h, x, targets, 5);
        for (uint32_t k = 0; k < 5; k++) {
            bool fine = caps[i] > 0.0f ? !isnan(x[k]) : isfinite(x[k]);
            memcpy(&lse, results + k * EY_RESULT_WORDS, sizeof lse);
            assert_int_equal(fine, isfinite(lse) != 0);
        }
        rig_close(&h.r);

        w[299] = NAN;
        head_open(&h, &shared, *state, EYRIE_FORMAT_F32, w, 300, caps[i], 5);
        memcpy(&lse, head_run(&h, x, targets, 2), sizeof lse);
        assert_true(isnan(lse));
        rig_close(&h.r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_vocabulary),
        op_test(shards_change_nothing),
        op_test(many_tiles),
        op_test(not_a_number),
    };
    return run_op_tests(tests);
}
