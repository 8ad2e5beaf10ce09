/* amx.cl - y = x W^T + bias (+ y), and with gelu(gate) * up at its end, as in matmul.cl, on the matrix unit of x86 CPUs (AMX): W in bf16, x rounded to bf16, sums
 * in f32. In the program only where the probe "amx" has said yes (runtime/probe.c): it is assembly.
 *
 * The unit multiplies tiles: C [16][16] f32 += A [16][32] bf16 * B [32][16] bf16, B in pairs of rows. A weight panel is a
 * list of such B. x is packed as such A (prelude.cl): by pack_amx, or by the kernel that made it.
 *
 * packed : [blocks of 32 rows][blocks of the diagonal][ceil(K / 32)][2][16][32] bf16; columns from K on are zeros, and rows
 *          from the live ones on are anything, since no row of C sees another row of A
 *
 * An output is bias (+ y), and to that what the unit makes of 32 columns at a time, in ascending order: its bits do not
 * depend on the rows beside it, on how many there are, or on how columns and panels are cut for the caches. Only a last
 * tile of 16 columns is filled up with zeros. Denormals count as zeros. */

/* Rows [skip, skip + most) of those that the word `count` of the batch counts, normalised as in norm.cl if `width` is not
 * 0. One work-group a row. */
kernel void pack_amx(image b, global const float *x, int x_stride, int x_offset, global const float *scale, int width,
                     float eps, int K, int blocks, int count, int skip, int most, global float *packed)
{
    int r = get_global_id(0), rows = min(b[count] - skip, most), tiles = (K + 31) / 32;
    if (r >= rows) return;

    x += (size_t)(skip + r) * x_stride + x_offset;
    if (width) {
        float inverse = inverse_rms(x, K, width, eps);
        for (int k = 0; k < K; k += LANES)
            put_row16(vload16(0, x + k) * inverse * vload16(0, scale + k), packed, tiles, 0, r, k, K);
        return;
    }
    for (int i = 0; i < blocks; i++, x += K)
        for (int k = 0; k < K; k += LANES)
            put_row16(vload16(0, x + k), packed + i * tiles * 512, blocks * tiles, 0, r, k, K);
}

/* All eight tiles are 16 rows of 64 bytes: 0 to 3 are C, 4 and 5 A, 6 and 7 B. */
static inline void tiles_begin(void)
{
    uint config[16] = { 1, 0, 0, 0, 0x400040, 0x400040, 0x400040, 0x400040, 0, 0, 0, 0, 0x10101010, 0x10101010, 0, 0 };
    __asm__ volatile("ldtilecfg (%0)" : : "r"(config) : "memory");
}

static inline void tiles_end(void) { __asm__ volatile("tilerelease" : : : "memory"); }

#define TILE_LOAD(tile, from, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((long)(stride)) : "memory")
/* For what is not to stay in the first level cache. */
#define TILE_STREAM(tile, from, stride) \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((long)(stride)) : "memory")
#define TILE_STORE(tile, to, stride) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"((long)(stride)) : "memory")
#define TILE_MULTIPLY(a, b, c) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")
#define PREFETCH(p) __asm__ volatile("prefetcht1 (%0)" : : "r"(p) : "memory")

/* C, 32 rows by two panels, += A B for 32 columns. B is used again for the next rows, A only for the next panels. */
#define MULTIPLY(a, b0, b1)                                 \
    do {                                                    \
        TILE_STREAM(4, a, 64);                              \
        TILE_LOAD(6, b0, 64);                               \
        TILE_MULTIPLY(4, 6, 0);                             \
        TILE_STREAM(5, (a) + 512, 64);                      \
        TILE_MULTIPLY(5, 6, 2);                             \
        TILE_LOAD(7, b1, 64);                               \
        TILE_MULTIPLY(4, 7, 1);                             \
        TILE_MULTIPLY(5, 7, 3);                             \
    } while (0)

#define LOAD_SUMS(sums)                                     \
    do {                                                    \
        TILE_LOAD(0, sums, 64);                             \
        TILE_LOAD(1, (sums) + 16, 64);                      \
        TILE_LOAD(2, (sums) + 32, 64);                      \
        TILE_LOAD(3, (sums) + 48, 64);                      \
    } while (0)
#define STORE_SUMS(sums)                                    \
    do {                                                    \
        TILE_STORE(0, sums, 64);                            \
        TILE_STORE(1, (sums) + 16, 64);                     \
        TILE_STORE(2, (sums) + 32, 64);                     \
        TILE_STORE(3, (sums) + 48, 64);                     \
    } while (0)

#define UNIT_PANELS  8                      /* a work-group keeps sums of so many panels */
#define UNIT_HEIGHTS 8                      /* and so many times 32 rows: 128 KiB, in the second level cache */

/* Arguments as in matmul.cl; gated: its gelu(gate) * up, a result of `half_width` columns. A work-group has the panels
 * [per_group i, per_group i + per_group), an even number up to UNIT_PANELS, and takes them two at a time, which lie in one
 * block of the diagonal. It goes through `cut` tiles of columns at
 * a time: its panels' part of those for 32 rows, for the next 32, and so on, while sums wait; meanwhile the next panels'
 * part comes into the second level cache. Dimension 1 splits the rows. */
kernel void matmul_bf16_amx(image b, global const ushort *packed, global const uint *w, global const float *bias, int K,
                            int panels, int row0, int block, int blocks, int count, int skip, int most, int add, int gated,
                            int half_width, int per_group, int cut, global float *y, int y_tiles, int y_stride, int y_offset)
{
    int rows = min(b[count] - skip, most), tiles = (K + 31) / 32, heights = (rows + 31) / 32;
    int first = get_global_id(0) * per_group, last = min(first + per_group, panels);
    int from = heights * get_global_id(1) / get_global_size(1), to = heights * (get_global_id(1) + 1) / get_global_size(1);
    size_t panel = (size_t)(K / 2) * LANES, below = 16 * (size_t)y_stride;
    long stride = 4 * (long)y_stride;
    float16 sums[UNIT_PANELS / 2][UNIT_HEIGHTS][64];        /* each four tiles of C: two of 16 rows above two */
    uint16 tail[2][16];                     /* a last B of 16 columns for each panel, filled up with zeros */

    if (from >= to) return;
    tiles_begin();
    y += y_offset;
    bias += row0;
    for (int i = 8; i < 16; i++) tail[0][i] = tail[1][i] = 0;
    for (; from < to; from += UNIT_HEIGHTS) {
        int end = min(from + UNIT_HEIGHTS, to), share = (15 + end - from) / (end - from);   /* lines of a tile that come */

        for (int k0 = 0; k0 < tiles; k0 += cut)
            for (int p = first; p < last; p += 2) {
                int q = min(p + 2, last) - 1, k1 = min(k0 + cut, tiles), whole = min(k1, K / 32);
                global const uint *b0 = w + p * panel, *b1 = w + q * panel;
                /* What comes next, less tile k0: these columns of the next panels, the next columns of the first, another
                 * group. Past the end of the weights nothing happens. */
                global const uint *ahead = p + 2 < last ? b0 + 2 * panel
                                         : k1 < tiles ? w + first * panel + cut * 256 : w + last * panel - k0 * 256;
                global const ushort *a = packed + (size_t)((row0 + p * LANES) / block) * tiles * 1024;

                if (k1 > whole)
                    for (int i = 0; i < 8; i++) {
                        tail[0][i] = vload16(whole * 16 + i, b0);
                        tail[1][i] = vload16(whole * 16 + i, b1);
                    }
                for (int h = from; h < end; h++) {
                    global const ushort *in = a + (size_t)h * blocks * tiles * 1024;
                    global float *y0 = y + (size_t)h * 32 * y_stride + row0 + p * LANES, *y1 = y0 + (q - p) * LANES;
                    float16 *c = sums[(p - first) / 2][h - from];
                    int live = min(rows - h * 32, 32), line = min((h - from) * share, 16), lines = min(line + share, 16);

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
                    for (int k = k0; k < whole; k++) {
                        for (int i = line; i < lines; i++) {
                            PREFETCH(ahead + k * 256 + i * 16);
                            PREFETCH(ahead + panel + k * 256 + i * 16);
                        }
                        MULTIPLY(in + k * 1024, b0 + k * 256, b1 + k * 256);
                    }
                    if (k1 > whole) MULTIPLY(in + whole * 1024, tail[0], tail[1]);
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
