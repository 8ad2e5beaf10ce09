/* test_fused.c - decode of few rows, where products normalise their input, convolve and gate their results, and attention
 * rotates and writes on its own: with the bits of the launches they stand for, which have tests of their own. Products with
 * inputs in 8 bits, too. */
#include "harness.h"

#include <eyrie/eyrie_tools.h>

enum { D = 60, TAPS = 4 };

/* Of the MLP: its product has some more tiles of 4 panels than there are work-items for tiles of their own, the last not full. */
static uint32_t mlp_width(void) { return 32 * (4 * shared.device->units + 1) + 5; }

/* Heads of padding, and none; one gate block, and several. */
static const ey_dim widths[] = { { 1, 64 }, { 3, 20 }, { 2, 96 } };

typedef struct layer {
    rig    r;
    ey_act x, h, g;             /* input; gated output; the MLP's, of the same input */
    ey_dim width;
    size_t slot_floats;
} layer;

/* A recurrent layer up to its gated output and the gated half of an MLP. */
static void layer_open(layer *l, const char *directory, eyrie_format format, ey_dim width, uint64_t max_rows)
{
    uint32_t N = ey_dim_count(width), G = width.groups, P = width.size, M = mlp_width(), padded = ey_dim_padded(width);
    const tensor file[] = {
        { "norm", { D }, noise(D, 1, 1.0f) }, { "x", { N, D }, noise((size_t)N * D, 2, 0.3f) },
        { "y", { N, D }, noise((size_t)N * D, 3, 0.3f) }, { "a", { G, P, P }, noise((size_t)N * P, 4, 0.5f) },
        { "ba", { G, P }, noise(N, 5, 1.0f) }, { "i", { G, P, P }, noise((size_t)N * P, 6, 0.5f) },
        { "bi", { G, P }, noise(N, 7, 1.0f) }, { "conv", { N, 1, TAPS }, noise((size_t)N * TAPS, 8, 1.0f) },
        { "cb", { N }, noise(N, 9, 1.0f) }, { "p", { N }, noise(N, 10, 2.0f) },
        { "gate", { M, D }, noise((size_t)M * D, 11, 1.0f) }, { "up", { M, D }, noise((size_t)M * D, 12, 1.0f) } };

    *l = (layer){ .width = width, .slot_floats = (size_t)TAPS * padded };
    rig_open(&l->r, &shared, EYRIE_FORMAT_F32, EY_DECODE, (uint32_t)max_rows, (uint32_t)max_rows);
    ey_weights *w = rig_weights(&l->r, directory, format, file, COUNT(file));
    ey_buffer *norm = ey_weights_vector(w, "norm", ey_dim_flat(D), 1, EY_ONE_PLUS);
    ey_matrix *in = ey_weights_matrix(w, (ey_part[]){ { "x", NULL, width }, { "y", NULL, width } }, 2, ey_dim_flat(D));
    ey_matrix *gates = ey_weights_gates(w, (ey_part[]){ { "a", "ba", width }, { "i", "bi", width } });
    ey_matrix *mlp = ey_weights_pair(w, (ey_part[]){ { "gate", NULL, ey_dim_flat(M) }, { "up", NULL, ey_dim_flat(M) } },
                                     ey_dim_flat(D));
    ey_buffer *conv = ey_weights_vector(w, "conv", width, TAPS, EY_TRANSPOSE);
    ey_buffer *bias = ey_weights_vector(w, "cb", width, 1, EY_PLAIN), *decay = ey_weights_vector(w, "p", width, 1, EY_DECAY);
    const ey_layer_state *state = rig_state(&l->r, l->slot_floats);
    ey_plan *p = &l->r.plan;

    l->x = hold(&l->r, ey_plan_act(p, max_rows, ey_pad(D)));
    ey_act z = ey_norm(l->x, norm, D, 1e-6f), v, y;
    ey_matmul_conv1d(p, z, in, &(ey_conv){ conv, bias, TAPS, state }, &v, &y);
    l->h = hold(&l->r, ey_matmul_rglru(p, gates, &(ey_recurrence){ v, y, decay, state, (TAPS - 1) * padded, NULL }));
    l->g = hold(&l->r, ey_matmul_geglu(p, z, mlp, NULL));
    rig_seal(&l->r);
}

static float *layer_run(layer *l, const row_set *set, const float *x, float *state, float **g)
{
    rig_clear(&l->r);
    put(&l->r, l->x, ey_dim_flat(D), x, set->n);
    rig_run(&l->r, set->rows, set->n, state);
    *g = get(&l->r, l->g, ey_dim_flat(mlp_width()), set->n);
    return get(&l->r, l->h, l->width, set->n);
}

/* A plan for few rows against one for more, which has a launch for everything. */
static void products_that_do_more(void **state)
{
    for (size_t k = 0; k < COUNT(widths) * COUNT(weight_formats); k++) {
        ey_dim       width = widths[k / COUNT(weight_formats)];
        eyrie_format format = weight_formats[k % COUNT(weight_formats)];
        layer        apart;

        if (shared.more && !ey_quant_of(format)->scaled) continue;
        layer_open(&apart, *state, format, width, EY_FEW_ROWS + 1);
        for (uint32_t rows = 1; rows <= EY_FEW_ROWS; rows++) {
            row_set set = *busiest_decode;
            size_t  floats = SLOTS * apart.slot_floats, n = (size_t)rows * ey_dim_count(width);
            float  *x = noise((size_t)rows * D, 20, 3.0f), *fused_g, *apart_g;
            float  *want_state = noise(floats, 21, 1.0f), *got_state = noise(floats, 21, 1.0f);
            layer   fused;

            set.n = rows;
            if (rows == 2) set.rows[1].position = 0;        /* begins: what the slot holds is not looked at */
            layer_open(&fused, *state, format, width, rows);
            assert_in_range(fused.r.plan.n, 3, 3);
            assert_in_range(apart.r.plan.n, 6, UINT32_MAX);
            if (shared.device->vector > 1) assert_true(fused.r.plan.records[2].global[0] < (2 * mlp_width() + 63) / 64);
            float *want = layer_run(&apart, &set, x, want_state, &apart_g);
            check_same("gated output", layer_run(&fused, &set, x, got_state, &fused_g), want, n);
            check_same("MLP", fused_g, apart_g, (size_t)rows * mlp_width());
            check_same("state", got_state, want_state, floats);
            rig_close(&fused.r);
        }
        rig_close(&apart.r);
    }
}

typedef struct rotated {
    rig    r;
    ey_act q, k, v, out;
} rotated;

enum { HEADS = 4, KV_HEADS = 2, HEAD = 40, WINDOW = 300, RING = 5 };

/* before: by a launch of its own, what attention then is told not to do. */
static void rotated_open(rotated *a, eyrie_format kv, uint32_t rotary, bool before)
{
    uint32_t d = ey_pad(HEAD), rows = busiest_decode->n;

    rig_open(&a->r, &shared, kv, EY_DECODE, rows, rows);
    a->r.geometry = (ey_geometry){ .window = WINDOW, .ring_blocks = RING, .rotary = rotary, .rope_theta = 10000.0 };
    ey_act all = hold(&a->r, ey_plan_act(&a->r.plan, rows, (HEADS + 2 * KV_HEADS) * d));
    a->q = ey_act_slice(all, 0, HEADS * d);
    a->k = ey_act_slice(all, HEADS * d, KV_HEADS * d);
    a->v = ey_act_slice(all, (HEADS + KV_HEADS) * d, KV_HEADS * d);
    if (before) ey_rope(&a->r.plan, ey_act_slice(all, 0, (HEADS + KV_HEADS) * d), HEADS + KV_HEADS, d, rotary);
    a->out = hold(&a->r, ey_attend(&a->r.plan, &(ey_attention){
        .q = a->q, .k = a->k, .v = a->v, .heads = HEADS, .kv_heads = KV_HEADS, .d = d, .rotary = before ? 0 : rotary,
        .scale = 0.15f, .window = WINDOW, .ring_blocks = RING, .kv = kv,
        .state = rig_state(&a->r, ey_attention_state_bytes(RING, KV_HEADS, d, kv) / sizeof(float)) }));
    rig_seal(&a->r);
}

static float *rotated_run(rotated *a, float *rings)
{
    const row_set *set = busiest_decode;
    const ey_dim   heads = { HEADS, HEAD }, kv_heads = { KV_HEADS, HEAD };

    rig_clear(&a->r);
    put(&a->r, a->q, heads, noise(set->n * HEADS * HEAD, 1, 1.0f), set->n);
    put(&a->r, a->k, kv_heads, noise(set->n * KV_HEADS * HEAD, 2, 1.0f), set->n);
    put(&a->r, a->v, kv_heads, noise(set->n * KV_HEADS * HEAD, 3, 1.0f), set->n);
    rig_run(&a->r, set->rows, set->n, rings);
    return get(&a->r, a->out, heads, set->n);
}

static void attention_that_rotates(void **state)
{
    static const uint32_t     turns[] = { 2, 20, 34, 40 };
    static const eyrie_format kvs[] = { EYRIE_FORMAT_F32, EYRIE_FORMAT_F16 };

    (void)state;
    for (size_t k = 0; k < COUNT(turns) * COUNT(kvs); k++) {
        rotated fused, apart;

        rotated_open(&fused, kvs[k % 2], turns[k / 2], false);
        rotated_open(&apart, kvs[k % 2], turns[k / 2], true);
        size_t floats = SLOTS * fused.r.state.layers[0].bytes / sizeof(float);
        float *got_rings = zeros(floats), *want_rings = zeros(floats), *want = rotated_run(&apart, want_rings);
        check_same("attention", rotated_run(&fused, got_rings), want, busiest_decode->n * HEADS * HEAD);
        check_same("ring", got_rings, want_rings, floats);
        rig_close(&fused.r);
        rig_close(&apart.r);
    }
}

static int open_in_8_bits(void **state)
{
    eyrie_verdict v = { 0 };

    open_shared(state);
    if (shared.device) assert_ok(eyrie_probe_run(shared.device, "vnni", &v, &err));
    shared.more = EY_INT8 | (v.answer == EYRIE_YES ? EY_VNNI : 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(products_that_do_more),
        op_test(attention_that_rotates),
    };
    const struct CMUnitTest in_8_bits[] = { op_test(products_that_do_more) };
    return run_cpu_tests(tests) + cmocka_run_group_tests_name("8 bits", in_8_bits, open_in_8_bits, close_shared);
}
