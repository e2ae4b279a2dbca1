#include "gateway/keys/mcp_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

enum {
    SALT = 16,
    HASH = 32,
    RAW = 32, /* bytes of a key; it is shown in hexadecimal */
    IV = 12,
    TAG = 16,
    SEALED = IV + RAW + TAG,
    FILE_MAX = 1024,
    CACHED = 64,
    PATH_CHARS_MAX = 4096,
};

struct slot {
    uint8_t salt[SALT], hash[HASH];
    int64_t until_s; /* 0: no end; of a slot that is not used: -1 */
};

struct entry {
    char pool[PROTO_POOL_NAME_MAX + 1];
    struct timespec changed; /* of the file that was read */
    ino_t inode;
    struct slot now, old;
    uint8_t sealed[SEALED];
    uint64_t used;
};

struct gw_mcp_keys {
    char *folder;
    uint8_t seal[HASH];
    struct entry cache[CACHED];
    uint64_t turn;
};

/* ---- cryptography ---- */

static bool hash_of(const uint8_t salt[SALT], const char *key, uint8_t ret[HASH])
{
    /* One round is enough: the key is 256 random bits, there is nothing to guess. */
    uint8_t text[SALT + GW_MCP_KEY_CHARS];
    memcpy(text, salt, SALT);
    memcpy(text + SALT, key, GW_MCP_KEY_CHARS);
    return EVP_Digest(text, sizeof text, ret, NULL, EVP_sha256(), NULL) == 1;
}

/* Between raw and sealed, which is IV, RAW bytes and TAG. The pool's name is bound in. */
static bool cipher(const uint8_t seal[HASH], bool encrypt, const char *pool, uint8_t sealed[SEALED],
    uint8_t raw[RAW])
{
    int n = 0;
    uint8_t *text = sealed + IV, *tag = text + RAW;
    const uint8_t *in = encrypt ? raw : text;
    uint8_t *out = encrypt ? text : raw, end[TAG];
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = c != NULL &&
              EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, seal, sealed, encrypt) == 1 &&
              EVP_CipherUpdate(c, NULL, &n, (const uint8_t *)pool, (int)strlen(pool)) == 1 &&
              EVP_CipherUpdate(c, out, &n, in, RAW) == 1;
    ok = ok && (encrypt || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1);
    ok = ok && EVP_CipherFinal_ex(c, end, &n) == 1;
    ok = ok && (!encrypt || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1);
    EVP_CIPHER_CTX_free(c);
    return ok;
}

/* ---- files ---- */

static int path_of(
    const struct gw_mcp_keys *k, const char *name, const char *end, char path[PATH_CHARS_MAX])
{
    int n = snprintf(path, PATH_CHARS_MAX, "%s/%s%s", k->folder, name, end);
    return n < PATH_CHARS_MAX ? 0 : BASE_ETOOBIG;
}

static bool parse_slot(const char *line, const char *word, struct slot *s)
{
    char salt[2 * SALT + 1], hash[2 * HASH + 1], name[16], until[21], *end;
    if (line == NULL || sscanf(line, "%15s %32s %64s %20s", name, salt, hash, until) != 4) {
        return false;
    }
    s->until_s = strtoll(until, &end, 10);
    return *end == '\0' && strcmp(name, word) == 0 && base_text_unhex(salt, s->salt, SALT) &&
           base_text_unhex(hash, s->hash, HASH);
}

static bool parse(char *text, struct entry *e)
{
    char *save = NULL, sealed[2 * SEALED + 1];
    const char *head = strtok_r(text, "\n", &save);
    return head != NULL && strcmp(head, "warren-mcp-key 1") == 0 &&
           parse_slot(strtok_r(NULL, "\n", &save), "now", &e->now) &&
           parse_slot(strtok_r(NULL, "\n", &save), "old", &e->old) &&
           sscanf(save == NULL ? "" : save, "sealed %120s", sealed) == 1 &&
           base_text_unhex(sealed, e->sealed, SEALED);
}

static int read_file(const char *path, struct entry *e, struct base_error *err)
{
    char text[FILE_MAX + 1];
    struct stat st;
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = errno == ENOENT ? BASE_ENOTFOUND : -errno;
        return base_fail(err, rc, "read '%.120s': %s", path, strerror(errno));
    }
    ssize_t n = read(fd, text, FILE_MAX);
    text[n > 0 ? n : 0] = '\0';
    if (n <= 0 || !parse(text, e)) {
        return base_fail(err, BASE_ECORRUPT, "'%.120s' is damaged", path);
    }
    e->changed = st.st_mtim;
    e->inode = st.st_ino;
    return 0;
}

static int print_slot(char *to, size_t cap, const char *word, const struct slot *s)
{
    char salt[2 * SALT + 1], hash[2 * HASH + 1];
    base_text_hex(s->salt, SALT, salt);
    base_text_hex(s->hash, HASH, hash);
    return snprintf(to, cap, "%s %s %s %lld\n", word, salt, hash, (long long)s->until_s);
}

/* In one step: a reader sees the old or the new file. */
static int write_file(
    const struct gw_mcp_keys *k, const char *path, const struct entry *e, struct base_error *err)
{
    char part[PATH_CHARS_MAX], text[FILE_MAX], sealed[2 * SEALED + 1];
    int n = snprintf(text, sizeof text, "warren-mcp-key 1\n");
    n += print_slot(text + n, sizeof text - (size_t)n, "now", &e->now);
    n += print_slot(text + n, sizeof text - (size_t)n, "old", &e->old);
    base_text_hex(e->sealed, SEALED, sealed);
    n += snprintf(text + n, sizeof text - (size_t)n, "sealed %s\n", sealed);
    int rc = path_of(k, e->pool, ".mcp-key.new", part);
    if (rc < 0) {
        return base_fail(err, rc, "the path of the key folder is too long");
    }
    CLEANUP(base_closep)
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, text, (size_t)n) != n || fsync(fd) != 0 || rename(part, path) != 0) {
        return base_fail(
            err, errno == 0 ? -EIO : -errno, "write '%.120s': %s", path, strerror(errno));
    }
    return 0;
}

/* ---- keys ---- */

/* The pool's entry, or the one that is to make room for it once its file was read. */
static struct entry *cached(struct gw_mcp_keys *k, const char *pool)
{
    struct entry *oldest = &k->cache[0];
    for (int i = 0; i < CACHED; i++) {
        struct entry *e = &k->cache[i];
        if (strcmp(e->pool, pool) == 0) {
            return e;
        }
        oldest = e->used < oldest->used ? e : oldest;
    }
    return oldest;
}

/* The pool's file as it is now; read only when it has changed. */
static const struct entry *look(struct gw_mcp_keys *k, const char *pool)
{
    char path[PATH_CHARS_MAX];
    struct stat st;
    struct entry *e = cached(k, pool), fresh = {0};
    if (path_of(k, pool, ".mcp-key", path) < 0 || lstat(path, &st) != 0) {
        return NULL;
    }
    bool same = strcmp(e->pool, pool) == 0 && e->inode == st.st_ino &&
                memcmp(&e->changed, &st.st_mtim, sizeof st.st_mtim) == 0;
    if (!same) {
        if (read_file(path, &fresh, NULL) < 0) {
            return NULL;
        }
        (void)base_text_copy(fresh.pool, sizeof fresh.pool, pool);
        *e = fresh;
    }
    e->used = ++k->turn;
    return e;
}

static bool slot_takes(const struct slot *s, const char *key, int64_t now_s)
{
    uint8_t hash[HASH];
    bool same = hash_of(s->salt, key, hash) && CRYPTO_memcmp(hash, s->hash, HASH) == 0;
    bool live = s->until_s == 0 || now_s < s->until_s;
    return same && live;
}

bool gw_mcp_keys_check(struct gw_mcp_keys *k, const char *pool, const char *key, int64_t now_s)
{
    static const struct entry nothing = {.now = {.until_s = -1}, .old = {.until_s = -1}};
    char text[GW_MCP_KEY_CHARS + 1] = "";
    bool length = strlen(key) == GW_MCP_KEY_CHARS;
    memcpy(text, key, length ? GW_MCP_KEY_CHARS : 0);
    const struct entry *e = look(k, pool);
    e = e == NULL ? &nothing : e;
    bool now = slot_takes(&e->now, text, now_s), old = slot_takes(&e->old, text, now_s);
    return length && (now || old);
}

static int make(
    struct entry *e, const uint8_t seal[HASH], int64_t now_s, char key[GW_MCP_KEY_CHARS + 1])
{
    uint8_t raw[RAW];
    bool first = e->pool[0] == '\0' || e->now.until_s < 0;
    e->old = e->now;
    e->old.until_s = first ? -1 : now_s + GW_MCP_KEY_OLD_S;
    base_rand_bytes(raw, sizeof raw);
    base_rand_bytes(e->now.salt, SALT);
    base_rand_bytes(e->sealed, IV);
    e->now.until_s = 0;
    base_text_hex(raw, sizeof raw, key);
    bool ok = hash_of(e->now.salt, key, e->now.hash) && cipher(seal, true, e->pool, e->sealed, raw);
    OPENSSL_cleanse(raw, sizeof raw);
    return ok ? 0 : BASE_ENOMEM;
}

static int unseal(struct entry *e, const uint8_t seal[HASH], char key[GW_MCP_KEY_CHARS + 1])
{
    uint8_t raw[RAW];
    bool ok = cipher(seal, false, e->pool, e->sealed, raw);
    base_text_hex(raw, ok ? RAW : 0, key);
    OPENSSL_cleanse(raw, sizeof raw);
    return ok && slot_takes(&e->now, key, 0) ? 0 : BASE_ECORRUPT;
}

/* Gateways and the command line take turns. */
static int lock(const struct gw_mcp_keys *k, int *ret_fd, struct base_error *err)
{
    char path[PATH_CHARS_MAX];
    if (mkdir(k->folder, 0700) != 0 && errno != EEXIST) {
        return base_fail(err, -errno, "make '%.120s': %s", k->folder, strerror(errno));
    }
    int rc = path_of(k, "lock", "", path);
    CLEANUP(base_closep) int fd = rc < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        return base_fail(err, rc < 0 ? rc : -errno, "lock '%.120s': %s", path, strerror(errno));
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int gw_mcp_keys_fetch(struct gw_mcp_keys *k, const char *pool, bool rotate, int64_t now_s,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    char path[PATH_CHARS_MAX];
    struct entry e = {.now = {.until_s = -1}};
    CLEANUP(base_closep) int fd = -1;
    int rc = path_of(k, pool, ".mcp-key", path);
    if (rc < 0) {
        return base_fail(err, rc, "the path of the key folder is too long");
    }
    rc = rotate ? BASE_ENOTFOUND : read_file(path, &e, err); /* only who writes needs the lock */
    if (rc == BASE_ENOTFOUND) {
        rc = lock(k, &fd, err);
        if (rc < 0) {
            return rc;
        }
        rc = read_file(path, &e, err); /* somebody may have been faster */
    }
    (void)base_text_copy(e.pool, sizeof e.pool, pool);
    if (rc == BASE_ECORRUPT && rotate) { /* what cannot be read is not kept */
        e.now.until_s = -1;
    } else if (rc < 0 && rc != BASE_ENOTFOUND) {
        return rc;
    }
    if (rc == 0 && !rotate) {
        rc = unseal(&e, k->seal, ret);
        return rc == 0 ? 0
                       : base_fail(err, rc,
                             "the key of pool '%s' cannot be opened: was the cluster key changed? "
                             "Rotate it",
                             pool);
    }
    rc = make(&e, k->seal, now_s, ret);
    return rc < 0 ? base_fail(err, rc, "make a key") : write_file(k, path, &e, err);
}

/* ---- life ---- */

int gw_mcp_keys_create(struct gw_mcp_keys **ret, const char *folder, const uint8_t cluster_key[16],
    struct base_error *err)
{
    static const char purpose[] = "warren mcp key seal 1";
    unsigned n = 0;
    struct gw_mcp_keys *k = calloc(1, sizeof *k);
    if (k != NULL) {
        k->folder = strdup(folder);
    }
    if (k == NULL || k->folder == NULL ||
        HMAC(EVP_sha256(), cluster_key, 16, (const uint8_t *)purpose, sizeof purpose - 1, k->seal,
            &n) == NULL) {
        gw_mcp_keys_destroy(k);
        return base_fail(err, BASE_ENOMEM, "open the MCP keys");
    }
    *ret = k;
    return 0;
}

void gw_mcp_keys_destroy(struct gw_mcp_keys *k)
{
    if (k != NULL) {
        OPENSSL_cleanse(k->seal, sizeof k->seal);
        free(k->folder);
        free(k);
    }
}
