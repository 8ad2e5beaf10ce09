/* limits.c - the three kernels, how large they have to be, and the public measurement made of them. */
#include "limits.h"
#include "cache.h"
#include "os.h"
#include "program.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define READ_BYTES ((uint64_t)1 << 29)  /* far more than any cache */
#define LONG_ENOUGH 0.05                /* seconds of a launch: work grows no further, so slow devices get little */
#define LONG_ROW 0.005                  /* the same of a row of launches */
#define CHOOSING 0.8                    /* seconds after which no further round of choosing begins */

enum { CHAINS = 16, MOST_ROUNDS = 5, SAMPLES = 3, MOST_LAUNCHES = 4096, ROUND_TRIPS = 64 };

/* V, F: vectors of 32-bit integers and floats as wide as the device likes them. Accumulators stay in registers, and there
 * are enough independent chains to cover the latency of an FMA. READ is there once for each number of streams. */
static const char read_text[] =
    "kernel void READ(global const V *data, ulong steps, ulong spacing, ulong stride, ulong jump, global V *sums)\n"
    "{\n"
    "    V sum[STREAMS];\n"
    "    data += get_global_id(0) * spacing;\n"
    "    for (int s = 0; s < STREAMS; s++) sum[s] = 0;\n"
    "    for (ulong i = 0; i < steps / STREAMS; i++) {\n"
    "#pragma unroll\n"
    "        for (int s = 0; s < STREAMS; s++) sum[s] += data[i * stride + s * jump];\n"
    "    }\n"
    "    for (int s = 1; s < STREAMS; s++) sum[0] += sum[s];\n"
    "    sums[get_global_id(0)] = sum[0];\n"
    "}\n"
    "#undef READ\n"
    "#undef STREAMS\n";
static const char fma_text[] =
    "kernel void multiply_add(ulong steps, float factor, float term, global F *sums)\n"
    "{\n"
    "    F chain[CHAINS];\n"
    "    for (int k = 0; k < CHAINS; k++) chain[k] = k;\n"
    "    for (ulong i = 0; i < steps; i++) {\n"
    "#pragma unroll\n"
    "        for (int k = 0; k < CHAINS; k++) chain[k] = fma(chain[k], (F)factor, (F)term);\n"
    "    }\n"
    "    for (int k = 1; k < CHAINS; k++) chain[0] += chain[k];\n"
    "    sums[get_global_id(0)] = chain[0];\n"
    "}\n";

/* As good as nothing, but the launches of a row can be counted afterwards: the queue is in order. */
static const char count_text[] =
    "kernel void count_launches(global uint *count)\n"
    "{\n"
    "    if (get_global_id(0) == 0) count[0] += 1;\n"
    "}\n";

uint32_t ey_limits_streams(const ey_limits *l) { return 1u << l->best; }

static uint64_t read_bytes(const ey_limits *l, uint64_t steps) { return l->read_work.items * steps * l->lanes * 4; }
static uint64_t fma_flops(const ey_limits *l) { return 2 * l->fma_work.items * l->fma_work.steps * CHAINS * l->lanes; }

/* ------------------------------------------------------------------------------------------------------- building */

/* CPUs: few long work-groups of one work-item with the widest vectors. GPUs: many narrow ones, neighbours side by side. */
static void shape(ey_limits *l)
{
    size_t units = l->dev->units;

    l->contiguous = l->dev->cpu;
    l->lanes = l->contiguous ? 16 : 4;
    l->read_work = l->contiguous ? (ey_limits_work){ 32 * units, 1, 0 } : (ey_limits_work){ 2048 * units, 256, 0 };
    l->fma_work = l->contiguous ? (ey_limits_work){ 8 * units, 1, 0 } : (ey_limits_work){ 2048 * units, 256, 0 };
    l->count_work = l->contiguous ? (ey_limits_work){ units, 1, 0 } : (ey_limits_work){ 256 * units, 256, 0 };
}

static eyrie_status make_kernel(ey_limits *l, const char *name, cl_kernel *out, eyrie_error *err)
{
    cl_int code;
    EY_CL_NEW(code, *out, clCreateKernel, l->program, name);
    return *out ? EYRIE_OK : ey_fail_cl(err, code, "%s: creating the kernel %s", l->dev->name, name);
}

static eyrie_status build(ey_limits *l, eyrie_error *err)
{
    const char *strings[2 * EY_LIMITS_STREAMS + 2];
    char heads[EY_LIMITS_STREAMS][64], options[80], line[256], name[16];
    eyrie_status st;
    cl_int code;

    for (uint32_t i = 0; i < EY_LIMITS_STREAMS; i++) {
        snprintf(heads[i], sizeof heads[i], "#define STREAMS %u\n#define READ read_%u\n", 1u << i, 1u << i);
        strings[2 * i] = heads[i];
        strings[2 * i + 1] = read_text;
    }
    strings[2 * EY_LIMITS_STREAMS] = fma_text;
    strings[2 * EY_LIMITS_STREAMS + 1] = count_text;
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DCHAINS=%d -DV=uint%u -DF=float%u", CHAINS, (unsigned)l->lanes,
             (unsigned)l->lanes);
    EY_CL_NEW(code, l->program, clCreateProgramWithSource, l->dev->context, 2 * EY_LIMITS_STREAMS + 2, strings, NULL);
    if (!l->program) return ey_fail_cl(err, code, "%s: creating the kernels that measure", l->dev->name);
    if (EY_CL(code, clBuildProgram, l->program, 1, &l->dev->id, options, NULL, NULL) != CL_SUCCESS) {
        ey_program_error(l->program, l->dev->id, line, sizeof line);
        return ey_fail_cl(err, code, "%s: building the kernels that measure: %s", l->dev->name, line);
    }
    for (uint32_t i = 0; i < EY_LIMITS_STREAMS; i++) {
        snprintf(name, sizeof name, "read_%u", 1u << i);
        EY_TRY(make_kernel(l, name, &l->reads[i], err));
    }
    EY_TRY(make_kernel(l, "multiply_add", &l->fma, err));
    st = make_kernel(l, "count_launches", &l->count, err);
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------------- running */

/* `times` in a row, and waits for the last. */
static eyrie_status launch(const ey_limits *l, cl_kernel kernel, const ey_limits_work *w, cl_ulong times, double *seconds,
                           eyrie_error *err)
{
    double start = ey_seconds();
    cl_int code = CL_SUCCESS;

    for (; times > 0 && code == CL_SUCCESS; times--)
        EY_CL(code, clEnqueueNDRangeKernel, l->dev->queue, kernel, 1, NULL, &w->items, &w->group, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: launching a measurement", l->dev->name);
    eyrie_status st = ey_device_finish(l->dev, err);
    *seconds = ey_seconds() - start;
    return st;
}

static eyrie_status set_arguments(const ey_limits *l, cl_kernel kernel, const void *const *args, const size_t *sizes,
                                  cl_uint n, eyrie_error *err)
{
    cl_int code = CL_SUCCESS;
    for (cl_uint i = 0; i < n && code == CL_SUCCESS; i++) EY_CL(code, clSetKernelArg, kernel, i, sizes[i], args[i]);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: setting a measurement's arguments", l->dev->name);
}

/* Each work-item reads `steps` vectors, a multiple of 8. */
static eyrie_status run_read(const ey_limits *l, uint32_t i, cl_ulong steps, double *seconds, eyrie_error *err)
{
    cl_ulong items = l->read_work.items, stream = steps >> i;
    cl_ulong spacing = l->contiguous ? steps : 1, stride = l->contiguous ? 1 : items;
    cl_ulong jump = l->contiguous ? stream : stream * items;
    const void *args[] = { &l->data->mem, &steps, &spacing, &stride, &jump, &l->sums->mem };
    static const size_t sizes[] = { sizeof(cl_mem), sizeof(cl_ulong), sizeof(cl_ulong), sizeof(cl_ulong), sizeof(cl_ulong),
                                    sizeof(cl_mem) };
    eyrie_status st = set_arguments(l, l->reads[i], args, sizes, sizeof sizes / sizeof *sizes, err);

    return st == EYRIE_OK ? launch(l, l->reads[i], &l->read_work, 1, seconds, err) : st;
}

static eyrie_status run_fma(const ey_limits *l, cl_ulong steps, double *seconds, eyrie_error *err)
{
    const cl_float half = 0.5f, one = 1.0f;
    const void *args[] = { &steps, &half, &one, &l->sums->mem };
    static const size_t sizes[] = { sizeof(cl_ulong), sizeof(cl_float), sizeof(cl_float), sizeof(cl_mem) };
    eyrie_status st = set_arguments(l, l->fma, args, sizes, sizeof sizes / sizeof *sizes, err);

    return st == EYRIE_OK ? launch(l, l->fma, &l->fma_work, 1, seconds, err) : st;
}

static eyrie_status run_count(const ey_limits *l, cl_ulong times, double *seconds, eyrie_error *err)
{
    const void *args[] = { &l->sums->mem };
    static const size_t sizes[] = { sizeof(cl_mem) };
    eyrie_status st = set_arguments(l, l->count, args, sizes, 1, err);

    return st == EYRIE_OK ? launch(l, l->count, &l->count_work, times, seconds, err) : st;
}

static eyrie_status run_round_trips(const ey_limits *l, double *times, double *seconds, eyrie_error *err)
{
    double once;
    eyrie_status st = EYRIE_OK;

    *times = *seconds = 0;
    while (st == EYRIE_OK && *times < ROUND_TRIPS && *seconds < LONG_ENOUGH) {
        st = run_count(l, 1, &once, err);
        *seconds += once;
        *times += 1;
    }
    return st;
}

/* Every integer was read once: all are 1. */
static eyrie_status check_read(const ey_limits *l, uint32_t i, uint64_t steps, eyrie_error *err)
{
    size_t n = l->read_work.items * l->lanes;
    const uint32_t *sums = (const uint32_t *)l->host;
    uint64_t total = 0;
    eyrie_status st;

    EY_TRY(ey_buffer_read(l->dev, l->sums, 0, n * sizeof *sums, l->host, err));
    for (size_t k = 0; k < n; k++) total += sums[k];
    if (total != read_bytes(l, steps) / 4)
        st = ey_fail(err, EYRIE_ENUMERIC, "%s: measuring with %u streams read %" PRIu64 " integers instead of %" PRIu64,
                     l->dev->name, 1u << i, total, read_bytes(l, steps) / 4);
done:
    return st;
}

/* x = x / 2 + 1 ends at 2 exactly after a few dozen steps, wherever it started. */
static eyrie_status check_fma(const ey_limits *l, eyrie_error *err)
{
    size_t n = l->fma_work.items * l->lanes;
    eyrie_status st;

    EY_TRY(ey_buffer_read(l->dev, l->sums, 0, n * sizeof *l->host, l->host, err));
    for (size_t k = 0; k < n; k++)
        if (l->host[k] != 2.0f * CHAINS)
            return ey_fail(err, EYRIE_ENUMERIC, "%s: measuring FMA gave %g instead of %g", l->dev->name, (double)l->host[k],
                           2.0 * CHAINS);
done:
    return st;
}

/* Every launch of a row ran, and none before another had ended. */
static eyrie_status check_count(const ey_limits *l, uint32_t times, eyrie_error *err)
{
    uint32_t count = 0;
    double ignored;
    eyrie_status st;

    EY_TRY(ey_buffer_write(l->dev, l->sums, 0, sizeof count, &count, err));
    EY_TRY(run_count(l, times, &ignored, err));
    EY_TRY(ey_buffer_read(l->dev, l->sums, 0, sizeof count, &count, err));
    if (count != times)
        st = ey_fail(err, EYRIE_ENUMERIC, "%s: of %" PRIu32 " launches in a row %" PRIu32 " were counted", l->dev->name, times, count);
done:
    return st;
}

/* Grows the work until a launch takes long enough or is as large as it may be. The first launch, which compiles on some
 * devices, is not timed. */
static eyrie_status choose_work(ey_limits *l, eyrie_error *err)
{
    const cl_ulong most_read = l->data->bytes / read_bytes(l, 1) & ~(cl_ulong)7;
    const cl_ulong most_fma = l->contiguous ? 1 << 18 : 1 << 12;
    double seconds;
    eyrie_status st;

    l->read_work.steps = 8;
    for (uint32_t i = 0; i < EY_LIMITS_STREAMS; i++) {
        EY_TRY(run_read(l, i, l->read_work.steps, &seconds, err));
        EY_TRY(check_read(l, i, l->read_work.steps, err));
    }
    for (; l->read_work.steps < most_read; l->read_work.steps = ey_min(4 * l->read_work.steps, most_read)) {
        EY_TRY(run_read(l, 0, l->read_work.steps, &seconds, err));
        if (seconds >= LONG_ENOUGH) break;
    }
    l->fma_work.steps = 64;
    EY_TRY(run_fma(l, l->fma_work.steps, &seconds, err));
    EY_TRY(check_fma(l, err));
    for (; l->fma_work.steps < most_fma; l->fma_work.steps = ey_min(4 * l->fma_work.steps, most_fma)) {
        EY_TRY(run_fma(l, l->fma_work.steps, &seconds, err));
        if (seconds >= LONG_ENOUGH) break;
    }
    l->count_work.steps = 16;
    EY_TRY(check_count(l, 16, err));
    for (; l->count_work.steps < MOST_LAUNCHES; l->count_work.steps *= 4) {
        EY_TRY(run_count(l, l->count_work.steps, &seconds, err));
        if (seconds >= LONG_ROW) break;
    }
done:
    return st;
}

/* The fastest of a few attempts each, taken in turn. */
static eyrie_status choose_streams(ey_limits *l, eyrie_error *err)
{
    double seconds, least = 0.0, deadline = ey_seconds() + CHOOSING;
    eyrie_status st = EYRIE_OK;

    for (uint32_t round = 0; round < MOST_ROUNDS && (round == 0 || ey_seconds() < deadline); round++)
        for (uint32_t i = 0; i < EY_LIMITS_STREAMS; i++) {
            EY_TRY(run_read(l, i, l->read_work.steps, &seconds, err));
            if (round == 0) EY_TRY(check_read(l, i, l->read_work.steps, err));
            if (least > 0.0 && seconds >= least) continue;
            least = seconds;
            l->best = i;
        }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------------ API */

eyrie_status ey_limits_open(ey_limits *l, eyrie_device *dev, eyrie_error *err)
{
    const cl_uint one = 1;
    const char *source;
    cl_int code;
    eyrie_status st;

    *l = (ey_limits){ .dev = dev };
    ey_arena_init(&l->arena, dev, "measuring");
    shape(l);
    size_t sums = ey_max(l->read_work.items, l->fma_work.items) * l->lanes;
    uint64_t room = ey_min(dev->max_alloc, ey_device_free_memory(dev, &source) / 2);
    uint64_t data = ey_max(ey_min(READ_BYTES, room), read_bytes(l, 8));
    if (!(l->data = ey_arena_add(&l->arena, data, "data to read"))
        || !(l->sums = ey_arena_add(&l->arena, sums * sizeof *l->host, "sums"))
        || !(l->host = ey_calloc(sums, sizeof *l->host))) {
        st = ey_fail(err, EYRIE_ENOMEM, "measuring");
        goto done;
    }
    EY_TRY(ey_arena_commit(&l->arena, err));
    /* Written, or all of it might be one page of zeros. */
    EY_CL(code, clEnqueueFillBuffer, dev->queue, l->data->mem, &one, sizeof one, 0, (size_t)(data & ~(uint64_t)3), 0, NULL,
          NULL);
    if (code != CL_SUCCESS) {
        st = ey_fail_cl(err, code, "%s: filling memory to read", dev->name);
        goto done;
    }
    EY_TRY(build(l, err));
    EY_TRY(choose_work(l, err));
    st = choose_streams(l, err);
done:
    if (st != EYRIE_OK) ey_limits_close(l);
    return st;
}

void ey_limits_close(ey_limits *l)
{
    for (uint32_t i = 0; i < EY_LIMITS_STREAMS; i++) EY_CL_FREE(clReleaseKernel, l->reads[i]);
    EY_CL_FREE(clReleaseKernel, l->fma);
    EY_CL_FREE(clReleaseKernel, l->count);
    EY_CL_FREE(clReleaseProgram, l->program);
    if (l->dev) ey_arena_free(&l->arena);
    ey_free(l->host);
    *l = (ey_limits){ 0 };
}

eyrie_status ey_limits_sample(const ey_limits *l, ey_limit which, double *work, double *seconds, eyrie_error *err)
{
    switch (which) {
    case EY_LIMIT_READ:
        *work = (double)read_bytes(l, l->read_work.steps);
        return run_read(l, l->best, l->read_work.steps, seconds, err);
    case EY_LIMIT_FMA:
        *work = (double)fma_flops(l);
        return run_fma(l, l->fma_work.steps, seconds, err);
    case EY_LIMIT_LAUNCH:
        *work = (double)l->count_work.steps;
        return run_count(l, l->count_work.steps, seconds, err);
    case EY_LIMIT_ROUND_TRIP:
        return run_round_trips(l, work, seconds, err);
    }
    return ey_fail(err, EYRIE_EINVAL, "limit %d", (int)which);
}

eyrie_status ey_limits_measure(const ey_limits *l, ey_rates *now, eyrie_error *err)
{
    double work, seconds;
    eyrie_status st;

    EY_TRY(ey_limits_sample(l, EY_LIMIT_FMA, &work, &seconds, err));
    now->flops = work / seconds;
    EY_TRY(ey_limits_sample(l, EY_LIMIT_LAUNCH, &work, &seconds, err));
    now->launch = seconds / work;
    EY_TRY(ey_limits_sample(l, EY_LIMIT_READ, &work, &seconds, err));
    now->bytes = work / seconds;
done:
    return st;
}

/* dev->name has the driver's version in it; threads of a CPU are its units. */
static size_t make_key(const eyrie_device *dev, char key[1024])
{
    int n = snprintf(key, 1024, "rates of devices, format 1\n%s\n%s\n%" PRIu32 " units", dev->platform_name, dev->name, dev->units);
    return n > 0 ? ey_min((uint64_t)n, 1023) : 0;
}

static const char cache_kind[] = "rates";

eyrie_status eyrie_device_measure(eyrie_device *dev, eyrie_rates *rates, eyrie_error *err)
{
    char key[1024];
    ey_limits l;
    ey_rates now;
    eyrie_status st;

    memset(rates, 0, sizeof *rates);        /* with what lies between its fields, which is kept as well */
    EY_TRY(ey_limits_open(&l, dev, err));
    for (uint32_t i = 0; i < SAMPLES; i++) {
        if ((st = ey_limits_measure(&l, &now, err)) != EYRIE_OK) break;
        if (now.bytes > rates->read_bytes) rates->read_bytes = now.bytes;
        if (now.flops > rates->fma_flops) rates->fma_flops = now.flops;
        if (i == 0 || now.launch < rates->launch_seconds) rates->launch_seconds = now.launch;
    }
    rates->streams = ey_limits_streams(&l);
    ey_limits_close(&l);
    if (st == EYRIE_OK) ey_cache_put(dev->cache, cache_kind, key, make_key(dev, key), rates, sizeof *rates);
done:
    return st;
}

bool ey_limits_recall(const eyrie_device *dev, eyrie_rates *rates)
{
    char key[1024];
    size_t size = 0;
    void *data = ey_cache_get(dev->cache, cache_kind, key, make_key(dev, key), &size);
    bool right = data && size == sizeof *rates;

    memset(rates, 0, sizeof *rates);
    if (right) memcpy(rates, data, sizeof *rates);
    ey_free(data);
    return right && isfinite(rates->read_bytes) && rates->read_bytes > 0 && isfinite(rates->fma_flops) && rates->fma_flops > 0
           && isfinite(rates->launch_seconds) && rates->launch_seconds >= 0;
}

eyrie_status eyrie_device_recall(eyrie_device *dev, eyrie_rates *rates, bool *remembered, eyrie_error *err)
{
    *remembered = ey_limits_recall(dev, rates);
    return *remembered ? EYRIE_OK : eyrie_device_measure(dev, rates, err);
}
