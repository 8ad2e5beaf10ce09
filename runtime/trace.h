/* trace.h - a file of what happened when, in the JSON that Perfetto and Chrome show: slices on tracks, requests and what
 * connects them with the steps that they took part in. Written as it happens, so that a run that is killed leaves a file that
 * those still read. Knows times and names; who did what is for others to say. */
#ifndef EY_TRACE_H
#define EY_TRACE_H

#include "base.h"

typedef struct ey_trace ey_trace;

/* EIO: the file cannot be made. What cannot be written later is noted in `log`, once, and the rest left out: whatever is
 * traced goes on. Times are those of ey_seconds(). */
eyrie_status ey_trace_open(ey_trace **out, const char *path, const char *title, const ey_log *log, eyrie_error *err);
void         ey_trace_close(ey_trace *t);

/* A track of slices; tracks are numbered from 1, in the order in which they are shown. */
void ey_trace_track(ey_trace *t, uint32_t track, const char *name);

/* From `start` on; slices inside of a slice are shown below it. `args` is JSON, the fields of an object; NULL: none. */
void ey_trace_slice(ey_trace *t, uint32_t track, const char *name, double start, double seconds, const char *args);

/* A request from its beginning to its end, by number: a bar of its own, and arrows from a slice at its beginning on `track` by all
 * steps that it takes part in (at a time inside of their slices) to one at its end. */
void ey_trace_begin(ey_trace *t, uint64_t request, uint32_t track, double at, const char *args);
void ey_trace_step(ey_trace *t, uint64_t request, uint32_t track, double at);
void ey_trace_end(ey_trace *t, uint64_t request, uint32_t track, double at, const char *args);

#endif
