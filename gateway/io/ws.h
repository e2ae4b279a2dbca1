#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The server's side of a WebSocket (RFC 6455) after its handshake: bytes in, messages out, and
 * back. No descriptor, no clock; libwslay has the framing. Pings are answered and a close is
 * returned by itself. */
struct gw_ws;

enum { GW_WS_TEXT_MAX = 512, GW_WS_KEY_CHARS = 24, GW_WS_ACCEPT_MAX = 32 };

enum gw_ws_close { /* RFC 6455, section 7.4.1 */
    GW_WS_NORMAL = 1000,
    GW_WS_AWAY = 1001,
    GW_WS_UNSUPPORTED = 1003,
    GW_WS_INVALID = 1007,
    GW_WS_POLICY = 1008,
    GW_WS_TOO_BIG = 1009,
    GW_WS_FAILED = 1011,
};

struct gw_ws_ops {
    void (*send)(void *owner, const uint8_t *data, size_t n);   /* all of it is taken */
    void (*binary)(void *owner, const uint8_t *data, size_t n); /* a part of a message */
    void (*text)(void *owner, const char *text, size_t n);      /* a whole message, UTF-8 */
};

/* NULL: out of memory. ops must outlive it. */
struct gw_ws *gw_ws_create(const struct gw_ws_ops *ops, void *owner);
void gw_ws_destroy(struct gw_ws *ws); /* accepts NULL; not from its callbacks */

/* Takes all bytes. */
void gw_ws_input(struct gw_ws *ws, const uint8_t *data, size_t n);

/* Nothing is sent after a close. */
void gw_ws_binary(struct gw_ws *ws, const uint8_t *data, size_t n);
void gw_ws_text(struct gw_ws *ws, const char *text);
void gw_ws_ping(struct gw_ws *ws);
/* reason: UTF-8, cut where it is too long. */
void gw_ws_close(struct gw_ws *ws, enum gw_ws_close code, const char *reason);

/* A close was sent (ours, an answer, or for a broken rule): the connection is to be ended. */
bool gw_ws_over(const struct gw_ws *ws);

/* The value of sec-websocket-accept. False: key is none. */
bool gw_ws_accept(const char *key, char ret[GW_WS_ACCEPT_MAX]);
