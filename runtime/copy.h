/* copy.h - ranges of bytes from buffer to buffer on the device: a sequence's state has one a layer, and neighbours are one. */
#ifndef EY_COPY_H
#define EY_COPY_H

#include "program.h"

/* Enqueues them, after what the queue holds, as ey_buffer_copy does; bytes may be 0. None may overlap what another writes.
 * Ranges that go on where the one before ends, on both sides, are joined to it: in place, so `ranges` is used up. */
eyrie_status ey_copy_ranges(ey_program *program, eyrie_device *dev, ey_range *ranges, size_t n, eyrie_error *err);

/* The same by the kernel, however few bytes they are: places and sizes are multiples of 64. */
eyrie_status ey_copy_by_kernel(ey_program *program, eyrie_device *dev, const ey_range *ranges, size_t n, eyrie_error *err);

/* Enqueues a copy of nothing, so that what large copies need is compiled; `any` is a buffer of the device's. */
eyrie_status ey_copy_warm_up(ey_program *program, eyrie_device *dev, ey_buffer *any, eyrie_error *err);

#endif
