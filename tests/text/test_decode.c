/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoders in every order, token by token, against what Hugging Face gives for all tokens at once
 * (tests/golden/make_decoders.py): an order is either refused or the same. And what is refused.
 */
#include "test.h"
#include "text/support_golden.h"

#include "text/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text;
static json_t *golden;

static int load(void **state)
{
    size_t n_bytes;

    (void)state;
    text = golden_file("decoders.json", &n_bytes);
    golden = json_loadb(text, n_bytes, 0, NULL);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    json_decref(golden);
    free(text);
    return 0;
}

/* {"type": "Sequence", ...} of the members named (blank-separated). */
static json_t *sequence_of(const char *names)
{
    json_t *list = json_array();

    for (const char *c = names; *c;) {
        char name[32];
        size_t length = strcspn(c, " ");

        snprintf(name, sizeof name, "%.*s", (int)length, c);
        json_t *member = json_object_get(json_object_get(golden, "members"), name);
        assert_non_null(member);
        json_array_append(list, member);
        c += length + strspn(c + length, " ");
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static struct buffer decode(const struct decoder *decoder, const json_t *ids)
{
    struct decode_state state = {0};
    struct buffer out = {0};

    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *piece = json_array_get(json_object_get(golden, "pieces"),
                                             json_integer_value(json_array_get(ids, i)));

        decoder_add(decoder, &state, json_string_value(piece), json_string_length(piece), &out);
    }
    decoder_finish(decoder, &state, &out);
    assert_false(out.has_failed);
    assert_int_equal(state.n_tokens, 0); /* at its start again */
    return out;
}

static void every_order_is_refused_or_pythons(void **state)
{
    /* Those that models have, and others that can be told token by token. */
    static const char *const accepted[] = {
        "byte_level",
        "metaspace",
        "replace byte_fallback fuse strip",
        "replace byte_fallback fuse",
        "byte_fallback fuse",
        "byte_fallback replace fuse strip",
        "byte_fallback fuse replace strip",
        "byte_fallback fuse strip replace",
        "fuse strip replace",
        "byte_fallback byte_level",
        "byte_fallback replace byte_level fuse",
        "byte_fallback byte_level fuse replace",
        "byte_fallback metaspace",
        "byte_level strip",
        "fuse metaspace",
        "fuse strip replace strip",
    };
    /* Those that need the whole text first. */
    static const char *const refused[] = {
        "byte_fallback fuse replace byte_level",
        "fuse byte_level",
        "fuse byte_fallback",
        "byte_level byte_fallback",
        "fuse replace_two",
        "byte_level replace_two",
    };
    const json_t *decoders = json_object_get(golden, "decoders");
    const json_t *sequences = json_object_get(golden, "sequences");
    size_t n_accepted = 0, n_refused = 0, n_of_lists = 0;

    (void)state;
    for (size_t i = 0; i < json_array_size(decoders); i++) {
        const json_t *row = json_array_get(decoders, i);
        const char *names = json_string_value(json_array_get(row, 0));
        const char *crcs = json_string_value(json_array_get(row, 1));
        json_t *json = sequence_of(names);
        struct decoder decoder;
        kvern_error err = {0};
        kvern_status status = decoder_open(&decoder, json, &err);

        json_decref(json);
        for (size_t j = 0; j < COUNT(accepted); j++) {
            n_of_lists += !strcmp(names, accepted[j]);
            if (!strcmp(names, accepted[j]) && status != KVERN_OK)
                fail_msg("%s: %s", names, err.message);
        }
        for (size_t j = 0; j < COUNT(refused); j++) {
            n_of_lists += !strcmp(names, refused[j]);
            if (!strcmp(names, refused[j]) && status != KVERN_UNSUPPORTED)
                fail_msg("%s: status %s", names, kvern_status_name(status));
        }
        n_refused += status != KVERN_OK;
        if (status != KVERN_OK) {
            assert_int_equal(status, KVERN_UNSUPPORTED);
            continue;
        }
        n_accepted++;
        for (size_t j = 0; j < json_array_size(sequences); j++) {
            struct buffer out = decode(&decoder, json_array_get(sequences, j));

            if (golden_crc(out.data ? out.data : "", out.n_bytes) != golden_next_crc(&crcs))
                fail_msg("%s: sequence %zu gives \"%s\", not Python's text", names, j,
                         out.data ? out.data : "");
            buffer_clear(&out);
        }
        decoder_close(&decoder);
    }
    print_message("%zu orders decode as Python does, %zu are refused\n", n_accepted, n_refused);
    assert_int_equal(n_of_lists, COUNT(accepted) + COUNT(refused)); /* each was among them */
}

static void wrong_decoders_are_told(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *says;
    } cases[] = {
        {"{\"type\":\"Magic\"}", KVERN_UNSUPPORTED, "decoder type \"Magic\" is not supported"},
        {"{}", KVERN_UNSUPPORTED, "decoder type \"\" is not supported"},
        {"{\"type\":\"Sequence\"}", KVERN_FORMAT, "decoder Sequence has no list"},
        {"{\"type\":\"Sequence\",\"decoders\":{}}", KVERN_FORMAT, "decoder Sequence has no list"},
        {"{\"type\":\"Replace\"}", KVERN_UNSUPPORTED, "decoder Replace without"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}", KVERN_UNSUPPORTED,
         "decoder Replace without {\"String\": ...}"},
        {"{\"type\":\"Strip\",\"start\":1,\"stop\":0}", KVERN_FORMAT,
         "decoder Strip lacks content"},
        {"{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}", KVERN_FORMAT,
         "decoder Strip lacks content, or start or stop is negative"},
        {"{\"type\":\"Metaspace\"}", KVERN_FORMAT, "decoder Metaspace has no replacement"},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\","
         "\"content\":\" \",\"start\":0,\"stop\":1}]}",
         KVERN_UNSUPPORTED, "Strip of the end"},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteLevel\"}]}",
         KVERN_UNSUPPORTED, "decoder ByteLevel at this place is not supported"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *json = json_loads(cases[i].json, 0, NULL);
        struct decoder decoder;
        kvern_error err = {0};

        assert_non_null(json);
        assert_int_equal(decoder_open(&decoder, json, &err), cases[i].status);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: \"%s\"", cases[i].json, err.message);
        assert_null(decoder.steps);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_is_refused_or_pythons),
        cmocka_unit_test(wrong_decoders_are_told),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
