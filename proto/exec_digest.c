#include "proto/exec_digest.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/err.h"

static bool add(EVP_MD_CTX *c, const void *p, size_t n)
{
    return n == 0 || EVP_DigestUpdate(c, p, n) == 1;
}

static bool add_number(EVP_MD_CTX *c, uint64_t v)
{
    uint8_t le[8];
    for (size_t i = 0; i < sizeof le; i++) {
        le[i] = (uint8_t)(v >> (8 * i));
    }
    return add(c, le, sizeof le);
}

/* With its length before it: "ab", "c" is not "a", "bc". */
static bool add_bytes(EVP_MD_CTX *c, const void *p, size_t n)
{
    return add_number(c, n) && add(c, p, n);
}

static bool add_all(EVP_MD_CTX *c, const Warren__Exec *q)
{
    bool good = add_number(c, q->kernel) && add_number(c, q->fresh_kernel ? 1 : 0) &&
                add_number(c, q->timeout_ms != 0 ? q->timeout_ms : PROTO_TIMEOUT_MS_DEFAULT) &&
                add_bytes(c, q->code.data, q->code.len) && add_number(c, q->n_argv);
    for (size_t i = 0; good && i < q->n_argv; i++) {
        good = add_bytes(c, q->argv[i], strlen(q->argv[i]));
    }
    return good;
}

int proto_exec_digest(const Warren__Exec *q, uint8_t ret[PROTO_EXEC_DIGEST_BYTES])
{
    uint8_t all[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = c != NULL && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 && add_all(c, q) &&
                EVP_DigestFinal_ex(c, all, NULL) == 1;
    EVP_MD_CTX_free(c);
    if (!good) {
        return BASE_ENOMEM;
    }
    memcpy(ret, all, PROTO_EXEC_DIGEST_BYTES);
    return 0;
}
