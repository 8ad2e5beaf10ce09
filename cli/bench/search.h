/* search.h - the highest rate at which requests can come so that limits are kept, by trying. Knows neither engines nor clocks:
 * whoever serves does. */
#ifndef CLI_SEARCH_H
#define CLI_SEARCH_H

#include "options.h"

#include <eyrie/eyrie_tools.h>

/* Serves the requests that the options ask for at `rate` a second (0: all at once); the exit status. */
typedef int cli_serve_fn(void *user, double rate, eyrie_sim_report *report);

/* Serves at one rate after the other until it is known to 5 % at which the limits of the options are just kept, at the 99th
 * percentile. Begins at the options' rate, or at that of serving all at once. Sets "search" of *object: "tries" so far and, in the
 * end, "rate", of which *report is. Fails if no rate keeps the limits; else the status of the try that was not done. */
int cli_search(const cli_options *o, cli_serve_fn *serve, void *user, eyrie_sim_report *report, json_t *object);

#endif
