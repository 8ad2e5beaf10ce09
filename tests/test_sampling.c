/* test_sampling.c - what a request says about sampling, through eyrie.h and on a real model: seeds, samples, filters,
 * penalties, stop texts, and the command's options for them. The arithmetic of a single choice is test_sampler's. */
#include "testing.h"

#include "errors.h"

#include <math.h>
#include <sys/wait.h>

enum { MOST_TOKENS = 256, SLOTS = 8 };

static eyrie_device *device;
static eyrie_model  *model;
static eyrie_engine *engine;
static int32_t       prompt[64];        /* "ROMEO:\n" */
static size_t        prompt_length;
static uint32_t      vocab;

/* All that a request delivered. */
typedef struct heard {
    uint32_t  n;                        /* TOKEN events */
    int32_t   ids[MOST_TOKENS];
    float     logprobs[MOST_TOKENS];
    size_t    text_after[MOST_TOKENS];  /* bytes of text delivered up to and with each token */
    char      text[4096];               /* terminated */
    size_t    length;
    eyrie_end end;                      /* 0: not over */
} heard;

static void hear(void *user, eyrie_seq *seq, const eyrie_event *e)
{
    heard *h = user;

    (void)seq;
    assert_int_equal(h->end, 0);
    assert_in_range(h->length + e->text_length, 0, sizeof h->text - 1);
    memcpy(h->text + h->length, e->text, e->text_length);
    h->length += e->text_length;
    if (e->kind == EYRIE_EVENT_END) {
        h->end = e->end;
        return;
    }
    assert_int_equal(e->kind, EYRIE_EVENT_TOKEN);
    assert_in_range(h->n, 0, MOST_TOKENS - 1);
    h->ids[h->n] = e->token;
    h->logprobs[h->n] = e->logprob;
    h->text_after[h->n++] = h->length;
}

static eyrie_seq *open_seq(void)
{
    eyrie_seq *s;

    if (!model) skip();
    assert_ok(eyrie_seq_open(&s, engine, &err));
    return s;
}

static void run(void)
{
    for (bool busy = true; busy;) assert_ok(eyrie_engine_step(engine, &busy, &err));
}

/* `r` on the prompt; with n_tokens = SIZE_MAX, on nothing but the token generated last. */
static void submit(eyrie_seq *s, eyrie_request r, heard *h)
{
    *h = (heard){ 0 };
    r.struct_size = sizeof r;
    r.tokens = prompt;
    r.n_tokens = r.n_tokens == SIZE_MAX ? 0 : prompt_length;
    r.on_event = hear;
    r.user = h;
    assert_ok(eyrie_seq_submit(s, &r, &err));
}

/* Up to SLOTS requests, each on a sequence of its own, at the same time. */
static void generate(const eyrie_request *r, uint32_t n, heard *h)
{
    eyrie_seq *s[SLOTS];

    for (uint32_t i = 0; i < n; i++) submit(s[i] = open_seq(), r[i], &h[i]);
    run();
    for (uint32_t i = 0; i < n; i++) assert_ok(eyrie_seq_close(s[i]));
}

static void assert_same(const heard *a, const heard *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->text, b->text, a->length);
    assert_int_equal(a->end, b->end);
}

static uint32_t different_tokens(const heard *h)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        uint32_t k = 0;
        while (h->ids[k] != h->ids[i]) k++;
        n += k == i;
    }
    return n;
}

/* ---------------------------------------------------------------------------------------------------------- draws */

static void neighbours_do_not_matter(void **state)
{
    static const char *const stops[] = { "the" };
    eyrie_request r[SLOTS] = {
        { .max_tokens = 40, .temperature = 0.9f, .seed = 7, .top_k = 40, .top_p = 0.95f, .repetition_penalty = 1.1f },
        { .max_tokens = 50 },
        { .max_tokens = 30, .temperature = 1.5f, .seed = 7 },
        { .max_tokens = 40, .temperature = 0.9f, .seed = 8, .top_k = 40, .top_p = 0.95f, .repetition_penalty = 1.1f },
        { .max_tokens = 40, .temperature = 0.9f, .seed = 7, .sample = 1, .top_k = 40 },
        { .max_tokens = 40, .temperature = 1.0f, .presence_penalty = 1, .frequency_penalty = 1, .min_p = 0.1f },
        { .max_tokens = 40, .temperature = 1.0f, .stops = stops, .n_stops = 1 },
        { .max_tokens = 1, .temperature = 1.0f },
    };
    static heard alone[SLOTS], together[SLOTS], again[SLOTS];

    (void)state;
    generate(r, SLOTS, together);
    for (uint32_t i = 0; i < SLOTS; i++) generate(&r[i], 1, &alone[i]);
    for (uint32_t i = 0; i < SLOTS; i++) assert_same(&alone[i], &together[i]);
    for (uint32_t i = 0; i < SLOTS / 2; i++) {
        eyrie_request t = r[i];
        r[i] = r[SLOTS - 1 - i];
        r[SLOTS - 1 - i] = t;
    }
    generate(r, SLOTS, again);
    for (uint32_t i = 0; i < SLOTS; i++) assert_same(&alone[i], &again[SLOTS - 1 - i]);
}

static void seeds_and_samples_differ(void **state)
{
    eyrie_request r[SLOTS];
    static heard h[SLOTS];

    (void)state;
    for (uint32_t i = 0; i < SLOTS; i++)
        r[i] = (eyrie_request){ .max_tokens = 40, .temperature = 1.0f, .seed = i % 4, .sample = i / 4 };
    generate(r, SLOTS, h);
    for (uint32_t i = 0; i < SLOTS; i++)
        for (uint32_t k = 0; k < i; k++) assert_memory_not_equal(h[i].ids, h[k].ids, 40 * sizeof *h->ids);
}

/* Logits [vocab] after each token that is read, in turn. */
typedef struct reader {
    float *logits;      /* [tokens, vocab] */
    size_t n;
} reader;

static void keep_logits(void *user, eyrie_seq *seq, const eyrie_event *e)
{
    reader *r = user;

    (void)seq;
    if (e->kind == EYRIE_EVENT_SCORE) memcpy(r->logits + r->n++ * vocab, e->logits, vocab * sizeof *r->logits);
}

/* Logits after each of the n tokens; the caller frees. */
static float *read_logits(const int32_t *tokens, size_t n)
{
    reader reads = { .logits = malloc(n * vocab * sizeof(float)) };
    eyrie_request r = { .struct_size = sizeof r, .tokens = tokens, .n_tokens = n, .flags = EYRIE_SCORE | EYRIE_LOGITS,
                        .on_event = keep_logits, .user = &reads };
    eyrie_seq *s = open_seq();

    assert_non_null(reads.logits);
    assert_ok(eyrie_seq_submit(s, &r, &err));
    run();
    assert_int_equal(reads.n, n);
    assert_ok(eyrie_seq_close(s));
    return reads.logits;
}

static bool is_in(int32_t id, const int32_t *ids, size_t n)
{
    while (n > 0 && ids[n - 1] != id) n--;
    return n > 0;
}

/* The first token after a prompt, two thousand times, against the probabilities that the header promises, worked out
 * from the model's logits. */
static void tokens_are_as_frequent_as_promised(void **state)
{
    enum { DRAWS = 2000, KEPT = 24 };
    const eyrie_request how = { .max_tokens = 1, .temperature = 1.3f, .top_k = KEPT, .top_p = 0.93f, .min_p = 0.03f,
                                .repetition_penalty = 1.4f, .presence_penalty = 9 };   /* nothing was generated */
    static heard h[SLOTS];
    double best[KEPT], sum = 0, nucleus = 0, kept = 0, chi = 0, rest = DRAWS;
    int32_t ids[KEPT];
    uint32_t count[KEPT] = { 0 }, n = 0;
    float *logits, *row;

    (void)state;
    if (!model) skip();
    logits = read_logits(prompt, prompt_length);
    row = logits + (prompt_length - 1) * vocab;
    for (uint32_t i = 0; i < vocab; i++)
        if (is_in((int32_t)i, prompt, prompt_length)) row[i] = row[i] > 0 ? row[i] / 1.4f : row[i] * 1.4f;
    for (uint32_t k = 0; k < KEPT; k++) {
        ids[k] = 0;
        for (uint32_t i = 0; i < vocab; i++)
            if (row[i] > row[ids[k]]) ids[k] = (int32_t)i;
        best[k] = exp((double)row[ids[k]] / (double)how.temperature);
        sum += best[k];
        row[ids[k]] = -INFINITY;
    }
    while (nucleus < (double)how.top_p * sum && best[n] >= (double)how.min_p * best[0]) nucleus += best[n++];
    assert_in_range(n, 5, KEPT - 1);        /* the last two filters leave out something, and something is left */
    for (uint32_t k = 0; k < n; k++) kept += best[k];

    for (uint32_t i = 0; i < DRAWS; i += SLOTS) {
        eyrie_request r[SLOTS];
        for (uint32_t k = 0; k < SLOTS; k++) {
            r[k] = how;
            r[k].seed = i / 100;
            r[k].sample = i + k;
        }
        generate(r, SLOTS, h);
        for (uint32_t k = 0; k < SLOTS; k++) {
            uint32_t at = 0;
            while (at < n && ids[at] != h[k].ids[0]) at++;
            if (at == n) fail_msg("token %d cannot be drawn", (int)h[k].ids[0]);
            count[at]++;
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        double expected = DRAWS * best[k] / kept;
        assert_true(expected > 10);         /* or the statistic would not follow its distribution */
        chi += pow(count[k] - expected, 2) / expected;
        rest -= count[k];
    }
    assert_true(rest == 0);
    /* Wilson and Hilferty's approximation of the quantile that one right sampler in a million exceeds (z = 4.753). */
    double v = 2 / (9.0 * (n - 1));
    if (chi > (n - 1) * pow(1 - v + 4.753 * sqrt(v), 3)) fail_msg("chi squared %.1f of %u tokens", chi, (unsigned)n);
    free(logits);
}

/* ------------------------------------------------------------------------------------------------------ penalties */

/* Greedy choices are the best of the penalised logits: of tokens read and generated, or generated only, each time. */
static void penalties_see_the_right_tokens(void **state)
{
    enum { N = 60 };
    static const eyrie_request cases[] = {
        { .max_tokens = N, .repetition_penalty = 1.5f },
        { .max_tokens = N, .presence_penalty = 2.0f },
        { .max_tokens = N, .frequency_penalty = 0.7f },
        { .max_tokens = N, .repetition_penalty = 1.2f, .presence_penalty = 0.5f, .frequency_penalty = 0.3f },
        { .max_tokens = N, .repetition_penalty = 0.9f, .frequency_penalty = 0.5f },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        static heard h;
        int32_t all[64 + N];
        generate(&cases[i], 1, &h);
        memcpy(all, prompt, prompt_length * sizeof *all);
        memcpy(all + prompt_length, h.ids, h.n * sizeof *all);
        float *logits = read_logits(all, prompt_length + h.n);
        for (uint32_t t = 0; t < h.n; t++) {
            const float *row = logits + (prompt_length + t - 1) * vocab;
            double best = -INFINITY, chosen = 0;
            for (uint32_t id = 0; id < vocab; id++) {
                double l = (double)row[id], r = (double)cases[i].repetition_penalty;
                uint32_t generated = 0;
                for (uint32_t k = 0; k < t; k++) generated += h.ids[k] == (int32_t)id;
                if (r > 0 && is_in((int32_t)id, all, prompt_length + t)) l = l > 0 ? l / r : l * r;
                if (generated) l -= (double)cases[i].presence_penalty + generated * (double)cases[i].frequency_penalty;
                best = fmax(best, l);
                if (h.ids[t] == (int32_t)id) chosen = l;
            }
            /* Logits up to 30 that were decoded and are read here: the two agree within 1e-5 of that. */
            if (chosen < best - 1e-3) fail_msg("case %zu, token %u: logit %g, best %g", i, (unsigned)t, chosen, best);
        }
        free(logits);
    }
}

static void penalties_reduce_repetition(void **state)
{
    static heard plain, h[3];
    const eyrie_request r[] = {
        { .max_tokens = 100, .repetition_penalty = 1.3f },
        { .max_tokens = 100, .presence_penalty = 1.0f },
        { .max_tokens = 100, .frequency_penalty = 100 },    /* logits are below 30: never a token twice */
    };

    (void)state;
    generate(&(eyrie_request){ .max_tokens = 100 }, 1, &plain);
    generate(r, 3, h);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(h[i].n, 100);
        assert_in_range(different_tokens(&h[i]), different_tokens(&plain) + 1, 100);
    }
    assert_int_equal(different_tokens(&h[2]), 100);
}

/* What was seen goes on with the sequence: into its next request, and into its fork. */
static void the_past_counts(void **state)
{
    eyrie_request r = { .max_tokens = 60, .repetition_penalty = 1.1f, .frequency_penalty = 0.5f };
    static heard whole, first, second, forked;
    eyrie_seq *s = open_seq(), *fork;

    (void)state;
    generate(&r, 1, &whole);
    r.max_tokens = 30;
    submit(s, r, &first);
    run();
    assert_ok(eyrie_seq_fork(&fork, s, &err));
    r.n_tokens = SIZE_MAX;
    submit(s, r, &second);
    submit(fork, r, &forked);
    run();
    assert_memory_equal(first.ids, whole.ids, 30 * sizeof *whole.ids);
    assert_memory_equal(second.ids, whole.ids + 30, 30 * sizeof *whole.ids);
    assert_memory_equal(forked.ids, whole.ids + 30, 30 * sizeof *whole.ids);
    assert_ok(eyrie_seq_close(fork));
    assert_ok(eyrie_seq_close(s));
}

/* ------------------------------------------------------------------------------------------------------ stop texts */

/* `h` is what `plain` is up to the stop text of `length` bytes that begins at `cut`. */
static void assert_stopped(const heard *h, const heard *plain, size_t cut, size_t length)
{
    uint32_t n = 1;

    while (plain->text_after[n - 1] < cut + length) n++;     /* the token that completes it */
    assert_int_equal(h->end, EYRIE_END_STOP);
    assert_int_equal(h->n, n);
    assert_memory_equal(h->ids, plain->ids, n * sizeof *h->ids);
    assert_int_equal(h->length, cut);
    assert_memory_equal(h->text, plain->text, cut);
    /* All is delivered that is not part of the stop text or may still become one. */
    for (uint32_t i = 0; i + 1 < n; i++)
        assert_in_range(h->text_after[i], ey_max(ey_min(plain->text_after[i], cut), length - 1) - (length - 1),
                        plain->text_after[i]);
}

static void stop_texts_end_the_text(void **state)
{
    eyrie_request r[SLOTS] = { { .max_tokens = 60, .temperature = 0.8f, .seed = 3 } };
    static heard plain, h[SLOTS];
    char texts[SLOTS][16];
    const char *stops[SLOTS][1];
    uint32_t n = 0;

    (void)state;
    generate(r, 1, &plain);
    for (uint32_t at = 0; at + 16 < plain.length; at += 11) {       /* every eleventh place, 1 to 13 bytes */
        snprintf(texts[n], sizeof texts[n], "%.*s", (int)(1 + at % 13), plain.text + at);
        stops[n][0] = texts[n];
        r[n] = r[0];
        r[n].stops = stops[n];
        r[n].n_stops = 1;
        if (++n < SLOTS) continue;
        generate(r, n, h);
        for (uint32_t i = 0; i < n; i++)
            assert_stopped(&h[i], &plain, (size_t)(strstr(plain.text, texts[i]) - plain.text), strlen(texts[i]));
        r[0].stops = NULL;
        r[0].n_stops = n = 0;
    }
}

static void the_first_of_several_counts(void **state)
{
    eyrie_request r = { .max_tokens = 60, .temperature = 0.8f, .seed = 3 };
    static heard plain, h;
    char late[8], early[8], inner[4];

    (void)state;
    generate(&r, 1, &plain);
    snprintf(late, sizeof late, "%.7s", plain.text + 60);
    snprintf(early, sizeof early, "%.7s", plain.text + 30);
    snprintf(inner, sizeof inner, "%.3s", plain.text + 34);         /* ends where `early` ends, which is longer */
    assert_true(strstr(plain.text, early) == plain.text + 30);
    assert_true(strstr(plain.text, inner) == plain.text + 34);
    r.stops = (const char *const[]){ "never said", late, inner, early };
    r.n_stops = 4;
    generate(&r, 1, &h);
    assert_stopped(&h, &plain, 30, 7);
}

/* A beginning of a stop text at the end is text after all, and so is all else: nothing is lost. */
static void text_without_a_stop_text_is_whole(void **state)
{
    eyrie_request r = { .max_tokens = 60, .temperature = 0.8f, .seed = 3 };
    static heard plain, h;
    char text[32];

    (void)state;
    generate(&r, 1, &plain);
    snprintf(text, sizeof text, "%s never", plain.text + plain.length - 5);
    r.stops = (const char *const[]){ text };
    r.n_stops = 1;
    generate(&r, 1, &h);
    assert_same(&h, &plain);
    assert_in_range(h.text_after[h.n - 1], 0, h.length - 1);    /* the end came with END */
}

/* A sequence that was stopped goes on: after the token that completed the stop text, with stop texts of its own. */
static void a_stopped_sequence_goes_on(void **state)
{
    eyrie_request r = { .max_tokens = 60, .temperature = 0.8f, .seed = 3 };
    static heard plain, h, rest;
    char text[8];
    eyrie_seq *s;

    (void)state;
    generate(&r, 1, &plain);
    snprintf(text, sizeof text, "%.5s", plain.text + 40);
    r.stops = (const char *const[]){ text };
    r.n_stops = 1;
    submit(s = open_seq(), r, &h);
    run();
    assert_int_equal(h.end, EYRIE_END_STOP);
    assert_int_equal(eyrie_seq_position(s), prompt_length + h.n - 1);
    r.stops = NULL;
    r.n_stops = 0;
    r.n_tokens = SIZE_MAX;
    r.max_tokens -= h.n;
    submit(s, r, &rest);
    run();
    assert_int_equal(h.n + rest.n, plain.n);
    assert_memory_equal(rest.ids, plain.ids + h.n, rest.n * sizeof *rest.ids);
    assert_ok(eyrie_seq_close(s));
}

/* --------------------------------------------------------------------------------------------------------- failures */

static void wrong_requests(void **state)
{
    static const char *const empty[] = { "a", "" }, *const broken[] = { "\xFF" };
    static const struct { eyrie_request r; const char *message; } cases[] = {
        { { .temperature = -1 }, "temperature -1" },
        { { .temperature = NAN }, "temperature" },
        { { .temperature = INFINITY }, "temperature inf" },
        { { .top_p = -0.5f }, "top_p -0.5" },
        { { .top_p = 1.5f }, "top_p 1.5; it must be a number from 0 to 1" },
        { { .top_p = NAN }, "top_p" },
        { { .min_p = 2 }, "min_p 2" },
        { { .repetition_penalty = -1 }, "repetition_penalty -1" },
        { { .repetition_penalty = INFINITY }, "repetition_penalty inf" },
        { { .presence_penalty = NAN }, "presence_penalty" },
        { { .frequency_penalty = -INFINITY }, "frequency_penalty -inf" },
        { { .stops = empty, .n_stops = 2 }, "stop text 2 of 2 is empty" },
        { { .stops = broken, .n_stops = 1 }, "not UTF-8" },
        { { .n_stops = 1 }, "stop text 1 of 1" },
    };
    eyrie_seq *s = open_seq();
    static heard h;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_request r = cases[i].r;
        r.struct_size = sizeof r;
        r.tokens = prompt;
        r.n_tokens = prompt_length;
        assert_int_equal(eyrie_seq_submit(s, &r, &err), EYRIE_EINVAL);
        if (!strstr(err.text, cases[i].message)) fail_msg("\"%s\" without \"%s\"", err.text, cases[i].message);
    }
    submit(s, (eyrie_request){ .max_tokens = 3 }, &h);      /* none of them left anything behind */
    run();
    assert_int_equal(h.n, 3);
    assert_ok(eyrie_seq_close(s));
}

/* A caller built when a request ended with `user`. */
static void a_shorter_request_is_as_good(void **state)
{
    eyrie_request r = { .max_tokens = 20, .temperature = 1.0f, .seed = 5 };
    static heard h, old;
    eyrie_seq *s = open_seq();

    (void)state;
    generate(&r, 1, &h);
    old = (heard){ 0 };
    memset(&r.top_k, 0xEE, sizeof r - offsetof(eyrie_request, top_k));      /* not the library's to look at */
    r.struct_size = offsetof(eyrie_request, top_k);
    r.tokens = prompt;
    r.n_tokens = prompt_length;
    r.on_event = hear;
    r.user = &old;
    assert_ok(eyrie_seq_submit(s, &r, &err));
    run();
    assert_same(&old, &h);
    assert_ok(eyrie_seq_close(s));
}

static void stop_texts_need_a_tokenizer(void **state)
{
    static const char *const stops[] = { "a" };
    eyrie_request r = { .struct_size = sizeof r, .tokens = (const int32_t[]){ 2 }, .n_tokens = 1, .max_tokens = 1,
                        .stops = stops, .n_stops = 1 };
    eyrie_model *m;
    eyrie_engine *e;
    eyrie_seq *s;

    (void)state;
    if (!model) skip();
    assert_ok(eyrie_model_open(&m, device, path_of(EY_SOURCE_DIR, "tests/golden/hawk"), NULL, &err));
    assert_ok(eyrie_engine_open(&e, m, NULL, &err));
    assert_ok(eyrie_seq_open(&s, e, &err));
    assert_int_equal(eyrie_seq_submit(s, &r, &err), EYRIE_EINVAL);
    assert_non_null(strstr(err.text, "tokenizer"));
    assert_ok(eyrie_seq_close(s));
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

/* An allocation that fails costs one request at most: refused, or failed while its neighbour goes on as if alone. */
static void no_memory(void **state)
{
    static const char *const stops[] = { "never said", "nor this" };
    const eyrie_request r = { .max_tokens = 4, .temperature = 1.0f, .top_p = 0.99f, .frequency_penalty = -0.1f,
                              .stops = stops, .n_stops = 2 };
    static heard want, h[2];
    uint32_t refused = 0, lost = 0;
    bool failed = true;

    (void)state;
    generate(&r, 1, &want);
    for (size_t n = 0; failed; n++) {
        eyrie_seq *s[2] = { open_seq(), open_seq() };
        eyrie_request second = r;
        uint32_t failed_steps = 0;

        submit(s[0], r, &h[0]);
        h[1] = (heard){ 0 };
        second.struct_size = sizeof second;
        second.tokens = prompt;
        second.n_tokens = prompt_length;
        second.on_event = hear;
        second.user = &h[1];
        fail_allocation(n);
        eyrie_status submitted = eyrie_seq_submit(s[1], &second, &err);
        for (bool busy = submitted == EYRIE_OK; busy;)
            failed_steps += eyrie_engine_step(engine, &busy, &err) != EYRIE_OK;
        failed = allocation_failed();
        run();
        if (failed) assert_int_equal(err.status, EYRIE_ENOMEM);
        assert_int_equal((submitted != EYRIE_OK) + failed_steps, failed);
        assert_int_equal(h[1].end == 0, submitted != EYRIE_OK);
        assert_false(h[0].end == EYRIE_END_FAILED && h[1].end == EYRIE_END_FAILED);
        for (int i = 0; i < 2; i++) {
            if (h[i].end == EYRIE_END_LENGTH) assert_same(&h[i], &want);
            lost += h[i].end == EYRIE_END_FAILED;
            assert_ok(eyrie_seq_close(s[i]));
        }
        refused += submitted != EYRIE_OK;
    }
    assert_in_range(refused, 5, 20);
    assert_in_range(lost, 10, 100);
}

/* ----------------------------------------------------------------------------------------------------- the command */

/* What `eyrie run` on the model prints with these arguments (of the shell), and its exit status. */
static int command(const char *arguments, char *out, size_t capacity)
{
    char line[2048];
    size_t n;
    int status;
    FILE *f;

    assert_in_range(snprintf(line, sizeof line, "'%s' run -m '%s/models/shakespeare' -p ROMEO: -n 40 %s 2>/dev/null",
                             EY_COMMAND, EY_SOURCE_DIR, arguments), 1, sizeof line - 1);
    assert_non_null(f = popen(line, "r"));
    n = fread(out, 1, capacity - 1, f);
    out[n] = '\0';
    status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_command_samples(void **state)
{
    static const struct { const char *arguments; bool same; } cases[] = {      /* the same text as --greedy? */
        { "--top-k 1", true },
        { "--top-p 0.0001 --seed 1", true },
        { "--min-p 1 --seed 2", true },
        { "--top-k 1 --repeat-penalty 1.5", false },
        { "--presence-penalty 2", false },
        { "--frequency-penalty 2", false },
    };
    char greedy[2048], drawn[2048], other[2048], arguments[256];

    (void)state;
    if (!model) skip();
    assert_int_equal(command("--greedy", greedy, sizeof greedy), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(command(cases[i].arguments, other, sizeof other), 0);
        if ((strcmp(greedy, other) == 0) != cases[i].same) fail_msg("%s", cases[i].arguments);
    }
    assert_int_equal(command("--top-k 30 --seed 1", drawn, sizeof drawn), 0);
    assert_int_equal(command("--temp 1 --top-k 30 --seed 1", other, sizeof other), 0);     /* what filters alone mean */
    assert_string_equal(drawn, other);
    assert_int_equal(command("--temp 1 --top-k 30 --seed 2", other, sizeof other), 0);
    assert_string_not_equal(drawn, other);

    snprintf(arguments, sizeof arguments, "--top-k 30 --seed 1 --stop 'never said' --stop \"%.5s\"", drawn + 20);
    assert_int_equal(command(arguments, other, sizeof other), 0);
    drawn[25] = '\0';
    assert_int_equal(strlen(other), strstr(drawn, drawn + 20) - drawn);
    assert_memory_equal(drawn, other, strlen(other));
    strcat(arguments, " --json");
    assert_int_equal(command(arguments, other, sizeof other), 0);
    assert_non_null(strstr(other, "\"finish\": \"stop\""));
}

/* ------------------------------------------------------------------------------------------------------------- main */

static int open_all(void **state)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .compute = EYRIE_COMPUTE_F32, .slots = SLOTS };
    eyrie_model_info info = { .struct_size = sizeof info };

    (void)state;
    if (eyrie_device_open(&device, NULL, &err) != EYRIE_OK) {
        fprintf(stderr, "skipping: %s\n", err.text);
        return err.status == EYRIE_ENODEV ? 0 : -1;
    }
    if (eyrie_model_open(&model, device, path_of(EY_SOURCE_DIR, "models/shakespeare"), &opts, &err) != EYRIE_OK
        || eyrie_engine_open(&engine, model, NULL, &err) != EYRIE_OK || eyrie_model_get_info(model, &info, &err) != EYRIE_OK
        || eyrie_encode(model, "ROMEO:\n", 7, prompt, COUNT(prompt), &prompt_length, &err) != EYRIE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    vocab = info.vocab;
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    return eyrie_engine_close(engine) == EYRIE_OK && eyrie_model_close(model) == EYRIE_OK
           && eyrie_device_close(device) == EYRIE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(seeds_and_samples_differ),
        cmocka_unit_test(tokens_are_as_frequent_as_promised),
        cmocka_unit_test(penalties_see_the_right_tokens),
        cmocka_unit_test(penalties_reduce_repetition),
        cmocka_unit_test(the_past_counts),
        cmocka_unit_test(stop_texts_end_the_text),
        cmocka_unit_test(the_first_of_several_counts),
        cmocka_unit_test(text_without_a_stop_text_is_whole),
        cmocka_unit_test(a_stopped_sequence_goes_on),
        cmocka_unit_test(wrong_requests),
        cmocka_unit_test(a_shorter_request_is_as_good),
        cmocka_unit_test(stop_texts_need_a_tokenizer),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(the_command_samples),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
