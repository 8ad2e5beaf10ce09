/* errors.h - the one error that a test's calls report to, and what they have to end with. To be included after
 * testing.h. */
#ifndef EY_ERRORS_H
#define EY_ERRORS_H

#include "base.h"

static eyrie_error err;

/* The call, which reports to `err`, succeeds. */
#define assert_ok(call)                                                  \
    do {                                                                 \
        if ((call) != EYRIE_OK) fail_msg("%s: %s", #call, err.text);     \
    } while (0)

/* The call fails with that status, and err tells of it in one line that holds `part`. */
#define assert_fails(call, wanted, part)                                 \
    do {                                                                 \
        memset(&err, 0, sizeof err);                                     \
        eyrie_status status_ = (call);                                   \
        check_failure(#call, status_, wanted, part);                     \
    } while (0)

static inline void check_failure(const char *call, eyrie_status got, eyrie_status wanted, const char *part)
{
    if (got != wanted || err.status != wanted || !strstr(err.text, part) || !err.text[0] || strchr(err.text, '\n'))
        fail_msg("%s: status %d, not %d, with \"%s\" (%s)", call, (int)got, (int)wanted, part, err.text);
}

#endif
