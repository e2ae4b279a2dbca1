#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What a run is made of: options and an explicit list of faults. Both come from a seed, or from a
 * file that a person or the shrinker wrote. */

enum { SIM_FAULTS_MAX = 4096 };

/* Everything that is drawn from the seed or given on the command line. */
struct sim_opts {
    uint64_t seed;
    uint32_t voters, hosts, gateways, keys, pbits, places;
    uint32_t chaos_ms, quiet_ms;          /* safety phase, liveness phase */
    uint32_t loss_ppm, dup_ppm, late_ppm; /* of messages, in the safety phase */
    uint32_t slow_ppm;                    /* share of messages with a delay of up to 0.4 s */
    uint32_t spread_pct, inline_pct;
    uint32_t request_ms; /* mean pause between requests of a gateway */
    uint32_t cooldown_ms;
    uint32_t vm_fail_ppm, vm_hang_ppm, vm_slow_ppm;
    uint32_t fault_ms;     /* mean pause between faults; 0: none */
    uint32_t drift_ppm;    /* clocks run at most this wrong */
    uint32_t cache;        /* route cache of a gateway */
    uint32_t empty_birth;  /* the first view has no members */
    uint32_t exodus;       /* all hosts leave at about the same time, so often */
    uint32_t quota, chunk; /* sessions in the cluster, 0: any number; permits asked for at once */
    /* Directed runs, 0: any. New incarnations, views in all: fewer than this. Views in the safety
     * phase: at least this. */
    uint32_t lives_below, views_below, views_min;
    uint32_t kill_ms;  /* from freeze to kill; 0: a minute */
    uint32_t stuck_ms; /* patience of the voters with a view; 0: as in the product */
    uint32_t catalog;  /* 1: gateways change the catalogue; 2: until 5 s before the faults end */
    uint32_t pools;    /* keys are of so many pools, whose maxima change; 0: one without */
    uint32_t pool;     /* 1: microVMs are those of the worker's pool manager */
    uint32_t liars;    /* hosts whose reports of load are made up */
    uint32_t slow;     /* machines are slow and suspended, too */
    uint32_t forge;    /* hosts forge views, too */
    uint32_t speaks;   /* the latest version of the messages that builds speak */
    uint32_t mixed;    /* older builds, too, replaced one after the other */
    uint32_t looks;    /* some requests only look for a session; all for the last key */
    bool voter_loss;   /* a voter may lose its store */
    bool trace, no_liveness;
    uint32_t load;      /* 0: no requests but those of the file */
    const char *corpus; /* folder: keep the first message of every type there */
};

enum sim_fault_kind {
    SIM_F_CUT,     /* a, b: masks of node indices mod 64 on the two sides are split by bit */
    SIM_F_LINK,    /* a -> b is dead, one way */
    SIM_F_PAUSE,   /* process a stops (SIGSTOP); its microVMs run on */
    SIM_F_RESTART, /* process a is killed, comes back with its store */
    SIM_F_CRASH,   /* machine a: microVMs and run store are lost */
    SIM_F_TORN,    /* process a dies in its next step. b = 0: before commit, 1: after, unsent */
    SIM_F_LOSE,    /* voter a dies and loses its store */
    SIM_F_DRAIN,   /* host a drains; comes back as new after duration */
    SIM_F_DROP,    /* directed: messages a -> b of one type vanish (SIM_ANY: all) */
    SIM_F_HOLD,    /* directed: such messages sent meanwhile arrive at the end */
    SIM_F_DELETE,  /* directed: the session of key a is deleted at its host */
    SIM_F_REQUEST, /* directed: gateway a asks for key b */
    SIM_F_SLOW,    /* process a takes b ms for everything it does */
    SIM_F_SUSPEND, /* machine a sleeps, microVMs included; clocks go on */
    SIM_F_FORGE,   /* host a tells everybody a view, b later than its own, with itself alone */
    SIM_F_KINDS
};

enum { SIM_ANY = 0xffffffff };

struct sim_fault {
    uint8_t kind; /* enum sim_fault_kind */
    uint8_t type; /* DROP: message type, 0: any */
    uint32_t at_ms, dur_ms;
    uint64_t a, b;
};

void sim_opts_draw(struct sim_opts *o, uint64_t seed);
uint32_t sim_faults_draw(const struct sim_opts *o, struct sim_fault *out, uint32_t max);
void sim_schedule_print_fault(const struct sim_opts *o, const struct sim_fault *f, FILE *to);
void sim_schedule_print(const struct sim_opts *o, const struct sim_fault *f, uint32_t n, FILE *to);
bool sim_schedule_read(
    const char *path, struct sim_opts *o, struct sim_fault *out, uint32_t max, uint32_t *ret_n);

/* The smallest schedule that still violates the invariant ("S1"); true when *o, f are replaced by
 * it. */
bool sim_shrink(struct sim_opts *o, struct sim_fault *f, uint32_t *n, const char *invariant);
