/* SPDX-License-Identifier: Apache-2.0
 *
 * Decimal numbers with blanks between, line by line.
 */
#include "groups.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINES = 4096 }; /* of a group */

static struct id_line parse_line(const char *text)
{
    struct id_line line = {
        .ids = allocate(strlen(text), sizeof(int32_t))}; /* an id has a byte or more */

    for (char *end = NULL;; text = end) {
        long id = strtol(text, &end, 10);

        if (end == text)
            break;
        line.ids[line.n++] = (int32_t)id;
    }
    return line;
}

void groups_run(const char *path, void (*run)(const struct id_line *lines, size_t n, void *data),
                void *data)
{
    struct id_line *lines = allocate(MAX_LINES, sizeof *lines);
    FILE *stream = fopen(path, "re");
    size_t n_lines = 0, capacity = 0;
    char *text = NULL;

    if (!stream) {
        perror(path);
        exit(1);
    }
    while (getline(&text, &capacity, stream) > 0) {
        if (strcmp(text, "run\n") == 0) {
            run(lines, n_lines, data);
            while (n_lines > 0)
                free(lines[--n_lines].ids);
        } else if (n_lines == MAX_LINES) {
            fprintf(stderr, "%s: over %d requests at once\n", path, MAX_LINES);
            exit(1);
        } else {
            lines[n_lines++] = parse_line(text);
        }
    }
    free(text);
    free(lines);
    fclose(stream);
}
