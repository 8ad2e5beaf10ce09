/* tokenizer.h - text to token ids and back, on libsentencepiece. The only file behind it that is C++ is tokenizer.cc. */
#ifndef EY_TOKENIZER_H
#define EY_TOKENIZER_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ey_tokenizer ey_tokenizer;

/* Opens a SentencePiece model. EIO, EFORMAT with the path and the library's reason. */
eyrie_status ey_tokenizer_open(ey_tokenizer **out, const char *path, eyrie_error *err);
void         ey_tokenizer_close(ey_tokenizer *t);

uint32_t ey_tokenizer_size(const ey_tokenizer *t);                        /* pieces */
int32_t  ey_tokenizer_find(const ey_tokenizer *t, const char *piece);     /* id of exactly that piece, -1 = none */

/* Ids of `text`, without <bos>, in memory of *ids that the caller frees with ey_free. User-defined pieces (turn markers,
 * newlines) are matched whole, control pieces never. EINVAL: not UTF-8, with the offset of the first wrong byte. */
eyrie_status ey_tokenizer_encode(const ey_tokenizer *t, const char *text, size_t length, int32_t **ids, size_t *n,
                                 eyrie_error *err);

/* The bytes that one token stands for (not necessarily whole characters), borrowed for as long as the tokenizer lives.
 * Control and unknown pieces, and ids outside the vocabulary, give none. */
const char *ey_tokenizer_bytes(const ey_tokenizer *t, int32_t id, size_t *length);

/* Whether encoding puts a space before the text, so that decoding has to drop the first one. */
bool ey_tokenizer_adds_space(const ey_tokenizer *t);

#ifdef __cplusplus
}
#endif
#endif
