/* ref.h - the truth: every op in plain C, written from the formulas with loops and no cleverness. No OpenCL, no padding,
 * no fast paths; sums are in double, so that a kernel's error is its own. Tests and the self-test compare against it.
 *
 * Everything is f32, row-major and dense: x [T, D] has no gaps. Letters as in config.h. */
#ifndef EY_REF_H
#define EY_REF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

float ref_gelu(float u);        /* 0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))) */
float ref_sigmoid(float u);
float ref_softplus(float u);

/* out [T, D] = scale * table[ids[t]];  table [V, D] */
void ref_embed(size_t T, size_t D, const int32_t *ids, const float *table, float scale, float *out);

/* y [T, D] = x / sqrt(mean(x^2) + eps) * (1 + w);  w [D] */
void ref_norm(size_t T, size_t D, const float *x, const float *w, float eps, float *y);

/* y [T, N] = x W^T + bias;  x [T, K], W [N, K], bias [N] or NULL */
void ref_matmul(size_t T, size_t N, size_t K, const float *x, const float *W, const float *bias, float *y);

/* x [n] in place to the nearest number of 8 bits (bf16, but for its smallest numbers), even among equals. */
void ref_round_bf16(size_t n, float *x);

/* A group of n columns of x, as products with 8-bit inputs take it: whole numbers to q, times the scale that is returned,
 * which is the largest magnitude over 127. The steps are in f32, and those of the kernels. Below 2^-100 all are 0; with what
 * is not finite they are 0 under a scale that is not. */
float ref_whole(size_t n, const float *x, int8_t *q);

/* y [T, N] = x W^T + bias with x in whole numbers, 32 columns a group; W [N, K] are whole numbers times scales [N, groups].
 * Of each group the sum of whole products, times the product of both scales, joins the sum by one fma. */
void ref_matmul_int8(size_t T, size_t N, size_t K, const float *x, const float *W, const float *scales, const float *bias,
                     float *y);

/* z [T, G*P]: block b of the input times its own matrix, z[b,j] = bias[b,j] + sum_k x[b*P+k] W[b,k,j];  W [G, P, P] is
 * stored [in, out], bias [G, P] */
void ref_gates(size_t T, size_t G, size_t P, const float *x, const float *W, const float *bias, float *z);

/* Causal depthwise convolution, v[t,n] = bias[n] + sum_j w[n,j] u[t-(C-1)+j, n]; carry [C-1, N] holds the inputs before
 * u[0], in order of time, and is replaced by the last C-1 of all. u, v [T, N], w [N, C], bias [N] */
void ref_conv1d(size_t T, size_t N, size_t C, const float *u, const float *w, const float *bias, float *carry, float *v);

/* h[t] = a[t] h[t-1] + x[t];  a, x, out [T, N]; h [N] goes in and comes out */
void ref_scan(size_t T, size_t N, const float *a, const float *x, float *h, float *out);

/* The RG-LRU with the gate branch: r = sigmoid(za), i = sigmoid(zi), log_a = -8 r softplus(p), a = exp(log_a),
 * m = sqrt(-expm1(2 log_a)), h = a h + m i v, out = h gelu(y); at the first token of a sequence (first = true, t = 0)
 * a = 0 and m = 1. za, zi, v, y, out [T, N]; p, h [N]. y NULL: out = h */
void ref_rglru(size_t T, size_t N, bool first, const float *za, const float *zi, const float *v, const float *y,
               const float *p, float *h, float *out);

/* Rotary embedding in place on the first R of d dimensions of each head, split-half pairs (j, j + R/2), angle
 * position * theta^(-2j/R) in double. x [T, heads, d], the first token at `position` */
void ref_rope(size_t T, size_t heads, size_t d, size_t R, double theta, uint64_t position, float *x);

/* Attention of T queries, the first at position `past`, over past + T keys and values from position 0 on: query at t sees
 * key s iff 0 <= t - s <= W (W = 0: all before it). q, out [T, H, d], k, v [past + T, K, d]; scores times d^-0.5 */
void ref_attention(size_t T, size_t past, size_t H, size_t K, size_t d, uint64_t W, const float *q, const float *k,
                   const float *v, float *out);

/* out [T, M] = gelu(gate) * up */
void ref_geglu(size_t T, size_t M, const float *gate, const float *up, float *out);

/* Logits in place: cap * tanh(x / cap), cap 0 = as they are; and the log-sum-exp of each row. x [T, V], lse [T] */
void ref_head(size_t T, size_t V, float cap, float *x, float *lse);

/* Ids of the n highest of x [V], highest first, lowest id among equals; NaN is passed over, -1 fills what is left. */
void ref_best(size_t V, const float *x, size_t n, int32_t *ids);

#endif
