/* shelf_parts.h - what is inside of a shelf, for the files that make one up: shelf.c has snapshots on the device and
 * in host memory, stored.c one of them, shelf_file.c files. Nobody else's. */
#ifndef EY_SHELF_PARTS_H
#define EY_SHELF_PARTS_H

#include "shelf.h"

/* A snapshot: the used bytes of a slot, layer after layer, and where its text ends the logits after that. One buffer,
 * one block of host memory, one part of a file, or several of these. */
typedef struct ey_stored {
    uint64_t       bytes;
    ey_arena       arena;
    ey_buffer     *buffer;      /* on the device; NULL: not there */
    unsigned char *host;        /* NULL: not there */
    ey_result     *ending;      /* of its last token; NULL: there are no logits */
} ey_stored;

struct ey_shelf {
    eyrie_model *model;
    ey_prefixes *prefixes;
    char        *directory;     /* NULL: none */
    ey_traits    traits;
    uint64_t     traits_hash;
    uint64_t     file_limit;    /* bytes of a snapshot that can come back from a file */
    uint64_t     copied;
    double       seconds;
    bool         write_failed;  /* no more files */
    bool         noted;         /* that copies fail */
};

const ey_log *ey_shelf_log(const ey_shelf *s);
uint32_t      ey_shelf_vocab(const ey_shelf *s);
uint64_t      ey_shelf_state_bytes(const ey_shelf *s, uint64_t n, bool ends);      /* of a snapshot after n tokens */

/* With a copy of `ending`, unless that is NULL. NULL: no memory. */
ey_stored   *ey_stored_new(uint64_t bytes, const ey_result *ending);
void         ey_stored_free(ey_stored *k);                      /* NULL is fine */
uint64_t     ey_stored_bytes(uint64_t bytes, bool ends);        /* with what is kept beside them */
void         ey_stored_drop_buffer(ey_stored *k);
void         ey_stored_drop_host(ey_stored *k);
eyrie_status ey_stored_make_buffer(const ey_shelf *s, ey_stored *k, eyrie_error *err);
/* Makes its buffer, with these bytes; and brings them back, to memory for ey_free. */
eyrie_status ey_stored_fill(const ey_shelf *s, ey_stored *k, const unsigned char *bytes, eyrie_error *err);
eyrie_status ey_stored_fetch(const ey_shelf *s, const ey_stored *k, unsigned char **out, eyrie_error *err);

/* ----------------------------------------------------------------------------------------------------- shelf_file.c */

/* A snapshot to its file, from its file to the device; and the file goes. */
eyrie_status ey_shelf_write_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err);
eyrie_status ey_shelf_read_file(ey_shelf *s, const ey_prefix *p, eyrie_error *err);
void         ey_shelf_remove_file(const ey_shelf *s, const ey_prefix *p);

/* Makes it if need be, and takes what is there into the index. */
eyrie_status ey_shelf_open_directory(ey_shelf *s, const char *directory, eyrie_error *err);

#endif
