/* ranks.h - the processes that mpirun started side by side, and messages between them. Knows nothing of what they say.
 * Without mpirun, or without MPI in the build, there is one. */
#ifndef CLI_RANKS_H
#define CLI_RANKS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cli_ranks {
    int  rank, size;            /* size 1: there is nobody else */
    int  place, places;         /* which of its host's ranks this one is, and how many they are */
    char host[256];
} cli_ranks;

typedef struct cli_message {
    int    from, kind;          /* kind: the sender's word, from 0 */
    char  *bytes;               /* [n], the receiver's to free */
    size_t n;
} cli_message;

/* Once, before anything else. The exit status. */
int  cli_ranks_open(cli_ranks *r);
/* Returns at once; the bytes are copied. Messages between two ranks arrive in their order. */
void cli_ranks_send(int to, int kind, const void *bytes, size_t n);
/* One that has arrived, if there is one. */
bool cli_ranks_receive(cli_message *m);
/* When all messages that were sent have gone. Whoever sent what nobody receives waits for ever. */
void cli_ranks_close(void);

#endif
