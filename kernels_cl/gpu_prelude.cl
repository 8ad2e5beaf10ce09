/* gpu_prelude.cl - what the kernels for GPUs stand on besides prelude.cl, and how they are written. They read and write the
 * same buffers in the same layouts as those for CPUs, in other orders.
 *
 *  - Neighbouring work-items take neighbouring elements, so that what a group loads at a time lies together: 16 work-items
 *    the rows of a panel, 64 the keys of a block, and otherwise as many columns.
 *  - A group has 64 or 256 work-items, all of them always there, and up to 16 KiB of local memory. No loop with a barrier
 *    in it is longer for one of them than for another. A group that has nothing to do goes through its barriers with empty
 *    loops: PoCL 3.1 miscompiles kernels that return before a barrier and have a loop of a length that differs.
 *  - Sums over work-items are taken in an order that is written out, and no sub-groups are needed. */
#define WORK_GROUP(n) __attribute__((reqd_work_group_size(n, 1, 1)))
#define SYNC() barrier(CLK_LOCAL_MEM_FENCE)

/* Columns k and k + 1, k even, of one row of the panel that starts at w: exactly what is stored. */
#define LANE_PAIR_F32(w, k, row, w0, w1)                                                                \
    do {                                                                                                \
        w0 = (w)[(k) * LANES + (row)];                                                                  \
        w1 = (w)[((k) + 1) * LANES + (row)];                                                            \
    } while (0)

#define LANE_PAIR_F16(w, k, row, w0, w1)                                                                \
    do {                                                                                                \
        float2 both_ = vload_half2((k) / 2 * LANES + (row), w);                                         \
        w0 = both_.x;                                                                                   \
        w1 = both_.y;                                                                                   \
    } while (0)

#define LANE_PAIR_BF16(w, k, row, w0, w1)                                                               \
    do {                                                                                                \
        uint both_ = (w)[(k) / 2 * LANES + (row)];                                                      \
        w0 = as_float(both_ << 16);                                                                     \
        w1 = as_float(both_ & 0xffff0000u);                                                             \
    } while (0)

/* Words of whole numbers of so many bits, behind the scales of 64 columns. The sum makes -0 a 0, as in prelude.cl. */
#define LANE_PAIR_SCALED(w, k, row, w0, w1, bits)                                                       \
    do {                                                                                                \
        global const uint *block_ = (w) + (k) / 64 * (1 + 2 * (bits)) * LANES + (row);                  \
        float scale_ = vload_half((k) / 32 % 2 * LANES + (row), (global const half *)(block_ - (row))); \
        uint both_ = block_[(1 + (k) % 64 * (bits) / 32) * LANES] >> (k) * (bits) % 32;                 \
        w0 = fma((float)(both_ & ((1u << (bits)) - 1)) - (1 << ((bits) - 1)), scale_, 0.0f);            \
        w1 = fma((float)(both_ >> (bits) & ((1u << (bits)) - 1)) - (1 << ((bits) - 1)), scale_, 0.0f);  \
    } while (0)
#define LANE_PAIR_Q8(w, k, row, w0, w1) LANE_PAIR_SCALED(w, k, row, w0, w1, 8)
#define LANE_PAIR_Q4(w, k, row, w0, w1) LANE_PAIR_SCALED(w, k, row, w0, w1, 4)

#define LANE_PAIR JOIN(LANE_PAIR_, FORMAT)

/* prelude.cl's functions of one number. Compilers for GPUs take vectors apart and drop what nobody looks at. */
static inline float exp1(float x)     { return exp16((float16)x).s0; }
static inline float sigmoid1(float x) { return sigmoid16((float16)x).s0; }
static inline float tanh1(float x)    { return tanh16((float16)x).s0; }
static inline float gelu1(float x)    { return gelu16((float16)x).s0; }
