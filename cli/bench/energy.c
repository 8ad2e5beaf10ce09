/* energy.c - see energy.h. */
#include "energy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Microjoules in the file, as joules; NaN if it cannot be read. */
static double read_joules(const char *directory, const char *name)
{
    char path[256];
    double value;
    FILE *f;
    int n;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!(f = fopen(path, "r"))) return NAN;
    n = fscanf(f, "%lf", &value);
    fclose(f);
    return n == 1 ? 1e-6 * value : NAN;
}

/* Packages are intel-rapl:0, :1 and so on, on AMD's CPUs too; their parts, intel-rapl:0:0, are contained in them. */
void cli_energy_open(cli_energy *e, const char *directory)
{
    char *path;

    *e = (cli_energy){ .n = 0 };
    for (int i = 0; i < CLI_PACKAGES; i++) {
        path = e->paths[e->n];
        snprintf(path, sizeof e->paths[0], "%s/intel-rapl:%d", directory, i);
        errno = 0;
        e->last[e->n] = read_joules(path, "energy_uj");
        if (isnan(e->last[e->n])) {
            if (i == 0)
                snprintf(e->reason, sizeof e->reason, "%s/energy_uj: %s", path, errno ? strerror(errno) : "no number");
            break;
        }
        e->wrap[e->n] = read_joules(path, "max_energy_range_uj");
        e->n++;
    }
}

double cli_energy_spent(cli_energy *e)
{
    double sum = e->n ? 0 : NAN;

    for (size_t i = 0; i < e->n; i++) {
        double now = read_joules(e->paths[i], "energy_uj"), spent = now - e->last[i];
        e->last[i] = now;
        sum += spent < 0 ? spent + e->wrap[i] : spent;
    }
    return sum;
}
