#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "gateway/cli/cluster.h"
#include "proto/limits.h"

/* Pools in the catalogue of a cluster. */

enum { CLI_POOL_KEY_MAX = PROTO_POOL_NAME_MAX + 16 };

struct cli_pool_applied {
    char name[PROTO_POOL_NAME_MAX + 1];
    json_int_t version; /* of the entry */
    bool changed;
    char *warnings; /* the caller frees; "" for none */
};

/* The file's pool goes into the catalogue, in place of the one of its name, or only if there is
 * none of its name. BASE_EINVAL: what is wrong in the file; else as cli_catalog_change(). */
enum cli_pool_how { CLI_POOL_PUT, CLI_POOL_ADD };
int cli_pool_apply(const struct cli_cluster *c, const char *path, enum cli_pool_how how,
    unsigned patience_s, struct cli_pool_applied *ret, struct base_error *err);

/* All of the files can be applied: they are read, and while the catalogue has never had a pool,
 * those that workers have by files are among them, for they would be deleted. *ret_names: an
 * object that has the names of the pools (not of one on standard input). BASE_EINVAL. BASE_ESTATE:
 * workers do not answer, so their pools are not known; *err names them. */
struct cli_pool_files {
    const char *const *paths;
    size_t n;
    bool ignore_silent; /* workers that do not answer */
};
int cli_pool_check(const struct cli_cluster *c, const struct cli_pool_files *files,
    unsigned patience_s, json_t **ret_names, struct base_error *err);

/* Whether the catalogue has any pool, or has had one. BASE_ECLOSED, BASE_EVERSION: that cannot be
 * known now. */
int cli_pool_any(
    const struct cli_cluster *c, unsigned patience_s, bool *ret, struct base_error *err);

/* An array of the names of the catalogue's pools; the caller owns *ret. */
int cli_pool_names(const struct cli_cluster *c, json_t **ret, struct base_error *err);

/* Waits until no worker has anything of the pool any more, patience_s at the longest. *ret: an
 * array of the workers that have, or have not answered; the caller owns it. BASE_ENOMEM. */
int cli_pool_wait_gone(const struct cli_cluster *c, const char *name, unsigned patience_s,
    json_t **ret, struct base_error *err);

/* An array of {"name","containerType","version","maxConcurrentSessions","readySessionInstances",
 * "ready","sessions","workers":[{"worker","ready","target","sessions"}]}; what workers say is as
 * complete as they answer. The caller owns *ret. */
int cli_pool_list(const struct cli_cluster *c, json_t **ret, struct base_error *err);
