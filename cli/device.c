/* device.c - see device.h. */
#include "device.h"

#include <eyrie/eyrie_tools.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_note(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "eyrie: note: %s\n", line);
}

/* Is there a thread for each processor of the machine, and may the process use them all? */
static bool fills_machine(uint64_t threads)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN), last = 0;
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];

    while (f && last == 0 && fgets(line, sizeof line, f)) (void)sscanf(line, "Cpus_allowed_list: 0-%ld", &last);
    if (f) fclose(f);
    return last > 0 && last + 1 == processors && (threads == 0 || threads == (uint64_t)processors);
}

/* PoCL reads its settings from the environment at the library's first call. With affinity it pins thread i to processor
 * i, without two threads now and then share one, which doubles the time. But it aborts where the processor is not the
 * process's to use, and with fewer threads than processors, commands side by side would all be pinned to the first. */
static int set_environment(const cli_options *o)
{
    char threads[24];

    snprintf(threads, sizeof threads, "%" PRIu64, o->threads);
    if ((o->threads && setenv("POCL_MAX_PTHREAD_COUNT", threads, 1) != 0)
        || (fills_machine(o->threads) && setenv("POCL_AFFINITY", "1", 0) != 0))
        return cli_fail("environment: %s", strerror(errno));
    return CLI_DONE;
}

/* The library takes the kernels that are there; that none can be would go unnoticed. */
static int check_kernel_dir(const char *path)
{
    DIR *d = path ? opendir(path) : NULL;

    if (path && !d) return cli_fail("--kernel-dir %s: %s", path, strerror(errno));
    if (d) closedir(d);
    return CLI_DONE;
}

int cli_prepare(const cli_options *o)
{
    int status = set_environment(o);
    return status == CLI_DONE ? check_kernel_dir(o->kernel_dir) : status;
}

/* Where built kernels are kept, NULL for nowhere. If nobody says, as the XDG specification has it: a path that is not
 * absolute counts for nothing. */
static const char *choose_cache_dir(const char *given, char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;

    if (given) return *given ? given : NULL;
    if (cache && *cache == '/') n = snprintf(path, size, "%s/eyrie", cache);
    else if (home && *home == '/') n = snprintf(path, size, "%s/.cache/eyrie", home);
    return n > 0 && (size_t)n < size ? path : NULL;
}

bool cli_has_cache(const cli_options *o)
{
    char path[4096];
    return choose_cache_dir(o->cache_dir, path, sizeof path) != NULL;
}

eyrie_status cli_device_open(eyrie_device **out, const cli_options *o, eyrie_error *err)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = o->device, .kernel_dir = o->kernel_dir,
                               .memory = o->memory, .max_alloc = o->max_alloc, .log = print_note, .turn = o->turn };
    char cache_dir[4096];

    if (o->kernels && strcmp(o->kernels, "auto") != 0)
        opts.kernels = strcmp(o->kernels, "cpu") == 0 ? EYRIE_KERNELS_CPU : EYRIE_KERNELS_GPU;
    opts.cache_dir = choose_cache_dir(o->cache_dir, cache_dir, sizeof cache_dir);
    return eyrie_device_open(out, &opts, err);
}

uint32_t cli_device_units(const eyrie_device *dev)
{
    static eyrie_device_info list[64];
    size_t n = 0, number = eyrie_device_number(dev);

    if (eyrie_device_list(list, sizeof list / sizeof *list, &n, NULL) != EYRIE_OK) return 0;
    return number < n && number < sizeof list / sizeof *list ? list[number].units : 0;
}
