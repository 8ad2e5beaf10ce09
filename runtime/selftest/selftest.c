/* selftest.c - every kernel, in all its variants and weight formats, against the plain-C reference on the device that
 * is open: a few awkward shapes each, in seconds, for users who want to know whether a driver's compiler can be
 * trusted. Here is which checks there are, and on which programs and tiles a device runs them. */
#include "checks.h"
#include "probe.h"

#include <eyrie/eyrie_tools.h>

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

#define F32 EYRIE_FORMAT_F32
#define F16 EYRIE_FORMAT_F16
#define BF16 EYRIE_FORMAT_BF16
#define Q8 EYRIE_FORMAT_Q8
#define Q4 EYRIE_FORMAT_Q4

static const ey_job jobs[] = {
    { "embed", "f32", ey_check_embed, F32, EY_PREFILL, 0 },
    { "embed", "f16", ey_check_embed, F16, EY_PREFILL, 0 },
    { "embed", "bf16", ey_check_embed, BF16, EY_PREFILL, 0 },
    { "embed", "q8", ey_check_embed, Q8, EY_PREFILL, 0 },
    { "embed", "q4", ey_check_embed, Q4, EY_PREFILL, 0 },
    { "fill", "f32", ey_check_fill, F32, EY_PREFILL, 0 },
    { "fill", "f16", ey_check_fill, F16, EY_PREFILL, 0 },
    { "fill", "bf16", ey_check_fill, BF16, EY_PREFILL, 0 },
    { "fill", "q8", ey_check_fill, Q8, EY_PREFILL, 0 },
    { "fill", "q4", ey_check_fill, Q4, EY_PREFILL, 0 },
    { "copy", "within pieces", ey_check_copy, F32, EY_PREFILL, 64 },
    { "copy", "in pieces", ey_check_copy, F32, EY_PREFILL, 16000 },
    { "norm", "all tokens", ey_check_norm, F32, EY_PREFILL, 0 },
    { "norm", "wanted tokens", ey_check_norm, F32, EY_PREFILL, 1 },
    { "conv1d", "prefill", ey_check_conv1d, F32, EY_PREFILL, 0 },
    { "conv1d", "decode", ey_check_conv1d, F32, EY_DECODE, 0 },
    { "scan", "blocked", ey_check_scan, F32, EY_PREFILL, 0 },
    { "rglru", "one pass, prefill", ey_check_rglru, F32, EY_PREFILL, 0 },
    { "rglru", "one pass, decode", ey_check_rglru, F32, EY_DECODE, 0 },
    { "rglru", "blocked scan", ey_check_rglru, F32, EY_PREFILL, 1 },
    { "rope", "prefill", ey_check_rope, F32, EY_PREFILL, 0 },
    { "rope", "decode", ey_check_rope, F32, EY_DECODE, 0 },
    { "attention", "f32 ring, prefill", ey_check_attention, F32, EY_PREFILL, 0 },
    { "attention", "f32 ring, decode", ey_check_attention, F32, EY_DECODE, 0 },
    { "attention", "f16 ring, prefill", ey_check_attention, F16, EY_PREFILL, 0 },
    { "attention", "f16 ring, decode", ey_check_attention, F16, EY_DECODE, 0 },
    { "head", "plain", ey_check_head, F32, EY_PREFILL, 0 },
    { "head", "capped", ey_check_head, F32, EY_PREFILL, 30 },
};

static const eyrie_format formats[] = { F32, F16, BF16, Q8, Q4 };

enum { IN_8_BITS = 1 << Q8 | 1 << Q4 | EY_INT8 };

static const char *const product_ops[] = { "matmul", "geglu", "recurrent", "int8", "vnni", "amx" };

/* -------------------------------------------------------------------------------------------------- who runs what */

typedef struct selftest {
    ey_lab          lab;
    const char     *op;             /* the only one that is asked for; NULL: all are */
    ey_program     *unit;           /* of the matrix unit; NULL: there is none */
    ey_program     *int8[2];        /* with inputs of products in 8 bits; by VNNI instructions; NULL: there is none */
    eyrie_check_fn *on_check;
    void           *user;
    uint32_t        failures;
} selftest;

/* Are checks of this op asked for? */
static bool is_asked(const selftest *s, const char *op) { return !s->op || strcmp(s->op, op) == 0; }

/* own: the program, NULL: one of the lab's. */
static void run_on(selftest *s, ey_program *own, const ey_job *j)
{
    ey_rig r;

    if (!is_asked(s, j->op)) return;
    s->lab.used = 0;
    ey_rig_init(&r, &s->lab, own);
    r.unit = own && own == s->unit;
    r.int8 = own && own != s->unit;
    snprintf(r.variant, sizeof r.variant, "%s", j->variant);
    j->run(&r, j);
    ey_rig_free(&r);

    eyrie_check check = { .op = j->op, .variant = r.variant, .error = r.error, .tolerance = r.tolerance,
                          .seconds = r.seconds, .passed = r.status == EYRIE_OK && r.judged > 0 && r.ratio <= 1.0,
                          .failure = r.status == EYRIE_OK ? NULL : &r.err };
    s->failures += !check.passed;
    if (s->on_check) s->on_check(s->user, &check);
}

/* Each tile is chosen by as many rows as it has; the tallest is given some more, so that it goes round, which are too
 * many to be fused (Mesa takes minutes to compile what 4 rows are fused with). As an op of that name, or, if NULL, as
 * the ones they are. */
static void run_tiles(selftest *s, ey_program *own, const char *op, eyrie_format f)
{
    size_t n;
    const ey_tile *tiles = ey_device_tiles(s->lab.dev, &n);

    for (size_t i = 0; i < n; i++) {
        uint32_t rows = i + 1 < n ? tiles[i].rows : 2 * tiles[i].rows + 1;
        run_on(s, own, &(ey_job){ op ? op : "matmul", "", ey_check_matmul, f, EY_PREFILL, rows });
        if (tiles[i].panels == 2)
            run_on(s, own, &(ey_job){ op ? op : "matmul", "gates", ey_check_gates, f, EY_PREFILL, rows });
        run_on(s, own, &(ey_job){ op ? op : "geglu", "", ey_check_geglu, f, EY_PREFILL, rows });
        if (rows <= EY_FEW_ROWS)
            run_on(s, own, &(ey_job){ op ? op : "recurrent", "", ey_check_fused, f, EY_DECODE, rows });
    }
}

static void run_products(selftest *s)
{
    for (size_t f = 0; f < COUNT(formats); f++) {
        run_tiles(s, NULL, NULL, formats[f]);
        if (!ey_quant_of(formats[f])->scaled) continue;
        if (s->int8[0]) run_tiles(s, s->int8[0], "int8", formats[f]);
        if (s->int8[1]) run_tiles(s, s->int8[1], "vnni", formats[f]);
    }
    if (!s->unit) return;
    for (size_t f = 0; f < COUNT(formats); f++) {
        if (!(EY_UNIT_FORMATS >> formats[f] & 1)) continue;
        run_on(s, s->unit, &(ey_job){ "amx", "", ey_check_matmul, formats[f], EY_PREFILL, 37 });
        run_on(s, s->unit, &(ey_job){ "amx", "gates", ey_check_gates, formats[f], EY_PREFILL, 37 });
        run_on(s, s->unit, &(ey_job){ "amx", "geglu", ey_check_geglu, formats[f], EY_PREFILL, 37 });
    }
    run_on(s, s->unit, &(ey_job){ "amx", "attention", ey_check_attention, F32, EY_PREFILL, 0 });
}

/* The same with the kernels for GPUs, in both phases. */
static void run_gpu_products(selftest *s)
{
    for (size_t f = 0; f < COUNT(formats); f++)
        for (ey_phase phase = EY_PREFILL; phase < EY_PHASES; phase++) {
            size_t n;
            const ey_tile *tiles = ey_gpu_tiles(phase == EY_DECODE, &n);
            for (size_t i = 0; i < n; i++) {
                uint32_t rows = i + 1 < n ? tiles[i].rows : tiles[i].rows + 3;
                run_on(s, NULL, &(ey_job){ "matmul", "", ey_check_matmul, formats[f], phase, rows });
                run_on(s, NULL, &(ey_job){ "matmul", "gates", ey_check_gates, formats[f], phase, rows });
                run_on(s, NULL, &(ey_job){ "geglu", "", ey_check_geglu, formats[f], phase, rows });
            }
        }
}

/* NULL is all of them. */
static eyrie_status check_op(const char *op, eyrie_error *err)
{
    char names[256] = "";
    size_t at = 0, n = COUNT(jobs) + COUNT(product_ops);

    if (!op) return EYRIE_OK;
    for (size_t i = 0; i < n; i++) {
        const char *name = i < COUNT(jobs) ? jobs[i].op : product_ops[i - COUNT(jobs)];
        if (strcmp(name, op) == 0) return EYRIE_OK;
        bool again = i > 0 && i < COUNT(jobs) && strcmp(jobs[i - 1].op, name) == 0;
        if (again || at >= sizeof names) continue;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", name);
    }
    return ey_fail(err, EYRIE_EINVAL, "there is no op \"%.40s\"; there are %s", op, names);
}

eyrie_status eyrie_selftest(eyrie_device *dev, const char *op, eyrie_check_fn *on_check, void *user,
                            uint32_t *failures, eyrie_error *err)
{
    selftest s = { .op = op, .on_check = on_check, .user = user };
    uint32_t all = 0;
    char reason[320];
    eyrie_status st;

    *failures = 0;
    if ((st = check_op(op, err)) != EYRIE_OK) return st;
    for (size_t f = 0; f < COUNT(formats); f++) all |= 1u << formats[f];
    EY_TRY(ey_lab_init(&s.lab, dev, all, err));
    if (is_asked(&s, "amx") && ey_probe_unit(dev, reason))
        EY_TRY(ey_program_build(&s.unit, dev, EY_UNIT_FORMATS | EY_MATRIX_UNIT, EYRIE_FORMAT_F32, err));
    if (is_asked(&s, "int8") && dev->cpu) EY_TRY(ey_program_build(&s.int8[0], dev, IN_8_BITS, EYRIE_FORMAT_F32, err));
    if (is_asked(&s, "vnni") && ey_probe_vnni(dev, reason))
        EY_TRY(ey_program_build(&s.int8[1], dev, IN_8_BITS | EY_VNNI, EYRIE_FORMAT_F32, err));
    for (size_t i = 0; i < COUNT(jobs); i++) run_on(&s, NULL, &jobs[i]);
    if (dev->cpu) run_products(&s);
    else run_gpu_products(&s);
    *failures = s.failures;
done:
    for (size_t i = 0; i < COUNT(s.int8); i++) ey_program_free(s.int8[i]);
    ey_program_free(s.unit);
    ey_lab_free(&s.lab);
    return st;
}
