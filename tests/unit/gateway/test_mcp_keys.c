#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/keys/mcp_keys.h"
#include "tests/lib/check.h"

static const uint8_t cluster[16] = {1, 2, 3}, other[16] = {4};
static char folder[64], path[128];
enum { NOW = 1000000 };

static struct gw_mcp_keys *open_keys(const uint8_t key[16])
{
    struct gw_mcp_keys *k = NULL;
    CHECK_EQ(gw_mcp_keys_create(&k, folder, key, NULL), 0);
    return k;
}

static struct gw_mcp_keys *begin(void)
{
    (void)strcpy(folder, "/tmp/warren-test-keys-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/python.mcp-key", folder);
    return open_keys(cluster);
}

static void end(struct gw_mcp_keys *k)
{
    char lock[128];
    gw_mcp_keys_destroy(k);
    (void)snprintf(lock, sizeof lock, "%s/lock", folder);
    (void)unlink(path);
    (void)unlink(lock);
    CHECK_EQ(rmdir(folder), 0); /* nothing else is left behind */
}

TEST(a_key_is_made_once_and_only_it_is_taken)
{
    struct gw_mcp_keys *k = begin();
    char a[65], b[65];
    CHECK(!gw_mcp_keys_check(k, "python", "", NOW));
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, a, NULL), 0);
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, b, NULL), 0);
    CHECK(strlen(a) == 64 && strcmp(a, b) == 0);
    CHECK(gw_mcp_keys_check(k, "python", a, NOW));
    CHECK(!gw_mcp_keys_check(k, "shell", a, NOW));
    b[63] = b[63] == '0' ? '1' : '0';
    CHECK(!gw_mcp_keys_check(k, "python", b, NOW));
    b[63] = '\0';
    CHECK(!gw_mcp_keys_check(k, "python", b, NOW));
    CHECK(!gw_mcp_keys_check(k, "python", "", NOW));
    end(k);
}

TEST(after_a_rotation_the_old_key_lives_five_minutes_and_is_then_void)
{
    struct gw_mcp_keys *k = begin(), *elsewhere = open_keys(cluster);
    char a[65], b[65], c[65];
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, a, NULL), 0);
    CHECK(gw_mcp_keys_check(elsewhere, "python", a, NOW)); /* another gateway has read the file */
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", true, NOW, b, NULL), 0);
    CHECK(strcmp(a, b) != 0);
    CHECK(gw_mcp_keys_check(elsewhere, "python", b, NOW));
    CHECK(gw_mcp_keys_check(elsewhere, "python", a, NOW + GW_MCP_KEY_OLD_S - 1));
    CHECK(!gw_mcp_keys_check(elsewhere, "python", a, NOW + GW_MCP_KEY_OLD_S));
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", true, NOW, c, NULL), 0);
    CHECK(!gw_mcp_keys_check(k, "python", a, NOW)); /* two rotations: gone at once */
    CHECK(gw_mcp_keys_check(k, "python", b, NOW) && gw_mcp_keys_check(k, "python", c, NOW));
    gw_mcp_keys_destroy(elsewhere);
    end(k);
}

TEST(pools_that_there_are_not_take_no_room)
{
    struct gw_mcp_keys *k = begin();
    char a[65], name[16];
    struct stat st;
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, a, NULL), 0);
    CHECK(gw_mcp_keys_check(k, "python", a, NOW));
    CHECK_EQ(stat(path, &st), 0); /* what is read from now on is damaged, and looks unchanged */
    FILE *f = fopen(path, "r+");
    CHECK(f != NULL && fputs("garbage", f) >= 0 && fclose(f) == 0);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    CHECK_EQ(utimensat(AT_FDCWD, path, times, 0), 0);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "x%d", i);
        CHECK(!gw_mcp_keys_check(k, name, a, NOW));
    }
    CHECK(gw_mcp_keys_check(k, "python", a, NOW));
    end(k);
}

TEST(the_file_alone_reveals_no_key)
{
    struct gw_mcp_keys *k = begin(), *thief = open_keys(other);
    char a[65], b[65], text[2048];
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, a, NULL), 0);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    size_t n = f == NULL ? 0 : fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    if (f != NULL) {
        (void)fclose(f);
    }
    CHECK(n > 200 && strstr(text, a) == NULL);
    CHECK_EQ(gw_mcp_keys_fetch(thief, "python", false, NOW, b, NULL), BASE_ECORRUPT);
    gw_mcp_keys_destroy(thief);
    end(k);
}

TEST(a_key_sealed_anew_is_the_same_and_opens_under_the_other_cluster_key_only)
{
    struct gw_mcp_seal ours, theirs;
    struct gw_mcp_made a, b, moved;
    struct gw_mcp_text none = {0}, text;
    char key[GW_MCP_KEY_CHARS + 1];
    CHECK_EQ(gw_mcp_seal_of(&ours, cluster), 0);
    CHECK_EQ(gw_mcp_seal_of(&theirs, other), 0);
    CHECK_EQ(gw_mcp_key_make(&ours, "python", none, NOW, &a), 0);
    text = (struct gw_mcp_text){a.text, strlen(a.text)};
    CHECK_EQ(gw_mcp_key_make(&ours, "python", text, NOW, &b), 0);
    text = (struct gw_mcp_text){b.text, strlen(b.text)};
    CHECK_EQ(gw_mcp_key_reseal(&theirs, &ours, "python", text, &moved), BASE_ECORRUPT);
    CHECK_EQ(gw_mcp_key_reseal(&ours, &theirs, "shell", text, &moved), BASE_ECORRUPT);
    CHECK_EQ(gw_mcp_key_reseal(&ours, &theirs, "python", none, &moved), BASE_ECORRUPT);
    CHECK_EQ(gw_mcp_key_reseal(&ours, &theirs, "python", text, &moved), 0);
    CHECK(strcmp(moved.key, b.key) == 0 && strcmp(moved.text, b.text) != 0);
    text = (struct gw_mcp_text){moved.text, strlen(moved.text)};
    CHECK_EQ(gw_mcp_key_open(&theirs, "python", text, key), 0);
    CHECK(strcmp(key, b.key) == 0);
    CHECK_EQ(gw_mcp_key_open(&ours, "python", text, key), BASE_ECORRUPT);
    CHECK(gw_mcp_key_check(text, b.key, NOW + GW_MCP_KEY_OLD_S));
    CHECK(gw_mcp_key_check(text, a.key, NOW) && !gw_mcp_key_check(text, a.key, NOW + 300));
}

TEST(a_damaged_file_takes_no_key_and_a_rotation_heals_it)
{
    struct gw_mcp_keys *k = begin();
    char a[65];
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fputs("warren-mcp-key 1\nnow 00 00 0\n", f) >= 0 && fclose(f) == 0);
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", false, NOW, a, NULL), BASE_ECORRUPT);
    CHECK_EQ(gw_mcp_keys_fetch(k, "python", true, NOW, a, NULL), 0);
    CHECK(gw_mcp_keys_check(k, "python", a, NOW));
    end(k);
}

TEST(a_text_that_is_kept_elsewhere_is_worth_as_much_as_a_file)
{
    static const uint8_t ours[16] = {3}, theirs[16] = {4};
    struct gw_mcp_seal seal, stranger;
    struct gw_mcp_made first, second;
    char key[GW_MCP_KEY_CHARS + 1];
    CHECK_EQ(gw_mcp_seal_of(&seal, ours), 0);
    CHECK_EQ(gw_mcp_seal_of(&stranger, theirs), 0);
    CHECK_EQ(gw_mcp_key_make(&seal, "python", (struct gw_mcp_text){0}, 1000, &first), 0);
    struct gw_mcp_text text = {first.text, strlen(first.text)};
    CHECK_EQ(gw_mcp_key_open(&seal, "python", text, key), 0);
    CHECK_STR(key, first.key);
    CHECK_EQ(gw_mcp_key_open(&seal, "shell", text, key), BASE_ECORRUPT);
    CHECK_EQ(gw_mcp_key_open(&stranger, "python", text, key), BASE_ECORRUPT);
    CHECK(gw_mcp_key_check(text, first.key, 1000));
    CHECK(!gw_mcp_key_check((struct gw_mcp_text){0}, first.key, 1000));
    CHECK_EQ(gw_mcp_key_make(&seal, "python", text, 2000, &second), 0);
    text = (struct gw_mcp_text){second.text, strlen(second.text)};
    CHECK(gw_mcp_key_check(text, second.key, 9000));
    CHECK(gw_mcp_key_check(text, first.key, 2000 + GW_MCP_KEY_OLD_S - 1));
    CHECK(!gw_mcp_key_check(text, first.key, 2000 + GW_MCP_KEY_OLD_S));
    CHECK(!gw_mcp_text_valid((struct gw_mcp_text){"nothing", 7}));
}
