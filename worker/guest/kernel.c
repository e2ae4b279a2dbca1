#include "worker/guest/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "worker/guest/cgroup.h"
#include "worker/guest/output.h"
#include "worker/guest/run.h"
#include "worker/guest/spawn.h"

enum { SEED_BYTES = 64 };

static void flush_requests(struct agent_kernel *k)
{
    while (base_buf_size(&k->out_queue) > 0 && k->request.fd >= 0) {
        ssize_t n =
            write(k->request.fd, base_buf_data(&k->out_queue), base_buf_size(&k->out_queue));
        if (n > 0) {
            base_buf_consume(&k->out_queue, (size_t)n);
        } else if (n < 0 && errno == EAGAIN) {
            agent_loop_rearm(k->runner->loop, &k->request, EPOLLOUT | EPOLLONESHOT);
            return;
        } else if (n >= 0 || errno != EINTR) {
            base_buf_clear(&k->out_queue); /* it died: reaping it says so */
            return;
        }
    }
    if (k->out_queue.cap > 256 << 10) {
        base_buf_deinit(&k->out_queue);
    }
}

int agent_kernel_request(
    struct agent_kernel *k, const char *verb, const char *args, const void *body, size_t n)
{
    int rc = base_buf_printf(&k->out_queue, "%s %zu %s\n", verb, n, args);
    rc = rc == 0 ? base_buf_add(&k->out_queue, body, n) : rc;
    if (rc == 0 && !k->runner->corked) {
        flush_requests(k);
    }
    return rc;
}

void agent_kernel_flush(struct agent_kernel *k)
{
    flush_requests(k);
}

void agent_kernel_seed(struct agent_kernel *k)
{
    uint8_t seed[SEED_BYTES];
    char hex[2 * SEED_BYTES + 1];
    base_rand_bytes(seed, sizeof seed);
    base_text_hex(seed, sizeof seed, hex);
    if (agent_kernel_request(k, "seed", "-", hex, 2 * SEED_BYTES) == 0) {
        k->seeds_out++;
    }
}

void agent_kernel_kill(struct agent_kernel *k)
{
    agent_cgroup_kill(k->name);
    k->ending = k->active;
    if (k->pid <= 0) {
        return;
    }
    (void)kill(-k->pid, SIGKILL);
    if (!k->exited) {
        (void)kill(k->pid, SIGKILL);
    }
}

void agent_kernel_interrupt(const struct agent_kernel *k)
{
    if (k->pid > 0 && !k->exited) {
        (void)kill(-k->pid, SIGINT);
    }
}

static void on_request(struct agent_watch *w, uint32_t events)
{
    (void)events;
    flush_requests(CONTAINER_OF(w, struct agent_kernel, request));
}

static void on_reply(struct agent_watch *w, uint32_t events)
{
    (void)events;
    agent_run_step(CONTAINER_OF(w, struct agent_kernel, reply));
}

static int add_watches(struct agent_kernel *k, const struct agent_spawn *s)
{
    struct agent_loop *l = k->runner->loop;
    k->request.ready = on_request;
    k->reply.ready = on_reply;
    int rc = agent_loop_add(l, &k->request, s->ours[AGENT_SPAWN_REQUEST], EPOLLONESHOT);
    rc = rc == 0 ? agent_loop_add(l, &k->reply, s->ours[AGENT_SPAWN_REPLY], EPOLLIN | EPOLLONESHOT)
                 : rc;
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = agent_output_open(&k->output[i], k, i, s->ours[AGENT_SPAWN_STDOUT + i]);
    }
    return rc;
}

static int open_pipes(struct agent_kernel *k, const struct agent_spawn *s)
{
    k->active = true;
    k->pid = s->pid;
    k->ending = k->exited = k->drained = k->marked = k->reply_eof = false;
    k->seeds_out = 0;
    int rc = add_watches(k, s);
    if (rc != 0) {
        agent_kernel_kill(k); /* it is reaped and closed as any other */
        return rc;
    }
    agent_kernel_seed(k);
    return 0;
}

static int spawn_now(struct agent_kernel *k)
{
    struct agent_spawn s;
    struct agent_runner *r = k->runner;
    int rc = agent_spawn_pipes(&s);
    if (rc != 0) {
        return rc;
    }
    k->wants_forks = false;
    if (k->kind == WARREN__KERNEL__KERNEL_PYTHON && r->forks.state == AGENT_FORKS_READY) {
        rc = agent_forks_request(&r->forks, k->name, &s);
    } else {
        rc = agent_spawn_run(r->config, (enum agent_spawn_what)k->kind, k->name, &s);
    }
    agent_spawn_close(s.theirs);
    if (rc != 0) {
        agent_spawn_close(s.ours);
        return rc;
    }
    k->state = AGENT_KERNEL_STARTING;
    (void)open_pipes(k, &s);
    return 0;
}

int agent_kernel_spawn(struct agent_kernel *k)
{
    struct agent_forks *f = &k->runner->forks;
    if (k->kind == WARREN__KERNEL__KERNEL_PYTHON && agent_forks_wanted(f)) {
        k->wants_forks = true;
        k->state = AGENT_KERNEL_STARTING;
        return 0;
    }
    return spawn_now(k);
}

int agent_kernel_spawn_waiting(struct agent_kernel *k)
{
    if (!k->wants_forks) {
        return 0;
    }
    int rc = spawn_now(k);
    if (rc != 0) {
        k->wants_forks = false;
        k->state = AGENT_KERNEL_OFF;
    }
    return rc;
}

void agent_kernel_started(struct agent_kernel *k, pid_t pid)
{
    if (k->pid == 0 && pid > 1) {
        k->pid = pid;
        if (k->ending) {
            agent_kernel_kill(k);
        }
    }
}

static void close_watch(struct agent_loop *l, struct agent_watch *w)
{
    int fd = w->fd;
    agent_loop_remove(l, w);
    if (fd >= 0) {
        (void)close(fd);
    }
}

void agent_kernel_close(struct agent_kernel *k)
{
    close_watch(k->runner->loop, &k->request);
    close_watch(k->runner->loop, &k->reply);
    agent_output_close(&k->output[0]);
    agent_output_close(&k->output[1]);
    base_buf_deinit(&k->in);
    base_buf_deinit(&k->out_queue);
    k->pid = 0;
    k->active = k->ending = k->wants_forks = false;
    k->state = AGENT_KERNEL_OFF;
    k->seeds_out = 0;
    k->limit.at_ns = 0;
}
