#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* node.mdb: the few things that a node must not forget, in LMDB and synced to the disk with every
 * commit. Keys are words; values of at most SCHED_NODE_DB_VALUE_MAX bytes. Changes are collected
 * until they are committed together. One process at a time has the file open. */
struct sched_node_db;

enum { SCHED_NODE_DB_VALUE_MAX = 1 << 20 };

/* Makes folder and file when they are missing. BASE_ESTATE: another process has it. BASE_ECORRUPT.
 */
int sched_node_db_open(struct sched_node_db **ret, const char *path, struct base_error *err);
void sched_node_db_close(struct sched_node_db *db); /* NULL is fine; drops what is uncommitted */

int sched_node_db_put(struct sched_node_db *db, const char *key, const void *value, size_t n);

/* 0 with *ret pointing into the store until the next call, or BASE_ENOTFOUND. Sees what was put. */
int sched_node_db_get(
    struct sched_node_db *db, const char *key, const uint8_t **ret, size_t *ret_n);

/* When this returns 0 everything that was put survives a loss of power. Else nothing of it was
 * written, and the store must not be used any more. */
int sched_node_db_commit(struct sched_node_db *db);

/* Numbers as 8 bytes. 0 with *ret, which is `otherwise` when there is none; BASE_ECORRUPT: what is
 * there is no number; whatever else keeps it from being read. */
int sched_node_db_number(
    struct sched_node_db *db, const char *key, uint64_t otherwise, uint64_t *ret);
int sched_node_db_set_number(struct sched_node_db *db, const char *key, uint64_t value);
