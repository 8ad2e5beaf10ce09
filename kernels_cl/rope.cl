/* rope.cl - rotary embedding in place: the first `rotary` of each head's dimensions turn in split-half pairs,
 *     x[j] = x[j] cos - x[j + rotary/2] sin      x[j + rotary/2] = x[j + rotary/2] cos + x[j] sin
 * with the cosines and sines of the token's position from the batch image (the host takes them in double).
 *
 * x : [tokens, stride] f32, `heads` heads of `d` columns (padded) from offset     One work-group a token. */
kernel void rope(image b, global float *x, int stride, int offset, int heads, int d, int rotary)
{
    int t = get_global_id(0), half_turn = rotary / 2;
    if (t >= b[B_N_TOKENS]) return;

    image angles = b + b[B_ROPE] + t * rotary;
    for (int head = 0; head < heads; head++) {
        global float *at = x + (size_t)t * stride + offset + head * d;
        for (int j = 0; j < half_turn; j++) {
            float c = as_float(angles[j]), s = as_float(angles[half_turn + j]);
            float x0 = at[j], x1 = at[half_turn + j];
            at[j] = fma(x0, c, -(x1 * s));
            at[half_turn + j] = fma(x1, c, x0 * s);
        }
    }
}
