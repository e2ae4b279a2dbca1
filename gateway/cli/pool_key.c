#include "gateway/cli/pool_key.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/catalog.h"
#include "gateway/cli/file.h"
#include "gateway/cli/pools.h"
#include "gateway/keys/mcp_keys.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "proto/net/cluster_key.h"

enum { PATIENCE_S = 15, TRIES = 5 };

static const char here[] = "cluster/cluster.key", alone[] = "keys/cluster.key";

static int64_t now_s(void)
{
    return (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
}

static int cluster_key(
    const struct cli *cli, const char *file, uint8_t ret[16], struct base_error *err)
{
    char path[CLI_PATH_MAX];
    int rc = cli_file_path(path, cli->state_dir, file, err);
    return rc != 0 ? rc : proto_net_cluster_key_read(path, ret, err);
}

static int seal_of(
    const struct cli *cli, const char *file, struct gw_mcp_seal *ret, struct base_error *err)
{
    uint8_t key[16];
    int rc = cluster_key(cli, file, key, err);
    if (rc == 0 && gw_mcp_seal_of(ret, key) != 0) {
        rc = base_fail(err, BASE_ENOMEM, "out of memory");
    }
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

/* Without a cluster. */
static int fetch_file(
    const struct cli *cli, bool rotate, char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    uint8_t cluster[16];
    char folder[CLI_PATH_MAX];
    struct gw_mcp_keys *keys = NULL;
    int rc = cluster_key(cli, alone, cluster, err);
    rc = rc != 0 ? rc : cli_file_path(folder, cli->state_dir, "mcp", err);
    rc = rc != 0 ? rc : gw_mcp_keys_create(&keys, folder, cluster, err);
    rc = rc != 0 ? rc : gw_mcp_keys_fetch(keys, cli->pool, rotate, now_s(), ret, err);
    gw_mcp_keys_destroy(keys);
    OPENSSL_cleanse(cluster, sizeof cluster);
    return rc;
}

/* ---- the folder of before ---- */

/* NULL: it has none. */
static char *text_before(const struct cli *cli, const char *pool)
{
    char name[CLI_POOL_KEY_MAX + 8], path[CLI_PATH_MAX], *text = NULL;
    struct base_error err;
    size_t n;
    (void)snprintf(name, sizeof name, "mcp/%s.mcp-key", pool);
    return cli_file_path(path, cli->state_dir, name, &err) == 0 &&
                   cli_file_read(path, GW_MCP_KEY_TEXT_MAX, &text, &n, &err) == 0
               ? text
               : NULL;
}

/* The key of before as the gateways of the cluster can open it: sealed anew where it was made by a
 * gateway without a cluster. */
static int take_before(const struct cli *cli, const char *pool, struct gw_mcp_text before,
    struct gw_mcp_made *ret, struct base_error *err)
{
    struct gw_mcp_seal ours, old;
    int rc = seal_of(cli, here, &ours, err);
    if (rc == 0 && gw_mcp_key_open(&ours, pool, before, ret->key) == 0) {
        memcpy(ret->text, before.text, before.n);
        ret->text[before.n] = '\0';
    } else if (rc == 0) {
        rc = seal_of(cli, alone, &old, err);
        rc = rc != 0 ? rc : gw_mcp_key_reseal(&old, &ours, pool, before, ret);
        rc = rc == 0
                 ? 0
                 : base_fail(err, rc,
                       "the key of pool '%s' in %s/mcp cannot be opened: with --rotate there is "
                       "a new one, and it is accepted for %d minutes more",
                       pool, cli->state_dir, GW_MCP_KEY_OLD_S / 60);
        OPENSSL_cleanse(&old, sizeof old);
    }
    OPENSSL_cleanse(&ours, sizeof ours);
    return rc;
}

/* ---- the catalogue ---- */

static int has_pool(const struct cli_cluster *c, const char *pool, struct base_error *err)
{
    char key[CLI_POOL_KEY_MAX];
    json_t *entry = NULL;
    struct base_error why = {0};
    (void)snprintf(key, sizeof key, "pool/%s", pool);
    int rc = cli_catalog_get(c, key, &entry, &why);
    json_decref(entry);
    return rc == BASE_ENOTFOUND ? base_fail(err, rc, "there is no pool '%s' in the catalogue", pool)
           : rc != 0            ? base_fail(err, rc, "%s", why.text)
                                : 0;
}

/* Whether it is this now; BASE_ETIMEOUT: nobody can tell. */
static int is_there(const struct cli_cluster *c, const char *key, const char *value, bool *ret,
    struct base_error *err)
{
    json_t *entry = NULL;
    struct base_error why = {0};
    int rc = cli_catalog_get(c, key, &entry, &why);
    const char *has = json_string_value(json_object_get(entry, "value"));
    *ret = has != NULL && strcmp(has, value) == 0;
    json_decref(entry);
    return rc == 0 || rc == BASE_ENOTFOUND
               ? 0
               : base_fail(err, BASE_ETIMEOUT, "a key may have been made, or not: fetch it (%s)",
                     why.text);
}

/* BASE_ESTATE: somebody was faster. */
static int put(
    const struct cli_cluster *c, const struct cli_catalog_change *change, struct base_error *err)
{
    struct base_error why = {0};
    bool ours = false;
    int rc = cli_catalog_change(c, change, NULL, &why);
    if (rc != BASE_ESTATE && rc != BASE_ECLOSED) {
        return rc == 0 ? 0 : base_fail(err, rc, "%s", why.text);
    }
    int look = is_there(c, change->key, change->value, &ours, err); /* an answer was lost */
    return look != 0 ? look : ours ? 0 : base_fail(err, rc, "%s", why.text);
}

struct having {
    struct gw_mcp_text text; /* of the catalogue */
    bool used;               /* the catalogue has had a pool: the folder does not count */
    bool rotate;
};

static int make(const struct cli *cli, const char *pool, const struct having *have,
    struct gw_mcp_made *ret, struct base_error *err)
{
    CLEANUP(base_freep)
    char *file = have->text.text == NULL && !have->used ? text_before(cli, pool) : NULL;
    struct gw_mcp_text text = file == NULL ? have->text : (struct gw_mcp_text){file, strlen(file)};
    struct gw_mcp_seal seal;
    if (file != NULL && !have->rotate) {
        return take_before(cli, pool, text, ret, err);
    }
    int rc = seal_of(cli, here, &seal, err);
    if (rc == 0 && gw_mcp_key_make(&seal, pool, text, now_s(), ret) != 0) {
        rc = base_fail(err, BASE_ENOMEM, "make a key");
    }
    OPENSSL_cleanse(&seal, sizeof seal);
    return rc;
}

static int open_entry(const struct cli *cli, struct gw_mcp_text text,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    struct gw_mcp_seal seal;
    int rc = seal_of(cli, here, &seal, err);
    if (rc == 0 && gw_mcp_key_open(&seal, cli->pool, text, ret) != 0) {
        rc = base_fail(err, BASE_ECORRUPT,
            "the key of pool '%s' cannot be opened: was the cluster key changed? Rotate it",
            cli->pool);
    }
    OPENSSL_cleanse(&seal, sizeof seal);
    return rc;
}

/* Once; BASE_ESTATE: somebody was faster. */
static int try_catalog(const struct cli *cli, const struct cli_cluster *c, bool rotate,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    struct having have = {.rotate = rotate};
    struct gw_mcp_made made = {.key = ""};
    char name[CLI_POOL_KEY_MAX];
    json_t *entry = NULL;
    (void)snprintf(name, sizeof name, "mcp-key/%s", cli->pool);
    int rc = cli_pool_any(c, PATIENCE_S, &have.used, err);
    rc = rc != 0 || !have.used ? rc : has_pool(c, cli->pool, err);
    if (rc != 0) {
        return rc;
    }
    struct base_error why = {0};
    rc = cli_catalog_get(c, name, &entry, &why);
    if (rc != 0 && rc != BASE_ENOTFOUND) {
        return base_fail(err, rc, "%s", why.text);
    }
    const char *value = json_string_value(json_object_get(entry, "value"));
    have.text = (struct gw_mcp_text){value, value == NULL ? 0 : strlen(value)};
    if (value != NULL && !rotate) {
        rc = open_entry(cli, have.text, ret, err);
    } else {
        const struct cli_catalog_change change = {.key = name,
            .value = made.text,
            .expect = json_integer_value(json_object_get(entry, "version")),
            .patience_s = PATIENCE_S};
        rc = make(cli, cli->pool, &have, &made, err);
        rc = rc != 0 ? rc : put(c, &change, err);
        (void)base_text_copy(ret, GW_MCP_KEY_CHARS + 1, made.key);
    }
    json_decref(entry);
    OPENSSL_cleanse(&made, sizeof made);
    return rc;
}

int cli_pool_key(const struct cli *cli, const struct cli_cluster *c, bool rotate,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    int rc = BASE_ESTATE;
    for (int i = 0; rc == BASE_ESTATE && i < TRIES; i++) {
        rc = c == NULL ? fetch_file(cli, rotate, ret, err) : try_catalog(cli, c, rotate, ret, err);
    }
    return rc;
}

int cli_pool_key_move(
    const struct cli *cli, const struct cli_cluster *c, const char *pool, struct base_error *err)
{
    CLEANUP(base_freep) char *file = text_before(cli, pool);
    struct gw_mcp_made made = {.key = ""};
    struct base_error why = {0};
    char name[CLI_POOL_KEY_MAX];
    bool used = false;
    int rc = file == NULL ? 0 : cli_pool_any(c, PATIENCE_S, &used, err);
    if (rc != 0 || file == NULL || used) {
        return rc;
    }
    struct gw_mcp_text text = {file, strlen(file)};
    if (take_before(cli, pool, text, &made, &why) != 0) {
        cli_note(cli, "%s", why.text);
        return 0;
    }
    (void)snprintf(name, sizeof name, "mcp-key/%s", pool);
    const struct cli_catalog_change change = {
        .key = name, .value = made.text, .expect = 0, .patience_s = PATIENCE_S};
    rc = put(c, &change, err);
    OPENSSL_cleanse(&made, sizeof made);
    return rc == BASE_ESTATE ? 0 : rc; /* there is one */
}
