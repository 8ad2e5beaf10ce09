/* text.c - text to token ids and back, as the public API has it: <bos> first, whole characters. Not the tokenizer itself. */
#include "model_parts.h"
#include "utf8.h"

#include <string.h>

eyrie_status eyrie_encode(const eyrie_model *m, const char *text, size_t length, int32_t *ids, size_t capacity, size_t *n,
                          eyrie_error *err)
{
    int32_t *found = NULL;
    size_t n_found = 0, at = 0;
    eyrie_status st;

    *n = 0;
    if (!m->tokenizer)
        return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer.model: give token ids instead (--tokens)");
    if ((st = ey_tokenizer_encode(m->tokenizer, text, length, &found, &n_found, err)) != EYRIE_OK) return st;
    if (m->config.bos >= 0 && at++ < capacity) ids[0] = m->config.bos;
    for (size_t i = 0; i < n_found; i++, at++)
        if (at < capacity) ids[at] = found[i];
    *n = at;
    ey_free(found);
    return EYRIE_OK;
}

int32_t eyrie_find_token(const eyrie_model *m, const char *piece)
{
    return m->tokenizer ? ey_tokenizer_find(m->tokenizer, piece) : -1;
}

eyrie_status eyrie_decode(const eyrie_model *m, const int32_t *ids, size_t n, char *text, size_t capacity, size_t *length,
                          eyrie_error *err)
{
    bool drop_space = m->tokenizer && ey_tokenizer_adds_space(m->tokenizer);
    ey_utf8 utf8 = { .n = 0 };
    size_t total = 0;

    *length = 0;
    if (!m->tokenizer) return ey_fail(err, EYRIE_EINVAL, "the model has no tokenizer.model, so its tokens have no text");
    for (size_t i = 0; i <= n; i++) {
        size_t bytes = 0;
        const char *piece = i < n ? ey_tokenizer_bytes(m->tokenizer, ids[i], &bytes) : NULL;
        if (bytes && drop_space && piece[0] == ' ') piece++, bytes--;
        if (bytes) drop_space = false;
        char *out = ey_calloc(3 * (bytes + 4), 1);
        if (!out) return ey_fail(err, EYRIE_ENOMEM, "text");
        size_t made = i < n ? ey_utf8_push(&utf8, piece, bytes, out) : ey_utf8_end(&utf8, out);
        if (total < capacity) memcpy(text + total, out, ey_min(made, capacity - total));
        total += made;
        ey_free(out);
    }
    *length = total;
    return EYRIE_OK;
}
