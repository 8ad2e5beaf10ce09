/* stop.c - see stop.h. Each stop text is followed by its own Knuth-Morris-Pratt automaton, whose state is how much of
 * the stop text the text so far ends with. What has to be held back is the largest of these states, and no buffer: it
 * is the beginning of that stop text. */
#include "stop.h"

#include "utf8.h"

#include <string.h>

/* The state after `byte`, from one that is not complete. */
static size_t advance(const ey_stop_text *t, size_t matched, char byte)
{
    while (matched > 0 && t->text[matched] != byte) matched = t->border[matched - 1];
    return matched + (t->text[matched] == byte);
}

static bool fill_in(ey_stop_text *t, const char *text)
{
    t->length = strlen(text);
    t->text = ey_strdup(text);
    t->border = ey_calloc(t->length, sizeof *t->border);
    if (!t->text || !t->border) return false;
    for (size_t i = 1; i < t->length; i++) t->border[i] = advance(t, t->border[i - 1], text[i]);
    return true;
}

eyrie_status ey_stop_init(ey_stop *s, const char *const *texts, size_t n, eyrie_error *err)
{
    *s = (ey_stop){ 0 };
    for (size_t i = 0; i < n; i++) {
        size_t length = texts && texts[i] ? strlen(texts[i]) : 0, good = length ? ey_utf8_check(texts[i], length) : 0;
        if (length == 0) return ey_fail(err, EYRIE_EINVAL, "stop text %zu of %zu is empty", i + 1, n);
        if (good < length)
            return ey_fail(err, EYRIE_EINVAL, "stop text %zu of %zu is not UTF-8 at byte %zu of %zu", i + 1, n, good,
                           length);
    }
    if (n == 0) return EYRIE_OK;
    s->texts = ey_calloc(n, sizeof *s->texts);
    while (s->texts && s->n < n) {
        ey_stop_text *t = &s->texts[s->n++];
        if (!fill_in(t, texts[s->n - 1])) break;
        s->longest = (size_t)ey_max(s->longest, t->length);
        if (s->n == n) return EYRIE_OK;
    }
    ey_stop_free(s);
    return ey_fail(err, EYRIE_ENOMEM, "%zu stop texts", n);
}

void ey_stop_free(ey_stop *s)
{
    for (size_t i = 0; i < s->n; i++) {
        ey_free(s->texts[i].text);
        ey_free(s->texts[i].border);
    }
    ey_free(s->texts);
    *s = (ey_stop){ 0 };
}

/* Text held back; its bytes, not terminated, into *text. */
static size_t held(const ey_stop *s, const char **text)
{
    size_t most = 0;
    *text = "";
    for (size_t i = 0; i < s->n; i++)
        if (s->texts[i].matched > most) {
            most = s->texts[i].matched;
            *text = s->texts[i].text;
        }
    return most;
}

static void restart(ey_stop *s)
{
    for (size_t i = 0; i < s->n; i++) s->texts[i].matched = 0;
}

size_t ey_stop_push(ey_stop *s, const char *bytes, size_t length, char *out, bool *found)
{
    const char *before, *ignored;
    size_t n = held(s, &before), stop = 0;   /* stop: length of the one that is complete */

    memcpy(out, before, n);
    for (size_t i = 0; i < length && stop == 0; i++) {
        out[n++] = bytes[i];
        for (size_t k = 0; k < s->n; k++) {
            ey_stop_text *t = &s->texts[k];
            t->matched = advance(t, t->matched, bytes[i]);
            if (t->matched == t->length) stop = (size_t)ey_max(stop, t->length);
        }
    }
    *found = stop > 0;
    if (stop == 0) return n - held(s, &ignored);
    restart(s);
    return n - stop;
}

size_t ey_stop_end(ey_stop *s, char *out)
{
    const char *text;
    size_t n = held(s, &text);

    memcpy(out, text, n);
    restart(s);
    return n;
}
