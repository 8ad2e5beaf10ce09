/* marks.c - see marks.h. */
#include "marks.h"
#include "os.h"

#include <math.h>

typedef struct mark {
    ey_mark  told;              /* its label is a record's, which outlives the mark */
    cl_event event;             /* NULL: times are the host's */
} mark;

struct ey_marks {
    eyrie_device *dev;
    bool          events;
    double        offset;       /* of the host's clock from the device's, seconds */
    double        last;         /* host's: when the launch before had ended */
    cl_event      event;        /* of the launch that is being marked */
    mark         *list;         /* [n] */
    size_t        n, capacity;
};

/* A queue in the place of the device's; that is kept where there can be none. */
static eyrie_status change_queue(eyrie_device *dev, cl_command_queue_properties properties, eyrie_error *err)
{
    cl_command_queue queue;
    cl_int code;
    eyrie_status st = ey_device_finish(dev, err);

    if (st != EYRIE_OK) return st;
    EY_CL_NEW(code, queue, clCreateCommandQueue, dev->context, dev->id, properties);
    if (!queue) return ey_fail_cl(err, code, "%s: creating a command queue that takes times", dev->name);
    EY_CL_FREE(clReleaseCommandQueue, dev->queue);
    dev->queue = queue;
    return EYRIE_OK;
}

static bool read_time(cl_event event, cl_profiling_info which, double *seconds)
{
    cl_ulong ns = 0;
    cl_int code;

    EY_CL(code, clGetEventProfilingInfo, event, which, sizeof ns, &ns, NULL);
    *seconds = 1e-9 * (double)ns;
    return code == CL_SUCCESS;
}

/* The least time from the end of a marker on the device to when the host knows of it. */
static eyrie_status compare_clocks(ey_marks *m, eyrie_error *err)
{
    enum { ATTEMPTS = 8 };
    eyrie_status st = EYRIE_OK;

    m->offset = INFINITY;
    for (int i = 0; i < ATTEMPTS && st == EYRIE_OK; i++) {
        cl_event event = NULL;
        double end;
        cl_int code;

        if (EY_CL(code, clEnqueueMarkerWithWaitList, m->dev->queue, 0, NULL, &event) != CL_SUCCESS)
            return ey_fail_cl(err, code, "%s: comparing its clock with the host's", m->dev->name);
        st = ey_device_finish(m->dev, err);
        double now = ey_seconds();
        if (st == EYRIE_OK && read_time(event, CL_PROFILING_COMMAND_END, &end)) m->offset = fmin(m->offset, now - end);
        EY_CL_FREE(clReleaseEvent, event);
    }
    if (st == EYRIE_OK && !isfinite(m->offset)) st = ey_fail(err, EYRIE_EDEVICE, "%s: its events have no times", m->dev->name);
    return st;
}

eyrie_status ey_marks_open(eyrie_device *dev, bool events, eyrie_error *err)
{
    ey_marks *m;
    eyrie_status st = EYRIE_OK;

    if (dev->marks) return ey_fail(err, EYRIE_EBUSY, "%s: its launches are traced already", dev->name);
    if (!(m = ey_calloc(1, sizeof *m))) return ey_fail(err, EYRIE_ENOMEM, "marks of launches");
    m->dev = dev;
    m->events = events;
    dev->marks = m;
    if (events) EY_TRY(change_queue(dev, CL_QUEUE_PROFILING_ENABLE, err));
    if (events) st = compare_clocks(m, err);
done:
    if (st != EYRIE_OK) ey_marks_close(dev);
    return st;
}

static void forget(ey_marks *m)
{
    for (size_t i = 0; i < m->n; i++) EY_CL_FREE(clReleaseEvent, m->list[i].event);
    m->n = 0;
}

void ey_marks_close(eyrie_device *dev)
{
    ey_marks *m = dev->marks;

    if (!m) return;
    dev->marks = NULL;
    forget(m);
    EY_CL_FREE(clReleaseEvent, m->event);
    if (m->events) (void)change_queue(dev, 0, NULL);    /* one that takes times is as good, but slower */
    ey_free(m->list);
    ey_free(m);
}

cl_event *ey_marks_event(ey_marks *m)
{
    if (m->events) return &m->event;
    (void)ey_device_finish(m->dev, NULL);               /* whose failure the launch will meet */
    m->last = ey_seconds();
    return NULL;
}

void ey_marks_add(ey_marks *m, const char *label, uint64_t bytes, uint64_t flops)
{
    mark k = { { label, m->last, 0, bytes, flops }, m->event };

    m->event = NULL;
    if (!m->events) {
        (void)ey_device_finish(m->dev, NULL);
        k.told.end = ey_seconds();
    }
    if ((m->events && !k.event) || !ey_grow(&m->list, &m->capacity, m->n + 1, sizeof *m->list)) {
        EY_CL_FREE(clReleaseEvent, k.event);
        return;
    }
    m->list[m->n++] = k;
}

/* Without a mark's event, its times are the host's. */
static bool read_times(const ey_marks *m, const mark *k, ey_mark *told)
{
    *told = k->told;
    if (!k->event) return true;
    if (!read_time(k->event, CL_PROFILING_COMMAND_START, &told->start) || !read_time(k->event, CL_PROFILING_COMMAND_END, &told->end))
        return false;
    told->start += m->offset;
    told->end += m->offset;
    return true;
}

double ey_marks_last(const eyrie_device *dev, double otherwise)
{
    const ey_marks *m = dev->marks;
    ey_mark last;

    return m && m->n && read_times(m, &m->list[m->n - 1], &last) ? last.end : otherwise;
}

void ey_marks_take(eyrie_device *dev, ey_mark_fn *fn, void *user)
{
    ey_marks *m = dev->marks;

    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        ey_mark told;
        if (read_times(m, &m->list[i], &told)) fn(user, &told);
    }
    forget(m);
}
