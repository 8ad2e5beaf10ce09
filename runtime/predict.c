/* predict.c - eyrie_model_predict: what steps of a model that is only declared cost, and how long they would take. */
#include "learnt.h"
#include "model_parts.h"

static void fill_steps(const ey_shape *s, const ey_costs *learnt, eyrie_model_costs *costs)
{
    for (uint32_t i = 0; i < EYRIE_STEP_COSTS; i++) {
        eyrie_step_cost *c = &costs->decode[i];
        ey_load rows[1u << 2 * (EYRIE_STEP_COSTS - 1)];

        c->sequences = 1u << 2 * i;
        for (uint32_t k = 0; k < c->sequences; k++) rows[k] = (ey_load){ s->window, 1, 1 };
        ey_demand d = ey_cost_demand(s, EY_DECODE, rows, c->sequences);
        c->bytes = (uint64_t)d.bytes;
        c->flops = (uint64_t)d.flops;
        if (learnt) c->seconds = ey_cost_seconds(learnt, EY_DECODE, rows, c->sequences);
    }
}

eyrie_status eyrie_model_predict(const char *path, const eyrie_model_opts *opts, eyrie_device *dev, uint64_t memory,
                                 eyrie_model_costs *costs, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m = NULL;
    ey_costs *learnt = NULL;
    const char *source;
    ey_shape s;
    eyrie_status st;

    *costs = (eyrie_model_costs){ .memory = memory };
    EY_TRY(ey_model_declare(&m, dev ? dev : &nowhere, path, opts, err));
    ey_model_shape(m, &s);
    if (dev && !memory) costs->memory = ey_device_free_memory(dev, &source);
    if (dev) EY_TRY(ey_learnt_foresee(&learnt, m, &s, costs, err));
    fill_steps(&s, learnt, costs);
    if (learnt) {
        costs->decode_ridge = ey_cost_ridge(learnt, EY_DECODE);
        costs->prefill_ridge = ey_cost_ridge(learnt, EY_PREFILL);
    }
    if (costs->memory)
        costs->sequences = ey_cost_most_sequences(&s, m->opts.context ? m->opts.context : UINT64_MAX, costs->memory);
done:
    ey_free(learnt);
    ey_model_free(m);
    return st;
}
