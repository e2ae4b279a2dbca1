#include "scheduler/core/seal.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"
#include "scheduler/core/mutant.h"

static void put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

void sched_seal_head_put(uint8_t out[SCHED_SEAL_HEAD_BYTES], const struct sched_seal_head *h)
{
    out[0] = SCHED_SEAL_VERSION;
    out[1] = h->key;
    out[2] = h->flags;
    out[3] = 0;
    put(out + 4, h->sender, 8);
    put(out + 12, h->boot, 4);
    put(out + 16, h->counter, 8);
}

int sched_seal_head_get(struct sched_seal_head *h, const uint8_t *bytes, size_t n)
{
    if (n < SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES) {
        return BASE_EBADMSG;
    }
    if (bytes[0] != SCHED_SEAL_VERSION) {
        return BASE_EVERSION;
    }
    *h = (struct sched_seal_head){.key = bytes[1],
        .flags = bytes[2],
        .sender = get(bytes + 4, 8),
        .boot = (uint32_t)get(bytes + 12, 4),
        .counter = get(bytes + 16, 8)};
    return h->sender == 0 || bytes[3] != 0 ? BASE_EBADMSG : 0;
}

void sched_seal_nonce(uint8_t out[SCHED_SEAL_NONCE_BYTES], uint64_t counter)
{
    put(out, 0, 4);
    put(out + 4, counter, 8);
}

void sched_seal_aad(
    uint8_t out[SCHED_SEAL_AAD_BYTES], const struct sched_seal_head *h, uint64_t receiver)
{
    sched_seal_head_put(out, h);
    put(out + SCHED_SEAL_HEAD_BYTES, receiver, 8);
}

void sched_seal_info(uint8_t out[SCHED_SEAL_INFO_BYTES],
    const uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES], uint64_t sender, uint32_t boot)
{
    static const char label[] = "warren gossip 1";
    _Static_assert(sizeof label - 1 == 15, "SCHED_SEAL_INFO_BYTES counts it");
    memcpy(out, label, sizeof label - 1);
    memcpy(out + 15, cluster, SCHED_SEAL_CLUSTER_BYTES);
    put(out + 15 + SCHED_SEAL_CLUSTER_BYTES, sender, 8);
    put(out + 15 + SCHED_SEAL_CLUSTER_BYTES + 8, boot, 4);
}

uint64_t sched_seal_first_counter(uint64_t real_ms)
{
    return real_ms << 20;
}

int sched_seal_ring_slot(const struct sched_seal_ring *r, uint8_t id)
{
    for (int i = 0; i < SCHED_SEAL_KEYS; i++) {
        if (r->slots[i].used && r->slots[i].id == id) {
            return i;
        }
    }
    return -1;
}

int sched_seal_ring_install(
    struct sched_seal_ring *r, uint8_t id, const uint8_t key[SCHED_SEAL_KEY_BYTES])
{
    int at = sched_seal_ring_slot(r, id);
    if (at >= 0) {
        return memcmp(r->slots[at].key, key, SCHED_SEAL_KEY_BYTES) == 0 ? 0 : BASE_EEXISTS;
    }
    for (int i = 0; i < SCHED_SEAL_KEYS; i++) {
        if (!r->slots[i].used) {
            r->slots[i].used = true;
            r->slots[i].id = id;
            memcpy(r->slots[i].key, key, SCHED_SEAL_KEY_BYTES);
            r->primary = r->n++ == 0 ? (uint8_t)i : r->primary;
            return 0;
        }
    }
    return BASE_EFULL;
}

int sched_seal_ring_use(struct sched_seal_ring *r, uint8_t id)
{
    int at = sched_seal_ring_slot(r, id);
    if (at < 0) {
        return BASE_ENOTFOUND;
    }
    r->primary = (uint8_t)at;
    return 0;
}

int sched_seal_ring_remove(struct sched_seal_ring *r, uint8_t id)
{
    int at = sched_seal_ring_slot(r, id);
    if (at < 0) {
        return BASE_ENOTFOUND;
    }
    if (at == r->primary) {
        return BASE_ESTATE;
    }
    r->slots[at].used = false;
    r->n--;
    volatile uint8_t *key = r->slots[at].key; /* must not be optimised away */
    for (unsigned i = 0; i < SCHED_SEAL_KEY_BYTES; i++) {
        key[i] = 0;
    }
    return 0;
}

const uint8_t *sched_seal_ring_key(const struct sched_seal_ring *r, uint8_t id)
{
    int at = sched_seal_ring_slot(r, id);
    return at < 0 ? NULL : r->slots[at].key;
}

static bool received(const struct sched_seal_sender *s, uint64_t counter)
{
    if (MUTANT(116)) { /* nothing is a replay */
        return false;
    }
    unsigned bit = (unsigned)(counter % SCHED_SEAL_WINDOW);
    return s->window[bit / 64] >> (bit % 64) & 1;
}

enum sched_seal_verdict sched_seal_judge(
    const struct sched_seal_sender *s, const struct sched_seal_head *h, uint64_t now_ms)
{
    if (!s->known) {
        return SCHED_SEAL_NEW;
    }
    if (h->boot != s->boot) {
        bool silent = now_ms > s->heard_ms && now_ms - s->heard_ms >= SCHED_SEAL_SILENCE_MS;
        return h->counter > s->top || silent || MUTANT(117) ? SCHED_SEAL_NEW : SCHED_SEAL_REFUSE;
    }
    if (h->counter > s->top) {
        return SCHED_SEAL_SAME;
    }
    bool old = s->top - h->counter >= SCHED_SEAL_WINDOW;
    return old || received(s, h->counter) ? SCHED_SEAL_REFUSE : SCHED_SEAL_SAME;
}

void sched_seal_note(struct sched_seal_sender *s, const struct sched_seal_head *h, uint64_t now_ms)
{
    if (!s->known || h->boot != s->boot) {
        *s = (struct sched_seal_sender){.boot = h->boot, .known = true, .top = h->counter};
    }
    if (h->counter > s->top) {
        uint64_t steps = h->counter - s->top;
        if (steps >= SCHED_SEAL_WINDOW) {
            memset(s->window, 0, sizeof s->window);
        } else {
            for (uint64_t i = 1; i <= steps;
                 i++) { /* not up to h->counter: it may be the last one */
                unsigned bit = (unsigned)((s->top + i) % SCHED_SEAL_WINDOW);
                s->window[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
            }
        }
        s->top = h->counter;
    }
    REQUIRE(s->top - h->counter < SCHED_SEAL_WINDOW);
    unsigned bit = (unsigned)(h->counter % SCHED_SEAL_WINDOW);
    s->window[bit / 64] |= UINT64_C(1) << (bit % 64);
    s->heard_ms = now_ms;
}
