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

    global const WEIGHT *panel = w + row / LANES * PANEL_SIZE(K);
    global float *out = x + (size_t)t * stride;
    int lane = row % LANES;
    for (int k = 0; k < K; k += GROUP) {
        global const WEIGHT *at = WEIGHTS_AT(panel, k);
        SCALES scales;
        SCALES_LOAD(panel, k, scales);
        for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
            WORDS words;
            WORDS_LOAD(at, j, words);
#pragma unroll
            for (int c = 0; c < STEP; c++) {
                float lanes[LANES];
                vstore16(COLUMN(words, scales, c), 0, lanes);
                out[k + j + c] = scale * lanes[lane];
            }
        }
    }
}
