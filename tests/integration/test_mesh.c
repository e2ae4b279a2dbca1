/* Nodes of a cluster on loopback sockets, several of them in one thread, each with a loop of its
 * own. Nothing waits for a time: loops run until a state is reached, the test's time-out is the
 * bound. */
#include <ev.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "scheduler/core/allow.h"
#include "scheduler/core/msgtype.h"
#include "scheduler/io/mesh.h"
#include "tests/lib/check.h"

static char dir[64], roster_path[96];

struct node {
    struct ev_loop *loop;
    struct proto_net *net;
    struct sched_roster *roster;
    struct sched_mesh *mesh;
    struct proto_net_key key;
    uint64_t id;
    ev_timer pulse; /* wakes the loop so that others get their turn */
    /* what came */
    uint32_t got;
    uint64_t from;
    enum sched_role role;
    enum sched_mesh_channel channel;
    char text[32];
    uint32_t others;
    uint64_t tag;
    bool echo;
};

static void on_bytes(void *user, uint64_t from, enum sched_role role,
    enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    struct node *e = user;
    e->got++;
    e->from = from;
    e->role = role;
    e->channel = channel;
    size_t keep = n < sizeof e->text - 1 ? n : sizeof e->text - 1;
    memcpy(e->text, bytes, keep);
    e->text[keep] = '\0';
    if (e->echo) {
        CHECK_EQ(sched_mesh_send(e->mesh, from, channel, bytes, n), 0);
    }
}

static void on_other(void *user, uint64_t from)
{
    struct node *e = user;
    e->others++;
    e->from = from;
}

static const struct sched_mesh_ops ops = {.on_bytes = on_bytes, .on_other = on_other};

static void on_pulse(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)w, (void)events;
}

static void begin(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/warren-test-mesh-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(roster_path, sizeof roster_path, "%s/roster", dir);
    FILE *f = fopen(roster_path, "we");
    CHECK(f != NULL && fclose(f) == 0);
}

static void end(void)
{
    CHECK_EQ(unlink(roster_path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

static void list(const char *role, const char *name, const struct proto_net_key *key)
{
    struct proto_net_client c = {0};
    (void)snprintf(c.role, sizeof c.role, "%s", role);
    (void)snprintf(c.name, sizeof c.name, "%s", name);
    memcpy(c.public_z85, key->public_z85, sizeof c.public_z85);
    CHECK_EQ(proto_net_clients_add(roster_path, &c, NULL), 0);
}

/* A roster without the lines that begin so. */
static void unlist(const char *start)
{
    char line[200], next[128];
    (void)snprintf(next, sizeof next, "%s.next", roster_path);
    FILE *from = fopen(roster_path, "re"), *to = fopen(next, "we");
    CHECK(from != NULL && to != NULL);
    while (fgets(line, sizeof line, from) != NULL) {
        if (strncmp(line, start, strlen(start)) != 0) {
            CHECK(fputs(line, to) >= 0);
        }
    }
    CHECK_EQ(fclose(from), 0);
    CHECK_EQ(fclose(to), 0);
    CHECK_EQ(rename(next, roster_path), 0);
}

static void open_at(struct node *e, const char *name, const char *endpoint, uint32_t idle_ms)
{
    struct base_error err;
    e->loop = ev_loop_new(EVBACKEND_EPOLL);
    e->id = sched_node_id(name);
    e->got = 0;
    CHECK_EQ(sched_roster_load(&e->roster, roster_path, &err), 0);
    CHECK_EQ(proto_net_create(&e->net, e->loop, roster_path, &err), 0);
    struct sched_mesh_cfg cfg = {.loop = e->loop,
        .net = e->net,
        .roster = e->roster,
        .key = &e->key,
        .self = e->id,
        .tag = e->tag,
        .endpoint = endpoint,
        .peers_max = 8,
        .idle_ms = idle_ms,
        .hold_ms = 60000,
        .ops = &ops,
        .user = e};
    CHECK_EQ(sched_mesh_create(&e->mesh, &cfg, &err), 0);
    ev_timer_init(&e->pulse, on_pulse, 0.005, 0.005);
    ev_timer_start(e->loop, &e->pulse);
}

static void open_node(struct node *e, const char *name)
{
    open_at(e, name, "tcp://127.0.0.1:*", 60000);
}

static void close_node(struct node *e)
{
    struct sched_mesh_stats s;
    sched_mesh_stats(e->mesh, &s);
    CHECK_EQ(s.late, 0);
    ev_timer_stop(e->loop, &e->pulse);
    sched_mesh_destroy(e->mesh);
    proto_net_destroy(e->net);
    sched_roster_destroy(e->roster);
    ev_loop_destroy(e->loop);
}

/* A new node with a key of its own in the roster. */
static void new_node(struct node *e, const char *role, const char *name)
{
    *e = (struct node){.got = 0};
    CHECK_EQ(proto_net_key_generate(&e->key, NULL), 0);
    if (role != NULL) {
        list(role, name, &e->key);
    }
}

static void introduce(struct node *a, const struct node *b)
{
    CHECK_EQ(sched_mesh_address(a->mesh, b->id, sched_mesh_endpoint(b->mesh)), 0);
}

static int say(struct node *from, const struct node *to, const char *text)
{
    return sched_mesh_send(from->mesh, to->id, SCHED_MESH_MSG, (const uint8_t *)text, strlen(text));
}

#define UNTIL(a, b, cond)                                                                          \
    while (!(cond)) {                                                                              \
        ev_run((a)->loop, EVRUN_ONCE);                                                             \
        ev_run((b)->loop, EVRUN_ONCE);                                                             \
    }

static struct sched_mesh_stats stats(const struct node *e)
{
    struct sched_mesh_stats s;
    sched_mesh_stats(e->mesh, &s);
    return s;
}

/* Two nodes that know where the other is. */
static void meet(struct node *a, const char *role_a, const char *name_a, struct node *b,
    const char *role_b, const char *name_b)
{
    begin();
    new_node(a, role_a, name_a);
    new_node(b, role_b, name_b);
    open_node(a, name_a);
    open_node(b, name_b);
    introduce(a, b);
}

static void part(struct node *a, struct node *b)
{
    close_node(a);
    close_node(b);
    end();
}

TEST(two_nodes_talk_over_one_connection_and_know_each_other)
{
    struct node a, b;
    begin();
    new_node(&a, "worker", "w1");
    new_node(&b, "voter", "v1");
    open_node(&a, "w1");
    open_node(&b, "v1");
    b.echo = true;
    CHECK_EQ(say(&a, &b, "lost"), BASE_ENOTFOUND); /* nobody knows where it is */
    introduce(&a, &b);
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, a.got == 1);
    CHECK_STR(a.text, "hello");
    CHECK(a.from == b.id && a.role == SCHED_ROSTER_VOTER && a.channel == SCHED_MESH_MSG);
    CHECK(b.from == a.id && b.role == SCHED_ROSTER_WORKER);
    CHECK_EQ(stats(&a).connections, 1);
    CHECK_EQ(stats(&b).connections, 0); /* the answer came back the same way */
    b.echo = false;
    for (uint32_t i = 1; i <= 5000; i++) {
        CHECK_EQ(say(&a, &b, "x"), 0);
        CHECK_EQ(say(&b, &a, "y"), 0);
        if (i % 500 == 0) {
            UNTIL(&a, &b, a.got == 1 + i && b.got == 1 + i);
        }
    }
    CHECK_EQ(stats(&a).no_address, 1);
    part(&a, &b);
}

TEST(an_unknown_key_is_refused_and_so_is_one_that_is_taken_out)
{
    struct node a, b;
    begin();
    new_node(&a, NULL, "w1");
    new_node(&b, "voter", "v1");
    open_node(&a, "w1");
    open_node(&b, "v1");
    introduce(&a, &b);
    CHECK_EQ(say(&a, &b, "let me in"), 0);
    UNTIL(&a, &b, stats(&a).refused > 0);
    CHECK_EQ(b.got, 0);
    list("worker", "w1", &a.key); /* somebody lists it: the connection tries again by itself */
    UNTIL(&a, &b, b.got == 1);
    unlist("worker w1");
    while (sched_roster_role(b.roster, a.id) != SCHED_ROSTER_NONE) {
        ev_run(b.loop, EVRUN_ONCE);
    }
    CHECK_EQ(say(&a, &b, "still here"), 0); /* its connection is from before */
    UNTIL(&a, &b, stats(&b).denied > 0);
    CHECK_EQ(b.got, 1);
    part(&a, &b);
}

TEST(a_key_of_another_role_has_no_say_between_nodes)
{
    struct node a, b;
    meet(&a, "client", "w1", &b, "voter", "v1");
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, stats(&b).denied == 1);
    CHECK_EQ(b.got, 0);
    part(&a, &b);
}

TEST(nodes_with_other_settings_do_not_hear_each_other_and_both_say_so)
{
    struct node a, b;
    begin();
    new_node(&a, "worker", "w1");
    new_node(&b, "voter", "v1");
    a.tag = 1;
    b.tag = 2;
    open_node(&a, "w1");
    open_node(&b, "v1");
    introduce(&a, &b);
    CHECK_EQ(say(&a, &b, "lease"), 0);
    UNTIL(&a, &b, a.others == 1 && b.others == 1);
    CHECK(a.from == b.id && b.from == a.id);
    CHECK(sched_mesh_send(a.mesh, b.id, SCHED_MESH_CTL, (const uint8_t *)"ping", 4) == 0);
    UNTIL(&a, &b, a.others == 2 && b.others == 2);
    CHECK(a.got == 0 && b.got == 0 && stats(&a).other == 2);
    /* Whoever asks for the state sees it all the same. */
    CHECK(sched_mesh_send(a.mesh, b.id, SCHED_MESH_ADMIN, (const uint8_t *)"status", 6) == 0);
    UNTIL(&a, &b, b.got == 1);
    part(&a, &b);
}

TEST(a_key_that_is_replaced_is_cut_off_though_its_connection_is_open)
{
    struct node a, b, next;
    meet(&a, "worker", "w1", &b, "voter", "v1");
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, b.got == 1);
    unlist("worker w1");
    new_node(&next, "worker", "w1");
    while (!sched_roster_lists(b.roster, a.id, next.key.public_z85)) {
        ev_run(b.loop, EVRUN_ONCE);
    }
    CHECK_EQ(say(&a, &b, "it is still me"), 0);
    UNTIL(&a, &b, stats(&b).denied == 1);
    CHECK_EQ(b.got, 1);
    (void)say(&b, &a, "for w1 only"); /* not by that connection */
    CHECK_EQ(say(&a, &b, "do you hear me?"), 0);
    UNTIL(&a, &b, stats(&b).denied == 2);
    CHECK_EQ(a.got, 0);
    part(&a, &b);
}

TEST(a_peer_with_a_new_key_is_found_again)
{
    struct node a, b;
    char endpoint[80];
    meet(&a, "worker", "w1", &b, "voter", "v1");
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, b.got == 1);
    (void)snprintf(endpoint, sizeof endpoint, "%s", sched_mesh_endpoint(b.mesh));
    close_node(&b);
    unlist("voter v1");
    new_node(&b, "voter", "v1");
    open_at(&b, "v1", endpoint, 60000);
    while (b.got == 0) {
        (void)say(&a, &b, "again");
        ev_run(a.loop, EVRUN_ONCE);
        ev_run(b.loop, EVRUN_ONCE);
    }
    CHECK_STR(b.text, "again");
    part(&a, &b);
}

TEST(only_who_is_in_the_roster_takes_a_place)
{
    struct node a;
    char name[8];
    begin();
    new_node(&a, "worker", "w1");
    for (unsigned i = 0; i < 9; i++) { /* one more than there are places */
        struct node peer;
        (void)snprintf(name, sizeof name, "p%u", i);
        new_node(&peer, "worker", name);
    }
    open_node(&a, "w1");
    for (uint64_t id = 1; id < 100; id++) {
        CHECK_EQ(sched_mesh_address(a.mesh, id, "tcp://127.0.0.1:1"), BASE_ENOTFOUND);
    }
    for (unsigned i = 0; i < 9; i++) {
        (void)snprintf(name, sizeof name, "p%u", i);
        CHECK_EQ(sched_mesh_address(a.mesh, sched_node_id(name), "tcp://127.0.0.1:1"),
            i < 8 ? 0 : BASE_EFULL);
    }
    unlist("worker p3");
    while (sched_roster_role(a.roster, sched_node_id("p3")) != SCHED_ROSTER_NONE) {
        ev_run(a.loop, EVRUN_ONCE);
    }
    CHECK_EQ(sched_mesh_address(a.mesh, sched_node_id("p8"), "tcp://127.0.0.1:1"), 0);
    CHECK(sched_mesh_knows(a.mesh, sched_node_id("p8")));
    CHECK(!sched_mesh_knows(a.mesh, sched_node_id("p3")));
    CHECK(sched_mesh_knows(a.mesh, sched_node_id("p2")));
    close_node(&a);
    end();
}

/* As `cp` does, with the time that it had before. */
static void write_in_place(const char *text, size_t n)
{
    struct stat st;
    CHECK_EQ(stat(roster_path, &st), 0);
    FILE *f = fopen(roster_path, "we");
    CHECK(f != NULL && fwrite(text, 1, n, f) == n && fclose(f) == 0);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    CHECK_EQ(utimensat(AT_FDCWD, roster_path, times, 0), 0);
}

TEST(half_a_roster_is_none_and_a_rewritten_one_is_seen)
{
    struct node v, w, x;
    struct sched_roster *r;
    struct base_error err;
    char text[512];
    begin();
    new_node(&w, "worker", "w1");
    new_node(&v, "voter", "v1");
    FILE *f = fopen(roster_path, "re");
    CHECK(f != NULL);
    size_t n = fread(text, 1, sizeof text, f);
    CHECK_EQ(fclose(f), 0);
    CHECK_EQ(sched_roster_load(&r, roster_path, NULL), 0);
    uint64_t needed[] = {sched_node_id("w1"), sched_node_id("v1")};
    sched_roster_require(r, needed, 2);
    CHECK_EQ(sched_roster_refresh(r, &err), 0);
    write_in_place(text, (size_t)(strchr(text, '\n') + 1 - text));
    CHECK_EQ(sched_roster_refresh(r, &err), BASE_EDENIED);
    CHECK(strstr(err.text, "'v1'") != NULL);
    CHECK_EQ(sched_roster_refresh(r, &err), 0); /* said once */
    CHECK_EQ(sched_roster_role(r, needed[1]), SCHED_ROSTER_VOTER);
    write_in_place(text, n - 10);
    CHECK_EQ(sched_roster_refresh(r, &err), BASE_EBADMSG);
    write_in_place(text, n);
    CHECK_EQ(sched_roster_refresh(r, &err), 1);
    /* The same size and time, another key. */
    CHECK_EQ(proto_net_key_generate(&x.key, NULL), 0);
    memcpy(strstr(text, w.key.public_z85), x.key.public_z85, 40);
    write_in_place(text, n);
    CHECK_EQ(sched_roster_refresh(r, &err), 1);
    CHECK(sched_roster_lists(r, needed[0], x.key.public_z85));
    CHECK(!sched_roster_lists(r, needed[0], w.key.public_z85));
    sched_roster_destroy(r);
    end();
}

TEST(who_may_say_what_is_decided_by_the_part_of_the_sender)
{
    CHECK(sched_msg_allowed(SCHED_MSG_GRANT, SCHED_PART_VOTER));
    CHECK(!sched_msg_allowed(SCHED_MSG_GRANT, SCHED_PART_WORKER));
    CHECK(!sched_msg_allowed(SCHED_MSG_VACC, SCHED_PART_WORKER | SCHED_PART_GATEWAY));
    CHECK(!sched_msg_allowed(SCHED_MSG_BIND, SCHED_PART_GATEWAY));
    CHECK(sched_msg_allowed(SCHED_MSG_VIEW, SCHED_PART_VOTER));
    CHECK(!sched_msg_allowed(SCHED_MSG_VIEW, SCHED_PART_WORKER | SCHED_PART_GATEWAY));
    CHECK(sched_msg_allowed(SCHED_MSG_OPEN, SCHED_PART_GATEWAY));
    CHECK(!sched_msg_allowed(SCHED_MSG_OPEN, SCHED_PART_VOTER));
    for (unsigned type = 0; type < 256; type++) {
        bool any = sched_msg_allowed((uint8_t)type, 7);
        CHECK_EQ(any, type > SCHED_MSG_NONE && type < SCHED_MSG_TYPES);
        CHECK(!sched_msg_allowed((uint8_t)type, 0)); /* administrators */
    }
}

TEST(a_restarted_peer_is_found_again_and_what_was_said_meanwhile_arrives)
{
    struct node a, b;
    char endpoint[80];
    meet(&a, "worker", "w1", &b, "worker", "w2");
    CHECK_EQ(say(&a, &b, "one"), 0);
    UNTIL(&a, &b, b.got == 1);
    (void)snprintf(endpoint, sizeof endpoint, "%s", sched_mesh_endpoint(b.mesh));
    close_node(&b);
    /* Until it is noticed that b is gone: then it waits for a connection. */
    for (uint64_t sent = 0; sent != stats(&a).sent || say(&a, &b, "to nobody") != 0;) {
        sent = stats(&a).sent;
        (void)say(&a, &b, "to nobody");
        ev_run(a.loop, EVRUN_ONCE);
    }
    open_at(&b, "w2", endpoint, 60000);
    UNTIL(&a, &b, b.got > 0);
    CHECK_STR(b.text, "to nobody");
    CHECK_EQ(say(&b, &a, "back"), 0); /* b was never told where a is */
    UNTIL(&a, &b, a.got == 1);
    part(&a, &b);
}

TEST(a_peer_that_does_not_read_costs_bounded_memory_and_blocks_nobody)
{
    static uint8_t block[16 << 10];
    struct node a, b, c;
    begin();
    new_node(&a, "worker", "w1");
    new_node(&b, "worker", "slow");
    new_node(&c, "worker", "w3");
    open_node(&a, "w1");
    open_node(&b, "slow");
    open_node(&c, "w3");
    introduce(&a, &b);
    introduce(&a, &c);
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, b.got == 1);
    uint32_t sent = 0;
    while (sched_mesh_send(a.mesh, b.id, SCHED_MESH_MSG, block, sizeof block) == 0) {
        ev_run(a.loop, EVRUN_NOWAIT); /* b's loop does not run */
        CHECK(++sent < 20000);
    }
    CHECK(stats(&a).full > 0);
    CHECK_EQ(say(&a, &c, "hello"), 0);
    UNTIL(&a, &c, c.got == 1);
    UNTIL(&a, &b, b.got == 1 + sent); /* nothing of what was taken is lost */
    CHECK_EQ(say(&a, &b, "again"), 0);
    UNTIL(&a, &b, b.got == 2 + sent);
    CHECK_EQ(
        sched_mesh_send(a.mesh, b.id, SCHED_MESH_MSG, block, PROTO_NODE_BYTES_MAX), BASE_ETOOBIG);
    close_node(&a);
    close_node(&b);
    close_node(&c);
    end();
}

TEST(an_idle_connection_is_closed_and_comes_back_when_there_is_something_to_say)
{
    struct node a, b;
    begin();
    new_node(&a, "worker", "w1");
    new_node(&b, "worker", "w2");
    open_at(&a, "w1", "tcp://127.0.0.1:*", 300);
    open_node(&b, "w2");
    introduce(&a, &b);
    CHECK_EQ(say(&a, &b, "one"), 0);
    UNTIL(&a, &b, b.got == 1);
    UNTIL(&a, &b, stats(&a).closed_idle == 1);
    CHECK_EQ(stats(&a).connections, 0);
    CHECK_EQ(say(&a, &b, "two"), 0);
    UNTIL(&a, &b, b.got == 2);
    CHECK_EQ(stats(&a).opened, 2);
    part(&a, &b);
}

TEST(a_key_is_replaced_while_both_are_listed)
{
    struct node a, b;
    struct proto_net_key old;
    char endpoint[80];
    begin();
    new_node(&a, "worker", "w1");
    new_node(&b, "worker", "w2");
    old = b.key;
    CHECK_EQ(proto_net_key_generate(&b.key, NULL), 0);
    list("worker", "w2", &b.key); /* the second line: a tries the old key first */
    open_node(&a, "w1");
    open_node(&b, "w2");
    (void)snprintf(endpoint, sizeof endpoint, "%s", sched_mesh_endpoint(b.mesh));
    introduce(&a, &b);
    CHECK_EQ(say(&a, &b, "hello"), 0);
    UNTIL(&a, &b, b.got == 1);
    CHECK(stats(&a).opened >= 2);
    close_node(&b);
    b.key = old; /* and back */
    open_at(&b, "w2", endpoint, 60000);
    while (b.got == 0) {
        (void)say(&a, &b, "hello");
        ev_run(a.loop, EVRUN_ONCE);
        ev_run(b.loop, EVRUN_ONCE);
    }
    part(&a, &b);
}

TEST(a_roster_with_one_name_in_two_roles_is_no_roster)
{
    struct proto_net_key key, other;
    struct sched_roster *r = NULL;
    struct base_error err;
    begin();
    CHECK_EQ(proto_net_key_generate(&key, NULL), 0);
    CHECK_EQ(proto_net_key_generate(&other, NULL), 0);
    list("worker", "w1", &key);
    list("worker", "w1", &other);
    CHECK_EQ(sched_roster_load(&r, roster_path, &err), 0);
    CHECK_EQ(sched_roster_role(r, sched_node_id("w1")), SCHED_ROSTER_WORKER);
    CHECK_STR(sched_roster_name(r, sched_node_id("w1")), "w1");
    CHECK_STR(sched_roster_key(r, sched_node_id("w1"), 1)->public_z85, other.public_z85);
    CHECK(sched_roster_key(r, sched_node_id("w1"), 2) == NULL);
    CHECK_EQ(sched_roster_role(r, 7), SCHED_ROSTER_NONE);
    CHECK_EQ(proto_net_key_generate(&other, NULL), 0);
    list("voter", "w1", &other);
    CHECK_EQ(sched_roster_refresh(r, NULL), BASE_EEXISTS); /* the old one stays */
    CHECK_EQ(sched_roster_role(r, sched_node_id("w1")), SCHED_ROSTER_WORKER);
    sched_roster_destroy(r);
    CHECK_EQ(sched_roster_load(&r, roster_path, &err), BASE_EEXISTS);
    end();
}
