/* benchmark.c - what the parts of `eyrie bench` share, see bench.h. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>

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
