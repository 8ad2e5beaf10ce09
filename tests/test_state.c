/* test_state.c - state.c: slots as bytes. Copies touch one slot and nothing else, wherever the layers lie, and too many slots
 * for one allocation are refused with the number that fits. */
#include "running.h"

#include "state.h"

enum { SLOTS = 5, LAYERS = 6 };
static const uint64_t layer_bytes[LAYERS] = { 4, 4096, 1000, 4096, 1000, 4096 };

static void open_state(ey_state *s)
{
    if (!device) skip();
    assert_ok(ey_state_init(s, device, SLOTS, layer_bytes, LAYERS, &err));
    assert_ok(ey_arena_commit(&s->arena, &err));
}

/* What slot `slot` of a layer holds at first: bytes that tell layer, slot and place. */
static void pattern(uint32_t layer, uint32_t slot, unsigned char *bytes)
{
    for (uint64_t i = 0; i < layer_bytes[layer]; i++) bytes[i] = (unsigned char)(i * 7 + slot * 50 + layer * 17 + 1);
}

static void write_patterns(ey_state *s)
{
    unsigned char bytes[4096];

    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            pattern(layer, slot, bytes);
            assert_ok(ey_state_write(s, layer, slot, 0, layer_bytes[layer], bytes, &err));
        }
}

/* Slot i holds the pattern of slot origin[i], in every layer. */
static void check_patterns(ey_state *s, const uint32_t *origin)
{
    unsigned char want[4096], got[4096];

    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            pattern(layer, origin[slot], want);
            assert_ok(ey_state_read(s, layer, slot, 0, layer_bytes[layer], got, &err));
            assert_memory_equal(got, want, layer_bytes[layer]);
        }
}

static void copy_all(ey_state *s, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < LAYERS; i++) {
        ey_range range = ey_state_range(s, i, from, s, to, layer_bytes[i]);
        assert_ok(ey_buffer_copy(device, &range, &err));
    }
}

static void a_copy_changes_one_slot(void **state)
{
    ey_state s;

    (void)state;
    open_state(&s);
    for (uint32_t from = 0; from < SLOTS; from++)
        for (uint32_t to = 0; to < SLOTS; to++) {
            uint32_t origin[SLOTS] = { 0, 1, 2, 3, 4 };
            if (from == to) continue;
            write_patterns(&s);
            copy_all(&s, from, to);
            origin[to] = from;
            check_patterns(&s, origin);
        }
    ey_state_free(&s);
    assert_int_equal(device->used, 0);
}

/* Copies happen in the order in which they are asked for. */
static void copies_of_copies(void **state)
{
    ey_state s;

    (void)state;
    open_state(&s);
    write_patterns(&s);
    copy_all(&s, 2, 0);
    copy_all(&s, 0, 4);
    copy_all(&s, 1, 2);
    check_patterns(&s, (uint32_t[]){ 2, 1, 1, 3, 2 });
    ey_state_free(&s);
}

/* A slot's bytes are what the layers have, every layer's part holds all slots, and nothing is allocated beside that. */
static void sizes_add_up(void **state)
{
    uint64_t sum = 0;
    ey_state s;

    (void)state;
    open_state(&s);
    for (uint32_t i = 0; i < LAYERS; i++) {
        const ey_layer_state *l = &s.layers[i];
        sum += layer_bytes[i];
        assert_true(l->at + (SLOTS - 1) * l->stride + l->bytes <= l->whole->bytes);
        assert_true(l->buffer->bytes >= (SLOTS - 1) * l->stride + l->bytes);
    }
    assert_int_equal(ey_state_slot_bytes(&s), sum);
    assert_int_equal(device->used, s.arena.bytes);
    assert_in_range(s.arena.bytes, SLOTS * sum, SLOTS * sum + 64);      /* no buffer has less than 64 bytes */
    ey_state_free(&s);
}

/* Layers of one size are neighbours in a slot where a buffer may begin there, as many as one allocation holds. */
static void neighbours(void **state)
{
    static const struct { uint64_t max_alloc; size_t n_wholes; } cases[] = {
        { 1 << 20, 1 }, { 3 * SLOTS * 4096, 1 }, { 3 * SLOTS * 4096 - 1, 2 }, { 2 * SLOTS * 4096 - 1, 3 } };
    static const uint64_t bytes[3] = { 4096, 4096, 4096 };
    const uint64_t alignment = 128;

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(cases); i++) {
        const size_t wholes = i < COUNT(cases) ? cases[i % COUNT(cases)].n_wholes : 3;
        eyrie_device like = { .max_alloc = cases[i % COUNT(cases)].max_alloc, .alignment = i < COUNT(cases) ? alignment : 8192 };
        ey_state s;
        size_t found = 0;

        assert_ok(ey_state_init(&s, &like, SLOTS, bytes, 3, &err));
        for (uint32_t k = 0; k < 3; k++) {
            const ey_layer_state *l = &s.layers[k], *last = k ? &s.layers[k - 1] : NULL;
            found += l->at == 0;
            assert_int_equal(l->at % like.alignment, 0);
            assert_int_equal(s.order[k], k);
            if (l->at) assert_true(l->whole == last->whole && l->at == last->at + last->bytes && l->stride == last->stride);
        }
        assert_int_equal(found, wholes);
        ey_state_free(&s);
    }
}

static void slots_beyond_one_allocation(void **state)
{
    static const struct { uint64_t max_alloc, bytes; uint32_t slots; const char *says; } cases[] = {
        { 1000, 100, 11, "--slots 10" },
        { 999, 100, 10, "--slots 9" },
        { 1 << 30, 1ull << 20, 1025, "--slots 1024" },
        { 1000, UINT64_MAX / 2, 3, "the state of one sequence" },       /* the product overflows, and not even one fits */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_device small = { .max_alloc = cases[i].max_alloc };       /* declaring asks for nothing else */
        ey_state s;
        assert_fails(ey_state_init(&s, &small, cases[i].slots, &cases[i].bytes, 1, &err), EYRIE_ELIMIT, cases[i].says);
        ey_state_free(&s);
        if (cases[i].bytes < cases[i].max_alloc)
            assert_ok(ey_state_init(&s, &small, cases[i].slots - 1, &cases[i].bytes, 1, &err));
        ey_state_free(&s);
    }
}

/* The same for a model: the number in the message fits, and one more does not. */
static void the_number_in_the_message_fits(void **state)
{
    eyrie_device_opts device_opts = { .struct_size = sizeof device_opts, .select = getenv("EYRIE_DEVICE"),
                                      .max_alloc = 1 << 20 };
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = 100000, .chunk = 64 };
    const char *path = source_path(GOLDEN("griffin"));
    eyrie_device *small;
    eyrie_model *m;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_device_open(&small, &device_opts, &err));
    assert_fails(eyrie_model_open(&m, small, path, &opts, &err), EYRIE_ELIMIT, "--slots ");
    assert_null(m);
    opts.slots = (uint32_t)strtoul(strstr(err.text, "--slots ") + strlen("--slots "), NULL, 10);
    assert_in_range(opts.slots, 2, 99999);
    assert_ok(eyrie_model_open(&m, small, path, &opts, &err));
    assert_ok(eyrie_model_close(m));
    opts.slots++;
    assert_fails(eyrie_model_open(&m, small, path, &opts, &err), EYRIE_ELIMIT, "--slots ");
    assert_ok(eyrie_device_close(small));
}

static void out_of_memory(void **state)
{
    (void)state;
    if (!device) skip();
    for (size_t n = 0;; n++) {
        ey_state s;
        fail_allocation(n);
        eyrie_status st = ey_state_init(&s, device, SLOTS, layer_bytes, LAYERS, &err);
        bool failed = allocation_failed();
        assert_int_equal(st, failed ? EYRIE_ENOMEM : EYRIE_OK);
        ey_state_free(&s);
        if (!failed) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_changes_one_slot),     cmocka_unit_test(copies_of_copies),
        cmocka_unit_test(sizes_add_up),                cmocka_unit_test(slots_beyond_one_allocation),
        cmocka_unit_test(the_number_in_the_message_fits), cmocka_unit_test(out_of_memory),
        cmocka_unit_test(neighbours),
    };

    return cmocka_run_group_tests_name("state", tests, open_device, close_device);
}
