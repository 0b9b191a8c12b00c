/* SPDX-License-Identifier: Apache-2.0
 *
 * Laying out tiles of 64 output columns. A tile is built one column (one row of a source tensor) at
 * a time: its integers are read or made, then scattered with one 32-bit store for each 4 (8 bit) or
 * 8 (4 bit) of them. Columns past n stay zero with zero scales, as packed.h asks.
 */
#include "convert/pack.h"

#include "base/error.h"
#include "base/half.h"
#include "base/memory.h"
#include "convert/quantize.h"

#include <stdlib.h>
#include <string.h>

enum { FORGET_ROWS = 16 * PACKED_TILE };

/* The bits a tensor is kept in, were it alone. */
static int own_bits(const struct tensor *tensor)
{
    return tensor_groups(tensor).bits == 4 ? 4 : 8;
}

/* Whether the 4-bit values a tensor has already fit groups of 64 without mins. */
static bool is_wide(const struct tensor *tensor)
{
    struct tensor_groups groups = tensor_groups(tensor);

    return groups.bits == 4 && !groups.has_mins && groups.size % PACKED_WIDE_GROUP == 0;
}

static kvern_status check_parts(const struct tensor *const *parts, size_t n_parts, kvern_error *err)
{
    for (size_t i = 0; i < n_parts; i++) {
        const struct tensor *part = parts[i];

        if (part->n_dims != 2)
            return fail(err, KVERN_FORMAT, "%s should be a matrix; it has %zu dimensions",
                        part->name, part->n_dims);
        if (part->dims[1] != parts[0]->dims[1])
            return fail(err, KVERN_FORMAT, "%s has K = %zu and %s, stacked with it, K = %zu",
                        parts[0]->name, parts[0]->dims[1], part->name, part->dims[1]);
    }
    return KVERN_OK;
}

kvern_status pack_plan_make(struct pack_plan *plan, const struct tensor *const *parts,
                            size_t n_parts, enum weights_choice choice, kvern_error *err)
{
    struct pack_plan made = {.n_parts = n_parts, .bits = 4, .group = PACKED_GROUP};
    bool has_4_bit = false;
    bool are_wide = true;
    size_t n_scales;

    if (n_parts < 1 || n_parts > PACK_MAX_PARTS)
        return fail(err, KVERN_INVALID, "a packed matrix has 1 to %d parts, not %zu",
                    PACK_MAX_PARTS, n_parts);
    kvern_status status = check_parts(parts, n_parts, err);
    if (status != KVERN_OK)
        return status;
    made.k = parts[0]->dims[1];
    for (size_t i = 0; i < n_parts; i++) {
        made.parts[i] = parts[i];
        struct tensor_groups groups = tensor_groups(parts[i]);
        made.has_mins = made.has_mins || groups.bits != 4 || groups.has_mins;
        are_wide = are_wide && is_wide(parts[i]);
        if (own_bits(parts[i]) == 8)
            made.bits = 8;
        else
            has_4_bit = true;
        if (!add_sizes(made.n, parts[i]->dims[0], &made.n))
            return fail(err, KVERN_LIMIT, "%s and what is stacked with it is too large",
                        parts[0]->name);
    }
    if (choice != WEIGHTS_KEEP)
        made.bits = choice == WEIGHTS_Q4 ? 4 : choice == WEIGHTS_Q8 ? 8 : 32;
    else if (made.k % PACKED_GROUP != 0)
        made.bits = 32;
    if (made.bits == 4 && (!has_4_bit || are_wide) && made.k % PACKED_WIDE_GROUP == 0) {
        made.group = PACKED_WIDE_GROUP;
        made.has_mins = false;
    }
    made.has_mins = made.has_mins && made.bits == 4;
    if (made.n == 0 || made.k == 0)
        return fail(err, KVERN_FORMAT, "%s is empty", parts[0]->name);
    if (made.bits != 32 && made.k % PACKED_GROUP != 0)
        return fail(err, KVERN_UNSUPPORTED, "q%d needs K divisible by %d; %s has K = %zu",
                    made.bits, PACKED_GROUP, parts[0]->name, made.k);
    made.n_tiles = packed_n_tiles(made.n);
    if (!multiply_sizes(made.k, PACKED_TILE * sizeof(float), &made.tile_bytes) ||
        !multiply_sizes(made.tile_bytes, made.n_tiles, &made.data_bytes))
        return fail(err, KVERN_LIMIT, "%s with %zu x %zu values is too large", parts[0]->name,
                    made.n, made.k);
    made.tile_bytes = packed_tile_bytes(made.bits, made.k);
    made.data_bytes = made.tile_bytes * made.n_tiles;
    made.tile_scales = made.bits == 32 ? 0 : made.k / made.group * PACKED_TILE;
    n_scales = made.tile_scales * made.n_tiles;
    made.scales_bytes = n_scales * sizeof(uint16_t);
    *plan = made;
    return KVERN_OK;
}

/* Working memory for one column. */
struct column {
    float *values;    /* [k] */
    uint8_t *q;       /* [k] */
    uint16_t *scales; /* [k / group], room for k / 32 */
    uint16_t *mins;   /* [k / 32] */
};

static bool all_finite(const uint16_t *halves, size_t n)
{
    bool finite = true;

    for (size_t i = 0; i < n; i++)
        finite = finite && half_is_finite(halves[i]);
    return finite;
}

static void read_values(const struct pack_plan *plan, const struct tensor *part, size_t row,
                        float *values)
{
    tensor_read_row(part, row, values);
    for (size_t i = 0; plan->k_scale && i < plan->k; i++)
        values[i] *= plan->k_scale[i];
}

/* Integers, scales and mins of one source row, in the plan's bits. */
static bool read_column(const struct pack_plan *plan, const struct tensor *part, size_t row,
                        struct column *column)
{
    size_t n_groups = plan->k / PACKED_GROUP;
    size_t step = plan->group / PACKED_GROUP;

    if (tensor_groups(part).bits == plan->bits && !plan->k_scale) {
        if (!tensor_read_groups(part, row, column->q, column->scales, column->mins) &&
            /* without mins, those of Q4_0 are not stored and need not fit */
            !(plan->bits == 4 && !plan->has_mins))
            return false;
        for (size_t g = 1; g < plan->k / plan->group; g++) /* a wide group's halves are alike */
            column->scales[g] = column->scales[g * step];
        return all_finite(column->scales, plan->k / plan->group) &&
               (!plan->has_mins || all_finite(column->mins, n_groups));
    }
    read_values(plan, part, row, column->values);
    if (plan->bits == 8)
        return quantize_row_q8(column->values, plan->k, column->q, column->scales);
    if (plan->group == PACKED_WIDE_GROUP)
        return quantize_row_q4_symmetric(column->values, plan->k, column->q, column->scales);
    return quantize_row_q4(column->values, plan->k, column->q, column->scales, column->mins);
}

static void scatter_q8(const uint8_t *q, size_t k, size_t column, uint8_t *tile)
{
    uint8_t *out = tile + column * 4;

    for (size_t i = 0; i < k; i += 4, out += 4 * PACKED_TILE)
        memcpy(out, q + i, 4);
}

static void scatter_q4(const uint8_t *q, size_t k, size_t column, uint8_t *tile)
{
    uint8_t *out = tile + column * 4;

    for (size_t i = 0; i < k; i += 8, out += 4 * PACKED_TILE) {
        uint32_t low, high;

        memcpy(&low, q + i, 4);
        memcpy(&high, q + i + 4, 4);
        low |= high << 4;
        memcpy(out, &low, 4);
    }
}

static bool are_finite(const float *values, size_t n)
{
    float zero = 0; /* stays 0 for finite values: inf * 0 and nan * 0 are nan */

    for (size_t i = 0; i < n; i++)
        zero += values[i] * 0;
    return zero == 0;
}

static void scatter_f32(const float *values, size_t k, size_t column, float *tile)
{
    for (size_t i = 0; i < k; i++)
        tile[i * PACKED_TILE + column] = values[i];
}

/* Padding columns must give exactly zero: all bits zero, but 8 bit stores zero as 128. */
static void clear_tile(const struct pack_plan *plan, void *data, uint16_t *scales, uint16_t *mins)
{
    memset(data, plan->bits == 8 ? 128 : 0, plan->tile_bytes);
    if (scales)
        memset(scales, 0, plan->tile_scales * sizeof *scales);
    if (mins)
        memset(mins, 0, plan->tile_scales * sizeof *mins);
}

/* The part and its row that output column `n` comes from. */
static const struct tensor *find_part(const struct pack_plan *plan, size_t n, size_t *row)
{
    size_t i = 0;

    for (; n >= plan->parts[i]->dims[0]; i++)
        n -= plan->parts[i]->dims[0];
    *row = n;
    return plan->parts[i];
}

static kvern_status write_column(const struct pack_plan *plan, size_t n, struct column *column,
                                 void *data, uint16_t *scales, uint16_t *mins, kvern_error *err)
{
    size_t row;
    const struct tensor *part = find_part(plan, n, &row);
    size_t at = n % PACKED_TILE;

    if (plan->bits == 32) {
        read_values(plan, part, row, column->values);
        if (!are_finite(column->values, plan->k))
            return fail(err, KVERN_FORMAT, "row %zu of %s holds a value that is not finite", row,
                        part->name);
        scatter_f32(column->values, plan->k, at, data);
        return KVERN_OK;
    }
    if (!read_column(plan, part, row, column))
        return fail(err, KVERN_FORMAT,
                    "row %zu of %s holds a value that is not finite or too large for q%d", row,
                    part->name, plan->bits);
    if (plan->bits == 8)
        scatter_q8(column->q, plan->k, at, data);
    else
        scatter_q4(column->q, plan->k, at, data);
    for (size_t g = 0; g < plan->k / plan->group; g++) {
        scales[g * PACKED_TILE + at] = column->scales[g];
        if (plan->has_mins)
            mins[g * PACKED_TILE + at] = column->mins[g];
    }
    return KVERN_OK;
}

kvern_status pack_write_tile(const struct pack_plan *plan, size_t tile, void *data,
                             uint16_t *scales, uint16_t *mins, kvern_error *err)
{
    size_t n_groups = plan->k / PACKED_GROUP;
    struct column column = {
        .values = try_new(plan->k, sizeof *column.values),
        .q = try_new(plan->k, 1),
        .scales = try_new(n_groups, sizeof *column.scales),
        .mins = try_new(n_groups, sizeof *column.mins),
    };
    size_t end = (tile + 1) * PACKED_TILE < plan->n ? (tile + 1) * PACKED_TILE : plan->n;
    kvern_status status = KVERN_OK;

    if (!column.values || !column.q || !column.scales || !column.mins) {
        status = fail(err, KVERN_MEMORY, "no memory for a row of %s (K = %zu)",
                      plan->parts[0]->name, plan->k);
        goto done;
    }
    clear_tile(plan, data, scales, mins);
    for (size_t n = tile * PACKED_TILE; n < end && status == KVERN_OK; n++)
        status = write_column(plan, n, &column, data, scales, mins, err);
done:
    free(column.values);
    free(column.q);
    free(column.scales);
    free(column.mins);
    return status;
}

/* Gives the pages of source rows [begin, end), counted over all parts, back to the OS. */
static void forget_columns(const struct pack_plan *plan, size_t begin, size_t end)
{
    size_t first = 0;

    for (size_t i = 0; i < plan->n_parts; i++) {
        size_t n_rows = plan->parts[i]->dims[0];
        size_t from = begin > first ? begin - first : 0;
        size_t to = end < first ? 0 : end - first < n_rows ? end - first : n_rows;

        tensor_forget_rows(plan->parts[i], from, to);
        first += n_rows;
    }
}

kvern_status pack_write(const struct pack_plan *plan, void *data, uint16_t *scales, uint16_t *mins,
                        kvern_error *err)
{
    kvern_status status = KVERN_OK;
    size_t n_forgotten = 0;

    for (size_t tile = 0; tile < plan->n_tiles && status == KVERN_OK; tile++) {
        size_t at = tile * plan->tile_scales;
        size_t n_done = (tile + 1) * PACKED_TILE;

        status = pack_write_tile(plan, tile, (char *)data + tile * plan->tile_bytes,
                                 scales ? scales + at : NULL, mins ? mins + at : NULL, err);
        if (n_done - n_forgotten >= FORGET_ROWS || n_done >= plan->n) {
            forget_columns(plan, n_forgotten, n_done < plan->n ? n_done : plan->n);
            n_forgotten = n_done;
        }
    }
    return status;
}
