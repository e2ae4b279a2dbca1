#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/exec_digest.h"
#include "tests/lib/echo_worker.h"

/* "Code", one command a line:
 *   print('TEXT') or echo TEXT     stdout            err TEXT        stderr
 *   A+B                            the sum           result TEXT     any value
 *   png                            a display         sleep MS        pause
 *   big N                          N bytes of stdout (one event per 16 KiB)
 *   raise NAME: VALUE              an error          exit N          a shell's exit code
 *   runs                           how many executions were started, as the value
 *   die, oom, timeout              other ends
 * Anything else is printed as it is. */

static void add_event(struct echo_exec *e, Warren__GuestEvent *ev)
{
    if (e->events_n == e->events_cap) {
        e->events_cap = 2 * e->events_cap + 8;
        e->events = realloc(e->events, e->events_cap * sizeof *e->events);
        memset(e->events + e->events_n, 0, (e->events_cap - e->events_n) * sizeof *e->events);
    }
    ev->seq = e->events_n + 1;
    ev->t_us = (base_clock_mono_ns() - e->started_ns) / 1000;
    struct base_buf *b = &e->events[e->events_n++];
    uint8_t *p = base_buf_room(b, warren__guest_event__get_packed_size(ev) + 1);
    base_buf_grow(b, warren__guest_event__pack(ev, p));
}

static void text_event(struct echo_exec *e, Warren__EventKind kind, const char *text, size_t n)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = kind;
    ev.data.data = (uint8_t *)(uintptr_t)text;
    ev.data.len = n;
    e->stdout_bytes += kind == WARREN__EVENT_KIND__EVENT_STDOUT ? n : 0;
    add_event(e, &ev);
}

static void mime_event(
    struct echo_exec *e, Warren__EventKind kind, const char *type, const char *data)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    Warren__GuestMime m = WARREN__GUEST_MIME__INIT, *list[1] = {&m};
    m.type = (char *)(uintptr_t)type;
    m.data.data = (uint8_t *)(uintptr_t)data;
    m.data.len = strlen(data);
    ev.kind = kind;
    ev.n_mime = 1;
    ev.mime = list;
    add_event(e, &ev);
}

static void raise_event(struct echo_exec *e, const char *text)
{
    char name[64] = "", trace[512];
    const char *colon = strchr(text, ':');
    size_t n = colon == NULL ? strlen(text) : (size_t)(colon - text);
    memcpy(name, text, n < sizeof name ? n : sizeof name - 1);
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = WARREN__EVENT_KIND__EVENT_ERROR;
    ev.error_name = name;
    ev.error_value = (char *)(uintptr_t)(colon == NULL ? "" : colon + 1 + strspn(colon + 1, " "));
    int len = snprintf(trace, sizeof trace, "Traceback (most recent call last):\n%.400s\n", text);
    ev.data.data = (uint8_t *)trace;
    ev.data.len = (size_t)len;
    add_event(e, &ev);
    e->status = WARREN__DONE_STATUS__DONE_ERROR;
    e->exit_code = 1;
}

static void finish(struct echo_exec *e)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    ev.kind = WARREN__EVENT_KIND__EVENT_DONE;
    ev.done = &done;
    done.status = e->cancelled ? WARREN__DONE_STATUS__DONE_INTERRUPTED : e->status;
    done.exit_code = e->exit_code;
    done.stdout_bytes = e->stdout_bytes;
    done.kernel_restarted = e->status == WARREN__DONE_STATUS__DONE_KERNEL_DIED;
    done.duration_us = (base_clock_mono_ns() - e->started_ns) / 1000;
    add_event(e, &ev);
    e->done = true;
}

static void print_big(struct echo_exec *e, uint64_t n)
{
    static char block[16 << 10];
    memset(block, 'x', sizeof block);
    uint64_t kept = n < e->stdout_max ? n : e->stdout_max;
    e->stdout_bytes += n - kept; /* as the guest does: the rest is counted and dropped */
    n = kept;
    while (n > 0) {
        size_t k = n < sizeof block ? (size_t)n : sizeof block;
        text_event(e, WARREN__EVENT_KIND__EVENT_STDOUT, block, k);
        n -= k;
    }
}

static bool print_call(struct echo_exec *e, const char *line)
{
    size_t n = strlen(line);
    bool call = strncmp(line, "print(", 6) == 0 && n >= 9 && (line[6] == '\'' || line[6] == '"') &&
                line[n - 1] == ')' && line[n - 2] == line[6];
    if (call) {
        text_event(e, WARREN__EVENT_KIND__EVENT_STDOUT, line + 7, n - 9);
        text_event(e, WARREN__EVENT_KIND__EVENT_STDOUT, "\n", 1);
    }
    return call;
}

static void value(struct echo_exec *e, const char *text)
{
    mime_event(e, WARREN__EVENT_KIND__EVENT_RESULT, "text/plain", text);
}

static bool ends(struct echo_exec *e, const char *line)
{
    if (strcmp(line, "die") == 0) {
        e->status = WARREN__DONE_STATUS__DONE_KERNEL_DIED;
    } else if (strcmp(line, "oom") == 0) {
        e->status = WARREN__DONE_STATUS__DONE_OUT_OF_MEMORY;
    } else if (strcmp(line, "timeout") == 0) {
        e->status = WARREN__DONE_STATUS__DONE_TIMEOUT;
    } else if (strncmp(line, "raise ", 6) == 0) {
        raise_event(e, line + 6);
    } else if (strncmp(line, "exit ", 5) == 0) {
        e->exit_code = atoi(line + 5);
        e->status =
            e->exit_code == 0 ? WARREN__DONE_STATUS__DONE_OK : WARREN__DONE_STATUS__DONE_ERROR;
    } else {
        return false;
    }
    return true;
}

/* Milliseconds to pause, or -1 at the end. */
static int command(struct echo_exec *e, const char *line)
{
    long a = 0, b = 0;
    char text[64], rest = 0;
    if (ends(e, line)) {
        return -1;
    }
    if (strncmp(line, "sleep ", 6) == 0) {
        return atoi(line + 6);
    }
    if (sscanf(line, "%ld + %ld %c", &a, &b, &rest) == 2) {
        (void)snprintf(text, sizeof text, "%ld", a + b);
        value(e, text);
    } else if (strcmp(line, "runs") == 0) {
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)e->echo->runs);
        value(e, text);
    } else if (strncmp(line, "result ", 7) == 0) {
        value(e, line + 7);
    } else if (strcmp(line, "png") == 0) {
        mime_event(e, WARREN__EVENT_KIND__EVENT_DISPLAY, "image/png", "\x89PNG\r\n\x1a\n...");
    } else if (strncmp(line, "big ", 4) == 0) {
        print_big(e, strtoull(line + 4, NULL, 10));
    } else if (strncmp(line, "err ", 4) == 0) {
        text_event(e, WARREN__EVENT_KIND__EVENT_STDERR, line + 4, strlen(line + 4));
    } else if (!print_call(e, line) && line[0] != '\0') {
        const char *out = strncmp(line, "echo ", 5) == 0 ? line + 5 : line;
        text_event(e, WARREN__EVENT_KIND__EVENT_STDOUT, out, strlen(out));
        text_event(e, WARREN__EVENT_KIND__EVENT_STDOUT, "\n", 1);
    }
    return 0;
}

static void flush_all(struct echo_exec *e)
{
    for (struct echo_exchange *x = e->echo->exchanges; x != NULL; x = x->next) {
        if (x->exec == e && !x->dead) {
            echo_exec_flush(x);
        }
    }
}

static void step(struct echo_exec *e)
{
    while (!e->done) {
        if (*e->at == '\0' || e->cancelled) {
            finish(e);
            break;
        }
        char *line = e->at;
        size_t n = strcspn(line, "\n");
        e->at = line + n + (line[n] == '\n' ? 1 : 0);
        line[n] = '\0';
        int pause = command(e, line);
        if (pause < 0) {
            finish(e);
        } else if (pause > 0) {
            ev_timer_set(&e->timer, pause / 1e3, 0.);
            ev_timer_start(e->echo->loop, &e->timer);
            break;
        }
    }
    flush_all(e);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    step(w->data);
}

/* ---- exchanges ---- */

static void reply_state(struct echo_exchange *x, enum proto_envelope_type type)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__Session session;
    r.status = WARREN__STATUS__STATUS_OK;
    r.exec_state = x->exec->done ? WARREN__EXEC_STATE__EXEC_DONE : WARREN__EXEC_STATE__EXEC_RUNNING;
    r.exec_id.data = x->exec->id;
    r.exec_id.len = sizeof x->exec->id;
    r.replayed = x->replayed;
    echo_fill_session(x->exec->session, &session);
    r.session = &session;
    echo_reply(x, type, &r);
}

void echo_exec_flush(struct echo_exchange *x)
{
    struct echo_exec *e = x->exec;
    while (x->next_event < e->events_n) {
        const struct base_buf *b = &e->events[x->next_event];
        int64_t n = (int64_t)base_buf_size(b);
        if (x->window < n && x->window < PROTO_EVENT_WINDOW) {
            return; /* one longer than the window goes alone */
        }
        x->window -= n;
        echo_send(x, PROTO_ENVELOPE_EVENT, ++x->next_event, base_buf_data(b), (size_t)n);
    }
    if (e->done || x->no_wait) {
        reply_state(x, PROTO_ENVELOPE_END);
        x->dead = true;
    }
}

static void watch(struct echo_exchange *x, struct echo_exec *e, uint64_t after)
{
    x->exec = e;
    x->next_event = after < e->events_n ? (unsigned)after : e->events_n;
    x->window = PROTO_EVENT_WINDOW;
    reply_state(x, PROTO_ENVELOPE_HEAD);
    echo_exec_flush(x);
}

struct echo_exec **echo_exec_list(struct echo *e, const uint8_t *id)
{
    return &e->execs[id[0] | id[1] << 8];
}

struct echo_exec *echo_exec_find(struct echo *e, const ProtobufCBinaryData *id)
{
    if (id->len != PROTO_EXEC_ID_BYTES) {
        return NULL;
    }
    for (struct echo_exec *x = *echo_exec_list(e, id->data); x != NULL; x = x->next) {
        if (memcmp(x->id, id->data, sizeof x->id) == 0) {
            return x;
        }
    }
    return NULL;
}

static char *join(const Warren__Exec *q)
{
    if (q->n_argv == 0) {
        return strndup((const char *)q->code.data, q->code.len);
    }
    char *text = calloc(1, PROTO_CODE_BYTES_MAX);
    for (size_t i = 0; text != NULL && i < q->n_argv; i++) {
        (void)strcat(i > 0 ? strcat(text, " ") : text, q->argv[i]);
    }
    return text;
}

void echo_exec_run(struct echo_exchange *x, struct echo_session *s, const Warren__Exec *q)
{
    struct echo_exec *e = echo_exec_find(x->echo, &q->id);
    uint8_t digest[PROTO_EXEC_DIGEST_BYTES] = {0};
    (void)proto_exec_digest(q, digest);
    if (e != NULL && memcmp(e->digest, digest, sizeof digest) != 0) {
        echo_end(x, WARREN__STATUS__STATUS_EXISTS, "IdempotencyKeyReused", "other code");
        return;
    }
    if (e != NULL) {
        x->replayed = true;
        watch(x, e, 0);
        return;
    }
    e = calloc(1, sizeof *e);
    if (e == NULL || q->id.len != sizeof e->id || (e->code = join(q)) == NULL) {
        free(e);
        echo_end(x, WARREN__STATUS__STATUS_INVALID, "", "bad execution");
        return;
    }
    x->echo->runs++;
    e->echo = x->echo;
    e->session = s;
    e->at = e->code;
    e->stdout_max = q->stdout_max;
    e->status = WARREN__DONE_STATUS__DONE_OK;
    e->started_ns = base_clock_mono_ns();
    memcpy(e->id, q->id.data, sizeof e->id);
    memcpy(e->digest, digest, sizeof e->digest);
    struct echo_exec **list = echo_exec_list(x->echo, e->id);
    e->next = *list;
    *list = e;
    ev_timer_init(&e->timer, on_timer, 0., 0.);
    e->timer.data = e;
    if (q->detach) {
        x->exec = e;
        reply_state(x, PROTO_ENVELOPE_END);
        x->dead = true;
    } else {
        watch(x, e, 0);
    }
    step(e);
}

void echo_exec_attach(struct echo_exchange *x, const Warren__ExecAttach *q)
{
    struct echo_exec *e = echo_exec_find(x->echo, &q->id);
    if (e == NULL) {
        echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "execution", "no such execution");
        return;
    }
    x->no_wait = !q->wait;
    x->replayed = e->done;
    watch(x, e, q->after_seq);
}

void echo_exec_cancel(struct echo_exchange *x, const Warren__ExecCancel *q)
{
    struct echo_exec *e = echo_exec_find(x->echo, &q->id);
    if (e == NULL || (q->digest.len == sizeof e->digest &&
                         memcmp(e->digest, q->digest.data, sizeof e->digest) != 0)) {
        echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "execution", "no such execution");
        return;
    }
    e->cancelled = true;
    (void)printf("cancelled %s\n", e->done ? "late" : "running"); /* for who waits for it */
    (void)fflush(stdout);
    ev_timer_stop(x->echo->loop, &e->timer);
    step(e);
    echo_end(x, WARREN__STATUS__STATUS_OK, "", "");
}

void echo_exec_free(struct echo_exec *e)
{
    ev_timer_stop(e->echo->loop, &e->timer);
    for (unsigned i = 0; i < e->events_n; i++) {
        base_buf_deinit(&e->events[i]);
    }
    free(e->events);
    free(e->code);
    free(e);
}
