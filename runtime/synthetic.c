/* synthetic.c - the table of shapes, and the numbers that weights are made of. */
#include "synthetic.h"

#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------------- shapes */

/* Of the Griffin paper: gates in 16 blocks at every size, no soft cap, no scaled embedding. RecurrentGemma: as many
 * blocks as heads. */
typedef struct family {
    const char *name, *block_types;
    uint32_t    window;         /* 0: global */
    bool        gemma;
} family;

typedef struct size {
    const char *name;
    bool        gemma;          /* a size of RecurrentGemma, else of the paper's three families */
    uint32_t    width, lru_width, layers, heads;
} size;

enum { VOCABULARY = 256000, PAPER_BLOCKS = 16 };

static const family families[] = {
    { "hawk",           "\"recurrent\"",                               1024, false },
    { "griffin",        "\"recurrent\",\"recurrent\",\"attention\"",   1024, false },
    { "mqa",            "\"attention\"",                                  0, false },
    { "recurrentgemma", "\"recurrent\",\"recurrent\",\"attention\"",   2048, true },
};

static const size sizes[] = {
    { "100m", false,  768, 1024, 12,  6 },
    { "200m", false, 1024, 1536, 12,  8 },
    { "400m", false, 1536, 2048, 12, 12 },
    { "1b",   false, 2048, 2560, 24, 16 },
    { "3b",   false, 3072, 4096, 24, 24 },
    { "7b",   false, 4096, 5632, 32, 32 },
    { "14b",  false, 5120, 8192, 40, 40 },
    { "2b",   true,  2560, 2560, 26, 10 },
    { "9b",   true,  4096, 4096, 38, 16 },
};

#define COUNT(array) (sizeof (array) / sizeof *(array))
#define PREFIX "synthetic:"

bool ey_is_synthetic(const char *model) { return strncmp(model, PREFIX, strlen(PREFIX)) == 0; }

static bool find_shape(const char *name, const family **f, const size **s)
{
    for (size_t i = 0; i < COUNT(families) * COUNT(sizes); i++) {
        size_t n = strlen(families[i / COUNT(sizes)].name);
        *f = &families[i / COUNT(sizes)];
        *s = &sizes[i % COUNT(sizes)];
        if ((*f)->gemma == (*s)->gemma && strncmp(name, (*f)->name, n) == 0 && name[n] == '-'
            && strcmp(name + n + 1, (*s)->name) == 0)
            return true;
    }
    return false;
}

/* No end-of-text token: random weights would mean nothing by it. */
static eyrie_status write_config(ey_synthetic *s, const family *f, const size *z, eyrie_error *err)
{
    enum { CAPACITY = 1024 };

    if (!(s->config = ey_calloc(CAPACITY, 1))) return ey_fail(err, EYRIE_ENOMEM, "%s", s->name);
    s->length = (size_t)snprintf(s->config, CAPACITY,
        "{\"model_type\":\"recurrent_gemma\",\"vocab_size\":%d,\"hidden_size\":%" PRIu32 ",\"intermediate_size\":%" PRIu32
        ",\"num_hidden_layers\":%" PRIu32 ",\"num_attention_heads\":%" PRIu32 ",\"num_key_value_heads\":1,"
        "\"lru_width\":%" PRIu32 ",\"rg_lru_blocks\":%" PRIu32 ",\"attention_window_size\":%" PRIu32
        ",\"block_types\":[%s],\"logits_soft_cap\":%d,\"embeddings_scale_by_sqrt_dim\":%s,\"bos_token_id\":2}",
        VOCABULARY, z->width, 6 * z->width, z->layers, z->heads, z->lru_width, f->gemma ? z->heads : PAPER_BLOCKS,
        f->window, f->block_types, f->gemma ? 30 : 0, f->gemma ? "true" : "false");
    return EYRIE_OK;
}

static eyrie_status read_config(ey_synthetic *s, const char *path, eyrie_error *err)
{
    ey_map map;
    eyrie_status st = ey_map_open(&map, path, err);

    if (st != EYRIE_OK) return st;
    s->length = (size_t)map.size;
    if ((s->config = ey_calloc(s->length, 1)) == NULL) st = ey_fail(err, EYRIE_ENOMEM, "%s", path);
    else if (s->length) memcpy(s->config, map.data, s->length);
    ey_map_close(&map);
    return st;
}

static eyrie_status unknown(const char *name, eyrie_error *err)
{
    char known[2][160];

    for (int gemma = 0; gemma < 2; gemma++) {
        size_t at = 0;
        for (size_t i = 0; i < COUNT(sizes); i++)
            if (sizes[i].gemma == gemma)
                at += (size_t)snprintf(known[gemma] + at, sizeof known[gemma] - at, "%s%s", at ? "," : "", sizes[i].name);
    }
    return ey_fail(err, EYRIE_EINVAL, "%s%s: no such model; there are {hawk,griffin,mqa}-{%s}, recurrentgemma-{%s}, and the "
                   "path of any config.json, each with @SEED after it if wanted", PREFIX, name, known[0], known[1]);
}

/* "NAME@SEED": the seed is cut off if all after the last '@' are digits, and part of the name if not. */
static eyrie_status cut_seed(ey_synthetic *s, eyrie_error *err)
{
    char *at = strrchr(s->name, '@'), *end;

    if (!at || !at[1] || at[1 + strspn(at + 1, "0123456789")]) return EYRIE_OK;
    errno = 0;
    unsigned long long seed = strtoull(at + 1, &end, 10);
    if (errno || seed > UINT64_MAX)
        return ey_fail(err, EYRIE_EINVAL, "%s%s: the seed must be below 2^64", PREFIX, s->name);
    s->seed = seed;
    *at = '\0';
    return EYRIE_OK;
}

eyrie_status ey_synthetic_open(ey_synthetic *s, const char *model, eyrie_error *err)
{
    const family *f;
    const size *z;
    char *inside = NULL;
    eyrie_status st;

    *s = (ey_synthetic){ .name = ey_strdup(model + strlen(PREFIX)) };
    if (!s->name) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", model);
        goto done;
    }
    EY_TRY(cut_seed(s, err));
    if (!(inside = ey_path(s->name, "config.json"))) st = ey_fail(err, EYRIE_ENOMEM, "%s", model);
    else if (find_shape(s->name, &f, &z)) st = write_config(s, f, z, err);
    else if (*s->name && ey_file_exists(inside)) st = read_config(s, inside, err);
    else if (strchr(s->name, '/') || ey_file_exists(s->name)) st = read_config(s, s->name, err);
    else st = unknown(s->name, err);
done:
    ey_free(inside);
    if (st != EYRIE_OK) ey_synthetic_close(s);
    return st;
}

void ey_synthetic_close(ey_synthetic *s)
{
    ey_free(s->config);
    ey_free(s->name);
    *s = (ey_synthetic){ 0 };
}

/* --------------------------------------------------------------------------------------------------------- numbers */

/* The finalisers of MurmurHash3: every bit of the result depends on every bit of x. */
static uint32_t mix32(uint32_t x)
{
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

static uint64_t mix64(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

/* Standard deviations like those of a model at the start of its training: products keep the size of what goes in,
 * logits spread over a few units. fma, exp and the like stay out of this, and sqrt and / are exactly rounded, so that all
 * machines agree. */
ey_recipe ey_recipe_of(uint64_t seed, const char *name, uint64_t fan_in)
{
    const char  *end = name + strlen(name);
    const double triangle = sqrt((65536.0 * 65536.0 - 1) / 6);      /* deviation of the sum of two of 0 ... 65535 */
    uint64_t     hash = mix64(seed + 0x9e3779b97f4a7c15ull);
    double       deviation;

    for (const char *p = name; p < end; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001b3ull;   /* FNV-1a */
    hash = mix64(hash);
    if (strstr(name, "norm")) deviation = 0.2;                      /* norms are stored less one */
    else if (end - name >= 4 && strcmp(end - 4, "bias") == 0) deviation = 0.1;
    else if (strstr(name, "conv_1d")) deviation = 0.5;
    else deviation = (strstr(name, "embed") ? 3.0 : 1.0) / sqrt((double)fan_in);
    return (ey_recipe){ { (uint32_t)hash, (uint32_t)(hash >> 32) }, (float)(deviation / triangle),
                        strstr(name, "recurrent_param") != NULL };
}

void ey_recipe_read(const ey_recipe *r, uint64_t first, uint64_t n, float *out)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t index = first + i;
        uint32_t x = mix32(mix32((uint32_t)index ^ r->key[0]) ^ r->key[1] ^ (uint32_t)(index >> 32));

        if (r->decays) {
            /* Uniform from -6.875 to 0.8125 in steps of 2^-20: the state's factor at an open gate, sigmoid(-p), lies
             * between .307 and .999. */
            int32_t steps = -7208960 + (int32_t)((uint64_t)x * 8060928 >> 32);
            out[i] = (float)steps * 0x1p-20f;
        } else {
            /* Triangular, which has no tail and needs nothing but one rounding, that of the product. */
            int32_t sum = (int32_t)((x & 0xffffu) + (x >> 16)) - 65535;
            out[i] = (float)sum * r->scale;
        }
    }
}
