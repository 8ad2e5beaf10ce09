/* golden.h - reads the golden files of tests/golden (format: README.md there), for tests, on little-endian machines.
 * Takes nothing on trust, so that a damaged checkout fails here and not as a wrong logit. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct golden {
    uint32_t       T, V, S;           /* tokens, vocabulary, greedy steps */
    const int32_t *tokens;            /* [T] */
    const float   *logits;            /* [T, V] after each token */
    const float   *logprob;           /* [T - 1] of token t + 1 after tokens 0 to t */
    const int32_t *greedy;            /* [S] the continuation */
    const float   *greedy_logprob;    /* [S] */
    const float   *greedy_margin;     /* [S] highest logit less the second */
    void          *file;              /* all of it, which the others point into; freed by golden_close */
} golden;

static inline void golden_close(golden *g)
{
    free(g->file);
    memset(g, 0, sizeof *g);
}

/* The whole file in new memory, NULL if it cannot be read. */
static inline void *golden_load(const char *path, uint64_t *size)
{
    FILE *f = fopen(path, "rb");
    void *bytes = NULL;
    long length = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) length = ftell(f);
    if (length > 0 && length < 1 << 30 && fseek(f, 0, SEEK_SET) == 0) bytes = malloc((size_t)length);
    if (bytes && fread(bytes, 1, (size_t)length, f) != (size_t)length) {
        free(bytes);
        bytes = NULL;
    }
    if (f) fclose(f);
    *size = bytes ? (uint64_t)length : 0;
    return bytes;
}

static inline bool golden_ids_valid(const int32_t *ids, size_t n, uint32_t V)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= V) return false;
    return true;
}

static inline bool golden_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* What is wrong with the file in g->file, NULL if nothing; sets all else in g. */
static inline const char *golden_parse(golden *g, uint64_t size)
{
    const uint64_t most = 1u << 20;   /* of each size, so that their sum does not overflow */
    uint32_t head[6];
    if (size < sizeof head) return "is too short";
    memcpy(head, g->file, sizeof head);
    if (memcmp(&head[0], "EYRG", 4) != 0 || head[1] != 1 || head[5] != 0) return "is not a golden file of version 1";
    const uint64_t T = g->T = head[2], V = g->V = head[3], S = g->S = head[4];
    if (T < 1 || T > most || V < 1 || V > most || S > most || size != 4 * (6 + T + T * V + (T - 1) + 3 * S))
        return "does not have the size that its header says";
    g->tokens = (const int32_t *)g->file + 6;
    g->logits = (const float *)(g->tokens + T);
    g->logprob = g->logits + T * V;
    g->greedy = (const int32_t *)(g->logprob + (T - 1));
    g->greedy_logprob = (const float *)(g->greedy + S);
    g->greedy_margin = g->greedy_logprob + S;
    if (!golden_ids_valid(g->tokens, T, g->V) || !golden_ids_valid(g->greedy, S, g->V))
        return "has a token outside its vocabulary";
    if (!golden_finite(g->logits, T * V + (T - 1)) || !golden_finite(g->greedy_logprob, 2 * S))
        return "has a number that is not finite";
    return NULL;
}

/* False, with a line on stderr and nothing to close: the file is not there or not what it should be. */
static inline bool golden_open(golden *g, const char *path)
{
    uint64_t size;
    memset(g, 0, sizeof *g);
    g->file = golden_load(path, &size);
    const char *wrong = g->file ? golden_parse(g, size) : "cannot be read";
    if (!wrong) return true;
    fprintf(stderr, "%s %s\n", path, wrong);
    golden_close(g);
    return false;
}

#endif
