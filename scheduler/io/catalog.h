#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* The catalogue of a cluster as a node knows it: pools, quotas of tenants, keys of MCP endpoints,
 * agreed upon by the voters. A copy that does not change; entries are sorted by key.
 *
 *   pool/NAME         the pool's JSON, proto/pool/pool.h
 *   mcp-key/NAME      the key of its MCP endpoint, gateway/keys/mcp_key.h
 *   pools             that it has had pools: it decides then, also with none
 *   tenants           limits of every tenant, proto/pool/quota.h
 *   tenant/ID         limits of one, ID: 32 hex digits, proto/tenant.h */
struct sched_catalog;

struct sched_catalog_entry {
    const char *key;
    uint64_t version; /* of the catalogue when the entry was last changed */
    uint32_t pool;    /* number of the pool's name, see sched_key_pool() */
    uint32_t max, ready;
    const char *value; /* ends with a NUL that is not counted */
    size_t value_n;
};

/* Copies; entries sorted by key. The caller owns *ret. BASE_ENOMEM. */
int sched_catalog_make(struct sched_catalog **ret, uint64_t version,
    const struct sched_catalog_entry *entries, uint32_t n);
int sched_catalog_copy(struct sched_catalog **ret, const struct sched_catalog *from);
void sched_catalog_destroy(struct sched_catalog *c); /* NULL is fine */

/* As voters send it, without the document's own entry. BASE_EBADMSG: it is none. */
struct sched_cat_doc;
int sched_catalog_unpack(struct sched_catalog **ret, const struct sched_cat_doc *doc);

/* In a file, so that it is there after a restart: JSON, replaced in one step, synced. It is of the
 * cluster with this key. BASE_ENOTFOUND: there is no file. BASE_ESTATE: it is of another cluster.
 * BASE_EBADMSG, BASE_ENOMEM, -errno. */
int sched_catalog_save(
    const struct sched_catalog *c, const char *path, const uint8_t cluster_key[16]);
int sched_catalog_load(struct sched_catalog **ret, const char *path, const uint8_t cluster_key[16]);

uint64_t sched_catalog_version(const struct sched_catalog *c); /* 0: nothing was ever changed */
uint64_t sched_catalog_birth(const struct sched_catalog *c);   /* sched_cat_birth(); 0: not known */
uint32_t sched_catalog_n(const struct sched_catalog *c);
const struct sched_catalog_entry *sched_catalog_at(const struct sched_catalog *c, uint32_t i);

/* kind: "pool/"; NULL: there is none. name "" with the whole key as kind. */
const struct sched_catalog_entry *sched_catalog_find(
    const struct sched_catalog *c, const char *kind, const char *name);

/* The name behind the kind's prefix, or NULL when the entry is of another kind. */
const char *sched_catalog_name(const struct sched_catalog_entry *e, const char *kind);

/* Which pools there are says the catalogue: it has some, or has had some. */
bool sched_catalog_decides(const struct sched_catalog *c);

/* Any entry of the kind? */
bool sched_catalog_has(const struct sched_catalog *c, const char *kind);

/* What an administrator or a gateway wants to have under a key: is it well-formed? Fills in pool,
 * max and ready of a pool. *ret_warnings (may be NULL): text, one a line; the caller frees.
 * BASE_EINVAL with the path and the reason. */
int sched_catalog_check(struct sched_catalog_entry *e, const uint8_t cluster_key[16],
    char **ret_warnings, struct base_error *err);
