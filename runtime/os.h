/* os.h - every call to the operating system that C11 does not have, in one place (os_posix.c). */
#ifndef EY_OS_H
#define EY_OS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped read-only, in large pages where it is large. An empty file maps to data = NULL, size = 0. */
typedef struct ey_map {
    const unsigned char *data;
    uint64_t             size;
} ey_map;

/* EIO with the path and the system's reason; directories and other non-files are refused. */
eyrie_status ey_map_open(ey_map *map, const char *path, eyrie_error *err);
void         ey_map_close(ey_map *map);

/* Memory for much that is read from end to end, in pages as large as the system gives where it is asked (Linux: 2 MiB
 * where transparent huge pages are on or "madvise"): addresses of small pages have to be looked up at each 4 KiB, and
 * CPUs fetch ahead within a page only. For ey_pages_free; NULL = no memory. What is in it is not set. */
void *ey_pages_new(uint64_t bytes);
void  ey_pages_free(void *pages);       /* NULL is fine */

/* A file that is whole or not there: written beside its place, and moved into it when all of it is on the disk, so that
 * what was there before stays until then, whatever happens. What is there and no regular file (a device, a pipe) is
 * written as it is. EIO with the path and the system's reason. */
typedef struct ey_output ey_output;

eyrie_status ey_output_open(ey_output **out, const char *path, eyrie_error *err);
eyrie_status ey_output_write(ey_output *o, const void *bytes, uint64_t n, eyrie_error *err);
/* Ends it (NULL is fine). Without `keep`, which a failed write must not have, and when keeping fails, nothing is left of
 * it and the old file is as it was. */
eyrie_status ey_output_close(ey_output *o, bool keep, eyrie_error *err);

/* The whole of a regular file of at most `most` bytes, for ey_free; data = NULL and EYRIE_OK if there is no such file.
 * Unlike a mapping it may be cut short by somebody else meanwhile. EIO, ENOMEM. */
eyrie_status ey_file_read(void **data, size_t *size, const char *path, uint64_t most, eyrie_error *err);

/* Makes a directory for this user alone, and its parents; one that is there already is fine. */
eyrie_status ey_dir_make(const char *path, eyrie_error *err);

/* Calls visit for each regular file in a directory, with its size and the time of its last change in nanoseconds on
 * time()'s clock. Files that go away meanwhile are left out; a directory that cannot be read is empty. */
typedef void ey_dir_visit(void *user, const char *name, uint64_t bytes, int64_t changed);
void ey_dir_each(const char *path, ey_dir_visit *visit, void *user);

void        ey_file_touch(const char *path);            /* last changed now, if it can be */
const char *ey_reason(int code, char buf[128]);         /* what errno says in words */

/* Calls work(user, worker, i) for each i below n, in any order, in as many threads as `workers` says or there can be, and
 * returns when all is done. worker < workers tells threads apart. */
typedef void ey_work(void *user, uint32_t worker, uint32_t i);
enum { EY_MAX_WORKERS = 64 };
void     ey_parallel(uint32_t workers, uint32_t n, ey_work *work, void *user);
uint32_t ey_cores(void);              /* that this process may use: 1 to EY_MAX_WORKERS */

bool     ey_file_exists(const char *path);
char    *ey_path(const char *directory, const char *name);   /* the file's path, for ey_free; NULL = no memory */
uint64_t ey_memory_available(void);   /* bytes of host memory that can be had without swapping; 0 = not known */
uint64_t ey_process_id(void);
bool     ey_tiles_exist(void);        /* the CPU has a matrix unit for bf16 (AMX) */
bool     ey_tiles_allow(void);        /* lets all threads of this process use it, for good; the system may say no */
bool     ey_vnni_exists(void);        /* the CPU, and the system, have AVX-512 with VNNI */
double   ey_seconds(void);            /* monotonic clock */

#ifdef __cplusplus
}
#endif
#endif
