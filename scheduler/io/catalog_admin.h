#pragma once
#include "proto/base/buf.h"
#include "scheduler/core/msg.h"
#include "scheduler/io/catalog.h"

/* What administrators ask a voter about the catalogue, as JSON with "do" and an "id" that the
 * answer repeats:
 *
 *   {"do":"list"}                              {"result":"ok","catalog":V,"entries":[...]}
 *   {"do":"get","key":K}                       {"result":"ok","catalog":V,"entry":{...}},
 * "not-found"
 *   {"do":"set","key":K,"value":TEXT,"expect":V}   "expect" may be missing: any
 *   {"do":"delete","key":K,"expect":V}
 *
 * The first two may be answered "later", by a voter that has just started.
 *
 * The last two are answered when the voters have agreed: {"result":"ok","version":V,
 * "warnings":TEXT}, "conflict" with the "version" that there is (0: none), "not-found", "full",
 * "invalid" with "error", "later". They may have a "change", 16 hex digits that no other change
 * has: asked for again with it, also at another voter, it is not made again.
 *
 * All of them are answered "version" with "error" while the cluster is at a version of the messages
 * that has no catalogue. */

enum { SCHED_CATALOG_ID_MAX = 64 };

/* A change that waits for the voters. */
struct sched_catalog_order {
    struct sched_catalog_order *next;
    uint64_t from, op, since_ns;
    char id[SCHED_CATALOG_ID_MAX + 1];
    char *warnings; /* NULL: none */
};

struct sched_catalog_ask {
    const char *text;                  /* the question */
    const struct sched_catalog *known; /* NULL: this voter knows none */
    bool unsure;                /* there may be one: with known NULL, reading is answered "later" */
    const char *held;           /* why the cluster has none yet; NULL: it may have one */
    const uint8_t *cluster_key; /* 16 bytes */
};

/* Answers, or makes a CSET for the voter core (to and from are the caller's; it is valid until the
 * order is dropped) and an order for its answer, which the caller owns. False: it was answered. */
struct sched_catalog_wish {
    struct sched_msg set;
    struct sched_catalog_order *order;
    void *memory;
};
bool sched_catalog_admin(
    const struct sched_catalog_ask *ask, struct sched_catalog_wish *ret, struct base_buf *to);
void sched_catalog_wish_deinit(struct sched_catalog_wish *w); /* not the order */

/* The answer to an order. */
void sched_catalog_answer(const struct sched_catalog_order *o, enum sched_cat_result result,
    uint64_t version, struct base_buf *to);
void sched_catalog_order_drop(struct sched_catalog_order *o);
