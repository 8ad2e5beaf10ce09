/* rope.cl - rotary embedding: the first `rotary` of a head's dimensions turn in split-half pairs,
 *     x[j] = x[j] cos - x[j + rotary/2] sin      x[j + rotary/2] = x[j + rotary/2] cos + x[j] sin
 * with the cosines and sines of the token's position from the batch image (the host takes them in double).
 *
 * x : [tokens, stride] f32, `heads` heads of `d` columns (padded) from offset     In place; one work-group a token. In
 * decode attention rotates its own queries and keys. */

/* One head; out may be x. */
static inline void rotate_head(global const float *x, image angles, int rotary, global float *out)
{
    int half_turn = rotary / 2, j = 0;
    for (; j + LANES <= half_turn; j += LANES) {
        float16 c = as_float16(vload16(0, angles + j)), s = as_float16(vload16(0, angles + half_turn + j));
        float16 x0 = vload16(0, x + j), x1 = vload16(0, x + half_turn + j);
        vstore16(fma(x0, c, -(x1 * s)), 0, out + j);
        vstore16(fma(x1, c, x0 * s), 0, out + half_turn + j);
    }
    for (; j < half_turn; j++) {
        float c = as_float(angles[j]), s = as_float(angles[half_turn + j]);
        float x0 = x[j], x1 = x[half_turn + j];
        out[j] = fma(x0, c, -(x1 * s));
        out[half_turn + j] = fma(x1, c, x0 * s);
    }
}

kernel void rope(image b, global float *x, int stride, int offset, int heads, int d, int rotary)
{
    int t = get_global_id(0);
    if (t >= b[B_N_TOKENS]) return;

    x += (size_t)t * stride + offset;
    for (int head = 0; head < heads; head++) rotate_head(x + head * d, b + b[B_ROPE] + t * rotary, rotary, x + head * d);
}
