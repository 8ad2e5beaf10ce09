/* test_lanes.c - two models that work side by side, for two phases: on parts of a device, on one device twice, on two devices.
 * They share weights where they share memory, sequences move between them bit for bit, and what one queue does the other waits
 * for only where it has to. Who is moved when is the scheduler's business. */
#include "running.h"

#include "model_parts.h"

#include <time.h>

enum { SLOTS = 2, CHUNK = 64, MOST_TOKENS = 512 };

/* Ways to have two lanes. */
typedef enum way { HALVES, TURNS, ONE_DEVICE, TWO_DEVICES, WAYS } way;
static const char *const way_names[] = { "halves", "taking turns", "one device", "two devices" };

typedef struct lanes {
    eyrie_device *dev[2];
    eyrie_model  *model[2];
} lanes;

/* False: this device has no such lanes, which is said. */
static bool open_devices(lanes *l, way how)
{
    const eyrie_device_opts same = { .struct_size = sizeof same, .select = getenv("EYRIE_DEVICE") };
    uint32_t units[2] = { device->units / 2, device->units - device->units / 2 };

    *l = (lanes){ .dev = { device, device } };
    if (how == TWO_DEVICES) {
        assert_ok(eyrie_device_open(&l->dev[1], &same, &err));
    } else if (how != ONE_DEVICE) {
        eyrie_status st = eyrie_device_split(l->dev, 2, device, how == HALVES ? units : NULL, &err);
        if (how == HALVES && (device->units < 2 || st == EYRIE_ELIMIT)) {
            assert_int_not_equal(st, EYRIE_OK);
            assert_true(!l->dev[0] && !l->dev[1]);
            print_message("not tried, %s: %s\n", way_names[how], err.text);
            return false;
        }
        assert_ok(st);
    }
    return true;
}

static void close_devices(lanes *l)
{
    for (uint32_t i = 0; i < 2; i++)
        if (l->dev[i] != device) assert_ok(eyrie_device_close(l->dev[i]));
    assert_int_equal(device->children, 0);
    assert_int_equal(device->used, 0);
}

static bool open_lanes(lanes *l, way how, const char *name, eyrie_model_opts opts)
{
    if (!open_devices(l, how)) return false;
    opts.struct_size = sizeof opts;
    opts.slots = SLOTS;
    opts.chunk = CHUNK;
    opts.context = MOST_TOKENS;
    for (uint32_t i = 0; i < 2; i++) {
        assert_ok(eyrie_model_open(&l->model[i], l->dev[i], source_path(name), &opts, &err));
        opts.share = l->model[0];
    }
    return true;
}

static void close_lanes(lanes *l)
{
    assert_ok(eyrie_model_close(l->model[1]));
    assert_ok(eyrie_model_close(l->model[0]));
    close_devices(l);
}

/* ----------------------------------------------------------------------------------------------------------- steps */

static void start(eyrie_model *m, ey_phase phase, uint32_t slot, const int32_t *tokens, uint32_t at, uint32_t n)
{
    ey_row row = { .slot = slot, .n = n, .position = at, .tokens = tokens + at, .want = EY_WANT_LAST };

    assert_ok(ey_model_upload(m, &(ey_batch){ phase, 1, &row }, &err));
    assert_ok(ey_model_enqueue(m, phase, 0, UINT32_MAX, &err));
}

/* Of the step that was started last; logits [V] of its last token. */
static void finish(eyrie_model *m, ey_phase phase, float *logits)
{
    const ey_result *results;
    uint32_t n;

    assert_ok(ey_model_results(m, phase, &results, &n, &err));
    assert_int_equal(n, 1);
    assert_ok(ey_model_logits(m, phase, 0, logits, &err));
}

static void read_text(eyrie_model *m, uint32_t slot, const int32_t *tokens, uint32_t n)
{
    for (uint32_t at = 0; at < n; at += CHUNK) start(m, EY_PREFILL, slot, tokens, at, (uint32_t)ey_min(n - at, CHUNK));
    assert_ok(ey_device_finish(m->dev, &err));
}

/* A decode step for each token from `at` on; logits [n, V]. */
static void decode_text(eyrie_model *m, uint32_t slot, const int32_t *tokens, uint32_t at, uint32_t n, float *logits)
{
    for (uint32_t i = 0; i < n; i++) {
        start(m, EY_DECODE, slot, tokens, at + i, 1);
        finish(m, EY_DECODE, logits + (size_t)i * m->config.vocab);
    }
}

/* ----------------------------------------------------------------------------------------------------------- moves */

/* What a sequence is before it moves: nothing, part of a block, a block, part of a ring, a ring that has wrapped. */
static const uint32_t cuts[] = { 0, 1, 50, 64, 100, 129, 300 };
static const struct { const char *name; eyrie_compute compute; } movers[] = {
    { GOLDEN("griffin"), EYRIE_COMPUTE_AUTO }, { GOLDEN("gqa"), EYRIE_COMPUTE_F32 }, { GOLDEN("hawk-odd"), EYRIE_COMPUTE_AUTO },
};

enum { STEPS = 3 };

/* From slot 1 of lane 0 to slot 0 of lane 1 and back; slot 0 of lane 0 stays and is the truth. Where a sequence comes or
 * leaves, others were before and come at once. */
static void move_about(lanes *l, const golden *g, uint32_t cut)
{
    uint32_t V = g->V;
    float *want = calloc(2 * (size_t)STEPS * V, sizeof *want), *got = calloc(2 * (size_t)STEPS * V, sizeof *got);

    assert_true(want && got);
    read_text(l->model[0], 0, g->tokens, cut);
    read_text(l->model[0], 1, g->tokens, cut);
    decode_text(l->model[0], 0, g->tokens, cut, 2 * STEPS, want);

    read_text(l->model[1], 0, g->tokens + 7, g->T - 7);
    assert_ok(ey_model_copy_slot(l->model[0], 1, l->model[1], 0, cut, &err));
    start(l->model[0], EY_PREFILL, 1, g->tokens + 9, 0, CHUNK);
    decode_text(l->model[1], 0, g->tokens, cut, STEPS, got);

    read_text(l->model[0], 1, g->tokens + 9, g->T - 9);
    assert_ok(ey_model_copy_slot(l->model[1], 0, l->model[0], 1, cut + STEPS, &err));
    start(l->model[1], EY_PREFILL, 0, g->tokens + 7, 0, CHUNK);
    decode_text(l->model[0], 1, g->tokens, cut + STEPS, STEPS, got + (size_t)STEPS * V);
    assert_memory_equal(want, got, 2 * STEPS * V * sizeof *want);
    free(want);
    free(got);
}

static void moved_sequences_go_on(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t i = 0; i < COUNT(movers); i++)
        for (way how = 0; how < WAYS; how++) {
            eyrie_model_opts opts = { .compute = movers[i].compute };
            golden g = open_text(movers[i].name);
            lanes l;

            if (open_lanes(&l, how, movers[i].name, opts)) {
                for (size_t k = 0; k < COUNT(cuts); k++)
                    if (cuts[k] + 2 * STEPS <= g.T) move_about(&l, &g, cuts[k]);
                close_lanes(&l);
            }
            golden_close(&g);
        }
}

/* Within a model, what a sequence has used of a slot, or nothing where it is already. */
static void moves_within_a_model(void **state)
{
    golden g = open_text(GOLDEN("griffin"));
    float want[64], got[64];
    lanes l;

    (void)state;
    if (!device) skip();
    assert_true(open_lanes(&l, ONE_DEVICE, GOLDEN("griffin"), (eyrie_model_opts){ 0 }));
    assert_int_equal(g.V, COUNT(want));
    read_text(l.model[0], 0, g.tokens, 70);
    read_text(l.model[0], 1, g.tokens + 7, 200);
    assert_ok(ey_model_copy_slot(l.model[0], 0, l.model[0], 0, 70, &err));
    assert_ok(ey_model_copy_slot(l.model[0], 0, l.model[0], 1, 70, &err));
    decode_text(l.model[0], 0, g.tokens, 70, 1, want);
    decode_text(l.model[0], 1, g.tokens, 70, 1, got);
    assert_memory_equal(want, got, sizeof want);
    close_lanes(&l);
    golden_close(&g);
}

/* ---------------------------------------------------------------------------------------------------------- queues */

/* What is enqueued on the device from now on stays there until the event is set. */
static cl_event hold(eyrie_device *dev)
{
    cl_int code;
    cl_event event = clCreateUserEvent(dev->context, &code);

    assert_int_equal(code, CL_SUCCESS);
    assert_ok(ey_device_wait_for(dev, event, &err));
    return event;
}

static void let_go(cl_event event)
{
    assert_int_equal(clSetUserEventStatus(event, CL_COMPLETE), CL_SUCCESS);
    assert_int_equal(clReleaseEvent(event), CL_SUCCESS);
}

/* Polls for half a minute: far more than a step of a small model takes anywhere. */
static bool gets_ready(eyrie_model *m, ey_phase phase)
{
    for (uint32_t i = 0; i < 30000; i++) {
        if (ey_model_ready(m, phase)) return true;
        assert_int_equal(nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL), 0);
    }
    return false;
}

/* A step that is held back is not ready; the other lane's steps neither wait for it nor change what it says. */
static void lanes_do_not_wait_for_each_other(void **state)
{
    golden g = open_text(GOLDEN("griffin"));
    float want[64], got[64];

    (void)state;
    if (!device) skip();
    for (way how = 0; how < WAYS; how++) {
        ey_row row = { .slot = 0, .n = CHUNK, .tokens = g.tokens, .want = EY_WANT_LAST };
        lanes l;

        if (how == ONE_DEVICE || !open_lanes(&l, how, GOLDEN("griffin"), (eyrie_model_opts){ 0 })) continue;
        start(l.model[1], EY_PREFILL, 0, g.tokens, 0, CHUNK);
        finish(l.model[1], EY_PREFILL, want);
        assert_true(gets_ready(l.model[1], EY_PREFILL));
        assert_true(ey_model_ready(l.model[1], EY_PREFILL));

        assert_ok(ey_model_upload(l.model[0], &(ey_batch){ EY_PREFILL, 1, &row }, &err));
        cl_event held = hold(l.dev[0]);
        assert_ok(ey_model_enqueue(l.model[0], EY_PREFILL, 0, 2, &err));
        assert_false(ey_model_ready(l.model[0], EY_PREFILL));
        assert_ok(ey_model_enqueue(l.model[0], EY_PREFILL, 2, UINT32_MAX, &err));
        decode_text(l.model[1], 0, g.tokens, CHUNK, 1, got);
        assert_true(gets_ready(l.model[1], EY_DECODE));
        assert_false(ey_model_ready(l.model[0], EY_PREFILL));
        let_go(held);
        assert_true(gets_ready(l.model[0], EY_PREFILL));
        finish(l.model[0], EY_PREFILL, got);
        assert_memory_equal(want, got, sizeof want);
        close_lanes(&l);
    }
    golden_close(&g);
}

/* Nobody waits for a move but the steps that come after it where it goes. */
static void a_step_waits_for_the_move_before_it(void **state)
{
    golden g = open_text(GOLDEN("griffin"));
    float want[64], got[64];

    (void)state;
    if (!device) skip();
    for (way how = 0; how < ONE_DEVICE; how++) {
        ey_row row = { .slot = 1, .n = 1, .position = 100, .tokens = g.tokens + 100, .want = EY_WANT_LAST };
        lanes l;

        if (!open_lanes(&l, how, GOLDEN("griffin"), (eyrie_model_opts){ 0 })) continue;
        read_text(l.model[0], 0, g.tokens, 100);
        read_text(l.model[1], 0, g.tokens, 100);
        decode_text(l.model[1], 0, g.tokens, 100, 1, want);
        assert_ok(ey_model_upload(l.model[1], &(ey_batch){ EY_DECODE, 1, &row }, &err));
        cl_event held = hold(l.dev[0]);
        assert_ok(ey_model_copy_slot(l.model[0], 0, l.model[1], 1, 100, &err));
        assert_ok(ey_model_enqueue(l.model[1], EY_DECODE, 0, UINT32_MAX, &err));
        assert_false(ey_model_ready(l.model[1], EY_DECODE));
        let_go(held);
        finish(l.model[1], EY_DECODE, got);
        assert_memory_equal(want, got, sizeof want);
        close_lanes(&l);
    }
    golden_close(&g);
}

/* --------------------------------------------------------------------------------------------------- parts of a CPU */

/* wait_for ends when the flag is set, or gives up, which leaves 0. where_am_i tells threads apart by their stacks. */
static const char parts_text[] =
    "kernel void wait_for(global volatile int *flag, global int *seen, uint turns)\n"
    "{\n"
    "    while (turns > 0 && atomic_or(flag, 0) == 0) turns--;\n"
    "    *seen = turns > 0;\n"
    "}\n"
    "kernel void set(global volatile int *flag) { atomic_or(flag, 1); }\n"
    "kernel void where_am_i(global ulong *out, uint turns)\n"
    "{\n"
    "    volatile uint x = 0;\n"
    "    for (uint i = 0; i < turns; i++) x += i;\n"
    "    out[get_global_id(0)] = (ulong)(size_t)(private uint *)&x;\n"
    "}\n";

enum { GROUPS = 64, PATIENCE = 1 << 30 };

typedef struct part {
    cl_program program;
    cl_kernel  waits, sets, where;
    uint64_t   stacks[GROUPS];
} part;

static void open_part(part *p, eyrie_device *dev)
{
    const char *text = parts_text;
    cl_int code;

    p->program = clCreateProgramWithSource(dev->context, 1, &text, NULL, &code);
    assert_int_equal(code, CL_SUCCESS);
    assert_int_equal(clBuildProgram(p->program, 1, &dev->id, "", NULL, NULL), CL_SUCCESS);
    assert_non_null(p->waits = clCreateKernel(p->program, "wait_for", NULL));
    assert_non_null(p->sets = clCreateKernel(p->program, "set", NULL));
    assert_non_null(p->where = clCreateKernel(p->program, "where_am_i", NULL));
}

static void close_part(part *p)
{
    assert_int_equal(clReleaseKernel(p->waits), CL_SUCCESS);
    assert_int_equal(clReleaseKernel(p->sets), CL_SUCCESS);
    assert_int_equal(clReleaseKernel(p->where), CL_SUCCESS);
    assert_int_equal(clReleaseProgram(p->program), CL_SUCCESS);
}

static void launch(eyrie_device *dev, cl_kernel kernel, const ey_buffer *b, const ey_buffer *c, uint32_t turns, size_t groups)
{
    cl_uint n = 0;

    assert_int_equal(clSetKernelArg(kernel, n++, sizeof b->mem, &b->mem), CL_SUCCESS);
    if (c) assert_int_equal(clSetKernelArg(kernel, n++, sizeof c->mem, &c->mem), CL_SUCCESS);
    if (turns) assert_int_equal(clSetKernelArg(kernel, n++, sizeof turns, &turns), CL_SUCCESS);
    assert_int_equal(clEnqueueNDRangeKernel(dev->queue, kernel, 1, NULL, &groups, &(size_t){ 1 }, 0, NULL, NULL), CL_SUCCESS);
    assert_int_equal(clFlush(dev->queue), CL_SUCCESS);
}

/* A kernel on one half sees what a kernel on the other one does meanwhile, and no thread serves both. */
static void halves_run_at_the_same_time(void **state)
{
    const int32_t zero = 0;
    int32_t seen = 0;
    part p[2];
    ey_arena arena;
    lanes l;

    (void)state;
    if (!device || !device->cpu || !device->host_memory || !open_devices(&l, HALVES)) skip();
    ey_arena_init(&arena, l.dev[0], "flags");
    ey_buffer *flag = ey_arena_add(&arena, sizeof zero, "flag"), *out = ey_arena_add(&arena, sizeof p->stacks, "out");
    assert_true(flag && out);
    assert_ok(ey_arena_commit(&arena, &err));
    for (uint32_t i = 0; i < 2; i++) open_part(&p[i], l.dev[i]);
    for (uint32_t i = 0; i < 2; i++) {
        launch(l.dev[i], p[i].where, out, NULL, 100000, GROUPS);
        assert_ok(ey_buffer_read(l.dev[i], out, 0, sizeof p->stacks, p[i].stacks, &err));
    }
    for (uint32_t i = 0; i < GROUPS; i++)
        for (uint32_t k = 0; k < GROUPS; k++) {
            uint64_t a = p[0].stacks[i], b = p[1].stacks[k];
            assert_true((a > b ? a - b : b - a) > 64 << 10);    /* the same frame of two threads is a whole stack apart */
        }
    for (uint32_t i = 0; i < 2; i++) {      /* either way round; the first launch of a kernel compiles it */
        eyrie_device *other = l.dev[1 - i];
        launch(other, p[1 - i].sets, flag, NULL, 0, 1);
        assert_ok(ey_device_finish(other, &err));
        assert_ok(ey_buffer_write(other, flag, 0, sizeof zero, &zero, &err));
        launch(l.dev[i], p[i].waits, flag, out, PATIENCE, 1);
        launch(other, p[1 - i].sets, flag, NULL, 0, 1);
        assert_ok(ey_buffer_read(l.dev[i], out, 0, sizeof seen, &seen, &err));
        assert_int_equal(seen, 1);
    }
    for (uint32_t i = 0; i < 2; i++) close_part(&p[i]);
    ey_arena_free(&arena);
    close_devices(&l);
}

/* -------------------------------------------------------------------------------------------------------- dividing */

static void divisions_that_cannot_be(void **state)
{
    eyrie_device *parts[20], *again[1];

    (void)state;
    if (!device) skip();
    uint32_t many[2] = { device->units, 1 }, none[2] = { 1, 0 };
    bool divides = eyrie_device_split(parts, 1, device, &device->units, &err) == EYRIE_OK;
    if (divides) assert_ok(eyrie_device_close(parts[0]));
    else print_message("%s\n", err.text);
    assert_fails(eyrie_device_split(parts, 0, device, NULL, &err), EYRIE_EINVAL, "0 parts");
    assert_fails(eyrie_device_split(parts, COUNT(parts), device, NULL, &err), EYRIE_EINVAL, "20 parts");
    assert_null(parts[19]);
    assert_fails(eyrie_device_split(parts, 2, device, many, &err), EYRIE_EINVAL, "compute units");
    assert_fails(eyrie_device_split(parts, 2, device, none, &err), EYRIE_EINVAL, "part 1");
    assert_true(!parts[0] && !parts[1]);

    assert_ok(eyrie_device_split(parts, 2, device, NULL, &err));
    assert_int_equal(eyrie_device_close(device), EYRIE_EBUSY);
    assert_fails(eyrie_device_split(again, 1, parts[0], NULL, &err), EYRIE_EINVAL, "a part already");
    assert_null(again[0]);
    assert_string_equal(eyrie_device_name(parts[1]), eyrie_device_name(device));
    for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_close(parts[i]));
    assert_int_equal(device->children, 0);
}

/* --------------------------------------------------------------------------------------------------------- sharing */

/* The second model takes memory for its states and scratch only. It keeps the first one open. */
static void shared_weights_are_there_once(void **state)
{
    (void)state;
    if (!device) skip();
    for (way how = 0; how < WAYS; how++) {
        eyrie_model_info info[2] = { { .struct_size = sizeof *info }, { .struct_size = sizeof *info } };
        eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = SLOTS, .chunk = CHUNK };
        lanes l;

        if (!open_devices(&l, how)) continue;
        eyrie_device *counts = how == TWO_DEVICES ? l.dev[1] : device;
        for (uint32_t i = 0; i < 2; i++) {
            uint64_t before = counts->used;
            assert_ok(eyrie_model_open(&l.model[i], l.dev[i], source_path(GOLDEN("griffin")), &opts, &err));
            assert_ok(eyrie_model_get_info(l.model[i], &info[i], &err));
            uint64_t own = SLOTS * info[i].state_bytes + info[i].scratch_bytes;
            bool loads = i == 0 || how == TWO_DEVICES;
            if (i == 1 || how != TWO_DEVICES) assert_int_equal(counts->used - before, own + (loads ? info[i].weight_bytes : 0));
            opts.share = l.model[0];
        }
        assert_memory_equal(&info[0], &info[1], sizeof *info);
        if (how != TWO_DEVICES) assert_int_equal(eyrie_model_close(l.model[0]), EYRIE_EBUSY);
        close_lanes(&l);
    }
}

static void foreign_weights_are_not_shared(void **state)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = EYRIE_FORMAT_F16 };
    eyrie_model *m, *other;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_model_open(&m, device, source_path(GOLDEN("griffin")), &opts, &err));
    opts.share = m;
    assert_fails(eyrie_model_open(&other, device, source_path(GOLDEN("gqa")), &opts, &err), EYRIE_EINVAL, "same checkpoint");
    assert_null(other);
    opts.weights = EYRIE_FORMAT_BF16;   /* as many bytes */
    assert_fails(eyrie_model_open(&other, device, source_path(GOLDEN("griffin")), &opts, &err), EYRIE_EINVAL, "--weights");
    assert_null(other);
    opts.weights = EYRIE_FORMAT_Q8;
    assert_fails(eyrie_model_open(&other, device, source_path(GOLDEN("griffin")), &opts, &err), EYRIE_EINVAL, "in f16, this one in q8");
    assert_ok(eyrie_model_close(m));    /* nobody has them */
}

/* Weights that lie in a file's pages are the first model's, with the file. */
static void packed_weights_are_shared(void **state)
{
    golden g = open_text(GOLDEN("griffin"));
    float want[64], got[64];

    if (!device) skip();
    char *packed = strdup(path_of(*state, "packed"));
    void *directory = packed;
    assert_non_null(packed);
    assert_ok(eyrie_pack(source_path(GOLDEN("griffin")), packed, NULL, &err));
    for (way how = 0; how < WAYS; how++) {
        eyrie_model_opts opts = { .struct_size = sizeof opts, .chunk = CHUNK };
        lanes l;

        if (!open_devices(&l, how)) continue;
        assert_ok(eyrie_model_open(&l.model[0], l.dev[0], packed, &opts, &err));
        opts.share = l.model[0];
        assert_ok(eyrie_model_open(&l.model[1], l.dev[1], packed, &opts, &err));
        assert_int_equal(l.model[0]->file != NULL, device->host_memory);
        assert_int_equal(l.model[1]->file != NULL, device->host_memory && how == TWO_DEVICES);
        for (uint32_t i = 0; i < 2; i++) {
            start(l.model[i], EY_PREFILL, 0, g.tokens, 0, CHUNK);
            finish(l.model[i], EY_PREFILL, i ? got : want);
        }
        assert_memory_equal(want, got, sizeof want);
        close_lanes(&l);
    }
    remove_dir(&directory);
    golden_close(&g);
}

/* ---------------------------------------------------------------------------------------------------------- faults */

static uint32_t calls, failing;     /* so far; which one fails, from 0 */

static cl_int fail_one(const char *call)
{
    (void)call;
    return calls++ == failing ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

static void fail_call(uint32_t n)
{
    calls = 0;
    failing = n;
    ey_cl_hook = fail_one;
}

static bool call_failed(void)
{
    ey_cl_hook = NULL;
    return calls > failing;
}

/* What is alive in the context of a device, where the implementation counts it. */
static cl_uint references(const eyrie_device *dev)
{
    cl_uint n = 0;
    assert_int_equal(clGetContextInfo(dev->context, CL_CONTEXT_REFERENCE_COUNT, sizeof n, &n, NULL), CL_SUCCESS);
    return n;
}

/* What was under way lets its buffers and events go a little later. */
static void check_nothing_left(const eyrie_device *dev, cl_uint before)
{
    for (uint32_t i = 0; i < 5000 && references(dev) != before; i++)
        assert_int_equal(nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL), 0);
    assert_int_equal(references(dev), before);
}

static void dividing_fails_in_order(void **state)
{
    (void)state;
    if (!device) skip();
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t units[2] = { device->units / 2, device->units - device->units / 2 }, n = 0;
        lanes l;

        if (k == 0 && !open_devices(&l, HALVES)) continue;
        if (k == 0) close_devices(&l);
        for (bool failed = true; failed; n++) {
            eyrie_device *parts[2] = { device, device };
            fail_call(n);
            eyrie_status st = eyrie_device_split(parts, 2, device, k == 0 ? units : NULL, &err);
            if ((failed = call_failed()) == true) {
                assert_int_equal(st, EYRIE_EDEVICE);
                assert_int_equal(err.cl_code, CL_OUT_OF_RESOURCES);
                assert_true(!parts[0] && !parts[1]);
            }
            for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_close(parts[i]));
            assert_int_equal(device->children, 0);
        }
        assert_in_range(n, 5, 10);
        for (n = 0;; n++) {
            eyrie_device *parts[2] = { device, device };
            fail_allocation(n);
            eyrie_status st = eyrie_device_split(parts, 2, device, k == 0 ? units : NULL, &err);
            bool failed = allocation_failed();
            for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_close(parts[i]));
            assert_int_equal(device->children, 0);
            if (!failed) break;
            assert_int_equal(st, EYRIE_ENOMEM);
        }
        assert_int_equal(n, 2);
    }
}

static void sharing_fails_in_order(void **state)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .chunk = 8 };
    eyrie_model *m, *other;
    lanes l;

    (void)state;
    if (!device) skip();
    assert_true(open_devices(&l, TURNS));
    assert_ok(eyrie_model_open(&m, l.dev[0], source_path(GOLDEN("hawk-narrow")), &opts, &err));
    opts.share = m;
    uint64_t used = device->used;
    cl_uint before = references(l.dev[0]);
    fail_call(UINT32_MAX);
    assert_ok(eyrie_model_open(&other, l.dev[1], source_path(GOLDEN("hawk-narrow")), &opts, &err));
    (void)call_failed();
    uint32_t all = calls;
    assert_ok(eyrie_model_close(other));
    for (uint32_t n = 0; n < all; n += 1 + all / 20) {
        fail_call(n);
        assert_int_not_equal(eyrie_model_open(&other, l.dev[1], source_path(GOLDEN("hawk-narrow")), &opts, &err), EYRIE_OK);
        assert_true(call_failed());
        assert_null(other);
        assert_int_equal(device->used, used);
        check_nothing_left(l.dev[0], before);
    }
    assert_ok(eyrie_model_close(m));
    close_devices(&l);
}

/* After a failed move the sequence goes on where it was, and moves at the second try. */
static void moves_fail_in_order(void **state)
{
    golden g = open_text(GOLDEN("mha-spelling"));
    float *want = calloc(g.V, sizeof *want), *got = calloc(g.V, sizeof *got);

    (void)state;
    if (!device) skip();
    assert_true(want && got);
    for (way how = TURNS; how < WAYS; how++) {
        uint32_t n = 0;
        lanes l;

        assert_true(open_lanes(&l, how, GOLDEN("mha-spelling"), (eyrie_model_opts){ 0 }));
        cl_uint before = references(l.dev[0]);
        read_text(l.model[0], 0, g.tokens, 130);
        for (bool failed = true; failed; n++) {
            fail_call(n);
            eyrie_status st = ey_model_copy_slot(l.model[0], 0, l.model[1], 1, 130, &err);
            failed = call_failed();
            assert_int_equal(st, failed ? EYRIE_EDEVICE : EYRIE_OK);
        }
        assert_in_range(n, 3, 40);      /* layers of two sizes: two commands at the least, and the try that works */
        decode_text(l.model[1], 1, g.tokens, 130, 1, got);
        decode_text(l.model[0], 0, g.tokens, 130, 1, want);
        assert_memory_equal(want, got, g.V * sizeof *want);
        fail_allocation(0);
        eyrie_status st = ey_model_copy_slot(l.model[0], 0, l.model[1], 1, 130, &err);
        assert_int_equal(allocation_failed() ? EYRIE_ENOMEM : EYRIE_OK, st);
        assert_int_equal(st, how == TWO_DEVICES ? EYRIE_ENOMEM : EYRIE_OK);
        assert_ok(ey_device_finish(l.dev[0], &err));
        assert_ok(ey_device_finish(l.dev[1], &err));
        check_nothing_left(l.dev[0], before);
        close_lanes(&l);
    }
    free(want);
    free(got);
    golden_close(&g);
}

/* Who cannot tell whether a step is done says so by sending the caller to read its results, which tells why. */
static void asking_fails_in_order(void **state)
{
    golden g = open_text(GOLDEN("griffin"));
    float logits[64];
    lanes l;

    (void)state;
    if (!device) skip();
    assert_true(open_lanes(&l, TURNS, GOLDEN("griffin"), (eyrie_model_opts){ 0 }));
    for (uint32_t n = 0; n < 3; n++) {      /* the marker, starting it, its status */
        start(l.model[0], EY_PREFILL, 0, g.tokens, 0, CHUNK);
        cl_event held = hold(l.dev[0]);
        fail_call(n);
        assert_true(ey_model_ready(l.model[0], EY_PREFILL));
        assert_true(call_failed());
        assert_false(ey_model_ready(l.model[0], EY_PREFILL));
        let_go(held);
        finish(l.model[0], EY_PREFILL, logits);
    }
    close_lanes(&l);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divisions_that_cannot_be),
        cmocka_unit_test(halves_run_at_the_same_time),
        cmocka_unit_test(moved_sequences_go_on),
        cmocka_unit_test(moves_within_a_model),
        cmocka_unit_test(lanes_do_not_wait_for_each_other),
        cmocka_unit_test(a_step_waits_for_the_move_before_it),
        cmocka_unit_test(shared_weights_are_there_once),
        cmocka_unit_test(foreign_weights_are_not_shared),
        test_in_dir(packed_weights_are_shared),
        cmocka_unit_test(dividing_fails_in_order),
        cmocka_unit_test(sharing_fails_in_order),
        cmocka_unit_test(moves_fail_in_order),
        cmocka_unit_test(asking_fails_in_order),
    };
    return cmocka_run_group_tests_name("lanes", tests, open_device, close_device);
}
