/* matmul.cl - y = finish(x W^T + bias), W in panels of 16 rows, x normalised on the way in if need be; dense, and the gates'
 * block-diagonal product. Instances: one a weight FORMAT, tile of ROWS rows of x by PANELS panels, and finish.
 *
 * x : [rows, x_stride] f32, columns from x_offset     y : [rows, y_stride] f32, columns from y_offset
 * w : a shard of `panels` panels of K columns, the matrix's rows from row0     bias : [all rows]
 * Rows [skip, skip + most) of those that the word `count` of the batch counts are meant; row r of x becomes row r - skip
 * of y. Block diagonal: the matrix's rows in blocks of `block`, block i multiplies columns [i K, i K + K) of x.
 *
 * What becomes of a sum (PAIRED: panels 2i and 2i + 1 of the matrix are 16 rows each of its two parts, and make one result):
 *     (none)         stored; add = 1: added to what is there
 *     FINISH_GEGLU   paired, gelu(gate) * up
 *     FINISH_CONV1D  decode: of the first N rows, the inputs of the convolution, what it makes of them; the rest stored
 *     FINISH_RGLRU   decode: paired, both gates; h gelu(y), x being what they gate
 * NORM_ROWS: tiles of no more rows take x through norm.cl's formula, if `width` is not 0; scale and eps are norm's.
 * INT8: x is rounded to whole numbers (prelude.cl), here in tiles of up to NORM_ROWS rows; x is packed for those of more,
 * rows from skip on, and x_stride words are a row.
 * A work-group is one work-item, which goes through `turns` tiles in the matrix's rows. What tiles of up to NORM_ROWS rows
 * make of x first, for norm or INT8, they keep in `made`, [ROWS][K] of x or its groups, so that it is made once for all turns.
 *
 * Every output is one chain of fma over ascending k, in every instance: the result of a row does not depend on the tile,
 * on the rows beside it, or on the phase. With INT8 it is one chain of fma over groups of columns, each of the group's whole
 * sum and the product of both scales; a VNNI unit and plain floats make the same whole sums. One work-item holds ROWS x
 * PANELS accumulators; the panels stay in the second level cache while it goes through all rows. Dimension 1 splits the rows
 * where there are fewer panels than cores. */

/* Columns i and i + 1 of all panels p, times all rows; X(r, i) is x. Loading two of x for each row leaves the compiler enough
 * registers. */
#undef TWO_COLUMNS
#define TWO_COLUMNS(X, i, W0, W1)                                                                                       \
    {                                                                                                                   \
        float16 w0[PANELS], w1[PANELS];                                                                                 \
        _Pragma("unroll")                                                                                               \
        for (int p = 0; p < PANELS; p++) w0[p] = W0, w1[p] = W1;                                                        \
        _Pragma("unroll")                                                                                               \
        for (int r = 0; r < ROWS; r++) {                                                                                \
            float x0 = X(r, i), x1 = X(r, (i) + 1);                                                                     \
            _Pragma("unroll")                                                                                           \
            for (int p = 0; p < PANELS; p++) {                                                                          \
                sum[r][p] = fma(w0[p], (float16)x0, sum[r][p]);                                                         \
                sum[r][p] = fma(w1[p], (float16)x1, sum[r][p]);                                                         \
            }                                                                                                           \
        }                                                                                                               \
    }

/* One group of columns from k on. From WIDEN_ROWS rows on, taking numbers with a scale apart and multiplying them want more
 * registers than there are: the group is widened first, and the rows read it from the first level cache. */
#define WIDEN_ROWS 4
#undef GROUP_SUMS
#if ROWS < WIDEN_ROWS
#define GROUP_SUMS(X)                                                                                                   \
    for (int j = 0; j < IN_GROUP(K - k); j += STEP) {                                                                   \
        WORDS words[PANELS];                                                                                            \
        _Pragma("unroll")                                                                                               \
        for (int p = 0; p < PANELS; p++) WORDS_LOAD(at[p], j, words[p]);                                                \
        _Pragma("unroll")                                                                                               \
        for (int c = 0; c < STEP; c += 2)                                                                               \
            TWO_COLUMNS(X, k + j + c, COLUMN(words[p], scales[p], c), COLUMN(words[p], scales[p], c + 1))               \
    }
#else
#define GROUP_SUMS(X)                                                                                                   \
    float16 wide[GROUP][PANELS];                                                                                        \
    for (int j = 0; j < IN_GROUP(K - k); j += STEP)                                                                     \
        _Pragma("unroll")                                                                                               \
        for (int p = 0; p < PANELS; p++) {                                                                              \
            WORDS words;                                                                                                \
            WORDS_LOAD(at[p], j, words);                                                                                \
            _Pragma("unroll")                                                                                           \
            for (int c = 0; c < STEP; c++) wide[j + c][p] = COLUMN(words, scales[p], c);                                \
        }                                                                                                               \
    for (int j = 0; j < IN_GROUP(K - k); j += 2) TWO_COLUMNS(X, k + j, wide[j][p], wide[j + 1][p])
#endif

/* With INT8: x of a group in whole numbers, as it was made here for few rows, else from where it is packed. */
#undef GROUP_AT
#undef TAKE_NUMBERS
#if ROWS <= NORM_ROWS
#define GROUP_AT(r) (made + (r) * ((K + 31) / 32) + k / 32)
#else
#define GROUP_AT(r) ((global const packed_group *)in[r] + k / 32)
#endif
#ifdef VNNI
#define TAKE_NUMBERS
#else
#define TAKE_NUMBERS                                                                                                    \
    plain_group group[ROWS];                                                                                            \
    for (int r = 0; r < ROWS; r++) {                                                                                    \
        packed_group packed = *GROUP_AT(r);                                                                             \
        group[r].scale = packed.scale;                                                                                  \
        group[r].less = packed.less;                                                                                    \
        group[r].numbers[0] = convert_float16(as_char16(packed.numbers[0]));                                            \
        group[r].numbers[1] = convert_float16(as_char16(packed.numbers[1]));                                            \
    }
#endif

/* The group's sums for a panel's rows at a time, which find its weights in registers. */
#undef PANEL_SUMS
#ifdef VNNI
#define PANEL_SUMS(p)                                                                                                   \
    {                                                                                                                   \
        uint16 w[8];                                                                                                    \
        _Pragma("unroll")                                                                                               \
        for (int i = 0; i < 8; i++) w[i] = i < 4 || K - k > LANES ? BYTES(at[p], i) : (uint16)0;                        \
        _Pragma("unroll")                                                                                               \
        for (int r = 0; r < ROWS; r++) ADD_GROUP(sum[r][p], w, scales[p].by, GROUP_AT(r));                              \
    }
#else
#define PANEL_SUMS(p)                                                                                                   \
    {                                                                                                                   \
        float16 dot[ROWS];                                                                                              \
        _Pragma("unroll")                                                                                               \
        for (int r = 0; r < ROWS; r++) dot[r] = (float)group[r].less;                                                   \
        for (int i = 0; i < IN_GROUP(K - k) / 4; i++) {                                                                 \
            uint16 w = BYTES(at[p], i);                                                                                 \
            _Pragma("unroll")                                                                                           \
            for (int c = 0; c < 4; c++) {                                                                               \
                float16 column = convert_float16(as_int16(w >> (uint)(8 * c) & 0xffu));                                 \
                _Pragma("unroll")                                                                                       \
                for (int r = 0; r < ROWS; r++) {                                                                        \
                    float number = ((const float *)group[r].numbers)[4 * i + c];                                        \
                    dot[r] = fma(column, (float16)number, dot[r]);                                                      \
                }                                                                                                       \
            }                                                                                                           \
        }                                                                                                               \
        _Pragma("unroll")                                                                                               \
        for (int r = 0; r < ROWS; r++) sum[r][p] = fma(dot[r], scales[p].by * group[r].scale, sum[r][p]);               \
    }
#endif

#ifdef INT8
#undef GROUP_SUMS
#define GROUP_SUMS(X)                                                                                                   \
    TAKE_NUMBERS                                                                                                        \
    _Pragma("unroll")                                                                                                   \
    for (int p = 0; p < PANELS; p++) PANEL_SUMS(p)
#endif

/* Taller tiles compute so long on a line that the next ones come by themselves; asking for each column's, as f32 would, takes
 * registers that they do not have. */
#define ASKING_ROWS 8

#undef TILE_SUMS
#define TILE_SUMS(X)                                                                                                    \
    for (int k = 0; k < K; k += GROUP) {                                                                                \
        global const WEIGHT *at[PANELS];                                                                                \
        SCALES scales[PANELS];                                                                                          \
        _Pragma("unroll")                                                                                               \
        for (int p = 0; p < PANELS; p++) {                                                                              \
            at[p] = WEIGHTS_AT(panel[p], k);                                                                            \
            SCALES_LOAD(panel[p], k, scales[p]);                                                                        \
            for (int line = -1; (ROWS <= ASKING_ROWS || LINES < GROUP) && line < LINES - 1; line++)                     \
                ASK_FOR((global const char *)at[p] + AHEAD + 64 * line);                                                \
        }                                                                                                               \
        GROUP_SUMS(X)                                                                                                   \
    }

#undef PLAIN_X
#undef MADE_X
#define PLAIN_X(r, i) in[r][i]
#define MADE_X(r, i)  made[(r) * K + (i)]
#undef MADE
#ifdef INT8
#define MADE packed_group
#else
#define MADE float
#endif

#if defined(FINISH_CONV1D)
#define KERNEL INSTANCE(matmul_conv1d)
#define MORE   , global const float *taps_w, global const float *taps_bias, int taps, int N, global float *state, int state_stride
#elif defined(FINISH_RGLRU)
#define KERNEL INSTANCE(matmul_rglru)
#define MORE   , global const float *branch, int branch_stride, int branch_offset, global const float *decay,           \
               global float *state, int state_stride, int h_offset
#elif defined(FINISH_GEGLU)
#define KERNEL INSTANCE(matmul_geglu)
#define MORE
#else
#define KERNEL INSTANCE(matmul)
#define MORE
#endif

kernel void KERNEL(image b, global const float *x, int x_stride, int x_offset, global const float *scale, int width, float eps,
                   global const WEIGHT *w, global const float *bias, int K, int panels, int row0, int block, int count,
                   int skip, int most, int add, global float *y, int y_stride, int y_offset, int turns, local MADE *made MORE)
{
    int rows = min(b[count] - skip, most);

    bias += row0;
#if defined(INT8) && ROWS > NORM_ROWS
    int x_block = (row0 + (int)get_global_id(0) * turns * PANELS * LANES) / block * ((K + 31) / 32) * GROUP_WORDS;
#else
    x += (size_t)skip * x_stride + x_offset;
    int x_block = (row0 + (int)get_global_id(0) * turns * PANELS * LANES) / block * K;
#endif

    for (int t = get_global_id(1) * ROWS; t < rows; t += get_global_size(1) * ROWS) {
        global const float *in[ROWS];

        for (int r = 0; r < ROWS; r++) in[r] = x + (size_t)min(t + r, rows - 1) * x_stride + x_block;
#if ROWS <= NORM_ROWS
        for (int r = 0; r < ROWS; r++) {
            float inverse = width ? inverse_rms(in[r], K, width, eps) : 1.0f;
#ifdef INT8
            for (int k = 0; k < K; k += 32) MAKE_GROUP(in[r], k, K, width, inverse, scale, made[r * ((K + 31) / 32) + k / 32]);
#else
            for (int k = 0; width && k < K; k += LANES)
                vstore16(vload16(0, in[r] + k) * inverse * vload16(0, scale + k), 0, made + r * K + k);
#endif
        }
#endif
        for (int turn = 0, first = get_global_id(0) * turns * PANELS; turn < turns && first < panels; turn++, first += PANELS) {
            global const WEIGHT *panel[PANELS];
            float16 sum[ROWS][PANELS];

            for (int p = 0; p < PANELS; p++) {
                panel[p] = w + min(first + p, panels - 1) * PANEL_SIZE(K);
                for (int r = 0; r < ROWS; r++) sum[r][p] = 0.0f;
            }
#if ROWS <= NORM_ROWS && !defined(INT8)
            if (width) TILE_SUMS(MADE_X)
            else
#endif
                TILE_SUMS(PLAIN_X)

            for (int r = 0; r < ROWS && t + r < rows; r++) {
                global float *out = y + (size_t)(t + r) * y_stride + y_offset;
#if defined(FINISH_GEGLU) || defined(FINISH_RGLRU)
                for (int p = 0; p < PANELS && first + p < panels; p += 2) {
                    int c = row0 / 2 + (first + p) / 2 * LANES;
                    float16 v0 = sum[r][p] + vload16(first + p, bias), v1 = sum[r][p + 1] + vload16(first + p + 1, bias);
#ifdef FINISH_GEGLU
                    float16 v = gelu16(v0) * v1;
#else
                    image row = ROW(b, t + r);
                    float16 v = rglru_step(row, v0, v1, vload16(0, x + (size_t)(t + r) * x_stride + c),
                                           vload16(0, decay + c), state + (size_t)row[ROW_SLOT] * state_stride + h_offset + c)
                                * gelu16(vload16(0, branch + (size_t)(t + r) * branch_stride + branch_offset + c));
#endif
                    vstore16(v, 0, out + c);
                }
#else
                for (int p = 0; p < PANELS && first + p < panels; p++) {
                    int c = row0 + (first + p) * LANES;
                    float16 v = sum[r][p] + vload16(first + p, bias);
#ifdef FINISH_CONV1D
                    image row = ROW(b, t + r);
                    if (c < N) v = conv1d_step(row, v, taps_w + c, taps_bias + c, taps, N,
                                               state + (size_t)row[ROW_SLOT] * state_stride + c);
#else
                    if (add) v += vload16(0, out + c);
#endif
                    vstore16(v, 0, out + c);
                }
#endif
            }
        }
    }
}
#undef KERNEL
#undef MORE
