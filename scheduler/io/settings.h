#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/core/env.h"
#include "scheduler/core/seal.h"

/* cluster.yaml: how a node takes part in a cluster. One file per node, the same for every kind of
 * node. Loaded once, checked as a whole, immutable afterwards. */

enum { SCHED_SETTINGS_SEEDS_MAX = 16, SCHED_SETTINGS_TEXT_MAX = 4096 };

struct sched_seed {
    uint64_t id;
    char endpoint[80]; /* "tcp://10.0.0.1:7400" */
};

struct sched_settings {
    /* as written */
    char *name;      /* of this node, in the roster */
    char *listen;    /* "10.0.0.1:7400": TCP and UDP; "[::1]:7400" */
    char *advertise; /* address for the others; NULL: that of listen */
    char *state_dir;
    char *roster;
    char *curve_secret;
    char *cluster_key; /* decides placement */
    char *gossip_keys; /* the ring */
    char **voters;     /* names, the same list on every node for ever */
    unsigned voters_count;
    char **seeds; /* "name@10.0.0.1:7400" */
    unsigned seeds_count;
    char *log_level_text;
    uint32_t zone, weight;
    uint32_t partition_bits;
    uint32_t members_max;
    uint32_t lease_ms;
    uint32_t kill_ms;
    uint32_t gossip_period_ms; /* 500 or 250 */
    /* made of it */
    uint64_t id;
    enum base_log_level log_level;
    char ip[64];        /* to listen at */
    char public_ip[64]; /* to be told to others */
    uint16_t port;
    struct sched_seed seed[SCHED_SETTINGS_SEEDS_MAX]; /* without this node */
    unsigned seed_n;
    uint64_t voter[SCHED_VOTERS_MAX]; /* numbers, in the order of the names */
};

/* On success *ret is the caller's, to end with sched_settings_destroy(). BASE_EINVAL with the key
 * and the line where it is known, -errno when the file cannot be read. */
int sched_settings_load(const char *path, struct sched_settings **ret, struct base_error *err);
int sched_settings_parse(
    const char *yaml, size_t n, struct sched_settings **ret, struct base_error *err);
void sched_settings_destroy(struct sched_settings *s); /* NULL is fine */

/* The port of an endpoint that others are told to be at this node's address. BASE_EINVAL, with
 * `key` in the text: it is at another address, so they would not reach it (at that of `listen` they
 * may, where `advertise` is translated to it), or its port is not a number. */
int sched_settings_port(const struct sched_settings *s, const char *key, const char *endpoint,
    uint16_t *ret, struct base_error *err);

/* Stands for what all nodes of a cluster must have set alike: voters, partition_bits, members_max,
 * lease_ms, and the cluster's key. `which`: different numbers for different uses. */
uint64_t sched_settings_tag(const struct sched_settings *s, const uint8_t key[16], unsigned which);

/* The settings of the cores; sizes of a worker (sessions, registers) are the caller's. */
void sched_settings_cfg(const struct sched_settings *s, struct sched_cfg *ret);

/* A ring file: up to three lines "<number 0..255> <64 hex digits>", readable by its owner only. The
 * first is the one to seal with. BASE_EDENIED, BASE_EBADMSG, -errno. */
struct sched_ring {
    unsigned n;
    struct {
        uint8_t id;
        uint8_t key[SCHED_SEAL_KEY_BYTES];
    } k[3];
};
int sched_ring_read(const char *path, struct sched_ring *ret, struct base_error *err);
