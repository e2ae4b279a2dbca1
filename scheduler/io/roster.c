#include "scheduler/io/roster.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/assert.h"
#include "proto/base/hash.h"
#include "proto/base/text.h"

struct sched_roster {
    char *path;
    struct proto_net_client *list;
    uint64_t *ids; /* of the list's names */
    int n;
    struct stat seen; /* of the file that was looked at last, taken or not */
    unsigned n_required;
    struct {
        uint64_t id;
        enum sched_role role;
    } required[SCHED_ROSTER_REQUIRED_MAX];
};

static const char *const words[] = {"", "worker", "gateway", "voter", "admin"};

const char *sched_role_str(enum sched_role role)
{
    return words[role];
}

enum sched_role sched_role_parse(const char *word)
{
    for (unsigned i = SCHED_ROSTER_WORKER; i <= SCHED_ROSTER_ADMIN; i++) {
        if (strcmp(word, words[i]) == 0) {
            return (enum sched_role)i;
        }
    }
    return SCHED_ROSTER_NONE;
}

bool sched_node_name_valid(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    return n > 0 && n < PROTO_NET_NAME_MAX && name[n] == '\0';
}

uint64_t sched_node_id(const char *name)
{
    static const uint8_t key[16] = "warren node name";
    uint64_t id = base_hash_sip24(key, name, strlen(name));
    return id == 0 ? 1 : id;
}

enum sched_role sched_role_of_user(const char *user, uint64_t *ret_id)
{
    char word[PROTO_NET_NAME_MAX];
    const char *slash = strchr(user, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - user);
    if (n == 0 || n >= sizeof word) {
        return SCHED_ROSTER_NONE;
    }
    memcpy(word, user, n);
    word[n] = '\0';
    *ret_id = sched_node_id(slash + 1);
    return sched_role_parse(word);
}

static int check(const struct sched_roster *r, int i, struct base_error *err)
{
    for (int k = 0; k < i; k++) {
        if (r->ids[k] != r->ids[i]) {
            continue;
        }
        if (strcmp(r->list[k].name, r->list[i].name) != 0) {
            return base_fail(err, BASE_EEXISTS, "'%s': the names '%s' and '%s' have one number",
                r->path, r->list[k].name, r->list[i].name);
        }
        if (strcmp(r->list[k].role, r->list[i].role) != 0) {
            return base_fail(err, BASE_EEXISTS, "'%s': '%s' is there as %s and as %s", r->path,
                r->list[i].name, r->list[k].role, r->list[i].role);
        }
    }
    return 0;
}

static int check_required(
    const struct sched_roster *r, const struct sched_roster *next, struct base_error *err)
{
    for (unsigned i = 0; i < r->n_required; i++) {
        if (sched_roster_role(next, r->required[i].id) != r->required[i].role) {
            return base_fail(err, BASE_EDENIED, "'%s': the %s '%s' is not in it", r->path,
                sched_role_str(r->required[i].role), sched_roster_name(r, r->required[i].id));
        }
    }
    return 0;
}

static int take(struct sched_roster *r, struct base_error *err)
{
    struct sched_roster next = {.path = r->path};
    if (stat(r->path, &r->seen) != 0) {
        return base_fail(err, BASE_ENOTFOUND, "roster '%s' is missing", r->path);
    }
    int rc = proto_net_clients_read(r->path, &next.list, &next.n, err);
    if (rc < 0) {
        return rc;
    }
    next.ids = calloc((size_t)next.n + 1, sizeof *next.ids);
    rc = next.ids == NULL ? base_fail(err, BASE_ENOMEM, "read '%s'", r->path) : 0;
    for (int i = 0; rc == 0 && i < next.n; i++) {
        next.ids[i] = sched_node_id(next.list[i].name);
        rc = check(&next, i, err);
    }
    rc = rc != 0 ? rc : check_required(r, &next, err);
    if (rc != 0) {
        free(next.list);
        free(next.ids);
        return rc;
    }
    free(r->list);
    free(r->ids);
    r->list = next.list;
    r->ids = next.ids;
    r->n = next.n;
    return 0;
}

int sched_roster_load(struct sched_roster **ret, const char *path, struct base_error *err)
{
    struct sched_roster *r = calloc(1, sizeof *r);
    if (r == NULL || (r->path = strdup(path)) == NULL) {
        free(r);
        return base_fail(err, BASE_ENOMEM, "read '%s'", path);
    }
    int rc = take(r, err);
    if (rc != 0) {
        sched_roster_destroy(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void sched_roster_destroy(struct sched_roster *r)
{
    if (r != NULL) {
        free(r->list);
        free(r->ids);
        free(r->path);
        free(r);
    }
}

int sched_roster_refresh(struct sched_roster *r, struct base_error *err)
{
    struct stat st;
    if (stat(r->path, &st) != 0 || proto_net_same_file(&st, &r->seen)) {
        return 0;
    }
    int rc = take(r, err);
    if (rc != 0 && rc != BASE_EBADMSG && rc != BASE_EEXISTS && rc != BASE_EDENIED) {
        r->seen = (struct stat){0}; /* no fault of the file: again */
    }
    return rc == 0 ? 1 : rc;
}

void sched_roster_require(struct sched_roster *r, const uint64_t *ids, unsigned n)
{
    REQUIRE(n <= SCHED_ROSTER_REQUIRED_MAX);
    r->n_required = n;
    for (unsigned i = 0; i < n; i++) {
        r->required[i].id = ids[i];
        r->required[i].role = sched_roster_role(r, ids[i]);
    }
}

bool sched_roster_lists(const struct sched_roster *r, uint64_t id, const char *key)
{
    const struct proto_net_client *c = NULL;
    for (unsigned i = 0; (c = sched_roster_key(r, id, i)) != NULL; i++) {
        if (strcmp(c->public_z85, key) == 0) {
            return true;
        }
    }
    return false;
}

const struct proto_net_client *sched_roster_key(
    const struct sched_roster *r, uint64_t id, unsigned n)
{
    for (int i = 0; i < r->n; i++) {
        if (r->ids[i] == id && n-- == 0) {
            return &r->list[i];
        }
    }
    return NULL;
}

enum sched_role sched_roster_role(const struct sched_roster *r, uint64_t id)
{
    const struct proto_net_client *c = sched_roster_key(r, id, 0);
    return c == NULL ? SCHED_ROSTER_NONE : sched_role_parse(c->role);
}

const char *sched_roster_name(const struct sched_roster *r, uint64_t id)
{
    const struct proto_net_client *c = sched_roster_key(r, id, 0);
    return c == NULL ? NULL : c->name;
}
