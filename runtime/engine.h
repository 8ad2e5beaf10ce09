/* engine.h - what is inside of engines and sequences, for the files that make them up: engine.c decides and runs steps,
 * seq.c takes requests, seat.c hands out slots, reuse.c keeps states of prompts, deliver.c makes tokens, text and events of
 * results, seq_file.c saves and loads, journal.c tells the trace. Nobody else's. */
#ifndef EY_ENGINE_H
#define EY_ENGINE_H

#include "lane.h"
#include "sched.h"
#include "shelf.h"
#include "stop.h"
#include "trace.h"
#include "utf8.h"

#define EY_NO_SLOT UINT32_MAX

enum { EY_LAST_CHARACTER = 3 };     /* bytes of the U+FFFD that the beginning of a character at the end of the text becomes */

typedef enum ey_seq_state {
    EY_SEQ_IDLE,                /* no request */
    EY_SEQ_RUNNING,             /* reads its prompt while tokens are unread, then generates */
    EY_SEQ_FAILED               /* its state is lost */
} ey_seq_state;

/* What followed the last token of a prompt (EYRIE_KEEP_LOGITS). */
typedef struct ey_ending {
    ey_result result;
    float     logits[];         /* [vocab] */
} ey_ending;

struct eyrie_seq {
    eyrie_engine  *engine;
    uint64_t       number;      /* of its request: they are counted from 1 */
    ey_seq_state   state;
    uint32_t       slot;        /* in every lane's model; EY_NO_SLOT until its first step */
    ey_phase       place;       /* the lane whose model has its state, where lanes have models of their own */
    bool           under_way;   /* it has a seat in the prefill step that has begun */
    bool           cancelled;   /* its request ends when the step does */
    uint64_t       reused;      /* tokens of its request that the prefix cache had */
    uint64_t       branch;      /* position at which a snapshot is due besides; 0: none */
    uint64_t       position;    /* tokens read */
    int32_t       *tokens;      /* what it reads next: [n_tokens], of which `next` are read */
    size_t         n_tokens, next, capacity;
    bool           has_last;    /* the token generated last is not read yet; then no other is */
    int32_t        last;
    ey_ending     *ending;      /* of the prompt, while nothing was read or generated after it; NULL: not kept */
    ey_ending     *ending_room; /* for the request's, made when it came */
    float          logprob;     /* of tokens[next], if known, else NaN */
    uint64_t       generated;
    double         since;       /* when its last token came, or its request */
    ey_utf8        utf8;
    ey_stop        stop;        /* the request's stop texts */
    char          *last_text;   /* room for the text of END: making it must not fail */
    char          *held;        /* [n_held] text that the last request held back (EYRIE_HOLD_TEXT) */
    size_t         n_held;
    ey_seen        seen;        /* tokens read and generated */
    eyrie_request  request;     /* without its tokens, end tokens and stop texts */
    int32_t       *ends;        /* [n_ends] its end tokens */
    size_t         n_ends, ends_capacity;
};

struct eyrie_engine {
    eyrie_model     *model;
    ey_model_limits  limits;    /* prefill's of the prefill lane's model, the others of the decode lane's */
    ey_lane          lanes[EY_PHASES];
    bool             apart;     /* they have models of their own and run at the same time; else they take turns */
    const ey_policy *policy;
    ey_costs        *costs;
    ey_shelf        *shelf;     /* states of prompts that were read; NULL: no prefix cache */
    uint64_t         spacing;   /* tokens between snapshots of a prompt, a multiple of */
    uint32_t         unit;      /* where prompts can be cut without a trace */
    double           interval;  /* asked for, in seconds; 0: the default */
    bool             interval_checked;
    bool             decoded;   /* the last step was a decode step */
    eyrie_seq      **seqs;      /* all open ones; those with a request in the order it came */
    size_t           n_seqs, capacity;
    bool            *slot_taken;    /* [slots] */
    ey_sched_seq    *views;     /* [n_seqs], and which sequence each is */
    uint32_t        *view_seq;
    size_t           views_capacity, view_seq_capacity;
    ey_sched_pick   *picks;
    int32_t         *targets;   /* [chunk] */
    float           *logits;    /* [vocab] */
    ey_candidate    *all;       /* [vocab], made when a sampler first wants a whole row */
    bool             stepping;  /* inside of eyrie_engine_step */
    uint64_t         requests;  /* so far */
    eyrie_stats      stats;
    ey_trace        *trace;     /* NULL: none */
};

/* ------------------------------------------------------------------------------------------------- sequences (seq.c) */

uint32_t     ey_free_slots(const eyrie_engine *e);
uint32_t     ey_take_slot(eyrie_engine *e);             /* EY_NO_SLOT: none is free */
void         ey_release_slot(eyrie_seq *s);
eyrie_status ey_need_slot(eyrie_seq *s, eyrie_error *err);
eyrie_status ey_seq_check_idle(const eyrie_seq *s, const char *what, eyrie_error *err);
eyrie_status ey_check_tokens(const int32_t *tokens, size_t n, uint32_t vocab, eyrie_error *err);
/* For what follows a state: NULL, no memory. Free with ey_free. */
size_t       ey_ending_bytes(const eyrie_engine *e);
ey_ending   *ey_ending_new(const eyrie_engine *e);
/* Its state to where the lane of that phase computes. */
eyrie_status ey_seq_bring(eyrie_seq *s, ey_phase to, eyrie_error *err);

/* -------------------------------------------------------------------------------------------- the prefix cache (reuse.c) */

/* All but the first do nothing where there is none. */
eyrie_status ey_reuse_open(eyrie_engine *e, const eyrie_engine_opts *opts, eyrie_error *err);
/* Tokens up to the next position at which a snapshot is due; 0: no bound. */
uint32_t     ey_reuse_most(const eyrie_seq *s);
/* Does a sequence that has no slot yet wait for another one, which reads what its prompt begins with? That one knows then where
 * to leave a snapshot, unless the step that passes there has begun. */
bool         ey_reuse_waits(eyrie_seq *s);
/* A sequence that has got its slot begins after what is kept of its prompt. If that is all of it, it has the logits that it
 * wants, and nothing to read. */
eyrie_status ey_reuse_begin(eyrie_seq *s, eyrie_error *err);
/* How much it reads of n tokens of a prompt that it was picked for. */
uint32_t     ey_reuse_part(const eyrie_seq *s, uint32_t n);
/* A prefill step has read for it; `last`, number `wanted` of its results, is what followed the prompt; NULL: that has not ended,
 * or nothing was wanted. */
void         ey_reuse_keep(eyrie_seq *s, const ey_result *last, uint32_t wanted);
void         ey_reuse_count(const eyrie_engine *e, eyrie_stats *stats);

/* ---------------------------------------------------------------------------------------------- delivering (deliver.c) */

/* Ends the request with what text is left. */
void         ey_finish(eyrie_seq *s, eyrie_end end, const eyrie_error *error);
/* What a step means for one of its rows. `first` is the number of its first result. */
eyrie_status ey_digest(eyrie_seq *s, const ey_row *row, ey_phase phase, const ey_result *results, uint32_t first,
                       uint32_t n_results, eyrie_error *err);
/* The first token after a prompt whose ending was kept. */
eyrie_status ey_generate_kept(eyrie_seq *s, eyrie_error *err);

/* --------------------------------------------------------------------------------------- what is traced (journal.c) */

/* All but the first do nothing where nothing is traced. */
eyrie_status ey_journal_open(eyrie_engine *e, const char *path, eyrie_error *err);
void         ey_journal_close(eyrie_engine *e);
void         ey_journal_begin(const eyrie_seq *s);      /* its request has come */
void         ey_journal_end(const eyrie_seq *s, eyrie_end how);
void         ey_journal_move(const eyrie_seq *s, ey_phase to, double start);    /* its state has been brought to a lane */
void         ey_journal_part(eyrie_engine *e, const ey_lane *l);    /* what was in flight there has ended */

#endif
