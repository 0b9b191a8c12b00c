/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the "pre_tokenizer" of a tokenizer.json into steps. Strict: what cannot be run exactly is
 * refused by its name.
 */
#include "text/pretokenize.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/json_member.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 64, MAX_NESTING = 8 };

/* GPT-2's own pattern, from its published encoder. */
static const char byte_level_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
                                         " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* Whitespace: runs of word characters and runs of the rest. \w of Rust's regex, spelled out. */
#define RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"
static const char whitespace_pattern[] = "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+";

static kvern_status read_behavior(const json_t *json, enum split_behavior otherwise,
                                  enum split_behavior *behavior, kvern_error *err)
{
    static const char *const names[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = json_member_string(json, "behavior");

    *behavior = otherwise;
    if (!name)
        return KVERN_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!strcmp(name, names[i])) {
            *behavior = (enum split_behavior)i;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_FORMAT, "split behavior \"%.80s\" is not known", name);
}

static kvern_status read_byte_level(struct pretokenize_step *step, const json_t *json,
                                    kvern_error *err)
{
    step->prepend =
        json_member_bool(json, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    step->splits = json_member_bool(json, "use_regex", true);
    if (!step->splits)
        return KVERN_OK;
    return regex_open(&step->pattern, byte_level_pattern, sizeof byte_level_pattern - 1, err);
}

static kvern_status read_split(struct pretokenize_step *step, const json_t *json, kvern_error *err)
{
    kvern_status status = read_behavior(json, SPLIT_ISOLATED, &step->behavior, err);

    step->is_inverted = json_member_bool(json, "invert", false);
    if (status == KVERN_OK)
        status = regex_open_json(&step->pattern, json_object_get(json, "pattern"), err);
    return status;
}

static kvern_status read_whitespace(struct pretokenize_step *step, const json_t *json,
                                    kvern_error *err)
{
    (void)json;
    step->behavior = SPLIT_REMOVED;
    step->is_inverted = true;
    return regex_open(&step->pattern, whitespace_pattern, sizeof whitespace_pattern - 1, err);
}

static kvern_status read_whitespace_split(struct pretokenize_step *step, const json_t *json,
                                          kvern_error *err)
{
    (void)json;
    (void)err;
    step->behavior = SPLIT_REMOVED;
    return KVERN_OK;
}

static kvern_status read_digits(struct pretokenize_step *step, const json_t *json, kvern_error *err)
{
    (void)err;
    step->behavior =
        json_member_bool(json, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return KVERN_OK;
}

static kvern_status read_punctuation(struct pretokenize_step *step, const json_t *json,
                                     kvern_error *err)
{
    return read_behavior(json, SPLIT_ISOLATED, &step->behavior, err);
}

static kvern_status read_metaspace(struct pretokenize_step *step, const json_t *json,
                                   kvern_error *err)
{
    const char *replacement = json_member_string(json, "replacement");
    const char *scheme = json_member_string(json, "prepend_scheme");

    if (!scheme)
        scheme = json_member_bool(json, "add_prefix_space", true) ? "always" : "never";
    if (!strcmp(scheme, "always"))
        step->prepend = PREPEND_ALWAYS;
    else if (!strcmp(scheme, "first"))
        step->prepend = PREPEND_FIRST;
    else if (!strcmp(scheme, "never"))
        step->prepend = PREPEND_NEVER;
    else
        return fail(err, KVERN_FORMAT, "Metaspace prepend_scheme \"%.80s\" is not known", scheme);
    if (!replacement || !*replacement)
        return fail(err, KVERN_FORMAT, "Metaspace has no replacement");
    step->splits = json_member_bool(json, "split", true);
    step->behavior = SPLIT_MERGED_WITH_NEXT;
    step->replacement = copy_string_or_abort(replacement);
    return regex_open_literal(&step->pattern, replacement, strlen(replacement), err);
}

static kvern_status read_bert(struct pretokenize_step *step, const json_t *json, kvern_error *err)
{
    (void)step; /* it has no options */
    (void)json;
    (void)err;
    return KVERN_OK;
}

/* To add a step: a row here, and its case in pretokenize.c. */
static const struct {
    const char *type;
    enum pretokenize_kind kind;
    kvern_status (*read)(struct pretokenize_step *, const json_t *, kvern_error *);
} kinds[] = {
    {"ByteLevel", PRETOKENIZE_BYTE_LEVEL, read_byte_level},
    {"Split", PRETOKENIZE_SPLIT, read_split},
    {"Whitespace", PRETOKENIZE_SPLIT, read_whitespace},
    {"WhitespaceSplit", PRETOKENIZE_WHITESPACE_SPLIT, read_whitespace_split},
    {"Digits", PRETOKENIZE_DIGITS, read_digits},
    {"Punctuation", PRETOKENIZE_PUNCTUATION, read_punctuation},
    {"Metaspace", PRETOKENIZE_METASPACE, read_metaspace},
    {"BertPreTokenizer", PRETOKENIZE_BERT, read_bert},
};

static kvern_status add_step(struct pretokenizer *pretokenizer, const json_t *json, int depth,
                             kvern_error *err);

static kvern_status add_sequence(struct pretokenizer *pretokenizer, const json_t *json, int depth,
                                 kvern_error *err)
{
    const json_t *list = json_object_get(json, "pretokenizers");
    kvern_status status = KVERN_OK;

    if (!json_is_array(list) || depth >= MAX_NESTING)
        return fail(
            err, KVERN_FORMAT,
            "pre_tokenizer Sequence has no list \"pretokenizers\" or is nested over %d deep",
            MAX_NESTING);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
        status = add_step(pretokenizer, json_array_get(list, i), depth + 1, err);
    return status;
}

static kvern_status add_step(struct pretokenizer *pretokenizer, const json_t *json, int depth,
                             kvern_error *err)
{
    const char *type = json_member_type(json);

    if (!strcmp(type, "Sequence"))
        return add_sequence(pretokenizer, json, depth, err);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        if (pretokenizer->n_steps == MAX_STEPS)
            return fail(err, KVERN_LIMIT, "the pre_tokenizer has over %d steps", MAX_STEPS);
        if (pretokenizer->is_byte_level)
            return fail(err, KVERN_UNSUPPORTED, "pre_tokenizer %s after ByteLevel is not supported",
                        type);
        struct pretokenize_step *step = &pretokenizer->steps[pretokenizer->n_steps++];
        step->kind = kinds[i].kind;
        pretokenizer->is_byte_level = step->kind == PRETOKENIZE_BYTE_LEVEL;
        return kinds[i].read(step, json, err);
    }
    return fail(err, KVERN_UNSUPPORTED, "pre_tokenizer type \"%.80s\" is not supported", type);
}

kvern_status pretokenizer_open(struct pretokenizer *pretokenizer, const json_t *json,
                               kvern_error *err)
{
    kvern_status status;

    *pretokenizer = (struct pretokenizer){0};
    if (!json || json_is_null(json))
        return KVERN_OK;
    pretokenizer->steps = new_or_abort(MAX_STEPS * sizeof *pretokenizer->steps);
    status = add_step(pretokenizer, json, 0, err);
    if (status != KVERN_OK)
        pretokenizer_close(pretokenizer);
    return status;
}

void pretokenizer_close(struct pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (size_t i = 0; i < pretokenizer->n_steps; i++) {
        regex_close(&pretokenizer->steps[i].pattern);
        free(pretokenizer->steps[i].replacement);
    }
    free(pretokenizer->steps);
    *pretokenizer = (struct pretokenizer){0};
}
