/* tables.c - see tables.h. */
#include "tables.h"
#include "figure.h"
#include "served.h"
#include "statistics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_head(const json_t *record, const cli_out *out)
{
    const json_t *device = json_object_get(record, "device"), *machine = json_object_get(record, "machine");
    char memory[24], load[24];

    cli_out_print(out, "# %s\n\n", *cli_get_text(device, "name") ? cli_get_text(device, "name") : "Benchmark");
    cli_out_print(out, "- device: %s, %.0f compute units, %s, %s, driver %s\n", cli_get_text(device, "type"),
                  cli_get_number(device, "units"), cli_size(cli_get_number(device, "memory_bytes"), memory),
                  cli_get_text(device, "opencl"), cli_get_text(device, "driver"));
    cli_out_print(out, "- machine: %s, %.0f cores, %s, %s; load %s before\n", cli_get_text(machine, "cpu"), cli_get_number(machine, "cores"),
                  cli_size(cli_get_number(machine, "memory_bytes"), memory), cli_get_text(machine, "system"),
                  cli_digits(cli_get_number(machine, "load"), load));
    cli_out_print(out, "- Eyrie %s, commit %s, %s%s\n", cli_get_text(record, "version"), cli_get_text(record, "commit"),
                  cli_get_text(record, "time"), json_is_true(json_object_get(record, "interrupted")) ? "; interrupted, not all of it is here" : "");
}

static void print_limits(const json_t *record, const cli_out *out)
{
    const json_t *limits = json_object_get(record, "limits");
    double read = cli_get_number(limits, "read_bytes_per_second"), f32 = cli_get_number(limits, "f32_flops_per_second");
    double unit = cli_get_number(limits, "unit_flops_per_second");
    char a[24], b[24], c[24];

    if (!limits || isnan(read)) return;
    cli_out_print(out, "- limits, medians: reads %s GB/s, f32 %s GFLOP/s (ridge at %s FLOP a byte)", cli_digits(1e-9 * read, a),
                  cli_digits(1e-9 * f32, b), cli_digits(f32 / read, c));
    if (!isnan(unit)) cli_out_print(out, ", matrix unit %s GFLOP/s (%s)", cli_digits(1e-9 * unit, a), cli_digits(unit / read, b));
    cli_out_print(out, "\n");
}

static void print_bandwidth(const json_t *rows, const cli_out *out)
{
    static const char *const tests[] = { "read", "write", "copy" };
    const json_t *row, *other;
    char text[24];
    size_t i, k;
    bool titled = false;

    json_array_foreach(rows, i, row) {
        if (!cli_is_test(row, "read")) continue;
        if (!titled)
            cli_out_print(out, "\n## Memory\n\nGB/s of kernels over a working set; copies count what they read and what they write.\n\n"
                          "| working set | read | write | copy |\n|---|---|---|---|\n");
        titled = true;
        cli_out_print(out, "| %s |", cli_size(cli_get_number(row, "set_bytes"), text));
        for (size_t t = 0; t < 3; t++) {
            double found = NAN;
            json_array_foreach(rows, k, other)
                if (cli_is_test(other, tests[t]) && json_equal(json_object_get(other, "set_bytes"), json_object_get(row, "set_bytes")))
                    found = cli_get_number(other, "median");
            cli_out_print(out, " %s |", cli_digits(1e-9 * found, text));
        }
        cli_out_print(out, "\n");
    }
}

/* Of tests that have neither a working set nor a model. */
static void print_others(const json_t *rows, const cli_out *out)
{
    const json_t *row;
    const char *unit;
    char text[24], percent[24];
    double median;
    size_t i;
    bool titled = false;

    json_array_foreach(rows, i, row) {
        if (json_object_get(row, "set_bytes") || json_object_get(row, "model")) continue;
        if (!titled) cli_out_print(out, "\n## Arithmetic, launches, transfers\n\n| test | median | | spread | how |\n|---|---|---|---|---|\n");
        titled = true;
        median = cli_shown(row, &unit);
        cli_out_print(out, "| %s | %s | %s | %s %% | %s |\n", cli_get_text(row, "test"), cli_digits(median, text), isnan(median) ? "" : unit,
                      cli_digits(100 * cli_get_number(row, "deviation") / cli_get_number(row, "mean"), percent), cli_get_text(row, "how"));
    }
}

/* Columns that are empty in all rows of the record are left out. */
static void print_phase(const json_t *rows, const char *setting, const char *test, const cli_out *out)
{
    bool decode = strcmp(test, "decode") == 0, titled = false, predicted = cli_any_number(rows, "predicted"), joules = cli_any_number(rows, "joules_per_token");
    char text[512], t[8][24];
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row) {
        double median = cli_get_number(row, "median"), batch = cli_get_number(row, "batch"), tokens = cli_get_number(row, "tokens");
        if (!cli_is_test(row, test) || strcmp(cli_setting(row, text), setting) != 0) continue;
        if (!titled)
            cli_out_print(out, "\n%s\n\n| %s | depth | batch | tokens/s | mean | +- | %s | GB/s | TFLOP/s | of the limit |%s%s\n"
                          "|---|---|---|---|---|---|---|---|---|---|%s%s\n", decode ? "Decode" : "Prefill", decode ? "tokens" : "prompt",
                          decode ? "ms/step" : "ms", predicted ? " predicted |" : "", joules ? " J/token |" : "", predicted ? "---|" : "",
                          joules ? "---|" : "");
        titled = true;
        cli_out_print(out, "| %.0f | %.0f | %.0f | %s | %s | %s | %s | %s | %s | %s %% of %s |", tokens, cli_get_number(row, "depth"), batch,
                      cli_digits(median, t[0]), cli_digits(cli_get_number(row, "mean"), t[1]), cli_digits(cli_get_number(row, "deviation"), t[2]),
                      cli_digits(1e3 * batch * (decode ? 1 : tokens) / median, t[3]), cli_digits(1e-9 * cli_get_number(row, "bytes_per_second"), t[4]),
                      cli_digits(1e-12 * cli_get_number(row, "flops_per_second"), t[5]), cli_digits(100 * cli_get_number(row, "share"), t[6]),
                      cli_get_text(row, "limit"));
        if (predicted) cli_out_print(out, " %s |", cli_digits(cli_get_number(row, "predicted"), t[7]));
        if (joules) cli_out_print(out, " %s |", cli_digits(cli_get_number(row, "joules_per_token"), t[7]));
        cli_out_print(out, "\n");
    }
}

void cli_tables_print(const json_t *record, const cli_out *out)
{
    const json_t *rows = json_object_get(record, "rows"), *row;
    char before[512] = "", now[512];
    size_t i;

    print_head(record, out);
    print_limits(record, out);
    if (*cli_get_text(record, "energy")) cli_out_print(out, "- energy: %s\n", cli_get_text(record, "energy"));
    print_bandwidth(rows, out);
    print_others(rows, out);
    cli_figures_print(record, CLI_FIGURE_MD, false, out);
    json_array_foreach(rows, i, row)
        if (cli_is_test(row, "serve")) cli_served_print_row(row, out);
    json_array_foreach(rows, i, row) {      /* rows of one setting follow each other */
        if (!json_object_get(row, "model") || cli_is_test(row, "serve") || strcmp(cli_setting(row, now), before) == 0) continue;
        memcpy(before, now, sizeof before);
        cli_out_print(out, "\n## %s\n", now);
        print_phase(rows, now, "prefill", out);
        print_phase(rows, now, "decode", out);
    }
    cli_figures_print(record, CLI_FIGURE_MD, true, out);
}
