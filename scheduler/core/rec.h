#pragma once
#include "scheduler/core/view.h"

/* The value of an identifier's register: where its session runs.
 *
 * A session comes to life only by BIND(epoch, resv), and a reservation is used once. Therefore
 * nothing must be remembered about dead sessions to keep a late BIND from reviving them; only
 * reservations that are outstanding count. (The first model kept the highest epoch of every
 * identifier for ever.)
 *
 * inline_id: the execution that travelled with the claim that found this register empty. It stays
 * while the register is not empty, so that a gateway which hedged its request to two coordinators
 * can tell whether its execution may have been started along the way. */

enum sched_rec_state {
    SCHED_REC_NONE = 0, /* no session, and none since the register was last forgotten */
    SCHED_REC_LIVE = 1,
    SCHED_REC_ENDED = 2, /* the session `epoch` is gone for ever */
};

struct sched_rec {
    sched_epoch epoch; /* NONE: what was forgotten here had no higher one; 0: nothing was */
    struct sched_host host;
    uint32_t view; /* number of a view in which the host was a member: that of the claim */
    uint64_t resv;
    struct sched_exec inline_id;
    sched_epoch inline_epoch;
    uint32_t cooldown_ms;
    uint8_t state; /* enum sched_rec_state */
    /* As far as is remembered here, of earlier sessions and what may have run in them: */
    bool moved; /* at another host or life: this host's journal does not know it */
    bool ran;   /* at this host, in this life */
    bool idle;  /* this session is over, and its host says that nothing has run in it */
};

/* Is the host of this record certainly dead, for ever? A view that is older than the record cannot
 * tell: the host may be a newcomer that it does not know. (Partitions whose group does not change
 * go on over views, so coordinators with different views do meet in one register.) */
static inline bool sched_rec_dead(const struct sched_rec *r, const struct sched_view *v)
{
    return v->num >= r->view && !sched_view_has(v, r->host);
}
