/* info.c - `eyrie info`: what a model is and what it takes, from its files alone. */
#include "commands.h"

#include <inttypes.h>
#include <string.h>

/* "5.62 MiB", "2.94 million": three digits of the largest unit that leaves some before the point. */
static void print_amount(const char *name, uint64_t n, bool bytes, const char *what)
{
    static const char *const units[2][5] = { { "", " thousand", " million", " billion", " trillion" },
                                             { " bytes", " KiB", " MiB", " GiB", " TiB" } };
    double value = (double)n, step = bytes ? 1024 : 1000;
    int unit = 0, decimals;

    while (value >= step && unit < 4) value /= step, unit++;
    decimals = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    cli_print("%-11s %.*f%s%s\n", name, decimals, value, units[bytes][unit], what);
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
    print_amount("decode", i->decode_bytes, true, " read from memory for each token");
    print_amount("", i->decode_flops, false, " operations for each token");
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

/* The fields of eyrie_model_info that the files decide, under their names; null where there is none. */
static void print_json(const eyrie_model_info *i, const char *model)
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
    cli_print_json(object);
}

int cli_info(const cli_options *o)
{
    eyrie_model_opts opts = cli_model_opts(o);
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_error err;

    if (eyrie_model_inspect(o->model, &opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (o->json) {
        print_json(&info, o->model);
    } else {
        print_text(&info);
        print_costs(&info);
        print_prefill(&info, &opts);
    }
    return CLI_DONE;
}
