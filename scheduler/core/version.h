#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Versions of the messages between the nodes. A build speaks a range of them; the view says which
 * one the cluster is at (sched_view_version()). A node sends in the version of its view, and what
 * came with a later version only when its view says that one: the voters raise it when everybody
 * has said that he speaks it, and never lower it. */
enum {
    SCHED_VERSION_BASE = 2, /* of a cluster at its birth; the first in which nodes tell what they
                             * speak. Who has told nothing speaks what his cluster is at */
    SCHED_VERSION_MIN = 2,  /* what this build speaks */
    SCHED_VERSION_MAX = 3,  /* 3: views carry the version, OPEN may only look, the catalogue */
    SCHED_VERSION_CATALOG = 3,
};

struct sched_speaks {
    uint8_t min, max; /* max 0: not known */
};

/* What a node is set to speak: all that the build can when it was told nothing. */
static inline struct sched_speaks sched_speaks_or_all(struct sched_speaks s)
{
    return s.max != 0 ? s : (struct sched_speaks){SCHED_VERSION_MIN, SCHED_VERSION_MAX};
}

static inline bool sched_speaks_has(struct sched_speaks s, uint8_t version)
{
    return s.min <= version && version <= s.max;
}
