/* json.c - JSON objects from files, and values in messages (json.h). */
#include "json.h"

#include "os.h"

#include <string.h>

eyrie_status ey_json_parse(json_t **out, const void *text, uint64_t length, const char *name, eyrie_error *err)
{
    json_error_t why;
    json_t      *root;

    *out = NULL;
    if (length == 0) return ey_fail(err, EYRIE_EFORMAT, "%s: is empty; it must be a JSON object", name);
    if (length > EY_JSON_BYTES) {
        return ey_fail(err, EYRIE_EFORMAT, "%s: has %llu bytes of JSON; the limit is %u", name,
                       (unsigned long long)length, EY_JSON_BYTES);
    }
    root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!root && why.line < 0) {   /* no place in the text is at fault */
        return ey_fail(err, EYRIE_ENOMEM, "%s: no memory to read its JSON", name);
    }
    if (!root) {
        return ey_fail(err, EYRIE_EFORMAT, "%s: malformed JSON at line %d, column %d: %s", name, why.line, why.column,
                       why.text);
    }
    if (!json_is_object(root)) {
        char found[EY_JSON_TEXT];

        ey_fail(err, EYRIE_EFORMAT, "%s: is %s; it must be a JSON object", name, ey_json_text(root, found));
        json_decref(root);
        return EYRIE_EFORMAT;
    }
    *out = root;
    return EYRIE_OK;
}

eyrie_status ey_json_read(json_t **out, const char *path, eyrie_error *err)
{
    ey_map       map;
    eyrie_status st = ey_map_open(&map, path, err);

    *out = NULL;
    if (st == EYRIE_OK) st = ey_json_parse(out, map.data, map.size, path, err);
    ey_map_close(&map);
    return st;
}

typedef struct sink {
    char  *text;
    size_t n, room;
} sink;

static int write_some(const char *piece, size_t size, void *user)
{
    sink  *s = user;
    size_t n = size < s->room - s->n ? size : s->room - s->n;

    memcpy(s->text + s->n, piece, n);
    s->n += n;
    return n == size ? 0 : -1;   /* full: the rest of a large value need not be written */
}

char *ey_json_text(const json_t *value, char buf[EY_JSON_TEXT])
{
    sink s = { buf, 0, EY_JSON_TEXT - sizeof "..." };

    if (!value) return strcpy(buf, "missing");
    if (json_dump_callback(value, write_some, &s,
                           JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9)) == 0) {
        buf[s.n] = '\0';
    } else {
        strcpy(buf + s.n, "...");
    }
    return buf;
}
