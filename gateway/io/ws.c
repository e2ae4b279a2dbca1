#include "gateway/io/ws.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "proto/base/text.h"

enum { MESSAGE_BYTES_MAX = 1 << 20, KEY_BYTES = 16, SHA1_BYTES = 20, REASON_MAX = 120 };

struct gw_ws {
    const struct gw_ws_ops *ops;
    void *owner;
    wslay_event_context_ptr ctx;
    const uint8_t *in; /* during gw_ws_input() */
    size_t in_n;
    uint8_t opcode; /* of the message that is coming */
    bool control;   /* a control frame is: wslay deals with it */
    bool refused;   /* nothing more is handed out */
    char text[GW_WS_TEXT_MAX];
    size_t text_n;
};

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *to, size_t n, int flags, void *user)
{
    struct gw_ws *ws = user;
    (void)flags;
    n = n < ws->in_n ? n : ws->in_n;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(to, ws->in, n);
    ws->in += n;
    ws->in_n -= n;
    return (ssize_t)n;
}

static ssize_t on_send(
    wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags, void *user)
{
    struct gw_ws *ws = user;
    (void)ctx;
    (void)flags;
    ws->ops->send(ws->owner, data, n);
    return (ssize_t)n;
}

static void on_frame(
    wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *f, void *user)
{
    struct gw_ws *ws = user;
    (void)ctx;
    ws->control = wslay_is_ctrl_frame(f->opcode);
    if (!ws->control && f->opcode != WSLAY_CONTINUATION_FRAME) {
        ws->opcode = f->opcode;
        ws->text_n = 0;
    }
}

static void refuse(struct gw_ws *ws, enum gw_ws_close code, const char *reason)
{
    ws->refused = true;
    gw_ws_close(ws, code, reason);
}

static void on_chunk(
    wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_chunk_arg *c, void *user)
{
    struct gw_ws *ws = user;
    (void)ctx;
    if (ws->control || ws->refused) {
        return;
    }
    if (ws->opcode == WSLAY_BINARY_FRAME) {
        ws->ops->binary(ws->owner, c->data, c->data_length);
    } else if (ws->text_n + c->data_length > sizeof ws->text) {
        refuse(ws, GW_WS_TOO_BIG, "a text message is too long");
    } else {
        memcpy(ws->text + ws->text_n, c->data, c->data_length);
        ws->text_n += c->data_length;
    }
}

static void on_message(
    wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *user)
{
    struct gw_ws *ws = user;
    (void)ctx;
    if (m->opcode == WSLAY_TEXT_FRAME && !ws->refused) {
        ws->ops->text(ws->owner, ws->text, ws->text_n);
    }
}

struct gw_ws *gw_ws_create(const struct gw_ws_ops *ops, void *owner)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
        .send_callback = on_send,
        .on_frame_recv_start_callback = on_frame,
        .on_frame_recv_chunk_callback = on_chunk,
        .on_msg_recv_callback = on_message};
    struct gw_ws *ws = calloc(1, sizeof *ws);
    if (ws == NULL || wslay_event_context_server_init(&ws->ctx, &callbacks, ws) != 0) {
        free(ws);
        return NULL;
    }
    ws->ops = ops;
    ws->owner = owner;
    wslay_event_config_set_no_buffering(ws->ctx, 1);
    wslay_event_config_set_max_recv_msg_length(ws->ctx, MESSAGE_BYTES_MAX);
    return ws;
}

void gw_ws_destroy(struct gw_ws *ws)
{
    if (ws != NULL) {
        wslay_event_context_free(ws->ctx);
        free(ws);
    }
}

void gw_ws_input(struct gw_ws *ws, const uint8_t *data, size_t n)
{
    ws->in = data;
    ws->in_n = n;
    if (wslay_event_want_read(ws->ctx) && wslay_event_recv(ws->ctx) != 0) {
        refuse(ws, GW_WS_FAILED, "");
    }
    ws->in = NULL;
    ws->in_n = 0;
    (void)wslay_event_send(ws->ctx);
}

static void queue(struct gw_ws *ws, uint8_t opcode, const void *data, size_t n)
{
    struct wslay_event_msg m = {opcode, data, n};
    if (wslay_event_queue_msg(ws->ctx, &m) == WSLAY_ERR_NOMEM) {
        gw_ws_close(ws, GW_WS_FAILED, "out of memory"); /* a hole in the stream would be a lie */
    }
    (void)wslay_event_send(ws->ctx);
}

void gw_ws_binary(struct gw_ws *ws, const uint8_t *data, size_t n)
{
    queue(ws, WSLAY_BINARY_FRAME, data, n);
}

void gw_ws_text(struct gw_ws *ws, const char *text)
{
    queue(ws, WSLAY_TEXT_FRAME, text, strlen(text));
}

void gw_ws_ping(struct gw_ws *ws)
{
    queue(ws, WSLAY_PING, "", 0);
}

void gw_ws_close(struct gw_ws *ws, enum gw_ws_close code, const char *reason)
{
    size_t n = strnlen(reason, REASON_MAX);
    while (n > 0 && !base_text_utf8(reason, n)) { /* not inside of a character */
        n--;
    }
    (void)wslay_event_queue_close(ws->ctx, (uint16_t)code, (const uint8_t *)reason, n);
    (void)wslay_event_send(ws->ctx);
}

bool gw_ws_over(const struct gw_ws *ws)
{
    return wslay_event_get_close_sent(ws->ctx) != 0;
}

bool gw_ws_accept(const char *key, char ret[GW_WS_ACCEPT_MAX])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t raw[KEY_BYTES + 2], digest[SHA1_BYTES];
    char both[GW_WS_KEY_CHARS + sizeof guid];
    if (strlen(key) != GW_WS_KEY_CHARS || strcmp(key + GW_WS_KEY_CHARS - 2, "==") != 0 ||
        EVP_DecodeBlock(raw, (const uint8_t *)key, GW_WS_KEY_CHARS) != sizeof raw) {
        return false;
    }
    memcpy(both, key, GW_WS_KEY_CHARS);
    memcpy(both + GW_WS_KEY_CHARS, guid, sizeof guid);
    if (EVP_Digest(both, sizeof both - 1, digest, NULL, EVP_sha1(), NULL) != 1) {
        return false;
    }
    (void)EVP_EncodeBlock((uint8_t *)ret, digest, sizeof digest);
    return true;
}
