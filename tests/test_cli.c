/* test_cli.c - the command `eyrie` as its users meet it: the built program is run, and its exit status and what it
 * writes are compared with what the golden checkpoints, measured.json and the manual say. Not for the numbers
 * themselves beyond showing that the command hands on the library's. */
#include "testing.h"

#include "command.h"
#include "golden.h"

#include <math.h>
#include <sys/stat.h>

/* Ids with commas between them, freed by the caller. */
static char *id_list(const int32_t *ids, size_t n)
{
    char *list = calloc(n + 1, 12);

    assert_non_null(list);
    for (size_t i = 0, at = 0; i < n; i++) at += (size_t)sprintf(list + at, "%s%d", i ? "," : "", (int)ids[i]);
    return list;
}

/* ------------------------------------------------------------------------------------------------------ wrong usage */

static void wrong_usage(void **state)
{
    static const struct { const char *args[12], *says; } cases[] = {
        { { NULL }, "no command" },
        { { "bogus" }, "'bogus'" },
        { { "--bogus" }, "'--bogus'" },
        { { "--version", "1" }, "'1'" },
        { { "help", "bogus" }, "'bogus'" },
        { { "help", "run", "score" }, "'score'" },
        { { "run", "-m", MODEL }, "-p" },
        { { "run", "-p", "x" }, "-m" },
        { { "info" }, "-m" },
        { { "run", "-m", MODEL, "-p", "x", "--bogus" }, "--bogus" },
        { { "run", "-m", MODEL, "-p", "x", "--bogus=3" }, "--bogus" },
        { { "run", "-m", MODEL, "-p", "x", "--kernels", "npu" }, "--kernels 'npu'" },
        { { "run", "-m", MODEL, "-p", "x", "y" }, "'y'" },
        { { "run", "-m", MODEL, "-p", "x", "--logits", "f" }, "--logits" },      /* another command's */
        { { "score", "-m", MODEL, "-p", "x", "--temp", "1" }, "--temp" },
        { { "info", "-m", MODEL, "-p", "x" }, "-p" },
        { { "chat", "-m", MODEL, "-p", "x" }, "-p" },
        { { "chat", "-m", MODEL, "--json" }, "--json" },
        { { "score", "-m", MODEL, "--load-state", "x" }, "--load-state" },
        { { "run", "-m", MODEL, "-p", "x", "-n" }, "-n needs a value" },
        { { "run", "-m", MODEL, "-p", "x", "--json=yes" }, "--json" },
        { { "run", "-m", MODEL, "-p", "x", "-" }, "only one" },
        { { "run", "-m", MODEL, "-p", "x", "-p", "y" }, "only one" },
        { { "run", "-m", MODEL, "-f", "x", "--tokens", "2" }, "only one" },
        { { "score", "-m", MODEL, "-", "--tokens=2" }, "only one" },
        { { "run", "-m", MODEL, "--tokens", "" }, "--tokens" },
        { { "run", "-m", MODEL, "--tokens=" }, "--tokens" },
        { { "run", "-m", MODEL, "--tokens", "2,x" }, "'x'" },
        { { "run", "-m", MODEL, "--tokens", "2,5," }, "--tokens" },
        { { "run", "-m", MODEL, "--tokens", "2,,5" }, "--tokens" },
        { { "run", "-m", MODEL, "--tokens", "2, 5" }, "' 5'" },
        { { "run", "-m", MODEL, "--tokens", "2,5.0" }, "'5.0'" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "0" }, "-n" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "-1" }, "-n" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "7x" }, "'7x'" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "" }, "-n" },
        { { "run", "-m", MODEL, "-p", "x", "-n", "18446744073709551616" }, "-n" },       /* 2^64 */
        { { "run", "-m", MODEL, "-p", "x", "--seed", "-1" }, "--seed" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "1", "--greedy" }, "--greedy" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "-0.5" }, "--temp" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "nan" }, "--temp" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "inf" }, "--temp" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "1e99" }, "--temp" },
        { { "run", "-m", MODEL, "-p", "x", "--temp", "1,5" }, "--temp" },
        { { "run", "-m", MODEL, "-p", "x", "--greedy", "--top-k", "5" }, "--greedy" },
        { { "run", "-m", MODEL, "-p", "x", "--greedy", "--top-p", "0.5" }, "--greedy" },
        { { "run", "-m", MODEL, "-p", "x", "--greedy", "--min-p", "0.5" }, "--greedy" },
        { { "run", "-m", MODEL, "-p", "x", "--top-k", "-1" }, "--top-k" },
        { { "run", "-m", MODEL, "-p", "x", "--top-p", "0" }, "above 0, up to 1" },
        { { "run", "-m", MODEL, "-p", "x", "--top-p", "1.01" }, "above 0, up to 1" },
        { { "run", "-m", MODEL, "-p", "x", "--min-p", "1.1" }, "from 0 to 1" },
        { { "run", "-m", MODEL, "-p", "x", "--min-p", "-0.1" }, "from 0 to 1" },
        { { "run", "-m", MODEL, "-p", "x", "--repeat-penalty", "0" }, "above 0" },
        { { "run", "-m", MODEL, "-p", "x", "--presence-penalty", "2.5" }, "from -2 to 2" },
        { { "run", "-m", MODEL, "-p", "x", "--frequency-penalty", "-2.5" }, "from -2 to 2" },
        { { "run", "-m", MODEL, "-p", "x", "--stop", "" }, "--stop" },
        { { "run", "-m", MODEL, "-p", "x", "--stop", "a", "--stop" }, "--stop needs a value" },
        { { "run", "-m", MODEL, "-p", "x", "--weights", "f64" }, "f32|f16|bf16" },
        { { "run", "-m", MODEL, "-p", "x", "--weights", "f" }, "'f'" },
        { { "run", "-m", MODEL, "-p", "x", "--kv", "bf16" }, "f16|f32" },
        { { "run", "-m", MODEL, "-p", "x", "--compute", "" }, "auto|f32|int8" },
        { { "run", "-m", MODEL, "-p", "x", "--chunk", "4294967296" }, "--chunk" },       /* 2^32 */
        { { "run", "-m", MODEL, "-p", "x", "--slots", "0" }, "--slots" },
        { { "run", "-m", MODEL, "-p", "x", "--context", "0" }, "--context" },
        { { "run", "-m", MODEL, "-p", "x", "--threads", "0" }, "--threads" },
        { { "run", "-m", MODEL, "-p", "x", "--memory", "12T" }, "--memory" },
        { { "run", "-m", MODEL, "-p", "x", "--memory", "G" }, "--memory" },
        { { "run", "-m", MODEL, "-p", "x", "--max-alloc", "17179869184G" }, "--max-alloc" },     /* 2^64 */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        result r = finish(*state, start(*state, (setting){ 0 }, cases[i].args));
        expect_contains(r.err, "--help");
        expect_failure(r, 2, cases[i].says);
    }
}

/* ------------------------------------------------------------------------------------------------- help and version */

static void help(void **state)
{
    static const struct { const char *command, *options[34]; } cases[] = {
        { "run", { "-m", "-p", "-f", "-", "--tokens", "-n", "--greedy", "--temp", "--top-k", "--top-p", "--min-p",
                   "--seed", "--repeat-penalty", "--presence-penalty", "--frequency-penalty", "--stop",
                   "--ignore-eos", "--json", "--weights", "--compute", "--kv", "--chunk", "--context", "--slots",
                   "--device", "--threads", "--kernels", "--memory", "--max-alloc", "--kernel-dir",
                   "--cache-dir", "--load-state", "--save-state" } },
        { "run", { "--samples", "--policy", "--token-interval", "--lanes", "--trace", "--prefix-cache", "--prefix-host", "--prefix-dir",
                   "--prefix-disk", "--prefix-spacing" } },
        { "chat", { "--session", "--prefix-cache", "--prefix-dir" } },
        { "score", { "--continuation", "--policy", "--token-interval", "--lanes", "--trace" } },
        { "score", { "-m", "-p", "-f", "-", "--tokens", "--logits", "--json", "--weights", "--compute", "--kv",
                     "--chunk", "--context", "--slots", "--device", "--threads", "--kernels", "--memory", "--max-alloc",
                     "--kernel-dir", "--cache-dir" } },
        { "info", { "-m", "--json" } },
        { "devices", { "--probe", "--device", "--json", "--threads", "--kernels", "--memory", "--max-alloc", "--cache-dir" } },
        { "tune", { "-m", "--again", "--weights", "--chunk", "--slots", "--device", "--json", "--cache-dir" } },
        { "selftest", { "--device", "--json", "--threads", "--kernels", "--kernel-dir", "--cache-dir" } },
        { "chat", { "-m", "-n", "--greedy", "--temp", "--top-k", "--top-p", "--min-p", "--seed", "--repeat-penalty",
                    "--presence-penalty", "--frequency-penalty", "--stop", "--save-state", "--load-state", "--weights",
                    "--compute", "--kv", "--chunk", "--context", "--slots", "--device", "--threads", "--kernels", "--memory",
                    "--max-alloc", "--kernel-dir", "--cache-dir" } },
    };
    result general = run(*state, "help"), same = run(*state, "--help");

    expect_status(&general, 0);
    expect_status(&same, 0);
    assert_string_equal(general.out, same.out);
    assert_string_equal(general.err, "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        char line[64];
        result r = run(*state, cases[i].command, "--help"), also = run(*state, "help", cases[i].command);
        expect_status(&r, 0);
        assert_string_equal(r.out, also.out);
        assert_string_equal(r.err, "");
        snprintf(line, sizeof line, "usage: eyrie %s ", cases[i].command);
        expect_contains(r.out, line);
        snprintf(line, sizeof line, "\n  %s ", cases[i].command);
        expect_contains(general.out, line);
        for (size_t k = 0; cases[i].options[k]; k++) {
            snprintf(line, sizeof line, "\n  %s ", cases[i].options[k]);
            expect_contains(r.out, line);
        }
        done(&r);
        done(&also);
    }
    done(&general);
    done(&same);
}

/* Options before it are still looked at, what it needs otherwise is not. */
static void help_comes_before_what_is_missing(void **state)
{
    result r = run(*state, "score", "--json", "-h", "--bogus");

    expect_status(&r, 0);
    expect_contains(r.out, "usage: eyrie score ");
    done(&r);
}

static void version(void **state)
{
    char expected[64];
    result r = run(*state, "--version");

    snprintf(expected, sizeof expected, "eyrie %s\n", eyrie_version());
    expect_status(&r, 0);
    assert_string_equal(r.out, expected);
    done(&r);
}

/* ------------------------------------------------------------------------------------------------------------- run */

static json_t *load_measured(void)
{
    json_error_t error;
    json_t *measured = json_load_file(MODEL "/measured.json", 0, &error);

    if (!measured) fail_msg("measured.json: %s", error.text);
    return measured;
}

/* The tokens that an independent implementation measured, and one text however the prompt comes. */
static void greedy_text(void **state)
{
    json_t *measured = load_measured(), *greedy = json_object_get(measured, "greedy");
    const json_t *expected = json_object_get(greedy, "ids"), *prompt_ids = json_object_get(greedy, "prompt_ids");
    const char *prompt = string(greedy, "prompt");
    char n[24], ids[256] = "", path[4096];
    json_t *object;

    for (size_t i = 0, at = 0; i < json_array_size(prompt_ids); i++)
        at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%d", i ? "," : "",
                               (int)json_integer_value(json_array_get(prompt_ids, i)));
    write_text(*state, "prompt", prompt);
    snprintf(path, sizeof path, "%s/prompt", (char *)*state);
    snprintf(n, sizeof n, "%zu", json_array_size(expected));

    object = expect_json(run(*state, "run", "-m", MODEL, "-p", prompt, "-n", n, "--greedy", "--json"));
    if (!json_equal(json_object_get(object, "tokens"), expected)) fail_msg("not the tokens in measured.json");
    assert_string_equal(string(object, "finish"), "length");
    assert_string_equal(string(object, "model"), MODEL);
    assert_true(strlen(string(object, "device")) > 0);
    assert_true(number(object, "prompt_tokens") == (double)json_array_size(prompt_ids));
    static const char *const phases[] = { "prefill", "decode" };
    for (size_t i = 0; i < COUNT(phases); i++) {
        const json_t *phase = json_object_get(object, phases[i]);
        /* The first token comes out of reading the prompt. */
        double tokens = i == 0 ? (double)json_array_size(prompt_ids) : (double)json_array_size(expected) - 1;
        assert_true(number(phase, "tokens") == tokens);
        assert_true(number(phase, "seconds") > 0);
        double rate = tokens / number(phase, "seconds");
        assert_true(fabs(number(phase, "tokens_per_second") / rate - 1) < 1e-6);     /* printed with 9 digits */
    }

    setting from_stdin = { .input = prompt };
    const result streamed[] = {
        run(*state, "run", "-m", MODEL, "-p", prompt, "-n", n),
        run(*state, "run", "-m", MODEL, "-f", path, "-n", n),
        run_as(*state, from_stdin, "run", "-m", MODEL, "-", "-n", n),
        run(*state, "run", "-m", MODEL, "--tokens", ids, "-n", n),
    };
    for (size_t i = 0; i < COUNT(streamed); i++) {
        result r = streamed[i];
        expect_status(&r, 0);
        assert_string_equal(r.out, string(object, "text"));     /* and no newline after it, this being no terminal */
        expect_contains(r.err, "prefill: 4 tokens in ");
        expect_contains(r.err, "decode: 63 tokens in ");
        done(&r);
    }
    json_decref(object);
    json_decref(measured);
}

/* Text made of bytes that are no characters, which a high temperature makes, comes out the same streamed and whole. */
static void sampled_text(void **state)
{
    result a = run(*state, "run", "-m", MODEL, "-p", "A", "-n", "40", "--temp=9", "--seed", "18446744073709551615");
    result b = run(*state, "run", "-m", MODEL, "-p", "A", "-n", "40", "--temp", "9", "--seed", "1");
    json_t *again = expect_json(run(*state, "run", "-m", MODEL, "-p", "A", "-n", "40", "--temp", "9.0", "--json",
                                    "--seed", "18446744073709551615"));

    expect_status(&a, 0);
    expect_status(&b, 0);
    assert_int_equal(a.out_length, json_string_length(json_object_get(again, "text")));
    assert_memory_equal(a.out, string(again, "text"), a.out_length);
    assert_string_not_equal(a.out, b.out);
    json_decref(again);
    done(&a);
    done(&b);
}

static void prompt_of_nothing_is_bos(void **state)
{
    json_t *object = expect_json(run(*state, "run", "-m", MODEL, "-p", "", "-n", "1", "--json"));

    assert_true(number(object, "prompt_tokens") == 1);
    assert_true(number(json_object_get(object, "decode"), "tokens") == 0);
    assert_true(number(json_object_get(object, "decode"), "tokens_per_second") == 0);
    json_decref(object);
}

/* griffin-wide has no tokenizer, and its greedy text an end-of-text token (1) in the middle. */
static void end_of_text_without_tokenizer(void **state)
{
    golden g;
    size_t end = 0;
    char *list, expected[24 * 12] = "";
    json_t *object;

    assert_true(golden_open(&g, GOLDEN("griffin-wide/golden.gold")));
    assert_int_equal(g.S, 24);
    while (g.greedy[end] != 1) end++;
    list = id_list(g.tokens, g.T);
    for (size_t i = 0, at = 0; i < g.S; i++)
        at += (size_t)snprintf(expected + at, sizeof expected - at, "%d%s", (int)g.greedy[i], i + 1 < g.S ? " " : "\n");

    object = expect_json(run(*state, "run", "-m", GOLDEN("griffin-wide"), "--tokens", list, "-n", "24", "--compute",
                             "f32", "--json"));
    expect_ids(json_object_get(object, "tokens"), g.greedy, end + 1);
    assert_string_equal(string(object, "finish"), "eos");
    assert_true(json_is_null(json_object_get(object, "text")));
    json_decref(object);

    result r = run(*state, "run", "-m", GOLDEN("griffin-wide"), "--tokens", list, "-n", "24", "--compute", "f32",
                   "--ignore-eos");
    expect_status(&r, 0);
    assert_string_equal(r.out, expected);
    done(&r);
    free(list);
    golden_close(&g);
}

static void end_of_context(void **state)
{
    json_t *object = expect_json(run(*state, "run", "-m", MODEL, "--tokens", "2,814,983,4", "-n", "100", "--context",
                                     "8", "--json"));

    assert_string_equal(string(object, "finish"), "context");
    /* 4 + 4 tokens are read; what follows the eighth is known but has no place. */
    assert_int_equal(json_array_size(json_object_get(object, "tokens")), 5);
    json_decref(object);
}

/* Is there a file in `dir` whose name begins so? */
static bool find_name(const char *dir, const char *begin, char *path, size_t size)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    bool found = false;

    assert_non_null(d);
    while (!found && (entry = readdir(d)) != NULL)
        if (strncmp(entry->d_name, begin, strlen(begin)) == 0) {
            found = true;
            snprintf(path, size, "%s/%s", dir, entry->d_name);
        }
    closedir(d);
    return found;
}

/* Waits until there is a file in `dir` whose name begins so, and something in it; or until the command has ended. */
static void wait_for(const char *dir, const char *begin, pid_t child)
{
    char path[4096];
    struct stat s;
    siginfo_t ended = { 0 };

    while (!(find_name(dir, begin, path, sizeof path) && stat(path, &s) == 0 && s.st_size > 0)) {
        assert_int_equal(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT), 0);
        if (ended.si_pid == child) return;
        nanosleep(&(struct timespec){ 0, 10 * 1000 * 1000 }, NULL);
    }
}

static void interrupted_run_ends_in_order(void **state)
{
    const char *const args[] = { "run", "-m", MODEL, "-p", "A", "-n", "1000000000", "--ignore-eos", NULL };
    pid_t child = start(*state, (setting){ 0 }, args);

    wait_for(*state, "out", child);
    assert_int_equal(kill(child, SIGINT), 0);
    result r = finish(*state, child);
    expect_status(&r, 128 + SIGINT);
    expect_contains(r.err, "tokens/s");
    done(&r);
}

/* ----------------------------------------------------------------------------------------------------------- score */

/* Log-probabilities and logits of the goldens, which an independent implementation made. */
static void scores_of_golden(void **state)
{
    golden g;
    size_t size;
    char *list, logits_path[4096];
    double nats = 0, largest = 0;

    assert_true(golden_open(&g, GOLDEN("griffin/golden.gold")));
    list = id_list(g.tokens, g.T);
    snprintf(logits_path, sizeof logits_path, "%s/logits", (char *)*state);
    json_t *object = expect_json(run(*state, "score", "-m", GOLDEN("griffin"), "--tokens", list, "--compute", "f32",
                                     "--logits", logits_path, "--json"));
    float *logits = (float *)(void *)read_whole(*state, "logits", &size);
    const json_t *logprobs = json_object_get(object, "logprobs");

    for (size_t i = 0; i < (size_t)g.T * g.V; i++) largest = fmax(largest, fabs((double)g.logits[i]));
    /* 1e-4 of the largest logit is the bound for f32 arithmetic that adds up in another order. */
    assert_int_equal(size, 4 * (size_t)g.T * g.V);
    for (size_t i = 0; i < (size_t)g.T * g.V; i++)
        assert_true(fabs((double)logits[i] - (double)g.logits[i]) <= 1e-4 * largest);
    expect_ids(json_object_get(object, "tokens"), g.tokens, g.T);
    assert_int_equal(json_array_size(logprobs), g.T);
    assert_true(json_is_null(json_array_get(logprobs, 0)));
    for (size_t i = 1; i < g.T; i++) {
        double logprob = json_real_value(json_array_get(logprobs, i));
        assert_true(fabs(logprob - (double)g.logprob[i - 1]) <= 1e-4 * largest);
        nats -= logprob;
    }
    nats /= g.T - 1;
    assert_true(fabs(number(object, "nats_per_token") - nats) < 1e-7 * nats);        /* 9 digits each */
    assert_true(fabs(number(object, "perplexity") - exp(nats)) < 1e-6 * exp(nats));
    assert_true(json_is_null(json_object_get(object, "bits_per_byte")));
    json_decref(object);
    free(logits);
    free(list);
    golden_close(&g);
}

/* Bits a byte count the bytes of the text, a zero byte among them, and not <bos>; the line says what the object
 * says. */
static void score_of_text(void **state)
{
    static const char text[] = "To be, or not to be:\nthat is\0the question.";
    const size_t length = sizeof text - 1;
    char path[4096];
    size_t tokens;
    double nats, perplexity, bits;

    snprintf(path, sizeof path, "%s/text", (char *)*state);
    write_file(*state, "text", text, length);
    json_t *object = expect_json(run(*state, "score", "-m", MODEL, "-f", path, "--json"));
    double predicted = (double)json_array_size(json_object_get(object, "tokens")) - 1;
    double expected = number(object, "nats_per_token") * predicted / log(2) / (double)length;
    assert_int_equal(json_integer_value(json_array_get(json_object_get(object, "tokens"), 0)), 2);
    assert_true(fabs(number(object, "bits_per_byte") - expected) < 1e-7 * expected);

    result r = run(*state, "score", "-m", MODEL, "-f", path);
    expect_status(&r, 0);
    assert_int_equal(sscanf(r.out, "tokens %zu  nats/token %lf  perplexity %lf  bits/byte %lf\n", &tokens, &nats,
                            &perplexity, &bits), 4);
    assert_int_equal(tokens, (size_t)predicted);
    /* Six digits. */
    assert_true(fabs(nats - number(object, "nats_per_token")) < 1e-5 * nats);
    assert_true(fabs(perplexity - number(object, "perplexity")) < 1e-5 * perplexity);
    assert_true(fabs(bits - number(object, "bits_per_byte")) < 1e-5 * bits);
    expect_contains(r.err, "prefill: ");
    done(&r);
    json_decref(object);
}

static void score_of_one_token(void **state)
{
    json_t *object = expect_json(run(*state, "score", "-m", MODEL, "-p", "", "--json"));
    static const char *const keys[] = { "nats_per_token", "perplexity", "bits_per_byte" };

    assert_int_equal(json_array_size(json_object_get(object, "logprobs")), 1);
    for (size_t i = 0; i < COUNT(keys); i++) assert_true(json_is_null(json_object_get(object, keys[i])));
    json_decref(object);

    result r = run(*state, "score", "-m", MODEL, "-p", "");
    expect_status(&r, 0);
    assert_string_equal(r.out, "tokens 0  nats/token -  perplexity -  bits/byte -\n");
    done(&r);
}

/* A logits file is whole or not there, whatever happens. */
static void failed_score_leaves_no_logits(void **state)
{
    char path[4096], link[4096], temporary[4096], missing[4096], text_path[4096];
    enum { LONG = 1 << 20 };    /* long enough to be interrupted in the middle */
    char *text = malloc(LONG);

    snprintf(path, sizeof path, "%s/logits", (char *)*state);
    snprintf(link, sizeof link, "%s/full", (char *)*state);
    snprintf(missing, sizeof missing, "%s/none/logits", (char *)*state);
    assert_int_equal(symlink("/dev/full", link), 0);
    expect_failure(run(*state, "score", "-m", MODEL, "-p", "x", "--logits", link), 1, "No space left on device");
    expect_failure(run(*state, "score", "-m", MODEL, "-p", "x", "--logits", missing), 1, missing);
    expect_failure(run(*state, "score", "-m", MODEL, "--tokens", "2,1024", "--logits", path), 1, "1024");
    assert_false(find_name(*state, "logits", temporary, sizeof temporary));

    assert_non_null(text);
    memset(text, 'a', LONG);
    write_file(*state, "text", text, LONG);
    free(text);
    snprintf(text_path, sizeof text_path, "%s/text", (char *)*state);
    const char *const args[] = { "score", "-m", MODEL, "-f", text_path, "--logits", path, NULL };
    pid_t child = start(*state, (setting){ 0 }, args);
    wait_for(*state, "logits", child);
    assert_int_equal(kill(child, SIGTERM), 0);
    result r = finish(*state, child);
    expect_status(&r, 128 + SIGTERM);
    assert_string_equal(r.out, "");
    assert_false(find_name(*state, "logits", temporary, sizeof temporary));
    done(&r);
}

/* ------------------------------------------------------------------------------------------------------------ info */

/* Steps of 1, 4, 16 and 64 sequences: more work each, and time where there is a device, once it has been measured. */
static void info_steps(const json_t *without_device, const json_t *with_device)
{
    const json_t *counted = json_object_get(without_device, "decode_steps"), *timed = json_object_get(with_device, "decode_steps");
    double bytes = 0, seconds = 0;

    assert_int_equal(json_array_size(counted), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *step = json_array_get(counted, i);
        assert_int_equal(json_integer_value(json_object_get(step, "sequences")), 1 << 2 * i);
        assert_true(number(step, "bytes") > bytes);
        assert_true(fabs(number(step, "flops") / (1 << 2 * i) / number(without_device, "decode_flops") - 1) < 1e-6);
        assert_true(json_is_null(json_object_get(step, "seconds")));
        bytes = number(step, "bytes");
        step = json_array_get(timed, i);
        assert_true(number(step, "seconds") > seconds && number(step, "seconds") < 10);    /* of a model of 12 MB */
        seconds = number(step, "seconds");
    }
    assert_true(number(without_device, "decode_bytes") == number(json_array_get(counted, 0), "bytes"));
    static const char *const unknown[] = { "decode_ridge", "prefill_ridge", "memory_bytes", "sequences", "device",
                                           "read_bytes_per_second", "fma_flops_per_second", "launch_seconds" };
    for (size_t i = 0; i < COUNT(unknown); i++) {
        assert_true(json_is_null(json_object_get(without_device, unknown[i])));
        assert_false(json_is_null(json_object_get(with_device, unknown[i])));
    }
}

/* 108 KiB a sequence beside 5.66 MiB of weights; a device is not needed to say how many fit. */
static void info_memory(void **state)
{
    char vendors[4096];

    snprintf(vendors, sizeof vendors, "%s/vendors", (char *)*state);
    assert_int_equal(mkdir(vendors, 0777), 0);
    setting no_device = { .vendors = vendors };
    json_t *fits = expect_json(run_as(*state, no_device, "info", "-m", MODEL, "--memory", "10M", "--json"));
    json_t *none = expect_json(run_as(*state, no_device, "info", "-m", MODEL, "--memory", "1M", "--json"));
    double room = 10.0 * 1024 * 1024 - number(fits, "weight_bytes");

    assert_true(number(fits, "sequences") == floor(room / number(fits, "state_bytes")));
    assert_true(number(none, "sequences") == 0);
    expect_failure(run_as(*state, no_device, "info", "-m", MODEL, "--device", "0"), 1, "OpenCL");
    json_decref(fits);
    json_decref(none);
}

static void info(void **state)
{
    static const struct { const char *key; int64_t value; } expected[] = {   /* README.md and config.json of the model */
        { "parameters", 2943936 }, { "embedding_parameters", 1024 * 192 }, { "vocab", 1024 }, { "width", 192 },
        { "layers", 6 }, { "recurrent_layers", 4 }, { "attention_layers", 2 }, { "heads", 3 }, { "kv_heads", 1 },
        { "head_dim", 64 }, { "lru_width", 192 }, { "mlp_width", 576 }, { "window", 128 }, { "bos", 2 },
        { "file_bytes", 2 * 2943936 },
    };
    char vendors[4096];

    snprintf(vendors, sizeof vendors, "%s/vendors", (char *)*state);
    assert_int_equal(mkdir(vendors, 0777), 0);
    setting no_device = { .vendors = vendors };
    json_t *object = expect_json(run_as(*state, no_device, "info", "-m", MODEL, "--json"));
    json_t *wider = expect_json(run(*state, "info", "-m", MODEL, "--json", "--weights", "f32", "--compute", "f32"));
    result r = run(*state, "info", "-m", MODEL);

    for (size_t i = 0; i < COUNT(expected); i++)
        assert_int_equal(json_integer_value(json_object_get(object, expected[i].key)), expected[i].value);
    assert_true(json_is_null(json_object_get(object, "context")));
    assert_true(json_is_true(json_object_get(object, "has_tokenizer")));
    assert_string_equal(string(object, "family"), "RecurrentGemma");
    assert_string_equal(string(object, "weights"), "bf16");
    assert_string_equal(string(object, "kv"), "f16");
    assert_string_equal(string(wider, "weights"), "f32");
    assert_string_equal(string(wider, "kv"), "f32");
    static const char *const grows[] = { "weight_bytes", "state_bytes", "decode_bytes" };
    for (size_t i = 0; i < COUNT(grows); i++) assert_true(number(wider, grows[i]) > number(object, grows[i]));
    assert_true(number(object, "decode_flops") > 2 * 2943936.0 * 0.9);       /* a multiply-add for each parameter */
    info_steps(object, wider);
    expect_status(&r, 0);
    expect_contains(r.out, "RecurrentGemma, 6 layers: 4 recurrent, 2 attention");
    expect_contains(r.out, "2.94 million");
    expect_contains(r.out, "5.62 MiB\n");
    done(&r);
    json_decref(object);
    json_decref(wider);
}

/* -------------------------------------------------------------------------------------------------------- failures */

static void failures(void **state)
{
    const char *dir = *state;
    char vendors[4096], absent[4096];

    snprintf(vendors, sizeof vendors, "%s/vendors", dir);
    snprintf(absent, sizeof absent, "%s/absent", dir);
    assert_int_equal(mkdir(vendors, 0777), 0);
    write_text(dir, "rope.cl", "this is not OpenCL C;\n");

    const struct { const char *args[10], *vendors, *says; } cases[] = {
        { { "run", "-m", absent, "-p", "x" }, NULL, absent },
        { { "info", "-m", absent }, NULL, absent },
        { { "run", "-m", MODEL, "-f", absent }, NULL, absent },
        { { "run", "-m", MODEL, "-f", vendors }, NULL, "Is a directory" },
        { { "run", "-m", MODEL, "-p", "a\xFFz" }, NULL, "UTF-8" },
        { { "run", "-m", MODEL, "--tokens", "2,1024" }, NULL, "1024" },
        { { "run", "-m", MODEL, "--tokens", "2,-1" }, NULL, "-1" },
        { { "run", "-m", MODEL, "--tokens", "4294967298" }, NULL, "4294967298" },       /* 2^32 + 2 */
        { { "run", "-m", MODEL, "--tokens", "99999999999999999999" }, NULL, "99999999999999999999" },
        { { "run", "-m", GOLDEN("hawk"), "-p", "x" }, NULL, "--tokens" },
        { { "run", "-m", MODEL, "-p", "x", "--device", "no such thing" }, NULL, "no such thing" },
        { { "run", "-m", MODEL, "-p", "x" }, vendors, "no OpenCL platform" },
        { { "run", "-m", MODEL, "-p", "x", "--kernel-dir", absent }, NULL, absent },
        { { "run", "-m", MODEL, "-p", "x", "--memory", "100000" }, NULL, "98 KiB" },    /* what it has; 2^10 each */
        { { "run", "-m", MODEL, "-p", "x", "--memory=64K" }, NULL, "64 KiB" },
        { { "run", "-m", MODEL, "-p", "xyz", "--context", "2" }, NULL, "--context" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        setting how = { .vendors = cases[i].vendors };
        expect_failure(finish(dir, start(dir, how, cases[i].args)), 1, cases[i].says);
    }
    result r = run(dir, "run", "-m", MODEL, "-p", "x", "--memory", "100000");
    expect_contains(r.err, "needs ");
    done(&r);

    r = run(dir, "run", "-m", MODEL, "-p", "x", "--kernel-dir", dir);      /* the compiler may have words of its own */
    expect_status(&r, 1);
    assert_string_equal(r.out, "");
    expect_contains(r.err, "eyrie: ");
    expect_contains(r.err, "rope.cl:1");
    done(&r);
}

/* The place for built kernels is where --cache-dir says, else below XDG_CACHE_HOME or, that being no absolute path, HOME.
 * It is made where it is missing, whether or not the driver needs it; where it cannot be, a note says so and nothing else
 * changes. */
static void kernels_are_kept(void **state)
{
    const char *dir = *state;
    char cache[4096], home[4096], in_the_way[4096];
    struct { setting how; const char *option, *below, *says; } cases[] = {
        { { 0 }, cache, "cache", "" },
        { { .cache = cache }, "", NULL, "" },
        { { .cache = cache }, NULL, "cache/eyrie", "" },
        { { .cache = "relative", .home = home }, NULL, "home/.cache/eyrie", "" },
        { { .cache = "relative", .home = "" }, NULL, NULL, "" },
        { { 0 }, in_the_way, NULL, "eyrie: note: cannot make directory" },
    };
    static const char *const made[] = { "cache/eyrie", "cache", "home/.cache/eyrie", "home/.cache", "home" };
    char *text = NULL;

    if (!getenv("POCL_CACHE_DIR")) skip();      /* else PoCL would keep kernels of its own in the same places */
    snprintf(cache, sizeof cache, "%s/cache", dir);
    snprintf(home, sizeof home, "%s/home", dir);
    snprintf(in_the_way, sizeof in_the_way, "%s/file", dir);
    write_text(dir, "file", "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const args[] = { "run", "-m", MODEL, "-p", "ROMEO:", "-n", "8", "--compute", "f32",
                                     cases[i].option ? "--cache-dir" : NULL, cases[i].option, NULL };
        result r = finish(dir, start(dir, cases[i].how, args));
        expect_status(&r, 0);
        expect_contains(r.err, cases[i].says);
        if (!*cases[i].says) assert_null(strstr(r.err, "note"));
        if (text) assert_string_equal(r.out, text);
        else text = strdup(r.out);
        done(&r);
        bool there = false;
        for (size_t k = 0; k < COUNT(made); k++) {
            DIR *d = opendir(path_of(dir, made[k]));
            if (d && cases[i].below && !strcmp(made[k], cases[i].below)) there = true;
            struct dirent *entry;
            while (d && (entry = readdir(d)) != NULL) {
                char path[4096];
                snprintf(path, sizeof path, "%s/%s", made[k], entry->d_name);
                if (!strstr(entry->d_name, ".program") && !strstr(entry->d_name, ".costs")) continue;
                assert_string_equal(made[k], cases[i].below ? cases[i].below : "nowhere");
                assert_int_equal(remove(path_of(dir, path)), 0);
            }
            if (d) closedir(d);
            if (d) assert_int_equal(rmdir(path_of(dir, made[k])), 0);
        }
        assert_true(there == (cases[i].below != NULL));
    }
    free(text);
}

static void output_that_fails(void **state)
{
    const setting full = { .output = "/dev/full" }, closed = { .output = "" };
    const char *const says = "writing to standard output: No space left on device";

    expect_failure(run_as(*state, full, "--help"), 1, says);
    expect_failure(run_as(*state, full, "--version"), 1, says);
    expect_failure(run_as(*state, full, "info", "-m", MODEL), 1, says);
    expect_failure(run_as(*state, full, "run", "-m", MODEL, "-p", "x", "-n", "1000000000"), 1, says);
    expect_failure(run_as(*state, full, "run", "-m", MODEL, "-p", "x", "-n", "2", "--json"), 1, says);
    expect_failure(run_as(*state, closed, "run", "-m", MODEL, "-p", "x", "-n", "2"), 1, "Bad file descriptor");
}

/* A reader that goes away ends the command with a message, not with SIGPIPE. */
static void reader_that_leaves(void **state)
{
    char fifo[4096];
    const char *const args[] = { "run", "-m", MODEL, "-p", "x", "-n", "1000000000", "--ignore-eos", NULL };

    snprintf(fifo, sizeof fifo, "%s/fifo", (char *)*state);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    pid_t child = start(*state, (setting){ .output = fifo }, args);
    int fd = open(fifo, O_RDONLY);
    char byte;
    assert_true(fd >= 0);
    assert_int_equal(read(fd, &byte, 1), 1);
    close(fd);
    expect_failure(finish(*state, child), 1, "writing to standard output: Broken pipe");
}

/* --------------------------------------------------------------------------------------------------------- devices */

static json_t *devices_of(json_t *object, size_t *selected)
{
    json_t *devices = json_object_get(object, "devices");
    size_t defaults = 0;

    assert_in_range(json_array_size(devices), 1, 64);
    for (size_t i = 0; i < json_array_size(devices); i++) {
        json_t *device = json_array_get(devices, i);
        assert_int_equal(json_integer_value(json_object_get(device, "number")), i);
        assert_true(string(device, "name")[0] && string(device, "driver")[0] && string(device, "type")[0]);
        assert_true(number(device, "memory_bytes") > 0 && number(device, "max_alloc_bytes") > 0 && number(device, "units") > 0);
        if (!json_is_true(json_object_get(device, "default"))) continue;
        defaults++;
        if (selected) *selected = i;
    }
    assert_int_equal(defaults, 1);
    return devices;
}

/* The list, which opens nothing and so tells no capabilities. */
static void devices(void **state)
{
    json_t *object = expect_json(run(*state, "devices", "--json")), *list = devices_of(object, NULL);
    result r = run(*state, "devices");

    expect_status(&r, 0);
    expect_contains(r.out, "(default)");
    for (size_t i = 0; i < json_array_size(list); i++) {
        expect_contains(r.out, string(json_array_get(list, i), "name"));
        assert_null(json_object_get(json_array_get(list, i), "capabilities"));
    }
    done(&r);
    json_decref(object);
}

/* What is told of a device goes by the class of kernels that was asked for. */
static void devices_of_a_class(void **state)
{
    static const struct { const char *kernels; bool gpu; } cases[] = { { "cpu", false }, { "gpu", true } };

    for (size_t i = 0; i < COUNT(cases); i++) {
        result r = run(*state, "devices", "--device", "0", "--kernels", cases[i].kernels);
        expect_status(&r, 0);
        const char *refused = strstr(r.out, "Refused"), *gemv = strstr(r.out, "GPU, GEMV");
        assert_true(refused && gemv);
        assert_int_equal(gemv < refused, cases[i].gpu);
        done(&r);
    }
}

/* Probing answers every question about one device, and what it found is there without probing. Whatever probes do to
 * their processes, this one goes on. */
static void devices_probed(void **state)
{
    static const char *const names[] = { "half", "half-unannounced", "sub-group-reduce", "sub-group-shuffle", "dot-product",
                                         "inline-assembly", "amx", "vnni", "long-loops", "event-times", "large-buffer", "host-pointer",
                                         "sub-devices" };
    size_t at = 0;
    json_t *before = expect_json(run(*state, "devices", "--device", "0", "--cache-dir", *state, "--json"));
    json_t *probed = expect_json(run(*state, "devices", "--probe", "--device", "0", "--cache-dir", *state, "--json"));
    json_t *after = expect_json(run(*state, "devices", "--device", "0", "--cache-dir", *state, "--json"));
    json_t *all[] = { before, probed, after }, *capabilities[3];

    for (size_t i = 0; i < COUNT(all); i++) {
        json_t *device = json_array_get(devices_of(all[i], &at), 0);
        capabilities[i] = json_object_get(device, "capabilities");
        assert_int_equal(json_object_size(capabilities[i]), COUNT(names));
        assert_in_range(json_array_size(json_object_get(device, "variants")), 3, 32);
        assert_int_equal(json_object_get(device, "read_bytes_per_second") != NULL, i == 1);
        if (i == 1) assert_true(number(device, "read_bytes_per_second") > 0 && number(device, "fma_flops_per_second") > 0);
    }
    for (size_t i = 0; i < COUNT(names); i++) {
        const json_t *answers[3];
        for (size_t k = 0; k < COUNT(answers); k++) assert_non_null(answers[k] = json_object_get(capabilities[k], names[i]));
        assert_string_equal(string(answers[0], "answer"), "not probed");
        if (strcmp(names[i], "large-buffer")) assert_string_not_equal(string(answers[1], "answer"), "not probed");
        assert_true(string(answers[1], "reason")[0]);
        assert_string_equal(string(answers[2], "answer"), string(answers[1], "answer"));
    }
    json_decref(before);
    json_decref(probed);
    json_decref(after);
}

/* The first run finds out what kernels are chosen by, and what follows goes by it; with f32 compute there is no choice. */
static void verdicts_are_found_at_need(void **state)
{
    static const struct { const char *compute; bool known; } cases[] = { { "f32", false }, { "auto", true } };
    size_t at = 0;

    for (size_t i = 0; i < COUNT(cases); i++) {
        result r = run(*state, "run", "-m", MODEL, "-p", "ROMEO:", "-n", "1", "--compute", cases[i].compute, "--cache-dir", *state);
        expect_status(&r, 0);
        assert_null(strstr(r.err, "no probe's verdict"));
        done(&r);
        json_t *object = expect_json(run(*state, "devices", "--device", "0", "--cache-dir", *state, "--json"));
        const json_t *capabilities = json_object_get(json_array_get(devices_of(object, &at), 0), "capabilities");
        const json_t *amx = json_object_get(capabilities, "amx"), *vnni = json_object_get(capabilities, "vnni");
        const json_t *half = json_object_get(capabilities, "half");
        assert_int_equal(strcmp(string(amx, "answer"), "not probed") != 0, cases[i].known);
        assert_int_equal(strcmp(string(vnni, "answer"), "not probed") != 0, cases[i].known);
        assert_string_equal(string(half, "answer"), "not probed");
        json_decref(object);
    }
}

static void no_such_device(void **state)
{
    expect_failure(run(*state, "devices", "--device", "no such device"), 1, "no such device");
    expect_failure(run(*state, "devices", "--probe", "--device", "no such device"), 1, "no such device");
    expect_failure(run(*state, "selftest", "--device", "no such device"), 1, "no such device");
}

static void selftest(void **state)
{
    json_t *object = expect_json(run(*state, "selftest", "--op", "attention", "--cache-dir", "", "--json"));
    json_t *checks = json_object_get(object, "checks");
    result r = run(*state, "selftest", "--op", "attention", "--cache-dir", "");
    char last[64];

    assert_true(json_is_true(json_object_get(object, "passed")));
    assert_int_equal(json_integer_value(json_object_get(object, "failures")), 0);
    expect_status(&r, 0);
    expect_contains(r.out, string(object, "device"));
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *check = json_array_get(checks, i);
        assert_true(json_is_true(json_object_get(check, "passed")));
        assert_true(number(check, "error") <= number(check, "tolerance") && number(check, "seconds") >= 0);
        expect_contains(r.out, string(check, "op"));
        expect_contains(r.out, string(check, "variant"));
    }
    snprintf(last, sizeof last, "all %zu checks passed\n", json_array_size(checks));
    expect_contains(r.out, last);
    done(&r);
    json_decref(object);
}

/* The mean is taken over the padding, too. */
static void selftest_names_a_wrong_kernel(void **state)
{
    size_t length;
    char *text = read_whole(EY_SOURCE_DIR "/kernels_cl", "norm.cl", &length), *at = strstr(text, "(float)width");
    json_error_t error;
    json_t *object;

    assert_non_null(at);
    memcpy(at, "(float)D    ", strlen("(float)width"));
    write_text(*state, "norm.cl", text);
    free(text);
    result r = run(*state, "selftest", "--op", "norm", "--kernel-dir", *state, "--cache-dir", "", "--json");
    expect_status(&r, 1);
    expect_contains(r.err, "eyrie: 2 of 2");
    expect_contains(r.err, " checks failed: norm\n");
    assert_non_null(object = json_loads(r.out, 0, &error));
    assert_true(json_is_false(json_object_get(object, "passed")));
    assert_int_equal(json_integer_value(json_object_get(object, "failures")), 2);
    done(&r);
    json_decref(object);
}

/* What is measured is told once, kept, and used. */
static void tuning(void **state)
{
#define TUNE "tune", "-m", GOLDEN("hawk"), "--weights", "f32", "--compute", "f32", "--chunk", "1"
    json_t *object, *products;
    result r;

    expect_failure(run(*state, TUNE, "--cache-dir", ""), 1, "--cache-dir");
    object = expect_json(run(*state, TUNE, "--cache-dir", *state, "--json"));
    products = json_object_get(object, "products");
    assert_in_range(json_array_size(products), 5, 20);
    assert_true(number(object, "known") == 0 && number(object, "wrong") == 0);
    for (size_t i = 0; i < json_array_size(products); i++) {
        const json_t *p = json_array_get(products, i);
        assert_non_null(strchr(string(p, "tile"), 'x'));
        assert_string_equal(string(p, "format"), "f32");
        assert_true(number(p, "seconds") > 0 && number(p, "bytes_per_second") > 0 && number(p, "flops_per_second") > 0);
        assert_true(number(p, "tokens") == 1 && number(p, "gain") >= 1);
    }
    json_decref(object);
    r = run(*state, TUNE, "--cache-dir", *state);
    expect_status(&r, 0);
    expect_contains(r.out, "measured already; --again");
    done(&r);
    r = run(*state, TUNE, "--cache-dir", *state, "--again");
    expect_status(&r, 0);
    expect_contains(r.out, " GB/s ");
    expect_contains(r.out, " with another tile than built in\n");
    done(&r);
    r = run(*state, "devices", "--device", "0", "--cache-dir", *state);
    expect_status(&r, 0);
    expect_contains(r.out, "tuned tiles");
    done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(wrong_usage), test_in_dir(help), test_in_dir(help_comes_before_what_is_missing),
        test_in_dir(version), test_in_dir(greedy_text), test_in_dir(sampled_text),
        test_in_dir(prompt_of_nothing_is_bos), test_in_dir(end_of_text_without_tokenizer),
        test_in_dir(end_of_context), test_in_dir(interrupted_run_ends_in_order), test_in_dir(scores_of_golden),
        test_in_dir(score_of_text), test_in_dir(score_of_one_token), test_in_dir(failed_score_leaves_no_logits),
        test_in_dir(info), test_in_dir(info_memory), test_in_dir(failures), test_in_dir(kernels_are_kept), test_in_dir(output_that_fails),
        test_in_dir(reader_that_leaves), test_in_dir(devices), test_in_dir(devices_of_a_class),
        test_in_dir(devices_probed),
        test_in_dir(verdicts_are_found_at_need), test_in_dir(no_such_device),
        test_in_dir(tuning), test_in_dir(selftest), test_in_dir(selftest_names_a_wrong_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
