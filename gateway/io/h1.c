#include <stdio.h>
#include <string.h>

#include "gateway/io/conn.h"

/* ---- what llhttp finds ---- */

static struct gw_conn *conn_of(llhttp_t *p)
{
    return p->data;
}

static int on_url(llhttp_t *p, const char *at, size_t n)
{
    (void)n;
    conn_of(p)->exchanges->request.target = at;
    return 0;
}

static int on_name(llhttp_t *p, const char *at, size_t n)
{
    (void)n;
    struct gw_exchange *x = conn_of(p)->exchanges;
    if (x->request.fields_n == GW_H1_FIELDS_MAX) {
        return -1;
    }
    x->fields[x->request.fields_n++] = (struct gw_field){at, ""};
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    struct gw_exchange *x = conn_of(p)->exchanges;
    if (n > 0 && x->request.fields_n > 0) {
        x->fields[x->request.fields_n - 1].value = at;
    }
    return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct gw_conn *c = conn_of(p);
    const uint8_t *data = (const uint8_t *)at;
    if (c->h1.chunked) {
        if (gw_h1_guard_chunks(&c->h1.chunks, c->h1.mark, (size_t)(data - c->h1.mark)) != 0) {
            c->h1.bad = true;
            return -1;
        }
        gw_h1_guard_chunk_data(&c->h1.chunks);
        c->h1.mark = data + n;
    }
    gw_exchange_deliver(c->exchanges, data, n);
    return 0;
}

static int on_complete(llhttp_t *p)
{
    conn_of(p)->h1.complete = true;
    return HPE_PAUSED; /* the next request gets a parser of its own */
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* ---- requests ---- */

void gw_h1_start(struct gw_conn *c)
{
    c->state = GW_CONN_H1;
    c->head_s = c->idle_s = gw_server_now_s(c->server);
}

/* Ends strings inside the head in place: what follows each is a separator. */
static void terminate(struct gw_exchange *x)
{
    struct gw_request *r = &x->request;
    ((char *)r->target)[strcspn(r->target, " ")] = '\0';
    for (int i = 0; i < r->fields_n; i++) {
        char *name = (char *)x->fields[i].name;
        size_t n = strcspn(name, ":");
        name[n] = '\0';
        for (size_t k = 0; k < n; k++) {
            name[k] = (char)(name[k] >= 'A' && name[k] <= 'Z' ? name[k] | 32 : name[k]);
        }
        char *value = (char *)x->fields[i].value;
        if (value[0] == '\0') {
            continue; /* the literal "" is not ours to write to */
        }
        size_t len = strcspn(value, "\r");
        while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
            len--;
        }
        value[len] = '\0';
    }
}

/* Runs llhttp over the copy of the head; the two parsers must agree on what follows. */
static bool parse_head(struct gw_conn *c, struct gw_exchange *x, const struct gw_h1_facts *facts)
{
    llhttp_t *p = &c->h1.parser;
    llhttp_init(p, HTTP_REQUEST, &settings);
    p->data = c;
    c->h1.complete = c->h1.bad = false;
    c->h1.chunked = false; /* while the head is parsed there is no body to guard */
    size_t n = base_buf_size(&x->text);
    llhttp_errno_t e = llhttp_execute(p, (const char *)base_buf_data(&x->text), n);
    bool body = facts->chunked || facts->content_length > 0;
    if (e != HPE_OK && e != HPE_PAUSED && e != HPE_PAUSED_UPGRADE) {
        return false;
    }
    if (x->request.target == NULL || c->h1.complete == body ||
        ((p->flags & F_CHUNKED) != 0) != facts->chunked) {
        return false;
    }
    return facts->chunked || facts->content_length <= 0 ||
           p->content_length == (uint64_t)facts->content_length;
}

static void fill_request(struct gw_conn *c, struct gw_exchange *x, const struct gw_h1_facts *facts)
{
    struct gw_request *r = &x->request;
    r->method = gw_http_method(llhttp_method_name(c->h1.parser.method));
    terminate(x);
    r->fields = x->fields;
    const char *host = gw_http_field(r, "host");
    r->host = host == NULL ? "" : host;
    r->content_length = facts->chunked ? -1 : facts->content_length < 0 ? 0 : facts->content_length;
    r->has_body = facts->chunked || facts->content_length > 0;
    x->http10 = facts->http10;
    x->keep = llhttp_should_keep_alive(&c->h1.parser) != 0;
}

static void begin(struct gw_conn *c, const uint8_t *head, size_t n)
{
    struct gw_h1_facts facts;
    int status = gw_h1_guard_head(head, n, &facts);
    if (status != 0) {
        gw_h1_error(c, status);
        return;
    }
    struct gw_exchange *x = gw_exchange_create(c, 0);
    if (x == NULL || base_buf_add(&x->text, head, n) < 0) {
        c->dead = true;
        return;
    }
    if (!parse_head(c, x, &facts)) {
        gw_h1_error(c, 400);
        return;
    }
    fill_request(c, x, &facts);
    const char *expect = gw_http_field(&x->request, "expect");
    if (expect != NULL && !gw_http_same(expect, "100-continue")) {
        gw_h1_error(c, 417);
        return;
    }
    c->h1.in_body = x->request.has_body;
    c->h1.chunked = facts.chunked;
    c->h1.chunks = (struct gw_h1_chunks){0};
    gw_exchange_begin(x);
    if (!x->request.has_body) {
        gw_exchange_complete(x);
    } else if (expect != NULL && !x->head_sent && !x->http10) {
        static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
        (void)base_buf_add(&c->out, go, sizeof go - 1);
    }
}

static size_t feed_body(struct gw_conn *c, const uint8_t *p, size_t n)
{
    struct gw_exchange *x = c->exchanges;
    size_t room = GW_EXCHANGE_BODY_WINDOW - x->unconsumed;
    n = n < room ? n : room;
    c->h1.mark = p;
    llhttp_errno_t e = llhttp_execute(&c->h1.parser, (const char *)p, n);
    size_t used = n;
    if (e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE) {
        used = (size_t)((const uint8_t *)llhttp_get_error_pos(&c->h1.parser) - p);
    } else if (e != HPE_OK) {
        c->h1.bad = true;
    }
    if (c->h1.chunked && !c->h1.bad && c->h1.mark < p + used) {
        size_t framing = (size_t)(p + used - c->h1.mark);
        c->h1.bad = gw_h1_guard_chunks(&c->h1.chunks, c->h1.mark, framing) != 0;
    }
    if (c->h1.bad) {
        gw_h1_error(c, 400);
        return used;
    }
    if (c->h1.complete) {
        c->h1.in_body = false;
        gw_exchange_complete(x);
    }
    return used;
}

bool gw_h1_can_read(const struct gw_conn *c)
{
    const struct gw_exchange *x = c->exchanges;
    if (c->closing) {
        return false;
    }
    if (x != NULL && (c->h1.in_body || c->h1.tunnel)) {
        return x->unconsumed < GW_EXCHANGE_BODY_WINDOW && !x->response_done;
    }
    return base_buf_size(&c->in) < GW_PIPELINE_MAX + GW_H1_HEAD_MAX;
}

/* Returns how many bytes were used; the rest has to wait or is half a head. */
static size_t feed(struct gw_conn *c, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n && !c->closing && !c->dead) {
        struct gw_exchange *x = c->exchanges;
        if (c->h1.tunnel && x != NULL) {
            size_t room = GW_EXCHANGE_BODY_WINDOW - x->unconsumed;
            size_t part = n - at < room ? n - at : room;
            if (part == 0 || x->response_done) {
                break;
            }
            gw_exchange_deliver(x, p + at, part);
            at += part;
            continue;
        }
        if (c->h1.in_body && x != NULL) {
            if (x->response_done || x->unconsumed >= GW_EXCHANGE_BODY_WINDOW) {
                break;
            }
            at += feed_body(c, p + at, n - at);
            continue;
        }
        if (x != NULL) {
            break; /* read ahead: its turn comes when this answer is out */
        }
        if (p[at] == '\r' && !c->h1.blank) { /* one empty line before a request is allowed */
            if (n - at < 2) {
                break;
            }
            c->h1.blank = true;
            at += p[at + 1] == '\n' ? 2 : 0;
            continue;
        }
        size_t len = 0;
        int status = gw_h1_guard_find(p + at, n - at, &c->h1.scan, &len);
        if (status != 0) {
            gw_h1_error(c, status);
            return n;
        }
        if (len == 0) {
            break;
        }
        c->h1.blank = false;
        begin(c, p + at, len);
        at += len;
    }
    return at;
}

static void feed_kept(struct gw_conn *c)
{
    size_t n = base_buf_size(&c->in);
    size_t used = n == 0 ? 0 : feed(c, base_buf_data(&c->in), n);
    base_buf_consume(&c->in, used);
    if (base_buf_size(&c->in) == 0) {
        base_buf_deinit(&c->in);
    }
}

void gw_h1_input(struct gw_conn *c, const uint8_t *p, size_t n)
{
    if (c->exchanges == NULL && base_buf_size(&c->in) == 0) {
        c->head_s = gw_server_now_s(c->server);
    }
    if (base_buf_size(&c->in) > 0) {
        if (base_buf_add(&c->in, p, n) < 0) {
            c->dead = true;
            return;
        }
        feed_kept(c);
        return;
    }
    size_t used = feed(c, p, n);
    if (used < n && !c->closing && base_buf_add(&c->in, p + used, n - used) < 0) {
        c->dead = true;
    }
}

void gw_h1_turn(struct gw_conn *c)
{
    while (!c->closing && !c->dead) {
        struct gw_exchange *x = c->exchanges;
        if (x != NULL && x->response_done) {
            bool end = !x->keep || !x->request_done || gw_server_draining(c->server);
            gw_exchange_free(x);
            c->h1.in_body = false;
            c->idle_s = c->head_s = gw_server_now_s(c->server);
            if (end) {
                c->closing = true;
                return;
            }
        }
        size_t before = base_buf_size(&c->in);
        if (before == 0) {
            return;
        }
        feed_kept(c);
        if (base_buf_size(&c->in) == before) {
            return;
        }
    }
}

/* ---- answers ---- */

void gw_h1_error(struct gw_conn *c, int status)
{
    gw_server_counters(c->server)->bad++;
    gw_server_mark(c);
    c->closing = true;
    if (c->exchanges != NULL && c->exchanges->head_sent) {
        return; /* in the middle of another answer nothing more can be said */
    }
    char body[160];
    const char *reason = gw_http_reason(status);
    int n = snprintf(body, sizeof body,
        "{\"error\":{\"code\":\"%s\",\"message\":\"The request is not well-formed HTTP.\"}}",
        status == 408 ? "RequestTimeout" : "BadRequest");
    (void)base_buf_printf(&c->out,
        "HTTP/1.1 %d %s\r\ndate: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        "connection: close\r\n\r\n%s",
        status, reason, gw_server_date(c->server), n, body);
}

enum { HEAD_ROOM = 4096 }; /* most heads with their bodies fit */

static int add_fields(struct base_buf *out, const struct gw_field *f, int n)
{
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        rc = base_buf_add(out, f[i].name, strlen(f[i].name));
        rc = rc < 0 ? rc : base_buf_add(out, ": ", 2);
        rc = rc < 0 ? rc : base_buf_add(out, f[i].value, strlen(f[i].value));
        rc = rc < 0 ? rc : base_buf_add(out, "\r\n", 2);
    }
    return rc;
}

void gw_h1_respond(
    struct gw_exchange *x, int status, const struct gw_field *f, int n, int64_t length)
{
    struct base_buf *out = &x->conn->out;
    bool bodiless = status == 204 || status == 304;
    if (!x->request_done || gw_server_draining(x->conn->server)) {
        x->keep = false; /* what is left of the body will not be read */
    }
    x->chunked = length < 0 && !x->http10 && !bodiless && x->request.method != GW_METHOD_HEAD;
    if (length < 0 && x->http10) {
        x->keep = false; /* the end of the connection ends the answer */
    }
    int rc = base_buf_room(out, HEAD_ROOM) == NULL ? BASE_ENOMEM : 0;
    rc = rc < 0 ? rc
                : base_buf_printf(out, "HTTP/1.1 %d %s\r\ndate: %s\r\n", status,
                      gw_http_reason(status), gw_server_date(x->conn->server));
    rc = rc < 0 ? rc : add_fields(out, f, n);
    if (rc == 0 && length >= 0 && !bodiless) {
        rc = base_buf_printf(out, "content-length: %lld\r\n", (long long)length);
    } else if (rc == 0 && x->chunked) {
        rc = base_buf_printf(out, "transfer-encoding: chunked\r\n");
    }
    const char *connection = !x->keep    ? "connection: close\r\n\r\n"
                             : x->http10 ? "connection: keep-alive\r\n\r\n"
                                         : "\r\n";
    if (rc < 0 || base_buf_add(out, connection, strlen(connection)) < 0) {
        gw_exchange_abort(x);
    }
}

void gw_h1_upgrade(struct gw_exchange *x, const char *protocol, const struct gw_field *f, int n)
{
    struct base_buf *out = &x->conn->out;
    x->keep = x->chunked = false;
    x->conn->h1.tunnel = true;
    int rc =
        base_buf_printf(out, "HTTP/1.1 101 %s\r\nupgrade: %s\r\n", gw_http_reason(101), protocol);
    rc = rc < 0 ? rc : add_fields(out, f, n);
    if (rc < 0 || base_buf_printf(out, "connection: Upgrade\r\n\r\n") < 0) {
        gw_exchange_abort(x);
    }
}
