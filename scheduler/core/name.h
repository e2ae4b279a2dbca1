#pragma once
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/ids.h"

/* The key of an identifier of a pool. hi is sched_place_key() and thereby the partition; lo is the
 * same under another secret made from `key`, with the pool's number in the place of its lowest
 * bits. BASE_ETOOBIG as there. */
int sched_name_key(
    const uint8_t key[16], const char *pool, const char *id, size_t id_n, struct sched_key *ret);
