/* test_math.c - the exponentials of prelude.cl against the C library's in double: over all exponents, both signs, and where
 * they matter most, densely; infinities and NaNs too. The bounds are those that prelude.cl states. */
#include "harness.h"

#include <float.h>

enum { FUNCTIONS = 5, STEP = 1u << 16 };

typedef struct function {
    const char *name;
    double    (*truth)(double x);
    float       least, most;        /* what it is defined for */
    double      bound;              /* units of the last place of a normal result */
} function;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double gelu(double x) { return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x)); }

static const function functions[FUNCTIONS] = {
    { "exp", exp, -INFINITY, INFINITY, 1.0 },
    { "expm1", expm1, -INFINITY, 0.0f, 1.0 },
    { "sigmoid", sigmoid, -INFINITY, INFINITY, 4.0 },
    { "tanh", tanh, -INFINITY, INFINITY, 4.0 },
    { "gelu", gelu, -INFINITY, INFINITY, 0.0 },     /* by a bound relative to x instead */
};

static const char kernel_text[] =
    "kernel void evaluate(global const float *x, global float *y, int n, int which)\n"
    "{\n"
    "    int i = get_global_id(0);\n"
    "    float16 v = vload16(i, x), t;\n"
    "    if (which == 0) t = exp16(v);\n"
    "    else if (which == 1) exp_expm1(v, &t);\n"
    "    else if (which == 2) t = sigmoid16(v);\n"
    "    else if (which == 3) t = tanh16(v);\n"
    "    else t = gelu16(v);\n"
    "    vstore16(t, i, y);\n"
    "}\n";

typedef struct bench {
    cl_program program;
    cl_kernel  kernel;
    ey_arena   arena;
    ey_buffer *x, *y;
    float     *in, *out;            /* [STEP] */
} bench;

static void bench_open(bench *b)
{
    const char *texts[2] = { NULL, kernel_text };
    size_t lengths[2] = { 0, sizeof kernel_text - 1 };
    cl_int code;

    if (!shared.device) skip();
    for (size_t i = 0; i < ey_kernel_texts_count; i++)
        if (!strcmp(ey_kernel_texts[i].name, "prelude.cl")) {
            texts[0] = (const char *)ey_kernel_texts[i].text;
            lengths[0] = ey_kernel_texts[i].length;
        }
    assert_non_null(texts[0]);
    b->program = clCreateProgramWithSource(shared.device->context, 2, texts, lengths, &code);
    assert_int_equal(code, CL_SUCCESS);
    assert_int_equal(clBuildProgram(b->program, 1, &shared.device->id, "-cl-std=CL1.2", NULL, NULL), CL_SUCCESS);
    b->kernel = clCreateKernel(b->program, "evaluate", &code);
    assert_int_equal(code, CL_SUCCESS);
    ey_arena_init(&b->arena, shared.device, "numbers");
    b->x = ey_arena_add(&b->arena, STEP * sizeof(float), "x");
    b->y = ey_arena_add(&b->arena, STEP * sizeof(float), "y");
    assert_ok(ey_arena_commit(&b->arena, &err));
    b->in = zeros(STEP);
    b->out = zeros(STEP);
}

static void bench_close(bench *b)
{
    ey_arena_free(&b->arena);
    clReleaseKernel(b->kernel);
    clReleaseProgram(b->program);
}

static void evaluate(bench *b, int which)
{
    const size_t global = STEP / 16, one = 1;
    const cl_int n = STEP;

    assert_ok(ey_buffer_write(shared.device, b->x, 0, STEP * sizeof(float), b->in, &err));
    assert_int_equal(clSetKernelArg(b->kernel, 0, sizeof b->x->mem, &b->x->mem), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(b->kernel, 1, sizeof b->y->mem, &b->y->mem), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(b->kernel, 2, sizeof n, &n), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(b->kernel, 3, sizeof which, &which), CL_SUCCESS);
    assert_int_equal(clEnqueueNDRangeKernel(shared.device->queue, b->kernel, 1, NULL, &global, &one, 0, NULL, NULL), CL_SUCCESS);
    assert_ok(ey_buffer_read(shared.device, b->y, 0, STEP * sizeof(float), b->out, &err));
}

/* |got - want| in units of the last place of want. Where both are denormal, 0: devices may make them 0. */
static double ulps(double got, double want)
{
    int exponent;

    if (fabs(want) < FLT_MIN && fabs(got) <= FLT_MIN) return 0.0;
    frexp(want, &exponent);
    return fabs(got - want) / ldexp(1.0, exponent - 24);
}

static void check_all(const bench *b, int which)
{
    const function *f = &functions[which];

    for (size_t i = 0; i < STEP; i++) {
        double x = b->in[i], want = f->truth(x), got = b->out[i];

        if (!(x >= f->least && x <= f->most)) continue;
        if (fabs(want) > FLT_MAX) {
            if (!(fabs(got) >= 0x1.fffffcp+127)) fail_msg("%s(%a) is %a, not %a", f->name, x, got, want);
        } else if (which == 4) {
            /* u = 2 inner is off by 5 roundings, of which x sigmoid passes on |x| |u| sigmoid' (u) < 0.23 |x| each; sigmoid
             * itself by at most 4 units of a number below 1, which are 4 roundings; the product by one. */
            if (!(fabs(got - want) <= (5 * 0.23 + 4 + 1) * 0x1p-24 * fabs(x) + FLT_MIN)) fail_msg("gelu(%a) is %a, not %a", x, got, want);
        } else if (!(ulps(got, want) <= f->bound)) {
            fail_msg("%s(%a) is %a, not %a: off by %.3g units", f->name, x, got, want, ulps(got, want));
        }
    }
}

/* Each bit pattern that is a multiple of 1009, so that the last bits of all exponents vary. */
static void over_all_floats(void **state)
{
    bench b;

    (void)state;
    bench_open(&b);
    for (uint64_t start = 0; start < 1ull << 32; start += (uint64_t)STEP * 1009) {
        for (uint64_t i = 0; i < STEP; i++) {
            uint32_t bits = (uint32_t)ey_min(start + i * 1009, UINT32_MAX);
            memcpy(&b.in[i], &bits, sizeof bits);
        }
        for (int which = 0; which < FUNCTIONS; which++) {
            evaluate(&b, which);
            check_all(&b, which);
        }
    }
    bench_close(&b);
}

/* Equal steps over the range where results are neither 0 nor 1 nor infinite. */
static void where_it_matters(void **state)
{
    static const double ends[] = { 0.5, 8, 110 };
    bench b;

    (void)state;
    bench_open(&b);
    for (size_t k = 0; k < COUNT(ends); k++)
        for (int part = 0; part < 8; part++) {
            for (size_t i = 0; i < STEP; i++)
                b.in[i] = (float)(ends[k] * (((double)i + STEP * part) / (STEP * 4.0) - 1.0));
            for (int which = 0; which < FUNCTIONS; which++) {
                evaluate(&b, which);
                check_all(&b, which);
            }
        }
    bench_close(&b);
}

static void special_values(void **state)
{
    const float in[] = { 0.0f, -0.0f, INFINITY, -INFINITY, NAN, -NAN };
    const float want[FUNCTIONS][4] = { { 1, 1, INFINITY, 0 }, { 0, -0.0f, 0, -1 }, { 0.5f, 0.5f, 1, 0 }, { 0, -0.0f, 1, -1 },
                                       { 0, -0.0f, INFINITY, 0 } };
    bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < COUNT(in); i++) b.in[i] = in[i];
    for (int which = 0; which < FUNCTIONS; which++) {
        evaluate(&b, which);
        for (size_t i = 0; i < 4; i++) {
            if (which == 1 && i == 2) continue;                                     /* it is for x <= 0 */
            if (which == 4 && i == 3) continue;                                     /* -inf * 0 is a NaN, as in any formula */
            if (!(b.out[i] == want[which][i])) fail_msg("%s(%g) is %g", functions[which].name, in[i], b.out[i]);
        }
        for (size_t i = 4; i < COUNT(in); i++)
            if (!isnan(b.out[i])) fail_msg("%s(NaN) is %g", functions[which].name, b.out[i]);
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(over_all_floats),
        op_test(where_it_matters),
        op_test(special_values),
    };
    return run_cpu_tests(tests);
}
