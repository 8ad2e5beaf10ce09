/* test_ref.c - the plain-C reference against what does not come from it: closed forms, cases small enough to work out
 * by hand, and identities of the mathematics. Not for whole models: those have golden files. */
#include "testing.h"

#include <float.h>
#include <math.h>

#include "ref.h"

/* Sums are in double and rounded to f32 once or twice, half an ulp (6e-8) each; the inputs of a closed form, rounded
 * to f32 as well, add as much again. */
#define NEAR 3e-7

static void near_to(double got, double want, double tolerance, const char *what)
{
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)))) fail_msg("%s: %.9g, not %.9g", what, got, want);
}

/* The same relative to the value however small it is. */
static void near_ratio(double got, double want, double tolerance, const char *what)
{
    near_to(got / want, 1.0, tolerance, what);
}

static void all_near(const float *got, const float *want, size_t n, double tolerance, const char *what)
{
    char item[80];
    for (size_t i = 0; i < n; i++) {
        snprintf(item, sizeof item, "%s[%zu]", what, i);
        near_to(got[i], want[i], tolerance, item);
    }
}

/* Numbers in [-1, 1), different for each seed. */
static void fill(float *x, size_t n, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1u;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

static void scalars_at_known_points(void **unused)
{
    (void)unused;
    /* gelu(1), gelu(-3): the formula worked out in decimal arithmetic to 50 digits. */
    near_to(ref_gelu(0.0f), 0.0, 0.0, "gelu(0)");
    near_to(ref_gelu(1.0f), 0.84119199060827670478, NEAR, "gelu(1)");
    near_ratio(ref_gelu(-3.0f), -0.0036373920817730188375, NEAR, "gelu(-3)");
    near_to(ref_sigmoid(logf(3.0f)), 0.75, NEAR, "sigmoid(ln 3)");
    near_ratio(ref_sigmoid(-80.0f), exp(-80.0), NEAR, "sigmoid(-80)");
    near_to(ref_softplus(0.0f), log(2.0), NEAR, "softplus(0)");
    near_ratio(ref_softplus(-80.0f), exp(-80.0), NEAR, "softplus(-80)");
    for (float u = -12.0f; u <= 12.0f; u += 0.37f) {
        near_to(ref_gelu(u) - ref_gelu(-u), u, NEAR, "gelu(u) - gelu(-u) = u");
        near_to(ref_softplus(u) - ref_softplus(-u), u, NEAR, "softplus(u) - softplus(-u) = u");
        near_to(ref_sigmoid(u) + ref_sigmoid(-u), 1.0, NEAR, "sigmoid(u) + sigmoid(-u) = 1");
    }
}

static void scalars_at_extremes(void **unused)
{
    (void)unused;
    const float huge[] = { 100.0f, 1e4f, 1e20f, FLT_MAX };
    for (size_t i = 0; i < COUNT(huge); i++) {
        const float u = huge[i];
        near_ratio(ref_gelu(u), u, 0.0, "gelu(huge)");
        near_to(ref_gelu(-u), 0.0, 0.0, "gelu(-huge)");
        near_ratio(ref_softplus(u), u, 0.0, "softplus(huge)");
        near_to(ref_softplus(-u), 0.0, 1e-43, "softplus(-huge)");   /* exp(-100) is 4e-44 */
        near_to(ref_sigmoid(u), 1.0, 0.0, "sigmoid(huge)");
        near_to(ref_sigmoid(-u), 0.0, 1e-43, "sigmoid(-huge)");
    }
}

static void embedding_takes_scaled_rows(void **unused)
{
    (void)unused;
    const float table[] = { 1, 2, 3, 4, 5, 6 }, want[] = { 2.5f, 3, 0.5f, 1, 2.5f, 3 };
    const int32_t ids[] = { 2, 0, 2 };
    float out[6];
    ref_embed(3, 2, ids, table, 0.5f, out);
    assert_memory_equal(out, want, sizeof want);
}

static void norm_divides_by_root_mean_square(void **unused)
{
    (void)unused;
    const float x[] = { 1, 7, 0, 0 }, w[] = { 0, -0.5f }, want[] = { 0.2f, 0.7f, 0, 0 };   /* root mean square 5 */
    float y[4], scaled[4], y8[4];
    ref_norm(2, 2, x, w, 1e-30f, y);
    all_near(y, want, 4, NEAR, "norm");
    for (int i = 0; i < 4; i++) scaled[i] = 8.0f * x[i];
    ref_norm(1, 2, scaled, w, 0.0f, y8);
    all_near(y8, want, 2, NEAR, "norm of 8 x");
    ref_norm(1, 2, x, w, 75.0f, y);                        /* sqrt(25 + 75) = 10 */
    near_to(y[0], 0.1, NEAR, "norm with a large eps");
}

static void matmul_by_hand(void **unused)
{
    (void)unused;
    const float x[] = { 1, 2, 3, 1e8f, 1, -1e8f }, W[] = { 1, 1, 1, 4, 5, 6 }, bias[] = { 10, 0.5f };
    const float want[] = { 16, 32.5f, 11, -199999994.5f };  /* the third is 10 if 1e8 + 1 is rounded to f32 */
    float y[4];
    ref_matmul(2, 2, 3, x, W, bias, y);
    all_near(y, want, 4, NEAR, "with bias");
    ref_matmul(1, 2, 3, x, W, NULL, y);
    near_to(y[0], 6.0, 0.0, "without bias");
    near_to(y[1], 32.0, 0.0, "without bias");
}

static void rounding_to_8_bits(void **unused)
{
    /* 8 bits hold whole numbers up to 256; above, those that are even, then multiples of 4. Halves go to the even one. */
    float x[] = { 0.0f, -0.0f, 1.0f, 255.0f, 256.0f, 257.0f, 258.0f, 259.0f, -261.0f, 513.9f, 514.0f, 518.0f, 0x1.ffp-20f, INFINITY };
    const float want[] = { 0.0f, -0.0f, 1.0f, 255.0f, 256.0f, 256.0f, 258.0f, 260.0f, -260.0f, 512.0f, 512.0f, 520.0f, 0x1p-19f,
                           INFINITY };

    (void)unused;
    ref_round_bf16(COUNT(x), x);
    assert_memory_equal(x, want, sizeof x);
}

/* The largest becomes 127 of its sign, others the nearest number, even among equals. */
static void whole_numbers_by_hand(void **unused)
{
    (void)unused;
    const float x[] = { 63.5f, -127, 0.5f, 1.5f, -2.49f, 0 }, tiny[] = { 0x1p-101f, 0 }, bad[][2] = { { 1, NAN }, { -INFINITY, 2 } };
    const int8_t want[] = { 64, -127, 0, 2, -2, 0 };
    int8_t q[6];

    assert_float_equal(ref_whole(6, x, q), 1, 1e-6f);
    assert_memory_equal(q, want, sizeof q);
    (void)ref_whole(2, tiny, q);
    assert_memory_equal(q, "\0\0", 2);
    for (size_t i = 0; i < 2; i++) assert_true(!isfinite(ref_whole(2, bad[i], q)));
}

/* Two groups of columns with scales of their own; 254 rounds to 127 times 2, 1 to 1 of 127. */
static void whole_products_by_hand(void **unused)
{
    (void)unused;
    float x[33] = { 254, -2 }, W[33] = { 3, 6 }, y;
    const float scales[] = { 3, 0.5f }, bias = 100;

    x[32] = 127;
    W[32] = -2;                     /* -4 halves */
    ref_matmul_int8(1, 1, 33, x, W, scales, &bias, &y);
    assert_float_equal(y, 254 * 3 - 2 * 6 - 127 * 2 + 100, 1e-3f);
}

static void gates_are_blocks_stored_in_out(void **unused)
{
    (void)unused;
    const float x[] = { 1, 10, 100, 1000, 0, 1, 0, 0 }, bias[] = { 0, 0, 0.5f, 0 };
    const float W[] = { 1, 2, 3, 4, /* second block */ 5, 6, 7, 8 };
    const float want[] = { 31, 42, 7500.5f, 8600, 3, 4, 0.5f, 0 };
    float z[8];
    ref_gates(2, 2, 2, x, W, bias, z);
    all_near(z, want, 8, NEAR, "gates");
}

static void conv1d_by_hand(void **unused)
{
    (void)unused;
    const float u[] = { 1, 2, 3 }, w[] = { 100, 10, 1 }, bias[] = { 0.5f };
    const float want[] = { 871.5f, 712.5f, 123.5f }, last[] = { 2, 3 };
    float carry[] = { 8, 7 }, v[3];
    ref_conv1d(3, 1, 3, u, w, bias, carry, v);
    all_near(v, want, 3, NEAR, "the last tap meets the current token");
    assert_memory_equal(carry, last, sizeof last);
}

/* The whole is what its parts give, wherever it is cut, parts shorter than the carry included. */
static void conv1d_split_is_whole(void **unused)
{
    (void)unused;
    enum { T = 9, N = 3, MOST = 5 };
    float u[T * N], w[N * MOST], bias[N];
    fill(u, T * N, 1); fill(w, N * MOST, 2); fill(bias, N, 3);
    for (size_t C = 1; C <= MOST; C++)
        for (size_t cut = 0; cut <= T; cut++) {
            float whole[T * N], parts[T * N], carry[2][MOST * N];
            fill(carry[0], MOST * N, 4); fill(carry[1], MOST * N, 4);
            ref_conv1d(T, N, C, u, w, bias, carry[0], whole);
            ref_conv1d(cut, N, C, u, w, bias, carry[1], parts);
            ref_conv1d(T - cut, N, C, u + cut * N, w, bias, carry[1], parts + cut * N);
            assert_memory_equal(parts, whole, sizeof whole);
            assert_memory_equal(carry[1], carry[0], sizeof carry[0]);
        }
}

static void scan_of_constants_is_geometric(void **unused)
{
    (void)unused;
    float a[2 * 8], x[2 * 8], out[2 * 8], h[2] = { 0, 64 };
    for (int i = 0; i < 8; i++) {
        a[2 * i] = a[2 * i + 1] = 0.5f;
        x[2 * i] = 1.0f;
        x[2 * i + 1] = 0.0f;
    }
    ref_scan(8, 2, a, x, h, out);
    for (int t = 0; t < 8; t++) {
        near_to(out[2 * t], 2.0 - exp2(-t), 0.0, "1 added at each step");
        near_to(out[2 * t + 1], exp2(5 - t), 0.0, "64 halved at each step");
    }
    near_to(h[0], out[14], 0.0, "state");
    near_to(h[1], out[15], 0.0, "state");
}

static void recurrences_split_are_whole(void **unused)
{
    (void)unused;
    enum { T = 12, N = 3 };
    float a[T * N], x[T * N], za[T * N], zi[T * N], y[T * N], p[N];
    fill(a, T * N, 1); fill(x, T * N, 2); fill(za, T * N, 3); fill(zi, T * N, 4); fill(y, T * N, 5); fill(p, N, 6);
    for (size_t cut = 0; cut <= T; cut++) {
        float whole[T * N], parts[T * N], h[2][N];
        const size_t at = cut * N;
        fill(h[0], N, 7); fill(h[1], N, 7);
        ref_scan(T, N, a, x, h[0], whole);
        ref_scan(cut, N, a, x, h[1], parts);
        ref_scan(T - cut, N, a + at, x + at, h[1], parts + at);
        all_near(parts, whole, T * N, NEAR, "scan");       /* the state is rounded once more at the cut */
        all_near(h[1], h[0], N, NEAR, "scan state");

        ref_rglru(T, N, true, za, zi, x, y, p, h[0], whole);
        ref_rglru(cut, N, true, za, zi, x, y, p, h[1], parts);
        ref_rglru(T - cut, N, cut == 0, za + at, zi + at, x + at, y + at, p, h[1], parts + at);
        all_near(parts, whole, T * N, NEAR, "rglru");
        all_near(h[1], h[0], N, NEAR, "rglru state");
    }
}

/* za = zi = p = 0: r = i = 1/2, softplus(p) = ln 2, so a = exp(-4 ln 2) = 1/16 and m = sqrt(255) / 16. */
static void rglru_by_hand(void **unused)
{
    (void)unused;
    const float zero[2] = { 0, 0 }, v[2] = { 2, 6 }, y[2] = { 0, 1 };
    const double m = sqrt(255.0) / 16.0, gelu_1 = 0.84119199060827670478;
    float h = 16.0f, out[2];
    ref_rglru(2, 1, false, zero, zero, v, NULL, zero, &h, out);
    near_to(out[0], 1.0 + m, NEAR, "16 a + m i v");
    near_to(out[1], (1.0 + m) / 16.0 + 3.0 * m, NEAR, "second step");
    near_to(h, out[1], 0.0, "state");

    h = NAN;                                               /* left by whatever used the slot before */
    ref_rglru(2, 1, true, zero, zero, v, y, zero, &h, out);
    near_to(out[0], 0.0, 0.0, "gelu(0) shuts the gate");
    near_to(out[1], (1.0 / 16.0 + 3.0 * m) * gelu_1, NEAR, "first token: a = 0, m = 1");
    near_to(h, 1.0 / 16.0 + 3.0 * m, NEAR, "state is what the gate branch does not touch");
}

static void rglru_at_extremes(void **unused)
{
    (void)unused;
    const struct {
        float  za, zi, p;
        double a, gain;                                    /* h = a h + gain v */
    } cases[] = {
        { 100.0f, 100.0f, 1e30f, 0.0, 1.0 },               /* forgets at once */
        { 0.0f, 100.0f, FLT_MAX, 0.0, 1.0 },
        { 100.0f, 100.0f, -FLT_MAX, 1.0, 0.0 },            /* never forgets */
        { -100.0f, 100.0f, 100.0f, 1.0, 0.0 },             /* the recurrence gate is shut: r = 4e-44 */
        { -1e30f, 100.0f, 1e30f, 1.0, 0.0 },
        { 100.0f, -100.0f, 100.0f, 0.0, 0.0 },             /* the input gate is shut */
        { 0.0f, 0.0f, -30.0f, 1.0, 0.0 },                  /* m i = sqrt(8 exp(-30)) / 2 = 4e-7 */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const float v = 0.25f;
        float h = 3.0f, out;
        ref_rglru(1, 1, false, &cases[i].za, &cases[i].zi, &v, NULL, &cases[i].p, &h, &out);
        near_to(out, cases[i].a * 3.0 + cases[i].gain * v, NEAR, "rglru");
        near_to(h, out, 0.0, "state");
    }
    /* Where a is nearly 1, m = sqrt(1 - a^2) must not cancel: 1 - a^2 = 2 * 8 * 1/2 * exp(-30) to all f32 digits. */
    const float zero = 0.0f, one = 1.0f, p = -30.0f;
    float h = 0.0f, out;
    ref_rglru(1, 1, false, &zero, &zero, &one, NULL, &p, &h, &out);
    near_ratio(out, 0.5 * sqrt(8.0 * exp(-30.0)), NEAR, "m for small log a");
}

static void rope_turns_pairs(void **unused)
{
    (void)unused;
    /* d = 5, R = 4, theta = 100: pair (0, 2) turns by 1 radian a position, (1, 3) by 0.1, dimension 4 not at all. */
    float x[] = { 1, 0, 0, 2, 7, 0, 3, 1, 0, 8 };
    const double c = cos(3.0), s = sin(3.0), c1 = cos(0.3), s1 = sin(0.3);
    const double want[] = { c, -2 * s1, s, 2 * c1, 7, -s, 3 * c1, c, 3 * s1, 8 };
    ref_rope(1, 2, 5, 4, 100.0, 3, x);
    for (int i = 0; i < 10; i++) near_to(x[i], want[i], NEAR, "rope");
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* A rotation keeps the norm, and a query and a key meet at an angle that depends on their distance alone - at any
 * position, so the angle must not lose its digits on the way. */
static void rope_is_relative(void **unused)
{
    (void)unused;
    enum { D = 16, T = 3 };
    const uint64_t positions[] = { 0, 1, 2047, 1000000, 1ull << 32 };
    float q[D], k[T * D];
    fill(q, D, 1); fill(k, D, 2);
    memcpy(k + D, k, D * sizeof *k); memcpy(k + 2 * D, k, D * sizeof *k);
    for (size_t R = 8; R <= D; R += 8) {
        double first[T];
        for (size_t i = 0; i < COUNT(positions); i++) {
            float turned[D], keys[T * D];
            memcpy(turned, q, sizeof q); memcpy(keys, k, sizeof k);
            ref_rope(1, 1, D, R, 10000.0, positions[i] + 5, turned);
            ref_rope(T, 1, D, R, 10000.0, positions[i], keys);
            near_to(dot(turned, turned, D), dot(q, q, D), NEAR, "norm");
            for (size_t t = 0; t < T; t++) {
                const double score = dot(turned, keys + t * D, D);
                if (i == 0) first[t] = score;
                /* An angle of 2^32 radians in double is right to 2^-21 = 5e-7, and eight pairs add up to 4 at most. */
                near_to(score, first[t], 2e-6, "query and key at a distance");
            }
        }
        assert_true(fabs(first[0] - first[1]) > 1e-3);      /* distances do differ */
    }
}

/* Queries of zero weigh all keys they see alike, so values that are their own position show which ones those are. */
static void attention_sees_itself_and_the_window(void **unused)
{
    (void)unused;
    enum { T = 20 };
    float q[T] = { 0 }, k[T], position[T], out[T];
    fill(k, T, 1);
    for (int s = 0; s < T; s++) position[s] = (float)s;
    const uint64_t windows[] = { 0, 1, 5, 18, 19, 20, UINT64_MAX };
    for (size_t i = 0; i < COUNT(windows); i++)
        for (size_t past = 0; past < T; past += 6) {
            const uint64_t W = windows[i];
            ref_attention(T - past, past, 1, 1, 1, W, q, k, position, out);
            for (size_t t = past; t < T; t++) {
                const double first = W && t > W ? (double)(t - W) : 0.0;
                near_to(out[t - past], (first + (double)t) / 2.0, NEAR, "mean of the visible positions");
            }
        }
}

static void attention_by_hand(void **unused)
{
    (void)unused;
    /* d = 4, scale 1/2: scores 0 and ln 3, weights 1/4 and 3/4. Heads 0, 1 read kv head 0, heads 2, 3 kv head 1. */
    const float l = 2.0f * logf(3.0f);
    const float q[16] = { l, 0, 0, 0, 0, l, 0, 0, l, 0, 0, 0, 0, l, 0, 0 };
    const float k[16] = { 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };   /* [position][kv head][d] */
    const float v[16] = { 0, 0, 0, 4, 0, 0, 0, 40, 8, 0, 0, 0, 80, 0, 0, 0 };
    const float want[16] = { 6, 0, 0, 1, 4, 0, 0, 2, 40, 0, 0, 20, 20, 0, 0, 30 };
    float out[16];
    ref_attention(1, 1, 4, 2, 4, 0, q, k, v, out);
    all_near(out, want, 16, NEAR, "attention");
    ref_attention(1, 0, 4, 2, 4, 0, q, k, v, out);         /* one key: its value, whatever the score */
    for (int h = 0; h < 4; h++) assert_memory_equal(out + 4 * h, v + h / 2 * 4, 4 * sizeof *v);
}

static void attention_survives_huge_scores(void **unused)
{
    (void)unused;
    const float q[] = { 1e19f }, k[] = { -1e19f, 1e19f, 1e18f }, v[] = { 5, 6, 7 };
    float out;
    ref_attention(1, 2, 1, 1, 1, 0, q, k, v, &out);
    near_to(out, 6.0, 0.0, "the highest score takes it all");
}

/* Heads wider than the part that is summed at a time: every component alike. */
static void attention_of_wide_heads(void **unused)
{
    (void)unused;
    enum { D = 131, S = 4 };
    float q[D], k[S * D], v[S * D], out[D], narrow[S], one;
    fill(q, D, 1); fill(k, S * D, 2); fill(v, S * D, 3);
    ref_attention(1, S - 1, 1, 1, D, 0, q, k, v, out);
    for (size_t s = 0; s < S; s++) narrow[s] = (float)(dot(q, k + s * D, D) / sqrt(D));
    for (size_t j = 0; j < D; j++) {                       /* the same scores as heads of width 1 */
        const float unit = 1.0f, column[S] = { v[j], v[D + j], v[2 * D + j], v[3 * D + j] };
        ref_attention(1, S - 1, 1, 1, 1, 0, &unit, narrow, column, &one);
        near_to(out[j], one, NEAR, "component");
    }
}

static void geglu_gates_the_up_branch(void **unused)
{
    (void)unused;
    const float gate[] = { 0, 1, 100, -100 }, up[] = { 5, 2, -3, 1e30f }, want[] = { 0, 1.6823840f, -300, 0 };
    float out[4];
    ref_geglu(2, 2, gate, up, out);
    all_near(out, want, 4, NEAR, "geglu");
}

static void head_caps_and_sums(void **unused)
{
    (void)unused;
    float x[] = { 0, 30, -30, 1e30f }, lse;
    const float want[] = { 0, 22.847825f, -22.847825f, 30 };   /* 30 tanh(1) */
    ref_head(1, 4, 30.0f, x, &lse);
    all_near(x, want, 4, NEAR, "cap 30");

    float equal[2][5] = { { 2, 2, 2, 2, 2 }, { -7, -7, -7, -7, -7 } }, sums[2];
    ref_head(2, 5, 0.0f, *equal, sums);
    near_to(equal[0][3], 2.0, 0.0, "cap 0 leaves logits alone");
    near_to(sums[0], 2.0 + log(5.0), NEAR, "log-sum-exp of equals");
    near_to(sums[1], -7.0 + log(5.0), NEAR, "log-sum-exp of equals");
}

static void log_sum_exp_shifts_with_the_logits(void **unused)
{
    (void)unused;
    enum { V = 37 };
    const float shifts[] = { 0.0f, 256.0f, -256.0f, 65536.0f };   /* x is in steps of 1/128, so x + shift is exact */
    float x[V], lse, first = 0.0f;
    for (size_t i = 0; i < COUNT(shifts); i++) {
        for (size_t j = 0; j < V; j++) x[j] = (float)(j * j % 101) / 128.0f + shifts[i];
        ref_head(1, V, 0.0f, x, &lse);
        if (i == 0) first = lse;
        near_to(lse, (double)first + shifts[i], NEAR, "lse(x + c) = lse(x) + c");
    }
    float big[] = { -FLT_MAX, FLT_MAX };
    ref_head(1, 2, 0.0f, big, &lse);
    assert_true(lse == FLT_MAX);
}

static void best_are_in_order(void **unused)
{
    (void)unused;
    const float x[] = { NAN, 5, -1, 5, -INFINITY, 7, 5 };
    const int32_t want[] = { 5, 1, 3, 6, 2, 4, -1, -1 };
    int32_t ids[8];
    ref_best(7, x, 8, ids);
    assert_memory_equal(ids, want, sizeof want);
    ref_best(7, x, 2, ids);
    assert_memory_equal(ids, want, 2 * sizeof *want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_at_known_points),
        cmocka_unit_test(scalars_at_extremes),
        cmocka_unit_test(embedding_takes_scaled_rows),
        cmocka_unit_test(norm_divides_by_root_mean_square),
        cmocka_unit_test(matmul_by_hand),
        cmocka_unit_test(rounding_to_8_bits),
        cmocka_unit_test(whole_numbers_by_hand),
        cmocka_unit_test(whole_products_by_hand),
        cmocka_unit_test(gates_are_blocks_stored_in_out),
        cmocka_unit_test(conv1d_by_hand),
        cmocka_unit_test(conv1d_split_is_whole),
        cmocka_unit_test(scan_of_constants_is_geometric),
        cmocka_unit_test(recurrences_split_are_whole),
        cmocka_unit_test(rglru_by_hand),
        cmocka_unit_test(rglru_at_extremes),
        cmocka_unit_test(rope_turns_pairs),
        cmocka_unit_test(rope_is_relative),
        cmocka_unit_test(attention_sees_itself_and_the_window),
        cmocka_unit_test(attention_by_hand),
        cmocka_unit_test(attention_survives_huge_scores),
        cmocka_unit_test(attention_of_wide_heads),
        cmocka_unit_test(geglu_gates_the_up_branch),
        cmocka_unit_test(head_caps_and_sums),
        cmocka_unit_test(log_sum_exp_shifts_with_the_logits),
        cmocka_unit_test(best_are_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
