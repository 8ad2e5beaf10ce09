/* terminal.c - see terminal.h. */
#include "terminal.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------------------------------- progress */

double cli_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_nap(void) { (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); }

cli_progress cli_progress_new(void) { return (cli_progress){ .possible = isatty(STDERR_FILENO) == 1, .next = cli_seconds() + 1 }; }

bool cli_progress_due(cli_progress *p)
{
    if (!p->possible || cli_seconds() < p->next) return false;
    p->next = cli_seconds() + 0.2;
    return p->shown = true;
}

void cli_progress_wipe(cli_progress *p)
{
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}

void cli_progress_show(void *progress, const char *what, double done)
{
    if (cli_progress_due(progress)) fprintf(stderr, "\r%s: %.0f %%\033[K", what, 100 * done);
}

/* --------------------------------------------------------------------------------------------------------- signals */

static volatile sig_atomic_t caught;        /* number of a signal, or 0 */

static void on_signal(int number) { caught = number; }

int cli_caught(void) { return caught; }

int cli_take_signal(void)
{
    int number = caught;

    caught = 0;
    return number;
}

void cli_catch_signals(bool waking)
{
    const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, before;

    if (!waking) action.sa_flags |= SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)    /* nohup stays nohup */
            sigaction(numbers[i], &action, NULL);
}
