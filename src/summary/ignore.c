/* SPDX-License-Identifier: Apache-2.0
 *
 * struct ignore_rules and struct ignore_stack: lines become patterns in the order they stand, and
 * are asked from the last to the first. Where git does other than its documentation says, git's way
 * is taken (a test asks it).
 */
#include "summary/ignore.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* The length of a line without the spaces at its end; a backslash keeps the one after it. */
static size_t trimmed_bytes(const char *line, size_t n_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        if (line[i] == '\\') {
            if (++i == n_bytes)
                return n_bytes;
            n = i + 1;
        } else if (line[i] != ' ') {
            n = i + 1;
        }
    }
    return n;
}

kvern_status ignore_rules_add_pattern(struct ignore_rules *rules, const char *pattern,
                                      size_t n_bytes, kvern_error *err)
{
    struct ignore_pattern added = {0};

    if (rules->n_patterns == rules->capacity) {
        size_t capacity = rules->capacity ? rules->capacity * 2 : 16;
        struct ignore_pattern *patterns = try_resize(rules->patterns, capacity, sizeof *patterns);

        if (!patterns)
            return fail(err, KVERN_MEMORY, "no memory for %zu ignore patterns", capacity);
        rules->patterns = patterns;
        rules->capacity = capacity;
    }
    if (n_bytes > 0 && pattern[0] == '!') {
        added.is_negated = true;
        pattern++;
        n_bytes--;
    }
    if (n_bytes > 0 && pattern[n_bytes - 1] == '/') {
        added.is_for_folders = true;
        n_bytes--;
    }
    added.is_path = n_bytes > 0 && memchr(pattern, '/', n_bytes);
    if (added.is_path && pattern[0] == '/') {
        pattern++;
        n_bytes--;
    }
    if (n_bytes == 0) /* "/", "!": matches nothing */
        return KVERN_OK;
    if (!glob_compile(&added.glob, pattern, n_bytes, added.is_path))
        return fail(err, KVERN_MEMORY, "no memory for an ignore pattern of %zu bytes", n_bytes);
    rules->patterns[rules->n_patterns++] = added;
    return KVERN_OK;
}

kvern_status ignore_rules_add(struct ignore_rules *rules, const char *text, size_t n_bytes,
                              kvern_error *err)
{
    const char *end = text + n_bytes;
    kvern_status status = KVERN_OK;

    if (n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    while (status == KVERN_OK && text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;
        size_t n = (size_t)(line_end - text);

        if (newline && n > 0 && text[n - 1] == '\r')
            n--;
        n = strnlen(text, n); /* git reads a line as a C string */
        if (n > 0 && text[0] != '#')
            status = ignore_rules_add_pattern(rules, text, trimmed_bytes(text, n), err);
        text = newline ? newline + 1 : end;
    }
    return status;
}

enum ignore_verdict ignore_rules_match(const struct ignore_rules *rules, const char *path,
                                       size_t n_bytes, bool is_folder)
{
    const char *slash = n_bytes ? memrchr(path, '/', n_bytes) : NULL;
    const char *name = slash ? slash + 1 : path;
    size_t n_name_bytes = n_bytes - (size_t)(name - path);

    for (size_t i = rules->n_patterns; i > 0; i--) {
        const struct ignore_pattern *pattern = &rules->patterns[i - 1];

        if (pattern->is_for_folders && !is_folder)
            continue;
        if (pattern->is_path ? glob_matches(&pattern->glob, path, n_bytes)
                             : glob_matches(&pattern->glob, name, n_name_bytes))
            return pattern->is_negated ? IGNORE_INCLUDED : IGNORE_EXCLUDED;
    }
    return IGNORE_UNDECIDED;
}

bool ignore_rules_cover(const struct ignore_rules *rules, const char *path, size_t n_bytes)
{
    for (size_t i = 1; i < n_bytes; i++) {
        if (path[i] == '/' && ignore_rules_match(rules, path, i, true) == IGNORE_EXCLUDED)
            return true;
    }
    return ignore_rules_match(rules, path, n_bytes, false) == IGNORE_EXCLUDED;
}

void ignore_rules_clear(struct ignore_rules *rules)
{
    for (size_t i = 0; i < rules->n_patterns; i++)
        glob_clear(&rules->patterns[i].glob);
    free(rules->patterns);
    *rules = (struct ignore_rules){0};
}

kvern_status ignore_stack_push(struct ignore_stack *stack, const struct ignore_level *level,
                               kvern_error *err)
{
    if (stack->n_levels == stack->capacity) {
        size_t capacity = stack->capacity ? stack->capacity * 2 : 16;
        struct ignore_level *levels = try_resize(stack->levels, capacity, sizeof *levels);

        if (!levels)
            return fail(err, KVERN_MEMORY, "no memory for the ignore rules of %zu folders",
                        capacity);
        stack->levels = levels;
        stack->capacity = capacity;
    }
    stack->levels[stack->n_levels++] = *level;
    return KVERN_OK;
}

void ignore_stack_pop(struct ignore_stack *stack)
{
    ignore_rules_clear(&stack->levels[--stack->n_levels].rules);
}

bool ignore_stack_excludes(const struct ignore_stack *stack, const char *path, size_t n_bytes,
                           bool is_folder)
{
    for (size_t i = stack->n_levels; i > 0; i--) {
        const struct ignore_level *level = &stack->levels[i - 1];
        enum ignore_verdict verdict =
            ignore_rules_match(&level->rules, path + level->n_folder_bytes,
                               n_bytes - level->n_folder_bytes, is_folder);

        if (verdict != IGNORE_UNDECIDED)
            return verdict == IGNORE_EXCLUDED;
        if (level->is_fence)
            break;
    }
    return false;
}

void ignore_stack_clear(struct ignore_stack *stack)
{
    while (stack->n_levels > 0)
        ignore_stack_pop(stack);
    free(stack->levels);
    *stack = (struct ignore_stack){0};
}
