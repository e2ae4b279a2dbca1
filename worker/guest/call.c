#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "worker/guest/agent.h"
#include "worker/guest/seed.h"
#include "worker/guest/stats.h"

static void reply(struct agent *a, uint32_t number, Warren__GuestReply *m)
{
    uint8_t raw[512];
    if (warren__guest_reply__get_packed_size(m) <= sizeof raw) {
        agent_port_send(&a->ctl, PROTO_FRAME_REPLY, number, raw, warren__guest_reply__pack(m, raw));
    }
}

static void reply_code(struct agent *a, uint32_t number, int code, const char *text)
{
    Warren__GuestReply m = WARREN__GUEST_REPLY__INIT;
    m.code = code;
    m.text = (char *)(uintptr_t)text;
    reply(a, number, &m);
}

/* The interpreters have their seed request in their pipe before anything that follows: order takes
 * the place of waiting. Only the reply waits for them. */
static void on_seed(struct agent *a, uint32_t number, const Warren__GuestSeed *m)
{
    if (a->seed_call != 0) {
        reply_code(a, a->seed_call, BASE_ESTATE, "another seed came");
        a->seed_call = 0;
    }
    const char *text = "";
    int rc = agent_seed_machine(&a->config, m, &text);
    if (rc != 0) {
        reply_code(a, number, rc, text);
        return;
    }
    a->seeded = true;
    a->execs.refuse_visible = false;
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &a->runner.kernel[i];
        k->seed_wait = k->state != AGENT_KERNEL_OFF && k->state != AGENT_KERNEL_BUSY;
        if (k->state != AGENT_KERNEL_OFF) {
            agent_kernel_seed(k);
        }
    }
    a->seed_call = number;
    a->seed_kernels = 0;
    for (size_t i = 0; i < m->n_kernels; i++) {
        if (agent_runner_kernel(&a->runner, m->kernels[i]) != NULL) {
            a->seed_kernels |= 1U << m->kernels[i];
            (void)agent_runner_want(&a->runner, m->kernels[i]);
        }
    }
    agent_call_changed(a);
}

/* 0: all is done; 1: not yet; BASE_EIO: an interpreter did not start. */
static int seed_state(struct agent *a)
{
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        const struct agent_kernel *k = &a->runner.kernel[i];
        bool needed = !k->fresh && (a->seed_kernels & 1U << k->kind) != 0;
        if (needed && k->state == AGENT_KERNEL_OFF && !k->wanted) {
            return BASE_EIO;
        }
        if (needed && !agent_kernel_loaded(k)) {
            return 1;
        }
        if (k->seed_wait && k->state != AGENT_KERNEL_OFF && k->seeds_out > 0) {
            return 1;
        }
    }
    return 0;
}

/* Nothing may be under way in either direction when the machine's memory is copied. */
static bool is_quiet(struct agent *a)
{
    return agent_port_queued(&a->ctl) == 0 && agent_port_queued(&a->bulk) == 0;
}

void agent_call_changed(struct agent *a)
{
    if (a->seed_call != 0) {
        int rc = seed_state(a);
        if (rc <= 0) {
            uint32_t number = a->seed_call;
            a->seed_call = 0;
            reply_code(a, number, rc, rc == 0 ? "" : "an interpreter does not start");
        }
    }
}

static void on_quiesce(struct agent *a, uint32_t number)
{
    if (agent_execs_busy(&a->execs)) {
        reply_code(a, number, BASE_ESTATE, "an execution is running");
        return;
    }
    agent_port_flush(&a->ctl);
    agent_port_flush(&a->bulk);
    if (!is_quiet(a)) {
        reply_code(a, number, BASE_EAGAIN, "the host does not read");
        return;
    }
    a->seeded = false; /* clones of this moment must be seeded first */
    a->execs.refuse_visible = true;
    reply_code(a, number, 0, "");
}

static void on_interrupt(struct agent *a, uint32_t number, const Warren__GuestInterrupt *m)
{
    struct agent_exec *e = agent_execs_find(&a->execs, &m->id);
    if (e == NULL || e->state == AGENT_EXEC_RECEIVING) {
        reply_code(a, number, BASE_ENOTFOUND, "no such execution is held");
        return;
    }
    if (e->state != AGENT_EXEC_FINISHED) {
        agent_runner_interrupt(&a->runner, e);
    }
    reply_code(a, number, 0, "");
}

static void on_stats(struct agent *a, uint32_t number)
{
    Warren__GuestReply m = WARREN__GUEST_REPLY__INIT;
    agent_stats_read(&m);
    reply(a, number, &m);
}

void agent_call_frame(struct agent *a, uint32_t number, const uint8_t *payload, size_t n)
{
    Warren__GuestCall *m = warren__guest_call__unpack(NULL, n, payload);
    if (m == NULL) {
        reply_code(a, number, BASE_EBADMSG, "not a GuestCall");
        return;
    }
    switch (m->what_case) {
    case WARREN__GUEST_CALL__WHAT_SEED:
        on_seed(a, number, m->seed);
        break;
    case WARREN__GUEST_CALL__WHAT_QUIESCE:
        on_quiesce(a, number);
        break;
    case WARREN__GUEST_CALL__WHAT_INTERRUPT:
        on_interrupt(a, number, m->interrupt);
        break;
    case WARREN__GUEST_CALL__WHAT_EVENT_ACK:
        agent_execs_ack(&a->execs, &m->event_ack->id, m->event_ack->seq);
        break;
    case WARREN__GUEST_CALL__WHAT_FORGET:
        agent_execs_forget(&a->execs, &m->forget->id);
        break;
    case WARREN__GUEST_CALL__WHAT_STATS:
        on_stats(a, number);
        break;
    case WARREN__GUEST_CALL__WHAT__NOT_SET:
    case _WARREN__GUEST_CALL__WHAT__CASE_IS_INT_SIZE:
    default:
        reply_code(a, number, BASE_EINVAL, "no such call");
        break;
    }
    warren__guest_call__free_unpacked(m, NULL);
}
