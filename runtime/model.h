/* model.h - a checkpoint on a device: weights, state slots, and plans for both phases in buckets of sizes. Runs batches;
 * who is in them is the scheduler's business. */
#ifndef EY_MODEL_H
#define EY_MODEL_H

#include "batch.h"
#include "config.h"
#include "cost.h"
#include "program.h"
#include "sampler.h"
#include "snapshot.h"
#include "tokenizer.h"

/* Builds the program that the model would run with, the caller's then, and records its plans with this device, for
 * whoever listens to what ops ask of it (tiles.h); nothing is kept, nothing allocated on the device. */
eyrie_status ey_model_rehearse(ey_program **program, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                               eyrie_error *err);

/* What a step left of one wanted token. */
typedef struct ey_result {
    float        lse;               /* log-sum-exp of its logits */
    float        target;            /* logit of the target, where there was one */
    uint32_t     n;                 /* candidates, in ascending order of id; 0 where there was a target */
    ey_candidate best[EY_CANDIDATES];
} ey_result;

typedef struct ey_model_limits {
    uint32_t slots;
    uint32_t chunk;                 /* most tokens of a prefill batch */
    uint32_t prefill_rows, decode_rows;
    uint32_t logits;                /* most wanted tokens of a prefill batch whose logits are all readable */
    uint32_t vocab;
    uint64_t context;               /* 0 = no bound */
} ey_model_limits;

const ey_config    *ey_model_config(const eyrie_model *m);
const ey_tokenizer *ey_model_tokenizer(const eyrie_model *m);       /* NULL = none */
ey_model_limits     ey_model_get_limits(const eyrie_model *m);
eyrie_device       *ey_model_device(const eyrie_model *m);

/* What decides the costs of its steps. Launches are those of the smallest batches, where they weigh most, and not known of
 * a model that is only declared; neither is its scratch. */
void ey_model_shape(const eyrie_model *m, ey_shape *s);

/* A step, in three calls: the batch goes up; layers [from, to) of its phase's plan are enqueued (0, UINT32_MAX: all of
 * them); the results come back. Between them the other phase may run steps of its own. Tokens and slots must be in range. */
eyrie_status ey_model_upload(eyrie_model *m, const ey_batch *b, eyrie_error *err);
eyrie_status ey_model_enqueue(eyrie_model *m, ey_phase phase, uint32_t from, uint32_t to, eyrie_error *err);
eyrie_status ey_model_results(eyrie_model *m, ey_phase phase, const ey_result **results, uint32_t *n, eyrie_error *err);
/* Whether ey_model_results would find the phase's step done instead of waiting for it. Asking starts what is enqueued, and never
 * waits. What the other phase enqueues before the first question counts too: they share a queue. */
bool         ey_model_ready(eyrie_model *m, ey_phase phase);
/* Waits for a part of a step: what was enqueued when ey_model_ready asked first. If it has not, for all. */
eyrie_status ey_model_wait_part(eyrie_model *m, ey_phase phase, eyrie_error *err);
/* Waits for all that is enqueued. */
eyrie_status ey_model_wait(eyrie_model *m, eyrie_error *err);

/* Logits [vocab] of wanted token i of the phase's last step; readable are in decode all, in prefill those of the last
 * ey_model_limits.logits (which start at a multiple of that number). */
eyrie_status ey_model_logits(eyrie_model *m, ey_phase phase, uint32_t i, float *out, eyrie_error *err);

/* The same on the device, to `to` from byte `offset` on; enqueued, not waited for. */
eyrie_status ey_model_copy_logits(eyrie_model *m, ey_phase phase, uint32_t i, ey_buffer *to, uint64_t offset, eyrie_error *err);

/* What a sequence has used of a slot after `position` tokens: its bytes, and these to a buffer of the model's device and
 * back, layer after layer. Enqueued, not waited for. */
uint64_t     ey_model_state_bytes(const eyrie_model *m, uint64_t position);
eyrie_status ey_model_store_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_buffer *to, eyrie_error *err);
eyrie_status ey_model_restore_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_buffer *from, eyrie_error *err);

/* What a sequence has used of a slot after `position` tokens, to another slot, of the same model or of one of the same traits:
 * `from`'s device copies, behind what it has enqueued, and `to`'s next steps wait for that; the caller does not. Where the
 * two share no context, it goes through the host, and the caller waits for both. No step under way may have to_slot in it. */
eyrie_status ey_model_copy_slot(eyrie_model *from, uint32_t slot, eyrie_model *to, uint32_t to_slot, uint64_t position,
                                eyrie_error *err);

/* What has to be the same where a sequence is saved and where it is loaded, for it to go on bit for bit. */
void         ey_model_traits(const eyrie_model *m, ey_traits *traits);
/* A slot to a state file and back, a part for each layer: what a sequence has used of it after `position` tokens. `sizes` is
 * [layers]. Loading compares all sizes before it writes to the slot. */
void         ey_model_state_sizes(const eyrie_model *m, uint64_t position, uint64_t *sizes);
eyrie_status ey_model_save_slot(eyrie_model *m, uint32_t slot, uint64_t position, ey_snapshot_writer *w, eyrie_error *err);
eyrie_status ey_model_load_slot(eyrie_model *m, uint32_t slot, uint64_t position, const ey_snapshot *s, uint32_t first_part,
                                eyrie_error *err);

/* An engine holds the model: one at a time. */
bool ey_model_take(eyrie_model *m);
void ey_model_give(eyrie_model *m);

#endif
