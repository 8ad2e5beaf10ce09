/* terminal.h - what a terminal shows of long work, and the signals that it sends. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>

/* Seconds since some moment. */
double cli_seconds(void);
/* A millisecond, for who has nothing to do until something comes. */
void   cli_nap(void);

/* One line on standard error, if that is a terminal, where the work takes more than a second. */
typedef struct cli_progress {
    bool   possible, shown;
    double next;                /* when it may change */
} cli_progress;

cli_progress cli_progress_new(void);
/* May it be shown now? Then it is taken to be. */
bool         cli_progress_due(cli_progress *p);
void         cli_progress_wipe(cli_progress *p);
/* "what: 50 %": an eyrie_progress_fn, the cli_progress its user. */
void         cli_progress_show(void *progress, const char *what, double done);

/* The first SIGINT, SIGTERM or SIGHUP from now on is noted, and nothing more; a second of its kind ends the command.
 * `waking`: whoever waits for input then goes on. cli_caught: its number, 0 = none; cli_take_signal forgets it, too. */
void cli_catch_signals(bool waking);
int  cli_caught(void);
int  cli_take_signal(void);

#endif
