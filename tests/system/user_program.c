/* SPDX-License-Identifier: Apache-2.0
 *
 * What a user of the installed library writes: opens a model and generates five tokens.
 */
#include <kvern.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const int32_t prompt[] = {3, 1, 4, 1, 5};
    kvern_model *model = NULL;
    kvern_engine *engine = NULL;
    kvern_request *request = NULL;
    kvern_engine_options engine_options;
    kvern_request_options options;
    kvern_event event = {0};
    kvern_error err = {KVERN_OK, ""};

    kvern_engine_options_init(&engine_options);
    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = sizeof prompt / sizeof prompt[0];
    options.max_tokens = 5;
    options.ignore_eos = true;
    if (argc == 2 && kvern_model_open(&model, argv[1], &err) == KVERN_OK &&
        kvern_engine_open(&engine, model, &engine_options, &err) == KVERN_OK &&
        kvern_submit(engine, &options, &request, &err) == KVERN_OK) {
        while (event.finish == KVERN_FINISH_NONE &&
               kvern_request_next(request, -1, &event, &err) == KVERN_OK) {
            for (size_t i = 0; i < event.n_tokens; i++)
                printf("%d ", (int)event.tokens[i]);
        }
    }
    kvern_request_free(request);
    kvern_engine_close(engine);
    kvern_model_close(model);
    printf("%s\n", err.status ? err.message : kvern_finish_name(event.finish));
    return event.finish == KVERN_FINISH_LENGTH ? 0 : 1;
}
