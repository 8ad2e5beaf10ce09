/* norm.cl - y = x / sqrt(mean(x^2) + eps) * scale, scale = 1 + w (added once, at load).
 *
 * x, y : [rows, stride] f32     scale : [D]     D: padded columns, zeros; mean over `width` of them
 * wanted = 0: every token. wanted = 1: row r of y is the r-th token whose logits are wanted, the rest is not computed.
 * One work-group a row. Products of few rows take the formula on themselves (matmul.cl). */
static inline float inverse_rms(global const float *x, int D, int width, float eps)
{
    float16 squares[4] = { 0.0f, 0.0f, 0.0f, 0.0f };                        /* four chains, since one waits for itself */
    int i = 0;
    for (; i + 4 <= D / LANES; i += 4)
        for (int k = 0; k < 4; k++) squares[k] = fma(vload16(i + k, x), vload16(i + k, x), squares[k]);
    for (; i < D / LANES; i++) squares[0] = fma(vload16(i, x), vload16(i, x), squares[0]);
    return 1.0f / sqrt(sum16((squares[0] + squares[1]) + (squares[2] + squares[3])) / (float)width + eps);
}

kernel void norm(image b, global const float *x, int x_stride, global const float *scale, int width, int D, float eps,
                 int wanted, global float *y, int y_stride)
{
    int r = get_global_id(0);
    if (r >= b[wanted ? B_N_WANTED : B_N_TOKENS]) return;

    global const float *in = x + (size_t)(wanted ? b[b[B_WANTED] + r] : r) * x_stride;
    global float *out = y + (size_t)r * y_stride;
    float inverse = inverse_rms(in, D, width, eps);
    for (int i = 0; i < D / LANES; i++) vstore16(vload16(i, in) * inverse * vload16(i, scale), i, out);
}
