#include "worker/guest/stats.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10) * 1024;
}

static void read_meminfo(char *text, size_t cap)
{
    CLEANUP(base_closep) int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);
    text[n < 0 ? 0 : n] = '\0';
}

uint64_t agent_stats_mem_total(void)
{
    char text[4096];
    read_meminfo(text, sizeof text);
    return field(text, "MemTotal:");
}

void agent_stats_read(Warren__GuestReply *m)
{
    char text[4096];
    read_meminfo(text, sizeof text);
    m->mem_total_bytes = field(text, "MemTotal:");
    m->mem_available_bytes = field(text, "MemAvailable:");
    m->uptime_ms = base_clock_boot_ns() / BASE_NS_PER_MS;
    struct sysinfo si;
    m->processes = sysinfo(&si) == 0 ? si.procs : 0;
}
