/* tiles.h - which tiles products get on a device where that was measured (tune.c): a table that is kept in the cache by
 * device, driver, platform and the text of the products' kernels, and read when a model is opened. Where it has no answer,
 * the op's own choice stands. All tiles give the same bits, so nothing but time depends on it. */
#ifndef EY_TILES_H
#define EY_TILES_H

#include "program.h"

/* A product as far as its choice of a tile goes. */
typedef struct ey_product {
    char         kernel[24];        /* "matmul", "matmul_geglu", ...; "_int8" follows if it is in 8 bits */
    eyrie_format format;
    uint32_t     rows, cols, blocks;        /* of the matrix, padded */
    bool         normed;            /* x comes with a norm to be taken */
    uint32_t     tokens;            /* rows of x, rounded up to a power of two */
} ey_product;

/* What was found of one. */
typedef struct ey_tuned {
    ey_product product;
    ey_tile    tile;
    uint64_t   nanoseconds;         /* that the product takes with it */
    uint32_t   gain;                /* thousandths of that which the op's own choice takes; 1000: it is that choice */
} ey_tuned;

typedef struct ey_tuning {
    void   (*asked)(void *user, const ey_product *p);       /* NULL, or hears of every product that is recorded */
    void    *user;
    size_t   n;
    ey_tuned list[];
} ey_tuning;

/* What the cache has of this device, for ey_free; NULL: nothing. What is damaged is not used, and leaves a note. */
ey_tuning *ey_tuning_read(const eyrie_device *dev);
/* From now on products are recorded with it. */
void       ey_tuning_load(eyrie_device *dev);

/* NULL: it was not measured. */
const ey_tuned *ey_tuning_find(const ey_tuning *t, const ey_product *p);

/* Adds an entry to what the cache has, or replaces it. EIO: the cache keeps nothing. */
eyrie_status ey_tuning_keep(eyrie_device *dev, const ey_tuned *entry, eyrie_error *err);

#endif
