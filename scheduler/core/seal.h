#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The rules of sealed datagrams, without the cryptography (that is scheduler/io/aead.h):
 *
 *     u8 version | u8 key | u8 flags | u8 0 | u64 sender | u32 boot | u64 counter | body | tag 16
 *
 * little endian. AES-256-GCM under HKDF-SHA256(ring key, "warren gossip 1" ‖ cluster ‖ sender ‖
 * boot), nonce = 0³² ‖ counter, authenticated with it: the head and the receiver's id. A sender
 * never uses a counter twice under a key: it counts up from the milliseconds since 1970 at its
 * start times 2^20, so even two lives with the same boot number differ as long as its clock is not
 * set back. */
enum {
    SCHED_SEAL_VERSION = 1,
    SCHED_SEAL_HEAD_BYTES = 24,
    SCHED_SEAL_TAG_BYTES = 16,
    SCHED_SEAL_KEY_BYTES = 32,
    SCHED_SEAL_NONCE_BYTES = 12,
    SCHED_SEAL_AAD_BYTES = SCHED_SEAL_HEAD_BYTES + 8,
    SCHED_SEAL_CLUSTER_BYTES = 16,
    SCHED_SEAL_INFO_BYTES = 15 + SCHED_SEAL_CLUSTER_BYTES + 8 + 4,
    SCHED_SEAL_WINDOW = 1024, /* how far a datagram may be late, in counters */
    SCHED_SEAL_KEYS = 3,
};

struct sched_seal_head {
    uint8_t key;
    uint8_t flags;
    uint32_t boot;
    uint64_t sender;
    uint64_t counter;
};

void sched_seal_head_put(uint8_t out[SCHED_SEAL_HEAD_BYTES], const struct sched_seal_head *h);

/* The head of a datagram of n bytes. BASE_EBADMSG: too short for head and tag, or sender 0.
 * BASE_EVERSION. */
int sched_seal_head_get(struct sched_seal_head *h, const uint8_t *bytes, size_t n);

void sched_seal_nonce(uint8_t out[SCHED_SEAL_NONCE_BYTES], uint64_t counter);
void sched_seal_aad(
    uint8_t out[SCHED_SEAL_AAD_BYTES], const struct sched_seal_head *h, uint64_t receiver);
void sched_seal_info(uint8_t out[SCHED_SEAL_INFO_BYTES],
    const uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES], uint64_t sender, uint32_t boot);

/* First counter of a life that starts at this time. */
uint64_t sched_seal_first_counter(uint64_t real_ms);

/* Up to three keys, so that a cluster changes its key without a gap: install the new one
 * everywhere, use it everywhere, remove the old one everywhere. */
struct sched_seal_ring {
    struct {
        uint8_t id;
        bool used;
        uint8_t key[SCHED_SEAL_KEY_BYTES];
    } slots[SCHED_SEAL_KEYS];
    uint8_t primary; /* slot that seals; meaningless while n is 0 */
    uint8_t n;
};

/* The first key installed is used at once. 0 too when the very key is there already. BASE_EEXISTS:
 * another key has this id. BASE_EFULL: three are there. */
int sched_seal_ring_install(
    struct sched_seal_ring *r, uint8_t id, const uint8_t key[SCHED_SEAL_KEY_BYTES]);

/* BASE_ENOTFOUND. */
int sched_seal_ring_use(struct sched_seal_ring *r, uint8_t id);

/* Overwrites the key. BASE_ENOTFOUND; BASE_ESTATE: it is the one in use. */
int sched_seal_ring_remove(struct sched_seal_ring *r, uint8_t id);

/* -1: there is none with this id. */
int sched_seal_ring_slot(const struct sched_seal_ring *r, uint8_t id);

/* NULL: there is none with this id. */
const uint8_t *sched_seal_ring_key(const struct sched_seal_ring *r, uint8_t id);

/* What a receiver remembers of one sender. All zero: nothing yet. */
struct sched_seal_sender {
    uint64_t top;      /* largest counter of this life */
    uint64_t heard_ms; /* receiver's clock */
    uint32_t boot;
    bool known;
    uint64_t window[SCHED_SEAL_WINDOW / 64]; /* bit c % 1024: counter c has been received */
};

enum { SCHED_SEAL_SILENCE_MS = 10000 };

enum sched_seal_verdict {
    SCHED_SEAL_REFUSE, /* received before, too old, or an old life: not worth opening */
    SCHED_SEAL_SAME,   /* acceptable in the life that is known */
    SCHED_SEAL_NEW,    /* acceptable as the start of a new life */
};

/* What to think of a head before the datagram is opened. Another life is believed when its counter
 * is beyond all of the known one, which a replay's is not; or when the known one has been silent
 * for SCHED_SEAL_SILENCE_MS, for a sender whose clock was set back. */
enum sched_seal_verdict sched_seal_judge(
    const struct sched_seal_sender *s, const struct sched_seal_head *h, uint64_t now_ms);

/* Notes a datagram that was opened and that judge did not refuse. */
void sched_seal_note(struct sched_seal_sender *s, const struct sched_seal_head *h, uint64_t now_ms);
