/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/kvern-test-file-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return directory_remove(folder, NULL) == KVERN_OK ? 0 : -1;
}

static void write_file(const char *path, const char *text)
{
    struct file_writer writer;
    kvern_error err = {0};

    assert_int_equal(file_writer_open(&writer, path, &err), KVERN_OK);
    assert_int_equal(file_writer_put(&writer, text, strlen(text), &err), KVERN_OK);
    assert_int_equal(file_writer_commit(&writer, &err), KVERN_OK);
}

static void a_file_appears_whole_or_not_at_all(void **state)
{
    char *path = path_join(folder, "a.txt");
    struct file_writer writer;
    kvern_error err = {0};
    char *text = NULL;

    (void)state;
    write_file(path, "first");
    assert_int_equal(file_writer_open(&writer, path, &err), KVERN_OK);
    assert_int_equal(file_writer_put(&writer, "second", 6, &err), KVERN_OK);
    file_writer_clear(&writer); /* not committed */
    assert_int_equal(file_read(path, 100, &text, NULL, &err), KVERN_OK);
    assert_string_equal(text, "first");
    free(text);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
    assert_int_equal(mkdir(folder, 0700), 0);
    free(path);
}

/* A pipe, a device and a link are written to, not replaced by a file; of a folder it is said at
 * once. */
static void what_is_no_plain_file_stays(void **state)
{
    char *pipe_path = path_join(folder, "pipe");
    char *link_path = path_join(folder, "link");
    char *target = path_join(folder, "target.txt");
    struct file_writer writer;
    struct stat info;
    kvern_error err = {0};
    char bytes[8] = "";
    char *text = NULL;

    (void)state;
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    int fd = open(pipe_path, O_RDONLY | O_NONBLOCK);
    write_file(pipe_path, "piped");
    assert_int_equal(read(fd, bytes, sizeof bytes), 5);
    assert_string_equal(bytes, "piped");
    assert_int_equal(lstat(pipe_path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    close(fd);
    write_file(target, "a longer text");
    assert_int_equal(symlink(target, link_path), 0);
    write_file(link_path, "linked");
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(file_read(target, 100, &text, NULL, &err), KVERN_OK);
    assert_string_equal(text, "linked");
    free(text);
    assert_int_equal(file_writer_open(&writer, link_path, &err), KVERN_OK);
    file_writer_clear(&writer); /* nothing was committed */
    assert_int_equal(file_read(target, 100, &text, NULL, &err), KVERN_OK);
    assert_string_equal(text, "linked");
    free(text);
    assert_int_equal(lstat(link_path, &info), 0);
    assert_int_equal(file_writer_open(&writer, folder, &err), KVERN_IO);
    assert_non_null(strstr(err.message, "Is a directory"));
    unlink(pipe_path);
    unlink(link_path);
    unlink(target);
    free(pipe_path);
    free(link_path);
    free(target);
}

static void what_cannot_be_written_is_told_before(void **state)
{
    static const struct {
        const char *name;
        kvern_status status;
    } cases[] = {{"later.txt", KVERN_OK},
                 {"pipe", KVERN_OK}, /* nobody reads it: opening it would wait */
                 {"", KVERN_IO},
                 {"missing/later.txt", KVERN_NOT_FOUND}};
    char *pipe_path = path_join(folder, "pipe");

    (void)state;
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = path_join(folder, cases[i].name);

        assert_int_equal(file_check_writable(path, NULL), cases[i].status);
        free(path);
    }
    unlink(pipe_path);
    free(pipe_path);
    assert_int_equal(rmdir(folder), 0); /* nothing is left in it */
    assert_int_equal(mkdir(folder, 0700), 0);
}

static void a_full_disk_is_an_error_and_leaves_nothing(void **state)
{
    char *path = path_join(folder, "full.txt");
    struct file_writer writer;
    struct rlimit old_limit;
    kvern_error err = {0};
    char block[8192] = {1};
    kvern_status status = KVERN_OK;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_limit);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){10000, old_limit.rlim_max});
    assert_int_equal(file_writer_open(&writer, path, &err), KVERN_OK);
    for (int i = 0; status == KVERN_OK && i < 10; i++)
        status = file_writer_put(&writer, block, sizeof block, &err);
    setrlimit(RLIMIT_FSIZE, &old_limit);
    assert_int_equal(status, KVERN_IO);
    assert_non_null(strstr(err.message, "full.txt"));
    file_writer_clear(&writer);
    assert_false(file_exists(path));
    free(path);
}

static void reads_and_maps_name_what_is_wrong(void **state)
{
    char *path = path_join(folder, "b.txt");
    char *missing = path_join(folder, "missing");
    struct file_map map = {0};
    kvern_error err = {0};
    char *text = NULL;

    (void)state;
    write_file(path, "12345");
    assert_int_equal(file_read(path, 4, &text, NULL, &err), KVERN_LIMIT);
    assert_non_null(strstr(err.message, "5 bytes"));
    assert_int_equal(file_read(missing, 4, &text, NULL, &err), KVERN_NOT_FOUND);
    assert_int_equal(file_read(folder, 4, &text, NULL, &err), KVERN_INVALID);
    assert_int_equal(file_map_open(&map, path, &err), KVERN_OK);
    assert_int_equal(map.n_bytes, 5);
    assert_memory_equal(map.data, "12345", 5);
    file_map_close(&map);
    unlink(path);
    free(path);
    free(missing);
}

static void sha256_is_the_known_one(void **state)
{
    char *path = path_join(folder, "c.txt");
    char hex[65];
    kvern_error err = {0};

    (void)state;
    write_file(path, "abc");
    assert_int_equal(file_sha256(path, hex, &err), KVERN_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    unlink(path);
    free(path);
}

static void directories_are_made_with_parents_and_removed(void **state)
{
    char *deep = path_join(folder, "x/y");
    char *file = path_join(deep, "z.txt");
    char *top = path_join(folder, "x");
    kvern_error err = {0};

    (void)state;
    assert_int_equal(directory_make(deep, &err), KVERN_OK);
    assert_int_equal(directory_make(deep, &err), KVERN_OK);
    write_file(file, "z");
    assert_int_equal(directory_make(file, &err), KVERN_IO);
    assert_int_equal(directory_remove(top, &err), KVERN_OK);
    assert_false(directory_exists(top));
    assert_int_equal(directory_remove(top, &err), KVERN_OK);
    free(deep);
    free(file);
    free(top);
}

static void paths_are_joined_and_cut(void **state)
{
    static const struct {
        const char *directory, *name, *joined, *base;
    } rows[] = {{"a", "b", "a/b", "b"},
                {"a/", "b", "a/b", "b"},
                {"", "b", "b", "b"},
                {"/", "b", "/b", "b"}};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *joined = path_join(rows[i].directory, rows[i].name);

        assert_string_equal(joined, rows[i].joined);
        assert_string_equal(path_base(joined), rows[i].base);
        free(joined);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_appears_whole_or_not_at_all),
        cmocka_unit_test(what_is_no_plain_file_stays),
        cmocka_unit_test(what_cannot_be_written_is_told_before),
        cmocka_unit_test(a_full_disk_is_an_error_and_leaves_nothing),
        cmocka_unit_test(reads_and_maps_name_what_is_wrong),
        cmocka_unit_test(sha256_is_the_known_one),
        cmocka_unit_test(directories_are_made_with_parents_and_removed),
        cmocka_unit_test(paths_are_joined_and_cut),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
