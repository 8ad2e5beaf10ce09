/* numbers.h - arrays of numbers for tests: made up, rounded as a weight format rounds them, compared. After testing.h. */
#ifndef EY_NUMBERS_H
#define EY_NUMBERS_H

#include <math.h>

#include "quant.h"

/* The relative error of one rounding to f32; tolerances are counted in these. Where OpenCL 1.2 (7.4) grants more, a
 * division counts 5, sqrt, exp, expm1 and log 6 each, tanh 10. */
#define ROUNDING 0x1p-24

static const eyrie_format weight_formats[] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, EYRIE_FORMAT_BF16 };

/* Everything made here is freed after the test, so that tests need not. */
static struct made {
    struct made *next;
    float        x[];
} *all_made;

static inline float *zeros(size_t n)
{
    struct made *m = calloc(1, sizeof *m + n * sizeof(float));

    assert_non_null(m);
    m->next = all_made;
    all_made = m;
    return m->x;
}

static inline void free_numbers(void)
{
    while (all_made) {
        struct made *m = all_made;
        all_made = m->next;
        free(m);
    }
}

/* Numbers in [-scale, scale), different for each seed. */
static inline float *noise(size_t n, uint32_t seed, float scale)
{
    float   *x = zeros(n);
    uint32_t state = seed * 2654435761u + 12345u;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = scale * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return x;
}

/* Whole numbers in [-most, most]. */
static inline float *integers(size_t n, uint32_t seed, float most)
{
    float *x = noise(n, seed, most + 0.5f);
    for (size_t i = 0; i < n; i++) x[i] = nearbyintf(x[i]);
    return x;
}

static inline float *absolute(const float *x, size_t n)
{
    float *y = zeros(n);
    for (size_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

/* x as a matrix of that format keeps it. */
static inline float *rounded(eyrie_format format, const float *x, size_t n)
{
    const ey_quant *q = ey_quant_of(format);
    uint32_t        K = (uint32_t)ey_round_up((n + EY_LANES - 1) / EY_LANES, 2);
    float          *rows = zeros((size_t)K * EY_LANES), *panel = zeros((size_t)K * EY_LANES);

    memcpy(rows, x, n * sizeof *x);
    q->pack(rows, K, panel);
    q->unpack(panel, K, rows);
    return rows;
}

/* |got - want| <= roundings * ROUNDING * |magnitude|, element by element. */
static inline void check_near(const char *what, const float *got, const float *want, size_t n, double roundings,
                              const float *magnitude)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= roundings * ROUNDING * fabsf(magnitude[i])))
            fail_msg("%s: [%zu] is %.9g, not %.9g; off by %.3g, allowed %.3g", what, i, got[i], want[i],
                     fabs((double)got[i] - want[i]), roundings * ROUNDING * fabsf(magnitude[i]));
}

/* The same 32 bits, n times. */
static inline void check_same(const char *what, const void *got, const void *want, size_t n)
{
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + 4 * i, b + 4 * i, 4)) {
            float x, y;
            memcpy(&x, a + 4 * i, 4);
            memcpy(&y, b + 4 * i, 4);
            fail_msg("%s: [%zu] is %.9g (%a), not %.9g (%a)", what, i, x, x, y, y);
        }
}

#endif
