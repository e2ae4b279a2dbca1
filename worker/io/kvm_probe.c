#include "worker/io/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"

enum {
    GUEST_BYTES = 4 << 20,
    CODE_AT = 0x10000,
    LOOPS = 1 << 20,
    PAGES = 512,
    EXITS = 100,
    LOOP_BUDGET_MS = 5,
    LOOP_NS_MAX = 50,
    EXIT_US_MAX = 200,
};

/* What QEMU's microvm machine needs of KVM. */
static const struct {
    int cap;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
    {KVM_CAP_IRQCHIP, "IRQCHIP"},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID"},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
    {KVM_CAP_IRQFD, "IRQFD"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
    {KVM_CAP_MP_STATE, "MP_STATE"},
    {KVM_CAP_XSAVE, "XSAVE"},
    {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"},
    {KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER"},
    {KVM_CAP_READONLY_MEM, "READONLY_MEM"},
};

/* dec ecx; jnz; out 0x10 | touch 512 pages; out 0x11 | forever: out 0x12 */
static const uint8_t guest_code[] = {
    0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x10,                         /* loop, exit A */
    0xbf, 0x00, 0x00, 0x20, 0x00, 0xb9, 0x00, 0x02, 0x00, 0x00, /* edi = 2 MiB, ecx = 512 */
    0xc6, 0x07, 0x01, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xf3, /* touch */
    0xe6, 0x11,                                                                   /* exit B */
    0xe6, 0x12, 0xeb, 0xfc,                                                       /* exits C */
};

struct guest {
    int kvm, vm, vcpu;
    uint8_t *ram;
    struct kvm_run *run;
    timer_t timer;
};

static struct kvm_run *volatile interrupted; /* of the probe's child process only */

static void on_alarm(int sig)
{
    (void)sig;
    if (interrupted != NULL) {
        interrupted->immediate_exit = 1;
    }
}

__attribute__((format(printf, 3, 4))) static bool verdict(
    struct worker_kvm_probe *r, enum worker_kvm_fit fit, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(r->why, sizeof r->why, fmt, ap);
    va_end(ap);
    r->fit = fit;
    return false;
}

static double cpu_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static bool open_guest(const char *device, struct guest *g, struct worker_kvm_probe *r)
{
    g->kvm = open(device, O_RDWR | O_CLOEXEC);
    if (g->kvm < 0) {
        return verdict(r, WORKER_KVM_ABSENT, "%s: %s", device, strerror(errno));
    }
    if (ioctl(g->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        return verdict(r, WORKER_KVM_BROKEN, "%s has another API version", device);
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (ioctl(g->kvm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
            return verdict(r, WORKER_KVM_BROKEN, "KVM lacks %s", needed[i].name);
        }
    }
    g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
    if (g->vm < 0 || ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) < 0 ||
        ioctl(g->vm, KVM_CREATE_IRQCHIP, 0) < 0) {
        return verdict(r, WORKER_KVM_BROKEN, "create a VM: %s", strerror(errno));
    }
    g->ram = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->ram == MAP_FAILED) {
        return verdict(r, WORKER_KVM_BROKEN, "memory: %s", strerror(errno));
    }
    struct kvm_userspace_memory_region region = {
        .memory_size = GUEST_BYTES, .userspace_addr = (uint64_t)(uintptr_t)g->ram};
    if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return verdict(r, WORKER_KVM_BROKEN, "set guest memory: %s", strerror(errno));
    }
    g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
    int bytes = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (g->vcpu < 0 || bytes < (int)sizeof *g->run) {
        return verdict(r, WORKER_KVM_BROKEN, "create a CPU: %s", strerror(errno));
    }
    void *run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
    if (run == MAP_FAILED) {
        return verdict(r, WORKER_KVM_BROKEN, "map the CPU: %s", strerror(errno));
    }
    g->run = run;
    return true;
}

static bool set_cpuid(struct guest *g)
{
    enum { ENTRIES = 256 };
    CLEANUP(base_freep)
    struct kvm_cpuid2 *id = calloc(1, sizeof *id + ENTRIES * sizeof id->entries[0]);
    if (id == NULL) {
        return false;
    }
    id->nent = ENTRIES;
    return ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, id) == 0 &&
           ioctl(g->vcpu, KVM_SET_CPUID2, id) == 0;
}

/* 64-bit mode at privilege level 0, 4 MiB mapped by two large pages. */
static bool load_guest(struct guest *g, struct worker_kvm_probe *r)
{
    REQUIRE(g->ram != NULL);
    uint64_t *p4 = (void *)(g->ram + 0x1000), *p3 = (void *)(g->ram + 0x2000),
             *p2 = (void *)(g->ram + 0x3000);
    p4[0] = 0x2003;
    p3[0] = 0x3003;
    p2[0] = 0x83;
    p2[1] = 0x200083;
    memcpy(g->ram + CODE_AT, guest_code, sizeof guest_code);
    struct kvm_sregs s;
    if (!set_cpuid(g) || ioctl(g->vcpu, KVM_GET_SREGS, &s) < 0) {
        return verdict(r, WORKER_KVM_BROKEN, "CPU set-up: %s", strerror(errno));
    }
    struct kvm_segment code = {
        .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr3 = 0x1000;
    s.cr4 = 0x20;
    s.cr0 = 0x80000033;
    s.efer = 0x500;
    struct kvm_regs regs = {.rip = CODE_AT, .rsp = 0x20000, .rflags = 2, .rcx = LOOPS};
    if (ioctl(g->vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(g->vcpu, KVM_SET_REGS, &regs) < 0) {
        return verdict(r, WORKER_KVM_BROKEN, "set registers: %s", strerror(errno));
    }
    return true;
}

/* Runs until the guest exits (1), the CPU budget is used up (0) or KVM fails (-1). */
static int run_guest(struct guest *g, double budget_ms, double *ret_ns)
{
    double from = cpu_ns();
    for (;;) {
        *ret_ns = cpu_ns() - from;
        double left_ms = budget_ms - *ret_ns / 1e6;
        if (left_ms <= 0.05) {
            return 0;
        }
        g->run->immediate_exit = 0;
        /* Repeats, so that a tick lost just before KVM_RUN is followed by another. */
        struct itimerspec it = {{0, 1000000}, {0, (long)(left_ms * 1e6)}};
        (void)timer_settime(g->timer, 0, &it, NULL);
        int rc = ioctl(g->vcpu, KVM_RUN, 0);
        *ret_ns = cpu_ns() - from;
        if (rc == 0) {
            return 1;
        }
        if (errno != EINTR) {
            return -1;
        }
    }
}

static bool at_port(const struct guest *g, uint16_t port)
{
    return g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == port;
}

static bool measure(struct guest *g, struct worker_kvm_probe *r)
{
    double ns;
    int rc = run_guest(g, LOOP_BUDGET_MS, &ns);
    struct kvm_regs regs;
    if (rc < 0 || ioctl(g->vcpu, KVM_GET_REGS, &regs) < 0) {
        return verdict(r, WORKER_KVM_BROKEN, "run: %s", strerror(errno));
    }
    double done = (double)(LOOPS - (uint32_t)regs.rcx);
    r->loop_ns = done > 0 ? ns / done : ns;
    if (rc == 1 && !at_port(g, 0x10)) {
        return verdict(r, WORKER_KVM_BROKEN, "kernel-mode loop ended with exit reason %u",
            g->run->exit_reason);
    }
    if (rc == 0 || r->loop_ns > LOOP_NS_MAX) {
        return verdict(r, WORKER_KVM_SLOW,
            "kernel-mode code is emulated: %.0f ns per loop iteration", r->loop_ns);
    }
    rc = run_guest(g, 4 * LOOP_BUDGET_MS, &ns);
    if (rc != 1 || !at_port(g, 0x11)) {
        return verdict(r, rc == 0 ? WORKER_KVM_SLOW : WORKER_KVM_BROKEN, "%d guest page faults: %s",
            PAGES, rc == 0 ? "too slow" : "unexpected exit");
    }
    double sum = 0;
    int n = 0;
    for (; n < EXITS && sum < LOOP_BUDGET_MS * 1e6; n++, sum += ns) {
        if (run_guest(g, LOOP_BUDGET_MS, &ns) != 1) {
            break;
        }
    }
    r->exit_us = n > 0 ? sum / n / 1e3 : 0;
    if (n == 0 || r->exit_us > EXIT_US_MAX) {
        return verdict(r, WORKER_KVM_SLOW, "an exit costs %.0f us", r->exit_us);
    }
    r->fit = WORKER_KVM_OK;
    (void)snprintf(r->why, sizeof r->why, "%.1f ns per loop iteration, %.1f us per exit",
        r->loop_ns, r->exit_us);
    return true;
}

static void probe(const char *device, struct worker_kvm_probe *r)
{
    struct guest g = {-1, -1, -1, NULL, NULL, NULL};
    if (!open_guest(device, &g, r) || !load_guest(&g, r)) {
        return;
    }
    interrupted = g.run;
    struct sigaction sa = {.sa_handler = on_alarm};
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (sigaction(SIGALRM, &sa, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &se, &g.timer) != 0) {
        (void)verdict(r, WORKER_KVM_BROKEN, "timer: %s", strerror(errno));
        return;
    }
    (void)measure(&g, r);
}

/* Reads the child's answer; false when it did not come in time. */
static bool collect(int fd, uint32_t kill_ms, struct worker_kvm_probe *ret)
{
    uint64_t end = base_clock_mono_ns() + kill_ms * BASE_NS_PER_MS;
    for (;;) {
        uint64_t now = base_clock_mono_ns();
        struct pollfd p = {fd, POLLIN, 0};
        int n = now < end ? poll(&p, 1, (int)((end - now) / BASE_NS_PER_MS) + 1) : 0;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        struct worker_kvm_probe got;
        if (n <= 0 || read(fd, &got, sizeof got) != (ssize_t)sizeof got) {
            return false;
        }
        *ret = got; /* smaller than PIPE_BUF: whole or nothing */
        return true;
    }
}

void worker_kvm_probe(const char *device, uint32_t kill_ms, struct worker_kvm_probe *ret)
{
    uint64_t from = base_clock_mono_ns();
    *ret = (struct worker_kvm_probe){.fit = WORKER_KVM_BROKEN, .why = "the probe could not start"};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return;
    }
    CLEANUP(base_closep) int in = fds[0];
    CLEANUP(base_closep) int out = fds[1];
    pid_t pid = fork();
    if (pid == 0) {
        struct worker_kvm_probe r = {.fit = WORKER_KVM_BROKEN, .why = "the probe ended early"};
        probe(device, &r);
        _exit(write(out, &r, sizeof r) != (ssize_t)sizeof r);
    }
    if (pid < 0) {
        return;
    }
    (void)close(TAKE_FD(out));
    if (!collect(in, kill_ms, ret)) {
        (void)verdict(ret, WORKER_KVM_SLOW, "the probe did not answer in %u ms", kill_ms);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    ret->total_ms = (double)(base_clock_mono_ns() - from) / 1e6;
}
