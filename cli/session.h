/* session.h - what run, score and chat stand on: a device, a model, an engine and one sequence, the prompt as tokens, and
 * the loop that carries a request out. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "options.h"

#include <eyrie/eyrie_tools.h>

/* Before the first OpenCL call: sets what drivers read from the environment, and sees that --kernel-dir can be read. */
int          cli_prepare(const cli_options *o);
eyrie_status cli_device_open(eyrie_device **out, const cli_options *o, eyrie_error *err);
/* The same, and what kernels are chosen by is probed, unless that is remembered. This process's first OpenCL call. */
eyrie_status cli_device_open_probed(eyrie_device **out, const cli_options *o, eyrie_error *err);

typedef struct cli_session {
    eyrie_device    *device;
    eyrie_model     *model;
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
void cli_session_close(cli_session *s);

/* Append to the prompt: a token; the tokens of a text, without <bos>. */
void cli_session_add_token(cli_session *s, int32_t token);
int  cli_session_add_text(cli_session *s, const char *text, size_t length);

/* Saves the sequence to a state file. */
int cli_session_save(const cli_session *s, const char *path);

/* Carries out `request` on the prompt (which it fills in) until it is over, `stop` is set, or SIGINT, SIGTERM or
 * SIGHUP arrives: then it is cancelled, and the exit status is 128 + the signal's number. A second signal ends the command
 * at once. Shows on a terminal how far reading a long prompt has come. */
int cli_session_run(cli_session *s, eyrie_request *request);

/* The first SIGINT, SIGTERM or SIGHUP from now on is noted, and nothing more; a second of its kind ends the command.
 * `waking`: whoever waits for input then goes on. cli_take_signal forgets the noted one; its number, 0 = none. */
void cli_catch_signals(bool waking);
int  cli_take_signal(void);

/* What reading the prompt took, and if asked for what generating did: in words for standard error, and as `prefill`
 * and `decode` of a JSON object. */
void cli_session_print_speed(const cli_session *s, bool decode);
void cli_session_set_speed(const cli_session *s, json_t *object, bool decode);

/* eyrie_pack, with its progress on a terminal. */
eyrie_status cli_model_pack(const cli_options *o, eyrie_error *err);

/* eyrie_tune, with its progress on a terminal and the time that is left. */
eyrie_status cli_model_tune(const cli_options *o, eyrie_device *device, eyrie_tuned_fn *on_tuned, void *user,
                            eyrie_tune_summary *sum, eyrie_error *err);

#endif
