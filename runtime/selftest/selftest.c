/* selftest.c - every kernel, in all its variants and weight formats, against the plain-C reference on the device that is
 * open: a few awkward shapes each, in seconds, for users who want to know whether a driver's compiler can be trusted. The
 * breadth is in tests/test_<op>.c, which the tolerances come from; how a kernel is used by layers is not seen here.
 *
 * A check opens a rig (a plan of one op, with the memory it stands on), seals it, puts inputs, runs a batch, and judges
 * what comes out. Errors stick to the rig, like those of recording, so a check reads as if nothing could fail. Memory
 * starts out as NaNs, so that what is not written shows. */
#include "copy.h"
#include "ops/op.h"
#include "os.h"
#include "probe.h"
#include "ref/ref.h"
#include "synthetic.h"

#include <eyrie/eyrie_tools.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

/* The relative error of one rounding to f32; tolerances are counted in these. Where OpenCL 1.2 (7.4) grants more, a
 * division counts 5, sqrt, exp and log 6 each; our own functions count as tests/test_math.c bounds them. */
#define ROUNDING 0x1p-24

enum { SLOTS = 3, MOST_ROWS = 16, MOST_UPLOADS = 9, POOL = 1 << 20 /* floats; the largest check takes half of it */ };

typedef struct lab {
    eyrie_device   *dev;
    const char     *op;                 /* the only one that is asked for; NULL: all are */
    ey_program     *programs[2];        /* with rings of f32, for all weight formats; of f16 */
    ey_program     *unit;               /* of the matrix unit; NULL: there is none */
    ey_program     *int8[2];            /* with inputs of products in 8 bits; by VNNI instructions, NULL: there are none */
    float          *pool;               /* [POOL] host memory of the check that runs */
    size_t          used;
    eyrie_check_fn *on_check;
    void           *user;
    uint32_t        failures;
} lab;

typedef struct rig {
    lab           *lab;
    ey_arena       arena;               /* weights and state */
    ey_scratch     scratch;
    ey_plan        plan;
    ey_geometry    geometry;            /* of the batch */
    ey_layer_state state;
    struct { ey_buffer *to; const void *from; } uploads[MOST_UPLOADS];
    uint32_t       n_uploads;
    ey_program    *own;                 /* instead of the lab's */
    bool           unit, int8;          /* its products are the matrix unit's; have inputs in 8 bits */
    char           variant[40];
    double         seconds, ratio, error, tolerance;    /* of the number that is furthest off, by its tolerance */
    uint64_t       judged;
    eyrie_status   status;
    eyrie_error    err;
} rig;

typedef struct job job;
struct job {
    const char   *op, *variant;
    void        (*run)(rig *r, const job *j);
    eyrie_format  format;               /* of weights or keys and values */
    ey_phase      phase;
    uint32_t      choice;               /* which of the op's ways */
};

/* Leaves the function if something went wrong before, or does now. */
#define DO(r, call)                                                                       \
    do {                                                                                  \
        if ((r)->status == EYRIE_OK) (r)->status = (call);                                \
        if ((r)->status != EYRIE_OK) return;                                              \
    } while (0)

/* -------------------------------------------------------------------------------------------------------- numbers */

static float *numbers(rig *r, size_t n)
{
    float *x = r->lab->pool + r->lab->used;

    r->lab->used += n;
    assert(r->lab->used <= POOL);
    memset(x, 0, n * sizeof *x);
    return x;
}

/* In [-most, most), different for each seed. */
static float *noise(rig *r, size_t n, uint32_t seed, float most)
{
    float *x = numbers(r, n);
    uint32_t state = seed * 2654435761u + 12345u;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = most * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return x;
}

static float *copy_of(rig *r, const float *x, size_t n)
{
    float *y = numbers(r, n);
    memcpy(y, x, n * sizeof *x);
    return y;
}

static float *absolute(rig *r, const float *x, size_t n)
{
    float *y = numbers(r, n);
    for (size_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

static float *nans(rig *r, size_t n)
{
    float *x = numbers(r, n);
    for (size_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

/* One number may be off by so many roundings of its magnitude, or by what a denormal is: devices may make it 0. */
static void judge(rig *r, double got, double want, double magnitude, double roundings)
{
    double off = fabs(got - want), tolerance = roundings * ROUNDING, error = 0.0, ratio = 0.0;

    if (!(off <= 0x1p-126)) {
        error = magnitude != 0.0 && !isnan(off) ? off / fabs(magnitude) : INFINITY;
        ratio = tolerance > 0.0 ? error / tolerance : INFINITY;
    }
    if (r->judged++ > 0 && (ratio < r->ratio || (ratio == 0.0 && tolerance <= r->tolerance))) return;
    r->ratio = ratio;
    r->error = error;
    r->tolerance = tolerance;
}

static void expect(rig *r, const float *got, const float *want, const float *magnitude, size_t n, double roundings)
{
    for (size_t i = 0; i < n; i++) judge(r, got[i], want[i], magnitude[i], roundings);
}

static void expect_same(rig *r, const void *got, const void *want, size_t bytes)
{
    judge(r, memcmp(got, want, bytes) ? 1.0 : 0.0, 0.0, 1.0, 0.0);
}

/* ------------------------------------------------------------------------------------------------------------ rig */

/* Also after an error, since recording needs a plan. */
static void rig_open(rig *r, eyrie_format kv, ey_phase phase, uint32_t tokens, uint32_t rows)
{
    ey_program *program = r->own ? r->own : r->lab->programs[kv == EYRIE_FORMAT_F16];
    eyrie_status st = ey_plan_begin(&r->plan, phase, tokens, rows, r->lab->dev, program, &r->scratch,
                                    r->status == EYRIE_OK ? &r->err : NULL);
    if (r->status == EYRIE_OK) r->status = st;
}

static void rig_close(rig *r)
{
    ey_plan_free(&r->plan);
    ey_arena_free(&r->scratch.arena);
    ey_arena_free(&r->arena);
}

/* Device memory that will hold a copy of what is at `from` then. */
static ey_buffer *upload(rig *r, const void *from, uint64_t bytes)
{
    ey_buffer *b = ey_arena_add(&r->arena, bytes, "self-test");

    assert(r->n_uploads < MOST_UPLOADS);
    if (!b && r->status == EYRIE_OK) r->status = ey_fail(&r->err, EYRIE_ENOMEM, "self-test");
    if (b && from) {
        r->uploads[r->n_uploads].to = b;
        r->uploads[r->n_uploads++].from = from;
    }
    return b;
}

static void declare_state(rig *r, const void *from, uint64_t slot_bytes)
{
    r->state = (ey_layer_state){ upload(r, from, SLOTS * slot_bytes), slot_bytes };
}

/* Packs W [rows, cols] into a matrix, and rounds W as the format does. */
static void declare_matrix(rig *r, ey_matrix *m, struct ey_shard *shard, eyrie_format format, float *W, const float *bias,
                           uint32_t rows, uint32_t cols)
{
    const ey_quant *q = ey_quant_of(format);
    uint64_t panel = ey_quant_panel_bytes(q, cols);
    unsigned char *packed = (unsigned char *)numbers(r, rows / EY_LANES * panel / sizeof(float));

    for (uint32_t i = 0; i < rows / EY_LANES; i++) {
        q->pack(W + (size_t)i * EY_LANES * cols, cols, packed + i * panel);
        q->unpack(packed + i * panel, cols, W + (size_t)i * EY_LANES * cols);
    }
    *shard = (struct ey_shard){ 0, rows, upload(r, packed, rows / EY_LANES * panel) };
    *m = (ey_matrix){ .name = "self-test", .format = format, .rows = rows, .cols = cols, .n_parts = 1, .part_rows = { rows },
                      .blocks = 1, .bias = upload(r, bias, rows * sizeof *bias), .n_shards = 1, .shards = shard };
}

/* Keeps a value from the first record to the last, so that its memory is its own: for inputs and outputs. */
static ey_act hold(rig *r, ey_act a)
{
    ey_plan_keep(&r->plan, a);
    if (r->plan.status == EYRIE_OK) r->plan.values[a.value].first = 0;
    return a;
}

static ey_act input(rig *r, uint32_t width) { return hold(r, ey_plan_act(&r->plan, r->plan.tokens, width)); }

/* Places the values, allocates, fills scratch memory with NaNs, uploads. */
static void rig_seal(rig *r)
{
    uint64_t image = ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary), most = 0;

    DO(r, ey_plan_end(&r->plan, &r->err));
    ey_arena_grow(&r->scratch.arena, r->scratch.batch, image * sizeof(int32_t));
    DO(r, ey_arena_commit(&r->scratch.arena, &r->err));
    DO(r, ey_arena_commit(&r->arena, &r->err));
    for (size_t i = 0; i < r->scratch.arena.n; i++) most = ey_max(most, r->scratch.arena.buffers[i]->bytes / 4);
    float *nothing = nans(r, most);
    for (size_t i = 0; i < r->scratch.arena.n; i++)
        DO(r, ey_buffer_write(r->lab->dev, r->scratch.arena.buffers[i], 0, r->scratch.arena.buffers[i]->bytes / 4 * 4, nothing,
                              &r->err));
    for (uint32_t i = 0; i < r->n_uploads; i++)
        DO(r, ey_buffer_write(r->lab->dev, r->uploads[i].to, 0, r->uploads[i].to->bytes, r->uploads[i].from, &r->err));
}

/* x [tokens, width] to the first columns of a, zeros to the rest. */
static void put(rig *r, ey_act a, const float *x, uint32_t tokens, uint32_t width)
{
    float *all = numbers(r, (size_t)tokens * a.stride);
    ey_buffer *b;

    if (r->status != EYRIE_OK) return;
    b = r->scratch.pool[r->plan.values[a.value].buffer];
    DO(r, ey_buffer_read(r->lab->dev, b, 0, (uint64_t)tokens * a.stride * sizeof *all, all, &r->err));
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t c = 0; c < a.width; c++)
            all[(size_t)t * a.stride + a.offset + c] = c < width ? x[(size_t)t * width + c] : 0.0f;
    DO(r, ey_buffer_write(r->lab->dev, b, 0, (uint64_t)tokens * a.stride * sizeof *all, all, &r->err));
}

static void get(rig *r, ey_act a, float *x, uint32_t tokens, uint32_t width)
{
    float *all = numbers(r, (size_t)tokens * a.stride);

    if (r->status != EYRIE_OK) return;
    DO(r, ey_buffer_read(r->lab->dev, ey_plan_buffer(&r->plan, a), 0, (uint64_t)tokens * a.stride * sizeof *all, all,
                         &r->err));
    for (uint32_t t = 0; t < tokens; t++)
        memcpy(x + (size_t)t * width, all + (size_t)t * a.stride + a.offset, width * sizeof *x);
}

static void read_buffer(rig *r, const ey_buffer *b, void *to)
{
    DO(r, ey_buffer_read(r->lab->dev, b, 0, b->bytes, to, &r->err));
}

/* Runs a batch; rows without tokens have any. */
static void rig_run(rig *r, const ey_row *rows, uint32_t n)
{
    static const int32_t any[128];
    ey_row given[MOST_ROWS];
    ey_batch batch = { r->plan.phase, n, given };
    int32_t *image = (int32_t *)numbers(r, ey_image_capacity(r->plan.tokens, r->plan.rows, r->geometry.rotary));

    assert(n <= COUNT(given) && r->plan.tokens <= COUNT(any));
    memcpy(given, rows, n * sizeof *rows);
    for (uint32_t i = 0; i < n; i++)
        if (!given[i].tokens) given[i].tokens = any;
    if (r->status != EYRIE_OK) return;
    DO(r, ey_buffer_write(r->lab->dev, r->scratch.batch, 0, 4 * ey_image_write(&batch, &r->geometry, image), image, &r->err));
    r->scratch.tokens = ey_batch_tokens(&batch);
    r->scratch.wanted = ey_batch_wanted(&batch);
    double start = ey_seconds();
    DO(r, ey_plan_run(&r->plan, 0, UINT32_MAX, &r->err));
    DO(r, ey_device_finish(r->lab->dev, &r->err));
    r->seconds += ey_seconds() - start;
}

/* n tokens for an op without a state: one row, in decode as many. */
static void rig_run_tokens(rig *r, uint32_t n)
{
    ey_row rows[MOST_ROWS];

    for (uint32_t i = 0; i < n && i < MOST_ROWS; i++) rows[i] = (ey_row){ .slot = i, .n = 1 };
    if (r->plan.phase == EY_DECODE) rig_run(r, rows, n);
    else rig_run(r, &(ey_row){ .n = n }, 1);
}

/* Batches for ops that go through time: a sequence that begins, over a block and more, and others that go on. */
typedef struct row_set {
    uint32_t n, tokens;
    ey_row   rows[3];
} row_set;

static const row_set row_sets[EY_PHASES] = {
    [EY_PREFILL] = { 2, 90, { { .slot = 1, .n = 70 }, { .slot = 0, .n = 20, .position = 440 } } },
    [EY_DECODE]  = { 3, 3, { { .slot = 2, .n = 1 }, { .slot = 0, .n = 1, .position = 440 },
                             { .slot = 1, .n = 1, .position = 63 } } },
};

/* ------------------------------------------------------------------------------------------------ ops without state */

static void check_embed(rig *r, const job *j)
{
    enum { V = 80, D = 48, T = 5 };
    static const int32_t ids[T] = { 0, 79, 17, 17, 64 };
    float *table = noise(r, V * D, 1, 1.0f), *zero = numbers(r, V), *want = numbers(r, T * D), *got = numbers(r, T * D);
    struct ey_shard shard;
    ey_matrix m;

    declare_matrix(r, &m, &shard, j->format, table, zero, V, D);
    rig_open(r, EYRIE_FORMAT_F32, EY_PREFILL, T + 1, 1);
    ey_act x = hold(r, ey_embed(&r->plan, &m, 2.7f));
    rig_seal(r);
    rig_run(r, &(ey_row){ .n = T, .tokens = ids }, 1);
    get(r, x, got, T, D);
    ref_embed(T, D, ids, table, 2.7f, want);
    expect(r, got, want, want, T * D, 2);       /* the product's, and the reference's */
}

/* The device makes what the formula says, bit for bit. */
static void check_fill(rig *r, const job *j)
{
    enum { G = 3, P = 20, K = 37, PADDED = 32, COLS = 48 };
    const ey_quant *q = ey_quant_of(j->format);
    ey_recipe recipe = ey_recipe_of(7, "w", K);
    float *x = numbers(r, G * P * K), *rows = numbers(r, G * PADDED * COLS);
    unsigned char *want = (unsigned char *)numbers(r, G * PADDED * COLS);
    unsigned char *got = (unsigned char *)numbers(r, G * PADDED * COLS);
    uint64_t panel = ey_quant_panel_bytes(q, COLS);
    ey_weights *w = NULL;
    ey_matrix *m = NULL;

    ey_recipe_read(&recipe, 0, G * P * K, x);
    for (size_t i = 0; i < G * P; i++) memcpy(rows + (i / P * PADDED + i % P) * COLS, x + i * K, K * sizeof *x);
    for (size_t i = 0; i < G * PADDED / EY_LANES; i++) q->pack(rows + i * EY_LANES * COLS, COLS, want + i * panel);

    r->status = ey_weights_new_synthetic(&w, r->lab->dev, 7, 0, ey_formats_all(j->format), &r->err);
    if (r->status == EYRIE_OK) m = ey_weights_matrix(w, &(ey_part){ "w", NULL, { G, P } }, 1, ey_dim_flat(K));
    if (r->status == EYRIE_OK) r->status = ey_weights_check(w, &r->err);
    double start = ey_seconds();
    if (r->status == EYRIE_OK) r->status = ey_weights_fill(w, r->lab->programs[0], &r->err);
    r->seconds = ey_seconds() - start;
    if (r->status == EYRIE_OK) read_buffer(r, m->shards[0].buffer, got);
    if (r->status == EYRIE_OK) expect_same(r, got, want, G * PADDED / EY_LANES * panel);
    ey_weights_free(w);
}

/* Nine ranges, of `choice` bytes and twice, three times, ... as many, arrive, and nothing beside them changes. */
static void check_copy(rig *r, const job *j)
{
    enum { RANGES = 9, GAP = 64 };
    eyrie_device *dev = r->lab->dev;
    const uint64_t bytes = RANGES * (RANGES + 1) / 2 * j->choice + (RANGES + 1) * GAP, n = bytes / sizeof(float);
    float *from = noise(r, n, 1, 1.0f), *want = noise(r, n, 2, 1.0f), *got = numbers(r, n);
    ey_range ranges[RANGES];
    ey_arena arena;
    uint64_t at = GAP;

    ey_arena_init(&arena, dev, "self-test");
    ey_buffer *a = ey_arena_add(&arena, bytes, "from"), *b = ey_arena_add(&arena, bytes, "to");
    r->status = a && b ? ey_arena_commit(&arena, &r->err) : ey_fail(&r->err, EYRIE_ENOMEM, "self-test");
    if (r->status == EYRIE_OK) r->status = ey_buffer_write(dev, a, 0, bytes, from, &r->err);
    if (r->status == EYRIE_OK) r->status = ey_buffer_write(dev, b, 0, bytes, want, &r->err);
    for (uint64_t i = 0; i < RANGES; at += ranges[i++].bytes + GAP) {
        uint64_t size = (i + 1) * j->choice, to = bytes - at - size;
        ranges[i] = (ey_range){ a, at, b, to, size };
        memcpy((char *)want + to, (const char *)from + at, size);
    }
    double start = ey_seconds();
    if (r->status == EYRIE_OK) r->status = ey_copy_by_kernel(r->lab->programs[0], dev, ranges, RANGES, &r->err);
    if (r->status == EYRIE_OK) r->status = ey_buffer_read(dev, b, 0, bytes, got, &r->err);
    r->seconds = ey_seconds() - start;
    if (r->status == EYRIE_OK) expect_same(r, got, want, bytes);
    ey_arena_free(&arena);
}

static void check_norm(rig *r, const job *j)
{
    enum { D = 90, PADDED = 96, T = 6 };
    static const uint32_t all[T] = { 0, 1, 2, 3, 4, 5 }, wanted[] = { 1, 3, 4, 5 };
    const uint32_t *which = j->choice ? wanted : all, n = j->choice ? COUNT(wanted) : T;
    const ey_row rows[] = { { .n = 2, .want = EY_WANT_LAST }, { .slot = 1, .n = 1 },
                            { .slot = 2, .n = 3, .want = EY_WANT_ALL } };
    float *w = noise(r, D, 1, 1.0f), *x = noise(r, T * D, 2, 3.0f), *scale = numbers(r, PADDED);
    float *picked = numbers(r, T * D), *want = numbers(r, T * D), *got = numbers(r, T * D);

    for (size_t i = 0; i < D; i++) scale[i] = 1.0f + w[i];
    ey_buffer *b = upload(r, scale, PADDED * sizeof *scale);
    rig_open(r, EYRIE_FORMAT_F32, EY_PREFILL, T + 1, COUNT(rows));
    ey_act in = input(r, PADDED), y = hold(r, ey_normalise(&r->plan, ey_norm(in, b, D, 1e-6f), j->choice != 0));
    rig_seal(r);
    put(r, in, x, T, D);
    rig_run(r, rows, COUNT(rows));
    get(r, y, got, n, D);
    for (size_t i = 0; i < n; i++) memcpy(picked + i * D, x + (size_t)which[i] * D, D * sizeof *x);
    ref_norm(n, D, picked, w, 1e-6f, want);
    /* The sum of squares is D/16 fma, then four additions; the division by D makes 5, adding eps 1. The root halves what
     * came before and makes 6, its inverse 5; then there are two products, 1 + w, and the reference's own rounding. */
    expect(r, got, want, want, n * D, (PADDED / 16 + 4 + 5 + 1) / 2.0 + 6 + 5 + 2 + 1 + 1);
}

static void check_rope(rig *r, const job *j)
{
    enum { H = 3, D = 32, ROTARY = 16 };
    const row_set *set = &row_sets[j->phase];
    const size_t T = set->tokens, n = T * H * D;
    float *x = noise(r, n, 1, 2.0f), *want = copy_of(r, x, n), *magnitude = numbers(r, n), *got = numbers(r, n), *at = want;

    for (uint32_t i = 0; i < set->n; at += set->rows[i++].n * H * D)
        ref_rope(set->rows[i].n, H, D, ROTARY, 10000.0, set->rows[i].position, at);
    for (size_t i = 0; i < n; i++)              /* of both of a pair; what is not rotated stays as it is */
        if (i % D < ROTARY) magnitude[i] = fabsf(x[i]) + fabsf(i % D < ROTARY / 2 ? x[i + ROTARY / 2] : x[i - ROTARY / 2]);
    r->geometry = (ey_geometry){ .rotary = ROTARY, .rope_theta = 10000.0 };
    rig_open(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act heads = input(r, H * D);
    ey_rope(&r->plan, heads, H, D, ROTARY);
    rig_seal(r);
    put(r, heads, x, (uint32_t)T, H * D);
    rig_run(r, set->rows, set->n);
    get(r, heads, got, (uint32_t)T, H * D);
    expect(r, got, want, magnitude, n, 4);      /* the cosine's rounding, the product's, the sum's, and the reference's */
}

/* ------------------------------------------------------------------------------------------------------- products */

/* After the kernel that was recorded last: what it is an instance of goes without saying. */
static void name_product(rig *r, const char *what)
{
    const char *label = r->plan.n > 0 ? r->plan.records[r->plan.n - 1].label : "";

    if (strncmp(label, "matmul_", 7) == 0) label += 7;
    snprintf(r->variant, sizeof r->variant, "%s%s", label, what);
}

/* What the kernels make of inputs [rows of K columns] and weights before they multiply them. */
static void round_for(const rig *r, float *x, size_t rows, size_t K, float *W, size_t weights)
{
    if (r->unit) {
        ref_round_bf16(rows * K, x);
        ref_round_bf16(weights, W);
    }
    for (size_t i = 0; r->int8 && i < rows; i++)
        for (size_t k = 0; k < K; k += EY_GROUP) {
            int8_t q[EY_GROUP];
            size_t n = ey_min(K - k, EY_GROUP);
            float by = ref_whole(n, x + i * K + k, q);
            for (size_t c = 0; c < n; c++) x[i * K + k + c] = q[c] * by;
        }
}

/* y = x W^T + bias, then y += the same, by the tile for `choice` rows. 5 panels leave part of every tile of several over. */
static void check_matmul(rig *r, const job *j)
{
    enum { K = 176, MANY = 1024 };      /* rows in tiles enough for work-items of several, where compute units are few */
    const uint32_t T = j->choice, bucket = T, N = 80 + (r->int8 && T <= EY_FEW_ROWS ? MANY : 0);
    const size_t n = (size_t)T * N;
    float *W = noise(r, (size_t)N * K, 1, 1.0f), *bias = noise(r, N, 2, 1.0f), *x = noise(r, (size_t)T * K, 3, 1.0f);
    float *want = numbers(r, n), *magnitude = numbers(r, n), *got = numbers(r, n);
    struct ey_shard shard;
    ey_matrix m;

    declare_matrix(r, &m, &shard, j->format, W, bias, N, K);
    rig_open(r, EYRIE_FORMAT_F32, j->phase, bucket, j->phase == EY_PREFILL ? 1 : bucket);
    ey_act in = input(r, K), y = hold(r, ey_matmul(&r->plan, in, &m));
    ey_matmul_add(&r->plan, in, &m, y);
    rig_seal(r);
    name_product(r, "");
    put(r, in, x, T, K);
    rig_run_tokens(r, T);
    get(r, y, got, T, N);
    round_for(r, x, T, K, W, (size_t)N * K);
    ref_matmul(T, N, K, x, W, bias, want);
    ref_matmul(T, N, K, absolute(r, x, (size_t)T * K), absolute(r, W, (size_t)N * K), absolute(r, bias, N), magnitude);
    for (size_t i = 0; i < n; i++) want[i] *= 2, magnitude[i] *= 2;
    expect(r, got, want, magnitude, n, K + 3);  /* K fma (in 8 bits, three for 32), the bias, the sum of both; the reference's */
}

/* Makes a matrix of two parts, whose panels take turns. */
static void pair_up(ey_matrix *m)
{
    m->paired = true;
    m->n_parts = 2;
    m->part_rows[0] = m->part_rows[1] = m->rows / 2;
}

/* The paired row, or column of a product, that is number i of the part. */
static size_t paired(uint32_t part, size_t i) { return (i / EY_LANES * 2 + part) * EY_LANES + i % EY_LANES; }

/* Columns of a part of y [T, 2 N], [T, N]. */
static const float *take_part(rig *r, const float *y, uint32_t part, size_t T, size_t N)
{
    float *out = numbers(r, T * N);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < N; i++) out[t * N + i] = y[t * 2 * N + paired(part, i)];
    return out;
}

/* Two gates of G blocks of one panel each: by the lowest tile of two panels that is tall enough. */
static void check_gates(rig *r, const job *j)
{
    enum { G = 3, P = 16, N = G * P };
    const uint32_t T = j->choice;
    const size_t n = (size_t)T * N;
    float *W = noise(r, 2 * N * P, 1, 1.0f), *bias = noise(r, 2 * N, 2, 1.0f), *x = noise(r, n, 3, 1.0f);
    float *want = numbers(r, n), *magnitude = numbers(r, n), *got = numbers(r, 2 * n);
    float *stored = numbers(r, N * P), *b = numbers(r, N);
    struct ey_shard shard;
    ey_matrix m;

    declare_matrix(r, &m, &shard, j->format, W, bias, 2 * N, P);
    pair_up(&m);
    m.blocks = G;
    rig_open(r, EYRIE_FORMAT_F32, j->phase, T, j->phase == EY_PREFILL ? 1 : T);
    ey_act in = input(r, N), y = hold(r, ey_matmul(&r->plan, in, &m));
    rig_seal(r);
    name_product(r, ", gates");
    put(r, in, x, T, N);
    rig_run_tokens(r, T);
    get(r, y, got, T, 2 * N);
    round_for(r, x, (size_t)T * G, P, W, 2 * N * P);
    for (uint32_t part = 0; part < 2; part++) {
        for (size_t i = 0; i < N; i++) {        /* block b, output o, input k: a file has it as [b, k, o] */
            b[i] = bias[paired(part, i)];
            for (size_t k = 0; k < P; k++) stored[(i / P * P + k) * P + i % P] = W[paired(part, i) * P + k];
        }
        ref_gates(T, G, P, x, stored, b, want);
        ref_gates(T, G, P, absolute(r, x, n), absolute(r, stored, N * P), absolute(r, b, N), magnitude);
        expect(r, take_part(r, got, part, T, N), want, magnitude, n, P + 2);
    }
}

/* gelu(gate) * up of two parts, against the reference of what the plain product makes of them. */
static void check_geglu(rig *r, const job *j)
{
    enum { M = 48, K = 32 };
    const uint32_t T = j->choice;
    const size_t n = (size_t)T * M;
    float *W = noise(r, 2 * M * K, 1, 1.0f), *bias = noise(r, 2 * M, 2, 1.0f), *x = noise(r, (size_t)T * K, 3, 1.0f);
    float *want = numbers(r, n), *magnitude = numbers(r, n), *got = numbers(r, n), *sums = numbers(r, 2 * n);
    struct ey_shard shard;
    ey_matrix m;

    bias[0] = 40.0f, bias[1] = -40.0f;          /* where tanh is flat */
    declare_matrix(r, &m, &shard, j->format, W, bias, 2 * M, K);
    pair_up(&m);
    rig_open(r, EYRIE_FORMAT_F32, j->phase, T, j->phase == EY_PREFILL ? 1 : T);
    ey_act in = input(r, K), both = hold(r, ey_matmul(&r->plan, in, &m)), y = hold(r, ey_matmul_geglu(&r->plan, in, &m, NULL));
    rig_seal(r);
    name_product(r, "");
    put(r, in, x, T, K);
    rig_run_tokens(r, T);
    get(r, both, sums, T, 2 * M);
    get(r, y, got, T, M);
    const float *gate = take_part(r, sums, 0, T, M), *up = take_part(r, sums, 1, T, M);
    for (size_t i = 0; i < n; i++) magnitude[i] = gate[i] * up[i];
    ref_geglu(T, M, gate, up, want);
    /* gelu is off by 6.2 roundings of its argument; the product adds one, and the reference. */
    expect(r, got, want, magnitude, n, 6.2 + 1 + 1);
}

/* ------------------------------------------------------------------------------------------------ ops with a state */

static void check_conv1d(rig *r, const job *j)
{
    enum { N = 80, TAPS = 4, CARRIED = (TAPS - 1) * N, FLOATS = CARRIED + 16 };
    const row_set *set = &row_sets[j->phase];
    const size_t T = set->tokens, n = T * N;
    float *u = noise(r, n, 1, 1.0f), *bias = noise(r, N, 3, 1.0f);
    float *w = noise(r, N * TAPS, 2, 1.0f), *turned = numbers(r, N * TAPS);
    float *before = nans(r, SLOTS * FLOATS), *after = nans(r, SLOTS * FLOATS), *state = numbers(r, SLOTS * FLOATS);
    float *want = numbers(r, n), *magnitude = numbers(r, n), *got = numbers(r, n);

    for (size_t i = 0; i < N * TAPS; i++) turned[i % TAPS * N + i / TAPS] = w[i];
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * N;
        float *carry = row->position ? noise(r, CARRIED, 4 + i, 1.0f) : numbers(r, CARRIED), *size = absolute(r, carry, CARRIED);

        if (row->position) memcpy(before + row->slot * FLOATS, carry, CARRIED * sizeof *carry);     /* else NaNs */
        ref_conv1d(row->n, N, TAPS, u + at, w, bias, carry, want + at);
        ref_conv1d(row->n, N, TAPS, absolute(r, u + at, (size_t)row->n * N), absolute(r, w, N * TAPS), absolute(r, bias, N), size,
                   magnitude + at);
        memcpy(after + row->slot * FLOATS, carry, CARRIED * sizeof *carry);
    }
    ey_buffer *taps = upload(r, turned, N * TAPS * sizeof *turned), *b = upload(r, bias, N * sizeof *bias);
    declare_state(r, before, FLOATS * sizeof *before);
    rig_open(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act in = input(r, N), v = hold(r, ey_conv1d(&r->plan, in, &(ey_conv){ taps, b, TAPS, &r->state }));
    rig_seal(r);
    put(r, in, u, (uint32_t)T, N);
    rig_run(r, set->rows, set->n);
    get(r, v, got, (uint32_t)T, N);
    expect(r, got, want, magnitude, n, TAPS + 1);       /* each tap's fma, and the reference's */
    read_buffer(r, r->state.buffer, state);
    for (size_t i = 0; i < SLOTS * FLOATS; i++)
        if (!isnan(after[i]) || !isnan(state[i])) judge(r, state[i], after[i], 1, 0);
}

enum { CHANNELS = 80, H_AT = 32, SLOT_FLOATS = H_AT + CHANNELS + 16 };      /* of the recurrences below */

/* How far one channel may be from the reference, in roundings of h (in `of_h`, after the last token) and of h gelu(y) (in
 * `of_out`), with the magnitudes of both: see tests/test_rglru.c. */
static void allow(const row_set *set, uint32_t row, const float *const in[4], float p, float h0, bool blocked, size_t at,
                  float *of_h, float *h_size, float *of_out, float *out_size)
{
    bool first = set->rows[row].position == 0;
    double h = fabsf(h0), off = 0.0, products = blocked ? (double)(set->rows[row].n + EY_BLOCK) : 0.0;

    for (size_t t = 0; t < set->rows[row].n; t++) {
        size_t i = at + t * CHANNELS;
        double log_a = -8.0 * ref_sigmoid(in[0][i]) * ref_softplus(p);
        double a = first && t == 0 ? 0.0 : exp(log_a), m = first && t == 0 ? 1.0 : sqrt(-expm1(2 * log_a));
        double x = m * ref_sigmoid(in[1][i]) * fabs(in[2][i]), past = a > 0.0 ? h : 0.0;

        h = a * past + x;
        off = a * off + 12 * past + 30 * x + h + 0x1p-62 / ROUNDING;
        out_size[i] = (float)(h * fabs(in[3][i]));
        of_out[i] = h > 0.0 ? (float)(off / h + products + 12) : 0.0f;
    }
    *h_size = (float)h;
    *of_h = h > 0.0 ? (float)(off / h + products + 1) : 0.0f;
}

/* choice: 0 = one pass, 1 = blocked. */
static void put_gates(rig *r, ey_act gates, const float *za, const float *zi, uint32_t T)
{
    float *both = numbers(r, (size_t)T * 2 * CHANNELS);

    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < CHANNELS; i++) {
            both[t * 2 * CHANNELS + paired(0, i)] = za[t * CHANNELS + i];
            both[t * 2 * CHANNELS + paired(1, i)] = zi[t * CHANNELS + i];
        }
    put(r, gates, both, T, 2 * CHANNELS);
}

static void check_rglru(rig *r, const job *j)
{
    const row_set *set = &row_sets[j->phase];
    const size_t T = set->tokens, n = T * CHANNELS;
    const float *const in[4] = { noise(r, n, 1, 4.0f), noise(r, n, 2, 4.0f), noise(r, n, 3, 2.0f), noise(r, n, 4, 3.0f) };
    float *p = noise(r, CHANNELS, 5, 4.0f), *decay = numbers(r, CHANNELS), *got = numbers(r, n), *want = numbers(r, n);
    float *before = nans(r, SLOTS * SLOT_FLOATS), *after = nans(r, SLOTS * SLOT_FLOATS);
    float *state = numbers(r, SLOTS * SLOT_FLOATS);
    float *of_h = numbers(r, SLOTS * SLOT_FLOATS), *h_size = numbers(r, SLOTS * SLOT_FLOATS);
    float *of_out = numbers(r, n), *out_size = numbers(r, n);

    for (size_t i = 0; i < CHANNELS; i++) {
        p[i] -= 3.0f;                           /* channels that forget within a token, and others that remember thousands */
        decay[i] = 8.0f * ref_softplus(p[i]);
    }
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * CHANNELS, to = row->slot * SLOT_FLOATS + H_AT;
        float *h = row->position ? noise(r, CHANNELS, 6 + i, 2.0f) : numbers(r, CHANNELS);

        for (size_t k = 0; k < CHANNELS; k += 2) h[k] *= 1e-4f;     /* small beside what comes in */
        if (row->position) memcpy(before + to, h, CHANNELS * sizeof *h);
        for (size_t k = 0; k < CHANNELS; k++)
            allow(set, i, in, p[k], h[k], j->choice != 0, at + k, &of_h[to + k], &h_size[to + k], of_out, out_size);
        ref_rglru(row->n, CHANNELS, row->position == 0, in[0] + at, in[1] + at, in[2] + at, in[3] + at, p, h, want + at);
        memcpy(after + to, h, CHANNELS * sizeof *h);
    }
    ey_buffer *b = upload(r, decay, CHANNELS * sizeof *decay);
    declare_state(r, before, SLOT_FLOATS * sizeof *before);
    rig_open(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act gates = input(r, 2 * CHANNELS), v = input(r, CHANNELS), y = input(r, CHANNELS);
    ey_recurrence rec = { .v = v, .y = y, .decay = b, .state = &r->state, .h_offset = H_AT };
    ey_act out = hold(r, j->choice ? ey_rglru_blocked(&r->plan, gates, &rec) : ey_rglru_pass(&r->plan, gates, &rec));
    rig_seal(r);
    put_gates(r, gates, in[0], in[1], (uint32_t)T);
    put(r, v, in[2], (uint32_t)T, CHANNELS);
    put(r, y, in[3], (uint32_t)T, CHANNELS);
    rig_run(r, set->rows, set->n);
    get(r, out, got, (uint32_t)T, CHANNELS);
    for (size_t i = 0; i < n; i++) judge(r, got[i], want[i], out_size[i], of_out[i]);
    read_buffer(r, r->state.buffer, state);
    for (size_t i = 0; i < SLOTS * SLOT_FLOATS; i++)
        if (!isnan(after[i]) || !isnan(state[i])) judge(r, state[i], after[i], h_size[i], of_h[i]);
}

/* A recurrent layer up to its gated output, in a plan for that many rows; `state` becomes that of all slots. */
static void run_recurrent(rig *r, eyrie_format format, uint32_t bucket, float *out, float *state)
{
    enum { D = 48, G = 5, P = CHANNELS / G, TAPS = 4, H = (TAPS - 1) * CHANNELS, FLOATS = H + CHANNELS };
    const row_set *set = &row_sets[EY_DECODE];
    const uint32_t T = (uint32_t)ey_min(set->n, bucket);
    float *W = noise(r, 2 * CHANNELS * D, 1, 0.3f), *W_gates = noise(r, 2 * CHANNELS * P, 2, 0.5f), *zero = numbers(r, 2 * CHANNELS);
    float *x = noise(r, (size_t)T * D, 3, 3.0f), *before = noise(r, SLOTS * FLOATS, 4, 1.0f), *decay = noise(r, CHANNELS, 5, 1.0f);
    struct ey_shard shards[2];
    ey_matrix in_w, gates;

    for (size_t i = 0; i < CHANNELS; i++) decay[i] = 2.0f + decay[i];
    declare_matrix(r, &in_w, &shards[0], format, W, zero, 2 * CHANNELS, D);
    in_w.n_parts = 2;
    in_w.part_rows[0] = in_w.part_rows[1] = CHANNELS;
    declare_matrix(r, &gates, &shards[1], format, W_gates, zero, 2 * CHANNELS, P);
    pair_up(&gates);
    gates.blocks = G;
    ey_buffer *scale = upload(r, noise(r, D, 6, 1.0f), D * sizeof(float));
    ey_buffer *taps = upload(r, noise(r, TAPS * CHANNELS, 7, 1.0f), TAPS * CHANNELS * sizeof(float));
    ey_buffer *bias = upload(r, noise(r, CHANNELS, 8, 1.0f), CHANNELS * sizeof(float));
    ey_buffer *rates = upload(r, decay, CHANNELS * sizeof(float));
    declare_state(r, before, FLOATS * sizeof(float));
    rig_open(r, EYRIE_FORMAT_F32, EY_DECODE, bucket, bucket);
    ey_act in = input(r, D), v, y, z = ey_norm(in, scale, D, 1e-6f);
    ey_matmul_conv1d(&r->plan, z, &in_w, &(ey_conv){ taps, bias, TAPS, &r->state }, &v, &y);
    ey_act h = hold(r, ey_matmul_rglru(&r->plan, &gates, &(ey_recurrence){ v, y, rates, &r->state, H, NULL }));
    rig_seal(r);
    put(r, in, x, T, D);
    rig_run(r, set->rows, T);
    get(r, h, out, T, CHANNELS);
    read_buffer(r, r->state.buffer, state);
}

/* Decode of few rows has fewer launches, whose products do more: with the same bits as the launches they stand for. */
static void check_fused(rig *r, const job *j)
{
    enum { FLOATS = SLOTS * 4 * CHANNELS, RESULTS = 3 * CHANNELS };
    float *got = numbers(r, FLOATS + RESULTS), *want = numbers(r, FLOATS + RESULTS);
    rig apart = { .lab = r->lab, .own = r->own };

    ey_arena_init(&apart.arena, r->lab->dev, "self-test");
    ey_scratch_init(&apart.scratch, r->lab->dev, "self-test");
    run_recurrent(r, j->format, j->choice, got + FLOATS, got);
    if (r->plan.n > 0) snprintf(r->variant, sizeof r->variant, "%s, decode", r->plan.records[0].label + strlen("matmul_conv1d_"));
    run_recurrent(&apart, j->format, EY_FEW_ROWS + 1, want + FLOATS, want);
    if (r->status == EYRIE_OK && (r->status = apart.status) != EYRIE_OK) r->err = apart.err;
    for (uint32_t i = 0; i < row_sets[EY_DECODE].n && r->status == EYRIE_OK; i++) {
        size_t slot = row_sets[EY_DECODE].rows[i].slot * 4 * CHANNELS;
        if (i >= j->choice) break;
        expect_same(r, got + slot, want + slot, 4 * CHANNELS * sizeof *got);
        expect_same(r, got + FLOATS + i * CHANNELS, want + FLOATS + i * CHANNELS, CHANNELS * sizeof *got);
    }
    rig_close(&apart);
}

static void check_scan(rig *r, const job *j)
{
    const row_set *set = &row_sets[EY_PREFILL];
    const size_t T = set->tokens, n = T * CHANNELS;
    float *a = noise(r, n, 1, 1.0f), *x = noise(r, n, 2, 1.0f);
    float *want = numbers(r, n), *magnitude = numbers(r, n), *got = numbers(r, n);
    float *before = nans(r, SLOTS * SLOT_FLOATS);

    (void)j;
    for (size_t i = 0; i < n; i++) a[i] = 1.0f - fabsf(a[i] * a[i] * a[i]);     /* most near 1, so that much is carried */
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * CHANNELS;
        float *h = row->position ? noise(r, CHANNELS, 6 + i, 2.0f) : numbers(r, CHANNELS), *size = absolute(r, h, CHANNELS);

        if (row->position) memcpy(before + row->slot * SLOT_FLOATS + H_AT, h, CHANNELS * sizeof *h);
        ref_scan(row->n, CHANNELS, a + at, x + at, h, want + at);
        ref_scan(row->n, CHANNELS, a + at, absolute(r, x + at, (size_t)row->n * CHANNELS), size, magnitude + at);
    }
    declare_state(r, before, SLOT_FLOATS * sizeof *before);
    rig_open(r, EYRIE_FORMAT_F32, EY_PREFILL, (uint32_t)T, set->n);
    ey_act in_a = input(r, CHANNELS), in_x = input(r, CHANNELS);
    ey_act out = hold(r, ey_scan(&r->plan, in_a, in_x, NULL, &r->state, H_AT));
    rig_seal(r);
    put(r, in_a, a, (uint32_t)T, CHANNELS);
    put(r, in_x, x, (uint32_t)T, CHANNELS);
    rig_run(r, set->rows, set->n);
    get(r, out, got, (uint32_t)T, CHANNELS);
    /* Each token's fma rounds by at most the recurrence over magnitudes, and so does each block's product of a. */
    expect(r, got, want, magnitude, n, 2.0 * (double)T + EY_BLOCK);
}

/* ------------------------------------------------------------------------------------------------------ attention */

/* A window of more blocks than one work-item of decode goes through; heads and columns that fill no group of four. */
enum { HEADS = 5, HEAD = 48, WINDOW = 300, RING = 5, KEYS = RING * 64, UNIT = 2 * 64 * HEAD };

static void put_number(eyrie_format kv, void *ring, size_t i, float x)
{
    uint16_t half = ey_f32_to_f16(x);

    if (kv == EYRIE_FORMAT_F32) memcpy((float *)ring + i, &x, sizeof x);
    else memcpy((uint16_t *)ring + i, &half, sizeof half);
}

/* Key and value of a position to its place in the slot's ring, which is blocks of keys [HEAD][64] and values [64][HEAD]. */
static void put_position(eyrie_format kv, void *rings, uint32_t slot, uint64_t position, const float *k, const float *v)
{
    size_t unit = (slot * RING + (size_t)(position / 64 % RING)) * UNIT, lane = (size_t)(position % 64);

    for (size_t i = 0; i < HEAD; i++) {
        put_number(kv, rings, unit + i * 64 + lane, k[i]);
        put_number(kv, rings, unit + (64 + lane) * HEAD + i, v[i]);
    }
}

/* Numbers that f16 and bf16 hold, so that both types of ring hold the same, and the matrix unit takes them as they are. */
static float *halves(rig *r, size_t n, uint32_t seed, float most)
{
    float *x = noise(r, n, seed, most);
    ref_round_bf16(n, x);
    for (size_t i = 0; i < n; i++) x[i] = ey_f16_to_f32(ey_f32_to_f16(x[i]));
    return x;
}

static void check_attention(rig *r, const job *j)
{
    const row_set *set = &row_sets[j->phase];
    const size_t T = set->tokens, width = HEADS * HEAD, slot = ey_attention_state_bytes(RING, 1, HEAD, j->format);
    float *q = halves(r, T * width, 1, 2.0f), *k = halves(r, T * HEAD, 2, 1.5f), *v = halves(r, T * HEAD, 3, 1.0f);
    float *want = numbers(r, T * width), *got = numbers(r, T * width), *roundings = numbers(r, T * HEADS);
    void *before = numbers(r, SLOTS * slot / 4), *after = numbers(r, SLOTS * slot / 4), *rings = numbers(r, SLOTS * slot / 4);

    memset(before, 0xff, SLOTS * slot);         /* NaNs of either type */
    memset(after, 0xff, SLOTS * slot);
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        size_t past = (size_t)ey_min(row->position, KEYS), all = past + row->n, start = (size_t)row->position - past;
        float *keys = halves(r, all * HEAD, 4 + i, 1.5f), *values = halves(r, all * HEAD, 8 + i, 1.0f);

        memcpy(keys + past * HEAD, k + (size_t)first * HEAD, row->n * HEAD * sizeof *k);
        memcpy(values + past * HEAD, v + (size_t)first * HEAD, row->n * HEAD * sizeof *v);
        for (size_t s = 0; s < all; s++) {
            if (s < past) put_position(j->format, before, row->slot, start + s, keys + s * HEAD, values + s * HEAD);
            put_position(j->format, after, row->slot, start + s, keys + s * HEAD, values + s * HEAD);
        }
        ref_attention(row->n, past, HEADS, 1, HEAD, WINDOW, q + first * width, keys, values, want + first * width);
        /* A score is HEAD fma, a product with the scale, which is rounded itself, and less the highest: of magnitude up to
         * |q| 1.5. exp makes 6 at most. Each block and the last sum shrink by another exp and product. Then there are as many fma
         * as keys. All of that twice, above and below the division, which makes 5; the reference 1. Values are at most 1.
         * The matrix unit rounds weights to bf16, and divides by their sum as rounded: 2^-9 twice. */
        for (size_t t = 0; t < (size_t)row->n * HEADS; t++) {
            double score = 0.0, seen = (double)ey_min(WINDOW, past + t / HEADS) + 1;
            for (size_t c = 0; c < HEAD; c++) score += fabs(q[(first * HEADS + t) * HEAD + c]) * 1.5 / sqrt(HEAD);
            roundings[first * HEADS + t] = (float)(2 * ((HEAD + 4) * score + 6 + 7 * (7 + 2 * score) + seen) + 6
                                                           + (r->unit ? 0x1p-8 / ROUNDING : 0));
        }
    }
    declare_state(r, before, slot);
    r->geometry = (ey_geometry){ .window = WINDOW, .ring_blocks = RING };
    rig_open(r, j->format, j->phase, (uint32_t)T, set->n);
    ey_act in = input(r, (uint32_t)width + 2 * HEAD);
    ey_attention a = { .q = ey_act_slice(in, 0, (uint32_t)width), .k = ey_act_slice(in, (uint32_t)width, HEAD),
                       .v = ey_act_slice(in, (uint32_t)width + HEAD, HEAD), .heads = HEADS, .kv_heads = 1, .d = HEAD,
                       .scale = (float)(1 / sqrt(HEAD)), .window = WINDOW, .ring_blocks = RING, .kv = j->format,
                       .state = &r->state };
    ey_act out = hold(r, ey_attend(&r->plan, &a));
    rig_seal(r);
    put(r, a.q, q, (uint32_t)T, (uint32_t)width);
    put(r, a.k, k, (uint32_t)T, HEAD);
    put(r, a.v, v, (uint32_t)T, HEAD);
    rig_run(r, set->rows, set->n);
    get(r, out, got, (uint32_t)T, (uint32_t)width);
    for (size_t i = 0; i < T * width; i++) judge(r, got[i], want[i], 1, roundings[i / HEAD]);
    read_buffer(r, r->state.buffer, rings);
    if (r->status == EYRIE_OK) expect_same(r, rings, after, SLOTS * slot);
}

/* ----------------------------------------------------------------------------------------------------------- head */

static int by_id(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* One result, against the logits [V] it was made of. */
static void judge_result(rig *r, const int32_t *result, float *logits, size_t V, int32_t target)
{
    int32_t best[256];
    float lse, got;

    ref_head(1, V, 0.0f, logits, &lse);
    memcpy(&got, &result[0], sizeof got);
    /* A lane of a segment's sum has up to 256 additions, then there are four; exp makes 6 and its argument's rounding less
     * than one. Segments are scaled by another exp, and summed. That is an absolute error of the logarithm, which makes 6
     * of itself, a number below 13. The sum and the reference round the result. */
    judge(r, got, lse, 1, 256 + 4 + 7 + 7 + 2 + 6 * 13 + 2 * fabsf(lse));
    if (target >= 0) {
        expect_same(r, &result[1], &logits[target], sizeof *logits);
        return;
    }
    ref_best(V, logits, 256, best);
    qsort(best, 256, sizeof *best, by_id);
    expect_same(r, &result[4], best, sizeof best);
    for (size_t i = 0; i < 256; i++) expect_same(r, &result[4 + 256 + i], &logits[best[i]], sizeof *logits);
}

/* The matrix has one column that is not zero, so the logits are known: row r's are x[r] w. choice: the cap. */
static void check_head(rig *r, const job *j)
{
    enum { V = 5000, PADDED = 5008, K = 16, T = 4 };
    static const int32_t targets[T] = { -1, 4095, 4999, -1 };
    const float cap = (float)j->choice;
    const float x[T] = { 1.0f, 1.5f, -0.7f, 0.1f };
    float *W = numbers(r, PADDED * K), *zero = numbers(r, PADDED), *w = noise(r, V, 1, 20.0f);
    float *got = numbers(r, T * V), *want = numbers(r, T * V), lse[T];
    int32_t *results = (int32_t *)numbers(r, T * EY_RESULT_WORDS);
    struct ey_shard shard;
    ey_matrix m;

    for (size_t i = 0; i < V; i++) W[i * K] = w[i] = w[i / 3 * 3];      /* equals, of which the lowest ids come first */
    declare_matrix(r, &m, &shard, EYRIE_FORMAT_F32, W, zero, PADDED, K);
    ey_buffer *b = upload(r, NULL, T * EY_RESULT_WORDS * sizeof *results);
    rig_open(r, EYRIE_FORMAT_F32, EY_PREFILL, T, 1);
    ey_act in = input(r, K), logits = hold(r, ey_head_reduce(&r->plan, in, &(ey_head){ &m, V, cap, T, b }));
    rig_seal(r);
    put(r, in, x, T, 1);
    rig_run(r, &(ey_row){ .n = T, .targets = targets, .want = EY_WANT_ALL }, 1);
    get(r, logits, got, T, V);
    for (size_t i = 0; i < T * V; i++) want[i] = x[i / V] * w[i % V];
    ref_head(T, V, cap, want, lse);
    expect(r, got, want, want, T * V, cap > 0.0f ? 15 : 1);     /* the quotient's 5, tanh's 8, a product, the reference's */
    read_buffer(r, b, results);
    for (size_t i = 0; i < T && r->status == EYRIE_OK; i++)
        judge_result(r, results + i * EY_RESULT_WORDS, got + i * V, V, targets[i]);
}

/* ---------------------------------------------------------------------------------------------------------- table */

#define F32 EYRIE_FORMAT_F32
#define F16 EYRIE_FORMAT_F16
#define BF16 EYRIE_FORMAT_BF16
#define Q8 EYRIE_FORMAT_Q8
#define Q4 EYRIE_FORMAT_Q4

static const job jobs[] = {
    { "embed", "f32", check_embed, F32, EY_PREFILL, 0 },
    { "embed", "f16", check_embed, F16, EY_PREFILL, 0 },
    { "embed", "bf16", check_embed, BF16, EY_PREFILL, 0 },
    { "embed", "q8", check_embed, Q8, EY_PREFILL, 0 },
    { "embed", "q4", check_embed, Q4, EY_PREFILL, 0 },
    { "fill", "f32", check_fill, F32, EY_PREFILL, 0 },
    { "fill", "f16", check_fill, F16, EY_PREFILL, 0 },
    { "fill", "bf16", check_fill, BF16, EY_PREFILL, 0 },
    { "fill", "q8", check_fill, Q8, EY_PREFILL, 0 },
    { "fill", "q4", check_fill, Q4, EY_PREFILL, 0 },
    { "copy", "within pieces", check_copy, F32, EY_PREFILL, 64 },
    { "copy", "in pieces", check_copy, F32, EY_PREFILL, 16000 },
    { "norm", "all tokens", check_norm, F32, EY_PREFILL, 0 },
    { "norm", "wanted tokens", check_norm, F32, EY_PREFILL, 1 },
    { "conv1d", "prefill", check_conv1d, F32, EY_PREFILL, 0 },
    { "conv1d", "decode", check_conv1d, F32, EY_DECODE, 0 },
    { "scan", "blocked", check_scan, F32, EY_PREFILL, 0 },
    { "rglru", "one pass, prefill", check_rglru, F32, EY_PREFILL, 0 },
    { "rglru", "one pass, decode", check_rglru, F32, EY_DECODE, 0 },
    { "rglru", "blocked scan", check_rglru, F32, EY_PREFILL, 1 },
    { "rope", "prefill", check_rope, F32, EY_PREFILL, 0 },
    { "rope", "decode", check_rope, F32, EY_DECODE, 0 },
    { "attention", "f32 ring, prefill", check_attention, F32, EY_PREFILL, 0 },
    { "attention", "f32 ring, decode", check_attention, F32, EY_DECODE, 0 },
    { "attention", "f16 ring, prefill", check_attention, F16, EY_PREFILL, 0 },
    { "attention", "f16 ring, decode", check_attention, F16, EY_DECODE, 0 },
    { "head", "plain", check_head, F32, EY_PREFILL, 0 },
    { "head", "capped", check_head, F32, EY_PREFILL, 30 },
};

static const eyrie_format formats[] = { F32, F16, BF16, Q8, Q4 };

enum { IN_8_BITS = 1 << Q8 | 1 << Q4 | EY_INT8 };

/* Are checks of this op asked for? */
static bool is_asked(const lab *l, const char *op) { return !l->op || strcmp(l->op, op) == 0; }

static void run_on(lab *l, ey_program *own, const job *j)
{
    if (!is_asked(l, j->op)) return;
    rig r = { .lab = l, .own = own, .unit = own && own == l->unit, .int8 = own && own != l->unit };

    l->used = 0;
    snprintf(r.variant, sizeof r.variant, "%s", j->variant);
    ey_arena_init(&r.arena, l->dev, "self-test");
    ey_scratch_init(&r.scratch, l->dev, "self-test");
    j->run(&r, j);
    rig_close(&r);

    eyrie_check check = { .op = j->op, .variant = r.variant, .error = r.error, .tolerance = r.tolerance, .seconds = r.seconds,
                          .passed = r.status == EYRIE_OK && r.judged > 0 && r.ratio <= 1.0,
                          .failure = r.status == EYRIE_OK ? NULL : &r.err };
    l->failures += !check.passed;
    if (l->on_check) l->on_check(l->user, &check);
}

static void run_job(lab *l, const job *j) { run_on(l, NULL, j); }

/* The same on GPUs, in both phases. */
static void run_gpu_products(lab *l)
{
    for (size_t f = 0; f < COUNT(formats); f++)
        for (ey_phase phase = EY_PREFILL; phase < EY_PHASES; phase++) {
            size_t n;
            const ey_tile *tiles = ey_gpu_tiles(phase == EY_DECODE, &n);
            for (size_t i = 0; i < n; i++) {
                uint32_t rows = i + 1 < n ? tiles[i].rows : tiles[i].rows + 3;
                run_job(l, &(job){ "matmul", "", check_matmul, formats[f], phase, rows });
                run_job(l, &(job){ "matmul", "gates", check_gates, formats[f], phase, rows });
                run_job(l, &(job){ "geglu", "", check_geglu, formats[f], phase, rows });
            }
        }
}

/* Each tile is chosen by as many rows as it has; the tallest is given some more, so that it goes round, which are too many to be
 * fused (Mesa takes minutes to compile what 4 rows are fused with). As an op of that name, or as the ones they are. */
static void run_tiles(lab *l, ey_program *own, const char *op, eyrie_format f)
{
    size_t n;
    const ey_tile *tiles = ey_device_tiles(l->dev, &n);

    for (size_t i = 0; i < n; i++) {
        uint32_t rows = i + 1 < n ? tiles[i].rows : 2 * tiles[i].rows + 1;
        run_on(l, own, &(job){ op ? op : "matmul", "", check_matmul, f, EY_PREFILL, rows });
        if (tiles[i].panels == 2) run_on(l, own, &(job){ op ? op : "matmul", "gates", check_gates, f, EY_PREFILL, rows });
        run_on(l, own, &(job){ op ? op : "geglu", "", check_geglu, f, EY_PREFILL, rows });
        if (rows <= EY_FEW_ROWS) run_on(l, own, &(job){ op ? op : "recurrent", "", check_fused, f, EY_DECODE, rows });
    }
}

static void run_products(lab *l)
{
    for (size_t f = 0; f < COUNT(formats); f++) {
        run_tiles(l, NULL, NULL, formats[f]);
        if (!ey_quant_of(formats[f])->scaled) continue;
        if (l->int8[0]) run_tiles(l, l->int8[0], "int8", formats[f]);
        if (l->int8[1]) run_tiles(l, l->int8[1], "vnni", formats[f]);
    }
    if (!l->unit) return;
    for (size_t f = 0; f < COUNT(formats); f++) {
        if (!(EY_UNIT_FORMATS >> formats[f] & 1)) continue;
        run_on(l, l->unit, &(job){ "amx", "", check_matmul, formats[f], EY_PREFILL, 37 });
        run_on(l, l->unit, &(job){ "amx", "gates", check_gates, formats[f], EY_PREFILL, 37 });
        run_on(l, l->unit, &(job){ "amx", "geglu", check_geglu, formats[f], EY_PREFILL, 37 });
    }
    run_on(l, l->unit, &(job){ "amx", "attention", check_attention, F32, EY_PREFILL, 0 });
}

static const char *const product_ops[] = { "matmul", "geglu", "recurrent", "int8", "vnni", "amx" };

/* NULL is all of them. */
static eyrie_status check_op(const char *op, eyrie_error *err)
{
    char names[256] = "";
    size_t at = 0, n = COUNT(jobs) + COUNT(product_ops);

    for (size_t i = 0; op && i < n; i++) {
        const char *name = i < COUNT(jobs) ? jobs[i].op : product_ops[i - COUNT(jobs)];
        if (strcmp(name, op) == 0) return EYRIE_OK;
        bool again = i > 0 && i < COUNT(jobs) && strcmp(jobs[i - 1].op, name) == 0;
        if (!again && at < sizeof names) at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", name);
    }
    return op ? ey_fail(err, EYRIE_EINVAL, "there is no op \"%.40s\"; there are %s", op, names) : EYRIE_OK;
}

eyrie_status eyrie_selftest(eyrie_device *dev, const char *op, eyrie_check_fn *on_check, void *user, uint32_t *failures,
                            eyrie_error *err)
{
    lab l = { .dev = dev, .op = op, .on_check = on_check, .user = user };
    uint32_t all = 0;
    char reason[320];
    eyrie_status st;

    *failures = 0;
    if ((st = check_op(op, err)) != EYRIE_OK) return st;
    for (size_t f = 0; f < COUNT(formats); f++) all |= 1u << formats[f];
    if (!(l.pool = ey_calloc(POOL, sizeof *l.pool))) return ey_fail(err, EYRIE_ENOMEM, "self-test");
    EY_TRY(ey_program_build(&l.programs[0], dev, all, EYRIE_FORMAT_F32, err));
    EY_TRY(ey_program_build(&l.programs[1], dev, 1u << EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, err));
    if (is_asked(&l, "amx") && ey_probe_unit(dev, reason))
        EY_TRY(ey_program_build(&l.unit, dev, EY_UNIT_FORMATS | EY_MATRIX_UNIT, EYRIE_FORMAT_F32, err));
    if (is_asked(&l, "int8") && dev->cpu) EY_TRY(ey_program_build(&l.int8[0], dev, IN_8_BITS, EYRIE_FORMAT_F32, err));
    if (is_asked(&l, "vnni") && ey_probe_vnni(dev, reason))
        EY_TRY(ey_program_build(&l.int8[1], dev, IN_8_BITS | EY_VNNI, EYRIE_FORMAT_F32, err));
    for (size_t i = 0; i < COUNT(jobs); i++) run_job(&l, &jobs[i]);
    if (dev->cpu) run_products(&l);
    else run_gpu_products(&l);
    *failures = l.failures;
done:
    for (size_t i = 0; i < COUNT(l.programs); i++) ey_program_free(l.programs[i]);
    for (size_t i = 0; i < COUNT(l.int8); i++) ey_program_free(l.int8[i]);
    ey_program_free(l.unit);
    ey_free(l.pool);
    return st;
}
