/* tune.c - measures which tile each product of a model is fastest with on this device, and keeps the answers (tiles.h).
 * The interface is eyrie_tools.h. The products are those that the model's plans would have, recorded one at a time with
 * the same ops on weights made up for it; nothing here chooses when a model is opened.
 *
 * A product is timed on as many copies of its matrix as the model has, or as are more than a cache holds, one after the
 * other: what a model's layers find in the cache they find here, and nothing else. All tiles take turns, so that what
 * the machine does beside this meets them alike. That only ever makes them slower, so of their times the lower quartiles are
 * compared, and the ratios of each round have to agree. */
#include "model.h"
#include "ops/op.h"
#include "os.h"
#include "tiles.h"

#include <eyrie/eyrie_tools.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEYOND_CACHES ((uint64_t)256 << 20)     /* bytes of copies that no cache holds */
#define SAMPLE 0.004                            /* seconds of launches that are timed at once, at least */
#define LONG 3.0                                /* seconds after which a product has no more rounds than LEAST_ROUNDS */
#define BEYOND_NOISE 1.03                       /* how much faster a tile must be than the op's own choice */
#define HOPELESS 0.7                            /* as fast as that in the first rounds: has no more of them */

enum { MOST_TILES = 16, ROUNDS = 15, LEAST_ROUNDS = 5, FIRST_ROUNDS = 3, MOST_LAUNCHES = 4096, TAPS = 4 };

/* A product of the model, and how often its plans have it. */
typedef struct wanted {
    ey_product product;
    uint32_t   times;
} wanted;

typedef struct wish_list {
    wanted *items;
    size_t  n, capacity;
    bool    failed;             /* out of memory: not all are there */
} wish_list;

/* A matrix like the model's, as often as there is room and need, and what products with it need besides. */
typedef struct stand_in {
    ey_weights *weights;
    ey_matrix **copies;
    uint32_t    n;
    ey_buffer  *scale, *taps, *taps_bias, *decay;
    ey_state    state;
} stand_in;

typedef struct candidate {
    ey_tile  tile;
    ey_plan  plan;              /* layer i: the product with copy i */
    ey_act   x, y;              /* y: of the last copy */
    bool     out;               /* of the search: wrong, or hopeless */
    double   seconds[ROUNDS], ratios[ROUNDS];       /* of a product; of the op's own choice in the same round to that */
} candidate;

typedef struct search {
    eyrie_device   *dev;
    ey_program     *program;
    ey_tuning      *forced;     /* room for an entry, which then decides what is recorded */
    const ey_product *product;  /* at hand, and what it is measured with */
    stand_in        with;
    ey_scratch      scratch;
    candidate       list[MOST_TILES];
    uint32_t        n, own;     /* candidates; which of them is the op's own choice */
    uint32_t        rounds, next;       /* done so far; the copy whose turn it is */
    char            wrong[64];  /* tiles that gave other bits */
} search;

/* -------------------------------------------------------------------------------------------------------- products */

static void note_wish(void *user, const ey_product *p)
{
    wish_list *l = user;

    for (size_t i = 0; i < l->n; i++) {
        ey_product *q = &l->items[i].product;
        if (strcmp(p->kernel, q->kernel) || p->format != q->format || p->rows != q->rows || p->cols != q->cols
            || p->blocks != q->blocks || p->normed != q->normed || p->tokens != q->tokens) continue;
        l->items[i].times++;
        return;
    }
    if (l->failed || !ey_grow(&l->items, &l->capacity, l->n + 1, sizeof *l->items)) l->failed = true;
    else l->items[l->n++] = (wanted){ *p, 1 };
}

static int compare_numbers(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static int compare_matrices(const ey_product *a, const ey_product *b)
{
    int c = strcmp(a->kernel, b->kernel);

    if (!c) c = compare_numbers(a->format, b->format);
    if (!c) c = compare_numbers(a->rows, b->rows);
    if (!c) c = compare_numbers(a->cols, b->cols);
    return c ? c : compare_numbers(a->blocks, b->blocks);
}

/* Products with a matrix follow one another, so that it is made once. */
static int compare_wishes(const void *a, const void *b)
{
    const ey_product *x = &((const wanted *)a)->product, *y = &((const wanted *)b)->product;
    int c = compare_matrices(x, y);

    if (!c) c = compare_numbers(x->tokens, y->tokens);
    return c ? c : compare_numbers(x->normed, y->normed);
}

/* In 8 bits or not. */
static bool is(const ey_product *p, const char *kernel)
{
    size_t n = strlen(kernel);
    return strncmp(p->kernel, kernel, n) == 0 && (p->kernel[n] == '\0' || strcmp(p->kernel + n, "_int8") == 0);
}

/* Goes on with its results, in decode: in the convolution or the recurrence. */
static bool goes_on(const ey_product *p) { return is(p, "matmul_conv1d") || is(p, "matmul_rglru"); }
static bool has_gates(const ey_product *p) { return p->blocks > 1 || is(p, "matmul_rglru"); }

static uint32_t x_width(const ey_product *p) { return has_gates(p) ? p->rows / 2 : p->cols; }

/* -------------------------------------------------------------------------------------------------------- stand-in */

static void stand_in_free(stand_in *s)
{
    ey_weights_free(s->weights);
    ey_state_free(&s->state);
    ey_free(s->copies);
    *s = (stand_in){ 0 };
}

static ey_matrix *declare_copy(ey_weights *w, const ey_product *p)
{
    ey_dim half = ey_dim_flat(p->rows / 2), block = { p->blocks, p->cols };

    if (has_gates(p)) return ey_weights_gates(w, (ey_part[]){ { "a.weight", "a.bias", block }, { "b.weight", "b.bias", block } });
    if (is(p, "matmul_geglu"))
        return ey_weights_pair(w, (ey_part[]){ { "a.weight", NULL, half }, { "b.weight", NULL, half } }, ey_dim_flat(p->cols));
    if (is(p, "matmul_conv1d"))
        return ey_weights_matrix(w, (ey_part[]){ { "a.weight", NULL, half }, { "b.weight", NULL, half } }, 2,
                                 ey_dim_flat(p->cols));
    return ey_weights_matrix(w, (ey_part[]){ { "a.weight", NULL, ey_dim_flat(p->rows) } }, 1, ey_dim_flat(p->cols));
}

static eyrie_status stand_in_make(search *s, uint32_t times, eyrie_error *err)
{
    const ey_product *p = s->product;
    stand_in *a = &s->with;
    const char *source;
    uint64_t bytes = p->rows / EY_LANES * ey_quant_panel_bytes(ey_quant_of(p->format), p->cols);
    uint64_t have = ey_device_free_memory(s->dev, &source);
    char text[2][24];
    eyrie_status st;

    *a = (stand_in){ .n = (uint32_t)ey_min(times, (BEYOND_CACHES + bytes - 1) / bytes) };
    while (a->n > 1 && a->n * bytes > have / 2) a->n--;
    if (!(a->copies = ey_calloc(a->n, sizeof *a->copies))) return ey_fail(err, EYRIE_ENOMEM, "copies of a matrix");
    EY_TRY(ey_weights_new_synthetic(&a->weights, s->dev, 1, p->blocks, ey_formats_all(p->format), err));
    for (uint32_t i = 0; i < a->n; i++) {
        ey_weights_prefix(a->weights, "copy %u.", (unsigned)i);
        a->copies[i] = declare_copy(a->weights, p);
    }
    ey_weights_prefix(a->weights, "%s", "");
    a->scale = ey_weights_vector(a->weights, "norm.weight", ey_dim_flat(x_width(p)), 1, EY_ONE_PLUS);
    a->taps = ey_weights_vector(a->weights, "conv_1d.weight", ey_dim_flat(p->rows / 2), TAPS, EY_TRANSPOSE);
    a->taps_bias = ey_weights_vector(a->weights, "conv_1d.bias", ey_dim_flat(p->rows / 2), 1, EY_PLAIN);
    a->decay = ey_weights_vector(a->weights, "recurrent_param", ey_dim_flat(p->rows / 2), 1, EY_DECAY);
    EY_TRY(ey_weights_check(a->weights, err));
    const uint64_t state_bytes = (uint64_t)TAPS * (p->rows / 2) * sizeof(float);
    EY_TRY(ey_state_init(&a->state, s->dev, EY_FEW_ROWS, &state_bytes, 1, err));
    if (ey_weights_bytes(a->weights) > have) {
        st = ey_fail(err, EYRIE_EMEMORY, "measuring a product with %" PRIu32 " x %" PRIu32 " weights takes %s, there is %s (%s)", p->rows,
                     p->cols, ey_bytes_text(ey_weights_bytes(a->weights), text[0]), ey_bytes_text(have, text[1]), source);
        goto done;
    }
    EY_TRY(ey_weights_fill(a->weights, s->program, err));
    st = ey_arena_commit(&a->state.arena, err);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------- recording */

static ey_act record_product(const search *s, ey_plan *p, ey_act x, const ey_matrix *w)
{
    const stand_in *a = &s->with;
    const ey_layer_state *state = &a->state.layers[0];
    ey_act in = ey_act_slice(x, 0, x_width(s->product)), v, y;

    if (s->product->normed) in = ey_norm(in, a->scale, in.width, 1e-6f);
    if (is(s->product, "matmul_geglu")) return ey_matmul_geglu(p, in, w, NULL);
    if (is(s->product, "matmul_rglru"))
        return ey_matmul_rglru(p, w, &(ey_recurrence){ .v = in, .y = ey_act_slice(x, in.width, in.width), .decay = a->decay,
                                                       .state = state });
    if (!is(s->product, "matmul_conv1d")) return ey_matmul(p, in, w);
    ey_matmul_conv1d(p, in, w, &(ey_conv){ a->taps, a->taps_bias, TAPS, state }, &v, &y);
    v.offset = 0;
    v.width = v.stride;
    return v;
}

/* The plan with that tile, or with the op's own choice (tile.rows = 0). All plans take turns in the same scratch memory:
 * x and y live from the first record on, in this order, so each finds them where the others do. */
static eyrie_status record(search *s, candidate *c, ey_tile tile, eyrie_error *err)
{
    uint32_t tokens = s->product->tokens;

    *c = (candidate){ .tile = tile };
    s->forced->n = tile.rows > 0;
    s->forced->list[0] = (ey_tuned){ .product = *s->product, .tile = tile };
    eyrie_status st = ey_plan_begin(&c->plan, EY_DECODE, tokens, goes_on(s->product) ? tokens : 1, s->dev, s->program,
                                    &s->scratch, err);
    if (st != EYRIE_OK) return st;
    c->x = ey_plan_act(&c->plan, tokens, (is(s->product, "matmul_rglru") ? 2 : 1) * x_width(s->product));
    for (uint32_t i = 0; i < s->with.n; i++) {
        c->plan.layer = i;
        c->y = record_product(s, &c->plan, c->x, s->with.copies[i]);
    }
    ey_plan_keep(&c->plan, c->x);
    ey_plan_keep(&c->plan, c->y);
    if (c->plan.status == EYRIE_OK) c->plan.values[c->x.value].first = c->plan.values[c->y.value].first = 0;
    return ey_plan_end(&c->plan, err);
}

static const char *label(const candidate *c) { return c->plan.records[c->plan.n - 1].label; }

/* The tiles that the op can have here, told by the kernels that were recorded; which one it has if nobody decides. */
static eyrie_status record_all(search *s, eyrie_error *err)
{
    char own[40];
    size_t n_tiles;
    const ey_tile *tiles = ey_device_tiles(s->dev, &n_tiles);
    eyrie_status st;

    s->n = 1;
    s->own = MOST_TILES;
    EY_TRY(record(s, &s->list[0], (ey_tile){ 0, 0 }, err));
    snprintf(own, sizeof own, "%s", label(&s->list[0]));
    ey_plan_free(&s->list[0].plan);
    s->n = 0;
    for (size_t i = 0; i < n_tiles && s->n < MOST_TILES; i++) {
        candidate *c = &s->list[s->n++];
        uint32_t rows = 0;
        bool seen = false;

        EY_TRY(record(s, c, tiles[i], err));
        (void)sscanf(strrchr(label(c), '_') + 1, "%" SCNu32, &rows);
        for (uint32_t k = 0; k + 1 < s->n; k++) seen = seen || !strcmp(label(&s->list[k]), label(c));
        if (rows != tiles[i].rows || seen) ey_plan_free(&s->list[--s->n].plan);
        else if (!strcmp(label(c), own)) s->own = s->n - 1;
    }
    if (s->own == MOST_TILES) st = ey_fail(err, EYRIE_EINVAL, "%s: none of the device's tiles", own);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------- measuring */

/* One step in which every row of x is live. */
static eyrie_status write_batch(search *s, eyrie_error *err)
{
    uint32_t tokens = s->product->tokens, n = goes_on(s->product) ? tokens : 1;
    int32_t *ids = ey_calloc(tokens, sizeof *ids), *image = ey_calloc(ey_image_capacity(tokens, n, 0), sizeof *image);
    ey_row rows[EY_FEW_ROWS] = { { .n = 0 } };
    eyrie_status st;

    if (!ids || !image) {
        st = ey_fail(err, EYRIE_ENOMEM, "a batch of %" PRIu32 " tokens", tokens);
    } else {
        for (uint32_t i = 0; i < n; i++) rows[i] = (ey_row){ .slot = i, .n = tokens / n, .tokens = ids };
        uint64_t words = ey_image_write(&(ey_batch){ EY_PREFILL, n, rows }, &(ey_geometry){ 0 }, image);
        st = ey_buffer_write(s->dev, s->scratch.batch, 0, words * sizeof *image, image, err);
    }
    ey_free(ids);
    ey_free(image);
    return st;
}

/* Numbers between -1 and 1, the same on every run. */
static eyrie_status write_x(search *s, eyrie_error *err)
{
    ey_buffer *b = s->scratch.pool[s->list[0].plan.values[s->list[0].x.value].buffer];
    uint64_t n = s->list[0].plan.values[s->list[0].x.value].bytes / sizeof(float);
    float *x = ey_calloc(n, sizeof *x);
    uint32_t state = 1;
    eyrie_status st;

    if (!x) return ey_fail(err, EYRIE_ENOMEM, "inputs");
    for (uint64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)(state >> 8) - (1 << 23)) * 0x1p-23f;
    }
    st = ey_buffer_write(s->dev, b, 0, n * sizeof *x, x, err);
    ey_free(x);
    return st;
}

/* All copies once, then y is what the last one made; before, it is what no product makes. Drivers compile kernels here. */
static eyrie_status get_y(search *s, candidate *c, float *y, uint64_t bytes, eyrie_error *err)
{
    ey_buffer *b = s->scratch.pool[c->plan.values[c->y.value].buffer];
    eyrie_status st;

    memset(y, 0xff, bytes);
    EY_TRY(ey_buffer_write(s->dev, b, 0, bytes, y, err));
    EY_TRY(ey_plan_run(&c->plan, 0, EY_ANY, err));
    st = ey_buffer_read(s->dev, b, 0, bytes, y, err);
done:
    return st;
}

/* Whether all give the bits of the op's own choice. Those that do not are out. */
static eyrie_status verify(search *s, eyrie_error *err)
{
    uint64_t bytes = s->list[s->own].plan.values[s->list[s->own].y.value].bytes;
    float *want = ey_calloc(bytes, 1), *y = ey_calloc(bytes, 1);
    eyrie_status st;

    s->wrong[0] = '\0';
    if (!want || !y) {
        st = ey_fail(err, EYRIE_ENOMEM, "results of a product");
        goto done;
    }
    EY_TRY(get_y(s, &s->list[s->own], want, bytes, err));
    for (uint32_t i = 0; i < s->n; i++) {
        candidate *c = &s->list[i];
        size_t at = strlen(s->wrong);
        if (i == s->own) continue;
        EY_TRY(get_y(s, c, y, bytes, err));
        if (memcmp(y, want, bytes) == 0) continue;
        c->out = true;
        snprintf(s->wrong + at, sizeof s->wrong - at, "%s%" PRIu32 "x%" PRIu32, at ? ", " : "", c->tile.rows, c->tile.panels);
    }
done:
    ey_free(want);
    ey_free(y);
    return st;
}

/* Seconds of a product, over `launches` of them with one copy after the other. */
static eyrie_status sample(search *s, const candidate *c, uint32_t launches, double *seconds, eyrie_error *err)
{
    double start = ey_seconds();
    eyrie_status st;

    for (uint32_t i = 0; i < launches; i++, s->next = (s->next + 1) % s->with.n)
        EY_TRY(ey_plan_run(&c->plan, s->next, s->next + 1, err));
    EY_TRY(ey_device_finish(s->dev, err));
    *seconds = (ey_seconds() - start) / launches;
done:
    return st;
}

/* Of the first rounds. */
static double least(const candidate *c)
{
    double seconds = c->seconds[0];

    for (uint32_t r = 1; r < FIRST_ROUNDS; r++)
        if (c->seconds[r] < seconds) seconds = c->seconds[r];
    return seconds;
}

static eyrie_status time_all(search *s, eyrie_error *err)
{
    candidate *own = &s->list[s->own];
    uint32_t launches = 1;
    double seconds, start;
    eyrie_status st;

    do {
        EY_TRY(sample(s, own, launches, &seconds, err));
        if (seconds * launches >= SAMPLE) break;
        launches *= 2;
    } while (launches < MOST_LAUNCHES);
    start = ey_seconds();
    for (s->rounds = 0; s->rounds < ROUNDS && (s->rounds < LEAST_ROUNDS || ey_seconds() < start + LONG); s->rounds++) {
        uint32_t r = s->rounds;
        for (uint32_t i = 0; i < s->n; i++) {
            candidate *c = &s->list[(i + r) % s->n];
            if (!c->out) EY_TRY(sample(s, c, launches, &c->seconds[r], err));
        }
        for (uint32_t i = 0; i < s->n; i++) {
            candidate *c = &s->list[i];
            if (c->out) continue;
            c->ratios[r] = own->seconds[r] / c->seconds[r];
            c->out = r + 1 == FIRST_ROUNDS && least(own) < HOPELESS * least(c);
        }
    }
done:
    return st;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What is left when the rounds are sorted. */
static double typical(const search *s, const candidate *c) { return c->seconds[s->rounds / 4]; }

/* The fastest in these rounds, and by how much; the op's own choice unless another beats it beyond noise. */
static const candidate *fastest(search *s, double *gain)
{
    const candidate *own = &s->list[s->own], *best = own;

    *gain = BEYOND_NOISE;
    for (uint32_t i = 0; i < s->n; i++) {
        qsort(s->list[i].seconds, s->rounds, sizeof *s->list[i].seconds, compare_doubles);
        qsort(s->list[i].ratios, s->rounds, sizeof *s->list[i].ratios, compare_doubles);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        const candidate *c = &s->list[i];
        double ratio = typical(s, own) / typical(s, c);
        if (c->out || ratio <= *gain || c->ratios[s->rounds / 2] <= 1) continue;
        best = c;
        *gain = ratio;
    }
    if (best == own) *gain = 1;
    return best;
}

/* The same. Of many that are as fast, one is ahead by chance: so it has to win once more, against the op's own choice alone,
 * and what it gains is the lesser of both. */
static eyrie_status choose(search *s, const candidate **best, double *gain, eyrie_error *err)
{
    double again;
    eyrie_status st;

    EY_TRY(time_all(s, err));
    *best = fastest(s, gain);
    if (*best == &s->list[s->own]) goto done;
    for (uint32_t i = 0; i < s->n; i++) s->list[i].out = &s->list[i] != *best && i != s->own;
    EY_TRY(time_all(s, err));
    *best = fastest(s, &again);
    if (again < *gain) *gain = again;
done:
    return st;
}

/* ---------------------------------------------------------------------------------------------------------- search */

static void drop_plans(search *s)
{
    for (uint32_t i = 0; i < s->n; i++) ey_plan_free(&s->list[i].plan);
    s->n = 0;
    ey_arena_free(&s->scratch.arena);
}

static eyrie_status check_scratch(const search *s, eyrie_error *err)
{
    const char *source;
    uint64_t have = ey_device_free_memory(s->dev, &source), need = s->scratch.arena.bytes;
    char text[2][24];

    if (need <= have) return EYRIE_OK;
    return ey_fail(err, EYRIE_EMEMORY, "measuring a product of %" PRIu32 " rows takes %s, there is %s (%s); a smaller --chunk helps",
                   s->product->tokens, ey_bytes_text(need, text[0]), ey_bytes_text(have, text[1]), source);
}

static void describe(eyrie_tuned *t, const ey_product *p, ey_tile tile)
{
    snprintf(t->op, sizeof t->op, "%s", p->kernel);
    snprintf(t->tile, sizeof t->tile, "%" PRIu32 "x%" PRIu32, tile.rows, tile.panels);
    t->format = p->format;
    t->rows = p->rows;
    t->cols = p->cols;
    t->blocks = p->blocks;
    t->tokens = p->tokens;
    t->normed = p->normed;
}

/* The product at hand, measured and kept. */
static eyrie_status measure(search *s, eyrie_tuned *t, eyrie_error *err)
{
    const candidate *best;
    ey_tuned entry = { .product = *s->product };
    ey_cost cost;
    double gain;
    eyrie_status st;

    ey_scratch_init(&s->scratch, s->dev, "tuning scratch");
    EY_TRY(record_all(s, err));
    ey_arena_grow(&s->scratch.arena, s->scratch.batch, 4 * ey_image_capacity(s->product->tokens, EY_FEW_ROWS, 0));
    EY_TRY(check_scratch(s, err));
    EY_TRY(ey_arena_commit(&s->scratch.arena, err));
    EY_TRY(write_batch(s, err));
    EY_TRY(write_x(s, err));
    EY_TRY(verify(s, err));
    EY_TRY(choose(s, &best, &gain, err));
    cost = ey_plan_cost(&best->plan);
    entry.tile = best->tile;
    entry.nanoseconds = (uint64_t)(typical(s, best) * 1e9);
    entry.gain = (uint32_t)(gain * 1000 + 0.5);
    describe(t, s->product, best->tile);
    t->seconds = typical(s, best);
    t->gain = gain;
    t->bytes_per_second = (double)cost.bytes / s->with.n / t->seconds;
    t->flops_per_second = (double)cost.flops / s->with.n / t->seconds;
    snprintf(t->wrong, sizeof t->wrong, "%s", s->wrong);
    st = ey_tuning_keep(s->dev, &entry, err);
done:
    drop_plans(s);
    return st;
}

static void recall(eyrie_tuned *t, const ey_tuned *known)
{
    describe(t, &known->product, known->tile);
    t->known = true;
    t->seconds = 1e-9 * (double)known->nanoseconds;
    t->gain = known->gain / 1000.0;
}

static eyrie_status search_all(search *s, const wish_list *wishes, const eyrie_tune_opts *o, eyrie_tune_summary *sum,
                               eyrie_error *err)
{
    ey_progress progress = { o->progress, o->progress_user };
    ey_tuning *known = o->again ? NULL : ey_tuning_read(s->dev);
    const ey_product *made = NULL;
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < wishes->n; i++) {
        const ey_tuned *found = ey_tuning_find(known, &wishes->items[i].product);
        eyrie_tuned t = { .known = false };

        s->product = &wishes->items[i].product;
        if (found) {
            recall(&t, found);
        } else {
            ey_tell(&progress, "measuring products", (double)i / (double)wishes->n);
            if (!made || compare_matrices(made, s->product)) {
                stand_in_free(&s->with);
                EY_TRY(stand_in_make(s, wishes->items[i].times, err));
                made = s->product;
            }
            EY_TRY(measure(s, &t, err));
        }
        sum->products++;
        sum->known += t.known;
        sum->changed += t.gain > 1;
        sum->wrong += t.wrong[0] != '\0';
        if (o->on_tuned) o->on_tuned(o->user, &t);
    }
done:
    stand_in_free(&s->with);
    ey_free(known);
    return st;
}

eyrie_status eyrie_tune(eyrie_device *dev, const char *model, const eyrie_model_opts *opts, const eyrie_tune_opts *o,
                        eyrie_tune_summary *sum, eyrie_error *err)
{
    wish_list wishes = { .failed = false };
    ey_tuning *before = dev->tuning, *listening = ey_calloc(1, sizeof *listening);
    search *s = ey_calloc(1, sizeof *s);
    eyrie_status st;

    *sum = (eyrie_tune_summary){ 0 };
    if (!s || !listening || !(s->forced = ey_calloc(1, sizeof *s->forced + sizeof *s->forced->list))) {
        st = ey_fail(err, EYRIE_ENOMEM, "the search for tiles");
        goto done;
    }
    if (!dev->cache) {
        st = ey_fail(err, EYRIE_EINVAL, "what is measured is kept in a cache directory, and there is none: name one with "
                     "--cache-dir");
        goto done;
    }
    s->dev = dev;
    *listening = (ey_tuning){ .asked = note_wish, .user = &wishes };
    dev->tuning = listening;
    EY_TRY(ey_model_rehearse(&s->program, dev, model, opts, err));
    if (wishes.failed) {
        st = ey_fail(err, EYRIE_ENOMEM, "the list of products");
        goto done;
    }
    if (wishes.n) qsort(wishes.items, wishes.n, sizeof *wishes.items, compare_wishes);
    dev->tuning = s->forced;
    st = search_all(s, &wishes, o, sum, err);
    if (st == EYRIE_OK) ey_program_store(s->program);
done:
    dev->tuning = before;
    if (s) {
        ey_program_free(s->program);
        ey_free(s->forced);
    }
    ey_free(s);
    ey_free(listening);
    ey_free(wishes.items);
    return st;
}
