#include "scheduler/io/host_store.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/lmdb/code.h"

/* Keys begin with a letter: L life, V view, P partition, B bucket, R register, S session, X
 * execution; numbers follow, big-endian. */
enum {
    ROW_BYTES_MAX = SCHED_WIRE_BYTES_MAX,
    KEY_BYTES_MAX = 17,
    PART_BYTES = 16,
    BOOT_BYTES = 36,
    LIFE_BYTES = 8 + BOOT_BYTES, /* incarnation, pbits, boot */
};
#define MAP_BYTES ((size_t)1 << 30)

struct sched_host_store {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned pbits;
    uint32_t life; /* 0: none of this boot */
    uint8_t boot[BOOT_BYTES];
    struct sched_wire_room room;
    void *room_mem;
    uint8_t bytes[ROW_BYTES_MAX];
};

struct name {
    size_t n;
    uint8_t b[KEY_BYTES_MAX];
};

static void big(struct name *k, uint64_t v, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        k->b[k->n++] = (uint8_t)(v >> (8 * i));
    }
}

static void small(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint32_t read_small(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct name name_of(const struct sched_row *r)
{
    struct name k = {1, {0}};
    if (r->kind == SCHED_ROW_VIEW) {
        k.b[0] = 'V';
    } else if (r->kind == SCHED_ROW_BASE) {
        k.b[0] = 'B';
        big(&k, r->first, 4);
    } else if (r->kind == SCHED_ROW_EXEC) {
        k.b[0] = 'X';
        big(&k, r->exec.hi, 8);
        big(&k, r->exec.lo, 8);
    } else {
        k.b[0] = r->kind == SCHED_ROW_REG ? 'R' : 'S';
        big(&k, r->key.hi, 8);
        big(&k, r->key.lo, 8);
    }
    return k;
}

static int put(struct sched_host_store *s, MDB_txn *txn, struct name *k, const void *p, size_t n)
{
    MDB_val key = {k->n, k->b}, value = {n, (void *)(uintptr_t)p};
    return proto_lmdb_code(mdb_put(txn, s->dbi, &key, &value, 0));
}

static int put_parts(struct sched_host_store *s, MDB_txn *txn, const struct sched_row *r)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < r->n; i++) {
        const struct sched_part *p = &r->parts[i];
        uint8_t bytes[PART_BYTES];
        struct name k = {1, {'P'}};
        big(&k, r->first + i, 4);
        small(bytes, p->era);
        small(bytes + 4, p->prev_era);
        small(bytes + 8, p->settled);
        small(bytes + 12, p->floor);
        rc = put(s, txn, &k, bytes, sizeof bytes);
    }
    return rc;
}

/* Registers of a bucket that is rebuilt. */
static int drop_bucket(struct sched_host_store *s, MDB_txn *txn, uint32_t bucket)
{
    MDB_cursor *c;
    int rc = mdb_cursor_open(txn, s->dbi, &c);
    if (rc != 0) {
        return proto_lmdb_code(rc);
    }
    uint8_t first = 'R';
    MDB_val k = {1, &first}, v;
    rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && k.mv_size == KEY_BYTES_MAX && *(uint8_t *)k.mv_data == 'R') {
        const uint8_t *p = k.mv_data;
        struct sched_key key = {0, 0};
        for (int i = 1; i <= 8; i++) {
            key.hi = key.hi << 8 | p[i];
        }
        if (sched_part_bucket(sched_key_part(key, s->pbits), s->pbits) == bucket) {
            rc = mdb_cursor_del(c, 0);
        }
        rc = rc != 0 ? rc : mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : proto_lmdb_code(rc);
}

static int put_row(struct sched_host_store *s, MDB_txn *txn, const struct sched_row *r)
{
    if (r->kind == SCHED_ROW_META) {
        return 0;
    }
    if (r->kind == SCHED_ROW_PARTS) {
        return put_parts(s, txn, r);
    }
    struct name k = name_of(r);
    if (r->erase) {
        MDB_val key = {k.n, k.b};
        int rc = mdb_del(txn, s->dbi, &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : proto_lmdb_code(rc);
    }
    int n = sched_wire_row_encode(r, s->bytes, sizeof s->bytes);
    int rc = n < 0 ? n : put(s, txn, &k, s->bytes, (size_t)n);
    return rc == 0 && r->kind == SCHED_ROW_BASE ? drop_bucket(s, txn, r->first) : rc;
}

static int finish(MDB_txn *txn, int rc)
{
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return proto_lmdb_code(mdb_txn_commit(txn));
}

int sched_host_store_step(struct sched_host_store *s, const struct sched_fx *fx)
{
    MDB_txn *txn = NULL;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < fx->n; i++) {
        bool kill = fx->items[i].kind == SCHED_FX_KILL_ALL;
        if (!kill && fx->items[i].kind != SCHED_FX_STORE) {
            continue;
        }
        rc = txn == NULL ? proto_lmdb_code(mdb_txn_begin(s->env, NULL, 0, &txn)) : 0;
        if (rc == 0) {
            rc = kill ? proto_lmdb_code(mdb_drop(txn, s->dbi, 0))
                      : put_row(s, txn, &fx->items[i].row);
        }
    }
    return txn == NULL ? rc : finish(txn, rc);
}

/* ---- reading ---- */

static int read_row(struct sched_host_store *s, const MDB_val *k, const MDB_val *v,
    void (*fn)(void *ctx, const struct sched_row *row), void *ctx)
{
    const uint8_t *key = k->mv_data;
    struct sched_row row = {0};
    struct sched_part part;
    if (key[0] == 'L') {
        return 0;
    }
    if (key[0] == 'P') {
        const uint8_t *p = v->mv_data;
        uint32_t at = k->mv_size == 5 ? (uint32_t)key[1] << 24 | (uint32_t)key[2] << 16 |
                                            (uint32_t)key[3] << 8 | key[4]
                                      : UINT32_MAX;
        if (v->mv_size != PART_BYTES || at >= UINT32_C(1) << s->pbits) {
            return BASE_ECORRUPT;
        }
        part = (struct sched_part){
            read_small(p), read_small(p + 4), read_small(p + 8), read_small(p + 12)};
        row = (struct sched_row){.kind = SCHED_ROW_PARTS, .first = at, .n = 1, .parts = &part};
    } else {
        int rc = sched_wire_row_decode(v->mv_data, v->mv_size, &s->room, &row);
        if (rc != 0) {
            return rc == BASE_EVERSION ? rc : BASE_ECORRUPT;
        }
    }
    fn(ctx, &row);
    return 0;
}

/* The letters in the order in which rows are restored. */
static int read_letter(struct sched_host_store *s, MDB_cursor *c, uint8_t letter,
    void (*fn)(void *ctx, const struct sched_row *row), void *ctx)
{
    MDB_val k = {1, &letter}, v;
    int rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && *(uint8_t *)k.mv_data == letter) {
        int bad = read_row(s, &k, &v, fn, ctx);
        if (bad != 0) {
            return bad;
        }
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    return rc == 0 || rc == MDB_NOTFOUND ? 0 : proto_lmdb_code(rc);
}

int sched_host_store_each(
    struct sched_host_store *s, void (*fn)(void *ctx, const struct sched_row *row), void *ctx)
{
    static const uint8_t letters[] = "VPBRSX";
    MDB_txn *txn = NULL;
    MDB_cursor *c = NULL;
    int rc = proto_lmdb_code(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
    if (rc != 0) {
        return rc;
    }
    rc = proto_lmdb_code(mdb_cursor_open(txn, s->dbi, &c));
    for (unsigned i = 0; rc == 0 && letters[i] != 0; i++) {
        rc = read_letter(s, c, letters[i], fn, ctx);
    }
    if (c != NULL) {
        mdb_cursor_close(c);
    }
    mdb_txn_abort(txn);
    return rc;
}

static void count(void *ctx, const struct sched_row *row)
{
    struct sched_host_rows *n = ctx;
    n->sessions += row->kind == SCHED_ROW_SESS;
    n->registers += row->kind == SCHED_ROW_REG;
    n->executions += row->kind == SCHED_ROW_EXEC;
}

int sched_host_store_count(struct sched_host_store *s, struct sched_host_rows *ret)
{
    *ret = (struct sched_host_rows){0};
    return sched_host_store_each(s, count, ret);
}

uint32_t sched_host_store_life(struct sched_host_store *s)
{
    return s->life;
}

int sched_host_store_begin(struct sched_host_store *s, uint32_t life)
{
    MDB_txn *txn = NULL;
    struct name k = {1, {'L'}};
    uint8_t bytes[LIFE_BYTES];
    small(bytes, life);
    small(bytes + 4, s->pbits);
    memcpy(bytes + 8, s->boot, BOOT_BYTES);
    int rc = proto_lmdb_code(mdb_txn_begin(s->env, NULL, 0, &txn));
    if (rc != 0) {
        return rc;
    }
    rc = proto_lmdb_code(mdb_drop(txn, s->dbi, 0));
    rc = finish(txn, rc != 0 ? rc : put(s, txn, &k, bytes, sizeof bytes));
    s->life = rc == 0 ? life : s->life;
    return rc;
}

/* ---- life ---- */

static int open_env(struct sched_host_store *s, const char *path)
{
    MDB_txn *txn = NULL;
    int rc = mdb_env_create(&s->env);
    rc = rc != 0 ? rc : mdb_env_set_mapsize(s->env, MAP_BYTES);
    rc = rc != 0 ? rc : mdb_env_open(s->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    rc = rc != 0 ? rc : mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0) {
        return proto_lmdb_code(rc);
    }
    return finish(txn, proto_lmdb_code(mdb_dbi_open(txn, NULL, 0, &s->dbi)));
}

static int read_boot(struct sched_host_store *s, const char *told)
{
    if (told != NULL) {
        memcpy(s->boot, told, strnlen(told, BOOT_BYTES));
        return 0;
    }
    CLEANUP(base_closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, s->boot, BOOT_BYTES);
    return n == BOOT_BYTES ? 0 : n < 0 ? -errno : BASE_EIO;
}

static int read_life(struct sched_host_store *s, const char *path, struct base_error *err)
{
    MDB_txn *txn = NULL;
    uint8_t letter = 'L';
    MDB_val k = {1, &letter}, v;
    int rc = proto_lmdb_code(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
    if (rc != 0) {
        return base_fail(err, rc, "read '%s': %s", path, base_err_str(rc));
    }
    rc = proto_lmdb_code(mdb_get(txn, s->dbi, &k, &v));
    uint32_t pbits = s->pbits;
    const uint8_t *p = rc == 0 ? v.mv_data : NULL;
    if (rc == 0 && v.mv_size == LIFE_BYTES && memcmp(p + 8, s->boot, BOOT_BYTES) == 0) {
        s->life = read_small(p);
        pbits = read_small(p + 4);
    }
    mdb_txn_abort(txn);
    if (rc != 0 && rc != BASE_ENOTFOUND) {
        return base_fail(err, rc, "read '%s': %s", path, base_err_str(rc));
    }
    return pbits == s->pbits ? 0
                             : base_fail(err, BASE_ESTATE,
                                   "'%s' was written with partition_bits %u: end this worker's "
                                   "sessions and remove it first",
                                   path, pbits);
}

static int start(
    struct sched_host_store *s, const struct sched_host_store_cfg *cfg, struct base_error *err)
{
    struct sched_mem mem = {0};
    s->pbits = cfg->pbits;
    sched_wire_room_init(&s->room, cfg->members_max, &mem);
    s->room_mem = aligned_alloc(16, mem.used);
    int rc = s->room_mem == NULL ? BASE_ENOMEM : read_boot(s, cfg->boot);
    if (rc == 0) {
        mem = (struct sched_mem){.base = s->room_mem, .size = mem.used};
        sched_wire_room_init(&s->room, cfg->members_max, &mem);
        rc = mkdir(cfg->path, 0700) != 0 && errno != EEXIST ? -errno : open_env(s, cfg->path);
    }
    return rc == 0 ? read_life(s, cfg->path, err)
                   : base_fail(err, rc, "open '%s': %s", cfg->path, base_err_str(rc));
}

int sched_host_store_open(
    struct sched_host_store **ret, const struct sched_host_store_cfg *cfg, struct base_error *err)
{
    struct sched_host_store *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return base_fail(err, BASE_ENOMEM, "open '%s'", cfg->path);
    }
    int rc = start(s, cfg, err);
    if (rc != 0) {
        sched_host_store_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void sched_host_store_close(struct sched_host_store *s)
{
    if (s != NULL) {
        if (s->env != NULL) {
            mdb_env_close(s->env);
        }
        free(s->room_mem);
        free(s);
    }
}
