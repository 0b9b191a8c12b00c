/* SPDX-License-Identifier: Apache-2.0
 *
 * struct glob: a pattern becomes a list of tokens, and a text walks through them as through a
 * nondeterministic automaton whose states are the tokens' numbers, kept in a bit set. So there is
 * nothing to go back to, and a pattern such as a**[...]**b costs no more than its length per byte.
 */
#include "summary/glob.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum token_kind {
    TOKEN_BYTE,
    TOKEN_ANY,         /* ? */
    TOKEN_SET,         /* [...] */
    TOKEN_STAR,        /* any bytes but slashes, or none */
    TOKEN_DOUBLE_STAR, /* any bytes, or none */
    TOKEN_FOLDERS,     /* "**" and a slash: nothing, or what TOKEN_IN_FOLDERS after it takes */
    TOKEN_IN_FOLDERS,  /* any bytes up to a slash */
};

struct glob_token {
    uint16_t set; /* index into sets */
    uint8_t kind;
    uint8_t byte;
};

struct glob_set {
    uint8_t bits[32];
};

enum { WORDS = (GLOB_MAX_BYTES + 64) / 64 };

static void set_add(struct glob_set *set, unsigned low, unsigned high)
{
    for (unsigned byte = low; byte <= high && byte < 256; byte++)
        set->bits[byte / 8] |= (uint8_t)(1u << byte % 8);
}

static bool set_has(const struct glob_set *set, uint8_t byte)
{
    return set->bits[byte / 8] >> byte % 8 & 1;
}

/* Adds [:name:]; false: there is no such class. As git's, these are ASCII's. */
static bool set_add_class(struct glob_set *set, const char *name, size_t n_bytes)
{
    static const struct {
        const char *name;
        int (*is_member)(int);
    } classes[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank},
                   {"cntrl", iscntrl}, {"digit", isdigit}, {"graph", isgraph},
                   {"lower", islower}, {"print", isprint}, {"punct", ispunct},
                   {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit}};

    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strlen(classes[i].name) != n_bytes || memcmp(classes[i].name, name, n_bytes) != 0)
            continue;
        for (int byte = 0; byte < 128; byte++) {
            if (classes[i].is_member(byte))
                set_add(set, (unsigned)byte, (unsigned)byte);
        }
        return true;
    }
    return false;
}

/* Reads what stands between brackets, from the byte after '['. Returns where ']' stands, or NULL:
 * the bracket cannot match. Its odd cases (an open "[:", a range that begins with 0) are git's. */
static const char *read_set(struct glob_set *set, const char *p, const char *end)
{
    bool is_negated = p < end && (*p == '!' || *p == '^');
    uint8_t previous = 0; /* a range may begin with it */

    if (is_negated)
        p++;
    for (bool is_first = true; p < end && (is_first || *p != ']'); is_first = false, p++) {
        uint8_t byte = (uint8_t)*p;

        if (byte == '\\') {
            if (++p == end)
                return NULL;
            byte = (uint8_t)*p;
            set_add(set, byte, byte);
        } else if (byte == '-' && previous && p + 1 < end && p[1] != ']') {
            if (*++p == '\\' && ++p == end)
                return NULL;
            set_add(set, previous, (uint8_t)*p);
            byte = 0;
        } else if (byte == '[' && p + 1 < end && p[1] == ':') {
            const char *name = p + 2;
            const char *close = memchr(name, ']', (size_t)(end - name));

            if (!close)
                return NULL;
            if (close > name && close[-1] == ':') {
                if (!set_add_class(set, name, (size_t)(close - name) - 1))
                    return NULL;
                p = close;
                byte = 0;
            } else {
                set_add(set, '[', '[');
            }
        } else {
            set_add(set, byte, byte);
        }
        previous = byte;
    }
    if (p >= end)
        return NULL;
    for (size_t i = 0; is_negated && i < sizeof set->bits; i++)
        set->bits[i] ^= 0xff;
    set->bits['/' / 8] &= (uint8_t) ~(1u << '/' % 8);
    return p;
}

static void add_token(struct glob *glob, enum token_kind kind, uint8_t byte, size_t set)
{
    glob->tokens[glob->n_tokens++] =
        (struct glob_token){.kind = (uint8_t)kind, .byte = byte, .set = (uint16_t)set};
}

/* Reads stars from `p` on; returns the first byte not read. `begin`: where wildcards start. */
static const char *read_stars(struct glob *glob, const char *begin, const char *p, const char *end,
                              bool is_path)
{
    const char *first = p;

    while (p < end && *p == '*')
        p++;

    bool begins_part = first == begin || first[-1] == '/';
    bool ends_part = p == end || *p == '/' || (p + 1 < end && p[0] == '\\' && p[1] == '/');
    if (p - first == 1 || !is_path || !begins_part || !ends_part) {
        add_token(glob, TOKEN_STAR, 0, 0);
    } else if (p < end && *p == '/') {
        add_token(glob, TOKEN_FOLDERS, 0, 0);
        add_token(glob, TOKEN_IN_FOLDERS, 0, 0);
        p++;
    } else {
        add_token(glob, TOKEN_DOUBLE_STAR, 0, 0);
    }
    return p;
}

/* false: the pattern can match nothing. */
static bool read_pattern(struct glob *glob, const char *pattern, size_t n_bytes, bool is_path)
{
    const char *end = pattern + n_bytes;
    const char *p = pattern;

    /* git compares the plain bytes first and hands the rest to its matcher, so that stars right
     * after them count as the begin of a part: "foo" and two stars is one */
    while (p < end && !strchr("*?[\\", *p))
        add_token(glob, TOKEN_BYTE, (uint8_t)*p++, 0);

    const char *begin = p;
    while (p < end) {
        if (*p == '*') {
            p = read_stars(glob, begin, p, end, is_path);
        } else if (*p == '[') {
            p = read_set(&glob->sets[glob->n_sets], p + 1, end);
            if (!p)
                return false;
            add_token(glob, TOKEN_SET, 0, glob->n_sets++);
            p++;
        } else if (*p == '?') {
            add_token(glob, TOKEN_ANY, 0, 0);
            p++;
        } else {
            if (*p == '\\' && ++p == end)
                return false;
            add_token(glob, TOKEN_BYTE, (uint8_t)*p++, 0);
        }
    }
    return true;
}

bool glob_compile(struct glob *glob, const char *pattern, size_t n_bytes, bool is_path)
{
    size_t n_brackets = 0;

    *glob = (struct glob){0};
    if (n_bytes > GLOB_MAX_BYTES || memchr(pattern, '\0', n_bytes))
        return true;
    for (size_t i = 0; i < n_bytes; i++)
        n_brackets += pattern[i] == '[';
    glob->tokens = try_new(n_bytes, sizeof *glob->tokens);
    glob->sets = try_new(n_brackets, sizeof *glob->sets);
    if (!glob->tokens || !glob->sets) {
        glob_clear(glob);
        return false;
    }
    if (!read_pattern(glob, pattern, n_bytes, is_path)) {
        glob_clear(glob);
        return true;
    }
    while (glob->n_prefix < glob->n_tokens && glob->tokens[glob->n_prefix].kind == TOKEN_BYTE)
        glob->n_prefix++;
    while (glob->n_suffix < glob->n_tokens - glob->n_prefix &&
           glob->tokens[glob->n_tokens - 1 - glob->n_suffix].kind == TOKEN_BYTE)
        glob->n_suffix++;
    return true;
}

/* Enters a state, and those that can be reached from it without a byte. */
static void enter(const struct glob *glob, uint64_t *states, size_t end, size_t i)
{
    while (!(states[i / 64] >> i % 64 & 1)) {
        states[i / 64] |= 1ull << i % 64;
        if (i == end)
            break;
        if (glob->tokens[i].kind == TOKEN_STAR || glob->tokens[i].kind == TOKEN_DOUBLE_STAR) {
            i++;
        } else if (glob->tokens[i].kind == TOKEN_FOLDERS) {
            states[(i + 1) / 64] |= 1ull << (i + 1) % 64;
            i += 2;
        } else {
            break;
        }
    }
}

static void step(const struct glob *glob, size_t i, uint8_t byte, uint64_t *next, size_t end)
{
    const struct glob_token *token = &glob->tokens[i];

    switch ((enum token_kind)token->kind) {
    case TOKEN_BYTE:
        if (token->byte == byte)
            enter(glob, next, end, i + 1);
        break;
    case TOKEN_ANY:
        if (byte != '/')
            enter(glob, next, end, i + 1);
        break;
    case TOKEN_SET:
        if (set_has(&glob->sets[token->set], byte))
            enter(glob, next, end, i + 1);
        break;
    case TOKEN_STAR:
        if (byte != '/')
            enter(glob, next, end, i);
        break;
    case TOKEN_DOUBLE_STAR:
        enter(glob, next, end, i);
        break;
    case TOKEN_FOLDERS:
        break;
    case TOKEN_IN_FOLDERS:
        next[i / 64] |= 1ull << i % 64;
        if (byte == '/')
            enter(glob, next, end, i + 1);
        break;
    }
}

bool glob_matches(const struct glob *glob, const char *text, size_t n_bytes)
{
    uint64_t states[2][WORDS];
    size_t end = glob->n_tokens - glob->n_suffix; /* the state of a match */
    size_t n_words = end / 64 + 1;
    uint64_t any = 1;

    if (!glob->tokens || n_bytes < glob->n_prefix + glob->n_suffix)
        return false;
    for (size_t i = 0; i < glob->n_prefix; i++) {
        if (glob->tokens[i].byte != (uint8_t)text[i])
            return false;
    }
    for (size_t i = 0; i < glob->n_suffix; i++) {
        if (glob->tokens[end + i].byte != (uint8_t)text[n_bytes - glob->n_suffix + i])
            return false;
    }

    uint64_t *now = states[0];
    uint64_t *next = states[1];
    memset(now, 0, n_words * sizeof *now);
    enter(glob, now, end, glob->n_prefix);
    for (size_t at = glob->n_prefix; at < n_bytes - glob->n_suffix && any; at++) {
        memset(next, 0, n_words * sizeof *next);
        for (size_t word = 0; word < n_words; word++) {
            for (uint64_t bits = now[word]; bits; bits &= bits - 1) {
                size_t i = word * 64 + (size_t)__builtin_ctzll(bits);

                if (i < end)
                    step(glob, i, (uint8_t)text[at], next, end);
            }
        }
        any = 0;
        for (size_t word = 0; word < n_words; word++)
            any |= next[word];
        uint64_t *swap = now;
        now = next;
        next = swap;
    }
    return now[end / 64] >> end % 64 & 1;
}

void glob_clear(struct glob *glob)
{
    free(glob->tokens);
    free(glob->sets);
    *glob = (struct glob){0};
}
