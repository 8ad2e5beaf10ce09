/* record.c - see record.h. */
#include "record.h"
#include "statistics.h"

#include <eyrie/eyrie.h>

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef EYRIE_COMMIT
#define EYRIE_COMMIT "unknown"
#endif

static const char schema[] = "eyrie-bench";

/* ---------------------------------------------------------------------------------------------------------- parts */

double cli_get_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *cli_get_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

bool cli_is_test(const json_t *row, const char *test) { return strcmp(cli_get_text(row, "test"), test) == 0; }

size_t cli_get_rates(const json_t *row, const char *key, double **values)
{
    const json_t *array = json_object_get(row, key);
    size_t n = json_array_size(array), used = 0;

    *values = cli_resize(NULL, n ? n : 1, sizeof **values);
    for (size_t i = 0; i < n; i++) {
        double value = json_number_value(json_array_get(array, i));
        if (value > 0) (*values)[used++] = value;
    }
    return used;
}

bool cli_any_number(const json_t *rows, const char *key)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
        if (!isnan(cli_get_number(row, key))) return true;
    return false;
}

double cli_shown(const json_t *row, const char **unit)
{
    static const struct { const char *unit, *shown; double scale; } units[] = {
        { "B/s", "GB/s", 1e-9 }, { "FLOP/s", "GFLOP/s", 1e-9 }, { "OP/s", "GOP/s", 1e-9 } };
    double median = cli_get_number(row, "median");

    *unit = cli_get_text(row, "unit");
    if (strcmp(*unit, "launches/s") == 0) {
        *unit = "us each";
        return 1e6 / median;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(*unit, units[i].unit) == 0) {
            *unit = units[i].shown;
            return units[i].scale * median;
        }
    return median;
}

const char *cli_size(double bytes, char text[24])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    int unit = 0;

    while (bytes >= 1024 && unit < 4) bytes /= 1024, unit++;
    snprintf(text, 24, "%.3g %s", bytes, units[unit]);
    return text;
}

const char *cli_digits(double value, char text[24])
{
    double size = fabs(value);

    if (isnan(value)) snprintf(text, 24, "-");
    else snprintf(text, 24, "%.*f", size >= 100 || size <= 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 5, value);
    return text;
}

const char *cli_setting(const json_t *row, char text[512])
{
    snprintf(text, 512, "%.300s, weights %s, keys and values %s, compute %s, chunk %.0f%s%s", cli_get_text(row, "model"), cli_get_text(row, "weights"),
             cli_get_text(row, "kv"), cli_get_text(row, "compute"), cli_get_number(row, "chunk"),
             strcmp(cli_get_text(row, "invariant"), "off") == 0 ? ", not invariant" : "",
             strcmp(cli_get_text(row, "products"), "clblast") == 0 ? ", products by CLBlast" : "");
    return text;
}

/* --------------------------------------------------------------------------------------------------------- making */

/* The value of "NAME : VALUE" in a file of such lines. */
static json_t *value_in(const char *path, const char *name)
{
    char line[512];
    json_t *found = NULL;
    FILE *f = fopen(path, "r");

    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)) != 0) continue;
        colon += 1 + strspn(colon + 1, " \t");
        found = cli_text(colon, strcspn(colon, "\n"));
    }
    if (f) fclose(f);
    return found ? found : json_null();
}

static json_t *describe_machine(void)
{
    json_t *machine = json_object();
    struct utsname system;
    char text[512];
    double load;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/loadavg", "r");

    cli_set(machine, "cpu", value_in("/proc/cpuinfo", "model name"));
    cli_set(machine, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    cli_set(machine, "memory_bytes", pages > 0 && page > 0 ? json_integer((json_int_t)pages * page) : json_null());
    if (uname(&system) == 0) {
        int n = snprintf(text, sizeof text, "%s %s %s", system.sysname, system.release, system.machine);
        cli_set(machine, "system", cli_text(text, n > 0 ? strlen(text) : 0));
    }
    cli_set(machine, "load", f && fscanf(f, "%lf", &load) == 1 ? cli_number(load) : json_null());
    if (f) fclose(f);
    return machine;
}

json_t *cli_record_new(void)
{
    json_t *record = json_object();
    time_t now = time(NULL);
    struct tm utc;
    char text[32] = "";

    if (gmtime_r(&now, &utc)) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    cli_set(record, "schema", json_string(schema));
    cli_set(record, "schema_version", json_integer(CLI_RECORD_VERSION));
    cli_set(record, "version", json_string(eyrie_version()));
    cli_set(record, "commit", json_string(EYRIE_COMMIT));
    cli_set(record, "time", json_string(text));
    cli_set(record, "interrupted", json_false());
    cli_set(record, "machine", describe_machine());
    cli_set(record, "rows", json_array());
    return record;
}

json_t *cli_record_add_row(json_t *rows, const char *test)
{
    json_t *row = json_object();

    cli_set(row, "test", json_string(test));
    cli_append(rows, row);
    return row;
}

void cli_record_set_rates(json_t *row, const char *unit, const double *rates, size_t n)
{
    cli_summary s = cli_summarise(rates, n);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) cli_append(list, cli_number(rates[i]));
    cli_set(row, "unit", json_string(unit));
    cli_set(row, "rates", list);
    cli_set(row, "median", cli_number(s.median));
    cli_set(row, "mean", cli_number(s.mean));
    cli_set(row, "deviation", cli_number(s.deviation));
}

/* --------------------------------------------------------------------------------------------------------- reading */

static bool are_rows(const json_t *rows)
{
    bool right = json_is_array(rows);

    for (size_t i = 0; right && i < json_array_size(rows); i++) right = json_is_object(json_array_get(rows, i));
    return right;
}

/* What rows of models had before they said so. */
static void complete(json_t *rows)
{
    static const char *const usual[][2] = { { "invariant", "on" }, { "products", "own" } };
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
        for (size_t k = 0; k < sizeof usual / sizeof *usual && json_object_get(row, "model"); k++)
            if (!json_object_get(row, usual[k][0])) cli_set(row, usual[k][0], json_string(usual[k][1]));
}

int cli_record_read(json_t **out, const char *path)
{
    json_error_t error;
    char *bytes;
    size_t length;
    json_int_t version;
    int status = cli_read(&bytes, &length, path);

    *out = NULL;
    if (status == CLI_DONE && !(*out = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error)))
        status = cli_fail("%s:%d: not JSON: %s", path, error.line, error.text);
    free(bytes);
    if (status != CLI_DONE) return status;
    version = json_integer_value(json_object_get(*out, "schema_version"));
    if (strcmp(cli_get_text(*out, "schema"), schema) != 0 || version < 1)
        status = cli_fail("%s: not a record of eyrie bench: it has no \"schema\": \"%s\"", path, schema);
    else if (version > CLI_RECORD_VERSION)
        status = cli_fail("%s: a record of version %" JSON_INTEGER_FORMAT ", made by Eyrie %s; this one reads versions up to %d: a later one "
                          "reads it", path, version, cli_get_text(*out, "version"), CLI_RECORD_VERSION);
    else if (!are_rows(json_object_get(*out, "rows")))
        status = cli_fail("%s: a record without \"rows\", which are objects in an array", path);
    if (status == CLI_DONE) {
        complete(json_object_get(*out, "rows"));
        return CLI_DONE;
    }
    json_decref(*out);
    *out = NULL;
    return status;
}

/* --------------------------------------------------------------------------------------------------------- printing */

static void write_output(void *user, const char *bytes, size_t n)
{
    (void)user;
    cli_write(bytes, n);
}

const cli_out cli_standard_output = { write_output, NULL };

void cli_out_print(const cli_out *out, const char *format, ...)
{
    char text[4096];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0) out->sink(out->user, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static int dump(const char *bytes, size_t n, void *user)
{
    const cli_out *out = user;

    out->sink(out->user, bytes, n);
    return 0;
}

static void print_json(const json_t *value, const cli_out *out, size_t flags)
{
    cli_out copy = *out;

    if (json_dump_callback(value, dump, &copy, JSON_REAL_PRECISION(9) | flags) != 0) exit(cli_fail("out of memory"));
    cli_out_print(out, "\n");
}

/* What a row says of the whole record, so that it can stand alone. */
static json_t *whole_row(const json_t *record, const json_t *row)
{
    static const char *const keys[] = { "schema", "schema_version", "version", "commit", "time" };
    const json_t *device = json_object_get(record, "device");
    json_t *whole = json_object();

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(record, keys[i]);
        if (value) cli_set(whole, keys[i], json_incref(value));
    }
    cli_set(whole, "device", json_string(cli_get_text(device, "name")));
    cli_set(whole, "driver", json_string(cli_get_text(device, "driver")));
    if (json_object_update(whole, (json_t *)(uintptr_t)row) != 0) exit(cli_fail("out of memory"));
    return whole;
}

static const char *const columns[] = {
    "time", "version", "commit", "device", "driver", "test", "model", "weights", "kv", "compute", "chunk", "invariant", "products", "tokens", "depth",
    "batch", "set_bytes", "unit", "median", "mean", "deviation", "bytes_per_second", "flops_per_second", "limit", "share", "predicted",
    "formula",
    "joules_per_token", "how",
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* A field is quoted where it has to be; what is null or not there is empty. */
static void print_field(const cli_out *out, const json_t *value)
{
    const char *text = json_string_value(value);

    if (json_is_integer(value)) cli_out_print(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value)) cli_out_print(out, "%.9g", json_real_value(value));
    else if (text && !strpbrk(text, ",\"\r\n")) cli_out_print(out, "%s", text);
    else if (text) {
        cli_out_print(out, "\"");
        for (; *text; text++) cli_out_print(out, *text == '"' ? "\"\"" : "%c", *text);
        cli_out_print(out, "\"");
    }
}

static void print_csv(const json_t *record, const cli_out *out)
{
    const json_t *row;
    size_t i;

    for (size_t c = 0; c < COLUMNS; c++) cli_out_print(out, "%s%s", c ? "," : "", columns[c]);
    cli_out_print(out, "\r\n");
    json_array_foreach(json_object_get(record, "rows"), i, row) {
        json_t *whole = whole_row(record, row);
        for (size_t c = 0; c < COLUMNS; c++) {
            if (c) cli_out_print(out, ",");
            print_field(out, json_object_get(whole, columns[c]));
        }
        cli_out_print(out, "\r\n");
        json_decref(whole);
    }
}

static void print_lines(const json_t *record, const cli_out *out)
{
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(record, "rows"), i, row) {
        json_t *whole = whole_row(record, row);
        print_json(whole, out, JSON_COMPACT);
        json_decref(whole);
    }
}

void cli_record_print(const json_t *record, const char *form, const cli_out *out)
{
    if (strcmp(form, "jsonl") == 0) print_lines(record, out);
    else if (strcmp(form, "csv") == 0) print_csv(record, out);
    else print_json(record, out, JSON_INDENT(1));
}
