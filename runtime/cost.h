/* cost.h - what a step costs: the bytes and FLOPs of any batch of a model, and the seconds that a device takes for them.
 * Pure numbers: no device, no clock. The engine measures, the policies ask, others print.
 *
 * The model is that of the Griffin paper (De, Smith et al. 2024, section 5.1, eq. 5), for both phases:
 *
 *     seconds = max(bytes / bandwidth, flops / peak) + launches * launch
 *
 * where a step reads all weights once and each sequence's state, whatever the number of its tokens, and computes for every
 * token. Layers and head are two such terms: a chunk that computes in the layers still only reads in the head. What the
 * formula does not know (tiles, caches, how well a kernel does at some size) is learnt from steps that ran, as a factor. */
#ifndef EY_COST_H
#define EY_COST_H

#include "batch.h"

/* What of a model decides its costs; ey_model_shape fills it in. A multiply-add is two FLOPs. */
typedef struct ey_shape {
    uint32_t layers;
    double   layer_bytes;           /* weights of all layers, read by every step */
    double   head_bytes;            /* of the head, read by a step that wants logits */
    double   other_bytes;           /* what else lies in memory whoever is there: scratch, an embedding that is not the head */
    double   token_flops;           /* of all layers for a token, attention's scores and sums left out */
    double   head_flops;            /* of the head for a wanted token */
    double   state_bytes;           /* recurrent state of a sequence, all layers; a step reads and writes it */
    double   key_bytes;             /* of the keys and values of one position, all attention layers */
    double   key_flops;             /* of a token that looks at one position, all attention layers */
    uint64_t window;                /* most positions before its own that a token looks at; 0 with keys: all */
    uint32_t launches[EY_PHASES];   /* of a step; 0 = not known */
} ey_shape;

/* How fast a device is in a phase. */
typedef struct ey_pace {
    double bandwidth;               /* bytes/s */
    double peak;                    /* FLOP/s of its products, with the kernels that it really runs */
    double launch;                  /* s for a launch */
} ey_pace;

/* One row of a batch, as far as it costs. */
typedef struct ey_load {
    uint64_t position;              /* of its first token */
    uint32_t n;                     /* tokens, at least 1 */
    uint32_t wanted;                /* of which logits are wanted */
} ey_load;

/* Rows added up: all of them that costs depend on. Begins as zeros. */
typedef struct ey_loads {
    double tokens, wanted, rows;
    double keys;                    /* positions whose keys and values are read or written */
    double looks;                   /* positions that tokens look at, each token counted */
} ey_loads;

void ey_loads_add(ey_loads *w, const ey_shape *s, const ey_load *row);

/* Of a whole step. */
typedef struct ey_demand {
    double   bytes, flops;
    uint32_t launches;
} ey_demand;

ey_demand ey_cost_demand(const ey_shape *s, ey_phase phase, const ey_load *rows, uint32_t n);
ey_demand ey_loads_demand(const ey_shape *s, ey_phase phase, const ey_loads *w);

/* By the formula alone, s. */
double ey_cost_formula(const ey_shape *s, const ey_pace *pace, ey_phase phase, const ey_load *rows, uint32_t n);

/* Sequences with rings for `positions` positions each (fewer where the window is shorter) that fit in `memory` bytes beside
 * the weights; UINT64_MAX where a sequence takes nothing. */
uint64_t ey_cost_most_sequences(const ey_shape *s, uint64_t positions, uint64_t memory);

/* Shape, paces, and what was learnt from steps that ran. */
typedef struct ey_costs ey_costs;

ey_costs *ey_costs_new(const ey_shape *shape, const ey_pace pace[EY_PHASES]);  /* both copied; NULL: no memory. Free with ey_free */
const ey_shape *ey_costs_shape(const ey_costs *c);
const ey_pace  *ey_costs_pace(const ey_costs *c, ey_phase phase);

/* Predicted seconds of a step with these rows (none: 0), and of its layers [from, to): UINT32_MAX = to the end, which is the
 * head's; what ends before that leaves the head out. The last is for those who have added the rows up. */
double ey_cost_seconds(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n);
double ey_cost_part(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, uint32_t from, uint32_t to);
double ey_loads_seconds(const ey_costs *c, ey_phase phase, const ey_loads *w, uint32_t from, uint32_t to);

/* Seconds that the host is expected to take for such a step, or for a part of one; 0 where none has run. */
double ey_loads_host(const ey_costs *c, ey_phase phase, const ey_loads *w);

/* A whole step took so long: the sum of its parts, without what ran between them. */
void ey_cost_learn(ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, double seconds);

/* What the host did for a step, or for a part of one, before and after it (deciding, sampling, text); not in the seconds above. */
void ey_cost_learn_host(ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, double seconds);

/* One of the times that steps of that size have really taken in this process, the host's included, scaled to these rows and
 * layers: which one is `chance`'s choice, evenly from [0, 1). Those who simulate many of them see more than what is usual. Where
 * none has run it is what is predicted. */
double ey_cost_sample(const ey_costs *c, ey_phase phase, const ey_load *rows, uint32_t n, uint32_t from, uint32_t to, double chance);

/* Rows of a decode step, or tokens of a prefill step, from which computing takes longer than reading; near position 0. With
 * what was learnt. INFINITY: none do. */
double ey_cost_ridge(const ey_costs *c, ey_phase phase);

/* What was learnt, for keeping: bytes of this machine's order. `size` is ey_costs_size(). Loading takes the paces over as
 * well, and numbers of launches that are not known; false: it is not of this version or of another shape, or makes no sense,
 * and nothing has changed. */
size_t ey_costs_size(void);
void   ey_costs_save(const ey_costs *c, void *blob);
bool   ey_costs_load(ey_costs *c, const void *blob, size_t size);

#endif
