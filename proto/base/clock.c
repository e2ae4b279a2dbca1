#include "proto/base/clock.h"

#include <stdio.h>
#include <time.h>

#include "proto/base/assert.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    REQUIRE(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * BASE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t base_clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t base_clock_boot_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

uint64_t base_clock_real_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void base_clock_format(uint64_t real_ns, char text[BASE_CLOCK_TEXT_MAX])
{
    time_t s = (time_t)(real_ns / BASE_NS_PER_S);
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    char day[24];
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(
        text, BASE_CLOCK_TEXT_MAX, "%s.%03uZ", day, (unsigned)(real_ns / BASE_NS_PER_MS % 1000));
}
