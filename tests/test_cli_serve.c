/* test_cli_serve.c - `eyrie bench serve`: every request is answered and counted once, what came can be replayed, in the simulator, too, and
 * what the search finds is where limits are just kept. Not for how long anything takes. */
#include "testing.h"

#include "command.h"

#include <math.h>

/* A file in the test's directory; path_of has room for one path at a time. */
#define PATH(name, file)                                                                  \
    char name[4096];                                                                      \
    assert_in_range(snprintf(name, sizeof name, "%s/%s", (const char *)*state, file), 1, sizeof name - 1)

#define SERVE "bench", "serve", "-m", MODEL, "--slots", "4"
#define MANY  "--requests", "64", "--prompt-tokens", "60", "--output-tokens", "3"
#define FEW   "--requests", "12", "--prompt-tokens", "20-90", "--output-tokens", "2-9"

/* The row of the one record that a run has printed. */
static json_t *row_of(const json_t *record)
{
    json_t *rows = json_object_get(record, "rows");

    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(string(json_array_get(rows, 0), "test"), "serve");
    return json_array_get(rows, 0);
}

static double spread(const json_t *row, const char *what, const char *key) { return number(json_object_get(row, what), key); }

/* Sums of the columns of an arrivals file; how many lines. */
static size_t sum(const char *dir, const char *file, uint64_t *prompt, uint64_t *output)
{
    size_t length, n = 0;
    char *text = read_whole(dir, file, &length);

    *prompt = *output = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        double seconds;
        unsigned long long read, generated;
        if (*line == '#') continue;
        assert_int_equal(sscanf(line, "%lf,%llu,%llu,", &seconds, &read, &generated), 3);
        *prompt += read;
        *output += generated;
        n++;
    }
    free(text);
    return n;
}

/* As many tokens as came and were asked for, each counted once; the simulation of it has the same. */
static void expect_served(const json_t *row, size_t n, uint64_t prompt, uint64_t output)
{
    const json_t *simulated = json_object_get(row, "simulated");

    assert_true(number(row, "requests") == (double)n && number(simulated, "requests") == (double)n);
    assert_true(number(row, "prompt_tokens") == (double)prompt && number(simulated, "prompt_tokens") == (double)prompt);
    assert_true(number(row, "tokens") == (double)output && number(simulated, "tokens") == (double)output);
    assert_true(spread(row, "first_token", "n") == (double)n && spread(row, "whole", "n") == (double)n);
    assert_true(spread(row, "between_tokens", "n") == (double)(output - n));
    assert_true(spread(row, "whole", "most") >= spread(row, "first_token", "most"));
    assert_true(number(row, "seconds") >= spread(row, "whole", "most"));
    assert_true(number(row, "busy") > 0 && number(row, "busy") <= 1);
    assert_true(number(json_object_get(row, "ratios"), "tokens_per_second") > 0);
}

/* A run; what came to it comes once more, under another policy and on two lanes: the same texts. The simulator reads it, too. */
static void arrivals_are_replayed(void **state)
{
    PATH(arrivals, "arrivals.csv");
    json_t *first = expect_json(run(*state, SERVE, "--rate", "60", "--seed", "5", FEW, "--record-arrivals", arrivals, "--output", "json"));
    json_t *again = expect_json(run(*state, SERVE, "--arrivals", arrivals, "--policy", "fifo", "--lanes", "2", "--output", "json"));
    json_t *simulated = expect_json(run(*state, "sim", "-m", MODEL, "--on", "device,memory=100M", "--arrivals", arrivals, "--json"));
    const json_t *a = row_of(first), *b = row_of(again);
    uint64_t prompt, output;
    size_t n = sum(*state, "arrivals.csv", &prompt, &output);

    assert_int_equal(n, 12);
    assert_in_range(prompt, 12 * 20, 12 * 90);
    expect_served(a, n, prompt, output);
    expect_served(b, n, prompt, output);
    assert_string_equal(string(a, "checksum"), string(b, "checksum"));
    assert_string_equal(string(a, "scenario"), "server");
    assert_true(number(a, "rate") == 60 && number(a, "lanes") == 1 && number(b, "lanes") == 2);
    assert_true(number(b, "handovers") == 12);
    assert_true(number(simulated, "requests") == 12 && number(simulated, "tokens") == (double)output);
    json_decref(first);
    json_decref(again);
    json_decref(simulated);
}

/* One after the other there is never anybody without a slot, and nobody shares a step; all at once, whoever has no slot waits. The
 * texts are the same, and so are those in a file. */
static void scenarios(void **state)
{
    PATH(file, "record.json");
    json_t *single = expect_json(run(*state, SERVE, "--scenario", "single", FEW, "--output", "json"));
    result r = run(*state, SERVE, "--scenario", "offline", FEW, "-o", file);
    json_error_t error;
    json_t *offline = json_load_file(file, 0, &error);
    const json_t *a = row_of(single), *b = row_of(offline);

    expect_status(&r, 0);
    expect_contains(r.out, "12 requests in ");
    expect_contains(r.out, "| to the first token");
    expect_contains(r.out, "beside a simulation");
    expect_contains(r.out, "Scenario offline; policy roofline, 1 lane");
    done(&r);
    expect_served(a, 12, (uint64_t)number(a, "prompt_tokens"), (uint64_t)number(a, "tokens"));
    expect_served(b, 12, (uint64_t)number(a, "prompt_tokens"), (uint64_t)number(a, "tokens"));
    assert_string_equal(string(a, "checksum"), string(b, "checksum"));
    assert_true(number(a, "most_waiting") == 0 && number(b, "most_waiting") == 12 - 4);
    assert_true(number(json_object_get(a, "simulated"), "most_waiting") == 0);
    assert_true(number(json_object_get(b, "simulated"), "most_waiting") == 12 - 4);
    assert_true(number(a, "prefill_steps") == 12 && number(a, "decode_steps") == number(a, "tokens") - 12);
    assert_true(number(b, "decode_steps") < number(a, "decode_steps"));
    r = run(*state, "bench", "show", file);
    expect_status(&r, 0);
    expect_contains(r.out, "12 requests in ");
    done(&r);
    json_decref(single);
    json_decref(offline);
}

/* Ctrl-C: what was done until then is printed, and what came is written. */
static void interrupts(void **state)
{
    PATH(arrivals, "arrivals.csv");
    PATH(file, "out.json");
    const char *const args[] = { SERVE, "--rate", "200", "--requests", "1000000", "--prompt-tokens", "20", "--output-tokens", "4",
                                 "--record-arrivals", arrivals, "-o", file, "--trace", "/dev/null", NULL };
    json_error_t error;
    uint64_t prompt, output;
    json_t *record;
    pid_t child;
    result r;

    child = start(*state, (setting){ 0 }, args);
    sleep(8);           /* warm, that is after one; cold, kernels are built. Whenever it comes, it ends in the same way */
    assert_int_equal(kill(child, SIGINT), 0);
    r = finish(*state, child);
    expect_status(&r, 128 + SIGINT);
    expect_contains(r.out, "interrupted");
    done(&r);
    record = json_load_file(file, 0, &error);
    assert_true(json_is_true(json_object_get(record, "interrupted")));
    if (json_array_size(json_object_get(record, "rows")) > 0 && json_object_get(row_of(record), "requests"))
        assert_true((double)sum(*state, "arrivals.csv", &prompt, &output) >= number(row_of(record), "requests"));
    json_decref(record);
}

/* On the simulated clock every try can be repeated: at the rate found the limits are kept, at the next one tried they are not. */
static void the_search_brackets(void **state)
{
    static const char *const on = "bandwidth=10G,flops=100G,memory=1G";
    json_t *found = expect_json(run(*state, "sim", "-m", MODEL, "--on", on, "--search", "--first-token", "0.05", "--between-tokens", "0.01",
                                    "--requests", "500", "--json"));
    const json_t *search = json_object_get(found, "search"), *tries = json_object_get(search, "tries"), *try;
    double rate = number(search, "rate"), above = INFINITY;
    size_t i;

    json_array_foreach(tries, i, try) {
        bool met = json_is_true(json_object_get(try, "met"));
        double at = number(try, "rate");
        char text[32];
        assert_true(snprintf(text, sizeof text, "%.6g", at) > 0);       /* options are floats */
        json_t *alone = expect_json(run(*state, "sim", "-m", MODEL, "--on", on, "--rate", text, "--requests", "500", "--json"));
        assert_true(fabs(spread(alone, "first_token", "p99") / number(try, "first_token") - 1) < 0.02);
        assert_true(met == (number(try, "first_token") <= 0.05 && number(try, "between_tokens") <= 0.01));
        assert_true(met ? at <= rate : at > rate);
        if (!met) above = fmin(above, at);
        json_decref(alone);
    }
    assert_true(i >= 3 && above <= 1.051 * rate);
    assert_true(spread(found, "first_token", "p99") <= 0.05);
    json_decref(found);
}

/* The engine is searched likewise. The limit is a third of what requests wait that come all at once, which is many times what they
 * wait alone, on any device; what no token keeps is kept at no rate. */
static void engines_are_searched(void **state)
{
    json_t *offline = expect_json(run(*state, SERVE, "--scenario", "offline", MANY, "--output", "json")), *record;
    double limit = spread(row_of(offline), "first_token", "p99") / 3;
    const json_t *row, *search;
    char text[32];

    assert_true(snprintf(text, sizeof text, "%.6g", limit) > 0);
    record = expect_json(run(*state, SERVE, "--search", "--first-token", text, MANY, "--output", "json"));
    row = row_of(record);
    search = json_object_get(row, "search");
    assert_true(number(row, "rate") > 0 && number(search, "rate") == number(row, "rate"));
    assert_true(spread(row, "first_token", "p99") <= 1.001 * limit);
    assert_true(json_array_size(json_object_get(search, "tries")) >= 3);
    expect_served(row, 64, 64 * 60, 64 * 3);
    json_decref(offline);
    json_decref(record);
    result r = run(*state, SERVE, "--search", "--between-tokens", "1e-9", "--rate", "1e5", "--requests", "2", "--prompt-tokens", "8",
                   "--output-tokens", "2");
    expect_status(&r, 1);
    expect_contains(r.err, "requests a second keep the limits");
    done(&r);
}

static void says_what_is_wrong(void **state)
{
    write_text(*state, "bad.csv", "0,10,5\n1,many,5\n");
    write_text(*state, "empty.csv", "# nothing\n");
    write_text(*state, "long.csv", "0,10,5\n1,90,20\n");
    PATH(bad, "bad.csv");
    PATH(empty, "empty.csv");
    PATH(longer, "long.csv");
    PATH(absent, "absent.csv");
    PATH(nowhere, "none/arrivals.csv");
    const struct { int status; const char *says, *args[8]; } served[] = {
        { 1, "bad.csv, line 2: no request", { "--arrivals", bad } },
        { 1, "empty.csv: there are no requests", { "--arrivals", empty } },
        { 1, "absent.csv: No such file", { "--arrivals", absent } },
        { 1, "none/arrivals.csv: No such file", { "--rate", "1", "--record-arrivals", nowhere } },
        { 1, "request 2 has 90 tokens to read and 20 to generate", { "--arrivals", longer, "--context", "100" } },
        { 2, "leaves nothing to --rate", { "--arrivals", bad, "--rate", "1" } },
        { 2, "when do requests come", { "--scenario", "server" } },
        { 2, "of the scenario server, not offline", { "--scenario", "offline", "--rate", "3" } },
        { 2, "--search needs a limit", { "--search" } },
        { 2, "limits of --search", { "--first-token", "1" } },
        { 2, "not one of single|offline|server", { "--scenario", "multi" } },
        { 2, "'x' is no number of tokens", { "--prompt-tokens", "x" } },
        { 2, "-p is not for serve", { "-p", "512" } },
        { 2, "a list for --weights is not for serve", { "--weights", "q8,bf16" } },
    };

    expect_failure(run(*state, "bench", "serve", "--rate", "1"), 2, "no model to serve");
    for (size_t i = 0; i < COUNT(served); i++) {
        const char *const *a = served[i].args;
        expect_failure(run(*state, SERVE, a[0], a[1], a[2], a[3]), served[i].status, served[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(arrivals_are_replayed), test_in_dir(scenarios), test_in_dir(interrupts), test_in_dir(the_search_brackets),
        test_in_dir(engines_are_searched), test_in_dir(says_what_is_wrong),
    };
    return cmocka_run_group_tests_name("serving under load", tests, NULL, NULL);
}
