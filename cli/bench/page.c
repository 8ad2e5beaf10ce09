/* page.c - a record as one HTML page that needs nothing else: the device, its limits, plots and tables. */
#include "bench.h"
#include "figure.h"
#include "served.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SETTINGS = 7 };         /* that plots tell apart */
#define LEAST_KERNEL 1e-3           /* seconds, below which a kernel's time is mostly that of launching */

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#5c6670;--line:#d9dee3;--card:#f5f7f9;--bar:#0072b255}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#14171a;--text:#e7eaed;--soft:#9aa4ae;--line:#343b42;--card:#1d2226;--bar:#56b4e955}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:66rem;padding:1.2rem;font:16px/1.45 system-ui,sans-serif;color:var(--text);background:var(--back)}\n"
    "h1{font-size:1.5rem;line-height:1.2;margin:.4rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .6rem;overflow-wrap:anywhere}\n"
    "h3{font-size:1rem;margin:1.2rem 0 .4rem}p{margin:.4rem 0}.soft{color:var(--soft)}.warn{color:#d55e00;font-weight:600}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.7rem;margin:1rem 0}\n"
    ".cards div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}\n"
    ".cards b{display:block;font-size:1.35rem;font-weight:600;white-space:nowrap}.cards small{font-size:.85rem;font-weight:400}\n"
    ".cards span{color:var(--soft);font-size:.85rem}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.8rem 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto;margin:.4rem 0}.wide svg{display:block;min-width:34rem;max-width:56rem;width:100%}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right}th{color:var(--soft);font-weight:600}\n"
    "th:first-child,td:first-child{text-align:left;padding-left:0}td.text,th.text{text-align:left;white-space:normal;min-width:16rem}\n"
    "td.bar{background:linear-gradient(var(--bar),var(--bar)) no-repeat left/var(--n) 100%}\n"
    "</style>\n";

/* ----------------------------------------------------------------------------------------------------------- pieces */

static void print_entry(const cli_out *out, const char *name, const char *value)
{
    if (!*value) return;
    cli_out_print(out, "<dt>%s</dt><dd>", name);
    cli_print_escaped(value, out);
    cli_out_print(out, "</dd>\n");
}

static void print_card(const cli_out *out, double value, const char *unit, const char *what)
{
    char text[24];

    if (!isfinite(value)) return;
    cli_out_print(out, "<div><b>%s <small>%s</small></b><span>%s</span></div>\n", cli_digits(value, text), unit, what);
}

/* A row of the device's that has no working set. */
static double median_of(const json_t *rows, const char *test)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
        if (cli_is_test(row, test) && !json_object_get(row, "set_bytes")) return cli_get_number(row, "median");
    return NAN;
}

static void print_head(const json_t *record, const cli_out *out)
{
    const json_t *device = json_object_get(record, "device"), *machine = json_object_get(record, "machine");
    const char *name = *cli_get_text(device, "name") ? cli_get_text(device, "name") : "Benchmark";
    char text[128], memory[24];

    cli_out_print(out, "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width,initial-scale=1'>\n<title>");
    cli_print_escaped(name, out);
    cli_out_print(out, " - eyrie bench</title>\n%s</head><body>\n<p class='soft'>eyrie bench</p>\n<h1>", style);
    cli_print_escaped(name, out);
    cli_out_print(out, "</h1>\n");
    if (json_is_true(json_object_get(record, "interrupted"))) cli_out_print(out, "<p class='warn'>Interrupted: not all of it is here.</p>\n");
    cli_out_print(out, "<dl>\n");
    if (json_is_object(device)) {
        snprintf(text, sizeof text, "%.20s, %.0f compute units, %s", cli_get_text(device, "type"), cli_get_number(device, "units"),
                 cli_size(cli_get_number(device, "memory_bytes"), memory));
        print_entry(out, "Device", text);
    }
    print_entry(out, "OpenCL", cli_get_text(device, "opencl"));
    print_entry(out, "Driver", cli_get_text(device, "driver"));
    print_entry(out, "CPU", cli_get_text(machine, "cpu"));
    if (json_is_object(machine)) {
        snprintf(text, sizeof text, "%.0f cores, %s, %.60s", cli_get_number(machine, "cores"), cli_size(cli_get_number(machine, "memory_bytes"), memory),
                 cli_get_text(machine, "system"));
        print_entry(out, "Machine", text);
    }
    snprintf(text, sizeof text, "%.20s, commit %.20s", cli_get_text(record, "version"), cli_get_text(record, "commit"));
    print_entry(out, "Eyrie", text);
    print_entry(out, "Measured", cli_get_text(record, "time"));
    print_entry(out, "Energy", cli_get_text(record, "energy"));
    cli_out_print(out, "</dl>\n");
}

static void print_limits(const json_t *record, const cli_out *out)
{
    const json_t *limits = json_object_get(record, "limits"), *rows = json_object_get(record, "rows"), *selftest = json_object_get(record, "selftest");

    cli_out_print(out, "<div class='cards'>\n");
    print_card(out, 1e-9 * cli_get_number(limits, "read_bytes_per_second"), "GB/s", "reading memory");
    print_card(out, 1e-9 * cli_get_number(limits, "f32_flops_per_second"), "GFLOP/s", "f32");
    print_card(out, 1e-9 * cli_get_number(limits, "unit_flops_per_second"), "GFLOP/s", "matrix unit, bf16");
    print_card(out, 1e-9 * median_of(rows, "f16"), "GFLOP/s", "f16");
    print_card(out, 1e-9 * median_of(rows, "int8"), "GOP/s", "8-bit integers");
    print_card(out, cli_get_number(limits, "f32_ridge"), "FLOP/B", "ridge of f32");
    print_card(out, cli_get_number(limits, "unit_ridge"), "FLOP/B", "ridge of the matrix unit");
    print_card(out, 1e6 / median_of(rows, "launch"), "us", "a launch in a row");
    print_card(out, 1e6 / median_of(rows, "round trip"), "us", "a launch waited for");
    print_card(out, 1e-9 * median_of(rows, "upload"), "GB/s", "to the device");
    print_card(out, 1e-9 * median_of(rows, "download"), "GB/s", "from the device");
    cli_out_print(out, "</div>\n");
    if (json_is_object(selftest))
        cli_out_print(out, "<p>Self-test: %.0f of %.0f kernels' checks passed.</p>\n", cli_get_number(selftest, "checks") - cli_get_number(selftest, "failures"),
                      cli_get_number(selftest, "checks"));
}

/* ------------------------------------------------------------------------------------------------------------ plots */

/* Points that grow. */
typedef struct points {
    double *x, *y;
    char  **titles;
    size_t  n, x_room, y_room, titles_room;
} points;

static void add_point(points *p, double x, double y, const char *title)
{
    cli_grow(&p->x, &p->x_room, p->n + 1, sizeof *p->x);
    cli_grow(&p->y, &p->y_room, p->n + 1, sizeof *p->y);
    cli_grow(&p->titles, &p->titles_room, p->n + 1, sizeof *p->titles);
    p->x[p->n] = x;
    p->y[p->n] = y;
    p->titles[p->n] = cli_resize(NULL, strlen(title) + 1, 1);
    memcpy(p->titles[p->n++], title, strlen(title) + 1);
}

static void free_points(points *p)
{
    for (size_t i = 0; i < p->n; i++) free(p->titles[i]);
    free(p->x);
    free(p->y);
    free(p->titles);
}

static void title_of(const json_t *row, char text[256])
{
    char rate[24], share[24];

    snprintf(text, 256, "%.20s of %.0f tokens at depth %.0f, batch %.0f: %s tokens/s, %s %% of %.20s", cli_get_text(row, "test"), cli_get_number(row, "tokens"),
             cli_get_number(row, "depth"), cli_get_number(row, "batch"), cli_digits(cli_get_number(row, "median"), rate),
             cli_digits(100 * cli_get_number(row, "share"), share), cli_get_text(row, "limit"));
}

static void kernel_title(const json_t *row, char text[256])
{
    char rate[24];

    snprintf(text, 256, "%.40s in %.20s, batch %.0f: %s GFLOP/s", cli_get_text(row, "kernel"), cli_get_text(row, "test"), cli_get_number(row, "batch"),
             cli_digits(1e-9 * cli_get_number(row, "flops_per_second"), rate));
}

/* Settings in the order of the rows; as many as plots tell apart. */
static size_t settings_of(const json_t *rows, char settings[MOST_SETTINGS][512])
{
    const json_t *row;
    char text[512];
    size_t i, k, n = 0;

    json_array_foreach(rows, i, row) {
        if (!json_object_get(row, "model")) continue;
        cli_setting(row, text);
        for (k = 0; k < n && strcmp(settings[k], text) != 0; k++) continue;
        if (k == n && n < MOST_SETTINGS) memcpy(settings[n++], text, sizeof text);
    }
    return n;
}

/* What tells one of n settings from the others: nothing of one, else the model, or all but the model, or both. */
static void name_setting(char settings[MOST_SETTINGS][512], size_t n, size_t i, char name[512])
{
    const char *rest = strstr(settings[i], ", weights ");
    bool same_model = rest != NULL, same_rest = rest != NULL;

    for (size_t k = 0; k < n && rest; k++) {
        const char *other = strstr(settings[k], ", weights ");
        same_rest = same_rest && other && strcmp(other, rest) == 0;
        same_model = same_model && other && other - settings[k] == rest - settings[i] && memcmp(settings[k], settings[i], (size_t)(rest - settings[i])) == 0;
    }
    if (same_model) snprintf(name, 512, "%s", same_rest ? "" : rest + 2);
    else snprintf(name, 512, "%.*s", same_rest ? (int)(rest - settings[i]) : 511, settings[i]);
}

/* A roof rises with the bytes' rate and ends at the operations' rate. */
static cli_series roof(double read, double peak, double from, double to, double x[3], double y[3], const char *what, unsigned colour, char name[96])
{
    double ridge = peak / read;
    char a[24], b[24];

    x[0] = fmin(from, ridge / 2);
    x[1] = ridge;
    x[2] = to;
    for (int i = 0; i < 3; i++) y[i] = 1e-9 * fmin(peak, x[i] * read);
    snprintf(name, 96, "limit: reading %s GB/s, %s %s GFLOP/s", cli_digits(1e-9 * read, a), what, cli_digits(1e-9 * peak, b));
    return (cli_series){ .name = name, .x = x, .y = y, .n = isfinite(ridge) ? 3 : 0, .line = true, .dashed = colour == 7, .colour = colour };
}

static void print_roofline(const json_t *record, const cli_out *out)
{
    static char settings[MOST_SETTINGS][512], names[2 * MOST_SETTINGS][544];
    const json_t *rows = json_object_get(record, "rows"), *limits = json_object_get(record, "limits"), *row;
    double read = cli_get_number(limits, "read_bytes_per_second"), f32 = cli_get_number(limits, "f32_flops_per_second");
    double unit = cli_get_number(limits, "unit_flops_per_second"), low = INFINITY, high = 0, x[2][3], y[2][3];
    size_t n = settings_of(rows, settings), i, used = 0;
    points p[2 * MOST_SETTINGS] = { { .n = 0 } };
    points kernels = { .n = 0 };
    cli_series series[2 * MOST_SETTINGS + 3];
    char roofs[2][96], title[256], text[512];

    if (n == 0 || isnan(read) || isnan(f32)) return;
    json_array_foreach(rows, i, row) {
        double intensity = cli_get_number(row, "flops") / cli_get_number(row, "bytes");
        size_t k = 0;
        if (!json_object_get(row, "model") || !isfinite(intensity)) continue;
        cli_setting(row, text);
        while (k < n && strcmp(settings[k], text) != 0) k++;
        if (k == n) continue;
        low = fmin(low, intensity);
        high = fmax(high, intensity);
        title_of(row, title);
        add_point(&p[2 * k + cli_is_test(row, "decode")], intensity, 1e-9 * cli_get_number(row, "flops_per_second"), title);
    }
    json_array_foreach(json_object_get(record, "kernels"), i, row) {
        double intensity = cli_get_number(row, "flops") / cli_get_number(row, "bytes");
        if (!(intensity > 0) || cli_get_number(row, "seconds") < LEAST_KERNEL) continue;
        low = fmin(low, intensity);
        high = fmax(high, intensity);
        kernel_title(row, title);
        add_point(&kernels, intensity, 1e-9 * cli_get_number(row, "flops_per_second"), title);
    }
    high = fmax(2 * high, 2 * fmax(f32, unit) / read);
    series[used++] = roof(read, f32, low / 2, high, x[0], y[0], "f32", 0, roofs[0]);
    if (!isnan(unit)) series[used++] = roof(read, unit, low / 2, high, x[1], y[1], "matrix unit", 7, roofs[1]);
    if (kernels.n)
        series[used++] = (cli_series){ .name = "kernels", .x = kernels.x, .y = kernels.y, .n = kernels.n, .dots = true, .colour = 0,
                                       .titles = (const char *const *)kernels.titles };
    for (i = 0; i < 2 * n; i++) {
        if (p[i].n == 0) continue;
        name_setting(settings, n, i / 2, text);
        snprintf(names[i], sizeof names[i], "%s%s%s", i % 2 ? "decode" : "prefill", *text ? ": " : "", text);
        series[used++] = (cli_series){ .name = names[i], .x = p[i].x, .y = p[i].y, .n = p[i].n, .dots = true, .colour = 1 + (unsigned)i % 6,
                                       .titles = (const char *const *)p[i].titles };
    }
    cli_out_print(out, "<h2>Roofline</h2>\n<p class='soft'>Each phase by the operations it has for a byte, and the operations a second it came to, below what the "
                  "device allows. Point at a dot to see which.</p>\n<div class='wide'>\n");
    cli_plot_print(&(cli_plot){ "Roofline", { "FLOP a byte", true, false }, { "GFLOP/s", true, false }, series, used }, out);
    cli_out_print(out, "</div>\n");
    for (i = 0; i < 2 * n; i++) free_points(&p[i]);
    free_points(&kernels);
}

static void print_bandwidth(const json_t *rows, const cli_out *out)
{
    static const char *const tests[] = { "read", "write", "copy" };
    points p[3] = { { .n = 0 } };
    cli_series series[3];
    const json_t *row;
    char title[96], size[24], rate[24];
    size_t i;

    for (unsigned k = 0; k < 3; k++) {
        json_array_foreach(rows, i, row) {
            double set = cli_get_number(row, "set_bytes"), median = cli_get_number(row, "median");
            if (!cli_is_test(row, tests[k]) || !isfinite(set) || !isfinite(median)) continue;
            snprintf(title, sizeof title, "%s %s: %s GB/s", tests[k], cli_size(set, size), cli_digits(1e-9 * median, rate));
            add_point(&p[k], set, 1e-9 * median, title);
        }
        series[k] = (cli_series){ .name = tests[k], .x = p[k].x, .y = p[k].y, .n = p[k].n, .line = true, .dots = true, .colour = 1 + k,
                                  .titles = (const char *const *)p[k].titles };
    }
    if (p[0].n) {
        cli_out_print(out, "<h2>Memory</h2>\n<p class='soft'>What kernels read, write and copy a second, by the size of what they work on: caches are steps. Copies "
                      "count what they read and what they write.</p>\n<div class='wide'>\n");
        cli_plot_print(&(cli_plot){ "Bandwidth", { "working set", true, true }, { "GB/s", true, false }, series, 3 }, out);
        cli_out_print(out, "</div>\n");
    }
    for (i = 0; i < 3; i++) free_points(&p[i]);
}

/* ----------------------------------------------------------------------------------------------------------- tables */

static void print_number(const cli_out *out, double value)
{
    char text[24];
    cli_out_print(out, "<td>%s</td>", cli_digits(value, text));
}

static void print_phase(const json_t *rows, const char *setting, const char *test, const cli_out *out)
{
    bool decode = strcmp(test, "decode") == 0, titled = false, predicted = cli_any_number(rows, "predicted");
    bool joules = cli_any_number(rows, "joules_per_token");
    const json_t *row;
    char text[512];
    size_t i;

    json_array_foreach(rows, i, row) {
        double median = cli_get_number(row, "median"), batch = cli_get_number(row, "batch"), tokens = cli_get_number(row, "tokens");
        double share = 100 * cli_get_number(row, "share");
        if (!cli_is_test(row, test) || strcmp(cli_setting(row, text), setting) != 0) continue;
        if (!titled)
            cli_out_print(out, "<h3>%s</h3>\n<div class='wide'><table><tr><th>%s</th><th>depth</th><th>batch</th><th>tokens/s</th><th>&plusmn;</th><th>%s</th><th>GB/s</th>"
                          "<th>TFLOP/s</th><th>of the limit</th><th>limit</th>%s%s</tr>\n", decode ? "Decode" : "Prefill", decode ? "tokens" : "prompt",
                          decode ? "ms/step" : "ms", predicted ? "<th>predicted</th>" : "", joules ? "<th>J/token</th>" : "");
        titled = true;
        cli_out_print(out, "<tr><td>%.0f</td><td>%.0f</td><td>%.0f</td>", tokens, cli_get_number(row, "depth"), batch);
        print_number(out, median);
        print_number(out, cli_get_number(row, "deviation"));
        print_number(out, 1e3 * batch * (decode ? 1 : tokens) / median);
        print_number(out, 1e-9 * cli_get_number(row, "bytes_per_second"));
        print_number(out, 1e-12 * cli_get_number(row, "flops_per_second"));
        cli_out_print(out, "<td class='bar' style='--n:%.0f%%'>%s %%</td><td>", share > 0 && share < 100 ? share : share >= 100 ? 100 : 0,
                      cli_digits(share, text));
        cli_print_escaped(cli_get_text(row, "limit"), out);
        cli_out_print(out, "</td>");
        if (predicted) print_number(out, cli_get_number(row, "predicted"));
        if (joules) print_number(out, cli_get_number(row, "joules_per_token"));
        cli_out_print(out, "</tr>\n");
    }
    if (titled) cli_out_print(out, "</table></div>\n");
}

static void print_phases(const json_t *rows, const cli_out *out)
{
    const json_t *row;
    char before[512] = "", now[512];
    size_t i;

    json_array_foreach(rows, i, row) {      /* rows of one setting follow each other */
        if (!json_object_get(row, "model") || cli_is_test(row, "serve") || strcmp(cli_setting(row, now), before) == 0) continue;
        memcpy(before, now, sizeof before);
        cli_out_print(out, "<h2>");
        cli_print_escaped(now, out);
        cli_out_print(out, "</h2>\n");
        print_phase(rows, now, "prefill", out);
        print_phase(rows, now, "decode", out);
    }
}

/* In the words of the command: there is nothing in them that HTML takes for its own. */
static void print_serving(const json_t *rows, const cli_out *out)
{
    const json_t *row;
    char setting[512];
    size_t i;

    json_array_foreach(rows, i, row) {
        if (!cli_is_test(row, "serve")) continue;
        cli_out_print(out, "<h2>Serving ");
        cli_print_escaped(cli_setting(row, setting), out);
        cli_out_print(out, "</h2>\n<div class='wide'><pre>");
        cli_served_print(row, out);
        cli_out_print(out, "</pre></div>\n");
    }
}

/* What the device's cards say, and why some are not there. */
static void print_others(const json_t *rows, const cli_out *out)
{
    const json_t *row;
    const char *unit;
    char text[24];
    size_t i;
    bool titled = false;

    json_array_foreach(rows, i, row) {
        double median;
        if (json_object_get(row, "set_bytes") || json_object_get(row, "model")) continue;
        if (!titled)
            cli_out_print(out, "<h2>Arithmetic, launches, transfers</h2>\n<div class='wide'><table><tr><th>test</th><th>median</th><th>unit</th><th>spread</th><th class='text'>how</th></tr>\n");
        titled = true;
        cli_out_print(out, "<tr><td>");
        cli_print_escaped(cli_get_text(row, "test"), out);
        median = cli_shown(row, &unit);
        cli_out_print(out, "</td><td>%s</td><td>", cli_digits(median, text));
        cli_print_escaped(unit, out);
        cli_out_print(out, "</td><td>%s %%</td><td class='text'>", cli_digits(100 * cli_get_number(row, "deviation") / cli_get_number(row, "mean"), text));
        cli_print_escaped(cli_get_text(row, "how"), out);
        cli_out_print(out, "</td></tr>\n");
    }
    if (titled) cli_out_print(out, "</table></div>\n");
}

void cli_page_print(const json_t *record, const cli_out *out)
{
    const json_t *rows = json_object_get(record, "rows");

    print_head(record, out);
    print_limits(record, out);
    cli_figures_print(record, CLI_FIGURE_HTML, false, out);
    print_roofline(record, out);
    print_serving(rows, out);
    print_phases(rows, out);
    cli_figures_print(record, CLI_FIGURE_HTML, true, out);
    print_bandwidth(rows, out);
    print_others(rows, out);
    cli_out_print(out, "</body></html>\n");
}
