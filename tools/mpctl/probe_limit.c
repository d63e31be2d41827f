/* SPDX-License-Identifier: MIT */
/* Probes: limits that are felt before one expects it. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <mp/cpu.h>

#include "base/macro.h"
#include "kernel/cgroup.h"
#include "probe.h"
#include "text.h"

/* Below these a middling pool runs into them. */
#define FILES_FEW 256
#define PROCESSES_FEW 256
#define MAPS_FEW 4096
#define PIDS_FEW 4096

/* cgroup v1 writes "none" as a number near the largest there is. */
#define MEMORY_NONE (UINT64_C(1) << 60)

static void look_cpus(struct finding *f)
{
    struct mp_cpu_info info;
    char quota[MP_CPU_CGROUP_SIZE + 96] = "no quota";

    mp_cpu_info(&info);
    if (info.quota)
        snprintf(quota, sizeof quota,
                 "a quota of %" PRIu64 " us in %" PRIu64 " us (cgroup v%u, %s)", info.quota_us,
                 info.period_us, info.quota_cgroup, info.cgroup);
    found_value(f, info.count, info.limited_by != MP_CPU_ONLINE);
    found(f, "%u: %u online, %u in the affinity, %s", info.count, info.online, info.affinity,
          quota);
}

/* ---- of this process ---- */

static void words_of(rlim_t limit, bool bytes, char ret[static 24])
{
    if (limit == RLIM_INFINITY)
        snprintf(ret, 24, "unlimited");
    else if (bytes)
        text_size(ret, limit);
    else
        snprintf(ret, 24, "%ju", (uintmax_t)limit);
}

/* Felt if it is lower than this. */
static void look_rlimit(struct finding *f, __rlimit_resource_t resource, bool bytes, rlim_t few)
{
    char soft[24], hard[24];
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0) {
        found_error(f, errno);
        return;
    }
    words_of(limit.rlim_cur, bytes, soft);
    words_of(limit.rlim_max, bytes, hard);
    if (limit.rlim_cur != RLIM_INFINITY)
        found_value(f, limit.rlim_cur, limit.rlim_cur < few);
    found(f, "%s, may be raised to %s", soft, hard);
    if (limit.rlim_cur == limit.rlim_max)
        found(f, "%s", soft);
}

static void look_nofile(struct finding *f)
{
    look_rlimit(f, RLIMIT_NOFILE, false, FILES_FEW);
}

static void look_nproc(struct finding *f)
{
    look_rlimit(f, RLIMIT_NPROC, false, PROCESSES_FEW);
}

/* Rings count against it no more since Linux 5.12. */
static void look_memlock(struct finding *f)
{
    look_rlimit(f, RLIMIT_MEMLOCK, true, probe_kernel_is("5.12") ? 0 : 65536);
}

static void look_as(struct finding *f)
{
    look_rlimit(f, RLIMIT_AS, true, RLIM_INFINITY);
}

static void look_fsize(struct finding *f)
{
    look_rlimit(f, RLIMIT_FSIZE, true, RLIM_INFINITY);
}

/* ---- of the machine ---- */

static void look_file(struct finding *f, const char *path, uint64_t few)
{
    uint64_t n;

    if (!probe_read_number(path, &n)) {
        found_verdict(f, VERDICT_LIMITED, "%s can not be read", path);
        return;
    }
    found_value(f, n, n < few);
    found(f, "%" PRIu64, n);
}

static void look_pids(struct finding *f)
{
    look_file(f, "/proc/sys/kernel/pid_max", PIDS_FEW);
}

static void look_maps(struct finding *f)
{
    look_file(f, "/proc/sys/vm/max_map_count", MAPS_FEW);
}

static void look_overcommit(struct finding *f)
{
    static const char *const words[] = {"heuristic", "always", "never"};

    look_file(f, "/proc/sys/vm/overcommit_memory", 0);
    if (!f->has_value || f->value >= MP_ARRAY_SIZE(words))
        return;
    if (f->value == 2)
        f->verdict = VERDICT_LIMITED;
    found(f, "%u: %s", (unsigned)f->value, words[f->value]);
}

/* ---- of our cgroups ---- */

struct tightest {
    uint64_t bytes;
    unsigned version;
    char path[256];
};

static void take_tightest(const struct mp_cgroup *cgroup, void *arg)
{
    struct tightest *t = arg;
    char text[32];
    uint64_t bytes;

    if (!mp_cgroup_read(cgroup, cgroup->version == 2 ? "memory.max" : "memory.limit_in_bytes", text,
                        sizeof text) ||
        text_number(text, &bytes) < 0 || bytes >= t->bytes)
        return;
    t->bytes = bytes;
    t->version = cgroup->version;
    snprintf(t->path, sizeof t->path, "%s", cgroup->path);
}

static void look_memory(struct finding *f)
{
    struct tightest t = {.bytes = MEMORY_NONE};
    char size[16];

    mp_cgroup_walk("", "memory", take_tightest, &t);
    if (t.bytes == MEMORY_NONE) {
        found(f, "no limit that can be seen");
        return;
    }
    text_size(size, t.bytes);
    found_value(f, t.bytes, true);
    found(f, "%s (cgroup v%u, %s)", size, t.version, t.path);
}

static const struct probe probes[] = {
    {"CPUs", NULL, NEED_NOT, look_cpus, "a pool has so many workers, unless told otherwise"},
    {"RLIMIT_NOFILE", NULL, NEED_NOT, look_nofile,
     "processes, arenas and polled objects take descriptors: -EMFILE when there are no more"},
    {"RLIMIT_NPROC", NULL, NEED_NOT, look_nproc,
     "processes and arenas' threads count against it: -EAGAIN when there are no more"},
    {"RLIMIT_MEMLOCK", NULL, NEED_NOT, look_memlock, "poll() where a ring can not be made"},
    {"RLIMIT_AS", NULL, NEED_NOT, look_as, "arenas are mapped whole: -ENOMEM for larger ones"},
    {"RLIMIT_FSIZE", NULL, NEED_NOT, look_fsize, "arenas are files: -EFBIG for larger ones"},
    {"kernel.pid_max", NULL, NEED_NOT, look_pids, "-EAGAIN when there are no more"},
    {"vm.max_map_count", NULL, NEED_NOT, look_maps, "-ENOMEM when a process has so many mappings"},
    {"vm.overcommit_memory", NULL, NEED_NOT, look_overcommit,
     "each fork counts the memory of its parent in full: -ENOMEM sooner"},
    {"memory cgroup", NULL, NEED_NOT, look_memory,
     "beyond it the kernel kills processes; those that are left go on"},
};

const struct probes limit_probes = {probes, MP_ARRAY_SIZE(probes), .in_place = true};
