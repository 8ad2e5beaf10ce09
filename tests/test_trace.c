/* test_trace.c - the trace of an engine: whole JSON in which every request begins and ends once, steps of a lane follow each
 * other, kernels lie inside of their steps, and the sums are those of the statistics. How it looks is for eyes. */
#include "running.h"

#include "batch.h"
#include "trace.h"

#include <jansson.h>

/* ---------------------------------------------------------------------------------------------------- what a file says */

enum { MOST_REQUESTS = 64, TRACKS = 4 };

typedef struct tally {
    uint32_t begins[MOST_REQUESTS], ends[MOST_REQUESTS], starts[MOST_REQUESTS], finishes[MOST_REQUESTS];
    double   begun[MOST_REQUESTS], ended[MOST_REQUESTS];    /* when, in microseconds */
    double   last[TRACKS];              /* of each track: the end of its last step */
    double   from, to;                  /* the last step */
    uint32_t steps[EY_PHASES], kernels, parts, named, moves;
    uint64_t tokens[EY_PHASES];
} tally;

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("no number \"%s\" in %s", key, json_dumps(o, 0));
    return json_number_value(v);
}

static const char *word(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v)) fail_msg("no text \"%s\" in %s", key, json_dumps(o, 0));
    return json_string_value(v);
}

#define ROUNDING 0.002      /* times are written in thousandths of a microsecond, cut off */

static void add_slice(tally *t, const json_t *event)
{
    const json_t *args = json_object_get(event, "args");
    const char *name = word(event, "name");
    double ts = number(event, "ts"), end = ts + number(event, "dur");
    uint32_t track = (uint32_t)number(event, "tid");
    ey_phase phase = strcmp(name, "prefill") ? EY_DECODE : EY_PREFILL;

    assert_in_range(track, 1, TRACKS - 1);
    if (track == 1) {                                   /* the requests' */
        t->moves += !strcmp(name, "hand-over");
        assert_true(!strcmp(name, "arrives") || !strcmp(name, "ends") || !strcmp(name, "hand-over"));
        return;
    }
    if (strcmp(name, "prefill") && strcmp(name, "decode")) {
        assert_true(ts >= t->from - ROUNDING && end <= t->to + ROUNDING);
        t->kernels++;
        return;
    }
    if (t->parts > 0) assert_true(t->kernels > 0);      /* every part has some */
    t->kernels = 0;
    t->parts++;
    assert_true(ts + ROUNDING >= t->last[track]);
    t->last[track] = t->to = end;
    t->from = ts;
    assert_in_range(number(args, "rows"), 1, 64);
    assert_true(number(args, "real us") > 0 && number(args, "predicted us") >= 0);
    if (!json_is_true(json_object_get(args, "head"))) return;
    t->steps[phase]++;
    t->tokens[phase] += (uint64_t)number(args, "tokens");
}

static tally read_trace(const char *path)
{
    json_error_t error;
    json_t *events = json_load_file(path, 0, &error), *event;
    tally t = { .parts = 0 };
    size_t i;

    if (!events) fail_msg("%s, line %d: %s", path, error.line, error.text);
    json_array_foreach(events, i, event) {
        const char *kind = word(event, "ph");
        uint32_t id = json_object_get(event, "id") ? (uint32_t)number(event, "id") : 0;
        double ts = *kind == 'M' ? 0 : number(event, "ts");

        assert_in_range(id, 0, MOST_REQUESTS - 1);
        assert_true(ts >= 0);
        switch (*kind) {
        case 'M': t.named += !strcmp(word(event, "name"), "thread_name"); break;
        case 'X': add_slice(&t, event); break;
        case 'b': t.begins[id]++; t.begun[id] = ts; break;
        case 'e': t.ends[id]++; t.ended[id] = ts; break;
        case 's': t.starts[id]++; break;
        case 't': assert_true(t.starts[id] == 1 && t.finishes[id] == 0); break;
        case 'f': t.finishes[id]++; break;
        default: fail_msg("an event of kind %s", kind);
        }
    }
    json_decref(events);
    return t;
}

static void check_requests(const tally *t, uint32_t n)
{
    for (uint32_t i = 1; i < MOST_REQUESTS; i++) {
        uint32_t each = i <= n;
        assert_true(t->begins[i] == each && t->ends[i] == each && t->starts[i] == each && t->finishes[i] == each);
        assert_true(t->begun[i] <= t->ended[i]);
    }
}

/* ---------------------------------------------------------------------------------------------------------- engines */

/* Some are closed or cancelled; with two lanes, one model reads. */
static void serve(const char *path, bool two, double interval)
{
    static heard h[8];
    const eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = 4, .chunk = 64, .compute = EYRIE_COMPUTE_F32 };
    eyrie_engine_opts how = { .struct_size = sizeof how, .trace = path, .token_interval = interval };
    eyrie_stats stats = { .struct_size = sizeof stats };
    eyrie_device *parts[2] = { NULL };
    eyrie_model *m, *reader = NULL;
    eyrie_engine *e;
    eyrie_seq *s[8];
    int32_t tokens[200];
    bool busy;

    if (!device) skip();
    if (two) assert_ok(eyrie_device_split(parts, 2, device, NULL, &err));
    assert_ok(eyrie_model_open(&m, two ? parts[0] : device, source_path(GOLDEN("griffin")), &opts, &err));
    if (two) assert_ok(eyrie_model_open(&reader, parts[1], source_path(GOLDEN("griffin")), &opts, &err));
    how.prefill = reader;
    assert_ok(eyrie_engine_open(&e, m, &how, &err));
    for (uint32_t i = 0; i < COUNT(tokens); i++) tokens[i] = (int32_t)(i * 7 % 60);
    for (uint32_t i = 0; i < 8; i++)
        submit(s[i] = open_seq(e), (eyrie_request){ .tokens = tokens, .n_tokens = 1 + i * 28, .max_tokens = 6 + i,
                                                    .flags = EYRIE_IGNORE_EOS }, &h[i]);
    for (uint32_t i = 0; i < 5; i++) assert_ok(eyrie_engine_step(e, &busy, &err));
    assert_ok(eyrie_seq_close(s[7]));
    assert_ok(eyrie_seq_cancel(s[6], &err));
    while (!h[0].over || !h[1].over || !h[2].over || !h[3].over) assert_ok(eyrie_engine_step(e, &busy, &err));
    for (uint32_t i = 0; i < 4; i++) assert_ok(eyrie_seq_close(s[i]));
    run_to_end(e);
    for (uint32_t i = 4; i < 7; i++) assert_ok(eyrie_seq_close(s[i]));
    assert_ok(eyrie_engine_get_stats(e, &stats, &err));
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(reader));
    assert_ok(eyrie_model_close(m));
    for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_close(parts[i]));

    tally t = read_trace(path);
    check_requests(&t, 8);
    assert_int_equal(t.named, two ? 3 : 2);
    assert_int_equal(t.steps[EY_PREFILL], stats.prefill_steps);
    assert_int_equal(t.steps[EY_DECODE], stats.decode_steps);
    assert_int_equal(t.tokens[EY_PREFILL], stats.prefill_tokens);
    assert_int_equal(t.tokens[EY_DECODE], stats.decode_tokens);
    if (interval > 0 && !two) assert_true(t.parts > stats.prefill_steps + stats.decode_steps);
    assert_int_equal(t.moves, stats.handed_over);
    assert_true(two == (stats.handed_over > 0));
    assert_true(stats.prefill_predicted > 0 && stats.decode_predicted > 0);
}

static void steps_and_requests(void **state)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/trace.json", (const char *)*state);
    serve(path, false, 0);
    serve(path, false, 1e-9);       /* prompts in parts */
    serve(path, true, 0);
}

/* Nobody waits for a trace: a full disk is said once, and texts are what they are. */
static uint32_t notes;

static void note(void *user, const char *line)
{
    (void)user;
    notes += strstr(line, "what follows is not traced") != NULL;
}

static void a_full_disk(void **state)
{
    static heard want, got;
    eyrie_request r = { .tokens = (int32_t[]){ 1, 2, 3 }, .n_tokens = 3, .max_tokens = 60, .flags = EYRIE_IGNORE_EOS };
    eyrie_engine_opts how = { .struct_size = sizeof how, .trace = "/dev/full" };
    eyrie_model *m = open_model(GOLDEN("griffin"), (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
    eyrie_engine *e = open_engine(m);
    eyrie_seq *s = open_seq(e);

    (void)state;
    if (access("/dev/full", W_OK) != 0) skip();
    submit(s, r, &want);
    run_to_end(e);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    device->log = (ey_log){ note, NULL };
    assert_ok(eyrie_engine_open(&e, m, &how, &err));
    submit(s = open_seq(e), r, &got);
    run_to_end(e);
    assert_same("traced", &got, &want);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    device->log = (ey_log){ NULL, NULL };
    assert_int_equal(notes, 1);

    how.trace = "/nowhere/at/all";
    assert_fails(eyrie_engine_open(&e, m, &how, &err), EYRIE_EIO, "trace /nowhere/at/all: No such file");
    assert_null(e);
    assert_ok(eyrie_model_close(m));
}

/* Whatever fails while it is opened: an engine with a trace or none, the device as it was, and the next one works. */
static uint32_t calls, failing;

static cl_int fail_one(const char *call)
{
    (void)call;
    return calls++ == failing ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

/* A probe that cannot run is no reason to fail. */
static void try_to_open(eyrie_model *m, const char *path, eyrie_engine **e, eyrie_status expected)
{
    eyrie_engine_opts how = { .struct_size = sizeof how, .trace = path };
    eyrie_status st = eyrie_engine_open(e, m, &how, &err);

    if (st != EYRIE_OK) assert_int_equal(st, expected);
    assert_true((*e == NULL) == (st != EYRIE_OK));
    if (st != EYRIE_OK) assert_null(device->marks);
}

static void opening_fails(void **state)
{
    static heard want, got;
    eyrie_request r = { .tokens = (int32_t[]){ 1, 2, 3 }, .n_tokens = 3, .max_tokens = 5, .flags = EYRIE_IGNORE_EOS };
    char kept[4096];

    snprintf(kept, sizeof kept, "%s/t", (const char *)*state);
    eyrie_model *m = open_model(GOLDEN("griffin"), (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
    eyrie_engine *e = open_engine(m);
    eyrie_seq *s = open_seq(e);
    size_t n;

    submit(s, r, &want);
    run_to_end(e);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    for (n = 0;; n++) {
        fail_allocation(n);
        try_to_open(m, kept, &e, EYRIE_ENOMEM);
        if (!allocation_failed()) break;
        assert_ok(eyrie_engine_close(e));
    }
    assert_in_range(n, 8, 100);
    assert_ok(eyrie_engine_close(e));
    for (n = 0;; n++) {
        calls = 0;
        failing = (uint32_t)n;
        ey_cl_hook = fail_one;
        try_to_open(m, kept, &e, EYRIE_EDEVICE);
        ey_cl_hook = NULL;
        if (calls <= failing) break;            /* none was left to fail */
        assert_ok(eyrie_engine_close(e));
    }
    assert_in_range(n, 10, 500);
    submit(s = open_seq(e), r, &got);
    run_to_end(e);
    assert_same("after all that", &got, &want);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    assert_null(device->marks);
    assert_ok(eyrie_model_close(m));
}

/* ------------------------------------------------------------------------------------------------------- the file */

/* Names may hold anything; what is written before the end reads like a list that is not finished. */
static void names_and_interruptions(void **state)
{
    const char *path = path_of(*state, "t");
    char kept[4096] = "";
    json_error_t error;
    ey_trace *t;
    ey_log silent = { NULL, NULL };

    assert_ok(ey_trace_open(&t, path, "a \"device\"\\\n", &silent, &err));
    ey_trace_track(t, 1, "quo\"te");
    ey_trace_slice(t, 1, "back\\slash", 0, 1e-3, NULL);       /* before the trace began, by a clock that is not ours */
    ey_trace_begin(t, 1, 1, 5, "\"x\":1");
    ey_trace_close(t);
    ey_trace_close(NULL);
    json_t *events = json_load_file(path, 0, &error);
    assert_non_null(events);
    assert_string_equal(word(json_object_get(json_array_get(events, 0), "args"), "name"), "a \"device\"\\ ");
    assert_string_equal(word(json_array_get(events, 3), "name"), "back\\slash");
    assert_true(number(json_array_get(events, 3), "ts") == 0);
    json_decref(events);

    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(kept, 1, sizeof kept - 4, f);
    fclose(f);
    assert_true(n > 4 && !strcmp(kept + n - 3, "\n]\n"));
    strcpy(kept + n - 3, "\n");                                 /* killed before it was closed: a line is an event */
    strcat(kept, "]");
    events = json_loads(kept, 0, &error);
    assert_non_null(events);
    json_decref(events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(steps_and_requests), cmocka_unit_test(a_full_disk), test_in_dir(opening_fails),
        test_in_dir(names_and_interruptions),
    };

    return cmocka_run_group_tests_name("trace", tests, open_device, close_device);
}
