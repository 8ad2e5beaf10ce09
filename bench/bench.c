/* bench.c - see bench.h. */
#include "bench.h"
#include "ops/clblast.h"
#include "os.h"

#include <eyrie/eyrie_tools.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef BENCH_SGEMM
#include <cblas.h>
#endif

#define COPIES_BYTES ((uint64_t)1 << 30)    /* more copies than fill this are of no use */
#define HOT_BYTES ((uint64_t)8 << 20)       /* a model whose copies take less stays in the caches from step to step */
#define HOT_SECONDS 0.005                   /* then a sample takes at least this */
#define MOST_SECONDS 0.25                   /* and none much more than this, if fewer copies will do */

/* A prime number of distinct panels, so that taking a wrong one shows at any power of two. */
enum { DISTINCT_PANELS = 61 };

/* Of the largest true value. f32 sums of a few thousand products are off by about 3e-6 (the sum's rounding errors grow
 * like the square root of its length); a single product left out or taken twice is off by 1e-2. */
#define TOLERANCE 2e-5

const bench_bucket bench_buckets[BENCH_BUCKETS] = {
    { EY_DECODE, 1 }, { EY_DECODE, 2 }, { EY_DECODE, 4 }, { EY_DECODE, 8 }, { EY_PREFILL, 64 }, { EY_PREFILL, 256 },
};

const eyrie_format bench_formats[BENCH_FORMATS] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, EYRIE_FORMAT_BF16,
                                                    EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };

bool bench_wants(const bench *b, const char *model, const char *what, eyrie_format format)
{
    if (b->format && strcmp(b->format, ey_quant_of(format)->name) != 0) return false;
    return !b->match || strstr(model, b->match) || strstr(what, b->match);
}

eyrie_status bench_build(bench *b, eyrie_format kv, bool int8, eyrie_error *err)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < BENCH_FORMATS; i++) mask |= 1u << bench_formats[i];
    if (b->clblast) mask |= EY_CLBLAST;
    else if (int8) mask |= EY_INT8 | (b->vnni ? EY_VNNI : 0);
    else if (b->unit) mask |= EY_MATRIX_UNIT;
    ey_program_free(b->program);
    b->program = NULL;
    return ey_program_build(&b->program, b->dev, mask, kv, err);
}

/* ---------------------------------------------------------------------------------------------------- matrix unit */

enum { UNIT_GROUPS = 4, UNIT_STEPS = 1 << 16 };     /* work-groups for each compute unit; 8 products each: 3 ms */

/* Products of tiles in registers, on four sums, which is what matmul_bf16_amx has. */
static const char unit_text[] =
    "kernel void multiply_tiles(int steps, global float *sums)\n"
    "{\n"
    "    uint config[16] = { 1, 0, 0, 0, 0x400040, 0x400040, 0x400040, 0x400040, 0, 0, 0, 0, 0x10101010, 0x10101010, 0, 0 };\n"
    "    __asm__ volatile(\"ldtilecfg (%0)\" : : \"r\"(config) : \"memory\");\n"
    "    for (int i = 0; i < steps; i++)\n"
    "        __asm__ volatile(\"tdpbf16ps %tmm6, %tmm4, %tmm0\\n\\ttdpbf16ps %tmm7, %tmm4, %tmm1\\n\\t\"\n"
    "                         \"tdpbf16ps %tmm6, %tmm5, %tmm2\\n\\ttdpbf16ps %tmm7, %tmm5, %tmm3\\n\\t\"\n"
    "                         \"tdpbf16ps %tmm6, %tmm4, %tmm0\\n\\ttdpbf16ps %tmm7, %tmm4, %tmm1\\n\\t\"\n"
    "                         \"tdpbf16ps %tmm6, %tmm5, %tmm2\\n\\ttdpbf16ps %tmm7, %tmm5, %tmm3\");\n"
    "    __asm__ volatile(\"tilestored %%tmm0, (%0,%1,1)\\n\\ttilerelease\"\n"
    "                     : : \"r\"(sums + get_global_id(0) * 256), \"r\"(64l) : \"memory\");\n"
    "}\n";

/* Where the probe says that there is one. In this process: a benchmark may crash. */
static eyrie_status open_unit(bench *b, eyrie_error *err)
{
    const char *strings[] = { unit_text };
    const cl_int steps = UNIT_STEPS;
    eyrie_verdict v;
    cl_int code;

    (void)eyrie_probe_run(b->dev, "vnni", &v, NULL);    /* which says no where it fails */
    b->vnni = v.answer == EYRIE_YES;
    (void)eyrie_probe_run(b->dev, "amx", &v, NULL);
    if (v.answer != EYRIE_YES) return EYRIE_OK;
    EY_CL_NEW(code, b->unit_program, clCreateProgramWithSource, b->dev->context, 1, strings, NULL);
    if (b->unit_program) EY_CL(code, clBuildProgram, b->unit_program, 1, &b->dev->id, "-cl-std=CL1.2", NULL, NULL);
    if (code == CL_SUCCESS) EY_CL_NEW(code, b->unit, clCreateKernel, b->unit_program, "multiply_tiles");
    if (code == CL_SUCCESS)
        EY_CL_NEW(code, b->unit_sums, clCreateBuffer, b->dev->context, CL_MEM_READ_WRITE, 1024 * UNIT_GROUPS * b->dev->units, NULL);
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, b->unit, 0, sizeof steps, &steps);
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, b->unit, 1, sizeof b->unit_sums, &b->unit_sums);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "the kernel that measures the matrix unit");
}

static eyrie_status measure_unit(const bench *b, double *flops, eyrie_error *err)
{
    const size_t groups = (size_t)UNIT_GROUPS * b->dev->units, one = 1;
    double start = ey_seconds();
    cl_int code;
    eyrie_status st;

    EY_CL(code, clEnqueueNDRangeKernel, b->dev->queue, b->unit, 1, NULL, &groups, &one, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "measuring the matrix unit");
    st = ey_device_finish(b->dev, err);
    *flops = (double)groups * UNIT_STEPS * 8 * 2 * 16 * 16 * 32 / (ey_seconds() - start);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- OpenBLAS */

/* The product of the case in f32, by somebody else. */
typedef struct rival {
    float *x, *w, *y;               /* NULL: there is none, or no room */
    int    T, N, K;
} rival;

enum { RIVAL_BYTES = 1 << 30 };

static void rival_close(rival *r)
{
    ey_free(r->x);
    ey_free(r->w);
    ey_free(r->y);
    *r = (rival){ 0 };
}

static double rival_run(const rival *r)
{
    double start = ey_seconds();
#ifdef BENCH_SGEMM
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, r->T, r->N, r->K, 1.0f, r->x, r->K, r->w, r->K, 0.0f, r->y, r->N);
#else
    (void)r;
#endif
    start = ey_seconds() - start;
    nanosleep(&(struct timespec){ 0, 50000000 }, NULL);      /* its threads go on spinning for a while */
    return start;
}

static void rival_open(rival *r, const bench_case *c)
{
    size_t T = c->product[0], N = c->product[1], K = c->product[2];

    *r = (rival){ .T = (int)T, .N = (int)N, .K = (int)K };
#ifdef BENCH_SGEMM
    bool wanted = T > 0 && N * K * sizeof(float) <= RIVAL_BYTES;
#else
    bool wanted = false;
#endif
    if (!wanted) return;
    r->x = ey_calloc(T * K, sizeof *r->x);
    r->w = ey_calloc(N * K, sizeof *r->w);
    r->y = ey_calloc(T * N, sizeof *r->y);
    if (!r->x || !r->w || !r->y) {
        rival_close(r);
        return;
    }
    bench_random(r->x, T * K, 1.0f, 5);
    bench_random(r->w, N * K, 1.0f, 6);
    (void)rival_run(r);
}

/* -------------------------------------------------------------------------------------------------------- numbers */

void bench_random(float *x, size_t n, float scale, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;      /* Knuth's MMIX; the high bits are good */
        x[i] = scale * ((float)(int32_t)(seed >> 32) * 0x1p-31f);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Value at a fraction of the way through sorted values. */
static double quantile(const double *sorted, size_t n, double fraction)
{
    double at = fraction * (double)(n - 1);
    size_t below = (size_t)at, above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

double bench_median(double *values, size_t n, double *spread)
{
    qsort(values, n, sizeof *values, compare_doubles);
    double middle = quantile(values, n, 0.5);
    *spread = 50.0 * (quantile(values, n, 0.75) - quantile(values, n, 0.25)) / middle;
    return middle;
}

static eyrie_status add_sample(bench_samples *s, double value, eyrie_error *err)
{
    if (!ey_grow(&s->values, &s->capacity, s->n + 1, sizeof *s->values)) return ey_fail(err, EYRIE_ENOMEM, "samples");
    s->values[s->n++] = value;
    return EYRIE_OK;
}

/* -------------------------------------------------------------------------------------------------------- weights */

/* Room for one copy, in shards like those of weights.c. */
static eyrie_status declare_copy(bench_weights *w, ey_matrix *m, const ey_matrix *like, eyrie_error *err)
{
    uint64_t panel = ey_quant_panel_bytes(ey_quant_of(like->format), like->cols), panels = like->rows / EY_LANES;
    uint64_t per_shard = ey_max(w->arena.dev->max_alloc / panel, 1);

    *m = *like;
    m->n_shards = (uint32_t)((panels + per_shard - 1) / per_shard);
    m->bias = ey_arena_add(&w->arena, (uint64_t)m->rows * sizeof(float), m->name);
    m->shards = ey_calloc(m->n_shards, sizeof *m->shards);
    if (!m->bias || !m->shards) return ey_fail(err, EYRIE_ENOMEM, "%s", m->name);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        uint64_t first = i * per_shard, n = ey_min(per_shard, panels - first);
        m->shards[i].row0 = (uint32_t)(first * EY_LANES);
        m->shards[i].rows = (uint32_t)(n * EY_LANES);
        if (!(m->shards[i].buffer = ey_arena_add(&w->arena, n * panel, m->name)))
            return ey_fail(err, EYRIE_ENOMEM, "%s", m->name);
    }
    return EYRIE_OK;
}

static eyrie_status load_copy(bench *b, const bench_weights *w, const ey_matrix *m, const unsigned char *packed,
                              eyrie_error *err)
{
    uint64_t panel = ey_quant_panel_bytes(ey_quant_of(m->format), m->cols);
    eyrie_status st;

    for (uint32_t i = 0; i < m->n_shards; i++) {
        uint32_t first = m->shards[i].row0 / EY_LANES, n = m->shards[i].rows / EY_LANES;
        void *to;
        EY_TRY(ey_buffer_map(b->dev, m->shards[i].buffer, &to, err));
        for (uint32_t k = 0; k < n; k++)
            memcpy((unsigned char *)to + k * panel, packed + (first + k) % w->distinct * panel, panel);
        EY_TRY(ey_buffer_unmap(b->dev, m->shards[i].buffer, to, err));
    }
    st = ey_buffer_write(b->dev, m->bias, 0, (uint64_t)m->rows * sizeof *w->bias, w->bias, err);
done:
    return st;
}

/* Panels are packed and unpacked again, so that w->panels holds what the format makes of them. */
static void make_panels(bench_weights *w, const ey_matrix *like, unsigned char *packed)
{
    const ey_quant *q = ey_quant_of(like->format);
    size_t values = (size_t)EY_LANES * like->cols;

    bench_random(w->panels, w->distinct * values, 1.0f / sqrtf((float)like->cols), 1);
    for (uint32_t i = 0; i < w->distinct; i++) {
        unsigned char *panel = packed + i * ey_quant_panel_bytes(q, like->cols);
        q->pack(w->panels + i * values, like->cols, panel);
        q->unpack(panel, like->cols, w->panels + i * values);
    }
    bench_random(w->bias, like->rows, 1.0f, 2);
}

eyrie_status bench_weights_make(bench *b, bench_weights *w, const ey_matrix *like, uint32_t copies, eyrie_error *err)
{
    uint64_t panel = ey_quant_panel_bytes(ey_quant_of(like->format), like->cols), bytes = panel * (like->rows / EY_LANES);
    unsigned char *packed;
    const char *source;
    char need[24], have[24];
    eyrie_status st;

    *w = (bench_weights){ .n = (uint32_t)ey_min(copies, ey_max(COPIES_BYTES / bytes, 1)),
                          .distinct = (uint32_t)ey_min(like->rows / EY_LANES, DISTINCT_PANELS) };
    ey_arena_init(&w->arena, b->dev, "weights");
    w->copies = ey_calloc(w->n, sizeof *w->copies);
    w->panels = ey_calloc((size_t)w->distinct * EY_LANES * like->cols, sizeof *w->panels);
    w->bias = ey_calloc(like->rows, sizeof *w->bias);
    packed = ey_calloc(w->distinct, panel);
    if (!w->copies || !w->panels || !w->bias || !packed) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", like->name);
        goto done;
    }
    make_panels(w, like, packed);
    for (uint32_t i = 0; i < w->n; i++) EY_TRY(declare_copy(w, &w->copies[i], like, err));
    uint64_t room = ey_device_free_memory(b->dev, &source);
    if (w->arena.bytes > room) {
        st = ey_fail(err, EYRIE_EMEMORY, "%s takes %s, there is %s %s", like->name, ey_bytes_text(w->arena.bytes, need),
                     ey_bytes_text(room, have), source);
        goto done;
    }
    EY_TRY(ey_arena_commit(&w->arena, err));
    for (uint32_t i = 0; i < w->n; i++) EY_TRY(load_copy(b, w, &w->copies[i], packed, err));
    st = ey_device_finish(b->dev, err);
done:
    ey_free(packed);
    return st;
}

void bench_weights_free(bench_weights *w)
{
    for (uint32_t i = 0; i < w->n && w->copies; i++) ey_free(w->copies[i].shards);
    ey_free(w->copies);
    ey_free(w->panels);
    ey_free(w->bias);
    ey_arena_free(&w->arena);
    *w = (bench_weights){ 0 };
}

const float *bench_weights_row(const bench_weights *w, uint32_t row)
{
    size_t cols = w->copies[0].cols;
    return w->panels + (row / EY_LANES % w->distinct * EY_LANES + row % EY_LANES) * cols;
}

eyrie_status bench_state(bench *b, ey_state *s, uint32_t slots, uint64_t bytes, uint32_t layers, const void *values, eyrie_error *err)
{
    uint64_t *sizes = ey_calloc(layers, sizeof *sizes);
    eyrie_status st;

    if (!sizes) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " layers", layers);
    for (uint32_t i = 0; i < layers; i++) sizes[i] = bytes;
    EY_TRY(ey_state_init(s, b->dev, slots, sizes, layers, err));
    EY_TRY(ey_arena_commit(&s->arena, err));
    for (uint32_t i = 0; i < layers; i++)
        for (uint32_t k = 0; k < slots; k++)
            EY_TRY(ey_state_write(s, i, k, 0, bytes, (const char *)values + k * bytes, err));
done:
    ey_free(sizes);
    return st;
}

/* ---------------------------------------------------------------------------------------------------------- cases */

eyrie_status bench_begin(bench *b, bench_case *c, bench_bucket bucket, eyrie_error *err)
{
    uint32_t rows = bucket.phase == EY_DECODE ? bucket.tokens : 1;
    ey_scratch_init(&c->scratch, b->dev, "scratch");
    return ey_plan_begin(&c->plan, bucket.phase, bucket.tokens, rows, b->dev, b->program, &c->scratch, err);
}

static eyrie_status upload_batch(bench *b, const bench_case *c, const ey_geometry *g, uint64_t position, eyrie_error *err)
{
    const ey_plan *p = &c->plan;
    int32_t *ids = ey_calloc(p->tokens, sizeof *ids);
    int32_t *image = ey_calloc(ey_image_capacity(p->tokens, p->rows, g->rotary), sizeof *image);
    ey_row *rows = ey_calloc(p->rows, sizeof *rows);
    eyrie_status st;

    if (ids && image && rows) {
        const uint32_t n = p->tokens / p->rows;
        for (uint32_t i = 0; i < p->rows; i++)
            rows[i] = (ey_row){ .slot = i, .n = n, .position = position, .tokens = ids, .want = c->want,
                                .targets = c->targets ? c->targets + i * n : NULL };
        uint64_t words = ey_image_write(&(ey_batch){ p->phase, p->rows, rows }, g, image);
        st = ey_buffer_write(b->dev, c->scratch.batch, 0, words * sizeof *image, image, err);
    } else {
        st = ey_fail(err, EYRIE_ENOMEM, "a batch of %u tokens", (unsigned)p->tokens);
    }
    ey_free(ids);
    ey_free(image);
    ey_free(rows);
    return st;
}

eyrie_status bench_ready(bench *b, bench_case *c, const ey_geometry *g, uint64_t position, eyrie_error *err)
{
    ey_plan *p = &c->plan;
    eyrie_status st;

    EY_TRY(ey_plan_end(p, err));
    ey_arena_grow(&c->scratch.arena, c->scratch.batch, 4 * ey_image_capacity(p->tokens, p->rows, g->rotary));
    EY_TRY(ey_arena_commit(&c->scratch.arena, err));
    st = upload_batch(b, c, g, position, err);
done:
    return st;
}

static uint64_t act_bytes(const bench_case *c, ey_act a) { return (uint64_t)c->plan.tokens * a.stride * sizeof(float); }

eyrie_status bench_put(bench *b, const bench_case *c, ey_act a, const float *from, eyrie_error *err)
{
    ey_buffer *buffer = c->scratch.pool[c->plan.values[a.value].buffer];
    return ey_buffer_write(b->dev, buffer, 0, act_bytes(c, a), from, err);
}

eyrie_status bench_get(bench *b, const bench_case *c, ey_act a, float *to, eyrie_error *err)
{
    return ey_buffer_read(b->dev, ey_plan_buffer(&c->plan, a), 0, act_bytes(c, a), to, err);
}

/* Replays the first `layers` copies `passes` times; the seconds that one copy took. */
static eyrie_status replay(bench *b, const bench_case *c, uint32_t layers, uint32_t passes, double *seconds,
                           eyrie_error *err)
{
    double start = ey_seconds();
    eyrie_status st;

    for (uint32_t i = 0; i < passes; i++) EY_TRY(ey_plan_run(&c->plan, 0, layers, err));
    EY_TRY(ey_device_finish(b->dev, err));
    *seconds = (ey_seconds() - start) / ((double)passes * layers);
done:
    return st;
}

eyrie_status bench_run(bench *b, const bench_case *c, eyrie_error *err)
{
    double ignored;
    return replay(b, c, c->copies, 1, &ignored, err);
}

void bench_compare(bench_check *found, const float *got, const float *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)got[i] - expected[i]);
        found->error = fmax(found->error, isnan(difference) ? INFINITY : difference);
        found->largest = fmax(found->largest, fabs((double)expected[i]));
    }
}

static const char *phase_name(const bench_case *c) { return c->plan.phase == EY_DECODE ? "decode" : "prefill"; }

eyrie_status bench_verdict(const bench_case *c, const bench_check *found, eyrie_error *err)
{
    double tolerance = c->tolerance > 0.0 ? c->tolerance : TOLERANCE;

    if (found->largest > 0.0 && found->error <= tolerance * found->largest) return EYRIE_OK;
    return ey_fail(err, EYRIE_ENUMERIC, "%s: %s, %s, %s of %u: wrong by %.3g where the largest value is %.3g; at most %g "
                   "of that is rounding", c->model, c->what, c->format, phase_name(c), (unsigned)c->plan.tokens,
                   found->error, found->largest, tolerance);
}

eyrie_status bench_time(bench *b, const bench_case *c, eyrie_error *err)
{
    double *times = ey_calloc(b->repetitions, sizeof *times), *shares = ey_calloc(b->repetitions, sizeof *shares);
    double *times_ahead = ey_calloc(b->repetitions, sizeof *times_ahead);
    char ahead[24] = "";
    rival other;
    double bytes = (double)c->work.bytes, flops = (double)c->work.flops, once, spread, ignored;
    uint32_t layers = c->copies, passes = 1, reads_bound = 0;
    const char *fastest = c->unit ? "unit" : "fma";
    eyrie_status st;

    rival_open(&other, c);
    if (!times || !shares || !times_ahead) {
        st = ey_fail(err, EYRIE_ENOMEM, "samples");
        goto done;
    }
    EY_TRY(replay(b, c, layers, 1, &once, err));            /* warms up, and says how much fits a sample */
    if (once * layers > MOST_SECONDS) layers = (uint32_t)ey_max((uint64_t)(MOST_SECONDS / once), 1);
    else if (c->work.bytes * layers < HOT_BYTES && once * layers < HOT_SECONDS)
        passes = (uint32_t)(HOT_SECONDS / (once * layers)) + 1;

    for (uint32_t i = 0; i < b->repetitions; i++) {
        ey_rates limit;
        EY_TRY(ey_limits_measure(&b->limits, &limit, err));
        EY_TRY(add_sample(&b->reads, limit.bytes, err));
        EY_TRY(add_sample(&b->fmas, limit.flops, err));
        if (c->unit) {
            EY_TRY(measure_unit(b, &limit.flops, err));
            EY_TRY(add_sample(&b->units, limit.flops, err));
        }
        EY_TRY(replay(b, c, layers, passes, &times[i], err));
        double read = bytes / limit.bytes, compute = flops / limit.flops;
        shares[i] = 100.0 * fmax(read, compute) / times[i];
        reads_bound += read >= compute;
        if (other.x) times_ahead[i] = rival_run(&other) / times[i];
    }
    double time = bench_median(times, b->repetitions, &spread), share = bench_median(shares, b->repetitions, &ignored);
    if (other.x) snprintf(ahead, sizeof ahead, "%.2f", bench_median(times_ahead, b->repetitions, &ignored));
    printf("| %s | %s | %s | %s | %u | %.4g | %.0f %% | %.4g | %.4g | %.0f %% of %s | %s |\n", c->model, c->what, c->format,
           phase_name(c), (unsigned)c->plan.tokens, 1e3 * time, spread, 1e-9 * bytes / time, 1e-9 * flops / time, share,
           2 * reads_bound > b->repetitions ? "read" : fastest, ahead);
    fflush(stdout);
done:
    rival_close(&other);
    ey_free(times);
    ey_free(times_ahead);
    ey_free(shares);
    return st;
}

void bench_end(bench_case *c)
{
    ey_plan_free(&c->plan);
    ey_arena_free(&c->scratch.arena);
}

/* ----------------------------------------------------------------------------------------------------------- main */

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s [-d DEVICE] [-k DIR] [-f FORMAT] [-m TEXT] [-n REPETITIONS] [-c]\n"
                    "  -d  part of the device's name, its number, gpu or cpu (default: first GPU, else first)\n"
                    "  -k  kernel files in DIR replace the built-in ones of the same name\n"
                    "  -f  only this format: f32, f16, bf16, q8, q4\n"
                    "  -m  only models or shapes whose name has TEXT in it\n"
                    "  -n  samples of each row, from 1 to 1000 (default 9)\n"
                    "  -c  dense products of prefill by CLBlast\n", program);
    return 2;
}

static bool read_options(bench *b, eyrie_device_opts *device, int argc, char **argv)
{
    char *end;
    int option;

    b->repetitions = 9;
    while ((option = getopt(argc, argv, "d:k:f:m:n:c")) != -1) {
        switch (option) {
        case 'd': device->select = optarg; break;
        case 'k': device->kernel_dir = optarg; break;
        case 'f': b->format = optarg; break;
        case 'm': b->match = optarg; break;
        case 'c': b->clblast = true; break;
        case 'n': {
            unsigned long n = strtoul(optarg, &end, 10);
            if (*end != '\0' || n < 1 || n > 1000) return false;
            b->repetitions = (uint32_t)n;
            break;
        }
        default: return false;
        }
    }
    return optind == argc;
}

static void print_limits(bench *b)
{
    double read_spread, fma_spread;

    double read = bench_median(b->reads.values, b->reads.n, &read_spread);
    double fma = bench_median(b->fmas.values, b->fmas.n, &fma_spread);
    printf("\nLimits beside these rows: read %.1f GB/s (spread %.0f %%; streams a work-item: %u), fma %.0f GFLOP/s "
           "(spread %.0f %%).\n\n", 1e-9 * read, read_spread, (unsigned)ey_limits_streams(&b->limits), 1e-9 * fma,
           fma_spread);
#ifdef BENCH_SGEMM
    printf("sgemm is OpenBLAS's for %s.\n\n", openblas_get_corename());
#endif
    if (b->units.n > 0) {
        double unit = bench_median(b->units.values, b->units.n, &fma_spread);
        printf("Beside those of the matrix unit: %.0f GFLOP/s (spread %.0f %%).\n\n", 1e-9 * unit, fma_spread);
    }
}

int bench_main(int argc, char **argv, const char *title, eyrie_status (*run)(bench *b, eyrie_error *err))
{
    bench b = { 0 };
    eyrie_device_opts device = { .struct_size = sizeof device };
    eyrie_error err;
    eyrie_status st;

    if (!read_options(&b, &device, argc, argv)) return usage(argv[0]);
    if (b.clblast && !ey_clblast_exists()) {
        fprintf(stderr, "%s: built without CLBlast\n", argv[0]);
        return 1;
    }
    EY_TRY(eyrie_device_open(&b.dev, &device, &err));
    EY_TRY(ey_limits_open(&b.limits, b.dev, &err));
    EY_TRY(open_unit(&b, &err));
    printf("### %s\n\n%s, %u compute units.\n\n"
           "| model | op | format | phase | tokens | ms | spread | GB/s | GFLOP/s | share of the limit | x sgemm |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|\n", title, eyrie_device_name(b.dev), (unsigned)b.dev->units);
    EY_TRY(run(&b, &err));
    if (b.reads.n > 0) print_limits(&b);
    else st = ey_fail(&err, EYRIE_EINVAL, "-f and -m leave nothing to time");
done:
    if (st != EYRIE_OK) fprintf(stderr, "%s: %s\n", argv[0], err.text);
    ey_limits_close(&b.limits);
    ey_program_free(b.program);
    if (b.clblast) ey_clblast_forget();
    EY_CL_FREE(clReleaseMemObject, b.unit_sums);
    EY_CL_FREE(clReleaseKernel, b.unit);
    EY_CL_FREE(clReleaseProgram, b.unit_program);
    ey_free(b.units.values);
    ey_free(b.reads.values);
    ey_free(b.fmas.values);
    (void)eyrie_device_close(b.dev);
    return st == EYRIE_OK ? 0 : 1;
}
