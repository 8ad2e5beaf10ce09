/* testing.h - what tests share: cmocka with the headers it needs, temporary directories, files written from C, and
 * allocations that fail one after the other. To be included first. Nothing here knows models or devices. */
#ifndef EY_TESTING_H
#define EY_TESTING_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

/* "directory/name", valid until the next call. */
static inline const char *path_of(const char *directory, const char *name)
{
    static char path[4096];

    assert_in_range(snprintf(path, sizeof path, "%s/%s", directory, name), 1, sizeof path - 1);
    return path;
}

/* test_in_dir(f) in the list of tests: f finds in *state the path of an empty directory, which is removed after it with
 * the files in it, whether f passed or not. */
#define test_in_dir(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

static inline int make_dir(void **state)
{
    const char *base = getenv("TMPDIR");
    char       *directory = strdup(path_of(base && *base ? base : "/tmp", "eyrie-test-XXXXXX"));

    assert_non_null(directory);
    assert_non_null(mkdtemp(directory));
    *state = directory;
    return 0;
}

static inline int remove_dir(void **state)
{
    DIR           *d = opendir(*state);
    struct dirent *entry;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        assert_int_equal(remove(path_of(*state, entry->d_name)), 0);
    }
    closedir(d);
    assert_int_equal(rmdir(*state), 0);
    free(*state);
    return 0;
}

static inline void write_file(const char *directory, const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(path_of(directory, name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *directory, const char *name, const char *text)
{
    write_file(directory, name, text, strlen(text));
}

/* A safetensors file: the length of `header`, `header`, and n bytes of body. */
static inline void write_safetensors(const char *directory, const char *name, const char *header, const void *body,
                                     size_t n)
{
    size_t         length = strlen(header);
    unsigned char *bytes = malloc(8 + length + n);

    assert_non_null(bytes);
    for (size_t i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    if (n) memcpy(bytes + 8 + length, body, n);
    write_file(directory, name, bytes, 8 + length + n);
    free(bytes);
}

/* for (size_t n = 0; fail_allocation(n), call(), allocation_failed(); n++) runs call() with its first allocation
 * failing, then its second, and so on, and ends after a call in which none was left to fail. */
static size_t allocations_left;

static inline bool count_allocation(size_t bytes)
{
    (void)bytes;
    if (allocations_left == 0) ey_alloc_hook = NULL;   /* this one fails, the rest succeed */
    return allocations_left-- != 0;
}

static inline void fail_allocation(size_t n)   /* n = 0 is the next one */
{
    allocations_left = n;
    ey_alloc_hook = count_allocation;
}

static inline bool allocation_failed(void)
{
    bool failed = ey_alloc_hook == NULL;

    ey_alloc_hook = NULL;
    return failed;
}

#endif
