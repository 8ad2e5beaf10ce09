/* weights.h - named tensors of a checkpoint, or of a synthetic model, to packed buffers on the device. A model first
 * declares what it needs (every shape is checked against the file there), then the arena's size is known, then everything
 * is allocated and loaded.
 *
 * Dimensions are padded group by group: a dimension of `groups` heads (or gate blocks) of `size` elements takes
 * groups * ey_pad(size), zeros between them, and zero weights for the zeros. Models of real sizes have no padding. */
#ifndef EY_WEIGHTS_H
#define EY_WEIGHTS_H

#include "device.h"
#include "file.h"
#include "os.h"
#include "program.h"
#include "quant.h"

typedef struct ey_dim {
    uint32_t groups, size;
} ey_dim;

static inline ey_dim   ey_dim_flat(uint32_t size) { return (ey_dim){ 1, size }; }
static inline uint32_t ey_dim_count(ey_dim d) { return d.groups * d.size; }              /* elements in the file */
static inline uint32_t ey_dim_padded(ey_dim d) { return d.groups * ey_pad(d.size); }     /* columns on the device */

enum { EY_MAX_PARTS = 3 };

/* A matrix, or up to three that share their input, one below the other: rows are outputs, columns inputs. */
typedef struct ey_matrix {
    char         name[96];          /* of the first part, for messages */
    eyrie_format format;
    uint32_t     rows, cols;        /* padded */
    uint32_t     n_parts;
    uint32_t     part_rows[EY_MAX_PARTS];
    bool         paired;            /* two parts whose panels take turns: 16 rows of the first, 16 of the second, ... */
    uint32_t     blocks;            /* block diagonal: blocks a part; 1 = dense */
    uint64_t     params;            /* weights in the file */
    ey_buffer   *bias;              /* f32 [rows], zeros where there is none */
    uint32_t     n_shards;          /* row shards, each a multiple of EY_LANES rows and one allocation */
    struct ey_shard {
        uint32_t   row0, rows;
        ey_buffer *buffer;
    } *shards;
} ey_matrix;

/* How a vector of the file becomes one of the device, f32. */
typedef enum ey_transform {
    EY_PLAIN,
    EY_ONE_PLUS,                    /* 1 + w: the scale of a norm */
    EY_DECAY,                       /* 8 softplus(p): of the RG-LRU */
    EY_TRANSPOSE                    /* [N, 1, taps] (or [N, taps, 1]) to [taps, N] */
} ey_transform;

typedef struct ey_weights ey_weights;

/* How matrices lie in panels and stacks, stated in packed checkpoints (eyrie_pack): another number for every change. */
#define EY_LAYOUT "1"

/* What matrices are kept as; EYRIE_FORMAT_DEFAULT = each as in the file. Tables are embedding and head. */
typedef struct ey_formats {
    eyrie_format layers, gates, tables;
} ey_formats;

static inline ey_formats ey_formats_all(eyrie_format f) { return (ey_formats){ f, f, f }; }
/* What a model gets whose weights are asked for in that format. */
ey_formats ey_formats_of(eyrie_format asked);

/* `file` is read until ey_weights_load returns, and not after, unless ey_weights_in_file. */
eyrie_status ey_weights_new(ey_weights **out, eyrie_device *dev, const ey_file *file, ey_formats formats, eyrie_error *err);
/* The same without a file: whatever is declared is there, elements as synthetic.h makes them, in bf16 by default.
 * first_dim is what ey_weights_first_dim answers. */
eyrie_status ey_weights_new_synthetic(ey_weights **out, eyrie_device *dev, uint64_t seed, uint32_t first_dim,
                                      ey_formats formats, eyrie_error *err);
void         ey_weights_free(ey_weights *w);
/* Who is told how far loading is. */
void         ey_weights_listener(ey_weights *w, const ey_progress *progress);

/* Declarations. Names are prefix + name. The first error sticks, like in a plan, and ey_weights_check returns it; what
 * is returned after one is NULL. All are owned by `w`. */
typedef struct ey_part {
    const char *weight;             /* "q_proj.weight" */
    const char *bias;               /* NULL = none */
    ey_dim      rows;
} ey_part;

void ey_weights_prefix(ey_weights *w, const char *format, ...) EY_PRINTF(2, 3);
ey_matrix *ey_weights_matrix(ey_weights *w, const ey_part *parts, uint32_t n_parts, ey_dim cols);
/* The embedding or the head: [vocabulary, width]. */
ey_matrix *ey_weights_table(ey_weights *w, const char *name, ey_dim rows, ey_dim cols);
/* Two parts of as many rows each, paired, so that one work-item has the sums that belong together. */
ey_matrix *ey_weights_pair(ey_weights *w, const ey_part parts[2], ey_dim cols);
/* The gates, paired: each part is [G, P, P], stored [in, out], with a bias [G, P]; G blocks on the diagonal. */
ey_matrix *ey_weights_gates(ey_weights *w, const ey_part parts[2]);
/* taps: rows of EY_TRANSPOSE, else 1. */
ey_buffer *ey_weights_vector(ey_weights *w, const char *name, ey_dim dim, uint32_t taps, ey_transform transform);

/* The first dimension of a tensor, 0 if there is none (a declaration will say so): for what config.json does not tell. */
uint32_t ey_weights_first_dim(ey_weights *w, const char *name);
bool     ey_weights_has(ey_weights *w, const char *name);
/* A tensor that may be in the file and is of no use. */
void     ey_weights_ignore(ey_weights *w, const char *name);

/* How declaring went; and that no tensor of the file was left over, which would mean a model that is not ours. */
eyrie_status ey_weights_check(ey_weights *w, eyrie_error *err);

uint64_t ey_weights_bytes(const ey_weights *w);
uint64_t ey_weights_params(const ey_weights *w);    /* elements in the file of everything declared; once checked */
uint64_t ey_weights_bytes_as(const ey_weights *w, eyrie_format asked);      /* in that format, if it can be had */
uint64_t ey_matrix_bytes(const ey_matrix *m);       /* its panels' */
uint32_t ey_weights_formats(const ey_weights *w);   /* bit 1 << format of every matrix */

/* Whether matrices are used where they lie in the file, which then has to stay open and as it is. */
bool         ey_weights_in_file(const ey_weights *w);

/* Writes a checkpoint's file in which the matrices are packed, to load without packing, or as they lie. `identity` is the
 * model's. EINVAL: this one is packed already. */
eyrie_status ey_weights_write(ey_weights *w, ey_output *o, const char *identity, eyrie_error *err);

/* Allocates, then reads and packs; or, of a synthetic model, makes matrices on the device with `program`'s kernels. */
eyrie_status ey_weights_load(ey_weights *w, eyrie_error *err);
eyrie_status ey_weights_fill(ey_weights *w, ey_program *program, eyrie_error *err);
/* Or neither: uses what another model of the same context has loaded, which outlives this. False: it declared otherwise. */
bool         ey_weights_borrow(ey_weights *w, const ey_weights *from);

#endif
