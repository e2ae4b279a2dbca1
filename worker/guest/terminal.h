#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"
#include "worker/guest/loop.h"
#include "worker/guest/stream.h"

/* Interactive shells, each on a pseudo-terminal and one stream of the bulk port. */
enum { AGENT_TERMINALS_MAX = 8 };

struct agent_terminals;

struct agent_terminal {
    struct agent_terminals *table;
    struct agent_stream *stream; /* NULL: its host is gone */
    struct agent_watch watch;    /* our side of the terminal */
    pid_t pid;                   /* of the shell; 0: the place is free, unless stream is set */
    bool readable;               /* there may be output */
    bool ended;                  /* nobody has the other side open */
    int exit_code;
    struct base_buf in; /* records that the terminal has not taken, within the stream's window */
    size_t in_done;     /* bytes of the first one that it has */
    char name[16];      /* of the control group */
};

struct agent_terminals {
    struct agent_loop *loop;
    const struct agent_config *config;
    struct agent_terminal terminal[AGENT_TERMINALS_MAX];
};

void agent_terminals_init(
    struct agent_terminals *t, struct agent_loop *loop, const struct agent_config *config);

/* OPEN{terminal} on a stream that was just opened; resets it when refused. */
void agent_terminals_open(
    struct agent_terminals *t, struct agent_stream *s, const Warren__GuestTerminal *m);

/* A child of the agent ended; others' are ignored. */
void agent_terminals_reaped(struct agent_terminals *t, pid_t pid, int wait_status);
