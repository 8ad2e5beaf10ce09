/* clblast.c - products by CLBlast's Sgemm, which reads plain f32: weights are unpacked at each call, a slice at a time. That
 * pays for many rows on GPUs, if it does; on CPUs it is many times slower than ours, and a witness that owes them nothing.
 * The library has one thread of its own, and CLBlast locks what its callers share. */
#include "clblast.h"

#include <stdio.h>

#ifdef EY_CLBLAST_BUILT
#include <clblast_c.h>
#endif

enum { LEAST_ROWS = 64,             /* of a bucket: fewer are not worth unpacking all weights */
       SLICE_BYTES = 128 << 20 };   /* of unpacked weights at most */

bool ey_clblast_takes(const ey_plan *p, const ey_matrix *w, ey_span rows)
{
    return p->phase == EY_PREFILL && ey_program_has_clblast(p->program) && w->blocks == 1 && rows.count == EY_IMAGE_N_TOKENS
           && rows.skip == 0 && rows.most >= LEAST_ROWS;
}

#ifdef EY_CLBLAST_BUILT

bool ey_clblast_exists(void) { return true; }
void ey_clblast_forget(void) { (void)CLBlastClearCache(); }

/* Arguments: x, its offset and stride, weights [K][N], K, N, y, its offset and stride. y += x W. */
static eyrie_status multiply(const ey_plan *p, const ey_record *r, eyrie_error *err)
{
    const ey_arg *a = r->args + 1;
    size_t rows = (size_t)ey_min(p->scratch->tokens, p->tokens), K = (size_t)a[4].as.i, N = (size_t)a[5].as.i;
    cl_command_queue queue = p->dev->queue;
    cl_int code;

    if (rows == 0) return EYRIE_OK;
    EY_CL(code, CLBlastSgemm, CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeNo, rows, N, K, 1.0f, ey_plan_mem(p, &a[0]),
          (size_t)a[1].as.i, (size_t)a[2].as.i, ey_plan_mem(p, &a[3]), 0, N, 1.0f, ey_plan_mem(p, &a[6]), (size_t)a[7].as.i,
          (size_t)a[8].as.i, &queue, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s of %zu x %zu x %zu", r->label, rows, N, K);
}

#else

bool ey_clblast_exists(void) { return false; }
void ey_clblast_forget(void) { }

static eyrie_status multiply(const ey_plan *p, const ey_record *r, eyrie_error *err)
{
    (void)p;
    return ey_fail(err, EYRIE_EINVAL, "%s: this library was built without CLBlast", r->label);
}

#endif

void ey_clblast_product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, bool add, bool gated, ey_act y)
{
    const ey_quant *q = ey_quant_of(w->format);
    uint32_t items = p->dev->cpu ? 1 : 64, K = w->cols, T = rows.most;
    uint64_t most = ey_min(SLICE_BYTES, p->dev->max_alloc) / (K * sizeof(float) * EY_LANES);
    uint32_t panels = (uint32_t)ey_max(1, ey_min(most, w->rows / EY_LANES));
    ey_act sums = gated ? ey_plan_act(p, T, w->rows) : y;
    ey_act plain = ey_plan_act(p, K, panels * EY_LANES);
    char kernel[40];

    if (x.norm.scale) x = ey_normalise(p, x, false);
    snprintf(kernel, sizeof kernel, "unpack_%s", q->name);
    EY_LAUNCH_GROUPS(p, "clblast_begin", items, (w->rows / EY_LANES + items - 1) / items, T, 1,
                     ((ey_cost){ 4ull * T * w->rows, 0 }), ey_buf(w->bias), ey_int(w->rows), ey_int(add), ey_val(sums),
                     ey_int(sums.stride), ey_int(sums.offset));
    for (uint32_t i = 0; i < w->n_shards; i++) {
        const struct ey_shard *s = &w->shards[i];
        for (uint32_t first = 0; first < s->rows / EY_LANES; first += panels) {
            uint32_t n = (uint32_t)ey_min(panels, s->rows / EY_LANES - first), N = n * EY_LANES;
            EY_LAUNCH_GROUPS(p, kernel, items, (n + items - 1) / items, (K + EY_GROUP - 1) / EY_GROUP, 1,
                             ((ey_cost){ n * ey_quant_panel_bytes(q, K) + 4ull * N * K, 0 }), ey_buf(s->buffer), ey_int(K),
                             ey_int(first), ey_int(n), ey_val(plain));
            const ey_arg args[] = { ey_val(x), ey_int(x.offset), ey_int(x.stride), ey_val(plain), ey_int(K), ey_int(N), ey_val(sums),
                                    ey_int(sums.offset + s->row0 + first * EY_LANES), ey_int(sums.stride) };
            ey_plan_call(p, "CLBlastSgemm", multiply, (ey_cost){ 4ull * (N * (uint64_t)K + (uint64_t)T * (K + N)), 2ull * T * N * K },
                         args, sizeof args / sizeof *args);
        }
    }
    if (!gated) return;
    EY_LAUNCH_GROUPS(p, "clblast_geglu", items, (w->rows / 2 / EY_LANES + items - 1) / items, T, 1,
                     ((ey_cost){ 6ull * T * w->rows, 0 }), ey_val(sums), ey_int(sums.stride), ey_int(w->rows / 2), ey_val(y),
                     ey_int(y.stride), ey_int(y.offset));
}
