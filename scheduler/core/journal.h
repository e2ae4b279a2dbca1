#pragma once
#include "scheduler/core/sess.h"

/* The journal of executions: an id is started at most once, and whoever asks again is told what
 * became of it. STARTED is stored before the bytes go to the guest.
 *
 * An answer NOTHERE promises that the id never ran and never will run under that epoch. It is given
 * only by the incarnation that held the session, which therefore has the journal; after a loss of
 * the journal the outcome is unknown. Entries stay keep_ms after their end, longer than any gateway
 * asks (the model said NOTHERE also after a reboot: the code could run twice under two ids). */

enum sched_run_state { SCHED_RUN_FREE, SCHED_RUN_STARTED, SCHED_RUN_ENDED };

struct sched_run {
    uint8_t state;   /* enum sched_run_state */
    uint8_t outcome; /* enum sched_outcome, when ENDED */
    uint32_t next;   /* of the free list */
    struct sched_exec exec;
    struct sched_key key;
    sched_epoch epoch;
    struct sched_asker asker; /* the latest who asked */
    uint64_t ended_ns;
};

struct sched_journal {
    struct sched_run *runs;
    struct sched_map by_exec;
    uint32_t free, scan;
};

void sched_journal_init(
    struct sched_journal *j, const struct sched_cfg *cfg, struct sched_mem *mem);
void sched_journal_clear(struct sched_journal *j, const struct sched_cfg *cfg);

/* EXEC from a gateway. row: the session of the key here, or NULL. */
void sched_journal_exec(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    const struct sched_msg *msg);

/* Starts an execution in a LIVE session, or joins it when it is known. False: the journal is full.
 */
bool sched_journal_start(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    struct sched_exec exec, struct sched_asker asker);

/* The guest reported the end of an execution (enum sched_outcome); row may be NULL. */
void sched_journal_done(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    const struct sched_fx_vm *vm, uint8_t outcome);

/* The session is destroyed: what was running has an unknown outcome. */
void sched_journal_down(struct sched_journal *j, struct sched_env *e,
    const struct sched_sess_row *row, const struct sched_fx_vm *vm);

void sched_journal_tick(struct sched_journal *j, struct sched_env *e);
void sched_journal_restore(
    struct sched_journal *j, struct sched_env *e, const struct sched_row *row);
