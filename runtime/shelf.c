/* shelf.c - see shelf.h. Snapshots on the device and in host memory; what is in files, shelf_file.c knows. */
#include "shelf_parts.h"
#include "os.h"

#include <inttypes.h>
#include <string.h>

const ey_log *ey_shelf_log(const ey_shelf *s) { return &ey_model_device(s->model)->log; }

uint32_t ey_shelf_vocab(const ey_shelf *s) { return ey_model_get_limits(s->model).vocab; }

uint64_t ey_shelf_state_bytes(const ey_shelf *s, uint64_t n, bool ends)
{
    return ey_model_state_bytes(s->model, n) + (ends ? ey_shelf_vocab(s) * sizeof(float) : 0);
}

uint64_t ey_stored_bytes(uint64_t bytes, bool ends) { return bytes + sizeof(ey_stored) + (ends ? sizeof(ey_result) : 0); }

/* Says the first time that there are no more snapshots than before; they may fit again later. */
static void note_copy(ey_shelf *s, const eyrie_error *error)
{
    if (!s->noted) ey_note(ey_shelf_log(s), "prefix cache: %s; a prompt's state is not kept", error->text);
    s->noted = true;
}

/* --------------------------------------------------------------------------------------------------------- snapshots */

static void drop_buffer(ey_stored *k)
{
    if (k->buffer) ey_arena_free(&k->arena);
    k->buffer = NULL;
}

static void drop_host(ey_stored *k)
{
    ey_free(k->host);
    k->host = NULL;
}

void ey_stored_free(ey_stored *k)
{
    if (!k) return;
    drop_buffer(k);
    drop_host(k);
    ey_free(k->ending);
    ey_free(k);
}

ey_stored *ey_stored_new(uint64_t bytes, const ey_result *ending)
{
    ey_stored *k = ey_calloc(1, sizeof *k);

    if (!k || (ending && !(k->ending = ey_calloc(1, sizeof *k->ending)))) {
        ey_free(k);
        return NULL;
    }
    k->bytes = bytes;
    if (ending) *k->ending = *ending;
    return k;
}

static eyrie_status make_buffer(const ey_shelf *s, ey_stored *k, eyrie_error *err)
{
    const char *label = "a prompt's state";
    ey_buffer *b;
    eyrie_status st;

    ey_arena_init(&k->arena, ey_model_device(s->model), "prefixes");
    if (!(b = ey_arena_add(&k->arena, k->bytes, label))) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "%s", label));
    EY_TRY(ey_arena_commit(&k->arena, err));
    k->buffer = b;
done:
    if (st != EYRIE_OK) ey_arena_free(&k->arena);
    return st;
}

eyrie_status ey_stored_fetch(const ey_shelf *s, const ey_stored *k, unsigned char **out, eyrie_error *err)
{
    char size[24];
    eyrie_status st;

    if (!(*out = ey_calloc(k->bytes, 1)))
        return ey_fail(err, EYRIE_ENOMEM, "a prompt's state of %s", ey_bytes_text(k->bytes, size));
    if ((st = ey_buffer_read(ey_model_device(s->model), k->buffer, 0, k->bytes, *out, err)) == EYRIE_OK) return st;
    ey_free(*out);
    *out = NULL;
    return st;
}

eyrie_status ey_stored_fill(const ey_shelf *s, ey_stored *k, const unsigned char *bytes, eyrie_error *err)
{
    eyrie_status st = make_buffer(s, k, err);

    if (st != EYRIE_OK) return st;
    st = ey_buffer_write(ey_model_device(s->model), k->buffer, 0, k->bytes, bytes, err);
    if (st != EYRIE_OK) drop_buffer(k);
    return st;
}

/* ----------------------------------------------------------------------------------------------- what prefix.h asks for */

static bool copy(void *user, const ey_prefix *p, ey_tier to)
{
    ey_shelf *s = user;
    ey_stored *k = p->snapshot;
    double start = ey_seconds();
    eyrie_error error;
    eyrie_status st;

    if (to == EY_ON_DISK) {
        if (s->write_failed) return false;
        st = ey_shelf_write_file(s, p, &error);
        if (st != EYRIE_OK) ey_note(ey_shelf_log(s), "prefix cache: %s; no more is kept there", error.text);
        s->write_failed = st != EYRIE_OK;
    } else if (to == EY_IN_HOST) {
        if ((st = ey_stored_fetch(s, k, &k->host, &error)) != EYRIE_OK) note_copy(s, &error);
    } else if (k->host) {
        if ((st = ey_stored_fill(s, k, k->host, &error)) != EYRIE_OK) note_copy(s, &error);
    } else {
        st = ey_shelf_read_file(s, p, &error);
        if (st != EYRIE_OK) ey_note(ey_shelf_log(s), "prefix cache: %s; its prompt is read again", error.text);
    }
    if (st == EYRIE_OK) s->copied += k->bytes;
    s->seconds += ey_seconds() - start;
    return st == EYRIE_OK;
}

static void drop(void *user, const ey_prefix *p, ey_tier from)
{
    if (from == EY_ON_DEVICE) drop_buffer(p->snapshot);
    else if (from == EY_IN_HOST) drop_host(p->snapshot);
    else ey_shelf_remove_file(user, p);
}

static void forget(void *user, void *snapshot)
{
    (void)user;
    ey_stored_free(snapshot);
}

/* ------------------------------------------------------------------------------------------------------------ opening */

eyrie_status ey_shelf_open(ey_shelf **out, eyrie_model *m, const ey_shelf_opts *o, eyrie_error *err)
{
    ey_shelf *s = ey_calloc(1, sizeof *s);
    ey_prefix_store store = { .user = s, .copy = copy, .drop = drop, .forget = forget };
    eyrie_status st = EYRIE_OK;

    *out = NULL;
    if (!s || !(s->prefixes = ey_prefixes_new(o->unit, o->limits, &store))) {
        ey_free(s);
        return ey_fail(err, EYRIE_ENOMEM, "prefix cache");
    }
    s->model = m;
    s->file_limit = o->limits[EY_ON_DEVICE];
    ey_model_traits(m, &s->traits);
    if (o->directory) EY_TRY(ey_shelf_open_directory(s, o->directory, err));
    *out = s;
    s = NULL;
done:
    ey_shelf_close(s);
    return st;
}

void ey_shelf_close(ey_shelf *s)
{
    if (!s) return;
    ey_prefixes_settle(s->prefixes);
    ey_prefixes_free(s->prefixes);
    ey_free(s->directory);
    ey_free(s);
}

/* -------------------------------------------------------------------------------------------------- keeping, restoring */

static eyrie_status take_slot(ey_shelf *s, ey_stored *k, uint64_t n, uint32_t slot, uint32_t wanted, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(make_buffer(s, k, err));
    EY_TRY(ey_model_store_slot(s->model, slot, n, k->buffer, err));
    if (k->ending)
        EY_TRY(ey_model_copy_logits(s->model, EY_PREFILL, wanted, k->buffer, ey_model_state_bytes(s->model, n), err));
done:
    return st;
}

void ey_shelf_keep(ey_shelf *s, const int32_t *tokens, uint64_t n, uint32_t slot, const ey_result *ending, uint32_t wanted)
{
    double start = ey_seconds();
    uint64_t bytes = ey_shelf_state_bytes(s, n, ending), full = ey_stored_bytes(bytes, ending), branch;
    const ey_prefix *there = ey_prefixes_find(s->prefixes, tokens, n, ending, &branch);
    eyrie_error error;
    ey_stored *k;

    if ((there && there->length == n) || !ey_prefixes_make_room(s->prefixes, EY_ON_DEVICE, full, n)) return;
    if (!(k = ey_stored_new(bytes, ending))) {
        (void)ey_fail(&error, EYRIE_ENOMEM, "a prompt of %" PRIu64 " tokens", n);
        note_copy(s, &error);
    } else if (take_slot(s, k, n, slot, wanted, &error) != EYRIE_OK) {
        note_copy(s, &error);
        ey_stored_free(k);
    } else if (!ey_prefixes_add(s->prefixes, tokens, n, k, full, ending, EY_ON_DEVICE)) {
        ey_stored_free(k);
    } else {
        s->copied += bytes;
    }
    s->seconds += ey_seconds() - start;
}

ey_prefix *ey_shelf_find(const ey_shelf *s, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch)
{
    return ey_prefixes_find(s->prefixes, tokens, n, logits, branch);
}

bool ey_shelf_restore(ey_shelf *s, ey_prefix *p, uint32_t slot, ey_result *ending, float *logits)
{
    double start = ey_seconds();
    uint32_t vocab = ey_shelf_vocab(s);
    eyrie_error error;
    ey_stored *k = p->snapshot;
    bool restored = ey_prefixes_use(s->prefixes, p);

    if (restored) {
        eyrie_status st = ey_model_restore_slot(s->model, slot, p->length, k->buffer, &error);
        if (st == EYRIE_OK && ending) {
            *ending = *k->ending;
            st = ey_buffer_read(ey_model_device(s->model), k->buffer, ey_model_state_bytes(s->model, p->length),
                                vocab * sizeof *logits, logits, &error);
        }
        restored = st == EYRIE_OK;
        if (restored) s->copied += k->bytes;
        else note_copy(s, &error), ey_prefixes_discard(s->prefixes, p);
    }
    s->seconds += ey_seconds() - start;
    return restored;
}

ey_shelf_use ey_shelf_get_use(const ey_shelf *s)
{
    ey_shelf_use use = { .copied = s->copied, .seconds = s->seconds };

    for (ey_tier tier = EY_ON_DEVICE; tier < EY_TIERS; tier++) use.held += ey_prefixes_bytes(s->prefixes, tier);
    return use;
}
