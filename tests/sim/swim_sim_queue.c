#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "tests/sim/swim_sim_impl.h"

static const size_t size_classes[6] = {0, 96, 160, 384, 1280, 8192};

void sim_queue_init(struct sim_queue *q)
{
    memset(q, 0, sizeof *q);
}

static void free_list(struct sim_ev *ev)
{
    while (ev != NULL) {
        struct sim_ev *next = ev->next;
        free(ev);
        ev = next;
    }
}

void sim_queue_deinit(struct sim_queue *q)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        free_list(q->slots[i].head);
    }
    for (unsigned i = 0; i < 6; i++) {
        free_list(q->free[i]);
    }
    free_list(q->far);
}

struct sim_ev *sim_queue_new(struct sim_queue *q, size_t bytes)
{
    unsigned c = 0;
    while (size_classes[c] < bytes) {
        c++;
        REQUIRE(c < 6);
    }
    struct sim_ev *ev = q->free[c];
    if (ev != NULL) {
        q->free[c] = ev->next;
    } else {
        ev = malloc(sizeof *ev + size_classes[c]);
        REQUIRE(ev != NULL);
    }
    memset(ev, 0, sizeof *ev);
    ev->len = (uint16_t)bytes;
    ev->size_class = (uint8_t)c;
    return ev;
}

void sim_queue_free(struct sim_queue *q, struct sim_ev *ev)
{
    ev->next = q->free[ev->size_class];
    q->free[ev->size_class] = ev;
}

void sim_queue_put(struct sim_queue *q, struct sim_ev *ev, uint64_t at_us)
{
    uint64_t slot = (at_us + SIM_SLOT_US - 1) / SIM_SLOT_US;
    if (slot <= q->slot) {
        slot = q->slot + 1;
    }
    ev->at_us = slot * SIM_SLOT_US;
    ev->next = NULL;
    if (slot - q->slot >= SIM_SLOTS) {
        ev->next = q->far;
        q->far = ev;
        return;
    }
    struct sim_ev **tail = &q->slots[slot % SIM_SLOTS].tail;
    if (q->slots[slot % SIM_SLOTS].head == NULL) {
        q->slots[slot % SIM_SLOTS].head = ev;
    } else {
        (*tail)->next = ev;
    }
    *tail = ev;
}

/* Brings far events in that are near now; in the order they were put. */
static void far_sweep(struct sim_queue *q)
{
    struct sim_ev *list = q->far, *rev = NULL;
    q->far = NULL;
    while (list != NULL) {
        struct sim_ev *next = list->next;
        list->next = rev;
        rev = list;
        list = next;
    }
    while (rev != NULL) {
        struct sim_ev *next = rev->next;
        sim_queue_put(q, rev, rev->at_us);
        rev = next;
    }
}

struct sim_ev *sim_queue_next(struct sim_queue *q, uint64_t until_us)
{
    while (q->slot * SIM_SLOT_US < until_us) {
        struct sim_ev *ev = q->slots[q->slot % SIM_SLOTS].head;
        if (ev != NULL) {
            q->slots[q->slot % SIM_SLOTS].head = ev->next;
            return ev;
        }
        q->slot++;
        if (q->far != NULL && q->slot >= q->far_slot) {
            q->far_slot = q->slot + SIM_SLOTS / 4;
            far_sweep(q);
        }
    }
    return NULL;
}
