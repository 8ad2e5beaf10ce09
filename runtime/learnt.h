/* learnt.h - costs of the models that an engine runs: begun with what is known of their devices, or with what was learnt from
 * real steps the last time, which the devices' cache keeps. */
#ifndef EY_LEARNT_H
#define EY_LEARNT_H

#include "model.h"

/* Costs of steps of `decode`, and of those of `prefill`, which may be the same model. NULL: no memory. Free with ey_free. */
ey_costs *ey_learnt_open(const eyrie_model *prefill, const eyrie_model *decode);

/* Puts into *costs, which are of this model with any paces, what the cache has of it; the model may be only declared, with its
 * identity and its unit found out. False: it has nothing. */
bool      ey_learnt_recall(ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode);

/* For the next time, if there is a cache. */
void      ey_learnt_keep(const ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode);

#endif
