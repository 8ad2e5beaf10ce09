/* test_chat.c - states as users of the command meet them: `run` that is cut anywhere and goes on, and `chat`, whose
 * answers are compared with what `run` gives for the same tokens. What is in a state file is test_snapshot's business. */
#include "testing.h"

#include "command.h"

#include <sys/stat.h>

enum { PIECES = 64 };

static const char *in_dir(void **state, const char *name)
{
    static char paths[4][4200];
    static unsigned next;
    char *path = paths[next++ % COUNT(paths)];

    snprintf(path, sizeof paths[0], "%s", path_of(*state, name));
    return path;
}

static void expect_text(const char *got, const char *want)
{
    if (strcmp(got, want) != 0) fail_msg("not what it should be:\n%s\n--- but\n%s", got, want);
}

/* Standard output of a run that succeeds; freed by the caller. */
static char *text_of(result r)
{
    expect_status(&r, 0);
    free(r.err);
    return r.out;
}

/* ------------------------------------------------------------------------------------------------------------- run */

/* The text before a cut and the text after it are the text without a cut, to the byte. At temperature 6 the model writes
 * mostly bytes of characters that are not whole, and so is the text where many of these cuts are. */
static void text_cut_anywhere(void **state)
{
    static const unsigned cuts[] = { 1, 2, 3, 5, 8, 59, 60, 61, 62, 63, 64, 65, 123, 124, 125, 126, 127, 128, 129, 130, 188, 197 };
    static const struct { const char *temperature; size_t step; } ways[] = { { "6", 3 }, { "0.8", 11 }, { "0", 9 } };
    enum { ALL = 200 };

    for (size_t k = 0; k < COUNT(ways); k++) {
        const char *temp = ways[k].temperature, *file = in_dir(state, "state");
        result whole = run(*state, "run", "-m", MODEL, "-p", "ROMEO:\n", "-n", "200", "--temp", temp, "--seed", "4",
                           "--ignore-eos");
        expect_status(&whole, 0);
        for (size_t i = 0; i < COUNT(cuts); i += ways[k].step) {
            char n[2][12];
            snprintf(n[0], sizeof n[0], "%u", cuts[i]);
            snprintf(n[1], sizeof n[1], "%u", ALL - cuts[i]);
            result before = run(*state, "run", "-m", MODEL, "-p", "ROMEO:\n", "-n", n[0], "--temp", temp, "--seed", "4",
                                "--ignore-eos", "--save-state", file);
            result after = run(*state, "run", "-m", MODEL, "--load-state", file, "-n", n[1], "--temp", temp, "--seed", "4",
                               "--ignore-eos");
            expect_status(&before, 0);
            expect_status(&after, 0);
            /* Not as strings: a byte that the model writes may be 0. */
            assert_int_equal(before.out_length + after.out_length, whole.out_length);
            assert_memory_equal(before.out, whole.out, before.out_length);
            assert_memory_equal(after.out, whole.out + before.out_length, after.out_length);
            done(&before);
            done(&after);
        }
        done(&whole);
    }
}

/* A text given besides follows the token that was generated last, without a <bos>; so do tokens. With f32 compute, since
 * else prefill may round what decode does not. */
static void prompt_after_a_state(void **state)
{
    const char *file = in_dir(state, "state");
    json_t *first = expect_json(run(*state, "run", "-m", MODEL, "-p", "ROMEO:\n", "-n", "3", "--compute", "f32", "--save-state", file, "--json"));
    const json_t *ids = json_object_get(first, "tokens");
    char all[256] = "2,814,983,4";      /* <bos> and ROMEO:\n, as measured.json has them */

    for (size_t i = 0; i < json_array_size(ids); i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), ",%d", (int)json_integer_value(json_array_get(ids, i)));
    snprintf(all + strlen(all), sizeof all - strlen(all), ",814,983,4");
    char *expected = text_of(run(*state, "run", "-m", MODEL, "--tokens", all, "-n", "30", "--compute", "f32"));
    char *text = text_of(run(*state, "run", "-m", MODEL, "--load-state", file, "-p", "ROMEO:\n", "-n", "30", "--compute", "f32"));
    char *tokens = text_of(run(*state, "run", "-m", MODEL, "--load-state", file, "--tokens", "814,983,4", "-n", "30", "--compute", "f32"));

    expect_text(text, expected);
    expect_text(tokens, expected);
    free(expected);
    free(text);
    free(tokens);
    json_decref(first);
}

/* Waits until the file of that name has more than `size` bytes, or the child has ended; returns its size. */
static long wait_for_more(void **state, const char *name, long size, pid_t child)
{
    for (int tries = 0; tries < 6000; tries++) {
        siginfo_t ended = { .si_pid = 0 };
        FILE *f = fopen(path_of(*state, name), "rb");
        long n = -1;
        if (f && fseek(f, 0, SEEK_END) == 0) n = ftell(f);
        if (f) fclose(f);
        if (n > size) return n;
        assert_int_equal(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT), 0);
        if (ended.si_pid == child) fail_msg("it ended too early");
        nanosleep(&(struct timespec){ 0, 10 * 1000 * 1000 }, NULL);
    }
    fail_msg("nothing comes");
    return 0;
}

static void interrupted_run_goes_on(void **state)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

    for (size_t i = 0; i < COUNT(signals); i++) {
        const char *file = in_dir(state, "state");
        const char *const args[] = { "run", "-m", MODEL, "-p", "A", "-n", "1000000000", "--ignore-eos", "--temp", "1",
                                     "--save-state", file, NULL };
        pid_t child = start(*state, (setting){ 0 }, args);
        wait_for_more(state, "out", 0, child);
        assert_int_equal(kill(child, signals[i]), 0);
        result before = finish(*state, child);
        expect_status(&before, 128 + signals[i]);

        char *after = text_of(run(*state, "run", "-m", MODEL, "--load-state", file, "-n", "40", "--ignore-eos", "--temp", "1"));
        size_t length = strlen(before.out) + strlen(after);
        char *both = malloc(length + 1), n[24];
        assert_non_null(both);
        snprintf(both, length + 1, "%s%s", before.out, after);
        snprintf(n, sizeof n, "%zu", length);           /* tokens enough: each is a byte at the least */
        char *whole = text_of(run(*state, "run", "-m", MODEL, "-p", "A", "-n", n, "--ignore-eos", "--temp", "1"));
        whole[strlen(whole) < length ? strlen(whole) : length] = '\0';
        expect_text(both, whole);
        free(both);
        free(after);
        free(whole);
        done(&before);
    }
}

static void killed_run_leaves_the_old_state(void **state)
{
    const char *file = in_dir(state, "state");
    char *before = text_of(run(*state, "run", "-m", MODEL, "-p", "A", "-n", "5", "--save-state", file));
    char *expected = text_of(run(*state, "run", "-m", MODEL, "--load-state", file, "-n", "9"));
    const char *const args[] = { "run", "-m", MODEL, "-p", "B", "-n", "1000000000", "--ignore-eos", "--save-state", file, NULL };
    pid_t child = start(*state, (setting){ 0 }, args);

    wait_for_more(state, "out", 0, child);
    assert_int_equal(kill(child, SIGKILL), 0);
    result killed = finish(*state, child);
    expect_status(&killed, 128 + SIGKILL);
    char *after = text_of(run(*state, "run", "-m", MODEL, "--load-state", file, "-n", "9"));
    expect_text(after, expected);
    done(&killed);
    free(before);
    free(after);
    free(expected);
}

static void states_that_cannot_be_used(void **state)
{
    const char *file = in_dir(state, "state"), *missing = in_dir(state, "none/state");
    char *ignored = text_of(run(*state, "run", "-m", MODEL, "-p", "A", "-n", "5", "--save-state", file));
    size_t size;

    expect_failure(run(*state, "run", "-m", MODEL, "--load-state", missing), 1, "No such file");
    expect_failure(run(*state, "run", "-m", MODEL, "--load-state", file, "--kv", "f32"), 1,
                   "was saved with keys and values f16, here it is f32; load it with --kv f16");
    expect_failure(run(*state, "run", "-m", GOLDEN("griffin"), "--load-state", file), 1, "load it with its own model");
    expect_failure(run(*state, "run", "-m", MODEL, "-p", "x", "--save-state", missing), 1, "No such file");
    expect_failure(run(*state, "run", "-m", MODEL, "-p", "x", "--save-state", *state), 1, "Is a directory");

    result full = run(*state, "run", "-m", MODEL, "-p", "x", "-n", "2", "--save-state", "/dev/full");
    expect_status(&full, 1);
    expect_contains(full.err, "eyrie: cannot write /dev/full: No space left on device\n");
    done(&full);

    char *bytes = read_whole(*state, "state", &size);
    bytes[size / 2] ^= 1;
    write_file(*state, "state", bytes, size);
    expect_failure(run(*state, "run", "-m", MODEL, "--load-state", file), 1, "damaged");
    write_file(*state, "state", bytes, size / 2);
    expect_failure(run(*state, "chat", "-m", MODEL, "--load-state", file), 1, "cut off");
    free(bytes);
    free(ignored);
}

/* ------------------------------------------------------------------------------------------------------------ chat */

/* A text as the chat shows it: with a newline at its end. */
static void add_answer(char *out, size_t room, const char *text)
{
    size_t n = strlen(text);
    snprintf(out + strlen(out), room - strlen(out), "%s%s", text, n && text[n - 1] != '\n' ? "\n" : "");
}

#define chat(state, input_text, ...) run_as(*(state), (setting){ .input = input_text }, "chat", "-m", MODEL, __VA_ARGS__)

/* Lines are read as they are, one after the other, and the state goes on from one to the next. */
static void lines_without_markers(void **state)
{
    static const char *const lines[] = { "ROMEO:", "What say you?", "JULIET:" };
    const char *file = in_dir(state, "state");
    char expected[4096] = "", prompt[64];

    for (size_t i = 0; i < COUNT(lines); i++) {
        const char *option = i ? "--load-state" : "--save-state";      /* the first has nothing to load: it says twice what it saves */
        snprintf(prompt, sizeof prompt, "%s\n", lines[i]);
        char *answer = text_of(run(*state, "run", "-m", MODEL, "-p", prompt, "-n", "20", "--temp", "0.8", "--seed", "9", option, file,
                                   "--save-state", file));
        add_answer(expected, sizeof expected, answer);
        free(answer);
    }
    result r = chat(state, "ROMEO:\n\n  What say you?  \nJULIET:", "-n", "20", "--seed", "9");
    expect_status(&r, 0);
    expect_text(r.out, expected);
    expect_text(r.err, "eyrie: note: the model has no turn markers (<start_of_turn>, <end_of_turn>); it just continues the text\n");
    done(&r);
}

static void commands_of_a_chat(void **state)
{
    const char *file = in_dir(state, "a state"), *other = in_dir(state, "other");
    char input[9000], *a, *b;

    a = text_of(chat(state, "ROMEO:\n", "-n", "20"));
    b = text_of(chat(state, "ROMEO:\nJULIET:\n", "-n", "20", "--save-state", other));
    assert_memory_equal(a, b, strlen(a));
    const char *second = b + strlen(a);

    snprintf(input, sizeof input, "ROMEO:\n/save %s\nJULIET:\n/load %s \nJULIET:\n/reset\nROMEO:\n/quit\nROMEO:\n", file, file);
    result r = chat(state, input, "-n", "20");
    char expected[4096];
    snprintf(expected, sizeof expected, "%s%s%s%s", a, second, second, a);
    expect_status(&r, 0);
    expect_text(r.out, expected);
    done(&r);

    char *from_file = text_of(chat(state, "JULIET:\n", "-n", "20", "--load-state", file, "--save-state", other));
    expect_text(from_file, second);
    char *on = text_of(chat(state, "King:\n", "-n", "20", "--load-state", other));
    char *at_once = text_of(chat(state, "ROMEO:\nJULIET:\nKing:\n", "-n", "20"));
    expect_text(on, at_once + strlen(b));
    free(from_file);
    free(on);
    free(at_once);
    free(a);
    free(b);
}

/* A conversation in as many parts as lines is what it is in one. */
static void sessions_go_on(void **state)
{
    static const char *const lines[] = { "ROMEO:\n", "JULIET:\n", "King:\n", "/reset\nROMEO:\n" };
    const char *file = in_dir(state, "session");
    char *whole = text_of(chat(state, "ROMEO:\nJULIET:\nKing:\n/reset\nROMEO:\n", "-n", "20")), parts[8192] = "";

    for (size_t i = 0; i < COUNT(lines); i++) {
        result r = chat(state, lines[i], "-n", "20", "--session", file);
        expect_status(&r, 0);
        strcat(parts, r.out);
        done(&r);
    }
    expect_text(parts, whole);
    free(whole);

    result none = run(*state, "chat", "-m", MODEL, "--session", file, "--load-state", file);
    expect_failure(none, 2, "--session loads and saves");
    write_text(*state, "session", "something else");
    expect_failure(run(*state, "chat", "-m", MODEL, "--session", file), 1, "not a state file");
    char still[32] = "";
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    assert_int_equal(fread(still, 1, sizeof still - 1, f), strlen("something else"));
    fclose(f);
    expect_text(still, "something else");
    expect_failure(run(*state, "chat", "-m", MODEL, "--session", "/none/session"), 1, "No such file");
}

/* A chat that is killed has lost what was said since its last answer, and no more. */
static void a_killed_session_goes_on(void **state)
{
    const char *file = in_dir(state, "session"), *pipe = in_dir(state, "pipe");
    const char *const args[] = { "chat", "-m", MODEL, "-n", "20", "--session", file, NULL };
    char *both = text_of(chat(state, "ROMEO:\nJULIET:\n", "-n", "20")), *first = text_of(chat(state, "ROMEO:\n", "-n", "20"));

    assert_int_equal(mkfifo(pipe, 0600), 0);
    pid_t child = start(*state, (setting){ .input_file = pipe }, args);
    int line = open(pipe, O_WRONLY);
    assert_int_equal(write(line, "ROMEO:\n", 7), 7);
    for (int i = 0; i < 600 && access(file, F_OK) != 0; i++)
        assert_int_equal(nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL), 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    result r = finish(*state, child);
    done(&r);
    assert_int_equal(close(line), 0);
    char *second = text_of(chat(state, "JULIET:\n", "-n", "20", "--session", file));
    expect_text(second, both + strlen(first));
    free(second);
    free(first);
    free(both);
}

/* What is wrong is said, and the chat goes on; it counts in the exit status. */
static void wrong_commands(void **state)
{
    static const struct { const char *line, *says; } cases[] = {
        { "/sav", "unknown command /sav" }, { "/save", "/save needs a file" }, { "/load ", "/load needs a file" },
        { "/load /none/state", "No such file" }, { "/save /none/state", "No such file" }, { "/reset all", "/reset takes nothing: 'all'" },
        { "not \xFF UTF-8", "byte 4 is 0xFF" },
    };
    char *expected = text_of(chat(state, "A\nB\n", "-n", "5"));

    for (size_t i = 0; i < COUNT(cases); i++) {
        char input[100];
        snprintf(input, sizeof input, "A\n%s\nB\n", cases[i].line);
        result r = chat(state, input, "-n", "5");
        expect_status(&r, 1);
        expect_text(r.out, expected);
        expect_contains(r.err, cases[i].says);
        done(&r);
    }
    result help = chat(state, "A\n/save /dev/null\n/help\nB\n", "-n", "5");
    expect_status(&help, 0);
    expect_text(help.out, expected);
    expect_contains(help.err, "/load FILE");
    done(&help);
    expect_failure(run(*state, "chat", "-m", GOLDEN("griffin")), 1, "tokenizer.model");
    free(expected);
}

/* SIGINT ends an answer and no more; SIGTERM the chat, which is saved. */
static void signals_during_answers(void **state)
{
    const char *file = in_dir(state, "state");
    const char *const args[] = { "chat", "-m", MODEL, "-n", "1000000000", "--save-state", file, NULL };
    pid_t child = start(*state, (setting){ .input = "A\nB\nC\n" }, args);
    long size = 0;

    for (int answer = 0; answer < 3; answer++) {
        size = wait_for_more(state, "out", size + 300, child);     /* more than what one step still adds to a stopped answer */
        assert_int_equal(kill(child, answer < 2 ? SIGINT : SIGTERM), 0);
    }
    result r = finish(*state, child);
    expect_status(&r, 128 + SIGTERM);
    done(&r);
    r = chat(state, "D\n", "-n", "5", "--load-state", file);
    expect_status(&r, 0);
    assert_true(r.out_length > 0);
    done(&r);
}

/* ---------------------------------------------------------------------------------------------------- turn markers */

/* A tokenizer.model whose pieces are these, in protobuf's wire format; every length here is less than 128. */
typedef struct writer {
    unsigned char bytes[4096];
    size_t        n;
} writer;

enum type { NORMAL = 1, UNKNOWN, CONTROL, DEFINED };

static void put(writer *w, unsigned char tag, const void *bytes, size_t n)
{
    w->bytes[w->n++] = tag;
    w->bytes[w->n++] = (unsigned char)n;
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_piece(writer *w, const char *text, enum type type)
{
    writer piece = { .n = 0 };

    put(&piece, 0x0A, text, strlen(text));                  /* 1: piece */
    memcpy(piece.bytes + piece.n, "\x15\0\0\0\0\x18", 6);   /* 2: score, 3: type */
    piece.n += 6;
    piece.bytes[piece.n++] = (unsigned char)type;
    put(w, 0x0A, piece.bytes, piece.n);
}

enum { EOS = 1, BOS, START = 4, END, NEWLINE, USER, ANSWERER, LETTERS };    /* ids; a is LETTERS */

/* What each token is in the text; the last are there to fill the vocabulary. */
static const char *piece_text(int id, char text[8])
{
    static const char *const first[] = { "", "", "", "", "<start_of_turn>", "<end_of_turn>", "\n", "user", "model" };

    if (id < LETTERS) return first[id];
    snprintf(text, 8, "%c", id < LETTERS + 26 ? 'a' + id - LETTERS : id < LETTERS + 52 ? 'A' + id - LETTERS - 26 : '.' - 61 + id);
    return text;
}

/* The checkpoint of a golden with a tokenizer that has turn markers, in the test's directory. */
static void make_model(void **state)
{
    static const char *const files[] = { "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors" };
    static const char *const control[] = { "<pad>", "<eos>", "<bos>" };
    writer w = { .n = 0 };
    char text[8], target[4200];

    for (size_t i = 0; i < COUNT(files); i++) {
        snprintf(target, sizeof target, "%s/%s", GOLDEN("griffin"), files[i]);
        assert_int_equal(symlink(target, path_of(*state, files[i])), 0);
    }
    for (int id = 0; id < PIECES; id++)
        put_piece(&w, id < 3 ? control[id] : id == 3 ? "<unk>" : piece_text(id, text),
                  id < 3 ? CONTROL : id == 3 ? UNKNOWN : id < LETTERS ? DEFINED : NORMAL);
    put(&w, 0x12, "\x18\x02", 2);               /* 2: trainer, of BPE */
    put(&w, 0x1A, "\x18\0\x20\0\x28\0", 6);     /* 3: normalizer, which adds no space and keeps all of them */
    write_file(*state, "tokenizer.model", w.bytes, w.n);
}

static size_t add_ids(int32_t *to, size_t n, const int32_t *ids, size_t count)
{
    memcpy(to + n, ids, count * sizeof *ids);
    return n + count;
}

/* The text of the first answer to a prompt of n ids, to which the answer's own are added: generated by `run`, which knows
 * nothing of turns, and cut at the end of the turn. */
static size_t answer_of(void **state, int32_t *ids, size_t n, const char *seed, char *text, size_t room)
{
    char list[2048] = "", piece[8];
    size_t i;

    for (i = 0; i < n; i++) snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i ? "," : "", (int)ids[i]);
    json_t *object = expect_json(run(*state, "run", "-m", *state, "--tokens", list, "-n", "40", "--compute", "f32", "--temp", "1.5", "--seed", seed,
                                     "--ignore-eos", "--json"));
    const json_t *tokens = json_object_get(object, "tokens");
    *text = '\0';
    for (i = 0; i < json_array_size(tokens); i++) {
        int id = (int)json_integer_value(json_array_get(tokens, i));
        ids[n++] = id;
        if (id == END || id == EOS) break;
        snprintf(text + strlen(text), room - strlen(text), "%s", piece_text(id, piece));
    }
    json_decref(object);
    return n;
}

/* The ids of two turns are those of MODEL.md's format: <bos>, then <start_of_turn> user \n ... <end_of_turn> \n
 * <start_of_turn> model \n, and between the turns the end of the answer, where the model has not written it itself. A chat
 * decodes what `run` reads here, so f32 compute. */
static void turns_with_markers(void **state)
{
    static const int32_t first[] = { BOS, START, USER, NEWLINE, LETTERS, LETTERS + 1, LETTERS + 25, END, NEWLINE, START, ANSWERER, NEWLINE };
    static const int32_t second[] = { NEWLINE, START, USER, NEWLINE, LETTERS + 7, LETTERS + 8, END, NEWLINE, START, ANSWERER, NEWLINE };
    int ended = 0, cut = 0;

    make_model(state);
    for (int seed = 0; seed < 5; seed++) {
        int32_t ids[256];
        char text[2][1024], expected[2048] = "", seed_text[12];
        size_t n = add_ids(ids, 0, first, COUNT(first));

        snprintf(seed_text, sizeof seed_text, "%d", seed);
        n = answer_of(state, ids, n, seed_text, text[0], sizeof text[0]);
        ended += ids[n - 1] == END;
        cut += ids[n - 1] != END;
        if (ids[n - 1] != END) ids[n++] = END;
        n = add_ids(ids, n, second, COUNT(second));
        (void)answer_of(state, ids, n, seed_text, text[1], sizeof text[1]);
        add_answer(expected, sizeof expected, text[0]);
        add_answer(expected, sizeof expected, text[1]);

        result r = run_as(*state, (setting){ .input = " abz \nhi\n" }, "chat", "-m", *state, "-n", "40", "--compute", "f32", "--temp", "1.5", "--seed",
                          seed_text);
        expect_status(&r, 0);
        expect_text(r.err, "");
        expect_text(r.out, expected);
        done(&r);
    }
    assert_true(ended > 0 && cut > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_in_dir(text_cut_anywhere),
        test_in_dir(prompt_after_a_state),
        test_in_dir(interrupted_run_goes_on),
        test_in_dir(killed_run_leaves_the_old_state),
        test_in_dir(states_that_cannot_be_used),
        test_in_dir(lines_without_markers),
        test_in_dir(commands_of_a_chat),
        test_in_dir(sessions_go_on),
        test_in_dir(a_killed_session_goes_on),
        test_in_dir(wrong_commands),
        test_in_dir(signals_during_answers),
        test_in_dir(turns_with_markers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
