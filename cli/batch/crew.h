/* crew.h - a batch carried out by many processes: rank 0 leads, it deals lines out to those that ask, and takes their
 * records; the others follow. Knows neither input nor output. */
#ifndef CLI_CREW_H
#define CLI_CREW_H

#include "ranks.h"
#include "work.h"

/* What engines have done. */
typedef struct cli_tally {
    uint64_t read, reused, generated;   /* tokens of prompts that were computed, that had not to be; those sampled */
    uint64_t hits;                      /* prompts that the prefix cache had a beginning of */
} cli_tally;

void cli_tally_add(cli_tally *t, const cli_session *s);

/* Of another rank, as the leader knows it. */
typedef struct cli_mate {
    bool     gone, dismissed;
    uint64_t wants, has;        /* lines: asked for; given, and not answered yet */
} cli_mate;

typedef struct cli_crew {
    const cli_ranks *ranks;
    cli_mate        *mates;     /* [ranks->size], without the first */
    size_t           present, lines;    /* lines: that they have */
    cli_tally        tally;     /* of those that are gone */
} cli_crew;

void cli_crew_open(cli_crew *c, const cli_ranks *ranks);
void cli_crew_close(cli_crew *c);

/* A rank that wants a line; 0: nobody does. */
int  cli_crew_find(const cli_crew *c);
void cli_crew_give(cli_crew *c, int rank, const cli_order *order);

/* Hears one message. */
typedef enum cli_heard {
    CLI_HEARD_NOTHING,
    CLI_HEARD_SOMETHING,
    CLI_HEARD_RECORD,           /* it is put into *record, the text the caller's to free */
    CLI_HEARD_LOSS              /* a rank goes, and has lines: somebody else would have to do them */
} cli_heard;
cli_heard cli_crew_hear(cli_crew *c, cli_record *record);

/* Sends all home and waits until they have gone. */
void cli_crew_dismiss(cli_crew *c);

/* The other side: carries out what the leader gives until it says that all is done. Without work it takes no part, and
 * says so. The exit status. */
int cli_crew_follow(cli_work *work);

#endif
