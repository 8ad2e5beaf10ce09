/* variants.c - which ways of carrying out an op this device gets, and why not the others. The ops choose; this tells. */
#include "ops/clblast.h"
#include "os.h"
#include "probe.h"
#include "tiles.h"

#include <eyrie/eyrie_tools.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct listing {
    eyrie_variant *list;
    size_t         capacity, n;
} listing;

EY_PRINTF(5, 6) static void add(listing *l, const char *op, const char *name, bool chosen, const char *format, ...)
{
    va_list args;

    if (l->n++ >= l->capacity) return;
    eyrie_variant *v = &l->list[l->n - 1];
    *v = (eyrie_variant){ .op = op, .chosen = chosen };
    snprintf(v->name, sizeof v->name, "%s", name);
    va_start(args, format);
    vsnprintf(v->reason, sizeof v->reason, format, args);
    va_end(args);
}

/* "tiles 1x4 2x4" */
static const char *name_tiles(const char *what, const ey_tile *tiles, size_t n, char name[64])
{
    size_t at = (size_t)snprintf(name, 64, "%s", what);

    for (size_t i = 0; i < n && at < 64; i++)
        at += (size_t)snprintf(name + at, 64 - at, " %ux%u", (unsigned)tiles[i].rows, (unsigned)tiles[i].panels);
    return name;
}

static void add_tiles(listing *l, const eyrie_device *dev, bool wide)
{
    eyrie_device like = { .vector = wide ? EY_LANES : 1 };
    bool fits = (dev->vector >= EY_LANES) == wide;
    size_t n;
    const ey_tile *tiles = ey_device_tiles(&like, &n);
    char name[64];

    name_tiles("tiles", tiles, n, name);
    if (dev->cpu)
        add(l, "matmul", name, fits, "for registers of %s %u floats; this device's hold %u", wide ? "at least" : "less than",
            EY_LANES, (unsigned)dev->vector);
    else if (fits)
        add(l, "matmul", name, false, "for CPUs (--kernels cpu)");
}

static void add_gpu_tiles(listing *l, const eyrie_device *dev, bool decode)
{
    size_t n;
    const ey_tile *tiles = ey_gpu_tiles(decode, &n);
    char name[64];

    add(l, "matmul", name_tiles(decode ? "GPU, GEMV" : "GPU, tiles", tiles, n, name), !dev->cpu, "%s",
        dev->cpu ? "for GPUs (--kernels gpu)" : decode ? "decode" : "prefill");
}

/* What eyrie_tune found here, if anything. */
static void add_tuned(listing *l, const eyrie_device *dev)
{
    ey_tuning *t = ey_tuning_read(dev);
    size_t changed = 0;

    for (size_t i = 0; t && i < t->n; i++) changed += t->list[i].gain > 1000;
    if (t) add(l, "matmul", "tuned tiles", true, "%zu product%s measured (eyrie tune), %zu with another tile than built in", t->n,
               t->n == 1 ? "" : "s", changed);
    ey_free(t);
}

/* By the verdict that is remembered: that the system lets this process use the unit is not asked here. */
static void add_unit(listing *l, const eyrie_device *dev, const char *op, const char *name)
{
    eyrie_verdict v;

    eyrie_probe_recall(dev, "amx", &v);
    if (v.answer == EYRIE_YES) add(l, op, name, true, "prefill with weights in bf16, q8 or q4, but for --compute f32%s",
                                     strcmp(op, "matmul") ? "" : "; large steps of decode with --invariant off");
    else if (v.answer != EYRIE_NOT_PROBED) add(l, op, name, false, "the probe amx says: %.150s", v.reason);
    else if (dev->cpu && ey_tiles_exist()) add(l, op, name, false, "amx has not been probed here (--probe)");
    else add(l, op, name, false, "there is none: %s", dev->cpu ? "this CPU has no AMX" : "the device is no CPU");
}

/* All visit blocks of 64 keys. */
static void add_attention(listing *l, const eyrie_device *dev)
{
    add(l, "attention", "CPU, a query at a time", dev->cpu, dev->cpu ? "decode, and prefill without AMX" : "for CPUs (--kernels cpu)");
    add(l, "attention", "GPU, 16 queries at a time", !dev->cpu, dev->cpu ? "for GPUs (--kernels gpu)" : "prefill and decode");
    add_unit(l, dev, "attention", "AMX, 128 queries at a time");
}

static void add_clblast(listing *l)
{
    bool built = ey_clblast_exists();
    add(l, "matmul", "CLBlast Sgemm", false, "%s", built
        ? "varies; prefill of more than 32 tokens with --products clblast --invariant off" : "the library was built without it");
}

static void add_int8(listing *l, const eyrie_device *dev)
{
    const char *name = "int8, VNNI";
    eyrie_verdict v;

    if (!dev->cpu) {
        add(l, "matmul", "int8", false, "for CPUs (--kernels cpu)");
        return;
    }
    eyrie_probe_recall(dev, "vnni", &v);
    if (v.answer == EYRIE_YES) add(l, "matmul", name, true, "all with --compute int8 that no matrix unit has");
    else if (v.answer != EYRIE_NOT_PROBED) add(l, "matmul", name, false, "the probe vnni says: %.150s", v.reason);
    else if (ey_vnni_exists()) add(l, "matmul", name, false, "vnni has not been probed here (--probe)");
    else add(l, "matmul", name, false, "this CPU has no AVX-512 with VNNI");
    add(l, "matmul", "int8, in f32", v.answer != EYRIE_YES, "the same without VNNI, with the same bits");
}

static void add_recurrence(listing *l, const eyrie_device *dev)
{
    unsigned below = (unsigned)ey_rglru_blocked_below(dev), units = (unsigned)dev->units;

    if (below == 0) {
        add(l, "rglru", "one pass", true, "always");
        add(l, "rglru", "blocked scan", false, "there is one compute unit, which one pass keeps busy");
        return;
    }
    add(l, "rglru", "one pass", true, "decode, and prefill of layers of at least %u channels", below);
    add(l, "rglru", "blocked scan", true, "prefill of layers of less than %u channels: they are too few for %u compute units",
        below, units);
}

size_t eyrie_device_variants(const eyrie_device *dev, eyrie_variant *list, size_t capacity)
{
    listing l = { list, capacity, 0 };

    add_tiles(&l, dev, true);
    add_tiles(&l, dev, false);
    add_gpu_tiles(&l, dev, false);
    add_gpu_tiles(&l, dev, true);
    add_tuned(&l, dev);
    add_unit(&l, dev, "matmul", "AMX, 32x2");
    add_int8(&l, dev);
    add_clblast(&l);
    add_recurrence(&l, dev);
    add_attention(&l, dev);
    return l.n;
}
