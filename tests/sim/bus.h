#pragma once
#include "tests/sim/sim.h"

/* Messages on their way; see bus.c. */

struct sim_packet { /* one for all its copies and addressees */
    uint32_t refs, len;
    uint8_t type;
    uint64_t hash;
    const struct sched_view *view; /* VIEW: what it decodes to */
    uint8_t bytes[];
};
void sim_send(struct sim *s, struct sim_node *from, const struct sched_msg *m);
/* To every other node. */
void sim_push(struct sim *s, struct sim_node *from, const struct sched_msg *m);
void sim_forge(struct sim *s, struct sim_node *from, const struct sched_view *v); /* not chosen */
void sim_packet_drop(struct sim_packet *p);
void sim_deliver(struct sim *s, struct sim_event *ev);
