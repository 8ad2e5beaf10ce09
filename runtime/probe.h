/* probe.h - what the library itself asks of the probes, whose interface is eyrie_tools.h. Verdicts that are
 * remembered it goes by; it runs only what is harmless. */
#ifndef EY_PROBE_H
#define EY_PROBE_H

#include "device.h"

/* Whether loops may take more turns than EY_SURE_TURNS in a work-item. Tried here if no verdict is remembered, since it is
 * harmless, but only on devices without fma: those with it have shown no such limit. */
enum { EY_SURE_TURNS = 65535 };
bool ey_probe_loops(eyrie_device *dev);

/* Are the times of this device's events to be trusted? Tried here if no verdict is remembered; a note in the log if not. */
bool ey_probe_event_times(eyrie_device *dev);

/* May products run on the matrix unit of the CPU (AMX)? Only if a probe has found that it works, and the system lets this
 * process use it, which is asked for here. If not, `reason` says why; it is "" where there is no such unit to speak of. */
bool ey_probe_unit(eyrie_device *dev, char reason[320]);
/* The same of the instructions for sums of products of bytes (VNNI), which the system lets every process use. */
bool ey_probe_vnni(const eyrie_device *dev, char reason[320]);

#endif
