/* test_bench.c - `eyrie bench`: statistics against values worked out by hand, lists, records in all forms, comparing, what is
 * refused, and all of it end to end on the demo model at tiny sizes. Not for how fast anything is. */
#include "testing.h"

#include "command.h"
#include "energy.h"
#include "os.h"
#include "statistics.h"

#include <math.h>
#include <sys/stat.h>

static void expect_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.12g instead of %.12g", value, expected);
}

/* ------------------------------------------------------------------------------------------------------- statistics */

static void summaries(void **state)
{
    const double odd[] = { 5, 1, 3 }, even[] = { 4, 1, 3, 8 }, one[] = { 7 };
    cli_summary s;

    (void)state;
    s = cli_summarise(odd, 3);
    expect_near(s.median, 3, 0);
    expect_near(s.mean, 3, 1e-15);
    expect_near(s.deviation, 2, 1e-15);             /* sqrt((4 + 4 + 0) / 2) */
    s = cli_summarise(even, 4);
    expect_near(s.median, 3.5, 0);
    expect_near(s.mean, 4, 1e-15);
    expect_near(s.deviation, sqrt(26.0 / 3), 1e-14);
    s = cli_summarise(one, 1);
    expect_near(s.median, 7, 0);
    assert_true(isnan(s.deviation) && isnan(cli_summarise(NULL, 0).median));
}

/* Closed forms exist for few degrees of freedom: 1 - 2 atan(t) / pi for 1, 1 - s for 2 with s = t / sqrt(t^2 + 2),
 * 1 - s (3 - s^2) / 2 for 4 with s = t / sqrt(t^2 + 4). */
static void students_t(void **state)
{
    static const double ts[] = { 0.01, 0.5, 1, 2.5, 7, 100 };

    (void)state;
    for (size_t i = 0; i < COUNT(ts); i++) {
        double t = ts[i], s = t / sqrt(t * t + 4);
        expect_near(cli_student(t, 1), 1 - 2 * atan(t) / acos(-1), 1e-12);
        expect_near(cli_student(t, 2), 1 - t / sqrt(t * t + 2), 1e-12);
        expect_near(cli_student(t, 4), 1 - s * (3 - s * s) / 2, 1e-12);
        expect_near(cli_student(-t, 4), cli_student(t, 4), 0);
    }
    expect_near(cli_student(0, 5), 1, 1e-12);
    expect_near(cli_student(1.959964, 1e7), 0.05, 1e-6);        /* the normal distribution's */
}

/* Logarithms 0, 1, 2 and 2, 3, 4: variances 1, t = 2 / sqrt(2/3) with 4 degrees of freedom; s^2 of above is then 6 / 10. */
static void welchs_test(void **state)
{
    double a[3], b[3], same[] = { 2, 2, 2 }, other[] = { 4, 4 }, ratio, s = sqrt(0.6);

    (void)state;
    for (int i = 0; i < 3; i++) a[i] = exp(i), b[i] = exp(i + 2);
    expect_near(cli_welch(a, 3, b, 3, &ratio), 1 - s * (3 - s * s) / 2, 1e-12);
    expect_near(ratio, exp(2), 1e-12);
    expect_near(cli_welch(same, 3, same, 3, &ratio), 1, 0);
    expect_near(cli_welch(same, 3, other, 2, &ratio), 0, 0);
    expect_near(ratio, 2, 1e-14);
    assert_true(isnan(cli_welch(same, 1, other, 2, &ratio)));
    expect_near(ratio, 2, 1e-14);
    assert_true(isnan(cli_welch(same, 0, other, 2, &ratio)) && isnan(ratio));
}

/* 0.005 x 4, 0.01 x 3, 0.03 x 2; 0.04 x 1 is not below the one before. */
static void holms_correction(void **state)
{
    double p[] = { 0.01, 0.04, NAN, 0.03, 0.005 }, high[] = { 0.9, 0.8 };

    (void)state;
    cli_holm(p, 5);
    expect_near(p[0], 0.03, 1e-15);
    expect_near(p[1], 0.06, 1e-15);
    assert_true(isnan(p[2]));
    expect_near(p[3], 0.06, 1e-15);
    expect_near(p[4], 0.02, 1e-15);
    cli_holm(high, 2);
    expect_near(high[0], 1, 0);
    expect_near(high[1], 1, 0);
    cli_holm(NULL, 0);
}

/* ----------------------------------------------------------------------------------------------------------- energy */

/* make_dir's remove_dir removes files only. */
static void remove_package(const char *dir, const char *package)
{
    static const char *const files[] = { "energy_uj", "max_energy_range_uj" };
    char path[4096];

    assert_true(snprintf(path, sizeof path, "%s", path_of(dir, package)) > 0);
    for (size_t i = 0; i < 2; i++) assert_int_equal(remove(path_of(path, files[i])), 0);
    assert_int_equal(rmdir(path), 0);
}

static void counters_of_energy(void **state)
{
    const char *packages[] = { "intel-rapl:0", "intel-rapl:1" };
    char paths[2][4096];
    cli_energy e;

    cli_energy_open(&e, path_of(*state, "nothing"));
    assert_int_equal(e.n, 0);
    expect_contains(e.reason, "No such file");
    assert_true(isnan(cli_energy_spent(&e)));

    for (int i = 0; i < 2; i++) {
        assert_true(snprintf(paths[i], sizeof paths[i], "%s", path_of(*state, packages[i])) > 0);
        assert_int_equal(mkdir(paths[i], 0777), 0);
        write_text(paths[i], "energy_uj", "9000000\n");
        write_text(paths[i], "max_energy_range_uj", "10000000\n");
    }
    cli_energy_open(&e, *state);
    assert_int_equal(e.n, 2);
    expect_near(cli_energy_spent(&e), 0, 0);
    write_text(paths[0], "energy_uj", "9500000\n");
    write_text(paths[1], "energy_uj", "500000\n");      /* began anew after 10 */
    expect_near(cli_energy_spent(&e), 0.5 + 1.5, 1e-9);
    expect_near(cli_energy_spent(&e), 0, 1e-9);
    for (int i = 0; i < 2; i++) remove_package(*state, packages[i]);
}

/* ------------------------------------------------------------------------------------------------------ wrong usage */

static void wrong_usage(void **state)
{
    static const struct { const char *args[12], *says; } cases[] = {
        { { "bench" }, "device, report, show, compare and paper" },
        { { "bench", "bogus" }, "device, report, show FILE, compare A B and paper" },
        { { "bench", "device", "x" }, "no more words" },
        { { "bench", "show" }, "one file" },
        { { "bench", "compare", "a" }, "two files" },
        { { "bench", "compare", "a", "b", "--output", "csv" }, "md or json" },
        { { "bench", "-m", MODEL, "--weights", "bf16,f33" }, "f32|f16|bf16|q8|q4" },
        { { "bench", "-m", MODEL, "--weights", "bf16," }, "f32|f16|bf16|q8|q4" },
        { { "bench", "-m", MODEL, "--compute", "int3" }, "auto|f32" },
        { { "bench", "-m", MODEL, "--output", "xml" }, "md|csv|json|jsonl" },
        { { "bench", "-m", MODEL, "-p", "x" }, "such as 1,4,16" },
        { { "bench", "-m", MODEL, "-p", "1,,2" }, "such as 1,4,16" },
        { { "bench", "-m", MODEL, "-p", "4-1" }, "-p '4-1'" },
        { { "bench", "-m", MODEL, "-p", "0-8*2" }, "-p '0-8*2'" },         /* never gets there */
        { { "bench", "-m", MODEL, "-p", "1-8*1" }, "-p '1-8*1'" },
        { { "bench", "-m", MODEL, "-p", "1-8+0" }, "-p '1-8+0'" },
        { { "bench", "-m", MODEL, "-p", "1-8+1+1" }, "-p '1-8+1+1'" },
        { { "bench", "-m", MODEL, "-p", "1-2000000000" }, "at most 64" },
        { { "bench", "-m", MODEL, "-d", "0-1000000000000000000000" }, "-d" },
        { { "bench", "-m", MODEL, "-d", "-1" }, "-d '-1'" },
        { { "bench", "-m", MODEL, "-b", "0" }, "-b '0'" },
        { { "bench", "-m", MODEL, "--chunk", "0,8" }, "--chunk '0,8'" },
        { { "bench", "-m", MODEL, "-r", "0" }, "-r '0'" },
        { { "bench", "-m", MODEL, "-p", "0", "-n", "0" }, "-p 0 and -n 0" },
        { { "bench", "-m", MODEL, "--slots", "3" }, "--slots" },
        { { "bench", "-m", MODEL, "--threshold", "x" }, "--threshold" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) expect_failure(finish(*state, start(*state, (setting){ 0 }, cases[i].args)), 2, cases[i].says);
}

/* -------------------------------------------------------------------------------------------------------- end to end */

static void save(const char *dir, const char *name, json_t *object)
{
    assert_int_equal(json_dump_file(object, path_of(dir, name), 0), 0);
    json_decref(object);
}

/* Rows in the order of -p and -n, of -d, of -b. */
static void rows_of_a_model(void **state)
{
    static const struct { const char *test; int tokens, depth, batch; } expected[] = {
        { "prefill", 2, 0, 1 }, { "prefill", 2, 0, 3 }, { "prefill", 2, 10, 1 }, { "prefill", 2, 10, 3 },
        { "prefill", 4, 0, 1 }, { "prefill", 4, 0, 3 }, { "prefill", 4, 10, 1 }, { "prefill", 4, 10, 3 },
        { "decode", 3, 0, 1 },  { "decode", 3, 0, 3 },  { "decode", 3, 10, 1 },  { "decode", 3, 10, 3 },
    };
    PATH_IN(*state, file, "out.json");
    json_t *record, *rows;
    result r;

    if (!any_device(*state)) skip();
    r = run(*state, "bench", "-m", MODEL, "-p", "2-5*2,4", "-n", "3,0", "-d", "10,0", "-b", "3,1", "-r", "2", "--chunk", "8", "--weights",
            "bf16,q8", "--memory", "256M", "-o", file);
    expect_status(&r, 0);
    expect_contains(r.out, "weights q8");
    expect_contains(r.out, "| 3 | 10 | 3 |");
    done(&r);

    record = load_json(*state, "out.json");
    assert_string_equal(string(record, "schema"), "eyrie-bench");
    assert_int_equal(number(record, "schema_version"), 1);
    assert_true(string(record, "version")[0] && string(record, "commit")[0] && string(record, "time")[0] && string(record, "energy")[0]);
    assert_true(string(json_object_get(record, "device"), "name")[0] && string(json_object_get(record, "device"), "driver")[0]);
    assert_true(json_is_array(json_object_get(record, "variants")));
    assert_true(number(json_object_get(record, "limits"), "read_bytes_per_second") > 0);
    assert_int_equal(json_array_size(json_object_get(record, "models")), 2);
    rows = json_object_get(record, "rows");
    assert_int_equal(json_array_size(rows), 2 * COUNT(expected));
    for (size_t i = 0; i < 2 * COUNT(expected); i++) {
        const json_t *row = json_array_get(rows, i), *rates = json_object_get(row, "rates"), *seconds = json_object_get(row, "seconds");
        size_t k = i % COUNT(expected);

        assert_string_equal(string(row, "test"), expected[k].test);
        assert_int_equal(number(row, "tokens"), expected[k].tokens);
        assert_int_equal(number(row, "depth"), expected[k].depth);
        assert_int_equal(number(row, "batch"), expected[k].batch);
        assert_int_equal(number(row, "chunk"), 8);
        assert_string_equal(string(row, "weights"), i < COUNT(expected) ? "bf16" : "q8");
        assert_int_equal(json_array_size(rates), 2);
        for (size_t n = 0; n < 2; n++)      /* 9 digits are written */
            expect_near(json_number_value(json_array_get(rates, n)) * json_number_value(json_array_get(seconds, n)),
                        expected[k].tokens * expected[k].batch, 1e-6);
        if (k >= 8) assert_true(number(row, "predicted") > 0);     /* after the round that does not count, steps of decode are known */
        assert_true(number(row, "share") > 0 && number(row, "bytes") > 0 && number(row, "flops") > 0);
    }
    /* Twice as many tokens, twice the work; deeper, more keys to read. */
    expect_near(number(json_array_get(rows, 9), "bytes") > number(json_array_get(rows, 8), "bytes"), 1, 0);
    expect_near(number(json_array_get(rows, 10), "flops") > number(json_array_get(rows, 8), "flops"), 1, 0);
    json_decref(record);
}

/* With the window full, a token takes what `eyrie info` says. A prompt of two chunks reads the weights twice but those of the head,
 * 1,024 x 192 in bf16, which its last token alone wants. */
static void work_of_a_token(void **state)
{
    json_t *info, *row;
    double weights;

    if (!any_device(*state)) skip();
    row = expect_json(run(*state, "bench", "-m", MODEL, "-p", "0", "-n", "1", "-d", "150", "-r", "1", "--memory", "256M", "--output", "jsonl"));
    info = expect_json(run(*state, "info", "-m", MODEL, "--json"));
    expect_near(number(row, "flops"), number(info, "decode_flops"), 0);
    expect_near(number(row, "bytes"), number(info, "decode_bytes"), 0);
    json_decref(row);
    row = expect_json(run(*state, "bench", "-m", MODEL, "-p", "64", "-n", "0", "--chunk", "32", "-r", "1", "--memory", "256M", "--output", "jsonl"));
    weights = 2 * number(info, "weight_bytes") - 1024 * 192 * 2;
    expect_near(number(row, "bytes"), weights, 0.02 * weights);      /* states, keys and values are in it, too */
    json_decref(row);
    json_decref(info);
}

/* Every form tells the same rows; JSON comes back as it was. */
static void forms(void **state)
{
    PATH_IN(*state, file, "a.json");
    PATH_IN(*state, again, "b.json");
    json_t *a, *b, *line;
    size_t rows, lines = 0;
    json_error_t error;
    result r;

    if (!any_device(*state)) skip();
    r = run(*state, "bench", "device", "--quick", "-r", "1", "--memory", "64M", "-o", file);
    expect_status(&r, 0);
    expect_contains(r.out, "| 16 KiB |");
    done(&r);
    r = run(*state, "bench", "show", file, "-o", again);
    expect_status(&r, 0);
    done(&r);
    a = load_json(*state, "a.json");
    b = load_json(*state, "b.json");
    assert_true(json_equal(a, b));
    rows = json_array_size(json_object_get(a, "rows"));
    assert_int_equal(rows, 3 * 5 + 8);      /* 16 KiB, 128 KiB, 1 MiB, 8 MiB and half of what there is; eight other tests */
    r = run(*state, "bench", "show", file, "--output", "csv");
    expect_status(&r, 0);
    for (const char *p = r.out; (p = strstr(p, "\r\n")) != NULL; p += 2) lines++;
    assert_int_equal(lines, rows + 1);
    done(&r);
    r = run(*state, "bench", "show", file, "--output", "jsonl");
    expect_status(&r, 0);
    lines = 0;
    for (char *p = strtok(r.out, "\n"); p; p = strtok(NULL, "\n"), lines++) {
        line = json_loads(p, 0, &error);
        assert_non_null(line);
        assert_string_equal(string(line, "commit"), string(a, "commit"));
        assert_string_equal(string(line, "test"), string(json_array_get(json_object_get(a, "rows"), lines), "test"));
        json_decref(line);
    }
    assert_int_equal(lines, rows);
    done(&r);
    json_decref(a);
    json_decref(b);
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)) != NULL; text++) n++;
    return n;
}

/* A legend says what tells its lines apart, and no more. */
static void legends(void **state)
{
    static const struct { const char *models[2], *weights[2], *says[2]; } cases[] = {
        { { "x", "x" }, { "q4", "q4" }, { ">decode<", ">decode<" } },
        { { "x", "y" }, { "q4", "q4" }, { ">decode: x<", ">decode: y<" } },
        { { "x", "x" }, { "q4", "q8" }, { ">decode: weights q4, keys", ">decode: weights q8, keys" } },
        { { "x", "y" }, { "q4", "q8" }, { ">decode: x, weights q4, keys", ">decode: y, weights q8, keys" } },
    };
    PATH_IN(*state, file, "a.json");
    PATH_IN(*state, html, "a.html");

    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *rows = json_array(), *record;
        size_t length;
        char *bytes;
        result r;

        for (size_t k = 0; k < 2; k++)
            json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f}", "test", "decode", "model", cases[i].models[k],
                                                  "weights", cases[i].weights[k], "kv", "f16", "compute", "auto", "chunk", 256, "bytes", 1e9, "flops",
                                                  1e9, "flops_per_second", 5e9, "median", 5.0));
        record = json_pack("{s:s, s:i, s:{s:f, s:f}, s:o}", "schema", "eyrie-bench", "schema_version", 1, "limits", "read_bytes_per_second", 1e10,
                           "f32_flops_per_second", 1e11, "rows", rows);
        assert_non_null(record);
        save(*state, "a.json", record);
        r = run(*state, "bench", "show", file, "--html", html);
        expect_status(&r, 0);
        done(&r);
        bytes = read_whole(*state, "a.html", &length);
        for (size_t k = 0; k < 2; k++) expect_contains(bytes, cases[i].says[k]);
        free(bytes);
    }
}

/* The page stands alone, draws every row, and takes what a record says for text. */
static void page(void **state)
{
    static const char text[] =
        "{\"schema\": \"eyrie-bench\", \"schema_version\": 1, \"device\": {\"name\": \"<b>&\\\"x\"},"
        " \"limits\": {\"read_bytes_per_second\": 1e10, \"f32_flops_per_second\": 1e11, \"unit_flops_per_second\": null},"
        " \"rows\": [{\"test\": \"read\", \"set_bytes\": 65536, \"median\": 1e11}, {\"test\": \"read\", \"set_bytes\": 1048576, \"median\": 2e10},"
        " {\"test\": \"read\", \"set_bytes\": 0, \"median\": 2e10}, {\"test\": \"<i>\", \"unit\": \"<i>\", \"how\": \"<i>\", \"median\": 1},"
        " {\"test\": \"decode\", \"model\": \"<i>\", \"weights\": \"bf16\", \"bytes\": 1e9, \"flops\": 1e9, \"flops_per_second\": 5e9,"
        " \"share\": 0.5, \"limit\": \"<i>\", \"median\": 5, \"tokens\": 8}]}";
    PATH_IN(*state, file, "a.json");
    PATH_IN(*state, html, "a.html");
    size_t length;
    char *bytes;
    result r;

    write_text(*state, "a.json", text);
    r = run(*state, "bench", "show", file, "--html", html);
    expect_status(&r, 0);
    done(&r);
    bytes = read_whole(*state, "a.html", &length);
    assert_int_equal(count_of(bytes, "<svg"), 2);           /* roofline and bandwidth */
    assert_int_equal(count_of(bytes, "<circle"), 3 + 2);    /* the decode row and two of three sets; the legend of either */
    assert_int_equal(count_of(bytes, "<i>") + count_of(bytes, "<b>&"), 0);
    assert_int_equal(count_of(bytes, "http"), 2);           /* each plot's namespace, which nobody fetches */
    expect_contains(bytes, "&lt;b&gt;&amp;&quot;x");
    expect_contains(bytes, "</html>");
    free(bytes);
}

/* What was done until then is there. */
static void interrupts(void **state)
{
    PATH_IN(*state, file, "out.json");
    const char *const args[] = { "bench", "-m", MODEL, "-p", "0", "-n", "4", "-r", "1000", "--memory", "256M", "-o", file, NULL };
    json_t *record;
    pid_t child;
    result r;

    if (!any_device(*state)) skip();
    child = start(*state, (setting){ 0 }, args);
    for (int i = 0; i < 6000; i++) {        /* the file that becomes out.json is made before anything is measured */
        char temporary[64];
        assert_true(snprintf(temporary, sizeof temporary, "out.json.%ld.tmp", (long)child) > 0);
        if (access(path_of(*state, temporary), F_OK) == 0) break;
        nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
    }
    sleep(6);
    assert_int_equal(kill(child, SIGINT), 0);
    r = finish(*state, child);
    expect_status(&r, 128 + SIGINT);
    expect_contains(r.out, "interrupted");
    done(&r);
    record = load_json(*state, "out.json");
    assert_true(json_is_true(json_object_get(record, "interrupted")));
    json_decref(record);
}

static void refuses_before_measuring(void **state)
{
    PATH_IN(*state, file, "none/out.json");
    PATH_IN(*state, page, "none/out.html");

    expect_failure(run(*state, "bench", "-m", MODEL, "-o", file), 1, "none/out.json: No such file");
    expect_failure(run(*state, "bench", "-m", MODEL, "--html", page), 1, "none/out.html: No such file");
    expect_failure(run(*state, "bench", "device", "-o", *state), 1, "Is a directory");
    if (!any_device(*state)) skip();
    expect_failure(run(*state, "bench", "-m", "synthetic:bogus-1b"), 1, "griffin,mqa}");
    expect_failure(run(*state, "bench", "-m", MODEL, "--context", "100", "-d", "64", "-p", "64"), 1, "--context 100 holds less");
    expect_failure(run(*state, "bench", "-m", MODEL, "-b", "65536", "--memory", "64M"), 1, "there is 64 MiB");
    expect_failure(run(*state, "bench", "-m", MODEL, "-b", "65536", "--memory", "64M"), 1, "state of 65537 sequence(s)");
    expect_failure(run(*state, "bench", "-m", MODEL, "-b", "65536", "--memory", "64M"), 1, "slots are here");
}

/* -------------------------------------------------------------------------------------------------------- comparing */

/* A record of one row with these rates, at these shares of what memory allowed, if any. */
static json_t *record_of(int version, const double *rates, const double *shares, size_t n, int chunk)
{
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s}", "test", "decode", "model", "m", "weights", "bf16", "kv", "f16",
                            "compute", "auto", "chunk", chunk, "tokens", 8, "depth", 0, "batch", 1, "unit", "tokens/s");
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) assert_int_equal(json_array_append_new(list, json_real(rates[i])), 0);
    assert_int_equal(json_object_set_new(row, "rates", list), 0);
    list = json_array();
    for (size_t i = 0; i < n && shares; i++) assert_int_equal(json_array_append_new(list, json_real(rates[i] / shares[i])), 0);
    assert_int_equal(json_object_set_new(row, "limit", json_string("read")), 0);
    assert_int_equal(json_object_set_new(row, "read_limits", list), 0);
    return json_pack("{s:s, s:i, s:[o]}", "schema", "eyrie-bench", "schema_version", version, "rows", row);
}

static void comparisons(void **state)
{
    static const double base[] = { 100, 101, 99, 100.5, 99.5 }, again[] = { 99.8, 100.9, 99.2, 100.2, 100.1 }, slow[] = { 80, 81, 79, 80.5, 79.5 },
                        little[] = { 98, 99, 97, 98.5, 97.5 }, wild[] = { 140, 60, 100, 75, 90 },
                        shares[] = { 0.8, 0.81, 0.79, 0.8, 0.8 }, lower[] = { 0.64, 0.65, 0.63, 0.64, 0.64 };
    static const struct { const double *a, *shares_a, *b, *shares_b; size_t n; int chunk, status; const char *says; } cases[] = {
        { base, NULL, again, NULL, 5, 256, 0, "no difference" },
        { base, NULL, slow, NULL, 5, 256, 3, "slower" },
        { slow, NULL, base, NULL, 5, 256, 0, "faster" },
        { base, NULL, little, NULL, 5, 256, 0, "no difference" },       /* it is there, and below 3 % */
        { base, NULL, wild, NULL, 5, 256, 0, "no difference" },
        { base, shares, slow, lower, 5, 256, 3, "slower" },
        { base, shares, slow, shares, 5, 256, 0, "no difference" },     /* the machine was slower */
        { base, NULL, slow, NULL, 1, 256, 0, "too few repetitions" },
        { base, NULL, slow, NULL, 5, 8, 3, "chunk: 256 and 8" },
    };
    PATH_IN(*state, a, "a.json");
    PATH_IN(*state, b, "b.json");
    json_t *found;
    result r;

    for (size_t i = 0; i < COUNT(cases); i++) {
        save(*state, "a.json", record_of(1, cases[i].a, cases[i].shares_a, cases[i].n, 256));
        save(*state, "b.json", record_of(1, cases[i].b, cases[i].shares_b, cases[i].n, cases[i].chunk));
        r = run(*state, "bench", "compare", a, b);
        if (r.status != cases[i].status) print_message("case %zu\n", i);
        expect_status(&r, cases[i].status);
        expect_contains(r.out, cases[i].says);
        done(&r);
    }
    save(*state, "a.json", record_of(1, base, NULL, 5, 256));
    save(*state, "b.json", record_of(1, little, NULL, 5, 256));
    r = run(*state, "bench", "compare", a, b, "--threshold", "1");
    expect_status(&r, 3);
    done(&r);
    r = run(*state, "bench", "compare", a, b, "--output", "json");
    found = expect_json(r);
    assert_int_equal(number(found, "slower"), 0);
    expect_near(number(json_array_get(json_object_get(found, "rows"), 0), "ratio"), 0.98, 1e-4);
    json_decref(found);
}

/* Records of before rows said whether they are invariant and whose products they have are of what was usual, and are compared with
 * those that say it; with others as with any setting. */
static void rows_that_say_less(void **state)
{
    static const double base[] = { 100, 101, 99, 100.5, 99.5 };
    static const struct { const char *key, *value, *says; } cases[] = {
        { "invariant", "on", "1 row" }, { "products", "own", "1 row" }, { "invariant", "off", "invariant: on and off" },
        { "products", "clblast", "products: own and clblast" },
    };
    PATH_IN(*state, a, "a.json");
    PATH_IN(*state, b, "b.json");

    save(*state, "a.json", record_of(1, base, NULL, 5, 256));
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *record = record_of(1, base, NULL, 5, 256);
        result r;

        assert_int_equal(json_object_set_new(json_array_get(json_object_get(record, "rows"), 0), cases[i].key, json_string(cases[i].value)), 0);
        save(*state, "b.json", record);
        r = run(*state, "bench", "compare", a, b);
        expect_status(&r, 0);
        expect_contains(r.out, cases[i].says);
        expect_contains(r.out, "no difference");
        done(&r);
    }
}

/* With twenty rows of chance alone, one of which looks like a difference at 5 %, nothing is one. */
static void many_rows(void **state)
{
    static const double base[] = { 100, 104, 97, 101, 98 }, luck[] = { 108, 104, 107, 111, 103 };
    PATH_IN(*state, a, "a.json");
    PATH_IN(*state, b, "b.json");
    json_t *records[2];
    double p, ratio;
    result r;

    p = cli_welch(base, 5, luck, 5, &ratio);
    assert_true(p < 0.05 && p > 0.05 / 20 && ratio > 1.03);
    for (int k = 0; k < 2; k++) {
        records[k] = json_pack("{s:s, s:i, s:[]}", "schema", "eyrie-bench", "schema_version", 1, "rows");
        for (int i = 0; i < 20; i++) {
            json_t *one = record_of(1, i == 7 && k == 1 ? luck : base, NULL, 5, 256), *row = json_array_get(json_object_get(one, "rows"), 0);
            assert_int_equal(json_object_set_new(row, "depth", json_integer(i)), 0);
            assert_int_equal(json_array_append(json_object_get(records[k], "rows"), row), 0);
            json_decref(one);
        }
    }
    save(*state, "a.json", records[0]);
    save(*state, "b.json", records[1]);
    r = run(*state, "bench", "compare", b, a);
    expect_status(&r, 0);
    expect_contains(r.out, "20 rows in both: 0 slower, 0 faster");
    done(&r);
}

static void refused_records(void **state)
{
    static const struct { const char *text, *says; } cases[] = {
        { "", "not JSON" },
        { "[1]", "not a record" },
        { "{\"schema\": \"other\", \"schema_version\": 1, \"rows\": []}", "not a record" },
        { "{\"schema\": \"eyrie-bench\", \"rows\": []}", "not a record" },
        { "{\"schema\": \"eyrie-bench\", \"schema_version\": 2, \"version\": \"9.9.9\", \"rows\": []}", "of version 2, made by Eyrie 9.9.9" },
        { "{\"schema\": \"eyrie-bench\", \"schema_version\": 1}", "without \"rows\"" },
        { "{\"schema\": \"eyrie-bench\", \"schema_version\": 1, \"rows\": [7]}", "without \"rows\"" },
        { "{\"schema\": \"eyrie-bench\", \"schema_version\": 1, \"rows\": []}", "no row in common" },
    };
    static const double base[] = { 1, 2 };
    PATH_IN(*state, a, "a.json");
    PATH_IN(*state, b, "b.json");
    PATH_IN(*state, none, "none");
    result r;

    save(*state, "a.json", record_of(1, base, NULL, 2, 256));
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_text(*state, "b.json", cases[i].text);
        expect_failure(run(*state, "bench", "compare", a, b), 1, cases[i].says);
    }
    expect_failure(run(*state, "bench", "show", none), 1, "No such file");
    /* Values of other types than they have, are shown as missing. */
    write_text(*state, "b.json", "{\"schema\": \"eyrie-bench\", \"schema_version\": 1, \"device\": 5, \"rows\": [{}, {\"test\": 1, \"model\": 2,"
                                 " \"rates\": [\"x\", -1]}, {\"test\": \"read\", \"set_bytes\": \"big\"}]}");
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = { "md", "csv", "json", "jsonl" };
        r = run(*state, "bench", "show", b, "--output", names[i]);
        expect_status(&r, 0);
        done(&r);
    }
    r = run(*state, "bench", "compare", b, b);
    expect_status(&r, 0);
    done(&r);
}

typedef struct shown {
    const char *directory;      /* of the test */
    int         n;
} shown;

static void show_and_compare(void *user, const char *name, uint64_t bytes, int64_t changed)
{
    shown *s = user;
    char *path = ey_path(EY_SOURCE_DIR "/bench/devices", name);
    size_t length = strlen(name);
    result r;

    (void)bytes, (void)changed;
    assert_non_null(path);
    if (length > 5 && strcmp(name + length - 5, ".json") == 0) {
        r = run(s->directory, "bench", "show", path);
        expect_status(&r, 0);
        if (!strstr(r.out, "GB/s")) fail_msg("%s: shows no bandwidth", name);
        done(&r);
        r = run(s->directory, "bench", "compare", path, path);
        expect_status(&r, 0);
        done(&r);
        s->n++;
    }
    ey_free(path);
}

/* Of whatever version, the records of devices that we have can be read. */
static void records_of_devices(void **state)
{
    shown s = { .directory = *state };

    ey_dir_each(EY_SOURCE_DIR "/bench/devices", show_and_compare, &s);
    assert_true(s.n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries), cmocka_unit_test(students_t), cmocka_unit_test(welchs_test), cmocka_unit_test(holms_correction),
        test_in_dir(counters_of_energy), test_in_dir(wrong_usage), test_in_dir(rows_of_a_model), test_in_dir(work_of_a_token), test_in_dir(forms), test_in_dir(rows_that_say_less), test_in_dir(legends), test_in_dir(page),
        test_in_dir(interrupts), test_in_dir(refuses_before_measuring), test_in_dir(comparisons), test_in_dir(many_rows),
        test_in_dir(refused_records), test_in_dir(records_of_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
