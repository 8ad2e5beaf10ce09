/* serving.h - `eyrie bench serve`: requests come to an engine by the real clock; how long they wait for what. */
#ifndef CLI_SERVING_H
#define CLI_SERVING_H

#include "bench.h"

/* Do the options make sense for it? The exit status. */
int cli_bench_serve_check(const cli_options *o);

/* Adds a row "serve" to the record, also of what was done before an interrupt. */
int cli_bench_serve(cli_benchmark *b);

#endif
