/* test_reuse.c - the prefix cache of an engine: what it has is not read again, and nothing of that shows in what is
 * written; it keeps to its budgets on the device, in host memory and on the disk; and whatever is wrong with a file,
 * or fails, costs time and nothing else. What is kept and what goes is test_prefix's business, company
 * test_serving's. */
#include "dice.h"
#include "table.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { LONGEST = 500, SPACING = 64 };

static int32_t random_tokens[LONGEST];

static eyrie_request prompt_of(const int32_t *tokens, size_t n, uint64_t max_tokens)
{
    return (eyrie_request){ .struct_size = sizeof(eyrie_request), .tokens = tokens, .n_tokens = n, .max_tokens = max_tokens,
                            .flags = EYRIE_IGNORE_EOS };
}

static void roll_tokens(int32_t *tokens, uint32_t n, const eyrie_model *m)
{
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)below(ey_model_get_limits(m).vocab);
}

/* ------------------------------------------------------------------------------------------------------ what is reused */

/* One after the other, of a text of 300 tokens: how much is read, how much is not. */
static void prompts_are_read_once(void **state)
{
    static const struct {
        const char *what;
        uint32_t    n, parts_at;    /* its tokens; from which on it is another text than the first */
        uint32_t    max_tokens, flags;
        uint32_t    reused;
    } cases[] = {
        { "the first",                           300, 300, 5, 0, 0 },
        { "the same",                            300, 300, 5, 0, 300 },
        { "the same, to be kept",                300, 300, 0, EYRIE_KEEP_LOGITS, 300 },
        { "the same, to be read only",           300, 300, 0, 0, 300 },
        { "the same, scored",                    300, 300, 0, EYRIE_SCORE, 0 },
        { "it goes on",                          330, 300, 5, 0, 256 },
        { "another end",                         300, 260, 5, 0, 256 },
        { "half of it",                          150, 150, 5, 0, 128 },
        { "a whole number of blocks",            192, 192, 5, 0, 128 },
        { "the same again",                      192, 192, 5, 0, 192 },
        { "which others can go on from",         300, 200, 5, 0, 192 },
        { "less than a block in common",         300, 60,  5, 0, 0 },
    };
    static const struct { const char *name; eyrie_compute compute; uint32_t chunk; way lanes; } models[] = {
        { GOLDEN("griffin"), EYRIE_COMPUTE_F32, 256, TOGETHER }, { GOLDEN("hawk"), EYRIE_COMPUTE_AUTO, 64, TOGETHER },
        { GOLDEN("gqa"), EYRIE_COMPUTE_AUTO, 128, HALVES },      { GOLDEN("mqa"), EYRIE_COMPUTE_F32, 256, TURNS },
        { SHAKESPEARE, EYRIE_COMPUTE_AUTO, 256, STRANGERS },
    };
    static heard got, want[COUNT(cases)];
    int32_t tokens[COUNT(cases)][LONGEST];

    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        eyrie_model_opts opts = { .compute = models[m].compute, .chunk = models[m].chunk };
        table t = open_table(TOGETHER, models[m].name, opts, (eyrie_engine_opts){ 0 });
        dice = m;
        roll_tokens(random_tokens, LONGEST, t.model);
        for (size_t i = 0; i < COUNT(cases); i++) {
            roll_tokens(tokens[i], LONGEST, t.model);
            memcpy(tokens[i], random_tokens, cases[i].parts_at * sizeof(int32_t));
            eyrie_request r = prompt_of(tokens[i], cases[i].n, cases[i].max_tokens);
            r.flags |= cases[i].flags;
            run_alone(t.engine, r, &want[i]);
            assert_int_equal(want[i].reused, 0);
        }
        close_table(&t);

        t = open_table(models[m].lanes, models[m].name, opts, (eyrie_engine_opts){ .prefix_memory = 16 << 20, .prefix_spacing = SPACING });
        for (size_t i = 0; i < COUNT(cases); i++) {
            eyrie_request r = prompt_of(tokens[i], cases[i].n, cases[i].max_tokens);
            uint64_t before = stats_of(t.engine).prefill_tokens;
            char what[120];
            snprintf(what, sizeof what, "%s: %s", models[m].name, cases[i].what);
            r.flags |= cases[i].flags;
            run_alone(t.engine, r, &got);
            assert_same(what, &got, &want[i]);
            if (got.reused != cases[i].reused || stats_of(t.engine).prefill_tokens - before != cases[i].n - cases[i].reused)
                fail_msg("%s: %d reused, %d read", what, (int)got.reused, (int)(stats_of(t.engine).prefill_tokens - before));
        }
        assert_in_range(stats_of(t.engine).prefix_bytes, 1, 16 << 20);
        close_table(&t);
    }
}

/* Where texts part, a snapshot is taken the second time, so that the third reads less than a block of what they
 * share. */
static void branches_are_remembered(void **state)
{
    static heard got, want[3];
    int32_t tokens[3][LONGEST];

    (void)state;
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 256 }, (eyrie_engine_opts){ 0 });
    dice = 3;
    roll_tokens(random_tokens, LONGEST, t.model);
    for (int i = 0; i < 3; i++) {
        roll_tokens(tokens[i], LONGEST, t.model);
        memcpy(tokens[i], random_tokens, 220 * sizeof(int32_t));
        run_alone(t.engine, prompt_of(tokens[i], 250 + 30 * (size_t)i, 4), &want[i]);
    }
    close_table(&t);
    t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 256 },
                   (eyrie_engine_opts){ .prefix_memory = 16 << 20, .prefix_spacing = 256 });
    for (int i = 0; i < 3; i++) {
        run_alone(t.engine, prompt_of(tokens[i], 250 + 30 * (size_t)i, 4), &got);
        assert_same("branch", &got, &want[i]);
        assert_int_equal(got.reused, i == 2 ? 192 : 0);
    }
    close_table(&t);
}

/* What a sequence reads after its first request, in a fork, or after it was loaded, is no beginning of a text. */
static void only_beginnings_are_kept(void **state)
{
    static heard got, want;
    char file[4096];
    int32_t tokens[LONGEST];
    eyrie_seq *s, *more[2];

    snprintf(file, sizeof file, "%s", path_of(*state, "state"));
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64, .slots = 3 }, (eyrie_engine_opts){ 0 });
    dice = 21;
    roll_tokens(tokens, LONGEST, t.model);
    run_alone(t.engine, prompt_of(tokens, 300, 5), &want);
    close_table(&t);
    t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64, .slots = 3 },
                   (eyrie_engine_opts){ .prefix_memory = 16 << 20, .prefix_spacing = SPACING });
    roll_tokens(random_tokens, LONGEST, t.model);
    s = open_seq(t.engine);
    submit(s, prompt_of(random_tokens, 60, 5), &got);
    run_to_end(t.engine);
    uint64_t held = stats_of(t.engine).prefix_bytes;
    assert_ok(eyrie_seq_fork(&more[0], s, &err));
    assert_ok(eyrie_seq_save(s, file, &err));
    assert_ok(eyrie_seq_load(&more[1], t.engine, file, &err));
    for (uint32_t i = 0; i < 3; i++) {
        eyrie_seq *one = i ? more[i - 1] : s;
        submit(one, prompt_of(tokens, 300, 5), &got);
        run_to_end(t.engine);
        assert_int_equal(got.reused, 0);
        assert_ok(eyrie_seq_close(one));
    }
    assert_int_equal(stats_of(t.engine).prefix_bytes, held);
    run_alone(t.engine, prompt_of(tokens, 300, 5), &got);
    assert_same("a beginning", &got, &want);
    assert_int_equal(got.reused, 0);
    close_table(&t);
}

/* Prompts that come together: of those that begin alike one reads what they share. */
static void what_is_shared_is_read_once(void **state)
{
    enum { TOGETHER_NOW = 6, SHARED = 200 };
    static const struct { const char *policy; uint32_t chunk, slots; way lanes; bool same; } cases[] = {
        { NULL, 256, 6, TOGETHER, false }, { "fifo", 512, 6, TOGETHER, true }, { "chunked", 64, 3, HALVES, false },
        { NULL, 1024, 6, TURNS, false },   { "fifo", 512, 2, TURNS, true },    { "chunked", 1024, 4, STRANGERS, true },
    };
    static heard got[TOGETHER_NOW], want[TOGETHER_NOW];
    int32_t tokens[TOGETHER_NOW][LONGEST];

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        eyrie_model_opts opts = { .chunk = cases[c].chunk };
        eyrie_seq *seqs[TOGETHER_NOW];
        uint64_t all = 0, read;
        table t = open_table(TOGETHER, GOLDEN("griffin"), opts, (eyrie_engine_opts){ 0 });
        dice = c;
        roll_tokens(random_tokens, LONGEST, t.model);
        for (uint32_t i = 0; i < TOGETHER_NOW; i++) {
            roll_tokens(tokens[i], LONGEST, t.model);
            memcpy(tokens[i], random_tokens, (cases[c].same ? LONGEST : SHARED) * sizeof(int32_t));
            run_alone(t.engine, prompt_of(tokens[i], cases[c].same ? 230 : 230 + 10 * i, 4), &want[i]);
        }
        close_table(&t);

        opts.slots = cases[c].slots;
        t = open_table(cases[c].lanes, GOLDEN("griffin"), opts,
                       (eyrie_engine_opts){ .policy = cases[c].policy, .prefix_memory = 16 << 20, .prefix_spacing = 1024 });
        for (uint32_t i = 0; i < TOGETHER_NOW; i++) {
            eyrie_request r = prompt_of(tokens[i], cases[c].same ? 230 : 230 + 10 * i, 4);
            submit(seqs[i] = open_seq(t.engine), r, &got[i]);
            all += r.n_tokens;
        }
        for (uint32_t over = 0, closed = 0; closed < TOGETHER_NOW; closed = over) {
            bool busy;
            (void)eyrie_engine_step(t.engine, &busy, &err);     /* some may wait for slots of those that are over */
            for (uint32_t i = over = 0; i < TOGETHER_NOW; i++) {
                if (seqs[i] && got[i].over) {
                    assert_ok(eyrie_seq_close(seqs[i]));
                    seqs[i] = NULL;
                }
                over += !seqs[i];
            }
        }
        for (uint32_t i = 0; i < TOGETHER_NOW; i++) assert_same("together", &got[i], &want[i]);
        read = stats_of(t.engine).prefill_tokens;
        assert_int_equal(read, cases[c].same ? 230 : all - (TOGETHER_NOW - 1) * (SHARED / 64 * 64));
        close_table(&t);
    }
}

/* ---------------------------------------------------------------------------------------------------------- by chance */

enum { REQUESTS = 60, FAMILIES = 4 };

/* A workload of prompts that share beginnings, with everything that a request can ask for. */
static eyrie_request workload[REQUESTS];
static int32_t workload_tokens[REQUESTS][LONGEST];
static heard wanted[REQUESTS], heard_now[REQUESTS];

static void make_workload(const eyrie_model *m)
{
    int32_t families[FAMILIES][LONGEST];

    for (uint32_t f = 0; f < FAMILIES; f++) roll_tokens(families[f], LONGEST, m);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        int32_t *tokens = workload_tokens[i];
        uint32_t n = between(1, 300), shared = below(300);
        roll_tokens(tokens, LONGEST, m);
        memcpy(tokens, families[below(FAMILIES)], shared * sizeof *tokens);
        if (i > 0 && one_in(3)) {               /* the same as an earlier one, or its continuation */
            uint32_t other = below(i), there = (uint32_t)workload[other].n_tokens;
            memcpy(tokens, workload_tokens[other], there * sizeof *tokens);
            n = there + (one_in(2) ? 0 : below(LONGEST - there));
        }
        workload[i] = prompt_of(tokens, n, between(0, 8));
        workload[i].temperature = (float)(below(3) * 4);            /* 8 asks for whole rows of logits, where there are enough tokens */
        if (one_in(4)) workload[i].repetition_penalty = 1.3f;
        if (one_in(8)) workload[i].flags |= EYRIE_SCORE;
        else if (workload[i].max_tokens == 0 && one_in(2)) workload[i].flags |= EYRIE_KEEP_LOGITS;
        workload[i].seed = roll();
    }
}

/* All of it in some order, several at a time; some are cancelled and closed. Returns the prompt tokens of those that
 * were not. */
static uint64_t serve_workload(eyrie_engine *e, const char *what, bool cancels)
{
    eyrie_seq *seqs[REQUESTS] = { NULL };
    uint32_t came = 0, here = 0;
    uint64_t tokens = 0;

    while (came < REQUESTS || here > 0) {
        bool busy;
        while (came < REQUESTS && (here == 0 || one_in(3))) {
            submit(seqs[came] = open_seq(e), workload[came], &heard_now[came]);
            came++;
            here++;
        }
        assert_ok(eyrie_engine_step(e, &busy, &err));
        for (uint32_t i = 0; i < came; i++) {
            if (!seqs[i]) continue;
            if (cancels && !heard_now[i].over && one_in(30)) assert_ok(eyrie_seq_cancel(seqs[i], &err));
            else if (cancels && !heard_now[i].over && one_in(30)) heard_now[i] = (heard){ .over = true, .end = EYRIE_END_CANCELLED };
            if (!heard_now[i].over) continue;
            if (heard_now[i].end != EYRIE_END_CANCELLED) {
                assert_same(what, &heard_now[i], &wanted[i]);
                assert_in_range(heard_now[i].reused, 0, workload[i].n_tokens);
                tokens += workload[i].n_tokens;
            }
            assert_ok(eyrie_seq_close(seqs[i]));
            seqs[i] = NULL;
            here--;
        }
    }
    return tokens;
}

static void nothing_shows_by_chance(void **state)
{
    static const struct {
        const char *name, *policy;
        uint32_t    chunk, slots, spacing;
        uint64_t    memory, host;
        way         lanes;
    } cases[] = {
        { GOLDEN("griffin"), NULL, 256, 4, 64, 16 << 20, 0, TOGETHER },
        { GOLDEN("griffin"), "fifo", 64, 3, 128, 1 << 20, 2 << 20, HALVES },
        { GOLDEN("gqa"), "chunked", 128, 2, 0, 600 << 10, 600 << 10, TURNS },
        { GOLDEN("mqa"), NULL, 50, 4, 64, 4 << 20, 0, TOGETHER },           /* cut at multiples of 50 */
        { GOLDEN("hawk-odd"), NULL, 64, 3, 64, 1 << 20, 0, STRANGERS },
        { SHAKESPEARE, NULL, 256, 4, 256, 1 << 20, 1 << 20, TOGETHER },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_model_opts opts = { .chunk = cases[i].chunk, .slots = 1 };
        table t = open_table(TOGETHER, cases[i].name, opts, (eyrie_engine_opts){ 0 });
        dice = 40 + i;
        make_workload(t.model);
        for (uint32_t k = 0; k < REQUESTS; k++) run_alone(t.engine, workload[k], &wanted[k]);
        close_table(&t);

        opts.slots = cases[i].slots;
        t = open_table(cases[i].lanes, cases[i].name, opts,
                       (eyrie_engine_opts){ .policy = cases[i].policy, .prefix_memory = cases[i].memory, .prefix_host = cases[i].host,
                                            .prefix_spacing = cases[i].spacing });
        serve_workload(t.engine, cases[i].name, false);
        eyrie_stats first = stats_of(t.engine);
        serve_workload(t.engine, cases[i].name, true);
        uint64_t tokens = serve_workload(t.engine, cases[i].name, false);
        eyrie_stats stats = stats_of(t.engine);
        assert_in_range(stats.prefix_bytes, 1, cases[i].memory + cases[i].host);
        assert_true(first.prefix_hits > 0 && stats.prefix_tokens > first.prefix_tokens && tokens > first.prefix_tokens);
        assert_int_equal(stats.reused_tokens, stats.prefix_tokens);
        assert_true(stats.prefix_copied > 0 && stats.prefix_seconds > 0);
        close_table(&t);
    }
}

/* --------------------------------------------------------------------------------------------------------------- files */

/* Notes to the log. */
static struct { unsigned n; char all[8192]; } notes;

static void take_note(void *user, const char *line)
{
    size_t at = strlen(notes.all);

    (void)user;
    notes.n++;
    snprintf(notes.all + at, sizeof notes.all - at, "%s\n", line);
}

static void expect_notes(unsigned n, const char *part)
{
    if (notes.n != n || !strstr(notes.all, part)) fail_msg("%u notes, not %u with \"%s\": %s", notes.n, n, part, notes.all);
    memset(&notes, 0, sizeof notes);
}

typedef struct shop {
    eyrie_device *device;
    eyrie_model  *model;
    eyrie_engine *engine;
} shop;

static shop open_shop(const char *name, const char *directory, uint64_t disk)
{
    const eyrie_device_opts device_opts = { .struct_size = sizeof device_opts, .select = getenv("EYRIE_DEVICE"), .log = take_note };
    const eyrie_model_opts model_opts = { .struct_size = sizeof model_opts, .chunk = 64 };
    const eyrie_engine_opts opts = { .struct_size = sizeof opts, .prefix_memory = 16 << 20, .prefix_spacing = SPACING,
                                     .prefix_dir = directory, .prefix_disk = disk };
    shop s;

    if (!device) skip();
    assert_ok(eyrie_device_open(&s.device, &device_opts, &err));
    assert_ok(eyrie_model_open(&s.model, s.device, source_path(name), &model_opts, &err));
    memset(&notes, 0, sizeof notes);
    assert_ok(eyrie_engine_open(&s.engine, s.model, &opts, &err));
    return s;
}

static void close_shop(shop *s)
{
    assert_ok(eyrie_engine_close(s->engine));
    assert_ok(eyrie_model_close(s->model));
    assert_int_equal(s->device->used, 0);
    assert_ok(eyrie_device_close(s->device));
}

typedef struct files {
    char     names[16][sizeof ((struct dirent *)NULL)->d_name];
    uint32_t n;
    uint64_t bytes;
} files;

static files files_in(const char *directory)
{
    DIR *d = opendir(directory);
    struct stat info;
    files f = { .n = 0 };

    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (stat(path_of(directory, entry->d_name), &info) != 0 || !S_ISREG(info.st_mode)) continue;
        assert_in_range(f.n, 0, COUNT(f.names) - 1);
        memcpy(f.names[f.n++], entry->d_name, sizeof entry->d_name);
        f.bytes += (uint64_t)info.st_size;
    }
    closedir(d);
    return f;
}

/* 200 tokens: four snapshots, after 64, 128, 192 and all. */
static void read_prompt(shop *s, const heard *want, uint32_t reused)
{
    static heard got;

    dice = 77;
    roll_tokens(random_tokens, 200, s->model);
    run_alone(s->engine, prompt_of(random_tokens, 200, 6), &got);
    if (want->over) assert_same("from files", &got, want);
    assert_int_equal(got.reused, reused);
}

static void write_want(heard *want)
{
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64 }, (eyrie_engine_opts){ 0 });

    dice = 77;
    roll_tokens(random_tokens, 200, t.model);
    run_alone(t.engine, prompt_of(random_tokens, 200, 6), want);
    close_table(&t);
}

static void later_engines_begin_with_files(void **state)
{
    static heard want;

    write_want(&want);
    for (uint32_t round = 0; round < 3; round++) {
        shop s = open_shop(GOLDEN("griffin"), *state, 0);
        read_prompt(&s, &want, round ? 200 : 0);
        close_shop(&s);
        assert_int_equal(files_in(*state).n, 4);
        assert_int_equal(notes.n, 0);
    }
    /* What a process that was killed left long ago goes; of one that may still be writing it stays. */
    char left[2][4200];
    files kept = files_in(*state);
    for (uint32_t i = 0; i < 2; i++) {
        const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = i ? UTIME_NOW : 0, .tv_sec = 1000000 } };
        snprintf(left[i], sizeof left[i], "%s.%u.0.tmp", path_of(*state, kept.names[i]), (unsigned)i);
        FILE *f = fopen(left[i], "w");
        assert_non_null(f);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(utimensat(AT_FDCWD, left[i], times, 0), 0);
    }
    shop again = open_shop(GOLDEN("griffin"), *state, 0);
    read_prompt(&again, &want, 200);
    close_shop(&again);
    assert_int_not_equal(access(left[0], F_OK), 0);
    assert_int_equal(remove(left[1]), 0);
    /* Another model finds nothing, says so, and leaves the files alone. */
    shop s = open_shop(GOLDEN("hawk"), *state, 0);
    expect_notes(1, "4 file(s)");
    static const heard nothing;
    read_prompt(&s, &nothing, 0);
    close_shop(&s);
    files all = files_in(*state);
    assert_int_equal(all.n, 8);
    /* Room for half of its own: the most valuable stay, and others' files do not count. */
    s = open_shop(GOLDEN("griffin"), *state, all.bytes / 4);
    close_shop(&s);
    assert_in_range(files_in(*state).n, 5, 7);
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    assert_int_not_equal(fputc(byte ^ 1, f), EOF);
    assert_int_equal(fclose(f), 0);
}

/* A file that is not what it was is noted by name and read past; afterwards it is whole again. */
static void damaged_files_are_misses(void **state)
{
    static const struct { const char *what; long at; } cases[] = {
        { "not a state file", 0 }, { "trait", 40 }, { "checksum", -20 }, { "cut off", 24 },
    };
    static heard want;
    char path[4096];

    write_want(&want);
    for (size_t i = 0; i < COUNT(cases); i++) {
        shop s = open_shop(GOLDEN("griffin"), *state, 0);
        read_prompt(&s, &want, i ? 200 : 0);
        close_shop(&s);
        files all = files_in(*state);
        assert_int_equal(all.n, 4);
        for (uint32_t k = 0; k < all.n; k++) flip_byte(path_of(*state, all.names[k]), cases[i].at);
        snprintf(path, sizeof path, "%s", path_of(*state, all.names[0]));
        s = open_shop(GOLDEN("griffin"), *state, 0);
        read_prompt(&s, &want, 0);
        if (notes.n != 4 || !strstr(notes.all, cases[i].what) || !strstr(notes.all, path)) fail_msg("%s", notes.all);
        close_shop(&s);
    }
}

/* One that was put in place of another is not taken for it. */
static void files_under_wrong_names(void **state)
{
    static heard want;
    char path[4096];

    write_want(&want);
    shop s = open_shop(GOLDEN("griffin"), *state, 0);
    read_prompt(&s, &want, 0);
    close_shop(&s);
    files all = files_in(*state);
    assert_int_equal(all.n, 4);
    for (uint32_t n = 1; n < 4; n++) {
        snprintf(path, sizeof path, "%s", path_of(*state, all.names[n - 1]));
        assert_int_equal(rename(path_of(*state, all.names[n]), path), 0);
    }
    s = open_shop(GOLDEN("griffin"), *state, 0);
    expect_notes(3, "another prompt");
    read_prompt(&s, &want, 0);
    close_shop(&s);
}

/* Nor is one that takes another's place while the engine is open; both prompts have the same length. */
static void files_that_change_places(void **state)
{
    static heard got, want[2];
    const char *temporary = "between";
    char path[3][4096];

    dice = 5;
    for (uint32_t round = 0; round < 2; round++) {
        shop s = open_shop(GOLDEN("griffin"), *state, 0);
        if (round == 0) roll_tokens(random_tokens, 128, s.model);
        if (round == 1) {
            files two = files_in(*state);
            assert_int_equal(two.n, 2);
            for (uint32_t i = 0; i < 3; i++) snprintf(path[i], sizeof *path, "%s", path_of(*state, i < 2 ? two.names[i] : temporary));
            assert_int_equal(rename(path[0], path[2]) | rename(path[1], path[0]) | rename(path[2], path[1]), 0);
        }
        for (uint32_t i = 0; i < 2; i++) {
            run_alone(s.engine, prompt_of(random_tokens + 64 * i, 64, 3), round ? &got : &want[i]);
            if (round == 0) continue;
            assert_same("in place of another", &got, &want[i]);
            assert_int_equal(got.reused, 0);
        }
        if (round == 1) expect_notes(2, "another prompt");
        close_shop(&s);
    }
}

/* No file may become larger than a few bytes, as if the disk were full: noted once, and all goes on. */
static void a_full_disk_is_noted_once(void **state)
{
    static heard want;
    struct rlimit before, small;

    write_want(&want);
    shop s = open_shop(GOLDEN("griffin"), *state, 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100;
    (void)signal(SIGXFSZ, SIG_IGN);
    read_prompt(&s, &want, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    close_shop(&s);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
    expect_notes(1, "no more is kept there");
    assert_int_equal(files_in(*state).n, 0);
}

static void directories_that_cannot_be(void **state)
{
    const eyrie_engine_opts cases[] = {
        { .prefix_dir = *state }, { .prefix_host = 1 }, { .prefix_memory = 1 << 20, .prefix_spacing = 65 },
        { .prefix_memory = UINT64_MAX }, { .prefix_memory = 1 << 20, .prefix_dir = "/dev/null/here" },
    };
    static const struct { eyrie_status status; const char *part; } want[] = {
        { EYRIE_EINVAL, "prefix_memory" }, { EYRIE_EINVAL, "prefix_memory" }, { EYRIE_EINVAL, "65" }, { EYRIE_EMEMORY, "--prefix-cache" },
        { EYRIE_EIO, "/dev/null/here" },
    };
    eyrie_model *m = open_model(GOLDEN("griffin"), (eyrie_model_opts){ 0 });

    for (size_t i = 0; i < COUNT(cases); i++) {
        eyrie_engine_opts opts = cases[i];
        eyrie_engine *e = NULL;
        opts.struct_size = sizeof opts;
        assert_fails(eyrie_engine_open(&e, m, &opts, &err), want[i].status, want[i].part);
        assert_null(e);
    }
    assert_ok(eyrie_model_close(m));
}

/* ------------------------------------------------------------------------------------------------------------- faults */

static uint32_t calls_left;

static cl_int fail_one_call(const char *call)
{
    (void)call;
    return calls_left-- == 0 ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

/* The same prompt, a longer one, and the same again, with one failure somewhere in between: who fails, fails alone
 * and is told; who does not writes what it should. False: nothing was left to fail. */
static bool serve_with_a_fault(eyrie_engine *e, uint32_t n, bool memory, const heard *want)
{
    static heard got;
    bool failed = false;

    calls_left = n;
    if (memory) fail_allocation(n);
    else ey_cl_hook = fail_one_call;
    for (uint32_t i = 0; i < 3; i++) {
        eyrie_seq *s;
        bool busy = true, over;
        eyrie_request r = prompt_of(random_tokens, i == 1 ? 230 : 200, 3);
        r.on_event = hear;
        r.user = &got;
        got = (heard){ .n = 0 };
        if (eyrie_seq_open(&s, e, &err) != EYRIE_OK) continue;
        over = eyrie_seq_submit(s, &r, &err) != EYRIE_OK;
        for (uint32_t step = 0; busy && !over && step < 100; step++) (void)eyrie_engine_step(e, &busy, &err);
        assert_true(over || got.over);
        if (!over && got.end != EYRIE_END_FAILED) assert_same("beside a fault", &got, &want[i]);
        assert_ok(eyrie_seq_close(s));
    }
    if (memory) failed = allocation_failed();
    else failed = calls_left > n;        /* it has gone below 0 */
    ey_cl_hook = NULL;
    return failed;
}

static void faults_are_misses(void **state)
{
    static const eyrie_engine_opts caches[] = {
        { .prefix_memory = 16 << 20, .prefix_spacing = SPACING },
        { .prefix_memory = 120 << 10, .prefix_host = 60 << 10, .prefix_spacing = SPACING },     /* with moves between them */
    };
    static heard want[3];

    (void)state;
    table t = open_table(TOGETHER, GOLDEN("mha-spelling"), (eyrie_model_opts){ .chunk = 64 }, (eyrie_engine_opts){ 0 });
    dice = 9;
    roll_tokens(random_tokens, 230, t.model);
    for (uint32_t i = 0; i < 3; i++) run_alone(t.engine, prompt_of(random_tokens, i == 1 ? 230 : 200, 3), &want[i]);
    assert_ok(eyrie_engine_close(t.engine));
    for (size_t c = 0; c < COUNT(caches); c++)
        for (int memory = 0; memory < 2; memory++) {
            bool failed = true;
            for (uint32_t n = 0; failed; n += 1 + n / 20) {
                eyrie_engine_opts opts = caches[c];
                uint64_t used = device->used;
                opts.struct_size = sizeof opts;
                assert_ok(eyrie_engine_open(&t.engine, t.model, &opts, &err));
                failed = serve_with_a_fault(t.engine, n, memory, want);
                assert_in_range(stats_of(t.engine).prefix_bytes, 0, opts.prefix_memory + opts.prefix_host);
                assert_int_equal(ey_free_slots(t.engine), 1);
                assert_ok(eyrie_engine_close(t.engine));
                assert_int_equal(device->used, used);
            }
        }
    assert_ok(eyrie_model_close(t.model));
}

static cl_int fail_copies(const char *call) { return strcmp(call, "clEnqueueCopyBuffer") ? CL_SUCCESS : CL_OUT_OF_RESOURCES; }

/* States that cannot be copied are not kept, and those that were are not used. */
static void without_copies(void **state)
{
    static heard got, want;

    (void)state;
    table t = open_table(TOGETHER, GOLDEN("griffin"), (eyrie_model_opts){ .chunk = 64 },
                         (eyrie_engine_opts){ .prefix_memory = 16 << 20, .prefix_spacing = SPACING });
    uint32_t vector = device->vector;

    dice = 8;
    roll_tokens(random_tokens, 200, t.model);
    run_alone(t.engine, prompt_of(random_tokens, 200, 3), &want);
    device->vector = 1;             /* states are copied by commands then, not by a kernel */
    ey_cl_hook = fail_copies;
    run_alone(t.engine, prompt_of(random_tokens, 200, 3), &got);
    ey_cl_hook = NULL;
    device->vector = vector;
    assert_same("without copies", &got, &want);
    assert_int_equal(got.reused, 0);
    assert_int_equal(stats_of(t.engine).prefix_bytes, 0);
    close_table(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_read_once),     cmocka_unit_test(branches_are_remembered),
        cmocka_unit_test(what_is_shared_is_read_once),
        cmocka_unit_test(nothing_shows_by_chance),   test_in_dir(later_engines_begin_with_files),
        test_in_dir(only_beginnings_are_kept),       test_in_dir(files_that_change_places),
        test_in_dir(damaged_files_are_misses),       test_in_dir(files_under_wrong_names),
        test_in_dir(a_full_disk_is_noted_once),      test_in_dir(directories_that_cannot_be),
        cmocka_unit_test(faults_are_misses),         cmocka_unit_test(without_copies),
    };

    return cmocka_run_group_tests(tests, open_device, close_device);
}
