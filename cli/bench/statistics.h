/* statistics.h - what repeated measurements say: their middle and spread, and whether two sets of them differ. Knows nothing
 * of what was measured. */
#ifndef CLI_STATISTICS_H
#define CLI_STATISTICS_H

#include <stddef.h>

typedef struct cli_summary {
    double median, mean, deviation;     /* deviation: of the sample, n - 1. NaN: not known from so few */
} cli_summary;

cli_summary cli_summarise(const double *values, size_t n);

/* The probability of means of logarithms at least as different as these, were there no difference: Welch's test, two-sided.
 * Values are above 0. NaN where a set has fewer than two. *ratio: geometric mean of b over that of a. */
double cli_welch(const double *a, size_t n_a, const double *b, size_t n_b, double *ratio);

/* Two-sided probability of Student's t with that many degrees of freedom. */
double cli_student(double t, double degrees);

/* Makes each probability what it is when it is one of so many that were asked for (Holm); NaN stays, and does not count. */
void cli_holm(double *p, size_t n);

#endif
