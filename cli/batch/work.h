/* work.h - lines of a batch while they are carried out, as many at a time as the engine has slots for: the prompt of
 * each is read once, and each sample and continuation goes on from a fork of the state after it. Knows neither where lines
 * come from nor where records go. */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include "journal.h"
#include "session.h"

/* A line to be carried out. */
typedef struct cli_order {
    uint64_t    place, line, hash;      /* as in its record */
    const char *text;                   /* [length], copied */
    size_t      length;
    bool        cut;                    /* it was too long, and this is its beginning */
} cli_order;

typedef struct cli_job cli_job;

typedef struct cli_work {
    cli_session       *session;
    const cli_options *options;
    cli_job           *jobs;            /* the oldest first */
} cli_work;

/* Would another one find a slot? */
bool cli_work_has_room(const cli_work *w);
size_t cli_work_count(const cli_work *w);       /* of jobs */
void cli_work_add(cli_work *w, const cli_order *order);

/* Begins what there are slots for, and runs one step of the engine. A line with which something is wrong fails alone; the
 * exit status is CLI_FAILED where it is the device. */
int  cli_work_step(cli_work *w);

/* The record of a job that is over, if there is one; the caller frees its text. A record is a function of the line, the
 * model and the options alone. */
bool cli_work_take(cli_work *w, cli_record *record);

/* Ends what is not over. */
void cli_work_close(cli_work *w);

#endif
