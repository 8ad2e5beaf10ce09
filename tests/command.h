/* command.h - what tests of the command share: running the built program, and what it left. After testing.h. Every run
 * keeps its files in the test's directory; the next one overwrites them. */
#ifndef COMMAND_H
#define COMMAND_H

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define MODEL EY_SOURCE_DIR "/models/shakespeare"
#define GOLDEN(name) EY_SOURCE_DIR "/tests/golden/" name

/* How to run it, besides the arguments. */
typedef struct setting {
    const char *input;          /* on standard input; NULL: nothing */
    const char *input_file;     /* that is standard input instead, a pipe perhaps; NULL: none */
    const char *output;         /* file that is standard output; NULL: kept for the result. "": closed */
    const char *vendors;        /* directory in which the OpenCL loader looks for platforms; NULL: as usual */
    const char *cache, *home;   /* XDG_CACHE_HOME and HOME; NULL: as usual */
    const char *program;        /* that runs instead, such as one that runs the command; NULL: the command */
    size_t      file_limit;     /* bytes that a file can have; 0: as usual */
} setting;

typedef struct result {
    int    status;              /* of exiting, or 128 + signal */
    char  *out, *err;
    size_t out_length;
} result;

static inline void connect_to(int fd, const char *path, int flags)
{
    int opened = open(path, flags, 0666);
    if (opened < 0 || dup2(opened, fd) < 0) _exit(126);
    close(opened);
}

/* args: after the program's name, NULL last. Its output goes to the files "out" and "err" of `dir`. */
static inline pid_t start(const char *dir, setting how, const char *const *args)
{
    char paths[3][4096];
    char *argv[48] = { (char *)"eyrie" };
    const char *const names[] = { "in", "out", "err" };
    pid_t child;

    for (size_t i = 0; args[i]; i++) {
        assert_true(i + 2 < COUNT(argv));
        argv[i + 1] = (char *)args[i];
    }
    for (size_t i = 0; i < 3; i++) assert_true(snprintf(paths[i], sizeof *paths, "%s/%s", dir, names[i]) > 0);
    write_text(dir, "in", how.input ? how.input : "");
    (void)unlink(paths[1]);     /* or who waits for output would take the last run's for this one's */
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        connect_to(STDIN_FILENO, how.input_file ? how.input_file : paths[0], O_RDONLY);
        connect_to(STDERR_FILENO, paths[2], O_WRONLY | O_CREAT | O_TRUNC);
        connect_to(STDOUT_FILENO, how.output && *how.output ? how.output : paths[1], O_WRONLY | O_CREAT | O_TRUNC);
        if (how.output && !*how.output) close(STDOUT_FILENO);
        if (how.vendors && setenv("OCL_ICD_VENDORS", how.vendors, 1) != 0) _exit(126);
        if (how.cache && setenv("XDG_CACHE_HOME", how.cache, 1) != 0) _exit(126);
        if (how.home && setenv("HOME", how.home, 1) != 0) _exit(126);
        if (how.file_limit && setrlimit(RLIMIT_FSIZE, &(struct rlimit){ how.file_limit, how.file_limit }) != 0) _exit(126);
        alarm(600);     /* more than any run takes, compiling every kernel included: one that hangs, or that a failed test forgot, ends */
        execvp(how.program ? how.program : EY_COMMAND, argv);
        _exit(126);
    }
    return child;
}

static inline char *read_whole(const char *dir, const char *name, size_t *length)
{
    FILE *f = fopen(path_of(dir, name), "rb");
    char *bytes = NULL;

    *length = 0;
    if (!f) return calloc(1, 1);
    do {
        bytes = realloc(bytes, *length + 65537);
        assert_non_null(bytes);
        *length += fread(bytes + *length, 1, 65536, f);
    } while (!feof(f) && !ferror(f));
    assert_false(ferror(f));
    fclose(f);
    bytes[*length] = '\0';
    return bytes;
}

static inline result finish(const char *dir, pid_t child)
{
    result r = { 0 };
    size_t ignored;
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = read_whole(dir, "out", &r.out_length);
    r.err = read_whole(dir, "err", &ignored);
    return r;
}

static inline void done(result *r)
{
    free(r->out);
    free(r->err);
}

/* run_as(dir, setting, "run", "-m", ...) and the same with nothing special. */
#define run_as(dir, how, ...) finish(dir, start(dir, how, (const char *const[]){ __VA_ARGS__, NULL }))
#define run(dir, ...) run_as(dir, (setting){ 0 }, __VA_ARGS__)

static inline void expect_status(const result *r, int status)
{
    if (r->status != status) fail_msg("exit status %d, not %d; standard error: %s", r->status, status, r->err);
}

static inline void expect_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* Failed as it should: the status, one line that begins with the command's name and contains `says`, no output.
 * Frees r. */
static inline void expect_failure(result r, int status, const char *says)
{
    const char *newline = strchr(r.err, '\n');

    expect_status(&r, status);
    assert_string_equal(r.out, "");
    expect_contains(r.err, says);
    if (strncmp(r.err, "eyrie: ", 7) != 0 || !newline || newline[1]) fail_msg("not one line of the command: %s", r.err);
    done(&r);
}

/* The JSON object that a successful run printed. Frees r. */
static inline json_t *expect_json(result r)
{
    json_error_t error;
    json_t *object;

    expect_status(&r, 0);
    object = json_loadb(r.out, r.out_length, JSON_REJECT_DUPLICATES, &error);
    if (!object) fail_msg("not JSON: %s in %s", error.text, r.out);
    assert_true(json_is_object(object));
    assert_int_equal(r.out[r.out_length - 1], '\n');
    done(&r);
    return object;
}

static inline double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("%s is not a number", key);
    return json_number_value(value);
}

static inline const char *string(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) fail_msg("%s is not a string", key);
    return json_string_value(value);
}

static inline void expect_ids(const json_t *array, const int32_t *ids, size_t n)
{
    assert_true(json_is_array(array));
    assert_int_equal(json_array_size(array), n);
    for (size_t i = 0; i < n; i++) assert_int_equal(json_integer_value(json_array_get(array, i)), ids[i]);
}

/* Is there a device? Without one the tests that need one are skipped. */
static inline bool any_device(const char *dir)
{
    static int known = -1;

    if (known < 0) {
        result r = run(dir, "devices");
        known = r.status == 0;
        done(&r);
    }
    return known == 1;
}

/* The object in a file of JSON. */
static inline json_t *load_json(const char *dir, const char *name)
{
    json_error_t error;
    json_t *object = json_load_file(path_of(dir, name), JSON_REJECT_DUPLICATES, &error);

    if (!object) fail_msg("%s: %s", name, error.text);
    return object;
}

/* A path for as long as the test runs; path_of has but one. */
#define PATH_IN(dir, variable, name)                                             \
    char variable[4096];                                                         \
    (void)snprintf(variable, sizeof variable, "%s", path_of(dir, name))

#endif
