/* SPDX-License-Identifier: Apache-2.0
 *
 * What sentence-transformers models say beside their weights, as old and new versions of that
 * library wrote it, and each thing that kvern does not do, refused by its name.
 */
#include "test.h"

#include "base/file.h"
#include "convert/embedding_config.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The files of one case; NULL: not there. */
struct files {
    const char *modules;
    const char *pooling;
    const char *sentence_bert;
    const char *transformers;
};

static void put(const char *name, const char *text)
{
    if (text)
        scratch_put_text(name, text);
}

/* Reads `files` with 512 positions. */
static kvern_status read_files(const struct files *files, struct manifest_embedding *embedding,
                               kvern_error *err)
{
    char pooling[256];

    snprintf(pooling, sizeof pooling, "%s/1_Pooling", scratch);
    assert_int_equal(directory_remove(scratch, NULL), KVERN_OK);
    assert_int_equal(directory_make(pooling, NULL), KVERN_OK);
    put("modules.json", files->modules);
    put("1_Pooling/config.json", files->pooling);
    put("sentence_bert_config.json", files->sentence_bert);
    put("config_sentence_transformers.json", files->transformers);
    return embedding_config_read(embedding, scratch, 512, err);
}

#define MODULE(name)                                                                               \
    "{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers." name "\"}"
#define TWO_MODULES MODULE("models.Transformer") "," MODULE("models.Pooling")

static void what_is_said_is_read(void **state)
{
    static const struct {
        struct files files;
        const char *pooling;
        bool is_normalized;
        size_t max_tokens;
        size_t n_prompts;
        const char *default_prompt;
    } cases[] = {
        {{NULL, NULL, NULL, NULL}, "", false, 0, 0, ""},
        /* all-MiniLM-L6-v2 */
        {{"[" TWO_MODULES "," MODULE("models.Normalize") "]",
          "{\"word_embedding_dimension\":384,\"pooling_mode_cls_token\":false,"
          "\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false,"
          "\"pooling_mode_mean_sqrt_len_tokens\":false}",
          "{\"max_seq_length\":256,\"do_lower_case\":false}",
          "{\"__version__\":{\"sentence_transformers\":\"2.0.0\"}}"},
         "mean",
         true,
         256,
         0,
         ""},
        /* Qwen3-Embedding */
        {{"[" TWO_MODULES "," MODULE("models.Normalize") "]",
          "{\"pooling_mode_cls_token\":false,\"pooling_mode_lasttoken\":true,"
          "\"include_prompt\":true}",
          NULL,
          "{\"prompts\":{\"query\":\"Instruct: Find it\\nQuery:\",\"document\":\"\"},"
          "\"default_prompt_name\":null,\"similarity_fn_name\":\"cosine\"}"},
         "last",
         true,
         0,
         2,
         ""},
        /* as version 5 writes */
        {{"[" MODULE("base.modules.transformer.Transformer") "," MODULE(
              "sentence_transformer.modules.pooling.Pooling") "]",
          "{\"embedding_dimension\":8,\"pooling_mode\":\"cls\"}", "{\"max_seq_length\":100000}",
          "{\"prompts\":{\"a\":\"b: \"},\"default_prompt_name\":\"a\"}"},
         "cls",
         false,
         512,
         1,
         "a"},
        {{NULL, "{\"pooling_mode\":[\"lasttoken\"]}", "{\"max_seq_length\":null}", NULL},
         "last",
         false,
         0,
         0,
         ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct manifest_embedding embedding;
        kvern_error err = {0};

        if (read_files(&cases[i].files, &embedding, &err) != KVERN_OK)
            fail_msg("case %zu: %s", i, err.message);
        assert_string_equal(embedding.pooling, cases[i].pooling);
        assert_int_equal(embedding.is_normalized, cases[i].is_normalized);
        assert_int_equal(embedding.max_tokens, cases[i].max_tokens);
        assert_int_equal(embedding.n_prompts, cases[i].n_prompts);
        assert_string_equal(embedding.default_prompt, cases[i].default_prompt);
        if (cases[i].n_prompts == 2) {
            assert_string_equal(embedding.prompts[0].name, "query");
            assert_string_equal(embedding.prompts[0].text, "Instruct: Find it\nQuery:");
            assert_string_equal(embedding.prompts[1].text, "");
        }
    }
}

static void the_rest_is_refused_by_name(void **state)
{
    static const struct {
        struct files files;
        kvern_status status;
        const char *message;
    } cases[] = {
        {{"[" TWO_MODULES "," MODULE("models.Dense") "]", NULL, NULL, NULL},
         KVERN_UNSUPPORTED,
         "has the module \"Dense\" in place 2"},
        {{"[" MODULE("models.WordEmbeddings") "]", NULL, NULL, NULL},
         KVERN_UNSUPPORTED,
         "has the module \"WordEmbeddings\" in place 0"},
        {{"[" TWO_MODULES "," MODULE("models.Normalize") "," MODULE("models.Normalize") "]", NULL,
          NULL, NULL},
         KVERN_UNSUPPORTED,
         "\"Normalize\" in place 3"},
        {{"[7]", NULL, NULL, NULL}, KVERN_UNSUPPORTED, "has the module \"(no type)\" in place 0"},
        {{"{}", NULL, NULL, NULL}, KVERN_FORMAT, "is not a list"},
        {{"[", NULL, NULL, NULL}, KVERN_FORMAT, "modules.json is not JSON"},
        {{NULL, "{\"pooling_mode_max_tokens\":true}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "asks for \"max\" pooling"},
        {{NULL, "{\"pooling_mode\":\"weightedmean\"}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "asks for \"weightedmean\" pooling"},
        {{NULL, "{\"pooling_mode\":\"attention\"}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "asks for \"attention\" pooling"},
        {{NULL, "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "two kinds of pooling, \"cls\" and \"mean\""},
        {{NULL, "{\"pooling_mode\":[\"mean\",\"max\"]}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "two kinds of pooling, \"mean\" and \"max\""},
        {{NULL, "{\"pooling_mode\":7}", NULL, NULL}, KVERN_FORMAT, "pooling_mode is neither"},
        {{NULL, "{\"pooling_mode_lasttoken\":true,\"include_prompt\":false}", NULL, NULL},
         KVERN_UNSUPPORTED,
         "include_prompt is false"},
        {{NULL, "[]", NULL, NULL}, KVERN_FORMAT, "is not an object"},
        {{NULL, NULL, "{\"max_seq_length\":0}", NULL}, KVERN_FORMAT, "max_seq_length is not"},
        {{NULL, NULL, "{\"max_seq_length\":\"256\"}", NULL}, KVERN_FORMAT, "max_seq_length is not"},
        {{NULL, NULL, NULL, "{\"prompts\":{\"query\":7}}"},
         KVERN_FORMAT,
         "config_sentence_transformers.json: the prompt \"query\" is not a string"},
        {{NULL, NULL, NULL, "{\"prompts\":{\"\":\"x\"}}"}, KVERN_FORMAT, "or one has no name"},
        {{NULL, NULL, NULL, "{\"prompts\":{\"a\":\"\\u0000\"}}"}, KVERN_FORMAT, "is not JSON"},
        {{NULL, NULL, NULL, "{\"prompts\":{\"a\":\"b\"},\"default_prompt_name\":\"c\"}"},
         KVERN_FORMAT,
         "the default prompt is \"c\""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct manifest_embedding embedding;
        kvern_error err = {0};
        kvern_status status = read_files(&cases[i].files, &embedding, &err);

        if (status != cases[i].status || !strstr(err.message, cases[i].message))
            fail_msg("case %zu gave %s: %s", i, kvern_status_name(status), err.message);
    }
}

/* 16 prompts of 63 and 511 bytes, and one step further in each direction. */
static void prompts_have_limits(void **state)
{
    static const struct {
        size_t n_prompts, n_name, n_text;
        kvern_status status;
    } cases[] = {{16, 63, 511, KVERN_OK},
                 {17, 63, 511, KVERN_LIMIT},
                 {1, 64, 511, KVERN_LIMIT},
                 {1, 63, 512, KVERN_LIMIT}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[16384] = "{\"prompts\":{";
        struct files files = {.transformers = text};
        struct manifest_embedding embedding;
        kvern_error err = {0};

        for (size_t j = 0; j < cases[i].n_prompts; j++) {
            size_t n = strlen(text);

            snprintf(text + n, sizeof text - n, "%s\"%0*zu\":\"%0*d\"", j ? "," : "",
                     (int)cases[i].n_name, j, (int)cases[i].n_text, 0);
        }
        strcat(text, "}}");
        assert_int_equal(read_files(&files, &embedding, &err), cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_read),
        cmocka_unit_test(the_rest_is_refused_by_name),
        cmocka_unit_test(prompts_have_limits),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
