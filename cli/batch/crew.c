/* crew.c - see crew.h. A follower asks for more lines than its slots hold, so that it has work while the leader is busy
 * with its own. The leader alone writes, so there is one file whoever dies. */
#include "crew.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

enum { ASK, ORDER, RECORD, DISMISS, LEAVE };    /* kinds of messages */

/* The beginning of what goes with an order or a record; the text follows. */
typedef struct heading {
    uint64_t place, line, hash;
    uint64_t flag;              /* of an order: it is cut; of a record: it failed */
} heading;

static void send_text(int to, int kind, heading h, const char *text, size_t length)
{
    char *bytes = cli_resize(NULL, 1, sizeof h + length);

    memcpy(bytes, &h, sizeof h);
    if (length) memcpy(bytes + sizeof h, text, length);
    cli_ranks_send(to, kind, bytes, sizeof h + length);
    free(bytes);
}

static heading heading_of(const cli_message *m)
{
    heading h;
    memcpy(&h, m->bytes, sizeof h);
    return h;
}

void cli_tally_add(cli_tally *t, const cli_session *s)
{
    eyrie_stats stats = { .struct_size = sizeof stats };

    if (!s->engine || eyrie_engine_get_stats(s->engine, &stats, NULL) != EYRIE_OK) return;
    t->read += stats.prefill_tokens;
    t->reused += stats.reused_tokens;
    t->generated += stats.sampled_tokens;
    t->hits += stats.prefix_hits;
}

/* ---------------------------------------------------------------------------------------------------------- leading */

void cli_crew_open(cli_crew *c, const cli_ranks *ranks)
{
    *c = (cli_crew){ .ranks = ranks, .present = (size_t)ranks->size - 1 };
    c->mates = cli_resize(NULL, (size_t)ranks->size, sizeof *c->mates);
    memset(c->mates, 0, (size_t)ranks->size * sizeof *c->mates);
}

void cli_crew_close(cli_crew *c)
{
    free(c->mates);
    c->mates = NULL;
}

int cli_crew_find(const cli_crew *c)
{
    int found = 0;

    for (int i = 1; i < c->ranks->size; i++)
        if (c->mates[i].wants > c->mates[found].wants) found = i;
    return found;
}

void cli_crew_give(cli_crew *c, int rank, const cli_order *o)
{
    send_text(rank, ORDER, (heading){ o->place, o->line, o->hash, o->cut }, o->text, o->length);
    c->mates[rank].wants--;
    c->mates[rank].has++;
    c->lines++;
}

/* A record's text moves to the beginning of the message that it came in. */
static void take_record(cli_record *r, cli_message *m)
{
    heading h = heading_of(m);

    *r = (cli_record){ .place = h.place, .line = h.line, .hash = h.hash, .failed = h.flag != 0,
                       .text = m->bytes, .length = m->n - sizeof h };
    memmove(m->bytes, m->bytes + sizeof h, r->length);
    m->bytes = NULL;
}

/* The last that a rank is sent, once. */
static void dismiss(cli_crew *c, int rank)
{
    if (!c->mates[rank].dismissed) cli_ranks_send(rank, DISMISS, NULL, 0);
    c->mates[rank].dismissed = true;
}

cli_heard cli_crew_hear(cli_crew *c, cli_record *record)
{
    cli_heard heard = CLI_HEARD_SOMETHING;
    cli_message m;
    cli_mate *mate;
    cli_tally tally;
    uint64_t more;

    if (!cli_ranks_receive(&m)) return CLI_HEARD_NOTHING;
    mate = &c->mates[m.from];
    if (m.kind == ASK) {
        memcpy(&more, m.bytes, sizeof more);
        mate->wants += more;
    } else if (m.kind == RECORD) {
        take_record(record, &m);
        mate->has--;
        c->lines--;
        heard = CLI_HEARD_RECORD;
    } else {
        memcpy(&tally, m.bytes, sizeof tally);
        c->tally.read += tally.read;
        c->tally.reused += tally.reused;
        c->tally.generated += tally.generated;
        c->tally.hits += tally.hits;
        mate->gone = true;
        mate->wants = 0;
        c->present--;
        dismiss(c, m.from);
        if (mate->has) heard = CLI_HEARD_LOSS;
    }
    free(m.bytes);
    return heard;
}

void cli_crew_dismiss(cli_crew *c)
{
    cli_record r;

    for (int i = 1; i < c->ranks->size; i++) dismiss(c, i);
    while (c->present > 0) {
        cli_heard heard = cli_crew_hear(c, &r);
        if (heard == CLI_HEARD_RECORD) free(r.text);
        if (heard == CLI_HEARD_NOTHING) cli_nap();
    }
}

/* -------------------------------------------------------------------------------------------------------- following */

/* Asks for as many lines as there are slots, and some more. */
static void ask(const cli_work *w, uint64_t *asked)
{
    uint64_t slots = w->session->info.slots, enough = slots + slots / 2 + 1, has = cli_work_count(w) + *asked;

    if (has >= enough) return;
    has = enough - has;
    *asked += has;
    cli_ranks_send(0, ASK, &has, sizeof has);
}

static void take_order(cli_work *w, const cli_message *m)
{
    heading h = heading_of(m);

    cli_work_add(w, &(cli_order){ .place = h.place, .line = h.line, .hash = h.hash, .cut = h.flag != 0,
                                  .text = m->bytes + sizeof h, .length = m->n - sizeof h });
}

static void send_records(cli_work *w)
{
    cli_record r;

    while (cli_work_take(w, &r)) {
        send_text(0, RECORD, (heading){ r.place, r.line, r.hash, r.failed }, r.text, r.length);
        free(r.text);
    }
}

/* Takes what has come; without work, which is when the leader has been told that this one leaves, it counts no more. */
static void hear_leader(cli_work *w, uint64_t *asked, bool *dismissed)
{
    cli_message m;

    while (!*dismissed && cli_ranks_receive(&m)) {
        *dismissed = m.kind == DISMISS;
        if (w && !*dismissed) take_order(w, &m);
        *asked -= !*dismissed;
        free(m.bytes);
    }
}

int cli_crew_follow(cli_work *w)
{
    cli_tally tally = { 0 };
    uint64_t asked = 0;
    bool dismissed = false;
    int status = CLI_DONE;

    while (w && status == CLI_DONE && !dismissed && !cli_caught()) {
        ask(w, &asked);
        hear_leader(w, &asked, &dismissed);
        if (cli_work_count(w) == 0) cli_nap();
        else if (!dismissed && (status = cli_work_step(w)) == CLI_DONE) send_records(w);
    }
    if (w) cli_tally_add(&tally, w->session);
    cli_ranks_send(0, LEAVE, &tally, sizeof tally);
    while (!dismissed) {
        hear_leader(NULL, &asked, &dismissed);
        cli_nap();
    }
    return status == CLI_DONE && cli_caught() ? 128 + cli_take_signal() : status;
}
