#pragma once
#include <ev.h>
#include <stdbool.h>

#include "worker/io/link.h"

/* Runs the warm-up cells of a set of kernels, one after the other, over an attached link. Hidden
 * from the session. In a template: its own cell once (imports, a table, a plot), then the ready
 * cell often enough that Python's specialising interpreter has settled on it, which is then in
 * every clone's memory. In a clone: the ready cell, which touches the pages and has the code
 * translated, with all that goes on around a session's execution: the events are acknowledged, the
 * execution forgotten, and the guest falls idle before the next. */
typedef void worker_warm_done_fn(void *user, int code, const char *text);

struct worker_warm {
    const char *guest_dir; /* has warm/template.py, warm/ready.py and so on; set by the owner */
    struct worker_link *link;
    Warren__Kernel kernels[4];
    int at;    /* kernel */
    int round; /* cell of that kernel */
    bool template;
    struct worker_stream *stream;
    uint8_t exec_id[16];
    uint64_t seq;  /* of its last event */
    ev_timer rest; /* until the next cell */
    worker_warm_done_fn *done;
    void *user;
    bool finished, ok;
    char text[300];
};

/* done comes later, once, from the loop: 0, or BASE_E* with a text. */
void worker_warm_start(struct worker_warm *w, struct worker_link *link,
    const Warren__Kernel kernels[4], bool template, worker_warm_done_fn *done, void *user);

/* No callback any more. Fine when nothing runs. */
void worker_warm_cancel(struct worker_warm *w);
