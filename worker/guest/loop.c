#include "worker/guest/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"

enum { BEAT_MS = 1000, ABSENT_MS = 1000 };

int agent_loop_init(struct agent_loop *l)
{
    *l = (struct agent_loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return l->epoll_fd < 0 ? -errno : 0;
}

void agent_loop_deinit(struct agent_loop *l)
{
    if (l->epoll_fd >= 0) {
        (void)close(l->epoll_fd);
        l->epoll_fd = -1;
    }
}

int agent_loop_add(struct agent_loop *l, struct agent_watch *w, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0) {
        return -errno;
    }
    w->fd = fd;
    return 0;
}

void agent_loop_rearm(struct agent_loop *l, struct agent_watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (w->fd >= 0) {
        REQUIRE(epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &e) == 0);
    }
}

void agent_loop_remove(struct agent_loop *l, struct agent_watch *w)
{
    if (w->fd < 0) {
        return;
    }
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
    for (int i = 0; i < l->batch_n; i++) {
        if (l->batch[i] == w) {
            l->batch[i] = NULL;
        }
    }
}

void agent_loop_timer_add(struct agent_loop *l, struct agent_timer *t)
{
    t->next = l->timers;
    l->timers = t;
}

void agent_loop_timer_remove(struct agent_loop *l, struct agent_timer *t)
{
    for (struct agent_timer **at = &l->timers; *at != NULL; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->next = NULL;
}

static int wait_ms(const struct agent_loop *l)
{
    if (l->again) {
        return 0;
    }
    uint64_t first = 0;
    for (const struct agent_timer *t = l->timers; t != NULL; t = t->next) {
        if (t->at_ns != 0 && (first == 0 || t->at_ns < first)) {
            first = t->at_ns;
        }
    }
    if (first == 0) {
        return -1;
    }
    uint64_t now = base_clock_mono_ns();
    if (first <= now) {
        return 0;
    }
    uint64_t ms = (first - now + BASE_NS_PER_MS - 1) / BASE_NS_PER_MS;
    return ms > BEAT_MS ? BEAT_MS : (int)ms;
}

void agent_loop_awake(struct agent_loop *l, uint64_t now_ns)
{
    uint64_t due = l->seen_ns + l->rest_ns;
    if (l->seen_ns != 0 && now_ns > due + ABSENT_MS * BASE_NS_PER_MS) {
        for (struct agent_timer *t = l->timers; t != NULL; t = t->next) {
            t->at_ns += t->at_ns != 0 ? now_ns - due : 0;
        }
    }
    l->seen_ns = now_ns;
    l->rest_ns = 0;
}

static void run_timers(struct agent_loop *l, uint64_t now)
{
    struct agent_timer *t = l->timers;
    while (t != NULL) {
        struct agent_timer *next = t->next;
        if (t->at_ns != 0 && t->at_ns <= now) {
            t->at_ns = 0;
            t->fired(t);
        }
        t = next;
    }
}

void agent_loop_turn(struct agent_loop *l)
{
    struct epoll_event ev[AGENT_LOOP_BATCH];
    int ms = wait_ms(l);
    l->again = false;
    l->rest_ns = ms < 0 ? 0 : (uint64_t)ms * BASE_NS_PER_MS;
    int n = epoll_wait(l->epoll_fd, ev, AGENT_LOOP_BATCH, ms);
    agent_loop_awake(l, base_clock_mono_ns());
    l->batch_n = n < 0 ? 0 : n;
    for (int i = 0; i < l->batch_n; i++) {
        l->batch[i] = ev[i].data.ptr;
    }
    for (int i = 0; i < l->batch_n; i++) {
        struct agent_watch *w = l->batch[i];
        if (w != NULL) {
            w->ready(w, ev[i].events);
        }
    }
    l->batch_n = 0;
    uint64_t now = base_clock_mono_ns();
    agent_loop_awake(l, now); /* a freeze while something was served is no time either */
    run_timers(l, now);
}
