/* test_cli_serving.c - the command where it runs many texts at once: samples and continuations of one prompt, lanes, policies,
 * traces. Whether texts are right is test_serving's business. */
#include "testing.h"

#include "command.h"

#include <math.h>

#define PROMPT "ROMEO:\nWhat light is this that breaks through yonder window, and who calls my name so late?\n\nJULIET:\n"

static const json_t *samples_of(const json_t *object, size_t n)
{
    const json_t *list = json_object_get(object, "samples");
    assert_int_equal(json_array_size(list), n);
    return list;
}

/* However many slots there are, sample i is the same; the prompt is read once; the first is what `run` gives alone. */
static void samples(void **state)
{
    json_t *few = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "12", "--samples", "6", "--seed", "4", "--json"));
    json_t *slow = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "12", "--samples", "6", "--seed", "4", "--json",
                                   "--slots", "2", "--lanes", "2"));
    json_t *alone = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "12", "--temp", "1", "--seed", "4", "--json"));
    result text = run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "12", "--samples", "2", "--seed", "4");
    const json_t *list = samples_of(few, 6), *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    char expected[1024];

    assert_true(json_equal(list, samples_of(slow, 6)));
    assert_true(json_equal(json_object_get(first, "tokens"), json_object_get(alone, "tokens")));
    assert_string_equal(string(first, "text"), string(alone, "text"));
    assert_string_equal(string(first, "finish"), "length");
    assert_string_not_equal(string(first, "text"), string(second, "text"));
    assert_true(number(json_object_get(few, "prefill"), "tokens") == number(few, "prompt_tokens"));
    assert_true(number(json_object_get(slow, "prefill"), "tokens") == number(few, "prompt_tokens"));
    assert_true(number(few, "reused_tokens") == 5 * number(few, "prompt_tokens"));
    expect_status(&text, 0);
    snprintf(expected, sizeof expected, "--- 1 of 2\n%s\n--- 2 of 2\n%s\n", string(first, "text"), string(second, "text"));
    assert_string_equal(text.out, expected);
    done(&text);
    json_decref(few);
    json_decref(slow);
    json_decref(alone);
}

/* "2,5,9" of two arrays of tokens. */
static void join(char *out, size_t size, const json_t *a, const json_t *b)
{
    size_t at = 0, n = json_array_size(a), all = n + json_array_size(b);

    for (size_t i = 0; i < all; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%d", i ? "," : "",
                               (int)json_integer_value(i < n ? json_array_get(a, i) : json_array_get(b, i - n)));
    assert_true(at < size);
}

/* Log-probabilities of what may follow are those that it has in one text with what it follows. */
static void continuations(void **state)
{
    json_t *prompt = expect_json(run(*state, "score", "-m", MODEL, "-p", "To be, or ", "--json"));
    json_t *object = expect_json(run(*state, "score", "-m", MODEL, "-p", "To be, or ", "--continuation", "not to be", "--compute",
                                     "f32", "--continuation", "to go", "--continuation", "not to be", "--slots", "2", "--json"));
    result text = run(*state, "score", "-m", MODEL, "-p", "To be, or ", "--continuation", "not to be");
    const json_t *list = json_object_get(object, "continuations"), *a = json_array_get(list, 0), *b = json_array_get(list, 1);
    size_t n = json_array_size(json_object_get(a, "tokens")), before = json_array_size(json_object_get(prompt, "tokens"));
    double sum = 0;
    char ids[512];

    assert_int_equal(json_array_size(list), 3);
    assert_true(json_equal(a, json_array_get(list, 2)));
    assert_string_equal(string(b, "text"), "to go");
    assert_true(number(json_object_get(object, "prefill"), "tokens")
                == number(object, "prompt_tokens") + 2 * (double)n + (double)json_array_size(json_object_get(b, "tokens")));

    join(ids, sizeof ids, json_object_get(prompt, "tokens"), json_object_get(a, "tokens"));
    json_t *whole = expect_json(run(*state, "score", "-m", MODEL, "--tokens", ids, "--compute", "f32", "--json"));
    assert_true(n > 0 && json_array_size(json_object_get(a, "logprobs")) == n);
    for (size_t i = 0; i < n; i++) {            /* read in other parts, f32 is within 1e-5 of the largest logit */
        double got = json_number_value(json_array_get(json_object_get(a, "logprobs"), i));
        assert_true(fabs(got - json_number_value(json_array_get(json_object_get(whole, "logprobs"), before + i))) < 1e-3);
        sum += got;
    }
    assert_true(fabs(sum - number(a, "logprob")) < 1e-6);       /* numbers have nine digits */
    expect_status(&text, 0);
    expect_contains(text.out, "logprob -");
    expect_contains(text.out, "  not to be\n");
    done(&text);
    json_decref(prompt);
    json_decref(object);
    json_decref(whole);
}

/* The same text with every policy, with two lanes, and traced. */
static void schedules(void **state)
{
    char path[4096];
    json_t *want = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "20", "--json"));
    static const char *const policies[] = { "fifo", "chunked", "roofline" };

    assert_true(snprintf(path, sizeof path, "%s/trace", (const char *)*state) > 0);
    for (size_t i = 0; i < COUNT(policies); i++) {
        json_error_t error;
        json_t *got = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT, "-n", "20", "--json", "--policy", policies[i],
                                      "--lanes", i % 2 ? "2" : "1", "--token-interval", "0.05", "--trace", path));
        json_t *trace = json_load_file(path, 0, &error);
        assert_string_equal(string(want, "text"), string(got, "text"));
        assert_true(json_is_array(trace) && json_array_size(trace) > 100);
        json_decref(trace);
        json_decref(got);
    }
    json_decref(want);
}

/* Later commands begin with what the first has read; the text does not show it. */
static void prompts_in_a_directory(void **state)
{
    json_t *plain = expect_json(run(*state, "run", "-m", MODEL, "-p", PROMPT PROMPT, "-n", "12", "--json"));
    double n = number(plain, "prompt_tokens");

    assert_true(n > 64 && number(plain, "reused_tokens") == 0);
    for (int i = 0; i < 3; i++) {
        json_t *got = expect_json(run(*state, "run", "-m", MODEL, "-p", i < 2 ? PROMPT PROMPT : PROMPT PROMPT "ROMEO:\n", "-n", "12", "--json",
                                      "--prefix-dir", *state, "--prefix-spacing", "64", "--lanes", i == 1 ? "2" : "1"));
        double read = number(json_object_get(got, "prefill"), "tokens"), reused = number(got, "reused_tokens");
        assert_true(read + reused == number(got, "prompt_tokens"));
        assert_true(reused == (i == 0 ? 0 : i == 1 ? n : floor(n / 64) * 64));
        if (i < 2) assert_true(json_equal(json_object_get(got, "tokens"), json_object_get(plain, "tokens")));
        json_decref(got);
    }
    json_decref(plain);
    result r = run(*state, "run", "-m", MODEL, "-p", PROMPT PROMPT, "-n", "1", "--prefix-dir", *state);
    expect_status(&r, 0);
    expect_contains(r.err, "from the prefix cache: ");
    done(&r);
}

/* What the prompts of a file share is read once, and the answers are the same. */
static void batches_share_prompts(void **state)
{
    char in[4200], out[2][4200];
    size_t length[2];
    FILE *f;

    strcpy(in, path_of(*state, "in.jsonl"));
    f = fopen(in, "w");
    assert_non_null(f);
    for (int i = 0; i < 24; i++)
        fprintf(f, "{\"tokens\": [2%s,%d,%d], \"max_tokens\": 5, \"n\": %d}\n", ",5,9,40,77,8,123,600" ",5,9,40,77,8,123,600"
                ",11,12,13,14,15,16,17" ",5,9,40,77,8,123,600" ",5,9,40,77,8,123,600" ",30,31,32,33,34,35,36" ",5,9,40,77,8,123,600"
                ",50,51,52,53,54,55,56" ",60,61,62,63,64,65,66" ",70,71,72,73,74,75,76", 100 + i, 200 - i, 1 + i % 3);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(out[i], sizeof out[i], "%s", path_of(*state, i ? "with.jsonl" : "without.jsonl"));
        result r = run(*state, "batch", "-m", MODEL, in, "-o", out[i], "--slots", "4", i ? "--prefix-cache" : "--max-alloc", "64M");
        const char *reused = strstr(r.err, "of which ");
        expect_status(&r, 0);
        assert_non_null(reused);
        /* Of 73 tokens, 64 are shared, and read by the first, or by two: the second comes when the first's step has begun. Samples
         * after the first, on average one a line, are forks in any case. */
        long n = strtol(reused + strlen("of which "), NULL, 10) - 24 * 73;
        assert_in_range(n, i * 22 * 64, i * 23 * 64);
        done(&r);
    }
    char *a = read_whole(*state, "without.jsonl", &length[0]), *b = read_whole(*state, "with.jsonl", &length[1]);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void refused(void **state)
{
    static const struct { const char *args[12]; int status; const char *says; } cases[] = {
        { { "run", "-m", MODEL, "-p", "x", "--policy", "lifo" }, 2, "not one of roofline|chunked|fifo" },
        { { "run", "-m", MODEL, "-p", "x", "--token-interval", "-1" }, 2, "--token-interval" },
        { { "run", "-m", MODEL, "-p", "x", "--lanes", "3" }, 2, "from 1 to 2" },
        { { "run", "-m", MODEL, "-p", "x", "--samples", "0" }, 2, "--samples" },
        { { "run", "-m", MODEL, "-p", "x", "--samples", "2", "--greedy" }, 2, "--greedy gives one text" },
        { { "run", "-m", MODEL, "-p", "x", "--samples", "2", "--save-state", "y" }, 2, "--save-state saves one text" },
        { { "run", "-m", MODEL, "-p", "x", "--samples", "2", "--slots", "1" }, 1, "give --slots 2 at least" },
        { { "score", "-m", MODEL, "-p", "x", "--continuation", "" }, 2, "an empty text" },
        { { "score", "-m", MODEL, "-p", "x", "--continuation", "a", "--logits", "y" }, 2, "leave out --continuation" },
        { { "run", "-m", MODEL, "-p", "x", "--prefix-host", "1M" }, 2, "there is no prefix cache" },
        { { "run", "-m", MODEL, "-p", "x", "--prefix-cache", "1M", "--prefix-disk", "1M" }, 2, "--prefix-dir, which is missing" },
        { { "run", "-m", MODEL, "-p", "x", "--prefix-cache", "1M", "--prefix-spacing", "100" }, 2, "not a multiple of 64" },
        { { "run", "-m", MODEL, "-p", "x", "--prefix-dir", "/dev/null/x" }, 1, "/dev/null/x: Not a directory" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "1", "--trace", "/nowhere/at/all" }, 1, "trace /nowhere/at/all: No such file" },
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        expect_failure(finish(*state, start(*state, (setting){ 0 }, cases[i].args)), cases[i].status, cases[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(samples), test_in_dir(continuations), test_in_dir(schedules), test_in_dir(prompts_in_a_directory),
        test_in_dir(batches_share_prompts),
        test_in_dir(refused),
    };

    return cmocka_run_group_tests_name("serving by the command", tests, NULL, NULL);
}
