#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/net/curve.h"

/* Who belongs to the cluster: the allow-list of proto/net/curve.h, one line per key with role and
 * name. A node is known by its name: its number follows from it, so that a key can be replaced
 * without the node becoming another one. While a key is replaced a name has two lines.
 *
 * Names are unique over all roles. Roles that may speak between nodes are those of enum below;
 * lines with other roles are none of our business. */
enum sched_role {
    SCHED_ROSTER_NONE,
    SCHED_ROSTER_WORKER,
    SCHED_ROSTER_GATEWAY,
    SCHED_ROSTER_VOTER,
    SCHED_ROSTER_ADMIN, /* asks for the state, has no part in anything */
};

/* The word in the file, and back; SCHED_ROSTER_NONE for any other word. */
const char *sched_role_str(enum sched_role role);
enum sched_role sched_role_parse(const char *word);

/* The number of a node, never 0. */
uint64_t sched_node_id(const char *name);

/* What ZeroMQ says about the sender of a message, "role/name". SCHED_ROSTER_NONE: not one of the
 * roles above. */
enum sched_role sched_role_of_user(const char *user, uint64_t *ret_id);

/* 1 to 32 of a-z, 0-9, '-' and '_'. */
bool sched_node_name_valid(const char *name);

struct sched_roster;

/* Reads the file. -errno, BASE_EBADMSG (a line is wrong), BASE_EEXISTS (two names with one number,
 * or one name with two roles). */
int sched_roster_load(struct sched_roster **ret, const char *path, struct base_error *err);
void sched_roster_destroy(struct sched_roster *r); /* NULL is fine */

/* Takes the file again when it is another one. 1: it was taken; 0: it is the same; the errors of
 * load() and BASE_EDENIED (see require), once for each file: what there was stays. */
int sched_roster_refresh(struct sched_roster *r, struct base_error *err);

enum { SCHED_ROSTER_REQUIRED_MAX = 8 };

/* From now on a file is taken only when these nodes have the roles in it that they have now: half a
 * list is none. n is at most SCHED_ROSTER_REQUIRED_MAX. */
void sched_roster_require(struct sched_roster *r, const uint64_t *ids, unsigned n);

/* The n-th key of a node, NULL when there are no more. Valid until the next refresh. */
const struct proto_net_client *sched_roster_key(
    const struct sched_roster *r, uint64_t id, unsigned n);

/* Whether the node has this public key (z85). */
bool sched_roster_lists(const struct sched_roster *r, uint64_t id, const char *key);

/* The role and the name of a node; SCHED_ROSTER_NONE and NULL: it is not listed. */
enum sched_role sched_roster_role(const struct sched_roster *r, uint64_t id);
const char *sched_roster_name(const struct sched_roster *r, uint64_t id);
