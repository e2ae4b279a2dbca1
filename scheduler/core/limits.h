#pragma once

/* Bounds of the scheduler cores. Everything sized at run time is sized by struct sched_cfg; these
 * are the bounds of what is fixed: message bodies, batches, votes. */
enum {
    SCHED_SEATS_MAX = 3,         /* members of a partition's group */
    SCHED_VOTERS_MAX = 7,        /* voters of a cluster */
    SCHED_BUCKETS = 256,         /* partitions are rebuilt in this many buckets */
    SCHED_BUCKET_WORDS = 4,      /* the same as 64-bit words */
    SCHED_PBITS_MAX = 18,        /* partitions are 2^pbits */
    SCHED_MEMBERS_MAX = 16384,   /* entries of a view, departed incarnations included */
    SCHED_FX_MAX = 2048,         /* effects of one step */
    SCHED_SYNC_PARTS_MAX = 64,   /* partitions in one hand-over message */
    SCHED_SYNC_RECS_MAX = 128,   /* records in one hand-over message */
    SCHED_RUNS_MAX = 64,         /* executions running at once in one session */
    SCHED_WAITERS_MAX = 4,       /* requests that wait for the same claim */
    SCHED_TIMERS_MAX = 128,      /* entries of one refresh of cooldowns */
    SCHED_SPILL_SAMPLES_MAX = 8, /* candidates in one grant */
    SCHED_SHUT_MAX = 64,         /* pools that a worker refuses for a while */
    SCHED_QUOTA_REGS = 8,        /* registers of permits; a pool's is that of its number */
    SCHED_PERMITS_MAX = 128 /* pools whose sessions are counted: those that there are, and those
                             * of which some are left */
};
