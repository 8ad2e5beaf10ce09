/* test_tokenizer.c - tokenizer.cc on the tokenizer of models/shakespeare, on small ones written here, and on files
 * that are not what they should be. What a text should become is known without asking SentencePiece: its bytes. */
#include "testing.h"

#include <fcntl.h>
#include <limits.h>

#include "tokenizer.h"

#define SHAKESPEARE EY_SOURCE_DIR "/models/shakespeare/tokenizer.model"
#define SPACE "\xE2\x96\x81"   /* U+2581 */

enum { PAD, EOS, BOS, UNK, NEWLINE, FIRST_BYTE, VOCAB = 1024 };   /* as train.py, beside it, asked for them */

static ey_tokenizer *shakespeare;

static int open_shakespeare(void **state)
{
    (void)state;
    return ey_tokenizer_open(&shakespeare, SHAKESPEARE, NULL);
}

static int close_shakespeare(void **state)
{
    (void)state;
    ey_tokenizer_close(shakespeare);
    return 0;
}

static uint64_t noise = 1;   /* splitmix64 */

static uint32_t below(uint32_t n)
{
    uint64_t z = noise += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (uint32_t)((z ^ z >> 31) % n);
}

/* ----------------------------------------------------------------------------------------------------- round trip */

/* Encodes the text and fails unless the tokens' bytes are `want`, and no token is a control piece. */
static void expect_bytes(const ey_tokenizer *t, const char *text, size_t length, const char *want, size_t want_length)
{
    int32_t *ids;
    size_t n, at = 0;
    eyrie_error err;
    if (ey_tokenizer_encode(t, text, length, &ids, &n, &err) != EYRIE_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const char *bytes = ey_tokenizer_bytes(t, ids[i], &size);
        if (size == 0) fail_msg("token %d of a text stands for nothing", (int)ids[i]);
        if (size > want_length - at || memcmp(want + at, bytes, size) != 0) fail_msg("text differs at byte %zu", at);
        at += size;
    }
    assert_int_equal(at, want_length);
    ey_free(ids);
}

static void round_trip(const char *text, size_t length) { expect_bytes(shakespeare, text, length, text, length); }

#define LITERAL(text) { text, sizeof text - 1 }

static const struct {
    const char *text;
    size_t      length;
} texts[] = {
    LITERAL(""),
    LITERAL("ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
            "Arise, fair sun, and kill the envious moon,\nWho is already sick and pale with grief,\n"
            "That thou her maid art far more fair than she:\n\nNurse:\n[Within] Madam!\n\n\nJULIET:\nI come--"),
    LITERAL(" "), LITERAL("  leading"), LITERAL("trailing  "), LITERAL("in    between"), LITERAL("\n\n \n"),
    LITERAL("\t\r\n\v\f\x01\x1F\x7F"),
    LITERAL("zero\0bytes\0\0in \0 it"), LITERAL("\0"),
    LITERAL("<bos>typed<eos><pad><unk><s></s>"), LITERAL("<0x41><0x0A>"),
    LITERAL("1234567890 3.14159 $&"),
    LITERAL("na\xC3\xAFve \xC3\x9F \xD0\x9C\xD0\xB8\xD1\x80 \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D"),
    LITERAL("e\xCC\x81 versus \xC3\xA9; \xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB \xED\x95\x9C"),   /* not composed */
    LITERAL("\xE6\xBC\xA2\xE5\xAD\x97\xE3\x81\x8B\xE3\x81\xAA \xEF\xBC\xA1\xEF\xBD\xB1"),      /* nor made narrow */
    LITERAL("\xF0\x9F\x98\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80\xF0\x9F\x87\xAA\xF0\x9F\x87\xBA"),
    LITERAL("\xC2\xA0\xE2\x80\x83\xE3\x80\x80\xEF\xBB\xBF\xE2\x80\xA8"),   /* other spaces than U+0020 */
    LITERAL("\xEF\xBF\xBD\xEF\xBF\xBF\xF4\x8F\xBF\xBF\xC2\x80"),
};

static void texts_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) round_trip(texts[i].text, texts[i].length);
    for (size_t from = 0; from < texts[1].length; from++) round_trip(texts[1].text + from, texts[1].length - from);
}

static void random_texts_come_back(void **state)
{
    static const char *const parts[] = {
        "a", "e", "th", "the", " ", "  ", "\n", "\t", "Z", "<", ">", "bos", "0x41", "7", ".", "\x7F", "ROMEO:",
        " lord", "\xC3\xA9", "\xCC\x81", "\xE6\xBC\xA2", "\xEF\xBF\xBD", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF", "",
    };
    (void)state;
    for (int trial = 0; trial < 2000; trial++) {
        char text[64 * 8];
        size_t length = 0;
        for (uint32_t n = below(64); n > 0; n--) {
            const char *part = parts[below(COUNT(parts))];
            size_t size = *part ? strlen(part) : 1;   /* the empty one stands for a zero byte */
            memcpy(text + length, part, size);
            length += size;
        }
        round_trip(text, length);
    }
}

/* The one character that does not come back: SentencePiece writes spaces as U+2581, and reads it as a space. */
static void its_own_space_becomes_a_space(void **state)
{
    (void)state;
    expect_bytes(shakespeare, "a" SPACE "b", 5, "a b", 3);
}

static void one_long_line(void **state)
{
    const size_t length = 300000;
    char *text = malloc(length);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < length; i++) text[i] = "thou art"[below(8)];
    round_trip(text, length);
    memset(text, 'e', length);
    round_trip(text, length);
    free(text);
}

/* From models/shakespeare/measured.json, which did not come from this library. */
static void known_ids(void **state)
{
    static const int32_t want[] = { 814, 983, 4 };
    int32_t *ids;
    size_t n;
    (void)state;
    assert_int_equal(ey_tokenizer_encode(shakespeare, "ROMEO:\n", 7, &ids, &n, NULL), EYRIE_OK);
    assert_int_equal(n, COUNT(want));
    assert_memory_equal(ids, want, sizeof want);
    ey_free(ids);
}

static void not_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t      length;
        const char *where;
    } bad[] = {
        { "\xFF", 1, "byte 0 is 0xFF" },
        { "ab\xC0\x80", 4, "byte 2 is 0xC0" },
        { "\0\0\xED\xA0\x80", 5, "byte 2 is 0xED" },
        { "cut \xE2\x96", 6, "byte 4 is 0xE2" },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        int32_t value, *ids = &value;
        size_t n = 1;
        eyrie_error err;
        assert_int_equal(ey_tokenizer_encode(shakespeare, bad[i].text, bad[i].length, &ids, &n, &err), EYRIE_EINVAL);
        assert_null(ids);
        assert_int_equal(n, 0);
        assert_non_null(strstr(err.text, bad[i].where));
    }
}

static void no_memory_for_ids(void **state)
{
    int32_t *ids;
    size_t n;
    (void)state;
    fail_allocation(0);
    assert_int_equal(ey_tokenizer_encode(shakespeare, "text", 4, &ids, &n, NULL), EYRIE_ENOMEM);
    assert_true(allocation_failed());
    assert_null(ids);
}

/* --------------------------------------------------------------------------------------------------------- pieces */

static void expect_piece(const ey_tokenizer *t, int32_t id, const char *bytes, size_t length)
{
    size_t n;
    const char *got = ey_tokenizer_bytes(t, id, &n);
    assert_non_null(got);
    assert_int_equal(n, length);
    assert_memory_equal(got, bytes, length);
}

static void pieces_of_every_type(void **state)
{
    static const int32_t none[] = { PAD, EOS, BOS, UNK, -1, VOCAB, INT32_MIN, INT32_MAX };
    (void)state;
    assert_int_equal(ey_tokenizer_size(shakespeare), VOCAB);
    for (size_t i = 0; i < COUNT(none); i++) expect_piece(shakespeare, none[i], "", 0);
    expect_piece(shakespeare, NEWLINE, "\n", 1);
    for (int byte = 0; byte < 256; byte++) expect_piece(shakespeare, FIRST_BYTE + byte, &(char){ (char)byte }, 1);
    expect_piece(shakespeare, ey_tokenizer_find(shakespeare, SPACE "the"), " the", 4);
    assert_false(ey_tokenizer_adds_space(shakespeare));
}

static void find_wants_the_exact_piece(void **state)
{
    (void)state;
    assert_int_equal(ey_tokenizer_find(shakespeare, "<pad>"), PAD);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<eos>"), EOS);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<bos>"), BOS);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<unk>"), UNK);
    assert_int_equal(ey_tokenizer_find(shakespeare, "\n"), NEWLINE);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<0xFF>"), FIRST_BYTE + 255);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<end_of_turn>"), -1);
    assert_int_equal(ey_tokenizer_find(shakespeare, "<bos"), -1);
    assert_int_equal(ey_tokenizer_find(shakespeare, ""), -1);
}

/* ------------------------------------------------------------------------------------------------- written models */

/* A model under construction, in protobuf's wire format. */
typedef struct model {
    char   bytes[200000];
    size_t n;
} model;

enum type { NORMAL = 1, UNKNOWN, CONTROL, DEFINED, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE = 2 };

static void put_varint(model *m, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) m->bytes[m->n++] = (char)(v | 0x80);
    m->bytes[m->n++] = (char)v;
}

static void put_number(model *m, unsigned field, uint64_t v)
{
    put_varint(m, field << 3);
    put_varint(m, v);
}

static void put_bytes(model *m, unsigned field, const void *bytes, size_t n)
{
    put_varint(m, field << 3 | 2);
    put_varint(m, n);
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

static void put_piece(model *m, const char *text, size_t n, float score, enum type type)
{
    static model piece;
    piece.n = 0;
    put_bytes(&piece, 1, text, n);
    put_varint(&piece, 2 << 3 | 5);
    memcpy(piece.bytes + piece.n, &score, 4);   /* little endian, as all of this */
    piece.n += 4;
    put_number(&piece, 3, type);
    put_bytes(m, 1, piece.bytes, piece.n);
}

static void put_text_piece(model *m, const char *text, float score, enum type type)
{
    put_piece(m, text, strlen(text), score, type);
}

static void put_trainer(model *m, int type, bool byte_fallback)
{
    static model spec;
    spec.n = 0;
    put_number(&spec, 3, (uint64_t)type);
    put_number(&spec, 35, byte_fallback);
    put_bytes(m, 2, spec.bytes, spec.n);
}

/* `field` is 3 for the text that comes in, 5 for the one that goes out. */
static void put_normalizer(model *m, unsigned field, bool dummy_prefix, const char *table)
{
    static model spec;
    spec.n = 0;
    put_bytes(&spec, 1, "some_rule", 9);
    put_bytes(&spec, 2, table, strlen(table));
    put_number(&spec, 3, dummy_prefix);
    put_number(&spec, 4, 0);   /* keep all spaces */
    put_bytes(m, field, spec.bytes, spec.n);
}

/* A complete small model; other pieces may follow. Without byte fallback, so that other characters are <unk>. */
static model *small_model(bool dummy_prefix)
{
    static model m;
    m.n = 0;
    put_text_piece(&m, "<unk>", 0, UNKNOWN);
    put_text_piece(&m, "<bos>", 0, CONTROL);
    put_text_piece(&m, "a", -3, NORMAL);
    put_text_piece(&m, SPACE, -4, NORMAL);
    put_trainer(&m, BPE, false);
    put_normalizer(&m, 3, dummy_prefix, "");
    return &m;
}

static const char *directory;   /* for the files of the tests below */

static int make_directory(void **state)
{
    int failed = make_dir(state);
    directory = *state;
    return failed;
}

static eyrie_status open_model(ey_tokenizer **t, const model *m, eyrie_error *err)
{
    write_file(directory, "written.model", m->bytes, m->n);
    return ey_tokenizer_open(t, path_of(directory, "written.model"), err);
}

static ey_tokenizer *must_open(const model *m)
{
    ey_tokenizer *t;
    eyrie_error err;
    if (open_model(&t, m, &err) != EYRIE_OK) fail_msg("%s", err.text);
    return t;
}

static void a_space_before_the_text(void **state)
{
    (void)state;
    for (int adds = 0; adds < 2; adds++) {
        ey_tokenizer *t = must_open(small_model(adds));
        assert_int_equal(ey_tokenizer_adds_space(t), adds);
        expect_bytes(t, "a a", 3, adds ? " a a" : "a a", adds ? 4 : 3);
        expect_bytes(t, "", 0, "", 0);
        ey_tokenizer_close(t);
    }
}

static void unknown_characters_stand_for_nothing(void **state)
{
    ey_tokenizer *t = must_open(small_model(false));
    int32_t *ids;
    size_t n;
    (void)state;
    assert_int_equal(ey_tokenizer_encode(t, "axa", 3, &ids, &n, NULL), EYRIE_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[1], 0);   /* <unk> comes first in that model */
    expect_piece(t, ids[1], "", 0);
    ey_free(ids);
    ey_tokenizer_close(t);
}

/* User-defined pieces are taken whole, the longest first, before anything is merged; unused ones are not merged into,
 * but an unused character that nothing else covers is encoded, and decoded, as itself. */
static void defined_and_unused_pieces(void **state)
{
    model *m = small_model(false);
    (void)state;
    put_text_piece(m, "<turn>", 0, DEFINED);        /* id 4 */
    put_text_piece(m, "<turn>" SPACE "a", 0, DEFINED);
    put_text_piece(m, "aa", -1, NORMAL);
    put_text_piece(m, "aaa", -1, UNUSED);
    put_text_piece(m, "u", -5, UNUSED);
    ey_tokenizer *t = must_open(m);
    static const int32_t want[] = { 6, 2, 5, 8, 4 };
    int32_t *ids;
    size_t n;
    assert_int_equal(ey_tokenizer_encode(t, "aaa<turn> au<turn>", 18, &ids, &n, NULL), EYRIE_OK);
    assert_int_equal(n, COUNT(want));
    assert_memory_equal(ids, want, sizeof want);
    expect_piece(t, 5, "<turn> a", 8);
    expect_piece(t, 8, "u", 1);
    ey_free(ids);
    ey_tokenizer_close(t);
}

/* n user-defined pieces, each of which begins the next. */
static model *nested_model(size_t n)
{
    char text[100];
    model *m = small_model(false);
    memset(text, 'x', sizeof text);
    for (size_t i = 1; i <= n; i++) put_piece(m, text, i, 0, DEFINED);
    return m;
}

static void as_many_nested_pieces_as_the_library_takes(void **state)
{
    char text[64];
    ey_tokenizer *t = must_open(nested_model(64));
    int32_t *ids;
    size_t n;
    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(ey_tokenizer_encode(t, text, sizeof text, &ids, &n, NULL), EYRIE_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 4 + 63);
    ey_free(ids);
    ey_tokenizer_close(t);
}

/* ------------------------------------------------------------------------------------------------------ bad files */

/* What reaches stdout and stderr between the two calls, on the level of the descriptors: the library is not ours. */
static int kept_descriptors[2];

static void begin_capture(void)
{
    int file = open(path_of(directory, "printed"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(file >= 0);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        kept_descriptors[i] = dup(i + 1);
        assert_int_equal(dup2(file, i + 1), i + 1);
    }
    close(file);
}

static long end_capture(void)
{
    fflush(NULL);
    long printed = lseek(STDERR_FILENO, 0, SEEK_END);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dup2(kept_descriptors[i], i + 1), i + 1);
        close(kept_descriptors[i]);
    }
    return printed;
}

/* Refused with this status and a line that names the path; `reason` is a part of it, or NULL. */
static void expect_refused(const char *path, eyrie_status want, const char *reason)
{
    ey_tokenizer *t = shakespeare;   /* anything but NULL */
    eyrie_error err = { 0 };
    eyrie_status got = ey_tokenizer_open(&t, path, &err);
    bool one_line = strstr(err.text, path) && !strchr(err.text, '\n');
    if (got != want || t || !one_line || (reason && !strstr(err.text, reason))) {
        end_capture();
        fail_msg("status %d, not %d (%s): %s", got, want, reason ? reason : "", err.text);
    }
}

static void files_that_are_no_models(void **state)
{
    char garbage[5000];
    (void)state;
    for (size_t i = 0; i < sizeof garbage; i++) garbage[i] = (char)below(256);
    write_file(directory, "empty", "", 0);
    write_file(directory, "garbage", garbage, sizeof garbage);
    write_text(directory, "text", "# Not a model, but a text.\n");
    begin_capture();
    expect_refused(path_of(directory, "missing"), EYRIE_EIO, NULL);
    expect_refused(directory, EYRIE_EIO, NULL);
    expect_refused(path_of(directory, "empty"), EYRIE_EFORMAT, "not a SentencePiece model");
    expect_refused(path_of(directory, "garbage"), EYRIE_EFORMAT, NULL);
    expect_refused(path_of(directory, "text"), EYRIE_EFORMAT, "not a SentencePiece model");
    assert_int_equal(end_capture(), 0);
}

static size_t read_shakespeare(char *bytes, size_t size)
{
    FILE *f = fopen(SHAKESPEARE, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, size, f);
    fclose(f);
    assert_in_range(n, 10000, size - 1);
    return n;
}

static void every_length_of_a_cut_off_model(void **state)
{
    char bytes[20000];
    size_t n = read_shakespeare(bytes, sizeof bytes);
    (void)state;
    write_file(directory, "cut", bytes, n);
    begin_capture();
    while (n-- > 0) {
        assert_int_equal(truncate(path_of(directory, "cut"), (off_t)n), 0);
        expect_refused(path_of(directory, "cut"), EYRIE_EFORMAT, "not a SentencePiece model, or cut off");
    }
    assert_int_equal(end_capture(), 0);
}

/* Any damage gives a status; what opens all the same can be used. */
static void damaged_models(void **state)
{
    char bytes[20000];
    size_t n = read_shakespeare(bytes, sizeof bytes);
    uint32_t opened = 0, refused = 0;
    (void)state;
    begin_capture();
    for (int trial = 0; trial < 600; trial++) {
        size_t at = trial % 3 ? below((uint32_t)n) : n - 1 - below(120);   /* the settings are at the end */
        char was = bytes[at];
        bytes[at] = (char)(trial % 2 ? was ^ 1 << below(8) : (int)below(256));
        write_file(directory, "damaged", bytes, n);
        bytes[at] = was;
        ey_tokenizer *t;
        eyrie_error err = { 0 };
        eyrie_status st = ey_tokenizer_open(&t, path_of(directory, "damaged"), &err);
        if (st != EYRIE_OK) {
            refused += st == EYRIE_EFORMAT && t == NULL && strlen(err.text) > 0;
            continue;
        }
        for (size_t i = 0; i < COUNT(texts); i++) {
            int32_t *ids;
            size_t length, count;
            st = ey_tokenizer_encode(t, texts[i].text, texts[i].length, &ids, &count, &err);
            opened += i == 0 && (st == EYRIE_OK || st == EYRIE_EFORMAT);
            for (size_t k = 0; k < count; k++) ey_tokenizer_bytes(t, ids[k], &length);
            ey_free(ids);
        }
        ey_tokenizer_close(t);
    }
    assert_int_equal(end_capture(), 0);
    assert_int_equal(opened + refused, 600);
    assert_in_range(opened, 100, 500);   /* a changed letter or score opens, a changed length does not */
}

/* Each begins as a good small model; some are known to make the library read what is not its own, end the process, or
 * print. */
static void hostile_models(void **state)
{
    static const char zeros[1000] = "";
    char long_piece[1025];
    model *m;
    (void)state;
    memset(long_piece, 'l', sizeof long_piece);
    begin_capture();
#define REFUSED(build, reason)                                                                \
    do {                                                                                      \
        m = small_model(false);                                                               \
        build;                                                                                \
        write_file(directory, "hostile", m->bytes, m->n);                                     \
        expect_refused(path_of(directory, "hostile"), EYRIE_EFORMAT, reason);                 \
    } while (0)
    REFUSED(put_normalizer(m, 3, false, "\x08\x01\x01\x01xxxxxxxxxxxx"), "normalised by a table (\"some_rule\")");
    REFUSED(put_normalizer(m, 5, false, "\x08\x01\x01\x01xxxxxxxxxxxx"), "normalised by a table");
    REFUSED(m = nested_model(65), "more than 64 user-defined pieces");
    REFUSED(put_piece(m, "x\0y", 3, 0, DEFINED), "zero byte");
    REFUSED(put_piece(m, "", 0, 0, DEFINED), "piece must not be empty");
    REFUSED(put_piece(m, long_piece, sizeof long_piece, 0, NORMAL), "a piece of 1025 bytes; at most 1024");
    REFUSED(put_text_piece(m, "a", 0, NORMAL), "a is already defined");
    REFUSED(put_text_piece(m, "two\nlines", 0, NORMAL); put_text_piece(m, "two\nlines", 0, NORMAL), "two lines is");
    REFUSED(put_text_piece(m, "<0x00>", 0, BYTE), "byte_fallback");
    REFUSED(put_trainer(m, BPE, true), "not 256 byte pieces");
    REFUSED(put_text_piece(m, "<unknown>", 0, UNKNOWN), "unk is already defined");
    REFUSED(put_bytes(m, 1, "\x0A\x05x", 3), "malformed piece (byte ");
    REFUSED(put_bytes(m, 3, "\x12\x7F", 2), "malformed normalizer (byte ");
    REFUSED(put_varint(m, 9 << 3 | 3), "malformed field at byte ");              /* a group */
    REFUSED(put_bytes(m, 9, "", 0); m->n--, "malformed field at byte ");
    REFUSED(m->n = 0; put_bytes(m, 9, zeros, sizeof zeros), "it has no settings");
#undef REFUSED
    assert_int_equal(end_capture(), 0);
}

/* The library tests itself with samples that come with the model, and prints those that fail. */
static void self_tests_are_not_run(void **state)
{
    model *m = small_model(false);
    static model sample, samples;
    (void)state;
    put_bytes(&sample, 1, "a", 1);
    put_bytes(&sample, 2, "wrong", 5);
    put_bytes(&samples, 1, sample.bytes, sample.n);
    put_bytes(m, 4, samples.bytes, samples.n);
    ey_tokenizer *t;
    begin_capture();
    eyrie_status st = open_model(&t, m, NULL);
    assert_int_equal(end_capture(), 0);
    assert_int_equal(st, EYRIE_OK);
    expect_bytes(t, "a", 1, "a", 1);
    ey_tokenizer_close(t);
}

/* A control piece that is a single character cannot be encoded, but must not become its id either. */
static void control_characters(void **state)
{
    model *m = small_model(false);
    int32_t *ids;
    size_t n;
    (void)state;
    put_text_piece(m, "c", 0, CONTROL);
    ey_tokenizer *t = must_open(m);
    assert_int_equal(ey_tokenizer_encode(t, "aca", 3, &ids, &n, NULL), EYRIE_EFORMAT);
    assert_null(ids);
    expect_bytes(t, "aa", 2, "aa", 2);
    ey_tokenizer_close(t);
}

/* Other model types than BPE work as well. */
static void unigram_model(void **state)
{
    model *m = small_model(false);
    (void)state;
    put_text_piece(m, "aa" SPACE, -1, NORMAL);
    put_trainer(m, UNIGRAM, false);   /* the last one counts */
    ey_tokenizer *t = must_open(m);
    expect_bytes(t, "aaa a", 5, "aaa a", 5);
    ey_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest round_trips[] = {
        cmocka_unit_test(texts_come_back),
        cmocka_unit_test(random_texts_come_back),
        cmocka_unit_test(its_own_space_becomes_a_space),
        cmocka_unit_test(one_long_line),
        cmocka_unit_test(known_ids),
        cmocka_unit_test(not_utf8),
        cmocka_unit_test(no_memory_for_ids),
        cmocka_unit_test(pieces_of_every_type),
        cmocka_unit_test(find_wants_the_exact_piece),
    };
    const struct CMUnitTest files[] = {
        cmocka_unit_test(a_space_before_the_text),
        cmocka_unit_test(unknown_characters_stand_for_nothing),
        cmocka_unit_test(defined_and_unused_pieces),
        cmocka_unit_test(unigram_model),
        cmocka_unit_test(control_characters),
        cmocka_unit_test(as_many_nested_pieces_as_the_library_takes),
        cmocka_unit_test(self_tests_are_not_run),
        cmocka_unit_test(files_that_are_no_models),
        cmocka_unit_test(every_length_of_a_cut_off_model),
        cmocka_unit_test(damaged_models),
        cmocka_unit_test(hostile_models),
    };
    int failed = cmocka_run_group_tests(round_trips, open_shakespeare, close_shakespeare);
    return failed + cmocka_run_group_tests(files, make_directory, remove_dir);
}
