/* options.h - the options of all commands: one table from which they are parsed and explained. Knows what an option
 * may look like; whether a file is there or a model can do it is found out later. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "io.h"

#include <eyrie/eyrie.h>

typedef struct cli_options cli_options;

enum { CLI_RUN = 1, CLI_SCORE = 2, CLI_INFO = 4, CLI_CHAT = 8, CLI_BATCH = 16,      /* bits that say which commands an option belongs to */
       CLI_DEVICES = 64, CLI_SELFTEST = 128, CLI_PACK = 256, CLI_TUNE = 512, CLI_BENCH = 1024, CLI_SIM = 2048 };

typedef struct cli_command {
    unsigned    bit;
    const char *name, *summary;             /* summary: what it does, to follow the name */
    const char *usage, *about, *examples;   /* of its help */
    int       (*run)(const cli_options *o); /* the exit status */
} cli_command;

/* The values of an option that may be given more than once. */
typedef struct cli_texts {
    const char **items;         /* [n] */
    size_t       n, capacity;
} cli_texts;

/* The values of an option that is a list of whole numbers: ascending, each once. */
typedef struct cli_counts {
    uint64_t *items;            /* [n] */
    size_t    n, capacity;
} cli_counts;

/* Zero and NULL: not given, which is the default, unless said otherwise. Strings are borrowed from the arguments. */
struct cli_options {
    const cli_command *command;
    bool               help;
    const char        *model;
    const char        *text, *file, *tokens;    /* of these and from_stdin, one, or none with load_state and in chat */
    bool               from_stdin;
    uint64_t           n, seed;                 /* n: 128, in chat 512, if not given */
    bool               greedy;
    float              temperature;             /* -1: not given */
    uint64_t           top_k;
    float              top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    cli_texts          stops, continuations;
    uint64_t           samples;                 /* 0: not given */
    bool               ignore_eos, json, probe, again;
    const char        *logits, *output, *order;
    const char        *load_state, *save_state, *session;
    const char        *weights, *compute, *kv, *invariant, *products;  /* one of the names in the table */
    uint64_t           chunk, context, slots;
    const char        *policy, *trace;
    float              token_interval;
    uint64_t           lanes;
    uint64_t           prefix_cache, prefix_host, prefix_disk, prefix_spacing;
    const char        *prefix_dir;
    const char        *device, *kernels, *kernel_dir, *cache_dir;
    uint32_t           turn;                    /* no option: which of the devices that match */
    uint64_t           threads, memory, max_alloc;
    cli_texts          words;                   /* arguments that are no options, of commands that take some */
    cli_counts         prompts, generated, depths, batches, chunks;     /* of bench, which has no n and no chunk */
    uint64_t           repetitions;
    bool               quick, profile;
    const char        *form, *html, *figures, *size;
    const char        *op;                      /* of selftest */
    cli_texts          on;                      /* of sim: its devices */
    float              rate;                    /* of sim and bench serve, like the next four lines */
    uint64_t           requests, rows;
    const char        *prompt_tokens, *output_tokens, *scenario, *record_arrivals;
    bool               search;
    float              first_limit, between_limit;
    float              threshold;               /* -1: not given */
};

/* From the arguments after the command's name, NULL last. The exit status: CLI_WRONG_USAGE after saying what is wrong.
 * With `help` set nothing more is checked. The caller frees, also after wrong usage. */
int  cli_options_parse(cli_options *o, const cli_command *command, char **args);
void cli_options_free(cli_options *o);

/* Says what is wrong and where help is (command NULL: in general); returns CLI_WRONG_USAGE. */
int cli_wrong_usage(const cli_command *command, const char *format, ...) CLI_PRINTF(2, 3);

void cli_print_help(const cli_command *command);

/* What they mean to the library. */
eyrie_model_opts cli_model_opts(const cli_options *o);
eyrie_engine_opts cli_engine_opts(const cli_options *o);   /* without a second model */
eyrie_request    cli_request(const cli_options *o);     /* how to generate; neither tokens nor who is told */
const char      *cli_format_name(eyrie_format format);

#endif
