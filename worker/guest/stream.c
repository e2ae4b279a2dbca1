#include "worker/guest/stream.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"

enum {
    CREDIT_STEP = PROTO_FRAME_STREAM_WINDOW / 4,
    RST_TEXT_MAX = 400,
};

void agent_streams_init(struct agent_streams *t, struct agent_port *p)
{
    *t = (struct agent_streams){.port = p};
}

void agent_stream_refuse(struct agent_port *p, uint32_t id, int code, const char *text)
{
    uint8_t raw[4 + RST_TEXT_MAX];
    size_t n = strnlen(text, RST_TEXT_MAX);
    proto_frame_put_u32(raw, (uint32_t)code);
    memcpy(raw + 4, text, n);
    agent_port_send(p, PROTO_FRAME_RST, id, raw, 4 + n);
}

static void drop(struct agent_stream *s)
{
    void (*gone)(struct agent_stream *) = s->ops == NULL ? NULL : s->ops->gone;
    if (gone != NULL) {
        gone(s);
    }
    *s = (struct agent_stream){0};
}

struct agent_stream *agent_streams_open(struct agent_streams *t, uint32_t id)
{
    if (id <= t->last) {
        agent_stream_refuse(t->port, id, BASE_EBADMSG, "stream numbers must grow");
        return NULL;
    }
    t->last = id;
    for (int i = 0; i < PROTO_GUEST_STREAMS_MAX; i++) {
        struct agent_stream *s = &t->slot[i];
        if (s->id == 0) {
            *s = (struct agent_stream){.id = id,
                .port = t->port,
                .rx_left = PROTO_FRAME_STREAM_WINDOW,
                .tx_left = PROTO_FRAME_STREAM_WINDOW};
            t->used_end = i >= t->used_end ? i + 1 : t->used_end;
            return s;
        }
    }
    agent_stream_refuse(t->port, id, BASE_EFULL, "too many streams are open");
    return NULL;
}

static void on_data(struct agent_stream *s, const struct proto_frame *f)
{
    if (s->ops->data == NULL || s->fin_in || f->len > s->rx_left) {
        agent_stream_reset(s, BASE_EBADMSG, "data that was not asked for");
        return;
    }
    s->rx_left -= f->len;
    uint32_t id = s->id;
    bool paced = s->ops->paced;
    s->ops->data(s, f->payload, f->len);
    if (s->id == id && !paced) {
        agent_stream_consumed(s, f->len);
    }
}

void agent_stream_consumed(struct agent_stream *s, size_t n)
{
    s->rx_consumed += (uint32_t)n;
    if (s->rx_consumed >= CREDIT_STEP) {
        uint8_t raw[4];
        proto_frame_put_u32(raw, s->rx_consumed);
        agent_port_send(s->port, PROTO_FRAME_CREDIT, s->id, raw, sizeof raw);
        s->rx_left += s->rx_consumed;
        s->rx_consumed = 0;
    }
}

static void on_fin(struct agent_stream *s)
{
    if (s->fin_in) {
        return;
    }
    s->fin_in = true;
    if (s->fin_out) {
        drop(s);
    } else if (s->ops->fin != NULL) {
        s->ops->fin(s);
    }
}

static void on_credit(struct agent_stream *s, const struct proto_frame *f)
{
    uint32_t more = f->len == 4 ? proto_frame_u32(f->payload) : 0;
    if (more > PROTO_FRAME_STREAM_WINDOW - s->tx_left) {
        agent_stream_reset(s, BASE_EBADMSG, "credit for bytes that were not sent");
        return;
    }
    s->tx_left += more;
}

void agent_streams_frame(struct agent_streams *t, const struct proto_frame *f)
{
    struct agent_stream *s = NULL;
    for (int i = 0; i < t->used_end && f->stream != 0; i++) {
        if (t->slot[i].id == f->stream) {
            s = &t->slot[i];
            break;
        }
    }
    if (s == NULL || s->ops == NULL) {
        return;
    }
    if (f->type == PROTO_FRAME_DATA) {
        on_data(s, f);
    } else if (f->type == PROTO_FRAME_FIN) {
        on_fin(s);
    } else if (f->type == PROTO_FRAME_RST) {
        drop(s);
    } else if (f->type == PROTO_FRAME_CREDIT) {
        on_credit(s, f);
    }
}

void agent_streams_detached(struct agent_streams *t)
{
    for (int i = 0; i < t->used_end; i++) {
        if (t->slot[i].id != 0) {
            drop(&t->slot[i]);
        }
    }
    t->last = 0;
    t->used_end = 0;
}

bool agent_streams_pull(struct agent_streams *t)
{
    while (t->used_end > 0 && t->slot[t->used_end - 1].id == 0) {
        t->used_end--;
    }
    for (int k = 0; k < t->used_end; k++) {
        struct agent_stream *s = &t->slot[(t->turn + k) % t->used_end];
        if (s->id != 0 && s->ops != NULL && s->ops->pull != NULL && s->ops->pull(s)) {
            t->turn = (int)(s - t->slot) + 1;
            return true;
        }
    }
    return false;
}

size_t agent_stream_room(const struct agent_stream *s)
{
    return s->tx_left < PROTO_FRAME_PAYLOAD_MAX ? s->tx_left : PROTO_FRAME_PAYLOAD_MAX;
}

void agent_stream_data(struct agent_stream *s, const void *bytes, size_t n)
{
    REQUIRE(n <= agent_stream_room(s) && !s->fin_out);
    s->tx_left -= (uint32_t)n;
    agent_port_send(s->port, PROTO_FRAME_DATA, s->id, bytes, n);
}

void agent_stream_frame(
    struct agent_stream *s, enum proto_frame_type type, const void *payload, size_t n)
{
    agent_port_send(s->port, type, s->id, payload, n);
}

void agent_stream_fin(struct agent_stream *s)
{
    if (s->fin_out) {
        return;
    }
    s->fin_out = true;
    agent_port_send(s->port, PROTO_FRAME_FIN, s->id, NULL, 0);
    if (s->fin_in || s->ops == NULL || s->ops->data == NULL) {
        drop(s); /* nothing can come that matters */
    }
}

void agent_stream_end(struct agent_stream *s)
{
    s->fin_in = true;
    agent_stream_fin(s);
}

void agent_stream_reset(struct agent_stream *s, int code, const char *text)
{
    agent_stream_refuse(s->port, s->id, code, text);
    drop(s);
}
