/* statistics.c - see statistics.h. */
#include "statistics.h"
#include "io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean and the square of the deviation. */
static void moments(const double *values, size_t n, double *mean, double *variance)
{
    *mean = *variance = 0;
    for (size_t i = 0; i < n; i++) *mean += values[i] / (double)n;
    for (size_t i = 0; i < n && n > 1; i++) *variance += (values[i] - *mean) * (values[i] - *mean) / (double)(n - 1);
}

cli_summary cli_summarise(const double *values, size_t n)
{
    cli_summary s = { NAN, NAN, NAN };
    double *sorted;

    if (n == 0) return s;
    sorted = cli_resize(NULL, n, sizeof *sorted);
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    s.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    free(sorted);
    moments(values, n, &s.mean, &s.deviation);
    s.deviation = n > 1 ? sqrt(s.deviation) : NAN;
    return s;
}

/* The regularised incomplete beta function by its continued fraction (Lentz's method), for x on the side where that is quick;
 * the other side follows from symmetry. */
static double beta_fraction(double x, double a, double b)
{
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;

    f = d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
    for (int m = 1; m < 500; m++) {
        for (int odd = 0; odd < 2; odd++) {
            double k = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + k * d;
            c = 1 + k / c;
            d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
            if (fabs(c) < 1e-300) c = 1e-300;
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return f * exp(a * log(x) + b * log1p(-x) - lgamma(a) - lgamma(b) + lgamma(a + b)) / a;
}

static double beta(double x, double a, double b)
{
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    return x < (a + 1) / (a + b + 2) ? beta_fraction(x, a, b) : 1 - beta_fraction(1 - x, b, a);
}

double cli_student(double t, double degrees) { return beta(degrees / (degrees + t * t), degrees / 2, 0.5); }

static double *logarithms(const double *values, size_t n)
{
    double *logs = cli_resize(NULL, n, sizeof *logs);

    for (size_t i = 0; i < n; i++) logs[i] = log(values[i]);
    return logs;
}

double cli_welch(const double *a, size_t n_a, const double *b, size_t n_b, double *ratio)
{
    double mean_a, mean_b, u, v, *logs_a, *logs_b;

    *ratio = NAN;
    if (n_a == 0 || n_b == 0) return NAN;
    logs_a = logarithms(a, n_a);
    logs_b = logarithms(b, n_b);
    moments(logs_a, n_a, &mean_a, &u);
    moments(logs_b, n_b, &mean_b, &v);
    free(logs_a);
    free(logs_b);
    *ratio = exp(mean_b - mean_a);
    if (n_a < 2 || n_b < 2) return NAN;
    u /= (double)n_a;
    v /= (double)n_b;
    if (u + v <= 0) return mean_a < mean_b || mean_a > mean_b ? 0 : 1;
    return cli_student((mean_b - mean_a) / sqrt(u + v),
                       (u + v) * (u + v) / (u * u / (double)(n_a - 1) + v * v / (double)(n_b - 1)));
}

typedef struct place {
    double p;
    size_t i;
} place;

static int by_probability(const void *a, const void *b) { return by_value(&((const place *)a)->p, &((const place *)b)->p); }

void cli_holm(double *p, size_t n)
{
    place *places = cli_resize(NULL, n ? n : 1, sizeof *places);
    size_t counted = 0;
    double least = 0;

    for (size_t i = 0; i < n; i++)
        if (!isnan(p[i])) places[counted++] = (place){ p[i], i };
    qsort(places, counted, sizeof *places, by_probability);
    for (size_t i = 0; i < counted; i++) {
        double adjusted = fmin(1, places[i].p * (double)(counted - i));
        least = fmax(least, adjusted);
        p[places[i].i] = least;
    }
    free(places);
}
