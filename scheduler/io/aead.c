#include "scheduler/io/aead.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdlib.h>

#include "proto/base/err.h"

struct sched_aead {
    EVP_CIPHER_CTX *seal, *open;
};

static int derive(const uint8_t ring_key[SCHED_SEAL_KEY_BYTES], uint8_t *info, size_t info_n,
    uint8_t out[SCHED_SEAL_KEY_BYTES])
{
    int rc = BASE_ENOMEM;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)ring_key, SCHED_SEAL_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_n),
        OSSL_PARAM_construct_end(),
    };
    if (ctx != NULL && EVP_KDF_derive(ctx, out, SCHED_SEAL_KEY_BYTES, params) == 1) {
        rc = 0;
    }
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return rc;
}

struct sched_aead *sched_aead_create(const uint8_t ring_key[SCHED_SEAL_KEY_BYTES],
    const uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES], uint64_t sender, uint32_t boot)
{
    uint8_t info[SCHED_SEAL_INFO_BYTES], key[SCHED_SEAL_KEY_BYTES];
    sched_seal_info(info, cluster, sender, boot);
    struct sched_aead *a = calloc(1, sizeof *a);
    if (a == NULL || derive(ring_key, info, sizeof info, key) != 0) {
        free(a);
        return NULL;
    }
    a->seal = EVP_CIPHER_CTX_new();
    a->open = EVP_CIPHER_CTX_new();
    int ok = a->seal != NULL && a->open != NULL &&
             EVP_EncryptInit_ex(a->seal, EVP_aes_256_gcm(), NULL, key, NULL) == 1 &&
             EVP_DecryptInit_ex(a->open, EVP_aes_256_gcm(), NULL, key, NULL) == 1;
    OPENSSL_cleanse(key, sizeof key);
    if (!ok) {
        sched_aead_destroy(a);
        return NULL;
    }
    return a;
}

void sched_aead_destroy(struct sched_aead *a)
{
    if (a != NULL) {
        EVP_CIPHER_CTX_free(a->seal);
        EVP_CIPHER_CTX_free(a->open);
        free(a);
    }
}

int sched_aead_seal(struct sched_aead *a, const struct sched_seal_head *h, uint64_t receiver,
    const uint8_t *body, size_t n, uint8_t *out)
{
    uint8_t nonce[SCHED_SEAL_NONCE_BYTES], aad[SCHED_SEAL_AAD_BYTES];
    uint8_t *sealed = out + SCHED_SEAL_HEAD_BYTES;
    int len = 0;
    sched_seal_nonce(nonce, h->counter);
    sched_seal_aad(aad, h, receiver);
    sched_seal_head_put(out, h);
    if (EVP_EncryptInit_ex(a->seal, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(a->seal, NULL, &len, aad, sizeof aad) != 1 ||
        EVP_EncryptUpdate(a->seal, sealed, &len, body, (int)n) != 1 ||
        EVP_EncryptFinal_ex(a->seal, sealed + len, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_AEAD_GET_TAG, SCHED_SEAL_TAG_BYTES, sealed + n) !=
            1) {
        return BASE_ENOMEM;
    }
    return 0;
}

int sched_aead_open(struct sched_aead *a, const struct sched_seal_head *h, uint64_t receiver,
    const uint8_t *bytes, size_t n, uint8_t *out)
{
    if (n < SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES) {
        return BASE_EDENIED;
    }
    uint8_t nonce[SCHED_SEAL_NONCE_BYTES], aad[SCHED_SEAL_AAD_BYTES], tag[SCHED_SEAL_TAG_BYTES];
    const uint8_t *sealed = bytes + SCHED_SEAL_HEAD_BYTES;
    size_t body = n - SCHED_SEAL_HEAD_BYTES - SCHED_SEAL_TAG_BYTES;
    int len = 0, more = 0;
    for (unsigned i = 0; i < SCHED_SEAL_TAG_BYTES; i++) {
        tag[i] = sealed[body + i];
    }
    sched_seal_nonce(nonce, h->counter);
    sched_seal_aad(aad, h, receiver);
    if (EVP_DecryptInit_ex(a->open, NULL, NULL, NULL, nonce) != 1 ||
        EVP_DecryptUpdate(a->open, NULL, &len, aad, sizeof aad) != 1 ||
        EVP_DecryptUpdate(a->open, out, &len, sealed, (int)body) != 1 ||
        EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_AEAD_SET_TAG, SCHED_SEAL_TAG_BYTES, tag) != 1 ||
        EVP_DecryptFinal_ex(a->open, out + len, &more) != 1) {
        return BASE_EDENIED;
    }
    return 0;
}
