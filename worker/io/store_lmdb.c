#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/buf.h"
#include "proto/base/container.h"
#include "proto/lmdb/code.h"
#include "worker/io/store_make.h"

/* One write transaction per turn, begun by its first change. The changes are also kept as a list:
 * when the map turns out to be too small, it grows (no transaction may be open then) and the list
 * is carried out again. Reads use the write transaction while there is one, else a parked reader.
 */

enum op { OP_PUT = 1, OP_DEL, OP_DEL_PREFIX };

struct change {
    enum op op;
    enum worker_store_table table;
    size_t key_n, value_n; /* the bytes follow in the list */
};

struct lmdb_store {
    struct worker_store base;
    MDB_env *env;
    MDB_dbi dbis[WORKER_STORE_TABLE_END];
    MDB_txn *txn; /* writing, or NULL */
    MDB_txn *reader;
    bool reader_on;
    MDB_cursor *cursor; /* of the last read, so that what it found stays put */
    struct base_buf changes;
    size_t map_bytes, map_bytes_max;
    size_t page_bytes;
};

static const char *const names[WORKER_STORE_TABLE_END] = {
    "meta", "sess", "vm", "exec", "ev", "fence", "pool", "template"};

static struct lmdb_store *lmdb_of(struct worker_store *st)
{
    return CONTAINER_OF(st, struct lmdb_store, base);
}

static void reads_end(struct lmdb_store *m)
{
    if (m->cursor != NULL) {
        mdb_cursor_close(m->cursor);
        m->cursor = NULL;
    }
    if (m->reader_on) {
        mdb_txn_reset(m->reader);
        m->reader_on = false;
    }
}

static void txn_drop(struct lmdb_store *m)
{
    reads_end(m);
    if (m->txn != NULL) {
        mdb_txn_abort(m->txn);
        m->txn = NULL;
    }
}

static int map_grow(struct lmdb_store *m)
{
    if (m->map_bytes > m->map_bytes_max / 2) {
        return BASE_EFULL;
    }
    int rc = mdb_env_set_mapsize(m->env, m->map_bytes * 2);
    if (rc == 0) {
        m->map_bytes *= 2;
    }
    return proto_lmdb_code(rc);
}

/* The map grows while that is cheap: before a transaction, when three quarters were ever used. */
static int txn_begin(struct lmdb_store *m)
{
    reads_end(m);
    MDB_envinfo info;
    (void)mdb_env_info(m->env, &info);
    size_t used = (info.me_last_pgno + 1) * m->page_bytes;
    if (used > m->map_bytes / 4 * 3) {
        (void)map_grow(m); /* at its limit it may still be enough: pages are reused */
    }
    return proto_lmdb_code(mdb_txn_begin(m->env, NULL, 0, &m->txn));
}

static int prefix_delete(struct lmdb_store *m, enum worker_store_table t, const MDB_val *prefix)
{
    MDB_cursor *c;
    int rc = mdb_cursor_open(m->txn, m->dbis[t], &c);
    if (rc != 0) {
        return proto_lmdb_code(rc);
    }
    MDB_val key = *prefix, value;
    rc = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size >= prefix->mv_size &&
           memcmp(key.mv_data, prefix->mv_data, prefix->mv_size) == 0) {
        rc = mdb_cursor_del(c, 0);
        rc = rc != 0 ? rc : mdb_cursor_get(c, &key, &value, MDB_NEXT); /* skips none after a del */
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : proto_lmdb_code(rc);
}

static int apply(struct lmdb_store *m, const struct change *c, uint8_t *bytes)
{
    MDB_val key, value;
    key.mv_size = c->key_n;
    key.mv_data = bytes;
    value.mv_size = c->value_n;
    value.mv_data = bytes + c->key_n;
    if (c->op == OP_PUT) {
        return proto_lmdb_code(mdb_put(m->txn, m->dbis[c->table], &key, &value, 0));
    }
    if (c->op == OP_DEL) {
        int rc = mdb_del(m->txn, m->dbis[c->table], &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : proto_lmdb_code(rc);
    }
    return prefix_delete(m, c->table, &key);
}

static int replay(struct lmdb_store *m)
{
    int rc = txn_begin(m);
    size_t at = 0, end = base_buf_size(&m->changes);
    uint8_t *p = base_buf_data(&m->changes);
    while (rc == 0 && at < end) {
        struct change c;
        memcpy(&c, p + at, sizeof c);
        rc = apply(m, &c, p + at + sizeof c);
        at += sizeof c + c.key_n + c.value_n;
    }
    return rc;
}

/* After BASE_EFULL: a larger map, then everything of this turn again. */
static int grow_and_replay(struct lmdb_store *m)
{
    int rc;
    do {
        txn_drop(m);
        rc = map_grow(m);
        if (rc == 0) {
            rc = replay(m);
            if (rc != BASE_EFULL) {
                return rc;
            }
        }
    } while (rc == BASE_EFULL && m->map_bytes <= m->map_bytes_max / 2);
    return rc;
}

static int change(struct lmdb_store *m, struct change c, const void *key, const void *value)
{
    if (m->txn == NULL) {
        int rc = txn_begin(m);
        if (rc != 0) {
            return rc;
        }
    }
    size_t n = sizeof c + c.key_n + c.value_n;
    uint8_t *p = base_buf_room(&m->changes, n);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    memcpy(p, &c, sizeof c);
    memcpy(p + sizeof c, key, c.key_n);
    if (c.value_n > 0) {
        memcpy(p + sizeof c + c.key_n, value, c.value_n);
    }
    base_buf_grow(&m->changes, n);
    reads_end(m);
    int rc = apply(m, &c, p + sizeof c);
    return rc == BASE_EFULL ? grow_and_replay(m) : rc;
}

static int lmdb_put(
    struct worker_store *st, enum worker_store_table t, const struct worker_store_row *row)
{
    struct change c = {.op = OP_PUT, .table = t, .key_n = row->key_n, .value_n = row->value_n};
    return change(lmdb_of(st), c, row->key, row->value);
}

static int lmdb_del(
    struct worker_store *st, enum worker_store_table t, const void *key, size_t key_n)
{
    struct change c = {.op = OP_DEL, .table = t, .key_n = key_n};
    return change(lmdb_of(st), c, key, NULL);
}

static int lmdb_del_prefix(
    struct worker_store *st, enum worker_store_table t, const void *p, size_t n)
{
    struct change c = {.op = OP_DEL_PREFIX, .table = t, .key_n = n};
    return change(lmdb_of(st), c, p, NULL);
}

static int lmdb_seek(struct worker_store *st, enum worker_store_table t,
    const struct worker_store_row *key, struct worker_store_row *ret)
{
    struct lmdb_store *m = lmdb_of(st);
    int rc = 0;
    if (m->cursor != NULL) {
        mdb_cursor_close(m->cursor);
        m->cursor = NULL;
    }
    if (m->txn == NULL && !m->reader_on) {
        rc = mdb_txn_renew(m->reader);
        m->reader_on = rc == 0;
    }
    MDB_txn *txn = m->txn != NULL ? m->txn : m->reader;
    rc = rc != 0 ? rc : mdb_cursor_open(txn, m->dbis[t], &m->cursor);
    MDB_val k = {.mv_size = key->key_n, .mv_data = (void *)(uintptr_t)key->key}, v;
    rc = rc != 0 ? rc : mdb_cursor_get(m->cursor, &k, &v, MDB_SET_RANGE);
    if (rc == 0) {
        *ret = (struct worker_store_row){
            .key = k.mv_data, .key_n = k.mv_size, .value = v.mv_data, .value_n = v.mv_size};
    }
    return proto_lmdb_code(rc);
}

static int lmdb_commit(struct worker_store *st)
{
    struct lmdb_store *m = lmdb_of(st);
    reads_end(m);
    int rc = 0;
    if (m->txn != NULL) {
        MDB_txn *txn = m->txn;
        m->txn = NULL; /* freed by commit in every case */
        rc = proto_lmdb_code(mdb_txn_commit(txn));
        if (rc == BASE_EFULL) {
            rc = grow_and_replay(m);
            txn = m->txn;
            m->txn = rc != 0 ? txn : NULL;
            rc = rc != 0 ? rc : proto_lmdb_code(mdb_txn_commit(txn));
            txn_drop(m); /* or nobody could write any more */
        }
    }
    /* One large turn does not keep its memory for ever. */
    if (m->changes.cap > 1 << 20) {
        base_buf_deinit(&m->changes);
    }
    base_buf_clear(&m->changes);
    return rc;
}

static void lmdb_abort(struct worker_store *st)
{
    struct lmdb_store *m = lmdb_of(st);
    txn_drop(m);
    base_buf_clear(&m->changes);
}

static void lmdb_check(struct worker_store *st)
{
    struct lmdb_store *m = lmdb_of(st);
    int dead = 0;
    reads_end(m); /* also keeps no old pages alive while idle */
    (void)mdb_reader_check(m->env, &dead);
}

static void lmdb_close(struct worker_store *st)
{
    struct lmdb_store *m = lmdb_of(st);
    txn_drop(m);
    if (m->reader != NULL) {
        mdb_txn_abort(m->reader);
    }
    if (m->env != NULL) {
        mdb_env_close(m->env);
    }
    base_buf_deinit(&m->changes);
    free(m);
}

/* --- open ---------------------------------------------------------------------------------- */

static int tables_open(struct lmdb_store *m)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(m->env, NULL, 0, &txn);
    if (rc != 0) {
        return proto_lmdb_code(rc);
    }
    for (int t = 0; rc == 0 && t < WORKER_STORE_TABLE_END; t++) {
        rc = mdb_dbi_open(txn, names[t], MDB_CREATE, &m->dbis[t]);
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return proto_lmdb_code(rc);
    }
    return proto_lmdb_code(mdb_txn_commit(txn));
}

static int env_open(
    struct lmdb_store *m, const struct worker_store_config *config, struct base_error *err)
{
    int rc = mdb_env_create(&m->env);
    rc = rc != 0 ? rc : mdb_env_set_maxdbs(m->env, WORKER_STORE_TABLE_END + 8);
    rc = rc != 0 ? rc : mdb_env_set_mapsize(m->env, m->map_bytes);
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (config->sync ? 0 : MDB_NOSYNC);
    rc = rc != 0 ? rc : mdb_env_open(m->env, config->path, flags, 0600);
    int dead = 0;
    rc = rc != 0 ? rc : mdb_reader_check(m->env, &dead);
    MDB_envinfo info;
    MDB_stat stat;
    rc = rc != 0 ? rc : mdb_env_info(m->env, &info);
    rc = rc != 0 ? rc : mdb_env_stat(m->env, &stat);
    if (rc != 0) {
        return base_fail(
            err, proto_lmdb_code(rc), "store '%s': %s", config->path, mdb_strerror(rc));
    }
    m->map_bytes = info.me_mapsize; /* LMDB never maps less than the file holds */
    m->page_bytes = stat.ms_psize;
    int ours = tables_open(m);
    if (ours != 0) {
        return base_fail(err, ours, "store '%s': its tables cannot be opened", config->path);
    }
    rc = mdb_txn_begin(m->env, NULL, MDB_RDONLY, &m->reader);
    if (rc != 0) {
        return base_fail(
            err, proto_lmdb_code(rc), "store '%s': %s", config->path, mdb_strerror(rc));
    }
    mdb_txn_reset(m->reader);
    return 0;
}

/* A fresh store gets our marks; an old one must have them. */
static int marks(
    struct worker_store *st, const struct worker_store_config *config, struct base_error *err)
{
    struct worker_store_row r;
    uint64_t format = 0;
    int rc = worker_store_meta_get(st, "format", &format);
    if (rc == 0 && format == 0) {
        rc = worker_store_meta_put(st, "format", WORKER_STORE_FORMAT);
        struct worker_store_row kind = {.key = (const uint8_t *)"kind",
            .key_n = 4,
            .value = (const uint8_t *)config->kind,
            .value_n = strlen(config->kind)};
        rc = rc != 0 ? rc : worker_store_put(st, WORKER_STORE_META, &kind);
        rc = rc != 0 ? rc : worker_store_commit(st);
        format = WORKER_STORE_FORMAT;
    }
    if (rc != 0) {
        return base_fail(err, rc, "store '%s': %s", config->path, base_err_str(rc));
    }
    if (format != WORKER_STORE_FORMAT) {
        return base_fail(err, BASE_EVERSION,
            "store '%s' has format %llu, this program knows %d: start the newer program, or move "
            "the folder away",
            config->path, (unsigned long long)format, WORKER_STORE_FORMAT);
    }
    rc = worker_store_get(st, WORKER_STORE_META, "kind", 4, &r);
    if (rc != 0 || r.value_n != strlen(config->kind) ||
        memcmp(r.value, config->kind, r.value_n) != 0) {
        return base_fail(
            err, BASE_EVERSION, "store '%s' is not a '%s' store", config->path, config->kind);
    }
    return 0;
}

int worker_store_open(
    const struct worker_store_config *config, struct worker_store **ret, struct base_error *err)
{
    static const struct worker_store_ops ops = {.put = lmdb_put,
        .del = lmdb_del,
        .del_prefix = lmdb_del_prefix,
        .seek = lmdb_seek,
        .commit = lmdb_commit,
        .abort = lmdb_abort,
        .check = lmdb_check,
        .close = lmdb_close};
    if (mkdir(config->path, 0700) != 0 && errno != EEXIST) {
        return base_fail(err, -errno, "make '%s': %s", config->path, strerror(errno));
    }
    struct lmdb_store *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    worker_store_init(&m->base, &ops);
    m->map_bytes = config->map_bytes != 0 ? config->map_bytes : (size_t)64 << 20;
    m->map_bytes_max = config->map_bytes_max != 0 ? config->map_bytes_max : (size_t)64 << 30;
    int rc = env_open(m, config, err);
    rc = rc != 0 ? rc : marks(&m->base, config, err);
    if (rc != 0) {
        lmdb_close(&m->base);
        return rc;
    }
    *ret = &m->base;
    return 0;
}
