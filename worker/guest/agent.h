#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/log.h"
#include "worker/guest/config.h"
#include "worker/guest/exec.h"
#include "worker/guest/files.h"
#include "worker/guest/loop.h"
#include "worker/guest/port.h"
#include "worker/guest/run.h"
#include "worker/guest/stream.h"
#include "worker/guest/terminal.h"

/* The agent: two ports, executions, files, interpreters. main.c makes one. */
struct agent {
    struct agent_config config;
    struct base_log log;
    struct agent_loop loop;
    struct agent_port ctl, bulk;
    struct agent_streams ctl_streams, bulk_streams;
    struct agent_execs execs;
    struct agent_runner runner;
    struct agent_files files;
    struct agent_terminals terminals;
    struct agent_watch children; /* signalfd of SIGCHLD and, on a host, SIGTERM */
    bool seeded;
    bool stop;             /* host of a test: end */
    int ctl_fd, bulk_fd;   /* ports that are not open yet, or -1 */
    uint32_t seed_call;    /* CALL whose reply waits for the interpreters, 0: none */
    uint32_t seed_kernels; /* bit per kind: must be loaded before that reply */
};

/* log, config, ctl_fd and bulk_fd are set already. 0 or -errno. */
int agent_init(struct agent *a);
void agent_deinit(struct agent *a);

/* Runs until stop is set. The ports open when the boot kernels are loaded. */
void agent_run(struct agent *a);

/* CALL frames (call.c). */
void agent_call_frame(struct agent *a, uint32_t number, const uint8_t *payload, size_t n);
/* An interpreter became ready, was reseeded or ended: a reply may be due. */
void agent_call_changed(struct agent *a);
/* The bits of the kernels that are loaded: 1 << kind. */
uint32_t agent_loaded(struct agent *a);
