/* tune.c - `eyrie tune`: which tiles the products of a model are fastest with on this device, a line each. */
#include "commands.h"
#include "device.h"
#include "probing.h"
#include "terminal.h"

#include <inttypes.h>
#include <string.h>

/* In 8 bits: what follows the kernel's name otherwise. */
static const char in_8_bits[] = "_int8";

/* "gate and up, 15360 x 2560": what a product is for follows from the kernel that carries it out. */
static const char *purpose(const char *op)
{
    static const struct { const char *op, *text; } purposes[] = {
        { "matmul", "product" }, { "matmul_geglu", "gate and up" }, { "matmul_conv1d", "and convolution" },
        { "matmul_rglru", "gates, recurrence" },
    };

    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++) {
        size_t n = strlen(purposes[i].op);
        if (strncmp(purposes[i].op, op, n) == 0 && (op[n] == '\0' || strcmp(op + n, in_8_bits) == 0)) return purposes[i].text;
    }
    return op;
}

static void print_line(const eyrie_tuned *t)
{
    char shape[48], format[16];

    snprintf(format, sizeof format, "%s%s", cli_format_name(t->format), strstr(t->op, in_8_bits) ? " int8" : "");
    snprintf(shape, sizeof shape, t->blocks > 1 ? "%" PRIu32 " x %" PRIu32 ", %" PRIu32 " blocks" : "%" PRIu32 " x %" PRIu32, t->rows,
             t->cols, t->blocks);
    cli_print("%-17s %-7s %-24s %4" PRIu32 " row%s %-5s %9.4f ms  %6.1f GB/s  %7.1f GFLOP/s  ", purpose(t->op),
              format, shape, t->tokens, t->tokens == 1 ? ": " : "s:", t->tile, 1e3 * t->seconds,
              1e-9 * t->bytes_per_second, 1e-9 * t->flops_per_second);
    if (t->gain > 1) cli_print("%.2f times as fast as built in", t->gain);
    else cli_print("as built in");
    cli_print(t->wrong[0] ? "; WRONG with %s\n" : "\n", t->wrong);
    (void)cli_flush();
}

static json_t *object_of(const eyrie_tuned *t)
{
    json_t *object = json_object();

    cli_set(object, "op", json_string(t->op));
    cli_set(object, "format", json_string(cli_format_name(t->format)));
    cli_set(object, "rows", json_integer(t->rows));
    cli_set(object, "cols", json_integer(t->cols));
    cli_set(object, "blocks", json_integer(t->blocks));
    cli_set(object, "tokens", json_integer(t->tokens));
    cli_set(object, "normed", json_boolean(t->normed));
    cli_set(object, "tile", json_string(t->tile));
    cli_set(object, "seconds", cli_number(t->seconds));
    cli_set(object, "gain", cli_number(t->gain));
    cli_set(object, "bytes_per_second", t->known ? json_null() : cli_number(t->bytes_per_second));
    cli_set(object, "flops_per_second", t->known ? json_null() : cli_number(t->flops_per_second));
    cli_set(object, "known", json_boolean(t->known));
    cli_set(object, "wrong", json_string(t->wrong));
    return object;
}

/* Hears of products that are measured, and of how far that has come. */
typedef struct tuning {
    cli_progress line;
    double       start;
    double       done;          /* of all, when the first was measured: those before were known */
    bool         begun;
    json_t      *products;      /* what was found goes there; NULL: to standard output, a line each */
} tuning;

static void show_tuning(void *user, const char *what, double done)
{
    tuning *t = user;

    if (!t->begun) {
        t->begun = true;
        t->done = done;
        t->start = cli_seconds();
    }
    if (!cli_progress_due(&t->line)) return;
    fprintf(stderr, "\r%s: %.0f %%", what, 100 * done);
    if (done > t->done) fprintf(stderr, ", about %.0f s left", (cli_seconds() - t->start) / (done - t->done) * (1 - done));
    fputs("\033[K", stderr);
}

static void on_tuned(void *user, const eyrie_tuned *tuned)
{
    tuning *t = user;

    cli_progress_wipe(&t->line);
    if (t->products) cli_append(t->products, object_of(tuned));
    else if (!tuned->known) print_line(tuned);
}

static void print_json(const char *device, const char *model, const eyrie_tune_summary *s, json_t *products)
{
    json_t *object = json_object();

    cli_set(object, "device", cli_text(device, strlen(device)));
    cli_set(object, "model", cli_text(model, strlen(model)));
    cli_set(object, "known", json_integer(s->known));
    cli_set(object, "changed", json_integer(s->changed));
    cli_set(object, "wrong", json_integer(s->wrong));
    cli_set(object, "products", products);
    cli_print_json(object);
}

static void print_summary(const eyrie_tune_summary *s)
{
    const char *plural = s->products == 1 ? "" : "s";

    if (s->products == 0) cli_print("none of the model's products has a tile to choose\n");
    else if (s->known == s->products)
        cli_print("all %" PRIu32 " product%s of this model are measured already; --again measures them anew\n", s->products, plural);
    else if (s->known)
        cli_print("%" PRIu32 " product%s, %" PRIu32 " of them measured before; %" PRIu32 " with another tile than built in\n",
                  s->products, plural, s->known, s->changed);
    else cli_print("%" PRIu32 " product%s; %" PRIu32 " with another tile than built in\n", s->products, plural, s->changed);
}

int cli_tune(const cli_options *o)
{
    eyrie_model_opts opts = cli_model_opts(o);
    tuning t = { .line = cli_progress_new() };
    eyrie_tune_opts tune = { .again = o->again, .on_tuned = on_tuned, .user = &t, .progress = show_tuning, .progress_user = &t };
    eyrie_device *device = NULL;
    eyrie_tune_summary sum;
    eyrie_error err;
    int status = cli_prepare(o);
    eyrie_status st;

    if (status != CLI_DONE) return status;
    if (cli_device_open_probed(&device, o, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (o->json) t.products = json_array();
    st = eyrie_tune(device, o->model, &opts, &tune, &sum, &err);
    cli_progress_wipe(&t.line);
    if (st != EYRIE_OK) {
        status = cli_fail("%s", err.text);
        json_decref(t.products);
    } else {
        if (o->json) print_json(eyrie_device_name(device), o->model, &sum, t.products);
        else print_summary(&sum);
        if (sum.wrong)
            status = cli_fail("%" PRIu32 " of %" PRIu32 " products came out with other bits in some tiles, which are not used: the "
                              "device's compiler is broken (eyrie selftest)", sum.wrong, sum.products);
    }
    (void)eyrie_device_close(device);
    return status;
}
