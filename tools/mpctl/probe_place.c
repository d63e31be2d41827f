/* SPDX-License-Identifier: MIT */
/* Probes: the file systems that libmp finds itself in. */

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "kernel/cgroup.h"
#include "kernel/pidfd.h"
#include "probe.h"
#include "shared/shared_memory.h"
#include "text.h"

#define INIT_PID 1
#define SHM_SMALL ((uint64_t)1 << 20)

/* ---- /proc ---- */

static void endmntentp(FILE **mounts)
{
    if (*mounts)
        endmntent(*mounts);
}

/* What it was mounted with that hides something: "hidepid=2,subset=pid", or nothing. */
static void find_proc_options(char *ret, size_t size)
{
    static const char *const hiding[] = {"hidepid", "subset"};
    _cleanup_(endmntentp) FILE *mounts = setmntent("/proc/self/mounts", "re");
    struct mntent entry;
    char buf[8192];

    ret[0] = '\0';
    while (mounts && getmntent_r(mounts, &entry, buf, sizeof buf)) {
        size_t at = 0;

        if (strcmp(entry.mnt_dir, "/proc") != 0)
            continue;
        ret[0] = '\0'; /* mounted over */
        for (size_t i = 0; i < MP_ARRAY_SIZE(hiding); i++) {
            const char *option = hasmntopt(&entry, hiding[i]);
            int length = option ? (int)strcspn(option, ",") : 0;

            if (option && at + (size_t)length + 2 < size)
                at +=
                    (size_t)snprintf(ret + at, size - at, "%s%.*s", at ? "," : "", length, option);
        }
    }
}

static void look_proc(struct finding *f)
{
    char self[16] = "", options[128];

    if (readlink("/proc/self", self, sizeof self - 1) < 0) {
        found_error(f, errno);
        f->verdict = VERDICT_MISSING;
        return;
    }
    if (strtol(self, NULL, 10) != getpid() || mp_task_start(getpid()) == 0) {
        found_verdict(f, VERDICT_LIMITED, "it is that of another pid namespace");
        return;
    }
    find_proc_options(options, sizeof options);
    if (mp_task_start(INIT_PID) == 0)
        found_verdict(f, VERDICT_LIMITED, "others' processes are hidden%s%s",
                      options[0] ? ": " : "", options);
    else if (options[0])
        found(f, "mounted with %s, which hides nothing from us", options);
}

/* ---- /dev/shm ---- */

static void look_shm(struct finding *f)
{
    _cleanup_close_ int fd = -1;
    char size[16], left[16];
    struct statvfs st;
    bool named_only;

    if (statvfs(MP_SHARED_MEMORY_FOLDER, &st) < 0) {
        found_error(f, errno);
        return;
    }
    /* Without a name: nothing is left of it, however we end. */
    fd = open(MP_SHARED_MEMORY_FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    named_only = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
    if (fd < 0 && !named_only) {
        found_error(f, errno);
        return;
    }
    f->has_value = true;
    f->value = (uint64_t)st.f_bavail * st.f_frsize;
    text_size(size, (uint64_t)st.f_blocks * st.f_frsize);
    text_size(left, f->value);
    if (named_only)
        found_verdict(f, VERDICT_LIMITED, "%s, %s free; no files without a name", size, left);
    else if (pwrite(fd, "x", 1, 0) != 1)
        found_verdict(f, VERDICT_LIMITED, "%s, full: %s", size, strerror(errno));
    else
        found_verdict(f, f->value < SHM_SMALL && st.f_blocks ? VERDICT_LIMITED : VERDICT_OK,
                      "%s, %s free", size, left);
}

/* ---- cgroups ---- */

struct own {
    char dir[2048], path[512];
};

static void find_own(const struct mp_cgroup *cgroup, void *arg)
{
    struct own *own = arg;

    if (cgroup->version != 2 || !cgroup->is_own || own->dir[0])
        return;
    if (snprintf(own->dir, sizeof own->dir, "%s", cgroup->dir) >= (int)sizeof own->dir)
        own->dir[0] = '\0';
    snprintf(own->path, sizeof own->path, "%s", cgroup->path);
}

static bool find_own_cgroup(struct own *ret_own)
{
    *ret_own = (struct own){0};
    mp_cgroup_walk("", "", find_own, ret_own);
    return ret_own->dir[0];
}

static bool read_own(const struct own *own, const char *name, char *ret, size_t size)
{
    return mp_cgroup_read(&(struct mp_cgroup){.dir = own->dir}, name, ret, size);
}

static void look_cgroup(struct finding *f)
{
    char controllers[256];
    struct own own;

    if (!find_own_cgroup(&own))
        found_verdict(f, VERDICT_MISSING, "our cgroup is not to be seen in a cgroup v2 mount");
    else if (!read_own(&own, "cgroup.controllers", controllers, sizeof controllers))
        found_verdict(f, VERDICT_LIMITED, "%.200s can not be read", own.dir);
    else
        found(f, "we are in %.200s, with %s", own.path,
              controllers[0] ? controllers : "no controllers");
}

/* A cgroup below ours, made and removed at once; and may controllers be handed to it? */
static void look_delegation(struct finding *f)
{
    char path[sizeof(struct own) + 64], controllers[256] = "";
    struct own own;

    if (!find_own_cgroup(&own)) {
        found_verdict(f, VERDICT_MISSING, "our cgroup is not to be seen in a cgroup v2 mount");
        return;
    }
    snprintf(path, sizeof path, "%s/mpctl-doctor-%d", own.dir, (int)getpid());
    if (mkdir(path, 0700) < 0) {
        found_error(f, errno);
        return;
    }
    rmdir(path);
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", own.dir);
    read_own(&own, "cgroup.controllers", controllers, sizeof controllers);
    if (access(path, W_OK) < 0)
        found_verdict(f, VERDICT_LIMITED, "cgroups can be made, no controllers handed out: %s",
                      strerror(errno));
    else if (!controllers[0])
        found_verdict(f, VERDICT_LIMITED, "cgroups can be made, there are no controllers");
    else
        found(f, "cgroups can be made, with %s", controllers);
}

static const struct probe probes[] = {
    {"/proc", NULL, NEED_MUST, look_proc,
     "where it is limited: mpctl sees less; daemons may end later; spawn needs all of it"},
    {"/dev/shm", NULL, NEED_NICE, look_shm,
     "arenas need none of it; named shared memory and lists have no other place"},
    {"cgroup v2", "4.5", NEED_NOT, look_cgroup,
     "quotas and limits of cgroup v1 are looked at alone"},
    {"cgroup delegation", "4.5", NEED_NOT, look_delegation,
     "nothing is lost: no process gets limits of its own"},
};

const struct probes place_probes = {probes, MP_ARRAY_SIZE(probes)};
