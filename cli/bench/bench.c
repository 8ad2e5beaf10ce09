/* bench.c - `eyrie bench`: the command, and where the result goes. */
#include "bench.h"
#include "commands.h"
#include "device.h"
#include "figure.h"
#include "probing.h"
#include "tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define QUICK_SECONDS 40.0
#define QUICK_MODEL "synthetic:griffin-100m"    /* of a report, where no other is said */

enum { MOST_DEVICES = 64, MOST_VARIANTS = 32 };

/* ------------------------------------------------------------------------------------------------------ describing */

static void describe_device(cli_benchmark *b)
{
    static eyrie_device_info list[MOST_DEVICES];
    static eyrie_variant variants[MOST_VARIANTS];
    uint32_t number = eyrie_device_number(b->device);
    json_t *device = json_object(), *chosen = json_array();
    size_t n = 0, n_variants = eyrie_device_variants(b->device, variants, MOST_VARIANTS);

    if (eyrie_device_list(list, MOST_DEVICES, &n, NULL) == EYRIE_OK && number < n && number < MOST_DEVICES) {
        const eyrie_device_info *i = &list[number];
        cli_set(device, "name", cli_text(i->name, strlen(i->name)));
        cli_set(device, "driver", cli_text(i->driver, strlen(i->driver)));
        cli_set(device, "opencl", cli_text(i->version, strlen(i->version)));
        cli_set(device, "type", json_string(i->type));
        cli_set(device, "units", json_integer(i->units));
        cli_set(device, "vector", json_integer(i->vector));
        cli_set(device, "memory_bytes", json_integer((json_int_t)i->memory));
        cli_set(device, "max_alloc_bytes", json_integer((json_int_t)i->max_alloc));
        cli_set(device, "host_memory", json_boolean(i->host_memory));
    }
    for (size_t i = 0; i < n_variants && i < MOST_VARIANTS; i++) {
        json_t *variant;
        if (!variants[i].chosen) continue;
        variant = json_object();
        cli_set(variant, "op", json_string(variants[i].op));
        cli_set(variant, "name", json_string(variants[i].name));
        cli_append(chosen, variant);
    }
    cli_set(b->record, "device", device);
    cli_set(b->record, "variants", chosen);
}

/* Medians over the whole run. */
static void describe_limits(cli_benchmark *b)
{
    const struct { const char *key; const cli_rates *rates; } limits[] = {
        { "read_bytes_per_second", &b->read }, { "f32_flops_per_second", &b->f32 }, { "unit_flops_per_second", &b->unit } };
    json_t *object = json_object(), *row = json_object();
    double found[3];

    for (size_t i = 0; i < 3; i++) {
        cli_record_set_rates(row, "", limits[i].rates->values, limits[i].rates->n);
        found[i] = cli_get_number(row, "median");
        cli_set(object, limits[i].key, cli_number(found[i]));
    }
    json_decref(row);
    cli_set(object, "f32_ridge", cli_number(found[1] / found[0]));
    cli_set(object, "unit_ridge", cli_number(found[2] / found[0]));
    cli_set(b->record, "limits", object);
}

static void describe_energy(cli_benchmark *b)
{
    char text[320];

    cli_energy_open(&b->energy, "/sys/class/powercap");
    if (b->energy.n) snprintf(text, sizeof text, "RAPL counters of %zu package%s, of all that runs on the machine", b->energy.n, b->energy.n == 1 ? "" : "s");
    else snprintf(text, sizeof text, "not available (%s)", b->energy.reason);
    cli_set(b->record, "energy", json_string(text));
}

/* ---------------------------------------------------------------------------------------------------------- files */

/* The result's places. They are opened before anything is measured. */
typedef struct places {
    cli_file file, page;
    bool     has_file, has_page;
} places;

static void write_file(void *user, const char *bytes, size_t n) { (void)cli_file_write(user, bytes, n); }

static int open_places(places *p, const cli_options *o)
{
    *p = (places){ .has_file = o->output != NULL, .has_page = o->html != NULL };
    if (o->figures && cli_make_directory(o->figures) != CLI_DONE) return CLI_FAILED;
    if (p->has_file && cli_file_open(&p->file, o->output) != CLI_DONE) {
        (void)cli_file_close(&p->file, false);
        return CLI_FAILED;
    }
    if (p->has_page && cli_file_open(&p->page, o->html) != CLI_DONE) {
        (void)cli_file_close(&p->page, false);
        if (p->has_file) (void)cli_file_close(&p->file, false);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static void print_record(const json_t *record, const char *form, const cli_out *out)
{
    if (strcmp(form, "md") == 0) cli_tables_print(record, out);
    else cli_record_print(record, form, out);
}

/* With keep, the record goes to all places. */
static int close_places(places *p, const cli_options *o, const json_t *record, bool keep)
{
    int status = CLI_DONE;

    if (keep) {
        if (p->has_file) print_record(record, o->form ? o->form : "json", &(cli_out){ write_file, &p->file });
        if (p->has_page) cli_page_print(record, &(cli_out){ write_file, &p->page });
        if (o->figures) status = cli_figures_write(record, o->figures);
        print_record(record, p->has_file || !o->form ? "md" : o->form, &cli_standard_output);
    }
    if (p->has_file && cli_file_close(&p->file, keep) != CLI_DONE) status = CLI_FAILED;
    if (p->has_page && cli_file_close(&p->page, keep) != CLI_DONE) status = CLI_FAILED;
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- report */

static void add_verdicts(cli_benchmark *b, const eyrie_verdict *verdicts)
{
    json_t *probes = json_object();
    const eyrie_probe *p;

    for (size_t i = 0; i < CLI_PROBES && (p = eyrie_probe_at(i)) != NULL; i++) {
        json_t *probe = json_object();
        cli_set(probe, "answer", json_string(eyrie_answer_text(verdicts[i].answer)));
        cli_set(probe, "reason", cli_text(verdicts[i].reason, strlen(verdicts[i].reason)));
        cli_set(probes, p->name, probe);
    }
    cli_set(b->record, "probes", probes);
}

typedef struct checking {
    cli_benchmark *b;
    json_t    *failed;
    uint32_t   n;
} checking;

static void on_check(void *user, const eyrie_check *check)
{
    checking *c = user;
    char text[1400];

    c->n++;
    cli_bench_show(c->b, NAN, "checking kernels: %s, %s", check->op, check->variant);
    if (check->passed) return;
    snprintf(text, sizeof text, "%s, %s: %s", check->op, check->variant, check->failure ? check->failure->text : "wrong");
    cli_append(c->failed, cli_text(text, strlen(text)));
}

static int check_kernels(cli_benchmark *b)
{
    checking c = { b, json_array(), 0 };
    json_t *object = json_object();
    uint32_t failures = 0;
    eyrie_error err = { EYRIE_OK, 0, "" };
    eyrie_status st = eyrie_selftest(b->device, NULL, on_check, &c, &failures, &err);

    cli_bench_wipe(b);
    cli_set(object, "checks", json_integer(c.n));
    cli_set(object, "failures", json_integer(failures));
    cli_set(object, "failed", c.failed);
    cli_set(object, "error", st == EYRIE_OK ? json_null() : json_string(err.text));
    cli_set(b->record, "selftest", object);
    return st == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

/* ---------------------------------------------------------------------------------------------------------- command */

enum { DEVICE = 1, REPORT = 2, MODEL_ONLY = 4, PAPER = 8, SERVE = 16 };

static int measure(cli_benchmark *b, unsigned what)
{
    const cli_options *o = b->o;
    int status = CLI_DONE;

    if (what & REPORT) (void)check_kernels(b);      /* what fails is in the record: that is what it is for */
    b->line = cli_progress_new();
    b->deadline = o->quick ? cli_seconds() + QUICK_SECONDS : INFINITY;
    if (what & DEVICE) status = cli_bench_survey(b);
    if (what & SERVE) status = cli_bench_serve(b);
    if (status == CLI_DONE && (what & (REPORT | MODEL_ONLY)) && !cli_bench_interrupted(b))
        status = cli_bench_phases(b, o->model ? o->model : QUICK_MODEL);
    if (what & PAPER) status = cli_bench_paper(b);
    cli_bench_wipe(b);
    return status;
}

static int run(const cli_options *o, unsigned what)
{
    cli_options own = *o, whole = *o;
    cli_benchmark b = { .o = &own, .deadline = INFINITY };
    eyrie_verdict verdicts[CLI_PROBES] = { { EYRIE_NOT_PROBED, "" } };
    places p;
    eyrie_error err;
    const eyrie_probe *probe;
    int status = cli_prepare(o), closing;

    if (what & REPORT) own.quick = true;
    if (what & PAPER) {
        whole.memory = 0;                   /* what paper gives each model is not all that it needs */
        own.profile = !o->quick;            /* of its figures, the scan's is of a kernel */
    }
    if (status != CLI_DONE || (status = open_places(&p, o)) != CLI_DONE) return status;
    cli_catch_signals(false);
    b.record = cli_record_new();
    b.rows = json_object_get(b.record, "rows");
    if (what & DEVICE) cli_probe_all(o, verdicts);
    if (cli_device_open_probed(&b.device, &whole, &err) != EYRIE_OK) {
        status = cli_fail("%s", err.text);
    } else {
        for (size_t i = 0; i < CLI_PROBES && (probe = eyrie_probe_at(i)) != NULL; i++) eyrie_probe_remember(b.device, probe->name, &verdicts[i]);
        describe_device(&b);
        describe_energy(&b);
        if (what & REPORT) add_verdicts(&b, verdicts);
        status = measure(&b, what);
        cli_kernels_find(b.record);
        describe_limits(&b);
    }
    if (cli_bench_interrupted(&b)) {
        cli_set(b.record, "interrupted", json_true());
        status = 128 + b.signal;
    }
    closing = close_places(&p, &own, b.record, status == CLI_DONE || b.signal || json_array_size(b.rows) > 0);
    json_decref(b.record);
    free(b.read.values);
    free(b.f32.values);
    free(b.unit.values);
    (void)eyrie_device_close(b.device);
    return status == CLI_DONE ? closing : status;
}

/* A record, in another form. */
static int show(const cli_options *o)
{
    json_t *record;
    places p;
    int status = cli_record_read(&record, o->words.items[1]);

    if (status != CLI_DONE) return status;
    if ((status = open_places(&p, o)) == CLI_DONE) status = close_places(&p, o, record, true);
    json_decref(record);
    return status;
}

static bool is_nothing(const cli_counts *list) { return list->n == 1 && list->items[0] == 0; }

int cli_bench(const cli_options *o)
{
    static const struct { const char *name; size_t words; const char *wants; } kinds[] = {
        { "device", 1, "no more words" }, { "report", 1, "no more words" }, { "show", 2, "one file" }, { "compare", 3, "two files" },
        { "paper", 0, "any number of models" }, { "serve", 1, "no more words" } };
    const char *word = o->words.n ? o->words.items[0] : NULL;
    size_t i = 0;
    int status;

    if (!word && !o->model) return cli_wrong_usage(o->command, "nothing to measure: -m MODEL, or one of serve, device, report, show, compare and paper");
    if (is_nothing(&o->prompts) && is_nothing(&o->generated)) return cli_wrong_usage(o->command, "nothing to measure: -p 0 and -n 0");
    if ((!word || strcmp(word, "serve") != 0) && (status = cli_bench_no_serve_check(o)) != CLI_DONE) return status;
    if (o->size && (!word || strcmp(word, "paper") != 0)) return cli_wrong_usage(o->command, "--size is for eyrie bench paper");
    if (!word) return run(o, MODEL_ONLY);
    while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].name, word) != 0) i++;
    if (i == sizeof kinds / sizeof *kinds)
        return cli_wrong_usage(o->command, "unknown '%s': there are serve, device, report, show FILE, compare A B and paper [MODEL ...], "
                               "or -m MODEL alone", word);
    if (kinds[i].words && o->words.n != kinds[i].words) return cli_wrong_usage(o->command, "%s takes %s", word, kinds[i].wants);
    if (i == 3) {
        if (o->form && strcmp(o->form, "md") != 0 && strcmp(o->form, "json") != 0)
            return cli_wrong_usage(o->command, "compare prints md or json, not %s", o->form);
        return cli_bench_compare(o->words.items[1], o->words.items[2], o->threshold >= 0 ? (double)o->threshold : 3,
                                 o->form && strcmp(o->form, "json") == 0);
    }
    if (i == 4) return cli_bench_paper_check(o) == CLI_DONE ? run(o, PAPER) : CLI_WRONG_USAGE;
    if (i == 5 && (status = cli_bench_serve_check(o)) != CLI_DONE) return status;
    return i == 2 ? show(o) : run(o, i == 0 ? DEVICE : i == 5 ? SERVE : DEVICE | REPORT);
}
