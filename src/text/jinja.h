/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat templates: the part of Jinja that Hugging Face models use, rendered byte for byte as
 * transformers' environment does (trim_blocks, lstrip_blocks, loop controls, generation blocks,
 * tojson without HTML escapes, sandboxed).
 *
 * Templates come from model files and variables from users; both are untrusted. A render does no
 * I/O, and its steps, memory, output and nesting are bounded. Every output byte knows whether it
 * came from the template's side or from an untrusted variable, so that a tokenizer can refuse to
 * read control tokens in what a user wrote.
 */
#ifndef KVERN_TEXT_JINJA_H
#define KVERN_TEXT_JINJA_H

#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_template; /* parsed, immutable: many threads may render it */

/* A field of 0 means its default. */
struct jinja_limits {
    int64_t max_steps;       /* work units: a node evaluated, an item visited; 20,000,000 */
    size_t max_memory_bytes; /* all values of one render; 256 MiB */
    size_t max_output_bytes; /* 32 MiB */
    int max_depth;           /* nested expressions, blocks and macro calls; 400 */
};

/* What a render reads. Both objects may be NULL and must outlive the call. */
struct jinja_input {
    json_t *trusted;   /* object: names whose strings may hold control tokens (bos_token, ...) */
    json_t *untrusted; /* object: names whose strings come from users (messages, tools, ...) */
    struct jinja_limits limits;
    int64_t now; /* what strftime_now() shows, seconds since 1970 in local time; 0: the clock */
};

/* A run of output bytes of one origin; neighbours differ in is_trusted. */
struct jinja_segment {
    size_t begin;
    size_t n_bytes;
    bool is_trusted; /* from template text, literals and trusted variables only */
};

struct jinja_output {
    char *text; /* UTF-8 [n_bytes], NUL-terminated */
    size_t n_bytes;
    struct jinja_segment *segments; /* [n_segments], in order, covering text; none if it is empty */
    size_t n_segments;
};

/* Parses `text` (copied). KVERN_FORMAT with "chat template line 3: ..." for what is not Jinja,
 * KVERN_UNSUPPORTED for a statement of Jinja that chat templates do not use. */
kvern_status jinja_template_parse(struct jinja_template **out, const char *text, size_t n_bytes,
                                  kvern_error *err);
void jinja_template_free(struct jinja_template *template);

/* Fills `out` (cleared by jinja_output_clear) or fails: KVERN_INVALID for what the template refuses
 * by raise_exception or cannot do with these variables, KVERN_LIMIT for a limit. */
kvern_status jinja_render(const struct jinja_template *template, const struct jinja_input *input,
                          struct jinja_output *out, kvern_error *err);
void jinja_output_clear(struct jinja_output *output);

#endif
