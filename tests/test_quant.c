/* test_quant.c - the weight formats: every 16-bit pattern against arithmetic in double, roundings at and beside
 * every border between two patterns, and the places of elements in a panel. No device. */
#include "testing.h"

#include <float.h>

#include "numbers.h"

/* A 16-bit float of that many bits of fraction. */
typedef struct small_float {
    int        fraction, exponent;          /* bits */
    uint16_t (*from_f32)(float x);
    float    (*to_f32)(uint16_t h);
} small_float;

static float bf16_to_f32(uint16_t h)        /* by way of a panel, where else is none */
{
    uint16_t panel[2 * EY_LANES] = { h };
    float    rows[2 * EY_LANES];

    ey_quant_of(EYRIE_FORMAT_BF16)->unpack(panel, 2, rows);
    return rows[0];
}

static const small_float kinds[] = { { 10, 5, ey_f32_to_f16, ey_f16_to_f32 }, { 7, 8, ey_f32_to_bf16, bf16_to_f32 } };

/* What a pattern means, from the definition of IEEE 754. */
static double meaning(const small_float *k, uint32_t h)
{
    int    exponent = (int)(h >> k->fraction & ((1u << k->exponent) - 1)), bias = (1 << (k->exponent - 1)) - 1;
    double fraction = ldexp(h & ((1u << k->fraction) - 1), -k->fraction), sign = h >> 15 ? -1.0 : 1.0;

    if (exponent == (1 << k->exponent) - 1) return fraction > 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1 + fraction, exponent - bias) : ldexp(fraction, 1 - bias));
}

static void every_pattern_means_its_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++)
        for (uint32_t h = 0; h < 65536; h++) {
            const small_float *k = &kinds[i];
            double want = meaning(k, h);
            float  got = k->to_f32((uint16_t)h);

            if (isnan(want)) {
                assert_true(isnan(got));
                uint16_t back = k->from_f32(got);
                assert_true(isnan(meaning(k, back)) && back >> 15 == h >> 15);
            } else {
                if (got != want) fail_msg("%04x is %a, not %a", (unsigned)h, got, want);
                assert_int_equal(k->from_f32(got), h);
            }
        }
}

/* x becomes that pattern, and -x its negative. */
static void expect(const small_float *k, float x, uint32_t want)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        uint16_t got = k->from_f32(sign ? -x : x);
        if (got != (sign << 15 | want))
            fail_msg("%s%a became %04x, not %04x", sign ? "-" : "", x, (unsigned)got, (unsigned)(sign << 15 | want));
    }
}

/* Between two patterns the middle goes to the even one, and what is next to the middle to the nearer. After the
 * largest finite pattern comes infinity's, and stands where the next number would be. */
static void borders_round_to_nearest_even(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        const small_float *k = &kinds[i];
        uint32_t infinity = ((1u << k->exponent) - 1) << k->fraction;

        for (uint32_t h = 0; h < infinity; h++) {
            double below = meaning(k, h);
            double above = h + 1 < infinity ? meaning(k, h + 1) : 2 * below - meaning(k, h - 1);
            float  middle = (float)((below + above) / 2);       /* exact: f32 has more bits of fraction than both */

            expect(k, middle, h + (h & 1));
            expect(k, nextafterf(middle, 0.0f), h);
            expect(k, nextafterf(middle, INFINITY), h + 1);
        }
        expect(k, 0.0f, 0);
        expect(k, 0x1p-149f, 0);
        expect(k, FLT_MAX, infinity);
        expect(k, INFINITY, infinity);
    }
}

/* Numbers of all sizes, rounded in double to the multiple of what their exponent leaves for the last bit. */
static void numbers_round_to_multiples(void **state)
{
    uint32_t bits = 1;

    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++)
        for (uint32_t n = 0; n < 1000000; n++) {
            const small_float *k = &kinds[i];
            int    bias = (1 << (k->exponent - 1)) - 1, exponent;
            float  x;

            bits = bits * 1664525u + 1013904223u;
            memcpy(&x, &bits, sizeof x);
            if (!isfinite(x)) continue;
            frexp(x, &exponent);        /* x = [0.5, 1) * 2^exponent */
            double unit = ldexp(1, (exponent - 1 > 1 - bias ? exponent - 1 : 1 - bias) - k->fraction);
            double want = rint(x / unit) * unit;
            if (fabs(want) >= ldexp(1, bias + 1)) want = copysign((double)INFINITY, want);
            if (meaning(k, k->from_f32(x)) != want)
                fail_msg("%a became %04x, not %a", x, (unsigned)k->from_f32(x), want);
        }
}

/* Element (row, k) of a panel is at k * 16 + row in f32, at (k / 2) * 32 + 2 * row + k % 2 in 16 bits. */
static void panels_interleave(void **state)
{
    static const uint32_t widths[] = { 2, 16, 66, 176 };

    (void)state;
    for (size_t f = 0; f < 3; f++)
        for (size_t w = 0; w < COUNT(widths); w++) {
            const small_float *kind = &kinds[weight_formats[f] == EYRIE_FORMAT_BF16];
            const ey_quant *q = ey_quant_of(weight_formats[f]);
            uint32_t        K = widths[w], n = EY_LANES * K;
            float          *rows = zeros(n), *back = zeros(n), *panel = zeros(n + 1);
            uint16_t        halves[EY_LANES * 176];

            for (uint32_t i = 0; i < n; i++) rows[i] = (float)(i % 251) - 125.0f;       /* exact in every format */
            assert_int_equal(ey_quant_panel_bytes(q, K), n * q->bits / 8);
            memset(panel, 0xa5, (n + 1) * sizeof *panel);
            q->pack(rows, K, panel);
            memcpy(halves, panel, n * sizeof *halves);
            for (uint32_t r = 0; r < EY_LANES; r++)
                for (uint32_t k = 0; k < K; k++) {
                    uint16_t half = halves[k / 2 * 32 + 2 * r + k % 2];
                    double   got = q->bits == 32 ? panel[k * 16 + r] : meaning(kind, half);
                    assert_true(got == rows[r * K + k]);
                }
            for (uint64_t i = ey_quant_panel_bytes(q, K); i < (n + 1) * sizeof *panel; i++)
                assert_int_equal(((unsigned char *)panel)[i], 0xa5);
            q->unpack(panel, K, back);
            assert_memory_equal(back, rows, n * sizeof *rows);
        }
    free_numbers();
}

/* The layout of quant.h, place by place: whole numbers under scales of 2^-(row), of which each group holds the largest. */
static void scaled_panels_are_blocks(void **state)
{
    static const uint32_t widths[] = { 16, 32, 48, 64, 80, 176 };

    (void)state;
    for (uint32_t bits = 4; bits <= 8; bits += 4)
        for (size_t w = 0; w < COUNT(widths); w++) {
            const ey_quant *q = ey_quant_of(bits == 8 ? EYRIE_FORMAT_Q8 : EYRIE_FORMAT_Q4);
            uint32_t        K = widths[w], blocks = (K + 63) / 64, bytes = 16 * K * bits / 8 + blocks * 64;
            float          *rows = zeros(16 * K), *back = zeros(16 * K);
            unsigned char   panel[16 * 176 + 3 * 64 + 1];

            for (uint32_t i = 0; i < 16 * K; i++) {
                uint32_t k = i % K;
                int      value = bits == 8 ? (int)(i % 251) - 125 : (int)(i % 15) - 7;
                if (k % 32 == 5) value = bits == 8 ? 127 : -8;
                rows[i] = ldexpf((float)value, -(int)(i / K));
            }
            assert_int_equal(ey_quant_panel_bytes(q, K), bytes);
            memset(panel, 0xa5, sizeof panel);
            q->pack(rows, K, panel);
            assert_int_equal(panel[bytes], 0xa5);
            for (uint32_t r = 0; r < 16; r++)
                for (uint32_t k = 0; k < K; k++) {
                    const unsigned char *block = panel + k / 64 * (64 + 64 * 16 * bits / 8);
                    const unsigned char *half = block + k % 64 / 32 * 32 + 2 * r;
                    uint32_t in = k % 64, per_word = 32 / bits, bit = in % per_word * bits;
                    uint32_t byte = block[64 + in / per_word * 64 + 4 * r + bit / 8];
                    int      number = (int)(byte >> bit % 8 & ((1u << bits) - 1)) - (1 << (bits - 1));
                    double   scale = meaning(&kinds[0], (uint32_t)(half[0] | half[1] << 8));
                    assert_true(scale == ldexp(1, -(int)r));
                    assert_true(number * scale == rows[r * K + k]);
                }
            if ((K - 1) % 64 < 32)          /* no second group: scales of zero */
                for (uint32_t i = 0; i < 32; i++) assert_int_equal(panel[(blocks - 1) * (64 + 64 * 16 * bits / 8) + 32 + i], 0);
            q->unpack(panel, K, back);
            assert_memory_equal(back, rows, 16 * K * sizeof *rows);
        }
    free_numbers();
}

/* What a group of 32 becomes. */
static void squeeze(eyrie_format format, float *x)
{
    memcpy(x, rounded(format, x, 1, 1, EY_GROUP), EY_GROUP * sizeof *x);
}

static double square_error(const float *x, const float *y)
{
    double sum = 0;
    for (uint32_t i = 0; i < EY_GROUP; i++) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    return sum;
}

/* q8: half a step of the largest over 127, and 2^-11 of what a number is, since the scale is rounded. q4: no worse than
 * with the plain scale, by which the largest weight is -8; and the error is a tenth of the weights on average, as 16
 * levels make it where numbers are evenly spread: a step is 1/8 of the largest, its error 1/sqrt(12) of that. */
static void scales_are_chosen_well(void **state)
{
    double all = 0, off = 0;

    (void)state;
    for (uint32_t seed = 0; seed < 300; seed++) {
        float *x = noise(EY_GROUP, seed + 1, ldexpf(1, (int)seed % 20 - 6)), y[EY_GROUP], plain[EY_GROUP], largest = 0;

        for (uint32_t i = 0; i < EY_GROUP; i++)
            if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
        memcpy(y, x, sizeof y);
        squeeze(EYRIE_FORMAT_Q8, y);
        for (uint32_t i = 0; i < EY_GROUP; i++)
            assert_true(fabs((double)y[i] - x[i]) <= fabs(largest) / 127.0 * (0.5 + 127 * 0x1p-11));
        memcpy(y, x, sizeof y);
        squeeze(EYRIE_FORMAT_Q4, y);
        double scale = ey_f16_to_f32(ey_f32_to_f16(largest * -0.125f));
        for (uint32_t i = 0; i < EY_GROUP; i++) plain[i] = (float)(fmax(-8, fmin(7, rint(x[i] / scale))) * scale);
        assert_true(square_error(x, y) <= square_error(x, plain) * 1.00001);     /* the search rounds its sums */
        for (uint32_t i = 0; i < EY_GROUP; i++) all += (double)x[i] * x[i] / (largest * largest);
        off += square_error(x, y) / (largest * largest);
    }
    assert_in_range((int)(1000 * sqrt(off / all)), 40, 70);     /* sqrt(1/12) / 8 = .036 over sqrt(1/3) = .577 is .0625 */
    free_numbers();
}

/* Nothing becomes a number that it was not: of groups with a weight that is not finite all is NaN, of others nothing. */
static void odd_groups(void **state)
{
    static const eyrie_format scaled[] = { EYRIE_FORMAT_Q8, EYRIE_FORMAT_Q4 };
    static const float odd[] = { NAN, INFINITY, -INFINITY };

    (void)state;
    for (size_t f = 0; f < COUNT(scaled); f++) {
        for (size_t i = 0; i < COUNT(odd); i++) {
            float *x = noise(EY_LANES * 64, 1, 1.0f), *y;
            x[3 * 64 + 40] = odd[i];
            y = rounded(scaled[f], x, EY_LANES, 1, 64);
            for (uint32_t k = 0; k < EY_LANES * 64; k++) assert_int_equal(isnan(y[k]) != 0, k / 32 == 3 * 2 + 1);
        }
        float zero[EY_GROUP] = { 0 }, tiny[EY_GROUP] = { 1e-30f, -1e-9f }, huge[EY_GROUP] = { 3e38f, -3e38f, 1.0f };
        squeeze(scaled[f], zero);
        squeeze(scaled[f], tiny);
        squeeze(scaled[f], huge);
        for (uint32_t i = 0; i < EY_GROUP; i++) {
            assert_true(zero[i] == 0 && !signbit(zero[i]) && fabsf(tiny[i]) <= 2e-9f);
            assert_true(isfinite(huge[i]));
        }
        assert_true(huge[0] > 4e5f && huge[1] < -4e5f);     /* as large as there are */
    }
    free_numbers();
}

/* What a matrix becomes when it is packed is what it would be if rounded number by number. */
static void packing_rounds(void **state)
{
    float *x = noise(EY_LANES * 66, 1, 3.0f);

    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        float *got = rounded(i ? EYRIE_FORMAT_BF16 : EYRIE_FORMAT_F16, x, EY_LANES, 1, 66);
        for (size_t k = 0; k < EY_LANES * 66; k++) assert_true(got[k] == meaning(&kinds[i], kinds[i].from_f32(x[k])));
    }
    assert_memory_equal(rounded(EYRIE_FORMAT_F32, x, EY_LANES, 1, 66), x, EY_LANES * 66 * sizeof *x);
    free_numbers();
}

static void formats_have_entries(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(weight_formats); i++)
        assert_int_equal(ey_quant_of(weight_formats[i])->format, weight_formats[i]);
    assert_string_equal(ey_quant_of(EYRIE_FORMAT_F32)->name, "f32");
    assert_string_equal(ey_quant_of(EYRIE_FORMAT_F16)->name, "f16");
    assert_string_equal(ey_quant_of(EYRIE_FORMAT_BF16)->name, "bf16");
    assert_string_equal(ey_quant_of(EYRIE_FORMAT_Q8)->name, "q8");
    assert_string_equal(ey_quant_of(EYRIE_FORMAT_Q4)->name, "q4");
    assert_null(ey_quant_of(EYRIE_FORMAT_DEFAULT));
    assert_null(ey_quant_of((eyrie_format)99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_means_its_number),
        cmocka_unit_test(borders_round_to_nearest_even),
        cmocka_unit_test(numbers_round_to_multiples),
        cmocka_unit_test(panels_interleave),
        cmocka_unit_test(scaled_panels_are_blocks),
        cmocka_unit_test(scales_are_chosen_well),
        cmocka_unit_test(odd_groups),
        cmocka_unit_test(packing_rounds),
        cmocka_unit_test(formats_have_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
