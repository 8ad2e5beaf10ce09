/* test_engine.c - engines and sequences as a caller of eyrie.h sees them: what a text says does not depend on its company, and
 * every request ends in one of the ways that the header names. Whether logits are right is decided by the goldens. */
#include "running.h"

#include "dice.h"
#include "model.h"
#include "utf8.h"

#include <math.h>

/* Tokens of the vocabulary, the same for a seed. To be freed. */
static int32_t *any_tokens(uint32_t n, uint32_t vocab, uint64_t seed)
{
    int32_t *tokens = calloc(n, sizeof *tokens);

    assert_non_null(tokens);
    dice = seed;
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)below(vocab);
    return tokens;
}

/* --------------------------------------------------------------------------------------------------------- company */

/* Texts of ragged lengths: read only, scored, greedy, and sampled with one seed and two sample numbers. */
enum { TEXTS = 7, LONGEST = 201 };
static const eyrie_request texts[TEXTS] = {
    { .n_tokens = 1, .max_tokens = 12, .flags = EYRIE_IGNORE_EOS },
    { .n_tokens = 63, .max_tokens = 5, .temperature = 0.8f, .seed = 7, .flags = EYRIE_IGNORE_EOS },
    { .n_tokens = 64, .max_tokens = 8, .temperature = 4.0f, .seed = 7, .sample = 1, .flags = EYRIE_IGNORE_EOS },
    { .n_tokens = LONGEST, .max_tokens = 7, .flags = EYRIE_IGNORE_EOS },
    { .n_tokens = 150, .max_tokens = 4, .temperature = 1.0f, .seed = 1ull << 60, .flags = EYRIE_SCORE },
    { .n_tokens = 65, .max_tokens = 0, .flags = EYRIE_SCORE },
    { .n_tokens = 7, .max_tokens = 9, .temperature = 0.8f, .seed = 7, .flags = EYRIE_IGNORE_EOS },
};

static eyrie_request text(uint32_t i, int32_t *const *tokens)
{
    eyrie_request r = texts[i];
    r.tokens = tokens[i];
    return r;
}

/* All texts, in that order; the k-th is submitted before step k * apart. Each is closed when it is over. */
static void run_together(eyrie_engine *e, const uint32_t *order, uint32_t apart, int32_t *const *tokens, heard *all)
{
    eyrie_seq *seqs[TEXTS] = { NULL };
    uint32_t submitted = 0, left = TEXTS;

    for (uint32_t step = 0; left > 0; step++) {
        bool busy;
        assert_in_range(step, 0, 2000);
        for (; submitted < TEXTS && submitted * apart <= step; submitted++) {
            uint32_t i = order[submitted];
            submit(seqs[i] = open_seq(e), text(i, tokens), &all[i]);
        }
        assert_ok(eyrie_engine_step(e, &busy, &err));
        for (uint32_t i = 0; i < TEXTS; i++) {
            if (!seqs[i] || !all[i].over) continue;
            assert_ok(eyrie_seq_close(seqs[i]));
            seqs[i] = NULL;
            left--;
        }
        if (submitted == TEXTS) assert_int_equal(busy, left > 0);
    }
}

static void check_company(const char *name, eyrie_model_opts opts, const uint32_t *order, uint32_t apart,
                          int32_t *const *tokens, const heard *alone)
{
    static heard all[TEXTS];
    stage on = open_stage(name, opts);

    run_together(on.engine, order, apart, tokens, all);
    for (uint32_t i = 0; i < TEXTS; i++) {
        char what[200];
        snprintf(what, sizeof what, "%s, %u slots, chunk %u, text %u", name, (unsigned)opts.slots, (unsigned)opts.chunk, (unsigned)i);
        assert_same(what, &all[i], &alone[i]);
    }
    close_stage(&on);
}

static void hear_alone(const char *name, eyrie_model_opts opts, int32_t *const *tokens, heard *alone)
{
    stage on = open_stage(name, opts);

    for (uint32_t i = 0; i < TEXTS; i++) {
        run_alone(on.engine, text(i, tokens), &alone[i]);
        if (texts[i].flags & EYRIE_IGNORE_EOS) assert_int_equal(alone[i].n, texts[i].max_tokens);
        assert_int_equal(alone[i].n_scores, texts[i].flags & EYRIE_SCORE ? texts[i].n_tokens : 0);
    }
    close_stage(&on);
}

/* Bit for bit what it is alone: in any order, submitted at any time, in few slots and in many, in chunks of any multiple of
 * 64; and in other chunks what it is alone in that chunk. */
static void company_leaves_no_trace(void **state)
{
    static const struct { const char *name; eyrie_compute compute; } models[] = {
        { GOLDEN("griffin"), EYRIE_COMPUTE_AUTO }, { GOLDEN("griffin-odd"), EYRIE_COMPUTE_F32 },
        { GOLDEN("mqa"), EYRIE_COMPUTE_F32 },      { GOLDEN("gqa"), EYRIE_COMPUTE_F32 },
        { SHAKESPEARE, EYRIE_COMPUTE_AUTO },
    };
    static const struct { uint32_t slots, chunk, apart, order[TEXTS]; } ways[] = {
        { 7, 256, 0, { 5, 4, 0, 1, 2, 3, 6 } },         /* two scored ones would fit into a step, and may not share it */
        { 7, 192, 0, { 6, 3, 0, 2, 1, 5, 4 } },         /* a part of the second is read between two whole prompts */
        { 3, 64, 2, { 3, 0, 5, 2, 6, 4, 1 } },
        { 2, 128, 0, { 6, 5, 4, 3, 2, 1, 0 } }, { 1, 64, 3, { 0, 1, 2, 3, 4, 5, 6 } },
        { 4, 50, 1, { 3, 0, 5, 2, 6, 4, 1 } },          /* compared with texts that were alone in chunks of 50 */
    };
    static heard alone[TEXTS];

    (void)state;
    for (size_t i = 0; i < COUNT(models); i++) {
        eyrie_model_opts opts = { .slots = 1, .chunk = 256, .compute = models[i].compute };
        stage on = open_stage(models[i].name, opts);
        int32_t *tokens[TEXTS];
        for (uint32_t k = 0; k < TEXTS; k++) tokens[k] = any_tokens(LONGEST, ey_model_get_limits(on.model).vocab, k);
        close_stage(&on);

        for (size_t k = 0; k < COUNT(ways); k++) {
            opts.chunk = ways[k].chunk % 64 ? ways[k].chunk : 256;
            opts.slots = 1;
            if (k == 0 || ways[k].chunk % 64) hear_alone(models[i].name, opts, tokens, alone);
            opts.slots = ways[k].slots;
            opts.chunk = ways[k].chunk;
            check_company(models[i].name, opts, ways[k].order, ways[k].apart, tokens, alone);
        }
        for (uint32_t k = 0; k < TEXTS; k++) free(tokens[k]);
    }
}

/* What is drawn depends on the place in the sequence, not on how the generation was asked for: in two requests it is the same
 * text. */
static void generation_in_two_requests(void **state)
{
    static heard whole, parts[2];
    stage on = open_stage(SHAKESPEARE, (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
    eyrie_request r = { .tokens = (int32_t[]){ 2, 814, 983, 4 }, .n_tokens = 4, .max_tokens = 30, .temperature = 1.0f,
                        .seed = 11, .flags = EYRIE_IGNORE_EOS };
    eyrie_seq *s = open_seq(on.engine);

    (void)state;
    run_alone(on.engine, r, &whole);
    r.max_tokens = 13;
    submit(s, r, &parts[0]);
    run_to_end(on.engine);
    r.n_tokens = 0;
    r.max_tokens = 17;
    submit(s, r, &parts[1]);
    run_to_end(on.engine);
    assert_memory_equal(parts[0].ids, whole.ids, 13 * sizeof *whole.ids);
    assert_memory_equal(parts[1].ids, whole.ids + 13, 17 * sizeof *whole.ids);
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

/* More sequences than a step has rows: some wait for their turn in every step, and all come to their end. The hottest sample from all
 * logits, not from the best alone, wherever in the step they are. */
static void more_sequences_than_rows(void **state)
{
    enum { MANY = EYRIE_STEP_SEQUENCES + 5 };
    static const float temperatures[] = { 0, 0.7f, 20 };
    static heard alone[MANY], all[MANY];
    static int32_t tokens[MANY + 5];
    stage on = open_stage(SHAKESPEARE, (eyrie_model_opts){ .slots = MANY, .compute = EYRIE_COMPUTE_F32, .chunk = 64 });
    eyrie_seq *seqs[MANY];

    (void)state;
    assert_int_equal(ey_model_get_limits(on.model).decode_rows, EYRIE_STEP_SEQUENCES);
    for (uint32_t i = 0; i < COUNT(tokens); i++) tokens[i] = (int32_t)(4 + 37 * i % 1000);
    for (uint32_t turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < MANY; i++) {
            eyrie_request r = { .tokens = tokens + i, .n_tokens = 1 + i % 5, .max_tokens = 1 + i % 4,
                                .temperature = temperatures[i % 3], .sample = i, .flags = EYRIE_IGNORE_EOS };
            if (turn == 0) run_alone(on.engine, r, &alone[i]);
            else submit(seqs[i] = open_seq(on.engine), r, &all[i]);
        }
    run_to_end(on.engine);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_same("one of many", &all[i], &alone[i]);
        assert_ok(eyrie_seq_close(seqs[i]));
    }
    close_stage(&on);
}

/* A sequence may be closed before its request is over, whatever it is doing; who takes its slot or goes on beside it does
 * not notice. */
static void closing_in_the_middle(void **state)
{
    static heard want, lost, beside, after;
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 2, .chunk = 64 });
    eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 150, .max_tokens = 10, .flags = EYRIE_IGNORE_EOS };

    (void)state;
    run_alone(on.engine, r, &want);
    for (uint32_t steps = 0; steps <= 7; steps++) {         /* before it begins, while it reads, while it generates */
        eyrie_seq *first = open_seq(on.engine), *second = open_seq(on.engine), *third = open_seq(on.engine);
        submit(first, r, &lost);
        submit(second, r, &beside);
        submit(third, r, &after);
        for (uint32_t i = 0; i < steps; i++) {
            bool busy;
            assert_ok(eyrie_engine_step(on.engine, &busy, &err));
        }
        assert_false(lost.over);
        assert_ok(eyrie_seq_close(first));
        while (!beside.over) {
            bool busy;
            assert_ok(eyrie_engine_step(on.engine, &busy, &err));
        }
        assert_ok(eyrie_seq_close(second));
        run_to_end(on.engine);
        assert_ok(eyrie_seq_close(third));
        assert_false(lost.over);
        assert_same("beside the closed", &beside, &want);
        assert_same("after the closed", &after, &want);
    }
    close_stage(&on);
}

/* One seed gives another text for another sample number, and the same for the same. */
static void samples_are_independent(void **state)
{
    stage on = open_stage(SHAKESPEARE, (eyrie_model_opts){ .slots = 3 });
    eyrie_request r = { .tokens = (int32_t[]){ 2, 814, 983, 4 }, .n_tokens = 4, .max_tokens = 20, .temperature = 1.0f,
                        .seed = 3, .flags = EYRIE_IGNORE_EOS };
    heard first, second, again;

    (void)state;
    run_alone(on.engine, r, &first);
    run_alone(on.engine, r, &again);
    r.sample = 1;
    run_alone(on.engine, r, &second);
    assert_same("the same sample", &again, &first);
    assert_memory_not_equal(first.ids, second.ids, first.n * sizeof *first.ids);
    close_stage(&on);
}

/* --------------------------------------------------------------------------------------------------------- goldens */

/* What the project promises, relative to the largest logit. */
#define GOLDEN_TOLERANCE 1e-4

static const char *const goldens[] = {
    GOLDEN("hawk"), GOLDEN("hawk-narrow"), GOLDEN("hawk-odd"), GOLDEN("griffin"), GOLDEN("griffin-odd"), GOLDEN("griffin-wide"),
    GOLDEN("griffin-untied"), GOLDEN("mqa"), GOLDEN("mqa-odd"), GOLDEN("gqa"), GOLDEN("mha-spelling"),
};

static double largest(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static void check_close(const char *what, const char *name, const float *got, const float *want, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance))
            fail_msg("%s of %s: [%zu] is %g, not %g; allowed %g", what, name, i, (double)got[i], (double)want[i], tolerance);
}

/* Scores, logits, and the greedy continuation up to where two tokens are nearly as good. */
static void goldens_are_scored_and_continued(void **state)
{
    static heard h;

    (void)state;
    for (size_t i = 0; i < COUNT(goldens); i++) {
        stage on = open_stage(goldens[i], (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32, .chunk = 192 });
        double one = GOLDEN_TOLERANCE * largest(on.text.logits, (size_t)on.text.T * on.text.V);

        h = (heard){ .vocab = on.text.V, .logits = calloc((size_t)on.text.T * on.text.V, sizeof *h.logits) };
        assert_non_null(h.logits);
        run_alone(on.engine, (eyrie_request){ .tokens = on.text.tokens, .n_tokens = on.text.T, .max_tokens = on.text.S,
                                      .flags = EYRIE_SCORE | EYRIE_LOGITS | EYRIE_IGNORE_EOS }, &h);
        assert_int_equal(h.n_scores, on.text.T);
        assert_memory_equal(h.read, on.text.tokens, on.text.T * sizeof *on.text.tokens);
        assert_true(isnan(h.scores[0]));
        /* A log-probability is a logit less the log of a sum, and each may be off by one tolerance. */
        check_close("scores", goldens[i], h.scores + 1, on.text.logprob, on.text.T - 1, 2 * one);
        check_close("logits", goldens[i], h.logits, on.text.logits, (size_t)on.text.T * on.text.V, one);

        assert_int_equal(h.n, on.text.S);
        assert_int_equal(h.end, EYRIE_END_LENGTH);
        uint32_t sure = 0;
        while (sure < on.text.S && on.text.greedy_margin[sure] > 2 * one) sure++;
        assert_in_range(sure, 1, on.text.S);
        assert_memory_equal(h.ids, on.text.greedy, sure * sizeof *on.text.greedy);
        check_close("continuation", goldens[i], h.logprobs, on.text.greedy_logprob, sure, 2 * one);
        free(h.logits);
        close_stage(&on);
    }
}

/* ------------------------------------------------------------------------------------------------------- sequences */

/* A text given in several requests is one text. Bit for bit where the cut lies at a multiple of 64, else as close as any
 * other way of reading is. */
static void several_requests_are_one_text(void **state)
{
    static const char *const names[] = { GOLDEN("griffin"), GOLDEN("gqa"), GOLDEN("griffin-wide") };
    static const uint32_t cuts[][2] = { { 64, 192 }, { 128, 256 }, { 192, 256 }, { 1, 2 }, { 50, 191 }, { 65, 300 } };
    static heard whole, parts[3];

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        stage on = open_stage(names[i], (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
        eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 340, .max_tokens = 20, .flags = EYRIE_SCORE | EYRIE_IGNORE_EOS };
        /* Another chunking is within 1e-5 of the largest logit, and a log-probability is made of two numbers. */
        double tolerance = 2 * 1e-5 * largest(on.text.logits, (size_t)on.text.T * on.text.V);

        run_alone(on.engine, r, &whole);
        for (size_t k = 0; k < COUNT(cuts); k++) {
            const uint32_t at[4] = { 0, cuts[k][0], cuts[k][1], 340 };
            bool exact = at[1] % 64 == 0 && at[2] % 64 == 0;
            eyrie_seq *s = open_seq(on.engine);
            for (uint32_t p = 0; p < 3; p++) {
                heard *h = &parts[p];
                r.tokens = on.text.tokens + at[p];
                r.n_tokens = at[p + 1] - at[p];
                r.max_tokens = p == 2 ? 20 : 0;
                submit(s, r, h);
                run_to_end(on.engine);
                assert_int_equal(eyrie_seq_position(s), at[p + 1] + (p == 2 ? 19 : 0));
                assert_int_equal(h->end, EYRIE_END_LENGTH);
                assert_int_equal(h->n_scores, r.n_tokens);
                assert_true(isnan(h->scores[0]));           /* what came before it is not kept */
                for (uint32_t t = 1; t < h->n_scores; t++) {
                    double off = fabs((double)h->scores[t] - (double)whole.scores[at[p] + t]);
                    if (!(off <= (exact ? 0 : tolerance)))
                        fail_msg("%s, cut at %u and %u: score %u is off by %g", names[i], (unsigned)at[1], (unsigned)at[2],
                                 (unsigned)(at[p] + t), off);
                }
            }
            assert_memory_equal(parts[2].ids, whole.ids, exact ? whole.n * sizeof *whole.ids : sizeof *whole.ids);
            if (exact) assert_memory_equal(parts[2].logprobs, whole.logprobs, whole.n * sizeof *whole.logprobs);
            assert_ok(eyrie_seq_close(s));
        }
        close_stage(&on);
    }
}

/* A request after a generation first reads the token that was generated last. */
static void requests_after_generations(void **state)
{
    static heard first, second, whole;
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
    double tolerance = 2 * 1e-5 * largest(on.text.logits, (size_t)on.text.T * on.text.V);
    eyrie_seq *s = open_seq(on.engine);
    int32_t all[100];

    (void)state;
    submit(s, (eyrie_request){ .tokens = on.text.tokens, .n_tokens = 40, .max_tokens = 10, .flags = EYRIE_IGNORE_EOS }, &first);
    run_to_end(on.engine);
    assert_int_equal(eyrie_seq_position(s), 49);            /* the tenth is not read yet */
    submit(s, (eyrie_request){ .tokens = on.text.tokens + 40, .n_tokens = 30, .max_tokens = 5,
                               .flags = EYRIE_SCORE | EYRIE_IGNORE_EOS }, &second);
    run_to_end(on.engine);
    assert_int_equal(second.n_scores, 31);
    assert_int_equal(second.read[0], first.ids[9]);
    assert_int_equal(eyrie_seq_position(s), 84);
    submit(s, (eyrie_request){ .max_tokens = 1, .flags = EYRIE_IGNORE_EOS }, &whole);
    run_to_end(on.engine);                                          /* with nothing else to read, it goes on from there */
    assert_int_equal(eyrie_seq_position(s), 85);
    assert_ok(eyrie_seq_close(s));

    memcpy(all, on.text.tokens, 40 * sizeof *all);
    memcpy(all + 40, first.ids, 10 * sizeof *all);
    memcpy(all + 50, on.text.tokens + 40, 30 * sizeof *all);
    run_alone(on.engine, (eyrie_request){ .tokens = all, .n_tokens = 80, .max_tokens = 5, .flags = EYRIE_SCORE | EYRIE_IGNORE_EOS }, &whole);
    check_close("generated", "first request", first.logprobs, whole.scores + 40, 10, tolerance);
    check_close("scores", "second request", second.scores + 1, whole.scores + 50, 30, tolerance);
    check_close("generated", "second request", second.logprobs, whole.logprobs, 1, tolerance);
    close_stage(&on);
}

/* Forks go on bit for bit as the original would have, after a prompt and after a generation, in any number, whatever the
 * others do; and so does the original. */
static void forks_go_on(void **state)
{
    static const struct { const char *name; uint32_t prompt; uint64_t generated; } cases[] = {
        { GOLDEN("griffin"), 100, 0 }, { GOLDEN("griffin"), 70, 9 }, { GOLDEN("gqa"), 130, 3 }, { GOLDEN("hawk"), 5, 0 },
        { GOLDEN("mqa"), 64, 1 },
    };
    static heard h, want, got, other;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        stage on = open_stage(cases[i].name, (eyrie_model_opts){ .slots = 5 });
        eyrie_request begin = { .tokens = on.text.tokens, .n_tokens = cases[i].prompt, .max_tokens = cases[i].generated,
                                .temperature = 0.9f, .seed = 4, .flags = EYRIE_IGNORE_EOS };
        eyrie_request go_on = { .tokens = on.text.tokens + 9, .n_tokens = 11, .max_tokens = 25, .temperature = 0.9f, .seed = 5,
                                .flags = EYRIE_IGNORE_EOS };
        eyrie_request elsewhere = { .tokens = on.text.tokens + 3, .n_tokens = 33, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS };
        eyrie_seq *s = open_seq(on.engine), *forks[4];

        submit(s, begin, &h);                               /* without a fork */
        run_to_end(on.engine);
        uint64_t position = eyrie_seq_position(s);
        submit(s, go_on, &want);
        run_to_end(on.engine);
        assert_ok(eyrie_seq_close(s));

        s = open_seq(on.engine);
        submit(s, begin, &h);
        run_to_end(on.engine);
        assert_ok(eyrie_seq_fork(&forks[0], s, &err));
        assert_ok(eyrie_seq_fork(&forks[1], s, &err));
        submit(forks[1], elsewhere, &other);                /* one goes another way */
        run_to_end(on.engine);
        assert_ok(eyrie_seq_fork(&forks[2], forks[0], &err));           /* a fork of a fork */
        for (uint32_t k = 0; k <= 2; k += 2) {
            assert_int_equal(eyrie_seq_position(forks[k]), position);
            submit(forks[k], go_on, &got);
            run_to_end(on.engine);
            assert_same("fork", &got, &want);
        }
        assert_int_equal(eyrie_seq_position(s), position);
        assert_ok(eyrie_seq_fork(&forks[3], s, &err));
        submit(s, go_on, &got);                             /* original and fork at the same time */
        submit(forks[3], go_on, &other);
        run_to_end(on.engine);
        assert_same("original", &got, &want);
        assert_same("fork beside its original", &other, &want);
        for (uint32_t k = 0; k < 4; k++) assert_ok(eyrie_seq_close(forks[k]));
        assert_ok(eyrie_seq_close(s));
        close_stage(&on);
    }
}

static void fork_of_an_empty_sequence(void **state)
{
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1 });
    eyrie_seq *s = open_seq(on.engine), *fork;
    eyrie_request r = { .tokens = (int32_t[]){ 2, 5, 9 }, .n_tokens = 3, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS };
    heard a, b;

    (void)state;
    assert_ok(eyrie_seq_fork(&fork, s, &err));              /* it has no state, so it needs no slot */
    assert_int_equal(eyrie_seq_position(fork), 0);
    submit(s, r, &a);
    run_to_end(on.engine);
    assert_ok(eyrie_seq_close(s));
    submit(fork, r, &b);
    run_to_end(on.engine);
    assert_ok(eyrie_seq_close(fork));
    assert_same("fork of nothing", &b, &a);
    close_stage(&on);
}

/* ------------------------------------------------------------------------------------------------------------ ends */

/* The goldens' greedy texts hold an end-of-text token (id 1): the request ends with it, or is told not to. */
static void end_of_text(void **state)
{
    static const char *const names[] = { GOLDEN("griffin-wide"), GOLDEN("gqa") };
    static heard h;

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        stage on = open_stage(names[i], (eyrie_model_opts){ .compute = EYRIE_COMPUTE_F32 });
        uint32_t at = 0;

        while (at < on.text.S && on.text.greedy[at] != 1) at++;
        assert_in_range(at, 1, on.text.S - 2);
        eyrie_request r = { .tokens = on.text.tokens, .n_tokens = on.text.T, .max_tokens = on.text.S };
        run_alone(on.engine, r, &h);
        assert_int_equal(h.end, EYRIE_END_EOS);
        assert_int_equal(h.n, at + 1);
        assert_memory_equal(h.ids, on.text.greedy, h.n * sizeof *h.ids);
        r.max_tokens = at + 1;                              /* both at once: end of text says more */
        run_alone(on.engine, r, &h);
        assert_int_equal(h.end, EYRIE_END_EOS);
        r.flags = EYRIE_IGNORE_EOS;
        run_alone(on.engine, r, &h);
        assert_int_equal(h.end, EYRIE_END_LENGTH);
        assert_int_equal(h.n, at + 1);
        r.max_tokens = on.text.S;
        run_alone(on.engine, r, &h);
        assert_int_equal(h.n, on.text.S);
        close_stage(&on);
    }
}

static void lengths(void **state)
{
    static const uint64_t lengths_asked[] = { 0, 1, 2, 33 };
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1 });
    bool busy = true;
    heard h;

    (void)state;
    for (size_t i = 0; i < COUNT(lengths_asked); i++) {
        eyrie_seq *s = open_seq(on.engine);
        submit(s, (eyrie_request){ .tokens = on.text.tokens, .n_tokens = 20, .max_tokens = lengths_asked[i],
                                   .flags = EYRIE_IGNORE_EOS }, &h);
        run_to_end(on.engine);
        assert_int_equal(h.end, EYRIE_END_LENGTH);
        assert_int_equal(h.n, lengths_asked[i]);
        assert_int_equal(eyrie_seq_position(s), 20 + (lengths_asked[i] ? lengths_asked[i] - 1 : 0));
        assert_ok(eyrie_seq_close(s));
    }
    assert_ok(eyrie_engine_step(on.engine, &busy, &err));           /* nobody is there */
    assert_false(busy);
    close_stage(&on);
}

/* A context bounds what a sequence reads. Until then it changes nothing. */
static void context_is_a_bound(void **state)
{
    static const char *const names[] = { GOLDEN("griffin"), GOLDEN("mqa") };
    static heard free_text, h;

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        stage on = open_stage(names[i], (eyrie_model_opts){ .slots = 1 });
        eyrie_request r = { .tokens = on.text.tokens, .n_tokens = 36, .max_tokens = 100, .flags = EYRIE_IGNORE_EOS };
        run_alone(on.engine, r, &free_text);
        assert_int_equal(free_text.n, 100);
        close_stage(&on);

        on = open_stage(names[i], (eyrie_model_opts){ .slots = 1, .context = 40 });
        r.tokens = on.text.tokens;
        eyrie_seq *s = open_seq(on.engine);
        submit(s, r, &h);
        run_to_end(on.engine);
        assert_int_equal(h.end, EYRIE_END_CONTEXT);
        assert_int_equal(eyrie_seq_position(s), 40);
        assert_int_equal(h.n, 5);                           /* after 36, 37, 38, 39 and 40 tokens */
        assert_memory_equal(h.ids, free_text.ids, h.n * sizeof *h.ids);
        assert_memory_equal(h.logprobs, free_text.logprobs, h.n * sizeof *h.logprobs);
        r.n_tokens = 0;
        r.struct_size = sizeof r;
        assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_ELIMIT, "40");
        assert_ok(eyrie_seq_close(s));

        s = open_seq(on.engine);                                    /* a prompt of the whole context fits, one more does not */
        r.n_tokens = 41;
        assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_ELIMIT, "41 tokens");
        r.n_tokens = 40;
        submit(s, r, &h);
        run_to_end(on.engine);
        assert_int_equal(h.end, EYRIE_END_CONTEXT);
        assert_int_equal(h.n, 1);
        assert_ok(eyrie_seq_close(s));
        r.max_tokens = 1;                                   /* all that was asked for was given */
        run_alone(on.engine, r, &h);
        assert_int_equal(h.end, EYRIE_END_LENGTH);
        close_stage(&on);
    }
}

/* ---------------------------------------------------------------------------------------------------- what is refused */

static void requests_that_make_no_sense(void **state)
{
    static const int32_t good[] = { 2, 5 }, low[] = { 2, -1 }, high[] = { 2, 5, 64 };
    static const struct { eyrie_request r; const char *says; } cases[] = {
        { { .n_tokens = 0, .max_tokens = 1 }, "no tokens" },
        { { .tokens = low, .n_tokens = 2 }, "token -1" },
        { { .tokens = high, .n_tokens = 3 }, "token 64 (number 2)" },
        { { .tokens = good, .n_tokens = 2, .temperature = -0.5f }, "temperature -0.5" },
        { { .tokens = good, .n_tokens = 2, .temperature = NAN }, "temperature" },
        { { .tokens = good, .n_tokens = 2, .temperature = INFINITY }, "temperature" },
        { { .tokens = good, .n_tokens = 2, .flags = EYRIE_LOGITS }, "EYRIE_SCORE" },
    };
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1 });
    eyrie_seq *s = open_seq(on.engine);
    heard h;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_request r = cases[i].r;
        bool busy = true;
        r.struct_size = sizeof r;
        assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_EINVAL, cases[i].says);
        assert_ok(eyrie_engine_step(on.engine, &busy, &err));
        assert_false(busy);
    }
    submit(s, (eyrie_request){ .tokens = good, .n_tokens = 2, .max_tokens = 1 }, &h);   /* it is none the worse */
    run_to_end(on.engine);
    assert_int_equal(h.n, 1);
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

static void one_request_at_a_time(void **state)
{
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1 });
    eyrie_seq *s = open_seq(on.engine), *fork = s;
    eyrie_request r = { .struct_size = sizeof r, .tokens = (int32_t[]){ 2, 5, 9 }, .n_tokens = 3, .max_tokens = 3,
                        .flags = EYRIE_IGNORE_EOS };
    bool busy;
    heard h;

    (void)state;
    submit(s, r, &h);
    assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_EBUSY, "request");
    assert_fails(eyrie_seq_fork(&fork, s, &err), EYRIE_EBUSY, "request");
    assert_null(fork);
    assert_ok(eyrie_engine_step(on.engine, &busy, &err));
    assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_EBUSY, "request");
    run_to_end(on.engine);
    assert_int_equal(h.n, 3);
    assert_fails(eyrie_seq_fork(&fork, s, &err), EYRIE_EBUSY, "slot");      /* the one there is holds its state */
    assert_null(fork);
    submit(s, r, &h);
    run_to_end(on.engine);
    assert_int_equal(h.n, 3);
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

/* Sequences without a request hold every slot: a step says so, again and again, and once there is a slot all is well. */
static void idle_sequences_hold_all_slots(void **state)
{
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 2 });
    eyrie_seq *idle[2], *s;
    eyrie_request r = { .tokens = (int32_t[]){ 2, 5, 9 }, .n_tokens = 3, .max_tokens = 3, .flags = EYRIE_IGNORE_EOS };
    bool busy;
    heard h, alone, before[2];

    (void)state;
    run_alone(on.engine, r, &alone);
    for (uint32_t i = 0; i < 2; i++) submit(idle[i] = open_seq(on.engine), r, &before[i]);
    run_to_end(on.engine);
    submit(s = open_seq(on.engine), r, &h);
    for (uint32_t i = 0; i < 3; i++) assert_fails(eyrie_engine_step(on.engine, &busy, &err), EYRIE_EBUSY, "--slots");
    assert_false(h.over);
    submit(idle[0], (eyrie_request){ .tokens = r.tokens, .n_tokens = 1, .max_tokens = 2, .flags = EYRIE_IGNORE_EOS },
           &before[0]);
    assert_ok(eyrie_engine_step(on.engine, &busy, &err));           /* who has a slot can work meanwhile */
    assert_true(busy);
    assert_ok(eyrie_engine_step(on.engine, &busy, &err));
    assert_fails(eyrie_engine_step(on.engine, &busy, &err), EYRIE_EBUSY, "--slots");
    assert_ok(eyrie_seq_close(idle[0]));
    run_to_end(on.engine);
    assert_same("after waiting", &h, &alone);
    assert_ok(eyrie_seq_close(idle[1]));
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

/* ---------------------------------------------------------------------------------------------------------- structs */

/* What lies behind struct_size belongs to a newer header: options there are not read, results not written. */
static void structs_of_an_older_header(void **state)
{
    eyrie_model_opts opts = { .struct_size = offsetof(eyrie_model_opts, slots), .slots = 99, .chunk = 7, .context = 3 };
    struct { eyrie_model_info known; unsigned char unknown[32]; } info, newer_info;
    struct { eyrie_stats known; unsigned char unknown[32]; } stats;
    eyrie_request r = { .struct_size = offsetof(eyrie_request, flags), .tokens = (int32_t[]){ 2, 5, 9 }, .n_tokens = 3,
                        .max_tokens = 2, .flags = UINT32_MAX, .on_event = hear, .user = NULL };
    eyrie_model *m;

    (void)state;
    if (!device) skip();
    assert_ok(eyrie_model_open(&m, device, source_path(GOLDEN("griffin")), &opts, &err));
    assert_int_equal(ey_model_get_limits(m).slots, 1);
    assert_int_equal(ey_model_get_limits(m).chunk, 256);
    assert_int_equal(ey_model_get_limits(m).context, 0);

    memset(&info, 0xaa, sizeof info);
    info.known.struct_size = offsetof(eyrie_model_info, heads);
    assert_ok(eyrie_model_get_info(m, &info.known, &err));
    assert_int_equal(info.known.struct_size, offsetof(eyrie_model_info, heads));
    assert_int_equal(info.known.vocab, 64);
    for (size_t i = offsetof(eyrie_model_info, heads); i < sizeof info; i++) assert_int_equal(((unsigned char *)&info)[i], 0xaa);
    memset(&newer_info, 0xaa, sizeof newer_info);
    newer_info.known.struct_size = sizeof newer_info;
    assert_ok(eyrie_model_inspect(source_path(GOLDEN("griffin")), &opts, &newer_info.known, &err));
    assert_int_equal(newer_info.known.struct_size, sizeof newer_info);
    assert_int_equal(newer_info.known.heads, 4);
    assert_int_equal(newer_info.known.slots, 1);
    for (size_t i = 0; i < sizeof newer_info.unknown; i++) assert_int_equal(newer_info.unknown[i], 0xaa);

    stage on = { m, open_engine(m), { .file = NULL } };
    eyrie_seq *s = open_seq(on.engine);
    assert_ok(eyrie_seq_submit(s, &r, &err));               /* flags and callback were not there */
    run_to_end(on.engine);
    assert_in_range(eyrie_seq_position(s), 3, 4);
    memset(&stats, 0xaa, sizeof stats);
    stats.known.struct_size = offsetof(eyrie_stats, prefill_seconds);
    assert_ok(eyrie_engine_get_stats(on.engine, &stats.known, &err));
    assert_int_equal(stats.known.prefill_tokens, 3);
    for (size_t i = offsetof(eyrie_stats, prefill_seconds); i < sizeof stats; i++) assert_int_equal(((unsigned char *)&stats)[i], 0xaa);
    stats.known.struct_size = sizeof stats;
    assert_ok(eyrie_engine_get_stats(on.engine, &stats.known, &err));
    assert_int_equal(stats.known.prefill_steps, 1);
    for (size_t i = 0; i < sizeof stats.unknown; i++) assert_int_equal(stats.unknown[i], 0xaa);
    assert_ok(eyrie_seq_close(s));
    close_stage(&on);
}

static void statistics(void **state)
{
    eyrie_stats stats = { .struct_size = sizeof stats };
    stage on = open_stage_with("fifo", SHAKESPEARE, (eyrie_model_opts){ .slots = 2, .chunk = 64 });
    int32_t *tokens = any_tokens(70, ey_model_get_limits(on.model).vocab, 1);
    eyrie_seq *a = open_seq(on.engine), *b = open_seq(on.engine);
    heard h, i;

    (void)state;
    assert_ok(eyrie_engine_get_stats(on.engine, &stats, &err));
    assert_int_equal(stats.prefill_tokens + stats.decode_tokens + stats.prefill_steps + stats.decode_steps, 0);
    submit(a, (eyrie_request){ .tokens = tokens, .n_tokens = 70, .max_tokens = 5, .flags = EYRIE_IGNORE_EOS }, &h);
    submit(b, (eyrie_request){ .tokens = tokens, .n_tokens = 30, .max_tokens = 9, .flags = EYRIE_IGNORE_EOS }, &i);
    run_to_end(on.engine);
    assert_ok(eyrie_engine_get_stats(on.engine, &stats, &err));
    assert_int_equal(stats.prefill_tokens, 100);
    assert_int_equal(stats.prefill_steps, 2);               /* 64, then 6 and 30 */
    assert_int_equal(stats.decode_tokens, 4 + 8);           /* the first of each came with its prompt */
    assert_int_equal(stats.decode_steps, 8);
    assert_true(stats.prefill_seconds > 0 && stats.decode_seconds > 0);
    assert_int_equal(stats.rows_read_back, 0);              /* greedy needs one candidate */

    /* As good as uniform over 1024 tokens: most samples lie beyond the device's 256 candidates. */
    submit(a, (eyrie_request){ .max_tokens = 40, .temperature = 1000, .flags = EYRIE_IGNORE_EOS }, &h);
    run_to_end(on.engine);
    assert_ok(eyrie_engine_get_stats(on.engine, &stats, &err));
    assert_in_range(stats.rows_read_back, 20, 40);
    assert_int_equal(h.n, 40);
    free(tokens);
    assert_ok(eyrie_seq_close(a));
    assert_ok(eyrie_seq_close(b));
    close_stage(&on);
}

/* ---------------------------------------------------------------------------------------------------------- damage */

/* Copies griffin-untied to the directory with one 16-bit number of its embedding, in the row of `token`, replaced. */
static void write_damaged(const char *directory, int32_t token, uint16_t bits)
{
    static const char *const files[] = { "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors" };
    uint32_t patched = 0;

    for (size_t i = 0; i < COUNT(files); i++) {
        char name[128];
        uint64_t size, header = 0, begin, end;
        snprintf(name, sizeof name, "%s/%s", GOLDEN("griffin-untied"), files[i]);
        unsigned char *bytes = golden_load(source_path(name), &size);
        assert_non_null(bytes);
        for (uint32_t k = 8; k-- > 0;) header = header << 8 | bytes[k];
        if (i >= 2) {
            char *text = calloc(header + 1, 1);
            assert_non_null(text);
            memcpy(text, bytes + 8, header);
            const char *at = strstr(text, "\"model.embed_tokens.weight\"");
            if (at) {
                assert_non_null(at = strstr(at, "\"data_offsets\":"));
                assert_non_null(at = strchr(at, '['));
                begin = strtoull(at + 1, (char **)&at, 10);
                assert_non_null(at = strchr(at, ','));
                end = strtoull(at + 1, NULL, 10);
                assert_int_equal(end - begin, 64 * 64 * 2);             /* [V, D] f16 */
                memcpy(bytes + 8 + header + begin + ((size_t)token * 64 + 17) * 2, &bits, sizeof bits);
                patched++;
            }
            free(text);
        }
        write_file(directory, files[i], bytes, size);
        free(bytes);
    }
    assert_int_equal(patched, 1);
}

/* A request that meets the damaged number fails and says so. One beside it in the same steps, and one that gets its slot
 * afterwards, are what they always were. */
static void numbers_that_are_not_finite(void **state)
{
    static const uint16_t damages[] = { 0x7e00, 0x7c00, 0xfc00 };       /* NaN, infinity, minus infinity */
    static heard want, beside, h;
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = 2, .compute = EYRIE_COMPUTE_F32, .chunk = 192 };
    int32_t clean[80], hit[80];
    const int32_t bad = 40;

    if (!device) skip();
    for (uint32_t i = 0; i < COUNT(clean); i++) hit[i] = clean[i] = (int32_t)(i * 7 % 40);
    hit[70] = bad;
    eyrie_request healthy = { .tokens = clean, .n_tokens = COUNT(clean), .max_tokens = 6, .flags = EYRIE_IGNORE_EOS };
    eyrie_request ill = healthy;
    ill.tokens = hit;
    for (size_t i = 0; i < COUNT(damages); i++) {
        bool busy = true;
        eyrie_model *m;
        write_damaged(*state, bad, damages[i]);
        assert_ok(eyrie_model_open(&m, device, *state, &opts, &err));
        stage on = { m, open_engine(m), { .file = NULL } };
        run_alone(on.engine, healthy, &want);
        for (uint32_t k = 0; k < want.n; k++) assert_int_not_equal(want.ids[k], bad);

        eyrie_seq *first = open_seq(on.engine), *second = open_seq(on.engine), *fork = first;
        submit(first, ill, &h);
        submit(second, healthy, &beside);
        assert_fails(eyrie_engine_step(on.engine, &busy, &err), EYRIE_ENUMERIC, "not finite");
        assert_true(busy);
        assert_true(h.over && h.end == EYRIE_END_FAILED && h.status == EYRIE_ENUMERIC);
        run_to_end(on.engine);
        assert_same("beside the damage", &beside, &want);
        healthy.struct_size = sizeof healthy;
        assert_fails(eyrie_seq_submit(first, &healthy, &err), EYRIE_EINVAL, "failed");  /* it can only be closed */
        assert_fails(eyrie_seq_fork(&fork, first, &err), EYRIE_EINVAL, "failed");
        assert_null(fork);
        eyrie_seq *third = open_seq(on.engine);             /* the failed one's slot is free, and clean */
        submit(third, healthy, &h);
        run_to_end(on.engine);
        assert_same("in the slot of the damaged", &h, &want);

        ill.flags |= EYRIE_SCORE;                           /* scored, it fails before a wrong score is told */
        assert_ok(eyrie_seq_close(third));
        submit(third = open_seq(on.engine), ill, &h);
        assert_fails(eyrie_engine_step(on.engine, &busy, &err), EYRIE_ENUMERIC, "not finite");
        assert_false(busy);
        assert_int_equal(h.n_scores, 0);
        ill.flags = healthy.flags;
        assert_ok(eyrie_seq_close(first));
        assert_ok(eyrie_seq_close(second));
        assert_ok(eyrie_seq_close(third));
        close_stage(&on);
    }
}

/* ------------------------------------------------------------------------------------------------------------ text */

/* The text of the events, one after the other, is what decoding all tokens gives after what decoding the prompt gives;
 * and it is UTF-8, although hot samples of a vocabulary with 256 single bytes mostly are not. */
static void text_streams_as_it_decodes(void **state)
{
    static const float temperatures[] = { 0.7f, 2.0f, 50.0f };
    static const char *const prompts[] = { "ROMEO:\n", "", "JULIET" };
    static char whole[8192];
    static heard h;
    stage on = open_stage(SHAKESPEARE, (eyrie_model_opts){ .slots = 1 });
    size_t replaced = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(temperatures); i++)
        for (size_t k = 0; k < COUNT(prompts); k++) {
            int32_t ids[300];
            size_t n, before, length;
            assert_ok(eyrie_encode(on.model, prompts[k], strlen(prompts[k]), ids, COUNT(ids), &n, &err));
            run_alone(on.engine, (eyrie_request){ .tokens = ids, .n_tokens = n, .max_tokens = 60, .seed = k,
                                                  .temperature = temperatures[i], .flags = EYRIE_IGNORE_EOS }, &h);
            assert_ok(eyrie_decode(on.model, ids, n, whole, sizeof whole, &before, &err));
            assert_int_equal(before, strlen(prompts[k]));
            memcpy(ids + n, h.ids, h.n * sizeof *ids);
            assert_ok(eyrie_decode(on.model, ids, n + h.n, whole, sizeof whole, &length, &err));
            if (h.text_length != length - before || memcmp(h.text, whole + before, h.text_length))
                fail_msg("after \"%s\" at temperature %g: streamed \"%.*s\", decoded \"%.*s\"", prompts[k],
                         (double)temperatures[i], (int)h.text_length, h.text, (int)(length - before), whole + before);
            assert_int_equal(ey_utf8_check(h.text, h.text_length), h.text_length);
            for (size_t at = 0; at + 3 <= h.text_length; at++) replaced += !memcmp(h.text + at, "\xef\xbf\xbd", 3);
        }
    assert_in_range(replaced, 5, SIZE_MAX);                 /* else this has not seen what it was made for */
    close_stage(&on);
}

/* --------------------------------------------------------------------------------------------------------- callbacks */

/* A chain of requests that is kept going from inside its events. */
typedef struct chain {
    eyrie_engine *engine;
    eyrie_request request;
    heard         first, second, opened;
    eyrie_seq    *other;
    bool          refused;
} chain;

static void submit_from_end(void *user, eyrie_seq *s, const eyrie_event *event)
{
    chain *c = user;

    hear(&c->first, s, event);
    if (event->kind == EYRIE_EVENT_TOKEN) {
        eyrie_request r = c->request;
        r.struct_size = sizeof r;
        c->refused = eyrie_seq_submit(s, &r, NULL) == EYRIE_EBUSY;
        return;
    }
    submit(s, c->request, &c->second);
    submit(c->other = open_seq(c->engine), c->request, &c->opened);
}

static void events_may_submit_and_open(void **state)
{
    static heard first, second;
    static chain c;
    stage on = open_stage(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 3 });
    eyrie_request r = { .struct_size = sizeof r, .tokens = on.text.tokens, .n_tokens = 10, .max_tokens = 4,
                        .flags = EYRIE_IGNORE_EOS };
    eyrie_seq *s = open_seq(on.engine);

    (void)state;
    submit(s, r, &first);
    run_to_end(on.engine);
    submit(s, r, &second);
    run_to_end(on.engine);
    assert_ok(eyrie_seq_close(s));

    c = (chain){ .engine = on.engine, .request = r };
    r.on_event = submit_from_end;
    r.user = &c;
    assert_ok(eyrie_seq_submit(s = open_seq(on.engine), &r, &err));
    run_to_end(on.engine);
    assert_true(c.refused);
    assert_same("first of a chain", &c.first, &first);
    assert_same("second of a chain", &c.second, &second);
    assert_same("opened by a chain", &c.opened, &first);
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_seq_close(c.other));
    close_stage(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_leaves_no_trace),          cmocka_unit_test(more_sequences_than_rows),
        cmocka_unit_test(closing_in_the_middle),            cmocka_unit_test(generation_in_two_requests),
        cmocka_unit_test(samples_are_independent),
        cmocka_unit_test(goldens_are_scored_and_continued), cmocka_unit_test(several_requests_are_one_text),
        cmocka_unit_test(requests_after_generations),       cmocka_unit_test(forks_go_on),
        cmocka_unit_test(fork_of_an_empty_sequence),        cmocka_unit_test(end_of_text),
        cmocka_unit_test(lengths),                          cmocka_unit_test(context_is_a_bound),
        cmocka_unit_test(requests_that_make_no_sense),      cmocka_unit_test(one_request_at_a_time),
        cmocka_unit_test(idle_sequences_hold_all_slots),    cmocka_unit_test(structs_of_an_older_header),
        cmocka_unit_test(statistics),                       test_in_dir(numbers_that_are_not_finite),
        cmocka_unit_test(text_streams_as_it_decodes),       cmocka_unit_test(events_may_submit_and_open),
    };

    return cmocka_run_group_tests_name("engine", tests, open_device, close_device);
}
