#include "scheduler/core/gossip.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"
#include "scheduler/core/mutant.h"

struct sched_gossip_item {
    uint64_t by;
    uint16_t member;
    uint16_t prev, next;
    uint8_t class;
    uint8_t sent;
};

/* How many items that do not fit are looked at before a packet is taken as full. */
enum { MISSES_MAX = 16 };

static size_t bitmap_words(uint32_t members_max)
{
    return (members_max + 63) / 64;
}

size_t sched_gossip_size(uint32_t cap, uint32_t members_max)
{
    if (cap == 0 || cap > SCHED_GOSSIP_QUEUE_MAX || members_max == 0 ||
        members_max > SCHED_GOSSIP_NONE) {
        return 0;
    }
    return cap * sizeof(struct sched_gossip_item) +
           SCHED_GOSSIP_CLASSES * bitmap_words(members_max) * sizeof(uint64_t);
}

int sched_gossip_init(
    struct sched_gossip *g, uint32_t cap, uint32_t members_max, void *mem, size_t mem_size)
{
    size_t size = sched_gossip_size(cap, members_max);
    if (size == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < size) {
        return BASE_ENOMEM;
    }
    memset(mem, 0, size);
    *g = (struct sched_gossip){
        .items = mem, .cap = (uint16_t)cap, .free = SCHED_GOSSIP_NONE, .members_max = members_max};
    uint64_t *bits = (uint64_t *)(void *)(g->items + cap);
    for (unsigned c = 0; c < SCHED_GOSSIP_CLASSES; c++) {
        g->queued[c] = bits + c * bitmap_words(members_max);
        memset(g->lists[c], 0xff, sizeof g->lists[c]);
    }
    return 0;
}

static void link_last(struct sched_gossip *g, uint16_t i)
{
    struct sched_gossip_item *it = &g->items[i];
    struct sched_gossip_list *l = &g->lists[it->class][it->sent];
    it->prev = l->tail;
    it->next = SCHED_GOSSIP_NONE;
    if (l->tail == SCHED_GOSSIP_NONE) {
        l->head = i;
    } else {
        g->items[l->tail].next = i;
    }
    l->tail = i;
}

static void unlink_item(struct sched_gossip *g, uint16_t i)
{
    struct sched_gossip_item *it = &g->items[i];
    struct sched_gossip_list *l = &g->lists[it->class][it->sent];
    if (it->prev == SCHED_GOSSIP_NONE) {
        l->head = it->next;
    } else {
        g->items[it->prev].next = it->next;
    }
    if (it->next == SCHED_GOSSIP_NONE) {
        l->tail = it->prev;
    } else {
        g->items[it->next].prev = it->prev;
    }
}

static void remove_item(struct sched_gossip *g, uint16_t i)
{
    struct sched_gossip_item *it = &g->items[i];
    unlink_item(g, i);
    g->queued[it->class][it->member / 64] &= ~(UINT64_C(1) << (it->member % 64));
    g->count[it->class]--;
    it->next = g->free;
    g->free = i;
}

static bool is_queued(const struct sched_gossip *g, unsigned class, uint16_t member)
{
    return g->queued[class][member / 64] >> (member % 64) & 1;
}

/* The bitmap says that there is one; a linear search is rare enough. */
static uint16_t find_item(const struct sched_gossip *g, unsigned class, uint16_t member)
{
    for (unsigned sent = 0; sent < SCHED_GOSSIP_SENDS_MAX; sent++) {
        for (uint16_t i = g->lists[class][sent].head; i != SCHED_GOSSIP_NONE;
             i = g->items[i].next) {
            if (g->items[i].member == member) {
                return i;
            }
        }
    }
    REQUIRE(false);
    return SCHED_GOSSIP_NONE;
}

static uint16_t most_sent(const struct sched_gossip *g, unsigned class, unsigned sent_min)
{
    for (unsigned sent = SCHED_GOSSIP_SENDS_MAX; sent-- > sent_min;) {
        if (g->lists[class][sent].head != SCHED_GOSSIP_NONE) {
            return g->lists[class][sent].head;
        }
    }
    return SCHED_GOSSIP_NONE;
}

static uint16_t alloc_item(struct sched_gossip *g, unsigned class)
{
    if (g->free == SCHED_GOSSIP_NONE && g->high == g->cap) {
        g->overflows++;
        unsigned sent_min = class == SCHED_GOSSIP_MEMBER ? 0 : 1;
        uint16_t victim = most_sent(g, SCHED_GOSSIP_EDGE, sent_min);
        if (victim == SCHED_GOSSIP_NONE && class == SCHED_GOSSIP_MEMBER) {
            victim = most_sent(g, SCHED_GOSSIP_MEMBER, 1);
        }
        if (victim == SCHED_GOSSIP_NONE) {
            return SCHED_GOSSIP_NONE;
        }
        remove_item(g, victim);
    }
    if (g->free == SCHED_GOSSIP_NONE) {
        return g->high++;
    }
    uint16_t i = g->free;
    g->free = g->items[i].next;
    return i;
}

void sched_gossip_put(
    struct sched_gossip *g, enum sched_gossip_class class, uint16_t member, uint64_t by)
{
    REQUIRE(member < g->members_max);
    if (is_queued(g, class, member)) {
        remove_item(g, find_item(g, class, member));
    }
    uint16_t i = alloc_item(g, class);
    if (i == SCHED_GOSSIP_NONE) {
        return;
    }
    g->items[i] = (struct sched_gossip_item){.by = by, .member = member, .class = (uint8_t) class};
    g->queued[class][member / 64] |= UINT64_C(1) << (member % 64);
    g->count[class]++;
    link_last(g, i);
}

void sched_gossip_forget(struct sched_gossip *g, uint16_t member)
{
    REQUIRE(member < g->members_max);
    for (unsigned class = 0; class < SCHED_GOSSIP_CLASSES; class ++) {
        if (is_queued(g, class, member)) {
            remove_item(g, find_item(g, class, member));
        }
    }
}

struct taking {
    const struct sched_gossip_ask *ask;
    uint16_t *taken; /* item numbers */
    size_t n, max, bytes;
    unsigned misses;
};

static void take_class(struct sched_gossip *g, unsigned class, struct taking *t)
{
    for (unsigned sent = 0; sent < SCHED_GOSSIP_SENDS_MAX; sent++) {
        for (uint16_t i = g->lists[class][sent].head; i != SCHED_GOSSIP_NONE;
             i = g->items[i].next) {
            if (t->n == t->max || t->misses == MISSES_MAX) {
                return;
            }
            const struct sched_gossip_item *it = &g->items[i];
            if (it->member == t->ask->skip) {
                continue;
            }
            struct sched_gossip_pick p = {
                .by = it->by, .member = it->member, .class = (uint16_t) class};
            size_t size = t->ask->size(t->ask->ctx, &p);
            if (t->bytes + size > t->ask->room) {
                t->misses++;
                continue;
            }
            t->bytes += size;
            t->taken[t->n++] = i;
        }
    }
}

size_t sched_gossip_take(struct sched_gossip *g, const struct sched_gossip_ask *ask,
    struct sched_gossip_pick *out, size_t max, size_t *ret_bytes)
{
    uint16_t taken[64];
    struct taking t = {.ask = ask, .taken = taken, .max = max < 64 ? max : 64};
    for (unsigned class = 0; class < SCHED_GOSSIP_CLASSES; class ++) {
        if (g->count[class] > 0 && ask->allowed[class]) {
            t.misses = 0;
            take_class(g, class, &t);
        }
    }
    for (size_t k = 0; k < t.n; k++) {
        struct sched_gossip_item *it = &g->items[taken[k]];
        out[k] = (struct sched_gossip_pick){.by = it->by, .member = it->member, .class = it->class};
        REQUIRE(ask->sends[it->class] >= 1 && ask->sends[it->class] <= SCHED_GOSSIP_SENDS_MAX);
        if (it->sent + 1 >= ask->sends[it->class]) {
            remove_item(g, taken[k]);
        } else {
            unlink_item(g, taken[k]);
            it->sent++;
            link_last(g, taken[k]);
        }
    }
    *ret_bytes = t.bytes;
    return t.n;
}

static const int64_t micro = 1000000;

void sched_budget_init(struct sched_budget *b, uint32_t rate, uint32_t burst, uint64_t now_us)
{
    *b = (struct sched_budget){
        .tokens = burst * micro, .at_us = now_us, .rate = rate, .burst = burst, .debt = burst / 2};
}

size_t sched_budget_room(struct sched_budget *b, enum sched_budget_class class, uint64_t now_us)
{
    if (b->rate == 0 || MUTANT(101)) { /* the budget is not looked at */
        return SIZE_MAX;
    }
    uint64_t full_us = (b->burst + b->debt) * (uint64_t)micro / b->rate + 1;
    uint64_t dt_us = now_us > b->at_us ? now_us - b->at_us : 0;
    b->tokens += (int64_t)(dt_us < full_us ? dt_us : full_us) * b->rate;
    b->at_us = now_us;
    if (b->tokens > b->burst * micro) {
        b->tokens = b->burst * micro;
    }
    int64_t floor = 0;
    if (class == SCHED_BUDGET_URGENT) {
        floor = -(int64_t)b->debt;
    } else if (class == SCHED_BUDGET_EDGE) {
        floor = b->burst / 2;
    }
    int64_t room = b->tokens / micro - floor;
    return room > 0 ? (size_t)room : 0;
}

void sched_budget_spend(struct sched_budget *b, size_t bytes)
{
    if (b->rate != 0) {
        b->tokens -= (int64_t)bytes * micro;
    }
}
