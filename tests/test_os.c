/* test_os.c - work shared by threads: each piece once, whatever the numbers. Files are tested by those who use them. */
#include "testing.h"

#include "os.h"

enum { MOST = 5000 };

typedef struct ledger {
    uint32_t workers;
    uint8_t  done[MOST];                    /* a byte each, so that threads share none */
    uint32_t by[EY_MAX_WORKERS];            /* only worker w writes [w] */
} ledger;

static void work(void *user, uint32_t worker, uint32_t i)
{
    ledger *l = user;

    l->done[i]++;
    l->by[worker < EY_MAX_WORKERS ? worker : 0]++;
    if (worker >= l->workers) l->done[i] = 99;
}

static void each_piece_once(void **state)
{
    static const uint32_t workers[] = { 1, 2, 3, 7, EY_MAX_WORKERS, EY_MAX_WORKERS + 1, 100000 }, pieces[] = { 0, 1, 2, 63, MOST };

    (void)state;
    for (size_t w = 0; w < COUNT(workers); w++)
        for (size_t n = 0; n < COUNT(pieces); n++) {
            ledger   l = { .workers = (uint32_t)ey_min(workers[w], EY_MAX_WORKERS) };
            uint32_t sum = 0;

            ey_parallel(workers[w], pieces[n], work, &l);
            for (uint32_t i = 0; i < MOST; i++) assert_int_equal(l.done[i], i < pieces[n]);
            for (uint32_t i = 0; i < EY_MAX_WORKERS; i++) sum += l.by[i];
            assert_int_equal(sum, pieces[n]);
        }
    assert_in_range(ey_cores(), 1, EY_MAX_WORKERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_piece_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
