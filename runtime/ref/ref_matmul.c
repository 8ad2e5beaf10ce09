/* ref_matmul.c - products with weights: dense ones, and the block-diagonal ones of the RG-LRU's gates. */
#include "ref.h"

#include <math.h>

void ref_matmul(size_t T, size_t N, size_t K, const float *x, const float *W, const float *bias, float *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n++) {
            double sum = bias ? bias[n] : 0.0;
            for (size_t k = 0; k < K; k++) sum += (double)x[t * K + k] * W[n * K + k];
            y[t * N + n] = (float)sum;
        }
}

void ref_round_bf16(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++) {
        int exponent;
        double fraction = frexp((double)x[i], &exponent);        /* in [1/2, 1) */
        if (isfinite(x[i])) x[i] = (float)ldexp(nearbyint(256.0 * fraction), exponent - 8);
    }
}

void ref_gates(size_t T, size_t G, size_t P, const float *x, const float *W, const float *bias, float *z)
{
    for (size_t t = 0; t < T; t++)
        for (size_t b = 0; b < G; b++)
            for (size_t j = 0; j < P; j++) {
                double sum = bias[b * P + j];
                for (size_t k = 0; k < P; k++) sum += (double)x[(t * G + b) * P + k] * W[(b * P + k) * P + j];
                z[(t * G + b) * P + j] = (float)sum;
            }
}
