/* shelf.c - see shelf.h. Snapshots on the device and in host memory; what is in files, shelf_file.c knows. */
#include "shelf_parts.h"
#include "os.h"

#include <inttypes.h>
#include <string.h>

/* Says the first time that there are no more snapshots than before; they may fit again later. */
static void note_copy(ey_shelf *s, const eyrie_error *error)
{
    if (!s->noted) ey_note(ey_shelf_log(s), "prefix cache: %s; a prompt's state is not kept", error->text);
    s->noted = true;
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
    if (from == EY_ON_DEVICE) ey_stored_drop_buffer(p->snapshot);
    else if (from == EY_IN_HOST) ey_stored_drop_host(p->snapshot);
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

    EY_TRY(ey_stored_make_buffer(s, k, err));
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
