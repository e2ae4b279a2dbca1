#include <string.h>

#include "proto/base/container.h"
#include "proto/base/text.h"
#include "proto/exec_digest.h"
#include "proto/limits.h"
#include "tests/lib/check.h"

static char ls[] = "ls", l[] = "-l", ab[] = "a b", lab[] = "-la b";
static char *words[] = {ls, l, ab}, *joined[] = {ls, lab};

static Warren__Exec ask(const char *code)
{
    Warren__Exec q = WARREN__EXEC__INIT;
    q.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    q.code.data = (uint8_t *)(uintptr_t)code;
    q.code.len = strlen(code);
    return q;
}

static Warren__Exec command(char **argv, size_t n)
{
    Warren__Exec q = ask("");
    q.kernel = WARREN__KERNEL__KERNEL_SHELL;
    q.argv = argv;
    q.n_argv = n;
    return q;
}

static bool same(const Warren__Exec *a, const Warren__Exec *b)
{
    uint8_t da[PROTO_EXEC_DIGEST_BYTES], db[PROTO_EXEC_DIGEST_BYTES];
    CHECK_EQ(proto_exec_digest(a, da), 0);
    CHECK_EQ(proto_exec_digest(b, db), 0);
    return memcmp(da, db, sizeof da) == 0;
}

TEST(what_decides_what_runs_makes_another_digest)
{
    Warren__Exec all[] = {ask("1 + 1"), ask("1 + 2"), ask("1 + 1 "), ask("1 + 1"), ask("1 + 1"),
        ask("1 + 1"), command(words, 3), command(words, 2), command(joined, 2), command(words, 1),
        ask("ls")};
    all[3].kernel = WARREN__KERNEL__KERNEL_NODE;
    all[4].timeout_ms = PROTO_TIMEOUT_MS_DEFAULT + 1000;
    all[5].fresh_kernel = true;
    all[10].kernel = WARREN__KERNEL__KERNEL_SHELL;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            CHECK_EQ(same(&all[i], &all[k]), i == k);
        }
    }
}

TEST(how_it_is_told_and_who_asks_do_not_count)
{
    static uint8_t id[PROTO_EXEC_ID_BYTES] = {7};
    Warren__Exec a = ask("1 + 1"), b = ask("1 + 1");
    b.id = (ProtobufCBinaryData){.data = id, .len = sizeof id};
    b.timeout_ms = PROTO_TIMEOUT_MS_DEFAULT; /* what is meant without one */
    b.stdout_max = 10;
    b.stderr_max = 20;
    b.detach = b.given = true;
    CHECK(same(&a, &b));
}

/* Rows of workers that were stopped have it. */
TEST(the_digest_is_that_of_other_builds)
{
    uint8_t digest[PROTO_EXEC_DIGEST_BYTES];
    char text[2 * sizeof digest + 1];
    Warren__Exec q = command(words, 3);
    CHECK_EQ(proto_exec_digest(&q, digest), 0);
    base_text_hex(digest, sizeof digest, text);
    CHECK_STR(text, "122a3cad57a746c05660ad73219104b0");
    q = ask("1 + 1");
    CHECK_EQ(proto_exec_digest(&q, digest), 0);
    base_text_hex(digest, sizeof digest, text);
    CHECK_STR(text, "fb9d7bf7bb889e92b6466e9a9d014a5f");
}
