/* chat.c - `eyrie chat`: a conversation, line by line. Its history is the state of one sequence, which each turn is
 * appended to; nothing is read twice and no text is kept. A session is that state in a file. */
#include "commands.h"
#include "session.h"
#include "terminal.h"

#include <editline/readline.h>
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct chat {
    cli_session session;
    int32_t     turn_start, turn_end;   /* the model's turn markers; -1: it has none */
    bool        terminal;               /* lines come from one, and are edited */
    bool        in_line;                /* the answer so far does not end with a newline */
    bool        over;
    int         status;                 /* of the command; a failure stays */
} chat;

static void set_status(chat *c, int status)
{
    if (c->status == CLI_DONE) c->status = status;
}

/* ---------------------------------------------------------------------------------------------------------- lines */

/* libedit's prompt and echo go to standard error: standard output is for the answers. */
static void prepare_terminal(void)
{
    (void)setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) (void)setlocale(LC_CTYPE, "C.UTF-8");
    rl_catch_signals = 0;       /* it would pass them on to the whole process group */
    rl_outstream = stderr;
}

/* The next line, without its newline, which the caller frees; NULL at the end, or when a signal came. */
static char *read_line(const chat *c, size_t *length)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    cli_catch_signals(true);
    if (c->terminal) {
        if ((line = readline("> ")) != NULL) *length = strlen(line);
        if (line && *line) add_history(line);
        return line;
    }
    if ((n = getline(&line, &room, stdin)) < 0) {
        free(line);
        return NULL;
    }
    *length = (size_t)n - (line[n - 1] == '\n');
    return line;
}

/* Text [*length] without the spaces around it. */
static char *trim(char *text, size_t *length)
{
    while (*length > 0 && isspace((unsigned char)text[*length - 1])) --*length;
    while (*length > 0 && isspace((unsigned char)*text)) text++, --*length;
    return text;
}

/* ----------------------------------------------------------------------------------------------------------- turns */

static void on_event(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    chat *c = user;

    (void)seq;
    cli_write(event->text, event->text_length);
    if (event->text_length > 0) c->in_line = event->text[event->text_length - 1] != '\n';
    if (event->kind == EYRIE_EVENT_END && c->in_line) cli_print("\n");
    if (!cli_flush()) c->session.stop = true;
}

/* What the user says, as tokens, after what was said before. The markers are put in by their ids and everything between
 * them is text of its own, which is what the whole as one text gives: a tokenizer splits at them first. */
static int add_turn(chat *c, const char *text, size_t length)
{
    cli_session *s = &c->session;
    int32_t last;
    bool begun = eyrie_seq_pending(s->seq, &last) > 0 || eyrie_seq_position(s->seq) > 0;
    int status;

    s->n_tokens = 0;
    if (!begun && s->info.bos >= 0) cli_session_add_token(s, s->info.bos);
    if (c->turn_start < 0) {
        status = cli_session_add_text(s, text, length);
        return status == CLI_DONE ? cli_session_add_text(s, "\n", 1) : status;
    }
    if (begun && last != c->turn_end) cli_session_add_token(s, c->turn_end);    /* of an answer that was cut short */
    if (begun && (status = cli_session_add_text(s, "\n", 1)) != CLI_DONE) return status;
    cli_session_add_token(s, c->turn_start);
    if ((status = cli_session_add_text(s, "user\n", 5)) != CLI_DONE
        || (status = cli_session_add_text(s, text, length)) != CLI_DONE)
        return status;
    cli_session_add_token(s, c->turn_end);
    if ((status = cli_session_add_text(s, "\n", 1)) != CLI_DONE) return status;
    cli_session_add_token(s, c->turn_start);
    return cli_session_add_text(s, "model\n", 6);
}

static void take_turn(chat *c, const cli_options *o, const char *text, size_t length)
{
    eyrie_request request = cli_request(o);
    int status = add_turn(c, text, length);

    request.end_tokens = &c->turn_end;
    request.n_end_tokens = c->turn_end >= 0;
    request.on_event = on_event;
    request.user = c;
    c->in_line = false;
    if (status == CLI_DONE) status = cli_session_run(&c->session, &request);
    c->over |= c->session.stop;
    if (status != 128 + SIGINT) {               /* then the answer is over, the chat is not */
        c->over |= status > 128;
        set_status(c, status);
    }
    if (o->session && !c->over) set_status(c, cli_session_save(&c->session, o->session));       /* at the end comes another one */
}

/* -------------------------------------------------------------------------------------------------------- commands */

static void use(chat *c, eyrie_seq *seq)
{
    (void)eyrie_seq_close(c->session.seq);
    c->session.seq = seq;
}

static int reset(chat *c, const char *unused)
{
    eyrie_seq *seq;
    eyrie_error err;

    (void)unused;
    if (eyrie_seq_open(&seq, c->session.engine, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    use(c, seq);
    return CLI_DONE;
}

static int save(chat *c, const char *path) { return cli_session_save(&c->session, path); }

static int load(chat *c, const char *path)
{
    eyrie_seq *seq;
    eyrie_error err;

    if (eyrie_seq_load(&seq, c->session.engine, path, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    use(c, seq);
    return CLI_DONE;
}

static int quit(chat *c, const char *unused)
{
    (void)unused;
    c->over = true;
    return CLI_DONE;
}

static int help(chat *c, const char *unused);

static const struct command {
    const char *name, *argument, *help;         /* argument: NULL = none */
    int       (*run)(chat *c, const char *argument);
} commands[] = {
    { "/save", "FILE", "saves the chat", save },
    { "/load", "FILE", "goes on with a saved one", load },
    { "/reset", NULL, "begins a new one", reset },
    { "/help", NULL, "lists the commands", help },
    { "/quit", NULL, "ends the chat, as Ctrl-D does; Ctrl-C stops an answer", quit },
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static int help(chat *c, const char *unused)
{
    (void)c;
    (void)unused;
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stderr, "%s %-*s %s\n", commands[i].name, (int)(11 - strlen(commands[i].name)),
                commands[i].argument ? commands[i].argument : "", commands[i].help);
    return CLI_DONE;
}

/* A line that begins with '/', terminated. */
static int run_command(chat *c, char *line)
{
    size_t word = strcspn(line, " \t"), rest = strlen(line) - word;
    char *argument = trim(line + word, &rest);

    line[word] = '\0';
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(line, commands[i].name) != 0) continue;
        if (commands[i].argument && rest == 0) return cli_fail("%s needs a file: %s FILE", line, line);
        if (!commands[i].argument && rest > 0) return cli_fail("%s takes nothing: '%s'", line, argument);
        return commands[i].run(c, argument);
    }
    return cli_fail("unknown command %s; /help lists them", line);
}

/* ------------------------------------------------------------------------------------------------------------ chat */

/* A session that is not there yet begins. */
static int open_session(chat *c, const cli_options *o)
{
    cli_options both = *o;
    struct stat there;

    both.save_state = o->session;
    if (stat(o->session, &there) == 0 || errno != ENOENT) both.load_state = o->session;
    return cli_session_open(&c->session, &both);
}

static int open_chat(chat *c, const cli_options *o)
{
    int status = o->session ? open_session(c, o) : cli_session_open(&c->session, o);

    if (status != CLI_DONE) return status;
    if (!c->session.info.has_tokenizer) return cli_fail("%s: has no tokenizer.model, and a chat is text", o->model);
    c->turn_start = eyrie_find_token(c->session.model, "<start_of_turn>");
    c->turn_end = eyrie_find_token(c->session.model, "<end_of_turn>");
    if (c->turn_start < 0 || c->turn_end < 0) {
        c->turn_start = c->turn_end = -1;
        fputs("eyrie: note: the model has no turn markers (<start_of_turn>, <end_of_turn>); it just continues the text\n",
              stderr);
    }
    c->terminal = isatty(STDIN_FILENO) == 1;
    if (c->terminal) prepare_terminal();
    return CLI_DONE;
}

/* Signals while no answer is being made: on a terminal, Ctrl-C drops the line; any other ends the chat. */
static void take_line(chat *c, const cli_options *o)
{
    size_t length;
    char *line = read_line(c, &length), *text = line;
    int number = cli_take_signal();

    if (number && !(c->terminal && number == SIGINT)) {
        set_status(c, 128 + number);
        c->over = true;
    } else if (!line) {
        c->over = number == 0;
        if (c->terminal) fputc('\n', stderr);
        else if (ferror(stdin)) set_status(c, cli_fail("standard input: %s", strerror(errno)));
    } else if ((text = trim(line, &length)), length > 0) {
        text[length] = '\0';
        if (*text == '/') set_status(c, run_command(c, text));
        else take_turn(c, o, text, length);
    }
    free(line);
}

int cli_chat(const cli_options *o)
{
    chat c = { .status = CLI_DONE };
    const char *file = o->session ? o->session : o->save_state;
    int status = open_chat(&c, o);

    if (status == CLI_DONE) {
        while (!c.over) take_line(&c, o);
        status = c.status;
        if (file && cli_session_save(&c.session, file) != CLI_DONE) status = CLI_FAILED;
    }
    cli_session_close(&c.session);
    return status;
}
