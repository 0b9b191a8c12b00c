/* SPDX-License-Identifier: Apache-2.0
 *
 * The file of results: what a kill can leave of it at every byte, a disk that is full in the middle
 * of a line, files that are none of ours, and the order at the end.
 */
#include "cli/results_file.h"
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char directory[] = "/tmp/kvern-results-XXXXXX";
static char path[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/r.jsonl", directory);
    signal(SIGXFSZ, SIG_IGN);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory); /* fails if a temporary file is left */
}

static void write_file(const char *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

static void assert_file(const char *text)
{
    char *found = NULL;
    size_t n = 0;

    assert_int_equal(file_read(path, 1 << 20, &found, &n, NULL), KVERN_OK);
    assert_string_equal(found, text);
    free(found);
}

static void open_results(struct results_file *file, bool is_resumed)
{
    kvern_error err = {0};

    if (results_file_open(file, path, is_resumed, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

#define LINE(id, print) "{\"id\":" id ",\"fingerprint\":\"" print "\"}\n"
#define FAILED(id, print) "{\"id\":" id ",\"error\":\"no\",\"fingerprint\":\"" print "\"}\n"

/* Whatever byte it was cut at: whole lines stay and are known, and the file can be gone on with. */
static void cut_at_every_byte(void **state)
{
    static const char whole[] =
        LINE("\"a\"", "0000000000000001") "{\"id\":2,\"text\":\"\\u0000\",\"fingerprint\":"
                                          "\"00000000000000ff\"}\n";
    const size_t n_first = strcspn(whole, "\n") + 1;
    const size_t n_whole = sizeof whole - 1;

    (void)state;
    for (size_t n = 0; n <= n_whole; n++) {
        struct results_file file;
        size_t n_lines = (n >= n_first) + (n == n_whole);
        struct buffer expected = {0};

        write_file(whole, n);
        open_results(&file, true);
        assert_int_equal(file.n_lines, n_lines);
        assert_int_equal(file.n_torn, n - (n_lines == 2 ? n_whole : n_lines == 1 ? n_first : 0));
        assert_int_equal(results_file_find(&file, "\"a\"") != NULL, n_lines > 0);
        assert_int_equal(results_file_find(&file, "2") != NULL, n_lines > 1);
        assert_null(results_file_find(&file, "\"2\""));
        if (n_lines > 1)
            assert_int_equal(results_file_find(&file, "2")->fingerprint, 255);
        assert_int_equal(results_file_add(&file, "7", "{\"id\":7}", 3, false, NULL), KVERN_OK);
        results_file_close(&file);
        buffer_add(&expected, whole, n - file.n_torn);
        buffer_truncate(&expected, n_lines == 2 ? n_whole : n_lines == 1 ? n_first : 0);
        buffer_add_string(&expected, "{\"id\":7}\n");
        assert_file(expected.data);
        buffer_clear(&expected);
    }
}

static void foreign_files_are_refused(void **state)
{
    static const struct {
        const char *text;
        bool is_resumed;
        kvern_status status;
        const char *says;
    } cases[] = {
        {"x", false, KVERN_INVALID, "is there already: --resume goes on with it"},
        {"hello\n", true, KVERN_FORMAT, "line 1 of "},
        {LINE("1", "0000000000000001") "\n", true, KVERN_FORMAT, "line 2 of "},
        {"{\"id\":1}\n", true, KVERN_FORMAT, "is not a result that --output wrote"},
        {LINE("1", "000000000000000g"), true, KVERN_FORMAT, "line 1 of "},
        {LINE("1", "00000000000000001"), true, KVERN_FORMAT, "line 1 of "},
        {"{\"fingerprint\":\"0000000000000001\"}\n", true, KVERN_FORMAT, "line 1 of "},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct results_file file;
        kvern_error err = {0};

        write_file(cases[i].text, strlen(cases[i].text));
        assert_int_equal(results_file_open(&file, path, cases[i].is_resumed, &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_file(cases[i].text);
    }
    struct results_file pipe_file;
    kvern_error err = {0};
    assert_int_equal(results_file_open(&pipe_file, "/dev/full", true, &err), KVERN_INVALID);
    assert_string_equal(err.message,
                        "--resume needs a file that can be read again; /dev/full is none");
}

static void one_writer_at_a_time(void **state)
{
    struct results_file first, second;
    kvern_error err = {0};

    (void)state;
    write_file("", 0);
    open_results(&first, false);
    assert_int_equal(results_file_open(&second, path, true, &err), KVERN_BUSY);
    assert_non_null(strstr(err.message, "another kvern is writing to"));
    results_file_close(&first);
    open_results(&second, true);
    results_file_close(&second);
}

/* The system takes 10 bytes of the second line, and then no more. */
static void a_full_disk_leaves_whole_lines(void **state)
{
    struct results_file file;
    struct rlimit old;
    kvern_error err = {0};

    (void)state;
    write_file("", 0);
    open_results(&file, false);
    assert_int_equal(results_file_add(&file, "1", "{\"id\":1}", 1, false, &err), KVERN_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){19, old.rlim_max}), 0);
    kvern_status status =
        results_file_add(&file, "2", "{\"id\":2,\"text\":\"long\"}", 1, false, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, KVERN_IO);
    assert_non_null(strstr(err.message, "cannot write to "));
    assert_file("{\"id\":1}\n");
    assert_null(results_file_find(&file, "2"));
    assert_int_equal(results_file_add(&file, "2", "{\"id\":2}", 1, false, &err), KVERN_OK);
    assert_file("{\"id\":1}\n{\"id\":2}\n");
    results_file_close(&file);

    assert_int_equal(results_file_open(&file, "/dev/full", false, &err), KVERN_OK);
    assert_int_equal(results_file_add(&file, "1", "{}", 1, false, &err), KVERN_IO);
    assert_string_equal(err.message, "cannot write to /dev/full: No space left on device");
    results_file_close(&file);
}

static void the_order_at_the_end(void **state)
{
    static const char *const order[] = {"\"a\"", "\"b\"", "\"c\"", "\"d\""};
    static const struct {
        const char *text;
        bool is_ordered;
        const char *result;
    } cases[] = {
        {"", true, ""},
        {LINE("\"a\"", "0000000000000001") LINE("\"b\"", "0000000000000001"), true,
         LINE("\"a\"", "0000000000000001") LINE("\"b\"", "0000000000000001")},
        {LINE("\"c\"", "0000000000000001") LINE("\"a\"", "0000000000000001"), true,
         LINE("\"a\"", "0000000000000001") LINE("\"c\"", "0000000000000001")},
        {LINE("\"c\"", "0000000000000001") LINE("\"a\"", "0000000000000001"), false,
         LINE("\"c\"", "0000000000000001") LINE("\"a\"", "0000000000000001")},
        /* the later one stays, and who is asked for no more comes last */
        {FAILED("\"c\"", "0000000000000001") LINE("9", "0000000000000001")
             LINE("\"a\"", "0000000000000001") LINE("\"c\"", "0000000000000002")
                 LINE("8", "0000000000000001"),
         true,
         LINE("\"a\"", "0000000000000001") LINE("\"c\"", "0000000000000002")
             LINE("9", "0000000000000001") LINE("8", "0000000000000001")},
        {FAILED("\"c\"", "0000000000000001") LINE("\"a\"", "0000000000000001")
             LINE("\"c\"", "0000000000000002"),
         false, LINE("\"a\"", "0000000000000001") LINE("\"c\"", "0000000000000002")},
    };
    struct map ranks = {0};

    (void)state;
    for (uint32_t i = 0; i < COUNT(order); i++)
        assert_true(map_put(&ranks, order[i], strlen(order[i]), i + 1));
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct results_file file;
        kvern_error err = {0};

        write_file(cases[i].text, strlen(cases[i].text));
        open_results(&file, true);
        if (results_file_finish(&file, cases[i].is_ordered ? &ranks : NULL, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        results_file_close(&file);
        assert_file(cases[i].result);
    }
    map_clear(&ranks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_at_every_byte),    cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(one_writer_at_a_time), cmocka_unit_test(a_full_disk_leaves_whole_lines),
        cmocka_unit_test(the_order_at_the_end),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
