/* matmul_amx.cl - y = x W^T + bias (+ y), or gelu(gate) * up of it, as in matmul.cl, on the matrix unit (amx.cl): x rounded to
 * bf16, sums in f32. Instances: one a weight FORMAT, bf16, or q8 and q4, whose weights are rounded to bf16 (WIDENED).
 *
 * packed : [blocks of 32 rows][blocks of the diagonal][ceil(K / 32)][2][16][32] bf16; columns from K on are zeros, and rows
 *          from the live ones on are anything, since no row of C sees another row of A
 *
 * An output is bias (+ y), and to that what the unit makes of 32 columns at a time, in ascending order: its bits do not
 * depend on the rows beside it, on how many there are, or on how columns and panels are cut for the caches. Only a last
 * tile of 16 columns is filled up with zeros. */
#define UNIT_PANELS  8                      /* a work-group keeps sums of so many panels */
#define UNIT_HEIGHTS 8                      /* and so many times 32 rows: 128 KiB, in the second level cache */
#define UNIT_CUT     20                     /* tiles of columns that are widened at a time, at most */

#ifdef WIDENED
/* Tiles [k0, k1) of a panel to B: [tiles][16][16] pairs of columns, zeros from K on. */
static inline void INSTANCE(widen)(global const WEIGHT *panel, int K, int k0, int k1, uint *to)
{
    for (int k = k0 * 32; k < k1 * 32; k += GROUP, to += 256) {
        global const WEIGHT *at = WEIGHTS_AT(panel, k);
        SCALES scales;

        SCALES_LOAD(panel, k, scales);
        for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
            WORDS words;
            WORDS_LOAD(at, j, words);
#pragma unroll
            for (int c = 0; c < STEP; c += 2) {
                vstore16(bf16_pairs(COLUMN(words, scales, c), COLUMN(words, scales, c + 1)), (j + c) / 2, to);
            }
        }
        for (int j = IN_GROUP(K - k); j < 32; j += 2) vstore16((uint16)0, j / 2, to);
    }
}
#endif

/* Arguments as in matmul.cl; gated: its gelu(gate) * up, a result of `half_width` columns. A work-group has the panels
 * [per_group i, per_group i + per_group), an even number up to UNIT_PANELS, and takes them two at a time, which lie in one
 * block of the diagonal. It goes through `cut` tiles of columns at a time: its panels' part of those for 32 rows, for the next
 * 32, and so on, while sums wait; meanwhile the next panels' part comes into the second level cache. Dimension 1 splits the
 * rows. */
kernel void INSTANCE(matmul)(image b, global const uint *packed, global const WEIGHT *w, global const float *bias, int K,
                             int panels, int row0, int block, int blocks, int count, int skip, int most, int add, int gated,
                            int half_width, int per_group, int cut, global float *y, int y_tiles, int y_stride, int y_offset)
{
    int rows = min(b[count] - skip, most), tiles = (K + 31) / 32, heights = (rows + 31) / 32;
    int first = get_global_id(0) * per_group, last = min(first + per_group, panels);
    int from = heights * get_global_id(1) / get_global_size(1), to = heights * (get_global_id(1) + 1) / get_global_size(1);
    size_t panel = PANEL_SIZE(K), below = 16 * (size_t)y_stride;
    long stride = 4 * (long)y_stride;
    float16 sums[UNIT_PANELS / 2][UNIT_HEIGHTS][64];        /* each four tiles of C: two of 16 rows above two */
#ifdef WIDENED
    uint wide[2][UNIT_CUT * 256];
#else
    uint16 tail[2][16];                     /* a last B of 16 columns for each panel, filled up with zeros */
    for (int i = 8; i < 16; i++) tail[0][i] = tail[1][i] = 0;
#endif

    if (from >= to) return;
    tiles_begin();
    y += y_offset;
    bias += row0;
    for (; from < to; from += UNIT_HEIGHTS) {
        int end = min(from + UNIT_HEIGHTS, to);
#ifndef WIDENED
        int share = (15 + end - from) / (end - from);       /* lines of a tile that come with each 32 rows */
#endif

        for (int k0 = 0; k0 < tiles; k0 += cut)
            for (int p = first; p < last; p += 2) {
                int q = min(p + 2, last) - 1, k1 = min(k0 + cut, tiles);
#ifdef WIDENED
                INSTANCE(widen)(w + p * panel, K, k0, k1, wide[0]);
                INSTANCE(widen)(w + q * panel, K, k0, k1, wide[1]);
#else
                int whole = min(k1, K / 32);
                global const uint *b0 = w + p * panel, *b1 = w + q * panel;
                /* What comes next, less tile k0: these columns of the next panels, the next columns of the first, another
                 * group. Past the end of the weights nothing happens. */
                global const uint *ahead = p + 2 < last ? b0 + 2 * panel
                                         : k1 < tiles ? w + first * panel + cut * 256 : w + last * panel - k0 * 256;
                if (k1 > whole)
                    for (int i = 0; i < 8; i++) {
                        tail[0][i] = vload16(whole * 16 + i, b0);
                        tail[1][i] = vload16(whole * 16 + i, b1);
                    }
#endif
                global const uint *a = packed + (size_t)((row0 + p * LANES) / block) * tiles * 512;

                for (int h = from; h < end; h++) {
                    global const uint *in = a + (size_t)h * blocks * tiles * 512;
                    global float *y0 = y + (size_t)h * 32 * y_stride + row0 + p * LANES, *y1 = y0 + (q - p) * LANES;
                    float16 *c = sums[(p - first) / 2][h - from];
                    int live = min(rows - h * 32, 32);

                    if (k0 > 0) {
                        LOAD_SUMS(c);
                    } else if (!add) {
                        TILE_LOAD(0, bias + p * LANES, 0);
                        TILE_LOAD(1, bias + q * LANES, 0);
                        TILE_LOAD(2, bias + p * LANES, 0);
                        TILE_LOAD(3, bias + q * LANES, 0);
                    } else {
                        for (int r = 0; r < live; r++) {
                            c[r / 16 * 32 + r % 16] = vload16(p, bias) + vload16(0, y0 + (size_t)r * y_stride);
                            c[r / 16 * 32 + r % 16 + 16] = vload16(q, bias) + vload16(0, y1 + (size_t)r * y_stride);
                        }
                        LOAD_SUMS(c);
                    }
#ifdef WIDENED
                    for (int k = k0; k < k1; k++)
                        MULTIPLY(in + k * 512, wide[0] + (k - k0) * 256, wide[1] + (k - k0) * 256);
#else
                    int line = min((h - from) * share, 16), lines = min(line + share, 16);
                    for (int k = k0; k < whole; k++) {
                        for (int i = line; i < lines; i++) {
                            PREFETCH(ahead + k * 256 + i * 16);
                            PREFETCH(ahead + panel + k * 256 + i * 16);
                        }
                        MULTIPLY(in + k * 512, b0 + k * 256, b1 + k * 256);
                    }
                    if (k1 > whole) MULTIPLY(in + whole * 512, tail[0], tail[1]);
#endif
                    if (k1 == tiles && live == 32 && !gated) {
                        TILE_STORE(1, y1, stride);          /* before 0 and 2, which are the same where there is one panel */
                        TILE_STORE(3, y1 + below, stride);
                        TILE_STORE(0, y0, stride);
                        TILE_STORE(2, y0 + below, stride);
                        continue;
                    }
                    STORE_SUMS(c);
                    for (int r = 0; k1 == tiles && r < live; r++) {
                        float16 v0 = c[r / 16 * 32 + r % 16], v1 = c[r / 16 * 32 + r % 16 + 16];
                        if (gated) {
                            put_row16(gelu16(v0) * v1, y, y_tiles, y_stride, h * 32 + r, (row0 + p * LANES) / 2, half_width);
                            continue;
                        }
                        vstore16(v1, 0, y1 + (size_t)r * y_stride);
                        vstore16(v0, 0, y0 + (size_t)r * y_stride);
                    }
                }
            }
    }
    tiles_end();
}
