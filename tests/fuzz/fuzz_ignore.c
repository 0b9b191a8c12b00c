/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as the text of a .gitignore, up to a NUL, and any bytes after it as a path: read and
 * asked, as a file and as a folder, alone and below another folder's rules; twice with one answer.
 */
#include "summary/ignore.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *rules_text = (const char *)data;
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    size_t n_rules = nul ? (size_t)(nul - data) : size / 2;
    const char *path = rules_text + n_rules + (nul != NULL);
    size_t n_path = size - n_rules - (nul != NULL);
    struct ignore_level level = {0};
    struct ignore_level inner = {.n_folder_bytes = n_path / 2, .is_fence = n_path % 2};
    struct ignore_stack stack = {0};

    if (n_path > 8192)
        n_path = 8192;
    if (ignore_rules_add(&level.rules, rules_text, n_rules, NULL) ||
        ignore_rules_add(&inner.rules, rules_text, n_rules / 2, NULL))
        abort();
    enum ignore_verdict as_file = ignore_rules_match(&level.rules, path, n_path, false);
    if (as_file != ignore_rules_match(&level.rules, path, n_path, false))
        abort();
    if (as_file == IGNORE_EXCLUDED && !ignore_rules_cover(&level.rules, path, n_path))
        abort();
    if (ignore_stack_push(&stack, &level, NULL) || ignore_stack_push(&stack, &inner, NULL))
        abort();
    ignore_stack_excludes(&stack, path, n_path, true);
    ignore_stack_pop(&stack);
    if (ignore_stack_excludes(&stack, path, n_path, false) != (as_file == IGNORE_EXCLUDED))
        abort();
    ignore_stack_clear(&stack);
    return 0;
}
