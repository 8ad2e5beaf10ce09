/* memory.c - a device's memory: what there is of it, arenas, transfers, and waiting for them. */
#include "device.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    WORTH_PAGES = 4 << 20,      /* bytes of an arena from which it has large pages */
    BUFFER_ALIGN = 128          /* bytes: no type of OpenCL C wants more */
};

uint64_t ey_device_free_memory(const eyrie_device *dev, const char **source)
{
    uint64_t total = dev->memory;

    *source = "left of what --memory allows";
    if (!total && dev->host_memory) {
        uint64_t free_now = ey_memory_available();   /* what is used already is not counted as available */
        *source = "available on this host";
        if (free_now) return free_now;
    }
    if (!total) {
        total = dev->global_memory;
        *source = "on this device";
    }
    uint64_t used = dev->whole ? dev->whole->used : dev->used;
    return total > used ? total - used : 0;
}

/* --------------------------------------------------------------------------------------------------------- arenas */

void ey_arena_init(ey_arena *a, eyrie_device *dev, const char *name)
{
    *a = (ey_arena){ .dev = dev, .name = name };
}

static ey_buffer *new_buffer(ey_arena *a, const char *label)
{
    ey_buffer *b;

    if (!ey_grow(&a->buffers, &a->capacity, a->n + 1, sizeof *a->buffers) || !(b = ey_calloc(1, sizeof *b))) return NULL;
    snprintf(b->label, sizeof b->label, "%s", label);
    return a->buffers[a->n++] = b;
}

ey_buffer *ey_arena_add(ey_arena *a, uint64_t bytes, const char *label)
{
    ey_buffer *b = new_buffer(a, label);

    if (b) ey_arena_grow(a, b, ey_max(bytes, 64));
    return b;
}

ey_buffer *ey_arena_part(ey_arena *a, ey_buffer *whole, uint64_t at, uint64_t bytes)
{
    ey_buffer *b = new_buffer(a, whole->label);

    if (!b) return NULL;
    b->whole = whole;
    b->at = at;
    b->bytes = bytes;
    return b;
}

void ey_arena_grow(ey_arena *a, ey_buffer *b, uint64_t bytes)
{
    if (bytes <= b->bytes) return;
    a->bytes += bytes - b->bytes;
    b->bytes = bytes;
}

static uint64_t *used_by(eyrie_device *dev) { return dev->whole ? &dev->whole->used : &dev->used; }

/* Is it to have memory of its own? */
static bool owns(const ey_buffer *b) { return !b->host && !b->whole; }

static uint64_t place_of(uint64_t at) { return (at + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN; }

/* Drivers for CPUs allocate as programs do, in small pages. Where an arena is large, its buffers lie in one piece of large ones. */
static eyrie_status get_pages(ey_arena *a, eyrie_error *err)
{
    uint64_t bytes = 0;
    char size[24];

    for (size_t i = 0; i < a->n; i++)
        if (owns(a->buffers[i])) bytes = place_of(bytes) + a->buffers[i]->bytes;
    if (!a->dev->cpu || !a->dev->host_memory || bytes < WORTH_PAGES || (a->pages = ey_pages_new(bytes)) != NULL) return EYRIE_OK;
    return ey_fail(err, EYRIE_EMEMORY, "%s: the system has no %s for it", a->name, ey_bytes_text(bytes, size));
}

/* At `place`, if it is not NULL. */
static eyrie_status allocate(eyrie_device *dev, const char *arena, ey_buffer *b, void *place, eyrie_error *err)
{
    cl_mem_flags flags = CL_MEM_READ_WRITE;
    char size[24];
    cl_int code;

    if (b->whole) {
        const cl_buffer_region region = { (size_t)b->at, (size_t)b->bytes };
        EY_CL_NEW(code, b->mem, clCreateSubBuffer, b->whole->mem, 0, CL_BUFFER_CREATE_TYPE_REGION, &region);
        return b->mem ? EYRIE_OK : ey_fail_cl(err, code, "%s: making a part of %s", arena, b->label);
    }
    if (b->host) {
        flags = CL_MEM_READ_ONLY;
        place = (void *)(uintptr_t)b->host;
    }
    if (place) flags |= CL_MEM_USE_HOST_PTR;
    EY_CL_NEW(code, b->mem, clCreateBuffer, dev->context, flags, (size_t)b->bytes, place);
    return b->mem ? EYRIE_OK
                  : ey_fail_cl(err, code, "%s: allocating %s for %s", arena, ey_bytes_text(b->bytes, size), b->label);
}

eyrie_status ey_arena_commit(ey_arena *a, eyrie_error *err)
{
    eyrie_device *dev = a->dev;
    uint64_t at = 0;
    char size[24], limit[24];
    eyrie_status st;

    a->committed = true;
    *used_by(dev) += a->bytes;
    for (size_t i = 0; i < a->n; i++) {
        const ey_buffer *b = a->buffers[i];
        if (b->bytes > dev->max_alloc)
            return ey_fail(err, EYRIE_EMEMORY, "%s: %s takes %s in one allocation, the device gives at most %s; "
                           "a smaller --chunk, --slots or --context helps", a->name, b->label,
                           ey_bytes_text(b->bytes, size), ey_bytes_text(dev->max_alloc, limit));
    }
    if ((st = get_pages(a, err)) != EYRIE_OK) return st;
    for (size_t i = 0; i < a->n && st == EYRIE_OK; i++) {
        ey_buffer *b = a->buffers[i];
        bool here = a->pages && owns(b);
        st = allocate(dev, a->name, b, here ? a->pages + place_of(at) : NULL, err);
        if (here) at = place_of(at) + b->bytes;
    }
    return st;
}

bool ey_arena_borrow(ey_arena *a, const ey_arena *from)
{
    bool alike = a->n == from->n;

    for (size_t i = 0; i < a->n && alike; i++) alike = a->buffers[i]->bytes == from->buffers[i]->bytes;
    for (size_t i = 0; i < a->n && alike; i++) a->buffers[i]->mem = from->buffers[i]->mem;
    a->borrowed = alike;
    return alike;
}

void ey_arena_free(ey_arena *a)
{
    /* A driver keeps its own memory until what was enqueued is done with it; ours it cannot keep. */
    if (a->committed || a->borrowed) (void)clFinish(a->dev->queue);
    for (size_t i = 0; i < a->n; i++) {
        if (!a->borrowed) EY_CL_FREE(clReleaseMemObject, a->buffers[i]->mem);
        ey_free(a->buffers[i]);
    }
    ey_pages_free(a->pages);
    if (a->committed) *used_by(a->dev) -= a->bytes;
    ey_free(a->buffers);
    *a = (ey_arena){ 0 };
}

/* ------------------------------------------------------------------------------------------------------ transfers */

static eyrie_status put(eyrie_device *dev, cl_bool wait, ey_buffer *b, uint64_t offset, uint64_t bytes, const void *from,
                        eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clEnqueueWriteBuffer, dev->queue, b->mem, wait, (size_t)offset, (size_t)bytes, from, 0, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "writing %" PRIu64 " bytes to %s", bytes, b->label);
}

eyrie_status ey_buffer_write(eyrie_device *dev, ey_buffer *b, uint64_t offset, uint64_t bytes, const void *from, eyrie_error *err)
{
    return put(dev, CL_TRUE, b, offset, bytes, from, err);
}

eyrie_status ey_buffer_send(eyrie_device *dev, ey_buffer *b, uint64_t bytes, const void *from, eyrie_error *err)
{
    return put(dev, CL_FALSE, b, 0, bytes, from, err);
}

eyrie_status ey_buffer_read(eyrie_device *dev, const ey_buffer *b, uint64_t offset, uint64_t bytes, void *to, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clEnqueueReadBuffer, dev->queue, b->mem, CL_TRUE, (size_t)offset, (size_t)bytes, to, 0, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "reading %" PRIu64 " bytes of %s", bytes, b->label);
}

eyrie_status ey_buffer_copy(eyrie_device *dev, const ey_range *r, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clEnqueueCopyBuffer, dev->queue, r->from->mem, r->to->mem, (size_t)r->at, (size_t)r->to_at, (size_t)r->bytes, 0, NULL,
          NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "copying %" PRIu64 " bytes of %s", r->bytes, r->from->label);
}

eyrie_status ey_buffer_map(eyrie_device *dev, ey_buffer *b, void **out, eyrie_error *err)
{
    cl_int code;
    EY_CL_NEW(code, *out, clEnqueueMapBuffer, dev->queue, b->mem, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0,
              (size_t)b->bytes, 0, NULL, NULL);
    return *out ? EYRIE_OK : ey_fail_cl(err, code, "mapping %s", b->label);
}

eyrie_status ey_buffer_unmap(eyrie_device *dev, ey_buffer *b, void *p, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clEnqueueUnmapMemObject, dev->queue, b->mem, p, 0, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "unmapping %s", b->label);
}

/* --------------------------------------------------------------------------------------------------------- waiting */

eyrie_status ey_device_finish(eyrie_device *dev, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clFinish, dev->queue);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: waiting for the device", dev->name);
}

eyrie_status ey_device_mark(eyrie_device *dev, cl_event *out, eyrie_error *err)
{
    cl_int code;
    *out = NULL;
    if (EY_CL(code, clEnqueueMarkerWithWaitList, dev->queue, 0, NULL, out) == CL_SUCCESS
        && EY_CL(code, clFlush, dev->queue) == CL_SUCCESS) return EYRIE_OK;
    EY_CL_FREE(clReleaseEvent, *out);
    return ey_fail_cl(err, code, "%s: marking what is under way", dev->name);
}

eyrie_status ey_device_wait_for(eyrie_device *dev, cl_event event, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clEnqueueBarrierWithWaitList, dev->queue, 1, &event, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: waiting for another queue", dev->name);
}

eyrie_status ey_event_wait(const eyrie_device *dev, cl_event event, eyrie_error *err)
{
    cl_int code;
    EY_CL(code, clWaitForEvents, 1, &event);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: waiting for a part of a step", dev->name);
}

bool ey_event_ended(cl_event event)
{
    cl_int code, status = CL_COMPLETE;
    EY_CL(code, clGetEventInfo, event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL);
    return code != CL_SUCCESS || status <= CL_COMPLETE;     /* below are errors */
}
