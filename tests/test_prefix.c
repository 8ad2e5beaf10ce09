/* test_prefix.c - the index of the prefix cache, over a store that only counts: what is found is what comparing all
 * texts finds, the least valuable goes first, tiers keep to their budgets, and whatever fails leaves all of that
 * true. */
#include "testing.h"

#include "dice.h"
#include "prefix.h"

#include <math.h>

enum { UNIT = 64, MOST_TOKENS = 4096 };

/* ------------------------------------------------------------------------------------------------------------- store */

/* A snapshot that is nothing but where it is. */
typedef struct fake {
    uint64_t bytes;
    bool     on[EY_TIERS];
} fake;

static struct {
    uint64_t live;                  /* snapshots */
    uint64_t bytes[EY_TIERS], most[EY_TIERS];
    uint64_t copies[EY_TIERS];
    uint32_t fail_every;            /* so many-th copy fails; 0: none */
} store;

static void count_in(fake *f, ey_tier tier)
{
    assert_false(f->on[tier]);
    f->on[tier] = true;
    store.bytes[tier] += f->bytes;
    if (store.bytes[tier] > store.most[tier]) store.most[tier] = store.bytes[tier];
}

static bool copy(void *user, const ey_prefix *p, ey_tier to)
{
    fake *f = p->snapshot;

    assert_ptr_equal(user, &store);
    assert_true(f->on[EY_ON_DEVICE] || f->on[EY_IN_HOST] || f->on[EY_ON_DISK]);
    if (store.fail_every && one_in(store.fail_every)) return false;
    count_in(f, to);
    store.copies[to]++;
    return true;
}

static void drop(void *user, const ey_prefix *p, ey_tier from)
{
    fake *f = p->snapshot;

    assert_ptr_equal(user, &store);
    assert_true(f->on[from]);
    f->on[from] = false;
    store.bytes[from] -= f->bytes;
}

static void forget(void *user, void *snapshot)
{
    assert_ptr_equal(user, &store);
    store.live--;
    free(snapshot);
}

static ey_prefixes *open_index(uint32_t unit, uint64_t device, uint64_t host, uint64_t disk)
{
    const ey_prefix_store to = { &store, copy, drop, forget };
    const uint64_t limits[EY_TIERS] = { device, host, disk };
    ey_prefixes *ps;

    memset(&store, 0, sizeof store);
    ps = ey_prefixes_new(unit, limits, &to);
    assert_non_null(ps);
    return ps;
}

/* After it nothing is left but what may stay on the disk. */
static void close_index(ey_prefixes *ps)
{
    ey_prefixes_free(ps);
    assert_int_equal(store.live, 0);
}

/* Adds a snapshot as its users do; false: there was no room or no memory. */
static bool add(ey_prefixes *ps, const int32_t *tokens, uint64_t n, uint64_t bytes, bool ends)
{
    fake *f;

    if (!ey_prefixes_make_room(ps, EY_ON_DEVICE, bytes, n)) return false;
    f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->bytes = bytes;
    store.live++;
    if (!ey_prefixes_add(ps, tokens, n, f, bytes, ends, EY_ON_DEVICE)) {
        forget(&store, f);
        return false;
    }
    count_in(f, EY_ON_DEVICE);
    return true;
}

static uint64_t found(const ey_prefixes *ps, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch)
{
    uint64_t unused;
    const ey_prefix *p = ey_prefixes_find(ps, tokens, n, logits, branch ? branch : &unused);
    return p ? p->length : 0;
}

/* -------------------------------------------------------------------------------------------------------------- texts */

/* A text that differs from another one at token `at`, and after it. */
static void make_text(int32_t *tokens, uint64_t n, const int32_t *like, uint64_t at, int32_t other)
{
    for (uint64_t i = 0; i < n; i++) tokens[i] = like && i < at ? like[i] : (int32_t)(i * 7 % 1000) + other;
}

/* ------------------------------------------------------------------------------------------------------------ finding */

/* Snapshots of one text of 300 tokens, after 64, 192 and all of it, and what they are to others. */
static void finds_the_longest(void **state)
{
    static const struct {
        const char *what;
        uint64_t    n, parts_at;    /* tokens of the text that asks; from which on it is another one */
        bool        logits;
        uint64_t    found, branch;
    } cases[] = {
        { "nothing in common",                  300, 0,   true,  0,   0 },
        { "less than a block in common",        300, 63,  true,  0,   0 },
        { "a block in common",                  300, 64,  true,  64,  0 },
        { "two blocks, one snapshot",           300, 130, true,  64,  128 },
        { "two blocks, ends there",             128, 128, true,  64,  0 },
        { "three blocks",                       300, 192, true,  192, 0 },
        { "four blocks, parts inside of one",   300, 299, true,  192, 256 },
        { "the same text",                      300, 300, true,  300, 0 },
        { "goes on after its end",              310, 300, true,  192, 0 },
        { "shorter",                            299, 299, true,  192, 0 },
        { "ends at a snapshot without logits",  192, 192, true,  64,  0 },
        { "which it does not want",             192, 192, false, 192, 0 },
        { "ends before the first block does",   63,  63,  true,  0,   0 },
    };
    int32_t known[300], asks[320];
    ey_prefixes *ps = open_index(UNIT, 1 << 20, 0, 0);
    uint64_t branch;

    (void)state;
    make_text(known, 300, NULL, 0, 1);
    assert_true(add(ps, known, 300, 10, true) && add(ps, known, 64, 10, false) && add(ps, known, 192, 10, false));
    for (size_t i = 0; i < COUNT(cases); i++) {
        make_text(asks, cases[i].n, known, cases[i].parts_at, 5000);
        uint64_t got = found(ps, asks, cases[i].n, cases[i].logits, &branch);
        if (got != cases[i].found || branch != cases[i].branch)
            fail_msg("%s: found %d, branch %d", cases[i].what, (int)got, (int)branch);
    }
    close_index(ps);
}

static void the_same_text_replaces(void **state)
{
    int32_t text[128];
    ey_prefixes *ps = open_index(UNIT, 1 << 20, 0, 0);

    (void)state;
    make_text(text, 128, NULL, 0, 1);
    for (uint64_t n = 127; n <= 128; n++) {
        assert_true(add(ps, text, n, 10, false));
        assert_int_equal(found(ps, text, n, true, NULL), 0);
        assert_true(add(ps, text, n, 10, true));
        assert_int_equal(found(ps, text, n, true, NULL), n);
    }
    assert_int_equal(ey_prefixes_count(ps), 2);
    assert_int_equal(store.live, 2);
    close_index(ps);
}

/* A text that is known, as the test remembers it. */
typedef struct known {
    int32_t  tokens[400];
    uint64_t n;
    bool     ends;
} known;

/* By comparing with all. */
static uint64_t find_slowly(const known *all, size_t n_all, uint32_t unit, const int32_t *tokens, uint64_t n, bool logits)
{
    uint64_t best = 0;

    for (size_t i = 0; i < n_all; i++) {
        const known *k = &all[i];
        if (k->n > n || k->n <= best || memcmp(k->tokens, tokens, k->n * sizeof *tokens) != 0) continue;
        if (k->n == n ? k->ends || !logits : k->n % unit == 0) best = k->n;
    }
    return best;
}

/* What each is worth depends on the longest shorter one that serves it, whichever came first. */
static void check_above(const ey_prefixes *ps, const known *all, size_t n_all, uint32_t unit)
{
    uint64_t unused;

    for (size_t i = 0; i < n_all; i++) {
        const ey_prefix *p = ey_prefixes_find(ps, all[i].tokens, all[i].n, false, &unused);
        uint64_t above = 0;
        for (size_t k = 0; k < n_all; k++)
            if (all[k].n < all[i].n && all[k].n > above && all[k].n % unit == 0
                && !memcmp(all[k].tokens, all[i].tokens, all[k].n * sizeof(int32_t)))
                above = all[k].n;
        assert_int_equal(p->above ? p->above->length : 0, above);
    }
}

/* Texts over three tokens that begin like each other; nothing has to go. */
static void finds_what_comparing_finds(void **state)
{
    static const uint32_t units[] = { 1, 3, 8, UNIT };
    static known all[300];
    int32_t tokens[400], back[400];

    (void)state;
    for (size_t u = 0; u < COUNT(units); u++) {
        ey_prefixes *ps = open_index(units[u], 1 << 30, 0, 0);
        size_t n_all = 0;
        dice = 17 + u;
        uint64_t branch;
        for (uint32_t round = 0; round < 4000; round++) {
            uint64_t n = between(1, 400), like = n_all ? below((uint32_t)n_all) : 0, from = below(400);
            bool ends = one_in(2);
            for (uint64_t i = 0; i < n; i++)
                tokens[i] = n_all && i < all[like].n && i < from ? all[like].tokens[i] : (int32_t)below(3);
            uint64_t got = found(ps, tokens, n, ends, &branch);
            assert_int_equal(got, find_slowly(all, n_all, units[u], tokens, n, ends));
            assert_true(branch == 0 || (branch > got && branch < n && branch % units[u] == 0));
            if (n_all == COUNT(all) || got == n || !one_in(4)) continue;
            for (size_t i = 0; i < n_all; i++)      /* one that was there without logits is replaced */
                if (all[i].n == n && !memcmp(all[i].tokens, tokens, n * sizeof *tokens)) all[i] = all[--n_all];
            memcpy(all[n_all].tokens, tokens, n * sizeof *tokens);
            all[n_all].n = n;
            all[n_all++].ends = ends;
            assert_true(add(ps, tokens, n, between(1, 100), ends));
            ey_prefix_tokens(ps, ey_prefixes_find(ps, tokens, n, false, &branch), back);
            assert_memory_equal(back, tokens, n * sizeof *tokens);
        }
        assert_int_equal(ey_prefixes_count(ps), n_all);
        assert_int_equal(n_all, COUNT(all));
        check_above(ps, all, n_all, units[u]);
        while (n_all > COUNT(all) / 2) {
            n_all--;
            ey_prefixes_discard(ps, ey_prefixes_find(ps, all[n_all].tokens, all[n_all].n, false, &branch));
        }
        check_above(ps, all, n_all, units[u]);
        close_index(ps);
    }
}

/* ------------------------------------------------------------------------------------------------------------- worth */

/* Room for n snapshots of `bytes` after `length` tokens, and not for one more. */
static uint64_t room_for(uint64_t n, uint64_t bytes, uint64_t length)
{
    ey_prefixes *ps = open_index(UNIT, 1 << 30, 0, 0);
    int32_t text[MOST_TOKENS];
    uint64_t each;

    make_text(text, length, NULL, 0, 1);
    assert_true(add(ps, text, length, bytes, true));
    each = ey_prefixes_bytes(ps, EY_ON_DEVICE);
    close_index(ps);
    return n * each + each / 2;
}

/* Where three have room and a fourth comes, one goes. */
static void the_least_valuable_goes(void **state)
{
    static const struct { const char *what; uint64_t length[3], bytes[3]; int used, goes; } cases[] = {
        { "the one that saves least",                       { 128, 64, 192 },  { 9000, 9000, 9000 },  -1, 1 },
        { "the largest of the same length",                 { 128, 128, 128 }, { 9000, 9000, 12000 }, -1, 2 },
        { "of equals the first",                            { 128, 128, 128 }, { 9000, 9000, 9000 },  -1, 0 },
        { "of equals that used least lately",               { 128, 128, 128 }, { 9000, 9000, 9000 },  0,  1 },
        { "that saves least, though it was used last",      { 128, 64, 192 },  { 9000, 9000, 9000 },  1,  1 },
    };
    int32_t texts[4][192];
    uint64_t unused;

    (void)state;
    for (int t = 0; t < 4; t++) make_text(texts[t], 192, NULL, 0, 1 + 2000 * t);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_prefixes *ps = open_index(UNIT, 9000 * 3 + 9000, 0, 0);
        for (int t = 0; t < 3; t++) assert_true(add(ps, texts[t], cases[i].length[t], cases[i].bytes[t], true));
        if (cases[i].used >= 0)
            assert_true(ey_prefixes_use(ps, ey_prefixes_find(ps, texts[cases[i].used], cases[i].length[cases[i].used], true, &unused)));
        assert_true(add(ps, texts[3], 128, 9000, true));
        for (int t = 0; t < 3; t++) {
            bool there = found(ps, texts[t], cases[i].length[t], true, NULL) > 0, wanted = t != cases[i].goes;
            if (there != wanted) fail_msg("%s: %d is %s", cases[i].what, t, there ? "there" : "gone");
        }
        assert_int_equal(ey_prefixes_count(ps), 3);
        close_index(ps);
    }
}

/* Texts come one after the other; the one that is used again and again stays, however many come. */
static void what_is_used_stays(void **state)
{
    uint64_t limit = room_for(4, 5000, 128), unused;
    ey_prefixes *ps = open_index(UNIT, limit, 0, 0);
    int32_t text[128], used[128];

    (void)state;
    make_text(used, 128, NULL, 0, 77);
    assert_true(add(ps, used, 128, 5000, true));
    for (int32_t i = 1; i < 200; i++) {
        make_text(text, 128, NULL, 0, 77 + 1000 * i);
        assert_true(add(ps, text, 128, 5000, true));
        ey_prefix *p = ey_prefixes_find(ps, used, 128, true, &unused);
        if (!p) fail_msg("gone after %d others", (int)i);
        assert_true(ey_prefixes_use(ps, p));
    }
    assert_int_equal(ey_prefixes_count(ps), 4);
    close_index(ps);
}

/* However much it would save: after as many that save a thirty-second of that have come and gone, it goes. */
static void what_is_not_used_goes(void **state)
{
    uint64_t limit = room_for(4, 500000, MOST_TOKENS), unused;
    ey_prefixes *ps = open_index(UNIT, limit, 0, 0);
    int32_t text[128], large[MOST_TOKENS];
    int32_t came = 0;

    (void)state;
    make_text(large, MOST_TOKENS, NULL, 0, 77);
    assert_true(add(ps, large, MOST_TOKENS, 500000, true));
    while (came < 1000 && ey_prefixes_find(ps, large, MOST_TOKENS, true, &unused)) {
        make_text(text, 128, NULL, 0, 77 + 1000 * ++came);
        assert_true(add(ps, text, 128, 500000, true));
    }
    assert_in_range(came, 32, 4 * 32);      /* four have room, each is worth a thirty-second more than those that went before */
    close_index(ps);
}

/* A text much longer than there is room for: what stays of it is not its end alone, nor its beginning. */
static void long_texts_thin_out(void **state)
{
    enum { KEPT = 8 };
    uint64_t limit = room_for(KEPT, 100000, MOST_TOKENS), last = 0, widest = 0;
    ey_prefixes *ps = open_index(UNIT, limit, 0, 0);
    int32_t text[MOST_TOKENS];

    (void)state;
    make_text(text, MOST_TOKENS, NULL, 0, 1);
    for (uint64_t n = UNIT; n <= MOST_TOKENS; n += UNIT) assert_true(add(ps, text, n, 100000, false));
    for (uint64_t n = UNIT; n <= MOST_TOKENS; n += UNIT) {
        if (found(ps, text, n, false, NULL) != n) continue;
        widest = n - last > widest ? n - last : widest;
        last = n;
    }
    assert_in_range(ey_prefixes_count(ps), KEPT, KEPT + 1);
    assert_int_equal(last, MOST_TOKENS);
    if (widest > 4 * MOST_TOKENS / KEPT) fail_msg("%d tokens between two snapshots", (int)widest);
    close_index(ps);
}

/* ------------------------------------------------------------------------------------------------------------- tiers */

/* Room for two on each tier: seven texts come, six stay, the oldest farthest down; used, one comes up again. */
static void tiers_are_filled_downwards(void **state)
{
    uint64_t limit = room_for(2, 5000, 128), unused;
    ey_prefixes *ps = open_index(UNIT, limit, limit, limit);
    int32_t texts[7][128];
    ey_prefix *p;

    (void)state;
    for (int i = 0; i < 7; i++) {
        make_text(texts[i], 128, NULL, 0, 1 + 2000 * i);
        assert_true(add(ps, texts[i], 128, 5000, true));
    }
    assert_int_equal(ey_prefixes_count(ps), 6);
    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) assert_int_equal(store.bytes[tier], 10000);

    for (int i = 0; i < 7; i++) {
        p = ey_prefixes_find(ps, texts[i], 128, true, &unused);
        if (!p || !(p->tiers & 1u << EY_ON_DISK)) continue;
        assert_true(ey_prefixes_use(ps, p));
        assert_int_equal(p->tiers, 1u << EY_ON_DEVICE | 1u << EY_ON_DISK);      /* the file stays */
        break;
    }
    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) assert_in_range(ey_prefixes_bytes(ps, tier), 1, limit);
    for (int i = 0; i < 7; i++) {
        p = ey_prefixes_find(ps, texts[i], 128, true, &unused);
        if (!p || p->tiers != 1u << EY_IN_HOST) continue;
        assert_true(ey_prefixes_use(ps, p));
        assert_int_equal(p->tiers, 1u << EY_ON_DEVICE);
        break;
    }
    close_index(ps);
}

static void settling_fills_the_disk(void **state)
{
    uint64_t limit = room_for(3, 5000, 128);
    ey_prefixes *ps = open_index(UNIT, 1 << 20, 0, limit);
    int32_t texts[5][256];

    (void)state;
    for (int i = 0; i < 5; i++) {
        make_text(texts[i], 256, NULL, 0, 1 + 2000 * i);
        assert_true(add(ps, texts[i], (uint64_t)(i == 1 || i == 3 ? 64 : 128), 5000, true));
    }
    ey_prefixes_settle(ps);
    assert_int_equal(ey_prefixes_count(ps), 3);
    assert_int_equal(store.bytes[EY_ON_DISK], 15000);
    for (int i = 0; i < 5; i += 2) assert_int_equal(found(ps, texts[i], 128, true, NULL), 128);
    close_index(ps);
    assert_int_equal(store.bytes[EY_ON_DISK], 15000);       /* closing leaves the files */
}

/* What was there before is worth less than whatever is used from now on. */
static void earlier_times_go_first(void **state)
{
    uint64_t limit = room_for(2, 5000, 256);
    ey_prefixes *ps = open_index(UNIT, limit, 0, 0);
    int32_t texts[3][256];

    (void)state;
    for (int i = 0; i < 3; i++) make_text(texts[i], 256, NULL, 0, 1 + 2000 * i);
    assert_true(add(ps, texts[0], 256, 5000, true));
    ey_prefixes_age(ps);
    assert_true(add(ps, texts[1], 192, 5000, true));
    assert_true(add(ps, texts[2], 192, 5000, true));
    assert_int_equal(found(ps, texts[0], 256, true, NULL), 0);
    assert_int_equal(found(ps, texts[1], 192, true, NULL), 192);
    close_index(ps);
}

static void what_is_too_large_is_not_kept(void **state)
{
    ey_prefixes *ps = open_index(UNIT, 10000, 0, 0);
    int32_t text[64];

    (void)state;
    make_text(text, 64, NULL, 0, 1);
    assert_true(add(ps, text, 64, 9000, true));
    assert_false(add(ps, text, 63, 10000, true));       /* with its place in the index it does not fit */
    assert_int_equal(found(ps, text, 64, true, NULL), 64);
    close_index(ps);
}

/* ------------------------------------------------------------------------------------------------------------ traffic */

/* Bytes of a state of 2 MB that is full after 2048 tokens. */
static uint64_t bytes_after(uint64_t n) { return 50000 + 1000 * (n < 2048 ? n : 2048); }

/* 100,000 requests that begin like one of a few system prompts, some of them conversations that grow: a simulated
 * engine with a simulated device. Copies fail now and then in the second half. */
static void budgets_hold(void **state)
{
    enum { REQUESTS = 100000, SYSTEM = 12, CHATS = 40, SPACING = 256 };
    const uint64_t limits[EY_TIERS] = { 64 << 20, 48 << 20, 96 << 20 };
    static int32_t systems[SYSTEM][1500], chats[CHATS][MOST_TOKENS];
    uint64_t lengths[CHATS] = { 0 }, read = 0, asked = 0, branch;
    ey_prefixes *ps = open_index(UNIT, limits[0], limits[1], limits[2]);

    (void)state;
    dice = 5;
    for (int32_t i = 0; i < SYSTEM; i++) make_text(systems[i], 1500, NULL, 0, 2000 * i);
    for (uint32_t r = 0; r < REQUESTS; r++) {
        uint32_t c = below(CHATS);
        uint64_t more = between(20, 200), from;
        if (lengths[c] + more > MOST_TOKENS || lengths[c] == 0) {
            uint32_t s = below(one_in(3) ? SYSTEM : 3);     /* few are asked for most */
            lengths[c] = between(100, 1500);
            memcpy(chats[c], systems[s], lengths[c] * sizeof(int32_t));
        }
        for (uint64_t i = 0; i < more; i++) chats[c][lengths[c]++] = (int32_t)below(30000);
        if (r == REQUESTS / 2) store.fail_every = 50;

        ey_prefix *p = ey_prefixes_find(ps, chats[c], lengths[c], true, &branch);
        from = p && ey_prefixes_use(ps, p) ? p->length : 0;
        asked += lengths[c];
        read += lengths[c] - from;
        for (uint64_t at = from / UNIT * UNIT + UNIT; at < lengths[c]; at += UNIT)
            if (at % SPACING == 0 || at == branch) add(ps, chats[c], at, bytes_after(at), false);
        add(ps, chats[c], lengths[c], bytes_after(lengths[c]), true);
        for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) {
            assert_in_range(ey_prefixes_bytes(ps, tier), 0, limits[tier]);
            assert_in_range(store.bytes[tier], 0, ey_prefixes_bytes(ps, tier));
        }
        assert_int_equal(store.live, ey_prefixes_count(ps));
    }
    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) {
        assert_in_range(store.most[tier], limits[tier] / 2, limits[tier]);
        assert_true(tier == EY_ON_DEVICE || store.copies[tier] > 0);
    }
    printf("%d requests: %.1f %% of %.0f million tokens read\n", REQUESTS, 100.0 * (double)read / (double)asked, (double)asked / 1e6);
    assert_true(read < asked / 2);      /* chats begin anew after some 20 turns, and 40 of them share the room of 13 */
    close_index(ps);
}

/* ----------------------------------------------------------------------------------------------------------- no memory */

/* Whichever allocation fails, texts that are there are found, and others are not. */
static void without_memory(void **state)
{
    int32_t texts[6][512];
    bool failed = true;

    (void)state;
    for (int i = 0; i < 6; i++) make_text(texts[i], 512, i ? texts[i - 1] : NULL, 300, 1000 * i);
    for (uint32_t n = 0; failed; n++) {
        ey_prefixes *ps = open_index(UNIT, 40000, 0, 0);
        bool added[6];
        fail_allocation(n);
        for (int i = 0; i < 6; i++) added[i] = add(ps, texts[i], 450 + (uint64_t)i, 100, true);
        ey_prefixes_settle(ps);
        failed = allocation_failed();
        for (int i = 0; i < 6; i++) {
            uint64_t there = found(ps, texts[i], 450 + (uint64_t)i, true, NULL);
            if (there && !added[i]) fail_msg("allocation %u: text %d was not added, and is found", (unsigned)n, i);
        }
        assert_int_equal(ey_prefixes_count(ps), store.live);
        close_index(ps);
        assert_in_range(n, 0, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_longest),          cmocka_unit_test(the_same_text_replaces),
        cmocka_unit_test(finds_what_comparing_finds), cmocka_unit_test(the_least_valuable_goes),
        cmocka_unit_test(what_is_used_stays),         cmocka_unit_test(what_is_not_used_goes),
        cmocka_unit_test(long_texts_thin_out),
        cmocka_unit_test(tiers_are_filled_downwards), cmocka_unit_test(settling_fills_the_disk),
        cmocka_unit_test(earlier_times_go_first),     cmocka_unit_test(what_is_too_large_is_not_kept),
        cmocka_unit_test(budgets_hold),               cmocka_unit_test(without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
