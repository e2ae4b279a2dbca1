/* Leases, views and claims: never two unfrozen sessions of one key.
 *
 * README.md beside this file says what is modelled, what is left out and why that is sound.
 * One process: every option of its loop is one atomic step of the system. Messages are never
 * consumed: what has been sent can arrive at any time, any number of times, or never.
 *
 * Sizes: VIEWS (last view number), INCS (incarnations per host), BALLOTS per view number (1 or 2),
 * DETAIL (1: voters learn views and follow R2 and R4), ROUNDS (claims per view; 0: no directory),
 * WITNESS (1: a third replica, which hosts no session and never leaves), JOINER (1: host 0 is not
 * in view 1), LIVE (see there), ONLY_S1 (checks the main property alone).
 * Mutants: NO_R1, NO_R5, NO_FREEZE, NO_FENCE, NO_BASE, NO_EPOCH, NO_SEAL, NO_ASK; and NO_R2, which
 * only LIVE refutes. */

#ifndef VIEWS
#define VIEWS 2
#endif
#ifndef INCS
#define INCS 1
#endif
#ifndef BALLOTS
#define BALLOTS 1
#endif
#ifndef DETAIL
#define DETAIL 0
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef WITNESS
#define WITNESS 0
#endif

#ifndef JOINER
#define JOINER 0
#endif

#define VOTERS 3
#define HOSTS 2
#define REPLICAS (HOSTS + WITNESS)
#define EPOCHS (VIEWS * ROUNDS)

/* Scratch; 0 between steps. */
byte tmp, n, b, v, w, c0, c1, best, quo;

/* The view register. Views 1..chosen are decided. View n, host h: its incarnation in the view, 0
 * when it is not a member; rec: the directory is rebuilt from the hosts. Proposals: the same for
 * ballot b (1 or 2) of the view that is being decided or was decided last. */
byte chosen = 1;
byte mem[HOSTS * VIEWS + HOSTS];
bit rec[VIEWS + 1];
byte pmem[HOSTS * 3];
bit prec[3];
bit proposed[3];

/* Voters; sorted after every step, because they are interchangeable. */
byte vnum[VOTERS];          /* the last view number it has accepted a value for */
byte lease[VOTERS * HOSTS]; /* 0 none, 1 it runs at the voter only, 2 the host holds it, too;
                             * without DETAIL 1 and 0 are one, see README.md */
#if BALLOTS > 1
byte prom[VOTERS];  /* promised ballot of view chosen + 1 */
byte votes[VOTERS]; /* ballots of vnum that it has accepted: bit b; the highest one counts */
#endif
#if DETAIL
byte known[VOTERS];
bit nog[VOTERS * HOSTS]; /* R2: not renewed */
#endif

byte inc[HOSTS]; /* INCS + 1: gone for good */
byte hview[REPLICAS];

#define M(n, h) mem[HOSTS * (n) + (h)]
#define P(b, h) pmem[HOSTS * (b) + (h)]
#define L(v, h) lease[HOSTS * (v) + (h)]
#define IN(n, x) ((x) == 2 || (M(n, (x) & 1) != 0 && M(n, (x) & 1) == inc[(x) & 1]))
#define HOLDS(h) ((L(0, h) == 2) + (L(1, h) == 2) + (L(2, h) == 2) >= 2)

#ifdef NO_FREEZE
#define SERVES(h) IN(hview[h], h)
#else
#define SERVES(h) (IN(hview[h], h) && HOLDS(h))
#endif

#if ROUNDS
/* Hosts 0 and 1, and the witness 2. */
byte settled[REPLICAS]; /* the view for which it has the directory */
byte rprom[REPLICAS];   /* register of the key: promised and accepted ballot */
byte racc[REPLICAS];
byte sess[HOSTS]; /* epoch of the session it runs, frozen or not */
byte maxe[HOSTS]; /* fence: no epoch up to here starts */
byte base[HOSTS]; /* no epoch of an earlier view starts */

/* Claims. Ballot (view n, round r) is number (n - 1) ROUNDS + r + 1; an epoch is the ballot that
 * made it. */
byte bval[EPOCHS + 1];   /* the epoch that the ballot proposes; 0: not used yet */
bit target[EPOCHS + 1];  /* the host of the epoch */
byte rvotes[EPOCHS + 1]; /* replicas that have accepted the ballot; 7 once it is chosen */
bit bind[EPOCHS + 1];    /* chosen: BIND is on its way */
bit gone[EPOCHS + 1];    /* its host has promised that it will never run there */
byte last;               /* highest epoch that ever started */

#define UNFROZEN(h) (sess[h] != 0 && SERVES(h))
#define VIEW_OF(e) (((e) - 1) / ROUNDS + 1)
#define BALLOT(n, r) (((n) - 1) * ROUNDS + (r) + 1)
#define WAS(n, x) ((x) == 2 || M(n, (x) & 1) != 0)
#define MAJORITY(n) ((WITNESS + (M(n, 0) != 0) + (M(n, 1) != 0)) / 2 + 1)
#define COUNT(quo) (((quo) & 1) + ((quo) >> 1 & 1) + ((quo) >> 2 & 1))
#endif

/* ---- the end of every step: properties, then the normal form ----------------------------- */

#if BALLOTS > 1 && DETAIL
#define MORE(v) (((prom[v] * 8 + votes[v]) * 4 + known[v]) * 4 + nog[2 * (v)] * 2 + nog[2 * (v) + 1])
#else
#if DETAIL
#define MORE(v) (known[v] * 4 + nog[2 * (v)] * 2 + nog[2 * (v) + 1])
#else
#define MORE(v) 0
#endif
#endif
#define WEIGHT(v) (((MORE(v) * 4 + vnum[v]) * 3 + L(v, 0)) * 3 + L(v, 1))

#define SWAP(a, i, j) tmp = a[i]; a[i] = a[j]; a[j] = tmp

inline order(v_, w_)
{
    if
    :: WEIGHT(v_) > WEIGHT(w_) ->
        SWAP(vnum, v_, w_);
        SWAP(lease, 2 * v_, 2 * w_);
        SWAP(lease, 2 * v_ + 1, 2 * w_ + 1);
#if BALLOTS > 1
        SWAP(prom, v_, w_);
        SWAP(votes, v_, w_);
#endif
#if DETAIL
        SWAP(known, v_, w_);
        SWAP(nog, 2 * v_, 2 * w_);
        SWAP(nog, 2 * v_ + 1, 2 * w_ + 1);
#endif
        tmp = 0
    :: else
    fi
}

inline check()
{
#if ROUNDS
    assert(!(UNFROZEN(0) && UNFROZEN(1))); /* S1 */
#endif
#ifndef ONLY_S1
    /* S6, and it stays so: whom the latest view leaves out holds no lease. */
    assert(!HOLDS(0) || M(chosen, 0) == inc[0]);
    assert(!HOLDS(1) || M(chosen, 1) == inc[1])
#endif
}

inline done()
{
    d_step {
        check();
        order(0, 1);
        order(1, 2);
        order(0, 1);
        tmp = 0; n = 0; b = 0; v = 0; w = 0; c0 = 0; c1 = 0; best = 0; quo = 0
    }
}

/* ---- views -------------------------------------------------------------------------------- */

/* R5: the incarnation has been in no view yet. */
#ifdef NO_R5
#define NEW(h) true
#else
#if VIEWS > 2
#define NEW(h) (M(1, h) < inc[h] && (chosen < 2 || M(2, h) < inc[h]))
#else
#define NEW(h) (M(1, h) < inc[h])
#endif
#endif

/* What becomes of a host in the next view. Anything goes: that only lapsed hosts are dropped (R3)
 * is a hope of the proposer; what guards it is R1. */
inline choose(out, h_)
{
    if
    :: out = M(chosen, h_)
    :: M(chosen, h_) != 0 -> out = 0
    :: M(chosen, h_) != inc[h_] && inc[h_] <= INCS && NEW(h_) -> out = inc[h_]
    fi
}

inline value()
{
    choose(c0, 0);
    choose(c1, 1);
    if
    :: ROUNDS == 0 || c0 != M(chosen, 0) || c1 != M(chosen, 1) -> best = 0
    :: ROUNDS > 0 -> best = 1
    fi
}

inline put(b_)
{
    d_step {
        P(b_, 0) = c0;
        P(b_, 1) = c1;
        prec[b_] = best;
        proposed[b_] = 1
    }
}

#if BALLOTS == 1
#define MAY_PROPOSE (chosen < VIEWS && !proposed[1])
inline propose()
{
    value();
    if
    :: c0 + c1 + WITNESS > 0 -> put(1)
    :: else
    fi
}

#define ACC(v, h) (vnum[v] <= chosen -> M(vnum[v], h) : P(1, h))
#define MAY_VOTE(v, b) \
    (b == 1 && ((vnum[v] <= chosen && proposed[1]) || vnum[v] < chosen))
#define VOTE_NUM(v) (proposed[1] -> chosen + 1 : chosen)
#define VOTED(b) ((vnum[0] == n) + (vnum[1] == n) + (vnum[2] == n) >= 2)
#else

/* Phase 1 with two voters in one step: the value found, or a new one. */
#define MAY_PROPOSE (chosen < VIEWS && !proposed[2])
inline propose()
{
    n = chosen + 1;
    if
    :: !proposed[1] -> b = 1
    :: b = 2
    fi;
    if
    :: v = 0; w = 1
    :: v = 0; w = 2
    :: v = 1; w = 2
    fi;
    if
    :: prom[v] < b && prom[w] < b ->
        if
        :: vnum[v] == n || vnum[w] == n -> /* b is 2, and one of them has accepted ballot 1 */
            c0 = P(1, 0);
            c1 = P(1, 1);
            best = prec[1]
        :: else -> value()
        fi;
        if
        :: c0 + c1 + WITNESS > 0 -> prom[v] = b; prom[w] = b; put(b)
        :: else
        fi
    :: else
    fi
}

#define ACC(v, h) (vnum[v] <= chosen -> M(vnum[v], h) : P((votes[v] >> 2 & 1 -> 2 : 1), h))
#define MAY_VOTE(v, b) \
    (chosen < VIEWS && proposed[b] && prom[v] <= b && (vnum[v] <= chosen || !(votes[v] >> b & 1)))
#define VOTE_NUM(v) (chosen + 1)
#define HAS(v, b) (vnum[v] == n && (votes[v] >> b & 1))
#define VOTED(b) (HAS(0, b) + HAS(1, b) + HAS(2, b) >= 2)
#endif

/* R1: the value keeps everybody whose grant still runs here. */
#ifdef NO_R1
#define R1(v, h) true
#else
#if DETAIL
#define RUNS(v, h) (L(v, h) != 0)
#else
#define RUNS(v, h) (L(v, h) == 2)
#endif
#define R1(v, h) (!RUNS(v, h) || (n <= chosen -> M(n, h) : P(b, h)) == inc[h])
#endif

inline decide()
{
    chosen = n;
    M(n, 0) = P(b, 0);
    M(n, 1) = P(b, 1);
    rec[n] = prec[b];
    tmp = 0;
    do
    :: tmp < 3 ->
        P(tmp, 0) = 0;
        P(tmp, 1) = 0;
        prec[tmp] = 0;
        proposed[tmp] = 0;
        tmp++
    :: else -> break
    od;
#if BALLOTS > 1
    /* Votes for what has been decided count no more. */
    prom[0] = 0; prom[1] = 0; prom[2] = 0;
    votes[0] = 0; votes[1] = 0; votes[2] = 0
#else
    skip
#endif
}

inline vote(v_, b_)
{
    d_step {
        n = VOTE_NUM(v_);
        b = b_;
        if
        :: R1(v_, 0) && R1(v_, 1) ->
#if BALLOTS > 1
            prom[v_] = b;
            votes[v_] = (vnum[v_] == n -> votes[v_] | 1 << b : 1 << b);
#endif
            vnum[v_] = n;
            if
            :: n > chosen && VOTED(b) -> decide()
            :: else
            fi
        :: else -> /* R2: it refuses, and lets the grant that is in the way run out */
#if DETAIL && !defined(NO_R2)
            nog[2 * v_] = nog[2 * v_] || !R1(v_, 0);
            nog[2 * v_ + 1] = nog[2 * v_ + 1] || !R1(v_, 1)
#else
            skip
#endif
        fi
    }
}

#if DETAIL
inline voter_learn(v_)
{
    d_step {
        n = known[v_] + 1;
        known[v_] = n;
        nog[2 * v_] = 0;
        nog[2 * v_ + 1] = 0;
        tmp = 0;
        do
        :: tmp < HOSTS -> /* R4: a newcomer starts with a grant */
            if
            :: M(n, tmp) != M(n - 1, tmp) && M(n, tmp) != 0 && M(n, tmp) == inc[tmp] &&
                    L(v_, tmp) == 0 -> L(v_, tmp) = 1
            :: else
            fi;
            tmp++
        :: else -> break
        od
    }
}
#define DETAIL_GRANT(v, h) (!nog[2 * (v) + (h)] && M(known[v], h) == inc[h])
#define DETAIL_VOTER(v) :: known[v] < chosen -> voter_learn(v); done()
#else
#define DETAIL_GRANT(v, h) true
#define DETAIL_VOTER(v)
#endif

/* LIVE asks whether a view that a voter has begun to accept is always decided, although the hosts
 * never stop asking for grants: then a grant only ends where the voter renews it no more, and a
 * step that changes nothing does not count as one. */
#ifndef LIVE
#define LIVE 0
#endif
#ifdef NO_R2
#define REFUSES(v, h) false
#else
#define REFUSES(v, h) (L(v, h) != 0 && P(1, h) != inc[h] && !nog[2 * (v) + (h)])
#endif
#define HAS_EFFECT(v) \
    (chosen == VIEWS || REFUSES(v, 0) || REFUSES(v, 1) || \
        ((L(v, 0) == 0 || P(1, 0) == inc[0]) && (L(v, 1) == 0 || P(1, 1) == inc[1])))
#if LIVE
#define EFFECT(v) && HAS_EFFECT(v)
#define NOT_RENEWED(v, h) && !MAY_GRANT(v, h)
#else
#define EFFECT(v)
#define NOT_RENEWED(v, h)
#endif

#define MAY_GRANT(v, h) (inc[h] <= INCS && ACC(v, h) == inc[h] && DETAIL_GRANT(v, h))

/* ---- hosts -------------------------------------------------------------------------------- */

/* A host that is no longer in the view kills its sessions and comes back as a new incarnation. */
inline learn(x_, skip_)
{
    d_step {
        n = hview[x_] + skip_;
        if
        :: x_ < HOSTS && IN(hview[x_], x_) && !IN(n, x_) ->
            inc[x_ & 1]++;
            L(0, x_) = 0;
            L(1, x_) = 0;
            L(2, x_) = 0;
#if ROUNDS
            sess[x_ & 1] = 0;
            maxe[x_ & 1] = 0;
            base[x_ & 1] = 0;
            racc[x_] = 0;
            rprom[x_] = 0;
            settled[x_] = 0
#endif
        :: else
        fi;
        hview[x_] = n;
#if ROUNDS
        if
        :: x_ < HOSTS && rec[n] -> base[x_ & 1] = n
        :: else
        fi
#endif
    }
}

#if ROUNDS
#if WITNESS
#define MASKS :: quo = 1 :: quo = 2 :: quo = 3 :: quo = 4 :: quo = 5 :: quo = 6
#else
#define MASKS :: quo = 1 :: quo = 2 :: quo = 3
#endif

#define BETTER(x) best = ((quo >> x & 1) && racc[x] > best -> racc[x] : best)
inline best_of_mask()
{
    BETTER(0);
    BETTER(1);
#if WITNESS
    BETTER(2);
#endif
    skip
}

/* The directory of view n from a majority of the group before. What a host answers to SYNC it
 * answers in view n: from then on it accepts nothing in older ones, and that is the seal. */
#ifdef NO_SEAL
#define AT_VIEW(x, n) true
#else
#define AT_VIEW(x, n) (hview[x] == n)
#endif
#define SYNCS(x) \
    (!(quo >> (x) & 1) || (AT_VIEW(x, n) && settled[x] >= n - 1 && ((x) == 2 || \
        (M(n - 1, (x) & 1) != 0 && M(n - 1, (x) & 1) == inc[(x) & 1]))))
#if WITNESS
#define SYNCS2 SYNCS(2)
#else
#define SYNCS2 true
#endif

inline settle_by_sync(x_)
{
    n = hview[x_];
    if
    MASKS
    fi;
    if
    :: COUNT(quo) == MAJORITY(n - 1) && SYNCS(0) && SYNCS(1) && SYNCS2 ->
        d_step {
            best = racc[x_];
            best_of_mask();
            racc[x_] = best;
            rprom[x_] = (best > rprom[x_] -> best : rprom[x_]);
            settled[x_] = n
        }
    :: else
    fi
}

/* The directory of view n from all hosts in it. Their answers may be old: then they lack what has
 * begun in view n since. */
#define ANSWERS(n, h) (M(n, h) == 0 || (M(n, h) == inc[h] && hview[h] == n))
#define INVENTORY(h) \
    if \
    :: M(n, h) != 0 && sess[h] > best && (c0 || VIEW_OF(sess[h]) < n) -> best = sess[h] \
    :: else \
    fi

inline settle_by_inventory(x_)
{
    n = hview[x_];
    if
    :: c0 = 0
    :: c0 = 1
    fi;
    d_step {
        INVENTORY(0);
        INVENTORY(1);
        racc[x_] = best;
        rprom[x_] = best;
        settled[x_] = n
    }
}

/* ---- claims ------------------------------------------------------------------------------- */

#ifdef NO_ASK
#define FINISH(e) false
#else
#define FINISH(e) (M(n, target[e]) != 0 && M(n, target[e]) == M(VIEW_OF(e), target[e]) && !gone[e])
#endif

/* Proposes for ballot e of view n after finding ballot `best`: finishes what it found when that
 * may still run, otherwise makes epoch e for a host of its choice. */
inline claim(e_)
{
    tmp = (best == 0 -> 0 : bval[best]);
    if
    :: tmp != 0 && FINISH(tmp) -> bval[e_] = tmp
    :: else ->
        if
        :: M(n, 0) != 0 -> bval[e_] = e_; target[e_] = 0
        :: M(n, 1) != 0 -> bval[e_] = e_; target[e_] = 1
        :: M(n, 0) == 0 && M(n, 1) == 0
        fi
    fi
}

#ifdef NO_SEAL
#define AT(x, n) (IN(n, x) && settled[x] > 0)
#else
#define AT(x, n) (hview[x] == n && settled[x] == n && IN(n, x))
#endif

/* One round: the first seat knows what was chosen before this view. */
#define FIRST_SEAT(n) (M(n, 0) != 0 -> 0 : 1)
#define MAY_CLAIM_FIRST(h) \
    (hview[h] > 0 && FIRST_SEAT(hview[h]) == h && settled[h] == hview[h] && SERVES(h) && \
        bval[BALLOT(hview[h], 0)] == 0 && rprom[h] < BALLOT(hview[h], 0))
inline claim_first(h_)
{
    n = hview[h_];
    best = racc[h_];
    claim(BALLOT(n, 0))
}

/* Two rounds, by whoever; phase 1 with a majority in one step. */
#define JOINS(x, e) (!(quo >> (x) & 1) || (AT(x, VIEW_OF(e)) && rprom[x] < e))
#if WITNESS
#define JOINS2(e) JOINS(2, e)
#else
#define JOINS2(e) true
#endif
#define MAY_CLAIM(e) \
    ((e - 1) % ROUNDS != 0 && bval[e] == 0 && VIEW_OF(e) <= chosen && \
        ((e - 1) % ROUNDS == 1 || bval[e - 1] != 0))
inline claim_later(e_)
{
    n = VIEW_OF(e_);
    if
    MASKS
    fi;
    if
    :: COUNT(quo) == MAJORITY(n) && JOINS(0, e_) && JOINS(1, e_) && JOINS2(e_) ->
        best_of_mask();
        rprom[0] = (quo & 1 -> e_ : rprom[0]);
        rprom[1] = (quo & 2 -> e_ : rprom[1]);
#if WITNESS
        rprom[2] = (quo & 4 -> e_ : rprom[2]);
#endif
        claim(e_)
    :: else
    fi
}

#define MAY_ACCEPT(x, e) (bval[e] != 0 && AT(x, VIEW_OF(e)) && rprom[x] <= e && racc[x] != e)
inline replica_accept(x_, e_)
{
    d_step {
        n = VIEW_OF(e_);
        rprom[x_] = e_;
        racc[x_] = e_;
        rvotes[e_] = rvotes[e_] | 1 << x_;
        if
        :: bind[bval[e_]] || COUNT(rvotes[e_]) >= MAJORITY(n) -> bind[bval[e_]] = 1; rvotes[e_] = 7
        :: else
        fi
    }
}

#ifdef NO_BASE
#define BASE_ALLOWS(h, e) true
#else
#define BASE_ALLOWS(h, e) (VIEW_OF(e) >= base[h])
#endif
#ifdef NO_EPOCH
#define EPOCH_ALLOWS(h, e) (e != sess[h])
#else
#define EPOCH_ALLOWS(h, e) (e > maxe[h])
#endif
#define MAY_BIND(h, e) \
    (bind[e] && target[e] == h && inc[h] == M(VIEW_OF(e), h) && SERVES(h) && BASE_ALLOWS(h, e) && \
        EPOCH_ALLOWS(h, e))
inline start(h_, e_)
{
    d_step {
#ifndef ONLY_S1
        assert(e_ > last); /* S2: epochs that start rise */
        last = e_;
#endif
        maxe[h_] = (maxe[h_] > e_ -> maxe[h_] : e_);
        sess[h_] = e_
    }
}

/* GONE?(e): yes is a promise. */
#ifdef NO_FENCE
#define FENCE(h, e) maxe[h]
#else
#define FENCE(h, e) (maxe[h] > e -> maxe[h] : e)
#endif
#define MAY_DENY(h, e) \
    (bval[e] == e && target[e] == h && !gone[e] && inc[h] == M(VIEW_OF(e), h) && sess[h] != e)
inline deny(h_, e_)
{
    d_step {
        maxe[h_] = FENCE(h_, e_);
        gone[e_] = 1
    }
}
#endif

/* ---- the system --------------------------------------------------------------------------- */

/* A grant is over at the host first and, always later, at the voter. */
#if DETAIL
#define EACH_LEASE(v, h) \
    :: L(v, h) != 2 && MAY_GRANT(v, h) -> L(v, h) = 2; done() \
    :: L(v, h) == 2 NOT_RENEWED(v, h) -> L(v, h) = 1; done() \
    :: L(v, h) == 1 NOT_RENEWED(v, h) -> L(v, h) = 0; done()
#else
#define EACH_LEASE(v, h) \
    :: L(v, h) == 0 && MAY_GRANT(v, h) -> L(v, h) = 2; done() \
    :: L(v, h) == 2 -> L(v, h) = 0; done()
#endif

#define EACH_VOTER(v) \
    :: MAY_VOTE(v, 1) EFFECT(v) -> vote(v, 1); done() \
    :: BALLOTS > 1 && MAY_VOTE(v, 2) -> vote(v, 2); done() \
    DETAIL_VOTER(v) \
    EACH_LEASE(v, 0) \
    EACH_LEASE(v, 1)

#define EACH_REPLICA(x) \
    :: hview[x] < chosen -> learn(x, 1); done() \
    :: hview[x] + 1 < chosen -> learn(x, 2); done() /* it may miss one */ \
    DIRECTORY(x)

#if ROUNDS
#define DIRECTORY(x) \
    :: settled[x] < hview[x] && IN(hview[x], x) && !rec[hview[x]] -> settle_by_sync(x); done() \
    :: settled[x] < hview[x] && IN(hview[x], x) && rec[hview[x]] && ANSWERS(hview[x], 0) && \
            ANSWERS(hview[x], 1) -> settle_by_inventory(x); done()
#define SESSIONS(h) \
    :: sess[h] != 0 -> sess[h] = 0; done() /* cooldown */ \
    :: MAY_CLAIM_FIRST(h) -> claim_first(h); done()
#else
#define DIRECTORY(x)
#define SESSIONS(h)
#endif

#define ACCEPTS(x, e) :: MAY_ACCEPT(x, e) -> replica_accept(x, e); done()
#define BINDS(h, e) \
    :: MAY_BIND(h, e) -> start(h, e); done() \
    :: MAY_DENY(h, e) -> deny(h, e); done()
#if WITNESS
#define WITNESS_ACCEPTS(e) ACCEPTS(2, e)
#else
#define WITNESS_ACCEPTS(e)
#endif
#define EACH_EPOCH(e) \
    :: MAY_CLAIM(e) -> claim_later(e); done() \
    ACCEPTS(0, e) \
    ACCEPTS(1, e) \
    WITNESS_ACCEPTS(e) \
    BINDS(0, e) \
    BINDS(1, e)

init
{
    d_step {
        inc[0] = 1; inc[1] = 1;
        M(1, 0) = !JOINER; M(1, 1) = 1;
        vnum[0] = 1; vnum[1] = 1; vnum[2] = 1;
        hview[0] = 1; hview[1] = 1;
#if WITNESS
        hview[2] = 1; settled[2] = 1;
#endif
#if ROUNDS
        settled[0] = !JOINER; settled[1] = 1;
#endif
#if DETAIL
        known[0] = 1; known[1] = 1; known[2] = 1;
#endif
    }
#if !LIVE
end: /* all hosts may be gone at last: no step is left, and that is no error */
#endif
    do
    :: atomic {
        if
#if LIVE
        :: chosen == VIEWS -> done()
#endif
        :: MAY_PROPOSE -> propose(); done()
        EACH_VOTER(0)
        EACH_VOTER(1)
        EACH_VOTER(2)
        EACH_REPLICA(0)
        EACH_REPLICA(1)
#if WITNESS
        EACH_REPLICA(2)
#endif
        SESSIONS(0)
        SESSIONS(1)
#if EPOCHS > 0
        EACH_EPOCH(1)
#endif
#if EPOCHS > 1
        EACH_EPOCH(2)
#endif
#if EPOCHS > 2
        EACH_EPOCH(3)
#endif
#if EPOCHS > 3
        EACH_EPOCH(4)
#endif
#if EPOCHS > 4
        EACH_EPOCH(5)
#endif
#if EPOCHS > 5
        EACH_EPOCH(6)
#endif
        fi
    }
    od
}
