#pragma once

#include "proto/base/buf.h"
#include "proto/limits.h"
#include "tests/lib/fake_engine.h"

/* What fake_engine.c keeps. */

enum { EXECS = 64, FILES = 16, STREAMS = 64, POOLS = 8, EVENTS = 4096 };

enum vm_state { VM_FREE, VM_STARTING, VM_ADOPTING, VM_READY, VM_LIVE, VM_DEAD, VM_DYING };

struct fake_exec {
    bool used, sealed, done, dead, forgotten, holding;
    uint8_t id[PROTO_EXEC_ID_BYTES];
    char *code;
    size_t at, code_n;
    struct base_buf events[EVENTS]; /* by number - 1, empty when acknowledged */
    uint64_t last, acked, bytes;
    uint32_t big_left, big_bytes;
};

struct fake_file {
    char name[64];
    struct base_buf data;
};

struct fake_vm {
    enum vm_state state;
    uint8_t vm_id[16];
    bool claimed;
    char why[64];
    struct fake_exec *execs[EXECS];
    struct fake_file files[FILES];
};

struct worker_stream {
    struct worker_engine *e;
    uint32_t slot;
    const struct worker_stream_ops *ops;
    void *user;
    Warren__GuestOpen__WhatCase what;
    struct fake_exec *exec;
    char name[64];
    uint64_t sent_seq, size_max;
    struct base_buf in; /* what the host wrote */
    size_t taken, room, sent, consumed, offset;
    bool fin, answered, opened, twice;
};

enum { FAKE_POOLS = 256 };

struct fake_world {
    uint32_t slots;
    struct fake_vm *vms;
    struct worker_engine *engine;
    bool hold_starts;
    bool frozen;
    uint32_t fail_starts, fail_claims, slow, runs, go_on;
    bool full;
    uint32_t crash_in;
    void (*crash)(void *user);
    void *crash_user;
};

struct worker_engine {
    struct fake_world *w;
    struct ev_loop *loop;
    struct worker_engine_events events;
    struct ev_timer turn;
    struct worker_stream *streams[STREAMS];
    uint32_t pools;
    bool dropped[FAKE_POOLS];
    uint32_t told; /* pools whose template was announced */
    bool dead;     /* the worker has crashed */
    bool frozen;   /* what the worker was told */
};
