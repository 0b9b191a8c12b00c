/* SPDX-License-Identifier: Apache-2.0
 *
 * How attention over the pool is cut, and one unit of it.
 */
#include "ops/attend_units.h"

enum { MIN_SEQUENCES_TO_JOIN_HEADS = 6 };

/* Writes the units if `units` is not NULL; returns how many there are.
 *
 * The last rows of a sequence see the most keys: they come first, so that the short units fill the
 * end of the parallel loop. A row tile is 32 rows where several query heads share a kv head, which
 * gives the kernel enough rows to work on. When many sequences decode, one unit takes all heads of
 * a sequence: its pieces share pages, and units are many enough. */
static size_t cut_units(const struct attend_units *work, struct attend_unit *units)
{
    const struct attention_shape *shape = work->shape;
    size_t most = work->kernels->rows_per_call;
    size_t tile_rows = shape->n_heads / shape->n_kv_heads >= 3 && most > 32 ? 32 : most;
    size_t n = 0;

    for (size_t s = 0; s < work->batch->n_sequences; s++) {
        size_t n_rows = paged_batch_rows(work->batch, s);
        size_t n_heads = n_rows == 1 && work->batch->n_sequences >= MIN_SEQUENCES_TO_JOIN_HEADS
                             ? shape->n_kv_heads
                             : 1;

        for (size_t tile = (n_rows + tile_rows - 1) / tile_rows; tile-- > 0;) {
            size_t begin = tile * tile_rows;
            size_t rows = n_rows - begin < tile_rows ? n_rows - begin : tile_rows;

            for (size_t head = 0; head < shape->n_kv_heads; head += n_heads, n++) {
                if (units)
                    units[n] = (struct attend_unit){
                        .sequence = (uint32_t)s,
                        .head_begin = (uint16_t)head,
                        .head_end = (uint16_t)(head + n_heads),
                        .row_begin = (uint32_t)begin,
                        .n_rows = (uint32_t)rows,
                    };
            }
        }
    }
    return n;
}

static size_t unit_bytes(const struct attend_units *work)
{
    return (work->n_units * sizeof *work->units + 63) / 64 * 64;
}

size_t attend_units_bytes(struct attend_units *work)
{
    work->n_units = cut_units(work, NULL);
    scratch_slots_init(&work->slots, work->n_units,
                       work->kernels->attention_scratch_bytes(work->shape));
    return unit_bytes(work) + scratch_slots_bytes(&work->slots);
}

void attend_units_cut(struct attend_units *work, void *memory)
{
    work->units = memory;
    work->slots.memory = (char *)memory + unit_bytes(work);
    cut_units(work, work->units);
}

void attend_units_run(void *data, size_t i)
{
    struct attend_units *work = data;
    const struct paged_batch *batch = work->batch;
    const struct attend_unit *unit = &work->units[i];
    size_t row = (size_t)batch->query_start[unit->sequence] + unit->row_begin;
    size_t context = paged_batch_context(batch, unit->sequence);
    size_t position = work->shape->is_cross
                          ? context - 1
                          : context - paged_batch_rows(batch, unit->sequence) + unit->row_begin;
    size_t out_width = work->shape->n_heads * work->shape->head_size;
    unsigned slot = scratch_slots_take(&work->slots);

    for (size_t head = unit->head_begin; head < unit->head_end; head++)
        work->kernels->attend(
            work->shape, work->q + row * work->q_stride, work->q_stride, unit->n_rows, position,
            head, work->pool, batch->block_table + unit->sequence * batch->blocks_per_row,
            scratch_slots_memory(&work->slots, slot), work->out + row * out_width, out_width);
    scratch_slots_give(&work->slots, slot);
}
