/* table.h - engines with one lane or two, for tests that compare what they write. To be included first. */
#ifndef TABLE_H
#define TABLE_H

#include "running.h"

#include "engine.h"

/* One lane; two on halves of the device; two with all of it; two that share no memory. */
typedef enum way { TOGETHER, HALVES, TURNS, STRANGERS, WAYS } way;
static const char *const ways[] = { "one lane", "two halves", "two queues", "two devices" };

/* An engine on models of its own. */
typedef struct table {
    eyrie_device *parts[2];             /* NULL: the whole */
    eyrie_model  *model, *prefill;      /* prefill: NULL, or on a lane of its own */
    eyrie_engine *engine;
} table;

/* Where the device cannot be halved, its lanes take turns. */
static inline void split_device(table *t, way lanes)
{
    const uint32_t units[2] = { device->units / 2, device->units - device->units / 2 };

    const eyrie_device_opts same = { .struct_size = sizeof same, .select = getenv("EYRIE_DEVICE") };

    if (lanes == TOGETHER) return;
    if (lanes == STRANGERS) {
        for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_open(&t->parts[i], &same, &err));
        return;
    }
    if (lanes == HALVES && device->units > 1 && eyrie_device_split(t->parts, 2, device, units, &err) == EYRIE_OK) return;
    assert_ok(eyrie_device_split(t->parts, 2, device, NULL, &err));
}

static inline table open_table(way lanes, const char *name, eyrie_model_opts opts, eyrie_engine_opts how)
{
    table t = { .parts = { NULL } };

    if (!device) skip();
    split_device(&t, lanes);
    opts.struct_size = sizeof opts;
    assert_ok(eyrie_model_open(&t.model, t.parts[0] ? t.parts[0] : device, source_path(name), &opts, &err));
    opts.share = t.model;
    opts.slots++;                       /* more than are needed */
    if (t.parts[1]) assert_ok(eyrie_model_open(&t.prefill, t.parts[1], source_path(name), &opts, &err));
    how.struct_size = sizeof how;
    how.prefill = t.prefill;
    assert_ok(eyrie_engine_open(&t.engine, t.model, &how, &err));
    return t;
}

static inline void close_table(table *t)
{
    assert_int_equal(ey_free_slots(t->engine), ey_model_get_limits(t->model).slots);
    assert_ok(eyrie_engine_close(t->engine));
    assert_ok(eyrie_model_close(t->prefill));
    assert_ok(eyrie_model_close(t->model));
    for (uint32_t i = 0; i < 2; i++) assert_ok(eyrie_device_close(t->parts[i]));
}

static inline eyrie_stats stats_of(const eyrie_engine *e)
{
    eyrie_stats stats = { .struct_size = sizeof stats };
    assert_ok(eyrie_engine_get_stats(e, &stats, &err));
    return stats;
}

#endif
