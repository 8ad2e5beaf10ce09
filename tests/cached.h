/* cached.h - what tests of the cache share, and of what is kept in it: notes, an empty directory for each test, entries as
 * files. */
#ifndef CACHED_H
#define CACHED_H

#include "testing.h"

#include "device.h"

#include <sys/stat.h>

#define KIND "program"

/* ----------------------------------------------------------------------------------------------------------- notes */

typedef struct notes {
    unsigned n;
    char     last[1024];
} notes;

static notes noted;

static inline void take_note(void *user, const char *line)
{
    notes *to = user;

    to->n++;
    snprintf(to->last, sizeof to->last, "%s", line);
}

static const ey_log log_notes = { take_note, &noted };

/* Since the last call, that many notes were made, the last with `part` in it. */
static inline void expect_notes(unsigned n, const char *part)
{
    if (noted.n != n || (n && !strstr(noted.last, part)))
        fail_msg("%u notes, wanted %u with \"%s\"; the last: %s", noted.n, n, part, noted.last);
    memset(&noted, 0, sizeof noted);
}

/* ---------------------------------------------------------------------------------------------------------- files */

/* The number of files whose name ends so; the path of one of them in `path`. */
static inline size_t find_files(const char *directory, const char *end, char *path)
{
    DIR *d = opendir(directory);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (length < strlen(end) || strcmp(entry->d_name + length - strlen(end), end)) continue;
        if (path) strcpy(path, path_of(directory, entry->d_name));
        n++;
    }
    closedir(d);
    return n;
}

static inline size_t count_entries(const char *directory) { return find_files(directory, "." KIND, NULL); }

/* The file of the only entry there is. */
static inline void only_entry(const char *directory, char *path) { assert_int_equal(find_files(directory, "." KIND, path), 1); }

typedef struct bytes {
    unsigned char data[1 << 22];
    size_t        n;
} bytes;

static inline void load(bytes *b, const char *path)
{
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    b->n = fread(b->data, 1, sizeof b->data, f);
    assert_true(feof(f));
    fclose(f);
}

static inline void save(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Every test begins in an empty directory, with nothing noted and no OpenCL call that is to fail, and may leave
 * directories of these names. */
static inline int begin(void **state)
{
    memset(&noted, 0, sizeof noted);
    ey_cl_hook = NULL;
    return make_dir(state);
}

static inline int end(void **state)
{
    static const char *const below[] = { "cache", "kernels" };

    ey_cl_hook = NULL;
    for (size_t i = 0; i < COUNT(below); i++) {
        void *path = strdup(path_of(*state, below[i]));
        if (is_there(path)) remove_dir(&path);
        else free(path);
    }
    return remove_dir(state);
}

#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)

#endif
