/* head.cl - logits to what the host wants of them: cap * tanh(x / cap), log-sum-exp, and either the logit of a target or
 * the CANDIDATES best ids. Two launches, so that the vocabulary is shared among cores: segments, then rows.
 *
 * logits : [tile, stride] f32, row r is wanted row skip + r; capped in place
 * parts : [tile, segments, 2 + 2 * CANDIDATES]: maximum, sum of exp(x - maximum), ids, logits
 * results : [wanted, 4 + 2 * CANDIDATES]: log-sum-exp, logit of the target, number of candidates, unused, ids, logits
 *
 * The k-th highest is found by bisection over the bits of keys that order like the floats: up to 32 counting passes, fewer
 * where k keys and no more have the bits that were found, without a heap or a sort. Candidates come out in ascending order of
 * id; among equals at the limit the lowest ids win. A NaN counts as the highest or lowest there is; the log-sum-exp shows it
 * to the host. */
#define SEGMENT 4096
#define PART    (2 + 2 * CANDIDATES)
#define RESULT  (4 + 2 * CANDIDATES)
#define WORD(p, i) (((global int *)(p))[i])     /* ids and counts travel as integers: small ones would be denormals */

static inline uint key_of(float x)
{
    uint u = as_uint(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* `yes` where the key is at least `least`, else 0. Oclgrind 21.10 gets sums of what comparisons themselves make wrong. */
static inline int16 from_key(float16 x, uint least, int16 yes)
{
    uint16 u = as_uint16(x);
    return select((int16)0, yes, (u ^ (as_uint16(as_int16(u) >> 31) | 0x80000000u)) >= least);
}

static inline int sum_of_lanes(int16 v)
{
    int lanes[LANES];                                                       /* as in sum16 */
    vstore16(v, 0, lanes);
    vstore8(vload8(0, lanes) + vload8(1, lanes), 0, lanes);
    vstore4(vload4(0, lanes) + vload4(1, lanes), 0, lanes);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* How many of the n keys (n a multiple of 16) are at least `least`. */
static inline int count_from(global const float *x, int n, uint least)
{
    int16 count = 0;
    for (int i = 0; i < n / LANES; i++) count += from_key(vload16(i, x), least, 1);
    return sum_of_lanes(count);
}

/* The lanes with such keys, as bits: there is hardly one in 16, and a look at each takes longer than all the counting. */
static inline uint lanes_from(float16 x, uint least)
{
    const int16 bits = (int16)(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
    return (uint)sum_of_lanes(from_key(x, least, bits));
}

static inline int lowest_lane(uint lanes) { return 31 - (int)clz(lanes & -lanes); }

/* From which key on n logits are the k highest, 1 <= k <= n, and how many of them may be that key itself. */
static inline uint kth_highest(global const float *x, int n, int k, int *equals)
{
    uint kth = 0;
    *equals = k;
    for (uint bit = 0x80000000u; bit; bit >>= 1) {
        int count = count_from(x, n, kth | bit);
        if (count >= k) kth |= bit;
        if (count == k) return kth;
    }
    if (kth != 0xffffffffu) *equals -= count_from(x, n, kth + 1);
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
        top = select(top, v, v > top);                                      /* as fmax, in one instruction */
    }
    float best = max16(top);
    for (int i = 0; i < padded / LANES; i++) sum += exp16(vload16(i, x) - best);
    part[0] = best;
    part[1] = sum16(sum);

    if (target >= 0) {
        if (target >= first && target < first + n) results[(size_t)(skip + r) * RESULT + 1] = x[target - first];
        return;
    }
    int equals = CANDIDATES, out = 0;
    uint kth = n > CANDIDATES ? kth_highest(x, padded, CANDIDATES, &equals) : 0;
    for (int i = 0; i < padded / LANES; i++)
        for (uint left = lanes_from(vload16(i, x), kth); left && out < CANDIDATES; left &= left - 1) {
            int c = i * LANES + lowest_lane(left);
            if (c >= n || (key_of(x[c]) == kth && equals-- <= 0)) continue;
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
    int k = min(V, CANDIDATES), out = 0, equals = k, count = 0;
    uint kth = 0;
    for (uint bit = 0x80000000u; bit && count != k; bit >>= 1) {
        count = 0;
        for (int s = 0; s < segments; s++) count += count_from(part + s * PART + 2 + CANDIDATES, CANDIDATES, kth | bit);
        if (count >= k) kth |= bit;
    }
    for (int s = 0; s < segments && count != k && kth != 0xffffffffu; s++)
        equals -= count_from(part + s * PART + 2 + CANDIDATES, CANDIDATES, kth + 1);
    for (int s = 0; s < segments; s++, part += PART)
        for (int i = 0; i < CANDIDATES / LANES; i++)
            for (uint left = lanes_from(vload16(i, part + 2 + CANDIDATES), kth); left && out < k; left &= left - 1) {
                int c = i * LANES + lowest_lane(left), id = WORD(part, 2 + c);
                float logit = part[2 + CANDIDATES + c];
                if (id < 0 || (key_of(logit) == kth && equals-- <= 0)) continue;
                WORD(result, 4 + out) = id;
                result[4 + CANDIDATES + out++] = logit;
            }
    WORD(result, 2) = out;
}
