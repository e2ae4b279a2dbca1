#include "gateway/keys/mcp_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/rand.h"
#include "proto/base/text.h"

enum {
    SALT = 16,
    HASH = 32,
    RAW = 32, /* bytes of a key; it is shown in hexadecimal */
    IV = 12,
    TAG = 16,
    SEALED = IV + RAW + TAG,
};

struct slot {
    uint8_t salt[SALT], hash[HASH];
    int64_t until_s; /* 0: no end; of a slot that is not used: -1 */
};

struct entry {
    struct slot now, old;
    uint8_t sealed[SEALED];
};

static const struct entry nothing = {.now = {.until_s = -1}, .old = {.until_s = -1}};

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

/* ---- text ---- */

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

static bool read_text(struct gw_mcp_text text, struct entry *e)
{
    char copy[GW_MCP_KEY_TEXT_MAX];
    if (text.text == NULL || text.n >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.text, text.n);
    copy[text.n] = '\0';
    return parse(copy, e);
}

static int print_slot(char *to, size_t cap, const char *word, const struct slot *s)
{
    char salt[2 * SALT + 1], hash[2 * HASH + 1];
    base_text_hex(s->salt, SALT, salt);
    base_text_hex(s->hash, HASH, hash);
    return snprintf(to, cap, "%s %s %s %lld\n", word, salt, hash, (long long)s->until_s);
}

static void print(const struct entry *e, char text[GW_MCP_KEY_TEXT_MAX])
{
    char sealed[2 * SEALED + 1];
    int n = snprintf(text, GW_MCP_KEY_TEXT_MAX, "warren-mcp-key 1\n");
    n += print_slot(text + n, GW_MCP_KEY_TEXT_MAX - (size_t)n, "now", &e->now);
    n += print_slot(text + n, GW_MCP_KEY_TEXT_MAX - (size_t)n, "old", &e->old);
    base_text_hex(e->sealed, SEALED, sealed);
    (void)snprintf(text + n, GW_MCP_KEY_TEXT_MAX - (size_t)n, "sealed %s\n", sealed);
}

/* ---- keys ---- */

static bool slot_takes(const struct slot *s, const char *key, int64_t now_s)
{
    uint8_t hash[HASH];
    bool same = hash_of(s->salt, key, hash) && CRYPTO_memcmp(hash, s->hash, HASH) == 0;
    bool live = s->until_s == 0 || now_s < s->until_s;
    return same && live;
}

bool gw_mcp_text_valid(struct gw_mcp_text text)
{
    struct entry e;
    return read_text(text, &e);
}

bool gw_mcp_key_check(struct gw_mcp_text text, const char *key, int64_t now_s)
{
    struct entry e = {0};
    char given[GW_MCP_KEY_CHARS + 1] = "";
    bool length = strlen(key) == GW_MCP_KEY_CHARS;
    memcpy(given, key, length ? GW_MCP_KEY_CHARS : 0);
    e = read_text(text, &e) ? e : nothing;
    bool now = slot_takes(&e.now, given, now_s), old = slot_takes(&e.old, given, now_s);
    return length && (now || old);
}

int gw_mcp_key_open(const struct gw_mcp_seal *seal, const char *pool, struct gw_mcp_text text,
    char ret[GW_MCP_KEY_CHARS + 1])
{
    struct entry e;
    uint8_t raw[RAW];
    if (!read_text(text, &e)) {
        return BASE_ECORRUPT;
    }
    bool ok = cipher(seal->key, false, pool, e.sealed, raw);
    base_text_hex(raw, ok ? RAW : 0, ret);
    OPENSSL_cleanse(raw, sizeof raw);
    return ok && slot_takes(&e.now, ret, 0) ? 0 : BASE_ECORRUPT;
}

int gw_mcp_key_make(const struct gw_mcp_seal *seal, const char *pool, struct gw_mcp_text before,
    int64_t now_s, struct gw_mcp_made *ret)
{
    struct entry e;
    uint8_t raw[RAW];
    e = read_text(before, &e) ? e : nothing;
    e.old = e.now;
    e.old.until_s = e.now.until_s < 0 ? -1 : now_s + GW_MCP_KEY_OLD_S;
    base_rand_bytes(raw, sizeof raw);
    base_rand_bytes(e.now.salt, SALT);
    base_rand_bytes(e.sealed, IV);
    e.now.until_s = 0;
    base_text_hex(raw, sizeof raw, ret->key);
    bool ok =
        hash_of(e.now.salt, ret->key, e.now.hash) && cipher(seal->key, true, pool, e.sealed, raw);
    OPENSSL_cleanse(raw, sizeof raw);
    print(&e, ret->text);
    return ok ? 0 : BASE_ENOMEM;
}

int gw_mcp_key_reseal(const struct gw_mcp_seal *from, const struct gw_mcp_seal *to,
    const char *pool, struct gw_mcp_text text, struct gw_mcp_made *ret)
{
    struct entry e;
    uint8_t raw[RAW];
    int rc = gw_mcp_key_open(from, pool, text, ret->key);
    if (rc != 0 || !read_text(text, &e) || !base_text_unhex(ret->key, raw, RAW)) {
        return rc != 0 ? rc : BASE_ECORRUPT;
    }
    base_rand_bytes(e.sealed, IV);
    bool ok = cipher(to->key, true, pool, e.sealed, raw);
    OPENSSL_cleanse(raw, sizeof raw);
    print(&e, ret->text);
    return ok ? 0 : BASE_ENOMEM;
}

int gw_mcp_seal_of(struct gw_mcp_seal *ret, const uint8_t cluster_key[16])
{
    static const char purpose[] = "warren mcp key seal 1";
    unsigned n = 0;
    return HMAC(EVP_sha256(), cluster_key, 16, (const uint8_t *)purpose, sizeof purpose - 1,
               ret->key, &n) != NULL
               ? 0
               : BASE_ENOMEM;
}
