#pragma once
#include "scheduler/core/env.h"

/* The holder's side of a lease. A worker asks every voter each renew_ms; a grant counts from the
 * moment its request was sent; the lease is held while a majority of grants run. The result is the
 * lease page: microVMs run only before freeze_at and are destroyed at kill_at, by supervisors that
 * need nothing but the page and the clock. */

enum { SCHED_LEASE_SENT = 16 }; /* requests whose send time is remembered */

struct sched_lease {
    uint64_t seq; /* starts from the run number: a grant of an earlier run must not match */
    uint64_t sent_ns[SCHED_LEASE_SENT];
    uint64_t until_ns[SCHED_VOTERS_MAX];
    uint64_t renew_at_ns;
};

/* run: number of this process's start, never used before by this node. */
void sched_lease_init(struct sched_lease *l, uint32_t run);

/* Sends the next round of requests when it is due; `m` is the filled-in request, seq excepted. */
bool sched_lease_due(const struct sched_lease *l, const struct sched_env *e);
void sched_lease_ask(
    struct sched_lease *l, const struct sched_env *e, const struct sched_m_lease *m);

/* A grant from `voter`; old, foreign and repeated ones change nothing (then false). Updates
 * e->lease_ns and the page. */
bool sched_lease_grant(
    struct sched_lease *l, struct sched_env *e, uint64_t voter, const struct sched_m_grant *m);

/* Writes the page from what is held now: after a grant, or a view. A member to which no majority
 * has granted anything in this process leaves it as the process before wrote it. */
void sched_lease_page(const struct sched_lease *l, struct sched_env *e);
