#include "worker/jail/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/base/container.h"

static int set_caps(uint32_t keep)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}};
    return (int)syscall(SYS_capset, &head, data);
}

static int drop_bounding(int keep)
{
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
        /* EINVAL: the running kernel does not know this one. */
        if (cap != keep && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EINVAL) {
            return -1;
        }
    }
    return 0;
}

static int set_limits(void)
{
    static const struct {
        int what;
        rlim_t max;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_NOFILE, 64},
        {RLIMIT_FSIZE, 4 << 20}, /* only its log is a file that grows */
        {RLIMIT_MEMLOCK, 64 << 10},
        {RLIMIT_NPROC, 96}, /* 64 threads for slow reads of disks; it ends without one */
        {RLIMIT_MSGQUEUE, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit l = {limits[i].max, limits[i].max};
        if (setrlimit((__rlimit_resource_t)limits[i].what, &l) != 0) {
            return -1;
        }
    }
    return 0;
}

static int become(const struct worker_jail *jail)
{
    gid_t group = jail->kvm_gid;
    if (setgroups(group != 0 ? 1 : 0, &group) != 0 ||
        setresgid((gid_t)jail->uid, (gid_t)jail->uid, (gid_t)jail->uid) != 0) {
        return -1;
    }
    return setresuid(jail->uid, jail->uid, jail->uid);
}

int worker_jail_enter(const struct worker_jail *jail, struct base_error *err)
{
    if (jail->uid == 0) {
        return base_fail(err, -EPERM, "QEMU never runs as root");
    }
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
        return base_fail(err, -errno, "unshare network, ipc and host name");
    }
    if (syscall(SYS_close_range, (unsigned)jail->fd_end, ~0u, 0) != 0) {
        return base_fail(err, -errno, "close_range");
    }
    if (set_limits() != 0) {
        return base_fail(err, -errno, "resource limits");
    }
    if (drop_bounding(-1) != 0) {
        return base_fail(err, -errno, "drop the capability bounding set");
    }
    if (become(jail) != 0) {
        return base_fail(err, -errno, "become uid %u", (unsigned)jail->uid);
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (set_caps(0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return base_fail(err, -errno, "drop capabilities");
    }
    if (!jail->huge_pages) {
        (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
    /* After the change of uid, which clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return base_fail(err, -errno, "parent death signal");
    }
    return 0;
}

int worker_jail_supervisor(struct base_error *err)
{
    if (drop_bounding(CAP_KILL) != 0 || set_caps(1u << CAP_KILL) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return base_fail(err, -errno, "drop capabilities of the supervisor");
    }
    return 0;
}
