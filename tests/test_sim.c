/* test_sim.c - sim.c: time in a simulated cluster, where it can be said by hand, and what must hold in any. No device. */
#include "testing.h"

#include "dice.h"
#include "sim.h"

#include <math.h>

/* A model of ten layers that reads in 10 s a chunk of 64 tokens, without a head, and decodes a step in 1 s whoever takes part. */
static const ey_shape plain = { .layers = 10, .layer_bytes = 1, .token_flops = 1, .state_bytes = 0, .window = 0 };
static const ey_pace slow[EY_PHASES] = { { 1, 6.4, 0 }, { 1, 1e9, 0 } };

/* Requests from a list, or made up. */
typedef struct source {
    const eyrie_arrival *list;
    uint64_t             n, next;
    double               now, gap;
    uint64_t             prompt, output;     /* all that were made up */
} source;

static bool from_list(void *user, eyrie_arrival *next)
{
    source *s = user;

    if (s->next == s->n) return false;
    *next = s->list[s->next++];
    return true;
}

static bool made_up(void *user, eyrie_arrival *next)
{
    source *s = user;

    if (s->next++ == s->n) return false;
    s->now += s->gap * below(1000) / 500;
    *next = (eyrie_arrival){ .seconds = s->now, .prompt = between(1, 300), .output = between(1, 40), .priority = (int32_t)below(3) };
    s->prompt += next->prompt;
    s->output += next->output;
    return true;
}

static eyrie_sim_report simulate(const char *policy, const ey_sim_device *devices, uint32_t n, eyrie_arrivals_fn *arrivals, source *from)
{
    ey_sim_setup setup = { .devices = devices, .n_devices = n, .policy = ey_policy_find(policy), .chunk = 64, .arrivals = arrivals,
                           .user = from };
    eyrie_sim_report report;
    eyrie_error err;

    assert_int_equal(ey_sim_run(&setup, &report, &err), EYRIE_OK);
    return report;
}

/* One request of 128 tokens that generates 4: two chunks of 10 s, the first token with the second, three steps of 1 s. */
static void one_request(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 5, .prompt = 128, .output = 4 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 4, .rows = 4 };

    (void)state;
    for (size_t i = 0; ey_policy_at(i); i++) {
        source from = { .list = list, .n = COUNT(list) };
        eyrie_sim_report r = simulate(ey_policy_at(i)->name, &device, 1, from_list, &from);
        assert_int_equal(r.requests, 1);
        assert_int_equal(r.prompt_tokens, 128);
        assert_int_equal(r.tokens, 4);
        assert_int_equal(r.prefill_steps, 2);
        assert_int_equal(r.decode_steps, 3);
        assert_float_equal(r.first_token.most, 20, 1e-9);
        assert_int_equal(r.between_tokens.n, 3);
        assert_float_equal(r.between_tokens.most, 1, 1e-9);
        assert_float_equal(r.seconds, 5 + 20 + 3, 1e-9);
        assert_float_equal(r.busy, 23.0 / 28, 1e-9);
        assert_float_equal(r.arithmetic, (20 + 3e-9) / 28, 1e-9);   /* 128 FLOP at 6.4 a second; three at 1e9 */
    }
    ey_free(costs);
}

/* A second one comes while the first decodes: under fifo the first waits until its prompt is read; under roofline it waits for
 * parts of it alone, and both end at the same time, since the work is the same. */
static void another_comes(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 64, .output = 31 }, { .seconds = 12.5, .prompt = 256, .output = 1 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 2, .rows = 2 };
    source from = { .list = list, .n = COUNT(list) };
    eyrie_sim_report fifo, roofline;

    (void)state;
    fifo = simulate("fifo", &device, 1, from_list, &from);
    from.next = 0;
    roofline = simulate("roofline", &device, 1, from_list, &from);
    assert_float_equal(fifo.between_tokens.most, 41, 1e-9);         /* four chunks, and its own step */
    assert_true(roofline.between_tokens.most <= 4);                 /* the default interval: four steps */
    assert_float_equal(fifo.seconds, 80, 1e-9);                     /* five chunks, 30 steps */
    assert_float_equal(roofline.seconds, 80, 1e-9);
    assert_true(roofline.whole.most > fifo.first_token.most);
    ey_free(costs);
}

/* With one client each request comes when the one before it is answered, and is alone: 10 s of reading, two steps. A request that comes
 * later than that comes when it says. */
static void one_client(void **state)
{
    const eyrie_arrival list[] = { { .prompt = 64, .output = 3 }, { .prompt = 64, .output = 3 }, { .prompt = 64, .output = 3 },
                                   { .seconds = 100, .prompt = 64, .output = 3 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 4, .rows = 4 };

    (void)state;
    for (uint32_t clients = 1; clients <= COUNT(list); clients++) {
        source from = { .list = list, .n = COUNT(list) };
        ey_sim_setup setup = { .devices = &device, .n_devices = 1, .policy = ey_policy_find(NULL), .chunk = 64, .clients = clients,
                               .arrivals = from_list, .user = &from };
        eyrie_sim_report r;
        eyrie_error err;
        assert_int_equal(ey_sim_run(&setup, &r, &err), EYRIE_OK);
        assert_int_equal(r.requests, COUNT(list));
        assert_float_equal(r.seconds, 112, 1e-9);
        if (clients > 1) continue;
        assert_float_equal(r.whole.most, 12, 1e-9);
        assert_float_equal(r.first_token.most, 10, 1e-9);
        assert_int_equal(r.decode_steps, 8);
    }
    ey_free(costs);
}

/* Two lanes of one engine have two slots between them: while the first two decode, nobody reads, though reading needs no slot that
 * decoding has on devices of their own. */
static void one_pool(void **state)
{
    const eyrie_arrival list[] = { { .prompt = 64, .output = 31 }, { .prompt = 64, .output = 31 }, { .prompt = 64, .output = 31 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    const ey_sim_device devices[] = {
        { .costs = costs, .phases = { true, false }, .slots = 2, .rows = 1, .link = 1e9 },
        { .costs = costs, .phases = { false, true }, .slots = 2, .rows = 2, .link = 1e9 },
    };

    (void)state;
    for (int together = 0; together < 2; together++) {
        source from = { .list = list, .n = COUNT(list) };
        ey_sim_setup setup = { .devices = devices, .n_devices = 2, .policy = ey_policy_find(NULL), .chunk = 64, .one_pool = together,
                               .arrivals = from_list, .user = &from };
        eyrie_sim_report r;
        eyrie_error err;
        assert_int_equal(ey_sim_run(&setup, &r, &err), EYRIE_OK);
        assert_int_equal(r.handovers, 3);
        assert_float_equal(r.first_token.most, together ? 10 + 30 + 10 : 30, 1e-6);     /* the first ends at 40 s */
    }
    ey_free(costs);
}

/* A device reads, another decodes. The state of 100 bytes goes at 50 a second, the slower link's. */
static void phases_apart(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 64, .output = 3 }, { .seconds = 0, .prompt = 64, .output = 3 } };
    ey_shape shape = plain;
    ey_costs *costs;
    source from = { .list = list, .n = COUNT(list) };
    eyrie_sim_report r;

    (void)state;
    shape.state_bytes = 100;
    shape.layer_bytes = 1000;
    costs = ey_costs_new(&shape, (const ey_pace[EY_PHASES]){ { 1e9, 6.4, 0 }, { 1000, 1e9, 0 } });
    const ey_sim_device devices[] = {
        { .costs = costs, .phases = { true, false }, .slots = 2, .rows = 1, .link = 200 },
        { .costs = costs, .phases = { false, true }, .slots = 1, .rows = 4, .link = 50 },
    };
    r = simulate(NULL, devices, 2, from_list, &from);
    /* Read at 10 s and 20 s. The first is there at 12 s and takes two steps of 1.2 s; the second finds the slot free, is there at
     * 22 s, and ends at 24.4 s. */
    assert_int_equal(r.handovers, 2);
    assert_float_equal(r.handover_seconds, 2, 1e-6);
    assert_float_equal(r.seconds, 24.4, 1e-6);
    assert_float_equal(r.between_tokens.most, 3.2, 1e-6);
    ey_free(costs);
}

/* Two come while another is read, and are read in one step. A link carries one state after the other, and where there is but one slot, the second waits for it. */
static void one_after_the_other(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 64, .output = 1 }, { .seconds = 1, .prompt = 32, .output = 6 },
                                   { .seconds = 1, .prompt = 32, .output = 6 } };
    ey_shape shape = plain;

    (void)state;
    shape.state_bytes = 100;
    shape.layer_bytes = 1000;
    ey_costs *costs = ey_costs_new(&shape, (const ey_pace[EY_PHASES]){ { 1e9, 6.4, 0 }, { 1000, 1e9, 0 } });
    for (uint32_t slots = 1; slots < 3; slots++) {
        const ey_sim_device devices[] = {
            { .costs = costs, .phases = { true, false }, .slots = 3, .rows = 2, .link = 50 },
            { .costs = costs, .phases = { false, true }, .slots = slots, .rows = 1, .link = 50 },
        };
        source from = { .list = list, .n = COUNT(list) };
        eyrie_sim_report r = simulate(NULL, devices, 2, from_list, &from);
        /* Read at 20 s. The first is there at 22 s and alone takes five steps of 1.2 s, until 28 s. With a slot of its own the second
         * is there at 24 s, and the ten steps of both take turns until 34 s; else it is there at 30 s and ends at 36 s. */
        assert_float_equal(r.handover_seconds, slots == 2 ? (2 + 4) / 2.0 : (2 + 10) / 2.0, 1e-6);
        assert_float_equal(r.seconds, slots == 2 ? 34 : 36, 1e-6);
    }
    ey_free(costs);
}

/* Each token that is generated is one more to look at: from 64 and 65 tokens on, 66 and 67 s. */
static void sequences_grow(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 64, .output = 3 } };
    ey_shape shape = plain;

    (void)state;
    shape.key_bytes = 1;
    ey_costs *costs = ey_costs_new(&shape, (const ey_pace[EY_PHASES]){ { 1e9, 6.4, 0 }, { 1, 1e9, 0 } });
    ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 1, .rows = 1 };
    source from = { .list = list, .n = COUNT(list) };
    eyrie_sim_report r = simulate(NULL, &device, 1, from_list, &from);
    assert_float_equal(r.seconds, 10 + 66 + 67, 1e-6);
    ey_free(costs);
}

/* What was read long ago is no work that is left: two that come at once go to two devices. */
static void work_that_is_left(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 640, .output = 1 }, { .seconds = 1000, .prompt = 64, .output = 1 },
                                   { .seconds = 1000, .prompt = 64, .output = 1 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    const ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 1, .rows = 1 }, devices[] = { device, device };
    source from = { .list = list, .n = COUNT(list) };
    eyrie_sim_report r = simulate(NULL, devices, 2, from_list, &from);

    (void)state;
    assert_float_equal(r.seconds, 1010, 1e-9);
    ey_free(costs);
}

/* Nothing is lost, whatever cluster and policy; slots and rows are few. */
static void all_are_answered(void **state)
{
    ey_costs *costs = ey_costs_new(&(ey_shape){ .layers = 7, .layer_bytes = 100, .head_bytes = 10, .token_flops = 10, .head_flops = 10,
                                                .state_bytes = 1, .key_bytes = 0.01, .key_flops = 0.1, .window = 100 },
                                   (const ey_pace[EY_PHASES]){ { 1e4, 1e5, 1e-4 }, { 1e4, 1e5, 1e-4 } });

    (void)state;
    for (uint64_t seed = 1; seed < 2000; seed++) {
        dice = seed;
        ey_sim_device devices[5];
        uint32_t n = between(1, 5);
        bool reads = false, decodes = false;
        for (uint32_t i = 0; i < n; i++) {
            bool both = one_in(2), reader = one_in(2);
            devices[i] = (ey_sim_device){ .costs = costs, .phases = { both || reader, both || !reader }, .slots = between(1, 6),
                                          .rows = between(1, 6), .link = between(1, 1000) };
            reads |= devices[i].phases[EY_PREFILL];
            decodes |= devices[i].phases[EY_DECODE];
        }
        if (!reads) devices[0].phases[EY_PREFILL] = true;
        if (!decodes) devices[0].phases[EY_DECODE] = true;
        source from = { .n = between(1, 60), .gap = 0.05 * below(20) };
        eyrie_sim_report r = simulate(ey_policy_at(below(3))->name, devices, n, made_up, &from);
        assert_int_equal(r.requests, from.n);
        assert_int_equal(r.prompt_tokens, from.prompt);
        assert_int_equal(r.tokens, from.output);
        assert_int_equal(r.first_token.n, from.n);
        assert_int_equal(r.between_tokens.n, from.output - from.n);
        assert_int_equal(r.whole.n, from.n);
        assert_true(r.busy <= 1 + 1e-9 && r.arithmetic <= r.busy + 1e-9 && r.memory <= r.busy + 1e-9);
    }
    ey_free(costs);
}

/* Quantiles of durations that are known: a request each, one after the other, each taking longer. */
static void quantiles(void **state)
{
    static eyrie_arrival list[1000];
    ey_costs *costs = ey_costs_new(&plain, slow);
    ey_sim_device device = { .costs = costs, .phases = { true, true }, .slots = 1, .rows = 1 };
    source from = { .list = list, .n = COUNT(list) };
    eyrie_sim_report r;

    (void)state;
    for (size_t i = 0; i < COUNT(list); i++)        /* chunk after chunk: request i takes 10 (i + 1) s */
        list[i] = (eyrie_arrival){ .seconds = 1e5 * (double)i, .prompt = 64 * (i + 1), .output = 1 };
    r = simulate("fifo", &device, 1, from_list, &from);
    assert_float_equal(r.first_token.mean, 5005, 1e-6);
    assert_float_equal(r.first_token.most, 10000, 1e-6);
    assert_float_equal(r.first_token.p50 / 5000, 1, 0.005);         /* half a class of the histogram, and the rank's own step */
    assert_float_equal(r.first_token.p95 / 9500, 1, 0.005);
    assert_float_equal(r.first_token.p99 / 9900, 1, 0.005);
    ey_free(costs);
}

static void says_what_is_wrong(void **state)
{
    const eyrie_arrival back[] = { { .seconds = 2, .prompt = 1, .output = 1 }, { .seconds = 1, .prompt = 1, .output = 1 } };
    const eyrie_arrival none[] = { { .seconds = 2, .prompt = 0, .output = 1 } };
    const eyrie_arrival large[] = { { .seconds = 2, .prompt = 90, .output = UINT64_MAX } };
    const struct { const eyrie_arrival *list; uint64_t n; bool reads, decodes; const char *says; } cases[] = {
        { back, 2, true, true, "request 2 comes at 1 s" },      { none, 1, true, true, "0 tokens to read" },
        { large, 1, true, true, "the context is 100" },         { none, 1, true, false, "no device decodes" },
        { none, 1, false, true, "no device reads prompts" },
    };
    ey_costs *costs = ey_costs_new(&plain, slow);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_sim_device device = { .costs = costs, .phases = { cases[i].reads, cases[i].decodes }, .slots = 1, .rows = 1, .link = 1 };
        source from = { .list = cases[i].list, .n = cases[i].n };
        ey_sim_setup setup = { .devices = &device, .n_devices = 1, .policy = ey_policy_find(NULL), .chunk = 64, .context = 100,
                               .arrivals = from_list, .user = &from };
        eyrie_sim_report report;
        eyrie_error err;
        assert_int_equal(ey_sim_run(&setup, &report, &err), EYRIE_EINVAL);
        assert_non_null(strstr(err.text, cases[i].says));
    }
    ey_free(costs);
}

static void allocations_fail(void **state)
{
    const eyrie_arrival list[] = { { .seconds = 0, .prompt = 64, .output = 3 }, { .seconds = 0, .prompt = 64, .output = 3 } };
    ey_costs *costs = ey_costs_new(&plain, slow);
    const ey_sim_device devices[] = {
        { .costs = costs, .phases = { true, false }, .slots = 2, .rows = 1, .link = 200 },
        { .costs = costs, .phases = { false, true }, .slots = 1, .rows = 4, .link = 50 },
    };
    eyrie_status st = EYRIE_ENOMEM;

    (void)state;
    for (size_t n = 0;; n++) {
        source from = { .list = list, .n = COUNT(list) };
        ey_sim_setup setup = { .devices = devices, .n_devices = 2, .policy = ey_policy_find(NULL), .chunk = 64, .arrivals = from_list,
                               .user = &from };
        eyrie_sim_report report;
        eyrie_error err;
        fail_allocation(n);
        st = ey_sim_run(&setup, &report, &err);
        if (!allocation_failed()) break;
        assert_int_equal(st, EYRIE_ENOMEM);
    }
    assert_int_equal(st, EYRIE_OK);
    ey_free(costs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request),      cmocka_unit_test(another_comes), cmocka_unit_test(phases_apart),
        cmocka_unit_test(one_client),       cmocka_unit_test(one_pool),
        cmocka_unit_test(one_after_the_other), cmocka_unit_test(sequences_grow), cmocka_unit_test(work_that_is_left),
        cmocka_unit_test(all_are_answered), cmocka_unit_test(quantiles),     cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
