/* kernels.c - tables of what kernels took, from the record's "kernels": a table for each phase and batch. */
#include "bench.h"
#include "figure.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = 7, TEXT = 48 };
#define LEAST_SHARE 0.001       /* of the time, below which a kernel is not shown */

static bool same_group(const json_t *a, const json_t *b)
{
    static const char *const keys[] = { "model", "weights", "kv",    "compute", "chunk",
                                        "invariant", "products", "test", "tokens", "depth", "batch" };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i]))) return false;
    return true;
}

static void add_row(json_t *figure, const json_t *k, double all)
{
    char texts[COLUMNS][TEXT], number[24];
    const char *cells[COLUMNS];
    double share = cli_get_number(k, "share");

    for (size_t i = 0; i < COLUMNS; i++) cells[i] = texts[i];
    snprintf(texts[0], TEXT, "%.40s", cli_get_text(k, "kernel"));
    snprintf(texts[1], TEXT, "%.0f", cli_get_number(k, "launches"));
    snprintf(texts[2], TEXT, "%s", cli_digits(1e3 * cli_get_number(k, "seconds"), number));
    snprintf(texts[3], TEXT, "%s %%", cli_digits(100 * cli_get_number(k, "seconds") / all, number));
    snprintf(texts[4], TEXT, "%s", cli_digits(1e-9 * cli_get_number(k, "bytes_per_second"), number));
    snprintf(texts[5], TEXT, "%s", cli_digits(1e-9 * cli_get_number(k, "flops_per_second"), number));
    if (isnan(share)) snprintf(texts[6], TEXT, "-");
    else snprintf(texts[6], TEXT, "%s %% of %.20s", cli_digits(100 * share, number), cli_get_text(k, "limit"));
    cli_figure_add_row(figure, cells, COLUMNS);
}

static const char recurrence_about[] =
    "Bytes a second of the kernel that has the scan, timed by itself, beside those that the device reads at best. Where "
    "it has the gates' products in it, too, it computes more than it reads.";

/* The kernel that has the recurrence, by the names that it has in all variants. */
static bool is_recurrence(const char *kernel)
{
    return strstr(kernel, "rglru") || strstr(kernel, "scan") || strstr(kernel, "recurrence");
}

static void recurrences(json_t *record)
{
    static const char *const head[COLUMNS] = { "model", "phase", "batch", "kernel", "GB/s", "reading GB/s", "share" };
    char texts[COLUMNS][TEXT], number[24];
    const char *cells[COLUMNS];
    json_t *figure = NULL, *k;
    size_t i;

    for (i = 0; i < COLUMNS; i++) cells[i] = texts[i];
    json_array_foreach(json_object_get(record, "kernels"), i, k) {
        double rate = cli_get_number(k, "bytes_per_second"), limit = cli_get_number(k, "read_limit");
        if (!is_recurrence(cli_get_text(k, "kernel"))) continue;
        if (!figure) {
            figure = cli_figure_add(record, "recurrence", "The recurrence beside memory", recurrence_about);
            cli_figure_set_detail(figure);
            cli_figure_add_row(figure, head, COLUMNS);
        }
        snprintf(texts[0], TEXT, "%.47s", cli_get_text(k, "model"));
        snprintf(texts[1], TEXT, "%.20s", cli_get_text(k, "test"));
        snprintf(texts[2], TEXT, "%.0f", cli_get_number(k, "batch"));
        snprintf(texts[3], TEXT, "%.40s", cli_get_text(k, "kernel"));
        snprintf(texts[4], TEXT, "%s", cli_digits(1e-9 * rate, number));
        snprintf(texts[5], TEXT, "%s", cli_digits(1e-9 * limit, number));
        snprintf(texts[6], TEXT, "%s %%", cli_digits(100 * rate / limit, number));
        cli_figure_add_row(figure, cells, COLUMNS);
    }
}

static const char about[] = "Timed launch by launch, which is slower than all at once; bytes and operations as plans "
                            "count them, of attention "
                            "where windows are full alone. Kernels below 0.1 % of the time are left out.";

void cli_kernels_find(json_t *record)
{
    static const char *const head[COLUMNS] = { "kernel", "launches", "ms",          "of the time",
                                               "GB/s",   "GFLOP/s",  "of the limit" };
    const json_t *list = json_object_get(record, "kernels"), *k, *before = NULL, *other;
    json_t *figure = NULL;
    size_t i, n;
    double all = 0;
    char title[512];

    recurrences(record);
    json_array_foreach(list, i, k) {        /* those of a group follow each other */
        if (!before || !same_group(before, k)) {
            snprintf(title, sizeof title, "Kernels of %.200s, %s of %.0f tokens at depth %.0f, batch %.0f",
                     cli_get_text(k, "model"), cli_get_text(k, "test"), cli_get_number(k, "tokens"),
                     cli_get_number(k, "depth"), cli_get_number(k, "batch"));
            figure = cli_figure_add(record, "kernels", title, before ? "" : about);
            cli_figure_set_detail(figure);
            cli_figure_add_row(figure, head, COLUMNS);
            all = 0;
            json_array_foreach(list, n, other)
                if (same_group(other, k)) all += cli_get_number(other, "seconds");
        }
        before = k;
        if (cli_get_number(k, "seconds") >= LEAST_SHARE * all) add_row(figure, k, all);
    }
}
