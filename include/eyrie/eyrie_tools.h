/* eyrie_tools.h - tools beside the API of eyrie.h: which devices there are, what a device can do (probed by compiling
 * and running, never believed), how fast it reads and multiplies, which kernels it gets, and whether they compute what
 * they should. For commands and installers, not for running models.
 *
 * Unstable: structures here have no struct_size and may change with every version, so build against the header of the
 * library that you link. The rules of eyrie.h hold otherwise.
 *
 *     eyrie_device_info list[16]; size_t n;
 *     eyrie_device_list(list, 16, &n, &err);
 *     eyrie_device_open(&dev, NULL, &err);
 *     for (size_t i = 0; eyrie_probe_at(i); i++)
 *         if (!eyrie_probe_at(i)->dangerous) eyrie_probe_run(dev, eyrie_probe_at(i)->name, &verdict, &err);
 *     eyrie_selftest(dev, print_check, NULL, &failures, &err);
 */
#ifndef EYRIE_TOOLS_H
#define EYRIE_TOOLS_H

#include <eyrie/eyrie.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------------------- devices */

typedef struct eyrie_device_info {
    char        name[256], driver[256], version[256];   /* version: of OpenCL */
    const char *type;              /* "GPU", "CPU", "accelerator" or "other" */
    uint32_t    units;             /* compute units */
    uint32_t    vector;            /* floats in a register */
    uint64_t    memory;            /* bytes; the host's, where it is shared */
    uint64_t    max_alloc;         /* bytes of the largest single allocation */
    bool        host_memory;       /* shares the host's memory */
    bool        is_default;        /* the one that eyrie_device_open takes where nothing is selected */
} eyrie_device_info;

/* All devices; the place in the list is the number that eyrie_device_opts.select takes. Writes at most `capacity` of them
 * and always sets *n to how many there are. Opens none. ENODEV: there is none. */
EYRIE_API eyrie_status eyrie_device_list(eyrie_device_info *list, size_t capacity, size_t *n, eyrie_error *err);

/* The open device's place in that list. */
EYRIE_API uint32_t eyrie_device_number(const eyrie_device *dev);

/* --------------------------------------------------------------------------------------------------- capabilities */

/* A probe compiles and runs something tiny in a context of its own and compares the result. */
typedef struct eyrie_probe {
    const char *name;              /* "half-arithmetic" */
    const char *what;              /* what the answer says */
    const char *use;               /* which path would use it, and whether one does */
    bool        dangerous;         /* drivers are known to crash over it: run it in a process that may die */
    bool        decides;           /* kernels are chosen by its verdict */
} eyrie_probe;

typedef enum eyrie_answer {
    EYRIE_NOT_PROBED = 0,
    EYRIE_YES = 1,
    EYRIE_NO = 2,
    EYRIE_CRASHES = 3              /* said by whoever saw the process die, never by the probe */
} eyrie_answer;

typedef struct eyrie_verdict {
    eyrie_answer answer;
    char         reason[256];      /* one line */
} eyrie_verdict;

/* The probes, from 0 on; NULL after the last. */
EYRIE_API const eyrie_probe *eyrie_probe_at(size_t i);

EYRIE_API const char *eyrie_answer_text(eyrie_answer answer);      /* "not probed", "yes", "no", "crashes" */

/* Runs a probe in this process. Whatever the device does wrong is a verdict, not a failure. EINVAL: no such probe. */
EYRIE_API eyrie_status eyrie_probe_run(eyrie_device *dev, const char *name, eyrie_verdict *verdict, eyrie_error *err);

/* Verdicts are remembered by device and driver where the device was opened with a cache; a verdict of EYRIE_NOT_PROBED is
 * not. recall: EYRIE_NOT_PROBED where nothing is remembered. Nothing else in the library runs a probe, but a model
 * is opened with what `decides`. */
EYRIE_API void eyrie_probe_remember(eyrie_device *dev, const char *name, const eyrie_verdict *verdict);
EYRIE_API void eyrie_probe_recall(const eyrie_device *dev, const char *name, eyrie_verdict *verdict);

/* --------------------------------------------------------------------------------------------------------- limits */

typedef struct eyrie_rates {
    double   read_bytes;           /* a second, streaming from the device's memory */
    double   fma_flops;            /* f32 a second, two for each FMA, from registers */
    uint32_t streams;              /* addresses that each work-item reads from at a time: the fastest of 1, 2, 4 and 8 */
} eyrie_rates;

/* Measures both, within about two seconds. */
EYRIE_API eyrie_status eyrie_device_measure(eyrie_device *dev, eyrie_rates *rates, eyrie_error *err);

/* ------------------------------------------------------------------------------------------------------- variants */

/* A way to carry out an op that this library has, and whether this device gets it. */
typedef struct eyrie_variant {
    const char *op;                /* "matmul" */
    char        name[64];          /* "tiles 1x4 2x4 4x4 8x2 11x2" */
    bool        chosen;
    char        reason[192];       /* why, or why not */
} eyrie_variant;

/* Writes at most `capacity` of them; returns how many there are. */
EYRIE_API size_t eyrie_device_variants(const eyrie_device *dev, eyrie_variant *list, size_t capacity);

/* --------------------------------------------------------------------------------------------------------- tuning */

/* What was found of a product: which tile, rows of x by panels of 16 rows of weights that are held in registers at a
 * time, it is fastest with. All give the same bits. */
typedef struct eyrie_tuned {
    char         op[16];           /* "matmul", "matmul_geglu", "matmul_conv1d", "matmul_rglru" */
    eyrie_format format;           /* of the weights */
    uint32_t     rows, cols;       /* of the matrix, padded to multiples of 16; a block's columns */
    uint32_t     blocks;           /* on its diagonal; 1 = dense */
    uint32_t     tokens;           /* rows of x, rounded up to a power of two */
    bool         normed;           /* with an RMS norm of x before it */
    char         tile[16];         /* "4x4" */
    double       seconds;          /* of one product, when little else runs */
    double       gain;             /* time with the built-in choice over time with this tile; 1: it is that choice */
    double       bytes_per_second, flops_per_second;   /* weights, inputs and results, each once; 0 if known */
    bool         known;            /* measured before, not now */
    char         wrong[64];        /* tiles that gave other bits, "8x2, 11x2": the compiler is broken. "": none */
} eyrie_tuned;

typedef void eyrie_tuned_fn(void *user, const eyrie_tuned *tuned);

typedef struct eyrie_tune_opts {
    bool               again;      /* measure what is known, too */
    eyrie_tuned_fn    *on_tuned;   /* hears of each product; NULL: nobody does */
    void              *user;
    eyrie_progress_fn *progress;   /* hears how much of the search is done; NULL: nobody does */
    void              *progress_user;
} eyrie_tune_opts;

typedef struct eyrie_tune_summary {
    uint32_t products, known, changed, wrong;  /* all; measured before; with another tile than built in; with wrong ones */
} eyrie_tune_summary;

/* Measures the products of a model on this device, for every number of rows up to opts->slots in decode and opts->chunk in
 * prefill, on weights made up in memory: of the model nothing is read but its shapes. What is found is kept in the device's
 * cache after each product, so that a search that was interrupted goes on where it ended, and models opened from then on
 * use it. With another kernel_dir they are other kernels, to be measured again. Nothing is measured when a model is
 * opened. Prefill on a CPU's matrix unit has no tiles to choose from. EINVAL: the device has no cache. EIO: the cache keeps
 * nothing. */
EYRIE_API eyrie_status eyrie_tune(eyrie_device *dev, const char *model, const eyrie_model_opts *opts,
                                  const eyrie_tune_opts *tune, eyrie_tune_summary *sum, eyrie_error *err);

/* ------------------------------------------------------------------------------------------------------ self-test */

/* One variant of an op was compared with the plain-C reference. An error is relative to the sum of the magnitudes that
 * the result is made of; shown is the largest, measured by its tolerance. */
typedef struct eyrie_check {
    const char        *op;         /* "norm", which is also the kernel file */
    const char        *variant;
    double             error, tolerance;
    double             seconds;    /* of running it, compiling included where the driver does that then */
    bool               passed;
    const eyrie_error *failure;    /* NULL, or why it could not be run to its end */
} eyrie_check;

typedef void eyrie_check_fn(void *user, const eyrie_check *check);

/* Checks every kernel, in all its variants and formats, on this device with its own compiler, those of
 * eyrie_device_opts.kernel_dir included. on_check hears of each; *failures counts those that did not pass.
 * EBUILD: the kernels did not build, so nothing could be checked. */
EYRIE_API eyrie_status eyrie_selftest(eyrie_device *dev, eyrie_check_fn *on_check, void *user, uint32_t *failures,
                                      eyrie_error *err);

#ifdef __cplusplus
}
#endif
#endif
