/* test_cli_ranks.c - files of requests that many processes answer, under mpirun. Skipped in a build without MPI. */
#include "testing.h"

#include "command.h"

#include "batches.h"
#include "dice.h"

#ifdef EY_MPIRUN
#define MPIRUN EY_MPIRUN
#else
#define MPIRUN NULL
#endif

/* Also where tests run as root, and have fewer processors than there are ranks. What the MPI library forgets to free, from
 * parts of itself that it has unloaded, cannot be told from what we might: the other tests see what a process forgets. */
static void need_mpirun(void)
{
    static const char *const names[] = { "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                                         "OMPI_MCA_rmaps_base_oversubscribe" };
    const char *given = getenv("ASAN_OPTIONS");
    char options[1024];

    if (!MPIRUN) skip();
    for (size_t i = 0; i < COUNT(names); i++) assert_int_equal(setenv(names[i], "1", 1), 0);
    assert_int_equal(setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1), 0);
    assert_int_equal(setenv("OMPI_MCA_plm", "isolated", 1), 0);     /* no ssh is looked for */
    assert_true(snprintf(options, sizeof options, "%s:detect_leaks=0", given ? given : "") < (int)sizeof options);
    assert_int_equal(setenv("ASAN_OPTIONS", options, 1), 0);
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

/* A rank without a device says so and takes no part; the first leads all the same; without any device there is an end. */
static void ranks_without_device(void **state)
{
    char none[4200];

    dir = *state;
    need_mpirun();
    write_requests(10);
    batch(0, place("want.jsonl"));
    assert_true(snprintf(none, sizeof none, "OCL_ICD_VENDORS=%s", dir) > 0);
    for (int without = 0; without < 2; without++) {
        result r = run_as(dir, under_mpirun,
                          "-n", "1", "env", without == 0 ? none : "A=b", EY_COMMAND, BATCH, place("out.jsonl"), ":",
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

/* Whichever rank is killed, the job ends, and the next one goes on. So many requests, for seconds, that each is killed long before
 * the last is answered, on a busy machine, too. */
static void killed_ranks(void **state)
{
    dir = *state;
    need_mpirun();
    dice = 3;
    write_requests(800);
    batch(0, place("want.jsonl"));
    for (int rank = 0; rank < 2; rank++) {
        char script[] = "echo $$ > \"$0.$OMPI_COMM_WORLD_RANK\"; exec \"$@\"";      /* each tells its number */
        const char *pids = place("pid");
        const char *const args[] = { "-n", "2", "sh", "-c", script, pids, EY_COMMAND, BATCH, place("out.jsonl"), "--slots",
                                     "1", NULL };
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
        test_in_dir(ranks), test_in_dir(ranks_without_device), test_in_dir(killed_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
