/* rig.h - what the checks of the self-test are made with: the lab, which is there once, and a rig for each check, a
 * plan of one op with the memory it stands on. Nothing here knows what an op computes.
 *
 * A check declares memory, begins the plan and records the op, seals the rig, puts inputs, runs a batch, gets what
 * comes out and judges it. Errors stick to the rig, like those of recording, so a check reads as if nothing could
 * fail. Memory starts out as NaNs, so that what is not written shows. */
#ifndef EY_RIG_H
#define EY_RIG_H

#include "ops/op.h"

/* The relative error of one rounding to f32; tolerances are counted in these. Where OpenCL 1.2 (7.4) grants more, a
 * division counts 5, sqrt, exp and log 6 each; our own functions count as tests/test_math.c bounds them. */
#define EY_ROUNDING 0x1p-24

enum { EY_RIG_SLOTS = 3, EY_RIG_UPLOADS = 9 };

typedef struct ey_lab {
    eyrie_device *dev;
    ey_program   *programs[2];          /* with rings of f32, for all weight formats; of f16 */
    float        *pool;                 /* host memory of the check that runs */
    size_t        used;                 /* floats of it */
} ey_lab;

typedef struct ey_rig {
    ey_lab        *lab;
    ey_arena       arena;               /* weights and state */
    ey_scratch     scratch;
    ey_plan        plan;
    ey_geometry    geometry;            /* of the batch */
    ey_layer_state state;
    struct { ey_buffer *to; const void *from; } uploads[EY_RIG_UPLOADS];
    uint32_t       n_uploads;
    ey_program    *own;                 /* instead of the lab's */
    bool           unit, int8;          /* its products are the matrix unit's; have inputs in 8 bits */
    char           variant[40];
    double         seconds;
    double         ratio, error, tolerance;     /* of the number that is furthest off, by its tolerance */
    uint64_t       judged;
    eyrie_status   status;
    eyrie_error    err;
} ey_rig;

/* formats: those of weights, a bit each. What it made before it failed is to be freed too. */
eyrie_status ey_lab_init(ey_lab *l, eyrie_device *dev, uint32_t formats, eyrie_error *err);
void         ey_lab_free(ey_lab *l);

/* own: the program, NULL: one of the lab's. */
void ey_rig_init(ey_rig *r, ey_lab *l, ey_program *own);
void ey_rig_free(ey_rig *r);

/* -------------------------------------------------------------------------------------------------------- numbers */

/* n zeros, which last as long as the check. */
float *ey_numbers(ey_rig *r, size_t n);
/* In [-most, most), different for each seed. */
float *ey_noise(ey_rig *r, size_t n, uint32_t seed, float most);
float *ey_absolute(ey_rig *r, const float *x, size_t n);
float *ey_nans(ey_rig *r, size_t n);

/* One number may be off by so many roundings of its magnitude, or by what a denormal is: devices may make it 0. */
void ey_judge(ey_rig *r, double got, double want, double magnitude, double roundings);
void ey_expect(ey_rig *r, const float *got, const float *want, const float *magnitude, size_t n, double roundings);
void ey_expect_same(ey_rig *r, const void *got, const void *want, size_t bytes);

/* ----------------------------------------------------------------------------------------------------- the device */

/* Device memory that will hold a copy of what is at `from` when the rig is sealed; NULL: of nothing. */
ey_buffer *ey_rig_upload(ey_rig *r, const void *from, uint64_t bytes);
/* r->state, of all slots. */
void       ey_rig_state(ey_rig *r, const void *from, uint64_t slot_bytes);
/* Packs W [rows, cols] into a matrix, and rounds W as the format does. */
void       ey_rig_matrix(ey_rig *r, ey_matrix *m, struct ey_shard *shard, eyrie_format format, float *W,
                         const float *bias, uint32_t rows, uint32_t cols);
/* Makes a matrix of two parts, whose panels take turns. */
void       ey_pair_up(ey_matrix *m);
/* The row of that matrix, or column of a product with it, that is number i of the part. */
size_t     ey_paired(uint32_t part, size_t i);

/* kv: format of the ring, by which the lab's program is chosen. */
void   ey_rig_begin(ey_rig *r, eyrie_format kv, ey_phase phase, uint32_t tokens, uint32_t rows);
/* Keeps a value from the first record to the last, so that its memory is its own: for inputs and outputs. */
ey_act ey_rig_hold(ey_rig *r, ey_act a);
ey_act ey_rig_input(ey_rig *r, uint32_t width);
/* Places the values, allocates, fills scratch memory with NaNs, uploads. */
void   ey_rig_seal(ey_rig *r);

/* x [tokens, width] to the first columns of a, zeros to the rest; and back. */
void ey_rig_put(ey_rig *r, ey_act a, const float *x, uint32_t tokens, uint32_t width);
void ey_rig_get(ey_rig *r, ey_act a, float *x, uint32_t tokens, uint32_t width);
void ey_rig_read(ey_rig *r, const ey_buffer *b, void *to);

/* Runs a batch; rows without tokens have any. */
void ey_rig_run(ey_rig *r, const ey_row *rows, uint32_t n);
/* n tokens for an op without a state: one row, in decode as many. */
void ey_rig_run_tokens(ey_rig *r, uint32_t n);

/* Batches for ops that go through time: a sequence that begins, over a block and more, and others that go on. */
typedef struct ey_row_set {
    uint32_t n, tokens;
    ey_row   rows[3];
} ey_row_set;

extern const ey_row_set ey_row_sets[EY_PHASES];

#endif
