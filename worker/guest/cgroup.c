#include "worker/guest/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

enum {
    USER_PIDS_MAX = 512,
    KERNEL_PIDS_MAX = 400, /* one kernel cannot keep the others from starting */
    USER_MEMORY_PERCENT = 77,
    AGENT_MEMORY_MIN = 48 << 20,
};

static int root_fd = -1; /* one hierarchy per machine */
static const char *root_path = "";

static int put(const char *path, const char *text)
{
    CLEANUP(base_closep) int fd = openat(root_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int put_u64(const char *path, uint64_t v)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, v);
    return put(path, text);
}

int agent_cgroup_init(const char *mount_point, uint64_t mem_total_bytes)
{
    root_fd = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        return -errno;
    }
    root_path = mount_point;
    if (mkdirat(root_fd, "agent", 0755) != 0 || mkdirat(root_fd, "user", 0755) != 0) {
        return -errno;
    }
    int rc = put("agent/cgroup.procs", "0");
    rc = rc == 0 ? put("cgroup.subtree_control", "+memory +pids") : rc;
    rc = rc == 0 ? put("user/cgroup.subtree_control", "+memory +pids") : rc;
    rc = rc == 0 ? put_u64("agent/memory.min", AGENT_MEMORY_MIN) : rc;
    rc = rc == 0 ? put_u64("user/memory.max", mem_total_bytes / 100 * USER_MEMORY_PERCENT) : rc;
    rc = rc == 0 ? put_u64("user/pids.max", USER_PIDS_MAX) : rc;
    return rc;
}

static void path_of(char *path, size_t cap, const char *name, const char *file)
{
    (void)snprintf(path, cap, "user/%s%s%s", name, file[0] == '\0' ? "" : "/", file);
}

int agent_cgroup_make(const char *name)
{
    char path[96];
    if (root_fd < 0) {
        return 0;
    }
    path_of(path, sizeof path, name, "");
    if (mkdirat(root_fd, path, 0755) != 0 && errno != EEXIST) {
        return -errno;
    }
    path_of(path, sizeof path, name, "pids.max");
    return put_u64(path, KERNEL_PIDS_MAX);
}

void agent_cgroup_join(const char *name)
{
    char path[96];
    if (root_fd >= 0) {
        path_of(path, sizeof path, name, "cgroup.procs");
        if (put(path, "0") != 0) {
            _exit(126); /* user code must not run outside its limits */
        }
    }
}

const char *agent_cgroup_procs(const char *name)
{
    static char path[128];
    if (root_fd < 0) {
        return "-";
    }
    (void)snprintf(path, sizeof path, "%s/user/%s/cgroup.procs", root_path, name);
    return path;
}

void agent_cgroup_protect(const char *name)
{
    char path[96];
    if (root_fd >= 0) {
        path_of(path, sizeof path, name, "memory.min");
        (void)put(path, "max");
    }
}

void agent_cgroup_kill(const char *name)
{
    char path[96];
    if (root_fd >= 0) {
        path_of(path, sizeof path, name, "cgroup.kill");
        (void)put(path, "1");
    }
}

uint64_t agent_cgroup_oom_kills(void)
{
    char text[512];
    if (root_fd < 0) {
        return 0;
    }
    CLEANUP(base_closep) int fd = openat(root_fd, "user/memory.events", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    const char *at = strstr(text, "oom_kill ");
    return at == NULL ? 0 : strtoull(at + strlen("oom_kill "), NULL, 10);
}
