/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern convert and kvern pull: both end in a model directory and show the same progress.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
#define WEIGHTS_OPTIONS(options)                                                                   \
    {"weights", 'w', OPTION_STRING, &(options).weights, "TYPE",                                    \
     "q4, q8 or f32 (keep what the source has, else q8)"},                                         \
    {"table", 0, OPTION_STRING, &(options).table, "TYPE",                                          \
     "of the embedding table and output layer (as --weights; q8 beside q4)"}
/* clang-format on */

static bool show(const char *what, int64_t done, int64_t total, void *data)
{
    progress_show(data, what, done, total, NULL);
    return !was_interrupted();
}

/* All .onnx files are called model.onnx: the name is their directory's, or that of the one above
 * where it is "onnx". */
static void cut_onnx_file(char *path)
{
    size_t n = strlen(path);
    char *slash;

    if (n < 5 || strcmp(path + n - 5, ".onnx") != 0)
        return;
    for (int i = 0; i < 2 && (slash = strrchr(path, '/')) && slash > path; i++) {
        if (i == 1 && strcmp(slash, "/onnx") != 0)
            break;
        *slash = '\0';
    }
}

/* Where a model goes without -o: "out/model.gguf" -> "<cache>/models/model", "dir/" and
 * "dir/model.onnx" -> "<cache>/models/dir". Owned by the caller; NULL for a source without a name
 * ("/", ".."). */
static char *cache_target(const char *source)
{
    static const char *const endings[] = {".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx"};
    char *path = copy_string_or_abort(source);
    size_t n = strlen(path);
    char *target = NULL;

    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    cut_onnx_file(path);

    const char *base = path_base(path);
    char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && dot > base && i < sizeof endings / sizeof *endings; i++) {
        if (strcmp(dot, endings[i]) == 0)
            *dot = '\0';
    }
    if (*base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0) {
        char *cache = cache_directory();
        char *models = path_join(cache, "models");

        target = path_join(models, base);
        free(models);
        free(cache);
    }
    free(path);
    return target;
}

static void print_directory(const char *directory, bool is_json)
{
    if (is_json)
        output_json(json_pack("{s:s}", "directory", directory));
    else
        printf("%s\n", directory);
}

int cmd_convert(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "convert SOURCE [-o DIRECTORY] [OPTIONS]",
        .summary = "Turns a checkpoint into a model directory, without Python.",
        .details =
            "SOURCE is a .gguf file, a .safetensors file, a file of torch.save (.bin, .pt,\n"
            ".pth), an .onnx file with GroupQueryAttention (of onnxruntime-genai's builder\n"
            "or onnx-community), or a directory with one of these. Families: Llama, Qwen2,\n"
            "Qwen3; BERT and its like; T5, mT5 and CodeT5. Without -o the model goes to the\n"
            "cache directory under the source's name.",
        .examples = "  kvern convert SmolLM2-135M-Instruct.Q4_1.gguf\n"
                    "  kvern convert Qwen2.5-0.5B-Instruct/ -o qwen --weights q4\n"
                    "  kvern convert Qwen2.5-0.5B-Instruct-ONNX/onnx/model_q4.onnx -o qwen",
    };
    const char *output = NULL;
    kvern_convert_options convert;
    struct progress progress;
    kvern_error err;
    struct positionals arguments;
    bool is_json = false;
    bool is_quiet = false;

    kvern_convert_options_init(&convert);
    const struct option options[] = {
        {"output", 'o', OPTION_STRING, &output, "DIR", "the model directory to make"},
        WEIGHTS_OPTIONS(convert),
        {"name", 0, OPTION_STRING, &convert.name, "NAME", "the model's name"},
        {"overwrite", 0, OPTION_FLAG, &convert.overwrite, NULL,
         "replace a directory that is there"},
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object: the directory"},
        {"quiet", 'q', OPTION_FLAG, &is_quiet, NULL, "no progress"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);
    if (exit_status >= 0)
        return exit_status;
    if (arguments.n != 1)
        return usage_error(&help, "convert takes one SOURCE, %zu were given", arguments.n);

    char *directory = output ? NULL : cache_target(arguments.items[0]);
    if (!output && !directory)
        return usage_error(&help, "'%s' gives the model no name; say where it goes with -o DIR",
                           arguments.items[0]);
    convert.source = arguments.items[0];
    convert.target = output ? output : directory;
    progress_begin(&progress, PROGRESS_BYTES, is_quiet);
    convert.on_progress = show;
    convert.on_progress_data = &progress;
    kvern_status status = KVERN_OK;
    if (!convert.overwrite && access(convert.target, F_OK) == 0)
        status = fail(&err, KVERN_INVALID,
                      "%s is there already; --overwrite replaces it, -o names another place",
                      convert.target);
    if (status == KVERN_OK)
        status = kvern_convert(&convert, &err);
    progress_end(&progress);
    if (status == KVERN_OK)
        print_directory(convert.target, is_json);
    free(directory);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}

int cmd_pull(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "pull NAME | DIRECTORY [OPTIONS]",
        .summary = "Gets a model and makes it ready in the cache directory.",
        .details =
            "NAME is smollm2 (generates), minilm (embeds), or OWNER/REPOSITORY of the model hub.\n"
            "DIRECTORY is a model that another tool downloaded (config.json and safetensors or\n"
            "pytorch_model.bin, or a .gguf file).",
        .examples = "  kvern pull smollm2\n"
                    "  kvern pull minilm\n"
                    "  kvern pull ~/models/Qwen2.5-0.5B-Instruct --weights q4",
    };
    kvern_pull_options pull;
    struct progress progress;
    kvern_error err;
    struct positionals arguments;
    char *directory = NULL;
    bool is_json = false;
    bool is_quiet = false;

    kvern_pull_options_init(&pull);
    const struct option options[] = {
        WEIGHTS_OPTIONS(pull),
        {"revision", 0, OPTION_STRING, &pull.revision, "REV", "branch or commit on the hub (main)"},
        {"overwrite", 0, OPTION_FLAG, &pull.overwrite, NULL, "make it again if it is there"},
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object: the directory"},
        {"quiet", 'q', OPTION_FLAG, &is_quiet, NULL, "no progress"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);
    if (exit_status >= 0)
        return exit_status;
    if (arguments.n != 1)
        return usage_error(&help, "pull takes one NAME or DIRECTORY, %zu were given", arguments.n);
    pull.name = arguments.items[0];
    progress_begin(&progress, PROGRESS_BYTES, is_quiet);
    pull.on_progress = show;
    pull.on_progress_data = &progress;
    kvern_status status = kvern_pull(&pull, &directory, &err);
    progress_end(&progress);
    if (status == KVERN_OK)
        print_directory(directory, is_json);
    kvern_free(directory);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}
