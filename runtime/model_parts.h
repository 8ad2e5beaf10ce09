/* model_parts.h - what is inside of a model, for the files that make one up: checkpoint.c declares it, model.c opens it, step.c
 * runs it, slots.c moves its sequences, info.c, pack.c and text.c answer for it. Nobody else's. */
#ifndef EY_MODEL_PARTS_H
#define EY_MODEL_PARTS_H

#include "families.h"
#include "model.h"

enum { EY_MAX_BUCKETS = 32 };

/* A residual block. */
typedef struct ey_model_block {
    ey_kind kind;
    union {
        ey_recurrent       recurrent;
        ey_attention_layer attention;
    } mix;
    ey_mlp mlp;
} ey_model_block;

typedef struct ey_bucket {
    ey_plan plan;
    ey_act  logits;             /* of the last tile of wanted rows */
    uint32_t tile;              /* how many that is: in decode, where any may be asked for, all */
} ey_bucket;

/* One phase: its plans, smallest bucket first, with scratch of their own, so that steps of the other phase can run
 * between the parts of one of these. */
typedef struct ey_phase_plans {
    ey_scratch scratch;
    ey_buffer *results;         /* [most tokens][EY_RESULT_WORDS] */
    uint32_t   most;            /* tokens of the largest bucket */
    ey_bucket  buckets[EY_MAX_BUCKETS];
    uint32_t   n;
    int32_t   *image;           /* of the batch uploaded last, which the device may be reading */
    bool       reading;         /* its results have not been waited for */
    ey_bucket *current;         /* that batch's */
    uint32_t   wanted;          /* of that batch */
    cl_event   ended;           /* ends with what was enqueued when ey_model_ready asked first; NULL: it has not asked */
} ey_phase_plans;

struct eyrie_model {
    eyrie_device     *dev;
    ey_config         config;
    const ey_family  *family;
    eyrie_model_opts  opts;     /* resolved: no zeros left but context */
    ey_tokenizer     *tokenizer;
    uint64_t          file_bytes;
    bool              synthetic;
    uint64_t          seed;     /* of a synthetic model */
    ey_weights       *weights;
    ey_file          *file;     /* open until the weights are loaded, or while they are used where they lie in it */
    ey_layer_context  context;
    ey_matrix        *embedding, *head;
    ey_buffer        *final_norm;
    ey_model_block   *blocks;   /* [layers] */
    ey_state          state;
    ey_range         *ranges;   /* [layers], of a state that is copied */
    ey_program       *program;
    bool              unit;     /* prefill is the matrix unit's, with weights in formats that it takes */
    ey_phase_plans    phases[EY_PHASES];
    int32_t          *raw;      /* results as the device left them */
    ey_result        *results;
    bool              taken;    /* an engine is open on it */
    eyrie_model      *lender;   /* whose weights it uses; NULL: its own */
    uint32_t          borrowers;
    char              identity[33];     /* in hexadecimal */
};

/* A model of which the files are read and all tensors and states declared; nothing is allocated on the device, which only has
 * to have a max_alloc. */
eyrie_status ey_model_declare(eyrie_model **out, eyrie_device *dev, const char *path, const eyrie_model_opts *opts,
                              eyrie_error *err);
/* Finds out m->identity. */
eyrie_status ey_model_identify(eyrie_model *m, eyrie_error *err);
/* Whether its prompts are the matrix unit's to read; reason: why not, where that is worth a note, else "". */
bool         ey_model_has_unit(const eyrie_model *m, char reason[320]);
void         ey_model_free(eyrie_model *m);    /* NULL is fine */

#endif
