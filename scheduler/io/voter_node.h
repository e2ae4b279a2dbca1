#pragma once
#include <ev.h>
#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/core/voter.h"
#include "scheduler/io/settings.h"

/* A voter in a libev loop: the core of core/voter.h, its store node.mdb and its messages.
 *
 * What it has promised is on the disk before anybody hears of it. A voter without a store asks the
 * others and does not vote until a majority has told it what it may have forgotten; at the birth
 * of a cluster there is nobody to ask, so `birth` tells that nothing can have been forgotten. It is
 * taken only while there is no store. */
struct sched_voter_node;

struct sched_voter_node_cfg {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct sched_settings *settings;
    bool birth;
    void (*on_failed)(void *user, const char *why); /* the store failed: the process must end */
    void (*on_left)(void *user);                    /* after sched_voter_node_leave() */
    void *user;
};

int sched_voter_node_create(
    struct sched_voter_node **ret, const struct sched_voter_node_cfg *cfg, struct base_error *err);
void sched_voter_node_destroy(struct sched_voter_node *v); /* NULL is fine */

void sched_voter_node_leave(struct sched_voter_node *v);
int sched_voter_node_rekey(struct sched_voter_node *v, struct base_error *err);

/* For looking only. */
const struct sched_voter *sched_voter_node_core(const struct sched_voter_node *v);
struct sched_cluster *sched_voter_node_cluster(struct sched_voter_node *v);
const char *sched_voter_node_endpoint(const struct sched_voter_node *v);
