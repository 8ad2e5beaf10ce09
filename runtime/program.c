/* program.c - assembles the kernel text, builds it or finds it built in the cache, and keeps the kernel objects. */
#include "batch.h"
#include "cache.h"
#include "os.h"
#include "program.h"
#include "quant.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The kernel files, in the order of the text, and the classes of devices they are for. A file with instances appears once
 * for each of them. GPUs get kernels for CPUs where they have none of their own, and what theirs share with them. */
enum { CPU = 1, GPU = 2 };
static const struct { const char *name; int classes; } plain_files[] = {
    { "copy.cl", CPU | GPU }, { "norm.cl", CPU }, { "conv1d.cl", CPU | GPU }, { "rglru.cl", CPU | GPU }, { "scan.cl", CPU | GPU }, { "rope.cl", CPU },
    { "attention.cl", CPU }, { "head.cl", CPU | GPU },
    { "gpu_prelude.cl", GPU }, { "gpu_norm.cl", GPU }, { "gpu_recurrence.cl", GPU }, { "gpu_attention.cl", GPU },
    { "gpu_head.cl", GPU },
};

/* A panel is 16 floats wide. Where that is one register, there are 32 of them: 12 x 2 has the most arithmetic for each
 * load without spilling, 11 x 2 hardly less, and three of it take 32 rows, six 64, with one or two to spare. 1 x 4 reads four
 * streams, which is what memory gives its full pace to ("product" in bench/RESULTS.md). Narrower devices hold less, and
 * compile faster. Panels are even, since some matrices have theirs in pairs; the last tiles have 2, for gates, whose blocks
 * can be as small. */
static const ey_tile wide_tiles[] = { { 1, 4 }, { 2, 4 }, { 4, 4 }, { 8, 2 }, { 11, 2 } };
static const ey_tile narrow_tiles[] = { { 1, 2 }, { 4, 2 } };
/* What 256 work-items do at a time. 64 x 4 with 16 columns takes half of 16 KiB of local memory, and so do the slices of 8 x 1. */
static const ey_tile gpu_prefill_tiles[] = { { 16, 4 }, { 64, 4 } };
static const ey_tile gpu_decode_tiles[] = { { 1, 1 }, { 4, 1 }, { 8, 1 } };

/* Accumulators of attention, at most so many query heads by vectors: 10 x 2 take 20 of 32 registers, which leaves room for two keys while
 * they are converted, 4 x 1 half of 16 that take two for a vector. A device without vectors wants little code: rusticl turns every lane
 * of a load into a branch, and took minutes to compile 4 x 4. */
static const struct { uint32_t vector, heads, vectors; } attention_tiles[] = { { EY_LANES, 10, 2 }, { 4, 4, 1 }, { 0, 1, 1 } };

static const struct { eyrie_format format; const char *macro, *suffix; } formats_known[] = {
    { EYRIE_FORMAT_F32, "F32", "f32" }, { EYRIE_FORMAT_F16, "F16", "f16" }, { EYRIE_FORMAT_BF16, "BF16", "bf16" },
    { EYRIE_FORMAT_Q8, "Q8", "q8" }, { EYRIE_FORMAT_Q4, "Q4", "q4" },
};

enum { MAX_KERNELS = 256 };

static const char build_options[] = "-cl-std=CL1.2";
static const char cache_kind[] = "program";

typedef struct text {
    char  *data;
    size_t length, capacity;
    uint32_t replaced;          /* files taken from --kernel-dir */
    bool   failed;              /* out of memory: what follows is dropped */
} text;

struct ey_program {
    eyrie_device *dev;
    cl_program    program;
    cl_kernel     kernels[MAX_KERNELS];
    char          names[MAX_KERNELS][40];
    uint32_t      n;
    ey_cache     *cache;        /* borrowed; NULL: nothing to keep */
    text          key;          /* what the program is kept under; its text is the end of it */
    size_t        text_at;      /* where in key that begins */
    uint32_t      formats;      /* it is for, and EY_MATRIX_UNIT and its like */
    bool          from_cache;   /* program was made from the binary in the cache */
};

/* ------------------------------------------------------------------------------------------------------------ text */

static void append(text *t, const void *data, size_t length)
{
    if (t->failed || !ey_grow(&t->data, &t->capacity, t->length + length + 1, 1)) {
        t->failed = true;
        return;
    }
    if (length) memcpy(t->data + t->length, data, length);   /* an empty file is at no address */
    t->length += length;
    t->data[t->length] = '\0';
}

EY_PRINTF(2, 3) static void append_line(text *t, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n > 0) append(t, line, ey_min((uint64_t)n, sizeof line - 1));
    append(t, "\n", 1);
}

/* The file of that name: from --kernel-dir if it is there, else built in. #line makes compilers name it. */
static eyrie_status append_file(text *t, const eyrie_device *dev, const char *name, eyrie_error *err)
{
    append_line(t, "#line 1 \"%s\"", name);
    if (dev->kernel_dir) {
        char path[4096];
        ey_map map;
        int n = snprintf(path, sizeof path, "%s/%s", dev->kernel_dir, name);
        if (n > 0 && (size_t)n < sizeof path && ey_file_exists(path)) {
            eyrie_status st = ey_map_open(&map, path, err);
            if (st != EYRIE_OK) return st;
            t->replaced++;
            append(t, map.data, (size_t)map.size);
            append(t, "\n", 1);
            ey_map_close(&map);
            return EYRIE_OK;
        }
    }
    for (size_t i = 0; i < ey_kernel_texts_count; i++)
        if (!strcmp(ey_kernel_texts[i].name, name)) {
            append(t, ey_kernel_texts[i].text, ey_kernel_texts[i].length);
            append(t, "\n", 1);
            return EYRIE_OK;
        }
    return ey_fail(err, EYRIE_EBUILD, "kernel file %s is not built in", name);
}

/* The words of the batch image under their own names, so that their layout is decided in batch.h alone. */
static void append_image_words(text *t)
{
#define X(name) append_line(t, "#define B_%s %d", #name, (int)EY_IMAGE_##name);
    EY_IMAGE_MAP(X)
#undef X
#define X(name) append_line(t, "#define %s %d", #name, (int)EY_IMAGE_##name);
    EY_IMAGE_ROW_MAP(X)
#undef X
    append_line(t, "#define CANDIDATES %d\n#define NORM_ROWS %d", 256, EY_FEW_ROWS);
}

static void append_attention_tile(text *t, const eyrie_device *dev)
{
    size_t i = 0;
    while (dev->vector < attention_tiles[i].vector) i++;
    append_line(t, "#define HEADS %u\n#define VECTORS %u", (unsigned)attention_tiles[i].heads,
                (unsigned)attention_tiles[i].vectors);
}

static eyrie_status append_matmul(text *t, const eyrie_device *dev, const char *format, ey_tile tile, const char *finish,
                                  eyrie_error *err)
{
    append_line(t, "#define ROWS %u\n#define PANELS %u\n#define FINISH_%s 1", (unsigned)tile.rows, (unsigned)tile.panels, finish);
    append_line(t, "#define INSTANCE(name) name##_%s_%ux%u", format, (unsigned)tile.rows, (unsigned)tile.panels);
    eyrie_status st = append_file(t, dev, "matmul.cl", err);
    append_line(t, "#undef ROWS\n#undef PANELS\n#undef FINISH_%s\n#undef INSTANCE", finish);
    return st;
}

/* The products of a tile: all finishes that some phase uses with so many rows. */
static eyrie_status append_products(text *t, const eyrie_device *dev, const char *format, ey_tile tile, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(append_matmul(t, dev, format, tile, "NONE", err));
    EY_TRY(append_matmul(t, dev, format, tile, "GEGLU", err));
    if (tile.rows > EY_FEW_ROWS) goto done;
    EY_TRY(append_matmul(t, dev, format, tile, "CONV1D", err));
    EY_TRY(append_matmul(t, dev, format, (ey_tile){ tile.rows, 2 }, "RGLRU", err));
done:
    return st;
}

static bool in_int8(uint32_t formats, eyrie_format f) { return (formats & EY_INT8) != 0 && ey_quant_of(f)->scaled; }

/* All tiles of a weight format. */
static eyrie_status append_tiles(text *t, const eyrie_device *dev, const char *suffix, bool int8, eyrie_error *err)
{
    size_t n_tiles;
    const ey_tile *tiles = ey_device_tiles(dev, &n_tiles);
    char name[16];
    eyrie_status st = EYRIE_OK;

    snprintf(name, sizeof name, "%s%s", int8 ? "int8_" : "", suffix);
    if (int8) {
        append_line(t, "#define INT8 1\n#define INSTANCE(name) name##_%s", suffix);
        EY_TRY(append_file(t, dev, "int8.cl", err));
        append_line(t, "#undef INSTANCE");
    }
    for (size_t i = 0; i < n_tiles; i++) EY_TRY(append_products(t, dev, name, tiles[i], err));
    if (int8) append_line(t, "#undef INT8");
done:
    return st;
}

static bool unit_takes(eyrie_format f) { return (EY_UNIT_FORMATS >> f & 1) != 0; }

static eyrie_status append_unit_product(text *t, const eyrie_device *dev, const char *name, eyrie_format format, eyrie_error *err)
{
    const char *kind = format == EYRIE_FORMAT_BF16 ? "AS_IT_IS" : "WIDENED";

    append_line(t, "#define INSTANCE(name) name##_%s_amx\n#define %s 1", name, kind);
    eyrie_status st = append_file(t, dev, "matmul_amx.cl", err);
    if (st == EYRIE_OK) st = append_file(t, dev, "recurrence_amx.cl", err);
    append_line(t, "#undef INSTANCE\n#undef %s", kind);
    return st;
}

static eyrie_status append_gpu_matmul(text *t, const eyrie_device *dev, const char *format, bool gemv, ey_tile tile,
                                      const char *finish, eyrie_error *err)
{
    if (gemv) append_line(t, "#define GEMV 1");
    append_line(t, "#define ROWS %u\n#define PANELS %u\n#define FINISH_%s 1", (unsigned)tile.rows, (unsigned)tile.panels, finish);
    append_line(t, "#define INSTANCE(name) name##_%s_%ux%u", format, (unsigned)tile.rows, (unsigned)tile.panels);
    eyrie_status st = append_file(t, dev, "gpu_matmul.cl", err);
    append_line(t, "#undef GEMV\n#undef ROWS\n#undef PANELS\n#undef FINISH_%s\n#undef INSTANCE", finish);
    return st;
}

/* All products of a weight format on GPUs: as ops/matmul.c asks for them. */
static eyrie_status append_gpu_products(text *t, const eyrie_device *dev, const char *format, eyrie_error *err)
{
    const ey_tile *tiles;
    size_t n;
    eyrie_status st;

    tiles = ey_gpu_tiles(false, &n);
    for (size_t i = 0; i < n; i++) {
        EY_TRY(append_gpu_matmul(t, dev, format, false, tiles[i], "NONE", err));
        EY_TRY(append_gpu_matmul(t, dev, format, false, (ey_tile){ tiles[i].rows, 2 }, "NONE", err));
        EY_TRY(append_gpu_matmul(t, dev, format, false, tiles[i], "GEGLU", err));
    }
    tiles = ey_gpu_tiles(true, &n);
    for (size_t i = 0; i < n; i++) {
        EY_TRY(append_gpu_matmul(t, dev, format, true, tiles[i], "NONE", err));
        EY_TRY(append_gpu_matmul(t, dev, format, true, (ey_tile){ tiles[i].rows, 2 }, "GEGLU", err));
    }
done:
    return st;
}

static eyrie_status assemble(text *t, const eyrie_device *dev, uint32_t formats, eyrie_format kv, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    append_image_words(t);
    append_line(t, "#define KV_%s 1", kv == EYRIE_FORMAT_F32 ? "F32" : "F16");
    append_attention_tile(t, dev);
    if (!dev->fma) append_line(t, "#define WITHOUT_FMA 1");
    if (formats & EY_MATRIX_UNIT) append_line(t, "#define MATRIX_UNIT 1");
    EY_TRY(append_file(t, dev, "prelude.cl", err));
    for (size_t i = 0; i < sizeof plain_files / sizeof *plain_files; i++)
        if (plain_files[i].classes & (dev->cpu ? CPU : GPU)) EY_TRY(append_file(t, dev, plain_files[i].name, err));
    if (formats & EY_MATRIX_UNIT) EY_TRY(append_file(t, dev, "amx.cl", err));
    if (formats & EY_CLBLAST) EY_TRY(append_file(t, dev, "clblast.cl", err));
    if (formats & EY_VNNI) EY_TRY(append_file(t, dev, "vnni.cl", err));
    for (size_t f = 0; f < sizeof formats_known / sizeof *formats_known; f++) {
        if (!(formats >> formats_known[f].format & 1u)) continue;
        append_line(t, "#define FORMAT %s", formats_known[f].macro);
        append_line(t, "#define INSTANCE(name) name##_%s", formats_known[f].suffix);
        EY_TRY(append_file(t, dev, dev->cpu ? "embed.cl" : "gpu_embed.cl", err));
        EY_TRY(append_file(t, dev, "fill.cl", err));
        if (formats & EY_CLBLAST) EY_TRY(append_file(t, dev, "unpack.cl", err));
        append_line(t, "#undef INSTANCE");
        if (!dev->cpu) EY_TRY(append_gpu_products(t, dev, formats_known[f].suffix, err));
        else EY_TRY(append_tiles(t, dev, formats_known[f].suffix, in_int8(formats, formats_known[f].format), err));
        if (formats & EY_MATRIX_UNIT && unit_takes(formats_known[f].format))
            EY_TRY(append_unit_product(t, dev, formats_known[f].suffix, formats_known[f].format, err));
        append_line(t, "#undef FORMAT");
    }
    if (t->failed) st = ey_fail(err, EYRIE_ENOMEM, "kernel text");
    else if (dev->kernel_dir && t->replaced == 0)
        st = ey_fail(err, EYRIE_EBUILD, "--kernel-dir %s holds none of the kernel files (prelude.cl, matmul.cl, ...): nothing "
                     "would be replaced", dev->kernel_dir);
done:
    return st;
}

const ey_tile *ey_device_tiles(const eyrie_device *dev, size_t *n)
{
    bool wide = dev->vector >= EY_LANES;
    *n = wide ? sizeof wide_tiles / sizeof *wide_tiles : sizeof narrow_tiles / sizeof *narrow_tiles;
    return wide ? wide_tiles : narrow_tiles;
}

const ey_tile *ey_gpu_tiles(bool decode, size_t *n)
{
    *n = decode ? sizeof gpu_decode_tiles / sizeof *gpu_decode_tiles : sizeof gpu_prefill_tiles / sizeof *gpu_prefill_tiles;
    return decode ? gpu_decode_tiles : gpu_prefill_tiles;
}

/* -------------------------------------------------------------------------------------------------------- building */

/* The first line of the compiler's log that speaks of an error, else its first line. */
static void first_error(const char *log, char *line, size_t size)
{
    const char *at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n') at--;
    if (!at) at = log + strspn(log, "\n ");
    snprintf(line, size, "%.*s", (int)ey_min(strcspn(at, "\n"), size - 1), at);
}

void ey_program_error(cl_program program, cl_device_id device, char *line, size_t size)
{
    size_t length = 0;
    cl_int code;
    char *log;

    snprintf(line, size, "the compiler left no log");
    EY_CL(code, clGetProgramBuildInfo, program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &length);
    if (code == CL_SUCCESS && length > 1 && (log = ey_calloc(length + 1, 1))) {
        EY_CL(code, clGetProgramBuildInfo, program, device, CL_PROGRAM_BUILD_LOG, length, log, NULL);
        if (code == CL_SUCCESS) first_error(log, line, size);
        ey_free(log);
    }
}

static eyrie_status build_failure(ey_program *p, cl_int code, eyrie_error *err)
{
    char line[512];

    ey_program_error(p->program, p->dev->id, line, sizeof line);
    ey_fail_cl(err, code, "kernels failed to build on %s: %s; %s%s", p->dev->name, line,
               p->dev->kernel_dir ? "mend or leave out --kernel-dir " : "please report the device",
               p->dev->kernel_dir ? p->dev->kernel_dir : "");
    if (err) err->status = EYRIE_EBUILD;
    return EYRIE_EBUILD;
}

static eyrie_status build_from_text(ey_program *p, eyrie_error *err)
{
    const char *strings[1] = { p->key.data + p->text_at };
    size_t lengths[1] = { p->key.length - p->text_at };
    cl_int code;

    EY_CL_NEW(code, p->program, clCreateProgramWithSource, p->dev->context, 1, strings, lengths);
    if (!p->program) return ey_fail_cl(err, code, "%s: creating the program", p->dev->name);
    EY_CL(code, clBuildProgram, p->program, 1, &p->dev->id, build_options, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : build_failure(p, code, err);
}

/* ----------------------------------------------------------------------------------------------------------- cache */

/* All that decides what a build gives, a line each, for the text to follow. */
static cl_int append_key(text *t, const eyrie_device *dev)
{
    static const cl_platform_info of_platform[] = { CL_PLATFORM_NAME, CL_PLATFORM_VERSION };
    static const cl_device_info of_device[] = { CL_DEVICE_NAME, CL_DEVICE_VENDOR, CL_DEVICE_VERSION, CL_DRIVER_VERSION };
    char value[1024];
    cl_int code;

    append_line(t, "kernels of Eyrie, format 1");
    append_line(t, "%s", build_options);
    for (size_t i = 0; i < sizeof of_platform / sizeof *of_platform; i++) {
        if (EY_CL(code, clGetPlatformInfo, dev->platform, of_platform[i], sizeof value, value, NULL) != CL_SUCCESS) return code;
        append(t, value, strlen(value));
        append(t, "\n", 1);
    }
    for (size_t i = 0; i < sizeof of_device / sizeof *of_device; i++) {
        if (EY_CL(code, clGetDeviceInfo, dev->id, of_device[i], sizeof value, value, NULL) != CL_SUCCESS) return code;
        append(t, value, strlen(value));
        append(t, "\n", 1);
    }
    return CL_SUCCESS;
}

static void note(const ey_program *p, cl_int code, const char *what, const char *consequence)
{
    eyrie_error e;

    ey_fail_cl(&e, code, "%s", what);
    ey_note(&p->dev->log, "cache: %s; %s", e.text, consequence);
}

/* The text is built then, and kept instead. */
static void drop_binary(ey_program *p, cl_int code)
{
    note(p, code, "the kernels kept for this device do not load", "building them from their text");
    EY_CL_FREE(clReleaseProgram, p->program);
    p->from_cache = false;
}

/* The program from the binary in the cache; false: there is none, or none that loads. Mesa aborts on a binary that is not
 * its own, PoCL on one that is damaged: only the bytes that this very driver wrote may come here, and the cache sees to
 * that. */
static bool build_from_cache(ey_program *p)
{
    const unsigned char *binaries[1];
    cl_int code, status = CL_SUCCESS;
    void *data;
    size_t size;

    if (!(data = ey_cache_get(p->cache, cache_kind, p->key.data, p->key.length, &size))) return false;
    binaries[0] = data;
    EY_CL_NEW(code, p->program, clCreateProgramWithBinary, p->dev->context, 1, &p->dev->id, &size, binaries, &status);
    if (code == CL_SUCCESS) code = status;
    if (code == CL_SUCCESS) EY_CL(code, clBuildProgram, p->program, 1, &p->dev->id, build_options, NULL, NULL);
    ey_free(data);
    p->from_cache = true;
    if (code != CL_SUCCESS) drop_binary(p, code);
    return p->from_cache;
}

eyrie_status ey_program_build(ey_program **out, eyrie_device *dev, uint32_t formats, eyrie_format kv, eyrie_error *err)
{
    ey_program *p;
    cl_int code;
    eyrie_status st;

    *out = NULL;
    if (!(p = ey_calloc(1, sizeof *p))) return ey_fail(err, EYRIE_ENOMEM, "program");
    p->dev = dev;
    p->formats = formats;
    p->cache = dev->keeps_kernels ? NULL : dev->cache;
    if (p->cache && (code = append_key(&p->key, dev)) != CL_SUCCESS) {
        note(p, code, "the driver does not say what it is", "its kernels are not kept");
        p->cache = NULL;
    }
    p->text_at = p->key.length;
    EY_TRY(assemble(&p->key, dev, formats, kv, err));
    if (!build_from_cache(p)) EY_TRY(build_from_text(p, err));
    *out = p;
    p = NULL;
done:
    ey_program_free(p);
    return st;
}

bool ey_program_has_unit(const ey_program *p, eyrie_format weights)
{
    return (p->formats & EY_MATRIX_UNIT) != 0 && unit_takes(weights);
}

bool ey_program_has_unit_decode(const ey_program *p) { return (p->formats & EY_UNIT_DECODE) != 0; }

bool ey_program_has_clblast(const ey_program *p) { return (p->formats & EY_CLBLAST) != 0; }
bool ey_program_has_int8(const ey_program *p, eyrie_format weights) { return p->dev->cpu && in_int8(p->formats, weights); }

void ey_program_store(ey_program *p)
{
    unsigned char *data = NULL;
    size_t size = 0;
    cl_int code = CL_SUCCESS;

    if (p->cache && !p->from_cache) {
        EY_CL(code, clGetProgramInfo, p->program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL);
        if (code == CL_SUCCESS && size && !(data = ey_calloc(size, 1))) code = CL_OUT_OF_HOST_MEMORY;
        if (data) EY_CL(code, clGetProgramInfo, p->program, CL_PROGRAM_BINARIES, sizeof data, &data, NULL);
        if (code != CL_SUCCESS) note(p, code, "the built kernels cannot be read", "they are not kept");
        else if (data) ey_cache_put(p->cache, cache_kind, p->key.data, p->key.length, data, size);
        ey_free(data);
    }
    p->cache = NULL;
}

void ey_program_free(ey_program *p)
{
    if (!p) return;
    for (uint32_t i = 0; i < p->n; i++) EY_CL_FREE(clReleaseKernel, p->kernels[i]);
    EY_CL_FREE(clReleaseProgram, p->program);
    ey_free(p->key.data);
    ey_free(p);
}

eyrie_status ey_program_kernel(ey_program *p, const char *name, cl_kernel *out, eyrie_error *err)
{
    eyrie_status st;
    cl_int code;

    for (uint32_t i = 0; i < p->n; i++)
        if (!strcmp(p->names[i], name)) {
            *out = p->kernels[i];
            return EYRIE_OK;
        }
    *out = NULL;
    if (p->n == MAX_KERNELS) return ey_fail(err, EYRIE_ELIMIT, "kernel %s: more than %d kernels", name, MAX_KERNELS);
    EY_CL_NEW(code, p->kernels[p->n], clCreateKernel, p->program, name);
    if (!p->kernels[p->n] && p->from_cache) {     /* the kernels made before keep the program they are of */
        drop_binary(p, code);
        if ((st = build_from_text(p, err)) != EYRIE_OK) return st;
        EY_CL_NEW(code, p->kernels[p->n], clCreateKernel, p->program, name);
    }
    if (!p->kernels[p->n]) {
        ey_fail_cl(err, code, "kernel %s: not in the program%s%s", name, p->dev->kernel_dir ? ", see --kernel-dir " : "",
                   p->dev->kernel_dir ? p->dev->kernel_dir : "");
        if (err) err->status = EYRIE_EBUILD;
        return EYRIE_EBUILD;
    }
    snprintf(p->names[p->n], sizeof p->names[0], "%s", name);
    *out = p->kernels[p->n++];
    return EYRIE_OK;
}
