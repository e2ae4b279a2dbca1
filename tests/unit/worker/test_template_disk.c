#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/check.h"
#include "worker/io/kvm_probe.h"
#include "worker/io/template_disk.h"

enum { MIB = 8, KHZ = 2500000 };

static void put(const char *dir, const char *id, uint8_t mark)
{
    struct base_error err;
    char state[128];
    (void)snprintf(state, sizeof state, "%s/.state", dir);
    int fd = open(state, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK_EQ(write(fd, "device state", 12), 12);
    (void)close(fd);
    int memory = worker_template_disk_memfd(MIB);
    CHECK(memory >= 0);
    CHECK_EQ(pwrite(memory, &mark, 1, 5 << 20), 1);
    struct worker_template_disk_save s = {dir, id, state, memory, MIB, KHZ};
    CHECK_EQ(worker_template_disk_save(&s, &err), 0);
    (void)close(memory);
}

static void clean(const char *dir)
{
    worker_template_disk_prune(dir, "", 0);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_template_comes_back_from_disk_with_its_holes)
{
    char dir[] = "/tmp/warren-tmpl-XXXXXX", path[128];
    CHECK(mkdtemp(dir) != NULL);
    put(dir, "abc", 0x5a);
    struct base_error err;
    int memory = worker_template_disk_memfd(MIB);
    CHECK_EQ(worker_template_disk_load(dir, "abc", memory, MIB, KHZ + KHZ / 200, &err), 0);
    uint8_t got = 0;
    CHECK_EQ(pread(memory, &got, 1, 5 << 20), 1);
    CHECK_EQ(got, 0x5a);
    struct stat st;
    CHECK_EQ(fstat(memory, &st), 0);
    CHECK(st.st_blocks * 512 < 1 << 20);
    (void)snprintf(path, sizeof path, "%s/abc/state", dir);
    CHECK_EQ(access(path, F_OK), 0);
    (void)close(memory);
    clean(dir);
}

TEST(a_template_of_another_clock_size_or_name_does_not_load)
{
    char dir[] = "/tmp/warren-tmpl-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    put(dir, "abc", 1);
    struct base_error err;
    int memory = worker_template_disk_memfd(MIB);
    CHECK_EQ(worker_template_disk_load(dir, "abd", memory, MIB, KHZ, &err), BASE_ENOTFOUND);
    CHECK_EQ(worker_template_disk_load(dir, "abc", memory, 2 * MIB, KHZ, &err), BASE_ENOTFOUND);
    CHECK_EQ(
        worker_template_disk_load(dir, "abc", memory, MIB, KHZ + KHZ / 50, &err), BASE_ENOTFOUND);
    (void)close(memory);
    clean(dir);
}

TEST(sealed_memory_cannot_be_written_by_whoever_holds_it)
{
    struct base_error err;
    int memory = worker_template_disk_memfd(MIB);
    CHECK_EQ(worker_template_disk_seal(memory, &err), 0);
    CHECK_EQ(pwrite(memory, "x", 1, 0), -1);
    CHECK_EQ(ftruncate(memory, 0), -1);
    CHECK_EQ(fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    CHECK(shared == MAP_FAILED);
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, memory, 0);
    CHECK(own != MAP_FAILED);
    own[0] = 'x';
    (void)munmap(own, 4096);
    (void)close(memory);
}

TEST(old_templates_go_first_and_the_one_in_use_stays)
{
    char dir[] = "/tmp/warren-tmpl-XXXXXX", path[128];
    CHECK(mkdtemp(dir) != NULL);
    static const char *const ids[] = {"old", "mid", "new"};
    for (int i = 0; i < 3; i++) {
        put(dir, ids[i], 1);
        (void)snprintf(path, sizeof path, "%s/%s/memory", dir, ids[i]);
        struct timespec at[2] = {{1000 + i, 0}, {1000 + i, 0}};
        CHECK_EQ(utimensat(AT_FDCWD, path, at, 0), 0);
    }
    worker_template_disk_prune(dir, "old", 2);
    (void)snprintf(path, sizeof path, "%s/old", dir);
    CHECK_EQ(access(path, F_OK), 0);
    (void)snprintf(path, sizeof path, "%s/mid", dir);
    CHECK_EQ(access(path, F_OK), -1);
    clean(dir);
}

TEST(the_kvm_probe_says_why_it_refuses)
{
    struct worker_kvm_probe p;
    worker_kvm_probe("/dev/no-such-kvm", 250, &p);
    CHECK_EQ(p.fit, WORKER_KVM_ABSENT);
    CHECK(strstr(p.why, "No such file") != NULL);
    worker_kvm_probe("/dev/null", 250, &p);
    CHECK_EQ(p.fit, WORKER_KVM_BROKEN);
    CHECK(p.why[0] != '\0');
}
