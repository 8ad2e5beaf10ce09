/* gpu_matmul.cl - matmul.cl's products on GPUs: y = x W^T + bias, or gelu(gate) * up of the two parts of a paired matrix.
 * Arguments and letters are matmul.cl's. Instances: one a weight FORMAT, tile of ROWS rows of x by PANELS panels, and
 * finish, as GEMV or not. 256 work-items make a tile.
 *
 *     gpu_matmul    prefill. x and W pass through local memory in steps of 16 columns, a work-item has ROWS / 16 rows of
 *                   PANELS panels. Every output is one chain of fma over ascending k, in every tile.
 *     gpu_gemv      decode. A work-item has one row of each panel and a sixteenth of the columns: pairs s, s + 16, ... of
 *                   slice s, a chain of fma; then the slices are added up in ascending order, in every tile. */
#ifdef FINISH_GEGLU
#define FINISH_NAME(name) INSTANCE(name##_geglu)
#else
#define FINISH_NAME(name) INSTANCE(name)
#endif

/* Stores what panels first, first + 1, ... of row t have in one of their 16 rows. */
static inline void FINISH_NAME(gpu_store)(const float *sum, int first, int lane, int panels, int row0,
                                          global const float *bias, int add, global float *out)
{
#ifdef FINISH_GEGLU
    for (int p = 0; p < PANELS && first + p < panels; p += 2) {
        int r = row0 + (first + p) * LANES + lane;
        out[(row0 + (first + p) * LANES) / 2 + lane] = gelu1(sum[p] + bias[r]) * (sum[p + 1] + bias[r + LANES]);
    }
#else
    for (int p = 0; p < PANELS && first + p < panels; p++) {
        int r = row0 + (first + p) * LANES + lane;
        float v = sum[p] + bias[r];
        out[r] = add ? v + out[r] : v;
    }
#endif
}

#ifdef GEMV
#define SLICES 16

kernel WORK_GROUP(256) void FINISH_NAME(gpu_gemv)(image b, global const float *x, int x_stride, int x_offset,
                                                  global const WEIGHT *w, global const float *bias, int K, int panels,
                                                  int row0, int block, int count, int skip, int most, int add,
                                                  global float *y, int y_stride, int y_offset)
{
    local float parts[ROWS][SLICES][LANES];
    int rows = min(b[count] - skip, most), t = get_group_id(1) * ROWS, first = get_group_id(0) * PANELS;
    int lane = get_local_id(0) % LANES, slice = get_local_id(0) / LANES;
    global const WEIGHT *panel[PANELS];
    global const float *in[ROWS];
    float sum[PANELS][ROWS], total[PANELS];
    int columns = t < rows ? K : 0;

    for (int p = 0; p < PANELS; p++) {
        panel[p] = w + min(first + p, panels - 1) * PANEL_SIZE(K);
        for (int r = 0; r < ROWS; r++) sum[p][r] = 0.0f;
    }
    x += (size_t)skip * x_stride + x_offset + (row0 + first * LANES) / block * K;
    for (int r = 0; r < ROWS; r++) in[r] = x + (size_t)max(min(t + r, rows - 1), 0) * x_stride;

    for (int i = slice; i < columns / 2; i += SLICES) {
        float w0[PANELS], w1[PANELS];
#pragma unroll
        for (int p = 0; p < PANELS; p++) LANE_PAIR(panel[p], 2 * i, lane, w0[p], w1[p]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float2 v = vload2(i, in[r]);
#pragma unroll
            for (int p = 0; p < PANELS; p++) sum[p][r] = fma(w1[p], v.y, fma(w0[p], v.x, sum[p][r]));
        }
    }
    for (int p = 0; p < PANELS; p++) {
        for (int r = 0; r < ROWS; r++) parts[r][slice][lane] = sum[p][r];
        SYNC();
        total[p] = 0.0f;
        if (slice < ROWS)                                                   /* row `slice` of the tile is this work-item's now */
            for (int s = 0; s < SLICES; s++) total[p] += parts[slice][s][lane];
        SYNC();
    }
    if (slice < ROWS && t + slice < rows)
        FINISH_NAME(gpu_store)(total, first, lane, panels, row0, bias, add, y + (size_t)(t + slice) * y_stride + y_offset);
}
#undef SLICES

#else
#define HEIGHT (ROWS / 16)          /* rows of a work-item: its number and every 16th after it */
#define DEPTH  16                   /* columns at a time; K is a multiple of it */

kernel WORK_GROUP(256) void FINISH_NAME(gpu_matmul)(image b, global const float *x, int x_stride, int x_offset,
                                                    global const WEIGHT *w, global const float *bias, int K, int panels,
                                                    int row0, int block, int count, int skip, int most, int add,
                                                    global float *y, int y_stride, int y_offset)
{
    local float in[DEPTH][ROWS + 1], weights[DEPTH][PANELS * LANES];
    int rows = min(b[count] - skip, most), t = get_group_id(1) * ROWS, first = get_group_id(0) * PANELS;
    int lane = get_local_id(0) % LANES, high = get_local_id(0) / LANES;
    float sum[HEIGHT][PANELS];
    int columns = t < rows ? K : 0;

    for (int r = 0; r < HEIGHT; r++)
        for (int p = 0; p < PANELS; p++) sum[r][p] = 0.0f;
    x += (size_t)skip * x_stride + x_offset + (row0 + first * LANES) / block * K;

    for (int k = 0; k < columns; k += DEPTH) {
#pragma unroll
        for (int r = 0; r < HEIGHT; r++)
            in[lane][high + 16 * r] = x[(size_t)min(t + high + 16 * r, rows - 1) * x_stride + k + lane];
#pragma unroll
        for (int i = 0; i < PANELS / 2; i++) {                              /* 8 pairs of columns of two panels */
            int p = 2 * i + high / 8;
            global const WEIGHT *panel = w + min(first + p, panels - 1) * PANEL_SIZE(K);
            float w0, w1;
            LANE_PAIR(panel, k + high % 8 * 2, lane, w0, w1);
            weights[high % 8 * 2][p * LANES + lane] = w0;
            weights[high % 8 * 2 + 1][p * LANES + lane] = w1;
        }
        SYNC();
#pragma unroll
        for (int i = 0; i < DEPTH; i++)
#pragma unroll
            for (int r = 0; r < HEIGHT; r++)
#pragma unroll
                for (int p = 0; p < PANELS; p++)
                    sum[r][p] = fma(weights[i][p * LANES + lane], in[i][high + 16 * r], sum[r][p]);
        SYNC();
    }
    for (int r = 0; r < HEIGHT; r++) {
        int at = t + high + 16 * r;
        if (at < rows) FINISH_NAME(gpu_store)(sum[r], first, lane, panels, row0, bias, add, y + (size_t)at * y_stride + y_offset);
    }
}
#undef HEIGHT
#undef DEPTH
#endif
#undef FINISH_NAME
