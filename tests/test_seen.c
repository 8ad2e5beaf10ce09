/* test_seen.c - seen.c against plain counts. */
#include "testing.h"

#include "seen.h"

enum { VOCAB = 5000 };

static void assert_counts(const ey_seen *s, const bool *there, const uint32_t *generated)
{
    size_t n = 0;
    for (int32_t id = 0; id < VOCAB; id++) {
        const ey_seen_token *t = ey_seen_find(s, id);
        n += there[id];
        if ((t != NULL) != there[id] || (t && (t->id != id || t->generated != generated[id])))
            fail_msg("token %d", (int)id);
    }
    assert_int_equal(s->n, n);
}

/* Ids in a row, ids far apart, and ids that a table of any power of two could mistake for each other. */
static void counts(void **state)
{
    static const uint32_t strides[] = { 1, 7, 64, 1024, 4096 };
    (void)state;
    for (size_t k = 0; k < COUNT(strides); k++) {
        static bool there[VOCAB], there_then[VOCAB];
        static uint32_t generated[VOCAB], generated_then[VOCAB];
        ey_seen s = { 0 }, copy = { 0 };
        memset(there, 0, sizeof there);
        memset(generated, 0, sizeof generated);
        assert_counts(&s, there, generated);
        assert_true(ey_seen_copy(&copy, &s));
        for (uint32_t i = 0; i < 6000; i++) {
            int32_t id = (int32_t)(i * strides[k] % VOCAB);
            assert_true(ey_seen_add(&s, id, i % 3 == 0));
            there[id] = true;
            generated[id] += i % 3 == 0;
            if (i % 500 == 0 || i < 3) assert_counts(&s, there, generated);
            if (i != 3000) continue;
            assert_true(ey_seen_copy(&copy, &s));
            memcpy(there_then, there, sizeof there);
            memcpy(generated_then, generated, sizeof generated);
        }
        assert_counts(&s, there, generated);
        ey_seen_free(&s);
        assert_int_equal(s.n, 0);
        assert_counts(&copy, there_then, generated_then);
        ey_seen_free(&copy);
    }
}

static void no_memory(void **state)
{
    (void)state;
    ey_seen s = { 0 }, copy = { 0 };
    uint32_t failures = 0;
    for (int32_t id = 0; id < 1000; id++) {
        fail_allocation(0);
        bool added = ey_seen_add(&s, id, true);
        if (allocation_failed()) {
            assert_false(added);
            assert_null(ey_seen_find(&s, id));
            assert_int_equal(s.n, id);
            assert_true(ey_seen_add(&s, id, true));
            failures++;
        }
        assert_int_equal(ey_seen_find(&s, id)->generated, 1);
        assert_int_equal(ey_seen_find(&s, id / 2)->generated, 1);
    }
    assert_in_range(failures, 2, 12);       /* it grows by doubling */
    fail_allocation(0);
    assert_false(ey_seen_copy(&copy, &s));
    assert_true(allocation_failed());
    assert_int_equal(copy.n, 0);
    ey_seen_free(&copy);
    ey_seen_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
