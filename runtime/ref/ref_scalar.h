/* ref_scalar.h - the scalar functions of the reference in double, for its own files. Right for every finite argument:
 * nothing overflows on the way, and small results keep their digits. */
#ifndef EY_REF_SCALAR_H
#define EY_REF_SCALAR_H

#include <math.h>

static inline double sigmoid(double u) { return 1.0 / (1.0 + exp(-u)); }   /* exp(-u) = inf gives the right 0 */
static inline double softplus(double u) { return fmax(u, 0.0) + log1p(exp(-fabs(u))); }

/* (1 + tanh(z)) / 2 is sigmoid(2 z), which does not cancel where tanh is near -1. */
static inline double gelu(double u)
{
    const double root_2_over_pi = 0.79788456080286535588;
    return u * sigmoid(2.0 * root_2_over_pi * (u + 0.044715 * u * u * u));
}

#endif
