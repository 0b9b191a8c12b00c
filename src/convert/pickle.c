/* SPDX-License-Identifier: Apache-2.0
 *
 * The pickle machine: a stack, marks and a memo, driven by a table of the opcodes that are known.
 * Its memory is bounded by the pickle's own bytes and by PICKLE_MAX_VALUES: each opcode makes at
 * most one value and moves what is on the stack. Nothing recurs, and strings are never copied.
 */
#include "convert/pickle.h"

#include "base/error.h"
#include "base/memory.h"
#include "convert/pickle_calls.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MARKS = 256, MAX_STACK = 1 << 20, MAX_LONG_BYTES = 8, PROTOCOL = 0x80, STOP = '.' };

struct machine {
    struct pickle *pickle;
    const uint8_t *data;
    size_t n_bytes;
    size_t at;        /* of the next byte */
    size_t opcode_at; /* of the opcode that runs */
    uint32_t *stack;  /* [n_stack] of values */
    size_t n_stack;
    size_t marks[MAX_MARKS]; /* places in the stack */
    size_t n_marks;
    uint32_t *memo; /* [n_memo] of values */
    size_t n_memo;
    bool has_stopped;
    kvern_error *err;
};

void *pickle_make_room(void *items, size_t n, size_t item_bytes)
{
    bool is_full = (n & (n - 1)) == 0; /* 0 too */

    return is_full ? try_resize(items, n ? 2 * n : 1, item_bytes) : items;
}

kvern_status pickle_add(struct pickle *pickle, struct pickle_value value, uint32_t *index,
                        kvern_error *err)
{
    struct pickle_value *values;

    if (pickle->n_values == PICKLE_MAX_VALUES)
        return fail(err, KVERN_LIMIT, "there are more than %d values", PICKLE_MAX_VALUES);
    values = pickle_make_room(pickle->values, pickle->n_values, sizeof *values);
    if (!values)
        return fail(err, KVERN_MEMORY, "no memory for %zu values", pickle->n_values);
    pickle->values = values;
    values[pickle->n_values] = value;
    *index = (uint32_t)pickle->n_values++;
    return KVERN_OK;
}

/* Puts `value` behind the last item of a container. */
static kvern_status add_item(struct machine *m, uint32_t container, uint32_t value)
{
    struct pickle *pickle = m->pickle;
    struct pickle_value *to = &pickle->values[container];
    struct pickle_item *items;

    if (pickle->n_items == PICKLE_MAX_VALUES)
        return fail(m->err, KVERN_LIMIT, "containers have more than %d items", PICKLE_MAX_VALUES);
    items = pickle_make_room(pickle->items, pickle->n_items, sizeof *items);
    if (!items)
        return fail(m->err, KVERN_MEMORY, "no memory for %zu items", pickle->n_items);
    pickle->items = items;
    items[pickle->n_items] = (struct pickle_item){value, PICKLE_NO_ITEM};
    if (to->n == 0)
        to->items.first = (uint32_t)pickle->n_items;
    else
        items[to->items.last].next = (uint32_t)pickle->n_items;
    to->items.last = (uint32_t)pickle->n_items++;
    to->n++;
    return KVERN_OK;
}

/* ---- bytes, stack and memo ---- */

static kvern_status take(struct machine *m, uint64_t n, const uint8_t **bytes)
{
    if (n > m->n_bytes - m->at)
        return fail(m->err, KVERN_FORMAT, "the pickle ends inside an opcode's %llu bytes",
                    (unsigned long long)n);
    *bytes = m->data + m->at;
    m->at += (size_t)n;
    return KVERN_OK;
}

/* Reads `n` bytes, at most 8, as a little-endian number. */
static kvern_status take_number(struct machine *m, unsigned n, uint64_t *number)
{
    const uint8_t *bytes = NULL;
    kvern_status status = take(m, n, &bytes);

    *number = 0;
    for (unsigned i = 0; status == KVERN_OK && i < n; i++)
        *number |= (uint64_t)bytes[i] << 8 * i;
    return status;
}

static kvern_status push_index(struct machine *m, uint32_t value)
{
    uint32_t *stack;

    if (m->n_stack == MAX_STACK)
        return fail(m->err, KVERN_LIMIT, "the stack has more than %d values", MAX_STACK);
    stack = pickle_make_room(m->stack, m->n_stack, sizeof *stack);
    if (!stack)
        return fail(m->err, KVERN_MEMORY, "no memory for a stack of %zu", m->n_stack);
    m->stack = stack;
    stack[m->n_stack++] = value;
    return KVERN_OK;
}

static kvern_status push(struct machine *m, struct pickle_value value)
{
    uint32_t index;
    kvern_status status = pickle_add(m->pickle, value, &index, m->err);

    return status == KVERN_OK ? push_index(m, index) : status;
}

/* Takes `n` values off the top, none from below a mark: *values are they, as long as nothing is
 * pushed. */
static kvern_status pop(struct machine *m, size_t n, const uint32_t **values)
{
    size_t bottom = m->n_marks ? m->marks[m->n_marks - 1] : 0;

    if (m->n_stack - bottom < n)
        return fail(m->err, KVERN_FORMAT, "an opcode takes %zu values off a stack of %zu", n,
                    m->n_stack - bottom);
    m->n_stack -= n;
    *values = m->stack + m->n_stack;
    return KVERN_OK;
}

static kvern_status pop_to_mark(struct machine *m, const uint32_t **values, size_t *n)
{
    if (m->n_marks == 0)
        return fail(m->err, KVERN_FORMAT, "an opcode asks for a mark that is not there");
    size_t bottom = m->marks[--m->n_marks];
    *n = m->n_stack - bottom;
    *values = m->stack ? m->stack + bottom : NULL; /* nothing was ever pushed */
    m->n_stack = bottom;
    return KVERN_OK;
}

static kvern_status put_memo(struct machine *m, uint64_t place)
{
    const uint32_t *top = NULL;
    uint32_t *memo;
    kvern_status status = pop(m, 1, &top);

    if (status != KVERN_OK)
        return status;
    m->n_stack++; /* it stays */
    /* pickles number what they keep in order; a place far ahead would only cost memory */
    if (place > m->n_memo)
        return fail(m->err, KVERN_UNSUPPORTED, "memo %llu comes after %zu",
                    (unsigned long long)place, m->n_memo);
    if (place == m->n_memo) {
        memo = pickle_make_room(m->memo, m->n_memo, sizeof *memo);
        if (!memo)
            return fail(m->err, KVERN_MEMORY, "no memory for a memo of %zu", m->n_memo);
        m->memo = memo;
        m->n_memo++;
    }
    m->memo[place] = *top;
    return KVERN_OK;
}

/* ---- opcodes; `argument` is the table's ---- */

static kvern_status run_protocol(struct machine *m, unsigned argument)
{
    uint64_t version;
    kvern_status status = take_number(m, 1, &version);

    (void)argument;
    if (status == KVERN_OK && m->opcode_at != 0)
        return fail(m->err, KVERN_FORMAT, "the protocol is told a second time");
    if (status == KVERN_OK && (version < 2 || version > 5))
        return fail(m->err, KVERN_UNSUPPORTED, "pickle protocol %u is none of 2 to 5",
                    (unsigned)version);
    return status;
}

/* Frames only help who reads from a stream. */
static kvern_status run_frame(struct machine *m, unsigned argument)
{
    uint64_t n_bytes;
    kvern_status status = take_number(m, argument, &n_bytes);

    if (status == KVERN_OK && n_bytes > m->n_bytes - m->at)
        return fail(m->err, KVERN_FORMAT, "a frame of %llu bytes runs past the end",
                    (unsigned long long)n_bytes);
    return status;
}

static kvern_status run_stop(struct machine *m, unsigned argument)
{
    (void)argument;
    if (m->n_stack != 1 || m->n_marks != 0)
        return fail(m->err, KVERN_FORMAT, "the pickle ends with %zu values and %zu marks",
                    m->n_stack, m->n_marks);
    if (m->at != m->n_bytes)
        return fail(m->err, KVERN_FORMAT, "%zu bytes follow the pickle's end", m->n_bytes - m->at);
    m->pickle->root = m->stack[0];
    m->has_stopped = true;
    return KVERN_OK;
}

static kvern_status run_mark(struct machine *m, unsigned argument)
{
    (void)argument;
    if (m->n_marks == MAX_MARKS)
        return fail(m->err, KVERN_LIMIT, "there are more than %d marks at once", MAX_MARKS);
    m->marks[m->n_marks++] = m->n_stack;
    return KVERN_OK;
}

/* None, or an empty container. */
static struct pickle_value empty_value(enum pickle_kind kind)
{
    return (struct pickle_value){.kind = kind, .items = {PICKLE_NO_ITEM, PICKLE_NO_ITEM}};
}

static kvern_status run_empty(struct machine *m, unsigned argument)
{
    return push(m, empty_value((enum pickle_kind)argument));
}

static kvern_status run_bool(struct machine *m, unsigned argument)
{
    return push(m, (struct pickle_value){.kind = PICKLE_BOOL, .integer = argument});
}

static kvern_status run_unsigned(struct machine *m, unsigned argument)
{
    uint64_t number;
    kvern_status status = take_number(m, argument, &number);

    if (status != KVERN_OK)
        return status;
    return push(m, (struct pickle_value){.kind = PICKLE_INT, .integer = (int64_t)number});
}

static kvern_status run_int32(struct machine *m, unsigned argument)
{
    uint64_t number;
    kvern_status status = take_number(m, argument, &number);

    if (status != KVERN_OK)
        return status;
    return push(m, (struct pickle_value){.kind = PICKLE_INT, .integer = (int32_t)number});
}

/* A number of as many bytes as the first one says, two's complement. */
static kvern_status run_long(struct machine *m, unsigned argument)
{
    uint64_t n, number;
    kvern_status status = take_number(m, argument, &n);

    if (status == KVERN_OK && n > MAX_LONG_BYTES)
        return fail(m->err, KVERN_UNSUPPORTED, "an integer has %u bytes; up to %d are read",
                    (unsigned)n, MAX_LONG_BYTES);
    if (status == KVERN_OK)
        status = take_number(m, (unsigned)n, &number);
    if (status != KVERN_OK)
        return status;
    if (n > 0 && n < 8 && number >> (8 * n - 1))
        number |= UINT64_MAX << 8 * n;
    return push(m, (struct pickle_value){.kind = PICKLE_INT, .integer = (int64_t)number});
}

/* Learning rates and the like: no tensor needs their values. */
static kvern_status run_float(struct machine *m, unsigned argument)
{
    const uint8_t *ignored = NULL;
    kvern_status status = take(m, argument, &ignored);

    return status == KVERN_OK ? push(m, (struct pickle_value){.kind = PICKLE_FLOAT}) : status;
}

static kvern_status run_string(struct machine *m, unsigned argument)
{
    const uint8_t *bytes = NULL;
    uint64_t n;
    kvern_status status = take_number(m, argument, &n);

    if (status == KVERN_OK)
        status = take(m, n, &bytes);
    if (status != KVERN_OK)
        return status;
    return push(m, (struct pickle_value){
                       .kind = PICKLE_STRING, .n = (uint32_t)n, .text = (const char *)bytes});
}

static kvern_status run_put(struct machine *m, unsigned argument)
{
    uint64_t place;
    kvern_status status = take_number(m, argument, &place);

    return status == KVERN_OK ? put_memo(m, place) : status;
}

static kvern_status run_memoize(struct machine *m, unsigned argument)
{
    (void)argument;
    return put_memo(m, m->n_memo);
}

static kvern_status run_get(struct machine *m, unsigned argument)
{
    uint64_t place;
    kvern_status status = take_number(m, argument, &place);

    if (status != KVERN_OK)
        return status;
    if (place >= m->n_memo)
        return fail(m->err, KVERN_FORMAT, "memo %llu is asked for, of %zu",
                    (unsigned long long)place, m->n_memo);
    return push_index(m, m->memo[place]);
}

/* A tuple of the top `argument` values, or of all to the mark. */
static kvern_status run_tuple(struct machine *m, unsigned argument)
{
    const uint32_t *values = NULL;
    size_t n = argument;
    uint32_t tuple;
    kvern_status status = n ? pop(m, n, &values) : pop_to_mark(m, &values, &n);

    if (status == KVERN_OK)
        status = pickle_add(m->pickle, empty_value(PICKLE_TUPLE), &tuple, m->err);
    for (size_t i = 0; i < n && status == KVERN_OK; i++)
        status = add_item(m, tuple, values[i]);
    return status == KVERN_OK ? push_index(m, tuple) : status;
}

/* Puts the top `argument` values, or all to the mark, into the container below them. */
static kvern_status add_items(struct machine *m, unsigned argument, bool is_dict)
{
    const uint32_t *values = NULL, *container = NULL;
    size_t n = argument;
    kvern_status status = n ? pop(m, n, &values) : pop_to_mark(m, &values, &n);

    if (status == KVERN_OK)
        status = pop(m, 1, &container);
    if (status != KVERN_OK)
        return status;
    m->n_stack++; /* the container stays */
    const struct pickle_value *to = &m->pickle->values[*container];
    if (is_dict ? !pickle_is_dict(to) : to->kind != PICKLE_LIST)
        return fail(m->err, KVERN_FORMAT, "items are put into what is no %s",
                    is_dict ? "dict" : "list");
    if (is_dict && n % 2 != 0)
        return fail(m->err, KVERN_FORMAT, "a dict is given a key without a value");
    for (size_t i = 0; i < n && status == KVERN_OK; i++) {
        enum pickle_kind kind = m->pickle->values[values[i]].kind;

        if (is_dict && i % 2 == 0 && kind != PICKLE_STRING && kind != PICKLE_INT)
            return fail(m->err, KVERN_UNSUPPORTED, "a dict has a key that is no string or integer");
        status = add_item(m, *container, values[i]);
    }
    return status;
}

static kvern_status run_append(struct machine *m, unsigned argument)
{
    return add_items(m, argument, false);
}

static kvern_status run_set_item(struct machine *m, unsigned argument)
{
    return add_items(m, argument, true);
}

static kvern_status push_name(struct machine *m, struct pickle_text module, struct pickle_text name)
{
    struct pickle_value value = {.kind = PICKLE_NAME};
    enum pickle_name found;
    kvern_status status = pickle_find_name(module, name, &found, m->err);

    value.integer = found;
    return status == KVERN_OK ? push(m, value) : status;
}

static kvern_status take_line(struct machine *m, struct pickle_text *line)
{
    const uint8_t *begin = m->data + m->at;
    const uint8_t *end = memchr(begin, '\n', m->n_bytes - m->at);

    if (!end)
        return fail(m->err, KVERN_FORMAT, "the pickle ends inside a name");
    *line = (struct pickle_text){(const char *)begin, (size_t)(end - begin)};
    m->at += line->n_bytes + 1;
    return KVERN_OK;
}

static kvern_status run_global(struct machine *m, unsigned argument)
{
    struct pickle_text module, name;
    kvern_status status = take_line(m, &module);

    (void)argument;
    if (status == KVERN_OK)
        status = take_line(m, &name);
    return status == KVERN_OK ? push_name(m, module, name) : status;
}

static kvern_status run_stack_global(struct machine *m, unsigned argument)
{
    const uint32_t *values = NULL;
    kvern_status status = pop(m, argument, &values);

    if (status != KVERN_OK)
        return status;
    const struct pickle_value *module = &m->pickle->values[values[0]];
    const struct pickle_value *name = &m->pickle->values[values[1]];
    if (module->kind != PICKLE_STRING || name->kind != PICKLE_STRING)
        return fail(m->err, KVERN_FORMAT, "a name is asked for by what is no string");
    return push_name(m, (struct pickle_text){module->text, module->n},
                     (struct pickle_text){name->text, name->n});
}

static kvern_status run_reduce(struct machine *m, unsigned argument)
{
    const uint32_t *values = NULL;
    uint32_t result;
    kvern_status status = pop(m, argument, &values);

    if (status == KVERN_OK)
        status = pickle_call(m->pickle, values[0], values[1], &result, m->err);
    return status == KVERN_OK ? push_index(m, result) : status;
}

static kvern_status run_build(struct machine *m, unsigned argument)
{
    const uint32_t *values = NULL;
    kvern_status status = pop(m, argument, &values);

    if (status == KVERN_OK)
        status = pickle_build(m->pickle, values[0], values[1], m->err);
    return status == KVERN_OK ? push_index(m, values[0]) : status;
}

static kvern_status run_persistent_id(struct machine *m, unsigned argument)
{
    const uint32_t *id = NULL;
    uint32_t result;
    kvern_status status = pop(m, argument, &id);

    if (status == KVERN_OK)
        status = pickle_load_storage(m->pickle, *id, &result, m->err);
    return status == KVERN_OK ? push_index(m, result) : status;
}

static const struct opcode {
    kvern_status (*run)(struct machine *m, unsigned argument);
    unsigned argument;
} opcodes[256] = {
    [PROTOCOL] = {run_protocol, 0},
    [0x95] = {run_frame, 8},
    [STOP] = {run_stop, 0},
    ['('] = {run_mark, 0},
    ['N'] = {run_empty, PICKLE_NONE},
    ['}'] = {run_empty, PICKLE_DICT},
    [']'] = {run_empty, PICKLE_LIST},
    [')'] = {run_empty, PICKLE_TUPLE},
    [0x88] = {run_bool, 1},
    [0x89] = {run_bool, 0},
    ['K'] = {run_unsigned, 1},
    ['M'] = {run_unsigned, 2},
    ['J'] = {run_int32, 4},
    [0x8a] = {run_long, 1},
    ['G'] = {run_float, 8},
    ['X'] = {run_string, 4},
    [0x8c] = {run_string, 1},
    [0x8d] = {run_string, 8},
    ['q'] = {run_put, 1},
    ['r'] = {run_put, 4},
    [0x94] = {run_memoize, 0},
    ['h'] = {run_get, 1},
    ['j'] = {run_get, 4},
    ['t'] = {run_tuple, 0},
    [0x85] = {run_tuple, 1},
    [0x86] = {run_tuple, 2},
    [0x87] = {run_tuple, 3},
    ['a'] = {run_append, 1},
    ['e'] = {run_append, 0},
    ['s'] = {run_set_item, 2},
    ['u'] = {run_set_item, 0},
    ['c'] = {run_global, 0},
    [0x93] = {run_stack_global, 2},
    ['R'] = {run_reduce, 2},
    ['b'] = {run_build, 2},
    ['Q'] = {run_persistent_id, 1},
};

static kvern_status run(struct machine *m)
{
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && !m->has_stopped) {
        const uint8_t *code = NULL;

        m->opcode_at = m->at;
        status = take(m, 1, &code);
        if (status != KVERN_OK)
            break;
        if (m->opcode_at == 0 && *code != PROTOCOL)
            status = fail(m->err, KVERN_FORMAT, "this is no pickle of protocol 2 or later");
        else if (!opcodes[*code].run)
            status = fail(m->err, KVERN_UNSUPPORTED,
                          "opcode 0x%02x is none that a file of tensors needs", *code);
        else
            status = opcodes[*code].run(m, opcodes[*code].argument);
    }
    if (status != KVERN_OK)
        fail_in(m->err, status, "pickle, byte %zu", m->opcode_at);
    return status;
}

kvern_status pickle_parse(struct pickle *out, const uint8_t *data, size_t n_bytes, kvern_error *err)
{
    struct machine m = {.pickle = out, .data = data, .n_bytes = n_bytes, .err = err};
    kvern_status status;

    *out = (struct pickle){0};
    if (n_bytes > PICKLE_MAX_BYTES)
        return fail(err, KVERN_LIMIT, "a pickle of %zu bytes is over the limit of %d", n_bytes,
                    PICKLE_MAX_BYTES);
    status = run(&m);
    free(m.stack);
    free(m.memo);
    if (status != KVERN_OK)
        pickle_clear(out);
    return status;
}

void pickle_clear(struct pickle *pickle)
{
    free(pickle->values);
    free(pickle->items);
    free(pickle->storages);
    free(pickle->tensors);
    *pickle = (struct pickle){0};
}

bool pickle_is_dict(const struct pickle_value *value)
{
    return value->kind == PICKLE_DICT || value->kind == PICKLE_ORDERED_DICT;
}

bool pickle_is_text(const struct pickle_value *value, const char *text)
{
    return value->kind == PICKLE_STRING && value->n == strlen(text) &&
           memcmp(value->text, text, value->n) == 0;
}
