/* test_copy.c - copy.c: every range arrives, and nothing beside it changes, however many there are, whatever their sizes. */
#include "running.h"

#include "copy.h"

enum { MOST = 20, GAP = 64 };

static void fill(unsigned char *bytes, uint64_t n, uint32_t seed)
{
    for (uint64_t i = 0; i < n; i++) bytes[i] = (unsigned char)((seed = seed * 1664525u + 1013904223u) >> 24);
}

typedef enum way { BY_KERNEL, APART, NEIGHBOURS } way;

/* Ranges of these sizes, GAP bytes apart and in reverse order where they go, or neighbours that go to neighbours. */
static void check(way how, ey_program *program, const uint64_t *sizes, size_t n)
{
    const uint64_t gap = how == NEIGHBOURS ? 0 : GAP;
    ey_range ranges[MOST];
    ey_arena arena;
    uint64_t total = 2 * GAP, at = GAP;

    for (size_t i = 0; i < n; i++) total += sizes[i] + gap;
    unsigned char *from = malloc(total), *want = malloc(total), *got = malloc(total);
    assert_true(from && want && got);
    ey_arena_init(&arena, device, "copies");
    ey_buffer *a = ey_arena_add(&arena, total, "from"), *b = ey_arena_add(&arena, total, "to");
    assert_true(a && b);
    assert_ok(ey_arena_commit(&arena, &err));
    fill(from, total, 1);
    fill(want, total, 2);
    assert_ok(ey_buffer_write(device, a, 0, total, from, &err));
    assert_ok(ey_buffer_write(device, b, 0, total, want, &err));
    for (size_t i = 0; i < n; at += sizes[i++] + gap) {
        ranges[i] = (ey_range){ a, at, b, how == NEIGHBOURS ? at : total - at - sizes[i], sizes[i] };
        memcpy(want + ranges[i].to_at, from + at, sizes[i]);
    }
    if (how == BY_KERNEL) assert_ok(ey_copy_by_kernel(program, device, ranges, n, &err));
    else assert_ok(ey_copy_ranges(program, device, ranges, n, &err));
    if (how == NEIGHBOURS && total > 2 * GAP) assert_int_equal(ranges[0].bytes, total - 2 * GAP);
    assert_ok(ey_buffer_read(device, b, 0, total, got, &err));
    assert_memory_equal(got, want, total);
    assert_ok(ey_buffer_read(device, a, 0, total, got, &err));
    assert_memory_equal(got, from, total);
    ey_arena_free(&arena);
    free(from);
    free(want);
    free(got);
}

/* A piece of the kernel is 32 KiB and a launch takes 8 ranges; it is for 16 MiB and more, in lines of 64 bytes. */
static void ranges_of_all_sizes(void **state)
{
    static const struct { size_t n; uint64_t sizes[MOST]; } cases[] = {
        { 1, { 0 } }, { 1, { 64 } }, { 2, { 32704, 32768 } }, { 3, { 32832, 0, 640 } }, { 1, { 100 } }, { 3, { 64, 1, 64 } },
        { 8, { 64, 128, 192, 256, 320, 384, 448, 65536 } }, { 9, { 64, 0, 192, 256, 320, 384, 0, 512, 100032 } },
        { 20, { 64, 64, 64, 64, 64, 64, 64, 64, 128, 128, 128, 128, 128, 128, 128, 128, 33024, 64, 64, 64 } },
        { 2, { 9 << 20, 8 << 20 } }, { 2, { (9 << 20) + 4, 8 << 20 } } };
    ey_program *program;

    (void)state;
    if (!device) skip();
    assert_ok(ey_program_build(&program, device, 1u << EYRIE_FORMAT_BF16, EYRIE_FORMAT_F32, &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool lines = true;
        for (size_t k = 0; k < cases[i].n; k++) lines = lines && cases[i].sizes[k] % 64 == 0;
        check(APART, program, cases[i].sizes, cases[i].n);
        check(NEIGHBOURS, program, cases[i].sizes, cases[i].n);
        if (lines) check(BY_KERNEL, program, cases[i].sizes, cases[i].n);
    }
    assert_ok(ey_copy_ranges(program, device, NULL, 0, &err));
    ey_program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ranges_of_all_sizes) };
    return cmocka_run_group_tests_name("copy", tests, open_device, close_device);
}
