/* benchmark.c - what the parts of `eyrie bench` share, see bench.h. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

void cli_rates_add(cli_rates *r, double value)
{
    cli_grow(&r->values, &r->capacity, r->n + 1, sizeof *r->values);
    r->values[r->n++] = value;
}

bool cli_bench_interrupted(cli_benchmark *b)
{
    if (!b->signal) b->signal = cli_take_signal();
    return b->signal != 0;
}

void cli_bench_set_setting(json_t *object, const char *model, const char *compute, const eyrie_model_info *info,
                           const eyrie_model_opts *opts)
{
    cli_set(object, "model", cli_text(model, strlen(model)));
    cli_set(object, "weights", json_string(cli_format_name(info->weights)));
    cli_set(object, "kv", json_string(cli_format_name(info->kv)));
    cli_set(object, "compute", json_string(compute));
    cli_set(object, "chunk", json_integer(info->chunk));
    cli_set(object, "invariant", json_string(opts->varying ? "off" : "on"));
    cli_set(object, "products", json_string(opts->products == EYRIE_PRODUCTS_CLBLAST ? "clblast" : "own"));
}

void cli_bench_show(cli_benchmark *b, double left, const char *format, ...)
{
    va_list args;

    if (!cli_progress_due(&b->line)) return;
    fputc('\r', stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (left >= 60) fprintf(stderr, "; about %.0f min left", ceil(left / 60));
    else if (!isnan(left)) fprintf(stderr, "; about %.0f s left", ceil(left));
    fputs("\033[K", stderr);
}

void cli_bench_wipe(cli_benchmark *b) { cli_progress_wipe(&b->line); }
