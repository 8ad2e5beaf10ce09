/* learnt.c - see learnt.h. */
#include "learnt.h"
#include "limits.h"
#include "model_parts.h"

#include <inttypes.h>
#include <stdio.h>

/* Before anything ran: a few steps put it right, so that only the order of magnitude counts. What the device can do at best is
 * nearer than that, if it was measured. */
static ey_pace guess(const eyrie_device *dev)
{
    eyrie_rates best;

    if (ey_limits_recall(dev, &best)) return (ey_pace){ best.read_bytes, best.fma_flops, best.launch_seconds };
    return dev->cpu ? (ey_pace){ .bandwidth = 10e9, .peak = 10e9 * dev->units, .launch = 10e-6 }
                    : (ey_pace){ .bandwidth = 200e9, .peak = 1e12, .launch = 5e-6 };
}

/* What decides how long steps take: the devices, with their units, and the model as it lies there. */
static size_t make_key(const eyrie_model *prefill, const eyrie_model *decode, char key[4096])
{
    const eyrie_model *const models[] = { prefill, decode };
    ey_traits traits;
    size_t n = (size_t)snprintf(key, 4096, "costs of Eyrie's steps, format 1\n");

    for (size_t i = 0; i < sizeof models / sizeof *models && n < 4096; i++) {
        const eyrie_device *dev = ey_model_device(models[i]);
        n += (size_t)snprintf(key + n, 4096 - n, "%s\n%s\n%" PRIu32 " units\n", dev->platform_name, dev->name, dev->units);
    }
    ey_model_traits(decode, &traits);
    for (uint32_t i = 0; i < traits.n && n < 4096; i++)
        n += (size_t)snprintf(key + n, 4096 - n, "%s %s\n", traits.list[i].name, traits.list[i].value);
    if (prefill != decode && n < 4096) n += (size_t)snprintf(key + n, 4096 - n, "lanes\n");
    return (size_t)ey_min(n, 4095);
}

bool ey_learnt_recall(ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode)
{
    ey_cache *cache = ey_model_device(decode)->cache;
    char key[4096];
    size_t size;
    void *blob = cache ? ey_cache_get(cache, "costs", key, make_key(prefill, decode, key), &size) : NULL;
    bool taken = blob && ey_costs_load(costs, blob, size);      /* of another version: it is learnt anew */

    ey_free(blob);
    return taken;
}

ey_costs *ey_learnt_open(const eyrie_model *prefill, const eyrie_model *decode)
{
    const ey_pace paces[EY_PHASES] = { [EY_PREFILL] = guess(ey_model_device(prefill)), [EY_DECODE] = guess(ey_model_device(decode)) };
    ey_costs *costs;
    ey_shape shape, other;

    ey_model_shape(decode, &shape);
    ey_model_shape(prefill, &other);
    shape.launches[EY_PREFILL] = other.launches[EY_PREFILL];
    if ((costs = ey_costs_new(&shape, paces))) (void)ey_learnt_recall(costs, prefill, decode);
    return costs;
}

eyrie_status ey_learnt_foresee(ey_costs **out, eyrie_model *m, const ey_shape *s, eyrie_model_costs *costs, eyrie_error *err)
{
    const eyrie_rates *r = &costs->rates;
    const ey_pace any[EY_PHASES] = { { 1, 1, 0 }, { 1, 1, 0 } };
    bool remembered;
    char reason[320];
    eyrie_status st;

    EY_TRY(ey_model_identify(m, err));
    m->unit = ey_model_has_unit(m, reason);
    *out = ey_costs_new(s, any);
    costs->source = EYRIE_COSTS_LEARNT;
    if (*out && !ey_learnt_recall(*out, m, m)) {
        EY_TRY(eyrie_device_recall(m->dev, &costs->rates, &remembered, err));
        costs->source = remembered ? EYRIE_COSTS_REMEMBERED : EYRIE_COSTS_MEASURED;
        const ey_pace best = { r->read_bytes, r->fma_flops, r->launch_seconds };
        ey_free(*out);
        *out = ey_costs_new(s, (const ey_pace[EY_PHASES]){ best, best });
    }
    if (!*out) st = ey_fail(err, EYRIE_ENOMEM, "costs of a model");
done:
    return st;
}

void ey_learnt_keep(const ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode)
{
    ey_cache *cache = ey_model_device(decode)->cache;
    void *blob = cache ? ey_calloc(1, ey_costs_size()) : NULL;
    char key[4096];

    if (!blob) return;
    ey_costs_save(costs, blob);
    ey_cache_put(cache, "costs", key, make_key(prefill, decode, key), blob, ey_costs_size());
    ey_free(blob);
}
