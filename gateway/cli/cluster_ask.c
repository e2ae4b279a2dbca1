#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/cluster.h"
#include "proto/net/curve.h"
#include "proto/net/loop_zmq.h"

/* Channel of questions and answers of people, scheduler/io/mesh.h. */
enum { CHANNEL_ADMIN = 3 };

struct asking;

struct asked {
    struct asking *all;
    const struct cli_cluster_node *node;
    struct proto_net_socket *socket;
    bool done;
};

struct asking {
    struct ev_loop *loop;
    const struct cli_question *question;
    json_t *answers;
    unsigned open;
    struct asked *asked;
};

static void finish(struct asked *a)
{
    if (!a->done) {
        a->done = true;
        if (--a->all->open == 0) {
            ev_break(a->all->loop, EVBREAK_ALL);
        }
    }
}

static void on_state(void *owner, enum proto_net_state state)
{
    struct asked *a = owner;
    struct proto_envelope e = {.type = PROTO_ENVELOPE_NODE, .stream = CHANNEL_ADMIN};
    if (state == PROTO_NET_UP && !a->done) {
        (void)proto_net_send(
            a->socket, NULL, &e, a->all->question->text, strlen(a->all->question->text));
    } else if (state == PROTO_NET_REFUSED) {
        finish(a);
    }
}

static void on_message(void *owner, const struct proto_net_message *m)
{
    struct asked *a = owner;
    if (a->done || m->fault != 0 || m->env.type != PROTO_ENVELOPE_NODE ||
        m->env.stream != CHANNEL_ADMIN) {
        return;
    }
    json_t *doc = json_loadb((const char *)m->body, m->body_bytes, 0, NULL);
    const char *id = json_string_value(json_object_get(doc, "id")), *want = a->all->question->id;
    if (want != NULL && (id == NULL || strcmp(id, want) != 0)) {
        json_decref(doc);
        return;
    }
    if (json_is_object(doc)) {
        (void)json_object_set_new(doc, "asked", json_string(a->node->name));
        (void)json_array_append(a->all->answers, doc);
    }
    json_decref(doc);
    finish(a);
}

static const struct proto_net_ops ops = {.on_message = on_message, .on_state = on_state};

static void on_late(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

/* The key that the roster has for a node; false: none. */
static bool key_of(const struct proto_net_client *list, int n, const char *name, char key[])
{
    for (int i = 0; i < n; i++) {
        if (strcmp(list[i].name, name) == 0) {
            memcpy(key, list[i].public_z85, PROTO_NET_Z85_MAX);
            return true;
        }
    }
    return false;
}

static bool meant(const struct cli_question *q, const struct cli_cluster_node *node)
{
    return strcmp(node->role, q->role) == 0 &&
           (q->name == NULL || strcmp(node->name, q->name) == 0);
}

static int connect_all(
    struct asking *all, const struct cli_cluster *c, struct proto_net *net, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    struct proto_net_key self;
    struct proto_net_client *list = NULL;
    int n = 0;
    int rc = cli_file_path(path, c->dir, "admin.curve", err);
    rc = rc != 0 ? rc : proto_net_key_read(path, &self, err);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "roster", err);
    rc = rc != 0 ? rc : proto_net_clients_read(path, &list, &n, err);
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        char endpoint[CLI_CLUSTER_ADDRESS_MAX + 8], key[PROTO_NET_Z85_MAX];
        if (!meant(all->question, &c->nodes[i]) || !key_of(list, n, c->nodes[i].name, key)) {
            continue;
        }
        (void)snprintf(endpoint, sizeof endpoint, "tcp://%s", c->nodes[i].address);
        struct asked *a = &all->asked[i];
        *a = (struct asked){.all = all, .node = &c->nodes[i]};
        struct proto_net_options o = {.class = PROTO_NET_NODE,
            .endpoint = endpoint,
            .self = &self,
            .server_key = key,
            .ops = &ops,
            .owner = a};
        rc = proto_net_connect(net, &o, &a->socket, err);
        all->open += rc == 0;
    }
    free(list);
    explicit_bzero(&self, sizeof self);
    return rc;
}

int cli_cluster_ask(
    const struct cli_cluster *c, const struct cli_question *q, json_t **ret, struct base_error *err)
{
    struct asking all = {.loop = ev_loop_new(EVBACKEND_EPOLL),
        .question = q,
        .answers = json_array(),
        .asked = calloc(c->n + 1, sizeof *all.asked)};
    struct proto_net *net = NULL;
    int rc = all.loop == NULL || all.asked == NULL || all.answers == NULL
                 ? base_fail(err, BASE_ENOMEM, "out of memory")
                 : proto_net_create(&net, all.loop, NULL, err);
    rc = rc != 0 ? rc : connect_all(&all, c, net, err);
    if (rc == 0 && all.open > 0) {
        ev_timer late;
        ev_timer_init(&late, on_late, q->timeout_s, 0.);
        ev_timer_start(all.loop, &late);
        ev_run(all.loop, 0);
        ev_timer_stop(all.loop, &late);
    }
    proto_net_destroy(net);
    if (all.loop != NULL) {
        ev_loop_destroy(all.loop);
    }
    free(all.asked);
    if (rc != 0) {
        json_decref(all.answers);
        return rc;
    }
    *ret = all.answers;
    return 0;
}
