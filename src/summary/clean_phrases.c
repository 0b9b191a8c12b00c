/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of phrases, and comparisons that look at letters only. Pure.
 */
#include "summary/clean_phrases.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

enum { MAX_LEAD_IN = 120, MIN_ECHO_WORDS = 4 };

/* What a label is about. A phrase before ':' that holds one of these may be one ... */
static const char *const label_nouns[] = {
    "summary",  "summaries", "summarization", "description", "explanation", "answer",
    "output",   "response",  "overview",      "assistant",   "tldr",        "tl;dr",
    "sentence", "sentences", "purpose",       "docstring",   "result",
};

/* ... if all its other words are these, or if it opens with one of the openings. */
static const char *const label_words[] = {
    "a",         "above",        "an",           "brief",     "c",          "chunk",
    "class",     "code",         "concise",      "english",   "file",       "final",
    "following", "for",          "function",     "given",     "high-level", "in",
    "is",        "java",         "javascript",   "module",    "my",         "of",
    "one",       "one-sentence", "plain",        "provided",  "python",     "short",
    "simple",    "single",       "snippet",      "technical", "that",       "the",
    "this",      "two",          "two-sentence", "your",      "1-sentence", "1",
};

static const char *const label_openings[] = {
    "here is", "here's", "here are", "here’s", "below is", "the following is",
};

/* "This code", what it is of, and these: what it does stands behind the ':'. */
static const char *const announcements[] = {
    "does the following",           "does the following things",
    "performs the following",       "performs the following actions",
    "performs the following steps", "performs the following tasks",
};

/* What questions call it; a path may follow, behind a preposition or not. */
static const char *const subjects[] = {
    "this code", "this file", "this folder", "this change", "this function", "this module",
};

static const char *const prepositions[] = {" of ", " in ", " from ", " of the file ", " "};

/* Words before an answer, each with what follows it there. */
static const char *const openers[] = {
    "sure!",       "sure,",      "sure.",       "certainly!", "certainly,",    "certainly.",
    "of course!",  "of course,", "of course.",  "okay,",      "okay.",         "ok,",
    "absolutely!", "alright,",   "in summary,", "in short,",  "to summarize,", "to summarise,",
    "overall,",    "a: ",        "yes,",        "great!",
};

static const char *const refusals[] = {
    "i cannot",
    "i can't",
    "i can not",
    "i can’t",
    "i'm sorry",
    "i’m sorry",
    "i am sorry",
    "sorry,",
    "as an ai",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "i am not able",
    "i do not have",
    "i don't have",
    "i’m unable",
    "unfortunately,",
    "please provide",
    "could you",
    "can you",
    "it seems you",
    "it seems that you",
    "it looks like you",
    "no code was",
    "there is no code",
    "you have not provided",
    "you haven't provided",
    "i would need",
    "i need more",
};

static const char *const fillers[] = {
    "i hope this",  "hope this helps",   "let me know",    "feel free",     "if you have any",
    "if you need",  "is there anything", "you're welcome", "thank you",     "would you like",
    "do you",       "let me ",           "let's ",         "i will summar", "i'll summar",
    "this summary", "in this response",  "i have summar",  "the summary",   "happy to help",
    "i'd be happy", "i'm happy to",
};

/* Whole answers that say nothing. */
static const char *const empty_words[] = {
    "sure", "yes",     "no",   "ok",        "okay",      "none", "n/a", "na",      "null",
    "nil",  "unknown", "todo", "certainly", "of course", "code", "end", "nothing",
};

/* Beginnings of lines that only code has. */
static const char *const code_openings[] = {
    "#include",   "#define",  "#if",   "#endif", "import ", "from ",  "def ",
    "async def ", "@",        "//",    "/*",     "*/",      "<?",     "<!",
    "using ",     "package ", "elif ", "else:",  "try:",    "except", "print(",
};

static bool starts_with(const char *text, size_t n_bytes, const char *prefix)
{
    size_t n = strlen(prefix);

    return n <= n_bytes && strncasecmp(text, prefix, n) == 0;
}

static bool starts_with_any(const char *text, size_t n_bytes, const char *const *prefixes,
                            size_t n_prefixes)
{
    for (size_t i = 0; i < n_prefixes; i++) {
        if (starts_with(text, n_bytes, prefixes[i]))
            return true;
    }
    return false;
}

static bool is_one_of(const char *word, size_t n_bytes, const char *const *words, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        if (strlen(words[i]) == n_bytes && strncasecmp(word, words[i], n_bytes) == 0)
            return true;
    }
    return false;
}

/* ---- what stands before an answer ---- */

/* "one-sentence summary", "Here is a summary of the `foo` function" */
static bool is_label(const char *text, size_t n_bytes)
{
    bool has_opening = starts_with_any(text, n_bytes, label_openings, COUNT(label_openings));
    bool has_noun = false;

    for (size_t at = 0; at < n_bytes;) {
        size_t n = 0;

        while (at + n < n_bytes && text[at + n] != ' ')
            n++;
        if (is_one_of(text + at, n, label_nouns, COUNT(label_nouns)))
            has_noun = true;
        else if (n > 0 && !has_opening && !is_one_of(text + at, n, label_words, COUNT(label_words)))
            return false;
        at += n + 1;
    }
    return has_noun;
}

/* The bytes of "This code" at the beginning; 0: it is none. */
static size_t subject_bytes(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < COUNT(subjects); i++) {
        if (starts_with(text, n_bytes, subjects[i]))
            return strlen(subjects[i]);
    }
    return 0;
}

/* "This code does the following" */
static bool is_announcement(const char *text, size_t n_bytes)
{
    size_t n = subject_bytes(text, n_bytes);

    return n > 0 && n + 1 < n_bytes && text[n] == ' ' &&
           is_one_of(text + n + 1, n_bytes - n - 1, announcements, COUNT(announcements));
}

/* "src/a.c", and where only a path can stand "email.backends.py": a word with a '.' inside. */
static bool is_path(const char *word, size_t n_bytes, bool may_be_name)
{
    if (n_bytes > 1 && memchr(word, '/', n_bytes))
        return true;
    for (size_t i = 1; !may_be_name && i + 1 < n_bytes; i++) {
        if (word[i] == '.' && isalnum((unsigned char)word[i + 1]))
            return true;
    }
    return false;
}

size_t clean_path_echo(const char *text, size_t n_bytes, size_t *first)
{
    *first = subject_bytes(text, n_bytes);
    for (size_t i = 0; *first > 0 && i < COUNT(prepositions); i++) {
        size_t n_left = n_bytes - *first;
        size_t n = strlen(prepositions[i]);
        size_t n_word = 0;

        if (!starts_with(text + *first, n_left, prepositions[i]))
            continue;
        while (n + n_word < n_left && text[*first + n + n_word] != ' ')
            n_word++;
        if (n + n_word == n_left) /* nothing would be said of it */
            return 0;
        n_word -= n_word > 0 && strchr(",:", text[*first + n + n_word - 1]);
        if (is_path(text + *first + n, n_word, n == 1))
            return n + n_word;
    }
    return 0;
}

static size_t skip_spaces(const char *text, size_t n_bytes, size_t at)
{
    while (at < n_bytes && text[at] == ' ')
        at++;
    return at;
}

/* One opener or label at text[at]: what is behind it; `at`: there is none. */
static size_t skip_one(const char *text, size_t n_bytes, size_t at)
{
    size_t n_left = n_bytes - at;
    size_t n = 0;

    for (size_t i = 0; i < COUNT(openers); i++) {
        if (starts_with(text + at, n_left, openers[i]))
            return skip_spaces(text, n_bytes, at + strlen(openers[i]));
    }
    while (n < n_left && n < MAX_LEAD_IN && text[at + n] != ':')
        n++;
    if (n < n_left && text[at + n] == ':') {
        size_t next = skip_spaces(text, n_bytes, at + n + 1);

        /* behind an announcement that ends the line comes a list */
        return is_label(text + at, n) || (is_announcement(text + at, n) && next < n_bytes) ? next
                                                                                           : at;
    }
    /* all there is: "Summary", "Here is a summary." */
    if (n == n_left && n > 0 && is_label(text + at, strchr(".!", text[at + n - 1]) ? n - 1 : n))
        return n_bytes;
    return at;
}

size_t clean_lead_in(const char *text, size_t n_bytes)
{
    size_t at = 0;

    for (size_t next = 0; at < n_bytes; at = next) {
        next = skip_one(text, n_bytes, at);
        if (next == at)
            break;
    }
    return at;
}

/* ---- what is no answer ---- */

bool clean_is_refusal(const char *text, size_t n_bytes)
{
    return starts_with_any(text, n_bytes, refusals, COUNT(refusals));
}

bool clean_is_filler(const char *text, size_t n_bytes)
{
    if (starts_with_any(text, n_bytes, fillers, COUNT(fillers)))
        return true;
    while (n_bytes > 0 && strchr(".!?: ", text[n_bytes - 1]))
        n_bytes--;
    return is_one_of(text, n_bytes, empty_words, COUNT(empty_words));
}

bool clean_is_sentence(const char *text, size_t n_bytes)
{
    size_t n_spaces = 0;

    if (n_bytes == 0 || (!isupper((unsigned char)text[0]) && !(text[0] & 0x80)))
        return false;
    for (size_t i = 0; i < n_bytes; i++)
        n_spaces += text[i] == ' ';
    return n_spaces >= 6 || (n_spaces >= 2 && strchr(".!?:", text[n_bytes - 1]));
}

static bool has_operator(const char *text, size_t n_bytes)
{
    static const char *const operators[] = {" = ",  " == ", " != ", " += ", " -= ", " + ",
                                            " && ", " || ", " => ", "::",   "()"};

    for (size_t i = 0; i < COUNT(operators); i++) {
        if (memmem(text, n_bytes, operators[i], strlen(operators[i])))
            return true;
    }
    return false;
}

bool clean_is_code(const char *text, size_t n_bytes)
{
    size_t n_marks = 0;
    size_t n_shown = 0;

    if (n_bytes == 0)
        return false;
    if (strchr("{};", text[n_bytes - 1]))
        return true;
    if (clean_is_sentence(text, n_bytes))
        return false;
    for (size_t i = 0; i < COUNT(code_openings); i++) {
        size_t n = strlen(code_openings[i]);

        if (n <= n_bytes && strncmp(text, code_openings[i], n) == 0 && text[n_bytes - 1] != '.')
            return true;
    }
    if (has_operator(text, n_bytes) ||
        (starts_with(text, n_bytes, "return ") && memchr(text, '(', n_bytes)))
        return true;
    for (size_t i = 0; i < n_bytes; i++) {
        n_shown += text[i] != ' ';
        n_marks += text[i] != '\0' && strchr("(){}[];=<>|&+*\\/%^~@$", text[i]) != NULL;
    }
    return n_shown >= 5 && 5 * n_marks > n_shown;
}

/* ---- comparisons ---- */

/* The next letter or digit at or after *at, in lower case; 0: there is none. Other than ASCII
 * bytes are letters. */
static int next_letter(const char *text, size_t n_bytes, size_t *at)
{
    while (*at < n_bytes) {
        unsigned char c = (unsigned char)text[(*at)++];

        if (isalnum(c) || c >= 0x80)
            return tolower(c);
    }
    return 0;
}

bool clean_is_same(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t at_a = 0;
    size_t at_b = 0;
    int first = 0;

    for (;;) {
        int c = next_letter(a, n_a, &at_a);

        if (c != next_letter(b, n_b, &at_b))
            return false;
        if (c == 0)
            return first != 0;
        first = c;
    }
}

bool clean_is_echo(const char *text, size_t n_bytes, const char *where)
{
    size_t n_where = strlen(where);
    size_t n_words = 0;

    for (size_t i = 0; i < n_bytes; i++)
        n_words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
    if (n_words < MIN_ECHO_WORDS)
        return false;
    for (size_t start = 0; start < n_where; start++) {
        size_t at = 0;
        size_t at_where = start;
        int c = next_letter(text, n_bytes, &at);

        while (c != 0 && c == next_letter(where, n_where, &at_where))
            c = next_letter(text, n_bytes, &at);
        if (c == 0)
            return true;
    }
    return false;
}
