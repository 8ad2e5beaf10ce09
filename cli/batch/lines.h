/* lines.h - the lines of a file or a pipe, one after the other, however many there are: of what is longer than a line may
 * be, the beginning is kept. Knows nothing of what they say. */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { CLI_MOST_LINE = 16 << 20 };      /* bytes */

typedef struct cli_line {
    uint64_t    number;         /* from 1 */
    uint64_t    place;          /* of its first byte, from where reading began */
    const char *text;           /* [length] without the newline; valid until the next call */
    size_t      length;
    bool        cut;            /* longer than CLI_MOST_LINE: this is its beginning */
    bool        ended;          /* by a newline: false for the last line of a file that stops in its midst */
} cli_line;

typedef enum cli_next {
    CLI_NEXT_LINE,
    CLI_NEXT_LATER,             /* none has come yet; with `wait`: a signal has */
    CLI_NEXT_NONE,              /* that was the last */
    CLI_NEXT_FAILED             /* said on standard error */
} cli_next;

typedef struct cli_lines {
    int         fd;             /* the caller's */
    const char *name;           /* for messages */
    off_t       origin;         /* where reading began; -1: a pipe, which is read once */
    char       *bytes;          /* [filled], of which those before `start` are taken */
    size_t      start, filled, searched, capacity;
    uint64_t    number, place;
    size_t      dropped;        /* bytes of the line that is being read */
    bool        ended;
} cli_lines;

/* From where fd stands. */
void     cli_lines_open(cli_lines *l, int fd, const char *name);
void     cli_lines_close(cli_lines *l);
/* To the first line again; false: it is a pipe. */
bool     cli_lines_rewind(cli_lines *l);
cli_next cli_lines_next(cli_lines *l, bool wait, cli_line *line);

#endif
