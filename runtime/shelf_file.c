/* shelf_file.c - snapshots in files of a directory, and what of them is found there later.
 *
 * A file is called <hash of the traits>-<hash of the tokens>.prefix and is a state file (snapshot.h) of two parts: the bytes
 * that a buffer has, after a record, little endian:
 *
 *      0  u64 tokens    8  u32 ENDS or 0    12  u32 candidates    16  f32 log-sum-exp    20  u32 zero
 *     24  i32 each, tokens; i32 and f32 each, candidates */
#include "shelf_parts.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

enum {
    RECORD = 24, ENDS = 1, TRAITS_DIGITS = 16, NAME = TRAITS_DIGITS + 1 + 32 + sizeof ".prefix",
    TEMPORARY_SECONDS = 3600
};

/* ------------------------------------------------------------------------------------------------------------ records */

static uint64_t record_bytes(uint64_t n, uint64_t candidates) { return RECORD + 4 * n + 8 * candidates; }

static void put_record(unsigned char *at, const int32_t *tokens, uint64_t n, const ey_result *ending)
{
    uint32_t bits;

    ey_put(at, 8, n);
    if (ending) {
        memcpy(&bits, &ending->lse, sizeof bits);
        ey_put(at + 8, 4, ENDS);
        ey_put(at + 12, 4, ending->n);
        ey_put(at + 16, 4, bits);
    }
    at += RECORD;
    for (uint64_t i = 0; i < n; i++, at += 4) ey_put(at, 4, (uint32_t)tokens[i]);
    for (uint32_t i = 0; ending && i < ending->n; i++, at += 8) {
        memcpy(&bits, &ending->best[i].logit, sizeof bits);
        ey_put(at, 4, (uint32_t)ending->best[i].id);
        ey_put(at + 4, 4, bits);
    }
}

/* What a record says; the tokens are for ey_free. */
typedef struct record {
    int32_t  *tokens;           /* [n] */
    uint64_t  n;
    bool      ends;
    ey_result ending;
} record;

/* False: it is none, or there is no memory for it. */
static bool get_record(const ey_shelf *s, const unsigned char *at, uint64_t size, record *r)
{
    uint32_t vocab = ey_shelf_vocab(s), bits, candidates;
    bool right = true;

    *r = (record){ .n = 0 };
    if (size < RECORD) return false;
    r->n = ey_get(at, 8);
    r->ends = ey_get(at + 8, 4) == ENDS;
    candidates = (uint32_t)ey_get(at + 12, 4);
    if (r->n == 0 || r->n > size / 4 || candidates > EY_CANDIDATES || size != record_bytes(r->n, candidates)
        || !(r->tokens = ey_calloc(r->n, sizeof *r->tokens)))
        return false;
    bits = (uint32_t)ey_get(at + 16, 4);
    memcpy(&r->ending.lse, &bits, sizeof bits);
    r->ending.n = candidates;
    at += RECORD;
    for (uint64_t i = 0; i < r->n; i++, at += 4) {
        r->tokens[i] = (int32_t)ey_get(at, 4);
        right &= (uint32_t)r->tokens[i] < vocab;
    }
    for (uint32_t i = 0; i < candidates; i++, at += 8) {
        bits = (uint32_t)ey_get(at + 4, 4);
        r->ending.best[i].id = (int32_t)ey_get(at, 4);
        memcpy(&r->ending.best[i].logit, &bits, sizeof bits);
        right &= (uint32_t)r->ending.best[i].id < vocab;
    }
    if (right) return true;
    ey_free(r->tokens);
    r->tokens = NULL;
    return false;
}

/* Values alone: what to do about another one is no part of what a file is. */
static uint64_t hash_traits(const ey_traits *t)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < t->n; i++) hash = XXH3_64bits_withSeed(t->list[i].value, strlen(t->list[i].value), hash);
    return hash;
}

/* The same tokens have the same name wherever numbers are little endian; elsewhere another one, which does no harm. */
static void name_of(const ey_shelf *s, const int32_t *tokens, uint64_t n, char name[NAME])
{
    XXH128_hash_t hash = XXH3_128bits(tokens, (size_t)n * sizeof *tokens);
    snprintf(name, NAME, "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 ".prefix", s->traits_hash, hash.high64, hash.low64);
}

/* Tokens and path of a snapshot's file, both for ey_free. False: no memory. */
static bool file_of(const ey_shelf *s, const ey_prefix *p, int32_t **tokens, char **path)
{
    char name[NAME];

    *path = NULL;
    if (!(*tokens = ey_calloc(p->length, sizeof **tokens))) return false;
    ey_prefix_tokens(s->prefixes, p, *tokens);
    name_of(s, *tokens, p->length, name);
    return (*path = ey_path(s->directory, name)) != NULL;
}

eyrie_status ey_shelf_write_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err)
{
    const ey_stored *k = p->snapshot;
    uint64_t sizes[2] = { record_bytes(p->length, k->ending ? k->ending->n : 0), k->bytes };
    unsigned char *bytes = NULL, *head = ey_calloc(sizes[0], 1);
    ey_snapshot_writer *w = NULL;
    int32_t *tokens;
    char *path;
    eyrie_status st = EYRIE_OK, finished;

    if (!file_of(s, p, &tokens, &path) || !head)
        EY_TRY(ey_fail(err, EYRIE_ENOMEM, "a prompt of %" PRIu64 " tokens", p->length));
    if (!k->host) EY_TRY(ey_stored_fetch(s, k, &bytes, err));
    put_record(head, tokens, p->length, k->ending);
    EY_TRY(ey_snapshot_create(&w, path, &s->traits, sizes, 2, err));
    EY_TRY(ey_snapshot_write(w, head, sizes[0], err));
    EY_TRY(ey_snapshot_write(w, k->host ? k->host : bytes, k->bytes, err));
done:
    finished = ey_snapshot_finish(w, st == EYRIE_OK, st == EYRIE_OK ? err : NULL);
    ey_free(bytes);
    ey_free(head);
    ey_free(tokens);
    ey_free(path);
    return st == EYRIE_OK ? finished : st;
}

/* The file is not believed what its name and its index entry say. */
eyrie_status ey_shelf_read_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err)
{
    ey_stored *k = p->snapshot;
    ey_snapshot file = { .n_parts = 0 };
    const unsigned char *head, *bytes;
    record r = { .tokens = NULL };
    uint64_t size;
    int32_t *tokens;
    char *path;
    eyrie_status st;

    if (!file_of(s, p, &tokens, &path)) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "a prompt of %" PRIu64 " tokens", p->length));
    EY_TRY(ey_snapshot_open(&file, path, &s->traits, err));
    head = ey_snapshot_part(&file, 0, &size);
    if (!get_record(s, head, size, &r) || r.n != p->length || r.ends != p->ends
        || memcmp(r.tokens, tokens, r.n * sizeof *tokens) != 0)
        EY_TRY(ey_fail(err, EYRIE_EFORMAT, "%s: is of another prompt", path));
    bytes = ey_snapshot_part(&file, 1, &size);
    if (size != k->bytes)
        EY_TRY(ey_fail(err, EYRIE_EFORMAT, "%s: has %" PRIu64 " bytes of state, not %" PRIu64, path, size, k->bytes));
    st = ey_stored_fill(s, k, bytes, err);
done:
    ey_snapshot_close(&file);
    ey_free(r.tokens);
    ey_free(tokens);
    ey_free(path);
    return st;
}

void ey_shelf_remove_file(const ey_shelf *s, const ey_prefix *p)
{
    int32_t *tokens;
    char *path;

    if (file_of(s, p, &tokens, &path)) (void)remove(path);
    ey_free(tokens);
    ey_free(path);
}

/* ------------------------------------------------------------------------------------------------------ the directory */

typedef struct listing {
    ey_shelf *shelf;
    int64_t   now;              /* seconds */
    uint64_t  others;           /* files of other models */
} listing;

static void take_file(ey_shelf *s, const char *path, const char *name)
{
    ey_snapshot file;
    const unsigned char *head;
    record r = { .tokens = NULL };
    ey_stored *k = NULL;
    uint64_t size, bytes;
    char wanted[NAME];
    eyrie_error error;
    eyrie_status st;

    EY_TRY(ey_snapshot_peek(&file, path, &s->traits, &error));
    head = ey_snapshot_part(&file, 0, &size);
    if (!get_record(s, head, size, &r))
        EY_TRY(ey_fail(&error, EYRIE_EFORMAT, "%s: what it says of its prompt cannot be", path));
    name_of(s, r.tokens, r.n, wanted);
    bytes = ey_shelf_state_bytes(s, r.n, r.ends);
    (void)ey_snapshot_part(&file, 1, &size);
    if (strcmp(name, wanted) != 0 || size != bytes)
        EY_TRY(ey_fail(&error, EYRIE_EFORMAT, "%s: is of another prompt", path));
    bytes = ey_stored_bytes(bytes, r.ends);
    if (bytes > s->file_limit) goto done;
    if (!ey_prefixes_make_room(s->prefixes, EY_ON_DISK, bytes, r.n)
        || !(k = ey_stored_new(size, r.ends ? &r.ending : NULL))
        || !ey_prefixes_add(s->prefixes, r.tokens, r.n, k, bytes, r.ends, EY_ON_DISK))
        ey_stored_free(k);
done:
    if (st != EYRIE_OK) ey_note(ey_shelf_log(s), "prefix cache: %s; it is not used", error.text);
    ey_snapshot_close(&file);
    ey_free(r.tokens);
}

/* Files with our names, and what a process that was killed left of one. */
static void visit(void *user, const char *name, uint64_t size, int64_t changed)
{
    listing *l = user;
    char traits[TRAITS_DIGITS + 2];
    const char *end = strstr(name, ".prefix");
    char *path;

    (void)size;
    if (end != name + NAME - sizeof ".prefix" || !(path = ey_path(l->shelf->directory, name))) return;
    snprintf(traits, sizeof traits, "%016" PRIx64 "-", l->shelf->traits_hash);
    if (end[sizeof ".prefix" - 1] != '\0') {
        bool temporary = strcmp(name + strlen(name) - strlen(".tmp"), ".tmp") == 0;
        if (temporary && changed / 1000000000 < l->now - TEMPORARY_SECONDS) (void)remove(path);
    } else if (strncmp(name, traits, sizeof traits - 1) != 0) {
        l->others++;
    } else {
        take_file(l->shelf, path, name);
    }
    ey_free(path);
}

eyrie_status ey_shelf_open_directory(ey_shelf *s, const char *directory, eyrie_error *err)
{
    listing l = { .shelf = s, .now = (int64_t)time(NULL) };
    eyrie_status st;

    s->traits_hash = hash_traits(&s->traits);
    if (!(s->directory = ey_strdup(directory))) return ey_fail(err, EYRIE_ENOMEM, "prefix cache");
    if ((st = ey_dir_make(directory, err)) != EYRIE_OK) return st;
    ey_dir_each(directory, visit, &l);
    if (l.others)
        ey_note(ey_shelf_log(s), "prefix cache: %" PRIu64 " file(s) in %s are of other models, or of this one with other "
                "options; they are left alone", l.others, directory);
    ey_prefixes_age(s->prefixes);
    return EYRIE_OK;
}

