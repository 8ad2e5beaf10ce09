/* io.c - see io.h. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_STEP = 1 << 16, MOST_BYTES = 1 << 30 };     /* 1 GiB: more than any text, less than /dev/zero */

/* -------------------------------------------------------------------------------------------- messages and memory */

int cli_fail(const char *format, ...)
{
    va_list args;

    fputs("eyrie: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_FAILED;
}

void *cli_resize(void *p, size_t count, size_t size)
{
    void *grown = count <= SIZE_MAX / size ? realloc(p, count * size) : NULL;

    if (!grown) exit(cli_fail("out of memory"));
    return grown;
}

void cli_grow(void *array, size_t *capacity, size_t count, size_t size)
{
    void *p;

    if (count <= *capacity) return;
    *capacity = count > *capacity * 2 ? count : *capacity * 2;
    memcpy(&p, array, sizeof p);        /* a pointer to any type of element */
    p = cli_resize(p, *capacity, size);
    memcpy(array, &p, sizeof p);
}

/* ---------------------------------------------------------------------------------------------------------- input */

void cli_open_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int cli_read(char **bytes, size_t *length, const char *path)
{
    FILE *f = path ? fopen(path, "rb") : stdin;
    const char *name = path ? path : "standard input";
    size_t capacity = 0;
    int status = CLI_DONE;

    *bytes = NULL;
    *length = 0;
    if (!f) return cli_fail("%s: %s", name, strerror(errno));
    while (status == CLI_DONE && !feof(f)) {
        cli_grow(bytes, &capacity, *length + FILE_STEP, 1);
        *length += fread(*bytes + *length, 1, capacity - *length, f);
        if (ferror(f)) status = cli_fail("%s: %s", name, strerror(errno));
        else if (*length > MOST_BYTES) status = cli_fail("%s: longer than %d bytes", name, MOST_BYTES);
    }
    if (path) fclose(f);
    return status;
}

/* --------------------------------------------------------------------------------------------------------- output */

static int output_error;        /* errno of the first failure on standard output, or 0 */

static void keep_error(bool failed)
{
    if (failed && output_error == 0) output_error = errno;
}

void cli_write(const void *bytes, size_t n)
{
    keep_error(fwrite(bytes, 1, n, stdout) != n);
}

void cli_print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    keep_error(vprintf(format, args) < 0);
    va_end(args);
}

bool cli_flush(void)
{
    keep_error(fflush(stdout) != 0);
    return output_error == 0;
}

int cli_close_output(int status)
{
    keep_error(fclose(stdout) != 0);
    return output_error == 0 ? status : cli_fail("writing to standard output: %s", strerror(output_error));
}

/* ---------------------------------------------------------------------------------------------------------- files */

int cli_file_open(cli_file *f, const char *path)
{
    size_t size = strlen(path) + 32;
    struct stat there;
    int fd;

    *f = (cli_file){ .path = path };
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) {
        f->stream = fopen(path, "wb");
    } else {
        f->temporary = cli_resize(NULL, size, 1);
        snprintf(f->temporary, size, "%s.%ld.tmp", path, (long)getpid());
        fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (fd >= 0) f->stream = fdopen(fd, "wb");
    }
    return f->stream ? CLI_DONE : cli_fail("%s: %s", path, strerror(errno));
}

bool cli_file_write(cli_file *f, const void *bytes, size_t n)
{
    if (fwrite(bytes, 1, n, f->stream) != n && !f->error) f->error = errno;
    return !f->error;
}

int cli_file_close(cli_file *f, bool keep)
{
    if (f->stream && fclose(f->stream) != 0 && !f->error) f->error = errno;
    if (f->stream && f->temporary) {
        if (keep && !f->error && rename(f->temporary, f->path) != 0) f->error = errno;
        if (!keep || f->error) (void)unlink(f->temporary);
    }
    free(f->temporary);
    return f->error ? cli_fail("%s: %s", f->path, strerror(f->error)) : CLI_DONE;
}

int cli_make_directory(const char *path)
{
    struct stat there;

    if (mkdir(path, 0777) != 0 && errno != EEXIST) return cli_fail("%s: %s", path, strerror(errno));
    if (stat(path, &there) != 0) return cli_fail("%s: %s", path, strerror(errno));
    if (!S_ISDIR(there.st_mode)) return cli_fail("%s: %s", path, strerror(ENOTDIR));
    return access(path, W_OK | X_OK) == 0 ? CLI_DONE : cli_fail("%s: %s", path, strerror(errno));
}

/* ----------------------------------------------------------------------------------------------------------- JSON */

json_t *cli_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_text(const char *text, size_t length)
{
    json_t *value = json_stringn(text, length);
    char *ascii;

    if (value) return value;
    ascii = cli_resize(NULL, length + 1, 1);
    for (size_t i = 0; i < length; i++) ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    value = json_stringn(ascii, length);
    free(ascii);
    return value;
}

void cli_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) exit(cli_fail("out of memory"));
}

void cli_append(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0) exit(cli_fail("out of memory"));
}

static int write_json(const char *bytes, size_t n, void *user)
{
    (void)user;
    cli_write(bytes, n);
    return 0;
}

#define DIGITS JSON_REAL_PRECISION(9)      /* tell every f32 from its neighbours */

void cli_print_json(json_t *object)
{
    if (json_dump_callback(object, write_json, NULL, DIGITS) != 0) exit(cli_fail("out of memory"));
    cli_print("\n");
    json_decref(object);
}

char *cli_json_text(json_t *object, size_t *length)
{
    char *text = json_dumps(object, JSON_COMPACT | DIGITS);

    if (!text) exit(cli_fail("out of memory"));
    json_decref(object);
    *length = strlen(text);
    return text;
}
