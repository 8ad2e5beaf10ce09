/* head.cl - logits to what the host wants of them: cap * tanh(x / cap), log-sum-exp, and either the logit of a target or
 * the CANDIDATES best ids. Two launches, so that the vocabulary is shared among cores: segments, then rows.
 *
 * logits : [tile, stride] f32, row r is wanted row skip + r; capped in place
 * parts : [tile, segments, 2 + 2 * CANDIDATES]: maximum, sum of exp(x - maximum), ids, logits
 * results : [wanted, 4 + 2 * CANDIDATES]: log-sum-exp, logit of the target, number of candidates, unused, ids, logits
 *
 * The k-th highest is found by bisection over the bits of keys that order like the floats: 32 counting passes, without a
 * heap or a sort. Candidates come out in ascending order of id; among equals at the limit the lowest ids win. A NaN
 * counts as the highest or lowest there is; the log-sum-exp shows it to the host. */
#define SEGMENT 4096
#define PART    (2 + 2 * CANDIDATES)
#define RESULT  (4 + 2 * CANDIDATES)
#define WORD(p, i) (((global int *)(p))[i])     /* ids and counts travel as integers: small ones would be denormals */

static inline uint key_of(float x)
{
    uint u = as_uint(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* How many of the n keys (n a multiple of 16) are at least `least`. */
static inline int count_from(global const float *x, int n, uint least)
{
    int16 count = 0;
    for (int i = 0; i < n / LANES; i++) {
        uint16 u = as_uint16(vload16(i, x));
        uint16 key = u ^ (as_uint16(as_int16(u) >> 31) | 0x80000000u);
        count = select(count, count + 1, key >= least);
    }
    int lanes[LANES];                                                       /* as in sum16 */
    vstore16(count, 0, lanes);
    vstore8(vload8(0, lanes) + vload8(1, lanes), 0, lanes);
    vstore4(vload4(0, lanes) + vload4(1, lanes), 0, lanes);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* The k-th highest key of n logits, 1 <= k <= n, and how many are above it. */
static inline uint kth_highest(global const float *x, int n, int k, int *above)
{
    uint kth = 0;
    for (uint bit = 0x80000000u; bit; bit >>= 1)
        if (count_from(x, n, kth | bit) >= k) kth |= bit;
    *above = kth == 0xffffffffu ? 0 : count_from(x, n, kth + 1);
    return kth;
}

/* One work-group a segment and row of the tile. Columns from V on are padding. */
kernel void head_segments(image b, global float *logits, int stride, int V, int skip, int most, float cap,
                          global float *parts, int segments, global float *results)
{
    int r = get_global_id(1), first = get_global_id(0) * SEGMENT;
    if (r >= min(b[B_N_WANTED] - skip, most)) return;
    int n = min(V - first, SEGMENT), padded = (n + LANES - 1) / LANES * LANES;
    int target = b[b[B_TARGETS] + skip + r];

    global float *x = logits + (size_t)r * stride + first;
    global float *part = parts + ((size_t)r * segments + get_global_id(0)) * PART;
    for (int c = n; c < padded; c++) x[c] = -INFINITY;

    float16 top = -INFINITY, sum = 0.0f;
    for (int i = 0; i < padded / LANES; i++) {
        float16 v = vload16(i, x);
        if (cap > 0.0f) {
            v = cap * tanh16(v / cap);
            if (i == n / LANES)                                             /* the cap of the padding is no logit */
                v = select(v, (float16)-INFINITY, (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) >= n - i * LANES);
            vstore16(v, i, x);
        }
        top = fmax(top, v);
    }
    float best = max16(top);
    for (int i = 0; i < padded / LANES; i++) sum += exp16(vload16(i, x) - best);
    part[0] = best;
    part[1] = sum16(sum);

    if (target >= 0) {
        if (target >= first && target < first + n) results[(size_t)(skip + r) * RESULT + 1] = x[target - first];
        return;
    }
    int above = 0, out = 0;
    uint kth = n > CANDIDATES ? kth_highest(x, padded, CANDIDATES, &above) : 0;
    int equals = CANDIDATES - above;                                        /* how many at the limit there is room for */
    for (int c = 0; c < n && out < CANDIDATES; c++) {
        uint key = key_of(x[c]);
        if (key < kth || (key == kth && n > CANDIDATES && equals-- <= 0)) continue;
        WORD(part, 2 + out) = first + c;
        part[2 + CANDIDATES + out++] = x[c];
    }
    for (; out < CANDIDATES; out++) part[2 + CANDIDATES + out] = -INFINITY, WORD(part, 2 + out) = -1;
}

/* One work-group a row. */
kernel void head_rows(image b, int V, int skip, int most, global float *parts, int segments, global float *results)
{
    int r = get_global_id(0);
    if (r >= min(b[B_N_WANTED] - skip, most)) return;
    global float *part = parts + (size_t)r * segments * PART;
    global float *result = results + (size_t)(skip + r) * RESULT;
    float best = -INFINITY, sum = 0.0f;

    for (int s = 0; s < segments; s++) best = fmax(best, part[s * PART]);
    for (int s = 0; s < segments; s++) sum = fma(part[s * PART + 1], exp(part[s * PART] - best), sum);
    result[0] = best + log(sum);
    WORD(result, 2) = 0;
    if (b[b[B_TARGETS] + skip + r] >= 0) return;

    /* The k-th highest of all segments' candidates. */
    int k = min(V, CANDIDATES), out = 0;
    uint kth = 0;
    for (uint bit = 0x80000000u; bit; bit >>= 1) {
        int n = 0;
        for (int s = 0; s < segments; s++) n += count_from(part + s * PART + 2 + CANDIDATES, CANDIDATES, kth | bit);
        if (n >= k) kth |= bit;
    }
    int above = 0;
    for (int s = 0; s < segments && kth != 0xffffffffu; s++)
        above += count_from(part + s * PART + 2 + CANDIDATES, CANDIDATES, kth + 1);
    int equals = k - above;
    for (int s = 0; s < segments; s++)
        for (int c = 0; c < CANDIDATES && out < k; c++) {
            uint key = key_of(part[s * PART + 2 + CANDIDATES + c]);
            if (WORD(part, s * PART + 2 + c) < 0 || key < kth || (key == kth && equals-- <= 0)) continue;
            WORD(result, 4 + out) = WORD(part, s * PART + 2 + c);
            result[4 + CANDIDATES + out++] = part[s * PART + 2 + CANDIDATES + c];
        }
    WORD(result, 2) = out;
}
