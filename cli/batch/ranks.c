/* ranks.c - see ranks.h. Sending never waits for the receiver: two that send to each other would wait for ever. */
#include "io.h"
#include "ranks.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Whether there are others is said in the environment by Open MPI's mpirun, those of other MPIs, and srun with PMIx. */
static bool has_company(void)
{
    const char *open_mpi = getenv("OMPI_COMM_WORLD_SIZE"), *size = open_mpi ? open_mpi : getenv("PMI_SIZE");

    return size ? atoi(size) > 1 : getenv("PMIX_RANK") != NULL;
}

#ifdef EYRIE_MPI_BUILT
#include <mpi.h>

/* A message on its way. */
typedef struct parcel {
    struct parcel *next;
    MPI_Request    request;
    char           bytes[];
} parcel;

static parcel *parcels;
static bool started;

/* Alone, MPI would take time to start, and a process beside this one. */
int cli_ranks_open(cli_ranks *r)
{
    MPI_Comm here;
    int length;

    *r = (cli_ranks){ .size = 1, .places = 1 };
    if (!has_company()) return CLI_DONE;
    if (MPI_Init(NULL, NULL) != MPI_SUCCESS) return cli_fail("MPI does not start");
    started = true;
    MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, r->rank, MPI_INFO_NULL, &here);
    MPI_Comm_rank(here, &r->place);
    MPI_Comm_size(here, &r->places);
    MPI_Comm_free(&here);
    char name[MPI_MAX_PROCESSOR_NAME];
    MPI_Get_processor_name(name, &length);
    snprintf(r->host, sizeof r->host, "%.*s", length, name);
    return CLI_DONE;
}

/* Lets messages go, and forgets those that have. */
static void forget_sent(void)
{
    for (parcel **at = &parcels, *p; (p = *at);) {
        int gone = 0;
        MPI_Test(&p->request, &gone, MPI_STATUS_IGNORE);
        if (gone) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

void cli_ranks_send(int to, int kind, const void *bytes, size_t n)
{
    parcel *p;

    if (n > INT_MAX)
        exit(cli_fail("a message of %zu bytes is more than MPI takes, %d; ask for less in a line", n, INT_MAX));
    p = cli_resize(NULL, 1, sizeof *p + n);
    if (n) memcpy(p->bytes, bytes, n);
    MPI_Isend(p->bytes, (int)n, MPI_CHAR, to, kind, MPI_COMM_WORLD, &p->request);
    p->next = parcels;
    parcels = p;
}

bool cli_ranks_receive(cli_message *m)
{
    MPI_Status from;
    int there = 0, n = 0;

    if (!started) return false;
    forget_sent();
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &from);
    if (!there) return false;
    MPI_Get_count(&from, MPI_CHAR, &n);
    *m = (cli_message){ .from = from.MPI_SOURCE, .kind = from.MPI_TAG, .n = (size_t)n };
    m->bytes = cli_resize(NULL, m->n + 1, 1);
    MPI_Recv(m->bytes, n, MPI_CHAR, m->from, m->kind, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return true;
}

void cli_ranks_close(void)
{
    if (!started) return;
    while (parcels) forget_sent();
    MPI_Finalize();
}

#else

int cli_ranks_open(cli_ranks *r)
{
    *r = (cli_ranks){ .size = 1, .places = 1 };
    if (!has_company()) return CLI_DONE;
    return cli_fail("built without MPI: processes know nothing of each other; start one, or build with Open MPI");
}

void cli_ranks_send(int to, int kind, const void *bytes, size_t n)
{
    (void)to, (void)kind, (void)bytes, (void)n;
}

bool cli_ranks_receive(cli_message *m)
{
    (void)m;
    return false;
}

void cli_ranks_close(void) {}

#endif
