#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/log.h"
#include "scheduler/core/msg.h"
#include "scheduler/io/catalog.h"
#include "scheduler/io/cluster.h"
#include "scheduler/io/settings.h"

/* A worker's or gateway's copy of the catalogue: asks one voter after another whether it knows a
 * newer one, and has entries changed. A change is here within about two seconds.
 *
 * What it knows from before may be of a cluster that is no more, when this one was made anew beside
 * its file: it is given up for a catalogue of another birth, whatever its version, and when a
 * majority of the voters says that nothing was ever in it. */
struct sched_catalog_client;

struct sched_catalog_client_cfg {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct sched_settings *settings;
    struct sched_cluster *cluster;
    const struct sched_catalog *first; /* known from before; copied; NULL: none */
    void (*changed)(void *user);       /* also when there is none any more; NULL is fine */
    void (*empty)(void *user);         /* a voter says that nothing was ever in it; NULL is fine */
    uint32_t patience_ms;              /* with a change; 0: 8 s */
    void *user;
};

int sched_catalog_client_create(
    struct sched_catalog_client **ret, const struct sched_catalog_client_cfg *cfg);
void sched_catalog_client_destroy(struct sched_catalog_client *c); /* NULL is fine */

/* NULL: none was heard of, or it is empty. Until changed() or the next turn of the loop. */
const struct sched_catalog *sched_catalog_client_now(const struct sched_catalog_client *c);

/* Nothing was ever in it: so says a majority of the voters, and nobody anything else. */
bool sched_catalog_client_empty(const struct sched_catalog_client *c);

/* Messages for it; false: it is not one. */
bool sched_catalog_client_take(struct sched_catalog_client *c, const struct sched_msg *m);

/* Puts a value under a key whose entry has the version `expect` (0: there is none). done() comes
 * from the loop, once: 0, when the copy here has it too; BASE_ESTATE: the entry has another
 * version; BASE_EINVAL, BASE_EFULL; BASE_ETIMEOUT: no majority of voters; it may be done yet. */
struct sched_catalog_put {
    const char *key, *value; /* copied */
    uint64_t expect;
    void (*done)(void *ctx, int rc);
    void *ctx;
};
int sched_catalog_client_put(struct sched_catalog_client *c, const struct sched_catalog_put *put);

/* done() does not come any more. */
void sched_catalog_client_forget(struct sched_catalog_client *c, const void *ctx);
