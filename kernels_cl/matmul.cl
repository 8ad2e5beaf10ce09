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
            for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
                WORDS words[PANELS];
#pragma unroll
                for (int p = 0; p < PANELS; p++) WORDS_LOAD(at[p], j, words[p]);
#pragma unroll
                for (int c = 0; c < STEP; c++) {
                    float16 column[PANELS];
#pragma unroll
                    for (int p = 0; p < PANELS; p++) column[p] = COLUMN(words[p], scales[p], c);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        float x0 = in[r][k + j + c];
#pragma unroll
                        for (int p = 0; p < PANELS; p++) sum[r][p] = fma(column[p], (float16)x0, sum[r][p]);
                    }
                }
            }
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
