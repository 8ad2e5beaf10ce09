/* step.c - batches through a model's plans: up, through the layers, and what they leave comes back. */
#include "model_parts.h"

#include <inttypes.h>
#include <string.h>

eyrie_status ey_model_upload(eyrie_model *m, const ey_batch *b, eyrie_error *err)
{
    ey_phase_plans *ph = &m->phases[b->phase];
    uint32_t tokens = ey_batch_tokens(b), i = 0;
    ey_geometry g = { m->context.window, m->context.ring_blocks, m->context.ring_blocks ? m->config.rotary : 0,
                      m->config.rope_theta };
    eyrie_status st;

    while (i < ph->n && (ph->buckets[i].plan.tokens < tokens || ph->buckets[i].plan.rows < b->n_rows)) i++;
    if (ph->reading && (st = ey_model_wait(m, err)) != EYRIE_OK) return st;
    if (i == ph->n)
        return ey_fail(err, EYRIE_ELIMIT, "a batch of %" PRIu32 " tokens in %" PRIu32 " rows; at most %" PRIu32 " in %"
                       PRIu32, tokens, b->n_rows, ph->most, ph->buckets[ph->n - 1].plan.rows);
    ph->current = &ph->buckets[i];
    ph->scratch.tokens = tokens;
    ph->scratch.wanted = ph->wanted = ey_batch_wanted(b);
    ph->reading = true;
    uint64_t words = ey_image_write(b, &g, ph->image);
    return ey_buffer_send(m->dev, ph->scratch.batch, words * sizeof *ph->image, ph->image, err);
}

eyrie_status ey_model_enqueue(eyrie_model *m, ey_phase which, uint32_t from, uint32_t to, eyrie_error *err)
{
    ey_phase_plans *ph = &m->phases[which];

    EY_CL_FREE(clReleaseEvent, ph->ended);
    return ey_plan_run(&ph->current->plan, from, to, err);
}

bool ey_model_ready(eyrie_model *m, ey_phase which)
{
    ey_phase_plans *ph = &m->phases[which];

    if (!ph->ended && ey_device_mark(m->dev, &ph->ended, NULL) != EYRIE_OK) return true;    /* reading the results tells why */
    return ey_event_ended(ph->ended);
}

eyrie_status ey_model_wait_part(eyrie_model *m, ey_phase which, eyrie_error *err)
{
    cl_event ended = m->phases[which].ended;
    return ended ? ey_event_wait(m->dev, ended, err) : ey_device_finish(m->dev, err);
}

eyrie_status ey_model_wait(eyrie_model *m, eyrie_error *err)
{
    m->phases[EY_PREFILL].reading = m->phases[EY_DECODE].reading = false;
    return ey_device_finish(m->dev, err);
}

eyrie_status ey_model_results(eyrie_model *m, ey_phase which, const ey_result **results, uint32_t *n, eyrie_error *err)
{
    ey_phase_plans *ph = &m->phases[which];
    eyrie_status st;

    *results = m->results;
    *n = ph->wanted;
    ph->reading = false;
    if (ph->wanted == 0) return ey_device_finish(m->dev, err);
    st = ey_buffer_read(m->dev, ph->results, 0, (uint64_t)ph->wanted * EY_RESULT_WORDS * sizeof *m->raw, m->raw, err);
    for (uint32_t i = 0; i < ph->wanted && st == EYRIE_OK; i++) {
        const int32_t *raw = m->raw + (size_t)i * EY_RESULT_WORDS;
        ey_result *r = &m->results[i];
        memcpy(&r->lse, &raw[0], sizeof r->lse);
        memcpy(&r->target, &raw[1], sizeof r->target);
        r->n = (uint32_t)raw[2];
        for (uint32_t k = 0; k < r->n; k++) {
            r->best[k].id = raw[4 + k];
            memcpy(&r->best[k].logit, &raw[4 + EY_CANDIDATES + k], sizeof r->best[k].logit);
        }
    }
    return st;
}

/* The buffer with the logits of wanted token i, and where they begin in it. */
static eyrie_status find_logits(const eyrie_model *m, ey_phase which, uint32_t i, const ey_buffer **buffer, uint64_t *offset,
                                eyrie_error *err)
{
    const ey_phase_plans *ph = &m->phases[which];
    ey_act logits = ph->current->logits;
    uint32_t tile = ph->current->tile;

    if (i >= ph->wanted || i / tile != (ph->wanted - 1) / tile)
        return ey_fail(err, EYRIE_EINVAL, "logits of wanted token %" PRIu32 " of %" PRIu32 " are gone", i, ph->wanted);
    *buffer = ey_plan_buffer(&ph->current->plan, logits);
    *offset = (uint64_t)(i % tile) * logits.stride * sizeof(float);
    return EYRIE_OK;
}

eyrie_status ey_model_logits(eyrie_model *m, ey_phase which, uint32_t i, float *out, eyrie_error *err)
{
    const ey_buffer *from;
    uint64_t at;
    eyrie_status st = find_logits(m, which, i, &from, &at, err);

    return st == EYRIE_OK ? ey_buffer_read(m->dev, from, at, m->config.vocab * sizeof *out, out, err) : st;
}

eyrie_status ey_model_copy_logits(eyrie_model *m, ey_phase which, uint32_t i, ey_buffer *to, uint64_t offset, eyrie_error *err)
{
    const ey_buffer *from;
    uint64_t at;
    eyrie_status st = find_logits(m, which, i, &from, &at, err);

    return st == EYRIE_OK ? ey_buffer_copy(m->dev, &(ey_range){ from, at, to, offset, m->config.vocab * sizeof(float) }, err) : st;
}
