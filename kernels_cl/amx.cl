/* amx.cl - what runs on the matrix unit of x86 CPUs (AMX) stands on, and attention in prefill there; products are in
 * matmul_amx.cl. In the program only where the probe "amx" has said yes (runtime/probe.c): it is assembly.
 *
 * The unit multiplies tiles: C [16][16] f32 += A [16][32] bf16 * B [32][16] bf16, B in pairs of rows. A panel of bf16 weights
 * is a list of such B. x is packed as such A (prelude.cl): by pack_amx, or by the kernel that made it. Denormals count as
 * zeros. */

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
#define TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : : : "memory")
#define TILE_MULTIPLY(a, b, c) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")
#define PREFETCH(p) __asm__ volatile("prefetcht1 (%0)" : : "r"(p) : "memory")

/* Lane i: lo[i] below hi[i], rounded like bf16_16 (prelude.cl). */
static inline uint16 bf16_pairs(float16 lo, float16 hi)
{
    const uint16 order = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) * 0x10001u + 0x100000u;
    uint16 pairs;
    __asm__("vcvtne2ps2bf16 %1, %2, %0\n\tvpermw %0, %3, %0" : "=&v"(pairs) : "v"(lo), "v"(hi), "v"(order));
    return pairs;
}

/* C, 32 rows by two panels, += A B for 32 columns. B is used again for the next rows, A only for the next panels. */
#define MULTIPLY(a, b0, b1)                                 \
    do {                                                    \
        TILE_STREAM(4, a, 64);                              \
        TILE_LOAD(6, b0, 64);                               \
        TILE_MULTIPLY(4, 6, 0);                             \
        TILE_STREAM(5, (a) + 256, 64);                      \
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

/* ------------------------------------------------------------------------------------------------------- attention
 * attention_prefill of attention.cl with its products on the unit: queries, keys, values and weights of the softmax are
 * rounded to bf16, sums and the softmax stay in f32. A work-group has `each` tokens, up to QUERIES rows of queries (heads
 * of a token are neighbours), and one key/value head; it goes through the keys in blocks of 64, rounds and packs a block
 * once, and takes 32 rows of queries at a time. What a row of queries does not see has weight 0, so its bits depend on its
 * own blocks alone; only denormals could tell, and become 0.
 *
 * accs : [groups, kv heads, QUERIES, d] f32, weighted sums of values     out : as a product reads it (prelude.cl) */
#define QUERIES 128
#define MOST_D  256                         /* ops/attention.c knows both */

/* Keys [d][64] of a unit as B for 32 dimensions by 16 keys: [4][tiles][16][16] pairs of dimensions, zeros from d on. */
static inline void pack_keys(global const kv_type *unit, int d, int tiles, uint *keys)
{
    for (int j = 0; j < BLOCK / LANES; j++)
        for (int i = 0; i < tiles * 32; i += 2) {
            uint16 pair = 0;
            if (i < d) pair = bf16_pairs(KV_LOAD16(4 * i + j, unit), KV_LOAD16(4 * i + 4 + j, unit));
            vstore16(pair, (j * tiles + i / 32) * 16 + i % 32 / 2, keys);
        }
}

/* Values [64][d] as B for 32 keys by 16 dimensions: [d / 16][2][16][16] pairs of keys; those outside [from, to), which may
 * be anything, as zeros. */
static inline void pack_values(global const kv_type *unit, int d, int from, int to, uint *values)
{
    unit += BLOCK * d;
    for (int i = 0; i < BLOCK; i += 2)
        for (int c = 0; c < d / LANES; c++) {
            float16 lo = 0.0f, hi = 0.0f;
            if (i >= from && i < to) lo = KV_LOAD16(c, unit + i * d);
            if (i + 1 >= from && i + 1 < to) hi = KV_LOAD16(c, unit + (i + 1) * d);
            vstore16(bf16_pairs(lo, hi), c * 32 + i / 2, values);
        }
}

/* One row's scores of a block to weights, in bf16 for the unit; keys [from, to) are seen. l is 8 sums, of every eighth pair of
 * weights each. Returns what older weights shrink by. */
static inline float soften(const float *scores, int from, int to, float scale, float *m, float8 *l, uint *weights)
{
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    float16 s[BLOCK / LANES], top = -INFINITY;
    float8 even = 0.0f, odd = 0.0f;

    for (int j = 0; j < BLOCK / LANES; j++) {
        int16 at = lane + j * LANES;
        s[j] = vload16(j, scores) * scale;
        if (from > 0 || to < BLOCK) s[j] = select((float16)-INFINITY, s[j], at >= from && at < to);
        top = fmax(top, s[j]);
    }
    float before = *m, best = fmax(before, max16(top));
    for (int j = 0; j < BLOCK / LANES; j++) {
        uint8 e = bf16_16(weight16(s[j], best));
        vstore8(e, j % 2, weights + j / 2 * 512);
        even += as_float8(e << 16);
        odd += as_float8(e & 0xffff0000u);
    }
    *m = best;
    if (before == best) {
        *l += even + odd;
        return 1.0f;
    }
    float shrink = exp16((float16)(before - best)).s0;
    *l = fma(*l, (float8)shrink, even + odd);
    return shrink;
}

kernel void attention_prefill_amx(image b, global const float *x, int stride, int q_offset, int d, int group, int kv_heads,
                                  int window, float scale, global const kv_type *ring, int ring_blocks, int slot_units,
                                  global const kv_type *staged, global float *accs, global float *out, int out_tiles,
                                  int out_stride)
{
    int each = QUERIES / group, head = get_global_id(1), tiles = (d + 31) / 32;
    int t = get_global_id(0) * each, end = min(t + each, b[B_N_TOKENS]);
    uint queries[QUERIES * MOST_D / 2], weights[32 * BLOCK / 2];
    uint keys[BLOCK * MOST_D / 2], values[BLOCK * MOST_D / 2];
    float scores[32 * BLOCK], m[QUERIES];
    float8 l[QUERIES];

    if (t >= end) return;
    tiles_begin();
    accs += ((size_t)get_global_id(0) * kv_heads + head) * QUERIES * d;
    for (int next; t < end; t = next) {                                     /* tokens of one row of the batch */
        image row = ROW(b, b[b[B_TOKEN_ROW] + t]);
        int i0 = t - row[ROW_FIRST], past = row[ROW_PAST], align = row[ROW_ALIGN];
        next = min(end, row[ROW_FIRST] + row[ROW_COUNT]);
        int n = (next - t) * group, last = i0 + next - t - 1, oldest = i0 - min(past + i0, window);
        global const kv_type *ring_units = ring + ((size_t)row[ROW_SLOT] * slot_units + head) * UNIT(d);
        global const kv_type *staged_units = staged + (row[ROW_BLOCK] * kv_heads + head) * UNIT(d);

        for (int r = 0; r < (n + 31) / 32 * 32; r++) {
            global const float *q = x + (size_t)(t + r / group) * stride + q_offset + (head * group + r % group) * d;
            uint *to = queries + r / 32 * tiles * 512 + r % 32 * 16;
            m[r] = -INFINITY, l[r] = 0.0f;
            for (int c = 0; c < tiles * 32; c += LANES)
                vstore8(r < n && c < d ? bf16_16(vload16(0, q + c)) : (uint8)0, 0, to + c / 32 * 512 + c % 32 / 2);
            for (int c = 0; c < d; c += LANES) vstore16(0.0f, 0, accs + r * d + c);
        }
        for (int k = (align + oldest) >> 6; k <= (align + last) >> 6; k++) {
            int start = k * BLOCK - align, place = (row[ROW_RING] + k + ring_blocks) % ring_blocks;
            global const kv_type *unit = k < 0 ? ring_units + place * kv_heads * UNIT(d) : staged_units + k * kv_heads * UNIT(d);

            pack_keys(unit, d, tiles, keys);
            pack_values(unit, d, oldest - start, last + 1 - start, values);
            for (int r0 = 0; r0 < n; r0 += 32) {
                int i_low = i0 + r0 / group, i_high = i0 + min(r0 + 31, n - 1) / group;
                if (i_high < start || i_low - min(past + i_low, window) >= start + BLOCK) continue;     /* none sees it */

                for (int j = 0; j < BLOCK / LANES; j += 2) {
                    TILE_ZERO(0);
                    TILE_ZERO(1);
                    TILE_ZERO(2);
                    TILE_ZERO(3);
                    for (int c = 0; c < tiles; c++)
                        MULTIPLY(queries + (r0 / 32 * tiles + c) * 512, keys + (j * tiles + c) * 256,
                                 keys + ((j + 1) * tiles + c) * 256);
                    TILE_STORE(0, scores + j * LANES, 4 * BLOCK);
                    TILE_STORE(1, scores + j * LANES + LANES, 4 * BLOCK);
                    TILE_STORE(2, scores + 16 * BLOCK + j * LANES, 4 * BLOCK);
                    TILE_STORE(3, scores + 16 * BLOCK + j * LANES + LANES, 4 * BLOCK);
                }
                for (int r = 0; r < 32; r++) {
                    int i = i0 + (r0 + r) / group;
                    int from = max(i - min(past + i, window) - start, 0), to = min(i + 1 - start, BLOCK);
                    global float *acc = accs + (r0 + r) * d;

                    if (r0 + r >= n || from >= to) {
                        for (int j = 0; j < BLOCK / LANES; j++)
                            vstore8((uint8)0, j % 2, weights + r * 16 + j / 2 * 512);
                        continue;
                    }
                    float shrink = soften(scores + r * BLOCK, from, to, scale, &m[r0 + r], &l[r0 + r], weights + r * 16);
                    if (shrink == 1.0f) continue;
                    for (int c = 0; c < d; c += LANES) vstore16(vload16(0, acc + c) * shrink, 0, acc + c);
                }
                for (int c = 0; c < d / LANES; c += 2) {
                    int c1 = min(c + 1, d / LANES - 1);
                    global float *acc0 = accs + r0 * d + c * LANES, *acc1 = accs + r0 * d + c1 * LANES;
                    long line = 4 * (long)d;

                    TILE_LOAD(0, acc0, line);
                    TILE_LOAD(1, acc1, line);
                    TILE_LOAD(2, acc0 + 16 * d, line);
                    TILE_LOAD(3, acc1 + 16 * d, line);
                    for (int j = 0; j < 2; j++)
                        MULTIPLY(weights + j * 512, values + (c * 2 + j) * 256, values + (c1 * 2 + j) * 256);
                    TILE_STORE(1, acc1, line);              /* before 0 and 2, which are the same where there is one left */
                    TILE_STORE(3, acc1 + 16 * d, line);
                    TILE_STORE(0, acc0, line);
                    TILE_STORE(2, acc0 + 16 * d, line);
                }
            }
        }
        for (int r = 0; r < n; r++) {
            float sum = sum16((float16)(l[r], (float8)0.0f));
            for (int c = 0; c < d; c += LANES) {
                float16 v = vload16(0, accs + r * d + c);
                v = select(v, (float16)0.0f, fabs(v) < 0x1p-126f);
                put_row16(v / sum, out, out_tiles, out_stride, t + r / group, (head * group + r % group) * d + c,
                          kv_heads * group * d);
            }
        }
    }
    tiles_end();
}
