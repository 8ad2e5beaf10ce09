/* serving.c - see serving.h. One thread: between two steps of the engine it takes the requests that have come, and where there is
 * nothing to do it sleeps until the next one comes. */
#include "serving.h"
#include "requests.h"
#include "search.h"
#include "served.h"
#include "session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REQUESTS = 64, SLOTS = 16,   /* where the options do not say how many */
       SEEN = 1024,                 /* requests that the engine has at a time; those behind them wait here, as in simulations */
       WARM_ROUNDS = 3, WARM_STEPS = 4 };

/* A request that is with the engine. */
typedef struct visitor {
    struct visitor *next;
    struct server  *server;
    eyrie_seq      *seq;
    size_t          number;         /* in the list */
    double          came, last;     /* on cli_seconds's clock: it, and its last token */
    uint64_t        tokens;
    bool            over;
} visitor;

typedef struct server {
    cli_benchmark *b;
    cli_session    session;
    eyrie_arrival *list;            /* [n] that come in this run */
    size_t         n, came, answered;
    cli_scenario   scenario;
    bool           counts;          /* else it is the warming up */
    uint64_t      *digests;         /* [n] of the tokens of each */
    visitor       *visitors;        /* the last to come is the first */
    size_t         n_visitors;
    int32_t       *ids;             /* a prompt */
    size_t         ids_capacity;
    double         start;
    eyrie_tally   *first, *between, *whole;
    eyrie_sim_report report;
} server;

/* ---------------------------------------------------------------------------------------------------------- visitors */

/* FNV-1a, a byte at a time. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++) hash = (hash ^ (value >> 8 * i & 255)) * 0x100000001B3ull;
    return hash;
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    visitor *v = user;
    server *s = v->server;
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
static eyrie_status submit(server *s, visitor *v, eyrie_error *err)
{
    const eyrie_arrival *a = &s->list[v->number];
    eyrie_request r = { .struct_size = sizeof r, .n_tokens = (size_t)a->prompt, .max_tokens = a->output, .flags = EYRIE_IGNORE_EOS,
                        .on_event = on_event, .user = v, .priority = a->priority };
    uint64_t random = mix(0xCBF29CE484222325ull, v->number);
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
static eyrie_status take(server *s, double when, eyrie_error *err)
{
    visitor *v = cli_resize(NULL, 1, sizeof *v);

    *v = (visitor){ .next = s->visitors, .server = s, .number = s->came++, .came = when, .last = when };
    s->visitors = v;
    s->n_visitors++;
    s->list[v->number].seconds = when - s->start;
    return submit(s, v, err);
}

static void dismiss(server *s, bool all)
{
    for (visitor **at = &s->visitors, *v; (v = *at) != NULL;) {
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
static eyrie_status take_all(server *s, eyrie_error *err)
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

static void show(server *s)
{
    double spent = cli_seconds() - s->start, done = (double)s->answered / (double)s->n;

    if (s->counts) cli_bench_show(s->b, done > 0 ? spent / done - spent : NAN, "serving: %zu of %zu requests answered", s->answered, s->n);
    else cli_bench_show(s->b, NAN, "warming up: %zu of %zu requests answered", s->answered, s->n);
}

/* The device idles only while nobody is there. */
static eyrie_status serve_list(server *s, eyrie_error *err)
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
    for (visitor *v = s->visitors; v; v = v->next) (void)eyrie_seq_cancel(v->seq, NULL);
    while (eyrie_engine_step(s->session.engine, &busy, NULL) == EYRIE_OK && busy) continue;    /* a step may be under way for them */
    dismiss(s, true);
    return st;
}

/* What the engine has done meanwhile. */
static void tell(server *s, const eyrie_stats *before)
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

/* Serves the list; the status of an interrupt is that of its signal. */
static int serve(server *s, bool counts)
{
    eyrie_stats before = { .struct_size = sizeof before };
    eyrie_error err;
    eyrie_status st;

    s->counts = counts;
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

/* Steps of all sizes have run some times before anything counts: nothing is built then, no memory touched for the first time, and
 * the costs are known. Prompts of all sizes alone, then as many sequences as there are slots, of which one after the other ends. */
static int warm_up(server *s)
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

/* --------------------------------------------------------------------------------------------------------- the list */

static int check_lengths(const server *s)
{
    uint64_t context = s->session.info.context;

    for (size_t i = 0; i < s->n; i++) {
        const eyrie_arrival *a = &s->list[i];
        if (context && a->prompt + a->output > context)
            return cli_fail("request %zu has %" PRIu64 " tokens to read and %" PRIu64 " to generate, and the context is %" PRIu64 " long; a longer "
                            "--context makes room", i + 1, a->prompt, a->output, context);
    }
    return CLI_DONE;
}

static int draw_list(server *s, double rate)
{
    free(s->list);
    return cli_requests_all(s->b->o, rate, REQUESTS, &s->list, &s->n);
}

/* A cli_serve_fn. */
static int serve_at(void *user, double rate, eyrie_sim_report *report)
{
    server *s = user;
    int status = draw_list(s, rate);

    s->scenario = rate > 0 || s->b->o->file ? cli_scenario_of(s->b->o) : cli_scenario_of(s->b->o) == CLI_SINGLE ? CLI_SINGLE : CLI_OFFLINE;
    if (status == CLI_DONE) status = check_lengths(s);
    if (status == CLI_DONE) status = serve(s, true);
    *report = s->report;
    return status;
}

/* An eyrie_arrivals_fn: those that came, once more. */
typedef struct replay {
    const server *server;
    size_t        next;
} replay;

static bool come_again(void *user, eyrie_arrival *next)
{
    replay *r = user;

    if (r->next == r->server->n) return false;
    *next = r->server->list[r->next++];
    if (r->server->scenario == CLI_SINGLE) next->seconds = 0;
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- record */

static uint64_t checksum(const server *s)
{
    uint64_t hash = 0xCBF29CE484222325ull;

    for (size_t i = 0; i < s->n; i++) hash = mix(hash, s->digests[i]);
    return hash;
}

static json_t *add_row(const server *s)
{
    const cli_options *o = s->b->o;
    const eyrie_model_info *i = &s->session.info;
    json_t *row = cli_record_add_row(s->b->rows, "serve");
    cli_scenario scenario = cli_scenario_of(o);

    cli_set(row, "model", cli_text(o->model, strlen(o->model)));
    cli_set(row, "weights", json_string(cli_format_name(i->weights)));
    cli_set(row, "kv", json_string(cli_format_name(i->kv)));
    cli_set(row, "compute", json_string(o->compute ? o->compute : "auto"));
    cli_set(row, "chunk", json_integer(i->chunk));
    cli_set(row, "policy", json_string(o->policy ? o->policy : "roofline"));
    cli_set(row, "lanes", json_integer(s->session.reader ? 2 : 1));
    cli_set(row, "scenario", json_string(cli_scenario_name(scenario)));
    cli_set(row, "rate", cli_number(o->rate > 0 && !o->search ? (double)o->rate : NAN));
    return row;
}

static void fill_row(json_t *row, const server *s)
{
    double rate = (double)s->report.tokens / s->report.seconds;
    char text[24];

    cli_record_set_rates(row, "tokens/s", &rate, 1);
    cli_served_set(row, &s->report);
    snprintf(text, sizeof text, "%016" PRIx64, checksum(s));
    cli_set(row, "checksum", json_string(text));
}

static int add_simulated(json_t *row, const server *s)
{
    replay again = { s, 0 };
    eyrie_sim_opts opts = { .arrivals = come_again, .user = &again, .clients = s->scenario == CLI_SINGLE };
    eyrie_sim_report simulated;
    eyrie_error err;

    if (eyrie_engine_simulate(s->session.engine, &opts, &simulated, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    cli_served_set_simulated(row, &simulated);
    return CLI_DONE;
}

/* ----------------------------------------------------------------------------------------------------------- command */

int cli_bench_serve_check(const cli_options *o)
{
    const struct { const char *name; bool given; } others[] = {
        { "-p", o->prompts.n > 0 }, { "-n", o->generated.n > 0 }, { "-d", o->depths.n > 0 }, { "-b", o->batches.n > 0 },
        { "-r", o->repetitions > 0 }, { "--quick", o->quick },
        { "a list for --weights", o->weights && strchr(o->weights, ',') }, { "a list for --compute", o->compute && strchr(o->compute, ',') },
        { "a list for --chunk", o->chunks.n > 1 },
    };
    cli_requests drawn;
    int status = cli_check_scenario(o);

    if (!o->model) return cli_wrong_usage(o->command, "no model to serve: -m MODEL is needed");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            return cli_wrong_usage(o->command, "%s is not for serve, which has --requests, --prompt-tokens and --output-tokens", others[i].name);
    if (status != CLI_DONE || o->file) return status;
    status = cli_requests_open(&drawn, o, 0, REQUESTS);
    cli_requests_close(&drawn);
    return status;
}

/* What the options say of one setting. */
static cli_options own_options(const cli_options *o)
{
    cli_options own = *o;

    own.chunk = o->chunks.n ? o->chunks.items[0] : 0;
    own.slots = o->slots ? o->slots : SLOTS;
    return own;
}

static int measure(server *s)
{
    const cli_options *o = s->b->o;
    eyrie_sim_report report;
    json_t *row;
    int status = draw_list(s, (double)o->rate);

    if (status == CLI_DONE) status = check_lengths(s);      /* before anything that takes time */
    if (status == CLI_DONE) status = warm_up(s);
    if (status != CLI_DONE) return status;
    row = add_row(s);
    if (!o->search) {
        status = serve_at(s, (double)o->rate, &report);
    } else if ((status = cli_search(o, serve_at, s, &report, row)) == CLI_DONE) {
        double rate = cli_get_number(json_object_get(row, "search"), "rate");
        cli_set(row, "rate", cli_number(rate));
        status = draw_list(s, rate);        /* the last one tried was perhaps another */
        s->report = report;
    }
    if (s->answered > 0) fill_row(row, s);
    return status == CLI_DONE ? add_simulated(row, s) : status;
}

int cli_bench_serve(cli_benchmark *b)
{
    cli_options own = own_options(b->o);
    server s = { .b = b };
    eyrie_device *device = b->device;
    cli_file arrivals = { .path = NULL };
    int status;

    if (own.file && (status = draw_list(&s, 0)) != CLI_DONE) {      /* what is wrong in it is said before all else */
        free(s.list);
        return status;
    }
    if (own.record_arrivals && (status = cli_file_open(&arrivals, own.record_arrivals)) != CLI_DONE) {
        (void)cli_file_close(&arrivals, false);
        free(s.list);
        return status;
    }
    b->device = NULL;
    if ((status = cli_session_open_engine(&s.session, &own, device)) == CLI_DONE) status = measure(&s);
    if (own.record_arrivals && s.came > 0 && (status == CLI_DONE || b->signal)) {
        int written = cli_requests_write(&arrivals, s.list, s.came);
        if (status == CLI_DONE) status = written;
    } else if (own.record_arrivals) {
        (void)cli_file_close(&arrivals, false);
    }
    cli_session_close(&s.session);
    eyrie_tally_free(s.first);
    eyrie_tally_free(s.between);
    eyrie_tally_free(s.whole);
    free(s.list);
    free(s.digests);
    free(s.ids);
    return status;
}
