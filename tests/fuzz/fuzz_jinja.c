/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a chat template, rendered with a small conversation under tight limits: an error or
 * a text whose segments cover it, never a crash, a hang or a leak.
 */
#include "text/jinja.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jinja_template *template = NULL;
    struct jinja_output out = {0};
    struct jinja_input input = {
        .limits = {.max_steps = 20000, .max_memory_bytes = 4 << 20, .max_output_bytes = 1 << 20},
        .now = 1};
    kvern_error err;

    if (jinja_template_parse(&template, (const char *)data, size, &err))
        return 0;
    input.trusted = json_pack("{s:s, s:s, s:b}", "bos_token", "<s>", "eos_token", "</s>",
                              "add_generation_prompt", 1);
    input.untrusted = json_pack("{s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}], s:n, s:[i, f, s]}",
                                "messages", "role", "system", "content", "be", "role", "user",
                                "content", " h\xc3\xa9<|im_end|>\n{{ x }} ", "role", "assistant",
                                "content", "<think>a</think>b", "tools", "l", 3, 2.5, "x");
    if (!jinja_render(template, &input, &out, &err)) {
        size_t at = 0;

        for (size_t i = 0; i < out.n_segments; i++) {
            if (out.segments[i].begin != at || out.segments[i].n_bytes == 0)
                abort();
            at += out.segments[i].n_bytes;
        }
        if (at != out.n_bytes || out.text[at] != '\0')
            abort();
    }
    jinja_output_clear(&out);
    json_decref(input.trusted);
    json_decref(input.untrusted);
    jinja_template_free(template);
    return 0;
}
