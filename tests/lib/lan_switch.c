/* A network of N nodes on one machine, for tests of a cluster:
 *
 *   lan_switch N SEED
 *
 * makes N network namespaces without names, node I with the address 10.77.0.I on a TAP device of
 * its own, and carries frames between them as long as it lives: with it go devices and namespaces.
 * The namespace of node I is /proc/PID/fd/(100 + I). Prints "ready". Commands on stdin, one a line,
 * each answered with "ok" when it holds:
 *
 *   link A B LOSS DELAY     frames from A to B: LOSS percent are lost (100: cut), others come DELAY
 * ms late heal                    all links are whole */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"

enum { NODES_MAX = 32, FRAME_MAX = 1600, WAITING_MAX = 8192, FD_BASE = 100 };

struct link {
    unsigned loss, delay_ms;
};

struct frame {
    struct frame *next;
    uint64_t due_ns;
    unsigned to;
    size_t n;
    unsigned char data[FRAME_MAX];
};

struct lan {
    unsigned n, waiting;
    uint64_t rand;
    int tap[NODES_MAX + 1];
    struct link link[NODES_MAX + 1][NODES_MAX + 1];
    struct frame *late; /* by time */
    char line[256];
    size_t line_n;
};

static unsigned percent(struct lan *l)
{
    l->rand ^= l->rand << 13;
    l->rand ^= l->rand >> 7;
    l->rand ^= l->rand << 17;
    return (unsigned)((l->rand >> 11) % 100);
}

static void set_address(int s, struct ifreq *r, unsigned long what, uint32_t ip)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(ip)}};
    memcpy(&r->ifr_addr, &a, sizeof a);
    REQUIRE(ioctl(s, what, r) == 0);
}

static void up(int s, const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_UP | IFF_RUNNING};
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    REQUIRE(ioctl(s, SIOCSIFFLAGS, &r) == 0);
}

static void make_node(struct lan *l, unsigned i)
{
    REQUIRE(unshare(CLONE_NEWNET) == 0);
    int ns = open("/proc/self/ns/net", O_RDONLY);
    REQUIRE(ns >= 0 && dup2(ns, FD_BASE + (int)i) >= 0 && close(ns) == 0);
    l->tap[i] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(l->tap[i] >= 0);
    struct ifreq r = {.ifr_name = "lan0", .ifr_flags = IFF_TAP | IFF_NO_PI};
    REQUIRE(ioctl(l->tap[i], TUNSETIFF, &r) == 0);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(s >= 0);
    r.ifr_hwaddr =
        (struct sockaddr){.sa_family = ARPHRD_ETHER, .sa_data = {2, 0, 0, 0, 0, (char)i}};
    REQUIRE(ioctl(s, SIOCSIFHWADDR, &r) == 0);
    set_address(s, &r, SIOCSIFADDR, 0x0a4d0000U + i);
    set_address(s, &r, SIOCSIFNETMASK, 0xffffff00U);
    up(s, "lan0");
    up(s, "lo");
    (void)close(s);
}

static void deliver(struct lan *l, unsigned to, const unsigned char *data, size_t n)
{
    ssize_t done = write(l->tap[to], data, n); /* a full device loses it, as a switch would */
    (void)done;
}

/* In the order of their times, those of one time in the order they came. */
static void keep(struct lan *l, unsigned to, uint64_t due_ns, const unsigned char *data, size_t n)
{
    struct frame *f = l->waiting < WAITING_MAX ? malloc(sizeof *f) : NULL;
    if (f == NULL) {
        return;
    }
    f->to = to;
    f->due_ns = due_ns;
    f->n = n;
    memcpy(f->data, data, n);
    struct frame **at = &l->late;
    while (*at != NULL && (*at)->due_ns <= due_ns) {
        at = &(*at)->next;
    }
    f->next = *at;
    *at = f;
    l->waiting++;
}

static void forward(struct lan *l, unsigned from, unsigned to, const unsigned char *data, size_t n)
{
    const struct link *k = &l->link[from][to];
    if (k->loss > 0 && percent(l) < k->loss) {
        return;
    }
    if (k->delay_ms > 0) {
        keep(l, to, base_clock_boot_ns() + k->delay_ms * BASE_NS_PER_MS, data, n);
    } else {
        deliver(l, to, data, n);
    }
}

static void on_frames(struct lan *l, unsigned from)
{
    unsigned char data[FRAME_MAX];
    for (int i = 0; i < 64; i++) {
        ssize_t n = read(l->tap[from], data, sizeof data);
        if (n < 14) {
            return;
        }
        for (unsigned to = 1; to <= l->n; to++) {
            bool all = (data[0] & 1) != 0;
            if (to != from && (all || data[5] == to)) {
                forward(l, from, to, data, (size_t)n);
            }
        }
    }
}

static void obey(struct lan *l, const char *line)
{
    unsigned a, b, loss, delay;
    if (strcmp(line, "heal") == 0) {
        memset(l->link, 0, sizeof l->link);
    } else {
        REQUIRE(sscanf(line, "link %u %u %u %u", &a, &b, &loss, &delay) == 4);
        REQUIRE(a >= 1 && a <= l->n && b >= 1 && b <= l->n && loss <= 100);
        l->link[a][b] = (struct link){loss, delay};
    }
    (void)printf("ok\n");
    (void)fflush(stdout);
}

static bool on_commands(struct lan *l)
{
    ssize_t n = read(0, l->line + l->line_n, sizeof l->line - 1 - l->line_n);
    if (n <= 0) {
        return false;
    }
    l->line_n += (size_t)n;
    for (char *end; (end = memchr(l->line, '\n', l->line_n)) != NULL;) {
        *end = '\0';
        obey(l, l->line);
        l->line_n -= (size_t)(end + 1 - l->line);
        memmove(l->line, end + 1, l->line_n);
    }
    REQUIRE(l->line_n < sizeof l->line - 1);
    return true;
}

/* Delivers what is due; milliseconds until the next frame is, -1 without any. */
static int deliver_late(struct lan *l)
{
    uint64_t now = base_clock_boot_ns();
    while (l->late != NULL && l->late->due_ns <= now) {
        struct frame *f = l->late;
        deliver(l, f->to, f->data, f->n);
        l->late = f->next;
        l->waiting--;
        free(f);
    }
    return l->late == NULL ? -1 : (int)((l->late->due_ns - now) / BASE_NS_PER_MS) + 1;
}

int main(int argc, char **argv)
{
    static struct lan l;
    REQUIRE(argc == 3 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    l.n = (unsigned)strtoul(argv[1], NULL, 10);
    l.rand = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15U | 1;
    REQUIRE(l.n >= 1 && l.n <= NODES_MAX);
    struct pollfd p[NODES_MAX + 1] = {{.fd = 0, .events = POLLIN}};
    for (unsigned i = 1; i <= l.n; i++) {
        make_node(&l, i);
        p[i] = (struct pollfd){.fd = l.tap[i], .events = POLLIN};
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    for (bool on = true; on;) {
        int n = poll(p, l.n + 1, deliver_late(&l));
        REQUIRE(n >= 0 || errno == EINTR);
        for (unsigned i = 1; n > 0 && i <= l.n; i++) {
            if (p[i].revents != 0) {
                on_frames(&l, i);
            }
        }
        on = n <= 0 || p[0].revents == 0 || on_commands(&l);
    }
    return 0;
}
