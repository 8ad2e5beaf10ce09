/* serving.h - an engine under load, on one thread: requests come by the real clock, and how long they wait for what. When they
 * come and what is done with the figures is the caller's. */
#ifndef CLI_SERVING_H
#define CLI_SERVING_H

#include "bench.h"
#include "requests.h"
#include "session.h"

/* A request that is with the engine. */
typedef struct cli_visitor cli_visitor;

typedef struct cli_server {
    cli_benchmark *b;               /* whose interrupts end a run, and whose line shows how far it is */
    cli_session    session;         /* with an engine */
    eyrie_arrival *list;            /* [n] that come in a run, for free; when they came, after it */
    size_t         n;
    cli_scenario   scenario;
    double         rate;            /* at which they come, for the line alone; 0: not at one */
    size_t         came, answered;  /* of the last run */
    eyrie_sim_report report;        /* of it; what peaks would come to is NaN */
    uint64_t      *digests;         /* [n] of the tokens of each */
    bool           warm;            /* else it is the warming up */
    cli_visitor   *visitors;        /* the last to come is the first */
    size_t         n_visitors;
    int32_t       *ids;             /* a prompt */
    size_t         ids_capacity;
    double         start;
    eyrie_tally   *first, *between, *whole;
} cli_server;

/* Steps of all sizes have run some times before anything counts: nothing is built then, no memory touched for the first time,
 * and the costs are known. The list is another then. */
int  cli_server_warm_up(cli_server *s);

/* Serves the list; the exit status, that of its signal after an interrupt. */
int  cli_server_run(cli_server *s);

/* Of all tokens that the last run gave, in the order of their requests. */
uint64_t cli_server_checksum(const cli_server *s);

/* The session, and all else; never the benchmark. */
void cli_server_close(cli_server *s);

#endif
