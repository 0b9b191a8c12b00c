/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern with an encoder-decoder's export as a user runs it: what inspect says, answers alone
 * and together, and what is missing in a folder.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT KVERN_SOURCE_DIR "/tests/golden/t5-exports/codet5-split"

static void inspect_says_what_it_is(void **state)
{
    static const char *const paths[] = {EXPORT, EXPORT "/", EXPORT "/encoder_model.onnx",
                                        EXPORT "/decoder_with_past_model.onnx"};

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        char command[1024];

        snprintf(command, sizeof command, "inspect %s --json", paths[i]);
        char *out = command_output(command, NULL, 0);
        json_t *info = json_line(out, 0);
        assert_string_equal(json_string_value(json_object_get(info, "contract")), "seq2seq");
        assert_string_equal(json_string_value(json_object_get(info, "family")), "t5");
        assert_int_equal(json_integer_value(json_object_get(info, "layers")), 2);
        assert_int_equal(json_integer_value(json_object_get(info, "embedding_size")), 0);
        json_decref(info);
        free(out);
    }
}

/* Each answer of a file of prompts is that of its prompt alone. */
static void answers_are_those_of_prompts_alone(void **state)
{
    static const char *const prompts[] = {"import os", "return the sum of a list of numbers",
                                          "x = 1"};
    char *out =
        command_output("generate -m " EXPORT " --prompts - --json --ignore-eos -n 24 --logprobs 1",
                       "{\"id\": 0, \"prompt\": \"import os\"}\n"
                       "{\"id\": 1, \"prompt\": \"return the sum of a list of numbers\"}\n"
                       "{\"id\": 2, \"prompt\": \"x = 1\"}\n",
                       0);

    (void)state;
    assert_int_equal(count_lines(out), COUNT(prompts));
    for (size_t i = 0; i < COUNT(prompts); i++) {
        json_t *result = json_line(out, i);
        size_t id = (size_t)json_integer_value(json_object_get(result, "id"));
        char command[1024];

        assert_true(id < COUNT(prompts));
        snprintf(command, sizeof command,
                 "generate -m " EXPORT " --json --ignore-eos -n 24 --logprobs 1 '%s'", prompts[id]);
        char *alone_out = command_output(command, NULL, 0);
        json_t *alone = json_line(alone_out, 0);
        assert_true(*result_text(alone) != '\0');
        assert_string_equal(result_text(result), result_text(alone));
        assert_true(
            json_equal(json_object_get(result, "logprobs"), json_object_get(alone, "logprobs")));
        json_decref(alone);
        json_decref(result);
        free(alone_out);
    }
    free(out);
}

static void what_is_missing_is_named(void **state)
{
    char *folder = make_directory();
    char command[1024];
    char path[1024];

    (void)state;
    snprintf(path, sizeof path, "%s/decoder_with_past_model.onnx", folder);
    copy_whole(EXPORT "/decoder_with_past_model.onnx", path);
    snprintf(command, sizeof command, "generate -m %s hello", folder);
    command_refused(command, NULL, 1, "encoder_model.onnx with decoder_model_merged.onnx");
    assert_int_equal(directory_remove(folder, NULL), KVERN_OK);
    free(folder);
    char *out = command_output("embed -m " EXPORT " hello", NULL, 1);
    assert_contains(out, "embeds no texts");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspect_says_what_it_is),
        cmocka_unit_test(answers_are_those_of_prompts_alone),
        cmocka_unit_test(what_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
