/* SPDX-License-Identifier: Apache-2.0
 *
 * struct ranking keeps its best texts sorted and drops the rest as they come; struct similarity has
 * to keep every vector, so their number is bounded.
 */
#include "cli/ranking.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "cli/output.h"
#include "cli/vectors.h"

#include <stdlib.h>
#include <string.h>

enum { BEGINNING_CHARACTERS = 60, MAX_COMPARED = 10000, LABEL_CHARACTERS = 24, CELL_WIDTH = 8 };

kvern_status ranking_init(struct ranking *ranking, const kvern_embedding *query, size_t capacity,
                          kvern_error *err)
{
    *ranking =
        (struct ranking){.query = query->values, .n_values = query->n_values, .capacity = capacity};
    ranking->items = try_new(capacity + 1, sizeof *ranking->items);
    if (!ranking->items)
        return fail(err, KVERN_MEMORY, "out of memory for the best %zu texts", capacity);
    return KVERN_OK;
}

static void clear_ranked(struct ranked *item)
{
    json_decref(item->id);
    free(item->beginning);
    *item = (struct ranked){0};
}

kvern_status ranking_add(struct ranking *ranking, const struct text *text,
                         const kvern_embedding *embedding, kvern_error *err)
{
    struct buffer beginning = {0};
    double score = kvern_cosine(ranking->query, embedding->values, ranking->n_values);
    size_t at = ranking->n;

    while (at > 0 && score > ranking->items[at - 1].score)
        at--;
    if (at == ranking->capacity)
        return KVERN_OK;
    add_beginning(&beginning, text->text, text->n_bytes, BEGINNING_CHARACTERS);
    char *shown = buffer_take(&beginning, NULL);
    if (!shown)
        return fail(err, KVERN_MEMORY, "out of memory ranking texts");
    memmove(&ranking->items[at + 1], &ranking->items[at],
            (ranking->n - at) * sizeof *ranking->items);
    ranking->items[at] =
        (struct ranked){.score = score, .id = json_incref(text->id), .beginning = shown};
    ranking->n++;
    if (ranking->n > ranking->capacity)
        clear_ranked(&ranking->items[--ranking->n]);
    return KVERN_OK;
}

/* The id in a column of `width` characters. */
static void add_label(struct buffer *line, const json_t *id, size_t width)
{
    struct buffer label = {0};
    const char *text;

    add_id(&label, id);
    text = label.data ? label.data : "";
    size_t n = count_characters(text);
    if (n > width) {
        add_beginning(line, text, label.n_bytes, width - strlen("..."));
    } else {
        buffer_add_string(line, text);
        for (; n < width; n++)
            buffer_add_byte(line, ' ');
    }
    buffer_clear(&label);
}

static size_t label_width(const json_t *id, size_t width)
{
    struct buffer label = {0};

    add_id(&label, id);
    size_t n = count_characters(label.data ? label.data : "");
    buffer_clear(&label);
    n = n < LABEL_CHARACTERS ? n : LABEL_CHARACTERS;
    return n > width ? n : width;
}

void ranking_print(const struct ranking *ranking, bool is_json)
{
    struct buffer line = {0};
    size_t width = strlen("ID");

    for (size_t i = 0; i < ranking->n; i++)
        width = label_width(ranking->items[i].id, width);
    if (!is_json)
        buffer_add_format(&line, "%4s  %7s  %-*s  %s\n", "RANK", "SCORE", (int)width, "ID", "TEXT");
    for (size_t i = 0; i < ranking->n && !output_has_failed(); i++) {
        const struct ranked *item = &ranking->items[i];

        if (is_json) {
            output_json(json_pack("{s:i s:f s:O s:s}", "rank", (int)i + 1, "score", item->score,
                                  "id", item->id, "text", item->beginning));
            continue;
        }
        buffer_add_format(&line, "%4zu  %7.4f  ", i + 1, item->score);
        add_label(&line, item->id, width);
        buffer_add_format(&line, "  %s\n", item->beginning);
        output_text(line.data ? line.data : "", line.n_bytes);
        buffer_truncate(&line, 0);
    }
    buffer_clear(&line);
}

void ranking_clear(struct ranking *ranking)
{
    for (size_t i = 0; i < ranking->n; i++)
        clear_ranked(&ranking->items[i]);
    free(ranking->items);
    *ranking = (struct ranking){0};
}

kvern_status similarity_add(struct similarity *similarity, const struct text *text,
                            const kvern_embedding *embedding, kvern_error *err)
{
    size_t n_values = embedding->n_values;

    if (similarity->n == MAX_COMPARED)
        return fail(err, KVERN_LIMIT,
                    "--similarity takes %d texts at most; --query ranks any number", MAX_COMPARED);
    if (similarity->n == similarity->capacity) {
        size_t capacity = similarity->capacity > 0 ? 2 * similarity->capacity : 64;
        float *values = try_resize(similarity->values, capacity, n_values * sizeof *values);

        if (!values)
            return fail(err, KVERN_MEMORY, "out of memory for %zu vectors", capacity);
        similarity->values = values;
        similarity->capacity = capacity;
    }
    if (!similarity->ids)
        similarity->ids = json_array();
    memcpy(similarity->values + similarity->n * n_values, embedding->values,
           n_values * sizeof(float));
    similarity->n_values = n_values;
    similarity->n++;
    if (json_array_append(similarity->ids, text->id) != 0)
        return fail(err, KVERN_MEMORY, "out of memory for %zu ids", similarity->n);
    return KVERN_OK;
}

static double cosine_of(const struct similarity *similarity, size_t a, size_t b)
{
    size_t n = similarity->n_values;

    return kvern_cosine(similarity->values + a * n, similarity->values + b * n, n);
}

void similarity_print(const struct similarity *similarity, bool is_json)
{
    struct buffer line = {0};
    size_t width = 0;

    for (size_t i = 0; i < similarity->n; i++)
        width = label_width(json_array_get(similarity->ids, i), width);
    if (!is_json && similarity->n > 0) {
        buffer_add_format(&line, "%-*s", (int)width, "");
        for (size_t i = 0; i < similarity->n; i++) {
            buffer_add_byte(&line, ' ');
            add_label(&line, json_array_get(similarity->ids, i), CELL_WIDTH);
        }
        buffer_add_byte(&line, '\n');
    }
    for (size_t i = 0; i < similarity->n && !output_has_failed(); i++) {
        json_t *id = json_array_get(similarity->ids, i);
        json_t *row = json_array();

        if (!is_json)
            add_label(&line, id, width);
        for (size_t j = 0; j < similarity->n; j++) {
            double cosine = cosine_of(similarity, i, j);

            if (is_json)
                json_array_append_new(row, json_real(cosine));
            else
                buffer_add_format(&line, " %*.4f", CELL_WIDTH, cosine);
        }
        if (is_json) {
            output_json(json_pack("{s:O s:O}", "id", id, "similarity", row));
        } else {
            buffer_add_byte(&line, '\n');
            output_text(line.data ? line.data : "", line.n_bytes);
            buffer_truncate(&line, 0);
        }
        json_decref(row);
    }
    buffer_clear(&line);
}

void similarity_clear(struct similarity *similarity)
{
    free(similarity->values);
    json_decref(similarity->ids);
    *similarity = (struct similarity){0};
}
