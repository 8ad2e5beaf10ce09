/* synthetic.h - models without a checkpoint: the shapes of the published ones by name, and elements of their tensors as
 * a function of seed, tensor name and index alone. kernels_cl/fill.cl has the same function for matrices; this one is
 * for vectors, and the truth that tests compare with. Knows nothing of devices. */
#ifndef EY_SYNTHETIC_H
#define EY_SYNTHETIC_H

#include "base.h"

/* What stands after "synthetic:" is NAME or NAME@SEED. NAME is a shape of the table in synthetic.c, the path of a file
 * like config.json, or a directory that has one. */
typedef struct ey_synthetic {
    char    *config;            /* text of config.json */
    size_t   length;
    char    *name;              /* what stands for the file in messages */
    uint64_t seed;              /* of the weights, 0 unless said */
} ey_synthetic;

bool ey_is_synthetic(const char *model);

/* EINVAL: an unknown name (the message lists those there are). EIO: a path that cannot be read. */
eyrie_status ey_synthetic_open(ey_synthetic *s, const char *model, eyrie_error *err);
void         ey_synthetic_close(ey_synthetic *s);

/* How the elements of a tensor are made. */
typedef struct ey_recipe {
    uint32_t key[2];            /* of seed and name */
    float    scale;
    bool     decays;            /* it is a recurrent_param */
} ey_recipe;

/* fan_in: the tensor's last dimension. */
ey_recipe ey_recipe_of(uint64_t seed, const char *name, uint64_t fan_in);

/* Elements [first, first + n) of the tensor, in the row-major order that it would have in a file. */
void ey_recipe_read(const ey_recipe *r, uint64_t first, uint64_t n, float *out);

#endif
