#pragma once
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/io/catalog.h"

/* The catalogue that a worker heard last, in a file: after a restart its pools are there before the
 * voters have said anything, so that their microVMs are taken over. */
struct worker_catalog_file {
    char path[512];
    const struct base_log *log;
    uint8_t cluster_key[16];
    uint64_t version, birth; /* of the catalogue in it; 0: there is none */
};

/* *ret NULL: there is none, or none that is good and of this cluster. The caller owns it. */
int worker_catalog_file_load(
    struct worker_catalog_file *f, struct sched_catalog **ret, struct base_error *err);

/* The catalogue as it is now; NULL: what was in the file is not of this cluster. 0, or why the file
 * is as it was (a full disk, say): to be tried again, or who starts next does not know of a pool
 * whose sessions run here. */
int worker_catalog_file_keep(struct worker_catalog_file *f, const struct sched_catalog *known);
