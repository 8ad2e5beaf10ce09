/* marks.h - when the launches of plans ran, for whoever traces: while a device has marks, plans leave one for each launch. By the
 * times of events where these are to be trusted, else by the host's clock, which has every launch wait for the one before. */
#ifndef EY_MARKS_H
#define EY_MARKS_H

#include "device.h"

typedef struct ey_marks ey_marks;

/* The device gets marks, and with `events` a queue that takes times; everything before has ended then. A device has them once:
 * EBUSY. */
eyrie_status ey_marks_open(eyrie_device *dev, bool events, eyrie_error *err);
/* As it was before; nothing if it has none. */
void         ey_marks_close(eyrie_device *dev);

/* For plans. Around a launch or call, with the event that `clEnqueue...` is to give (NULL: none), and what the launch moves and
 * computes. A mark that finds no memory is left out. */
cl_event *ey_marks_event(ey_marks *m);
void      ey_marks_add(ey_marks *m, const char *label, uint64_t bytes, uint64_t flops);

/* When the launch that came last had ended, in seconds of ey_seconds(); `otherwise` where there is none. It has. */
double ey_marks_last(const eyrie_device *dev, double otherwise);

/* When a launch ran, in seconds of ey_seconds(). */
typedef struct ey_mark {
    const char *label;          /* as long as the plan lives */
    double      start, end;
    uint64_t    bytes, flops;
} ey_mark;

/* Tells of all launches since the last time, which have ended, and forgets them. */
typedef void ey_mark_fn(void *user, const ey_mark *mark);
void ey_marks_take(eyrie_device *dev, ey_mark_fn *fn, void *user);

#endif
