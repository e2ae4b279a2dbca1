#include "scheduler/io/node_db.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"
#include "proto/lmdb/code.h"

enum { MAP_BYTES = 64 << 20, PATH_BYTES_MAX = 512 };

struct sched_node_db {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn; /* NULL: nothing read or put since the last commit */
    int lock_fd;
};

static int begin(struct sched_node_db *db)
{
    return db->txn != NULL ? 0 : proto_lmdb_code(mdb_txn_begin(db->env, NULL, 0, &db->txn));
}

/* LMDB itself lets several processes in. */
static int lock(struct sched_node_db *db, const char *path, struct base_error *err)
{
    char file[PATH_BYTES_MAX];
    (void)snprintf(file, sizeof file, "%s/owner", path);
    db->lock_fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock_fd < 0) {
        return base_fail(err, -errno, "open '%s': %s", file, strerror(errno));
    }
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return base_fail(err, BASE_ESTATE, "another process uses '%s'", path);
    }
    return 0;
}

static int open_env(struct sched_node_db *db, const char *path)
{
    int rc = mdb_env_create(&db->env);
    rc = rc != 0 ? rc : mdb_env_set_mapsize(db->env, MAP_BYTES);
    rc = rc != 0 ? rc : mdb_env_open(db->env, path, MDB_NOTLS, 0600);
    rc = rc != 0 ? rc : mdb_txn_begin(db->env, NULL, 0, &db->txn);
    rc = rc != 0 ? rc : mdb_dbi_open(db->txn, NULL, 0, &db->dbi);
    return proto_lmdb_code(rc);
}

int sched_node_db_open(struct sched_node_db **ret, const char *path, struct base_error *err)
{
    if (strlen(path) >= PATH_BYTES_MAX - 16) {
        return base_fail(err, BASE_ETOOBIG, "the path of node.mdb is too long");
    }
    struct sched_node_db *db = calloc(1, sizeof *db);
    if (db == NULL) {
        return base_fail(err, BASE_ENOMEM, "open '%s'", path);
    }
    db->lock_fd = -1;
    int rc = 0;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        rc = base_fail(err, -errno, "make '%s': %s", path, strerror(errno));
    }
    rc = rc != 0 ? rc : lock(db, path, err);
    if (rc == 0) {
        rc = open_env(db, path);
        rc = rc == 0 ? 0 : base_fail(err, rc, "open '%s': %s", path, base_err_str(rc));
    }
    if (rc != 0) {
        sched_node_db_close(db);
        return rc;
    }
    *ret = db;
    return 0;
}

void sched_node_db_close(struct sched_node_db *db)
{
    if (db == NULL) {
        return;
    }
    if (db->txn != NULL) {
        mdb_txn_abort(db->txn);
    }
    if (db->env != NULL) {
        mdb_env_close(db->env);
    }
    base_closep(&db->lock_fd);
    free(db);
}

static MDB_val word(const char *key)
{
    return (MDB_val){strlen(key), (void *)(uintptr_t)key};
}

int sched_node_db_put(struct sched_node_db *db, const char *key, const void *value, size_t n)
{
    int rc = begin(db);
    if (n > SCHED_NODE_DB_VALUE_MAX) {
        return BASE_ETOOBIG;
    }
    MDB_val k = word(key), v = {n, (void *)(uintptr_t)value};
    return rc != 0 ? rc : proto_lmdb_code(mdb_put(db->txn, db->dbi, &k, &v, 0));
}

int sched_node_db_get(struct sched_node_db *db, const char *key, const uint8_t **ret, size_t *ret_n)
{
    int rc = begin(db);
    MDB_val k = word(key), v;
    rc = rc != 0 ? rc : proto_lmdb_code(mdb_get(db->txn, db->dbi, &k, &v));
    if (rc == 0) {
        *ret = v.mv_data;
        *ret_n = v.mv_size;
    }
    return rc;
}

int sched_node_db_commit(struct sched_node_db *db)
{
    if (db->txn == NULL) {
        return 0;
    }
    int rc = mdb_txn_commit(db->txn);
    db->txn = NULL;
    return proto_lmdb_code(rc);
}

int sched_node_db_number(
    struct sched_node_db *db, const char *key, uint64_t otherwise, uint64_t *ret)
{
    const uint8_t *p = NULL;
    size_t n = 0;
    int rc = sched_node_db_get(db, key, &p, &n);
    if (rc != 0 || n != 8) {
        *ret = otherwise;
        return rc == BASE_ENOTFOUND ? 0 : rc != 0 ? rc : BASE_ECORRUPT;
    }
    uint64_t v = 0;
    for (unsigned i = 8; i-- > 0;) {
        v = v << 8 | p[i];
    }
    *ret = v;
    return 0;
}

int sched_node_db_set_number(struct sched_node_db *db, const char *key, uint64_t value)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return sched_node_db_put(db, key, bytes, sizeof bytes);
}
