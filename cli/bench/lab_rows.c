/* lab_rows.c - what a lab found, in the record. */
#include "lab_parts.h"
#include "statistics.h"

#include <math.h>
#include <string.h>

static void set_setting(const cli_lab *l, json_t *object)
{
    cli_bench_set_setting(object, l->e->model, l->e->compute, &l->info, &l->e->opts);
}

static void set_cell(json_t *object, const cli_cell *c)
{
    cli_set(object, "tokens", json_integer((json_int_t)c->tokens));
    cli_set(object, "depth", json_integer((json_int_t)c->depth));
    cli_set(object, "batch", json_integer((json_int_t)c->batch));
}

/* An array of the record's, made where it is not there. */
static json_t *array_in(json_t *record, const char *key)
{
    if (!json_object_get(record, key)) cli_set(record, key, json_array());
    return json_object_get(record, key);
}

static json_t *list_of(const cli_rates *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n; i++) cli_append(list, cli_number(r->values[i]));
    return list;
}

static double median_of(const cli_rates *r) { return cli_summarise(r->values, r->n).median; }

void cli_lab_add_row(const cli_lab *l, const cli_trial *t)
{
    const cli_cell *c = &t->cell;
    json_t *row = cli_record_add_row(l->b->rows, c->decode ? "decode" : "prefill");
    double seconds = median_of(&t->seconds);

    set_setting(l, row);
    set_cell(row, c);
    cli_record_set_rates(row, "tokens/s", t->rates.values, t->rates.n);
    cli_set(row, "seconds", list_of(&t->seconds));
    cli_set(row, "bytes", cli_number(t->bytes));
    cli_set(row, "flops", cli_number(t->flops));
    cli_set(row, "bytes_per_second", cli_number(t->bytes / seconds));
    cli_set(row, "flops_per_second", cli_number(t->flops / seconds));
    cli_set(row, "limit", json_string(t->memory_bound ? "read" : t->may_use_unit ? "matrix unit" : "f32"));
    cli_set(row, "share", cli_number(median_of(&t->shares)));
    cli_set(row, "shares", list_of(&t->shares));
    cli_set(row, "read_limits", list_of(&t->read));
    cli_set(row, "flop_limits", list_of(&t->flop_limit));
    cli_set(row, "predicted", cli_number(median_of(&t->predicted)));
    cli_set(row, "joules_per_token", cli_number(t->joules / (double)(t->rates.n * c->tokens * c->batch)));
}

void cli_lab_describe(const cli_lab *l)
{
    const eyrie_model_info *i = &l->info;
    json_t *object = json_object();
    const struct { const char *key; uint64_t value; } counts[] = {
        { "parameters", i->parameters }, { "slots", i->slots }, { "context", i->context }, { "window", i->window },
        { "weight_bytes", i->weight_bytes }, { "state_bytes", i->state_bytes }, { "scratch_bytes", i->scratch_bytes },
        { "decode_bytes", i->decode_bytes }, { "decode_flops", i->decode_flops },
    };

    set_setting(l, object);
    cli_set(object, "family", json_string(i->family));
    cli_set(object, "matrix_unit", json_boolean(i->matrix_unit));
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        cli_set(object, counts[k].key, json_integer((json_int_t)counts[k].value));
    cli_append(array_in(l->b->record, "models"), object);
}

/* Plans count attention as if all windows were full; they may be so but for a fiftieth. */
static bool is_counted(const cli_lab *l, const cli_cell *c, const char *kernel)
{
    uint64_t bound = l->info.context ? l->info.context - c->tokens - 2 : UINT64_MAX;

    if (strstr(kernel, "attention") == NULL) return true;
    if (l->info.window && l->info.window < bound) bound = l->info.window;
    return c->depth + c->depth / 50 >= bound;
}

/* Kernels of the matrix unit are measured by what it allows: the rate of the others' arithmetic is another. Each is timed once,
 * so its limits are the medians of all that were measured, which tables and roofline show. */
void cli_lab_add_kernels(const cli_lab *l, const cli_trial *t, const eyrie_kernel_time *kernels, size_t n)
{
    double read = median_of(&l->b->read), f32 = median_of(&l->b->f32), unit = median_of(&l->b->unit);
    json_t *list = array_in(l->b->record, "kernels");

    for (size_t i = 0; i < n; i++) {
        const eyrie_kernel_time *k = &kernels[i];
        bool on_unit = strstr(k->name, "amx") != NULL && isfinite(unit);
        bool counted = is_counted(l, &t->cell, k->name);
        double bytes = counted ? (double)k->bytes : NAN, flops = counted ? (double)k->flops : NAN;
        double reading = bytes / read, computing = flops / (on_unit ? unit : f32);
        json_t *object = json_object();

        set_setting(l, object);
        cli_set(object, "test", json_string(t->cell.decode ? "decode" : "prefill"));
        set_cell(object, &t->cell);
        cli_set(object, "kernel", json_string(k->name));
        cli_set(object, "launches", json_integer((json_int_t)k->launches));
        cli_set(object, "seconds", cli_number(k->seconds));
        cli_set(object, "bytes", cli_number(bytes));
        cli_set(object, "flops", cli_number(flops));
        cli_set(object, "bytes_per_second", cli_number(bytes / k->seconds));
        cli_set(object, "flops_per_second", cli_number(flops / k->seconds));
        cli_set(object, "read_limit", cli_number(read));
        cli_set(object, "limit",
                json_string(!counted              ? ""
                            : reading > computing ? "read"
                            : on_unit             ? "matrix unit"
                                                  : "f32"));
        cli_set(object, "share", cli_number((reading > computing ? reading : computing) / k->seconds));
        cli_append(list, object);
    }
}

