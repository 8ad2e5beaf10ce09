/* test_stop.c - stop.c against a search that looks at everything: random texts and stop texts of few letters, so that
 * they overlap with each other and with themselves, in random pieces. */
#include "testing.h"

#include "stop.h"
#include "utf8.h"

static eyrie_error err;

static uint64_t noise;   /* splitmix64 */

static uint32_t below(uint32_t n)
{
    uint64_t z = noise += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (uint32_t)((z ^ z >> 31) % n);
}

/* Does text[0, end) end with the first `length` bytes of `with`? */
static bool ends_with(const char *text, size_t end, const char *with, size_t length)
{
    return length <= end && memcmp(text + end - length, with, length) == 0;
}

/* Length of the longest stop text that text[0, end) ends with, or of the longest that it ends with a true part of. */
static size_t longest(const char *text, size_t end, const char *const *stops, size_t n, bool part)
{
    size_t most = 0;
    for (size_t k = 0; k < n; k++) {
        size_t whole = strlen(stops[k]);
        for (size_t length = part ? 1 : whole; length < whole + !part; length++)
            if (length > most && ends_with(text, end, stops[k], length)) most = length;
    }
    return most;
}

/* Pushes `text` in pieces of at most `piece` bytes and checks what comes out after each: all that can be known by then. */
static void check(const char *text, const char *const *stops, size_t n, uint32_t piece)
{
    char delivered[64], out[64];
    size_t length = strlen(text), end = 0, at = 0, known = 0;
    bool found = false;
    ey_stop s;

    assert_int_equal(ey_stop_init(&s, stops, n, &err), EYRIE_OK);
    while (end < length && !longest(text, end, stops, n, false)) end++;     /* where the first one is complete */
    size_t stop = longest(text, end, stops, n, false);
    while (at < length && !found) {
        size_t take = (size_t)ey_min(1 + below(piece), length - at);
        size_t got = ey_stop_push(&s, text + at, take, out, &found);
        assert_in_range(got, 0, take + s.longest);
        memcpy(delivered + known, out, got);
        known += got;
        at += take;
        size_t want = stop && at >= end ? end - stop : at - longest(text, at, stops, n, true);
        if (found != (stop && at >= end) || known != want || memcmp(delivered, text, known))
            fail_msg("\"%s\": after %zu bytes \"%.*s\", %zu bytes are right", text, at, (int)known, delivered, want);
    }
    size_t rest = ey_stop_end(&s, out);
    if (found) assert_int_equal(rest, 0);
    else assert_true(known + rest == length && memcmp(out, text + known, rest) == 0);
    assert_int_equal(ey_stop_end(&s, out), 0);
    ey_stop_free(&s);
}

static void by_hand(void **state)
{
    static const struct {
        const char *text, *stops[3], *delivered;
        bool found;
    } cases[] = {
        { "aaab", { "aab" }, "a", true },
        { "ababac", { "abac" }, "ab", true },
        { "abcd", { "abcd", "bc" }, "a", true },        /* bc is complete first */
        { "xab", { "ab", "xab" }, "", true },           /* the longest of those that end here */
        { "abc", { "abc", "ab" }, "", true },
        { "abab", { "abc" }, "abab", false },
        { "a stop", { "stop", "stop it" }, "a ", true },
        { "no end", { "\n\n" }, "no end", false },
        { "\xC3\xA9\xC3\xA8", { "\xC3\xA8" }, "\xC3\xA9", true },   /* é and è begin with the same byte */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t piece = 1; piece <= strlen(cases[i].text); piece++) {
            char out[64];
            size_t n = 0, length = strlen(cases[i].text), at = 0;
            bool found = false;
            ey_stop s;
            while (n < 3 && cases[i].stops[n]) n++;
            assert_int_equal(ey_stop_init(&s, cases[i].stops, n, &err), EYRIE_OK);
            n = 0;
            for (; at < length && !found; at += piece)
                n += ey_stop_push(&s, cases[i].text + at, (size_t)ey_min(piece, length - at), out + n, &found);
            n += ey_stop_end(&s, out + n);
            assert_int_equal(found, cases[i].found);
            assert_int_equal(n, strlen(cases[i].delivered));
            assert_memory_equal(out, cases[i].delivered, n);
            ey_stop_free(&s);
        }
}

static void like_a_search_that_sees_everything(void **state)
{
    uint32_t stopped = 0;
    (void)state;
    noise = 1;
    for (uint32_t trial = 0; trial < 100000; trial++) {
        char text[33] = "", texts[4][9] = { "" };
        const char *stops[4] = { texts[0], texts[1], texts[2], texts[3] };
        uint32_t n = below(5), letters = 1 + below(3);
        for (uint32_t i = below(33); i > 0; i--) text[i - 1] = (char)('a' + below(letters));
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t i = 1 + below(trial % 2 ? 8 : 3); i > 0; i--) texts[k][i - 1] = (char)('a' + below(letters));
        for (size_t i = 0; i <= strlen(text); i++)
            if (longest(text, i, stops, n, false)) {
                stopped++;
                break;
            }
        check(text, stops, n, 1 + below(8));
    }
    assert_in_range(stopped, 20000, 80000);
}

/* What is used again after an end or a find knows nothing of before. */
static void begins_anew(void **state)
{
    const char *const stops[] = { "abc" };
    char out[16];
    bool found;
    ey_stop s;

    (void)state;
    assert_int_equal(ey_stop_init(&s, stops, 1, &err), EYRIE_OK);
    assert_int_equal(ey_stop_push(&s, "ab", 2, out, &found), 0);
    assert_int_equal(ey_stop_end(&s, out), 2);
    assert_int_equal(ey_stop_push(&s, "c", 1, out, &found), 1);
    assert_false(found);
    assert_int_equal(ey_stop_push(&s, "abcab", 5, out, &found), 0);
    assert_true(found);
    assert_int_equal(ey_stop_push(&s, "c", 1, out, &found), 1);
    assert_false(found);
    ey_stop_free(&s);
}

/* Whole characters in, whole characters out, although é, è and ê share their first byte. */
static void whole_characters(void **state)
{
    static const char *const letters[] = { "\xC3\xA9", "\xC3\xA8", "\xC3\xAA", "e", "\xE2\x82\xAC", "\xE2\x82\xAD" };
    (void)state;
    noise = 2;
    for (uint32_t trial = 0; trial < 20000; trial++) {
        char text[64] = "", stop[16] = "", out[80];
        const char *stops[] = { stop };
        bool found = false;
        ey_stop s;
        for (uint32_t i = 1 + below(3); i > 0; i--) strcat(stop, letters[below(COUNT(letters))]);
        assert_int_equal(ey_stop_init(&s, stops, 1, &err), EYRIE_OK);
        for (uint32_t i = 0; i < 12 && !found; i++) {
            const char *c = letters[below(COUNT(letters))];
            size_t n = ey_stop_push(&s, c, strlen(c), out, &found);
            assert_int_equal(ey_utf8_check(out, n), n);
            strcat(text, c);
        }
        assert_int_equal(found, strstr(text, stop) != NULL);
        ey_stop_free(&s);
    }
}

static void no_stop_texts(void **state)
{
    ey_stop s = { 0 };
    char out[4];
    bool found = true;

    (void)state;
    assert_int_equal(ey_stop_push(&s, "abc", 3, out, &found), 3);
    assert_memory_equal(out, "abc", 3);
    assert_false(found);
    assert_int_equal(ey_stop_end(&s, out), 0);
    ey_stop_free(&s);
}

static void wrong_stop_texts(void **state)
{
    static const struct { const char *texts[2], *message; } cases[] = {
        { { "a", "" }, "stop text 2 of 2 is empty" },
        { { NULL, "a" }, "stop text 1 of 2 is empty" },
        { { "a", "ab\xC3" }, "stop text 2 of 2 is not UTF-8 at byte 2 of 3" },
    };
    const char *const good[] = { "a", "bc" };
    ey_stop s;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(ey_stop_init(&s, cases[i].texts, 2, &err), EYRIE_EINVAL);
        assert_string_equal(err.text, cases[i].message);
    }
    assert_int_equal(ey_stop_init(&s, NULL, 1, &err), EYRIE_EINVAL);
    eyrie_status st = EYRIE_ENOMEM;
    for (size_t n = 0; fail_allocation(n), st = ey_stop_init(&s, good, 2, &err), allocation_failed(); n++) {
        assert_int_equal(st, EYRIE_ENOMEM);
        assert_null(s.texts);
    }
    assert_int_equal(st, EYRIE_OK);
    ey_stop_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(like_a_search_that_sees_everything),
        cmocka_unit_test(begins_anew),
        cmocka_unit_test(whole_characters),
        cmocka_unit_test(no_stop_texts),
        cmocka_unit_test(wrong_stop_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
