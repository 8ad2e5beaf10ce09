/* rglru.cl - the real-gated linear recurrent unit (Griffin, De, Smith et al., 2024, section 2.4) with the gate branch:
 *     r = sigmoid(za)   i = sigmoid(zi)   log_a = -8 r softplus(p)   a = exp(log_a)
 *     h = a h + sqrt(1 - a^2) i v         out = h gelu(y)
 * At position 0 of a sequence a = 0 and sqrt(1 - a^2) counts as 1. With q = expm1(log_a), 1 - a^2 is -q (2 + q), which keeps
 * its digits where a is close to 1.
 *
 * z, v, y, out : [tokens, stride] f32; z has 16 columns of za, then the same 16 of zi, and so on     decay : [N] = 8 softplus(p)
 * state : [slots, state_stride] f32, h [N] at h_offset of a slot; always f32
 *
 * rglru         one pass over time: a work-group is a row of the batch and 64 channels, h stays in registers; out in the
 *               layout that the product wants (prelude.cl).
 * rglru_coeffs  for the blocked scan: only a and x = sqrt(1 - a^2) i v, element by element. */

/* Channels [c, c + 16) of one token to the coefficients of its recurrence. */
static inline void coefficients(float16 za, float16 zi, float16 v, float16 decay, int first, float16 *a, float16 *x)
{
    float16 q, e = exp_expm1(-decay * sigmoid16(za), &q);
    float16 gated = sigmoid16(zi) * v;
    *a = first ? (float16)0.0f : e;
    *x = first ? gated : sqrt(-q * (2.0f + q)) * gated;
}

/* One token's 16 channels in decode, where the product that makes the gates takes this on; h begins with them. */
static inline float16 rglru_step(image row, float16 za, float16 zi, float16 v, float16 decay, global float *state)
{
    int first = row[ROW_RESET];
    float16 h = first ? (float16)0.0f : vload16(0, state), a, x;
    coefficients(za, zi, v, decay, first, &a, &x);
    h = fma(a, h, x);
    vstore16(h, 0, state);
    return h;
}

kernel void rglru(image b, global const float *z, int z_stride, global const float *v, int v_stride, global const float *y,
                  int y_stride, int y_offset, global const float *decay, int N, global float *state, int state_stride,
                  int h_offset, global float *out, int tiles, int out_stride)
{
    if ((int)get_global_id(1) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(1));
    int first = row[ROW_FIRST], n = row[ROW_COUNT], reset = row[ROW_RESET];
    int channel[4];
    float16 h[4];

    state += (size_t)row[ROW_SLOT] * state_stride + h_offset;
    for (int k = 0; k < 4; k++) {
        channel[k] = min((int)get_global_id(0) * 64 + k * LANES, N - LANES);
        h[k] = reset ? (float16)0.0f : vload16(0, state + channel[k]);
    }
    for (int t = 0; t < n; t++) {
        size_t token = first + t;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int c = channel[k];
            float16 a, x;
            coefficients(vload16(0, z + token * z_stride + 2 * c), vload16(1, z + token * z_stride + 2 * c),
                         vload16(0, v + token * v_stride + c), vload16(0, decay + c), reset && t == 0, &a, &x);
            h[k] = fma(a, h[k], x);
            put_row16(h[k] * gelu16(vload16(0, y + token * y_stride + y_offset + c)), out, tiles, out_stride, token, c, N);
        }
    }
    for (int k = 0; k < 4; k++) vstore16(h[k], 0, state + channel[k]);
}

kernel void rglru_coeffs(image b, global const float *z, int z_stride, global const float *v, int v_stride,
                         global const float *decay, int N, global float *a,
                         global float *x, int stride)
{
    int t = get_global_id(0);
    if (t >= b[B_N_TOKENS]) return;
    image row = ROW(b, b[b[B_TOKEN_ROW] + t]);
    int first = row[ROW_RESET] && t == row[ROW_FIRST];

    z += (size_t)t * z_stride;
    for (int c = 0; c < N; c += LANES) {
        float16 va, vx;
        coefficients(vload16(0, z + 2 * c), vload16(1, z + 2 * c),
                     vload16(0, v + (size_t)t * v_stride + c), vload16(0, decay + c), first, &va, &vx);
        vstore16(va, 0, a + (size_t)t * stride + c);
        vstore16(vx, 0, x + (size_t)t * stride + c);
    }
}
