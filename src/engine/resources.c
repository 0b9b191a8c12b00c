/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads /proc and the cgroup file systems. A limit of any group on the way from the process's own
 * to the mount's root holds, so each of them is asked; what cannot be read sets no limit.
 */
#include "engine/resources.h"

#include "base/error.h"
#include "base/memory.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* Sees one group's directory, the innermost first. */
typedef void (*group_fn)(const char *directory, bool is_v2, void *data);

/* "cpu" in "cpu,cpuacct". */
static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = words; (at = strstr(at, word)); at += n) {
        bool begins = at == words || at[-1] == ',';

        if (begins && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return false;
}

/* The process's group in /proc/self/cgroup: "4:memory:/a/b", or "0::/a/b" of v2. */
static bool find_group(const char *root, const char *controller, char group[PATH_BYTES])
{
    char path[PATH_BYTES];
    char line[PATH_BYTES];
    bool is_found = false;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && !is_found && fgets(line, sizeof line, file)) {
        char *words = strchr(line, ':');
        char *name = words ? strchr(words + 1, ':') : NULL;

        if (!name)
            continue;
        *name++ = '\0';
        words++;
        is_found = controller ? has_word(words, controller) : *words == '\0';
        name[strcspn(name, "\n")] = '\0';
        snprintf(group, PATH_BYTES, "%s", name);
    }
    if (file)
        fclose(file);
    return is_found;
}

/* Where that hierarchy is mounted, and which of its groups stands there. A line of mountinfo:
 * "35 31 0:32 /its/root /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory". */
static bool find_mount(const char *root, const char *controller, char mount[PATH_BYTES],
                       char mounted[PATH_BYTES])
{
    char path[PATH_BYTES];
    char line[2 * PATH_BYTES];
    bool is_found = false;

    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    while (file && !is_found && fgets(line, sizeof line, file)) {
        char type[32];
        char options[1024];
        const char *tail = strstr(line, " - ");

        if (!tail || sscanf(tail, " - %31s %*s %1023s", type, options) != 2 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", mounted, mount) != 2)
            continue;
        is_found = controller ? strcmp(type, "cgroup") == 0 && has_word(options, controller)
                              : strcmp(type, "cgroup2") == 0;
    }
    if (file)
        fclose(file);
    return is_found;
}

/* Calls fn for the group and all it is in, as far as the mount shows them. */
static void visit_groups(const char *root, const char *controller, group_fn fn, void *data)
{
    char group[PATH_BYTES];
    char mount[PATH_BYTES];
    char mounted[PATH_BYTES];
    char directory[3 * PATH_BYTES];

    if (!find_group(root, controller, group) || !find_mount(root, controller, mount, mounted))
        return;
    /* in a container the mount may show this group as its root */
    size_t n = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
    const char *inner = "";
    if (strncmp(group, mounted, n) == 0 && group[n] == '/' && strncmp(group + n, "/..", 3) != 0)
        inner = group + n;
    int n_root = snprintf(directory, sizeof directory, "%s%s", root, mount);
    snprintf(directory + n_root, sizeof directory - (size_t)n_root, "%s",
             strcmp(inner, "/") == 0 ? "" : inner);
    for (;;) {
        char *slash = strrchr(directory + n_root, '/');

        fn(directory, controller == NULL, data);
        if (!slash)
            break;
        *slash = '\0';
    }
}

/* Up to two numbers at the start of a small file; "max" is none. */
static int read_numbers(const char *directory, const char *name, double numbers[2])
{
    char path[4 * PATH_BYTES];
    int n = 0;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (file)
        n = fscanf(file, "%lf %lf", &numbers[0], &numbers[1]);
    if (file)
        fclose(file);
    return n;
}

/* The number after a word that begins a line; 0 if there is none. */
static double read_field(const char *path, const char *word)
{
    char line[256];
    size_t n = strlen(word);
    double value = 0;
    FILE *file = fopen(path, "re");

    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, word, n) == 0 && strchr(" :", line[n])) {
            value = strtod(line + n + 1, NULL);
            break;
        }
    }
    if (file)
        fclose(file);
    return value;
}

static void take_quota(const char *directory, bool is_v2, void *data)
{
    double *cpus = data;
    double quota[2] = {0};
    double period[2] = {0};

    if (is_v2) {
        if (read_numbers(directory, "cpu.max", quota) != 2)
            return;
        period[0] = quota[1];
    } else if (read_numbers(directory, "cpu.cfs_quota_us", quota) < 1 ||
               read_numbers(directory, "cpu.cfs_period_us", period) < 1) {
        return;
    }
    if (quota[0] > 0 && period[0] > 0 && quota[0] / period[0] < *cpus)
        *cpus = quota[0] / period[0];
}

int32_t resources_threads(const char *root, int32_t n_cpus)
{
    double cpus = n_cpus;

    visit_groups(root, NULL, take_quota, &cpus);
    visit_groups(root, "cpu", take_quota, &cpus);
    return cpus < 1 ? 1 : (int32_t)cpus;
}

static void take_memory(const char *directory, bool is_v2, void *data)
{
    double *free_bytes = data;
    double limit[2], high[2], used[2];
    char stat[4 * PATH_BYTES];
    bool is_limited =
        read_numbers(directory, is_v2 ? "memory.max" : "memory.limit_in_bytes", limit) >= 1;

    if (is_v2 && read_numbers(directory, "memory.high", high) >= 1) {
        limit[0] = is_limited && limit[0] < high[0] ? limit[0] : high[0];
        is_limited = true;
    }
    if (!is_limited ||
        read_numbers(directory, is_v2 ? "memory.current" : "memory.usage_in_bytes", used) < 1)
        return;
    snprintf(stat, sizeof stat, "%s/memory.stat", directory);
    double cached = read_field(stat, is_v2 ? "active_file" : "total_active_file") +
                    read_field(stat, is_v2 ? "inactive_file" : "total_inactive_file");
    double left = limit[0] - used[0] + cached;
    if (left > limit[0])
        left = limit[0];
    if (left < *free_bytes)
        *free_bytes = left > 0 ? left : 0;
}

size_t resources_free_memory(const char *root)
{
    char path[PATH_BYTES];
    double free_bytes;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    free_bytes = 1024 * read_field(path, "MemAvailable");
    if (free_bytes <= 0)
        free_bytes = (double)SIZE_MAX;
    visit_groups(root, NULL, take_memory, &free_bytes);
    visit_groups(root, "memory", take_memory, &free_bytes);
    return free_bytes >= (double)SIZE_MAX ? SIZE_MAX : (size_t)free_bytes;
}

kvern_status resources_plan_kv(const struct memory_needs *needs, size_t *kv_bytes, kvern_error *err)
{
    size_t beside;
    size_t left = 0;

    if (!add_sizes(needs->weight_bytes, needs->scratch_bytes, &beside))
        beside = SIZE_MAX;
    if (beside < needs->free_bytes)
        left = needs->free_bytes - beside;
    if (needs->asked_bytes > 0) {
        if (needs->asked_bytes > left)
            return fail(err, KVERN_LIMIT,
                        "kv_memory of %zu MiB, beside weights and scratch of %zu MiB, is over the "
                        "%zu MiB of memory that are free here",
                        needs->asked_bytes >> 20, beside >> 20, needs->free_bytes >> 20);
        *kv_bytes = needs->asked_bytes;
        return KVERN_OK;
    }
    if (left / 2 < 2 * needs->block_bytes)
        return fail(err, KVERN_MEMORY,
                    "weights and scratch take %zu MiB, which leaves too little of the %zu MiB of "
                    "memory that are free here for a KV cache",
                    beside >> 20, needs->free_bytes >> 20);
    *kv_bytes = left / 2 < needs->wanted_bytes ? left / 2 : needs->wanted_bytes;
    return KVERN_OK;
}

int32_t kvern_default_threads(void)
{
    int32_t n_cpus = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);

    /* the mask must be as large as the kernel's, which it does not tell */
    for (int n_bits = 1024; n_bits <= 1 << 16; n_bits *= 2) {
        cpu_set_t *cpus = CPU_ALLOC(n_bits);
        size_t n_bytes = CPU_ALLOC_SIZE(n_bits);
        bool is_known = cpus && sched_getaffinity(0, n_bytes, cpus) == 0;

        if (is_known)
            n_cpus = CPU_COUNT_S(n_bytes, cpus);
        CPU_FREE(cpus);
        if (is_known)
            break;
    }
    return resources_threads("", n_cpus > 0 ? n_cpus : 1);
}
