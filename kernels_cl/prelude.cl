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

/* -------------------------------------------------------------------------------------------------------- arithmetic */
static inline float16 sigmoid16(float16 x) { return 1.0f / (1.0f + exp(-x)); }

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
static inline float16 gelu16(float16 x)
{
    float16 inner = 0.7978845608028654f * fma(0.044715f * x * x, x, x);
    return 0.5f * x * (1.0f + tanh(inner));
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
