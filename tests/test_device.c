/* test_device.c - device.c: which device is chosen, what its memory is, arenas, and who may be closed when. PoCL is asked
 * for two devices, so that there is something to choose; a platform with one device shows less. */
#include "running.h"

#include <strings.h>

enum { MOST_DEVICES = 16 };

typedef struct found {
    cl_device_id   id;
    cl_device_type type;
    char           name[256];
} found;

/* All devices in the loader's order, by OpenCL's own calls. */
static uint32_t list_devices(found *list)
{
    cl_platform_id platforms[8];
    cl_uint n_platforms = 0;
    uint32_t n = 0;

    if (!device) skip();
    assert_int_equal(clGetPlatformIDs(8, platforms, &n_platforms), CL_SUCCESS);
    for (cl_uint p = 0; p < n_platforms && p < 8; p++) {
        cl_device_id ids[MOST_DEVICES];
        cl_uint count = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MOST_DEVICES, ids, &count) != CL_SUCCESS) continue;
        for (cl_uint i = 0; i < count && n < MOST_DEVICES; i++) {
            list[n] = (found){ .id = ids[i] };
            assert_int_equal(clGetDeviceInfo(ids[i], CL_DEVICE_TYPE, sizeof list[n].type, &list[n].type, NULL), CL_SUCCESS);
            assert_int_equal(clGetDeviceInfo(ids[i], CL_DEVICE_NAME, 255, list[n].name, NULL), CL_SUCCESS);
            n++;
        }
    }
    return n;
}

static eyrie_device *open_as(eyrie_device_opts opts)
{
    eyrie_device *dev;

    if (!device) skip();
    opts.struct_size = sizeof opts;
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    return dev;
}

/* A device without a word of its own about anything but which it is. */
static eyrie_device *open_same(eyrie_device_opts opts)
{
    opts.select = getenv("EYRIE_DEVICE");
    return open_as(opts);
}

/* ------------------------------------------------------------------------------------------------------- selection */

static void check_selected(const char *select, const found *wanted)
{
    eyrie_device *dev = open_as((eyrie_device_opts){ .select = select });

    assert_ptr_equal(dev->id, wanted->id);
    assert_int_equal(strncmp(eyrie_device_name(dev), wanted->name, strlen(wanted->name)), 0);
    assert_ok(eyrie_device_close(dev));
}

static bool holds(const char *text, const char *part)
{
    for (; *text; text++)
        if (strncasecmp(text, part, strlen(part)) == 0) return true;
    return false;
}

/* By number; by a part of the name in any letters, the first that has it. */
static void by_number_and_name(void **state)
{
    found list[MOST_DEVICES];
    uint32_t n = list_devices(list);

    (void)state;
    for (uint32_t i = 0; i < n; i++) {
        char number[16], part[256];
        uint32_t first = 0;
        snprintf(number, sizeof number, "%u", (unsigned)i);
        check_selected(number, &list[i]);
        snprintf(part, sizeof part, "%.*s", 7, list[i].name + 1);
        for (char *c = part; *c; c += 2) *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
        while (!holds(list[first].name, part)) first++;
        check_selected(part, &list[first]);
        for (first = 0; !holds(list[first].name, list[i].name);) first++;
        check_selected(list[i].name, &list[first]);
    }
}

static void by_kind(void **state)
{
    found list[MOST_DEVICES];
    const found *gpu = NULL, *cpu = NULL;

    (void)state;
    for (uint32_t i = list_devices(list); i-- > 0;) {
        if (list[i].type & CL_DEVICE_TYPE_GPU) gpu = &list[i];
        if (list[i].type & CL_DEVICE_TYPE_CPU) cpu = &list[i];
    }
    if (cpu) check_selected("cpu", cpu);
    if (gpu) check_selected("gpu", gpu);
    check_selected(NULL, gpu ? gpu : &list[0]);
}

/* Processes side by side take one each of what is asked for; CPUs are shared where there are fewer, and nothing else is. */
static void in_turn(void **state)
{
    found list[MOST_DEVICES], cpus[MOST_DEVICES];
    uint32_t n = list_devices(list), n_cpus = 0;
    char number[16];

    (void)state;
    for (uint32_t i = 0; i < n; i++)
        if (list[i].type & CL_DEVICE_TYPE_CPU) cpus[n_cpus++] = list[i];
    for (uint32_t turn = 0; turn < 2 * n_cpus; turn++) {
        eyrie_device *dev = open_as((eyrie_device_opts){ .select = "cpu", .turn = turn });
        assert_ptr_equal(dev->id, cpus[turn % n_cpus].id);
        assert_ok(eyrie_device_close(dev));
    }
    for (uint32_t i = 0; i < n; i++) {
        eyrie_device_opts opts = { .struct_size = sizeof opts, .select = number, .turn = 1 };
        eyrie_device *dev = device;
        snprintf(number, sizeof number, "%u", (unsigned)i);
        if (list[i].type & CL_DEVICE_TYPE_CPU) continue;
        assert_fails(eyrie_device_open(&dev, &opts, &err), EYRIE_ENODEV, "number 2 of those that are asked for");
        assert_null(dev);
    }
}

/* Who asks in vain is told what there is. */
static void no_match(void **state)
{
    static const char *const selects[] = { "99", "no such device", "0x" };
    found list[MOST_DEVICES];
    uint32_t n = list_devices(list);

    (void)state;
    for (size_t k = 0; k < COUNT(selects); k++) {
        eyrie_device_opts opts = { .struct_size = sizeof opts, .select = selects[k] };
        eyrie_device *dev = device;
        assert_fails(eyrie_device_open(&dev, &opts, &err), EYRIE_ENODEV, selects[k]);
        assert_null(dev);
        for (uint32_t i = 0; i < n && i < 4; i++) {         /* the message has room for some */
            char line[300];
            snprintf(line, sizeof line, "%u %s", (unsigned)i, list[i].name);
            assert_non_null(strstr(err.text, line));
        }
    }
}

static const char *failing_call;
static cl_int      failing_code;
static cl_int fail_call(const char *call) { return strcmp(call, failing_call) ? CL_SUCCESS : failing_code; }

static void no_platform_or_no_device(void **state)
{
    static const struct { const char *call; cl_int code; const char *says; } cases[] = {
        { "clGetPlatformIDs", -1001, "no OpenCL platform" },
        { "clGetDeviceIDs", CL_DEVICE_NOT_FOUND, "no device" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_device *dev = device;
        failing_call = cases[i].call;
        failing_code = cases[i].code;
        ey_cl_hook = fail_call;
        eyrie_status st = eyrie_device_open(&dev, NULL, &err);
        ey_cl_hook = NULL;
        check_failure("eyrie_device_open", st, EYRIE_ENODEV, cases[i].says);
        assert_null(dev);
    }
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static void largest_allocation(void **state)
{
    eyrie_device *dev;
    cl_ulong most;

    (void)state;
    if (!device) skip();
    assert_int_equal(clGetDeviceInfo(device->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most, NULL), CL_SUCCESS);
    assert_int_equal(device->max_alloc, most);
    dev = open_same((eyrie_device_opts){ .max_alloc = 12345 });
    assert_int_equal(dev->max_alloc, 12345);
    assert_ok(eyrie_device_close(dev));
    dev = open_same((eyrie_device_opts){ .max_alloc = UINT64_MAX });
    assert_int_equal(dev->max_alloc, most);
    assert_ok(eyrie_device_close(dev));
}

static void free_memory(void **state)
{
    static const struct { eyrie_device dev; uint64_t free; const char *source; } cases[] = {
        { { .memory = 1000, .used = 300, .host_memory = true, .global_memory = 7 }, 700, "--memory" },
        { { .memory = 1000, .used = 1300 }, 0, "--memory" },
        { { .global_memory = 5000, .used = 500 }, 4500, "device" },
    };
    const eyrie_device host = { .host_memory = true, .used = UINT64_MAX / 2 };  /* what is used is not available any more */
    const char *source;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(ey_device_free_memory(&cases[i].dev, &source), cases[i].free);
        assert_non_null(strstr(source, cases[i].source));
    }
    assert_in_range(ey_device_free_memory(&host, &source), 1 << 20, UINT64_MAX);
    assert_non_null(strstr(source, "host"));
}

static void arenas(void **state)
{
    static const struct { uint64_t declared, grown, is; } cases[] = {
        { 0, 0, 64 }, { 1, 0, 64 }, { 64, 65, 65 }, { 1000, 10, 1000 }, { 100, 5000, 5000 },
    };
    ey_buffer *buffers[COUNT(cases)];
    uint64_t sum = 0, before;
    ey_arena a;

    (void)state;
    if (!device) skip();
    before = device->used;
    ey_arena_init(&a, device, "things");
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_non_null(buffers[i] = ey_arena_add(&a, cases[i].declared, "a thing"));
        ey_arena_grow(&a, buffers[i], cases[i].grown);
        sum += cases[i].is;
    }
    assert_int_equal(a.bytes, sum);
    assert_int_equal(device->used, before);
    assert_ok(ey_arena_commit(&a, &err));
    assert_int_equal(device->used, before + sum);
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t size = 0;
        assert_int_equal(clGetMemObjectInfo(buffers[i]->mem, CL_MEM_SIZE, sizeof size, &size, NULL), CL_SUCCESS);
        assert_int_equal(size, cases[i].is);
        assert_int_equal(buffers[i]->bytes, size);
    }
    ey_arena_free(&a);
    assert_int_equal(device->used, before);
    ey_arena_free(&a);                                      /* an empty one is fine */
}

static void arena_with_too_large_a_buffer(void **state)
{
    eyrie_device *dev = open_same((eyrie_device_opts){ .max_alloc = 4096 });
    ey_arena a;

    (void)state;
    ey_arena_init(&a, dev, "scratch");
    assert_non_null(ey_arena_add(&a, 4096, "that fits"));
    assert_non_null(ey_arena_add(&a, 8192, "the large one"));
    assert_fails(ey_arena_commit(&a, &err), EYRIE_EMEMORY, "the large one");
    assert_non_null(strstr(err.text, "8.0 KiB"));
    assert_non_null(strstr(err.text, "4.0 KiB"));
    ey_arena_free(&a);
    assert_int_equal(dev->used, 0);
    assert_ok(eyrie_device_close(dev));
}

static void arena_without_memory(void **state)
{
    size_t n = 0;

    (void)state;
    if (!device) skip();
    for (bool failed = true; failed; n++) {
        ey_arena a;
        ey_arena_init(&a, device, "things");
        fail_allocation(n);
        ey_buffer *b = ey_arena_add(&a, 100, "a thing");
        failed = allocation_failed();
        assert_true((b == NULL) == failed);
        assert_int_equal(a.bytes, failed ? 0 : 100);
        ey_arena_free(&a);
    }
    assert_in_range(n, 3, 10);
}

static void transfers(void **state)
{
    unsigned char out[256], in[256];
    ey_buffer *b;
    ey_arena a;
    void *mapped;

    (void)state;
    if (!device) skip();
    for (size_t i = 0; i < sizeof out; i++) out[i] = (unsigned char)(i * 3 + 1);
    ey_arena_init(&a, device, "things");
    assert_non_null(b = ey_arena_add(&a, sizeof out, "a thing"));
    assert_ok(ey_arena_commit(&a, &err));

    assert_ok(ey_buffer_write(device, b, 0, sizeof out, out, &err));
    assert_ok(ey_buffer_write(device, b, 16, 8, out, &err));
    assert_ok(ey_buffer_copy(device, &(ey_range){ b, 128, b, 32, 64 }, &err));
    assert_ok(ey_buffer_read(device, b, 0, sizeof in, in, &err));
    memmove(out + 16, out, 8);
    memmove(out + 32, out + 128, 64);
    assert_memory_equal(in, out, sizeof out);
    assert_ok(ey_buffer_read(device, b, 100, 10, in, &err));
    assert_memory_equal(in, out + 100, 10);

    assert_ok(ey_buffer_map(device, b, &mapped, &err));
    memset(mapped, 0x77, sizeof out);
    assert_ok(ey_buffer_unmap(device, b, mapped, &err));
    assert_ok(ey_device_finish(device, &err));
    assert_ok(ey_buffer_read(device, b, 0, sizeof in, in, &err));
    for (size_t i = 0; i < sizeof in; i++) assert_int_equal(in[i], 0x77);
    ey_arena_free(&a);
}

enum { LARGE = (8 << 20) + 100 };      /* bytes; not whole pages, whatever their size */

/* A large arena has host memory of its own where that is the device's, too. */
static void large_buffer_without_memory(void **state)
{
    ey_arena a;

    (void)state;
    if (!device) skip();
    if (!device->cpu || !device->host_memory) skip();
    ey_arena_init(&a, device, "things");
    assert_non_null(ey_arena_add(&a, LARGE, "the large one"));
    fail_allocation(0);
    assert_fails(ey_arena_commit(&a, &err), EYRIE_EMEMORY, "things");
    assert_true(allocation_failed());
    ey_arena_free(&a);
    assert_int_equal(device->used, 0);
}

/* It may be freed as soon as nobody wants its contents: what is enqueued comes to its end first, whatever fails. */
static void large_buffer_freed_in_use(void **state)
{
    unsigned char *out = malloc(LARGE), *in = malloc(LARGE);
    ey_buffer *from, *to;
    ey_arena kept;

    (void)state;
    if (!device) skip();
    assert_true(out && in);
    for (size_t i = 0; i < LARGE; i++) out[i] = (unsigned char)(i % 251);
    ey_arena_init(&kept, device, "kept");
    assert_non_null(to = ey_arena_add(&kept, LARGE, "to"));
    assert_ok(ey_arena_commit(&kept, &err));
    for (int round = 0; round < 8; round++) {
        ey_arena gone;
        ey_arena_init(&gone, device, "gone");
        assert_non_null(from = ey_arena_add(&gone, LARGE, "from"));
        assert_ok(ey_arena_commit(&gone, &err));
        out[round] = out[LARGE - 1 - round] = 255;
        assert_ok(ey_buffer_write(device, from, 0, LARGE, out, &err));
        assert_ok(ey_buffer_copy(device, &(ey_range){ from, 0, to, 0, LARGE }, &err));
        failing_call = "clFinish";
        failing_code = CL_OUT_OF_RESOURCES;
        ey_cl_hook = round % 2 ? fail_call : NULL;
        ey_arena_free(&gone);
        ey_cl_hook = NULL;
        assert_ok(ey_buffer_read(device, to, 0, LARGE, in, &err));
        assert_memory_equal(in, out, LARGE);
    }
    ey_arena_free(&kept);
    free(out);
    free(in);
}

/* ---------------------------------------------------------------------------------------------------------- models */

static const eyrie_model_opts two_slots = { .struct_size = sizeof two_slots, .slots = 2, .chunk = 64,
                                            .compute = EYRIE_COMPUTE_F32 };

static uint64_t bytes_of(const eyrie_model *m)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    assert_ok(eyrie_model_get_info(m, &info, &err));
    return info.weight_bytes + info.state_bytes * info.slots + info.scratch_bytes;
}

static uint32_t buffers_made;
static cl_int count_buffers(const char *call)
{
    buffers_made += strcmp(call, "clCreateBuffer") == 0;
    return CL_SUCCESS;
}

/* What `eyrie info` says a model takes is what it takes: with so much it opens, with a byte less it does not, and then
 * nothing was allocated. Models on one device share the budget. */
static void budget(void **state)
{
    const char *path = source_path(GOLDEN("griffin"));
    eyrie_model *m, *second;
    eyrie_device *dev;
    uint64_t need;

    (void)state;
    m = open_model(GOLDEN("griffin"), two_slots);
    need = bytes_of(m);
    assert_int_equal(device->used, need);
    assert_ok(eyrie_model_close(m));
    assert_int_equal(device->used, 0);

    dev = open_same((eyrie_device_opts){ .memory = need - 1 });
    buffers_made = 0;
    ey_cl_hook = count_buffers;
    memset(&err, 0, sizeof err);
    eyrie_status st = eyrie_model_open(&m, dev, path, &two_slots, &err);
    ey_cl_hook = NULL;
    check_failure("eyrie_model_open", st, EYRIE_EMEMORY, "--memory");
    assert_null(m);
    assert_int_equal(buffers_made, 0);
    assert_int_equal(dev->used, 0);
    assert_ok(eyrie_device_close(dev));

    dev = open_same((eyrie_device_opts){ .memory = 2 * need - 1 });
    assert_ok(eyrie_model_open(&m, dev, path, &two_slots, &err));
    assert_fails(eyrie_model_open(&second, dev, path, &two_slots, &err), EYRIE_EMEMORY, "the model needs");
    assert_ok(eyrie_model_close(m));
    assert_ok(eyrie_model_open(&second, dev, path, &two_slots, &err));
    assert_ok(eyrie_model_close(second));
    assert_ok(eyrie_device_close(dev));
}

/* Matrices large beside state and scratch: a small chunk, one slot. */
static const eyrie_model_opts mostly_weights = { .struct_size = sizeof mostly_weights, .chunk = 16 };

static void read_some(eyrie_device *dev, heard *h, uint32_t *buffers)
{
    int32_t tokens[40];
    eyrie_model *m;

    for (int32_t i = 0; i < 40; i++) tokens[i] = 3 + i * 25;
    buffers_made = 0;
    ey_cl_hook = count_buffers;
    assert_ok(eyrie_model_open(&m, dev, source_path(SHAKESPEARE), &mostly_weights, &err));
    ey_cl_hook = NULL;
    *buffers = buffers_made;
    eyrie_engine *e = open_engine(m);
    eyrie_seq *s = open_seq(e);
    submit(s, (eyrie_request){ .tokens = tokens, .n_tokens = COUNT(tokens), .max_tokens = 20, .flags = EYRIE_IGNORE_EOS }, h);
    run_to_end(e);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

/* Matrices in as many allocations as the smallest limit that opens makes of them give the same bits as in one each. */
static void weights_in_many_allocations(void **state)
{
    static heard whole, split;
    uint32_t few, many;
    uint64_t limit = 1024;
    eyrie_status st;

    (void)state;
    if (!device) skip();
    read_some(device, &whole, &few);
    do {
        eyrie_device *dev = open_same((eyrie_device_opts){ .max_alloc = limit *= 2 });
        eyrie_model *m;
        st = eyrie_model_open(&m, dev, source_path(SHAKESPEARE), &mostly_weights, &err);
        if (st != EYRIE_OK) assert_true(st == EYRIE_EMEMORY || st == EYRIE_ELIMIT);
        assert_ok(eyrie_model_close(m));
        assert_int_equal(dev->used, 0);
        assert_ok(eyrie_device_close(dev));
    } while (st != EYRIE_OK && limit < 1 << 24);
    eyrie_device *dev = open_same((eyrie_device_opts){ .max_alloc = limit });
    read_some(dev, &split, &many);
    assert_in_range(many, few + 10, UINT32_MAX);
    assert_same("split weights", &split, &whole);
    assert_ok(eyrie_device_close(dev));
}

/* --------------------------------------------------------------------------------------------------------- handles */

/* Closing a parent first does nothing but say so. */
static void children_before_parents(void **state)
{
    eyrie_device *dev = open_same((eyrie_device_opts){ 0 });
    eyrie_model *m, *other;
    eyrie_engine *e, *second;
    eyrie_seq *s;
    heard h;

    (void)state;
    assert_ok(eyrie_model_open(&m, dev, source_path(GOLDEN("griffin")), &two_slots, &err));
    assert_ok(eyrie_model_open(&other, dev, source_path(GOLDEN("griffin")), &two_slots, &err));
    e = open_engine(m);
    s = open_seq(e);
    assert_int_equal(eyrie_device_close(dev), EYRIE_EBUSY);
    assert_int_equal(eyrie_model_close(m), EYRIE_EBUSY);
    assert_int_equal(eyrie_engine_close(e), EYRIE_EBUSY);
    assert_fails(eyrie_engine_open(&second, m, NULL, &err), EYRIE_EBUSY, "engine");
    assert_null(second);
    submit(s, (eyrie_request){ .tokens = (int32_t[]){ 2, 5, 7 }, .n_tokens = 3, .max_tokens = 2, .flags = EYRIE_IGNORE_EOS }, &h);
    assert_int_equal(eyrie_engine_close(e), EYRIE_EBUSY);
    run_to_end(e);                                          /* all of them still live */
    assert_int_equal(h.n, 2);

    assert_ok(eyrie_seq_close(s));
    assert_int_equal(eyrie_model_close(m), EYRIE_EBUSY);
    assert_ok(eyrie_engine_close(e));
    e = open_engine(m);                                     /* one at a time, not one for all time */
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
    assert_int_equal(eyrie_device_close(dev), EYRIE_EBUSY);
    assert_ok(eyrie_model_close(other));
    assert_ok(eyrie_device_close(dev));
    assert_ok(eyrie_device_close(NULL));
    assert_ok(eyrie_model_close(NULL));
    assert_ok(eyrie_engine_close(NULL));
    assert_ok(eyrie_seq_close(NULL));
}

static uint32_t notes;
static void count_note(void *user, const char *line)
{
    assert_ptr_equal(user, &notes);
    assert_non_null(line);
    notes++;
}

/* What lies behind struct_size was not there when the caller was built, and is not looked at. */
static void options_of_an_older_header(void **state)
{
    eyrie_device_opts opts = { .struct_size = offsetof(eyrie_device_opts, kernel_dir), .select = getenv("EYRIE_DEVICE"),
                               .kernel_dir = "/no/such/directory", .memory = 1, .max_alloc = 1, .log = count_note,
                               .log_user = &notes };
    eyrie_device *dev;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    assert_null(dev->kernel_dir);
    assert_int_equal(dev->memory, 0);
    assert_int_equal(dev->max_alloc, device->max_alloc);
    assert_null(dev->log.fn);
    assert_ok(eyrie_device_close(dev));

    struct { eyrie_device_opts known; char unknown[64]; } newer = { .known = { .struct_size = sizeof newer, .memory = 77 } };
    newer.known.select = getenv("EYRIE_DEVICE");
    newer.known.log = count_note;
    newer.known.log_user = &notes;
    assert_ok(eyrie_device_open(&dev, &newer.known, &err));
    assert_int_equal(dev->memory, 77);
    ey_note(&dev->log, "a note");
    assert_int_equal(notes, 1);
    assert_ok(eyrie_device_close(dev));
}

/* A device is of the class that is asked for, else of its own. */
static void classes_of_kernels(void **state)
{
    eyrie_device_opts unknown = { .struct_size = sizeof unknown, .kernels = (eyrie_kernels)3 };
    eyrie_device *dev;
    cl_device_type type;

    (void)state;
    if (!device) skip();
    assert_int_equal(clGetDeviceInfo(device->id, CL_DEVICE_TYPE, sizeof type, &type, NULL), CL_SUCCESS);
    assert_int_equal(device->cpu, (type & CL_DEVICE_TYPE_CPU) != 0);
    for (eyrie_kernels k = EYRIE_KERNELS_CPU; k <= EYRIE_KERNELS_GPU; k++) {
        dev = open_same((eyrie_device_opts){ .kernels = k });
        assert_int_equal(dev->cpu, k == EYRIE_KERNELS_CPU);
        assert_int_equal(dev->host_memory, device->host_memory);        /* what it is, it stays */
        assert_ok(eyrie_device_close(dev));
    }
    assert_fails(eyrie_device_open(&dev, &unknown, &err), EYRIE_EINVAL, "class 3");
    assert_null(dev);
}

/* The device whose kernels other tests have compiled already, if it is PoCL's. */
static int open_usual_device(void **state)
{
    eyrie_device *dev;

    if (!getenv("EYRIE_DEVICE")
        && eyrie_device_open(&dev, &(eyrie_device_opts){ sizeof(eyrie_device_opts), .select = "pthread" }, NULL) == EYRIE_OK) {
        eyrie_device_close(dev);
        setenv("EYRIE_DEVICE", "pthread", 0);
    }
    return open_device(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_number_and_name),          cmocka_unit_test(by_kind), cmocka_unit_test(in_turn),
        cmocka_unit_test(no_match),                    cmocka_unit_test(no_platform_or_no_device),
        cmocka_unit_test(largest_allocation),          cmocka_unit_test(free_memory),
        cmocka_unit_test(arenas),                      cmocka_unit_test(arena_with_too_large_a_buffer),
        cmocka_unit_test(arena_without_memory),        cmocka_unit_test(transfers),
        cmocka_unit_test(large_buffer_without_memory), cmocka_unit_test(large_buffer_freed_in_use),
        cmocka_unit_test(budget),                      cmocka_unit_test(weights_in_many_allocations),
        cmocka_unit_test(children_before_parents),     cmocka_unit_test(options_of_an_older_header),
        cmocka_unit_test(classes_of_kernels),
    };

    setenv("POCL_DEVICES", "pthread basic", 0);
    return cmocka_run_group_tests_name("device", tests, open_usual_device, close_device);
}
