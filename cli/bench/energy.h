/* energy.h - the counters of energy that Linux shows of CPUs (RAPL, through powercap), where they may be read. */
#ifndef CLI_ENERGY_H
#define CLI_ENERGY_H

#include <stdbool.h>
#include <stddef.h>

enum { CLI_PACKAGES = 16 };

/* Of whole packages: what is measured is the machine, not the process. */
typedef struct cli_energy {
    char   paths[CLI_PACKAGES][192];    /* [n] */
    double wrap[CLI_PACKAGES];          /* joules at which a counter begins anew */
    double last[CLI_PACKAGES];
    size_t n;                           /* 0: not available */
    char   reason[256];                 /* then why not */
} cli_energy;

/* directory: "/sys/class/powercap". */
void cli_energy_open(cli_energy *e, const char *directory);

/* Joules since the last call, or since opening; NaN where there are none. */
double cli_energy_spent(cli_energy *e);

#endif
