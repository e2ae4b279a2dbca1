#include "worker/guest/exec.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "proto/base/rand.h"

enum {
    EXECS_MAX = 256,             /* held at once, finished ones included */
    WAITING_MAX = 64,            /* not started yet */
    CODE_TOTAL_MAX = 16 << 20,   /* their code */
    EVENTS_TOTAL_MAX = 24 << 20, /* events of all executions; one more event may be on top */
};

void agent_execs_init(struct agent_execs *t, const struct agent_execs_ops *ops, void *owner)
{
    uint8_t key[16];
    base_rand_bytes(key, sizeof key);
    *t = (struct agent_execs){.ops = ops, .owner = owner};
    agent_idset_init(&t->ran, key);
}

/* The host has stored these, or never wants them. The one that is being sent stays: half an event
 * must not be followed by another one. */
static void drop_events(struct agent_exec *e)
{
    while (e->first != NULL && (e->first->seq <= e->acked || e->forgotten)) {
        struct agent_event *ev = e->first;
        if (e->stream != NULL && ev == e->send && e->send_off > 0) {
            return;
        }
        if (ev == e->send) {
            e->send = ev->next;
        }
        e->first = ev->next;
        e->last = e->first == NULL ? NULL : e->last;
        e->kept_bytes -= ev->len;
        e->table->event_bytes -= ev->len;
        free(ev);
    }
}

static void free_code(struct agent_exec *e)
{
    e->table->code_bytes -= base_buf_size(&e->code);
    base_buf_deinit(&e->code);
}

static void destroy(struct agent_exec *e)
{
    struct agent_execs *t = e->table;
    for (struct agent_exec **at = &t->first; *at != NULL; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            break;
        }
    }
    if (e->stream != NULL) {
        e->stream->task = NULL;
        e->stream = NULL;
    }
    e->forgotten = true;
    drop_events(e);
    free_code(e);
    if (e->state == AGENT_EXEC_RECEIVING || e->state == AGENT_EXEC_QUEUED) {
        t->waiting--;
    }
    t->count--;
    free(e);
}

void agent_execs_deinit(struct agent_execs *t)
{
    while (t->first != NULL) {
        destroy(t->first);
    }
    agent_idset_deinit(&t->ran);
}

struct agent_exec *agent_execs_find(const struct agent_execs *t, const ProtobufCBinaryData *id)
{
    for (struct agent_exec *e = t->first; e != NULL && id->len == PROTO_EXEC_ID_BYTES;
         e = e->next) {
        if (memcmp(e->id, id->data, PROTO_EXEC_ID_BYTES) == 0) {
            return e;
        }
    }
    return NULL;
}

static void on_code(struct agent_stream *s, const uint8_t *bytes, size_t n)
{
    struct agent_exec *e = s->task;
    if (base_buf_size(&e->code) + n > PROTO_CODE_BYTES_MAX) {
        agent_stream_reset(s, BASE_ETOOBIG, "the code is larger than the limit");
    } else if (e->table->code_bytes + n > CODE_TOTAL_MAX) {
        agent_stream_reset(s, BASE_EFULL, "too much code waits for its turn");
    } else if (base_buf_add(&e->code, bytes, n) != 0) {
        agent_stream_reset(s, BASE_ENOMEM, "out of memory");
    } else {
        e->table->code_bytes += n;
    }
}

static void on_code_end(struct agent_stream *s)
{
    struct agent_exec *e = s->task;
    if (e == NULL || e->state != AGENT_EXEC_RECEIVING) {
        return;
    }
    if (agent_idset_add(&e->table->ran, e->id) != 0) {
        agent_stream_reset(s, BASE_ENOMEM, "out of memory");
        return;
    }
    e->state = AGENT_EXEC_QUEUED;
    e->table->ops->submit(e->table->owner, e);
}

static void on_gone(struct agent_stream *s)
{
    struct agent_exec *e = s->task;
    if (e == NULL) {
        return;
    }
    e->stream = NULL;
    e->send = NULL;
    e->send_off = 0;
    drop_events(e);
    if (e->state == AGENT_EXEC_RECEIVING) {
        destroy(e);
    } else if (e->hidden && e->state == AGENT_EXEC_FINISHED) {
        destroy(e); /* nobody comes back for a warm-up */
    } else if (e->hidden) {
        e->forgotten = true;
        drop_events(e);
    }
}

static bool on_pull(struct agent_stream *s)
{
    struct agent_exec *e = s->task;
    if (e == NULL) {
        return false;
    }
    if (e->send == NULL) {
        if (e->state == AGENT_EXEC_FINISHED) {
            agent_stream_fin(s);
            return true;
        }
        return false;
    }
    struct agent_event *ev = e->send;
    size_t left = ev->len - e->send_off;
    bool whole = left <= PROTO_FRAME_PAYLOAD_MAX;
    agent_stream_frame(s, whole ? PROTO_FRAME_EVENT : PROTO_FRAME_EVENT_MORE,
        ev->bytes + e->send_off, whole ? left : PROTO_FRAME_PAYLOAD_MAX);
    if (whole) {
        e->send = ev->next;
        e->send_off = 0;
        drop_events(e);
    } else {
        e->send_off += PROTO_FRAME_PAYLOAD_MAX;
    }
    return true;
}

static const struct agent_stream_ops exec_stream = {
    .data = on_code, .fin = on_code_end, .pull = on_pull, .gone = on_gone};
static const struct agent_stream_ops resume_stream = {.pull = on_pull, .gone = on_gone};

/* Room for one more: what the host has stored completely may go, its id stays known. */
static bool make_room(struct agent_execs *t)
{
    struct agent_exec *e = t->first;
    while (t->count >= EXECS_MAX && e != NULL) {
        struct agent_exec *next = e->next;
        if (e->state == AGENT_EXEC_FINISHED && e->first == NULL && e->stream == NULL) {
            destroy(e);
        }
        e = next;
    }
    return t->count < EXECS_MAX && t->waiting < WAITING_MAX;
}

/* Writes argv as one bash command that replaces the shell: 'a' 'it'\''s'. */
static int quote_argv(struct agent_exec *e, const Warren__GuestExec *m)
{
    int rc = base_buf_printf(&e->code, "exec --");
    for (size_t i = 0; i < m->n_argv && rc == 0; i++) {
        rc = base_buf_printf(&e->code, " '");
        for (const char *p = m->argv[i]; *p != '\0' && rc == 0; p++) {
            rc = *p == '\'' ? base_buf_printf(&e->code, "'\\''") : base_buf_add(&e->code, p, 1);
        }
        rc = rc == 0 ? base_buf_printf(&e->code, "'") : rc;
    }
    e->table->code_bytes += base_buf_size(&e->code);
    return rc;
}

static int check_exec(const struct agent_execs *t, const Warren__GuestExec *m, const char **text)
{
    *text = "";
    if (m->id.len != PROTO_EXEC_ID_BYTES) {
        *text = "an execution id has 16 bytes";
        return BASE_EINVAL;
    }
    if (m->kernel <= WARREN__KERNEL__KERNEL_NONE || m->kernel > WARREN__KERNEL__KERNEL_SHELL) {
        *text = "no such kernel";
        return BASE_EINVAL;
    }
    if (m->n_argv > PROTO_ARGV_MAX ||
        (m->n_argv > 0 && m->kernel != WARREN__KERNEL__KERNEL_SHELL)) {
        *text = "argv is for the shell kernel and has a limit";
        return BASE_EINVAL;
    }
    if (agent_execs_find(t, &m->id) != NULL || agent_idset_has(&t->ran, m->id.data)) {
        *text = "this execution id was used already";
        return BASE_EEXISTS;
    }
    if (t->refuse_visible && !m->hidden) {
        *text = "no seed since boot or restore: user code may not run";
        return BASE_ESTATE;
    }
    return 0;
}

void agent_execs_open(struct agent_execs *t, struct agent_stream *s, const Warren__GuestExec *m)
{
    const char *text;
    int rc = check_exec(t, m, &text);
    if (rc == 0 && !make_room(t)) {
        rc = BASE_EFULL;
        text = "too many executions are held or wait";
    }
    struct agent_exec *e = rc == 0 ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        agent_stream_reset(s, rc == 0 ? BASE_ENOMEM : rc, text);
        return;
    }
    e->table = t;
    memcpy(e->id, m->id.data, PROTO_EXEC_ID_BYTES);
    e->kernel = m->kernel;
    e->fresh = m->fresh_kernel;
    e->hidden = m->hidden;
    e->timeout_ms = m->timeout_ms;
    e->out_max[0] = m->stdout_max;
    e->out_max[1] = m->stderr_max;
    struct agent_exec **at = &t->first;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = e;
    t->count++;
    t->waiting++;
    e->stream = s;
    s->task = e;
    s->ops = &exec_stream;
    if (m->n_argv > 0 && quote_argv(e, m) != 0) {
        agent_stream_reset(s, BASE_ENOMEM, "out of memory");
    }
}

void agent_execs_resume(struct agent_execs *t, struct agent_stream *s, const Warren__GuestResume *m)
{
    struct agent_exec *e = agent_execs_find(t, &m->id);
    if (e == NULL || e->state == AGENT_EXEC_RECEIVING) {
        agent_stream_reset(s, BASE_ENOTFOUND, "no such execution is held");
        return;
    }
    uint64_t dropped = e->first == NULL ? e->seq : e->first->seq - 1;
    if (m->after_seq < dropped || m->after_seq > e->seq) {
        agent_stream_reset(s, BASE_ENOTFOUND, "events of this number are not held");
        return;
    }
    if (e->stream != NULL) {
        agent_stream_reset(e->stream, BASE_ESTATE, "resumed on another stream");
    }
    e->stream = s;
    s->task = e;
    s->ops = &resume_stream;
    e->send = e->first;
    e->send_off = 0;
    while (e->send != NULL && e->send->seq <= m->after_seq) {
        e->send = e->send->next;
    }
}

void agent_execs_ack(struct agent_execs *t, const ProtobufCBinaryData *id, uint64_t seq)
{
    struct agent_exec *e = agent_execs_find(t, id);
    if (e == NULL || seq <= e->acked || seq > e->seq) {
        return;
    }
    e->acked = seq;
    drop_events(e);
    t->ops->acked(t->owner, e);
}

void agent_execs_forget(struct agent_execs *t, const ProtobufCBinaryData *id)
{
    struct agent_exec *e = agent_execs_find(t, id);
    if (e == NULL || e->state == AGENT_EXEC_RECEIVING) {
        return;
    }
    e->forgotten = true;
    if (e->stream != NULL) {
        agent_stream_fin(e->stream);
    }
    if (e->state == AGENT_EXEC_FINISHED) {
        destroy(e);
        return;
    }
    drop_events(e);
    t->ops->acked(t->owner, e);
}

bool agent_execs_busy(const struct agent_execs *t)
{
    for (const struct agent_exec *e = t->first; e != NULL; e = e->next) {
        if (e->state != AGENT_EXEC_FINISHED) {
            return true;
        }
    }
    return false;
}

bool agent_exec_window(const struct agent_exec *e)
{
    return e->kept_bytes < PROTO_EVENT_WINDOW &&
           (e->kept_bytes == 0 || e->table->event_bytes < EVENTS_TOTAL_MAX);
}

void agent_exec_start(struct agent_exec *e)
{
    REQUIRE(e->state == AGENT_EXEC_QUEUED);
    e->state = AGENT_EXEC_RUNNING;
    e->table->waiting--;
    e->started_ns = base_clock_mono_ns();
}

static int keep(struct agent_exec *e, const Warren__GuestEvent *ev)
{
    size_t len = warren__guest_event__get_packed_size(ev);
    if (len > PROTO_EVENT_BYTES_MAX) {
        return BASE_ETOOBIG;
    }
    struct agent_event *node = malloc(sizeof *node + len);
    if (node == NULL) {
        return BASE_ENOMEM;
    }
    *node = (struct agent_event){.seq = ev->seq, .len = len};
    (void)warren__guest_event__pack(ev, node->bytes);
    if (e->last == NULL) {
        e->first = node;
    } else {
        e->last->next = node;
    }
    e->last = node;
    e->kept_bytes += len;
    e->table->event_bytes += len;
    if (e->stream != NULL && e->send == NULL) {
        e->send = node;
    }
    return 0;
}

int agent_exec_emit(struct agent_exec *e, const Warren__GuestEvent *ev)
{
    Warren__GuestEvent copy = *ev;
    copy.seq = e->seq + 1;
    copy.t_us = e->started_ns == 0 ? 0 : (base_clock_mono_ns() - e->started_ns) / 1000;
    if (e->forgotten) {
        e->seq++;
        return 0;
    }
    int rc = keep(e, &copy);
    if (rc == 0) {
        e->seq++;
    }
    return rc;
}

void agent_exec_finish(struct agent_exec *e, const Warren__GuestDone *done)
{
    Warren__GuestDone copy = *done;
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = WARREN__EVENT_KIND__EVENT_DONE;
    ev.done = &copy;
    REQUIRE(e->state == AGENT_EXEC_QUEUED || e->state == AGENT_EXEC_RUNNING);
    REQUIRE(agent_exec_emit(e, &ev) == 0); /* without it the host would wait for ever */
    if (e->state == AGENT_EXEC_QUEUED) {
        e->table->waiting--;
    }
    free_code(e);
    e->state = AGENT_EXEC_FINISHED;
    if (e->forgotten) {
        destroy(e);
    }
}
