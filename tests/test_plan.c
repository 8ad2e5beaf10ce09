/* test_plan.c - plan.c: where values are placed, what recording says when it fails, and that a plan run in parts, with steps
 * of the other phase between them, does what it does in one piece. */
#include "running.h"

#include "dice.h"
#include "model.h"
#include "plan.h"

/* --------------------------------------------------------------------------------------------------------- recording */

typedef struct desk {
    ey_program *program;
    ey_scratch  scratch;
    ey_plan     plan;
} desk;

static void open_desk(desk *d)
{
    if (!device) skip();
    *d = (desk){ 0 };
    assert_ok(ey_program_build(&d->program, device, 1u << EYRIE_FORMAT_BF16, EYRIE_FORMAT_F32, &err));
    ey_scratch_init(&d->scratch, device, "scratch");
    assert_ok(ey_plan_begin(&d->plan, EY_PREFILL, 64, 4, device, d->program, &d->scratch, &err));
}

static void close_desk(desk *d)
{
    ey_plan_free(&d->plan);
    ey_arena_free(&d->scratch.arena);
    ey_program_free(d->program);
}

/* A launch that uses those values. Nothing here is run, so one kernel stands for all. */
static void use(desk *d, const ey_act *acts, uint32_t n)
{
    ey_arg args[8];
    for (uint32_t i = 0; i < n; i++) args[i] = ey_val(acts[i]);
    ey_plan_launch(&d->plan, "rope", 1, 1, 1, (ey_cost){ 10, 1 }, args, n);
}

/* The plan's own account of what it uses when is not believed: it is kept again here. */
enum { MOST_VALUES = 48, MOST_LAUNCHES = 60 };
typedef struct life {
    ey_act   act;
    uint64_t bytes;
    uint32_t first, last;
    bool     used;
} life;

static void check_places(const desk *d, const life *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!values[i].used) continue;
        const ey_buffer *mine = ey_plan_buffer(&d->plan, values[i].act);
        assert_true(mine->bytes >= values[i].bytes);
        for (uint32_t k = 0; k < i; k++) {
            bool together = values[k].used && values[i].first <= values[k].last && values[k].first <= values[i].last;
            if (together && ey_plan_buffer(&d->plan, values[k].act) == mine)
                fail_msg("values %u and %u live in one buffer at the same time", (unsigned)k, (unsigned)i);
        }
    }
}

static uint32_t most_alive(const life *values, uint32_t n)
{
    uint32_t most = 0;
    for (uint32_t at = 0; at < MOST_LAUNCHES; at++) {
        uint32_t alive = 0;
        for (uint32_t i = 0; i < n; i++) alive += values[i].used && values[i].first <= at && values[i].last >= at;
        most = (uint32_t)ey_max(most, alive);
    }
    return most;
}

/* Records a random plan; returns its values. Some are slices, some kept, some never used. */
static uint32_t imagine(desk *d, life *values)
{
    uint32_t n = 0, launches = between(1, MOST_LAUNCHES);

    for (uint32_t at = 0; at < launches; at++) {
        ey_act acts[4];
        uint32_t uses = between(1, 4);
        for (uint32_t u = 0; u < uses; u++) {
            if (n == 0 || (n < MOST_VALUES - 1 && one_in(3))) {
                uint32_t rows = between(1, 64), width = 16 * between(2, 8);
                for (uint32_t twice = one_in(10) ? 2 : 1; twice > 0; twice--)       /* of two, the first is never used */
                    values[n++] = (life){ ey_plan_act(&d->plan, rows, width), 4ull * rows * width, at, at, false };
                if (one_in(8)) {
                    ey_plan_keep(&d->plan, values[n - 1].act);
                    values[n - 1].last = UINT32_MAX;
                }
            }
            life *v = &values[u == 0 ? n - 1 : n - 1 - below((uint32_t)ey_min(n, 6))];
            acts[u] = one_in(3) ? ey_act_slice(v->act, 16, 16) : v->act;
            if (!v->used) v->first = at;
            v->used = true;
            v->last = (uint32_t)ey_max(v->last, at);
        }
        use(d, acts, uses);
    }
    return n;
}

static void values_alive_together_lie_apart(void **state)
{
    life first[MOST_VALUES], second[MOST_VALUES];
    desk d;

    (void)state;
    open_desk(&d);
    ey_program *program = d.program;
    for (uint32_t k = 0; k < 2000; k++) {
        ey_plan other;
        dice = k;
        if (k > 0) {
            ey_scratch_init(&d.scratch, device, "scratch");
            assert_ok(ey_plan_begin(&d.plan, EY_PREFILL, 64, 4, device, program, &d.scratch, &err));
        }
        uint32_t n = imagine(&d, first);
        assert_ok(ey_plan_end(&d.plan, &err));
        check_places(&d, first, n);
        assert_int_equal(d.scratch.n, most_alive(first, n));        /* no buffer more than there must be */

        other = d.plan;                                             /* a second plan takes turns in the same buffers */
        assert_ok(ey_plan_begin(&d.plan, EY_PREFILL, 128, 4, device, program, &d.scratch, &err));
        uint32_t m = imagine(&d, second);
        assert_ok(ey_plan_end(&d.plan, &err));
        check_places(&d, second, m);
        assert_int_equal(d.scratch.n, ey_max(most_alive(first, n), most_alive(second, m)));
        ey_plan_free(&d.plan);
        d.plan = other;
        check_places(&d, first, n);
        ey_plan_free(&d.plan);
        ey_arena_free(&d.scratch.arena);
    }
    ey_program_free(program);
}

/* A value that is made and never used has no place and takes none away from others. */
static void unused_values_take_nothing(void **state)
{
    desk d;

    (void)state;
    open_desk(&d);
    (void)ey_plan_act(&d.plan, 4, 16);
    ey_act a = ey_plan_act(&d.plan, 4, 16), b = ey_plan_act(&d.plan, 4, 16);
    use(&d, &a, 1);
    use(&d, &b, 1);
    use(&d, (ey_act[]){ a, b }, 2);
    assert_ok(ey_plan_end(&d.plan, &err));
    assert_ptr_not_equal(ey_plan_buffer(&d.plan, a), ey_plan_buffer(&d.plan, b));
    assert_int_equal(d.scratch.n, 2);
    close_desk(&d);
}

static void chain_needs_two_buffers(void **state)
{
    desk d;

    (void)state;
    open_desk(&d);
    ey_act x = ey_plan_act(&d.plan, 64, 16);
    for (uint32_t i = 0; i < 100; i++) {
        ey_act y = ey_plan_act(&d.plan, 64, 16 * (1 + i % 5));
        d.plan.layer = i / 10;
        use(&d, (ey_act[]){ x, y }, 2);
        x = y;
    }
    assert_ok(ey_plan_end(&d.plan, &err));
    assert_int_equal(d.scratch.n, 2);
    assert_int_equal(ey_plan_cost(&d.plan).bytes, 1000);
    assert_int_equal(ey_plan_cost(&d.plan).flops, 100);
    close_desk(&d);
}

/* The first error stays, whatever is recorded after it. */
static void first_error_sticks(void **state)
{
    desk d;

    (void)state;
    open_desk(&d);
    ey_act a = ey_plan_act(&d.plan, 4, 16);
    use(&d, &a, 1);
    ey_plan_launch(&d.plan, "no_such_kernel", 1, 1, 1, (ey_cost){ 0 }, NULL, 0);
    ey_plan_launch(&d.plan, "nor_this_one", 1, 1, 1, (ey_cost){ 0 }, NULL, 0);
    ey_act b = ey_plan_act(&d.plan, 4, 32);
    ey_plan_keep(&d.plan, b);
    use(&d, (ey_act[]){ a, ey_act_slice(b, 16, 16) }, 2);
    assert_fails(ey_plan_end(&d.plan, &err), EYRIE_EBUILD, "no_such_kernel");
    assert_int_equal(d.plan.n, 1);
    assert_int_equal(ey_plan_end(&d.plan, NULL), EYRIE_EBUILD);
    close_desk(&d);

    open_desk(&d);                                                  /* more values at once than there are buffers for */
    ey_act many[80];
    for (size_t i = 0; i < COUNT(many); i++) ey_plan_keep(&d.plan, many[i] = ey_plan_act(&d.plan, 1, 16));
    for (size_t i = 0; i < COUNT(many); i++) use(&d, &many[i], 1);
    assert_fails(ey_plan_end(&d.plan, &err), EYRIE_ENOMEM, "too many values");
    close_desk(&d);
}

/* Every allocation of recording and placing in turn: the plan ends with ENOMEM. */
static void out_of_memory_sticks(void **state)
{
    size_t failed = 0;

    (void)state;
    for (bool more = true; more; failed += more) {
        life values[MOST_VALUES];
        desk d;
        open_desk(&d);
        dice = 5;
        fail_allocation(failed);
        (void)imagine(&d, values);
        eyrie_status st = ey_plan_end(&d.plan, &err);
        more = allocation_failed();
        assert_int_equal(st, more ? EYRIE_ENOMEM : EYRIE_OK);
        if (more) assert_non_null(strstr(err.text, "recording a plan"));
        close_desk(&d);
    }
    assert_in_range(failed, 8, 1000);
}

/* ----------------------------------------------------------------------------------------------------- run in parts */

enum { MOST_TRACE = 1 << 20, DECODE_STEPS = 24 };

/* All bits that steps left, one after the other. */
typedef struct trace {
    unsigned char bytes[MOST_TRACE];
    size_t        n;
} trace;

static void leave(trace *t, const void *bytes, size_t n)
{
    assert_in_range(t->n + n, 0, sizeof t->bytes);
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void take_results(eyrie_model *m, ey_phase phase, trace *t)
{
    const ey_result *results;
    float logits[256];
    uint32_t n;

    assert_ok(ey_model_results(m, phase, &results, &n, &err));
    assert_in_range(n, 1, ey_model_get_limits(m).logits);
    for (uint32_t i = 0; i < n; i++) {
        leave(t, &results[i].lse, sizeof results[i].lse);
        leave(t, results[i].best, results[i].n * sizeof *results[i].best);
        assert_ok(ey_model_logits(m, phase, i, logits, &err));
        leave(t, logits, ey_model_get_limits(m).vocab * sizeof *logits);
    }
}

static void decode_step(eyrie_model *m, const int32_t *tokens, uint32_t step, trace *t)
{
    ey_row row = { .slot = 1, .n = 1, .position = step, .tokens = tokens + step, .want = EY_WANT_LAST };

    assert_ok(ey_model_upload(m, &(ey_batch){ EY_DECODE, 1, &row }, &err));
    assert_ok(ey_model_enqueue(m, EY_DECODE, 0, UINT32_MAX, &err));
    take_results(m, EY_DECODE, t);
}

/* Two prefill steps of two sequences, each enqueued up to the layers `ends` one after the other, with a decode step of a
 * third sequence after every part but the last; then a decode step of the two, which sees the state they left. */
static void read_in_parts(eyrie_model *m, const int32_t *tokens, const uint32_t *ends, uint32_t parts, trace *prefill,
                          trace *decode)
{
    static const uint32_t lengths[][2] = { { 70, 31 }, { 13, 65 } };
    ey_row rows[] = { { .slot = 2, .tokens = tokens, .want = EY_WANT_LAST },
                      { .slot = 0, .tokens = tokens + 40, .want = EY_WANT_ALL } };
    uint32_t decoded = 0;

    prefill->n = decode->n = 0;
    for (uint32_t step = 0; step < 2; step++) {
        for (uint32_t i = 0; i < 2; i++) rows[i].n = lengths[step][i];
        assert_ok(ey_model_upload(m, &(ey_batch){ EY_PREFILL, 2, rows }, &err));
        for (uint32_t k = 0, from = 0; k < parts; from = ends[k++]) {
            assert_ok(ey_model_enqueue(m, EY_PREFILL, from, ends[k], &err));
            if (k + 1 < parts) decode_step(m, tokens + 20, decoded++, decode);
        }
        take_results(m, EY_PREFILL, prefill);
        for (uint32_t i = 0; i < 2; i++) {
            rows[i].position += rows[i].n;
            rows[i].tokens += rows[i].n;
        }
    }
    while (decoded < DECODE_STEPS) decode_step(m, tokens + 20, decoded++, decode);
    for (uint32_t i = 0; i < 2; i++) rows[i].n = 1;
    assert_ok(ey_model_upload(m, &(ey_batch){ EY_DECODE, 2, rows }, &err));
    assert_ok(ey_model_enqueue(m, EY_DECODE, 0, UINT32_MAX, &err));
    take_results(m, EY_DECODE, prefill);
}

static void parts_equal_the_whole(void **state)
{
    static const char *const models[] = { GOLDEN("griffin"), GOLDEN("gqa") };
    static trace whole, parts, alone, between_parts;

    (void)state;
    for (size_t i = 0; i < COUNT(models); i++) {
        eyrie_model *m = open_model(models[i], (eyrie_model_opts){ .slots = 3, .compute = EYRIE_COMPUTE_F32, .chunk = 128 });
        uint32_t all = ey_model_config(m)->layers + 1, every[16];
        golden g = open_text(models[i]);

        assert_in_range(all, 2, COUNT(every));
        read_in_parts(m, g.tokens, &(uint32_t){ UINT32_MAX }, 1, &whole, &alone);
        for (uint32_t cut = 0; cut <= all; cut++) {
            read_in_parts(m, g.tokens, (uint32_t[]){ cut, UINT32_MAX }, 2, &parts, &between_parts);
            if (parts.n != whole.n || memcmp(parts.bytes, whole.bytes, whole.n))
                fail_msg("%s: in two parts, cut before layer %u, prefill differs", models[i], (unsigned)cut);
            if (between_parts.n != alone.n || memcmp(between_parts.bytes, alone.bytes, alone.n))
                fail_msg("%s: between parts, cut before layer %u, decode differs", models[i], (unsigned)cut);
        }
        for (uint32_t k = 0; k < all; k++) every[k] = k + 1;
        read_in_parts(m, g.tokens, every, all, &parts, &between_parts);
        assert_int_equal(parts.n, whole.n);
        assert_memory_equal(parts.bytes, whole.bytes, whole.n);
        assert_memory_equal(between_parts.bytes, alone.bytes, alone.n);
        golden_close(&g);
        assert_ok(eyrie_model_close(m));
    }
}

/* A batch beyond the largest bucket is refused, in tokens and in rows. */
static void batches_beyond_the_buckets(void **state)
{
    static const int32_t tokens[200];
    eyrie_model *m = open_model(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 2, .compute = EYRIE_COMPUTE_F32, .chunk = 128 });
    ey_row rows[3] = { { .slot = 0, .n = 129, .tokens = tokens }, { .slot = 1, .n = 1, .tokens = tokens }, { 0 } };

    (void)state;
    assert_fails(ey_model_upload(m, &(ey_batch){ EY_PREFILL, 1, rows }, &err), EYRIE_ELIMIT, "129 tokens");
    rows[0].n = 1;
    rows[2] = rows[0];
    assert_fails(ey_model_upload(m, &(ey_batch){ EY_PREFILL, 3, rows }, &err), EYRIE_ELIMIT, "3 rows");
    assert_fails(ey_model_upload(m, &(ey_batch){ EY_DECODE, 3, rows }, &err), EYRIE_ELIMIT, "3 tokens");
    assert_ok(eyrie_model_close(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_alive_together_lie_apart), cmocka_unit_test(unused_values_take_nothing),
        cmocka_unit_test(chain_needs_two_buffers),         cmocka_unit_test(first_error_sticks),
        cmocka_unit_test(out_of_memory_sticks),            cmocka_unit_test(parts_equal_the_whole),
        cmocka_unit_test(batches_beyond_the_buckets),
    };

    return cmocka_run_group_tests_name("plan", tests, open_device, close_device);
}
