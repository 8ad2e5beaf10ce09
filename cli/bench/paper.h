/* paper.h - the figures of the Griffin paper (De, Smith et al. 2024, figures 1b and 4, and what follows from equation
 * 5), of models of one size side by side. paper.c measures, findings.c makes figures of what was measured. */
#ifndef CLI_PAPER_H
#define CLI_PAPER_H

#include "bench.h"

enum { CLI_PAPER_MODELS = 7 };      /* at most; as many as plots tell apart */

/* What is to be found out; lists ascend. */
typedef struct cli_paper {
    const char *models[CLI_PAPER_MODELS];   /* [n_models]; the last is what the others are compared with */
    size_t      n_models;
    cli_counts  depths, batches;            /* of decode steps; the first batch is that of prompts, too */
    cli_counts  prompts;                    /* lengths that are read */
    cli_counts  lengths;                    /* that are generated */
    uint64_t memory; /* bytes for a model's weights and sequences where throughput is looked for */
    uint64_t    room[CLI_PAPER_MODELS][64]; /* [models][lengths] sequences that fit into it, each of that length */
    uint64_t    state[CLI_PAPER_MODELS][64];/* [models][lengths] bytes of such a sequence */
} cli_paper;

/* Adds what the cost model says to the record's rows, and the figures to the record. */
void cli_paper_find(json_t *record, const cli_paper *p);

#endif
