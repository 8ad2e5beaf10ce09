/* probing.h - probes in child processes, which may crash or hang: that is an answer too. */
#ifndef CLI_PROBING_H
#define CLI_PROBING_H

#include "options.h"

#include <eyrie/eyrie_tools.h>

enum { CLI_PROBES = 32 };               /* at most as many are there */

/* Runs all probes on the device that the options select: [CLI_PROBES]. Before this process's first OpenCL call. */
void cli_probe_all(const cli_options *o, eyrie_verdict *verdicts);

/* cli_device_open, and the probes by which kernels are chosen are run, where their verdicts are not remembered. This
 * process's first OpenCL call. */
eyrie_status cli_device_open_probed(eyrie_device **out, const cli_options *o, eyrie_error *err);

#endif
