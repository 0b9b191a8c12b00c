/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern tokenize: the ids, pieces and byte offsets of a text.
 */
#include "cli/command.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A piece is the vocabulary's own spelling; bytes that are not UTF-8 cannot stand in JSON. */
static json_t *piece_json(const char *piece)
{
    if (!piece || !utf8_is_valid(piece, strlen(piece)))
        return json_null();
    return json_string(piece);
}

/* Control bytes as \xNN: a token must not move the cursor or recolour the terminal. */
static void print_piece(const char *piece)
{
    for (const char *c = piece ? piece : ""; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            printf("\\x%02x", (unsigned char)*c);
        else
            putchar(*c);
    }
    putchar('\n');
}

static void print_tokens(const kvern_tokens *tokens, char **pieces)
{
    printf("%7s  %7s %7s  %s\n", "ID", "BEGIN", "END", "PIECE");
    for (size_t i = 0; i < tokens->n && !output_has_failed(); i++) {
        printf("%7d  %7zu %7zu  ", tokens->ids[i], tokens->begins[i], tokens->ends[i]);
        print_piece(pieces[i]);
    }
    fprintf(stderr, "%zu tokens\n", tokens->n);
}

static json_t *tokens_json(const kvern_tokens *tokens, char **pieces)
{
    json_t *ids = json_array();
    json_t *names = json_array();
    json_t *offsets = json_array();

    for (size_t i = 0; i < tokens->n; i++) {
        json_array_append_new(ids, json_integer(tokens->ids[i]));
        json_array_append_new(names, piece_json(pieces[i]));
        json_array_append_new(offsets, json_pack("[I, I]", (json_int_t)tokens->begins[i],
                                                 (json_int_t)tokens->ends[i]));
    }
    return json_pack("{s:o s:o s:o}", "ids", ids, "pieces", names, "offsets", offsets);
}

static kvern_status tokenize(const char *tokenizer, const char *model_name, const char *text,
                             size_t n_bytes, unsigned flags, kvern_tokens *tokens, char ***pieces,
                             kvern_error *err)
{
    kvern_model *model = NULL;

    if (tokenizer)
        return kvern_tokenize_with_file(tokenizer, text, n_bytes, flags, tokens, pieces, err);
    kvern_status status = kvern_model_open(&model, model_name, err);
    if (status == KVERN_OK)
        status = kvern_tokenize(model, text, n_bytes, flags, tokens, err);
    if (status == KVERN_OK && !(*pieces = try_new(tokens->n, sizeof **pieces)))
        status = fail(err, KVERN_MEMORY, "out of memory for %zu tokens", tokens->n);
    for (size_t i = 0; status == KVERN_OK && *pieces && i < tokens->n; i++)
        (*pieces)[i] = kvern_token_piece(model, tokens->ids[i]);
    kvern_model_close(model);
    return status;
}

int cmd_tokenize(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "tokenize TEXT | --file FILE | - [OPTIONS]",
        .summary = "Shows a text's tokens: ids, pieces and byte offsets.",
        .details = "Without TEXT the text on stdin is taken. Offsets count bytes.",
        .examples = "  kvern tokenize \"a hand mill\"\n"
                    "  kvern tokenize --tokenizer tokenizer.json --file notes.txt --json",
    };
    const char *model = DEFAULT_MODEL;
    const char *tokenizer = NULL;
    const char *file = NULL;
    bool is_json = false;
    bool has_special = false;
    bool has_control = false;
    struct positionals arguments;
    kvern_tokens tokens = {0};
    char **pieces = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_error err = {0};
    const struct option options[] = {
        {"model", 'm', OPTION_STRING, &model, "NAME",
         "model name or directory (" DEFAULT_MODEL ")"},
        {"tokenizer", 0, OPTION_STRING, &tokenizer, "FILE", "a tokenizer.json instead of a model"},
        {"file", 'f', OPTION_STRING, &file, "FILE", "the text; - is stdin"},
        {"special", 0, OPTION_FLAG, &has_special, NULL, "add what the model adds (bos, ...)"},
        {"control", 0, OPTION_FLAG, &has_control, NULL,
         "text like <|im_end|> becomes its control token"},
        {"json", 0, OPTION_FLAG, &is_json, NULL, "{\"ids\", \"pieces\", \"offsets\"}"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n + (file ? 1 : 0) > 1)
        return usage_error(&help, "tokenize takes one TEXT or --file FILE");
    if (!file && (arguments.n == 0 || strcmp(arguments.items[0], "-") == 0)) {
        if (arguments.n == 0 && isatty(STDIN_FILENO))
            return usage_error(&help, "tokenize needs a TEXT, --file FILE or text on stdin");
        file = "-";
    }
    unsigned flags =
        (has_special ? KVERN_TOKENIZE_SPECIAL : 0U) | (has_control ? KVERN_TOKENIZE_CONTROL : 0U);
    kvern_status status = KVERN_OK;
    if (file)
        status = read_input(file, &text, &n_bytes, &err);
    const char *input = file ? text : arguments.items[0];
    if (status == KVERN_OK)
        status = tokenize(tokenizer, model, input, file ? n_bytes : strlen(input), flags, &tokens,
                          &pieces, &err);
    exit_status = status == KVERN_OK ? EXIT_OK : report(&err);
    if (status == KVERN_OK && is_json)
        output_json(tokens_json(&tokens, pieces));
    else if (status == KVERN_OK)
        print_tokens(&tokens, pieces);
    kvern_strings_free(pieces, tokens.n);
    kvern_tokens_clear(&tokens);
    free(text);
    return exit_status;
}
