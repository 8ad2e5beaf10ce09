/* sim.c - `eyrie sim`: the scheduler on devices that are numbers, with requests that are recorded or drawn. */
#include "commands.h"
#include "device.h"
#include "probing.h"
#include "requests.h"
#include "search.h"
#include "served.h"
#include "terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REQUESTS = 10000 };      /* where the options do not say how many */

/* ---------------------------------------------------------------------------------------------------------- devices */

/* "bandwidth=60G,flops=2T,memory=24G,link=10G,count=4,phase=prefill"; "device,count=4": like the one that is there. */
static int parse_device(const cli_options *o, const char *text, eyrie_sim_device *d, bool *like)
{
    static const char *const keys = "bandwidth, flops, prefill-flops, decode-flops, launch, memory, link, count and phase";
    bool decode_said = false;

    *d = (eyrie_sim_device){ .count = 1, .prefill = true, .decode = true };
    *like = strncmp(text, "device", 6) == 0 && (text[6] == ',' || text[6] == '\0');
    if (*like && text[6] == '\0') return CLI_DONE;
    if (*like) text += 7;
    for (const char *at = text; ; at++) {
        size_t key = strcspn(at, "=,"), value;
        const struct { const char *name; double *to; } amounts[] = {
            { "bandwidth", &d->bandwidth }, { "prefill-flops", &d->prefill_flops }, { "decode-flops", &d->decode_flops },
            { "flops", &d->prefill_flops }, { "launch", &d->launch },               { "memory", &d->memory }, { "link", &d->link },
        };
        const char *said = at + key + 1;
        double number = 0;
        bool known = false;

        if (at[key] != '=') return cli_wrong_usage(o->command, "--on: '%.*s' has no value; a device has %s", (int)key, at, keys);
        value = strcspn(said, ",");
        for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
            if (strlen(amounts[i].name) != key || strncmp(at, amounts[i].name, key) != 0) continue;
            known = true;
            if (!cli_parse_amount(said, value, &number))
                return cli_wrong_usage(o->command, "--on: %.*s=%.*s is no number such as 60G", (int)key, at, (int)value, said);
            *amounts[i].to = number;
            if (strcmp(amounts[i].name, "flops") == 0 && !decode_said) d->decode_flops = number;
            if (strcmp(amounts[i].name, "decode-flops") == 0) decode_said = true;
        }
        if (!known && key == 5 && strncmp(at, "count", key) == 0) {
            known = true;
            if (!cli_parse_amount(said, value, &number) || number != floor(number) || number < 1 || number > 65536)
                return cli_wrong_usage(o->command, "--on: count=%.*s; it has to be a whole number from 1 to 65536", (int)value, said);
            d->count = (uint32_t)number;
        } else if (!known && key == 5 && strncmp(at, "phase", key) == 0) {
            known = true;
            d->prefill = value == 7 && strncmp(said, "prefill", value) == 0;
            d->decode = value == 6 && strncmp(said, "decode", value) == 0;
            if (value == 4 && strncmp(said, "both", value) == 0) d->prefill = d->decode = true;
            if (!d->prefill && !d->decode)
                return cli_wrong_usage(o->command, "--on: phase=%.*s; it has to be prefill, decode or both", (int)value, said);
        }
        if (!known) return cli_wrong_usage(o->command, "--on: there is no '%.*s'; a device has %s", (int)key, at, keys);
        at = said + value;
        if (*at == '\0') break;
    }
    if (*like && (d->bandwidth > 0 || d->prefill_flops > 0 || d->decode_flops > 0 || d->launch > 0))
        return cli_wrong_usage(o->command, "--on device: its speed is its own; memory, link, count and phase can be given");
    return CLI_DONE;
}

/* ---------------------------------------------------------------------------------------------------------- serving */

/* One simulation after the other, of the same devices. */
typedef struct simulator {
    const cli_options *o;
    eyrie_sim_opts     opts;
    cli_progress       progress;
} simulator;

static int simulate(void *user, double rate, eyrie_sim_report *report)
{
    simulator *s = user;
    cli_requests from;
    eyrie_error err;
    int status = cli_requests_open(&from, s->o, rate, REQUESTS);

    if (status == CLI_DONE) {
        s->opts.user = &from;
        s->opts.expected = from.file ? 0 : from.left;
        s->opts.clients = from.scenario == CLI_SINGLE;
        eyrie_status st = eyrie_simulate(&s->opts, report, &err);
        cli_progress_wipe(&s->progress);
        if (from.status != CLI_DONE) status = from.status;
        else if (st != EYRIE_OK) status = cli_fail("%s", err.text);
        else if (report->requests == 0) status = cli_fail("%s: there are no requests in it", s->o->file);
    }
    cli_requests_close(&from);
    return status;
}

static json_t *object_of(const cli_options *o)
{
    json_t *object = json_object(), *devices = json_array();

    cli_set(object, "model", cli_text(o->model, strlen(o->model)));
    cli_set(object, "policy", json_string(o->policy ? o->policy : "roofline"));
    cli_set(object, "scenario", json_string(cli_scenario_name(cli_scenario_of(o))));
    for (size_t i = 0; i < o->on.n; i++) cli_append(devices, cli_text(o->on.items[i], strlen(o->on.items[i])));
    cli_set(object, "devices", devices);
    return object;
}

/* ---------------------------------------------------------------------------------------------------------- command */

/* "device" stands for one that is there: it is opened once. */
static int open_device(const cli_options *o, eyrie_device **device)
{
    eyrie_error err;
    int status = CLI_DONE;

    if (*device) return CLI_DONE;
    if ((status = cli_prepare(o)) != CLI_DONE) return status;
    return cli_device_open_probed(device, o, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

int cli_sim(const cli_options *o)
{
    eyrie_model_opts model_opts = cli_model_opts(o);
    eyrie_sim_device *devices = cli_resize(NULL, o->on.n + 1, sizeof *devices);
    eyrie_device *device = NULL;
    simulator s = { .o = o, .progress = cli_progress_new() };
    json_t *object = object_of(o);
    eyrie_sim_report report;
    int status = cli_check_scenario(o);

    s.opts = (eyrie_sim_opts){ .model = o->model, .model_opts = &model_opts, .devices = devices, .n_devices = o->on.n,
                               .policy = o->policy, .token_interval = (double)o->token_interval, .rows = (uint32_t)o->rows,
                               .arrivals = cli_requests_next, .progress = cli_progress_show, .progress_user = &s.progress };
    if (status == CLI_DONE && o->on.n == 0)
        status = cli_wrong_usage(o->command, "a device is missing: --on bandwidth=60G,flops=2T,memory=24G");
    for (size_t i = 0; i < o->on.n && status == CLI_DONE; i++) {
        bool like = false;
        status = parse_device(o, o->on.items[i], &devices[i], &like);
        if (status == CLI_DONE && like) status = open_device(o, &device);
        devices[i].like = like ? device : NULL;
    }
    if (status == CLI_DONE && o->search) status = cli_search(o, simulate, &s, &report, object);
    else if (status == CLI_DONE) status = simulate(&s, (double)o->rate, &report);
    if (status == CLI_DONE) {
        cli_served_set(object, &report);
        if (o->json) cli_print_json(object);
        else cli_served_print(object, &cli_standard_output);
    }
    if (status != CLI_DONE || !o->json) json_decref(object);
    (void)eyrie_device_close(device);
    free(devices);
    return status;
}
