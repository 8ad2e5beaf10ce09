/* fill.cl - the matrices of synthetic models, straight into panels: element e of a tensor is
 *     x = mix(mix(low(e) ^ key0) ^ key1 ^ high(e)),  scale * (float)((x & 0xffff) + (x >> 16) - 65535)
 * and the product's is the only rounding before the format's own, so that every device makes the same bits, and
 * runtime/synthetic.c too. Instances: one a weight FORMAT. Not part of any plan, so without a batch image.
 *
 * w : panels of K columns. Those from panel `at` on are made, every step-th, which are panels `first` on of their part of
 * the matrix.
 * Rows come in groups of row_size and columns in groups of column_size, each padded with zeros to a multiple of 16. Row r
 * of group G and column c of group H is element
 *     G group_step + r row_step + (H column_size + c) column_step
 * of the tensor: a matrix in a file is [rows, columns], a gate [groups, columns, rows].
 * One work-item a panel. */
static inline uint16 INSTANCE(mix)(uint16 x)
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

static inline float16 INSTANCE(elements)(ulong16 e, int16 live, uint key0, uint key1, float scale)
{
    uint16 x = INSTANCE(mix)(convert_uint16(e) ^ key0);
    x = INSTANCE(mix)(x ^ key1 ^ convert_uint16(e >> 32));
    int16 sum = as_int16((x & 0xffffu) + (x >> 16)) - 65535;
    return convert_float16(sum & live) * scale;
}

kernel void INSTANCE(fill)(global WEIGHT *w, int at, int step, int first, int K, int row_size, int column_size,
                           ulong group_step, ulong row_step, ulong column_step, uint key0, uint key1, float scale)
{
    const int16 lanes = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int panel = get_global_id(0);
    int row_padded = (row_size + LANES - 1) / LANES * LANES, column_padded = (column_size + LANES - 1) / LANES * LANES;
    int row_group = (first + panel) * LANES / row_padded, row = (first + panel) * LANES - row_group * row_padded;
    int16 live = row + lanes < row_size, none = 0;
    ulong start = (ulong)row_group * group_step + (ulong)row * row_step;
    ulong16 rows = start + convert_ulong16(lanes) * row_step;

    w += (at + panel * step) * PANEL_SIZE(K);
    for (int k = 0; k < K; k += SHARED_SCALE) {
        float16 columns[SHARED_SCALE];
        int n = min(SHARED_SCALE, K - k);
        for (int i = 0; i < n; i++) {
            int group = (k + i) / column_padded, c = k + i - group * column_padded;
            ulong16 e = rows + ((ulong)group * column_size + c) * column_step;
            columns[i] = INSTANCE(elements)(e, c < column_size ? live : none, key0, key1, scale);
        }
        STORE(w, k, n, columns);
    }
}
