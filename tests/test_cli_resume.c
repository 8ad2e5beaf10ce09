/* test_cli_resume.c - files of requests: no answer is lost or comes twice, whatever ends the command. */
#include "testing.h"

#include "command.h"

#include "batches.h"
#include "dice.h"

/* Wherever a run was killed, the output is a beginning of what it would have been; from all of them the next goes on. */
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
        size_t first = strcspn(whole, "\n"), kept[] = { 0, 1, 9, first, first + 1, length - 1, below((uint32_t)length),
                                                        below((uint32_t)length) };
        write_file(dir, "out.jsonl", whole, kept[i]);
        batch(0, place("out.jsonl"), "--slots", "3");
        expect_same_files("out.jsonl", "want.jsonl");
    }
    free(whole);
}

/* Killed again and again, at moments that its own output tells, until it is done; in the order of completion, in which
 * lines are missing in between. */
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
    expect_same_lines("out.jsonl", "want.jsonl");
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

/* An output is gone on with where it belongs to the input, the model and the options, and is left alone otherwise. */
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

    static const char *const others[] = { "a letter\n", "a letter", "{\"line\":0,\"hash\":\"0\",}\n", "{\"lines\": 1}\n",
                                          "\n" };
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

/* A full disk: what fits stays and is whole; with room the rest follows. The limit is that of a file's size, and the
 * first answer is padded, since the driver needs files of some size too. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(cut_off), test_in_dir(killed), test_in_dir(interrupted), test_in_dir(foreign),
        test_in_dir(full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
