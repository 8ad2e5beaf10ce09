/* ref_attention.c - rotary embedding, and attention over keys and values that lie in order of position. */
#include "ref.h"

#include <math.h>

void ref_rope(size_t T, size_t heads, size_t d, size_t R, double theta, uint64_t position, float *x)
{
    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < R / 2; j++) {
            const double angle = (double)(position + t) * pow(theta, -2.0 * (double)j / (double)R);
            const double c = cos(angle), s = sin(angle);
            for (size_t head = 0; head < heads; head++) {
                float *pair = x + (t * heads + head) * d + j;
                const double x0 = pair[0], x1 = pair[R / 2];
                pair[0] = (float)(x0 * c - x1 * s);
                pair[R / 2] = (float)(x1 * c + x0 * s);
            }
        }
}

static double dot(size_t d, const float *a, const float *b)
{
    double sum = 0.0;
    for (size_t i = 0; i < d; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* One query of one head over keys [first, last]; row s of k and v is at s * stride. The scores are computed again for
 * each pass and each PART of the output, so that nothing need be allocated. */
#define PART 64u
static void attend(size_t d, size_t first, size_t last, size_t stride, const float *q, const float *k, const float *v,
                   float *out)
{
    const double scale = 1.0 / sqrt((double)d);
    double top = -INFINITY, total = 0.0;
    for (size_t s = first; s <= last; s++) top = fmax(top, scale * dot(d, q, k + s * stride));
    for (size_t s = first; s <= last; s++) total += exp(scale * dot(d, q, k + s * stride) - top);
    for (size_t begin = 0; begin < d; begin += PART) {
        const size_t n = d - begin < PART ? d - begin : PART;
        double sum[PART] = { 0.0 };
        for (size_t s = first; s <= last; s++) {
            const double weight = exp(scale * dot(d, q, k + s * stride) - top) / total;
            for (size_t j = 0; j < n; j++) sum[j] += weight * v[s * stride + begin + j];
        }
        for (size_t j = 0; j < n; j++) out[begin + j] = (float)sum[j];
    }
}

void ref_attention(size_t T, size_t past, size_t H, size_t K, size_t d, uint64_t W, const float *q, const float *k,
                   const float *v, float *out)
{
    for (size_t t = 0; t < T; t++) {
        const size_t last = past + t, first = W && last > W ? last - (size_t)W : 0;
        for (size_t h = 0; h < H; h++) {
            const size_t query = (t * H + h) * d, group = h / (H / K) * d;
            attend(d, first, last, K * d, q + query, k + group, v + group, out + query);
        }
    }
}
