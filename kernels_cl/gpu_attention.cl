/* gpu_attention.cl - rope.cl and attention.cl on GPUs, on the same ring of the same blocks, with arguments and letters of
 * theirs. Decode rotates and writes in launches of their own.
 *
 * A work-group of 256 has a tile of 16 queries that share a key/value head: query heads of one token, or in prefill of tokens of
 * the same block. It goes through blocks of 64 keys. Work-item (set, j) has queries 4 set, ... 4 set + 3, and key j of the
 * block for the scores, column j of 64 for the values. A query's maximum and sum are kept by all 64 work-items of its set. For
 * a query that sees nothing of a block, going through it changes no bit, so it does not matter which queries are together. */
#define QUERIES 16
#define SPLIT   4                   /* blocks of a work-group in decode; ops/attention.c knows it too */
#define UNIT(d) ((size_t)2 * BLOCK * (d))

#ifdef KV_F16
#define KV_LOAD(i, p) vload_half(i, p)
#else
#define KV_LOAD(i, p) ((p)[i])
#endif

kernel WORK_GROUP(64) void gpu_rope(image b, global float *x, int stride, int offset, int heads, int d, int rotary)
{
    int half_turn = rotary / 2, head = get_global_id(0) / half_turn, j = get_global_id(0) % half_turn, t = get_global_id(1);
    if (head >= heads || t >= b[B_N_TOKENS]) return;
    image angles = b + b[B_ROPE] + t * rotary;
    float c = as_float(angles[j]), s = as_float(angles[half_turn + j]);

    x += (size_t)t * stride + offset + head * d;
    float x0 = x[j], x1 = x[half_turn + j];
    x[j] = fma(x0, c, -(x1 * s));
    x[half_turn + j] = fma(x1, c, x0 * s);
}

/* What one work-item knows of its four queries. */
typedef struct queries {
    global const float *q[4];
    global float       *acc[4];     /* [d]: weighted values; NULL: there is no such query */
    int                 from[4], to[4];     /* keys of the block that it sees */
    float               m[4], l[4];         /* maximum and sum */
} queries;

/* One block. */
static inline void attend(queries *own, global const kv_type *unit, int d, float scale, local float (*q)[BLOCK],
                          local float (*p)[BLOCK])
{
    global const kv_type *values = unit + (size_t)BLOCK * d;
    int j = get_local_id(0) % BLOCK, first = get_local_id(0) / BLOCK * 4;
    float s[4] = { 0.0f, 0.0f, 0.0f, 0.0f }, shrink[4];

    for (int i0 = 0; i0 < d; i0 += BLOCK) {
        for (int r = 0; r < 4; r++) q[first + r][j] = i0 + j < d ? own->q[r][i0 + j] : 0.0f;
        SYNC();
        for (int i = 0; i < min(BLOCK, d - i0); i++) {
            float key = KV_LOAD((i0 + i) * BLOCK + j, unit);
            for (int r = 0; r < 4; r++) s[r] = fma(key, q[first + r][i], s[r]);
        }
        SYNC();
    }
    for (int r = 0; r < 4; r++) {
        s[r] = j >= own->from[r] && j < own->to[r] ? s[r] * scale : -INFINITY;
        p[first + r][j] = s[r];
    }
    SYNC();
    for (int r = 0; r < 4; r++) {
        float best = own->m[r];
        for (int i = 0; i < BLOCK; i++) best = fmax(best, p[first + r][i]);
        shrink[r] = own->m[r] == best ? 1.0f : exp1(own->m[r] - best);
        s[r] = s[r] == -INFINITY ? 0.0f : exp1(s[r] - best);
        own->m[r] = best;
    }
    SYNC();
    for (int r = 0; r < 4; r++) p[first + r][j] = s[r];
    SYNC();
    for (int r = 0; r < 4; r++) {
        float sum = 0.0f;
        for (int i = 0; i < BLOCK; i++) sum += p[first + r][i];
        own->l[r] = fma(own->l[r], shrink[r], sum);
    }
    int from = min(min(own->from[0], own->from[1]), min(own->from[2], own->from[3]));
    int to = max(max(own->to[0], own->to[1]), max(own->to[2], own->to[3]));
    for (int c = j; c < d; c += BLOCK) {
        float o[4];
        for (int r = 0; r < 4; r++) o[r] = own->acc[r] ? own->acc[r][c] * shrink[r] : 0.0f;
        for (int i = from; i < to; i++) {
            float value = KV_LOAD((size_t)i * d + c, values);
            for (int r = 0; r < 4; r++)                                     /* what it does not see may be anything */
                if (i >= own->from[r] && i < own->to[r]) o[r] = fma(value, p[first + r][i], o[r]);
        }
        for (int r = 0; r < 4; r++)
            if (own->acc[r]) own->acc[r][c] = o[r];
    }
    SYNC();
}

static inline void begin(queries *own, int r, global const float *q, global float *acc, int d)
{
    own->q[r] = q;
    own->acc[r] = acc;
    own->from[r] = own->to[r] = 0;
    own->m[r] = -INFINITY;
    own->l[r] = 0.0f;
    for (int c = get_local_id(0) % BLOCK; acc && c < d; c += BLOCK) acc[c] = 0.0f;
}

/* --------------------------------------------------------------------------------------------------------- prefill */

/* 16 dimensions of a block, (block, key/value head, dimensions): positions before the row's first token from the ring, the others
 * from x. Work-items are neighbours along the positions of keys and along the dimensions of values. */
kernel WORK_GROUP(256) void gpu_attention_stage(image b, global const float *x, int stride, int k_offset, int v_offset,
                                                int d, int kv_heads, global const kv_type *ring, int slot_units,
                                                global kv_type *staged)
{
    int k = get_group_id(0), head = get_group_id(1), d0 = get_group_id(2) * LANES, id = get_local_id(0);
    if (k >= b[B_N_BLOCKS]) return;
    image row = ROW(b, b[b[B_BLOCKS] + k]);
    int start = (k - row[ROW_BLOCK]) * BLOCK - row[ROW_ALIGN];

    staged += (k * kv_heads + head) * UNIT(d);
    ring += ((size_t)row[ROW_SLOT] * slot_units + row[ROW_RING] * kv_heads + head) * UNIT(d);
    for (int e = id; e < 2 * BLOCK * LANES; e += 256) {
        int key = e < BLOCK * LANES;
        int position = key ? e % BLOCK : e / LANES - BLOCK, i = d0 + (key ? e / BLOCK : e % LANES);
        int place = key ? i * BLOCK + position : (BLOCK + position) * d + i, t = start + position;
        if (t >= row[ROW_COUNT]) continue;
        if (t < 0) ((global kv_bits *)staged)[place] = ((global const kv_bits *)ring)[place];
        else KV_STORE(x[(size_t)(row[ROW_FIRST] + t) * stride + (key ? k_offset : v_offset) + head * d + i], place, staged);
    }
}

/* (block, key/value head, tile of the block's queries). */
kernel WORK_GROUP(256) void gpu_attention_prefill(image b, global const float *x, int stride, int q_offset, int d,
                                                  int group, int kv_heads, int window, float scale,
                                                  global const kv_type *ring, int ring_blocks, int slot_units,
                                                  global const kv_type *staged, global float *out, int out_stride)
{
    local float q[QUERIES][BLOCK], p[QUERIES][BLOCK];
    int block = get_group_id(0), head = get_group_id(1), tile = get_group_id(2) * QUERIES, set = get_local_id(0) / BLOCK;
    int live = block < b[B_N_BLOCKS];
    image row = ROW(b, live ? b[b[B_BLOCKS] + block] : 0);
    int align = row[ROW_ALIGN], start = (block - row[ROW_BLOCK]) * BLOCK - align;
    int first = max(start, 0), n = live ? (min(start + BLOCK, row[ROW_COUNT]) - first) * group : 0;
    int token[4];
    queries own;

    x += (size_t)row[ROW_FIRST] * stride + q_offset + head * group * d;
    out += (size_t)row[ROW_FIRST] * out_stride + head * group * d;
    ring += ((size_t)row[ROW_SLOT] * slot_units + head) * UNIT(d);
    staged += (row[ROW_BLOCK] * kv_heads + head) * UNIT(d);
    for (int r = 0; r < 4; r++) {
        int f = tile + set * 4 + r, there = f < n;
        if (!there) f = 0;
        token[r] = first + f / group;
        begin(&own, r, x + (size_t)token[r] * stride + f % group * d,
              there ? out + (size_t)token[r] * out_stride + f % group * d : 0, d);
    }
    int oldest = first + tile / group, newest = first + (min(tile + QUERIES, n) - 1) / group;
    oldest -= min(row[ROW_PAST] + oldest, window);
    int k = (align + oldest) >> 6, end = tile < n ? ((align + newest) >> 6) + 1 : k;
    for (; k < end; k++) {
        int begins = k * BLOCK - align, place = (row[ROW_RING] + k + ring_blocks) % ring_blocks;
        for (int r = 0; r < 4; r++) {
            own.from[r] = max(token[r] - min(row[ROW_PAST] + token[r], window) - begins, 0);
            own.to[r] = own.acc[r] ? min(token[r] + 1 - begins, BLOCK) : 0;
        }
        attend(&own, k < 0 ? ring + place * kv_heads * UNIT(d) : staged + k * kv_heads * UNIT(d), d, scale, q, p);
    }
    for (int r = 0; r < 4; r++)
        for (int c = get_local_id(0) % BLOCK; own.acc[r] && c < d; c += BLOCK) own.acc[r][c] /= own.l[r];
}

/* (block, key/value head, dimensions), as staged. */
kernel WORK_GROUP(256) void gpu_attention_store(image b, int d, int kv_heads, global const kv_type *staged,
                                                global kv_type *ring, int ring_blocks, int slot_units)
{
    int k = get_group_id(0), head = get_group_id(1), d0 = get_group_id(2) * LANES, id = get_local_id(0);
    if (k >= b[B_N_BLOCKS]) return;
    image row = ROW(b, b[b[B_BLOCKS] + k]);
    int start = (k - row[ROW_BLOCK]) * BLOCK - row[ROW_ALIGN];
    int place = (row[ROW_RING] + k - row[ROW_BLOCK]) % ring_blocks;
    int from = max(max(0, row[ROW_COUNT] - ring_blocks * BLOCK) - start, 0), to = min(row[ROW_COUNT] - start, BLOCK);
    global const kv_bits *in = (global const kv_bits *)(staged + (k * kv_heads + head) * UNIT(d));
    global kv_bits *kept = (global kv_bits *)(ring + ((size_t)row[ROW_SLOT] * slot_units + place * kv_heads + head) * UNIT(d));

    for (int e = id; e < 2 * BLOCK * LANES; e += 256) {
        int key = e < BLOCK * LANES;
        int position = key ? e % BLOCK : e / LANES - BLOCK, i = d0 + (key ? e / BLOCK : e % LANES);
        int at = key ? i * BLOCK + position : (BLOCK + position) * d + i;
        if (position >= from && position < to) kept[at] = in[at];
    }
}

/* ---------------------------------------------------------------------------------------------------------- decode */

#define PART_SIZE(d) (LANES + (d))

static inline int splits_of(image row, int window, int *from)
{
    *from = (row[ROW_ALIGN] - min(row[ROW_PAST], window)) >> 6;
    return (SPLIT - *from) / SPLIT;
}

/* The new key and value to the ring: (64 dimensions, key/value head, row). */
kernel WORK_GROUP(64) void gpu_attention_put(image b, global const float *x, int stride, int k_offset, int v_offset,
                                             int d, int kv_heads, global kv_type *ring, int slot_units)
{
    int i = get_global_id(0), head = get_global_id(1), r = get_global_id(2);
    if (i >= d || r >= b[B_N_ROWS]) return;
    image row = ROW(b, r);

    x += (size_t)row[ROW_FIRST] * stride + head * d + i;
    ring += ((size_t)row[ROW_SLOT] * slot_units + row[ROW_RING] * kv_heads + head) * UNIT(d);
    KV_STORE(x[k_offset], i * BLOCK + row[ROW_ALIGN], ring);
    KV_STORE(x[v_offset], (BLOCK + row[ROW_ALIGN]) * d + i, ring);
}

/* (split, tile of a key/value head's query heads, row).
 * parts : [rows, query heads, splits, 16 + d] f32: maximum, sum, weighted values from the 16th on. */
kernel WORK_GROUP(256) void gpu_attention_decode(image b, global const float *x, int stride, int q_offset, int d,
                                                 int group, int kv_heads, int window, float scale,
                                                 global const kv_type *ring, int ring_blocks, int slot_units,
                                                 global float *parts, int splits)
{
    local float q[QUERIES][BLOCK], p[QUERIES][BLOCK];
    int tiles = (group + QUERIES - 1) / QUERIES, split = get_group_id(0), r0 = get_group_id(2);
    int head = get_group_id(1) / tiles, tile = get_group_id(1) % tiles * QUERIES, set = get_local_id(0) / BLOCK;
    int live = r0 < b[B_N_ROWS], from;
    image row = ROW(b, live ? r0 : 0);
    int n = splits_of(row, window, &from), align = row[ROW_ALIGN], oldest = -min(row[ROW_PAST], window);
    queries own;

    live = live && split < n;
    x += (size_t)row[ROW_FIRST] * stride + q_offset + head * group * d;
    parts += (((size_t)r0 * kv_heads + head) * group * splits + split) * PART_SIZE(d) + LANES;
    ring += ((size_t)row[ROW_SLOT] * slot_units + head) * UNIT(d);
    for (int r = 0; r < 4; r++) {
        int h = tile + set * 4 + r, there = live && h < group;
        if (!there) h = 0;
        begin(&own, r, x + h * d, there ? parts + (size_t)h * splits * PART_SIZE(d) : 0, d);
    }
    int k = from + split * SPLIT, end = live ? min(k + SPLIT, 1) : k;
    for (; k < end; k++) {
        int begins = k * BLOCK - align, place = (row[ROW_RING] + k + ring_blocks) % ring_blocks;
        for (int r = 0; r < 4; r++) {
            own.from[r] = max(oldest - begins, 0);
            own.to[r] = own.acc[r] ? min(1 - begins, BLOCK) : 0;
        }
        attend(&own, ring + place * kv_heads * UNIT(d), d, scale, q, p);
    }
    for (int r = 0; r < 4; r++)
        if (own.acc[r] && get_local_id(0) % BLOCK == 0) {
            own.acc[r][-LANES] = own.m[r];
            own.acc[r][1 - LANES] = own.l[r];
        }
}

/* The splits of a head, in ascending order: (query head, row). */
kernel WORK_GROUP(64) void gpu_attention_combine(image b, global const float *parts, int splits, int d, int heads,
                                                 int window, global float *out, int out_stride)
{
    int head = get_group_id(0), r = get_group_id(1), from;
    if (r >= b[B_N_ROWS]) return;
    image row = ROW(b, r);
    int n = splits_of(row, window, &from);
    float best = -INFINITY, sum = 0.0f;

    parts += ((size_t)r * heads + head) * splits * PART_SIZE(d);
    out += (size_t)row[ROW_FIRST] * out_stride + head * d;
    for (int k = 0; k < n; k++) best = fmax(best, parts[k * PART_SIZE(d)]);
    for (int k = 0; k < n; k++) sum = fma(parts[k * PART_SIZE(d) + 1], exp1(parts[k * PART_SIZE(d)] - best), sum);
    for (int c = get_local_id(0); c < d; c += 64) {
        float v = 0.0f;
        for (int k = 0; k < n; k++) v = fma(parts[k * PART_SIZE(d) + LANES + c], exp1(parts[k * PART_SIZE(d)] - best), v);
        out[c] = v / sum;
    }
}
