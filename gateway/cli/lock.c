#include "gateway/cli/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "gateway/cli/file.h"
#include "proto/base/cleanup.h"

static const struct flock WHOLE = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

static pid_t owner_of(int fd)
{
    struct flock l = WHOLE;
    return fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK ? l.l_pid : 0;
}

int cli_lock_take(const char *dir, int *ret_fd, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    int rc = cli_file_path(path, dir, "up.lock", err);
    if (rc != 0) {
        return rc;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return base_fail(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    }
    struct flock l = WHOLE;
    if (fcntl(fd, F_SETLK, &l) == 0) {
        *ret_fd = fd;
        return 0;
    }
    int e = errno;
    pid_t owner = owner_of(fd);
    (void)close(fd);
    if (e != EACCES && e != EAGAIN) {
        return base_fail(err, -e, "cannot lock '%s': %s", path, strerror(e));
    }
    return base_fail(
        err, BASE_EEXISTS, "'%s' is in use by another warren up (pid %d)", dir, (int)owner);
}

pid_t cli_lock_owner(const char *dir)
{
    char path[CLI_PATH_MAX];
    if (cli_file_path(path, dir, "up.lock", NULL) != 0) {
        return 0;
    }
    CLEANUP(base_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? 0 : owner_of(fd);
}
