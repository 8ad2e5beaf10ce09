/* cache.c - entries as files. An entry lies in <hash of its key>.<kind> and is 76 bytes and its payload:
 *
 *     offset  bytes
 *          0      8  magic
 *          8      4  version of this format
 *         12     16  kind, filled up with zeros
 *         28      8  bytes of the key
 *         36     16  hash of the key
 *         52      8  bytes of the payload
 *         60     16  checksum: hash of the payload, seeded with the hash of the 60 bytes before
 *
 * Numbers are little endian, hashes XXH3 in their canonical form. Only files whose names look like ours are ever counted
 * or removed. There are no locks: renaming puts an entry in place whole, and whoever finds a file gone has nothing to do. */
#include "cache.h"
#include "os.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

enum { FORMAT_VERSION = 1, KIND_BYTES = 16, CHECKSUM_AT = 60, HEADER_BYTES = 76, HASH_DIGITS = 32, TEMPORARY_SECONDS = 3600 };

static const char magic[8] = "eyrie\r\n\x1a";   /* as in PNG: shows what a transfer as text has changed */

struct ey_cache {
    char    *directory;
    uint64_t limit;
    ey_log   log;
    bool     write_failed;      /* nothing is kept any more */
};

ey_cache *ey_cache_open(const char *directory, uint64_t limit, const ey_log *log)
{
    ey_cache *c = ey_calloc(1, sizeof *c);
    eyrie_error err;

    if (!c || !(c->directory = ey_strdup(directory))) {
        ey_note(log, "no memory for the cache: nothing is kept for later starts");
    } else if (ey_dir_make(directory, &err) != EYRIE_OK) {
        ey_note(log, "%s: nothing is kept for later starts; choose another --cache-dir", err.text);
    } else {
        c->limit = limit;
        c->log = *log;
        return c;
    }
    ey_cache_close(c);
    return NULL;
}

void ey_cache_close(ey_cache *c)
{
    if (!c) return;
    ey_free(c->directory);
    ey_free(c);
}

/* ---------------------------------------------------------------------------------------------------------- format */

/* One to 15 small letters. */
static bool is_kind(const char *word)
{
    size_t n = strlen(word);

    return n > 0 && n < KIND_BYTES && strspn(word, "abcdefghijklmnopqrstuvwxyz") == n;
}

static void put_number(unsigned char *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static void put_hash(unsigned char to[16], XXH128_hash_t hash)
{
    XXH128_canonical_t bytes;

    XXH128_canonicalFromHash(&bytes, hash);
    memcpy(to, &bytes, sizeof bytes);
}

/* The only header that an entry with this key and payload can have. */
static void make_header(unsigned char header[HEADER_BYTES], const char *kind, XXH128_hash_t key, size_t key_length,
                        const void *payload, size_t size)
{
    assert(is_kind(kind));
    memset(header, 0, HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    put_number(header + 8, FORMAT_VERSION, 4);
    memcpy(header + 12, kind, strlen(kind));
    put_number(header + 28, key_length, 8);
    put_hash(header + 36, key);
    put_number(header + 52, size, 8);
    put_hash(header + CHECKSUM_AT, XXH3_128bits_withSeed(payload, size, XXH3_64bits(header, CHECKSUM_AT)));
}

/* What is wrong with a file of this name, or NULL. */
static const char *find_fault(const unsigned char *file, size_t size, const char *kind, XXH128_hash_t key, size_t key_length)
{
    static const struct { size_t at, bytes; const char *fault; } parts[] = {
        { 0, 8, "is not an entry of this cache" },
        { 8, 4, "is of another version of this cache" },
        { 12, 40, "is the entry of another key" },
        { 52, 8, "is not as long as it was" },
        { CHECKSUM_AT, 16, "is not what was written" },
    };
    unsigned char header[HEADER_BYTES];

    if (size < HEADER_BYTES) return "is cut short";
    make_header(header, kind, key, key_length, file + HEADER_BYTES, size - HEADER_BYTES);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (memcmp(file + parts[i].at, header + parts[i].at, parts[i].bytes)) return parts[i].fault;
    return NULL;
}

/* The path of an entry, for ey_free. */
static char *make_path(const ey_cache *c, XXH128_hash_t key, const char *kind)
{
    char name[128];

    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 ".%s", key.high64, key.low64, kind);
    return ey_path(c->directory, name);
}

/* --------------------------------------------------------------------------------------------------------- reading */

void *ey_cache_get(ey_cache *c, const char *kind, const char *key, size_t key_length, size_t *size)
{
    XXH128_hash_t hash;
    const char *fault;
    void *data = NULL;
    char *path;
    eyrie_error err;

    *size = 0;
    if (!c) return NULL;
    hash = XXH3_128bits(key, key_length);
    if (!(path = make_path(c, hash, kind))) {
        ey_note(&c->log, "no memory to look into the cache");
    } else if (ey_file_read(&data, size, path, c->limit, &err) != EYRIE_OK) {
        ey_note(&c->log, "cache: %s", err.text);
    } else if (data && (fault = find_fault(data, *size, kind, hash, key_length)) != NULL) {
        ey_note(&c->log, "cache: %s %s; it is %s", path, fault, remove(path) == 0 ? "removed" : "not used");
        ey_free(data);
        data = NULL;
        *size = 0;
    } else if (data) {
        ey_file_touch(path);
        *size -= HEADER_BYTES;
        memmove(data, (const unsigned char *)data + HEADER_BYTES, *size);
    }
    ey_free(path);
    return data;
}

/* -------------------------------------------------------------------------------------------------------- trimming */

typedef struct entry {
    char     name[HASH_DIGITS + 1 + KIND_BYTES];
    uint64_t bytes;
    int64_t  changed;
} entry;

typedef struct listing {
    const ey_cache *cache;
    int64_t         now;
    entry          *entries;
    size_t          n, capacity;
    uint64_t        bytes;
} listing;

static void remove_file(const ey_cache *c, const char *name)
{
    char *path = ey_path(c->directory, name);

    if (path) (void)remove(path);
    ey_free(path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Lists entries; removes temporary files that nobody can be writing any more. */
static void visit(void *user, const char *name, uint64_t bytes, int64_t changed)
{
    listing *l = user;
    const char *kind = name + HASH_DIGITS + 1;

    if (strspn(name, "0123456789abcdef") != HASH_DIGITS || name[HASH_DIGITS] != '.') return;
    if (ends_with(kind, ".tmp")) {
        if (changed / 1000000000 < l->now - TEMPORARY_SECONDS) remove_file(l->cache, name);
    } else if (is_kind(kind) && ey_grow(&l->entries, &l->capacity, l->n + 1, sizeof *l->entries)) {
        entry *e = &l->entries[l->n++];
        snprintf(e->name, sizeof e->name, "%s", name);
        e->bytes = bytes;
        e->changed = changed;
        l->bytes += bytes;
    }
}

static int oldest_first(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    if (x->changed != y->changed) return x->changed < y->changed ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Makes the entries fit the limit without the one at `kept`. */
static void trim(const ey_cache *c, const char *kept)
{
    listing l = { .cache = c, .now = (int64_t)time(NULL) };

    ey_dir_each(c->directory, visit, &l);
    if (l.bytes > c->limit) qsort(l.entries, l.n, sizeof *l.entries, oldest_first);
    for (size_t i = 0; i < l.n && l.bytes > c->limit; i++) {
        if (ends_with(kept, l.entries[i].name)) continue;
        remove_file(c, l.entries[i].name);
        l.bytes -= l.entries[i].bytes;
    }
    ey_free(l.entries);
}

/* --------------------------------------------------------------------------------------------------------- writing */

static eyrie_status write_entry(const char *path, const unsigned char *header, const void *data, size_t size, eyrie_error *err)
{
    ey_output *file;
    eyrie_status st, closed;

    if ((st = ey_output_open(&file, path, err)) != EYRIE_OK) return st;
    st = ey_output_write(file, header, HEADER_BYTES, err);
    if (st == EYRIE_OK) st = ey_output_write(file, data, size, err);
    closed = ey_output_close(file, st == EYRIE_OK, st == EYRIE_OK ? err : NULL);
    return st == EYRIE_OK ? closed : st;
}

void ey_cache_put(ey_cache *c, const char *kind, const char *key, size_t key_length, const void *data, size_t size)
{
    unsigned char header[HEADER_BYTES];
    char text[2][24];
    XXH128_hash_t hash;
    eyrie_error err;
    char *path;

    if (!c || c->write_failed) return;
    if (size > c->limit || size + HEADER_BYTES > c->limit) {
        ey_note(&c->log, "cache: an entry of %s is not kept, the cache has %s", ey_bytes_text(size, text[0]),
                ey_bytes_text(c->limit, text[1]));
        return;
    }
    hash = XXH3_128bits(key, key_length);
    make_header(header, kind, hash, key_length, data, size);
    path = make_path(c, hash, kind);
    if (!path || write_entry(path, header, data, size, &err) != EYRIE_OK) {
        ey_note(&c->log, "cache: %s; nothing is kept for later starts", path ? err.text : "no memory");
        c->write_failed = true;
    } else {
        trim(c, path);
    }
    ey_free(path);
}
