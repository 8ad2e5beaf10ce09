/* lane.c - see lane.h. */
#include "lane.h"
#include "os.h"

#include <inttypes.h>

eyrie_status ey_lane_init(ey_lane *l, eyrie_model *model, ey_phase phase, uint32_t rows, eyrie_error *err)
{
    *l = (ey_lane){ .model = model, .phase = phase, .layers = ey_model_config(model)->layers };
    l->rows = ey_calloc(rows, sizeof *l->rows);
    l->loads = ey_calloc(rows, sizeof *l->loads);
    l->seats = ey_calloc(rows, sizeof *l->seats);
    return l->rows && l->loads && l->seats ? EYRIE_OK : ey_fail(err, EYRIE_ENOMEM, "steps of %" PRIu32 " rows", rows);
}

void ey_lane_free(ey_lane *l)
{
    ey_free(l->rows);
    ey_free(l->loads);
    ey_free(l->seats);
    *l = (ey_lane){ 0 };
}

eyrie_status ey_lane_begin(ey_lane *l, uint32_t n, const ey_costs *costs, eyrie_error *err)
{
    ey_batch batch = { .phase = l->phase, .n_rows = n, .rows = l->rows };

    for (uint32_t i = 0; i < n; i++) {
        const ey_row *r = &l->rows[i];
        l->loads[i] = (ey_load){ .position = r->position, .n = r->n,
                                 .wanted = r->want == EY_WANT_ALL ? r->n : r->want == EY_WANT_LAST };
    }
    l->under_way = true;
    l->n = n;
    l->done = 0;
    l->in_flight = false;
    l->seconds = 0;
    l->start = ey_seconds();
    l->predicted = ey_cost_seconds(costs, l->phase, l->loads, n);
    return ey_model_upload(l->model, &batch, err);
}

eyrie_status ey_lane_enqueue(ey_lane *l, uint32_t to, const ey_costs *costs, eyrie_error *err)
{
    uint32_t from = l->done;

    if (!l->in_flight) {
        l->from = from;
        l->part_predicted = 0;
        if (from > 0) l->start = ey_seconds();
    }
    l->part_predicted += ey_cost_part(costs, l->phase, l->loads, l->n, from, to);
    l->done = to <= l->layers ? to : l->layers + 1;
    l->in_flight = true;
    return ey_model_enqueue(l->model, l->phase, from, to <= l->layers ? to : UINT32_MAX, err);
}

bool ey_lane_is_last(const ey_lane *l) { return l->under_way && l->done > l->layers; }

bool ey_lane_ready(const ey_lane *l) { return ey_model_ready(l->model, l->phase); }

eyrie_status ey_lane_wait(ey_lane *l, const ey_result **results, eyrie_error *err)
{
    uint32_t n;
    eyrie_status st = ey_lane_is_last(l) ? ey_model_results(l->model, l->phase, results, &n, err)
                                         : ey_model_wait_part(l->model, l->phase, err);

    l->in_flight = false;
    l->end = ey_seconds();
    l->seconds += l->end - l->start;
    return st;
}

double ey_lane_left(const ey_lane *l, const ey_costs *costs, uint32_t from)
{
    return l->under_way ? ey_cost_part(costs, l->phase, l->loads, l->n, from, UINT32_MAX) : 0;
}
