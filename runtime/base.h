/* base.h - what every module stands on: statuses with their messages, checked size arithmetic, allocation that a test
 * can make fail, notes to the caller's log, and the two rounding helpers of the layouts. Includes nothing of ours but
 * the public header. Operating system calls are in os.h. */
#ifndef EY_BASE_H
#define EY_BASE_H

#include <eyrie/eyrie.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EY_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define EY_PRINTF(fmt, args)
#endif

#define EY_LANES 16u    /* rows in a weight panel, and the multiple every feature dimension is padded to */
#define EY_BLOCK 64u    /* tokens in a block of the attention ring and of the scan; blocks start at absolute positions */

/* Fills in err (may be NULL) with one line and returns status, so that failing is one statement. */
eyrie_status ey_fail(eyrie_error *err, eyrie_status status, const char *format, ...) EY_PRINTF(3, 4);

/* The same for an OpenCL call: "what: name of the code (number)". */
eyrie_status ey_fail_cl(eyrie_error *err, int32_t code, const char *format, ...) EY_PRINTF(3, 4);

/* Leaves with the failure of `call`, after whatever the caller's `done:` frees. Needs `st` in scope. */
#define EY_TRY(call)                               \
    do {                                           \
        if ((st = (call)) != EYRIE_OK) goto done;  \
    } while (0)

/* Sums and products of sizes that come from files. False: it does not fit, *out is untouched. */
bool ey_mul(uint64_t a, uint64_t b, uint64_t *out);
bool ey_add(uint64_t a, uint64_t b, uint64_t *out);

static inline uint64_t ey_round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
static inline uint32_t ey_pad(uint32_t n) { return (n + EY_LANES - 1) / EY_LANES * EY_LANES; }
static inline uint64_t ey_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t ey_max(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Zeroed memory for count * size bytes, NULL if there is none (or the product overflows). Freed by ey_free, which
 * takes NULL. ey_grow makes *array hold at least `count` elements of `size` bytes (doubling; *capacity in elements);
 * false: no memory, the array is as it was. */
void *ey_calloc(size_t count, size_t size);
void *ey_realloc(void *p, size_t bytes);
void  ey_free(void *p);
char *ey_strdup(const char *s);
bool  ey_grow(void *array, size_t *capacity, size_t count, size_t size);

/* Asked before every allocation when set; false makes it fail. For tests. */
extern bool (*ey_alloc_hook)(size_t bytes);
bool ey_may_allocate(size_t bytes);         /* its answer */

/* The caller's log. */
typedef struct ey_log {
    eyrie_log_fn *fn;
    void         *user;
} ey_log;
void ey_note(const ey_log *log, const char *format, ...) EY_PRINTF(2, 3);

/* Who wants to know how far opening a model is; fn may be NULL. */
typedef struct ey_progress {
    eyrie_progress_fn *fn;
    void              *user;
} ey_progress;
void ey_tell(const ey_progress *p, const char *what, double done);

/* "1.5 GiB", "17 MiB", "512 bytes" into buf; returns buf. */
char *ey_bytes_text(uint64_t bytes, char buf[24]);

#ifdef __cplusplus
}
#endif
#endif
