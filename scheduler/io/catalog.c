#include "scheduler/io/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/cleanup.h"
#include "proto/base/hash.h"
#include "proto/base/text.h"
#include "proto/pool/pool.h"
#include "proto/pool/quota.h"
#include "proto/tenant.h"
#include "scheduler/core/cat.h"
#include "scheduler/core/ids.h"
#include "scheduler/core/name.h"

enum { KEY_MAX = 256, PATH_BYTES_MAX = 512 };

struct sched_catalog {
    uint64_t version, birth;
    uint32_t n;
    struct sched_catalog_entry *entries;
    char *text; /* keys and values */
};

static size_t text_size(const struct sched_catalog_entry *entries, uint32_t n)
{
    size_t size = 1;
    for (uint32_t i = 0; i < n; i++) {
        size += strlen(entries[i].key) + entries[i].value_n + 2;
    }
    return size;
}

int sched_catalog_make(struct sched_catalog **ret, uint64_t version,
    const struct sched_catalog_entry *entries, uint32_t n)
{
    struct sched_catalog *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->entries = calloc((size_t)n + 1, sizeof *c->entries);
        c->text = calloc(1, text_size(entries, n));
    }
    if (c == NULL || c->entries == NULL || c->text == NULL) {
        sched_catalog_destroy(c);
        return BASE_ENOMEM;
    }
    char *at = c->text;
    for (uint32_t i = 0; i < n; i++) {
        struct sched_catalog_entry *e = &c->entries[i];
        *e = entries[i];
        size_t key_n = strlen(e->key) + 1;
        memcpy(at, e->key, key_n);
        e->key = at;
        at += key_n;
        if (e->value_n > 0) {
            memcpy(at, e->value, e->value_n);
        }
        e->value = at;
        at += e->value_n + 1;
    }
    c->version = version;
    c->n = n;
    *ret = c;
    return 0;
}

int sched_catalog_copy(struct sched_catalog **ret, const struct sched_catalog *from)
{
    int rc = sched_catalog_make(ret, from->version, from->entries, from->n);
    if (rc == 0) {
        (*ret)->birth = from->birth;
    }
    return rc;
}

int sched_catalog_unpack(struct sched_catalog **ret, const struct sched_cat_doc *doc)
{
    struct sched_cat_entry e;
    uint32_t at = 0, n = 0;
    if (!sched_cat_valid(doc)) {
        return BASE_EBADMSG;
    }
    struct sched_catalog_entry *all = calloc(SCHED_CAT_ENTRIES_MAX, sizeof *all);
    char(*keys)[SCHED_CAT_KEY_MAX + 1] = calloc(SCHED_CAT_ENTRIES_MAX, sizeof *keys);
    int rc = all == NULL || keys == NULL ? BASE_ENOMEM : 0;
    while (rc == 0 && sched_cat_next(doc, &at, &e)) {
        if (sched_cat_own(&e)) {
            continue;
        }
        memcpy(keys[n], e.key, e.key_n);
        all[n] = (struct sched_catalog_entry){.key = keys[n],
            .version = e.version,
            .pool = e.pool,
            .max = e.max,
            .ready = e.ready,
            .value = (const char *)e.value,
            .value_n = e.value_n};
        n++;
    }
    rc = rc != 0 ? rc : sched_catalog_make(ret, doc->version, all, n);
    if (rc == 0) {
        (*ret)->birth = sched_cat_birth(doc);
    }
    free(all);
    free(keys);
    return rc;
}

/* ---- a file ---- */

static json_t *entry_json(const struct sched_catalog_entry *e)
{
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:s%}", "key", e->key, "version", (json_int_t)e->version,
        "pool", (json_int_t)e->pool, "max", (json_int_t)e->max, "ready", (json_int_t)e->ready,
        "value", e->value, e->value_n);
}

static int write_synced(const char *path, const char *text)
{
    char part[PATH_BYTES_MAX];
    size_t n = strlen(text);
    if (snprintf(part, sizeof part, "%s.new", path) >= (int)sizeof part) {
        return BASE_ETOOBIG;
    }
    CLEANUP(base_closep)
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n || fsync(fd) != 0 || rename(part, path) != 0) {
        return errno == 0 ? BASE_EIO : -errno;
    }
    return 0;
}

/* Which cluster it is, for who has its file only. */
static uint64_t tag_of(const uint8_t cluster_key[16])
{
    static const char text[] = "catalog.json";
    return base_hash_sip24(cluster_key, text, sizeof text - 1);
}

/* JSON has no 64 bits. */
static json_t *number_json(uint64_t v)
{
    char text[20];
    (void)snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static uint64_t number(const json_t *j)
{
    return json_is_string(j) ? strtoull(json_string_value(j), NULL, 16) : 0;
}

int sched_catalog_save(
    const struct sched_catalog *c, const char *path, const uint8_t cluster_key[16])
{
    json_t *doc = json_pack("{s:o,s:o,s:I,s:[]}", "cluster", number_json(tag_of(cluster_key)),
        "birth", number_json(c->birth), "version", (json_int_t)c->version, "entries");
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < c->n; i++) {
        rc = json_array_append_new(json_object_get(doc, "entries"), entry_json(&c->entries[i]));
    }
    char *text = rc == 0 ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    rc = text == NULL ? BASE_ENOMEM : write_synced(path, text);
    free(text);
    return rc;
}

/* It is this program's own file, but a disk may be damaged. */
static bool read_entry(const json_t *j, struct sched_catalog_entry *e)
{
    json_int_t version, pool, max, ready;
    const char *key, *value;
    size_t value_n;
    bool good =
        json_unpack((json_t *)(uintptr_t)j, "{s:s,s:I,s:I,s:I,s:I,s:s%}", "key", &key, "version",
            &version, "pool", &pool, "max", &max, "ready", &ready, "value", &value, &value_n) == 0;
    if (good) {
        *e = (struct sched_catalog_entry){.key = key,
            .version = (uint64_t)version,
            .pool = (uint32_t)pool,
            .max = (uint32_t)max,
            .ready = (uint32_t)ready,
            .value = value,
            .value_n = value_n};
    }
    return good && strlen(key) <= SCHED_CAT_KEY_MAX && value_n <= SCHED_CAT_VALUE_MAX;
}

int sched_catalog_load(struct sched_catalog **ret, const char *path, const uint8_t cluster_key[16])
{
    json_error_t why;
    json_t *doc = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (doc == NULL) {
        return access(path, F_OK) != 0 && errno == ENOENT ? BASE_ENOTFOUND : BASE_EBADMSG;
    }
    const json_t *list = json_object_get(doc, "entries");
    const json_t *cluster = json_object_get(doc, "cluster"); /* files of before have none */
    json_int_t version = json_integer_value(json_object_get(doc, "version"));
    size_t n = json_array_size(list);
    struct sched_catalog_entry *all = calloc(n + 1, sizeof *all);
    int rc = all == NULL ? BASE_ENOMEM : 0;
    rc = rc == 0 && (version <= 0 || n > SCHED_CAT_ENTRIES_MAX) ? BASE_EBADMSG : rc;
    rc = rc == 0 && cluster != NULL && number(cluster) != tag_of(cluster_key) ? BASE_ESTATE : rc;
    uint32_t kept = 0;
    uint64_t birth = number(json_object_get(doc, "birth"));
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct sched_catalog_entry *x = &all[kept];
        bool good = read_entry(json_array_get(list, i), x) &&
                    (kept == 0 || strcmp(all[kept - 1].key, x->key) < 0);
        const struct sched_cat_entry e = {.key = x->key,
            .key_n = good ? (uint32_t)strlen(x->key) : 0,
            .value = (const uint8_t *)x->value,
            .value_n = (uint32_t)x->value_n};
        bool own = good && sched_cat_own(&e); /* a release before this kept it in the file */
        birth = own ? sched_cat_birth_in(&e) : birth;
        kept += !own;
        rc = good ? 0 : BASE_EBADMSG;
    }
    rc = rc != 0 ? rc : sched_catalog_make(ret, (uint64_t)version, all, kept);
    if (rc == 0) {
        (*ret)->birth = birth;
    }
    free(all);
    json_decref(doc);
    return rc;
}

void sched_catalog_destroy(struct sched_catalog *c)
{
    if (c != NULL) {
        free(c->entries);
        free(c->text);
        free(c);
    }
}

uint64_t sched_catalog_version(const struct sched_catalog *c)
{
    return c->version;
}

uint64_t sched_catalog_birth(const struct sched_catalog *c)
{
    return c->birth;
}

uint32_t sched_catalog_n(const struct sched_catalog *c)
{
    return c->n;
}

const struct sched_catalog_entry *sched_catalog_at(const struct sched_catalog *c, uint32_t i)
{
    return &c->entries[i];
}

const char *sched_catalog_name(const struct sched_catalog_entry *e, const char *kind)
{
    size_t n = strlen(kind);
    return strncmp(e->key, kind, n) == 0 ? e->key + n : NULL;
}

const struct sched_catalog_entry *sched_catalog_find(
    const struct sched_catalog *c, const char *kind, const char *name)
{
    char key[KEY_MAX];
    if (snprintf(key, sizeof key, "%s%s", kind, name) >= (int)sizeof key) {
        return NULL;
    }
    uint32_t low = 0, high = c->n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int rc = strcmp(c->entries[mid].key, key);
        if (rc == 0) {
            return &c->entries[mid];
        }
        low = rc < 0 ? mid + 1 : low;
        high = rc < 0 ? high : mid;
    }
    return NULL;
}

bool sched_catalog_has(const struct sched_catalog *c, const char *kind)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (sched_catalog_name(&c->entries[i], kind) != NULL) {
            return true;
        }
    }
    return false;
}

bool sched_catalog_decides(const struct sched_catalog *c)
{
    return sched_catalog_has(c, "pool/") || sched_catalog_find(c, "pools", "") != NULL;
}

/* ---- checks ---- */

static int check_pool(struct sched_catalog_entry *e, const uint8_t cluster_key[16],
    char **ret_warnings, struct base_error *err)
{
    struct proto_pool p;
    struct sched_key key;
    int rc = proto_pool_parse(e->value, e->value_n, &p, err);
    if (rc != 0) {
        return rc;
    }
    const char *name = sched_catalog_name(e, "pool/");
    e->max = p.sessions_max;
    e->ready = p.ready_target;
    if (name == NULL || strcmp(name, p.name) != 0) {
        rc = base_fail(err, BASE_EINVAL, "name: '%s' is not the pool of '%.80s'", p.name, e->key);
    } else if (sched_name_key(cluster_key, p.name, "", 0, &key) != 0) {
        rc = base_fail(err, BASE_EINVAL, "name: is too long");
    }
    e->pool = rc == 0 ? sched_key_pool(key) : 0;
    size_t n = base_buf_size(&p.warnings);
    if (rc == 0 && ret_warnings != NULL && n > 0) {
        *ret_warnings = calloc(1, n + 1);
        if (*ret_warnings != NULL) {
            memcpy(*ret_warnings, base_buf_data(&p.warnings), n);
        }
    }
    proto_pool_deinit(&p);
    return rc;
}

static int check_tenant(
    const struct sched_catalog_entry *e, const uint8_t cluster_key[16], struct base_error *err)
{
    struct proto_quota q;
    struct proto_tenant t;
    char hex[2 * PROTO_TENANT_BYTES + 1];
    int rc = proto_quota_parse(e->value, e->value_n, &q, err);
    const char *id = sched_catalog_name(e, "tenant/");
    if (rc != 0) {
        return rc;
    }
    if (id == NULL) { /* of every tenant */
        return q.tenant[0] == '\0'
                   ? 0
                   : base_fail(err, BASE_EINVAL, "tenant: is not one for '%s'", e->key);
    }
    proto_tenant_of(cluster_key, q.issuer, q.tenant, &t);
    base_text_hex(t.id, sizeof t.id, hex);
    return q.tenant[0] != '\0' && strcmp(id, hex) == 0
               ? 0
               : base_fail(err, BASE_EINVAL, "tenant: is not the one of '%.80s'", e->key);
}

static int check_key(const struct sched_catalog_entry *e, struct base_error *err)
{
    static const char head[] = "warren-mcp-key 1\n";
    const char *name = sched_catalog_name(e, "mcp-key/");
    bool good = name != NULL && proto_pool_name_valid(name, strlen(name)) && e->value_n < 1024 &&
                strncmp(e->value, head, sizeof head - 1) == 0;
    return good ? 0 : base_fail(err, BASE_EINVAL, "'%.80s': is no key of a pool", e->key);
}

int sched_catalog_check(struct sched_catalog_entry *e, const uint8_t cluster_key[16],
    char **ret_warnings, struct base_error *err)
{
    e->pool = e->max = e->ready = 0;
    if (memchr(e->value, '\0', e->value_n) != NULL) {
        return base_fail(err, BASE_EINVAL, "'%.80s': the value has a NUL byte", e->key);
    }
    if (!base_text_utf8(e->value, e->value_n)) {
        return base_fail(err, BASE_EINVAL, "'%.80s': the value is not UTF-8", e->key);
    }
    if (sched_catalog_name(e, "pool/") != NULL) {
        return check_pool(e, cluster_key, ret_warnings, err);
    }
    if (sched_catalog_name(e, "tenant/") != NULL || strcmp(e->key, "tenants") == 0) {
        return check_tenant(e, cluster_key, err);
    }
    if (strcmp(e->key, "pools") == 0 && e->value_n == 0) {
        return 0;
    }
    if (sched_catalog_name(e, "mcp-key/") != NULL) {
        return check_key(e, err);
    }
    return base_fail(err, BASE_EINVAL,
        "'%.80s': there are pool/NAME, mcp-key/NAME, pools, tenants and tenant/ID only", e->key);
}
