/* trace.c - see trace.h. The format: a JSON array of events, each a line; times in microseconds. */
#include "trace.h"
#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct ey_trace {
    FILE   *file;               /* NULL: writing has failed */
    char   *path;
    ey_log  log;
    double  zero;               /* the time that is 0 in the file */
};

/* After an event. */
static void check(ey_trace *t, bool written)
{
    char reason[128];
    int code = errno;

    if (written) return;
    ey_note(&t->log, "%s: %s; what follows is not traced", t->path, ey_reason(code, reason));
    (void)fclose(t->file);
    t->file = NULL;
}

/* Without the decimal point of a locale. */
static void put_time(FILE *f, const char *key, double seconds)
{
    int64_t ns = seconds > 0 ? (int64_t)(seconds * 1e9) : 0;
    fprintf(f, ",\"%s\":%" PRId64 ".%03d", key, ns / 1000, (int)(ns % 1000));
}

static void put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', f);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, f);
    }
    fputc('"', f);
}

/* Up to its own fields. */
static void open_event(ey_trace *t, char kind, uint32_t track, const char *name)
{
    fprintf(t->file, ",\n{\"ph\":\"%c\",\"pid\":1,\"tid\":%" PRIu32 ",\"name\":", kind, track);
    put_text(t->file, name);
}

static void close_event(ey_trace *t, const char *args)
{
    if (args) fprintf(t->file, ",\"args\":{%s}", args);
    fputc('}', t->file);
    check(t, !ferror(t->file));
}

eyrie_status ey_trace_open(ey_trace **out, const char *path, const char *title, const ey_log *log, eyrie_error *err)
{
    ey_trace *t = ey_calloc(1, sizeof *t);
    char reason[128];

    *out = NULL;
    if (!t || !(t->path = ey_strdup(path))) {
        ey_free(t);
        return ey_fail(err, EYRIE_ENOMEM, "trace %s", path);
    }
    t->log = *log;
    t->zero = ey_seconds();
    if (!(t->file = fopen(path, "wb"))) {
        eyrie_status st = ey_fail(err, EYRIE_EIO, "trace %s: %s", path, ey_reason(errno, reason));
        ey_trace_close(t);
        return st;
    }
    fputs("[\n{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":", t->file);
    put_text(t->file, title);
    fputs("}}", t->file);
    check(t, !ferror(t->file));
    *out = t;
    return EYRIE_OK;
}

void ey_trace_close(ey_trace *t)
{
    if (!t) return;
    if (t->file) {
        fputs("\n]\n", t->file);
        check(t, fflush(t->file) == 0 && !ferror(t->file));
    }
    if (t->file) (void)fclose(t->file);
    ey_free(t->path);
    ey_free(t);
}

void ey_trace_track(ey_trace *t, uint32_t track, const char *name)
{
    if (!t->file) return;
    open_event(t, 'M', track, "thread_name");
    fputs(",\"args\":{\"name\":", t->file);
    put_text(t->file, name);
    fputc('}', t->file);
    close_event(t, NULL);
    if (!t->file) return;
    open_event(t, 'M', track, "thread_sort_index");
    fprintf(t->file, ",\"args\":{\"sort_index\":%" PRIu32 "}", track);
    close_event(t, NULL);
}

void ey_trace_slice(ey_trace *t, uint32_t track, const char *name, double start, double seconds, const char *args)
{
    if (!t->file) return;
    open_event(t, 'X', track, name);
    put_time(t->file, "ts", start - t->zero);
    put_time(t->file, "dur", seconds);
    close_event(t, args);
}

/* An event of a request: of its bar ('b', 'e') or its arrows ('s', 't', 'f'). */
static void request_event(ey_trace *t, char kind, uint64_t request, uint32_t track, double at, const char *args)
{
    char name[40];

    if (!t->file) return;
    snprintf(name, sizeof name, "request %" PRIu64, request);
    open_event(t, kind, track, name);
    fprintf(t->file, ",\"cat\":\"%s\",\"id\":%" PRIu64 "%s", kind == 'b' || kind == 'e' ? "request" : "part of", request,
            kind == 'f' ? ",\"bp\":\"e\"" : "");
    put_time(t->file, "ts", at - t->zero);
    close_event(t, args);
}

void ey_trace_begin(ey_trace *t, uint64_t request, uint32_t track, double at, const char *args)
{
    ey_trace_slice(t, track, "arrives", at, 1e-6, args);
    request_event(t, 'b', request, track, at, args);
    request_event(t, 's', request, track, at, NULL);
}

void ey_trace_step(ey_trace *t, uint64_t request, uint32_t track, double at) { request_event(t, 't', request, track, at, NULL); }

void ey_trace_end(ey_trace *t, uint64_t request, uint32_t track, double at, const char *args)
{
    ey_trace_slice(t, track, "ends", at, 1e-6, args);
    request_event(t, 'e', request, track, at, args);
    request_event(t, 'f', request, track, at, NULL);
}
