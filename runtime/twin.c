/* twin.c - eyrie_engine_simulate: an engine's lanes as simulated devices, with what the engine has learnt of them. The same requests
 * on both tell how good the simulation is. */
#include "engine.h"
#include "sim.h"

/* The host moves a state as fast as it did on average; before any has moved, at once. */
static double link_of(const eyrie_engine *e, const ey_shape *shape)
{
    const eyrie_stats *s = &e->stats;
    double bytes = shape->state_bytes + shape->key_bytes * (double)shape->window;

    return s->handed_over && s->hand_over_seconds > 0 ? bytes * (double)s->handed_over / s->hand_over_seconds : 1e18;
}

eyrie_status eyrie_engine_simulate(const eyrie_engine *e, const eyrie_sim_opts *o, eyrie_sim_report *report, eyrie_error *err)
{
    const ey_model_limits *l = &e->limits;
    ey_sim_device devices[EY_PHASES];
    ey_sim_setup setup = { .devices = devices, .n_devices = e->apart ? EY_PHASES : 1, .policy = e->policy, .interval = e->interval,
                           .chunk = l->chunk, .context = l->context, .arrivals = o->arrivals, .user = o->user, .expected = o->expected,
                           .clients = o->clients, .one_pool = e->apart, .progress = { o->progress, o->progress_user } };

    for (uint32_t i = 0; i < setup.n_devices; i++)
        devices[i] = (ey_sim_device){ .costs = e->costs, .phases = { !e->apart || i == EY_PREFILL, !e->apart || i == EY_DECODE },
                                      .slots = l->slots, .rows = l->decode_rows, .link = link_of(e, ey_costs_shape(e->costs)) };
    return ey_sim_run(&setup, report, err);
}
