/* meter.c - what a device can do, one thing at a time (the interface is in eyrie_tools.h): bandwidth over working sets of any
 * size, arithmetic of several kinds, launches and transfers. Arithmetic in f32 and launches are those of limits.c. What a
 * device is asked for here says nothing about which kernels run.
 *
 * A set that may fit into caches is passed over many times in one launch, by one work-item for each unit of a CPU: more would
 * have parts small enough for a nearer cache than the set as a whole fits into. Larger sets are shared by more, since one of a
 * few work-items that is held up would hold up all; then each pass is a launch. */
#include "limits.h"
#include "os.h"
#include "probe.h"
#include "program.h"

#include <eyrie/eyrie_tools.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LONG_ENOUGH 0.01                    /* seconds of a launch */
#define SHARED_BYTES ((uint64_t)1 << 26)    /* from this size on, many work-items of a CPU share a set */
#define TRANSFER_BYTES ((uint64_t)1 << 26)

enum { CHAINS = 16, METRICS = EYRIE_METRIC_DOWNLOAD + 1 };
static const cl_ulong MOST_PASSES = 1 << 20, MOST_STEPS = 1 << 20, MOST_TILES = 1 << 18;   /* sums of more are not exact in f32 */

/* Kernels of one program. */
typedef struct instrument {
    bool        tried;
    const struct arithmetic *arithmetic;
    cl_program  program;
    cl_kernel   kernels[3];                 /* of bandwidth: read, write, copy; else one */
    const char *how;
    char        reason[512];                /* "" if it can be used */
} instrument;

enum { BANDWIDTH, HALF, BYTES, TILES, INSTRUMENTS };

struct eyrie_meter {
    ey_limits     limits;
    instrument    instruments[INSTRUMENTS];
    struct { uint64_t set; cl_ulong turns; } latest[METRICS];   /* the set measured last, and passes or steps that took long enough;
                                             * 0: none was yet */
    uint64_t      dirty;                    /* bytes at the beginning of the limits' data that may not be integers of 1 */
    bool          flip;                     /* what is written differs from time to time */
    unsigned char *host;                    /* [2][TRANSFER_BYTES or less] sent, and received */
};

/* --------------------------------------------------------------------------------------------------------- kernels */

/* As in limits.c, and over again. `nothing` is 0, which compilers do not know: they cannot make one pass of many. */
static const char bandwidth_text[] =
    "#define EACH(what)                                                        \\\n"
    "    for (ulong p = 0; p < passes; p++, at += nothing)                     \\\n"
    "        for (ulong i = 0; i < steps / STREAMS; i++) {                     \\\n"
    "            _Pragma(\"unroll\")                                             \\\n"
    "            for (int s = 0; s < STREAMS; s++) what;                       \\\n"
    "        }\n"
    "#define WORK ulong steps, ulong spacing, ulong stride, ulong jump, ulong passes, ulong nothing\n"
    "#define PLACE at[i * stride + s * jump]\n"
    "kernel void read_set(global const V *at, WORK, global V *sums)\n"
    "{\n"
    "    V sum[STREAMS];\n"
    "    at += get_global_id(0) * spacing;\n"
    "    for (int s = 0; s < STREAMS; s++) sum[s] = 0;\n"
    "    EACH(sum[s] += PLACE)\n"
    "    for (int s = 1; s < STREAMS; s++) sum[0] += sum[s];\n"
    "    sums[get_global_id(0)] = sum[0];\n"
    "}\n"
    "kernel void write_set(global V *at, WORK, uint value)\n"
    "{\n"
    "    V all = value;\n"
    "    at += get_global_id(0) * spacing;\n"
    "    EACH(PLACE = all)\n"
    "}\n"
    "kernel void copy_set(global V *at, WORK, ulong half_way)\n"
    "{\n"
    "    at += get_global_id(0) * spacing;\n"
    "    EACH(at[half_way + i * stride + s * jump] = PLACE)\n"
    "}\n";

/* T: numbers; STEP: what becomes of x in a step of two operations a number (or as `arithmetic` says). */
static const char arithmetic_text[] =
    "kernel void calculate(ulong steps, global T *sums)\n"
    "{\n"
    "    T chain[CHAINS];\n"
    "    for (int k = 0; k < CHAINS; k++) chain[k] = k;\n"
    "    for (ulong i = 0; i < steps; i++) {\n"
    "#pragma unroll\n"
    "        for (int k = 0; k < CHAINS; k++) { T x = chain[k]; chain[k] = STEP; }\n"
    "    }\n"
    "    for (int k = 1; k < CHAINS; k++) chain[0] += chain[k];\n"
    "    sums[get_global_id(0)] = chain[0];\n"
    "}\n";

/* Products of tiles of ones in registers, on four sums, as the kernels have them: 32 are added to each sum by each product. */
static const char tiles_text[] =
    "kernel void calculate(ulong steps, global float *sums)\n"
    "{\n"
    "    uint config[16] = { 1, 0, 0, 0, 0x400040, 0x400040, 0x400040, 0x400040, 0, 0, 0, 0, 0x10101010, 0x10101010, 0, 0 };\n"
    "    uint ones[256];\n"
    "    for (int i = 0; i < 256; i++) ones[i] = 0x3f803f80;\n"
    "    __asm__ volatile(\"ldtilecfg (%0)\\n\\ttileloadd (%1,%2,1), %%tmm4\\n\\ttileloadd (%1,%2,1), %%tmm5\\n\\t\"\n"
    "                     \"tileloadd (%1,%2,1), %%tmm6\\n\\ttileloadd (%1,%2,1), %%tmm7\"\n"
    "                     : : \"r\"(config), \"r\"(ones), \"r\"(64l) : \"memory\");\n"
    "    for (ulong i = 0; i < steps; i++)\n"
    "        __asm__ volatile(\"tdpbf16ps %tmm6, %tmm4, %tmm0\\n\\ttdpbf16ps %tmm7, %tmm4, %tmm1\\n\\t\"\n"
    "                         \"tdpbf16ps %tmm6, %tmm5, %tmm2\\n\\ttdpbf16ps %tmm7, %tmm5, %tmm3\");\n"
    "    __asm__ volatile(\"tilestored %%tmm0, (%0,%1,1)\\n\\ttilerelease\"\n"
    "                     : : \"r\"(sums + get_global_id(0) * 256), \"r\"(64l) : \"memory\");\n"
    "}\n";


/* Of a dialect: operations of a step, and bytes of the result of a work-item. */
typedef struct arithmetic {
    double   operations;
    uint32_t bytes;
} arithmetic;
static const arithmetic by_vnni = { 128, 64 }, by_dot = { 8, 4 }, by_bytes = { 32, 16 }, by_half = { 16, 16 }, by_tiles = { 4 * 2 * 16 * 16 * 32, 1024 };

/* Ways to have 8-bit and 16-bit arithmetic; the first that compiles is taken. */
typedef struct dialect {
    const arithmetic *arithmetic;
    const char       *how, *options, *head;
} dialect;

static const dialect byte_dialects[] = {
    { &by_vnni, "AVX-512 VNNI, dot products of four", "-cl-std=CL1.2",
      "#define T uint16\n#define STEP add_products(x, 0x05030201u)\n"
      "uint16 add_products(uint16 x, uint16 y) { __asm__(\"vpdpbusd %1, %1, %0\" : \"+v\"(x) : \"v\"(y)); return x; }\n" },
    { &by_dot, "dot products of four", "-cl-std=CL3.0",
      "#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable\n"
      "#define T uint\n#define STEP (x + dot_4x8packed_uu_uint(x, 0x05030201u))\n" },
    { &by_bytes, "multiply-adds of vectors", "-cl-std=CL1.2", "#define T uchar16\n#define STEP (x * (uchar)5 + (uchar)3)\n" },
};

static const dialect half_dialects[] = {
    { &by_half, "fma of vectors", "-cl-std=CL1.2", "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n"
      "#define T half8\n#define STEP fma(x, (half8)0.5f, (half8)1.0f)\n" },
    { &by_half, "fma of vectors, unannounced", "-cl-std=CL1.2", "#define T half8\n#define STEP fma(x, (half8)0.5f, (half8)1.0f)\n" },
};

/* -------------------------------------------------------------------------------------------------------- building */

static bool build(eyrie_meter *m, instrument *in, const char *head, const char *text, const char *options)
{
    eyrie_device *dev = m->limits.dev;
    const char *strings[] = { head, text };
    char line[320], all[160];
    cl_int code;

    snprintf(all, sizeof all, "%s -DCHAINS=%d -DSTREAMS=%u -DV=uint%u", options, CHAINS, (unsigned)ey_limits_streams(&m->limits),
             (unsigned)m->limits.lanes);
    EY_CL_FREE(clReleaseProgram, in->program);
    EY_CL_NEW(code, in->program, clCreateProgramWithSource, dev->context, 2, strings, NULL);
    if (in->program && EY_CL(code, clBuildProgram, in->program, 1, &dev->id, all, NULL, NULL) == CL_SUCCESS) return true;
    snprintf(line, sizeof line, "OpenCL error %d", (int)code);
    if (in->program) ey_program_error(in->program, dev->id, line, sizeof line);
    snprintf(in->reason, sizeof in->reason, "the compiler refuses it: %s", line);
    return false;
}

static void make_kernel(instrument *in, uint32_t i, const char *name)
{
    cl_int code;

    EY_CL_NEW(code, in->kernels[i], clCreateKernel, in->program, name);
    if (!in->kernels[i]) snprintf(in->reason, sizeof in->reason, "creating the kernel %s: OpenCL error %d", name, (int)code);
}

/* without: bits of those that a probe refuses. */
static void build_first(eyrie_meter *m, instrument *in, const dialect *list, size_t n, unsigned without)
{
    bool built = false;

    for (size_t i = 0; i < n && !built; i++) {
        if (without >> i & 1) continue;
        in->reason[0] = '\0';
        in->how = list[i].how;
        in->arithmetic = list[i].arithmetic;
        built = build(m, in, list[i].head, arithmetic_text, list[i].options);
    }
}

/* Does a probe say so? Then nothing has to be tried, which some drivers complain about on the terminal. */
static bool refuses(const eyrie_meter *m, const char *probe, char reason[512])
{
    eyrie_verdict v;

    eyrie_probe_recall(m->limits.dev, probe, &v);
    if (v.answer == EYRIE_NO || v.answer == EYRIE_CRASHES) snprintf(reason, 512, "the probe says: %s", v.reason);
    return v.answer == EYRIE_NO || v.answer == EYRIE_CRASHES;
}

/* Made when it is first asked for. */
static instrument *take(eyrie_meter *m, uint32_t which)
{
    static const char *const bandwidth[] = { "read_set", "write_set", "copy_set" };
    instrument *in = &m->instruments[which];
    char why[512];

    if (in->tried) return in;
    in->tried = true;
    if (which == BANDWIDTH) {
        in->how = "streams of kernels";
        if (build(m, in, "", bandwidth_text, "-cl-std=CL1.2"))
            for (uint32_t i = 0; i < 3 && !in->reason[0]; i++) make_kernel(in, i, bandwidth[i]);
        return in;
    }
    if (which == HALF && !(refuses(m, "half", in->reason) && refuses(m, "half-unannounced", why)))
        build_first(m, in, half_dialects, sizeof half_dialects / sizeof *half_dialects, 0);
    if (which == BYTES) {
        unsigned without = (ey_probe_vnni(m->limits.dev, why) ? 0 : 1) | (refuses(m, "dot-product", why) ? 2 : 0);
        build_first(m, in, byte_dialects, sizeof byte_dialects / sizeof *byte_dialects, without);
    }
    if (which == TILES) {
        in->how = "AMX, products of bf16";
        in->arithmetic = &by_tiles;
        if (!ey_probe_unit(m->limits.dev, why))
            snprintf(in->reason, sizeof in->reason, "%s", why[0] ? why : "the device has none that this library knows");
        else (void)build(m, in, "", tiles_text, "-cl-std=CL1.2");
    }
    if (!in->reason[0]) make_kernel(in, 0, "calculate");
    return in;
}

/* -------------------------------------------------------------------------------------------------------- running */

/* `times` in a row, and waits for the last. */
static eyrie_status launch(eyrie_meter *m, cl_kernel kernel, size_t items, size_t group, cl_ulong times, double *seconds,
                           eyrie_error *err)
{
    eyrie_device *dev = m->limits.dev;
    double start = ey_seconds();
    cl_int code = CL_SUCCESS;
    eyrie_status st;

    for (; times > 0 && code == CL_SUCCESS; times--)
        EY_CL(code, clEnqueueNDRangeKernel, dev->queue, kernel, 1, NULL, &items, &group, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: launching a measurement", dev->name);
    st = ey_device_finish(dev, err);
    *seconds = ey_seconds() - start;
    return st;
}

static eyrie_status set_argument(const eyrie_meter *m, cl_kernel kernel, cl_uint i, size_t bytes, const void *value, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clSetKernelArg, kernel, i, bytes, value);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: setting a measurement's arguments", m->limits.dev->name);
}

/* How kernels pass over the beginning of the data. */
typedef struct stretch {
    size_t   items, group;
    cl_ulong steps, spacing, stride, jump;          /* steps: of each work-item */
    bool     shared;                                /* a pass is a launch */
} stretch;

static uint64_t vector_bytes(const eyrie_meter *m) { return 4 * (uint64_t)m->limits.lanes; }

/* The bytes it comes to are a little less than asked for where they cannot be divided. */
static stretch lay_out(const eyrie_meter *m, uint64_t bytes)
{
    const ey_limits *l = &m->limits;
    uint32_t streams = ey_limits_streams(l);
    stretch s = { l->read_work.items, l->read_work.group, 0, 0, 0, 0, l->contiguous && bytes >= SHARED_BYTES };

    if (l->contiguous && !s.shared) s.items = l->dev->units;
    while (s.items > s.group && bytes / vector_bytes(m) / s.items < streams) s.items /= 2;
    s.items = s.items / s.group * s.group;
    s.steps = ey_max(bytes / vector_bytes(m) / s.items / streams * streams, streams);
    s.spacing = l->contiguous ? s.steps : 1;
    s.stride = l->contiguous ? 1 : s.items;
    s.jump = s.steps / streams * s.stride;
    return s;
}

static uint64_t stretch_bytes(const eyrie_meter *m, const stretch *s) { return s->items * s->steps * vector_bytes(m); }

static eyrie_status pass_over(eyrie_meter *m, eyrie_metric what, const stretch *s, cl_ulong passes, const void *last, size_t last_bytes,
                              double *seconds, eyrie_error *err)
{
    cl_kernel kernel = take(m, BANDWIDTH)->kernels[what];
    const cl_ulong nothing = 0;
    const cl_ulong numbers[] = { s->steps, s->spacing, s->stride, s->jump, s->shared ? 1 : passes, nothing };
    cl_mem mem = m->limits.data->mem;
    eyrie_status st;

    EY_TRY(set_argument(m, kernel, 0, sizeof mem, &mem, err));
    for (cl_uint i = 0; i < 6; i++) EY_TRY(set_argument(m, kernel, 1 + i, sizeof numbers[i], &numbers[i], err));
    EY_TRY(set_argument(m, kernel, 7, last_bytes, last, err));
    st = launch(m, kernel, s->items, s->group, s->shared ? passes : 1, seconds, err);
done:
    return st;
}

static eyrie_status fill(eyrie_meter *m, uint32_t value, uint64_t offset, uint64_t bytes, eyrie_error *err)
{
    cl_int code;

    EY_CL(code, clEnqueueFillBuffer, m->limits.dev->queue, m->limits.data->mem, &value, sizeof value, (size_t)offset, (size_t)(bytes & ~(uint64_t)3),
          0, NULL, NULL);
    return code == CL_SUCCESS ? ey_device_finish(m->limits.dev, err)
                              : ey_fail_cl(err, code, "%s: filling memory to measure with", m->limits.dev->name);
}

/* Are what the kernel that reads has added up so many integers of this value? */
static eyrie_status check_sums(eyrie_meter *m, const char *what, const stretch *s, cl_ulong passes, uint32_t value, eyrie_error *err)
{
    size_t n = s->items * m->limits.lanes;
    const uint32_t *sums = (const uint32_t *)m->limits.host;
    uint64_t total = 0, expected = (uint64_t)value * (s->shared ? 1 : passes) * (stretch_bytes(m, s) / 4);
    eyrie_status st;

    EY_TRY(ey_buffer_read(m->limits.dev, m->limits.sums, 0, n * sizeof *sums, m->limits.host, err));
    for (size_t i = 0; i < n; i++) total += sums[i];
    if (total != expected)
        st = ey_fail(err, EYRIE_ENUMERIC, "%s: measuring %s of %" PRIu64 " bytes, the sum is %" PRIu64 " instead of %" PRIu64,
                     m->limits.dev->name, what, stretch_bytes(m, s), total, expected);
done:
    return st;
}

/* What was written is read. */
static eyrie_status verify(eyrie_meter *m, const char *what, uint64_t bytes, uint32_t value, eyrie_error *err)
{
    const stretch s = lay_out(m, bytes);
    cl_mem sums = m->limits.sums->mem;
    double ignored;
    eyrie_status st;

    EY_TRY(pass_over(m, EYRIE_METRIC_READ, &s, 1, &sums, sizeof sums, &ignored, err));
    st = check_sums(m, what, &s, 1, value, err);
done:
    return st;
}

static eyrie_status run_read(eyrie_meter *m, uint64_t bytes, cl_ulong passes, eyrie_sample *out, eyrie_error *err)
{
    const stretch s = lay_out(m, bytes);
    cl_mem sums = m->limits.sums->mem;
    eyrie_status st;

    if (m->dirty) EY_TRY(fill(m, 1, 0, m->dirty, err));
    m->dirty = 0;
    EY_TRY(pass_over(m, EYRIE_METRIC_READ, &s, passes, &sums, sizeof sums, &out->seconds, err));
    out->work = (double)passes * (double)stretch_bytes(m, &s);
    st = check_sums(m, "reads", &s, passes, 1, err);
done:
    return st;
}

static eyrie_status run_write(eyrie_meter *m, uint64_t bytes, cl_ulong passes, eyrie_sample *out, eyrie_error *err)
{
    const stretch s = lay_out(m, bytes);
    const cl_uint value = m->flip ? 5 : 3;
    eyrie_status st;

    m->flip = !m->flip;
    m->dirty = ey_max(m->dirty, stretch_bytes(m, &s));
    EY_TRY(pass_over(m, EYRIE_METRIC_WRITE, &s, passes, &value, sizeof value, &out->seconds, err));
    out->work = (double)passes * (double)stretch_bytes(m, &s);
    st = verify(m, "writes", bytes, value, err);
done:
    return st;
}

/* The second half holds something else before. */
static eyrie_status run_copy(eyrie_meter *m, uint64_t bytes, cl_ulong passes, eyrie_sample *out, eyrie_error *err)
{
    const stretch s = lay_out(m, bytes / 2);
    const uint64_t half = stretch_bytes(m, &s);
    const cl_ulong half_way = half / vector_bytes(m);
    eyrie_status st;

    m->dirty = ey_max(m->dirty, 2 * half);
    EY_TRY(fill(m, 7, 0, half, err));
    EY_TRY(fill(m, 2, half, half, err));
    EY_TRY(pass_over(m, EYRIE_METRIC_COPY, &s, passes, &half_way, sizeof half_way, &out->seconds, err));
    out->work = 2 * (double)passes * (double)half;
    st = verify(m, "copies", 2 * half, 7, err);
done:
    return st;
}

/* What a chain comes to that begins at k. */
static uint32_t follow(const arithmetic *a, uint32_t k, cl_ulong steps)
{
    if (a == &by_vnni) return k + (uint32_t)steps * (1 * 1 + 2 * 2 + 3 * 3 + 5 * 5);
    for (; steps > 0; steps--)
        k = a == &by_dot ? k + (k & 0xff) + (k >> 8 & 0xff) * 2 + (k >> 16 & 0xff) * 3 + (k >> 24) * 5 : (k * 5 + 3) & 0xff;
    return k;
}

/* The result of every work-item, as it repeats: `unit` bytes. Chains of half settle at 2 exactly, from wherever they begin. */
static uint32_t expect(const arithmetic *a, cl_ulong steps, size_t *unit)
{
    float tile = 32.0f * (float)steps;
    uint32_t sum = 0;

    *unit = a == &by_bytes ? 1 : a == &by_half ? 2 : 4;
    if (a == &by_half) return 0x5000;
    if (a == &by_tiles) memcpy(&sum, &tile, sizeof sum);
    else
        for (uint32_t k = 0; k < CHAINS; k++) sum += follow(a, k, steps);
    return a == &by_bytes ? sum & 0xff : sum;
}

static eyrie_status check_arithmetic(eyrie_meter *m, const instrument *in, size_t items, cl_ulong steps, eyrie_error *err)
{
    size_t bytes = items * in->arithmetic->bytes, unit;
    uint32_t expected = expect(in->arithmetic, steps, &unit), got;
    unsigned char *results = ey_calloc(bytes, 1);
    eyrie_status st;

    if (!results) return ey_fail(err, EYRIE_ENOMEM, "results of a measurement");
    EY_TRY(ey_buffer_read(m->limits.dev, m->limits.data, 0, bytes, results, err));
    for (size_t i = 0; i < bytes && st == EYRIE_OK; i += unit) {
        got = 0;
        for (size_t k = 0; k < unit; k++) got |= (uint32_t)results[i + k] << 8 * k;
        if (got != expected)
            st = ey_fail(err, EYRIE_ENUMERIC, "%s: measuring %s gave 0x%" PRIx32 " instead of 0x%" PRIx32, m->limits.dev->name,
                         in->how, got, expected);
    }
done:
    ey_free(results);
    return st;
}

static eyrie_status run_arithmetic(eyrie_meter *m, const instrument *in, cl_ulong steps, eyrie_sample *out, eyrie_error *err)
{
    bool tiles = in->arithmetic == &by_tiles;
    size_t items = tiles ? 4 * (size_t)m->limits.dev->units : m->limits.fma_work.items, group = tiles ? 1 : m->limits.fma_work.group;
    cl_mem mem = m->limits.data->mem;
    eyrie_status st;

    m->dirty = ey_max(m->dirty, ey_round_up(items * in->arithmetic->bytes, 4));
    EY_TRY(set_argument(m, in->kernels[0], 0, sizeof steps, &steps, err));
    EY_TRY(set_argument(m, in->kernels[0], 1, sizeof mem, &mem, err));
    EY_TRY(launch(m, in->kernels[0], items, group, 1, &out->seconds, err));
    out->work = (double)items * (double)steps * in->arithmetic->operations * (tiles ? 1 : CHAINS);
    st = check_arithmetic(m, in, items, steps, err);
done:
    return st;
}

/* Both ways, since what comes back shows whether all of it went. */
static eyrie_status run_transfer(eyrie_meter *m, bool up, eyrie_sample *out, eyrie_error *err)
{
    const size_t n = (size_t)ey_min(TRANSFER_BYTES, m->limits.data->bytes);
    double start, sent;
    eyrie_status st;

    if (!m->host) {
        if (!(m->host = ey_calloc(2, n))) return ey_fail(err, EYRIE_ENOMEM, "%zu bytes to transfer", 2 * n);
        for (size_t i = 0; i < n; i++) m->host[i] = (unsigned char)(i * 31 + (i >> 12));
    }
    memset(m->host + n, 0, n);
    m->dirty = ey_max(m->dirty, n);
    start = ey_seconds();
    EY_TRY(ey_buffer_write(m->limits.dev, m->limits.data, 0, n, m->host, err));
    sent = ey_seconds();
    EY_TRY(ey_buffer_read(m->limits.dev, m->limits.data, 0, n, m->host + n, err));
    out->seconds = up ? sent - start : ey_seconds() - sent;
    out->work = (double)n;
    if (memcmp(m->host, m->host + n, n) != 0)
        st = ey_fail(err, EYRIE_ENUMERIC, "%s: of %zu bytes that were sent not all came back as they were", m->limits.dev->name, n);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------------- API */

static bool is_bandwidth(eyrie_metric metric) { return (unsigned)metric <= EYRIE_METRIC_COPY; }

static uint32_t instrument_of(eyrie_metric metric)
{
    return metric == EYRIE_METRIC_F16 ? HALF : metric == EYRIE_METRIC_INT8 ? BYTES : TILES;
}

static eyrie_status run_turns(eyrie_meter *m, eyrie_metric metric, uint64_t set, cl_ulong turns, eyrie_sample *out, eyrie_error *err)
{
    switch (metric) {
    case EYRIE_METRIC_READ:  return run_read(m, set, turns, out, err);
    case EYRIE_METRIC_WRITE: return run_write(m, set, turns, out, err);
    case EYRIE_METRIC_COPY:  return run_copy(m, set, turns, out, err);
    default:                 return run_arithmetic(m, take(m, instrument_of(metric)), turns, out, err);
    }
}

/* As many turns as take long enough: fewer are no sample. How many that is was found before, or is now, beginning with few; then
 * the first time, which compiles on some devices, does not count, and a time that is long is taken again, since it may be
 * long because the machine did something else. */
static eyrie_status run_enough(eyrie_meter *m, eyrie_metric metric, uint64_t set, eyrie_sample *out, eyrie_error *err)
{
    const cl_ulong most = metric == EYRIE_METRIC_UNIT ? MOST_TILES : is_bandwidth(metric) ? MOST_PASSES : MOST_STEPS;
    bool known = m->latest[metric].turns > 0 && m->latest[metric].set == set;
    cl_ulong turns = known ? m->latest[metric].turns : is_bandwidth(metric) ? 1 : 64;
    eyrie_sample again;
    eyrie_status st = EYRIE_OK;

    m->latest[metric].turns = 0;
    if (!known) EY_TRY(run_turns(m, metric, set, 1, out, err));
    for (;; turns = ey_min(4 * turns, most)) {
        EY_TRY(run_turns(m, metric, set, turns, out, err));
        if (turns == most) break;
        if (out->seconds < LONG_ENOUGH) continue;
        if (known) break;
        EY_TRY(run_turns(m, metric, set, turns, &again, err));
        if (again.seconds < out->seconds) *out = again;
        if (out->seconds >= LONG_ENOUGH) break;
    }
    m->latest[metric].set = set;
    m->latest[metric].turns = turns;
done:
    return st;
}

const char *eyrie_meter_explain(eyrie_meter *m, eyrie_metric metric, bool *can)
{
    static const char *const others[METRICS] = {
        [EYRIE_METRIC_F32] = "fma of vectors", [EYRIE_METRIC_LAUNCH] = "launches in a row",
        [EYRIE_METRIC_ROUND_TRIP] = "launches, each waited for", [EYRIE_METRIC_UPLOAD] = "from the host's memory to the device's",
        [EYRIE_METRIC_DOWNLOAD] = "from the device's memory to the host's" };
    const instrument *in;

    *can = (unsigned)metric < METRICS;
    if (!*can) return "there is no such metric";
    if (others[metric]) return others[metric];
    in = take(m, is_bandwidth(metric) ? BANDWIDTH : instrument_of(metric));
    *can = !in->reason[0];
    return *can ? in->how : in->reason;
}

uint64_t eyrie_meter_room(const eyrie_meter *m) { return m->limits.data->bytes; }

eyrie_status eyrie_meter_run(eyrie_meter *m, eyrie_metric metric, uint64_t set, eyrie_sample *sample, eyrie_error *err)
{
    bool can;
    const char *how = eyrie_meter_explain(m, metric, &can);

    *sample = (eyrie_sample){ 0, 0 };
    if (!can) return ey_fail(err, EYRIE_EINVAL, "%s: %s", m->limits.dev->name, how);
    if (set > eyrie_meter_room(m) && is_bandwidth(metric))
        return ey_fail(err, EYRIE_EINVAL, "a working set of %" PRIu64 " bytes; there is room for %" PRIu64, set, eyrie_meter_room(m));
    switch (metric) {
    case EYRIE_METRIC_F32:        return ey_limits_sample(&m->limits, EY_LIMIT_FMA, &sample->work, &sample->seconds, err);
    case EYRIE_METRIC_LAUNCH:     return ey_limits_sample(&m->limits, EY_LIMIT_LAUNCH, &sample->work, &sample->seconds, err);
    case EYRIE_METRIC_ROUND_TRIP: return ey_limits_sample(&m->limits, EY_LIMIT_ROUND_TRIP, &sample->work, &sample->seconds, err);
    case EYRIE_METRIC_UPLOAD:     return run_transfer(m, true, sample, err);
    case EYRIE_METRIC_DOWNLOAD:   return run_transfer(m, false, sample, err);
    default:                      break;
    }
    if (is_bandwidth(metric) && set == 0) set = eyrie_meter_room(m);
    return run_enough(m, metric, set, sample, err);
}

eyrie_status eyrie_meter_open(eyrie_meter **out, eyrie_device *dev, eyrie_error *err)
{
    eyrie_meter *m = ey_calloc(1, sizeof *m);
    eyrie_status st;

    *out = NULL;
    if (!m) return ey_fail(err, EYRIE_ENOMEM, "meter handle");
    if ((st = ey_limits_open(&m->limits, dev, err)) != EYRIE_OK) {
        ey_free(m);
        return st;
    }
    *out = m;
    return EYRIE_OK;
}

void eyrie_meter_close(eyrie_meter *m)
{
    if (!m) return;
    for (uint32_t i = 0; i < INSTRUMENTS; i++) {
        for (uint32_t k = 0; k < 3; k++) EY_CL_FREE(clReleaseKernel, m->instruments[i].kernels[k]);
        EY_CL_FREE(clReleaseProgram, m->instruments[i].program);
    }
    ey_limits_close(&m->limits);
    ey_free(m->host);
    ey_free(m);
}
