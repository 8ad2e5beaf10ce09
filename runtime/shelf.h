/* shelf.h - snapshots of a model's slots after the beginnings of texts, on its device, in host memory and in files of
 * a directory, within a budget for each; which ones, prefix.h decides. Losing them costs time and nothing else: what
 * goes wrong with one is noted, and it is gone. */
#ifndef EY_SHELF_H
#define EY_SHELF_H

#include "model.h"
#include "prefix.h"

typedef struct ey_shelf ey_shelf;

typedef struct ey_shelf_opts {
    uint32_t    unit;               /* tokens: texts may be gone on with after multiples of it */
    uint64_t    limits[EY_TIERS];   /* bytes; 0 in the host and on the disk: nothing is kept there */
    const char *directory;          /* of files, made if need be, that are there when it is opened again; NULL: none */
} ey_shelf_opts;

/* EIO: the directory cannot be made. Files there that are another model's, or damaged, are noted and left out. */
eyrie_status ey_shelf_open(ey_shelf **out, eyrie_model *m, const ey_shelf_opts *opts, eyrie_error *err);
/* What the directory has room for goes there. NULL is fine. */
void         ey_shelf_close(ey_shelf *s);

/* Keeps the state of a slot after tokens [0, n) of a text, unless that is there already. Where the prefill step that
 * has just ended wanted logits of the last token, `ending` is what it left of it and `wanted` its number; else NULL. */
void ey_shelf_keep(ey_shelf *s, const int32_t *tokens, uint64_t n, uint32_t slot, const ey_result *ending, uint32_t wanted);

/* As ey_prefixes_find. */
ey_prefix *ey_shelf_find(const ey_shelf *s, const int32_t *tokens, uint64_t n, bool logits, uint64_t *branch);
/* A snapshot to a slot, and unless `ending` is NULL what followed its last token, with logits [vocab]. False: it is
 * gone. */
bool ey_shelf_restore(ey_shelf *s, ey_prefix *p, uint32_t slot, ey_result *ending, float *logits);

typedef struct ey_shelf_use {
    uint64_t held;                  /* bytes, on all tiers */
    uint64_t copied;                /* bytes, all copies together */
    double   seconds;               /* of the host for that; the device may copy on */
} ey_shelf_use;

ey_shelf_use ey_shelf_get_use(const ey_shelf *s);

#endif
