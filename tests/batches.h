/* batches.h - what tests of `eyrie batch` share: files of requests and answers in the test's directory. After testing.h
 * and command.h. */
#ifndef BATCHES_H
#define BATCHES_H

#include <sys/stat.h>

static const char *dir;             /* of the test */

/* The path of a file there, for as long as the test runs. */
static inline const char *place(const char *name)
{
    static char paths[8][4096];
    static unsigned turn;
    char *path = paths[turn++ % COUNT(paths)];

    strcpy(path, path_of(dir, name));
    return path;
}

static inline size_t size_of(const char *name)
{
    struct stat st;
    return stat(path_of(dir, name), &st) == 0 ? (size_t)st.st_size : 0;
}

static inline void expect_same_files(const char *a, const char *b)
{
    size_t m, n;
    char *x = read_whole(dir, a, &m), *y = read_whole(dir, b, &n);

    if (m != n || memcmp(x, y, n) != 0) fail_msg("%s is not %s: %zu and %zu bytes\n%s\n%s", a, b, m, n, x, y);
    free(x);
    free(y);
}

/* Line i of a file, from 0, as JSON. */
static inline json_t *line_of(const char *name, size_t i)
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

/* eyrie batch on "in.jsonl" of the directory; what follows is the output and options. batch expects a status. */
#define BATCH "batch", "-m", MODEL, place("in.jsonl"), "-o"
#define batch(status, ...) expect_end(run(dir, BATCH, __VA_ARGS__), status)

static inline void expect_end(result r, int status)
{
    expect_status(&r, status);
    assert_string_equal(r.out, "");
    done(&r);
}

/* Requests of all kinds: short, some that share their prompts. */
static inline void write_requests(size_t n)
{
    FILE *f = fopen(path_of(dir, "in.jsonl"), "wb");

    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "{\"id\": %zu, \"prompt\": \"Scene %zu.\\nROMEO:\\n\", \"max_tokens\": %zu, \"temperature\": 0.8, "
                "\"seed\": %zu, \"n\": %zu%s}\n", i, i / 4, 2 + i % 5, i, 1 + i % 3,
                i % 4 == 0 ? ", \"continuations\": [\"yes\", \" no\"]" : "");
    assert_int_equal(fclose(f), 0);
}

/* The same lines, in order or not: all begin with their number. */
static inline void expect_same_lines(const char *a, const char *b)
{
    result sorted = run_as(dir, ((setting){ .program = "sort" }), "-V", place(a));
    size_t length;
    char *lines = read_whole(dir, b, &length);

    expect_status(&sorted, 0);
    assert_string_equal(sorted.out, lines);
    free(lines);
    done(&sorted);
}

/* Waits until the output has some bytes, or the command has ended. */
static inline bool wait_for_bytes(pid_t child, const char *name, size_t bytes)
{
    siginfo_t what = { 0 };

    while (size_of(name) < bytes) {
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
        if (waitid(P_PID, (id_t)child, &what, WEXITED | WNOHANG | WNOWAIT) == 0 && what.si_pid == child) return false;
    }
    return true;
}

#endif
