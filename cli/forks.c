/* forks.c - see forks.h. */
#include "forks.h"
#include "terminal.h"

#include <stdlib.h>

/* A request that goes on from the prompt. */
typedef struct branch {
    eyrie_seq      *seq;        /* NULL: not begun, or over */
    eyrie_event_fn *on_event;   /* of the request, which is heard through this one */
    void           *user;
    bool            over;
} branch;

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    branch *b = user;

    b->over = event->kind == EYRIE_EVENT_END;
    if (b->on_event) b->on_event(b->user, seq, event);
}

/* The last one takes the prompt's own sequence. */
static eyrie_status begin(cli_session *s, branch *b, bool last, eyrie_request r, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    *b = (branch){ .seq = s->seq, .on_event = r.on_event, .user = r.user };
    r.struct_size = sizeof r;
    r.on_event = on_event;
    r.user = b;
    if (last) s->seq = NULL;
    else st = eyrie_seq_fork(&b->seq, s->seq, err);
    return st == EYRIE_OK ? eyrie_seq_submit(b->seq, &r, err) : st;
}

/* Closes those that are over; returns how many are not. */
static size_t close_over(branch *list, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++) {
        if (list[i].seq && list[i].over) {
            (void)eyrie_seq_close(list[i].seq);
            list[i].seq = NULL;
        }
        left += list[i].seq != NULL;
    }
    return left;
}

static void end_all(cli_session *s, branch *list, size_t n)
{
    bool busy = true;

    for (size_t i = 0; i < n; i++)
        if (list[i].seq) (void)eyrie_seq_cancel(list[i].seq, NULL);
    while (close_over(list, n) > 0 && busy) (void)eyrie_engine_step(s->engine, &busy, NULL);
    for (size_t i = 0; i < n; i++) (void)eyrie_seq_close(list[i].seq);
}

int cli_session_run_forks(cli_session *s, size_t n, cli_fork_fn *describe, void *user)
{
    eyrie_request read = { .struct_size = sizeof read, .flags = EYRIE_KEEP_LOGITS };
    branch *list;
    size_t begun = 0, running = 0, slots = s->info.slots;
    eyrie_status st = EYRIE_OK;
    eyrie_error err;
    bool busy;
    int status;

    if (slots < 2 && n > 1) return cli_fail("one slot holds the text or what follows it; give --slots 2 at least");
    list = cli_resize(NULL, n, sizeof *list);
    status = s->n_tokens > 0 ? cli_session_run(s, &read) : CLI_DONE;
    cli_catch_signals(false);
    while (status == CLI_DONE && st == EYRIE_OK && (begun < n || running > 0) && !s->stop && !cli_caught()) {
        /* While the prompt is still to be forked, it has a slot of its own. */
        for (; begun < n && st == EYRIE_OK && running + 1 < slots + (begun + 1 == n); begun++, running++) {
            eyrie_request r = { .struct_size = sizeof r };
            describe(user, begun, &r);
            st = begin(s, &list[begun], begun + 1 == n, r, &err);
        }
        if (st == EYRIE_OK) st = eyrie_engine_step(s->engine, &busy, &err);
        running = close_over(list, begun);
    }
    end_all(s, list, begun);
    free(list);
    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    return status == CLI_DONE && cli_caught() ? 128 + cli_take_signal() : status;
}
