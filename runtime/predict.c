/* predict.c - eyrie_model_predict and eyrie_model_cost: what steps of a model that is only declared cost, and how
 * long they would take. */
#include "learnt.h"
#include "model_parts.h"

#include <inttypes.h>
#include <math.h>

static void fill_steps(const ey_shape *s, const ey_costs *learnt, eyrie_model_costs *costs)
{
    for (uint32_t i = 0; i < EYRIE_STEP_COSTS; i++) {
        eyrie_step_cost *c = &costs->decode[i];
        ey_load rows[1u << 2 * (EYRIE_STEP_COSTS - 1)];

        c->sequences = 1u << 2 * i;
        for (uint32_t k = 0; k < c->sequences; k++) rows[k] = (ey_load){ s->window, 1, 1 };
        ey_demand d = ey_cost_demand(s, EY_DECODE, rows, c->sequences);
        c->bytes = (uint64_t)d.bytes;
        c->flops = (uint64_t)d.flops;
        if (learnt) c->seconds = ey_cost_seconds(learnt, EY_DECODE, rows, c->sequences);
    }
}

eyrie_status eyrie_model_predict(const char *path, const eyrie_model_opts *opts, eyrie_device *dev, uint64_t memory,
                                 eyrie_model_costs *costs, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m = NULL;
    ey_costs *learnt = NULL;
    const char *source;
    ey_shape s;
    eyrie_status st;

    *costs = (eyrie_model_costs){ .memory = memory };
    EY_TRY(ey_model_declare(&m, dev ? dev : &nowhere, path, opts, err));
    ey_model_shape(m, &s);
    if (dev && !memory) costs->memory = ey_device_free_memory(dev, &source);
    if (dev) EY_TRY(ey_learnt_foresee(&learnt, m, &s, costs, err));
    fill_steps(&s, learnt, costs);
    if (learnt) {
        costs->decode_ridge = ey_cost_ridge(learnt, EY_DECODE);
        costs->prefill_ridge = ey_cost_ridge(learnt, EY_PREFILL);
    }
    if (costs->memory)
        costs->sequences = ey_cost_most_sequences(&s, m->opts.context ? m->opts.context : UINT64_MAX, costs->memory);
done:
    ey_free(learnt);
    ey_model_free(m);
    return st;
}

/* ------------------------------------------------------------------------------------------------------------ work */

/* What of a model runs one after the other, each bound by memory or by arithmetic: a step's products may compute
 * while its attention only reads. */
enum { PRODUCTS, ATTENTION, HEAD, PARTS };

static void take_apart(const ey_shape *s, ey_shape parts[PARTS])
{
    parts[PRODUCTS] = (ey_shape){ .layers = s->layers, .layer_bytes = s->layer_bytes, .token_flops = s->token_flops,
                                  .state_bytes = s->state_bytes, .window = s->window };
    parts[ATTENTION] = (ey_shape){
        .layers = s->layers, .key_bytes = s->key_bytes, .key_flops = s->key_flops, .window = s->window
    };
    parts[HEAD] = (ey_shape){
        .layers = s->layers, .head_bytes = s->head_bytes, .head_flops = s->head_flops, .window = s->window
    };
}

/* What work is made of, and where it adds up. */
typedef struct sum {
    const ey_shape    *parts;       /* [PARTS] */
    const eyrie_rates *rates;
    eyrie_work        *work;
} sum;

/* A step, so many times. */
static void add_step(const sum *s, const ey_loads *loads, uint64_t times)
{
    ey_phase phase = s->work->generates ? EY_DECODE : EY_PREFILL;

    for (int i = 0; i < PARTS; i++) {
        ey_demand d = ey_loads_demand(&s->parts[i], phase, loads);
        s->work->bytes += times * (uint64_t)d.bytes;
        s->work->flops += times * (uint64_t)d.flops;
        double seconds = (double)times * fmax(d.bytes / s->rates->read_bytes, d.flops / s->rates->fma_flops);
        s->work->seconds += seconds;
        if (i == ATTENTION) s->work->attention += seconds;
    }
}

/* A step for each token, all sequences in it. */
static void add_generating(const sum *s)
{
    const eyrie_work *w = s->work;
    double n = (double)w->sequences;

    for (uint64_t done = 0; done < w->tokens; done++) {
        ey_loads l = { .rows = 0 };
        ey_loads_add(&l, &s->parts[ATTENTION], &(ey_load){ w->position + done, 1, 1 });
        add_step(s, &(ey_loads){ l.tokens * n, l.wanted * n, l.rows * n, l.keys * n, l.looks * n }, 1);
    }
}

/* So many sequences one after the other, in full steps. Each wants the logits of its last token. */
static void add_sequences(const sum *s, uint64_t sequences, uint64_t chunk, uint64_t times)
{
    const eyrie_work *w = s->work;
    ey_loads loads = { .rows = 0 };
    uint64_t room = chunk;

    for (uint64_t i = 0; i < sequences; i++)
        for (uint64_t done = 0, n; done < w->tokens; done += n) {
            n = ey_min(room, w->tokens - done);
            ey_loads_add(&loads, &s->parts[ATTENTION], &(ey_load){ w->position + done, (uint32_t)n, done + n == w->tokens });
            if ((room -= n) > 0) continue;
            add_step(s, &loads, times);
            loads = (ey_loads){ .rows = 0 };
            room = chunk;
        }
    if (room < chunk) add_step(s, &loads, times);
}

/* Sequences begin where the one before ends, and after `cycle` of them a step is full. */
static void add_reading(const sum *s, uint64_t chunk)
{
    uint64_t a = chunk, b = s->work->tokens % chunk, cycle;

    while (b > 0) {                 /* to the greatest common divisor */
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    cycle = chunk / a;
    if (s->work->sequences >= cycle) add_sequences(s, cycle, chunk, s->work->sequences / cycle);
    add_sequences(s, s->work->sequences % cycle, chunk, 1);
}

static void add_up(const ey_shape parts[PARTS], const eyrie_rates *rates, uint32_t chunk, eyrie_work *w)
{
    const sum s = { parts, rates, w };

    w->bytes = w->flops = 0;
    w->seconds = w->attention = 0;
    if (w->generates) add_generating(&s);
    else add_reading(&s, chunk);
}

static eyrie_status check_work(const eyrie_rates *rates, const eyrie_work *work, size_t n, eyrie_error *err)
{
    if (!(rates->read_bytes > 0) || !(rates->fma_flops > 0) || isinf(rates->read_bytes) || isinf(rates->fma_flops))
        return ey_fail(err, EYRIE_EINVAL, "rates of %g bytes and %g FLOPs a second; both must be above 0",
                       rates->read_bytes, rates->fma_flops);
    for (size_t i = 0; i < n; i++)
        if (!work[i].sequences || !work[i].tokens || work[i].sequences > UINT32_MAX || work[i].tokens > UINT32_MAX
            || work[i].position > INT64_MAX)
            return ey_fail(err, EYRIE_EINVAL,
                           "work %zu: %" PRIu64 " tokens of %" PRIu64 " sequences at position %" PRIu64
                           "; of the first two there are 1 to 2^32 - 1",
                           i, work[i].tokens, work[i].sequences, work[i].position);
    return EYRIE_OK;
}

eyrie_status eyrie_model_cost(const char *path, const eyrie_model_opts *opts, const eyrie_rates *rates,
                              eyrie_work *work, size_t n, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m = NULL;
    ey_shape s, parts[PARTS];
    eyrie_status st;

    EY_TRY(check_work(rates, work, n, err));
    EY_TRY(ey_model_declare(&m, &nowhere, path, opts, err));
    ey_model_shape(m, &s);
    take_apart(&s, parts);
    for (size_t i = 0; i < n; i++) add_up(parts, rates, m->opts.chunk, &work[i]);
done:
    ey_model_free(m);
    return st;
}
