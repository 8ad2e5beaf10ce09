/* numbers.h - arrays of numbers for tests: made up, rounded as a weight format rounds them, compared. To be included
 * after testing.h. */
#ifndef EY_NUMBERS_H
#define EY_NUMBERS_H

#include <math.h>

#include "quant.h"

/* The relative error of one rounding to f32; tolerances are counted in these. Where OpenCL 1.2 (7.4) grants more, a
 * division counts 5, sqrt, exp, expm1 and log 6 each, tanh 10. */
#define ROUNDING 0x1p-24

static const eyrie_format weight_formats[] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, EYRIE_FORMAT_BF16, EYRIE_FORMAT_Q8,
                                              EYRIE_FORMAT_Q4 };

/* Everything made here is freed by free_numbers, so that tests need not do it one by one. */
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

/* Numbers in [-most, most), different for each seed. */
static inline float *noise(size_t n, uint32_t seed, float most)
{
    float   *x = zeros(n);
    uint32_t state = seed * 2654435761u + 12345u;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = most * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return x;
}

/* Whole numbers in [-most, most], none of them -0. */
static inline float *integers(size_t n, uint32_t seed, float most)
{
    float *x = noise(n, seed, most + 0.5f);
    for (size_t i = 0; i < n; i++) x[i] = nearbyintf(x[i]) + 0.0f;
    return x;
}

static inline float *absolute(const float *x, size_t n)
{
    float *y = zeros(n);
    for (size_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

/* The pattern of memory that nothing has written: a NaN in f32, and two in f16. */
#define UNTOUCHED 0x7fc17fc1u

static inline float *untouched(size_t n)
{
    const uint32_t pattern = UNTOUCHED;
    float         *x = zeros(n);

    for (size_t i = 0; i < n; i++) memcpy(&x[i], &pattern, sizeof pattern);
    return x;
}

/* x [rows, groups * size] as a matrix of that format keeps it, each group of columns padded to 16 as on the device. */
static inline float *rounded(eyrie_format format, const float *x, size_t rows, uint32_t groups, uint32_t size)
{
    const ey_quant *q = ey_quant_of(format);
    uint32_t        K = groups * ey_pad(size);
    float          *panel = zeros((size_t)EY_LANES * K), *padded = zeros((size_t)EY_LANES * K);
    float          *out = zeros(rows * groups * size);

    for (size_t first = 0; first < rows; first += EY_LANES)
        for (int back = 0; back < 2; back++) {
            for (size_t i = 0; i < EY_LANES * groups && first * groups + i < rows * groups; i++) {
                size_t at = (first * groups + i) * size;
                if (back) memcpy(out + at, padded + i * ey_pad(size), size * sizeof *x);
                else memcpy(padded + i * ey_pad(size), x + at, size * sizeof *x);
            }
            if (back) break;
            q->pack(padded, K, panel);
            q->unpack(panel, K, padded);
        }
    return out;
}

/* Each |got - want| is at most that many roundings of its magnitude, or what a denormal is: devices may make it 0. */
static inline void check_near(const char *what, const float *got, const float *want, size_t n, double roundings,
                              const float *magnitude)
{
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i]), allowed = roundings * ROUNDING * fabs(magnitude[i]) + 0x1p-126;
        if (!(off <= allowed))
            fail_msg("%s: [%zu] is %.9g, not %.9g: off by %.3g, allowed %.3g", what, i, got[i], want[i], off,
                     allowed);
    }
}

/* The same 32 bits, n times. */
static inline void check_same(const char *what, const void *got, const void *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x, y;
        memcpy(&x, (const char *)got + 4 * i, 4);
        memcpy(&y, (const char *)want + 4 * i, 4);
        if (memcmp(&x, &y, 4)) fail_msg("%s: [%zu] is %.9g (%a), not %.9g (%a)", what, i, x, x, y, y);
    }
}

#endif
