/* utf8.c - see utf8.h. Well-formed is what table 3-7 of the Unicode standard says. The wrong parts that become one
 * U+FFFD each are the maximal ones of its section 3.9, so the output is the same wherever the bytes were cut. Not for
 * anything that needs the code points themselves. */
#include "utf8.h"

#include <string.h>

/* Bytes of the character that begins at s, of which n > 0 bytes are there. 0: they end before it does.
 * -k: k bytes that begin no character, whatever follows. */
static int character(const unsigned char *s, size_t n)
{
    unsigned char lead = s[0], low = 0x80, high = 0xBF;   /* of the second byte; those after it are 80..BF */
    size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0) return -1;
    if (lead == 0xE0) low = 0xA0;     /* below: an overlong form */
    if (lead == 0xED) high = 0x9F;    /* above: a surrogate */
    if (lead == 0xF0) low = 0x90;     /* below: an overlong form */
    if (lead == 0xF4) high = 0x8F;    /* above: more than U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (i == n) return 0;
        if (s[i] < low || s[i] > high) return -(int)i;
        low = 0x80;
        high = 0xBF;
    }
    return (int)length;
}

static size_t put(char *out, const void *bytes, size_t n)
{
    memcpy(out, bytes, n);
    return n;
}

size_t ey_utf8_check(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        int n = character((const unsigned char *)text + at, length - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    return at;
}

/* Byte by byte: what is held before a byte is always the beginning of a character, so a byte that breaks it is itself
 * the only one that has to be looked at again. */
size_t ey_utf8_push(ey_utf8 *u, const char *bytes, size_t length, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < length; i++) {
        u->held[u->n++] = (unsigned char)bytes[i];
        int n;
        while (u->n > 0 && (n = character(u->held, u->n)) != 0) {
            if (n > 0) {
                written += put(out + written, u->held, u->n);
                u->n = 0;
            } else {
                written += put(out + written, "\xEF\xBF\xBD", 3);
                u->held[0] = u->held[u->n - 1];
                u->n -= (uint32_t)-n;
            }
        }
    }
    return written;
}

size_t ey_utf8_end(ey_utf8 *u, char *out)
{
    if (u->n == 0) return 0;
    u->n = 0;
    return put(out, "\xEF\xBF\xBD", 3);
}
