/* json.h - JSON objects from the files of a checkpoint, and JSON values in messages: the little that config.c and
 * file.c share above jansson. What the keys mean is theirs to know. */
#ifndef EY_JSON_H
#define EY_JSON_H

#include "base.h"

#include <jansson.h>

#define EY_JSON_BYTES 100000000u   /* longest text read: the limit that safetensors sets for its headers */
#define EY_JSON_TEXT 64

/* The object that the text is; the caller's to json_decref. EFORMAT: not JSON, not an object, longer than
 * EY_JSON_BYTES, or a key stands twice in an object. `name` stands for the file in messages. */
eyrie_status ey_json_parse(json_t **out, const void *text, uint64_t length, const char *name, eyrie_error *err);
eyrie_status ey_json_read(json_t **out, const char *path, eyrie_error *err);

/* The value as it goes into a message: compact, ASCII, cut with "..." to fit. NULL is "missing". Returns buf. */
char *ey_json_text(const json_t *value, char buf[EY_JSON_TEXT]);

#endif
