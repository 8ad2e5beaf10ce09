/* test_tune.c - tiles that were measured: the table in the cache, what ops make of it, and the search that fills it. How
 * fast anything is, no test says. */
#include "harness.h"

#include "tiles.h"

#include <eyrie/eyrie_tools.h>

#define MODEL EY_SOURCE_DIR "/tests/golden/griffin"
#define SHAPE "synthetic:" MODEL "/config.json"

/* What the library had to say. */
static unsigned noted;
static char last_note[512];

static void take_note(void *user, const char *line)
{
    (void)user;
    noted++;
    snprintf(last_note, sizeof last_note, "%s", line);
}

static void expect_notes(unsigned n, const char *part)
{
    if (noted != n || (n && !strstr(last_note, part))) fail_msg("%u notes, not %u; the last: %s", noted, n, last_note);
    noted = 0;
}

/* Few floats in a register: two tiles, 1x2 and 4x2, which compile fast. */
static eyrie_device *open_narrow(const char *cache, const char *kernels)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .cache_dir = cache,
                               .kernel_dir = kernels, .log = take_note };
    eyrie_device *dev;

    if (!shared.device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    dev->vector = 1;
    return dev;
}

/* A device of this test's own with a cache. */
static void open_lab(lab *l, const char *cache)
{
    if (!shared.device) skip();
    lab_open(l, 0, 16);
    l->device->cache = ey_cache_open(cache, 1 << 20, &(ey_log){ take_note, NULL });
    assert_non_null(l->device->cache);
    l->device->log = (ey_log){ take_note, NULL };
}

static ey_tuned entry(eyrie_format format, uint32_t tokens, uint32_t rows, uint32_t panels)
{
    return (ey_tuned){ { "matmul", format, 48, 32, 1, false, tokens }, { rows, panels }, 1000, 1250 };
}

/* ----------------------------------------------------------------------------------------------------------- table */

static void entries_come_back(void **state)
{
    ey_tuned one = entry(EYRIE_FORMAT_BF16, 4, 1, 4), two = one, other = one;
    ey_tuning *t;
    lab l;

    open_lab(&l, *state);
    assert_null(ey_tuning_read(l.device));
    assert_ok(ey_tuning_keep(l.device, &one, &err));
    snprintf(two.product.kernel, sizeof two.product.kernel, "matmul_geglu_int8");
    two.product.normed = true;
    two.nanoseconds = UINT64_MAX;
    two.gain = 1000;
    assert_ok(ey_tuning_keep(l.device, &two, &err));
    one.tile = (ey_tile){ 8, 2 };
    assert_ok(ey_tuning_keep(l.device, &one, &err));        /* in the place of the first */
    assert_non_null(t = ey_tuning_read(l.device));
    assert_int_equal(t->n, 2);
    for (size_t i = 0; i < 2; i++) {
        const ey_tuned *want = i ? &two : &one, *got = ey_tuning_find(t, &want->product);
        assert_non_null(got);
        assert_int_equal(got->tile.rows, want->tile.rows);
        assert_int_equal(got->tile.panels, want->tile.panels);
        assert_true(got->nanoseconds == want->nanoseconds);
        assert_int_equal(got->gain, want->gain);
    }
    other.product.format = EYRIE_FORMAT_F32;
    assert_null(ey_tuning_find(t, &other.product));
    other = one, other.product.rows++;
    assert_null(ey_tuning_find(t, &other.product));
    other = one, other.product.cols++;
    assert_null(ey_tuning_find(t, &other.product));
    other = one, other.product.blocks++;
    assert_null(ey_tuning_find(t, &other.product));
    other = one, other.product.tokens *= 2;
    assert_null(ey_tuning_find(t, &other.product));
    other = one, other.product.normed = true;
    assert_null(ey_tuning_find(t, &other.product));
    assert_null(ey_tuning_find(NULL, &one.product));
    ey_free(t);
    lab_close(&l);
    expect_notes(0, "");
}

/* Another device, driver, platform, number of units, table of tiles or kernel text has a table of its own. */
static void foreign_tables(void **state)
{
    ey_tuned one = entry(EYRIE_FORMAT_F32, 4, 1, 4);
    ey_tuning *t;
    eyrie_device *dev;
    lab l;

    open_lab(&l, *state);
    dev = l.device;
    assert_ok(ey_tuning_keep(dev, &one, &err));
    dev->name[0] ^= 1;
    assert_null(ey_tuning_read(dev));
    dev->name[0] ^= 1;
    dev->platform_name[0] ^= 1;
    assert_null(ey_tuning_read(dev));
    dev->platform_name[0] ^= 1;
    dev->units++;
    assert_null(ey_tuning_read(dev));
    dev->units--;
    dev->vector = 1;
    assert_null(ey_tuning_read(dev));
    dev->vector = 16;
    write_text(*state, "matmul.cl", "another");
    dev->kernel_dir = ey_strdup(*state);
    assert_null(ey_tuning_read(dev));
    ey_free(dev->kernel_dir);
    dev->kernel_dir = NULL;
    assert_non_null(t = ey_tuning_read(dev));
    ey_free(t);
    lab_close(&l);
    expect_notes(0, "");
}

static void flip(const char *directory, long at)
{
    DIR *d = opendir(directory);
    struct dirent *e;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        if (!strstr(e->d_name, ".tuning")) continue;
        FILE *f = fopen(path_of(directory, e->d_name), "r+b");
        int c;
        assert_non_null(f);
        assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
        c = fgetc(f);
        assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
        fputc(c ^ 1, f);
        fclose(f);
    }
    closedir(d);
}

static void damaged_tables(void **state)
{
    static const struct { uint32_t rows, panels, gain; } wrong[] = { { 3, 3, 1000 }, { 0, 4, 1000 }, { 1, 4, 0 } };
    static const long places[] = { 0, 20, 76, -1 };
    ey_tuned one = entry(EYRIE_FORMAT_F32, 4, 1, 4);
    lab l;

    open_lab(&l, *state);
    for (size_t i = 0; i < COUNT(places); i++) {            /* whose checksum is wrong: the cache removes it */
        assert_ok(ey_tuning_keep(l.device, &one, &err));
        expect_notes(0, "");
        flip(*state, places[i]);
        ey_tuning_load(l.device);
        assert_null(l.device->tuning);
        expect_notes(1, "removed");
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {             /* that is whole, and makes no sense here */
        ey_tuned bad = entry(EYRIE_FORMAT_F32, 4, wrong[i].rows, wrong[i].panels);
        bad.gain = wrong[i].gain;
        assert_fails(ey_tuning_keep(l.device, &bad, &err), EYRIE_EIO, "--cache-dir");
        noted = 0;
        ey_tuning_load(l.device);
        assert_null(l.device->tuning);
        expect_notes(1, "not used");
        assert_ok(ey_tuning_keep(l.device, &one, &err));    /* the next search writes it anew */
        noted = 0;
    }
    for (size_t n = 0; fail_allocation(n), ey_tuning_load(l.device), allocation_failed(); n++)
        assert_null(l.device->tuning);
    assert_non_null(l.device->tuning);
    for (size_t n = 0; fail_allocation(n), (void)ey_tuning_keep(l.device, &one, &err), allocation_failed(); n++);
    lab_close(&l);
    noted = 0;
}

/* ------------------------------------------------------------------------------------------------------------- ops */

/* One product of 16 tokens with this table, and which kernel it was. */
static float *product(lab *l, const char *directory, eyrie_format format, const float *x, char label[40])
{
    enum { N = 48, K = 32, T = 16 };
    const tensor file[] = { { "w", { N, K }, noise((size_t)N * K, 1, 1.0f) } };
    float *y;
    rig r;

    rig_open(&r, l, EYRIE_FORMAT_F32, EY_PREFILL, T, 1);
    ey_weights *w = rig_weights(&r, directory, format, file, COUNT(file));
    ey_matrix *m = ey_weights_matrix(w, &(ey_part){ "w", NULL, ey_dim_flat(N) }, 1, ey_dim_flat(K));
    ey_act in = hold(&r, ey_plan_act(&r.plan, T, K)), out = hold(&r, ey_matmul(&r.plan, in, m));
    rig_seal(&r);
    put(&r, in, ey_dim_flat(K), x, T);
    rig_run(&r, &(ey_row){ .n = T }, 1, NULL);
    y = get(&r, out, ey_dim_flat(N), T);
    snprintf(label, 40, "%s", r.plan.records[0].label);
    rig_close(&r);
    return y;
}

/* The recorded kernel is the table's, for that product and no other, and its result has the same bits. */
static void table_decides(void **state)
{
    const float *x = noise((size_t)16 * 32, 2, 1.0f), *y;
    char label[40], want[40];
    lab l;

    open_lab(&l, *state);
    for (size_t f = 0; f < COUNT(weight_formats); f++) {
        size_t n;
        const ey_tile *tiles = ey_device_tiles(l.device, &n);
        const char *name = ey_quant_of(weight_formats[f])->name;

        y = product(&l, *state, weight_formats[f], x, label);
        snprintf(want, sizeof want, "matmul_%s_8x2", name);     /* built in for 16 rows */
        assert_string_equal(label, want);
        for (size_t i = 0; i < n; i++) {
            ey_tuned decided = entry(weight_formats[f], 16, tiles[i].rows, tiles[i].panels);
            assert_ok(ey_tuning_keep(l.device, &decided, &err));
            ey_tuning_load(l.device);
            snprintf(want, sizeof want, "matmul_%s_%ux%u", name, (unsigned)tiles[i].rows, (unsigned)tiles[i].panels);
            check_same("tuned", product(&l, *state, weight_formats[f], x, label), y, 16 * 48);
            assert_string_equal(label, want);
        }
        ey_free(l.device->tuning);
        l.device->tuning = NULL;
        assert_int_equal(remove(path_of(*state, "model.safetensors")), 0);
    }
    lab_close(&l);
    expect_notes(0, "");
}

/* A tile that a product cannot have is no answer: gates in blocks of one panel have tiles of two. */
static void impossible_tiles(void **state)
{
    enum { G = 3, P = 16, T = 4 };
    const tensor file[] = { { "a", { G, P, P }, noise(G * P * P, 1, 1.0f) }, { "ba", { G, P }, noise(G * P, 2, 1.0f) } };
    const ey_part parts[] = { { "a", "ba", { G, P } }, { "a", "ba", { G, P } } };
    ey_tuned wide = { { "matmul", EYRIE_FORMAT_F32, 2 * G * P, P, G, false, T }, { 4, 4 }, 1000, 2000 };
    lab l;
    rig r;

    open_lab(&l, *state);
    assert_ok(ey_tuning_keep(l.device, &wide, &err));
    ey_tuning_load(l.device);
    rig_open(&r, &l, EYRIE_FORMAT_F32, EY_PREFILL, T, 1);
    ey_matrix *m = ey_weights_gates(rig_weights(&r, *state, EYRIE_FORMAT_F32, file, COUNT(file)), parts);
    (void)ey_matmul(&r.plan, ey_plan_act(&r.plan, T, G * P), m);
    assert_string_equal(r.plan.records[0].label, "matmul_f32_8x2");
    rig_close(&r);
    lab_close(&l);
}

/* ---------------------------------------------------------------------------------------------------------- search */

/* OpenCL calls are counted, and fail once `most_heard` products were heard of. */
static unsigned launches, most_heard;

typedef struct heard {
    unsigned    n, known, wrong;
    eyrie_tuned last;
} heard;

static heard now;

static cl_int count_launches(const char *call)
{
    launches += strcmp(call, "clEnqueueNDRangeKernel") == 0;
    return now.n >= most_heard ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

static void hear(void *user, const eyrie_tuned *t)
{
    heard *h = user;

    assert_true(t->op[0] && t->tile[0] && t->rows && t->cols && t->blocks && t->tokens && t->gain >= 1);
    assert_true(t->seconds > 0);
    h->n++;
    h->known += t->known;
    h->wrong += t->wrong[0] != '\0';
    h->last = *t;
}

static eyrie_status search(eyrie_device *dev, const char *model, bool again, unsigned most, eyrie_tune_summary *sum)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = 2, .chunk = 20, .compute = EYRIE_COMPUTE_F32 };
    eyrie_tune_opts tune = { .again = again, .on_tuned = hear, .user = &now };
    eyrie_status st;

    now = (heard){ 0 };
    launches = 0;
    most_heard = most;
    ey_cl_hook = count_launches;
    st = eyrie_tune(dev, model, &opts, &tune, sum, &err);
    ey_cl_hook = NULL;
    assert_int_equal(sum->products, now.n);
    assert_int_equal(sum->known, now.known);
    assert_int_equal(sum->wrong, now.wrong);
    assert_int_equal(dev->used, 0);
    assert_null(dev->tuning);
    return st;
}

static void write_down(void *user, eyrie_seq *seq, const eyrie_event *e)
{
    char *text = user;
    size_t n = strlen(text);

    (void)seq;
    snprintf(text + n, 4096 - n, "%d %d %a\n", (int)e->kind, (int)e->token, (double)e->logprob);
}

/* Tokens that follow a few, and the bits of their log-probabilities, as text; the launches that opening the model took. */
static void run_model(eyrie_device *dev, const char *model, char text[4096], unsigned *at_load)
{
    static const int32_t tokens[] = { 2, 5, 9, 17, 3, 11, 8, 30, 21, 4, 6, 12, 2, 7, 33, 40, 1, 9, 10 };
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = 2, .chunk = 20, .compute = EYRIE_COMPUTE_F32 };
    eyrie_request r = { .struct_size = sizeof r, .tokens = tokens, .n_tokens = COUNT(tokens), .max_tokens = 12,
                        .flags = EYRIE_IGNORE_EOS, .on_event = write_down, .user = text };
    eyrie_model *m;
    eyrie_engine *e;
    eyrie_seq *s;
    bool busy = true;

    launches = 0;
    most_heard = UINT32_MAX;
    ey_cl_hook = count_launches;
    assert_ok(eyrie_model_open(&m, dev, model, &opts, &err));
    ey_cl_hook = NULL;
    *at_load = launches;
    assert_ok(eyrie_engine_open(&e, m, NULL, &err));
    assert_ok(eyrie_seq_open(&s, e, &err));
    text[0] = '\0';
    assert_ok(eyrie_seq_submit(s, &r, &err));
    while (busy) assert_ok(eyrie_engine_step(e, &busy, &err));
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

/* A search that fails after some products goes on with the others; then all is known, nothing is launched, and the model
 * computes what it did before. */
static void search_resumes(void **state)
{
    char before[4096], after[4096];
    unsigned at_load[3], all;
    eyrie_tune_summary sum;
    eyrie_device *dev = open_narrow(NULL, NULL);

    run_model(dev, MODEL, before, &at_load[0]);
    assert_ok(eyrie_device_close(dev));
    dev = open_narrow(*state, NULL);
    run_model(dev, MODEL, after, &at_load[1]);
    assert_string_equal(before, after);
    assert_int_equal(at_load[0], at_load[1]);               /* nothing is measured when a model is opened */
    assert_null(dev->tuning);

    assert_int_equal(search(dev, MODEL, false, 5, &sum), EYRIE_EDEVICE);
    assert_int_equal(sum.products, 5);
    assert_int_equal(sum.known, 0);
    assert_ok(search(dev, MODEL, false, UINT32_MAX, &sum));
    assert_int_equal(sum.known, 5);
    assert_int_equal(sum.wrong, 0);
    assert_in_range(all = sum.products, 20, 60);            /* of 6 matrices, with 1, 2, 8, 16 and 32 rows */
    assert_ok(search(dev, MODEL, false, UINT32_MAX, &sum));
    assert_int_equal(sum.known, all);
    assert_int_equal(launches, 0);
    assert_ok(eyrie_device_close(dev));

    dev = open_narrow(*state, NULL);
    run_model(dev, MODEL, after, &at_load[2]);
    assert_non_null(dev->tuning);
    assert_int_equal(dev->tuning->n, all);
    assert_string_equal(before, after);
    assert_ok(eyrie_device_close(dev));
    expect_notes(0, "");
}

/* Kernels of which one tile is wrong: 4x2, of plain products, forgets the bias of the first panel. */
static void write_broken_kernels(const char *directory)
{
    const char *text = NULL, *bias = "float16 v = sum[r][p] + vload16(first + p, bias);", *at;
    char *broken;

    for (size_t i = 0; i < ey_kernel_texts_count; i++)
        if (!strcmp(ey_kernel_texts[i].name, "matmul.cl")) text = (const char *)ey_kernel_texts[i].text;
    assert_non_null(text);
    at = strstr(text, bias);
    assert_non_null(at);
    broken = malloc(strlen(text) + 100);
    sprintf(broken, "%.*sfloat16 v = sum[r][p] + (ROWS == 4 ? 1.0f : 0.0f);%s", (int)(at - text), text, at + strlen(bias));
    write_text(directory, "matmul.cl", broken);
    free(broken);
}

static void broken_tiles_are_found(void **state)
{
    eyrie_tune_summary sum;
    eyrie_device *dev;

    write_broken_kernels(*state);
    dev = open_narrow(*state, *state);
    assert_ok(search(dev, SHAPE, false, UINT32_MAX, &sum));
    assert_in_range(sum.wrong, 10, sum.products - 1);       /* not those of gate and up, and of the gates in decode */
    assert_ok(eyrie_device_close(dev));
    dev = open_narrow(*state, NULL);                        /* what was found of those kernels is not of these */
    ey_tuning_load(dev);
    assert_null(dev->tuning);
    assert_ok(eyrie_device_close(dev));
}

static void what_a_search_needs(void **state)
{
    eyrie_tune_summary sum;
    eyrie_device *dev = open_narrow(NULL, NULL);

    assert_fails(search(dev, MODEL, false, UINT32_MAX, &sum), EYRIE_EINVAL, "--cache-dir");
    assert_ok(eyrie_device_close(dev));
    dev = open_narrow(*state, NULL);
    assert_fails(search(dev, *state, false, UINT32_MAX, &sum), EYRIE_EIO, "config.json");
    dev->memory = 8 << 10;
    assert_fails(search(dev, MODEL, false, UINT32_MAX, &sum), EYRIE_EMEMORY, "--memory");
    assert_ok(eyrie_device_close(dev));
    noted = 0;
}

/* Whatever call or allocation fails, the search ends with a message and leaves nothing behind. */
static unsigned calls_left;

static cl_int fail_one_call(const char *call)
{
    (void)call;
    return calls_left-- == 0 ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

static void failing_searches(void **state)
{
    const eyrie_tune_opts tune = { .again = true };
    eyrie_device *dev = open_narrow(*state, NULL);
    eyrie_model_opts opts = { .struct_size = sizeof opts, .chunk = 1, .compute = EYRIE_COMPUTE_F32 };
    eyrie_tune_summary sum;

    for (unsigned n = 0; n < 1000; n += n < 60 ? 3 : 50) {
        calls_left = n;
        ey_cl_hook = fail_one_call;
        memset(&err, 0, sizeof err);
        eyrie_status st = eyrie_tune(dev, MODEL, &opts, &tune, &sum, &err);
        ey_cl_hook = NULL;
        if (st == EYRIE_OK || !err.text[0]) fail_msg("call %u: status %d, \"%s\"", n, (int)st, err.text);
        assert_int_equal(dev->used, 0);
        assert_null(dev->tuning);
    }
    for (size_t n = 0; n < 500; n += n < 30 ? 1 : 17) {
        fail_allocation(n);
        memset(&err, 0, sizeof err);
        eyrie_status st = eyrie_tune(dev, MODEL, &opts, &tune, &sum, &err);
        if (allocation_failed() && st != EYRIE_OK) assert_true(err.text[0]);
        assert_int_equal(dev->used, 0);
        assert_null(dev->tuning);
    }
    assert_ok(eyrie_device_close(dev));
    noted = 0;
}

/* --------------------------------------------------------------------------------------------------------- variants */

static void variants_tell(void **state)
{
    ey_tuned one = entry(EYRIE_FORMAT_F32, 4, 1, 4), own = entry(EYRIE_FORMAT_F16, 4, 4, 4);
    eyrie_variant list[16];
    size_t n, found = 0;
    lab l;

    open_lab(&l, *state);
    own.gain = 1000;
    assert_ok(ey_tuning_keep(l.device, &one, &err));
    assert_ok(ey_tuning_keep(l.device, &own, &err));
    n = eyrie_device_variants(l.device, list, COUNT(list));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].name, "tuned tiles")) continue;
        found++;
        assert_true(list[i].chosen);
        assert_non_null(strstr(list[i].reason, "2 products measured"));
        assert_non_null(strstr(list[i].reason, "1 with another"));
    }
    assert_int_equal(found, 1);
    lab_close(&l);
}

/* test_tune [PATTERN]: those tests alone, * and ? being any characters. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        op_test(entries_come_back),
        op_test(foreign_tables),
        op_test(damaged_tables),
        op_test(table_decides),
        op_test(impossible_tiles),
        op_test(search_resumes),
        op_test(broken_tiles_are_found),
        op_test(what_a_search_needs),
        op_test(failing_searches),
        op_test(variants_tell),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return run_cpu_tests(tests);
}
