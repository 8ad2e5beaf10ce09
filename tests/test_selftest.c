/* test_selftest.c - the self-test passes where the kernels are right, leaves none of them out, and names those that are
 * wrong. Whether the kernels are right is the business of test_<op>.c. */
#include "running.h"

#include "program.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>

enum { MOST_CHECKS = 256 };

typedef struct heard_checks {
    uint32_t n;
    struct { char op[32], variant[64]; bool passed, failed_to_run; } all[MOST_CHECKS];
} heard_checks;

static void on_check(void *user, const eyrie_check *c)
{
    heard_checks *h = user;

    assert_in_range(h->n, 0, MOST_CHECKS - 1);
    snprintf(h->all[h->n].op, sizeof h->all->op, "%s", c->op);
    snprintf(h->all[h->n].variant, sizeof h->all->variant, "%s", c->variant);
    h->all[h->n].passed = c->passed;
    h->all[h->n++].failed_to_run = c->failure != NULL;
    assert_true(c->seconds >= 0);
    if (c->failure) assert_true(!c->passed && c->failure->text[0]);
    else assert_int_equal(c->passed, c->error <= c->tolerance);
}

static uint32_t count_failures(const heard_checks *h)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->n; i++) n += !h->all[i].passed;
    return n;
}

static bool has(const heard_checks *h, const char *op, const char *variant)
{
    for (uint32_t i = 0; i < h->n; i++)
        if (!strcmp(h->all[i].op, op) && strstr(h->all[i].variant, variant)) return true;
    return false;
}

/* Every kernel file, and of the products every format, tile and finish. */
static void all_kernels_pass(void **state)
{
    static const char *const formats[] = { "f32", "f16", "bf16", "q8", "q4" };
    static heard_checks h;
    uint32_t failures = 99;
    size_t n;

    (void)state;
    if (!device) skip();
    h.n = 0;
    assert_ok(eyrie_selftest(device, NULL, on_check, &h, &failures, &err));
    for (uint32_t i = 0; i < h.n; i++)
        if (!h.all[i].passed) fail_msg("%s %s", h.all[i].op, h.all[i].variant);
    assert_int_equal(failures, 0);
    assert_int_equal(device->used, 0);
    for (size_t i = 0; i < ey_kernel_texts_count; i++) {
        char op[32];
        snprintf(op, sizeof op, "%.*s", (int)strcspn(ey_kernel_texts[i].name, "."), ey_kernel_texts[i].name);
        if (strncmp(op, "gpu_", 4) == 0) continue;
        if (!strcmp(op, "clblast") || !strcmp(op, "unpack")) continue;      /* with code by others, which test_clblast.c checks */
        if (strcmp(op, "prelude") && !strstr(op, "amx") && strcmp(op, "vnni") && !has(&h, op, "")) fail_msg("nothing checks %s", ey_kernel_texts[i].name);
    }
    const ey_tile *tiles = ey_device_tiles(device, &n);
    for (size_t f = 0; f < COUNT(formats); f++)
        for (size_t i = 0; i < n; i++) {
            char variant[32];
            snprintf(variant, sizeof variant, "%s_%ux%u", formats[f], (unsigned)tiles[i].rows, (unsigned)tiles[i].panels);
            if (!has(&h, "matmul", variant)) fail_msg("nothing checks matmul_%s", variant);
            if (!has(&h, "geglu", variant)) fail_msg("nothing checks matmul_geglu_%s", variant);
            if (tiles[i].rows <= EY_FEW_ROWS && !has(&h, "recurrent", variant)) fail_msg("nothing checks %s in decode", variant);
            strcat(variant, ", gates");
            if (tiles[i].panels == 2 && !has(&h, "matmul", variant)) fail_msg("nothing checks matmul_%s", variant);
            if (formats[f][0] == 'q' && tiles[i].panels == 2 && !has(&h, "int8", variant)) fail_msg("nothing checks int8_%s", variant);
        }
    assert_ok(eyrie_selftest(device, NULL, NULL, NULL, &failures, &err));     /* nobody need listen */
    assert_int_equal(failures, 0);
}

/* Of a device that is taken for a GPU, the kernels for GPUs: in every format, phase and tile. */
static void kernels_for_gpus_pass(void **state)
{
    static const char *const formats[] = { "f32", "f16", "bf16", "q8", "q4" };
    static const char *const ops[] = { "embed", "norm", "conv1d", "scan", "rglru", "rope", "attention", "head" };
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .kernels = EYRIE_KERNELS_GPU };
    static heard_checks h;
    uint32_t failures = 99;
    eyrie_device *dev;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    h.n = 0;
    assert_ok(eyrie_selftest(dev, NULL, on_check, &h, &failures, &err));
    for (uint32_t i = 0; i < h.n; i++)
        if (!h.all[i].passed) fail_msg("%s %s", h.all[i].op, h.all[i].variant);
    assert_int_equal(failures, 0);
    for (size_t i = 0; i < COUNT(ops); i++)
        if (!has(&h, ops[i], "")) fail_msg("nothing checks %s", ops[i]);
    for (size_t f = 0; f < COUNT(formats); f++)
        for (int decode = 0; decode < 2; decode++) {
            size_t n;
            const ey_tile *tiles = ey_gpu_tiles(decode != 0, &n);
            for (size_t i = 0; i < n; i++) {
                char variant[64], gated[64];
                snprintf(variant, sizeof variant, "%s_%s_%ux", decode ? "gemv" : "gpu_matmul", formats[f], (unsigned)tiles[i].rows);
                snprintf(gated, sizeof gated, "%s_geglu_%s_%ux", decode ? "gemv" : "gpu_matmul", formats[f], (unsigned)tiles[i].rows);
                if (!has(&h, "matmul", variant)) fail_msg("nothing checks %s", variant);
                if (!has(&h, "geglu", gated)) fail_msg("nothing checks %s", gated);
            }
        }
    assert_ok(eyrie_device_close(dev));
}

/* What is assembly is checked where a verdict is remembered that says that it works. */
static void assembly_too(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .cache_dir = *state };
    static heard_checks h;
    uint32_t failures = 99;
    eyrie_device *dev;
    eyrie_verdict v, vnni;

    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    assert_ok(eyrie_probe_run(dev, "amx", &v, &err));
    assert_ok(eyrie_probe_run(dev, "vnni", &vnni, &err));
    h.n = 0;
    assert_ok(eyrie_selftest(dev, NULL, on_check, &h, &failures, &err));
    assert_int_equal(failures, 0);
    assert_int_equal(has(&h, "amx", "bf16_amx"), v.answer == EYRIE_YES);
    assert_int_equal(has(&h, "amx", "q8_amx"), v.answer == EYRIE_YES);
    assert_int_equal(has(&h, "amx", "q4_amx"), v.answer == EYRIE_YES);
    assert_int_equal(has(&h, "amx", "gates"), v.answer == EYRIE_YES);
    assert_int_equal(has(&h, "amx", "attention"), v.answer == EYRIE_YES);
    assert_int_equal(has(&h, "vnni", "int8_q8"), vnni.answer == EYRIE_YES);
    assert_int_equal(has(&h, "vnni", "int8_q4"), vnni.answer == EYRIE_YES);
    assert_int_equal(has(&h, "vnni", "gates"), vnni.answer == EYRIE_YES);
    assert_ok(eyrie_device_close(dev));
}

static eyrie_device *open_with_kernels(const char *directory)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .kernel_dir = directory };
    eyrie_device *dev;

    assert_ok(eyrie_device_open(&dev, &opts, &err));
    return dev;
}

/* A kernel file as it is built in, but for one place, into `directory`. */
static void write_changed_kernel(const char *directory, const char *name, const char *was, const char *is)
{
    for (size_t i = 0; i < ey_kernel_texts_count; i++) {
        const char *text = (const char *)ey_kernel_texts[i].text, *at = strstr(text, was);
        char changed[16384];

        if (strcmp(ey_kernel_texts[i].name, name)) continue;
        assert_non_null(at);
        assert_in_range(snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, is, at + strlen(was)), 1,
                        sizeof changed - 1);
        write_text(directory, name, changed);
        return;
    }
    fail_msg("%s is not built in", name);
}

/* The mean is taken over the padding, too: off by a few percent. */
static void wrong_kernel_is_named(void **state)
{
    static const char *const others[] = { "embed", "fill", "conv1d", "scan", "rglru", "rope", "attention", "head", "geglu" };
    static heard_checks h;
    uint32_t failures = 0;
    eyrie_device *dev;

    if (!device) skip();
    write_changed_kernel(*state, "norm.cl", "(float)width", "(float)D    ");
    dev = open_with_kernels(*state);
    h.n = 0;
    assert_ok(eyrie_selftest(dev, "norm", on_check, &h, &failures, &err));
    assert_int_equal(h.n, 2);
    assert_int_equal(failures, 2);
    for (size_t i = 0; i < COUNT(others); i++) {
        uint32_t before = h.n;
        assert_ok(eyrie_selftest(dev, others[i], on_check, &h, &failures, &err));
        assert_int_equal(failures, 0);
        assert_true(h.n > before);
    }
    for (uint32_t i = 0; i < h.n; i++) assert_int_equal(h.all[i].passed, strcmp(h.all[i].op, "norm") != 0);
    assert_int_equal(count_failures(&h), 2);
    assert_ok(eyrie_device_close(dev));
}

static void kernels_that_do_not_build(void **state)
{
    uint32_t failures;
    eyrie_device *dev;

    if (!device) skip();
    write_changed_kernel(*state, "norm.cl", "float16 squares", "float61 squares");
    dev = open_with_kernels(*state);
    assert_fails(eyrie_selftest(dev, NULL, NULL, NULL, &failures, &err), EYRIE_EBUILD, "norm.cl");
    assert_int_equal(failures, 0);
    assert_fails(eyrie_selftest(dev, "nrom", NULL, NULL, &failures, &err), EYRIE_EINVAL, "norm, conv1d");
    assert_ok(eyrie_device_close(dev));
}

/* One OpenCL call fails: the check that it belongs to says so, and no other; or, before there are kernels, the whole. */
static uint32_t calls_left, calls_made;
static bool     call_failed;

static cl_int fail_one_call(const char *call)
{
    (void)call;
    calls_made++;
    if (call_failed || calls_left-- > 0) return CL_SUCCESS;
    call_failed = true;
    return CL_OUT_OF_RESOURCES;
}

static void failing_calls(void **state)
{
    uint32_t all;

    (void)state;
    if (!device) skip();
    calls_left = UINT32_MAX;
    call_failed = false;
    calls_made = 0;
    ey_cl_hook = fail_one_call;
    eyrie_status st = eyrie_selftest(device, NULL, NULL, NULL, &all, &err);
    ey_cl_hook = NULL;
    assert_ok(st);
    all = calls_made;
    assert_in_range(all, 500, 100000);
    for (uint32_t n = 0; n < all; n += n < 6 ? 1 : all / 5) {
        static heard_checks h;
        uint32_t failures = 0;

        h.n = 0;
        calls_left = n;
        call_failed = false;
        ey_cl_hook = fail_one_call;
        st = eyrie_selftest(device, NULL, on_check, &h, &failures, &err);
        ey_cl_hook = NULL;
        assert_true(call_failed);
        assert_int_equal(device->used, 0);
        if (st != EYRIE_OK) continue;
        assert_int_equal(failures, 1);
        assert_int_equal(count_failures(&h), 1);
        for (uint32_t i = 0; i < h.n; i++) assert_int_equal(h.all[i].failed_to_run, !h.all[i].passed);
    }
}

static void without_memory(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t n = 0; n < 2000; n += n < 8 ? 1 : 389) {
        uint32_t failures = 0;

        fail_allocation(n);
        eyrie_status st = eyrie_selftest(device, NULL, NULL, NULL, &failures, &err);
        if (!allocation_failed()) {
            assert_ok(st);
            assert_int_equal(failures, 0);
            break;
        }
        assert_true(st == EYRIE_ENOMEM || failures == 1);
        assert_int_equal(device->used, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kernels_pass),
        cmocka_unit_test(kernels_for_gpus_pass),
        test_in_dir(assembly_too),
        test_in_dir(wrong_kernel_is_named),
        test_in_dir(kernels_that_do_not_build),
        cmocka_unit_test(failing_calls),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests_name("selftest", tests, open_device, close_device);
}
