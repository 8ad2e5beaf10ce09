/* test_embed.c - tokens to rows of the table: exact, in every weight format, from one shard or many. */
#include "harness.h"

/* T tokens of a vocabulary of V, the first id and the last among them, in a bucket of T + 2. A product of two f32 is
 * rounded once in every implementation, so the bits must be the reference's. */
static void check_embed(lab *l, const char *directory, eyrie_format format, uint32_t V, uint32_t D, uint32_t T)
{
    const float  scale = 11.3137085f;
    float       *table = noise((size_t)V * D, V, 1.0f), *want = zeros((size_t)T * D);
    const tensor file[] = { { "table", { V, D }, table } };
    uint32_t     half = T / 2 + 1;
    int32_t      ids[65];
    rig          r;

    assert_in_range(T, 1, COUNT(ids));
    for (uint32_t t = 0; t < T; t++) ids[t] = (int32_t)(t == 1 ? V - 1 : t * 37 % V);
    rig_open(&r, l, EYRIE_FORMAT_F32, EY_PREFILL, T + 2, 2);
    ey_matrix *m = ey_weights_matrix(rig_weights(&r, directory, format, file, 1),
                                     &(ey_part){ "table", NULL, ey_dim_flat(V) }, 1, ey_dim_flat(D));
    ey_act x = hold(&r, ey_embed(&r.plan, m, scale));
    if (l != &shared) assert_in_range(m->n_shards, 3, 6);
    rig_seal(&r);
    rig_run(&r, (ey_row[]){ { .slot = 1, .n = half, .tokens = ids }, { .n = T - half, .tokens = ids + half } },
            T > 1 ? 2 : 1, NULL);
    ref_embed(T, D, ids, rounded(format, table, V, 1, D), scale, want);
    check_same("embedding", get(&r, x, ey_dim_flat(D), T), want, (size_t)T * D);
    rig_close(&r);
}

static void every_format_and_size(void **state)
{
    static const uint32_t vocabularies[] = { 1, 5, 101, 257 }, widths[] = { 1, 5, 16, 20, 37, 60, 66, 132 };
    static const uint32_t tokens[] = { 1, 3, 17, 65 };

    for (size_t f = 0; f < COUNT(weight_formats); f++)
        for (size_t v = 0; v < COUNT(vocabularies); v++)
            for (size_t d = 0; d < COUNT(widths); d++)
                check_embed(&shared, *state, weight_formats[f], vocabularies[v], widths[d], tokens[(v + d) % 4]);
}

/* One allocation holds 3 panels of 16 rows or the activations, 257 ids take 17 panels. */
static void shards_share_the_tokens(void **state)
{
    for (size_t f = 0; f < COUNT(weight_formats); f++) {
        lab small;

        lab_open(&small, ey_max(3 * ey_quant_panel_bytes(ey_quant_of(weight_formats[f]), 272) + 100, 19 * 272 * 4), 0);
        check_embed(&small, *state, weight_formats[f], 257, 270, 17);
        lab_close(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_format_and_size),
        op_test(shards_share_the_tokens),
    };
    return run_op_tests(tests);
}
