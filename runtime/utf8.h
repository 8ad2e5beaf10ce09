/* utf8.h - UTF-8 as it streams: whole characters out of tokens that may end in the middle of one. */
#ifndef EY_UTF8_H
#define EY_UTF8_H

#include "base.h"

/* Offset of the first byte that cannot belong to well-formed UTF-8 (no overlong forms, no surrogates, nothing above
 * U+10FFFF), or `length` if all is well. */
size_t ey_utf8_check(const char *text, size_t length);

/* Bytes of a character that is not complete yet. */
typedef struct ey_utf8 {
    unsigned char held[4];
    uint32_t      n;
} ey_utf8;

/* Appends to `out` (room for 3 * (length + 3) bytes) the characters that `bytes` complete; what is not UTF-8 becomes
 * U+FFFD, one for each maximal wrong part; what may still become a character is held. Returns the bytes written. */
size_t ey_utf8_push(ey_utf8 *u, const char *bytes, size_t length, char *out);

/* Ends the text: a held beginning becomes one U+FFFD (3 bytes). */
size_t ey_utf8_end(ey_utf8 *u, char *out);

#endif
