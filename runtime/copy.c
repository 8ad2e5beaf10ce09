/* copy.c - see copy.h. A driver copies a range by a command, and on CPUs reads what it is going to overwrite, unless one
 * range alone is larger than caches. So states of many bytes in all are copied by a kernel there; those of few by commands,
 * which begin sooner. GPUs have engines for it. */
#include "copy.h"

enum {
    AT_ONCE = 8,                /* ranges in a launch, as copy.cl has it */
    VECTOR = 64,                /* bytes that its work-items copy at a time */
    PIECE = 512,                /* vectors of a work-item */
    MANY = 16 << 20             /* bytes that would not stay in caches */
};

typedef struct kernel_range {
    cl_mem   from, to;
    cl_ulong at, to_at, n;      /* in vectors */
} kernel_range;

/* Are large copies the kernel's? */
static bool by_kernel(const eyrie_device *dev) { return dev->cpu && dev->vector > 1; }

static bool in_vectors(const ey_range *r) { return (r->at | r->to_at | r->bytes) % VECTOR == 0; }

static cl_int set_range(cl_kernel kernel, cl_uint first, const kernel_range *r)
{
    const struct { size_t size; const void *value; } args[] = { { sizeof r->from, &r->from }, { sizeof r->at, &r->at },
        { sizeof r->to, &r->to }, { sizeof r->to_at, &r->to_at }, { sizeof r->n, &r->n } };
    cl_int code = CL_SUCCESS;

    for (cl_uint i = 0; i < sizeof args / sizeof *args && code == CL_SUCCESS; i++)
        EY_CL(code, clSetKernelArg, kernel, first + i, args[i].size, args[i].value);
    return code;
}

/* Up to AT_ONCE; the places that are left copy nothing. */
static eyrie_status launch(cl_kernel kernel, eyrie_device *dev, const ey_range *ranges, size_t n, eyrie_error *err)
{
    static const cl_uint first = 1, each = 5;
    const cl_ulong piece = PIECE;
    const size_t local[2] = { 1, 1 };
    size_t global[2] = { 1, n };
    cl_int code;

    EY_CL(code, clSetKernelArg, kernel, 0, sizeof piece, &piece);
    for (cl_uint i = 0; i < AT_ONCE && code == CL_SUCCESS; i++) {
        const ey_range *r = &ranges[i < n ? i : 0];
        uint64_t vectors = i < n ? r->bytes / VECTOR : 0;
        global[0] = ey_max(global[0], (vectors + PIECE - 1) / PIECE);
        code = set_range(kernel, first + each * i, &(kernel_range){ r->from->mem, r->to->mem, r->at / VECTOR, r->to_at / VECTOR, vectors });
    }
    if (code == CL_SUCCESS) EY_CL(code, clEnqueueNDRangeKernel, dev->queue, kernel, 2, NULL, global, local, 0, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "copying %s and others", ranges->from->label);
}

eyrie_status ey_copy_by_kernel(ey_program *program, eyrie_device *dev, const ey_range *ranges, size_t n, eyrie_error *err)
{
    cl_kernel kernel;
    eyrie_status st = ey_program_kernel(program, "copy_ranges", &kernel, err);

    for (size_t i = 0; i < n && st == EYRIE_OK; i += AT_ONCE) st = launch(kernel, dev, &ranges[i], ey_min(n - i, AT_ONCE), err);
    return st;
}

/* The number of ranges that are left. */
static size_t join(ey_range *ranges, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++) {
        const ey_range *r = &ranges[i];
        ey_range *last = left ? &ranges[left - 1] : NULL;
        bool next = last && last->from == r->from && last->to == r->to && last->at + last->bytes == r->at
                    && last->to_at + last->bytes == r->to_at;
        if (next) last->bytes += r->bytes;
        else if (r->bytes) ranges[left++] = *r;
    }
    return left;
}

eyrie_status ey_copy_ranges(ey_program *program, eyrie_device *dev, ey_range *ranges, size_t n, eyrie_error *err)
{
    uint64_t bytes = 0;
    bool vectors = by_kernel(dev);
    eyrie_status st = EYRIE_OK;

    n = join(ranges, n);
    for (size_t i = 0; i < n; i++) {
        bytes += ranges[i].bytes;
        vectors = vectors && in_vectors(&ranges[i]);
    }
    if (vectors && bytes >= MANY) return ey_copy_by_kernel(program, dev, ranges, n, err);
    for (size_t i = 0; i < n && st == EYRIE_OK; i++) st = ey_buffer_copy(dev, &ranges[i], err);
    return st;
}

eyrie_status ey_copy_warm_up(ey_program *program, eyrie_device *dev, ey_buffer *any, eyrie_error *err)
{
    return by_kernel(dev) ? ey_copy_by_kernel(program, dev, &(ey_range){ any, 0, any, 0, 0 }, 1, err) : EYRIE_OK;
}
