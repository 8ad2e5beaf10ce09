/* test_serving.c - many sequences at once: whatever the policy, the company, the size of parts, and whatever is cancelled or
 * fails meanwhile, texts are what they are alone, no token is lost or comes twice, and no slot is lost. */
#include "dice.h"
#include "table.h"

#include <math.h>

/* ----------------------------------------------------------------------------------------------------------- texts */

/* Requests with what they say when they are alone. */
enum { TEXTS = 10, LONGEST = 400, MOST_TOKENS = 24 };
typedef struct text {
    int32_t       tokens[LONGEST];
    eyrie_request request;
    heard         alone;
} text;
static text texts[TEXTS];

static void make_texts(const char *name, eyrie_model_opts opts, uint64_t seed)
{
    opts.slots = 1;
    table t = open_table(TOGETHER, name, opts, (eyrie_engine_opts){ .policy = "fifo" });
    uint32_t vocab = ey_model_get_limits(t.model).vocab;

    dice = seed;
    for (uint32_t i = 0; i < TEXTS; i++) {
        text *x = &texts[i];
        eyrie_seq *s = open_seq(t.engine);
        for (uint32_t k = 0; k < LONGEST; k++) x->tokens[k] = (int32_t)below(vocab);
        x->request = (eyrie_request){ .struct_size = sizeof x->request, .tokens = x->tokens, .flags = EYRIE_IGNORE_EOS,
                                      .n_tokens = one_in(3) ? between(130, LONGEST) : between(1, 70),
                                      .max_tokens = between(1, MOST_TOKENS),
                                      .temperature = one_in(2) ? 0.0f : 1.0f, .seed = roll(), .sample = below(4) };
        if (i == 1) x->request.flags |= EYRIE_SCORE;
        if (i == 2) x->request.max_tokens = 0;
        submit(s, x->request, &x->alone);
        run_to_end(t.engine);
        assert_true(x->alone.over && x->alone.end == EYRIE_END_LENGTH);
        assert_ok(eyrie_seq_close(s));
    }
    close_table(&t);
}

/* ------------------------------------------------------------------------------------------------------ no trace */

/* All texts come at random times with random priorities; each is closed when it is over. */
static void serve_all(const char *what, eyrie_engine *e)
{
    static heard got[TEXTS];
    eyrie_seq *seqs[TEXTS] = { NULL };
    uint32_t came = 0, left = TEXTS, first = below(TEXTS);

    for (uint32_t step = 0; left > 0; step++) {
        bool busy;
        assert_in_range(step, 0, 20000);
        while (came < TEXTS && (one_in(4) || came == TEXTS - left)) {
            uint32_t i = (first + came++) % TEXTS;
            eyrie_request r = texts[i].request;
            r.priority = (int32_t)below(3) - 1;
            submit(seqs[i] = open_seq(e), r, &got[i]);
        }
        assert_ok(eyrie_engine_step(e, &busy, &err));
        for (uint32_t i = 0; i < TEXTS; i++) {
            if (!seqs[i] || !got[i].over) continue;
            assert_same(what, &got[i], &texts[i].alone);
            assert_ok(eyrie_seq_close(seqs[i]));
            seqs[i] = NULL;
            left--;
        }
    }
}

static void policies_leave_no_trace(void **state)
{
    static const struct { const char *name; eyrie_compute compute; } models[] = {
        { GOLDEN("griffin"), EYRIE_COMPUTE_AUTO }, { GOLDEN("griffin-odd"), EYRIE_COMPUTE_F32 }, { GOLDEN("gqa"), EYRIE_COMPUTE_F32 },
        { SHAKESPEARE, EYRIE_COMPUTE_AUTO },
    };
    static const char *const policies[] = { "fifo", "chunked", "roofline", NULL };
    /* s; one that nobody keeps, with parts of one layer; one for some layers; one for whole steps */
    static const double intervals[] = { 0, 1e-9, 2e-3, 10 };
    static const uint32_t chunks[][2] = { { 256, 64 }, { 256, 128 }, { 50, 50 } };     /* alone, and in company */

    (void)state;
    for (size_t m = 0; m < COUNT(models); m++)
        for (size_t c = 0; c < COUNT(chunks); c++) {
            eyrie_model_opts opts = { .compute = models[m].compute, .chunk = chunks[c][0] };
            make_texts(models[m].name, opts, 3 * m + c);
            opts.chunk = chunks[c][1];
            opts.slots = 1 + (uint32_t)c * 3;
            for (size_t p = 0; p < COUNT(policies); p++) {
                eyrie_engine_opts how = { .policy = policies[p], .token_interval = intervals[below(COUNT(intervals))],
                                          .prefix_memory = p % 2 << 20 };
                way lanes = (way)((m + c + p) % WAYS);
                table t = open_table(lanes, models[m].name, opts, how);
                char what[160];
                snprintf(what, sizeof what, "%s, chunk %u, %s, %g s, %s", models[m].name, (unsigned)opts.chunk,
                         policies[p] ? policies[p] : "default", how.token_interval, ways[lanes]);
                serve_all(what, t.engine);
                if (how.prefix_memory) serve_all(what, t.engine);       /* now it has their prompts */
                close_table(&t);
            }
        }
}

/* ------------------------------------------------------------------------------------------------------ adversity */

/* A text that is being generated, perhaps in several requests, since they are cancelled and submitted again. */
typedef struct guest {
    eyrie_seq *seq;         /* NULL: the chair is free */
    uint32_t   text;
    uint32_t   n, n_ends;   /* tokens heard in all; END events of the current request */
    uint64_t   left;        /* tokens to come of the current request */
    eyrie_end  end;
    bool       cancel;      /* from its next event */
    uint32_t   requests;
} guest;

enum { CHAIRS = 7 };
static guest guests[CHAIRS];

static void hear_guest(void *user, eyrie_seq *s, const eyrie_event *e)
{
    guest *g = user;
    const heard *alone = &texts[g->text].alone;

    assert_ptr_equal(s, g->seq);
    assert_int_equal(g->n_ends, 0);
    if (e->kind == EYRIE_EVENT_TOKEN) {
        assert_in_range(g->n, 0, alone->n - 1);
        assert_int_equal(e->token, alone->ids[g->n]);       /* none lost, none twice */
        assert_memory_equal(&e->logprob, &alone->logprobs[g->n], sizeof e->logprob);
        assert_int_equal(e->position, texts[g->text].request.n_tokens + g->n);
        g->n++;
    } else if (e->kind == EYRIE_EVENT_END) {
        g->n_ends++;
        g->end = e->end;
    }
    if (g->cancel && e->kind != EYRIE_EVENT_END) {
        g->cancel = false;
        assert_ok(eyrie_seq_cancel(s, &err));
    }
}

static void sit_down(eyrie_engine *e, guest *g)
{
    *g = (guest){ .seq = open_seq(e), .text = below(TEXTS) };
    eyrie_request r = texts[g->text].request;
    r.on_event = hear_guest;
    r.user = g;
    r.priority = (int32_t)below(5) - 2;
    assert_ok(eyrie_seq_submit(g->seq, &r, &err));
}

/* The rest of a text whose request was cancelled. */
static void go_on(guest *g)
{
    eyrie_request r = texts[g->text].request;

    r.max_tokens -= g->n;
    r.tokens = NULL;
    r.n_tokens = 0;
    r.on_event = hear_guest;
    r.user = g;
    g->n_ends = 0;
    g->requests++;
    assert_ok(eyrie_seq_submit(g->seq, &r, &err));
}

static void leave(guest *g)
{
    assert_ok(eyrie_seq_close(g->seq));
    *g = (guest){ .seq = NULL };
}

static uint32_t calls_left;

static cl_int fail_one_call(const char *call)
{
    (void)call;
    return calls_left-- == 0 ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

static uint32_t failed, resumed, finished;      /* requests */

/* What becomes of a guest after a step. */
static void look_after(guest *g)
{
    const heard *alone = &texts[g->text].alone;

    if (!g->seq) return;
    if (g->n_ends == 0) {
        if (one_in(60)) leave(g);               /* in the middle of whatever it does */
        else if (one_in(40)) g->cancel = true;
        else if (one_in(40)) assert_ok(eyrie_seq_cancel(g->seq, &err));
    }
    if (!g->seq || g->n_ends == 0) return;
    assert_int_equal(g->n_ends, 1);
    if (g->end == EYRIE_END_CANCELLED && g->n < alone->n && one_in(2)) {
        resumed++;
        go_on(g);
        return;
    }
    if (g->end == EYRIE_END_LENGTH) {
        assert_int_equal(g->n, alone->n);
        finished++;
    }
    failed += g->end == EYRIE_END_FAILED;
    assert_ok(eyrie_seq_cancel(g->seq, &err));  /* of one that is over: nothing */
    assert_int_equal(g->n_ends, 1);
    leave(g);
}

static void check_usable(table *t)
{
    static heard got;

    for (uint32_t i = 0; i < TEXTS; i++) {
        eyrie_seq *s = open_seq(t->engine);
        submit(s, texts[i].request, &got);
        run_to_end(t->engine);
        assert_same("afterwards", &got, &texts[i].alone);
        assert_ok(eyrie_seq_close(s));
    }
}

static void serve_in_adversity(table *t, uint32_t n)
{
    uint32_t came = 0, here = 0;

    for (uint32_t step = 0; came < n || here > 0; step++) {
        bool busy, fails = one_in(25);
        assert_in_range(step, 0, 100 * n);
        for (uint32_t i = 0; i < CHAIRS && came < n; i++)
            if (!guests[i].seq && one_in(3)) {
                sit_down(t->engine, &guests[i]);
                came++;
            }
        if (fails) {
            calls_left = one_in(3) ? below(1000) : below(20);
            ey_cl_hook = fail_one_call;
        }
        eyrie_status st = eyrie_engine_step(t->engine, &busy, &err);
        ey_cl_hook = NULL;
        if (st != EYRIE_OK && !fails) fail_msg("%s", err.text);
        here = 0;
        for (uint32_t i = 0; i < CHAIRS; i++) {
            look_after(&guests[i]);
            here += guests[i].seq != NULL;
        }
    }
    bool busy = true;
    assert_ok(eyrie_engine_step(t->engine, &busy, &err));
    assert_false(busy);
}

static void nothing_is_lost_in_adversity(void **state)
{
    static const struct { const char *name, *policy; double interval; uint32_t slots, chunk; way lanes; } cases[] = {
        { GOLDEN("griffin"), "roofline", 1e-9, 3, 128, TOGETHER }, { GOLDEN("mha-spelling"), "chunked", 1e-3, 2, 64, TOGETHER },
        { GOLDEN("hawk-narrow"), "fifo", 0, 4, 64, TOGETHER },     { GOLDEN("griffin"), NULL, 0, 7, 256, TOGETHER },
        { GOLDEN("griffin"), NULL, 0, 3, 128, HALVES },            { GOLDEN("gqa"), NULL, 0, 5, 64, TURNS },
        { GOLDEN("hawk-narrow"), NULL, 0, 2, 64, STRANGERS },
    };

    (void)state;
    if (!device) skip();
    failed = resumed = finished = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_model_opts opts = { .compute = EYRIE_COMPUTE_F32, .chunk = cases[i].chunk };
        make_texts(cases[i].name, opts, 100 + i);
        opts.slots = cases[i].slots;
        table t = open_table(cases[i].lanes, cases[i].name, opts,
                             (eyrie_engine_opts){ .policy = cases[i].policy, .token_interval = cases[i].interval,
                                                  .prefix_memory = i % 2 << 20, .prefix_spacing = i % 2 ? 64 : 0 });
        serve_in_adversity(&t, 100);
        check_usable(&t);
        assert_true((stats_of(t.engine).prefix_hits > 20) == (i % 2));
        close_table(&t);
    }
    assert_in_range(failed, 10, 500);           /* it was adverse, and not too much so */
    assert_in_range(resumed, 10, 500);
    assert_in_range(finished, 50, 500);
}

/* ---------------------------------------------------------------------------------------------------- what is chosen */

/* Who comes later and is more urgent is read first, and has its text first. */
static void urgent_requests_go_first(void **state)
{
    static const char *const policies[] = { "fifo", "chunked", "roofline" };
    static heard first, second;

    (void)state;
    if (!device) skip();
    make_texts(GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64 }, 9);
    for (size_t i = 0; i < COUNT(policies); i++)
        for (int32_t priority = -1; priority <= 1; priority++) {
            table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1, .chunk = 64 },
                                 (eyrie_engine_opts){ .policy = policies[i] });
            eyrie_request r = { .tokens = texts[0].tokens, .n_tokens = 64, .max_tokens = 2, .flags = EYRIE_IGNORE_EOS };
            eyrie_seq *a = open_seq(t.engine), *b = open_seq(t.engine);
            bool busy = true;
            submit(a, r, &first);
            r.priority = priority;
            submit(b, r, &second);
            while (!first.over && !second.over) assert_ok(eyrie_engine_step(t.engine, &busy, &err));
            assert_true(second.over == (priority > 0) && first.over == (priority <= 0));
            assert_ok(eyrie_seq_close(first.over ? a : b));
            run_to_end(t.engine);                   /* the other one has waited for its slot */
            assert_true(first.over && second.over);
            assert_same("later", &first, &second);
            assert_ok(eyrie_seq_close(priority > 0 ? a : b));
            close_table(&t);
        }
}

/* Costs are learnt from steps, and the next engine on the device knows them. */
static void what_was_learnt_is_kept(void **state)
{
    static heard h;
    const eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE"), .cache_dir = *state };
    const eyrie_model_opts how = { .struct_size = sizeof how, .slots = 2, .chunk = 64 };
    const ey_load decode[2] = { { 80, 1, 1 }, { 90, 1, 1 } }, prefill = { 0, 64, 1 };
    double guessed[2], learnt[2], known[2];
    int32_t tokens[64] = { 0 };
    eyrie_device *dev;
    eyrie_model *m;
    eyrie_engine *e;

    if (!device) skip();
    assert_ok(eyrie_device_open(&dev, &opts, &err));
    assert_ok(eyrie_model_open(&m, dev, source_path(GOLDEN("griffin")), &how, &err));
    assert_ok(eyrie_engine_open(&e, m, NULL, &err));
    guessed[0] = ey_cost_seconds(e->costs, EY_DECODE, decode, 2);
    guessed[1] = ey_cost_seconds(e->costs, EY_PREFILL, &prefill, 1);
    for (uint32_t i = 0; i < 12; i++) {
        eyrie_seq *s = open_seq(e);
        submit(s, (eyrie_request){ .tokens = tokens, .n_tokens = 64, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS }, &h);
        run_to_end(e);
        assert_ok(eyrie_seq_close(s));
    }
    learnt[0] = ey_cost_seconds(e->costs, EY_DECODE, decode, 2);
    learnt[1] = ey_cost_seconds(e->costs, EY_PREFILL, &prefill, 1);
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_engine_open(&e, m, NULL, &err));
    known[0] = ey_cost_seconds(e->costs, EY_DECODE, decode, 2);
    known[1] = ey_cost_seconds(e->costs, EY_PREFILL, &prefill, 1);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(learnt[i] > 0 && learnt[i] != guessed[i]);
        assert_true(fabs(known[i] - learnt[i]) <= 1e-5 * learnt[i]);    /* kept in single precision */
    }
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
    assert_ok(eyrie_device_close(dev));
}

/* ---------------------------------------------------------------------------------------------- in the middle of a step */

/* Somebody decodes, so that with an interval that nobody keeps prompts are read a layer at a time: after `parts` more steps
 * of the engine the guest is in the middle of one. */
static void begin_in_parts(eyrie_engine *e, eyrie_seq *decoder, heard *d, eyrie_seq *s, heard *h, eyrie_request r, uint32_t parts)
{
    bool busy;

    submit(decoder, (eyrie_request){ .tokens = texts[0].tokens, .n_tokens = 3, .max_tokens = 200, .flags = EYRIE_IGNORE_EOS }, d);
    while (d->n == 0) assert_ok(eyrie_engine_step(e, &busy, &err));
    submit(s, r, h);
    for (uint32_t i = 0; i < parts; i++) assert_ok(eyrie_engine_step(e, &busy, &err));
}

/* Closed or cancelled while the step is under way, then gone on with, and in a fork: as if between two steps. */
static void under_way(void **state)
{
    static heard decoded, want, got, rest, forked;
    eyrie_model_opts opts = { .compute = EYRIE_COMPUTE_F32, .chunk = 64 };
    eyrie_request r;
    uint32_t met = 0;

    (void)state;
    make_texts(GOLDEN("griffin"), opts, 7);
    opts.slots = 3;
    table t = open_table(TOGETHER, GOLDEN("griffin"), opts, (eyrie_engine_opts){ .token_interval = 1e-9 });
    r = texts[0].request;
    r.n_tokens = 150;
    r.max_tokens = 10;
    eyrie_seq *s = open_seq(t.engine), *decoder, *fork;
    submit(s, r, &want);
    run_to_end(t.engine);
    assert_ok(eyrie_seq_close(s));

    for (uint32_t parts = 1; parts < 24; parts++)
        for (uint32_t what = 0; what < 2; what++) {
            begin_in_parts(t.engine, decoder = open_seq(t.engine), &decoded, s = open_seq(t.engine), &got, r, parts);
            met += s->under_way;
            if (what == 0) {
                assert_ok(eyrie_seq_close(s));
            } else {
                bool busy = true, waits = s->under_way;
                assert_ok(eyrie_seq_cancel(s, &err));
                assert_true(got.over == !waits);
                assert_ok(eyrie_seq_cancel(s, &err));       /* no more than once */
                while (!got.over) assert_ok(eyrie_engine_step(t.engine, &busy, &err));
                assert_true(busy && got.end == EYRIE_END_CANCELLED);
                assert_int_equal(eyrie_seq_position(s) + eyrie_seq_pending(s, NULL), 150 + got.n);
                assert_ok(eyrie_seq_fork(&fork, s, &err));
                eyrie_request more = r;
                more.n_tokens = 0;
                more.max_tokens -= got.n;
                submit(s, more, &rest);
                submit(fork, more, &forked);
            }
            run_to_end(t.engine);
            if (what > 0) {
                assert_memory_equal(got.ids, want.ids, got.n * sizeof *got.ids);
                assert_memory_equal(rest.ids, want.ids + got.n, (10 - got.n) * sizeof *got.ids);
                assert_same("forked", &forked, &rest);
                assert_ok(eyrie_seq_close(s));
                assert_ok(eyrie_seq_close(fork));
            }
            assert_ok(eyrie_seq_close(decoder));
            assert_int_equal(decoded.n, 200);
        }
    assert_in_range(met, 20, 46);
    close_table(&t);
}

/* -------------------------------------------------------------------------------------------------- kept logits */

/* One prompt, read once, sampled n times: as n requests with the prompt would be. More samples than slots: one after the other. */
static void sample_n_times(way lanes)
{
    enum { N = 16, PROMPT = 100 };
    static heard want[N], got[N], read;
    eyrie_request r = { .n_tokens = PROMPT, .max_tokens = 12, .temperature = 1.2f, .seed = 5, .flags = EYRIE_IGNORE_EOS };
    table t = open_table(lanes, SHAKESPEARE, (eyrie_model_opts){ .slots = 4, .chunk = 64 }, (eyrie_engine_opts){ 0 });
    eyrie_seq *trunk, *s[N];

    make_texts(SHAKESPEARE, (eyrie_model_opts){ .chunk = 64 }, 1);
    r.tokens = texts[0].tokens;
    for (uint32_t i = 0; i < N; i++) {
        r.sample = i;
        if (i == 5) r.temperature = 1000;               /* needs more than the candidates */
        else r.temperature = 1.2f;
        submit(s[0] = open_seq(t.engine), r, &want[i]);
        run_to_end(t.engine);
        assert_ok(eyrie_seq_close(s[0]));
    }
    uint64_t before = stats_of(t.engine).prefill_tokens;

    trunk = open_seq(t.engine);
    submit(trunk, (eyrie_request){ .tokens = r.tokens, .n_tokens = PROMPT, .flags = EYRIE_KEEP_LOGITS }, &read);
    run_to_end(t.engine);
    assert_true(read.over && read.end == EYRIE_END_LENGTH && read.n == 0);
    r.n_tokens = 0;
    for (uint32_t from = 0; from < N; from += 3) {
        uint32_t to = (uint32_t)ey_min(from + 3, N);
        for (uint32_t i = from; i < to; i++) {
            r.sample = i;
            r.temperature = i == 5 ? 1000 : 1.2f;
            if (i + 1 < N) assert_ok(eyrie_seq_fork(&s[i], trunk, &err));
            else s[i] = trunk;                          /* the last may use the prompt up */
            submit(s[i], r, &got[i]);
        }
        run_to_end(t.engine);
        for (uint32_t i = from; i < to; i++) {
            assert_same("sample", &got[i], &want[i]);
            assert_ok(eyrie_seq_close(s[i]));
        }
    }
    assert_int_equal(stats_of(t.engine).prefill_tokens, before + PROMPT);
    assert_int_equal(stats_of(t.engine).reused_tokens, (N - 1) * PROMPT);
    assert_memory_not_equal(got[0].ids, got[1].ids, 12 * sizeof *got[0].ids);
    close_table(&t);
}

static void best_of_n(void **state)
{
    (void)state;
    sample_n_times(TOGETHER);
    sample_n_times(HALVES);
}

/* Continuations scored from one prompt have the probabilities that they have after it in one text, the first token's too. */
static void continuations_are_scored(void **state)
{
    static heard whole, read, got;
    const uint32_t prompt = 128, lengths[] = { 1, 5, 70 };      /* a cut that leaves no trace */
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .slots = 2, .chunk = 64, .compute = EYRIE_COMPUTE_F32 },
                         (eyrie_engine_opts){ 0 });
    eyrie_seq *trunk = open_seq(t.engine), *s;

    (void)state;
    make_texts(GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64 }, 2);
    int32_t *tokens = texts[0].tokens;
    submit(trunk, (eyrie_request){ .tokens = tokens, .n_tokens = prompt, .flags = EYRIE_KEEP_LOGITS }, &read);
    run_to_end(t.engine);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        for (uint32_t k = 0; k < lengths[i]; k++) tokens[prompt + k] = texts[1 + i].tokens[k];
        submit(s = open_seq(t.engine),
               (eyrie_request){ .tokens = tokens, .n_tokens = prompt + lengths[i], .flags = EYRIE_SCORE }, &whole);
        run_to_end(t.engine);
        assert_ok(eyrie_seq_close(s));
        assert_ok(eyrie_seq_fork(&s, trunk, &err));
        submit(s, (eyrie_request){ .tokens = tokens + prompt, .n_tokens = lengths[i], .flags = EYRIE_SCORE }, &got);
        run_to_end(t.engine);
        assert_ok(eyrie_seq_close(s));
        assert_int_equal(got.n_scores, lengths[i]);
        assert_memory_equal(got.scores, whole.scores + prompt, lengths[i] * sizeof *got.scores);
    }
    assert_ok(eyrie_seq_close(trunk));
    close_table(&t);
}

/* What is kept is kept until it is used, whatever is tried meanwhile. */
static void keeping(void **state)
{
    static heard want, got;
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .slots = 2, .chunk = 64 }, (eyrie_engine_opts){ 0 });
    int32_t tokens[] = { 3, 1, 4, 1, 5 };
    eyrie_request read = { .struct_size = sizeof read, .tokens = tokens, .n_tokens = 5, .flags = EYRIE_KEEP_LOGITS };
    eyrie_request generate = { .struct_size = sizeof read, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS };
    eyrie_seq *s = open_seq(t.engine);
    bool busy;

    (void)state;
    submit(s, (eyrie_request){ .tokens = tokens, .n_tokens = 5, .max_tokens = 4, .flags = EYRIE_IGNORE_EOS }, &want);
    run_to_end(t.engine);
    assert_ok(eyrie_seq_close(s));

    s = open_seq(t.engine);
    read.max_tokens = 1;
    assert_fails(eyrie_seq_submit(s, &read, &err), EYRIE_EINVAL, "EYRIE_KEEP_LOGITS needs max_tokens 0, not 1");
    read.max_tokens = 0;
    submit(s, read, &got);
    run_to_end(t.engine);
    generate.max_tokens = 0;
    assert_fails(eyrie_seq_submit(s, &generate, &err), EYRIE_EINVAL, "no tokens");
    generate.max_tokens = 4;
    submit(s, generate, &got);
    assert_ok(eyrie_seq_cancel(s, &err));                   /* before anything happened */
    assert_true(got.over && got.n == 0);
    submit(s, generate, &got);
    assert_ok(eyrie_engine_step(t.engine, &busy, &err));    /* the first token needs no step of the device */
    assert_in_range(got.n, 1, 2);
    run_to_end(t.engine);
    assert_same("from kept logits", &got, &want);
    assert_ok(eyrie_seq_close(s));

    submit(s = open_seq(t.engine), read, &got);             /* and where a prompt follows after all, they are let go */
    run_to_end(t.engine);
    submit(s, (eyrie_request){ .tokens = tokens, .n_tokens = 1, .max_tokens = 2, .flags = EYRIE_IGNORE_EOS }, &got);
    run_to_end(t.engine);
    assert_int_equal(got.n, 2);
    assert_int_equal(eyrie_seq_position(s), 7);
    assert_ok(eyrie_seq_close(s));
    close_table(&t);
}

/* Each allocation of reading with kept logits, forking and generating from them: what fails says so, and nothing is left. */
static void keeping_without_memory(void **state)
{
    static heard want, h[2];
    int32_t tokens[] = { 3, 1, 4, 1, 5 };
    eyrie_request read = { .struct_size = sizeof read, .tokens = tokens, .n_tokens = 5, .flags = EYRIE_KEEP_LOGITS };
    eyrie_request generate = { .struct_size = sizeof read, .max_tokens = 3, .temperature = 1000, .flags = EYRIE_IGNORE_EOS };
    table t = open_table(TOGETHER, SHAKESPEARE, (eyrie_model_opts){ .slots = 2, .chunk = 64 }, (eyrie_engine_opts){ 0 });
    size_t n = SIZE_MAX;                            /* at first, none fails */

    (void)state;
    for (bool lacking = true; lacking; n++) {
        eyrie_seq *s = open_seq(t.engine), *fork = NULL;
        uint32_t refused = 0;
        bool busy = true;
        h[0] = h[1] = (heard){ 0 };
        read.on_event = generate.on_event = hear;
        read.user = &h[0];
        generate.user = &h[1];
        fail_allocation(n);
        refused += eyrie_seq_submit(s, &read, &err) != EYRIE_OK;
        while (busy) refused += eyrie_engine_step(t.engine, &busy, &err) != EYRIE_OK;
        if (!refused) refused += eyrie_seq_fork(&fork, s, &err) != EYRIE_OK;
        if (!refused) refused += eyrie_seq_submit(fork, &generate, &err) != EYRIE_OK;
        for (busy = true; busy;) refused += eyrie_engine_step(t.engine, &busy, &err) != EYRIE_OK;
        lacking = allocation_failed() || n == SIZE_MAX;
        assert_int_equal(refused, lacking && n != SIZE_MAX);
        if (refused) assert_int_equal(err.status, EYRIE_ENOMEM);
        else if (n == SIZE_MAX) want = h[1];
        else assert_same("generated", &h[1], &want);
        assert_ok(eyrie_seq_close(fork));
        assert_ok(eyrie_seq_close(s));
    }
    assert_in_range(n, 8, 100);
    close_table(&t);
}

/* ------------------------------------------------------------------------------------------------------- bad input */

static void wrong_options(void **state)
{
    static const struct { eyrie_engine_opts opts; const char *says; } cases[] = {
        { { .policy = "lifo" }, "no scheduling policy \"lifo\"; there are roofline, chunked, fifo" },
        { { .policy = "" }, "no scheduling policy \"\"" },
        { { .token_interval = -1 }, "token_interval -1; it must be a number of seconds, 0 for the default" },
        { { .token_interval = NAN }, "token_interval" },
        { { .token_interval = INFINITY }, "token_interval inf" },
    };
    eyrie_model *m = open_model(GOLDEN("hawk"), (eyrie_model_opts){ .slots = 2 });
    eyrie_engine *e;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_engine_opts opts = cases[i].opts;
        opts.struct_size = sizeof opts;
        assert_fails(eyrie_engine_open(&e, m, &opts, &err), EYRIE_EINVAL, cases[i].says);
        assert_null(e);
    }
    eyrie_engine_opts older = { .struct_size = offsetof(eyrie_engine_opts, token_interval), .policy = "fifo", .token_interval = -1 };
    assert_ok(eyrie_engine_open(&e, m, &older, &err));      /* what it does not know is not looked at */
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

static void pairs_that_do_not_match(void **state)
{
    static const struct { const char *name; eyrie_model_opts opts; const char *says; } cases[] = {
        { GOLDEN("hawk"), { .slots = 3 }, "other model than the one that decodes" },
        { GOLDEN("griffin"), { .slots = 3, .kv = EYRIE_FORMAT_F32 }, "other keys and values than the one that decodes: f32, not f16" },
        { GOLDEN("griffin"), { .slots = 3, .context = 7 }, "attention window" },
        { GOLDEN("griffin"), { .slots = 3, .context = 5000 }, "a context of 5000, the one that decodes of 0" },
        { GOLDEN("griffin"), { .slots = 2 }, "has 2 slots, the one that decodes 3" },
    };
    eyrie_model *m = open_model(GOLDEN("griffin"), (eyrie_model_opts){ .slots = 3 });
    eyrie_engine_opts opts = { .struct_size = sizeof opts, .prefill = m };
    eyrie_engine *e;

    (void)state;
    assert_fails(eyrie_engine_open(&e, m, &opts, &err), EYRIE_EINVAL, "open it a second time");
    for (size_t i = 0; i < COUNT(cases); i++) {
        opts.prefill = open_model(cases[i].name, cases[i].opts);
        assert_fails(eyrie_engine_open(&e, m, &opts, &err), EYRIE_EINVAL, cases[i].says);
        assert_null(e);
        assert_ok(eyrie_model_close(opts.prefill));         /* nobody holds it */
    }
    assert_ok(eyrie_model_close(m));
}

static void requests_beyond_limits(void **state)
{
    static heard h;
    table t = open_table(TOGETHER, GOLDEN("hawk"), (eyrie_model_opts){ .slots = 1, .context = 20 }, (eyrie_engine_opts){ 0 });
    eyrie_request r = { .struct_size = sizeof r, .tokens = texts[0].tokens, .n_tokens = 21, .max_tokens = 1 };
    eyrie_seq *s = open_seq(t.engine);

    (void)state;
    memset(texts[0].tokens, 0, sizeof texts[0].tokens);
    assert_fails(eyrie_seq_submit(s, &r, &err), EYRIE_ELIMIT, "more than the context of 20");
    r.n_tokens = 3;
    r.max_tokens = UINT64_MAX;
    r.flags = EYRIE_IGNORE_EOS;
    r.priority = INT32_MIN;
    submit(s, r, &h);
    run_to_end(t.engine);
    assert_int_equal(h.end, EYRIE_END_CONTEXT);
    assert_ok(eyrie_seq_cancel(s, &err));
    assert_ok(eyrie_seq_close(s));
    close_table(&t);
}

/* A bound that cannot be kept is said once, with what can. */
static char said[1024];
static uint32_t notes;

static void note(void *user, const char *line)
{
    (void)user;
    if (!strstr(line, "between tokens")) return;
    snprintf(said, sizeof said, "%s", line);
    notes++;
}

static void a_bound_that_cannot_be_kept(void **state)
{
    static heard h;
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .slots = 1, .chunk = 64 },
                         (eyrie_engine_opts){ .token_interval = 1e-9 });
    double asked, best;

    (void)state;
    device->log = (ey_log){ note, NULL };
    for (uint32_t i = 0; i < 3; i++) {
        eyrie_seq *s = open_seq(t.engine);
        submit(s, (eyrie_request){ .tokens = texts[0].tokens, .n_tokens = 5, .max_tokens = 30, .flags = EYRIE_IGNORE_EOS }, &h);
        run_to_end(t.engine);
        assert_ok(eyrie_seq_close(s));
    }
    device->log = (ey_log){ NULL, NULL };
    assert_int_equal(notes, 1);
    assert_int_equal(sscanf(said, "%lf ms between tokens cannot be kept while prompts are read: a decode step of 1 sequences and the "
                            "smallest part of a prompt take %lf ms", &asked, &best), 2);
    assert_true(asked == 1e-6 && best > asked && best < 1000);
    close_table(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_leave_no_trace),  cmocka_unit_test(nothing_is_lost_in_adversity),
        cmocka_unit_test(urgent_requests_go_first), test_in_dir(what_was_learnt_is_kept),
        cmocka_unit_test(under_way),                cmocka_unit_test(best_of_n),
        cmocka_unit_test(continuations_are_scored), cmocka_unit_test(keeping),
        cmocka_unit_test(keeping_without_memory),   cmocka_unit_test(wrong_options),
        cmocka_unit_test(pairs_that_do_not_match),  cmocka_unit_test(requests_beyond_limits),
        cmocka_unit_test(a_bound_that_cannot_be_kept),
    };

    return cmocka_run_group_tests_name("serving", tests, open_device, close_device);
}
