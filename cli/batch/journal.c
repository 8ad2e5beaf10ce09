/* journal.c - see journal.h. Lines are appended and nothing else, each with one call: whatever happens between two, all
 * lines but the last are whole. */
#include "io.h"
#include "journal.h"
#include "lines.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_HELD = 4096, MOST_HELD_BYTES = 64 << 20, HEAD = 64 /* bytes, of a line's beginning at most */ };

static const double sync_interval = 5;      /* seconds that a loss of power may cost */

/* --------------------------------------------------------------------------------------------------------- opening */

#define OPENING "{\"line\":"
#define FAILING "\"error\":"

static int print_head(char head[HEAD], const cli_record *r)
{
    return snprintf(head, HEAD, OPENING "%" PRIu64 ",\"hash\":\"%016" PRIx64 "\",", r->line, r->hash);
}

/* What a line begins with. */
static bool read_head(const cli_line *line, cli_record *r)
{
    char head[HEAD], again[HEAD];
    size_t length = line->length < HEAD - 1 ? line->length : HEAD - 1;
    int n;

    memcpy(head, line->text, length);
    head[length] = '\0';
    *r = (cli_record){ 0 };
    if (sscanf(head, OPENING "%20" SCNu64 ",\"hash\":\"%16" SCNx64, &r->line, &r->hash) != 2 || r->line == 0) return false;
    n = print_head(again, r);
    r->failed = line->length - (size_t)n > strlen(FAILING) && !memcmp(line->text + n, FAILING, strlen(FAILING));
    return strncmp(head, again, (size_t)n) == 0;
}

/* All lines are ours, whole but for the last: what a killed run has left of that is what all lines begin with. */
static int read_line(cli_journal *j, const cli_line *line)
{
    size_t known = line->length < strlen(OPENING) ? line->length : strlen(OPENING);
    cli_record r;

    if (!line->ended && memcmp(line->text, OPENING, known) == 0) return CLI_DONE;
    if (!line->ended || !read_head(line, &r))
        return cli_fail("%s: line %" PRIu64 " was not written by eyrie batch; give another -o", j->path, line->number);
    cli_grow(&j->done, &j->capacity, j->n_done + 1, sizeof *j->done);
    j->done[j->n_done++] = (cli_done){ r.line, r.hash };
    j->failed += r.failed;
    j->written++;
    j->end = line->place + line->length + 1;
    return CLI_DONE;
}

static int compare_lines(const void *a, const void *b)
{
    uint64_t x = ((const cli_done *)a)->line, y = ((const cli_done *)b)->line;
    return x < y ? -1 : x > y;
}

static int read_all(cli_journal *j)
{
    cli_lines lines;
    cli_line line;
    cli_next next;
    int status = CLI_DONE;

    cli_lines_open(&lines, j->fd, j->path);
    while (status == CLI_DONE && (next = cli_lines_next(&lines, true, &line)) != CLI_NEXT_NONE) {
        if (next == CLI_NEXT_FAILED) status = CLI_FAILED;
        else if (next == CLI_NEXT_LINE) status = read_line(j, &line);
    }
    cli_lines_close(&lines);
    if (j->n_done) qsort(j->done, j->n_done, sizeof *j->done, compare_lines);
    for (size_t i = 1; i < j->n_done && status == CLI_DONE; i++)
        if (j->done[i - 1].line == j->done[i].line)
            status = cli_fail("%s: has line %" PRIu64 " twice; give another -o", j->path, j->done[i].line);
    return status;
}

/* Two that append to one file would write everything twice. The lock ends with the process, however that ends; where the
 * file system has none, there is none. */
static int lock(const cli_journal *j)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(j->fd, F_SETLK, &all) == 0 || (errno != EACCES && errno != EAGAIN)) return CLI_DONE;
    return cli_fail("%s: another eyrie batch is writing it", j->path);
}

int cli_journal_open(cli_journal *j, const char *path, bool ordered)
{
    struct stat what;
    int status;

    *j = (cli_journal){ .path = path, .fd = -1, .ordered = ordered, .synced = cli_seconds() };
    if (ordered) {
        j->held = cli_resize(NULL, MOST_HELD, sizeof *j->held);
        memset(j->held, 0, MOST_HELD * sizeof *j->held);
    }
    if (!path) return CLI_DONE;
    j->regular = stat(path, &what) != 0 || S_ISREG(what.st_mode);
    j->fd = open(path, (j->regular ? O_RDWR | O_CREAT : O_WRONLY) | O_CLOEXEC, 0666);
    if (j->fd < 0) return cli_fail("%s: %s", path, strerror(errno));
    if (!j->regular) return CLI_DONE;
    status = lock(j);
    return status == CLI_DONE ? read_all(j) : status;
}

cli_known cli_journal_find(const cli_journal *j, uint64_t line, uint64_t hash)
{
    cli_done wanted = { line, hash };
    const cli_done *found = j->n_done ? bsearch(&wanted, j->done, j->n_done, sizeof *j->done, compare_lines) : NULL;

    if (!found) return CLI_UNKNOWN;
    return found->hash == hash ? CLI_KNOWN : CLI_KNOWN_OTHERWISE;
}

uint64_t cli_journal_last(const cli_journal *j) { return j->n_done ? j->done[j->n_done - 1].line : 0; }

/* --------------------------------------------------------------------------------------------------------- writing */

/* To its whole lines, behind which writing goes on. */
static bool cut(const cli_journal *j)
{
    return ftruncate(j->fd, (off_t)j->end) == 0 && lseek(j->fd, (off_t)j->end, SEEK_SET) >= 0;
}

int cli_journal_begin(cli_journal *j)
{
    return !j->regular || cut(j) ? CLI_DONE : cli_fail("%s: %s", j->path, strerror(errno));
}

/* errno of the failure, or 0. What of a line does not fit is taken back: whoever reads the file finds whole lines. */
static int write_bytes(cli_journal *j, const char *bytes, size_t n)
{
    size_t written = 0;
    int error = 0;

    while (written < n && !error) {
        ssize_t w = write(j->fd, bytes + written, n - written);
        if (w > 0) written += (size_t)w;
        else if (w == 0 || errno != EINTR) error = w == 0 ? ENOSPC : errno;
    }
    if (!error) j->end += n;
    else if (j->regular && !cut(j)) error = errno;
    return error;
}

static int write_record(cli_journal *j, cli_record *r)
{
    char head[HEAD];
    size_t n = (size_t)print_head(head, r);
    char *whole = cli_resize(NULL, n + r->length + 1, 1);
    int error = 0;

    memcpy(whole, head, n);
    memcpy(whole + n, r->text + 1, r->length - 1);      /* the head has the brace */
    n += r->length - 1;
    whole[n++] = '\n';
    if (j->path) {
        error = write_bytes(j, whole, n);
    } else {
        cli_write(whole, n);
        if (!cli_flush()) error = EPIPE;
    }
    free(whole);
    free(r->text);
    r->text = NULL;
    if (error && !j->path) return CLI_FAILED;           /* cli_close_output tells */
    if (error && !j->regular) return cli_fail("%s: %s", j->path, strerror(error));
    if (error)
        return cli_fail("%s: %s; what is in it stays, and the same command goes on from there", j->path, strerror(error));
    j->written++;
    j->failed += r->failed;
    return CLI_DONE;
}

static int sync_disk(cli_journal *j)
{
    j->synced = cli_seconds();
    return !j->regular || fsync(j->fd) == 0 ? CLI_DONE : cli_fail("%s: %s", j->path, strerror(errno));
}

bool cli_journal_has_room(const cli_journal *j, uint64_t place)
{
    return !j->ordered || place == j->next || (place - j->next < MOST_HELD && j->held_bytes < MOST_HELD_BYTES);
}

int cli_journal_put(cli_journal *j, cli_record r)
{
    cli_record *first;
    int status = CLI_DONE;

    if (j->ordered) {
        j->held[r.place % MOST_HELD] = r;
        j->held_bytes += r.length;
    } else {
        status = write_record(j, &r);
    }
    while (j->ordered && status == CLI_DONE && (first = &j->held[j->next % MOST_HELD])->text) {
        j->held_bytes -= first->length;
        status = write_record(j, first);
        j->next++;
    }
    if (status == CLI_DONE && cli_seconds() - j->synced > sync_interval) status = sync_disk(j);
    return status;
}

int cli_journal_close(cli_journal *j, int status)
{
    if (j->fd >= 0 && sync_disk(j) != CLI_DONE && status == CLI_DONE) status = CLI_FAILED;
    if (j->fd >= 0 && close(j->fd) != 0 && status == CLI_DONE) status = cli_fail("%s: %s", j->path, strerror(errno));
    for (size_t i = 0; j->held && i < MOST_HELD; i++) free(j->held[i].text);
    free(j->held);
    free(j->done);
    j->held = NULL;
    j->done = NULL;
    j->fd = -1;
    return status;
}
