#include "worker/io/store.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "worker/io/store_make.h"

enum { ROUNDS_MAX = 16 }; /* commits in one turn, when those released write again */

void worker_store_init(struct worker_store *st, const struct worker_store_ops *ops)
{
    memset(st, 0, sizeof *st);
    st->ops = ops;
    worker_list_init(&st->waits);
}

void worker_store_close(struct worker_store *st)
{
    if (st == NULL) {
        return;
    }
    if (st->loop != NULL) {
        ev_prepare_stop(st->loop, &st->prepare);
        ev_idle_stop(st->loop, &st->again);
        ev_timer_stop(st->loop, &st->minute);
    }
    struct worker_list *l;
    while ((l = worker_list_first(&st->waits)) != NULL) {
        worker_list_remove(l);
    }
    st->ops->close(st);
}

static int changed(struct worker_store *st, int rc)
{
    if (rc != 0) {
        st->failed = rc;
        st->ops->abort(st);
    }
    st->dirty = true;
    return rc;
}

static bool key_valid(const void *key, size_t n)
{
    return key != NULL && n > 0 && n <= WORKER_STORE_KEY_MAX;
}

int worker_store_put(
    struct worker_store *st, enum worker_store_table t, const struct worker_store_row *row)
{
    if (!key_valid(row->key, row->key_n) || row->value_n > WORKER_STORE_VALUE_MAX) {
        return BASE_EINVAL;
    }
    return st->failed != 0 ? st->failed : changed(st, st->ops->put(st, t, row));
}

int worker_store_del(
    struct worker_store *st, enum worker_store_table t, const void *key, size_t key_n)
{
    if (!key_valid(key, key_n)) {
        return BASE_EINVAL;
    }
    return st->failed != 0 ? st->failed : changed(st, st->ops->del(st, t, key, key_n));
}

int worker_store_del_prefix(
    struct worker_store *st, enum worker_store_table t, const void *prefix, size_t n)
{
    if (!key_valid(prefix, n)) {
        return BASE_EINVAL;
    }
    return st->failed != 0 ? st->failed : changed(st, st->ops->del_prefix(st, t, prefix, n));
}

int worker_store_seek(struct worker_store *st, enum worker_store_table t, const void *key,
    size_t key_n, struct worker_store_row *ret)
{
    if (!key_valid(key, key_n)) {
        return BASE_EINVAL;
    }
    struct worker_store_row k = {.key = key, .key_n = key_n};
    return st->ops->seek(st, t, &k, ret);
}

int worker_store_get(struct worker_store *st, enum worker_store_table t, const void *key,
    size_t key_n, struct worker_store_row *ret)
{
    struct worker_store_row found;
    int rc = worker_store_seek(st, t, key, key_n, &found);
    if (rc != 0) {
        return rc;
    }
    if (found.key_n != key_n || memcmp(found.key, key, key_n) != 0) {
        return BASE_ENOTFOUND;
    }
    *ret = found;
    return 0;
}

int worker_store_each(struct worker_store *st, enum worker_store_table t, const void *prefix,
    size_t n, int (*row)(void *user, const struct worker_store_row *row), void *user)
{
    /* The key of the last row and a zero byte is the smallest larger key. */
    uint8_t at[WORKER_STORE_KEY_MAX + 1] = {0};
    size_t at_n = n > 0 ? n : 1;
    if (n > WORKER_STORE_KEY_MAX) {
        return BASE_EINVAL;
    }
    if (n > 0) {
        memcpy(at, prefix, n);
    }
    for (;;) {
        struct worker_store_row r, from = {.key = at, .key_n = at_n};
        int rc = st->ops->seek(st, t, &from, &r);
        if (rc == BASE_ENOTFOUND ||
            (rc == 0 && n > 0 && (r.key_n < n || memcmp(r.key, prefix, n) != 0))) {
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
        memcpy(at, r.key, r.key_n);
        at[r.key_n] = 0;
        at_n = r.key_n + 1;
        rc = row(user, &r);
        if (rc != 0) {
            return rc;
        }
    }
}

int worker_store_meta_put(struct worker_store *st, const char *name, uint64_t value)
{
    uint8_t raw[8];
    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] = (uint8_t)(value >> (8 * i));
    }
    struct worker_store_row r = {
        .key = (const uint8_t *)name, .key_n = strlen(name), .value = raw, .value_n = sizeof raw};
    return worker_store_put(st, WORKER_STORE_META, &r);
}

int worker_store_meta_get(struct worker_store *st, const char *name, uint64_t *ret)
{
    struct worker_store_row r;
    int rc = worker_store_get(st, WORKER_STORE_META, name, strlen(name), &r);
    uint64_t v = 0;
    if (rc == 0 && r.value_n != 8) {
        return BASE_ECORRUPT;
    }
    for (size_t i = 8; rc == 0 && i > 0; i--) {
        v = v << 8 | r.value[i - 1];
    }
    if (rc != 0 && rc != BASE_ENOTFOUND) {
        return rc;
    }
    *ret = v;
    return 0;
}

/* --- commit -------------------------------------------------------------------------------- */

void worker_store_wait_init(struct worker_store_wait *w)
{
    worker_list_init(&w->link);
    w->done = NULL;
}

void worker_store_after(struct worker_store *st, struct worker_store_wait *w,
    void (*done)(struct worker_store_wait *w, int rc))
{
    w->done = done;
    worker_list_remove(&w->link);
    worker_list_append(&st->waits, &w->link);
}

void worker_store_wait_cancel(struct worker_store_wait *w)
{
    worker_list_remove(&w->link);
}

int worker_store_commit(struct worker_store *st)
{
    int rc = st->failed;
    if (rc == 0 && st->dirty) {
        rc = st->ops->commit(st);
        st->failed = rc;
    }
    st->dirty = false;
    /* Those that come while these are called wait for the next commit. */
    struct worker_list now;
    worker_list_init(&now);
    worker_list_splice(&now, &st->waits);
    struct worker_list *l;
    while ((l = worker_list_first(&now)) != NULL) {
        worker_list_remove(l);
        struct worker_store_wait *w = CONTAINER_OF(l, struct worker_store_wait, link);
        w->done(w, rc);
    }
    if (rc != 0 && st->fail != NULL) {
        void (*fail)(void *, int) = st->fail;
        st->fail = NULL;
        fail(st->fail_user, rc);
    }
    return rc;
}

int worker_store_meta_set(struct worker_store *st, const char *name, uint64_t value)
{
    int rc = worker_store_meta_put(st, name, value);
    rc = rc != 0 ? rc : worker_store_commit(st);
    if (rc != 0) {
        worker_store_abort(st);
        st->failed = 0;
    }
    return rc;
}

void worker_store_abort(struct worker_store *st)
{
    st->ops->abort(st);
    st->dirty = false;
}

static void on_again(struct ev_loop *loop, struct ev_idle *w, int events)
{
    (void)events;
    ev_idle_stop(loop, w);
}

static void on_prepare(struct ev_loop *loop, struct ev_prepare *w, int events)
{
    (void)events;
    struct worker_store *st = CONTAINER_OF(w, struct worker_store, prepare);
    for (int i = 0; i < ROUNDS_MAX; i++) {
        if (!st->dirty && worker_list_empty(&st->waits)) {
            return;
        }
        (void)worker_store_commit(st);
    }
    ev_idle_start(loop, &st->again); /* go on without sleeping */
}

static void on_minute(struct ev_loop *loop, struct ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct worker_store *st = CONTAINER_OF(w, struct worker_store, minute);
    st->ops->check(st);
}

void worker_store_attach(
    struct worker_store *st, struct ev_loop *loop, void (*fail)(void *user, int rc), void *user)
{
    st->loop = loop;
    st->fail = fail;
    st->fail_user = user;
    ev_prepare_init(&st->prepare, on_prepare);
    /* After other prepare watchers: they may write. */
    /* Behind all that store, before the network: what waited for the commit leaves in this turn. */
    ev_set_priority(&st->prepare, EV_MINPRI + 1);
    ev_prepare_start(loop, &st->prepare);
    ev_idle_init(&st->again, on_again);
    ev_timer_init(&st->minute, on_minute, 60., 60.);
    ev_timer_start(loop, &st->minute);
}

int worker_store_boot_id(char ret[WORKER_STORE_BOOT_ID + 1])
{
    CLEANUP(base_closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char text[WORKER_STORE_BOOT_ID];
    if (fd < 0 || read(fd, text, sizeof text) != (ssize_t)sizeof text) {
        return BASE_EIO;
    }
    memcpy(ret, text, sizeof text);
    ret[WORKER_STORE_BOOT_ID] = '\0';
    return 0;
}
