/* test_cache.c - the cache alone: entries come back whole or not at all, whatever becomes of their files, their directory and
 * the processes that share it. What programs make of it is test_kept's business. */
#include "cached.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <xxhash.h>

enum { ROOMY = 1 << 30 };

/* ---------------------------------------------------------------------------------------------------- small helpers */

static ey_cache *open_cache(const char *directory, uint64_t limit)
{
    ey_cache *c = ey_cache_open(directory, limit, &log_notes);

    if (!c) fail_msg("%s", noted.last);
    return c;
}

static void put(ey_cache *c, const char *key, const void *data, size_t size) { ey_cache_put(c, KIND, key, strlen(key), data, size); }
static void put_text(ey_cache *c, const char *key, const char *text) { put(c, key, text, strlen(text)); }

/* What is kept under a key is `text`, or nothing where that is NULL. */
static void expect_text(ey_cache *c, const char *key, const char *text)
{
    size_t size;
    char *data = ey_cache_get(c, KIND, key, strlen(key), &size);

    if ((data != NULL) != (text != NULL)) fail_msg("%s: is %s", key, data ? "there" : "not there");
    assert_int_equal(size, text ? strlen(text) : 0);
    if (text) assert_memory_equal(data, text, size);
    ey_free(data);
}

static void set_age(const char *path, long seconds)
{
    struct timespec times[2] = { { .tv_sec = time(NULL) - seconds }, { .tv_sec = time(NULL) - seconds } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* A number that looks random, the same in every run. */
static uint32_t roll(uint32_t *state) { return (*state = *state * 1664525u + 1013904223u) >> 8; }

/* --------------------------------------------------------------------------------------------------- put and get */

static void what_was_put_comes_back(void **state)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 75, 76, 77, 240, 241, 4096, 100001 };
    static unsigned char data[100001];
    static char keys[COUNT(sizes)][70000];   /* as long as a program's text */
    ey_cache *c = open_cache(*state, ROOMY);
    size_t size;

    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * i >> 3);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        memset(keys[i], 'k', sizeof keys[i]);
        keys[i][35000] = (char)i;            /* a zero byte in the first */
        assert_null(ey_cache_get(c, KIND, keys[i], sizeof keys[i], &size));
        assert_int_equal(size, 0);
        ey_cache_put(c, KIND, keys[i], sizeof keys[i], data + i, sizes[i] - (sizes[i] == sizeof data ? i : 0));
    }
    ey_cache_close(c);
    c = open_cache(*state, ROOMY);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *got = ey_cache_get(c, KIND, keys[i], sizeof keys[i], &size);
        assert_non_null(got);
        assert_int_equal(size, sizes[i] - (sizes[i] == sizeof data ? i : 0));
        if (size) assert_memory_equal(got, data + i, size);
        ey_free(got);
        assert_null(ey_cache_get(c, KIND, keys[i], sizeof keys[i] - 1, &size));
        assert_null(ey_cache_get(c, "verdicts", keys[i], sizeof keys[i], &size));
    }
    ey_cache_close(c);
    assert_int_equal(count_entries(*state), COUNT(sizes));
    assert_int_equal(find_files(*state, ".tmp", NULL), 0);
    expect_notes(0, "");
}

static void kinds_and_keys_are_apart_and_the_last_put_counts(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY), *other = open_cache(*state, ROOMY);
    char *got;
    size_t size;

    put_text(c, "", "of the empty key");
    put_text(c, "key", "first");
    put_text(c, "key", "second, and longer");
    expect_text(other, "key", "second, and longer");
    put_text(other, "key", "third");
    ey_cache_put(c, "verdicts", "key", 3, "yes", 3);
    expect_text(c, "key", "third");
    expect_text(c, "", "of the empty key");
    expect_text(c, "kez", NULL);
    got = ey_cache_get(c, "verdicts", "key", 3, &size);
    assert_non_null(got);
    assert_int_equal(size, 3);
    assert_memory_equal(got, "yes", 3);
    ey_free(got);
    ey_cache_close(c);
    ey_cache_close(other);
    expect_notes(0, "");
}

/* Temporary files that a process of our number left behind, or writes on another machine, are not touched. */
static void temporary_names_that_are_taken(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY);
    char path[4096], taken[4200];

    put_text(c, "key", "first");
    only_entry(*state, path);
    for (int i = 0; i < 100; i++) {
        snprintf(taken, sizeof taken, "%s.%ld.%d.tmp", path, (long)getpid(), i);
        save(taken, "theirs", 6);
    }
    put_text(c, "key", "second");
    expect_text(c, "key", "second");
    assert_int_equal(find_files(*state, ".tmp", NULL), 100);
    for (int i = 0; i < 100; i++) {
        static bytes b;
        snprintf(taken, sizeof taken, "%s.%ld.%d.tmp", path, (long)getpid(), i);
        load(&b, taken);
        assert_int_equal(b.n, 6);
    }
    ey_cache_close(c);
    expect_notes(0, "");
}

static void no_cache_is_an_empty_one(void **state)
{
    size_t size = 1;

    (void)state;
    ey_cache_put(NULL, KIND, "key", 3, "x", 1);
    assert_null(ey_cache_get(NULL, KIND, "key", 3, &size));
    assert_int_equal(size, 0);
    ey_cache_close(NULL);
}

/* ------------------------------------------------------------------------------------------------- damaged entries */

/* Whatever a file has become is no entry, with one note that names it; it goes, and the next put is as ever. */
static void expect_refused(ey_cache *c, const char *path, const char *key, const char *fault)
{
    expect_text(c, key, NULL);
    expect_notes(1, fault);
    assert_false(is_there(path));
    expect_text(c, key, NULL);
    put_text(c, key, "again");
    expect_text(c, key, "again");
    expect_notes(0, "");
}

static void every_truncation_and_every_flipped_bit(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY);
    char path[4096];
    static bytes whole, changed;

    put_text(c, "key", "payload");
    only_entry(*state, path);
    load(&whole, path);
    assert_int_equal(whole.n, 76 + strlen("payload"));
    for (size_t n = 0; n < whole.n; n++) {
        save(path, whole.data, n);
        expect_refused(c, path, "key", path);
    }
    for (size_t bit = 0; bit < 8 * whole.n; bit++) {
        changed = whole;
        changed.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        save(path, changed.data, changed.n);
        expect_refused(c, path, "key", path);
    }
    changed = whole;
    changed.data[changed.n++] = '\0';
    save(path, changed.data, changed.n);
    expect_refused(c, path, "key", "not as long");
    save(path, whole.data, whole.n);
    expect_text(c, "key", "payload");
    ey_cache_close(c);
    expect_notes(0, "");
}

static void foreign_entries(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY);
    char path[4096], other[4096];
    static bytes b;

    put_text(c, "key", "payload");
    only_entry(*state, path);
    save(path, "Not of this cache, and longer than the header of an entry, which has seventy-six bytes.", 88);
    expect_refused(c, path, "key", "not an entry of this cache");

    load(&b, path);
    b.data[8]++;
    save(path, b.data, b.n);
    expect_refused(c, path, "key", "another version");

    strcpy(other, path);                        /* a sound entry, of another key */
    assert_int_equal(remove(path), 0);
    put_text(c, "other key", "its payload");
    only_entry(*state, path);
    assert_int_equal(rename(path, other), 0);
    expect_refused(c, other, "key", "another key");

    load(&b, other);                            /* of the same key, another kind */
    strcpy(path, other);
    strcpy(strrchr(path, '.'), ".verdicts");
    save(path, b.data, b.n);
    size_t size;
    assert_null(ey_cache_get(c, "verdicts", "key", 3, &size));
    expect_notes(1, "another key");
    assert_false(is_there(path));
    ey_cache_close(c);
}

static void entries_that_are_no_files(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY);
    char path[4096];

    put_text(c, "key", "payload");
    only_entry(*state, path);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);    /* opening it could wait for ever */
    expect_text(c, "key", NULL);
    expect_notes(1, "not a regular file");
    put_text(c, "key", "in its place");
    expect_notes(1, "nothing is kept");
    ey_cache_close(c);
    c = open_cache(*state, ROOMY);

    assert_int_equal(remove(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    expect_text(c, "key", NULL);
    expect_notes(0, "");
    put_text(c, "key", "in its place");
    expect_text(c, "key", "in its place");
    expect_notes(0, "");

    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);     /* which no file can replace */
    expect_text(c, "key", NULL);
    expect_notes(1, "not a regular file");
    put_text(c, "key", "in its place");
    expect_notes(1, "nothing is kept");
    put_text(c, "key", "in its place");
    expect_notes(0, "");
    assert_true(is_there(path));
    assert_int_equal(find_files(*state, ".tmp", NULL), 0);
    ey_cache_close(c);
}

/* ----------------------------------------------------------------------------------------------------- directories */

static void directories_are_made(void **state)
{
    static const char *const below[] = { "a", "a/b", "a/b/c", NULL };
    char path[4096];
    ey_cache *c;

    snprintf(path, sizeof path, "%s/a//b/c/", (char *)*state);
    c = open_cache(path, ROOMY);
    put_text(c, "key", "deep");
    ey_cache_close(c);
    c = open_cache(path, ROOMY);
    expect_text(c, "key", "deep");
    ey_cache_close(c);
    expect_notes(0, "");
    only_entry(path, path);
    assert_int_equal(remove(path), 0);
    for (size_t i = COUNT(below) - 1; i-- > 0;) assert_int_equal(rmdir(path_of(*state, below[i])), 0);
}

static void directories_that_cannot_be(void **state)
{
    static const char *const wrong[] = { "file", "file/below", "file/far/below" };

    write_text(*state, "file", "in the way");
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_null(ey_cache_open(path_of(*state, wrong[i]), ROOMY, &log_notes));
        expect_notes(1, wrong[i]);
    }
    assert_null(ey_cache_open("", ROOMY, &log_notes));
    expect_notes(1, "--cache-dir");
    assert_null(ey_cache_open("", ROOMY, &(ey_log){ NULL, NULL }));
}

/* Reading goes on where nothing can be written; one note says so. */
static void a_directory_without_room(void **state)
{
    ey_cache *c = open_cache(*state, ROOMY);
    struct rlimit before, none;
    static char large[1 << 16];
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    put_text(c, "key", "payload");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = before;
    none.rlim_cur = 100;                        /* as on a full disk: the file can be made, not filled */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    put(c, "large", large, sizeof large);
    put(c, "large", large, sizeof large);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    expect_notes(1, *state);
    put_text(c, "small", "not tried any more");
    expect_text(c, "small", NULL);
    expect_text(c, "large", NULL);
    expect_text(c, "key", "payload");
    assert_int_equal(find_files(*state, ".tmp", NULL), 0);
    assert_int_equal(count_entries(*state), 1);
    ey_cache_close(c);
    expect_notes(0, "");
}

static void a_read_only_directory(void **state)
{
    enum { NOBODY = 65534 };
    ey_cache *c = open_cache(*state, ROOMY);
    bool root = geteuid() == 0;                 /* whom permissions do not stop */
    char path[4096];

    put_text(c, "bad", "payload");
    only_entry(*state, path);
    write_text(*state, strrchr(path, '/') + 1, "no entry");
    assert_int_equal(chmod(path, 0444), 0);
    put_text(c, "key", "payload");
    expect_notes(0, "");
    assert_int_equal(chmod(*state, 0555), 0);
    if (root && seteuid(NOBODY) != 0) {
        ey_cache_close(c);
        skip();
    }
    expect_text(c, "bad", NULL);
    expect_notes(1, "not used");                /* it cannot be removed */
    put_text(c, "new", "payload");
    put_text(c, "new", "payload");
    expect_text(c, "key", "payload");
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(*state, 0700), 0);
    expect_notes(1, "nothing is kept");
    assert_int_equal(count_entries(*state), 2);
    ey_cache_close(c);
}

static void a_directory_that_goes_away(void **state)
{
    char path[4096];
    ey_cache *c;

    strcpy(path, path_of(*state, "cache"));
    c = open_cache(path, ROOMY);
    assert_int_equal(rmdir(path), 0);
    expect_text(c, "key", NULL);
    expect_notes(0, "");
    put_text(c, "key", "payload");
    put_text(c, "key", "payload");
    expect_notes(1, path);
    ey_cache_close(c);
}

/* ------------------------------------------------------------------------------------------------------------ size */

static void the_entries_used_longest_ago_go_first(void **state)
{
    enum { N = 8, SIZE = 1000, FULL = N * (SIZE + 76) };
    static const char data[SIZE];
    ey_cache *c = open_cache(*state, FULL);
    char key[16], path[4096];
    size_t size;

    for (long i = 0; i < N; i++) {              /* 0 is the oldest */
        snprintf(key, sizeof key, "%ld", i);
        put(c, key, data, SIZE);
        DIR *d = opendir(*state);
        struct dirent *entry;
        assert_non_null(d);
        while ((entry = readdir(d)) != NULL) {  /* the one just made, still of now */
            struct stat info;
            if (*entry->d_name == '.') continue;
            strcpy(path, path_of(*state, entry->d_name));
            assert_int_equal(stat(path, &info), 0);
            if (time(NULL) - info.st_mtime < 50) set_age(path, 1000 - 100 * i);
        }
        closedir(d);
    }
    assert_int_equal(count_entries(*state), N);
    ey_free(ey_cache_get(c, KIND, "0", 1, &size));      /* used now */
    assert_int_equal(size, SIZE);
    put(c, "a", data, SIZE);                    /* one too many: 1 goes */
    put(c, "b", data, SIZE - 2 * 76);           /* fits as well when 2 has gone */
    put(c, "b", data, SIZE);                    /* in its own place */
    for (const char *k = "034567ab"; *k; k++) {
        void *got = ey_cache_get(c, KIND, k, 1, &size);
        if (!got) fail_msg("%c has gone", *k);
        ey_free(got);
    }
    assert_int_equal(count_entries(*state), N);

    put(c, "whole", data, 1);
    assert_int_equal(count_entries(*state), N);  /* one byte more than there was room for: 0 gave way */
    static const char most[FULL];
    put(c, "most", most, FULL - 76);
    assert_int_equal(count_entries(*state), 1);
    ey_free(ey_cache_get(c, KIND, "most", 4, &size));
    assert_int_equal(size, FULL - 76);
    expect_notes(0, "");
    put(c, "too large", most, FULL - 75);
    expect_notes(1, "not kept");
    put(c, "small", data, 0);                   /* the cache itself is well */
    expect_text(c, "small", "");
    assert_int_equal(count_entries(*state), 1);
    ey_cache_close(c);
}

/* Only what is an entry by its name is counted or removed, and nothing stops a put. */
static void a_directory_full_of_other_files(void **state)
{
    static const char *const names[] = {
        "README", ".hidden", "0123456789abcdef0123456789abcde.program", "0123456789abcdef0123456789abcdef0.program",
        "0123456789ABCDEF0123456789ABCDEF.program", "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef.",
        "0123456789abcdef0123456789abcdef.a-very-long-extension", "0123456789abcdef0123456789abcdef.Program", "old.tmp",
        "0123456789abcdef0123456789abcdef-program",
    };
    static const char junk[5000];
    ey_cache *c = open_cache(*state, 4000);
    char directory[4096], link[4096];

    for (size_t i = 0; i < COUNT(names); i++) {
        write_file(*state, names[i], junk, sizeof junk);
        set_age(path_of(*state, names[i]), 1000000);
    }
    strcpy(directory, path_of(*state, "ffffffffffffffffffffffffffffffff." KIND));
    assert_int_equal(mkdir(directory, 0700), 0);
    strcpy(link, path_of(*state, "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee." KIND));
    assert_int_equal(symlink("README", link), 0);
    for (int i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        put(c, key, junk, 900);
        expect_text(c, "nothing", NULL);
    }
    for (size_t i = 0; i < COUNT(names); i++)
        if (!is_there(path_of(*state, names[i]))) fail_msg("%s was removed", names[i]);
    assert_true(is_there(directory) && is_there(link));
    /* Of names that end as entries' do: what is not ours, the directory, the link, and the four that fit. */
    assert_int_equal(count_entries(*state), 3 + 2 + 4);
    ey_cache_close(c);
    expect_notes(0, "");
}

static void leftovers_are_swept(void **state)
{
    static const struct { const char *name; long age; bool goes; } files[] = {
        { "0123456789abcdef0123456789abcdef.program.77-0.tmp", 3700, true },
        { "0123456789abcdef0123456789abcdef.verdicts.9999999-12.tmp", 1000000, true },
        { "0123456789abcdef0123456789abcdef.program.77-1.tmp", 3000, false },      /* may still be written */
        { "0123456789abcdef0123456789abcdef.program.77-2.tmp", -3700, false },     /* somebody's clock is ahead */
    };
    ey_cache *c = open_cache(*state, ROOMY);

    for (size_t i = 0; i < COUNT(files); i++) {
        write_text(*state, files[i].name, "half an ent");
        set_age(path_of(*state, files[i].name), files[i].age);
    }
    put_text(c, "key", "payload");
    for (size_t i = 0; i < COUNT(files); i++)
        if (is_there(path_of(*state, files[i].name)) == files[i].goes) fail_msg("%s", files[i].name);
    ey_cache_close(c);
    expect_notes(0, "");
}

/* ------------------------------------------------------------------------------------------------------- processes */

enum { MOST_PAYLOAD = 20000 };

/* A payload that tells of itself: its key, how long it is, and a pattern that follows from its first bytes. */
static size_t make_payload(unsigned char *p, uint32_t key, uint32_t seed)
{
    uint32_t size = 16 + roll(&seed) % (MOST_PAYLOAD - 16), words[3] = { key, seed, size };

    memcpy(p, words, sizeof words);
    for (size_t i = sizeof words; i < size; i++) p[i] = (unsigned char)roll(&seed);
    return size;
}

static bool is_payload(const unsigned char *p, size_t size, uint32_t key)
{
    uint32_t words[3], seed;

    if (size < sizeof words) return false;
    memcpy(words, p, sizeof words);
    seed = words[1];
    if (words[0] != key || words[2] != size) return false;
    for (size_t i = sizeof words; i < size; i++)
        if (p[i] != (unsigned char)roll(&seed)) return false;
    return true;
}

/* A child's work; never returns. Its exit status is 0 if all that it read was right and nothing was noted. */
static void share(const char *directory, uint64_t limit, uint32_t child, int rounds)
{
    static unsigned char payload[MOST_PAYLOAD];
    uint32_t seed = child * 7919 + 1;
    ey_cache *c = ey_cache_open(directory, limit, &log_notes);

    if (!c) _exit(1);
    for (int i = 0; i < rounds; i++) {
        uint32_t key = roll(&seed) % 5 == 0 ? 100 + child : roll(&seed) % 4;       /* its own, or everybody's */
        size_t size;

        if (roll(&seed) % 3 == 0)
            ey_cache_put(c, KIND, (char *)&key, sizeof key, payload, make_payload(payload, key, roll(&seed)));
        unsigned char *got = ey_cache_get(c, KIND, (char *)&key, sizeof key, &size);
        if (got && !is_payload(got, size, key)) _exit(2);
        ey_free(got);
    }
    ey_cache_close(c);
    if (noted.n) {
        fprintf(stderr, "%s\n", noted.last);
        _exit(3);
    }
    _exit(0);
}

/* Wide: nothing has to go. Narrow: everybody keeps removing what others read and write. */
static void processes_share_a_directory(void **state)
{
    static const uint64_t limits[] = { ROOMY, 5 * MOST_PAYLOAD / 2 };
    enum { CHILDREN = 8 };

    for (size_t k = 0; k < COUNT(limits); k++) {
        pid_t children[CHILDREN];
        fflush(NULL);
        for (uint32_t i = 0; i < CHILDREN; i++)
            if ((children[i] = fork()) == 0) share(*state, limits[k], i, 300);
        for (uint32_t i = 0; i < CHILDREN; i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            if (status) fail_msg("child %u ended with 0x%x", (unsigned)i, (unsigned)status);
        }
        if (k == 0) assert_int_equal(count_entries(*state), 4 + CHILDREN);
        assert_int_equal(find_files(*state, ".tmp", NULL), 0);
    }
    ey_cache *c = open_cache(*state, 100);
    put_text(c, "last", "");                    /* makes room: nothing that was left is out of reach */
    assert_int_equal(count_entries(*state), 1);
    ey_cache_close(c);
}

/* kill -9 at any moment of writing leaves the old entry or the new one. */
static void killed_while_writing(void **state)
{
    enum { LARGE = 1 << 20, TIMES = 60 };
    static char data[2][LARGE];
    ey_cache *c = open_cache(*state, ROOMY);
    uint32_t seed = 1;
    int left_over = 0;

    memset(data[1], 1, LARGE);
    put(c, "key", data[0], LARGE);
    for (int i = 0; i < TIMES; i++) {
        struct timespec wait = { .tv_nsec = (long)(roll(&seed) % 8000000) };
        size_t size;
        pid_t child = fork();

        assert_true(child >= 0);
        for (int k = 0; child == 0; k++) put(c, "key", data[k & 1], LARGE - (size_t)(k & 1));
        nanosleep(&wait, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        char *got = ey_cache_get(c, KIND, "key", 3, &size);
        assert_non_null(got);
        assert_int_equal(size, LARGE - (size_t)*got);
        assert_memory_equal(got, data[(int)*got], size);
        ey_free(got);
        left_over += find_files(*state, ".tmp", NULL) > 0;
        assert_int_equal(count_entries(*state), 1);
    }
    if (left_over == 0) print_message("no child was hit while writing\n");
    ey_cache_close(c);
    expect_notes(0, "");
}

static void no_memory(void **state)
{
    size_t failures = 0, size;

    for (size_t n = 0;; n++) {
        ey_cache *c;
        char *got = NULL;

        fail_allocation(n);
        if ((c = ey_cache_open(*state, ROOMY, &log_notes)) != NULL) {
            put_text(c, "key", "payload");
            got = ey_cache_get(c, KIND, "key", 3, &size);
        }
        bool failed = allocation_failed();
        if (got) assert_memory_equal(got, "payload", 7);
        if (!failed) assert_non_null(got);
        ey_free(got);
        ey_cache_close(c);
        /* Trimming for which there is no memory is left to the next put, without a word. */
        if (failed && noted.n > 1) fail_msg("%u notes for one failure, the last: %s", noted.n, noted.last);
        failures += noted.n;
        memset(&noted, 0, sizeof noted);
        assert_int_equal(find_files(*state, ".tmp", NULL), 0);
        if (!failed) break;
    }
    assert_true(failures >= 5);   /* handle and directory; paths of the entry, twice, and of the temporary file; the bytes */
    assert_int_equal(count_entries(*state), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(temporary_names_that_are_taken),    /* first: it knows how names are counted */
        test(what_was_put_comes_back),
        test(kinds_and_keys_are_apart_and_the_last_put_counts),
        test(no_cache_is_an_empty_one),
        test(every_truncation_and_every_flipped_bit),
        test(foreign_entries),
        test(entries_that_are_no_files),
        test(directories_are_made),
        test(directories_that_cannot_be),
        test(a_directory_without_room),
        test(a_read_only_directory),
        test(a_directory_that_goes_away),
        test(the_entries_used_longest_ago_go_first),
        test(a_directory_full_of_other_files),
        test(leftovers_are_swept),
        test(processes_share_a_directory),
        test(killed_while_writing),
        test(no_memory),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
