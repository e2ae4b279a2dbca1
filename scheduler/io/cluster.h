#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/core/msg.h"
#include "scheduler/io/gossip_node.h"
#include "scheduler/io/mesh.h"
#include "scheduler/io/settings.h"

/* One node among the others: gossip, mesh, and the messages of the cores between them. What every
 * kind of node shares; what a message means is the owner's business. */
struct sched_cluster;

struct sched_cluster_ops {
    /* from is authenticated and may send this type. Valid during the call, views too. */
    void (*on_message)(void *user, const struct sched_msg *m);
    /* Gossip suspects a node, or has buried it, or takes it back. May be NULL. */
    void (*on_suspect)(void *user, uint64_t id, bool suspected);
    /* A question of an administrator, who is node `from`; the answer is JSON. Nothing in it: the
     * answer comes later, by sched_cluster_answer(). May be NULL. */
    void (*on_admin)(void *user, uint64_t from, const char *question, struct base_buf *ret_json);
    /* The gossip incarnation has risen and is worth remembering. May be NULL. */
    void (*on_incarnation)(void *user, uint32_t inc);
    /* Leaving is done. May be NULL. */
    void (*on_left)(void *user);
};

struct sched_cluster_cfg {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct sched_settings *settings; /* outlives the cluster */
    enum sched_role role;
    uint32_t gossip_inc;          /* larger than any before, or 1 */
    uint16_t ctl_port, bulk_port; /* of a worker: where gateways reach it; 0: not told */
    const struct sched_cluster_ops *ops;
    void *user;
};

/* Binds, starts to gossip, joins by the seeds. */
int sched_cluster_create(
    struct sched_cluster **ret, const struct sched_cluster_cfg *cfg, struct base_error *err);
void sched_cluster_destroy(struct sched_cluster *c); /* NULL is fine */

uint64_t sched_cluster_self(const struct sched_cluster *c);

/* The version of the messages in this node's view; until there is one, the lowest is spoken. */
void sched_cluster_set_version(struct sched_cluster *c, uint8_t version);
uint8_t sched_cluster_version(const struct sched_cluster *c);

/* Sends to m->to. What a node says to itself comes back as a message in this turn of the loop,
 * after the caller has returned; all else may be lost. */
void sched_cluster_send(struct sched_cluster *c, const struct sched_msg *m);

/* To every node that is known and can be reached, but not to itself. */
void sched_cluster_push(struct sched_cluster *c, const struct sched_msg *m);

/* Of on_admin(). It goes to the connection that the administrator has asked over last; he asks
 * again when he has another one. */
void sched_cluster_answer(struct sched_cluster *c, uint64_t to, const struct base_buf *json);

/* What gossip tells about this node. */
void sched_cluster_dynamic(struct sched_cluster *c, const struct sched_dynamic *d);

/* Says goodbye by gossip; on_left follows within a second or so. */
void sched_cluster_leave(struct sched_cluster *c);

/* Takes the key ring of the gossip again from its file. */
int sched_cluster_rekey(struct sched_cluster *c, struct base_error *err);

/* {"mesh":...,"gossip":[...]} without the braces, for on_admin. */
int sched_cluster_describe(const struct sched_cluster *c, struct base_buf *to);

/* The name of a node, or its number in hexadecimal; valid until the next call. */
const char *sched_cluster_name(const struct sched_cluster *c, uint64_t id);

struct sched_cluster_stats {
    uint64_t not_allowed; /* messages that their sender may not send */
    uint64_t malformed;
    struct sched_mesh_stats mesh;
};

void sched_cluster_stats(const struct sched_cluster *c, struct sched_cluster_stats *ret);
const struct sched_roster *sched_cluster_roster(const struct sched_cluster *c);

/* "tcp://10.0.0.1:7401" for one of the ports that a node announces; false: it does not. */
enum { SCHED_CLUSTER_ENDPOINT_MAX = 80 };
bool sched_cluster_reach(
    const struct sched_announce *a, uint16_t port, char ret[SCHED_CLUSTER_ENDPOINT_MAX]);

const struct sched_swim *sched_cluster_swim(const struct sched_cluster *c);
const char *sched_cluster_endpoint(const struct sched_cluster *c);
