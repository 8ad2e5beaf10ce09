/* learnt.h - costs of the models that an engine runs: begun with what is known of their devices, or with what was learnt from
 * real steps the last time, which the devices' cache keeps. */
#ifndef EY_LEARNT_H
#define EY_LEARNT_H

#include "model.h"

#include <eyrie/eyrie_tools.h>

/* Costs of steps of `decode`, and of those of `prefill`, which may be the same model. NULL: no memory. Free with ey_free. */
ey_costs *ey_learnt_open(const eyrie_model *prefill, const eyrie_model *decode);

/* Puts into *costs, which are of this model with any paces, what the cache has of it; the model may be only declared, with its
 * identity and its unit found out. False: it has nothing. */
bool      ey_learnt_recall(ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode);

/* Costs of a model that is only declared, with shape *s, on its device: those that the cache has of it, else what the device can do
 * at best, measured if need be, where launches are not known: there are a few for each layer, and they take little beside the rest.
 * Sets source and rates of *costs. Free with ey_free, also after a failure. */
eyrie_status ey_learnt_foresee(ey_costs **out, eyrie_model *m, const ey_shape *s, eyrie_model_costs *costs, eyrie_error *err);

/* For the next time, if there is a cache. */
void      ey_learnt_keep(const ey_costs *costs, const eyrie_model *prefill, const eyrie_model *decode);

#endif
