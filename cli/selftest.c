/* selftest.c - `eyrie selftest`: every kernel on the user's own device against plain C, a line each. */
#include "commands.h"
#include "device.h"
#include "probing.h"

#include <inttypes.h>
#include <string.h>

typedef struct report {
    json_t  *checks;            /* NULL: lines are printed instead */
    uint32_t n;
    char     wrong[256];        /* ops that failed, each once, as far as there is room */
} report;

/* Adds an op to the list of those that failed. They come op by op, so it is there if it is the last. */
static void blame(report *r, const char *op)
{
    size_t length = strlen(r->wrong), n = strlen(op);

    if (length >= n && strcmp(r->wrong + length - n, op) == 0) return;
    snprintf(r->wrong + length, sizeof r->wrong - length, "%s%s", length ? ", " : "", op);
}

static void on_check(void *user, const eyrie_check *c)
{
    report *r = user;

    r->n++;
    if (!c->passed) blame(r, c->op);
    if (!r->checks) {
        cli_print("%-10s %-28s %8.1e of %7.1e  %7.3f s  %s", c->op, c->variant, c->error, c->tolerance, c->seconds,
                  c->passed ? "ok" : "WRONG");
        cli_print(c->failure ? ": %s\n" : "\n", c->failure ? c->failure->text : "");
        (void)cli_flush();
        return;
    }
    json_t *object = json_object();
    cli_set(object, "op", json_string(c->op));
    cli_set(object, "variant", json_string(c->variant));
    cli_set(object, "error", cli_number(c->error));
    cli_set(object, "tolerance", cli_number(c->tolerance));
    cli_set(object, "seconds", cli_number(c->seconds));
    cli_set(object, "passed", json_boolean(c->passed));
    if (c->failure) cli_set(object, "failure", cli_text(c->failure->text, strlen(c->failure->text)));
    cli_append(r->checks, object);
}

static void print_json(report *r, const char *device, uint32_t failures)
{
    json_t *object = json_object();

    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "passed", json_boolean(failures == 0));
    cli_set(object, "failures", json_integer(failures));
    cli_set(object, "checks", r->checks);
    cli_print_json(object);
}

int cli_selftest(const cli_options *o)
{
    report r = { .checks = NULL };
    eyrie_device *device = NULL;
    uint32_t failures = 0;
    eyrie_error err;
    int status = cli_prepare(o);

    if (status != CLI_DONE) return status;
    if (cli_device_open_probed(&device, o, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (o->json) r.checks = json_array();
    else cli_print("%s\n", eyrie_device_name(device));
    if (eyrie_selftest(device, o->op, on_check, &r, &failures, &err) != EYRIE_OK) {
        status = cli_fail("%s", err.text);
        json_decref(r.checks);
    } else {
        if (o->json) print_json(&r, eyrie_device_name(device), failures);
        else if (failures == 0) cli_print("all %" PRIu32 " checks passed\n", r.n);
        if (failures) status = cli_fail("%" PRIu32 " of %" PRIu32 " checks failed: %s", failures, r.n, r.wrong);
    }
    (void)eyrie_device_close(device);
    return status;
}
