#include "gateway/cli/pools.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/cli/catalog.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "proto/pool/pool.h"

enum { ASK_S = 3, PAUSE_MS = 200, NAMED = 3 };

enum { VALUE_MAX = 16 << 10 }; /* of the catalogue */

static const char kind[] = "pool/";

static int take_warnings(const struct proto_pool *p, struct cli_pool_applied *ret)
{
    size_t n = base_buf_size(&p->warnings);
    ret->warnings = calloc(1, n + 1);
    if (ret->warnings == NULL) {
        return BASE_ENOMEM;
    }
    if (n > 0) {
        memcpy(ret->warnings, base_buf_data(&p->warnings), n);
    }
    return 0;
}

/* An entry that is there stays as it is. */
static int add(const struct cli_cluster *c, const struct cli_catalog_change *what,
    struct cli_pool_applied *ret, struct base_error *err)
{
    struct base_error why = {0};
    json_t *answer = NULL;
    int rc = cli_catalog_change(c, what, &answer, &why);
    ret->version = json_integer_value(json_object_get(answer, "version"));
    ret->changed = rc == 0;
    json_decref(answer);
    return rc == 0 || rc == BASE_ESTATE ? 0 : base_fail(err, rc, "%s", why.text);
}

static int put(const struct cli_cluster *c, const struct cli_catalog_change *what,
    struct cli_pool_applied *ret, struct base_error *err)
{
    struct cli_catalog_put done;
    int rc = cli_catalog_put(c, what, &done, err);
    ret->version = done.version;
    ret->changed = done.changed;
    json_decref(done.answer);
    return rc;
}

int cli_pool_apply(const struct cli_cluster *c, const char *path, enum cli_pool_how how,
    unsigned patience_s, struct cli_pool_applied *ret, struct base_error *err)
{
    CLEANUP(base_freep) char *text = NULL;
    char key[CLI_POOL_KEY_MAX];
    size_t n = 0;
    struct proto_pool p = {.cpus = 0};
    struct base_error why = {0};
    *ret = (struct cli_pool_applied){.version = 0};
    int rc = cli_file_read(path, VALUE_MAX, &text, &n, &why);
    rc = rc != 0 ? rc : proto_pool_parse(text, n, &p, &why);
    if (rc != 0) {
        return base_fail(err, rc, "pool file %.60s: %.120s", path, why.text);
    }
    (void)base_text_copy(ret->name, sizeof ret->name, p.name);
    (void)snprintf(key, sizeof key, "%s%s", kind, p.name);
    rc = take_warnings(&p, ret);
    proto_pool_deinit(&p);
    if (rc != 0) {
        return base_fail(err, rc, "out of memory");
    }
    const struct cli_catalog_change what = {.key = key, .value = text, .patience_s = patience_s};
    rc = how == CLI_POOL_ADD ? add(c, &what, ret, err) : put(c, &what, ret, err);
    if (rc != 0) {
        free(ret->warnings);
        ret->warnings = NULL;
    }
    return rc;
}

static const char *name_of(const json_t *entry)
{
    const char *key = json_string_value(json_object_get(entry, "key"));
    bool is = key != NULL && strncmp(key, kind, sizeof kind - 1) == 0;
    return is ? key + sizeof kind - 1 : NULL;
}

int cli_pool_any(
    const struct cli_cluster *c, unsigned patience_s, bool *ret, struct base_error *err)
{
    uint64_t end = base_clock_mono_ns() + patience_s * BASE_NS_PER_S;
    json_t *entries = NULL, *e;
    size_t i;
    int rc;
    do { /* voters that have just started */
        const struct timespec ts = {0, PAUSE_MS * (long)BASE_NS_PER_MS};
        rc = cli_catalog_list(c, &entries, err);
        if (rc != 0) {
            (void)nanosleep(&ts, NULL);
        }
    } while (cli_catalog_wait(rc) && base_clock_mono_ns() < end);
    *ret = false;
    json_array_foreach(entries, i, e)
    {
        const char *key = json_string_value(json_object_get(e, "key"));
        *ret = *ret || name_of(e) != NULL || (key != NULL && strcmp(key, "pools") == 0);
    }
    json_decref(entries);
    return rc;
}

int cli_pool_names(const struct cli_cluster *c, json_t **ret, struct base_error *err)
{
    json_t *entries = NULL, *e;
    size_t i;
    int rc = cli_catalog_list(c, &entries, err);
    if (rc != 0) {
        return rc;
    }
    *ret = json_array();
    json_array_foreach(entries, i, e)
    {
        const char *name = name_of(e);
        if (name != NULL) {
            (void)json_array_append_new(*ret, json_string(name));
        }
    }
    json_decref(entries);
    return 0;
}

/* ---- before the first one ---- */

static int read_name(const char *path, json_t *names, struct base_error *err)
{
    CLEANUP(base_freep) char *text = NULL;
    size_t n = 0;
    struct proto_pool p = {.cpus = 0};
    struct base_error why = {0};
    if (strcmp(path, "-") == 0) { /* can be read only once */
        return 0;
    }
    int rc = cli_file_read(path, VALUE_MAX, &text, &n, &why);
    rc = rc != 0 ? rc : proto_pool_parse(text, n, &p, &why);
    if (rc != 0) {
        return base_fail(err, rc, "pool file %.60s: %.120s", path, why.text);
    }
    (void)json_object_set_new(names, p.name, json_true());
    proto_pool_deinit(&p);
    return 0;
}

/* What the workers have by files is given too. */
static int check_answers(json_t *answers, const json_t *names, struct base_error *err)
{
    json_t *a, *p;
    size_t i, k;
    json_array_foreach(answers, i, a)
    {
        json_array_foreach(json_object_get(a, "pools"), k, p)
        {
            const char *name = json_string_value(json_object_get(p, "name"));
            if (name != NULL && json_object_get(names, name) == NULL) {
                return base_fail(err, BASE_EINVAL,
                    "worker '%.40s' has the pool '%s' by its own file, which the first apply would "
                    "delete: give that file too",
                    json_string_value(json_object_get(a, "asked")), name);
            }
        }
    }
    return 0;
}

static bool has_answered(json_t *answers, const char *worker)
{
    json_t *a;
    size_t i;
    json_array_foreach(answers, i, a)
    {
        const char *asked = json_string_value(json_object_get(a, "asked"));
        if (asked != NULL && strcmp(asked, worker) == 0) {
            return true;
        }
    }
    return false;
}

/* Workers of the cluster that have not answered, appended to an array. */
static void add_silent(const struct cli_cluster *c, json_t *answers, json_t *names)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct cli_cluster_node *node = &c->nodes[i];
        if (strcmp(node->role, "worker") == 0 && !has_answered(answers, node->name)) {
            (void)json_array_append_new(names, json_string(node->name));
        }
    }
}

static int check_silent(const struct cli_cluster *c, json_t *answers, struct base_error *err)
{
    char list[NAMED * CLI_CLUSTER_NAME_MAX + 32] = "";
    json_t *silent = json_array();
    if (silent == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    add_silent(c, answers, silent);
    size_t n = json_array_size(silent), at = 0;
    for (size_t i = 0; i < n && i < NAMED; i++) {
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at == 0 ? "" : ", ",
            json_string_value(json_array_get(silent, i)));
    }
    if (n > NAMED) {
        (void)snprintf(list + at, sizeof list - at, " and %zu more", n - NAMED);
    }
    json_decref(silent);
    return n == 0 ? 0
                  : base_fail(err, BASE_ESTATE,
                        "no answer from %s: the first apply deletes pools that are in their files "
                        "only",
                        list);
}

static int check_workers(const struct cli_cluster *c, const struct cli_pool_files *files,
    const json_t *names, struct base_error *err)
{
    const struct cli_question q = {.role = "worker", .text = "status", .timeout_s = ASK_S};
    json_t *answers = NULL;
    int rc = cli_cluster_ask(c, &q, &answers, err);
    rc = rc != 0 ? rc : check_answers(answers, names, err);
    rc = rc != 0 || files->ignore_silent ? rc : check_silent(c, answers, err);
    json_decref(answers);
    return rc;
}

int cli_pool_check(const struct cli_cluster *c, const struct cli_pool_files *files,
    unsigned patience_s, json_t **ret_names, struct base_error *err)
{
    json_t *names = json_object();
    bool any = false;
    int rc = names == NULL ? base_fail(err, BASE_ENOMEM, "out of memory") : 0;
    for (size_t i = 0; rc == 0 && i < files->n; i++) {
        rc = read_name(files->paths[i], names, err);
    }
    rc = rc != 0 ? rc : cli_pool_any(c, patience_s, &any, err);
    rc = rc != 0 || any ? rc : check_workers(c, files, names, err);
    if (rc != 0) {
        json_decref(names);
        return rc;
    }
    *ret_names = names;
    return 0;
}

/* ---- after the last one ---- */

static bool has_pool(const json_t *answer, const char *name)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(answer, "pools"), i, p)
    {
        const char *its = json_string_value(json_object_get(p, "name"));
        if (its != NULL && strcmp(its, name) == 0) {
            return true;
        }
    }
    return false;
}

static int who_has(
    const struct cli_cluster *c, const char *name, json_t **ret, struct base_error *err)
{
    const struct cli_question q = {.role = "worker", .text = "status", .timeout_s = ASK_S};
    json_t *answers = NULL, *names = json_array(), *a;
    size_t at;
    int rc = names == NULL ? base_fail(err, BASE_ENOMEM, "out of memory")
                           : cli_cluster_ask(c, &q, &answers, err);
    if (rc == 0) {
        add_silent(c, answers, names);
    }
    json_array_foreach(answers, at, a)
    {
        if (has_pool(a, name)) {
            (void)json_array_append(names, json_object_get(a, "asked"));
        }
    }
    json_decref(answers);
    if (rc != 0) {
        json_decref(names);
        return rc;
    }
    *ret = names;
    return 0;
}

int cli_pool_wait_gone(const struct cli_cluster *c, const char *name, unsigned patience_s,
    json_t **ret, struct base_error *err)
{
    uint64_t end = base_clock_mono_ns() + patience_s * BASE_NS_PER_S;
    *ret = NULL;
    for (;;) {
        const struct timespec ts = {0, PAUSE_MS * (long)BASE_NS_PER_MS};
        json_decref(*ret);
        *ret = NULL;
        int rc = who_has(c, name, ret, err);
        if (rc != 0 || json_array_size(*ret) == 0 || base_clock_mono_ns() >= end) {
            return rc;
        }
        (void)nanosleep(&ts, NULL);
    }
}

/* ---- list ---- */

/* What a worker says of one pool, added. */
static void add_worker(json_t *pool, const json_t *answer)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(answer, "pools"), i, p)
    {
        const char *name = json_string_value(json_object_get(p, "name"));
        const char *mine = json_string_value(json_object_get(pool, "name"));
        if (name == NULL || mine == NULL || strcmp(name, mine) != 0) {
            continue;
        }
        static const char *const sums[] = {"ready", "sessions"};
        for (size_t k = 0; k < 2; k++) {
            json_int_t have = json_integer_value(json_object_get(pool, sums[k]));
            json_int_t more = json_integer_value(json_object_get(p, sums[k]));
            (void)json_object_set_new(pool, sums[k], json_integer(have + more));
        }
        (void)json_array_append_new(json_object_get(pool, "workers"),
            json_pack("{s:O,s:O*,s:O*,s:O*}", "worker", json_object_get(answer, "asked"), "ready",
                json_object_get(p, "ready"), "target", json_object_get(p, "target"), "sessions",
                json_object_get(p, "sessions")));
    }
}

static json_t *pool_json(const json_t *entry, const json_t *workers)
{
    const char *name = name_of(entry);
    if (name == NULL) {
        return NULL;
    }
    json_t *pool =
        json_pack("{s:s,s:O*,s:O*,s:O*,s:O*,s:i,s:i,s:[]}", "name", name, "containerType",
            json_object_get(entry, "containerType"), "version", json_object_get(entry, "version"),
            "maxConcurrentSessions", json_object_get(entry, "max"), "readySessionInstances",
            json_object_get(entry, "ready"), "ready", 0, "sessions", 0, "workers");
    size_t i;
    json_t *w;
    json_array_foreach((json_t *)(uintptr_t)workers, i, w)
    {
        add_worker(pool, w);
    }
    return pool;
}

int cli_pool_list(const struct cli_cluster *c, json_t **ret, struct base_error *err)
{
    json_t *entries = NULL, *workers = NULL, *e;
    size_t i;
    const struct cli_question q = {.role = "worker", .text = "status", .timeout_s = ASK_S};
    int rc = cli_catalog_list(c, &entries, err);
    rc = rc != 0 ? rc : cli_cluster_ask(c, &q, &workers, err);
    if (rc == 0) {
        *ret = json_array();
        json_array_foreach(entries, i, e)
        {
            json_t *pool = pool_json(e, workers);
            if (pool != NULL) {
                (void)json_array_append_new(*ret, pool);
            }
        }
    }
    json_decref(entries);
    json_decref(workers);
    return rc;
}
