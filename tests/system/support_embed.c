/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_embed.h"

#include "system/support_command.h"
#include "system/support_files.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>

char embed_encoder[512];
const char *const embed_export = KVERN_GOLDEN_DIR "/exports/qwen2-f32";
char *embed_directory;

int make_embed_models(void **state)
{
    kvern_model *model = open_test_model("tests/golden/exports/bert-checkpoint", "f32");
    kvern_model_info info;

    (void)state;
    kvern_model_get_info(model, &info);
    snprintf(embed_encoder, sizeof embed_encoder, "%s", info.directory);
    kvern_model_close(model);
    embed_directory = make_directory();
    return 0;
}

int remove_embed_models(void **state)
{
    kvern_error err;
    int status = directory_remove(embed_directory, &err) == KVERN_OK ? 0 : -1;

    free(embed_directory);
    return remove_tiny_model(state) == 0 ? status : -1;
}

char *embed_output(const char *model, const char *arguments, const char *input, int status)
{
    char command[2048];

    snprintf(command, sizeof command, "embed -m %s %s", model, arguments);
    return command_output(command, input, status);
}
