/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern session generate --chat: after every turn the session's tokens are those of the whole
 * conversation rendered at once, and only what is new was run; where a conversation goes on, where
 * another begins, and what is refused.
 */
#include "system/support_files.h"
#include "system/support_models.h"
#include "system/support_session.h"
#include "test.h"

#include "base/file.h"
#include "kvern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TURNS = 3 };

static char smollm2[600]; /* its directory */

static const char *const questions[N_TURNS] = {"Name three fruits.", "And <|im_end|> is text?",
                                               "Which one is red?"};

/* The messages of a session as --json shows them (free with json_decref). */
static json_t *messages_of(const char *name)
{
    char arguments[100];

    snprintf(arguments, sizeof arguments, "show %s --json", name);
    char *out = session_output(arguments);
    json_t *shown = json_line(out, 0);
    json_t *messages = json_incref(json_object_get(shown, "messages"));
    json_decref(shown);
    free(out);
    return messages;
}

/* One turn: its result (free with json_decref). */
static json_t *say(const char *name, const char *message, const char *options)
{
    char arguments[1000];

    snprintf(arguments, sizeof arguments, "generate %s --chat '%s' --json %s", name, message,
             options);
    char *out = session_output(arguments);
    json_t *result = json_line(out, 0);
    free(out);
    return result;
}

static int64_t usage_of(const json_t *result, const char *member)
{
    return json_integer_value(json_object_get(json_object_get(result, "usage"), member));
}

/* The tokens of the messages, all but the last answer, in one call. */
static kvern_tokens render_at_once(const kvern_model *model, const json_t *messages)
{
    kvern_message list[2 * N_TURNS + 1];
    size_t n = json_array_size(messages) - 1;
    kvern_tokens tokens = {0};
    kvern_error err;

    assert_in_range(n, 1, COUNT(list));
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(messages, i);

        list[i].role = json_string_value(json_object_get(message, "role"));
        list[i].content = json_string_value(json_object_get(message, "content"));
    }
    if (kvern_chat_tokenize(model, list, n, true, &tokens, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return tokens;
}

/* The session's file, from `begin` on, begins with these tokens, and an answer follows. */
static void assert_session_has(const char *name, const kvern_model *model, size_t begin,
                               const kvern_tokens *expected)
{
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    kvern_session *session = NULL;
    size_t n_tokens = 0;
    char path[300];
    kvern_error err;

    snprintf(path, sizeof path, "%s/sessions/%s.session", session_home, name);
    if (kvern_session_restore(&session, engine, model, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const int32_t *tokens = kvern_session_tokens(session, &n_tokens);
    assert_true(n_tokens > begin + expected->n);
    for (size_t i = 0; i < expected->n; i++) {
        if (tokens[begin + i] != expected->ids[i])
            fail_msg("token %zu of the conversation is %d, at once it is %d", i, tokens[begin + i],
                     expected->ids[i]);
    }
    kvern_session_free(session);
    kvern_engine_close(engine);
}

/* What kvern generate answers to the same messages. */
static char *answer_at_once(const char *model, const json_t *messages, const char *options)
{
    json_t *line = json_pack("{s:o}", "messages", json_deep_copy(messages));
    json_t *list = json_object_get(line, "messages");
    char command[2000];

    json_array_remove(list, json_array_size(list) - 1);
    for (size_t i = 0; i < json_array_size(list); i++)
        json_object_del(json_array_get(list, i), "end");
    char *input = json_dumps(line, JSON_COMPACT);
    snprintf(command, sizeof command, "generate -m %s --prompts - --json %s", model, options);
    char *out = command_output(command, input, 0);
    json_t *result = json_line(out, 0);
    char *text = strdup(result_text(result));
    json_decref(result);
    free(out);
    free(input);
    json_decref(line);
    return text;
}

static void check_conversation(const char *path, const char *options)
{
    kvern_model *model = NULL;
    int64_t n_before = 0;
    kvern_error err;

    if (kvern_model_open(&model, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    create_session("talk", path, "");
    for (size_t i = 0; i < N_TURNS; i++) {
        json_t *result = say("talk", questions[i], options);
        json_t *messages = messages_of("talk");
        kvern_tokens expected = render_at_once(model, messages);
        char *answer = answer_at_once(path, messages, options);

        assert_int_equal(json_integer_value(json_object_get(result, "messages")), 2 * i + 2);
        assert_int_equal(json_array_size(messages), 2 * i + 2);
        assert_int_equal(usage_of(result, "prompt_tokens"), expected.n);
        assert_session_has("talk", model, 0, &expected);
        assert_string_equal(result_text(result), answer);
        printf("  turn %zu: %lld tokens, %lld of them kept\n", i,
               (long long)usage_of(result, "prompt_tokens"),
               (long long)usage_of(result, "cached_tokens"));
        /* whole blocks of what the turns before had rendered, at the least */
        assert_true(usage_of(result, "cached_tokens") >= n_before / 16 * 16);
        n_before = usage_of(result, "prompt_tokens");
        free(answer);
        kvern_tokens_clear(&expected);
        json_decref(messages);
        json_decref(result);
    }
    do_session("delete talk");
    kvern_model_close(model);
}

/* A random model's answers are bytes that its tokenizer would not have written so: they go in again
 * as their text. */
static void turns_are_the_conversation_at_once(void **state)
{
    (void)state;
    check_conversation(tiny_model(), "-n 24");
    check_conversation(tiny_model(), "-n 24 --temperature 1.5 --seed 4");
}

static void smollm2_ends_its_turns(void **state)
{
    (void)state;
    check_conversation(smollm2, "-n 100"); /* ends with <|im_end|> */
    check_conversation(smollm2, "-n 3");   /* is cut before it */
}

static void a_conversation_goes_on_where_it_ends(void **state)
{
    char arguments[100];

    (void)state;
    create_session("talk", smollm2, "");
    json_decref(say("talk", "first", "-n 4 --system 'You mill.'"));
    json_t *first = messages_of("talk");
    assert_int_equal(json_array_size(first), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(first, 0), "content")),
                        "You mill.");
    int64_t end = json_integer_value(json_object_get(json_array_get(first, 2), "end"));
    assert_int_equal(end, session_number("show talk --json", "position"));
    json_decref(say("talk", "second", "-n 4"));
    do_session("fork talk other");
    json_decref(say("other", "third", "-n 4"));
    json_t *third = messages_of("other");
    assert_int_equal(json_array_size(third), 7);

    /* back at the end of an answer, what came after it is forgotten */
    snprintf(arguments, sizeof arguments, "rewind other %d", (int)end);
    do_session(arguments);
    json_t *back = messages_of("other");
    assert_true(json_equal(back, first));
    do_session("reset other");
    assert_null(messages_of("other"));
    do_session("delete talk other");
    json_decref(back);
    json_decref(third);
    json_decref(first);
}

static void elsewhere_another_one_begins_and_is_told(void **state)
{
    kvern_model *model = NULL;
    kvern_error err;

    (void)state;
    if (kvern_model_open(&model, tiny_model(), &err) != KVERN_OK)
        fail_msg("%s", err.message);
    create_session("talk", tiny_model(), "");
    do_session("append talk 'A text to talk about. '"); /* 22 tokens */
    struct command_run run = run_session("generate talk --chat - -n 4", "What is it?", 0);
    assert_contains(run.err, "begins at token 22");
    json_t *messages = messages_of("talk");
    kvern_tokens expected = render_at_once(model, messages);
    assert_session_has("talk", model, 22, &expected);
    command_clear(&run);
    run = run_session("generate talk --chat 'And this?' -n 4", NULL, 0);
    assert_null(strstr(run.err, "begins"));
    command_clear(&run);
    do_session("append talk ' more'");
    run = run_session("generate talk --chat 'And that?' -n 4", NULL, 0);
    assert_contains(run.err, "begins at token");
    json_t *others = messages_of("talk");
    assert_int_equal(json_array_size(others), 2);
    do_session("delete talk");
    command_clear(&run);
    kvern_tokens_clear(&expected);
    json_decref(others);
    json_decref(messages);
    kvern_model_close(model);
}

static void a_message_may_be_of_files(void **state)
{
    char path[300];
    char arguments[500];

    (void)state;
    snprintf(path, sizeof path, "%s/text", session_home);
    write_whole(path, "caf\xe9", 4); /* not UTF-8 */
    create_session("talk", tiny_model(), "");
    snprintf(arguments, sizeof arguments, "generate talk --chat 'Read this:' --file %s -n 2", path);
    do_session(arguments);
    json_t *messages = messages_of("talk");
    assert_string_equal(json_string_value(json_object_get(json_array_get(messages, 0), "content")),
                        "Read this:\n\ncaf\xef\xbf\xbd");
    do_session("delete talk");
    json_decref(messages);
}

static void refusals(void **state)
{
    static const struct {
        const char *arguments;
        int status;
        const char *says;
    } cases[] = {
        {"generate talk --chat", 2, "--chat needs a TEXT"},
        {"generate talk --chat ''", 1, "the message is empty"},
        {"generate talk --chat --file /no/such/file", 1, "cannot open /no/such/file"},
        {"generate talk hi --system x", 2, "--system goes with --chat"},
        {"generate talk --chat hi --system x", 1, "'kvern session reset talk'"},
        {"generate plain --chat hi", 1, "has no chat template: leave out --chat"},
        {"generate cut --chat hi -n 60", 1, "a turn is not cut"},
        {"generate strict --chat hi -n 60", 1, "over the context limit of 64"},
    };

    (void)state;
    create_session("talk", tiny_model(), "");
    json_decref(say("talk", "hello", "-n 2"));
    create_session("plain", session_models[1], "");
    create_session("greeted", tiny_model(), "");
    create_session("cut", tiny_model(), "--context 64 --window-policy truncate");
    create_session("strict", tiny_model(), "--context 64");
    int64_t position = session_number("show talk --json", "position");
    for (size_t i = 0; i < COUNT(cases); i++)
        refuse_session(cases[i].arguments, cases[i].status, cases[i].says);
    assert_int_equal(session_number("show talk --json", "position"), position);
    json_decref(say("talk", "again", "-n 2"));
    assert_int_equal(session_number("show cut --json", "position"), 0);
    json_decref(say("cut", "hi", "-n 2"));
    /* the environment's system message is for first messages, and no error elsewhere */
    setenv("KVERN_SYSTEM", "You mill.", 1);
    json_decref(say("talk", "once more", "-n 2"));
    do_session("generate strict text -n 2");
    json_decref(say("greeted", "hello", "-n 2"));
    unsetenv("KVERN_SYSTEM");
    json_t *messages = messages_of("greeted");
    assert_int_equal(json_array_size(messages), 3);
    json_decref(messages);
    do_session("delete talk plain cut strict greeted");
}

/* What a stranger wrote into a record. */
static void a_damaged_conversation_is_told(void **state)
{
    static const char *const chats[] = {"5", "[]", "{\"messages\": 5}",
                                        "{\"begin\": -7, \"messages\": [{\"end\": %lld}]}"};
    char path[300];

    (void)state;
    create_session("hurt", tiny_model(), "");
    json_decref(say("hurt", "hello", "-n 2"));
    long long position = session_number("show hurt --json", "position");
    snprintf(path, sizeof path, "%s/sessions/hurt.json", session_home);
    for (size_t i = 0; i < COUNT(chats); i++) {
        char chat[100];

        snprintf(chat, sizeof chat, chats[i], position);
        json_t *record = json_load_file(path, 0, NULL);
        assert_non_null(record);
        json_object_set_new(record, "chat", json_loads(chat, JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(record, path, 0), 0);
        json_decref(record);
        do_session("show hurt");
        if (strstr(chat, "end")) {
            refuse_session("generate hurt --chat hi", 1, "kvern session reset hurt");
        } else {
            do_session("fork hurt copy");
            do_session("generate copy --chat hi -n 2");
            do_session("delete copy");
        }
    }
    do_session("delete hurt");
}

static int make_models(void **state)
{
    kvern_model *model = open_test_model(smollm2_gguf, NULL);
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    snprintf(smollm2, sizeof smollm2, "%s", info.directory);
    kvern_model_close(model);
    return make_session_home(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_the_conversation_at_once),
        cmocka_unit_test(smollm2_ends_its_turns),
        cmocka_unit_test(a_conversation_goes_on_where_it_ends),
        cmocka_unit_test(elsewhere_another_one_begins_and_is_told),
        cmocka_unit_test(a_message_may_be_of_files),
        cmocka_unit_test(refusals),
        cmocka_unit_test(a_damaged_conversation_is_told),
    };

    return cmocka_run_group_tests(tests, make_models, remove_session_home);
}
