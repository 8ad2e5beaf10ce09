/* journal.h - the output of a batch, which is also what a later start goes on from: whole lines that say first which line
 * of the input each is of, and what that was like. Knows nothing of what else they say. */
#ifndef CLI_JOURNAL_H
#define CLI_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line of output. */
typedef struct cli_record {
    uint64_t place;             /* among all that are put, from 0: the order to keep */
    uint64_t line, hash;        /* of the input, from 1 */
    bool     failed;
    char    *text;              /* [length] a JSON object; owned */
    size_t   length;
} cli_record;

typedef struct cli_done {
    uint64_t line, hash;
} cli_done;

typedef struct cli_journal {
    const char *path;           /* NULL: standard output, from which nobody can go on */
    int         fd;
    bool        regular;        /* a file: is locked, checked and cut */
    bool        ordered;
    uint64_t    end;            /* bytes of whole lines */
    double      synced;         /* when what was written went to the disk */
    cli_done   *done;           /* [n_done] of earlier runs, ascending */
    size_t      n_done, capacity;
    uint64_t    written, failed;        /* lines in all; those of them that say an error */
    cli_record *held;           /* ordered: those that wait for those before, by place */
    uint64_t    next;           /* place that is written next */
    size_t      held_bytes;
} cli_journal;

/* Opens it, or makes it, and reads what is there; it is for this process alone. Changes nothing yet. The exit status. The
 * caller closes, also after a failure. */
int cli_journal_open(cli_journal *j, const char *path, bool ordered);

/* Is there output of that line already? */
typedef enum cli_known { CLI_UNKNOWN, CLI_KNOWN, CLI_KNOWN_OTHERWISE } cli_known;
cli_known cli_journal_find(const cli_journal *j, uint64_t line, uint64_t hash);
uint64_t  cli_journal_last(const cli_journal *j);      /* line; 0: there is none */

/* Before the first line is put: cuts off what of a line a run that was killed may have left. */
int cli_journal_begin(cli_journal *j);

/* May work on the line of that place begin? Not if too much would have to wait for it. */
bool cli_journal_has_room(const cli_journal *j, uint64_t place);

/* Writes it, or keeps it until those before it are written. Takes the text. */
int cli_journal_put(cli_journal *j, cli_record r);

/* Sees it to the disk. What waits is lost. The exit status is `status`, or why not. */
int cli_journal_close(cli_journal *j, int status);

#endif
