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
#define TILE_STORE(tile, to, stride) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"((long)(stride)) : "memory")
#define TILE_MULTIPLY(a, b, c) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")

/* add, gated: what becomes of the sums. Work-groups take per_group panels, two at a time, for all rows; columns in cuts of
 * `cut` tiles, with sums in y between them, and rows in cuts of `tall`, which gated sums ask for instead. */
kernel void matmul_bf16_amx(image b, global const ushort *packed, global const uint *w, global const float *bias, int K,
                            int panels, int row0, int block, int blocks, int count, int skip, int most, int add, int gated,
                            int per_group, int cut, int tall, int half_width, global float *y, int y_tiles, int y_stride, int y_offset)
{
    int rows = min(b[count] - skip, most), tiles = (K + 31) / 32;
    int first = get_global_id(0) * per_group, last = min(first + per_group, panels);
    float16 c[64], start[32];
    uint16 tail[2][16];

    if ((int)get_global_id(1) * 32 >= rows) return;
    tiles_begin();
    y += y_offset;
    bias += row0;
    for (int i = 0; i < 2; i++)
        for (int k = 8; k < 16; k++) tail[i][k] = 0;
    for (int top = 0; top < rows; top += tall)
    for (int k0 = 0; k0 < tiles; k0 += cut) {
        int k1 = min(k0 + cut, tiles), whole = min(k1, K / 32);
        for (int p = first; p < last; p += 2) {
            int q = min(p + 1, last - 1);
            int g = (row0 + p * LANES) / block;
            global const uint *b0 = w + (size_t)p * (K / 2) * LANES, *b1 = w + (size_t)q * (K / 2) * LANES;

            if (k1 > whole)
                for (int k = 0; k < 8; k++) {
                    tail[0][k] = vload16(whole * 16 + k, b0);
                    tail[1][k] = vload16(whole * 16 + k, b1);
                }
            if (k0 == 0 && !add)
                for (int r = 0; r < 16; r++) {
                    start[r] = vload16(p, bias);
                    start[16 + r] = vload16(q, bias);
                }
            for (int t = top + get_global_id(1) * 32; t < min(top + tall, rows); t += get_global_size(1) * 32) {
                global const ushort *a = packed + ((size_t)(t / 32) * blocks + g) * tiles * 1024;
                global float *y0 = y + (size_t)t * y_stride + row0 + p * LANES, *y1 = y0 + (q - p) * LANES;
                long stride = 4l * y_stride;
                bool full = rows - t >= 32;

                if (k0 == 0 && !add) {
                    TILE_LOAD(0, start, 64);
                    TILE_LOAD(1, start + 16, 64);
                    TILE_LOAD(2, start, 64);
                    TILE_LOAD(3, start + 16, 64);
                } else if (k0 > 0 && full) {
                    TILE_LOAD(0, y0, stride);
                    TILE_LOAD(1, y1, stride);
                    TILE_LOAD(2, y0 + 16 * (size_t)y_stride, stride);
                    TILE_LOAD(3, y1 + 16 * (size_t)y_stride, stride);
                } else {
                    for (int r = 0; r < 32; r++) {
                        float16 v0 = 0.0f, v1 = 0.0f;
                        if (t + r < rows) {
                            v0 = vload16(0, y0 + (size_t)r * y_stride);
                            v1 = vload16(0, y1 + (size_t)r * y_stride);
                            if (k0 == 0) v0 += vload16(p, bias), v1 += vload16(q, bias);
                        }
                        c[r / 16 * 32 + r % 16] = v0;
                        c[r / 16 * 32 + 16 + r % 16] = v1;
                    }
                    TILE_LOAD(0, c, 64);
                    TILE_LOAD(1, c + 16, 64);
                    TILE_LOAD(2, c + 32, 64);
                    TILE_LOAD(3, c + 48, 64);
                }
                for (int k = k0; k < whole; k++) {
                    TILE_LOAD(6, b0 + k * 256, 64);
                    TILE_LOAD(4, a + k * 1024, 64);
                    TILE_LOAD(7, b1 + k * 256, 64);
                    TILE_MULTIPLY(4, 6, 0);
                    TILE_MULTIPLY(4, 7, 1);
                    TILE_LOAD(5, a + k * 1024 + 512, 64);
                    TILE_MULTIPLY(5, 6, 2);
                    TILE_MULTIPLY(5, 7, 3);
                }
                if (k1 > whole) {
                    TILE_LOAD(6, tail[0], 64);
                    TILE_LOAD(4, a + whole * 1024, 64);
                    TILE_LOAD(7, tail[1], 64);
                    TILE_MULTIPLY(4, 6, 0);
                    TILE_MULTIPLY(4, 7, 1);
                    TILE_LOAD(5, a + whole * 1024 + 512, 64);
                    TILE_MULTIPLY(5, 6, 2);
                    TILE_MULTIPLY(5, 7, 3);
                }
                if (full && !gated) {
                    TILE_STORE(0, y0, stride);
                    TILE_STORE(2, y0 + 16 * (size_t)y_stride, stride);
                    if (q > p) {
                        TILE_STORE(1, y1, stride);
                        TILE_STORE(3, y1 + 16 * (size_t)y_stride, stride);
                    }
                } else {
                    TILE_STORE(0, c, 64);
                    TILE_STORE(1, c + 16, 64);
                    TILE_STORE(2, c + 32, 64);
                    TILE_STORE(3, c + 48, 64);
                    for (int r = 0; r < 32 && t + r < rows; r++) {
                        if (gated) {
                            put_row16(gelu16(c[r / 16 * 32 + r % 16]) * c[r / 16 * 32 + 16 + r % 16], y, y_tiles, y_stride,
                                      t + r, (row0 + p * LANES) / 2, half_width);
                            continue;
                        }
                        vstore16(c[r / 16 * 32 + r % 16], 0, y0 + (size_t)r * y_stride);
                        if (q > p) vstore16(c[r / 16 * 32 + 16 + r % 16], 0, y1 + (size_t)r * y_stride);
                    }
                }
            }
        }
    }
    tiles_end();
}
