/* SPDX-License-Identifier: Apache-2.0
 *
 * CPUs and memory of fake machines: /proc and cgroup files under a directory of the test's, and
 * what a KV cache gets of the memory.
 */
#include "engine/resources.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 16 };

static char root[] = "/tmp/kvern-resources-XXXXXX";

struct fake_file {
    const char *path;
    const char *text;
};

#define MOUNT_V2 "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
#define MOUNT_V1                                                                                   \
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"                                            \
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"                  \
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
#define GROUP_V1 "4:memory:/a\n3:cpuset:/\n2:cpu,cpuacct:/a/b\n0::/\n"
#define MEMINFO "MemTotal:       9000 kB\nMemFree:         100 kB\nMemAvailable:    8000 kB\n"

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static void remove_root(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

static int tear_down(void **state)
{
    (void)state;
    remove_root();
    return 0;
}

static void make_machine(const struct fake_file *files)
{
    remove_root();
    for (size_t i = 0; i < MAX_FILES && files[i].path; i++) {
        char *path = path_join(root, files[i].path);
        char *directory = path_directory(path);
        FILE *file;

        assert_int_equal(directory_make(directory, NULL), KVERN_OK);
        file = fopen(path, "w");
        assert_non_null(file);
        fputs(files[i].text, file);
        assert_int_equal(fclose(file), 0);
        free(directory);
        free(path);
    }
}

static void threads_are_the_tightest_quota(void **state)
{
    static const struct {
        const char *what;
        int32_t n_cpus, n_threads;
        struct fake_file files[MAX_FILES];
    } cases[] = {
        {"no cgroups", 8, 8, {{"proc/meminfo", MEMINFO}}},
        {"v2, no quota",
         8,
         8,
         {{"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "max 100000\n"}}},
        {"v2, 3 CPUs",
         8,
         3,
         {{"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"}}},
        {"v2, a fraction goes down",
         8,
         2,
         {{"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "290000 100000\n"}}},
        {"v2, half a CPU is one thread",
         8,
         1,
         {{"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "50000 100000\n"}}},
        {"v2, more than there are",
         2,
         2,
         {{"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "1600000 100000\n"}}},
        {"v2, the outer group is tighter",
         8,
         2,
         {{"proc/self/cgroup", "0::/a/b/c\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "20000 10000\n"},
          {"sys/fs/cgroup/a/b/cpu.max", "max 100000\n"},
          {"sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n"}}},
        {"v2, the inner group is tighter, the one between says nothing",
         8,
         4,
         {{"proc/self/cgroup", "0::/a/b/c\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "600000 100000\n"},
          {"sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n"}}},
        {"v2 of a container: the mount's root is the group",
         8,
         2,
         {{"proc/self/cgroup", "0::/\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}},
        {"v2, a mount that shows an inner group",
         8,
         2,
         {{"proc/self/cgroup", "0::/docker/x/inner\n"},
          {"proc/self/mountinfo", "30 20 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
          {"sys/fs/cgroup/inner/cpu.max", "200000 100000\n"}}},
        {"v2, outside of what the mount shows",
         8,
         2,
         {{"proc/self/cgroup", "0::/../y\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}},
        {"v1",
         8,
         3,
         {{"proc/self/cgroup", GROUP_V1},
          {"proc/self/mountinfo", MOUNT_V1},
          {"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "350000\n"},
          {"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n"}}},
        {"v1, no quota in the group, one outside",
         8,
         2,
         {{"proc/self/cgroup", GROUP_V1},
          {"proc/self/mountinfo", MOUNT_V1},
          {"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n"},
          {"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n"},
          {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n"},
          {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "50000\n"}}},
        {"v1 of a container: its own path, mounted as the root",
         8,
         2,
         {{"proc/self/cgroup", "2:cpuacct,cpu:/docker/x\n"},
          {"proc/self/mountinfo",
           "32 31 0:29 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"},
          {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"},
          {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}}},
        {"damaged files set no limit",
         8,
         8,
         {{"proc/self/cgroup", "0\n::\n0:\n0::/a\n"},
          {"proc/self/mountinfo", "30 - cgroup2\n - \n" MOUNT_V2},
          {"sys/fs/cgroup/a/cpu.max", "\n"},
          {"sys/fs/cgroup/cpu.max", "-5 0\n"}}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        make_machine(cases[i].files);
        int32_t n = resources_threads(root, cases[i].n_cpus);
        if (n != cases[i].n_threads)
            fail_msg("%s: %d threads, not %d", cases[i].what, n, cases[i].n_threads);
    }
}

static void free_memory_is_the_tightest_limit(void **state)
{
    static const struct {
        const char *what;
        size_t free_bytes;
        struct fake_file files[MAX_FILES];
    } cases[] = {
        {"nothing says", SIZE_MAX, {{"proc/self/cgroup", ""}}},
        {"no cgroups", 8000 * 1024, {{"proc/meminfo", MEMINFO}}},
        {"v2, no limit",
         8000 * 1024,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "max\n"},
          {"sys/fs/cgroup/a/memory.current", "1000\n"}}},
        {"v2, the cache is free, but not the shared memory",
         700000,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "1000000\n"},
          {"sys/fs/cgroup/a/memory.current", "400000\n"},
          {"sys/fs/cgroup/a/memory.stat",
           "anon 200000\nfile 190000\nshmem 90000\ninactive_file 60000\nactive_file 40000\n"}}},
        {"v2, memory.high is tighter",
         200000,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "1000000\n"},
          {"sys/fs/cgroup/a/memory.high", "600000\n"},
          {"sys/fs/cgroup/a/memory.current", "400000\n"}}},
        {"v2, the outer group has less left, though its limit is larger",
         100000,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a/b\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "2000000\n"},
          {"sys/fs/cgroup/a/memory.current", "1900000\n"},
          {"sys/fs/cgroup/a/b/memory.max", "1000000\n"},
          {"sys/fs/cgroup/a/b/memory.current", "400000\n"}}},
        {"v2, over its limit",
         0,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "1000\n"},
          {"sys/fs/cgroup/a/memory.current", "1400\n"}}},
        {"v2, more than the machine has left",
         8000 * 1024,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", "0::/a\n"},
          {"proc/self/mountinfo", MOUNT_V2},
          {"sys/fs/cgroup/a/memory.max", "100000000\n"},
          {"sys/fs/cgroup/a/memory.current", "400000\n"}}},
        {"v1",
         650000,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", GROUP_V1},
          {"proc/self/mountinfo", MOUNT_V1},
          {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000000\n"},
          {"sys/fs/cgroup/memory/a/memory.usage_in_bytes", "400000\n"},
          {"sys/fs/cgroup/memory/a/memory.stat",
           "inactive_file 1\ntotal_inactive_file 30000\ntotal_active_file 20000\n"}}},
        {"v1, no limit",
         8000 * 1024,
         {{"proc/meminfo", MEMINFO},
          {"proc/self/cgroup", GROUP_V1},
          {"proc/self/mountinfo", MOUNT_V1},
          {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"},
          {"sys/fs/cgroup/memory/a/memory.usage_in_bytes", "400000\n"}}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        make_machine(cases[i].files);
        size_t n = resources_free_memory(root);
        if (n != cases[i].free_bytes)
            fail_msg("%s: %zu bytes free, not %zu", cases[i].what, n, cases[i].free_bytes);
    }
}

static void kv_memory_is_planned(void **state)
{
    enum { MIB = 1 << 20 };
    static const struct {
        struct memory_needs needs; /* free, weights, scratch, asked, wanted, block */
        kvern_status status;
        size_t kv_bytes;
        const char *says;
    } cases[] = {
        {{1000, 100, 50, 0, 300, 10}, KVERN_OK, 300, NULL},  /* auto: as wanted */
        {{1000, 100, 50, 0, 5000, 10}, KVERN_OK, 425, NULL}, /* half of what is left */
        {{SIZE_MAX, 100, 50, 0, 5000, 10}, KVERN_OK, 5000, NULL},
        {{190, 100, 50, 0, 5000, 10}, KVERN_OK, 20, NULL}, /* just two blocks */
        {{189, 100, 50, 0, 5000, 10}, KVERN_MEMORY, 0, "weights and scratch take 0 MiB"},
        {{149 * MIB, 100 * MIB, 50 * MIB, 0, 300, 10},
         KVERN_MEMORY,
         0,
         "weights and scratch take 150 MiB, which leaves too little of the 149 MiB"},
        {{1000, 100, 50, 850, 300, 10}, KVERN_OK, 850, NULL}, /* asked: all that is left */
        {{1000 * (size_t)MIB, 100 * MIB, 50 * MIB, 851 * (size_t)MIB, 300, 10},
         KVERN_LIMIT,
         0,
         "kv_memory of 851 MiB, beside weights and scratch of 150 MiB, is over the 1000 MiB"},
        {{1000, 2000, 50, 1, 300, 10}, KVERN_LIMIT, 0, "is over the"},
        {{1000, SIZE_MAX, SIZE_MAX, 1, 300, 10}, KVERN_LIMIT, 0, "is over the"},
        {{1000, 100, 50, SIZE_MAX, 300, 10}, KVERN_LIMIT, 0, "is over the"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t kv_bytes = 0;
        kvern_error err = {0};
        kvern_status status = resources_plan_kv(&cases[i].needs, &kv_bytes, &err);

        if (status != cases[i].status || kv_bytes != cases[i].kv_bytes)
            fail_msg("case %zu: %s, %zu bytes, not %zu", i, kvern_status_name(status), kv_bytes,
                     cases[i].kv_bytes);
        if (cases[i].says && !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s", i, err.message);
    }
}

/* The real one: something that makes sense. */
static void this_machine_has_cpus_and_memory(void **state)
{
    (void)state;
    assert_in_range(kvern_default_threads(), 1, 1 << 16);
    assert_in_range(resources_free_memory(""), 1 << 20, SIZE_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_the_tightest_quota),
        cmocka_unit_test(free_memory_is_the_tightest_limit),
        cmocka_unit_test(kv_memory_is_planned),
        cmocka_unit_test(this_machine_has_cpus_and_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
