/* test_program.c - program.c: kernel text from the library and from a directory, and what is said when it is wrong. */
#include "running.h"

#include "program.h"

#include <eyrie/eyrie_tools.h>

#include <sys/stat.h>

/* One weight format and one type of ring, so that there is little to compile. */
static const uint32_t     formats = 1u << EYRIE_FORMAT_BF16;
static const eyrie_format kv = EYRIE_FORMAT_F32;

/* A device that takes kernels from `directory`. */
static eyrie_device *open_with(const char *directory)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .kernel_dir = directory };
    eyrie_device *dev;

    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    return dev;
}

static bool has_kernel(ey_program *p, const char *name)
{
    cl_kernel kernel;
    eyrie_status st = ey_program_kernel(p, name, &kernel, &err);

    assert_true((st == EYRIE_OK) == (kernel != NULL));
    return st == EYRIE_OK;
}

/* The text of a built-in file, to be freed. */
static char *built_in(const char *name)
{
    for (size_t i = 0; i < ey_kernel_texts_count; i++) {
        if (strcmp(ey_kernel_texts[i].name, name)) continue;
        char *text = calloc(ey_kernel_texts[i].length + 1, 1);
        assert_non_null(text);
        return memcpy(text, ey_kernel_texts[i].text, ey_kernel_texts[i].length);
    }
    fail_msg("%s is not built in", name);
    return NULL;
}

/* Writes a built-in file to the directory, with `more` at its end; returns the number of the line where that begins. */
static unsigned write_changed(const char *directory, const char *name, const char *more)
{
    char *text = built_in(name), *changed = calloc(strlen(text) + strlen(more) + 2, 1);
    unsigned lines = 1;

    assert_non_null(changed);
    sprintf(changed, "%s%s%s", text, text[0] && text[strlen(text) - 1] != '\n' ? "\n" : "", more);
    for (const char *c = changed; c < changed + strlen(changed) - strlen(more); c++) lines += *c == '\n';
    write_text(directory, name, changed);
    free(changed);
    free(text);
    return lines;
}

/* The library holds the files of kernels_cl, byte for byte. */
static void built_in_text_is_that_of_the_files(void **state)
{
    (void)state;
    assert_in_range(ey_kernel_texts_count, 1, 100);
    for (size_t i = 0; i < ey_kernel_texts_count; i++) {
        char name[128];
        uint64_t size;
        snprintf(name, sizeof name, "kernels_cl/%s", ey_kernel_texts[i].name);
        char *text = golden_load(source_path(name), &size);
        assert_non_null(text);
        assert_int_equal(size, ey_kernel_texts[i].length);
        assert_memory_equal(text, ey_kernel_texts[i].text, size);
        free(text);
    }
}

static void kernels_by_name(void **state)
{
    ey_program *p;
    cl_kernel first, again;

    (void)state;
    if (!device) skip();
    assert_ok(ey_program_build(&p, device, formats, kv, &err));
    assert_ok(ey_program_kernel(p, "norm", &first, &err));
    assert_ok(ey_program_kernel(p, "norm", &again, &err));
    assert_ptr_equal(first, again);
    assert_true(has_kernel(p, "embed_bf16"));
    assert_fails(ey_program_kernel(p, "embed_f16", &first, &err), EYRIE_EBUILD, "embed_f16");   /* not asked for */
    assert_null(first);
    assert_fails(ey_program_kernel(p, "no_such_kernel", &first, &err), EYRIE_EBUILD, "no_such_kernel");
    assert_true(err.cl_code != 0);
    ey_program_free(p);
    ey_program_free(NULL);
}

/* All there can be on this device, in one program. PoCL tells standard error of warnings. */
static void compilers_have_nothing_to_say(void **state)
{
    static const struct { const char *probe; uint32_t bit; } more[] = { { "amx", EY_MATRIX_UNIT | EY_UNIT_DECODE }, { "vnni", EY_VNNI } };
    uint32_t      all = EY_INT8 | formats | 1u << EYRIE_FORMAT_F32 | 1u << EYRIE_FORMAT_F16 | 1u << EYRIE_FORMAT_Q8 | 1u << EYRIE_FORMAT_Q4;
    char          log[4096] = "";
    cl_kernel     kernel;
    cl_program    program;
    cl_device_id  id;
    eyrie_verdict v;
    ey_program   *p;

    (void)state;
    if (!device) skip();
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (eyrie_probe_run(device, more[i].probe, &v, &err) == EYRIE_OK && v.answer == EYRIE_YES) all |= more[i].bit;
    assert_ok(ey_program_build(&p, device, all, EYRIE_FORMAT_F16, &err));
    assert_ok(ey_program_kernel(p, "norm", &kernel, &err));
    assert_int_equal(clGetKernelInfo(kernel, CL_KERNEL_PROGRAM, sizeof program, &program, NULL), CL_SUCCESS);
    assert_int_equal(clGetProgramInfo(program, CL_PROGRAM_DEVICES, sizeof id, &id, NULL), CL_SUCCESS);
    assert_int_equal(clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL), CL_SUCCESS);
    if (strstr(log, "warning")) fail_msg("%s", log);
    ey_program_free(p);
}

static void a_directory_replaces_one_file(void **state)
{
    eyrie_device *dev;
    ey_program *p;

    write_changed(*state, "rope.cl", "kernel void only_here(global int *x) { *x = 1; }\n");
    write_text(*state, "unrelated.cl", "this is no kernel");
    dev = open_with(*state);
    assert_ok(ey_program_build(&p, dev, formats, kv, &err));
    assert_true(has_kernel(p, "only_here"));
    assert_true(has_kernel(p, "rope"));
    assert_true(has_kernel(p, "norm"));         /* the others are built in */
    assert_true(has_kernel(p, "embed_bf16"));
    ey_program_free(p);
    assert_ok(eyrie_device_close(dev));

    assert_ok(ey_program_build(&p, device, formats, kv, &err));
    assert_false(has_kernel(p, "only_here"));
    ey_program_free(p);
}

/* The message names file and line, whatever stands before it in the text; an open model fails with it. */
static void broken_kernels_are_located(void **state)
{
    static const char *const files[] = { "prelude.cl", "conv1d.cl", "matmul.cl" };

    for (size_t i = 0; i < COUNT(files); i++) {
        char place[64];
        eyrie_device *dev = open_with(*state);
        ey_program *p;
        eyrie_model *m;
        unsigned line = write_changed(*state, files[i], "\n\nint broken(int x) { return x + undeclared; }\n") + 2;

        snprintf(place, sizeof place, "%s:%u", files[i], line);
        assert_fails(ey_program_build(&p, dev, formats, kv, &err), EYRIE_EBUILD, place);
        assert_null(p);
        assert_true(err.cl_code != 0);
        assert_non_null(strstr(err.text, "--kernel-dir"));
        if (i == 0) {
            assert_fails(eyrie_model_open(&m, dev, source_path(GOLDEN("griffin")), NULL, &err), EYRIE_EBUILD, place);
            assert_null(m);
        }
        assert_int_equal(dev->used, 0);
        assert_ok(eyrie_device_close(dev));
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", (const char *)*state, files[i]);
        assert_int_equal(remove(path), 0);
    }
}

static void a_kernel_is_missing(void **state)
{
    eyrie_model *m;
    eyrie_device *dev;

    write_text(*state, "embed.cl", "");
    dev = open_with(*state);
    assert_fails(eyrie_model_open(&m, dev, source_path(GOLDEN("griffin")),
                                  &(eyrie_model_opts){ sizeof(eyrie_model_opts), .compute = EYRIE_COMPUTE_F32 }, &err),
                 EYRIE_EBUILD, "embed");
    assert_null(m);
    assert_int_equal(dev->used, 0);
    assert_ok(eyrie_device_close(dev));
}

static void a_file_cannot_be_read(void **state)
{
    ey_program *p;
    eyrie_device *dev = open_with(*state);

    assert_int_equal(mkdir(path_of(*state, "rope.cl"), 0700), 0);      /* even root cannot read that as a file */
    assert_fails(ey_program_build(&p, dev, formats, kv, &err), EYRIE_EIO, "rope.cl");
    assert_null(p);
    assert_ok(eyrie_device_close(dev));
}

/* A name misspelt must not pass for the built-in kernels. */
static void a_directory_that_is_not_there(void **state)
{
    char path[4200];
    ey_program *p;

    snprintf(path, sizeof path, "%s/nothing", (const char *)*state);
    eyrie_device *dev = open_with(path);
    assert_fails(ey_program_build(&p, dev, formats, kv, &err), EYRIE_EBUILD, path);
    assert_null(p);
    assert_ok(eyrie_device_close(dev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_text_is_that_of_the_files), cmocka_unit_test(kernels_by_name),
        test_in_dir(a_directory_replaces_one_file),           test_in_dir(broken_kernels_are_located),
        test_in_dir(a_kernel_is_missing),                     test_in_dir(a_file_cannot_be_read),
        test_in_dir(a_directory_that_is_not_there),           cmocka_unit_test(compilers_have_nothing_to_say),
    };

    return cmocka_run_group_tests_name("program", tests, open_device, close_device);
}
