/* session.c - see session.h. */
#include "session.h"
#include "probing.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------------------------------- progress */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* One line on a terminal, shown where the work takes more than a second. */
typedef struct progress {
    bool   possible, shown;
    double next;                /* when it may change */
} progress;

static progress new_progress(void) { return (progress){ .possible = isatty(STDERR_FILENO) == 1, .next = seconds() + 1 }; }

/* May it be shown now? Then it is taken to be. */
static bool is_due(progress *p)
{
    if (!p->possible || seconds() < p->next) return false;
    p->next = seconds() + 0.2;
    return p->shown = true;
}

static void wipe_progress(progress *p)
{
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}

static void show_opening(void *user, const char *what, double done)
{
    if (is_due(user)) fprintf(stderr, "\r%s: %.0f %%\033[K", what, 100 * done);
}

/* --------------------------------------------------------------------------------------------------------- opening */

static void print_note(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "eyrie: note: %s\n", line);
}

/* Is there a thread for each processor of the machine, and may the process use them all? */
static bool fills_machine(uint64_t threads)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN), last = 0;
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];

    while (f && last == 0 && fgets(line, sizeof line, f)) (void)sscanf(line, "Cpus_allowed_list: 0-%ld", &last);
    if (f) fclose(f);
    return last > 0 && last + 1 == processors && (threads == 0 || threads == (uint64_t)processors);
}

/* PoCL reads its settings from the environment at the library's first call. With affinity it pins thread i to processor
 * i, without two threads now and then share one, which doubles the time. But it aborts where the processor is not the
 * process's to use, and with fewer threads than processors, commands side by side would all be pinned to the first. */
static int set_environment(const cli_options *o)
{
    char threads[24];

    snprintf(threads, sizeof threads, "%" PRIu64, o->threads);
    if ((o->threads && setenv("POCL_MAX_PTHREAD_COUNT", threads, 1) != 0)
        || (fills_machine(o->threads) && setenv("POCL_AFFINITY", "1", 0) != 0))
        return cli_fail("environment: %s", strerror(errno));
    return CLI_DONE;
}

/* The library takes the kernels that are there; that none can be would go unnoticed. */
static int check_kernel_dir(const char *path)
{
    DIR *d = path ? opendir(path) : NULL;

    if (path && !d) return cli_fail("--kernel-dir %s: %s", path, strerror(errno));
    if (d) closedir(d);
    return CLI_DONE;
}

int cli_prepare(const cli_options *o)
{
    int status = set_environment(o);
    return status == CLI_DONE ? check_kernel_dir(o->kernel_dir) : status;
}

/* Where built kernels are kept, NULL for nowhere. If nobody says, as the XDG specification has it: a path that is not
 * absolute counts for nothing. */
static const char *choose_cache_dir(const char *given, char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;

    if (given) return *given ? given : NULL;
    if (cache && *cache == '/') n = snprintf(path, size, "%s/eyrie", cache);
    else if (home && *home == '/') n = snprintf(path, size, "%s/.cache/eyrie", home);
    return n > 0 && (size_t)n < size ? path : NULL;
}

/* Where a state is to be saved in the end, a file can be made in the beginning. */
static int check_place(const char *path)
{
    cli_file f;
    struct stat there;
    int status;

    if (!path) return CLI_DONE;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return S_ISDIR(there.st_mode) ? cli_fail("--save-state %s: %s", path, strerror(EISDIR)) : CLI_DONE;
    status = cli_file_open(&f, path);
    (void)cli_file_close(&f, false);
    return status;
}

void cli_session_add_token(cli_session *s, int32_t token)
{
    cli_grow(&s->tokens, &s->capacity, s->n_tokens + 1, sizeof *s->tokens);
    s->tokens[s->n_tokens++] = token;
}

static int parse_tokens(cli_session *s, const cli_options *o)
{
    const char *p = o->tokens;
    char *end;

    for (;; p = end + 1) {
        int length = (int)strcspn(p, ",");
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || end != p + length || strchr(" \t\n\v\f\r+", *p))      /* which strtoll would take */
            return cli_wrong_usage(o->command, "--tokens: '%.*s' is not a token id; ids look like 2,5,9", length, p);
        if (errno || id < INT32_MIN || id > INT32_MAX)
            return cli_fail("--tokens: %.*s is outside of any vocabulary", length, p);
        cli_session_add_token(s, (int32_t)id);
        if (*end == '\0') return CLI_DONE;
    }
}

/* The prompt as it was given, before anything that takes time. */
static int read_prompt(cli_session *s, const cli_options *o)
{
    if (o->tokens) return parse_tokens(s, o);
    if (o->file || o->from_stdin) return cli_read(&s->text, &s->text_length, o->file);
    if (!o->text) return CLI_DONE;
    s->text_length = strlen(o->text);
    s->text = cli_resize(NULL, s->text_length + 1, 1);
    memcpy(s->text, o->text, s->text_length + 1);
    return CLI_DONE;
}

/* Most texts have fewer tokens than bytes; if this one has more, the second attempt has room. The library puts <bos> before
 * every text. */
int cli_session_add_text(cli_session *s, const char *text, size_t length)
{
    size_t n = length + 1, room, bos = s->info.bos >= 0;
    int32_t *to;
    eyrie_error err;

    do {
        cli_grow(&s->tokens, &s->capacity, s->n_tokens + n, sizeof *s->tokens);
        to = s->tokens + s->n_tokens;
        room = s->capacity - s->n_tokens;
        if (eyrie_encode(s->model, text, length, to, room, &n, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    } while (n > room);
    memmove(to, to + bos, (n - bos) * sizeof *to);
    s->n_tokens += n - bos;
    return CLI_DONE;
}

eyrie_status cli_device_open(eyrie_device **out, const cli_options *o, eyrie_error *err)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts, .select = o->device, .kernel_dir = o->kernel_dir,
                               .memory = o->memory, .max_alloc = o->max_alloc, .log = print_note };
    char cache_dir[4096];

    if (o->kernels && strcmp(o->kernels, "auto") != 0)
        opts.kernels = strcmp(o->kernels, "cpu") == 0 ? EYRIE_KERNELS_CPU : EYRIE_KERNELS_GPU;
    opts.cache_dir = choose_cache_dir(o->cache_dir, cache_dir, sizeof cache_dir);
    return eyrie_device_open(out, &opts, err);
}

/* Verdicts can be remembered where there is a cache. */
eyrie_status cli_device_open_probed(eyrie_device **out, const cli_options *o, eyrie_error *err)
{
    char cache_dir[4096];
    bool needed = choose_cache_dir(o->cache_dir, cache_dir, sizeof cache_dir) && !(o->compute && strcmp(o->compute, "f32") == 0);
    cli_prober prober = { .child = -1 };
    eyrie_status st;

    if (needed) cli_prober_start(&prober, o);
    st = cli_device_open(out, o, err);
    cli_prober_end(&prober, st == EYRIE_OK ? *out : NULL);
    return st;
}

static int open_sequence(cli_session *s, const cli_options *o)
{
    eyrie_error err;
    eyrie_status st = o->load_state ? eyrie_seq_load(&s->seq, s->engine, o->load_state, &err)
                                    : eyrie_seq_open(&s->seq, s->engine, &err);

    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    if (!s->text) return CLI_DONE;
    if (!o->load_state && s->info.bos >= 0) cli_session_add_token(s, s->info.bos);
    return cli_session_add_text(s, s->text, s->text_length);
}

int cli_session_open(cli_session *s, const cli_options *o)
{
    eyrie_model_opts model_opts = cli_model_opts(o);
    progress p = new_progress();
    eyrie_status st;
    eyrie_error err;
    int status;

    model_opts.progress = show_opening;
    model_opts.progress_user = &p;
    *s = (cli_session){ .info.struct_size = sizeof s->info };
    if ((status = read_prompt(s, o)) != CLI_DONE || (status = cli_prepare(o)) != CLI_DONE
        || (status = check_place(o->save_state)) != CLI_DONE)
        return status;
    if (cli_device_open_probed(&s->device, o, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    st = eyrie_model_open(&s->model, s->device, o->model, &model_opts, &err);
    wipe_progress(&p);
    if (st != EYRIE_OK
        || eyrie_model_get_info(s->model, &s->info, &err) != EYRIE_OK
        || eyrie_engine_open(&s->engine, s->model, &err) != EYRIE_OK)
        return cli_fail("%s", err.text);
    return open_sequence(s, o);
}

eyrie_status cli_model_pack(const cli_options *o, eyrie_error *err)
{
    eyrie_model_opts opts = cli_model_opts(o);
    progress p = new_progress();
    eyrie_status st;

    opts.progress = show_opening;
    opts.progress_user = &p;
    st = eyrie_pack(o->model, o->output, &opts, err);
    wipe_progress(&p);
    return st;
}

/* Who hears of products that are measured, beside the line that shows progress. */
typedef struct tuning {
    progress        line;
    double          start;
    eyrie_tuned_fn *on_tuned;
    void           *user;
    double          done;               /* of all, when the first was measured: those before were known */
    bool            begun;
} tuning;

static void show_tuning(void *user, const char *what, double done)
{
    tuning *t = user;

    if (!t->begun) {
        t->begun = true;
        t->done = done;
        t->start = seconds();
    }
    if (!is_due(&t->line)) return;
    fprintf(stderr, "\r%s: %.0f %%", what, 100 * done);
    if (done > t->done) fprintf(stderr, ", about %.0f s left", (seconds() - t->start) / (done - t->done) * (1 - done));
    fputs("\033[K", stderr);
}

static void pass_on_tuned(void *user, const eyrie_tuned *tuned)
{
    tuning *t = user;

    wipe_progress(&t->line);
    t->on_tuned(t->user, tuned);
}

eyrie_status cli_model_tune(const cli_options *o, eyrie_device *device, eyrie_tuned_fn *on_tuned, void *user,
                            eyrie_tune_summary *sum, eyrie_error *err)
{
    eyrie_model_opts opts = cli_model_opts(o);
    tuning t = { .line = new_progress(), .on_tuned = on_tuned, .user = user };
    eyrie_tune_opts tune = { .again = o->again, .on_tuned = pass_on_tuned, .user = &t, .progress = show_tuning, .progress_user = &t };
    eyrie_status st = eyrie_tune(device, o->model, &opts, &tune, sum, err);

    wipe_progress(&t.line);
    return st;
}

void cli_session_close(cli_session *s)
{
    (void)eyrie_seq_close(s->seq);
    (void)eyrie_engine_close(s->engine);
    (void)eyrie_model_close(s->model);
    (void)eyrie_device_close(s->device);
    free(s->text);
    free(s->tokens);
}

/* --------------------------------------------------------------------------------------------------------- running */

static volatile sig_atomic_t caught;        /* number of a signal, or 0 */

static void on_signal(int number) { caught = number; }

int cli_take_signal(void)
{
    int number = caught;

    caught = 0;
    return number;
}

void cli_catch_signals(bool waking)
{
    const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, before;

    if (!waking) action.sa_flags |= SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)    /* nohup stays nohup */
            sigaction(numbers[i], &action, NULL);
}

/* How much of what there is to read, from position `first` to `end`, has been read. */
static void show_reading(progress *p, const cli_session *s, uint64_t first, uint64_t end)
{
    uint64_t position = eyrie_seq_position(s->seq);

    if (position < end && is_due(p))
        fprintf(stderr, "\rreading: %" PRIu64 " of %" PRIu64 " tokens", position - first, end - first);
}

int cli_session_run(cli_session *s, eyrie_request *request)
{
    uint64_t first = eyrie_seq_position(s->seq), end = first + eyrie_seq_pending(s->seq, NULL) + s->n_tokens;
    progress p = new_progress();
    eyrie_status st;
    eyrie_error err;
    bool busy = true;

    request->tokens = s->tokens;
    request->n_tokens = s->n_tokens;
    cli_catch_signals(false);
    st = eyrie_seq_submit(s->seq, request, &err);
    while (st == EYRIE_OK && busy && !s->stop && !caught) {
        st = eyrie_engine_step(s->engine, &busy, &err);
        show_reading(&p, s, first, end);
    }
    wipe_progress(&p);
    if (st != EYRIE_OK) return cli_fail("%s", err.text);
    if (!busy) return CLI_DONE;
    (void)eyrie_seq_cancel(s->seq, NULL);       /* fails only during a step */
    return caught ? 128 + cli_take_signal() : CLI_DONE;
}

int cli_session_save(const cli_session *s, const char *path)
{
    eyrie_error err;

    return eyrie_seq_save(s->seq, path, &err) == EYRIE_OK ? CLI_DONE : cli_fail("%s", err.text);
}

/* ----------------------------------------------------------------------------------------------------------- speed */

typedef struct speed {
    const char *name;
    uint64_t    tokens;
    double      seconds, rate;          /* tokens a second, 0 where there were none */
} speed;

/* Of prefill (0) and decode (1). The token that follows the prompt is the prefill's: decode makes those after it. */
static speed speed_of(const cli_session *s, int phase)
{
    eyrie_stats stats = { .struct_size = sizeof stats };
    speed v = { phase ? "decode" : "prefill", 0, 0, 0 };

    if (eyrie_engine_get_stats(s->engine, &stats, NULL) != EYRIE_OK) return v;
    v.tokens = phase ? stats.decode_tokens : stats.prefill_tokens;
    v.seconds = phase ? stats.decode_seconds : stats.prefill_seconds;
    if (v.seconds > 0) v.rate = (double)v.tokens / v.seconds;
    return v;
}

void cli_session_print_speed(const cli_session *s, bool decode)
{
    for (int phase = 0; phase <= decode; phase++) {
        speed v = speed_of(s, phase);
        fprintf(stderr, "%s%s: %" PRIu64 " token%s in %.3f s (%.*f tokens/s)", phase ? "   " : "", v.name, v.tokens,
                v.tokens == 1 ? "" : "s", v.seconds, v.rate < 100 ? 1 : 0, v.rate);
    }
    fputc('\n', stderr);
}

void cli_session_set_speed(const cli_session *s, json_t *object, bool decode)
{
    for (int phase = 0; phase <= decode; phase++) {
        speed v = speed_of(s, phase);
        json_t *value = json_object();
        cli_set(value, "tokens", json_integer((json_int_t)v.tokens));
        cli_set(value, "seconds", cli_number(v.seconds));
        cli_set(value, "tokens_per_second", cli_number(v.rate));
        cli_set(object, v.name, value);
    }
}
