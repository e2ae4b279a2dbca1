#include "gateway/cli/supervise.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"

enum {
    CHILDREN_MAX = CLI_SUPERVISE_MAX,
    STOP_S = 40,          /* from SIGTERM to SIGKILL, each */
    STILL_WAITING_S = 30, /* silence after which a line says that we wait */
    TAIL_BYTES = 1500
};

enum phase { STARTING, RUNNING, STOPPING };

struct run {
    struct cli_supervisor *s;
    int signal_fd;
    enum phase phase;
    int exit_code;
    size_t stopping;      /* child that is being stopped */
    uint64_t kill_ns;     /* when it gets SIGKILL */
    uint64_t last_say_ns; /* for STILL_WAITING_S */
};

void cli_supervise_say(const struct cli *cli, const char *event, const char *from, const char *text)
{
    static uint64_t start_ns;
    uint64_t now = base_clock_mono_ns();
    start_ns = start_ns == 0 ? now : start_ns;
    double s = (double)(now - start_ns) / 1e9;
    if (!cli->json) {
        if (!cli->quiet || strcmp(event, "failed") == 0) {
            (void)fprintf(stderr, "[%6.1f s] %s%s%s\n", s, from, from[0] == '\0' ? "" : ": ", text);
        }
        return;
    }
    json_t *doc =
        json_pack("{s:s, s:s, s:s, s:f}", "event", event, "from", from, "text", text, "seconds", s);
    if (doc != NULL) {
        (void)json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        (void)fputc('\n', stdout);
        (void)fflush(stdout);
    }
    json_decref(doc);
}

static void say(struct run *r, const char *event, const char *from, const char *text)
{
    r->last_say_ns = base_clock_mono_ns();
    cli_supervise_say(r->s->cli, event, from, text);
}

static void stop_next(struct run *r, uint64_t now)
{
    while (r->stopping < r->s->n && r->s->children[r->stopping].pid == 0) {
        r->stopping++;
    }
    if (r->stopping == r->s->n) {
        return;
    }
    const struct cli_child *c = &r->s->children[r->stopping];
    say(r, "stopping", c->name, "stopping");
    (void)kill(c->pid, SIGTERM);
    r->kill_ns = now + STOP_S * BASE_NS_PER_S;
}

static void stop_all(struct run *r, uint64_t now)
{
    r->phase = STOPPING;
    r->stopping = 0;
    for (size_t i = 0; i < r->s->n; i++) {
        r->s->children[i].start_again_ns = 0;
    }
    stop_next(r, now);
}

static void say_tail(struct run *r, const struct cli_child *c)
{
    char *tail = cli_child_log_tail(c, TAIL_BYTES);
    if (tail != NULL && !r->s->cli->json) {
        (void)fprintf(stderr, "--- last lines of %s\n%s---\n", c->log, tail);
    }
    free(tail);
}

static void start(struct run *r, struct cli_child *c, uint64_t now)
{
    struct base_error err = {0};
    if (cli_child_start(c, now, &err) == 0) {
        return;
    }
    say(r, "failed", c->name, err.text);
    if (r->phase == STARTING) {
        r->exit_code = CLI_FAILED;
        stop_all(r, now);
    } else {
        (void)cli_child_died(c, now);
    }
}

static void on_ready(struct run *r)
{
    for (size_t i = 0; i < r->s->n; i++) {
        if (!r->s->children[i].ready) {
            return;
        }
    }
    if (r->phase == STARTING) {
        r->phase = RUNNING;
        r->s->ready(r->s->user);
    }
}

static void on_pipe(struct run *r, struct cli_child *c)
{
    char text[CLI_CHILD_TEXT_MAX];
    for (;;) {
        switch (cli_child_read(c, text)) {
        case CLI_CHILD_NONE:
            return;
        case CLI_CHILD_PROGRESS:
            if (cli_child_is_news(c, text, base_clock_mono_ns())) {
                say(r, "progress", c->name, text);
            }
            break;
        case CLI_CHILD_READY:
            say(r, "progress", c->name, "ready");
            if (r->phase == STARTING && r->s->child_ready != NULL &&
                !r->s->child_ready(r->s->user, c)) {
                r->exit_code = CLI_FAILED;
                stop_all(r, base_clock_mono_ns());
            }
            on_ready(r);
            break;
        case CLI_CHILD_FAILED:
            say(r, "failed", c->name, text);
            break;
        }
    }
}

static void on_death(struct run *r, struct cli_child *c, int wait_status, uint64_t now)
{
    char how[CLI_CHILD_TEXT_MAX], text[2 * CLI_CHILD_TEXT_MAX + 32];
    on_pipe(r, c); /* what it said last */
    if (c->ready_fd >= 0) {
        (void)close(c->ready_fd);
        c->ready_fd = -1;
    }
    bool orderly = r->phase == STOPPING && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    cli_child_status(wait_status, how);
    uint32_t wait_ms = cli_child_died(c, now);
    if (r->phase == STOPPING) {
        c->start_again_ns = 0;
        say(r, orderly ? "progress" : "died", c->name, orderly ? "stopped" : how);
        stop_next(r, now);
        return;
    }
    if (r->phase == STARTING) {
        (void)snprintf(text, sizeof text, "did not start (%s)%s%s", how,
            c->reason[0] == '\0' ? "" : ": ", c->reason);
        say(r, "failed", c->name, text);
        say_tail(r, c);
        r->exit_code = CLI_FAILED;
        stop_all(r, now);
        return;
    }
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == CLI_CHILD_LEFT) {
        c->start_again_ns = 0;
        say(r, "left", c->name, "out of service as ordered, not started again");
        return;
    }
    (void)snprintf(text, sizeof text, "ended with %s, starting it again in %u ms", how, wait_ms);
    say(r, "died", c->name, text);
}

static void reap(struct run *r, uint64_t now)
{
    for (size_t i = 0; i < r->s->n; i++) {
        struct cli_child *c = &r->s->children[i];
        int status;
        if (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid) {
            on_death(r, c, status, now);
        }
    }
}

static void on_signal(struct run *r, uint64_t now)
{
    struct signalfd_siginfo info;
    while (read(r->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            continue;
        }
        if (r->phase != STOPPING) {
            stop_all(r, now);
        } else if (info.ssi_signo == SIGINT && r->stopping < r->s->n) { /* a second Ctrl-C */
            say(r, "stopping", r->s->children[r->stopping].name, "killing it");
            (void)kill(r->s->children[r->stopping].pid, SIGKILL);
        }
    }
    reap(r, now);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return b != 0 && b < a ? b : a;
}

static int poll_timeout_ms(const struct run *r, uint64_t now)
{
    uint64_t next = r->last_say_ns + STILL_WAITING_S * BASE_NS_PER_S;
    if (r->phase == RUNNING) {
        next = UINT64_MAX;
    }
    if (r->phase == STOPPING) {
        next = earlier(next, r->kill_ns);
    }
    for (size_t i = 0; i < r->s->n; i++) {
        next = earlier(next, r->s->children[i].start_again_ns);
    }
    if (next == UINT64_MAX) {
        return -1;
    }
    return next <= now ? 0 : (int)((next - now) / BASE_NS_PER_MS) + 1;
}

static void on_time(struct run *r, uint64_t now)
{
    for (size_t i = 0; i < r->s->n; i++) {
        struct cli_child *c = &r->s->children[i];
        if (c->start_again_ns != 0 && c->start_again_ns <= now) {
            start(r, c, now);
        }
    }
    if (r->phase == STOPPING && r->stopping < r->s->n && r->kill_ns <= now) {
        say(r, "stopping", r->s->children[r->stopping].name, "does not stop, killing it");
        (void)kill(r->s->children[r->stopping].pid, SIGKILL);
        r->kill_ns = now + STOP_S * BASE_NS_PER_S;
    }
    if (r->phase != RUNNING && now - r->last_say_ns >= STILL_WAITING_S * BASE_NS_PER_S) {
        say(r, "progress", "", r->phase == STARTING ? "still starting" : "still stopping");
    }
}

static bool any_lives(const struct run *r)
{
    for (size_t i = 0; i < r->s->n; i++) {
        if (r->s->children[i].pid != 0) {
            return true;
        }
    }
    return false;
}

static void turn(struct run *r)
{
    struct pollfd p[CHILDREN_MAX + 1];
    size_t n = r->s->n;
    for (size_t i = 0; i < n; i++) {
        p[i] = (struct pollfd){.fd = r->s->children[i].ready_fd, .events = POLLIN};
    }
    p[n] = (struct pollfd){.fd = r->signal_fd, .events = POLLIN};
    if (poll(p, n + 1, poll_timeout_ms(r, base_clock_mono_ns())) < 0 && errno != EINTR) {
        return; /* out of memory in the kernel: the next turn tries again */
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i].fd >= 0 && p[i].revents != 0) {
            on_pipe(r, &r->s->children[i]);
        }
    }
    uint64_t now = base_clock_mono_ns();
    if (p[n].revents != 0) {
        on_signal(r, now);
    }
    on_time(r, now);
}

int cli_supervise(struct cli_supervisor *s)
{
    struct run r = {.s = s, .exit_code = CLI_OK, .last_say_ns = base_clock_mono_ns()};
    sigset_t set, old;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, &old);
    r.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->n > CHILDREN_MAX || r.signal_fd < 0) {
        return cli_fail(s->cli, CLI_LOCAL, NULL, "cannot watch signals: %s", strerror(errno));
    }
    /* The last in the list is what the others need. */
    for (size_t i = s->n; i-- > 0 && r.phase == STARTING;) {
        start(&r, &s->children[i], base_clock_mono_ns());
    }
    while (r.phase != STOPPING || any_lives(&r)) {
        turn(&r);
    }
    (void)close(r.signal_fd);
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    return r.exit_code;
}
