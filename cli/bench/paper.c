/* paper.c - `eyrie bench paper`: which cells of which models the paper's figures need, and measuring them. */
#include "paper.h"
#include "lab.h"
#include "statistics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LENGTHS = 64, MOST_EXPERIMENTS = CLI_PAPER_MODELS * (1 + MOST_LENGTHS), SEVERAL = 4 };

/* A model's cells that are measured in turn. */
typedef struct plan {
    size_t    model;
    cli_cell *cells;                /* [n] */
    size_t    n, capacity;
    double    seconds;              /* of a repetition, predicted */
} plan;

typedef struct study {
    cli_benchmark   *b;
    cli_paper        paper;
    eyrie_model_opts opts;          /* of all models */
    eyrie_rates      rates;         /* what the device allows */
    uint64_t         memory;        /* bytes for models that are open at the same time */
    plan             plans[MOST_EXPERIMENTS];
    size_t           n;
    char             names[3][64];
} study;

static cli_counts given_or(const cli_counts *given, uint64_t *usual, size_t n)
{
    return given->n ? *given : (cli_counts){ usual, n, 0 };
}

static void choose_axes(cli_paper *p, const cli_options *o)
{
    static uint64_t depths[] = { 0, 1024, 2048, 4096, 8192 }, few_depths[] = { 0, 2048 }, batches[] = { 1, 16 };
    static uint64_t prompts[] = { 512, 1024, 2048, 4096 }, prompt[] = { 512 }, lengths[] = { 512, 1024, 2048, 4096 },
                    few_lengths[] = { 512, 1024, 2048 };

    p->depths = o->quick ? given_or(&o->depths, few_depths, 2) : given_or(&o->depths, depths, 5);
    p->batches = given_or(&o->batches, batches, 2);
    p->prompts = o->quick ? given_or(&o->prompts, prompt, 1) : given_or(&o->prompts, prompts, 4);
    p->lengths = o->quick ? given_or(&o->generated, few_lengths, 3) : given_or(&o->generated, lengths, 4);
}

/* Those that the command line names, else the paper's three of a size. */
static void choose_models(study *s)
{
    static const char *const families[] = { "hawk", "griffin", "mqa" };
    const cli_options *o = s->b->o;
    cli_paper *p = &s->paper;

    for (p->n_models = 0; p->n_models + 1 < o->words.n; p->n_models++)
        p->models[p->n_models] = o->words.items[p->n_models + 1];
    for (size_t i = 0; i < 3 && o->words.n == 1; i++) {
        snprintf(s->names[i], sizeof s->names[i], "synthetic:%s-%s", families[i], o->size ? o->size : "100m");
        p->models[p->n_models++] = s->names[i];
    }
}

/* ------------------------------------------------------------------------------------------------------------ room */

static eyrie_model_opts with_context(const study *s, uint64_t context)
{
    eyrie_model_opts opts = s->opts;

    opts.context = context;
    return opts;
}

/* How many sequences of each length fit beside each model's weights, and what one takes. The budget, where none is
 * given, leaves a quarter of the device's free memory to the sequences that others are forked from. */
static int find_room(study *s)
{
    cli_paper *p = &s->paper;
    eyrie_model_costs costs;
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_error err;

    cli_bench_show(s->b, NAN, "counting bytes");
    if (eyrie_model_predict(p->models[0], &s->opts, s->b->device, 0, &costs, &err) != EYRIE_OK
        || eyrie_device_recall(s->b->device, &s->rates, &(bool){ false }, &err) != EYRIE_OK)
        return cli_fail("%s", err.text);
    s->memory = costs.memory / 4 * 3;       /* scratch and the meter need some, too */
    p->memory = s->b->o->memory ? s->b->o->memory : s->memory;
    if (p->memory > costs.memory)
        return cli_fail("--memory %" PRIu64 ": the device has %" PRIu64 " bytes free", p->memory, costs.memory);
    for (size_t m = 0; m < p->n_models; m++)
        for (size_t i = 0; i < p->lengths.n; i++) {
            eyrie_model_opts opts = with_context(s, p->lengths.items[i] + 2);
            if (eyrie_model_predict(p->models[m], &opts, NULL, p->memory, &costs, &err) != EYRIE_OK
                || eyrie_model_inspect(p->models[m], &opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
            p->room[m][i] = costs.sequences < EYRIE_STEP_SEQUENCES ? costs.sequences : EYRIE_STEP_SEQUENCES;
            p->state[m][i] = info.state_bytes;
            if (costs.sequences == 0)
                return cli_fail("%s: weights of %" PRIu64 " bytes and %" PRIu64 " for a sequence of %" PRIu64
                                " tokens do not fit into %" PRIu64 "; a larger --memory or a shorter -n",
                                p->models[m], info.weight_bytes, info.state_bytes, p->lengths.items[i], p->memory);
        }
    return CLI_DONE;
}

/* ----------------------------------------------------------------------------------------------------------- plans */

static void add_cell(plan *p, cli_cell cell)
{
    cli_grow(&p->cells, &p->capacity, p->n + 1, sizeof *p->cells);
    p->cells[p->n++] = cell;
}

/* So few tokens that the depth hardly changes. */
static uint64_t tokens_of(const study *s, uint64_t batch)
{
    return s->b->o->quick ? SEVERAL : batch > 4 ? 2 * SEVERAL : 4 * SEVERAL;
}

/* Steps over depth, and prompts. */
static void plan_curves(study *s, size_t model)
{
    const cli_paper *p = &s->paper;
    plan *own = &s->plans[s->n++];

    *own = (plan){ .model = model };
    for (size_t i = 0; i < p->prompts.n; i++)
        if (p->prompts.items[i]) add_cell(own, (cli_cell){ false, p->prompts.items[i], 0, p->batches.items[0] });
    for (size_t d = 0; d < p->depths.n; d++)
        for (size_t b = 0; b < p->batches.n; b++)
            add_cell(own,
                     (cli_cell){ true, tokens_of(s, p->batches.items[b]), p->depths.items[d], p->batches.items[b] });
}

static bool is_among(const cli_counts *list, uint64_t n)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i] == n) return true;
    return false;
}

/* Steps of as many sequences as fit, up to the longest length for which so many do. */
static void plan_throughput(study *s, size_t model)
{
    const cli_paper *p = &s->paper;

    for (size_t i = 0; i < p->lengths.n; i++) {
        uint64_t batch = p->room[model][i];
        plan *own;
        if (is_among(&p->batches, batch) || (i > 0 && p->room[model][i - 1] == batch)) continue;
        own = &s->plans[s->n++];
        *own = (plan){ .model = model };
        add_cell(own, (cli_cell){ true, tokens_of(s, batch), 0, batch });
        for (size_t k = i; k < p->lengths.n && p->room[model][k] == batch; k++)
            add_cell(own, (cli_cell){ true, tokens_of(s, batch), p->lengths.items[k], batch });
    }
}

/* What the cost model makes of a cell: the seconds of a repetition, with a context that holds it. */
static int cost_of(const study *s, const char *model, const cli_cell *c, const eyrie_rates *rates, eyrie_work *work)
{
    eyrie_model_opts opts = with_context(s, c->depth + c->tokens + 2);
    eyrie_error err;

    *work = (eyrie_work){ .generates = c->decode, .sequences = c->batch, .position = c->depth, .tokens = c->tokens };
    return eyrie_model_cost(model, &opts, rates, work, 1, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

static int expect(const study *s, plan *p)
{
    eyrie_work work;

    for (size_t i = 0; i < p->n; i++) {
        if (cost_of(s, s->paper.models[p->model], &p->cells[i], &s->rates, &work) != CLI_DONE) return CLI_FAILED;
        p->seconds += work.seconds;
    }
    return CLI_DONE;
}

static int make_plans(study *s)
{
    int status = CLI_DONE;

    for (size_t m = 0; m < s->paper.n_models; m++) plan_curves(s, m);
    for (size_t m = 0; m < s->paper.n_models && !s->b->o->quick; m++) plan_throughput(s, m);
    for (size_t i = 0; i < s->n && status == CLI_DONE; i++) status = expect(s, &s->plans[i]);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- measuring */

/* Experiments from `first` on whose models have room beside each other, at least one; 0 after saying why it cannot be. */
static size_t group_from(const cli_experiment *list, size_t first, size_t n, uint64_t memory)
{
    uint64_t bytes = 0;
    size_t i = first;

    for (; i < n; i++) {
        uint64_t more = cli_lab_bytes(&list[i]);
        if (more == 0) return 0;
        if (i > first && (more > memory - bytes || bytes > memory)) break;
        bytes += more;
    }
    return i - first;
}

/* All that have room beside each other are measured in turn, so that what a machine does over minutes is not taken
 * for what models do. Where there is little time, each group has its share of what is left. */
static int run_plans(study *s)
{
    cli_benchmark *b = s->b;
    const cli_options *o = b->o;
    cli_experiment *list = cli_resize(NULL, s->n, sizeof *list);
    double end = b->deadline, left = 0;
    int status = CLI_DONE;

    for (size_t i = 0; i < s->n; i++) {
        const plan *p = &s->plans[i];
        left += p->seconds;
        list[i] = (cli_experiment){ s->paper.models[p->model], o->compute ? o->compute : "auto", s->opts, p->cells,
                                    p->n };
    }
    for (size_t i = 0, n; i < s->n && status == CLI_DONE && !cli_bench_interrupted(b); i += n) {
        double now = cli_seconds(), these = 0;
        if ((n = group_from(list, i, s->n, s->memory)) == 0) {
            status = CLI_FAILED;
            break;
        }
        for (size_t k = i; k < i + n; k++) these += s->plans[k].seconds;
        if (isfinite(end)) b->deadline = now + (end - now) * these / left;
        left -= these;
        status = cli_lab_run(b, &list[i], n, o->repetitions ? o->repetitions : o->quick ? 1 : 3, left / these);
    }
    b->deadline = end;
    free(list);
    return status;
}

static double median_of(const cli_rates *r, double otherwise)
{
    cli_summary s = cli_summarise(r->values, r->n);
    return isfinite(s.median) ? s.median : otherwise;
}

/* What the cost model makes of each row, with the limits that were measured: "formula", seconds of a repetition, and of
 * these "formula_attention". */
static int add_formula(study *s)
{
    const json_t *rows = s->b->rows;
    eyrie_rates decode = { .read_bytes = median_of(&s->b->read, s->rates.read_bytes),
                           .fma_flops = median_of(&s->b->f32, s->rates.fma_flops) };
    eyrie_rates prefill = { .read_bytes = decode.read_bytes, .fma_flops = median_of(&s->b->unit, decode.fma_flops) };
    if (s->opts.varying) decode = prefill;
    eyrie_work work;
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row) {
        cli_cell c = { cli_is_test(row, "decode"), (uint64_t)cli_get_number(row, "tokens"),
                       (uint64_t)cli_get_number(row, "depth"), (uint64_t)cli_get_number(row, "batch") };
        if (cost_of(s, cli_get_text(row, "model"), &c, c.decode ? &decode : &prefill, &work) != CLI_DONE)
            return CLI_FAILED;
        cli_set(row, "formula", cli_number(work.seconds));
        cli_set(row, "formula_attention", cli_number(work.attention));
    }
    return CLI_DONE;
}

/* ---------------------------------------------------------------------------------------------------------- command */

int cli_bench_paper_check(const cli_options *o)
{
    if (o->model) return cli_wrong_usage(o->command, "paper takes models without -m: eyrie bench paper MODEL ... BASELINE");
    if (o->words.n > 1 && o->size) return cli_wrong_usage(o->command, "paper takes --size or models, not both");
    if (o->words.n > 1 + CLI_PAPER_MODELS)
        return cli_wrong_usage(o->command, "paper takes %d models at most", CLI_PAPER_MODELS);
    if (o->words.n == 2) return cli_wrong_usage(o->command, "paper compares models with the last: at least two");
    if (o->chunks.n > 1 || (o->weights && strchr(o->weights, ',')) || (o->compute && strchr(o->compute, ',')))
        return cli_wrong_usage(o->command,
                               "paper measures one setting: one of --weights, --compute and --chunk each");
    if (o->generated.n && o->generated.items[0] == 0)
        return cli_wrong_usage(o->command, "paper generates something: lengths of -n from 1 up");
    return CLI_DONE;
}

int cli_bench_paper(cli_benchmark *b)
{
    study *s = cli_resize(NULL, 1, sizeof *s);
    cli_options one = *b->o;
    int status;

    memset(s, 0, sizeof *s);
    s->b = b;
    if (one.chunks.n) one.chunk = one.chunks.items[0];
    s->opts = cli_model_opts(&one);
    choose_axes(&s->paper, b->o);
    choose_models(s);
    if ((status = find_room(s)) == CLI_DONE && (status = make_plans(s)) == CLI_DONE) {
        status = run_plans(s);
        cli_bench_wipe(b);
        if (json_array_size(b->rows) && add_formula(s) == CLI_DONE) cli_paper_find(b->record, &s->paper);
    }
    cli_bench_wipe(b);
    for (size_t i = 0; i < s->n; i++) free(s->plans[i].cells);
    free(s);
    return status;
}
