/* products.c - checks of products with weights: plain ones, gates in blocks, gate and up of an MLP. In each, `choice`
 * is how many rows there are, by which the tile is chosen. */
#include "checks.h"
#include "ref/ref.h"

#include <stdio.h>
#include <string.h>

/* After the kernel that was recorded last: what it is an instance of goes without saying. */
static void name_product(ey_rig *r, const char *what)
{
    const char *label = r->plan.n > 0 ? r->plan.records[r->plan.n - 1].label : "";

    if (strncmp(label, "matmul_", 7) == 0) label += 7;
    snprintf(r->variant, sizeof r->variant, "%s%s", label, what);
}

/* What the kernels make of inputs [rows of K columns] and weights before they multiply them. */
static void round_for(const ey_rig *r, float *x, size_t rows, size_t K, float *W, size_t weights)
{
    if (r->unit) {
        ref_round_bf16(rows * K, x);
        ref_round_bf16(weights, W);
    }
    for (size_t i = 0; r->int8 && i < rows; i++)
        for (size_t k = 0; k < K; k += EY_GROUP) {
            int8_t q[EY_GROUP];
            size_t n = ey_min(K - k, EY_GROUP);
            float by = ref_whole(n, x + i * K + k, q);
            for (size_t c = 0; c < n; c++) x[i * K + k + c] = q[c] * by;
        }
}

/* y = x W^T + bias, then y += the same. 5 panels leave part of every tile of several over. */
void ey_check_matmul(ey_rig *r, const ey_job *j)
{
    enum { K = 176, MANY = 1024 };      /* in tiles enough for work-items of several, where compute units are few */
    const uint32_t T = j->choice, N = 80 + (r->int8 && T <= EY_FEW_ROWS ? MANY : 0);
    const size_t n = (size_t)T * N, inputs = (size_t)T * K, weights = (size_t)N * K;
    float *W = ey_noise(r, weights, 1, 1.0f), *bias = ey_noise(r, N, 2, 1.0f), *x = ey_noise(r, inputs, 3, 1.0f);
    float *want = ey_numbers(r, n), *magnitude = ey_numbers(r, n), *got = ey_numbers(r, n);
    struct ey_shard shard;
    ey_matrix m;

    ey_rig_matrix(r, &m, &shard, j->format, W, bias, N, K);
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, T, j->phase == EY_PREFILL ? 1 : T);
    ey_act in = ey_rig_input(r, K), y = ey_rig_hold(r, ey_matmul(&r->plan, in, &m));
    ey_matmul_add(&r->plan, in, &m, y);
    ey_rig_seal(r);
    name_product(r, "");
    ey_rig_put(r, in, x, T, K);
    ey_rig_run_tokens(r, T);
    ey_rig_get(r, y, got, T, N);
    round_for(r, x, T, K, W, weights);
    ref_matmul(T, N, K, x, W, bias, want);
    ref_matmul(T, N, K, ey_absolute(r, x, inputs), ey_absolute(r, W, weights), ey_absolute(r, bias, N), magnitude);
    for (size_t i = 0; i < n; i++) want[i] *= 2, magnitude[i] *= 2;
    /* K fma (in 8 bits, three for 32), the bias, the sum of both; and the reference's. */
    ey_expect(r, got, want, magnitude, n, K + 3);
}

/* Columns of a part of y [T, 2 N], [T, N]. */
static const float *take_part(ey_rig *r, const float *y, uint32_t part, size_t T, size_t N)
{
    float *out = ey_numbers(r, T * N);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < N; i++) out[t * N + i] = y[t * 2 * N + ey_paired(part, i)];
    return out;
}

/* Two gates of G blocks of one panel each: by the lowest tile of two panels that is tall enough. */
void ey_check_gates(ey_rig *r, const ey_job *j)
{
    enum { G = 3, P = 16, N = G * P };
    const uint32_t T = j->choice;
    const size_t n = (size_t)T * N;
    float *W = ey_noise(r, 2 * N * P, 1, 1.0f), *bias = ey_noise(r, 2 * N, 2, 1.0f), *x = ey_noise(r, n, 3, 1.0f);
    float *want = ey_numbers(r, n), *magnitude = ey_numbers(r, n), *got = ey_numbers(r, 2 * n);
    float *stored = ey_numbers(r, N * P), *b = ey_numbers(r, N);
    struct ey_shard shard;
    ey_matrix m;

    ey_rig_matrix(r, &m, &shard, j->format, W, bias, 2 * N, P);
    ey_pair_up(&m);
    m.blocks = G;
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, T, j->phase == EY_PREFILL ? 1 : T);
    ey_act in = ey_rig_input(r, N), y = ey_rig_hold(r, ey_matmul(&r->plan, in, &m));
    ey_rig_seal(r);
    name_product(r, ", gates");
    ey_rig_put(r, in, x, T, N);
    ey_rig_run_tokens(r, T);
    ey_rig_get(r, y, got, T, 2 * N);
    round_for(r, x, (size_t)T * G, P, W, 2 * N * P);
    for (uint32_t part = 0; part < 2; part++) {
        for (size_t i = 0; i < N; i++) {        /* block b, output o, input k: a file has it as [b, k, o] */
            b[i] = bias[ey_paired(part, i)];
            for (size_t k = 0; k < P; k++) stored[(i / P * P + k) * P + i % P] = W[ey_paired(part, i) * P + k];
        }
        ref_gates(T, G, P, x, stored, b, want);
        ref_gates(T, G, P, ey_absolute(r, x, n), ey_absolute(r, stored, N * P), ey_absolute(r, b, N), magnitude);
        ey_expect(r, take_part(r, got, part, T, N), want, magnitude, n, P + 2);
    }
}

/* gelu(gate) * up of two parts, against the reference of what the plain product makes of them. */
void ey_check_geglu(ey_rig *r, const ey_job *j)
{
    enum { M = 48, K = 32 };
    const uint32_t T = j->choice;
    const size_t n = (size_t)T * M;
    float *W = ey_noise(r, 2 * M * K, 1, 1.0f), *bias = ey_noise(r, 2 * M, 2, 1.0f);
    float *x = ey_noise(r, (size_t)T * K, 3, 1.0f), *sums = ey_numbers(r, 2 * n);
    float *want = ey_numbers(r, n), *magnitude = ey_numbers(r, n), *got = ey_numbers(r, n);
    struct ey_shard shard;
    ey_matrix m;

    bias[0] = 40.0f, bias[1] = -40.0f;          /* where tanh is flat */
    ey_rig_matrix(r, &m, &shard, j->format, W, bias, 2 * M, K);
    ey_pair_up(&m);
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, T, j->phase == EY_PREFILL ? 1 : T);
    ey_act in = ey_rig_input(r, K), both = ey_rig_hold(r, ey_matmul(&r->plan, in, &m));
    ey_act y = ey_rig_hold(r, ey_matmul_geglu(&r->plan, in, &m, NULL));
    ey_rig_seal(r);
    name_product(r, "");
    ey_rig_put(r, in, x, T, K);
    ey_rig_run_tokens(r, T);
    ey_rig_get(r, both, sums, T, 2 * M);
    ey_rig_get(r, y, got, T, M);
    const float *gate = take_part(r, sums, 0, T, M), *up = take_part(r, sums, 1, T, M);
    for (size_t i = 0; i < n; i++) magnitude[i] = gate[i] * up[i];
    ref_geglu(T, M, gate, up, want);
    /* gelu is off by 6.2 roundings of its argument; the product adds one, and the reference. */
    ey_expect(r, got, want, magnitude, n, 6.2 + 1 + 1);
}
