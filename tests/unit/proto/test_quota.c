#include <string.h>

#include "proto/pool/quota.h"
#include "tests/lib/check.h"

static int parse(const char *json, struct proto_quota *q, struct base_error *err)
{
    return proto_quota_parse(json, strlen(json), q, err);
}

TEST(limits_of_all_and_of_one)
{
    struct proto_quota q;
    CHECK_EQ(parse("{\"sessions\":3,\"queuedMib\":7,\"weight\":2}", &q, NULL), 0);
    CHECK(q.sessions == 3 && q.queued_mib == 7 && q.weight == 2 && q.requests == 0);
    CHECK_STR(q.tenant, "");
    CHECK_EQ(parse("{\"issuer\":\"https://a\",\"tenant\":\"b\",\"executions\":1}", &q, NULL), 0);
    CHECK_STR(q.issuer, "https://a");
    CHECK_STR(q.tenant, "b");
    CHECK(q.executions == 1 && q.sessions == 0);
}

TEST(what_is_wrong_is_named)
{
    static const char *const bad[][2] = {{"", "JSON object"}, {"[]", "JSON object"},
        {"{\"issuer\":\"a\"}", "go together"}, {"{\"sessions\":-1}", "sessions: must"},
        {"{\"sessions\":\"1\"}", "sessions: must"}, {"{\"weight\":1001}", "weight: must"},
        {"{\"tenant\":\"\",\"issuer\":\"a\"}", "tenant: must"}, {"{\"sesions\":1}", "sesions: "},
        {"{\"sessions\":1,\"sessions\":2}", "JSON object"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct proto_quota q;
        struct base_error err;
        CHECK_EQ(parse(bad[i][0], &q, &err), BASE_EINVAL);
        CHECK(strstr(err.text, bad[i][1]) != NULL);
    }
}
