/* task.h - what one line of a batch's input asks for. Knows the keys and what they may be; whether a model can do it is
 * found out later. */
#ifndef CLI_TASK_H
#define CLI_TASK_H

#include "options.h"

typedef struct cli_task {
    json_t       *object;           /* the line, which the rest borrows from; NULL: it is no JSON object */
    cli_options   options;          /* those of the command, and what the line says instead */
    const json_t *id;               /* NULL: it has none */
    const json_t *prompt, *tokens;  /* one of them */
    const json_t *continuations;    /* an array, or NULL */
    const json_t *stop;             /* the same, or a text */
    uint64_t      samples;          /* to generate: 1 if not said, 0 with continuations */
    bool          logprobs;
} cli_task;

/* EINVAL: it is not as it should be. The caller frees, also then: object and id are there if they could be read. */
eyrie_status cli_task_read(cli_task *t, const cli_options *defaults, const char *text, size_t length, eyrie_error *err);
void         cli_task_free(cli_task *t);

/* Fills in *err with EINVAL, which is returned. */
eyrie_status cli_task_wrong(eyrie_error *err, const char *format, ...) CLI_PRINTF(2, 3);

#endif
