#pragma once
#include "scheduler/core/env.h"

/* The registers this worker keeps as a member of partitions' groups: a CASPaxos acceptor per
 * identifier. What was promised or accepted is stored before the answer leaves.
 *
 * A ballot belongs to one era of its partition; an acceptor takes part only in the era that its
 * installed view gives the partition, and only once it has settled it. So installing a view seals
 * every partition whose group it changes: no ballot of the old era can win any more. */

enum { SCHED_REG_NONE = 0xffffffff };

struct sched_reg_row {
    struct sched_key key;
    sched_epoch promised, accepted;
    struct sched_rec rec;
    uint64_t due_ns; /* LIVE: ask the host whether it is gone. Else: forget the row */
    uint32_t part;
    uint32_t next; /* in the partition's list, in order of keys */
    bool used;
    bool bound; /* this worker saw the host run rec.epoch: a route may be told without a claim */
};

struct sched_reg {
    struct sched_part *parts;
    uint32_t *heads; /* first row of each partition */
    struct sched_reg_row *rows;
    struct sched_map by_key;
    uint32_t free; /* list through next */
    uint32_t n;    /* rows in use */
    uint32_t scan; /* where the next look for due rows starts */
};

void sched_reg_init(struct sched_reg *r, const struct sched_cfg *cfg, struct sched_mem *mem);
void sched_reg_clear(struct sched_reg *r, const struct sched_cfg *cfg);

struct sched_reg_row *sched_reg_find(const struct sched_reg *r, struct sched_key key);

/* Does this worker vote on the partition now? */
bool sched_reg_ready(const struct sched_reg *r, uint32_t part);

enum sched_reg_answer { SCHED_REG_OK, SCHED_REG_REFUSED, SCHED_REG_SILENT };

/* Phase 1 and 2. *ret: OK: the ballot, and for phase 1 what was accepted. REFUSED: the ballot that
 * was promised. SILENT (wrong era, not settled, full): no answer is sent. */
enum sched_reg_answer sched_reg_promise(struct sched_reg *r, struct sched_env *e,
    struct sched_key key, sched_epoch ballot, struct sched_m_prom *ret);
enum sched_reg_answer sched_reg_accept(struct sched_reg *r, struct sched_env *e,
    const struct sched_m_acc *m, struct sched_m_prom *ret);

/* The round a new ballot of this worker must at least have; 0 only for the one-round claim: seat 0,
 * first touch of the key in this era. */
uint32_t sched_reg_next_round(
    const struct sched_reg *r, struct sched_key key, uint32_t part, int seat);

/* Hand-over. merge keeps what has the higher ballot; false when the table is full. */
bool sched_reg_merge(struct sched_reg *r, struct sched_env *e, const struct sched_sync_rec *s);
uint32_t sched_reg_list(const struct sched_reg *r, uint32_t part, const struct sched_key *after,
    struct sched_sync_rec *out, uint32_t max);
void sched_reg_drop_part(struct sched_reg *r, uint32_t part);

/* Drops the row for good; its rounds stay spent. */
void sched_reg_forget(struct sched_reg *r, struct sched_env *e, struct sched_reg_row *row);

void sched_reg_store_parts(
    const struct sched_reg *r, struct sched_env *e, uint32_t first, uint32_t n);

/* Loads a stored row after a restart. */
void sched_reg_restore(struct sched_reg *r, struct sched_env *e, const struct sched_row *s);
