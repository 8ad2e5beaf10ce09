/* ref_elementwise.c - the ops that treat each token, or each number, by itself. */
#include "ref.h"
#include "ref_scalar.h"

float ref_gelu(float u) { return (float)gelu(u); }
float ref_sigmoid(float u) { return (float)sigmoid(u); }
float ref_softplus(float u) { return (float)softplus(u); }

void ref_embed(size_t T, size_t D, const int32_t *ids, const float *table, float scale, float *out)
{
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < D; i++) out[t * D + i] = scale * table[(size_t)ids[t] * D + i];
}

void ref_norm(size_t T, size_t D, const float *x, const float *w, float eps, float *y)
{
    for (size_t t = 0; t < T; t++) {
        double sum = 0.0;
        for (size_t i = 0; i < D; i++) sum += (double)x[t * D + i] * x[t * D + i];
        const double root = sqrt(sum / (double)D + eps);
        for (size_t i = 0; i < D; i++) y[t * D + i] = (float)(x[t * D + i] / root * (1.0 + w[i]));
    }
}

void ref_geglu(size_t T, size_t M, const float *gate, const float *up, float *out)
{
    for (size_t i = 0; i < T * M; i++) out[i] = (float)(gelu(gate[i]) * up[i]);
}
