/* attention.cl - local (or global) multi-query attention on a ring of keys and values.
 *
 * A query at position t sees the keys at positions s with 0 <= t - s <= window. Keys and values live in blocks of 64
 * positions that start at multiples of 64; one block of one key/value head is a unit of 2 * 64 * d elements:
 *     keys   [d][64]      values   [64][d]
 * Keys are transposed so that the scores of a block are sums of vectors over positions, without a horizontal sum.
 * A slot's ring is [ring_blocks][kv heads] units, position p in block (p / 64) mod ring_blocks; it holds more than
 * `window` positions, so decode writes first and then reads. Prefill stages the blocks that the chunk touches in scratch
 * (older positions of the first block copied from the ring), reads older blocks from the ring and these from scratch,
 * and writes to the ring last. Blocks are visited in ascending order of position and every key passes through the ring's
 * type, so results do not depend on where the chunks of a prompt begin, if at multiples of 64.
 *
 * Positions are counted relative to the row's first token here, since positions themselves have no bound.
 *
 * x : [tokens, stride] f32, q, k and v in columns of it     d : padded head dimension, zeros
 * group : query heads that share a key/value head           scale : d^-1/2 of the true d */

/* Accumulators: up to HEADS query heads by VECTORS float16, so many at a time. program.c chooses them by the device's vectors. */
#ifndef HEADS
#define HEADS   10                  /* 1 4 10: each key is read once for so many heads */
#define VECTORS 2                   /* 1 2 */
#endif

enum { MAX_GROUP = 128 };           /* most query heads that share a key/value head; ops/attention.c knows it too */
enum { SPLIT = 4 };                 /* blocks that one work-item of the decode kernel goes through; ditto */

#define UNIT(d) ((size_t)2 * BLOCK * (d))

/* Loops over keys ask for the block's values, those over values for the next block's keys, turn by turn as much as they read: they
 * have so much to do with each that a core does not look far enough ahead by itself. So memory is busy all the time. */
#define COLUMNS (VECTORS * LANES)
#define LINES_OF_TURN ((COLUMNS * (int)sizeof(kv_type) + 63) / 64)
#define ASK_FOR_TURN(pairs, turn)                                                                   \
    for (int line = 0; line < LINES_OF_TURN; line++)                                                \
        ASK_FOR((global const char *)((pairs) + (size_t)(turn) * COLUMNS) + 64 * line)

/* One block for `heads` heads, a constant: m, l and acc are the running maximum, sum and weighted values of the softmax
 * (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Keys [from, to) of the block are seen. Heads
 * from `last` on are that one once more, and are not counted. */
__attribute__((always_inline))
static inline void attend_heads(const int heads, int last, bool ask, global const kv_type *unit, global const kv_type *next,
                                int from, int to, global const float *q, int q_stride, int d, float scale, global float *acc,
                                int acc_stride, float *m, float *l)
{
    global const kv_type *values = unit + (size_t)BLOCK * d;
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    float p[HEADS][BLOCK], before[HEADS], shrink[HEADS];
    global const float *query[HEADS];
    global float *sum_of[HEADS];

#pragma unroll
    for (int g = 0; g < heads; g++) {
        before[g] = m[min(g, last)];
        query[g] = q + min(g, last) * q_stride;
        sum_of[g] = acc + min(g, last) * acc_stride;
    }
    for (int j0 = 0; j0 < BLOCK / LANES; j0 += VECTORS) {
        float16 s[HEADS][VECTORS];
#pragma unroll
        for (int g = 0; g < heads; g++)
#pragma unroll
            for (int j = 0; j < VECTORS; j++) s[g][j] = 0.0f;
        for (int i = 0; i < d; i++) {
            float16 key[VECTORS];
            if (ask) ASK_FOR_TURN(values, j0 / VECTORS * d + i);
#pragma unroll
            for (int j = 0; j < VECTORS; j++) key[j] = KV_LOAD16(4 * i + j0 + j, unit);
#pragma unroll
            for (int g = 0; g < heads; g++) {
                float16 qi = query[g][i];
#pragma unroll
                for (int j = 0; j < VECTORS; j++) s[g][j] = fma(key[j], qi, s[g][j]);
            }
        }
#pragma unroll
        for (int g = 0; g < heads; g++)
#pragma unroll
            for (int j = 0; j < VECTORS; j++) vstore16(s[g][j], j0 + j, p[g]);
    }
    for (int g = 0; g < heads; g++) {
        float16 top = -INFINITY, sum = 0.0f;
        for (int j = 0; j < BLOCK / LANES; j++) {
            int16 at = lane + j * LANES;
            float16 s = select((float16)-INFINITY, vload16(j, p[g]) * scale, at >= from && at < to);
            vstore16(s, j, p[g]);
            top = fmax(top, s);
        }
        float best = fmax(before[g], max16(top));
        for (int j = 0; j < BLOCK / LANES; j++) {
            float16 e = weight16(vload16(j, p[g]), best);
            vstore16(e, j, p[g]);
            sum += e;
        }
        shrink[g] = exp(before[g] - best);
        if (g <= last) {
            l[g] = fma(l[g], shrink[g], sum16(sum));
            m[g] = best;
        }
    }
    for (int c0 = 0; c0 < d; c0 += COLUMNS) {
        float16 o[HEADS][VECTORS];
        int column[VECTORS];
#pragma unroll
        for (int j = 0; j < VECTORS; j++) column[j] = min(c0 + j * LANES, d - LANES);
#pragma unroll
        for (int g = 0; g < heads; g++)
#pragma unroll
            for (int j = 0; j < VECTORS; j++) o[g][j] = vload16(0, sum_of[g] + column[j]) * shrink[g];
        for (int i = from; i < to; i++) {
            float16 value[VECTORS];
            if (ask) ASK_FOR_TURN(next, c0 / COLUMNS * BLOCK + i);
#pragma unroll
            for (int j = 0; j < VECTORS; j++) value[j] = KV_LOAD16(0, values + (size_t)i * d + column[j]);
#pragma unroll
            for (int g = 0; g < heads; g++)
#pragma unroll
                for (int j = 0; j < VECTORS; j++) o[g][j] = fma(value[j], (float16)p[g][i], o[g][j]);
        }
#pragma unroll
        for (int g = 0; g < heads; g++)
#pragma unroll
            for (int j = 0; j < VECTORS; j++) vstore16(o[g][j], 0, sum_of[g] + column[j]);
    }
}

/* One block for all heads of a group, as even a number of them at a time as can be. `next`, whose keys are asked for, is the block
 * itself where blocks are in the caches anyway. */
static inline void attend(global const kv_type *unit, global const kv_type *next, int from, int to, global const float *q,
                          int q_stride, int d, int group, float scale, global float *acc, int acc_stride, float *m, float *l)
{
    int turns = (group + HEADS - 1) / HEADS, some = (group + turns - 1) / turns;

    for (int h = 0; h < group; h += some) {
        int last = min(some, group - h) - 1;
#define ATTEND(heads) attend_heads(heads, last, h == 0, unit, next, from, to, q + h * q_stride, q_stride, d, scale, \
                                   acc + h * acc_stride, acc_stride, m + h, l + h)
#if HEADS == 10
        if (some > 8) ATTEND(10);
        else if (some > 6) ATTEND(8);
        else if (some > 4) ATTEND(6);
        else ATTEND(4);
#else
        ATTEND(HEADS);
#endif
#undef ATTEND
    }
}

/* Copies one position (key column, value row) from unit to unit. */
static inline void copy_position(global const kv_type *from_unit, global kv_type *to_unit, int lane, int d)
{
    global const kv_bits *from = (global const kv_bits *)from_unit;
    global kv_bits *to = (global kv_bits *)to_unit;
    for (int i = 0; i < d; i++) to[i * BLOCK + lane] = from[i * BLOCK + lane];
    for (int i = 0; i < d; i++) to[(BLOCK + lane) * d + i] = from[(BLOCK + lane) * d + i];
}

/* Writes the key and value of a token into its place in a unit. */
static inline void put_position(global const float *k, global const float *v, global kv_type *unit, int lane, int d)
{
    for (int i = 0; i < d; i++) KV_STORE(k[i], i * BLOCK + lane, unit);
    for (int i = 0; i < d; i += LANES) KV_STORE16(vload16(0, v + i), 0, unit + (BLOCK + lane) * d + i);
}

/* --------------------------------------------------------------------------------------------------------- prefill */

/* Fills the staged blocks. One work-group a block and key/value head. */
kernel void attention_stage(image b, global const float *x, int stride, int k_offset, int v_offset, int d, int kv_heads,
                            global const kv_type *ring, int slot_units, global kv_type *staged)
{
    int k = get_global_id(0), head = get_global_id(1);
    if (k >= b[B_N_BLOCKS]) return;
    image row = ROW(b, b[b[B_BLOCKS] + k]);
    int start = (k - row[ROW_BLOCK]) * BLOCK - row[ROW_ALIGN];

    staged += (k * kv_heads + head) * UNIT(d);
    ring += ((size_t)row[ROW_SLOT] * slot_units + row[ROW_RING] * kv_heads + head) * UNIT(d);
    for (int lane = 0; lane < BLOCK && start + lane < row[ROW_COUNT]; lane++) {
        if (start + lane < 0) {
            copy_position(ring, staged, lane, d);
            continue;
        }
        global const float *token = x + (size_t)(row[ROW_FIRST] + start + lane) * stride + head * d;
        put_position(token + k_offset, token + v_offset, staged, lane, d);
    }
}

/* One work-group a token and key/value head. */
kernel void attention_prefill(image b, global const float *x, int stride, int q_offset, int d, int group, int kv_heads,
                              int window, float scale, global const kv_type *ring, int ring_blocks, int slot_units,
                              global const kv_type *staged, global float *out, int out_stride)
{
    int t = get_global_id(0), head = get_global_id(1);
    if (t >= b[B_N_TOKENS]) return;
    image row = ROW(b, b[b[B_TOKEN_ROW] + t]);
    int i = t - row[ROW_FIRST], align = row[ROW_ALIGN];
    int oldest = i - min(row[ROW_PAST] + i, window);
    float m[MAX_GROUP], l[MAX_GROUP];

    x += (size_t)t * stride + q_offset + head * group * d;
    out += (size_t)t * out_stride + head * group * d;
    ring += ((size_t)row[ROW_SLOT] * slot_units + head) * UNIT(d);
    staged += (row[ROW_BLOCK] * kv_heads + head) * UNIT(d);
    for (int h = 0; h < group; h++) m[h] = -INFINITY, l[h] = 0.0f;
    for (int c = 0; c < group * d; c += LANES) vstore16(0.0f, 0, out + c);

    for (int k = (align + oldest) >> 6; k <= (align + i) >> 6; k++) {
        int start = k * BLOCK - align;
        int place = (row[ROW_RING] + k + ring_blocks) % ring_blocks;
        global const kv_type *unit = k < 0 ? ring + place * kv_heads * UNIT(d) : staged + k * kv_heads * UNIT(d);
        attend(unit, unit, max(oldest - start, 0), min(i + 1 - start, BLOCK), x, d, d, group, scale, out, d, m, l);
    }
    for (int h = 0; h < group; h++)
        for (int c = 0; c < d; c += LANES) vstore16(vload16(0, out + h * d + c) / l[h], 0, out + h * d + c);
}

/* The staged positions that the ring keeps go there. One work-group a block and key/value head. */
kernel void attention_store(image b, int d, int kv_heads, global const kv_type *staged, global kv_type *ring,
                            int ring_blocks, int slot_units)
{
    int k = get_global_id(0), head = get_global_id(1);
    if (k >= b[B_N_BLOCKS]) return;
    image row = ROW(b, b[b[B_BLOCKS] + k]);
    int start = (k - row[ROW_BLOCK]) * BLOCK - row[ROW_ALIGN];
    int place = (row[ROW_RING] + k - row[ROW_BLOCK]) % ring_blocks;
    int from = max(max(0, row[ROW_COUNT] - ring_blocks * BLOCK) - start, 0), to = min(row[ROW_COUNT] - start, BLOCK);

    staged += (k * kv_heads + head) * UNIT(d);
    ring += ((size_t)row[ROW_SLOT] * slot_units + place * kv_heads + head) * UNIT(d);
    for (int lane = from; lane < to; lane++) copy_position(staged, ring, lane, d);
}

/* ---------------------------------------------------------------------------------------------------------- decode */

#define PART_SIZE(d) (LANES + 2 * (d))

/* Blocks [*from, *to] that the row's token sees, block 0 being its own, and how many splits they make. */
static inline int splits_of(image row, int window, int *from)
{
    *from = (row[ROW_ALIGN] - min(row[ROW_PAST], window)) >> 6;
    return (SPLIT - *from) / SPLIT;                                         /* ceil((1 - from) / SPLIT) */
}

/* Which of n live splits work-group g of `splits` has; -1: none. Those that have one are spread evenly: devices that deal out groups by
 * the stretch would give all splits of a window that is filling up to one core. */
static inline int live_split(int g, int n, int splits)
{
    int split = (int)((long)g * n / splits);
    return g > 0 && (int)((long)(g - 1) * n / splits) == split ? -1 : split;
}

/* One pass over keys and values for all heads of the group, SPLIT blocks a work-group: (split, key/value head, row). That of
 * the newest block first puts the new key and value there, which nobody else looks at. Queries and keys are rotated here.
 * parts : [rows, query heads, splits, 16 + 2 d] f32: maximum, sum, weighted values, then the query. */
kernel void attention_decode(image b, global float *x, int stride, int q_offset, int k_offset, int v_offset, int rotary, int d,
                             int group, int kv_heads, int window, float scale, global kv_type *ring, int ring_blocks,
                             int slot_units, global float *parts, int splits)
{
    int head = get_global_id(1), from;
    if ((int)get_global_id(2) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(2)), angles = b + b[B_ROPE] + row[ROW_FIRST] * rotary;
    int n = splits_of(row, window, &from), split = live_split(get_global_id(0), n, splits);
    if (split < 0) return;
    int align = row[ROW_ALIGN], oldest = -min(row[ROW_PAST], window);
    int part = splits * PART_SIZE(d);                                       /* from head to head */
    float m[MAX_GROUP], l[MAX_GROUP];

    x += (size_t)row[ROW_FIRST] * stride;
    parts += ((size_t)get_global_id(2) * kv_heads + head) * group * part + split * PART_SIZE(d);
    ring += ((size_t)row[ROW_SLOT] * slot_units + head) * UNIT(d);
    if (split == n - 1) {
        global float *k = x + k_offset + head * d;
        rotate_head(k, angles, rotary, k);
        put_position(k, x + v_offset + head * d, ring + row[ROW_RING] * kv_heads * UNIT(d), align, d);
    }
    for (int h = 0; h < group; h++) {
        global const float *q = x + q_offset + (head * group + h) * d;
        global float *acc = parts + h * part + LANES;
        m[h] = -INFINITY, l[h] = 0.0f;
        for (int c = 0; c < d; c += LANES) {
            vstore16(0.0f, 0, acc + c);
            vstore16(vload16(0, q + c), 0, acc + d + c);
        }
        rotate_head(q, angles, rotary, acc + d);
    }
    for (int k = from + split * SPLIT; k <= min(from + split * SPLIT + SPLIT - 1, 0); k++) {
        int start = k * BLOCK - align;
        int place = (row[ROW_RING] + k + ring_blocks) % ring_blocks, next = place + 1 < ring_blocks ? place + 1 : 0;
        attend(ring + place * kv_heads * UNIT(d), ring + next * kv_heads * UNIT(d), max(oldest - start, 0), min(1 - start, BLOCK),
               parts + LANES + d, part, d, group, scale, parts + LANES, part, m, l);
    }
    for (int h = 0; h < group; h++) {
        parts[h * part] = m[h];
        parts[h * part + 1] = l[h];
    }
}

/* The splits of a head, in ascending order, to its result. One work-group a query head and row. */
kernel void attention_combine(image b, global const float *parts, int splits, int d, int heads, int window,
                              global float *out, int out_stride)
{
    int head = get_global_id(0), from;
    if ((int)get_global_id(1) >= b[B_N_ROWS]) return;
    image row = ROW(b, get_global_id(1));
    int n = splits_of(row, window, &from);
    float best = -INFINITY, sum = 0.0f;

    parts += ((size_t)get_global_id(1) * heads + head) * splits * PART_SIZE(d);
    out += (size_t)row[ROW_FIRST] * out_stride + head * d;
    for (int k = 0; k < n; k++) best = fmax(best, parts[k * PART_SIZE(d)]);
    for (int k = 0; k < n; k++) sum = fma(parts[k * PART_SIZE(d) + 1], exp(parts[k * PART_SIZE(d)] - best), sum);
    for (int c = 0; c < d; c += LANES) {
        float16 v = 0.0f;
        for (int k = 0; k < n; k++)
            v = fma(vload16(0, parts + k * PART_SIZE(d) + LANES + c), (float16)exp(parts[k * PART_SIZE(d)] - best), v);
        vstore16(v / sum, 0, out + c);
    }
}
