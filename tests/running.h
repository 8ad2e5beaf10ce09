/* running.h - what tests of models and engines share: a device, models opened on it, and requests of which everything is
 * kept that their events say. Without a device every test is skipped. EYRIE_DEVICE names another device than the default.
 * Nothing here compares with a reference; that is the tests' business. */
#ifndef RUNNING_H
#define RUNNING_H

#include "testing.h"

#include "device.h"
#include "errors.h"
#include "golden.h"

static eyrie_device *device;   /* NULL: there is none */

static inline int open_device(void **state)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = getenv("EYRIE_DEVICE") };

    (void)state;
    if (eyrie_device_open(&device, &opts, &err) == EYRIE_OK) return 0;
    fprintf(stderr, "skipping: %s\n", err.text);
    return err.status == EYRIE_ENODEV ? 0 : -1;
}

static inline int close_device(void **state)
{
    (void)state;
    return eyrie_device_close(device) == EYRIE_OK ? 0 : -1;
}

/* ---------------------------------------------------------------------------------------------------------- models */

#define SHAKESPEARE "models/shakespeare"
#define GOLDEN(name) "tests/golden/" name

static inline const char *source_path(const char *below_root) { return path_of(EY_SOURCE_DIR, below_root); }

static inline eyrie_model *open_model(const char *below_root, eyrie_model_opts opts)
{
    eyrie_model *m;

    if (!device) skip();
    opts.struct_size = sizeof opts;
    assert_ok(eyrie_model_open(&m, device, source_path(below_root), &opts, &err));
    return m;
}

static inline eyrie_engine *open_engine_with(eyrie_model *m, const char *policy)
{
    eyrie_engine_opts opts = { .struct_size = sizeof opts, .policy = policy };
    eyrie_engine *e;
    assert_ok(eyrie_engine_open(&e, m, &opts, &err));
    return e;
}

static inline eyrie_engine *open_engine(eyrie_model *m) { return open_engine_with(m, NULL); }

static inline eyrie_seq *open_seq(eyrie_engine *e)
{
    eyrie_seq *s;
    assert_ok(eyrie_seq_open(&s, e, &err));
    assert_int_equal(eyrie_seq_position(s), 0);
    return s;
}

static inline golden open_text(const char *name)
{
    char path[4200];
    golden g;

    snprintf(path, sizeof path, "%s/golden.gold", source_path(name));
    assert_true(golden_open(&g, path));
    return g;
}

/* A model with an engine on it, and the golden text that belongs to it. */
typedef struct stage {
    eyrie_model  *model;
    eyrie_engine *engine;
    golden        text;      /* of a golden; else empty */
} stage;

static inline stage open_stage_with(const char *policy, const char *name, eyrie_model_opts opts)
{
    stage st = { .model = open_model(name, opts) };

    st.engine = open_engine_with(st.model, policy);
    if (strncmp(name, GOLDEN(""), strlen(GOLDEN(""))) == 0) st.text = open_text(name);
    return st;
}

static inline stage open_stage(const char *name, eyrie_model_opts opts) { return open_stage_with(NULL, name, opts); }

static inline void close_stage(stage *st)
{
    golden_close(&st->text);
    assert_ok(eyrie_engine_close(st->engine));
    assert_ok(eyrie_model_close(st->model));
}

/* -------------------------------------------------------------------------------------------------------- requests */

enum { MOST_HEARD = 640 };

/* All that the events of one request said. */
typedef struct heard {
    uint32_t     n_scores, n;            /* SCORE events, TOKEN events */
    int32_t      read[MOST_HEARD];       /* of SCORE */
    float        scores[MOST_HEARD];
    int32_t      ids[MOST_HEARD];        /* of TOKEN */
    float        logprobs[MOST_HEARD];
    char         text[8192];             /* of TOKEN and END */
    size_t       text_length;
    uint64_t     next;                   /* position of the next event, once there was one */
    bool         over;
    eyrie_end    end;
    eyrie_status status;                 /* where it failed */
    uint64_t     reused;                 /* tokens that the prefix cache had */
    uint32_t     vocab;
    float       *logits;                 /* [n_scores, vocab], made by the caller who asks for them; NULL = not kept */
} heard;

/* Keeps an event, and checks that it may come here: SCORE events, TOKEN events, END; positions without a gap. */
static inline void hear(void *user, eyrie_seq *seq, const eyrie_event *e)
{
    heard *h = user;

    assert_non_null(seq);
    assert_false(h->over);
    if (e->kind == EYRIE_EVENT_END) {
        h->over = true;
        h->end = e->end;
        assert_true((e->end == EYRIE_END_FAILED) == (e->error != NULL));
        h->status = e->error ? e->error->status : EYRIE_OK;
        h->reused = e->reused;
    } else {
        if (h->n_scores + h->n > 0) assert_int_equal(e->position, h->next);
        h->next = e->position + 1;
        assert_null(e->error);
    }
    if (e->kind == EYRIE_EVENT_SCORE) {
        assert_int_equal(h->n, 0);
        assert_in_range(h->n_scores, 0, MOST_HEARD - 1);
        if (h->logits) memcpy(h->logits + (size_t)h->n_scores * h->vocab, e->logits, h->vocab * sizeof *h->logits);
        else assert_null(e->logits);
        h->read[h->n_scores] = e->token;
        h->scores[h->n_scores++] = e->logprob;
        return;
    }
    assert_null(e->logits);
    assert_non_null(e->text);
    assert_in_range(h->text_length + e->text_length, 0, sizeof h->text);
    memcpy(h->text + h->text_length, e->text, e->text_length);
    h->text_length += e->text_length;
    if (e->kind == EYRIE_EVENT_END) return;
    assert_int_equal(e->kind, EYRIE_EVENT_TOKEN);
    assert_in_range(h->n, 0, MOST_HEARD - 1);
    h->ids[h->n] = e->token;
    h->logprobs[h->n++] = e->logprob;
}

static inline void submit(eyrie_seq *s, eyrie_request r, heard *h)
{
    r.struct_size = sizeof r;
    r.on_event = hear;
    r.user = h;
    *h = (heard){ .logits = h->logits, .vocab = h->vocab };
    assert_ok(eyrie_seq_submit(s, &r, &err));
}

/* Steps until no work is left. */
static inline void run_to_end(eyrie_engine *e)
{
    bool busy = true;

    for (uint32_t n = 0; busy; n++) {
        assert_in_range(n, 0, 5000);
        assert_ok(eyrie_engine_step(e, &busy, &err));
    }
}

/* One request of a fresh sequence that has the engine to itself. */
static inline void run_alone(eyrie_engine *e, eyrie_request r, heard *h)
{
    eyrie_seq *s = open_seq(e);

    submit(s, r, h);
    run_to_end(e);
    assert_true(h->over);
    assert_ok(eyrie_seq_close(s));
}

/* Bit for bit the same, but for how they ended. */
static inline void assert_same(const char *what, const heard *a, const heard *b)
{
    if (a->n != b->n || a->n_scores != b->n_scores)
        fail_msg("%s: %u tokens read and %u generated, not %u and %u", what, (unsigned)a->n_scores, (unsigned)a->n,
                 (unsigned)b->n_scores, (unsigned)b->n);
    for (uint32_t i = 0; i < a->n; i++)
        if (a->ids[i] != b->ids[i] || memcmp(&a->logprobs[i], &b->logprobs[i], sizeof *a->logprobs))
            fail_msg("%s: token %u is %d (%a), not %d (%a)", what, (unsigned)i, (int)a->ids[i], (double)a->logprobs[i],
                     (int)b->ids[i], (double)b->logprobs[i]);
    for (uint32_t i = 0; i < a->n_scores; i++)
        if (memcmp(&a->scores[i], &b->scores[i], sizeof *a->scores))
            fail_msg("%s: score %u is %a, not %a", what, (unsigned)i, (double)a->scores[i], (double)b->scores[i]);
    assert_int_equal(a->text_length, b->text_length);
    assert_memory_equal(a->text, b->text, a->text_length);
}

#endif
