/* weights.c - declaring, allocating, and packing what a checkpoint holds; or making it up. */
#include "weights.h"

#include "synthetic.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { STEP_BYTES = 16 << 20,               /* of weights between two reports of progress */
       ALONE_BYTES = 1 << 20,               /* packed before another thread has begun */
       LINE = 64 };                         /* bytes */

/* Where the rows of a matrix come from. */
typedef struct source {
    const ey_tensor_data *weight, *bias;    /* bias may be NULL */
    ey_dim                rows;
    uint64_t              count;            /* of weights */
} source;

typedef struct matrix {
    ey_matrix public;
    const char *first;                      /* name of the first part, without the prefix; while it is declared */
    source    parts[EY_MAX_PARTS];
    ey_dim    cols;
    bool      gates, table;
    const ey_tensor_data *panels;           /* the whole matrix in a packed checkpoint, else NULL */
} matrix;

typedef struct vector {
    ey_buffer            *buffer;
    const ey_tensor_data *data;
    ey_dim                dim;
    uint32_t              taps;
    ey_transform          transform;
} vector;

/* Tensors of a synthetic model: shapes without data. */
typedef struct made_up {
    struct made_up *next;
    ey_tensor_data  tensor;
    char            name[];
} made_up;

struct ey_weights {
    ey_arena       arena;
    const ey_file *file;                    /* NULL: synthetic */
    bool           packed;                  /* the file holds matrices in panels */
    const char    *verb;                    /* what the listener hears */
    uint64_t       seed;                    /* of a synthetic model, and the rest of it */
    uint32_t       first_dim;
    made_up       *made_up;
    ey_formats     formats;
    char           prefix[64];
    bool          *used;                    /* [tensors of the file] */
    uint64_t       params;                  /* elements of all that is used, once declaring has ended */
    matrix       **matrices;
    size_t         n_matrices, matrices_capacity;
    vector        *vectors;
    size_t         n_vectors, vectors_capacity;
    uint64_t       panel_bytes, done, told; /* of all matrices; of those that are in place; when the listener last heard */
    ey_progress    listener;
    eyrie_status   status;
    eyrie_error    error;
};

eyrie_status ey_weights_new(ey_weights **out, eyrie_device *dev, const ey_file *file, ey_formats formats, eyrie_error *err)
{
    const char *layout = ey_file_note(file, EY_LAYOUT_NOTE);
    ey_weights *w;

    *out = NULL;
    if (layout && strcmp(layout, EY_LAYOUT) != 0)
        return ey_fail(err, EYRIE_EFORMAT, "the checkpoint is packed in layout %.20s, this version of Eyrie reads layout %s; pack it "
                       "again from the checkpoint it was made from (eyrie pack)", layout, EY_LAYOUT);
    if (!(w = ey_calloc(1, sizeof *w)) || !(w->used = ey_calloc(ey_file_count(file) + 1, sizeof *w->used))) {
        ey_free(w);
        return ey_fail(err, EYRIE_ENOMEM, "table of weights");
    }
    w->file = file;
    w->packed = layout != NULL;
    w->verb = "loading weights";
    w->formats = formats;
    ey_arena_init(&w->arena, dev, "weights");
    *out = w;
    return EYRIE_OK;
}

eyrie_status ey_weights_new_synthetic(ey_weights **out, eyrie_device *dev, uint64_t seed, uint32_t first_dim,
                                      ey_formats formats, eyrie_error *err)
{
    if (!(*out = ey_calloc(1, sizeof **out))) return ey_fail(err, EYRIE_ENOMEM, "table of weights");
    (*out)->seed = seed;
    (*out)->first_dim = first_dim;
    (*out)->formats = formats;
    (*out)->verb = "making weights";
    ey_arena_init(&(*out)->arena, dev, "weights");
    return EYRIE_OK;
}

void ey_weights_listener(ey_weights *w, const ey_progress *progress) { w->listener = *progress; }

void ey_weights_free(ey_weights *w)
{
    if (!w) return;
    ey_arena_free(&w->arena);
    while (w->made_up) {
        made_up *t = w->made_up;
        w->made_up = t->next;
        ey_free(t);
    }
    for (size_t i = 0; i < w->n_matrices; i++) {
        ey_free(w->matrices[i]->public.shards);
        ey_free(w->matrices[i]);
    }
    ey_free(w->matrices);
    ey_free(w->vectors);
    ey_free(w->used);
    ey_free(w);
}

void ey_weights_prefix(ey_weights *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(w->prefix, sizeof w->prefix, format, args);
    va_end(args);
}

/* ------------------------------------------------------------------------------------------------------ declaring */

/* The first error sticks. */
EY_PRINTF(3, 4) static void weights_fail(ey_weights *w, eyrie_status status, const char *format, ...)
{
    char text[512];
    va_list args;

    if (w->status != EYRIE_OK) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    w->status = ey_fail(&w->error, status, "%s", text);
}

static const ey_tensor_data *lookup(ey_weights *w, const char *name)
{
    char full[192];
    const ey_tensor_data *t;

    if (!w->file) return NULL;
    snprintf(full, sizeof full, "%s%s", w->prefix, name);
    if (!(t = ey_file_find(w->file, full))) return NULL;
    w->used[t - ey_file_at(w->file, 0)] = true;
    return t;
}

static void shape_text(const uint64_t *shape, uint32_t rank, char buf[96])
{
    size_t at = 0;
    buf[0] = '\0';
    for (uint32_t i = 0; i < rank && at < 80; i++) at += (size_t)snprintf(buf + at, 96 - at, "%s%" PRIu64, i ? ", " : "", shape[i]);
}

/* A tensor of a synthetic model; NULL after an error. The default format of weights follows from its dtype. */
static const ey_tensor_data *make_up(ey_weights *w, const char *name, uint32_t rank, const uint64_t *shape)
{
    size_t length = strlen(w->prefix) + strlen(name) + 1;
    made_up *t = ey_calloc(1, sizeof *t + length);

    if (!t) {
        weights_fail(w, EYRIE_ENOMEM, "%s%s", w->prefix, name);
        return NULL;
    }
    t->next = w->made_up;
    w->made_up = t;
    snprintf(t->name, length, "%s%s", w->prefix, name);
    t->tensor = (ey_tensor_data){ .name = t->name, .dtype = EY_BF16, .rank = rank, .count = 1 };
    for (uint32_t i = 0; i < rank; i++) t->tensor.count *= t->tensor.shape[i] = shape[i];
    return &t->tensor;
}

/* The tensor, or NULL after an error: it must be there and have that shape. */
static const ey_tensor_data *need(ey_weights *w, const char *name, uint32_t rank, uint64_t d0, uint64_t d1, uint64_t d2)
{
    const uint64_t wanted[3] = { d0, d1, d2 };
    const ey_tensor_data *t;

    if (w->status != EYRIE_OK) return NULL;
    if (!w->file) return make_up(w, name, rank, wanted);
    if (!(t = lookup(w, name))) {
        weights_fail(w, EYRIE_EFORMAT, "%s%s: missing; the file has %zu tensors, and config.json asks for this one",
                     w->prefix, name, ey_file_count(w->file));
        return NULL;
    }
    if (t->dtype == EY_U8) {
        weights_fail(w, EYRIE_EFORMAT, "%s: %s has dtype U8; only matrices of a packed checkpoint are, this must be F32, F16 or "
                     "BF16", t->name, t->file);
        return NULL;
    }
    if (t->rank != rank || memcmp(t->shape, wanted, rank * sizeof *wanted)) {
        char have[96], want[96];
        shape_text(t->shape, t->rank, have);
        shape_text(wanted, rank, want);
        weights_fail(w, EYRIE_EFORMAT, "%s: %s has [%s], config.json wants [%s]", t->name, t->file, have, want);
        return NULL;
    }
    return t;
}

/* Stacked parts of different formats take the widest that holds all exactly. */
static eyrie_format stored_format(const matrix *m)
{
    eyrie_format f = (eyrie_format)m->parts[0].weight->dtype;
    for (uint32_t i = 1; i < m->public.n_parts; i++)
        if ((eyrie_format)m->parts[i].weight->dtype != f) f = EYRIE_FORMAT_F32;
    return f;
}

/* At 4 bits, measured (bench/RESULTS.md): the table is a small part of the weights and a third of the loss, and the gates
 * are next to nothing of both, but what they get wrong stays in the state. */
ey_formats ey_formats_of(eyrie_format asked)
{
    ey_formats f = ey_formats_all(asked);
    if (asked == EYRIE_FORMAT_Q4) f.gates = f.tables = EYRIE_FORMAT_Q8;
    return f;
}

static eyrie_format format_of(const matrix *m, ey_formats f) { return m->gates ? f.gates : m->table ? f.tables : f.layers; }

/* In a packed checkpoint the matrix has the name of its first part and its format: "model.embed_tokens.weight.q8". */
static void find_panels(ey_weights *w, matrix *m)
{
    eyrie_format asked = format_of(m, w->formats);

    for (uint32_t f = EYRIE_FORMAT_F32; f <= EYRIE_FORMAT_Q4 && !m->panels; f++) {
        char name[192];
        snprintf(name, sizeof name, "%s.%s", m->first, ey_quant_of((eyrie_format)f)->name);
        m->public.format = (eyrie_format)f;
        m->panels = lookup(w, name);
    }
    if (!m->panels)
        weights_fail(w, EYRIE_EFORMAT, "%s%s: missing in the packed checkpoint; config.json asks for it", w->prefix, m->first);
    else if (m->panels->dtype != EY_U8)
        weights_fail(w, EYRIE_EFORMAT, "%s: %s has dtype %s; matrices of a packed checkpoint are U8", m->panels->name,
                     m->panels->file, ey_dtype_name(m->panels->dtype));
    else if (asked != EYRIE_FORMAT_DEFAULT && asked != m->public.format)
        weights_fail(w, EYRIE_EINVAL, "%s: packed as %s, to be %s; leave --weights out, or take the checkpoint it was "
                     "packed from", m->panels->name, ey_quant_of(m->public.format)->name, ey_quant_of(asked)->name);
}

/* The buffer is to be those pages of the file, where the device works in the host's memory and lines stay whole. */
static void use_in_place(ey_weights *w, ey_buffer *b, const unsigned char *data)
{
    if (w->arena.dev->host_memory && (uintptr_t)data % LINE == 0) b->host = data;
}

/* Rows, shards and bias of a matrix whose sources are set. */
static void lay_out(ey_weights *w, matrix *m)
{
    ey_matrix *p = &m->public;
    const ey_quant *q;

    if (w->packed) find_panels(w, m);
    else p->format = format_of(m, w->formats);
    if (w->status != EYRIE_OK) return;
    if (p->format == EYRIE_FORMAT_DEFAULT) p->format = stored_format(m);
    q = ey_quant_of(p->format);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        p->part_rows[i] = ey_dim_padded(m->parts[i].rows);
        p->rows += p->part_rows[i];
        p->params += m->parts[i].count;
    }
    uint64_t panel = ey_quant_panel_bytes(q, p->cols), panels = p->rows / EY_LANES, together = p->paired ? 2 : 1;
    if (m->panels && (m->panels->rank != 2 || m->panels->shape[0] != panels || m->panels->shape[1] != panel)) {
        char have[96];
        shape_text(m->panels->shape, m->panels->rank, have);
        weights_fail(w, EYRIE_EFORMAT, "%s: %s has [%s], config.json wants [%" PRIu64 ", %" PRIu64 "]", m->panels->name,
                     m->panels->file, have, panels, panel);
        return;
    }
    uint64_t per_shard = ey_max(w->arena.dev->max_alloc / panel / together, 1) * together;
    p->n_shards = (uint32_t)((panels + per_shard - 1) / per_shard);
    if (!(p->shards = ey_calloc(p->n_shards, sizeof *p->shards))
        || !(p->bias = ey_arena_add(&w->arena, (uint64_t)p->rows * sizeof(float), p->name))) {
        weights_fail(w, EYRIE_ENOMEM, "%s", p->name);
        return;
    }
    for (uint32_t i = 0; i < p->n_shards; i++) {
        uint64_t first = i * per_shard, n = ey_min(per_shard, panels - first);
        p->shards[i].row0 = (uint32_t)(first * EY_LANES);
        p->shards[i].rows = (uint32_t)(n * EY_LANES);
        w->panel_bytes += n * panel;
        if (!(p->shards[i].buffer = ey_arena_add(&w->arena, n * panel, p->name))) {
            weights_fail(w, EYRIE_ENOMEM, "%s", p->name);
            return;
        }
        if (m->panels) use_in_place(w, p->shards[i].buffer, m->panels->data + first * panel);
    }
}

static matrix *new_matrix(ey_weights *w, const char *name, uint32_t n_parts)
{
    matrix *m;

    if (w->status != EYRIE_OK) return NULL;
    if (!ey_grow(&w->matrices, &w->matrices_capacity, w->n_matrices + 1, sizeof *w->matrices)
        || !(m = ey_calloc(1, sizeof *m))) {
        weights_fail(w, EYRIE_ENOMEM, "%s%s", w->prefix, name);
        return NULL;
    }
    w->matrices[w->n_matrices++] = m;
    snprintf(m->public.name, sizeof m->public.name, "%.40s%.50s", w->prefix, name);
    m->public.n_parts = n_parts;
    m->public.blocks = 1;
    m->first = name;
    return m;
}

/* How a matrix that is no gate differs from others. */
typedef enum kind { ROWS, PAIR, TABLE } kind;

static ey_matrix *dense(ey_weights *w, const ey_part *parts, uint32_t n_parts, kind of_kind, ey_dim cols)
{
    matrix *m = new_matrix(w, parts[0].weight, n_parts);

    if (!m) return NULL;
    m->public.paired = of_kind == PAIR;
    m->table = of_kind == TABLE;
    m->cols = cols;
    m->public.cols = ey_dim_padded(cols);
    for (uint32_t i = 0; i < n_parts; i++) {
        uint64_t rows = ey_dim_count(parts[i].rows);
        m->parts[i].rows = parts[i].rows;
        m->parts[i].count = rows * ey_dim_count(cols);
        if (!w->packed) m->parts[i].weight = need(w, parts[i].weight, 2, rows, ey_dim_count(cols), 0);
        if (parts[i].bias) m->parts[i].bias = need(w, parts[i].bias, 1, rows, 0, 0);
    }
    if (w->status == EYRIE_OK) lay_out(w, m);
    return w->status == EYRIE_OK ? &m->public : NULL;
}

ey_matrix *ey_weights_matrix(ey_weights *w, const ey_part *parts, uint32_t n_parts, ey_dim cols)
{
    return dense(w, parts, n_parts, ROWS, cols);
}

ey_matrix *ey_weights_table(ey_weights *w, const char *name, ey_dim rows, ey_dim cols)
{
    return dense(w, &(ey_part){ name, NULL, rows }, 1, TABLE, cols);
}

ey_matrix *ey_weights_pair(ey_weights *w, const ey_part parts[2], ey_dim cols) { return dense(w, parts, 2, PAIR, cols); }

ey_matrix *ey_weights_gates(ey_weights *w, const ey_part parts[2])
{
    matrix *m = new_matrix(w, parts[0].weight, 2);

    if (!m) return NULL;
    m->gates = m->public.paired = true;
    for (uint32_t i = 0; i < 2; i++) {
        ey_dim rows = parts[i].rows;
        m->parts[i].rows = rows;
        m->cols = ey_dim_flat(rows.size);
        m->public.cols = ey_pad(rows.size);
        m->public.blocks = rows.groups;
        m->parts[i].count = (uint64_t)rows.groups * rows.size * rows.size;
        if (!w->packed) m->parts[i].weight = need(w, parts[i].weight, 3, rows.groups, rows.size, rows.size);
        m->parts[i].bias = need(w, parts[i].bias, 2, rows.groups, rows.size, 0);
    }
    if (w->status == EYRIE_OK) lay_out(w, m);
    return w->status == EYRIE_OK ? &m->public : NULL;
}

ey_buffer *ey_weights_vector(ey_weights *w, const char *name, ey_dim dim, uint32_t taps, ey_transform transform)
{
    vector v = { .dim = dim, .taps = taps, .transform = transform };
    uint64_t n = ey_dim_count(dim);

    if (transform == EY_TRANSPOSE) {
        const ey_tensor_data *t = w->status == EYRIE_OK ? lookup(w, name) : NULL;   /* some exports swap the last two */
        bool swapped = t && t->rank == 3 && t->shape[1] == taps && t->shape[2] == 1;
        v.data = need(w, name, 3, n, swapped ? taps : 1, swapped ? 1 : taps);
    } else {
        v.data = need(w, name, 1, n, 0, 0);
    }
    if (w->status != EYRIE_OK) return NULL;
    if (!ey_grow(&w->vectors, &w->vectors_capacity, w->n_vectors + 1, sizeof *w->vectors)
        || !(v.buffer = ey_arena_add(&w->arena, (uint64_t)ey_dim_padded(dim) * taps * sizeof(float), v.data->name))) {
        weights_fail(w, EYRIE_ENOMEM, "%s", v.data->name);
        return NULL;
    }
    w->vectors[w->n_vectors++] = v;
    return v.buffer;
}

uint32_t ey_weights_first_dim(ey_weights *w, const char *name)
{
    const ey_tensor_data *t = lookup(w, name);
    if (!w->file) return w->first_dim;
    return t && t->rank > 0 && t->shape[0] <= UINT32_MAX ? (uint32_t)t->shape[0] : 0;
}

bool ey_weights_has(ey_weights *w, const char *name)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s", w->prefix, name);
    return w->file && ey_file_find(w->file, full) != NULL;
}

void ey_weights_ignore(ey_weights *w, const char *name) { (void)lookup(w, name); }

eyrie_status ey_weights_check(ey_weights *w, eyrie_error *err)
{
    for (size_t i = 0; w->file && i < ey_file_count(w->file) && w->status == EYRIE_OK; i++) {
        const ey_tensor_data *t = ey_file_at(w->file, i);
        if (!w->used[i])
            weights_fail(w, EYRIE_EFORMAT, "%s: in %s, but no part of the model that config.json describes; ignoring it "
                         "would give wrong results", t->name, t->file);
    }
    if (w->status != EYRIE_OK) {
        if (err) *err = w->error;
        return w->status;
    }
    for (size_t i = 0; i < w->n_matrices; i++)
        for (uint32_t k = 0; k < w->matrices[i]->public.n_parts; k++) {
            const source *s = &w->matrices[i]->parts[k];
            w->params += s->count + (s->bias ? s->bias->count : 0);
        }
    for (size_t i = 0; i < w->n_vectors; i++) w->params += w->vectors[i].data->count;
    return EYRIE_OK;
}

uint64_t ey_weights_bytes(const ey_weights *w) { return w->arena.bytes; }

uint64_t ey_weights_bytes_as(const ey_weights *w, eyrie_format asked)
{
    ey_formats f = ey_formats_of(asked);
    uint64_t bytes = w->arena.bytes;

    for (size_t i = 0; i < w->n_matrices && !w->packed; i++) {
        ey_matrix as = w->matrices[i]->public;
        bytes -= ey_matrix_bytes(&as);
        as.format = format_of(w->matrices[i], f);
        bytes += ey_matrix_bytes(&as);
    }
    return bytes;
}

uint64_t ey_weights_params(const ey_weights *w) { return w->params; }

uint64_t ey_matrix_bytes(const ey_matrix *m)
{
    return m->rows / EY_LANES * ey_quant_panel_bytes(ey_quant_of(m->format), m->cols);
}

uint32_t ey_weights_formats(const ey_weights *w)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < w->n_matrices; i++) mask |= 1u << w->matrices[i]->public.format;
    return mask;
}

/* -------------------------------------------------------------------------------------------------------- loading */

/* Padded index to the index in the file, or -1 for padding. */
static int64_t plain_index(ey_dim d, uint32_t padded)
{
    uint32_t group = padded / ey_pad(d.size), at = padded % ey_pad(d.size);
    return at < d.size ? (int64_t)group * d.size + at : -1;
}

/* More of the matrices is in place. The listener hears of it at every step. */
static void advance(ey_weights *w, uint64_t bytes)
{
    w->done += bytes;
    if (w->done < w->told + STEP_BYTES && w->done < w->panel_bytes) return;
    w->told = w->done;
    ey_tell(&w->listener, w->verb, (double)w->done / (double)w->panel_bytes);
}

static ey_recipe recipe_of(const ey_weights *w, const ey_tensor_data *t)
{
    return ey_recipe_of(w->seed, t->name, t->shape[t->rank - 1]);
}

/* All of a tensor, in f32. To be freed; NULL after an error. */
static float *read_all(const ey_weights *w, const ey_tensor_data *t, eyrie_error *err)
{
    float *x = ey_calloc(t->count, sizeof *x);

    if (!x) {
        (void)ey_fail(err, EYRIE_ENOMEM, "%s", t->name);
    } else if (w->file) {
        ey_tensor_read(t, 0, t->count, x);
    } else {
        ey_recipe r = recipe_of(w, t);
        ey_recipe_read(&r, 0, t->count, x);
    }
    return x;
}

/* The part of the matrix that a padded row is in; *row becomes its row there. Parts begin with a panel. */
static const source *part_of(const matrix *m, uint32_t *row)
{
    uint32_t part = 0, panel = *row / EY_LANES;

    if (m->public.paired) {
        *row = panel / 2 * EY_LANES + *row % EY_LANES;
        return &m->parts[panel % 2];
    }
    while (*row >= m->public.part_rows[part]) *row -= m->public.part_rows[part++];
    return &m->parts[part];
}

/* The 16 padded rows from `row` on, widened to f32, zeros where there is padding: [16][columns]. scratch holds a row of
 * the file. */
static void read_panel(const matrix *m, uint32_t row, float *out, float *scratch)
{
    const source *s = part_of(m, &row);
    uint32_t cols = m->public.cols, P = s->rows.size;

    memset(out, 0, (size_t)EY_LANES * cols * sizeof *out);
    if (m->gates) {                        /* stored [block, in, out]: an input's 16 outputs are neighbours */
        uint64_t block = row / ey_pad(P), column = row % ey_pad(P), n = ey_min(P - column, EY_LANES);
        for (uint32_t k = 0; k < P; k++) {
            ey_tensor_read(s->weight, (block * P + k) * P + column, n, scratch);
            for (uint32_t lane = 0; lane < n; lane++) out[lane * cols + k] = scratch[lane];
        }
        return;
    }
    uint32_t n = ey_dim_count(m->cols), size = m->cols.size;
    for (uint32_t lane = 0; lane < EY_LANES; lane++, out += cols) {
        int64_t from = plain_index(s->rows, row + lane);
        if (from < 0) continue;
        ey_tensor_read(s->weight, (uint64_t)from * n, n, scratch);
        for (uint32_t g = 0; g < m->cols.groups; g++) memcpy(out + g * ey_pad(size), scratch + g * size, size * sizeof *out);
    }
}

static eyrie_status load_bias(ey_weights *w, const matrix *m, eyrie_error *err)
{
    const ey_matrix *p = &m->public;
    float *bias = ey_calloc(p->rows, sizeof *bias), *in = NULL;
    eyrie_status st = EYRIE_OK;

    if (!bias) return ey_fail(err, EYRIE_ENOMEM, "%s: its bias", p->name);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        if (!m->parts[i].bias) continue;
        if (!(in = read_all(w, m->parts[i].bias, err))) {
            st = EYRIE_ENOMEM;
            goto done;
        }
        for (uint32_t r = 0; r < p->rows; r++) {
            uint32_t row = r;
            if (part_of(m, &row) != &m->parts[i]) continue;
            int64_t from = plain_index(m->parts[i].rows, row);
            if (from >= 0) bias[r] = in[from];
        }
        ey_free(in);
    }
    st = ey_buffer_write(w->arena.dev, p->bias, 0, (uint64_t)p->rows * sizeof *bias, bias, err);
done:
    ey_free(bias);
    return st;
}

/* Panels of a matrix on their way into the format. Workers share nothing but what they read. */
typedef struct packing {
    const matrix   *m;
    const ey_quant *q;
    uint64_t        panel_bytes;
    uint32_t        row;                    /* the first of the panels that are being made */
    unsigned char  *to;
    size_t          floats;                 /* of a worker: 16 rows, and one of the file */
    float          *memory;
} packing;

static void pack_panel(void *user, uint32_t worker, uint32_t i)
{
    const packing *p = user;
    float *rows = p->memory + worker * p->floats;

    read_panel(p->m, p->row + i * EY_LANES, rows, rows + EY_LANES * p->m->public.cols);
    p->q->pack(rows, p->m->public.cols, p->to + i * p->panel_bytes);
}

/* Rows [row, row + n) to `to`. */
static eyrie_status pack_rows(ey_weights *w, const matrix *m, uint32_t row, uint32_t n, unsigned char *to, eyrie_error *err)
{
    packing p = { .m = m, .q = ey_quant_of(m->public.format), .row = row, .to = to };
    uint32_t workers = ey_cores(), panels = n / EY_LANES;

    p.panel_bytes = ey_quant_panel_bytes(p.q, m->public.cols);
    p.floats = (size_t)EY_LANES * m->public.cols + ey_max(ey_dim_count(m->cols), EY_LANES);
    if (panels * p.panel_bytes < ALONE_BYTES) workers = 1;
    if (!(p.memory = ey_calloc(workers * p.floats, sizeof *p.memory)))
        return ey_fail(err, EYRIE_ENOMEM, "%s: packing it", m->public.name);
    for (uint32_t done = 0, step; done < panels; done += step) {
        step = (uint32_t)ey_min(panels - done, ey_max(STEP_BYTES / p.panel_bytes, 1));
        ey_parallel(workers, step, pack_panel, &p);
        p.row += step * EY_LANES;
        p.to += step * p.panel_bytes;
        advance(w, step * p.panel_bytes);
    }
    ey_free(p.memory);
    return EYRIE_OK;
}

/* What is packed already, and not used in place. */
static eyrie_status copy_shard(ey_weights *w, const matrix *m, const struct ey_shard *s, eyrie_error *err)
{
    uint64_t panel = ey_quant_panel_bytes(ey_quant_of(m->public.format), m->public.cols), bytes = s->rows / EY_LANES * panel;
    const unsigned char *from = m->panels->data + s->row0 / EY_LANES * panel;
    eyrie_status st = EYRIE_OK;

    for (uint64_t done = 0, n; done < bytes; done += n) {
        n = ey_min(bytes - done, STEP_BYTES);
        if (!s->buffer->host) EY_TRY(ey_buffer_write(w->arena.dev, s->buffer, done, n, from + done, err));
        advance(w, n);
    }
done:
    return st;
}

static eyrie_status load_matrix(ey_weights *w, const matrix *m, eyrie_error *err)
{
    const ey_matrix *p = &m->public;
    eyrie_status st = EYRIE_OK;

    for (uint32_t i = 0; i < p->n_shards; i++) {
        void *to;
        if (m->panels) {
            EY_TRY(copy_shard(w, m, &p->shards[i], err));
            continue;
        }
        EY_TRY(ey_buffer_map(w->arena.dev, p->shards[i].buffer, &to, err));
        st = pack_rows(w, m, p->shards[i].row0, p->shards[i].rows, to, err);
        eyrie_status unmapped = ey_buffer_unmap(w->arena.dev, p->shards[i].buffer, to, st == EYRIE_OK ? err : NULL);
        if (st == EYRIE_OK) st = unmapped;
        if (st != EYRIE_OK) goto done;
    }
    st = load_bias(w, m, err);
done:
    return st;
}

static float transformed(ey_transform transform, float x)
{
    double p = x;
    switch (transform) {
    case EY_ONE_PLUS: return 1.0f + x;
    case EY_DECAY:    return (float)(8.0 * (fmax(p, 0.0) + log1p(exp(-fabs(p)))));
    default:          return x;
    }
}

static eyrie_status load_vector(ey_weights *w, const vector *v, eyrie_error *err)
{
    uint32_t padded = ey_dim_padded(v->dim);
    float *out = ey_calloc((size_t)padded * v->taps, sizeof *out), *in = NULL;
    eyrie_status st = EYRIE_ENOMEM;

    if (!out) {
        (void)ey_fail(err, st, "%s", v->data->name);
    } else if ((in = read_all(w, v->data, err)) != NULL) {
        for (uint32_t i = 0; i < padded; i++) {
            int64_t from = plain_index(v->dim, i);
            for (uint32_t j = 0; j < v->taps && from >= 0; j++)
                out[j * padded + i] = transformed(v->transform, in[(uint64_t)from * v->taps + j]);
        }
        st = ey_buffer_write(w->arena.dev, v->buffer, 0, (uint64_t)padded * v->taps * sizeof *out, out, err);
    }
    ey_free(out);
    ey_free(in);
    return st;
}

eyrie_status ey_weights_load(ey_weights *w, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(ey_arena_commit(&w->arena, err));
    for (size_t i = 0; i < w->n_matrices; i++) EY_TRY(load_matrix(w, w->matrices[i], err));
    for (size_t i = 0; i < w->n_vectors; i++) EY_TRY(load_vector(w, &w->vectors[i], err));
    st = ey_device_finish(w->arena.dev, err);
done:
    return st;
}

/* Buffers of as many bytes can hold other formats. */
bool ey_weights_borrow(ey_weights *w, const ey_weights *from)
{
    bool alike = w->n_matrices == from->n_matrices;

    for (size_t i = 0; i < w->n_matrices && alike; i++)
        alike = w->matrices[i]->public.format == from->matrices[i]->public.format;
    return alike && ey_arena_borrow(&w->arena, &from->arena);
}

bool ey_weights_in_file(const ey_weights *w)
{
    for (size_t i = 0; i < w->arena.n; i++)
        if (w->arena.buffers[i]->host) return true;
    return false;
}

/* -------------------------------------------------------------------------------------------------------- writing */

static eyrie_status write_gap(ey_output *o, uint64_t bytes, eyrie_error *err)
{
    static const unsigned char zeros[EY_ALIGNMENT];
    return ey_output_write(o, zeros, ey_file_gap(bytes), err);
}

static eyrie_status write_matrix(ey_weights *w, const matrix *m, ey_output *o, unsigned char *memory, eyrie_error *err)
{
    uint64_t panel = ey_quant_panel_bytes(ey_quant_of(m->public.format), m->public.cols);
    uint32_t most = (uint32_t)ey_max(STEP_BYTES / panel, 1) * EY_LANES;
    eyrie_status st;

    for (uint32_t row = 0, n; row < m->public.rows; row += n) {
        n = (uint32_t)ey_min(m->public.rows - row, most);
        EY_TRY(pack_rows(w, m, row, n, memory, err));
        EY_TRY(ey_output_write(o, memory, n / EY_LANES * panel, err));
    }
    st = write_gap(o, m->public.rows / EY_LANES * panel, err);
done:
    return st;
}

/* The tensors of the new file: matrices in panels, with names that the caller frees, then what stays as it is. */
static size_t list_tensors(const ey_weights *w, ey_tensor_data *list)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_matrices; i++) {
        const matrix *m = w->matrices[i];
        const ey_quant *q = ey_quant_of(m->public.format);
        const char *first = m->parts[0].weight->name;
        size_t length = strlen(first) + 8;
        char *name = ey_calloc(length, 1);
        ey_tensor_data *t = &list[n++];
        if (name) snprintf(name, length, "%s.%s", first, q->name);
        *t = (ey_tensor_data){ .name = name, .dtype = EY_U8, .rank = 2 };
        t->shape[0] = m->public.rows / EY_LANES;
        t->shape[1] = ey_quant_panel_bytes(q, m->public.cols);
        t->count = t->shape[0] * t->shape[1];
    }
    for (size_t i = 0; i < w->n_matrices; i++)
        for (uint32_t k = 0; k < w->matrices[i]->public.n_parts; k++)
            if (w->matrices[i]->parts[k].bias) list[n++] = *w->matrices[i]->parts[k].bias;
    for (size_t i = 0; i < w->n_vectors; i++) list[n++] = *w->vectors[i].data;
    return n;
}

eyrie_status ey_weights_write(ey_weights *w, ey_output *o, const char *identity, eyrie_error *err)
{
    const char *const notes[] = { EY_LAYOUT_NOTE, EY_LAYOUT, EY_IDENTITY_NOTE, identity };
    ey_tensor_data *list = ey_calloc(w->n_matrices * (1 + EY_MAX_PARTS) + w->n_vectors, sizeof *list);
    unsigned char *memory = NULL;
    uint64_t largest = STEP_BYTES;
    size_t n = 0;
    eyrie_status st = EYRIE_OK;

    if (w->packed) {
        st = ey_fail(err, EYRIE_EINVAL, "the checkpoint is packed already; pack the one it was made from");
        goto done;
    }
    if (list) n = list_tensors(w, list);
    for (size_t i = 0; i < w->n_matrices && list; i++) {
        largest = ey_max(largest, list[i].shape[1]);
        if (!list[i].name) n = 0;
    }
    if (n == 0 || !(memory = ey_calloc((size_t)largest, 1))) {
        st = ey_fail(err, EYRIE_ENOMEM, "packing weights");
        goto done;
    }
    w->verb = "packing weights";
    EY_TRY(ey_file_write_header(o, list, n, notes, sizeof notes / sizeof *notes / 2, err));
    for (size_t i = 0; i < w->n_matrices; i++) EY_TRY(write_matrix(w, w->matrices[i], o, memory, err));
    for (size_t i = w->n_matrices; i < n; i++) {
        uint64_t bytes = list[i].count * ey_dtype_size(list[i].dtype);
        EY_TRY(ey_output_write(o, list[i].data, bytes, err));
        EY_TRY(write_gap(o, bytes, err));
    }
done:
    for (size_t i = 0; i < w->n_matrices && list; i++) ey_free((char *)(uintptr_t)list[i].name);
    ey_free(list);
    ey_free(memory);
    return st;
}

/* --------------------------------------------------------------------------------------------------------- making up */

/* Sets the kernel's arguments in order. */
static cl_int set_args(cl_kernel kernel, const cl_mem *panels, const cl_int ints[6], const cl_ulong steps[3],
                       const ey_recipe *r)
{
    const struct { size_t size; const void *value; } args[] = {
        { sizeof *panels, panels },
        { sizeof *ints, &ints[0] }, { sizeof *ints, &ints[1] }, { sizeof *ints, &ints[2] }, { sizeof *ints, &ints[3] },
        { sizeof *ints, &ints[4] }, { sizeof *ints, &ints[5] },
        { sizeof *steps, &steps[0] }, { sizeof *steps, &steps[1] }, { sizeof *steps, &steps[2] },
        { sizeof r->key[0], &r->key[0] }, { sizeof r->key[1], &r->key[1] }, { sizeof r->scale, &r->scale },
    };
    cl_int code = CL_SUCCESS;

    for (cl_uint i = 0; i < sizeof args / sizeof *args && code == CL_SUCCESS; i++)
        EY_CL(code, clSetKernelArg, kernel, i, args[i].size, args[i].value);
    return code;
}

/* n panels of a shard from its row `row` on, which is row `first` of part s; of a paired matrix every second panel. */
static eyrie_status fill_panels(ey_weights *w, const matrix *m, const source *s, cl_kernel kernel, const ey_buffer *shard,
                                uint32_t row, uint32_t first, uint32_t n, eyrie_error *err)
{
    static const size_t one = 1;
    const uint64_t P = s->rows.size, columns = ey_dim_count(m->cols);
    const size_t global = n;
    const cl_int ints[6] = { (cl_int)(row / EY_LANES), m->public.paired ? 2 : 1, (cl_int)(first / EY_LANES),
                             (cl_int)m->public.cols, (cl_int)P, (cl_int)m->cols.size };
    const cl_ulong dense[3] = { P * columns, columns, 1 }, gates[3] = { P * P, 1, P };
    ey_recipe recipe = recipe_of(w, s->weight);
    cl_int code = set_args(kernel, &shard->mem, ints, m->gates ? gates : dense, &recipe);

    if (code == CL_SUCCESS)
        EY_CL(code, clEnqueueNDRangeKernel, w->arena.dev->queue, kernel, 1, NULL, &global, &one, 0, NULL, NULL);
    return code == CL_SUCCESS ? EYRIE_OK : ey_fail_cl(err, code, "%s: making its weights", m->public.name);
}

static eyrie_status fill_matrix(ey_weights *w, const matrix *m, ey_program *program, eyrie_error *err)
{
    const ey_matrix *p = &m->public;
    const ey_quant *q = ey_quant_of(p->format);
    uint64_t panel_bytes = ey_quant_panel_bytes(q, p->cols), most = ey_max(STEP_BYTES / panel_bytes / 2, 1) * 2 * EY_LANES;
    char name[40];
    cl_kernel kernel;
    eyrie_status st;

    snprintf(name, sizeof name, "fill_%s", q->name);
    EY_TRY(ey_program_kernel(program, name, &kernel, err));
    for (uint32_t i = 0; i < p->n_shards; i++) {
        const struct ey_shard *shard = &p->shards[i];
        for (uint32_t row = 0, n; row < shard->rows; row += n) {
            n = (uint32_t)ey_min(shard->rows - row, most);
            for (uint32_t k = 0; k < (p->paired ? 2 : 1); k++) {
                uint32_t at = row + k * EY_LANES, first = shard->row0 + at;
                const source *s = part_of(m, &first);
                if (!p->paired) n = (uint32_t)ey_min(n, ey_dim_padded(s->rows) - first);
                EY_TRY(fill_panels(w, m, s, kernel, shard->buffer, at, first, n / EY_LANES / (p->paired ? 2 : 1), err));
            }
            EY_TRY(ey_device_finish(w->arena.dev, err));
            advance(w, n / EY_LANES * panel_bytes);
        }
    }
    st = load_bias(w, m, err);
done:
    return st;
}

eyrie_status ey_weights_fill(ey_weights *w, ey_program *program, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(ey_arena_commit(&w->arena, err));
    for (size_t i = 0; i < w->n_matrices; i++) EY_TRY(fill_matrix(w, w->matrices[i], program, err));
    for (size_t i = 0; i < w->n_vectors; i++) EY_TRY(load_vector(w, &w->vectors[i], err));
done:
    return st;
}
