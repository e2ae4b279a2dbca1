#include <stdio.h>
#include <string.h>

#include "gateway/io/conn.h"

enum {
    STREAMS_MAX = 128,
    CONNECTION_WINDOW = 4 << 20,
    RESPONSE_FIELDS_MAX = 48,
};

static struct gw_exchange *exchange_of(nghttp2_session *s, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(s, stream);
}

/* ---- requests ---- */

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
    struct gw_conn *c = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct gw_exchange *x = gw_exchange_create(c, frame->hd.stream_id);
    if (x == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    (void)nghttp2_session_set_stream_user_data(s, frame->hd.stream_id, x);
    return 0;
}

/* Strings may move while the head grows, so fields hold offsets until it is complete. */
static int keep(struct gw_exchange *x, nghttp2_vec v, const char **ret)
{
    *ret = (const char *)(uintptr_t)(base_buf_size(&x->text) + 1);
    return base_buf_add(&x->text, v.base, v.len) < 0 || base_buf_add(&x->text, "", 1) < 0 ? -1 : 0;
}

static bool is(nghttp2_vec v, const char *text)
{
    return v.len == strlen(text) && memcmp(v.base, text, v.len) == 0;
}

static int keep_pseudo(struct gw_exchange *x, nghttp2_vec name, nghttp2_vec value)
{
    struct gw_request *r = &x->request;
    char method[16] = "";
    if (is(name, ":method")) {
        if (value.len < sizeof method) {
            memcpy(method, value.base, value.len);
        }
        r->method = gw_http_method(method);
        return 0;
    }
    if (is(name, ":path")) {
        x->refuse = value.len > GW_H1_TARGET_MAX ? 414 : x->refuse;
        return keep(x, value, &r->target);
    }
    return is(name, ":authority") ? keep(x, value, &r->host) : 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, nghttp2_rcbuf *name_buf,
    nghttp2_rcbuf *value_buf, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct gw_exchange *x = exchange_of(s, frame->hd.stream_id);
    if (x == NULL || x->begun) {
        return 0; /* trailers */
    }
    struct gw_request *r = &x->request;
    nghttp2_vec name = nghttp2_rcbuf_get_buf(name_buf), value = nghttp2_rcbuf_get_buf(value_buf);
    bool pseudo = name.len > 0 && name.base[0] == ':';
    if (base_buf_size(&x->text) + name.len + value.len > GW_H1_HEAD_MAX ||
        (!pseudo && r->fields_n == GW_H1_FIELDS_MAX)) {
        x->refuse = 431;
        return 0;
    }
    int rc;
    if (pseudo) {
        rc = keep_pseudo(x, name, value);
    } else {
        struct gw_field *f = &x->fields[r->fields_n++];
        rc = keep(x, name, &f->name) | keep(x, value, &f->value);
    }
    return rc == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_invalid_header(nghttp2_session *s, const nghttp2_frame *frame, nghttp2_rcbuf *name,
    nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)s;
    (void)frame;
    (void)name;
    (void)value;
    (void)flags;
    gw_server_counters(((struct gw_conn *)user)->server)->bad++;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
}

static void fix(const struct gw_exchange *x, const char **p)
{
    uintptr_t offset = (uintptr_t)*p;
    *p = offset == 0 ? "" : (const char *)base_buf_data(&x->text) + offset - 1;
}

/* RFC 9110 8.6: digits, and not twice; nghttp2 has compared it with the data's length already. */
static int64_t content_length(const struct gw_request *r)
{
    const char *text = gw_http_field(r, "content-length");
    int64_t v = 0;
    for (int i = 0; text != NULL && text[i] >= '0' && text[i] <= '9' && i < 15; i++) {
        v = v * 10 + (text[i] - '0');
    }
    return text == NULL ? -1 : v;
}

static void request_head(struct gw_exchange *x, bool end)
{
    struct gw_request *r = &x->request;
    fix(x, &r->target);
    fix(x, &r->host);
    for (int i = 0; i < r->fields_n; i++) {
        fix(x, &x->fields[i].name);
        fix(x, &x->fields[i].value);
    }
    r->fields = x->fields;
    r->http2 = true;
    r->has_body = !end;
    r->content_length = end ? 0 : content_length(r);
    x->body_s = gw_server_now_s(x->conn->server);
    gw_exchange_begin(x);
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
    struct gw_conn *c = user;
    struct gw_exchange *x = exchange_of(s, frame->hd.stream_id);
    gw_server_mark(c);
    if (x == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !x->begun) {
        request_head(x, end);
    }
    if (end) {
        gw_exchange_complete(x);
    }
    return 0;
}

static int on_data(
    nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *data, size_t n, void *user)
{
    (void)flags;
    (void)user;
    struct gw_exchange *x = exchange_of(s, stream);
    /* The connection's window is given back at once: a slow stream must not starve the others. */
    (void)nghttp2_session_consume_connection(s, n);
    if (x != NULL) {
        gw_exchange_deliver(x, data, n);
    }
    return 0;
}

static int on_close(nghttp2_session *s, int32_t stream, uint32_t error, void *user)
{
    (void)error;
    struct gw_exchange *x = exchange_of(s, stream);
    if (x != NULL) {
        (void)nghttp2_session_set_stream_user_data(s, stream, NULL);
        x->closed = x->aborted = true; /* freed in gw_h2_turn() */
        gw_server_mark(user);
    }
    return 0;
}

/* ---- life ---- */

static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *cb = NULL;
    if (nghttp2_session_callbacks_new(&cb) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(cb, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    return cb;
}

static nghttp2_option *make_options(void)
{
    nghttp2_option *o = NULL;
    if (nghttp2_option_new(&o) != 0) {
        return NULL;
    }
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_stream_reset_rate_limit(o, 200, 20);
    nghttp2_option_set_max_continuations(o, 8);
    nghttp2_option_set_max_settings(o, 16);
    nghttp2_option_set_max_outbound_ack(o, 100);
    nghttp2_option_set_max_send_header_block_length(o, GW_H1_HEAD_MAX);
    return o;
}

int gw_h2_start(struct gw_conn *c)
{
    nghttp2_session_callbacks *cb = make_callbacks();
    nghttp2_option *o = make_options();
    int rc = cb == NULL || o == NULL ? -1 : nghttp2_session_server_new2(&c->h2, cb, c, o);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(o);
    if (rc != 0) {
        return BASE_ENOMEM;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GW_EXCHANGE_BODY_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GW_H1_HEAD_MAX},
    };
    c->state = GW_CONN_H2;
    c->idle_s = gw_server_now_s(c->server);
    gw_server_mark(c);
    if (nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, 3) != 0 ||
        nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) !=
            0) {
        return BASE_ENOMEM;
    }
    return 0;
}

void gw_h2_input(struct gw_conn *c, const uint8_t *p, size_t n)
{
    gw_server_mark(c);
    ssize_t used = nghttp2_session_mem_recv(c->h2, p, n);
    if (used < 0) {
        gw_server_counters(c->server)->bad++;
        if (nghttp2_is_fatal((int)used) != 0) {
            c->dead = true;
        } else {
            c->closing = true; /* the session has queued its GOAWAY */
        }
    }
}

void gw_h2_goaway(struct gw_conn *c)
{
    if (!c->goaway) {
        c->goaway = true;
        int32_t last = nghttp2_session_get_last_proc_stream_id(c->h2);
        (void)nghttp2_submit_goaway(c->h2, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
        gw_server_mark(c);
    }
}

static void gather(struct gw_conn *c)
{
    while (base_buf_size(&c->out) < GW_H2_BATCH) {
        const uint8_t *data = NULL;
        ssize_t n = nghttp2_session_mem_send(c->h2, &data);
        if (n <= 0) {
            c->dead |= n < 0;
            return;
        }
        if (base_buf_add(&c->out, data, (size_t)n) < 0) {
            c->dead = true;
            return;
        }
    }
}

void gw_h2_turn(struct gw_conn *c)
{
    gather(c);
    for (struct gw_exchange *x = c->exchanges, *next; x != NULL; x = next) {
        next = x->next;
        if (x->closed) {
            gw_exchange_free(x);
            c->idle_s = gw_server_now_s(c->server);
        }
    }
    bool over = nghttp2_session_want_read(c->h2) == 0 && nghttp2_session_want_write(c->h2) == 0;
    if (over || (c->goaway && c->exchanges == NULL)) {
        c->closing = true;
    }
}

/* ---- answers ---- */

/* NOLINTNEXTLINE(readability-function-size): nghttp2's signature */
static ssize_t read_out(nghttp2_session *s, int32_t stream, uint8_t *to, size_t cap,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)s;
    (void)stream;
    (void)user;
    struct gw_exchange *x = source->ptr;
    size_t n = base_buf_size(&x->out);
    if (n == 0 && !x->response_done) {
        x->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    n = n < cap ? n : cap;
    if (n > 0) {
        memcpy(to, base_buf_data(&x->out), n);
        base_buf_consume(&x->out, n);
        x->wrote_s = gw_server_now_s(x->conn->server);
    }
    if (base_buf_size(&x->out) == 0) {
        base_buf_deinit(&x->out);
        if (x->response_done) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            x->reset_due = !x->request_done;
        }
    }
    return (ssize_t)n;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

void gw_h2_respond(
    struct gw_exchange *x, int status, const struct gw_field *f, int n, int64_t length)
{
    char code[12], len[24];
    nghttp2_nv nv[RESPONSE_FIELDS_MAX];
    size_t k = 0;
    (void)snprintf(code, sizeof code, "%d", status);
    nv[k++] = pair(":status", code);
    nv[k++] = pair("date", gw_server_date(x->conn->server));
    for (int i = 0; i < n && k < RESPONSE_FIELDS_MAX - 1; i++) {
        nv[k++] = pair(f[i].name, f[i].value);
    }
    bool bodiless = status == 204 || status == 304;
    if (length >= 0 && !bodiless) {
        (void)snprintf(len, sizeof len, "%lld", (long long)length);
        nv[k++] = pair("content-length", len);
    }
    nghttp2_data_provider provider = {.source.ptr = x, .read_callback = read_out};
    bool empty = bodiless || x->request.method == GW_METHOD_HEAD;
    if (nghttp2_submit_response(x->conn->h2, x->stream, nv, k, empty ? NULL : &provider) != 0) {
        gw_exchange_abort(x);
    } else if (empty) {
        x->reset_due = !x->request_done;
    }
}

void gw_h2_resume(struct gw_exchange *x)
{
    if (x->stream != 0 && x->deferred && !x->closed) {
        x->deferred = false;
        (void)nghttp2_session_resume_data(x->conn->h2, x->stream);
    }
}

void gw_h2_consume(struct gw_exchange *x, size_t n)
{
    (void)nghttp2_session_consume_stream(x->conn->h2, x->stream, n);
}

void gw_h2_reset(struct gw_exchange *x, uint32_t code)
{
    (void)nghttp2_submit_rst_stream(x->conn->h2, NGHTTP2_FLAG_NONE, x->stream, code);
}
