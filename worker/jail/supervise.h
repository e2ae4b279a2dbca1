#pragma once
#include <stdint.h>

/* What a worker and the supervisor beside a QEMU say to each other over DIR/sup.sock (a stream
 * socket; one worker at a time, a new connection replaces the old one).
 *
 * Supervisor -> worker: one worker_supervise_hello at once, and one worker_supervise_exit when QEMU
 * has ended; then the folder is removed and the connection closed. Worker -> supervisor: single
 * bytes. */
enum { WORKER_SUPERVISE_MAGIC = 0x57525331 }; /* "WRS1" */

enum worker_supervise_order {
    WORKER_SUPERVISE_KILL = 'K',  /* end QEMU now */
    WORKER_SUPERVISE_CHECK = 'C', /* the lease page changed: look at it now */
};

struct worker_supervise_hello {
    uint32_t magic;
    uint32_t version; /* 1 */
    int32_t supervisor_pid;
    int32_t qemu_pid;
    uint32_t frozen;
};

struct worker_supervise_exit {
    uint32_t magic;
    int32_t status;   /* as from waitpid() */
    char log[512];    /* end of what QEMU printed, terminated */
    uint32_t expired; /* ended because the lease ran out */
};

/* Descriptors a supervisor is started with; QEMU inherits 3..8, 12 and 13 under the same numbers.
 */
enum worker_supervise_fd {
    WORKER_FD_CTL = 3,     /* listening socket of the guest's control port */
    WORKER_FD_BULK = 4,    /* listening socket of the guest's bulk port */
    WORKER_FD_QMP = 5,     /* listening socket of the monitor */
    WORKER_FD_MEMORY = 6,  /* memfd of the template's RAM */
    WORKER_FD_ROOT = 7,    /* rootfs.sqfs, read only */
    WORKER_FD_STATE = 8,   /* device state (clones; /dev/null in a template) */
    WORKER_FD_LEASE = 9,   /* lease page, read only */
    WORKER_FD_SUP = 10,    /* listening socket sup.sock */
    WORKER_FD_LOG = 11,    /* what QEMU prints */
    WORKER_FD_KERNEL = 12, /* template only (/dev/null in a clone) */
    WORKER_FD_INITRD = 13,
    WORKER_FD_END = 14,
};

/* Removes the folder of a QEMU that has ended, with what is known to lie in it. 0 or -errno. */
int worker_supervise_remove_dir(const char *dir);
