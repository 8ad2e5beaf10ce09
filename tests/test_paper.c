/* test_paper.c - `eyrie bench paper` and its figures: what adds up from steps whose times are formulas, against what
 * is worked out by hand; what is refused; and all of it end to end on tiny models, with figures as files. Not for how
 * fast anything is. */
#include "testing.h"

#include "command.h"
#include "paper.h"

#include <math.h>

static void expect_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.12g instead of %.12g", value, expected);
}

static void expect_number(const json_t *value, double expected)
{
    if (isnan(expected)) assert_true(json_is_null(value));
    else expect_near(json_number_value(value), expected, 1e-9 * fabs(expected));
}

static const json_t *figure_of(const json_t *record, const char *key)
{
    const json_t *figure;
    size_t i;

    json_array_foreach(json_object_get(record, "figures"), i, figure)
        if (strcmp(string(figure, "key"), key) == 0) return figure;
    fail_msg("no figure \"%s\"", key);
    return NULL;
}

/* Value i of a list of curve `curve`. */
static const json_t *value_of(const json_t *figure, size_t curve, const char *list, size_t i)
{
    return json_array_get(json_object_get(json_array_get(json_object_get(figure, "curves"), curve), list), i);
}

static const char *cell(const json_t *figure, size_t row, size_t column)
{
    const char *text = json_string_value(
        json_array_get(json_array_get(json_object_get(figure, "table"), row), column));

    assert_non_null(text);
    return text;
}

/* -------------------------------------------------------------------------------------------------------- adding up */

/* A step of `batch` sequences takes so many seconds; the cost model says half as much, of the slope, attention's, a third, and
 * of that from depth 400 on a half. So it predicts the slope that is measured up to 400, half of the last, then half of it. */
static void add_steps(json_t *rows, const char *model, int batch, double at_0, double per_token)
{
    static const int depths[] = { 0, 100, 400, 800 };

    for (size_t i = 0; i < COUNT(depths); i++) {
        double looks = depths[i] <= 400 ? depths[i] : 400 + (depths[i] - 400) / 2.0;
        double step = at_0 + per_token * depths[i], attention = per_token * looks / 3;
        json_t *row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f}", "test", "decode", "model", model, "tokens", 4,
                                "depth", depths[i], "batch", batch, "median", batch / step, "formula",
                                4 * (at_0 / 2 + attention), "formula_attention", 4 * attention);
        assert_int_equal(json_array_append_new(rows, row), 0);
    }
}

/* A prompt takes 1 / 250 s a token and 1 / 100000 s for each earlier one; the cost model says half of the former and a third
 * of the latter, but from 512 on a sixth. So it predicts the same up to there, then half of the latter. */
static void add_prompts(json_t *rows, const char *model)
{
    static const int lengths[] = { 128, 512, 2048 };

    for (size_t i = 0; i < COUNT(lengths); i++) {
        double n = lengths[i], attention = n * n / 100000 / (lengths[i] > 512 ? 6 : 3);
        json_t *row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f}", "test", "prefill", "model", model, "tokens", lengths[i],
                                "depth", 0, "batch", 1, "median", n / (n / 250 + n * n / 100000), "formula", n / 500 + attention,
                                "formula_attention", attention);
        assert_int_equal(json_array_append_new(rows, row), 0);
    }
}

/* Hawk: 1 s a step, 2 s with 8. The other: 1 s + depth / 200 at batch 1, 2 s + depth / 50 with 8. */
static json_t *made_up(cli_paper *p)
{
    static uint64_t depths[] = { 0, 100, 400, 800 }, batches[] = { 1, 8 }, lengths[] = { 100, 400, 1600 };
    json_t *rows = json_array();

    add_steps(rows, "synthetic:hawk", 1, 1, 0);
    add_steps(rows, "synthetic:hawk", 8, 2, 0);
    add_steps(rows, "a/mqa.json", 1, 1, 0.005);
    add_steps(rows, "a/mqa.json", 8, 2, 0.02);
    assert_int_equal(json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f}", "test", "prefill",
                                                           "model", "synthetic:hawk", "tokens", 512, "depth", 0, "batch", 1,
                                                           "median", 256.0, "formula", 1.0, "formula_attention", 0.0)),
                     0);
    add_prompts(rows, "a/mqa.json");
    *p = (cli_paper){ .models = { "synthetic:hawk", "a/mqa.json" },
                      .n_models = 2,
                      .depths = { depths, 4, 0 },
                      .batches = { batches, 2, 0 },
                      .lengths = { lengths, 3, 0 },
                      .memory = 1 << 20,
                      .room = { { 8, 8, 8 }, { 8, 7, 7 } },
                      .state = { { 5, 5, 5 }, { 10, 40, 160 } } };
    return json_pack("{s:o}", "rows", rows);
}

static void times_add_up(void **state)
{
    cli_paper p;
    json_t *record = made_up(&p);
    const json_t *figure;

    (void)state;
    cli_paper_find(record, &p);

    figure = figure_of(record, "decode-8");
    expect_number(value_of(figure, 0, "y", 3), 2000);
    expect_number(value_of(figure, 0, "predicted", 3), 2000);
    expect_number(value_of(figure, 1, "y", 3), 1e3 * (2 + 0.02 * 800));
    expect_number(value_of(figure, 1, "predicted", 2), 1e3 * (2 + 0.02 * 400));
    expect_number(value_of(figure, 1, "predicted", 3), 1e3 * (2 + 0.02 * 600));

    /* The area below 1 + d / 200 from a to b: (b - a) + (b^2 - a^2) / 400. No step was measured beyond 800. */
    figure = figure_of(record, "latency-1-0");
    expect_number(value_of(figure, 0, "y", 1), 400);
    expect_number(value_of(figure, 1, "y", 0), 100 + 100.0 * 100 / 400);
    expect_number(value_of(figure, 1, "y", 1), 400 + 400.0 * 400 / 400);
    expect_number(value_of(figure, 1, "predicted", 1), 400 + 400.0 * 400 / 400);
    expect_number(value_of(figure, 1, "y", 2), NAN);
    figure = figure_of(record, "latency-1-400");
    expect_number(value_of(figure, 1, "y", 0), 100 + (500.0 * 500 - 400.0 * 400) / 400);
    expect_number(value_of(figure, 1, "y", 1), 400 + (800.0 * 800 - 400.0 * 400) / 400);
    expect_number(value_of(figure, 1, "predicted", 1), (3.0 + 4.0) / 2 * 400);      /* the slope after 400 is half, from 3 to 4 */

    figure = figure_of(record, "prefill");
    expect_number(value_of(figure, 0, "y", 0), 256);
    expect_number(value_of(figure, 0, "predicted", 0), 256);
    expect_number(value_of(figure, 1, "predicted", 1), 1 / (1 / 250.0 + 512 / 100000.0));
    expect_number(value_of(figure, 1, "y", 2), 1 / (1 / 250.0 + 2048 / 100000.0));
    expect_number(value_of(figure, 1, "predicted", 2), 1 / (1 / 250.0 + 2048 / 200000.0));
    figure = figure_of(record, "cache");
    expect_number(value_of(figure, 1, "y", 2), 160);
    json_decref(record);
}

/* With room for 8 sequences there are 8; where 7 fit, only one was measured that fits. */
static void the_best_that_fits(void **state)
{
    cli_paper p;
    json_t *record = made_up(&p);
    const json_t *figure;
    double other;

    (void)state;
    cli_paper_find(record, &p);
    figure = figure_of(record, "throughput");
    other = 8 * 100 / (2 * 100 + 100.0 * 100 / 100);    /* the area below 2 + d / 50 */
    expect_number(value_of(figure, 0, "y", 0), 4);
    expect_number(value_of(figure, 1, "y", 0), other);
    expect_number(value_of(figure, 1, "y", 1), 400 / 800.0);
    expect_number(value_of(figure, 1, "y", 2), NAN);

    figure = figure_of(record, "ratios");
    assert_string_equal(cell(figure, 1, 0), "100 (8)");
    assert_string_equal(cell(figure, 1, 1), "1.50 (8)");        /* 4 / (8 / 3) */
    assert_string_equal(cell(figure, 1, 2), "1.50");            /* the same up to 100 */
    assert_string_equal(cell(figure, 2, 0), "400 (1)");
    assert_string_equal(cell(figure, 2, 1), "8.00 (8)");
    assert_string_equal(cell(figure, 3, 1), "- (0)");
    json_decref(record);
}

/* 1 + d / 200 is 1.5 at 100, 2 + d / 50 is 3 at 50; 800 is predicted to be as 600. */
static void growth_and_crossings(void **state)
{
    static const char *const expected[][7] = {
        { "hawk", "1", "800", "1.00", "1.00", "100", "100" }, { "mqa.json", "1", "800", "5.00", "4.00", "-", "-" },
        { "hawk", "8", "800", "1.00", "1.00", "50", "50" },   { "mqa.json", "8", "800", "9.00", "7.00", "-", "-" },
    };
    cli_paper p;
    json_t *record = made_up(&p);
    const json_t *figure;

    (void)state;
    cli_paper_find(record, &p);
    figure = figure_of(record, "growth");
    for (size_t i = 0; i < COUNT(expected); i++)
        for (size_t k = 0; k < 7; k++) assert_string_equal(cell(figure, i + 1, k), expected[i][k]);
    json_decref(record);
}

/* Interrupted early: figures of what is there, which may be nothing. */
static void little_was_measured(void **state)
{
    cli_paper p;
    json_t *record = made_up(&p), *rows = json_object_get(record, "rows");

    (void)state;
    for (;;) {
        (void)json_object_del(record, "figures");
        cli_paper_find(record, &p);
        assert_true(json_array_size(json_object_get(record, "figures")) > 8);
        if (json_array_size(rows) == 0) break;
        assert_int_equal(json_array_remove(rows, json_array_size(rows) / 2), 0);
    }
    json_decref(record);
}

/* ------------------------------------------------------------------------------------------------------ wrong usage */

#define TINY(name) "synthetic:" GOLDEN(name)

static void wrong_usage(void **state)
{
    static const struct { const char *args[12], *says; int status; } cases[] = {
        { { "bench", "paper", "--size", "2b" }, "100m|200m|400m|1b|3b|7b|14b", 2 },
        { { "bench", "paper", TINY("hawk") }, "at least two", 2 },
        { { "bench", "paper", TINY("hawk"), TINY("mqa"), "--size", "1b" }, "--size or models", 2 },
        { { "bench", "paper", "a", "b", "c", "d", "e", "f", "g", "h" }, "7 models at most", 2 },
        { { "bench", "paper", "--weights", "bf16,q8" }, "one setting", 2 },
        { { "bench", "paper", "--chunk", "8,16" }, "one setting", 2 },
        { { "bench", "paper", "-n", "0,8" }, "from 1 up", 2 },
        { { "bench", "paper", "-m", TINY("hawk") }, "without -m", 2 },
        { { "bench", "-m", TINY("hawk"), "--size", "100m" }, "for eyrie bench paper", 2 },
        { { "bench", "paper", "-m", "x", "--memory", "12X" }, "900M or 4G", 2 },
        { { "bench", "paper", "--figures", GOLDEN("mqa/config.json") }, "Not a directory", 1 },
        { { "bench", "paper", "--figures", "/no/such/place" }, "No such file", 1 },
        { { "bench", "paper", "-o", "/no/such/place" }, "No such file", 1 },
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        expect_failure(finish(*state, start(*state, (setting){ 0 }, cases[i].args)), cases[i].status, cases[i].says);
}

/* -------------------------------------------------------------------------------------------------------- end to end */

static void refuses_what_does_not_fit(void **state)
{
    if (!any_device(*state)) skip();
    expect_failure(run(*state, "bench", "paper", TINY("hawk"), TINY("mqa"), "--memory", "100K"), 1,
                   "do not fit into 102400");
    expect_failure(run(*state, "bench", "paper", TINY("hawk"), TINY("mqa"), "--memory", "99999G"), 1, "bytes free");
    expect_failure(run(*state, "bench", "paper", TINY("hawk"), TINY("mqa"), "--context", "10"), 1, "--context 10 holds less");
    expect_failure(run(*state, "bench", "paper", "synthetic:bogus-1b", TINY("mqa")), 1, "griffin,mqa}");
}

/* Every cell has its row, states are what eyrie info says, and there are as many figures as files. */
static void figures_of_tiny_models(void **state)
{
    static const char *const models[] = { TINY("hawk"), TINY("griffin"), TINY("mqa") }, *const contexts[] = { "18",
                                                                                                              "42" };
    static const char *const files[] = { "decode-1.svg", "decode-3.tsv", "latency-3-32.svg", "throughput.svg",
                                         "prefill.tsv",  "cache.svg",    "figures.gp" };
    PATH_IN(*state, file, "out.json");
    json_t *record, *again, *info;
    size_t rows[2] = { 0, 0 }, kernels[2] = { 0, 0 }, i;
    const json_t *row;
    result r;

    if (!any_device(*state)) skip();
    r = run(*state, "bench", "paper", models[0], models[1], models[2], "-d", "0,16,64", "-b", "1,3", "-p", "8,16",
            "-n", "16,40", "-r", "2", "--memory", "64M", "-o", file, "--figures", *state);
    expect_status(&r, 0);
    expect_contains(r.out, "Highest throughput over that of mqa");
    expect_contains(r.out, "Kernels of");
    done(&r);
    record = load_json(*state, "out.json");
    json_array_foreach(json_object_get(record, "rows"), i, row) {
        rows[strcmp(string(row, "test"), "decode") == 0]++;
        assert_int_equal(json_array_size(json_object_get(row, "rates")), 2);
        assert_true(number(row, "formula") > 0);
    }
    json_array_foreach(json_object_get(record, "kernels"), i, row) {    /* none has read anything before its prompt */
        bool attention = strstr(string(row, "kernel"), "attention"), counted = !json_is_null(json_object_get(row, "bytes"));
        assert_true(number(row, "launches") > 0 && number(row, "seconds") >= 0);
        assert_true(counted || attention);
        assert_true(!counted || !attention || number(row, "depth") > 0);
        kernels[counted]++;
    }
    assert_true(kernels[0] > 0 && kernels[1] > 0);
    assert_int_equal(rows[0], 3 * 2);
    assert_int_equal(rows[1], 3 * 3 * 2 + 3 * 3);   /* and steps of 64 sequences, which fit, at depths 0, 16 and 40 */
    for (size_t m = 0; m < 3; m++)
        for (size_t k = 0; k < 2; k++) {
            info = expect_json(run(*state, "info", "-m", models[m], "--context", contexts[k], "--json"));
            expect_number(value_of(figure_of(record, "cache"), m, "y", k), number(info, "state_bytes"));
            json_decref(info);
        }
    for (i = 0; i < COUNT(files); i++) assert_int_equal(access(path_of(*state, files[i]), R_OK), 0);

    r = run(*state, "bench", "show", file, "--output", "json");
    again = expect_json(r);
    assert_true(json_equal(record, again));
    r = run(*state, "bench", "compare", file, file);
    expect_status(&r, 0);
    expect_contains(r.out, "0 slower, 0 faster");
    done(&r);
    json_decref(again);
    json_decref(record);
}

/* A record may be anybody's. */
static void figures_of_others(void **state)
{
    static const char record[] =
        "{\"schema\": \"eyrie-bench\", \"schema_version\": 1, \"rows\": [], \"figures\": [{\"key\": \"%s\", \"title\": \"<i>\", \"about\": 3, "
        "\"x\": {\"label\": \"it's\\n<i>\"}, \"y\": 7, \"curves\": [{\"name\": \"<i>\", \"x\": [0, 1, null, 2], \"y\": [%s, \"z\"], "
        "\"predicted\": 1}, 5, {}]}, {\"table\": [5, [1, \"<i>\"], []]}, 1, {}]}";
    static const struct { const char *key, *values; int status; } cases[] = {
        { "a-1", "1, 2", 0 }, { "a", "-1, -2", 0 }, { "a", "0, 0", 0 }, { "a", "1e-320, 1e-321", 0 }, { "a", "1e308, -1e308", 0 },
        { "a", "null, []", 0 }, { "../a", "1, 2", 1 }, { "", "1, 2", 1 }, { "a b", "1, 2", 1 },
    };
    PATH_IN(*state, file, "a.json");
    PATH_IN(*state, html, "a.html");
    size_t length;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[1024], *bytes;
        result r;
        assert_in_range(snprintf(text, sizeof text, record, cases[i].key, cases[i].values), 1, sizeof text - 1);
        write_text(*state, "a.json", text);
        r = run(*state, "bench", "show", file, "--figures", *state, "--html", html);
        expect_status(&r, cases[i].status);
        done(&r);
        bytes = read_whole(*state, "a.html", &length);
        assert_null(strstr(bytes, "<i>"));
        free(bytes);
        if (cases[i].status) continue;
        bytes = read_whole(*state, "figures.gp", &length);
        expect_contains(bytes, "set xlabel 'it''s<i>'\n");
        free(bytes);
    }
}

/* What was done until then is there, figures and all. */
static void interrupts(void **state)
{
    PATH_IN(*state, file, "out.json");
    const char *const args[] = { "bench", "paper", TINY("hawk"), TINY("mqa"), "-d",   "0,16", "-b", "1,2", "-p",
                                 "8",     "-n",    "16",         "-r",        "1000", "-o",   file, NULL };
    json_t *record;
    pid_t child;
    result r;

    if (!any_device(*state)) skip();
    child = start(*state, (setting){ 0 }, args);
    sleep(10);          /* opening takes a second or two, a round tenths */
    assert_int_equal(kill(child, SIGINT), 0);
    r = finish(*state, child);
    expect_status(&r, 128 + SIGINT);
    done(&r);
    record = load_json(*state, "out.json");
    assert_true(json_is_true(json_object_get(record, "interrupted")));
    json_decref(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_add_up), cmocka_unit_test(the_best_that_fits), cmocka_unit_test(growth_and_crossings),
        cmocka_unit_test(little_was_measured), test_in_dir(wrong_usage), test_in_dir(refuses_what_does_not_fit),
        test_in_dir(figures_of_tiny_models), test_in_dir(figures_of_others), test_in_dir(interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
