/* test_file.c - safetensors checkpoints: what good ones say, and that no bad one gets further than a message. */
#include "testing.h"

#include <math.h>
#include <sys/stat.h>

#include "file.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

/* Five tensors in a body of 40 bytes, out of order of name, with padding, a scalar, an empty one and a hole. */
#define GOOD                                                                                                  \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                                  \
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"                                      \
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,1,2,1],\"data_offsets\":[24,28]},"                                \
    "\"__pad0\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[28,31]},"                                   \
    "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[8,8]},"                                   \
    "\"scalar\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[36,38]},"                                   \
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[38,40]}}   "

#define T(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const unsigned char body[40];

/* Opens `directory`, which must fail with that status and a message of one line that holds the fragment. */
static void expect_failure(const char *directory, eyrie_status want, const char *fragment)
{
    ey_file     *f = (ey_file *)&f;
    eyrie_error  err = { EYRIE_OK, 1, "" };
    eyrie_status st = ey_file_open(&f, directory, &err);

    if (st != want || !strstr(err.text, fragment)) {
        fail_msg("status %d, message \"%s\"; wanted %d and \"%s\"", (int)st, err.text, (int)want, fragment);
    }
    assert_null(f);
    assert_int_equal(err.status, want);
    assert_int_equal(err.cl_code, 0);
    assert_null(strchr(err.text, '\n'));
}

static ey_file *open_good(const char *directory)
{
    ey_file    *f;
    eyrie_error err;

    if (ey_file_open(&f, directory, &err) != EYRIE_OK) fail_msg("%s", err.text);
    return f;
}

static void test_good_file(void **state)
{
    static const char *const names[] = { "a", "b", "empty", "scalar", "w" };
    char                 *directory = *state;
    float                 values[6] = { 1.5f, -2, 0, 3e38f, -0.25f, 1e-40f }, read[6];
    unsigned char         bytes[40] = { 0 };
    ey_file              *f;
    const ey_tensor_data *t;

    for (size_t i = 0; i < 6; i++) {   /* little endian, whatever this machine is */
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        for (size_t j = 0; j < 4; j++) bytes[4 * i + j] = (unsigned char)(bits >> 8 * j);
    }
    bytes[39] = 0x40;   /* a = 2 */
    write_safetensors(directory, SINGLE, GOOD, bytes, sizeof bytes);
    f = open_good(directory);

    assert_int_equal(ey_file_count(f), COUNT(names));   /* neither padding nor metadata */
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_string_equal(ey_file_at(f, i)->name, names[i]);
        assert_ptr_equal(ey_file_find(f, names[i]), ey_file_at(f, i));
        assert_non_null(strstr(ey_file_at(f, i)->file, SINGLE));
    }
    assert_null(ey_file_find(f, "__pad0"));
    assert_null(ey_file_find(f, "__metadata__"));
    assert_null(ey_file_find(f, "ww"));
    assert_int_equal(ey_file_bytes(f), 24 + 4 + 0 + 2 + 2);

    t = ey_file_find(f, "w");
    assert_int_equal(t->dtype, EY_F32);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->count, 6);
    ey_tensor_read(t, 0, 6, read);
    assert_memory_equal(read, values, sizeof values);
    ey_tensor_read(t, 4, 2, read);
    assert_memory_equal(read, values + 4, 2 * sizeof values[0]);
    t = ey_file_find(f, "b");
    assert_int_equal(t->rank, 4);
    assert_int_equal(t->shape[2], 2);
    assert_int_equal(t->count, 2);
    t = ey_file_find(f, "empty");
    assert_int_equal(t->count, 0);
    ey_tensor_read(t, 0, 0, read);
    t = ey_file_find(f, "scalar");
    assert_int_equal(t->rank, 0);
    assert_int_equal(t->count, 1);
    ey_tensor_read(ey_file_find(f, "a"), 0, 1, read);
    assert_true(read[0] == 2);
    ey_file_close(f);
    ey_file_close(NULL);

    write_safetensors(directory, SINGLE, "{}", NULL, 0);
    f = open_good(directory);
    assert_int_equal(ey_file_count(f), 0);
    assert_null(ey_file_find(f, "w"));
    ey_file_close(f);
}

static void test_hostile_headers(void **state)
{
    static const struct {
        const char *header, *message;
    } cases[] = {   /* in front of a body of 40 bytes */
        { "", "is empty" },
        { "[]", "is []; it must be a JSON object" },
        { "null", "is null; it must be a JSON object" },
        { "{\"w\":", "malformed JSON at line 1" },
        { "{} {}", "malformed JSON" },
        { "{\"w\":{\"shape\":[NaN]}}", "malformed JSON" },
        { "{\"\xff\":1}", "malformed JSON" },
        { "{\"a\\u0000b\":1}", "malformed JSON" },
        { "{" T("w", "\"F32\"", "[1]", "[0,4]") "," T("w", "\"F32\"", "[1]", "[4,8]") "}", "duplicate object key" },
        { "{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", "duplicate object key" },
        { "{\"__metadata__\":[1]}", "\"__metadata__\" must be an object" },
        { "{\"w\":[1,2]}", "tensor \"w\" is [1,2]; it must be an object" },
        { "{" T("", "\"F32\"", "[1]", "[0,4]") "}", "empty name" },
        { "{\"w\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "tensor \"w\" has dtype missing" },
        { "{" T("w", "4", "[1]", "[0,4]") "}", "tensor \"w\" has dtype 4" },
        { "{" T("w", "\"I64\"", "[1]", "[0,8]") "}", "tensor \"w\" has dtype \"I64\"; it must be F32, F16 or BF16" },
        { "{" T("w", "\"f32\"", "[1]", "[0,4]") "}", "tensor \"w\" has dtype \"f32\"" },
        { "{" T("w", "\"U8\"", "[4]", "[0,4]") "}", "tensor \"w\" has dtype \"U8\"" },
        { "{" T("__pad", "\"I8\"", "[4]", "[0,4]") "}", "tensor \"__pad\" has dtype \"I8\"" },
        { "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "tensor \"w\" has shape missing" },
        { "{" T("w", "\"F32\"", "\"1\"", "[0,4]") "}", "tensor \"w\" has shape \"1\"" },
        { "{" T("w", "\"F32\"", "[1,1,1,1,1]", "[0,4]") "}", "tensor \"w\" has shape [1,1,1,1,1]; it must be" },
        { "{" T("w", "\"F32\"", "[-1]", "[0,4]") "}", "tensor \"w\" has shape [-1]" },
        { "{" T("w", "\"F32\"", "[-1,-1]", "[0,4]") "}", "tensor \"w\" has shape [-1,-1]" },
        { "{" T("w", "\"F32\"", "[1.0]", "[0,4]") "}", "tensor \"w\" has shape [1.0]" },
        { "{" T("w", "\"F32\"", "[true]", "[0,4]") "}", "tensor \"w\" has shape [true]" },
        { "{" T("w", "\"F32\"", "[4294967296,4294967296]", "[0,0]") "}", "tensor \"w\" has shape [4294967296,429" },
        { "{" T("w", "\"F32\"", "[4611686018427387904]", "[0,0]") "}", "tensor \"w\" has shape [4611686018427387904]" },
        { "{" T("w", "\"F32\"", "[18446744073709551617]", "[0,4]") "}", "malformed JSON" },
        { "{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", "tensor \"w\" has data_offsets missing" },
        { "{" T("w", "\"F32\"", "[1]", "[4]") "}", "tensor \"w\" has data_offsets [4]" },
        { "{" T("w", "\"F32\"", "[1]", "[0,4,8]") "}", "tensor \"w\" has data_offsets [0,4,8]" },
        { "{" T("w", "\"F32\"", "[1]", "{\"0\":0,\"1\":4}") "}", "tensor \"w\" has data_offsets {" },
        { "{" T("w", "\"F32\"", "[1]", "[-4,0]") "}", "tensor \"w\" has data_offsets [-4,0]" },
        { "{" T("w", "\"F32\"", "[1]", "[0.0,4]") "}", "tensor \"w\" has data_offsets [0.0,4]" },
        { "{" T("w", "\"F32\"", "[1]", "[8,4]") "}", "tensor \"w\" has data_offsets [8,4]" },
        { "{" T("w", "\"F32\"", "[1]", "[0,5]") "}", "do not fill the 5 bytes" },
        { "{" T("w", "\"BF16\"", "[3,2]", "[0,24]") "}", "shape [3,2] and dtype BF16, which do not fill the 24 bytes" },
        { "{" T("w", "\"F32\"", "[0]", "[0,4]") "}", "do not fill the 4 bytes" },
        { "{" T("w", "\"F32\"", "[1]", "[37,41]") "}", "tensor \"w\" ends at byte 105 of a file of 104 bytes" },
        { "{" T("w", "\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]") "}", "truncated or damaged" },
        { "{" T("w", "\"F32\"", "[2305843009213693951]", "[0,9223372036854775804]") "}", "truncated or damaged" },
        { "{" T("__pad", "\"U8\"", "[41]", "[0,41]") "}", "tensor \"__pad\" ends at" },
        { "{" T("w", "\"F32\"", "[2]", "[0,8]") "," T("v", "\"F32\"", "[2]", "[4,12]") "}", "inside tensor \"w\"" },
        { "{" T("w", "\"F32\"", "[2]", "[0,8]") "," T("v", "\"F16\"", "[1]", "[2,4]") "}", "tensor \"v\" begins at" },
        { "{" T("w", "\"F32\"", "[2]", "[8,16]") "," T("__pad", "\"U8\"", "[9]", "[0,9]") "}", "inside tensor \"__pad" },
        { "{" T("w", "\"F32\"", "[1]", "[0,4]") "," T("v", "\"F32\"", "[1]", "[0,4]") "}", "inside tensor" },
        { "{" T("two\\nlines", "\"I8\"", "[1]", "[0,1]") "}", "tensor \"two lines\" has dtype" },
    };
    char *directory = *state, deep[20001];

    for (size_t i = 0; i < COUNT(cases); i++) {
        write_safetensors(directory, SINGLE, cases[i].header, body, sizeof body);
        expect_failure(directory, EYRIE_EFORMAT, cases[i].message);
    }
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    write_safetensors(directory, SINGLE, deep, body, sizeof body);
    expect_failure(directory, EYRIE_EFORMAT, "malformed JSON");
}

static void test_hostile_lengths(void **state)
{
    static const struct {
        uint64_t    length;
        const char *message;
    } cases[] = {   /* of the header, in a file of 48 bytes */
        { 0, "is empty" },
        { 41, "a header of 41 bytes does not fit the file of 48 bytes" },
        { UINT64_C(1) << 63, "a header of 9223372036854775808 bytes does not fit the file of 48 bytes" },
        { UINT64_MAX, "a header of 18446744073709551615 bytes does not fit the file of 48 bytes" },
        { UINT64_MAX - 7, "does not fit the file of 48 bytes" },
    };
    char         *directory = *state;
    unsigned char bytes[48];
    FILE         *f;

    for (size_t i = 0; i < COUNT(cases); i++) {
        memset(bytes, ' ', sizeof bytes);
        for (size_t j = 0; j < 8; j++) bytes[j] = (unsigned char)(cases[i].length >> 8 * j);
        write_file(directory, SINGLE, bytes, sizeof bytes);
        expect_failure(directory, EYRIE_EFORMAT, cases[i].message);
    }

    /* A header above the limit, in a file with a hole: refused before a byte of it is read. */
    memset(bytes, 0, 8);
    bytes[3] = 0x40;   /* 1 GiB */
    write_file(directory, SINGLE, bytes, 8);
    f = fopen(path_of(directory, SINGLE), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0x40000000L + 8, SEEK_SET), 0);
    assert_int_equal(fputc(0, f), 0);
    assert_int_equal(fclose(f), 0);
    expect_failure(directory, EYRIE_EFORMAT, "has 1073741824 bytes of JSON; the limit is 100000000");
}

/* The bytes of the good file, for tests that spoil them. */
static size_t good_bytes(const char *directory, unsigned char *bytes, size_t room)
{
    FILE  *f;
    size_t n;

    write_safetensors(directory, SINGLE, GOOD, body, sizeof body);
    f = fopen(path_of(directory, SINGLE), "rb");
    assert_non_null(f);
    n = fread(bytes, 1, room, f);
    fclose(f);
    assert_int_equal(n, 8 + strlen(GOOD) + sizeof body);
    return n;
}

static void test_truncation(void **state)
{
    char         *directory = *state, both[64];
    unsigned char bytes[1024];
    size_t        n = good_bytes(directory, bytes, sizeof bytes);

    for (size_t kept = 0; kept < n; kept++) {
        write_file(directory, SINGLE, bytes, kept);
        if (kept < 8) snprintf(both, sizeof both, "has %zu bytes", kept);
        else if (kept < n - sizeof body) snprintf(both, sizeof both, "does not fit the file of %zu bytes", kept);
        else snprintf(both, sizeof both, " of a file of %zu bytes", kept);
        expect_failure(directory, EYRIE_EFORMAT, both);
    }
}

/* Every byte of the length and the header replaced by characters that matter there: the file is refused as malformed,
 * or what it says can be read to the last element. */
static void test_damage(void **state)
{
    static const char strange[] = "09\"\\{}[],:-.e \xff\x80\x01";
    char         *directory = *state;
    unsigned char bytes[1024];
    size_t        n = good_bytes(directory, bytes, sizeof bytes), refused = 0, read = 0;

    for (size_t i = 0; i < n - sizeof body; i++) {
        unsigned char whole = bytes[i];

        for (size_t j = 0; j < sizeof strange; j++) {
            ey_file     *f;
            eyrie_error  err;
            eyrie_status st;

            bytes[i] = (unsigned char)strange[j];   /* the terminating zero is one of them */
            write_file(directory, SINGLE, bytes, n);
            st = ey_file_open(&f, directory, &err);
            if (st == EYRIE_OK) {
                for (size_t k = 0; k < ey_file_count(f); k++) {
                    const ey_tensor_data *t = ey_file_at(f, k);
                    float out[20];   /* 40 bytes of the narrowest type */

                    assert_in_range(t->count, 0, COUNT(out));
                    ey_tensor_read(t, 0, t->count, out);
                }
                ey_file_close(f);
                read++;
            } else {
                assert_int_equal(st, EYRIE_EFORMAT);
                assert_null(f);
                refused++;
            }
        }
        bytes[i] = whole;
    }
    assert_true(refused > read && read > 0);
}

static void test_missing_files(void **state)
{
    char *directory = *state;

    expect_failure(directory, EYRIE_EIO, "has neither " SINGLE " nor " INDEX);
    expect_failure(path_of(directory, "absent"), EYRIE_EIO, "/absent: there is no such directory");
    expect_failure("", EYRIE_EIO, "no such directory");
    assert_int_equal(mkdir(path_of(directory, SINGLE), 0700), 0);
    expect_failure(directory, EYRIE_EIO, "not a regular file");
}

#define MAP(entries) "{\"metadata\":{\"total_size\":8},\"weight_map\":{" entries "}}"
#define ONE "one.safetensors"
#define TWO "two.safetensors"

static void write_shards(const char *directory)
{
    static const unsigned char one[] = { 0, 0, 0x80, 0x3f }, two[] = { 0xff, 0, 0, 0, 0x40 };

    write_safetensors(directory, ONE, "{" T("w", "\"F32\"", "[1]", "[0,4]") "}", one, sizeof one);
    write_safetensors(directory, TWO, "{" T("__pad", "\"U8\"", "[1]", "[0,1]") ","
                                          T("v", "\"F32\"", "[1]", "[1,5]") "}", two, sizeof two);
}

static void test_shards(void **state)
{
    char   *directory = *state;
    ey_file *f;
    float    value;

    write_shards(directory);
    write_text(directory, INDEX, MAP("\"w\":\"" ONE "\",\"v\":\"" TWO "\""));
    f = open_good(directory);
    assert_int_equal(ey_file_count(f), 2);
    assert_int_equal(ey_file_bytes(f), 8);
    assert_string_equal(ey_file_at(f, 0)->name, "v");
    assert_non_null(strstr(ey_file_find(f, "v")->file, TWO));
    assert_non_null(strstr(ey_file_find(f, "w")->file, ONE));
    ey_tensor_read(ey_file_find(f, "v"), 0, 1, &value);
    assert_true(value == 2);
    ey_tensor_read(ey_file_find(f, "w"), 0, 1, &value);
    assert_true(value == 1);
    ey_file_close(f);

    /* Padding may be listed, and a single file beside the index wins. */
    write_text(directory, INDEX, MAP("\"w\":\"" ONE "\",\"v\":\"" TWO "\",\"__pad\":\"" TWO "\""));
    f = open_good(directory);
    assert_int_equal(ey_file_count(f), 2);
    ey_file_close(f);
    write_safetensors(directory, SINGLE, GOOD, body, sizeof body);
    f = open_good(directory);
    assert_int_equal(ey_file_count(f), 5);
    ey_file_close(f);
}

static void test_hostile_indices(void **state)
{
    static const struct {
        const char  *index;
        eyrie_status status;
        const char  *message;
    } cases[] = {   /* beside one.safetensors with "w" and two.safetensors with "v" */
        { "", EYRIE_EFORMAT, INDEX ": is empty" },
        { "{\"weight_map\":", EYRIE_EFORMAT, INDEX ": malformed JSON" },
        { "[\"" ONE "\"]", EYRIE_EFORMAT, INDEX ": is [\"" ONE "\"]; it must be a JSON object" },
        { "{}", EYRIE_EFORMAT, "\"weight_map\" is missing" },
        { "{\"weight_map\":[1]}", EYRIE_EFORMAT, "\"weight_map\" is [1]" },
        { MAP(""), EYRIE_EFORMAT, "\"weight_map\" is {}" },
        { MAP("\"w\":1"), EYRIE_EFORMAT, "tensor \"w\" is in 1; that must be the name of a file" },
        { MAP("\"w\":\"\""), EYRIE_EFORMAT, "tensor \"w\" is in \"\"" },
        { MAP("\"w\":\"..\""), EYRIE_EFORMAT, "tensor \"w\" is in \"..\"" },
        { MAP("\"w\":\".\""), EYRIE_EFORMAT, "tensor \"w\" is in \".\"" },
        { MAP("\"w\":\"../" ONE "\""), EYRIE_EFORMAT, "tensor \"w\" is in \"../" ONE "\"" },
        { MAP("\"w\":\"/etc/passwd\""), EYRIE_EFORMAT, "tensor \"w\" is in \"/etc/passwd\"" },
        { MAP("\"w\":\"a\\\\b\""), EYRIE_EFORMAT, "tensor \"w\" is in \"a\\\\b\"" },
        { MAP("\"w\":\"" ONE "\",\"w\":\"" TWO "\""), EYRIE_EFORMAT, "duplicate object key" },
        { MAP("\"w\":\"three.safetensors\""), EYRIE_EIO, "three.safetensors: " },
        { MAP("\"w\":\"" INDEX "\""), EYRIE_EFORMAT, "not a safetensors file" },
        { MAP("\"w\":\"" ONE "\",\"v\":\"" ONE "\""), EYRIE_EFORMAT, "tensor \"v\" should be in " ONE ", but is not" },
        { MAP("\"w\":\"" TWO "\""), EYRIE_EFORMAT, "tensor \"w\" should be in " TWO ", but is not" },
        { MAP("\"w\":\"" ONE "\",\"__pad\":\"" TWO "\""), EYRIE_EFORMAT, TWO ": holds tensor \"v\", which " INDEX
                                                                       " places in no file" },
        { MAP("\"w\":\"" ONE "\",\"x\":\"" TWO "\""), EYRIE_EFORMAT, "tensor \"x\" should be in " TWO },
        { MAP("\"w\":\"" ONE "\",\"v\":\"twin.safetensors\",\"u\":\"" TWO "\""), EYRIE_EFORMAT, "\"u\" should be in" },
    };
    char  *directory = *state, many[64 * 1100] = "{\"weight_map\":{";
    size_t at = strlen(many);

    write_shards(directory);
    write_safetensors(directory, "twin.safetensors", "{" T("v", "\"F32\"", "[1]", "[0,4]") "}", body, 4);
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_text(directory, INDEX, cases[i].index);
        expect_failure(directory, cases[i].status, cases[i].message);
    }

    write_text(directory, INDEX, MAP("\"v\":\"twin.safetensors\",\"__pad\":\"" TWO "\""));
    expect_failure(directory, EYRIE_EFORMAT, TWO ": holds tensor \"v\", which " INDEX " places in twin.safetensors");

    for (int i = 0; i < 1025; i++) {   /* a file each, all of them there */
        char name[32], header[128];

        snprintf(name, sizeof name, "many%d", i);
        snprintf(header, sizeof header, "{" T("%s", "\"F32\"", "[0]", "[0,0]") "}", name);
        write_safetensors(directory, name, header, NULL, 0);
        at += (size_t)snprintf(many + at, sizeof many - at, "\"%s\":\"%s\"%s", name, name, i < 1024 ? "," : "}}");
    }
    write_text(directory, INDEX, many);
    expect_failure(directory, EYRIE_EFORMAT, "lists more than 1024 files");
}

static void test_no_memory(void **state)
{
    char       *directory = *state;
    eyrie_error err;
    ey_file    *f = NULL;
    size_t      failures[2];

    write_shards(directory);
    write_text(directory, INDEX, MAP("\"w\":\"" ONE "\",\"v\":\"" TWO "\""));
    for (size_t form = 0; form < 2; form++) {   /* shards, then a single file */
        size_t       n = 0;
        eyrie_status st;

        for (; fail_allocation(n), st = ey_file_open(&f, directory, &err), allocation_failed(); n++) {
            assert_int_equal(st, EYRIE_ENOMEM);
            assert_int_equal(err.status, EYRIE_ENOMEM);
            assert_null(f);
        }
        assert_int_equal(st, EYRIE_OK);
        ey_file_close(f);
        failures[form] = n;
        write_safetensors(directory, SINGLE, GOOD, body, sizeof body);
    }
    assert_true(failures[0] > failures[1] && failures[1] >= 5);   /* handle, two paths, shard, spans, tensors */
}

/* The value of a number with that many exponent and mantissa bits, from the definition. */
static double value_of(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    int    top = (1 << exponent_bits) - 1, bias = top >> 1;
    int    exponent = (int)(bits >> mantissa_bits) & top, mantissa = (int)bits & ((1 << mantissa_bits) - 1);
    double magnitude;

    if (exponent == top) magnitude = mantissa ? NAN : INFINITY;
    else if (exponent == 0) magnitude = ldexp(mantissa, 1 - bias - mantissa_bits);
    else magnitude = ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return bits >> (exponent_bits + mantissa_bits) & 1 ? -magnitude : magnitude;
}

static void expect_values(const ey_tensor_data *t, uint64_t first, uint64_t n, int exponent_bits, int mantissa_bits)
{
    static float out[65536 + 1];

    out[n] = 123;
    ey_tensor_read(t, first, n, out);
    for (uint64_t i = 0; i < n; i++) {
        double want = value_of((uint32_t)(first + i), exponent_bits, mantissa_bits);

        if (isnan(want) ? !isnan(out[i]) : out[i] != want || !signbit(out[i]) != !signbit(want)) {
            fail_msg("%s 0x%04x reads as %g, is %g", t->name, (unsigned)(first + i), (double)out[i], want);
        }
    }
    assert_true(out[n] == 123);   /* n values, not one more */
}

/* All 65536 patterns of both 16-bit types, at each alignment of the body. */
static void test_decoding(void **state)
{
    static const char header[] = "{" T("F16", "\"F16\"", "[65536]", "[0,131072]") ","
                                 T("BF16", "\"BF16\"", "[256,256]", "[131072,262144]") "}   ";
    static const uint64_t ranges[][2] = { { 0, 65536 }, { 1, 1 }, { 1021, 7 }, { 65535, 1 }, { 65536, 0 } };
    char          *directory = *state;
    unsigned char *bytes = malloc(262144);

    assert_non_null(bytes);
    for (size_t i = 0; i < 131072; i++) {
        bytes[2 * i] = (unsigned char)i;
        bytes[2 * i + 1] = (unsigned char)(i >> 8);
    }
    for (size_t spaces = 0; spaces < 4; spaces++) {
        char     aligned[sizeof header];
        ey_file *f;

        snprintf(aligned, sizeof aligned, "%.*s", (int)(strlen(header) - spaces), header);
        write_safetensors(directory, SINGLE, aligned, bytes, 262144);
        f = open_good(directory);
        for (size_t i = 0; i < COUNT(ranges); i++) {
            expect_values(ey_file_find(f, "F16"), ranges[i][0], ranges[i][1], 5, 10);
            expect_values(ey_file_find(f, "BF16"), ranges[i][0], ranges[i][1], 8, 7);
        }
        ey_file_close(f);
    }
    free(bytes);
    assert_int_equal(ey_dtype_size(EY_F32), 4);
    assert_int_equal(ey_dtype_size(EY_F16), 2);
    assert_int_equal(ey_dtype_size(EY_BF16), 2);
    assert_string_equal(ey_dtype_name(EY_F32), "F32");
    assert_string_equal(ey_dtype_name(EY_F16), "F16");
    assert_string_equal(ey_dtype_name(EY_BF16), "BF16");
}

/* The model of the demo: 6 layers, of which 2 are attention. */
static void test_real_checkpoint(void **state)
{
    ey_file              *f = open_good(EY_SOURCE_DIR "/models/shakespeare");
    const ey_tensor_data *t = ey_file_find(f, "model.layers.0.temporal_block.conv_1d.weight");

    (void)state;
    assert_int_equal(ey_file_count(f), 4 * 21 + 2 * 13 + 2);
    assert_non_null(t);
    assert_int_equal(t->rank, 3);
    assert_int_equal(t->shape[0], 192);
    assert_int_equal(t->shape[1], 1);
    assert_int_equal(t->shape[2], 4);
    ey_file_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(test_good_file),       test_in_dir(test_hostile_headers),
        test_in_dir(test_hostile_lengths), test_in_dir(test_truncation),
        test_in_dir(test_damage),          test_in_dir(test_missing_files),
        test_in_dir(test_shards),          test_in_dir(test_hostile_indices),
        test_in_dir(test_no_memory),       test_in_dir(test_decoding),
        cmocka_unit_test(test_real_checkpoint),
    };

    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
