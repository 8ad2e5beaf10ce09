/* batch.h - the contract between scheduler and model: what one step computes. Also the image of a batch that is
 * uploaded before a plan runs; it is the only thing that changes from step to step, so its layout is here, once, and
 * reaches the kernels as macros of the same names. */
#ifndef EY_BATCH_H
#define EY_BATCH_H

#include "base.h"

typedef enum ey_phase { EY_PREFILL, EY_DECODE, EY_PHASES } ey_phase;
typedef enum ey_want { EY_WANT_NONE, EY_WANT_LAST, EY_WANT_ALL } ey_want;

/* One sequence's share of a step. A slot appears in one row at most. */
typedef struct ey_row {
    uint32_t slot;
    uint32_t n;              /* tokens, at least 1; exactly 1 in decode */
    uint64_t position;       /* of the first token; 0 starts the sequence: whatever the slot held is not looked at */
    const int32_t *tokens;   /* [n], borrowed */
    const int32_t *targets;  /* [n] whose logit is wanted beside the log-sum-exp (-1 = none); NULL = candidates instead */
    ey_want  want;
} ey_row;

typedef struct ey_batch {
    ey_phase      phase;
    uint32_t      n_rows;
    const ey_row *rows;      /* borrowed */
} ey_batch;

/* What every batch of a model has in common. */
typedef struct ey_geometry {
    uint64_t window;         /* most tokens before itself that a token attends to */
    uint32_t ring_blocks;    /* blocks of EY_BLOCK slots in the attention ring; 0 = no attention */
    uint32_t rotary;         /* rotated dimensions of a head; the image has rotary/2 cosines and as many sines a token */
    double   rope_theta;
} ey_geometry;

/* Words (int32) of the image: counts, then word offsets of the tables. */
#define EY_IMAGE_MAP(X)                                                                    \
    X(N_TOKENS)    /* live tokens */                                                       \
    X(N_ROWS)      /* live rows */                                                         \
    X(N_WANTED)    /* tokens whose logits are wanted */                                    \
    X(N_BLOCKS)    /* blocks of positions that the rows touch, those of row 0 first */     \
    X(TOKENS)      /* [N_TOKENS] ids */                                                    \
    X(TOKEN_ROW)   /* [N_TOKENS] row of the token */                                       \
    X(ROWS)        /* [N_ROWS][ROW_WORDS] */                                               \
    X(WANTED)      /* [N_WANTED] index of the token */                                     \
    X(TARGETS)     /* [N_WANTED] id, or -1: candidates */                                  \
    X(BLOCKS)      /* [N_BLOCKS] row of the block */                                       \
    X(ROPE)        /* [N_TOKENS][rotary] floats: cosines, then sines */

/* Words of a row. A position itself has no bound and does not appear. */
#define EY_IMAGE_ROW_MAP(X)                                                                \
    X(ROW_FIRST)   /* index of its first token */                                          \
    X(ROW_COUNT)   /* tokens */                                                            \
    X(ROW_SLOT)                                                                            \
    X(ROW_RESET)   /* 1: the first token is at position 0 */                               \
    X(ROW_ALIGN)   /* position mod 64: place of the first token in its block */            \
    X(ROW_RING)    /* ring block that holds the first token's position */                  \
    X(ROW_PAST)    /* min(position, window): tokens before the first that it sees */       \
    X(ROW_BLOCK)   /* index of its first block */                                          \
    X(ROW_WORDS)   /* size of a row, not a word */

enum ey_image_words {
#define X(name) EY_IMAGE_##name,
    EY_IMAGE_MAP(X)
#undef X
    EY_IMAGE_HEADER = 16
};
enum ey_image_row_words {
#define X(name) EY_IMAGE_##name,
    EY_IMAGE_ROW_MAP(X)
#undef X
};

uint32_t ey_batch_tokens(const ey_batch *b);
uint32_t ey_batch_wanted(const ey_batch *b);
uint32_t ey_batch_blocks(const ey_batch *b);

/* Words that the largest batch of `tokens` tokens in `rows` rows can take. */
uint64_t ey_image_capacity(uint32_t tokens, uint32_t rows, uint32_t rotary);

/* Most blocks that `tokens` tokens in `rows` rows can touch. */
uint32_t ey_image_blocks(uint32_t tokens, uint32_t rows);

/* Writes the image of b; returns its words. Cosines and sines are taken in double, so positions have no bound. */
uint64_t ey_image_write(const ey_batch *b, const ey_geometry *g, int32_t *image);

#endif
