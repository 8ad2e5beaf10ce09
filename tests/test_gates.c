/* test_gates.c - the gates' block-diagonal products: blocks of odd and even numbers of panels, with every tile and
 * weight format, in shards too. */
#include "harness.h"

/* Blocks of inputs and outputs: of 1, 2, 3, 4, 6 and 9 panels, where tiles have up to 4. */
static const ey_dim sizes[] = { { 1, 5 }, { 10, 16 }, { 2, 20 }, { 3, 48 }, { 5, 17 }, { 3, 64 }, { 2, 96 },
                                { 1, 132 } };

/* Two gates, paired. */
typedef struct gates {
    rig        r;
    ey_dim     dim;
    ey_matrix *m;
    ey_act     x, y;
    float     *given[2], *W[2], *bias[2];       /* W: given, as the format keeps it */
} gates;

/* [G, in, out] to [G, out, in], and back: scales are shared along the inputs. */
static float *transposed(const float *x, size_t G, size_t P)
{
    float *y = zeros(G * P * P);
    for (size_t i = 0; i < G * P * P; i++) y[i / (P * P) * P * P + i % P * P + i / P % P] = x[i];
    return y;
}

static void gates_open(gates *g, lab *l, const char *directory, ey_phase phase, eyrie_format format, uint32_t bucket,
                       ey_dim dim)
{
    const uint32_t G = dim.groups, P = dim.size;
    size_t         n = (size_t)G * P * P;

    *g = (gates){ .dim = dim };
    for (uint32_t i = 0; i < 2; i++) {
        g->given[i] = noise(n, 10 + i, 1.0f);
        g->W[i] = transposed(rounded(format, transposed(g->given[i], G, P), G * P, 1, P), G, P);
        g->bias[i] = noise((size_t)G * P, 20 + i, 1.0f);
    }
    const tensor file[] = { { "wa", { G, P, P }, g->given[0] }, { "ba", { G, P }, g->bias[0] },
                            { "wi", { G, P, P }, g->given[1] }, { "bi", { G, P }, g->bias[1] } };
    rig_open(&g->r, l, EYRIE_FORMAT_F32, phase, bucket, phase == EY_PREFILL ? 1 : bucket);
    g->m = ey_weights_gates(rig_weights(&g->r, directory, format, file, COUNT(file)),
                            (ey_part[]){ { "wa", "ba", dim }, { "wi", "bi", dim } });
    g->x = hold(&g->r, ey_plan_act(&g->r.plan, bucket, ey_dim_padded(dim)));
    g->y = hold(&g->r, ey_matmul(&g->r.plan, g->x, g->m));
    rig_seal(&g->r);
}

/* Both gates' [T, G, P], one after the other, for inputs x; as near to the reference as they have to be. */
static float *gates_run(gates *g, const float *x, uint32_t T)
{
    const char *kernel = g->r.plan.records[0].label;
    size_t      G = g->dim.groups, P = g->dim.size, n = T * G * P;
    float      *out = zeros(2 * n);

    rig_clear(&g->r);
    put(&g->r, g->x, g->dim, x, T);
    rig_run_tokens(&g->r, T);
    for (uint32_t i = 0; i < 2; i++) {
        float *want = zeros(n), *magnitude = zeros(n);

        memcpy(out + i * n, get_part(&g->r, g->y, g->dim, i, T), n * sizeof *out);
        ref_gates(T, G, P, x, g->W[i], g->bias[i], want);
        ref_gates(T, G, P, absolute(x, n), absolute(g->W[i], G * P * P), absolute(g->bias[i], G * P), magnitude);
        /* P fma and the bias round sums that are at most the sum of magnitudes; the reference rounds once. */
        check_near(kernel, out + i * n, want, n, (double)P + 2, magnitude);
    }
    return out;
}

/* With the same bits from every tile: those of all tokens in the tallest. */
static void every_tile_and_format(void **state)
{
    static const uint32_t buckets[] = { 64, 12, 8, 4, 2, 1 }, live[] = { 53, 9, 7, 3, 2, 1 };
    static const struct { uint32_t vector; ey_phase phase; } variants[] = { { 1, EY_PREFILL }, { 16, EY_DECODE } };

    for (size_t v = 0; v < COUNT(variants); v++) {
        const char *used[80];
        size_t      n_used = 0, tiles;
        lab         l;

        lab_open(&l, 0, variants[v].vector);
        for (size_t k = 0; k < COUNT(sizes) * COUNT(weight_formats); k++) {
            ey_dim       dim = sizes[k / COUNT(weight_formats)];
            eyrie_format format = weight_formats[k % COUNT(weight_formats)];
            size_t       width = ey_dim_count(dim);
            float       *x = noise(live[0] * width, 1, 1.0f), *all = NULL;

            for (size_t i = 0; i < COUNT(buckets); i++) {
                gates  g;
                size_t n = live[i] * width, seen = 0;

                gates_open(&g, &l, *state, variants[v].phase, format, buckets[i], dim);
                const char *kernel = strcpy((char *)zeros(10), g.r.plan.records[0].label);
                float *out = gates_run(&g, x, live[i]);
                if (i == 0) all = out;
                check_same(kernel, out, all, n);
                check_same(kernel, out + n, all + live[0] * width, n);
                while (seen < n_used && strcmp(used[seen], kernel) != 0) seen++;
                if (seen == n_used) used[n_used++] = kernel;
                rig_close(&g.r);
            }
        }
        /* A single block takes any tile, others those of two panels: on GPUs these are tiles of their own, but in decode. */
        if (on_gpu()) ey_gpu_tiles(variants[v].phase == EY_DECODE, &tiles);
        else ey_device_tiles(l.device, &tiles);
        if (on_gpu() && variants[v].phase == EY_PREFILL) tiles *= 2;
        assert_int_equal(n_used, tiles * COUNT(weight_formats));
        lab_close(&l);
    }
}

/* Shards of 2, 4 and 6 panels, as far as one allocation has to hold the results: they begin anywhere in a block. */
static void shards_change_nothing(void **state)
{
    static const ey_dim   dims[] = { { 2, 20 }, { 3, 48 }, { 3, 64 }, { 2, 96 } };
    static const uint32_t tokens[] = { 1, 5 };
    lab                   small;

    lab_open(&small, 0, 0);
    for (size_t k = 0; k < COUNT(dims) * 3; k++) {
        ey_dim   dim = dims[k / 3];
        uint64_t panels = (k % 3 + 1) * 2 * ey_quant_panel_bytes(ey_quant_of(EYRIE_FORMAT_F32), ey_pad(dim.size));
        uint64_t results = 5 * 2 * ey_dim_padded(dim) * sizeof(float);

        if (small.device) small.device->max_alloc = ey_max(panels, results);    /* as if opened so; builds once */
        for (size_t i = 0; i < COUNT(tokens); i++) {
            size_t n = tokens[i] * ey_dim_count(dim);
            float *x = noise(n, 1, 1.0f);
            gates  whole, parts;

            gates_open(&whole, &shared, *state, EY_PREFILL, EYRIE_FORMAT_F32, tokens[i], dim);
            gates_open(&parts, &small, *state, EY_PREFILL, EYRIE_FORMAT_F32, tokens[i], dim);
            assert_in_range(parts.m->n_shards, 2, UINT32_MAX);
            check_same("sharded", gates_run(&parts, x, tokens[i]), gates_run(&whole, x, tokens[i]), 2 * n);
            rig_close(&parts.r);
            rig_close(&whole.r);
        }
    }
    lab_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        op_test(every_tile_and_format),
        op_test(shards_change_nothing),
    };
    return run_op_tests(tests);
}
