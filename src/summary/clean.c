/* SPDX-License-Identifier: Apache-2.0
 *
 * The second half of cleaning: prose becomes sentences, of which the first good ones are kept. A
 * sentence ends at '.', '!' or '?' before a space, but for abbreviations.
 */
#include "summary/clean.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "summary/clean_half.h"
#include "summary/clean_lines.h"
#include "summary/clean_phrases.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_WORDS = 1024, MAX_PERIOD = 16, MIN_REPEATS = 3, MIN_BYTES = 16 };

const char CLEAN_ENDED_EARLY[] = "the answer ended in the middle of a sentence";
const char CLEAN_TOO_LONG[] = "its sentence was too long";

static const char *const stop_strings[] = {
    "<|im_end|>", "<|endoftext|>", "\nUser:",      "\nHuman:", "\nQuestion:",
    "\nQ:",       "\nCode:",       "\nInput:",     "\n### ",   "\n\nSummary:",
    "\n\nNote:",  "\n\nExample",   "\nAssistant:",
};

const char *const *clean_stop_strings(size_t *n)
{
    *n = sizeof stop_strings / sizeof stop_strings[0];
    return stop_strings;
}

void clean_clear(struct cleaned *cleaned)
{
    if (!cleaned)
        return;
    free(cleaned->summary);
    *cleaned = (struct cleaned){0};
}

/* ---- repetition inside a sentence ---- */

struct word {
    size_t at;
    size_t n_bytes; /* without the commas behind it */
    size_t end;
};

static bool is_same_word(const char *text, const struct word *a, const struct word *b)
{
    return a->n_bytes == b->n_bytes && strncasecmp(text + a->at, text + b->at, a->n_bytes) == 0;
}

static size_t split_words(const char *text, size_t n_bytes, struct word *words)
{
    size_t n = 0;

    for (size_t at = 0; at < n_bytes && n < MAX_WORDS;) {
        struct word *word = &words[n];

        while (at < n_bytes && text[at] == ' ')
            at++;
        word->at = at;
        while (at < n_bytes && text[at] != ' ')
            at++;
        word->end = at;
        word->n_bytes = at - word->at;
        while (word->n_bytes > 1 && strchr(".,;", text[word->at + word->n_bytes - 1]))
            word->n_bytes--;
        n += word->n_bytes > 0;
    }
    return n;
}

/* How many words from `first` on repeat words[first, first + period) at least MIN_REPEATS times; 0:
 * none. The beginning of one more repeat counts where a half sentence ends in it. */
static size_t count_repeated(const char *text, const struct word *words, size_t n, size_t first,
                             size_t period, bool is_whole)
{
    size_t n_same = 0;

    while (first + period + n_same < n &&
           is_same_word(text, &words[first + n_same], &words[first + period + n_same]))
        n_same++;
    if (1 + n_same / period < MIN_REPEATS)
        return 0;
    return !is_whole && first + period + n_same == n ? n - first
                                                     : period + n_same / period * period;
}

/* "a b, a b, a b, c" to "a b, c": what a model in a loop writes. The shortest period counts. Words
 * that stay are moved to the front; returns the bytes left. */
static size_t drop_repeats(char *text, size_t n_bytes, bool is_whole)
{
    static const size_t n_word_bytes = sizeof(struct word) * MAX_WORDS;
    struct word *words = new_or_abort(n_word_bytes);
    size_t n = split_words(text, n_bytes, words);
    size_t n_out = 0;

    for (size_t i = 0; i < n;) {
        size_t n_next = 1; /* words to go on by */
        size_t n_kept = 1;

        for (size_t period = 1; period <= MAX_PERIOD && i + period < n; period++) {
            size_t n_repeated = count_repeated(text, words, n, i, period, is_whole);

            if (n_repeated > 0) {
                n_next = n_repeated;
                n_kept = period;
                break;
            }
        }
        /* the last whole repeat says how it went on: with a comma or a full stop */
        for (size_t j = 0; j < n_kept; j++) {
            size_t n_before = j + 1 == n_kept ? n_next / n_kept * n_kept - n_kept : 0;
            const struct word *word = &words[i + j + n_before];
            size_t n_word = word->end - word->at;

            if (n_out > 0)
                text[n_out++] = ' ';
            memmove(text + n_out, text + word->at, n_word);
            n_out += n_word;
        }
        i += n_next;
    }
    free(words);
    return n_out;
}

/* ---- sentences ---- */

static bool is_ender(char c)
{
    return c == '.' || c == '!' || c == '?';
}

/* The bytes of a full stop of Chinese or Japanese at `text`, which needs no space behind it. */
static size_t wide_ender_bytes(const char *text, size_t n_bytes)
{
    static const char *const enders[] = {"\u3002", "\uff01", "\uff1f"};

    for (size_t i = 0; i < sizeof enders / sizeof enders[0]; i++) {
        if (n_bytes >= 3 && memcmp(text, enders[i], 3) == 0)
            return 3;
    }
    return 0;
}

/* Does the '.' at text[at], which a space follows, end a word that goes on: "e.g.", "J.", "etc.
 * and"? */
static bool is_abbreviation(const char *text, size_t at)
{
    static const char *const words[] = {"e.g", "i.e", "vs", "cf", "fig",  "no",
                                        "dr",  "mr",  "ms", "eq", "incl", "approx"};
    size_t first = at;

    while (first > 0 && text[first - 1] != ' ' && text[first - 1] != '(')
        first--;
    if (at == first + 1 && isupper((unsigned char)text[first]))
        return true;
    if (at == first + 3 && strncasecmp(text + first, "etc", 3) == 0)
        return islower((unsigned char)text[at + 2]);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == at - first && strncasecmp(text + first, words[i], at - first) == 0)
            return true;
    }
    return false;
}

/* The bytes of the first sentence; *is_whole: it has its end. */
static size_t sentence_bytes(const char *text, size_t n_bytes, bool *is_whole)
{
    *is_whole = true;
    for (size_t i = 0; i < n_bytes; i++) {
        size_t n = wide_ender_bytes(text + i, n_bytes - i);
        size_t end = i + 1;

        if (n > 0)
            return i + n;
        if (!is_ender(text[i]))
            continue;
        while (end < n_bytes && (is_ender(text[end]) || strchr("\"')]", text[end])))
            end++;
        if (end == n_bytes)
            return end;
        if (text[end] == ' ' && !(text[i] == '.' && end == i + 1 && is_abbreviation(text, i)))
            return end;
    }
    *is_whole = false;
    return n_bytes;
}

/* Spaces before '.' and ',' go (models of code write their tokens apart), quotes around all, and
 * what cannot begin a sentence. */
static size_t tidy(char *text, size_t n_bytes)
{
    size_t n = 0;
    size_t first = 0;

    while (first < n_bytes && strchr(" .,;:!?)]}-", text[first]))
        first++;
    if (n_bytes - first >= 2 && text[first] == '"' && text[n_bytes - 1] == '"' &&
        !memchr(text + first + 1, '"', n_bytes - first - 2)) {
        first++;
        n_bytes--;
    }
    for (size_t i = first; i < n_bytes; i++) {
        bool is_last = i + 2 == n_bytes || (i + 2 < n_bytes && text[i + 2] == ' ');
        bool is_space = text[i] == ' ' && i + 1 < n_bytes &&
                        (text[i + 1] == ' ' || (strchr(".,;:!?", text[i + 1]) && is_last));

        if (!is_space)
            text[n++] = text[i];
    }
    return n;
}

/* Two letters in a row somewhere; bytes of other scripts are letters. */
static bool has_word(const char *text, size_t n_bytes)
{
    size_t n_letters = 0;

    for (size_t i = 0; i < n_bytes && n_letters < 2; i++) {
        unsigned char c = (unsigned char)text[i];

        n_letters = isalpha(c) || c >= 0x80 ? n_letters + 1 : 0;
    }
    return n_letters >= 2;
}

/* ---- choosing ---- */

struct choice {
    const struct clean_options *options;
    size_t max_sentences;
    size_t max_bytes;
    struct buffer summary;
    size_t n_sentences;
    size_t n_refusals;
    const char *reason; /* why the summary ends in "..." */
};

/* Is it in the summary already? */
static bool is_repeated(const struct choice *choice, const char *text, size_t n_bytes)
{
    for (size_t at = 0; at < choice->summary.n_bytes;) {
        const char *other = choice->summary.data + at;
        bool is_whole;
        size_t n = sentence_bytes(other, choice->summary.n_bytes - at, &is_whole);

        if (clean_is_same(other, n, text, n_bytes))
            return true;
        at += n;
    }
    return false;
}

static void cut_at_word(struct buffer *summary, size_t max_bytes)
{
    size_t n = max_bytes;

    while (n > 0 && summary->data[n] != ' ')
        n--;
    if (n == 0) /* one long word */
        n = utf8_complete_bytes(summary->data, max_bytes);
    buffer_truncate(summary, n);
}

/* A half sentence that is all there is: back to the end of its last whole list item or clause, as
 * far as there is room, else "...". */
static void end_half(struct choice *choice, const char *reason)
{
    struct buffer *summary = &choice->summary;
    size_t max_bytes = choice->max_bytes;
    size_t n_taken = summary->n_bytes < max_bytes ? summary->n_bytes : max_bytes - 1;
    const char *colon = memchr(summary->data, ':', n_taken);
    const char *item = memrchr(summary->data, ';', n_taken);
    size_t n_whole = colon && item && item > colon ? (size_t)(item - summary->data)
                                                   : clean_whole_bytes(summary->data, n_taken);

    if (n_whole > 0) {
        buffer_truncate(summary, n_whole);
        buffer_add_byte(summary, '.');
        return;
    }
    if (summary->n_bytes + 3 > max_bytes)
        cut_at_word(summary, max_bytes - 3);
    /* what makes no good end goes: "such as (", "and," */
    while (summary->n_bytes > 0 && strchr(" ,;:([-.", summary->data[summary->n_bytes - 1]))
        buffer_truncate(summary, summary->n_bytes - 1);
    buffer_add_string(summary, "...");
    choice->reason = reason;
}

/* Takes one sentence if it is good. */
static void take(struct choice *choice, const char *text, size_t n_bytes, bool is_whole)
{
    const struct clean_options *options = choice->options;
    struct buffer *summary = &choice->summary;
    size_t n_before = summary->n_bytes;

    if (clean_is_refusal(text, n_bytes)) {
        choice->n_refusals++;
        return;
    }
    if (!has_word(text, n_bytes) || clean_is_filler(text, n_bytes) ||
        clean_lead_in(text, n_bytes) == n_bytes || is_repeated(choice, text, n_bytes) ||
        (options->prompt && clean_is_echo(text, n_bytes, options->prompt)))
        return;
    if (!is_whole && !options->is_finished && choice->n_sentences > 0)
        return;
    if (n_before > 0 && n_before + 1 + n_bytes + 1 > choice->max_bytes)
        return;
    if (n_before > 0)
        buffer_add_byte(summary, ' ');
    buffer_add(summary, text, n_bytes);
    choice->n_sentences++;
    if (summary->has_failed)
        return;
    if (n_bytes + (is_whole ? 0 : 3) > choice->max_bytes) {
        end_half(choice, CLEAN_TOO_LONG);
    } else if (!is_whole && options->is_finished) {
        while (summary->n_bytes > 0 && strchr(" ,;:-", summary->data[summary->n_bytes - 1]))
            buffer_truncate(summary, summary->n_bytes - 1);
        buffer_add_byte(summary, '.');
    } else if (!is_whole) {
        end_half(choice, CLEAN_ENDED_EARLY);
    }
}

static void choose(struct choice *choice, char *text, size_t n_bytes)
{
    while (n_bytes > 0 && choice->n_sentences < choice->max_sentences) {
        bool is_whole;
        size_t n = sentence_bytes(text, n_bytes, &is_whole);
        size_t n_tidy = drop_repeats(text, n, is_whole);

        n_tidy = tidy(text, n_tidy);
        if (n_tidy > 0)
            take(choice, text, n_tidy, is_whole);
        text += n;
        n_bytes -= n;
    }
}

static const char *reason_of_nothing(const struct clean_prose *prose, const struct choice *choice)
{
    if (prose->is_in_thought)
        return "the answer ended inside the model's thoughts";
    if (prose->is_empty_answer)
        return "the answer is empty";
    if (choice->n_refusals > 0)
        return "the model refused or asked back";
    if (prose->n_echoes > 0)
        return "the answer only repeats the prompt";
    if (prose->n_code > 0)
        return "the answer is only code";
    return "the answer says nothing";
}

kvern_status clean_summary(const char *answer, size_t n_bytes, const struct clean_options *options,
                           struct cleaned *cleaned, kvern_error *err)
{
    struct choice choice = {
        .options = options,
        .max_sentences = options->max_sentences > 0 ? options->max_sentences : CLEAN_MAX_SENTENCES,
        .max_bytes = options->max_bytes > 0 ? options->max_bytes : CLEAN_MAX_BYTES,
    };
    struct clean_prose prose = {0};
    bool has_failed = false;

    *cleaned = (struct cleaned){0};
    if (choice.max_bytes < MIN_BYTES)
        choice.max_bytes = MIN_BYTES;
    for (int keeps_all = 0; keeps_all < 2 && !has_failed && choice.n_sentences == 0; keeps_all++) {
        buffer_clear(&prose.text);
        clean_lines(answer, n_bytes, options, keeps_all != 0, &prose);
        if (!prose.text.has_failed)
            choose(&choice, prose.text.data, prose.text.n_bytes);
        has_failed = prose.text.has_failed || choice.summary.has_failed;
    }
    if (!has_failed && choice.n_sentences > 0) {
        cleaned->summary = buffer_take(&choice.summary, NULL);
        cleaned->reason = choice.reason;
        cleaned->is_half = choice.reason != NULL;
        has_failed = !cleaned->summary;
    } else if (!has_failed) {
        cleaned->reason = reason_of_nothing(&prose, &choice);
    }
    buffer_clear(&prose.text);
    buffer_clear(&choice.summary);
    return has_failed ? fail(err, KVERN_MEMORY, "out of memory for a summary") : KVERN_OK;
}
