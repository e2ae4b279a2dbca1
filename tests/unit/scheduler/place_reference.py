#!/usr/bin/env python3
"""A second, independent implementation of the placement table, from the text of scheduler/core/place.h.
Without arguments: checks that it comes to the digests that test_place.c demands of the C code.
--table prints the logarithm table of place.c."""
import sys

M = (1 << 64) - 1
KEY = bytes(range(16))

# (pbits, members as (id, zone, weight), digest); the same ones stand in test_place.c
CASES = [
    (8, [(i, 0, 1) for i in range(1, 6)], 0x7d3c702c49973f51),
    (10, [(i * 1000003, i % 4, 1 + i % 7) for i in range(1, 41)], 0xb65b2f1f5c70fe43),
    (6, [(i * i + 17, i % 2, i % 3) for i in range(1, 31)], 0x2f788f766e63fc4a),
    (5, [(77, 5, 255), (78, 6, 1)], 0x7d9563a8acc37d38),
]


def rotl(x, b):
    return (x << b | x >> (64 - b)) & M


def siphash24(key, data):
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & M
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & M
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & M
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & M
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i:i + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 255
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def mix64(x):
    x = (x + 0x9e3779b97f4a7c15) & M
    x = ((x ^ x >> 30) * 0xbf58476d1ce4e5b9) & M
    x = ((x ^ x >> 27) * 0x94d049bb133111eb) & M
    return x ^ x >> 31


def exact_neglog2_q32(num, den):
    """round(-log2(num / den) * 2^32) for 1/2 <= num/den <= 1, by squaring 256-bit fixed point."""
    if num * 2 == den:
        return 1 << 32
    y, log = (den << 256) // num, 0
    for _ in range(72):
        y, log = y * y >> 256, log << 1
        if y >= 2 << 256:
            y, log = y >> 1, log | 1
    return (log + (1 << 39)) >> 40


TABLE = [exact_neglog2_q32(256 + i, 512) for i in range(257)]


def neglog2_q32(u):
    u = u or 1
    shift = 64 - u.bit_length()
    m = u << shift
    i, part = m >> 55 & 255, m >> 23 & 0xffffffff
    return (shift << 32) + TABLE[i] - ((TABLE[i] - TABLE[i + 1]) * part >> 32)


def group(p, members, salt):
    scored = sorted((neglog2_q32(mix64(mix64(p + 1) ^ mix64(i ^ salt))) // w, i, z) for i, z, w in members if w)
    seats = []
    while scored and len(seats) < 3:
        used = {z for _, _, z in seats}
        best = next((s for s in scored if s[2] not in used), scored[0])
        seats.append(best)
        scored.remove(best)
    return [i for _, i, _ in seats]


def digest(pbits, members):
    salt = siphash24(KEY, b"place/1")
    d = mix64(pbits)
    for p in range(1 << pbits):
        g = group(p, members, salt)
        d = mix64(d ^ len(g))
        for i in g:
            d = mix64(d ^ i)
    return d


def main():
    if sys.argv[1:] == ["--table"]:
        print(", ".join(f"0x{t:09x}" for t in TABLE))
        return 0
    assert siphash24(KEY, bytes(range(15))) == 0xa129ca6149be45e5
    bad = 0
    for pbits, members, want in CASES:
        got = digest(pbits, members)
        bad += got != want
        print(f"2^{pbits} partitions, {len(members)} members: {got:#018x}", "" if got == want else "is wrong")
    return bad != 0


sys.exit(main())
