/* SPDX-License-Identifier: Apache-2.0
 *
 * struct chunk_list: units (the whole text, its functions, a patch's files) are cut one after the
 * other. Each step finds how many lines fit from where it stands, then goes back to the best border
 * in them. Tokens are counted a few times a chunk, on texts not much longer than a chunk.
 */
#include "summary/chunk.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "summary/outline.h"
#include "summary/patch.h"

#include <stdlib.h>
#include <string.h>

/* What a cut before a line is worth: the depth of the definition that begins there or ended
 * before it, or these. */
enum { RANK_DEEPEST = 6, RANK_BLANK, RANK_ANY };

/* Texts of more bytes a token than this do not fit; so nothing longer is counted. */
enum { MAX_TOKEN_BYTES = 64 };

struct cutter {
    const struct outline *outline;
    const struct chunk_options *options;
    size_t max_lines;
    uint8_t *ranks;       /* [n_lines + 1] */
    size_t *ends;         /* [n_lines + 1]: the line after the definition that begins here, or 0 */
    double bytes_a_token; /* of what was counted last */
    struct chunk_list *list;
};

static size_t line_begin(const struct cutter *cutter, size_t line)
{
    return cutter->outline->lines[line].begin;
}

static size_t depth_rank(unsigned depth)
{
    return depth < RANK_DEEPEST ? depth : RANK_DEEPEST;
}

/* The line after a definition and the blank lines that follow it. */
static size_t line_after(const struct outline *outline, const struct outline_definition *definition)
{
    size_t after = definition->last_line + 1;

    while (after < outline->n_lines && outline->lines[after].is_blank)
        after++;
    return after;
}

/* Fills ranks and ends. */
static void rank_lines(struct cutter *cutter)
{
    const struct outline *outline = cutter->outline;

    for (size_t i = 0; i <= outline->n_lines; i++)
        cutter->ranks[i] = i > 0 && outline->lines[i - 1].is_blank ? RANK_BLANK : RANK_ANY;
    for (size_t i = 0; i < outline->n_definitions; i++) {
        const struct outline_definition *definition = &outline->definitions[i];
        size_t after = line_after(outline, definition);
        uint8_t rank = (uint8_t)depth_rank(definition->depth);

        if (rank < cutter->ranks[definition->first_line]) {
            cutter->ranks[definition->first_line] = rank;
            cutter->ends[definition->first_line] = definition->last_line + 1;
        }
        if (rank < cutter->ranks[after] && !outline->lines[after].is_closing)
            cutter->ranks[after] = rank;
    }
}

static kvern_status count(struct cutter *cutter, size_t begin, size_t n_bytes, size_t *n_tokens,
                          kvern_error *err)
{
    const struct chunk_options *options = cutter->options;

    *n_tokens = options->count_tokens(options->ctx, cutter->outline->text + begin, n_bytes);
    if (*n_tokens == CHUNK_COUNT_FAILED)
        return fail(err, KVERN_RUNTIME, "counting the tokens of %zu bytes of text failed", n_bytes);
    if (*n_tokens > 0 && n_bytes > 0)
        cutter->bytes_a_token = (double)n_bytes / (double)*n_tokens;
    return KVERN_OK;
}

/* Could so many bytes fit? */
static bool is_worth_counting(const struct cutter *cutter, size_t n_bytes)
{
    return n_bytes / MAX_TOKEN_BYTES <= cutter->options->max_tokens;
}

/* How many of the bytes from `begin` on so many tokens are likely to take. */
static size_t likely_bytes(const struct cutter *cutter, size_t n_tokens, size_t begin)
{
    size_t n_left = cutter->outline->n_bytes - begin;
    double likely = (double)n_tokens * cutter->bytes_a_token;

    return likely < (double)n_left ? (size_t)likely : n_left;
}

/* The first line of (low, high] whose begin lies past the byte, less one; low + 1 at least. */
static size_t last_line_within(const struct cutter *cutter, size_t low, size_t high, size_t byte)
{
    size_t found = low + 1;

    for (size_t from = low + 1, to = high; from < to;) {
        size_t middle = from + (to - from + 1) / 2;

        if (line_begin(cutter, middle) <= byte)
            found = from = middle;
        else
            to = middle - 1;
    }
    return found;
}

/* About the most lines from `first` on that fit, up to `end`: *fits is the line after them
 * (`first`: not even one does), *n_tokens their tokens. Guesses by the bytes a token took so far,
 * and halves what is between a guess that fits and one that does not; ends early where a sixteenth
 * is left, since counting is what takes time. */
static kvern_status fit_lines(struct cutter *cutter, size_t first, size_t end, size_t *fits,
                              size_t *n_tokens, kvern_error *err)
{
    size_t begin = line_begin(cutter, first);
    size_t max_tokens = cutter->options->max_tokens;
    size_t low = first;
    size_t high;

    *n_tokens = 0;
    if (end - first > cutter->max_lines)
        end = first + cutter->max_lines;
    if (max_tokens == 0) {
        *fits = end;
        return KVERN_OK;
    }
    high = end + 1; /* does not fit, or is not there */
    for (int i = 0; low + 1 < high && *n_tokens < max_tokens - max_tokens / 16; i++) {
        size_t guess =
            last_line_within(cutter, low, high - 1,
                             begin + likely_bytes(cutter, max_tokens - max_tokens / 32, begin));
        size_t counted;

        if (i > 2) /* the guesses creep */
            guess = low + (high - low) / 2;
        size_t n_bytes = line_begin(cutter, guess) - begin;
        if (!is_worth_counting(cutter, n_bytes)) {
            high = guess;
            continue;
        }
        if (count(cutter, begin, n_bytes, &counted, err))
            return KVERN_RUNTIME;
        if (counted <= max_tokens) {
            low = guess;
            *n_tokens = counted;
        } else {
            high = guess;
        }
    }
    *fits = low;
    return KVERN_OK;
}

/* The best line to cut before, after `first` and up to `fits`, which is not the unit's end. */
static size_t best_border(const struct cutter *cutter, size_t first, size_t fits)
{
    size_t half = first + (fits - first + 1) / 2;
    size_t borders[RANK_ANY] = {0};

    for (size_t i = first + 1; i <= fits; i++) {
        for (size_t rank = cutter->ranks[i]; rank < RANK_ANY; rank++)
            borders[rank] = i;
    }
    for (size_t rank = 0; rank < RANK_ANY; rank++) {
        size_t border = borders[rank];

        /* a short chunk is fine before a definition that will fit into the next one whole */
        if (border > 0 &&
            (border >= half ||
             (cutter->ends[border] > 0 && cutter->ends[border] - border <= cutter->max_lines &&
              line_begin(cutter, cutter->ends[border]) - line_begin(cutter, border) <=
                  line_begin(cutter, fits) - line_begin(cutter, first))))
            return border;
    }
    return fits;
}

/* Whole characters of a text: the most that end at or before n. */
static size_t whole_characters(const char *text, size_t n_bytes, size_t n)
{
    uint32_t code_point;

    for (size_t back = 1; n < n_bytes && back <= 3 && back <= n; back++) {
        size_t length = utf8_decode(text + n - back, n_bytes - (n - back), &code_point);

        if (length > 0)
            return length > back ? n - back : n;
    }
    return n;
}

/* The most bytes of a line that fit. */
static kvern_status fit_bytes(struct cutter *cutter, size_t begin, size_t n_bytes, size_t *fits,
                              size_t *n_tokens, kvern_error *err)
{
    const char *text = cutter->outline->text + begin;
    size_t max_tokens = cutter->options->max_tokens;
    size_t low = 0;
    size_t high = n_bytes + 1;
    size_t guess = likely_bytes(cutter, max_tokens, begin);

    *n_tokens = 0;
    while (low + 1 < high) {
        size_t counted;

        if (guess <= low || guess >= high)
            guess = low + (high - low) / 2;
        size_t whole = whole_characters(text, n_bytes, guess);
        if (whole <= low) { /* no character ends between low and guess: does the next one fit? */
            uint32_t code_point;
            size_t length = utf8_decode(text + low, n_bytes - low, &code_point);

            whole = low + (length ? length : 1);
            if (whole >= high)
                break;
        }
        if (!is_worth_counting(cutter, whole)) {
            high = whole;
            continue;
        }
        if (count(cutter, begin, whole, &counted, err))
            return KVERN_RUNTIME;
        if (counted <= max_tokens) {
            low = whole;
            *n_tokens = counted;
        } else {
            high = whole;
        }
        guess = 0;
    }
    *fits = low;
    return low > 0 ? KVERN_OK
                   : fail(err, KVERN_LIMIT, "not one character fits into a chunk of %zu tokens",
                          max_tokens);
}

/* The innermost definition that holds lines [first, end), but for blank lines at either end and
 * what closes something at the end (the last '}' of a class after its last method). */
static ptrdiff_t definition_around(const struct outline *outline, size_t first, size_t end)
{
    size_t low = 0;
    size_t high = outline->n_definitions;

    while (first < end && outline->lines[first].is_blank)
        first++;
    while (end > first + 1 &&
           (outline->lines[end - 1].is_blank || outline->lines[end - 1].is_closing))
        end--;
    while (low < high) { /* definitions before `low` begin at or before the first line */
        size_t middle = low + (high - low) / 2;

        if (outline->definitions[middle].first_line <= first)
            low = middle + 1;
        else
            high = middle;
    }
    ptrdiff_t found = (ptrdiff_t)low - 1;
    while (found >= 0 && outline->definitions[found].last_line + 1 < end)
        found = outline->definitions[found].parent;
    return found;
}

/* "Class.method": the names of a definition and those around it. NULL: none has one. */
static char *full_name(const struct outline *outline, ptrdiff_t definition)
{
    ptrdiff_t path[OUTLINE_MAX_DEPTH];
    size_t n = 0;
    struct buffer name = {0};

    for (; definition >= 0 && n < OUTLINE_MAX_DEPTH;
         definition = outline->definitions[definition].parent) {
        if (outline->definitions[definition].name)
            path[n++] = definition;
    }
    for (size_t i = n; i > 0; i--) {
        if (name.n_bytes > 0)
            buffer_add_byte(&name, '.');
        buffer_add_string(&name, outline->definitions[path[i - 1]].name);
    }
    return n > 0 ? buffer_take(&name, NULL) : NULL;
}

static kvern_status add_chunk(struct cutter *cutter, size_t first, size_t end, struct chunk chunk,
                              kvern_error *err)
{
    struct chunk_list *list = cutter->list;

    if (list->n_chunks == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        struct chunk *chunks = try_resize(list->chunks, capacity, sizeof *chunks);

        if (!chunks)
            return fail(err, KVERN_MEMORY, "no memory for %zu chunks", capacity);
        list->chunks = chunks;
        list->capacity = capacity;
    }
    chunk.begin = line_begin(cutter, first);
    chunk.n_bytes = line_begin(cutter, end) - chunk.begin;
    if (!chunk.is_cut)
        chunk.n_kept_bytes = chunk.n_bytes;
    chunk.first_line = first + 1;
    chunk.last_line = end;
    chunk.is_blank = true;
    for (size_t i = first; i < end; i++)
        chunk.is_blank &= cutter->outline->lines[i].is_blank;
    if (!chunk.is_blank)
        chunk.name = full_name(cutter->outline, definition_around(cutter->outline, first, end));
    list->chunks[list->n_chunks++] = chunk;
    return KVERN_OK;
}

/* Where the chunk from `first` on ends, of a unit that goes to `end`; `first`: not even its first
 * line fits. */
static kvern_status find_cut(struct cutter *cutter, size_t first, size_t end, size_t *cut,
                             size_t *n_tokens, kvern_error *err)
{
    size_t limit = end;

    while (limit > first) {
        size_t fits;

        if (fit_lines(cutter, first, limit, &fits, n_tokens, err))
            return KVERN_RUNTIME;
        *cut = fits;
        if (fits == first || fits == end)
            return KVERN_OK;

        size_t border = best_border(cutter, first, fits);
        *cut = border;
        if (border == fits || cutter->options->max_tokens == 0)
            return KVERN_OK;
        if (count(cutter, line_begin(cutter, first),
                  line_begin(cutter, border) - line_begin(cutter, first), n_tokens, err))
            return KVERN_RUNTIME;
        if (*n_tokens <= cutter->options->max_tokens)
            return KVERN_OK;
        limit = border - 1; /* less text took more tokens: rare, but tokenizers may do so */
    }
    *cut = first;
    return KVERN_OK;
}

/* Cuts lines [first, end) into chunks. */
static kvern_status cut_lines(struct cutter *cutter, size_t first, size_t end, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && first < end) {
        struct chunk chunk = {0};
        size_t cut;

        status = find_cut(cutter, first, end, &cut, &chunk.n_tokens, err);
        if (status == KVERN_OK && cut == first) {
            cut = first + 1;
            chunk.is_cut = true;
            status = fit_bytes(cutter, line_begin(cutter, first),
                               line_begin(cutter, cut) - line_begin(cutter, first),
                               &chunk.n_kept_bytes, &chunk.n_tokens, err);
        }
        if (status == KVERN_OK)
            status = add_chunk(cutter, first, cut, chunk, err);
        first = cut;
    }
    return status;
}

/* Marks the lines at which units begin, given the definitions that are units of their own: a
 * function, or what holds functions, whose own lines are between them. */
static void mark_units(const struct outline *outline, bool top_only, bool *begins)
{
    for (size_t i = 0; i < outline->n_definitions; i++) {
        const struct outline_definition *definition = &outline->definitions[i];
        bool is_unit = !top_only || definition->depth == 0;

        for (ptrdiff_t p = definition->parent; p >= 0 && is_unit;
             p = outline->definitions[p].parent)
            is_unit = outline->definitions[p].is_container;
        if (is_unit) {
            begins[definition->first_line] = true;
            begins[line_after(outline, definition)] = true;
        }
    }
    begins[0] = true;
    /* what would be nothing but blank lines and closing brackets stays with what is before it */
    for (size_t i = 1; i < outline->n_lines; i++) {
        size_t next = i;

        if (!begins[i])
            continue;
        while (next < outline->n_lines && (next == i || !begins[next]) &&
               (outline->lines[next].is_blank || outline->lines[next].is_closing))
            next++;
        if (next > i && (next == outline->n_lines || begins[next]))
            begins[i] = false;
    }
}

static kvern_status cut_outline(struct chunk_list *list, const struct outline *outline,
                                bool has_units, bool top_only, const struct chunk_options *options,
                                kvern_error *err)
{
    size_t n = outline->n_lines;
    struct cutter cutter = {.outline = outline,
                            .options = options,
                            .max_lines =
                                options->max_lines ? options->max_lines : CHUNK_DEFAULT_LINES,
                            .bytes_a_token = 3,
                            .list = list};
    bool *begins = try_new(n + 2, sizeof *begins);
    kvern_status status = KVERN_OK;

    cutter.ranks = try_new(n + 1, sizeof *cutter.ranks);
    cutter.ends = try_new(n + 1, sizeof *cutter.ends);
    if (!begins || !cutter.ranks || !cutter.ends) {
        status = fail(err, KVERN_MEMORY, "no memory to cut %zu lines", n);
        goto done;
    }
    rank_lines(&cutter);
    if (has_units)
        mark_units(outline, top_only, begins);
    for (size_t first = 0, end; first < n && status == KVERN_OK; first = end) {
        end = first + 1;
        while (end < n && !begins[end])
            end++;
        status = cut_lines(&cutter, first, end, err);
    }
done:
    free(begins);
    free(cutter.ranks);
    free(cutter.ends);
    if (status != KVERN_OK)
        chunk_list_clear(list);
    return status;
}

kvern_status chunk_text(struct chunk_list *list, const struct language *language, const char *text,
                        size_t n_bytes, const struct chunk_options *options, kvern_error *err)
{
    struct outline outline = {0};
    bool has_units = options->level == CHUNK_LEVEL_FUNCTION;

    *list = (struct chunk_list){0};
    if (outline_read(&outline, language, text, n_bytes, err))
        return KVERN_MEMORY;
    kvern_status status = cut_outline(list, &outline, has_units, false, options, err);
    outline_clear(&outline);
    return status;
}

kvern_status chunk_patch(struct chunk_list *list, const char *text, size_t n_bytes,
                         const struct chunk_options *options, kvern_error *err)
{
    struct outline outline = {0};

    *list = (struct chunk_list){0};
    if (patch_read(&outline, text, n_bytes, err))
        return KVERN_MEMORY;
    kvern_status status = cut_outline(list, &outline, true, true, options, err);
    outline_clear(&outline);
    return status;
}

void chunk_list_clear(struct chunk_list *list)
{
    for (size_t i = 0; i < list->n_chunks; i++)
        free(list->chunks[i].name);
    free(list->chunks);
    *list = (struct chunk_list){0};
}
