/* SPDX-License-Identifier: MIT */
/*
 * How many CPUs: from the affinity, and from quotas in trees of files that look like /proc and
 * /sys/fs/cgroup, sensible ones and others; and from a quota that the kernel keeps, where one can
 * be set.
 */

#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/cleanup.h"
#include "base/leftovers.h"
#include "kernel/cgroup.h"
#include "kernel/cpu.h"

/* ---- trees ---- */

static char tree[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void clear_tree(void)
{
    if (tree[0])
        nftw(tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    tree[0] = '\0';
}

static void new_tree(void)
{
    const char *tmp = getenv("TMPDIR");

    clear_tree();
    snprintf(tree, sizeof tree, "%.40s/mp-cpu-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(tree));
}

/* A path in the tree, its folders made. */
static char *place(const char *path, char ret[static 8192])
{
    snprintf(ret, 8192, "%s%s", tree, path);
    for (char *p = ret + strlen(tree) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        assert_true(mkdir(ret, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
    return ret;
}

static void put_bytes(const char *path, const char *bytes, size_t n)
{
    char at[8192];
    int fd = open(place(path, at), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static void put(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

#define V2(root, point) "30 20 0:26 " root " " point " rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
#define V1(root, point) "31 20 0:27 " root " " point " rw - cgroup cgroup rw,cpu,cpuacct\n"
#define OTHER "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"

static void new_proc(const char *cgroup, const char *mountinfo)
{
    new_tree();
    put("/proc/self/cgroup", cgroup);
    put("/proc/self/mountinfo", mountinfo);
}

static struct mp_cpu_info look(void)
{
    struct mp_cpu_info info = {.configured = 64, .online = 32, .affinity = 16};

    mp_cpu_find_quota(tree, &info);
    mp_cpu_conclude(&info);
    return info;
}

static void expect(uint32_t quota, const char *cgroup)
{
    struct mp_cpu_info info = look();

    assert_int_equal(info.quota, quota);
    assert_string_equal(info.cgroup, cgroup);
    assert_int_equal(info.count, quota && quota < 16 ? quota : 16);
    assert_int_equal(info.limited_by, quota && quota < 16 ? MP_CPU_QUOTA : MP_CPU_AFFINITY);
    if (!quota) {
        assert_int_equal(info.quota_cgroup, 0);
        assert_int_equal(info.quota_us, 0);
        assert_int_equal(info.period_us, 0);
    }
}

static void expect_none(void)
{
    expect(0, "");
}

/* ---- tests ---- */

static void test_conclusion(void **state)
{
    static const struct {
        uint32_t online, affinity, quota, count, by;
    } cases[] = {
        {8, 8, 0, 8, MP_CPU_ONLINE},   {8, 3, 0, 3, MP_CPU_AFFINITY},
        {8, 3, 3, 3, MP_CPU_AFFINITY}, {8, 3, 2, 2, MP_CPU_QUOTA},
        {8, 8, 9, 8, MP_CPU_ONLINE},   {8, 8, 1, 1, MP_CPU_QUOTA},
        {8, 0, 0, 8, MP_CPU_ONLINE},   {8, 0, 5, 5, MP_CPU_QUOTA},
        {1, 4, 0, 4, MP_CPU_ONLINE},   {4, 4, UINT32_MAX, 4, MP_CPU_ONLINE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_cpu_info info = {
            .online = cases[i].online, .affinity = cases[i].affinity, .quota = cases[i].quota};

        mp_cpu_conclude(&info);
        assert_int_equal(info.count, cases[i].count);
        assert_int_equal(info.limited_by, cases[i].by);
    }
}

/* The affinity of this thread, as the kernel has it. */
static void test_affinity(void **state)
{
    struct mp_cpu_info info;
    cpu_set_t old, one;
    int first = 0;

    (void)state;
    assert_int_equal(mp_cpu_info(NULL), -EINVAL);
    assert_int_equal(mp_cpu_info(&info), 0);
    assert_true(info.count >= 1 && info.online >= 1 && info.configured >= info.online);
    assert_int_equal(mp_cpu_count(), info.count);
    if (sched_getaffinity(0, sizeof old, &old) < 0)
        skip();
    assert_int_equal(info.affinity, CPU_COUNT(&old));
    while (!CPU_ISSET(first, &old))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(mp_cpu_count(), 1);
    assert_int_equal(mp_cpu_info(&info), 0);
    assert_int_equal(info.affinity, 1);
    assert_int_equal(info.limited_by, info.online > 1 ? MP_CPU_AFFINITY : MP_CPU_ONLINE);
    assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
}

static int of_5000_cpus(pid_t pid, size_t size, cpu_set_t *set)
{
    if (pid != 0 || size * 8 < 5000) {
        errno = EINVAL;
        return -1;
    }
    for (size_t cpu = 0; cpu < 5000; cpu += 2)
        CPU_SET_S(cpu, size, set);
    return 0;
}

static int too_many(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid;
    (void)size;
    (void)set;
    errno = EINVAL;
    return -1;
}

static int refused(pid_t pid, size_t size, cpu_set_t *set)
{
    too_many(pid, size, set);
    errno = EPERM;
    return -1;
}

static void test_many_cpus(void **state)
{
    (void)state;
    assert_int_equal(mp_cpu_count_affinity(of_5000_cpus), 2500);
    assert_int_equal(mp_cpu_count_affinity(too_many), 0);
    assert_int_equal(mp_cpu_count_affinity(refused), 0);
}

/* Our own cgroup, those above it, and the tightest of all. */
static void test_v2(void **state)
{
    struct mp_cpu_info info;

    (void)state;
    new_proc("0::/a/b\n", OTHER V2("/", "/sys/fs/cgroup"));
    expect_none();
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    expect_none();
    put("/sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
    expect(3, "/a/b");
    info = look();
    assert_int_equal(info.quota_cgroup, 2);
    assert_int_equal(info.quota_us, 250000);
    assert_int_equal(info.period_us, 100000);
    put("/sys/fs/cgroup/a/cpu.max", "600000 100000\n");
    expect(3, "/a/b");
    put("/sys/fs/cgroup/a/cpu.max", "20000 10000\n");
    expect(2, "/a");
    put("/sys/fs/cgroup/cpu.max", "1 1000000\n");
    expect(1, "/");
    put("/sys/fs/cgroup/cpu.max", "3200000\n");
    put("/sys/fs/cgroup/a/cpu.max", "max\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max");
    expect(32, "/");
    /* Beside us, and above the mount: not ours. */
    put("/sys/fs/cgroup/cpu.max", "max");
    put("/sys/fs/cgroup/a/c/cpu.max", "100000 100000\n");
    put("/sys/fs/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "100000 100000\n");
    expect_none();
    clear_tree();
}

static void test_v1(void **state)
{
    (void)state;
    new_proc("4:memory:/m\n3:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/\n",
             OTHER V1("/", "/sys/fs/cgroup/cpu") V2("/", "/sys/fs/cgroup/unified"));
    put("/sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    expect_none();
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "410000\n");
    expect_none();
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    expect(5, "/a");
    assert_int_equal(look().quota_cgroup, 1);
    /* A v2 quota beside it. */
    put("/sys/fs/cgroup/unified/cpu.max", "400000 100000\n");
    expect(4, "/");
    assert_int_equal(look().quota_cgroup, 2);
    /* A hierarchy with another controller is none of ours. */
    new_proc("3:cpuset,cpuacct:/a\n", "31 20 0:27 / /c rw - cgroup cgroup rw,cpuset,cpuacct\n");
    put("/c/a/cpu.cfs_quota_us", "100000");
    put("/c/a/cpu.cfs_period_us", "100000");
    expect_none();
    clear_tree();
}

/* Mounted elsewhere, in part, twice, or with blanks in its name. */
static void test_mounts(void **state)
{
    (void)state;
    new_proc("0::/docker/x/in\n", V2("/docker/x", "/else\\040where"));
    put("/else where/in/cpu.max", "200000 100000\n");
    put("/else where/docker/x/in/cpu.max", "100000 100000\n");
    expect(2, "/docker/x/in");
    put("/else where/cpu.max", "100000 100000\n");
    expect(1, "/docker/x");

    new_proc("0::/docker/x\n", V2("/docker/xy", "/m") V2("/docker/x/below", "/n"));
    put("/m/cpu.max", "100000 100000\n");
    put("/n/cpu.max", "100000 100000\n");
    expect_none();

    new_proc("0::/docker/xy\n", V2("/docker/x", "/m"));
    put("/m/cpu.max", "100000 100000\n");
    put("/my/cpu.max", "100000 100000\n");
    expect_none();

    new_proc("0::/a\n", V2("/b", "/m") V2("/", "/n") V2("/a", "/o"));
    put("/m/cpu.max", "100000 100000\n");
    put("/n/cpu.max", "700000 100000\n");
    put("/o/cpu.max", "300000 100000\n");
    expect(3, "/a");

    new_proc("0::/\n", V2("/", "/m"));
    put("/m/cpu.max", "700000 100000\n");
    expect(7, "/");
    clear_tree();
}

/* In a cgroup namespace: what lies above its root begins with "..". */
static void test_namespaces(void **state)
{
    (void)state;
    new_proc("0::/a\n", V2("/../..", "/m"));
    put("/m/cpu.max", "700000 100000\n");
    put("/m/a/cpu.max", "100000 100000\n");
    expect(7, "/../..");

    new_proc("0::/../b\n", V2("/..", "/m"));
    put("/m/cpu.max", "700000 100000\n");
    put("/m/b/cpu.max", "600000 100000\n");
    expect(6, "/../b");

    new_proc("0::/../b\n", V2("/", "/m"));
    put("/m/cpu.max", "700000 100000\n");
    put("/b/cpu.max", "600000 100000\n");
    expect_none();

    new_proc("0::/../../b\n", V2("/..", "/m"));
    put("/m/cpu.max", "700000 100000\n");
    expect_none();
    clear_tree();
}

/* Whatever may stand in a quota. */
static void test_odd_quotas(void **state)
{
    static const char *const odd[] = {
        "",
        "\n",
        " ",
        "max",
        "max 0",
        "-1 100000",
        "0 100000",
        "100000 0",
        "100000 -5",
        "abc",
        "100000 abc",
        "100000 100000 100000",
        "100000  100000",
        "100000\t100000",
        "0x100 100000",
        "18446744073709551615 100000",
        "18446744073709551616 100000",
        "100000 99999999999999999999",
        "9223372036854775807 1",
        "100000 9223372036854775807",
        "99999999999999999999999999999999 1",
        "100000 100000 and a long text that does not fit into what is kept for it, at all, never",
        "\x80\xff\xfe",
        "+5 100000",
        "1e5 100000",
    };

    (void)state;
    new_proc("0::/a\n5:cpu:/v1\n", V2("/", "/m") V1("/", "/n"));
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        put("/m/a/cpu.max", odd[i]);
        put("/n/v1/cpu.cfs_quota_us", odd[i]);
        put("/n/v1/cpu.cfs_period_us", "100000\n");
        expect_none();
        put("/n/v1/cpu.cfs_quota_us", "100000\n");
        put("/n/v1/cpu.cfs_period_us", odd[i]);
        expect_none();
    }
    put_bytes("/m/a/cpu.max", "1\0 100000", 9);
    expect(1, "/a");
    /* The most that is a quota limits nothing, and overflows nothing. */
    put("/m/a/cpu.max", "8796093022208 1\n");
    expect(UINT32_MAX, "/a");
    put("/m/cpu.max", "8796093022208 1048576\n");
    expect(8388608, "/");
    clear_tree();
}

/* And in what tells where it is. */
static void test_odd_proc(void **state)
{
    static const char *const odd[] = {
        "",       "\n\n\n",    ":",       "::",      "0:",       "0::",      "0::a",
        "0:: /a", "0:cpu",     "1:cpu:a", "::::::",  "0::/b",    "0::/a/..", "0::/a/../a",
        "0::/..", "0\n:\n:/a", "x",       "0::\n/a", "\x80\xff",
    };
    static const char *const odd_mounts[] = {
        "",
        "\n\n",
        " ",
        "-",
        " - ",
        "1 2 3 / /m",
        "1 2 3 / /m -",
        "1 2 3 / /m - cgroup2x",
        "1 2 3 a /m - cgroup2 x y",
        "1 2 3 / m - cgroup2 x y",
        "1 2 3 - cgroup2 x y",
        "1 2 3 / \\057m\\ - cgroup2 x y",
        "1 2 3 / /m\\12 - cgroup2 x y",
        "- cgroup2 / /m",
        "1 2 3 / /m - cgroup x",
        "1 2 3 / /m - cgroup",
        "1 2 3 /a/../.. /m - cgroup2 x y",
    };

    (void)state;
    new_proc("", V2("/", "/m"));
    put("/m/a/cpu.max", "100000 100000\n");
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        put("/proc/self/cgroup", odd[i]);
        expect_none();
    }
    put("/proc/self/cgroup", "0::/a");
    for (size_t i = 0; i < sizeof odd_mounts / sizeof odd_mounts[0]; i++) {
        put("/proc/self/mountinfo", odd_mounts[i]);
        expect_none();
    }
    put("/proc/self/mountinfo", "junk\n- -\n" V2("/", "/m"));
    expect(1, "/a");
    clear_tree();
}

/* Files that are missing, no files, or without end. */
static void test_odd_files(void **state)
{
    char at[8192];
    _cleanup_free_ char *big = malloc((size_t)4 << 20);
    int fd, left;

    (void)state;
    new_tree();
    expect_none();
    put("/proc/self/cgroup", "0::/a\n");
    expect_none();
    assert_int_equal(mkfifo(place("/proc/self/mountinfo", at), 0600), 0);
    expect_none();
    assert_int_equal(unlink(at), 0);
    assert_int_equal(mkdir(at, 0700), 0);
    expect_none();
    assert_int_equal(rmdir(at), 0);

    /* More than is read: what comes first still counts, and the last whole line. */
    assert_non_null(big);
    memset(big, 'x', (size_t)4 << 20);
    put_bytes("/proc/self/mountinfo", big, (size_t)4 << 20);
    expect_none();
    put("/m/a/cpu.max", "100000 100000\n");
    memcpy(big, V2("/", "/m"), strlen(V2("/", "/m")));
    put_bytes("/proc/self/mountinfo", big, (size_t)4 << 20);
    expect(1, "/a");

    assert_int_equal(unlink(place("/m/a/cpu.max", at)), 0);
    assert_int_equal(mkfifo(at, 0600), 0);
    expect_none();
    /* What is in it is for others. */
    fd = open(at, O_RDWR | O_CLOEXEC);
    assert_int_equal(write(fd, "100000", 6), 6);
    expect_none();
    assert_int_equal(ioctl(fd, FIONREAD, &left), 0);
    assert_int_equal(left, 6);
    close(fd);
    clear_tree();
}

/* Paths longer than a path can be, and than what is told. */
static void test_long_paths(void **state)
{
    char path[6000], line[6100], expected[MP_CPU_CGROUP_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof path; i++)
        path[i] = i % 100 ? 'p' : '/';
    path[sizeof path - 1] = '\0';
    snprintf(line, sizeof line, "0::%s\n", path);
    new_proc(line, V2("/", "/m"));
    put("/m/cpu.max", "100000 100000\n");
    expect_none();

    path[1000] = '\0';
    snprintf(line, sizeof line, "0::%s\n", path);
    put("/proc/self/cgroup", line);
    snprintf(line, sizeof line, "/m%s/cpu.max", path);
    put("/m/cpu.max", "max\n");
    put(line, "100000 100000\n");
    memcpy(expected, path, sizeof expected - 1);
    expected[sizeof expected - 1] = '\0';
    expect(1, expected);
    clear_tree();
}

/* ---- the real thing ---- */

struct own {
    char dir[512];
    unsigned version;
};

static void find_own(const struct mp_cgroup *cgroup, void *arg)
{
    struct own *own = arg;
    char text[64];

    if (!cgroup->is_own || (cgroup->version == 2 &&
                            !mp_cgroup_read(cgroup, "cgroup.subtree_control", text, sizeof text)))
        return;
    if (cgroup->version == 2 && !strstr(text, "cpu"))
        return;
    own->version = cgroup->version;
    snprintf(own->dir, sizeof own->dir, "%s", cgroup->dir);
}

static int write_in(const char *dir, const char *name, const char *text)
{
    char path[1024];
    int fd, n;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return n;
}

/* In a child, so that nothing of it stays. */
static int look_from_within(const char *dir, unsigned version)
{
    struct mp_cpu_info info;

    if (write_in(dir, "cgroup.procs", "0") < 0)
        return 77;
    mp_cpu_info(&info);
    return !(info.quota == 1 && info.quota_us == 60000 && info.period_us == 100000 &&
             info.quota_cgroup == version && strstr(info.cgroup, "/mp-test-cpu-") &&
             info.count == 1 && mp_cpu_count() == 1 &&
             info.limited_by == (info.affinity > 1 ? MP_CPU_QUOTA : MP_CPU_ONLINE));
}

static void test_real(void **state)
{
    struct own own = {0};
    char dir[600];
    int status = 0, set;
    pid_t pid;

    (void)state;
    mp_cgroup_walk("", "cpu", find_own, &own);
    snprintf(dir, sizeof dir, "%s/mp-test-cpu-%d", own.dir, (int)getpid());
    if (!own.dir[0] || mkdir(dir, 0700) < 0)
        skip();
    set = own.version == 2 ? write_in(dir, "cpu.max", "60000 100000")
                           : write_in(dir, "cpu.cfs_quota_us", "60000");
    pid = set < 0 ? -1 : fork();
    if (pid == 0)
        _exit(look_from_within(dir, own.version));
    if (pid > 0)
        assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(rmdir(dir), 0);
    if (pid < 0 || status == 77 << 8)
        skip();
    assert_int_equal(status, 0);
}

static int clear_after(void **state)
{
    clear_tree();
    return leftovers_after(state);
}

#define tree_test(f) cmocka_unit_test_setup_teardown(f, leftovers_before, clear_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_conclusion), clean_test(test_affinity),  clean_test(test_many_cpus),
        tree_test(test_v2),          tree_test(test_v1),         tree_test(test_mounts),
        tree_test(test_namespaces),  tree_test(test_odd_quotas), tree_test(test_odd_proc),
        tree_test(test_odd_files),   tree_test(test_long_paths), clean_test(test_real),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
