/* search.c - see search.h. */
#include "search.h"

#include <inttypes.h>
#include <math.h>

#define PRECISION 1.05      /* between a rate that keeps the limits and one that does not */
#define FARTHEST  1024.0    /* from where the search begins: beyond that it is no question of rates */

typedef struct search {
    const cli_options *o;
    cli_serve_fn *serve;
    void         *user;
    eyrie_sim_report *best;     /* of the highest rate that keeps the limits */
    double        low, high;    /* the highest rate that does, the lowest that does not; 0: none yet */
    json_t       *tries;
} search;

static bool keeps(const cli_options *o, const eyrie_sim_report *r)
{
    return (!(o->first_limit > 0) || r->first_token.p99 <= (double)o->first_limit)
           && (!(o->between_limit > 0) || r->between_tokens.p99 <= (double)o->between_limit);
}

static int try_rate(search *s, double rate)
{
    eyrie_sim_report report;
    json_t *object;
    bool met;
    int status = s->serve(s->user, rate, &report);

    if (status != CLI_DONE) return status;
    met = keeps(s->o, &report);
    object = json_object();
    cli_set(object, "rate", cli_number(rate));
    cli_set(object, "first_token", cli_number(report.first_token.p99));
    cli_set(object, "between_tokens", cli_number(report.between_tokens.p99));
    cli_set(object, "met", json_boolean(met));
    cli_append(s->tries, object);
    if (met && rate > s->low) {
        s->low = rate;
        *s->best = report;
    } else if (!met) {
        s->high = rate;
    }
    return CLI_DONE;
}

/* What is served a second when all is there: more than that cannot be kept up for long. */
static int begin(search *s, double *rate)
{
    eyrie_sim_report all;
    int status = CLI_DONE;

    *rate = (double)s->o->rate;
    if (*rate > 0 || (status = s->serve(s->user, 0, &all)) != CLI_DONE) return status;
    *rate = (double)all.requests / all.seconds;
    return CLI_DONE;
}

/* By twos until there is one that keeps the limits and one that does not, then between them. */
static int narrow(search *s)
{
    double first, rate;
    int status = begin(s, &first);

    for (rate = first; status == CLI_DONE && (s->low <= 0 || s->high <= 0); rate = s->high > 0 ? s->high / 2 : s->low * 2) {
        if (rate > first * FARTHEST)
            return cli_fail("even %.4g requests a second keep the limits, as far as %" PRIu64 " requests can tell; more of them, or "
                            "stricter limits, find a rate that does not", s->low, s->best->requests);
        if (rate < first / FARTHEST) return cli_fail("not even %.4g requests a second keep the limits", s->high);
        status = try_rate(s, rate);
    }
    while (status == CLI_DONE && s->high > s->low * PRECISION) status = try_rate(s, sqrt(s->low * s->high));
    return status;
}

int cli_search(const cli_options *o, cli_serve_fn *serve, void *user, eyrie_sim_report *report, json_t *object)
{
    search s = { .o = o, .serve = serve, .user = user, .best = report, .tries = json_array() };
    json_t *found = json_object();
    int status;

    cli_set(found, "first_token", cli_number(o->first_limit > 0 ? (double)o->first_limit : NAN));
    cli_set(found, "between_tokens", cli_number(o->between_limit > 0 ? (double)o->between_limit : NAN));
    cli_set(found, "tries", s.tries);
    cli_set(object, "search", found);
    status = narrow(&s);
    cli_set(found, "rate", cli_number(status == CLI_DONE ? s.low : NAN));
    return status;
}
