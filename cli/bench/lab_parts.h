/* lab_parts.h - what is in a lab, for the files that make it up: lab_setup.c opens models and fills sequences, lab.c
 * times, lab_rows.c writes down what came of it. */
#ifndef CLI_LAB_PARTS_H
#define CLI_LAB_PARTS_H

#include "lab.h"

/* Sequences that have read so many tokens are forks of one. */
typedef struct cli_base {
    uint64_t   depth;
    eyrie_seq *seq;
} cli_base;

/* A cell, and what came of it. */
typedef struct cli_trial {
    cli_cell    cell;
    const cli_base *base;
    double      expected;           /* seconds of a repetition; from the round that does not count */
    double      bytes, flops;       /* of a repetition */
    bool        may_use_unit;       /* the matrix unit may have a part in it: in decode, if results need not be invariant */
    cli_rates   rates, seconds, shares, predicted;   /* predicted: rates, where the cost model knew */
    cli_rates   read, flop_limit;   /* limits before each */
    double      joules;             /* of all repetitions */
    bool        memory_bound;       /* what the last one's limit was */
} cli_trial;

/* A model in one setting. */
typedef struct cli_lab {
    cli_benchmark        *b;
    const cli_experiment *e;
    eyrie_model          *model;
    eyrie_engine         *engine;
    eyrie_meter          *meter;    /* borrowed */
    eyrie_model_info      info;
    cli_base             *bases;    /* [n_bases], ascending depths */
    size_t                n_bases;
    eyrie_seq           **seqs;     /* [batch], NULL: closed */
    uint64_t              batch;    /* the largest */
    int32_t              *ids;      /* [TOKENS, or the longest prompt] to be read over and over */
    cli_trial            *trials;   /* [e->n] */
} cli_lab;

/* The experiment and the benchmark are set. What a failure left is closed, too. */
int  cli_lab_open(cli_lab *l);
void cli_lab_close(cli_lab *l);
/* Says why; the exit status. */
int  cli_lab_failed(cli_benchmark *b, const eyrie_error *err);

/* Steps until nothing is left to do, or a signal comes. */
eyrie_request cli_lab_request(const cli_lab *l, uint64_t n_tokens, uint64_t max_tokens);
eyrie_status  cli_lab_finish(cli_lab *l, eyrie_error *err);

/* In the record: the model and its setting; a row; what kernels took, while the row's work was done once more. */
void cli_lab_describe(const cli_lab *l);
void cli_lab_add_row(const cli_lab *l, const cli_trial *t);
void cli_lab_add_kernels(const cli_lab *l, const cli_trial *t, const eyrie_kernel_time *kernels, size_t n);

#endif
