/* probing.h - probes in child processes, which may crash or hang: that is an answer too. */
#ifndef CLI_PROBING_H
#define CLI_PROBING_H

#include "options.h"

#include <eyrie/eyrie_tools.h>

#include <sys/types.h>

enum { CLI_PROBES = 32 };               /* at most as many are there */

/* Runs all probes on the device that the options select: [CLI_PROBES]. Before this process's first OpenCL call. */
void cli_probe_all(const cli_options *o, eyrie_verdict *verdicts);

/* Runs the probes by which kernels are chosen, where their verdicts are not remembered. Whether they are is known when the
 * device is open, and a driver in use does not survive a fork: so a child is made before the first OpenCL call, and waits
 * until it is told what to do. `device` NULL: nothing. */
typedef struct cli_prober {
    pid_t child;
    int   go, answer;
} cli_prober;

void cli_prober_start(cli_prober *p, const cli_options *o);
void cli_prober_end(cli_prober *p, eyrie_device *device);

#endif
