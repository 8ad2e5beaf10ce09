/* test_cli_sim.c - `eyrie sim`: what it takes, what it says is wrong, what a cluster does that can be said in advance. Whether
 * the clock is right is test_sim's business. No device. */
#include "testing.h"

#include "command.h"

/* The demo model on a device that reads in 1 s a chunk, more or less. */
#define SIM "sim", "-m", MODEL
#define ON  "bandwidth=1G,flops=1G,memory=1G"

static double spread(const json_t *object, const char *what, const char *key) { return number(json_object_get(object, what), key); }

/* --json of the requests in `file`, which lies in the test's directory. */
static result run_file(const char *dir, const char *file)
{
    char path[4096];

    snprintf(path, sizeof path, "%s", path_of(dir, file));
    return run(dir, SIM, "--on", ON, "-f", path, "--policy", "fifo", "--json");
}

/* What is drawn is the same for the same seed; all of it is answered; a file of the same requests gives the same. */
static void requests_are_answered(void **state)
{
    json_t *a = expect_json(run(*state, SIM, "--on", ON, "--rate", "2", "--requests", "300", "--prompt-tokens", "20-400",
                                "--output-tokens", "40~0.5", "--seed", "3", "--json"));
    json_t *again = expect_json(run(*state, SIM, "--on", ON, "--rate", "2", "--requests", "300", "--prompt-tokens", "20-400",
                                    "--output-tokens", "40~0.5", "--seed", "3", "--json"));
    json_t *other = expect_json(run(*state, SIM, "--on", ON, "--rate", "2", "--requests", "300", "--prompt-tokens", "20-400",
                                    "--output-tokens", "40~0.5", "--seed", "4", "--json"));

    assert_true(json_equal(a, again));
    assert_false(json_equal(a, other));
    assert_true(number(a, "requests") == 300);
    assert_in_range(number(a, "prompt_tokens"), 300 * 190, 300 * 230);     /* the mean is 210, its deviation 6 */
    assert_true(spread(a, "first_token", "n") == 300);
    assert_true(spread(a, "between_tokens", "n") == number(a, "tokens") - 300);
    assert_true(spread(a, "first_token", "p50") <= spread(a, "first_token", "p99"));
    json_decref(a);
    json_decref(again);
    json_decref(other);
}

static void recorded_requests(void **state)
{
    write_text(*state, "arrivals.csv", "# three\n0, 100, 3\n\n0.5,200,1\n0.5,64,2,1\n");
    json_t *a = expect_json(run_file(*state, "arrivals.csv"));

    assert_true(number(a, "requests") == 3);
    assert_true(number(a, "prompt_tokens") == 364);
    assert_true(number(a, "tokens") == 6);
    assert_string_equal(string(a, "policy"), "fifo");
    json_decref(a);
}

/* Two devices answer what overloads one in half the time; apart, a state a request goes from one to the other. */
static void clusters(void **state)
{
    json_t *one = expect_json(run(*state, SIM, "--on", ON, "--requests", "200", "--json"));
    json_t *two = expect_json(run(*state, SIM, "--on", ON ",count=2", "--requests", "200", "--json"));
    json_t *apart = expect_json(run(*state, SIM, "--on", ON ",phase=prefill,link=1G", "--on", ON ",link=1G,phase=decode", "--requests",
                                    "200", "--json"));
    double ratio = number(one, "seconds") / number(two, "seconds");

    assert_true(ratio > 1.7 && ratio < 2.05);       /* steps of fewer rows do less with the weights that they read */
    assert_true(number(one, "handovers") == 0);
    assert_true(number(apart, "handovers") == 200);
    assert_true(number(apart, "seconds") < number(one, "seconds"));
    json_decref(one);
    json_decref(two);
    json_decref(apart);
}

static void says_what_is_wrong(void **state)
{
    write_text(*state, "bad.csv", "0,10,5\n1,many,5\n");
    write_text(*state, "back.csv", "1,10,5\n0,10,5\n");
    write_text(*state, "empty.csv", "# nothing\n");
    const struct { int status; const char *says, *args[8]; } cases[] = {
        { 2, "--on bandwidth=60G", { "--rate", "1" } },
        { 2, "there is no 'speed'", { "--on", "speed=3" } },
        { 2, "'memory' has no value", { "--on", "bandwidth=1G,memory" } },
        { 2, "bandwidth=fast is no number", { "--on", "bandwidth=fast" } },
        { 2, "phase=train", { "--on", ON ",phase=train" } },
        { 2, "count=0", { "--on", ON ",count=0" } },
        { 1, "bandwidth of 0", { "--on", "flops=1G,memory=1G" } },
        { 1, "link of 0", { "--on", ON ",phase=prefill", "--on", ON ",phase=decode" } },
        { 1, "no device decodes", { "--on", ON ",phase=prefill,link=1" } },
        { 1, "the weights take", { "--on", "bandwidth=1G,flops=1G,memory=1M" } },
        { 2, "'x' is no number of tokens", { "--on", ON, "--prompt-tokens", "x" } },
        { 2, "'9-5' is no number of tokens", { "--on", ON, "--output-tokens", "9-5" } },
        { 2, "leaves nothing to --rate", { "--on", ON, "--rate", "1", "-f", "bad.csv" } },
        { 2, "roofline|chunked|fifo", { "--on", ON, "--policy", "random" } },
    };
    const struct { const char *file, *says; } files[] = {
        { "bad.csv", "line 2: no request" }, { "back.csv", "line 2: a request at 0 s" }, { "empty.csv", "no requests" },
        { "absent.csv", "No such file" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const *a = cases[i].args;
        expect_failure(run(*state, SIM, a[0], a[1], a[2], a[3], a[4], a[5]), cases[i].status, cases[i].says);
    }
    for (size_t i = 0; i < COUNT(files); i++)
        expect_failure(run_file(*state, files[i].file), 1, files[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(requests_are_answered), test_in_dir(recorded_requests), test_in_dir(clusters), test_in_dir(says_what_is_wrong),
    };
    return cmocka_run_group_tests_name("cli sim", tests, NULL, NULL);
}
