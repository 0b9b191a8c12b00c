/* SPDX-License-Identifier: Apache-2.0
 *
 * Lookups in the table of languages: whole file names win over extensions, and those over "#!".
 */
#include "summary/language.h"

#include "summary/language_table.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const struct language plain = {.name = "Text", .is_prose = true};

/* Calls of next_word() give the words of a list in turn; false at its end. */
static bool next_word(const char **list, const char **word, size_t *n_bytes)
{
    if (!*list || !**list)
        return false;
    *word = *list;
    *n_bytes = strcspn(*list, " ");
    *list += *n_bytes;
    *list += **list == ' ';
    return true;
}

static bool same(const char *a, const char *b, size_t n_bytes, bool ignores_case)
{
    return ignores_case ? strncasecmp(a, b, n_bytes) == 0 : strncmp(a, b, n_bytes) == 0;
}

bool language_lists(const char *list, const char *word, size_t n_bytes, bool ignores_case)
{
    const char *listed;
    size_t n_listed;

    while (next_word(&list, &listed, &n_listed)) {
        if (n_listed == n_bytes && same(listed, word, n_bytes, ignores_case))
            return true;
    }
    return false;
}

static bool lists_file_name(const char *list, const char *name)
{
    const char *listed;
    size_t n_listed;
    size_t n_bytes = strlen(name);

    while (next_word(&list, &listed, &n_listed)) {
        if (listed[n_listed - 1] == '*' ? strncmp(listed, name, n_listed - 1) == 0
                                        : n_listed == n_bytes && !memcmp(listed, name, n_bytes))
            return true;
    }
    return false;
}

const struct language *language_at(size_t i)
{
    return i < n_languages ? &language_table[i] : NULL;
}

const struct language *language_plain(void)
{
    return &plain;
}

static const struct language *find_extension(const char *extension)
{
    size_t n_bytes = strlen(extension);

    for (size_t i = 0; i < n_languages; i++) { /* .R and .r, .C and .c may differ */
        if (language_lists(language_table[i].extensions, extension, n_bytes, false))
            return &language_table[i];
    }
    for (size_t i = 0; i < n_languages; i++) {
        if (language_lists(language_table[i].extensions, extension, n_bytes, true))
            return &language_table[i];
    }
    return NULL;
}

/* The program a "#!" line starts, without its folder and version: env's argument where env is. */
static const struct language *find_interpreter(const char *head, size_t n_bytes)
{
    const char *end = head + n_bytes;
    const char *at = head + 2;
    const char *name = NULL;
    size_t n_name = 0;

    if (n_bytes < 3 || memcmp(head, "#!", 2) != 0)
        return NULL;
    const char *newline = memchr(head, '\n', n_bytes);
    if (newline)
        end = newline;
    while (at < end) {
        while (at < end && isspace((unsigned char)*at))
            at++;
        const char *word = at;
        while (at < end && !isspace((unsigned char)*at))
            at++;
        const char *slash = at > word ? memrchr(word, '/', (size_t)(at - word)) : NULL;

        name = slash ? slash + 1 : word;
        n_name = (size_t)(at - name);
        /* "env -S NAME=value python3": what follows env is options and variables first */
        if (n_name > 0 && !(n_name == 3 && memcmp(name, "env", 3) == 0) && name[0] != '-' &&
            !memchr(name, '=', n_name))
            break;
    }
    while (n_name > 0 && (isdigit((unsigned char)name[n_name - 1]) || name[n_name - 1] == '.'))
        n_name--;
    for (size_t i = 0; n_name > 0 && i < n_languages; i++) {
        if (language_lists(language_table[i].interpreters, name, n_name, false))
            return &language_table[i];
    }
    return NULL;
}

const struct language *language_of(const char *file_name, const char *head, size_t n_head_bytes)
{
    const char *dot = strrchr(file_name, '.');
    bool has_extension = dot && dot != file_name;

    for (size_t i = 0; i < n_languages; i++) {
        if (lists_file_name(language_table[i].file_names, file_name))
            return &language_table[i];
    }
    if (has_extension)
        return find_extension(dot);
    return head ? find_interpreter(head, n_head_bytes) : NULL;
}

const struct language *language_find(const char *name)
{
    if (name[0] == '.')
        return find_extension(name);
    for (size_t i = 0; i < n_languages; i++) {
        if (strcasecmp(language_table[i].name, name) == 0)
            return &language_table[i];
    }
    return NULL;
}
