/* test_sampler.c - sampler.c: the generator against its published vectors, the choice from a few candidates against
 * the choice from the whole row, and that against probabilities worked out here. */
#include "testing.h"

#include <float.h>
#include <math.h>

#include "sampler.h"

/* Random123's kat_vectors, "philox4x32 10": counter, key, result. */
static const struct {
    uint32_t counter[4], key[2], result[4];
} vectors[] = {
    { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8 } },
    { { 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF }, { 0xFFFFFFFF, 0xFFFFFFFF },
      { 0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD } },
    { { 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344 }, { 0xA4093822, 0x299F31D0 },
      { 0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1 } },
};

static void philox_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(vectors); i++) {
        uint32_t out[4];
        ey_philox(vectors[i].counter, vectors[i].key, out);
        assert_memory_equal(out, vectors[i].result, sizeof out);
    }
}

/* A text has to come out the same from every later version, so where the words go is fixed, too. */
static void uniform_places_its_words(void **state)
{
    const uint32_t counter[4] = { 0x89ABCDEF, 0x01234567, 0x13579BDF, 0 }, key[2] = { 0x76543210, 0xFEDCBA98 };
    uint32_t out[4];
    (void)state;
    assert_true(ey_uniform(0, 0, 0) == (double)(0x6627E8D5E169C58Dull >> 11) / 9007199254740992.0);
    ey_philox(counter, key, out);
    double want = floor(ldexp(out[0], 21) + out[1] / 2048.0) / 9007199254740992.0;   /* the first 53 of 64 bits */
    assert_true(ey_uniform(0xFEDCBA9876543210ull, 0x13579BDF, 0x0123456789ABCDEFull) == want);
}

static void order_is_logit_then_id(void **state)
{
    ey_candidate c[] = {
        { 9, -INFINITY }, { 4, 0.0f }, { 8, NAN }, { 3, -0.0f }, { 7, -1.5f },
        { 5, 2.0f }, { 1, 2.0f }, { 2, INFINITY }, { 6, -FLT_MAX },
    };
    static const int32_t want[] = { 2, 1, 5, 3, 4, 7, 6, 8, 9 };   /* -0 equals 0, a NaN counts as -infinity */
    (void)state;
    ey_candidates_sort(c, COUNT(c));
    for (size_t i = 0; i < COUNT(c); i++) assert_int_equal(c[i].id, want[i]);
    ey_candidates_sort(c, 0);
}

/* ----------------------------------------------------------------------------------------------------------- rows */

static uint64_t noise;   /* state of the tests' own generator (splitmix64), unrelated to the one under test */

static uint64_t next_noise(void)
{
    uint64_t z = noise += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)(next_noise() % n); }
static double   unit(void) { return (double)(next_noise() >> 11) * 0x1p-53; }
static double   bell(void) { return unit() + unit() + unit() + unit() - 2; }   /* about normal, deviation 0.58 */

static void shuffle(ey_candidate *c, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = below(i);
        ey_candidate t = c[i - 1];
        c[i - 1] = c[j];
        c[j] = t;
    }
}

typedef enum kind { FLAT, NATURAL, PEAKED, LEVELS, EQUAL, HALF_IMPOSSIBLE, WIDE, FAR_FROM_ZERO, KINDS } kind;

static void fill_row(ey_candidate *c, uint32_t vocab, kind k)
{
    for (uint32_t i = 0; i < vocab; i++) {
        double x = bell();
        switch (k) {
        case FLAT:            x *= 1e-3; break;
        case NATURAL:         x *= 4; break;
        case PEAKED:          x = i == 0 ? 30 : 4 * x; break;
        case LEVELS:          x = floor(4 * x) / 2; break;            /* many equal ones, also where the best end */
        case EQUAL:           x = 1.25; break;
        case HALF_IMPOSSIBLE: x = i % 2 ? -INFINITY : 4 * x; break;
        case WIDE:            x *= 500; break;
        case FAR_FROM_ZERO:   x = 4 * x - 5000; break;                /* where f32 has little left for fractions */
        case KINDS:           break;
        }
        c[i] = (ey_candidate){ (int32_t)i, (float)x };
    }
    shuffle(c, vocab);
}

/* A log-sum-exp as wrong as a device may have it. */
static float lse_of(const ey_candidate *c, uint32_t vocab)
{
    double top = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < vocab; i++) top = fmax(top, (double)c[i].logit);
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)c[i].logit - top);
    return (float)(top + log(sum) + (2 * unit() - 1) * EY_LSE_ERROR);
}

/* The row's n best, in no order. `all` must be sorted. */
static ey_row_logits best_of(const ey_candidate *all, uint32_t vocab, uint32_t n, float lse, ey_candidate *best)
{
    memcpy(best, all, n * sizeof *best);
    shuffle(best, n);
    return (ey_row_logits){ best, n, lse, vocab };
}

#define MAX_VOCAB 5000u

static void candidates_choose_as_the_whole_row_does(void **state)
{
    static ey_candidate all[MAX_VOCAB], best[MAX_VOCAB];
    static const float temperatures[] = { 1.0f, 1.0f, 0.1f, 0.7f, 1.3f, 3.0f, 0.0f, 1e-30f };
    static const uint32_t counts[] = { 1, 2, 10, EY_CANDIDATES, MAX_VOCAB };
    uint32_t settled = 0, open = 0;
    (void)state;
    noise = 1;
    for (uint32_t trial = 0; trial < 4000; trial++) {
        uint32_t vocab = 1 + below(trial % 4 ? 40 : MAX_VOCAB);
        uint32_t n = counts[below(COUNT(counts))];
        if (n > vocab) n = vocab;
        float temperature = temperatures[below(COUNT(temperatures))];
        ey_sampling s = { .temperature = trial % 3 ? temperature : (float)(0.1 + 2.9 * unit()), .sample = trial,
                          .seed = next_noise() };
        fill_row(all, vocab, (kind)(trial % KINDS));
        float lse = lse_of(all, vocab);
        ey_candidates_sort(all, vocab);
        for (uint32_t i = 0; i < 8; i++) {
            uint64_t position = next_noise() >> (i * 8);
            ey_row_logits row = best_of(all, vocab, n, lse, best);
            int32_t token = -1;
            if (!ey_sample(&s, position, &row, &token)) {
                if (n == vocab || s.temperature == 0) fail_msg("trial %u was left open", (unsigned)trial);
                open++;
                continue;
            }
            settled++;
            int32_t want = ey_sample_all(&s, position, all, vocab);
            if (token != want) {
                fail_msg("trial %u: token %d, not %d (%u of %u, temperature %g)", (unsigned)trial, (int)token,
                         (int)want, (unsigned)n, (unsigned)vocab, (double)s.temperature);
            }
        }
    }
    /* Neither answer is rare here, or half of the test would be idle. */
    assert_in_range(settled, 10000, 32000);
    assert_in_range(open, 3000, 32000);
}

/* Filters and penalties at random, each off in half of the cases. */
static ey_sampling any_sampling(const ey_seen *seen)
{
    static const float temperatures[] = { 0.0f, 0.3f, 0.8f, 1.0f, 1.0f, 1.7f };
    bool raise = below(8) == 0;     /* penalties that are rewards */
    return (ey_sampling){
        .temperature = temperatures[below(COUNT(temperatures))], .sample = below(3), .seed = next_noise(),
        .top_k = below(2) ? 0 : 1 + below(below(4) ? 20 : 400),
        .top_p = below(2) ? 0 : (float)unit(), .min_p = below(2) ? 0 : (float)pow(unit(), 4),
        .repetition = below(2) ? 0 : (float)(raise ? 0.5 + unit() : 1 + unit()),
        .presence = below(2) ? 0 : (float)(unit() - raise), .frequency = below(2) ? 0 : (float)(unit() - raise),
        .seen = seen };
}

static bool lowers_only(const ey_sampling *s)
{
    return (s->repetition == 0 || s->repetition >= 1) && s->presence >= 0 && s->frequency >= 0;
}

static bool penalizes_nothing(const ey_sampling *s)
{
    return (s->repetition == 0 || s->repetition == 1) && s->presence == 0 && s->frequency == 0;
}

static void filters_and_penalties_choose_as_the_whole_row_does(void **state)
{
    static ey_candidate sorted[MAX_VOCAB], all[MAX_VOCAB], best[MAX_VOCAB];
    uint32_t settled = 0, open = 0;
    (void)state;
    noise = 5;
    for (uint32_t trial = 0; trial < 20000; trial++) {
        uint32_t vocab = 1 + below(trial % 20 ? 60 : MAX_VOCAB), seen_candidates = 0;
        uint32_t n = below(3) ? 1 + below(30) : EY_CANDIDATES;
        if (n > vocab) n = vocab;
        ey_seen seen = { 0 };
        for (uint32_t i = below(2) * below(40); i > 0; i--) ey_seen_add(&seen, (int32_t)below(vocab), below(2));
        ey_sampling s = any_sampling(&seen);
        fill_row(sorted, vocab, (kind)(trial % KINDS));
        float lse = lse_of(sorted, vocab);
        ey_candidates_sort(sorted, vocab);
        for (uint32_t i = 0; i < n; i++) seen_candidates += ey_seen_find(&seen, sorted[i].id) != NULL;
        for (uint32_t i = 0; i < 4; i++) {
            uint64_t position = next_noise() >> (i * 16);
            ey_row_logits row = best_of(sorted, vocab, n, lse, best);
            int32_t token = -1;
            if (!ey_sample(&s, position, &row, &token)) {
                uint32_t lost = penalizes_nothing(&s) ? 0 : seen_candidates;
                uint32_t k = s.temperature == 0 ? 1 : s.top_k ? s.top_k : vocab;
                if (lowers_only(&s) && k + lost <= n) fail_msg("trial %u was left open", (unsigned)trial);
                open++;
                continue;
            }
            settled++;
            memcpy(all, sorted, vocab * sizeof *all);
            shuffle(all, vocab);
            int32_t want = ey_sample_all(&s, position, all, vocab);
            if (token != want)
                fail_msg("trial %u: token %d, not %d (%u of %u)", (unsigned)trial, (int)token, (int)want, (unsigned)n,
                         (unsigned)vocab);
        }
        ey_seen_free(&seen);
    }
    assert_in_range(settled, 30000, 80000);
    assert_in_range(open, 10000, 80000);
}

/* Rows of three tokens, two of them candidates, made so that the first alone is just about top-p, or just about not. */
static void draws_beside_the_end_of_a_nucleus(void **state)
{
    uint32_t settled = 0, open = 0;
    (void)state;
    noise = 6;
    for (uint32_t trial = 0; trial < 50000; trial++) {
        ey_sampling s = { .temperature = 1.0f, .seed = 23, .top_p = (float)(0.4 + 0.5 * unit()) };
        double beside = (trial % 2 ? -1 : 1) * pow(10, -8 + 5 * unit());
        double sum = 1 / ((double)s.top_p * (1 + beside)), third = 0.01;
        ey_candidate all[] = { { 0, 0.0f }, { 1, (float)log(sum - 1 - third) }, { 2, (float)log(third) } }, best[2];
        ey_row_logits row = best_of(all, 3, 2, lse_of(all, 3), best);
        if (all[1].logit > 0) continue;     /* not the second any more */
        int32_t token = -1;
        if (!ey_sample(&s, trial, &row, &token)) {
            /* Too careful: see above. */
            if (fabs(beside) > 6 * EY_LSE_ERROR) fail_msg("trial %u: left open", (unsigned)trial);
            open++;
            continue;
        }
        settled++;
        if (token != ey_sample_all(&s, trial, all, 3)) fail_msg("trial %u: token %d", (unsigned)trial, (int)token);
    }
    assert_in_range(settled, 10000, 50000);
    assert_in_range(open, 1000, 50000);
}

/* Rows of three tokens, two of them candidates, made so that the draw falls beside the border between these two,
 * nearer than lse is known or not much farther. Then a device's lse alone would often choose wrongly. */
static void draws_beside_a_border(void **state)
{
    uint32_t settled = 0;
    (void)state;
    noise = 4;
    for (uint32_t trial = 0; trial < 100000; trial++) {
        ey_sampling s = { .temperature = 1.0f, .seed = 17 };
        double u = ey_uniform(17, 0, trial);
        if (u < 0.51 || u > 0.9) continue;   /* the first has more than half, the third next to nothing */
        double beside = (trial % 2 ? -1 : 1) * pow(10, -8 + 5 * unit());
        double sum = 1 / (u * (1 + beside)), third = 0.001;
        double base = trial % 3 ? 0 : -5000;
        ey_candidate all[] = {
            { 0, (float)base }, { 1, (float)(base + log(sum - 1 - third)) }, { 2, (float)(base + log(third)) },
        };
        ey_candidate best[2];
        ey_row_logits row = best_of(all, 3, 2, lse_of(all, 3), best);
        int32_t token = -1;
        if (!ey_sample(&s, trial, &row, &token)) {
            /* Too careful: base 0, three times as far away as lse and both its roundings can be wrong. */
            if (base == 0 && fabs(beside) > 6 * EY_LSE_ERROR) fail_msg("trial %u: left open", (unsigned)trial);
            continue;
        }
        settled++;
        if (token != ey_sample_all(&s, trial, all, 3)) fail_msg("trial %u: token %d", (unsigned)trial, (int)token);
    }
    assert_in_range(settled, 5000, 100000);
}

/* Where nearly all probability is in the candidates, nearly all draws are settled. Left open may be a draw among the
 * others, and one near a border between two candidates: there are n borders, each no wider than the sum over the row
 * is uncertain, in ratio to itself. */
static void most_draws_are_settled(void **state)
{
    static ey_candidate all[MAX_VOCAB], best[EY_CANDIDATES];
    static const float temperatures[] = { 0.5f, 1.0f };
    enum { DRAWS = 20000 };
    (void)state;
    noise = 2;
    fill_row(all, MAX_VOCAB, NATURAL);
    for (uint32_t i = 0; i < MAX_VOCAB; i++) all[i].logit *= 3;
    float lse = lse_of(all, MAX_VOCAB);
    ey_candidates_sort(all, MAX_VOCAB);
    for (size_t k = 0; k < COUNT(temperatures); k++) {
        double in = 0, out = 0, out_hot = 0;   /* probability of candidates, of the others, of the others at 1 */
        for (uint32_t i = 0; i < MAX_VOCAB; i++) {
            double x = (double)all[i].logit - (double)lse, p = exp(x / (double)temperatures[k]);
            if (i < EY_CANDIDATES) {
                in += p;
            } else {
                out += p;
                out_hot += exp(x);
            }
        }
        /* At 1 the sum is as uncertain as lse, with its rounding. Below, that of the others is anything from nothing
         * to what it is at 1 times what the last candidate loses by cooling. */
        double last = (double)all[EY_CANDIDATES - 1].logit - (double)lse;
        double width = temperatures[k] == 1.0f ? 4 * EY_LSE_ERROR
                                               : out_hot * exp(last / (double)temperatures[k] - last) / in;
        double share = out / (in + out) + EY_CANDIDATES * width;
        uint32_t open = 0;
        for (uint64_t position = 0; position < DRAWS; position++) {
            ey_sampling s = { .temperature = temperatures[k], .seed = 7 };
            ey_row_logits row = best_of(all, MAX_VOCAB, EY_CANDIDATES, lse, best);
            int32_t token;
            if (!ey_sample(&s, position, &row, &token)) open++;
        }
        assert_true(share < 0.1);   /* or the row would not be one of which this says anything */
        /* Five deviations of a binomial count. */
        if (open > DRAWS * share + 5 * sqrt(DRAWS * share)) {
            fail_msg("temperature %g: %u open, share %g", (double)temperatures[k], (unsigned)open, share);
        }
    }
}

/* --------------------------------------------------------------------------------------------------- distribution */

static void tokens_are_as_frequent_as_probable(void **state)
{
    enum { VOCAB = 50, DRAWS = 200000 };
    static const float temperatures[] = { 0.5f, 1.0f, 2.5f };
    (void)state;
    noise = 3;
    for (size_t k = 0; k < COUNT(temperatures); k++) {
        ey_candidate all[VOCAB];
        double p[VOCAB], sum = 0, chi = 0;
        uint32_t count[VOCAB] = { 0 };
        for (int32_t i = 0; i < VOCAB; i++) {
            all[i] = (ey_candidate){ i, (float)bell() };
            sum += p[i] = pow(2.718281828459045, (double)all[i].logit / (double)temperatures[k]);
        }
        for (uint64_t position = 0; position < DRAWS; position++) {
            ey_sampling s = { .temperature = temperatures[k], .sample = 5, .seed = 99 };
            count[ey_sample_all(&s, position, all, VOCAB)]++;
        }
        for (int32_t i = 0; i < VOCAB; i++) {
            double expected = DRAWS * p[i] / sum;
            assert_true(expected > 5);   /* or the statistic would not follow its distribution */
            chi += (count[i] - expected) * (count[i] - expected) / expected;
        }
        /* 49 degrees of freedom: a right sampler is above 111.5 for one seed in a million (Wilson and Hilferty's
         * approximation at z = 4.753), and below 15.1 for as few: too even would be wrong as well. */
        if (!(chi > 15.1 && chi < 111.5)) fail_msg("temperature %g: chi squared %.1f", (double)temperatures[k], chi);
    }
}

/* The logits of one row by id, and how often each token occurred and was generated. */
enum { ROW = 60, ROW_CANDIDATES = 25 };

typedef struct situation {
    float    logits[ROW];
    bool     occurred[ROW];
    uint32_t generated[ROW];
} situation;

/* The probabilities [ROW] that sampler.h promises, worked out step by step as it states them. */
static void work_out(const situation *x, const ey_sampling *s, double *p)
{
    double logit[ROW], sum = 0;
    int order[ROW];

    for (int i = 0; i < ROW; i++) {
        logit[i] = (double)x->logits[i];
        if (x->occurred[i] && s->repetition > 0)
            logit[i] = logit[i] > 0 ? logit[i] / (double)s->repetition : logit[i] * (double)s->repetition;
        if (x->generated[i] > 0) logit[i] -= (double)s->presence + (double)s->frequency * x->generated[i];
        p[i] = exp(logit[i] / (double)s->temperature);
        int at = i;
        for (; at > 0 && logit[order[at - 1]] < logit[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    if (s->top_k)
        for (int r = (int)s->top_k; r < ROW; r++) p[order[r]] = 0;
    for (int i = 0; i < ROW; i++) sum += p[i];
    if (s->top_p > 0) {
        double before = 0;
        for (int r = 0; r < ROW; r++) {
            double own = p[order[r]] / sum;
            if (before >= (double)s->top_p) p[order[r]] = 0;
            before += own;
        }
    }
    for (int r = ROW - 1; r >= 0; r--)
        if (p[order[r]] < (double)s->min_p * p[order[0]]) p[order[r]] = 0;
    sum = 0;
    for (int i = 0; i < ROW; i++) sum += p[i];
    for (int i = 0; i < ROW; i++) p[i] /= sum;
}

/* As an engine does it: from the best few where they settle it, else from the whole row. */
static int32_t sample(const ey_sampling *s, uint64_t position, const ey_candidate *sorted, float lse,
                      uint32_t *read_back)
{
    ey_candidate best[ROW_CANDIDATES], all[ROW];
    ey_row_logits row = best_of(sorted, ROW, ROW_CANDIDATES, lse, best);
    int32_t token;

    if (ey_sample(s, position, &row, &token)) return token;
    ++*read_back;
    memcpy(all, sorted, sizeof all);
    return ey_sample_all(s, position, all, ROW);
}

/* Wilson and Hilferty's approximation of chi squared's quantile; z = 4.753 is one in a million. */
static double chi_squared(uint32_t freedom, double z)
{
    double v = 2 / (9.0 * freedom);
    return freedom * pow(1 - v + z * sqrt(v), 3);
}

static void filters_and_penalties_give_their_distribution(void **state)
{
    enum { DRAWS = 40000 };
    static const ey_sampling cases[] = {
        { .temperature = 1.0f },
        { .temperature = 1.0f, .top_k = 1 },
        { .temperature = 1.0f, .top_k = 7 },
        { .temperature = 2.0f, .top_k = 40 },
        { .temperature = 1.0f, .top_p = 0.6f },
        { .temperature = 0.7f, .top_p = 0.97f },
        { .temperature = 1.0f, .min_p = 0.3f },
        { .temperature = 2.5f, .min_p = 0.05f },
        { .temperature = 1.0f, .min_p = 1.0f },
        { .temperature = 1.3f, .top_k = 30, .top_p = 0.8f, .min_p = 0.15f },
        { .temperature = 1.3f, .top_k = 12, .top_p = 0.95f, .min_p = 0.01f },
        { .temperature = 1.0f, .repetition = 1.7f },
        { .temperature = 1.0f, .repetition = 0.6f },
        { .temperature = 1.0f, .presence = 1.5f },
        { .temperature = 1.0f, .presence = -1.0f },
        { .temperature = 1.0f, .frequency = 0.4f },
        { .temperature = 0.8f, .repetition = 1.2f, .presence = 0.3f, .frequency = 0.2f },
        { .temperature = 0.8f, .repetition = 1.3f, .presence = 0.3f, .frequency = 0.2f, .top_k = 20, .top_p = 0.9f,
          .min_p = 0.05f },
        { .temperature = 1.5f, .repetition = 1.3f, .top_k = 8 },
        { .temperature = 1.5f, .presence = -0.5f, .frequency = 0.1f, .top_p = 0.7f },
    };
    situation x = { 0 };
    ey_candidate sorted[ROW];
    ey_seen seen = { 0 };
    uint32_t read_back = 0;
    (void)state;
    noise = 7;
    for (int32_t i = 0; i < ROW; i++) {
        x.logits[i] = (float)(2.5 * bell());
        sorted[i] = (ey_candidate){ i, x.logits[i] };
        x.occurred[i] = below(2);
        x.generated[i] = x.occurred[i] && below(2) ? 1 + below(4) : 0;
        if (x.occurred[i]) assert_true(ey_seen_add(&seen, i, false));
        for (uint32_t k = 0; k < x.generated[i]; k++) assert_true(ey_seen_add(&seen, i, true));
    }
    float lse = lse_of(sorted, ROW);
    ey_candidates_sort(sorted, ROW);
    for (size_t k = 0; k < COUNT(cases); k++) {
        ey_sampling s = cases[k];
        double p[ROW], rare = 0, chi = 0;
        uint32_t count[ROW] = { 0 }, rare_count = 0, cells = 0;
        s.seed = k;
        s.seen = &seen;
        for (uint64_t i = 0; i < DRAWS; i++) count[sample(&s, i, sorted, lse, &read_back)]++;
        work_out(&x, &s, p);
        for (int i = 0; i < ROW; i++) {
            double expected = DRAWS * p[i];
            if (p[i] == 0 && count[i]) fail_msg("case %zu: token %d cannot be drawn", k, i);
            if (expected < 10) {            /* one cell for all of these, or the statistic would not be chi squared */
                rare += expected;
                rare_count += count[i];
                continue;
            }
            chi += pow(count[i] - expected, 2) / expected;
            cells++;
        }
        if (rare >= 10) {
            chi += pow(rare_count - rare, 2) / rare;
            cells++;
        }
        if (cells == 1) {
            assert_true(chi < 1e-6);
        } else if (!(chi < chi_squared(cells - 1, 4.753) && chi > chi_squared(cells - 1, -4.753))) {
            fail_msg("case %zu: chi squared %.1f of %u cells", k, chi, (unsigned)cells);
        }
    }
    assert_in_range(read_back, 1000, COUNT(cases) * DRAWS / 2);    /* both ways were taken */
    ey_seen_free(&seen);
}

/* Seeds, samples and positions each give draws of their own: pairs of draws fill a square of cells evenly. */
static void keys_are_independent(void **state)
{
    enum { SIDE = 8, CELLS = SIDE * SIDE, DRAWS = 64000 };
    (void)state;
    for (int k = 0; k < 3; k++) {
        uint32_t count[CELLS] = { 0 };
        double chi = 0;
        for (uint32_t i = 0; i < DRAWS; i++) {
            double x = ey_uniform(11, 0, i);
            double y = k == 0 ? ey_uniform(12, 0, i) : k == 1 ? ey_uniform(11, 1, i) : ey_uniform(11, 0, i + 1);
            assert_true(x >= 0 && x < 1 && y >= 0 && y < 1);
            count[(int)(x * SIDE) * SIDE + (int)(y * SIDE)]++;
        }
        for (int i = 0; i < CELLS; i++) chi += pow(count[i] - (double)DRAWS / CELLS, 2) / ((double)DRAWS / CELLS);
        /* 63 degrees of freedom: the same bounds as above, one in a million on either side. */
        if (!(chi > 22.9 && chi < 131.7)) fail_msg("kind %d: chi squared %.1f", k, chi);
    }
}

/* -------------------------------------------------------------------------------------------------------- corners */

static void greedy_takes_the_lowest_id_of_the_best(void **state)
{
    ey_candidate c[] = { { 8, 1.0f }, { 6, 3.0f }, { 2, 3.0f }, { 4, 3.0f } };
    ey_row_logits row = { c, COUNT(c), 0.0f, 1000 };
    ey_sampling s = { 0 };
    int32_t token = -1;
    (void)state;
    assert_true(ey_sample(&s, 0, &row, &token));
    assert_int_equal(token, 2);
    assert_int_equal(ey_sample_all(&s, 0, c, COUNT(c)), 2);
    row.n = 0;
    assert_false(ey_sample(&s, 0, &row, &token));
}

/* The values of the paragraph in sampler.h, by hand: two tokens of equal logits, one of which was seen. */
static void penalties_by_hand(void **state)
{
    static const struct {
        float logit, repetition, presence, frequency;
        bool generated;
        float rival;        /* the seen token loses against this logit and wins against the next one below */
    } cases[] = {
        { 6.0f, 1.5f, 0, 0, false, 4.0f },      /* divided */
        { -6.0f, 1.5f, 0, 0, false, -9.0f },    /* multiplied */
        { 6.0f, 1.5f, 1, 1, false, 4.0f },      /* presence and frequency are about generated tokens */
        { 6.0f, 1.5f, 1, 0.5f, true, 2.0f },    /* generated twice: 4 - 1 - 2 * 0.5 */
        { 6.0f, 0, 0.5f, 0, true, 5.5f },
        { 6.0f, 0, 0, 0.25f, true, 5.5f },
        { -6.0f, 0.5f, 0, 0, true, -3.0f },     /* a reward */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_seen seen = { 0 };
        assert_true(ey_seen_add(&seen, 1, cases[i].generated) && ey_seen_add(&seen, 1, cases[i].generated));
        ey_sampling s = { .repetition = cases[i].repetition, .presence = cases[i].presence,
                          .frequency = cases[i].frequency, .seen = &seen };
        for (int above = 0; above < 2; above++) {
            ey_candidate c[] = { { 0, cases[i].rival }, { 1, cases[i].logit } };   /* equal: the lower id wins */
            if (!above) c[0].logit = nextafterf(c[0].logit, -INFINITY);
            assert_int_equal(ey_sample_all(&s, 0, c, 2), above ? 0 : 1);
        }
        ey_seen_free(&seen);
    }
}

/* Where filters end among equals. */
static void equals(void **state)
{
    static const struct {
        ey_sampling how;
        int32_t kept;       /* tokens 0 to kept - 1 of four equal ones; a fifth weighs nothing beside them */
    } cases[] = {
        { { .temperature = 1.0f, .top_k = 3 }, 3 },
        { { .temperature = 1.0f, .top_p = 0.5f }, 2 },          /* two sum up to one half: no third */
        { { .temperature = 1.0f, .top_p = 0.51f }, 3 },
        { { .temperature = 1.0f, .min_p = 1.0f }, 4 },          /* as probable as the most probable */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool drawn[5] = { false };
        for (uint64_t position = 0; position < 200; position++) {
            ey_candidate c[] = { { 3, 0.0f }, { 1, 0.0f }, { 4, -60.0f }, { 0, 0.0f }, { 2, 0.0f } };
            drawn[ey_sample_all(&cases[i].how, position, c, COUNT(c))] = true;
        }
        for (int32_t id = 0; id < 4; id++)
            if (drawn[id] != (id < cases[i].kept)) fail_msg("case %zu: token %d", i, (int)id);
        assert_false(drawn[4]);
    }
    /* A penalty makes 5 equal to 3 and to 4, which is no candidate and comes before 5. */
    ey_seen seen = { 0 };
    assert_true(ey_seen_add(&seen, 5, true));
    for (uint64_t position = 0; position < 200; position++) {
        ey_candidate best[] = { { 5, 2.0f }, { 3, 1.0f } }, all[] = { { 5, 2.0f }, { 3, 1.0f }, { 4, 1.0f } };
        ey_sampling s = { .temperature = 1.0f, .top_k = 2, .presence = 1.0f, .seen = &seen };
        ey_row_logits row = { best, 2, 2.5514447f, 3 };         /* log(exp(2) + 2 exp(1)) */
        int32_t token, want = ey_sample_all(&s, position, all, 3);
        assert_in_range(want, 3, 4);
        if (ey_sample(&s, position, &row, &token)) assert_int_equal(token, want);
    }
    ey_seen_free(&seen);
}

/* What is common costs no reading back: greedy or top-k with penalties on a text of a thousand tokens. */
static void common_settings_need_no_reading_back(void **state)
{
    static ey_candidate all[MAX_VOCAB], best[EY_CANDIDATES];
    static const ey_sampling cases[] = {
        { .repetition = 1.1f },
        { .presence = 0.5f, .frequency = 0.2f },
        { .temperature = 0.8f, .top_k = 40 },
        { .temperature = 1.0f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f },
        { .temperature = 0.8f, .top_k = 40, .repetition = 1.1f },
        { .temperature = 0.8f, .top_k = 40, .presence = 0.5f, .frequency = 0.2f },
        { .temperature = 1.0f, .min_p = 0.05f },
        { .temperature = 1.0f, .min_p = 0.05f, .repetition = 1.1f },
    };
    (void)state;
    noise = 8;
    for (uint32_t trial = 0; trial < 20; trial++) {
        ey_seen seen = { 0 };
        fill_row(all, MAX_VOCAB, NATURAL);
        for (uint32_t i = 0; i < MAX_VOCAB; i++) all[i].logit *= 2;
        float lse = lse_of(all, MAX_VOCAB);
        ey_candidates_sort(all, MAX_VOCAB);
        /* Words that were used are the ones that fit: half of them are candidates. */
        for (uint32_t i = 0; i < 1000; i++)
            assert_true(ey_seen_add(&seen, all[below(i % 2 ? EY_CANDIDATES : MAX_VOCAB)].id, i % 4 > 1));
        for (size_t k = 0; k < COUNT(cases); k++) {
            ey_sampling s = cases[k];
            int32_t token;
            ey_row_logits row = best_of(all, MAX_VOCAB, EY_CANDIDATES, lse, best);
            s.seen = &seen;
            if (!ey_sample(&s, trial, &row, &token)) fail_msg("trial %u, case %zu", (unsigned)trial, k);
        }
        ey_seen_free(&seen);
    }
}

/* As the temperature vanishes the best is certain, and equal ones share. */
static void tiny_temperatures(void **state)
{
    static const float temperatures[] = { 1e-30f, FLT_MIN, 1e-45f };
    (void)state;
    for (size_t k = 0; k < COUNT(temperatures); k++) {
        uint32_t count[3] = { 0 };
        for (uint64_t position = 0; position < 1000; position++) {
            ey_candidate c[] = { { 0, 5.0f }, { 1, 5.0f }, { 2, 4.9999995f }, { 3, 4.9999990f } };
            ey_row_logits row = { c, 3, logf(4.0f) + 5.0f, 4 };
            ey_sampling s = { .temperature = temperatures[k], .seed = 1 };
            int32_t token = -1;
            assert_true(ey_sample(&s, position, &row, &token));
            count[token]++;
            assert_int_equal(ey_sample_all(&s, position, c, COUNT(c)), token);
        }
        assert_in_range(count[0], 400, 600);   /* fair coins: 6.3 deviations of 15.8 */
        assert_int_equal(count[2], 0);
    }
}

static void minus_infinity_is_never_drawn(void **state)
{
    (void)state;
    for (uint64_t position = 0; position < 2000; position++) {
        ey_candidate c[] = { { 0, -INFINITY }, { 1, -2.0f }, { 2, -INFINITY }, { 3, -3.0f }, { 4, NAN } };
        ey_sampling s = { .temperature = 50.0f, .seed = 3 };
        int32_t token = ey_sample_all(&s, position, c, COUNT(c));
        ey_row_logits row = { c, 3, -1.6867383f, COUNT(c) };   /* log(exp(-2) + exp(-3)); c is sorted now */
        int32_t again = -1;
        assert_true(token == 1 || token == 3);
        assert_true(ey_sample(&s, position, &row, &again));
        assert_int_equal(again, token);
    }
}

/* The engine refuses such rows; here they must only do no harm. */
static void rows_that_are_not_numbers(void **state)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, 0.0f, FLT_MAX, -FLT_MAX };
    static const float temperatures[] = { 1.0f, 0.5f, 2.0f, 1e-45f, FLT_MAX, INFINITY, NAN, -1.0f };
    const uint32_t base = COUNT(odd);
    ey_seen seen = { 0 };
    (void)state;
    assert_true(ey_seen_add(&seen, 10, true) && ey_seen_add(&seen, 11, false));
    for (uint32_t i = 0; i < base * base * base * base * COUNT(temperatures); i++) {
        ey_candidate c[] = {
            { 10, odd[i % base] }, { 11, odd[i / base % base] }, { 12, odd[i / base / base % base] },
        };
        ey_sampling s = { .temperature = temperatures[i / base / base / base / base], .seed = 4, .seen = &seen };
        if (i % 2) s.top_p = s.min_p = 0.5f;
        if (i % 3 == 0) s.repetition = i % 5 ? 3 : FLT_MIN;
        if (i % 3 == 1) s.presence = s.frequency = i % 5 ? FLT_MAX : -FLT_MAX;
        ey_row_logits row = { c, 2, odd[i / base / base / base % base], 3 };
        int32_t token = 10;
        ey_sample(&s, i, &row, &token);
        assert_in_range(token, 10, 12);
        assert_in_range(ey_sample_all(&s, i, c, 3), 10, 12);
    }
    ey_seen_free(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(uniform_places_its_words),
        cmocka_unit_test(order_is_logit_then_id),
        cmocka_unit_test(candidates_choose_as_the_whole_row_does),
        cmocka_unit_test(filters_and_penalties_choose_as_the_whole_row_does),
        cmocka_unit_test(draws_beside_the_end_of_a_nucleus),
        cmocka_unit_test(draws_beside_a_border),
        cmocka_unit_test(most_draws_are_settled),
        cmocka_unit_test(tokens_are_as_frequent_as_probable),
        cmocka_unit_test(filters_and_penalties_give_their_distribution),
        cmocka_unit_test(keys_are_independent),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_the_best),
        cmocka_unit_test(penalties_by_hand),
        cmocka_unit_test(equals),
        cmocka_unit_test(common_settings_need_no_reading_back),
        cmocka_unit_test(tiny_temperatures),
        cmocka_unit_test(minus_infinity_is_never_drawn),
        cmocka_unit_test(rows_that_are_not_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
