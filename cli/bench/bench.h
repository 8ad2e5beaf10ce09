/* bench.h - what the parts of `eyrie bench` share: the record that is made, limits measured beside everything, an end before
 * the end (signals, --quick), and the line that shows how far it is. bench.c is the command, survey.c, phases.c and paper.c measure, the last
 * two with lab.c, benchmark.c has what they share. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "energy.h"
#include "options.h"
#include "record.h"
#include "terminal.h"

#include <eyrie/eyrie_tools.h>

typedef struct cli_rates {
    double *values;             /* [n] a second */
    size_t  n, capacity;
} cli_rates;
void cli_rates_add(cli_rates *r, double value);

typedef struct cli_benchmark {
    const cli_options *o;
    json_t       *record, *rows;        /* rows: of the record */
    eyrie_device *device;
    cli_energy    energy;
    cli_rates     read, f32, unit;      /* limits, over the whole run */
    double        deadline;             /* on cli_seconds's clock: only first repetitions begin after it */
    cli_progress  line;
    int           signal;               /* that ended it, or 0 */
} cli_benchmark;

/* Has a signal come? It is kept. */
bool cli_bench_interrupted(cli_benchmark *b);

/* What tells settings of a model apart; compute as the options name it. */
void cli_bench_set_setting(json_t *object, const char *model, const char *compute, const eyrie_model_info *info,
                           const eyrie_model_opts *opts);

/* On a terminal: what is being done, and the seconds that are left, if they are known (NaN: not). */
void cli_bench_show(cli_benchmark *b, double left, const char *format, ...) CLI_PRINTF(3, 4);
void cli_bench_wipe(cli_benchmark *b);

/* Rows of the device: bandwidth, arithmetic, launches, transfers. */
int cli_bench_survey(cli_benchmark *b);

/* Rows of a model: prefill and decode, for all settings that the options ask for. */
int cli_bench_phases(cli_benchmark *b, const char *model);

/* A row of an engine under load, also of what was done before an interrupt. The checks: do the options make sense for it? Are
 * there none that make sense for nothing else? */
int cli_bench_serve_check(const cli_options *o);
int cli_bench_no_serve_check(const cli_options *o);
int cli_bench_serve(cli_benchmark *b);

/* Rows and figures of the paper's models side by side (paper.h). The check: is what the options ask for possible? */
int cli_bench_paper_check(const cli_options *o);
int cli_bench_paper(cli_benchmark *b);

/* Makes tables of the times of kernels in the record, if there are any. */
void cli_kernels_find(json_t *record);

/* Prints both records side by side; the exit status, CLI_SLOWER if something is significantly slower in the second. */
enum { CLI_SLOWER = 3 };
int cli_bench_compare(const char *path_a, const char *path_b, double threshold, bool json);

/* A page that stands alone. */
void cli_page_print(const json_t *record, const cli_out *out);

#endif
