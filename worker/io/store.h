#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "worker/core/list.h"

/* Ordered tables of small rows with group commit: what one turn of the loop writes is committed at
 * its end as a whole or not at all, and what must not be seen before (an answer, a byte of code to
 * a guest) waits for that. Two makes: LMDB files, and memory for tests and simulation; the same
 * contract test runs against both.
 *
 * One thread, one owner. The process must not fork while a store is open (posix_spawn is fine), and
 * must not open the same files twice. */
enum worker_store_table {
    WORKER_STORE_META,
    WORKER_STORE_SESSION,
    WORKER_STORE_VM,
    WORKER_STORE_EXEC,
    WORKER_STORE_EVENT, /* exec id, number (big endian): a serialised GuestEvent */
    WORKER_STORE_FENCE,
    WORKER_STORE_POOL,
    WORKER_STORE_TEMPLATE,
    WORKER_STORE_TABLE_END,
};

enum {
    WORKER_STORE_KEY_MAX = 256,
    WORKER_STORE_VALUE_MAX = 16 << 20,
    WORKER_STORE_FORMAT = 1, /* of the whole store; an unknown one is refused at open */
};

struct worker_store;

struct worker_store_config {
    const char *path;     /* folder, made with mode 0700 when absent (its parent must exist) */
    const char *kind;     /* "run" or "node": a store of another kind is refused */
    bool sync;            /* every commit reaches the disk; otherwise only this machine's memory */
    size_t map_bytes;     /* address space at first; grows before it is full; 0: 64 MiB */
    size_t map_bytes_max; /* 0: 64 GiB */
};

/* BASE_EVERSION with a text that says what to do when the store is of an unknown format;
 * BASE_ECORRUPT, BASE_EIO, -errno. */
int worker_store_open(
    const struct worker_store_config *config, struct worker_store **ret, struct base_error *err);
int worker_store_open_mem(struct worker_store **ret);

/* What is not committed is lost, who waits is not called any more. NULL is fine. */
void worker_store_close(struct worker_store *st);

/* A row. As a result it points into the store: valid until the next change, commit or close. */
struct worker_store_row {
    const uint8_t *key;
    size_t key_n;
    const uint8_t *value;
    size_t value_n;
};

/* Changes. 0, BASE_EINVAL (a length out of range), BASE_EFULL (map_bytes_max), BASE_ENOMEM,
 * BASE_EIO, -errno. After an error other than BASE_EINVAL the store has failed: nothing of this
 * turn will be committed and every later change and commit returns that error. To delete what is
 * not there is fine. */
int worker_store_put(
    struct worker_store *st, enum worker_store_table t, const struct worker_store_row *row);
int worker_store_del(
    struct worker_store *st, enum worker_store_table t, const void *key, size_t key_n);
int worker_store_del_prefix(
    struct worker_store *st, enum worker_store_table t, const void *prefix, size_t n);

/* The row of a key; the first row whose key is not smaller. Both see what is not yet committed.
 * 0, BASE_ENOTFOUND, BASE_EINVAL, BASE_EIO. */
int worker_store_get(struct worker_store *st, enum worker_store_table t, const void *key,
    size_t key_n, struct worker_store_row *ret);
int worker_store_seek(struct worker_store *st, enum worker_store_table t, const void *key,
    size_t key_n, struct worker_store_row *ret);

/* Calls row() for each row whose key starts with the prefix (n 0: all), in order, until it returns
 * other than 0, which is then returned. row() may change the store. */
int worker_store_each(struct worker_store *st, enum worker_store_table t, const void *prefix,
    size_t n, int (*row)(void *user, const struct worker_store_row *row), void *user);

/* Numbers in the META table; an absent one is 0. */
int worker_store_meta_put(struct worker_store *st, const char *name, uint64_t value);
int worker_store_meta_get(struct worker_store *st, const char *name, uint64_t *ret);

/* One number, committed. After an error it is what it was, and may be tried again: a disk that was
 * full can have room. Only where nothing else of this turn is in the store. */
int worker_store_meta_set(struct worker_store *st, const char *name, uint64_t value);

/* Something that waits for the next commit. Embedded in its owner, one use at a time. */
struct worker_store_wait {
    struct worker_list link;
    void (*done)(struct worker_store_wait *w, int rc); /* rc of the commit */
};

/* done() is called after the next commit, never from inside this call. */
void worker_store_wait_init(struct worker_store_wait *w);
void worker_store_after(struct worker_store *st, struct worker_store_wait *w,
    void (*done)(struct worker_store_wait *w, int rc));
void worker_store_wait_cancel(struct worker_store_wait *w);

/* Commits now (nothing to do is fine) and then calls who waits. Returns the commit's result. */
int worker_store_commit(struct worker_store *st);

/* Drops what is not committed, as a crash would. For tests. */
void worker_store_abort(struct worker_store *st);

/* Commits at the end of each turn of the loop that changed something, and looks for dead readers
 * every minute. fail() is called once when the store has failed: the process should end, its
 * successor takes over from the last commit. */
void worker_store_attach(
    struct worker_store *st, struct ev_loop *loop, void (*fail)(void *user, int rc), void *user);

/* The kernel's boot id, 36 characters. BASE_EIO. */
enum { WORKER_STORE_BOOT_ID = 36 };
int worker_store_boot_id(char ret[WORKER_STORE_BOOT_ID + 1]);
