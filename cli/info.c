/* info.c - `eyrie info`: what a model is and what it takes, from its files alone; how long that would be, where there is a
 * device. */
#include "commands.h"
#include "device.h"

#include <eyrie/eyrie_tools.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* "5.62 MiB", "2.94 million": three digits of the largest unit that leaves some before the point. */
static char *amount(uint64_t n, bool bytes, char text[32])
{
    static const char *const units[2][5] = { { "", " thousand", " million", " billion", " trillion" },
                                             { " bytes", " KiB", " MiB", " GiB", " TiB" } };
    double value = (double)n, step = bytes ? 1024 : 1000;
    int unit = 0, decimals;

    while (value >= step && unit < 4) value /= step, unit++;
    decimals = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    snprintf(text, 32, "%.*f%s", decimals, value, units[bytes][unit]);
    return text;
}

static void print_amount(const char *name, uint64_t n, bool bytes, const char *what)
{
    char text[32];
    cli_print("%-11s %s%s\n", name, amount(n, bytes, text), what);
}

static const char *plural(uint32_t n) { return n == 1 ? "" : "s"; }

static void print_text(const eyrie_model_info *i)
{
    const char *tokenizer = i->has_tokenizer ? "yes" : "none";

    cli_print("%-11s %s, %" PRIu32 " layer%s: %" PRIu32 " recurrent, %" PRIu32 " attention\n", "family", i->family,
              i->layers, plural(i->layers), i->recurrent_layers, i->attention_layers);
    print_amount("parameters", i->parameters, false, "");
    print_amount("", i->embedding_parameters, false, " of them in the embedding");
    cli_print("%-11s %" PRIu32 ", MLP %" PRIu32 ", vocabulary %" PRIu32 "\n", "width", i->width, i->mlp_width,
              i->vocab);
    if (i->recurrent_layers)
        cli_print("%-11s width %" PRIu32 ", gates in %" PRIu32 " block%s\n", "recurrence", i->lru_width,
                  i->gate_blocks, plural(i->gate_blocks));
    if (i->attention_layers)
        cli_print("%-11s %" PRIu32 " head%s of %" PRIu32 ", %" PRIu32 " of keys and values\n", "attention", i->heads,
                  plural(i->heads), i->head_dim, i->kv_heads);
    if (i->attention_layers && i->window) cli_print("%-11s %" PRIu64 " tokens back\n", "window", i->window);
    if (i->context) cli_print("%-11s %" PRIu64 " tokens\n", "context", i->context);
    else cli_print("%-11s unbounded\n", "context");
    if (i->bos >= 0) cli_print("%-11s %s, <bos> is %" PRId32 "\n", "tokenizer", tokenizer, i->bos);
    else cli_print("%-11s %s, no <bos>\n", "tokenizer", tokenizer);
}

static void print_costs(const eyrie_model_info *i)
{
    char what[64];

    if (i->file_bytes) print_amount("file", i->file_bytes, true, "");
    else cli_print("%-11s none, random weights\n", "file");
    snprintf(what, sizeof what, " on the device, as %s", cli_format_name(i->weights));
    print_amount("weights", i->weight_bytes, true, what);
    snprintf(what, sizeof what, " a sequence%s%s", i->attention_layers ? ", keys and values as " : "",
             i->attention_layers ? cli_format_name(i->kv) : "");
    print_amount("state", i->state_bytes, true, what);
}

/* What a device would make of it is not known here, only what this model and these options leave open. */
static void print_prefill(const eyrie_model_info *i, const eyrie_model_opts *opts)
{
    cli_print("%-11s %s\n", "prefill", opts->products == EYRIE_PRODUCTS_CLBLAST ? "products by CLBlast, as --products has it"
              : opts->compute == EYRIE_COMPUTE_F32 ? "on no matrix unit, as --compute f32 has it"
              : i->weights == EYRIE_FORMAT_F32 || i->weights == EYRIE_FORMAT_F16
              ? "on no matrix unit: a CPU's takes weights in bf16, q8 or q4"
              : "on the CPU's matrix unit where there is one (see eyrie devices)");
}

/* "447 ms", "2.1 us" */
static char *duration(double seconds, char text[32])
{
    static const char *const units[] = { "s", "ms", "us", "ns" };
    int unit = 0;

    while (seconds < 1 && unit < 3) seconds *= 1000, unit++;
    snprintf(text, 32, "%.3g %s", seconds, units[unit]);
    return text;
}

static void print_ridge(const char *name, double ridge, const char *what)
{
    if (isfinite(ridge)) cli_print("%-11s computing takes longer than reading from %.0f %s on\n", name, ceil(ridge), what);
    else cli_print("%-11s computing never takes longer than reading\n", name);
}

static void print_steps(const eyrie_model_costs *c, const char *device)
{
    char a[32], b[32], t[32];

    for (size_t k = 0; k < EYRIE_STEP_COSTS; k++) {
        const eyrie_step_cost *s = &c->decode[k];
        cli_print("%-11s %2" PRIu32 " sequence%s %s moved, %s operations%s%s\n", k ? "" : "decode step", s->sequences,
                  s->sequences == 1 ? ": " : "s:", amount(s->bytes, true, a), amount(s->flops, false, b),
                  s->seconds > 0 ? ", " : "", s->seconds > 0 ? duration(s->seconds, t) : "");
    }
    if (device) {
        print_ridge("ridge", c->decode_ridge, "sequences");
        print_ridge("", c->prefill_ridge, "tokens of a prompt");
        if (c->source == EYRIE_COSTS_LEARNT)
            cli_print("%-11s as steps of this model took on %s\n", "times", device);
        else
            cli_print("%-11s at best, on %s:\n%-11s %.3g GB/s, %.3g GFLOP/s, measured %s\n", "times", device, "",
                      1e-9 * c->rates.read_bytes, 1e-9 * c->rates.fma_flops, c->source == EYRIE_COSTS_REMEMBERED ? "earlier" : "now");
    }
    if (c->sequences == UINT64_MAX) cli_print("%-11s any number of sequences\n", "memory");
    else if (c->memory) cli_print("%-11s %" PRIu64 " sequence%s in %s, scratch memory apart\n", "memory", c->sequences,
                                  c->sequences == 1 ? "" : "s", amount(c->memory, true, a));
}

static json_t *known(double value) { return value > 0 && isfinite(value) ? cli_number(value) : json_null(); }

/* Null is what is not known, and a ridge that is never reached. */
static void set_steps(json_t *object, const eyrie_model_costs *c, const char *device)
{
    static const char *const sources[] = { "nothing", "limits measured now", "limits measured earlier", "steps that ran" };
    json_t *steps = json_array();

    for (size_t k = 0; k < EYRIE_STEP_COSTS; k++) {
        json_t *step = json_object();
        cli_set(step, "sequences", json_integer(c->decode[k].sequences));
        cli_set(step, "bytes", json_integer((json_int_t)c->decode[k].bytes));
        cli_set(step, "flops", json_integer((json_int_t)c->decode[k].flops));
        cli_set(step, "seconds", known(c->decode[k].seconds));
        cli_append(steps, step);
    }
    cli_set(object, "decode_steps", steps);
    cli_set(object, "decode_ridge", known(c->decode_ridge));
    cli_set(object, "prefill_ridge", known(c->prefill_ridge));
    cli_set(object, "memory_bytes", c->memory ? json_integer((json_int_t)c->memory) : json_null());
    cli_set(object, "sequences", c->memory ? json_integer((json_int_t)c->sequences) : json_null());
    cli_set(object, "seconds_from", json_string(sources[c->source]));
    cli_set(object, "device", device ? json_string(device) : json_null());
    cli_set(object, "read_bytes_per_second", known(c->rates.read_bytes));
    cli_set(object, "fma_flops_per_second", known(c->rates.fma_flops));
    cli_set(object, "launch_seconds", known(c->rates.launch_seconds));
}

/* The fields of eyrie_model_info that the files decide, under their names; null where there is none. */
static void print_json(const eyrie_model_info *i, const eyrie_model_costs *c, const char *model, const char *device)
{
    const struct { const char *key; uint64_t value; bool null; } counts[] = {
        { "parameters", i->parameters, false },
        { "embedding_parameters", i->embedding_parameters, false },
        { "vocab", i->vocab, false },
        { "width", i->width, false },
        { "layers", i->layers, false },
        { "recurrent_layers", i->recurrent_layers, false },
        { "attention_layers", i->attention_layers, false },
        { "heads", i->heads, false },
        { "kv_heads", i->kv_heads, false },
        { "head_dim", i->head_dim, false },
        { "lru_width", i->lru_width, false },
        { "gate_blocks", i->gate_blocks, false },
        { "mlp_width", i->mlp_width, false },
        { "window", i->window, i->window == 0 },
        { "context", i->context, i->context == 0 },
        { "file_bytes", i->file_bytes, false },
        { "weight_bytes", i->weight_bytes, false },
        { "state_bytes", i->state_bytes, false },
        { "decode_bytes", i->decode_bytes, false },
        { "decode_flops", i->decode_flops, false },
        { "bos", (uint64_t)i->bos, i->bos < 0 },
    };
    json_t *object = json_object();

    cli_set(object, "model", cli_text(model, strlen(model)));
    cli_set(object, "family", cli_text(i->family, strlen(i->family)));
    cli_set(object, "weights", json_string(cli_format_name(i->weights)));
    cli_set(object, "kv", json_string(cli_format_name(i->kv)));
    cli_set(object, "has_tokenizer", json_boolean(i->has_tokenizer));
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        cli_set(object, counts[k].key, counts[k].null ? json_null() : json_integer((json_int_t)counts[k].value));
    set_steps(object, c, device);
    cli_print_json(object);
}

/* Times are extra: without a device, or with one that cannot be measured, there is all the rest, unless one was asked for. */
static eyrie_status predict(const cli_options *o, const eyrie_model_opts *opts, eyrie_device **device, eyrie_model_costs *costs,
                            eyrie_error *err)
{
    eyrie_status st = cli_device_open(device, o, err);

    if (st == EYRIE_OK) st = eyrie_model_predict(o->model, opts, *device, o->memory, costs, err);
    if (st == EYRIE_OK || o->device) return st;
    if (st != EYRIE_ENODEV) fprintf(stderr, "eyrie: note: no times: %s\n", err->text);
    (void)eyrie_device_close(*device);
    *device = NULL;
    return eyrie_model_predict(o->model, opts, NULL, o->memory, costs, err);
}

int cli_info(const cli_options *o)
{
    eyrie_model_opts opts = cli_model_opts(o);
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_device *device = NULL;
    eyrie_model_costs costs;
    eyrie_error err;
    int status = cli_prepare(o);

    if (status != CLI_DONE) return status;
    if (eyrie_model_inspect(o->model, &opts, &info, &err) != EYRIE_OK || predict(o, &opts, &device, &costs, &err) != EYRIE_OK) {
        status = cli_fail("%s", err.text);
    } else if (o->json) {
        print_json(&info, &costs, o->model, device ? eyrie_device_name(device) : NULL);
    } else {
        print_text(&info);
        print_costs(&info);
        print_prefill(&info, &opts);
        print_steps(&costs, device ? eyrie_device_name(device) : NULL);
    }
    (void)eyrie_device_close(device);
    return status;
}
