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
 *     eyrie_selftest(dev, NULL, print_check, NULL, &failures, &err);
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
    double   launch_seconds;       /* of a launch that does nothing, in a row of many */
} eyrie_rates;

/* Measures all three, within about two seconds, and keeps them in the device's cache. */
EYRIE_API eyrie_status eyrie_device_measure(eyrie_device *dev, eyrie_rates *rates, eyrie_error *err);

/* What was measured last, from the device's cache; *remembered: it was there. Else, and where there is no cache, measures. */
EYRIE_API eyrie_status eyrie_device_recall(eyrie_device *dev, eyrie_rates *rates, bool *remembered, eyrie_error *err);

/* ---------------------------------------------------------------------------------------------------------- costs */

/* A decode step: a token for each of so many sequences, their attention windows full. */
typedef struct eyrie_step_cost {
    uint32_t sequences;
    uint64_t bytes, flops;         /* read and written; two for each multiply-add */
    double   seconds;              /* predicted; 0 = not known */
} eyrie_step_cost;

enum { EYRIE_STEP_COSTS = 4 };

/* Where seconds are from. */
typedef enum eyrie_costs_source {
    EYRIE_COSTS_COUNTED    = 0,    /* nowhere: there is no device, and they are 0 */
    EYRIE_COSTS_MEASURED   = 1,    /* what the device reads and computes at best, measured now, */
    EYRIE_COSTS_REMEMBERED = 2,    /* or earlier: max(bytes / read_bytes, FLOPs / fma_flops), for layers and head each */
    EYRIE_COSTS_LEARNT     = 3     /* steps of this model that ran on this device, as its cache remembers them */
} eyrie_costs_source;

typedef struct eyrie_model_costs {
    eyrie_step_cost decode[EYRIE_STEP_COSTS];      /* of 1, 4, 16 and 64 sequences */
    double          decode_ridge;  /* sequences from which a decode step takes longer to compute than to read, */
    double          prefill_ridge; /* and tokens from which reading a prompt does; INFINITY: never; 0 = not known */
    uint64_t        memory;        /* bytes for weights and sequences; 0 = not known */
    uint64_t        sequences;     /* that fit into it beside the weights, with the context of the options (UINT64_MAX: any number);
                                    * scratch memory comes on top */
    eyrie_costs_source source;
    eyrie_rates     rates;         /* zeros, unless they are the source */
} eyrie_model_costs;

/* Counts what steps of a model take, from its files as eyrie_model_inspect reads them, and with a device predicts the seconds.
 * device NULL: nothing is predicted. memory 0: what the device has free. */
EYRIE_API eyrie_status eyrie_model_predict(const char *path, const eyrie_model_opts *opts, eyrie_device *device, uint64_t memory,
                                           eyrie_model_costs *costs, eyrie_error *err);

/* Work of a model, all sequences alike: each has read `position` tokens and reads `tokens` more, one sequence after the
 * other in full chunks, or generates as many, all in one step. */
typedef struct eyrie_work {
    bool     generates;
    uint64_t sequences, position, tokens;
    uint64_t bytes, flops;         /* found: read and written; two for each multiply-add */
    double   seconds;              /* max(bytes / read_bytes, FLOPs / fma_flops): of products, attention and head each,
                                    * in each step */
    double   attention;            /* of these seconds */
} eyrie_work;

/* What n pieces of work take by the cost model alone, with nothing learnt: from the model's files and from rates, which
 * may be a device's or made up. Launches are not in it. EINVAL: rates that are no rates, work that is none. */
EYRIE_API eyrie_status eyrie_model_cost(const char *path, const eyrie_model_opts *opts, const eyrie_rates *rates,
                                        eyrie_work *work, size_t n, eyrie_error *err);

/* --------------------------------------------------------------------------------------------------------- meters */

/* A meter measures one thing at a time, so that limits can be taken beside what they judge, and an interrupt never waits
 * long. Results are checked. Neither building kernels nor touching memory for the first time is in the seconds. */
typedef struct eyrie_meter eyrie_meter;

typedef enum eyrie_metric {
    EYRIE_METRIC_READ = 0,         /* bytes that kernels read from a working set */
    EYRIE_METRIC_WRITE = 1,        /* bytes that they write */
    EYRIE_METRIC_COPY = 2,         /* bytes that they read from one half of it, and as many that they write to the other */
    EYRIE_METRIC_F32 = 3,          /* operations on floats, two for each FMA, from registers */
    EYRIE_METRIC_F16 = 4,          /* the same in half precision */
    EYRIE_METRIC_INT8 = 5,         /* operations on 8-bit integers, two for each multiply-add */
    EYRIE_METRIC_UNIT = 6,         /* operations of the CPU's matrix unit on bf16, if its use is allowed (the probe "amx") */
    EYRIE_METRIC_LAUNCH = 7,       /* launches in a row that do nothing */
    EYRIE_METRIC_ROUND_TRIP = 8,   /* launches, each waited for */
    EYRIE_METRIC_UPLOAD = 9,       /* bytes from the host's memory to the device's */
    EYRIE_METRIC_DOWNLOAD = 10     /* and back */
} eyrie_metric;

typedef struct eyrie_sample {
    double work, seconds;          /* work is in the metric's unit */
} eyrie_sample;

/* Takes 0.5 GiB of the device's memory where there is enough, and about two seconds. */
EYRIE_API eyrie_status eyrie_meter_open(eyrie_meter **out, eyrie_device *dev, eyrie_error *err);
EYRIE_API void         eyrie_meter_close(eyrie_meter *meter);

/* Bytes of the largest working set. */
EYRIE_API uint64_t eyrie_meter_room(const eyrie_meter *meter);

/* How a metric is measured on this device, or why it cannot be: *can says which. Valid until the meter is closed. */
EYRIE_API const char *eyrie_meter_explain(eyrie_meter *meter, eyrie_metric metric, bool *can);

/* One sample. `set` counts for READ, WRITE and COPY: bytes of the working set, 0 = the largest; smaller ones are passed over
 * as often as takes a while. EINVAL: the set is too large, or the device cannot. ENUMERIC: a wrong result. */
EYRIE_API eyrie_status eyrie_meter_run(eyrie_meter *meter, eyrie_metric metric, uint64_t set, eyrie_sample *sample,
                                       eyrie_error *err);

/* ------------------------------------------------------------------------------------------------------- profiles */

/* What the launches of a kernel took together. */
typedef struct eyrie_kernel_time {
    char     name[40];
    uint64_t launches;
    uint64_t bytes, flops;         /* of all of them, as plans count them: steps as large as their bucket (rows and
                                    * tokens rounded up to a power of two), windows full */
    double   seconds;              /* in which they ran, by the device's clock, or by the host's where that one cannot
                                    * be trusted */
} eyrie_kernel_time;

typedef struct eyrie_profile eyrie_profile;

/* From now on all launches of models on this device are timed, which makes them slower. EBUSY: they are already, by
 * another profile or for an engine's trace. Take the times between steps now and then: until then each launch is
 * remembered. To be closed before the device. */
EYRIE_API eyrie_status eyrie_profile_open(eyrie_profile **out, eyrie_device *dev, eyrie_error *err);
EYRIE_API void         eyrie_profile_close(eyrie_profile *profile);

/* A kernel each, those that took longest first, and forgets them. Writes at most `capacity` of them and always sets *n
 * to how many there are. Models that ran have to be open still. ENOMEM: some are missing. */
EYRIE_API eyrie_status eyrie_profile_take(eyrie_profile *profile, eyrie_kernel_time *list, size_t capacity, size_t *n,
                                          eyrie_error *err);

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
    char         op[24];           /* "matmul", "matmul_geglu", "matmul_conv1d", "matmul_rglru"; "_int8" follows if it is in 8 bits */
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
 * eyrie_device_opts.kernel_dir included; with an `op`, those of that eyrie_check.op alone. on_check hears of each; *failures
 * counts those that did not pass. EBUILD: the kernels did not build, so nothing could be checked. EINVAL: no such op. */
EYRIE_API eyrie_status eyrie_selftest(eyrie_device *dev, const char *op, eyrie_check_fn *on_check, void *user,
                                      uint32_t *failures, eyrie_error *err);

/* ----------------------------------------------------------------------------------------------------- simulation */

/* Of many durations, in seconds. Quantiles are within 0.5 %. */
typedef struct eyrie_spread {
    uint64_t n;
    double   mean, p50, p95, p99, most;
} eyrie_spread;

/* Makes one of durations that are added one after the other, in a room that does not grow. new: NULL without memory. */
typedef struct eyrie_tally eyrie_tally;
EYRIE_API eyrie_tally *eyrie_tally_new(void);
EYRIE_API void         eyrie_tally_free(eyrie_tally *tally);
EYRIE_API void         eyrie_tally_add(eyrie_tally *tally, double seconds);
EYRIE_API eyrie_spread eyrie_tally_spread(const eyrie_tally *tally);

/* A request, as far as it takes time. */
typedef struct eyrie_arrival {
    double   seconds;              /* when it comes, from the beginning; not before the one before it */
    uint64_t prompt, output;       /* tokens to be read, to be generated; at least 1 each */
    int32_t  priority;
} eyrie_arrival;

/* The next request to come; false: there is none. */
typedef bool eyrie_arrivals_fn(void *user, eyrie_arrival *next);

/* Devices by their numbers. */
typedef struct eyrie_sim_device {
    uint32_t count;                /* so many of them */
    bool     prefill, decode;      /* phases that they have steps of */
    double   bandwidth;            /* bytes/s from their memory */
    double   prefill_flops;        /* FLOP/s of products with many rows, */
    double   decode_flops;         /* and with few */
    double   launch;               /* s for a kernel launch */
    double   memory;               /* bytes, for weights, scratch and states */
    double   link;                 /* bytes/s to other devices; needed where the phases are apart */
    eyrie_device *like;            /* an open device: it is as fast as that, whatever the four numbers from bandwidth to launch are,
                                    * as eyrie_model_predict knows it, and with memory 0 has as much free; NULL: the numbers count */
} eyrie_sim_device;

typedef struct eyrie_sim_opts {
    const char              *model;         /* as eyrie_model_inspect takes it, with these options; its slots are the most
                                             * states that a device holds (0 = what fits its memory) */
    const eyrie_model_opts  *model_opts;
    const eyrie_sim_device  *devices;       /* [n_devices] */
    size_t                   n_devices;
    const char              *policy;        /* as eyrie_engine_opts has it, and the next */
    double                   token_interval;
    uint32_t                 rows;          /* most sequences of a decode step; 0 = as many as the engine's */
    eyrie_arrivals_fn       *arrivals;
    void                    *user;
    uint64_t                 expected;      /* requests, for the progress alone; 0 = not known */
    uint32_t                 clients;       /* requests there can be at a time: the next comes when one is answered, if not later;
                                             * 0 = any number, each when it comes */
    eyrie_progress_fn       *progress;      /* NULL: nobody hears of it */
    void                    *progress_user;
} eyrie_sim_opts;

typedef struct eyrie_sim_report {
    uint64_t     requests, prompt_tokens, tokens;   /* answered, read, generated */
    double       seconds;          /* from the beginning to the last token */
    eyrie_spread first_token;      /* from a request's coming to its first token */
    eyrie_spread between_tokens;   /* of a request */
    eyrie_spread whole;            /* from its coming to its last token */
    double       busy;             /* share of the devices' time in which a step ran, */
    double       arithmetic;       /* in which at their peak they would have computed as much, */
    double       memory;           /* and at their bandwidth moved as much */
    uint64_t     prefill_steps, decode_steps, handovers;
    double       handover_seconds; /* of one on average, waiting for the link or a slot included */
    uint64_t     most_waiting;     /* requests for which there was no slot, at the worst moment */
    uint32_t     slots;            /* of the device that has the fewest */
} eyrie_sim_report;

/* Runs the scheduler on devices that are numbers, under a simulated clock: what a cluster that may not exist would do with
 * these requests. Needs no device. Of a million requests with a hundred tokens each, a matter of a minute.
 * EINVAL: a value that makes no sense, named; EMEMORY: the model's weights leave a device no memory for a state. */
EYRIE_API eyrie_status eyrie_simulate(const eyrie_sim_opts *opts, eyrie_sim_report *report, eyrie_error *err);

/* What an engine that is there would do with these requests, by what it has learnt of its steps so far: its models, slots, policy
 * and interval, with two models as two devices. Of opts the requests count, and who hears of progress. */
EYRIE_API eyrie_status eyrie_engine_simulate(const eyrie_engine *engine, const eyrie_sim_opts *opts, eyrie_sim_report *report,
                                             eyrie_error *err);

#ifdef __cplusplus
}
#endif
#endif
