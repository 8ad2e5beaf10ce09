/* plan.h - a flat list of kernel launches and a few calls of host functions, recorded once for a phase and a bucket of sizes,
 * and replayed. It is the whole graph. What changes between replays lies in the batch image; kernels read the live counts
 * there and leave early, so a bucket costs no more than its live rows.
 *
 * Recording cannot fail visibly: the first error sticks to the plan and everything after it does nothing, so a layer
 * reads like a forward pass. ey_plan_end returns it. */
#ifndef EY_PLAN_H
#define EY_PLAN_H

#include "batch.h"
#include "program.h"

#define EY_ANY UINT32_MAX

/* Scratch buffers shared by all plans of a lane: values that do not live at the same time take turns in them. */
typedef struct ey_scratch {
    ey_arena   arena;
    ey_buffer *batch;               /* the batch image */
    uint32_t   tokens, wanted;      /* of the batch in it, and those whose logits are; EY_ANY = not known, launch everything */
    ey_buffer *pool[64];
    uint32_t   n;
} ey_scratch;

/* RMS norm: x / sqrt(mean of the squares of `width` true columns + eps) * scale. */
typedef struct ey_rms {
    const ey_buffer *scale;         /* NULL: none */
    uint32_t         width;
    float            eps;
} ey_rms;

/* An activation: f32 [tokens, stride], of which columns [offset, offset + width) are meant. */
typedef struct ey_act {
    uint32_t value;                 /* index of the value in its plan */
    uint32_t stride, offset, width; /* multiples of EY_LANES */
    ey_rms   norm;                  /* still to be taken by its reader, which has to be a product */
    bool     packed;                /* rounded and laid out for the matrix unit, whose products alone can read it */
} ey_act;

typedef enum ey_arg_kind { EY_ARG_BUFFER, EY_ARG_VALUE, EY_ARG_INT, EY_ARG_FLOAT, EY_ARG_LOCAL } ey_arg_kind;
typedef struct ey_arg {
    ey_arg_kind kind;
    union {
        const ey_buffer *buffer;
        uint32_t         value;
        cl_int           i;
        cl_float         f;
        size_t           bytes;     /* of local memory */
    } as;
} ey_arg;

static inline ey_arg ey_buf(const ey_buffer *b) { return (ey_arg){ EY_ARG_BUFFER, { .buffer = b } }; }
/* Of an activation as it is, without the norm its reader may have to take. */
static inline ey_arg ey_val(ey_act a) { return (ey_arg){ EY_ARG_VALUE, { .value = a.value } }; }
static inline ey_arg ey_int(uint64_t i) { return (ey_arg){ EY_ARG_INT, { .i = (cl_int)i } }; }
static inline ey_arg ey_local(size_t bytes) { return (ey_arg){ EY_ARG_LOCAL, { .bytes = bytes } }; }
static inline ey_arg ey_float(float f) { return (ey_arg){ EY_ARG_FLOAT, { .f = f } }; }

/* What a launch moves and computes when its bucket is full. */
typedef struct ey_cost {
    uint64_t bytes, flops;
} ey_cost;

enum { EY_MAX_ARGS = 32 };

typedef struct ey_plan ey_plan;
typedef struct ey_record ey_record;

/* A host function that enqueues something itself. What is live it learns from the scratch's counts. */
typedef eyrie_status ey_call(const ey_plan *p, const ey_record *r, eyrie_error *err);

struct ey_record {
    char      label[40];            /* the kernel's name, or the call's */
    cl_kernel kernel;
    ey_call  *call;                 /* instead of a kernel; NULL: none */
    size_t    global[3], local[3];
    ey_arg    args[EY_MAX_ARGS];
    uint32_t  n_args;
    uint32_t  layer;
    uint32_t  wanted_from, wanted_to;   /* launched if the batch wants so many tokens: [from, to) */
    ey_cost   cost;
};

typedef struct ey_value {
    uint64_t bytes;
    uint32_t first, last;           /* records that use it */
    uint32_t buffer;                /* index in the scratch pool, once the plan has ended */
} ey_value;

struct ey_plan {
    ey_phase      phase;
    uint32_t      tokens, rows;     /* the bucket: most tokens and rows of a batch */
    uint32_t      blocks;           /* most blocks they touch */
    eyrie_device *dev;
    ey_program   *program;
    ey_scratch   *scratch;
    uint32_t      layer;            /* stamped on what is recorded, like the range of wanted tokens it is for */
    uint32_t      wanted_from, wanted_to;
    ey_record    *records;
    size_t        n, capacity;
    ey_value     *values;
    size_t        n_values, values_capacity;
    eyrie_status  status;           /* of recording; the first failure stays */
    eyrie_error   error;
};

void ey_scratch_init(ey_scratch *s, eyrie_device *dev, const char *name);

/* A plan for batches of up to `tokens` tokens in `rows` rows. */
eyrie_status ey_plan_begin(ey_plan *p, ey_phase phase, uint32_t tokens, uint32_t rows, eyrie_device *dev,
                           ey_program *program, ey_scratch *scratch, eyrie_error *err);

/* A new activation of `rows` rows (usually p->tokens) and `width` columns, uninitialised. */
ey_act ey_plan_act(ey_plan *p, uint64_t rows, uint32_t width);
/* Columns [offset, offset + width) of a. */
ey_act ey_act_slice(ey_act a, uint32_t offset, uint32_t width);
/* Keeps the value until the plan's end, to be read afterwards. */
void   ey_plan_keep(ey_plan *p, ey_act a);

/* What is recorded from now on is for batches that want [from, to) tokens; (0, EY_ANY) is where a plan begins. */
void   ey_plan_when_wanted(ey_plan *p, uint32_t from, uint32_t to);

/* Records a launch of work-groups of one work-item. args are those after the batch image, which is always the first. */
void ey_plan_launch(ey_plan *p, const char *kernel, uint64_t x, uint64_t y, uint64_t z, ey_cost cost,
                    const ey_arg *args, uint32_t n_args);
/* Of x * y * z work-groups of so many work-items, side by side in dimension 0. */
void ey_plan_launch_groups(ey_plan *p, const char *kernel, uint32_t items, uint64_t x, uint64_t y, uint64_t z, ey_cost cost,
                           const ey_arg *args, uint32_t n_args);
#define EY_LAUNCH(p, kernel, x, y, z, cost, ...)                                            \
    ey_plan_launch(p, kernel, x, y, z, cost, (const ey_arg[]){ __VA_ARGS__ },               \
                   (uint32_t)(sizeof((const ey_arg[]){ __VA_ARGS__ }) / sizeof(ey_arg)))
#define EY_LAUNCH_GROUPS(p, kernel, items, x, y, z, cost, ...)                                 \
    ey_plan_launch_groups(p, kernel, items, x, y, z, cost, (const ey_arg[]){ __VA_ARGS__ },    \
                          (uint32_t)(sizeof((const ey_arg[]){ __VA_ARGS__ }) / sizeof(ey_arg)))

/* Records a call; r->args[1] on are these. */
void ey_plan_call(ey_plan *p, const char *label, ey_call *call, ey_cost cost, const ey_arg *args, uint32_t n_args);
/* Of a buffer or value, when the plan runs. */
cl_mem ey_plan_mem(const ey_plan *p, const ey_arg *a);

/* Places the values in the scratch pool (by first and last use) and returns how recording went. */
eyrie_status ey_plan_end(ey_plan *p, eyrie_error *err);

/* Enqueues the records of layers [from, to); UINT32_MAX = to the end. The batch image must be in place. Does not wait. */
eyrie_status ey_plan_run(const ey_plan *p, uint32_t from, uint32_t to, eyrie_error *err);

/* The buffer of a kept value. */
const ey_buffer *ey_plan_buffer(const ey_plan *p, ey_act a);

ey_cost ey_plan_cost(const ey_plan *p);
void    ey_plan_free(ey_plan *p);

#endif
