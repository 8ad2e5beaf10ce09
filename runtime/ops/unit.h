/* unit.h - what stands between a product (matmul.c) and the CPU's matrix unit, which takes those of prefill. Whoever makes
 * what such a product reads needs only ey_act_for and ey_tiles_of (op.h). */
#ifndef EY_UNIT_H
#define EY_UNIT_H

#include "op.h"

/* Which rows of x go to which rows of y. */
typedef struct ey_span {
    uint32_t count;             /* word of the batch that says how many there are */
    uint32_t skip, most;
} ey_span;

/* Whether products with w are the unit's in this plan. */
bool ey_unit_takes(const ey_plan *p, const ey_matrix *w);

/* x, which is rounded and packed first if it is not yet. add: to what is there; gated: by pairs, through gelu. */
void ey_unit_product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, bool add, bool gated, ey_act y);

/* All that a recurrent layer does between its two products, in one launch. Whether it can be: not where several launches
 * would have work for more cores. */
bool   ey_unit_recurs(const ey_plan *p, const ey_matrix *gates);
/* u and r->y are columns of one activation; r->v is none, since it is never stored. */
ey_act ey_unit_recurrence(ey_plan *p, ey_act u, const ey_conv *c, const ey_matrix *gates, const ey_recurrence *r);

#endif
