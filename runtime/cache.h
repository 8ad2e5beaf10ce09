/* cache.h - what is kept on disk between runs: program binaries, and what was found out about a device. Entries are blobs
 * under a key; a key is text of any length, its hash the file's name. Losing the cache costs time and nothing else, so
 * nothing here fails: an entry that is damaged, foreign or unreadable is not there, and what cannot be written is not kept;
 * both leave a note. Entries are written to a temporary file and renamed, so any number of processes can share a
 * directory and kill -9 leaves the old entry or the new one. */
#ifndef EY_CACHE_H
#define EY_CACHE_H

#include "base.h"

typedef struct ey_cache ey_cache;

/* A cache in `directory`, which is made if need be (and its parents); at most `limit` bytes, the entries used longest ago
 * go first. NULL, with a note: no memory, or the directory cannot be used. All other functions take NULL for "no cache". */
ey_cache *ey_cache_open(const char *directory, uint64_t limit, const ey_log *log);
void      ey_cache_close(ey_cache *c);

/* The entry's bytes in memory that the caller frees with ey_free; NULL: there is none. `kind` is a short word that becomes
 * the file's extension ("program", "verdicts"). */
void *ey_cache_get(ey_cache *c, const char *kind, const char *key, size_t key_length, size_t *size);
void  ey_cache_put(ey_cache *c, const char *kind, const char *key, size_t key_length, const void *data, size_t size);

#endif
