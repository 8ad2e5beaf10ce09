/* gpu_head.cl - head.cl's two launches on GPUs: a work-group of 256 a segment and row, then one a row. Arguments, parts and
 * results are head.cl's; so are the candidates, and what becomes of equals and NaNs. A work-item has a run of neighbours. */

/* Keys order like the floats; 0 is below all that are counted. */
static inline void keys_of(const float *x, uint *keys, int n, int live)
{
    for (int i = 0; i < n; i++) keys[i] = i < live ? key_of(x[i]) : 0;
}

/* Sum, or maximum, over the group. */
static inline float sum_of_group(float mine, local float *parts)
{
    int id = get_local_id(0);
    parts[id] = mine;
    SYNC();
    for (int half_way = 128; half_way > 0; half_way /= 2) {
        if (id < half_way) parts[id] += parts[id + half_way];
        SYNC();
    }
    float all = parts[0];
    SYNC();
    return all;
}

static inline float max_of_group(float mine, local float *parts)
{
    int id = get_local_id(0);
    parts[id] = mine;
    SYNC();
    for (int half_way = 128; half_way > 0; half_way /= 2) {
        if (id < half_way) parts[id] = fmax(parts[id], parts[id + half_way]);
        SYNC();
    }
    float all = parts[0];
    SYNC();
    return all;
}

/* Of all work-items before this one. */
static inline int sum_before(int mine, local int *counts)
{
    int id = get_local_id(0), sum = 0;
    counts[id] = mine;
    SYNC();
    for (int i = 0; i < 256; i++) sum += i < id ? counts[i] : 0;
    SYNC();
    return sum;
}

kernel WORK_GROUP(256) void gpu_head_segments(image b, global float *logits, int stride, int V, int skip, int most,
                                              float cap, global float *parts, int segments, global float *results)
{
    local float shared[256];
    local int passes[33], counts[256];
    int r = get_group_id(1), first = get_group_id(0) * SEGMENT, id = get_local_id(0);
    int live = r < min(b[B_N_WANTED] - skip, most), n = live ? min(V - first, SEGMENT) : 0;
    int target = live ? b[b[B_TARGETS] + skip + r] : 0, mine = clamp(n - id * LANES, 0, LANES);
    global float *x = logits + (size_t)r * stride + first + id * LANES;
    global float *part = parts + ((size_t)r * segments + get_group_id(0)) * PART;
    float values[LANES];
    uint keys[LANES];
    float16 v = -INFINITY;

    if (id < 33) passes[id] = 0;
    if (mine > 0) {
        v = vload16(0, x);
        if (cap > 0.0f) v = cap * tanh16(v / cap);
        v = select((float16)-INFINITY, v, (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) < mine);
        vstore16(v, 0, x);
    }
    vstore16(v, 0, values);
    keys_of(values, keys, LANES, mine);
    float best = max_of_group(max16(v), shared);
    float sum = sum_of_group(sum16(exp16(v - best)), shared);
    if (live && id == 0) part[0] = best, part[1] = sum;
    for (int i = 0; i < mine; i++)
        if (target == first + id * LANES + i) results[(size_t)(skip + r) * RESULT + 1] = values[i];

    int wanted = live && target < 0, choose = wanted && n > CANDIDATES;
    uint kth = 0;
    for (int pass = 0; pass < (choose ? 33 : 0); pass++) {                  /* the last counts what is above the k-th */
        uint least = pass < 32 ? kth | 0x80000000u >> pass : kth + 1;
        int count = 0;
        for (int i = 0; i < LANES; i++) count += least != 0 && keys[i] >= least;
        atomic_add(&passes[pass], count);
        SYNC();
        if (pass < 32 && passes[pass] >= CANDIDATES) kth = least;
    }
    int ties = 0, above = 0, room = CANDIDATES - passes[32];
    for (int i = 0; i < mine; i++) {
        ties += choose && keys[i] == kth;
        above += !choose || keys[i] > kth;
    }
    room = clamp(room - sum_before(ties, counts), 0, ties);
    int out = sum_before(above + room, counts);
    for (int i = 0; i < mine && wanted; i++) {
        if (choose && (keys[i] < kth || (keys[i] == kth && room-- <= 0))) continue;
        WORD(part, 2 + out) = first + id * LANES + i;
        part[2 + CANDIDATES + out++] = values[i];
    }
    for (int c = n + id; c < CANDIDATES && wanted; c += 256) part[2 + CANDIDATES + c] = -INFINITY, WORD(part, 2 + c) = -1;
}

kernel WORK_GROUP(256) void gpu_head_rows(image b, int V, int skip, int most, global float *parts, int segments,
                                          global float *results)
{
    local int passes[33], counts[256];
    int r = get_group_id(0), id = get_local_id(0), live = r < min(b[B_N_WANTED] - skip, most);
    int wanted = live && b[b[B_TARGETS] + skip + r] < 0, k = min(V, CANDIDATES);
    global float *part = parts + (size_t)r * segments * PART;
    global float *result = results + (size_t)(skip + r) * RESULT;
    int from = id * segments, n = wanted ? segments : 0;                    /* candidates from, from + 1, ... of all */

    if (id < 33) passes[id] = 0;
    SYNC();
    if (live && id == 0) {
        float best = -INFINITY, sum = 0.0f;
        for (int s = 0; s < segments; s++) best = fmax(best, part[s * PART]);
        for (int s = 0; s < segments; s++) sum = fma(part[s * PART + 1], exp1(part[s * PART] - best), sum);
        result[0] = best + log(sum);
        WORD(result, 2) = wanted ? k : 0;
    }
#define AT(i) ((from + (i)) / CANDIDATES * PART + 2 + (from + (i)) % CANDIDATES)
#define KEY(i) (WORD(part, AT(i)) < 0 ? 0 : key_of(part[AT(i) + CANDIDATES]))
    uint kth = 0;
    for (int pass = 0; pass < (wanted ? 33 : 0); pass++) {
        uint least = pass < 32 ? kth | 0x80000000u >> pass : kth + 1;
        int count = 0;
        for (int i = 0; i < n; i++) count += least != 0 && KEY(i) >= least;
        atomic_add(&passes[pass], count);
        SYNC();
        if (pass < 32 && passes[pass] >= k) kth = least;
    }
    int ties = 0, above = 0, room = k - passes[32];
    for (int i = 0; i < n; i++) {
        ties += WORD(part, AT(i)) >= 0 && KEY(i) == kth;
        above += KEY(i) > kth;
    }
    room = clamp(room - sum_before(ties, counts), 0, ties);
    int out = sum_before(above + room, counts);
    for (int i = 0; i < n; i++) {
        if (WORD(part, AT(i)) < 0 || KEY(i) < kth || (KEY(i) == kth && room-- <= 0)) continue;
        WORD(result, 4 + out) = WORD(part, AT(i));
        result[4 + CANDIDATES + out++] = part[AT(i) + CANDIDATES];
    }
#undef AT
#undef KEY
}
