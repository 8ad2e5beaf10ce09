/* test_cost.c - cost.c: demands against numbers worked out by hand or counted one by one, and learning on simulated devices
 * that are nothing like the formula. No device, no clock. */
#include "testing.h"

#include "cost.h"
#include "dice.h"

#include <math.h>

/* value is within `part` of expected */
#define assert_near(value, expected, part)                                                                          \
    do {                                                                                                            \
        double v_ = (value), e_ = (expected);                                                                       \
        if (!(fabs(v_ - e_) <= (part) * fabs(e_))) fail_msg("%s is %g, expected %g within %g %%", #value, v_, e_, 100.0 * (part)); \
    } while (0)

/* ----------------------------------------------------------------------------------------------------------- models */

/* Parameters of published models, weights and keys in 16 bits. Attention layers have one key/value head, of d. */
typedef struct published {
    const char *name;
    double      layers, attention, D, H, d, N, G, M, V, taps;
    uint64_t    window;
    double      conv_bytes;     /* of an element of the convolution's state */
} published;

static const published gemma_2b = { "2B", 26, 8, 2560, 10, 256, 2560, 10, 7680, 256000, 4, 2048, 2 };
static const published gemma_9b = { "9B", 38, 12, 4096, 16, 256, 4096, 16, 12288, 256000, 4, 2048, 2 };
static const published griffin_1b = { "1.3B", 24, 8, 2048, 16, 128, 2560, 16, 6144, 0, 4, 1024, 2 };

/* The parameter formulas of the published architecture, biases and norms included. */
static double layer_params(const published *p)
{
    double mlp = 3 * p->D * p->M + 2 * p->M + p->D, norms = 2 * p->D;
    double recurrent = 3 * p->D * p->N + 2 * p->N + p->D + (p->taps + 1) * p->N + p->N + 2 * p->N * p->N / p->G + 2 * p->N;
    double attention = 2 * p->D * p->D + 2 * p->D * p->d + p->D;

    return p->layers * (mlp + norms) + (p->layers - p->attention) * recurrent + p->attention * attention + p->D;
}

static ey_shape shape_of(const published *p)
{
    return (ey_shape){
        .layers = (uint32_t)p->layers, .layer_bytes = 2 * layer_params(p), .head_bytes = 2 * p->V * p->D,
        .token_flops = 2 * layer_params(p), .head_flops = 2 * p->V * p->D,
        .state_bytes = (p->layers - p->attention) * p->N * (4 + (p->taps - 1) * p->conv_bytes),
        .key_bytes = p->attention * 2 * p->d * 2, .key_flops = p->attention * 4 * p->D, .window = p->window,
        .launches = { 200, 120 } };
}

static const uint64_t billion = 1000000000;

static void published_models_cost_what_is_published(void **state)
{
    static const struct {
        const published *model;
        double params, weights, decode, without_head;   /* billions, 10^9 bytes, GFLOP of a token with the window full */
        uint64_t as_many;                               /* sequences whose states are as large as the weights */
    } cases[] = {
        { &gemma_2b, 2.02750208, 5.366, 5.53, 4.22, 311 },
        { &gemma_9b, 7.531401216, 17.16, 17.56, 15.46, 654 },
        { &griffin_1b, 1.2429, 2.4858, 2.55, 2.55, 539 },      /* 539.9; published as 540 */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_shape s = shape_of(cases[i].model);
        ey_load row = { 100000, 1, 1 };
        ey_demand d = ey_cost_demand(&s, EY_DECODE, &row, 1);
        double state_bytes = 2 * s.state_bytes + s.key_bytes * ((double)s.window + 1);

        assert_near(layer_params(cases[i].model), cases[i].params * 1e9, 1e-4);
        assert_near(d.flops, cases[i].decode * 1e9, 0.002);                 /* published with three digits */
        assert_near(d.bytes, cases[i].weights * 1e9 + state_bytes, 0.001);
        assert_int_equal(d.launches, 120);
        row.wanted = 0;
        assert_near(ey_cost_demand(&s, EY_DECODE, &row, 1).flops, cases[i].without_head * 1e9, 0.002);
        uint64_t weights = (uint64_t)(s.layer_bytes + s.head_bytes);
        assert_int_equal(ey_cost_most_sequences(&s, s.window, 2 * weights), cases[i].as_many);
        assert_int_equal(ey_cost_most_sequences(&s, s.window, weights - 1), 0);
    }
}

static void memory_for_sequences_is_counted_in_blocks_of_positions(void **state)
{
    const ey_shape s = { .layers = 1, .layer_bytes = 1000, .head_bytes = 500, .other_bytes = 100, .state_bytes = 10,
                         .key_bytes = 1, .window = 100 };
    ey_shape stateless = s;

    (void)state;
    assert_int_equal(ey_cost_most_sequences(&s, 1, 1600 + 74 * 5), 5);              /* a block of 64 and 10 */
    assert_int_equal(ey_cost_most_sequences(&s, 64, 1600 + 74 * 5 - 1), 4);
    assert_int_equal(ey_cost_most_sequences(&s, 65, 1600 + 138 * 7), 7);
    assert_int_equal(ey_cost_most_sequences(&s, billion, 1600 + 138 * 7), 7);       /* 101 positions, in two blocks */
    stateless.key_bytes = stateless.state_bytes = 0;
    assert_true(ey_cost_most_sequences(&stateless, 1, 1600) == UINT64_MAX);
}

/* What tokens look at and what of the ring is touched, counted one by one. */
static void demands_add_up_token_by_token(void **state)
{
    (void)state;
    dice = 1;
    for (int round = 0; round < 2000; round++) {
        ey_shape s = { .layers = 3, .layer_bytes = 1000, .head_bytes = 300, .token_flops = 17, .head_flops = 5, .state_bytes = 11,
                       .key_bytes = 7, .key_flops = 3, .window = one_in(4) ? 0 : between(1, 40) };
        ey_load rows[3];
        uint32_t n = between(1, 3);
        double bytes = 1000, flops = 0;
        bool wants = false;

        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (ey_load){ below(100), between(1, 50), 0 };
            rows[i].wanted = one_in(2) ? below(rows[i].n + 1) : 0;
            wants |= rows[i].wanted > 0;
            bytes += 2 * 11;
            for (uint64_t p = 0; p < rows[i].position + rows[i].n; p++)
                if (!s.window || p + s.window >= rows[i].position) bytes += 7;      /* the first token sees it, or it is written */
            for (uint32_t t = 0; t < rows[i].n; t++) {
                uint64_t at = rows[i].position + t;
                flops += 17;
                for (uint64_t p = 0; p <= at; p++)
                    if (!s.window || p + s.window >= at) flops += 3;
            }
            flops += 5 * rows[i].wanted;
        }
        ey_demand d = ey_cost_demand(&s, EY_PREFILL, rows, n);
        assert_near(d.bytes, bytes + (wants ? 300 : 0), 1e-12);     /* sums of integers, exact in double */
        assert_near(d.flops, flops, 1e-12);
    }
}

/* ---------------------------------------------------------------------------------------------------------- formula */

/* 100 bytes and 10 FLOPs a second, 1 s a launch. */
static const ey_pace slow[EY_PHASES] = { { 100, 10, 1 }, { 100, 10, 1 } };
static const ey_shape small = { .layers = 4, .layer_bytes = 1000, .head_bytes = 200, .token_flops = 40, .head_flops = 8,
                                .launches = { 8, 4 } };

static void seconds_by_hand(void **state)
{
    static const struct {
        ey_phase phase;
        uint32_t n, wanted;
        double   layers, head;      /* seconds of all layers, launches included; of the head */
    } cases[] = {
        { EY_DECODE, 1, 1, 10 + 4, 2 },        /* reads 10 s, computes 4 s */
        { EY_DECODE, 2, 2, 10 + 4, 2 },
        { EY_DECODE, 5, 5, 20 + 4, 4 },        /* computes 20 s, and 4 s in the head */
        { EY_PREFILL, 10, 0, 40 + 8, 0 },
        { EY_PREFILL, 10, 1, 40 + 8, 2 },      /* computes in the layers, reads in the head */
    };
    ey_costs *c = ey_costs_new(&small, slow);

    (void)state;
    assert_non_null(c);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ey_load row = { 0, cases[i].n, cases[i].wanted };
        double sum = 0;

        assert_near(ey_cost_seconds(c, cases[i].phase, &row, 1), cases[i].layers + cases[i].head, 1e-9);
        assert_near(ey_cost_formula(&small, slow, cases[i].phase, &row, 1), cases[i].layers + cases[i].head, 1e-9);
        for (uint32_t from = 0; from < 4; from++) sum += ey_cost_part(c, cases[i].phase, &row, 1, from, from + 1);
        assert_near(sum, cases[i].layers, 1e-9);
        assert_near(ey_cost_part(c, cases[i].phase, &row, 1, 1, 3), cases[i].layers / 2, 1e-9);
        assert_near(ey_cost_part(c, cases[i].phase, &row, 1, 4, UINT32_MAX), cases[i].head, 1e-9);
        assert_near(ey_cost_part(c, cases[i].phase, &row, 1, 3, UINT32_MAX), cases[i].layers / 4 + cases[i].head, 1e-9);
    }
    assert_true(ey_cost_seconds(c, EY_DECODE, NULL, 0) == 0);
    assert_near(ey_cost_ridge(c, EY_PREFILL), 2.5, 1e-9);              /* 10 s of reading, 4 s a token */
    assert_near(ey_cost_ridge(c, EY_DECODE), 12 / 4.8, 1e-9);          /* with the head */
    ey_free(c);
}

static void a_ridge_that_is_never_reached_is_infinite(void **state)
{
    ey_shape s = small;
    ey_costs *c;

    (void)state;
    s.state_bytes = 1000;           /* each sequence moves 20 s worth of state and computes 4.8 s */
    assert_non_null(c = ey_costs_new(&s, slow));
    assert_true(isinf(ey_cost_ridge(c, EY_DECODE)));
    assert_near(ey_cost_ridge(c, EY_PREFILL), 7.5, 1e-9);              /* 10 s of weights and 20 s of its one state */
    ey_free(c);
}

/* --------------------------------------------------------------------------------------------------------- learning */

/* A device that the formula only resembles: reading and computing overlap imperfectly, products come in tiles of 4 rows, small
 * ones reach less of the peak, and the coefficients are others than anybody believes. */
typedef struct simulated {
    double bandwidth, peak, launch, overlap, pace;
} simulated;

static double true_seconds(const simulated *d, const ey_shape *s, ey_phase phase, ey_load row, uint32_t rows)
{
    ey_load loads[128];
    double tokens = rows * row.n, tiles = ceil(tokens / 4) * 4 / tokens;

    for (uint32_t i = 0; i < rows; i++) loads[i] = row;
    ey_demand demand = ey_cost_demand(s, phase, loads, rows);
    double reads = demand.bytes / d->bandwidth, computes = demand.flops * tiles / d->peak * (1 + 2 / tokens);
    return d->pace * (pow(pow(reads, d->overlap) + pow(computes, d->overlap), 1 / d->overlap) + demand.launches * d->launch);
}

/* In [1 - by, 1 + by]. */
static double noise(double by) { return 1 + by * (2.0 * below(1000001) / 1e6 - 1); }

static const simulated devices[] = {
    { 12e9, 90e9, 20e-6, 4, 1 },        /* a few cores */
    { 60e9, 2e12, 10e-6, 3, 1 },        /* an integrated GPU */
    { 4e12, 60e12, 5e-6, 6, 1 },        /* a large one */
};

/* What one believes at first. */
static const ey_pace believed[EY_PHASES] = { { 30e9, 400e9, 0 }, { 30e9, 400e9, 0 } };

static double predicted(const ey_costs *c, ey_phase phase, ey_load row, uint32_t rows)
{
    ey_load loads[128];
    for (uint32_t i = 0; i < rows; i++) loads[i] = row;
    return ey_cost_seconds(c, phase, loads, rows);
}

static void learn(ey_costs *c, ey_phase phase, ey_load row, uint32_t rows, double seconds)
{
    ey_load loads[128];
    for (uint32_t i = 0; i < rows; i++) loads[i] = row;
    ey_cost_learn(c, phase, loads, rows, seconds);
}

/* So many of random sizes that each has been there five times, which is when a change is believed. */
enum { STEPS = 3000 };

/* Decode within 15 % and prefill within 20 %, of what the device takes when nothing disturbs it. Sizes between those of the
 * powers of two are tried as well. */
static void check_predictions(const ey_costs *c, const simulated *d, const ey_shape *s)
{
    for (uint32_t rows = 1; rows <= 64; rows += rows < 8 ? 1 : rows / 3) {
        ey_load row = { 900, 1, 1 };
        assert_near(predicted(c, EY_DECODE, row, rows), true_seconds(d, s, EY_DECODE, row, rows), 0.15);
    }
    for (uint32_t n = 64; n <= 1024; n += n / 3) {
        ey_load row = { 512, n, 0 };
        assert_near(predicted(c, EY_PREFILL, row, 1), true_seconds(d, s, EY_PREFILL, row, 1), 0.2);
    }
}

/* A random step, as long as it takes but for noise; one in thirty is disturbed, by up to fifty times. */
static void run_step(ey_costs *c, const simulated *d, const ey_shape *s)
{
    ey_phase phase = one_in(3) ? EY_PREFILL : EY_DECODE;
    ey_load row = { below(2000), 1, 1 };
    uint32_t rows = 1;

    if (phase == EY_DECODE) rows = between(1, 64);
    else row = (ey_load){ below(2000), one_in(2) ? 64 * between(1, 16) : between(64, 1024), below(2) };
    learn(c, phase, row, rows, true_seconds(d, s, phase, row, rows) * noise(0.06) * (one_in(30) ? between(2, 50) : 1));
}

static void what_was_disturbed_and_what_has_changed_is_learnt(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(devices); k++) {
        simulated d = devices[k];
        ey_shape s = shape_of(&gemma_2b);
        ey_costs *c = ey_costs_new(&s, believed);

        assert_non_null(c);
        dice = k;
        for (uint32_t rows = 1; rows <= 64; rows *= 2)          /* first launches: drivers compile in them */
            learn(c, EY_DECODE, (ey_load){ 0, 1, 1 }, rows, 100 * true_seconds(&d, &s, EY_DECODE, (ey_load){ 0, 1, 1 }, rows));
        for (int i = 0; i < STEPS; i++) run_step(c, &d, &s);
        check_predictions(c, &d, &s);

        d.pace = 2.5;                                           /* something else runs beside it, for long */
        for (int i = 0; i < STEPS; i++) run_step(c, &d, &s);
        check_predictions(c, &d, &s);
        d.pace = 1;
        for (int i = 0; i < STEPS; i++) run_step(c, &d, &s);
        check_predictions(c, &d, &s);
        ey_free(c);
    }
}

/* From a single size, others of the phase are guessed better than from nothing; from a nearer size better still. */
static void sizes_that_never_ran_follow_their_neighbours(void **state)
{
    const simulated d = devices[0];
    ey_shape s = shape_of(&gemma_2b);
    ey_costs *c = ey_costs_new(&s, believed);
    const ey_load row = { 0, 256, 0 }, other = { 0, 512, 0 };
    double truth = true_seconds(&d, &s, EY_PREFILL, other, 1), before = predicted(c, EY_PREFILL, other, 1);

    (void)state;
    for (int i = 0; i < 3; i++) learn(c, EY_PREFILL, row, 1, true_seconds(&d, &s, EY_PREFILL, row, 1));
    assert_true(before < truth / 2);                            /* 400 GFLOP/s are believed, there are 90 */
    assert_near(predicted(c, EY_PREFILL, other, 1), truth, 0.2);
    assert_near(predicted(c, EY_DECODE, (ey_load){ 0, 1, 1 }, 1),       /* the other phase is none of its business */
                ey_cost_formula(&s, believed, EY_DECODE, &(ey_load){ 0, 1, 1 }, 1), 1e-9);
    ey_free(c);
}

/* A driver may compile in the first step of a size, which then takes a hundred times as long; shorter is soon believed. */
static void a_first_step_is_not_believed_alone(void **state)
{
    ey_costs *c = ey_costs_new(&small, slow);
    const ey_load four = { 0, 4, 0 }, five = { 0, 5, 0 };
    double expected;

    (void)state;
    for (int i = 0; i < 9; i++) ey_cost_learn(c, EY_PREFILL, &four, 1, 2 * ey_cost_formula(&small, slow, EY_PREFILL, &four, 1));
    expected = 2 * ey_cost_formula(&small, slow, EY_PREFILL, &five, 1);
    assert_near(ey_cost_seconds(c, EY_PREFILL, &five, 1), expected, 1e-6);      /* factors are floats */
    ey_cost_learn(c, EY_PREFILL, &five, 1, 100 * expected);
    assert_near(ey_cost_seconds(c, EY_PREFILL, &five, 1), expected, 1e-6);
    ey_cost_learn(c, EY_PREFILL, &five, 1, expected / 3);
    assert_near(ey_cost_seconds(c, EY_PREFILL, &five, 1), expected, 1e-6);
    ey_cost_learn(c, EY_PREFILL, &five, 1, expected / 3);
    assert_near(ey_cost_seconds(c, EY_PREFILL, &five, 1), expected / 3, 1e-6);
    ey_free(c);
}

/* Samples are the times that steps took, scaled, but that of the first, and the host's; of sizes that never ran, what is
 * predicted. However many there were, each is as probable as any other. */
static void samples_are_what_ran(void **state)
{
    enum { MANY = 20000, DRAWS = 2000 };
    ey_costs *c = ey_costs_new(&small, slow);
    const ey_load row = { 0, 4, 0 }, other = { 0, 4, 4 }, never = { 0, 64, 0 };
    double unit = ey_cost_formula(&small, slow, EY_PREFILL, &row, 1), sum = 0;

    (void)state;
    assert_near(ey_cost_sample(c, EY_PREFILL, &row, 1, 0, UINT32_MAX, 0.5), unit, 1e-9);
    for (int i = 0; i < 5; i++) {
        ey_cost_learn(c, EY_PREFILL, &row, 1, (i == 0 ? 100 : i) * unit);
        ey_cost_learn_host(c, EY_PREFILL, &row, 1, i == 0 ? 0.9 : 0.25);
    }
    for (int i = 1; i < 5; i++) {
        double chance = (i - 0.5) / 4;
        assert_near(ey_cost_sample(c, EY_PREFILL, &row, 1, 0, UINT32_MAX, chance), i * unit + 0.25, 1e-6);     /* floats */
        assert_near(ey_cost_sample(c, EY_PREFILL, &other, 1, 0, UINT32_MAX, chance),
                    i * ey_cost_formula(&small, slow, EY_PREFILL, &other, 1) + 0.25, 1e-6);
        assert_near(ey_cost_sample(c, EY_DECODE, &row, 1, 0, UINT32_MAX, chance), ey_cost_seconds(c, EY_DECODE, &row, 1), 1e-9);
    }
    assert_near(ey_cost_sample(c, EY_PREFILL, &never, 1, 0, UINT32_MAX, 0.99), ey_cost_seconds(c, EY_PREFILL, &never, 1) + 0.25, 1e-6);

    void *blob = malloc(ey_costs_size());       /* kept is what is usual, the host's too */
    ey_costs *other_run = ey_costs_new(&small, slow);
    assert_non_null(blob);
    ey_costs_save(c, blob);
    assert_true(ey_costs_load(other_run, blob, ey_costs_size()));
    assert_near(ey_cost_sample(other_run, EY_PREFILL, &row, 1, 0, UINT32_MAX, 0.99), ey_cost_seconds(c, EY_PREFILL, &row, 1) + 0.25, 1e-6);
    ey_free(other_run);
    free(blob);
    ey_free(c);

    c = ey_costs_new(&small, slow);
    for (int i = 0; i <= MANY; i++) ey_cost_learn(c, EY_PREFILL, &row, 1, (1 + (double)i / MANY) * unit);
    for (int i = 0; i < DRAWS; i++) sum += ey_cost_sample(c, EY_PREFILL, &row, 1, 0, UINT32_MAX, (i + 0.5) / DRAWS) / unit;
    assert_near(sum / DRAWS, 1.5, 0.05);        /* the mean of 256 even ones deviates by 0.018 */
    ey_free(c);
}

static void nonsense_is_not_learnt(void **state)
{
    static const double never[] = { 0, -1, 1e-30, 1e30, INFINITY, -INFINITY, NAN };
    ey_costs *c = ey_costs_new(&small, slow);
    const ey_load row = { 0, 4, 4 };
    double before = ey_cost_seconds(c, EY_PREFILL, &row, 1);

    (void)state;
    for (size_t i = 0; i < COUNT(never); i++)
        for (int k = 0; k < 20; k++) ey_cost_learn(c, EY_PREFILL, &row, 1, never[i]);
    ey_cost_learn(c, EY_PREFILL, NULL, 0, 1);
    assert_near(ey_cost_seconds(c, EY_PREFILL, &row, 1), before, 1e-12);
    ey_free(c);
}

/* The ridge is where reading and computing take as long, however wrong the paces were. */
static void the_ridge_follows_what_was_learnt(void **state)
{
    const ey_pace wrong[EY_PHASES] = { { 50, 100, 1 }, { 50, 100, 1 } };
    ey_costs *c = ey_costs_new(&small, wrong), *right = ey_costs_new(&small, slow);

    (void)state;
    assert_near(ey_cost_ridge(c, EY_PREFILL), 50, 1e-9);        /* 20 s, 0.4 s a token */
    for (uint32_t n = 1; n <= 1024; n *= 2)
        for (int i = 0; i < 9; i++) {
            ey_load row = { 0, n, 0 };
            ey_cost_learn(c, EY_PREFILL, &row, 1, ey_cost_seconds(right, EY_PREFILL, &row, 1));
        }
    assert_near(ey_cost_ridge(c, EY_PREFILL), 2.5, 0.05);       /* sizes between those that ran are guessed */
    assert_near(ey_cost_ridge(c, EY_DECODE), 50, 1e-9);         /* 24 s, 0.48 s a row: nothing was learnt of it */
    ey_free(c);
    ey_free(right);
}

/* ---------------------------------------------------------------------------------------------------------- keeping */

static void what_was_learnt_can_be_kept(void **state)
{
    const simulated d = devices[0];
    ey_shape s = shape_of(&gemma_2b), larger = shape_of(&gemma_9b), small_scratch = s;
    ey_costs *c = ey_costs_new(&s, believed), *later = ey_costs_new(&s, slow), *other = ey_costs_new(&larger, believed), *same;
    size_t size = ey_costs_size();
    unsigned char *blob = malloc(size + 1), *again = malloc(size);

    (void)state;
    assert_non_null(blob);
    assert_non_null(again);
    dice = 3;
    for (int i = 0; i < STEPS; i++) run_step(c, &d, &s);
    ey_costs_save(c, blob);
    assert_true(ey_costs_load(later, blob, size));
    check_predictions(later, &d, &s);
    ey_costs_save(later, again);
    assert_memory_equal(blob, again, size);
    learn(later, EY_DECODE, (ey_load){ 0, 1, 1 }, 1, 50 * true_seconds(&d, &s, EY_DECODE, (ey_load){ 0, 1, 1 }, 1));
    check_predictions(later, &d, &s);           /* one bad step does not outvote it */

    small_scratch.other_bytes = 12345;          /* decides what fits, not how long a step takes */
    assert_non_null(same = ey_costs_new(&small_scratch, slow));
    assert_true(ey_costs_load(same, blob, size));
    ey_free(same);
    small_scratch.launches[EY_PREFILL] = small_scratch.launches[EY_DECODE] = 0;     /* not known: those that are kept */
    assert_non_null(same = ey_costs_new(&small_scratch, slow));
    assert_true(ey_costs_load(same, blob, size));
    check_predictions(same, &d, &s);
    ey_free(same);
    small_scratch.launches[EY_PREFILL] = 1;     /* another recording */
    assert_non_null(same = ey_costs_new(&small_scratch, slow));
    assert_false(ey_costs_load(same, blob, size));

    ey_costs_save(other, again);                /* what is not taken changes nothing */
    assert_false(ey_costs_load(other, blob, size));
    assert_false(ey_costs_load(other, blob, size - 1));
    assert_false(ey_costs_load(other, blob, size + 1));
    assert_false(ey_costs_load(other, blob, 0));
    memset(blob, 0xFF, size);
    assert_false(ey_costs_load(other, blob, size));
    ey_costs_save(other, blob);
    assert_memory_equal(blob, again, size);
    ey_free(c);
    ey_free(later);
    ey_free(other);
    ey_free(same);
    free(blob);
    free(again);
}

/* Whatever byte of it is damaged: taken or not, predictions stay positive and finite. */
static void damaged_records_do_no_harm(void **state)
{
    const simulated d = devices[1];
    ey_shape s = shape_of(&gemma_2b);
    ey_costs *c = ey_costs_new(&s, believed);
    size_t size = ey_costs_size();
    unsigned char *blob = malloc(size);

    (void)state;
    assert_non_null(blob);
    dice = 4;
    for (int i = 0; i < 300; i++) run_step(c, &d, &s);
    for (size_t at = 0; at < size; at++) {
        ey_costs *fresh = ey_costs_new(&s, believed);
        ey_costs_save(c, blob);
        blob[at] ^= (unsigned char)(1 + below(255));
        (void)ey_costs_load(fresh, blob, size);
        for (uint32_t n = 1; n <= 1024; n *= 4)
            for (uint32_t phase = 0; phase < EY_PHASES; phase++) {
                double seconds = ey_cost_seconds(fresh, (ey_phase)phase, &(ey_load){ 0, n, 1 }, 1);
                assert_true(seconds > 0 && isfinite(seconds));
            }
        ey_free(fresh);
    }
    ey_free(c);
    free(blob);
}

static bool refuse(size_t bytes)
{
    (void)bytes;
    return false;
}

static void no_memory(void **state)
{
    (void)state;
    ey_alloc_hook = refuse;
    assert_null(ey_costs_new(&small, slow));
    ey_alloc_hook = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_models_cost_what_is_published),
        cmocka_unit_test(memory_for_sequences_is_counted_in_blocks_of_positions),
        cmocka_unit_test(demands_add_up_token_by_token),
        cmocka_unit_test(seconds_by_hand),
        cmocka_unit_test(a_ridge_that_is_never_reached_is_infinite),
        cmocka_unit_test(what_was_disturbed_and_what_has_changed_is_learnt),
        cmocka_unit_test(sizes_that_never_ran_follow_their_neighbours),
        cmocka_unit_test(a_first_step_is_not_believed_alone),
        cmocka_unit_test(samples_are_what_ran), cmocka_unit_test(nonsense_is_not_learnt),
        cmocka_unit_test(the_ridge_follows_what_was_learnt),
        cmocka_unit_test(what_was_learnt_can_be_kept),
        cmocka_unit_test(damaged_records_do_no_harm),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests_name("cost", tests, NULL, NULL);
}
