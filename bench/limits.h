/* limits.h - what a device can do at best, measured on the device that is open: streaming reads from memory and f32 FMA
 * from registers. Every benchmark measures them again beside each of its own timings, because a figure means something
 * only as a share of what the same device gave in the same second. Not a survey of devices: two numbers. */
#ifndef LIMITS_H
#define LIMITS_H

#include "device.h"

enum { LIMITS_STREAMS = 4 };            /* 1, 2, 4 and 8 streams a work-item */

/* How one probe is spread over the device. */
typedef struct limits_work {
    size_t   items, group;              /* work-items, and how many of them make a work-group */
    cl_ulong steps;                     /* vectors read, or rounds of all FMA chains, by each */
} limits_work;

typedef struct limits {
    eyrie_device *dev;
    ey_arena      arena;
    ey_buffer    *data, *sums;
    float        *host;                 /* sums, as read back */
    cl_program    programs[LIMITS_STREAMS];
    cl_kernel     reads[LIMITS_STREAMS], fma;
    limits_work   read_work, fma_work;
    uint32_t      lanes;                /* of a vector */
    bool          contiguous;           /* a work-item reads one stretch (CPUs), not every n-th vector (GPUs) */
    uint32_t      best;                 /* of the read kernels */
} limits;

typedef struct limits_rates {
    double bytes, flops;                /* a second */
} limits_rates;

/* Builds the probes, checks what they compute, and finds out how many streams read fastest. */
eyrie_status limits_open(limits *l, eyrie_device *dev, eyrie_error *err);
void         limits_close(limits *l);

/* Both, once. Reads so much memory that no cache holds anything else afterwards. */
eyrie_status limits_measure(const limits *l, limits_rates *now, eyrie_error *err);
uint32_t     limits_streams(const limits *l);

#endif
