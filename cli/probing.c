/* probing.c - see probing.h. */
#include "device.h"
#include "probing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 60 /* seconds that a child may take */ };

/* ------------------------------------------------------------------------------------------------- all of them */

/* In the child: a byte once the device is open, then the verdict of each probe from `first` on go to fd, and nothing that
 * the driver says to the terminal. deciding: only of those by which kernels are chosen. */
static void probe_and_exit(const cli_options *o, size_t first, bool deciding, int fd)
{
    cli_options quiet = *o;
    const eyrie_probe *p;
    eyrie_device *device;
    int nowhere = open("/dev/null", O_WRONLY);

    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    alarm(PATIENCE);
    quiet.cache_dir = "";
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0 || dup2(nowhere, STDERR_FILENO) < 0
        || cli_device_open(&device, &quiet, NULL) != EYRIE_OK || write(fd, "", 1) != 1)
        _exit(1);
    for (; (p = eyrie_probe_at(first)) != NULL; first++) {
        eyrie_verdict v;
        if (deciding && !p->decides) continue;
        alarm(PATIENCE);
        if (eyrie_probe_run(device, p->name, &v, NULL) != EYRIE_OK || write(fd, &v, sizeof v) != (ssize_t)sizeof v) _exit(1);
    }
    _exit(0);
}

static eyrie_verdict crash(int status)
{
    eyrie_verdict v = { .answer = EYRIE_CRASHES };

    if (WIFEXITED(status)) snprintf(v.reason, sizeof v.reason, "it ends the process, exit status %d", WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGALRM) snprintf(v.reason, sizeof v.reason, "no answer within %d seconds", PATIENCE);
    else snprintf(v.reason, sizeof v.reason, "it ends the process by signal %d", WTERMSIG(status));
    return v;
}

/* Runs probes from `first` on in a child, as many as it survives; returns which is the next. A device that does not even
 * open leaves all unanswered, and the caller will hear why. */
static size_t probe_in_child(const cli_options *o, size_t first, eyrie_verdict *verdicts)
{
    size_t next = first;
    bool opened = false;
    int ends[2], status;
    pid_t child;
    char byte;

    if (pipe(ends) != 0) return CLI_PROBES;
    if ((child = fork()) == 0) probe_and_exit(o, first, false, ends[1]);
    close(ends[1]);
    opened = child > 0 && read(ends[0], &byte, 1) == 1;
    while (opened && next < CLI_PROBES && read(ends[0], &verdicts[next], sizeof *verdicts) == (ssize_t)sizeof *verdicts)
        next++;
    close(ends[0]);
    if (child > 0 && waitpid(child, &status, 0) != child) opened = false;
    if (!opened) return CLI_PROBES;
    if (next < CLI_PROBES && eyrie_probe_at(next)) verdicts[next++] = crash(status);
    return next;
}

/* What a probe may do to its process is told apart from what it says: all run in children, and one that dies is followed by
 * another, for the probes after the one that killed it. Must come before this process's first OpenCL call: a driver in use
 * does not survive a fork. */
void cli_probe_all(const cli_options *o, eyrie_verdict *verdicts)
{
    size_t next = 0;
    while (next < CLI_PROBES && eyrie_probe_at(next)) next = probe_in_child(o, next, verdicts);
}

/* ------------------------------------------------------------------------------------------------ at need */

/* Whether verdicts are remembered is known when the device is open, and a driver in use does not survive a fork: so a child is made before
 * the first OpenCL call, and waits until it is told what to do. */
typedef struct prober {
    pid_t child;
    int   go, answer;
} prober;

static void start(prober *p, const cli_options *o)
{
    int go[2], answer[2];
    char byte;

    *p = (prober){ .child = -1 };
    if (pipe(go) != 0) return;
    if (pipe(answer) != 0) {
        close(go[0]);
        close(go[1]);
        return;
    }
    if ((p->child = fork()) == 0) {
        close(go[1]);
        close(answer[0]);
        if (read(go[0], &byte, 1) != 1) _exit(0);
        probe_and_exit(o, 0, true, answer[1]);
    }
    close(go[0]);
    close(answer[1]);
    p->go = go[1];
    p->answer = answer[0];
    if (p->child > 0) return;
    close(p->go);
    close(p->answer);
}

static bool is_missing(const eyrie_device *device)
{
    const eyrie_probe *probe;
    eyrie_verdict v = { EYRIE_YES, "" };

    for (size_t i = 0; v.answer != EYRIE_NOT_PROBED && (probe = eyrie_probe_at(i)) != NULL; i++)
        if (probe->decides) eyrie_probe_recall(device, probe->name, &v);
    return v.answer == EYRIE_NOT_PROBED;
}

/* Remembers what the child says of each probe, and of the one that it does not survive that. */
static void hear(const prober *p, eyrie_device *device)
{
    const eyrie_probe *probe;
    eyrie_verdict v;
    bool opened;
    char byte;
    int status;

    opened = write(p->go, "", 1) == 1 && read(p->answer, &byte, 1) == 1;
    for (size_t i = 0; opened && (probe = eyrie_probe_at(i)) != NULL; i++) {
        if (!probe->decides) continue;
        if (read(p->answer, &v, sizeof v) != (ssize_t)sizeof v) {
            if (waitpid(p->child, &status, 0) != p->child) return;
            v = crash(status);
            eyrie_probe_remember(device, probe->name, &v);
            return;
        }
        eyrie_probe_remember(device, probe->name, &v);
    }
}

static void end(prober *p, eyrie_device *device)
{
    if (p->child <= 0) return;
    if (device && is_missing(device)) hear(p, device);
    close(p->go);
    close(p->answer);
    (void)waitpid(p->child, NULL, 0);
    p->child = -1;
}

/* Verdicts can be remembered where there is a cache. */
eyrie_status cli_device_open_probed(eyrie_device **out, const cli_options *o, eyrie_error *err)
{
    bool needed = cli_has_cache(o) && !(o->compute && strcmp(o->compute, "f32") == 0);
    prober p = { .child = -1 };
    eyrie_status st;

    if (needed) start(&p, o);
    st = cli_device_open(out, o, err);
    end(&p, st == EYRIE_OK ? *out : NULL);
    return st;
}
