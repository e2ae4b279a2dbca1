#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The placement algorithms that bench_placement compares, behind one face. Nodes are numbers
 * 0..n-1; a key is the 64-bit hash of an identifier. All were written for this comparison from
 * their papers or descriptions, and all mix with base_hash_mix64(). */

struct bench_placer {
    const char *name;
    bool minimal;                   /* a leave moves the leaver's keys only */
    bool returns;                   /* a join after the leave gives back the very same places */
    void *(*create)(uint32_t room); /* for so many nodes */
    void (*build)(void *s, uint32_t n);
    void (*leave)(void *s, uint32_t node);
    void (*join)(void *s, uint32_t node); /* the node that left last */
    void (*locate)(const void *s, const uint64_t *key, uint32_t *node, size_t n);
    size_t (*bytes)(const void *s);
    void (*destroy)(void *s);
};

extern const struct bench_placer bench_placer_ring, bench_placer_ring_indexed, bench_placer_jump,
    bench_placer_maglev, bench_placer_anchor, bench_placer_rendezvous;
