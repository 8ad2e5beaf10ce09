/* test_tally.c - eyrie_tally: spreads of many durations beside those of the sorted list. No device. */
#include "testing.h"

#include "dice.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest value that `share` of all do not pass, and what is allowed by the header: 0.5 %. */
static void expect_quantile(const double *sorted, size_t n, double share, double found)
{
    double exact = sorted[(size_t)ceil(share * (double)n) - 1];

    if (!(fabs(found - exact) <= 0.005 * exact)) fail_msg("%g of %zu: %.9g instead of %.9g", share, n, found, exact);
}

static void spreads(void **state)
{
    static const size_t sizes[] = { 1, 2, 19, 20, 21, 1000, 5000 };
    double values[5000];

    (void)state;
    for (size_t k = 0; k < COUNT(sizes); k++) {
        eyrie_tally *t = eyrie_tally_new();
        double sum = 0;
        assert_non_null(t);
        for (size_t i = 0; i < sizes[k]; i++) {
            values[i] = exp(between(0, 2000) / 100.0 - 15);     /* from 300 ns to 150 s */
            sum += values[i];
            eyrie_tally_add(t, values[i]);
        }
        eyrie_spread s = eyrie_tally_spread(t);
        qsort(values, sizes[k], sizeof *values, by_value);
        assert_int_equal(s.n, sizes[k]);
        assert_true(s.most >= values[sizes[k] - 1] && s.most <= values[sizes[k] - 1]);
        assert_true(fabs(s.mean - sum / (double)sizes[k]) <= 1e-12 * sum);      /* the same sum */
        expect_quantile(values, sizes[k], 0.5, s.p50);
        expect_quantile(values, sizes[k], 0.95, s.p95);
        expect_quantile(values, sizes[k], 0.99, s.p99);
        eyrie_tally_free(t);
    }
}

/* Durations outside of the classes count, too; no durations have a spread of zeros. */
static void ends(void **state)
{
    eyrie_tally *t = eyrie_tally_new();
    eyrie_spread s = eyrie_tally_spread(t);

    (void)state;
    assert_true(s.n == 0 && s.mean <= 0 && s.p99 <= 0 && s.most <= 0);
    eyrie_tally_add(t, 0);
    assert_true(eyrie_tally_spread(t).p50 <= 0);
    eyrie_tally_add(t, 1e12);
    eyrie_tally_add(t, 1e12);
    s = eyrie_tally_spread(t);
    assert_int_equal(s.n, 3);
    assert_true(s.most >= 1e12 && s.most <= 1e12);
    assert_true(s.p50 > 1e8 && s.p50 <= 1e12);
    eyrie_tally_free(t);
    eyrie_tally_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(spreads), cmocka_unit_test(ends) };

    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
