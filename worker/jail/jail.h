#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"

/* What is taken away from QEMU between fork and exec: network (an empty namespace), root (own uid
 * and gid, no groups but the one of /dev/kvm when it is needed), every capability, and the way back
 * (no_new_privs). It dies with its supervisor. The file system jail and a system call allow-list
 * belong here too and come with the full jail. */
struct worker_jail {
    uid_t uid;
    gid_t kvm_gid; /* 0: no supplementary group */
    int fd_end;    /* descriptors from here on are closed */
    /* Emulated code may lie in huge pages: QEMU asks for them. There are more pages of it than a
     * processor's TLB has entries, so a new session answers a fifth sooner, for 2.5 MB more. */
    bool huge_pages;
};

/* In the child, single threaded. Returns 0 or -errno with *err. */
int worker_jail_enter(const struct worker_jail *jail, struct base_error *err);

/* The supervisor itself: keeps root's uid but no capability except CAP_KILL. */
int worker_jail_supervisor(struct base_error *err);
