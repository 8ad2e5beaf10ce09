/* options.c - see options.h. */
#include "options.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind {
    FLAG,           /* bool, takes no value */
    STRING,         /* const char * */
    CHOICE,         /* const char *, one of those in the help's value, "a|b|c" */
    COUNT,          /* uint64_t from min to max */
    SIZE,           /* the same with a suffix K, M or G */
    NUMBER,         /* float; of this kind and the next four, `ranges` says which */
    POSITIVE,
    FRACTION,
    SHARE,
    PENALTY,
    TEXTS,          /* cli_texts, one more each time */
    COUNTS,         /* cli_counts from min to max */
    CHOICES         /* const char *, some of those in the help's value, with commas */
} kind;

typedef struct option {
    const char *name, *value, *help;
    unsigned    commands;
    kind        kind;
    size_t      field;          /* offset in cli_options */
    uint64_t    min, max;
} option;

/* Options under a heading of the help. */
typedef struct section {
    const char *title;
    option      options[15];    /* the last has no name */
} section;

enum { GENERATE = CLI_RUN | CLI_CHAT, SAMPLE = GENERATE | CLI_BATCH, READ = CLI_RUN | CLI_SCORE, STEPS = SAMPLE | READ,
       MODEL = STEPS | CLI_INFO | CLI_TUNE, REQUESTS = CLI_SIM | CLI_BENCH,
       TOOLS = CLI_DEVICES | CLI_SELFTEST | CLI_TUNE | REQUESTS, PROMPT = 0 /* number of the section */,
       MOST_COUNTS = 64 /* in a list */ };

#define FIELD(name) offsetof(cli_options, name)

static const section sections[] = {
    [PROMPT] = { "The text, exactly one of", {
        { "-p", "TEXT", "TEXT itself; '' is the empty text, <bos> alone", READ, STRING, FIELD(text), 0, 0 },
        { "-f", "FILE", "the text in FILE", READ, STRING, FIELD(file), 0, 0 },
        { "-", NULL, "the text on standard input", READ, FLAG, FIELD(from_stdin), 0, 0 },
        { "--tokens", "IDS", "token ids such as 2,5,9, taken as they stand: no <bos> is added", READ, STRING,
          FIELD(tokens), 0, 0 },
        { 0 } } },
    { "The requests", {
        { "-", NULL, "read them from standard input instead of FILE", CLI_BATCH, FLAG, FIELD(from_stdin), 0, 0 },
        { 0 } } },
    { "Scoring", {
        { "--continuation", "TEXT", "score TEXT as what follows the text, instead of that; may be given more than once", CLI_SCORE,
          TEXTS, FIELD(continuations), 0, 0 },
        { 0 } } },
    { "Generating", {
        { "-n", "N", "tokens to generate at most (default 128; 512 for each answer of a chat)", SAMPLE, COUNT, FIELD(n), 1, UINT64_MAX },
        { "--greedy", NULL, "always the most probable token (the default, but of chats)", SAMPLE, FLAG, FIELD(greedy), 0, 0 },
        { "--temp", "F", "draw tokens at temperature F: lower is tamer (default 1 with the next three, 0.8 in a chat)",
          SAMPLE, NUMBER, FIELD(temperature), 0, 0 },
        { "--top-k", "K", "draw from the K most probable tokens only (0 = all)", SAMPLE, COUNT, FIELD(top_k), 0, UINT32_MAX },
        { "--top-p", "P", "then from the fewest whose probabilities sum up to P, such as 0.9", SAMPLE, SHARE,
          FIELD(top_p), 0, 0 },
        { "--min-p", "P", "then from those at least P times as probable as the most probable", SAMPLE, FRACTION,
          FIELD(min_p), 0, 0 },
        { "--seed", "S", "which draw: the same seed, the same text (default 0)", SAMPLE, COUNT, FIELD(seed), 0,
          UINT64_MAX },
        { "--repeat-penalty", "R", "make tokens of the text less probable: above 1, such as 1.1 (default 1)", SAMPLE,
          POSITIVE, FIELD(repeat_penalty), 0, 0 },
        { "--presence-penalty", "F", "lower the logits of tokens generated before by F, from -2 to 2", SAMPLE, PENALTY,
          FIELD(presence_penalty), 0, 0 },
        { "--frequency-penalty", "F", "the same for each time they were generated", SAMPLE, PENALTY,
          FIELD(frequency_penalty), 0, 0 },
        { "--stop", "TEXT", "end where TEXT appears, without it; may be given more than once", SAMPLE, TEXTS,
          FIELD(stops), 0, 0 },
        { "--samples", "N", "N texts from one prompt, which is read once (draws with temperature 1 if not told otherwise)",
          CLI_RUN | CLI_BATCH,
          COUNT, FIELD(samples), 1, 65536 },
        { "--ignore-eos", NULL, "go on after an end-of-text token", CLI_RUN | CLI_BATCH, FLAG, FIELD(ignore_eos), 0, 0 },
        { 0 } } },
    { "The state", {
        { "--load-state", "FILE", "go on where --save-state left off; a text is read after that, without <bos>", GENERATE,
          STRING, FIELD(load_state), 0, 0 },
        { "--save-state", "FILE", "save at the end, or when interrupted; give sampling options again to go on", GENERATE,
          STRING, FIELD(save_state), 0, 0 },
        { "--session", "FILE", "go on with the conversation in FILE if it is there, and save it there after each answer", CLI_CHAT,
          STRING, FIELD(session), 0, 0 },
        { 0 } } },
    { "What is measured", {
        { "-p", "LIST", "prompt lengths to read (default 512; 0 = none); lists look like 1,4,16 and\n"
          "                           0-4096+1024 (every 1024) and 512-2048*2 (doubling)", CLI_BENCH, COUNTS, FIELD(prompts), 0, 1 << 24 },
        { "-n", "LIST", "numbers of tokens to generate (default 128; 0 = none)", CLI_BENCH, COUNTS, FIELD(generated), 0, 1 << 24 },
        { "-d", "LIST", "tokens that sequences have read before (default 0)", CLI_BENCH, COUNTS, FIELD(depths), 0, 1 << 30 },
        { "-b", "LIST", "sequences at a time (default 1)", CLI_BENCH, COUNTS, FIELD(batches), 1, 1 << 16 },
        { "--weights", "f32|f16|bf16|q8|q4", "formats of weights, such as bf16,q8 (default: the file's; synthetic: bf16)",
          CLI_BENCH, CHOICES, FIELD(weights), 0, 0 },
        { "--compute", "auto|f32|int8", "kinds of arithmetic, such as auto,f32 (default auto)", CLI_BENCH, CHOICES, FIELD(compute), 0, 0 },
        { "--chunk", "LIST", "most tokens of prompts read in one step (default 256)", CLI_BENCH, COUNTS, FIELD(chunks), 1, 1 << 30 },
        { "-r", "N", "repetitions (default 5; paper 3)", CLI_BENCH, COUNT, FIELD(repetitions), 1, 1000 },
        { "--quick", NULL, "less of everything that is not said, and none but first repetitions begin after 40 seconds", CLI_BENCH, FLAG,
          FIELD(quick), 0, 0 },
        { "--profile", NULL, "then time every kernel, too, at the largest -d and the longest -p", CLI_BENCH, FLAG, FIELD(profile), 0, 0 },
        { "--size", "100m|200m|400m|1b|3b|7b|14b", "of the models of paper (default 100m)", CLI_BENCH, CHOICE, FIELD(size), 0, 0 },
        { "--threshold", "F", "differences up to F percent are none, whatever else is said of them (default 3)", CLI_BENCH, NUMBER,
          FIELD(threshold), 0, 0 },
        { 0 } } },
    { "The requests (of bench: serve)", {
        { "--scenario", "single|offline|server", "how they come: the next when one is answered, all at once, or each at its time\n"
          "                           (default server, if it is said when)", REQUESTS, CHOICE, FIELD(scenario), 0, 0 },
        { "--rate", "R", "at random, R a second", REQUESTS, NUMBER, FIELD(rate), 0, 0 },
        { "--search", NULL, "at the highest rate that keeps the next two, found by trying; --rate is the first one then", REQUESTS, FLAG,
          FIELD(search), 0, 0 },
        { "--first-token", "S", "99 % of them have their first token within S seconds", REQUESTS, POSITIVE, FIELD(first_limit), 0, 0 },
        { "--between-tokens", "S", "99 % of the times between two tokens are at most S seconds", REQUESTS, POSITIVE, FIELD(between_limit), 0, 0 },
        { "--arrivals", "FILE", "recorded ones, a line each: seconds,tokens to read,tokens to generate[,priority]", REQUESTS, STRING,
          FIELD(file), 0, 0 },
        { "-f", "FILE", "the same", CLI_SIM, STRING, FIELD(file), 0, 0 },
        { "--record-arrivals", "FILE", "write those that came to FILE, for --arrivals", CLI_BENCH, STRING, FIELD(record_arrivals), 0, 0 },
        { "--requests", "N", "so many (default 10000; serve 64)", REQUESTS, COUNT, FIELD(requests), 1, UINT64_MAX },
        { "--prompt-tokens", "N", "tokens to read: 512, 100-2000, or 512~0.8, which is lognormal (default 512)", REQUESTS, STRING,
          FIELD(prompt_tokens), 0, 0 },
        { "--output-tokens", "N", "the same of tokens to generate (default 128)", REQUESTS, STRING, FIELD(output_tokens), 0, 0 },
        { "--seed", "S", "which requests: the same seed, the same ones (default 0)", REQUESTS, COUNT, FIELD(seed), 0, UINT64_MAX },
        { 0 } } },
    { "The simulated devices", {
        { "--on", "SPEC", "one: bandwidth=60G,flops=2T,memory=24G and perhaps prefill-flops, decode-flops, launch, link,\n"
          "                           count=N and phase=prefill|decode; or device,count=N...: like the one that --device\n"
          "                           selects, as it has shown itself. May be given more than once", CLI_SIM, TEXTS, FIELD(on), 0, 0 },
        { "--rows", "N", "most sequences of a decode step (default 256, the engine's)", CLI_SIM, COUNT, FIELD(rows), 1, 1 << 20 },
        { 0 } } },
    { "What is checked", {
        { "--op", "NAME", "kernels of this op alone, such as matmul or attention; any other word lists them (default: all)", CLI_SELFTEST,
          STRING, FIELD(op), 0, 0 },
        { 0 } } },
    { "Output", {
        { "--output", "md|csv|json|jsonl", "its form (default md; json for -o FILE)", CLI_BENCH, CHOICE, FIELD(form), 0, 0 },
        { "-o", "FILE", "write it to FILE, and tables to standard output", CLI_BENCH, STRING, FIELD(output), 0, 0 },
        { "--html", "FILE", "write a page with tables and a plot to FILE, too", CLI_BENCH, STRING, FIELD(html), 0, 0 },
        { "--figures", "DIR", "write each figure of paper to DIR, as SVG, as columns of numbers, and for gnuplot", CLI_BENCH, STRING,
          FIELD(figures), 0, 0 },
        { "-o", "FILE", "write answers to FILE, or go on there (default, and -: standard output)", CLI_BATCH, STRING, FIELD(output), 0, 0 },
        { "--order", "input|completion", "the order of answers: that of the requests, or as they are done (default input)", CLI_BATCH,
          CHOICE, FIELD(order), 0, 0 },
        { "-o", "DIR", "the directory to make", CLI_PACK, STRING, FIELD(output), 0, 0 },
        { "--json", NULL, "print one JSON object", READ | CLI_INFO | CLI_DEVICES | CLI_SELFTEST | CLI_TUNE | CLI_SIM, FLAG, FIELD(json), 0, 0 },
        { "--logits", "FILE", "write the logits after each token: [tokens, vocabulary], little-endian f32", CLI_SCORE,
          STRING, FIELD(logits), 0, 0 },
        { 0 } } },
    { "The model", {
        { "-m", "MODEL", "directory with config.json, *.safetensors and perhaps tokenizer.model;\n"
          "                           or random weights: synthetic:NAME or synthetic:NAME@SEED, NAME being a shape such\n"
          "                           as griffin-1b or recurrentgemma-2b (any other name lists all), or a config.json",
          MODEL | CLI_PACK | CLI_BENCH | CLI_SIM, STRING, FIELD(model), 0, 0 },
        { "--weights", "f32|f16|bf16|q8|q4", "how matrices are stored on the device (default: the file's; synthetic: bf16)",
          MODEL | CLI_PACK | CLI_SIM, CHOICE, FIELD(weights), 0, 0 },
        { "--compute", "auto|f32|int8", "auto, the default: a CPU's matrix unit may read the text, with inputs rounded to\n"
          "                           bf16; f32: nothing is rounded below f32 but stored weights; int8: what no matrix unit\n"
          "                           does reads its inputs in 8 bits, for decoding with --weights q8 or q4 on CPUs", MODEL, CHOICE,
          FIELD(compute), 0, 0 },
        { "--invariant", "on|off", "on, the default: a text has the same bits whatever shares its steps; off: kernels may be\n"
          "                           used whose last digits depend on that", MODEL | CLI_BENCH, CHOICE, FIELD(invariant), 0, 0 },
        { "--products", "own|clblast", "who multiplies while a text is read: our kernels, or CLBlast, with --invariant off\n"
          "                           and for GPUs (default own)", MODEL | CLI_BENCH, CHOICE, FIELD(products), 0, 0 },
        { "--kv", "f16|f32", "how keys and values are stored (default f16; f32 with --compute f32)", MODEL | CLI_BENCH | CLI_SIM, CHOICE,
          FIELD(kv), 0, 0 },
        { "--context", "N", "longest sequence in tokens (default: unbounded; 8192 where attention is global)", MODEL | CLI_BENCH | CLI_SIM,
          COUNT, FIELD(context), 1, UINT64_MAX },
        { "--chunk", "N", "most tokens of a prompt read in one step (default 256)", STEPS | CLI_TUNE | CLI_SIM, COUNT, FIELD(chunk), 1,
          UINT32_MAX },
        { "--slots", "N", "sequences there is room for on the device (default 1; chat 2, for /load; batch and bench serve\n"
          "                           16; up to 16 where a prompt goes on in many ways)", STEPS | CLI_TUNE | REQUESTS, COUNT, FIELD(slots), 1,
          UINT32_MAX },
        { 0 } } },
    { "Scheduling", {
        { "--policy", "roofline|chunked|fifo", "what the next step is: prompts in parts between decode steps (roofline, the\n"
          "                           default), in chunks that take turns with them, or whole before all", STEPS | REQUESTS, CHOICE, FIELD(policy), 0, 0 },
        { "--token-interval", "S", "seconds between two tokens of a text that should not be passed while prompts are read",
          STEPS | REQUESTS, NUMBER, FIELD(token_interval), 0, 0 },
        { "--lanes", "1|2", "2: one half of the device reads prompts while the other generates (default 1)", STEPS | CLI_BENCH, COUNT,
          FIELD(lanes), 1, 2 },
        { "--trace", "FILE", "write what happened when to FILE, for ui.perfetto.dev or chrome://tracing", STEPS | CLI_BENCH, STRING,
          FIELD(trace), 0, 0 },
        { 0 } } },
    { "The prefix cache", {
        { "--prefix-cache", "SIZE", "keep states of texts that are read in so many bytes of the device's memory: what begins like\n"
          "                           one of them is read from there on (default: none; 256M with --prefix-dir)", STEPS, SIZE,
          FIELD(prefix_cache), 1, UINT64_MAX },
        { "--prefix-host", "SIZE", "those that do not fit there go to the host's memory (default: none)", STEPS, SIZE,
          FIELD(prefix_host), 1, UINT64_MAX },
        { "--prefix-dir", "DIR", "and then to files in DIR, as in the end do all, for later starts", STEPS, STRING,
          FIELD(prefix_dir), 0, 0 },
        { "--prefix-disk", "SIZE", "bytes of a model's files there at most (default 1G)", STEPS, SIZE, FIELD(prefix_disk), 1, UINT64_MAX },
        { "--prefix-spacing", "N", "tokens between two states of a text that are kept, a multiple of 64 (default: as SIZE allows)", STEPS,
          COUNT, FIELD(prefix_spacing), 64, 1 << 30 },
        { 0 } } },
    { "The device", {
        { "--probe", NULL, "try out what it can do and measure it, which takes some seconds", CLI_DEVICES, FLAG, FIELD(probe), 0, 0 },
        { "--again", NULL, "measure what was measured before, too", CLI_TUNE, FLAG, FIELD(again), 0, 0 },
        { "--device", "SEL", "part of its name, its number, gpu or cpu (default: first GPU, else first)", STEPS | TOOLS | CLI_INFO,
          STRING, FIELD(device), 0, 0 },
        { "--threads", "N", "threads, if the device is a CPU under PoCL (default: all cores)", STEPS | TOOLS | CLI_INFO, COUNT,
          FIELD(threads), 1, 1024 },    /* PoCL aborts where there cannot be as many */
        { "--memory", "SIZE", "memory to use at most, such as 900M or 4G (default: what is free)", STEPS | TOOLS | CLI_INFO, SIZE,
          FIELD(memory), 1, UINT64_MAX },
        { "--max-alloc", "SIZE", "largest single allocation (default: what the device allows)", STEPS | TOOLS, SIZE,
          FIELD(max_alloc), 1, UINT64_MAX },
        { "--kernels", "auto|cpu|gpu", "the class of devices whose kernels run (default auto: the device's own)", STEPS | TOOLS,
          CHOICE, FIELD(kernels), 0, 0 },
        { "--kernel-dir", "DIR", "files there replace built-in kernel files of the same name", STEPS | CLI_SELFTEST | CLI_TUNE | CLI_BENCH, STRING,
          FIELD(kernel_dir), 0, 0 },
        { "--cache-dir", "DIR", "keep built kernels and what was measured there; '' is nowhere (default $XDG_CACHE_HOME/eyrie)", STEPS | TOOLS | CLI_INFO, STRING,
          FIELD(cache_dir), 0, 0 },
        { 0 } } },
};

enum { SECTIONS = sizeof sections / sizeof *sections };

static const struct { float min, max; const char *text; } ranges[] = {
    [NUMBER] = { 0, FLT_MAX, "from 0 up" }, [POSITIVE] = { FLT_MIN, FLT_MAX, "above 0" },
    [FRACTION] = { 0, 1, "from 0 to 1" },   [SHARE] = { FLT_MIN, 1, "above 0, up to 1" },
    [PENALTY] = { -2, 2, "from -2 to 2" },
};

static const struct { const char *name; eyrie_format format; } formats[] = {
    { "f32", EYRIE_FORMAT_F32 }, { "f16", EYRIE_FORMAT_F16 }, { "bf16", EYRIE_FORMAT_BF16 }, { "q8", EYRIE_FORMAT_Q8 },
    { "q4", EYRIE_FORMAT_Q4 },
};

/* ---------------------------------------------------------------------------------------------------------- values */

int cli_wrong_usage(const cli_command *command, const char *format, ...)
{
    va_list args;

    fputs("eyrie: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; see eyrie %s%s--help\n", command ? command->name : "", command ? " " : "");
    return CLI_WRONG_USAGE;
}

/* Digits and nothing else, or one suffix where there may be one. */
static bool parse_count(const char *text, bool size, uint64_t *out)
{
    const char *suffixes = "KMG", *suffix = NULL;
    unsigned shift = 0;
    char *end;

    if (*text < '0' || *text > '9') return false;       /* strtoull takes spaces and signs */
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || n > UINT64_MAX) return false;
    if (size && *end && (suffix = strchr(suffixes, *end)) != NULL) {
        shift = 10 * (unsigned)(suffix - suffixes + 1);
        end++;
    }
    if (*end || n > UINT64_MAX >> shift) return false;
    *out = (uint64_t)n << shift;
    return true;
}

static bool parse_number(const char *text, float *out)
{
    char *end;

    if (!*text || text[strspn(text, "0123456789.eE+-")]) return false;      /* strtof takes "nan" and "0x1p3" */
    *out = strtof(text, &end);
    return *end == '\0' && isfinite(*out);
}

/* Is `word` one of those in "a|b|c"? */
static bool is_choice(const char *word, const char *choices)
{
    size_t n = strlen(word);

    for (const char *p = choices; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0')) return n > 0;
    }
    return false;
}

static void add_count(cli_counts *list, uint64_t n)
{
    size_t i = 0;

    while (i < list->n && list->items[i] < n) i++;
    if (i < list->n && list->items[i] == n) return;
    cli_grow(&list->items, &list->capacity, list->n + 1, sizeof *list->items);
    memmove(&list->items[i + 1], &list->items[i], (list->n - i) * sizeof *list->items);
    list->items[i] = n;
    list->n++;
}

/* "512", "1-4", "0-4096+1024" or "512-2048*2", `length` bytes. False: it is none of these, has a number outside of the
 * bounds, or is too long. */
static bool add_range(cli_counts *list, const char *text, size_t length, uint64_t min, uint64_t max)
{
    char part[3][24] = { "", "", "1" }, how = '+';
    uint64_t n[3];
    size_t i = 0, k = 0;

    for (size_t c = 0; c < length; c++) {
        char next = text[c];
        if ((next == '-' && i == 0) || ((next == '+' || next == '*') && i == 1)) {
            if (i++ == 1) how = next;
            part[i][0] = '\0';
            k = 0;
        } else if (k + 1 < sizeof part[0]) {
            part[i][k++] = next;
            part[i][k] = '\0';
        } else {
            return false;
        }
    }
    if (i == 0) memcpy(part[1], part[0], sizeof part[0]);
    for (i = 0; i < 3; i++)
        if (!parse_count(part[i], false, &n[i])) return false;
    if (n[0] < min || n[1] > max || n[0] > n[1] || n[2] < (how == '*' ? 2 : 1) || (how == '*' && n[0] == 0)) return false;
    for (uint64_t at = n[0];; at = how == '*' ? at * n[2] : at + n[2]) {
        if (list->n == MOST_COUNTS) return false;
        add_count(list, at);
        if (how == '*' ? at > n[1] / n[2] : n[2] > n[1] - at) return true;
    }
}

static int set_counts(const cli_options *o, const option *opt, cli_counts *list, const char *value)
{
    list->n = 0;
    for (const char *p = value;; p++) {
        size_t length = strcspn(p, ",");
        if (!add_range(list, p, length, opt->min, opt->max))
            return cli_wrong_usage(o->command, "%s '%s': not a list of at most %d whole numbers from %" PRIu64 " to %" PRIu64
                                   ", such as 1,4,16 or 512-2048*2 or 0-4096+1024", opt->name, value, MOST_COUNTS, opt->min, opt->max);
        p += length;
        if (*p == '\0') return CLI_DONE;
    }
}

static bool are_choices(const char *words, const char *choices)
{
    char word[24];

    for (;; words++) {
        size_t length = strcspn(words, ",");
        if (length >= sizeof word) return false;
        memcpy(word, words, length);
        word[length] = '\0';
        if (!is_choice(word, choices)) return false;
        words += length;
        if (*words == '\0') return true;
    }
}

static int wrong_count(const cli_command *command, const option *opt, const char *value)
{
    if (opt->kind == SIZE)
        return cli_wrong_usage(command, "%s '%s': not a number of bytes such as 900M or 4G", opt->name, value);
    if (opt->max == UINT64_MAX)
        return cli_wrong_usage(command, "%s '%s': not a whole number from %" PRIu64 " up", opt->name, value, opt->min);
    return cli_wrong_usage(command, "%s '%s': not a whole number from %" PRIu64 " to %" PRIu64, opt->name, value,
                           opt->min, opt->max);
}

static int set_value(cli_options *o, const option *opt, const char *value)
{
    void *field = (char *)o + opt->field;
    cli_texts *texts = field;
    float number;
    uint64_t n;

    switch (opt->kind) {
    case FLAG:
        *(bool *)field = true;
        return CLI_DONE;
    case STRING:
        *(const char **)field = value;
        return CLI_DONE;
    case CHOICE:
        if (!is_choice(value, opt->value))
            return cli_wrong_usage(o->command, "%s '%s': not one of %s", opt->name, value, opt->value);
        *(const char **)field = value;
        return CLI_DONE;
    case COUNTS:
        return set_counts(o, opt, field, value);
    case CHOICES:
        if (!are_choices(value, opt->value))
            return cli_wrong_usage(o->command, "%s '%s': not of %s", opt->name, value, opt->value);
        *(const char **)field = value;
        return CLI_DONE;
    case NUMBER:
    case POSITIVE:
    case FRACTION:
    case SHARE:
    case PENALTY:
        if (!parse_number(value, &number) || number < ranges[opt->kind].min || number > ranges[opt->kind].max)
            return cli_wrong_usage(o->command, "%s '%s': not a number %s", opt->name, value, ranges[opt->kind].text);
        *(float *)field = number;
        return CLI_DONE;
    case TEXTS:
        if (!*value) return cli_wrong_usage(o->command, "%s '': an empty text", opt->name);
        cli_grow(&texts->items, &texts->capacity, texts->n + 1, sizeof *texts->items);
        texts->items[texts->n++] = value;
        return CLI_DONE;
    case COUNT:
    case SIZE:
        if (!parse_count(value, opt->kind == SIZE, &n) || n < opt->min || n > opt->max)
            return wrong_count(o->command, opt, value);
        *(uint64_t *)field = n;
        return CLI_DONE;
    }
    return CLI_DONE;
}

/* --------------------------------------------------------------------------------------------------------- parsing */

/* The option called like the first `length` bytes of `name`, and the section it is in; NULL = the command has none. */
static const option *find(const cli_command *command, const char *name, size_t length, int *in)
{
    for (*in = 0; *in < SECTIONS; ++*in)
        for (const option *p = sections[*in].options; p->name; p++)
            if (p->commands & command->bit && strlen(p->name) == length && memcmp(p->name, name, length) == 0)
                return p;
    return NULL;
}

static int check(const cli_options *o, unsigned prompts)
{
    if (o->command->bit == CLI_PACK && !o->output) return cli_wrong_usage(o->command, "nowhere to pack to: -o DIR is needed");
    if ((o->command->bit & (MODEL | CLI_PACK)) && !o->model) return cli_wrong_usage(o->command, "no model: -m MODEL is needed");
    if ((o->command->bit & READ) && prompts == 0 && !o->load_state)
        return cli_wrong_usage(o->command, "no text: one of -p TEXT, -f FILE, - and --tokens IDS is needed");
    if (o->command->bit == CLI_BATCH && o->words.n + o->from_stdin != 1)
        return cli_wrong_usage(o->command, "exactly one file of requests is needed, or - for standard input");
    if (prompts > 1) return cli_wrong_usage(o->command, "only one of -p, -f, - and --tokens can be given");
    if (o->samples > 1 && o->greedy) return cli_wrong_usage(o->command, "--greedy gives one text, however many --samples");
    if (o->samples > 1 && o->save_state)
        return cli_wrong_usage(o->command, "--save-state saves one text; leave out --samples, and save after the prompt");
    if (o->session && (o->load_state || o->save_state))
        return cli_wrong_usage(o->command, "--session loads and saves; leave out --load-state and --save-state");
    if ((o->prefix_host || o->prefix_disk || o->prefix_spacing) && !o->prefix_cache && !o->prefix_dir)
        return cli_wrong_usage(o->command, "there is no prefix cache: --prefix-cache SIZE or --prefix-dir DIR is needed");
    if (o->prefix_disk && !o->prefix_dir) return cli_wrong_usage(o->command, "--prefix-disk is of --prefix-dir, which is missing");
    if (o->prefix_spacing % 64 != 0)
        return cli_wrong_usage(o->command, "--prefix-spacing %" PRIu64 ": not a multiple of 64", o->prefix_spacing);
    if (o->continuations.n && o->logits)
        return cli_wrong_usage(o->command, "--logits are of the text; leave out --continuation");
    if (o->greedy && (o->temperature >= 0 || o->top_k || o->top_p > 0 || o->min_p > 0))
        return cli_wrong_usage(o->command, "--greedy excludes --temp, --top-k, --top-p and --min-p");
    return CLI_DONE;
}

int cli_options_parse(cli_options *o, const cli_command *command, char **args)
{
    unsigned prompts = 0;

    *o = (cli_options){ .command = command, .n = command->bit == CLI_CHAT ? 512 : 128, .temperature = -1, .threshold = -1 };
    for (; *args; args++) {
        const char *arg = *args, *value = NULL;
        size_t length = strncmp(arg, "--", 2) == 0 ? strcspn(arg, "=") : strlen(arg);
        int in, status;
        const option *opt = find(command, arg, length, &in);

        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            o->help = true;
            return CLI_DONE;
        }
        if (!opt && *arg != '-' && (command->bit & (CLI_BENCH | CLI_BATCH))) {
            cli_grow(&o->words.items, &o->words.capacity, o->words.n + 1, sizeof *o->words.items);
            o->words.items[o->words.n++] = arg;
            continue;
        }
        if (!opt)
            return *arg == '-' ? cli_wrong_usage(command, "unknown option %s", arg)
                               : cli_wrong_usage(command, "unexpected argument '%s'", arg);
        if (arg[length] == '=') value = arg + length + 1;
        if (value && opt->kind == FLAG) return cli_wrong_usage(command, "%s takes no value", opt->name);
        if (!value && opt->kind != FLAG && !(value = *++args))
            return cli_wrong_usage(command, "%s needs a value", opt->name);
        if ((status = set_value(o, opt, value)) != CLI_DONE) return status;
        prompts += in == PROMPT;
    }
    return check(o, prompts);
}

void cli_options_free(cli_options *o)
{
    cli_counts *lists[] = { &o->prompts, &o->generated, &o->depths, &o->batches, &o->chunks };
    cli_texts *texts[] = { &o->stops, &o->continuations, &o->words, &o->on };

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        free(lists[i]->items);
        *lists[i] = (cli_counts){ 0 };
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        free(texts[i]->items);
        *texts[i] = (cli_texts){ 0 };
    }
}

/* ------------------------------------------------------------------------------------------------------------ help */

void cli_print_help(const cli_command *command)
{
    cli_print("usage: eyrie %s %s\n\n%s", command->name, command->usage, command->about);
    for (int i = 0; i < SECTIONS; i++) {
        bool titled = false;
        for (const option *p = sections[i].options; p->name; p++) {
            char left[40];
            if (!(p->commands & command->bit)) continue;
            if (!titled) cli_print("\n%s\n", sections[i].title);
            titled = true;
            snprintf(left, sizeof left, "%s %s", p->name, p->value ? p->value : "");
            if (strlen(left) > 24) cli_print("  %s\n%27s%s\n", left, "", p->help);
            else cli_print("  %-24s %s\n", left, p->help);
        }
    }
    cli_print("\nExamples\n%s", command->examples);
}

/* --------------------------------------------------------------------------------------------------------- meaning */

static eyrie_format format_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0) return formats[i].format;
    return EYRIE_FORMAT_DEFAULT;
}

const char *cli_format_name(eyrie_format format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].format == format) return formats[i].name;
    return "unknown";
}

/* Filters without a temperature mean temperature 1: what is most probable does not depend on them. */
static float temperature(const cli_options *o)
{
    bool filters = o->top_k || o->top_p > 0 || o->min_p > 0 || o->samples > 1;

    if (o->greedy || o->temperature >= 0) return o->greedy ? 0.0f : o->temperature;
    return o->command->bit == CLI_CHAT ? 0.8f : filters ? 1.0f : 0.0f;
}

eyrie_engine_opts cli_engine_opts(const cli_options *o)
{
    const uint64_t of_directory = (uint64_t)256 << 20;

    return (eyrie_engine_opts){
        .struct_size = sizeof(eyrie_engine_opts), .policy = o->policy, .token_interval = (double)o->token_interval, .trace = o->trace,
        .prefix_memory = o->prefix_dir && !o->prefix_cache ? of_directory : o->prefix_cache, .prefix_host = o->prefix_host,
        .prefix_dir = o->prefix_dir, .prefix_disk = o->prefix_disk, .prefix_spacing = (uint32_t)o->prefix_spacing };
}

eyrie_request cli_request(const cli_options *o)
{
    return (eyrie_request){
        .struct_size = sizeof(eyrie_request), .max_tokens = o->n, .seed = o->seed, .temperature = temperature(o),
        .top_k = (uint32_t)o->top_k, .top_p = o->top_p, .min_p = o->min_p, .repetition_penalty = o->repeat_penalty,
        .presence_penalty = o->presence_penalty, .frequency_penalty = o->frequency_penalty, .stops = o->stops.items,
        .n_stops = o->stops.n, .flags = o->ignore_eos ? EYRIE_IGNORE_EOS : 0 };
}

/* A chat needs two for /load; a batch and many texts from one prompt go side by side as far as that pays. */
static uint32_t slots(const cli_options *o)
{
    uint64_t texts = o->samples > o->continuations.n ? o->samples : o->continuations.n;

    if (o->slots) return (uint32_t)o->slots;
    if (o->command->bit == CLI_BATCH) return 16;
    return o->command->bit == CLI_CHAT ? 2 : texts < 16 ? (uint32_t)texts : 16;
}

static eyrie_compute compute_named(const char *name)
{
    if (name && strcmp(name, "f32") == 0) return EYRIE_COMPUTE_F32;
    return name && strcmp(name, "int8") == 0 ? EYRIE_COMPUTE_INT8 : EYRIE_COMPUTE_AUTO;
}

eyrie_model_opts cli_model_opts(const cli_options *o)
{
    return (eyrie_model_opts){
        .struct_size = sizeof(eyrie_model_opts), .weights = format_named(o->weights), .kv = format_named(o->kv),
        .compute = compute_named(o->compute),
        .slots = slots(o), .chunk = (uint32_t)o->chunk, .context = o->context,
        .varying = o->invariant && strcmp(o->invariant, "off") == 0,
        .products = o->products && strcmp(o->products, "clblast") == 0 ? EYRIE_PRODUCTS_CLBLAST : EYRIE_PRODUCTS_OWN };
}
