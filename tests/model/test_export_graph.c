/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs of exports: what is read out of each golden one, and graphs that differ from them, made by
 * replacing bytes with as many others.
 */
#include "test.h"

#include "support_export.h"

#include "base/file.h"
#include "model/export_graph.h"
#include "model/protobuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *goldens(const char *export)
{
    struct buffer path = {0};

    buffer_add_format(&path, "%s/exports/%s", KVERN_GOLDEN_DIR, export);
    return buffer_take(&path, NULL);
}

/* Reads the bytes as if they lay in `folder`; NULL: in the export's own. */
static kvern_status read_files(const struct buffer *bytes, const char *export, const char *folder,
                               struct export_graph *graph, struct export_files *files,
                               kvern_error *err)
{
    char *own = goldens(export);
    uint8_t *copy = malloc(bytes->n_bytes ? bytes->n_bytes : 1); /* exact, for AddressSanitizer */
    kvern_status status;

    assert_non_null(copy);
    memcpy(copy, bytes->data, bytes->n_bytes);
    status = export_graph_read(graph, files, copy, bytes->n_bytes, folder ? folder : own, err);
    free(copy);
    free(own);
    return status;
}

static kvern_status read_graph(const struct buffer *bytes, const char *export, const char *folder,
                               struct export_graph *graph, kvern_error *err)
{
    struct export_files files = {0};
    kvern_status status = read_files(bytes, export, folder, graph, &files, err);

    export_files_clear(&files);
    return status;
}

/* What inputs.txt of each says; sizes that the graph names instead are 0. */
static const struct {
    const char *export, *file;
    struct export_graph graph;
} exports[] = {
    {"qwen2-f32",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_positions = true,
      .has_logits = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 2,
      .head_size = 16,
      .vocab_size = 288}},
    {"qwen2-f16",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_positions = true,
      .has_logits = true,
      .kv_type = EXPORT_F16,
      .logits_type = EXPORT_F16,
      .n_layers = 2,
      .n_kv_heads = 2,
      .head_size = 16,
      .vocab_size = 288}},
    {"llama-merged",
     "decoder_model_merged.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_positions = true,
      .has_cache_branch = true,
      .has_logits = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 1,
      .head_size = 16,
      .vocab_size = 288}},
    {"llama-no-positions",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_logits = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 1,
      .head_size = 16,
      .vocab_size = 288}},
    {"qwen2-gqa-f32",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_gqa = true,
      .has_logits = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 2,
      .vocab_size = 288}},
    {"qwen2-gqa-int4",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_gqa = true,
      .has_logits = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 2,
      .vocab_size = 288}},
    {"llama-gqa-int4-hidden",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_gqa = true,
      .has_logits = true,
      .hidden = "hidden_states",
      .hidden_type = EXPORT_F32,
      .hidden_size = 32,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 1,
      .vocab_size = 288}},
    {"llama-gqa-int4-last",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_gqa = true,
      .has_logits = true,
      .has_last_only = true,
      .kv_type = EXPORT_F32,
      .logits_type = EXPORT_F32,
      .n_layers = 2,
      .n_kv_heads = 1,
      .vocab_size = 288}},
    {"llama-gqa-f16",
     "model.onnx",
     {.is_decoder = true,
      .has_mask = true,
      .has_gqa = true,
      .has_logits = true,
      .kv_type = EXPORT_F16,
      .logits_type = EXPORT_F16,
      .n_layers = 2,
      .n_kv_heads = 1,
      .vocab_size = 288}},
    {"bert-f32",
     "model.onnx",
     {.has_mask = true,
      .has_token_types = true,
      .hidden = "last_hidden_state",
      .hidden_type = EXPORT_F32,
      .hidden_size = 32}},
    {"bert-sentence",
     "model.onnx",
     {.has_mask = true,
      .hidden = "token_embeddings",
      .hidden_type = EXPORT_F32,
      .hidden_size = 32}},
};

static void graphs_are_read_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(exports); i++) {
        const struct export_graph *expected = &exports[i].graph;
        struct buffer bytes = golden_read(exports[i].export, exports[i].file);
        struct export_graph graph;
        kvern_error err = {0};

        if (read_graph(&bytes, exports[i].export, NULL, &graph, &err) != KVERN_OK)
            fail_msg("%s: %s", exports[i].export, err.message);
        const struct {
            const char *name;
            size_t is, should_be;
        } members[] = {
            {"is_decoder", graph.is_decoder, expected->is_decoder},
            {"has_mask", graph.has_mask, expected->has_mask},
            {"has_positions", graph.has_positions, expected->has_positions},
            {"has_token_types", graph.has_token_types, expected->has_token_types},
            {"has_cache_branch", graph.has_cache_branch, expected->has_cache_branch},
            {"has_gqa", graph.has_gqa, expected->has_gqa},
            {"has_logits", graph.has_logits, expected->has_logits},
            {"is_pooled", graph.is_pooled, expected->is_pooled},
            {"has_last_only", graph.has_last_only, expected->has_last_only},
            {"kv_type", graph.kv_type, expected->kv_type},
            {"logits_type", graph.logits_type, expected->logits_type},
            {"hidden_type", graph.hidden_type, expected->hidden_type},
            {"n_layers", graph.n_layers, expected->n_layers},
            {"n_kv_heads", graph.n_kv_heads, expected->n_kv_heads},
            {"head_size", graph.head_size, expected->head_size},
            {"vocab_size", graph.vocab_size, expected->vocab_size},
            {"hidden_size", graph.hidden_size, expected->hidden_size},
        };
        for (size_t m = 0; m < COUNT(members); m++) {
            if (members[m].is != members[m].should_be)
                fail_msg("%s: %s is %zu, not %zu", exports[i].export, members[m].name,
                         members[m].is, members[m].should_be);
        }
        assert_string_equal(graph.hidden, expected->hidden);
        buffer_clear(&bytes);
    }
}

/* Of the same length: a protobuf length in front stays right. "\x3a" opens a node's domain, "\x7a"
 * a field that nobody reads, "\x08" a dim's value. */
static const struct {
    const char *export, *from, *to;
    kvern_status status;
    const char *names; /* in the message */
} changes[] = {
    {"qwen2-f32", "input_ids", "input_odd", KVERN_UNSUPPORTED, "input_odd"},
    {"qwen2-f32", "attention_mask", "attention_musk", KVERN_UNSUPPORTED, "attention_musk"},
    {"qwen2-f32", "past_key_values.1.key", "past_key_values.2.key", KVERN_FORMAT,
     "past_key_values.1.key"},
    {"qwen2-f32", "past_key_values.0.key", "past_kex_values.0.key", KVERN_UNSUPPORTED,
     "past_kex_values.0.key"},
    {"qwen2-f32", "present.1.value", "present.1.valve", KVERN_FORMAT, "present.1.value"},
    {"qwen2-f32", "present.0.key", "present.9.key", KVERN_FORMAT, "present.0.key"},
    {"qwen2-f32", "logits", "digits", KVERN_FORMAT, "logits"},
    {"qwen2-f32", "Transpose", "EPContext", KVERN_UNSUPPORTED, "EPContext"},
    {"llama-merged", "Transpose", "EPContext", KVERN_UNSUPPORTED, "EPContext"}, /* in subgraphs */
    {"qwen2-gqa-f32",
     "\x3a\x0d"
     "com.microsoft",
     "\x3a\x08"
     "ai.kvern\x7a\x03xyz",
     KVERN_UNSUPPORTED, "ai.kvern"},
    {"qwen2-gqa-f32", "model.onnx.data", "/etc/passwd.txt", KVERN_FORMAT, "/etc/passwd.txt"},
    {"qwen2-gqa-f32", "model.onnx.data", "../../etc/passw", KVERN_FORMAT, "../../etc/passw"},
    {"qwen2-gqa-f32", "model.onnx.data", "sub/weights.bin", KVERN_FORMAT, "sub/weights.bin"},
    {"qwen2-gqa-f32", "model.onnx.data", "..\\weighted.bin", KVERN_FORMAT, "bin"},
    {"qwen2-gqa-f32", "model.onnx.data", "another_one.bin", KVERN_NOT_FOUND, "another_one.bin"},
    {"qwen2-gqa-f32", "offset", "offsat", KVERN_OK, ""}, /* an entry nobody knows: offset 0 */
    {"qwen2-gqa-f32",
     "\x12\x0c"
     "kv_cache_dim",
     "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x40\x7a\x02xy", KVERN_LIMIT, "4611686018427387904"},
    {"bert-f32", "last_hidden_state", "lost_hidden_state", KVERN_UNSUPPORTED, "last_hidden_state"},
    {"bert-f32", "last_hidden_state", "past_key_values.0", KVERN_UNSUPPORTED, "outputs"},
    {"bert-f32", "token_type_ids", "token_tape_ids", KVERN_UNSUPPORTED, "token_tape_ids"},
    {"bert-sentence", "token_embeddings", "token_embeddinks", KVERN_OK, ""}, /* pooled is left */
};

static void what_no_runner_feeds_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        struct buffer bytes =
            golden_read(changes[i].export, strcmp(changes[i].export, "llama-merged") == 0
                                               ? "decoder_model_merged.onnx"
                                               : "model.onnx");
        struct export_graph graph;
        kvern_error err = {0};

        assert_true(bytes_replace(&bytes, changes[i].from, changes[i].to) > 0);
        kvern_status status = read_graph(&bytes, changes[i].export, NULL, &graph, &err);
        if (status != changes[i].status || !strstr(err.message, changes[i].names))
            fail_msg("%s, '%s' instead of '%s': %s (%s)", changes[i].export, changes[i].to,
                     changes[i].from, err.message, kvern_status_name(status));
        buffer_clear(&bytes);
    }
}

/* What the file beside a graph may be. */
static void weights_are_plain_files_of_the_folder(void **state)
{
    static const struct {
        const char *label;
        bool is_short, is_symbolic, is_hard, is_folder;
        kvern_status status;
        const char *names;
    } cases[] = {
        {"a copy", false, false, false, false, KVERN_OK, ""},
        {"a short file", true, false, false, false, KVERN_FORMAT, "which has 1000"},
        {"a symbolic link", false, true, false, false, KVERN_FORMAT, "is a link"},
        {"a hard link", false, false, true, false, KVERN_FORMAT, "is a link"},
        {"a folder", false, false, false, true, KVERN_FORMAT, "no regular file"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *folder = folder_make();
        char *real = path_join(folder, "real");
        char *data = path_join(folder, "model.onnx.data");
        struct buffer bytes = golden_read("qwen2-gqa-f32", "model.onnx");
        struct buffer weights = golden_read("qwen2-gqa-f32", "model.onnx.data");
        struct export_graph graph;
        kvern_error err = {0};

        folder_write(folder, "real", weights.data, cases[i].is_short ? 1000 : weights.n_bytes);
        if (cases[i].is_symbolic)
            assert_int_equal(symlink("real", data), 0);
        else if (cases[i].is_hard)
            assert_int_equal(link(real, data), 0);
        else if (cases[i].is_folder)
            assert_int_equal(directory_make(data, NULL), KVERN_OK);
        else
            assert_int_equal(rename(real, data), 0);
        kvern_status status = read_graph(&bytes, "", folder, &graph, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].names))
            fail_msg("%s: %s (%s)", cases[i].label, err.message, kvern_status_name(status));
        buffer_clear(&bytes);
        buffer_clear(&weights);
        free(real);
        free(data);
        folder_remove(folder);
    }
}

static void put_varint(struct buffer *bytes, size_t value)
{
    for (; value >= 0x80; value >>= 7)
        buffer_add_byte(bytes, (char)(value | 0x80));
    buffer_add_byte(bytes, (char)value);
}

/* A message of one field, around what is in `bytes`. */
static void wrap(struct buffer *bytes, unsigned field)
{
    struct buffer whole = {0};

    put_varint(&whole, field << 3 | 2);
    put_varint(&whole, bytes->n_bytes);
    buffer_add(&whole, bytes->data, bytes->n_bytes);
    buffer_clear(bytes);
    *bytes = whole;
}

/* The graph's bytes with a node behind them: an If with one branch, whose initializer lies in
 * `file`. */
static struct buffer add_branch(const struct buffer *model, const char *file)
{
    struct protobuf reader = protobuf_read((const uint8_t *)model->data, model->n_bytes);
    struct protobuf_field field;
    struct buffer node = {0}, whole = {0};

    buffer_add_format(&node, "\x0a\x08location\x12%c%s", (char)strlen(file), file);
    for (size_t i = 0; i < 5; i++) /* entry, tensor, graph, attribute, node */
        wrap(&node, (const unsigned[]){13, 5, 6, 5, 1}[i]);
    const uint8_t *at = reader.at;
    while (protobuf_next(&reader, &field)) {
        if (field.number == 7) {
            struct buffer graph = {0};

            buffer_add(&graph, field.bytes, field.n_bytes);
            buffer_add(&graph, node.data, node.n_bytes);
            wrap(&graph, 7);
            buffer_add(&whole, graph.data, graph.n_bytes);
            buffer_clear(&graph);
        } else {
            buffer_add(&whole, at, (size_t)(reader.at - at));
        }
        at = reader.at;
    }
    buffer_clear(&node);
    return whole;
}

static void files_of_weights_are_listed_once_also_of_branches(void **state)
{
    char *folder = folder_make();
    struct buffer plain = golden_read("qwen2-gqa-f32", "model.onnx");
    struct buffer graph_bytes = add_branch(&plain, "branch.bin");
    struct export_graph graph;
    struct export_files files = {0};
    kvern_error err = {0};

    (void)state;
    folder_copy(folder, "model.onnx.data", "qwen2-gqa-f32", "model.onnx.data");
    assert_int_equal(read_files(&graph_bytes, "", folder, &graph, &files, &err), KVERN_NOT_FOUND);
    assert_non_null(strstr(err.message, "branch.bin"));
    export_files_clear(&files);
    folder_write_text(folder, "branch.bin", "12345678");
    folder_write_text(folder, "beside.onnx.data", "of another graph");
    if (read_files(&graph_bytes, "", folder, &graph, &files, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(files.n, 2);
    assert_string_equal(files.items[0].name, "model.onnx.data");
    assert_string_equal(files.items[1].name, "branch.bin");
    assert_int_equal(files.items[1].n_bytes, 8);
    assert_int_equal(files.n_bytes, graph_bytes.n_bytes + 8 + files.items[0].n_bytes);
    export_files_clear(&files);
    buffer_clear(&plain);
    buffer_clear(&graph_bytes);
    folder_remove(folder);
}

static void every_cut_is_refused(void **state)
{
    static const char *const cut[] = {"qwen2-gqa-f32", "bert-f32", "qwen2-f32"};

    (void)state;
    for (size_t i = 0; i < COUNT(cut); i++) {
        struct buffer bytes = golden_read(cut[i], "model.onnx");
        size_t n_bytes = bytes.n_bytes;
        struct export_graph graph;

        for (size_t n = 0; n < n_bytes; n += n < 16000 ? 37 : 4999) {
            kvern_error err = {0};

            bytes.n_bytes = n;
            assert_int_not_equal(read_graph(&bytes, cut[i], NULL, &graph, &err), KVERN_OK);
            assert_true(strlen(err.message) > 10);
        }
        buffer_clear(&bytes);
    }
}

/* The second size of each pair is the config's. */
static void both_sides_of_a_disagreement_are_named(void **state)
{
    static const struct {
        struct export_graph graph;
        struct model_config config;
        kvern_status status;
        const char *names;
    } cases[] = {
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 16, .vocab_size = 9},
         {.n_layers = 2, .n_kv_heads = 3, .head_size = 16, .vocab_size = 9},
         KVERN_OK,
         ""},
        {{.is_decoder = true, .n_layers = 24, .n_kv_heads = 3, .head_size = 16, .vocab_size = 9},
         {.n_layers = 28, .n_kv_heads = 3, .head_size = 16, .vocab_size = 9},
         KVERN_FORMAT,
         "24 layers, but the model's config says 28"},
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 16, .vocab_size = 9},
         {.n_layers = 2, .n_kv_heads = 5, .head_size = 16, .vocab_size = 9},
         KVERN_FORMAT,
         "3 kv heads, but the model's config says 5"},
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 64, .vocab_size = 9},
         {.n_layers = 2, .n_kv_heads = 3, .head_size = 128, .vocab_size = 9},
         KVERN_FORMAT,
         "64 values in a head, but the model's config says 128"},
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 64, .vocab_size = 9},
         {.n_layers = 2, .n_kv_heads = 3, .head_size = 64, .vocab_size = 11},
         KVERN_FORMAT,
         "9 tokens in its vocabulary, but the model's config says 11"},
        {{.hidden_size = 384},
         {.hidden_size = 768, .vocab_size = 9, .n_layers = 6},
         KVERN_FORMAT,
         "384 values in a hidden state, but the model's config says 768"},
        /* what only the graph says is taken from it */
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 64, .vocab_size = 9},
         {0},
         KVERN_OK,
         ""},
        /* what neither says is missing */
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .head_size = 64},
         {0},
         KVERN_FORMAT,
         "how many tokens"},
        {{.is_decoder = true, .n_layers = 2, .vocab_size = 9}, {0}, KVERN_FORMAT, "name a preset"},
        {{.hidden_size = 384}, {0}, KVERN_FORMAT, "how many tokens"},
        {{0}, {.vocab_size = 9}, KVERN_FORMAT, "how many values in a vector"},
        /* what no product of sizes survives */
        {{.is_decoder = true, .n_layers = 2, .n_kv_heads = 3, .vocab_size = 9},
         {.head_size = 1 << 27},
         KVERN_LIMIT,
         "134217728"},
        {{.is_decoder = true, .n_layers = 2, .head_size = 3, .vocab_size = 9},
         {.n_kv_heads = 1 << 28},
         KVERN_LIMIT,
         "268435456"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct model_config config = cases[i].config;
        kvern_error err = {0};
        kvern_status status = export_graph_agree(&cases[i].graph, &config, &err);

        if (status != cases[i].status || !strstr(err.message, cases[i].names))
            fail_msg("case %zu: %s (%s)", i, err.message, kvern_status_name(status));
        if (status == KVERN_OK) {
            assert_int_equal(config.n_layers, cases[i].graph.n_layers);
            assert_int_equal(config.n_kv_heads, cases[i].graph.n_kv_heads);
            assert_int_equal(config.head_size, cases[i].graph.head_size);
            assert_int_equal(config.vocab_size, cases[i].graph.vocab_size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graphs_are_read_right),
        cmocka_unit_test(what_no_runner_feeds_is_refused_by_name),
        cmocka_unit_test(weights_are_plain_files_of_the_folder),
        cmocka_unit_test(files_of_weights_are_listed_once_also_of_branches),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(both_sides_of_a_disagreement_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
