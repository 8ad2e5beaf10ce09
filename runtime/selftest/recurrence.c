/* recurrence.c - checks of the ops that carry something from token to token: convolution, linear recurrence, RG-LRU;
 * and of what decode fuses of a recurrent layer. */
#include "checks.h"
#include "ref/ref.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHANNELS = 80, TAPS = 4 };

void ey_check_conv1d(ey_rig *r, const ey_job *j)
{
    enum { N = CHANNELS, CARRIED = (TAPS - 1) * N, FLOATS = CARRIED + 16, ALL = EY_RIG_SLOTS * FLOATS };
    const ey_row_set *set = &ey_row_sets[j->phase];
    const size_t T = set->tokens, n = T * N;
    float *u = ey_noise(r, n, 1, 1.0f), *bias = ey_noise(r, N, 3, 1.0f);
    float *w = ey_noise(r, N * TAPS, 2, 1.0f), *turned = ey_numbers(r, N * TAPS);
    float *before = ey_nans(r, ALL), *after = ey_nans(r, ALL), *state = ey_numbers(r, ALL);
    float *want = ey_numbers(r, n), *magnitude = ey_numbers(r, n), *got = ey_numbers(r, n);

    for (size_t i = 0; i < N * TAPS; i++) turned[i % TAPS * N + i / TAPS] = w[i];
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * N;
        float *carry = row->position ? ey_noise(r, CARRIED, 4 + i, 1.0f) : ey_numbers(r, CARRIED);
        float *size = ey_absolute(r, carry, CARRIED);

        if (row->position) memcpy(before + row->slot * FLOATS, carry, CARRIED * sizeof *carry);     /* else NaNs */
        ref_conv1d(row->n, N, TAPS, u + at, w, bias, carry, want + at);
        ref_conv1d(row->n, N, TAPS, ey_absolute(r, u + at, (size_t)row->n * N), ey_absolute(r, w, N * TAPS),
                   ey_absolute(r, bias, N), size, magnitude + at);
        memcpy(after + row->slot * FLOATS, carry, CARRIED * sizeof *carry);
    }
    ey_buffer *taps = ey_rig_upload(r, turned, N * TAPS * sizeof *turned);
    ey_buffer *b = ey_rig_upload(r, bias, N * sizeof *bias);
    ey_rig_state(r, before, FLOATS * sizeof *before);
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act in = ey_rig_input(r, N);
    ey_act v = ey_rig_hold(r, ey_conv1d(&r->plan, in, &(ey_conv){ taps, b, TAPS, &r->state }));
    ey_rig_seal(r);
    ey_rig_put(r, in, u, (uint32_t)T, N);
    ey_rig_run(r, set->rows, set->n);
    ey_rig_get(r, v, got, (uint32_t)T, N);
    ey_expect(r, got, want, magnitude, n, TAPS + 1);   /* each tap's fma, and the reference's */
    ey_rig_read(r, r->state.buffer, state);
    for (size_t i = 0; i < ALL; i++)
        if (!isnan(after[i]) || !isnan(state[i])) ey_judge(r, state[i], after[i], 1, 0);
}

enum { H_AT = 32, SLOT_FLOATS = H_AT + CHANNELS + 16, ALL_FLOATS = EY_RIG_SLOTS * SLOT_FLOATS };  /* of recurrences */

void ey_check_scan(ey_rig *r, const ey_job *j)
{
    const ey_row_set *set = &ey_row_sets[EY_PREFILL];
    const size_t T = set->tokens, n = T * CHANNELS;
    float *a = ey_noise(r, n, 1, 1.0f), *x = ey_noise(r, n, 2, 1.0f);
    float *want = ey_numbers(r, n), *magnitude = ey_numbers(r, n), *got = ey_numbers(r, n);
    float *before = ey_nans(r, ALL_FLOATS);

    (void)j;
    for (size_t i = 0; i < n; i++) a[i] = 1.0f - fabsf(a[i] * a[i] * a[i]);  /* most near 1: much is carried */
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * CHANNELS;
        float *h = row->position ? ey_noise(r, CHANNELS, 6 + i, 2.0f) : ey_numbers(r, CHANNELS);
        float *size = ey_absolute(r, h, CHANNELS);

        if (row->position) memcpy(before + row->slot * SLOT_FLOATS + H_AT, h, CHANNELS * sizeof *h);
        ref_scan(row->n, CHANNELS, a + at, x + at, h, want + at);
        ref_scan(row->n, CHANNELS, a + at, ey_absolute(r, x + at, (size_t)row->n * CHANNELS), size, magnitude + at);
    }
    ey_rig_state(r, before, SLOT_FLOATS * sizeof *before);
    ey_rig_begin(r, EYRIE_FORMAT_F32, EY_PREFILL, (uint32_t)T, set->n);
    ey_act in_a = ey_rig_input(r, CHANNELS), in_x = ey_rig_input(r, CHANNELS);
    ey_act out = ey_rig_hold(r, ey_scan(&r->plan, in_a, in_x, NULL, &r->state, H_AT));
    ey_rig_seal(r);
    ey_rig_put(r, in_a, a, (uint32_t)T, CHANNELS);
    ey_rig_put(r, in_x, x, (uint32_t)T, CHANNELS);
    ey_rig_run(r, set->rows, set->n);
    ey_rig_get(r, out, got, (uint32_t)T, CHANNELS);
    /* Each token's fma rounds by at most the recurrence over magnitudes, and so does each block's product of a. */
    ey_expect(r, got, want, magnitude, n, 2.0 * (double)T + EY_BLOCK);
}

/* How far one channel may be from the reference, in roundings of h (in `of_h`, after the last token) and of h gelu(y)
 * (in `of_out`), with the magnitudes of both: see tests/test_rglru.c. */
static void allow(const ey_row_set *set, uint32_t row, const float *const in[4], float p, float h0, bool blocked,
                  size_t at, float *of_h, float *h_size, float *of_out, float *out_size)
{
    bool first = set->rows[row].position == 0;
    double h = fabsf(h0), off = 0.0, products = blocked ? (double)(set->rows[row].n + EY_BLOCK) : 0.0;

    for (size_t t = 0; t < set->rows[row].n; t++) {
        size_t i = at + t * CHANNELS;
        double log_a = -8.0 * ref_sigmoid(in[0][i]) * ref_softplus(p);
        double a = first && t == 0 ? 0.0 : exp(log_a), m = first && t == 0 ? 1.0 : sqrt(-expm1(2 * log_a));
        double x = m * ref_sigmoid(in[1][i]) * fabs(in[2][i]), past = a > 0.0 ? h : 0.0;

        h = a * past + x;
        off = a * off + 12 * past + 30 * x + h + 0x1p-62 / EY_ROUNDING;
        out_size[i] = (float)(h * fabs(in[3][i]));
        of_out[i] = h > 0.0 ? (float)(off / h + products + 12) : 0.0f;
    }
    *h_size = (float)h;
    *of_h = h > 0.0 ? (float)(off / h + products + 1) : 0.0f;
}

static void put_gates(ey_rig *r, ey_act gates, const float *za, const float *zi, uint32_t T)
{
    float *both = ey_numbers(r, (size_t)T * 2 * CHANNELS);

    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < CHANNELS; i++) {
            both[t * 2 * CHANNELS + ey_paired(0, i)] = za[t * CHANNELS + i];
            both[t * 2 * CHANNELS + ey_paired(1, i)] = zi[t * CHANNELS + i];
        }
    ey_rig_put(r, gates, both, T, 2 * CHANNELS);
}

/* choice: 0 = one pass, 1 = blocked. */
void ey_check_rglru(ey_rig *r, const ey_job *j)
{
    const ey_row_set *set = &ey_row_sets[j->phase];
    const size_t T = set->tokens, n = T * CHANNELS;
    const float *const in[4] = { ey_noise(r, n, 1, 4.0f), ey_noise(r, n, 2, 4.0f), ey_noise(r, n, 3, 2.0f),
                                 ey_noise(r, n, 4, 3.0f) };
    float *p = ey_noise(r, CHANNELS, 5, 4.0f), *decay = ey_numbers(r, CHANNELS);
    float *got = ey_numbers(r, n), *want = ey_numbers(r, n);
    float *before = ey_nans(r, ALL_FLOATS), *after = ey_nans(r, ALL_FLOATS);
    float *state = ey_numbers(r, ALL_FLOATS);
    float *of_h = ey_numbers(r, ALL_FLOATS), *h_size = ey_numbers(r, ALL_FLOATS);
    float *of_out = ey_numbers(r, n), *out_size = ey_numbers(r, n);

    for (size_t i = 0; i < CHANNELS; i++) {
        p[i] -= 3.0f;                   /* channels that forget within a token, and others that remember thousands */
        decay[i] = 8.0f * ref_softplus(p[i]);
    }
    for (uint32_t i = 0, first = 0; i < set->n; first += set->rows[i++].n) {
        const ey_row *row = &set->rows[i];
        const size_t at = (size_t)first * CHANNELS, to = row->slot * SLOT_FLOATS + H_AT;
        float *h = row->position ? ey_noise(r, CHANNELS, 6 + i, 2.0f) : ey_numbers(r, CHANNELS);

        for (size_t k = 0; k < CHANNELS; k += 2) h[k] *= 1e-4f;     /* small beside what comes in */
        if (row->position) memcpy(before + to, h, CHANNELS * sizeof *h);
        for (size_t k = 0; k < CHANNELS; k++)
            allow(set, i, in, p[k], h[k], j->choice != 0, at + k, &of_h[to + k], &h_size[to + k], of_out, out_size);
        ref_rglru(row->n, CHANNELS, row->position == 0, in[0] + at, in[1] + at, in[2] + at, in[3] + at, p, h,
                  want + at);
        memcpy(after + to, h, CHANNELS * sizeof *h);
    }
    ey_buffer *b = ey_rig_upload(r, decay, CHANNELS * sizeof *decay);
    ey_rig_state(r, before, SLOT_FLOATS * sizeof *before);
    ey_rig_begin(r, EYRIE_FORMAT_F32, j->phase, (uint32_t)T, set->n);
    ey_act gates = ey_rig_input(r, 2 * CHANNELS), v = ey_rig_input(r, CHANNELS), y = ey_rig_input(r, CHANNELS);
    ey_recurrence rec = { .v = v, .y = y, .decay = b, .state = &r->state, .h_offset = H_AT };
    ey_act hidden = j->choice ? ey_rglru_blocked(&r->plan, gates, &rec) : ey_rglru_pass(&r->plan, gates, &rec);
    ey_act out = ey_rig_hold(r, hidden);
    ey_rig_seal(r);
    put_gates(r, gates, in[0], in[1], (uint32_t)T);
    ey_rig_put(r, v, in[2], (uint32_t)T, CHANNELS);
    ey_rig_put(r, y, in[3], (uint32_t)T, CHANNELS);
    ey_rig_run(r, set->rows, set->n);
    ey_rig_get(r, out, got, (uint32_t)T, CHANNELS);
    for (size_t i = 0; i < n; i++) ey_judge(r, got[i], want[i], out_size[i], of_out[i]);
    ey_rig_read(r, r->state.buffer, state);
    for (size_t i = 0; i < ALL_FLOATS; i++)
        if (!isnan(after[i]) || !isnan(state[i])) ey_judge(r, state[i], after[i], h_size[i], of_h[i]);
}

/* Of a recurrent layer's state: the convolution's last inputs, then h. */
enum { LAYER_H_AT = (TAPS - 1) * CHANNELS, LAYER_FLOATS = LAYER_H_AT + CHANNELS };

/* A recurrent layer up to its gated output, in a plan for that many rows; `state` becomes that of all slots. */
static void run_recurrent(ey_rig *r, eyrie_format format, uint32_t bucket, float *out, float *state)
{
    enum { D = 48, G = 5, P = CHANNELS / G };
    const ey_row_set *set = &ey_row_sets[EY_DECODE];
    const uint32_t T = (uint32_t)ey_min(set->n, bucket);
    float *W = ey_noise(r, 2 * CHANNELS * D, 1, 0.3f), *W_gates = ey_noise(r, 2 * CHANNELS * P, 2, 0.5f);
    float *zero = ey_numbers(r, 2 * CHANNELS), *x = ey_noise(r, (size_t)T * D, 3, 3.0f);
    float *before = ey_noise(r, EY_RIG_SLOTS * LAYER_FLOATS, 4, 1.0f), *decay = ey_noise(r, CHANNELS, 5, 1.0f);
    struct ey_shard shards[2];
    ey_matrix in_w, gates;

    for (size_t i = 0; i < CHANNELS; i++) decay[i] = 2.0f + decay[i];
    ey_rig_matrix(r, &in_w, &shards[0], format, W, zero, 2 * CHANNELS, D);
    in_w.n_parts = 2;
    in_w.part_rows[0] = in_w.part_rows[1] = CHANNELS;
    ey_rig_matrix(r, &gates, &shards[1], format, W_gates, zero, 2 * CHANNELS, P);
    ey_pair_up(&gates);
    gates.blocks = G;
    ey_buffer *scale = ey_rig_upload(r, ey_noise(r, D, 6, 1.0f), D * sizeof(float));
    ey_buffer *taps = ey_rig_upload(r, ey_noise(r, TAPS * CHANNELS, 7, 1.0f), TAPS * CHANNELS * sizeof(float));
    ey_buffer *bias = ey_rig_upload(r, ey_noise(r, CHANNELS, 8, 1.0f), CHANNELS * sizeof(float));
    ey_buffer *rates = ey_rig_upload(r, decay, CHANNELS * sizeof(float));
    ey_rig_state(r, before, LAYER_FLOATS * sizeof(float));
    ey_rig_begin(r, EYRIE_FORMAT_F32, EY_DECODE, bucket, bucket);
    ey_act in = ey_rig_input(r, D), v, y, z = ey_norm(in, scale, D, 1e-6f);
    ey_matmul_conv1d(&r->plan, z, &in_w, &(ey_conv){ taps, bias, TAPS, &r->state }, &v, &y);
    ey_recurrence rec = { .v = v, .y = y, .decay = rates, .state = &r->state, .h_offset = LAYER_H_AT };
    ey_act h = ey_rig_hold(r, ey_matmul_rglru(&r->plan, &gates, &rec));
    ey_rig_seal(r);
    ey_rig_put(r, in, x, T, D);
    ey_rig_run(r, set->rows, T);
    ey_rig_get(r, h, out, T, CHANNELS);
    ey_rig_read(r, r->state.buffer, state);
}

/* Decode of few rows, `choice`, has fewer launches, whose products do more: with the same bits as the launches they
 * stand for, which a plan for more rows has. */
void ey_check_fused(ey_rig *r, const ey_job *j)
{
    enum { STATES = EY_RIG_SLOTS * LAYER_FLOATS, OUTPUTS = 3 * CHANNELS };
    const ey_row_set *set = &ey_row_sets[EY_DECODE];
    float *got_state = ey_numbers(r, STATES), *want_state = ey_numbers(r, STATES);
    float *got = ey_numbers(r, OUTPUTS), *want = ey_numbers(r, OUTPUTS);
    ey_rig apart;

    ey_rig_init(&apart, r->lab, r->own);
    run_recurrent(r, j->format, j->choice, got, got_state);
    if (r->plan.n > 0) {
        const char *tile = r->plan.records[0].label + strlen("matmul_conv1d_");
        snprintf(r->variant, sizeof r->variant, "%s, decode", tile);
    }
    run_recurrent(&apart, j->format, EY_FEW_ROWS + 1, want, want_state);
    if (r->status == EYRIE_OK && (r->status = apart.status) != EYRIE_OK) r->err = apart.err;
    for (uint32_t i = 0; i < ey_min(set->n, j->choice) && r->status == EYRIE_OK; i++) {
        size_t slot = (size_t)set->rows[i].slot * LAYER_FLOATS, row = (size_t)i * CHANNELS;
        ey_expect_same(r, got_state + slot, want_state + slot, LAYER_FLOATS * sizeof *got);
        ey_expect_same(r, got + row, want + row, CHANNELS * sizeof *got);
    }
    ey_rig_free(&apart);
}
