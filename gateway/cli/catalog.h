#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/cli/cluster.h"

/* The catalogue of a cluster: pools, quotas of tenants, keys of MCP endpoints, kept by the voters.
 * What is read is what one of them knows to be agreed upon, which may be older than what another
 * one knows for a moment. */

/* All entries, {"key","version","max","ready","bytes"} each. The caller owns *ret.
 * BASE_ECLOSED: no voter answers. BASE_EVERSION: those that answer do not know what is in it, and
 * have not found out within seconds: a majority is away. BASE_EDENIED: the cluster has none yet, as
 * nodes of an older release are in it; *err names them. */
int cli_catalog_list(const struct cli_cluster *c, json_t **ret, struct base_error *err);

/* One entry, {"key","version","max","ready","value"}. BASE_ENOTFOUND. */
int cli_catalog_get(
    const struct cli_cluster *c, const char *key, json_t **ret, struct base_error *err);

/* Reading failed for a reason that may pass by itself: nodes have just been started. */
bool cli_catalog_wait(int rc);

enum { CLI_CATALOG_ANY = -1 };

struct cli_catalog_change {
    const char *key;
    const char *value; /* NULL: the entry goes */
    json_int_t expect; /* version of the entry, 0: there is none, CLI_CATALOG_ANY */
    unsigned patience_s;
};

/* Asks one voter after another until one has it agreed upon; it is made once. *ret (may be NULL):
 * the answer, with "version" of the entry and "warnings". BASE_ESTATE: the entry has another
 * version, which *err tells. BASE_EINVAL: refused, *err says why. BASE_ENOTFOUND: nothing to
 * delete. BASE_EFULL. BASE_EDENIED: as above. BASE_ECLOSED: no majority of the voters in time; it
 * may be done yet. */
int cli_catalog_change(const struct cli_cluster *c, const struct cli_catalog_change *change,
    json_t **ret, struct base_error *err);

/* What a voter's answer to it means. BASE_EAGAIN: another voter may know better. */
int cli_catalog_judge(
    const json_t *answer, const struct cli_catalog_change *change, struct base_error *err);

/* Makes the entry's value this one, unless it is already. *ret_version: of the entry;
 * *ret_changed, *ret_answer (warnings; the caller's, may be NULL when nothing was asked). */
struct cli_catalog_put {
    json_int_t version;
    bool changed;
    json_t *answer;
};
int cli_catalog_put(const struct cli_cluster *c, const struct cli_catalog_change *what,
    struct cli_catalog_put *ret, struct base_error *err);
