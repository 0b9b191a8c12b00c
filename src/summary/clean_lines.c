/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines to prose: first characters that are never shown and tokens that are no text go, then each
 * line loses its markup and is kept or dropped.
 */
#include "summary/clean_lines.h"

#include "base/utf8.h"
#include "summary/clean_phrases.h"
#include "summary/plain_text.h"

#include <ctype.h>
#include <string.h>

enum { MAX_ANSWER_BYTES = 16384, MAX_TOKEN_BYTES = 32 }; /* a summary does not begin later */

/* ---- characters ---- */

/* The bytes of a control token written as text at `text`: "<|im_end|>", "</s>"; 0: none. */
static size_t control_token_bytes(const char *text, size_t n_bytes)
{
    static const char *const tokens[] = {"</s>", "<s>", "<pad>", "<unk>", "<eos>", "<bos>"};
    static const char *const openings[] = {"<|", "<extra_id_"};

    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        size_t n = strlen(tokens[i]);

        if (n <= n_bytes && memcmp(text, tokens[i], n) == 0)
            return n;
    }
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        size_t n = strlen(openings[i]);

        if (n > n_bytes || memcmp(text, openings[i], n) != 0)
            continue;
        while (n < n_bytes && n < MAX_TOKEN_BYTES && text[n] > ' ' && text[n] != '>')
            n++;
        if (n < n_bytes && text[n] == '>')
            return n + 1;
    }
    return 0;
}

/* Copies what may be shown; all white space but newlines becomes a space. Thoughts are left out. */
static void add_plain(struct buffer *out, const char *text, size_t n_bytes, bool *is_in_thought)
{
    static const char opening[] = "<think>";
    static const char closing[] = "</think>";

    for (size_t at = 0; at < n_bytes;) {
        uint32_t code_point;
        size_t n_left = n_bytes - at;
        size_t n = control_token_bytes(text + at, n_left);

        if (n == 0 && n_left >= sizeof opening - 1 &&
            memcmp(text + at, opening, sizeof opening - 1) == 0) {
            const char *end = memmem(text + at, n_left, closing, sizeof closing - 1);

            *is_in_thought = !end;
            n = end ? (size_t)(end - (text + at)) + sizeof closing - 1 : n_left;
        }
        if (n > 0) {
            at += n;
            continue;
        }
        n = utf8_decode(text + at, n_left, &code_point);
        at += n > 0 ? n : 1;
        if (code_point == '\n' || code_point == '\r' || code_point == 0x2028 ||
            code_point == 0x2029 || code_point == 0x85)
            buffer_add_byte(out, '\n');
        else if (code_point == '\t' || code_point == 0xa0)
            buffer_add_byte(out, ' ');
        else if (n > 0 && code_point != 0xfffd && plain_text_is_shown(code_point))
            buffer_add_code_point(out, code_point);
    }
}

/* ---- a line ---- */

struct line {
    const char *text; /* [n_bytes] */
    size_t n_bytes;
    bool is_item;
    bool is_heading;
};

static void trim(struct line *line)
{
    while (line->n_bytes > 0 && line->text[0] == ' ')
        line->text++, line->n_bytes--;
    while (line->n_bytes > 0 && line->text[line->n_bytes - 1] == ' ')
        line->n_bytes--;
}

static bool starts_with(const struct line *line, const char *prefix)
{
    size_t n = strlen(prefix);

    return n <= line->n_bytes && memcmp(line->text, prefix, n) == 0;
}

/* The bytes of one mark of a list, quote or heading before the text. */
static size_t mark_bytes(struct line *line)
{
    static const char *const bullets[] = {"- ", "* ", "+ ", "• ", "– "};
    size_t n = 0;

    for (size_t i = 0; i < sizeof bullets / sizeof bullets[0]; i++) {
        if (starts_with(line, bullets[i])) {
            line->is_item = true;
            return strlen(bullets[i]);
        }
    }
    if (starts_with(line, ">"))
        return 1;
    while (n < line->n_bytes && line->text[n] == '#')
        n++;
    if (n > 0 && n <= 6 && n < line->n_bytes && line->text[n] == ' ') {
        line->is_heading = true;
        return n;
    }
    n = 0;
    while (n < line->n_bytes && n < 3 && isdigit((unsigned char)line->text[n]))
        n++;
    if (n > 0 && n + 1 < line->n_bytes && strchr(".)", line->text[n]) && line->text[n + 1] == ' ') {
        line->is_item = true;
        return n + 1;
    }
    return 0;
}

static void strip_marks(struct line *line)
{
    trim(line);
    for (size_t n = mark_bytes(line); n > 0; n = mark_bytes(line)) {
        line->text += n;
        line->n_bytes -= n;
        trim(line);
    }
}

/* Copies without backticks, and without "**" where they come in pairs (else "**kwargs") or the
 * second of the first pair did not come any more. */
static void add_unmarked(struct buffer *out, const struct line *line)
{
    size_t n_stars = 0;
    size_t first = 0;

    for (size_t i = 0; i + 1 < line->n_bytes; i++) {
        if (line->text[i] == '*' && line->text[i + 1] == '*')
            n_stars++, i++;
    }
    if (n_stars % 2 != 0 && starts_with(line, "**"))
        first = 2;
    for (size_t i = first; i < line->n_bytes; i++) {
        if (line->text[i] == '`')
            continue;
        if (n_stars > 0 && n_stars % 2 == 0 && i + 1 < line->n_bytes && line->text[i] == '*' &&
            line->text[i + 1] == '*')
            i++;
        else
            buffer_add_byte(out, line->text[i]);
    }
}

/* "This code of src/a.c returns" to "This code returns": the report says where it is. */
static void drop_path_echo(struct buffer *text)
{
    size_t first;
    size_t n = clean_path_echo(text->data, text->n_bytes, &first);

    if (n == 0)
        return;
    memmove(text->data + first, text->data + first + n, text->n_bytes - first - n);
    buffer_truncate(text, text->n_bytes - n);
}

/* Is it a line of the source, as it stands there? Short ones are in any text. */
static bool is_of_source(const struct line *line, const struct clean_options *options)
{
    const char *at = options->source;
    const char *end = at ? at + options->n_source : NULL;

    if (line->n_bytes < 4)
        return false;
    while (at && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *last = newline ? newline : end;
        struct line other = {.text = at};

        while (other.text < last && isspace((unsigned char)*other.text))
            other.text++;
        while (last > other.text && isspace((unsigned char)last[-1]))
            last--;
        if ((size_t)(last - other.text) == line->n_bytes &&
            memcmp(other.text, line->text, line->n_bytes) == 0)
            return true;
        at = newline ? newline + 1 : end;
    }
    return false;
}

/* A docstring's sentence is in the source and a good summary; "# a note" and "return x" are not. */
static bool is_source_echo(const struct line *raw, const struct line *line,
                           const struct clean_options *options)
{
    bool is_prose = line->text == raw->text && line->n_bytes > 0 &&
                    isupper((unsigned char)line->text[0]) &&
                    strchr(".!?", line->text[line->n_bytes - 1]);

    return !is_prose && is_of_source(raw, options);
}

/* ---- prose ---- */

struct joiner {
    struct clean_prose *prose;
    bool has_gap;    /* a blank line came */
    bool is_in_list; /* behind a ':' */
};

static char last_byte(const struct buffer *text)
{
    return text->n_bytes > 0 ? text->data[text->n_bytes - 1] : '\0';
}

/* Appends a line's text, with what must stand between it and what came before. */
static void join(struct joiner *joiner, const char *text, size_t n_bytes, bool is_item)
{
    struct buffer *out = &joiner->prose->text;
    char last = last_byte(out);
    bool is_new = is_item || joiner->has_gap;

    if (last != '\0' && is_new) {
        if (joiner->is_in_list && is_item) {
            while (last == '.' || last == ';' || last == ',') {
                buffer_truncate(out, out->n_bytes - 1);
                last = last_byte(out);
            }
            buffer_add_byte(out, ';');
        } else if (last == ':' && is_item) {
            joiner->is_in_list = true;
        } else {
            joiner->is_in_list = false;
            if (!strchr(".!?:", last))
                buffer_add_byte(out, '.');
        }
    }
    if (last != '\0')
        buffer_add_byte(out, ' ');
    buffer_add(out, text, n_bytes);
    joiner->has_gap = false;
}

/* Keeps or drops one line that is not blank. `scratch` is for its text without markup. */
static void add_line(struct joiner *joiner, const struct line *raw, bool keeps_all,
                     const struct clean_options *options, struct buffer *scratch)
{
    struct clean_prose *prose = joiner->prose;
    struct line line = *raw;
    size_t n_lead_in;
    bool had_lead_in;

    strip_marks(&line);
    if (is_source_echo(raw, &line, options)) {
        prose->n_code++;
        return;
    }
    buffer_truncate(scratch, 0);
    add_unmarked(scratch, &line);
    if (scratch->has_failed || scratch->n_bytes == 0)
        return;
    drop_path_echo(scratch);
    line.text = scratch->data;
    line.n_bytes = scratch->n_bytes;
    trim(&line);
    if (line.is_heading && !keeps_all) {
        joiner->has_gap = true;
        return;
    }
    if (options->prompt && clean_is_echo(line.text, line.n_bytes, options->prompt)) {
        prose->n_echoes++;
        return;
    }
    n_lead_in = clean_lead_in(line.text, line.n_bytes);
    line.text += n_lead_in;
    line.n_bytes -= n_lead_in;
    had_lead_in = n_lead_in > 0;
    if (line.n_bytes == 0) {
        joiner->has_gap = true;
        return;
    }
    /* items of a list end in ';' too */
    if (clean_is_code(line.text,
                      line.n_bytes - (line.is_item && line.text[line.n_bytes - 1] == ';'))) {
        prose->n_code++;
        return;
    }
    /* what stood behind "Summary:" begins a sentence now, unless its first word is a name */
    if (had_lead_in && islower((unsigned char)line.text[0])) {
        size_t n = strspn(line.text, "abcdefghijklmnopqrstuvwxyz");

        if (line.text[n] == ' ')
            scratch->data[line.text - scratch->data] = (char)toupper((unsigned char)line.text[0]);
    }
    joiner->has_gap |= had_lead_in;
    join(joiner, line.text, line.n_bytes, line.is_item);
}

void clean_lines(const char *answer, size_t n_bytes, const struct clean_options *options,
                 bool keeps_all, struct clean_prose *prose)
{
    struct joiner joiner = {.prose = prose};
    struct buffer plain = {0};
    struct buffer scratch = {0};
    bool is_in_fence = false;

    *prose = (struct clean_prose){.is_empty_answer = true};
    if (n_bytes > MAX_ANSWER_BYTES)
        n_bytes = utf8_complete_bytes(answer, MAX_ANSWER_BYTES);
    add_plain(&plain, answer, n_bytes, &prose->is_in_thought);
    for (size_t at = 0; at < plain.n_bytes;) {
        struct line line = {.text = plain.data + at};

        line.n_bytes = strcspn(line.text, "\n");
        at += line.n_bytes + 1;
        trim(&line);
        if (line.n_bytes == 0) {
            joiner.has_gap = true;
            continue;
        }
        prose->is_empty_answer = false;
        if ((starts_with(&line, "```") || starts_with(&line, "~~~")) &&
            !memmem(line.text + 3, line.n_bytes - 3, "```", 3)) {
            is_in_fence = !is_in_fence;
            joiner.has_gap = true;
        } else if (is_in_fence && (!keeps_all || !clean_is_sentence(line.text, line.n_bytes))) {
            prose->n_code++;
        } else {
            add_line(&joiner, &line, keeps_all, options, &scratch);
        }
    }
    if (plain.has_failed || scratch.has_failed)
        prose->text.has_failed = true;
    buffer_clear(&plain);
    buffer_clear(&scratch);
}
