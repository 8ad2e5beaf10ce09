/* profile.c - eyrie_profile: what kernels take, launch by launch, summed up by their names. */
#include "marks.h"
#include "probe.h"

#include <eyrie/eyrie_tools.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct eyrie_profile {
    eyrie_device      *dev;
    eyrie_kernel_time *list;        /* [n] */
    size_t             n, capacity;
    bool               missing;     /* there was no memory for some */
};

eyrie_status eyrie_profile_open(eyrie_profile **out, eyrie_device *dev, eyrie_error *err)
{
    eyrie_profile *p = ey_calloc(1, sizeof *p);
    eyrie_status st;

    *out = NULL;
    if (!p) return ey_fail(err, EYRIE_ENOMEM, "profile");
    EY_TRY(ey_marks_open(dev, ey_probe_event_times(dev), err));
    p->dev = dev;
    *out = p;
    p = NULL;
done:
    ey_free(p);
    return st;
}

void eyrie_profile_close(eyrie_profile *p)
{
    if (!p) return;
    ey_marks_close(p->dev);
    ey_free(p->list);
    ey_free(p);
}

static void add(void *user, const ey_mark *mark)
{
    eyrie_profile *p = user;
    eyrie_kernel_time *k = p->list;

    while (k < p->list + p->n && strcmp(k->name, mark->label) != 0) k++;
    if (k == p->list + p->n) {
        if (!ey_grow(&p->list, &p->capacity, p->n + 1, sizeof *p->list)) {
            p->missing = true;
            return;
        }
        k = &p->list[p->n++];
        *k = (eyrie_kernel_time){ .launches = 0 };
        snprintf(k->name, sizeof k->name, "%s", mark->label);
    }
    k->launches++;
    k->bytes += mark->bytes;
    k->flops += mark->flops;
    k->seconds += mark->end - mark->start;
}

static int compare(const void *a, const void *b)
{
    double x = ((const eyrie_kernel_time *)a)->seconds, y = ((const eyrie_kernel_time *)b)->seconds;
    return (x < y) - (x > y);
}

eyrie_status eyrie_profile_take(eyrie_profile *p, eyrie_kernel_time *list, size_t capacity, size_t *n,
                                eyrie_error *err)
{
    bool missing;

    ey_marks_take(p->dev, add, p);
    if (p->n) qsort(p->list, p->n, sizeof *p->list, compare);
    *n = p->n;
    if (p->n && capacity) memcpy(list, p->list, ey_min(p->n, capacity) * sizeof *list);
    missing = p->missing;
    p->n = 0;
    p->missing = false;
    return missing ? ey_fail(err, EYRIE_ENOMEM, "profile of more than %zu kernels", *n) : EYRIE_OK;
}
