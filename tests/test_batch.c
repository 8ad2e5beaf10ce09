/* test_batch.c - batch.c: the image of a batch, read back word by word and compared with the batch it came from. */
#include "testing.h"

#include "batch.h"
#include "dice.h"

#include <float.h>
#include <math.h>

enum { MOST_ROWS = 12, MOST_TOKENS = 700, BATCHES = 3000 };

typedef struct situation {
    ey_row      rows[MOST_ROWS];
    ey_batch    batch;
    ey_geometry geometry;
    int32_t     tokens[MOST_TOKENS], targets[MOST_TOKENS];
} situation;

/* A ragged batch of at most `tokens` tokens in at most `rows` rows. */
static void imagine(situation *s, uint32_t tokens, uint32_t rows)
{
    uint32_t n = 0;

    s->geometry = (ey_geometry){ .window = one_in(3) ? between(1, 200) : 2047, .ring_blocks = one_in(4) ? 0 : between(1, 40),
                                 .rotary = one_in(4) ? 0 : 2 * between(1, 8), .rope_theta = 10000 };
    s->batch = (ey_batch){ one_in(3) ? EY_DECODE : EY_PREFILL, 0, s->rows };
    for (uint32_t i = 0; i < MOST_TOKENS; i++) {
        s->tokens[i] = (int32_t)below(1000);
        s->targets[i] = (int32_t)below(1001) - 1;
    }
    for (uint32_t i = 0, last = between(1, rows); i < last && n < tokens; i++) {
        ey_row *r = &s->rows[s->batch.n_rows++];
        uint32_t left = tokens - n - (last - i - 1 < tokens - n ? last - i - 1 : 0);    /* one for each that follows */
        r->slot = i * 7 + 3;
        r->n = s->batch.phase == EY_DECODE ? 1 : one_in(3) ? 1 : one_in(3) ? left : between(1, left);
        r->position = one_in(3) ? 0 : one_in(2) ? below(300) : (1ull << 40) - 200 + below(400);
        r->tokens = s->tokens + n;
        r->targets = one_in(2) ? s->targets + n : NULL;
        r->want = (ey_want)below(3);
        n += r->n;
    }
}

/* ------------------------------------------------------------------------------------------- the image, taken apart */

/* That the row's blocks are there, and its words say what it is. */
static void check_row(const situation *s, const int32_t *image, uint32_t i, uint32_t first, uint32_t first_block)
{
    const int32_t *words = image + image[EY_IMAGE_ROWS] + i * EY_IMAGE_ROW_WORDS;
    const ey_row *r = &s->rows[i];
    uint64_t block = r->position / 64, blocks = (r->position + r->n - 1) / 64 - block + 1;

    assert_int_equal(words[EY_IMAGE_ROW_FIRST], first);
    assert_int_equal(words[EY_IMAGE_ROW_COUNT], r->n);
    assert_int_equal(words[EY_IMAGE_ROW_SLOT], r->slot);
    assert_int_equal(words[EY_IMAGE_ROW_RESET], r->position == 0);
    assert_int_equal(words[EY_IMAGE_ROW_ALIGN], r->position - block * 64);
    assert_int_equal(words[EY_IMAGE_ROW_RING], s->geometry.ring_blocks ? block % s->geometry.ring_blocks : 0);
    assert_int_equal(words[EY_IMAGE_ROW_PAST], r->position < s->geometry.window ? r->position : s->geometry.window);
    assert_int_equal(words[EY_IMAGE_ROW_BLOCK], first_block);
    for (uint64_t k = 0; k < blocks; k++) assert_int_equal(image[(uint32_t)image[EY_IMAGE_BLOCKS] + first_block + k], i);
}

/* The floats of a token, against long double. The angle goes through double: the exponent is rounded (the logarithm of
 * theta makes more of that), then the power, then the product; at last cosine and sine are rounded to f32. */
static void check_rope(const ey_geometry *g, const int32_t *words, uint64_t position)
{
    for (uint32_t j = 0; j < g->rotary / 2; j++) {
        long double angle = (long double)position * powl((long double)g->rope_theta, -2.0L * j / g->rotary);
        double tolerance = (double)angle * DBL_EPSILON * (2 + log(g->rope_theta) / 2) + FLT_EPSILON / 2;
        float c, sine;

        memcpy(&c, &words[j], sizeof c);
        memcpy(&sine, &words[g->rotary / 2 + j], sizeof sine);
        assert_true(fabs((double)(c - cosl(angle))) <= tolerance);
        assert_true(fabs((double)(sine - sinl(angle))) <= tolerance);
    }
}

static void check_image(const situation *s, const int32_t *image)
{
    uint32_t token = 0, wanted = 0, block = 0;

    for (uint32_t i = 0; i < s->batch.n_rows; i++) {
        const ey_row *r = &s->rows[i];
        check_row(s, image, i, token, block);
        block += (uint32_t)((r->position % 64 + r->n + 63) / 64);
        for (uint32_t t = 0; t < r->n; t++, token++) {
            assert_int_equal(image[(uint32_t)image[EY_IMAGE_TOKENS] + token], r->tokens[t]);
            assert_int_equal(image[(uint32_t)image[EY_IMAGE_TOKEN_ROW] + token], i);
            check_rope(&s->geometry, image + image[EY_IMAGE_ROPE] + (size_t)token * s->geometry.rotary, r->position + t);
            if (r->want == EY_WANT_NONE || (r->want == EY_WANT_LAST && t != r->n - 1)) continue;
            assert_int_equal(image[(uint32_t)image[EY_IMAGE_WANTED] + wanted], token);
            assert_int_equal(image[(uint32_t)image[EY_IMAGE_TARGETS] + wanted], r->targets ? r->targets[t] : -1);
            wanted++;
        }
    }
    assert_int_equal(image[EY_IMAGE_N_TOKENS], token);
    assert_int_equal(image[EY_IMAGE_N_ROWS], s->batch.n_rows);
    assert_int_equal(image[EY_IMAGE_N_WANTED], wanted);
    assert_int_equal(image[EY_IMAGE_N_BLOCKS], block);
    assert_int_equal(ey_batch_tokens(&s->batch), token);
    assert_int_equal(ey_batch_wanted(&s->batch), wanted);
    assert_int_equal(ey_batch_blocks(&s->batch), block);
}

/* Every word of the image belongs to one table at most, and none is outside. */
static void check_tables(const situation *s, const int32_t *image, uint64_t words)
{
    const struct { int32_t at; uint64_t length; } tables[] = {
        { 0, EY_IMAGE_HEADER },
        { image[EY_IMAGE_TOKENS], ey_batch_tokens(&s->batch) },
        { image[EY_IMAGE_TOKEN_ROW], ey_batch_tokens(&s->batch) },
        { image[EY_IMAGE_ROWS], (uint64_t)EY_IMAGE_ROW_WORDS * s->batch.n_rows },
        { image[EY_IMAGE_WANTED], ey_batch_wanted(&s->batch) },
        { image[EY_IMAGE_TARGETS], ey_batch_wanted(&s->batch) },
        { image[EY_IMAGE_BLOCKS], ey_batch_blocks(&s->batch) },
        { image[EY_IMAGE_ROPE], (uint64_t)ey_batch_tokens(&s->batch) * s->geometry.rotary },
    };
    unsigned char *owned = calloc(words, 1);

    assert_non_null(owned);
    for (size_t i = 0; i < COUNT(tables); i++)
        for (uint64_t k = 0; k < tables[i].length; k++) {
            assert_in_range((uint64_t)tables[i].at + k, 0, words - 1);
            assert_int_equal(owned[(uint64_t)tables[i].at + k]++, 0);
        }
    free(owned);
}

static void images_hold_their_batch(void **state)
{
    static situation s;

    (void)state;
    for (uint32_t k = 0; k < BATCHES; k++) {
        dice = k;
        uint32_t tokens = one_in(2) ? 64 * between(1, 10) : between(1, MOST_TOKENS), rows = between(1, MOST_ROWS);
        imagine(&s, tokens, rows);
        uint64_t room = ey_image_capacity(tokens, rows, s.geometry.rotary);
        int32_t *image = malloc(room * sizeof *image);      /* no word more: the sanitizer sees what is beyond */
        assert_non_null(image);
        memset(image, 0x5a, room * sizeof *image);
        uint64_t words = ey_image_write(&s.batch, &s.geometry, image);
        assert_in_range(words, EY_IMAGE_HEADER, room);
        assert_in_range(ey_batch_blocks(&s.batch), 1, ey_image_blocks(tokens, rows));
        for (uint64_t i = words; i < room; i++) assert_int_equal(image[i], 0x5a5a5a5a);
        check_tables(&s, image, words);
        check_image(&s, image);
        free(image);
    }
}

/* A plan has room for as many blocks as a batch can touch, and for no more than one besides for each row. The worst batch:
 * every row begins at the last position of a block; all but the first have one or two tokens, and touch as many blocks. */
static void block_bound_is_tight(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= 6; rows++)
        for (uint32_t tokens = 1; tokens <= 400; tokens++) {
            uint32_t used = rows < tokens ? rows : tokens, worst = 0;
            for (uint32_t others = 1; others <= 2 && others * (used - 1) < tokens; others++) {
                uint32_t first = tokens - others * (used - 1), blocks = (63 + first + 63) / 64 + others * (used - 1);
                worst = blocks > worst ? blocks : worst;
            }
            assert_in_range(ey_image_blocks(tokens, rows), worst, worst + used);
        }
}

/* Positions have no bound: far away, a token has the place, the past and the angles that arithmetic gives. */
static void huge_positions(void **state)
{
    static const uint64_t positions[] = { (1ull << 31) - 1, 1ull << 31, 1ull << 32, (1ull << 40) + 63, (1ull << 40) + 64 };
    const ey_geometry g = { .window = 2047, .ring_blocks = 33, .rotary = 4, .rope_theta = 10000 };
    const int32_t token = 5;

    (void)state;
    for (size_t i = 0; i < COUNT(positions); i++) {
        ey_row row = { .n = 1, .position = positions[i], .tokens = &token };
        int32_t image[64];
        assert_in_range(ey_image_capacity(1, 1, g.rotary), 1, COUNT(image));
        ey_image_write(&(ey_batch){ EY_DECODE, 1, &row }, &g, image);
        const int32_t *words = image + image[EY_IMAGE_ROWS];
        assert_int_equal(words[EY_IMAGE_ROW_RESET], 0);
        assert_int_equal(words[EY_IMAGE_ROW_ALIGN], positions[i] & 63);
        assert_int_equal(words[EY_IMAGE_ROW_RING], (positions[i] >> 6) % 33);
        assert_int_equal(words[EY_IMAGE_ROW_PAST], 2047);
        check_rope(&g, image + image[EY_IMAGE_ROPE], positions[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_hold_their_batch),
        cmocka_unit_test(block_bound_is_tight),
        cmocka_unit_test(huge_positions),
    };

    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
