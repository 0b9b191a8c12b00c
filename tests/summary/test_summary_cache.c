/* SPDX-License-Identifier: Apache-2.0
 *
 * The summary cache: what a kill leaves of it at every byte, damage at every byte, processes that
 * write at once, kills in the middle, its bound, a full disk.
 */
#include "summary/summary_cache.h"
#include "test.h"

#include "base/file.h"
#include "base/memory.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[] = "/tmp/kvern-summaries-XXXXXX";
static char directory[64];
static char current[80];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(top))
        return -1;
    snprintf(directory, sizeof directory, "%s/cache", top);
    snprintf(current, sizeof current, "%s/current", directory);
    signal(SIGXFSZ, SIG_IGN);
    return 0;
}

static int empty(void **state)
{
    (void)state;
    return directory_remove(directory, NULL) == KVERN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    return empty(state) == 0 && rmdir(top) == 0 ? 0 : -1;
}

/* The number's key and text; `n_more` makes the text longer. */
static struct cache_record record_of(unsigned number, size_t n_more, char *text, size_t size)
{
    struct cache_record record = {.flags = number, .n_tokens_in = 2, .n_tokens_out = 3};
    int n = snprintf(text, size, "Summary %u: %0*u", number, (int)n_more + 1, 0);

    memset(record.key, (int)(number % 251), sizeof record.key);
    memcpy(record.key, &number, sizeof number);
    record.text = text;
    record.n_text = (size_t)n;
    return record;
}

static void open_cache(struct summary_cache *cache, size_t max_bytes)
{
    kvern_error err;

    if (summary_cache_open(cache, directory, max_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static void put(struct summary_cache *cache, unsigned number, size_t n_more)
{
    char text[1024];
    struct cache_record record = record_of(number, n_more, text, sizeof text);
    kvern_error err;

    if (summary_cache_put(cache, &record, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* Is it there? What is there is right. */
static bool has(struct summary_cache *cache, unsigned number, size_t n_more)
{
    char text[1024];
    struct cache_record record = record_of(number, n_more, text, sizeof text);
    struct cached_summary found;

    if (!summary_cache_get(cache, record.key, &found))
        return false;
    assert_string_equal(found.text, text);
    assert_int_equal(found.n_text, record.n_text);
    assert_int_equal(found.flags, number);
    assert_int_equal(found.n_tokens_in, 2);
    assert_int_equal(found.n_tokens_out, 3);
    cached_summary_clear(&found);
    return true;
}

static size_t file_bytes(const char *name)
{
    char *path = path_join(directory, name);
    struct stat info;
    size_t n_bytes = stat(path, &info) == 0 ? (size_t)info.st_size : 0;

    free(path);
    return n_bytes;
}

static void write_current(const char *bytes, size_t n_bytes, bool is_new)
{
    FILE *file;

    assert_int_equal(directory_make(directory, NULL), KVERN_OK);
    if (is_new)
        unlink(current); /* some file systems wait for the disk when a file is written over */
    file = fopen(current, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

static void results_last(void **state)
{
    struct summary_cache cache = {0};

    (void)state;
    for (unsigned run = 0; run < 3; run++) {
        open_cache(&cache, 0);
        for (unsigned i = 0; i < 300; i++) {
            assert_int_equal(has(&cache, i, 0), run > 0);
            if (run == 0)
                put(&cache, i, 0);
        }
        assert_false(has(&cache, 999, 0));
        summary_cache_close(&cache);
        summary_cache_close(&cache);
    }
    open_cache(&cache, 0);
    put(&cache, 7, 10); /* a later result of the same key */
    assert_true(has(&cache, 7, 10));
    summary_cache_close(&cache);
    open_cache(&cache, 0);
    assert_true(has(&cache, 7, 10));
    summary_cache_close(&cache);
}

/* No part can be taken for another: bytes that move from one to the next change the key. */
static void keys(void **state)
{
    static const uint8_t one[16] = {1};
    static const uint8_t two[16] = {2};
    static const struct summary_source sources[] = {
        {one, "ab", "c", "d", 1}, {two, "ab", "c", "d", 1},   {one, "a", "bc", "d", 1},
        {one, "ab", "", "cd", 2}, {one, "ab", "cd", "", 0},   {one, "", "abc", "d", 1},
        {one, "ab", "c", "d", 0}, {one, "ab", "c", "d\0", 2}, {one, "", "", "abcd", 4},
    };
    uint8_t found[COUNT(sources)][CACHE_KEY_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT(sources); i++) {
        uint8_t again[CACHE_KEY_BYTES];

        summary_cache_key(&sources[i], found[i]);
        summary_cache_key(&sources[i], again);
        assert_memory_equal(found[i], again, sizeof again);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(found[i], found[j], CACHE_KEY_BYTES);
    }
}

/* Whatever byte the file ends at: whole records are there, the rest goes, new ones can come. */
static void torn_at_every_byte(void **state)
{
    struct summary_cache cache;
    char *whole = NULL;
    size_t n_whole = 0;
    size_t ends[3];

    (void)state;
    open_cache(&cache, 0);
    for (unsigned i = 0; i < COUNT(ends); i++) {
        put(&cache, i, 5 * i);
        ends[i] = file_bytes("current");
    }
    summary_cache_close(&cache);
    assert_int_equal(file_read(current, 1 << 20, &whole, &n_whole, NULL), KVERN_OK);
    assert_int_equal(n_whole, ends[2]);
    for (size_t n = 0; n <= n_whole; n++) {
        write_current(whole, n, true);
        open_cache(&cache, 0);
        for (unsigned i = 0; i < COUNT(ends); i++)
            assert_int_equal(has(&cache, i, 5 * i), n >= ends[i]);
        assert_int_equal(file_bytes("current"), n >= ends[2]   ? ends[2]
                                                : n >= ends[1] ? ends[1]
                                                : n >= ends[0] ? ends[0]
                                                               : 0);
        put(&cache, 9, 0);
        summary_cache_close(&cache);
        open_cache(&cache, 0);
        assert_true(has(&cache, 9, 0));
        assert_int_equal(has(&cache, 1, 5), n >= ends[1]);
        summary_cache_close(&cache);
    }
    free(whole);
}

/* One byte is wrong: its record is not there and can be written anew; the others are. */
static void damaged_at_every_byte(void **state)
{
    struct summary_cache cache;
    char *whole = NULL;
    size_t n_whole = 0;
    size_t n_one;

    (void)state;
    open_cache(&cache, 0);
    put(&cache, 0, 0);
    n_one = file_bytes("current");
    put(&cache, 1, 0);
    put(&cache, 2, 0);
    summary_cache_close(&cache);
    assert_int_equal(file_read(current, 1 << 20, &whole, &n_whole, NULL), KVERN_OK);
    for (size_t n = 0; n < n_whole; n++) {
        whole[n] ^= 0x10;
        write_current(whole, n_whole, true);
        whole[n] ^= 0x10;
        open_cache(&cache, 0);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(has(&cache, i, 0), n / n_one != i);
        put(&cache, (unsigned)(n / n_one), 0);
        summary_cache_close(&cache);
        open_cache(&cache, 0);
        for (unsigned i = 0; i < 3; i++)
            assert_true(has(&cache, i, 0));
        summary_cache_close(&cache);
    }
    /* and damage that comes while the cache is open is seen when the record is read */
    open_cache(&cache, 0);
    assert_true(has(&cache, 1, 0));
    whole[n_one + CACHE_HEADER_BYTES] ^= 1;
    write_current(whole, n_whole, false);
    assert_false(has(&cache, 1, 0));
    summary_cache_close(&cache);
    free(whole);
}

static void foreign_files(void **state)
{
    static const char *const texts[] = {"hello", "kvS1",
                                        "kvS1kvS1kvS1kvS1kvS1kvS1kvS1kvS1kvS1kvS1kvS1"
                                        "kvS1kvS1kvS1kvS1"};
    struct summary_cache cache;
    kvern_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        write_current(texts[i], strlen(texts[i]), true);
        open_cache(&cache, 0);
        assert_int_equal(file_bytes("current"), 0);
        put(&cache, 1, 0);
        assert_true(has(&cache, 1, 0));
        summary_cache_close(&cache);
    }
    assert_int_equal(unlink(current), 0);
    assert_int_equal(symlink("/dev/null", current), 0);
    assert_int_equal(summary_cache_open(&cache, directory, 0, &err), KVERN_IO);
    assert_non_null(strstr(err.message, "/cache/current: "));
    assert_int_equal(unlink(current), 0);
    assert_int_equal(mkdir(current, 0700), 0);
    assert_int_equal(summary_cache_open(&cache, directory, 0, &err), KVERN_IO);
    assert_int_equal(rmdir(current), 0);
    assert_int_equal(mkfifo(current, 0600), 0);
    assert_int_equal(summary_cache_open(&cache, directory, 0, &err), KVERN_IO);
    assert_non_null(strstr(err.message, "is not a regular file"));
    assert_int_equal(summary_cache_open(&cache, "/dev/null/x", 0, &err), KVERN_IO);
    summary_cache_close(&cache);
}

/* Writes for ever and tells after each record that it was written. */
static void write_until_killed(int pipe_end, unsigned first)
{
    struct summary_cache cache;

    if (summary_cache_open(&cache, directory, 0, NULL) != KVERN_OK)
        _exit(1);
    for (unsigned i = first;; i++) {
        char text[1024];
        struct cache_record record = record_of(i, i % 700, text, sizeof text);

        if (summary_cache_put(&cache, &record, NULL) != KVERN_OK ||
            write(pipe_end, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(1);
    }
}

static void killed_in_the_middle(void **state)
{
    unsigned next = 0;

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        struct summary_cache cache;
        unsigned n_told = 0;
        unsigned number;
        int ends[2];
        pid_t child;

        assert_int_equal(pipe(ends), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_until_killed(ends[1], next);
        close(ends[1]);
        while (n_told < 1 + 7 * round && read(ends[0], &number, sizeof number) == sizeof number)
            n_told++;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(ends[0], &number, sizeof number) == sizeof number)
            n_told++; /* written between the last read and the kill */
        close(ends[0]);
        assert_true(n_told >= 1 + 7 * round);
        next += n_told;
        open_cache(&cache, 0);
        for (unsigned i = 0; i < next; i++)
            assert_true(has(&cache, i, i % 700));
        next += has(&cache, next, next % 700); /* written and not told */
        summary_cache_close(&cache);
    }
}

/* Puts `n` records from `first` on, and after each one that all have. */
static void write_some(unsigned first, unsigned n, size_t max_bytes)
{
    struct summary_cache cache;

    if (summary_cache_open(&cache, directory, max_bytes, NULL) != KVERN_OK)
        _exit(1);
    for (unsigned i = first; i < first + n; i++) {
        char text[1024];
        struct cache_record own = record_of(i, i % 50, text, sizeof text);
        struct cached_summary found;

        if (summary_cache_put(&cache, &own, NULL) != KVERN_OK)
            _exit(2);
        if (!summary_cache_get(&cache, own.key, &found) || strcmp(found.text, text) != 0)
            _exit(3);
        cached_summary_clear(&found);
        own = record_of(1000000, 3, text, sizeof text);
        if (summary_cache_put(&cache, &own, NULL) != KVERN_OK)
            _exit(4);
    }
    summary_cache_close(&cache);
    _exit(0);
}

static void many_writers(void **state)
{
    /* with room for all, and with files that change under the others' feet */
    static const size_t limits[] = {0, 20000};

    (void)state;
    for (size_t l = 0; l < COUNT(limits); l++) {
        struct summary_cache cache;
        pid_t children[3];
        unsigned n_found = 0;

        assert_int_equal(empty(NULL), 0);
        for (unsigned i = 0; i < COUNT(children); i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0)
                write_some(1000 * i, 200, limits[l]);
        }
        for (unsigned i = 0; i < COUNT(children); i++) {
            int result = -1;

            assert_int_equal(waitpid(children[i], &result, 0), children[i]);
            assert_int_equal(result, 0);
        }
        if (limits[l] > 0)
            assert_true(file_bytes("current") + file_bytes("previous") <= limits[l]);
        open_cache(&cache, limits[l]);
        assert_true(has(&cache, 1000000, 3));
        for (unsigned i = 0; i < 3000; i++)
            n_found += has(&cache, i, i % 50);
        if (limits[l] == 0)
            assert_int_equal(n_found, 600);
        else
            assert_in_range(n_found, 20, 599);
        summary_cache_close(&cache);
    }
}

static void the_oldest_go(void **state)
{
    const size_t max_bytes = 16384;
    struct summary_cache cache;
    struct summary_cache other;

    (void)state;
    open_cache(&cache, max_bytes);
    open_cache(&other, max_bytes);
    for (unsigned i = 0; i < 1000; i++) {
        put(&cache, i, 100);
        assert_true(has(&cache, i, 100));
        if (i > 20 && i % 10 == 0)
            assert_true(has(&cache, 5, 100)); /* what is used stays */
        assert_true(file_bytes("current") <= max_bytes / 2);
        assert_true(file_bytes("previous") <= max_bytes / 2);
    }
    assert_false(has(&cache, 6, 100));
    for (unsigned i = 970; i < 1000; i++)
        assert_true(has(&cache, i, 100));
    assert_false(has(&other, 999, 100));
    put(&other, 1000, 100); /* it sees now that the files are others */
    assert_true(has(&other, 999, 100));
    assert_true(has(&other, 5, 100));
    summary_cache_close(&other);
    summary_cache_close(&cache);
    /* a smaller limit than that of the files */
    open_cache(&cache, 4096);
    put(&cache, 1, 100);
    assert_true(has(&cache, 1, 100));
    assert_true(file_bytes("current") + file_bytes("previous") <= 4096);
    summary_cache_close(&cache);
}

static void failures_leave_it_usable(void **state)
{
    struct rlimit limit;
    struct rlimit small;
    struct summary_cache cache;
    char text[1024];
    struct cache_record record = record_of(1, 100, text, sizeof text);
    kvern_error err;
    char *long_text = try_new(CACHE_MAX_TEXT_BYTES + 1, 1);
    size_t n_before;
    int lock;
    char *path = path_join(directory, "lock");

    (void)state;
    assert_non_null(long_text);
    open_cache(&cache, 0);
    put(&cache, 0, 0);
    /* a full disk, in the middle of the record */
    n_before = file_bytes("current");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = n_before + 60, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(summary_cache_put(&cache, &record, &err), KVERN_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_non_null(strstr(err.message, "cannot write to "));
    assert_int_equal(file_bytes("current"), n_before);
    assert_true(has(&cache, 0, 0));
    put(&cache, 1, 100);
    assert_true(has(&cache, 1, 100));
    /* a text that is too long */
    record.text = long_text;
    record.n_text = CACHE_MAX_TEXT_BYTES + 1;
    assert_int_equal(summary_cache_put(&cache, &record, &err), KVERN_LIMIT);
    record.n_text = CACHE_MAX_TEXT_BYTES;
    memset(long_text, 'x', record.n_text);
    assert_int_equal(summary_cache_put(&cache, &record, &err), KVERN_OK);
    /* somebody who does not give the lock back */
    lock = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    record.n_text = 3;
    assert_int_equal(summary_cache_put(&cache, &record, &err), KVERN_BUSY);
    close(lock);
    assert_int_equal(summary_cache_put(&cache, &record, &err), KVERN_OK);
    /* somebody who empties the cache */
    assert_int_equal(empty(NULL), 0);
    put(&cache, 2, 0);
    assert_true(has(&cache, 2, 0));
    assert_false(has(&cache, 0, 0));
    summary_cache_close(&cache);
    free(long_text);
    free(path);
}

static void no_memory(void **state)
{
    struct summary_cache cache;
    bool has_failed = true;

    (void)state;
    open_cache(&cache, 0);
    put(&cache, 0, 0);
    summary_cache_close(&cache);
    for (int64_t n = 0; has_failed; n++) {
        char text[1024];
        struct cache_record record = record_of(1, 0, text, sizeof text);
        struct cached_summary found = {0};
        kvern_status status;

        memory_fail_after(n);
        status = summary_cache_open(&cache, directory, 0, NULL);
        if (status == KVERN_OK)
            status = summary_cache_put(&cache, &record, NULL);
        if (status == KVERN_OK && !summary_cache_get(&cache, record.key, &found))
            status = KVERN_MEMORY;
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        cached_summary_clear(&found);
        summary_cache_close(&cache);
        open_cache(&cache, 0);
        assert_true(has(&cache, 0, 0));
        summary_cache_close(&cache);
    }
}

static void the_directory(void **state)
{
    char *found;

    (void)state;
    setenv("KVERN_HOME", "/somewhere", 1);
    found = summary_cache_directory();
    assert_string_equal(found, "/somewhere/summaries-1");
    free(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(results_last, empty),
        cmocka_unit_test(keys),
        cmocka_unit_test_teardown(torn_at_every_byte, empty),
        cmocka_unit_test_teardown(damaged_at_every_byte, empty),
        cmocka_unit_test_teardown(foreign_files, empty),
        cmocka_unit_test_teardown(killed_in_the_middle, empty),
        cmocka_unit_test_teardown(many_writers, empty),
        cmocka_unit_test_teardown(the_oldest_go, empty),
        cmocka_unit_test_teardown(failures_leave_it_usable, empty),
        cmocka_unit_test_teardown(no_memory, empty),
        cmocka_unit_test(the_directory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
