#include "tests/lib/echo_worker.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "proto/net/curve.h"

/* usage: echo_worker [--ctl E] [--bulk E] [--key FILE --clients FILE] [--hold] --pool
 * NAME:TYPE:MAX[:mcp|:extended]
 * ... Prints the two endpoints on one line when it listens. SIGTERM ends it. --hold: requests
 * that need a new session wait for SIGUSR1, "holding" is printed for each. */

static const char manifest[] =
    "{\"python_version\":\"3.11.2\",\"node_version\":\"18.19.0\",\"ipython_version\":\"8.5.0\","
    "\"python_packages\":[{\"name\":\"numpy\",\"version\":\"1.24.2\"}]}";

void echo_send(struct echo_exchange *x, enum proto_envelope_type type, uint32_t seq,
    const void *body, size_t n)
{
    struct proto_envelope env = {.type = type, .corr = x->corr, .view = 1, .seq = seq};
    (void)proto_net_send(x->echo->sockets[x->class], &x->peer, &env, body, n);
}

void echo_reply(struct echo_exchange *x, enum proto_envelope_type type, Warren__Reply *r)
{
    struct base_buf b = {0};
    r->view = 1;
    uint8_t *p = base_buf_room(&b, warren__reply__get_packed_size(r) + 1);
    base_buf_grow(&b, warren__reply__pack(r, p));
    echo_send(x, type, 0, base_buf_data(&b), base_buf_size(&b));
    base_buf_deinit(&b);
}

void echo_end(struct echo_exchange *x, Warren__Status status, const char *code, const char *text)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    r.status = status;
    r.code = (char *)(uintptr_t)code;
    r.text = (char *)(uintptr_t)text;
    r.retry_after_ms = status == WARREN__STATUS__STATUS_FULL ? 1500 : 0;
    echo_reply(x, PROTO_ENVELOPE_END, &r);
    x->dead = true;
}

void echo_fill_session(const struct echo_session *s, Warren__Session *ret)
{
    warren__session__init(ret);
    ret->identifier.data = (uint8_t *)(uintptr_t)s->id.text;
    ret->identifier.len = s->id.len;
    ret->generation = s->generation;
    ret->isolation = (char *)(uintptr_t) "tcg";
    ret->created_ns = s->created_ns;
    ret->last_access_ns = s->last_ns;
    ret->expires_ns = s->last_ns + 300 * BASE_NS_PER_S;
    ret->new_allocation = s->fresh;
    ret->recreated = (char *)(uintptr_t)(s->recreated ? "deleted" : "");
    ret->allocation_us = s->fresh ? 1000 : 0;
    ret->vm_id.data = (uint8_t *)(uintptr_t)s->vm_id;
    ret->vm_id.len = sizeof s->vm_id;
}

/* ---- sessions ---- */

static struct echo_pool *find_pool(struct echo *e, const char *name)
{
    for (int i = 0; i < e->pools_n; i++) {
        if (strcmp(e->pools[i].name, name) == 0) {
            return &e->pools[i];
        }
    }
    return NULL;
}

static struct echo_session **find_session(
    struct echo *e, const struct echo_pool *pool, const ProtobufCBinaryData *id)
{
    struct echo_session **p = &e->sessions;
    while (*p != NULL && ((*p)->pool != pool || (*p)->id.len != id->len ||
                             memcmp((*p)->id.text, id->data, id->len) != 0)) {
        p = &(*p)->next;
    }
    return p;
}

static bool over_quota(const struct echo *e, const ProtobufCBinaryData *tenant)
{
    unsigned n = 0;
    for (struct echo_session *s = e->sessions; s != NULL; s = s->next) {
        n +=
            base_buf_size(&s->tenant) == tenant->len &&
            (tenant->len == 0 || memcmp(base_buf_data(&s->tenant), tenant->data, tenant->len) == 0);
    }
    return e->tenant_sessions > 0 && n >= e->tenant_sessions;
}

static struct echo_session *make_session(
    struct echo *e, struct echo_pool *pool, const ProtobufCBinaryData *id)
{
    struct echo_session *s = calloc(1, sizeof *s);
    if (s == NULL || proto_identifier_set(&s->id, id->data, id->len) != PROTO_IDENTIFIER_OK) {
        free(s);
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(e->ended); i++) {
        s->recreated |=
            e->ended[i].len == s->id.len && memcmp(e->ended[i].text, s->id.text, s->id.len) == 0;
    }
    s->pool = pool;
    s->generation = ++e->generation;
    s->created_ns = s->last_ns = base_clock_real_ns();
    base_rand_bytes(s->vm_id, sizeof s->vm_id);
    s->next = e->sessions;
    e->sessions = s;
    pool->sessions++;
    return s;
}

/* NULL: the exchange has been answered. */
static struct echo_session *take_session(
    struct echo_exchange *x, struct echo_pool *pool, const Warren__Request *r)
{
    struct echo_session *s = *find_session(x->echo, pool, &r->key->identifier);
    if (r->expect_generation != 0 && (s == NULL || s->generation != r->expect_generation)) {
        echo_end(x, WARREN__STATUS__STATUS_LOST, "SessionLost", "another generation");
        return NULL;
    }
    if (s == NULL && r->no_allocate) {
        echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "session", "no such session");
        return NULL;
    }
    if (s == NULL && pool->sessions == pool->sessions_max) {
        echo_end(x, WARREN__STATUS__STATUS_FULL, "PoolFull", "all sessions are in use");
        return NULL;
    }
    if (s == NULL && over_quota(x->echo, &r->tenant)) {
        echo_end(x, WARREN__STATUS__STATUS_FULL, "QuotaExceeded", "the tenant has its sessions");
        return NULL;
    }
    bool fresh = s == NULL;
    s = fresh ? make_session(x->echo, pool, &r->key->identifier) : s;
    if (s == NULL) {
        echo_end(x, WARREN__STATUS__STATUS_INVALID, "", "bad identifier");
        return NULL;
    }
    if (fresh) {
        (void)base_buf_add(&s->tenant, r->tenant.data, r->tenant.len);
    }
    s->fresh = fresh;
    s->last_ns = base_clock_real_ns();
    return s;
}

static void end_executions(
    struct echo_exchange *x, const struct echo_session *s, struct echo_exec **list)
{
    for (struct echo_exec **q = list; *q != NULL;) {
        struct echo_exec *e = *q;
        if (e->session == s) {
            *q = e->next;
            for (struct echo_exchange *y = x->echo->exchanges; y != NULL; y = y->next) {
                if (y->exec == e && !y->dead) {
                    echo_end(y, WARREN__STATUS__STATUS_LOST, "SessionLost", "deleted");
                }
            }
            echo_exec_free(e);
        } else {
            q = &e->next;
        }
    }
}

static void end_session(struct echo_exchange *x, struct echo_session **p)
{
    struct echo_session *s = *p;
    *p = s->next;
    s->pool->sessions--;
    x->echo->ended[x->echo->ended_n++ % ARRAY_LEN(x->echo->ended)] = s->id;
    for (int i = 0; i < ECHO_EXEC_LISTS; i++) {
        end_executions(x, s, &x->echo->execs[i]);
    }
    for (struct echo_exchange *y = x->echo->exchanges; y != NULL; y = y->next) {
        if (y->session == s && !y->dead && y != x) {
            echo_end(y, WARREN__STATUS__STATUS_LOST, "SessionLost", "deleted");
        }
    }
    echo_files_clear(s);
    base_buf_deinit(&s->tenant);
    free(s);
}

static void list_sessions(
    struct echo_exchange *x, const struct echo_pool *pool, const Warren__SessionList *q)
{
    enum { MAX = 300 };
    Warren__Session all[MAX], *list[MAX];
    Warren__Reply r = WARREN__REPLY__INIT;
    uint32_t limit = q->limit == 0 || q->limit > MAX ? MAX : q->limit;
    for (struct echo_session *s = x->echo->sessions; s != NULL; s = s->next) {
        if (s->pool == pool && r.total++ >= q->skip && r.n_sessions < limit) {
            echo_fill_session(s, &all[r.n_sessions]);
            list[r.n_sessions] = &all[r.n_sessions];
            r.n_sessions++;
        }
    }
    r.status = WARREN__STATUS__STATUS_OK;
    r.sessions = list;
    echo_reply(x, PROTO_ENVELOPE_END, &r);
    x->dead = true;
}

static void describe_pool(struct echo_exchange *x, struct echo_pool *pool)
{
    Warren__PoolInfo p = WARREN__POOL_INFO__INIT;
    Warren__Reply r = WARREN__REPLY__INIT;
    p.name = pool->name;
    p.container_type = pool->type;
    p.sessions_max = pool->sessions_max;
    p.active = pool->sessions;
    p.mcp_enabled = pool->mcp;
    p.mcp_extended = pool->mcp_extended;
    p.image_manifest = (char *)(uintptr_t)manifest;
    p.created_ns = base_clock_real_ns();
    r.status = WARREN__STATUS__STATUS_OK;
    r.pool = &p;
    echo_reply(x, PROTO_ENVELOPE_END, &r);
    x->dead = true;
}

static void get_or_delete(
    struct echo_exchange *x, const struct echo_pool *pool, const Warren__Request *r)
{
    struct echo_session **p = find_session(x->echo, pool, &r->key->identifier);
    if (*p == NULL) {
        echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "session", "no such session");
        return;
    }
    if (r->op_case == WARREN__REQUEST__OP_SESSION_DELETE) {
        end_session(x, p);
        echo_end(x, WARREN__STATUS__STATUS_OK, "", "");
        return;
    }
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    reply.status = WARREN__STATUS__STATUS_OK;
    echo_fill_session(*p, &session);
    reply.session = &session;
    echo_reply(x, PROTO_ENVELOPE_END, &reply);
    x->dead = true;
}

/* ---- messages ---- */

static void operate(struct echo_exchange *x, Warren__Request *r)
{
    struct echo_pool *pool = r->key == NULL ? NULL : find_pool(x->echo, r->key->pool);
    x->op = r->op_case;
    if (pool == NULL) {
        echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "pool", "no such pool");
    } else if (r->op_case == WARREN__REQUEST__OP_POOL_GET) {
        describe_pool(x, pool);
    } else if (r->op_case == WARREN__REQUEST__OP_SESSION_LIST) {
        list_sessions(x, pool, r->session_list);
    } else if (r->op_case == WARREN__REQUEST__OP_SESSION_GET ||
               r->op_case == WARREN__REQUEST__OP_SESSION_DELETE) {
        get_or_delete(x, pool, r);
    } else if (r->op_case == WARREN__REQUEST__OP_EXEC_ATTACH) {
        echo_exec_attach(x, r->exec_attach);
    } else if (r->op_case == WARREN__REQUEST__OP_EXEC_CANCEL) {
        echo_exec_cancel(x, r->exec_cancel);
    } else if (x->echo->hold && !r->no_allocate &&
               *find_session(x->echo, pool, &r->key->identifier) == NULL) {
        x->held = r;
        (void)printf("holding\n");
        (void)fflush(stdout);
    } else {
        struct echo_session *s = take_session(x, pool, r);
        if (s != NULL && r->op_case == WARREN__REQUEST__OP_EXEC) {
            echo_exec_run(x, s, r->exec);
        } else if (s != NULL && r->op_case == WARREN__REQUEST__OP_TERMINAL) {
            echo_terminal_start(x, s, r->terminal);
        } else if (s != NULL) {
            echo_files_request(x, s, r);
        }
    }
}

static void sweep(struct echo *e)
{
    for (struct echo_exchange **p = &e->exchanges; *p != NULL;) {
        struct echo_exchange *x = *p;
        if (x->dead) {
            *p = x->next;
            ev_timer_stop(e->loop, &x->timer);
            base_buf_deinit(&x->data);
            warren__request__free_unpacked(x->held, NULL);
            base_buf_deinit(&x->typed);
            free(x);
        } else {
            p = &x->next;
        }
    }
}

static void on_request(
    struct echo *e, enum proto_net_class class, const struct proto_net_message *m)
{
    Warren__Request *r = warren__request__unpack(NULL, m->body_bytes, m->body);
    struct echo_exchange *x = calloc(1, sizeof *x);
    if (r == NULL || x == NULL) {
        free(x);
        return;
    }
    x->echo = e;
    x->class = class;
    x->peer = m->peer;
    x->corr = m->env.corr;
    x->next = e->exchanges;
    e->exchanges = x;
    operate(x, r);
    if (x->held == NULL) {
        warren__request__free_unpacked(r, NULL);
    }
}

static void on_credit(struct echo_exchange *x, uint32_t n)
{
    if (x->exec != NULL) {
        x->window += n;
        echo_exec_flush(x);
    } else if (x->op == WARREN__REQUEST__OP_FILE_GET) {
        x->credit += n;
        echo_files_flush(x);
    } else if (x->op == WARREN__REQUEST__OP_TERMINAL) {
        x->credit += n;
        echo_terminal_flush(x);
    }
}

static void on_any(struct echo *e, enum proto_net_class class, const struct proto_net_message *m)
{
    if (m->env.type == PROTO_ENVELOPE_REQ) {
        on_request(e, class, m);
    } else if (m->env.type == PROTO_ENVELOPE_PING) {
        struct proto_envelope pong = {.type = PROTO_ENVELOPE_PONG, .corr = m->env.corr, .view = 1};
        (void)proto_net_send(e->sockets[class], &m->peer, &pong, NULL, 0);
    }
    for (struct echo_exchange *x = e->exchanges; x != NULL; x = x->next) {
        if (x->dead || x->corr != m->env.corr || x->class != class) {
            continue;
        }
        if (m->env.type == PROTO_ENVELOPE_CREDIT) {
            on_credit(x, m->env.seq);
        } else if (m->env.type == PROTO_ENVELOPE_CHUNK && x->op == WARREN__REQUEST__OP_TERMINAL) {
            echo_terminal_chunk(x, m);
        } else if (m->env.type == PROTO_ENVELOPE_CHUNK) {
            echo_files_chunk(x, m);
        } else if (m->env.type == PROTO_ENVELOPE_RESET) {
            x->dead = true;
        }
    }
    sweep(e);
}

static void on_ctl(void *owner, const struct proto_net_message *m)
{
    on_any(owner, PROTO_NET_CTL, m);
}

static void on_bulk(void *owner, const struct proto_net_message *m)
{
    on_any(owner, PROTO_NET_BULK, m);
}

/* ---- life ---- */

static void add_pool(struct echo *e, const char *text)
{
    struct echo_pool *p = &e->pools[e->pools_n];
    if (e->pools_n == ECHO_POOLS_MAX ||
        sscanf(text, "%63[^:]:%31[^:]:%u", p->name, p->type, &p->sessions_max) != 3) {
        (void)fprintf(stderr, "bad pool '%s'\n", text);
        exit(2);
    }
    size_t n = strlen(text);
    p->mcp_extended = n > 9 && strcmp(text + n - 9, ":extended") == 0;
    p->mcp = p->mcp_extended || (n > 4 && strcmp(text + n - 4, ":mcp") == 0);
    e->pools_n++;
}

static void on_term(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static void on_release(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)loop;
    (void)revents;
    struct echo *e = w->data;
    e->hold = false;
    for (struct echo_exchange *x = e->exchanges; x != NULL; x = x->next) {
        if (x->held != NULL && !x->dead) {
            operate(x, x->held);
        }
    }
    sweep(e);
}

static void listen_on(
    struct echo *e, const char *const endpoints[2], const struct proto_net_key *key)
{
    static const struct proto_net_ops ops[2] = {{.on_message = on_ctl}, {.on_message = on_bulk}};
    struct base_error err;
    for (int class = 0; class < 2; class ++) {
        struct proto_net_options opt = {.class = (enum proto_net_class) class,
            .endpoint = endpoints[class],
            .self = key,
            .ops = &ops[class],
            .owner = e};
        if (proto_net_bind(e->net, &opt, &e->sockets[class], &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    (void)printf("%s %s\n", proto_net_endpoint(e->sockets[0]), proto_net_endpoint(e->sockets[1]));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"ctl", required_argument, NULL, 'c'},
        {"bulk", required_argument, NULL, 'b'}, {"key", required_argument, NULL, 'k'},
        {"clients", required_argument, NULL, 'l'}, {"pool", required_argument, NULL, 'p'},
        {"hold", no_argument, NULL, 'h'}, {"tenant-sessions", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0}};
    struct echo e = {.loop = ev_default_loop(EVBACKEND_EPOLL)};
    const char *endpoints[2] = {"tcp://127.0.0.1:*", "tcp://127.0.0.1:*"};
    const char *key_file = NULL, *clients = NULL;
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (o == 'c' || o == 'b') {
            endpoints[o == 'b'] = optarg;
        } else if (o == 'k') {
            key_file = optarg;
        } else if (o == 'l') {
            clients = optarg;
        } else if (o == 'p') {
            add_pool(&e, optarg);
        } else if (o == 'h') {
            e.hold = true;
        } else if (o == 't') {
            e.tenant_sessions = (unsigned)strtoul(optarg, NULL, 10);
        } else {
            return 2;
        }
    }
    struct proto_net_key key;
    struct base_error err;
    if (proto_net_create(&e.net, e.loop, clients, &err) < 0 ||
        (key_file != NULL && proto_net_key_read(key_file, &key, &err) < 0)) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    ev_signal term, release;
    ev_signal_init(&term, on_term, SIGTERM);
    ev_signal_start(e.loop, &term);
    ev_signal_init(&release, on_release, SIGUSR1);
    release.data = &e;
    ev_signal_start(e.loop, &release);
    listen_on(&e, endpoints, key_file == NULL ? NULL : &key); /* tells that it is up */
    ev_run(e.loop, 0);
    while (e.sessions != NULL) {
        struct echo_exchange nobody = {.echo = &e};
        end_session(&nobody, &e.sessions);
    }
    for (struct echo_exchange *x = e.exchanges; x != NULL; x = x->next) {
        x->dead = true;
    }
    sweep(&e);
    proto_net_destroy(e.net);
    return 0;
}
