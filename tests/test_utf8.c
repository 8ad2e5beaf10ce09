/* test_utf8.c - utf8.c against an encoder written here: what it makes of code points is well-formed, nothing else. */
#include "testing.h"

#include "utf8.h"

/* UTF-8 of a code point in any number of bytes from 1 to 4, overlong forms included; returns that number. */
static size_t encode(uint32_t code, size_t n, char out[4])
{
    static const unsigned char mark[] = { 0, 0x00, 0xC0, 0xE0, 0xF0 };
    for (size_t i = n; i-- > 1; code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(mark[n] | code);
    return n;
}

static size_t shortest(uint32_t code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }

static bool is_scalar(uint32_t code) { return code < 0xD800 || (code > 0xDFFF && code <= 0x10FFFF); }

/* The text as it comes out when it is pushed in one piece. */
static size_t whole(const char *bytes, size_t n, char *out)
{
    ey_utf8 u = { { 0 }, 0 };
    size_t written = ey_utf8_push(&u, bytes, n, out);
    written += ey_utf8_end(&u, out + written);
    assert_int_equal(u.n, 0);
    assert_true(written <= 3 * (n + 3));
    return written;
}

static void every_code_point_and_its_overlong_forms(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x200000; code++) {
        for (size_t n = shortest(code); n <= 4; n++) {
            char text[4], out[3 * (4 + 3)];
            encode(code, n, text);
            bool good = is_scalar(code) && n == shortest(code);
            if (ey_utf8_check(text, n) != (good ? n : 0)) fail_msg("U+%X in %zu bytes", (unsigned)code, n);
            if (!good) continue;
            if (whole(text, n, out) != n || memcmp(text, out, n) != 0) fail_msg("U+%X pushed", (unsigned)code);
        }
    }
}

/* Short sequences, all of them: well-formed are exactly those that encode() makes. */
static void every_sequence_of_one_and_two_bytes(void **state)
{
    static unsigned char good[0x10000];
    (void)state;
    for (uint32_t code = 0x80; code < 0x800; code++) {
        char t[4];
        encode(code, 2, t);
        good[(unsigned char)t[0] << 8 | (unsigned char)t[1]] = 1;
    }
    for (unsigned i = 0; i < 0x10000; i++) {
        char text[2] = { (char)(i >> 8), (char)i };
        if (i < 0x100) assert_int_equal(ey_utf8_check(text + 1, 1), i < 0x80 ? 1 : 0);
        size_t want = good[i] ? 2 : i >> 8 >= 0x80 ? 0 : (i & 0xFF) >= 0x80 ? 1 : 2;
        if (ey_utf8_check(text, 2) != want) fail_msg("%04X: not %zu", i, want);
    }
}

#define R "\xEF\xBF\xBD"

/* The first five are examples of section 3.9 of the Unicode standard. */
static const struct {
    const char *bytes, *text;
    size_t      check;
} examples[] = {
    { "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", "a" R R R "b" R "c" R R "d", 1 },
    { "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A", 0 },
    { "\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A", 0 },
    { "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B", 0 },
    { "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A", 0 },
    { "", "", 0 },
    { "ok\xE2\x96\x81", "ok\xE2\x96\x81", 5 },
    { "cut\xF0\x9F\x98", "cut" R, 3 },             /* the text ends inside a character: one part */
    { "\xF0\x9F\x98\xF0\x9F\x98\x80", R "\xF0\x9F\x98\x80", 0 },
    { "\xEF\xBF\xBD", R, 3 },                      /* U+FFFD itself is a character */
};

static void wrong_parts_become_replacement_characters(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(examples); i++) {
        char out[256];
        size_t n = strlen(examples[i].bytes), written = whole(examples[i].bytes, n, out);
        assert_int_equal(ey_utf8_check(examples[i].bytes, n), examples[i].check);
        assert_int_equal(written, strlen(examples[i].text));
        assert_memory_equal(out, examples[i].text, written);
    }
}

/* Bytes that make and break characters of every length at every place. */
static const unsigned char edges[] = {
    0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
    0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFE, 0xFF,
};

/* Every string of up to four such bytes, a beginning of any length pushed at once and the rest byte by byte: the same
 * text as in one piece, and valid. */
static void cuts_do_not_show(void **state)
{
    const size_t base = COUNT(edges);
    size_t strings = 1;
    (void)state;
    for (size_t n = 1; n <= 4; n++) {
        strings *= base;
        for (size_t i = 0; i < strings; i++) {
            char bytes[4], want[3 * (4 + 3)], got[3 * (4 + 3) + 9];
            for (size_t k = 0, rest = i; k < n; k++, rest /= base) bytes[k] = (char)edges[rest % base];
            size_t length = whole(bytes, n, want);
            bool same = length == n && memcmp(bytes, want, n) == 0;
            if (ey_utf8_check(want, length) != length) fail_msg("output is not UTF-8");
            if ((ey_utf8_check(bytes, n) == n) != same) fail_msg("valid text changed, or wrong text did not");
            for (size_t cut = 0; cut <= n; cut++) {
                ey_utf8 u = { { 0 }, 0 };
                size_t written = ey_utf8_push(&u, bytes, cut, got);
                for (size_t k = cut; k < n; k++) written += ey_utf8_push(&u, bytes + k, 1, got + written);
                written += ey_utf8_end(&u, got + written);
                if (written != length || memcmp(want, got, length) != 0) fail_msg("cut at %zu of %zu", cut, n);
            }
        }
    }
}

/* A character comes out with the byte that completes it, not later. */
static void nothing_complete_is_held(void **state)
{
    ey_utf8 u = { { 0 }, 0 };
    char out[64];
    (void)state;
    assert_int_equal(ey_utf8_push(&u, "a\xF0\x9F", 3, out), 1);
    assert_int_equal(ey_utf8_push(&u, "\x98", 1, out), 0);
    assert_int_equal(ey_utf8_push(&u, "\x80", 1, out), 4);
    assert_memory_equal(out, "\xF0\x9F\x98\x80", 4);
    assert_int_equal(ey_utf8_push(&u, "\xE2", 1, out), 0);
    assert_int_equal(ey_utf8_push(&u, "b", 1, out), 4);
    assert_memory_equal(out, R "b", 4);
    assert_int_equal(ey_utf8_end(&u, out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_and_its_overlong_forms),
        cmocka_unit_test(every_sequence_of_one_and_two_bytes),
        cmocka_unit_test(wrong_parts_become_replacement_characters),
        cmocka_unit_test(cuts_do_not_show),
        cmocka_unit_test(nothing_complete_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
