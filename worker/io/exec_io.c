#include "worker/io/exec_io.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "worker/io/session_state.h"
#include "worker/wire/rows.h"

enum { EXPIRE_BUDGET = 64 }; /* outcomes deleted in one turn */

/* What a running execution has beyond its record. */
struct live {
    struct worker_list link;
    struct worker_sessions *s;
    struct worker_exec *x;
    struct worker_session_ref ref;
    struct worker_stream *stream;
    struct worker_store_wait wait;
    struct worker_exec_order order;
    size_t code_sent;
    uint64_t committed_seq;
    bool started;   /* handed to the guest */
    bool stored;    /* the STARTED row is committed */
    bool over;      /* DONE or UNKNOWN; goes after the commit */
    bool ran;       /* the guest knows the id: whatever it says next, it may have run */
    bool cancelled; /* before it was handed over: it will not be */
    bool unrun;     /* the guest never heard of it */
};

static void on_event(void *user, const Warren__GuestEvent *event, const uint8_t *raw, size_t n);
static void on_writable(void *user);
static void on_closed(void *user, int code, const char *text);

static const struct worker_stream_ops ops = {
    .event = on_event, .writable = on_writable, .closed = on_closed};

static struct live *live_of(const struct worker_exec *x)
{
    return x->shell;
}

static void row_put(struct worker_sessions *s, const struct worker_exec *x)
{
    uint8_t value[WORKER_ROW_MAX];
    struct worker_store_row r = {.key = x->id, .key_n = sizeof x->id, .value = value};
    r.value_n = worker_row_exec_encode(x, value);
    (void)worker_store_put(s->config.run, WORKER_STORE_EXEC, &r);
}

static void row_drop(struct worker_sessions *s, const struct worker_exec *x)
{
    (void)worker_store_del_prefix(s->config.run, WORKER_STORE_EVENT, x->id, sizeof x->id);
    (void)worker_store_del(s->config.run, WORKER_STORE_EXEC, x->id, sizeof x->id);
}

static void order_release(struct live *l)
{
    if (l->order.release != NULL) {
        l->order.release(l->order.owner);
        l->order.release = NULL;
        l->order.code_n = l->code_sent = 0;
    }
}

static void live_free(struct live *l)
{
    if (l->stream != NULL) {
        worker_stream_reset(l->stream);
    }
    worker_list_remove(&l->link);
    worker_store_wait_cancel(&l->wait);
    order_release(l);
    l->x->shell = NULL;
    free(l);
}

/* A callback may detach any reader: those still to be called wait in a list of their own. */
static void readers_wake(struct worker_exec *x)
{
    struct worker_list now, *l;
    worker_list_init(&now);
    worker_list_splice(&now, &x->readers);
    while ((l = worker_list_first(&now)) != NULL) {
        worker_list_remove(l);
        worker_list_append(&x->readers, l);
        struct worker_exec_reader *r = CONTAINER_OF(l, struct worker_exec_reader, link);
        struct worker_exec_watch *w = CONTAINER_OF(r, struct worker_exec_watch, reader);
        w->ready(w);
    }
}

/* Nothing of it reached the guest, or the guest refused it before it ran. */
static void never_ran(struct live *l, int code, const char *text)
{
    struct worker_sessions *s = l->s;
    struct worker_exec *x = l->x;
    struct worker_session_ref ref = l->ref;
    row_drop(s, x);
    live_free(l);
    struct worker_list *k;
    while ((k = worker_list_first(&x->readers)) != NULL) {
        struct worker_exec_reader *r = CONTAINER_OF(k, struct worker_exec_reader, link);
        struct worker_exec_watch *w = CONTAINER_OF(r, struct worker_exec_watch, reader);
        worker_exec_detach(r);
        w->refused(w, code, text);
    }
    worker_exec_undo(s->execs, x);
    worker_session_release(s, ref);
}

static void on_stored(struct worker_store_wait *w, int rc);

static void after_commit(struct live *l)
{
    worker_store_after(l->s->config.run, &l->wait, on_stored);
}

/* --- to the guest -------------------------------------------------------------------------- */

static void code_write(struct live *l)
{
    while (l->stream != NULL && l->code_sent < l->order.code_n) {
        size_t n = worker_stream_write(
            l->stream, l->order.code + l->code_sent, l->order.code_n - l->code_sent);
        if (n == 0) {
            return; /* on_writable() goes on */
        }
        l->code_sent += n;
    }
    if (l->stream != NULL && l->order.release != NULL) {
        worker_stream_finish(l->stream);
        order_release(l);
    }
}

/* Ends what never reached the guest. */
static void end_unrun(struct live *l)
{
    Warren__GuestEvent e = WARREN__GUEST_EVENT__INIT;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    uint8_t raw[64];
    done.status = WARREN__DONE_STATUS__DONE_INTERRUPTED;
    e.seq = 1;
    e.kind = WARREN__EVENT_KIND__EVENT_DONE;
    e.done = &done;
    size_t n = warren__guest_event__get_packed_size(&e);
    REQUIRE(n <= sizeof raw);
    (void)warren__guest_event__pack(&e, raw);
    l->started = l->unrun = true;
    order_release(l);
    on_event(l, &e, raw, n);
}

static void hand_over(struct live *l)
{
    if (l->cancelled) {
        end_unrun(l);
        return;
    }
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    open.exec = &l->order.exec;
    int rc = worker_engine_open(l->s->engine, l->ref.slot, &open, &ops, l, &l->stream);
    if (rc != 0) {
        l->stream = NULL;
        never_ran(l, rc, "the microVM of the session takes no executions");
        return;
    }
    l->started = true;
    code_write(l);
    readers_wake(l->x);
}

static bool reopen(struct live *l)
{
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    Warren__GuestResume resume = WARREN__GUEST_RESUME__INIT;
    resume.id = (ProtobufCBinaryData){.data = l->x->id, .len = sizeof l->x->id};
    resume.after_seq = l->x->last_seq;
    open.what_case = WARREN__GUEST_OPEN__WHAT_RESUME;
    open.resume = &resume;
    int rc = worker_engine_open(l->s->engine, l->ref.slot, &open, &ops, l, &l->stream);
    if (rc != 0) {
        l->stream = NULL;
    }
    return rc == 0;
}

static void on_stored(struct worker_store_wait *w, int rc)
{
    struct live *l = CONTAINER_OF(w, struct live, wait);
    struct worker_sessions *s = l->s;
    struct worker_exec *x = l->x;
    if (rc != 0) {
        return; /* the store has failed: the process ends, nothing more may be shown */
    }
    if (!l->stored) {
        l->stored = true;
        hand_over(l);
        return;
    }
    l->committed_seq = x->last_seq;
    if (!l->over) {
        worker_engine_event_ack(s->engine, l->ref.slot, x->id, x->last_seq);
        readers_wake(x);
        return;
    }
    bool done = x->state == WORKER_EXEC_DONE;
    struct worker_session_ref ref = l->ref;
    if (done && !l->unrun) {
        worker_engine_event_ack(s->engine, ref.slot, x->id, x->last_seq);
        worker_engine_forget(s->engine, ref.slot, x->id);
    }
    live_free(l);
    readers_wake(x);
    if (done) {
        worker_session_release(s, ref);
    }
    worker_exec_io_expire(s);
}

/* --- from the guest ------------------------------------------------------------------------ */

static void unknown(struct live *l)
{
    l->over = true;
    row_put(l->s, l->x);
    after_commit(l);
}

static void event_store(struct live *l, uint64_t seq, const uint8_t *raw, size_t n)
{
    uint8_t key[WORKER_ROW_KEY_MAX];
    struct worker_store_row r = {.key = key, .value = raw, .value_n = n};
    r.key_n = worker_row_event_key(l->x->id, seq, key);
    (void)worker_store_put(l->s->config.run, WORKER_STORE_EVENT, &r);
}

static void on_event(void *user, const Warren__GuestEvent *event, const uint8_t *raw, size_t n)
{
    struct live *l = user;
    struct worker_sessions *s = l->s;
    bool done = event->kind == WARREN__EVENT_KIND__EVENT_DONE;
    switch (worker_exec_event(s->execs, l->x, event->seq, n, done)) {
    case WORKER_EXEC_KEEP:
        event_store(l, event->seq, raw, n);
        break;
    case WORKER_EXEC_SKIP:
        row_put(s, l->x); /* a worker after us must not ask for it again */
        break;
    case WORKER_EXEC_AGAIN:
        break;
    case WORKER_EXEC_GAP:
        LOG_WARN(
            s->config.log, "events of an execution are missing, asking again slot=%u", l->ref.slot);
        worker_stream_reset(l->stream);
        l->stream = NULL;
        (void)reopen(l); /* when it fails the microVM is ending, which is told */
        return;
    }
    if (done && !l->over) {
        worker_exec_finish(s->execs, l->x, worker_session_now());
        l->over = true;
        row_put(s, l->x);
        worker_session_arm(s);
    }
    after_commit(l);
}

static void on_writable(void *user)
{
    code_write(user);
}

/* What the agent says to an id that it does not know, or before it runs anything. */
static bool refusal(int code)
{
    return code == BASE_ENOTFOUND || code == BASE_EINVAL || code == BASE_EFULL ||
           code == BASE_ETOOBIG || code == BASE_EDENIED || code == BASE_ESTATE;
}

static void on_closed(void *user, int code, const char *text)
{
    struct live *l = user;
    l->stream = NULL;
    if (l->over || code == BASE_ECLOSED) {
        return; /* complete; or the microVM goes, which is told by itself */
    }
    if (code == BASE_EEXISTS && !l->ran) { /* longer ago than we remember: are its events there? */
        l->ran = true;
        (void)reopen(l);
        return;
    }
    if (refusal(code) && l->x->last_seq == 0 && !l->ran) {
        never_ran(l, code, text != NULL ? text : base_err_str(code));
        return;
    }
    /* The agent ended the stream without an end of the execution: nothing more can be known. */
    LOG_WARN(
        l->s->config.log, "outcome of an execution is lost slot=%u code=%d", l->ref.slot, code);
    worker_exec_give_up(l->s->execs, l->x, worker_session_now());
    unknown(l);
    worker_session_release(l->s, l->ref);
}

/* --- begin --------------------------------------------------------------------------------- */

static struct live *live_new(
    struct worker_sessions *s, struct worker_exec *x, struct worker_session_ref ref)
{
    struct live *l = calloc(1, sizeof *l);
    if (l != NULL) {
        l->s = s;
        l->x = x;
        l->ref = ref;
        worker_store_wait_init(&l->wait);
        worker_list_init(&l->link);
        worker_list_append(&s->lives, &l->link);
        x->shell = l;
    }
    return l;
}

enum worker_exec_verdict worker_exec_io_begin(struct worker_sessions *s,
    struct worker_session_ref ref, uint64_t hash, struct worker_exec_order *order,
    struct worker_exec **ret)
{
    struct worker_exec_begin b = {.id = order->exec.id.data,
        .digest = order->digest,
        .hash = hash,
        .epoch = ref.epoch,
        .session = ref.session,
        .now_ns = worker_session_now(),
        .who = order->who};
    enum worker_exec_verdict v = worker_exec_begin(s->execs, &b, ret);
    order->quota = b.quota;
    if (v != WORKER_EXEC_NEW) {
        order->release(order->owner);
        return v;
    }
    struct live *l = live_new(s, *ret, ref);
    if (l == NULL) {
        worker_exec_undo(s->execs, *ret);
        order->release(order->owner);
        return WORKER_EXEC_FULL;
    }
    l->order = *order;
    l->order.digest = NULL;
    row_put(s, *ret);
    (void)worker_session_step(
        s, &(struct worker_pool_event){
               .kind = WORKER_EV_HOLD, .session = ref.session, .epoch = ref.epoch});
    after_commit(l);
    return v;
}

/* --- readers ------------------------------------------------------------------------------- */

struct worker_exec *worker_exec_io_find(
    struct worker_sessions *s, const uint8_t id[PROTO_EXEC_ID_BYTES])
{
    return worker_exec_find(s->execs, id);
}

bool worker_exec_io_started(const struct worker_exec *x)
{
    const struct live *l = live_of(x);
    return l == NULL || l->started;
}

void worker_exec_io_watch(struct worker_exec_watch *w, struct worker_exec *x, uint64_t after_seq)
{
    worker_exec_attach(&w->reader, x, after_seq);
}

void worker_exec_io_unwatch(struct worker_exec_watch *w)
{
    worker_exec_detach(&w->reader);
}

static uint64_t readable(const struct worker_exec *x)
{
    const struct live *l = live_of(x);
    return l != NULL ? l->committed_seq : x->last_seq;
}

int worker_exec_io_read(
    struct worker_sessions *s, struct worker_exec_watch *w, struct worker_exec_event *ret)
{
    struct worker_exec_reader *r = &w->reader;
    uint64_t last = readable(r->exec), seq;
    if (r->next_seq > last) {
        return BASE_ENOTFOUND;
    }
    uint8_t key[WORKER_ROW_KEY_MAX];
    struct worker_store_row row;
    size_t n = worker_row_event_key(r->exec->id, r->next_seq, key);
    int rc = worker_store_seek(s->config.run, WORKER_STORE_EVENT, key, n, &row);
    /* Events that were not kept leave gaps. */
    if (rc == 0 && (row.key_n != n || memcmp(row.key, key, PROTO_EXEC_ID_BYTES) != 0 ||
                       worker_row_event_seq(row.key, row.key_n, &seq) != 0 || seq > last)) {
        rc = BASE_ENOTFOUND;
    }
    if (rc == BASE_ENOTFOUND) {
        worker_exec_sent(r, last, 0);
        return rc;
    }
    if (rc == 0) {
        *ret = (struct worker_exec_event){.seq = seq, .raw = row.value, .n = row.value_n};
    }
    return rc;
}

bool worker_exec_io_read_out(const struct worker_exec_watch *w)
{
    return live_of(w->reader.exec) == NULL && worker_exec_read_out(&w->reader);
}

void worker_exec_io_interrupt(struct worker_sessions *s, struct worker_exec *x)
{
    struct live *l = live_of(x);
    if (l == NULL || l->over) {
        x->cancel = l == NULL && x->state == WORKER_EXEC_STARTED;
        return;
    }
    if (l->started && !l->unrun && l->order.release != NULL && l->stream != NULL) {
        worker_stream_reset(l->stream); /* the guest does not have all of the code */
        l->stream = NULL;
        end_unrun(l);
    } else if (l->started) {
        worker_engine_interrupt(s->engine, l->ref.slot, x->id);
    } else {
        l->cancelled = true; /* its row is on its way into the store */
    }
}

struct worker_exec *worker_exec_io_void(struct worker_sessions *s,
    const uint8_t id[PROTO_EXEC_ID_BYTES], uint64_t hash,
    const uint8_t digest[PROTO_EXEC_DIGEST_BYTES])
{
    struct worker_exec_begin b = {.id = id,
        .digest = digest,
        .hash = hash,
        .session = WORKER_NONE,
        .now_ns = worker_session_now(),
        .unrun = true};
    struct worker_exec *x = NULL;
    if (worker_exec_begin(s->execs, &b, &x) != WORKER_EXEC_NEW) {
        return NULL;
    }
    struct live *l = live_new(s, x, (struct worker_session_ref){0});
    if (l == NULL) {
        worker_exec_undo(s->execs, x);
        return NULL;
    }
    l->stored = true; /* nothing is to be handed over after the commit */
    end_unrun(l);
    return x;
}

/* --- ends ---------------------------------------------------------------------------------- */

void worker_exec_io_lost(struct worker_sessions *s, proto_epoch epoch, enum worker_end end)
{
    /* Those whose code is still here did not run. */
    struct worker_exec *x = worker_exec_running(s->execs, NULL);
    while (x != NULL) {
        struct worker_exec *next = worker_exec_running(s->execs, x);
        struct live *l = live_of(x);
        if (x->epoch == epoch && l != NULL && !l->started) {
            never_ran(l, BASE_ECLOSED, worker_pool_end_text(end));
        }
        x = next;
    }
    while ((x = worker_exec_lost(s->execs, epoch, worker_session_now())) != NULL) {
        struct live *l = live_of(x);
        if (l == NULL) { /* a row of an earlier worker whose microVM did not come back */
            row_put(s, x);
            readers_wake(x);
        } else {
            unknown(l);
        }
    }
}

void worker_exec_io_resume(struct worker_sessions *s, struct worker_session_ref ref)
{
    struct worker_exec *x = worker_exec_running(s->execs, NULL);
    while (x != NULL) {
        struct worker_exec *next = worker_exec_running(s->execs, x);
        if (x->epoch == ref.epoch && live_of(x) == NULL) {
            struct live *l = live_new(s, x, ref);
            REQUIRE(l != NULL);
            const struct worker_session *owner = &s->pools->sessions[ref.session];
            worker_exec_pay(s->execs, x,
                &(struct worker_quota_who){.tenant = owner->tenant, .pool = owner->pool});
            x->session = ref.session;
            l->started = l->stored = true;
            l->committed_seq = x->last_seq;
            (void)worker_session_step(
                s, &(struct worker_pool_event){
                       .kind = WORKER_EV_HOLD, .session = ref.session, .epoch = ref.epoch});
            if (reopen(l) && x->cancel) { /* was asked for before the microVM was here again */
                worker_exec_io_interrupt(s, x);
            }
        }
        x = next;
    }
}

void worker_exec_io_expire(struct worker_sessions *s)
{
    struct worker_exec *x;
    for (int i = 0; i < EXPIRE_BUDGET; i++) {
        switch (worker_exec_expire(s->execs, worker_session_now(), &x)) {
        case WORKER_EXEC_DROP_NONE:
            return;
        case WORKER_EXEC_DROP_EVENTS:
            (void)worker_store_del_prefix(s->config.run, WORKER_STORE_EVENT, x->id, sizeof x->id);
            row_put(s, x);
            break;
        case WORKER_EXEC_DROP_ALL:
            row_drop(s, x);
            break;
        }
    }
}

void worker_exec_io_destroy(struct worker_sessions *s)
{
    struct worker_list *l;
    while ((l = worker_list_first(&s->lives)) != NULL) {
        live_free(CONTAINER_OF(l, struct live, link));
    }
}
