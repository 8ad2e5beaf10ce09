/* tiles.c - the table of measured tiles as text in the cache, a line each:
 *
 *     kernel format rows cols blocks normed tokens tile nanoseconds gain
 *     matmul_geglu bf16 15360 2560 1 1 4 4x4 4237000 1000 */
#include "os.h"
#include "quant.h"
#include "tiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { LINE = 160 /* bytes, more than one takes */, MOST_TEXT = 1 << 24 /* of a kernel file */ };

static const char cache_kind[] = "tuning";

static bool same(const ey_product *a, const ey_product *b)
{
    return strcmp(a->kernel, b->kernel) == 0 && a->format == b->format && a->rows == b->rows && a->cols == b->cols
           && a->blocks == b->blocks && a->normed == b->normed && a->tokens == b->tokens;
}

const ey_tuned *ey_tuning_find(const ey_tuning *t, const ey_product *p)
{
    for (size_t i = 0; t && i < t->n; i++)
        if (same(&t->list[i].product, p)) return &t->list[i];
    return NULL;
}

/* The hash of a kernel file, as the program would take it: from --kernel-dir if it is there, else built in. */
static uint64_t hash_of(const eyrie_device *dev, const char *name)
{
    char *path = dev->kernel_dir ? ey_path(dev->kernel_dir, name) : NULL;
    void *data = NULL;
    uint64_t hash = 0;
    size_t size;
    eyrie_error err;

    for (size_t i = 0; i < ey_kernel_texts_count; i++)
        if (!strcmp(ey_kernel_texts[i].name, name)) hash = XXH3_64bits(ey_kernel_texts[i].text, ey_kernel_texts[i].length);
    if (path && ey_file_read(&data, &size, path, MOST_TEXT, &err) == EYRIE_OK && data) hash = XXH3_64bits(data, size);
    ey_free(data);
    ey_free(path);
    return hash;
}

/* What decides how fast a tile is: the device, its driver and how many units it shows, the tiles there are and their text. */
static size_t make_key(const eyrie_device *dev, char key[2048])
{
    static const char *const files[] = { "prelude.cl", "matmul.cl" };
    size_t n_tiles, n;
    const ey_tile *tiles = ey_device_tiles(dev, &n_tiles);

    n = (size_t)snprintf(key, 2048, "tiles of Eyrie, format 1\n%s\n%s\n%" PRIu32 " units\n", dev->platform_name, dev->name,
                         dev->units);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        n += (size_t)snprintf(key + n, 2048 - n, "%016" PRIx64 "\n", hash_of(dev, files[i]));
    for (size_t i = 0; i < n_tiles && n < 2048; i++)
        n += (size_t)snprintf(key + n, 2048 - n, "%" PRIu32 "x%" PRIu32 "\n", tiles[i].rows, tiles[i].panels);
    return (size_t)ey_min(n, 2047);
}

/* ----------------------------------------------------------------------------------------------------------- lines */

static bool is_tile(const eyrie_device *dev, ey_tile tile)
{
    size_t n;
    const ey_tile *tiles = ey_device_tiles(dev, &n);

    for (size_t i = 0; i < n; i++)
        if (tiles[i].rows == tile.rows && tiles[i].panels == tile.panels) return true;
    return false;
}

static eyrie_format format_named(const char *name)
{
    for (eyrie_format f = EYRIE_FORMAT_DEFAULT + 1; ey_quant_of(f); f++)
        if (strcmp(ey_quant_of(f)->name, name) == 0) return f;
    return EYRIE_FORMAT_DEFAULT;
}

static bool parse(const eyrie_device *dev, const char *line, ey_tuned *t)
{
    ey_product *p = &t->product;
    uint32_t normed;
    char format[8];
    int end = -1;

    *t = (ey_tuned){ .gain = 0 };
    (void)sscanf(line, "%23s %7s %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32 "x%" SCNu32 " %" SCNu64
                 " %" SCNu32 "%n", p->kernel, format, &p->rows, &p->cols, &p->blocks, &normed, &p->tokens, &t->tile.rows,
                 &t->tile.panels, &t->nanoseconds, &t->gain, &end);
    if (end < 0 || line[end] != '\n') return false;
    p->format = format_named(format);
    p->normed = normed != 0;
    return p->format != EYRIE_FORMAT_DEFAULT && p->rows && p->cols && p->blocks && p->tokens && t->gain && is_tile(dev, t->tile);
}

static int print(char *line, const ey_tuned *t)
{
    const ey_product *p = &t->product;
    return snprintf(line, LINE, "%s %s %" PRIu32 " %" PRIu32 " %" PRIu32 " %d %" PRIu32 " %" PRIu32 "x%" PRIu32 " %" PRIu64
                    " %" PRIu32 "\n", p->kernel, ey_quant_of(p->format)->name, p->rows, p->cols, p->blocks, p->normed, p->tokens,
                    t->tile.rows, t->tile.panels, t->nanoseconds, t->gain);
}

/* ----------------------------------------------------------------------------------------------------------- cache */

/* size: of the text, which need not end in a zero. NULL: no memory, or a line that is none. */
static ey_tuning *parse_all(const eyrie_device *dev, const char *text, size_t size)
{
    char line[LINE];
    ey_tuning *t;
    size_t lines = 0;

    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    if (!(t = ey_calloc(1, sizeof *t + lines * sizeof *t->list))) return NULL;
    while (size) {
        const char *newline = memchr(text, '\n', size);
        size_t n = newline ? (size_t)(newline - text) + 1 : 0;

        if (n == 0 || n >= sizeof line || memchr(text, '\0', n)) break;
        memcpy(line, text, n);
        line[n] = '\0';
        if (!parse(dev, line, &t->list[t->n])) break;
        t->n++;
        text += n;
        size -= n;
    }
    if (size == 0) return t;
    ey_note(&dev->log, "cache: the measured tiles are not as they were written; they are not used (eyrie tune measures them)");
    ey_free(t);
    return NULL;
}

ey_tuning *ey_tuning_read(const eyrie_device *dev)
{
    char key[2048];
    ey_tuning *t = NULL;
    size_t size;
    char *text;

    if (!dev->cache) return NULL;
    if ((text = ey_cache_get(dev->cache, cache_kind, key, make_key(dev, key), &size)) != NULL && size)
        t = parse_all(dev, text, size);
    ey_free(text);
    return t;
}

void ey_tuning_load(eyrie_device *dev)
{
    ey_free(dev->tuning);
    dev->tuning = ey_tuning_read(dev);
}

/* Read again, since another process may have added to it, and once more to see that it was kept. */
eyrie_status ey_tuning_keep(eyrie_device *dev, const ey_tuned *entry, eyrie_error *err)
{
    char key[2048];
    ey_tuning *t = ey_tuning_read(dev);
    size_t n = t ? t->n : 0, size = 0;
    char *text = ey_calloc(n + 1, LINE);
    bool kept;

    if (!text) {
        ey_free(t);
        return ey_fail(err, EYRIE_ENOMEM, "the table of tiles");
    }
    for (size_t i = 0; i < n; i++)
        if (!same(&t->list[i].product, &entry->product)) size += (size_t)print(text + size, &t->list[i]);
    size += (size_t)print(text + size, entry);
    ey_cache_put(dev->cache, cache_kind, key, make_key(dev, key), text, size);
    ey_free(text);
    ey_free(t);
    t = ey_tuning_read(dev);
    kept = ey_tuning_find(t, &entry->product) != NULL;
    ey_free(t);
    return kept ? EYRIE_OK : ey_fail(err, EYRIE_EIO, "what was measured cannot be kept in the cache directory; choose another "
                                     "--cache-dir");
}
