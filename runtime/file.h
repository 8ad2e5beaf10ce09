/* file.h - safetensors checkpoints, read with the suspicion that files from strangers deserve: every offset, size and
 * shape is checked when the file is opened, so whoever holds an ey_tensor_data may read all of it. Knows nothing of
 * models: names in, bytes out. */
#ifndef EY_FILE_H
#define EY_FILE_H

#include "base.h"

#define EY_MAX_RANK 4

/* EY_U8: a matrix in panels, in checkpoints that eyrie_pack wrote; weights.c knows more. */
typedef enum ey_dtype { EY_U8 = 0, EY_F32 = EYRIE_FORMAT_F32, EY_F16 = EYRIE_FORMAT_F16, EY_BF16 = EYRIE_FORMAT_BF16 } ey_dtype;

/* One tensor in a mapped file: row-major, little endian. `data` need not be aligned. */
typedef struct ey_tensor_data {
    const char          *name;
    const char          *file;              /* for messages */
    ey_dtype             dtype;
    uint32_t             rank;
    uint64_t             shape[EY_MAX_RANK];
    uint64_t             count;             /* elements */
    const unsigned char *data;              /* count * size of dtype bytes, borrowed from the mapping */
} ey_tensor_data;

typedef struct ey_file ey_file;

#define EY_LAYOUT_NOTE   "eyrie_layout"     /* notes of a packed checkpoint: EY_LAYOUT, and eyrie_model's identity */
#define EY_IDENTITY_NOTE "eyrie_identity"

/* Opens the directory's model.safetensors, or the shards that model.safetensors.index.json lists.
 * EIO: cannot be read. EFORMAT: truncated, malformed, overlapping, duplicate, of an unknown dtype, a shard that does not
 * hold what the index says. Tensors of other dtypes than F32, F16, BF16 are refused by name, except U8 tensors whose
 * name begins with "__pad", which only align their neighbours, and any U8 in a file with EY_LAYOUT_NOTE. */
eyrie_status ey_file_open(ey_file **out, const char *directory, eyrie_error *err);
void         ey_file_close(ey_file *f);

const ey_tensor_data *ey_file_find(const ey_file *f, const char *name);   /* NULL = not there */
size_t                ey_file_count(const ey_file *f);
const ey_tensor_data *ey_file_at(const ey_file *f, size_t i);             /* in order of name */
uint64_t              ey_file_bytes(const ey_file *f);                    /* sum over all tensors */

/* A string from the "__metadata__" of the first file, NULL if there is none. */
const char           *ey_file_note(const ey_file *f, const char *key);

uint32_t    ey_dtype_size(ey_dtype t);
const char *ey_dtype_name(ey_dtype t);                                    /* "F32", ... */

/* Elements [first, first + n) widened to f32. */
void ey_tensor_read(const ey_tensor_data *t, uint64_t first, uint64_t n, float *out);

/* The header of a file that holds these tensors in this order, each from a multiple of EY_ALIGNMENT bytes on, and these
 * notes: key, value, ... The caller writes what the tensors hold, and ey_file_gap(bytes) zeros after each. */
enum { EY_ALIGNMENT = 4096 };
struct ey_output;
eyrie_status ey_file_write_header(struct ey_output *o, const ey_tensor_data *tensors, size_t n, const char *const *notes,
                                  size_t n_notes, eyrie_error *err);
uint64_t     ey_file_gap(uint64_t bytes);

#endif
