/* file.c - safetensors checkpoints (file.h).
 *
 *     8 bytes  n, little endian
 *     n bytes  JSON { name: { "dtype", "shape", "data_offsets": [begin, end] }, ..., "__metadata__": { ... } }
 *     body     the tensors; begin and end count from its first byte
 *
 * Parsing keeps each file's JSON, because the names of the tensors are its keys. */
#include "file.h"

#include "json.h"
#include "os.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
#define PADDING "__pad"    /* names of the U8 tensors that only align their neighbours begin so */
#define METADATA "__metadata__"
#define MAX_SHARDS 1024    /* a shard is looked up one by one */

typedef struct shard {
    char   *path;
    ey_map  map;
    json_t *header;
} shard;

struct ey_file {
    shard          *shards;
    size_t          n_shards, shards_capacity;
    ey_tensor_data *tensors;      /* sorted by name once the file is open */
    size_t          n_tensors, tensors_capacity;
    uint64_t        bytes;
};

static const struct {
    const char *name;
    uint32_t    size;
} dtypes[] = { [EY_U8] = { "U8", 1 }, [EY_F32] = { "F32", 4 }, [EY_F16] = { "F16", 2 }, [EY_BF16] = { "BF16", 2 } };

/* ------------------------------------------------------------------------------------------------- one safetensors */

/* Bytes [begin, end) of a shard's body that a tensor holds. */
typedef struct span {
    uint64_t    begin, end;
    const char *name;
} span;

static int by_begin(const void *a, const void *b)
{
    const span *x = a, *y = b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static const char *note_of(const json_t *header, const char *key)
{
    return json_string_value(json_object_get(json_object_get(header, METADATA), key));
}

EY_PRINTF(4, 5)
static eyrie_status bad_tensor(const shard *s, const char *name, eyrie_error *err, const char *format, ...)
{
    char    what[400];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return ey_fail(err, EYRIE_EFORMAT, "%s: tensor \"%.200s\" %s", s->path, name, what);
}

static bool read_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static eyrie_status read_dtype(const shard *s, const char *name, const json_t *entry, ey_dtype *dtype, uint32_t *size,
                               bool *padding, eyrie_error *err)
{
    const json_t *value = json_object_get(entry, "dtype");
    const char   *text = json_string_value(value);
    char          found[EY_JSON_TEXT];

    *padding = text && strcmp(text, "U8") == 0 && strncmp(name, PADDING, strlen(PADDING)) == 0;
    if (*padding) {
        *size = 1;
        return EYRIE_OK;
    }
    if (text && strcmp(text, "U8") == 0 && note_of(s->header, EY_LAYOUT_NOTE)) {
        *dtype = EY_U8;
        *size = 1;
        return EYRIE_OK;
    }
    for (ey_dtype t = EY_F32; text && t <= EY_BF16; t++) {
        if (strcmp(text, dtypes[t].name) == 0) {
            *dtype = t;
            *size = dtypes[t].size;
            return EYRIE_OK;
        }
    }
    return bad_tensor(s, name, err, "has dtype %s; it must be F32, F16 or BF16", ey_json_text(value, found));
}

static eyrie_status read_shape(const shard *s, const char *name, const json_t *entry, ey_tensor_data *t,
                               eyrie_error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    char          found[EY_JSON_TEXT];

    if (!json_is_array(shape) || json_array_size(shape) > EY_MAX_RANK) {
        return bad_tensor(s, name, err, "has shape %s; it must be a list of at most %d sizes",
                          ey_json_text(shape, found), EY_MAX_RANK);
    }
    t->rank = (uint32_t)json_array_size(shape);
    t->count = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (!read_size(json_array_get(shape, i), &t->shape[i]) || !ey_mul(t->count, t->shape[i], &t->count)) {
            return bad_tensor(s, name, err, "has shape %s; its sizes must be integers from 0 and their product fit 64 "
                              "bits", ey_json_text(shape, found));
        }
    }
    return EYRIE_OK;
}

/* One entry of the header, all of it checked but for overlaps. */
static eyrie_status read_entry(const shard *s, const char *name, const json_t *entry, uint64_t body,
                               ey_tensor_data *t, bool *padding, span *where, eyrie_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t      start = s->map.size - body, bytes;
    uint32_t      item = 0;
    char          found[EY_JSON_TEXT], shape[EY_JSON_TEXT];
    eyrie_status  st;

    *t = (ey_tensor_data){ .name = name, .file = s->path };
    *where = (span){ .name = name };
    *padding = false;
    if (!*name) return ey_fail(err, EYRIE_EFORMAT, "%s: a tensor has an empty name", s->path);
    if (!json_is_object(entry)) {
        return bad_tensor(s, name, err, "is %s; it must be an object with dtype, shape and data_offsets",
                          ey_json_text(entry, found));
    }
    EY_TRY(read_dtype(s, name, entry, &t->dtype, &item, padding, err));
    EY_TRY(read_shape(s, name, entry, t, err));
    if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &where->begin) ||
        !read_size(json_array_get(offsets, 1), &where->end) || where->begin > where->end) {
        return bad_tensor(s, name, err, "has data_offsets %s; they must be [begin, end] with 0 <= begin <= end",
                          ey_json_text(offsets, found));
    }
    if (!ey_mul(t->count, item, &bytes) || bytes != where->end - where->begin) {
        return bad_tensor(s, name, err, "has shape %s and dtype %s, which do not fill the %" PRIu64 " bytes of its "
                          "data_offsets %s", ey_json_text(json_object_get(entry, "shape"), shape),
                          json_string_value(json_object_get(entry, "dtype")), where->end - where->begin,
                          ey_json_text(offsets, found));
    }
    if (where->end > body) {   /* end < 2^63 and start <= 10^8 + 8: the sum fits */
        return bad_tensor(s, name, err, "ends at byte %" PRIu64 " of a file of %" PRIu64 " bytes; the file is "
                          "truncated or damaged", start + where->end, s->map.size);
    }
    t->data = s->map.data + start + where->begin;
done:
    return st;
}

/* Adds the tensors of a mapped file whose header is parsed. `body` is what follows the header. */
static eyrie_status read_entries(ey_file *f, const shard *s, uint64_t body, eyrie_error *err)
{
    size_t       n = json_object_size(s->header), used = 0;
    span        *spans = ey_calloc(n, sizeof *spans);
    const char  *name;
    json_t      *entry;
    eyrie_status st = EYRIE_OK;

    if (!spans || !ey_grow(&f->tensors, &f->tensors_capacity, f->n_tensors + n, sizeof *f->tensors)) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s: no memory for a list of %zu tensors", s->path, n);
        goto done;
    }
    json_object_foreach(s->header, name, entry) {
        ey_tensor_data *t = &f->tensors[f->n_tensors];
        bool            padding;

        if (strcmp(name, METADATA) == 0) {
            if (json_is_object(entry)) continue;
            st = ey_fail(err, EYRIE_EFORMAT, "%s: \"%s\" must be an object", s->path, METADATA);
            goto done;
        }
        EY_TRY(read_entry(s, name, entry, body, t, &padding, &spans[used], err));
        if (spans[used].begin < spans[used].end) used++;   /* an empty tensor overlaps nothing */
        if (padding) continue;
        f->bytes += t->count * ey_dtype_size(t->dtype);
        f->n_tensors++;
    }
    qsort(spans, used, sizeof *spans, by_begin);
    for (size_t i = 1; i < used; i++) {
        if (spans[i].begin < spans[i - 1].end) {
            st = bad_tensor(s, spans[i].name, err, "begins at offset %" PRIu64 ", inside tensor \"%.100s\", which ends "
                            "at %" PRIu64, spans[i].begin, spans[i - 1].name, spans[i - 1].end);
            goto done;
        }
    }
done:
    ey_free(spans);
    return st;
}

/* Takes `path` (ey_free'd by ey_file_close, or here if there is no room for it; NULL = no memory). */
static eyrie_status open_shard(ey_file *f, char *path, eyrie_error *err)
{
    shard       *s;
    uint64_t     length = 0;
    eyrie_status st;

    if (!path || !ey_grow(&f->shards, &f->shards_capacity, f->n_shards + 1, sizeof *f->shards)) {
        ey_free(path);
        return ey_fail(err, EYRIE_ENOMEM, "no memory for the list of checkpoint files");
    }
    s = &f->shards[f->n_shards++];
    *s = (shard){ .path = path };
    EY_TRY(ey_map_open(&s->map, path, err));
    if (s->map.size < 8) {
        return ey_fail(err, EYRIE_EFORMAT, "%s: has %" PRIu64 " bytes; a safetensors file has at least 8", path,
                       s->map.size);
    }
    for (int i = 8; i-- > 0; ) length = length << 8 | s->map.data[i];
    if (length > s->map.size - 8) {
        return ey_fail(err, EYRIE_EFORMAT, "%s: a header of %" PRIu64 " bytes does not fit the file of %" PRIu64
                       " bytes; it is truncated or not a safetensors file", path, length, s->map.size);
    }
    EY_TRY(ey_json_parse(&s->header, s->map.data + 8, length, path, err));
    EY_TRY(read_entries(f, s, s->map.size - 8 - length, err));
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------------- the shards */

/* The shard of that file name (a plain one), opened if it is not yet. */
static eyrie_status need_shard(ey_file *f, const char *directory, const char *name, size_t *out, eyrie_error *err)
{
    for (*out = 0; *out < f->n_shards; ++*out) {
        if (strcmp(strrchr(f->shards[*out].path, '/') + 1, name) == 0) return EYRIE_OK;
    }
    if (f->n_shards == MAX_SHARDS) {
        return ey_fail(err, EYRIE_EFORMAT, "%s/%s: lists more than %d files", directory, INDEX_NAME, MAX_SHARDS);
    }
    return open_shard(f, ey_path(directory, name), err);
}

static bool is_plain_name(const char *name)
{
    return name && *name && !strpbrk(name, "/\\") && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens what the index at `path` lists, and holds the index and the shards against each other. */
static eyrie_status open_index(ey_file *f, const char *directory, const char *path, eyrie_error *err)
{
    json_t      *index = NULL, *map, *file;
    const char  *name;
    size_t       at;
    char         found[EY_JSON_TEXT];
    eyrie_status st;

    EY_TRY(ey_json_read(&index, path, err));
    map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0) {
        st = ey_fail(err, EYRIE_EFORMAT, "%s: \"weight_map\" is %s; it must say for each tensor which file it is in",
                     path, ey_json_text(map, found));
        goto done;
    }
    json_object_foreach(map, name, file) {
        if (!is_plain_name(json_string_value(file))) {
            st = ey_fail(err, EYRIE_EFORMAT, "%s: tensor \"%.200s\" is in %s; that must be the name of a file in the "
                         "same directory", path, name, ey_json_text(file, found));
            goto done;
        }
        EY_TRY(need_shard(f, directory, json_string_value(file), &at, err));
        if (!json_object_get(f->shards[at].header, name)) {
            st = ey_fail(err, EYRIE_EFORMAT, "%s: tensor \"%.200s\" should be in %s, but is not", path, name,
                         json_string_value(file));
            goto done;
        }
    }
    /* Names are unique in a header and in the map: a tensor in two shards is one that the map places elsewhere. */
    for (size_t i = 0; i < f->n_tensors; i++) {
        const ey_tensor_data *t = &f->tensors[i];
        const char           *place = json_string_value(json_object_get(map, t->name));

        if (!place || strcmp(place, strrchr(t->file, '/') + 1) != 0) {
            st = ey_fail(err, EYRIE_EFORMAT, "%s: holds tensor \"%.200s\", which %s places in %s", t->file, t->name,
                         INDEX_NAME, place ? place : "no file");
            goto done;
        }
    }
done:
    json_decref(index);
    return st;
}

static int by_name(const void *a, const void *b)
{
    const ey_tensor_data *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* A single file wins over an index, as in Hugging Face's loader. */
eyrie_status ey_file_open(ey_file **out, const char *directory, eyrie_error *err)
{
    ey_file     *f = ey_calloc(1, sizeof *f);
    char        *single = ey_path(directory, NAME), *index = ey_path(directory, INDEX_NAME);
    eyrie_status st;

    *out = NULL;
    if (!f || !single || !index) {
        st = ey_fail(err, EYRIE_ENOMEM, "no memory to open %s", directory);
    } else if (ey_file_exists(single)) {
        st = open_shard(f, single, err);
        single = NULL;
    } else if (ey_file_exists(index)) {
        st = open_index(f, directory, index, err);
    } else {
        st = ey_fail(err, EYRIE_EIO, ey_file_exists(directory) ? "%s: has neither %s nor %s" : "%s: there is no such "
                     "directory, so no %s or %s", directory, NAME, INDEX_NAME);
    }
    if (st == EYRIE_OK) {
        if (f->n_tensors) qsort(f->tensors, f->n_tensors, sizeof *f->tensors, by_name);
        *out = f;
        f = NULL;
    }
    ey_file_close(f);
    ey_free(single);
    ey_free(index);
    return st;
}

void ey_file_close(ey_file *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->n_shards; i++) {
        json_decref(f->shards[i].header);
        ey_map_close(&f->shards[i].map);
        ey_free(f->shards[i].path);
    }
    ey_free(f->shards);
    ey_free(f->tensors);
    ey_free(f);
}

/* -------------------------------------------------------------------------------------------------------- reading */

const ey_tensor_data *ey_file_find(const ey_file *f, const char *name)
{
    ey_tensor_data key = { .name = name };

    return f->n_tensors ? bsearch(&key, f->tensors, f->n_tensors, sizeof *f->tensors, by_name) : NULL;
}

size_t ey_file_count(const ey_file *f)
{
    return f->n_tensors;
}

const ey_tensor_data *ey_file_at(const ey_file *f, size_t i)
{
    assert(i < f->n_tensors);
    return &f->tensors[i];
}

uint64_t ey_file_bytes(const ey_file *f)
{
    return f->bytes;
}

const char *ey_file_note(const ey_file *f, const char *key)
{
    return f->n_shards ? note_of(f->shards[0].header, key) : NULL;
}

uint32_t ey_dtype_size(ey_dtype t)
{
    return dtypes[t].size;
}

const char *ey_dtype_name(ey_dtype t)
{
    return dtypes[t].name;
}

/* Little endian to host. Where the two are known to be the same this is a plain unaligned load, which compilers
 * vectorise; where not, bytes and shifts. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static inline uint16_t load16(const unsigned char *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load32(const unsigned char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}
#else
static inline uint16_t load16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t load32(const unsigned char *p)
{
    return load16(p) | (uint32_t)load16(p + 2) << 16;
}
#endif

static inline float bits_to_float(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Masks instead of branches, so that the loop around it vectorises. Subnormal halves are multiples of 2^-24, all of
 * them normal numbers as floats. */
static inline float half_to_float(uint16_t h)
{
    uint32_t magnitude = h & 0x7fffu;
    uint32_t small = 0u - (uint32_t)(magnitude < 0x0400u), huge = 0u - (uint32_t)(magnitude >= 0x7c00u);
    uint32_t normal = (magnitude << 13) + ((127u - 15u) << 23) + (huge & (128u - 16u) << 23);   /* infinities, NaNs */
    float    multiple = (float)(int32_t)magnitude * 0x1p-24f;
    uint32_t subnormal;

    memcpy(&subnormal, &multiple, sizeof subnormal);
    return bits_to_float((uint32_t)(h & 0x8000u) << 16 | (small & subnormal) | (~small & normal));
}

void ey_tensor_read(const ey_tensor_data *t, uint64_t first, uint64_t n, float *restrict out)
{
    const unsigned char *restrict p = t->data + first * ey_dtype_size(t->dtype);

    assert(first <= t->count && n <= t->count - first);
    switch (t->dtype) {
    case EY_U8: assert(!"panels are not read as numbers"); break;
    case EY_F32:
        for (uint64_t i = 0; i < n; i++) out[i] = bits_to_float(load32(p + 4 * i));
        break;
    case EY_F16:
        for (uint64_t i = 0; i < n; i++) out[i] = half_to_float(load16(p + 2 * i));
        break;
    case EY_BF16:
        for (uint64_t i = 0; i < n; i++) out[i] = bits_to_float((uint32_t)load16(p + 2 * i) << 16);
        break;
    }
}

/* -------------------------------------------------------------------------------------------------------- writing */

uint64_t ey_file_gap(uint64_t bytes) { return ey_round_up(bytes, EY_ALIGNMENT) - bytes; }

static int add_tensor(json_t *header, const char *name, ey_dtype dtype, uint32_t rank, const uint64_t *shape, uint64_t begin,
                      uint64_t end)
{
    json_t *sizes = json_array();

    for (uint32_t i = 0; i < rank; i++)
        if (json_array_append_new(sizes, json_integer((json_int_t)shape[i]))) json_decref(sizes), sizes = NULL;
    return json_object_set_new(header, name, json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtypes[dtype].name, "shape", sizes,
                                                       "data_offsets", (json_int_t)begin, (json_int_t)end));
}

eyrie_status ey_file_write_header(ey_output *o, const ey_tensor_data *tensors, size_t n, const char *const *notes,
                                  size_t n_notes, eyrie_error *err)
{
    json_t *header = json_object(), *metadata = json_object();
    char *text = NULL, *padded = NULL;
    uint64_t at = 0;
    int bad = json_object_set_new(header, METADATA, metadata);
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < n_notes; i++) bad |= json_object_set_new(metadata, notes[2 * i], json_string(notes[2 * i + 1]));
    for (size_t i = 0; i < n; i++) {
        uint64_t end = at + tensors[i].count * dtypes[tensors[i].dtype].size, gap = ey_file_gap(end);
        char pad[40];

        bad |= add_tensor(header, tensors[i].name, tensors[i].dtype, tensors[i].rank, tensors[i].shape, at, end);
        snprintf(pad, sizeof pad, PADDING "%zu", i);
        if (gap) bad |= add_tensor(header, pad, EY_U8, 1, &gap, end, end + gap);
        at = end + gap;
    }
    if (!bad) text = json_dumps(header, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0, all = (size_t)ey_round_up(8 + length, EY_ALIGNMENT);
    if (!text || !(padded = ey_calloc(all, 1))) {
        st = ey_fail(err, EYRIE_ENOMEM, "header of %s", NAME);
    } else {
        memset(padded, ' ', all);
        for (int i = 0; i < 8; i++) padded[i] = (char)((uint64_t)(all - 8) >> 8 * i);
        memcpy(padded + 8, text, length);
        st = ey_output_write(o, padded, all, err);
    }
    ey_free(padded);
    free(text);
    json_decref(header);
    return st;
}
