#pragma once
#include "scheduler/core/cat.h"
#include "scheduler/core/creg.h"

/* A voter's part in agreeing on the catalogue, which is one register of the voters (creg.h). What
 * this voter knows to be chosen it tells who asks for it.
 *
 * A change that was made and whose answer was lost is not made again when it is repeated, here or
 * at another voter, nor when another voter has made it by finishing what this one had begun: the
 * document remembers its last changes. */

enum { SCHED_CATREG_OPS_MAX = 4 };

struct sched_catreg_doc {
    uint64_t version;
    uint32_t n;
    uint8_t *bytes;
};

/* A change that was asked for. */
struct sched_catreg_op {
    uint64_t from, op;
    uint64_t until_ns; /* it is answered "later" from then on */
    bool in_val;       /* the value that is being proposed has it, or its refusal */
    uint8_t result;
    uint64_t version;
    struct sched_cat_change change; /* points into key and value */
    char key[SCHED_CAT_KEY_MAX];
    uint8_t *value;
};

struct sched_catreg {
    struct sched_creg vote;
    struct sched_catreg_doc acc, val, known; /* known: the newest that was certainly chosen */
    uint8_t *next;                           /* room for a changed document */
    bool unsure;                             /* what was accepted here may not have been chosen */
    uint64_t sure_ns;
    uint32_t n_ops;
    struct sched_catreg_op ops[SCHED_CATREG_OPS_MAX];
};

void sched_catreg_init(struct sched_catreg *k, struct sched_mem *mem);

/* The stored row; NULL: there is none. fresh: nor can there have been one. What was lost is asked
 * for from quiet_ns on, when no proposal of before is under way any more. */
void sched_catreg_restore(struct sched_catreg *k, const struct sched_row *row, bool fresh,
    uint64_t quiet_ns, uint64_t nonce);

/* CSET and CGET from anybody who may, the others from voters. */
void sched_catreg_msg(
    struct sched_catreg *k, const struct sched_creg_env *e, const struct sched_msg *m);
void sched_catreg_tick(struct sched_catreg *k, const struct sched_creg_env *e);
uint64_t sched_catreg_due_ns(const struct sched_catreg *k);
