/* unpack.cl - panels of weights as plain f32, for products by CLBlast. Instances: one a weight FORMAT.
 *
 * w : a shard, panels [first, first + panels) of it meant     to : [K, panels * 16] f32, exactly what is stored
 * One work-item takes SHARED_SCALE columns of a panel; work-groups of any size. */
kernel void INSTANCE(unpack)(image b, global const WEIGHT *w, int K, int first, int panels, global float *to)
{
    int p = get_global_id(0), from = get_global_id(1) * SHARED_SCALE;
    if (b[B_N_TOKENS] == 0 || p >= panels) return;

    global const WEIGHT *panel = w + (first + p) * PANEL_SIZE(K);
    for (int k = from; k < min(from + SHARED_SCALE, K); k += GROUP) {
        global const WEIGHT *at = WEIGHTS_AT(panel, k);
        SCALES scales;

        SCALES_LOAD(panel, k, scales);
        for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
            WORDS words;
            WORDS_LOAD(at, j, words);
#pragma unroll
            for (int c = 0; c < STEP; c++) vstore16(COLUMN(words, scales, c), (size_t)(k + j + c) * panels + p, to);
        }
    }
}
