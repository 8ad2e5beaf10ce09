/* batch.c - `eyrie batch`: a file of requests becomes a file of answers. This file deals out lines and keeps the
 * output; what is done with a line is work.c's, and what other processes have to do with it crew.c's. */
#include "commands.h"
#include "crew.h"
#include "lines.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

typedef struct batch {
    const cli_options *o;
    const char   *output;       /* NULL: standard output */
    cli_lines     input;
    int           fd;
    cli_journal   journal;
    cli_crew      crew;
    cli_work     *work;         /* NULL: this process has no device, and only leads */
    XXH64_hash_t  settings;     /* what besides a line decides about its record */
    uint64_t      dealt;        /* lines; the place of the next one */
    bool          ended;        /* there are no more */
    bool          counted;      /* the input is a file: */
    uint64_t      total;        /* its lines with something in them */
    uint64_t      before;       /* lines that were done at the start */
    unsigned      told;         /* errors */
    cli_progress  line;
    double        start, next_note;
} batch;

/* ----------------------------------------------------------------------------------------------------------- input */

/* Of the same line, model and options come the same answers, on any device and in any company. */
static int hash_settings(const cli_options *o, XXH64_hash_t *hash)
{
    eyrie_model_opts opts = cli_model_opts(o);
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_request r = cli_request(o);
    eyrie_error err;
    char text[1024];
    int n;

    if (eyrie_model_inspect(o->model, &opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    n = snprintf(text, sizeof text,
                 "%s %" PRIu64 " %" PRIu32 " %" PRIu32 " %d %d %d %d %d %" PRIu64 "\n"
                 "%" PRIu64 " %" PRIu64 " %a %" PRIu32 " %a %a %a %a %a %" PRIu64 " %" PRIu32 "\n",
                 info.family, info.parameters, info.vocab, info.layers, (int)info.weights, (int)info.kv, (int)opts.compute,
                 (int)opts.products, (int)opts.varying, info.context,
                 r.max_tokens, r.seed, (double)r.temperature, r.top_k, (double)r.top_p, (double)r.min_p,
                 (double)r.repetition_penalty, (double)r.presence_penalty, (double)r.frequency_penalty,
                 o->samples, r.flags);
    *hash = XXH64(text, (size_t)n, 0);
    if (strncmp(o->model, "synthetic:", 10) == 0) *hash = XXH64(o->model, strlen(o->model), *hash);
    for (size_t i = 0; i < o->stops.n; i++) *hash = XXH64(o->stops.items[i], strlen(o->stops.items[i]), *hash);
    return CLI_DONE;
}

static bool is_blank(const cli_line *line)
{
    size_t i = 0;
    while (i < line->length && memchr(" \t\r", line->text[i], 3)) i++;
    return i == line->length;
}

/* The next line with something in it, and whether there is an answer to it. An answer to another line is the end. */
static cli_next next_line(batch *b, bool wait, cli_line *line, cli_order *order, bool *known)
{
    cli_next next;
    cli_known found;

    do next = cli_lines_next(&b->input, wait, line);
    while (next == CLI_NEXT_LINE && is_blank(line));
    if (next == CLI_NEXT_NONE && cli_journal_last(&b->journal) > b->input.number) {
        (void)cli_fail("%s: answers line %" PRIu64 ", and %s has %" PRIu64 "; give another -o", b->output,
                       cli_journal_last(&b->journal), b->input.name, b->input.number);
        return CLI_NEXT_FAILED;
    }
    if (next != CLI_NEXT_LINE) return next;
    *order = (cli_order){ .line = line->number, .hash = XXH64(line->text, line->length, b->settings),
                          .text = line->text, .length = line->length, .cut = line->cut };
    found = cli_journal_find(&b->journal, order->line, order->hash);
    *known = found == CLI_KNOWN;
    if (found != CLI_KNOWN_OTHERWISE) return next;
    (void)cli_fail("%s: answers another line %" PRIu64 " than that of %s, or with another model or other options; "
                   "give another -o", b->output, order->line, b->input.name);
    return CLI_NEXT_FAILED;
}

/* A file is read twice: first to see that the output belongs to it and how many lines there are. */
static int check_input(batch *b)
{
    cli_next next;
    cli_line line;
    cli_order order;
    bool known;

    if (!cli_lines_rewind(&b->input)) return CLI_DONE;
    while ((next = next_line(b, true, &line, &order, &known)) == CLI_NEXT_LINE) b->total++;
    if (next == CLI_NEXT_LATER) return 128 + cli_take_signal();
    b->counted = true;
    b->ended = b->journal.written == b->total;
    return next == CLI_NEXT_NONE && cli_lines_rewind(&b->input) ? CLI_DONE : CLI_FAILED;
}

static int open_files(batch *b)
{
    const char *path = b->o->from_stdin ? NULL : b->o->words.items[0];
    bool ordered;
    int status;

    b->fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (b->fd < 0) return cli_fail("%s: %s", path, strerror(errno));
    cli_lines_open(&b->input, b->fd, path ? path : "standard input");
    ordered = !b->o->order || strcmp(b->o->order, "input") == 0;
    if ((status = hash_settings(b->o, &b->settings)) != CLI_DONE
        || (status = cli_journal_open(&b->journal, b->output, ordered)) != CLI_DONE
        || (status = check_input(b)) != CLI_DONE)
        return status;
    b->before = b->journal.written;
    if (b->before)
        fprintf(stderr, "eyrie: %s: %" PRIu64 " lines are done%s\n", b->output, b->before,
                b->ended ? ", all of them" : "; going on");
    return cli_journal_begin(&b->journal);
}

/* -------------------------------------------------------------------------------------------------------- progress */

/* "57 of 200 lines, 1.3 lines/s, 1:50:04 left" */
static void print_state(const batch *b)
{
    double per_second = (double)(b->journal.written - b->before) / (cli_seconds() - b->start);

    fprintf(stderr, "%" PRIu64, b->journal.written);
    if (b->counted) fprintf(stderr, " of %" PRIu64, b->total);
    fprintf(stderr, " lines, %.3g lines/s", per_second);
    if (b->journal.failed) fprintf(stderr, ", %" PRIu64 " failed", b->journal.failed);
    if (b->counted && b->total > b->journal.written && per_second > 0) {
        uint64_t left = (uint64_t)((double)(b->total - b->journal.written) / per_second);
        fprintf(stderr, ", %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " left", left / 3600, left / 60 % 60, left % 60);
    }
}

/* On a terminal all the time, else a line each minute, for who reads logs. */
static void show_progress(batch *b)
{
    if (cli_progress_due(&b->line)) {
        fputc('\r', stderr);
        print_state(b);
        fputs("\033[K", stderr);
    } else if (!b->line.possible && cli_seconds() >= b->next_note) {
        fputs("eyrie: ", stderr);
        print_state(b);
        fputc('\n', stderr);
        b->next_note = cli_seconds() + 60;
    }
}

static void print_summary(const batch *b)
{
    cli_tally t = b->crew.tally;
    double seconds = cli_seconds() - b->start;
    uint64_t read;

    if (b->work) cli_tally_add(&t, b->work->session);
    read = t.read + t.reused;
    fprintf(stderr, "eyrie: ");
    print_state(b);
    fprintf(stderr, "; prompts: %" PRIu64 " tokens, of which %" PRIu64 " reused (%.1f %%", read, t.reused,
            read ? 100 * (double)t.reused / (double)read : 0);
    if (t.hits) fprintf(stderr, "; %" PRIu64 " prefix hits", t.hits);
    fprintf(stderr, "); generated: %" PRIu64 " (%.1f tokens/s)\n", t.generated, (double)t.generated / seconds);
}

/* --------------------------------------------------------------------------------------------------------- leading */

/* The first few errors are told at once; the output has all. */
static void tell_error(batch *b, const cli_record *r)
{
    enum { MOST_TOLD = 10 };
    json_t *object;

    if (!r->failed || b->told > MOST_TOLD) return;
    cli_progress_wipe(&b->line);
    if (b->told++ == MOST_TOLD) {
        (void)cli_fail("%s: more lines have failed; their answers say why", b->input.name);
        return;
    }
    object = json_loadb(r->text, r->length, 0, NULL);
    (void)cli_fail("%s:%" PRIu64 ": %s", b->input.name, r->line, json_string_value(json_object_get(object, "error")));
    json_decref(object);
}

static int keep(batch *b, cli_record r)
{
    tell_error(b, &r);
    return cli_journal_put(&b->journal, r);
}

/* Hands out lines as long as somebody wants one. */
static int deal(batch *b)
{
    cli_line line;
    cli_order order;
    cli_next next;
    bool known;

    while (!b->ended && cli_journal_has_room(&b->journal, b->dealt)) {
        bool own = b->work && cli_work_has_room(b->work);
        int rank = own ? 0 : cli_crew_find(&b->crew);
        bool wait = b->crew.present == 0 && b->work && cli_work_count(b->work) == 0;

        if (!own && rank == 0) break;
        next = next_line(b, wait, &line, &order, &known);
        if (next == CLI_NEXT_LATER) break;
        if (next == CLI_NEXT_FAILED) return CLI_FAILED;
        b->ended = next == CLI_NEXT_NONE;
        if (b->ended || known) continue;
        order.place = b->dealt++;
        if (own) cli_work_add(b->work, &order);
        else cli_crew_give(&b->crew, rank, &order);
    }
    return CLI_DONE;
}

/* Has this process itself nothing to do? */
static bool is_idle(const batch *b) { return !b->work || cli_work_count(b->work) == 0; }

static int work(batch *b)
{
    cli_record r;
    int status;

    if (is_idle(b)) return CLI_DONE;
    status = cli_work_step(b->work);
    while (status == CLI_DONE && cli_work_take(b->work, &r)) status = keep(b, r);
    return status;
}

static int hear(batch *b)
{
    cli_record r;
    cli_heard heard;
    int status = CLI_DONE;

    while (status == CLI_DONE && (heard = cli_crew_hear(&b->crew, &r)) != CLI_HEARD_NOTHING) {
        if (heard == CLI_HEARD_RECORD) status = keep(b, r);
        else if (heard == CLI_HEARD_LOSS)
            status = cli_fail("a rank has left with lines that are not done; the same command goes on");
    }
    return status == CLI_DONE && !b->work && b->crew.present == 0 ? cli_fail("no rank has a device") : status;
}

static int lead(batch *b)
{
    int status = CLI_DONE;

    b->line = cli_progress_new();
    b->start = cli_seconds();
    b->next_note = b->start + 60;
    while (status == CLI_DONE && !cli_caught()) {
        if ((status = deal(b)) != CLI_DONE || (b->ended && b->crew.lines == 0 && is_idle(b))) break;
        if (is_idle(b)) cli_nap();              /* all that is left is with others */
        if ((status = work(b)) == CLI_DONE) status = hear(b);
        show_progress(b);
    }
    cli_progress_wipe(&b->line);
    if (status == CLI_DONE && cli_caught()) {
        status = 128 + cli_take_signal();
        if (b->output) (void)cli_fail("interrupted; the same command goes on");
    }
    return status;
}

/* Lines that have failed, in earlier runs too, are a failure. */
static int end(batch *b, int status)
{
    cli_crew_dismiss(&b->crew);
    if (status == CLI_DONE && b->start > 0) print_summary(b);
    if (status == CLI_DONE && b->journal.failed) status = CLI_FAILED;
    status = cli_journal_close(&b->journal, status);
    cli_lines_close(&b->input);
    if (b->fd > STDIN_FILENO) close(b->fd);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- the command */

/* What one of several processes of a host takes: a device of its own, a part of the processors, and a trace of its own. */
static void share_host(cli_options *own, const cli_ranks *ranks, char *trace, size_t size)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (ranks->size < 2) return;
    own->turn = (uint32_t)ranks->place;
    if (!own->threads && ranks->places > 1)
        own->threads = processors > ranks->places ? (uint64_t)(processors / ranks->places) : 1;
    if (own->trace && snprintf(trace, size, "%s.%d", own->trace, ranks->rank) < (int)size) own->trace = trace;
}

/* A rank without a device takes no part, but the first, which leads then. */
static int take_part(batch *b, cli_work *jobs, const cli_ranks *ranks, const cli_options *own)
{
    int status = cli_session_open(jobs->session, own);

    (void)eyrie_seq_close(jobs->session->seq);      /* of a prompt that a batch does not have */
    jobs->session->seq = NULL;
    if (status == CLI_DONE) b->work = jobs;
    else if (ranks->size == 1) return status;
    else (void)cli_fail("rank %d on %s takes no part", ranks->rank, ranks->host);
    if (ranks->rank == 0) return lead(b);
    status = cli_crew_follow(b->work);
    return status == CLI_FAILED ? cli_fail("rank %d on %s leaves", ranks->rank, ranks->host) : status;
}

int cli_batch(const cli_options *o)
{
    cli_options own = *o;
    cli_ranks ranks;
    cli_session session = { 0 };
    cli_work jobs = { .session = &session, .options = o };
    batch b = { .o = o, .fd = -1, .journal.fd = -1 };
    char trace[4096];
    int status = cli_ranks_open(&ranks);

    if (status != CLI_DONE) return status;
    cli_crew_open(&b.crew, &ranks);
    cli_catch_signals(false);
    b.output = o->output && strcmp(o->output, "-") != 0 ? o->output : NULL;
    own.from_stdin = false;             /* it is not one prompt */
    share_host(&own, &ranks, trace, sizeof trace);
    if (ranks.rank == 0) status = open_files(&b);
    if (status == CLI_DONE && !b.ended) status = take_part(&b, &jobs, &ranks, &own);
    if (ranks.rank == 0) status = end(&b, status);
    cli_work_close(&jobs);
    cli_session_close(&session);
    cli_crew_close(&b.crew);
    cli_ranks_close();
    return status;
}
