/* cluster.c - eyrie_simulate: the model of a checkpoint or a name, on devices that are numbers. */
#include "learnt.h"
#include "model_parts.h"
#include "sim.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Launches of a step where no plan was recorded that could be counted: layers of the recurrent kind have five in decode, those
 * of attention six, and prefill has more. */
enum { LAUNCHES = 6 };

static bool is_positive(double value) { return value > 0 && value < INFINITY; }

static eyrie_status check_device(const eyrie_sim_device *d, bool apart, size_t number, eyrie_error *err)
{
    bool numbers = !d->like;
    const struct { const char *name; double value; } needed[] = {
        { "bandwidth", numbers ? d->bandwidth : 1 }, { "FLOP/s of prefill", numbers ? d->prefill_flops : 1 },
        { "FLOP/s of decode", numbers ? d->decode_flops : 1 }, { "memory", numbers || d->memory != 0 ? d->memory : 1 },
        { "link", apart ? d->link : 1 },
    };

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!is_positive(needed[i].value))
            return ey_fail(err, EYRIE_EINVAL, "simulated device %zu: %s of %g; it has to be more than 0", number, needed[i].name, needed[i].value);
    if (numbers && !(d->launch >= 0 && d->launch < INFINITY))
        return ey_fail(err, EYRIE_EINVAL, "simulated device %zu: a launch of %g s", number, d->launch);
    if (d->count == 0 || d->count > 1u << 16)
        return ey_fail(err, EYRIE_EINVAL, "simulated device %zu: %" PRIu32 " of them; between 1 and %u can be", number, d->count, 1u << 16);
    if (!d->prefill && !d->decode) return ey_fail(err, EYRIE_EINVAL, "simulated device %zu has steps of neither phase", number);
    return EYRIE_OK;
}

/* What steps take on a device that is there. */
static eyrie_status foresee(ey_costs **costs, const eyrie_sim_opts *o, eyrie_device *dev, eyrie_error *err)
{
    eyrie_model *m = NULL;
    eyrie_model_costs ignored;
    ey_shape shape;
    eyrie_status st;

    EY_TRY(ey_model_declare(&m, dev, o->model, o->model_opts, err));
    ey_model_shape(m, &shape);
    EY_TRY(ey_learnt_foresee(costs, m, &shape, &ignored, err));
done:
    ey_model_free(m);
    return st;
}

/* Costs are in *out also after a failure. */
static eyrie_status make_device(ey_sim_device *out, const eyrie_sim_device *d, const ey_shape *shape, const eyrie_sim_opts *o,
                                const eyrie_model *m, size_t number, eyrie_error *err)
{
    uint64_t context = m->opts.context ? m->opts.context : UINT64_MAX, memory = (uint64_t)fmin(d->memory, 1e18), most;
    ey_pace pace[EY_PHASES];
    const char *source;
    ey_costs *costs = NULL;
    eyrie_status st = EYRIE_OK;
    char need[24], there[24];

    pace[EY_PREFILL] = (ey_pace){ d->bandwidth, d->prefill_flops, d->launch };
    pace[EY_DECODE] = (ey_pace){ d->bandwidth, d->decode_flops, d->launch };
    if (d->like && memory == 0) memory = ey_device_free_memory(d->like, &source);
    most = ey_cost_most_sequences(shape, context, memory);
    if (most == 0)
        return ey_fail(err, EYRIE_EMEMORY, "simulated device %zu: the weights take %s and a state %s, there is %s", number,
                       ey_bytes_text((uint64_t)(shape->layer_bytes + shape->head_bytes + shape->other_bytes), need),
                       ey_bytes_text(ey_state_slot_bytes(&m->state), (char[24]){ 0 }), ey_bytes_text(memory, there));
    if (o->model_opts && o->model_opts->slots) most = ey_min(most, m->opts.slots);
    if (d->like) st = foresee(&costs, o, d->like, err);
    else if (!(costs = ey_costs_new(shape, pace))) st = ey_fail(err, EYRIE_ENOMEM, "costs of a simulated device");
    *out = (ey_sim_device){ .costs = costs, .phases = { d->prefill, d->decode }, .link = d->link,
                            .slots = (uint32_t)ey_min(most, UINT32_MAX / 2), .rows = o->rows ? o->rows : EYRIE_STEP_SEQUENCES };
    return st;
}

static eyrie_status make_devices(ey_sim_device **list, uint32_t *n, const eyrie_sim_opts *o, const eyrie_model *m, eyrie_error *err)
{
    ey_shape shape;
    uint32_t all = 0;
    bool apart = false;
    eyrie_status st = EYRIE_OK;

    ey_model_shape(m, &shape);
    for (uint32_t ph = 0; ph < EY_PHASES; ph++)
        if (shape.launches[ph] == 0) shape.launches[ph] = LAUNCHES * shape.layers;
    for (size_t i = 0; i < o->n_devices; i++) apart |= !o->devices[i].prefill || !o->devices[i].decode;
    for (size_t i = 0; i < o->n_devices; i++) {
        EY_TRY(check_device(&o->devices[i], apart, i, err));
        all += o->devices[i].count;
    }
    if (all == 0 || all > 1u << 16) EY_TRY(ey_fail(err, EYRIE_EINVAL, "%" PRIu32 " simulated devices; between 1 and %u can be", all, 1u << 16));
    if (!(*list = ey_calloc(all, sizeof **list))) EY_TRY(ey_fail(err, EYRIE_ENOMEM, "%" PRIu32 " simulated devices", all));
    for (size_t i = 0; i < o->n_devices; i++) {
        ey_sim_device kind = { .costs = NULL };
        st = make_device(&kind, &o->devices[i], &shape, o, m, i, err);
        for (uint32_t k = 0; k < o->devices[i].count; k++) (*list)[(*n)++] = kind;
        EY_TRY(st);
    }
done:
    return st;
}

eyrie_status eyrie_simulate(const eyrie_sim_opts *o, eyrie_sim_report *report, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m = NULL;
    ey_sim_device *devices = NULL;
    ey_sim_setup setup = { .interval = o->token_interval, .arrivals = o->arrivals, .user = o->user, .expected = o->expected,
                           .clients = o->clients, .progress = { o->progress, o->progress_user } };
    eyrie_status st;

    *report = (eyrie_sim_report){ 0 };
    EY_TRY(ey_policy_named(&setup.policy, o->policy, err));
    if (!(o->token_interval >= 0 && o->token_interval < INFINITY))
        EY_TRY(ey_fail(err, EYRIE_EINVAL, "a token interval of %g s", o->token_interval));
    EY_TRY(ey_model_declare(&m, &nowhere, o->model, o->model_opts, err));
    EY_TRY(make_devices(&devices, &setup.n_devices, o, m, err));
    setup.devices = devices;
    setup.chunk = m->opts.chunk;
    setup.context = m->opts.context;
    st = ey_sim_run(&setup, report, err);
done:
    for (uint32_t i = 0; i < setup.n_devices; i++)      /* those of a kind have the same */
        if (i == 0 || devices[i].costs != devices[i - 1].costs) ey_free((void *)devices[i].costs);
    ey_free(devices);
    ey_model_free(m);
    return st;
}
