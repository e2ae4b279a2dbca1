#pragma once
#include <stddef.h>
#include <stdint.h>

/* SipHash-2-4 of n bytes under a 16-byte key (Aumasson, Bernstein 2012). Keyed: who does not know
 * the key cannot aim at a bucket or a host. */
uint64_t base_hash_sip24(const uint8_t key[16], const void *data, size_t n);

/* Bijective 64-bit mixer (the finaliser of SplitMix64). */
static inline uint64_t base_hash_mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Deterministic generator for the cores (xoshiro256**): state is data, seeded by the caller. */
struct base_hash_rng {
    uint64_t s[4];
};

void base_hash_rng_seed(struct base_hash_rng *r, uint64_t seed);
uint64_t base_hash_rng_next(struct base_hash_rng *r);

/* Uniform in [0, n), n > 0. */
uint64_t base_hash_rng_below(struct base_hash_rng *r, uint64_t n);
