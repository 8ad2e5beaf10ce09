/* device.h - an OpenCL device: context, queue, what it can do, and its memory in arenas. The only header that includes
 * OpenCL's; every OpenCL call of the library is made through EY_CL or EY_CL_NEW, so that a test can make any of them
 * fail. */
#ifndef EY_DEVICE_H
#define EY_DEVICE_H

#include "cache.h"

#include <CL/cl.h>

/* Asked before every OpenCL call when set: what it returns, unless CL_SUCCESS, stands for the call. For tests. */
extern cl_int (*ey_cl_hook)(const char *call);
cl_int ey_cl_enter(const char *call);

/* code = fn(...), and the value of the expression. */
#define EY_CL(code, fn, ...) \
    ((code) = ey_cl_enter(#fn), (code) == CL_SUCCESS ? ((code) = fn(__VA_ARGS__)) : (code))
/* object = fn(..., &code); object is NULL where code is not CL_SUCCESS. */
#define EY_CL_NEW(code, object, fn, ...) \
    ((code) = ey_cl_enter(#fn), (object) = (code) == CL_SUCCESS ? fn(__VA_ARGS__, &(code)) : NULL)
/* Releases object (NULL is fine) and forgets it. There is nothing to do about a release that fails. */
#define EY_CL_FREE(fn, object)        \
    do {                              \
        if (object) (void)fn(object); \
        (object) = NULL;              \
    } while (0)

struct eyrie_device {
    cl_platform_id   platform;
    char             platform_name[256];
    cl_device_id     id;
    cl_context       context;
    cl_command_queue queue;
    eyrie_device    *whole;         /* what it is a part of, and whose `used` counts; NULL: of nothing */
    uint32_t         number;        /* its place among all devices */
    char             name[560];
    uint32_t         units;         /* compute units; the whole's of a part too, so that both choose the same kernels */
    bool             cpu;           /* its class, unless another was asked for: a CPU, or else what is called a GPU here */
    uint64_t         local_bytes;   /* of local memory that a work-group has */
    uint32_t         vector;        /* floats in a register of the device; 1 = it has none for vectors */
    bool             fma;           /* fma() is an instruction there, not a function in integer arithmetic */
    bool             host_memory;   /* its memory is the host's */
    uint64_t         max_alloc;     /* bytes of the largest single allocation */
    uint64_t         alignment;     /* bytes of which the place of a part of a buffer is a multiple; 0 = not known */
    uint64_t         memory;        /* --memory: bytes that may be used; 0 = measured when asked */
    uint64_t         global_memory; /* what the device says it has */
    uint64_t         used;          /* bytes in committed arenas */
    char            *kernel_dir;
    ey_cache        *cache;         /* NULL: nothing is kept between runs */
    bool             keeps_kernels; /* its driver does that itself, and binaries cost more than they save */
    struct ey_marks *marks;         /* of launches, while somebody traces (marks.h); NULL: none */
    struct ey_tuning *tuning;       /* tiles that were measured (tiles.h), for ey_free; NULL: none */
    ey_log           log;
    uint32_t         children;      /* open models and parts */
};

/* Bytes that may still be allocated: the budget, or what is there, less what is used; and where the number comes from. */
uint64_t ey_device_free_memory(const eyrie_device *dev, const char **source);

/* A buffer that is declared first and allocated when its arena is committed. */
typedef struct ey_buffer {
    cl_mem   mem;
    uint64_t bytes;
    const void *host;               /* NULL, or read-only memory that it is to be, and which outlives it */
    struct ey_buffer *whole;        /* NULL, or the buffer that it is a part of */
    uint64_t    at;                 /* where it begins there */
    char     label[64];
} ey_buffer;

/* Memory of one lifetime (weights, state, scratch): declare everything, look at `bytes`, commit, free as one. */
typedef struct ey_arena {
    const char   *name;
    eyrie_device *dev;
    ey_buffer   **buffers;
    size_t        n, capacity;
    uint64_t      bytes;
    char         *pages;            /* NULL, or the memory that its buffers are (memory.c) */
    bool          committed, borrowed;
} ey_arena;

void         ey_arena_init(ey_arena *a, eyrie_device *dev, const char *name);
/* NULL: out of host memory. A buffer of 0 bytes is made one of 64, so that it can be an argument. */
ey_buffer   *ey_arena_add(ey_arena *a, uint64_t bytes, const char *label);
/* A part of a buffer that was added before; `at` is a multiple of the device's alignment. NULL: out of host memory. */
ey_buffer   *ey_arena_part(ey_arena *a, ey_buffer *whole, uint64_t at, uint64_t bytes);
/* Makes a declared buffer at least that large. */
void         ey_arena_grow(ey_arena *a, ey_buffer *b, uint64_t bytes);
/* EMEMORY: a buffer is larger than the largest allocation, or the device has no room; the message names it. */
eyrie_status ey_arena_commit(ey_arena *a, eyrie_error *err);
/* In place of committing: its buffers are to be those of an arena that was declared alike in the same context and outlives it.
 * False: declared otherwise. */
bool         ey_arena_borrow(ey_arena *a, const ey_arena *from);
void         ey_arena_free(ey_arena *a);

/* Transfers that block. */
eyrie_status ey_buffer_write(eyrie_device *dev, ey_buffer *b, uint64_t offset, uint64_t bytes, const void *from, eyrie_error *err);
/* Does not wait: what lies at `from` has to stay until the queue has come there. */
eyrie_status ey_buffer_send(eyrie_device *dev, ey_buffer *b, uint64_t bytes, const void *from, eyrie_error *err);
eyrie_status ey_buffer_read(eyrie_device *dev, const ey_buffer *b, uint64_t offset, uint64_t bytes, void *to, eyrie_error *err);
/* Bytes from one offset to another, in one buffer or in two of the device's context. */
typedef struct ey_range {
    const ey_buffer *from;
    uint64_t         at;
    ey_buffer       *to;
    uint64_t         to_at, bytes;
} ey_range;
/* Enqueued after what the queue holds; not waited for. */
eyrie_status ey_buffer_copy(eyrie_device *dev, const ey_range *r, eyrie_error *err);
/* The whole buffer for writing, what it held is lost. Unmap before using it. */
eyrie_status ey_buffer_map(eyrie_device *dev, ey_buffer *b, void **out, eyrie_error *err);
eyrie_status ey_buffer_unmap(eyrie_device *dev, ey_buffer *b, void *p, eyrie_error *err);
/* Waits until the queue is empty. */
eyrie_status ey_device_finish(eyrie_device *dev, eyrie_error *err);

/* Starts what the queue holds, and makes an event that ends with it; the caller releases it. */
eyrie_status ey_device_mark(eyrie_device *dev, cl_event *out, eyrie_error *err);
/* What is enqueued from now on begins when `event` has ended, which may be another queue's of the same context. */
eyrie_status ey_device_wait_for(eyrie_device *dev, cl_event event, eyrie_error *err);
eyrie_status ey_event_wait(const eyrie_device *dev, cl_event event, eyrie_error *err);
/* Whether it has, well or not; what went wrong, the next call that waits says. */
bool         ey_event_ended(cl_event event);
/* To be called before a queue of a sub-device is released. PoCL's workers let go of an event a moment after it has ended and
 * look at its device then, which nothing but us keeps: neither queue nor context. False: the device must not be released. */
bool         ey_queue_settle(cl_command_queue queue);

#endif
