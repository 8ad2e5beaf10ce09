/* test_cli_batch.c - files of requests: what is answered, and what is refused. Whether texts are right is test_serving's
 * business; here they are those of other commands. */
#include "testing.h"

#include "command.h"

#include "batches.h"

#include <inttypes.h>
#include <math.h>

/* -------------------------------------------------------------------------------------------------------- answers */

/* Those of greedy tokens after "ROMEO:\n" are what `score` says of prompt and tokens in one text. */
static void expect_logprobs(const json_t *sample)
{
    const json_t *tokens = json_object_get(sample, "tokens"), *logprobs = json_object_get(sample, "logprobs");
    size_t n = json_array_size(tokens), before;
    char text[256];
    json_t *whole;

    assert_true(snprintf(text, sizeof text, "ROMEO:\n%s", string(sample, "text")) < (int)sizeof text);
    whole = expect_json(run(dir, "score", "-m", MODEL, "-p", text, "--compute", "f32", "--json"));
    before = json_array_size(json_object_get(whole, "tokens")) - n;
    assert_int_equal(json_array_size(logprobs), n);
    for (size_t i = 0; i < n; i++) {        /* read in other parts, f32 is within 1e-5 of the largest logit */
        double got = json_number_value(json_array_get(logprobs, i));
        assert_true(json_equal(json_array_get(tokens, i), json_array_get(json_object_get(whole, "tokens"), before + i)));
        assert_true(fabs(got - json_number_value(json_array_get(json_object_get(whole, "logprobs"), before + i))) < 1e-3);
    }
    json_decref(whole);
}

/* What run and score say of the same. */
static void answers(void **state)
{
    const json_t *got, *scores;
    json_t *alone, *three, *scored, *both, *want;

    dir = *state;
    write_text(dir, "in.jsonl",
               "{\"id\": \"alone\", \"prompt\": \"ROMEO:\\n\", \"max_tokens\": 12, \"logprobs\": true}\n"
               "{\"id\": 7, \"prompt\": \"JULIET:\\n\", \"max_tokens\": 6, \"n\": 3, \"seed\": 5, \"stop\": [\"!\", \"\\n\"],"
               " \"top_k\": 40}\r\n"
               " \t\n"
               "{\"prompt\": \"To be, or \", \"continuations\": [\"not to be\", \"to go\", [720, 292]], \"n\": null}\n"
               "{\"tokens\": [2, 814, 983, 4], \"max_tokens\": 3, \"continuations\": [\"a\"], \"n\": 1}");
    batch(0, place("out.jsonl"), "--compute", "f32");
    alone = line_of("out.jsonl", 0);
    three = line_of("out.jsonl", 1);
    scored = line_of("out.jsonl", 2);
    both = line_of("out.jsonl", 3);

    want = expect_json(run(dir, "run", "-m", MODEL, "-p", "ROMEO:\n", "-n", "12", "--compute", "f32", "--json"));
    got = json_array_get(json_object_get(alone, "samples"), 0);
    assert_true(number(alone, "line") == 1);
    assert_string_equal(string(alone, "id"), "alone");
    assert_true(json_equal(json_object_get(got, "tokens"), json_object_get(want, "tokens")));
    assert_string_equal(string(got, "text"), string(want, "text"));
    assert_string_equal(string(got, "finish"), "length");
    expect_logprobs(got);
    assert_true(number(json_object_get(alone, "usage"), "prompt_tokens") == number(want, "prompt_tokens"));
    assert_true(number(json_object_get(alone, "usage"), "completion_tokens") == 12);
    json_decref(want);

    want = expect_json(run(dir, "run", "-m", MODEL, "-p", "JULIET:\n", "-n", "6", "--samples", "3", "--seed", "5", "--stop", "!",
                           "--stop", "\n", "--top-k", "40", "--compute", "f32", "--json"));
    assert_true(number(three, "id") == 7);
    assert_true(json_equal(json_object_get(three, "samples"), json_object_get(want, "samples")));
    json_decref(want);

    want = expect_json(run(dir, "score", "-m", MODEL, "-p", "To be, or ", "--continuation", "not to be", "--continuation",
                           "to go", "--compute", "f32", "--json"));
    scores = json_object_get(scored, "continuations");
    assert_true(number(scored, "line") == 4);           /* blank lines count, and are no requests */
    assert_null(json_object_get(scored, "samples"));
    assert_int_equal(json_array_size(scores), 3);
    for (size_t i = 0; i < 2; i++) {
        const json_t *a = json_array_get(scores, i), *b = json_array_get(json_object_get(want, "continuations"), i);
        assert_true(number(a, "logprob") == number(b, "logprob"));
        assert_true(json_equal(json_object_get(a, "tokens"), json_object_get(b, "tokens")));
    }
    expect_ids(json_object_get(json_array_get(scores, 2), "tokens"), (const int32_t[]){ 720, 292 }, 2);
    assert_int_equal(json_array_size(json_object_get(both, "samples")), 1);
    assert_int_equal(json_array_size(json_object_get(both, "continuations")), 1);
    json_decref(want);
    json_decref(alone);
    json_decref(three);
    json_decref(scored);
    json_decref(both);
}

/* An answer depends on its request alone: not on slots and lanes, nor on the order in which all are done. */
static void company(void **state)
{
    static const char *const slots[] = { "1", "2", "5" };

    dir = *state;
    write_requests(24);
    batch(0, place("want.jsonl"));
    for (size_t i = 0; i < COUNT(slots); i++) {
        batch(0, place("out.jsonl"), "--slots", slots[i], "--lanes", i == 1 ? "2" : "1", "--policy",
              i == 2 ? "fifo" : "chunked");
        expect_same_files("out.jsonl", "want.jsonl");
        assert_int_equal(unlink(place("out.jsonl")), 0);
    }
    batch(0, place("out.jsonl"), "--slots", "4", "--order", "completion");
    expect_same_lines("out.jsonl", "want.jsonl");
}

/* Prompts that begin alike are read once, as far as they are, and the answers are the same. */
static void prefixes(void **state)
{
    char text[900];
    uint64_t tokens, reused, hits;
    FILE *f;

    dir = *state;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_non_null(f = fopen(place("in.jsonl"), "wb"));
    for (int i = 0; i < 24; i++)
        fprintf(f, "{\"prompt\": \"%d%s%d\", \"max_tokens\": 2, \"n\": %d}\n", i / 12, text, i, 1 + i % 2);
    assert_int_equal(fclose(f), 0);
    batch(0, place("want.jsonl"));
    result r = run(dir, BATCH, place("out.jsonl"), "--prefix-cache", "16M", "--slots", "4");
    expect_status(&r, 0);
    expect_contains(r.err, "; prompts: ");
    if (sscanf(strstr(r.err, "; prompts: "), "; prompts: %" SCNu64 " tokens, of which %" SCNu64 " reused (%*f %%; %" SCNu64
               " prefix hits)", &tokens, &reused, &hits) != 3)
        fail_msg("no hits: %s", r.err);
    assert_true(hits >= 16 && reused > tokens / 2);     /* all but those that begin together, and forks */
    done(&r);
    expect_same_files("out.jsonl", "want.jsonl");
}

/* A terminal is shown how far it is, and how long it will take. */
static void progress(void **state)
{
    char command[12400];

    dir = *state;
    result r = finish(dir, start(dir, (setting){ .program = "script" }, (const char *const[]){ "-qec", "true", "/dev/null", NULL }));
    bool terminals = r.status == 0;
    done(&r);
    if (!terminals) skip();
    write_requests(4000);
    snprintf(command, sizeof command, "'%s' batch -m '%s' '%s' -o '%s' --slots 1", EY_COMMAND, MODEL, place("in.jsonl"),
             place("out.jsonl"));
    const char *const args[] = { "-qec", command, "/dev/null", NULL };
    pid_t child = start(dir, (setting){ .program = "script" }, args);      /* which is a terminal to what it runs */
    bool shown = false;
    while (!shown && wait_for_bytes(child, "out", size_of("out") + 1)) {
        size_t length;
        char *out = read_whole(dir, "out", &length);
        shown = strstr(out, " of 4000 lines, ") && strstr(out, " lines/s, ") && strstr(out, " left");
        free(out);
    }
    kill(child, SIGTERM);
    r = finish(dir, child);
    done(&r);
    assert_true(shown);
}

/* Standard input and output; options stand for what a request does not say. */
static void streams(void **state)
{
    dir = *state;
    const setting how = { .input = "{\"prompt\": \"ROMEO:\\n\"}\n\n{\"prompt\": \"ROMEO:\\n\", \"max_tokens\": 4}" };
    result r = run_as(dir, how, "batch", "-m", MODEL, "-", "-o", "-", "-n", "2");
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

/* ------------------------------------------------------------------------------------------------------- mistakes */

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

/* Each is told by its number, in the output and for the first ten on standard error, and the rest is done. Answers that
 * are taken out of the output are done anew. */
static void mistaken(void **state)
{
    FILE *f;
    result r;

    dir = *state;
    assert_non_null(f = fopen(place("in.jsonl"), "wb"));
    for (size_t i = 0; i < COUNT(mistakes); i++)
        fprintf(f, "%s\n{\"id\": %zu, \"prompt\": \"a\", \"max_tokens\": 1}\n", mistakes[i].line, i);
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
    r = run_as(dir, ((setting){ .program = "sed", .output = place("less.jsonl") }), "/\"line\":2,/d; /\"line\":7,/d",
               place("out.jsonl"));
    expect_end(r, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(answers), test_in_dir(company), test_in_dir(prefixes), test_in_dir(progress),
        test_in_dir(streams), test_in_dir(mistaken), test_in_dir(endless), test_in_dir(usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
