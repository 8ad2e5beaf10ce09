/* sample.h - what became of one request: the tokens it generated or scored, and the text. */
#ifndef CLI_SAMPLE_H
#define CLI_SAMPLE_H

#include "io.h"

#include <eyrie/eyrie.h>

typedef struct cli_sample {
    int32_t  *ids;              /* [n] */
    float    *logprobs;         /* [n] */
    size_t    n, ids_capacity, logprobs_capacity;
    char     *text;             /* [length] what the generated ones say */
    size_t    length, text_capacity;
    eyrie_end end;              /* 0: it is not over */
} cli_sample;

void cli_sample_free(cli_sample *s);

void cli_sample_add_token(cli_sample *s, const eyrie_event *event);     /* of a TOKEN or SCORE event */
void cli_sample_add_text(cli_sample *s, const eyrie_event *event);

/* Of all its tokens together. */
double cli_sample_logprob(const cli_sample *s);

/* As fields of `object`: `text`, null without a tokenizer, `tokens` and `finish`; of a scored one `logprob` and
 * `tokens`; `logprobs` if asked for. */
void cli_sample_set(const cli_sample *s, bool has_tokenizer, bool logprobs, json_t *object);
void cli_sample_set_scored(const cli_sample *s, bool logprobs, json_t *object);

#endif
