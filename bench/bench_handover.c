/* bench_handover.c - a sequence's state from one lane to another: Griffin's, whose size stops growing, beside that of the
 * Transformer it is measured against, which goes on.
 *
 *     cmake -S . -B build-bench -DEYRIE_BENCH=ON && cmake --build build-bench
 *     POCL_AFFINITY=1 build-bench/bench_handover [-d DEVICE] [-n REPETITIONS]
 *
 * A hand-over is ey_model_copy_slot from one part of the device to another, until the other one could begin a step; a fork is
 * the same within one model; "through the host" is to a device that shares no memory with it. Each sample has all of them, and
 * before them what they are compared with: one copy of as many bytes from buffer to buffer, waited for. What is in them does
 * not matter, but something has to be: memory that nobody has written is one page of zeros, which caches hold. Weights are
 * shared and q4 to save time and memory. */
#include "bench.h"
#include "model_parts.h"
#include "os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 2, LONGEST = 32768, MOST_REPETITIONS = 1000 };

static const char *const models[] = { "griffin-100m", "mqa-100m" };
static const uint64_t lengths[] = { 2048, 8192, LONGEST };

typedef struct lanes {
    eyrie_device *whole, *parts[2], *apart;
    eyrie_model  *models[2], *away;     /* on the parts, and on `apart` */
    ey_arena      arena;                /* on the first part */
    ey_buffer    *from, *to;
} lanes;

static void close_models(lanes *l)
{
    (void)eyrie_model_close(l->away);
    (void)eyrie_model_close(l->models[1]);
    (void)eyrie_model_close(l->models[0]);
    ey_arena_free(&l->arena);
    l->away = l->models[0] = l->models[1] = NULL;
}

static void close_lanes(lanes *l)
{
    close_models(l);
    for (uint32_t i = 0; i < 2; i++) (void)eyrie_device_close(l->parts[i]);
    (void)eyrie_device_close(l->apart);
    (void)eyrie_device_close(l->whole);
}

static eyrie_status open_lanes(lanes *l, const eyrie_device_opts *opts, eyrie_error *err)
{
    eyrie_status st;

    EY_TRY(eyrie_device_open(&l->whole, opts, err));
    EY_TRY(eyrie_device_open(&l->apart, opts, err));
    uint32_t units[2] = { l->whole->units / 2, l->whole->units - l->whole->units / 2 };
    bool halves = units[0] && eyrie_device_split(l->parts, 2, l->whole, units, NULL) == EYRIE_OK;
    if (!halves) EY_TRY(eyrie_device_split(l->parts, 2, l->whole, NULL, err));
    printf("### hand-over\n\n%s, %s.\n\n"
           "| model | tokens | MiB | one copy, ms | spread | GB/s | hand-over, ms | share of the copy | fork, ms | share "
           "| through the host, ms |\n|---|---|---|---|---|---|---|---|---|---|---|\n", eyrie_device_name(l->whole),
           halves ? "two halves" : "two queues on the whole");
done:
    return st;
}

/* The whole of a buffer, once. */
static eyrie_status touch(eyrie_device *dev, ey_buffer *b, eyrie_error *err)
{
    void *memory;
    eyrie_status st;

    EY_TRY(ey_buffer_map(dev, b, &memory, err));
    memset(memory, 1, (size_t)b->bytes);
    st = ey_buffer_unmap(dev, b, memory, err);
done:
    return st;
}

static eyrie_status touch_state(eyrie_model *m, eyrie_device *dev, eyrie_error *err)
{
    eyrie_status st = EYRIE_OK;

    for (uint32_t i = 0; i < m->state.n_layers && st == EYRIE_OK; i++)
        if (m->state.layers[i].at == 0) st = touch(dev, m->state.layers[i].whole, err);
    return st;
}

static eyrie_status open_models(lanes *l, const char *name, eyrie_error *err)
{
    eyrie_model_opts opts = { .struct_size = sizeof opts, .slots = SLOTS, .chunk = 8, .weights = EYRIE_FORMAT_Q4,
                              .context = LONGEST + 1 };
    eyrie_model_info info = { .struct_size = sizeof info };
    char path[64];
    eyrie_status st;

    snprintf(path, sizeof path, "synthetic:%s", name);
    for (uint32_t i = 0; i < 2; i++) {
        EY_TRY(eyrie_model_open(&l->models[i], l->parts[i], path, &opts, err));
        opts.share = l->models[0];
    }
    opts.share = NULL;
    EY_TRY(eyrie_model_open(&l->away, l->apart, path, &opts, err));
    EY_TRY(eyrie_model_get_info(l->models[0], &info, err));
    ey_arena_init(&l->arena, l->parts[0], "buffers");
    l->from = ey_arena_add(&l->arena, info.state_bytes, "one buffer");
    l->to = ey_arena_add(&l->arena, info.state_bytes, "another");
    EY_TRY(l->from && l->to ? ey_arena_commit(&l->arena, err) : ey_fail(err, EYRIE_ENOMEM, "buffers"));
    EY_TRY(touch(l->parts[0], l->from, err));
    EY_TRY(touch(l->parts[0], l->to, err));
    for (uint32_t i = 0; i < 2; i++) EY_TRY(touch_state(l->models[i], l->parts[i], err));
    st = touch_state(l->away, l->apart, err);
done:
    return st;
}

static uint64_t state_bytes(const eyrie_model *m, uint64_t position)
{
    uint64_t sizes[EY_MAX_PARTS_OF_STATE] = { 0 }, sum = 0;
    const ey_config *c = ey_model_config(m);

    ey_model_state_sizes(m, position, sizes);
    for (uint32_t i = 0; i < c->layers; i++) sum += sizes[i];
    return sum;
}

static eyrie_status copy(lanes *l, uint64_t bytes, double *seconds, eyrie_error *err)
{
    double start = ey_seconds();
    eyrie_status st;

    EY_TRY(ey_buffer_copy(l->parts[0], &(ey_range){ l->from, 0, l->to, 0, bytes }, err));
    EY_TRY(ey_device_finish(l->parts[0], err));
    *seconds = ey_seconds() - start;
done:
    return st;
}

/* Slot 0 of the first lane to slot 1 of a model, which is on `there`. */
static eyrie_status move(lanes *l, eyrie_model *to, eyrie_device *there, uint64_t tokens, double *seconds, eyrie_error *err)
{
    double start = ey_seconds();
    eyrie_status st;

    EY_TRY(ey_model_copy_slot(l->models[0], 0, to, 1, tokens, err));
    EY_TRY(ey_device_finish(there, err));
    *seconds = ey_seconds() - start;
done:
    return st;
}

static eyrie_status row(lanes *l, const char *name, uint64_t tokens, uint32_t n, eyrie_error *err)
{
    static double copies[MOST_REPETITIONS], moves[MOST_REPETITIONS], forks[MOST_REPETITIONS], carries[MOST_REPETITIONS],
                  move_shares[MOST_REPETITIONS], fork_shares[MOST_REPETITIONS];
    uint64_t bytes = state_bytes(l->models[0], tokens);
    double spread, ignored;
    eyrie_status st;

    for (uint32_t i = 0; i < n + 1; i++) {      /* the first touches the memory */
        uint32_t k = i ? i - 1 : 0;
        EY_TRY(copy(l, bytes, &copies[k], err));
        EY_TRY(move(l, l->models[1], l->parts[1], tokens, &moves[k], err));
        EY_TRY(move(l, l->models[0], l->parts[0], tokens, &forks[k], err));
        EY_TRY(move(l, l->away, l->apart, tokens, &carries[k], err));
        move_shares[k] = copies[k] / moves[k];
        fork_shares[k] = copies[k] / forks[k];
    }
    double once = bench_median(copies, n, &spread);
    printf("| %s | %u | %.4g | %.4g | %.0f %% | %.4g | %.4g | %.0f %% | %.4g | %.0f %% | %.4g |\n", name, (unsigned)tokens,
           (double)bytes / (1 << 20), 1e3 * once, spread, 1e-9 * (double)bytes / once, 1e3 * bench_median(moves, n, &ignored),
           100 * bench_median(move_shares, n, &ignored), 1e3 * bench_median(forks, n, &ignored),
           100 * bench_median(fork_shares, n, &ignored), 1e3 * bench_median(carries, n, &ignored));
    fflush(stdout);
done:
    return st;
}

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s [-d DEVICE] [-n REPETITIONS]\n"
                    "  -d  part of the device's name, its number, gpu or cpu (default: first GPU, else first)\n"
                    "  -n  samples of each row, from 1 to %d (default 25)\n", program, MOST_REPETITIONS);
    return 2;
}

int main(int argc, char **argv)
{
    eyrie_device_opts opts = { .struct_size = sizeof opts };
    lanes l = { 0 };
    unsigned long n = 25;
    eyrie_error err;
    eyrie_status st;
    int option;

    while ((option = getopt(argc, argv, "d:n:")) != -1) {
        if (option == 'd') opts.select = optarg;
        else if (option == 'n') n = strtoul(optarg, NULL, 10);
        else return usage(argv[0]);
    }
    if (optind != argc || n < 1 || n > MOST_REPETITIONS) return usage(argv[0]);
    EY_TRY(open_lanes(&l, &opts, &err));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        EY_TRY(open_models(&l, models[i], &err));
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) EY_TRY(row(&l, models[i], lengths[k], (uint32_t)n, &err));
        close_models(&l);
    }
done:
    if (st != EYRIE_OK) fprintf(stderr, "%s: %s\n", argv[0], err.text);
    close_lanes(&l);
    return st == EYRIE_OK ? 0 : 1;
}
