/* seq_file.c - sequences to state files and back. */
#include "engine.h"

#include <inttypes.h>
#include <string.h>

/* Part 0 of a state file: the sequence without its slot. The parts after it are the slot's layers. All little endian:
 *
 *      0  u64 position    8  u32 HAS_LAST or 0    12  i32 last, if there is one    16  f32 logprob
 *     20  u32 bytes of a character that is not whole, u8[4] these    28  u32 bytes of text held back
 *     32  u64 unread tokens    40  u64 seen tokens    48  i32 each, unread; i32 and u32 each, seen; the text held back */
enum { RECORD = 48, HAS_LAST = 1 };

static uint64_t record_bytes(const eyrie_seq *s)
{
    return RECORD + 4 * (uint64_t)(s->n_tokens - s->next) + 8 * (uint64_t)s->seen.n + s->n_held;
}

static void put_record(unsigned char *at, const eyrie_seq *s)
{
    uint32_t logprob;

    memcpy(&logprob, &s->logprob, sizeof logprob);
    ey_put(at, 8, s->position);
    ey_put(at + 8, 4, s->has_last ? HAS_LAST : 0);
    ey_put(at + 12, 4, (uint32_t)s->last);
    ey_put(at + 16, 4, logprob);
    ey_put(at + 20, 4, s->utf8.n);
    memcpy(at + 24, s->utf8.held, sizeof s->utf8.held);
    ey_put(at + 28, 4, s->n_held);
    ey_put(at + 32, 8, s->n_tokens - s->next);
    ey_put(at + 40, 8, s->seen.n);
    at += RECORD;
    for (size_t i = s->next; i < s->n_tokens; i++, at += 4) ey_put(at, 4, (uint32_t)s->tokens[i]);
    for (size_t i = 0; i < s->seen.capacity; i++) {
        const ey_seen_token *t = &s->seen.places[i];
        if (t->id < 0) continue;
        ey_put(at, 4, (uint32_t)t->id);
        ey_put(at + 4, 4, t->generated);
        at += 8;
    }
    if (s->n_held) memcpy(at, s->held, s->n_held);
}

/* Whether the fixed part can be. */
static bool record_makes_sense(const eyrie_seq *s, uint64_t unread)
{
    ey_utf8 text = { .n = 0 };
    char out[3 * sizeof s->utf8.held];

    if (s->has_last && (s->position == 0 || unread || ey_check_tokens(&s->last, 1, s->engine->limits.vocab, NULL) != EYRIE_OK))
        return false;
    return s->position <= INT64_MAX && s->utf8.n < sizeof s->utf8.held
           && ey_utf8_push(&text, (const char *)s->utf8.held, s->utf8.n, out) == 0;      /* a beginning and no more */
}

/* The lists after it. */
static eyrie_status get_lists(eyrie_seq *s, const unsigned char *at, uint64_t unread, uint64_t seen, uint64_t held, bool *right,
                              eyrie_error *err)
{
    uint32_t vocab = s->engine->limits.vocab;

    if (!ey_grow(&s->tokens, &s->capacity, unread, sizeof *s->tokens) || (held && !(s->held = ey_calloc(held, 1))))
        return ey_fail(err, EYRIE_ENOMEM, "%" PRIu64 " tokens and %" PRIu64 " bytes", unread, held);
    for (uint64_t i = 0; i < unread; i++, at += 4) s->tokens[i] = (int32_t)ey_get(at, 4);
    s->n_tokens = unread;
    *right = ey_check_tokens(s->tokens, unread, vocab, NULL) == EYRIE_OK;
    for (uint64_t i = 0; i < seen && *right; i++, at += 8) {
        int32_t id = (int32_t)ey_get(at, 4);
        *right = ey_check_tokens(&id, 1, vocab, NULL) == EYRIE_OK;
        if (*right && !ey_seen_put(&s->seen, id, (uint32_t)ey_get(at + 4, 4)))
            return ey_fail(err, EYRIE_ENOMEM, "%" PRIu64 " tokens that were seen", seen);
    }
    if (!*right || !held) return EYRIE_OK;
    memcpy(s->held, at, held);
    s->n_held = held;
    *right = ey_utf8_check(s->held, held) == held;
    return EYRIE_OK;
}

static eyrie_status get_record(eyrie_seq *s, const unsigned char *at, uint64_t size, const char *path, eyrie_error *err)
{
    uint64_t unread = size < RECORD ? 0 : ey_get(at + 32, 8), seen = size < RECORD ? 0 : ey_get(at + 40, 8);
    uint64_t held = size < RECORD ? 0 : ey_get(at + 28, 4), context = s->engine->limits.context;
    bool right = size >= RECORD && ey_get(at + 8, 4) <= HAS_LAST && unread <= size / 4 && seen <= size / 8
                 && RECORD + 4 * unread + 8 * seen + held == size;
    uint32_t logprob;
    eyrie_status st;

    if (right) {
        s->position = ey_get(at, 8);
        s->has_last = ey_get(at + 8, 4) == HAS_LAST;
        s->last = (int32_t)ey_get(at + 12, 4);
        logprob = (uint32_t)ey_get(at + 16, 4);
        memcpy(&s->logprob, &logprob, sizeof logprob);
        s->utf8.n = (uint32_t)ey_get(at + 20, 4);
        memcpy(s->utf8.held, at + 24, sizeof s->utf8.held);
        right = record_makes_sense(s, unread);
    }
    if (right && (st = get_lists(s, at + RECORD, unread, seen, held, &right, err)) != EYRIE_OK) return st;
    if (!right) return ey_fail(err, EYRIE_EFORMAT, "%s: what it says of its sequence cannot be: damaged; save it again", path);
    if (context && (s->position > context || unread > context - s->position))
        return ey_fail(err, EYRIE_ELIMIT, "%s: %" PRIu64 " tokens at position %" PRIu64 " are more than the context of %" PRIu64
                       "; a larger --context holds them", path, unread, s->position, context);
    return EYRIE_OK;
}

eyrie_status eyrie_seq_save(eyrie_seq *s, const char *path, eyrie_error *err)
{
    eyrie_model *m = s->engine->model;
    uint32_t n_parts = 1 + ey_model_config(m)->layers;
    uint64_t size = record_bytes(s);
    uint64_t *sizes = ey_calloc(n_parts, sizeof *sizes);
    unsigned char *record = ey_calloc(size, 1);
    ey_snapshot_writer *w = NULL;
    ey_traits traits;
    eyrie_status st, finished;

    EY_TRY(ey_seq_check_idle(s, "saved", err));
    EY_TRY(ey_seq_bring(s, EY_DECODE, err));
    if (!sizes || !record) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "saving %s", path));
    put_record(record, s);
    sizes[0] = size;
    ey_model_state_sizes(m, s->position, sizes + 1);
    ey_model_traits(m, &traits);
    EY_TRY(ey_snapshot_create(&w, path, &traits, sizes, n_parts, err));
    EY_TRY(ey_snapshot_write(w, record, size, err));
    EY_TRY(ey_model_save_slot(m, s->slot, s->position, w, err));
done:
    finished = ey_snapshot_finish(w, st == EYRIE_OK, err);
    ey_free(record);
    ey_free(sizes);
    return st == EYRIE_OK ? finished : st;
}

eyrie_status eyrie_seq_load(eyrie_seq **out, eyrie_engine *e, const char *path, eyrie_error *err)
{
    ey_snapshot file = { .n_parts = 0 };
    const unsigned char *record;
    ey_traits traits;
    eyrie_seq *s;
    uint64_t size;
    eyrie_status st;

    *out = NULL;
    EY_TRY(eyrie_seq_open(&s, e, err));
    ey_model_traits(e->model, &traits);
    EY_TRY(ey_snapshot_open(&file, path, &traits, err));
    record = ey_snapshot_part(&file, 0, &size);
    EY_TRY(get_record(s, record, size, path, err));
    if (s->position > 0) EY_TRY(ey_need_slot(s, err));
    EY_TRY(ey_model_load_slot(e->model, s->slot, s->position, &file, 1, err));
    e->stats.reused_tokens += s->position;
    *out = s;
    s = NULL;
done:
    ey_snapshot_close(&file);
    (void)eyrie_seq_close(s);
    return st;
}
