/* test_faults.c - everything that can fail does, one call after the other: each OpenCL call and each allocation of opening,
 * of a step and of a fork. Nothing may crash, leak (the sanitizer counts) or go unsaid, and who had no part in the failure
 * goes on bit for bit. Too little memory is test_device's business. */
#include "running.h"

#include "model.h"

#include <time.h>

/* ------------------------------------------------------------------------------------------------- calls that fail */

enum { MOST_CALLS = 8192 };

static struct {
    uint32_t    n;                      /* calls so far */
    uint32_t    first, last;            /* the calls that fail, numbered from 0 */
    const char *only;                   /* count calls of that name only; NULL = all */
    const char *failed;                 /* the call that failed first */
    const char *names[MOST_CALLS];
} calls;

static cl_int fail_calls(const char *call)
{
    if (calls.only && strcmp(call, calls.only)) return CL_SUCCESS;
    uint32_t n = calls.n++;
    if (n < MOST_CALLS) calls.names[n] = call;
    if (n < calls.first || n > calls.last) return CL_SUCCESS;
    if (!calls.failed) calls.failed = call;
    return CL_OUT_OF_RESOURCES;
}

/* Calls number first to last (UINT32_MAX: all from there on) fail until let_succeed. */
static void fail_from_to(uint32_t first, uint32_t last)
{
    calls.n = 0;
    calls.first = first;
    calls.last = last;
    calls.failed = NULL;
    ey_cl_hook = fail_calls;
    memset(&err, 0, sizeof err);
}

/* Whether anything has failed. */
static bool let_succeed(void)
{
    ey_cl_hook = NULL;
    calls.only = NULL;
    return calls.failed != NULL;
}

/* err tells of the failed call: what it was for, and OpenCL's own code. */
static void check_told(eyrie_status st)
{
    bool building = !strcmp(calls.failed, "clBuildProgram") || !strcmp(calls.failed, "clCreateKernel");

    check_failure(calls.failed, st, building ? EYRIE_EBUILD : EYRIE_EDEVICE, "CL_OUT_OF_RESOURCES");
    assert_int_equal(err.cl_code, CL_OUT_OF_RESOURCES);
    assert_true(err.text[0] != 'C');    /* not the code alone */
}

/* ---------------------------------------------------------------------------------------------------------- opening */

static void opening_a_device(void **state)
{
    uint32_t n = 0;

    (void)state;
    if (!device) skip();
    for (bool failed = true; failed; n++) {
        eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .kernel_dir = "." };
        eyrie_device *dev = device;
        fail_from_to(n, n);
        eyrie_status st = eyrie_device_open(&dev, &opts, &err);
        failed = let_succeed();
        if (failed && dev) assert_string_equal(calls.failed, "clGetDeviceIDs");    /* of one platform among several */
        else assert_true(failed == (dev == NULL));
        if (failed && dev) assert_int_equal(st, EYRIE_OK);
        else if (failed && st == EYRIE_ENODEV) {         /* the calls that look for devices: none was found */
            assert_true(!strcmp(calls.failed, "clGetPlatformIDs") || !strcmp(calls.failed, "clGetDeviceIDs"));
            assert_true(err.text[0]);
        } else if (failed) {
            check_told(st);
        }
        assert_ok(eyrie_device_close(dev));
    }
    assert_in_range(n, 10, 100);
    for (n = 0; n < 12; n++) {                      /* and with all that follow */
        eyrie_device *dev = device;
        fail_from_to(n, UINT32_MAX);
        assert_int_not_equal(eyrie_device_open(&dev, NULL, &err), EYRIE_OK);
        (void)let_succeed();
        assert_null(dev);
    }
    for (n = 0;; n++) {
        eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .kernel_dir = "." };
        eyrie_device *dev = device;
        fail_allocation(n);
        eyrie_status st = eyrie_device_open(&dev, &opts, &err);
        if (!allocation_failed()) {
            assert_ok(eyrie_device_close(dev));
            break;
        }
        check_failure("eyrie_device_open", st, EYRIE_ENOMEM, "");
        assert_null(dev);
    }
    assert_in_range(n, 2, 10);
}

static const eyrie_model_opts small = { .struct_size = sizeof small, .slots = 3, .chunk = 64, .compute = EYRIE_COMPUTE_F32 };
#define MODEL GOLDEN("mha-spelling")    /* few layers, but of both kinds */

/* What is alive in the device's context, where the implementation counts it. */
static cl_uint references(void)
{
    cl_uint n = 0;
    assert_int_equal(clGetContextInfo(device->context, CL_CONTEXT_REFERENCE_COUNT, sizeof n, &n, NULL), CL_SUCCESS);
    return n;
}

static void check_nothing_left(const eyrie_model *m, cl_uint before)
{
    assert_null(m);
    assert_int_equal(device->used, 0);
    assert_int_equal(device->children, 0);
    for (uint32_t i = 0; i < 5000 && references() != before; i++)   /* what was under way lets its buffers go a little later */
        assert_int_equal(nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL), 0);
    assert_int_equal(references(), before);
}

/* Every call there is, at its first two occurrences and its last, and some in between, of every arena's buffers among
 * them: all would take minutes, since most come after the kernels were built. But for unmapping: where that fails, a
 * mapping is left that nobody can undo. */
static bool is_worth_trying(uint32_t n, uint32_t all)
{
    uint32_t earlier = 0;
    bool last = true;

    if (!strcmp(calls.names[n], "clEnqueueUnmapMemObject")) return false;
    for (uint32_t i = 0; i < n; i++) earlier += calls.names[i] == calls.names[n];
    for (uint32_t i = n + 1; i < all; i++) last &= calls.names[i] != calls.names[n];
    if (!strcmp(calls.names[n], "clCreateBuffer") && earlier % 3 == 0) return true;
    return earlier < 2 || last || n % 397 == 0;
}

static void opening_a_model(void **state)
{
    static bool tried[MOST_CALLS];
    const char *path = source_path(MODEL);
    eyrie_model *m;
    cl_uint before;

    (void)state;
    if (!device) skip();
    before = references();
    fail_from_to(UINT32_MAX, UINT32_MAX);
    assert_ok(eyrie_model_open(&m, device, path, &small, &err));
    (void)let_succeed();
    assert_ok(eyrie_model_close(m));
    uint32_t all = calls.n, count = 0;
    assert_in_range(all, 100, MOST_CALLS);
    for (uint32_t n = 0; n < all; n++) count += tried[n] = is_worth_trying(n, all);
    assert_in_range(count, 20, 100);
    for (uint32_t n = 0; n < all; n++) {
        if (!tried[n]) continue;
        fail_from_to(n, n);
        eyrie_status st = eyrie_model_open(&m, device, path, &small, &err);
        assert_true(let_succeed());
        check_told(st);
        check_nothing_left(m, before);
    }
    for (uint32_t n = 0; n < all; n += all / 7) {
        fail_from_to(n, UINT32_MAX);
        assert_int_not_equal(eyrie_model_open(&m, device, path, &small, &err), EYRIE_OK);
        assert_true(let_succeed());
        check_nothing_left(m, before);
    }
    assert_ok(eyrie_model_open(&m, device, path, &small, &err));
    assert_ok(eyrie_model_close(m));
}

/* Each of the first allocations, which read and declare; then some of those that follow the building of kernels. Of a model
 * with a tokenizer, some of all. */
static void opening_a_model_without_memory(void **state)
{
    static const struct { const char *name; size_t early, late; } models[] = { { MODEL, 1, 23 }, { SHAKESPEARE, 7, 71 } };
    cl_uint before;

    (void)state;
    if (!device) skip();
    before = references();
    for (size_t i = 0; i < COUNT(models); i++)
        for (size_t n = 0;; n += n < 120 ? models[i].early : models[i].late) {
            eyrie_model *m;
            memset(&err, 0, sizeof err);
            fail_allocation(n);
            eyrie_status st = eyrie_model_open(&m, device, source_path(models[i].name), &small, &err);
            if (!allocation_failed()) {
                assert_ok(eyrie_model_close(m));
                assert_in_range(n, 200, 2000);
                break;
            }
            check_failure("eyrie_model_open", st, EYRIE_ENOMEM, "");
            check_nothing_left(m, before);
        }
}

static void opening_an_engine_without_memory(void **state)
{
    eyrie_model *m = open_model(MODEL, small);
    size_t n = 0;

    (void)state;
    for (bool failed = true; failed; n++) {
        eyrie_engine *e;
        fail_allocation(n);
        eyrie_status st = eyrie_engine_open(&e, m, NULL, &err);
        failed = allocation_failed();
        assert_int_equal(st, failed ? EYRIE_ENOMEM : EYRIE_OK);
        assert_true((e == NULL) == failed);         /* and the model is free for another */
        assert_ok(eyrie_engine_close(e));
    }
    assert_in_range(n, 5, 30);
    assert_ok(eyrie_model_close(m));
}

/* ------------------------------------------------------------------------------------------------------------ steps */

/* Two sequences that will meet the failure, one that rests and keeps its state, one that waits for a slot. */
typedef struct scene {
    stage        on;
    eyrie_request pair[2], rest, wake, wait;
    heard        want_pair[2], want_wake, want_wait;    /* undisturbed */
    heard        got_pair[2], got;
    eyrie_seq   *seqs[2], *resting, *waiting;
} scene;

static void set_up(scene *s)
{
    s->on = open_stage_with("fifo", MODEL, small);      /* the pair's turn comes first */
    const int32_t *tokens = s->on.text.tokens;
    eyrie_request r = { .struct_size = sizeof r, .flags = EYRIE_IGNORE_EOS };
    s->pair[0] = s->pair[1] = s->rest = s->wake = s->wait = r;
    s->pair[0].tokens = tokens, s->pair[0].n_tokens = 9, s->pair[0].max_tokens = 2;
    s->pair[1].tokens = tokens + 5, s->pair[1].n_tokens = 5, s->pair[1].max_tokens = 2, s->pair[1].temperature = 1;
    s->rest.tokens = tokens + 10, s->rest.n_tokens = 6, s->rest.max_tokens = 1;
    s->wake.tokens = tokens + 20, s->wake.n_tokens = 2, s->wake.max_tokens = 1;
    s->wait.tokens = tokens + 30, s->wait.n_tokens = 4, s->wait.max_tokens = 2;
}

/* Everybody comes: the one that rests has read its prompt; the pair is submitted, then the one that waits. */
static void come(scene *s)
{
    submit(s->resting = open_seq(s->on.engine), s->rest, &s->got);
    run_to_end(s->on.engine);
    for (uint32_t i = 0; i < 2; i++) submit(s->seqs[i] = open_seq(s->on.engine), s->pair[i], &s->got_pair[i]);
    submit(s->waiting = open_seq(s->on.engine), s->wait, &s->got);
}

/* To the end with those who are left, and away. */
static void go(scene *s, heard *waited, heard *woken)
{
    while (!s->got_pair[0].over || !s->got_pair[1].over) {
        bool busy;
        assert_ok(eyrie_engine_step(s->on.engine, &busy, &err));
        assert_true(busy);
    }
    for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_seq_close(s->seqs[i]));
    run_to_end(s->on.engine);
    assert_true(s->got.over);
    *waited = s->got;
    assert_ok(eyrie_seq_close(s->waiting));
    submit(s->resting, s->wake, &s->got);
    run_to_end(s->on.engine);
    *woken = s->got;
    assert_ok(eyrie_seq_close(s->resting));
}

static void check_undisturbed(scene *s)
{
    heard waited, woken;

    go(s, &waited, &woken);
    assert_same("who waited", &waited, &s->want_wait);
    assert_same("who rested", &woken, &s->want_wake);
}

static void run_undisturbed(scene *s)
{
    come(s);
    go(s, &s->want_wait, &s->want_wake);
    for (uint32_t i = 0; i < 2; i++) s->want_pair[i] = s->got_pair[i];
}

/* The failed pair's slots are free, and as good as new. */
static void check_slots(scene *s)
{
    heard again[2];
    eyrie_seq *seqs[2];

    for (uint32_t i = 0; i < 2; i++) submit(seqs[i] = open_seq(s->on.engine), s->pair[i], &again[i]);
    run_to_end(s->on.engine);
    for (uint32_t i = 0; i < 2; i++) {
        assert_same("in a slot of the failed", &again[i], &s->want_pair[i]);
        assert_ok(eyrie_seq_close(seqs[i]));
    }
}

/* Each call of the step that reads the prompts of the pair, and of the first step that decodes both. */
static void steps(void **state)
{
    static scene s;

    (void)state;
    set_up(&s);
    run_undisturbed(&s);
    for (uint32_t step = 0; step < 2; step++) {
        uint32_t n = 0;
        for (bool failed = true; failed; n++) {
            bool busy = false;
            come(&s);
            for (uint32_t i = 0; i < step; i++) assert_ok(eyrie_engine_step(s.on.engine, &busy, &err));
            fail_from_to(n, n);
            eyrie_status st = eyrie_engine_step(s.on.engine, &busy, &err);
            failed = let_succeed();
            assert_true(busy);                      /* one still waits */
            if (failed) check_told(st);
            for (uint32_t i = 0; i < 2 && failed; i++) {
                assert_true(s.got_pair[i].over && s.got_pair[i].end == EYRIE_END_FAILED);
                assert_int_equal(s.got_pair[i].status, st);
                assert_int_equal(s.got_pair[i].n, step);
            }
            assert_false(s.got.over);
            check_undisturbed(&s);
            if (n % 64 == 0) check_slots(&s);
        }
        assert_in_range(n, 100, MOST_CALLS);
    }
    close_stage(&s.on);
}

/* A device that is lost: every call from one on. Everybody is told, nothing hangs, and all can be closed. */
static void lost_device(void **state)
{
    static scene s;

    (void)state;
    set_up(&s);
    run_undisturbed(&s);
    for (uint32_t n = 0; n < 400; n += 57) {
        bool busy = true;
        uint32_t steps = 0;
        come(&s);
        fail_from_to(n, UINT32_MAX);
        for (; busy; steps++) {
            assert_in_range(steps, 0, 10);
            assert_int_not_equal(eyrie_engine_step(s.on.engine, &busy, &err), EYRIE_OK);
        }
        assert_true(let_succeed());
        assert_int_equal(steps, 2);                 /* the pair, and who waited for its slots */
        assert_true(s.got.over && s.got.end == EYRIE_END_FAILED);
        for (uint32_t i = 0; i < 2; i++) assert_true(s.got_pair[i].over && s.got_pair[i].end == EYRIE_END_FAILED);
        for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_seq_close(s.seqs[i]));
        assert_ok(eyrie_seq_close(s.waiting));
        assert_ok(eyrie_seq_close(s.resting));
        check_slots(&s);
    }
    close_stage(&s.on);
}

/* A fork that fails leaves its original as it was, and the slot free. */
static void forks(void **state)
{
    stage on = open_stage(MODEL, small);
    eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 20, .max_tokens = 3, .flags = EYRIE_IGNORE_EOS };
    heard first, want, got;
    uint32_t n = 0;
    size_t allocations = 0;

    (void)state;
    eyrie_seq *s = open_seq(on.engine), *fork;
    submit(s, r, &first);
    run_to_end(on.engine);
    submit(s, r, &want);
    run_to_end(on.engine);
    assert_ok(eyrie_seq_close(s));
    for (bool failed = true; failed; n++) {
        submit(s = open_seq(on.engine), r, &first);
        run_to_end(on.engine);
        for (uint32_t again = 0; again < 4; again++) {      /* more often than there are slots */
            fork = s;
            fail_from_to(n, n);
            eyrie_status st = eyrie_seq_fork(&fork, s, &err);
            failed = let_succeed();
            if (!failed) break;
            check_told(st);
            assert_null(fork);
        }
        submit(s, r, &got);
        run_to_end(on.engine);
        assert_same("original", &got, &want);
        if (!failed) {
            submit(fork, r, &got);
            run_to_end(on.engine);
            assert_same("fork", &got, &want);
            assert_ok(eyrie_seq_close(fork));
        }
        assert_ok(eyrie_seq_close(s));
    }
    assert_int_equal(n - 1, 3);                             /* one copy a layer */

    submit(s = open_seq(on.engine), r, &first);
    run_to_end(on.engine);
    for (bool failed = true; failed; allocations++) {
        fork = s;
        fail_allocation(allocations);
        eyrie_status st = eyrie_seq_fork(&fork, s, &err);
        failed = allocation_failed();
        assert_int_equal(st, failed ? EYRIE_ENOMEM : EYRIE_OK);
        assert_true((fork == NULL) == failed);
    }
    assert_in_range(allocations, 2, 10);
    assert_ok(eyrie_seq_close(fork));
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

/* A row of logits that cannot be read fails the one sequence that needs it; the other of the same step goes on. Samples as
 * hot as these need the whole row nearly always. */
static void one_row_of_a_step(void **state)
{
    stage on = open_stage(SHAKESPEARE, small);
    eyrie_request r[2] = { { .tokens = (int32_t[]){ 2, 814 }, .n_tokens = 2, .max_tokens = 3, .temperature = 1000, .seed = 1 },
                           { .tokens = (int32_t[]){ 2, 983 }, .n_tokens = 2, .max_tokens = 3, .temperature = 1000, .seed = 2 } };
    heard want[2], got[2];
    eyrie_seq *s[2];
    uint32_t reads[2] = { 0, 0 };

    (void)state;
    for (uint32_t failing = 0; failing <= 2; failing++) {   /* 0: none */
        bool busy = true;
        for (uint32_t i = 0; i < 2; i++) {
            r[i].flags = EYRIE_IGNORE_EOS;
            submit(s[i] = open_seq(on.engine), r[i], failing ? &got[i] : &want[i]);
        }
        assert_ok(eyrie_engine_step(on.engine, &busy, &err));           /* the prompts */
        calls.only = "clEnqueueReadBuffer";
        fail_from_to(failing ? failing : UINT32_MAX, failing ? failing : UINT32_MAX);
        eyrie_status st = eyrie_engine_step(on.engine, &busy, &err);
        reads[failing > 0] = calls.n;
        assert_true(let_succeed() == (failing > 0));
        if (failing) check_told(st);
        assert_true(busy);
        run_to_end(on.engine);
        for (uint32_t i = 0; i < 2; i++) {
            if (failing == i + 1) assert_true(got[i].end == EYRIE_END_FAILED && got[i].n == 1);
            else if (failing) assert_same("other row", &got[i], &want[i]);
            assert_ok(eyrie_seq_close(s[i]));
        }
        assert_int_equal(reads[failing > 0], 3);            /* the results, and a row each */
    }
    close_stage(&on);
}

/* A prompt that is scored with its logits reads them row by row. */
static void scoring(void **state)
{
    stage on = open_stage(MODEL, small);
    eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 6, .flags = EYRIE_SCORE | EYRIE_LOGITS };
    heard h = { .vocab = on.text.V, .logits = calloc(6 * on.text.V, sizeof *h.logits) };
    eyrie_seq *s;

    (void)state;
    assert_non_null(h.logits);
    for (uint32_t row = 0; row < 6; row++) {
        bool busy = true;
        submit(s = open_seq(on.engine), r, &h);
        calls.only = "clEnqueueReadBuffer";
        fail_from_to(1 + row, 1 + row);
        eyrie_status st = eyrie_engine_step(on.engine, &busy, &err);
        assert_true(let_succeed());
        check_told(st);
        assert_false(busy);
        assert_int_equal(h.n_scores, row);                  /* what was told before is true */
        assert_true(h.over && h.end == EYRIE_END_FAILED);
        assert_ok(eyrie_seq_close(s));
    }
    free(h.logits);
    close_stage(&on);
}

/* ------------------------------------------------------------------------------------------------- steps without memory */

static void submitting_without_memory(void **state)
{
    stage on = open_stage(MODEL, small);
    eyrie_request r = { .struct_size = sizeof r, .tokens = on.text.tokens, .n_tokens = 20, .max_tokens = 2,
                        .flags = EYRIE_IGNORE_EOS };
    heard want, got;
    size_t n = 0;

    (void)state;
    eyrie_seq *s = open_seq(on.engine);
    submit(s, r, &want);
    run_to_end(on.engine);
    assert_ok(eyrie_seq_close(s));
    for (bool failed = true; failed; n++) {
        bool busy = true;
        fail_allocation(n);
        eyrie_status st = eyrie_seq_open(&s, on.engine, &err);
        if (st == EYRIE_OK) st = eyrie_seq_submit(s, &r, &err);
        failed = allocation_failed();
        assert_int_equal(st, failed ? EYRIE_ENOMEM : EYRIE_OK);
        assert_ok(eyrie_engine_step(on.engine, &busy, &err));
        assert_int_equal(busy, !failed);
        run_to_end(on.engine);
        assert_ok(eyrie_seq_close(s));
    }
    assert_in_range(n, 3, 10);

    s = open_seq(on.engine);                                /* a refused request is as if it had not been made */
    fail_allocation(0);
    assert_int_equal(eyrie_seq_submit(s, &r, &err), EYRIE_ENOMEM);
    (void)allocation_failed();
    submit(s, r, &got);
    run_to_end(on.engine);
    assert_same("second try", &got, &want);
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

/* A step that has no memory to begin with: nothing has happened, work is left, and the next step does it. */
static void steps_that_cannot_begin(void **state)
{
    heard want, got;

    (void)state;
    for (size_t n = 0; n < 2; n++) {            /* the engine's two lists grow at its first step */
        stage on = open_stage(MODEL, small);
        eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 20, .max_tokens = 2, .flags = EYRIE_IGNORE_EOS };
        eyrie_seq *s = open_seq(on.engine);
        bool busy = false;
        submit(s, r, &want);
        run_to_end(on.engine);
        assert_ok(eyrie_seq_close(s));
        assert_ok(eyrie_engine_close(on.engine));

        on.engine = open_engine(on.model);
        submit(s = open_seq(on.engine), r, &got);
        fail_allocation(n);
        eyrie_status st = eyrie_engine_step(on.engine, &busy, &err);
        assert_true(allocation_failed());
        check_failure("eyrie_engine_step", st, EYRIE_ENOMEM, "");
        assert_true(busy);
        run_to_end(on.engine);
        assert_same("after a step that could not begin", &got, &want);
        assert_ok(eyrie_seq_close(s));
        close_stage(&on);
    }
}

/* Each allocation while two texts are generated: a request may fail and say so, but what is delivered is right and whole. */
static void generating_without_memory(void **state)
{
    static heard want[2], got[2];
    eyrie_model *m = open_model(SHAKESPEARE, small);
    eyrie_request r[2] = { { .tokens = (int32_t[]){ 2, 814 }, .n_tokens = 2, .max_tokens = 4, .temperature = 1000, .seed = 1,
                             .flags = EYRIE_IGNORE_EOS },
                           { .tokens = (int32_t[]){ 2, 983 }, .n_tokens = 2, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS } };
    size_t n = SIZE_MAX;                            /* at first, none fails */

    (void)state;
    for (bool failed = true; failed; n++) {
        heard *h = n == SIZE_MAX ? want : got;
        eyrie_engine *e = open_engine(m);
        eyrie_seq *s[2];
        uint32_t left = 20;
        for (uint32_t i = 0; i < 2; i++) submit(s[i] = open_seq(e), r[i], &h[i]);
        fail_allocation(n);
        while (!(h[0].over && h[1].over) && left-- > 0) {
            bool busy;
            eyrie_status st = eyrie_engine_step(e, &busy, &err);
            if (st != EYRIE_OK) check_failure("eyrie_engine_step", st, EYRIE_ENOMEM, "");
        }
        failed = allocation_failed() || h == want;
        assert_true(h[0].over && h[1].over);
        for (uint32_t i = 0; i < 2; i++) {
            if (h[i].end == EYRIE_END_FAILED) assert_int_equal(h[i].status, EYRIE_ENOMEM);
            else if (h == got) assert_same("what was delivered", &got[i], &want[i]);
            assert_ok(eyrie_seq_close(s[i]));
        }
        assert_ok(eyrie_engine_close(e));
    }
    assert_in_range(n, 8, 100);
    assert_ok(eyrie_model_close(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_a_device),                 cmocka_unit_test(opening_a_model),
        cmocka_unit_test(opening_a_model_without_memory),   cmocka_unit_test(opening_an_engine_without_memory),
        cmocka_unit_test(steps),                            cmocka_unit_test(lost_device),
        cmocka_unit_test(forks),                            cmocka_unit_test(one_row_of_a_step),
        cmocka_unit_test(scoring),                          cmocka_unit_test(submitting_without_memory),
        cmocka_unit_test(steps_that_cannot_begin),          cmocka_unit_test(generating_without_memory),
    };

    return cmocka_run_group_tests_name("faults", tests, open_device, close_device);
}
