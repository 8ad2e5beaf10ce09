/* recurrence_amx.cl - what a recurrent layer does between its two products in prefill, on the matrix unit and in one pass over
 * memory: convolution, gates, recurrence, gate branch, with the bits of conv1d.cl, matmul_amx.cl and rglru.cl. Instances: one a
 * weight FORMAT, as of matmul_amx.cl.
 *
 * u, y : [tokens, stride] f32     w, bias : the gates, one shard, blocks of P rows, a multiple of 32 up to MOST_P
 * state : [slots, state_stride] f32, the convolution's last inputs, then h [N] at h_offset     the rest as there
 *
 * A work-group is a block of the gates and a row of the batch; nothing else touches their state. It takes 32 tokens at a
 * time, and what comes between stays in its caches. */
#define MOST_P   256                        /* ops/unit.c knows it */

kernel void INSTANCE(recurrence)(image b, global const float *u, int u_stride, int u_offset, int y_offset,
                                 global const float *taps_w, global const float *taps_bias, int taps, int N,
                                 global const WEIGHT *w, global const float *bias, int P, global const float *decay,
                                 global float *state, int state_stride, int h_offset, global float *out, int out_tiles,
                                 int out_stride)
{
    if ((int)get_global_id(1) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(1));
    int first = row[ROW_FIRST], n = row[ROW_COUNT], reset = row[ROW_RESET], carried = taps - 1;
    int from = get_global_id(0) * P, tiles = P / 32;
    size_t panel = PANEL_SIZE(P);
    float16 v[32][MOST_P / LANES], h[MOST_P / LANES], sums[64];
    uint packed[16 * MOST_P];
#ifdef WIDENED
    uint wide[MOST_P * MOST_P];
#endif

    u += (size_t)first * u_stride;
    state += (size_t)row[ROW_SLOT] * state_stride + from;
    taps_w += from;
    taps_bias += from;
    decay += from;
    w += from / LANES * 2 * panel;
    bias += 2 * from;
#ifdef WIDENED
    for (int p = 0; p < 2 * P / LANES; p++) INSTANCE(widen)(w + p * panel, P, 0, tiles, wide + p * tiles * 256);
#endif
    for (int c = 0; c < P / LANES; c++) h[c] = reset ? (float16)0.0f : vload16(c, state + h_offset);

    tiles_begin();
    for (int t = 0; t < n; t += 32) {
        int live = min(32, n - t);

        for (int r = 0; r < live; r++)
            for (int c = 0; c < P / LANES; c++) {
                float16 sum = vload16(c, taps_bias);
                for (int j = 0; j < taps; j++) {
                    int at = t + r - carried + j;
                    float16 in = 0.0f;
                    if (at >= 0)     in = vload16(c, u + (size_t)at * u_stride + u_offset + from);
                    else if (!reset) in = vload16(c, state + (at + carried) * N);
                    sum = fma(vload16(c, taps_w + j * N), in, sum);
                }
                v[r][c] = sum;
                vstore8(bf16_16(sum), c & 1, packed + c / 2 * 512 + r * 16);
            }
        for (int c = 0; c < P / LANES; c++) {
            TILE_LOAD(0, bias + 2 * c * LANES, 0);
            TILE_LOAD(1, bias + (2 * c + 1) * LANES, 0);
            TILE_LOAD(2, bias + 2 * c * LANES, 0);
            TILE_LOAD(3, bias + (2 * c + 1) * LANES, 0);
#ifdef WIDENED
            const uint *b0 = wide + 2 * c * tiles * 256, *b1 = b0 + tiles * 256;
#else
            global const uint *b0 = w + 2 * c * panel, *b1 = b0 + panel;
#endif
            for (int k = 0; k < tiles; k++) MULTIPLY(packed + k * 512, b0 + k * 256, b1 + k * 256);
            STORE_SUMS(sums);
            for (int r = 0; r < live; r++) {
                float16 a, x;
                int token = t + r;
                global const float *ahead = u + (size_t)(token + 32) * u_stride + from + c * LANES;
                PREFETCH(ahead + u_offset);                                 /* past the end of u nothing happens */
                PREFETCH(ahead + y_offset);
                coefficients(sums[r / 16 * 32 + r % 16], sums[r / 16 * 32 + r % 16 + 16], v[r][c], vload16(c, decay),
                             reset && token == 0, &a, &x);
                h[c] = fma(a, h[c], x);
                put_row16(h[c] * gelu16(vload16(c, u + (size_t)token * u_stride + y_offset + from)), out, out_tiles, out_stride,
                          first + token, from + c * LANES, N);
            }
        }
    }
    tiles_end();

    for (int c = 0; c < P / LANES; c++) {
        vstore16(h[c], c, state + h_offset);
        for (int j = 0; j < carried; j++) {                                 /* ascending: reads are ahead of writes */
            int at = n - carried + j;
            float16 in = 0.0f;
            if (at >= 0)     in = vload16(c, u + (size_t)at * u_stride + u_offset + from);
            else if (!reset) in = vload16(c, state + (at + carried) * N);
            vstore16(in, c, state + j * N);
        }
    }
}
