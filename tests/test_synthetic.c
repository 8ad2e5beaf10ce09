/* test_synthetic.c - models without a checkpoint: their shapes, their numbers on host and device, and that they are the
 * models that files with the same numbers are. */
#include "testing.h"

#include "errors.h"
#include "file.h"
#include "model.h"
#include "numbers.h"
#include "os.h"
#include "synthetic.h"
#include "weights.h"

#include <math.h>

static eyrie_device *device;        /* NULL: there is none */

/* In the list of tests: f needs the device, and finds a directory in *state. */
#define device_test(f) cmocka_unit_test_setup_teardown(f, make_dir, tidy_up)

static int tidy_up(void **state)
{
    free_numbers();
    return remove_dir(state);
}

static eyrie_device *open_small(uint64_t max_alloc, uint64_t memory)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .max_alloc = max_alloc,
                               .memory = memory };
    eyrie_device *dev;

    assert_ok(eyrie_device_open(&dev, &opts, &err));
    return dev;
}

/* The message has these parts, up to the first NULL. */
static void check_says(const char *what, const char *const *parts, size_t n)
{
    for (size_t i = 0; i < n && parts[i]; i++)
        if (!strstr(err.text, parts[i])) fail_msg("%s: \"%s\" is not in: %s", what, parts[i], err.text);
}

static eyrie_model_info inspect(const char *name)
{
    eyrie_model_info info = { .struct_size = sizeof info };

    assert_ok(eyrie_model_inspect(name, NULL, &info, &err));
    return info;
}

/* ---------------------------------------------------------------------------------------------------------- shapes */

/* Parameters without the embedding, from the formulas of the architecture: M = 3 D, 4 taps, one key/value head of d. */
static uint64_t parameters(uint64_t D, uint64_t N, uint64_t recurrent, uint64_t attention, uint64_t d, uint64_t G)
{
    uint64_t M = 3 * D, C = 4;
    uint64_t mlp = 3 * D * M + 2 * M + D;
    uint64_t mix = 3 * D * N + 2 * N + D + (C + 1) * N + N + 2 * N * N / G + 2 * N;
    uint64_t attend = 2 * D * D + 2 * D * d + D;

    return (recurrent + attention) * (mlp + 2 * D) + recurrent * mix + attention * attend + D;
}

/* Every `every`th layer is attention; 0: none. */
static void check_shape(const char *name, const char *family, uint64_t D, uint64_t N, uint32_t L, uint32_t H,
                        uint32_t every, uint64_t W, uint32_t G)
{
    eyrie_model_info i = inspect(name);
    uint32_t attention = every ? L / every : 0;

    assert_string_equal(i.family, family);
    assert_int_equal(i.attention_layers, attention);
    assert_int_equal(i.recurrent_layers, L - attention);
    assert_int_equal(i.parameters - i.embedding_parameters, parameters(D, N, L - attention, attention, D / H, G));
    assert_int_equal(i.embedding_parameters, 256000 * D);
    assert_int_equal(i.vocab, 256000);
    assert_int_equal(i.width, D);
    assert_int_equal(i.mlp_width, 3 * D);
    assert_int_equal(i.heads, H);
    assert_int_equal(i.kv_heads, 1);
    assert_int_equal(i.window, W);
    assert_int_equal(i.gate_blocks, attention < L ? G : 0);
    assert_int_equal(i.weights, EYRIE_FORMAT_BF16);
    assert_int_equal(i.file_bytes, 0);
    assert_false(i.has_tokenizer);
}

/* All published shapes. The millions are those that a table of the paper's sizes gives, to a decimal. */
static void published_shapes(void **state)
{
    static const struct {
        const char *name;
        uint64_t    D, N;
        uint32_t    L, H;
        double      mqa, hawk, griffin;
    } paper[] = {
        { "100m",  768, 1024, 12,  6,    80.3,    93.8,    89.3 },
        { "200m", 1024, 1536, 12,  8,   141.7,   173.7,   163.0 },
        { "400m", 1536, 2048, 12, 12,   316.3,   374.8,   355.3 },
        { "1b",   2048, 2560, 24, 16,  1120.4,  1304.2,  1242.9 },
        { "3b",   3072, 4096, 24, 24,  2511.0,  2996.5,  2834.6 },
        { "7b",   4096, 5632, 32, 32,  5940.4,  7176.4,  6790.2 },
        { "14b",  5120, 8192, 40, 40, 11588.8, 14811.2, 13763.9 },
    };

    (void)state;
    for (size_t k = 0; k < COUNT(paper); k++) {
        const struct { const char *name, *family; uint32_t every; uint64_t window; double millions; } families[] = {
            { "mqa",     "MQA Transformer", 1, 0,    paper[k].mqa },
            { "hawk",    "Hawk",            0, 1024, paper[k].hawk },
            { "griffin", "Griffin",         3, 1024, paper[k].griffin },
        };
        for (size_t f = 0; f < COUNT(families); f++) {
            char name[64];
            snprintf(name, sizeof name, "synthetic:%s-%s", families[f].name, paper[k].name);
            check_shape(name, families[f].family, paper[k].D, paper[k].N, paper[k].L, paper[k].H, families[f].every,
                        families[f].window, 16);
            eyrie_model_info i = inspect(name);
            double millions = (double)(i.parameters - i.embedding_parameters) / 1e6;
            if (fabs(millions - families[f].millions) > 0.0501) fail_msg("%s: %.2f million parameters", name, millions);
        }
    }
    check_shape("synthetic:recurrentgemma-2b", "RecurrentGemma", 2560, 2560, 26, 10, 3, 2048, 10);
    check_shape("synthetic:recurrentgemma-9b@7", "RecurrentGemma", 4096, 4096, 38, 16, 3, 2048, 16);
    assert_int_equal(inspect("synthetic:recurrentgemma-2b").parameters, 2682862080);
    assert_int_equal(inspect("synthetic:recurrentgemma-9b").parameters, 8579977216);
}

static void names_that_are_not(void **state)
{
    static const char hawk[] = "{\"model_type\":\"recurrent_gemma\",\"vocab_size\":32,\"hidden_size\":32,"
                               "\"intermediate_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
                               "\"lru_width\":30,\"block_types\":[\"recurrent\"]}";
    const struct { const char *name; eyrie_status status; const char *says[3]; } cases[] = {
        { "", EYRIE_EINVAL, { "recurrentgemma-{2b,9b}" } },
        { "griffin", EYRIE_EINVAL, { "griffin", "{hawk,griffin,mqa}-{100m,200m,400m,1b,3b,7b,14b}", "config.json" } },
        { "griffin-2b", EYRIE_EINVAL, { "synthetic:griffin-2b" } },
        { "recurrentgemma-1b", EYRIE_EINVAL, { "no such model" } },
        { "griffin-1bb", EYRIE_EINVAL, { "no such model" } },
        { "griffin-1b@", EYRIE_EINVAL, { "griffin-1b@: no such model", "@SEED" } },
        { "griffin-1b@-1", EYRIE_EINVAL, { "no such model" } },
        { "griffin-1b@18446744073709551616", EYRIE_EINVAL, { "2^64" } },
        { "no/such/config.json", EYRIE_EIO, { "no/such/config.json" } },
        { "/", EYRIE_EIO, { "not a regular file" } },
        { "/dev/null", EYRIE_EIO, { "/dev/null" } },
        { *state, EYRIE_EFORMAT, { "30", "4 gate blocks", "rg_lru_blocks" } },
    };

    write_text(*state, "config.json", hawk);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char name[4200];
        eyrie_model_info info = { .struct_size = sizeof info };
        snprintf(name, sizeof name, "synthetic:%s", cases[i].name);
        memset(&err, 0, sizeof err);
        if (eyrie_model_inspect(name, NULL, &info, &err) != cases[i].status)
            fail_msg("%s: status %d: %s", name, (int)err.status, err.text);
        check_says(name, cases[i].says, COUNT(cases[i].says));
    }
}

static void inspecting_without_memory(void **state)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    size_t n;

    (void)state;
    for (n = 0; fail_allocation(n), (void)eyrie_model_inspect("synthetic:griffin-100m", NULL, &info, &err),
         allocation_failed(); n++)
        assert_int_equal(err.status, EYRIE_ENOMEM);
    assert_true(n > 100);       /* every tensor is one */
}

/* --------------------------------------------------------------------------------------------------------- numbers */

enum { MANY = 1 << 16 };

static float *values(uint64_t seed, const char *name, uint64_t fan_in, uint64_t first, size_t n)
{
    ey_recipe r = ey_recipe_of(seed, name, fan_in);
    float    *x = zeros(n);

    ey_recipe_read(&r, first, n, x);
    return x;
}

/* Correlation of x and y, of mean 0. */
static double correlation(const float *x, const float *y, size_t n)
{
    double xy = 0, xx = 0, yy = 0;

    for (size_t i = 0; i < n; i++) {
        xy += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    return xy / sqrt(xx * yy);
}

/* Bounds are 5 standard errors for independent numbers: of a mean s / sqrt(n), of a correlation 1 / sqrt(n), of a deviation
 * s sqrt((k - 1) / 4n), k = 2.4 being the kurtosis of a triangle. */
static void numbers_are_random(void **state)
{
    static const struct { const char *name; uint64_t fan_in; double deviation; } cases[] = {
        { "model.embed_tokens.weight", 2560, 3 / 50.596442562694074 },
        { "model.layers.0.mlp_block.gate_proj.weight", 64, 1 / 8.0 },
        { "model.layers.1.mlp_block.gate_proj.weight", 64, 1 / 8.0 },
        { "model.layers.0.temporal_block.rg_lru.input_gate_weight", 16, 1 / 4.0 },
        { "model.layers.0.temporal_block.rg_lru.input_gate_bias", 16, 0.1 },
        { "model.layers.0.temporal_block.conv_1d.weight", 4, 0.5 },
        { "model.layers.0.temporal_block.conv_1d.bias", 1024, 0.1 },
        { "model.layers.0.temporal_pre_norm.weight", 1024, 0.2 },
        { "model.final_norm.weight", 1024, 0.2 },
    };
    const double few = 5 / sqrt(MANY);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *name = cases[i].name;
        double      s = cases[i].deviation, sum = 0, squares = 0;
        float      *x = values(0, name, cases[i].fan_in, 0, MANY);

        for (size_t k = 0; k < MANY; k++) {
            sum += x[k];
            squares += (double)x[k] * x[k];
            assert_true(fabs(x[k]) <= 2.4495 * s);              /* sqrt 6: where the triangle ends */
        }
        assert_true(fabs(sum / MANY) < few * s);
        assert_true(fabs(sqrt(squares / MANY) / s - 1) < few * sqrt(1.4 / 4));

        const float *others[] = { x + 1, x + 2, x + 16, x + 64, x + 1024,
                                  values(0, name, cases[i].fan_in, 1ull << 32, MANY),       /* its high word counts */
                                  values(1, name, cases[i].fan_in, 0, MANY),
                                  values(1ull << 32, name, cases[i].fan_in, 0, MANY),
                                  values(0, cases[(i + 1) % COUNT(cases)].name, 64, 0, MANY) };
        for (size_t k = 0; k < COUNT(others); k++) {
            size_t n = MANY - 1024;
            if (!(fabs(correlation(x, others[k], n)) < 5 / sqrt((double)n))) fail_msg("%s: correlates with %zu", name, k);
        }
        /* Any stretch gives the same. */
        check_same(name, values(0, name, cases[i].fan_in, 777, 100), x + 777, 100);
    }
}

/* The recurrence remembers for one token or for a thousand, and never gets stuck. */
static void decays_are_sensible(void **state)
{
    float *p = values(0, "model.layers.0.temporal_block.rg_lru.recurrent_param", 1024, 0, MANY);
    double least = 1, most = 0;

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        double a = 1 / (1 + exp(p[i]));
        least = fmin(least, a);
        most = fmax(most, a);
    }
    assert_true(least >= 0.3 && least < 0.31);
    assert_true(most <= 0.999 && most > 0.998);
}

/* ---------------------------------------------------------------------------------------------------------- panels */

/* Awkward sizes: heads and blocks with padding between them, odd sizes, several parts, parts without bias, parts in pairs. */
static const struct { ey_dim rows[3]; uint32_t parts; ey_dim columns; bool gates, paired; } matrices[] = {
    { { { 1, 64 } }, 1, { 1, 64 }, false, false },
    { { { 1, 101 } }, 1, { 1, 37 }, false, false },
    { { { 3, 20 }, { 1, 20 }, { 1, 20 } }, 3, { 1, 60 }, false, false },
    { { { 1, 60 } }, 1, { 3, 22 }, false, false },
    { { { 1, 101 }, { 1, 101 } }, 2, { 1, 37 }, false, true },
    { { { 3, 22 }, { 3, 22 } }, 2, { 1, 22 }, true, true },
    { { { 2, 32 }, { 2, 32 } }, 2, { 1, 32 }, true, true },
    { { { 1, 5 }, { 1, 5 } }, 2, { 1, 5 }, true, true },
};

/* The row of the matrix that is padded row i of a part. */
static uint32_t row_of(size_t which, uint32_t part, uint32_t i)
{
    uint32_t before = 0;

    if (matrices[which].paired) return (i / 16 * 2 + part) * 16 + i % 16;
    for (uint32_t p = 0; p < part; p++) before += ey_dim_padded(matrices[which].rows[p]);
    return before + i;
}

/* The matrix as its panels should hold it: rows [padded rows][padded columns] of the values of its tensors. */
static float *expected_rows(size_t which, uint64_t seed, uint32_t rows, uint32_t cols)
{
    float   *out = zeros((size_t)rows * cols);

    for (uint32_t part = 0; part < matrices[which].parts; part++) {
        ey_dim   r = matrices[which].rows[part], c = matrices[which].columns;
        uint64_t P = r.size, columns = ey_dim_count(c);
        char     name[32];

        snprintf(name, sizeof name, "layer.w%u", (unsigned)part);
        float *tensor = values(seed, name, matrices[which].gates ? P : columns, 0, r.groups * P * columns);
        for (uint32_t g = 0; g < r.groups; g++)
            for (uint32_t i = 0; i < P; i++) {
                uint32_t row = row_of(which, part, g * ey_pad(r.size) + i);
                assert_in_range(row, 0, rows - 1);
                for (uint32_t h = 0; h < c.groups; h++)
                    for (uint32_t k = 0; k < c.size; k++)
                        out[(size_t)row * cols + h * ey_pad(c.size) + k]
                            = matrices[which].gates ? tensor[(g * P + k) * P + i]
                                                    : tensor[(g * P + i) * columns + h * c.size + k];
            }
    }
    return out;
}

static ey_matrix *declare(ey_weights *w, size_t which)
{
    ey_part part[3];
    static const char *const weights[] = { "w0", "w1", "w2" }, *const biases[] = { "b0.bias", "b1.bias", "b2.bias" };

    for (uint32_t i = 0; i < matrices[which].parts; i++) {
        bool bias = i != 1 || matrices[which].gates;
        part[i] = (ey_part){ weights[i], bias ? biases[i] : NULL, matrices[which].rows[i] };
    }
    ey_weights_prefix(w, "%s", "layer.");
    if (matrices[which].gates) return ey_weights_gates(w, part);
    if (matrices[which].paired) return ey_weights_pair(w, part, matrices[which].columns);
    return ey_weights_matrix(w, part, matrices[which].parts, matrices[which].columns);
}

static void check_panels(const ey_matrix *m, eyrie_format format, size_t which)
{
    const ey_quant *q = ey_quant_of(format);
    uint64_t        panel = ey_quant_panel_bytes(q, m->cols);
    float          *rows = expected_rows(which, 5, m->rows, m->cols);
    unsigned char  *want = (unsigned char *)zeros(panel / 4), *got = (unsigned char *)zeros(m->rows / EY_LANES * panel / 4);
    uint32_t        at = 0;

    for (uint32_t i = 0; i < m->n_shards; at += m->shards[i++].rows) {
        assert_int_equal(m->shards[i].row0, at);
        assert_true(m->shards[i].buffer->bytes <= device->max_alloc);
        assert_ok(ey_buffer_read(device, m->shards[i].buffer, 0, m->shards[i].rows / EY_LANES * panel,
                                 got + at / EY_LANES * panel, &err));
    }
    assert_int_equal(at, m->rows);
    for (uint32_t p = 0; p < m->rows / EY_LANES; p++) {
        q->pack(rows + (size_t)p * EY_LANES * m->cols, m->cols, want);
        check_same(q->name, got + p * panel, want, panel / 4);
    }
}

static void check_bias(const ey_matrix *m, size_t which)
{
    float *got = zeros(m->rows), *want = zeros(m->rows);

    for (uint32_t part = 0; part < matrices[which].parts; part++) {
        ey_dim r = matrices[which].rows[part];
        char   name[32];
        snprintf(name, sizeof name, "layer.b%u.bias", (unsigned)part);
        float *x = values(5, name, r.size, 0, ey_dim_count(r));
        for (uint32_t i = 0; i < ey_dim_count(r); i++)
            if (part != 1 || matrices[which].gates) want[row_of(which, part, i / r.size * ey_pad(r.size) + i % r.size)] = x[i];
    }
    assert_ok(ey_buffer_read(device, m->bias, 0, m->rows * sizeof *got, got, &err));
    check_same("bias", got, want, m->rows);
}

/* What the kernel makes is what the host's function, rows in order and the format's packing make, in shards too. */
static void panels_hold_the_values(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t f = 0; f < COUNT(weight_formats); f++) {
        eyrie_format format = weight_formats[f];
        uint64_t     most = device->max_alloc;
        ey_program  *program;

        assert_ok(ey_program_build(&program, device, 1u << format, EYRIE_FORMAT_F32, &err));
        for (uint32_t panels = 0; panels < 4; panels++)         /* in a shard; 0: all */
            for (size_t i = 0; i < COUNT(matrices); i++) {
                uint64_t    panel = ey_quant_panel_bytes(ey_quant_of(format), ey_dim_padded(matrices[i].columns));
                ey_weights *w;

                uint64_t shard = (panels == 1 && matrices[i].paired ? 2 : panels) * panel;    /* pairs stay together */
                device->max_alloc = panels ? ey_max(shard, 1024) : most;    /* 1 KiB: for biases */
                assert_ok(ey_weights_new_synthetic(&w, device, 5, 0, ey_formats_all(format), &err));
                ey_matrix *m = declare(w, i);
                assert_ok(ey_weights_check(w, &err));
                assert_ok(ey_weights_fill(w, program, &err));
                check_panels(m, format, i);
                check_bias(m, i);
                ey_weights_free(w);
                free_numbers();
            }
        device->max_alloc = most;
        ey_program_free(program);
    }
}

/* Element indices have 64 bits. No tensor that fits a test has as many, so here the kernel is asked for rows that lie
 * 2^32 - 8 elements apart. */
static void indices_have_64_bits(void **state)
{
    const uint64_t  step = (1ull << 32) - 8;
    const cl_int    ints[] = { 0, 1, 0, 16, 16, 16 };
    const cl_ulong  steps[] = { 0, step, 1 };
    ey_recipe       r = ey_recipe_of(0, "huge", 16);
    float           got[EY_LANES * 16], want[EY_LANES * 16], rows[EY_LANES * 16];
    ey_program     *program;
    ey_arena        arena;
    cl_kernel       kernel;
    const size_t    global = 1;

    (void)state;
    if (!device) skip();
    assert_ok(ey_program_build(&program, device, 1u << EYRIE_FORMAT_F32, EYRIE_FORMAT_F32, &err));
    assert_ok(ey_program_kernel(program, "fill_f32", &kernel, &err));
    ey_arena_init(&arena, device, "panel");
    ey_buffer *b = ey_arena_add(&arena, sizeof got, "panel");
    assert_ok(ey_arena_commit(&arena, &err));
    assert_int_equal(clSetKernelArg(kernel, 0, sizeof b->mem, &b->mem), CL_SUCCESS);
    for (cl_uint i = 0; i < 6; i++) assert_int_equal(clSetKernelArg(kernel, 1 + i, sizeof *ints, &ints[i]), CL_SUCCESS);
    for (cl_uint i = 0; i < 3; i++) assert_int_equal(clSetKernelArg(kernel, 7 + i, sizeof *steps, &steps[i]), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(kernel, 10, 4, &r.key[0]), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(kernel, 11, 4, &r.key[1]), CL_SUCCESS);
    assert_int_equal(clSetKernelArg(kernel, 12, 4, &r.scale), CL_SUCCESS);
    assert_int_equal(clEnqueueNDRangeKernel(device->queue, kernel, 1, NULL, &global, &global, 0, NULL, NULL), CL_SUCCESS);
    assert_ok(ey_buffer_read(device, b, 0, sizeof got, got, &err));
    for (uint64_t lane = 0; lane < EY_LANES; lane++) ey_recipe_read(&r, lane * step, 16, rows + lane * 16);
    ey_quant_of(EYRIE_FORMAT_F32)->pack(rows, 16, want);
    check_same("huge", got, want, EY_LANES * 16);
    ey_arena_free(&arena);
    ey_program_free(program);
}

/* ---------------------------------------------------------------------------------------------------------- models */

static const char *const shapes[] = { "griffin-odd", "griffin-wide", "gqa", "griffin-untied", "hawk-narrow",
                                      "mqa-odd" };
enum { TOKENS = 8 };

static const char *config_of(const char *shape)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/tests/golden/%s", EY_SOURCE_DIR, shape);
    return path;
}

/* A checkpoint with the tensors of that golden, filled with the values of a synthetic model, in f32. */
static void write_checkpoint(const char *directory, const char *shape, uint64_t seed)
{
    size_t   capacity = 1 << 16, at = 1, total = 0;
    char    *header = calloc(capacity, 1);
    ey_file *f;
    ey_map   config;
    float   *body;

    assert_non_null(header);
    header[0] = '{';
    assert_ok(ey_file_open(&f, config_of(shape), &err));
    for (size_t i = 0; i < ey_file_count(f); i++) total += ey_file_at(f, i)->count;
    body = zeros(total);
    total = 0;
    for (size_t i = 0; i < ey_file_count(f); i++) {
        const ey_tensor_data *t = ey_file_at(f, i);
        at += (size_t)snprintf(header + at, capacity - at, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "", t->name);
        for (uint32_t k = 0; k < t->rank; k++)
            at += (size_t)snprintf(header + at, capacity - at, "%s%zu", k ? "," : "", (size_t)t->shape[k]);
        at += (size_t)snprintf(header + at, capacity - at, "],\"data_offsets\":[%zu,%zu]}", 4 * total,
                               4 * (total + (size_t)t->count));
        memcpy(body + total, values(seed, t->name, t->shape[t->rank - 1], 0, t->count), 4 * t->count);
        total += t->count;
    }
    assert_true(at < capacity - 2);
    strcat(header, "}");
    write_safetensors(directory, "model.safetensors", header, body, 4 * total);
    assert_ok(ey_map_open(&config, path_of(config_of(shape), "config.json"), &err));
    write_file(directory, "config.json", config.data, config.size);
    ey_map_close(&config);
    ey_file_close(f);
    free(header);
}

/* Logits after each of the first tokens there are: [TOKENS, V]. */
static float *logits_of(eyrie_device *dev, const char *path, eyrie_format weights)
{
    static const int32_t tokens[TOKENS] = { 0, 1, 2, 3, 5, 8, 13, 21 };
    eyrie_model_opts     opts = { .struct_size = sizeof opts, .weights = weights, .chunk = TOKENS,
                                    .context = 64 };
    ey_row               row = { .n = TOKENS, .tokens = tokens, .want = EY_WANT_ALL };
    const ey_result     *results;
    eyrie_model         *m;
    uint32_t             n;

    assert_ok(eyrie_model_open(&m, dev, path, &opts, &err));
    uint32_t V = ey_model_get_limits(m).vocab;
    float   *logits = zeros((size_t)TOKENS * V);
    assert_ok(ey_model_upload(m, &(ey_batch){ EY_PREFILL, 1, &row }, &err));
    assert_ok(ey_model_enqueue(m, EY_PREFILL, 0, UINT32_MAX, &err));
    assert_ok(ey_model_results(m, EY_PREFILL, &results, &n, &err));
    for (uint32_t i = 0; i < TOKENS; i++) assert_ok(ey_model_logits(m, EY_PREFILL, i, logits + (size_t)i * V, &err));
    for (uint32_t i = 0; i < TOKENS * V; i++) assert_true(isfinite(logits[i]));
    assert_ok(eyrie_model_close(m));
    return logits;
}

/* A file with the same numbers is the same model, in every format; so is one whose matrices lie in shards. Another seed is
 * another model. */
static void a_file_is_the_same_model(void **state)
{
    static const eyrie_format formats[] = { EYRIE_FORMAT_DEFAULT, EYRIE_FORMAT_BF16, EYRIE_FORMAT_F16, EYRIE_FORMAT_F32,
                                            EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };
    float *first[COUNT(formats)];

    if (!device) skip();
    for (size_t s = 0; s < COUNT(shapes); s++) {
        uint32_t      V = inspect(config_of(shapes[s])).vocab;
        eyrie_device *dev = open_small(50000, 0);       /* griffin-wide's MLP takes several of that; scratch, one */
        char          name[700], seeded[710], file[700];

        write_checkpoint(*state, shapes[s], 3);
        snprintf(file, sizeof file, "synthetic:%s/config.json", config_of(shapes[s]));
        snprintf(name, sizeof name, "synthetic:%s", config_of(shapes[s]));
        snprintf(seeded, sizeof seeded, "%s@3", name);
        for (size_t f = 0; f < COUNT(formats); f++) {
            first[f] = logits_of(device, seeded, formats[f]);
            check_same("sharded", logits_of(dev, seeded, formats[f]), first[f], (size_t)TOKENS * V);
            if (formats[f] != EYRIE_FORMAT_DEFAULT)
                check_same("of a file", logits_of(device, *state, formats[f]), first[f], (size_t)TOKENS * V);
        }
        check_same("the default", first[0], first[1], (size_t)TOKENS * V);
        assert_memory_not_equal(first[1], first[3], 4 * (size_t)TOKENS * V);
        float *other = logits_of(device, name, EYRIE_FORMAT_DEFAULT);
        check_same("seed 0, the file itself named", logits_of(device, file, EYRIE_FORMAT_DEFAULT), other, (size_t)TOKENS * V);
        assert_memory_not_equal(first[0], other, 4 * (size_t)TOKENS * V);
        assert_ok(eyrie_device_close(dev));
        free_numbers();
    }
}

/* ---------------------------------------------------------------------------------------------------- the command */

/* What the command prints, run with these arguments; it must succeed. */
static char *output_of(const char *args)
{
    size_t capacity = 1 << 14;
    char  *text = (char *)zeros(capacity / 4), line[1024];
    FILE  *f;

    snprintf(line, sizeof line, "\"%s\" %s", EY_COMMAND, args);
    assert_non_null(f = popen(line, "r"));
    assert_in_range(fread(text, 1, capacity - 1, f), 1, capacity - 2);
    assert_int_equal(pclose(f), 0);
    return text;
}

static void the_command_takes_them(void **state)
{
    char args[800];

    (void)state;
    assert_non_null(strstr(output_of("info -m synthetic:recurrentgemma-9b --json"), "\"parameters\": 8579977216"));
    assert_non_null(strstr(output_of("info -m synthetic:hawk-100m"), "random weights"));
    if (!device) skip();
    snprintf(args, sizeof args, "run -m 'synthetic:%s/config.json@1' --tokens 2,5,9 -n 4 --ignore-eos --json 2>&1",
             config_of("gqa"));
    char *text = output_of(args);
    assert_non_null(strstr(text, "\"prefill\": {\"tokens\": 3"));
    assert_non_null(strstr(text, "\"decode\": {\"tokens\": 3"));
    assert_int_equal(text[0], '{');         /* progress is for terminals */
}

/* --------------------------------------------------------------------------------------------- memory and progress */

static uint32_t buffers_made;
static cl_int count_buffers(const char *call)
{
    buffers_made += strcmp(call, "clCreateBuffer") == 0;
    return CL_SUCCESS;
}

/* What does not fit is refused before anything is allocated, and the advice is to the point. */
static void too_large(void **state)
{
    static const struct {
        const char  *model;
        eyrie_format weights;
        uint32_t     slots;
        uint64_t     memory;
        const char  *says[4];
    } cases[] = {
        { "synthetic:recurrentgemma-9b", 0, 1, 4ull << 30, { "needs 16 GiB", "4.0 GiB", "the weights alone" } },
        { "synthetic:recurrentgemma-9b", 0, 1, 6ull << 30, { "needs 16 GiB", "6.0 GiB", "--weights q4 takes 5.0 GiB" } },
        { "synthetic:griffin-14b", EYRIE_FORMAT_F32, 1, 20ull << 30, { "needs 56 GiB", "--weights q8 takes 15 GiB" } },
        { "synthetic:recurrentgemma-2b", EYRIE_FORMAT_F32, 1, 8ull << 30, { "weights 10 GiB", "--weights bf16" } },
        { "synthetic:mqa-100m", 0, 64, 1ull << 30, { "64 sequence(s) 3.0 GiB", "there is 1.0 GiB", "--slots", "--context" } },
    };

    (void)state;
    if (!device) skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_device    *dev = open_small(0, cases[i].memory);
        eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = cases[i].weights, .slots = cases[i].slots };
        eyrie_model     *m;

        buffers_made = 0;
        ey_cl_hook = count_buffers;
        eyrie_status st = eyrie_model_open(&m, dev, cases[i].model, &opts, &err);
        ey_cl_hook = NULL;
        assert_int_equal(st, EYRIE_EMEMORY);
        assert_null(m);
        assert_int_equal(buffers_made, 0);
        check_says(cases[i].model, cases[i].says, COUNT(cases[i].says));
        assert_ok(eyrie_device_close(dev));
    }
}

typedef struct report {
    const char *what;
    double      done;
    uint32_t    stages;
    bool        making, loading;
} report;

static void on_progress(void *user, const char *what, double done)
{
    report *r = user;

    if (!r->what || strcmp(what, r->what) != 0) {
        r->stages++;
        r->done = 0;
    }
    assert_true(done >= r->done && done <= 1);
    *r = (report){ what, done, r->stages, r->making || strstr(what, "making"), r->loading || strstr(what, "loading") };
}

static void progress_is_told(void **state)
{
    char name[700];

    (void)state;
    if (!device) skip();
    for (int synthetic = 0; synthetic < 2; synthetic++) {
        report           r = { 0 };
        eyrie_model_opts opts = { .struct_size = sizeof opts, .progress = on_progress, .progress_user = &r };
        eyrie_model     *m;

        snprintf(name, sizeof name, "%s%s", synthetic ? "synthetic:" : "", config_of("griffin-odd"));
        assert_ok(eyrie_model_open(&m, device, name, &opts, &err));
        assert_ok(eyrie_model_close(m));
        assert_int_equal(r.stages, 3);          /* kernels, weights, warming up */
        assert_true(r.done == 1);
        assert_true(r.making == (synthetic == 1) && r.loading == (synthetic == 0));
    }
}

static uint32_t calls_left;
static cl_int fail_call(const char *call)
{
    (void)call;
    return calls_left-- == 0 ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

/* Every OpenCL call and every allocation of filling fails in turn, and nothing is lost. */
static void filling_fails_cleanly(void **state)
{
    ey_program *program;
    ey_weights *w;

    (void)state;
    if (!device) skip();
    assert_ok(ey_program_build(&program, device, 1u << EYRIE_FORMAT_BF16, EYRIE_FORMAT_F32, &err));
    for (uint32_t memory = 0; memory < 2; memory++) {
        eyrie_status st = EYRIE_EDEVICE;
        uint32_t n = 0;
        for (; st != EYRIE_OK; n++) {
            assert_ok(ey_weights_new_synthetic(&w, device, 0, 0, ey_formats_all(EYRIE_FORMAT_DEFAULT), &err));
            assert_non_null(declare(w, 2));
            assert_non_null(ey_weights_vector(w, "norm.weight", ey_dim_flat(20), 1, EY_ONE_PLUS));
            if (memory) fail_allocation(n);
            calls_left = n;
            ey_cl_hook = memory ? NULL : fail_call;
            st = ey_weights_fill(w, program, &err);
            ey_cl_hook = NULL;
            if (memory) (void)allocation_failed();
            if (st != EYRIE_OK && st != (memory ? EYRIE_ENOMEM : EYRIE_EDEVICE))
                assert_int_equal(st, EYRIE_EBUILD);     /* clCreateKernel: it counts as not in the program */
            ey_weights_free(w);
        }
        assert_true(n > (memory ? 4 : 40));     /* the bias, its parts, the norm twice; 3 launches of 13 arguments */
    }
    assert_int_equal(device->used, 0);
    ey_program_free(program);
}

static int open_device(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE") };

    (void)state;
    if (eyrie_device_open(&device, &opts, &err) != EYRIE_OK) fprintf(stderr, "skipping: %s\n", err.text);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    return eyrie_device_close(device) == EYRIE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_shapes),
        test_in_dir(names_that_are_not),
        cmocka_unit_test(inspecting_without_memory),
        device_test(numbers_are_random),
        device_test(decays_are_sensible),
        device_test(panels_hold_the_values),
        device_test(indices_have_64_bits),
        device_test(a_file_is_the_same_model),
        device_test(the_command_takes_them),
        device_test(too_large),
        device_test(progress_is_told),
        device_test(filling_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
