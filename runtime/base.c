/* base.c - statuses and their messages, checked arithmetic, hookable allocation, notes. No calls to the operating
 * system that C11 does not have (os_posix.c), no OpenCL: its error codes are known here by number only. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef EYRIE_VERSION
#define EYRIE_VERSION "0.0.0"   /* the build passes the true one */
#endif

const char *eyrie_version(void)
{
    return EYRIE_VERSION;
}

const char *eyrie_status_text(eyrie_status status)
{
    switch (status) {
#define X(name, value, text) case EYRIE_##name: return text;
    EYRIE_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

/* ------------------------------------------------------------------------------------------------------- messages */

/* Bytes of the well-formed UTF-8 character at p, which ends in a zero byte somewhere; 0 if there is none. */
static size_t utf8_length(const unsigned char *p)
{
    size_t        n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;    /* no overlong forms */
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;   /* no surrogates, at most U+10FFFF */

    if (n > 1 && (p[1] < low || p[1] > high)) return 0;
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) return 0;
    }
    return n;
}

/* Names in messages come from strangers' files and may hold anything. This makes the text one line of UTF-8: control
 * characters become spaces; bytes that are no character, as where the text was cut, become question marks. */
static void tidy(char *text)
{
    unsigned char *p = (unsigned char *)text;

    while (*p) {
        size_t n = utf8_length(p);
        if (n == 0) *p = '?';
        else if (*p < 0x20 || *p == 0x7f) *p = ' ';
        p += n ? n : 1;
    }
}

EY_PRINTF(3, 0) static void print(char *text, size_t size, const char *format, va_list args)
{
    text[0] = '\0';
    (void)vsnprintf(text, size, format, args);   /* cut off at size */
    tidy(text);
}

eyrie_status ey_fail(eyrie_error *err, eyrie_status status, const char *format, ...)
{
    if (err) {
        char    text[sizeof err->text];   /* the arguments may point into err */
        va_list args;

        va_start(args, format);
        print(text, sizeof text, format, args);
        va_end(args);
        err->status = status;
        err->cl_code = 0;
        memcpy(err->text, text, sizeof text);
    }
    return status;
}

static const struct {
    int32_t     code;
    const char *name;
} cl_names[] = {
    {    -1, "CL_DEVICE_NOT_FOUND" },
    {    -2, "CL_DEVICE_NOT_AVAILABLE" },
    {    -3, "CL_COMPILER_NOT_AVAILABLE" },
    {    -4, "CL_MEM_OBJECT_ALLOCATION_FAILURE" },
    {    -5, "CL_OUT_OF_RESOURCES" },
    {    -6, "CL_OUT_OF_HOST_MEMORY" },
    {    -7, "CL_PROFILING_INFO_NOT_AVAILABLE" },
    {    -8, "CL_MEM_COPY_OVERLAP" },
    {   -11, "CL_BUILD_PROGRAM_FAILURE" },
    {   -12, "CL_MAP_FAILURE" },
    {   -13, "CL_MISALIGNED_SUB_BUFFER_OFFSET" },
    {   -14, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST" },
    {   -15, "CL_COMPILE_PROGRAM_FAILURE" },
    {   -16, "CL_LINKER_NOT_AVAILABLE" },
    {   -17, "CL_LINK_PROGRAM_FAILURE" },
    {   -18, "CL_DEVICE_PARTITION_FAILED" },
    {   -19, "CL_KERNEL_ARG_INFO_NOT_AVAILABLE" },
    {   -30, "CL_INVALID_VALUE" },
    {   -31, "CL_INVALID_DEVICE_TYPE" },
    {   -32, "CL_INVALID_PLATFORM" },
    {   -33, "CL_INVALID_DEVICE" },
    {   -34, "CL_INVALID_CONTEXT" },
    {   -35, "CL_INVALID_QUEUE_PROPERTIES" },
    {   -36, "CL_INVALID_COMMAND_QUEUE" },
    {   -37, "CL_INVALID_HOST_PTR" },
    {   -38, "CL_INVALID_MEM_OBJECT" },
    {   -42, "CL_INVALID_BINARY" },
    {   -43, "CL_INVALID_BUILD_OPTIONS" },
    {   -44, "CL_INVALID_PROGRAM" },
    {   -45, "CL_INVALID_PROGRAM_EXECUTABLE" },
    {   -46, "CL_INVALID_KERNEL_NAME" },
    {   -47, "CL_INVALID_KERNEL_DEFINITION" },
    {   -48, "CL_INVALID_KERNEL" },
    {   -49, "CL_INVALID_ARG_INDEX" },
    {   -50, "CL_INVALID_ARG_VALUE" },
    {   -51, "CL_INVALID_ARG_SIZE" },
    {   -52, "CL_INVALID_KERNEL_ARGS" },
    {   -53, "CL_INVALID_WORK_DIMENSION" },
    {   -54, "CL_INVALID_WORK_GROUP_SIZE" },
    {   -55, "CL_INVALID_WORK_ITEM_SIZE" },
    {   -56, "CL_INVALID_GLOBAL_OFFSET" },
    {   -57, "CL_INVALID_EVENT_WAIT_LIST" },
    {   -58, "CL_INVALID_EVENT" },
    {   -59, "CL_INVALID_OPERATION" },
    {   -61, "CL_INVALID_BUFFER_SIZE" },
    {   -63, "CL_INVALID_GLOBAL_WORK_SIZE" },
    {   -64, "CL_INVALID_PROPERTY" },
    {   -66, "CL_INVALID_COMPILER_OPTIONS" },
    {   -67, "CL_INVALID_LINKER_OPTIONS" },
    {   -68, "CL_INVALID_DEVICE_PARTITION_COUNT" },
    { -1001, "CL_PLATFORM_NOT_FOUND_KHR" },
};

eyrie_status ey_fail_cl(eyrie_error *err, int32_t code, const char *format, ...)
{
    const char *name = "unknown OpenCL error";
    char        what[900];   /* leaves room for the name and the number in an error's text */
    va_list     args;

    for (size_t i = 0; i < sizeof cl_names / sizeof cl_names[0]; i++) {
        if (cl_names[i].code == code) name = cl_names[i].name;
    }
    va_start(args, format);
    print(what, sizeof what, format, args);
    va_end(args);
    ey_fail(err, EYRIE_EDEVICE, "%s: %s (%d)", what, name, (int)code);
    if (err) err->cl_code = code;
    return EYRIE_EDEVICE;
}

void ey_note(const ey_log *log, const char *format, ...)
{
    char    line[1024];
    va_list args;

    if (!log || !log->fn) return;
    va_start(args, format);
    print(line, sizeof line, format, args);
    va_end(args);
    log->fn(log->user, line);
}

void ey_tell(const ey_progress *p, const char *what, double done)
{
    if (p->fn) p->fn(p->user, what, done);
}

char *ey_bytes_text(uint64_t bytes, char buf[24])
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double amount = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(buf, 24, "%u byte%s", (unsigned)bytes, bytes == 1 ? "" : "s");
        return buf;
    }
    for (; amount >= 1023.5; amount /= 1024) unit++;   /* what would print as 1024 is 1.0 of the next; 2^64 is 16 EiB */
    snprintf(buf, 24, amount < 9.95 ? "%.1f %s" : "%.0f %s", amount, units[unit]);
    return buf;
}

/* ---------------------------------------------------------------------------------------------- sizes and memory */

bool ey_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b) return false;
    *out = a * b;
    return true;
}

bool ey_add(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b) return false;
    *out = a + b;
    return true;
}

bool (*ey_alloc_hook)(size_t bytes);

bool ey_may_allocate(size_t bytes)
{
    return !ey_alloc_hook || ey_alloc_hook(bytes);
}

void *ey_calloc(size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) return NULL;
    if (!ey_may_allocate(count * size)) return NULL;
    return count * size == 0 ? calloc(1, 1) : calloc(count, size);   /* NULL means no memory and nothing else */
}

void *ey_realloc(void *p, size_t bytes)
{
    return ey_may_allocate(bytes) ? realloc(p, bytes ? bytes : 1) : NULL;
}

void ey_free(void *p)
{
    free(p);
}

char *ey_strdup(const char *s)
{
    size_t bytes = strlen(s) + 1;
    char  *copy = ey_calloc(bytes, 1);

    if (copy) memcpy(copy, s, bytes);
    return copy;
}

bool ey_grow(void *array, size_t *capacity, size_t count, size_t size)
{
    void  *p;
    size_t want = *capacity < SIZE_MAX / 2 ? *capacity * 2 : SIZE_MAX;

    if (count <= *capacity) return true;
    if (want < count) want = count;
    if (size != 0 && want > SIZE_MAX / size) return false;
    memcpy(&p, array, sizeof p);   /* *array may be a pointer to anything */
    p = ey_realloc(p, want * size);
    if (!p) return false;
    memcpy(array, &p, sizeof p);
    *capacity = want;
    return true;
}
