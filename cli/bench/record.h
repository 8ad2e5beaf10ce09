/* record.h - what a benchmark found, as one JSON object (its keys are in docs/bench.md): begun, read from a file, printed as
 * JSON, as lines of JSON and as CSV. Measures nothing. */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include "io.h"

enum { CLI_RECORD_VERSION = 1 };    /* of the keys; counts up when one goes or changes its meaning */

/* Where text goes: cli_write, or a file. */
typedef void cli_sink(void *user, const char *bytes, size_t n);
typedef struct cli_out {
    cli_sink *sink;
    void     *user;
} cli_out;
extern const cli_out cli_standard_output;
void cli_out_print(const cli_out *out, const char *format, ...) CLI_PRINTF(2, 3);

/* A record of this version, with this machine and the time in it, and no rows. */
json_t *cli_record_new(void);

/* From a file, whatever its version was. Fails on what is no record, and on one of a later version. */
int cli_record_read(json_t **out, const char *path);

/* A row of `rows` with what repetitions came to: n rates in `unit` (n may be 0) and what follows from them. */
json_t *cli_record_add_row(json_t *rows, const char *test);
void    cli_record_set_rates(json_t *row, const char *unit, const double *rates, size_t n);

/* form: "csv", "json" or "jsonl". */
void cli_record_print(const json_t *record, const char *form, const cli_out *out);

/* Parts of records: 0, "" and NaN where a key is not there. */
double      cli_get_number(const json_t *object, const char *key);
const char *cli_get_text(const json_t *object, const char *key);
bool        cli_is_test(const json_t *row, const char *test);
size_t      cli_get_rates(const json_t *row, const char *key, double **values);     /* for free */

bool        cli_any_number(const json_t *rows, const char *key);    /* has any row one? */

/* The median of a row of the device's in the unit that people read: "139" and "GFLOP/s", "1.64" and "us each". */
double cli_shown(const json_t *row, const char **unit);

/* A model and its settings: "synthetic:griffin-100m, weights bf16, keys and values f16, compute auto,
 * chunk 256". The same for rows that are of one setting. */
const char *cli_setting(const json_t *row, char text[512]);

/* "16 KiB", "512 MiB". */
const char *cli_size(double bytes, char text[24]);

/* Three digits: "1.23", "123", "12300". NaN: "-". */
const char *cli_digits(double value, char text[24]);

#endif
