/* What voters' answers about the catalogue mean. */
#include "gateway/cli/catalog.h"

#include <string.h>

#include "tests/lib/check.h"

TEST(a_conflict_tells_the_version_that_there_is)
{
    static const struct {
        const char *answer;
        json_int_t expect;
        int rc;
        const char *text;
    } all[] = {
        {"{\"result\":\"ok\",\"version\":8}", 7, 0, ""},
        {"{\"result\":\"conflict\",\"version\":7}", 5, BASE_ESTATE,
            "pool/a: is at version 7, not 5"},
        {"{\"result\":\"conflict\",\"version\":7}", 0, BASE_ESTATE,
            "pool/a: is there, at version 7"},
        {"{\"result\":\"conflict\",\"version\":0}", 5, BASE_ESTATE,
            "pool/a: was changed or deleted by somebody else"},
        {"{\"result\":\"version\",\"error\":\"the cluster is at version 2; v3 holds it back\"}", 0,
            BASE_EDENIED, "the cluster is at version 2; v3 holds it back"},
        {"{\"result\":\"full\"}", 0, BASE_EFULL, "pool/a: the catalogue is full"},
        {"{\"result\":\"invalid\",\"error\":\"why\"}", 0, BASE_EINVAL, "pool/a: why"},
        {"{\"result\":\"not-found\"}", 0, BASE_ENOTFOUND, "pool/a: is not there"},
        {"{\"result\":\"later\"}", 0, BASE_EAGAIN, "pool/a: the voters do not agree"},
        {"{}", 0, BASE_EAGAIN, "pool/a: the voters do not agree"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct base_error err = {0};
        const struct cli_catalog_change change = {.key = "pool/a", .expect = all[i].expect};
        json_t *answer = json_loads(all[i].answer, 0, NULL);
        CHECK_EQ(cli_catalog_judge(answer, &change, &err), all[i].rc);
        CHECK_STR(err.text, all[i].text);
        json_decref(answer);
    }
}
