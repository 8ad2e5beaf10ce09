/* eyrie.h - the public API of libeyrie, and its manual.
 *
 * Eyrie runs Griffin-family language models (Hawk, Griffin, RecurrentGemma, and the MQA Transformer they are measured
 * against) on any OpenCL device. If it is not in this header it is not API.
 *
 *     eyrie_error err;
 *     eyrie_device *dev; eyrie_model *model; eyrie_engine *engine; eyrie_seq *seq;
 *     eyrie_device_open(&dev, NULL, &err);
 *     eyrie_model_open(&model, dev, "models/shakespeare", NULL, &err);
 *     eyrie_engine_open(&engine, model, NULL, &err);
 *     eyrie_seq_open(&seq, engine, &err);
 *     int32_t ids[64]; size_t n;
 *     eyrie_encode(model, "ROMEO:\n", 7, ids, 64, &n, &err);
 *     eyrie_request req = { sizeof req, .tokens = ids, .n_tokens = n, .max_tokens = 100, .on_event = print_text };
 *     eyrie_seq_submit(seq, &req, &err);
 *     for (bool busy = true; busy; ) eyrie_engine_step(engine, &busy, &err);
 *     eyrie_seq_close(seq); eyrie_engine_close(engine); eyrie_model_close(model); eyrie_device_close(dev);
 *
 * Four handles carry it all. A device is an OpenCL device with its kernels. A model is weights, state slots and plans on
 * a device. An engine decides which sequences take part in the next step, and runs it. A sequence is one text: the
 * tokens it was given, the tokens it generated, and a state of constant size.
 *
 * Rules that hold everywhere:
 *   - Every function that can fail returns an eyrie_status and, where `err` is not NULL, fills it in. EYRIE_OK is 0.
 *     On failure an output handle is set to NULL. `err` belongs to the caller; nothing global is kept.
 *   - Zero means "default" in every option, so { sizeof(eyrie_model_opts) } is a complete set, and NULL is as good.
 *     struct_size lets a newer library serve a caller that was built against an older header.
 *   - The caller drives: the library starts no threads of its own (the OpenCL implementation may) but while it packs
 *     weights, when all cores share the work; it reads no environment variable, and prints nothing. Notes go to the log callback.
 *   - A handle and everything opened from it belong to one thread at a time. Different devices are independent.
 *   - Close children before parents; closing a parent first returns EYRIE_EBUSY and does nothing.
 */
#ifndef EYRIE_H
#define EYRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define EYRIE_API
#elif defined(__GNUC__)
#define EYRIE_API __attribute__((visibility("default")))
#else
#define EYRIE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------- status and errors */

/* One line each: name, value, text. */
#define EYRIE_STATUS_MAP(X)                                            \
    X(OK,        0, "success")                                         \
    X(ENOMEM,   -1, "out of host memory")                              \
    X(EINVAL,   -2, "invalid argument")                                \
    X(EIO,      -3, "file cannot be read or written")                  \
    X(EFORMAT,  -4, "malformed or unsupported file")                   \
    X(ENODEV,   -5, "no usable OpenCL device")                         \
    X(EDEVICE,  -6, "an OpenCL call failed")                           \
    X(EBUILD,   -7, "OpenCL kernels failed to build")                  \
    X(EMEMORY,  -8, "the model does not fit into the device's memory") \
    X(EBUSY,    -9, "in use, or no free state slot")                   \
    X(ELIMIT,  -10, "a limit of the model or its options is exceeded") \
    X(ENUMERIC,-11, "the model produced a number that is not finite")

typedef enum eyrie_status {
#define X(name, value, text) EYRIE_##name = value,
    EYRIE_STATUS_MAP(X)
#undef X
} eyrie_status;

/* What went wrong. text is one line, UTF-8, without a newline: the thing, the values that disagree, the way out. */
typedef struct eyrie_error {
    eyrie_status status;
    int32_t      cl_code;    /* the OpenCL error code, or 0 */
    char         text[1024];
} eyrie_error;

EYRIE_API const char *eyrie_status_text(eyrie_status status);

/* "major.minor.patch" of the library in use. */
EYRIE_API const char *eyrie_version(void);

/* -------------------------------------------------------------------------------------------------------- devices */

typedef struct eyrie_device eyrie_device;

/* A note: one line without a newline, e.g. a path that is slower than the one asked for, and why. */
typedef void eyrie_log_fn(void *user, const char *line);

typedef enum eyrie_kernels {   /* the class of devices that kernels are written for */
    EYRIE_KERNELS_AUTO = 0,    /* the device's own, if it is large enough for them */
    EYRIE_KERNELS_CPU  = 1,    /* right on every device, fast on CPUs: what to compare with where a GPU's seem wrong */
    EYRIE_KERNELS_GPU  = 2     /* for work-groups of 256 and 16 KiB of local memory; slow on CPUs */
} eyrie_kernels;

typedef struct eyrie_device_opts {
    size_t        struct_size;
    const char   *select;      /* part of the device's name, "gpu", "cpu", or its number; NULL = first GPU, else first device */
    const char   *kernel_dir;  /* files found here replace built-in kernels of the same name; NULL = built in */
    uint64_t      memory;      /* bytes that all models on the device may use; 0 = what the device or host has free */
    uint64_t      max_alloc;   /* largest single allocation in bytes; 0 = what the device says */
    eyrie_log_fn *log;         /* receives notes; NULL = none */
    void         *log_user;
    const char   *cache_dir;   /* keeps built kernels for later starts, where the driver does not (PoCL does), and what
                                  probes and eyrie_tune found (eyrie_tools.h); made if need be, at most 256 MiB; NULL = none.
                                  Trust whoever can write there as much as your own programs */
    eyrie_kernels kernels;     /* results of one class differ from the other's in their last digits, so states that are
                                  saved (eyrie_seq_save) go on in the class they were made in */
    uint32_t      turn;        /* which of those that `select` fits, from 0: processes side by side take one each. Where they are
                                  CPUs, and fewer, they are shared; other devices are not (ENODEV) */
} eyrie_device_opts;

/* Opens an OpenCL device. ENODEV: none there, or none matches. EINVAL: kernels of a class that is not
 * there. ELIMIT: the device is too small for those of the class. */
EYRIE_API eyrie_status eyrie_device_open(eyrie_device **out, const eyrie_device_opts *opts, eyrie_error *err);

/* Closes it; NULL is fine. EBUSY while a model or a part of it is open. */
EYRIE_API eyrie_status eyrie_device_close(eyrie_device *dev);

/* Divides a device into `n` that compute at the same time: parts[i] has units[i] of its compute units, which together are no more
 * than all. With `units` NULL every part has the whole device, in a queue of its own: what overlaps then is up to the driver.
 * They have the class, cache, kernels and log of `dev`, one budget of memory with it, and each other's memory: models on them
 * can share weights (eyrie_model_opts). They belong to one thread, and `dev` stays open (EBUSY).
 * EINVAL: more units than there are, or `dev` is a part itself. ELIMIT: the device cannot be divided by units, as most GPUs.
 * Whether parts keep to units of the machine is up to the driver too; PoCL's do with POCL_AFFINITY=1 in the environment. */
EYRIE_API eyrie_status eyrie_device_split(eyrie_device **parts, size_t n, eyrie_device *dev, const uint32_t *units,
                                          eyrie_error *err);

/* Its name and driver, e.g. "NVIDIA H200 (OpenCL 3.0 CUDA)"; valid until the device is closed. */
EYRIE_API const char *eyrie_device_name(const eyrie_device *dev);

/* --------------------------------------------------------------------------------------------------------- models */

typedef struct eyrie_model eyrie_model;

typedef enum eyrie_format {    /* how numbers are stored on the device */
    EYRIE_FORMAT_DEFAULT = 0,  /* weights: as in the file, bf16 in synthetic models. keys and values: f16, or f32 with EYRIE_COMPUTE_F32 */
    EYRIE_FORMAT_F32 = 1,
    EYRIE_FORMAT_F16 = 2,
    EYRIE_FORMAT_BF16 = 3,     /* weights only, like all that follow */
    EYRIE_FORMAT_Q8 = 4,       /* 8 bits, each 32 weights of a row share an f16 scale: 8.5 bits a weight */
    EYRIE_FORMAT_Q4 = 5        /* 4 bits likewise, 4.5; q8 the embedding, the head, and the gates of the recurrence */
} eyrie_format;

/* With EYRIE_COMPUTE_AUTO and _INT8, products of prefill with weights in bf16, q8 or q4, and attention beside them, run on the
 * matrix unit of an x86 CPU (AMX) where there is one that works: it takes inputs and weights rounded to bf16 (nearest even) and
 * sums in f32. Weights in f32 and f16 are not rounded for it, and decode does without. It is used if the verdict of the probe
 * "amx" (eyrie_tools.h) is remembered in the device's cache directory; the command sees to that by itself. Opening such a model
 * makes the system let the whole process use the unit's registers (arch_prctl on Linux), for good: threads that use them take
 * 8 KiB more, and so do the frames of signal handlers that interrupt them.
 *
 * With EYRIE_COMPUTE_INT8, all other products round their inputs to whole numbers of 8 bits, 32 neighbours under an f32 scale
 * that makes the largest of them 127. A sum of 32 products is exact then, and sums of those are in f32: decode reads weights in
 * q8 and q4 nearly as fast as memory gives them (README.md has what it costs in loss). The layers' weights have to be in q8 or q4,
 * and the device of class CPU (EINVAL otherwise). An x86 CPU's instructions for it (AVX-512 VNNI) are used like the matrix unit,
 * by the verdict of the probe "vnni"; results are bit for bit the same without. */
typedef enum eyrie_compute {
    EYRIE_COMPUTE_AUTO = 0,    /* what is fast and within the stored formats' own error */
    EYRIE_COMPUTE_F32 = 1,     /* nothing is rounded below f32 but the stored weights themselves */
    EYRIE_COMPUTE_INT8 = 2     /* what products read as well, to 8 bits: for decode with weights in q8 or q4; never chosen by AUTO */
} eyrie_compute;

/* Who multiplies weights with inputs while prompts are read. */
typedef enum eyrie_products {
    EYRIE_PRODUCTS_OWN = 0,    /* our own kernels */
    EYRIE_PRODUCTS_CLBLAST = 1 /* CLBlast's Sgemm in f32, in steps of more than 32 tokens, where this library was built with
                                  it; for GPUs. On CPUs many times slower than our own, but a witness. Needs `varying` */
} eyrie_products;

/* How far opening a model is: `what` is being done ("building kernels", "loading weights", ...), `done` of it, 0 to 1. */
typedef void eyrie_progress_fn(void *user, const char *what, double done);

typedef struct eyrie_model_opts {
    size_t        struct_size;
    eyrie_format  weights;     /* matrices on the device; narrower than the file's rounds to nearest even */
    eyrie_format  kv;          /* keys and values in the attention rings */
    eyrie_compute compute;
    uint32_t      slots;       /* sequences that can hold a state at the same time (0 = 1) */
    uint32_t      chunk;       /* most prompt tokens read in one step (0 = 256) */
    uint64_t      context;     /* longest sequence in tokens. 0 = no bound, or 8192 where a layer attends globally */
    eyrie_progress_fn *progress;   /* called now and then from inside eyrie_model_open; NULL = none */
    void              *progress_user;
    eyrie_model       *share;      /* an open model of the same checkpoint and weight format on another part of the device
                                    * (eyrie_device_split), or on the same part: its weights are used. It stays open (EBUSY). On a
                                    * device that shares no memory with this one they are loaded once more. NULL = none */
    bool               varying;    /* kernels may be used whose results' last digits depend on what shares a step: the
                                    * matrix unit, where it is used, in decode of 8 sequences and more (q8, q4: 16), too */
    eyrie_products     products;
} eyrie_model_opts;

enum { EYRIE_STEP_SEQUENCES = 256 };    /* most that share a step; where more have slots, they take turns */

/* What a model is and what it takes. Sizes are in bytes. */
typedef struct eyrie_model_info {
    size_t        struct_size;        /* set by the caller */
    char          family[24];         /* "RecurrentGemma", "Griffin", "Hawk", "MQA Transformer" */
    uint64_t      parameters;         /* all, the embedding once */
    uint64_t      embedding_parameters;
    uint32_t      vocab, width, layers, recurrent_layers, attention_layers;
    uint32_t      heads, kv_heads, head_dim, lru_width, gate_blocks, mlp_width;
    uint64_t      window;             /* tokens before itself that a token attends to; 0 = all */
    uint64_t      context;            /* longest sequence; 0 = no bound */
    eyrie_format  weights, kv;        /* weights: of the layers' matrices */
    uint64_t      file_bytes;         /* of the tensors in the checkpoint; 0 = synthetic */
    uint64_t      weight_bytes;       /* on the device, shared ones too */
    uint64_t      state_bytes;        /* of one sequence: constant, however long it gets */
    uint64_t      scratch_bytes;      /* 0 from eyrie_model_inspect */
    uint32_t      slots, chunk;
    uint64_t      decode_bytes;       /* read and written for one decoded token at batch 1, the window full */
    uint64_t      decode_flops;       /* two for each multiply-add, the window full, the head included */
    int32_t       bos;                /* -1 = none */
    bool          has_tokenizer;
    bool          matrix_unit;        /* prefill uses the CPU's (EYRIE_COMPUTE_AUTO); false from eyrie_model_inspect */
} eyrie_model_info;

/* Opens the checkpoint directory `path` (config.json, *.safetensors, and tokenizer.model if there is one) on `dev`:
 * checks every size, counts the memory needed against what there is, and only then allocates and reads.
 * EFORMAT: the files are not what they should be. EMEMORY: too large, with what would help. EBUILD: see kernel_dir.
 *
 * Where `path` is "synthetic:NAME" there is no checkpoint: the model has that shape and random weights, made on the
 * device; each is a function of seed, tensor name and index, so they are the same everywhere. Models of real sizes can so be
 * run and measured without their files. There is no tokenizer and, but with a config.json that says otherwise, no
 * end-of-text token. NAME is
 *   {hawk,griffin,mqa}-{100m,200m,400m,1b,3b,7b,14b}  the shapes of the Griffin paper, with a vocabulary of 256000
 *   recurrentgemma-{2b,9b}                            those of RecurrentGemma
 *   a config.json or its directory                    any shape ("rg_lru_blocks" says how many blocks gates have)
 * and "@SEED" may follow it: other weights of the same shape (default 0). EINVAL: no such name. */
EYRIE_API eyrie_status eyrie_model_open(eyrie_model **out, eyrie_device *dev, const char *path,
                                        const eyrie_model_opts *opts, eyrie_error *err);
/* EBUSY while an engine is open on it, or a model that shares its weights. */
EYRIE_API eyrie_status eyrie_model_close(eyrie_model *model);

EYRIE_API eyrie_status eyrie_model_get_info(const eyrie_model *model, eyrie_model_info *info, eyrie_error *err);

/* The same from the files' headers alone: no device, no weights read. */
EYRIE_API eyrie_status eyrie_model_inspect(const char *path, const eyrie_model_opts *opts, eyrie_model_info *info,
                                           eyrie_error *err);

/* Writes the checkpoint `path` once more, to `directory`, with its matrices as opts->weights says and in the order in which
 * devices read them: eyrie_model_open takes it like any other, with the same results, and neither packs nor, where device
 * and host share their memory, copies: it maps the file, which must stay as it is while the model is open. Needs no device.
 * The directory appears whole or not at all. A packed checkpoint is for versions of Eyrie with the same layout; others say
 * so. EINVAL: `directory` is there already, or `path` is packed already. Of opts, weights and progress count. */
EYRIE_API eyrie_status eyrie_pack(const char *path, const char *directory, const eyrie_model_opts *opts, eyrie_error *err);

/* Text to token ids, <bos> first. Writes at most `capacity` ids and always sets *n to the number there are, so a call
 * with capacity 0 asks for the size. `text` is UTF-8 of `length` bytes, zero bytes allowed.
 * EINVAL: not UTF-8 (the message gives the byte), or the model has no tokenizer. */
EYRIE_API eyrie_status eyrie_encode(const eyrie_model *model, const char *text, size_t length, int32_t *ids,
                                    size_t capacity, size_t *n, eyrie_error *err);

/* Token ids to text, not terminated; control tokens give nothing, bytes that are not UTF-8 give U+FFFD. */
EYRIE_API eyrie_status eyrie_decode(const eyrie_model *model, const int32_t *ids, size_t n, char *text,
                                    size_t capacity, size_t *length, eyrie_error *err);

/* The id of exactly that piece of the tokenizer ("<end_of_turn>"), -1 if there is none. */
EYRIE_API int32_t eyrie_find_token(const eyrie_model *model, const char *piece);

/* -------------------------------------------------------------------------------------------- engine and sequences */

typedef struct eyrie_engine eyrie_engine;
typedef struct eyrie_seq    eyrie_seq;

typedef struct eyrie_engine_opts {
    size_t        struct_size;
    const char   *policy;          /* decides what the next step is (NULL = "roofline"):
                                    *   fifo      reads prompts whole, oldest first, then decodes
                                    *   chunked   decodes first, then reads as much of a prompt as token_interval allows
                                    *   roofline  reads full chunks in parts between decode steps, sized by what the device does
                                    * A request's text is the same, bit for bit, with every policy */
    double        token_interval;  /* seconds between two tokens of a sequence that should not be passed while prompts are read,
                                    * by policies that keep such a bound; 0 = 4 decode steps. A bound that the device cannot
                                    * keep goes to the log, with what it can */
    eyrie_model  *prefill;         /* a second model, from the same files with the same options and at least as many slots,
                                    * on another device: it reads prompts while `model` decodes; NULL = `model` does both */
    const char   *trace;           /* a file to write what happens when to, in the format that Perfetto and Chrome show; slower.
                                    * NULL = none */

    /* The prefix cache: states of prompts that were read, which other prompts with the same beginning go on from. Of each prompt
     * the states after every so many tokens are kept, where it parts from an earlier one, and at its end, with the logits: a
     * prompt that extends one that is kept reads what is new and fewer tokens than the spacing; one that is the same reads
     * nothing. Of prompts that begin alike and come together, one reads what they share, and the others wait for it. What comes
     * out is the same, bit for bit, as without. Where there is no room any more, what saves the fewest tokens for its bytes, and
     * was not used for long, goes first. Requests with EYRIE_SCORE neither use nor fill it, nor does
     * what a sequence reads after its first request, or after tokens that it generated. */
    uint64_t      prefix_memory;   /* bytes of the device (the second model's, where there is one) for it; 0 = no cache */
    uint64_t      prefix_host;     /* bytes of the host's memory, for what goes there; 0 = none */
    const char   *prefix_dir;      /* a directory, made if need be, for what goes there, and when the engine is closed for as much
                                    * as there is room for: later engines of the same model begin with it. Others' files, and damaged
                                    * ones, are left out with a note; a full disk is noted, too. Trust whoever can write there as
                                    * much as your own programs. NULL = none */
    uint64_t      prefix_disk;     /* bytes there of one model; 0 = 1 GiB */
    uint32_t      prefix_spacing;  /* tokens between two states of a prompt that are kept, a multiple of 64; steps that read end
                                    * there. 0 = as few as prefix_memory allows, but at least a chunk */
} eyrie_engine_opts;

/* An engine for the model; a model has one at a time (EBUSY). EINVAL: no such policy, an interval that is no time, or a second
 * model that differs from the first; the message says in what. The second must stay open as long as the engine is. EMEMORY: the
 * device has no room for prefix_memory. EIO: prefix_dir cannot be made. */
EYRIE_API eyrie_status eyrie_engine_open(eyrie_engine **out, eyrie_model *model, const eyrie_engine_opts *opts,
                                         eyrie_error *err);
EYRIE_API eyrie_status eyrie_engine_close(eyrie_engine *engine);

/* Runs one step, which is what the policy says: reads a chunk of prompts, or a part of that, or decodes one token for each of
 * some sequences; with a second model, both at once. Events are delivered from inside the call. *busy says whether work is
 * left. So one thread serves any number of sequences: between two calls it looks for new requests, submits and cancels.
 * A step that fails ends the requests that took part in it (EYRIE_END_FAILED, their slots free again) and returns the
 * error; the other sequences are as they were, and the next call goes on with them. EBUSY: requests wait for slots, and
 * sequences without a request hold them all. */
EYRIE_API eyrie_status eyrie_engine_step(eyrie_engine *engine, bool *busy, eyrie_error *err);

typedef struct eyrie_stats {
    size_t   struct_size;          /* set by the caller */
    uint64_t prefill_tokens, decode_tokens;
    double   prefill_seconds, decode_seconds;
    uint64_t prefill_steps, decode_steps;
    uint64_t rows_read_back;       /* sampled rows that needed more than the device's 256 candidates */
    uint64_t sampled_tokens;       /* generated, with those that a prompt step gave */
    uint64_t reused_tokens;        /* that sequences did not have to read again: forked, loaded, from the prefix cache */
    double   prefill_predicted, decode_predicted;   /* seconds that the cost model gave for the same steps */
    uint64_t handed_over;          /* states that went from one model to the other */
    double   hand_over_seconds;    /* of the host; the device may copy on */
    uint64_t prefix_hits, prefix_tokens;    /* requests that began with a state of the prefix cache, and tokens of these */
    uint64_t prefix_bytes;         /* that it holds now, everywhere */
    uint64_t prefix_copied;        /* bytes copied for it, in and out and from one place to another */
    double   prefix_seconds;       /* of the host for that; the device may copy on */
} eyrie_stats;

/* What the engine has done since it was opened. */
EYRIE_API eyrie_status eyrie_engine_get_stats(const eyrie_engine *engine, eyrie_stats *stats, eyrie_error *err);

typedef enum eyrie_event_kind {
    EYRIE_EVENT_SCORE = 1,         /* a token of the prompt was read (only with EYRIE_SCORE) */
    EYRIE_EVENT_TOKEN = 2,         /* a token was generated */
    EYRIE_EVENT_END   = 3          /* the request is over; it is the last event of every request */
} eyrie_event_kind;

typedef enum eyrie_end {
    EYRIE_END_LENGTH  = 1,         /* max_tokens generated (or the prompt read, with max_tokens 0) */
    EYRIE_END_EOS     = 2,         /* an end-of-text token was generated; it was delivered as the last TOKEN, without text */
    EYRIE_END_CONTEXT = 3,         /* the sequence is as long as the model's context */
    EYRIE_END_FAILED  = 4,         /* the step failed; the sequence can only be closed */
    EYRIE_END_STOP    = 5,         /* a stop text was generated; it and what follows it in its last token is no text */
    EYRIE_END_CANCELLED = 6        /* eyrie_seq_cancel */
} eyrie_end;

typedef struct eyrie_event {
    eyrie_event_kind   kind;
    uint64_t           position;   /* of the token in the sequence, from 0 */
    int32_t            token;
    float              logprob;    /* natural log of its probability after all tokens before it; NaN if not known. The
                                    * model's own, whatever penalties, temperature and filters made of it */
    const float       *logits;     /* SCORE with EYRIE_LOGITS: [vocab] after this token, else NULL; borrowed */
    const char        *text;       /* TOKEN, END: text that has become whole UTF-8 characters and cannot become part of a
                                    * stop text any more; borrowed, may be empty */
    size_t             text_length;
    eyrie_end          end;        /* END */
    const eyrie_error *error;      /* END with EYRIE_END_FAILED */
    uint64_t           reused;     /* END: tokens of the request that the prefix cache had, which were not read again */
} eyrie_event;

/* Called from eyrie_engine_step and eyrie_seq_cancel. It may open sequences of the same engine, submit and cancel, but not close
 * any. */
typedef void eyrie_event_fn(void *user, eyrie_seq *seq, const eyrie_event *event);

enum eyrie_request_flags {
    EYRIE_SCORE      = 1,          /* deliver the log-probability of each prompt token */
    EYRIE_LOGITS     = 2,          /* with EYRIE_SCORE: its logits too */
    EYRIE_IGNORE_EOS = 4,          /* go on after an end-of-text token of the model's */
    EYRIE_KEEP_LOGITS = 16,        /* with max_tokens 0: the logits after the last token are kept until it is read on. A next
                                    * request without tokens generates from them, one with EYRIE_SCORE has the probability of
                                    * its first token from them; so do forks, and a prompt that is read once is continued
                                    * many times. State files do not have them */
    EYRIE_HOLD_TEXT  = 8           /* a character that is not whole at the end is kept for the sequence's next request, if
                                    * that goes on without tokens of its own, instead of becoming U+FFFD */
};

typedef struct eyrie_request {
    size_t          struct_size;
    const int32_t  *tokens;        /* [n_tokens], copied: what the sequence reads next */
    size_t          n_tokens;
    uint64_t        max_tokens;    /* to generate after them; 0 = read only */
    float           temperature;   /* 0 = greedy: the most probable token, the lowest id among equals */
    uint32_t        sample;        /* number of this sample: one seed gives independent samples 0, 1, 2, ... */
    uint64_t        seed;
    uint32_t        flags;         /* eyrie_request_flags */
    eyrie_event_fn *on_event;
    void           *user;

    /* Which tokens are drawn, with a temperature above 0. In this order, each among what the one before has kept. */
    uint32_t        top_k;         /* the k most probable; 0 = all */
    float           top_p;         /* the fewest most probable whose probabilities sum up to p; 0 or 1 = all */
    float           min_p;         /* those at least min_p times as probable as the most probable; 0 = all, at most 1 */

    /* Penalties change the logits before all this, and the greedy choice too. */
    float           repetition_penalty; /* of a token that occurs in the sequence, read or generated: a logit above 0 is
                                         * divided by this, any other multiplied; 0 or 1 = none */
    float           presence_penalty;   /* taken off the logit of a token that the sequence has generated */
    float           frequency_penalty;  /* the same, times how often */

    /* Texts that end the request when they appear in what it generates: where the first one is complete, the longest of
     * those that end there. Text from its beginning on is not delivered, and text that may still become one is held
     * back; tokens are all delivered, that which completes it last. Terminated, UTF-8, not empty. */
    const char *const *stops;      /* [n_stops], copied */
    size_t          n_stops;

    const int32_t  *end_tokens;    /* [n_end_tokens], copied: these end the request as an end-of-text token does */
    size_t          n_end_tokens;

    int32_t         priority;      /* requests of higher ones go first, as long as the others do not starve; 0 = as everybody */
} eyrie_request;

/* An empty sequence. It takes a state slot at its first step and keeps it until it is closed; a sequence that finds no
 * slot free waits for one. */
EYRIE_API eyrie_status eyrie_seq_open(eyrie_seq **out, eyrie_engine *engine, eyrie_error *err);
EYRIE_API eyrie_status eyrie_seq_close(eyrie_seq *seq);

/* Hands work to the sequence. It continues where its last request ended: what is pending is read first. A sequence has
 * one request at a time (EBUSY). EINVAL: a token outside the vocabulary, nothing to read, or a value of the request out of
 * its range. Without tokens it goes on generating as if its last request had not ended, bit for bit. What is generated
 * depends on the sequence's own tokens, seed and sample only, not on its neighbours. Penalties know all tokens of the
 * sequence, those of earlier requests too. */
EYRIE_API eyrie_status eyrie_seq_submit(eyrie_seq *seq, const eyrie_request *request, eyrie_error *err);

/* A second sequence that goes on from the same state, bit for bit. The first must be without a request, and a slot
 * must be free (both EBUSY). Costs one copy of the state on the device. Of a prompt that was read with EYRIE_KEEP_LOGITS,
 * forks with requests of `sample` 0, 1, 2, ... and no tokens generate what as many requests with the prompt would. */
EYRIE_API eyrie_status eyrie_seq_fork(eyrie_seq **out, eyrie_seq *seq, eyrie_error *err);

/* Ends the sequence's request with its END event (EYRIE_END_CANCELLED): at once, or, where a step is under way that reads for
 * it (eyrie_engine_opts.policy), or from an event, when that step has ended, with what came of it before: *busy stays true
 * till then. What was not read yet stays pending. Without a request it does nothing. */
EYRIE_API eyrie_status eyrie_seq_cancel(eyrie_seq *seq, eyrie_error *err);

/* Tokens read so far: the position of the next one. */
EYRIE_API uint64_t eyrie_seq_position(const eyrie_seq *seq);

/* The number of tokens that are pending: the next request reads them first. That is the token generated last, and what a
 * cancelled request had not read. *last, unless NULL, becomes the last of them, -1 if there is none. */
EYRIE_API size_t eyrie_seq_pending(const eyrie_seq *seq, int32_t *last);

/* Saves a sequence that has no request (EBUSY) to a file, so that it can be loaded later, in another process or on another
 * machine, and goes on bit for bit as if nothing had happened. The file has the state, its position, what is pending and a
 * checksum; neither the text so far nor how to sample. It appears under its name when it is whole and on the disk; until
 * then, and after a failure (EIO), what was there before stays. */
EYRIE_API eyrie_status eyrie_seq_save(eyrie_seq *seq, const char *path, eyrie_error *err);

/* A new sequence from such a file. It needs a free slot (EBUSY). Everything is checked first. EFORMAT: the file is not
 * whole or damaged. EINVAL: it was saved from another model, with other formats, another window of attention, or on
 * another class of device (cpu, gpu); the message names both and the way out. Models are told apart by their config and by
 * name, type, shape and first elements of every tensor, since that is quickly read. ELIMIT: longer than the context. */
EYRIE_API eyrie_status eyrie_seq_load(eyrie_seq **out, eyrie_engine *engine, const char *path, eyrie_error *err);

#ifdef __cplusplus
}
#endif
#endif
