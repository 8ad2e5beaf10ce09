/* norm.cl - y = x / sqrt(mean(x^2) + eps) * scale, scale = 1 + w (added once, at load).
 *
 * x, y : [rows, stride] f32     scale : [D]     D: padded columns, zeros; mean over `width` of them
 * wanted = 0: every token. wanted = 1: row r of y is the r-th token whose logits are wanted, the rest is not computed.
 * One work-group a row. */
kernel void norm(image b, global const float *x, int x_stride, global const float *scale, int width, int D, float eps,
                 int wanted, global float *y, int y_stride)
{
    int r = get_global_id(0);
    if (r >= b[wanted ? B_N_WANTED : B_N_TOKENS]) return;

    global const float *in = x + (size_t)(wanted ? b[b[B_WANTED] + r] : r) * x_stride;
    global float *out = y + (size_t)r * y_stride;
    float16 squares = 0.0f;
    for (int i = 0; i < D / LANES; i++) {
        float16 v = vload16(i, in);
        squares = fma(v, v, squares);
    }
    float inverse = 1.0f / sqrt(sum16(squares) / (float)width + eps);
    for (int i = 0; i < D / LANES; i++) vstore16(vload16(i, in) * inverse * vload16(i, scale), i, out);
}
