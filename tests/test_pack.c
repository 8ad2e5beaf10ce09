/* test_pack.c - checkpoints in panels: the same model bit for bit, used where it lies in the file; whole or not there;
 * refused with a reason where it does not fit. */
#include "running.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "file.h"
#include "model.h"
#include "numbers.h"
#include "os.h"

enum { TOKENS = 24 };

/* Logits after each of the first tokens: [TOKENS, V]. */
static float *logits_of(eyrie_device *dev, const char *path, eyrie_format weights, uint32_t *V)
{
    int32_t          tokens[TOKENS];
    eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = weights, .chunk = TOKENS, .context = 64 };
    ey_row           row = { .n = TOKENS, .tokens = tokens, .want = EY_WANT_ALL };
    const ey_result *results;
    eyrie_model     *m;
    uint32_t         n;

    for (int32_t i = 0; i < TOKENS; i++) tokens[i] = i;
    assert_ok(eyrie_model_open(&m, dev, path, &opts, &err));
    *V = ey_model_get_limits(m).vocab;
    float *logits = zeros((size_t)TOKENS * *V);
    assert_ok(ey_model_upload(m, &(ey_batch){ EY_PREFILL, 1, &row }, &err));
    assert_ok(ey_model_enqueue(m, EY_PREFILL, 0, UINT32_MAX, &err));
    assert_ok(ey_model_results(m, EY_PREFILL, &results, &n, &err));
    for (uint32_t i = 0; i < TOKENS; i++) assert_ok(ey_model_logits(m, EY_PREFILL, i, logits + (size_t)i * *V, &err));
    assert_ok(eyrie_model_close(m));
    return logits;
}

static eyrie_status pack(const char *model, const char *to, eyrie_format weights)
{
    return eyrie_pack(model, to, &(eyrie_model_opts){ .struct_size = sizeof(eyrie_model_opts), .weights = weights }, &err);
}

/* The path of a packed checkpoint below the test's directory, in memory that the test's numbers live in. */
static char *place_of(void **state, const char *name)
{
    char *path = (char *)zeros(1024);
    snprintf(path, 4096, "%s/%s", (const char *)*state, name);
    return path;
}

static void remove_packed(const char *directory)
{
    static const char *const files[] = { "config.json", "tokenizer.model", "model.safetensors" };

    for (size_t i = 0; i < COUNT(files); i++)
        if (remove(path_of(directory, files[i])) != 0) assert_int_equal(errno, ENOENT);
    assert_int_equal(rmdir(directory), 0);
}

static uint32_t maps;
static cl_int count_maps(const char *call)
{
    maps += strcmp(call, "clEnqueueMapBuffer") == 0;
    return CL_SUCCESS;
}

static const eyrie_format all_formats[] = { EYRIE_FORMAT_DEFAULT, EYRIE_FORMAT_F32, EYRIE_FORMAT_F16, EYRIE_FORMAT_BF16,
                                            EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };

/* Odd sizes, heads, an untied head, and a model of real sizes; with shards, and with no device memory but the host's. */
static void packed_is_the_same_model(void **state)
{
    static const char *const models[] = { GOLDEN("griffin-odd"), GOLDEN("griffin-untied"), GOLDEN("gqa"), GOLDEN("hawk-odd"),
                                          GOLDEN("griffin-wide"), SHAKESPEARE };
    eyrie_device     *small;
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .max_alloc = 200000 };

    if (!device) skip();
    assert_ok(eyrie_device_open(&small, &opts, &err));
    for (size_t i = 0; i < COUNT(models); i++)
        for (size_t f = 0; f < COUNT(all_formats); f++) {
            char    *to = place_of(state, "packed"), *from = place_of(state, "");
            uint32_t V;

            strcpy(from, source_path(models[i]));
            assert_ok(pack(from, to, all_formats[f]));
            float *want = logits_of(device, from, all_formats[f], &V);
            maps = 0;
            ey_cl_hook = count_maps;
            float *got = logits_of(device, to, EYRIE_FORMAT_DEFAULT, &V);
            ey_cl_hook = NULL;
            if (device->host_memory) assert_int_equal(maps, 0);     /* nothing was packed, nothing copied to panels */
            check_same(models[i], got, want, (size_t)TOKENS * V);
            check_same("asked for by name", logits_of(device, to, all_formats[f], &V), want, (size_t)TOKENS * V);
            check_same("in shards", logits_of(small, to, EYRIE_FORMAT_DEFAULT, &V), want, (size_t)TOKENS * V);
            bool shared = device->host_memory;
            device->host_memory = false;
            check_same("copied", logits_of(device, to, EYRIE_FORMAT_DEFAULT, &V), want, (size_t)TOKENS * V);
            device->host_memory = shared;
            remove_packed(to);
            free_numbers();
        }
    assert_ok(eyrie_device_close(small));
}

/* Also to state files: they go on with either. */
static void identity_and_information_stay(void **state)
{
    char            *to = place_of(state, "packed");
    eyrie_model_opts opts = { .struct_size = sizeof opts, .weights = EYRIE_FORMAT_Q4 };
    eyrie_model_info a = { .struct_size = sizeof a }, b = a;
    eyrie_model     *whole = open_model(SHAKESPEARE, opts), *packed;
    ey_traits        traits[2];

    memset(traits, 0, sizeof traits);
    assert_ok(pack(source_path(SHAKESPEARE), to, EYRIE_FORMAT_Q4));
    assert_ok(eyrie_model_open(&packed, device, to, NULL, &err));
    ey_model_traits(whole, &traits[0]);
    ey_model_traits(packed, &traits[1]);
    assert_int_equal(traits[0].n, traits[1].n);
    for (size_t i = 0; i < traits[0].n; i++) assert_string_equal(traits[0].list[i].value, traits[1].list[i].value);
    assert_ok(eyrie_model_get_info(whole, &a, &err));
    assert_ok(eyrie_model_get_info(packed, &b, &err));
    assert_true(b.file_bytes < a.file_bytes / 3 && b.has_tokenizer);
    a.file_bytes = b.file_bytes;
    assert_memory_equal(&a, &b, sizeof a);
    assert_ok(eyrie_model_close(packed));
    assert_ok(eyrie_model_close(whole));
    assert_ok(eyrie_model_inspect(to, NULL, &b, &err));
    assert_int_equal(b.weights, EYRIE_FORMAT_Q4);
    remove_packed(to);
    free_numbers();
}

static void what_cannot_be(void **state)
{
    char *to = place_of(state, "packed"), *other = place_of(state, "other"), *file = place_of(state, "file");
    eyrie_model_opts q8 = { .struct_size = sizeof q8, .weights = EYRIE_FORMAT_Q8 };
    eyrie_model_info info = { .struct_size = sizeof info };
    const char      *model = GOLDEN("griffin");
    char             source[4096];

    snprintf(source, sizeof source, "%s", source_path(model));
    assert_ok(pack(source, to, EYRIE_FORMAT_Q4));
    assert_fails(pack(source, to, EYRIE_FORMAT_Q4), EYRIE_EINVAL, "is there already");
    assert_fails(pack(to, other, EYRIE_FORMAT_DEFAULT), EYRIE_EINVAL, "packed already");
    assert_fails(eyrie_model_inspect(to, &q8, &info, &err), EYRIE_EINVAL, "to be q8");
    assert_fails(pack("synthetic:hawk-100m", other, EYRIE_FORMAT_Q4), EYRIE_EINVAL, "no files to pack");
    assert_fails(pack(path_of(*state, "nowhere"), other, EYRIE_FORMAT_Q4), EYRIE_EIO, "nowhere");
    assert_fails(pack(source, "", EYRIE_FORMAT_Q4), EYRIE_EINVAL, "without a name");
    assert_fails(pack(source, other, (eyrie_format)77), EYRIE_EINVAL, "77");
    write_text(*state, "file", "in the way");
    strcat(file, "/below");
    assert_fails(pack(source, file, EYRIE_FORMAT_Q4), EYRIE_EIO, "file");
    assert_false(ey_file_exists(other));
    remove_packed(to);
    free_numbers();
}

/* A packed checkpoint with one piece of its header replaced by another of the same length. */
static void damage(const char *directory, const char *was, const char *is)
{
    ey_map map;

    assert_int_equal(strlen(was), strlen(is));
    assert_ok(ey_map_open(&map, path_of(directory, "model.safetensors"), &err));
    size_t n = (size_t)map.size, length = strlen(was), at = 8;
    char  *bytes = malloc(n);
    assert_non_null(bytes);
    memcpy(bytes, map.data, n);
    ey_map_close(&map);
    while (at + length < n && memcmp(bytes + at, was, length)) at++;
    assert_true(at + length < n);
    memcpy(bytes + at, is, length);
    write_file(directory, "model.safetensors", bytes, n);
    free(bytes);
}

static void damaged_ones_are_refused(void **state)
{
    static const struct { const char *was, *is; eyrie_status status; const char *says; } cases[] = {
        { "\"eyrie_layout\":\"1\"", "\"eyrie_layout\":\"9\"", EYRIE_EFORMAT, "in layout 9, this version of Eyrie reads layout 1" },
        { "\"eyrie_layout\":\"1\"", "\"eyrie_layout\": 1 ", EYRIE_EFORMAT, "has dtype \"U8\"" },
        { "embed_tokens.weight.q8", "embed_tokens.weight.q9", EYRIE_EFORMAT, "missing in the packed checkpoint" },
        { "embed_tokens.weight.q8", "embed_tokens.weight.q4", EYRIE_EFORMAT, "config.json wants" },
        { "\"U8\"", "\"U9\"", EYRIE_EFORMAT, "has dtype \"U9\"" },
        { "final_norm.weight", "final_norm.heighx", EYRIE_EFORMAT, "final_norm.weight: missing" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char            *to = place_of(state, "packed");
        eyrie_model_info info = { .struct_size = sizeof info };

        assert_ok(pack(source_path(GOLDEN("griffin")), to, EYRIE_FORMAT_Q4));
        damage(to, cases[i].was, cases[i].is);
        assert_fails(eyrie_model_inspect(to, NULL, &info, &err), cases[i].status, cases[i].says);
        remove_packed(to);
    }
    free_numbers();
}

/* The identity goes into state files: a strange one is refused when the model is opened. */
static void a_strange_identity_is_refused(void **state)
{
    char        *to = place_of(state, "packed");
    eyrie_model *m;
    ey_traits    traits;

    if (!device) skip();
    assert_ok(pack(source_path(GOLDEN("griffin")), to, EYRIE_FORMAT_Q4));
    assert_ok(eyrie_model_open(&m, device, to, NULL, &err));
    memset(&traits, 0, sizeof traits);
    ey_model_traits(m, &traits);
    assert_ok(eyrie_model_close(m));
    damage(to, traits.list[0].value, "0123456789abcdef0123456789abcdeg");
    assert_fails(eyrie_model_open(&m, device, to, NULL, &err), EYRIE_EFORMAT, "is no identity");
    damage(to, "eyrie_identity", "eyrie_identify");
    assert_ok(eyrie_model_open(&m, device, to, NULL, &err));        /* told by what the file holds */
    assert_ok(eyrie_model_close(m));
    remove_packed(to);
    free_numbers();
}

/* Cut short anywhere, in its header or in a tensor. */
static void cut_ones_are_refused(void **state)
{
    char            *to = place_of(state, "packed"), *name = place_of(state, "packed/model.safetensors");
    eyrie_model_info info = { .struct_size = sizeof info };
    struct stat      before;

    assert_ok(pack(source_path(GOLDEN("griffin-odd")), to, EYRIE_FORMAT_Q8));
    assert_int_equal(stat(name, &before), 0);
    for (off_t size = before.st_size - EY_ALIGNMENT; size > 0; size /= 3) {
        assert_int_equal(truncate(name, size), 0);
        assert_fails(eyrie_model_inspect(to, NULL, &info, &err), EYRIE_EFORMAT, "model.safetensors");
    }
    remove_packed(to);
    free_numbers();
}

static uint32_t entries_in(const char *directory)
{
    DIR     *d = opendir(directory);
    uint32_t n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL; ) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Neither a full disk nor memory that runs out leaves anything behind. */
static void failures_leave_nothing(void **state)
{
    char         *to = place_of(state, "packed"), source[4096];
    struct rlimit before, small;
    void        (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    snprintf(source, sizeof source, "%s", source_path(GOLDEN("griffin")));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t room = 100; room < 200000; room *= 9) {
        small = before;
        small.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        eyrie_status st = pack(source, to, EYRIE_FORMAT_F32);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        check_failure("pack", st, EYRIE_EIO, "File too large");
        assert_int_equal(entries_in(*state), 0);
    }
    signal(SIGXFSZ, handler);

    eyrie_status st;
    size_t       n = 0;
    for (; fail_allocation(n), st = pack(source, to, EYRIE_FORMAT_Q4), allocation_failed(); n += 1 + n / 8) {
        if (st == EYRIE_OK) fail_msg("packed without allocation %zu", n);
        assert_int_equal(entries_in(*state), 0);
    }
    assert_ok(st);
    assert_in_range(n, 20, 100000);
    remove_packed(to);
    free_numbers();
}

static bool holds(const ey_map *text, const char *part)
{
    size_t length = strlen(part);
    for (size_t i = 0; i + length <= text->size; i++)
        if (memcmp(text->data + i, part, length) == 0) return true;
    return false;
}

static void the_command_packs(void **state)
{
    char line[9000], *to = place_of(state, "packed");

    snprintf(line, sizeof line, "\"%s\" pack -m \"%s\" --weights q8 -o \"%s\" >\"%s/out\" 2>&1", EY_COMMAND, source_path(GOLDEN("griffin")),
             to, (const char *)*state);
    assert_int_equal(system(line), 0);
    ey_map out;
    assert_ok(ey_map_open(&out, path_of(*state, "out"), &err));
    assert_true(holds(&out, "packed: q8, "));
    ey_map_close(&out);
    assert_int_equal(WEXITSTATUS(system(line)), 1);         /* it is there now */
    assert_ok(ey_map_open(&out, path_of(*state, "out"), &err));
    assert_true(holds(&out, "is there already"));
    ey_map_close(&out);
    remove_packed(to);
    free_numbers();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(packed_is_the_same_model),
        test_in_dir(identity_and_information_stay),
        test_in_dir(what_cannot_be),
        test_in_dir(damaged_ones_are_refused),
        test_in_dir(a_strange_identity_is_refused),
        test_in_dir(cut_ones_are_refused),
        test_in_dir(failures_leave_nothing),
        test_in_dir(the_command_packs),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
