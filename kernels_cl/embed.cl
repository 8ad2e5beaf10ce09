/* embed.cl - x[t] = scale * table[ids[t]], the table in panels like every matrix (it is the head's as well).
 * Instances: one a weight FORMAT.
 *
 * x : [tokens, stride] f32     w : one shard of the table, rows [row0, row0 + rows), K columns
 * One work-group a token; tokens whose row is in another shard are that shard's. A vector of 16 rows lies in the same
 * cache line as the one element that is wanted, so loading it costs no more. */
kernel void INSTANCE(embed)(image b, global const WEIGHT *w, int row0, int rows, int K, float scale, global float *x,
                            int stride)
{
    int t = get_global_id(0);
    if (t >= b[B_N_TOKENS]) return;

    int row = b[b[B_TOKENS] + t] - row0;
    if (row < 0 || row >= rows) return;

    global const WEIGHT *panel = w + (size_t)(row / LANES) * (K / 2) * PAIR_SIZE;
    global float *out = x + (size_t)t * stride;
    int lane = row % LANES;
    for (int i = 0; i < K / 2; i++) {
        float16 w0, w1;
        float lanes[LANES];
        WEIGHT_PAIR(panel, i, w0, w1);
        vstore16(w0, 0, lanes);
        out[2 * i] = scale * lanes[lane];
        vstore16(w1, 0, lanes);
        out[2 * i + 1] = scale * lanes[lane];
    }
}
