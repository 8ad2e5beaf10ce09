/* test_cache.c - the cache, alone and under programs: entries come back whole or not at all, whatever becomes of their
 * files, their directory and the processes that share it; a program comes from its binary, and from its text when that
 * does not do. What the command makes of --cache-dir is test_cli's business. */
#include "testing.h"

#include "cache.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <xxhash.h>

#define KIND "program"

enum { ROOMY = 1 << 30 };

/* ----------------------------------------------------------------------------------------------------------- notes */

typedef struct notes {
    unsigned n;
    char     last[1024];
} notes;

static notes noted;

static void take_note(void *user, const char *line)
{
    notes *to = user;

    to->n++;
    snprintf(to->last, sizeof to->last, "%s", line);
}

static const ey_log log_notes = { take_note, &noted };

/* Since the last call, that many notes were made, the last with `part` in it. */
static void expect_notes(unsigned n, const char *part)
{
    if (noted.n != n || (n && !strstr(noted.last, part)))
        fail_msg("%u notes, wanted %u with \"%s\"; the last: %s", noted.n, n, part, noted.last);
    memset(&noted, 0, sizeof noted);
}

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

/* The number of files whose name ends so; the path of one of them in `path`. */
static size_t find_files(const char *directory, const char *end, char *path)
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

static size_t count_entries(const char *directory) { return find_files(directory, "." KIND, NULL); }

/* The file of the only entry there is. */
static void only_entry(const char *directory, char *path) { assert_int_equal(find_files(directory, "." KIND, path), 1); }

typedef struct bytes {
    unsigned char data[1 << 22];
    size_t        n;
} bytes;

static void load(bytes *b, const char *path)
{
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    b->n = fread(b->data, 1, sizeof b->data, f);
    assert_true(feof(f));
    fclose(f);
}

static void save(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
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

/* -------------------------------------------------------------------------------------------------------- programs */

/* Kernels of our own: compiling those of the library for this would take long and show no more. */
static eyrie_device *open_device(const char *directory, const char *kernel)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .log = take_note, .log_user = &noted };
    char cache[4096], kernels[4096];
    eyrie_device *dev;
    eyrie_error err;

    snprintf(cache, sizeof cache, "%s/cache", directory);
    snprintf(kernels, sizeof kernels, "%s/kernels", directory);
    if (mkdir(kernels, 0700) != 0) assert_int_equal(errno, EEXIST);
    for (size_t i = 0; i < ey_kernel_texts_count; i++) write_text(kernels, ey_kernel_texts[i].name, "");
    write_text(kernels, "norm.cl", kernel);
    opts.cache_dir = cache;
    opts.kernel_dir = kernels;
    if (eyrie_device_open(&dev, &opts, &err) == EYRIE_OK) {
        dev->keeps_kernels = false;             /* PoCL does, but it can show what happens where the driver does not */
        return dev;
    }
    if (err.status != EYRIE_ENODEV) fail_msg("%s", err.text);
    skip();
    return NULL;
}

#define TWICE "kernel void twice(global int *x) { *x = 2 * *x; }\n"
#define THRICE "kernel void thrice(global int *x) { *x = 3 * *x; }\n"

/* How often the library called OpenCL, and the call that is to fail. */
static struct {
    unsigned    n, sources, binaries, reads;
    unsigned    fail_at;            /* counted from 1; 0: none */
    const char *fail_name;
    char        failed[64];
} calls;

static cl_int count_call(const char *call)
{
    calls.n++;
    calls.sources += !strcmp(call, "clCreateProgramWithSource");
    calls.binaries += !strcmp(call, "clCreateProgramWithBinary");
    calls.reads += !strcmp(call, "clGetProgramInfo");
    if (calls.n != calls.fail_at && !(calls.fail_name && !strcmp(call, calls.fail_name))) return CL_SUCCESS;
    calls.fail_name = NULL;         /* once */
    snprintf(calls.failed, sizeof calls.failed, "%s", call);
    return CL_OUT_OF_RESOURCES;
}

/* Runs the kernel on x; the OpenCL calls are the test's own. */
static int run_kernel(eyrie_device *dev, cl_kernel kernel, int x)
{
    cl_int code;
    size_t one = 1;
    cl_mem buffer = clCreateBuffer(dev->context, CL_MEM_COPY_HOST_PTR, sizeof x, &x, &code);

    assert_int_equal(code, CL_SUCCESS);
    assert_int_equal(clSetKernelArg(kernel, 0, sizeof buffer, &buffer), CL_SUCCESS);
    assert_int_equal(clEnqueueNDRangeKernel(dev->queue, kernel, 1, NULL, &one, &one, 0, NULL, NULL), CL_SUCCESS);
    assert_int_equal(clEnqueueReadBuffer(dev->queue, buffer, CL_TRUE, 0, sizeof x, &x, 0, NULL, NULL), CL_SUCCESS);
    clReleaseMemObject(buffer);
    return x;
}

/* What a model does: build, make kernels, launch, store. Failing is fine where something of OpenCL fails; being wrong
 * is not. */
static eyrie_status start(eyrie_device *dev, const char *name, int factor)
{
    eyrie_error err = { EYRIE_OK, 0, "" };
    ey_program *p;
    cl_kernel kernel;
    eyrie_status st;

    memset(&noted, 0, sizeof noted);
    calls.n = calls.sources = calls.binaries = calls.reads = 0;
    ey_cl_hook = count_call;
    st = ey_program_build(&p, dev, 1u << EYRIE_FORMAT_F32, EYRIE_FORMAT_F32, &err);
    if (st == EYRIE_OK) st = ey_program_kernel(p, name, &kernel, &err);
    if (st == EYRIE_OK) {
        assert_int_equal(run_kernel(dev, kernel, 21), 21 * factor);
        ey_program_store(p);
    }
    ey_cl_hook = NULL;
    if (st != EYRIE_OK) assert_true(err.text[0] && !strchr(err.text, '\n'));
    ey_program_free(p);
    return st;
}

static void expect_start(eyrie_device *dev, const char *name, int factor, unsigned sources, unsigned binaries)
{
    assert_int_equal(start(dev, name, factor), EYRIE_OK);
    if (calls.sources != sources || calls.binaries != binaries)
        fail_msg("built from text %u and from binary %u times, wanted %u and %u; %s", calls.sources, calls.binaries,
                 sources, binaries, noted.last);
    assert_int_equal(calls.reads, sources ? 2 : 0);     /* the binary's size and the binary, to be kept */
}

static void close_device(eyrie_device *dev) { assert_int_equal(eyrie_device_close(dev), EYRIE_OK); }

static void the_second_start_is_from_the_binary(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    char cache[4096];

    expect_start(dev, "twice", 2, 1, 0);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);

    dev = open_device(*state, "\n" TWICE);      /* another text, another entry */
    expect_start(dev, "twice", 2, 1, 0);
    close_device(dev);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    assert_int_equal(count_entries(cache), 2);
    expect_notes(0, "");
}

/* Makes an entry's checksum right again; this is the format as cache.c describes it. */
static void reseal(bytes *b)
{
    XXH128_canonical_t checksum;

    for (size_t i = 0; i < 8; i++) b->data[52 + i] = (unsigned char)((uint64_t)(b->n - 76) >> 8 * i);
    XXH128_canonicalFromHash(&checksum, XXH3_128bits_withSeed(b->data + 76, b->n - 76, XXH3_64bits(b->data, 60)));
    memcpy(b->data + 60, &checksum, 16);
}

static void binaries_that_do_not_do(void **state)
{
    static bytes twice, b;
    char cache[4096], path[4096];
    eyrie_device *dev = open_device(*state, THRICE);

    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    expect_start(dev, "thrice", 3, 1, 0);
    close_device(dev);
    only_entry(cache, path);
    load(&b, path);
    assert_int_equal(remove(path), 0);
    dev = open_device(*state, TWICE);
    expect_start(dev, "twice", 2, 1, 0);
    only_entry(cache, path);
    load(&twice, path);

    /* Sound, but with another program's kernels. */
    memcpy(b.data, twice.data, 76);
    reseal(&b);
    save(path, b.data, b.n);
    expect_start(dev, "twice", 2, 1, 1);
    expect_notes(1, "do not load");
    expect_start(dev, "twice", 2, 0, 1);
    expect_notes(0, "");

    /* Changed in some place: never shown to the driver, which may abort on it. */
    for (size_t i = 0; i < 16; i++) {
        b = twice;
        b.data[i * (b.n - 1) / 15] ^= 0x10;
        save(path, b.data, b.n);
        expect_start(dev, "twice", 2, 1, 0);
        expect_notes(1, path);
        expect_start(dev, "twice", 2, 0, 1);
        expect_notes(0, "");
    }
    close_device(dev);
}

/* Any one call may fail in a start from the cache: what it was for is done from the text. In a start from text, the
 * calls that are for the cache alone may. */
static void opencl_calls_that_fail(void **state)
{
    static const char *const for_cache[] = { "clGetPlatformInfo", "clGetDeviceInfo", "clGetProgramInfo" };
    eyrie_device *dev = open_device(*state, TWICE);
    char cache[4096], path[4096];

    snprintf(cache, sizeof cache, "%s/cache", (char *)*state);
    expect_start(dev, "twice", 2, 1, 0);
    expect_start(dev, "twice", 2, 0, 1);
    unsigned n = calls.n;
    assert_in_range(n, 5, 50);
    for (unsigned i = 1; i <= n; i++) {
        calls.fail_at = i;
        if (start(dev, "twice", 2) != EYRIE_OK) fail_msg("%s failed, and with it the start", calls.failed);
        expect_notes(1, "cache: ");
        calls.fail_at = 0;
        expect_start(dev, "twice", 2, 0, 1);    /* kept anew, or still */
        expect_notes(0, "");
    }
    for (size_t i = 0; i < COUNT(for_cache); i++) {
        only_entry(cache, path);
        assert_int_equal(remove(path), 0);
        calls.fail_name = for_cache[i];
        assert_int_equal(start(dev, "twice", 2), EYRIE_OK);
        expect_notes(1, "cache: ");
        assert_int_equal(count_entries(cache), 0);
        expect_start(dev, "twice", 2, 1, 0);
    }
    calls.fail_name = "clCreateKernel";         /* nothing to fall back to */
    only_entry(cache, path);
    assert_int_equal(remove(path), 0);
    assert_int_equal(start(dev, "twice", 2), EYRIE_EBUILD);
    close_device(dev);
}

static void memory_that_fails(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    eyrie_status st;
    size_t n = 0;

    expect_start(dev, "twice", 2, 1, 0);
    for (; fail_allocation(n), st = start(dev, "twice", 2), allocation_failed(); n++) {
        if (st != EYRIE_OK) assert_int_equal(st, EYRIE_ENOMEM);
        assert_true(noted.n <= 1);
    }
    assert_int_equal(st, EYRIE_OK);
    assert_true(n >= 3);    /* program, key, the entry's path and bytes */
    expect_start(dev, "twice", 2, 0, 1);
    close_device(dev);
}

/* A device without a cache asks the driver for nothing that only a cache needs. */
static void without_a_cache(void **state)
{
    eyrie_device *dev = open_device(*state, TWICE);
    ey_cache *c = dev->cache;

    dev->cache = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(start(dev, "twice", 2), EYRIE_OK);
        assert_int_equal(calls.sources, 1);
        assert_int_equal(calls.binaries + calls.reads, 0);
    }
    dev->cache = c;
    close_device(dev);
    expect_notes(0, "");
}

/* -------------------------------------------------------------------------------------------------------- a model */

typedef struct words {
    int32_t tokens[24];
    size_t  n;
} words;

static void take_token(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    words *w = user;

    (void)seq;
    if (event->kind == EYRIE_EVENT_TOKEN && w->n < COUNT(w->tokens)) w->tokens[w->n++] = event->token;
}

/* What the demo's model writes, on a device of its own with that cache. */
static words write_words(const char *cache_dir)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .log = take_note,
                               .log_user = &noted, .cache_dir = cache_dir };
    static const int32_t prompt[] = { 2, 814, 983, 4 };
    words w = { .n = 0 };
    eyrie_request request = { .struct_size = sizeof request, .tokens = prompt, .n_tokens = COUNT(prompt),
                              .max_tokens = COUNT(w.tokens), .flags = EYRIE_IGNORE_EOS, .on_event = take_token, .user = &w };
    const eyrie_model_opts plain = { .struct_size = sizeof plain, .compute = EYRIE_COMPUTE_F32 };   /* no matrix unit, no note of it */
    eyrie_device *dev;
    eyrie_model *model;
    eyrie_engine *engine;
    eyrie_seq *seq;
    eyrie_error err;
    bool busy = true;

    memset(&calls, 0, sizeof calls);
    ey_cl_hook = count_call;
    if (eyrie_device_open(&dev, &opts, &err) == EYRIE_ENODEV) skip();
    dev->keeps_kernels = false;
    if (eyrie_model_open(&model, dev, EY_SOURCE_DIR "/models/shakespeare", &plain, &err) != EYRIE_OK
        || eyrie_engine_open(&engine, model, NULL, &err) != EYRIE_OK || eyrie_seq_open(&seq, engine, &err) != EYRIE_OK
        || eyrie_seq_submit(seq, &request, &err) != EYRIE_OK)
        fail_msg("%s", err.text);
    while (busy)
        if (eyrie_engine_step(engine, &busy, &err) != EYRIE_OK) fail_msg("%s", err.text);
    eyrie_seq_close(seq);
    eyrie_engine_close(engine);
    eyrie_model_close(model);
    close_device(dev);
    ey_cl_hook = NULL;
    assert_int_equal(w.n, COUNT(w.tokens));
    return w;
}

static void a_model_writes_the_same_from_the_cache(void **state)
{
    char path[4096];
    static bytes b;
    words first = write_words(*state), again;

    assert_int_equal(calls.sources, 1);
    again = write_words(*state);
    assert_int_equal(calls.sources, 0);
    assert_int_equal(calls.binaries, 1);
    assert_memory_equal(again.tokens, first.tokens, sizeof first.tokens);
    expect_notes(0, "");

    only_entry(*state, path);
    load(&b, path);
    b.data[b.n / 2] ^= 1;
    save(path, b.data, b.n);
    again = write_words(*state);
    assert_int_equal(calls.sources, 1);
    assert_memory_equal(again.tokens, first.tokens, sizeof first.tokens);
    expect_notes(1, "not what was written");
    only_entry(*state, path);
}

/* Every test begins in an empty directory, with nothing noted and no call that is to fail, and may leave directories of
 * these names. */
static int begin(void **state)
{
    memset(&noted, 0, sizeof noted);
    memset(&calls, 0, sizeof calls);
    ey_cl_hook = NULL;
    return make_dir(state);
}

static int end(void **state)
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
        test(the_second_start_is_from_the_binary),
        test(binaries_that_do_not_do),
        test(opencl_calls_that_fail),
        test(memory_that_fails),
        test(without_a_cache),
        test(a_model_writes_the_same_from_the_cache),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
