/* sim.h - the scheduler under a simulated clock: requests come, are read and decoded on devices given by numbers, by the
 * policies that the engine runs, in the time that the cost model says, that of the host between steps included where it has been
 * learnt. What it leaves out is that real steps differ from what is predicted.
 *
 * A cluster is any number of devices. Each reads, decodes, or does both in turn. A prompt goes to the device that will have
 * read it soonest; one that only reads hands the state over to a device that decodes and has a slot free, at the pace of
 * the slower of the two links, one state at a time and beside the next step. */
#ifndef EY_SIM_H
#define EY_SIM_H

#include "sched.h"

#include <eyrie/eyrie_tools.h>

typedef struct ey_sim_device {
    const ey_costs *costs;
    bool            phases[EY_PHASES];  /* that it has steps of */
    uint32_t        slots, rows;        /* states that it holds; of them in a step */
    double          link;               /* bytes/s at which a state leaves it or comes to it */
} ey_sim_device;

typedef struct ey_sim_setup {
    const ey_sim_device *devices;
    uint32_t             n_devices;
    const ey_policy     *policy;
    double               interval;      /* as ey_sched_view has it; 0 = the default */
    uint32_t             chunk;
    uint64_t             context;       /* longest sequence; 0 = no bound */
    eyrie_arrivals_fn   *arrivals;
    void                *user;
    uint64_t             expected;      /* requests, for progress; 0 = not known */
    uint32_t             clients;       /* requests there can be at a time: the next comes when one is answered; 0 = any number */
    bool                 one_pool;      /* slots are those of the first device, and a request has one on all: lanes of an engine */
    ey_progress          progress;
} ey_sim_setup;

/* Until all requests that come are answered. EINVAL: one that comes before the one before it, has no tokens, or
 * more than the context; nobody reads; nobody decodes. ENOMEM. */
eyrie_status ey_sim_run(const ey_sim_setup *setup, eyrie_sim_report *report, eyrie_error *err);

#endif
