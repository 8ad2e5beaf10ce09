/* session.h - what run, score and chat stand on: a device, a model, an engine and one sequence, the prompt as tokens, and
 * the loop that carries a request out. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "options.h"

typedef struct cli_session {
    eyrie_device    *device, *parts[2]; /* parts: with two lanes, that which decodes and that which reads; else NULL */
    eyrie_model     *model, *reader;    /* reader: with two lanes, the model that reads prompts */
    eyrie_engine    *engine;
    eyrie_seq       *seq;
    eyrie_model_info info;
    char            *text;              /* of the prompt; NULL: it was given as tokens */
    size_t           text_length;
    int32_t         *tokens;            /* [n_tokens] the prompt, to follow what a loaded state has read */
    size_t           n_tokens, capacity;
    bool             stop;              /* set by an event handler: the request shall end now */
} cli_session;

/* Opens all of it; returns the exit status. The caller closes, also after a failure. */
int  cli_session_open(cli_session *s, const cli_options *o);
/* The same without prompt and sequence, on `device`, which is the session's from then on. */
int  cli_session_open_engine(cli_session *s, const cli_options *o, eyrie_device *device);
void cli_session_close(cli_session *s);

/* Append to the prompt: a token; the tokens of a text, without <bos>; and the same for those who have something to do with the
 * error. */
void         cli_session_add_token(cli_session *s, int32_t token);
int          cli_session_add_text(cli_session *s, const char *text, size_t length);
eyrie_status cli_session_encode(cli_session *s, const char *text, size_t length, eyrie_error *err);

/* Saves the sequence to a state file. */
int cli_session_save(const cli_session *s, const char *path);

/* Carries out `request` on the prompt (which it fills in) until it is over, `stop` is set, or SIGINT, SIGTERM or
 * SIGHUP arrives: then it is cancelled, and the exit status is 128 + the signal's number. A second signal ends the command
 * at once. Shows on a terminal how far reading a long prompt has come. */
int cli_session_run(cli_session *s, eyrie_request *request);

/* What reading the prompt took, and if asked for what generating did: in words for standard error, and as `prefill`
 * and `decode` of a JSON object, with the tokens that did not have to be read again. */
void cli_session_print_speed(const cli_session *s, bool decode);
void cli_session_set_speed(const cli_session *s, json_t *object, bool decode);

#endif
