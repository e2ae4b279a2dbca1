#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The catalogue of a cluster: one document, a list of entries sorted by key. What a value means is
 * the shells' business; the numbers that the cores need of a pool stand beside it. Packed, as it is
 * stored and sent; little-endian:
 *
 *   u8 length of the key, key, u64 version, u32 pool, u32 max, u32 ready, u32 length, value
 *
 * The document's version grows by one with every change; an entry has the version it was changed
 * in.
 *
 * The entry "." is the document's own: its value is text, 16 hex digits that were drawn when it was
 * born, and 32 for each of its last changes, the oldest first: the change's id, and the version it
 * made. So one that comes again, from who heard no answer, is known; and a document that is no
 * later one of another is told from it. */

enum {
    SCHED_CAT_BYTES_MAX = 256 << 10,
    SCHED_CAT_VALUE_MAX = 16 << 10,
    SCHED_CAT_KEY_MAX = 200,
    SCHED_CAT_ENTRIES_MAX = 512,
    SCHED_CAT_POOLS_MAX = 64, /* entries with a pool's number */
    SCHED_CAT_MADE_MAX = 64,  /* changes that are remembered */
};

#define SCHED_CAT_ANY UINT64_MAX /* as the expected version of an entry */

struct sched_cat_entry {
    const char *key; /* a-z 0-9 . _ / -, no end */
    uint32_t key_n;
    uint64_t version;
    uint32_t pool; /* number of the pool's name; 0: it is not a pool */
    uint32_t max, ready;
    const uint8_t *value;
    uint32_t value_n;
};

struct sched_cat_doc {
    uint64_t version;
    uint32_t n; /* bytes */
    const uint8_t *bytes;
};

/* The entry at *at, which then is behind it. False at the end, and where the bytes are no document.
 */
bool sched_cat_next(const struct sched_cat_doc *d, uint32_t *at, struct sched_cat_entry *ret);

/* Is it one, within all limits? What comes from outside is looked at once. */
bool sched_cat_valid(const struct sched_cat_doc *d);

bool sched_cat_key_valid(const char *key, uint32_t n);

enum sched_cat_result {
    SCHED_CAT_OK,
    SCHED_CAT_CONFLICT,  /* the entry has another version, or is there already */
    SCHED_CAT_NOT_FOUND, /* nothing to erase */
    SCHED_CAT_FULL,
    SCHED_CAT_INVALID, /* key or value, or another pool has this number */
    SCHED_CAT_LATER,   /* ask again, or another voter */
    SCHED_CAT_RESULTS
};

struct sched_cat_change {
    uint64_t expect; /* version of the entry, 0: there is none, SCHED_CAT_ANY */
    bool erase;
    struct sched_cat_entry entry;
    uint64_t id;    /* of nobody's other change; 0: it is not remembered */
    uint64_t birth; /* of a document that has none */
};

/* Is it the document's own entry? */
bool sched_cat_own(const struct sched_cat_entry *e);

/* What was drawn when it was born; 0: it is older than that, or has nothing yet. And what its own
 * entry has of it. */
uint64_t sched_cat_birth(const struct sched_cat_doc *d);
uint64_t sched_cat_birth_in(const struct sched_cat_entry *e);

/* The version that the change with this id has made; 0: it is not known to be made. */
uint64_t sched_cat_made(const struct sched_cat_doc *d, uint64_t id);

/* The version of the entry; 0: there is none. */
uint64_t sched_cat_version(const struct sched_cat_doc *d, const char *key, uint32_t key_n);

/* The document with the change made, packed into `to` (SCHED_CAT_BYTES_MAX, elsewhere). *ret_n is
 * its length. Only OK has written anything. A change that there is no room to remember is made all
 * the same. */
enum sched_cat_result sched_cat_apply(const struct sched_cat_doc *d,
    const struct sched_cat_change *change, uint8_t *to, uint32_t *ret_n);

/* ---- messages ---- */

struct sched_m_cset {
    uint64_t op; /* of the sender */
    struct sched_cat_change change;
};

struct sched_m_csetr {
    uint64_t op;
    uint8_t result;   /* enum sched_cat_result */
    uint64_t version; /* OK, CONFLICT: of the entry; 0: there is none, or it is not known */
};

struct sched_m_cget {
    uint64_t version;
};

/* Between voters: the register of the catalogue. */
struct sched_m_creg {
    uint64_t ballot;             /* of the request. CASK, CTELL: nonce of the question */
    uint64_t promised, accepted; /* CNACK, CPROM, CTELL */
    struct sched_cat_doc doc;    /* CPROM, CTELL: what was accepted. CACC */
};
