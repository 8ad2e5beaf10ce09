/* prelude.cl - what every kernel stands on. The text of the program is the words of the batch image (batch.h), this
 * file, then the kernel files.
 *
 * All kernels here ask for little: OpenCL C 1.2, work-groups of one work-item, no barrier, and local memory only where a
 * product of few rows keeps what it made of x, so they are right on every device; their explicit float16 and register tiles
 * make them fast on CPUs.
 *
 *  - Every feature dimension is padded with zeros to a multiple of 16 (each head and each gate block for itself), so no
 *    kernel has a tail to handle. Where a loop takes several vectors at once, the last ones are clamped to the end of
 *    the row: they compute again what a neighbour in the same work-item computes, and store the same value.
 *  - The first argument is the batch image. Work beyond its live counts returns at once.
 *  - Contraction is off and fma() written out, so the same formula gives the same bits in every kernel. Never mad():
 *    on PoCL it is a multiplication and an addition. */
#pragma OPENCL FP_CONTRACT OFF

/* Where it is no instruction, fma() is a function in integer arithmetic that takes hundreds of times as long. What matters
 * here is that a formula has the same bits everywhere, and these have. */
#ifdef WITHOUT_FMA
#define fma(a, b, c) ((a) * (b) + (c))
#endif

#define LANES 16
#define BLOCK 64                    /* positions in a block of the ring and of the scan */

typedef global const int *image;

#define ROW(b, row) ((b) + (b)[B_ROWS] + (row) * ROW_WORDS)

/* ------------------------------------------------------------------------------------------------ weight formats
 * A panel is 16 rows of a matrix (runtime/quant.h has the layouts). Whoever reads one goes
 *
 *     for (int k = 0; k < K; k += GROUP) {
 *         SCALES s;                                    what the columns of a group share
 *         SCALES_LOAD(panel, k, s);
 *         global const WEIGHT *at = WEIGHTS_AT(panel, k);
 *         for (int j = 0; j < IN_GROUP(K - k); j += STEP) {
 *             WORDS w;                                 STEP columns
 *             WORDS_LOAD(at, j, w);
 *             ... COLUMN(w, s, c) ...                  column k + j + c as float16, a value a row, exactly what is stored
 *         }
 *     }
 *
 * with c a constant once its loop is unrolled. STORE is the other way: n columns from k on, finite, rounded to nearest
 * even; k and n are such that groups which share a scale come whole.
 *
 * Formats with a scale can be read as whole numbers too, one byte each plus OFFSET: BYTES(at, i) is four columns of each
 * row, numbers 4 i to 4 i + 3 of what ORDER makes of 16 columns, which is another order of them. */
#define SHARED_SCALE 32             /* columns */

typedef struct { float16 lo, hi; } two_vectors;

#define TYPE_F32 float
#define STEP_F32 2
#define GROUP_F32 2
#define IN_GROUP_F32(left) 2
#define LINES_F32 2
#define SCALES_F32 int
#define SCALES_LOAD_F32(w, k, s) ((s) = 0)
#define AT_F32(w, k) ((w) + (k) * LANES)
#define WORDS_F32 two_vectors
#define WORDS_LOAD_F32(at, j, w) ((w).lo = vload16(j, at), (w).hi = vload16((j) + 1, at))
#define COLUMN_F32(w, s, c) ((c) ? (w).hi : (w).lo)

static inline void store_F32(global float *w, int k, int n, const float16 *x)
{
    for (int i = 0; i < n; i++) vstore16(x[i], k + i, w);
}

#define TYPE_F16 half
#define STEP_F16 2
#define GROUP_F16 2
#define IN_GROUP_F16(left) 2
#define LINES_F16 1
#define SCALES_F16 int
#define SCALES_LOAD_F16(w, k, s) ((s) = 0)
#define AT_F16(w, k) ((w) + (k) * LANES)
#define WORDS_F16 two_vectors
#define WORDS_LOAD_F16(at, j, w) ((w).lo = vload_half16(j, at), (w).hi = vload_half16((j) + 1, at))
#define COLUMN_F16(w, s, c) ((c) ? (float16)((w).lo.odd, (w).hi.odd) : (float16)((w).lo.even, (w).hi.even))

#define ZIP(a, b) (float16)((a).s0, (b).s0, (a).s1, (b).s1, (a).s2, (b).s2, (a).s3, (b).s3, \
                            (a).s4, (b).s4, (a).s5, (b).s5, (a).s6, (b).s6, (a).s7, (b).s7)

static inline void store_F16(global half *w, int k, int n, const float16 *x)
{
    for (int i = 0; i < n; i += 2) {
        vstore_half16_rte(ZIP(x[i].lo, x[i + 1].lo), k + i, w);
        vstore_half16_rte(ZIP(x[i].hi, x[i + 1].hi), k + i + 1, w);
    }
}

#define TYPE_BF16 uint
#define STEP_BF16 2
#define GROUP_BF16 2
#define IN_GROUP_BF16(left) 2
#define LINES_BF16 1
#define SCALES_BF16 int
#define SCALES_LOAD_BF16(w, k, s) ((s) = 0)
#define AT_BF16(w, k) ((w) + (k) / 2 * LANES)
#define WORDS_BF16 uint16
#define WORDS_LOAD_BF16(at, j, w) ((w) = vload16((j) / 2, at))
#define COLUMN_BF16(w, s, c) as_float16((c) ? (w) & 0xffff0000u : (w) << 16)

/* To nearest even. */
#define ROUND_BF16(u) ((u) + 0x7fffu + ((u) >> 16 & 1u))

static inline void store_BF16(global uint *w, int k, int n, const float16 *x)
{
    for (int i = 0; i < n; i += 2) {
        uint16 u0 = ROUND_BF16(as_uint16(x[i])), u1 = ROUND_BF16(as_uint16(x[i + 1]));
        vstore16(u0 >> 16 | (u1 & 0xffff0000u), (k + i) / 2, w);
    }
}

/* Numbers with a scale. Bits of a word become the low bits of a fraction: that float is a power of two more than the
 * number, which one fma takes off again while it multiplies by the scale. Power and number have 9 or at most 13 bits,
 * scales 11, so both products, and what is left, are exact; without fma the power is taken off first. */
#ifdef WITHOUT_FMA
#define LESS(power, by)             (float16)(power)
#define SCALED(number, by, less)    (((number) - (less)) * (by))
#else
#define LESS(power, by)             ((by) * -(power))
#define SCALED(number, by, less)    fma(number, by, less)
#endif

#define TYPE_Q8 uint
#define STEP_Q8 4
#define GROUP_Q8 32
#define IN_GROUP_Q8(left) min(GROUP_Q8, left)
#define LINES_Q8 9
typedef struct { float16 by, less; } scales_q8;
#define SCALES_Q8 scales_q8
#define SCALES_LOAD_Q8(w, k, s)                                                                         \
    do {                                                                                                \
        (s).by = vload_half16((k) / 32 % 2, (global const half *)((w) + (k) / 64 * 17 * LANES));        \
        (s).less = LESS(32768.0f + 128.0f, (s).by);                                                     \
    } while (0)
#define AT_Q8(w, k) ((w) + ((k) / 64 * 17 + 1 + (k) % 64 / 4) * LANES)
#define WORDS_Q8 uint16
#define WORDS_LOAD_Q8(at, j, w) ((w) = vload16((j) / 4, at))
#define COLUMN_Q8(w, s, c)                                                                              \
    SCALED(as_float16((((c) ? (w) >> (8 * (c) - 8) : (w) << 8) & 0xff00u) | 0x47000000u), (s).by, (s).less)
#define OFFSET_Q8 128
#define BYTES_Q8(at, i) vload16(i, at)
#define ORDER_Q8(x) (x)

#define TYPE_Q4 uint
#define STEP_Q4 8
#define GROUP_Q4 32
#define IN_GROUP_Q4(left) min(GROUP_Q4, left)
#define LINES_Q4 5
typedef struct { float16 by, less[3]; } scales_q4;
#define SCALES_Q4 scales_q4
#define SCALES_LOAD_Q4(w, k, s)                                                                         \
    do {                                                                                                \
        (s).by = vload_half16((k) / 32 % 2, (global const half *)((w) + (k) / 64 * 9 * LANES));         \
        (s).less[0] = LESS(32768.0f + 8.0f, (s).by);                                                    \
        (s).less[1] = LESS(2048.0f + 8.0f, (s).by);                                                     \
        (s).less[2] = LESS(128.0f + 8.0f, (s).by);                                                      \
    } while (0)
#define AT_Q4(w, k) ((w) + ((k) / 64 * 9 + 1 + (k) % 64 / 8) * LANES)
#define WORDS_Q4 uint16
#define WORDS_LOAD_Q4(at, j, w) ((w) = vload16((j) / 8, at))
/* Shifted by one of three amounts, a number stands at bit 8, 12 or 16. */
#define SHIFTED_Q4(w, c) ((c) < 2 ? (w) << 12 : (c) < 5 ? (w) : (w) >> 12)
#define PLACE_Q4(c) (8 + ((c) + 1) % 3 * 4)
#define COLUMN_Q4(w, s, c)                                                                                              \
    SCALED(as_float16((SHIFTED_Q4(w, c) & 15u << PLACE_Q4(c)) | (150u - PLACE_Q4(c)) << 23), (s).by, (s).less[((c) + 1) % 3])
#define OFFSET_Q4 8
#define BYTES_Q4(at, i) (vload16((i) / 2, at) >> (uint)((i) % 2 * 4) & 0x0f0f0f0fu)
#define ORDER_Q4(x) (x).s024613578ace9bdf

/* runtime/quant.c, with rows as lanes: the same sums and products in the same order give the same bits. */
static inline float16 reciprocal16(float16 s)
{
    uint16 sign = as_uint16(s) & 0x80000000u, magnitude = as_uint16(s) & 0x7fffffffu;
    float16 a = as_float16(magnitude), r = as_float16(0x7ef311c7u - magnitude);

    for (int i = 0; i < 3; i++) r = r * (2.0f - a * r);
    return select(as_float16(as_uint16(r) | sign), (float16)0.0f, magnitude == 0);
}

static inline float16 level16(float16 x, float16 inverse, float least, float most)
{
    return fmin(fmax(rint(x * inverse), (float16)least), (float16)most);
}

static inline void store_scaled(global uint *w, int k, int n, const float16 *x, int bits, int candidates,
                                constant float *per, float least, float most)
{
    global uint *block = w + (size_t)(k / 64) * (1 + 2 * bits) * LANES;
    global uint *words = block + (1 + k % 64 * bits / 32) * LANES;
    global half *scales = (global half *)block + k % 64 / 32 * LANES;
    float16 largest = x[0], best = 0.0f, best_scale = 0.0f, scale, inverse;

    if (k % 64 == 0) vstore_half16_rte((float16)0.0f, 1, scales);
    for (int i = 1; i < n; i++)
        largest = select(largest, x[i], as_int16(fabs(x[i])) > as_int16(fabs(largest)));
    for (int c = 0; c < candidates; c++) {
        float16 error = 0.0f;
        vstore_half16_rte(clamp(largest * per[c], -65504.0f, 65504.0f), 0, scales);
        scale = vload_half16(0, scales);
        inverse = reciprocal16(scale);
        for (int i = 0; i < n; i++) {
            float16 off = x[i] - level16(x[i], inverse, least, most) * scale;
            error = error + off * off;
        }
        if (c == 0) {
            best = error;
            best_scale = scale;
            continue;
        }
        best_scale = select(best_scale, scale, error < best);
        best = select(best, error, error < best);
    }
    vstore_half16_rte(best_scale, 0, scales);
    inverse = reciprocal16(best_scale);
    for (int i = 0; i < n; i += 32 / bits) {
        uint16 word = 0;
        for (int j = 0; j < 32 / bits; j++)
            word |= convert_uint16(level16(x[i + j], inverse, least, most) + (float)(1 << (bits - 1))) << bits * j;
        vstore16(word, i * bits / 32, words);
    }
}

constant float candidates_q8[1] = { 0.00787401575f };
constant float candidates_q4[8] = { -0.1400f, -0.1290f, -0.1250f, -0.1230f, -0.1210f, -0.1190f, -0.1163f, -0.1124f };

static inline void store_Q8(global uint *w, int k, int n, const float16 *x)
{
    store_scaled(w, k, n, x, 8, 1, candidates_q8, -127.0f, 127.0f);
}

static inline void store_Q4(global uint *w, int k, int n, const float16 *x)
{
    store_scaled(w, k, n, x, 4, 8, candidates_q4, -8.0f, 7.0f);
}

/* Products have so much to do with a group of columns that a core does not look far enough ahead by itself. They ask for
 * the LINES of the one that comes AHEAD bytes later, its scales' among them. */
#if defined(__x86_64__) || defined(__aarch64__)
#define ASK_FOR(address) __builtin_prefetch(address)
#else
#define ASK_FOR(address)
#endif
#define AHEAD 1088

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)
#define WEIGHT      JOIN(TYPE_, FORMAT)
#define STEP        JOIN(STEP_, FORMAT)
#define GROUP       JOIN(GROUP_, FORMAT)
#define IN_GROUP    JOIN(IN_GROUP_, FORMAT)
#define LINES       JOIN(LINES_, FORMAT)
#define SCALES      JOIN(SCALES_, FORMAT)
#define SCALES_LOAD JOIN(SCALES_LOAD_, FORMAT)
#define WEIGHTS_AT  JOIN(AT_, FORMAT)
#define WORDS       JOIN(WORDS_, FORMAT)
#define WORDS_LOAD  JOIN(WORDS_LOAD_, FORMAT)
#define COLUMN      JOIN(COLUMN_, FORMAT)
#define STORE       JOIN(store_, FORMAT)
#define OFFSET      JOIN(OFFSET_, FORMAT)
#define BYTES       JOIN(BYTES_, FORMAT)
#define ORDER       JOIN(ORDER_, FORMAT)

/* Elements of WEIGHT in a panel of K columns. */
#define PANEL_F32(K)  ((size_t)(K) * LANES)
#define PANEL_F16(K)  ((size_t)(K) * LANES)
#define PANEL_BF16(K) ((size_t)(K) / 2 * LANES)
#define PANEL_Q8(K)   ((size_t)((K) / 4 + ((K) + 63) / 64) * LANES)
#define PANEL_Q4(K)   ((size_t)((K) / 8 + ((K) + 63) / 64) * LANES)
#define PANEL_SIZE    JOIN(PANEL_, FORMAT)

/* -------------------------------------------------------------------------------------------------- whole numbers of x
 * Products with INT8 read x in groups of 32 columns: whole numbers from -127 to 127 under a scale, f32, that the largest
 * of them decides. With those of the weights, a group's sum is a whole number below 2^24: exact in f32 as in int, in any
 * order. What is not finite makes a scale that is not, so that it shows.
 *
 * Packed for products of many rows (int8.cl), a row is [blocks of the diagonal][groups] of them, with zeros for columns from K on. */

/* x and y, 16 columns each, become numbers; returns their scale. Below 2^-100 all are 0. */
static inline float whole_numbers(float16 *x, float16 *y)
{
    int lanes[LANES];
    int16 most = max(as_int16(fabs(*x)), as_int16(fabs(*y)));           /* in bits, where a NaN is more than infinity */

    vstore16(most, 0, lanes);
    vstore8(max(vload8(0, lanes), vload8(1, lanes)), 0, lanes);
    vstore4(max(vload4(0, lanes), vload4(1, lanes)), 0, lanes);
    float largest = as_float(max(max(lanes[0], lanes[2]), max(lanes[1], lanes[3])));
    bool usable = largest >= 0x1p-100f && largest < INFINITY;
    float inverse = usable ? 127.0f / largest : 0.0f;
    float16 whole = 12582912.0f;                                        /* a sum with it has no fraction */
    *x = ((usable ? *x : (float16)0.0f) * inverse + whole) - whole;
    *y = ((usable ? *y : (float16)0.0f) * inverse + whole) - whole;
    return largest * 0x1.020408p-7f;
}

/* A group: char numbers[32] in the weights' ORDER, their scale, and -OFFSET times their sum. In GROUP_WORDS words it is packed, for
 * instructions that take bytes; for others, its numbers are floats. */
typedef struct { uint4 numbers[2]; float scale; int less, unused[2]; } packed_group;
typedef struct { float16 numbers[2]; float scale; int less; } plain_group;
#define GROUP_WORDS 12

/* That of x's columns from k on, normalised as in norm.cl if `width` is not 0, goes to `group`. */
#define MAKE_GROUP(x, k, K, width, inverse, norm, group)                                                                \
    do {                                                                                                                \
        bool whole = (K) - (k) > LANES;                                                                                 \
        float16 x0 = vload16(0, (x) + (k)), x1 = whole ? vload16(0, (x) + (k) + LANES) : (float16)0.0f;                 \
        if (width) {                                                                                                    \
            x0 = x0 * (inverse) * vload16(0, (norm) + (k));                                                             \
            if (whole) x1 = x1 * (inverse) * vload16(0, (norm) + (k) + LANES);                                          \
        }                                                                                                               \
        (group).scale = whole_numbers(&x0, &x1);                                                                        \
        (group).less = -OFFSET * (int)sum16(x0 + x1);                                                                   \
        (group).numbers[0] = BYTES_OF(ORDER(x0));                                                                       \
        (group).numbers[1] = BYTES_OF(ORDER(x1));                                                                       \
    } while (0)

#define BYTES_OF(x) as_uint4(convert_char16(convert_int16(x)))

/* ------------------------------------------------------------------------------------------------- what products read
 * Either f32 [rows, stride], or packed for the matrix unit (amx.cl): rounded to bf16, in tiles of 16 rows by 32 columns,
 *     [blocks of 32 rows][tiles in a row][2][16][32]
 * with zeros for columns up to the next multiple of 32. tiles: in a row; 0 = plain f32. */
#ifdef MATRIX_UNIT
/* Every CPU with tiles of bf16 has the instruction. A NaN stays one; denormals become zeros, which the unit takes them for.
 * In pairs, since PoCL stores 16 bits at a time what is a vector of them. */
static inline uint8 bf16_16(float16 v)
{
    uint8 rounded;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(rounded) : "v"(v));
    return rounded;
}
#else
static inline uint8 bf16_16(float16 v) { return as_uint8(convert_ushort16(as_uint16(v) >> 16)); }     /* nobody asks */
#endif

/* Columns [c, c + 16) of a row of `width` columns, multiples of 16 both. */
static inline void put_row16(float16 v, global float *out, int tiles, int stride, int row, int c, int width)
{
    if (!tiles) {
        vstore16(v, 0, out + (size_t)row * stride + c);
        return;
    }
    global uint *packed = (global uint *)out + ((size_t)(row >> 5) * tiles + (c >> 5)) * 512 + (row & 31) * 16 + (c & 31) / 2;
    vstore8(bf16_16(v), 0, packed);
    if ((c & 31) == 0 && c + LANES == width) vstore8((uint8)0, 1, packed);
}

/* ----------------------------------------------------------------------------------------- keys and values in the ring */
#ifdef KV_F16
typedef half   kv_type;
typedef ushort kv_bits;             /* to copy elements: half arithmetic, even assignment, is an extension */
#define KV_LOAD16(i, p)     vload_half16(i, p)
#define KV_STORE16(v, i, p) vstore_half16_rte(v, i, p)
#define KV_STORE(v, i, p)   vstore_half_rte(v, i, p)
#else
typedef float kv_type;
typedef uint  kv_bits;
#define KV_LOAD16(i, p)     vload16(i, p)
#define KV_STORE16(v, i, p) vstore16(v, i, p)
#define KV_STORE(v, i, p)   ((p)[i] = (v))
#endif

/* -------------------------------------------------------------------------------------------------------- arithmetic
 * Our own exponentials: the same bits on every device with fma, and vectors where OpenCL's functions are loops. Errors, in
 * units of the last place of a normal result, over all floats (tests/test_math.c): exp 1, exp - 1 1, sigmoid and tanh 4, where
 * the device divides as badly as OpenCL lets it; gelu 6 roundings of its argument. A NaN stays one. */

/* e^x = 2^n (1 + the value), by a minimax polynomial on half an octave to both sides of 0 whose error is far below rounding. */
static inline float16 exp_reduced(float16 x, float16 *n)
{
    float16 octaves = (x * 0x1.715476p+0f + 0x1.8p23f) - 0x1.8p23f;         /* to a whole number: rint() takes ten instructions */
    float16 r = fma(octaves, (float16)-0x1.7f7d1cp-20f, fma(octaves, (float16)-0x1.62e4p-1f, x));   /* the first is exact */
    float16 p = fma((float16)0x1.a032c6p-13f, r, (float16)0x1.6d725ap-10f);
    p = fma(p, r, (float16)0x1.11118ap-7f);
    p = fma(p, r, (float16)0x1.5554bp-5f);
    p = fma(p, r, (float16)0x1.555554p-3f);
    p = fma(p, r, (float16)0.5f);
    *n = octaves;
    return fma(r * r, p, r);
}

static inline float16 power_of_two(int16 n) { return as_float16((n + 127) << 23); }     /* -127 < n < 128 */

static inline float16 exp16(float16 x)
{
    float16 octaves;
    x = x < -105.0f ? (float16)-105.0f : x;
    x = x > 89.0f ? (float16)89.0f : x;
    float16 q = exp_reduced(x, &octaves);
    int16 n = convert_int16(octaves), half_n = n >> 1;                      /* in two steps, to end in denormals or infinity */
    float16 s = power_of_two(half_n);
    return fma(q, s, s) * power_of_two(n - half_n);
}

/* e^x and e^x - 1 of x <= 0; below -87 the former stays what it is there, about 1e-38. */
static inline float16 exp_expm1(float16 x, float16 *minus_one)
{
    float16 octaves;
    x = x < -87.0f ? (float16)-87.0f : x;
    float16 q = exp_reduced(x, &octaves), s = power_of_two(convert_int16(octaves));
    *minus_one = fma(q, s, s - 1.0f);
    return fma(q, s, s);
}

/* Weights of a softmax, e^(score - best) with best the highest score: 0 where the score is -INFINITY. */
static inline float16 weight16(float16 score, float best)
{
    float16 octaves, x = score - best;
    float16 q = exp_reduced(x < -87.0f ? (float16)-87.0f : x, &octaves), s = power_of_two(convert_int16(octaves));
    return select(fma(q, s, s), (float16)0.0f, x == -INFINITY);
}

static inline float16 sigmoid16(float16 x) { return 1.0f / (1.0f + exp16(-x)); }

static inline float16 tanh16(float16 x)
{
    float16 t;
    exp_expm1(-2.0f * fabs(x), &t);
    return copysign(t / (-2.0f - t), x);
}

/* 0.5 x (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3), which is x sigmoid(2 u) */
static inline float16 gelu16(float16 x)
{
    float16 inner = 1.5957691216057308f * fma(0.044715f * x * x, x, x);
    return x * sigmoid16(inner);
}

/* The halves are taken through an array, which compilers remove: Oclgrind 21.10 has false reports of v.hi, since it holds
 * lane 11 of a shuffle for undefined, and dies of shuffles that do leave lanes undefined, as compilers make of b.x + b.z. */
static inline float sum16(float16 v)
{
    float lanes[LANES];

    vstore16(v, 0, lanes);
    vstore8(vload8(0, lanes) + vload8(1, lanes), 0, lanes);
    vstore4(vload4(0, lanes) + vload4(1, lanes), 0, lanes);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static inline float max16(float16 v)
{
    float lanes[LANES];

    vstore16(v, 0, lanes);
    vstore8(fmax(vload8(0, lanes), vload8(1, lanes)), 0, lanes);
    vstore4(fmax(vload4(0, lanes), vload4(1, lanes)), 0, lanes);
    return fmax(fmax(lanes[0], lanes[2]), fmax(lanes[1], lanes[3]));
}
