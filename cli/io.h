/* io.h - what goes into the command and what comes out of it: whole files, checked standard output, messages, JSON,
 * and the exit status. Knows nothing of models. */
#ifndef CLI_IO_H
#define CLI_IO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#if defined(__GNUC__)
#define CLI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CLI_PRINTF(fmt, args)
#endif

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_WRONG_USAGE = 2 };      /* exit statuses */

/* "eyrie: ..." and a newline to standard error; returns CLI_FAILED, so that failing is one statement. */
int cli_fail(const char *format, ...) CLI_PRINTF(1, 2);

/* Memory for `count` things of `size` bytes, where p was (NULL = nowhere). Without memory the command ends, exit 1.
 * cli_grow makes room in *array for at least `count` of them, doubling; *capacity counts what there is room for. */
void *cli_resize(void *p, size_t count, size_t size);
void  cli_grow(void *array, size_t *capacity, size_t count, size_t size);

/* Standard input, output and error become what cannot be read or written if they are closed: else the next file to be
 * opened, perhaps by a driver, would get their number and our text. */
void cli_open_streams(void);

/* All of the file, or of standard input where path is NULL, zero bytes included. The caller frees *bytes, also after a
 * failure. */
int cli_read(char **bytes, size_t *length, const char *path);

/* Standard output. The first failure is kept and cli_close_output tells it; cli_flush says whether there was none yet,
 * which those who go on writing ask. */
void cli_write(const void *bytes, size_t n);
void cli_print(const char *format, ...) CLI_PRINTF(1, 2);
bool cli_flush(void);
int  cli_close_output(int status);      /* the exit status: CLI_FAILED if output was lost, else `status` */

/* A file that is whole or not there: written beside its place and moved into it at the end. What is no regular file (a
 * pipe, a device) is written to as it is. */
typedef struct cli_file {
    const char *path;
    char       *temporary;      /* NULL: written in place */
    FILE       *stream;
    int         error;          /* errno of the first failure, or 0 */
} cli_file;

int  cli_file_open(cli_file *f, const char *path);
bool cli_file_write(cli_file *f, const void *bytes, size_t n);      /* false: cli_file_close will say why */
int  cli_file_close(cli_file *f, bool keep);    /* not to keep, or a failure: leaves nothing. After a failed open too */

/* Makes it, unless it is there; files can then be made in it. */
int cli_make_directory(const char *path);

/* Values for cli_set: null where a number is not finite, '?' for the bytes above ASCII in text that is not UTF-8. */
json_t *cli_number(double value);
json_t *cli_text(const char *text, size_t length);
void    cli_set(json_t *object, const char *key, json_t *value);        /* takes over `value` */
void    cli_append(json_t *array, json_t *value);
void    cli_print_json(json_t *object);                                 /* and frees it */
char   *cli_json_text(json_t *object, size_t *length);                  /* in one line, and frees it; the caller frees that */

#endif
