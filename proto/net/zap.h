#pragma once
#include "proto/base/err.h"

/* Answers ZeroMQ's question "may this key connect?" (ZAP 1.0) from an allow-list file, in a thread
 * of its own. Must be started before the first socket of the context is bound. */
struct proto_net_zap;

/* Property of messages: the sender's public key, z85. */
#define PROTO_NET_ZAP_KEY "Public-Key"

/* context: of zmq_ctx_new(). Fails when the allow-list cannot be read. */
int proto_net_zap_create(
    struct proto_net_zap **ret, void *context, const char *clients, struct base_error *err);

/* Call after zmq_ctx_shutdown(), which ends the thread, and before zmq_ctx_term(). Accepts NULL. */
void proto_net_zap_destroy(struct proto_net_zap *zap);
