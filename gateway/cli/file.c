#include "gateway/cli/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

int cli_file_path(char out[CLI_PATH_MAX], const char *dir, const char *name, struct base_error *err)
{
    int n = snprintf(out, CLI_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= CLI_PATH_MAX) {
        return base_fail(err, BASE_ETOOBIG, "path '%.60s...' is too long", dir);
    }
    return 0;
}

static int make_one(const char *path, mode_t mode, struct base_error *err)
{
    if (mkdir(path, mode) == 0) {
        return 0;
    }
    int e = errno;
    struct stat st;
    if (e == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    e = e == EEXIST ? ENOTDIR : e;
    return base_fail(err, -e, "cannot make the folder '%s': %s", path, strerror(e));
}

int cli_file_mkdirs(const char *path, mode_t mode, struct base_error *err)
{
    char part[CLI_PATH_MAX];
    size_t n = strnlen(path, CLI_PATH_MAX);
    if (n == 0 || n == CLI_PATH_MAX) {
        return base_fail(err, BASE_EINVAL, "'%.60s' is no folder name", path);
    }
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        /* Parents are ordinary folders; the mode is for the one that was asked for. */
        int rc = make_one(part, i == n ? mode : 0755, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int cli_file_read(const char *path, size_t max, char **ret, size_t *ret_n, struct base_error *err)
{
    bool standard_input = strcmp(path, "-") == 0;
    CLEANUP(base_closep)
    int fd =
        standard_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return base_fail(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    }
    CLEANUP(base_freep) char *data = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (cap - len < 2) { /* one byte for the terminator */
            cap = cap == 0 ? 16384 : cap * 2;
            char *more = realloc(data, cap);
            if (more == NULL) {
                return base_fail(err, BASE_ENOMEM, "out of memory for '%s'", path);
            }
            data = more;
        }
        ssize_t n = read(fd, data + len, cap - len - 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return base_fail(err, -errno, "cannot read '%s': %s", path, strerror(errno));
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (len > max) {
            return base_fail(err, BASE_ETOOBIG, "'%s' is larger than %zu bytes", path, max);
        }
    }
    data[len] = '\0';
    *ret = TAKE_PTR(data);
    *ret_n = len;
    return 0;
}

static int write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, data, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return -errno;
        }
        data += done;
        n -= (size_t)done;
    }
    return 0;
}

/* The new name survives a power cut, too, where the file system can promise that. */
static void sync_folder(const char *path)
{
    char dir[CLI_PATH_MAX];
    (void)snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL) {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    CLEANUP(base_closep)
    int fd = open(slash == NULL ? "." : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
    }
}

int cli_file_write(
    const char *path, const void *data, size_t n, mode_t mode, struct base_error *err)
{
    char temp[CLI_PATH_MAX];
    int len = snprintf(temp, sizeof temp, "%s.XXXXXX", path);
    if (len < 0 || len >= (int)sizeof temp) {
        return base_fail(err, BASE_ETOOBIG, "path '%.60s...' is too long", path);
    }
    CLEANUP(base_closep) int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return base_fail(err, -errno, "cannot write '%s': %s", path, strerror(errno));
    }
    int rc = write_all(fd, data, n);
    if (rc == 0 && (fchmod(fd, mode) != 0 || fsync(fd) != 0 || rename(temp, path) != 0)) {
        rc = -errno;
    }
    if (rc != 0) {
        (void)unlink(temp);
        return base_fail(err, rc, "cannot write '%s': %s", path, strerror(-rc));
    }
    sync_folder(path);
    return 0;
}
