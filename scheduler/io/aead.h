#pragma once
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/seal.h"

/* AES-256-GCM under the key of one sender and life, made from a key of the ring. See core/seal.h
 * for the format. Keeps its key schedule: sealing and opening 128 bytes costs a quarter of a
 * microsecond each. Not thread-safe. */
struct sched_aead;

/* NULL: memory is out. */
struct sched_aead *sched_aead_create(const uint8_t ring_key[SCHED_SEAL_KEY_BYTES],
    const uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES], uint64_t sender, uint32_t boot);
void sched_aead_destroy(struct sched_aead *a); /* NULL is fine */

/* Writes head, sealed body and tag: n + SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES bytes. The
 * caller never gives the same h->counter twice. 0 or BASE_ENOMEM. */
int sched_aead_seal(struct sched_aead *a, const struct sched_seal_head *h, uint64_t receiver,
    const uint8_t *body, size_t n, uint8_t *out);

/* Opens a whole datagram of n bytes whose head was read into *h. out has room for the body (n less
 * head and tag) and does not overlap.
 * BASE_EDENIED: not sealed so, or not for receiver; out may have been written to. */
int sched_aead_open(struct sched_aead *a, const struct sched_seal_head *h, uint64_t receiver,
    const uint8_t *bytes, size_t n, uint8_t *out);
