/* checks.h - the checks of the self-test, by the file they are in. Each takes an op through one awkward shape on a
 * fresh rig, and leaves its verdict there. The breadth is in tests/test_<op>.c, which the tolerances come from; how a
 * kernel is used by layers is not seen here. */
#ifndef EY_CHECKS_H
#define EY_CHECKS_H

#include "rig.h"

typedef struct ey_job ey_job;
struct ey_job {
    const char   *op, *variant;         /* unless the check names the variant itself */
    void        (*run)(ey_rig *r, const ey_job *j);
    eyrie_format  format;               /* of weights or keys and values */
    ey_phase      phase;
    uint32_t      choice;               /* which of the op's ways, or a size: the check says */
};

/* elementwise.c */
void ey_check_embed(ey_rig *r, const ey_job *j);
void ey_check_fill(ey_rig *r, const ey_job *j);
void ey_check_copy(ey_rig *r, const ey_job *j);
void ey_check_norm(ey_rig *r, const ey_job *j);

/* products.c */
void ey_check_matmul(ey_rig *r, const ey_job *j);
void ey_check_gates(ey_rig *r, const ey_job *j);
void ey_check_geglu(ey_rig *r, const ey_job *j);

/* recurrence.c */
void ey_check_conv1d(ey_rig *r, const ey_job *j);
void ey_check_scan(ey_rig *r, const ey_job *j);
void ey_check_rglru(ey_rig *r, const ey_job *j);
void ey_check_fused(ey_rig *r, const ey_job *j);

/* attention.c */
void ey_check_rope(ey_rig *r, const ey_job *j);
void ey_check_attention(ey_rig *r, const ey_job *j);

/* head.c */
void ey_check_head(ey_rig *r, const ey_job *j);

#endif
