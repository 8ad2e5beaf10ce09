/* forks.h - many requests from one prompt: it is read once, and each goes on from a fork of the state after it. */
#ifndef CLI_FORKS_H
#define CLI_FORKS_H

#include "session.h"

/* What request number i is, who hears of it, and that it begins after the prompt. */
typedef void cli_fork_fn(void *user, size_t i, eyrie_request *request);

/* Reads the session's prompt, if there is one, then carries out n requests, in their order, as many at a time as there are slots
 * for. Ends early like cli_session_run: what runs then is cancelled, and the rest is not begun. The exit status. */
int cli_session_run_forks(cli_session *s, size_t n, cli_fork_fn *describe, void *user);

#endif
