/* SPDX-License-Identifier: Apache-2.0
 *
 * The borders are tried from the last to the first. What stays must have a subject and a verb where
 * summaries have them, six words, closed brackets and quotes, and neither a last word nor a last
 * clause that wants more. Words are looked up in tables: add a row when a model has a new one.
 */
#include "summary/clean_half.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

enum { MIN_WORDS = 6, MAX_SUBJECT_WORDS = 6 };

/* What a clause begins with that can be left out with all behind it. */
static const char *const clause_openings[] = {
    "which ",        "where ",        "including ",     "such as ",       "so that ",
    "because ",      "while ",        "that allows ",   "that can ",      "that is ",
    "that are ",     "that has ",     "that have ",     "that provides ", "that will ",
    "that takes ",   "that uses ",    "that returns ",  "that contains ", "that represents ",
    "that handles ", "that defines ", "that supports ", "using ",         "based on ",
    "when ",         "containing ",   "representing ",  "without ",
};

/* A sentence does not end with these. */
static const char *const open_words[] = {
    "a",      "an",        "the",   "and",    "or",    "but",       "nor",   "of",   "to",
    "in",     "on",        "at",    "by",     "for",   "from",      "with",  "as",   "into",
    "than",   "that",      "this",  "which",  "where", "when",      "while", "if",   "who",
    "whose",  "such",      "like",  "is",     "are",   "was",       "were",  "be",   "has",
    "have",   "its",       "then",  "also",   "e.g.",  "i.e.",      "not",   "only", "both",
    "either", "including", "using", "called", "named", "following",
};

/* "a small, fast reader": a comma stands between what describes one thing, unless one of these is
 * behind it. */
static const char *const new_phrases[] = {
    "a",    "an",   "the", "and", "or", "but",  "which", "where", "including",
    "such", "with", "to",  "as",  "so", "then", "it",    "its",   "both",
};

/* What a clause that only leads to another one begins with. */
static const char *const leading_words[] = {
    "if",     "when",    "while",       "once",         "unless",      "although",
    "though", "because", "since",       "after",        "before",      "until",
    "given",  "whether", "for example", "for instance", "in addition", "as well",
};

/* Verbs where a plural may stand as well: in "The <words>", and behind "and". */
static const char *const verbs[] = {
    "is",         "are",       "was",      "were",     "has",        "have",     "does",
    "do",         "can",       "will",     "may",      "must",       "adds",     "allows",
    "applies",    "calls",     "checks",   "computes", "contains",   "converts", "creates",
    "defines",    "describes", "executes", "handles",  "implements", "includes", "initializes",
    "loads",      "makes",     "parses",   "performs", "prints",     "provides", "reads",
    "represents", "returns",   "runs",     "sets",     "takes",      "tests",    "uses",
    "writes",
};

struct word {
    const char *text;
    size_t n_bytes; /* without the comma behind it */
    bool has_comma;
};

static bool is_in(const struct word *word, const char *const *words, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        if (strlen(words[i]) == word->n_bytes &&
            strncasecmp(word->text, words[i], word->n_bytes) == 0)
            return true;
    }
    return false;
}

static bool is_word(const struct word *word, const char *other)
{
    return is_in(word, &other, 1);
}

/* The first `max` words; *n_all: how many there are. */
static void split(const char *text, size_t n_bytes, struct word *words, size_t max, size_t *n_all)
{
    *n_all = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t n = 0;

        while (at + n < n_bytes && text[at + n] != ' ')
            n++;
        if (n > 0 && *n_all < max) {
            bool has_comma = strchr(",;:", text[at + n - 1]) != NULL;

            words[*n_all] = (struct word){text + at, n - has_comma, has_comma};
        }
        *n_all += n > 0;
        at += n + 1;
    }
}

/* "returns", not "class" */
static bool is_third_person(const struct word *word)
{
    size_t n = word->n_bytes;

    return n > 3 && word->text[n - 1] == 's' && !strchr("su'", word->text[n - 2]);
}

/* "This code reads", "It is", "The mail module of x has", "Returns the" */
static bool has_verb(const struct word *words, size_t n)
{
    bool is_this = is_word(&words[0], "this") || is_word(&words[0], "it");

    if (!is_this && is_third_person(&words[0]) && !is_word(&words[0], "these"))
        return true;
    if (!is_this && !is_word(&words[0], "the") && !is_word(&words[0], "a") &&
        !is_word(&words[0], "an"))
        return false;
    for (size_t i = 1; i < n && !words[i - 1].has_comma; i++) {
        if (is_in(&words[i], verbs, COUNT(verbs)))
            return true;
        if (is_word(&words[i], "which") || is_word(&words[i], "that"))
            return false;
        if (is_this && i <= 2 && is_third_person(&words[i]))
            return true;
    }
    return false;
}

/* Are brackets and quotes closed? An apostrophe is a quote only at the beginning of a word. */
static bool is_closed(const char *text, size_t n_bytes)
{
    int n_open = 0;
    int n_single = 0;
    bool is_quoted = false;

    for (size_t i = 0; i < n_bytes; i++) {
        bool is_first = i == 0 || strchr(" ([{=", text[i - 1]);
        bool is_last = i + 1 == n_bytes || !isalnum((unsigned char)text[i + 1]);

        n_open += strchr("([{", text[i]) != NULL;
        n_open -= strchr(")]}", text[i]) != NULL;
        is_quoted ^= text[i] == '"';
        if (text[i] == '\'' && is_first)
            n_single++;
        else if (text[i] == '\'' && is_last && n_single > 0)
            n_single--;
    }
    return n_open == 0 && n_single == 0 && !is_quoted;
}

/* Does the last clause, behind the last comma, only lead to another? */
static bool is_leading(const char *text, size_t n_bytes)
{
    const char *comma = memrchr(text, ',', n_bytes);

    for (size_t i = 0; comma && i < COUNT(leading_words); i++) {
        size_t n = strlen(leading_words[i]);
        const char *clause = comma + 1 + strspn(comma + 1, " ");

        if (clause + n <= text + n_bytes && strncasecmp(clause, leading_words[i], n) == 0 &&
            (clause + n == text + n_bytes || clause[n] == ' '))
            return true;
    }
    return false;
}

/* Does text[0, n_bytes) end with "a small", before ", fast reader"? */
static bool is_in_phrase(const char *text, size_t n_bytes, const char *next, size_t n_next)
{
    struct word following[1] = {{0}};
    size_t n;

    split(next, n_next, following, 1, &n);
    if (n > 0 &&
        (is_in(&following[0], new_phrases, COUNT(new_phrases)) || is_third_person(&following[0])))
        return false;
    for (int i = 0; i < 2 && n_bytes > 0; i++) { /* "very small", "small" */
        const char *space = memrchr(text, ' ', n_bytes);

        n_bytes = space ? (size_t)(space - text) : 0;
        if (n_bytes >= 2 && strncmp(text + n_bytes - 2, " a", 2) == 0)
            return true;
        if (n_bytes >= 3 && strncmp(text + n_bytes - 3, " an", 3) == 0)
            return true;
    }
    return false;
}

static bool is_whole(const char *text, size_t n_bytes)
{
    struct word words[MAX_SUBJECT_WORDS];
    struct word last = {.text = text + n_bytes};
    size_t n;

    split(text, n_bytes, words, MAX_SUBJECT_WORDS, &n);
    while (last.text > text && last.text[-1] != ' ') {
        last.text--;
        last.n_bytes++;
    }
    return n >= MIN_WORDS && has_verb(words, MAX_SUBJECT_WORDS) && is_closed(text, n_bytes) &&
           !is_in(&last, open_words, COUNT(open_words)) && !is_in(&last, verbs, COUNT(verbs)) &&
           !is_leading(text, n_bytes);
}

/* Can a sentence end before text[at]? */
static bool is_border(const char *text, size_t n_bytes, size_t at)
{
    const char *next = text + at + 1;
    size_t n_next = n_bytes - at - 1;
    struct word words[2] = {{0}};
    size_t n_words;

    if (text[at] == ',' || text[at] == ';')
        return n_next == 0 || *next == ' ';
    if (text[at] != ' ')
        return false;
    split(next, n_next, words, COUNT(words), &n_words);
    if (is_word(&words[0], "and") && is_in(&words[1], verbs, COUNT(verbs)))
        return true;
    for (size_t i = 0; i < COUNT(clause_openings); i++) {
        size_t n = strlen(clause_openings[i]);

        /* the text may end with its last word */
        n -= n == n_next + 1;
        if (n <= n_next && memcmp(next, clause_openings[i], n) == 0)
            return true;
    }
    return false;
}

size_t clean_whole_bytes(const char *text, size_t n_bytes)
{
    for (size_t at = n_bytes; at-- > 0;) {
        if (!is_border(text, n_bytes, at))
            continue;
        size_t n = at;

        while (n > 0 && strchr(" ,;:-", text[n - 1]))
            n--;
        if (is_whole(text, n) &&
            !(text[at] == ',' && is_in_phrase(text, n, text + at + 1, n_bytes - at - 1)))
            return n;
    }
    return 0;
}
