/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over vocabularies of 150,000 and more: nothing here sorts the whole vocabulary; a heap
 * gives just as many of the best as a filter needs.
 */
#include "engine/candidates.h"

#include "engine/logits.h"

#include <math.h>

enum { BLOCK = 512 };

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

/* exp of the scaled logits that stand in for the weights */
static void weigh(struct candidates *candidates, const struct candidate_source *source)
{
    size_t n = 0;

    for (size_t i = 0; i < candidates->n; i++) {
        struct candidate candidate = candidates->items[i];

        logits_weigh(&source->logits[candidate.id], 1, source->max, source->temperature,
                     &candidate.value);
        candidates->items[n] = candidate;
        n += candidate.value > 0;
    }
    candidates->n = n;
}

/* A heap of the k best so far with the worst on top, which most logits do not get past. */
struct candidates candidates_top_k(const struct candidate_source *source, size_t k,
                                   struct candidate *items)
{
    struct candidates kept = {items, k};

    for (size_t i = 0; i < k; i++)
        items[i] = (struct candidate){source->logits[i], (int32_t)i};
    make_heap(items, k, false);
    for (size_t i = k; i < source->vocab_size; i++) {
        /* an equal logit has the higher id here, so it ranks after */
        if (source->logits[i] > items[0].value) {
            items[0] = (struct candidate){source->logits[i], (int32_t)i};
            sift_down(items, k, 0, false);
        }
    }
    for (size_t m = k; m > 1; m--)
        pop_heap(items, m, false);
    weigh(&kept, source);
    return kept;
}

double candidates_sum(const struct candidates *candidates)
{
    double sum = 0;

    for (size_t i = 0; i < candidates->n; i++)
        sum += (double)candidates->items[i].value;
    return sum;
}

/* A token below (1 - top_p) / n of the sum is never kept: all such together weigh less than
 * 1 - top_p. Dropping these first makes the heap small. */
void candidates_keep_top_p(struct candidates *candidates, float top_p)
{
    struct candidate *items = candidates->items;
    double sum = candidates_sum(candidates);
    double least = (1 - (double)top_p) * sum / (double)candidates->n;
    size_t n_likely = 0;
    double kept = 0;

    for (size_t i = 0; i < candidates->n; i++) {
        if ((double)items[i].value >= least)
            items[n_likely++] = items[i];
    }
    make_heap(items, n_likely, true);

    size_t n_left = n_likely;
    while (n_left > 0 && (kept < (double)top_p * sum || n_left == n_likely)) {
        kept += (double)items[0].value;
        pop_heap(items, n_left, true);
        n_left--;
    }
    *candidates = (struct candidates){items + n_left, n_likely - n_left};
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
 * distance is |x - mean(x)|. The heap ranks by minus that. */
void candidates_keep_typical(struct candidates *candidates, const struct candidate_source *source,
                             float typical_p)
{
    struct candidate *items = candidates->items;
    double sum = candidates_sum(candidates);
    size_t n_left = candidates->n;
    double mean = 0;
    double kept = 0;

    for (size_t i = 0; i < candidates->n; i++)
        mean += (double)items[i].value * scaled_logit(source, items[i].id) / sum;
    for (size_t i = 0; i < candidates->n; i++)
        items[i].value = -(float)fabs(scaled_logit(source, items[i].id) - mean);
    make_heap(items, n_left, true);
    while (n_left > 0 && (kept < (double)typical_p * sum || n_left == candidates->n)) {
        float weight;

        logits_weigh(&source->logits[items[0].id], 1, source->max, source->temperature, &weight);
        kept += (double)weight;
        pop_heap(items, n_left, true);
        n_left--;
    }
    *candidates = (struct candidates){items + n_left, candidates->n - n_left};
    weigh(candidates, source);
}

int32_t candidates_draw(const struct candidates *candidates, double u)
{
    double aim = u * candidates_sum(candidates);
    double passed = 0;
    size_t i = 0;

    /* the last is also what rounding leaves over */
    for (; i + 1 < candidates->n; i++) {
        passed += (double)candidates->items[i].value;
        if (passed > aim)
            break;
    }
    return candidates->items[i].id;
}
