/* snapshot.c - see snapshot.h. A file is read with suspicion even after its checksum has been found right: whoever made
 * it can have computed that, too. */
#include "snapshot.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC "EYRSTATE"

enum { VERSION = 1, HEAD = 32, TRAIT = 24 + 48 + 72, SUM = 16 };

/* ---------------------------------------------------------------------------------------------- traits and numbers */

ey_trait *ey_traits_add(ey_traits *t, const char *name, const char *value)
{
    ey_trait *trait = &t->list[t->n++];

    assert(t->n <= EY_MAX_TRAITS);
    snprintf(trait->name, sizeof trait->name, "%s", name);
    snprintf(trait->value, sizeof trait->value, "%s", value);
    return trait;
}

void ey_trait_remedy(ey_trait *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(t->remedy, sizeof t->remedy, format, args);
    va_end(args);
}

void ey_put(unsigned char *at, uint32_t bytes, uint64_t value)
{
    for (uint32_t i = 0; i < bytes; i++) at[i] = (unsigned char)(value >> 8 * i);
}

uint64_t ey_get(const unsigned char *at, uint32_t bytes)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static void put_sum(unsigned char *at, XXH128_hash_t sum)
{
    ey_put(at, 8, sum.low64);
    ey_put(at + 8, 8, sum.high64);
}

/* --------------------------------------------------------------------------------------------------------- writing */

struct ey_snapshot_writer {
    ey_output    *file;
    XXH3_state_t *sum;
    uint64_t      left;         /* bytes of parts still to come */
};

/* Everything before the parts. */
static size_t head_bytes(uint32_t n_traits, uint32_t n_parts) { return HEAD + (size_t)n_traits * TRAIT + (size_t)n_parts * 8; }

static void put_trait(unsigned char *at, const ey_trait *t)
{
    memcpy(at, t->name, sizeof t->name);
    memcpy(at + sizeof t->name, t->value, sizeof t->value);
    memcpy(at + sizeof t->name + sizeof t->value, t->remedy, sizeof t->remedy);
}

static eyrie_status write_head(ey_snapshot_writer *w, const ey_traits *traits, const uint64_t *sizes, uint32_t n_parts,
                               eyrie_error *err)
{
    size_t         size = head_bytes(traits->n, n_parts);
    unsigned char *head = ey_calloc(size, 1), *at = head + HEAD;
    uint64_t       parts = 0;
    eyrie_status   st;

    if (!head) return ey_fail(err, EYRIE_ENOMEM, "state of %" PRIu32 " parts", n_parts);
    for (uint32_t i = 0; i < n_parts; i++) parts += sizes[i];
    memcpy(head, MAGIC, 8);
    ey_put(head + 8, 4, VERSION);
    ey_put(head + 12, 4, traits->n);
    ey_put(head + 16, 4, n_parts);
    ey_put(head + 24, 8, size + parts + SUM);
    for (uint32_t i = 0; i < traits->n; i++, at += TRAIT) put_trait(at, &traits->list[i]);
    for (uint32_t i = 0; i < n_parts; i++, at += 8) ey_put(at, 8, sizes[i]);
    w->left = size + parts;
    st = ey_snapshot_write(w, head, size, err);
    ey_free(head);
    return st;
}

eyrie_status ey_snapshot_create(ey_snapshot_writer **out, const char *path, const ey_traits *traits,
                                const uint64_t *sizes, uint32_t n_parts, eyrie_error *err)
{
    ey_snapshot_writer *w = ey_calloc(1, sizeof *w);
    eyrie_status        st;

    *out = NULL;
    if (!w || !(w->sum = XXH3_createState())) {
        st = ey_fail(err, EYRIE_ENOMEM, "writing %s", path);
        goto done;
    }
    XXH3_128bits_reset(w->sum);
    EY_TRY(ey_output_open(&w->file, path, err));
    EY_TRY(write_head(w, traits, sizes, n_parts, err));
    *out = w;
    w = NULL;
done:
    (void)ey_snapshot_finish(w, false, NULL);
    return st;
}

eyrie_status ey_snapshot_write(ey_snapshot_writer *w, const void *bytes, uint64_t n, eyrie_error *err)
{
    assert(n <= w->left);
    w->left -= n;
    XXH3_128bits_update(w->sum, bytes, (size_t)n);
    return ey_output_write(w->file, bytes, n, err);
}

eyrie_status ey_snapshot_finish(ey_snapshot_writer *w, bool keep, eyrie_error *err)
{
    unsigned char sum[SUM];
    eyrie_status  st = EYRIE_OK, closed;

    if (!w) return EYRIE_OK;
    if (keep) {
        assert(w->left == 0);
        put_sum(sum, XXH3_128bits_digest(w->sum));
        st = ey_output_write(w->file, sum, sizeof sum, err);
    }
    closed = ey_output_close(w->file, keep && st == EYRIE_OK, st == EYRIE_OK ? err : NULL);
    XXH3_freeState(w->sum);
    ey_free(w);
    return st == EYRIE_OK ? closed : st;
}

/* --------------------------------------------------------------------------------------------------------- reading */

/* The first thing that is wrong with the file as such. */
static eyrie_status check_file(const ey_map *map, const char *path, eyrie_error *err)
{
    const unsigned char *d = map->data;

    if (map->size < 8 || memcmp(d, MAGIC, 8) != 0)
        return ey_fail(err, EYRIE_EFORMAT, "%s: not a state file; --save-state makes one", path);
    if (map->size >= HEAD && ey_get(d + 8, 4) != VERSION)
        return ey_fail(err, EYRIE_EFORMAT, "%s: state file of version %" PRIu64 ", this library reads version %d; load it with "
                       "the Eyrie that saved it", path, ey_get(d + 8, 4), VERSION);
    if (map->size < HEAD + SUM || ey_get(d + 24, 8) != map->size)
        return ey_fail(err, EYRIE_EFORMAT, "%s: has %" PRIu64 " bytes, its header says %" PRIu64 ": cut off or damaged; copy or "
                       "save it again", path, map->size, map->size < HEAD ? HEAD : ey_get(d + 24, 8));
    return EYRIE_OK;
}

static eyrie_status check_sum(const ey_map *map, const char *path, eyrie_error *err)
{
    const unsigned char *d = map->data;
    unsigned char        sum[SUM];

    put_sum(sum, XXH3_128bits(d, (size_t)(map->size - SUM)));
    if (memcmp(sum, d + map->size - SUM, SUM) != 0)
        return ey_fail(err, EYRIE_EFORMAT, "%s: checksum is %016" PRIx64 ", its bytes give %016" PRIx64 ": damaged; copy or save "
                       "it again", path, ey_get(d + map->size - SUM, 8), ey_get(sum, 8));
    return EYRIE_OK;
}

/* Takes text of a fixed size out of the file: a message must not carry what a terminal would obey. */
static bool get_text(char *to, const unsigned char *from, size_t size)
{
    size_t length = 0;

    memcpy(to, from, size);
    while (length < size && to[length] >= ' ' && to[length] <= '~') length++;
    for (size_t i = length; i < size; i++)
        if (to[i] != '\0') return false;
    return length > 0 && length < size;
}

static bool get_trait(ey_trait *t, const unsigned char *at)
{
    return get_text(t->name, at, sizeof t->name) && get_text(t->value, at + sizeof t->name, sizeof t->value)
           && get_text(t->remedy, at + sizeof t->name + sizeof t->value, sizeof t->remedy);
}

static eyrie_status check_traits(const unsigned char *at, uint32_t n, const ey_traits *traits, const char *path,
                                 eyrie_error *err)
{
    for (uint32_t i = 0; i < n && i < traits->n; i++, at += TRAIT) {
        const ey_trait *here = &traits->list[i];
        ey_trait        saved;

        if (!get_trait(&saved, at) || strcmp(saved.name, here->name) != 0)
            return ey_fail(err, EYRIE_EFORMAT, "%s: trait %" PRIu32 " is not the \"%s\" that belongs there; load it with the "
                           "Eyrie that saved it", path, i, here->name);
        if (strcmp(saved.value, here->value) != 0)
            return ey_fail(err, EYRIE_EINVAL, "%s: was saved with %s %s, here it is %s; load it with %s", path, here->name,
                           saved.value, here->value, saved.remedy);
    }
    if (n != traits->n)
        return ey_fail(err, EYRIE_EFORMAT, "%s: has %" PRIu32 " traits, this library knows %" PRIu32 "; load it with the Eyrie "
                       "that saved it", path, n, traits->n);
    return EYRIE_OK;
}

/* That head and parts fill the file. */
static eyrie_status find_parts(ey_snapshot *s, uint32_t n_traits, const char *path, eyrie_error *err)
{
    uint64_t sum = head_bytes(n_traits, s->n_parts) + SUM, size;
    bool     fits = n_traits <= EY_MAX_TRAITS && s->n_parts <= EY_MAX_PARTS_OF_STATE && sum <= s->map.size;

    s->sizes = s->map.data + HEAD + (size_t)ey_min(n_traits, EY_MAX_TRAITS) * TRAIT;
    for (uint32_t i = 0; i < s->n_parts && fits; i++) {
        size = ey_get(s->sizes + (size_t)i * 8, 8);
        fits = ey_add(sum, size, &sum);
    }
    if (!fits || sum != s->map.size)
        return ey_fail(err, EYRIE_EFORMAT, "%s: %" PRIu32 " traits and %" PRIu32 " parts do not fill its %" PRIu64 " bytes: "
                       "damaged; save it again", path, n_traits, s->n_parts, s->map.size);
    s->body = s->sizes + (size_t)s->n_parts * 8;
    return EYRIE_OK;
}

static eyrie_status open_file(ey_snapshot *s, const char *path, const ey_traits *traits, bool all, eyrie_error *err)
{
    uint32_t     n_traits;
    eyrie_status st;

    *s = (ey_snapshot){ 0 };
    EY_TRY(ey_map_open(&s->map, path, err));
    EY_TRY(check_file(&s->map, path, err));
    if (all) EY_TRY(check_sum(&s->map, path, err));
    n_traits = (uint32_t)ey_get(s->map.data + 12, 4);
    s->n_parts = (uint32_t)ey_get(s->map.data + 16, 4);
    EY_TRY(find_parts(s, n_traits, path, err));
    EY_TRY(check_traits(s->map.data + HEAD, n_traits, traits, path, err));
done:
    if (st != EYRIE_OK) ey_snapshot_close(s);
    return st;
}

eyrie_status ey_snapshot_open(ey_snapshot *s, const char *path, const ey_traits *traits, eyrie_error *err)
{
    return open_file(s, path, traits, true, err);
}

eyrie_status ey_snapshot_peek(ey_snapshot *s, const char *path, const ey_traits *traits, eyrie_error *err)
{
    return open_file(s, path, traits, false, err);
}

const unsigned char *ey_snapshot_part(const ey_snapshot *s, uint32_t i, uint64_t *size)
{
    const unsigned char *at = s->body;

    *size = 0;
    if (i >= s->n_parts) return NULL;
    for (uint32_t k = 0; k < i; k++) at += ey_get(s->sizes + (size_t)k * 8, 8);
    *size = ey_get(s->sizes + (size_t)i * 8, 8);
    return at;
}

void ey_snapshot_close(ey_snapshot *s)
{
    ey_map_close(&s->map);
    *s = (ey_snapshot){ 0 };
}
