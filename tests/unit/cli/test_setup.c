#include <unistd.h>

#include "gateway/cli/child.h"
#include "gateway/cli/endpoint.h"
#include "gateway/cli/setup.h"
#include "gateway/cli/setup_cluster.h"
#include "proto/base/clock.h"
#include "tests/lib/check.h"

static struct base_error err;

TEST(listen_addresses_are_numeric)
{
    struct cli_listen l;
    CHECK_EQ(cli_setup_listen("127.0.0.1:8443", &l, &err), 0);
    CHECK(l.loopback && !l.any && !l.v6);
    CHECK_STR(l.host, "127.0.0.1");
    CHECK_EQ(l.port, 8443);
    CHECK_EQ(cli_setup_listen("0.0.0.0:0", &l, &err), 0);
    CHECK(l.any && !l.loopback);
    CHECK_EQ(cli_setup_listen("[::1]:443", &l, &err), 0);
    CHECK(l.v6 && l.loopback);
    CHECK_STR(l.host, "::1");
    CHECK_EQ(cli_setup_listen("[::]:443", &l, &err), 0);
    CHECK(l.v6 && l.any && !l.loopback);
    static const char *const bad[] = {"", ":", "127.0.0.1", "127.0.0.1:", ":80", "localhost:80",
        "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:8x", "::1:80", "[::1]", "[]:1", "[1.2.3.4]:1",
        "1.2.3:80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(cli_setup_listen(bad[i], &l, &err), BASE_EINVAL);
    }
}

TEST(yaml_text_is_quoted)
{
    struct base_buf b = {0};
    CHECK_EQ(cli_setup_yaml_text(&b, "/a b/\"c\\d: #e"), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((const char *)b.p, "\"/a b/\\\"c\\\\d: #e\"");
    base_buf_clear(&b);
    CHECK_EQ(cli_setup_yaml_text(&b, "a\nb"), BASE_EINVAL);
    CHECK_EQ(cli_setup_yaml_text(&b, "a\xff"), BASE_EINVAL);
    base_buf_deinit(&b);
}

static int pool_name(const char *json, char name[PROTO_POOL_NAME_MAX + 1])
{
    return cli_setup_pool_name(json, strlen(json), name, &err);
}

TEST(pool_files_have_a_name)
{
    char name[PROTO_POOL_NAME_MAX + 1];
    CHECK_EQ(pool_name("{\"name\":\"my-pool\",\"properties\":{}}", name), 0);
    CHECK_STR(name, "my-pool");
    static const char *const bad[] = {"", "[]", "{}", "{\"name\":7}", "{\"name\":\"../x\"}",
        "{\"name\":\"ab\"}", "{\"name\":\"a\",\"name\":\"bcd\"}", "{\"name\":\"Python\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(pool_name(bad[i], name), BASE_EINVAL);
    }
}

TEST(loopback_urls_are_known)
{
    static const char *const yes[] = {
        "http://127.0.0.1:80", "http://localhost", "https://[::1]:1/x", "http://127.9.9.9/"};
    static const char *const no[] = {"http://10.0.0.1", "http://localhost.example",
        "http://127.example.org", "127.0.0.1", "http://[::2]", "http://localhost:x@evil.example/",
        "http://127.0.0.1@evil.example"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        CHECK(cli_endpoint_is_loopback(yes[i]));
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        CHECK(!cli_endpoint_is_loopback(no[i]));
    }
}

static enum cli_child_event parse(const char *line, char text[CLI_CHILD_TEXT_MAX])
{
    return cli_child_parse(line, strlen(line), text);
}

TEST(ready_lines_are_understood)
{
    char text[CLI_CHILD_TEXT_MAX];
    CHECK_EQ(parse("{\"event\":\"progress\",\"text\":\"booting\"}", text), CLI_CHILD_PROGRESS);
    CHECK_STR(text, "booting");
    CHECK_EQ(parse("{\"event\":\"ready\"}", text), CLI_CHILD_READY);
    CHECK_EQ(parse("{\"event\":\"failed\",\"text\":\"no KVM\"}", text), CLI_CHILD_FAILED);
    CHECK_STR(text, "no KVM");
    CHECK_EQ(parse("{\"event\":\"failed\"}", text), CLI_CHILD_FAILED);
    static const char *const noise[] = {"", "x", "[]", "{}", "{\"event\":7}",
        "{\"event\":\"later\",\"text\":\"x\"}", "{\"event\":\"progress\"}"};
    for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
        CHECK_EQ(parse(noise[i], text), CLI_CHILD_NONE);
    }
}

TEST(ready_lines_come_in_pieces)
{
    struct cli_child c = {.name = "x"};
    char text[CLI_CHILD_TEXT_MAX];
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    c.ready_fd = fds[0];
    CHECK_EQ(write(fds[1], "{\"event\":\"progress\",\"te", 23), 23);
    CHECK_EQ(write(fds[1], "xt\":\"a\"}\nnoise\n{\"event\":\"ready\"}\n{\"ev", 38), 38);
    CHECK_EQ(cli_child_read(&c, text), CLI_CHILD_PROGRESS);
    CHECK_STR(text, "a");
    CHECK(!c.ready);
    CHECK_EQ(cli_child_read(&c, text), CLI_CHILD_READY);
    CHECK(c.ready);
    CHECK_EQ(close(fds[1]), 0);
    CHECK_EQ(cli_child_read(&c, text), CLI_CHILD_NONE);
    CHECK_EQ(c.ready_fd, -1);
}

TEST(a_daemon_that_dies_again_and_again_waits_longer)
{
    struct cli_child c = {.name = "x", .pid = 7, .started_ns = BASE_NS_PER_S};
    uint64_t now = BASE_NS_PER_S;
    static const uint32_t want[] = {200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        CHECK_EQ(cli_child_died(&c, now), want[i]);
        CHECK_EQ(c.pid, 0);
        CHECK_EQ(c.start_again_ns, now + want[i] * BASE_NS_PER_MS);
        now = c.started_ns = c.start_again_ns;
    }
    now += 61 * BASE_NS_PER_S; /* it was healthy in between */
    CHECK_EQ(cli_child_died(&c, now), 200);
}

TEST(progress_that_only_counts_seconds_is_said_now_and_then)
{
    struct cli_child c = {.name = "x"};
    uint64_t s = BASE_NS_PER_S;
    CHECK(cli_child_is_news(&c, "booting, 1 s", 1 * s));
    CHECK(!cli_child_is_news(&c, "booting, 2 s", 2 * s));
    CHECK(!cli_child_is_news(&c, "booting, 10 s", 10 * s));
    CHECK(cli_child_is_news(&c, "booting, 11 s", 11 * s));
    CHECK(cli_child_is_news(&c, "warming, 12 s", 12 * s));
    CHECK(cli_child_is_news(&c, "ready", 12 * s));
    CHECK(!cli_child_is_news(&c, "ready", 13 * s));
    CHECK(cli_child_is_news(&c, "pool 1 of 2", 13 * s));
    CHECK(cli_child_is_news(&c, "pool 2 of 2", 13 * s));
}

TEST(settings_are_overridden_by_their_names_and_all_else_stays)
{
    static const char text[] =
        "name: \"w1\"\nnames: 3\nrun_dir: /a\npools:\n  - name: x\nworkers:\n"
        "  - id: 1\n";
    const struct cli_setup_line lines[] = {{"name", "w2"}, {"lease", "cluster"}};
    struct base_buf b = {0};
    CHECK_EQ(cli_setup_override(&b, text, lines, 2, "workers"), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((const char *)base_buf_data(&b),
        "name: w2\nlease: cluster\nnames: 3\nrun_dir: /a\npools:\n  - name: x\n");
    base_buf_clear(&b);
    CHECK_EQ(cli_setup_override(&b, "a: 1", lines, 0, NULL), 0);
    CHECK_EQ(base_buf_size(&b), 4);
    base_buf_deinit(&b);
}
