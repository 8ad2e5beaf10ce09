/* limits.c - the two probes. */
#include "limits.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>

#define READ_BYTES ((uint64_t)1 << 29)  /* at least; far more than any cache */
enum { ROUNDS = 5 };                    /* attempts of each number of streams */

/* V, F: vectors of 32-bit integers and floats as wide as the device likes them. Accumulators stay in registers, and
 * there are enough independent chains to cover the latency of an FMA. */
static const char text[] =
    "enum { CHAINS = 16 };\n"
    "kernel void read(global const V *data, ulong steps, ulong spacing, ulong stride, ulong jump, global V *sums)\n"
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
enum { CHAINS = 16 };                   /* as in the text */

uint32_t limits_streams(const limits *l) { return 1u << l->best; }

static uint64_t read_bytes(const limits *l) { return l->read_work.items * l->read_work.steps * l->lanes * 4; }
static uint64_t fma_flops(const limits *l) { return 2 * l->fma_work.items * l->fma_work.steps * CHAINS * l->lanes; }

/* CPUs: few long work-groups of one work-item with the widest vectors. GPUs: many narrow ones, neighbours side by side. */
static eyrie_status shape(limits *l, eyrie_error *err)
{
    size_t units = l->dev->units;
    cl_device_type type;
    cl_int code;

    EY_CL(code, clGetDeviceInfo, l->dev->id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: reading its type", l->dev->name);
    l->contiguous = (type & CL_DEVICE_TYPE_CPU) != 0;
    l->lanes = l->contiguous ? 16 : 4;
    l->read_work = l->contiguous ? (limits_work){ 32 * units, 1, 0 } : (limits_work){ 2048 * units, 256, 0 };
    l->fma_work = l->contiguous ? (limits_work){ 8 * units, 1, 1 << 18 } : (limits_work){ 2048 * units, 256, 1 << 12 };

    uint64_t a_step = (uint64_t)l->read_work.items * l->lanes * 4;
    l->read_work.steps = ey_round_up((READ_BYTES + a_step - 1) / a_step, 1u << (LIMITS_STREAMS - 1));
    return EYRIE_OK;
}

static eyrie_status make_kernel(limits *l, cl_program program, const char *name, cl_kernel *out, eyrie_error *err)
{
    cl_int code;
    EY_CL_NEW(code, *out, clCreateKernel, program, name);
    return *out ? EYRIE_OK : ey_fail_cl(err, code, "%s: creating the kernel %s", l->dev->name, name);
}

static eyrie_status build(limits *l, uint32_t i, eyrie_error *err)
{
    const char *strings[1] = { text };
    char options[80];
    cl_int code;

    snprintf(options, sizeof options, "-cl-std=CL1.2 -DSTREAMS=%u -DV=uint%u -DF=float%u", 1u << i, (unsigned)l->lanes,
             (unsigned)l->lanes);
    EY_CL_NEW(code, l->programs[i], clCreateProgramWithSource, l->dev->context, 1, strings, NULL);
    if (!l->programs[i]) return ey_fail_cl(err, code, "%s: creating the probes", l->dev->name);
    EY_CL(code, clBuildProgram, l->programs[i], 1, &l->dev->id, options, NULL, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: building the probes", l->dev->name);
    return make_kernel(l, l->programs[i], "read", &l->reads[i], err);
}

/* Arguments stay as they are from launch to launch. */
static eyrie_status set_arguments(limits *l, eyrie_error *err)
{
    const limits_work *w = &l->read_work;
    const cl_float half = 0.5f, one = 1.0f;
    cl_ulong items = w->items;
    cl_int code = CL_SUCCESS;

    for (uint32_t i = 0; i < LIMITS_STREAMS; i++) {
        cl_ulong stream = w->steps >> i;
        struct { size_t bytes; const void *value; } args[] = {
            { sizeof(cl_mem), &l->data->mem },
            { sizeof w->steps, &w->steps },
            { sizeof(cl_ulong), l->contiguous ? &w->steps : &(const cl_ulong){ 1 } },               /* spacing */
            { sizeof(cl_ulong), l->contiguous ? &(const cl_ulong){ 1 } : &items },                  /* stride */
            { sizeof(cl_ulong), l->contiguous ? &stream : &(const cl_ulong){ stream * items } },    /* jump */
            { sizeof(cl_mem), &l->sums->mem },
        };
        for (cl_uint k = 0; k < sizeof args / sizeof *args && code == CL_SUCCESS; k++)
            EY_CL(code, clSetKernelArg, l->reads[i], k, args[k].bytes, args[k].value);
    }
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, l->fma, 0, sizeof l->fma_work.steps, &l->fma_work.steps);
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, l->fma, 1, sizeof half, &half);
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, l->fma, 2, sizeof one, &one);
    if (code == CL_SUCCESS) EY_CL(code, clSetKernelArg, l->fma, 3, sizeof(cl_mem), &l->sums->mem);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: setting the probes' arguments", l->dev->name);
}

static eyrie_status launch(const limits *l, cl_kernel kernel, const limits_work *w, double *seconds, eyrie_error *err)
{
    double start = ey_seconds();
    cl_int code;

    EY_CL(code, clEnqueueNDRangeKernel, l->dev->queue, kernel, 1, NULL, &w->items, &w->group, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: launching a probe", l->dev->name);
    eyrie_status st = ey_device_finish(l->dev, err);
    *seconds = ey_seconds() - start;
    return st;
}

/* Runs a read kernel and sees that every integer was read once: all are 1. */
static eyrie_status check_read(limits *l, uint32_t i, eyrie_error *err)
{
    size_t n = l->read_work.items * l->lanes;
    const uint32_t *sums = (const uint32_t *)l->host;
    uint64_t total = 0;
    double seconds;
    eyrie_status st;

    EY_TRY(launch(l, l->reads[i], &l->read_work, &seconds, err));
    EY_TRY(ey_buffer_read(l->dev, l->sums, 0, n * sizeof *sums, l->host, err));
    for (size_t k = 0; k < n; k++) total += sums[k];
    if (total != read_bytes(l) / 4)
        st = ey_fail(err, EYRIE_ENUMERIC, "read probe with %u streams: read %" PRIu64 " integers instead of %" PRIu64,
                     1u << i, total, read_bytes(l) / 4);
done:
    return st;
}

/* x = x / 2 + 1 ends at 2 exactly, whatever it started from. */
static eyrie_status check_fma(limits *l, eyrie_error *err)
{
    size_t n = l->fma_work.items * l->lanes;
    double seconds;
    eyrie_status st;

    EY_TRY(launch(l, l->fma, &l->fma_work, &seconds, err));
    EY_TRY(ey_buffer_read(l->dev, l->sums, 0, n * sizeof *l->host, l->host, err));
    for (size_t k = 0; k < n; k++)
        if (l->host[k] != 2.0f * CHAINS)
            return ey_fail(err, EYRIE_ENUMERIC, "fma probe: %g instead of %g", (double)l->host[k], 2.0 * CHAINS);
done:
    return st;
}

/* The fastest of a few attempts each, taken in turn. */
static eyrie_status choose_streams(limits *l, eyrie_error *err)
{
    double seconds, least = 0.0;
    eyrie_status st = EYRIE_OK;

    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < LIMITS_STREAMS; i++) {
            EY_TRY(launch(l, l->reads[i], &l->read_work, &seconds, err));
            if (least > 0.0 && seconds >= least) continue;
            least = seconds;
            l->best = i;
        }
done:
    return st;
}

eyrie_status limits_open(limits *l, eyrie_device *dev, eyrie_error *err)
{
    const cl_uint one = 1;
    cl_int code;
    eyrie_status st;

    *l = (limits){ .dev = dev };
    ey_arena_init(&l->arena, dev, "limits");
    EY_TRY(shape(l, err));
    size_t sums = ey_max(l->read_work.items, l->fma_work.items) * l->lanes;
    if (!(l->data = ey_arena_add(&l->arena, read_bytes(l), "the read probe"))
        || !(l->sums = ey_arena_add(&l->arena, sums * sizeof *l->host, "sums"))
        || !(l->host = ey_calloc(sums, sizeof *l->host))) {
        st = ey_fail(err, EYRIE_ENOMEM, "limits");
        goto done;
    }
    EY_TRY(ey_arena_commit(&l->arena, err));
    /* Written, or all of it might be one page of zeros. */
    EY_CL(code, clEnqueueFillBuffer, dev->queue, l->data->mem, &one, sizeof one, 0, (size_t)l->data->bytes, 0, NULL, NULL);
    if (code != CL_SUCCESS) {
        st = ey_fail_cl(err, code, "filling the read probe");
        goto done;
    }
    for (uint32_t i = 0; i < LIMITS_STREAMS; i++) EY_TRY(build(l, i, err));
    EY_TRY(make_kernel(l, l->programs[0], "multiply_add", &l->fma, err));
    EY_TRY(set_arguments(l, err));
    for (uint32_t i = 0; i < LIMITS_STREAMS; i++) EY_TRY(check_read(l, i, err));
    EY_TRY(check_fma(l, err));
    st = choose_streams(l, err);
done:
    if (st != EYRIE_OK) limits_close(l);
    return st;
}

void limits_close(limits *l)
{
    for (uint32_t i = 0; i < LIMITS_STREAMS; i++) {
        EY_CL_FREE(clReleaseKernel, l->reads[i]);
        if (i == 0) EY_CL_FREE(clReleaseKernel, l->fma);
        EY_CL_FREE(clReleaseProgram, l->programs[i]);
    }
    if (l->dev) ey_arena_free(&l->arena);
    ey_free(l->host);
    *l = (limits){ 0 };
}

eyrie_status limits_measure(const limits *l, limits_rates *now, eyrie_error *err)
{
    double seconds;
    eyrie_status st;

    EY_TRY(launch(l, l->fma, &l->fma_work, &seconds, err));
    now->flops = (double)fma_flops(l) / seconds;
    EY_TRY(launch(l, l->reads[l->best], &l->read_work, &seconds, err));
    now->bytes = (double)read_bytes(l) / seconds;
done:
    return st;
}
