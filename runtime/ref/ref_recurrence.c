/* ref_recurrence.c - the ops that carry something from token to token: convolution, linear recurrence, RG-LRU. Within
 * a call the recurrence is kept in double; the state that leaves it is rounded to f32 once. */
#include "ref.h"
#include "ref_scalar.h"

void ref_conv1d(size_t T, size_t N, size_t C, const float *u, const float *w, const float *bias, float *carry,
                float *v)
{
    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n++) {
            double sum = bias[n];
            for (size_t j = 0; j < C; j++) {
                const size_t row = t + j;   /* of carry and u put together; row C-1 is u[0] */
                const float input = row < C - 1 ? carry[row * N + n] : u[(row - (C - 1)) * N + n];
                sum += (double)w[n * C + j] * input;
            }
            v[t * N + n] = (float)sum;
        }
    for (size_t i = 0; i + 1 < C; i++) {    /* the last C-1 rows; with few tokens some of them are the carry's own */
        const size_t row = T + i;
        for (size_t n = 0; n < N; n++)
            carry[i * N + n] = row < C - 1 ? carry[row * N + n] : u[(row - (C - 1)) * N + n];
    }
}

void ref_scan(size_t T, size_t N, const float *a, const float *x, float *h, float *out)
{
    for (size_t n = 0; n < N; n++) {
        double state = h[n];
        for (size_t t = 0; t < T; t++) {
            state = a[t * N + n] * state + x[t * N + n];
            out[t * N + n] = (float)state;
        }
        h[n] = (float)state;
    }
}

void ref_rglru(size_t T, size_t N, bool first, const float *za, const float *zi, const float *v, const float *y,
               const float *p, float *h, float *out)
{
    for (size_t n = 0; n < N; n++) {
        double state = h[n];
        for (size_t t = 0; t < T; t++) {
            const size_t i = t * N + n;
            const double input = sigmoid(zi[i]) * v[i];
            const double log_a = -8.0 * sigmoid(za[i]) * softplus(p[n]);
            if (first && t == 0)
                state = input;              /* not 0 * state: what a slot held before may be NaN */
            else
                state = exp(log_a) * state + sqrt(-expm1(2.0 * log_a)) * input;
            out[i] = (float)(y ? state * gelu(y[i]) : state);
        }
        h[n] = (float)state;
    }
}
