/* test_kept.c - what is kept in the cache between runs: a program comes from its binary, and from its text when that does not
 * do; a model writes the same from either. What the command makes of --cache-dir is test_cli's business. */
#include "cached.h"

#include "program.h"

#include <errno.h>
#include <xxhash.h>

/* -------------------------------------------------------------------------------------------------------- programs */

/* Kernels of our own: compiling those of the library for this would take long and show no more. */
static eyrie_device *open_device(const char *directory, const char *kernel)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .log = take_note, .log_user = &noted };
    char cache[4096], kernels[4096];
    eyrie_device *dev;
    eyrie_error err;

    snprintf(cache, sizeof cache, "%s/cache", directory);
    snprintf(kernels, sizeof kernels, "%s/kernels", directory);
    if (mkdir(kernels, 0700) != 0) assert_int_equal(errno, EEXIST);
    for (size_t i = 0; i < ey_kernel_texts_count; i++) write_text(kernels, ey_kernel_texts[i].name, "");
    write_text(kernels, "norm.cl", kernel);
    opts.cache_dir = cache;
    opts.kernel_dir = kernels;
    if (eyrie_device_open(&dev, &opts, &err) == EYRIE_OK) {
        dev->keeps_kernels = false;             /* PoCL does, but it can show what happens where the driver does not */
        return dev;
    }
    if (err.status != EYRIE_ENODEV) fail_msg("%s", err.text);
    skip();
    return NULL;
}

#define TWICE "kernel void twice(global int *x) { *x = 2 * *x; }\n"
#define THRICE "kernel void thrice(global int *x) { *x = 3 * *x; }\n"

/* How often the library called OpenCL, and the call that is to fail. */
static struct {
    unsigned    n, sources, binaries, reads;
    unsigned    fail_at;            /* counted from 1; 0: none */
    const char *fail_name;
    char        failed[64];
} calls;

static cl_int count_call(const char *call)
{
    calls.n++;
    calls.sources += !strcmp(call, "clCreateProgramWithSource");
    calls.binaries += !strcmp(call, "clCreateProgramWithBinary");
    calls.reads += !strcmp(call, "clGetProgramInfo");
    if (calls.n != calls.fail_at && !(calls.fail_name && !strcmp(call, calls.fail_name))) return CL_SUCCESS;
    calls.fail_name = NULL;         /* once */
    snprintf(calls.failed, sizeof calls.failed, "%s", call);
    return CL_OUT_OF_RESOURCES;
}

/* Runs the kernel on x; the OpenCL calls are the test's own. */
static int run_kernel(eyrie_device *dev, cl_kernel kernel, int x)
{
    cl_int code;
    size_t one = 1;
    cl_mem buffer = clCreateBuffer(dev->context, CL_MEM_COPY_HOST_PTR, sizeof x, &x, &code);

    assert_int_equal(code, CL_SUCCESS);
    assert_int_equal(clSetKernelArg(kernel, 0, sizeof buffer, &buffer), CL_SUCCESS);
    assert_int_equal(clEnqueueNDRangeKernel(dev->queue, kernel, 1, NULL, &one, &one, 0, NULL, NULL), CL_SUCCESS);
    assert_int_equal(clEnqueueReadBuffer(dev->queue, buffer, CL_TRUE, 0, sizeof x, &x, 0, NULL, NULL), CL_SUCCESS);
    clReleaseMemObject(buffer);
    return x;
}

/* What a model does: build, make kernels, launch, store. Failing is fine where something of OpenCL fails; being wrong
 * is not. */
static eyrie_status start(eyrie_device *dev, const char *name, int factor)
{
    eyrie_error err = { EYRIE_OK, 0, "" };
    ey_program *p;
    cl_kernel kernel;
    eyrie_status st;

    memset(&noted, 0, sizeof noted);
    calls.n = calls.sources = calls.binaries = calls.reads = 0;
    ey_cl_hook = count_call;
    st = ey_program_build(&p, dev, 1u << EYRIE_FORMAT_F32, EYRIE_FORMAT_F32, &err);
    if (st == EYRIE_OK) st = ey_program_kernel(p, name, &kernel, &err);
    if (st == EYRIE_OK) {
        assert_int_equal(run_kernel(dev, kernel, 21), 21 * factor);
        ey_program_store(p);
    }
    ey_cl_hook = NULL;
    if (st != EYRIE_OK) assert_true(err.text[0] && !strchr(err.text, '\n'));
    ey_program_free(p);
    return st;
}

static void expect_start(eyrie_device *dev, const char *name, int factor, unsigned sources, unsigned binaries)
{
    assert_int_equal(start(dev, name, factor), EYRIE_OK);
    if (calls.sources != sources || calls.binaries != binaries)
        fail_msg("built from text %u and from binary %u times, wanted %u and %u; %s", calls.sources, calls.binaries,
                 sources, binaries, noted.last);
    assert_int_equal(calls.reads, sources ? 2 : 0);     /* the binary's size and the binary, to be kept */
}

static void close_device(eyrie_device *dev) { assert_int_equal(eyrie_device_close(dev), EYRIE_OK); }

static void the_second_start_is_from_the_binary(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    char cache[4096];

    expect_start(dev, "twice", 2, 1, 0);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);

    dev = open_device(*state, "\n" TWICE);      /* another text, another entry */
    expect_start(dev, "twice", 2, 1, 0);
    close_device(dev);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    assert_int_equal(count_entries(cache), 2);
    expect_notes(0, "");
}

/* Makes an entry's checksum right again; this is the format as cache.c describes it. */
static void reseal(bytes *b)
{
    XXH128_canonical_t checksum;

    for (size_t i = 0; i < 8; i++) b->data[52 + i] = (unsigned char)((uint64_t)(b->n - 76) >> 8 * i);
    XXH128_canonicalFromHash(&checksum, XXH3_128bits_withSeed(b->data + 76, b->n - 76, XXH3_64bits(b->data, 60)));
    memcpy(b->data + 60, &checksum, 16);
}

static void binaries_that_do_not_do(void **state)
{
    static bytes twice, b;
    char cache[4096], path[4096];
    eyrie_device *dev = open_device(*state, THRICE);

    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    expect_start(dev, "thrice", 3, 1, 0);
    close_device(dev);
    only_entry(cache, path);
    load(&b, path);
    assert_int_equal(remove(path), 0);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 1, 0);
    only_entry(cache, path);
    load(&twice, path);

    /* Sound, but with another program's kernels. */
    memcpy(b.data, twice.data, 76);
    reseal(&b);
    save(path, b.data, b.n);
    expect_start(dev, "twice", 2, 1, 1);
    expect_notes(1, "do not load");
    expect_start(dev, "twice", 2, 0, 1);
    expect_notes(0, "");

    /* Changed in some place: never shown to the driver, which may abort on it. */
    for (size_t i = 0; i < 16; i++) {
        b = twice;
        b.data[i * (b.n - 1) / 15] ^= 0x10;
        save(path, b.data, b.n);
        expect_start(dev, "twice", 2, 1, 0);
        expect_notes(1, path);
        expect_start(dev, "twice", 2, 0, 1);
        expect_notes(0, "");
    }
    close_device(dev);
}

/* Any one call may fail in a start from the cache: what it was for is done from the text. In a start from text, the
 * calls that are for the cache alone may. */
static void opencl_calls_that_fail(void **state)
{
    static const char *const for_cache[] = { "clGetPlatformInfo", "clGetDeviceInfo", "clGetProgramInfo" };
    eyrie_device *dev = open_device(*state, TWICE);
    char cache[4096], path[4096];

    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    expect_start(dev, "twice", 2, 1, 0);
    expect_start(dev, "twice", 2, 0, 1);
    unsigned n = calls.n;
    assert_in_range(n, 5, 50);
    for (unsigned i = 1; i <= n; i++) {
        calls.fail_at = i;
        if (start(dev, "twice", 2) != EYRIE_OK) fail_msg("%s failed, and with it the start", calls.failed);
        expect_notes(1, "cache: ");
        calls.fail_at = 0;
        expect_start(dev, "twice", 2, 0, 1);    /* kept anew, or still */
        expect_notes(0, "");
    }
    for (size_t i = 0; i < COUNT(for_cache); i++) {
        only_entry(cache, path);
        assert_int_equal(remove(path), 0);
        calls.fail_name = for_cache[i];
        assert_int_equal(start(dev, "twice", 2), EYRIE_OK);
        expect_notes(1, "cache: ");
        assert_int_equal(count_entries(cache), 0);
        expect_start(dev, "twice", 2, 1, 0);
    }
    calls.fail_name = "clCreateKernel";         /* nothing to fall back to */
    only_entry(cache, path);
    assert_int_equal(remove(path), 0);
    assert_int_equal(start(dev, "twice", 2), EYRIE_EBUILD);
    close_device(dev);
}

static void memory_that_fails(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    eyrie_status st;
    size_t n = 0;

    expect_start(dev, "twice", 2, 1, 0);
    for (; fail_allocation(n), st = start(dev, "twice", 2), allocation_failed(); n++) {
        if (st != EYRIE_OK) assert_int_equal(st, EYRIE_ENOMEM);
        assert_true(noted.n <= 1);
    }
    assert_int_equal(st, EYRIE_OK);
    assert_true(n >= 3);    /* program, key, the entry's path and bytes */
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
}

/* A device without a cache asks the driver for nothing that only a cache needs. */
static void without_a_cache(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    ey_cache *c = dev->cache;

    dev->cache = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(start(dev, "twice", 2), EYRIE_OK);
        assert_int_equal(calls.sources, 1);
        assert_int_equal(calls.binaries + calls.reads, 0);
    }
    dev->cache = c;
    close_device(dev);
    expect_notes(0, "");
}

/* -------------------------------------------------------------------------------------------------------- a model */

typedef struct words {
    int32_t tokens[24];
    size_t  n;
} words;

static void take_token(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    words *w = user;

    (void)seq;
    if (event->kind == EYRIE_EVENT_TOKEN && w->n < COUNT(w->tokens)) w->tokens[w->n++] = event->token;
}

/* What the demo's model writes, on a device of its own with that cache. */
static words write_words(const char *cache_dir)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .log = take_note,
                               .log_user = &noted, .cache_dir = cache_dir };
    static const int32_t prompt[] = { 2, 814, 983, 4 };
    words w = { .n = 0 };
    eyrie_request request = { .struct_size = sizeof request, .tokens = prompt, .n_tokens = COUNT(prompt),
                              .max_tokens = COUNT(w.tokens), .flags = EYRIE_IGNORE_EOS, .on_event = take_token, .user = &w };
    const eyrie_model_opts plain = { .struct_size = sizeof plain, .compute = EYRIE_COMPUTE_F32 };   /* no matrix unit, no note of it */
    eyrie_device *dev;
    eyrie_model *model;
    eyrie_engine *engine;
    eyrie_seq *seq;
    eyrie_error err;
    bool busy = true;

    memset(&calls, 0, sizeof calls);
    ey_cl_hook = count_call;
    if (eyrie_device_open(&dev, &opts, &err) == EYRIE_ENODEV) skip();
    dev->keeps_kernels = false;
    if (eyrie_model_open(&model, dev, EY_SOURCE_DIR "/models/shakespeare", &plain, &err) != EYRIE_OK
        || eyrie_engine_open(&engine, model, NULL, &err) != EYRIE_OK || eyrie_seq_open(&seq, engine, &err) != EYRIE_OK
        || eyrie_seq_submit(seq, &request, &err) != EYRIE_OK)
        fail_msg("%s", err.text);
    while (busy)
        if (eyrie_engine_step(engine, &busy, &err) != EYRIE_OK) fail_msg("%s", err.text);
    eyrie_seq_close(seq);
    eyrie_engine_close(engine);
    eyrie_model_close(model);
    close_device(dev);
    ey_cl_hook = NULL;
    assert_int_equal(w.n, COUNT(w.tokens));
    return w;
}

static void a_model_writes_the_same_from_the_cache(void **state)
{
    char path[4096];
    static bytes b;
    words first = write_words(*state), again;

    assert_int_equal(calls.sources, 1);
    again = write_words(*state);
    assert_int_equal(calls.sources, 0);
    assert_int_equal(calls.binaries, 1);
    assert_memory_equal(again.tokens, first.tokens, sizeof first.tokens);
    expect_notes(0, "");

    only_entry(*state, path);
    load(&b, path);
    b.data[b.n / 2] ^= 1;
    save(path, b.data, b.n);
    again = write_words(*state);
    assert_int_equal(calls.sources, 1);
    assert_memory_equal(again.tokens, first.tokens, sizeof first.tokens);
    expect_notes(1, "not what was written");
    only_entry(*state, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(the_second_start_is_from_the_binary),
        test(binaries_that_do_not_do),
        test(opencl_calls_that_fail),
        test(memory_that_fails),
        test(without_a_cache),
        test(a_model_writes_the_same_from_the_cache),
    };

    return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}
