/* test_info.c - what info.c and predict.c say that models take: against published numbers where there is no device, and
 * against what an open model really has. Times are those of the formula, which test_cost.c tests, and of learnt.c. */
#include "running.h"

#include "learnt.h"

#include <eyrie/eyrie_tools.h>

#include <math.h>

#define assert_near(value, expected, part)                                                                     \
    do {                                                                                                       \
        double v_ = (double)(value), e_ = (double)(expected);                                                  \
        if (!(fabs(v_ - e_) <= (part) * e_)) fail_msg("%s is %g, expected %g", #value, v_, e_);                \
    } while (0)

static void published_models(void **state)
{
    static const struct {
        const char *name;
        double weights, flops;          /* bytes in bf16 and FLOPs of a token with the window full, both with the head */
        double keys, recurrent;         /* bytes of a sequence: windows in f16, recurrent states in f32 */
    } cases[] = {
        { "synthetic:recurrentgemma-2b", 5.366e9, 5.53e9, 16.78e6, 18 * 2560 * 16.0 },
        { "synthetic:recurrentgemma-9b", 17.16e9, 17.56e9, 25.17e6, 26 * 4096 * 16.0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_model_opts opts = { .struct_size = sizeof opts };
        eyrie_model_costs c;
        double budget = 40e9, ring = cases[i].keys * 2112 / 2048;           /* 2049 positions, in blocks of 64 */

        assert_ok(eyrie_model_predict(cases[i].name, &opts, NULL, (uint64_t)budget, &c, &err));
        for (uint32_t k = 0; k < EYRIE_STEP_COSTS; k++) {
            uint32_t n = c.decode[k].sequences;
            assert_int_equal(n, 1u << 2 * k);
            assert_near(c.decode[k].flops, n * cases[i].flops, 0.002);      /* published with three digits */
            assert_near(c.decode[k].bytes, cases[i].weights + n * (cases[i].keys + 2 * cases[i].recurrent), 0.001);
            assert_true(c.decode[k].seconds == 0 && c.source == EYRIE_COSTS_COUNTED);
        }
        assert_near(c.sequences, (budget - cases[i].weights) / (ring + cases[i].recurrent), 0.005);
        opts.context = 512;                                                 /* a quarter of the window */
        assert_ok(eyrie_model_predict(cases[i].name, &opts, NULL, (uint64_t)budget, &c, &err));
        assert_near(c.sequences, (budget - cases[i].weights) / (cases[i].keys / 4 + cases[i].recurrent), 0.005);
        assert_ok(eyrie_model_predict(cases[i].name, &opts, NULL, 0, &c, &err));
        assert_true(c.memory == 0 && c.sequences == 0 && c.decode_ridge == 0 && c.prefill_ridge == 0);
    }
}

static void seconds_are_those_of_the_device(void **state)
{
    eyrie_model_costs c;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_model_predict("synthetic:recurrentgemma-2b", NULL, device, 0, &c, &err));
    assert_int_equal(c.source, EYRIE_COSTS_MEASURED);           /* it has no cache */
    for (uint32_t k = 0; k < EYRIE_STEP_COSTS; k++) {
        double least = fmax((double)c.decode[k].bytes / c.rates.read_bytes, (double)c.decode[k].flops / c.rates.fma_flops);
        assert_true(c.decode[k].seconds >= least * 0.999 && c.decode[k].seconds <= 2 * least);     /* layers and head apart */
    }
    /* A byte of weights is read for one FLOP of a token: a number in bf16, multiplied and added. */
    double ridge = c.rates.fma_flops / c.rates.read_bytes;
    assert_near(c.prefill_ridge, ridge, 0.05);
    assert_near(c.decode_ridge, ridge, 0.05);
    assert_true(c.memory > 0);
    assert_int_equal(device->used, 0);
}

/* With both rates 1 a step's seconds are its bytes or its operations, of layers and head each. */
static void work_adds_up(void **state)
{
    const eyrie_rates reading = { .read_bytes = 1, .fma_flops = 1e30 }, computing = { .read_bytes = 1e30, .fma_flops = 1 };
    const char *const model = "synthetic:recurrentgemma-2b";
    eyrie_model_opts opts = { .struct_size = sizeof opts, .chunk = 256 };
    eyrie_model_costs c;
    eyrie_work step[EYRIE_STEP_COSTS], parts[4] = { { true, 3, 100, 10, 0, 0, 0, 0 }, { true, 3, 100, 4, 0, 0, 0, 0 }, { true, 3, 104, 6, 0, 0, 0, 0 } };
    eyrie_work prompts[4] = { { false, 1, 512, 768, 0, 0, 0, 0 }, { false, 5, 512, 768, 0, 0, 0, 0 }, { false, 1, 0, 256, 0, 0, 0, 0 },
                              { false, 1, 256, 256, 0, 0, 0, 0 } };
    eyrie_work packed[4] = { { false, 1, 0, 96, 0, 0, 0, 0 }, { false, 8, 0, 96, 0, 0, 0, 0 }, { false, 17, 0, 96, 0, 0, 0, 0 }, { false, 1, 0, 1, 0, 0, 0, 0 } };

    (void)state;
    assert_ok(eyrie_model_predict(model, &opts, NULL, 0, &c, &err));
    for (uint32_t i = 0; i < EYRIE_STEP_COSTS; i++) step[i] = (eyrie_work){ true, c.decode[i].sequences, 5000, 1, 0, 0, 0, 0 };
    assert_ok(eyrie_model_cost(model, &opts, &reading, step, EYRIE_STEP_COSTS, &err));
    for (uint32_t i = 0; i < EYRIE_STEP_COSTS; i++) {
        assert_int_equal(step[i].bytes, c.decode[i].bytes);     /* its window is full */
        assert_int_equal(step[i].flops, c.decode[i].flops);
        assert_near(step[i].seconds, step[i].bytes, 1e-9);
    }
    /* Where both rates matter, products, attention and head take at least what the slower of all their work takes, and at most both. */
    assert_ok(eyrie_model_cost(model, &opts, &(eyrie_rates){ .read_bytes = 1, .fma_flops = 10 }, step, EYRIE_STEP_COSTS, &err));
    for (uint32_t i = 0; i < EYRIE_STEP_COSTS; i++) {
        double reads = (double)step[i].bytes, computes = (double)step[i].flops / 10;
        assert_true(step[i].seconds >= fmax(reads, computes) * 0.999999 && step[i].seconds <= reads + computes);
    }
    assert_ok(eyrie_model_cost(model, &opts, &computing, parts, 3, &err));
    assert_int_equal(parts[0].bytes, parts[1].bytes + parts[2].bytes);
    assert_int_equal(parts[0].flops, parts[1].flops + parts[2].flops);
    assert_near(parts[0].seconds, parts[0].flops, 1e-9);
    assert_ok(eyrie_model_cost(model, &opts, &computing, prompts, 4, &err));
    assert_int_equal(prompts[1].bytes, 5 * prompts[0].bytes);
    assert_int_equal(prompts[1].flops, 5 * prompts[0].flops);
    assert_near(prompts[1].seconds, 5 * prompts[0].seconds, 1e-9);
    /* Sequences of 96 tokens fill chunks of 256: eight of them three, 17 are that twice and one more. What they add to the operations
     * of one is eight- and 17-fold, and but for keys, of which they have more to read, the weights come once a chunk. */
    assert_ok(eyrie_model_cost(model, &opts, &reading, packed, 4, &err));
    assert_int_equal(packed[1].flops, 8 * packed[0].flops);
    assert_int_equal(packed[2].flops, 17 * packed[0].flops);
    assert_int_equal(packed[2].bytes, 2 * packed[1].bytes + packed[0].bytes);
    assert_near(packed[1].bytes, 3 * packed[3].bytes, 0.02);
    /* Of the seconds by operations, attention has what the prompts differ in: four for each key and number that a query looks at. */
    assert_near(prompts[3].attention - prompts[2].attention, 4.0 * 8 * 2560 * 256 * 256, 1e-9);
    assert_near(prompts[3].seconds - prompts[2].seconds, 4.0 * 8 * 2560 * 256 * 256, 1e-6);
    /* Two operations for each weight that is no embedding and token, 26 layers of which 8 attend, and the head once: MODEL's sizes
     * are of its published table, with three digits. */
    assert_near(prompts[2].flops, 256 * (2 * 2.03e9) + 4.0 * 8 * 2560 * (256 * 257 / 2) + 2 * 0.655e9, 0.01);
    assert_true(prompts[3].flops > prompts[2].flops);
}

static void no_work_and_no_rates(void **state)
{
    static const struct { double read, flops; eyrie_work work; const char *says; } cases[] = {
        { 0, 1, { true, 1, 0, 1, 0, 0, 0, 0 }, "above 0" },        { 1, -1, { true, 1, 0, 1, 0, 0, 0, 0 }, "above 0" },
        { NAN, 1, { true, 1, 0, 1, 0, 0, 0, 0 }, "above 0" },      { 1, INFINITY, { true, 1, 0, 1, 0, 0, 0, 0 }, "above 0" },
        { 1, 1, { true, 0, 0, 1, 0, 0, 0, 0 }, "0 sequences" },    { 1, 1, { false, 1, 0, 0, 0, 0, 0, 0 }, "0 tokens" },
        { 1, 1, { true, 1, UINT64_MAX, 1, 0, 0, 0, 0 }, "work 0" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_rates rates = { .read_bytes = cases[i].read, .fma_flops = cases[i].flops };
        eyrie_work work = cases[i].work;
        assert_fails(eyrie_model_cost("synthetic:hawk-100m", NULL, &rates, &work, 1, &err), EYRIE_EINVAL, cases[i].says);
    }
    assert_fails(eyrie_model_cost("synthetic:no-such", NULL, &(eyrie_rates){ .read_bytes = 1, .fma_flops = 1 }, NULL, 0, &err),
                 EYRIE_EINVAL, "no-such");
}

static void a_model_that_is_not_there_costs_nothing(void **state)
{
    eyrie_model_costs c;

    (void)state;
    assert_int_equal(eyrie_model_predict("synthetic:no-such", NULL, NULL, 0, &c, &err), EYRIE_EINVAL);
    assert_non_null(strstr(err.text, "no-such"));
}

static void memory_runs_out_in_order(void **state)
{
    const eyrie_rates rates = { .read_bytes = 1, .fma_flops = 1 };
    eyrie_work work = { true, 1, 0, 1, 0, 0, 0, 0 };
    eyrie_model_costs c;

    (void)state;
    for (int which = 0; which < 2; which++)
        for (size_t n = 0;; n++) {
            fail_allocation(n);
            eyrie_status st = which ? eyrie_model_cost("synthetic:griffin-100m", NULL, &rates, &work, 1, &err)
                                    : eyrie_model_predict("synthetic:griffin-100m", NULL, NULL, 0, &c, &err);
            bool failed = allocation_failed();
            assert_int_equal(st, failed ? EYRIE_ENOMEM : EYRIE_OK);
            if (!failed) break;
        }
}

/* What steps took is told by later starts, and of the model that took them only. */
static void steps_that_ran_are_remembered(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .cache_dir = *state };
    eyrie_model_opts wider = { .struct_size = sizeof wider, .weights = EYRIE_FORMAT_F32 };
    const char *const path = EY_SOURCE_DIR "/" SHAKESPEARE;
    eyrie_device *dev;
    eyrie_model *m;
    eyrie_model_costs c;
    ey_costs *learnt;
    ey_shape s;

    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    assert_ok(eyrie_model_open(&m, dev, path, NULL, &err));
    ey_model_shape(m, &s);
    assert_non_null(learnt = ey_learnt_open(m, m));
    for (int i = 0; i < 9; i++) ey_cost_learn(learnt, EY_DECODE, &(ey_load){ s.window, 1, 1 }, 1, 0.125);
    ey_learnt_keep(learnt, m, m);
    ey_free(learnt);
    assert_ok(eyrie_model_close(m));

    assert_ok(eyrie_model_predict(path, NULL, dev, 0, &c, &err));
    assert_int_equal(c.source, EYRIE_COSTS_LEARNT);
    assert_near(c.decode[0].seconds, 0.125, 1e-6);              /* its factor is a float */
    assert_ok(eyrie_model_predict(path, &wider, dev, 0, &c, &err));
    assert_int_equal(c.source, EYRIE_COSTS_MEASURED);
    assert_ok(eyrie_model_predict(path, &wider, dev, 0, &c, &err));
    assert_int_equal(c.source, EYRIE_COSTS_REMEMBERED);
    assert_ok(eyrie_device_close(dev));
}

/* What the formula is given of an open model: all of its memory, and launches as they are recorded. */
static void an_open_model_has_its_shape(void **state)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_model *m = open_model(SHAKESPEARE, (eyrie_model_opts){ .slots = 3 });
    ey_shape s;

    (void)state;
    assert_ok(eyrie_model_get_info(m, &info, &err));
    ey_model_shape(m, &s);
    assert_int_equal(s.layers, info.layers);
    assert_near(s.layer_bytes + s.head_bytes, info.weight_bytes, 1e-12);        /* the head is the embedding */
    assert_near(s.other_bytes, info.scratch_bytes, 1e-12);
    assert_near(s.head_flops, 2.0 * (double)info.embedding_parameters, 1e-12);
    assert_near(s.token_flops + s.head_flops, 2.0 * (double)info.parameters, 1e-12);
    assert_int_equal(s.window, info.window);
    assert_near(s.state_bytes + s.key_bytes * 192, info.state_bytes, 1e-12);    /* 129 positions, in blocks of 64 */
    for (uint32_t i = 0; i < EY_PHASES; i++) assert_in_range(s.launches[i], info.layers, 20 * info.layers);
    assert_ok(eyrie_model_close(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_models),
        cmocka_unit_test(seconds_are_those_of_the_device),
        cmocka_unit_test(work_adds_up),
        cmocka_unit_test(no_work_and_no_rates),
        cmocka_unit_test(a_model_that_is_not_there_costs_nothing),
        cmocka_unit_test(memory_runs_out_in_order),
        test_in_dir(steps_that_ran_are_remembered),
        cmocka_unit_test(an_open_model_has_its_shape),
    };

    return cmocka_run_group_tests_name("info", tests, open_device, close_device);
}
