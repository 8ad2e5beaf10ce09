/* test_probe.c - what tools learn of a device: the list of devices, capabilities by probing, what is measured, and which
 * variants of the ops it gets. What a probe says of other devices than PoCL's is not known here, only that it says
 * something. */
#include "running.h"

#include "limits.h"
#include "ops/op.h"

#include <eyrie/eyrie_tools.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <math.h>

/* --------------------------------------------------------------------------------------------------------- devices */

static void list(void **state)
{
    eyrie_device_info all[64], one[1];
    size_t n, same, defaults = 0;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_list(all, COUNT(all), &n, &err));
    assert_in_range(n, 1, COUNT(all));
    for (size_t i = 0; i < n; i++) {
        defaults += all[i].is_default;
        assert_true(all[i].name[0] && all[i].driver[0] && all[i].version[0]);
        assert_in_range(all[i].units, 1, UINT32_MAX);
        assert_in_range(all[i].max_alloc, 1, UINT64_MAX);
    }
    assert_int_equal(defaults, 1);
    assert_ok(eyrie_device_list(one, 0, &same, &err));
    assert_int_equal(same, n);
    assert_ok(eyrie_device_list(one, 1, &same, &err));
    assert_int_equal(same, n);
    assert_string_equal(one[0].name, all[0].name);
}

/* The place in the list is the number that selects, and the default is what opens when nothing is selected. */
static void numbers_select(void **state)
{
    eyrie_device_info all[64];
    eyrie_device *dev;
    size_t n;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_list(all, COUNT(all), &n, &err));
    for (uint32_t i = 0; i < n; i++) {
        char number[16];
        snprintf(number, sizeof number, "%u", (unsigned)i);
        assert_ok(eyrie_device_open(&dev, &(eyrie_device_opts){ sizeof(eyrie_device_opts), .select = number }, &err));
        assert_int_equal(eyrie_device_number(dev), i);
        assert_non_null(strstr(eyrie_device_name(dev), all[i].name));
        assert_int_equal(dev->max_alloc, all[i].max_alloc);
        assert_ok(eyrie_device_close(dev));
    }
    assert_ok(eyrie_device_open(&dev, NULL, &err));
    assert_true(all[eyrie_device_number(dev)].is_default);
    assert_ok(eyrie_device_close(dev));
}

/* ---------------------------------------------------------------------------------------------------------- probes */

static void check_verdict(const char *name, const eyrie_verdict *v)
{
    if (v->answer == EYRIE_CRASHES || !v->reason[0] || strchr(v->reason, '\n') || !memchr(v->reason, '\0', sizeof v->reason)
        || (v->answer == EYRIE_NOT_PROBED && strcmp(name, "large-buffer")))       /* which needs memory */
        fail_msg("%s: %s, \"%.*s\"", name, eyrie_answer_text(v->answer), (int)sizeof v->reason, v->reason);
}

static void every_probe(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; eyrie_probe_at(i); i++) {
        const eyrie_probe *p = eyrie_probe_at(i);
        eyrie_verdict v;

        assert_true(*p->name && *p->what && *p->use);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(p->name, eyrie_probe_at(k)->name);
        if (!device || p->dangerous) continue;
        assert_ok(eyrie_probe_run(device, p->name, &v, &err));
        check_verdict(p->name, &v);
    }
    assert_int_equal(i, 13);
    assert_null(eyrie_probe_at(i + 1));
}

/* What is known of PoCL's devices: the host's memory and clock, compute units that are threads, the host's compiler. */
static void probes_of_pocl(void **state)
{
    static const char *const can[] = { "event-times", "host-pointer", "sub-devices", "inline-assembly" };
    char platform[256] = "";
    eyrie_verdict v;

    (void)state;
    if (!device) skip();
    clGetPlatformInfo(device->platform, CL_PLATFORM_NAME, sizeof platform - 1, platform, NULL);
    if (strcmp(platform, "Portable Computing Language")) skip();
    for (size_t i = 0; i < COUNT(can); i++) {
#if !defined(__x86_64__)
        if (!strcmp(can[i], "inline-assembly")) continue;
#endif
        assert_ok(eyrie_probe_run(device, can[i], &v, &err));
        check_verdict(can[i], &v);
        if (!strcmp(can[i], "sub-devices") && device->units == 1) assert_int_equal(v.answer, EYRIE_NO);
        else if (v.answer != EYRIE_YES) fail_msg("%s: %s, \"%s\"", can[i], eyrie_answer_text(v.answer), v.reason);
    }
}

static void no_such_probe(void **state)
{
    eyrie_verdict v = { EYRIE_YES, "" };

    (void)state;
    if (!device) skip();
    assert_fails(eyrie_probe_run(device, "telepathy", &v, &err), EYRIE_EINVAL, "telepathy");
    assert_int_equal(v.answer, EYRIE_NOT_PROBED);
}

/* The n-th OpenCL call fails, counted from 0. */
static uint32_t calls_left;
static bool     call_failed;

static cl_int fail_one_call(const char *call)
{
    (void)call;
    if (call_failed || calls_left-- > 0) return CL_SUCCESS;
    call_failed = true;
    return CL_OUT_OF_RESOURCES;
}

static void fail_call(uint32_t n)
{
    calls_left = n;
    call_failed = false;
    ey_cl_hook = fail_one_call;
}

static bool stop_failing(void)
{
    ey_cl_hook = NULL;
    return call_failed;
}

/* Whatever call fails, the verdict is no, or a probe that tries something else says yes; nothing else happens. */
static void failing_calls_are_verdicts(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t i = 0; eyrie_probe_at(i); i++) {
        const eyrie_probe *p = eyrie_probe_at(i);
        eyrie_verdict v;
        bool failed = true;

        if (p->dangerous && strcmp(p->name, "sub-devices")) continue;
        for (uint32_t n = 0; failed && n < 40; n += n < 10 ? 1 : 3) {       /* after 40 calls timing events only repeats itself */
            fail_call(n);
            eyrie_status st = eyrie_probe_run(device, p->name, &v, &err);
            failed = stop_failing();
            assert_int_equal(st, EYRIE_OK);
            check_verdict(p->name, &v);
        }
    }
    assert_int_equal(device->used, 0);
}

static cl_int fail_to_wait(const char *call) { return strcmp(call, "clFinish") ? CL_SUCCESS : CL_OUT_OF_RESOURCES; }

/* The host's memory goes back to the system as soon as the probe frees it: a kernel that still wrote there would crash. */
static void nothing_runs_after_its_probe(void **state)
{
    void *used_up[64];
    eyrie_verdict v;

    (void)state;
    if (!device) skip();
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 16);
#endif
    for (size_t i = 0; i < COUNT(used_up); i++) assert_non_null(used_up[i] = malloc(1 << 18));  /* so that the heap has none left */
    for (int i = 0; i < 20; i++) {
        ey_cl_hook = fail_to_wait;
        eyrie_status st = eyrie_probe_run(device, "host-pointer", &v, &err);
        ey_cl_hook = NULL;
        assert_int_equal(st, EYRIE_OK);
        assert_int_equal(v.answer, EYRIE_NO);
        assert_non_null(strstr(v.reason, "waiting for a kernel"));
    }
    for (size_t i = 0; i < COUNT(used_up); i++) free(used_up[i]);
}

static void verdicts_without_memory(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t i = 0; eyrie_probe_at(i); i++) {
        const eyrie_probe *p = eyrie_probe_at(i);
        eyrie_verdict v;
        bool failed = true;

        if (p->dangerous) continue;
        for (size_t n = 0; failed && n < 20; n++) {
            fail_allocation(n);
            eyrie_status st = eyrie_probe_run(device, p->name, &v, &err);
            failed = allocation_failed();
            assert_int_equal(st, EYRIE_OK);
            assert_true(v.answer <= EYRIE_NO && v.reason[0]);
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static eyrie_device *open_with_cache(const char *directory)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .cache_dir = directory };
    eyrie_device *dev;

    assert_ok(eyrie_device_open(&dev, &opts, &err));
    return dev;
}

static void verdicts_are_remembered(void **state)
{
    const eyrie_verdict dead = { EYRIE_CRASHES, "it ends the process by signal 11" }, none = { EYRIE_NOT_PROBED, "no memory" };
    eyrie_verdict first, again;
    eyrie_device *dev;

    if (!device) skip();
    dev = open_with_cache(*state);
    eyrie_probe_recall(dev, "host-pointer", &again);
    assert_int_equal(again.answer, EYRIE_NOT_PROBED);
    assert_ok(eyrie_probe_run(dev, "host-pointer", &first, &err));
    eyrie_probe_remember(dev, "inline-assembly", &dead);
    eyrie_probe_remember(dev, "large-buffer", &none);
    assert_ok(eyrie_device_close(dev));

    dev = open_with_cache(*state);
    eyrie_probe_recall(dev, "host-pointer", &again);
    assert_int_equal(again.answer, first.answer);
    assert_string_equal(again.reason, first.reason);
    eyrie_probe_recall(dev, "inline-assembly", &again);
    assert_int_equal(again.answer, EYRIE_CRASHES);
    assert_string_equal(again.reason, dead.reason);
    eyrie_probe_recall(dev, "large-buffer", &again);
    assert_int_equal(again.answer, EYRIE_NOT_PROBED);
    assert_string_equal(again.reason, "");
    dev->cpu = !dev->cpu;                                   /* nor are they of another class: "no CPU" is true of one */
    eyrie_probe_recall(dev, "inline-assembly", &again);
    assert_int_equal(again.answer, EYRIE_NOT_PROBED);
    dev->cpu = !dev->cpu;
    dev->name[0] ^= 1;                                      /* another device knows nothing of it */
    eyrie_probe_recall(dev, "inline-assembly", &again);
    assert_int_equal(again.answer, EYRIE_NOT_PROBED);
    assert_ok(eyrie_device_close(dev));
}

static void nothing_is_remembered_without_a_cache(void **state)
{
    eyrie_verdict v;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_probe_run(device, "dot-product", &v, &err));
    eyrie_probe_recall(device, "dot-product", &v);
    assert_int_equal(v.answer, EYRIE_NOT_PROBED);
}

/* ---------------------------------------------------------------------------------------------------------- limits */

static void rates(void **state)
{
    eyrie_rates r;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_measure(device, &r, &err));
    /* Between a simulator and the fastest there is. */
    assert_true(r.read_bytes > 1e3 && r.read_bytes < 1e15);
    assert_true(r.fma_flops > 1e2 && r.fma_flops < 1e17);
    assert_true(r.launch_seconds > 1e-9 && r.launch_seconds < 1);
    assert_true(r.streams == 1 || r.streams == 2 || r.streams == 4 || r.streams == 8);
    assert_int_equal(device->used, 0);
}

/* What one run measured is there for the next, but for another device, another number of threads, and without a cache. */
static void rates_are_remembered(void **state)
{
    eyrie_rates first, again;
    eyrie_device *dev;
    bool remembered;

    if (!device) skip();
    dev = open_with_cache(*state);
    assert_false(ey_limits_recall(dev, &again));
    assert_ok(eyrie_device_recall(dev, &first, &remembered, &err));
    assert_false(remembered);
    assert_true(first.read_bytes > 1e3 && first.fma_flops > 1e2);
    assert_ok(eyrie_device_close(dev));

    dev = open_with_cache(*state);
    assert_ok(eyrie_device_recall(dev, &again, &remembered, &err));
    assert_true(remembered);
    assert_memory_equal(&again, &first, sizeof first);
    dev->units++;
    assert_false(ey_limits_recall(dev, &again));
    dev->units--;
    dev->name[0] ^= 1;
    assert_false(ey_limits_recall(dev, &again));
    assert_ok(eyrie_device_close(dev));
    assert_false(ey_limits_recall(device, &again));
}

static void measuring_fails_in_order(void **state)
{
    (void)state;
    if (!device) skip();
    for (uint32_t n = 0; n < 60; n += n < 15 ? 1 : 9) {
        ey_limits l;

        fail_call(n);
        memset(&err, 0, sizeof err);
        eyrie_status st = ey_limits_open(&l, device, &err);
        if (stop_failing()) {
            assert_int_not_equal(st, EYRIE_OK);
            assert_true(err.text[0]);
        } else {
            assert_ok(st);
            ey_limits_close(&l);
        }
        assert_int_equal(device->used, 0);
    }
}

/* Whether results are right is seen by the meter itself. */
static void meter(void **state)
{
    eyrie_meter *m;
    eyrie_sample s;
    bool can;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_meter_open(&m, device, &err));
    assert_true(eyrie_meter_room(m) > 1 << 16 && eyrie_meter_room(m) <= 1 << 29);
    for (int i = EYRIE_METRIC_READ; i <= EYRIE_METRIC_DOWNLOAD; i++) {
        eyrie_metric metric = (eyrie_metric)i;

        assert_true(eyrie_meter_explain(m, metric, &can)[0]);
        if (can) {
            assert_ok(eyrie_meter_run(m, metric, 10000, &s, &err));
            assert_true(s.work > 0 && s.seconds > 0);
        } else {
            assert_int_equal(eyrie_meter_run(m, metric, 10000, &s, &err), EYRIE_EINVAL);
        }
        if (i <= EYRIE_METRIC_COPY) assert_int_equal(eyrie_meter_run(m, metric, (uint64_t)1 << 40, &s, &err), EYRIE_EINVAL);
    }
    (void)eyrie_meter_explain(m, (eyrie_metric)99, &can);
    assert_false(can);
    eyrie_meter_close(m);
    eyrie_meter_close(NULL);
    assert_int_equal(device->used, 0);
}

/* A read of the whole set, or one that ends with part of a vector, or of one vector. */
static void meter_reads_any_size(void **state)
{
    static const uint64_t sets[] = { 1, 64, 1000, 4096, 100001, 0 };
    eyrie_meter *m;
    eyrie_sample s;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_meter_open(&m, device, &err));
    for (size_t i = 0; i < COUNT(sets); i++)
        for (int k = EYRIE_METRIC_READ; k <= EYRIE_METRIC_COPY; k++) assert_ok(eyrie_meter_run(m, (eyrie_metric)k, sets[i], &s, &err));
    eyrie_meter_close(m);
}

static void meter_fails_in_order(void **state)
{
    eyrie_meter *m;
    eyrie_sample s;
    eyrie_status st;
    bool can;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_meter_open(&m, device, &err));
    for (int i = EYRIE_METRIC_READ; i <= EYRIE_METRIC_DOWNLOAD; i++) (void)eyrie_meter_explain(m, (eyrie_metric)i, &can);
    for (int i = EYRIE_METRIC_READ; i <= EYRIE_METRIC_DOWNLOAD; i++)
        for (uint32_t n = 0; n < 12; n += 3) {
            memset(&err, 0, sizeof err);
            fail_call(n);
            st = eyrie_meter_run(m, (eyrie_metric)i, 4096, &s, &err);
            if (!stop_failing()) continue;
            assert_int_not_equal(st, EYRIE_OK);
            assert_true(err.text[0]);
        }
    eyrie_meter_close(m);
    assert_int_equal(device->used, 0);
}

/* -------------------------------------------------------------------------------------------------------- variants */

static const eyrie_variant *find_variant(const eyrie_variant *list, size_t n, const char *op, const char *part)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].op, op) && strstr(list[i].name, part)) return &list[i];
    fail_msg("no variant of %s with \"%s\"", op, part);
    return NULL;
}

/* What is told is what the ops do. */
static void variants(void **state)
{
    static const eyrie_device devices[] = {
        { .cpu = true, .vector = 16, .units = 2 }, { .cpu = true, .vector = 8, .units = 64 },
        { .cpu = true, .vector = 1, .units = 1 },  { .vector = 1, .units = 132 },
    };
    eyrie_variant list[16];

    (void)state;
    for (size_t i = 0; i < COUNT(devices); i++) {
        const eyrie_device *dev = &devices[i];
        size_t n = eyrie_device_variants(dev, list, COUNT(list)), tiles;
        const ey_tile *highest = (dev->cpu ? ey_device_tiles(dev, &tiles) : ey_gpu_tiles(false, &tiles)) + tiles - 1;
        char name[16];

        assert_in_range(n, 1, COUNT(list));
        assert_int_equal(eyrie_device_variants(dev, list, 1), n);
        for (size_t k = 0; k < n; k++) assert_true(list[k].name[0] && list[k].reason[0]);
        snprintf(name, sizeof name, "%ux%u", (unsigned)highest->rows, (unsigned)highest->panels);
        assert_true(find_variant(list, n, "matmul", name)->chosen);
        assert_false(find_variant(list, n, "matmul", "AMX")->chosen);       /* nothing is remembered of these devices */
        if (dev->cpu) assert_false(find_variant(list, n, "matmul", "VNNI")->chosen);
        assert_int_equal(find_variant(list, n, "matmul", dev->cpu ? "int8, in f32" : "int8")->chosen, dev->cpu);
        assert_false(find_variant(list, n, "attention", "AMX")->chosen);
        assert_int_equal(find_variant(list, n, "attention", "CPU")->chosen, dev->cpu);
        assert_int_equal(find_variant(list, n, "attention", "GPU")->chosen, !dev->cpu);
        assert_true(find_variant(list, n, "rglru", "one pass")->chosen);
        assert_int_equal(find_variant(list, n, "rglru", "blocked")->chosen, dev->units > 1);
        for (size_t k = 0, chosen = 0; k < n; k++) {
            chosen += list[k].chosen && !strcmp(list[k].op, "matmul");
            if (k + 1 == n) assert_int_equal(chosen, 2);    /* on CPUs, one of them for int8; on GPUs, one for each phase */
        }
    }
}

/* A device whose loops end early gets no model with longer ones, and hears which context would do. */
static void loops_that_end_early(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .cache_dir = *state };
    const eyrie_verdict no = { EYRIE_NO, "made up" };
    eyrie_device *dev;
    eyrie_model *m;

    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    dev->fma = false;           /* devices with it are not doubted */
    eyrie_probe_remember(dev, "long-loops", &no);
    assert_fails(eyrie_model_open(&m, dev, "synthetic:griffin-100m", NULL, &err), EYRIE_ELIMIT, "--context 576");
    assert_null(m);
    assert_ok(eyrie_device_close(dev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list),
        cmocka_unit_test(numbers_select),
        cmocka_unit_test(every_probe),
        cmocka_unit_test(probes_of_pocl),
        cmocka_unit_test(no_such_probe),
        cmocka_unit_test(failing_calls_are_verdicts),
        cmocka_unit_test(nothing_runs_after_its_probe),
        cmocka_unit_test(verdicts_without_memory),
        test_in_dir(verdicts_are_remembered),
        cmocka_unit_test(nothing_is_remembered_without_a_cache),
        cmocka_unit_test(rates), test_in_dir(rates_are_remembered),
        cmocka_unit_test(measuring_fails_in_order), cmocka_unit_test(meter),
        cmocka_unit_test(meter_reads_any_size), cmocka_unit_test(meter_fails_in_order),
        cmocka_unit_test(variants),
        test_in_dir(loops_that_end_early),
    };
    return cmocka_run_group_tests_name("probe", tests, open_device, close_device);
}
