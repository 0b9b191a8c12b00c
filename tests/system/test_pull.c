/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_pull against a hub on loopback and against local files: a whole model, what goes wrong on
 * the way and how it goes on, and who gets to see the token.
 */
#include "test.h"

#include "base/file.h"
#include "support/tiny_checkpoint.h"
#include "system/support_files.h"
#include "system/support_hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *directory, *repository, *cache;

static int set_up(void **state)
{
    struct tiny_options tiny = tiny_options("llama");
    char *gguf;
    char *model;
    char *from;
    char *to;
    kvern_convert_options options;

    (void)state;
    directory = make_directory();
    repository = path_join(directory, "tiny");
    cache = path_join(directory, "cache");
    tiny_checkpoint_write(repository, &tiny);
    /* a tokenizer to go with it: the one a GGUF conversion makes */
    gguf = path_join(directory, "small.gguf");
    model = path_join(directory, "small");
    write_small_gguf(gguf);
    kvern_convert_options_init(&options);
    options.source = gguf;
    options.target = model;
    assert_int_equal(kvern_convert(&options, NULL), KVERN_OK);
    from = path_join(model, "tokenizer.json");
    to = path_join(repository, "tokenizer.json");
    copy_whole(from, to);
    free(to);
    to = path_join(repository, "README.md");
    write_whole(to, "not wanted", 10);
    free(to);
    free(from);
    free(model);
    free(gguf);
    setenv("KVERN_HOME", cache, 1);
    setenv("no_proxy", "*", 1);
    setenv("HF_TOKEN", "secret-token", 1);
    return 0;
}

/* The cache has two more levels than directory_remove takes at once. */
static void clear_cache(void)
{
    static const char *const parts[] = {"models", "downloads", ""};

    for (size_t i = 0; i < COUNT(parts); i++) {
        char *path = path_join(cache, parts[i]);

        assert_int_equal(directory_remove(path, NULL), KVERN_OK);
        free(path);
    }
}

static int tear_down(void **state)
{
    static const char *const parts[] = {"tiny", "small", ""};

    (void)state;
    clear_cache();
    for (size_t i = 0; i < COUNT(parts); i++) {
        char *path = path_join(directory, parts[i]);

        directory_remove(path, NULL);
        free(path);
    }
    free(cache);
    free(repository);
    free(directory);
    return 0;
}

static int set_up_cache(void **state)
{
    (void)state;
    clear_cache();
    return 0;
}

struct stopper {
    int n_calls;
    int stop_at; /* -1: never */
};

static bool count_calls(const char *what, int64_t done, int64_t total, void *user_data)
{
    struct stopper *stopper = user_data;

    (void)total;
    assert_true(what[0] != '\0' && done >= 0);
    return stopper->n_calls++ != stopper->stop_at;
}

static kvern_status pull(const char *name, struct stopper *stopper, char **result, kvern_error *err)
{
    kvern_pull_options options;

    kvern_pull_options_init(&options);
    options.name = name;
    options.on_progress = stopper ? count_calls : NULL;
    options.on_progress_data = stopper;
    return kvern_pull(&options, result, err);
}

static void start_on(struct test_hub *hub, const char *folder, enum hub_fault fault)
{
    char endpoint[64];

    test_hub_start(hub, folder, fault);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", hub->port);
    setenv("HF_ENDPOINT", endpoint, 1);
}

static void start(struct test_hub *hub, enum hub_fault fault)
{
    start_on(hub, repository, fault);
}

static void check_cache(const char *part, const char *expected)
{
    char *path = path_join(cache, part);
    char *names = list_directory(path);

    assert_string_equal(names, expected);
    free(names);
    free(path);
}

static void pull_or_fail(const char *name)
{
    kvern_error err = {0};
    kvern_model *model = NULL;
    char *result = NULL;

    if (pull(name, NULL, &result, &err) != KVERN_OK ||
        kvern_model_open(&model, result, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_model_close(model);
    kvern_free(result);
    check_cache("models", "tiny\n");
    check_cache("downloads", "");
}

static void test_whole(void **state)
{
    struct test_hub hub;

    (void)state;
    start(&hub, HUB_FINE);
    pull_or_fail("owner/tiny");
    assert_int_equal(hub.record->n_requests, 4); /* list, config, tokenizer, weights */
    assert_true(hub.record->has_token);
    pull_or_fail("owner/tiny"); /* there already: nothing is asked */
    assert_int_equal(hub.record->n_requests, 4);
    test_hub_stop(&hub);
}

static void put_text(const char *folder, const char *name, const char *text)
{
    char *path = path_join(folder, name);

    write_whole(path, text, strlen(text));
    free(path);
}

/* An embedding model: the files that say how, one of them in a folder. */
static void test_encoder(void **state)
{
    struct tiny_options tiny = tiny_options("bert");
    char *whole = repository;
    char *pooling;
    char *result = NULL;
    kvern_model *model = NULL;
    kvern_model_info info;
    kvern_error err = {0};
    struct test_hub hub;

    (void)state;
    repository = path_join(directory, "encoder");
    tiny_checkpoint_write(repository, &tiny);
    pooling = path_join(repository, "1_Pooling");
    assert_int_equal(directory_make(pooling, NULL), KVERN_OK);
    put_text(pooling, "config.json", "{\"pooling_mode_mean_tokens\":true}");
    put_text(repository, "modules.json",
             "[{\"type\":\"a.Transformer\"},{\"type\":\"a.Pooling\"},{\"type\":\"a.Normalize\"}]");
    put_text(repository, "sentence_bert_config.json", "{\"max_seq_length\":32}");
    put_text(repository, "README.md", "not wanted");
    start(&hub, HUB_FINE);
    if (pull("owner/tiny", NULL, &result, &err) != KVERN_OK ||
        kvern_model_open(&model, result, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(hub.record->n_requests, 6); /* list, config, three of embedding, weights */
    assert_false(hub.record->was_asked_oddly);
    check_cache("downloads", "");
    kvern_model_get_info(model, &info);
    assert_string_equal(info.contract, "encoder");
    assert_string_equal(info.pooling, "mean");
    assert_true(info.is_encoder && info.is_normalized);
    assert_int_equal(info.embedding_size, 96);
    assert_int_equal(info.max_tokens, 32);
    kvern_model_close(model);
    kvern_free(result);
    test_hub_stop(&hub);
    directory_remove(repository, NULL);
    free(pooling);
    free(repository);
    repository = whole;
}

static void test_redirect(void **state)
{
    struct test_hub hub;

    (void)state;
    start(&hub, HUB_REDIRECTS);
    pull_or_fail("owner/tiny");
    assert_int_equal(hub.record->n_requests, 7);
    assert_true(hub.record->has_token);
    assert_false(hub.record->has_foreign_token);
    test_hub_stop(&hub);
}

static void test_refused(void **state)
{
    static const struct {
        enum hub_fault fault;
        kvern_status status;
        const char *message;
        int n_requests; /* no more tries than are of use */
    } cases[] = {
        {HUB_NOT_FOUND, KVERN_NOT_FOUND, "the hub has no owner/tiny", 1},
        {HUB_FORBIDDEN, KVERN_IO, "set HF_TOKEN", 1},
        {HUB_NOT_JSON, KVERN_FORMAT, "list of owner/tiny", 1},
        {HUB_WRONG_LIST, KVERN_FORMAT, "list of owner/tiny", 1},
        {HUB_WRONG_SIZE, KVERN_IO, "config.json has ", 4},
        {HUB_WRONG_HASH, KVERN_FORMAT, "config.json has sha256", 4},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct test_hub hub;
        kvern_error err = {0};
        char *result = NULL;

        start(&hub, cases[i].fault);
        kvern_status status = pull("owner/tiny", NULL, &result, &err);
        check_message(status, &err, cases[i].message);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(hub.record->n_requests, cases[i].n_requests);
        assert_null(result);
        check_cache("models", "");
        test_hub_stop(&hub);
        clear_cache();
    }
}

static void test_odd_names(void **state)
{
    struct test_hub hub;

    (void)state;
    start(&hub, HUB_ODD_NAMES);
    pull_or_fail("owner/tiny");
    assert_int_equal(hub.record->n_requests, 4);
    assert_false(hub.record->was_asked_oddly);
    test_hub_stop(&hub);
}

static void test_dropped_connection(void **state)
{
    char *path = path_join(repository, "model.safetensors");
    struct buffer weights = read_whole(path);
    struct test_hub hub;

    (void)state;
    start(&hub, HUB_DROPS);
    pull_or_fail("owner/tiny");
    assert_int_equal(hub.record->n_requests, 5);
    assert_int_equal(hub.record->last_offset, weights.n_bytes / 2);
    test_hub_stop(&hub);
    buffer_clear(&weights);
    free(path);
}

/* A .part of an earlier process: the rest is fetched, or, where it was not the same file, all. */
static void test_resume(void **state)
{
    static const struct {
        size_t n_part; /* bytes of the .part; 0: all of it */
        bool is_wrong;
        enum hub_fault fault;
        int n_requests;
    } cases[] = {
        {1000, false, HUB_FINE, 4},          {0, false, HUB_FINE, 3},
        {1000, true, HUB_FINE, 5},           {0, true, HUB_FINE, 4},
        {1000, false, HUB_IGNORES_RANGE, 5},
    };
    char *from = path_join(repository, "model.safetensors");
    char *downloads = path_join(cache, "downloads/tiny");
    char *part = path_join(downloads, "model.safetensors.part");

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer weights = read_whole(from);
        struct test_hub hub;

        clear_cache();
        assert_int_equal(directory_make(downloads, NULL), KVERN_OK);
        weights.data[0] = (char)(weights.data[0] ^ cases[i].is_wrong);
        write_whole(part, weights.data, cases[i].n_part ? cases[i].n_part : weights.n_bytes);
        start(&hub, cases[i].fault);
        pull_or_fail("owner/tiny");
        if (hub.record->n_requests > cases[i].n_requests)
            fail_msg("case %zu: %d requests, not %d", i, hub.record->n_requests,
                     cases[i].n_requests);
        test_hub_stop(&hub);
        buffer_clear(&weights);
    }
    free(part);
    free(downloads);
    free(from);
}

static void test_cancel(void **state)
{
    struct stopper all = {.stop_at = -1};
    struct test_hub hub;
    char *result = NULL;

    (void)state;
    start(&hub, HUB_FINE);
    assert_int_equal(pull("owner/tiny", &all, &result, NULL), KVERN_OK);
    kvern_free(result);
    for (int i = 0; i < all.n_calls; i += 1 + i / 4) {
        struct stopper stopper = {.stop_at = i};
        kvern_error err = {0};

        clear_cache();
        kvern_status status = pull("owner/tiny", &stopper, &result, &err);
        if (status == KVERN_OK) { /* curl calls as often as it likes */
            kvern_free(result);
            continue;
        }
        assert_int_equal(status, KVERN_CANCELLED);
        check_message(status, &err, "");
        check_cache("models", "");
    }
    test_hub_stop(&hub);
}

/* A decoder that embeds, as Qwen3-Embedding is stored. */
static void test_embedding_decoder(void **state)
{
    struct tiny_options tiny = tiny_options("qwen3");
    char *folder = path_join(directory, "encoder");
    char *pooling = path_join(folder, "1_Pooling");
    char *result = NULL;
    kvern_model *model = NULL;
    kvern_model_info info;
    kvern_error err = {0};

    (void)state;
    tiny.is_headless = true;
    tiny_checkpoint_write(folder, &tiny);
    assert_int_equal(directory_make(pooling, NULL), KVERN_OK);
    put_text(pooling, "config.json", "{\"pooling_mode_lasttoken\":true}");
    if (pull(folder, NULL, &result, &err) != KVERN_OK ||
        kvern_model_open(&model, result, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_model_get_info(model, &info);
    assert_string_equal(info.contract, "paged");
    assert_string_equal(info.pooling, "last");
    assert_false(info.is_encoder || info.is_normalized);
    kvern_model_close(model);
    kvern_free(result);
    directory_remove(folder, NULL);
    free(pooling);
    free(folder);
}

/* A repository that has only what torch.save wrote, in shards. */
static void test_torch(void **state)
{
    struct test_hub hub;

    (void)state;
    start_on(&hub, KVERN_SOURCE_DIR "/tests/golden/torch/llama-sharded", HUB_FINE);
    pull_or_fail("owner/tiny");
    test_hub_stop(&hub);
    check_cache("models", "tiny\n");
}

static void test_local(void **state)
{
    char *gguf = path_join(directory, "small.gguf");
    char *result = NULL;
    kvern_error err = {0};

    (void)state;
    pull_or_fail(repository);
    if (pull(gguf, NULL, &result, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_string_equal(path_base(result), "small");
    kvern_free(result);
    check_cache("models", "small\ntiny\n");
    assert_true(file_exists(gguf)); /* what was not downloaded is not removed */
    free(gguf);
}

/* A model of an older form is made anew; one that is damaged is left for its owner to look at. */
static void test_old_form(void **state)
{
    static const char version[] = "\"format_version\": ";
    char *path = path_join(cache, "models/tiny/kvern.json");

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct buffer text;
        kvern_model *model = NULL;
        kvern_error err = {0};
        char *result = NULL;
        char *digit;

        pull_or_fail(repository);
        text = read_whole(path);
        digit = strstr(text.data, version) + strlen(version);
        *digit = i ? 'x' : '1';
        write_whole(path, text.data, text.n_bytes);
        assert_int_equal(pull(repository, NULL, &result, &err), KVERN_OK);
        assert_int_equal(kvern_model_open(&model, result, &err), i ? KVERN_FORMAT : KVERN_OK);
        kvern_model_close(model);
        kvern_free(result);
        buffer_clear(&text);
    }
    free(path);
}

static void test_bad_names(void **state)
{
    static const char *const names[] = {
        "nothing-here", "a/b/c",         "/",           "..",         "owner/..",
        "../x",         "owner/a b",     "owner/a?b=c", "owner/a%2f", "http://127.0.0.1/x",
        "owner/",       "owner/.hidden", "./x",
    };

    (void)state;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    for (size_t i = 0; i < COUNT(names); i++) {
        kvern_error err = {0};
        char *result = NULL;
        kvern_status status = pull(names[i], NULL, &result, &err);

        if (status == KVERN_OK)
            fail_msg("'%s' gave %s", names[i], result);
        check_message(status, &err, "");
        check_cache("models", "");
        assert_false(strstr(err.message, "127.0.0.1:1") != NULL);
    }
}

/* Nobody listens there. */
static void test_no_hub(void **state)
{
    kvern_error err = {0};
    char *result = NULL;

    (void)state;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    assert_int_equal(pull("owner/tiny", NULL, &result, &err), KVERN_IO);
    check_message(KVERN_IO, &err, "check the network");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_whole, set_up_cache),
        cmocka_unit_test_setup(test_encoder, set_up_cache),
        cmocka_unit_test_setup(test_redirect, set_up_cache),
        cmocka_unit_test_setup(test_refused, set_up_cache),
        cmocka_unit_test_setup(test_odd_names, set_up_cache),
        cmocka_unit_test_setup(test_dropped_connection, set_up_cache),
        cmocka_unit_test_setup(test_resume, set_up_cache),
        cmocka_unit_test_setup(test_cancel, set_up_cache),
        cmocka_unit_test_setup(test_embedding_decoder, set_up_cache),
        cmocka_unit_test_setup(test_torch, set_up_cache),
        cmocka_unit_test_setup(test_local, set_up_cache),
        cmocka_unit_test_setup(test_old_form, set_up_cache),
        cmocka_unit_test_setup(test_bad_names, set_up_cache),
        cmocka_unit_test_setup(test_no_hub, set_up_cache),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
