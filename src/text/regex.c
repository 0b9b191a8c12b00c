/* SPDX-License-Identifier: Apache-2.0
 *
 * PCRE2 in UTF mode with JIT. Compiled code is read-only and shared by threads; match data is not,
 * and lives in a regex_scratch.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PATTERN_BYTES = 1 << 16,
    MATCH_LIMIT = 10 * 1000 * 1000,
    DEPTH_LIMIT = 10 * 1000,
    HEAP_LIMIT_KIB = 16 * 1024,
};

/* Oniguruma's \s has no U+180E and its \w has all marks and connectors; PCRE2's differ. */
static const char *replacement_of(char escaped, bool in_class)
{
    switch (escaped) {
    case 's':
        return in_class ? "\\t-\\r\\x{85}\\p{Z}" : "[\\t-\\r\\x{85}\\p{Z}]";
    case 'S':
        return in_class ? NULL : "[^\\t-\\r\\x{85}\\p{Z}]";
    case 'w':
        return in_class ? "\\p{L}\\p{M}\\p{N}\\p{Pc}" : "[\\p{L}\\p{M}\\p{N}\\p{Pc}]";
    case 'W':
        return in_class ? NULL : "[^\\p{L}\\p{M}\\p{N}\\p{Pc}]";
    case 'h':
        return in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
    case 'H':
        return in_class ? NULL : "[^0-9a-fA-F]";
    default:
        return NULL;
    }
}

static kvern_status translate(const char *pattern, size_t n_bytes, struct buffer *out,
                              kvern_error *err)
{
    bool in_class = false;
    size_t class_begin = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        char c = pattern[i];

        if (c == '\\' && i + 1 < n_bytes) {
            const char *replacement = replacement_of(pattern[++i], in_class);

            if (replacement)
                buffer_add_string(out, replacement);
            else
                buffer_add(out, pattern + i - 1, 2);
            continue;
        }
        if (!in_class && c == '[') {
            in_class = true;
            class_begin = i + 1;
            if (class_begin < n_bytes && pattern[class_begin] == '^')
                class_begin++;
        } else if (in_class && c == ']' && i > class_begin) {
            in_class = false;
        } else if (in_class && i >= class_begin &&
                   (c == '[' || (c == '&' && i + 1 < n_bytes && pattern[i + 1] == '&'))) {
            return fail(err, KVERN_UNSUPPORTED,
                        "regular expression \"%.200s\" has nested or intersected classes", pattern);
        }
        buffer_add_byte(out, c);
    }
    return KVERN_OK;
}

kvern_status regex_open(struct regex *regex, const char *pattern, size_t n_bytes, kvern_error *err)
{
    struct buffer translated = {0};
    pcre2_compile_context *context = NULL;
    kvern_status status;
    int code = 0;
    PCRE2_SIZE where = 0;

    *regex = (struct regex){0};
    if (n_bytes > MAX_PATTERN_BYTES)
        return fail(err, KVERN_LIMIT, "a regular expression has %zu bytes, over the limit of %d",
                    n_bytes, MAX_PATTERN_BYTES);
    status = translate(pattern, n_bytes, &translated, err);
    if (status != KVERN_OK)
        goto done;
    context = pcre2_compile_context_create(NULL);
    if (translated.has_failed || !context) {
        status = fail(err, KVERN_MEMORY, "out of memory compiling a regular expression");
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    regex->code = pcre2_compile(
        (PCRE2_SPTR)(translated.data ? translated.data : ""), translated.n_bytes,
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &where, context);
    if (!regex->code) {
        char reason[128] = "";

        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        status = fail(err, KVERN_FORMAT, "regular expression \"%.200s\" is not valid: %s", pattern,
                      reason);
        goto done;
    }
    /* without JIT on this machine the interpreter does the same work */
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);

done:
    pcre2_compile_context_free(context);
    buffer_clear(&translated);
    return status;
}

kvern_status regex_open_literal(struct regex *regex, const char *text, size_t n_bytes,
                                kvern_error *err)
{
    *regex = (struct regex){0};
    regex->literal = try_new(n_bytes + 1, 1);
    if (!regex->literal)
        return fail(err, KVERN_MEMORY, "out of memory for a pattern of %zu bytes", n_bytes);
    memcpy(regex->literal, text, n_bytes);
    regex->n_literal = n_bytes;
    return KVERN_OK;
}

kvern_status regex_open_json(struct regex *regex, const json_t *json, kvern_error *err)
{
    const json_t *pattern = json_object_get(json, "Regex");
    const json_t *literal = json_object_get(json, "String");

    *regex = (struct regex){0};
    if (json_is_string(pattern))
        return regex_open(regex, json_string_value(pattern), json_string_length(pattern), err);
    if (json_is_string(literal))
        return regex_open_literal(regex, json_string_value(literal), json_string_length(literal),
                                  err);
    return fail(err, KVERN_FORMAT, "a pattern is neither {\"Regex\": ...} nor {\"String\": ...}");
}

void regex_close(struct regex *regex)
{
    if (!regex)
        return;
    pcre2_code_free(regex->code);
    free(regex->literal);
    *regex = (struct regex){0};
}

kvern_status regex_scratch_init(struct regex_scratch *scratch, kvern_error *err)
{
    *scratch = (struct regex_scratch){0};
    scratch->data = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    if (!scratch->data || !scratch->context) {
        regex_scratch_clear(scratch);
        return fail(err, KVERN_MEMORY, "out of memory for matching");
    }
    pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    pcre2_set_depth_limit(scratch->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
    return KVERN_OK;
}

void regex_scratch_clear(struct regex_scratch *scratch)
{
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    *scratch = (struct regex_scratch){0};
}

static bool find_literal(const struct regex *regex, const char *text, size_t n_bytes, size_t from,
                         size_t *begin, size_t *end)
{
    const char *hit;

    if (regex->n_literal == 0)
        return false;
    hit = memmem(text + from, n_bytes - from, regex->literal, regex->n_literal);
    if (!hit)
        return false;
    *begin = (size_t)(hit - text);
    *end = *begin + regex->n_literal;
    return true;
}

kvern_status regex_find(const struct regex *regex, struct regex_scratch *scratch, const char *text,
                        size_t n_bytes, size_t from, bool *found, size_t *begin, size_t *end,
                        kvern_error *err)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)text;

    if (!regex->code) {
        *found = find_literal(regex, text, n_bytes, from, begin, end);
        return KVERN_OK;
    }
    int result = pcre2_match(regex->code, subject, n_bytes, from, PCRE2_NO_UTF_CHECK, scratch->data,
                             scratch->context);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
        result = pcre2_match(regex->code, subject, n_bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             scratch->data, scratch->context);
    *found = result >= 0;
    if (result == PCRE2_ERROR_NOMATCH)
        return KVERN_OK;
    if (result < 0) {
        char reason[128] = "";

        pcre2_get_error_message(result, (PCRE2_UCHAR *)reason, sizeof reason);
        return fail(err, KVERN_LIMIT,
                    "a regular expression of the tokenizer gave up on a text of %zu bytes: %s",
                    n_bytes, reason);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scratch->data);
    *begin = range[0];
    *end = range[1];
    if (*begin < from || *end < *begin || *end > n_bytes) /* \K in odd places */
        return fail(err, KVERN_UNSUPPORTED,
                    "a regular expression of the tokenizer matched backwards");
    return KVERN_OK;
}
