/* probe.c - what a device can do, found by compiling and running something tiny and comparing the result, never from what
 * the device says of itself: drivers announce what they do wrong, and do what they do not announce. The interface is
 * eyrie_tools.h. To choose kernels by the verdicts is the business of the ops.
 *
 * A probe has a context and a queue of its own, so that what it breaks ends with them. Whatever fails is a verdict. */
#include "device.h"
#include "os.h"
#include "probe.h"
#include "program.h"
#include "quant.h"

#include <eyrie/eyrie_tools.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

/* One probe while it runs. */
typedef struct trial {
    const eyrie_device *dev;
    cl_context          context;
    cl_command_queue    queue;          /* in order, with profiling */
    cl_program          program;
    cl_kernel           kernel;
    eyrie_verdict      *verdict;
} trial;

/* ------------------------------------------------------------------------------------------------------- verdicts */

EY_PRINTF(3, 4) static void decide(trial *t, eyrie_answer answer, const char *format, ...)
{
    va_list args;

    t->verdict->answer = answer;
    va_start(args, format);
    vsnprintf(t->verdict->reason, sizeof t->verdict->reason, format, args);
    va_end(args);
}

/* No, because of an OpenCL call; returns false, so that leaving is one statement. */
static bool refused(trial *t, cl_int code, const char *what)
{
    eyrie_error e;

    ey_fail_cl(&e, code, "%s", what);
    decide(t, EYRIE_NO, "%.*s", (int)sizeof t->verdict->reason - 1, e.text);
    return false;
}

/* -------------------------------------------------------------------------------------------------------- running */

static bool open_context(trial *t, const cl_device_id *id)
{
    cl_context_properties properties[] = { CL_CONTEXT_PLATFORM, (cl_context_properties)t->dev->platform, 0 };
    cl_int code;

    EY_CL_NEW(code, t->context, clCreateContext, properties, 1, id, NULL, NULL);
    if (!t->context) return refused(t, code, "creating a context");
    EY_CL_NEW(code, t->queue, clCreateCommandQueue, t->context, *id, CL_QUEUE_PROFILING_ENABLE);
    return t->queue || refused(t, code, "creating a queue with profiling");
}

static void drop_kernel(trial *t)
{
    EY_CL_FREE(clReleaseKernel, t->kernel);
    EY_CL_FREE(clReleaseProgram, t->program);
}

static void close_context(trial *t)
{
    drop_kernel(t);
    EY_CL_FREE(clReleaseCommandQueue, t->queue);
    EY_CL_FREE(clReleaseContext, t->context);
}

/* Where the message begins in a compiler's line: after the last "error:" and, if there is one, the place in the text. */
static const char *message_of(const char *line)
{
    const char *error = strstr(line, "error:"), *at;

    if (error) line = error + 6;
    for (at = strchr(line, ':'); at; at = strchr(at + 1, ':')) {
        size_t row = strspn(at + 1, "0123456789"), column = at[1 + row] == ':' ? strspn(at + 2 + row, "0123456789") : 0;
        if (row && column && at[2 + row + column] == ':') line = at + 3 + row + column;
    }
    return line + strspn(line, " ");
}

/* The kernel `probe` of a text that comes in two pieces, in place of the one before. */
static bool build(trial *t, cl_device_id id, const char *options, const char *head, const char *text)
{
    const char *strings[2] = { head, text };
    char line[512];
    cl_int code;

    drop_kernel(t);
    EY_CL_NEW(code, t->program, clCreateProgramWithSource, t->context, 2, strings, NULL);
    if (!t->program) return refused(t, code, "creating a program");
    if (EY_CL(code, clBuildProgram, t->program, 1, &id, options, NULL, NULL) != CL_SUCCESS) {
        ey_program_error(t->program, id, line, sizeof line);
        decide(t, EYRIE_NO, "the compiler refuses it: %s", message_of(line));
        return false;
    }
    EY_CL_NEW(code, t->kernel, clCreateKernel, t->program, "probe");
    return t->kernel || refused(t, code, "creating a kernel");
}

static cl_mem make_buffer(trial *t, cl_mem_flags flags, size_t bytes, void *host)
{
    cl_int code;
    cl_mem mem;

    EY_CL_NEW(code, mem, clCreateBuffer, t->context, flags, bytes, host);
    if (!mem) (void)refused(t, code, "allocating a buffer");
    return mem;
}

/* Launches `items` in one work-group, or each in one of its own, and waits; event NULL: it is not asked for. Nothing runs any
 * more when it returns, whatever failed: PoCL unloads a kernel's code when it is released, and memory of ours goes at once. */
static bool launch(trial *t, size_t items, bool together, cl_event *event)
{
    size_t group = together ? items : 1;
    cl_int code;

    if (EY_CL(code, clEnqueueNDRangeKernel, t->queue, t->kernel, 1, NULL, &items, &group, 0, NULL, event) != CL_SUCCESS)
        return refused(t, code, "launching a kernel");
    if (EY_CL(code, clFinish, t->queue) == CL_SUCCESS) return true;
    (void)clFinish(t->queue);
    return refused(t, code, "waiting for a kernel");
}

static bool set_arg(trial *t, cl_uint i, size_t bytes, const void *value)
{
    cl_int code;
    return EY_CL(code, clSetKernelArg, t->kernel, i, bytes, value) == CL_SUCCESS || refused(t, code, "setting an argument");
}

static bool transfer(trial *t, cl_mem mem, bool write, size_t offset, size_t bytes, void *host)
{
    cl_int code;

    if (write) EY_CL(code, clEnqueueWriteBuffer, t->queue, mem, CL_TRUE, offset, bytes, host, 0, NULL, NULL);
    else EY_CL(code, clEnqueueReadBuffer, t->queue, mem, CL_TRUE, offset, bytes, host, 0, NULL, NULL);
    return code == CL_SUCCESS || refused(t, code, write ? "writing a buffer" : "reading a buffer");
}

/* Runs the kernel, probe(global const T *in, global T *out), on 32-bit words with `items` work-items in one work-group. */
static bool run(trial *t, const void *in, size_t in_words, void *out, size_t out_words, size_t items)
{
    cl_mem from = make_buffer(t, CL_MEM_READ_ONLY, 4 * in_words, NULL), to = NULL;
    bool done = from && (to = make_buffer(t, CL_MEM_READ_WRITE, 4 * out_words, NULL)) != NULL
                && transfer(t, from, true, 0, 4 * in_words, (void *)(uintptr_t)in)
                && transfer(t, to, true, 0, 4 * out_words, out) && set_arg(t, 0, sizeof from, &from)
                && set_arg(t, 1, sizeof to, &to) && launch(t, items, true, NULL)
                && transfer(t, to, false, 0, 4 * out_words, out);
    EY_CL_FREE(clReleaseMemObject, from);
    EY_CL_FREE(clReleaseMemObject, to);
    return done;
}

/* A way to write the same thing. The compiler's word on the first that it refuses is the reason that is kept. */
typedef struct dialect {
    const char *name, *options, *head;
} dialect;

static const dialect *build_first(trial *t, const dialect *list, size_t n, const char *text)
{
    eyrie_verdict first = { 0 };

    for (size_t i = 0; i < n; i++) {
        if (build(t, t->dev->id, list[i].options, list[i].head, text)) return &list[i];
        if (i == 0) first = *t->verdict;
    }
    *t->verdict = first;
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------- arithmetic */

/* Pointers only: converting is another matter, and a builtin that some drivers lack. */
static const char half_text[] =
    "kernel void probe(global const half *x, global half *y)\n"
    "{\n"
    "    int i = get_global_id(0);\n"
    "    y[i] = x[i] * x[i + 8];\n"
    "    y[i + 8] = x[i] - x[i + 8];\n"
    "}\n";

static void probe_half(trial *t, const char *head, const char *how)
{
    /* 3 * 1365 and 0.1 * 0.3 are rounded, once and to nearest even. */
    static const float x[16] = { 1, 3, -2, 0.5f, 0.1f, 100, 0, 10, 1, 1365, 0.25f, -0.5f, 0.3f, 10, 5, -1 };
    uint16_t in[16], out[16] = { 0 };

    for (size_t i = 0; i < COUNT(in); i++) in[i] = ey_f32_to_f16(x[i]);
    if (!build(t, t->dev->id, "-cl-std=CL1.2", head, half_text) || !run(t, in, 8, out, 8, 8)) return;
    for (size_t i = 0; i < COUNT(out); i++) {
        float a = ey_f16_to_f32(in[i % 8]), b = ey_f16_to_f32(in[i % 8 + 8]);
        uint16_t want = ey_f32_to_f16(i < 8 ? a * b : a - b);
        if (out[i] == want) continue;
        decide(t, EYRIE_NO, "compiles %s, but makes %g of %g %s %g", how, (double)ey_f16_to_f32(out[i]), (double)a,
               i < 8 ? "times" : "less", (double)b);
        return;
    }
    decide(t, EYRIE_YES, "compiles %s and computes right", how);
}

static void probe_half_announced(trial *t)
{
    probe_half(t, "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n", "with the cl_khr_fp16 pragma");
}

static void probe_half_unannounced(trial *t) { probe_half(t, "", "without a pragma"); }

/* Mesa's llvmpipe ends the loops of a work-item after 65535 turns in all, and goes on as if nothing had happened. */
static void probe_long_loops(trial *t)
{
    static const char text[] =
        "kernel void probe(global const uint *x, global uint *y)\n"
        "{\n"
        "    uint turns = 0, n = x[0], number = x[1];\n"
        "    for (uint i = 0; i < n; i++) turns++, number = number * 1664525u + 1013904223u;\n"
        "    y[0] = turns;\n"
        "    y[1] = number;\n"
        "}\n";
    uint32_t in[2] = { 4 * EY_SURE_TURNS, 1 }, out[2] = { 0 }, number = 1;

    if (!build(t, t->dev->id, "-cl-std=CL1.2", "", text) || !run(t, in, 2, out, 2, 1)) return;
    for (uint32_t i = 0; i < in[0]; i++) number = number * 1664525u + 1013904223u;
    if (out[0] == in[0] && out[1] == number) decide(t, EYRIE_YES, "%u turns are %u turns", (unsigned)in[0], (unsigned)out[0]);
    else decide(t, EYRIE_NO, "a loop of %u turns ends after %u, without an error", (unsigned)in[0], (unsigned)out[0]);
}

/* Signed and unsigned sums of four products of bytes. */
static void probe_dot_product(trial *t)
{
    static const dialect list[] = {
        { "OpenCL C 3.0", "-cl-std=CL3.0", "#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable\n" },
        { "OpenCL C 1.2", "-cl-std=CL1.2", "#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable\n" },
    };
    static const char text[] =
        "kernel void probe(global const uint *x, global uint *y)\n"
        "{\n"
        "    int i = get_global_id(0);\n"
        "    y[i] = (uint)dot_4x8packed_ss_int(x[i], x[i + 8]);\n"
        "    y[i + 8] = dot_4x8packed_uu_uint(x[i], x[i + 8]);\n"
        "}\n";
    uint32_t in[16], out[16] = { 0 };
    const dialect *d;

    for (uint32_t i = 0; i < COUNT(in); i++) in[i] = 0x80ff7f01u * (2 * i + 1) + 0x01020304u * i;   /* bytes of all kinds */
    if (!(d = build_first(t, list, COUNT(list), text)) || !run(t, in, COUNT(in), out, COUNT(out), 8)) return;
    for (uint32_t i = 0; i < 8; i++) {
        int32_t with_sign = 0;
        uint32_t without = 0;
        for (uint32_t k = 0; k < 32; k += 8) {
            with_sign += (int8_t)(in[i] >> k & 0xff) * (int8_t)(in[i + 8] >> k & 0xff);
            without += (in[i] >> k & 0xff) * (in[i + 8] >> k & 0xff);
        }
        if (out[i] == (uint32_t)with_sign && out[i + 8] == without) continue;
        decide(t, EYRIE_NO, "compiles as %s, and computes %" PRId32 " and %" PRIu32 " instead of %" PRId32 " and %" PRIu32,
               d->name, (int32_t)out[i], out[i + 8], with_sign, without);
        return;
    }
    decide(t, EYRIE_YES, "compiles as %s and computes right", d->name);
}

/* An addition. What a CPU's compiler makes of another's instructions is not tried. */
static void probe_inline_assembly(trial *t)
{
    static const dialect cpu[] = {
#if defined(__x86_64__) || defined(__i386__)
        { "x86", "-cl-std=CL1.2", "#define ADD \"leal (%1,%2), %0\"\n" },
#elif defined(__aarch64__)
        { "Arm", "-cl-std=CL1.2", "#define ADD \"add %w0, %w1, %w2\"\n" },
#else
        { "the host's", "-cl-std=CL1.2", "#error \"this library knows no assembly of this host\"\n" },
#endif
    };
    static const dialect gpu[] = { { "PTX", "-cl-std=CL1.2", "#define ADD \"add.u32 %0, %1, %2;\"\n" } };
    static const char text[] =
        "kernel void probe(global const uint *x, global uint *y)\n"
        "{\n"
        "    int i = get_global_id(0);\n"
        "    uint sum;\n"
        "    __asm__ volatile (ADD : \"=r\"(sum) : \"r\"(x[i]), \"r\"(x[i + 8]));\n"
        "    y[i] = sum;\n"
        "}\n";
    uint32_t in[16], out[8] = { 0 };
    const dialect *d;

    for (uint32_t i = 0; i < COUNT(in); i++) in[i] = 0x12345678u * (i + 1);
    if (!(d = build_first(t, t->dev->cpu ? cpu : gpu, 1, text)) || !run(t, in, COUNT(in), out, COUNT(out), 8)) return;
    for (uint32_t i = 0; i < COUNT(out); i++) {
        if (out[i] == in[i] + in[i + 8]) continue;
        decide(t, EYRIE_NO, "%s compiles, and adds wrongly", d->name);
        return;
    }
    decide(t, EYRIE_YES, "%s compiles and computes right", d->name);
}

/* ---------------------------------------------------------------------------------------------------- matrix unit */

static bool is_pocl(const trial *t)
{
    char name[256] = "";
    cl_int code;
    return EY_CL(code, clGetPlatformInfo, t->dev->platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL) == CL_SUCCESS
           && strcmp(name, "Portable Computing Language") == 0;
}

/* The kernel runs in this very process, to which the permission to use tiles is bound: it asks the system for its number. */
static bool runs_here(trial *t)
{
    static const char text[] =
        "kernel void probe(global const uint *x, global uint *y)\n"
        "{\n"
        "    long id;\n"
        "    __asm__ volatile (\"syscall\" : \"=a\"(id) : \"a\"((long)x[0]) : \"rcx\", \"r11\", \"memory\");\n"
        "    y[0] = (uint)id;\n"
        "}\n";
    uint32_t getpid_number = 39, id = 0;

    if (!build(t, t->dev->id, "-cl-std=CL1.2", "", text) || !run(t, &getpid_number, 1, &id, 1, 1)) return false;
    if (id != (uint32_t)ey_process_id()) decide(t, EYRIE_NO, "its kernels do not run in this process");
    return id == (uint32_t)ey_process_id();
}

/* C [16][16] = A [16][32] B [32][16], of small whole numbers in bf16, whose sums are exact; B in pairs of rows. */
static void probe_amx(trial *t)
{
    static const char text[] =
        "kernel void probe(global const uint *x, global float *y)\n"
        "{\n"
        "    uint config[16] = { 1, 0, 0, 0, 0x400040, 0x40, 0, 0, 0, 0, 0, 0, 0x101010, 0, 0, 0 };\n"
        "    __asm__ volatile (\"ldtilecfg (%0)\\n\\ttilezero %%tmm0\\n\\ttileloadd (%1,%3,1), %%tmm1\\n\\t\"\n"
        "                      \"tileloadd (%2,%3,1), %%tmm2\\n\\ttdpbf16ps %%tmm2, %%tmm1, %%tmm0\\n\\t\"\n"
        "                      \"tilestored %%tmm0, (%4,%3,1)\\n\\ttilerelease\"\n"
        "                      : : \"r\"(config), \"r\"(x), \"r\"(x + 256), \"r\"(64l), \"r\"(y) : \"memory\");\n"
        "}\n";
    uint32_t in[512];
    float a[16][32], b[32][16], out[256] = { 0 };

    if (!t->dev->cpu || !ey_tiles_exist()) {
        decide(t, EYRIE_NO, t->dev->cpu ? "this CPU has no AMX, or none for bf16" : "the device is no CPU");
        return;
    }
    if (!is_pocl(t)) {      /* others that run on CPUs translate kernels to something that has no assembly */
        decide(t, EYRIE_NO, "only PoCL is known to take the CPU's assembly");
        return;
    }
    if (!ey_tiles_allow()) {
        decide(t, EYRIE_NO, "the system does not let this process use the CPU's tiles");
        return;
    }
    for (uint32_t i = 0; i < 512; i++) {
        a[i / 32][i % 32] = (float)(int32_t)(i * 37 % 127) - 63;
        b[i / 16][i % 16] = (float)(int32_t)(i * 53 % 125) - 62;
    }
    for (uint32_t i = 0; i < 256; i++) {
        in[i] = ey_f32_to_bf16(a[i / 16][i % 16 * 2]) | (uint32_t)ey_f32_to_bf16(a[i / 16][i % 16 * 2 + 1]) << 16;
        in[256 + i] = ey_f32_to_bf16(b[i / 16 * 2][i % 16]) | (uint32_t)ey_f32_to_bf16(b[i / 16 * 2 + 1][i % 16]) << 16;
    }
    if (!runs_here(t) || !build(t, t->dev->id, "-cl-std=CL1.2", "", text) || !run(t, in, COUNT(in), out, COUNT(out), 1)) return;
    for (uint32_t i = 0; i < 256; i++) {
        float sum = 0;
        for (uint32_t k = 0; k < 32; k++) sum += a[i / 16][k] * b[k][i % 16];
        if (out[i] == sum) continue;
        decide(t, EYRIE_NO, "compiles, and computes %g instead of %g", (double)out[i], (double)sum);
        return;
    }
    decide(t, EYRIE_YES, "AMX: compiles and computes right");
}

/* Sums of four products of bytes, without a sign and with one: the largest there are, and others. The numbers of one operand
 * are the same in all 16 lanes. */
static void probe_vnni(trial *t)
{
    static const char text[] =
        "kernel void probe(global const uint *x, global int *y)\n"
        "{\n"
        "    for (int i = 0; i < 8; i++) {\n"
        "        int16 sum = vload16(i, y);\n"
        "        __asm__ (\"vpdpbusd (%2)%{1to16%}, %1, %0\" : \"+v\"(sum) : \"v\"(vload16(i, x)), \"r\"(x + 128 + i) : \"memory\");\n"
        "        vstore16(sum, i, y);\n"
        "    }\n"
        "}\n";
    uint32_t in[136];
    int32_t out[128], want[128];

    if (!t->dev->cpu || !ey_vnni_exists()) {
        decide(t, EYRIE_NO, t->dev->cpu ? "this CPU has no AVX-512 with VNNI" : "the device is no CPU");
        return;
    }
    if (!is_pocl(t)) {
        decide(t, EYRIE_NO, "only PoCL is known to take the CPU's assembly");
        return;
    }
    for (uint32_t i = 0; i < COUNT(in); i++) in[i] = i % 16 == 0 ? 0xffffffffu : 0x9e3779b9u * i;
    in[128] = 0x80808080u;
    in[129] = 0x7f7f7f7fu;
    for (uint32_t i = 0; i < 128; i++) {
        out[i] = want[i] = (int32_t)i * 1000 - 64000;
        for (uint32_t b = 0; b < 32; b += 8) want[i] += (int32_t)(in[i] >> b & 0xff) * (int8_t)(in[128 + i / 16] >> b & 0xff);
    }
    if (!build(t, t->dev->id, "-cl-std=CL1.2", "", text) || !run(t, in, COUNT(in), out, COUNT(out), 1)) return;
    for (uint32_t i = 0; i < 128; i++) {
        if (out[i] == want[i]) continue;
        decide(t, EYRIE_NO, "compiles, and computes %" PRId32 " instead of %" PRId32, out[i], want[i]);
        return;
    }
    decide(t, EYRIE_YES, "AVX-512 VNNI: compiles and computes right");
}

/* ----------------------------------------------------------------------------------------------------- sub-groups */

static const dialect sub_group_dialects[] = {
    { "OpenCL C 3.0", "-cl-std=CL3.0", "#pragma OPENCL EXTENSION cl_khr_subgroup_shuffle : enable\n"
                                       "#define SHUFFLE sub_group_shuffle\n" },
    { "cl_khr_subgroups", "-cl-std=CL2.0", "#pragma OPENCL EXTENSION cl_khr_subgroups : enable\n"
                                           "#pragma OPENCL EXTENSION cl_khr_subgroup_shuffle : enable\n"
                                           "#define SHUFFLE sub_group_shuffle\n" },
    { "cl_intel_subgroups", "-cl-std=CL1.2", "#pragma OPENCL EXTENSION cl_intel_subgroups : enable\n"
                                             "#define SHUFFLE intel_sub_group_shuffle\n" },
};

enum { ITEMS = 64 };

/* What each work-item says of itself, and a result. */
typedef struct lane {
    uint32_t group, lane, size, value;
} lane;

/* Runs `result`, an expression of the work-item's `value`, in one work-group; its index plus 1 is the value. */
static const dialect *run_sub_groups(trial *t, const char *result, lane out[ITEMS])
{
    char text[512];
    uint32_t in[ITEMS];
    const dialect *d;

    snprintf(text, sizeof text,
             "kernel void probe(global const uint *x, global uint *y)\n"
             "{\n"
             "    uint i = get_global_id(0), value = x[i];\n"
             "    y[4 * i] = get_sub_group_id();\n"
             "    y[4 * i + 1] = get_sub_group_local_id();\n"
             "    y[4 * i + 2] = get_sub_group_size();\n"
             "    y[4 * i + 3] = %s;\n"
             "}\n", result);
    for (uint32_t i = 0; i < ITEMS; i++) in[i] = i + 1;
    memset(out, 0, ITEMS * sizeof *out);
    d = build_first(t, sub_group_dialects, COUNT(sub_group_dialects), text);
    return d && run(t, in, ITEMS, out, 4 * ITEMS, ITEMS) ? d : NULL;
}

/* The work-item that is `at` in sub-group `group`; ITEMS: there is none. */
static uint32_t find_lane(const lane out[ITEMS], uint32_t group, uint32_t at)
{
    uint32_t i = 0;
    while (i < ITEMS && (out[i].group != group || out[i].lane != at)) i++;
    return i;
}

static void probe_sub_group_reduce(trial *t)
{
    lane out[ITEMS];
    const dialect *d = run_sub_groups(t, "sub_group_reduce_add(value)", out);

    if (!d) return;
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t sum = 0;
        for (uint32_t k = 0; k < ITEMS; k++) sum += out[k].group == out[i].group ? k + 1 : 0;
        if (out[i].value == sum && out[i].size > 1) continue;
        if (out[i].size <= 1) decide(t, EYRIE_NO, "%s compiles, but sub-groups have one work-item", d->name);
        else decide(t, EYRIE_NO, "%s compiles, and sums to %" PRIu32 " instead of %" PRIu32, d->name, out[i].value, sum);
        return;
    }
    decide(t, EYRIE_YES, "%s, sub-groups of %" PRIu32, d->name, out[0].size);
}

static void probe_sub_group_shuffle(trial *t)
{
    lane out[ITEMS];
    const dialect *d = run_sub_groups(t, "SHUFFLE(value, get_sub_group_local_id() ^ 1)", out);

    if (!d) return;
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t from = find_lane(out, out[i].group, out[i].lane ^ 1);
        if (from == ITEMS) decide(t, EYRIE_NO, "%s compiles, but sub-groups have one work-item", d->name);
        else if (out[i].value != from + 1) decide(t, EYRIE_NO, "%s compiles, and takes values from wrong places", d->name);
        else continue;
        return;
    }
    decide(t, EYRIE_YES, "%s, sub-groups of %" PRIu32, d->name, out[0].size);
}

/* ---------------------------------------------------------------------------------------------------- event times */

/* Marsaglia's xorshift: each step is six operations, one after the other, and nobody knows a shorter way. */
static const char chain_text[] =
    "kernel void probe(global uint *x, uint n)\n"
    "{\n"
    "    uint v = x[0];\n"
    "    for (uint i = 0; i < n; i++) {\n"
    "        v ^= v << 13;\n"
    "        v ^= v >> 17;\n"
    "        v ^= v << 5;\n"
    "    }\n"
    "    x[0] = v;\n"
    "}\n";

#define FASTEST 1e10            /* operations a second, one after the other: no device is faster */
#define TIMED_SECONDS 0.02      /* a kernel that is timed takes at least so long by the host's clock */
enum { MOST_STEPS = 1 << 26, ATTEMPTS = 3 };

typedef struct timing {
    double   host;              /* seconds from before enqueuing until the queue was empty */
    cl_ulong at[4];             /* queued, submitted, started, ended, nanoseconds */
} timing;

static bool time_chain(trial *t, cl_mem x, cl_uint n, timing *out)
{
    static const cl_profiling_info what[4] = { CL_PROFILING_COMMAND_QUEUED, CL_PROFILING_COMMAND_SUBMIT,
                                               CL_PROFILING_COMMAND_START, CL_PROFILING_COMMAND_END };
    cl_event event = NULL;
    cl_int code = CL_SUCCESS;

    if (!set_arg(t, 0, sizeof x, &x) || !set_arg(t, 1, sizeof n, &n)) return false;
    double start = ey_seconds();
    bool done = launch(t, 1, true, &event);
    out->host = ey_seconds() - start;
    for (size_t i = 0; i < COUNT(what) && done; i++) {
        EY_CL(code, clGetEventProfilingInfo, event, what[i], sizeof out->at[i], &out->at[i], NULL);
        done = code == CL_SUCCESS || refused(t, code, "reading the times of an event");
    }
    EY_CL_FREE(clReleaseEvent, event);
    return done;
}

/* True: nothing is wrong with these times but that they may be too short. */
static bool plausible(trial *t, const timing *m, cl_uint n, double resolution)
{
    double seconds = 1e-9 * (double)(m->at[3] - m->at[2]), least = 6.0 * n / FASTEST;

    if (m->at[0] > m->at[1] || m->at[1] > m->at[2] || m->at[2] >= m->at[3])
        decide(t, EYRIE_NO, "out of order: queued %" PRIu64 ", submitted %" PRIu64 ", started %" PRIu64 ", ended %" PRIu64,
               (uint64_t)m->at[0], (uint64_t)m->at[1], (uint64_t)m->at[2], (uint64_t)m->at[3]);
    else if (seconds > 1.01 * m->host + 2 * resolution)
        decide(t, EYRIE_NO, "%.3g s for a kernel that was over after %.3g s", seconds, m->host);
    else if (seconds + resolution < least)
        decide(t, EYRIE_NO, "%.3g s for work that takes %.3g s at the very least", seconds, least);
    else
        return true;
    return false;
}

static void time_events(trial *t, cl_mem x)
{
    size_t resolution = 0;
    cl_uint n = 1 << 10;
    timing m = { 0 };
    cl_int code;

    EY_CL(code, clGetDeviceInfo, t->dev->id, CL_DEVICE_PROFILING_TIMER_RESOLUTION, sizeof resolution, &resolution, NULL);
    if (code != CL_SUCCESS) {
        (void)refused(t, code, "reading the timer's resolution");
        return;
    }
    if (!time_chain(t, x, n, &m)) return;       /* compiles, on some devices */
    do {
        if (!time_chain(t, x, n, &m)) return;
        n *= m.host < TIMED_SECONDS ? 2 : 1;
    } while (m.host < TIMED_SECONDS && n < MOST_STEPS);
    for (int i = 0; i < ATTEMPTS; i++) {
        if (!time_chain(t, x, n, &m) || !plausible(t, &m, n, 1e-9 * (double)resolution)) return;
        double seconds = 1e-9 * (double)(m.at[3] - m.at[2]);
        if (seconds < 0.25 * m.host) {          /* unless the host was busy with something else: once more */
            decide(t, EYRIE_NO, "%.3g s for a kernel that took %.3g s by the host's clock", seconds, m.host);
            continue;
        }
        decide(t, EYRIE_YES, "%.3g s for a kernel that took %.3g s by the host's clock", seconds, m.host);
        return;
    }
}

static void probe_event_times(trial *t)
{
    cl_uint seed = 1;
    cl_mem x;

    if (!build(t, t->dev->id, "-cl-std=CL1.2", "", chain_text) || !(x = make_buffer(t, CL_MEM_READ_WRITE, sizeof seed, NULL)))
        return;
    if (transfer(t, x, true, 0, sizeof seed, &seed)) time_events(t, x);
    EY_CL_FREE(clReleaseMemObject, x);
}

/* --------------------------------------------------------------------------------------------------------- memory */

/* Both ends are read and written by host and kernel; the last word, taken modulo 4 GiB, is neither of them. */
static void probe_large_buffer(trial *t)
{
    static const char text[] =
        "kernel void probe(global uint *x, ulong last)\n"
        "{\n"
        "    x[0] += 1;\n"
        "    x[last] += 2;\n"
        "}\n";
    const uint64_t wanted = (1ull << 32) + (1u << 16);
    char size[24], room_text[24];
    const char *source;
    uint64_t room = ey_device_free_memory(t->dev, &source);
    cl_ulong most = 0;
    uint32_t ends[2] = { 1000, 2000 };
    cl_int code;
    cl_mem x;

    if (EY_CL(code, clGetDeviceInfo, t->dev->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most, NULL) != CL_SUCCESS) {
        (void)refused(t, code, "reading the largest allocation");
        return;
    }
    uint64_t bytes = ey_min(wanted, most) / 4096 * 4096;
    ey_bytes_text(bytes, size);
    if (bytes > room / 2) {
        decide(t, EYRIE_NOT_PROBED, "%s, when twice as much is free; %s %s", size, ey_bytes_text(room, room_text), source);
        return;
    }
    cl_ulong last = bytes / 4 - 1;
    if (!build(t, t->dev->id, "-cl-std=CL1.2", "", text) || !(x = make_buffer(t, CL_MEM_READ_WRITE, (size_t)bytes, NULL)))
        return;
    bool done = transfer(t, x, true, 0, 4, &ends[0]) && transfer(t, x, true, (size_t)bytes - 4, 4, &ends[1])
                && set_arg(t, 0, sizeof x, &x) && set_arg(t, 1, sizeof last, &last) && launch(t, 1, true, NULL)
                && transfer(t, x, false, 0, 4, &ends[0]) && transfer(t, x, false, (size_t)bytes - 4, 4, &ends[1]);
    EY_CL_FREE(clReleaseMemObject, x);
    if (!done) return;
    if (ends[0] != 1001 || ends[1] != 2002)
        decide(t, EYRIE_NO, "%s: the ends hold %" PRIu32 " and %" PRIu32 " instead of 1001 and 2002", size, ends[0], ends[1]);
    else
        decide(t, EYRIE_YES, "%s in one buffer, written and read at both ends%s", size,
               bytes < wanted ? "; the device gives no more" : "");
}

enum { PAGE = 4096, HOST_WORDS = 1 << 16 };

/* The kernel has to see what the host wrote after the buffer was made, and the host what the kernel wrote, with nothing
 * mapped: the standard does not promise it, devices that really share the memory do it. */
static void share_memory(trial *t, uint32_t *words)
{
    cl_mem x = make_buffer(t, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, HOST_WORDS * sizeof *words, words);
    uint32_t i;

    if (!x) return;
    for (i = 0; i < HOST_WORDS; i++) words[i] = i;
    if (set_arg(t, 0, sizeof x, &x) && launch(t, HOST_WORDS / 64, false, NULL)) {
        for (i = 0; i < HOST_WORDS && words[i] == 3 * i + 1; i++) continue;
        if (i == HOST_WORDS) decide(t, EYRIE_YES, "host and device see each other's writes at once");
        else decide(t, EYRIE_NO, "the device works on a copy: %" PRIu32 " instead of %" PRIu32, words[i], 3 * i + 1);
    }
    EY_CL_FREE(clReleaseMemObject, x);
}

static void probe_host_pointer(trial *t)
{
    static const char text[] =
        "kernel void probe(global uint *x)\n"
        "{\n"
        "    x += get_global_id(0) * 64;\n"
        "    for (int i = 0; i < 64; i++) x[i] = 3 * x[i] + 1;\n"
        "}\n";
    char *memory = ey_calloc(HOST_WORDS * sizeof(uint32_t) + PAGE, 1);
    uintptr_t aligned = ((uintptr_t)memory + PAGE - 1) / PAGE * PAGE;

    if (!memory) decide(t, EYRIE_NOT_PROBED, "no memory on the host");
    else if (build(t, t->dev->id, "-cl-std=CL1.2", "", text)) share_memory(t, (uint32_t *)aligned);
    ey_free(memory);
}

/* ---------------------------------------------------------------------------------------------------- sub-devices */

/* Divides the device and runs a kernel on the first part; the parts are left in *n. */
static bool divide(trial *t, const cl_device_partition_property *how, cl_uint *n)
{
    static const char text[] = "kernel void probe(global const uint *x, global uint *y) { y[0] = x[0] + 1; }\n";
    cl_device_id parts[64];
    uint32_t in = 41, out = 0;
    cl_int code;

    *n = 0;
    if (EY_CL(code, clCreateSubDevices, t->dev->id, how, COUNT(parts), parts, n) != CL_SUCCESS)
        return refused(t, code, "dividing the device");
    close_context(t);
    bool done = open_context(t, &parts[0]) && build(t, parts[0], "-cl-std=CL1.2", "", text) && run(t, &in, 1, &out, 1, 1);
    bool settled = !t->queue || ey_queue_settle(t->queue);
    close_context(t);
    for (cl_uint i = 0; i < *n && settled; i++) EY_CL_FREE(clReleaseDevice, parts[i]);
    if (done && out != 42) decide(t, EYRIE_NO, "a part of the device makes %" PRIu32 " of 41 + 1", out);
    return done && out == 42;
}

static void probe_sub_devices(trial *t)
{
    cl_device_partition_property units = (cl_device_partition_property)t->dev->units, half = (units + 1) / 2;
    const cl_device_partition_property counts[] = { CL_DEVICE_PARTITION_BY_COUNTS, half, units - half,
                                                    CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0 };
    const cl_device_partition_property equally[] = { CL_DEVICE_PARTITION_EQUALLY, half, 0 };
    cl_uint n;

    if (units < 2) {
        decide(t, EYRIE_NO, "there is one compute unit, which cannot be divided");
        return;
    }
    bool by_counts = divide(t, counts, &n) && n == 2, in_parts = divide(t, equally, &n) && n >= 1;
    if (by_counts && in_parts) decide(t, EYRIE_YES, "%u units, equally or by counts", (unsigned)units);
    else if (by_counts) decide(t, EYRIE_YES, "%u units, by counts only", (unsigned)units);
    else if (in_parts) decide(t, EYRIE_YES, "%u units, equally only", (unsigned)units);
}

/* ---------------------------------------------------------------------------------------------------------- table */

static const struct { eyrie_probe about; void (*run)(trial *t); } probes[] = {
    { { "half", "arithmetic in f16, with the cl_khr_fp16 pragma", "products in f16 on GPUs: no kernel uses it yet", false, false },
      probe_half_announced },
    { { "half-unannounced", "the same without the pragma, as drivers that do not report it want it",
        "products in f16 on GPUs: no kernel uses it yet", false, false }, probe_half_unannounced },
    { { "sub-group-reduce", "sums over a sub-group", "sums of rows on GPUs: no kernel uses it yet", true, false },
      probe_sub_group_reduce },
    { { "sub-group-shuffle", "values from other work-items of a sub-group", "products on GPUs: no kernel uses it yet", true, false },
      probe_sub_group_shuffle },
    { { "dot-product", "sums of four products of 8-bit integers", "8-bit products: no kernel uses it yet", false, false },
      probe_dot_product },
    { { "inline-assembly", "assembly in kernels", "matrix units (see amx)", true, false },
      probe_inline_assembly },
    { { "amx", "products of bf16 on an x86 CPU's matrix unit, in assembly", "prefill with weights in bf16, q8 or q4, but for --compute f32",
        true, true }, probe_amx },
    { { "vnni", "sums of four products of bytes on an x86 CPU's AVX-512, in assembly", "products with --compute int8, with the same bits as without",
        true, true }, probe_vnni },
    { { "long-loops", "loops that end when they should, however long", "models whose attention has more turns are refused without it",
        false, false }, probe_long_loops },
    { { "event-times", "times of events that can be true", "profiles; the host's clock is used so far", false, false },
      probe_event_times },
    { { "large-buffer", "more than 4 GiB in one allocation, or the most there is",
        "weights in few pieces: they are split by what the device says", false, false }, probe_large_buffer },
    { { "host-pointer", "CL_MEM_USE_HOST_PTR without a copy", "packed checkpoints where they lie in their files", false, false },
      probe_host_pointer },
    { { "sub-devices", "lanes on parts of the device", "halves of a CPU for two models (eyrie_device_split)", true, false }, probe_sub_devices },
};

const eyrie_probe *eyrie_probe_at(size_t i) { return i < COUNT(probes) ? &probes[i].about : NULL; }

const char *eyrie_answer_text(eyrie_answer answer)
{
    static const char *const texts[] = { "not probed", "yes", "no", "crashes" };
    return (size_t)answer < COUNT(texts) ? texts[answer] : "unknown";
}

eyrie_status eyrie_probe_run(eyrie_device *dev, const char *name, eyrie_verdict *verdict, eyrie_error *err)
{
    trial t = { .dev = dev, .verdict = verdict };

    *verdict = (eyrie_verdict){ 0 };
    for (size_t i = 0; i < COUNT(probes); i++) {
        if (strcmp(probes[i].about.name, name)) continue;
        if (open_context(&t, &dev->id)) probes[i].run(&t);
        close_context(&t);
        eyrie_probe_remember(dev, name, verdict);
        return EYRIE_OK;
    }
    return ey_fail(err, EYRIE_EINVAL, "there is no probe \"%s\"; eyrie_probe_at lists them", name);
}

/* --------------------------------------------------------------------------------------------------------- memory */

/* What a verdict is kept under; dev->name has the driver's version in it. Some are about the class that was asked for. */
static size_t key_of(const eyrie_device *dev, const char *name, char key[1024])
{
    int n = snprintf(key, 1024, "probe %s of Eyrie %s, class %s\n%s", name, eyrie_version(), dev->cpu ? "cpu" : "gpu", dev->name);
    return n > 0 ? ey_min((uint64_t)n, 1023) : 0;
}

static const char cache_kind[] = "verdict";

/* An entry is the answer's number and the reason. */
void eyrie_probe_remember(eyrie_device *dev, const char *name, const eyrie_verdict *verdict)
{
    char key[1024], data[1 + sizeof verdict->reason];
    size_t length = strlen(verdict->reason);

    if (verdict->answer == EYRIE_NOT_PROBED) return;
    data[0] = (char)verdict->answer;
    memcpy(data + 1, verdict->reason, length);
    ey_cache_put(dev->cache, cache_kind, key, key_of(dev, name, key), data, 1 + length);
}

void eyrie_probe_recall(const eyrie_device *dev, const char *name, eyrie_verdict *verdict)
{
    char key[1024];
    size_t size = 0;
    char *data = ey_cache_get(dev->cache, cache_kind, key, key_of(dev, name, key), &size);

    *verdict = (eyrie_verdict){ 0 };
    if (data && size >= 1 && size <= sizeof verdict->reason && data[0] >= EYRIE_YES && data[0] <= EYRIE_CRASHES) {
        verdict->answer = (eyrie_answer)data[0];
        memcpy(verdict->reason, data + 1, size - 1);
    }
    ey_free(data);
}

bool ey_probe_loops(eyrie_device *dev)
{
    eyrie_verdict v = { EYRIE_YES, "" };

    if (dev->fma) return true;
    eyrie_probe_recall(dev, "long-loops", &v);
    if (v.answer == EYRIE_NOT_PROBED) (void)eyrie_probe_run(dev, "long-loops", &v, NULL);
    return v.answer != EYRIE_NO;
}

bool ey_probe_event_times(eyrie_device *dev)
{
    eyrie_verdict v;

    eyrie_probe_recall(dev, "event-times", &v);
    if (v.answer == EYRIE_NOT_PROBED && eyrie_probe_run(dev, "event-times", &v, NULL) == EYRIE_OK)
        eyrie_probe_remember(dev, "event-times", &v);
    if (v.answer != EYRIE_YES)
        ey_note(&dev->log, "event times of %s are not used (%s): every launch that is timed waits for the one before", dev->name,
                v.answer == EYRIE_NOT_PROBED ? "not probed" : v.reason);
    return v.answer == EYRIE_YES;
}

/* Whether the remembered verdict is yes; if not, why. */
static bool said_yes(const eyrie_device *dev, const char *name, char reason[320])
{
    eyrie_verdict v;

    eyrie_probe_recall(dev, name, &v);
    if (v.answer == EYRIE_NOT_PROBED)
        snprintf(reason, 320, "no probe's verdict is remembered (eyrie devices --probe, with a cache directory)");
    else if (v.answer != EYRIE_YES)
        snprintf(reason, 320, "the probe says: %s", v.reason);
    return v.answer == EYRIE_YES;
}

bool ey_probe_unit(eyrie_device *dev, char reason[320])
{
    reason[0] = '\0';
    if (!dev->cpu || !ey_tiles_exist() || !said_yes(dev, "amx", reason)) return false;
    if (!ey_tiles_allow()) snprintf(reason, 320, "the system does not let this process use it");
    return !reason[0];
}

bool ey_probe_vnni(const eyrie_device *dev, char reason[320])
{
    reason[0] = '\0';
    return dev->cpu && ey_vnni_exists() && said_yes(dev, "vnni", reason);
}
