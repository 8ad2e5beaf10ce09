/* families.h - which model a checkpoint is, and what its tensors are called. All published Griffins use the names of the
 * Hugging Face RecurrentGemma layout; a new layout is a new row. */
#ifndef EY_FAMILIES_H
#define EY_FAMILIES_H

#include "layers/layer.h"

typedef struct ey_family {
    const char *name;
    bool      (*is)(const ey_config *c);
    const char *embedding, *block, *final_norm, *head;     /* block: a format of the layer's number, the prefix of its names */
    const char *ignored[4];                                /* tensors of old exports that follow from the others */
} ey_family;

const ey_family *ey_family_of(const ey_config *c);

#endif
