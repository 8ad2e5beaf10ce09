/* lab.h - times models, each in a setting: reading and generating, each cell a number of tokens at a depth in a
 * batch. Which cells are worth it is for its callers to say.
 *
 * Sequences are filled to each depth once, and a measurement forks them. All cells are measured in turn, and that as
 * often as there are repetitions: what changes on a machine over minutes shows in every row's spread instead of in
 * the difference between rows. Right before each sample its limits are measured. A round of all cells that is not
 * counted comes first, so that nothing is built, and no memory touched for the first time, while the clock runs.
 * Timed is what a caller waits for: submitting, every step, sampling and delivering; not opening, forking and
 * closing. */
#ifndef CLI_LAB_H
#define CLI_LAB_H

#include "bench.h"

/* What a row measures: tokens that are read or generated, after how many, in how many sequences. */
typedef struct cli_cell {
    bool     decode;
    uint64_t tokens, depth, batch;
} cli_cell;

typedef struct cli_experiment {
    const char      *model, *compute;   /* compute: as the options name it */
    eyrie_model_opts opts;              /* slots, context and progress are filled in; context only where it is 0 */
    const cli_cell  *cells;             /* [n] */
    size_t           n;
} cli_experiment;

/* Times the cells of n experiments, whose models are open at the same time, and adds a row for each cell that was
 * measured, also when something failed, and each setting to the record's models. `after`: how much comes after this,
 * as a multiple of it; for showing the time that is left. */
int cli_lab_run(cli_benchmark *b, const cli_experiment *experiments, size_t n, uint64_t repetitions, double after);

/* Bytes on the device that an experiment's weights and sequences take; 0 after saying why it is not known. */
uint64_t cli_lab_bytes(const cli_experiment *e);

#endif
