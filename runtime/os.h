/* os.h - every call to the operating system that C11 does not have, in one place (os_posix.c). */
#ifndef EY_OS_H
#define EY_OS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped read-only. An empty file maps to data = NULL, size = 0. */
typedef struct ey_map {
    const unsigned char *data;
    uint64_t             size;
} ey_map;

/* EIO with the path and the system's reason; directories and other non-files are refused. */
eyrie_status ey_map_open(ey_map *map, const char *path, eyrie_error *err);
void         ey_map_close(ey_map *map);

/* A file that is whole or not there: written beside its place, and moved into it when all of it is on the disk, so that
 * what was there before stays until then, whatever happens. What is there and no regular file (a device, a pipe) is
 * written as it is. EIO with the path and the system's reason. */
typedef struct ey_output ey_output;

eyrie_status ey_output_open(ey_output **out, const char *path, eyrie_error *err);
eyrie_status ey_output_write(ey_output *o, const void *bytes, uint64_t n, eyrie_error *err);
/* Ends it (NULL is fine). Without `keep`, which a failed write must not have, and when keeping fails, nothing is left of
 * it and the old file is as it was. */
eyrie_status ey_output_close(ey_output *o, bool keep, eyrie_error *err);

bool     ey_file_exists(const char *path);
char    *ey_path(const char *directory, const char *name);   /* the file's path, for ey_free; NULL = no memory */
uint64_t ey_memory_available(void);   /* bytes of host memory that can be had without swapping; 0 = not known */
double   ey_seconds(void);            /* monotonic clock */

#ifdef __cplusplus
}
#endif
#endif
