/* SPDX-License-Identifier: MIT */
/*
 * Where this thread runs, and where it may; and how many CPUs that comes to.
 *
 * A quota is so many microseconds of CPU time in each period, for all that is in the cgroup and
 * below it. So the one that counts is the tightest on the way up from our own cgroup, and what is
 * above the top that we can see (that of a container) is not to be known. Two CPUs and a half are
 * three: fewer would leave some of it unused.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/cgroup.h"
#include "kernel/cpu.h"

#define CPUS_FIRST ((size_t)1024)
#define CPUS_MOST ((size_t)1 << 20)

/* More than any kernel takes is no quota. Their product fits into 64 bits. */
#define QUOTA_US_MAX (UINT64_C(1) << 43)
#define PERIOD_US_MAX (UINT64_C(1) << 20)
#define PERIOD_US_DEFAULT 100000

uint32_t mp_cpu_current(void)
{
    /* glibc answers from the rseq area that the kernel keeps up to date: no system call. */
    int cpu = sched_getcpu();

    return cpu < 0 ? 0 : (uint32_t)cpu;
}

uint32_t mp_cpu_allowed(void)
{
    static _Thread_local uint64_t asked_ns;
    static _Thread_local uint32_t allowed;
    uint64_t now = mp_now_ns();

    if (allowed == 0 || now - asked_ns > MP_MSEC(20)) {
        cpu_set_t set;

        /* Where there may be more CPUs than in a plain set: several. Those who ask here want to
         * know no more, and hold locks, where no memory should be allocated. */
        CPU_ZERO(&set);
        allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 2;
        asked_ns = now;
    }
    return allowed ? allowed : 1;
}

uint32_t mp_cpu_count_affinity(mp_cpu_affinity_fn *get)
{
    for (size_t cpus = CPUS_FIRST; cpus <= CPUS_MOST; cpus *= 2) {
        size_t size = CPU_ALLOC_SIZE(cpus);
        _cleanup_free_ cpu_set_t *set = calloc(1, size);

        if (!set)
            return 0;
        if (get(0, size, set) == 0)
            return (uint32_t)CPU_COUNT_S(size, set);
        if (errno != EINVAL)
            return 0;
    }
    return 0;
}

/* ---- the quota ---- */

/* From *p on, which moves past it. */
static bool parse_number(const char **p, uint64_t most, uint64_t *ret_number)
{
    unsigned long long n;
    char *end;

    if (!isdigit((unsigned char)**p))
        return false;
    errno = 0;
    n = strtoull(*p, &end, 10);
    if (errno || n == 0 || n > most)
        return false;
    *p = end;
    *ret_number = n;
    return true;
}

static bool parse_whole(const char *text, uint64_t most, uint64_t *ret_number)
{
    return parse_number(&text, most, ret_number) && !*text;
}

/* "QUOTA PERIOD" of cgroup v2, or the two files of v1. False: none ("max", -1), or no sense. */
static bool read_quota(const struct mp_cgroup *cgroup, uint64_t *ret_quota, uint64_t *ret_period)
{
    char text[64];
    const char *p = text;

    if (cgroup->version == 1)
        return mp_cgroup_read(cgroup, "cpu.cfs_quota_us", text, sizeof text) &&
               parse_whole(text, QUOTA_US_MAX, ret_quota) &&
               mp_cgroup_read(cgroup, "cpu.cfs_period_us", text, sizeof text) &&
               parse_whole(text, PERIOD_US_MAX, ret_period);
    if (!mp_cgroup_read(cgroup, "cpu.max", text, sizeof text) ||
        !parse_number(&p, QUOTA_US_MAX, ret_quota))
        return false;
    *ret_period = PERIOD_US_DEFAULT;
    return !*p || (*p++ == ' ' && parse_whole(p, PERIOD_US_MAX, ret_period));
}

static void take_tightest(const struct mp_cgroup *cgroup, void *arg)
{
    struct mp_cpu_info *info = arg;
    uint64_t quota, period, cpus;

    if (!read_quota(cgroup, &quota, &period) ||
        (info->quota && quota * info->period_us >= info->quota_us * period))
        return;
    cpus = (quota + period - 1) / period;
    info->quota = (uint32_t)mp_min(cpus, (uint64_t)UINT32_MAX);
    info->quota_cgroup = cgroup->version;
    info->quota_us = quota;
    info->period_us = period;
    snprintf(info->cgroup, sizeof info->cgroup, "%s", cgroup->path);
}

void mp_cpu_find_quota(const char *root, struct mp_cpu_info *info)
{
    mp_cgroup_walk(root, "cpu", take_tightest, info);
}

/* ---- all together ---- */

void mp_cpu_conclude(struct mp_cpu_info *info)
{
    info->count = info->online;
    info->limited_by = MP_CPU_ONLINE;
    if (info->affinity) {
        info->count = info->affinity;
        info->limited_by = info->affinity < info->online ? MP_CPU_AFFINITY : MP_CPU_ONLINE;
    }
    if (info->quota && info->quota < info->count) {
        info->count = info->quota;
        info->limited_by = MP_CPU_QUOTA;
    }
}

static uint32_t ask(int name)
{
    long n = sysconf(name);

    return n > 0 ? (uint32_t)n : 1;
}

int mp_cpu_info(struct mp_cpu_info *ret_info)
{
    struct mp_cpu_info info = {.configured = ask(_SC_NPROCESSORS_CONF),
                               .online = ask(_SC_NPROCESSORS_ONLN),
                               .affinity = mp_cpu_count_affinity(sched_getaffinity)};

    if (!ret_info)
        return -EINVAL;
    mp_cpu_find_quota("", &info);
    mp_cpu_conclude(&info);
    *ret_info = info;
    return 0;
}

int mp_cpu_count(void)
{
    struct mp_cpu_info info;

    mp_cpu_info(&info);
    return (int)mp_min(info.count, (uint32_t)INT32_MAX);
}
