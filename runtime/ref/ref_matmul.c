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

float ref_whole(size_t n, const float *x, int8_t *q)
{
    float largest = 0.0f;

    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]) || fabsf(x[i]) > largest) largest = fabsf(x[i]);        /* a NaN stays, since nothing is more */
    bool usable = largest >= 0x1p-100f && largest < INFINITY;
    for (size_t i = 0; i < n; i++) q[i] = usable ? (int8_t)nearbyintf(x[i] * (127.0f / largest)) : 0;
    return largest * 0x1.020408p-7f;
}

void ref_matmul_int8(size_t T, size_t N, size_t K, const float *x, const float *W, const float *scales, const float *bias,
                     float *y)
{
    const size_t groups = (K + 31) / 32;

    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n++) {
            float sum = 0.0f;
            for (size_t g = 0; g < groups; g++) {
                size_t count = K - 32 * g < 32 ? K - 32 * g : 32;
                const float *w = W + n * K + 32 * g, scale = scales[n * groups + g];
                int8_t q[32];
                float by = ref_whole(count, x + t * K + 32 * g, q);
                int32_t dot = 0;
                for (size_t k = 0; k < count; k++) dot += q[k] * (scale == 0.0f ? 0 : (int32_t)lrintf(w[k] / scale));
                sum = fmaf((float)dot, scale * by, sum);
            }
            y[t * N + n] = sum + (bias ? bias[n] : 0.0f);
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
