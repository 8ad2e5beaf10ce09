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

/* Columns 2i and 2i + 1 of one row of the panel that starts at w. */
#define LANE_PAIR_F32(w, i, row, w0, w1)                        \
    do {                                                        \
        w0 = (w)[(2 * (i)) * LANES + (row)];                    \
        w1 = (w)[(2 * (i) + 1) * LANES + (row)];                \
    } while (0)

#define LANE_PAIR_F16(w, i, row, w0, w1)                        \
    do {                                                        \
        float2 both_ = vload_half2((i) * LANES + (row), w);     \
        w0 = both_.x;                                           \
        w1 = both_.y;                                           \
    } while (0)

#define LANE_PAIR_BF16(w, i, row, w0, w1)                       \
    do {                                                        \
        uint both_ = (w)[(i) * LANES + (row)];                  \
        w0 = as_float(both_ << 16);                             \
        w1 = as_float(both_ & 0xffff0000u);                     \
    } while (0)

#define LANE_PAIR JOIN(LANE_PAIR_, FORMAT)

/* prelude.cl's functions of one number. Compilers for GPUs take vectors apart and drop what nobody looks at. */
static inline float exp1(float x)     { return exp16((float16)x).s0; }
static inline float sigmoid1(float x) { return sigmoid16((float16)x).s0; }
static inline float tanh1(float x)    { return tanh16((float16)x).s0; }
static inline float gelu1(float x)    { return gelu16((float16)x).s0; }
