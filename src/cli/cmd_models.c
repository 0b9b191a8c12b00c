/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern models and kvern inspect: what is in the cache, and what one model directory holds.
 */
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"

#include "base/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* {"query": "query: ", ...} */
static json_t *prompts_json(const kvern_model *model)
{
    json_t *prompts = json_object();
    const char *name, *text;

    for (size_t i = 0; kvern_model_get_prompt(model, i, &name, &text); i++)
        json_object_set_new(prompts, name, json_string(text));
    return prompts;
}

static json_t *info_json(const kvern_model *model, const kvern_model_info *info)
{
    json_t *eos = json_array();

    for (size_t i = 0; i < info->n_eos_tokens; i++)
        json_array_append_new(eos, json_integer(info->eos_tokens[i]));
    json_t *json = json_pack(
        "{s:s s:s s:s s:s s:s s:s s:I s:I s:i s:i s:i s:i s:i s:i s:i s:i s:i s:o s:b s:b}", "name",
        info->name, "directory", info->directory, "family", info->family, "contract",
        info->contract, "weights", info->weights, "source", info->source, "parameters",
        (json_int_t)info->n_parameters, "bytes", (json_int_t)info->n_bytes, "layers",
        info->n_layers, "heads", info->n_heads, "kv_heads", info->n_kv_heads, "head_size",
        info->head_size, "hidden_size", info->hidden_size, "intermediate_size",
        info->intermediate_size, "vocab_size", info->vocab_size, "max_context", info->max_context,
        "bos_token", info->bos_token, "eos_tokens", eos, "chat_template", info->has_chat_template,
        "tokenizer", info->has_tokenizer);
    json_t *embedding = json_pack(
        "{s:b s:s s:b s:i s:i s:o s:b}", "encoder", info->is_encoder, "pooling", info->pooling,
        "normalized", info->is_normalized, "embedding_size", info->embedding_size, "max_tokens",
        info->max_tokens, "prompts", prompts_json(model), "byte_fallback", info->has_byte_fallback);

    if (json && embedding)
        json_object_update(json, embedding);
    json_decref(embedding);
    return json;
}

static void print_row(const kvern_model_info *info, int name_width)
{
    char parameters[32];
    char bytes[32];

    format_amount(parameters, sizeof parameters, (double)info->n_parameters, PROGRESS_ITEMS);
    format_amount(bytes, sizeof bytes, (double)info->n_bytes, PROGRESS_BYTES);
    printf("%-*s  %-8s %-7s %10s %10s %9d\n", name_width, info->name, info->family, info->weights,
           parameters, bytes, info->max_context);
}

int cmd_models(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "models [OPTIONS]",
        .summary = "Lists the models in the cache directory ($KVERN_HOME, else the XDG cache).",
        .examples = "  kvern models",
    };
    bool is_json = false;
    const struct option options[] = {
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object a line"},
        {NULL},
    };
    struct positionals arguments;
    char **directories = NULL;
    size_t n = 0;
    int name_width = (int)strlen("NAME");
    kvern_error err;
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n > 0)
        return usage_error(&help,
                           "models takes no arguments, but got '%s'; 'kvern inspect %s' "
                           "shows one",
                           arguments.items[0], arguments.items[0]);
    if (kvern_models_list(&directories, &n, &err) != KVERN_OK)
        return report(&err);
    for (size_t i = 0; i < n; i++) {
        int width = (int)strlen(path_base(directories[i]));

        name_width = width > name_width ? width : name_width;
    }
    if (n == 0)
        fputs("No models yet. 'kvern pull smollm2' gets one.\n", stderr);
    else if (!is_json)
        printf("%-*s  %-8s %-7s %10s %10s %9s\n", name_width, "NAME", "FAMILY", "WEIGHTS",
               "PARAMETERS", "SIZE", "CONTEXT");
    exit_status = EXIT_OK;
    for (size_t i = 0; i < n; i++) {
        kvern_model *model = NULL;
        kvern_model_info info;

        if (kvern_model_open(&model, directories[i], &err) != KVERN_OK) {
            exit_status = report(&err);
            continue;
        }
        kvern_model_get_info(model, &info);
        if (is_json)
            output_json(info_json(model, &info));
        else
            print_row(&info, name_width);
        kvern_model_close(model);
    }
    kvern_strings_free(directories, n);
    return exit_status;
}

/* A line of a number that the model states; an export states few. */
static void print_number(const char *name, int64_t value, const char *unit)
{
    if (value > 0)
        printf("%-16s %lld%s\n", name, (long long)value, unit);
}

static void print_sizes(const kvern_model_info *info)
{
    char parameters[32];

    format_amount(parameters, sizeof parameters, (double)info->n_parameters, PROGRESS_ITEMS);
    if (info->n_parameters > 0)
        printf("%-16s %s\n", "parameters", parameters);
    print_number("layers", info->n_layers, "");
    if (info->n_heads > 0 && info->n_kv_heads > 0)
        printf("%-16s %d, %d kv, of %d\n", "heads", info->n_heads, info->n_kv_heads,
               info->head_size);
    else
        print_number("heads", info->n_heads, "");
    if (info->hidden_size > 0 && info->intermediate_size > 0)
        printf("%-16s %d, %d inside the feed-forward\n", "hidden size", info->hidden_size,
               info->intermediate_size);
    else
        print_number("hidden size", info->hidden_size, "");
    print_number("vocabulary", info->vocab_size, "");
    print_number("context", info->max_context, " tokens");
}

static void print_prompts(const kvern_model *model)
{
    const char *name, *text;

    for (size_t i = 0; kvern_model_get_prompt(model, i, &name, &text); i++) {
        json_t *string = json_string(text);
        char *quoted = json_dumps(string, JSON_ENCODE_ANY); /* one line, whatever is in it */

        printf("%-16s %s: %s\n", i == 0 ? "prompts" : "", name, quoted ? quoted : "?");
        free(quoted);
        json_decref(string);
    }
}

static void print_embedding(const kvern_model_info *info)
{
    if (info->embedding_size > 0)
        printf("%-16s %d values, pooling %s%s\n", "vectors", info->embedding_size,
               *info->pooling ? info->pooling : "not stated",
               info->is_normalized ? ", of length 1" : "");
    if (info->max_tokens != info->max_context)
        print_number("text to embed", info->max_tokens, " tokens at most");
}

static void print_info(const kvern_model_info *info)
{
    char bytes[32];

    format_amount(bytes, sizeof bytes, (double)info->n_bytes, PROGRESS_BYTES);
    printf("%-16s %s\n", "name", info->name);
    printf("%-16s %s\n", "directory", info->directory);
    printf("%-16s %s\n", "family", info->family);
    printf("%-16s %s\n", "contract", info->contract);
    printf("%-16s %s, %s\n", "weights", info->weights, bytes);
    if (*info->source)
        printf("%-16s %s\n", "made from", info->source);
    print_sizes(info);
    print_embedding(info);
    if (info->bos_token >= 0)
        printf("%-16s %d\n", "begin token", info->bos_token);
    if (info->n_eos_tokens > 0) {
        printf("%-16s", "end tokens");
        for (size_t i = 0; i < info->n_eos_tokens; i++)
            printf(" %d", info->eos_tokens[i]);
        putchar('\n');
    }
    if (!info->is_encoder)
        printf("%-16s %s\n", "chat template", info->has_chat_template ? "yes" : "no");
    printf("%-16s %s\n", "tokenizer",
           info->has_byte_fallback ? "none: bytes stand for tokens"
           : info->has_tokenizer   ? "yes"
                                   : "no");
}

int cmd_inspect(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "inspect [MODEL] [OPTIONS]",
        .summary = "Shows what a model directory or an ONNX export holds.",
        .examples = "  kvern inspect smollm2\n  kvern inspect ./export/model.onnx --json",
    };
    struct engine_flags flags = {0};
    bool is_json = false;
    const struct option options[] = {
        MODEL_OPTIONS(flags, DEFAULT_MODEL),
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object"},
        {NULL},
    };
    struct positionals arguments;
    kvern_model *model = NULL;
    kvern_model_info info;
    kvern_error err;
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n > 1)
        return usage_error(&help, "inspect takes one MODEL, %zu were given", arguments.n);
    if (arguments.n == 1)
        flags.model = arguments.items[0];
    if (open_model(&flags, &model, &err) != KVERN_OK)
        return report(&err);
    kvern_model_get_info(model, &info);
    if (is_json) {
        output_json(info_json(model, &info));
    } else {
        print_info(&info);
        print_prompts(model);
    }
    kvern_model_close(model);
    return EXIT_OK;
}
