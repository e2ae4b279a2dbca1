#include "gateway/cli/place.h"
#include "tests/lib/check.h"

static struct cli_place p;
static struct base_error err;

static int parse(const char *text)
{
    return cli_place_parse(text, NULL, &p, &err);
}

TEST(local_names_are_local)
{
    static const char *const local[] = {
        "data.csv", "./a:b", "../x:y", "/tmp/a:b", "a/b.txt", ".", "..", "x "};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        CHECK_EQ(parse(local[i]), 0);
        CHECK_EQ(p.kind, CLI_PLACE_LOCAL);
        CHECK_STR(p.local, local[i]);
    }
    CHECK_EQ(parse("-"), 0);
    CHECK_EQ(p.kind, CLI_PLACE_STREAM);
    CHECK_EQ(parse(""), BASE_EINVAL);
}

TEST(session_paths_are_below_mnt_data)
{
    static const char *const same[] = {
        "demo-0001:a/b.csv", "demo-0001:/a/b.csv", "demo-0001:/mnt/data/a/b.csv"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        CHECK_EQ(parse(same[i]), 0);
        CHECK_EQ(p.kind, CLI_PLACE_SESSION);
        CHECK_STR(p.identifier, "demo-0001");
        CHECK_STR(p.directory, "a");
        CHECK_STR(p.name, "b.csv");
    }
    CHECK_EQ(parse("demo-0001:/mnt/database"), 0); /* only whole parts are the root */
    CHECK_STR(p.directory, "mnt");
    CHECK_STR(p.name, "database");
}

TEST(a_path_that_ends_with_a_slash_is_a_folder)
{
    static const char *const root[] = {
        "demo-0001:", "demo-0001:/", "demo-0001:/mnt/data", "demo-0001:/mnt/data/"};
    for (size_t i = 0; i < sizeof root / sizeof root[0]; i++) {
        CHECK_EQ(parse(root[i]), 0);
        CHECK_STR(p.directory, "");
        CHECK_STR(p.name, "");
    }
    CHECK_EQ(parse("demo-0001:/a/b/"), 0);
    CHECK_STR(p.directory, "a/b");
    CHECK_STR(p.name, "");
}

TEST(the_last_colon_ends_the_identifier)
{
    CHECK_EQ(parse("user:7:chat:9:/x"), 0);
    CHECK_STR(p.identifier, "user:7:chat:9");
    CHECK_STR(p.name, "x");
}

TEST(an_identifier_of_its_own_is_used_for_a_bare_colon)
{
    CHECK_EQ(cli_place_parse(":/x", "/odd/id", &p, &err), 0);
    CHECK_EQ(p.kind, CLI_PLACE_SESSION);
    CHECK_STR(p.identifier, "/odd/id");
    CHECK_EQ(parse(":/x"), BASE_EINVAL);
    CHECK_EQ(cli_place_parse(":/x", "abc", &p, &err), BASE_EINVAL);
}

TEST(identifiers_are_checked)
{
    char longest[PROTO_IDENTIFIER_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[PROTO_IDENTIFIER_MAX + 1] = '\0';
    CHECK_EQ(cli_place_identifier(longest, &err), BASE_EINVAL);
    longest[PROTO_IDENTIFIER_MAX] = '\0';
    CHECK_EQ(cli_place_identifier(longest, &err), 0);
    CHECK_EQ(cli_place_identifier("abc", &err), BASE_EINVAL);
    CHECK(strstr(err.text, "4 to 128") != NULL);
    CHECK_EQ(cli_place_identifier("with space", &err), BASE_EINVAL);
    CHECK_EQ(cli_place_identifier("back\\slash", &err), BASE_EINVAL);
    CHECK_EQ(cli_place_identifier("a.b/c@d:e", &err), 0);
    CHECK_EQ(parse("abc:/x"), BASE_EINVAL);
}

TEST(paths_cannot_climb)
{
    static const char *const bad[] = {"demo:../x", "demo:/a/../x", "demo:/a/./x", "demo:a//x",
        "demo:/mnt/data/../etc/passwd", "demo:/.."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(parse(bad[i]), BASE_EINVAL);
    }
    char text[PROTO_PATH_BYTES_MAX + 16];
    memset(text, 'x', sizeof text);
    memcpy(text, "demo:", 5);
    text[5 + PROTO_PATH_BYTES_MAX] = '\0';
    CHECK_EQ(parse(text), BASE_EINVAL);
    text[5 + PROTO_PATH_BYTES_MAX - 1] = '\0';
    CHECK_EQ(parse(text), 0);
}
