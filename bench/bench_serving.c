/* bench_serving.c - eight sequences generate while a long prompt arrives: how long they wait between two tokens, by policy and with
 * two lanes, and what gets done in all.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_serving [-m MODEL] [-i STEPS] [-p TOKENS] [-g TOKENS] [-w FORMAT] [-r ROUNDS] [-d DEVICE]
 *                                             [-t NAME]
 *
 * The unit of waiting is a decode step of the eight alone, measured on an engine like it just before, when the costs have been
 * learnt too; the bound asked for is -i of these. In a round every way serves the same work: 8 sequences generate -g tokens
 * each and, from their tenth token on, there is a prompt of -p tokens, which then generates 16: so few that the others outlast
 * it, and the decode steps of all ways are as many. Intervals are those that begin before the prompt's first token. Throughput
 * is all tokens by the time until all are done, beside that of fifo in the same round; shown are medians of the rounds, and of
 * intervals the percentiles of all together. -t writes traces, NAME-POLICY-LANES.json. */
#include "base.h"
#include "os.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DECODERS = 8, SHORT = 32, LATE = 16, WARM_PROMPT = 1024, WARM_STEPS = 40, MOST_ROUNDS = 99 };

static const struct way { const char *policy; uint32_t lanes; } all_ways[] = {
    { "fifo", 1 }, { "chunked", 1 }, { "roofline", 1 }, { "roofline", 2 },
};
enum { WAYS = sizeof all_ways / sizeof *all_ways };

typedef struct numbers {
    double *values;
    size_t  n, capacity;
} numbers;

typedef struct setting {
    const char      *model;
    eyrie_device    *whole, *parts[2];
    eyrie_model     *one, *two[2];      /* on the whole device; on its parts: decodes, reads */
    const char      *trace;             /* what names of traces begin with; NULL: none */
    double           steps;             /* the bound, in decode steps */
    uint32_t         prompt, generate;
    int32_t         *tokens;            /* [max(prompt, WARM_PROMPT)] */
} setting;

/* What one way has shown. */
typedef struct row {
    numbers intervals;                  /* in decode steps, of all rounds */
    numbers rates, first, steps;        /* of each round: tokens/s, s to the prompt's first token, s of a decode step */
} row;

/* One sequence. */
typedef struct reader {
    numbers *intervals;                 /* NULL: not noted */
    double   last, unit;
    uint64_t n;
    bool     over, ending;          /* ending: the next interval is the last that is noted */
} reader;

static void add(numbers *v, double value)
{
    if (!ey_grow(&v->values, &v->capacity, v->n + 1, sizeof *v->values)) exit(1);
    v->values[v->n++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double percentile(numbers *v, double share)
{
    if (v->n == 0) return 0;
    qsort(v->values, v->n, sizeof *v->values, compare);
    return v->values[(size_t)(share * (double)(v->n - 1) + 0.5)];
}

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    reader *r = user;
    double now = ey_seconds();

    (void)seq;
    if (event->kind == EYRIE_EVENT_END) r->over = true;
    if (event->kind != EYRIE_EVENT_TOKEN) return;
    if (r->intervals && r->n > 0) add(r->intervals, (now - r->last) / r->unit);
    if (r->ending) r->intervals = NULL;
    r->last = now;
    r->n++;
}

static eyrie_status begin(eyrie_engine *e, eyrie_seq **s, const int32_t *tokens, size_t n, uint64_t most, reader *r,
                          eyrie_error *err)
{
    eyrie_request request = { .struct_size = sizeof request, .tokens = tokens, .n_tokens = n, .max_tokens = most,
                              .flags = EYRIE_IGNORE_EOS, .on_event = on_event, .user = r };
    eyrie_status st = eyrie_seq_open(s, e, err);

    *r = (reader){ .unit = 1 };
    return st == EYRIE_OK ? eyrie_seq_submit(*s, &request, err) : st;
}

static eyrie_status step(eyrie_engine *e, eyrie_error *err)
{
    bool busy;
    return eyrie_engine_step(e, &busy, err);
}

static eyrie_status run_out(eyrie_engine *e, eyrie_error *err)
{
    bool busy = true;
    eyrie_status st = EYRIE_OK;

    while (busy && st == EYRIE_OK) st = eyrie_engine_step(e, &busy, err);
    return st;
}

static eyrie_status open_engine(eyrie_engine **e, const setting *s, const struct way *w, double interval, const char *trace,
                                eyrie_error *err)
{
    eyrie_engine_opts opts = { .struct_size = sizeof opts, .policy = w->policy, .token_interval = interval,
                               .prefill = w->lanes == 2 ? s->two[1] : NULL, .trace = trace };
    return eyrie_engine_open(e, w->lanes == 2 ? s->two[0] : s->one, &opts, err);
}

/* Seconds of a decode step of all decoders, and costs that are learnt: the device's cache keeps them for the next engine. */
static eyrie_status warm_up(const setting *s, const struct way *w, double *unit, eyrie_error *err)
{
    eyrie_engine *e;
    eyrie_seq *seqs[DECODERS + 1] = { NULL };
    reader readers[DECODERS + 1];
    numbers times = { 0 };
    eyrie_status st;

    if ((st = open_engine(&e, s, w, 0, NULL, err)) != EYRIE_OK) return st;
    EY_TRY(begin(e, &seqs[DECODERS], s->tokens, WARM_PROMPT, 1, &readers[DECODERS], err));
    EY_TRY(run_out(e, err));
    for (uint32_t i = 0; i < DECODERS; i++) EY_TRY(begin(e, &seqs[i], s->tokens + i, SHORT, WARM_STEPS, &readers[i], err));
    while (readers[DECODERS - 1].n == 0) EY_TRY(step(e, err));
    while (!readers[DECODERS - 1].over) {
        double start = ey_seconds();
        EY_TRY(step(e, err));
        add(&times, ey_seconds() - start);
    }
    EY_TRY(run_out(e, err));
    *unit = percentile(&times, 0.5);
done:
    for (uint32_t i = 0; i <= DECODERS; i++) (void)eyrie_seq_close(seqs[i]);
    (void)eyrie_engine_close(e);
    ey_free(times.values);
    return st;
}

static eyrie_status serve(const setting *s, const struct way *w, row *r, eyrie_error *err)
{
    eyrie_engine *e = NULL;
    eyrie_seq *seqs[DECODERS + 1] = { NULL };
    reader readers[DECODERS + 1] = { { 0 } };
    reader *late = &readers[DECODERS];
    double unit = 0, start, arrived;
    char trace[512];
    eyrie_status st;

    EY_TRY(warm_up(s, w, &unit, err));
    if (s->trace) snprintf(trace, sizeof trace, "%s-%s-%" PRIu32 ".json", s->trace, w->policy, w->lanes);
    EY_TRY(open_engine(&e, s, w, s->steps * unit, s->trace ? trace : NULL, err));
    start = ey_seconds();
    for (uint32_t i = 0; i < DECODERS; i++) EY_TRY(begin(e, &seqs[i], s->tokens + i, SHORT, s->generate, &readers[i], err));
    while (readers[DECODERS - 1].n < 10) EY_TRY(step(e, err));
    for (uint32_t i = 0; i < DECODERS; i++) {
        readers[i].unit = unit;
        readers[i].intervals = &r->intervals;
    }
    arrived = ey_seconds();
    EY_TRY(begin(e, &seqs[DECODERS], s->tokens, s->prompt, LATE, late, err));
    while (late->n == 0) EY_TRY(step(e, err));
    add(&r->first, late->last - arrived);
    for (uint32_t i = 0; i < DECODERS; i++) readers[i].ending = true;
    EY_TRY(run_out(e, err));
    add(&r->rates, (s->prompt + DECODERS * (SHORT + (double)s->generate) + LATE) / (ey_seconds() - start));
    add(&r->steps, unit);
done:
    for (uint32_t i = 0; i <= DECODERS; i++) (void)eyrie_seq_close(seqs[i]);
    (void)eyrie_engine_close(e);
    return st;
}

static eyrie_status open_models(setting *s, eyrie_model_opts opts, eyrie_error *err)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    uint32_t units[2] = { 1, 1 };
    eyrie_status st;

    EY_TRY(eyrie_model_open(&s->one, s->whole, s->model, &opts, err));
    EY_TRY(eyrie_model_get_info(s->one, &info, err));
    if (eyrie_device_split(s->parts, 2, s->whole, units, NULL) != EYRIE_OK)
        EY_TRY(eyrie_device_split(s->parts, 2, s->whole, NULL, err));
    for (uint32_t i = 0; i < 2; i++) {
        EY_TRY(eyrie_model_open(&s->two[i], s->parts[i], s->model, &opts, err));
        opts.share = s->two[0];
    }
    for (uint32_t i = 0; i < ey_max(s->prompt, WARM_PROMPT); i++) s->tokens[i] = (int32_t)(1 + i * 2654435761u % (info.vocab - 1));
done:
    return st;
}

static void print_row(const struct way *w, row *r, const row *fifo)
{
    double ratio[MOST_ROUNDS];
    size_t n = r->rates.n;

    for (size_t i = 0; i < n; i++) ratio[i] = r->rates.values[i] / fifo->rates.values[i];
    numbers ratios = { ratio, n, n };
    printf("| %s | %" PRIu32 " | %.2f | %.2f | %.2f | %.2f | %.0f | %.2f | %.2f |\n", w->policy, w->lanes,
           1e3 * percentile(&r->steps, 0.5), percentile(&r->intervals, 0.5), percentile(&r->intervals, 0.99), percentile(&r->intervals, 1), percentile(&r->rates, 0.5),
           percentile(&ratios, 0.5), percentile(&r->first, 0.5));
}

static void remove_file(void *user, const char *name, uint64_t bytes, int64_t changed)
{
    char *path = ey_path(user, name);

    (void)bytes, (void)changed;
    if (path) (void)remove(path);
    ey_free(path);
}

static int usage(const char *name)
{
    fprintf(stderr, "usage: %s [-m MODEL] [-i STEPS] [-p TOKENS] [-g TOKENS] [-w f32|bf16|q8|q4] [-r ROUNDS] [-d DEVICE] "
            "[-t NAME]\n", name);
    return 2;
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/eyrie-bench-XXXXXX";
    eyrie_device_opts device = { .struct_size = sizeof device, .cache_dir = mkdtemp(directory) };
    eyrie_model_opts model = { .struct_size = sizeof model, .slots = DECODERS + 1 };
    setting s = { .model = "synthetic:griffin-100m", .steps = 4, .prompt = 4000, .generate = 200 };
    row rows[WAYS] = { { { 0 }, { 0 }, { 0 }, { 0 } } };
    long rounds = 3;
    eyrie_error err;
    eyrie_status st;
    int option;

    while ((option = getopt(argc, argv, "m:i:p:g:w:r:d:t:")) != -1) {
        if (option == 'm') s.model = optarg;
        else if (option == 'i') s.steps = strtod(optarg, NULL);
        else if (option == 'p') s.prompt = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'g') s.generate = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'r') rounds = strtol(optarg, NULL, 10);
        else if (option == 'd') device.select = optarg;
        else if (option == 't') s.trace = optarg;
        else if (option == 'w') model.weights = !strcmp(optarg, "f32") ? EYRIE_FORMAT_F32 : !strcmp(optarg, "bf16") ? EYRIE_FORMAT_BF16
                                              : !strcmp(optarg, "q8") ? EYRIE_FORMAT_Q8 : EYRIE_FORMAT_Q4;
        else return usage(argv[0]);
    }
    if (optind != argc || s.steps <= 0 || s.prompt < 1 || s.generate < 20 || rounds < 1 || rounds > MOST_ROUNDS) return usage(argv[0]);
    if (!(s.tokens = ey_calloc(ey_max(s.prompt, WARM_PROMPT) + DECODERS + SHORT, sizeof *s.tokens))) return 1;
    EY_TRY(eyrie_device_open(&s.whole, &device, &err));
    EY_TRY(open_models(&s, model, &err));
    for (long round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < WAYS; i++) EY_TRY(serve(&s, &all_ways[i], &rows[i], &err));
    printf("### serving: %s, 8 sequences, a prompt of %" PRIu32 " tokens, a bound of %g decode steps\n\n%s, %ld rounds.\n\n"
           "| policy | lanes | decode step, ms | p50, steps | p99 | longest | tokens/s | beside fifo | prompt's first token, s |\n"
           "|---|---|---|---|---|---|---|---|---|\n", s.model, s.prompt, s.steps, eyrie_device_name(s.whole), rounds);
    /* fifo last, since sorting its rates ends the pairs. */
    for (uint32_t i = WAYS; i-- > 0;) print_row(&all_ways[i], &rows[i], &rows[0]);
done:
    if (st != EYRIE_OK) fprintf(stderr, "%s: %s\n", argv[0], err.text);
    for (uint32_t i = 2; i-- > 0;) (void)eyrie_model_close(s.two[i]);
    (void)eyrie_model_close(s.one);
    for (uint32_t i = 0; i < 2; i++) (void)eyrie_device_close(s.parts[i]);
    (void)eyrie_device_close(s.whole);
    if (device.cache_dir) {
        ey_dir_each(directory, remove_file, directory);
        (void)rmdir(directory);
    }
    for (uint32_t i = 0; i < WAYS; i++) {
        ey_free(rows[i].intervals.values);
        ey_free(rows[i].rates.values);
        ey_free(rows[i].first.values);
        ey_free(rows[i].steps.values);
    }
    ey_free(s.tokens);
    return st == EYRIE_OK ? 0 : 1;
}
