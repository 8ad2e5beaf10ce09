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
    (void)state;
    for (uint32_t i = 0; i < base * base * base * base * COUNT(temperatures); i++) {
        ey_candidate c[] = {
            { 10, odd[i % base] }, { 11, odd[i / base % base] }, { 12, odd[i / base / base % base] },
        };
        ey_sampling s = { .temperature = temperatures[i / base / base / base / base], .seed = 4 };
        ey_row_logits row = { c, 2, odd[i / base / base / base % base], 3 };
        int32_t token = 10;
        ey_sample(&s, i, &row, &token);
        assert_in_range(token, 10, 12);
        assert_in_range(ey_sample_all(&s, i, c, 3), 10, 12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(uniform_places_its_words),
        cmocka_unit_test(order_is_logit_then_id),
        cmocka_unit_test(candidates_choose_as_the_whole_row_does),
        cmocka_unit_test(draws_beside_a_border),
        cmocka_unit_test(most_draws_are_settled),
        cmocka_unit_test(tokens_are_as_frequent_as_probable),
        cmocka_unit_test(keys_are_independent),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_the_best),
        cmocka_unit_test(tiny_temperatures),
        cmocka_unit_test(minus_infinity_is_never_drawn),
        cmocka_unit_test(rows_that_are_not_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
