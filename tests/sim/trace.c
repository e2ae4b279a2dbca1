#include <inttypes.h>

#include "tests/sim/check.h"

/* One line per delivered message, for a person. */

static int key(const struct sim *s, struct sched_key k)
{
    return (int)sim_key_index(s, k);
}

static void rec(const struct sched_rec *r)
{
    (void)printf(" rec{e=%" PRIx64 " host=%" PRIu64 "/%u resv=%" PRIx64 " st=%u}", r->epoch,
        r->host.node, r->host.inc, r->resv, r->state);
}

static void directory(const struct sim *s, const struct sched_msg *m)
{
    switch ((int)m->type) {
    case SCHED_MSG_PREP:
        (void)printf(" key=%d b=%" PRIx64, key(s, m->prep.key), m->prep.ballot);
        break;
    case SCHED_MSG_ACC:
        (void)printf(" key=%d b=%" PRIx64, key(s, m->acc.key), m->acc.ballot);
        rec(&m->acc.rec);
        break;
    case SCHED_MSG_PROM:
    case SCHED_MSG_ACCED:
    case SCHED_MSG_NACK:
        (void)printf(" op=%" PRIx64 " b=%" PRIx64, m->prom.op, m->prom.ballot);
        rec(&m->prom.rec);
        break;
    case SCHED_MSG_BIND:
    case SCHED_MSG_BOUND:
    case SCHED_MSG_UNBOUND:
    case SCHED_MSG_GONEQ:
    case SCHED_MSG_GONE:
    case SCHED_MSG_ALIVE:
    case SCHED_MSG_END:
    case SCHED_MSG_ENDED:
        (void)printf(" key=%d op=%" PRIx64, key(s, m->bind.key), m->bind.op);
        rec(&m->bind.rec);
        break;
    case SCHED_MSG_SYNC:
    case SCHED_MSG_INV:
        (void)printf(" num=%u parts=%u first=%u", m->sync.num, m->sync.n,
            m->sync.n > 0 ? m->sync.parts[0] : 0);
        break;
    case SCHED_MSG_SYNCED:
    case SCHED_MSG_INVED:
        (void)printf(
            " num=%u parts=%u recs=%u", m->synced.num, m->synced.n_parts, m->synced.n_recs);
        for (uint32_t i = 0; i < m->synced.n_recs; i++) {
            (void)printf("\n      key=%d b=%" PRIx64, key(s, m->synced.recs[i].key),
                m->synced.recs[i].accepted);
            rec(&m->synced.recs[i].rec);
        }
        break;
    default:
        break;
    }
}

static void gateway(const struct sim *s, const struct sched_msg *m)
{
    switch ((int)m->type) {
    case SCHED_MSG_OPEN:
        (void)printf(" key=%d rid=%" PRIx64 " x=%" PRIu64 " inline=%d gone=%" PRIx64 " view=%u",
            key(s, m->open.key), m->open.rid, m->open.exec.lo, m->open.has_exec, m->open.gone,
            m->open.view);
        break;
    case SCHED_MSG_ROUTE:
        (void)printf(" rid=%" PRIx64 " key=%d base=%u inline=%" PRIu64 "@%" PRIx64, m->route.rid,
            key(s, m->route.key), m->route.base, m->route.rec.inline_id.lo,
            m->route.rec.inline_epoch);
        rec(&m->route.rec);
        break;
    case SCHED_MSG_RETRY:
        (void)printf(" rid=%" PRIx64 " why=%u view=%u", m->retry.rid, m->retry.why, m->retry.view);
        break;
    case SCHED_MSG_EXEC:
    case SCHED_MSG_DONE:
    case SCHED_MSG_NOTHERE:
        (void)printf(" key=%d rid=%" PRIx64 " x=%" PRIu64 " e=%" PRIx64 " out=%u",
            key(s, m->exec.key), m->exec.rid, m->exec.exec.lo, m->exec.epoch, m->exec.outcome);
        break;
    default:
        break;
    }
}

static void voters(const struct sched_msg *m)
{
    const struct sched_view *v = m->type == SCHED_MSG_VIEW   ? m->view.view
                                 : m->type == SCHED_MSG_VACC ? m->vacc.view
                                                             : NULL;
    if (m->type == SCHED_MSG_LEASE) {
        (void)printf(" inc=%u seq=%" PRIx64 " installed=%u unsettled=%d", m->lease.inc,
            m->lease.seq, m->lease.installed, sched_bucket_any(m->lease.unsettled));
    } else if (m->type == SCHED_MSG_GRANT || m->type == SCHED_MSG_NOGRANT) {
        (void)printf(" inc=%u seq=%" PRIx64, m->grant.inc, m->grant.seq);
    } else if (m->type == SCHED_MSG_VPREP || m->type == SCHED_MSG_VNACK) {
        (void)printf(" b=%" PRIx64, m->ballot.ballot);
    } else if (m->type == SCHED_MSG_VPROM) {
        (void)printf(" b=%" PRIx64 " known=%u lapsed=%u acc=%d", m->vprom.ballot, m->vprom.known,
            m->vprom.n_lapsed, m->vprom.view != NULL);
    }
    if (v == NULL) {
        return;
    }
    (void)printf(" num=%u rec=%d", v->num, sched_bucket_any(v->rec));
    for (uint32_t i = 0; i < v->n; i++) {
        (void)printf(" %" PRIu64 "/%u%s%s", v->m[i].node, v->m[i].inc,
            (v->m[i].flags & SCHED_MEMBER_IN) != 0 ? "" : "-", v->m[i].weight == 0 ? "d" : "");
    }
}

void sim_trace(const struct sim *s, const struct sched_msg *m, const char *what)
{
    char a[16], b[16];
    sim_name(&s->nodes[m->from - 1], a);
    sim_name(&s->nodes[m->to - 1], b);
    (void)printf(
        "%10.6f %4s > %-4s %s%s", (double)s->now_ns / 1e9, a, b, sched_msg_name(m->type), what);
    directory(s, m);
    gateway(s, m);
    voters(m);
    (void)printf("\n");
}
