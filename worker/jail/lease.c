#include "worker/jail/lease.h"

#include "proto/base/hash.h"

enum { READS_MAX = 64 }; /* a writer that laps a reader so often is none of ours */

static uint64_t check_of(const uint64_t word[WORKER_LEASE_WORDS])
{
    uint64_t sum = WORKER_LEASE_MAGIC;
    for (int i = 0; i < WORKER_LEASE_WORDS; i++) {
        sum = base_hash_mix64(sum ^ word[i]);
    }
    return sum;
}

void worker_lease_write(struct worker_lease_page *page, const struct worker_fence_lease *l)
{
    uint64_t turn = atomic_load_explicit(&page->turn, memory_order_relaxed) + 1;
    struct worker_lease_copy *c = &page->copy[turn % 2];
    const uint64_t word[WORKER_LEASE_WORDS] = {
        [WORKER_LEASE_MODE] = l->mode,
        [WORKER_LEASE_FREEZE_AT] = l->freeze_at_ns,
        [WORKER_LEASE_KILL_AT] = l->kill_at_ns,
        [WORKER_LEASE_EPOCH] = l->epoch,
        [WORKER_LEASE_ALONE] = l->alone_ns,
        [WORKER_LEASE_BEAT] = turn,
    };
    for (int i = 0; i < WORKER_LEASE_WORDS; i++) {
        atomic_store_explicit(&c->word[i], word[i], memory_order_release);
    }
    atomic_store_explicit(&c->check, check_of(word), memory_order_release);
    atomic_store(&page->turn, turn);
}

static bool read_copy(const struct worker_lease_copy *c, uint64_t word[WORKER_LEASE_WORDS])
{
    for (int i = 0; i < WORKER_LEASE_WORDS; i++) {
        word[i] = atomic_load_explicit(&c->word[i], memory_order_acquire);
    }
    return atomic_load_explicit(&c->check, memory_order_acquire) == check_of(word);
}

bool worker_lease_read(const struct worker_lease_page *page, struct worker_fence_lease *ret)
{
    if (atomic_load(&page->magic) != WORKER_LEASE_MAGIC || page->version != WORKER_LEASE_VERSION) {
        return false;
    }
    for (int i = 0; i < READS_MAX; i++) {
        uint64_t turn = atomic_load(&page->turn);
        uint64_t word[WORKER_LEASE_WORDS];
        bool whole = read_copy(&page->copy[turn % 2], word) && word[WORKER_LEASE_BEAT] == turn;
        if (whole) {
            *ret = (struct worker_fence_lease){
                .mode = word[WORKER_LEASE_MODE],
                .freeze_at_ns = word[WORKER_LEASE_FREEZE_AT],
                .kill_at_ns = word[WORKER_LEASE_KILL_AT],
                .epoch = word[WORKER_LEASE_EPOCH],
                .alone_ns = word[WORKER_LEASE_ALONE],
                .beat = word[WORKER_LEASE_BEAT],
            };
            return true;
        }
        if (atomic_load(&page->turn) == turn) {
            return false; /* nobody is writing: it is damaged */
        }
    }
    return false;
}
