/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over vocabularies of 150,000 and more: nothing here sorts the whole vocabulary. Buckets
 * narrow a filter's limit down, and a heap gives just as many of the best as it needs.
 */
#include "engine/candidates.h"

#include "engine/logits.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 512, SUM_LANES = 4, N_BUCKETS = 4096 };

bool candidate_ranks_before(struct candidate a, struct candidate b)
{
    return a.value != b.value ? a.value > b.value : a.id < b.id;
}

/* Restores the heap below `root`: the best candidate at the top, or the worst. */
static void sift_down(struct candidate *heap, size_t n, size_t root, bool best_on_top)
{
    struct candidate moved = heap[root];

    for (size_t child = 2 * root + 1; child < n; child = 2 * root + 1) {
        if (child + 1 < n && candidate_ranks_before(heap[child + 1], heap[child]) == best_on_top)
            child++;
        if (candidate_ranks_before(heap[child], moved) != best_on_top)
            break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = moved;
}

static void make_heap(struct candidate *heap, size_t n, bool best_on_top)
{
    for (size_t i = n / 2; i > 0; i--)
        sift_down(heap, n, i - 1, best_on_top);
}

/* Moves the top behind the heap, which becomes one smaller. */
static void pop_heap(struct candidate *heap, size_t n, bool best_on_top)
{
    struct candidate top = heap[0];

    heap[0] = heap[n - 1];
    heap[n - 1] = top;
    sift_down(heap, n - 1, 0, best_on_top);
}

struct candidates candidates_all(const struct candidate_source *source, struct candidate *items)
{
    float weights[BLOCK];
    size_t n = 0;

    for (size_t i = 0; i < source->vocab_size; i += BLOCK) {
        size_t n_left = source->vocab_size - i;
        size_t n_block = n_left < BLOCK ? n_left : BLOCK;

        logits_weigh(source->logits + i, n_block, source->max, source->temperature, weights);
        for (size_t j = 0; j < n_block; j++) {
            items[n] = (struct candidate){weights[j], (int32_t)(i + j)};
            n += weights[j] > 0;
        }
    }
    return (struct candidates){items, n};
}

/* Sets the weights by the ids, and drops those whose weight is 0. */
static void weigh(struct candidates *candidates, const struct candidate_source *source)
{
    float values[BLOCK];
    size_t n = 0;

    for (size_t i = 0; i < candidates->n; i += BLOCK) {
        const struct candidate *block = candidates->items + i;
        size_t n_block = candidates->n - i < BLOCK ? candidates->n - i : BLOCK;

        for (size_t j = 0; j < n_block; j++)
            values[j] = source->logits[block[j].id];
        logits_weigh(values, n_block, source->max, source->temperature, values);
        for (size_t j = 0; j < n_block; j++) {
            candidates->items[n] = (struct candidate){values[j], block[j].id};
            n += values[j] > 0;
        }
    }
    candidates->n = n;
}

/* A heap of the k best so far with the worst on top, which most logits do not get past. */
struct candidates candidates_top_k(const struct candidate_source *source, size_t k,
                                   struct candidate *items)
{
    const float *logits = source->logits;
    size_t n = source->vocab_size;
    struct candidates kept = {items, k};

    for (size_t i = 0; i < k; i++)
        items[i] = (struct candidate){logits[i], (int32_t)i};
    make_heap(items, k, false);
    /* an equal logit has the higher id here, so it ranks after */
    for (size_t i = logits_next_over(logits, k, n, items[0].value); i < n;
         i = logits_next_over(logits, i + 1, n, items[0].value)) {
        items[0] = (struct candidate){logits[i], (int32_t)i};
        sift_down(items, k, 0, false);
    }
    for (size_t m = k; m > 1; m--)
        pop_heap(items, m, false);
    weigh(&kept, source);
    return kept;
}

static double sum_of(const struct candidate *items, size_t n)
{
    size_t n_whole = n - n % SUM_LANES;
    double sums[SUM_LANES] = {0};

    for (size_t i = 0; i < n_whole; i += SUM_LANES) {
        for (size_t j = 0; j < SUM_LANES; j++)
            sums[j] += (double)items[i + j].value;
    }
    for (size_t i = n_whole; i < n; i++)
        sums[0] += (double)items[i].value;
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

double candidates_sum(const struct candidates *candidates)
{
    return sum_of(candidates->items, candidates->n);
}

/* Buckets of values from 0 to 1 by the exponent and five bits of the mantissa, so by rank. */
static size_t bucket_of(float value)
{
    union {
        float f;
        uint32_t i;
    } bits = {.f = value};

    return bits.i >> 18;
}

/* Moves the items of this bucket and better ones to the front; gives their number. */
static size_t bring_forward(struct candidate *items, size_t n, size_t first_bucket)
{
    size_t n_brought = 0;

    for (size_t i = 0; i < n; i++) {
        if (bucket_of(items[i].value) >= first_bucket) {
            struct candidate moved = items[i];

            items[i] = items[n_brought];
            items[n_brought++] = moved;
        }
    }
    return n_brought;
}

/* Keeps the fewest best by value whose weights reach `aim`. masses [N_BUCKETS] are the sums of the
 * weights of each bucket of values: whole buckets are kept as long as they do not reach the aim,
 * and a heap ranks only the one that does. With a source the weights are from there, else they are
 * the values. */
static void keep_mass(struct candidates *candidates, const double *masses, double aim,
                      const struct candidate_source *source)
{
    struct candidate *items = candidates->items;
    size_t bucket = N_BUCKETS;
    double kept = 0;

    while (bucket > 0 && kept + masses[bucket - 1] < aim)
        kept += masses[--bucket];

    size_t n_sure = bring_forward(items, candidates->n, bucket);
    struct candidate *edge = items + n_sure;
    size_t n_edge = bucket > 0 ? bring_forward(edge, candidates->n - n_sure, bucket - 1) : 0;
    size_t n_left = n_edge;
    make_heap(edge, n_edge, true);
    while (n_left > 0 && (kept < aim || n_sure + n_edge == n_left)) {
        float weight = edge[0].value;

        if (source)
            logits_weigh(&source->logits[edge[0].id], 1, source->max, source->temperature, &weight);
        kept += (double)weight;
        pop_heap(edge, n_left, true);
        n_left--;
    }
    memmove(edge, edge + n_left, (n_edge - n_left) * sizeof *edge);
    candidates->n = n_sure + n_edge - n_left;
}

void candidates_keep_top_p(struct candidates *candidates, float top_p)
{
    double masses[N_BUCKETS] = {0};

    for (size_t i = 0; i < candidates->n; i++)
        masses[bucket_of(candidates->items[i].value)] += (double)candidates->items[i].value;
    keep_mass(candidates, masses, (double)top_p * candidates_sum(candidates), NULL);
}

void candidates_keep_min_p(struct candidates *candidates, float min_p)
{
    size_t n = 0;

    for (size_t i = 0; i < candidates->n; i++) {
        if (candidates->items[i].value >= min_p)
            candidates->items[n++] = candidates->items[i];
    }
    candidates->n = n;
}

static double scaled_logit(const struct candidate_source *source, int32_t id)
{
    return (double)((source->logits[id] - source->max) / source->temperature);
}

/* With x = scaled logit, -log(p) is log(sum) - x, and the entropy log(sum) - mean(x): their
 * distance is |x - mean(x)|. Ranked by 1 / (1 + distance), which is from 0 to 1. */
void candidates_keep_typical(struct candidates *candidates, const struct candidate_source *source,
                             float typical_p)
{
    double masses[N_BUCKETS] = {0};
    double sum = candidates_sum(candidates);
    double mean = 0;

    for (size_t i = 0; i < candidates->n; i++)
        mean += (double)candidates->items[i].value * scaled_logit(source, candidates->items[i].id);
    mean /= sum;
    for (size_t i = 0; i < candidates->n; i++) {
        struct candidate *item = &candidates->items[i];
        double weight = (double)item->value;

        item->value = (float)(1 / (1 + fabs(scaled_logit(source, item->id) - mean)));
        masses[bucket_of(item->value)] += weight;
    }
    keep_mass(candidates, masses, (double)typical_p * sum, source);
    weigh(candidates, source);
}

int32_t candidates_draw(const struct candidates *candidates, double u)
{
    const struct candidate *items = candidates->items;
    double aim = u * candidates_sum(candidates);
    size_t n = candidates->n;
    size_t i = 0;

    /* whole blocks first; the last token is also what rounding leaves over */
    while (i + BLOCK < n) {
        double mass = sum_of(items + i, BLOCK);

        if (mass > aim)
            break;
        aim -= mass;
        i += BLOCK;
    }
    for (; i + 1 < n; i++) {
        aim -= (double)items[i].value;
        if (aim < 0)
            break;
    }
    return items[i].id;
}
