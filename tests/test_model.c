/* test_model.c - whole models: the goldens, in every way of reading a text. Batches are made by hand here; who makes them
 * in earnest is test_engine's business. Relative error is max |d logit| / max |logit|. */
#include "testing.h"

#include "errors.h"
#include "golden.h"
#include "model.h"
#include "ops/clblast.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>

/* What the project promises against the goldens. They are f32 NumPy, themselves up to 3e-6 from f64. */
#define GOLDEN_TOLERANCE 1e-4
/* With the matrix unit, the input of every product has 8 bits: a relative error of 2^-9, the same as bf16 weights have, which
 * cost 2e-1 at most below; inputs average better. */
#define UNIT_TOLERANCE 1e-1
/* Another chunking regroups sums of the softmax only; f32 rounding through all layers stays below this promise. */
#define CHUNK_TOLERANCE 1e-5

static const char *const all_goldens[] = { "hawk", "hawk-narrow", "hawk-odd", "griffin", "griffin-odd", "griffin-wide",
                                       "griffin-untied", "mqa", "mqa-odd", "gqa", "mha-spelling" };
/* All layers, odd sizes, several key/value heads: for kernels that take PoCL long. */
static const char *const gpu_goldens[] = { "hawk-odd", "griffin-odd", "gqa" };
enum { MOST_TOKENS = 512, SLOTS = 3 };

static eyrie_device *device;
static const char *const *goldens;
static size_t n_goldens;
static bool on_gpu;                     /* with the kernels for GPUs */
static void         *directory;     /* its cache */
static bool          unit;          /* it has a matrix unit */

static eyrie_model *open_golden_with(const char *name, golden *g, eyrie_model_opts opts)
{
    char path[512], file[600];
    eyrie_model *m;

    if (!device) skip();
    opts.struct_size = sizeof opts;
    opts.context = opts.chunk = MOST_TOKENS;        /* no golden is longer */
    if (!opts.slots) opts.slots = SLOTS;
    snprintf(path, sizeof path, "%s/tests/golden/%s", EY_SOURCE_DIR, name);
    snprintf(file, sizeof file, "%s/golden.gold", path);
    assert_true(golden_open(g, file));
    assert_ok(eyrie_model_open(&m, device, path, &opts, &err));
    assert_true(ey_model_get_limits(m).logits == MOST_TOKENS);      /* of every token of a step */
    return m;
}

static eyrie_model *open_golden(const char *name, golden *g, eyrie_compute compute, eyrie_format weights)
{
    return open_golden_with(name, g, (eyrie_model_opts){ .compute = compute, .weights = weights });
}

/* Where the text is read with the matrix unit: weights in bf16 or fewer bits, and a CPU that has one. */
static bool has_unit(const eyrie_model *m)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    assert_ok(eyrie_model_get_info(m, &info, &err));
    return info.matrix_unit;
}

/* Runs a batch and reads the logits of all its tokens: [tokens, V]. */
static void run_batch(eyrie_model *m, const ey_batch *b, float *logits)
{
    const ey_result *results;
    uint32_t n, V = ey_model_get_limits(m).vocab;

    assert_ok(ey_model_upload(m, b, &err));
    assert_ok(ey_model_enqueue(m, b->phase, 0, UINT32_MAX, &err));
    assert_ok(ey_model_results(m, b->phase, &results, &n, &err));
    assert_int_equal(n, ey_batch_tokens(b));
    for (uint32_t i = 0; i < n; i++) assert_ok(ey_model_logits(m, b->phase, i, logits + (size_t)i * V, &err));
}

/* Reads tokens [from, to) into a slot in prefill steps of `chunk`, cut at multiples of it; logits [to - from, V]. */
static void read_text(eyrie_model *m, uint32_t slot, const int32_t *tokens, uint32_t from, uint32_t to, uint32_t chunk,
                      float *logits)
{
    uint32_t V = ey_model_get_limits(m).vocab;

    for (uint32_t at = from; at < to;) {
        uint32_t n = (uint32_t)ey_min((at / chunk + 1) * chunk, to) - at;
        ey_row row = { .slot = slot, .n = n, .position = at, .tokens = tokens + at, .want = EY_WANT_ALL };
        run_batch(m, &(ey_batch){ EY_PREFILL, 1, &row }, logits + (size_t)(at - from) * V);
        at += n;
    }
}

/* Tokens [from, to), one decode step each. */
static void decode_text(eyrie_model *m, uint32_t slot, const int32_t *tokens, uint32_t from, uint32_t to, float *logits)
{
    for (uint32_t at = from; at < to; at++) {
        ey_row row = { .slot = slot, .n = 1, .position = at, .tokens = tokens + at, .want = EY_WANT_ALL };
        run_batch(m, &(ey_batch){ EY_DECODE, 1, &row }, logits + (size_t)(at - from) * ey_model_get_limits(m).vocab);
    }
}

static double relative_error(const float *got, const float *want, size_t n)
{
    double most = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        error = isnan(got[i]) ? INFINITY : fmax(error, fabs((double)got[i] - (double)want[i]));
    }
    return error / most;
}

static void assert_close(const char *name, const char *what, uint32_t size, double error, double tolerance)
{
    if (!(error <= tolerance)) fail_msg("%s, %s %u: relative error %g, at most %g", name, what, (unsigned)size, error, tolerance);
}

static float *rows_of(const golden *g)
{
    float *p = calloc((size_t)g->T * g->V, sizeof *p);
    assert_non_null(p);
    return p;
}

/* All that a slow device is asked for: `test_model goldens_in_one_pass`. */
static void goldens_in_one_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_F32, EYRIE_FORMAT_DEFAULT);
        float *got = rows_of(&g);

        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, got);
        assert_close(goldens[i], "golden, tokens", g.T, relative_error(got, g.logits, (size_t)g.T * g.V), GOLDEN_TOLERANCE);
        free(got);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* Read with CLBlast's products, in the same tolerance. */
static void goldens_by_clblast(void **state)
{
    static const char *const names[] = { "hawk-odd", "griffin" };

    (void)state;
    if (!ey_clblast_exists()) skip();
    for (size_t i = 0; i < COUNT(names); i++) {
        golden g;
        eyrie_model *m = open_golden_with(names[i], &g, (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32, .varying = true,
                                                                            .products = EYRIE_PRODUCTS_CLBLAST });
        float *got = rows_of(&g);

        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, got);
        assert_close(names[i], "golden, tokens", g.T, relative_error(got, g.logits, (size_t)g.T * g.V), GOLDEN_TOLERANCE);
        free(got);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* What results may depend on has to be asked for. */
static void clblast_is_asked_for_twice(void **state)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .products = EYRIE_PRODUCTS_CLBLAST };
    eyrie_model_info info = { .struct_size = sizeof info };
    const char *griffin = EY_SOURCE_DIR "/tests/golden/griffin";

    (void)state;
    assert_fails(eyrie_model_inspect(griffin, &opts, &info, &err), EYRIE_EINVAL,
                 ey_clblast_exists() ? "--invariant off accepts that" : "built without it");
    opts.products = 2;
    assert_fails(eyrie_model_inspect(griffin, &opts, &info, &err), EYRIE_EINVAL, "products by 2");
}

/* What any other way of reading gives is what one pass gives. */
static void goldens_in_every_chunking(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_F32, EYRIE_FORMAT_DEFAULT);
        uint64_t window = ey_model_config(m)->window;
        float *whole = rows_of(&g), *other = rows_of(&g);
        size_t n = (size_t)g.T * g.V;
        uint32_t W = window ? (uint32_t)window : 64;
        const uint32_t chunks[] = { 1, 2, 3, 5, 63, 64, 65, 128, 192, 256, W - 1, W, W + 1 };

        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, whole);
        for (size_t k = 0; k < COUNT(chunks); k++) {
            if (on_gpu && chunks[k] < 63) continue;            /* which take PoCL long */
            uint32_t slot = (uint32_t)k % SLOTS;                     /* what a slot held before must not matter */
            read_text(m, slot, g.tokens, 0, g.T, chunks[k], other);
            assert_close(goldens[i], "chunk", chunks[k], relative_error(other, whole, n), CHUNK_TOLERANCE);
            if (chunks[k] % 64 == 0 && memcmp(other, whole, n * sizeof *whole))
                fail_msg("%s: chunks of %u give other bits than one pass", goldens[i], (unsigned)chunks[k]);
        }
        decode_text(m, 1, g.tokens, 0, g.T, other);
        assert_close(goldens[i], "token by token", 1, relative_error(other, whole, n), CHUNK_TOLERANCE);
        free(whole);
        free(other);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* Prefill, then decode on, then prefill again: the phases hand the state to each other. */
static void phases_alternate(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_F32, EYRIE_FORMAT_DEFAULT);
        float *got = rows_of(&g);
        uint32_t a = g.T / 3, b = a + g.T / 4;

        read_text(m, 2, g.tokens, 0, a, MOST_TOKENS, got);
        decode_text(m, 2, g.tokens, a, b, got + (size_t)a * g.V);
        read_text(m, 2, g.tokens, b, g.T, MOST_TOKENS, got + (size_t)b * g.V);
        assert_close(goldens[i], "cut at", a, relative_error(got, g.logits, (size_t)g.T * g.V), GOLDEN_TOLERANCE);
        free(got);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* Rows of different lengths, in any order of rows and slots, give what each gives alone, bit for bit; decode rows too. */
static void a_batch_equals_each_alone(void **state)
{
    static const uint32_t lengths[SLOTS] = { 1, 70, 39 };
    static const uint32_t orders[][SLOTS] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 } };

    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_AUTO, EYRIE_FORMAT_DEFAULT);
        uint32_t V = g.V, start[SLOTS], total = 0;
        float *alone = calloc((size_t)(1 + 70 + 39 + SLOTS) * V, sizeof *alone), *together = calloc((size_t)(1 + 70 + 39) * V, sizeof *together);
        const int32_t *text[SLOTS];

        assert_true(alone && together);
        for (uint32_t s = 0; s < SLOTS; s++) {      /* text s: its own stretch of the golden's tokens */
            uint32_t n = (uint32_t)ey_min(lengths[s], g.T - 2);
            text[s] = g.tokens + (g.T - n - 1) * s / SLOTS;
            start[s] = total;
            read_text(m, 0, text[s], 0, n, MOST_TOKENS, alone + (size_t)total * V);
            decode_text(m, 0, text[s], n, n + 1, alone + (size_t)(1 + 70 + 39 + s) * V);
            total += n;
        }
        for (size_t k = 0; k < COUNT(orders); k++) {
            ey_row rows[SLOTS];
            uint32_t at = 0;
            for (uint32_t r = 0; r < SLOTS; r++) {
                uint32_t s = orders[k][r], n = (uint32_t)ey_min(lengths[s], g.T - 2);
                rows[r] = (ey_row){ .slot = (s + (uint32_t)k) % SLOTS, .n = n, .tokens = text[s], .want = EY_WANT_ALL };
            }
            run_batch(m, &(ey_batch){ EY_PREFILL, SLOTS, rows }, together);
            for (uint32_t r = 0; r < SLOTS; at += rows[r++].n)
                if (memcmp(together + (size_t)at * V, alone + (size_t)start[orders[k][r]] * V, rows[r].n * V * sizeof *alone))
                    fail_msg("%s: prefill row %u of order %zu differs from itself alone", goldens[i], (unsigned)r, k);
            for (uint32_t r = 0; r < SLOTS; r++) {
                rows[r].position = rows[r].n;
                rows[r].tokens += rows[r].n;
                rows[r].n = 1;
            }
            run_batch(m, &(ey_batch){ EY_DECODE, SLOTS, rows }, together);
            for (uint32_t r = 0; r < SLOTS; r++)
                if (memcmp(together + (size_t)r * V, alone + (size_t)(1 + 70 + 39 + orders[k][r]) * V, V * sizeof *alone))
                    fail_msg("%s: decode row %u of order %zu differs from itself alone", goldens[i], (unsigned)r, k);
        }
        free(alone);
        free(together);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* Of a vocabulary as large as this, prefill keeps the logits of 64 rows. A step of decode has more sequences, all of whose logits can
 * be read, and are what they are alone. */
static void logits_of_a_large_step(void **state)
{
    enum { V = 1 << 18, ROWS = 66 };
    static const char config[] = "{\"model_type\":\"recurrent_gemma\",\"vocab_size\":262144,\"hidden_size\":16,\"intermediate_size\":32,"
                                 "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"block_types\":[\"recurrent\"]}";
    static const uint32_t looked_at[] = { 0, 1, 63, 64, 65 };
    char name[4200];
    eyrie_model *m;
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = ROWS };
    float *together = calloc((size_t)ROWS * V, sizeof *together), *alone = calloc(V, sizeof *alone);
    int32_t tokens[ROWS];
    ey_row rows[ROWS];

    (void)state;
    assert_true(together && alone);
    write_text(directory, "config.json", config);
    snprintf(name, sizeof name, "synthetic:%s", (const char *)directory);
    assert_ok(eyrie_model_open(&m, device, name, &opts, &err));
    assert_int_equal(ey_model_get_limits(m).decode_rows, ROWS);
    for (uint32_t i = 0; i < ROWS; i++) {
        tokens[i] = (int32_t)(4001 * i % V);
        rows[i] = (ey_row){ .slot = i, .n = 1, .tokens = &tokens[i], .want = EY_WANT_ALL };
    }
    run_batch(m, &(ey_batch){ EY_DECODE, ROWS, rows }, together);
    for (size_t k = 0; k < COUNT(looked_at); k++) {
        uint32_t i = looked_at[k];
        run_batch(m, &(ey_batch){ EY_DECODE, 1, &rows[i] }, alone);
        if (memcmp(together + (size_t)i * V, alone, V * sizeof *alone)) fail_msg("row %u of %d differs from itself alone", (unsigned)i, ROWS);
    }
    free(together);
    free(alone);
    assert_ok(eyrie_model_close(m));
}

/* A copied slot goes on bit for bit, and so does the one it was copied from. */
static void a_copied_slot_goes_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_AUTO, EYRIE_FORMAT_DEFAULT);
        float *whole = rows_of(&g), *other = rows_of(&g);
        uint32_t cut = g.T / 2;
        size_t rest = (size_t)(g.T - cut) * g.V;

        read_text(m, 0, g.tokens, 0, cut, MOST_TOKENS, whole);
        assert_ok(ey_model_copy_slot(m, 0, m, 2, cut, &err));
        decode_text(m, 0, g.tokens, cut, g.T, whole);
        assert_ok(ey_model_copy_slot(m, 2, m, 1, cut, &err));
        decode_text(m, 2, g.tokens, cut, g.T, other);
        assert_memory_equal(whole, other, rest * sizeof *whole);
        decode_text(m, 1, g.tokens, cut, g.T, other);
        assert_memory_equal(whole, other, rest * sizeof *whole);
        free(whole);
        free(other);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* An f16 ring and narrower weights cost what their rounding costs, and no more: f16 has 11 bits and bf16 8, and a relative
 * error of 2^-n in every operand of a product is one of about 2^-n in its result; a few layers multiply it. A lost key or
 * a wrong scale moves logits by 2e-3 at the least (README of the goldens) and mostly by far more. */
static void narrower_formats_stay_close(void **state)
{
    static const struct { eyrie_compute compute; eyrie_format weights; double tolerance; } cases[] = {
        { EYRIE_COMPUTE_AUTO, EYRIE_FORMAT_DEFAULT, 2e-2 },
        { EYRIE_COMPUTE_F32, EYRIE_FORMAT_F16, 2e-2 },
        { EYRIE_COMPUTE_F32, EYRIE_FORMAT_BF16, 2e-1 },
        { EYRIE_COMPUTE_F32, EYRIE_FORMAT_Q8, 2e-1 },
    };

    (void)state;
    for (size_t i = 0; i < n_goldens; i++)
        for (size_t k = 0; k < COUNT(cases); k++) {
            golden g;
            eyrie_model *m = open_golden(goldens[i], &g, cases[k].compute, cases[k].weights);
            float *got = rows_of(&g);

            read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, got);
            assert_close(goldens[i], "formats", (uint32_t)k, relative_error(got, g.logits, (size_t)g.T * g.V),
                         has_unit(m) ? UNIT_TOLERANCE : cases[k].tolerance);
            free(got);
            golden_close(&g);
            assert_ok(eyrie_model_close(m));
        }
}

/* It computes what its rounding of activations to bf16 makes of the golden, and nothing is rounded with f32 compute.
 * Chunks that are multiples of 64 change no bit. */
static void the_matrix_unit(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_F32, EYRIE_FORMAT_BF16);
        float *whole = rows_of(&g), *other = rows_of(&g);
        size_t n = (size_t)g.T * g.V;
        ey_traits traits;

        assert_false(has_unit(m));
        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, other);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));

        m = open_golden(goldens[i], &g, EYRIE_COMPUTE_AUTO, EYRIE_FORMAT_BF16);
        assert_int_equal(has_unit(m), unit);
        ey_model_traits(m, &traits);
        assert_string_equal(traits.list[traits.n - 1].value, unit ? "base, prefill on AMX" : "base");
        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, whole);
        assert_close(goldens[i], "matrix unit, tokens", g.T, relative_error(whole, other, n), UNIT_TOLERANCE);
        if (unit && !memcmp(whole, other, n * sizeof *whole)) fail_msg("%s: nothing was rounded", goldens[i]);
        for (uint32_t chunk = 64; chunk <= 256; chunk *= 2) {
            read_text(m, chunk / 128, g.tokens, 0, g.T, chunk, other);
            if (memcmp(other, whole, n * sizeof *whole))
                fail_msg("%s: chunks of %u give other bits than one pass", goldens[i], (unsigned)chunk);
        }
        free(whole);
        free(other);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* With invariance off, a large step of decode is the unit's, too: near what the base makes of it, the same for each that is
 * in it, and its own kernels to those who save states. */
static void large_steps_may_vary(void **state)
{
    enum { ROWS = 8, TOKENS = 40 };
    golden g;
    eyrie_model *m = open_golden("griffin", &g, EYRIE_COMPUTE_AUTO, EYRIE_FORMAT_BF16);
    uint32_t V = ey_model_get_limits(m).vocab;
    float *alone = rows_of(&g), *beside = rows_of(&g);
    double most = 0;
    ey_traits traits;

    (void)state;
    decode_text(m, 0, g.tokens, 0, TOKENS, alone);
    golden_close(&g);
    assert_ok(eyrie_model_close(m));
    m = open_golden_with("griffin", &g, (eyrie_model_opts){ .weights = EYRIE_FORMAT_BF16, .varying = true, .slots = ROWS });
    ey_model_traits(m, &traits);
    assert_string_equal(traits.list[traits.n - 1].value, unit ? "base, prefill and large steps on AMX" : "base");
    for (uint32_t at = 0; at < TOKENS; at++) {
        ey_row rows[ROWS];
        for (uint32_t i = 0; i < ROWS; i++)
            rows[i] = (ey_row){ .slot = i, .n = 1, .position = at, .tokens = g.tokens + at, .want = EY_WANT_ALL };
        run_batch(m, &(ey_batch){ EY_DECODE, ROWS, rows }, beside);
        for (uint32_t i = 1; i < ROWS; i++) assert_memory_equal(beside + (size_t)i * V, beside, V * sizeof *beside);
        most = fmax(most, relative_error(beside, alone + (size_t)at * V, V));
    }
    assert_close("griffin", "large steps, rows", ROWS, most, UNIT_TOLERANCE);
    assert_true((most > 0) == unit);        /* the base gives a row its bits in any step */
    free(alone);
    free(beside);
    golden_close(&g);
    assert_ok(eyrie_model_close(m));
}

/* Inputs in 8 bits cost what weights in q8 may (above): an error of 2^-8 of the largest of 32, in one operand of each product. Where there is no
 * verdict there is no matrix unit, no VNNI, and prefill is in 8 bits as well: in chunks that are multiples of 64 with the
 * bits of one pass. Both devices decode with the same bits. */
static void inputs_in_8_bits(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .kernels = EYRIE_KERNELS_CPU };
    eyrie_device *knows = device, *knows_nothing;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_open(&knows_nothing, &opts, &err));
    for (size_t i = 0; i < n_goldens; i++) {
        golden g;
        ey_traits traits;
        float *want, *decoded, *other;

        eyrie_model *m = open_golden(goldens[i], &g, EYRIE_COMPUTE_F32, EYRIE_FORMAT_Q8);
        size_t n = (size_t)g.T * g.V;
        want = rows_of(&g), decoded = rows_of(&g), other = rows_of(&g);
        read_text(m, 0, g.tokens, 0, g.T, MOST_TOKENS, want);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));

        m = open_golden(goldens[i], &g, EYRIE_COMPUTE_INT8, EYRIE_FORMAT_Q8);
        assert_int_equal(has_unit(m), unit);
        ey_model_traits(m, &traits);
        assert_string_equal(traits.list[2].value, "int8");
        decode_text(m, 0, g.tokens, 0, g.T, decoded);
        assert_close(goldens[i], "8 bits, decoded", g.T, relative_error(decoded, want, n), 2e-1);
        if (!memcmp(decoded, want, n * sizeof *want)) fail_msg("%s: nothing was rounded", goldens[i]);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));

        device = knows_nothing;
        m = open_golden(goldens[i], &g, EYRIE_COMPUTE_INT8, EYRIE_FORMAT_Q8);
        assert_false(has_unit(m));
        decode_text(m, 0, g.tokens, 0, g.T, other);
        if (memcmp(other, decoded, n * sizeof *other)) fail_msg("%s: VNNI gives other bits", goldens[i]);
        read_text(m, 1, g.tokens, 0, g.T, MOST_TOKENS, decoded);
        assert_close(goldens[i], "8 bits, read", g.T, relative_error(decoded, want, n), 2e-1);
        read_text(m, 2, g.tokens, 0, g.T, 64, other);
        if (memcmp(other, decoded, n * sizeof *other)) fail_msg("%s: chunks give other bits than one pass", goldens[i]);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
        device = knows;
        free(want);
        free(decoded);
        free(other);
    }
    assert_int_equal(eyrie_device_close(knows_nothing), EYRIE_OK);
}

/* It is refused where it would do nothing. */
static void weights_that_are_not_for_8_bits(void **state)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .compute = EYRIE_COMPUTE_INT8 };
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_model *m;

    (void)state;
    if (!device) skip();
    for (int known = 0; known < 2; known++) {
        const char *path = EY_SOURCE_DIR "/tests/golden/griffin";
        opts.weights = on_gpu ? EYRIE_FORMAT_Q8 : known ? EYRIE_FORMAT_F16 : EYRIE_FORMAT_DEFAULT;
        assert_int_equal(eyrie_model_open(&m, device, path, &opts, &err), EYRIE_EINVAL);
        assert_non_null(strstr(err.text, on_gpu ? "--kernels cpu" : "--weights q8"));
        assert_int_equal(eyrie_model_inspect(path, &opts, &info, &err), on_gpu ? EYRIE_OK : EYRIE_EINVAL);
    }
}

/* The device remembers what it can do, so the models get what they would get in use. */
static int open_class(eyrie_kernels kernels, const char *const *list, size_t n)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .kernels = kernels };
    eyrie_verdict v;

    make_dir(&directory);
    opts.cache_dir = directory;
    on_gpu = kernels == EYRIE_KERNELS_GPU;
    goldens = list;
    n_goldens = n;
    if (eyrie_device_open(&device, &opts, &err) != EYRIE_OK) {
        fprintf(stderr, "no device, skipping: %s\n", err.text);
    } else if (!on_gpu && eyrie_probe_run(device, "vnni", &v, &err) == EYRIE_OK
               && eyrie_probe_run(device, "amx", &v, &err) == EYRIE_OK) {
        unit = v.answer == EYRIE_YES;
        if (!unit) fprintf(stderr, "no matrix unit: %s\n", v.reason);
    }
    return 0;
}

static int open_device(void **state)
{
    (void)state;
    return open_class(EYRIE_KERNELS_CPU, all_goldens, COUNT(all_goldens));
}

static int open_device_as_gpu(void **state)
{
    (void)state;
    return open_class(EYRIE_KERNELS_GPU, gpu_goldens, COUNT(gpu_goldens));
}

static int close_device(void **state)
{
    int status = eyrie_device_close(device) == EYRIE_OK ? 0 : -1;

    (void)state;
    remove_dir(&directory);
    return status;
}

/* test_model [PATTERN]: those tests alone, * and ? being any characters. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_in_one_pass),
        cmocka_unit_test(goldens_in_every_chunking),
        cmocka_unit_test(phases_alternate),
        cmocka_unit_test(a_batch_equals_each_alone),
        cmocka_unit_test(logits_of_a_large_step),
        cmocka_unit_test(a_copied_slot_goes_on),
        cmocka_unit_test(narrower_formats_stay_close),
        cmocka_unit_test(the_matrix_unit),
        cmocka_unit_test(large_steps_may_vary),
        cmocka_unit_test(goldens_by_clblast),
        cmocka_unit_test(clblast_is_asked_for_twice),
        cmocka_unit_test(inputs_in_8_bits),
        cmocka_unit_test(weights_that_are_not_for_8_bits),
    };
    const struct CMUnitTest gpu_tests[] = {
        cmocka_unit_test(goldens_in_one_pass),
        cmocka_unit_test(goldens_in_every_chunking),
        cmocka_unit_test(phases_alternate),
        cmocka_unit_test(a_batch_equals_each_alone),
        cmocka_unit_test(a_copied_slot_goes_on),
        cmocka_unit_test(weights_that_are_not_for_8_bits),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("CPU class", tests, open_device, close_device)
           + cmocka_run_group_tests_name("GPU class", gpu_tests, open_device_as_gpu, close_device);
}
