/* rig.c - the lab and its rigs: numbers and verdicts in host memory, a plan of one op on the device. */
#include "rig.h"

#include "os.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

enum { MOST_ROWS = 16, POOL = 1 << 20 /* floats; the largest check takes half of it */ };

/* Leaves the function if something went wrong before, or does now. */
#define DO(r, call)                                                                       \
    do {                                                                                  \
        if ((r)->status == EYRIE_OK) (r)->status = (call);                                \
        if ((r)->status != EYRIE_OK) return;                                              \
    } while (0)

/* ---------------------------------------------------------------------------------------------------- lab and rig */

eyrie_status ey_lab_init(ey_lab *l, eyrie_device *dev, uint32_t formats, eyrie_error *err)
{
    eyrie_status st;

    *l = (ey_lab){ .dev = dev, .pool = ey_calloc(POOL, sizeof *l->pool) };
    if (!l->pool) return ey_fail(err, EYRIE_ENOMEM, "self-test");
    if ((st = ey_program_build(&l->programs[0], dev, formats, EYRIE_FORMAT_F32, err)) != EYRIE_OK) return st;
    return ey_program_build(&l->programs[1], dev, 1u << EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, err);
}

void ey_lab_free(ey_lab *l)
{
    for (size_t i = 0; i < COUNT(l->programs); i++) ey_program_free(l->programs[i]);
    ey_free(l->pool);
}

void ey_rig_init(ey_rig *r, ey_lab *l, ey_program *own)
{
    *r = (ey_rig){ .lab = l, .own = own };
    ey_arena_init(&r->arena, l->dev, "self-test");
    ey_scratch_init(&r->scratch, l->dev, "self-test");
}

void ey_rig_free(ey_rig *r)
{
    ey_plan_free(&r->plan);
    ey_arena_free(&r->scratch.arena);
    ey_arena_free(&r->arena);
}

/* -------------------------------------------------------------------------------------------------------- numbers */

float *ey_numbers(ey_rig *r, size_t n)
{
    float *x = r->lab->pool + r->lab->used;

    r->lab->used += n;
    assert(r->lab->used <= POOL);
    memset(x, 0, n * sizeof *x);
    return x;
}

float *ey_noise(ey_rig *r, size_t n, uint32_t seed, float most)
{
    float *x = ey_numbers(r, n);
    uint32_t state = seed * 2654435761u + 12345u;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = most * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return x;
}

float *ey_absolute(ey_rig *r, const float *x, size_t n)
{
    float *y = ey_numbers(r, n);
    for (size_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

float *ey_nans(ey_rig *r, size_t n)
{
    float *x = ey_numbers(r, n);
    for (size_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

void ey_judge(ey_rig *r, double got, double want, double magnitude, double roundings)
{
    double off = fabs(got - want), tolerance = roundings * EY_ROUNDING, error = 0.0, ratio = 0.0;

    if (!(off <= 0x1p-126)) {
        error = magnitude != 0.0 && !isnan(off) ? off / fabs(magnitude) : INFINITY;
        ratio = tolerance > 0.0 ? error / tolerance : INFINITY;
    }
    if (r->judged++ > 0 && (ratio < r->ratio || (ratio == 0.0 && tolerance <= r->tolerance))) return;
    r->ratio = ratio;
    r->error = error;
    r->tolerance = tolerance;
}

void ey_expect(ey_rig *r, const float *got, const float *want, const float *magnitude, size_t n, double roundings)
{
    for (size_t i = 0; i < n; i++) ey_judge(r, got[i], want[i], magnitude[i], roundings);
}

void ey_expect_same(ey_rig *r, const void *got, const void *want, size_t bytes)
{
    ey_judge(r, memcmp(got, want, bytes) ? 1.0 : 0.0, 0.0, 1.0, 0.0);
}

/* ---------------------------------------------------------------------------------------- memory that is declared */

ey_buffer *ey_rig_upload(ey_rig *r, const void *from, uint64_t bytes)
{
    ey_buffer *b = ey_arena_add(&r->arena, bytes, "self-test");

    assert(r->n_uploads < EY_RIG_UPLOADS);
    if (!b && r->status == EYRIE_OK) r->status = ey_fail(&r->err, EYRIE_ENOMEM, "self-test");
    if (b && from) {
        r->uploads[r->n_uploads].to = b;
        r->uploads[r->n_uploads++].from = from;
    }
    return b;
}

void ey_rig_state(ey_rig *r, const void *from, uint64_t slot_bytes)
{
    r->state = (ey_layer_state){ .buffer = ey_rig_upload(r, from, EY_RIG_SLOTS * slot_bytes), .bytes = slot_bytes, .stride = slot_bytes };
}

void ey_rig_matrix(ey_rig *r, ey_matrix *m, struct ey_shard *shard, eyrie_format format, float *W,
                   const float *bias, uint32_t rows, uint32_t cols)
{
    const ey_quant *q = ey_quant_of(format);
    uint64_t panel = ey_quant_panel_bytes(q, cols);
    unsigned char *packed = (unsigned char *)ey_numbers(r, rows / EY_LANES * panel / sizeof(float));

    for (uint32_t i = 0; i < rows / EY_LANES; i++) {
        q->pack(W + (size_t)i * EY_LANES * cols, cols, packed + i * panel);
        q->unpack(packed + i * panel, cols, W + (size_t)i * EY_LANES * cols);
    }
    *shard = (struct ey_shard){ 0, rows, ey_rig_upload(r, packed, rows / EY_LANES * panel) };
    *m = (ey_matrix){ .name = "self-test", .format = format, .rows = rows, .cols = cols,
                      .n_parts = 1, .part_rows = { rows }, .blocks = 1,
                      .bias = ey_rig_upload(r, bias, rows * sizeof *bias), .n_shards = 1, .shards = shard };
}

void ey_pair_up(ey_matrix *m)
{
    m->paired = true;
    m->n_parts = 2;
    m->part_rows[0] = m->part_rows[1] = m->rows / 2;
}

size_t ey_paired(uint32_t part, size_t i) { return (i / EY_LANES * 2 + part) * EY_LANES + i % EY_LANES; }

/* ------------------------------------------------------------------------------------------ a plan, and its batch */

/* Also after an error, since recording needs a plan. */
void ey_rig_begin(ey_rig *r, eyrie_format kv, ey_phase phase, uint32_t tokens, uint32_t rows)
{
    ey_program *program = r->own ? r->own : r->lab->programs[kv == EYRIE_FORMAT_F16];
    eyrie_status st = ey_plan_begin(&r->plan, phase, tokens, rows, r->lab->dev, program, &r->scratch,
                                    r->status == EYRIE_OK ? &r->err : NULL);
    if (r->status == EYRIE_OK) r->status = st;
}

ey_act ey_rig_hold(ey_rig *r, ey_act a)
{
    ey_plan_keep(&r->plan, a);
    if (r->plan.status == EYRIE_OK) r->plan.values[a.value].first = 0;
    return a;
}

ey_act ey_rig_input(ey_rig *r, uint32_t width)
{
    return ey_rig_hold(r, ey_plan_act(&r->plan, r->plan.tokens, width));
}

void ey_rig_seal(ey_rig *r)
{
    uint64_t image = ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary), most = 0;

    DO(r, ey_plan_end(&r->plan, &r->err));
    ey_arena_grow(&r->scratch.arena, r->scratch.batch, image * sizeof(int32_t));
    DO(r, ey_arena_commit(&r->scratch.arena, &r->err));
    DO(r, ey_arena_commit(&r->arena, &r->err));
    for (size_t i = 0; i < r->scratch.arena.n; i++) most = ey_max(most, r->scratch.arena.buffers[i]->bytes / 4);
    float *nothing = ey_nans(r, most);
    for (size_t i = 0; i < r->scratch.arena.n; i++) {
        ey_buffer *b = r->scratch.arena.buffers[i];
        DO(r, ey_buffer_write(r->lab->dev, b, 0, b->bytes / 4 * 4, nothing, &r->err));
    }
    for (uint32_t i = 0; i < r->n_uploads; i++) {
        ey_buffer *b = r->uploads[i].to;
        DO(r, ey_buffer_write(r->lab->dev, b, 0, b->bytes, r->uploads[i].from, &r->err));
    }
}

void ey_rig_put(ey_rig *r, ey_act a, const float *x, uint32_t tokens, uint32_t width)
{
    const size_t n = (size_t)tokens * a.stride;
    float *all = ey_numbers(r, n);

    if (r->status != EYRIE_OK) return;
    ey_buffer *b = r->scratch.pool[r->plan.values[a.value].buffer];
    DO(r, ey_buffer_read(r->lab->dev, b, 0, n * sizeof *all, all, &r->err));
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t c = 0; c < a.width; c++)
            all[(size_t)t * a.stride + a.offset + c] = c < width ? x[(size_t)t * width + c] : 0.0f;
    DO(r, ey_buffer_write(r->lab->dev, b, 0, n * sizeof *all, all, &r->err));
}

void ey_rig_get(ey_rig *r, ey_act a, float *x, uint32_t tokens, uint32_t width)
{
    const size_t n = (size_t)tokens * a.stride;
    float *all = ey_numbers(r, n);

    if (r->status != EYRIE_OK) return;
    DO(r, ey_buffer_read(r->lab->dev, ey_plan_buffer(&r->plan, a), 0, n * sizeof *all, all, &r->err));
    for (uint32_t t = 0; t < tokens; t++)
        memcpy(x + (size_t)t * width, all + (size_t)t * a.stride + a.offset, width * sizeof *x);
}

void ey_rig_read(ey_rig *r, const ey_buffer *b, void *to)
{
    DO(r, ey_buffer_read(r->lab->dev, b, 0, b->bytes, to, &r->err));
}

void ey_rig_run(ey_rig *r, const ey_row *rows, uint32_t n)
{
    static const int32_t any[128];
    ey_row given[MOST_ROWS];
    ey_batch batch = { r->plan.phase, n, given };
    int32_t *image = (int32_t *)ey_numbers(r, ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary));

    assert(n <= COUNT(given) && r->plan.tokens <= COUNT(any));
    memcpy(given, rows, n * sizeof *rows);
    for (uint32_t i = 0; i < n; i++)
        if (!given[i].tokens) given[i].tokens = any;
    if (r->status != EYRIE_OK) return;
    uint64_t words = ey_image_write(&batch, &r->geometry, image);
    DO(r, ey_buffer_write(r->lab->dev, r->scratch.batch, 0, words * sizeof *image, image, &r->err));
    r->scratch.tokens = ey_batch_tokens(&batch);
    r->scratch.wanted = ey_batch_wanted(&batch);
    double start = ey_seconds();
    DO(r, ey_plan_run(&r->plan, 0, UINT32_MAX, &r->err));
    DO(r, ey_device_finish(r->lab->dev, &r->err));
    r->seconds += ey_seconds() - start;
}

void ey_rig_run_tokens(ey_rig *r, uint32_t n)
{
    ey_row rows[MOST_ROWS];

    for (uint32_t i = 0; i < n && i < MOST_ROWS; i++) rows[i] = (ey_row){ .slot = i, .n = 1 };
    if (r->plan.phase == EY_DECODE) ey_rig_run(r, rows, n);
    else ey_rig_run(r, &(ey_row){ .n = n }, 1);
}

const ey_row_set ey_row_sets[EY_PHASES] = {
    [EY_PREFILL] = { 2, 90, { { .slot = 1, .n = 70 }, { .slot = 0, .n = 20, .position = 440 } } },
    [EY_DECODE]  = { 3, 3, { { .slot = 2, .n = 1 }, { .slot = 0, .n = 1, .position = 440 },
                             { .slot = 1, .n = 1, .position = 63 } } },
};
