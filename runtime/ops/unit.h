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

#endif
