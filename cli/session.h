/* session.h - what run and score stand on: a device, a model, an engine and one sequence, the prompt as tokens, and
 * the loop that carries a request out. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "options.h"

/* Before the first OpenCL call: sets what drivers read from the environment, and sees that --kernel-dir can be read. */
int          cli_prepare(const cli_options *o);
eyrie_status cli_device_open(eyrie_device **out, const cli_options *o, eyrie_error *err);

typedef struct cli_session {
    eyrie_device    *device;
    eyrie_model     *model;
    eyrie_engine    *engine;
    eyrie_seq       *seq;
    eyrie_model_info info;
    char            *text;              /* of the prompt; NULL: it was given as tokens */
    size_t           text_length;
    int32_t         *tokens;            /* [n_tokens] the prompt */
    size_t           n_tokens;
    bool             stop;              /* set by an event handler: the request shall end now */
} cli_session;

/* Opens all of it; returns the exit status. The caller closes, also after a failure. */
int  cli_session_open(cli_session *s, const cli_options *o);
void cli_session_close(cli_session *s);

/* Carries out `request` on the prompt (which it fills in) until it is over, `stop` is set, or SIGINT, SIGTERM or
 * SIGHUP arrives: then the exit status is 128 + its number. A second signal ends the command at once. Shows on a
 * terminal how far reading a long prompt has come. */
int cli_session_run(cli_session *s, eyrie_request *request);

/* What reading the prompt took, and if asked for what generating did: in words for standard error, and as `prefill`
 * and `decode` of a JSON object. */
void cli_session_print_speed(const cli_session *s, bool decode);
void cli_session_set_speed(const cli_session *s, json_t *object, bool decode);

#endif
