/* config.c - config.json to a checked struct (config.h). It knows how the keys are spelled, which may be left out, and
 * which values make sense; whether the tensors agree is for the model to say. */
#include "config.h"

#include "json.h"
#include "os.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Far above any model, and low enough that products of three sizes fit 64 bits. */
#define MAX_VOCAB (1u << 24)
#define MAX_WIDTH (1u << 20)
#define MAX_TAPS 64u
#define MAX_WINDOW (1u << 30)

/* A JSON object whose keys are read, and how messages call it: "config.json", and "rope_parameters." before nested
 * keys. */
typedef struct source {
    const json_t *object;
    const char   *name;
    const char   *prefix;
    eyrie_error  *err;
} source;

/* `config.json: "hidden_size" is -5; it must be` and what `format` makes. */
EY_PRINTF(3, 4) static eyrie_status wrong(const source *s, const char *key, const char *format, ...)
{
    char    must_be[200], found[EY_JSON_TEXT];
    va_list args;

    va_start(args, format);
    vsnprintf(must_be, sizeof must_be, format, args);
    va_end(args);
    return ey_fail(s->err, EYRIE_EFORMAT, "%s: \"%s%s\" is %s; it must be %s", s->name, s->prefix, key,
                   ey_json_text(json_object_get(s->object, key), found), must_be);
}

/* The key's value; NULL if it is absent or null. */
static const json_t *get(const source *s, const char *key)
{
    const json_t *value = json_object_get(s->object, key);

    return json_is_null(value) ? NULL : value;
}

static bool is_null(const source *s, const char *key)
{
    return json_is_null(json_object_get(s->object, key));
}

/* An integer, or a real that is one (2560.0). */
static bool as_integer(const json_t *value, uint64_t low, uint64_t high, uint64_t *out)
{
    double   real = json_real_value(value);
    uint64_t n;

    if (json_is_integer(value) && json_integer_value(value) >= 0) n = (uint64_t)json_integer_value(value);
    else if (json_is_real(value) && real >= 0 && real <= 0x1p53 && real == floor(real)) n = (uint64_t)real;
    else return false;
    if (n < low || n > high) return false;
    *out = n;
    return true;
}

/* A size. Absent or null: `otherwise`, where 0 means that it is required. */
static eyrie_status read_size(const source *s, const char *key, uint32_t otherwise, uint32_t low, uint32_t high,
                              uint32_t *out)
{
    const json_t *value = get(s, key);
    uint64_t      n = otherwise;

    if ((value || otherwise == 0) && !as_integer(value, low, high, &n)) {
        return wrong(s, key, "an integer from %u to %u", low, high);
    }
    *out = (uint32_t)n;
    return EYRIE_OK;
}

/* A number; *out stays as it is if the key is absent or null. */
static eyrie_status read_number(const source *s, const char *key, double low, double high, double *out)
{
    const json_t *value = get(s, key);
    double        number = json_number_value(value);

    if (!value) return EYRIE_OK;
    if (!json_is_number(value) || !(number >= low && number <= high)) {
        return wrong(s, key, "a number from %g to %g", low, high);
    }
    *out = number;
    return EYRIE_OK;
}

static eyrie_status read_flag(const source *s, const char *key, bool otherwise, bool *out)
{
    const json_t *value = get(s, key);

    *out = value ? json_is_true(value) : otherwise;
    return !value || json_is_boolean(value) ? EYRIE_OK : wrong(s, key, "true or false");
}

/* A string of which one value only is supported, and which is taken for granted if the key is absent or null. */
static eyrie_status read_constant(const source *s, const char *key, const char *supported)
{
    const json_t *value = get(s, key);

    if (!value || (json_is_string(value) && strcmp(json_string_value(value), supported) == 0)) return EYRIE_OK;
    return wrong(s, key, "\"%s\", the only one supported", supported);
}

static eyrie_status read_block_types(const source *s, ey_config *c)
{
    static const ey_kind usual[] = { EY_RECURRENT, EY_RECURRENT, EY_ATTENTION };
    const json_t *list = get(s, "block_types"), *other = get(s, "_block_types");
    const char   *key = list ? "block_types" : "_block_types";
    char          found[EY_JSON_TEXT];

    if (list && other && !json_equal(list, other)) {
        return wrong(s, key, "the same as \"_block_types\", which is %s", ey_json_text(other, found));
    }
    if (!list) list = other;
    for (uint32_t i = 0; !list && i < c->layers; i++) c->kinds[i] = usual[i % 3];
    if (!list) return EYRIE_OK;
    if (json_array_size(list) == 0 || json_array_size(list) > EY_MAX_LAYERS) {
        return wrong(s, key, "a list of 1 to %d of \"recurrent\" and \"attention\"", EY_MAX_LAYERS);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char   *text = json_is_string(item) ? json_string_value(item) : "";
        bool          attention = strcmp(text, "attention") == 0;

        if (!attention && strcmp(text, "recurrent") != 0) {
            return ey_fail(s->err, EYRIE_EFORMAT, "%s: \"%s\"[%zu] is %s; it must be \"recurrent\" or \"attention\"",
                           s->name, key, i, ey_json_text(item, found));
        }
        for (size_t layer = i; layer < c->layers; layer += json_array_size(list)) {
            c->kinds[layer] = attention ? EY_ATTENTION : EY_RECURRENT;
        }
    }
    return EYRIE_OK;
}

/* A number of the rotary embedding, which stands at the top or, in newer files, in "rope_parameters". */
static eyrie_status read_rope_number(const source *top, const source *nested, const char *key, double low, double high,
                                     double *out)
{
    double       inner;
    eyrie_status st;

    EY_TRY(read_number(top, key, low, high, out));
    inner = *out;
    EY_TRY(read_number(nested, key, low, high, &inner));
    if (get(top, key) && inner != *out) return wrong(nested, key, "%g, the same as \"%s\"", *out, key);
    *out = inner;
done:
    return st;
}

static eyrie_status read_rope(const source *s, ey_config *c)
{
    source       nested = { get(s, "rope_parameters"), s->name, "rope_parameters.", s->err };
    double       theta = 10000, factor = 0.5;
    eyrie_status st;

    if (nested.object && !json_is_object(nested.object)) return wrong(s, "rope_parameters", "an object");
    if (get(s, "rope_scaling")) return wrong(s, "rope_scaling", "null: scaled rotary embeddings are not supported");
    EY_TRY(read_constant(&nested, "rope_type", "default"));
    EY_TRY(read_rope_number(s, &nested, "rope_theta", 1.01, 1e12, &theta));
    EY_TRY(read_rope_number(s, &nested, "partial_rotary_factor", 0, 1, &factor));
    c->rope_theta = theta;
    if (ey_config_count(c, EY_ATTENTION) == 0) return EYRIE_OK;   /* nothing rotates */
    c->rotary = (uint32_t)(c->head_dim * factor);
    if (c->rotary % 2 != 0) {
        st = ey_fail(s->err, EYRIE_EFORMAT, "%s: \"partial_rotary_factor\" %g of a head of %u rotates %u dimensions; "
                     "it must be an even number", s->name, factor, c->head_dim, c->rotary);
    }
done:
    return st;
}

static eyrie_status read_bos(const source *s, ey_config *c)
{
    uint64_t id;

    c->bos = -1;
    if (!get(s, "bos_token_id")) return EYRIE_OK;
    if (!as_integer(get(s, "bos_token_id"), 0, c->vocab - 1, &id)) {
        return wrong(s, "bos_token_id", "null or an integer from 0 to %u", c->vocab - 1);
    }
    c->bos = (int32_t)id;
    return EYRIE_OK;
}

/* Adds the end-of-text ids of a file to those known: null, an id, or a list of ids. */
static eyrie_status add_eos(const source *s, ey_config *c)
{
    const json_t *value = get(s, "eos_token_id");
    size_t        n = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        uint32_t at = 0;

        if (!as_integer(json_is_array(value) ? json_array_get(value, i) : value, 0, c->vocab - 1, &id)) {
            return wrong(s, "eos_token_id", "null, an integer from 0 to %u or a list of such", c->vocab - 1);
        }
        while (at < c->n_eos && c->eos[at] != (int32_t)id) at++;
        if (at < c->n_eos) continue;
        if (at == EY_MAX_EOS) return wrong(s, "eos_token_id", "at most %d different ids in all", EY_MAX_EOS);
        c->eos[c->n_eos++] = (int32_t)id;
    }
    return EYRIE_OK;
}

static eyrie_status check_multiple(const source *s, const char *key, uint32_t n, const char *of_key, uint32_t of)
{
    if (n % of == 0) return EYRIE_OK;
    return ey_fail(s->err, EYRIE_EFORMAT, "%s: \"%s\" is %u and \"%s\" is %u; the first must be a multiple of the "
                   "second", s->name, key, n, of_key, of);
}

/* sqrt(width) as the models were trained with it: rounded to bfloat16, to nearest even. */
static float embed_scale(uint32_t width)
{
    float    scale = sqrtf((float)width);
    uint32_t bits;

    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static eyrie_status read_config(ey_config *c, const source *s)
{
    double       cap = 30, eps = 1e-6;
    uint32_t     width_twice, head_dim, window;
    bool         scaled;
    eyrie_status st;

    memset(c, 0, sizeof *c);
    if (!get(s, "model_type")) return wrong(s, "model_type", "\"recurrent_gemma\"");
    EY_TRY(read_constant(s, "model_type", "recurrent_gemma"));
    EY_TRY(read_constant(s, "hidden_activation", "gelu_pytorch_tanh"));

    EY_TRY(read_size(s, "vocab_size", 0, 1, MAX_VOCAB, &c->vocab));
    EY_TRY(read_size(s, "hidden_size", 0, 1, MAX_WIDTH, &c->width));
    EY_TRY(read_size(s, "num_hidden_layers", 0, 1, EY_MAX_LAYERS, &c->layers));
    EY_TRY(read_size(s, "num_attention_heads", 0, 1, MAX_WIDTH, &c->heads));
    EY_TRY(read_size(s, "num_key_value_heads", c->heads, 1, MAX_WIDTH, &c->kv_heads));
    EY_TRY(read_size(s, "lru_width", c->width, 1, MAX_WIDTH, &c->lru_width));
    EY_TRY(read_size(s, "rg_lru_blocks", c->heads, 1, MAX_WIDTH, &c->gate_blocks));
    EY_TRY(read_size(s, "conv1d_width", 4, 1, MAX_TAPS, &c->conv_taps));
    EY_TRY(check_multiple(s, "hidden_size", c->width, "num_attention_heads", c->heads));
    EY_TRY(check_multiple(s, "num_attention_heads", c->heads, "num_key_value_heads", c->kv_heads));

    c->head_dim = c->width / c->heads;
    EY_TRY(read_size(s, "head_dim", c->head_dim, 1, MAX_WIDTH, &head_dim));
    if (head_dim != c->head_dim) {
        return wrong(s, "head_dim", "%u, \"hidden_size\" %u / \"num_attention_heads\" %u", c->head_dim, c->width,
                     c->heads);
    }
    EY_TRY(read_size(s, "intermediate_size", 0, 2, 2 * MAX_WIDTH, &width_twice));
    if (width_twice % 2 != 0) return wrong(s, "intermediate_size", "even, twice the width of the MLP");
    c->mlp_width = width_twice / 2;

    EY_TRY(read_size(s, "attention_window_size", 2048, 0, MAX_WINDOW, &window));
    c->window = is_null(s, "attention_window_size") ? 0 : window;
    EY_TRY(read_number(s, "logits_soft_cap", 0, 1e30, &cap));
    c->cap = is_null(s, "logits_soft_cap") ? 0 : (float)cap;
    EY_TRY(read_number(s, "rms_norm_eps", 1e-30, 1, &eps));
    c->eps = (float)eps;

    EY_TRY(read_block_types(s, c));
    EY_TRY(read_rope(s, c));
    EY_TRY(read_flag(s, "embeddings_scale_by_sqrt_dim", true, &scaled));
    c->embed_scale = scaled ? embed_scale(c->width) : 1;
    EY_TRY(read_flag(s, "attention_bias", false, &c->attention_bias));
    EY_TRY(read_flag(s, "tie_word_embeddings", true, &c->tied));
    EY_TRY(read_bos(s, c));
    EY_TRY(add_eos(s, c));
done:
    return st;
}

eyrie_status ey_config_parse(ey_config *c, const char *text, size_t length, const char *name, eyrie_error *err)
{
    json_t      *root;
    eyrie_status st = ey_json_parse(&root, text, length, name, err);

    if (st == EYRIE_OK) st = read_config(c, &(source){ root, name, "", err });
    json_decref(root);
    return st;
}

eyrie_status ey_config_read(ey_config *c, const char *directory, eyrie_error *err)
{
    char        *path = ey_path(directory, "config.json"), *generation = ey_path(directory, "generation_config.json");
    json_t      *root = NULL, *more = NULL;
    eyrie_status st;

    if (!path || !generation) {
        st = ey_fail(err, EYRIE_ENOMEM, "no memory to read %s/config.json", directory);
        goto done;
    }
    EY_TRY(ey_json_read(&root, path, err));
    EY_TRY(read_config(c, &(source){ root, path, "", err }));
    if (ey_file_exists(generation)) {
        EY_TRY(ey_json_read(&more, generation, err));
        EY_TRY(add_eos(&(source){ more, generation, "", err }, c));
    }
done:
    json_decref(root);
    json_decref(more);
    ey_free(path);
    ey_free(generation);
    return st;
}

uint32_t ey_config_count(const ey_config *c, ey_kind kind)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->layers; i++) n += c->kinds[i] == kind;
    return n;
}
