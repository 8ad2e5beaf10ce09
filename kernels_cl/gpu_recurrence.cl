/* gpu_recurrence.cl - conv1d.cl, rglru.cl and scan.cl on GPUs: a work-item has one channel, where those have 16 or 64. Arguments
 * are theirs, and so are the results, bit for bit. */

/* ------------------------------------------------------------------------------------------------------ convolution
 * A work-group is a row of the batch and 16 channels, for each of them 16 work-items that take turns with the tokens: token t is
 * work-item t mod 16's. taps - 1 is at most 16. */
static inline float conv_input(global const float *u, int u_stride, global const float *state, int N, int reset, int carried, int from)
{
    if (from >= 0) return u[(size_t)from * u_stride];
    return reset ? 0.0f : state[(from + carried) * N];
}

kernel WORK_GROUP(256) void gpu_conv1d(image b, global const float *u, int u_stride, int u_offset,
                                       global const float *w, global const float *bias, int taps, int N,
                                       global float *state, int state_stride, global float *v, int v_stride)
{
    int r = get_group_id(1), live = r < b[B_N_ROWS];
    int c = get_group_id(0) * LANES + get_local_id(0) % LANES, turn = get_local_id(0) / LANES;
    image row = ROW(b, live ? r : 0);
    int n = live ? row[ROW_COUNT] : 0, reset = row[ROW_RESET], carried = taps - 1;
    float last = 0.0f;

    state += (live ? (size_t)row[ROW_SLOT] * state_stride : 0) + c;
    u += (live ? (size_t)row[ROW_FIRST] * u_stride : 0) + u_offset + c;
    v += (live ? (size_t)row[ROW_FIRST] * v_stride : 0) + c;
    for (int t = turn; t < n; t += 16) {
        float sum = bias[c];
        for (int j = 0; j < taps; j++)
            sum = fma(w[j * N + c], conv_input(u, u_stride, state, N, reset, carried, t - carried + j), sum);
        v[(size_t)t * v_stride] = sum;
    }
    if (n > 0 && turn < carried) last = conv_input(u, u_stride, state, N, reset, carried, n - carried + turn);
    barrier(CLK_GLOBAL_MEM_FENCE);                                          /* nobody needs what was carried any more */
    if (n > 0 && turn < carried) state[turn * N] = last;
}

/* ------------------------------------------------------------------------------------------------------- recurrence */

static inline void coefficients1(float za, float zi, float v, float decay, int first, float *a, float *x)
{
    float16 all_a, all_x;
    coefficients((float16)za, (float16)zi, (float16)v, (float16)decay, first, &all_a, &all_x);
    *a = all_a.s0;
    *x = all_x.s0;
}

/* Where channel c has its za; its zi is 16 behind. */
static inline int gate_column(int c) { return 2 * (c / LANES * LANES) + c % LANES; }

kernel WORK_GROUP(64) void gpu_rglru(image b, global const float *z, int z_stride, global const float *v, int v_stride,
                                     global const float *y, int y_stride, int y_offset, global const float *decay,
                                     int N, global float *state, int state_stride, int h_offset, global float *out,
                                     int out_stride)
{
    int c = get_global_id(0), r = get_global_id(1);
    if (c >= N || r >= b[B_N_ROWS]) return;
    image row = ROW(b, r);
    int first = row[ROW_FIRST], n = row[ROW_COUNT], reset = row[ROW_RESET];
    float rate = decay[c], h, a, x;

    state += (size_t)row[ROW_SLOT] * state_stride + h_offset + c;
    h = reset ? 0.0f : *state;
    for (int t = 0; t < n; t++) {
        size_t token = first + t;
        global const float *gates = z + token * z_stride + gate_column(c);
        coefficients1(gates[0], gates[LANES], v[token * v_stride + c], rate, reset && t == 0, &a, &x);
        h = fma(a, h, x);
        out[token * out_stride + c] = h * gelu1(y[token * y_stride + y_offset + c]);
    }
    *state = h;
}

kernel WORK_GROUP(64) void gpu_rglru_coeffs(image b, global const float *z, int z_stride, global const float *v,
                                            int v_stride, global const float *decay, int N, global float *a,
                                            global float *x, int stride)
{
    int c = get_global_id(0), t = get_global_id(1);
    if (c >= N || t >= b[B_N_TOKENS]) return;
    image row = ROW(b, b[b[B_TOKEN_ROW] + t]);
    global const float *gates = z + (size_t)t * z_stride + gate_column(c);
    float at, xt;

    coefficients1(gates[0], gates[LANES], v[(size_t)t * v_stride + c], decay[c], row[ROW_RESET] && t == row[ROW_FIRST], &at, &xt);
    a[(size_t)t * stride + c] = at;
    x[(size_t)t * stride + c] = xt;
}

/* ------------------------------------------------------------------------------------------------------ blocked scan */

kernel WORK_GROUP(64) void gpu_scan_block(image b, global const float *a, global const float *x, int stride, int N,
                                          global float *ends)
{
    int c = get_global_id(0), k = get_global_id(1), from, to;
    if (c >= N || k >= b[B_N_BLOCKS]) return;
    block_tokens(b, ROW(b, b[b[B_BLOCKS] + k]), k, &from, &to);

    float product = 1.0f, h = 0.0f;
    for (int t = from; t < to; t++) {
        float at = a[(size_t)t * stride + c];
        product *= at;
        h = fma(at, h, x[(size_t)t * stride + c]);
    }
    ends[(size_t)(2 * k) * N + c] = product;
    ends[(size_t)(2 * k + 1) * N + c] = h;
}

kernel WORK_GROUP(64) void gpu_scan_carry(image b, global float *ends, int N, global float *state, int state_stride,
                                          int h_offset)
{
    int c = get_global_id(0), r = get_global_id(1);
    if (c >= N || r >= b[B_N_ROWS]) return;
    image row = ROW(b, r);
    int blocks = (row[ROW_ALIGN] + row[ROW_COUNT] + BLOCK - 1) / BLOCK;

    state += (size_t)row[ROW_SLOT] * state_stride + h_offset + c;
    float h = row[ROW_RESET] ? 0.0f : *state;
    for (int k = row[ROW_BLOCK]; k < row[ROW_BLOCK] + blocks; k++) {
        global float *end = ends + (size_t)(2 * k) * N + c;
        float next = fma(end[0], h, end[N]);
        end[N] = h;
        h = next;
    }
    *state = h;
}

kernel WORK_GROUP(64) void gpu_scan_fix(image b, global const float *a, global const float *x, int stride, int N,
                                        global const float *ends, int gate, global const float *y, int y_stride,
                                        int y_offset, global float *out, int out_stride)
{
    int c = get_global_id(0), k = get_global_id(1), from, to;
    if (c >= N || k >= b[B_N_BLOCKS]) return;
    block_tokens(b, ROW(b, b[b[B_BLOCKS] + k]), k, &from, &to);

    float h = ends[(size_t)(2 * k + 1) * N + c];
    for (int t = from; t < to; t++) {
        h = fma(a[(size_t)t * stride + c], h, x[(size_t)t * stride + c]);
        out[(size_t)t * out_stride + c] = gate ? h * gelu1(y[(size_t)t * y_stride + y_offset + c]) : h;
    }
}
