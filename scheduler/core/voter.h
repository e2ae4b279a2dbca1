#pragma once
#include "scheduler/core/catreg.h"
#include "scheduler/core/quota.h"
#include "scheduler/core/speak.h"

/* A voter: grants leases to worker incarnations and agrees with the other voters on the view, which
 * is one CASPaxos register. It never decides where a session runs.
 *
 * R1 A voter refuses to accept a view that drops an incarnation whose grant from it still runs.
 * R2 Having refused, it stops renewing that grant until the register moves on; else "finish the old
 *    value" and the lease would block each other for ever.
 * R3 A new view drops only whom nobody in a majority holds a lease for.
 * R4 Who is admitted gets an initial grant when the view is learned, else it is dropped at once.
 * R5 An incarnation is admitted at most once.
 * R6 View v+1 comes after every surviving member has settled v, or after stuck_ms with the buckets
 *    that cannot settle listed for rebuilding. Where they are being rebuilt already and nobody is
 *    lost, it waits twice as long each time, within bounds: rebuilding takes as long as it takes.
 * R7 A member that does not install the view within stuck_ms is not renewed, so that it lapses: R6
 *    would wait for it for ever, and members never skip a view (hand-over relies on that).
 * R8 A view has no member only when every member of the one before has given its lease back. When
 *    all have merely lapsed, the voters may be the ones that were cut off: the members stay, and
 *    with them their frozen sessions.
 *
 * V1 The view's version of messages rises to what every voter, every member, every gateway and
 * every worker that was heard lately says it speaks; it never falls. Who does not speak it is not
 * admitted.
 *
 * A voter that lost its store waits until every proposal that used one of its forgotten promises is
 * over. Then it asks, and does not vote until it has heard the register's state from a majority of
 * voters, itself not counted: one of them promised what it has forgotten, or nothing came of it.
 * (Asked first, that one might promise later.) At most one voter may lose its store at a time.
 * Until then, and until the other registers it keeps are back too, it stores neither row of the
 * register: a process that ends meanwhile starts from nothing again, and one row without the other
 * counts as nothing.
 *
 * The register is one sequence: a voter accepts view v+1 only when it knows v. So what was chosen
 * is known to, or accepted by, some voter in every majority, and is found again without asking
 * anybody else. Views are believed from voters only: a worker's report that it has installed a
 * later one makes a voter ask the others and, if none knows it, finish what they have accepted. */

struct sched_voter_peer {
    uint64_t node;
    uint32_t inc; /* the incarnation that holds, or held last, a lease from here; 0: none */
    uint32_t join_inc;
    uint32_t seen_inc; /* of the latest report */
    uint32_t installed;
    uint64_t until_ns;
    uint64_t join_ns;
    uint64_t unsettled[SCHED_BUCKET_WORDS];
    uint32_t active, ready;
    uint16_t zone;
    uint8_t weight;
    bool gone;    /* relinquished: (node, inc) holds nothing any more */
    bool refused; /* R2 */
};

enum sched_voter_phase { SCHED_VOTER_IDLE, SCHED_VOTER_PROMISES, SCHED_VOTER_ACCEPTS };

/* A proposal of this voter. */
struct sched_voter_op {
    uint8_t phase;             /* enum sched_voter_phase */
    uint8_t promises, accepts; /* by voter index, as bits */
    bool adopted;              /* val is somebody's accepted view, to be finished */
    uint64_t ballot;
    uint64_t best; /* highest accepted ballot among the promises */
    uint64_t deadline_ns;
    uint32_t num; /* of the view that is to follow */
    uint64_t rec[SCHED_BUCKET_WORDS];
};

struct sched_voter {
    const struct sched_cfg *cfg;
    struct sched_fx *fx;
    uint64_t id, now_ns;
    uint32_t index;
    uint32_t mean; /* sessions per member, rounded up */
    bool amnesia;
    uint64_t nonce;        /* of the question after the state */
    uint8_t told;          /* who answered it */
    uint64_t quiet_ns;     /* after a lost store: asks the others from this time on */
    uint64_t tick_ns;      /* next look at the members */
    uint64_t learned_ns;   /* when `known` was learned */
    uint64_t mean_ns;      /* when the mean was counted */
    uint64_t unsettled_ns; /* since when a bucket is unsettled; 0: none is */
    uint32_t repeats;      /* views in a row that list buckets again that the one before listed */
    uint64_t ahead_ns;     /* since when members report a view that is not known here; 0: none */
    uint64_t pull_ns;      /* the others may be asked for it again */
    uint64_t promised, accepted;
    struct sched_view known, acc, val;
    struct sched_voter_op op;
    struct sched_speaks speaks; /* this voter */
    struct sched_speak speak;   /* the others */
    uint64_t speak_ns;          /* the other voters are told again */
    struct sched_voter_peer *peers;
    uint32_t n_peers;
    struct sched_map by_node;
    uint64_t awake_ns; /* since when it hears what others speak */
    uint32_t n_quotas;
    struct sched_quota_keep *quotas; /* registers of permits */
    uint64_t pools_version;          /* of the catalogue that these are from */
    uint32_t n_pools;
    struct sched_pool_max pools[SCHED_CAT_POOLS_MAX];
    struct sched_catreg *catalog; /* NULL: cfg says that there is none */
    uint8_t *lapses;              /* per entry of known: how many promises called it lapsed */
    struct base_hash_rng rng;
};

struct sched_voter_boot {
    uint64_t id;
    struct sched_speaks speaks; /* max 0: all that this build does */
    uint64_t seed;
    uint64_t now_ns;
    /* The store's rows, NULL: none; for the birth of a cluster a VOTE row of zeros and a KNOWN row
     * with the first view, stored before. Without one of these two the store was lost. Leases are
     * not stored: every member of the known view is taken to hold one that was granted just now. */
    const struct sched_row *vote, *known;
    const struct sched_row *quotas[SCHED_QUOTA_REGS];
    /* Without one, and unless `first` is set, the catalogue was lost: the others are asked. */
    const struct sched_row *catalog;
    bool first; /* of the birth of a cluster: there can have been no catalogue */
};

/* Bytes of memory that init takes. */
size_t sched_voter_size(const struct sched_cfg *cfg);
void sched_voter_init(struct sched_voter *v, const struct sched_cfg *cfg, struct sched_mem *mem,
    const struct sched_voter_boot *boot);

/* One message, or NULL for "time has passed". A view in the message must stay during the step. */
void sched_voter_step(
    struct sched_voter *v, uint64_t now_ns, const struct sched_msg *m, struct sched_fx *fx);

/* When the next step with NULL is due. */
uint64_t sched_voter_deadline_ns(const struct sched_voter *v);

/* What a voter, member or gateway speaks: what it said, or what its cluster is at. */
struct sched_speaks sched_voter_speaks(const struct sched_voter *v, uint64_t node);

/* The same for one who is in no view yet: what it said, or the base. */
struct sched_speaks sched_voter_spoken(const struct sched_voter *v, uint64_t node);

/* Has this node asked to be admitted, and is not because of the version of its messages? */
bool sched_voter_refuses(const struct sched_voter *v, uint64_t node);

/* Does this incarnation hold a lease as far as this voter knows? For checks. */
bool sched_voter_holds(const struct sched_voter *v, struct sched_host h, uint64_t now_ns);
