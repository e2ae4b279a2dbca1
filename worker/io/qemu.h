#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"
#include "worker/jail/supervise.h"

/* One QEMU process with its supervisor: command line, descriptors, folder, start, end. Knows
 * nothing of what runs inside. */

/* The machine as both template and clones must have it, to the letter. */
struct worker_qemu_machine {
    const char *qemu; /* path */
    bool kvm;
    uint32_t memory_mib;
    uint32_t cpus;
};

struct worker_qemu_spawn {
    const struct worker_qemu_machine *machine;
    const char *supervisor; /* path */
    const char *dir;        /* made here; removed by the supervisor */
    uid_t uid;
    int memory_fd, root_fd, lease_fd; /* all borrowed */
    int state_fd;                     /* clone: device state; -1: this is a template */
    int kernel_fd, initrd_fd;         /* template */
    const char *append;               /* template: kernel command line */
    const char *record;               /* text that goes into DIR/record, for a later adopt */
};

struct worker_qemu;

struct worker_qemu_events {
    void *user;
    /* Supervisor and QEMU are gone and so is the folder. log: end of QEMU's output. */
    void (*gone)(void *user, const char *how, const char *log);
};

struct worker_qemu {
    struct ev_loop *loop;
    struct worker_qemu_events events;
    ev_io io; /* sup.sock */
    int sup;  /* connection, -1 */
    bool greeted;
    uint8_t in[sizeof(struct worker_supervise_hello) + sizeof(struct worker_supervise_exit)];
    size_t in_n;
    int32_t qemu_pid;
    char dir[96];
};

/* Starts it and connects the three sockets at once (they listen before QEMU runs). ret_fds: control
 * port, bulk port, monitor; non-blocking, the caller's. */
int worker_qemu_spawn(struct worker_qemu *q, struct ev_loop *loop,
    const struct worker_qemu_spawn *spawn, const struct worker_qemu_events *events, int ret_fds[3],
    struct base_error *err);

/* Puts another text into DIR/record. */
int worker_qemu_record(const char *dir, const char *text, struct base_error *err);

/* Connects to one that runs already in dir. BASE_ENOTFOUND when nobody listens there. */
int worker_qemu_adopt(struct worker_qemu *q, struct ev_loop *loop, const char *dir,
    const struct worker_qemu_events *events, int ret_fds[3]);

void worker_qemu_kill(struct worker_qemu *q);  /* gone follows */
void worker_qemu_check(struct worker_qemu *q); /* its supervisor looks at the lease page now */

/* Ends whatever runs in dir and waits until it is gone; false when no supervisor answers there. */
bool worker_qemu_end(const char *dir);

/* Forgets it without ending it. */
void worker_qemu_deinit(struct worker_qemu *q);

/* Version text of a QEMU binary ("7.2.22 (Debian ...)"), for the template's key. */
int worker_qemu_version(const char *qemu, char *ret, size_t cap, struct base_error *err);
