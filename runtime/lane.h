/* lane.h - one phase on the model that it runs on, and the step that is under way there: begun with a batch, enqueued in
 * parts, ended by reading its results. Knows who sits in the step, not what becomes of them. */
#ifndef EY_LANE_H
#define EY_LANE_H

#include "cost.h"
#include "model.h"

/* Who a row of the step belongs to. */
typedef struct ey_seat {
    eyrie_seq *seq;             /* NULL: closed meanwhile */
    uint32_t   slot;
} ey_seat;

typedef struct ey_lane {
    eyrie_model *model;
    ey_phase     phase;
    uint32_t     layers;
    bool         under_way;     /* a step has begun */
    ey_row      *rows;          /* [n], of the step; room for all that one can have */
    ey_load     *loads;
    ey_seat     *seats;
    uint32_t     n;
    uint32_t     done;          /* layers that are enqueued; the head counts as one */
    bool         in_flight;     /* they have not been waited for */
    double       start, end;    /* of the part in flight, or the last one: when it was enqueued, and known to have ended */
    uint32_t     from;          /* its first layer */
    double       part_predicted;
    double       seconds;       /* that the parts before it took */
    double       predicted;     /* of the whole step */
} ey_lane;

/* For steps of up to `rows` rows. The caller frees, also after a failure. */
eyrie_status ey_lane_init(ey_lane *l, eyrie_model *model, ey_phase phase, uint32_t rows, eyrie_error *err);
void         ey_lane_free(ey_lane *l);

/* Begins a step with the first n rows, which are filled in like their seats; says what it should take by `costs`. */
eyrie_status ey_lane_begin(ey_lane *l, uint32_t n, const ey_costs *costs, eyrie_error *err);
/* Its layers from where it is up to `to`; UINT32_MAX: to the end. */
eyrie_status ey_lane_enqueue(ey_lane *l, uint32_t to, const ey_costs *costs, eyrie_error *err);
/* All of it is enqueued? */
bool         ey_lane_is_last(const ey_lane *l);
/* What was enqueued has ended? Never blocks; asking makes the device begin. */
bool         ey_lane_ready(const ey_lane *l);
/* Waits for a part; where it is the last, reads the results, of which there are as many as tokens wanted. */
eyrie_status ey_lane_wait(ey_lane *l, const ey_result **results, eyrie_error *err);
/* Seconds that the step under way should take from layer `from` on; 0 if there is none. */
double       ey_lane_left(const ey_lane *l, const ey_costs *costs, uint32_t from);

#endif
