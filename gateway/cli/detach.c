#include "gateway/cli/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

/* Copies what is there; false at the end of the stream. */
static bool pass_on(int from, int to)
{
    char data[4096];
    ssize_t n = read(from, data, sizeof data);
    if (n < 0) {
        return errno == EINTR;
    }
    for (ssize_t done = 0; done < n;) {
        ssize_t k = write(to, data + done, (size_t)(n - done));
        if (k < 0 && errno != EINTR) {
            break; /* nobody reads any more; the child goes on all the same */
        }
        done += k > 0 ? k : 0;
    }
    return n > 0;
}

static void show(int out, int err)
{
    struct pollfd p[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        if (poll(p, 2, -1) < 0) {
            continue;
        }
        for (int i = 1; i >= 0; i--) { /* progress comes before what is said when ready */
            if (p[i].revents != 0 && !pass_on(p[i].fd, i == 0 ? STDOUT_FILENO : STDERR_FILENO)) {
                p[i].fd = -1;
            }
        }
    }
}

/* Both pipes are closed: the child is ready and lives, or it has ended. */
static int outcome(int ready, pid_t child)
{
    char byte;
    ssize_t n;
    do {
        n = read(ready, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) {
        return 0;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
}

static int ready_fd = -1; /* of the child; there is one process and one parent to tell */

enum cli_detach_side cli_detach_fork(int *ret_exit, struct base_error *err)
{
    int out[2], error[2], ready[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0 ||
        pipe2(ready, O_CLOEXEC) != 0) {
        (void)base_fail(err, -errno, "cannot make a pipe: %s", strerror(errno));
        return CLI_DETACH_FAILED;
    }
    (void)fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        (void)base_fail(err, -errno, "cannot fork: %s", strerror(errno));
        return CLI_DETACH_FAILED;
    }
    if (child > 0) {
        (void)close(out[1]);
        (void)close(error[1]);
        (void)close(ready[1]);
        show(out[0], error[0]);
        *ret_exit = outcome(ready[0], child);
        return CLI_DETACH_PARENT;
    }
    (void)setsid();
    (void)close(out[0]);
    (void)close(error[0]);
    (void)close(ready[0]);
    ready_fd = ready[1];
    CLEANUP(base_closep) int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0 ||
        dup2(error[1], STDERR_FILENO) < 0) {
        _exit(1);
    }
    (void)close(out[1]);
    (void)close(error[1]);
    return CLI_DETACH_CHILD;
}

int cli_detach_done(const char *log, struct base_error *err)
{
    if (ready_fd < 0) {
        return 0;
    }
    CLEANUP(base_closep)
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return base_fail(err, -errno, "cannot write the log '%s': %s", log, strerror(errno));
    }
    (void)fflush(NULL);
    (void)!write(ready_fd, "r", 1);
    base_closep(&ready_fd);
    ready_fd = -1;
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    return 0;
}
