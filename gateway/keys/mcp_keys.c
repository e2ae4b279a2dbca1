#include "gateway/keys/mcp_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/text.h"

enum { CACHED = 64, PATH_CHARS_MAX = 4096 };

struct entry {
    char pool[PROTO_POOL_NAME_MAX + 1];
    struct timespec changed; /* of the file that was read */
    ino_t inode;
    char text[GW_MCP_KEY_TEXT_MAX];
    size_t n;
    uint64_t used;
};

struct gw_mcp_keys {
    char *folder;
    struct gw_mcp_seal seal;
    struct entry cache[CACHED];
    uint64_t turn;
};

/* ---- files ---- */

static int path_of(
    const struct gw_mcp_keys *k, const char *name, const char *end, char path[PATH_CHARS_MAX])
{
    int n = snprintf(path, PATH_CHARS_MAX, "%s/%s%s", k->folder, name, end);
    return n < PATH_CHARS_MAX ? 0 : BASE_ETOOBIG;
}

static int read_file(const char *path, struct entry *e, struct base_error *err)
{
    struct stat st;
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = errno == ENOENT ? BASE_ENOTFOUND : -errno;
        return base_fail(err, rc, "read '%.120s': %s", path, strerror(errno));
    }
    ssize_t n = read(fd, e->text, sizeof e->text);
    e->n = n > 0 ? (size_t)n : 0;
    if (!gw_mcp_text_valid((struct gw_mcp_text){e->text, e->n})) {
        return base_fail(err, BASE_ECORRUPT, "'%.120s' is damaged", path);
    }
    e->changed = st.st_mtim;
    e->inode = st.st_ino;
    return 0;
}

/* In one step: a reader sees the old or the new file. */
static int write_file(const struct gw_mcp_keys *k, const char *path, const char *pool,
    const char *text, struct base_error *err)
{
    char part[PATH_CHARS_MAX];
    ssize_t n = (ssize_t)strlen(text);
    int rc = path_of(k, pool, ".mcp-key.new", part);
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

struct gw_mcp_text gw_mcp_keys_text(struct gw_mcp_keys *k, const char *pool)
{
    const struct entry *e = look(k, pool);
    return (struct gw_mcp_text){e == NULL ? NULL : e->text, e == NULL ? 0 : e->n};
}

bool gw_mcp_keys_check(struct gw_mcp_keys *k, const char *pool, const char *key, int64_t now_s)
{
    return gw_mcp_key_check(gw_mcp_keys_text(k, pool), key, now_s);
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
    struct entry e = {.n = 0};
    struct gw_mcp_made made;
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
    bool damaged = rc == BASE_ECORRUPT;
    if (rc < 0 && rc != BASE_ENOTFOUND && !(damaged && rotate)) {
        return rc;
    }
    struct gw_mcp_text text = {rc == 0 ? e.text : NULL, e.n};
    if (rc == 0 && !rotate) {
        rc = gw_mcp_key_open(&k->seal, pool, text, ret);
        return rc == 0 ? 0
                       : base_fail(err, rc,
                             "the key of pool '%s' cannot be opened: was the cluster key changed? "
                             "Rotate it",
                             pool);
    }
    rc = gw_mcp_key_make(&k->seal, pool, text, now_s, &made);
    if (rc == 0) {
        (void)base_text_copy(ret, GW_MCP_KEY_CHARS + 1, made.key);
        rc = write_file(k, path, pool, made.text, err);
    } else {
        (void)base_fail(err, rc, "make a key");
    }
    OPENSSL_cleanse(made.key, sizeof made.key);
    return rc;
}

/* ---- life ---- */

int gw_mcp_keys_create(struct gw_mcp_keys **ret, const char *folder, const uint8_t cluster_key[16],
    struct base_error *err)
{
    struct gw_mcp_keys *k = calloc(1, sizeof *k);
    if (k != NULL) {
        k->folder = strdup(folder);
    }
    if (k == NULL || k->folder == NULL || gw_mcp_seal_of(&k->seal, cluster_key) != 0) {
        gw_mcp_keys_destroy(k);
        return base_fail(err, BASE_ENOMEM, "open the MCP keys");
    }
    *ret = k;
    return 0;
}

void gw_mcp_keys_destroy(struct gw_mcp_keys *k)
{
    if (k != NULL) {
        OPENSSL_cleanse(&k->seal, sizeof k->seal);
        free(k->folder);
        free(k);
    }
}
