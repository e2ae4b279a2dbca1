#include "scheduler/io/voter_node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "proto/net/cluster_key.h"
#include "scheduler/io/catalog_admin.h"
#include "scheduler/io/cluster.h"
#include "scheduler/io/node_db.h"
#include "scheduler/io/shell.h"
#include "scheduler/wire/wire.h"

/* Rows in node.mdb are packed messages: VTELL for promise and accepted view, VIEW for the known
 * one, QTELL for a register of permits, CTELL for the catalogue. */
enum { REFUSED_EVERY_MS = 10000 };

static const char *const key_vote = "vote", *const key_known = "known",
                         *const key_gossip = "gossip", *const key_catalog = "catalog";

enum {
    ORDER_MS = 30000,  /* an answer that nobody waits for any more */
    HOLDERS_NAMED = 3, /* to people; `status` has all */
};

struct sched_voter_node {
    struct sched_voter_node_cfg cfg;
    struct sched_cfg core_cfg;
    struct sched_voter voter;
    struct sched_fx fx;
    void *voter_mem, *fx_mem;
    struct sched_cluster *cluster;
    struct sched_node_db *db;
    ev_timer timer;
    bool failed;
    uint64_t commits;
    uint64_t told_refused_ns;
    uint8_t cluster_key[16];
    struct sched_catalog *known; /* NULL: none */
    struct sched_catalog_order *orders;
    uint8_t bytes[SCHED_NODE_DB_VALUE_MAX];
};

static void quota_key(uint32_t reg, char key[24])
{
    (void)snprintf(key, 24, "quota/%u", reg);
}

/* ---- the store ---- */

static int put_row(struct sched_voter_node *v, const struct sched_row *row)
{
    struct sched_msg m = {0};
    char quota[24];
    const char *key = NULL;
    if (row->kind == SCHED_ROW_VOTE) {
        key = key_vote;
        m.type = SCHED_MSG_VTELL;
        m.vtell = (struct sched_m_vtell){
            .promised = row->promised, .accepted = row->accepted, .view = row->view};
    } else if (row->kind == SCHED_ROW_KNOWN) {
        key = key_known;
        m.type = SCHED_MSG_VIEW;
        m.view.view = row->view;
    } else if (row->kind == SCHED_ROW_QUOTA) {
        quota_key(row->first, quota);
        key = quota;
        m.type = SCHED_MSG_QTELL;
        m.qreg = (struct sched_m_qreg){.reg = row->first,
            .version = row->version,
            .promised = row->promised,
            .accepted = row->accepted,
            .n = row->n,
            .entries = row->entries};
    } else if (row->kind == SCHED_ROW_CATALOG) {
        key = key_catalog;
        m.type = SCHED_MSG_CTELL;
        m.creg = (struct sched_m_creg){
            .promised = row->promised, .accepted = row->accepted, .doc = row->catalog};
    } else {
        return BASE_EINVAL;
    }
    int n = sched_wire_encode(&m, v->bytes, sizeof v->bytes);
    return n < 0 ? n : sched_node_db_put(v->db, key, v->bytes, (size_t)n);
}

static void fail(struct sched_voter_node *v, int rc)
{
    if (!v->failed) {
        v->failed = true;
        ev_timer_stop(v->cfg.loop, &v->timer);
        v->cfg.on_failed(v->cfg.user, base_err_str(rc));
    }
}

/* All rows of a step on the disk; nothing else of it has left. */
static bool store(struct sched_voter_node *v)
{
    bool any = false;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < v->fx.n; i++) {
        if (v->fx.items[i].kind == SCHED_FX_STORE) {
            rc = put_row(v, &v->fx.items[i].row);
            any = true;
        }
    }
    rc = rc != 0 || !any ? rc : sched_node_db_commit(v->db);
    v->commits += any;
    if (rc != 0) {
        fail(v, rc);
    }
    return rc == 0;
}

/* ---- stepping ---- */

static void tell_gossip(struct sched_voter_node *v)
{
    struct sched_dynamic d = {.view = v->voter.known.num, .flags = SCHED_DYN_SETTLED};
    sched_cluster_dynamic(v->cluster, &d);
    sched_cluster_set_version(v->cluster, sched_view_version(&v->voter.known));
}

/* A copy for who asks, when the core has learned of a newer one. */
static void know_catalog(struct sched_voter_node *v)
{
    const struct sched_catreg_doc *d = &v->voter.catalog->known;
    struct sched_catalog *fresh = NULL;
    struct sched_cat_doc doc = {d->version, d->n, d->bytes};
    if (d->version == (v->known == NULL ? 0 : sched_catalog_version(v->known))) {
        return;
    }
    if (sched_catalog_unpack(&fresh, &doc) == 0) { /* else it is tried again with the next step */
        sched_catalog_destroy(v->known);
        v->known = fresh;
        LOG_INFO(v->cfg.log, "catalogue version=%" PRIu64 " entries=%u", d->version,
            sched_catalog_n(fresh));
    }
}

static void arm(struct sched_voter_node *v)
{
    sched_shell_arm(v->cfg.loop, &v->timer, sched_voter_deadline_ns(&v->voter), 0.);
}

static void step(struct sched_voter_node *v, const struct sched_msg *m)
{
    if (v->failed) {
        return;
    }
    uint32_t known = v->voter.known.num;
    bool amnesia = v->voter.amnesia;
    sched_fx_clear(&v->fx);
    sched_voter_step(&v->voter, base_clock_boot_ns(), m, &v->fx);
    if (!store(v)) {
        return;
    }
    for (uint32_t i = 0; i < v->fx.n; i++) {
        const struct sched_fx_item *it = &v->fx.items[i];
        if (it->kind == SCHED_FX_SEND) {
            sched_cluster_send(v->cluster, &it->msg);
        } else if (it->kind == SCHED_FX_PUSH) {
            sched_cluster_push(v->cluster, &it->msg);
        }
    }
    know_catalog(v);
    if (v->voter.known.num != known) {
        LOG_INFO(v->cfg.log, "view num=%u members=%u version=%u", v->voter.known.num,
            sched_view_members(&v->voter.known), sched_view_version(&v->voter.known));
        tell_gossip(v);
    }
    if (amnesia && !v->voter.amnesia) {
        LOG_INFO(v->cfg.log, "the others have told what was lost, voting again");
    }
    arm(v);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    step(w->data, NULL);
}

/* Once in a while: the worker goes on asking. */
static void tell_refused(struct sched_voter_node *v, uint64_t node)
{
    uint64_t now = base_clock_mono_ns();
    bool due =
        v->told_refused_ns == 0 || now - v->told_refused_ns > REFUSED_EVERY_MS * BASE_NS_PER_MS;
    if (!due || !sched_voter_refuses(&v->voter, node)) {
        return;
    }
    v->told_refused_ns = now;
    struct sched_speaks s = sched_voter_spoken(&v->voter, node);
    LOG_WARN(v->cfg.log,
        "node=%s is not taken in: it speaks versions %u to %u of the cluster's messages, the "
        "cluster is at version %u",
        sched_cluster_name(v->cluster, node), s.min, s.max, sched_view_version(&v->voter.known));
}

/* ---- the catalogue ---- */

/* The answer to an administrator's order. */
static void on_ordered(struct sched_voter_node *v, const struct sched_msg *m)
{
    struct sched_catalog_order **at = &v->orders;
    while (*at != NULL && (*at)->op != m->csetr.op) {
        at = &(*at)->next;
    }
    if (*at == NULL) {
        return;
    }
    struct sched_catalog_order *o = *at;
    struct base_buf json = {0};
    *at = o->next;
    sched_catalog_answer(o, (enum sched_cat_result)m->csetr.result, m->csetr.version, &json);
    sched_cluster_answer(v->cluster, o->from, &json);
    base_buf_deinit(&json);
    sched_catalog_order_drop(o);
}

/* Gateways make keys of MCP endpoints, and nothing else. */
static bool gateway_may(const struct sched_voter_node *v, const struct sched_msg *m)
{
    const struct sched_cat_entry *e = &m->cset.change.entry;
    char key[SCHED_CAT_KEY_MAX + 1] = "";
    struct sched_catalog_entry x = {
        .key = key, .value = (const char *)e->value, .value_n = e->value_n};
    memcpy(key, e->key, e->key_n);
    return !m->cset.change.erase && e->pool == 0 && sched_catalog_name(&x, "mcp-key/") != NULL &&
           sched_catalog_check(&x, v->cluster_key, NULL, NULL) == 0;
}

static void on_message(void *user, const struct sched_msg *m)
{
    struct sched_voter_node *v = user;
    if (m->type == SCHED_MSG_CSETR) {
        on_ordered(v, m);
    } else if (m->type == SCHED_MSG_CSET && m->from != v->cfg.settings->id && !gateway_may(v, m)) {
        struct sched_msg no = {.type = SCHED_MSG_CSETR,
            .to = m->from,
            .csetr = {.op = m->cset.op, .result = SCHED_CAT_INVALID}};
        sched_cluster_send(v->cluster, &no);
    } else {
        step(v, m);
    }
    if (m->type == SCHED_MSG_LEASE) {
        tell_refused(v, m->from);
    }
}

static void drop_late(struct sched_voter_node *v)
{
    uint64_t now = base_clock_boot_ns();
    for (struct sched_catalog_order **at = &v->orders; *at != NULL;) {
        struct sched_catalog_order *o = *at;
        if (now - o->since_ns > ORDER_MS * BASE_NS_PER_MS) {
            *at = o->next;
            sched_catalog_order_drop(o);
        } else {
            at = &o->next;
        }
    }
}

static void on_incarnation(void *user, uint32_t inc)
{
    struct sched_voter_node *v = user;
    int rc = sched_node_db_set_number(v->db, key_gossip, inc);
    rc = rc != 0 ? rc : sched_node_db_commit(v->db);
    if (rc != 0) {
        fail(v, rc);
    }
}

static void on_left(void *user)
{
    struct sched_voter_node *v = user;
    v->cfg.on_left(v->cfg.user);
}

/* ---- what can be seen ---- */

static int describe_members(const struct sched_voter_node *v, struct base_buf *to)
{
    const struct sched_view *view = &v->voter.known;
    uint64_t now = base_clock_boot_ns();
    bool first = true;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < view->n; i++) {
        const struct sched_member *m = &view->m[i];
        if ((m->flags & SCHED_MEMBER_IN) == 0) {
            continue;
        }
        const struct sched_voter_peer *p = NULL;
        for (uint32_t k = 0; k < v->voter.n_peers; k++) {
            p = v->voter.peers[k].node == m->node ? &v->voter.peers[k] : p;
        }
        bool heard = p != NULL && p->seen_inc == m->inc;
        uint32_t open = 0;
        for (int k = 0; heard && k < SCHED_BUCKET_WORDS; k++) {
            open += (uint32_t)__builtin_popcountll(p->unsettled[k]);
        }
        bool holds = sched_voter_holds(&v->voter, (struct sched_host){m->node, m->inc}, now);
        rc = base_buf_printf(to,
            "%s{\"node\":\"%s\",\"incarnation\":%u,\"zone\":%u,\"weight\":%u,\"leaseMs\":%" PRIu64
            ",\"installed\":%u,\"unsettledBuckets\":%u,\"active\":%u,\"ready\":%u}",
            first ? "" : ",", sched_cluster_name(v->cluster, m->node), m->inc, m->zone, m->weight,
            holds ? (p->until_ns - now) / BASE_NS_PER_MS : 0, heard ? p->installed : 0, open,
            heard ? p->active : 0, heard ? p->ready : 0);
        first = false;
    }
    return rc;
}

struct list {
    struct base_buf *to;
    const struct sched_voter_node *v;
    uint32_t n;
    bool names; /* only some, for people */
    int rc;
};

static void put_node(struct list *l, uint64_t node, struct sched_speaks s)
{
    const char *name = sched_cluster_name(l->v->cluster, node);
    uint32_t before = l->n++;
    if (l->rc != 0 || (l->names && before >= HOLDERS_NAMED)) {
        return;
    }
    l->rc = l->names ? base_buf_printf(l->to, "%s %s", before == 0 ? "" : ",", name)
                     : base_buf_printf(l->to, "%s{\"node\":\"%s\",\"speaks\":[%u,%u]}",
                           before == 0 ? "" : ",", name, s.min, s.max);
}

/* Who speaks no more than what the cluster is at, or has not told yet. */
static void put_if_holding(struct list *l, uint64_t node)
{
    struct sched_speaks s = sched_voter_speaks(&l->v->voter, node);
    if (s.max <= sched_view_version(&l->v->voter.known)) {
        put_node(l, node, s);
    }
}

static bool is_listed(const struct sched_voter_node *v, uint64_t node)
{
    const struct sched_member *m = sched_view_find(&v->voter.known, node);
    return (m != NULL && (m->flags & SCHED_MEMBER_IN) != 0) ||
           sched_cfg_is_voter(&v->core_cfg, node);
}

static void list_holders(struct list *l)
{
    const struct sched_voter *core = &l->v->voter;
    uint64_t now = base_clock_boot_ns();
    for (uint32_t i = 0; i < core->cfg->n_voters; i++) {
        put_if_holding(l, core->cfg->voters[i]);
    }
    for (uint32_t i = 0; i < core->known.n; i++) {
        if ((core->known.m[i].flags & SCHED_MEMBER_IN) != 0) {
            put_if_holding(l, core->known.m[i].node);
        }
    }
    for (uint32_t i = 0; i < core->speak.n; i++) {
        const struct sched_speak_entry *e = sched_speak_at(&core->speak, i, now);
        if (e != NULL && !is_listed(l->v, e->node)) {
            put_if_holding(l, e->node);
        }
    }
}

/* The version of the messages: what the cluster is at, what this voter speaks, who holds the
 * cluster below that, and who is not taken in because of it. */
static int describe_versions(const struct sched_voter_node *v, struct base_buf *to)
{
    const struct sched_voter *core = &v->voter;
    struct list held = {.to = to, .v = v}, refused = {.to = to, .v = v};
    held.rc = base_buf_printf(to, "\"messages\":{\"version\":%u,\"speaks\":[%u,%u],\"heldBy\":[",
        sched_view_version(&core->known), core->speaks.min, core->speaks.max);
    if (core->speaks.max > sched_view_version(&core->known)) {
        list_holders(&held);
    }
    refused.rc = held.rc != 0 ? held.rc : base_buf_printf(to, "],\"refused\":[");
    for (uint32_t i = 0; i < core->n_peers; i++) {
        if (sched_voter_refuses(core, core->peers[i].node)) {
            put_node(&refused, core->peers[i].node, sched_voter_spoken(core, core->peers[i].node));
        }
    }
    return refused.rc != 0 ? refused.rc : base_buf_printf(to, "]},");
}

/* Why there can be no catalogue yet, as text; nothing when there can. */
static void say_held(const struct sched_voter_node *v, struct base_buf *to)
{
    struct list held = {.to = to, .v = v, .names = true};
    unsigned version = sched_view_version(&v->voter.known);
    if (version >= SCHED_VERSION_CATALOG) {
        return;
    }
    held.rc = base_buf_printf(to, "the cluster is at version %u and has a catalogue from %u on;",
        version, SCHED_VERSION_CATALOG);
    list_holders(&held);
    if (held.rc == 0 && held.n == 0) {
        held.rc = base_buf_printf(to, sched_view_members(&v->voter.known) == 0
                                          ? " it gets there when a worker has joined it"
                                          : " it gets there by itself");
    } else if (held.rc == 0 && held.n > HOLDERS_NAMED) {
        held.rc = base_buf_printf(to, " and %u more hold it back", held.n - HOLDERS_NAMED);
    } else if (held.rc == 0) {
        held.rc = base_buf_printf(to, held.n == 1 ? " holds it back" : " hold it back");
    }
    if (held.rc != 0 || base_buf_add(to, "", 1) != 0) {
        base_buf_clear(to);
    }
}

static void on_order(
    struct sched_voter_node *v, uint64_t from, const char *question, struct base_buf *to)
{
    struct base_buf held = {0};
    struct sched_catalog_ask ask = {.text = question,
        .known = v->known,
        .cluster_key = v->cluster_key,
        .unsure = v->voter.catalog->vote.lost || v->voter.catalog->unsure};
    struct sched_catalog_wish wish;
    say_held(v, &held);
    ask.held = base_buf_size(&held) > 0 ? (const char *)base_buf_data(&held) : NULL;
    bool wishes = sched_catalog_admin(&ask, &wish, to);
    base_buf_deinit(&held);
    if (!wishes) {
        return;
    }
    drop_late(v);
    wish.order->from = from;
    wish.order->next = v->orders;
    v->orders = wish.order;
    wish.set.from = v->cfg.settings->id;
    wish.set.to = v->cfg.settings->id;
    step(v, &wish.set);
    sched_catalog_wish_deinit(&wish);
}

static void on_admin(void *user, uint64_t from, const char *question, struct base_buf *to)
{
    struct sched_voter_node *v = user;
    if (question[0] == '{') {
        on_order(v, from, question, to);
        return;
    }
    if (strcmp(question, "status") != 0) {
        (void)base_buf_printf(to, "{\"error\":\"unknown question\"}");
        return;
    }
    const struct sched_settings *s = v->cfg.settings;
    int rc = base_buf_printf(to,
        "{\"node\":\"%s\",\"role\":\"voter\",\"version\":\"%s\",\"voting\":%s,\"commits\":%" PRIu64
        ",\"view\":{\"number\":%u,\"digest\":\"%016" PRIx64 "\",\"rebuilt\":%s,\"members\":[",
        s->name, WARREN_VERSION, v->voter.amnesia ? "false" : "true", v->commits,
        v->voter.known.num, sched_view_digest(&v->voter.known),
        sched_bucket_any(v->voter.known.rec) ? "true" : "false");
    rc = rc != 0 ? rc : describe_members(v, to);
    rc = rc != 0 ? rc
                 : base_buf_printf(to, "]},\"catalog\":{\"version\":%" PRIu64 ",\"entries\":%u}",
                       v->known == NULL ? 0 : sched_catalog_version(v->known),
                       v->known == NULL ? 0 : sched_catalog_n(v->known));
    rc = rc != 0 ? rc : base_buf_printf(to, ",\"voters\":[");
    for (unsigned i = 0; rc == 0 && i < s->voters_count; i++) {
        rc = base_buf_printf(to, "%s\"%s\"", i == 0 ? "" : ",", s->voters[i]);
    }
    rc = rc != 0 ? rc : base_buf_printf(to, "],");
    rc = rc != 0 ? rc : describe_versions(v, to);
    rc = rc != 0 ? rc : sched_cluster_describe(v->cluster, to);
    rc = rc != 0 ? rc : base_buf_printf(to, "}");
    if (rc != 0) {
        base_buf_clear(to);
    }
}

static const struct sched_cluster_ops cluster_ops = {.on_message = on_message,
    .on_admin = on_admin,
    .on_incarnation = on_incarnation,
    .on_left = on_left};

/* ---- life ---- */

static int carve(struct sched_voter_node *v, struct base_error *err)
{
    size_t size = sched_voter_size(&v->core_cfg);
    int rc = sched_shell_carve(&v->fx, size, &v->fx_mem, &v->voter_mem);
    return rc == 0 ? 0 : base_fail(err, rc, "voter: out of memory");
}

/* A room of its own for what a row decodes to: it must live until init has copied it. */
struct stored {
    struct sched_wire_room room;
    void *mem;
    struct sched_msg msg;
    bool there;
};

static int load(struct sched_voter_node *v, const char *key, uint8_t type, struct stored *ret)
{
    const uint8_t *p = NULL;
    size_t n = 0;
    int rc = sched_node_db_get(v->db, key, &p, &n);
    if (rc == BASE_ENOTFOUND) {
        return 0;
    }
    struct sched_mem mem = {0};
    sched_wire_room_init(&ret->room, v->core_cfg.members_max, &mem);
    ret->mem = rc != 0 ? NULL : sched_shell_block(mem.used);
    if (ret->mem == NULL) {
        return rc != 0 ? rc : BASE_ENOMEM;
    }
    mem = (struct sched_mem){.base = ret->mem, .size = mem.used};
    sched_wire_room_init(&ret->room, v->core_cfg.members_max, &mem);
    rc = sched_wire_decode(p, n, &ret->room, &ret->msg);
    ret->there = rc == 0 && ret->msg.type == type;
    return ret->there ? 0 : rc == BASE_EVERSION ? rc : BASE_ECORRUPT;
}

/* A view without members, before which there was nothing, and no promise yet. */
static int bear(
    struct sched_voter_node *v, const struct sched_row *vote, const struct sched_row *known)
{
    int rc = put_row(v, vote);
    rc = rc != 0 ? rc : put_row(v, known);
    return rc != 0 ? rc : sched_node_db_commit(v->db);
}

static int boot(struct sched_voter_node *v, struct base_error *err)
{
    struct stored vote = {0}, known = {0}, catalog = {0}, quotas[SCHED_QUOTA_REGS] = {0};
    struct sched_row catalog_row = {.kind = SCHED_ROW_CATALOG};
    struct sched_row rows[SCHED_QUOTA_REGS];
    struct sched_view first = {.num = 1};
    struct sched_row vote_row = {.kind = SCHED_ROW_VOTE};
    struct sched_row known_row = {.kind = SCHED_ROW_KNOWN, .view = &first};
    struct sched_voter_boot b = {
        .id = v->cfg.settings->id, .seed = base_rand_u64(), .now_ns = base_clock_boot_ns()};
    int rc = load(v, key_vote, SCHED_MSG_VTELL, &vote);
    rc = rc != 0 ? rc : load(v, key_known, SCHED_MSG_VIEW, &known);
    rc = rc != 0 ? rc : load(v, key_catalog, SCHED_MSG_CTELL, &catalog);
    for (uint32_t i = 0; rc == 0 && i < SCHED_QUOTA_REGS; i++) {
        char key[24];
        quota_key(i, key);
        rc = load(v, key, SCHED_MSG_QTELL, &quotas[i]);
        const struct sched_m_qreg *q = &quotas[i].msg.qreg;
        rows[i] = (struct sched_row){.kind = SCHED_ROW_QUOTA,
            .first = i,
            .promised = q->promised,
            .accepted = q->accepted,
            .version = q->version,
            .n = q->n,
            .entries = q->entries};
        b.quotas[i] = quotas[i].there ? &rows[i] : NULL;
    }
    if (rc == 0 && catalog.there && !sched_cat_valid(&catalog.msg.creg.doc)) {
        rc = BASE_ECORRUPT;
    }
    bool birth = v->cfg.birth && !vote.there && !known.there;
    if (birth) { /* there is nobody older in it: its first pools need not wait for a worker */
        first.version = SCHED_VERSION_MAX;
    }
    if (vote.there) {
        vote_row.promised = vote.msg.vtell.promised;
        vote_row.accepted = vote.msg.vtell.accepted;
        vote_row.view = vote.msg.vtell.view;
    }
    known_row.view = known.there ? known.msg.view.view : &first;
    rc = rc == 0 && birth ? bear(v, &vote_row, &known_row) : rc;
    if (rc == 0) {
        b.vote = vote.there || birth ? &vote_row : NULL;
        b.known = known.there || birth ? &known_row : NULL;
        catalog_row.promised = catalog.msg.creg.promised;
        catalog_row.accepted = catalog.msg.creg.accepted;
        catalog_row.catalog = catalog.msg.creg.doc;
        b.catalog = catalog.there ? &catalog_row : NULL;
        b.first = birth || (vote.there && known.there); /* this version is the first to keep one */
        struct sched_mem mem = {.base = v->voter_mem, .size = sched_voter_size(&v->core_cfg)};
        sched_voter_init(&v->voter, &v->core_cfg, &mem, &b);
    }
    free(vote.mem);
    free(known.mem);
    free(catalog.mem);
    for (uint32_t i = 0; i < SCHED_QUOTA_REGS; i++) {
        free(quotas[i].mem);
    }
    return rc == 0 ? 0 : base_fail(err, rc, "node.mdb: %s", base_err_str(rc));
}

static int start_cluster(struct sched_voter_node *v, struct base_error *err)
{
    uint64_t inc = 0;
    int rc = sched_node_db_number(v->db, key_gossip, 0, &inc);
    struct sched_cluster_cfg c = {.loop = v->cfg.loop,
        .log = v->cfg.log,
        .settings = v->cfg.settings,
        .role = SCHED_ROSTER_VOTER,
        .gossip_inc = inc < SCHED_INC_MAX ? (uint32_t)inc + 1 : 1,
        .ops = &cluster_ops,
        .user = v};
    rc = rc != 0 ? rc : sched_node_db_set_number(v->db, key_gossip, c.gossip_inc);
    rc = rc != 0 ? rc : sched_node_db_commit(v->db);
    if (rc != 0) {
        return base_fail(err, rc, "node.mdb: %s", base_err_str(rc));
    }
    return sched_cluster_create(&v->cluster, &c, err);
}

static int start(struct sched_voter_node *v, struct base_error *err)
{
    const struct sched_settings *s = v->cfg.settings;
    char path[512];
    bool listed = false;
    for (unsigned i = 0; i < s->voters_count; i++) {
        listed = listed || s->voter[i] == s->id;
    }
    if (!listed) {
        return base_fail(err, BASE_EINVAL, "'%s' is not one of the voters", s->name);
    }
    if (snprintf(path, sizeof path, "%s/node.mdb", s->state_dir) >= (int)sizeof path) {
        return base_fail(err, BASE_ETOOBIG, "state_dir is too long");
    }
    sched_settings_cfg(s, &v->core_cfg);
    int rc = proto_net_cluster_key_read(s->cluster_key, v->cluster_key, err);
    rc = rc != 0 ? rc : carve(v, err);
    rc = rc != 0 ? rc : sched_node_db_open(&v->db, path, err);
    rc = rc != 0 ? rc : boot(v, err);
    return rc != 0 ? rc : start_cluster(v, err);
}

int sched_voter_node_create(
    struct sched_voter_node **ret, const struct sched_voter_node_cfg *cfg, struct base_error *err)
{
    struct sched_voter_node *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return base_fail(err, BASE_ENOMEM, "voter: out of memory");
    }
    v->cfg = *cfg;
    ev_timer_init(&v->timer, on_timer, 0., 0.);
    v->timer.data = v;
    int rc = start(v, err);
    if (rc != 0) {
        sched_voter_node_destroy(v);
        return rc;
    }
    if (v->voter.amnesia) {
        LOG_WARN(cfg->log, "no store: not voting until the others have told what was lost");
    }
    tell_gossip(v);
    arm(v);
    *ret = v;
    return 0;
}

void sched_voter_node_destroy(struct sched_voter_node *v)
{
    if (v == NULL) {
        return;
    }
    ev_timer_stop(v->cfg.loop, &v->timer);
    sched_cluster_destroy(v->cluster);
    sched_node_db_close(v->db);
    while (v->orders != NULL) {
        struct sched_catalog_order *o = v->orders;
        v->orders = o->next;
        sched_catalog_order_drop(o);
    }
    sched_catalog_destroy(v->known);
    explicit_bzero(v->cluster_key, sizeof v->cluster_key);
    free(v->voter_mem);
    free(v->fx_mem);
    free(v);
}

void sched_voter_node_leave(struct sched_voter_node *v)
{
    sched_cluster_leave(v->cluster);
}

int sched_voter_node_rekey(struct sched_voter_node *v, struct base_error *err)
{
    return sched_cluster_rekey(v->cluster, err);
}

const struct sched_voter *sched_voter_node_core(const struct sched_voter_node *v)
{
    return &v->voter;
}

struct sched_cluster *sched_voter_node_cluster(struct sched_voter_node *v)
{
    return v->cluster;
}

const char *sched_voter_node_endpoint(const struct sched_voter_node *v)
{
    return sched_cluster_endpoint(v->cluster);
}
