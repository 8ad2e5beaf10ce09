/* batch.c - writes the image of a batch. */
#include "batch.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static uint32_t row_blocks(const ey_row *r)
{
    return (uint32_t)((r->position % EY_BLOCK + r->n + EY_BLOCK - 1) / EY_BLOCK);
}

static uint32_t row_wanted(const ey_row *r)
{
    return r->want == EY_WANT_ALL ? r->n : r->want == EY_WANT_LAST ? 1 : 0;
}

uint32_t ey_batch_tokens(const ey_batch *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) n += b->rows[i].n;
    return n;
}

uint32_t ey_batch_wanted(const ey_batch *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) n += row_wanted(&b->rows[i]);
    return n;
}

uint32_t ey_batch_blocks(const ey_batch *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) n += row_blocks(&b->rows[i]);
    return n;
}

/* A row of n tokens that starts anywhere touches at most 1 + ceil((n - 1) / 64) blocks, and no row is empty. */
uint32_t ey_image_blocks(uint32_t tokens, uint32_t rows)
{
    uint32_t used = (uint32_t)ey_min(tokens, rows);
    return used + (tokens - used + EY_BLOCK - 1) / EY_BLOCK + used;
}

uint64_t ey_image_capacity(uint32_t tokens, uint32_t rows, uint32_t rotary)
{
    uint64_t per_token = 4 + (uint64_t)rotary;   /* id, row, wanted, target, rope */
    return EY_IMAGE_HEADER + per_token * tokens + (uint64_t)EY_IMAGE_ROW_WORDS * rows + ey_image_blocks(tokens, rows);
}

/* cos and sin of position * theta^(-2j/R): the angle is reduced in double before f32 ever sees it. */
static void write_rope(const ey_geometry *g, uint64_t position, int32_t *words)
{
    uint32_t half = g->rotary / 2;
    for (uint32_t j = 0; j < half; j++) {
        double angle = (double)position * pow(g->rope_theta, -2.0 * j / g->rotary);
        float  c = (float)cos(angle), s = (float)sin(angle);
        memcpy(&words[j], &c, sizeof c);
        memcpy(&words[half + j], &s, sizeof s);
    }
}

uint64_t ey_image_write(const ey_batch *b, const ey_geometry *g, int32_t *image)
{
    uint32_t n_tokens = ey_batch_tokens(b), n_wanted = ey_batch_wanted(b), n_blocks = ey_batch_blocks(b);
    uint64_t at = EY_IMAGE_HEADER;

    memset(image, 0, EY_IMAGE_HEADER * sizeof *image);
    image[EY_IMAGE_N_TOKENS] = (int32_t)n_tokens;
    image[EY_IMAGE_N_ROWS]   = (int32_t)b->n_rows;
    image[EY_IMAGE_N_WANTED] = (int32_t)n_wanted;
    image[EY_IMAGE_N_BLOCKS] = (int32_t)n_blocks;
    image[EY_IMAGE_TOKENS]    = (int32_t)at, at += n_tokens;
    image[EY_IMAGE_TOKEN_ROW] = (int32_t)at, at += n_tokens;
    image[EY_IMAGE_ROWS]      = (int32_t)at, at += (uint64_t)EY_IMAGE_ROW_WORDS * b->n_rows;
    image[EY_IMAGE_WANTED]    = (int32_t)at, at += n_wanted;
    image[EY_IMAGE_TARGETS]   = (int32_t)at, at += n_wanted;
    image[EY_IMAGE_BLOCKS]    = (int32_t)at, at += n_blocks;
    image[EY_IMAGE_ROPE]      = (int32_t)at, at += (uint64_t)n_tokens * g->rotary;
    assert(at <= INT32_MAX);

    int32_t token = 0, wanted = 0, block = 0;
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const ey_row *r = &b->rows[i];
        assert(r->n > 0 && (b->phase == EY_PREFILL || r->n == 1));

        int32_t *row = image + image[EY_IMAGE_ROWS] + i * EY_IMAGE_ROW_WORDS;
        row[EY_IMAGE_ROW_FIRST] = token;
        row[EY_IMAGE_ROW_COUNT] = (int32_t)r->n;
        row[EY_IMAGE_ROW_SLOT]  = (int32_t)r->slot;
        row[EY_IMAGE_ROW_RESET] = r->position == 0;
        row[EY_IMAGE_ROW_ALIGN] = (int32_t)(r->position % EY_BLOCK);
        row[EY_IMAGE_ROW_RING]  = g->ring_blocks ? (int32_t)(r->position / EY_BLOCK % g->ring_blocks) : 0;
        row[EY_IMAGE_ROW_PAST]  = (int32_t)ey_min(r->position, g->window);
        row[EY_IMAGE_ROW_BLOCK] = block;
        for (uint32_t k = row_blocks(r); k > 0; k--) image[image[EY_IMAGE_BLOCKS] + block++] = (int32_t)i;

        for (uint32_t t = 0; t < r->n; t++, token++) {
            image[image[EY_IMAGE_TOKENS] + token] = r->tokens[t];
            image[image[EY_IMAGE_TOKEN_ROW] + token] = (int32_t)i;
            write_rope(g, r->position + t, image + image[EY_IMAGE_ROPE] + (uint64_t)token * g->rotary);
            if (r->want == EY_WANT_ALL || (r->want == EY_WANT_LAST && t + 1 == r->n)) {
                image[image[EY_IMAGE_WANTED] + wanted] = token;
                image[image[EY_IMAGE_TARGETS] + wanted] = r->targets ? r->targets[t] : -1;
                wanted++;
            }
        }
    }
    return at;
}
