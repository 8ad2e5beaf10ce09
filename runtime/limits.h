/* limits.h - what a device can do at best, measured on the device that is open: streaming reads from its memory, f32 FMA
 * from registers, and launches in a row. Three numbers for judging others by, to be measured again beside whatever they
 * judge: on shared machines they change from second to second. Not a survey of devices. */
#ifndef EY_LIMITS_H
#define EY_LIMITS_H

#include "device.h"

#include <eyrie/eyrie_tools.h>

enum { EY_LIMITS_STREAMS = 4 };         /* 1, 2, 4 and 8 streams a work-item */

/* How a kernel is spread over the device. */
typedef struct ey_limits_work {
    size_t   items, group;              /* work-items, and how many of them make a work-group */
    cl_ulong steps;                     /* vectors read, or rounds of all FMA chains, by each */
} ey_limits_work;

typedef struct ey_limits {
    eyrie_device  *dev;
    ey_arena       arena;
    ey_buffer     *data, *sums;
    float         *host;                /* sums, as read back */
    cl_program     program;
    cl_kernel      reads[EY_LIMITS_STREAMS], fma, count;
    ey_limits_work read_work, fma_work, count_work;     /* steps of the last: launches */
    uint32_t       lanes;               /* of a vector */
    bool           contiguous;          /* a work-item reads one stretch (CPUs), not every n-th vector (GPUs) */
    uint32_t       best;                /* of the read kernels */
} ey_limits;

typedef struct ey_rates {
    double bytes, flops;                /* a second */
    double launch;                      /* seconds of a launch that does nothing, in a row of many */
} ey_rates;

/* Builds the kernels, checks what they compute, finds how much work takes long enough to be timed and how many streams read
 * fastest. Takes 0.5 GiB of memory where there is enough. */
eyrie_status ey_limits_open(ey_limits *l, eyrie_device *dev, eyrie_error *err);
void         ey_limits_close(ey_limits *l);

/* One of them, once: the bytes, floating-point operations or launches, and the seconds they took. */
typedef enum ey_limit {
    EY_LIMIT_READ,
    EY_LIMIT_FMA,
    EY_LIMIT_LAUNCH,
    EY_LIMIT_ROUND_TRIP                 /* launches, each waited for */
} ey_limit;
eyrie_status ey_limits_sample(const ey_limits *l, ey_limit which, double *work, double *seconds, eyrie_error *err);
/* All three, once. What the caches held is gone afterwards. */
eyrie_status ey_limits_measure(const ey_limits *l, ey_rates *now, eyrie_error *err);
uint32_t     ey_limits_streams(const ey_limits *l);

/* What eyrie_device_measure found last, if the device's cache has it. */
bool         ey_limits_recall(const eyrie_device *dev, eyrie_rates *rates);

#endif
