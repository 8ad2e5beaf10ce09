/* serving.c - see serving.h. Between two steps of the engine it takes the requests that have come, and where there is nothing to
 * do it sleeps until the next one comes. */
#include "serving.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEEN = 1024,     /* requests that the engine has at a time; those behind them wait here, as in simulations */
       WARM_ROUNDS = 3, WARM_STEPS = 4 };

struct cli_visitor {
    cli_visitor *next;
    cli_server  *server;
    eyrie_seq   *seq;
    size_t       number;        /* in the list */
    double       came, last;    /* on cli_seconds's clock: it, and its last token */
    uint64_t     tokens;
    bool         over;
};

/* ---------------------------------------------------------------------------------------------------------- visitors */

#define NOTHING 0xCBF29CE484222325ull

/* FNV-1a, a byte at a time, of NOTHING first. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++) hash = (hash ^ (value >> 8 * i & 255)) * 0x100000001B3ull;
    return hash;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    cli_visitor *v = user;
    cli_server *s = v->server;
    double now = cli_seconds();

    (void)seq;
    if (event->kind == EYRIE_EVENT_END) {
        v->over = true;
        eyrie_tally_add(s->whole, now - v->came);
    }
    if (event->kind != EYRIE_EVENT_TOKEN) return;
    eyrie_tally_add(v->tokens ? s->between : s->first, now - v->last);
    s->digests[v->number] = mix(s->digests[v->number], (uint64_t)event->token);
    s->report.tokens++;
    v->tokens++;
    v->last = now;
}

/* Which tokens hardly matters; they are the same whenever the request comes. */
static eyrie_status submit(cli_server *s, cli_visitor *v, eyrie_error *err)
{
    const eyrie_arrival *a = &s->list[v->number];
    eyrie_request r = { .struct_size = sizeof r, .n_tokens = (size_t)a->prompt, .max_tokens = a->output,
                        .flags = EYRIE_IGNORE_EOS, .on_event = on_event, .user = v, .priority = a->priority };
    uint64_t random = mix(NOTHING, v->number);
    eyrie_status st = eyrie_seq_open(&v->seq, s->session.engine, err);

    cli_grow(&s->ids, &s->ids_capacity, r.n_tokens, sizeof *s->ids);
    for (size_t i = 0; i < r.n_tokens; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;     /* Knuth's, of MMIX */
        s->ids[i] = (int32_t)((random >> 33) % s->session.info.vocab);
    }
    r.tokens = s->ids;
    return st == EYRIE_OK ? eyrie_seq_submit(v->seq, &r, err) : st;
}

/* Takes the next of the list, which has come at `when`. */
static eyrie_status take(cli_server *s, double when, eyrie_error *err)
{
    cli_visitor *v = cli_resize(NULL, 1, sizeof *v);

    *v = (cli_visitor){ .next = s->visitors, .server = s, .number = s->came++, .came = when, .last = when };
    s->visitors = v;
    s->n_visitors++;
    s->list[v->number].seconds = when - s->start;
    return submit(s, v, err);
}

static void dismiss(cli_server *s, bool all)
{
    for (cli_visitor **at = &s->visitors, *v; (v = *at) != NULL;) {
        if (!v->over && !all) {
            at = &v->next;
            continue;
        }
        s->answered += v->over;
        s->report.prompt_tokens += v->over ? s->list[v->number].prompt : 0;
        s->n_visitors--;
        *at = v->next;
        (void)eyrie_seq_close(v->seq);
        free(v);
    }
}

/* ------------------------------------------------------------------------------------------------------------ a run */

/* All that have come by now, in order. How many of them wait for a slot is known then. */
static eyrie_status take_all(cli_server *s, eyrie_error *err)
{
    double now = cli_seconds();
    uint64_t there = s->n_visitors, slots = s->session.info.slots;
    eyrie_status st = EYRIE_OK;

    if (s->scenario == CLI_SINGLE) return s->n_visitors == 0 && s->came < s->n ? take(s, now, err) : EYRIE_OK;
    for (size_t i = s->came; i < s->n && s->start + s->list[i].seconds <= now; i++) {
        there++;
        if (s->n_visitors < SEEN && st == EYRIE_OK) st = take(s, s->start + s->list[i].seconds, err);
    }
    if (there > slots && there - slots > s->report.most_waiting) s->report.most_waiting = there - slots;
    return st;
}

/* Until then, or a signal. */
static void sleep_until(double then)
{
    double left = then - cli_seconds();
    struct timespec time = { .tv_sec = (time_t)left };

    if (left <= 0) return;
    time.tv_nsec = (long)((left - floor(left)) * 1e9);
    (void)nanosleep(&time, NULL);
}

static void show(cli_server *s)
{
    double spent = cli_seconds() - s->start, done = (double)s->answered / (double)s->n;
    char rate[48] = "";

    if (s->rate > 0) snprintf(rate, sizeof rate, " at %.3g a second", s->rate);
    cli_bench_show(s->b, s->warm && done > 0 ? spent / done - spent : NAN, "%s%s: %zu of %zu requests answered",
                   s->warm ? "serving" : "warming up", rate, s->answered, s->n);
}

/* The device idles only while nobody is there. */
static eyrie_status serve_list(cli_server *s, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    bool busy;

    s->start = cli_seconds();
    while (st == EYRIE_OK && s->answered < s->n && !cli_bench_interrupted(s->b)) {
        if ((st = take_all(s, err)) != EYRIE_OK) break;
        if (s->n_visitors == 0) sleep_until(s->start + s->list[s->came].seconds);
        else st = eyrie_engine_step(s->session.engine, &busy, err);
        dismiss(s, false);
        show(s);
    }
    s->report.seconds = cli_seconds() - s->start;
    if (s->n_visitors == 0) return st;
    for (cli_visitor *v = s->visitors; v; v = v->next) (void)eyrie_seq_cancel(v->seq, NULL);
    while (eyrie_engine_step(s->session.engine, &busy, NULL) == EYRIE_OK && busy) continue;     /* one may read for them */
    dismiss(s, true);
    return st;
}

/* What the engine has done meanwhile. */
static void tell(cli_server *s, const eyrie_stats *before)
{
    eyrie_stats now = { .struct_size = sizeof now };
    eyrie_sim_report *r = &s->report;

    if (eyrie_engine_get_stats(s->session.engine, &now, NULL) != EYRIE_OK) return;
    r->requests = s->answered;
    r->first_token = eyrie_tally_spread(s->first);
    r->between_tokens = eyrie_tally_spread(s->between);
    r->whole = eyrie_tally_spread(s->whole);
    r->busy = (now.prefill_seconds - before->prefill_seconds + now.decode_seconds - before->decode_seconds)
              / r->seconds / (s->session.reader ? 2 : 1);
    r->arithmetic = r->memory = NAN;        /* what peaks would be those of? */
    r->prefill_steps = now.prefill_steps - before->prefill_steps;
    r->decode_steps = now.decode_steps - before->decode_steps;
    r->handovers = now.handed_over - before->handed_over;
    if (r->handovers) r->handover_seconds = (now.hand_over_seconds - before->hand_over_seconds) / (double)r->handovers;
    r->slots = s->session.info.slots;
}

static int serve(cli_server *s, bool warm)
{
    eyrie_stats before = { .struct_size = sizeof before };
    eyrie_error err;
    eyrie_status st;

    s->warm = warm;
    s->came = s->answered = 0;
    s->report = (eyrie_sim_report){ 0 };
    s->digests = cli_resize(s->digests, s->n, sizeof *s->digests);
    memset(s->digests, 0, s->n * sizeof *s->digests);
    eyrie_tally_free(s->first);
    eyrie_tally_free(s->between);
    eyrie_tally_free(s->whole);
    s->first = eyrie_tally_new();
    s->between = eyrie_tally_new();
    s->whole = eyrie_tally_new();
    if (!s->first || !s->between || !s->whole) return cli_fail("out of memory");
    (void)eyrie_engine_get_stats(s->session.engine, &before, NULL);
    st = serve_list(s, &err);
    tell(s, &before);
    cli_bench_wipe(s->b);
    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    return cli_bench_interrupted(s->b) ? 128 + s->b->signal : CLI_DONE;
}

int cli_server_run(cli_server *s) { return serve(s, true); }

/* Prompts of all sizes alone, then as many sequences as there are slots, of which one after the other ends. */
int cli_server_warm_up(cli_server *s)
{
    uint64_t chunk = s->session.info.chunk, context = s->session.info.context;
    size_t n = 0, capacity = 0;
    int status;

    free(s->list);
    s->list = NULL;
    for (uint64_t size = 8; size < 2 * chunk; size *= 2)
        for (int i = 0; i < WARM_ROUNDS; i++) {
            uint64_t prompt = size < chunk ? size : chunk;
            cli_grow(&s->list, &capacity, n + 1, sizeof *s->list);
            s->list[n++] = (eyrie_arrival){ .prompt = context && prompt >= context ? context - 1 : prompt, .output = 1 };
        }
    s->n = n;
    s->scenario = CLI_SINGLE;
    status = serve(s, false);
    for (n = 0; n < s->session.info.slots; n++) {
        cli_grow(&s->list, &capacity, n + 1, sizeof *s->list);
        s->list[n] = (eyrie_arrival){ .prompt = 1, .output = WARM_STEPS * (n + 1) };
        if (context && s->list[n].output >= context) s->list[n].output = context - 1;
    }
    s->n = n;
    s->scenario = CLI_OFFLINE;
    if (status == CLI_DONE) status = serve(s, false);
    s->answered = s->came = 0;
    return status;
}

uint64_t cli_server_checksum(const cli_server *s)
{
    uint64_t hash = NOTHING;

    for (size_t i = 0; i < s->n; i++) hash = mix(hash, s->digests[i]);
    return hash;
}

void cli_server_close(cli_server *s)
{
    cli_session_close(&s->session);
    eyrie_tally_free(s->first);
    eyrie_tally_free(s->between);
    eyrie_tally_free(s->whole);
    free(s->list);
    free(s->digests);
    free(s->ids);
}
