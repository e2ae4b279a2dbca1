#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/mcp.h"
#include "gateway/keys/mcp_keys.h"
#include "proto/base/clock.h"
#include "scheduler/io/catalog.h"
#include "scheduler/io/catalog_client.h"

/* Keys of MCP endpoints: in the catalogue of a cluster, else in a folder; and the two actions that
 * hand them out. */

enum { KEY_TRIES = 5 };

/* The pool's key in the catalogue of the cluster; text NULL: there is none. */
static struct gw_mcp_text key_text(const struct gw_task *t, uint64_t *ret_version)
{
    const struct sched_catalog *c = gw_calls_catalog(gw_api_calls(t->api));
    const struct sched_catalog_entry *e =
        c == NULL ? NULL : sched_catalog_find(c, "mcp-key/", t->route.pool);
    *ret_version = e == NULL ? 0 : e->version;
    return (struct gw_mcp_text){e == NULL ? NULL : e->value, e == NULL ? 0 : e->value_n};
}

/* The folder, as long as the catalogue has never had a pool: afterwards a key that is not in the
 * catalogue has been revoked with its pool. NULL: it does not count. */
static struct gw_mcp_keys *folder_of(const struct gw_task *t)
{
    const struct sched_catalog *c = gw_calls_catalog(gw_api_calls(t->api));
    return c != NULL && sched_catalog_decides(c) ? NULL : gw_api_opt(t->api)->mcp_keys;
}

enum gw_mcp_taking gw_mcp_takes_key(const struct gw_task *t, const char *key, int64_t now_s)
{
    uint64_t version;
    struct gw_calls *calls = gw_api_calls(t->api);
    struct gw_mcp_keys *keys = folder_of(t);
    struct gw_mcp_text text = key_text(t, &version);
    bool good = text.text != NULL || keys == NULL
                    ? gw_mcp_key_check(text, key, now_s)
                    : gw_mcp_keys_check(keys, t->route.pool, key, now_s);
    bool heard = gw_calls_catalog(calls) != NULL || gw_calls_catalog_empty(calls) ||
                 !gw_calls_catalog_may(calls);
    return good ? GW_MCP_TAKEN : heard ? GW_MCP_REFUSED : GW_MCP_LATER;
}

static void give(struct gw_task *t, const char *key)
{
    struct base_buf b = {0};
    gw_fields_text(&t->fields, "cache-control", "no-store");
    if (base_buf_printf(&b, "{\"apiKey\":\"%s\"}", key) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &b);
    }
    base_buf_deinit(&b);
}

static void no_key(struct gw_task *t, const char *why)
{
    struct gw_fault f;
    LOG_ERROR(gw_api_opt(t->api)->log, "mcp key of pool %s: %s", t->route.pool, why);
    GW_FAULT(&f, 500, "InternalServerError", "The key cannot be read or written.");
    gw_task_fail(t, &f);
}

/* Without a cluster: from the folder. */
static void hand_out_file(struct gw_task *t, struct gw_mcp_keys *keys, bool rotate)
{
    struct base_error err = {0};
    char key[GW_MCP_KEY_CHARS + 1];
    int64_t now_s = (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
    if (gw_mcp_keys_fetch(keys, t->route.pool, rotate, now_s, key, &err) < 0) {
        no_key(t, err.text);
    } else {
        give(t, key);
    }
    OPENSSL_cleanse(key, sizeof key);
}

/* A key that is on its way into the catalogue. */
struct handing {
    struct gw_task *t;
    struct gw_mcp_seal seal;
    struct gw_mcp_made made;
    bool rotate;
    bool blind;   /* the folder's key was put before the catalogue was heard */
    bool replace; /* it must not count: another one, at once */
    unsigned tries;
};

static void hand_out_catalog(struct handing *h);

static void on_put(void *ctx, int rc)
{
    struct handing *h = ctx;
    struct gw_fault f;
    uint64_t version;
    struct gw_mcp_text text = key_text(h->t, &version);
    bool ours = text.text != NULL && text.n == strlen(h->made.text) &&
                memcmp(text.text, h->made.text, text.n) == 0; /* an answer was lost */
    bool done = rc == 0 || (rc == BASE_ESTATE && ours);
    if (done && h->blind && folder_of(h->t) == NULL) {
        h->blind = false;
        h->replace = true;
        hand_out_catalog(h);
    } else if (done) {
        give(h->t, h->made.key);
    } else if (rc == BASE_ETIMEOUT) {
        GW_FAULT(&f, 504, "Timeout", "A key may have been made, or not: fetch it.");
        gw_task_fail(h->t, &f);
    } else if (rc == BASE_ESTATE && ++h->tries < KEY_TRIES) {
        h->replace = false;
        hand_out_catalog(h); /* somebody was faster: what there is now */
    } else {
        LOG_ERROR(gw_api_opt(h->t->api)->log, "mcp key of pool %s: %s", h->t->route.pool,
            base_err_str(rc));
        GW_FAULT(&f, 503, "ServiceUnavailable", "The key cannot be kept now, try again.");
        f.retry_after_s = 1;
        gw_task_fail(h->t, &f);
    }
}

/* The key that is to be in the catalogue. One of before, in the folder, moves there; and it is the
 * old one when another one is wanted. */
static int make(struct handing *h, struct gw_mcp_text text)
{
    const char *pool = h->t->route.pool;
    struct gw_mcp_keys *keys = folder_of(h->t);
    bool moves = text.text == NULL && keys != NULL;
    text = moves ? gw_mcp_keys_text(keys, pool) : text;
    h->blind = moves && text.text != NULL && gw_calls_catalog(gw_api_calls(h->t->api)) == NULL;
    text = h->replace ? (struct gw_mcp_text){0} : text;
    if (moves && !h->rotate && gw_mcp_key_open(&h->seal, pool, text, h->made.key) == 0) {
        memcpy(h->made.text, text.text, text.n);
        h->made.text[text.n] = '\0';
        return 0;
    }
    int64_t now_s = (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
    return gw_mcp_key_make(&h->seal, pool, text, now_s, &h->made);
}

static void hand_out_catalog(struct handing *h)
{
    struct gw_task *t = h->t;
    char key[GW_MCP_KEY_CHARS + 1], name[PROTO_POOL_NAME_MAX + 16];
    uint64_t version;
    struct gw_mcp_text text = key_text(t, &version);
    if (text.text != NULL && !h->rotate && !h->replace) {
        if (gw_mcp_key_open(&h->seal, t->route.pool, text, key) != 0) {
            no_key(t, "it cannot be opened: was the cluster key changed? Rotate it");
        } else {
            give(t, key);
        }
        OPENSSL_cleanse(key, sizeof key);
        return;
    }
    (void)snprintf(name, sizeof name, "mcp-key/%s", t->route.pool);
    struct sched_catalog_put put = {
        .key = name, .value = h->made.text, .expect = version, .done = on_put, .ctx = h};
    int rc = make(h, text);
    rc = rc != 0 ? rc : gw_calls_catalog_put(gw_api_calls(t->api), &put);
    if (rc != 0) {
        no_key(t, base_err_str(rc));
    }
}

static void hand_out(struct gw_task *t, bool rotate)
{
    struct gw_calls *calls = gw_api_calls(t->api);
    struct gw_mcp_keys *keys = gw_api_opt(t->api)->mcp_keys;
    bool cluster = gw_calls_catalog_may(calls);
    if (!t->pool_mcp || (keys == NULL && !cluster)) {
        gw_mcp_not_enabled(t, 400);
        return;
    }
    if (!cluster) {
        hand_out_file(t, keys, rotate);
        return;
    }
    struct handing *h = calloc(1, sizeof *h);
    if (h == NULL || gw_mcp_seal_of(&h->seal, gw_api_opt(t->api)->cluster_key) != 0) {
        free(h);
        gw_task_out_of_memory(t);
        return;
    }
    h->t = t;
    h->rotate = rotate;
    t->state = h;
    hand_out_catalog(h);
}

static void key_gone(struct gw_task *t)
{
    struct handing *h = t->state;
    if (h != NULL) {
        gw_calls_catalog_forget(gw_api_calls(t->api), h);
        OPENSSL_cleanse(h, sizeof *h);
        free(h);
    }
}

static void on_fetch(struct gw_task *t, enum gw_pool_kind kind)
{
    (void)kind;
    hand_out(t, false);
}

static void on_rotate(struct gw_task *t, enum gw_pool_kind kind)
{
    (void)kind;
    hand_out(t, true);
}

static void fetch_start(struct gw_task *t)
{
    gw_task_pool(t, on_fetch);
}

static void rotate_start(struct gw_task *t)
{
    gw_task_pool(t, on_rotate);
}

const struct gw_task_ops gw_op_mcp_fetch = {
    .start = fetch_start, .gone = key_gone, .body_max = 64 << 10};
const struct gw_task_ops gw_op_mcp_rotate = {
    .start = rotate_start, .gone = key_gone, .body_max = 64 << 10};
