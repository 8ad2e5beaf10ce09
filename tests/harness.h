/* harness.h - what tests of ops share: a device with its programs (lab), and one small plan with the weights, state
 * and scratch memory it stands on (rig). A test opens a rig, declares what the op reads, records it by its public
 * function, seals the rig, puts inputs, runs batches, and gets outputs. Nothing here knows what an op computes.
 *
 * Memory starts untouched (numbers.h), with NaNs: what is read before anything wrote it shows in results. Rows of
 * inputs beyond the live ones are STALE. What is written beyond the live rows shows in `get`.
 *
 * Tests of ops run twice, with the kernels for CPUs and with those for GPUs.
 *
 * EYRIE_DEVICE names another device than the default, EYRIE_KERNEL_DIR a directory of kernels to test instead of the
 * built-in ones. Without a device every test is skipped. */
#ifndef EY_HARNESS_H
#define EY_HARNESS_H

#include "testing.h"

#include <eyrie/eyrie_tools.h>

#include "errors.h"
#include "numbers.h"
#include "ops/op.h"
#include "ref.h"
#include "rows.h"

#define STALE 1234.5f

enum { MOST_IN_BATCH = 64 };        /* rows */

/* ------------------------------------------------------------------------------------------------------------ lab */

typedef struct lab {
    eyrie_device *device;           /* NULL: there is none */
    ey_program   *programs[2];      /* for rings of f32 and f16, all weight formats; built when first asked for */
    uint32_t      more;             /* that they are for, such as EY_MATRIX_UNIT */
} lab;

static lab           shared;        /* by all tests of a program */
static eyrie_kernels class_tested;  /* of every lab that is opened */

/* 0 is what the device says: of its largest allocation, and of the floats in a register, which decide the tiles. */
static inline void lab_open(lab *l, uint64_t max_alloc, uint32_t vector)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"),
                               .kernel_dir = getenv("EYRIE_KERNEL_DIR"), .max_alloc = max_alloc,
                               .kernels = class_tested };

    *l = (lab){ 0 };
    if (eyrie_device_open(&l->device, &opts, &err) == EYRIE_OK) {
        if (vector) l->device->vector = vector;
        return;
    }
    fprintf(stderr, "skipping: %s\n", err.text);
    assert_int_equal(err.status, EYRIE_ENODEV);
}

static inline void lab_close(lab *l)
{
    for (size_t i = 0; i < COUNT(l->programs); i++) ey_program_free(l->programs[i]);
    assert_int_equal(eyrie_device_close(l->device), EYRIE_OK);
}

static inline ey_program *lab_program(lab *l, eyrie_format kv)
{
    const uint32_t all = 1u << EYRIE_FORMAT_F32 | 1u << EYRIE_FORMAT_F16 | 1u << EYRIE_FORMAT_BF16
                         | 1u << EYRIE_FORMAT_Q8 | 1u << EYRIE_FORMAT_Q4;
    ey_program   **p = &l->programs[kv == EYRIE_FORMAT_F16];

    if (!l->device) skip();
    if (!*p) assert_ok(ey_program_build(p, l->device, all | l->more, kv, &err));
    return *p;
}

static inline bool on_gpu(void) { return class_tested == EYRIE_KERNELS_GPU; }

static inline int open_shared(void **state)
{
    (void)state;
    class_tested = on_gpu() ? EYRIE_KERNELS_GPU : EYRIE_KERNELS_CPU;
    lab_open(&shared, 0, 0);
    return 0;
}

static inline int open_shared_for_gpus(void **state)
{
    class_tested = EYRIE_KERNELS_GPU;
    return open_shared(state);
}

/* For programs with the CPU's matrix unit; false, having said why, where there is none. */
static inline bool lab_add_unit(lab *l)
{
    eyrie_verdict v;

    if (!l->device) return false;
    assert_ok(eyrie_probe_run(l->device, "amx", &v, &err));
    if (v.answer == EYRIE_YES) l->more = EY_MATRIX_UNIT;
    else fprintf(stderr, "skipping: no matrix unit: %s\n", v.reason);
    return l->more != 0;
}

/* Without a unit there is no device, and every test is skipped. */
static inline int open_shared_with_unit(void **state)
{
    class_tested = EYRIE_KERNELS_CPU;
    open_shared(state);
    if (!lab_add_unit(&shared)) {
        lab_close(&shared);
        shared.device = NULL;
    }
    return 0;
}

static inline int close_shared(void **state)
{
    (void)state;
    lab_close(&shared);
    return 0;
}

static inline int clean_up(void **state)
{
    free_numbers();
    return remove_dir(state);
}

/* In the list of tests: f finds in *state the path of an empty directory, for checkpoints. */
#define op_test(f)         cmocka_unit_test_setup_teardown(f, make_dir, clean_up)
#define run_cpu_tests(list) cmocka_run_group_tests_name("CPU class", list, open_shared, close_shared)
#define run_gpu_tests(list) cmocka_run_group_tests_name("GPU class", list, open_shared_for_gpus, close_shared)
#define run_unit_tests(list) cmocka_run_group_tests_name("matrix unit", list, open_shared_with_unit, close_shared)
#define run_op_tests(list) (run_cpu_tests(list) + run_gpu_tests(list))

/* ------------------------------------------------------------------------------------------------------------ rig */

typedef struct rig {
    lab        *lab;
    ey_geometry geometry;           /* of the batches; zeros unless the test sets it */
    ey_file    *file;
    ey_weights *weights;
    ey_state    state;              /* one layer, SLOTS slots */
    ey_scratch  scratch;
    ey_plan     plan;
    uint64_t    given;              /* bit of every value that was put since the last rig_clear */
} rig;

/* A plan for up to `tokens` tokens in `rows` rows. */
static inline void rig_open(rig *r, lab *l, eyrie_format kv, ey_phase phase, uint32_t tokens, uint32_t rows)
{
    ey_program *program = lab_program(l, kv);

    *r = (rig){ .lab = l };
    ey_scratch_init(&r->scratch, l->device, "scratch");
    assert_ok(ey_plan_begin(&r->plan, phase, tokens, rows, l->device, program, &r->scratch, &err));
}

static inline void rig_close(rig *r)
{
    ey_plan_free(&r->plan);
    ey_arena_free(&r->scratch.arena);
    ey_state_free(&r->state);
    ey_weights_free(r->weights);
    ey_file_close(r->file);
}

typedef struct tensor {
    const char  *name;
    uint64_t     shape[3];          /* 0 after the last dimension */
    const float *x;
} tensor;

/* Writes the tensors to a checkpoint in `directory` and opens it, for matrices of that format. The test declares. */
static inline ey_weights *rig_weights(rig *r, const char *directory, eyrie_format format, const tensor *tensors,
                                      size_t n)
{
    char   header[2048] = "{";
    size_t at = 1, total = 0, counts[16];

    assert_in_range(n, 1, COUNT(counts));
    for (size_t i = 0; i < n; total += counts[i++]) {
        const uint64_t *s = tensors[i].shape;
        counts[i] = (size_t)(s[0] * (s[1] ? s[1] : 1) * (s[2] ? s[2] : 1));
        at += (size_t)snprintf(header + at, sizeof header - at, "\"%s\":{\"dtype\":\"F32\",\"shape\":[%d",
                               tensors[i].name, (int)s[0]);
        for (size_t k = 1; k < 3 && s[k]; k++)
            at += (size_t)snprintf(header + at, sizeof header - at, ",%d", (int)s[k]);
        at += (size_t)snprintf(header + at, sizeof header - at, "],\"data_offsets\":[%zu,%zu]}%s", 4 * total,
                               4 * (total + counts[i]), i + 1 < n ? "," : "}");
    }
    float *body = zeros(total), *to = body;
    for (size_t i = 0; i < n; to += counts[i++]) memcpy(to, tensors[i].x, counts[i] * sizeof *to);
    write_safetensors(directory, "model.safetensors", header, body, total * sizeof *body);
    assert_ok(ey_file_open(&r->file, directory, &err));
    assert_ok(ey_weights_new(&r->weights, r->lab->device, r->file, ey_formats_all(format), &err));
    return r->weights;
}

/* The layer's state, of that many floats a slot. */
static inline const ey_layer_state *rig_state(rig *r, uint64_t floats)
{
    const uint64_t bytes = floats * sizeof(float);
    assert_ok(ey_state_init(&r->state, r->lab->device, SLOTS, &bytes, 1, &err));
    return &r->state.layers[0];
}

/* Keeps a value from the first record to the last, so that its memory is its own. For all inputs and outputs. */
static inline ey_act hold(rig *r, ey_act a)
{
    if (r->plan.status != EYRIE_OK) fail_msg("recording: %s", r->plan.error.text);
    ey_plan_keep(&r->plan, a);
    r->plan.values[a.value].first = 0;
    return a;
}

/* Makes all scratch memory untouched again. */
static inline void rig_clear(rig *r)
{
    for (size_t i = 0; i < r->scratch.arena.n; i++) {
        ey_buffer *b = r->scratch.arena.buffers[i];
        assert_ok(ey_buffer_write(r->lab->device, b, 0, b->bytes / 4 * 4, untouched(b->bytes / 4), &err));
    }
    r->given = 0;
}

/* Loads the weights, places the values, allocates. */
static inline void rig_seal(rig *r)
{
    uint64_t image = ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary);

    if (r->weights) {
        assert_ok(ey_weights_check(r->weights, &err));
        assert_ok(ey_weights_load(r->weights, &err));
    }
    assert_ok(ey_plan_end(&r->plan, &err));
    ey_arena_grow(&r->scratch.arena, r->scratch.batch, 4 * image);
    assert_ok(ey_arena_commit(&r->scratch.arena, &err));
    if (r->state.slots) assert_ok(ey_arena_commit(&r->state.arena, &err));
    rig_clear(r);
}

/* Runs one batch; rows without tokens have any. The state of all slots goes in and comes out; NULL: there is none. */
static inline void rig_run(rig *r, const ey_row *rows, uint32_t n_rows, void *state)
{
    static const int32_t any[512];
    eyrie_device *dev = r->lab->device;
    ey_buffer    *slots = state ? r->state.layers[0].buffer : NULL;
    int32_t      *image = (int32_t *)zeros(ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary));
    ey_row        given[MOST_IN_BATCH];
    ey_batch      batch = { r->plan.phase, n_rows, given };

    assert_in_range(n_rows, 1, ey_min(r->plan.rows, MOST_IN_BATCH));
    memcpy(given, rows, n_rows * sizeof *rows);
    for (uint32_t i = 0; i < n_rows; i++)
        if (!given[i].tokens) given[i].tokens = any;
    assert_in_range(ey_batch_tokens(&batch), 1, ey_min(r->plan.tokens, COUNT(any)));
    uint64_t words = ey_image_write(&batch, &r->geometry, image);
    assert_ok(ey_buffer_write(dev, r->scratch.batch, 0, words * sizeof *image, image, &err));
    r->scratch.tokens = ey_batch_tokens(&batch);
    r->scratch.wanted = ey_batch_wanted(&batch);
    if (state) assert_ok(ey_buffer_write(dev, slots, 0, slots->bytes, state, &err));
    assert_ok(ey_plan_run(&r->plan, 0, UINT32_MAX, &err));
    assert_ok(ey_device_finish(dev, &err));
    if (state) assert_ok(ey_buffer_read(dev, slots, 0, slots->bytes, state, &err));
}

/* A batch of n tokens for an op without a state: one row, in decode as many. */
static inline void rig_run_tokens(rig *r, uint32_t n)
{
    ey_row rows[MOST_IN_BATCH];

    if (r->plan.phase == EY_PREFILL) {
        rig_run(r, &(ey_row){ .n = n }, 1, NULL);
        return;
    }
    assert_in_range(n, 1, MOST_IN_BATCH);
    for (uint32_t i = 0; i < n; i++) rows[i] = (ey_row){ .slot = i, .n = 1 };
    rig_run(r, rows, n, NULL);
}

/* ---------------------------------------------------------------------------------------------------- in and out */

static inline float *read_floats(rig *r, const ey_buffer *b, uint64_t n)
{
    float *x = zeros(n);
    assert_ok(ey_buffer_read(r->lab->device, b, 0, n * sizeof *x, x, &err));
    return x;
}

/* x [rows, dim] to the first rows of a's columns, with zeros for padding; the rows below become stale. */
static inline void put(rig *r, ey_act a, ey_dim dim, const float *x, uint32_t rows)
{
    ey_buffer *b = r->scratch.pool[r->plan.values[a.value].buffer];
    uint64_t   n = r->plan.values[a.value].bytes / sizeof(float);
    float     *all = read_floats(r, b, n);

    assert_int_equal(a.width, ey_dim_padded(dim));
    for (uint64_t t = 0; t < n / a.stride; t++)
        for (uint32_t c = 0; c < a.width; c++)
            all[t * a.stride + a.offset + c] = t >= rows ? STALE : c % ey_pad(dim.size) < dim.size ? *x++ : 0.0f;
    assert_ok(ey_buffer_write(r->lab->device, b, 0, n * sizeof *all, all, &err));
    r->given |= 1ull << a.value;
}

/* The first rows of a's columns, [rows, dim]. Their padding must be zeros, and the rows below as they were. */
static inline float *get(rig *r, ey_act a, ey_dim dim, uint32_t rows)
{
    uint64_t     n = r->plan.values[a.value].bytes / sizeof(float);
    float       *out = zeros((size_t)rows * ey_dim_count(dim)), *x = out, below = STALE;
    const float *all = read_floats(r, ey_plan_buffer(&r->plan, a), n);

    if (!(r->given >> a.value & 1)) below = untouched(1)[0];
    assert_int_equal(a.width, ey_dim_padded(dim));
    for (uint64_t t = 0; t < n / a.stride; t++)
        for (uint32_t c = 0; c < a.width; c++) {
            const float *at = &all[t * a.stride + a.offset + c];
            if (t >= rows && memcmp(at, &below, sizeof below))
                fail_msg("row %u was written, which is not among %u", (unsigned)t, (unsigned)rows);
            if (t < rows && c % ey_pad(dim.size) < dim.size) *x++ = *at;
            else if (t < rows && *at != 0.0f) fail_msg("row %u: padding became %g", (unsigned)t, *at);
        }
    return out;
}

/* Two parts [rows, dim] to a paired activation: 16 columns of the first, the same 16 of the second, and so on. */
static inline void put_pair(rig *r, ey_act both, ey_dim dim, const float *first, const float *second, uint32_t rows)
{
    const uint32_t padded = ey_dim_padded(dim);
    float *x = zeros((size_t)rows * 2 * padded);

    for (uint32_t t = 0; t < rows; t++)
        for (uint32_t i = 0; i < padded; i++) {
            if (i % ey_pad(dim.size) >= dim.size) continue;
            x[(size_t)t * 2 * padded + i / 16 * 32 + i % 16] = *first++;
            x[(size_t)t * 2 * padded + i / 16 * 32 + 16 + i % 16] = *second++;
        }
    put(r, both, ey_dim_flat(2 * padded), x, rows);
}

/* One part of a paired activation, [rows, dim]. */
static inline float *get_part(rig *r, ey_act both, ey_dim dim, uint32_t part, uint32_t rows)
{
    const uint32_t padded = ey_dim_padded(dim);
    const float *all = get(r, both, ey_dim_flat(2 * padded), rows);
    float *out = zeros((size_t)rows * ey_dim_count(dim)), *to = out;

    for (uint32_t t = 0; t < rows; t++)
        for (uint32_t i = 0; i < padded; i++) {
            float x = all[(size_t)t * 2 * padded + i / 16 * 32 + part * 16 + i % 16];
            if (i % ey_pad(dim.size) < dim.size) *to++ = x;
            else if (x != 0.0f) fail_msg("row %u: padding became %g", (unsigned)t, x);
        }
    return out;
}

#endif
