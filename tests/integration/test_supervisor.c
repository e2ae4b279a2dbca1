/* The supervisor and the jail with a plain program where QEMU would stand: who it runs as, what the
 * lease page makes of it, who buries it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tests/lib/check.h"
#include "worker/jail/lease.h"
#include "worker/jail/supervise.h"

enum { UID = 290001, WAIT_MS = 20000 };

struct world {
    char dir[64], folder[80];
    struct worker_lease_page *page;
    int sup; /* connection */
    pid_t qemu;
};

static void lease(struct world *w, uint64_t freeze_ms, uint64_t kill_ms)
{
    uint64_t now = base_clock_boot_ns();
    atomic_store(&w->page->kill_at_ns, now + kill_ms * BASE_NS_PER_MS);
    atomic_store(&w->page->freeze_at_ns, now + freeze_ms * BASE_NS_PER_MS);
}

static int listen_at(const char *folder, const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", folder, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 4) == 0);
    return fd;
}

static int connect_sup(const struct world *w)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof a.sun_path, "%s/sup.sock", w->folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void receive(int fd, void *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        struct pollfd pfd = {fd, POLLIN, 0};
        CHECK_EQ(poll(&pfd, 1, WAIT_MS), 1);
        ssize_t k = recv(fd, (char *)p + got, n - got, 0);
        CHECK(k > 0);
        got += (size_t)k;
    }
}

static void start(struct world *w, const char *program, const char *argument)
{
    if (geteuid() != 0) {
        check_skip("needs root: the jail changes uids and namespaces");
    }
    (void)strcpy(w->dir, "/tmp/warren-sup-XXXXXX");
    CHECK(mkdtemp(w->dir) != NULL);
    (void)snprintf(w->folder, sizeof w->folder, "%s/vm", w->dir);
    CHECK_EQ(mkdir(w->folder, 0700), 0);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/lease", w->dir);
    int page = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(page >= 0 && ftruncate(page, sizeof *w->page) == 0);
    void *p = mmap(NULL, sizeof *w->page, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
    CHECK(p != MAP_FAILED);
    w->page = p;
    w->page->magic = WORKER_LEASE_MAGIC;
    w->page->version = 1;
    lease(w, 60000, 120000);
    int sup = listen_at(w->folder, "sup.sock");
    (void)snprintf(path, sizeof path, "%s/qemu.log", w->folder);
    int log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        int high_page = fcntl(page, F_DUPFD, 100), high_sup = fcntl(sup, F_DUPFD, 100),
            high_log = fcntl(log, F_DUPFD, 100);
        for (int fd = WORKER_FD_CTL; fd < WORKER_FD_END; fd++) {
            (void)dup2(null, fd);
        }
        (void)dup2(high_page, WORKER_FD_LEASE);
        (void)dup2(high_sup, WORKER_FD_SUP);
        (void)dup2(high_log, WORKER_FD_LOG);
        (void)execl(SUPERVISOR, SUPERVISOR, "--dir", w->folder, "--uid", "290001", "--", program,
            argument, (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    (void)close(sup);
    (void)close(log);
    (void)close(page);
    w->sup = connect_sup(w);
    struct worker_supervise_hello hello;
    receive(w->sup, &hello, sizeof hello);
    CHECK_EQ(hello.magic, WORKER_SUPERVISE_MAGIC);
    w->qemu = hello.qemu_pid;
}

static struct worker_supervise_exit finish(struct world *w)
{
    struct worker_supervise_exit last;
    receive(w->sup, &last, sizeof last);
    char rest;
    CHECK_EQ(recv(w->sup, &rest, 1, 0), 0);
    CHECK_EQ(access(w->folder, F_OK), -1);
    CHECK(kill(w->qemu, 0) == -1 && errno == ESRCH);
    (void)close(w->sup);
    (void)munmap(w->page, sizeof *w->page);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/lease", w->dir);
    (void)unlink(path);
    CHECK_EQ(rmdir(w->dir), 0);
    return last;
}

static char status_field(pid_t pid, const char *name, char value[128])
{
    char path[64], line[256];
    (void)snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    CHECK(f != NULL);
    value[0] = '\0';
    while (fgets(line, sizeof line, f) != NULL) {
        size_t n = strlen(name);
        if (strncmp(line, name, n) == 0 && line[n] == ':') {
            (void)snprintf(value, 128, "%s", line + n + 1 + strspn(line + n + 1, "\t "));
            value[strcspn(value, "\n")] = '\0';
        }
    }
    (void)fclose(f);
    return value[0];
}

/* Waits for a state letter of a process ('T' stopped, 'S' sleeping); polls, bounded. */
static void await_state(pid_t pid, char letter)
{
    char value[128];
    uint64_t end = base_clock_mono_ns() + WAIT_MS * BASE_NS_PER_MS;
    while (status_field(pid, "State", value) != letter) {
        CHECK(base_clock_mono_ns() < end);
        (void)poll(NULL, 0, 2);
    }
}

static void await_program(pid_t pid, const char *name)
{
    char value[128];
    uint64_t end = base_clock_mono_ns() + WAIT_MS * BASE_NS_PER_MS;
    do {
        CHECK(base_clock_mono_ns() < end);
        (void)status_field(pid, "Name", value);
        (void)poll(NULL, 0, 2);
    } while (strcmp(value, name) != 0);
}

TEST(runs_without_root_network_capabilities_or_a_way_back)
{
    struct world w;
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    char v[128], ours[128], theirs[128], path[64];
    (void)status_field(w.qemu, "Uid", v);
    CHECK_STR(v, "290001\t290001\t290001\t290001");
    (void)status_field(w.qemu, "Gid", v);
    CHECK_STR(v, "290001\t290001\t290001\t290001");
    CHECK_EQ(status_field(w.qemu, "Groups", v), '\0');
    static const char *const caps[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
    for (int i = 0; i < 5; i++) {
        (void)status_field(w.qemu, caps[i], v);
        CHECK_STR(v, "0000000000000000");
    }
    CHECK_EQ(status_field(w.qemu, "NoNewPrivs", v), '1');
    (void)snprintf(path, sizeof path, "/proc/%d/ns/net", w.qemu);
    ssize_t n = readlink(path, theirs, sizeof theirs - 1);
    ssize_t m = readlink("/proc/self/ns/net", ours, sizeof ours - 1);
    CHECK(n > 0 && m > 0);
    CHECK(n != m || memcmp(ours, theirs, (size_t)n) != 0);
    /* The supervisor keeps one capability: to end its QEMU. */
    (void)status_field(w.qemu, "PPid", v);
    (void)status_field((pid_t)atoi(v), "CapEff", v);
    CHECK_STR(v, "0000000000000020");
    CHECK_EQ(send(w.sup, "K", 1, 0), 1);
    CHECK_EQ(WTERMSIG(finish(&w).status), SIGKILL);
}

TEST(freezes_when_the_lease_runs_out_and_thaws_when_it_comes_back)
{
    struct world w;
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    lease(&w, 0, 60000);
    CHECK_EQ(send(w.sup, "C", 1, 0), 1);
    await_state(w.qemu, 'T');
    lease(&w, 60000, 120000); /* no word to the supervisor: it looks by itself while frozen */
    await_state(w.qemu, 'S');
    CHECK_EQ(send(w.sup, "K", 1, 0), 1);
    (void)finish(&w);
}

TEST(ends_its_microvm_when_nobody_renews_and_nobody_is_connected)
{
    struct world w;
    start(&w, "/bin/sleep", "1000");
    (void)close(w.sup);
    w.sup = connect_sup(&w); /* a new worker takes the place of the old one */
    struct worker_supervise_hello hello;
    receive(w.sup, &hello, sizeof hello);
    CHECK_EQ(hello.qemu_pid, w.qemu);
    lease(&w, 0, 300);
    CHECK_EQ(send(w.sup, "C", 1, 0), 1);
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(last.expired, 1);
    CHECK_EQ(WTERMSIG(last.status), SIGKILL);
}

TEST(a_program_that_ends_by_itself_is_buried_with_its_last_words)
{
    struct world w;
    start(&w, "/bin/ls", "/no/such/thing");
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(WEXITSTATUS(last.status), 2);
    CHECK(strstr(last.log, "/no/such/thing") != NULL);
}
