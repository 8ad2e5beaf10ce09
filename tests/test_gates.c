/* test_gates.c - the gates' block-diagonal products: blocks of odd and even numbers of panels, with every tile and weight
 * format, in shards too. */
#include "harness.h"

/* Blocks of inputs and outputs: of 1, 2, 3, 4, 6 and 9 panels, where tiles have up to 4. */
static const ey_dim sizes[] = { { 1, 5 }, { 10, 16 }, { 2, 20 }, { 3, 48 }, { 5, 17 }, { 3, 64 }, { 2, 96 }, { 1, 132 } };

static const uint32_t buckets[] = { 1, 2, 4, 8, 12, 70 };

typedef struct gates {
    rig        r;
    ey_dim     dim;
    ey_matrix *m;
    ey_act     x, y;
    float     *W[2], *bias[2];      /* W as the format keeps it */
} gates;

static void gates_open(gates *g, lab *l, const char *directory, eyrie_format format, uint32_t bucket, ey_dim dim)
{
    uint32_t G = dim.groups, P = dim.size;
    size_t   n = (size_t)G * P * P;

    *g = (gates){ .dim = dim };
    for (uint32_t i = 0; i < 2; i++) {
        g->W[i] = rounded(format, noise(n, 10 + i, 1.0f), n);
        g->bias[i] = noise((size_t)G * P, 20 + i, 1.0f);
    }
    const tensor file[] = { { "wa", { G, P, P }, g->W[0] }, { "ba", { G, P }, g->bias[0] },
                            { "wi", { G, P, P }, g->W[1] }, { "bi", { G, P }, g->bias[1] } };

    rig_open(&g->r, l, EYRIE_FORMAT_F32, EY_PREFILL, bucket, 1);
    g->m = ey_weights_gates(rig_weights(&g->r, directory, format, file, COUNT(file)),
                            (ey_part[]){ { "wa", "ba", dim }, { "wi", "bi", dim } }, 2);
    g->x = hold(&g->r, ey_plan_act(&g->r.plan, bucket, ey_dim_padded(dim)));
    g->y = hold(&g->r, ey_matmul(&g->r.plan, g->x, g->m));
    rig_seal(&g->r);
}

/* Both gates' [T, G, P], one after the other, for tokens whose inputs are x. */
static float *gates_run(gates *g, const float *x, uint32_t T)
{
    uint32_t G = g->dim.groups, P = g->dim.size;
    size_t   n = (size_t)T * G * P, weights = (size_t)G * P * P;
    float   *out = zeros(2 * n);

    rig_clear(&g->r);
    put(&g->r, g->x, g->dim, x, T);
    rig_run(&g->r, &(ey_row){ .n = T }, 1);
    for (uint32_t i = 0; i < 2; i++) {
        float *want = zeros(n), *magnitude = zeros(n);

        memcpy(out + i * n, get(&g->r, ey_part_of(g->y, g->m, i), g->dim, T), n * sizeof *out);
        ref_gates(T, G, P, x, g->W[i], g->bias[i], want);
        ref_gates(T, G, P, absolute(x, n), absolute(g->W[i], weights), absolute(g->bias[i], (size_t)G * P), magnitude);
        /* P fma and the bias round sums that are at most the sum of magnitudes; the reference rounds once. */
        check_near(g->r.plan.records[0].label, out + i * n, want, n, P + 2.0, magnitude);
    }
    return out;
}

/* Also with the same bits from every tile: those of all rows in the largest. */
static void every_tile_and_format(void **state)
{
    const char *used[3 * 10];
    size_t      n_used = 0;

    for (size_t s = 0; s < COUNT(sizes); s++)
        for (size_t f = 0; f < COUNT(weight_formats); f++) {
            const uint32_t most = buckets[COUNT(buckets) - 1], width = ey_dim_count(sizes[s]);
            float         *x = noise((size_t)most * width, 1, 1.0f), *all = NULL;

            for (size_t i = COUNT(buckets); i-- > 0;) {
                uint32_t T = buckets[i] - buckets[i] / 4;
                gates    g;
                size_t   k = 0;

                gates_open(&g, &shared, *state, weight_formats[f], buckets[i], sizes[s]);
                float *out = gates_run(&g, x, T);
                if (!all) all = out;
                for (uint32_t gate = 0; gate < 2; gate++)
                    check_same(g.r.plan.records[0].label, out + (size_t)gate * T * width,
                               all + (size_t)gate * (most - most / 4) * width, (size_t)T * width);
                while (k < n_used && strcmp(used[k], g.r.plan.records[0].label) != 0) k++;
                if (k == n_used) used[n_used++] = strcpy((char *)zeros(10), g.r.plan.records[0].label);
                rig_close(&g.r);
            }
        }
    assert_int_equal(n_used, COUNT(used));      /* 3 formats, 5 heights, 1 panel and several */
}

/* Shards of 1, 2, ... panels begin anywhere in a block. */
static void shards_change_nothing(void **state)
{
    static const uint32_t tokens[] = { 1, 5 };

    for (size_t s = 0; s < COUNT(sizes); s++)
        for (uint32_t panels = 1; panels <= 5; panels++)
            for (size_t i = 0; i < COUNT(tokens); i++) {
                uint64_t results = (uint64_t)tokens[i] * 2 * ey_dim_padded(sizes[s]) * sizeof(float);
                float   *x = noise((size_t)tokens[i] * ey_dim_count(sizes[s]), 1, 1.0f);
                gates    whole, parts;
                lab      small;

                lab_open(&small, ey_max(panels * ey_quant_panel_bytes(ey_quant_of(EYRIE_FORMAT_F32), ey_pad(sizes[s].size)), results));
                gates_open(&whole, &shared, *state, EYRIE_FORMAT_F32, tokens[i], sizes[s]);
                gates_open(&parts, &small, *state, EYRIE_FORMAT_F32, tokens[i], sizes[s]);
                check_same("sharded", gates_run(&parts, x, tokens[i]), gates_run(&whole, x, tokens[i]),
                           2 * (size_t)tokens[i] * ey_dim_count(sizes[s]));
                rig_close(&parts.r);
                rig_close(&whole.r);
                lab_close(&small);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_tile_and_format),
        op_test(shards_change_nothing),
    };
    return run_op_tests(tests);
}
