/* shelf.c - see shelf.h. A snapshot is the used bytes of a slot, layer after layer, and where its text ends the logits after
 * that: one buffer, one block of host memory, or one part of a file. */
#include "shelf.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

/* A file is called <hash of the traits>-<hash of the tokens>.prefix and is a state file (snapshot.h) of two parts: the bytes
 * that a buffer has, after a record, little endian:
 *
 *      0  u64 tokens    8  u32 ENDS or 0    12  u32 candidates    16  f32 log-sum-exp    20  u32 zero
 *     24  i32 each, tokens; i32 and f32 each, candidates */
enum { RECORD = 24, ENDS = 1, TRAITS_DIGITS = 16, NAME = TRAITS_DIGITS + 1 + 32 + sizeof ".prefix", TEMPORARY_SECONDS = 3600 };

typedef struct stored {
    uint64_t       bytes;
    ey_arena       arena;
    ey_buffer     *buffer;      /* on the device; NULL: not there */
    unsigned char *host;        /* NULL: not there */
    ey_result     *ending;      /* of its last token; NULL: there are no logits */
} stored;

struct ey_shelf {
    eyrie_model *model;
    ey_prefixes *prefixes;
    char        *directory;     /* NULL: none */
    ey_traits    traits;
    uint64_t     traits_hash;
    uint64_t     file_limit;    /* bytes of a snapshot that can come back from a file */
    uint64_t     copied;
    double       seconds;
    bool         write_failed;  /* no more files */
    bool         noted;         /* that copies fail */
};

static const ey_log *log_of(const ey_shelf *s) { return &ey_model_device(s->model)->log; }

static uint32_t vocab_of(const ey_shelf *s) { return ey_model_get_limits(s->model).vocab; }

/* Of a snapshot after n tokens. */
static uint64_t state_bytes(const ey_shelf *s, uint64_t n, bool ends)
{
    return ey_model_state_bytes(s->model, n) + (ends ? vocab_of(s) * sizeof(float) : 0);
}

/* The same with what is kept beside it. */
static uint64_t full_bytes(uint64_t bytes, bool ends) { return bytes + sizeof(stored) + (ends ? sizeof(ey_result) : 0); }

/* Says the first time that there are no more snapshots than before; they may fit again later. */
static void note_copy(ey_shelf *s, const eyrie_error *error)
{
    if (!s->noted) ey_note(log_of(s), "prefix cache: %s; a prompt's state is not kept", error->text);
    s->noted = true;
}

/* --------------------------------------------------------------------------------------------------------- snapshots */

static void drop_buffer(stored *k)
{
    if (k->buffer) ey_arena_free(&k->arena);
    k->buffer = NULL;
}

static void drop_host(stored *k)
{
    ey_free(k->host);
    k->host = NULL;
}

static void forget(void *user, void *snapshot)
{
    stored *k = snapshot;

    (void)user;
    if (!k) return;
    drop_buffer(k);
    drop_host(k);
    ey_free(k->ending);
    ey_free(k);
}

static stored *new_stored(uint64_t bytes, const ey_result *ending)
{
    stored *k = ey_calloc(1, sizeof *k);

    if (!k || (ending && !(k->ending = ey_calloc(1, sizeof *k->ending)))) {
        ey_free(k);
        return NULL;
    }
    k->bytes = bytes;
    if (ending) *k->ending = *ending;
    return k;
}

static eyrie_status make_buffer(const ey_shelf *s, stored *k, eyrie_error *err)
{
    ey_buffer *b;
    eyrie_status st;

    ey_arena_init(&k->arena, ey_model_device(s->model), "prefixes");
    if (!(b = ey_arena_add(&k->arena, k->bytes, "a prompt's state"))) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "a prompt's state"));
    EY_TRY(ey_arena_commit(&k->arena, err));
    k->buffer = b;
done:
    if (st != EYRIE_OK) ey_arena_free(&k->arena);
    return st;
}

/* Its bytes from the device to memory of the host, for ey_free. */
static eyrie_status fetch(const ey_shelf *s, const stored *k, unsigned char **out, eyrie_error *err)
{
    char size[24];
    eyrie_status st;

    if (!(*out = ey_calloc(k->bytes, 1))) return ey_fail(err, EYRIE_ENOMEM, "a prompt's state of %s", ey_bytes_text(k->bytes, size));
    if ((st = ey_buffer_read(ey_model_device(s->model), k->buffer, 0, k->bytes, *out, err)) == EYRIE_OK) return st;
    ey_free(*out);
    *out = NULL;
    return st;
}

/* ------------------------------------------------------------------------------------------------------------- files */

static uint64_t record_bytes(uint64_t n, const ey_result *ending) { return RECORD + 4 * n + (ending ? 8 * (uint64_t)ending->n : 0); }

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
    uint32_t vocab = vocab_of(s), bits, candidates;
    bool right = true;

    *r = (record){ .n = 0 };
    if (size < RECORD) return false;
    r->n = ey_get(at, 8);
    r->ends = ey_get(at + 8, 4) == ENDS;
    candidates = (uint32_t)ey_get(at + 12, 4);
    if (r->n == 0 || r->n > size / 4 || candidates > EY_CANDIDATES || size != RECORD + 4 * r->n + 8 * (uint64_t)candidates
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

static eyrie_status write_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err)
{
    const stored *k = p->snapshot;
    uint64_t sizes[2] = { record_bytes(p->length, k->ending), k->bytes };
    unsigned char *bytes = NULL, *head = ey_calloc(sizes[0], 1);
    ey_snapshot_writer *w = NULL;
    int32_t *tokens;
    char *path;
    eyrie_status st = EYRIE_OK, finished;

    if (!file_of(s, p, &tokens, &path) || !head) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "a prompt of %" PRIu64 " tokens", p->length));
    if (!k->host) EY_TRY(fetch(s, k, &bytes, err));
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

/* To the device. The file is not believed what its name and its index entry say. */
static eyrie_status read_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err)
{
    stored *k = p->snapshot;
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
    EY_TRY(make_buffer(s, k, err));
    st = ey_buffer_write(ey_model_device(s->model), k->buffer, 0, k->bytes, bytes, err);
    if (st != EYRIE_OK) drop_buffer(k);
done:
    ey_snapshot_close(&file);
    ey_free(r.tokens);
    ey_free(tokens);
    ey_free(path);
    return st;
}

static void remove_file(const ey_shelf *s, const ey_prefix *p)
{
    int32_t *tokens;
    char *path;

    if (file_of(s, p, &tokens, &path)) (void)remove(path);
    ey_free(tokens);
    ey_free(path);
}

/* ----------------------------------------------------------------------------------------------- what prefix.h asks for */

static eyrie_status write_buffer(ey_shelf *s, stored *k, eyrie_error *err)
{
    eyrie_status st = make_buffer(s, k, err);

    if (st != EYRIE_OK) return st;
    st = ey_buffer_write(ey_model_device(s->model), k->buffer, 0, k->bytes, k->host, err);
    if (st != EYRIE_OK) drop_buffer(k);
    return st;
}

static bool copy(void *user, const ey_prefix *p, ey_tier to)
{
    ey_shelf *s = user;
    stored *k = p->snapshot;
    double start = ey_seconds();
    eyrie_error error;
    eyrie_status st;

    if (to == EY_ON_DISK) {
        if (s->write_failed) return false;
        st = write_file(s, p, &error);
        if (st != EYRIE_OK) ey_note(log_of(s), "prefix cache: %s; no more is kept there", error.text);
        s->write_failed = st != EYRIE_OK;
    } else if (to == EY_IN_HOST) {
        if ((st = fetch(s, k, &k->host, &error)) != EYRIE_OK) note_copy(s, &error);
    } else if (k->host) {
        if ((st = write_buffer(s, k, &error)) != EYRIE_OK) note_copy(s, &error);
    } else {
        if ((st = read_file(s, p, &error)) != EYRIE_OK) ey_note(log_of(s), "prefix cache: %s; its prompt is read again", error.text);
    }
    if (st == EYRIE_OK) s->copied += k->bytes;
    s->seconds += ey_seconds() - start;
    return st == EYRIE_OK;
}

static void drop(void *user, const ey_prefix *p, ey_tier from)
{
    if (from == EY_ON_DEVICE) drop_buffer(p->snapshot);
    else if (from == EY_IN_HOST) drop_host(p->snapshot);
    else remove_file(user, p);
}

/* ------------------------------------------------------------------------------------------------------------ opening */

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
    stored *k = NULL;
    uint64_t size, bytes;
    char wanted[NAME];
    eyrie_error error;
    eyrie_status st;

    EY_TRY(ey_snapshot_peek(&file, path, &s->traits, &error));
    head = ey_snapshot_part(&file, 0, &size);
    if (!get_record(s, head, size, &r)) EY_TRY(ey_fail(&error, EYRIE_EFORMAT, "%s: what it says of its prompt cannot be", path));
    name_of(s, r.tokens, r.n, wanted);
    bytes = state_bytes(s, r.n, r.ends);
    (void)ey_snapshot_part(&file, 1, &size);
    if (strcmp(name, wanted) != 0 || size != bytes) EY_TRY(ey_fail(&error, EYRIE_EFORMAT, "%s: is of another prompt", path));
    bytes = full_bytes(bytes, r.ends);
    if (bytes > s->file_limit) goto done;
    if (!ey_prefixes_make_room(s->prefixes, EY_ON_DISK, bytes, r.n) || !(k = new_stored(size, r.ends ? &r.ending : NULL))
        || !ey_prefixes_add(s->prefixes, r.tokens, r.n, k, bytes, r.ends, EY_ON_DISK))
        forget(s, k);
done:
    if (st != EYRIE_OK) ey_note(log_of(s), "prefix cache: %s; it is not used", error.text);
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
    if (strlen(name) < NAME - 1 || end != name + NAME - sizeof ".prefix" || !(path = ey_path(l->shelf->directory, name))) return;
    snprintf(traits, sizeof traits, "%016" PRIx64 "-", l->shelf->traits_hash);
    if (end[sizeof ".prefix" - 1] != '\0') {
        if (strcmp(name + strlen(name) - 4, ".tmp") == 0 && changed / 1000000000 < l->now - TEMPORARY_SECONDS) (void)remove(path);
    } else if (strncmp(name, traits, sizeof traits - 1) != 0) {
        l->others++;
    } else {
        take_file(l->shelf, path, name);
    }
    ey_free(path);
}

static eyrie_status open_directory(ey_shelf *s, const char *directory, eyrie_error *err)
{
    listing l = { .shelf = s, .now = (int64_t)time(NULL) };
    eyrie_status st;

    if (!(s->directory = ey_strdup(directory))) return ey_fail(err, EYRIE_ENOMEM, "prefix cache");
    if ((st = ey_dir_make(directory, err)) != EYRIE_OK) return st;
    ey_dir_each(directory, visit, &l);
    if (l.others)
        ey_note(log_of(s), "prefix cache: %" PRIu64 " file(s) in %s are of other models, or of this one with other options; they are "
                "left alone", l.others, directory);
    ey_prefixes_age(s->prefixes);
    return EYRIE_OK;
}

eyrie_status ey_shelf_open(ey_shelf **out, eyrie_model *m, const ey_shelf_opts *o, eyrie_error *err)
{
    ey_shelf *s = ey_calloc(1, sizeof *s);
    ey_prefix_store store = { .user = s, .copy = copy, .drop = drop, .forget = forget };
    eyrie_status st = EYRIE_OK;

    *out = NULL;
    if (!s || !(s->prefixes = ey_prefixes_new(o->unit, o->limits, &store))) {
        ey_free(s);
        return ey_fail(err, EYRIE_ENOMEM, "prefix cache");
    }
    s->model = m;
    s->file_limit = o->limits[EY_ON_DEVICE];
    ey_model_traits(m, &s->traits);
    s->traits_hash = hash_traits(&s->traits);
    if (o->directory) EY_TRY(open_directory(s, o->directory, err));
    *out = s;
    s = NULL;
done:
    ey_shelf_close(s);
    return st;
}

void ey_shelf_close(ey_shelf *s)
{
    if (!s) return;
    ey_prefixes_settle(s->prefixes);
    ey_prefixes_free(s->prefixes);
    ey_free(s->directory);
    ey_free(s);
}

/* -------------------------------------------------------------------------------------------------- keeping, restoring */

static eyrie_status take_slot(ey_shelf *s, stored *k, uint64_t n, uint32_t slot, uint32_t wanted, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(make_buffer(s, k, err));
    EY_TRY(ey_model_store_slot(s->model, slot, n, k->buffer, err));
    if (k->ending)
        EY_TRY(ey_model_copy_logits(s->model, EY_PREFILL, wanted, k->buffer, ey_model_state_bytes(s->model, n), err));
done:
    return st;
}

void ey_shelf_keep(ey_shelf *s, const int32_t *tokens, uint64_t n, uint32_t slot, const ey_result *ending, uint32_t wanted)
{
    double start = ey_seconds();
    uint64_t bytes = state_bytes(s, n, ending), branch;
    const ey_prefix *there = ey_prefixes_find(s->prefixes, tokens, n, ending, &branch);
    eyrie_error error;
    stored *k;

    if ((there && there->length == n) || !ey_prefixes_make_room(s->prefixes, EY_ON_DEVICE, full_bytes(bytes, ending), n)) return;
    if (!(k = new_stored(bytes, ending))) {
        (void)ey_fail(&error, EYRIE_ENOMEM, "a prompt of %" PRIu64 " tokens", n);
        note_copy(s, &error);
    } else if (take_slot(s, k, n, slot, wanted, &error) != EYRIE_OK) {
        note_copy(s, &error);
        forget(s, k);
    } else if (!ey_prefixes_add(s->prefixes, tokens, n, k, full_bytes(bytes, ending), ending, EY_ON_DEVICE)) {
        forget(s, k);
    } else {
        s->copied += bytes;
    }
    s->seconds += ey_seconds() - start;
}

ey_prefix *ey_shelf_find(const ey_shelf *s, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch)
{
    return ey_prefixes_find(s->prefixes, tokens, n, logits, branch);
}

bool ey_shelf_restore(ey_shelf *s, ey_prefix *p, uint32_t slot, ey_result *ending, float *logits)
{
    double start = ey_seconds();
    uint32_t vocab = vocab_of(s);
    eyrie_error error;
    stored *k = p->snapshot;
    bool restored = ey_prefixes_use(s->prefixes, p);

    if (restored) {
        eyrie_status st = ey_model_restore_slot(s->model, slot, p->length, k->buffer, &error);
        if (st == EYRIE_OK && ending) {
            *ending = *k->ending;
            st = ey_buffer_read(ey_model_device(s->model), k->buffer, ey_model_state_bytes(s->model, p->length),
                                vocab * sizeof *logits, logits, &error);
        }
        restored = st == EYRIE_OK;
        if (restored) s->copied += k->bytes;
        else note_copy(s, &error), ey_prefixes_discard(s->prefixes, p);
    }
    s->seconds += ey_seconds() - start;
    return restored;
}

ey_shelf_use ey_shelf_get_use(const ey_shelf *s)
{
    ey_shelf_use use = { .copied = s->copied, .seconds = s->seconds };

    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) use.held += ey_prefixes_bytes(s->prefixes, tier);
    return use;
}
