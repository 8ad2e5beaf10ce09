/* phases.c - the rows of `eyrie bench -m MODEL`: reading prompts and generating, for every setting, length, depth and
 * batch that the options ask for. lab.h times them. */
#include "lab.h"

#include <stdlib.h>
#include <string.h>

/* What to measure where the options do not say; quick: if it is to be. */
static cli_counts or_default(const cli_counts *given, bool quick, uint64_t *usual, size_t n_usual, uint64_t *little,
                             size_t n_little)
{
    if (given->n) return *given;
    return quick ? (cli_counts){ little, n_little, 0 } : (cli_counts){ usual, n_usual, 0 };
}

typedef struct axes {
    cli_counts prompts, generated, depths, batches, chunks;
} axes;

static axes axes_of(const cli_options *o)
{
    static uint64_t p512 = 512, p128 = 128, n128 = 128, n16 = 16, zero = 0, one = 1, few[] = { 1, 4 };

    return (axes){ or_default(&o->prompts, o->quick, &p512, 1, &p128, 1),
                   or_default(&o->generated, o->quick, &n128, 1, &n16, 1),
                   or_default(&o->depths, o->quick, &zero, 1, &zero, 1),
                   or_default(&o->batches, o->quick, &one, 1, few, 2),
                   or_default(&o->chunks, o->quick, &zero, 1, &zero, 1) }; /* chunk 0: the library's choice */
}

/* In the order of lengths, depths and batches; prefill first. The caller frees. */
static cli_cell *cells_of(const axes *a, size_t *n)
{
    cli_cell *cells = NULL;
    size_t capacity = 0;

    *n = 0;
    for (int decode = 0; decode < 2; decode++) {
        const cli_counts *tokens = decode ? &a->generated : &a->prompts;
        for (size_t t = 0; t < tokens->n; t++)
            for (size_t d = 0; d < a->depths.n; d++)
                for (size_t k = 0; k < a->batches.n && tokens->items[t] > 0; k++) {
                    cli_grow(&cells, &capacity, *n + 1, sizeof *cells);
                    cells[(*n)++] = (cli_cell){ decode != 0, tokens->items[t], a->depths.items[d],
                                                a->batches.items[k] };
                }
    }
    return cells;
}

/* Item `i` of "a,b,c" into text; false: there is none. NULL has one, "". */
static bool item_of(const char *list, size_t i, char text[24])
{
    for (; list && i > 0; i--) {
        list = strchr(list, ',');
        if (list) list++;
    }
    text[0] = '\0';
    if (!list) return false;
    snprintf(text, 24, "%.*s", (int)strcspn(list, ","), list);
    return true;
}

static size_t count_of(const char *list)
{
    size_t n = 1;

    for (; list && *list; list++) n += *list == ',';
    return n;
}

int cli_bench_phases(cli_benchmark *b, const char *model)
{
    const cli_options *o = b->o;
    axes a = axes_of(o);
    size_t n_weights = count_of(o->weights), n_compute = count_of(o->compute),
           all = n_weights * n_compute * a.chunks.n, n;
    cli_cell *cells = cells_of(&a, &n);
    char weights[24], compute[24];
    int status = CLI_DONE;

    for (size_t i = 0; i < all && status == CLI_DONE && !cli_bench_interrupted(b); i++) {
        cli_options one = *o;
        cli_experiment e = { .model = model, .compute = compute, .cells = cells, .n = n };

        one.weights = item_of(o->weights, i / a.chunks.n / n_compute, weights) ? weights : NULL;
        if (!item_of(o->compute, i / a.chunks.n % n_compute, compute)) snprintf(compute, sizeof compute, "auto");
        one.compute = compute;
        one.chunk = a.chunks.items[i % a.chunks.n];
        e.opts = cli_model_opts(&one);
        status = cli_lab_run(b, &e, 1, o->repetitions ? o->repetitions : o->quick ? 3 : 5, (double)(all - 1 - i));
    }
    free(cells);
    cli_bench_wipe(b);
    return status;
}
