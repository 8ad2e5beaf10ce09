/* snapshot.h - state files: parts of bytes under a checksum, bound to traits that must be the same where a state is saved
 * and where it is loaded. Knows bytes, not meanings: what the traits are is the model's business, what is in the parts
 * the model's and the engine's.
 *
 * A file, every number little endian:
 *
 *      0  "EYRSTATE"
 *      8  u32 version of the format, u32 traits, u32 parts, u32 zero
 *     24  u64 bytes of the whole file
 *     32  traits, each of char name[24], char value[48], char remedy[72]: printable ASCII, then zeros
 *         u64 bytes of each part
 *         the parts, one after the other
 *         XXH3, 128 bits, of everything before: u64 low, u64 high
 */
#ifndef EY_SNAPSHOT_H
#define EY_SNAPSHOT_H

#include "os.h"

typedef struct ey_trait {
    char name[24];          /* "keys and values" */
    char value[48];         /* "f16" */
    char remedy[72];        /* how whoever loads gets this value: "--kv f16" */
} ey_trait;

enum { EY_MAX_TRAITS = 16, EY_MAX_PARTS_OF_STATE = 4096 };

typedef struct ey_traits {
    ey_trait list[EY_MAX_TRAITS];
    uint32_t n;
} ey_traits;

/* Adds a trait; what is too long is cut. */
ey_trait *ey_traits_add(ey_traits *t, const char *name, const char *value);
EY_PRINTF(2, 3) void ey_trait_remedy(ey_trait *t, const char *format, ...);

/* Numbers as the file has them: the lowest byte first. */
void     ey_put(unsigned char *at, uint32_t bytes, uint64_t value);
uint64_t ey_get(const unsigned char *at, uint32_t bytes);

/* Writing: the sizes of all parts first, then their bytes in any pieces, then close. The file appears under its name when
 * all of it is on the disk; until then, and after a failure, the old one stays. */
typedef struct ey_snapshot_writer ey_snapshot_writer;

eyrie_status ey_snapshot_create(ey_snapshot_writer **out, const char *path, const ey_traits *traits,
                                const uint64_t *sizes, uint32_t n_parts, eyrie_error *err);
eyrie_status ey_snapshot_write(ey_snapshot_writer *w, const void *bytes, uint64_t n, eyrie_error *err);
/* Ends it (NULL is fine); `keep` only if everything was written. */
eyrie_status ey_snapshot_finish(ey_snapshot_writer *w, bool keep, eyrie_error *err);

/* Reading. Opening checks everything: that the file is whole and undamaged, and that its traits are these. EFORMAT: it is
 * not; EINVAL: it was saved under other circumstances; the message names both and the way out. */
typedef struct ey_snapshot {
    ey_map               map;
    const unsigned char *sizes;     /* of the parts, in the map */
    const unsigned char *body;
    uint32_t             n_parts;
} ey_snapshot;

eyrie_status         ey_snapshot_open(ey_snapshot *s, const char *path, const ey_traits *traits, eyrie_error *err);
/* The same but for the checksum, which takes as long as reading the file: for looking at small parts of many. */
eyrie_status         ey_snapshot_peek(ey_snapshot *s, const char *path, const ey_traits *traits, eyrie_error *err);
const unsigned char *ey_snapshot_part(const ey_snapshot *s, uint32_t i, uint64_t *size);   /* 0 bytes: there is none */
void                 ey_snapshot_close(ey_snapshot *s);

#endif
