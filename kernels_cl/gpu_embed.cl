/* gpu_embed.cl - embed.cl's rows of the table on GPUs: a work-item a pair of columns of a token. Arguments are embed.cl's.
 * Instances: one a weight FORMAT. */
kernel WORK_GROUP(64) void INSTANCE(gpu_embed)(image b, global const WEIGHT *w, int row0, int rows, int K, float scale,
                                               global float *x, int stride)
{
    int i = get_global_id(0), t = get_global_id(1);
    if (i >= K / 2 || t >= b[B_N_TOKENS]) return;

    int row = b[b[B_TOKENS] + t] - row0;
    if (row < 0 || row >= rows) return;

    float w0, w1;
    global const WEIGHT *panel = w + row / LANES * PANEL_SIZE(K);
    LANE_PAIR(panel, 2 * i, row % LANES, w0, w1);
    x[(size_t)t * stride + 2 * i] = scale * w0;
    x[(size_t)t * stride + 2 * i + 1] = scale * w1;
}
