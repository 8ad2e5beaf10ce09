/* test_cli_batch.c - files of requests: what is answered, that nothing is lost or done twice whatever ends the command, and many
 * processes. Whether texts are right is test_serving's business; here they are those of other commands. */
#include "testing.h"

#include "command.h"
#include "dice.h"

#include <math.h>
#include <sys/stat.h>

static const char *dir;             /* of the test */

/* The path of a file there, for as long as the test runs. */
static const char *place(const char *name)
{
    static char paths[8][4096];
    static unsigned turn;
    char *path = paths[turn++ % COUNT(paths)];

    strcpy(path, path_of(dir, name));
    return path;
}

static size_t size_of(const char *name)
{
    struct stat st;
    return stat(path_of(dir, name), &st) == 0 ? (size_t)st.st_size : 0;
}

static void expect_same_files(const char *a, const char *b)
{
    size_t m, n;
    char *x = read_whole(dir, a, &m), *y = read_whole(dir, b, &n);

    if (m != n || memcmp(x, y, n) != 0) fail_msg("%s is not %s: %zu and %zu bytes\n%s\n%s", a, b, m, n, x, y);
    free(x);
    free(y);
}

/* Line i of a file, from 0, as JSON. */
static json_t *line_of(const char *name, size_t i)
{
    size_t length;
    char *all = read_whole(dir, name, &length), *p = all;
    json_t *object;

    while (i-- > 0) assert_non_null(p = strchr(p, '\n')), p++;
    object = json_loads(p, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(object);
    free(all);
    return object;
}

/* eyrie batch on the files "in" and "out.jsonl" of the directory; expects the status. */
#define BATCH "batch", "-m", MODEL, place("in.jsonl"), "-o"
#define batch(status, ...) expect_end(run(dir, BATCH, __VA_ARGS__), status)

static void expect_end(result r, int status)
{
    expect_status(&r, status);
    assert_string_equal(r.out, "");
    done(&r);
}

/* Requests of all kinds: short, some that share their prompts. */
static void write_requests(size_t n)
{
    FILE *f = fopen(path_of(dir, "in.jsonl"), "wb");

    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "{\"id\": %zu, \"prompt\": \"Scene %zu.\\nROMEO:\\n\", \"max_tokens\": %zu, \"temperature\": 0.8, \"seed\": %zu, \"n\": %zu%s}\n",
                i, i / 4, 2 + i % 5, i, 1 + i % 3, i % 4 == 0 ? ", \"continuations\": [\"yes\", \" no\"]" : "");
    assert_int_equal(fclose(f), 0);
}

/* --------------------------------------------------------------------------------------------------------- answers */

/* What run and score say of the same. */
static void answers(void **state)
{
    dir = *state;
    write_text(dir, "in.jsonl",
               "{\"id\": \"alone\", \"prompt\": \"ROMEO:\\n\", \"max_tokens\": 12, \"logprobs\": true}\n"
               "{\"id\": 7, \"prompt\": \"JULIET:\\n\", \"max_tokens\": 6, \"n\": 3, \"seed\": 5, \"stop\": [\"!\", \"\\n\"], \"top_k\": 40}\r\n"
               " \t\n"
               "{\"prompt\": \"To be, or \", \"continuations\": [\"not to be\", \"to go\", [720, 292]], \"n\": null}\n"
               "{\"tokens\": [2, 814, 983, 4], \"max_tokens\": 3, \"continuations\": [\"a\"], \"n\": 1}");
    batch(0, place("out.jsonl"), "--compute", "f32");
    json_t *alone = line_of("out.jsonl", 0), *three = line_of("out.jsonl", 1), *scored = line_of("out.jsonl", 2), *both = line_of("out.jsonl", 3);
    json_t *want = expect_json(run(dir, "run", "-m", MODEL, "-p", "ROMEO:\n", "-n", "12", "--compute", "f32", "--json"));
    const json_t *got = json_array_get(json_object_get(alone, "samples"), 0);

    assert_true(number(alone, "line") == 1);
    assert_string_equal(string(alone, "id"), "alone");
    assert_true(json_equal(json_object_get(got, "tokens"), json_object_get(want, "tokens")));
    assert_string_equal(string(got, "text"), string(want, "text"));
    assert_string_equal(string(got, "finish"), "length");
    assert_int_equal(json_array_size(json_object_get(got, "logprobs")), 12);
    assert_true(number(json_object_get(alone, "usage"), "prompt_tokens") == number(want, "prompt_tokens"));
    assert_true(number(json_object_get(alone, "usage"), "completion_tokens") == 12);
    json_decref(want);

    want = expect_json(run(dir, "run", "-m", MODEL, "-p", "JULIET:\n", "-n", "6", "--samples", "3", "--seed", "5", "--stop", "!", "--stop",
                           "\n", "--top-k", "40", "--compute", "f32", "--json"));
    assert_true(number(three, "id") == 7);
    assert_true(json_equal(json_object_get(three, "samples"), json_object_get(want, "samples")));
    json_decref(want);

    want = expect_json(run(dir, "score", "-m", MODEL, "-p", "To be, or ", "--continuation", "not to be", "--continuation", "to go",
                           "--compute", "f32", "--json"));
    assert_true(number(scored, "line") == 4);           /* blank lines count, and are no requests */
    assert_null(json_object_get(scored, "samples"));
    assert_int_equal(json_array_size(json_object_get(scored, "continuations")), 3);
    for (size_t i = 0; i < 2; i++) {
        const json_t *a = json_array_get(json_object_get(scored, "continuations"), i), *b = json_array_get(json_object_get(want, "continuations"), i);
        assert_true(number(a, "logprob") == number(b, "logprob"));
        assert_true(json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")));
    }
    expect_ids(json_object_get(json_array_get(json_object_get(scored, "continuations"), 2), "tokens"), (const int32_t[]){ 720, 292 }, 2);
    assert_int_equal(json_array_size(json_object_get(both, "samples")), 1);
    assert_int_equal(json_array_size(json_object_get(both, "continuations")), 1);
    json_decref(want);
    json_decref(alone);
    json_decref(three);
    json_decref(scored);
    json_decref(both);
}

/* An answer depends on nothing but its request: neither on slots and lanes, nor on the order in which all are done. */
static void company(void **state)
{
    static const char *const slots[] = { "1", "2", "5" };

    dir = *state;
    write_requests(24);
    batch(0, place("want.jsonl"));
    for (size_t i = 0; i < COUNT(slots); i++) {
        batch(0, place("out.jsonl"), "--slots", slots[i], "--lanes", i == 1 ? "2" : "1", "--policy", i == 2 ? "fifo" : "chunked");
        expect_same_files("out.jsonl", "want.jsonl");
        assert_int_equal(unlink(place("out.jsonl")), 0);
    }
    batch(0, place("out.jsonl"), "--slots", "4", "--order", "completion");
    result sorted = run_as(dir, ((setting){ .program = "sort" }), "-V", place("out.jsonl"));
    size_t length;
    char *want = read_whole(dir, "want.jsonl", &length);
    assert_string_equal(sorted.out, want);      /* which is by line, since all begin with it */
    free(want);
    done(&sorted);
}

/* Standard input and output; options stand for what a request does not say. */
static void streams(void **state)
{
    dir = *state;
    result r = run_as(dir, ((setting){ .input = "{\"prompt\": \"ROMEO:\\n\"}\n\n{\"prompt\": \"ROMEO:\\n\", \"max_tokens\": 4}" }), "batch", "-m",
                      MODEL, "-", "-o", "-", "-n", "2");
    json_t *first, *second;
    json_error_t error;

    expect_status(&r, 0);
    first = json_loads(r.out, JSON_DISABLE_EOF_CHECK, &error);
    second = json_loads(strchr(r.out, '\n'), JSON_DISABLE_EOF_CHECK, &error);
    assert_true(number(json_object_get(first, "usage"), "completion_tokens") == 2);
    assert_true(number(json_object_get(second, "usage"), "completion_tokens") == 4 && number(second, "line") == 3);
    expect_contains(r.err, "2 of 2 lines");
    expect_contains(r.err, "reused");
    json_decref(first);
    json_decref(second);
    done(&r);
}

/* --------------------------------------------------------------------------------------------------------- mistakes */

static const struct { const char *line, *says; } mistakes[] = {
    { "{\"prompt\": nonsense}", "not JSON: invalid token near 'nonsense'" },
    { "[1]", "not a JSON object" },
    { "{\"prompt\": \"a\"", "not JSON: '}' expected" },
    { "{\"prompt\": \"a\", \"prompt\": \"b\"}", "duplicate object key" },
    { "{}", "one of \"prompt\" and \"tokens\"" },
    { "{\"prompt\": \"a\", \"tokens\": [1]}", "one of \"prompt\" and \"tokens\"" },
    { "{\"prompt\": 1}", "prompt: not a text" },
    { "{\"tokens\": []}", "tokens: not an array with something in it" },
    { "{\"tokens\": [\"a\"]}", "number 0 of a list of tokens" },
    { "{\"tokens\": [2, 5000000000]}", "number 1 of a list of tokens" },
    { "{\"tokens\": [2, 99999]}", "outside the vocabulary" },
    { "{\"prompt\": \"a\", \"temprature\": 1}", "unknown key \"temprature\"" },
    { "{\"prompt\": \"a\", \"temperature\": \"hot\"}", "temperature: not a number" },
    { "{\"prompt\": \"a\", \"temperature\": -1}", "temperature -1" },
    { "{\"prompt\": \"a\", \"top_p\": 1.5}", "top_p 1.5" },
    { "{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens 0: not from 1" },
    { "{\"prompt\": \"a\", \"max_tokens\": 1.5}", "max_tokens: not a whole number" },
    { "{\"prompt\": \"a\", \"n\": 65537}", "n 65537: not from 1 to 65536" },
    { "{\"prompt\": \"a\", \"seed\": -1}", "seed -1" },
    { "{\"prompt\": \"a\", \"stop\": [\"\"]}", "stop: not a text, an empty one" },
    { "{\"prompt\": \"a\", \"stop\": 1}", "stop: not a text or an array" },
    { "{\"prompt\": \"a\", \"logprobs\": 1}", "logprobs: not true or false" },
    { "{\"prompt\": \"a\", \"id\": []}", "id: not a text or a whole number" },
    { "{\"prompt\": \"a\", \"continuations\": [\"\"]}", "an empty text has no probability" },
    { "{\"prompt\": \"a\", \"continuations\": [1]}", "neither a text nor a list" },
    { "{\"prompt\": \"a\xff\"}", "not JSON: unable to decode byte 0xff" },
    { "{\"prompt\": \"a long one, longer than the context that there is, which is short\"}", "context of 16" },
};

/* Each is told by its number, in the output and for the first ten on standard error, and the rest is done. Answers that are
 * taken out of the output are done anew. */
static void mistaken(void **state)
{
    FILE *f;
    result r;

    dir = *state;
    assert_non_null(f = fopen(place("in.jsonl"), "wb"));
    for (size_t i = 0; i < COUNT(mistakes); i++) fprintf(f, "%s\n{\"id\": %zu, \"prompt\": \"a\", \"max_tokens\": 1}\n", mistakes[i].line, i);
    assert_int_equal(fclose(f), 0);
    r = run(dir, BATCH, place("out.jsonl"), "--context", "16");
    expect_status(&r, 1);
    expect_contains(r.err, "in.jsonl:1: not JSON");
    expect_contains(r.err, "in.jsonl:19: ");
    expect_contains(r.err, "more lines have failed");
    assert_null(strstr(r.err, "in.jsonl:21: "));
    done(&r);
    for (size_t i = 0; i < COUNT(mistakes); i++) {
        json_t *bad = line_of("out.jsonl", 2 * i), *good = line_of("out.jsonl", 2 * i + 1);
        expect_contains(string(bad, "error"), mistakes[i].says);
        assert_true(number(bad, "line") == (double)(2 * i + 1));
        assert_true(number(good, "id") == (double)i);
        assert_int_equal(json_array_size(json_object_get(good, "samples")), 1);
        json_decref(bad);
        json_decref(good);
    }
    batch(1, place("out.jsonl"), "--context", "16");        /* it still has failures */
    expect_end(run_as(dir, ((setting){ .program = "sed", .output = place("less.jsonl") }), "/\"line\":2,/d; /\"line\":7,/d", place("out.jsonl")), 0);
    assert_true(size_of("less.jsonl") < size_of("out.jsonl"));
    batch(1, place("less.jsonl"), "--context", "16");
    assert_int_equal(size_of("less.jsonl"), size_of("out.jsonl"));
}

/* What cannot be a request at all: longer than any may be. The next one is done. */
static void endless(void **state)
{
    FILE *f;
    json_t *first, *second;

    dir = *state;
    assert_non_null(f = fopen(place("in.jsonl"), "wb"));
    fputs("{\"prompt\": \"", f);
    for (size_t i = 0; i < 17u << 20; i++) putc('a', f);
    fputs("\"}\n{\"prompt\": \"a\", \"max_tokens\": 1}\n", f);
    assert_int_equal(fclose(f), 0);
    batch(1, place("out.jsonl"));
    first = line_of("out.jsonl", 0);
    second = line_of("out.jsonl", 1);
    expect_contains(string(first, "error"), "longer than 16777216 bytes");
    assert_true(number(second, "line") == 2 && json_object_get(second, "samples"));
    json_decref(first);
    json_decref(second);
}

static void usage(void **state)
{
    dir = *state;
    write_text(dir, "in.jsonl", "{\"prompt\": \"a\"}\n");
    expect_failure(run(dir, "batch", "-m", MODEL), 2, "exactly one file of requests");
    expect_failure(run(dir, "batch", "-m", MODEL, "a", "b"), 2, "exactly one file of requests");
    expect_failure(run(dir, "batch", "-m", MODEL, "a", "-"), 2, "exactly one file of requests");
    expect_failure(run(dir, "batch", "a"), 2, "-m MODEL is needed");
    expect_failure(run(dir, BATCH, "x", "--order", "size"), 2, "not one of input|completion");
    expect_failure(run(dir, "batch", "-m", MODEL, place("nothing")), 1, "No such file");
    expect_failure(run(dir, "batch", "-m", MODEL, dir), 1, "Is a directory");
    expect_failure(run(dir, BATCH, place("nothing/out")), 1, "No such file");
    expect_failure(run(dir, "batch", "-m", place("nothing"), place("in.jsonl")), 1, "config.json");
}

/* ----------------------------------------------------------------------------------------------------------- going on */

/* Wherever a run was killed, the output is some beginning of what it would have been; from all kinds of them the next run goes on. */
static void cut_off(void **state)
{
    size_t length;
    char *whole;

    dir = *state;
    dice = 5;
    write_requests(12);
    batch(0, place("want.jsonl"));
    whole = read_whole(dir, "want.jsonl", &length);
    for (size_t i = 0; i < 8; i++) {
        size_t first = strcspn(whole, "\n"), kept[] = { 0, 1, 9, first, first + 1, length - 1, below((uint32_t)length), below((uint32_t)length) };
        write_file(dir, "out.jsonl", whole, kept[i]);
        batch(0, place("out.jsonl"), "--slots", "3");
        expect_same_files("out.jsonl", "want.jsonl");
    }
    free(whole);
}

/* Waits until the output has some bytes, or the command has ended. */
static bool wait_for_bytes(pid_t child, const char *name, size_t bytes)
{
    siginfo_t what = { 0 };

    while (size_of(name) < bytes) {
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
        if (waitid(P_PID, (id_t)child, &what, WEXITED | WNOHANG | WNOWAIT) == 0 && what.si_pid == child) return false;
    }
    return true;
}

/* Killed again and again, at moments that its own output tells, until it is done; by completion, where lines are missing in between. */
static void killed(void **state)
{
    size_t at = 0, kills = 0, length;

    dir = *state;
    dice = 11;
    write_requests(120);
    batch(0, place("want.jsonl"));
    length = size_of("want.jsonl");
    for (bool alive = true; alive && at < length; kills += alive) {
        const char *const args[] = { BATCH, place("out.jsonl"), "--slots", "3", "--order", "completion", NULL };
        pid_t child = start(dir, (setting){ 0 }, args);
        at += 1 + below((uint32_t)length / 5);
        alive = wait_for_bytes(child, "out.jsonl", at);
        kill(child, SIGKILL);
        result r = finish(dir, child);
        done(&r);
        at = size_of("out.jsonl");
    }
    assert_true(kills >= 3);
    batch(0, place("out.jsonl"));
    result sorted = run_as(dir, ((setting){ .program = "sort" }), "-V", place("out.jsonl"));
    char *want = read_whole(dir, "want.jsonl", &length);
    assert_string_equal(sorted.out, want);
    free(want);
    done(&sorted);
}

/* An interrupted one ends with whole lines and says how to go on. While it runs, nobody else may write. */
static void interrupted(void **state)
{
    const int signals[] = { SIGINT, SIGTERM };

    dir = *state;
    write_requests(200);
    for (size_t i = 0; i < COUNT(signals); i++) {
        const char *const args[] = { BATCH, place("out.jsonl"), "--slots", "1", NULL };
        pid_t child = start(dir, (setting){ 0 }, args);
        assert_true(wait_for_bytes(child, "out.jsonl", size_of("out.jsonl") + 1));
        assert_int_equal(kill(child, SIGSTOP), 0);
        pid_t other = fork();
        assert_true(other >= 0);
        if (other == 0) {
            connect_to(STDERR_FILENO, place("other"), O_WRONLY | O_CREAT | O_TRUNC);
            execl(EY_COMMAND, "eyrie", BATCH, place("out.jsonl"), (char *)NULL);
            _exit(126);
        }
        int status;
        size_t length;
        assert_int_equal(waitpid(other, &status, 0), other);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        char *says = read_whole(dir, "other", &length);
        expect_contains(says, "another eyrie batch is writing it");
        free(says);
        assert_int_equal(kill(child, signals[i]), 0);
        assert_int_equal(kill(child, SIGCONT), 0);
        result r = finish(dir, child);
        expect_status(&r, 128 + signals[i]);
        expect_contains(r.err, "interrupted; the same command goes on");
        done(&r);
        char *all = read_whole(dir, "out.jsonl", &length);
        assert_true(length > 0 && all[length - 1] == '\n');
        free(all);
    }
    batch(0, place("out.jsonl"));
    batch(0, place("want.jsonl"));
    expect_same_files("out.jsonl", "want.jsonl");
}

/* An output is gone on with only where it belongs to the input, the model and the options, and is left alone otherwise. */
static void foreign(void **state)
{
    dir = *state;
    write_requests(6);
    batch(0, place("out.jsonl"));
    batch(0, place("want.jsonl"));
    expect_failure(run(dir, BATCH, place("out.jsonl"), "--temp", "0.5"), 1, "answers another line 1 than that of");
    expect_failure(run(dir, BATCH, place("out.jsonl"), "--weights", "q8"), 1, "answers another line 1 than that of");
    write_requests(5);
    expect_failure(run(dir, BATCH, place("out.jsonl")), 1, "answers line 6, and");
    write_text(dir, "in.jsonl", "\n{\"prompt\": \"a\"}\n");
    expect_failure(run(dir, BATCH, place("out.jsonl")), 1, "answers another line 2 than");
    write_requests(8);
    expect_same_files("out.jsonl", "want.jsonl");
    batch(0, place("out.jsonl"));               /* an input that has grown */
    assert_true(size_of("out.jsonl") > size_of("want.jsonl"));

    static const char *const others[] = { "a letter\n", "a letter", "{\"line\":0,\"hash\":\"0\",}\n", "{\"lines\": 1}\n", "\n" };
    for (size_t i = 0; i < COUNT(others); i++) {
        write_text(dir, "other", others[i]);
        expect_failure(run(dir, BATCH, place("other")), 1, "was not written by eyrie batch");
        assert_int_equal(size_of("other"), strlen(others[i]));
    }
    expect_failure(run(dir, BATCH, place("in.jsonl")), 1, "was not written by eyrie batch");
    result twice = run_as(dir, ((setting){ .program = "cat" }), place("want.jsonl"), place("want.jsonl"));
    write_text(dir, "other", twice.out);
    expect_failure(run(dir, BATCH, place("other")), 1, "twice");
    done(&twice);
}

/* A full disk: what fits stays and is whole; with room the rest follows. The limit is that of a file's size, and the first answer is
 * padded, since the driver needs files of some size too. */
static void full_disk(void **state)
{
    enum { PADDING = 4 << 20 };
    size_t length;
    char *whole, *padded;
    result r;

    dir = *state;
    write_requests(40);
    batch(0, place("want.jsonl"));
    whole = read_whole(dir, "want.jsonl", &length);
    size_t first = strcspn(whole, "\n");
    assert_non_null(padded = malloc(length + PADDING));
    memcpy(padded, whole, first);
    memset(padded + first, ' ', PADDING);
    memcpy(padded + first + PADDING, whole + first, length - first);
    write_file(dir, "want.jsonl", padded, length + PADDING);
    write_file(dir, "out.jsonl", padded, first + PADDING + 1);
    r = run_as(dir, ((setting){ .file_limit = PADDING + length / 2 }), BATCH, place("out.jsonl"));
    expect_status(&r, 1);
    expect_contains(r.err, "out.jsonl: File too large; what is in it stays");
    done(&r);
    size_t kept = size_of("out.jsonl");
    assert_true(kept > first + PADDING + 1 && kept <= PADDING + length / 2 && padded[kept - 1] == '\n');
    batch(0, place("out.jsonl"));
    expect_same_files("out.jsonl", "want.jsonl");
    free(whole);
    free(padded);

    r = run(dir, BATCH, "/dev/full");
    expect_status(&r, 1);
    expect_contains(r.err, "/dev/full: No space left on device");
    done(&r);
    r = run_as(dir, ((setting){ .output = "/dev/full" }), "batch", "-m", MODEL, place("in.jsonl"));
    expect_status(&r, 1);
    expect_contains(r.err, "writing to standard output: No space left on device");
    done(&r);
}

/* ------------------------------------------------------------------------------------------------------------ ranks */

#ifdef EY_MPIRUN
#define MPIRUN EY_MPIRUN
#else
#define MPIRUN NULL
#endif

/* Also where tests run as root, and have fewer processors than there are ranks. What the MPI library forgets to free, from parts of
 * itself that it has unloaded, cannot be told from what we might: what one process forgets, the other tests see. */
static void need_mpirun(void)
{
    const char *given = getenv("ASAN_OPTIONS");
    char options[1024];

    if (!MPIRUN) skip();
    assert_in_range(snprintf(options, sizeof options, "%s:detect_leaks=0", given ? given : ""), 1, sizeof options - 1);
    assert_int_equal(setenv("ASAN_OPTIONS", options, 1), 0);
    assert_int_equal(setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1) | setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1), 0);
    assert_int_equal(setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1) | setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1), 0);
}

static const setting under_mpirun = { .program = MPIRUN };

/* The same file, whoever has answered. */
static void ranks(void **state)
{
    static const char *const numbers[] = { "2", "4" };

    dir = *state;
    need_mpirun();
    write_requests(40);
    batch(0, place("want.jsonl"));
    for (size_t i = 0; i < COUNT(numbers); i++) {
        result r = run_as(dir, under_mpirun, "-n", numbers[i], EY_COMMAND, BATCH, place("out.jsonl"), "--slots", "2");
        expect_status(&r, 0);
        expect_contains(r.err, "40 of 40 lines");
        done(&r);
        expect_same_files("out.jsonl", "want.jsonl");
        assert_int_equal(unlink(place("out.jsonl")), 0);
    }
}

/* A rank without a device says so and takes no part, and if it is the first, it leads; without any device there is an end. */
static void ranks_without_device(void **state)
{
    char none[4200];

    dir = *state;
    need_mpirun();
    write_requests(10);
    batch(0, place("want.jsonl"));
    assert_true(snprintf(none, sizeof none, "OCL_ICD_VENDORS=%s", dir) > 0);
    for (int without = 0; without < 2; without++) {
        result r = run_as(dir, under_mpirun, "-n", "1", "env", without == 0 ? none : "A=b", EY_COMMAND, BATCH, place("out.jsonl"), ":",
                          "-n", "1", "env", without == 1 ? none : "A=b", EY_COMMAND, BATCH, place("out.jsonl"));
        expect_status(&r, 0);
        expect_contains(r.err, without ? "rank 1 on " : "rank 0 on ");
        expect_contains(r.err, " takes no part");
        expect_contains(r.err, "no OpenCL platform found");
        done(&r);
        expect_same_files("out.jsonl", "want.jsonl");
        assert_int_equal(unlink(place("out.jsonl")), 0);
    }
    result r = run_as(dir, under_mpirun, "-n", "2", "env", none, EY_COMMAND, BATCH, place("out.jsonl"));
    expect_status(&r, 1);
    expect_contains(r.err, "no rank has a device");
    done(&r);
}

/* Whichever rank is killed, the job ends, and the next one goes on. */
static void killed_ranks(void **state)
{
    dir = *state;
    need_mpirun();
    dice = 3;
    write_requests(160);
    batch(0, place("want.jsonl"));
    for (int rank = 0; rank < 2; rank++) {
        char script[] = "echo $$ > \"$0.$OMPI_COMM_WORLD_RANK\"; exec \"$@\"";      /* each tells its number */
        const char *pids = place("pid");
        const char *const args[] = { "-n", "2", "sh", "-c", script, pids, EY_COMMAND, BATCH, place("out.jsonl"), "--slots", "1", NULL };
        pid_t mpirun = start(dir, under_mpirun, args);
        size_t length;
        char *pid;

        assert_true(wait_for_bytes(mpirun, "out.jsonl", size_of("out.jsonl") + 1 + below(2000)));
        pid = read_whole(dir, rank ? "pid.1" : "pid.0", &length);
        assert_true(length > 0 && kill((pid_t)atol(pid), SIGKILL) == 0);
        free(pid);
        result r = finish(dir, mpirun);
        assert_true(r.status != 0);
        done(&r);
        assert_true(size_of("out.jsonl") < size_of("want.jsonl"));
    }
    result r = run_as(dir, under_mpirun, "-n", "3", EY_COMMAND, BATCH, place("out.jsonl"));
    expect_status(&r, 0);
    expect_contains(r.err, "lines are done; going on");
    done(&r);
    expect_same_files("out.jsonl", "want.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(answers), test_in_dir(company), test_in_dir(streams), test_in_dir(mistaken), test_in_dir(endless), test_in_dir(usage),
        test_in_dir(cut_off), test_in_dir(killed), test_in_dir(interrupted), test_in_dir(foreign), test_in_dir(full_disk),
        test_in_dir(ranks), test_in_dir(ranks_without_device), test_in_dir(killed_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
