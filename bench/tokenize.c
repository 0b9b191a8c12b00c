/* SPDX-License-Identifier: Apache-2.0
 *
 * Times opening a tokenizer.json and encoding a file: bench_tokenize TOKENIZER_JSON FILE.
 * Prints the median of the repeats as JSON. With --ids it prints the ids of each line instead,
 * which is how ids are compared with Python's on files of any size.
 */
#include "base/file.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_REPEATS = 7, MAX_BYTES = 1 << 28 };

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, N_REPEATS, sizeof *values, compare_doubles);
    return values[N_REPEATS / 2];
}

/* One line of output for each record of the file; records end with a zero byte. */
static kvern_status print_ids(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                              kvern_error *err)
{
    for (size_t i = 0; i < n_bytes;) {
        const char *end = memchr(text + i, '\0', n_bytes - i);
        size_t n = end ? (size_t)(end - text) - i : n_bytes - i;
        kvern_tokens tokens = {0};
        kvern_status status = tokenizer_encode(
            tokenizer, text + i, n, KVERN_TOKENIZE_CONTROL | KVERN_TOKENIZE_SPECIAL, &tokens, err);

        if (status != KVERN_OK)
            return status;
        for (size_t j = 0; j < tokens.n; j++)
            printf("%d:%zu:%zu ", tokens.ids[j], tokens.begins[j], tokens.ends[j]);
        printf("\n");
        kvern_tokens_clear(&tokens);
        i += n + 1;
    }
    return KVERN_OK;
}

static kvern_status time_all(const char *json, size_t n_json, const char *text, size_t n_bytes,
                             kvern_error *err)
{
    double open_ms[N_REPEATS];
    double encode_ms[N_REPEATS];
    size_t n_tokens = 0;
    kvern_status status = KVERN_OK;

    for (int i = 0; status == KVERN_OK && i < N_REPEATS; i++) {
        struct tokenizer *tokenizer = NULL;
        kvern_tokens tokens = {0};
        double start = now_ms();

        status = tokenizer_open_json(&tokenizer, json, n_json, err);
        open_ms[i] = now_ms() - start;
        start = now_ms();
        if (status == KVERN_OK)
            status = tokenizer_encode(tokenizer, text, n_bytes, 0, &tokens, err);
        encode_ms[i] = now_ms() - start;
        n_tokens = tokens.n;
        kvern_tokens_clear(&tokens);
        tokenizer_close(tokenizer);
    }
    if (status == KVERN_OK) {
        double ms = median(encode_ms);

        printf("{\"open_ms\": %.1f, \"encode_ms\": %.1f, \"mb_per_s\": %.1f, \"tokens\": %zu}\n",
               median(open_ms), ms, (double)n_bytes / 1e3 / ms, n_tokens);
    }
    return status;
}

int main(int argc, char **argv)
{
    char *json = NULL;
    char *text = NULL;
    size_t n_json;
    size_t n_text;
    struct tokenizer *tokenizer = NULL;
    kvern_error err;
    int first = argc > 1 && !strcmp(argv[1], "--ids") ? 2 : 1;
    kvern_status status;

    if (argc != first + 2) {
        fprintf(stderr, "usage: bench_tokenize [--ids] TOKENIZER_JSON FILE\n");
        return 2;
    }
    status = file_read(argv[first], MAX_BYTES, &json, &n_json, &err);
    if (status == KVERN_OK)
        status = file_read(argv[first + 1], MAX_BYTES, &text, &n_text, &err);
    if (status == KVERN_OK && first == 1)
        status = time_all(json, n_json, text, n_text, &err);
    if (status == KVERN_OK && first == 2) {
        status = tokenizer_open_json(&tokenizer, json, n_json, &err);
        if (status == KVERN_OK)
            status = print_ids(tokenizer, text, n_text, &err);
    }
    if (status != KVERN_OK)
        fprintf(stderr, "bench_tokenize: %s\n", err.message);
    tokenizer_close(tokenizer);
    free(json);
    free(text);
    return status == KVERN_OK ? 0 : 1;
}
