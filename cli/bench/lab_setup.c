/* lab_setup.c - opens models for what is to be timed: room for the longest sequence and the most of them, and a
 * sequence filled to each depth. */
#include "lab_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 1 << 16 };

/* What each cell moves and computes at least, as the cost model counts it, and with what. A sequence of depth 0 has read one token if it is to
 * generate. */
static int count_work(cli_lab *l, const eyrie_model_opts *opts)
{
    const eyrie_rates any = { .read_bytes = 1, .fma_flops = 1 };
    eyrie_work *work = cli_resize(NULL, l->e->n, sizeof *work);
    eyrie_error err;
    int status;

    for (size_t i = 0; i < l->e->n; i++) {
        const cli_cell *c = &l->e->cells[i];
        work[i] = (eyrie_work){ .generates = c->decode, .sequences = c->batch, .position = c->decode && c->depth == 0 ? 1 : c->depth,
                                .tokens = c->tokens };
    }
    status = eyrie_model_cost(l->e->model, opts, &any, work, l->e->n, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
    for (size_t i = 0; i < l->e->n; i++) {
        l->trials[i].bytes = (double)work[i].bytes;
        l->trials[i].flops = (double)work[i].flops;
        l->trials[i].may_use_unit = l->info.matrix_unit && (!work[i].generates || opts->varying);
    }
    free(work);
    return status;
}

/* --------------------------------------------------------------------------------------------------------- filling */

eyrie_request cli_lab_request(const cli_lab *l, uint64_t n_tokens, uint64_t max_tokens)
{
    return (eyrie_request){ .struct_size = sizeof(eyrie_request), .tokens = l->ids, .n_tokens = (size_t)n_tokens,
                            .max_tokens = max_tokens, .flags = EYRIE_IGNORE_EOS };
}

/* Steps until nothing is left to do, or a signal comes. */
eyrie_status cli_lab_finish(cli_lab *l, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (bool busy = true; busy && st == EYRIE_OK && !cli_bench_interrupted(l->b);)
        st = eyrie_engine_step(l->engine, &busy, err);
    return st;
}

/* Each depth goes on from the one before. A sequence of depth 0 has read one token if it is to generate: something
 * has to be there to go on from. */
static eyrie_status fill(cli_lab *l, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (size_t i = 0; i < l->n_bases && st == EYRIE_OK && !cli_bench_interrupted(l->b); i++) {
        cli_base *this = &l->bases[i];
        uint64_t depth = this->depth ? this->depth : 1, pending;
        st = i == 0 ? eyrie_seq_open(&this->seq, l->engine, err)
                    : eyrie_seq_fork(&this->seq, l->bases[i - 1].seq, err);
        while (st == EYRIE_OK && eyrie_seq_position(this->seq) < depth && !cli_bench_interrupted(l->b)) {
            uint64_t left = depth - eyrie_seq_position(this->seq);
            cli_bench_show(l->b, NAN, "%s: filling a sequence: %" PRIu64 " of %" PRIu64 " tokens", l->e->model,
                           depth - left, depth);
            pending = eyrie_seq_pending(this->seq, NULL);
            if (left > TOKENS / 32) left = TOKENS / 32;
            eyrie_request r = cli_lab_request(l, left - pending, 1);
            if ((st = eyrie_seq_submit(this->seq, &r, err)) == EYRIE_OK) st = cli_lab_finish(l, err);
        }
    }
    return st;
}

/* --------------------------------------------------------------------------------------------------------- opening */

static int compare_depths(const void *a, const void *b)
{
    uint64_t x = ((const cli_base *)a)->depth, y = ((const cli_base *)b)->depth;
    return (x > y) - (x < y);
}

/* A base for each depth, and trials that know theirs. */
static void lay_out(cli_lab *l)
{
    size_t n = l->e->n, used = 0;

    l->bases = cli_resize(NULL, n, sizeof *l->bases);
    l->trials = cli_resize(NULL, n, sizeof *l->trials);
    for (size_t i = 0; i < n; i++) {
        l->bases[i] = (cli_base){ .depth = l->e->cells[i].depth };
        if (l->e->cells[i].batch > l->batch) l->batch = l->e->cells[i].batch;
    }
    qsort(l->bases, n, sizeof *l->bases, compare_depths);
    for (size_t i = 0; i < n; i++)
        if (used == 0 || l->bases[i].depth != l->bases[used - 1].depth) l->bases[used++] = l->bases[i];
    l->n_bases = used;
    for (size_t i = 0; i < n; i++) {
        const cli_base *found = l->bases;
        while (found->depth != l->e->cells[i].depth) found++;
        l->trials[i] = (cli_trial){ .cell = l->e->cells[i], .base = found };
    }
    l->seqs = cli_resize(NULL, (size_t)l->batch, sizeof *l->seqs);
    memset(l->seqs, 0, (size_t)l->batch * sizeof *l->seqs);
}

static void make_ids(cli_lab *l)
{
    uint64_t most = TOKENS;
    uint32_t random = 1;

    for (size_t i = 0; i < l->e->n; i++)
        if (l->e->cells[i].tokens > most) most = l->e->cells[i].tokens;
    l->ids = cli_resize(NULL, (size_t)most, sizeof *l->ids);
    for (uint64_t i = 0; i < most; i++) {
        random = random * 1664525u + 1013904223u;       /* of Numerical Recipes; which tokens hardly matters */
        l->ids[i] = (int32_t)((random >> 8) % l->info.vocab);
    }
}

static void show_opening(void *user, const char *what, double done)
{
    cli_bench_show(user, NAN, "%s: %.0f %%", what, 100 * done);
}

/* Tokens of the longest sequence. */
static uint64_t longest(const cli_experiment *e)
{
    uint64_t most = 0;

    for (size_t i = 0; i < e->n; i++) {
        const cli_cell *c = &e->cells[i];
        uint64_t length = c->depth + c->tokens + (c->decode ? 2 : 1);
        if (length > most) most = length;
    }
    return most;
}

/* Where the model has a bound, it is just that, unless the options say: its memory grows with it. */
static int choose_context(const cli_experiment *e, eyrie_model_opts *opts)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    uint64_t most = longest(e), given = opts->context;
    eyrie_error err;

    if (eyrie_model_inspect(e->model, opts, &info, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    if (given && given < most)
        return cli_fail("depth and tokens come to %" PRIu64 " in a sequence; --context %" PRIu64 " holds less", most,
                        given);
    if (!given && info.context) opts->context = most;
    return CLI_DONE;
}

int cli_lab_failed(cli_benchmark *b, const eyrie_error *err)
{
    cli_bench_wipe(b);
    return cli_fail("%s%s", err->text,
                    err->status == EYRIE_EMEMORY ? "; slots are here the most sequences of -b and one for each -d"
                                                 : "");
}

int cli_lab_open(cli_lab *l)
{
    eyrie_model_opts opts = l->e->opts;
    eyrie_error err;
    int status = choose_context(l->e, &opts);

    if (status != CLI_DONE) return status;
    lay_out(l);
    opts.slots = (uint32_t)(l->batch + l->n_bases);
    opts.progress = show_opening;
    opts.progress_user = l->b;
    l->info.struct_size = sizeof l->info;
    if (eyrie_model_open(&l->model, l->b->device, l->e->model, &opts, &err) != EYRIE_OK
        || eyrie_model_get_info(l->model, &l->info, &err) != EYRIE_OK
        || eyrie_engine_open(&l->engine, l->model, NULL, &err) != EYRIE_OK) return cli_lab_failed(l->b, &err);
    make_ids(l);
    if ((status = count_work(l, &opts)) != CLI_DONE) return status;
    cli_lab_describe(l);
    return fill(l, &err) == EYRIE_OK ? CLI_DONE : cli_lab_failed(l->b, &err);
}

void cli_lab_close(cli_lab *l)
{
    for (size_t i = 0; i < l->e->n && l->trials; i++) {
        const cli_trial *t = &l->trials[i];
        const cli_rates *const all[] = {
            &t->rates, &t->seconds, &t->shares, &t->predicted, &t->read, &t->flop_limit
        };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]->values);
    }
    for (size_t i = 0; i < l->n_bases; i++) (void)eyrie_seq_close(l->bases[i].seq);
    free(l->trials);
    free(l->bases);
    free(l->seqs);
    free(l->ids);
    (void)eyrie_engine_close(l->engine);
    (void)eyrie_model_close(l->model);
}

uint64_t cli_lab_bytes(const cli_experiment *e)
{
    eyrie_model_opts opts = e->opts;
    eyrie_model_info info = { .struct_size = sizeof info };
    cli_lab l = { .e = e };
    eyrie_error err;

    if (choose_context(e, &opts) != CLI_DONE) return 0;
    if (eyrie_model_inspect(e->model, &opts, &info, &err) != EYRIE_OK) return (void)cli_fail("%s", err.text), 0;
    lay_out(&l);
    free(l.trials);
    free(l.bases);
    free(l.seqs);
    return info.weight_bytes + info.state_bytes * (l.batch + l.n_bases);
}
