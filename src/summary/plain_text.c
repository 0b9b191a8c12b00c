/* SPDX-License-Identifier: Apache-2.0
 *
 * One table of what is never shown. Pure.
 */
#include "summary/plain_text.h"

#include "base/buffer.h"
#include "base/utf8.h"

#include <string.h>

static const struct {
    uint32_t first, last;
} hidden[] = {
    {0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},     {0x180e, 0x180e},
    {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xd800, 0xdfff},   {0xfdd0, 0xfdef},
    {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff},
};

bool plain_text_is_shown(uint32_t code_point)
{
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        if (code_point >= hidden[i].first && code_point <= hidden[i].last)
            return false;
    }
    return code_point <= 0x10ffff;
}

static bool is_space(uint32_t code_point)
{
    return code_point <= 0x20 || code_point == 0x7f || code_point == 0x85 || code_point == 0xa0 ||
           code_point == 0x2028 || code_point == 0x2029;
}

char *plain_text_line(const char *text)
{
    size_t n_bytes = strlen(text);
    struct buffer out = {0};
    bool has_space = false;

    for (size_t at = 0; at < n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(text + at, n_bytes - at, &code_point);

        at += n > 0 ? n : 1;
        if (is_space(code_point)) {
            has_space = out.n_bytes > 0;
        } else if (plain_text_is_shown(code_point)) {
            if (has_space)
                buffer_add_byte(&out, ' ');
            has_space = false;
            buffer_add_code_point(&out, code_point);
        }
    }
    return buffer_take(&out, NULL);
}

char *plain_text_path(const char *path)
{
    size_t n_bytes = strlen(path);
    struct buffer out = {0};

    for (size_t at = 0; at < n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(path + at, n_bytes - at, &code_point);

        at += n > 0 ? n : 1;
        buffer_add_code_point(&out, plain_text_is_shown(code_point) ? code_point : 0xfffd);
    }
    return buffer_take(&out, NULL);
}
