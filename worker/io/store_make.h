#pragma once
#include "worker/io/store.h"

/* What a make of store provides (store_lmdb.c, store_mem.c) to store.c. Arguments were checked. */
struct worker_store_ops {
    int (*put)(
        struct worker_store *st, enum worker_store_table t, const struct worker_store_row *row);
    int (*del)(struct worker_store *st, enum worker_store_table t, const void *key, size_t key_n);
    int (*del_prefix)(struct worker_store *st, enum worker_store_table t, const void *p, size_t n);
    int (*seek)(struct worker_store *st, enum worker_store_table t,
        const struct worker_store_row *key, struct worker_store_row *ret);
    int (*commit)(struct worker_store *st);
    void (*abort)(struct worker_store *st);
    void (*check)(struct worker_store *st);
    void (*close)(struct worker_store *st); /* frees it */
};

struct worker_store {
    const struct worker_store_ops *ops;
    struct worker_list waits;
    bool dirty;
    int failed;
    struct ev_loop *loop; /* NULL: not attached */
    struct ev_prepare prepare;
    struct ev_idle again;
    struct ev_timer minute;
    void (*fail)(void *user, int rc);
    void *fail_user;
};

void worker_store_init(struct worker_store *st, const struct worker_store_ops *ops);
