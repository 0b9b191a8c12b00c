/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels of the packed encoder graph, on one thread, each part as a model of MiniLM's shape (6
 * layers, hidden 384, 12 heads of 32, intermediate 1,536) runs it in one batch: 32 texts of 128
 * tokens, and texts of 5 to 250. Prints milliseconds of all 6 layers, the share of the whole and,
 * where products are counted, G/s and what the machine's bare dot-product loop gave beside it.
 * Medians of rounds; without ONNX Runtime, so without its dispatch and its threads.
 *
 *   encoder_kernels [avx512bf16|avx512|avx2|portable [rounds]]
 */
#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LAYERS = 6,
    HIDDEN = 384,
    HEADS = 12,
    INTERMEDIATE = 1536,
    MAX_TOKENS = 4096,
    MAX_ROUNDS = 101,
    ROW_STEP = 48, /* rows x strips of a unit, as src/ops/linear.c cuts them */
    STRIP_STEP = 16,
};

/* The parts of a layer, in the order they run. */
enum part { QKV, ATTENTION, OUT, NORM, UP, GELU, DOWN, QUANTIZE, N_PARTS };

static const char *const part_names[] = {
    [QKV] = "Linear qkv",    [ATTENTION] = "PackedAttention",  [OUT] = "Linear out",
    [NORM] = "AddLayerNorm", [UP] = "Linear up + GELU",        [GELU] = "(GELU of it)",
    [DOWN] = "Linear down",  [QUANTIZE] = "rounding to 8 bit",
};

struct linear {
    struct packed_weight weight;
    void *data;
    uint16_t *scales;
};

struct bench {
    const struct kernels *kernels;
    size_t starts[1025]; /* of texts */
    size_t n_texts;
    size_t n_tokens;
    struct linear qkv, out, up, down;
    struct quantized_rows rows;
    float *wide;  /* [MAX_TOKENS, 1536] */
    float *x, *y; /* [MAX_TOKENS, 384] */
    float *ones;  /* [384] */
    void *scratch;
    double ms[N_PARTS];
};

/* CPU time of this thread: what others take of a shared core is not counted. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *take(size_t count, size_t item_bytes)
{
    void *memory = try_new_aligned(count, item_bytes);

    if (!memory)
        abort();
    return memory;
}

static void linear_init(struct linear *linear, size_t k, size_t n)
{
    size_t n_tiles = packed_n_tiles(n);
    size_t n_bytes = n_tiles * packed_tile_bytes(8, k);
    size_t n_scales = n_tiles * (k / PACKED_GROUP) * PACKED_TILE;
    uint8_t *data = take(n_bytes, 1);

    for (size_t i = 0; i < n_bytes; i++)
        data[i] = (uint8_t)(i * 2654435761U >> 13);
    linear->data = data;
    linear->scales = take(n_scales, sizeof *linear->scales);
    for (size_t i = 0; i < n_scales; i++)
        linear->scales[i] = 0x0c00;
    linear->weight = (struct packed_weight){
        .bits = 8, .n = n, .k = k, .group = PACKED_GROUP, .data = data, .scales = linear->scales};
}

static void linear_clear(struct linear *linear)
{
    free(linear->data);
    free(linear->scales);
}

/* Quantises x and multiplies, in the rectangles Linear cuts; adds to the times. */
static void run_linear(struct bench *b, const struct linear *linear, enum part part, const float *x,
                       float *y, enum activation activation)
{
    const struct packed_weight *w = &linear->weight;
    size_t n_strips = (w->n + 15) / 16;
    double begin = now();
    double middle;

    b->kernels->linear->quantize_rows(x, 0, b->n_tokens, w->k, w->group, 128, &b->rows);
    middle = now();
    b->ms[QUANTIZE] += (middle - begin) * 1e3;
    for (size_t row = 0; row < b->n_tokens; row += ROW_STEP) {
        size_t row_end = row + ROW_STEP < b->n_tokens ? row + ROW_STEP : b->n_tokens;

        for (size_t strip = 0; strip < n_strips; strip += STRIP_STEP) {
            size_t end = strip + STRIP_STEP < n_strips ? strip + STRIP_STEP : n_strips;
            float *to = y + row * w->n + strip * 16;

            b->kernels->linear->multiply_quantized(w, &b->rows, row, row_end, strip, end, y);
            b->kernels->row->activate(activation, to, row_end - row, (end - strip) * 16, w->n, to);
        }
    }
    b->ms[part] += (now() - middle) * 1e3;
}

/* GELU as `up` has it, but for its memory: on a rectangle that stays in the cache. */
static void run_gelu(struct bench *b)
{
    double begin = now();

    for (size_t row = 0; row < b->n_tokens; row += 8)
        b->kernels->row->activate(ACTIVATION_GELU, b->wide, 8, INTERMEDIATE, INTERMEDIATE,
                                  b->wide + 8 * (size_t)INTERMEDIATE);
    b->ms[GELU] += (now() - begin) * 1e3;
}

static void run_norm(struct bench *b)
{
    double begin = now();

    b->kernels->row->add_layer_norm(b->x, b->y, NULL, b->ones, b->ones, 1e-12F, 0, b->n_tokens,
                                    HIDDEN, b->x);
    b->ms[NORM] += (now() - begin) * 1e3;
}

static void run_attention(struct bench *b)
{
    const struct attention_kernels *attention = b->kernels->attention;
    struct packed_attention_shape shape = {HEADS, HEADS, HIDDEN / HEADS, 0.1767767F, false};
    double begin = now();

    for (size_t s = 0; s < b->n_texts; s++) {
        size_t n = b->starts[s + 1] - b->starts[s];

        for (size_t head = 0; head < HEADS; head++)
            attention->attend_packed(&shape, b->wide + b->starts[s] * 3 * HIDDEN, n, 0, n, head,
                                     b->scratch, b->y + b->starts[s] * HIDDEN);
    }
    b->ms[ATTENTION] += (now() - begin) * 1e3;
}

static void run_layer(struct bench *b)
{
    run_linear(b, &b->qkv, QKV, b->x, b->wide, ACTIVATION_NONE);
    run_attention(b);
    run_linear(b, &b->out, OUT, b->y, b->y, ACTIVATION_NONE);
    run_norm(b);
    run_linear(b, &b->up, UP, b->x, b->wide, ACTIVATION_GELU);
    run_linear(b, &b->down, DOWN, b->wide, b->y, ACTIVATION_NONE);
    run_norm(b);
    run_gelu(b);
}

/* 10 independent chains of vpdpbusd, nothing else, in G/s; 0 without AVX-512 VNNI. */
static double peak_rate(const struct kernels *set)
{
    double begin = now();
    double n = set->peak->int8_operations(2000000);

    return n / (now() - begin) * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double products(const struct bench *b, enum part part)
{
    double per_token = 2.0 * HIDDEN * LAYERS * (double)b->n_tokens;
    double attended = 0;

    switch (part) {
    case QKV:
        return per_token * 3 * HIDDEN;
    case OUT:
        return per_token * HIDDEN;
    case UP:
    case DOWN:
        return per_token * INTERMEDIATE;
    case ATTENTION:
        for (size_t s = 0; s < b->n_texts; s++) {
            double n = (double)(b->starts[s + 1] - b->starts[s]);

            attended += 4.0 * n * n * HIDDEN * LAYERS;
        }
        return attended;
    default:
        return 0;
    }
}

static void measure(struct bench *b, const char *name, size_t n_rounds)
{
    static double ms[N_PARTS][MAX_ROUNDS];
    double total = 0;
    double peak;

    for (size_t round = 0; round < n_rounds; round++) {
        memset(b->ms, 0, sizeof b->ms);
        for (size_t i = 0; i < (size_t)MAX_TOKENS * HIDDEN; i++)
            b->x[i] = (float)(i * 2654435761U >> 16 & 1023) / 512.0F - 1.0F;
        for (size_t layer = 0; layer < LAYERS; layer++)
            run_layer(b);
        for (size_t part = 0; part < N_PARTS; part++)
            ms[part][round] = b->ms[part];
    }
    peak = peak_rate(b->kernels);
    for (size_t part = 0; part < N_PARTS; part++) {
        qsort(ms[part], n_rounds, sizeof ms[part][0], compare);
        total += part == GELU ? 0 : ms[part][n_rounds / 2];
    }
    printf("%s, %s: %zu tokens, %.1f ms, int8 peak %.0f G/s\n", b->kernels->name, name, b->n_tokens,
           total, peak);
    for (size_t part = 0; part < N_PARTS; part++) {
        double median = ms[part][n_rounds / 2];
        double rate = products(b, (enum part)part) / median * 1e-6;

        printf("  %-18s %7.2f ms %5.1f %%", part_names[part], median, 100 * median / total);
        if (rate > 0)
            printf(" %6.1f G/s, %.0f %% of the peak", rate, 100 * rate / peak);
        printf("\n");
    }
}

static void set_texts(struct bench *b, size_t n_texts, size_t shortest, size_t longest)
{
    b->n_texts = n_texts;
    for (size_t s = 0; s < n_texts; s++)
        b->starts[s + 1] =
            b->starts[s] + shortest + (longest - shortest) * (s * 7 % n_texts) / (n_texts - 1);
    b->n_tokens = b->starts[n_texts];
}

int main(int argc, char **argv)
{
    static struct bench b;
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    size_t n_rounds = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 5;
    struct packed_attention_shape shape = {HEADS, HEADS, HIDDEN / HEADS, 1.0F, false};

    if (n_rounds < 1 || n_rounds > MAX_ROUNDS)
        return 2;
    linear_init(&b.qkv, HIDDEN, 3 * (size_t)HIDDEN);
    linear_init(&b.out, HIDDEN, HIDDEN);
    linear_init(&b.up, HIDDEN, INTERMEDIATE);
    linear_init(&b.down, INTERMEDIATE, HIDDEN);
    b.rows.q = take(MAX_TOKENS, INTERMEDIATE);
    b.rows.scales = take(MAX_TOKENS * (size_t)INTERMEDIATE / PACKED_GROUP, sizeof(float));
    b.rows.starts = take(MAX_TOKENS * (size_t)INTERMEDIATE / PACKED_GROUP, sizeof(int32_t));
    b.rows.sums = take(MAX_TOKENS * (size_t)INTERMEDIATE / PACKED_GROUP, sizeof(float));
    b.wide = take(MAX_TOKENS * (size_t)INTERMEDIATE, sizeof(float));
    b.x = take(MAX_TOKENS * (size_t)HIDDEN, sizeof(float));
    b.y = take(MAX_TOKENS * (size_t)HIDDEN, sizeof(float));
    b.ones = take(HIDDEN, sizeof(float));
    for (size_t i = 0; i < HIDDEN; i++)
        b.ones[i] = 1.0F;
    for (size_t i = 0; i < n_sets; i++) {
        if (strcmp(sets[i]->name, argc > 1 ? argv[1] : sets[0]->name) != 0)
            continue;
        b.kernels = sets[i];
        b.scratch = take(b.kernels->attention->packed_scratch_bytes(&shape), 1);
        set_texts(&b, 32, 128, 128);
        measure(&b, "32 texts of 128 tokens", n_rounds);
        set_texts(&b, 32, 5, 250);
        measure(&b, "32 texts of 5 to 250 tokens", n_rounds);
        free(b.scratch);
    }
    linear_clear(&b.qkv);
    linear_clear(&b.out);
    linear_clear(&b.up);
    linear_clear(&b.down);
    free(b.rows.q);
    free(b.rows.scales);
    free(b.rows.starts);
    free(b.rows.sums);
    free(b.wide);
    free(b.x);
    free(b.y);
    free(b.ones);
    return 0;
}
