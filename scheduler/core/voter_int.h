#pragma once
#include "scheduler/core/voter.h"

/* Between voter.c (the register) and voter_lease.c (leases, and what the next view should be). */

enum { SCHED_VOTER_REPEATS_MAX = 5 }; /* patience with a rebuilding is doubled this often at most */

/* The entry of a node, made when there is room; NULL when not. */
struct sched_voter_peer *sched_voter_peer_add(struct sched_voter *v, uint64_t node);

void sched_voter_lease(struct sched_voter *v, const struct sched_msg *m);
void sched_voter_relinquish(struct sched_voter *v, const struct sched_msg *m);
void sched_voter_learn(struct sched_voter *v, const struct sched_view *view);

/* VACC carries the value that is proposed, the other types a ballot. */
void sched_voter_to_others(struct sched_voter *v, uint8_t type, uint64_t ballot);

/* Starts a proposal when membership should change. Forgets joins older than join_ns. */
void sched_voter_review(struct sched_voter *v, uint64_t join_ns);
void sched_voter_propose(struct sched_voter *v, const uint64_t *rec);

/* Does this peer ask to be admitted? */
bool sched_voter_joining(const struct sched_voter *v, const struct sched_voter_peer *p);

/* The version that the successor of the known view may have: `val` says who is in it. V1 */
uint8_t sched_voter_common(const struct sched_voter *v, const struct sched_view *val);

/* Does a member want another weight than the view gives it? */
bool sched_voter_reweigh(const struct sched_voter_peer *p, const struct sched_member *m);

/* R8. Has this member of the known view given its lease back? */
bool sched_voter_gave_back(const struct sched_voter *v, const struct sched_member *m);

/* Has this member of the known view settled it, except for the buckets in rec? */
bool sched_voter_settled(
    const struct sched_voter *v, const struct sched_member *m, const uint64_t *rec);
