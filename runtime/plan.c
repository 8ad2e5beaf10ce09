/* plan.c - recording, placing values in scratch, replaying. */
#include "marks.h"
#include "plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void ey_scratch_init(ey_scratch *s, eyrie_device *dev, const char *name)
{
    *s = (ey_scratch){ 0 };
    ey_arena_init(&s->arena, dev, name);
    s->tokens = s->wanted = EY_ANY;
}

eyrie_status ey_plan_begin(ey_plan *p, ey_phase phase, uint32_t tokens, uint32_t rows, eyrie_device *dev,
                           ey_program *program, ey_scratch *scratch, eyrie_error *err)
{
    *p = (ey_plan){ .phase = phase, .tokens = tokens, .rows = rows, .blocks = ey_image_blocks(tokens, rows),
                    .wanted_to = EY_ANY, .dev = dev, .program = program, .scratch = scratch };
    if (!scratch->batch && !(scratch->batch = ey_arena_add(&scratch->arena, 0, "the batch")))
        return ey_fail(err, EYRIE_ENOMEM, "scratch memory");
    return EYRIE_OK;
}

static void plan_fail(ey_plan *p, const char *what)
{
    if (p->status == EYRIE_OK) p->status = ey_fail(&p->error, EYRIE_ENOMEM, "recording a plan: %s", what);
}

ey_act ey_plan_act(ey_plan *p, uint64_t rows, uint32_t width)
{
    ey_act a = { .value = (uint32_t)p->n_values, .stride = width, .width = width };

    assert(width % EY_LANES == 0);
    if (p->status != EYRIE_OK) return (ey_act){ .stride = width, .width = width };
    if (!ey_grow(&p->values, &p->values_capacity, p->n_values + 1, sizeof *p->values)) {
        plan_fail(p, "values");
        return (ey_act){ .stride = width, .width = width };
    }
    p->values[p->n_values++] = (ey_value){ .bytes = rows * width * sizeof(float), .first = UINT32_MAX };
    return a;
}

ey_act ey_act_slice(ey_act a, uint32_t offset, uint32_t width)
{
    assert(offset + width <= a.width && offset % EY_LANES == 0 && width % EY_LANES == 0);
    a.offset += offset;
    a.width = width;
    return a;
}

void ey_plan_keep(ey_plan *p, ey_act a)
{
    if (p->status == EYRIE_OK) p->values[a.value].last = UINT32_MAX;
}

void ey_plan_when_wanted(ey_plan *p, uint32_t from, uint32_t to)
{
    p->wanted_from = from;
    p->wanted_to = to;
}

void ey_plan_launch(ey_plan *p, const char *kernel, uint64_t x, uint64_t y, uint64_t z, ey_cost cost,
                    const ey_arg *args, uint32_t n_args)
{
    ey_plan_launch_groups(p, kernel, 1, x, y, z, cost, args, n_args);
}

/* NULL once recording has failed. */
static ey_record *add_record(ey_plan *p, const char *label, ey_cost cost, const ey_arg *args, uint32_t n_args)
{
    ey_record *r;
    uint32_t index = (uint32_t)p->n;

    if (p->status != EYRIE_OK) return NULL;
    assert(n_args < EY_MAX_ARGS);
    if (!ey_grow(&p->records, &p->capacity, p->n + 1, sizeof *p->records)) {
        plan_fail(p, label);
        return NULL;
    }
    r = &p->records[p->n++];
    *r = (ey_record){ .n_args = n_args + 1, .layer = p->layer, .wanted_from = p->wanted_from, .wanted_to = p->wanted_to, .cost = cost };
    snprintf(r->label, sizeof r->label, "%s", label);
    r->args[0] = ey_buf(p->scratch->batch);
    for (uint32_t i = 0; i < n_args; i++) {
        r->args[i + 1] = args[i];
        if (args[i].kind != EY_ARG_VALUE) continue;
        ey_value *v = &p->values[args[i].as.value];
        if (v->first == UINT32_MAX) v->first = index;
        v->last = (uint32_t)ey_max(v->last, index);
    }
    return r;
}

void ey_plan_launch_groups(ey_plan *p, const char *kernel, uint32_t items, uint64_t x, uint64_t y, uint64_t z, ey_cost cost,
                           const ey_arg *args, uint32_t n_args)
{
    cl_kernel made = NULL;
    ey_record *r;

    assert(x && y && z);
    if (p->status == EYRIE_OK) p->status = ey_program_kernel(p->program, kernel, &made, &p->error);
    if (!(r = add_record(p, kernel, cost, args, n_args))) return;
    r->kernel = made;
    memcpy(r->global, (size_t[]){ (size_t)x * items, (size_t)y, (size_t)z }, sizeof r->global);
    memcpy(r->local, (size_t[]){ items, 1, 1 }, sizeof r->local);
}

void ey_plan_call(ey_plan *p, const char *label, ey_call *call, ey_cost cost, const ey_arg *args, uint32_t n_args)
{
    ey_record *r = add_record(p, label, cost, args, n_args);
    if (r) r->call = call;
}

/* Gives value v a pool buffer that nothing alive uses: the smallest that is large enough, else the largest there is,
 * grown, else a new one. */
static void place(ey_plan *p, ey_value *v, const bool *taken)
{
    ey_scratch *s = p->scratch;
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < s->n; i++) {
        if (taken[i]) continue;
        if (best == UINT32_MAX) {
            best = i;
            continue;
        }
        uint64_t have = s->pool[i]->bytes, best_has = s->pool[best]->bytes;
        if (best_has < v->bytes ? have > best_has : have >= v->bytes && have < best_has) best = i;
    }
    if (best == UINT32_MAX) {
        char label[32];
        best = s->n;
        if (best == sizeof s->pool / sizeof *s->pool) {
            plan_fail(p, "too many values alive at once");
            return;
        }
        snprintf(label, sizeof label, "scratch %u", (unsigned)best);
        if (!(s->pool[best] = ey_arena_add(&s->arena, v->bytes, label))) {
            plan_fail(p, "scratch");
            return;
        }
        s->n++;
    }
    ey_arena_grow(&s->arena, s->pool[best], v->bytes);
    v->buffer = best;
}

eyrie_status ey_plan_end(ey_plan *p, eyrie_error *err)
{
    bool taken[sizeof p->scratch->pool / sizeof *p->scratch->pool] = { false };

    for (uint32_t i = 0; i < p->n && p->status == EYRIE_OK; i++) {
        for (size_t k = 0; k < p->n_values && p->status == EYRIE_OK; k++)
            if (p->values[k].first == i) {
                place(p, &p->values[k], taken);
                taken[p->values[k].buffer] = true;
            }
        for (size_t k = 0; k < p->n_values; k++)
            if (p->values[k].first != UINT32_MAX && p->values[k].last == i) taken[p->values[k].buffer] = false;
    }
    if (p->status != EYRIE_OK && err) *err = p->error;
    return p->status;
}

cl_mem ey_plan_mem(const ey_plan *p, const ey_arg *a)
{
    return a->kind == EY_ARG_VALUE ? p->scratch->pool[p->values[a->as.value].buffer]->mem : a->as.buffer->mem;
}

static cl_int set_arg(const ey_plan *p, const ey_record *r, cl_uint i)
{
    const ey_arg *a = &r->args[i];
    cl_mem mem;
    cl_int code;

    switch (a->kind) {
    case EY_ARG_INT:   return EY_CL(code, clSetKernelArg, r->kernel, i, sizeof a->as.i, &a->as.i);
    case EY_ARG_FLOAT: return EY_CL(code, clSetKernelArg, r->kernel, i, sizeof a->as.f, &a->as.f);
    case EY_ARG_LOCAL: return EY_CL(code, clSetKernelArg, r->kernel, i, a->as.bytes, NULL);
    default:           mem = ey_plan_mem(p, a); break;
    }
    return EY_CL(code, clSetKernelArg, r->kernel, i, sizeof mem, &mem);
}

/* The kernel takes its arguments as they are now. */
static eyrie_status launch(const ey_plan *p, const ey_record *r, eyrie_error *err)
{
    ey_marks *marks = p->dev->marks;
    cl_event *event = marks ? ey_marks_event(marks) : NULL;
    cl_int code;

    for (cl_uint k = 0; k < r->n_args; k++)
        if ((code = set_arg(p, r, k)) != CL_SUCCESS)
            return ey_fail_cl(err, code, "kernel %s: setting argument %u", r->label, (unsigned)k);
    EY_CL(code, clEnqueueNDRangeKernel, p->dev->queue, r->kernel, 3, NULL, r->global, r->local, 0, NULL, event);
    if (marks && code == CL_SUCCESS) ey_marks_add(marks, r->label, r->cost.bytes, r->cost.flops);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "kernel %s: launching it", r->label);
}

eyrie_status ey_plan_run(const ey_plan *p, uint32_t from, uint32_t to, eyrie_error *err)
{
    uint32_t wanted = p->scratch->wanted;

    for (size_t i = 0; i < p->n; i++) {
        const ey_record *r = &p->records[i];
        eyrie_status st;

        if (r->layer < from || r->layer >= to) continue;
        if (wanted != EY_ANY && (wanted < r->wanted_from || wanted >= r->wanted_to)) continue;
        st = r->call ? r->call(p, r, err) : launch(p, r, err);
        if (st != EYRIE_OK) return st;
    }
    return EYRIE_OK;
}

const ey_buffer *ey_plan_buffer(const ey_plan *p, ey_act a) { return p->scratch->pool[p->values[a.value].buffer]; }

ey_cost ey_plan_cost(const ey_plan *p)
{
    ey_cost sum = { 0, 0 };
    for (size_t i = 0; i < p->n; i++) {
        sum.bytes += p->records[i].cost.bytes;
        sum.flops += p->records[i].cost.flops;
    }
    return sum;
}

void ey_plan_free(ey_plan *p)
{
    ey_free(p->records);
    ey_free(p->values);
    *p = (ey_plan){ 0 };
}
