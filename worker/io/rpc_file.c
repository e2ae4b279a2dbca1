#include <string.h>

#include "worker/io/rpc_state.h"

/* Files (put, get, list, stat, delete) and terminals, as streams into the guest. Memory per
 * exchange is bounded by the credits: four chunks on the way in, one stream window on the way out.
 */

enum {
    TAG_FILE = 11 << 3 | 2,  /* Reply.file */
    TAG_FILES = 12 << 3 | 2, /* Reply.files */
    LIST_BYTES_MAX = 8 << 20,
    IDLE_S_DEFAULT = 3600, /* of a terminal whose session does not cool down */
};

/* --- results ------------------------------------------------------------------------------- */

static int add_file(struct base_buf *to, uint8_t tag, const Warren__FileInfo *f)
{
    size_t n = warren__file_info__get_packed_size(f);
    uint8_t *p = base_buf_room(to, n + 6);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    size_t at = 0;
    p[at++] = tag;
    for (size_t v = n; at == 1 || v > 0; v >>= 7) {
        p[at++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
    }
    at += warren__file_info__pack(f, p + at);
    base_buf_grow(to, at);
    return 0;
}

static void head(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    reply.status = WARREN__STATUS__STATUS_OK;
    rpc_session_attach(x, &reply, &session);
    rpc_head_reply(x, &reply);
    rpc_flush(x);
}

static void take_entries(struct rpc_exchange *x, const Warren__GuestResult *r)
{
    x->truncated |= r->truncated;
    for (size_t i = 0; i < r->n_entries; i++) {
        if (x->entries >= PROTO_LIST_ENTRIES_MAX || base_buf_size(&x->extra) > LIST_BYTES_MAX ||
            add_file(&x->extra, TAG_FILES, r->entries[i]) != 0) {
            x->truncated = true;
            return;
        }
        x->entries++;
    }
}

static void on_result(void *user, const Warren__GuestResult *r)
{
    struct rpc_exchange *x = user;
    if (x->dead || x->end_due) {
        return;
    }
    if (r->code != 0) {
        rpc_end_error(x, r->code, r->text);
        return;
    }
    if (x->op == WARREN__REQUEST__OP_FILE_LIST) {
        take_entries(x, r);
        return;
    }
    if (r->file != NULL && base_buf_size(&x->extra) == 0 &&
        add_file(&x->extra, TAG_FILE, r->file) != 0) {
        rpc_close(x);
        return;
    }
    if (x->op == WARREN__REQUEST__OP_TERMINAL && x->started) {
        x->exit_code = r->exit_code;
    } else if (x->op == WARREN__REQUEST__OP_FILE_GET || x->op == WARREN__REQUEST__OP_TERMINAL) {
        x->started = true;
        head(x);
    } else {
        x->fin_done = true; /* put, stat, delete: that was it */
    }
}

static void success(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    reply.status = WARREN__STATUS__STATUS_OK;
    reply.truncated = x->truncated;
    done.exit_code = x->exit_code;
    reply.done = x->op == WARREN__REQUEST__OP_TERMINAL ? &done : NULL;
    rpc_session_attach(x, &reply, &session);
    rpc_end_reply(x, &reply);
}

static void on_closed(void *user, int code, const char *text)
{
    struct rpc_exchange *x = user;
    x->stream = NULL;
    if (x->dead || x->end_due) {
        return;
    }
    if (code == BASE_EFULL && x->op == WARREN__REQUEST__OP_TERMINAL && !x->started) {
        rpc_end(x, WARREN__STATUS__STATUS_FULL, "TerminalsFull", "too many terminals are open");
    } else if (code != 0) {
        rpc_end_error(x, code, text);
    } else if (x->more != NULL) {
        x->source_done = true;
        rpc_flush(x);
    } else if (x->op == WARREN__REQUEST__OP_FILE_LIST || x->fin_done) {
        success(x);
    } else {
        rpc_end(x, WARREN__STATUS__STATUS_INTERNAL, "", "the agent gave no result");
    }
}

/* A terminal ends when nothing moves for as long as its session lives without one. */
static void touch(struct rpc_exchange *x)
{
    if (x->timer.repeat > 0.) { /* of a terminal that has begun; before, its deadline counts */
        ev_timer_again(x->rpc->config.loop, &x->timer);
    }
}

/* --- download ------------------------------------------------------------------------------ */

static void on_data(void *user, const uint8_t *data, size_t n)
{
    struct rpc_exchange *x = user;
    if (x->dead || x->end_due) {
        return;
    }
    if (base_buf_size(&x->data) + n > PROTO_FRAME_STREAM_WINDOW ||
        base_buf_add(&x->data, data, n) != 0) {
        rpc_end(x, WARREN__STATUS__STATUS_INTERNAL, "", "the agent does not keep to its window");
        return;
    }
    touch(x);
    rpc_flush(x);
}

/* Full chunks as they come (of a terminal all there is), what is left at the end with FIN. */
static bool chunks(struct rpc_exchange *x)
{
    size_t enough = x->op == WARREN__REQUEST__OP_TERMINAL ? 1 : PROTO_CHUNK_BYTES;
    while (!x->fin_done) {
        size_t n = base_buf_size(&x->data);
        if (x->credit == 0 || (n < enough && !x->source_done)) {
            return false;
        }
        bool last = x->source_done && n <= PROTO_CHUNK_BYTES;
        n = n < PROTO_CHUNK_BYTES ? n : PROTO_CHUNK_BYTES;
        struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK,
            .seq = x->seq_out,
            .flags = last ? PROTO_ENVELOPE_FIN : 0};
        if (rpc_send(x, &env, base_buf_data(&x->data), n) != 0) {
            return false;
        }
        x->seq_out++;
        x->credit--;
        base_buf_consume(&x->data, n);
        if (x->stream != NULL) {
            worker_stream_consume(x->stream, n);
        }
        x->fin_done = last;
    }
    x->more = NULL;
    success(x);
    return false;
}

/* --- upload -------------------------------------------------------------------------------- */

/* Writes what the guest takes; each chunk that is through is given back. */
static void upload(struct rpc_exchange *x)
{
    while (x->stream != NULL && base_buf_size(&x->input) > 0) {
        size_t n =
            worker_stream_write(x->stream, base_buf_data(&x->input), base_buf_size(&x->input));
        if (n == 0) {
            break;
        }
        base_buf_consume(&x->input, n);
        while (n > 0) {
            uint32_t part = n < x->pending[0] ? (uint32_t)n : x->pending[0];
            x->pending[0] -= part;
            n -= part;
            if (x->pending[0] == 0) {
                x->pending_n--;
                memmove(x->pending, x->pending + 1, x->pending_n * sizeof x->pending[0]);
                x->credit_due++;
            }
        }
    }
    if (x->stream != NULL && x->fin_in && base_buf_size(&x->input) == 0 && !x->input_done) {
        x->input_done = true;
        worker_stream_finish(x->stream);
    }
    rpc_flush(x);
}

static bool takes_chunks(const struct rpc_exchange *x)
{
    return x->op == WARREN__REQUEST__OP_FILE_PUT || x->op == WARREN__REQUEST__OP_TERMINAL;
}

static void on_writable(void *user)
{
    struct rpc_exchange *x = user;
    if (!x->dead && takes_chunks(x)) {
        upload(x);
    }
}

/* An error of the upload: the guest removes what it has. */
static void upload_fail(struct rpc_exchange *x, Warren__Status status, const char *text)
{
    if (x->stream != NULL) {
        worker_stream_reset(x->stream);
        x->stream = NULL;
    }
    rpc_end(x, status, "", text);
}

void rpc_file_chunk(struct rpc_exchange *x, const struct proto_net_message *m)
{
    if (!takes_chunks(x) || x->end_due || x->dead) {
        return;
    }
    bool fin = (m->env.flags & PROTO_ENVELOPE_FIN) != 0;
    if (x->fin_in || m->env.seq != x->seq_in || m->body_bytes > PROTO_CHUNK_BYTES ||
        x->pending_n == RPC_CHUNKS || (m->body_bytes == 0 && !fin)) {
        upload_fail(x, WARREN__STATUS__STATUS_INVALID, "a chunk is out of order or over credit");
        return;
    }
    x->seq_in++;
    x->bytes_in += m->body_bytes;
    if (x->bytes_in > x->bytes_max) {
        upload_fail(x, WARREN__STATUS__STATUS_TOO_LARGE, "the file is too large");
        return;
    }
    if (base_buf_add(&x->input, m->body, m->body_bytes) != 0) {
        upload_fail(x, WARREN__STATUS__STATUS_UNAVAILABLE, "out of memory");
        return;
    }
    touch(x);
    x->fin_in = fin;
    if (m->body_bytes > 0) {
        x->pending[x->pending_n++] = (uint32_t)m->body_bytes;
    }
    upload(x);
}

/* --- open ---------------------------------------------------------------------------------- */

struct opened {
    Warren__GuestOpen open;
    Warren__GuestPut put;
    Warren__GuestGet get;
    Warren__GuestList list;
    Warren__GuestStat stat;
    Warren__GuestDelete delete;
    Warren__GuestTerminal terminal;
};

static void describe_reading(const Warren__Request *q, struct opened *o)
{
    if (q->op_case == WARREN__REQUEST__OP_FILE_GET) {
        warren__guest_get__init(&o->get);
        o->get.path = q->file_get->path;
        o->get.absolute = q->file_get->absolute;
        o->get.offset = q->file_get->offset;
        o->get.length = q->file_get->length;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_GET;
        o->open.get = &o->get;
    } else if (q->op_case == WARREN__REQUEST__OP_FILE_LIST) {
        warren__guest_list__init(&o->list);
        o->list.path = q->file_list->path;
        o->list.absolute = q->file_list->absolute;
        o->list.recursive = q->file_list->recursive;
        o->list.entries_max = PROTO_LIST_ENTRIES_MAX;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_LIST;
        o->open.list = &o->list;
    } else {
        warren__guest_stat__init(&o->stat);
        o->stat.path = q->file_stat->path;
        o->stat.absolute = q->file_stat->absolute;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_STAT;
        o->open.stat = &o->stat;
    }
}

static void describe(const struct rpc_exchange *x, struct opened *o)
{
    const Warren__Request *q = x->req->msg;
    warren__guest_open__init(&o->open);
    if (q->op_case == WARREN__REQUEST__OP_FILE_PUT) {
        warren__guest_put__init(&o->put);
        o->put.path = q->file_put->path;
        o->put.absolute = q->file_put->absolute;
        o->put.size_max = x->bytes_max;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_PUT;
        o->open.put = &o->put;
    } else if (q->op_case == WARREN__REQUEST__OP_FILE_DELETE) {
        warren__guest_delete__init(&o->delete);
        o->delete.path = q->file_delete->path;
        o->delete.absolute = q->file_delete->absolute;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_DELETE;
        o->open.delete_ = &o->delete;
    } else if (q->op_case == WARREN__REQUEST__OP_TERMINAL) {
        warren__guest_terminal__init(&o->terminal);
        o->terminal.columns = q->terminal->columns;
        o->terminal.rows = q->terminal->rows;
        o->open.what_case = WARREN__GUEST_OPEN__WHAT_TERMINAL;
        o->open.terminal = &o->terminal;
    } else {
        describe_reading(q, o);
    }
}

static void go(struct rpc_exchange *x)
{
    static const struct worker_stream_ops ops = {
        .result = on_result, .data = on_data, .writable = on_writable, .closed = on_closed};
    struct opened o;
    describe(x, &o);
    int rc = worker_engine_open(x->rpc->config.engine, x->ref.slot, &o.open, &ops, x, &x->stream);
    if (rc != 0) {
        x->stream = NULL;
        rpc_end_error(x, rc, "the microVM of the session cannot be reached");
        return;
    }
    if (x->op == WARREN__REQUEST__OP_FILE_PUT) {
        head(x);
        if (!x->dead) {
            upload(x); /* chunks may have come before their session */
        }
    } else if (x->op == WARREN__REQUEST__OP_TERMINAL) {
        struct worker_session_pool_info pool;
        worker_session_pool_look(x->rpc->config.sessions, x->pool, &pool);
        x->timer.repeat =
            pool.spec->cooldown_ms > 0 ? pool.spec->cooldown_ms / 1e3 : IDLE_S_DEFAULT;
        touch(x);
    } else {
        worker_stream_finish(x->stream);
    }
}

void rpc_file(struct rpc_exchange *x)
{
    if (x->op == WARREN__REQUEST__OP_FILE_PUT) {
        uint64_t max = x->req->msg->file_put->size_max;
        x->bytes_max = max != 0 ? max : PROTO_UPLOAD_BYTES_MAX;
    } else if (x->op == WARREN__REQUEST__OP_FILE_GET) {
        x->more = chunks;
    } else if (x->op == WARREN__REQUEST__OP_TERMINAL) {
        x->bytes_max = UINT64_MAX;
        x->more = chunks;
    }
    rpc_acquire(x, go);
}
