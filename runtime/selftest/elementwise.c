/* elementwise.c - checks of the ops that treat each token, each number or each byte by itself. */
#include "checks.h"
#include "copy.h"
#include "os.h"
#include "ref/ref.h"
#include "synthetic.h"

#include <string.h>

void ey_check_embed(ey_rig *r, const ey_job *j)
{
    enum { V = 80, D = 48, T = 5 };
    static const int32_t ids[T] = { 0, 79, 17, 17, 64 };
    float *table = ey_noise(r, V * D, 1, 1.0f), *zero = ey_numbers(r, V);
    float *want = ey_numbers(r, T * D), *got = ey_numbers(r, T * D);
    struct ey_shard shard;
    ey_matrix m;

    ey_rig_matrix(r, &m, &shard, j->format, table, zero, V, D);
    ey_rig_begin(r, EYRIE_FORMAT_F32, EY_PREFILL, T + 1, 1);
    ey_act x = ey_rig_hold(r, ey_embed(&r->plan, &m, 2.7f));
    ey_rig_seal(r);
    ey_rig_run(r, &(ey_row){ .n = T, .tokens = ids }, 1);
    ey_rig_get(r, x, got, T, D);
    ref_embed(T, D, ids, table, 2.7f, want);
    ey_expect(r, got, want, want, T * D, 2);       /* the product's, and the reference's */
}

/* The device makes what the formula says, bit for bit. */
void ey_check_fill(ey_rig *r, const ey_job *j)
{
    enum { G = 3, P = 20, K = 37, PADDED = 32, COLS = 48 };
    const ey_quant *q = ey_quant_of(j->format);
    ey_recipe recipe = ey_recipe_of(7, "w", K);
    float *x = ey_numbers(r, G * P * K), *rows = ey_numbers(r, G * PADDED * COLS);
    unsigned char *want = (unsigned char *)ey_numbers(r, G * PADDED * COLS);
    unsigned char *got = (unsigned char *)ey_numbers(r, G * PADDED * COLS);
    uint64_t panel = ey_quant_panel_bytes(q, COLS);
    ey_weights *w = NULL;
    ey_matrix *m = NULL;

    ey_recipe_read(&recipe, 0, G * P * K, x);
    for (size_t i = 0; i < G * P; i++) memcpy(rows + (i / P * PADDED + i % P) * COLS, x + i * K, K * sizeof *x);
    for (size_t i = 0; i < G * PADDED / EY_LANES; i++) q->pack(rows + i * EY_LANES * COLS, COLS, want + i * panel);

    r->status = ey_weights_new_synthetic(&w, r->lab->dev, 7, 0, ey_formats_all(j->format), &r->err);
    if (r->status == EYRIE_OK) m = ey_weights_matrix(w, &(ey_part){ "w", NULL, { G, P } }, 1, ey_dim_flat(K));
    if (r->status == EYRIE_OK) r->status = ey_weights_check(w, &r->err);
    double start = ey_seconds();
    if (r->status == EYRIE_OK) r->status = ey_weights_fill(w, r->lab->programs[0], &r->err);
    r->seconds = ey_seconds() - start;
    if (r->status == EYRIE_OK) ey_rig_read(r, m->shards[0].buffer, got);
    if (r->status == EYRIE_OK) ey_expect_same(r, got, want, G * PADDED / EY_LANES * panel);
    ey_weights_free(w);
}

/* Nine ranges, of `choice` bytes and twice, three times, ... as many, arrive, and nothing beside them changes. */
void ey_check_copy(ey_rig *r, const ey_job *j)
{
    enum { RANGES = 9, GAP = 64 };
    eyrie_device *dev = r->lab->dev;
    const uint64_t bytes = RANGES * (RANGES + 1) / 2 * j->choice + (RANGES + 1) * GAP, n = bytes / sizeof(float);
    float *from = ey_noise(r, n, 1, 1.0f), *want = ey_noise(r, n, 2, 1.0f), *got = ey_numbers(r, n);
    ey_range ranges[RANGES];
    ey_arena arena;
    uint64_t at = GAP;

    ey_arena_init(&arena, dev, "self-test");
    ey_buffer *a = ey_arena_add(&arena, bytes, "from"), *b = ey_arena_add(&arena, bytes, "to");
    r->status = a && b ? ey_arena_commit(&arena, &r->err) : ey_fail(&r->err, EYRIE_ENOMEM, "self-test");
    if (r->status == EYRIE_OK) r->status = ey_buffer_write(dev, a, 0, bytes, from, &r->err);
    if (r->status == EYRIE_OK) r->status = ey_buffer_write(dev, b, 0, bytes, want, &r->err);
    for (uint64_t i = 0; i < RANGES; at += ranges[i++].bytes + GAP) {
        uint64_t size = (i + 1) * j->choice, to = bytes - at - size;
        ranges[i] = (ey_range){ a, at, b, to, size };
        memcpy((char *)want + to, (const char *)from + at, size);
    }
    double start = ey_seconds();
    if (r->status == EYRIE_OK) r->status = ey_copy_by_kernel(r->lab->programs[0], dev, ranges, RANGES, &r->err);
    if (r->status == EYRIE_OK) r->status = ey_buffer_read(dev, b, 0, bytes, got, &r->err);
    r->seconds = ey_seconds() - start;
    if (r->status == EYRIE_OK) ey_expect_same(r, got, want, bytes);
    ey_arena_free(&arena);
}

/* choice: all tokens, or (1) those whose logits are wanted. */
void ey_check_norm(ey_rig *r, const ey_job *j)
{
    enum { D = 90, PADDED = 96, T = 6, WANTED = 4, ROWS = 3 };
    static const uint32_t all[T] = { 0, 1, 2, 3, 4, 5 }, wanted[WANTED] = { 1, 3, 4, 5 };
    const uint32_t *which = j->choice ? wanted : all, n = j->choice ? WANTED : T;
    const ey_row rows[ROWS] = { { .n = 2, .want = EY_WANT_LAST }, { .slot = 1, .n = 1 },
                                { .slot = 2, .n = 3, .want = EY_WANT_ALL } };
    float *w = ey_noise(r, D, 1, 1.0f), *x = ey_noise(r, T * D, 2, 3.0f), *scale = ey_numbers(r, PADDED);
    float *picked = ey_numbers(r, T * D), *want = ey_numbers(r, T * D), *got = ey_numbers(r, T * D);

    for (size_t i = 0; i < D; i++) scale[i] = 1.0f + w[i];
    ey_buffer *b = ey_rig_upload(r, scale, PADDED * sizeof *scale);
    ey_rig_begin(r, EYRIE_FORMAT_F32, EY_PREFILL, T + 1, ROWS);
    ey_act in = ey_rig_input(r, PADDED);
    ey_act y = ey_rig_hold(r, ey_normalise(&r->plan, ey_norm(in, b, D, 1e-6f), j->choice != 0));
    ey_rig_seal(r);
    ey_rig_put(r, in, x, T, D);
    ey_rig_run(r, rows, ROWS);
    ey_rig_get(r, y, got, n, D);
    for (size_t i = 0; i < n; i++) memcpy(picked + i * D, x + (size_t)which[i] * D, D * sizeof *x);
    ref_norm(n, D, picked, w, 1e-6f, want);
    /* The sum of squares is D/16 fma, then four additions; the division by D makes 5, adding eps 1. The root halves
     * what came before and makes 6, its inverse 5; then there are two products, 1 + w, and the reference's own
     * rounding. */
    ey_expect(r, got, want, want, n * D, (PADDED / 16 + 4 + 5 + 1) / 2.0 + 6 + 5 + 2 + 1 + 1);
}
