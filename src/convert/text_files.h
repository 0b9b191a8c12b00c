/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts that lie beside a Hugging Face model, whatever its weights are: tokenizer and chat
 * template.
 */
#ifndef KVERN_CONVERT_TEXT_FILES_H
#define KVERN_CONVERT_TEXT_FILES_H

#include "kvern.h"

#include <stddef.h>

/* Reads DIRECTORY/name, which need not be there: *text stays as it is then. malloc'ed, with a NUL
 * after it. */
kvern_status text_file_read_optional(const char *directory, const char *name, size_t max_bytes,
                                     char **text, kvern_error *err);
/* tokenizer.json (or what tokenizer_files.h makes of older files), and the template of
 * chat_template.jinja or else of tokenizer_config.json; malloc'ed, and left as they are (NULL)
 * where there is none. */
kvern_status text_files_read(const char *directory, char **tokenizer_json, char **chat_template,
                             kvern_error *err);

#endif
