#include "gateway/cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"

enum {
    READY_FD = 3,
    WAIT_MS_FIRST = 200,
    WAIT_MS_LONGEST = 10000,
    HEALTHY_S = 60,
    SAY_AGAIN_S = 10,
    LOG_BYTES_MAX = 16 << 20
};

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_in_path(const char *program, char ret[CLI_PATH_MAX])
{
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");
        int len = snprintf(ret, CLI_PATH_MAX, "%.*s/%s", (int)n, path, program);
        if (n > 0 && len < CLI_PATH_MAX && is_program(ret)) {
            return true;
        }
        path += n + (path[n] == ':');
    }
    return false;
}

int cli_child_find(const char *program, char ret[CLI_PATH_MAX], struct base_error *err)
{
    static const char *const near[] = {"", "../libexec/warren/", "../libexec/"};
    char self[CLI_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        *(slash == NULL ? self : slash) = '\0';
        for (size_t i = 0; i < sizeof near / sizeof near[0]; i++) {
            int len = snprintf(ret, CLI_PATH_MAX, "%s/%s%s", self, near[i], program);
            if (len < CLI_PATH_MAX && is_program(ret)) {
                return 0;
            }
        }
    }
    if (find_in_path(program, ret)) {
        return 0;
    }
    return base_fail(
        err, BASE_ENOTFOUND, "the program %s is neither beside warren nor in PATH", program);
}

/* A log that has grown large is kept once under .1. */
static int open_log(const char *path, struct base_error *err)
{
    char older[CLI_PATH_MAX + 2];
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > LOG_BYTES_MAX) {
        (void)snprintf(older, sizeof older, "%s.1", path);
        (void)rename(path, older);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return base_fail(err, -errno, "cannot write the log '%s': %s", path, strerror(errno));
    }
    return fd;
}

/* Between fork and exec: only async-signal-safe calls. */
_Noreturn static void become(struct cli_child *c, pid_t parent, int ready_fd, int log_fd)
{
    char config[] = "--config", ready[] = "--ready-fd", number[] = {'0' + READY_FD, '\0'};
    char *const argv[] = {c->program, config, c->config, ready, number,
        c->extra == NULL ? NULL : (char *)(uintptr_t)c->extra, NULL};
    static const char failed[] =
        "{\"event\":\"failed\",\"text\":\"the program cannot be executed\"}\n";
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    /* Own group: Ctrl-C reaches `warren up` alone, which then stops the daemons in order. */
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    int null_fd = open("/dev/null", O_RDWR);
    if (getppid() != parent || null_fd < 0) {
        _exit(127);
    }
    (void)dup2(null_fd, STDIN_FILENO);
    if (log_fd >= 0) {
        (void)dup2(log_fd, STDOUT_FILENO);
        (void)dup2(log_fd, STDERR_FILENO);
    } else {
        (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* stdout is for the events of `warren up` */
    }
    if (ready_fd == READY_FD) {
        (void)fcntl(ready_fd, F_SETFD, 0);
    } else {
        (void)dup2(ready_fd, READY_FD);
    }
    (void)execv(c->program, argv);
    (void)!write(READY_FD, failed, sizeof failed - 1);
    _exit(127);
}

int cli_child_start(struct cli_child *c, uint64_t now_ns, struct base_error *err)
{
    int fds[2];
    CLEANUP(base_closep) int log_fd = -1;
    if (c->log[0] != '\0') {
        log_fd = open_log(c->log, err);
        if (log_fd < 0) {
            return err->code;
        }
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return base_fail(err, -errno, "cannot make a pipe: %s", strerror(errno));
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        become(c, parent, fds[1], log_fd);
    }
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        return base_fail(err, -errno, "cannot start %s: %s", c->program, strerror(errno));
    }
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    c->pid = pid;
    c->ready_fd = fds[0];
    c->ready = false;
    c->line_len = 0;
    c->reason[0] = '\0';
    c->started_ns = now_ns;
    c->start_again_ns = 0;
    return 0;
}

enum cli_child_event cli_child_parse(const char *line, size_t n, char text[CLI_CHILD_TEXT_MAX])
{
    json_error_t e;
    json_t *doc = json_loadb(line, n, JSON_REJECT_DUPLICATES, &e);
    const char *event = json_string_value(json_object_get(doc, "event"));
    const char *said = json_string_value(json_object_get(doc, "text"));
    enum cli_child_event what = CLI_CHILD_NONE;
    text[0] = '\0';
    if (event != NULL && strcmp(event, "ready") == 0) {
        what = CLI_CHILD_READY;
    } else if (event != NULL && said != NULL && strcmp(event, "progress") == 0) {
        what = CLI_CHILD_PROGRESS;
    } else if (event != NULL && strcmp(event, "failed") == 0) {
        what = CLI_CHILD_FAILED;
        said = said == NULL ? "no reason given" : said;
    }
    if (said != NULL) {
        (void)snprintf(text, CLI_CHILD_TEXT_MAX, "%s", said);
    }
    json_decref(doc);
    return what;
}

static enum cli_child_event take_line(struct cli_child *c, char text[CLI_CHILD_TEXT_MAX])
{
    for (;;) {
        char *end = memchr(c->line, '\n', c->line_len);
        if (end == NULL) {
            if (c->line_len == sizeof c->line) {
                c->line_len = 0; /* longer than any real line: drop it */
            }
            return CLI_CHILD_NONE;
        }
        size_t n = (size_t)(end - c->line);
        enum cli_child_event what = cli_child_parse(c->line, n, text);
        c->line_len -= n + 1;
        memmove(c->line, end + 1, c->line_len);
        if (what == CLI_CHILD_READY) {
            c->ready = true;
        } else if (what == CLI_CHILD_FAILED) {
            (void)base_text_copy(c->reason, sizeof c->reason, text);
        }
        if (what != CLI_CHILD_NONE) {
            return what;
        }
    }
}

enum cli_child_event cli_child_read(struct cli_child *c, char text[CLI_CHILD_TEXT_MAX])
{
    for (;;) {
        enum cli_child_event what = take_line(c, text);
        if (what != CLI_CHILD_NONE || c->ready_fd < 0) {
            return what;
        }
        ssize_t n = read(c->ready_fd, c->line + c->line_len, sizeof c->line - c->line_len);
        if (n > 0) {
            c->line_len += (size_t)n;
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return CLI_CHILD_NONE;
        }
        (void)close(c->ready_fd);
        c->ready_fd = -1;
        return CLI_CHILD_NONE;
    }
}

bool cli_child_is_news(struct cli_child *c, const char *text, uint64_t now_ns)
{
    size_t n = strlen(text);
    if (n > 2 && strcmp(text + n - 2, " s") == 0) {
        n -= 2;
        while (n > 0 && text[n - 1] >= '0' && text[n - 1] <= '9') {
            n--;
        }
    }
    bool same = n < sizeof c->said && strlen(c->said) == n && memcmp(c->said, text, n) == 0;
    if (same && now_ns - c->said_ns < SAY_AGAIN_S * BASE_NS_PER_S) {
        return false;
    }
    (void)snprintf(c->said, sizeof c->said, "%.*s", (int)n, text);
    c->said_ns = now_ns;
    return true;
}

uint32_t cli_child_died(struct cli_child *c, uint64_t now_ns)
{
    if (now_ns - c->started_ns >= HEALTHY_S * BASE_NS_PER_S) {
        c->failures = 0;
    }
    uint32_t wait_ms = WAIT_MS_FIRST;
    for (uint32_t i = 0; i < c->failures && wait_ms < WAIT_MS_LONGEST; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms < WAIT_MS_LONGEST ? wait_ms : WAIT_MS_LONGEST;
    c->failures++;
    c->pid = 0;
    c->ready = false;
    c->start_again_ns = now_ns + wait_ms * BASE_NS_PER_MS;
    return wait_ms;
}

void cli_child_status(int wait_status, char text[CLI_CHILD_TEXT_MAX])
{
    if (WIFSIGNALED(wait_status)) {
        (void)snprintf(text, CLI_CHILD_TEXT_MAX, "signal %d (%s)", WTERMSIG(wait_status),
            strsignal(WTERMSIG(wait_status)));
    } else {
        (void)snprintf(text, CLI_CHILD_TEXT_MAX, "exit code %d", WEXITSTATUS(wait_status));
    }
}

char *cli_child_log_tail(const struct cli_child *c, size_t n)
{
    CLEANUP(base_closep) int fd = c->log[0] == '\0' ? -1 : open(c->log, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (size <= 0) {
        return NULL;
    }
    off_t from = size > (off_t)n ? size - (off_t)n : 0;
    char *text = malloc(n + 1);
    ssize_t got = text == NULL ? -1 : pread(fd, text, n, from);
    if (got <= 0) {
        free(text);
        return NULL;
    }
    text[got] = '\0';
    char *line = from > 0 ? strchr(text, '\n') : NULL;
    if (line != NULL) { /* not from the middle of a line */
        memmove(text, line + 1, strlen(line + 1) + 1);
    }
    return text;
}
