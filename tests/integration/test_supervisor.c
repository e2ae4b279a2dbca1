/* The supervisor and the jail with a plain program where QEMU would stand: who it runs as, what the
 * lease page makes of it, who buries it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
    const char *option; /* further option of the supervisor */
    bool frozen;        /* from the start */
    struct worker_lease_page *page;
    int sup; /* connection */
    pid_t qemu;
};

static struct worker_fence_lease lease_of(int freeze_ms, int kill_ms)
{
    uint64_t now = base_clock_boot_ns();
    return (struct worker_fence_lease){.mode = WORKER_FENCE_LEASE,
        .freeze_at_ns = now + (uint64_t)freeze_ms * BASE_NS_PER_MS,
        .kill_at_ns = now + (uint64_t)kill_ms * BASE_NS_PER_MS,
        .epoch = 1,
        .alone_ns = 600 * BASE_NS_PER_S};
}

static void lease(struct world *w, int freeze_ms, int kill_ms)
{
    struct worker_fence_lease l = lease_of(freeze_ms, kill_ms);
    worker_lease_write(w->page, &l);
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
    w->page->version = WORKER_LEASE_VERSION;
    atomic_store(&w->page->magic, WORKER_LEASE_MAGIC);
    lease(w, w->frozen ? 0 : 600000, 600000);
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
        const char *const plain[] = {
            SUPERVISOR, "--dir", w->folder, "--uid", "290001", "--", program, argument, NULL};
        const char *const with[] = {SUPERVISOR, w->option, "--dir", w->folder, "--uid", "290001",
            "--", program, argument, NULL};
        (void)execv(SUPERVISOR, (char *const *)(uintptr_t)(w->option == NULL ? plain : with));
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
    struct world w = {0};
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
    CHECK_EQ(status_field(w.qemu, "THP_enabled", v), '0'); /* huge pages are for emulated code */
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

/* CPU time of a process in clock ticks. */
static unsigned long cpu_of(pid_t pid)
{
    char path[64], line[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    CHECK(f != NULL && fgets(line, sizeof line, f) != NULL);
    (void)fclose(f);
    unsigned long user = 0, system = 0;
    CHECK_EQ(sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                 &user, &system),
        2);
    return user + system;
}

static void check(const struct world *w)
{
    CHECK_EQ(send(w->sup, "C", 1, 0), 1);
}

static void kill_it(struct world *w)
{
    CHECK_EQ(send(w->sup, "K", 1, 0), 1);
    (void)finish(w);
}

TEST(freezes_by_its_own_timer_and_thaws_when_the_lease_comes_back)
{
    struct world w = {0};
    start(&w, "/usr/bin/awk", "BEGIN { while (1); }");
    await_program(w.qemu, "awk");
    lease(&w, 100, 600000);
    check(&w); /* that the new deadline is earlier; the freeze itself nobody orders */
    await_state(w.qemu, 'T');
    unsigned long before = cpu_of(w.qemu);
    (void)poll(NULL, 0, 300); /* a program that runs all the time has used some of that */
    CHECK_EQ(cpu_of(w.qemu), before);
    lease(&w, 600000, 600000); /* no word to the supervisor: it looks by itself while frozen */
    await_state(w.qemu, 'R');
    kill_it(&w);
}

TEST(a_stopped_worker_cannot_keep_its_microvms_running)
{
    struct world w = {0};
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    lease(&w, 0, 600000);
    check(&w);
    await_state(w.qemu, 'T');
    /* The worker renews for half a second at a time, is stopped, and comes back. */
    pid_t worker = fork();
    if (worker == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            lease(&w, 500, 600000);
            check(&w);
            (void)poll(NULL, 0, 50);
        }
    }
    await_state(w.qemu, 'S');
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    await_state(w.qemu, 'T');
    CHECK_EQ(kill(worker, SIGCONT), 0);
    await_state(w.qemu, 'S');
    CHECK_EQ(kill(worker, SIGKILL), 0); /* and is killed: the end comes without it too */
    CHECK_EQ(waitpid(worker, NULL, 0), worker);
    await_state(w.qemu, 'T');
    lease(&w, 0, 200);
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(last.expired, 1);
}

TEST(one_that_starts_while_frozen_does_not_run_a_single_instruction)
{
    struct world w = {.frozen = true};
    start(&w, "/bin/sleep", "1000");
    char name[128];
    check(&w);
    check(&w); /* the supervisor has looked */
    (void)poll(NULL, 0, 300);
    (void)status_field(w.qemu, "Name", name);
    CHECK_STR(name, "warren-superv"); /* not even exec */
    lease(&w, 600000, 600000);
    await_program(w.qemu, "sleep");
    kill_it(&w);
    w = (struct world){.frozen = true};
    start(&w, "/bin/sleep", "1000");
    lease(&w, 0, 200); /* and ends without ever having run */
    CHECK_EQ(finish(&w).expired, 1);
}

TEST(a_frozen_one_that_somebody_continues_is_stopped_again)
{
    struct world w = {0};
    start(&w, "/usr/bin/awk", "BEGIN { while (1); }");
    await_program(w.qemu, "awk");
    lease(&w, 0, 600000);
    check(&w);
    await_state(w.qemu, 'T');
    CHECK_EQ(kill(w.qemu, SIGCONT), 0);
    check(&w);
    await_state(w.qemu, 'T');
    CHECK_EQ(kill(w.qemu, SIGCONT), 0); /* and nobody says a word */
    await_state(w.qemu, 'T');
    kill_it(&w);
}

TEST(a_damaged_page_freezes_and_another_incarnation_ends)
{
    struct world w = {0};
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    struct worker_lease_page good = *w.page;
    memset(w.page->copy, 0xa5, sizeof w.page->copy);
    check(&w);
    await_state(w.qemu, 'T');
    memcpy(w.page->copy, good.copy, sizeof good.copy);
    await_state(w.qemu, 'S');
    struct worker_fence_lease l = lease_of(600000, 600000);
    l.epoch = 2;
    worker_lease_write(w.page, &l);
    check(&w);
    CHECK_EQ(finish(&w).expired, 1);
}

TEST(a_template_runs_without_a_lease)
{
    struct world w = {.frozen = true, .option = "--template"};
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    await_state(w.qemu, 'S');
    kill_it(&w);
}

TEST(where_no_lease_is_needed_it_ends_when_nobody_renews)
{
    struct world w = {0};
    start(&w, "/bin/sleep", "1000");
    await_program(w.qemu, "sleep");
    struct worker_fence_lease l = {.mode = WORKER_FENCE_NO_LEASE, .alone_ns = 300 * BASE_NS_PER_MS};
    worker_lease_write(w.page, &l);
    check(&w);
    await_state(w.qemu, 'S');
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(last.expired, 1);
    CHECK_EQ(WTERMSIG(last.status), SIGKILL);
}

TEST(ends_its_microvm_when_nobody_renews_and_nobody_is_connected)
{
    struct world w = {0};
    start(&w, "/bin/sleep", "1000");
    (void)close(w.sup);
    w.sup = connect_sup(&w); /* a new worker takes the place of the old one */
    struct worker_supervise_hello hello;
    receive(w.sup, &hello, sizeof hello);
    CHECK_EQ(hello.qemu_pid, w.qemu);
    lease(&w, 0, 300);
    check(&w);
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(last.expired, 1);
    CHECK_EQ(WTERMSIG(last.status), SIGKILL);
}

TEST(a_program_that_ends_by_itself_is_buried_with_its_last_words)
{
    struct world w = {0};
    start(&w, "/bin/ls", "/no/such/thing");
    struct worker_supervise_exit last = finish(&w);
    CHECK_EQ(WEXITSTATUS(last.status), 2);
    CHECK(strstr(last.log, "/no/such/thing") != NULL);
}
