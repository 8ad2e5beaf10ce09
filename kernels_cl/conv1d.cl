/* conv1d.cl - causal depthwise convolution, v[t] = bias + sum_j w[j] u[t - (taps - 1) + j]; the last tap meets the
 * current token.
 *
 * u, v : [tokens, stride] f32     w : [taps, N]     bias : [N]
 * state : [slots, state_stride] f32, the first [taps - 1, N] of a slot: the inputs before the row's first token, in order
 * of time, replaced by the last ones of the row. Before position 0 they are zero, whatever the slot holds.
 * One work-group a row of the batch and 64 channels; it alone touches their state. In decode the product that makes u can
 * do it at its end: conv1d_step. */

/* One token's 16 channels; w, bias and state begin with them. */
static inline float16 conv1d_step(image row, float16 u, global const float *w, global const float *bias, int taps, int N,
                                  global float *state)
{
    float16 sum = vload16(0, bias);
    for (int j = 0; j < taps - 1; j++) {
        float16 in = row[ROW_RESET] ? (float16)0.0f : vload16(0, state + j * N);
        sum = fma(vload16(0, w + j * N), in, sum);
        if (j > 0) vstore16(in, 0, state + (j - 1) * N);
    }
    if (taps > 1) vstore16(u, 0, state + (taps - 2) * N);
    return fma(vload16(0, w + (taps - 1) * N), u, sum);
}

kernel void conv1d(image b, global const float *u, int u_stride, int u_offset, global const float *w,
                   global const float *bias, int taps, int N, global float *state, int state_stride, global float *v,
                   int v_stride)
{
    if ((int)get_global_id(1) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(1));
    int n = row[ROW_COUNT], reset = row[ROW_RESET], carried = taps - 1;

    state += (size_t)row[ROW_SLOT] * state_stride;
    u += (size_t)row[ROW_FIRST] * u_stride + u_offset;
    v += (size_t)row[ROW_FIRST] * v_stride;
    for (int c = get_global_id(0) * 64; c < min(((int)get_global_id(0) + 1) * 64, N); c += LANES) {
        for (int t = 0; t < n; t++) {
            float16 sum = vload16(0, bias + c);
            for (int j = 0; j < taps; j++) {
                int from = t - carried + j;
                float16 in = 0.0f;
                if (from >= 0)   in = vload16(0, u + (size_t)from * u_stride + c);
                else if (!reset) in = vload16(0, state + (from + carried) * N + c);
                sum = fma(vload16(0, w + j * N + c), in, sum);
            }
            vstore16(sum, 0, v + (size_t)t * v_stride + c);
        }
        for (int j = 0; j < carried; j++) {                                 /* ascending: reads are ahead of writes */
            int from = n - carried + j;
            float16 in = 0.0f;
            if (from >= 0)   in = vload16(0, u + (size_t)from * u_stride + c);
            else if (!reset) in = vload16(0, state + (from + carried) * N + c);
            vstore16(in, 0, state + j * N + c);
        }
    }
}
