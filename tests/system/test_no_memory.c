/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation that can fail, made to fail in turn while a model is opened and generates, and
 * the memory a conversion takes: a bound that loading a whole checkpoint would break.
 */
#include "test.h"

#include "base/file.h"
#include "base/memory.h"
#include "support/tiny_checkpoint.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char *directory, *gguf, *model;

static int set_up(void **state)
{
    (void)state;
    directory = make_directory();
    gguf = path_join(directory, "small.gguf");
    model = path_join(directory, "small");
    make_small_model(gguf, model);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(directory_remove(directory, NULL), KVERN_OK);
    free(model);
    free(gguf);
    free(directory);
    return 0;
}

static void test_every_allocation_fails(void **state)
{
    enum { N_CALLS = 400 };
    int n_failed = 0;

    (void)state;
    for (int i = 0; i < N_CALLS; i++) {
        kvern_status status;
        kvern_error err = {0};
        kvern_model *opened = NULL;
        struct small_answer answer;

        memory_fail_after(i);
        status = kvern_model_open(&opened, model, &err);
        if (status == KVERN_OK)
            status = run_small_model(opened, &answer, &err);
        memory_fail_after(-1);
        kvern_model_close(opened);
        if (status == KVERN_OK)
            continue;
        n_failed++;
        check_message(status, &err, "");
        if (status != KVERN_MEMORY)
            print_message("allocation %d: %s: %s\n", i, kvern_status_name(status), err.message);
    }
    assert_in_range(n_failed, 20, N_CALLS - 1);
}

/* 4 layers of about 19 MB each in f32: all of it is over the bound, its largest tensor is 6 MB. */
static void test_conversion_memory(void **state)
{
    enum { LARGEST_MIB = 6, SPARE_MIB = 40 };
    struct tiny_options tiny = tiny_options("llama");
    char *source = path_join(directory, "large");
    char *target = path_join(directory, "converted");
    struct rusage before;
    struct rusage after;
    int exit_status = -1;
    pid_t child;

    (void)state;
    tiny.n_layers = 4;
    tiny.hidden_size = 1024;
    tiny.intermediate_size = 1536;
    tiny_checkpoint_write(source, &tiny);
    child = fork();
    if (child == 0) {
        kvern_convert_options options;

        getrusage(RUSAGE_SELF, &before);
        kvern_convert_options_init(&options);
        options.source = source;
        options.target = target;
        options.weights = "q8";
        if (kvern_convert(&options, NULL) != KVERN_OK)
            _exit(255);
        getrusage(RUSAGE_SELF, &after);
        _exit((int)((after.ru_maxrss - before.ru_maxrss) / 1024));
    }
    assert_int_equal(waitpid(child, &exit_status, 0), child);
    assert_true(WIFEXITED(exit_status));
    print_message("conversion took %d MiB more\n", WEXITSTATUS(exit_status));
    assert_in_range(WEXITSTATUS(exit_status), 0, 2 * LARGEST_MIB + SPARE_MIB);
    directory_remove(source, NULL);
    directory_remove(target, NULL);
    free(target);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversion_memory),
        cmocka_unit_test(test_every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
