#include "worker/guest/forks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "worker/guest/cgroup.h"

enum { FAILURES_MAX = 3, PASSED_FDS = AGENT_SPAWN_FDS - 1 };

static const char group_name[] = "forks";

static void close_socket(struct agent_forks *f)
{
    int fd = f->socket.fd;
    agent_loop_remove(f->loop, &f->socket);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void on_socket(struct agent_watch *w, uint32_t events)
{
    (void)events;
    struct agent_forks *f = CONTAINER_OF(w, struct agent_forks, socket);
    char text[16];
    ssize_t n = recv(w->fd, text, sizeof text, MSG_DONTWAIT);
    if (n > 0 && f->state == AGENT_FORKS_STARTING) {
        f->state = AGENT_FORKS_READY;
        f->failures = 0;
        agent_cgroup_protect(group_name);
        f->changed(f->owner);
    } else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close_socket(f);
        agent_forks_stop(f);
    }
}

void agent_forks_init(struct agent_forks *f, struct agent_loop *l,
    const struct agent_config *config, void (*changed)(void *owner), void *owner)
{
    *f = (struct agent_forks){.loop = l, .config = config, .changed = changed, .owner = owner};
    f->socket = (struct agent_watch){.fd = -1, .ready = on_socket};
}

/* Standard output is nobody's; errors of loading go to the console. */
static int start(struct agent_forks *f)
{
    int pair[2];
    struct agent_spawn s = {.ours = {-1, -1, -1, -1, -1}, .theirs = {-1, -1, -1, -1, -1}};
    if (agent_cgroup_make(group_name) != 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return -errno;
    }
    s.theirs[0] = agent_spawn_raise(open("/dev/null", O_RDWR | O_CLOEXEC));
    s.theirs[1] = fcntl(s.theirs[0], F_DUPFD_CLOEXEC, s.theirs[0]);
    s.theirs[2] = fcntl(2, F_DUPFD_CLOEXEC, s.theirs[0]);
    s.theirs[3] = agent_spawn_raise(pair[1]);
    s.theirs[4] = fcntl(s.theirs[0], F_DUPFD_CLOEXEC, s.theirs[0]);
    int rc = agent_spawn_run(f->config, AGENT_SPAWN_PYTHON_FORKS, group_name, &s);
    agent_spawn_close(s.theirs);
    if (rc == 0) {
        rc = agent_loop_add(f->loop, &f->socket, pair[0], EPOLLIN);
        f->pid = s.pid;
    }
    if (rc != 0) {
        (void)close(pair[0]);
    }
    return rc;
}

bool agent_forks_wanted(struct agent_forks *f)
{
    if (f->state == AGENT_FORKS_OFF) {
        f->state = start(f) == 0 ? AGENT_FORKS_STARTING : AGENT_FORKS_FAILED;
    }
    return f->state == AGENT_FORKS_STARTING;
}

int agent_forks_request(struct agent_forks *f, const char *group, const struct agent_spawn *s)
{
    char text[160];
    const struct agent_config *c = f->config;
    (void)snprintf(
        text, sizeof text, "%s %d %d", agent_cgroup_procs(group), (int)c->uid, (int)c->gid);
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(PASSED_FDS * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = text, .iov_len = strlen(text)};
    struct msghdr m = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(PASSED_FDS * sizeof(int));
    memcpy(CMSG_DATA(h), &s->theirs[AGENT_SPAWN_STDOUT], PASSED_FDS * sizeof(int));
    return sendmsg(f->socket.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void agent_forks_stop(struct agent_forks *f)
{
    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
    }
}

bool agent_forks_reaped(struct agent_forks *f, pid_t pid)
{
    if (pid != f->pid) {
        return false;
    }
    close_socket(f);
    f->pid = 0;
    f->state = ++f->failures < FAILURES_MAX ? AGENT_FORKS_OFF : AGENT_FORKS_FAILED;
    f->changed(f->owner); /* who waits starts the slow way; the next one tries it again */
    return true;
}

void agent_forks_deinit(struct agent_forks *f)
{
    close_socket(f);
    if (f->pid > 0) {
        agent_forks_stop(f);
        (void)waitpid(f->pid, NULL, 0);
        f->pid = 0;
    }
}
