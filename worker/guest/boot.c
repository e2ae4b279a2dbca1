#include "worker/guest/boot.h"
#include "worker/guest/seed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "worker/guest/cgroup.h"
#include "worker/guest/stats.h"

#define MODULES "/lib/warren/modules"
#define KERNELS "/lib/warren/kernels"
#define NEW "/new"
#define RW "/rw"

enum {
    WAIT_MS_MAX = 20000, /* for a device to appear, under software emulation */
    FILES_MAX = 4096,
    AGENT_NICE = -10,
};

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&ts, NULL);
}

static int fail(const struct base_log *log, const char *what)
{
    int err = errno;
    LOG_ERROR(log, "boot: %s: %s", what, strerror(err));
    return err == 0 ? -EIO : -err;
}

static int put(const char *path, const char *text)
{
    CLEANUP(base_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* --- Kernel modules --------------------------------------------------------------------------- */

static int load_module(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, MODULES "/%s", name);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
        return -errno;
    }
    (void)unlink(path); /* the initramfs is memory */
    return 0;
}

static int load_modules(const struct base_log *log)
{
    CLEANUP(base_fclosep) FILE *f = fopen(MODULES "/order", "re");
    char line[128];
    if (f == NULL) {
        return fail(log, MODULES "/order");
    }
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0' && load_module(line) != 0) {
            return fail(log, line);
        }
    }
    return 0;
}

/* --- File systems ----------------------------------------------------------------------------- */

static int wait_for(const char *path)
{
    for (int ms = 0; ms < WAIT_MS_MAX; ms++) {
        if (access(path, F_OK) == 0) {
            return 0;
        }
        sleep_ms(1);
    }
    return -ENODEV;
}

struct folder {
    const char *path;
    mode_t mode;
    uid_t uid;
};

static int make_folders(const struct folder *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((mkdir(all[i].path, all[i].mode) != 0 && errno != EEXIST) ||
            chmod(all[i].path, all[i].mode) != 0 ||
            chown(all[i].path, all[i].uid, all[i].uid) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Makes a folder of the writable file system appear elsewhere. */
static int show(const char *from, const char *to)
{
    if (mount(from, to, NULL, MS_BIND, NULL) != 0) {
        return -1;
    }
    return mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL);
}

static int mount_kernel_systems(const struct base_log *log)
{
    static const struct folder first[] = {{"/proc", 0555, 0}, {"/sys", 0555, 0}, {"/dev", 0755, 0},
        {"/lower", 0755, 0}, {RW, 0755, 0}, {NEW, 0755, 0}};
    if (make_folders(first, sizeof first / sizeof *first) != 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0 ||
        mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0 ||
        (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") != 0 && errno != EBUSY)) {
        return fail(log, "mount proc, sys, dev");
    }
    return 0;
}

/* One writable file system with one limit holds all that a session changes. */
static int mount_root(const struct base_log *log)
{
    static const struct folder rw[] = {{RW "/up", 0755, 0}, {RW "/work", 0755, 0},
        {RW "/run", 0755, 0}, {RW "/data", 0755, AGENT_BOOT_UID}, {RW "/tmp", 01777, 0},
        {RW "/shm", 01777, 0}, {RW "/run/warren", 0755, AGENT_BOOT_UID}};
    errno = 0;
    if (wait_for("/dev/vda") != 0 ||
        mount("/dev/vda", "/lower", "squashfs", MS_RDONLY, NULL) != 0) {
        return fail(log, "mount /dev/vda");
    }
    if (mount("rw", RW, "tmpfs", MS_NOSUID | MS_NODEV, "size=50%,nr_inodes=200k,mode=0755") != 0 ||
        make_folders(rw, sizeof rw / sizeof *rw) != 0) {
        return fail(log, "writable file system");
    }
    if (mount("root", NEW, "overlay", MS_NOSUID | MS_NODEV,
            "lowerdir=/lower,upperdir=" RW "/up,workdir=" RW "/work") != 0) {
        return fail(log, "overlay");
    }
    if (mount("/dev", NEW "/dev", NULL, MS_MOVE, NULL) != 0 ||
        mount("/proc", NEW "/proc", NULL, MS_MOVE, NULL) != 0 ||
        mount("/sys", NEW "/sys", NULL, MS_MOVE, NULL) != 0) {
        return fail(log, "move dev, proc, sys");
    }
    static const struct folder dev[] = {{NEW "/dev/pts", 0755, 0}, {NEW "/dev/shm", 01777, 0}};
    if (make_folders(dev, sizeof dev / sizeof *dev) != 0 ||
        mount("devpts", NEW "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
            "gid=5,mode=0620,ptmxmode=0666") != 0 ||
        show(RW "/shm", NEW "/dev/shm") != 0 || show(RW "/tmp", NEW "/tmp") != 0 ||
        show(RW "/run", NEW "/run") != 0 || show(RW "/data", NEW "/mnt/data") != 0) {
        return fail(log, "mount pts, shm, tmp, run, data");
    }
    if (mount("cgroup", NEW "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) !=
        0) {
        return fail(log, "mount cgroup2");
    }
    return 0;
}

static int copy_file(const char *from, const char *to)
{
    CLEANUP(base_closep) int in = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP(base_closep) int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    char data[16384];
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, data, sizeof data)) > 0) {
        if (write(out, data, (size_t)n) != n) {
            return -1;
        }
    }
    return n == 0 ? 0 : -1;
}

/* The interpreters' programs go from the initramfs into the new root. */
static int move_kernels(const struct base_log *log)
{
    DIR *d = opendir(KERNELS);
    if (d == NULL || (mkdir(NEW KERNELS, 0755) != 0 && errno != EEXIST)) {
        return fail(log, KERNELS);
    }
    struct dirent *e;
    int rc = 0;
    while ((e = readdir(d)) != NULL && rc == 0) {
        char from[300], to[300];
        if (e->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(from, sizeof from, KERNELS "/%s", e->d_name);
        (void)snprintf(to, sizeof to, NEW KERNELS "/%s", e->d_name);
        rc = copy_file(from, to) != 0 ? fail(log, from) : 0;
        (void)unlink(from);
    }
    (void)closedir(d);
    return rc;
}

/* A root file system in memory cannot be pivoted away: the new root is moved over it. */
static int switch_root(const struct base_log *log)
{
    if (chdir(NEW) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0) {
        return fail(log, "switch root");
    }
    return 0;
}

/* --- The rest --------------------------------------------------------------------------------- */

static void loopback_up(const struct base_log *log)
{
    CLEANUP(base_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo"};
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) != 0) {
        LOG_WARN(log, "boot: no loopback, going on: %s", strerror(errno));
    }
}

/* Periodic work of the kernel that an idle guest does not need: each wakes the host. */
static void set_sysctls(const struct base_log *log)
{
    static const char *const all[][2] = {
        {"vm/stat_interval", "86400"},
        {"vm/compaction_proactiveness", "0"},
        {"vm/dirty_writeback_centisecs", "0"},
        {"net/ipv4/neigh/default/interval_probe_time_ms", "2000000000"},
        {"net/ipv6/neigh/default/interval_probe_time_ms", "2000000000"},
        {"net/ipv4/neigh/default/base_reachable_time_ms", "2000000000"},
        {"net/ipv6/neigh/default/base_reachable_time_ms", "2000000000"},
        {"kernel/dmesg_restrict", "1"},
        {"kernel/unprivileged_bpf_disabled", "1"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "/proc/sys/%s", all[i][0]);
        int rc = put(path, all[i][1]);
        if (rc != 0) {
            LOG_DEBUG(log, "boot: %s: %s", all[i][0], strerror(-rc));
        }
    }
}

/* The agent must answer when the user's code has taken all memory and all processes. */
static int protect_self(const struct base_log *log)
{
    struct rlimit files = {.rlim_cur = FILES_MAX, .rlim_max = FILES_MAX};
    (void)setrlimit(RLIMIT_NOFILE, &files);
    int rc = agent_cgroup_init("/sys/fs/cgroup", agent_stats_mem_total());
    if (rc != 0) {
        errno = -rc;
        return fail(log, "control groups");
    }
    if (put("/proc/self/oom_score_adj", "-1000") != 0 || mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        return fail(log, "protect the agent");
    }
    (void)setpriority(PRIO_PROCESS, 0, AGENT_NICE);
    return 0;
}

static void open_console(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (null >= 0) {
        (void)dup2(null, 0);
    }
    if (console >= 0 || null >= 0) {
        (void)dup2(console >= 0 ? console : null, 1);
        (void)dup2(console >= 0 ? console : null, 2);
    }
}

int agent_boot(const struct base_log *log)
{
    (void)umask(022);
    int rc = mount_kernel_systems(log);
    if (rc != 0) {
        return rc;
    }
    open_console();
    if ((rc = load_modules(log)) != 0 || (rc = mount_root(log)) != 0 ||
        (rc = move_kernels(log)) != 0 || (rc = switch_root(log)) != 0) {
        return rc;
    }
    loopback_up(log);
    set_sysctls(log);
    (void)agent_seed_prepare(); /* a clone only takes longer without it */
    return protect_self(log);
}

const char *agent_boot_word(const char *name)
{
    static char line[4096];
    static char value[256];
    CLEANUP(base_closep) int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    line[n < 0 ? 0 : n] = '\0';
    size_t len = strlen(name);
    for (char *at = line; *at != '\0';) {
        size_t word = strcspn(at, " \n");
        if (word > len && strncmp(at, name, len) == 0 && at[len] == '=' &&
            word - len - 1 < sizeof value) {
            memcpy(value, at + len + 1, word - len - 1);
            value[word - len - 1] = '\0';
            return value;
        }
        at += word;
        at += strspn(at, " \n");
    }
    return "";
}

static bool port_named(const char *device, const char *name)
{
    char path[300], text[64];
    (void)snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", device);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return strcmp(text, name) == 0;
}

int agent_boot_port(const char *name)
{
    for (int ms = 0; ms < WAIT_MS_MAX; ms++) {
        DIR *d = opendir("/sys/class/virtio-ports");
        struct dirent *e;
        int fd = -1;
        while (d != NULL && fd < 0 && (e = readdir(d)) != NULL) {
            char path[300];
            if (e->d_name[0] != '.' && port_named(e->d_name, name)) {
                (void)snprintf(path, sizeof path, "/dev/%s", e->d_name);
                fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
            }
        }
        if (d != NULL) {
            (void)closedir(d);
        }
        if (fd >= 0) {
            return fd;
        }
        sleep_ms(1);
    }
    return -ENODEV;
}
