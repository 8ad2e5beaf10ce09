/* os_posix.c - os.h on POSIX systems; what is there of Linux is optional (no /proc, no cgroups: memory not known).
 * The one file to replace on another kind of system. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#define _DEFAULT_SOURCE        /* syscall, madvise */
#define _FILE_OFFSET_BITS 64   /* files above 2 GiB where longs have 32 bits */

#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

const char *ey_reason(int code, char buf[128])
{
    if (strerror_r(code, buf, 128) != 0) snprintf(buf, 128, "error %d", code);
    return buf;
}

enum { NOT_REGULAR = -1 };   /* beside the values of errno */

static eyrie_status fail_errno(eyrie_error *err, const char *path, int code)
{
    char reason[128];

    return ey_fail(err, EYRIE_EIO, "cannot read %s: %s", path,
                   code == NOT_REGULAR ? "it is not a regular file" : ey_reason(code, reason));
}

/* Opens a regular file for reading: 0, or what is wrong. The caller closes *fd unless it is negative. */
static int open_file(int *fd, struct stat *info, const char *path)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);   /* or opening a FIFO would wait for its writer */
    if (*fd < 0 || fstat(*fd, info) != 0) return errno;
    return S_ISREG(info->st_mode) ? 0 : NOT_REGULAR;
}

enum { LARGE_PAGE = 2 << 20 };      /* where large pages are of another size, an alignment and a rounding like any */

/* A wish; memory is memory all the same where there are none. The end keeps small ones, so that none is wasted. */
static void advise_large(void *p, uint64_t bytes)
{
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE_PAGE) (void)madvise(p, (size_t)bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

eyrie_status ey_map_open(ey_map *map, const char *path, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    struct stat  info;
    int          fd, code = open_file(&fd, &info, path);

    *map = (ey_map){ NULL, 0 };
    if (code) {
        st = fail_errno(err, path, code);
    } else if (info.st_size > 0) {
        void *data = MAP_FAILED;

        errno = EFBIG;   /* the reason if the size is more than the address space */
        if ((off_t)(size_t)info.st_size == info.st_size) {
            data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (data != MAP_FAILED) advise_large(data, (uint64_t)info.st_size);
        }
        if (data == MAP_FAILED) st = fail_errno(err, path, errno);
        else *map = (ey_map){ data, (uint64_t)info.st_size };
    }
    if (fd >= 0) close(fd);   /* the mapping stays */
    return st;
}

void ey_map_close(ey_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, (size_t)map->size);   /* munmap takes no const */
    *map = (ey_map){ NULL, 0 };
}

void *ey_pages_new(uint64_t bytes)
{
    void *p = NULL;

    if (bytes > SIZE_MAX || !ey_may_allocate((size_t)bytes) || posix_memalign(&p, LARGE_PAGE, (size_t)bytes) != 0) return NULL;
    advise_large(p, bytes);
    return p;
}

void ey_pages_free(void *pages) { free(pages); }

struct ey_output {
    char *path, *temporary;     /* temporary = NULL: written in place */
    int   fd;
};

static eyrie_status fail_write(const char *path, int code, eyrie_error *err)
{
    char reason[128];

    return ey_fail(err, EYRIE_EIO, "cannot write %s: %s", path, ey_reason(code, reason));
}

/* A new file beside `path`. Its number, after the process's, is more than 0 where an ended process of the same number left one. */
static void open_temporary(ey_output *o, size_t size)
{
    for (int i = 0; i < 1000 && o->fd < 0 && (i == 0 || errno == EEXIST); i++) {
        snprintf(o->temporary, size, "%s.%ld.%d.tmp", o->path, (long)getpid(), i);
        o->fd = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
}

static void output_free(ey_output *o)
{
    ey_free(o->path);
    ey_free(o->temporary);
    ey_free(o);
}

eyrie_status ey_output_open(ey_output **out, const char *path, eyrie_error *err)
{
    size_t       size = strlen(path) + 32;
    ey_output   *o = ey_calloc(1, sizeof *o);
    struct stat  info;
    eyrie_status st;

    *out = NULL;
    if (!o || !(o->path = ey_strdup(path)) || !(o->temporary = ey_calloc(size, 1))) {
        if (o) output_free(o);
        return ey_fail(err, EYRIE_ENOMEM, "writing %s", path);
    }
    o->fd = -1;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        ey_free(o->temporary);
        o->temporary = NULL;
        o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);   /* or opening a FIFO would wait for its reader */
        if (o->fd >= 0) (void)fcntl(o->fd, F_SETFL, 0);
    } else {
        open_temporary(o, size);
    }
    if (o->fd < 0) {
        st = fail_write(path, errno, err);
        output_free(o);
        return st;
    }
    *out = o;
    return EYRIE_OK;
}

eyrie_status ey_output_write(ey_output *o, const void *bytes, uint64_t n, eyrie_error *err)
{
    const uint64_t       most = 1u << 30;   /* some systems refuse to write 2 GiB at once */
    const unsigned char *p = bytes;

    while (n > 0) {
        ssize_t written = write(o->fd, p, (size_t)ey_min(n, most));

        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return fail_write(o->path, written < 0 ? errno : ENOSPC, err);
        p += written;
        n -= (uint64_t)written;
    }
    return EYRIE_OK;
}

/* Makes the directory's new entry last. Not all systems can, and the file is right in any case. */
static void sync_directory(char *path)
{
    char *slash = strrchr(path, '/');
    int   fd;

    if (slash) slash[slash == path] = '\0';
    fd = open(slash ? path : ".", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

eyrie_status ey_output_close(ey_output *o, bool keep, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    bool         moved = false;
    int          code = 0;

    if (!o) return EYRIE_OK;
    if (keep && o->temporary && fsync(o->fd) != 0) code = errno;
    if (close(o->fd) != 0 && code == 0) code = errno;
    if (keep && code == 0 && o->temporary) {
        moved = rename(o->temporary, o->path) == 0;
        if (!moved) code = errno;
    }
    if (keep && code != 0) st = fail_write(o->path, code, err);
    if (o->temporary && !moved) (void)unlink(o->temporary);
    if (moved) sync_directory(o->path);
    output_free(o);
    return st;
}

/* Reads into data until `size` bytes or the file's end are reached; *size becomes what was read. */
static bool read_bytes(int fd, unsigned char *data, size_t *size)
{
    size_t done = 0;

    while (done < *size) {
        ssize_t n = read(fd, data + done, *size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) break;
        done += (size_t)n;
    }
    *size = done;
    return true;
}

eyrie_status ey_file_read(void **data, size_t *size, const char *path, uint64_t most, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;
    char         text[2][24];
    struct stat  info;
    int          fd, code = open_file(&fd, &info, path);

    *data = NULL;
    *size = 0;
    if (code == ENOENT) return EYRIE_OK;
    if (code) {
        st = fail_errno(err, path, code);
    } else if ((uint64_t)info.st_size > ey_min(most, SIZE_MAX)) {
        st = ey_fail(err, EYRIE_EIO, "cannot read %s: it has %s, at most %s are expected", path,
                     ey_bytes_text((uint64_t)info.st_size, text[0]), ey_bytes_text(most, text[1]));
    } else if (!(*data = ey_calloc((size_t)info.st_size, 1))) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s: %s", path, ey_bytes_text((uint64_t)info.st_size, text[0]));
    } else {
        *size = (size_t)info.st_size;
        if (!read_bytes(fd, *data, size)) st = fail_errno(err, path, errno);
    }
    if (fd >= 0) close(fd);
    if (st != EYRIE_OK) {
        ey_free(*data);
        *data = NULL;
        *size = 0;
    }
    return st;
}

eyrie_status ey_dir_make(const char *path, eyrie_error *err)
{
    char       *parent = ey_strdup(path), reason[128];
    struct stat info;
    int         code = 0;

    if (!parent) return ey_fail(err, EYRIE_ENOMEM, "%s", path);
    for (char *p = parent; *p; p++) {
        if (*p != '/' || p == parent) continue;
        *p = '\0';
        (void)mkdir(parent, 0700);   /* what is wrong with a parent shows in its child */
        *p = '/';
    }
    if (mkdir(path, 0700) != 0) {
        code = errno;
        if (stat(path, &info) == 0) code = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    }
    ey_free(parent);
    return code ? ey_fail(err, EYRIE_EIO, "cannot make directory %s: %s", path, ey_reason(code, reason)) : EYRIE_OK;
}

void ey_dir_each(const char *path, ey_dir_visit *visit, void *user)
{
    DIR           *d = opendir(path);
    struct dirent *entry;
    struct stat    info;

    if (!d) return;
    while ((entry = readdir(d)) != NULL)
        if (fstatat(dirfd(d), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode))
            visit(user, entry->d_name, (uint64_t)info.st_size,
                  (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec);
    closedir(d);
}

void ey_file_touch(const char *path)
{
    (void)utimensat(AT_FDCWD, path, NULL, 0);
}

uint64_t ey_process_id(void)
{
    return (uint64_t)getpid();
}

uint32_t ey_cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (uint32_t)ey_min((uint64_t)n, EY_MAX_WORKERS);
}

typedef struct crew {
    ey_work    *work;
    void       *user;
    uint32_t    n;
    atomic_uint next;
} crew;

typedef struct worker {
    crew    *of;
    uint32_t number;
} worker;

static void *run_worker(void *arg)
{
    const worker *w = arg;
    for (uint32_t i; (i = atomic_fetch_add(&w->of->next, 1)) < w->of->n; ) w->of->work(w->of->user, w->number, i);
    return NULL;
}

void ey_parallel(uint32_t workers, uint32_t n, ey_work *work, void *user)
{
    pthread_t threads[EY_MAX_WORKERS];
    worker    members[EY_MAX_WORKERS];
    crew      c = { .work = work, .user = user, .n = n };
    uint32_t  started = 1;

    members[0] = (worker){ &c, 0 };
    for (; started < ey_min(ey_min(workers, n), EY_MAX_WORKERS); started++) {
        members[started] = (worker){ &c, started };
        if (pthread_create(&threads[started], NULL, run_worker, &members[started]) != 0) break;
    }
    run_worker(&members[0]);
    while (started-- > 1) pthread_join(threads[started], NULL);
}

bool ey_file_exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0;
}

char *ey_path(const char *directory, const char *name)
{
    size_t bytes = strlen(directory) + 1 + strlen(name) + 1;
    char  *path = ey_calloc(bytes, 1);

    if (path) snprintf(path, bytes, "%s/%s", directory, name);
    return path;
}

/* The number after `key` at the start of a line of a file of the kernel's; UINT64_MAX if there is none ("max"). */
static uint64_t read_field(const char *path, const char *key)
{
    FILE    *f = fopen(path, "r");
    char     line[256];
    uint64_t value = UINT64_MAX;

    if (!f) return value;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) == 0) {
            char *text = line + strlen(key), *end;
            unsigned long long n = strtoull(text, &end, 10);
            if (end != text) value = n;
            break;
        }
    }
    fclose(f);
    return value;
}

/* The same for one file of a control group. */
static uint64_t read_group(const char *group, const char *file, const char *key)
{
    char path[4400];

    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
    return read_field(path, key);
}

/* What the limits of this process's control group and of the groups around it leave; UINT64_MAX without limits.
 * Cached pages of files count as free here as they do in MemAvailable, or mapping a model would use up its own room. */
static uint64_t group_available(void)
{
    FILE    *f = fopen("/proc/self/cgroup", "r");
    char     line[4200], *group = NULL;
    uint64_t available = UINT64_MAX;

    if (!f) return available;
    while (!group && fgets(line, sizeof line, f)) {
        if (strncmp(line, "0::", 3) == 0) group = line + 3;   /* version 2: "0::/path" */
    }
    fclose(f);
    if (!group) return available;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        uint64_t limit = read_group(group, "memory.max", "");
        uint64_t used = read_group(group, "memory.current", "");
        char    *last = strrchr(group, '/');

        if (limit != UINT64_MAX && used != UINT64_MAX) {
            uint64_t inactive = read_group(group, "memory.stat", "inactive_file ");
            uint64_t active = read_group(group, "memory.stat", "active_file ");
            if (inactive != UINT64_MAX) used -= ey_min(inactive, used);
            if (active != UINT64_MAX) used -= ey_min(active, used);
            available = ey_min(available, limit - ey_min(used, limit));
        }
        if (!last) return available;
        *last = '\0';
    }
}

uint64_t ey_memory_available(void)
{
    uint64_t kib = read_field("/proc/meminfo", "MemAvailable:"), bytes = UINT64_MAX;

    if (kib != UINT64_MAX && !ey_mul(kib, 1024, &bytes)) bytes = UINT64_MAX;
    bytes = ey_min(bytes, group_available());
    return bytes == UINT64_MAX ? 0 : bytes;
}

double ey_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#if defined(__x86_64__) && defined(__linux__)

bool ey_tiles_exist(void)
{
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & AMX_BF16 && d & AMX_TILE;
}

/* Tiles are 8 KiB of registers more to keep of every thread: Linux gives them to those that ask. */
bool ey_tiles_allow(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool ey_vnni_exists(void) { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"); }

#else

bool ey_tiles_exist(void) { return false; }
bool ey_tiles_allow(void) { return false; }
bool ey_vnni_exists(void) { return false; }

#endif
