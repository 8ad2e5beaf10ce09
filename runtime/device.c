/* device.c - choosing, opening and dividing a device, and the hook under every OpenCL call. Its memory is memory.c's. */
#include "device.h"
#include "os.h"

#include <eyrie/eyrie_tools.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cl_int (*ey_cl_hook)(const char *call);

cl_int ey_cl_enter(const char *call)
{
    return ey_cl_hook ? ey_cl_hook(call) : CL_SUCCESS;
}

/* ------------------------------------------------------------------------------------------------------- choosing */

typedef struct candidate {
    cl_platform_id platform;
    cl_device_id   id;
    cl_device_type type;
    uint32_t       number;
    char           name[256];
} candidate;

enum { MAX_DEVICES = 64 };

/* All devices of all platforms, in the loader's order: that order is the number a device is known by. */
static eyrie_status list_devices(candidate *list, uint32_t *n, eyrie_error *err)
{
    cl_platform_id platforms[16];
    cl_uint n_platforms = 0;
    cl_int code;

    *n = 0;
    EY_CL(code, clGetPlatformIDs, 16, platforms, &n_platforms);
    if (code != CL_SUCCESS || n_platforms == 0) {
        ey_fail(err, EYRIE_ENODEV, "no OpenCL platform found (code %d): install a driver, or pocl-opencl-icd to run on "
                "the CPU; OCL_ICD_VENDORS, if set, must name one", (int)code);
        if (err) err->cl_code = code;
        return EYRIE_ENODEV;
    }
    for (cl_uint p = 0; p < n_platforms && p < 16; p++) {
        cl_device_id ids[MAX_DEVICES];
        cl_uint count = 0;

        /* A platform without devices is no reason to give up on the others. */
        if (EY_CL(code, clGetDeviceIDs, platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &count) != CL_SUCCESS) continue;
        for (cl_uint d = 0; d < count && d < MAX_DEVICES && *n < MAX_DEVICES; d++) {
            candidate *c = &list[*n];
            *c = (candidate){ .platform = platforms[p], .id = ids[d], .number = *n };
            if (EY_CL(code, clGetDeviceInfo, ids[d], CL_DEVICE_TYPE, sizeof c->type, &c->type, NULL) != CL_SUCCESS
                || EY_CL(code, clGetDeviceInfo, ids[d], CL_DEVICE_NAME, sizeof c->name - 1, c->name, NULL) != CL_SUCCESS)
                return ey_fail_cl(err, code, "reading the name of OpenCL device %u", (unsigned)*n);
            (*n)++;
        }
    }
    if (*n == 0)
        return ey_fail(err, EYRIE_ENODEV, "%u OpenCL platform(s) found, but no device on them", (unsigned)n_platforms);
    return EYRIE_OK;
}

static bool contains(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
        if (i == n) return true;
    }
    return false;
}

static bool matches(const candidate *c, uint32_t number, const char *select)
{
    char *end;
    if (!strcmp(select, "gpu")) return (c->type & CL_DEVICE_TYPE_GPU) != 0;
    if (!strcmp(select, "cpu")) return (c->type & CL_DEVICE_TYPE_CPU) != 0;
    unsigned long wanted = strtoul(select, &end, 10);
    if (end != select && *end == '\0') return wanted == number;
    return contains(c->name, select);
}

/* Of the n in the list leaves those that match, and returns how many. */
static uint32_t keep_matching(candidate *list, uint32_t n, const char *select)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++)
        if (matches(&list[i], list[i].number, select)) list[kept++] = list[i];
    return kept;
}

/* CPUs are taken again by those whose turn comes after the last. */
static eyrie_status take_turn(candidate *chosen, const candidate *list, uint32_t n, uint32_t turn, eyrie_error *err)
{
    bool shared = true;

    for (uint32_t i = 0; i < n; i++) shared &= (list[i].type & CL_DEVICE_TYPE_CPU) != 0;
    if (turn >= n && !shared)
        return ey_fail(err, EYRIE_ENODEV, "OpenCL device number %" PRIu32 " of those that are asked for is wanted, and there are %"
                       PRIu32 ", the last %s", turn + 1, n, list[n - 1].name);
    *chosen = list[turn % n];
    return EYRIE_OK;
}

/* Without a selection GPUs come first, and all others where there are none. */
static eyrie_status choose(candidate *chosen, const char *select, uint32_t turn, eyrie_error *err)
{
    candidate list[MAX_DEVICES], fitting[MAX_DEVICES];
    uint32_t n, n_fitting;
    eyrie_status st = list_devices(list, &n, err);

    if (st != EYRIE_OK) return st;
    memcpy(fitting, list, sizeof list);
    n_fitting = keep_matching(fitting, n, select ? select : "gpu");
    if (n_fitting > 0) return take_turn(chosen, fitting, n_fitting, turn, err);
    if (!select) return take_turn(chosen, list, n, turn, err);
    char names[512] = "";
    for (uint32_t i = 0, at = 0; i < n && at < sizeof names - 1; i++) {
        int w = snprintf(names + at, sizeof names - at, "%s%" PRIu32 " %s", i ? ", " : "", i, list[i].name);
        at += w > 0 ? (uint32_t)w : 0;
    }
    return ey_fail(err, EYRIE_ENODEV, "no OpenCL device matches \"%s\"; there are: %s", select, names);
}

/* -------------------------------------------------------------------------------------------------------- opening */

enum { CACHE_LIMIT = 256 << 20 };   /* bytes; a program takes 0.5 to 5 MiB */

static eyrie_status query(const candidate *c, cl_device_info what, size_t size, void *out, const char *name, eyrie_error *err)
{
    cl_int code;
    if (EY_CL(code, clGetDeviceInfo, c->id, what, size, out, NULL) != CL_SUCCESS)
        return ey_fail_cl(err, code, "%s: reading %s", c->name, name);
    return EYRIE_OK;
}

/* PoCL compiles kernels when they are first launched and keeps the results on disk. Asked for a program's binary, it
 * compiles all of them once more, for any size of work-group: that made the first start of the demo model 5 s longer, and
 * no later one shorter. */
static eyrie_status query_platform(eyrie_device *dev, eyrie_error *err)
{
    char *name = dev->platform_name;
    cl_int code;
    if (EY_CL(code, clGetPlatformInfo, dev->platform, CL_PLATFORM_NAME, sizeof dev->platform_name - 1, name, NULL) != CL_SUCCESS)
        return ey_fail_cl(err, code, "%s: reading the name of its platform", dev->name);
    dev->keeps_kernels = !strcmp(name, "Portable Computing Language");
    return EYRIE_OK;
}

static const char *type_name(cl_device_type type)
{
    if (type & CL_DEVICE_TYPE_GPU) return "GPU";
    if (type & CL_DEVICE_TYPE_CPU) return "CPU";
    return type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator" : "other";
}

static eyrie_status query_all(const candidate *c, eyrie_device_info *info, eyrie_error *err)
{
    cl_uint units = 0, vector = 0;
    cl_ulong alloc = 0, global = 0;
    cl_bool unified = CL_FALSE;
    eyrie_status st;

    *info = (eyrie_device_info){ .type = type_name(c->type) };
    snprintf(info->name, sizeof info->name, "%s", c->name);
    EY_TRY(query(c, CL_DRIVER_VERSION, sizeof info->driver - 1, info->driver, "its driver's version", err));
    EY_TRY(query(c, CL_DEVICE_VERSION, sizeof info->version - 1, info->version, "its version", err));
    EY_TRY(query(c, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, "its compute units", err));
    EY_TRY(query(c, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof vector, &vector, "its vector width", err));
    EY_TRY(query(c, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof alloc, &alloc, "its largest allocation", err));
    EY_TRY(query(c, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof global, &global, "its memory", err));
    EY_TRY(query(c, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof unified, &unified, "whether it shares memory", err));
    info->units = units ? units : 1;
    info->vector = vector ? vector : 1;
    info->memory = global;
    info->max_alloc = alloc;
    info->host_memory = unified == CL_TRUE || (c->type & CL_DEVICE_TYPE_CPU) != 0;
done:
    return st;
}

eyrie_status eyrie_device_list(eyrie_device_info *list, size_t capacity, size_t *n, eyrie_error *err)
{
    candidate found[MAX_DEVICES], chosen;
    uint32_t count;
    eyrie_status st;

    *n = 0;
    EY_TRY(list_devices(found, &count, err));
    EY_TRY(choose(&chosen, NULL, 0, err));
    for (uint32_t i = 0; i < count && i < capacity; i++) {
        EY_TRY(query_all(&found[i], &list[i], err));
        list[i].is_default = i == chosen.number;
    }
    *n = count;
done:
    return st;
}

/* What the kernels for GPUs ask for. */
enum { GPU_GROUP = 256, GPU_LOCAL = 16 << 10 };

/* The class whose kernels run: that which is asked for, else the device's own, if it has what they need. */
static eyrie_status choose_class(eyrie_device *dev, const candidate *c, eyrie_kernels kernels, eyrie_error *err)
{
    bool gpu = kernels ? kernels == EYRIE_KERNELS_GPU : (c->type & CL_DEVICE_TYPE_CPU) == 0;
    size_t group = 0;
    cl_ulong local = 0;
    eyrie_status st;

    EY_TRY(query(c, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, "its largest work-group", err));
    EY_TRY(query(c, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, "its local memory", err));
    dev->local_bytes = local;
    dev->cpu = !gpu || group < GPU_GROUP || local < GPU_LOCAL;
    if (gpu && dev->cpu && kernels)
        st = ey_fail(err, EYRIE_ELIMIT, "%s has work-groups of %zu and %" PRIu64 " bytes of local memory, kernels for GPUs need %d and "
                     "%d; --kernels cpu runs everywhere", c->name, group, (uint64_t)local, GPU_GROUP, GPU_LOCAL);
    else if (gpu && dev->cpu)
        ey_note(&dev->log, "%s has work-groups of %zu and %" PRIu64 " bytes of local memory, kernels for GPUs need %d and %d: those "
                "for CPUs run", c->name, group, (uint64_t)local, GPU_GROUP, GPU_LOCAL);
done:
    return st;
}

eyrie_status eyrie_device_open(eyrie_device **out, const eyrie_device_opts *opts, eyrie_error *err)
{
    eyrie_device_opts o = { 0 };
    eyrie_device *dev = NULL;
    eyrie_device_info info;
    candidate c;
    cl_device_fp_config floats = 0;
    cl_uint align_bits = 0;
    cl_int code;
    eyrie_status st;

    *out = NULL;
    if (opts) memcpy(&o, opts, ey_min(opts->struct_size, sizeof o));
    if ((unsigned)o.kernels > EYRIE_KERNELS_GPU) {
        st = ey_fail(err, EYRIE_EINVAL, "kernels of class %d: there are 0, the device's own, 1 for CPUs, 2 for GPUs", (int)o.kernels);
        goto done;
    }
    EY_TRY(choose(&c, o.select, o.turn, err));
    if (!(dev = ey_calloc(1, sizeof *dev)) || (o.kernel_dir && !(dev->kernel_dir = ey_strdup(o.kernel_dir)))) {
        st = ey_fail(err, EYRIE_ENOMEM, "device handle");
        goto done;
    }
    dev->platform = c.platform;
    dev->id = c.id;
    dev->number = c.number;
    dev->memory = o.memory;
    dev->log = (ey_log){ o.log, o.log_user };
    EY_TRY(choose_class(dev, &c, o.kernels, err));
    EY_TRY(query_all(&c, &info, err));
    snprintf(dev->name, sizeof dev->name, "%s (%.10s, driver %s)", info.name, info.version, info.driver);
    dev->units = info.units;
    dev->vector = info.vector;
    dev->max_alloc = o.max_alloc ? ey_min(o.max_alloc, info.max_alloc) : info.max_alloc;
    dev->global_memory = info.memory;
    dev->host_memory = info.host_memory;
    EY_TRY(query(&c, CL_DEVICE_SINGLE_FP_CONFIG, sizeof floats, &floats, "what its floats can do", err));
    dev->fma = (floats & CL_FP_FMA) != 0;
    EY_TRY(query(&c, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof align_bits, &align_bits, "where a buffer may begin", err));
    dev->alignment = align_bits / 8;
    EY_TRY(query_platform(dev, err));
    if (o.cache_dir) dev->cache = ey_cache_open(o.cache_dir, CACHE_LIMIT, &dev->log);

    cl_context_properties properties[] = { CL_CONTEXT_PLATFORM, (cl_context_properties)c.platform, 0 };
    EY_CL_NEW(code, dev->context, clCreateContext, properties, 1, &dev->id, NULL, NULL);
    if (!dev->context) {
        st = ey_fail_cl(err, code, "%s: creating a context", dev->name);
        goto done;
    }
    EY_CL_NEW(code, dev->queue, clCreateCommandQueue, dev->context, dev->id, 0);
    if (!dev->queue) {
        st = ey_fail_cl(err, code, "%s: creating a command queue", dev->name);
        goto done;
    }
    *out = dev;
    dev = NULL;
done:
    (void)eyrie_device_close(dev);
    return st;
}

/* Events keep their queue. */
bool ey_queue_settle(cl_command_queue queue)
{
    double deadline = ey_seconds() + 1;
    cl_uint references = 1;
    cl_int code;

    (void)clFinish(queue);
    do EY_CL(code, clGetCommandQueueInfo, queue, CL_QUEUE_REFERENCE_COUNT, sizeof references, &references, NULL);
    while (code == CL_SUCCESS && references > 1 && ey_seconds() < deadline);
    return code != CL_SUCCESS || references == 1;
}

eyrie_status eyrie_device_close(eyrie_device *dev)
{
    if (!dev) return EYRIE_OK;
    if (dev->children) return EYRIE_EBUSY;
    bool divided = dev->whole && dev->whole->id != dev->id, settled = !divided || !dev->queue || ey_queue_settle(dev->queue);
    EY_CL_FREE(clReleaseCommandQueue, dev->queue);
    EY_CL_FREE(clReleaseContext, dev->context);
    ey_free(dev->tuning);
    if (divided && settled) EY_CL_FREE(clReleaseDevice, dev->id);
    if (dev->whole) {
        dev->whole->children--;
    } else {
        ey_cache_close(dev->cache);
        ey_free(dev->kernel_dir);
    }
    ey_free(dev);
    return EYRIE_OK;
}

/* ------------------------------------------------------------------------------------------------------- dividing */

enum { MAX_PARTS = 16 };

static eyrie_status check_units(const eyrie_device *dev, const uint32_t *units, size_t n, eyrie_error *err)
{
    cl_device_partition_property ways[8] = { 0 };
    uint64_t sum = 0;
    bool by_counts = false;
    cl_int code;

    for (size_t i = 0; i < n; i++) {
        if (units[i] == 0)
            return ey_fail(err, EYRIE_EINVAL, "part %zu of %s: 0 compute units; each needs one at least", i, dev->name);
        sum += units[i];
    }
    if (sum > dev->units)
        return ey_fail(err, EYRIE_EINVAL, "%zu parts of %" PRIu64 " compute units in all; %s has %" PRIu32, n, sum, dev->name,
                       dev->units);
    EY_CL(code, clGetDeviceInfo, dev->id, CL_DEVICE_PARTITION_PROPERTIES, sizeof ways, ways, NULL);
    if (code != CL_SUCCESS) return ey_fail_cl(err, code, "%s: reading how it can be divided", dev->name);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) by_counts |= ways[i] == CL_DEVICE_PARTITION_BY_COUNTS;
    if (by_counts) return EYRIE_OK;
    return ey_fail(err, EYRIE_ELIMIT, "%s cannot be divided by compute units; parts without units of their own, which take turns on "
                   "the whole device, need not be", dev->name);
}

/* ids[i] becomes a device of units[i] compute units, or, without units, the whole. */
static eyrie_status divide(const eyrie_device *dev, const uint32_t *units, size_t n, cl_device_id *ids, eyrie_error *err)
{
    cl_device_partition_property how[MAX_PARTS + 3] = { CL_DEVICE_PARTITION_BY_COUNTS };
    cl_int code;
    eyrie_status st;

    for (size_t i = 0; i < n; i++) ids[i] = dev->id;
    if (!units) return EYRIE_OK;
    EY_TRY(check_units(dev, units, n, err));
    for (size_t i = 0; i < n; i++) how[i + 1] = (cl_device_partition_property)units[i];
    how[n + 1] = CL_DEVICE_PARTITION_BY_COUNTS_LIST_END;
    if (EY_CL(code, clCreateSubDevices, dev->id, how, (cl_uint)n, ids, NULL) != CL_SUCCESS)
        st = ey_fail_cl(err, code, "%s: dividing it into %zu parts", dev->name, n);
done:
    return st;
}

/* Takes over `id`. */
static eyrie_status open_part(eyrie_device **out, eyrie_device *whole, cl_device_id id, cl_context context, eyrie_error *err)
{
    eyrie_device *part = ey_calloc(1, sizeof *part);
    cl_int code;
    eyrie_status st = EYRIE_OK;

    if (!part) {
        if (id != whole->id) EY_CL_FREE(clReleaseDevice, id);
        return ey_fail(err, EYRIE_ENOMEM, "device handle");
    }
    *part = *whole;     /* class, cache, budget, log: all but what follows */
    part->whole = whole;
    part->id = id;
    part->context = NULL;
    part->queue = NULL;
    part->tuning = NULL;
    part->marks = NULL;
    part->used = 0;
    part->children = 0;
    whole->children++;
    if (EY_CL(code, clRetainContext, context) == CL_SUCCESS) {
        part->context = context;
        EY_CL_NEW(code, part->queue, clCreateCommandQueue, context, id, 0);
    }
    if (code != CL_SUCCESS) {
        st = ey_fail_cl(err, code, "%s: creating the command queue of a part", whole->name);
        (void)eyrie_device_close(part);
        part = NULL;
    }
    *out = part;
    return st;
}

/* What OpenCL's parts share is a context, and that has to be made with them. */
eyrie_status eyrie_device_split(eyrie_device **parts, size_t n, eyrie_device *dev, const uint32_t *units, eyrie_error *err)
{
    cl_context_properties properties[] = { CL_CONTEXT_PLATFORM, (cl_context_properties)dev->platform, 0 };
    cl_device_id ids[MAX_PARTS] = { 0 };
    cl_context context = NULL;
    cl_int code;
    size_t opened = 0;
    eyrie_status st;

    for (size_t i = 0; i < n; i++) parts[i] = NULL;
    if (n == 0 || n > MAX_PARTS) return ey_fail(err, EYRIE_EINVAL, "%zu parts of a device; 1 to %d are possible", n, MAX_PARTS);
    if (dev->whole) return ey_fail(err, EYRIE_EINVAL, "%s: this is a part already; divide the whole device", dev->name);
    EY_TRY(divide(dev, units, n, ids, err));
    EY_CL_NEW(code, context, clCreateContext, properties, units ? (cl_uint)n : 1, ids, NULL, NULL);
    if (!context) st = ey_fail_cl(err, code, "%s: creating a context for its parts", dev->name);
    while (opened < n && st == EYRIE_OK) {
        st = open_part(&parts[opened], dev, ids[opened], context, err);
        ids[opened++] = NULL;
    }
done:
    EY_CL_FREE(clReleaseContext, context);
    for (size_t i = 0; i < n && st != EYRIE_OK; i++) {
        if (ids[i] && ids[i] != dev->id) EY_CL_FREE(clReleaseDevice, ids[i]);
        (void)eyrie_device_close(parts[i]);
        parts[i] = NULL;
    }
    return st;
}

const char *eyrie_device_name(const eyrie_device *dev) { return dev->name; }

uint32_t eyrie_device_number(const eyrie_device *dev) { return dev->number; }
