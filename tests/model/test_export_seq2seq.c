/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders with optimum's encoder-decoders: which files are taken, what is refused by name when they
 * do not fit each other, and that all of them are looked at and count.
 */
#include "test.h"

#include "support_export.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

static const char split[] = "../t5-exports/codet5-split";
static const char merged[] = "../t5-exports/t5-v1.1-merged";

#define MOST_FILES 6

/* A file of an export, and what it is called in the folder. */
struct file {
    const char *name, *export, *from;
};

#define ENCODER(name)                                                                              \
    {                                                                                              \
        name, split, "encoder_model.onnx"                                                          \
    }
#define FIRST(name)                                                                                \
    {                                                                                              \
        name, split, "decoder_model.onnx"                                                          \
    }
#define NEXT(name)                                                                                 \
    {                                                                                              \
        name, split, "decoder_with_past_model.onnx"                                                \
    }
#define CONFIG(name)                                                                               \
    {                                                                                              \
        name, split, "config.json"                                                                 \
    }

static char *make_folder(const struct file *files)
{
    char *folder = folder_make();

    for (size_t i = 0; i < MOST_FILES && files[i].name; i++)
        folder_copy(folder, files[i].name, files[i].export, files[i].from);
    return folder;
}

/* A folder with a whole export under its own names. */
static char *make_whole(const char *export)
{
    const struct file splits[MOST_FILES] = {
        ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
        NEXT("decoder_with_past_model.onnx"), CONFIG("config.json")};
    const struct file merges[MOST_FILES] = {
        {"encoder_model.onnx", merged, "encoder_model.onnx"},
        {"decoder_model_merged.onnx", merged, "decoder_model_merged.onnx"},
        {"config.json", merged, "config.json"}};

    return make_folder(export == split ? splits : merges);
}

static kvern_status open_in(const char *folder, const char *name, const char *preset,
                            kvern_model **model, kvern_error *err)
{
    struct buffer path = {0};
    kvern_status status;

    buffer_add_format(&path, "%s%s", folder, name);
    status = kvern_model_open_as(model, path.data, preset, err);
    buffer_clear(&path);
    return status;
}

static const struct {
    const char *label;
    struct file files[MOST_FILES];
    const char *opened;
    const char *source; /* NULL: it is not opened */
    const char *contract;
} layouts[] = {
    {"split",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"), CONFIG("config.json")},
     "",
     "decoder_model.onnx",
     "seq2seq"},
    {"its folder onnx",
     {ENCODER("onnx/encoder_model.onnx"), FIRST("onnx/decoder_model.onnx"),
      NEXT("onnx/decoder_with_past_model.onnx"), CONFIG("config.json")},
     "",
     "decoder_model.onnx",
     "seq2seq"},
    {"the encoder's file",
     {ENCODER("onnx/encoder_model.onnx"), FIRST("onnx/decoder_model.onnx"),
      NEXT("onnx/decoder_with_past_model.onnx"), CONFIG("config.json")},
     "/onnx/encoder_model.onnx",
     "decoder_model.onnx",
     "seq2seq"},
    {"the file with a past",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"), CONFIG("config.json")},
     "/decoder_with_past_model.onnx",
     "decoder_model.onnx",
     "seq2seq"},
    {"another ending",
     {ENCODER("encoder_model_int8.onnx"), FIRST("decoder_model_int8.onnx"),
      NEXT("decoder_with_past_model_int8.onnx"), CONFIG("config.json"),
      FIRST("encoder_model.onnx")},
     "/decoder_model_int8.onnx",
     "decoder_model_int8.onnx",
     "seq2seq"},
    {"a file of the split one beside a merged one that is none",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"), CONFIG("config.json"),
      FIRST("decoder_model_merged.onnx")},
     "/decoder_model.onnx",
     "decoder_model.onnx",
     "seq2seq"},
    {"a merged one before a split one",
     {{"encoder_model.onnx", merged, "encoder_model.onnx"},
      {"decoder_model_merged.onnx", merged, "decoder_model_merged.onnx"},
      {"config.json", merged, "config.json"},
      FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx")},
     "",
     "decoder_model_merged.onnx",
     "seq2seq"},
    {"an encoder alone",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"), CONFIG("config.json")},
     "/encoder_model.onnx",
     "encoder_model.onnx",
     "encoder"},
    {"no encoder",
     {FIRST("decoder_model.onnx"), NEXT("decoder_with_past_model.onnx"), CONFIG("config.json")},
     "",
     NULL,
     "its others are not beside it"},
    {"no decoder with a past",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"), CONFIG("config.json")},
     "/decoder_model.onnx",
     NULL,
     "its others are not beside it"},
    {"no config",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx")},
     "",
     NULL,
     "config.json"},
    {"a decoder's config",
     {ENCODER("encoder_model.onnx"),
      FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"),
      {"config.json", "qwen2-f32", "config.json"}},
     "",
     NULL,
     "qwen2, which is no encoder-decoder"},
    {"another one's config",
     {ENCODER("encoder_model.onnx"),
      FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"),
      {"config.json", merged, "config.json"}},
     "",
     NULL,
     "the graph has 2 layers, but the model's config says 1"},
    {"a first decoder in both places",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model.onnx"),
      FIRST("decoder_with_past_model.onnx"), CONFIG("config.json")},
     "",
     NULL,
     "decoder_with_past_model.onnx does not take past_key_values"},
    {"a decoder with a past in both places",
     {ENCODER("encoder_model.onnx"), NEXT("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"), CONFIG("config.json")},
     "",
     NULL,
     "decoder_model.onnx does not take encoder_hidden_states alone"},
    {"a merged one that is none",
     {ENCODER("encoder_model.onnx"), FIRST("decoder_model_merged.onnx"), CONFIG("config.json")},
     "",
     NULL,
     "does not take use_cache_branch"},
    {"a decoder for an encoder",
     {{"encoder_model.onnx", "qwen2-f32", "model.onnx"},
      FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"),
      CONFIG("config.json")},
     "",
     NULL,
     "encoder_model.onnx is not an encoder"},
    {"BERT for an encoder",
     {{"encoder_model.onnx", "bert-f32", "model.onnx"},
      FIRST("decoder_model.onnx"),
      NEXT("decoder_with_past_model.onnx"),
      CONFIG("config.json")},
     "",
     NULL,
     "encoder_model.onnx is not an encoder"},
};

static void files_are_taken_by_their_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(layouts); i++) {
        char *folder = make_folder(layouts[i].files);
        kvern_model *model = NULL;
        kvern_model_info info;
        kvern_error err = {0};
        kvern_status status = open_in(folder, layouts[i].opened, NULL, &model, &err);

        if ((status == KVERN_OK) != (layouts[i].source != NULL))
            fail_msg("%s: %s (%s)", layouts[i].label, err.message, kvern_status_name(status));
        if (status == KVERN_OK) {
            kvern_model_get_info(model, &info);
            if (strcmp(info.source, layouts[i].source) != 0 ||
                strcmp(info.contract, layouts[i].contract) != 0 || strcmp(info.family, "t5") != 0 ||
                info.max_context != 512)
                fail_msg("%s: %s of %s, %s", layouts[i].label, info.source, info.family,
                         info.contract);
        } else if (!strstr(err.message, layouts[i].contract)) {
            fail_msg("%s: %s", layouts[i].label, err.message);
        }
        kvern_model_close(model);
        folder_remove(folder);
    }
}

/* Bytes of one file are replaced. */
static const struct {
    const char *export, *file, *from, *to, *message;
} changes[] = {
    {split, "encoder_model.onnx", "Transpose", "EPContext", "encoder_model.onnx"},
    {split, "decoder_model.onnx", "Transpose", "EPContext", "decoder_model.onnx"},
    {split, "decoder_with_past_model.onnx", "Transpose", "EPContext", "with_past_model.onnx"},
    {merged, "decoder_model_merged.onnx", "Transpose", "EPContext", "EPContext"}, /* in branches */
    {split, "decoder_model.onnx", "encoder_hidden_states", "encoder_hidden_statez",
     "encoder_hidden_statez"},
    {split, "decoder_model.onnx", "present.1.encoder.key", "present.1.encoder.kez",
     "no output \"present.1.encoder.key\""},
    {split, "decoder_with_past_model.onnx", "past_key_values.0.encoder.value",
     "past_key_values.0.encoder.valuf", "past_key_values.0.encoder.valuf"},
    {split, "decoder_with_past_model.onnx", "present.1.decoder.value", "present.1.decoder.valuf",
     "no output \"present.1.decoder.value\""},
    {split, "decoder_with_past_model.onnx", "past_key_values.1.decoder.key",
     "past_key_values.9.decoder.key", "though it has 10 layers"},
    {split, "decoder_with_past_model.onnx", "past_key_values.1.encoder.key",
     "past_key_values.10000000.key\x20", "past_key_values.10000000.key"},
    {split, "decoder_model.onnx", "logits", "logitz", "no output \"logits\""},
    /* the last dim of the logits, 288 */
    {split, "decoder_with_past_model.onnx", "\x0a\x03\x08\xa0\x02", "\x0a\x03\x08\xa1\x02",
     "decoder_model.onnx has 288 tokens in its vocabulary, but"},
    {merged, "decoder_model_merged.onnx", "use_cache_branch", "use_cache_brancy",
     "use_cache_brancy"},
    {merged, "decoder_model_merged.onnx", "present.0.encoder.value", "present.0.encoder.valuf",
     "no output \"present.0.encoder.value\""},
    {merged, "encoder_model.onnx", "last_hidden_state", "last_hidden_stats", "none of the outputs"},
};

static void what_does_not_fit_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        char *folder = make_whole(changes[i].export);
        struct buffer bytes = golden_read(changes[i].export, changes[i].file);
        kvern_model *model = NULL;
        kvern_error err = {0};

        if (bytes_replace(&bytes, changes[i].from, changes[i].to) == 0)
            fail_msg("%s has no \"%s\"", changes[i].file, changes[i].from);
        folder_write(folder, changes[i].file, bytes.data, bytes.n_bytes);
        kvern_status status = open_in(folder, "", NULL, &model, &err);
        if (status == KVERN_OK || !strstr(err.message, changes[i].message))
            fail_msg("%s, \"%s\" instead of \"%s\": %s", changes[i].file, changes[i].to,
                     changes[i].from, err.message);
        buffer_clear(&bytes);
        folder_remove(folder);
    }
}

static void a_preset_is_refused(void **state)
{
    char *folder = make_whole(split);
    kvern_model *model = NULL;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(open_in(folder, "", "qwen2.5-0.5b", &model, &err), KVERN_INVALID);
    assert_non_null(strstr(err.message, "encoder-decoder"));
    folder_remove(folder);
}

/* In the bytes of the model and in the fingerprint. */
static void every_graph_counts(void **state)
{
    static const struct {
        const char *export, *file;
    } files[] = {
        {split, "encoder_model.onnx"},           {split, "decoder_model.onnx"},
        {split, "decoder_with_past_model.onnx"}, {merged, "encoder_model.onnx"},
        {merged, "decoder_model_merged.onnx"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(files); i++) {
        char *folder = make_whole(files[i].export);
        struct buffer bytes = golden_read(files[i].export, files[i].file);
        uint8_t before[KVERN_FINGERPRINT_BYTES], after[KVERN_FINGERPRINT_BYTES];
        kvern_model *models[2] = {NULL};
        kvern_model_info info;
        kvern_error err = {0};

        assert_int_equal(open_in(folder, "", NULL, &models[0], &err), KVERN_OK);
        assert_int_equal(kvern_model_fingerprint(models[0], before, &err), KVERN_OK);
        kvern_model_get_info(models[0], &info);
        assert_int_equal(info.n_bytes,
                         files[i].export == split ? 208844 + 186717 + 125202 : 216884 + 122116);
        assert_true(bytes_replace(&bytes, "/block.0/", "/blocq.0/") > 0); /* names of values */
        folder_write(folder, files[i].file, bytes.data, bytes.n_bytes);
        assert_int_equal(open_in(folder, "", NULL, &models[1], &err), KVERN_OK);
        assert_int_equal(kvern_model_fingerprint(models[1], after, &err), KVERN_OK);
        if (memcmp(before, after, sizeof before) == 0)
            fail_msg("%s does not count", files[i].file);
        kvern_model_close(models[0]);
        kvern_model_close(models[1]);
        buffer_clear(&bytes);
        folder_remove(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_taken_by_their_names),
        cmocka_unit_test(what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(a_preset_is_refused),
        cmocka_unit_test(every_graph_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
