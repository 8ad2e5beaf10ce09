/* requests.h - the requests that come, in a simulation or to an engine: drawn, or recorded in a file; when, and how many
 * tokens they have. What becomes of them is not known here. */
#ifndef CLI_REQUESTS_H
#define CLI_REQUESTS_H

#include "options.h"

#include <eyrie/eyrie_tools.h>

/* How they come (MLPerf's scenarios). */
typedef enum cli_scenario {
    CLI_SERVER,         /* each when it comes: at a rate, or as the file says */
    CLI_OFFLINE,        /* all are there from the beginning */
    CLI_SINGLE          /* the next comes when one is answered */
} cli_scenario;

/* Numbers of tokens: N, A-B (each as probable), or N~S (lognormal: half are below N, S is the deviation of the logarithm). */
typedef struct cli_lengths {
    double low, high, sigma;
} cli_lengths;

typedef struct cli_requests {
    const cli_options *o;
    cli_scenario scenario;
    double       rate;          /* a second, where they are drawn for a server */
    FILE        *file;          /* recorded ones; NULL: drawn */
    uint64_t     line, left, dice;
    double       now;           /* when the last one came */
    cli_lengths  prompt, output;
    int          status;        /* CLI_DONE, or what reading them came to */
} cli_requests;

/* Those that the options ask for, `many` of them if they do not say how many; drawn ones at `rate`, whatever they say of that.
 * The caller closes, also after a failure. */
int  cli_requests_open(cli_requests *r, const cli_options *o, double rate, uint64_t many);
void cli_requests_close(cli_requests *r);
/* An eyrie_arrivals_fn, the cli_requests its user. */
bool cli_requests_next(void *requests, eyrie_arrival *next);

/* All of them: [*n], for free. */
int  cli_requests_all(const cli_options *o, double rate, uint64_t many, eyrie_arrival **list, size_t *n);
/* As the files have them. */
int  cli_requests_write(cli_file *f, const eyrie_arrival *list, size_t n);

/* "single", "offline", "server": that which the options name, or what follows from them. Is it clear what is to come? */
cli_scenario cli_scenario_of(const cli_options *o);
const char  *cli_scenario_name(cli_scenario scenario);
int          cli_check_scenario(const cli_options *o);

/* A number with a decimal suffix: "4.8T", "20u". */
bool cli_parse_amount(const char *text, size_t length, double *out);

#endif
