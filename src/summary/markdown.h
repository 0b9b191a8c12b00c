/* SPDX-License-Identifier: Apache-2.0
 *
 * Foreign text inside Markdown (CommonMark with GitHub's tables): whatever it holds, it stays text.
 */
#ifndef KVERN_SUMMARY_MARKDOWN_H
#define KVERN_SUMMARY_MARKDOWN_H

#include "base/buffer.h"

#include <stdbool.h>

/* One line of text, for any place a paragraph's text may stand, the beginning of a line and a
 * table's cell included. */
void markdown_text(struct buffer *out, const char *line);
/* One line as a code span. In a table's cell '|' must be escaped even there. */
void markdown_code(struct buffer *out, const char *line, bool is_in_table);

#endif
