/* test_base.c - base.c, and the parts of os_posix.c that are not covered by reading checkpoints. */
#include "testing.h"

#include <sys/stat.h>

#include "os.h"

static void test_statuses(void **state)
{
    (void)state;
    assert_string_equal(eyrie_status_text(EYRIE_OK), "success");
    assert_string_equal(eyrie_status_text(EYRIE_EMEMORY), "the model does not fit into the device's memory");
    assert_string_equal(eyrie_status_text((eyrie_status)-99), "unknown status");
    assert_non_null(strchr(eyrie_version(), '.'));
}

static void test_failures(void **state)
{
    static const struct {
        const char *text, *tidied;
    } lines[] = {
        { "two\nlines\tand \x1b[31m", "two lines and  [31m" },                      /* control characters */
        { "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80" },   /* 2, 3, 4 bytes */
        { "\xc3", "?" },                                                            /* cut */
        { "\xe2\x82.", "??." },
        { "\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "?? ??? ????" },                /* overlong */
        { "\xed\xa0\x80 \xf4\x90\x80\x80 \xff", "??? ???? ?" },                     /* surrogate, above U+10FFFF */
    };
    eyrie_error err;
    char        longest[3000];

    (void)state;
    assert_int_equal(ey_fail(&err, EYRIE_EIO, "%s: %d", "thing", 7), EYRIE_EIO);
    assert_int_equal(err.status, EYRIE_EIO);
    assert_int_equal(err.cl_code, 0);
    assert_string_equal(err.text, "thing: 7");
    assert_int_equal(ey_fail(&err, EYRIE_EINVAL, "around (%s)", err.text), EYRIE_EINVAL);   /* its own old text */
    assert_string_equal(err.text, "around (thing: 7)");
    assert_int_equal(ey_fail(NULL, EYRIE_EBUSY, "nobody listens"), EYRIE_EBUSY);

    for (size_t i = 0; i < COUNT(lines); i++) {
        ey_fail(&err, EYRIE_EIO, "%s", lines[i].text);
        assert_string_equal(err.text, lines[i].tidied);
    }
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest + sizeof err.text - 2, "\xc3\xa4", 2);   /* cut in the middle of a character */
    ey_fail(&err, EYRIE_EIO, "%s", longest);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(err.text[sizeof err.text - 2], '?');
}

static void test_cl_failures(void **state)
{
    static const struct {
        int32_t     code;
        const char *text;
    } codes[] = {   /* numbers as in the OpenCL specification's cl.h and cl_icd's extension */
        { -1, "CL_DEVICE_NOT_FOUND (-1)" },
        { -4, "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)" },
        { -5, "CL_OUT_OF_RESOURCES (-5)" },
        { -11, "CL_BUILD_PROGRAM_FAILURE (-11)" },
        { -48, "CL_INVALID_KERNEL (-48)" },
        { -54, "CL_INVALID_WORK_GROUP_SIZE (-54)" },
        { -61, "CL_INVALID_BUFFER_SIZE (-61)" },
        { -1001, "CL_PLATFORM_NOT_FOUND_KHR (-1001)" },
        { -9999, "unknown OpenCL error (-9999)" },
    };
    eyrie_error err;
    char        longest[3000], want[128];

    (void)state;
    for (size_t i = 0; i < COUNT(codes); i++) {
        assert_int_equal(ey_fail_cl(&err, codes[i].code, "clFlush %s", "lane 1"), EYRIE_EDEVICE);
        assert_int_equal(err.status, EYRIE_EDEVICE);
        assert_int_equal(err.cl_code, codes[i].code);
        snprintf(want, sizeof want, "clFlush lane 1: %s", codes[i].text);
        assert_string_equal(err.text, want);
    }
    assert_int_equal(ey_fail_cl(NULL, -5, "nobody listens"), EYRIE_EDEVICE);
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ey_fail_cl(&err, -5, "%s", longest);
    assert_non_null(strstr(err.text, "CL_OUT_OF_RESOURCES (-5)"));   /* what was called is cut, not why it failed */
}

static void test_arithmetic(void **state)
{
    uint64_t n = 7;

    (void)state;
    assert_true(ey_mul(UINT64_MAX, 0, &n) && n == 0);
    assert_true(ey_mul(0, UINT64_MAX, &n) && n == 0);
    assert_true(ey_mul(UINT64_C(0xffffffff), UINT64_C(0x100000001), &n) && n == UINT64_MAX);
    assert_false(ey_mul(UINT64_C(0x100000000), UINT64_C(0x100000000), &n));
    assert_false(ey_mul(UINT64_MAX, 2, &n));
    assert_true(n == UINT64_MAX);   /* as it was */
    assert_true(ey_add(UINT64_MAX - 1, 1, &n) && n == UINT64_MAX);
    n = 7;
    assert_false(ey_add(UINT64_MAX, 1, &n));
    assert_int_equal(n, 7);
    assert_int_equal(ey_round_up(65, 64), 128);
    assert_int_equal(ey_round_up(64, 64), 64);
    assert_int_equal(ey_pad(0), 0);
    assert_int_equal(ey_pad(1), 16);
    assert_int_equal(ey_pad(32), 32);
}

static bool never(size_t bytes)
{
    (void)bytes;
    return false;
}

static void test_allocation(void **state)
{
    uint16_t *array = NULL;
    size_t    capacity = 0;
    char     *text = ey_strdup("griffin");
    uint32_t *zeros = ey_calloc(100, sizeof *zeros);
    void     *nothing = ey_calloc(0, 8);

    (void)state;
    assert_string_equal(text, "griffin");
    assert_non_null(zeros);
    for (size_t i = 0; i < 100; i++) assert_int_equal(zeros[i], 0);
    assert_non_null(nothing);   /* zero bytes are not "no memory" */
    assert_null(ey_calloc(SIZE_MAX / 2, 3));

    assert_true(ey_grow(&array, &capacity, 0, sizeof *array));
    assert_int_equal(capacity, 0);
    for (size_t i = 0; i < 1000; i++) {
        assert_true(ey_grow(&array, &capacity, i + 1, sizeof *array));
        assert_in_range(capacity, i + 1, 2 * i + 1);
        array[i] = (uint16_t)i;
    }
    assert_false(ey_grow(&array, &capacity, SIZE_MAX, sizeof *array));
    ey_alloc_hook = never;
    assert_true(ey_grow(&array, &capacity, capacity, sizeof *array));    /* no need of memory */
    assert_false(ey_grow(&array, &capacity, capacity + 1, sizeof *array));
    assert_null(ey_calloc(1, 1));
    assert_null(ey_realloc(NULL, 1));
    assert_null(ey_strdup("griffin"));
    ey_alloc_hook = NULL;
    assert_int_equal(capacity, 1024);
    for (size_t i = 0; i < 1000; i++) assert_int_equal(array[i], i);    /* a failure leaves it alone */

    ey_free(array);
    ey_free(text);
    ey_free(zeros);
    ey_free(nothing);
    ey_free(NULL);
}

static void keep_line(void *user, const char *line)
{
    snprintf(user, 64, "%s", line);
}

static void test_notes(void **state)
{
    char   line[64] = "";
    ey_log log = { keep_line, line }, silent = { NULL, NULL };

    (void)state;
    ey_note(NULL, "lost");
    ey_note(&silent, "lost");
    ey_note(&log, "%s\nin %d lines", "a note", 1);
    assert_string_equal(line, "a note in 1 lines");
}

static void test_bytes_text(void **state)
{
    static const struct {
        uint64_t    bytes;
        const char *text;
    } sizes[] = {
        { 0, "0 bytes" },
        { 1, "1 byte" },
        { 1023, "1023 bytes" },
        { 1024, "1.0 KiB" },
        { UINT64_C(3) << 29, "1.5 GiB" },
        { UINT64_C(17) << 20, "17 MiB" },
        { 10188, "9.9 KiB" },                        /* 9.949 */
        { 10189, "10 KiB" },                         /* 9.950 */
        { (UINT64_C(1) << 20) - 1, "1.0 MiB" },      /* never "1024 KiB" */
        { UINT64_C(1) << 50, "1.0 PiB" },
        { UINT64_MAX, "16 EiB" },
    };
    char buf[24];

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) assert_string_equal(ey_bytes_text(sizes[i].bytes, buf), sizes[i].text);
}

static void test_files(void **state)
{
    char       *directory = *state, *joined = ey_path("some/where", "file");
    eyrie_error err;
    ey_map      map;

    assert_string_equal(joined, "some/where/file");
    ey_free(joined);

    write_text(directory, "full", "twelve bytes");
    assert_true(ey_file_exists(path_of(directory, "full")));
    assert_int_equal(ey_map_open(&map, path_of(directory, "full"), &err), EYRIE_OK);
    assert_int_equal(map.size, 12);
    assert_memory_equal(map.data, "twelve bytes", 12);
    ey_map_close(&map);
    assert_null(map.data);
    ey_map_close(&map);

    write_text(directory, "empty", "");
    assert_int_equal(ey_map_open(&map, path_of(directory, "empty"), &err), EYRIE_OK);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    ey_map_close(&map);

    assert_false(ey_file_exists(path_of(directory, "absent")));
    assert_int_equal(ey_map_open(&map, path_of(directory, "absent"), &err), EYRIE_EIO);
    assert_non_null(strstr(err.text, "/absent: "));
    assert_null(map.data);
    assert_int_equal(ey_map_open(&map, directory, &err), EYRIE_EIO);
    assert_non_null(strstr(err.text, "not a regular file"));

    assert_int_equal(mkfifo(path_of(directory, "pipe"), 0600), 0);   /* opening it must not wait for a writer */
    assert_int_equal(ey_map_open(&map, path_of(directory, "pipe"), &err), EYRIE_EIO);
    assert_non_null(strstr(err.text, "not a regular file"));
}

static void test_system(void **state)
{
    double   before = ey_seconds(), after = ey_seconds();
    uint64_t available = ey_memory_available();

    (void)state;
    assert_true(before > 0 && after >= before);
    if (ey_file_exists("/proc/meminfo")) assert_in_range(available, 1, UINT64_C(1) << 60);
    else assert_int_equal(available, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),   cmocka_unit_test(test_failures), cmocka_unit_test(test_cl_failures),
        cmocka_unit_test(test_arithmetic), cmocka_unit_test(test_allocation), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_bytes_text), test_in_dir(test_files),    cmocka_unit_test(test_system),
    };

    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
