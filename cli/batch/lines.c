/* lines.c - see lines.h. */
#include "io.h"
#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEP = 1 << 16 };

void cli_lines_open(cli_lines *l, int fd, const char *name)
{
    *l = (cli_lines){ .fd = fd, .name = name, .origin = lseek(fd, 0, SEEK_CUR) };
}

void cli_lines_close(cli_lines *l)
{
    free(l->bytes);
    l->bytes = NULL;
}

bool cli_lines_rewind(cli_lines *l)
{
    if (l->origin < 0 || lseek(l->fd, l->origin, SEEK_SET) < 0) return false;
    l->start = l->filled = l->searched = 0;
    l->number = l->place = l->dropped = 0;
    l->ended = false;
    return true;
}

/* What is read goes behind what is there; of a line that is too long it goes nowhere. */
static cli_next read_more(cli_lines *l, bool wait)
{
    struct pollfd input = { .fd = l->fd, .events = POLLIN };
    ssize_t n;

    if (l->start > 0) memmove(l->bytes, l->bytes + l->start, l->filled - l->start);
    l->filled -= l->start;
    l->searched -= l->start;
    l->start = 0;
    cli_grow(&l->bytes, &l->capacity, l->filled + STEP, 1);
    if (poll(&input, 1, wait ? -1 : 0) <= 0) return CLI_NEXT_LATER;
    n = read(l->fd, l->bytes + l->filled, STEP);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return CLI_NEXT_LATER;
    if (n < 0) {
        (void)cli_fail("%s: %s", l->name, strerror(errno));
        return CLI_NEXT_FAILED;
    }
    l->ended = n == 0;
    l->filled += (size_t)n;
    return CLI_NEXT_LINE;
}

/* Forgets what goes beyond the longest line, without its end. */
static void cut(cli_lines *l)
{
    if (l->filled - l->start <= CLI_MOST_LINE) return;
    l->dropped += l->filled - l->start - CLI_MOST_LINE;
    l->filled = l->searched = l->start + CLI_MOST_LINE;
}

cli_next cli_lines_next(cli_lines *l, bool wait, cli_line *line)
{
    const char *newline;
    size_t length;
    cli_next next;

    while (!(newline = l->filled > l->searched ? memchr(l->bytes + l->searched, '\n', l->filled - l->searched) : NULL)
           && !l->ended) {
        l->searched = l->filled;
        cut(l);
        if ((next = read_more(l, wait)) != CLI_NEXT_LINE) return next;
    }
    length = newline ? (size_t)(newline - l->bytes) - l->start : l->filled - l->start;
    if (!newline && length == 0) return CLI_NEXT_NONE;
    *line = (cli_line){ .number = ++l->number, .place = l->place, .text = l->bytes + l->start, .ended = newline != NULL,
                        .length = length > CLI_MOST_LINE ? CLI_MOST_LINE : length,
                        .cut = l->dropped > 0 || length > CLI_MOST_LINE };
    l->start += length + line->ended;
    l->place += l->dropped + length + line->ended;
    l->searched = l->start;
    l->dropped = 0;
    return CLI_NEXT_LINE;
}
