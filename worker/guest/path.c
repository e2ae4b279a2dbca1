#include "worker/guest/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/base/text.h"

int agent_path_check(const char *path, bool absolute, bool empty, const char **ret_rest)
{
    size_t n = strlen(path);
    if (n > PROTO_PATH_BYTES_MAX) {
        return BASE_ETOOBIG;
    }
    if (!base_text_utf8(path, n) || (absolute && path[0] != '/')) {
        return BASE_EINVAL;
    }
    const char *at = absolute ? path + 1 : path;
    if (*at == '\0') {
        *ret_rest = at;
        return empty ? 0 : BASE_EINVAL;
    }
    for (const char *part = at;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > AGENT_PATH_NAME_MAX || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.')) {
            return BASE_EINVAL;
        }
        part += len;
        if (*part == '\0') {
            break;
        }
    }
    *ret_rest = at;
    return 0;
}

int agent_path_open(int root_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, root_fd, *path == '\0' ? "." : path, &how, sizeof how);
        if (fd >= 0) {
            return (int)fd;
        }
        /* A rename at the same time makes the kernel unsure; it asks to try again. */
        if (errno != EAGAIN || tries == 8) {
            return -errno;
        }
    }
}

static int open_folder(int root_fd, const char *path)
{
    return agent_path_open(root_fd, path, O_PATH | O_DIRECTORY);
}

/* Opens the folder, making what is missing of it from the top down. */
static int make_folders(int root_fd, const char *folder)
{
    char path[PROTO_PATH_BYTES_MAX + 1];
    int at = open_folder(root_fd, "");
    const char *part = folder;
    while (at >= 0 && *part != '\0') {
        size_t len = strcspn(part, "/");
        size_t end = (size_t)(part - folder) + len;
        char name[AGENT_PATH_NAME_MAX + 1];
        memcpy(path, folder, end);
        path[end] = '\0';
        memcpy(name, part, len);
        name[len] = '\0';
        int next = open_folder(root_fd, path);
        if (next == -ENOENT) {
            next = mkdirat(at, name, 0755) != 0 && errno != EEXIST ? -errno
                                                                   : open_folder(root_fd, path);
        }
        (void)close(at);
        at = next;
        part += len + (part[len] == '/' ? 1 : 0);
    }
    return at;
}

int agent_path_parent(int root_fd, const char *path, bool make, const char **ret_name)
{
    char folder[PROTO_PATH_BYTES_MAX + 1] = "";
    const char *slash = strrchr(path, '/');
    *ret_name = slash == NULL ? path : slash + 1;
    if (slash != NULL) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = '\0';
    }
    int fd = open_folder(root_fd, folder);
    return fd == -ENOENT && make ? make_folders(root_fd, folder) : fd;
}

int agent_path_code(int err)
{
    switch (err) {
    case ENOENT:
        return BASE_ENOTFOUND;
    case EACCES:
    case EPERM:
    case EXDEV:
    case ELOOP:
    case EROFS:
        return BASE_EDENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return BASE_EFULL;
    case ENOMEM:
        return BASE_ENOMEM;
    case EEXIST:
    case ENOTEMPTY:
        return BASE_EEXISTS;
    case ENOTDIR:
    case EISDIR:
    case EINVAL:
        return BASE_EINVAL;
    case ENAMETOOLONG:
    case EFBIG:
        return BASE_ETOOBIG;
    case EBUSY:
        return BASE_ESTATE;
    default:
        return BASE_EIO;
    }
}

void agent_path_become(uid_t uid, gid_t gid)
{
    if (uid != (uid_t)-1) {
        (void)setfsgid(gid);
        (void)setfsuid(uid);
    }
}

void agent_path_return(uid_t uid)
{
    if (uid != (uid_t)-1) {
        (void)setfsuid(geteuid());
        (void)setfsgid(getegid());
    }
}
