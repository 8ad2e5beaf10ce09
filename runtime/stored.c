/* stored.c - a snapshot: its buffer on the device, its block of host memory, and how one becomes the other. */
#include "shelf_parts.h"

const ey_log *ey_shelf_log(const ey_shelf *s) { return &ey_model_device(s->model)->log; }

uint32_t ey_shelf_vocab(const ey_shelf *s) { return ey_model_get_limits(s->model).vocab; }

uint64_t ey_shelf_state_bytes(const ey_shelf *s, uint64_t n, bool ends)
{
    return ey_model_state_bytes(s->model, n) + (ends ? ey_shelf_vocab(s) * sizeof(float) : 0);
}

uint64_t ey_stored_bytes(uint64_t bytes, bool ends) { return bytes + sizeof(ey_stored) + (ends ? sizeof(ey_result) : 0); }

void ey_stored_drop_buffer(ey_stored *k)
{
    if (k->buffer) ey_arena_free(&k->arena);
    k->buffer = NULL;
}

void ey_stored_drop_host(ey_stored *k)
{
    ey_free(k->host);
    k->host = NULL;
}

void ey_stored_free(ey_stored *k)
{
    if (!k) return;
    ey_stored_drop_buffer(k);
    ey_stored_drop_host(k);
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

eyrie_status ey_stored_make_buffer(const ey_shelf *s, ey_stored *k, eyrie_error *err)
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
    eyrie_status st = ey_stored_make_buffer(s, k, err);

    if (st != EYRIE_OK) return st;
    st = ey_buffer_write(ey_model_device(s->model), k->buffer, 0, k->bytes, bytes, err);
    if (st != EYRIE_OK) ey_stored_drop_buffer(k);
    return st;
}
