/* device.h - opening the device that the options select, as they say. */
#ifndef CLI_DEVICE_H
#define CLI_DEVICE_H

#include "options.h"

/* Before the first OpenCL call: sets what drivers read from the environment, and sees that --kernel-dir can be read. */
int          cli_prepare(const cli_options *o);
/* Is anything kept between runs? */
bool         cli_has_cache(const cli_options *o);
eyrie_status cli_device_open(eyrie_device **out, const cli_options *o, eyrie_error *err);
/* Its compute units; 0 = not known. */
uint32_t     cli_device_units(const eyrie_device *dev);

#endif
