/* serve.c - `eyrie bench serve`: what comes to the engine, at which rates, and the row of the record that follows. */
#include "search.h"
#include "served.h"
#include "serving.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REQUESTS = 64, SLOTS = 16 };     /* where the options do not say how many */

/* --------------------------------------------------------------------------------------------------------- the list */

static int check_lengths(const cli_server *s)
{
    uint64_t context = s->session.info.context;

    for (size_t i = 0; i < s->n; i++) {
        const eyrie_arrival *a = &s->list[i];
        if (context && a->prompt + a->output > context)
            return cli_fail("request %zu has %" PRIu64 " tokens to read and %" PRIu64 " to generate, and the context is %" PRIu64
                            " long; a longer --context makes room", i + 1, a->prompt, a->output, context);
    }
    return CLI_DONE;
}

static int draw_list(cli_server *s, double rate)
{
    free(s->list);
    return cli_requests_all(s->b->o, rate, REQUESTS, &s->list, &s->n);
}

/* A cli_serve_fn. */
static int serve_at(void *user, double rate, eyrie_sim_report *report)
{
    cli_server *s = user;
    int status = draw_list(s, rate);

    s->scenario = cli_scenario_of(s->b->o);
    if (s->scenario == CLI_SERVER && rate <= 0 && !s->b->o->file) s->scenario = CLI_OFFLINE;     /* where the search begins */
    s->rate = rate;
    if (status == CLI_DONE) status = check_lengths(s);
    if (status == CLI_DONE) status = cli_server_run(s);
    *report = s->report;
    return status;
}

/* An eyrie_arrivals_fn: those that came, once more. */
typedef struct replay {
    const cli_server *server;
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

static json_t *add_row(const cli_server *s)
{
    const cli_options *o = s->b->o;
    json_t *row = cli_record_add_row(s->b->rows, "serve");
    cli_scenario scenario = cli_scenario_of(o);
    eyrie_model_opts opts = cli_model_opts(o);

    cli_bench_set_setting(row, o->model, o->compute ? o->compute : "auto", &s->session.info, &opts);
    cli_set(row, "policy", json_string(o->policy ? o->policy : "roofline"));
    cli_set(row, "lanes", json_integer(s->session.reader ? 2 : 1));
    cli_set(row, "scenario", json_string(cli_scenario_name(scenario)));
    cli_set(row, "rate", cli_number(o->rate > 0 && !o->search ? (double)o->rate : NAN));
    return row;
}

static void fill_row(json_t *row, const cli_server *s)
{
    double rate = (double)s->report.tokens / s->report.seconds;
    char text[24];

    cli_record_set_rates(row, "tokens/s", &rate, 1);
    cli_served_set(row, &s->report);
    snprintf(text, sizeof text, "%016" PRIx64, cli_server_checksum(s));
    cli_set(row, "checksum", json_string(text));
}

static int add_simulated(json_t *row, const cli_server *s)
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

int cli_bench_no_serve_check(const cli_options *o)
{
    const struct { const char *name; bool given; } own[] = {
        { "--scenario", o->scenario }, { "--rate", o->rate > 0 }, { "--search", o->search }, { "--first-token", o->first_limit > 0 },
        { "--between-tokens", o->between_limit > 0 }, { "--arrivals", o->file }, { "--record-arrivals", o->record_arrivals },
        { "--requests", o->requests }, { "--prompt-tokens", o->prompt_tokens }, { "--output-tokens", o->output_tokens },
        { "--seed", o->seed }, { "--policy", o->policy }, { "--token-interval", o->token_interval > 0 }, { "--lanes", o->lanes },
        { "--trace", o->trace }, { "--slots", o->slots },
    };

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].given) return cli_wrong_usage(o->command, "%s is for eyrie bench serve", own[i].name);
    return CLI_DONE;
}

int cli_bench_serve_check(const cli_options *o)
{
    const struct { const char *name; bool given; } others[] = {
        { "-p", o->prompts.n > 0 }, { "-n", o->generated.n > 0 }, { "-d", o->depths.n > 0 }, { "-b", o->batches.n > 0 },
        { "-r", o->repetitions > 0 }, { "--quick", o->quick },
        { "a list for --weights", o->weights && strchr(o->weights, ',') },
        { "a list for --compute", o->compute && strchr(o->compute, ',') }, { "a list for --chunk", o->chunks.n > 1 },
    };
    cli_requests drawn;
    int status = cli_check_scenario(o);

    if (!o->model) return cli_wrong_usage(o->command, "no model to serve: -m MODEL is needed");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            return cli_wrong_usage(o->command, "%s is not for serve, which has --requests, --prompt-tokens and --output-tokens",
                                   others[i].name);
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

static int measure(cli_server *s)
{
    const cli_options *o = s->b->o;
    eyrie_sim_report report;
    json_t *row;
    int status = draw_list(s, (double)o->rate);

    if (status == CLI_DONE) status = check_lengths(s);      /* before anything that takes time */
    if (status == CLI_DONE) status = cli_server_warm_up(s);
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
    cli_server s = { .b = b };
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
    cli_server_close(&s);
    return status;
}
