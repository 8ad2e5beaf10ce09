/* matmul.cl - y = x W^T + bias (+ y), W in panels of 16 rows; also the gates' block-diagonal product.
 * Instances: one a weight FORMAT and tile of ROWS rows of x by PANELS panels.
 *
 * x : [rows, x_stride] f32, columns from x_offset     y : [rows, y_stride] f32, columns from y_offset
 * w : a shard of `panels` panels of K columns, the matrix's rows from row0     bias : [all rows]
 * Rows [skip, skip + most) of those that the word `count` of the batch counts are meant; row r of x becomes row r - skip
 * of y. add = 1: y += instead of y =.
 *
 * Block diagonal: output rows come in parts of `part` rows, those in blocks of `block` rows, and block i of every part
 * multiplies columns [i K, i K + K) of x. A dense product is one part of one block.
 *
 * Every output is one chain of fma over ascending k, in every instance: the result of a row does not depend on the tile,
 * on the rows beside it, or on the phase. One work-item holds ROWS x PANELS accumulators; the panels stay in the second
 * level cache while it goes through all rows. Dimension 1 splits the rows where there are fewer panels than cores. */

/* Columns i and i + 1 of all panels p, times all rows. Loading two of x for each row leaves the compiler enough registers. */
#undef TWO_COLUMNS
#define TWO_COLUMNS(i, W0, W1)                                              \
    {                                                                       \
        float16 w0[PANELS], w1[PANELS];                                     \
        _Pragma("unroll")                                                   \
        for (int p = 0; p < PANELS; p++) w0[p] = W0, w1[p] = W1;            \
        _Pragma("unroll")                                                   \
        for (int r = 0; r < ROWS; r++) {                                    \
            float x0 = in[r][i], x1 = in[r][(i) + 1];                       \
            _Pragma("unroll")                                               \
            for (int p = 0; p < PANELS; p++) {                              \
                sum[r][p] = fma(w0[p], (float16)x0, sum[r][p]);             \
                sum[r][p] = fma(w1[p], (float16)x1, sum[r][p]);             \
            }                                                               \
        }                                                                   \
    }

/* From so many rows on, taking numbers with a scale apart and multiplying them want more registers than there are: a
 * group is widened first, and the rows read it from the first level cache. */
#define WIDEN_ROWS 4

kernel void INSTANCE(matmul)(image b, global const float *x, int x_stride, int x_offset, global const WEIGHT *w,
                             global const float *bias, int K, int panels, int row0, int part, int block, int count,
                             int skip, int most, int add, global float *y, int y_stride, int y_offset)
{
    int rows = min(b[count] - skip, most);
    int first = get_global_id(0) * PANELS;
    global const WEIGHT *panel[PANELS];

    for (int p = 0; p < PANELS; p++) panel[p] = w + min(first + p, panels - 1) * PANEL_SIZE(K);
    bias += row0;
    x += (size_t)skip * x_stride + x_offset + (row0 + first * LANES) % part / block * K;

    for (int t = get_global_id(1) * ROWS; t < rows; t += get_global_size(1) * ROWS) {
        global const float *in[ROWS];
        float16 sum[ROWS][PANELS];

        for (int r = 0; r < ROWS; r++) {
            in[r] = x + (size_t)min(t + r, rows - 1) * x_stride;
            for (int p = 0; p < PANELS; p++) sum[r][p] = 0.0f;
        }
        for (int k = 0; k < K; k += GROUP) {
            global const WEIGHT *at[PANELS];
            SCALES scales[PANELS];
#pragma unroll
            for (int p = 0; p < PANELS; p++) {
                at[p] = WEIGHTS_AT(panel[p], k);
                SCALES_LOAD(panel[p], k, scales[p]);
            }
#if ROWS < WIDEN_ROWS
            for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
                WORDS words[PANELS];
#pragma unroll
                for (int p = 0; p < PANELS; p++) WORDS_LOAD(at[p], j, words[p]);
#pragma unroll
                for (int c = 0; c < STEP; c += 2)
                    TWO_COLUMNS(k + j + c, COLUMN(words[p], scales[p], c), COLUMN(words[p], scales[p], c + 1))
            }
#else
            float16 wide[GROUP][PANELS];
            for (int j = 0; j < IN_GROUP(K - k); j += STEP)
#pragma unroll
                for (int p = 0; p < PANELS; p++) {
                    WORDS words;
                    WORDS_LOAD(at[p], j, words);
#pragma unroll
                    for (int c = 0; c < STEP; c++) wide[j + c][p] = COLUMN(words, scales[p], c);
                }
            for (int j = 0; j < IN_GROUP(K - k); j += 2) TWO_COLUMNS(k + j, wide[j][p], wide[j + 1][p])
#endif
        }
        for (int r = 0; r < ROWS && t + r < rows; r++) {
            global float *out = y + (size_t)(t + r) * y_stride + y_offset + row0;
            for (int p = 0; p < PANELS && first + p < panels; p++) {
                float16 v = sum[r][p] + vload16(first + p, bias);
                if (add) v += vload16(first + p, out);
                vstore16(v, first + p, out);
            }
        }
    }
}
