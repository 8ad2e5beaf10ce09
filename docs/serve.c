/* serve.c - many texts from one thread. Each line of standard input is a prompt, whenever it comes, and goes on for some tokens; a
 * line is printed when its text is done. "-" cancels the text that came last. Ends with its input, when all is done. */
#include <eyrie/eyrie.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 4, TOKENS = 40, TEXT = 4096 };

typedef struct client {
    struct client *next;
    eyrie_seq     *seq;
    int            number;
    bool           over;
    size_t         length;
    char           text[TEXT];      /* prompt and what follows */
} client;

static client *clients;             /* the last to come is the first */

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    client *c = user;
    size_t room = TEXT - c->length, n = event->text_length < room ? event->text_length : room;

    (void)seq;
    memcpy(c->text + c->length, event->text, n);
    c->length += n;
    c->over = event->kind == EYRIE_EVENT_END;
}

/* A client waits for a slot if none is free; how many are waiting is of no matter. */
static bool add(eyrie_engine *engine, const eyrie_model *model, const char *line, size_t length, eyrie_error *err)
{
    static int number;
    eyrie_request request = { .struct_size = sizeof request, .max_tokens = TOKENS, .temperature = 0.8f, .on_event = on_event };
    int32_t ids[TEXT];
    client *c = calloc(1, sizeof *c);

    if (!c) return false;
    c->next = clients;
    clients = c;
    c->number = ++number;
    c->length = length;
    memcpy(c->text, line, length);
    request.tokens = ids;
    request.user = c;
    return eyrie_encode(model, line, length, ids, TEXT, &request.n_tokens, err) == EYRIE_OK
           && eyrie_seq_open(&c->seq, engine, err) == EYRIE_OK && eyrie_seq_submit(c->seq, &request, err) == EYRIE_OK;
}

/* Prints and closes those that are over. */
static void remove_over(void)
{
    for (client **at = &clients, *c; (c = *at);) {
        if (!c->over) {
            at = &c->next;
            continue;
        }
        for (size_t i = 0; i < c->length; i++)
            if (c->text[i] == '\n') c->text[i] = '/';
        printf("%d: %.*s\n", c->number, (int)c->length, c->text);
        fflush(stdout);
        *at = c->next;
        (void)eyrie_seq_close(c->seq);
        free(c);
    }
}

/* Takes all lines that have come; waits for one if there is nothing else to do. False: the input has ended. */
static bool read_lines(eyrie_engine *engine, const eyrie_model *model, bool wait, bool *failed, eyrie_error *err)
{
    static char line[TEXT];
    static size_t length;
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

    while (!*failed && poll(&input, 1, wait ? -1 : 0) > 0) {
        ssize_t n = read(STDIN_FILENO, line + length, 1);       /* a byte at a time, to be short */
        if (n <= 0) return false;
        if (line[length] != '\n' && length + 1 < TEXT / 2) {
            length++;
            continue;
        }
        if (length == 1 && line[0] == '-' && clients) (void)eyrie_seq_cancel(clients->seq, err);
        else if (length > 0) *failed = !add(engine, model, line, length, err);
        length = 0;
        wait = false;
    }
    return true;
}

int main(int argc, char **argv)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = SLOTS };
    eyrie_device *device = NULL;
    eyrie_model *model = NULL;
    eyrie_engine *engine = NULL;
    eyrie_error err = { .text = "usage: serve MODEL" };
    bool open = true, busy = false, failed = !(argc > 1 && eyrie_device_open(&device, NULL, &err) == EYRIE_OK
                  && eyrie_model_open(&model, device, argv[1], &opts, &err) == EYRIE_OK
                  && eyrie_engine_open(&engine, model, NULL, &err) == EYRIE_OK);

    while (!failed && (open || busy)) {
        if (open) open = read_lines(engine, model, !busy, &failed, &err);
        if (!failed) failed = eyrie_engine_step(engine, &busy, &err) != EYRIE_OK;
        remove_over();
    }
    if (failed) fprintf(stderr, "%s\n", err.text);
    for (client *c; (c = clients); free(c)) {
        clients = c->next;
        (void)eyrie_seq_close(c->seq);
    }
    (void)eyrie_engine_close(engine);
    (void)eyrie_model_close(model);
    (void)eyrie_device_close(device);
    return failed;
}
