/* SPDX-License-Identifier: Apache-2.0
 *
 * Which characters of a foreign text may be shown, and copies of it that hold no others: no
 * control, no direction override, nothing that is not UTF-8.
 */
#ifndef KVERN_SUMMARY_PLAIN_TEXT_H
#define KVERN_SUMMARY_PLAIN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false for controls (tab and newline too), zero-width and direction marks, line and paragraph
 * separators, surrogates and noncharacters. */
bool plain_text_is_shown(uint32_t code_point);

/* On one line: runs of white space and controls become one space, ends are trimmed, ill-formed
 * bytes become U+FFFD. malloc'ed; NULL: no memory. */
char *plain_text_line(const char *text);
/* A path: what may not be shown becomes U+FFFD, all else stays. malloc'ed; NULL: no memory. */
char *plain_text_path(const char *path);

#endif
