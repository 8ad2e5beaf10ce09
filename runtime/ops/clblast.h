/* clblast.h - what stands between a product (matmul.c) and CLBlast, a library of linear algebra in OpenCL: dense products of
 * many rows in prefill, where a model's options ask for it. Its sums come in an order of its own, which depends on the number
 * of rows, so results vary with what shares the batch. */
#ifndef EY_CLBLAST_H
#define EY_CLBLAST_H

#include "unit.h"

/* Whether the library was built with it. */
bool ey_clblast_exists(void);

/* Whether products of those rows with w are CLBlast's in this plan. */
bool ey_clblast_takes(const ey_plan *p, const ey_matrix *w, ey_span rows);

/* Arguments as of ey_unit_product. */
void ey_clblast_product(ey_plan *p, ey_act x, const ey_matrix *w, ey_span rows, bool add, bool gated, ey_act y);

/* CLBlast keeps what it compiled for a context, and so the context, until it is told to forget. Before a context goes. */
void ey_clblast_forget(void);

#endif
