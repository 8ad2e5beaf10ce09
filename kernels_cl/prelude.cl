/* prelude.cl - what every kernel stands on. The text of the program is the words of the batch image (batch.h), this
 * file, then the kernel files.
 *
 * All kernels here ask for little: OpenCL C 1.2, work-groups of one work-item, no local memory, no barrier, so they are
 * right on every device; their explicit float16 and register tiles make them fast on CPUs.
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
 * A panel is 16 rows of a matrix, interleaved along k by 2 (16-bit formats) or 1 (f32). PAIR loads columns 2i and 2i + 1
 * of the panel that starts at pair 0 of w: one value a row. */
#define TYPE_F32 float
#define PAIR_F32(w, i, w0, w1)                 \
    do {                                       \
        w0 = vload16(2 * (i), w);              \
        w1 = vload16(2 * (i) + 1, w);          \
    } while (0)

#define TYPE_F16 half
#define PAIR_F16(w, i, w0, w1)                                   \
    do {                                                         \
        float16 lo_ = vload_half16(2 * (i), w);                  \
        float16 hi_ = vload_half16(2 * (i) + 1, w);              \
        w0 = (float16)(lo_.even, hi_.even);                      \
        w1 = (float16)(lo_.odd, hi_.odd);                        \
    } while (0)

#define TYPE_BF16 uint
#define PAIR_BF16(w, i, w0, w1)                \
    do {                                       \
        uint16 both_ = vload16(i, w);          \
        w0 = as_float16(both_ << 16);          \
        w1 = as_float16(both_ & 0xffff0000u);  \
    } while (0)

/* The other way: columns 2i and 2i + 1, finite, rounded to nearest even. */
#define STORE_F32(w, i, w0, w1)                \
    do {                                       \
        vstore16(w0, 2 * (i), w);              \
        vstore16(w1, 2 * (i) + 1, w);          \
    } while (0)

#define ZIP(a, b) (float16)((a).s0, (b).s0, (a).s1, (b).s1, (a).s2, (b).s2, (a).s3, (b).s3, \
                            (a).s4, (b).s4, (a).s5, (b).s5, (a).s6, (b).s6, (a).s7, (b).s7)
#define STORE_F16(w, i, w0, w1)                                        \
    do {                                                               \
        vstore_half16_rte(ZIP((w0).lo, (w1).lo), 2 * (i), w);          \
        vstore_half16_rte(ZIP((w0).hi, (w1).hi), 2 * (i) + 1, w);      \
    } while (0)

#define ROUND_BF16(u) ((u) + 0x7fffu + ((u) >> 16 & 1u))
#define STORE_BF16(w, i, w0, w1)                                                                        \
    do {                                                                                                \
        uint16 u0_ = as_uint16(w0), u1_ = as_uint16(w1);                                                \
        vstore16(ROUND_BF16(u0_) >> 16 | (ROUND_BF16(u1_) & 0xffff0000u), i, w);                        \
    } while (0)

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)
#define WEIGHT      JOIN(TYPE_, FORMAT)
#define WEIGHT_PAIR JOIN(PAIR_, FORMAT)
#define STORE_WEIGHT_PAIR JOIN(STORE_, FORMAT)

/* Elements of WEIGHT in one pair of columns of a panel: BF16 counts words of two. */
#define PAIR_SIZE_F32  32
#define PAIR_SIZE_F16  32
#define PAIR_SIZE_BF16 16
#define PAIR_SIZE      JOIN(PAIR_SIZE_, FORMAT)

/* ------------------------------------------------------------------------------------------------- what products read
 * Either f32 [rows, stride], or packed for the matrix unit (amx.cl): rounded to bf16, in tiles of 16 rows by 32 columns,
 *     [blocks of 32 rows][tiles in a row][2][16][32]
 * with zeros for columns up to the next multiple of 32. tiles: in a row; 0 = plain f32. */
static inline uint16 bf16_of(float16 v)
{
    uint16 u = as_uint16(v);
    return select(ROUND_BF16(u), u | 0x400000u, isnan(v)) >> 16;            /* a NaN stays one */
}

/* Columns [c, c + 16) of a row of `width` columns, multiples of 16 both. */
static inline void put_row16(float16 v, global float *out, int tiles, int stride, int row, int c, int width)
{
    if (!tiles) {
        vstore16(v, 0, out + (size_t)row * stride + c);
        return;
    }
    global ushort *packed = (global ushort *)out + ((size_t)(row / 32) * tiles + c / 32) * 1024 + row % 32 * 32 + c % 32;
    vstore16(convert_ushort16(bf16_of(v)), 0, packed);
    if (c % 32 == 0 && c + LANES == width) vstore16((ushort16)0, 1, packed);
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
    float16 octaves = rint(x * 0x1.715476p+0f);
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
