#include "gateway/cli/options.h"
#include "tests/lib/check.h"

struct values {
    bool flag;
    const char *text;
    struct cli_list list;
    uint32_t number, time;
    struct cli_args args;
    struct base_error err;
};

static int read_into(struct values *v, int argc, char *const argv[])
{
    *v = (struct values){0};
    const struct cli_option own[] = {
        {"flag", 'f', CLI_OPTION_FLAG, &v->flag, NULL, "", 0, 0},
        {"text", 't', CLI_OPTION_TEXT, &v->text, "TEXT", "", 0, 0},
        {"list", 0, CLI_OPTION_LIST, &v->list, "ITEM", "", 0, 0},
        {0},
    };
    const struct cli_option global[] = {
        {"number", 0, CLI_OPTION_UINT, &v->number, "N", "", 2, 9},
        {"time", 0, CLI_OPTION_TIME, &v->time, "TIME", "", 1, 7200},
        {"text", 0, CLI_OPTION_FLAG, &v->flag, NULL, "hidden by the first table", 0, 0},
        {0},
    };
    const struct cli_option *const tables[] = {own, global, NULL};
    return cli_options_read(tables, argc, argv, &v->args, &v->err);
}

#define READ(v, ...)                                                                               \
    ({                                                                                             \
        const char *argv_[] = {__VA_ARGS__};                                                       \
        read_into((v), (int)(sizeof argv_ / sizeof argv_[0]), (char *const *)(uintptr_t)argv_);    \
    })

TEST(options_and_arguments_come_in_any_order)
{
    struct values v;
    CHECK_EQ(READ(&v, "one", "--number", "7", "two", "-f", "--list=a", "--list", "b", "-"), 0);
    CHECK_EQ(v.args.n, 3);
    CHECK_STR(v.args.v[0], "one");
    CHECK_STR(v.args.v[1], "two");
    CHECK_STR(v.args.v[2], "-");
    CHECK_EQ(v.number, 7);
    CHECK(v.flag);
    CHECK_EQ(v.list.n, 2);
    CHECK_STR(v.list.v[0], "a");
    CHECK_STR(v.list.v[1], "b");
}

TEST(two_dashes_end_the_options)
{
    struct values v;
    CHECK_EQ(READ(&v, "--", "--number", "-f"), 0);
    CHECK_EQ(v.args.n, 2);
    CHECK_STR(v.args.v[0], "--number");
    CHECK(!v.flag);
}

TEST(a_value_may_look_like_an_option)
{
    struct values v;
    CHECK_EQ(READ(&v, "--text", "--flag"), 0);
    CHECK_STR(v.text, "--flag");
    CHECK(!v.flag);
    CHECK_EQ(READ(&v, "--text="), 0);
    CHECK_STR(v.text, "");
}

TEST(help_stops_the_reading)
{
    struct values v;
    CHECK_EQ(READ(&v, "--help", "--nonsense"), 0);
    CHECK(v.args.help);
    CHECK_EQ(READ(&v, "--", "--help"), 0);
    CHECK(!v.args.help);
}

TEST(unknown_options_are_named_with_the_nearest_one)
{
    struct values v;
    CHECK_EQ(READ(&v, "--nubmer", "3"), BASE_EINVAL);
    CHECK(strstr(v.err.text, "'--nubmer'") != NULL);
    CHECK(strstr(v.err.text, "--number") != NULL);
    CHECK_EQ(READ(&v, "--completely-else"), BASE_EINVAL);
    CHECK(strstr(v.err.text, "did you mean") == NULL);
    CHECK_EQ(READ(&v, "-x"), BASE_EINVAL);
    CHECK_EQ(READ(&v, "-ft"), BASE_EINVAL);
}

TEST(numbers_outside_their_range_are_refused)
{
    struct values v;
    const char *const bad[] = {"1", "10", "", "x", "3x", "-3", " 3", "+3", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(READ(&v, "--number", bad[i]), BASE_EINVAL);
        CHECK_EQ(v.number, 0);
    }
    CHECK_EQ(READ(&v, "--number", "2"), 0);
    CHECK_EQ(READ(&v, "--number=9"), 0);
}

TEST(missing_and_needless_values_are_refused)
{
    struct values v;
    CHECK_EQ(READ(&v, "--number"), BASE_EINVAL);
    CHECK_EQ(READ(&v, "--flag=yes"), BASE_EINVAL);
}

TEST(a_list_is_bounded)
{
    struct values v;
    const char *argv[2 * (CLI_LIST_MAX + 1)];
    for (size_t i = 0; i < sizeof argv / sizeof argv[0]; i += 2) {
        argv[i] = "--list";
        argv[i + 1] = "x";
    }
    char *const *p = (char *const *)(uintptr_t)argv;
    CHECK_EQ(read_into(&v, 2 * CLI_LIST_MAX, p), 0);
    CHECK_EQ(read_into(&v, 2 * CLI_LIST_MAX + 2, p), BASE_EINVAL);
}

TEST(times_have_units)
{
    const struct {
        const char *text;
        uint32_t s;
    } good[] = {{"90", 90}, {"90s", 90}, {"15m", 900}, {"1h", 3600}, {"1h30m", 5400},
        {"2d12h", 216000}, {"0", 0}, {"4294967295", UINT32_MAX}};
    const char *const bad[] = {"", "h", "1x", "1h30", "30m1h", "1h1h", "-1", "1.5h", " 1h",
        "4294967296", "49711d", "99999999999999999999999h"};
    uint32_t s;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(cli_options_time(good[i].text, &s));
        CHECK_EQ(s, good[i].s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!cli_options_time(bad[i], &s));
    }
}

TEST(the_nearest_name_is_found)
{
    static const char *const names[] = {"up", "exec", "sessions", "token"};
    CHECK_STR(cli_options_nearest("tokne", names, 4), "token");
    CHECK_STR(cli_options_nearest("session", names, 4), "sessions");
    CHECK(cli_options_nearest("frobnicate", names, 4) == NULL);
    CHECK(cli_options_nearest("", names, 0) == NULL);
}
