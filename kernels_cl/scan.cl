/* scan.cl - blocked linear recurrence, h[t] = a[t] h[t-1] + x[t], in three launches for devices that have more cores than
 * a sequence has channels: scan_block (each block from zero), scan_carry (block ends in order), scan_fix (each block again
 * from its carry, now with results). The second pass over a and x is cheaper than storing local results and correcting
 * them: 20 bytes an element against 28.
 *
 * a, x, y, out : [tokens, stride] f32     ends : [blocks, 2, N] f32: product of a, and h from zero
 * state : [slots, state_stride] f32, h [N] at h_offset of a slot
 * Blocks are of 64 positions and start at absolute positions, so a sequence read in several chunks that are multiples of
 * 64 gives the same bits as in one. Products of a only shrink (0 <= a <= 1): underflow to 0 is harmless. */

/* Tokens [*from, *to) of the batch that block k holds. */
static inline void block_tokens(image b, image row, int k, int *from, int *to)
{
    int start = (k - row[ROW_BLOCK]) * BLOCK - row[ROW_ALIGN];              /* of the block, counted from the row's first */
    *from = row[ROW_FIRST] + max(start, 0);
    *to = row[ROW_FIRST] + min(start + BLOCK, row[ROW_COUNT]);
}

kernel void scan_block(image b, global const float *a, global const float *x, int stride, int N, global float *ends)
{
    int k = get_global_id(1), c = get_global_id(0) * LANES, from, to;
    if (k >= b[B_N_BLOCKS]) return;
    block_tokens(b, ROW(b, b[b[B_BLOCKS] + k]), k, &from, &to);

    float16 product = 1.0f, h = 0.0f;
    for (int t = from; t < to; t++) {
        float16 at = vload16(0, a + (size_t)t * stride + c);
        product *= at;
        h = fma(at, h, vload16(0, x + (size_t)t * stride + c));
    }
    vstore16(product, 0, ends + (size_t)(2 * k) * N + c);
    vstore16(h, 0, ends + (size_t)(2 * k + 1) * N + c);
}

/* Replaces the h of each block's end by the carry into it. */
kernel void scan_carry(image b, global float *ends, int N, global float *state, int state_stride, int h_offset)
{
    int c = get_global_id(0) * LANES;
    if ((int)get_global_id(1) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(1));
    int blocks = (row[ROW_ALIGN] + row[ROW_COUNT] + BLOCK - 1) / BLOCK;

    state += (size_t)row[ROW_SLOT] * state_stride + h_offset + c;
    float16 h = row[ROW_RESET] ? (float16)0.0f : vload16(0, state);
    for (int k = row[ROW_BLOCK]; k < row[ROW_BLOCK] + blocks; k++) {
        global float *end = ends + (size_t)(2 * k) * N + c;
        float16 next = fma(vload16(0, end), h, vload16(0, end + N));
        vstore16(h, 0, end + N);
        h = next;
    }
    vstore16(h, 0, state);
}

/* gate = 1: out = h gelu(y), else out = h. out may be a or x. */
kernel void scan_fix(image b, global const float *a, global const float *x, int stride, int N, global const float *ends,
                     int gate, global const float *y, int y_stride, int y_offset, global float *out, int out_stride)
{
    int k = get_global_id(1), c = get_global_id(0) * LANES, from, to;
    if (k >= b[B_N_BLOCKS]) return;
    block_tokens(b, ROW(b, b[b[B_BLOCKS] + k]), k, &from, &to);

    float16 h = vload16(0, ends + (size_t)(2 * k + 1) * N + c);
    for (int t = from; t < to; t++) {
        h = fma(vload16(0, a + (size_t)t * stride + c), h, vload16(0, x + (size_t)t * stride + c));
        float16 result = gate ? h * gelu16(vload16(0, y + (size_t)t * y_stride + y_offset + c)) : h;
        vstore16(result, 0, out + (size_t)t * out_stride + c);
    }
}
